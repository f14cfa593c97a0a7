/* sim/lab/arena.h - a small network to attack a key agreement in, or to measure one in (pair.h): an
 * MDMS, two DCs, three meters.
 *
 * All keys come from the scheme's own issuance, all flights from the scheme's own functions through
 * keyagree/scheme.h; chance comes from the arena's stream. What an adversary sees of a run is on
 * its `tape`; what a theft gives it is taken out of the arena by the attack that says so.
 */
#ifndef AMI_SIM_LAB_ARENA_H
#define AMI_SIM_LAB_ARENA_H

#include "keyagree/keyfile.h"
#include "keyagree/session.h"
#include "sim/lab/schemes.h"
#include "sim/random.h"

#define ARENA_METERS 3
#define ARENA_DCS    2

struct arena {
    const struct scheme *scheme;
    struct mdms_keys mdms;
    struct point_table *p_pub;
    sm3_digest chain;
    struct agree_key dc[ARENA_DCS];
    struct agree_part dc_part[ARENA_DCS];
    struct agree_key meter[ARENA_METERS]; /* all at home at DC 0 */
    struct agree_part meter_part[ARENA_METERS];
    struct agree_secret meter_reply[ARENA_METERS]; /* the MDMS's secret reply to each */
    struct agree_peer peer[ARENA_METERS];
    struct sim_random random;
};

struct arena *arena_new(const struct scheme *scheme, uint64_t seed);
/* The same with another stream of chance and another beginning of the meters' names than "meter-".
 */
struct arena *arena_make(const struct scheme *scheme, struct sim_random random,
                         const char *meter_prefix);
void arena_free(struct arena *a);
void arena_random(struct arena *a, void *out, size_t size);

/* A key of this role and name from the MDMS, as enrolment issues it. `reply` may be NULL. */
void arena_issue(struct arena *a, struct agree_key *key, struct agree_part *part,
                 struct agree_secret *reply, enum key_role role, const char *name,
                 struct span home);

/* --- one agreement, step by step ------------------------------------------------------------- */

/* Everything of one run: what travelled, and what each side held. */
struct arena_run {
    unsigned meter, dc;
    uint8_t meter_random[SM2_WIDE_BYTES], dc_random[SM2_WIDE_BYTES];
    struct agree_state state;   /* the meter's, also after flight 2: its ephemeral secret */
    struct agree_terms terms;   /* as the DC sees them */
    struct agree_answer answer; /* the DC's */
    struct agree_result result; /* the meter's */
    /* The tape. */
    struct agree_flight1 f1; /* borrows from state */
    struct agree_flight2 f2; /* borrows from answer */
    struct agree_flight3 f3; /* borrows from result */
    uint8_t sealed[128];     /* the first message in the session: a reading */
    struct session_data message;
    char reading[32]; /* what is in it */
    struct session meter_session, dc_session;
};

/* Fresh chance for both sides, and flight 1. */
void arena_start(struct arena *a, struct arena_run *r, unsigned meter, unsigned dc);
/* The same with the chance that is in the run already. */
void arena_start_again(struct arena *a, struct arena_run *r);
/* The DC's answer to this flight 1, whoever sent it; `peer` is that meter's. */
void arena_answer(struct arena *a, struct arena_run *r, const struct agree_flight1 *f1,
                  const struct agree_peer *peer);
/* The meter's reaction to this flight 2; the state stays, for who steals it. */
enum ami_status arena_meter(struct arena *a, struct arena_run *r, const struct agree_flight2 *f2);
/* The DC's reaction to this flight 3. A weakened scheme may take any. */
enum ami_status arena_confirm(struct arena *a, const struct arena_run *r, struct span flight3);
/* A whole good run of the meter with the DC, sessions and first reading included. */
void arena_agree(struct arena *a, struct arena_run *r, unsigned meter, unsigned dc);
/* The meter's session begins with what it believes, and sends its first reading. */
void arena_send_reading(struct arena *a, struct arena_run *r);

/* --- what adversaries do --------------------------------------------------------------------- */

/* A made-up key: of this name, role and epoch, but never issued. */
void arena_made_up(struct arena *a, struct agree_key *out, const struct agree_key *like);
/* Opens a recorded reading of the meter with this K. False: K is not the one. */
bool arena_open(const uint8_t k[AGREE_KEY_BYTES], const struct agree_terms *terms,
                const struct session_data *message, char reading[32]);
/* The point that a scheme's part holds at this place; false: none stands there. */
bool arena_point_at(const uint8_t *flight, size_t size, size_t at);

#endif
