#include "sim/plan.h"

#include "keyagree/scheme.h"
#include "sim/world.h"

#include <string.h>

#define SIM_NAME(NAME, name, what) name,
static const char *const fault_names[] = {SIM_FAULTS(SIM_NAME)};
static const char *const mischief_names[] = {SIM_MISCHIEFS(SIM_NAME)};
static const char *const rare_names[] = {SIM_RARES(SIM_NAME)};
static const char *const change_names[] = {SIM_CHANGES(SIM_NAME)};

const char *sim_fault_name(enum sim_fault f)
{
    return fault_names[f];
}

const char *sim_mischief_name(enum sim_mischief_kind m)
{
    return mischief_names[m];
}

const char *sim_rare_name(enum sim_rare r)
{
    return rare_names[r];
}

const char *sim_change_name(enum sim_change c)
{
    return change_names[c];
}

void sim_plan_calm(struct sim_plan *p, uint64_t seed)
{
    *p = (struct sim_plan){.seed = seed,
                           .dcs = 4,
                           .fleets = 2,
                           .meters = 6,
                           .scheme = SCHEME_DEFAULT,
                           .gateway = GATEWAY_LEADER,
                           .report_every_us = SIM_SECOND,
                           .safety_us = 20 * SIM_SECOND,
                           .liveness_us = 300 * SIM_SECOND,
                           .delay_mean_us = SIM_MS,
                           .disk_mean_us = SIM_MS,
                           .work_mean_us = 300,
                           .down_mean_us = SIM_SECOND,
                           .cut_mean_us = 2 * SIM_SECOND,
                           .pause_mean_us = SIM_SECOND,
                           .faults_max = UINT64_MAX};
}

void sim_plan_elections(struct sim_plan *p, uint64_t seed)
{
    unsigned dcs = p->dcs == 0 ? 4 : p->dcs;
    sim_plan_calm(p, seed);
    p->dcs = dcs;
    p->byzantine = members_f(dcs);
    p->mischief[SIM_MISCHIEF_SILENT] = 1000000;
    p->safety_us = 120 * SIM_SECOND;
    p->delay_mean_us = 20 * SIM_MS;
    p->fault_every_us = 12 * SIM_SECOND;
    p->cut_mean_us = 2 * SIM_SECOND;
    p->weight[SIM_FAULT_BLACKOUT] = 1;
}

/* Each kind is in a run or not, and as often as it is drawn: a fault that is always there hides
 * what others would show. */
static void draw_faults(struct sim_plan *p, struct sim_random *r)
{
    for (int k = 0; k < SIM_FAULT_KINDS; k++)
        if (sim_random_chance(r, 500000))
            p->weight[k] = (uint32_t)sim_random_between(r, 1, 100);
    if (p->weight[SIM_FAULT_LOSS] != 0)
        p->loss_ppm = (uint32_t)sim_random_below(r, 300001);
    if (p->weight[SIM_FAULT_REPEAT] != 0)
        p->repeat_ppm = (uint32_t)sim_random_below(r, 200001);
    if (p->weight[SIM_FAULT_CRASH_WRITE] != 0)
        p->crash_write_ppm = (uint32_t)sim_random_below(r, 20001);
    if (p->weight[SIM_FAULT_STRIKE] != 0)
        p->strike_ppm = (uint32_t)sim_random_below(r, 20001);
    p->fault_every_us = sim_random_between(r, 200 * SIM_MS, 4 * SIM_SECOND);
    p->down_mean_us = sim_random_between(r, 50 * SIM_MS, 4 * SIM_SECOND);
    p->cut_mean_us = sim_random_between(r, 100 * SIM_MS, 6 * SIM_SECOND);
    p->pause_mean_us = sim_random_between(r, 50 * SIM_MS, 4 * SIM_SECOND);
}

/* What came to the simulator later has a stream of its own, so that a seed draws the rest as ever.
 */
static void draw_changes(struct sim_plan *p)
{
    struct sim_random r = sim_random_stream(p->seed, SIM_STREAM_PLAN, 2);
    if (!sim_random_chance(&r, 400000))
        return;
    p->spares = (unsigned)sim_random_below(&r, 3);
    p->spare_lies = sim_random_chance(&r, 250000);
    p->change_every_us = sim_random_between(&r, SIM_SECOND, 6 * SIM_SECOND);
    p->early_ppm = sim_random_chance(&r, 400000) ? 700000 : 0;
    p->struck_ppm = sim_random_chance(&r, 400000) ? 500000 : 0;
    for (int k = 0; k < SIM_CHANGE_KINDS; k++)
        if (sim_random_chance(&r, 600000))
            p->change_weight[k] = (uint32_t)sim_random_between(&r, 1, 100);
}

