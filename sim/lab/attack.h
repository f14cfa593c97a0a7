/* sim/lab/attack.h - adversaries as code.
 *
 * An attack says what the adversary holds (`knows`), what it wants, and what stands in its way. Its
 * function plays the adversary against the real code with exactly that knowledge and returns
 * whether the goal was reached, with the proof of it as a sentence. Where it was not, the same
 * function is run again with `control` set: then it takes `protection` away and must succeed, or
 * the attack is wrong. What `nobody` names cannot be resisted by any scheme, for the reason given
 * there.
 */
#ifndef AMI_SIM_LAB_ATTACK_H
#define AMI_SIM_LAB_ATTACK_H

#include "channel/credential.h"
#include "sim/lab/arena.h"

/* What an attack runs against. */
enum attack_on {
    ON_SCHEME,      /* each scheme of key agreement, and what stands on it */
    ON_CHANNEL,     /* the secure channel between nodes, whatever its credentials are */
    ON_CREDENTIALS, /* the channel under each kind of credential */
};

/* One of those that an attack runs against. */
struct attack_subject {
    const char *name;            /* of the scheme, of the kind; "any" */
    const struct scheme *scheme; /* NULL: the channel */
    enum credential_kind kind;   /* the channel's; for ON_CHANNEL an implicit one is taken */
};

/* What an attack on a scheme is about: a row of table2. The first six are those of the paper's
 * Table 2. */
enum attack_row {
    ROW_REPLAY,
    ROW_IMPERSONATION,
    ROW_MITM,
    ROW_DESYNC,
    ROW_SPOF,
    ROW_COLLUSION,
    ROW_SECRECY,
    ROW_LEAK,
    ROW_COMPROMISE,
    ROW_KEY_SHARE,
    ROW_POINTS,
    ROW_DC_LIES,
    ROW_LEDGER,
    ROW_READINGS,
    ROW_FLOOD,
    ROW_COUNT
};

struct attack_context {
    const struct scheme *scheme; /* the one that is attacked: the real one, also in a control */
    enum credential_kind kind;   /* or the channel's */
    int which;                   /* the attack's own */
    uint64_t seed;
    bool control;
    bool no_control;        /* set by the attack: this scheme has no weakened form */
    enum ami_status failed; /* set by the attack: this machine did not let it run (a disk) */
    char evidence[512];
};

struct attack {
    const char *name;
    enum attack_on on;
    enum attack_row row;    /* ON_SCHEME */
    const char *knows;      /* what the adversary holds */
    const char *goal;       /* what counts as broken */
    const char *protection; /* what is taken away in the control */
    const char *nobody;     /* why no scheme can resist; NULL: it can be resisted */
    bool (*run)(struct attack_context *c);
    int which; /* where one function plays several attacks */
};

/* The scheme to attack: the real one or, in a control, its weakened form without these
 * (enum lab_without). NULL, with c->no_control: there is none. */
const struct scheme *attack_scheme(struct attack_context *c, unsigned without);

/* The proof of what was reached, or of what it failed on; the last one counts. Returns `broken`. */
bool attack_says(struct attack_context *c, bool broken, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* It could not run: the sentence says why. Returns false. */
bool attack_fails(struct attack_context *c, enum ami_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Hex of at most 32 bytes, in one of four buffers in turn. */
const char *attack_hex(const void *bytes, size_t size);

/* All of them, subject by subject; each ends with a NULL name. */
extern const struct attack attacks_replay[], attacks_impersonation[], attacks_middle[],
    attacks_leak[], attacks_points[], attacks_session[], attacks_ledger[], attacks_disk[],
    attacks_links[], attacks_network[], attacks_handshake[], attacks_records[];

struct lab_options;
struct lab_output;

/* attacks.c: in order; NULL behind the last. */
const struct attack *attack_at(size_t index);
/* The next one that this attack runs against, beginning with a zeroed one; false behind the last.
 * Of o->scheme alone where there is one: the channel has no scheme. */
bool attack_subject_next(struct attack_subject *s, const struct lab_options *o,
                         const struct attack *attack);
/* One against one subject, with its control where that resists. */
struct attack_outcome {
    enum ami_status failed; /* it could not run; evidence says why */
    bool broken;
    enum { CONTROL_NOT_NEEDED, CONTROL_SUCCEEDS, CONTROL_FAILS, CONTROL_MISSING } control;
    char evidence[512];
    char control_evidence[512];
    uint64_t cpu_ns; /* with the control */
};
/* Kept until the process ends, so that one experiment can stand on what another has run. */
const struct attack_outcome *attack_outcome(const struct attack *attack,
                                            const struct attack_subject *subject, uint64_t seed);

/* Of one that could not run: why. */
const char *attack_why(const struct attack_outcome *r);

/* Says in the output what is wrong with an outcome: a control that fails, a feat that nobody can do
 * and that was resisted. */
void attack_judge(struct lab_output *out, const struct attack *a, const struct attack_subject *s,
                  const struct attack_outcome *r);

#endif
