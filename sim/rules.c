#include "sim/rules.h"

#include "consensus/replica.h"
#include "sim/world.h"

#include <string.h>

struct rule {
    struct sim_rule shown;
    uint32_t off; /* enum rule_off */
    enum {
        OFF_NOTHING,
        OFF_METER,
        OFF_ACK,
        OFF_RECORD,
        OFF_LIARS,
        OFF_LEAVE
    } off_here; /* what is no such bit */
    void (*shape)(struct sim_plan *p);
};

/* Every kind of fault that ends by itself, and often. */
static void rough(struct sim_plan *p)
{
    static const enum sim_fault kinds[] = {SIM_FAULT_LOSS,  SIM_FAULT_PARTITION, SIM_FAULT_ISOLATE,
                                           SIM_FAULT_CRASH, SIM_FAULT_ONE_WAY,   SIM_FAULT_PAUSE};
    struct sim_random r = sim_random_stream(p->seed, SIM_STREAM_PLAN, 1);
    memset(p->weight, 0, sizeof p->weight);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        p->weight[kinds[i]] = (uint32_t)sim_random_between(&r, 10, 100);
    p->loss_ppm = (uint32_t)sim_random_below(&r, 100001);
    p->crash_write_ppm = (uint32_t)sim_random_below(&r, 30001);
    p->strike_ppm = (uint32_t)sim_random_between(&r, 10000, 100000);
    p->fault_every_us = sim_random_between(&r, 200 * SIM_MS, 3 * SIM_SECOND);
    p->down_mean_us = sim_random_between(&r, 50 * SIM_MS, 2 * SIM_SECOND);
    p->cut_mean_us = sim_random_between(&r, 200 * SIM_MS, 4 * SIM_SECOND);
    p->report_every_us = sim_random_between(&r, 50 * SIM_MS, 300 * SIM_MS);
    p->byzantine = 0;
    memset(p->mischief, 0, sizeof p->mischief);
}

/* Short runs: without such a rule most end in a deadlock after the first change of leader, and the
 * fork happens at that change or never. */
static void forks(struct sim_plan *p)
{
    rough(p);
    p->fleets = 1;
    p->meters = 2;
    p->delay_mean_us = sim_random_between(&(struct sim_random){p->seed}, SIM_MS, 20 * SIM_MS);
    p->safety_us = 10 * SIM_SECOND;
    p->liveness_us = 0;
}

static void rough_at_4(struct sim_plan *p)
{
    p->dcs = 4;
    forks(p);
}

static void twins(struct sim_plan *p, unsigned dcs)
{
    p->dcs = dcs;
    forks(p);
    p->byzantine = members_f(dcs);
    p->mischief[SIM_MISCHIEF_TWIN] = 1000000;
}

/* One liar who leads with a plan, and a network that lets him. */
static void schemes(struct sim_plan *p, enum sim_mischief_kind kind)
{
    p->dcs = 4;
    forks(p);
    p->byzantine = 1;
    p->mischief[kind] = 700000;
    p->strike_ppm = 0;
    p->loss_ppm = p->repeat_ppm = 0;
    p->fault_every_us =
        sim_random_between(&(struct sim_random){p->seed}, SIM_SECOND, 6 * SIM_SECOND);
}

static void hoarder(struct sim_plan *p)
{
    schemes(p, SIM_MISCHIEF_HOARD);
}

static void two_faced(struct sim_plan *p)
{
    schemes(p, SIM_MISCHIEF_TWO_FACED);
}

static void twins_at_4(struct sim_plan *p)
{
    twins(p, 4);
}

static void one_too_many(struct sim_plan *p)
{
    twins(p, 4);
    p->byzantine = 2;
    /* Whichever way the network falls apart, both sides have meters to serve. */
    p->fleets = p->meters = 6;
    p->safety_us = 20 * SIM_SECOND;
    p->strike_ppm = p->crash_write_ppm = 0;
    memset(p->weight, 0, sizeof p->weight);
    p->weight[SIM_FAULT_PARTITION] = 1;
    p->fault_every_us = 4 * SIM_SECOND;
    p->cut_mean_us = 5 * SIM_SECOND;
}

static void twins_at_5(struct sim_plan *p)
{
    twins(p, 5);
}

static void forgetful(struct sim_plan *p)
{
    rough_at_4(p);
    p->down_mean_us = 400 * SIM_MS;
    p->weight[SIM_FAULT_POWER] = 300;
}

static void lost_disks(struct sim_plan *p)
{
    rough_at_4(p);
    p->down_mean_us = 400 * SIM_MS;
    p->weight[SIM_FAULT_LOST_DISK] = 200;
}

