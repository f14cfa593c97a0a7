/* tests/keyagree/support.h - a small network to agree in: an MDMS, two DCs, a few meters.
 *
 * Keys come from a seeded generator, so that every run is the same; issuance goes through the
 * scheme's own functions, as enrolment does. Tests and fuzz targets share it, so it uses nothing of
 * cmocka: what goes wrong here aborts.
 */
#ifndef AMI_TESTS_KEYAGREE_SUPPORT_H
#define AMI_TESTS_KEYAGREE_SUPPORT_H

#include "keyagree/enrol.h"
#include "keyagree/keyfile.h"
#include "keyagree/scheme.h"
#include "keyagree/session.h"

#define WORLD_METERS 3
#define WORLD_DCS    2

struct world {
    const struct scheme *scheme;
    struct mdms_keys mdms;
    struct point_table *table;
    sm3_digest chain;
    struct agree_key dc[WORLD_DCS];
    struct agree_part dc_part[WORLD_DCS];
    struct agree_key meter[WORLD_METERS];
    struct agree_part meter_part[WORLD_METERS];
    struct agree_peer peer[WORLD_METERS];
    uint64_t drawn;
};

/* Made once per scheme and kept until worlds_stop, which ends a group of tests. */
struct world *world_of(const struct scheme *scheme);
int worlds_stop(void **state);

/* 48 bytes that no earlier call gave. */
const uint8_t *world_random(struct world *w);
void world_draw(struct world *w, void *out, size_t size);

/* Another network with the same scheme and other keys. */
void world_foreign(struct mdms_keys *out, struct world *w);

/* C17 does not let an array of arrays become const by itself. */
#define WIDE(array) ((const uint8_t(*)[SM2_WIDE_BYTES])(array))

struct ami_id name_of(const char *text);

/* A key of this role under the world's MDMS; asserts that all goes well. */
void world_issue(struct world *w, const struct mdms_keys *mdms, struct agree_key *key,
                 struct agree_part *part, enum key_role role, const char *name, uint32_t epoch,
                 struct span home);

/* Flight 1 of meter i, fresh. */
void world_start(struct world *w, unsigned meter, struct agree_state *state);
/* The DC's answer to it. */
void world_answer(struct world *w, unsigned meter, unsigned dc, const struct agree_flight1 *f1,
                  uint64_t term, uint64_t session, struct agree_terms *terms,
                  struct agree_answer *answer);
/* A whole good agreement. */
void world_agree(struct world *w, unsigned meter, unsigned dc, struct agree_result *result,
                 struct agree_pending *pending);

#endif
