/* net/trust.h - which credentials a program takes, and its own, from files.
 *
 * Implicit certificates need no file: the network's keys are their anchor. With roots, X.509 ones
 * are taken as well, with a public seed set CFL ones; with an own chain or certificate, a program
 * shows that instead of its implicit one. struct trust_watch is all of it for a program that runs
 * for long: what changes on the disk is read again, and what runs out is warned of.
 */
#ifndef AMI_NET_TRUST_H
#define AMI_NET_TRUST_H

#include <time.h>

#include "channel/cfl.h"
#include "channel/channel.h"
#include "channel/x509.h"
#include "net/logline.h"
#include "net/why.h"

/* Of the command line; NULL: not given. */
#define TRUST_NO_CRLS "none"
struct trust_files {
    const char *roots, *crls; /* PEM; roots without lists only when these are TRUST_NO_CRLS */
    /* Authorities (PEM) under the roots that may make operators, and the highest label that they
     * may give. Without both no operator is believed under an X.509 certificate. */
    const char *operators, *operators_label;
    const char *cfl_public; /* as `ami-mdms operator` and `ami-mdms credential` write it */
    /* The own credential: PEM, the key without a passphrase; or a CFL certificate over the key that
     * the program has. */
    const char *key, *chain, *cfl_certificate;
};

struct trust {
    struct credential_trust trust; /* for channels */
    struct x509_trust *x509;       /* NULL: none */
    struct cfl_public *cfl;        /* NULL: none */
};

/* `net` is borrowed. AMI_BAD_ARGUMENT: roots or lists without the other; what is wrong with a file,
 * in `why`. */
enum ami_status trust_load(struct trust *out, const struct network *net,
                           const struct trust_files *files, struct why *why) AMI_MUST_CHECK;
void trust_end(struct trust *t);

/* When the files were changed last. */
struct trust_times {
    struct timespec roots, crls, operators, cfl_public;
};
/* Notes the files' times; whether one is another than noted. */
bool trust_changed(struct trust_times *times, const struct trust_files *files);
/* As trust_load, in place of what is there; that stays on failure, and `revoked` in any case. */
enum ami_status trust_reload(struct trust *t, const struct network *net,
                             const struct trust_files *files, struct why *why) AMI_MUST_CHECK;
/* When the first of the X.509 roots and lists runs out, and how many seconds that is from now_s;
 * INT64_MAX: nothing does. */
int64_t trust_until_s(const struct trust *t);
int64_t trust_left_s(const struct trust *t, int64_t now_s);

/* --- the program's own ------------------------------------------------------------------------ */

/* Whom the files' credential has to be of. */
struct trust_owner {
    enum credential_role role;
    struct ami_id name;
    uint32_t epoch; /* of the key below; 0: it has none */
    /* The key that the program has without any file. A CFL certificate is over it, and an X.509
     * chain when no key file is named. NULL: none. */
    const sm2_private *key;
};

bool trust_own_named(const struct trust_files *files);
/* The credential that the files name; one of trust_own_named. `out` stays as it is on failure. `t`
 * says whether its public seed set vouches for a CFL certificate, where it has one; NULL: that is
 * for others to find. AMI_BAD_ARGUMENT: files that do not belong together; AMI_FOREIGN_KEY:
 * somebody else's; AMI_BAD_CRYPTO: another key's; AMI_WRONG_CHAIN: another network's, or not of the
 * seed set's issuer. */
enum ami_status trust_own(struct credential *out, const struct network *net,
                          const struct trust_files *files, const struct trust_owner *owner,
                          const struct trust *t, struct why *why) AMI_MUST_CHECK;

/* --- for a program that runs for long --------------------------------------------------------- */

#define TRUST_WARN_US  (24ull * 3600u * 1000000u) /* how often a warning is repeated */
#define TRUST_JUDGE_US (30u * 1000000u) /* how often dates are held against links that are open */

struct trust_watch {
    /* Set by the owner; all outlive it. */
    const struct network *net;
    const struct trust_files *files;
    struct log_sink *log;
    const struct credential *own; /* what this program shows; its contents may change */
    /* Makes *own, once what is trusted is known and whenever a file of it has changed. NULL: it is
     * there, and does not change. */
    enum ami_status (*renew)(void *ctx, struct why *why);
    void *ctx;
    /* Its own. */
    struct trust trust; /* links use trust.trust, which stays where it is */
    struct trust_times times;
    struct timespec own_times[3];
    uint64_t warned_us, judged_us;
};

/* Reads what is trusted and warns of what runs out. As trust_load; `revoked` of w->trust.trust may
 * be set before. */
enum ami_status trust_watch_start(struct trust_watch *w, uint64_t mono_us, int64_t wall_ms,
                                  struct why *why) AMI_MUST_CHECK;
void trust_watch_end(struct trust_watch *w);
/* Reads what has changed, the own credential too, and repeats warnings that are due. What cannot be
 * read changes nothing and is logged. To be called every few seconds. True: links that are open are
 * to be judged again (link_judge), because others are trusted now than before, or the time has come
 * to look for those that have run out. */
bool trust_watch_look(struct trust_watch *w, uint64_t mono_us, int64_t wall_ms) AMI_MUST_CHECK;

#endif