/* Many who all have to choose the same one, far from each other, and all at the same moment. */
static void crowd(struct sim_plan *p)
{
    p->dcs = 13;
    sim_plan_elections(p, p->seed);
    p->fleets = 1;
    p->meters = 2;
    p->safety_us = 20 * SIM_SECOND;
    p->fault_every_us = 7 * SIM_SECOND;
    p->delay_late = true;
    p->liveness_us = 30 * SIM_SECOND;
}

/* A liar asks for the next term all the time, and there is work to be disturbed. */
static void usurper(struct sim_plan *p)
{
    p->byzantine = members_f(p->dcs);
    memset(p->mischief, 0, sizeof p->mischief);
    p->mischief[SIM_MISCHIEF_TERM_STORM] = 1000000;
    p->safety_us = 5 * SIM_SECOND;
    p->linger_us = 20 * SIM_SECOND;
}

/* A liar that is always the first to ask, wins, and does nothing with it. */
static void spoiler(struct sim_plan *p)
{
    p->byzantine = members_f(p->dcs);
    memset(p->mischief, 0, sizeof p->mischief);
    p->mischief[SIM_MISCHIEF_TERM_STORM] = 1000000;
    p->mischief[SIM_MISCHIEF_HEARTBEAT_ONLY] = 1000000;
    p->weight[SIM_FAULT_BLACKOUT] = 200;
    p->safety_us = 5 * SIM_SECOND;
    p->liveness_us = 90 * SIM_SECOND;
}

static void censor(struct sim_plan *p)
{
    p->byzantine = members_f(p->dcs);
    memset(p->mischief, 0, sizeof p->mischief);
    p->mischief[SIM_MISCHIEF_HEARTBEAT_ONLY] = 1000000;
}

static void inventive(struct sim_plan *p)
{
    p->byzantine = members_f(p->dcs);
    memset(p->mischief, 0, sizeof p->mischief);
    p->mischief[SIM_MISCHIEF_INVENT] = 300000;
}

static void gullible(struct sim_plan *p)
{
    p->byzantine = members_f(p->dcs);
    memset(p->mischief, 0, sizeof p->mischief);
    p->mischief[SIM_MISCHIEF_FALSE_ACK] = 500000;
}

/* Epoch after epoch, and a liar that brings up the one before. */
static void relic(struct sim_plan *p)
{
    schemes(p, SIM_MISCHIEF_OLD_EPOCH);
    p->mischief[SIM_MISCHIEF_OLD_EPOCH] = 1000000;
    p->strike_ppm = 10000;
    p->change_every_us = SIM_SECOND;
    p->change_weight[SIM_CHANGE_ROTATE] = 1;
    p->change_pick = SIM_PICK_LAST; /* the others keep their places in the list */
    p->safety_us = 15 * SIM_SECOND;
}

/* Of five, one is silent, and who leads leaves. */
static void farewell(struct sim_plan *p)
{
    p->dcs = 5;
    rough(p);
    p->byzantine = 1;
    p->mischief[SIM_MISCHIEF_SILENT] = 1000000;
    memset(p->weight, 0, sizeof p->weight);
    p->weight[SIM_FAULT_ISOLATE] = 1;
    p->fault_every_us = 20 * SIM_SECOND;
    p->loss_ppm = p->repeat_ppm = p->strike_ppm = p->crash_write_ppm = 0;
    p->struck_ppm = 1000000;
    p->delay_mean_us = 20 * SIM_MS;
    p->change_every_us = 2 * SIM_SECOND;
    p->change_weight[SIM_CHANGE_LEAVE] = 1;
    p->change_weight[SIM_CHANGE_SWITCH_OFF] = 1;
    p->change_pick = SIM_PICK_LEADER;
    p->fleets = p->meters = 1;
    p->report_every_us = 500 * SIM_MS;
    p->safety_us = 8 * SIM_SECOND;
    p->liveness_us = 60 * SIM_SECOND;
    p->linger_us = 0;
}