/* Only blocks far below the tip may be pruned: some runs last long enough to have such blocks. */
static void draw_length(struct sim_plan *p)
{
    struct sim_random r = sim_random_stream(p->seed, SIM_STREAM_PLAN, 4);
    if (p->change_weight[SIM_CHANGE_RETAIN] == 0 || !sim_random_chance(&r, 100000))
        return;
    p->change_weight[SIM_CHANGE_RETAIN] = 200;
    p->safety_us = 60 * SIM_SECOND;
    p->report_every_us = sim_random_between(&r, 100 * SIM_MS, 300 * SIM_MS);
    p->delay_mean_us = sim_random_between(&r, SIM_MS, 10 * SIM_MS);
    p->fault_every_us *= 3;
    p->weight[SIM_FAULT_LOST_DISK] += 30; /* who begins anew is handed pruned blocks */
}

/* Some runs make a long chain, of large blocks or small ones, over links that lose much, and cut
 * DCs off for long: who comes back has hundreds of blocks to fetch. */
static void draw_bulk(struct sim_plan *p)
{
    struct sim_random r = sim_random_stream(p->seed, SIM_STREAM_PLAN, 5);
    if (!sim_random_chance(&r, 15000) || p->safety_us > 20 * SIM_SECOND)
        return;
    if (sim_random_chance(&r, 500000)) {
        p->readings_per_report = SIM_READINGS_MAX;
        p->block_txs_max = 512;
    }
    p->fleets = 3;
    p->meters = 9;
    p->report_every_us = sim_random_between(&r, 50 * SIM_MS, 200 * SIM_MS);
    p->delay_mean_us = sim_random_between(&r, SIM_MS, 20 * SIM_MS);
    p->safety_us = 40 * SIM_SECOND;
    p->cut_mean_us = sim_random_between(&r, 5 * SIM_SECOND, 15 * SIM_SECOND);
    p->fault_every_us = sim_random_between(&r, SIM_SECOND, 8 * SIM_SECOND);
    p->loss_ppm = (uint32_t)sim_random_between(&r, 100000, 300000);
    p->weight[SIM_FAULT_LOSS] += 1;
    p->weight[SIM_FAULT_ISOLATE] += 100;
    p->weight[SIM_FAULT_LOST_DISK] += 20;
}

static void draw_mischief(struct sim_plan *p, struct sim_random *r)
{
    struct sim_random late = sim_random_stream(p->seed, SIM_STREAM_PLAN, 3);
    if (p->byzantine == 0 && p->spare_lies)
        *r = late;
    if (p->byzantine == 0 && !p->spare_lies)
        return;
    for (int k = SIM_MISCHIEF_SHOW_OTHER_M; k < SIM_MISCHIEF_KINDS; k++)
        if (sim_random_chance(&late, 250000))
            p->mischief[k] = (uint32_t)sim_random_between(&late, 10000, 1000000);
    for (int k = 0; k < SIM_MISCHIEF_SHOW_OTHER_M; k++)
        if (sim_random_chance(r, 250000))
            p->mischief[k] = (uint32_t)sim_random_between(r, 10000, 1000000);
    /* Silence leaves nothing of the rest to see, and so does a second copy of most of it. */
    if (p->mischief[SIM_MISCHIEF_SILENT] != 0 && sim_random_chance(r, 500000))
        p->mischief[SIM_MISCHIEF_SILENT] = 0;
}

void sim_plan_draw(struct sim_plan *p, uint64_t seed)
{
    static const unsigned sizes[] = {4, 4, 4, 5, 7, 10};
    unsigned dcs = p->dcs, byzantine = p->byzantine;
    struct sim_random r = sim_random_stream(seed, SIM_STREAM_PLAN, 0);
    sim_plan_calm(p, seed);
    p->dcs = sizes[sim_random_below(&r, sizeof sizes / sizeof sizes[0])];
    if (dcs != 0)
        p->dcs = dcs;
    p->byzantine = (unsigned)sim_random_below(&r, members_f(p->dcs) + 1);
    if (byzantine != SIM_PLAN_ANY)
        p->byzantine = byzantine;
    p->fleets = (unsigned)sim_random_between(&r, 1, 3);
    p->meters = p->fleets * (unsigned)sim_random_between(&r, 1, 3);
    p->gateway = sim_random_chance(&r, 300000) ? GATEWAY_HOME : GATEWAY_LEADER;
    p->scheme = sim_random_chance(&r, 200000) ? SCHEME_LIU2023 : SCHEME_SM2KX;
    p->report_every_us = sim_random_between(&r, 100 * SIM_MS, 2 * SIM_SECOND);
    p->delay_mean_us = sim_random_between(&r, SIM_MS, 60 * SIM_MS);
    p->disk_mean_us = sim_random_between(&r, 100, 10 * SIM_MS);
    if (sim_random_chance(&r, 200000))
        p->linger_us = 15 * SIM_SECOND;
    draw_faults(p, &r);
    draw_changes(p);
    /* Where a lost record comes back with a rotated key, disks are lost more often. */
    if (p->change_weight[SIM_CHANGE_ROTATE_LOST] != 0)
        p->weight[SIM_FAULT_LOST_DISK] *= 3;
    draw_mischief(p, &r);
    draw_length(p);
    draw_bulk(p);
}
