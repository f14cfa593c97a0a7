/* sim/lab/pair.h - the first meter and DC of an arena, and an agreement between them step by step:
 * what tables of cost are measured on.
 *
 * Each step is the scheme's own function and nothing around it. All of them abort when a scheme
 * refuses its own flights: that is a bug, not a result.
 */
#ifndef AMI_SIM_LAB_PAIR_H
#define AMI_SIM_LAB_PAIR_H

#include "sim/lab/arena.h"

#define LAB_PAIR_BATCH 32 /* agreements that a DC answers at once, in lab_pair_flight2_batch */

struct lab_pair {
    struct arena *arena;
    const struct scheme *scheme;
    const struct agree_key *dc, *meter;

    struct agree_state state; /* of the agreement under way */
    struct agree_request request[LAB_PAIR_BATCH];
    struct agree_answer answer[LAB_PAIR_BATCH];
    struct agree_result result;
};

struct lab_pair *lab_pair_new(const struct scheme *scheme, uint64_t seed);
void lab_pair_free(struct lab_pair *p);

/* The steps of one agreement, in order. Each is all that its side computes in that step. */
void lab_pair_flight1(struct lab_pair *p); /* meter */
void lab_pair_flight2(struct lab_pair *p); /* DC */
void lab_pair_flight3(struct lab_pair *p); /* meter */
void lab_pair_confirm(struct lab_pair *p); /* DC */
/* All four. */
void lab_pair_agree(struct lab_pair *p);
/* The DC's flight 2 for LAB_PAIR_BATCH meters at once (all are this meter). */
void lab_pair_flight2_batch(struct lab_pair *p);

#endif