static const struct rule rules[] = {
    {{"quorum", "agreement", "ceil((n+f+1)/2) votes make a quorum, 2f+1 here also at n = 5"},
     RULE_OFF_QUORUM,
     OFF_NOTHING,
     twins_at_5},
    {{"persist-votes", "agreement", "votes are on the disk before they leave"},
     RULE_OFF_PERSIST_VOTES,
     OFF_NOTHING,
     forgetful},
    {{"grant-high", "agreement", "grants carry the voter's highQC"},
     RULE_OFF_GRANT_HIGH,
     OFF_NOTHING,
     rough_at_4},
    {{"commit-term", "agreement", "commit votes only in the current term"},
     RULE_OFF_COMMIT_TERM,
     OFF_NOTHING,
     hoarder},
    {{"monotone", "agreement", "prepare votes only rise"},
     RULE_OFF_MONOTONE,
     OFF_NOTHING,
     two_faced},
    {{"parent", "agreement", "a block extends what rules 3 and 4 say, not any committed block"},
     RULE_OFF_PARENT,
     OFF_NOTHING,
     rough_at_4},
    {{"parent-commit", SIM_EXPECTS_NOTHING,
      "M's block is extended only with its commit certificate"},
     RULE_OFF_PARENT_COMMIT,
     OFF_NOTHING,
     twins_at_4},
    {{"bound", "agreement", "a leader's first proposal is bound to M"},
     RULE_OFF_BOUND,
     OFF_NOTHING,
     rough_at_4},
    {{"lost-record", "agreement", "a DC that lost its vote record signs nothing"},
     0,
     OFF_RECORD,
     lost_disks},
    {{"two-phases", "agreement", "a block needs prepare and commit votes (one: Algorithm 2)"},
     RULE_OFF_ONE_PHASE,
     OFF_NOTHING,
     rough_at_4},
    {{"f-liars", "agreement", "no more than f members lie (here f+1 do; evidence must name them)"},
     0,
     OFF_LIARS,
     one_too_many},
    {{"progress", "liveness", "a leader that commits nothing is deposed"},
     RULE_OFF_PROGRESS,
     OFF_NOTHING,
     censor},
    {{"bad-leaders", "liveness", "whoever led failed terms is passed over"},
     RULE_OFF_BAD_LEADERS,
     OFF_NOTHING,
     spoiler},
    {{"pre-vote", "stable", "nobody asks for a term while a leader is heard"},
     RULE_OFF_PREVOTE,
     OFF_NOTHING,
     usurper},
    {{"slots", "liveness", "candidates of a term ask one after another"},
     RULE_OFF_SLOTS,
     OFF_NOTHING,
     crowd},
    {{"vote-applied", SIM_EXPECTS_NOTHING, "a DC votes for a block that it has applied already"},
     RULE_OFF_VOTE_APPLIED,
     OFF_NOTHING,
     rough_at_4},
    {{"old-epoch", "agreement", "certificates of an earlier membership epoch count for nothing"},
     RULE_OFF_EPOCH,
     OFF_NOTHING,
     relic},
    {{"leave-late", "liveness", "a DC that left goes on until the next epoch has a block"},
     0,
     OFF_LEAVE,
     farewell},
    {{"meter-signature", "made-by-meter", "a report's meter has signed it"},
     0,
     OFF_METER,
     inventive},
    {{"ack-proof", "acknowledged", "an acknowledgement is believed with its proof only"},
     0,
     OFF_ACK,
     gullible},
};

/* A shape has the troubles in which its rule matters; the committee changes where it says so. */
static void calm_operator(struct sim_plan *p)
{
    p->spares = 0;
    p->spare_lies = false;
    p->change_every_us = 0;
    memset(p->change_weight, 0, sizeof p->change_weight);
    p->early_ppm = p->struck_ppm = 0;
    p->change_pick = SIM_PICK_ANY;
}

const struct sim_rule *sim_rule_at(size_t index)
{
    return index < sizeof rules / sizeof rules[0] ? &rules[index].shown : NULL;
}

const struct sim_rule *sim_rule_find(const char *name)
{
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
        if (strcmp(rules[i].shown.name, name) == 0)
            return &rules[i].shown;
    return NULL;
}

void sim_rule_on(const struct sim_rule *rule, struct sim_plan *p)
{
    const struct rule *r = (const struct rule *)(const void *)rule;
    calm_operator(p);
    r->shape(p);
    if (r->off_here == OFF_LIARS)
        p->byzantine = members_f(p->dcs);
}

void sim_rule_off(const struct sim_rule *rule, struct sim_plan *p)
{
    const struct rule *r = (const struct rule *)(const void *)rule;
    calm_operator(p);
    r->shape(p);
    p->rules_off |= r->off;
    p->leave_early |= r->off_here == OFF_LEAVE;
    p->meter_unchecked |= r->off_here == OFF_METER;
    p->ack_unchecked |= r->off_here == OFF_ACK;
    p->record_repaired |= r->off_here == OFF_RECORD;
}
