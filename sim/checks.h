/* sim/checks.h - what the files of the checks share.
 *
 *   checks.c         epochs, frames that leave, elections, evidence
 *   check_blocks.c   what is on disks: blocks, the changes in them
 *   check_reports.c  what meters believe, what the MDMS has, and the end of a run
 */
#ifndef AMI_SIM_CHECKS_H
#define AMI_SIM_CHECKS_H

#include "sim/world.h"

/* What an honest DC has shown the others in its newest epoch; it outlives restarts. */
struct shown {
    uint32_t epoch;
    struct vote vote[3];
    bool has_vote[3];
    uint64_t grant_term;
    uint64_t term;
};

/* A statement that was signed for a slot. */
struct slot_key {
    uint8_t number, what;
    uint16_t zero;
    uint32_t epoch; /* of the membership; of a report's key */
    uint64_t term, height;
};
struct slot {
    struct slot_key key;
    sm3_digest value;
    UT_hash_handle hh;
};

struct sim_checks {
    struct shown shown[SIM_DCS_MAX];
    struct slot *slots;
    struct sim_epoch **epoch; /* [epoch - 1] */
    uint32_t epochs;
    uint64_t committed; /* reports on the ledger */
    sm3_digest *agreed; /* by height - 1 */
    uint64_t agreed_count, agreed_capacity;
    /* The announcement that was found good last: it goes to all, one after the other. */
    size_t announced_size;
    uint8_t announced[4096];
    struct sim_meter **meter; /* by number in the cast */
};

/* With a rule off, what follows from it directly is not what is looked for. */
static inline bool judged(const struct sim_world *w)
{
    return w->plan.rules_off == 0 && !w->plan.record_repaired;
}

static inline unsigned long long ull(uint64_t v)
{
    return (unsigned long long)v;
}

/* One more epoch, all zero. */
struct sim_epoch *sim_checks_add_epoch(struct sim_checks *c);
/* Who its members are. */
void sim_checks_number(const struct sim_world *w, struct sim_epoch *e);
/* False: this report was committed before. */
bool sim_checks_slot_free(struct sim_checks *c, const struct tx_view *tx);

#endif
