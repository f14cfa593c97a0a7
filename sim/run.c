#include "sim/run.h"

#include "base/check.h"

#include <string.h>

#define MEETING_US (20 * SIM_SECOND) /* for the two sides of a fork */

static bool all_beyond(const struct sim_world *w, uint64_t height)
{
    for (uint16_t i = 0; i < w->dcs; i++) {
        const struct sim_host *h = &w->host[i];
        if (sim_dc_counts(h) && (!sim_dc_runs(h) || sim_disk_height(h->as.dc->disk) <= height))
            return false;
    }
    return true;
}

static uint64_t greatest_height(const struct sim_world *w)
{
    uint64_t height = 0;
    for (uint16_t i = 0; i < w->dcs; i++)
        if (w->host[i].as.dc->honest && sim_disk_height(w->host[i].as.dc->disk) > height)
            height = sim_disk_height(w->host[i].as.dc->disk);
    return height;
}

static void stop_fleets(struct sim_world *w)
{
    for (uint16_t i = w->dcs; i < w->dcs + w->fleets; i++)
        w->host[i].as.fleet->stopped = true;
}

/* Once faults have stopped: first every healthy DC commits something new, then all that was made
 * gets where it belongs. */
static void recover(struct sim_world *w, struct sim_result *out)
{
    uint64_t since = w->now_us;
    for (uint16_t i = 0; i < w->host_count; i++)
        if (w->host[i].paused_until > since)
            since = w->host[i].paused_until;
    sim_world_run(w, since);
    uint64_t height = greatest_height(w), limit = since + w->plan.liveness_us;
    bool recovered = false, complete = false;
    while (w->violation[0] == 0 && w->now_us < limit && !complete) {
        sim_world_run(w, w->now_us + 100 * SIM_MS);
        if (!recovered && all_beyond(w, height)) {
            recovered = true;
            out->recovered_us = w->now_us - since;
            sim_tell(w, NULL, "every healthy DC commits again");
        }
        if (recovered && w->now_us >= since + out->recovered_us + w->plan.linger_us)
            stop_fleets(w);
        complete = recovered && w->host[w->dcs].as.fleet->stopped && sim_check_complete(w);
    }
    out->complete_us = w->now_us - since;
    if (!recovered)
        sim_violate(w, "liveness",
                    "not every healthy DC had a new block %llu s after the last fault",
                    (unsigned long long)(w->plan.liveness_us / SIM_SECOND));
    else if (!complete && !sim_changes_done(w))
        sim_violate(w, "changes",
                    "what the operator asked for has not come about %llu s after the last fault",
                    (unsigned long long)(w->plan.liveness_us / SIM_SECOND));
    else if (!complete)
        sim_violate(w, "liveness", "%llu of %llu reports acknowledged %llu s after the last fault",
                    (unsigned long long)w->count.reports_acknowledged,
                    (unsigned long long)w->count.reports_made,
                    (unsigned long long)(w->plan.liveness_us / SIM_SECOND));
}

/* Whom the two sides of a fork name, once they have met. */
static void name_the_guilty(struct sim_world *w)
{
    char names[160];
    size_t n = 0;
    sim_world_run(w, w->now_us + MEETING_US);
    unsigned count = (unsigned)__builtin_popcount(w->convicted);
    names[0] = 0;
    for (unsigned i = 0; i < w->names && n + 16 < sizeof names; i++)
        if ((w->convicted >> i & 1) != 0)
            n += (size_t)snprintf(names + n, sizeof names - n, "%sdc-%u", n == 0 ? "" : " ", i + 1);
    if (w->violation[0] == 0 && count < members_f(w->plan.dcs) + 1)
        sim_violate(w, "evidence", "after a fork only %u are named (%s), not %u", count, names,
                    members_f(w->plan.dcs) + 1);
    if (w->violation[0] == 0)
        snprintf(w->violation, sizeof w->violation, "%.180s; evidence: %.60s", w->fork, names);
}

void sim_run(struct sim_result *out, const struct sim_plan *plan, FILE *trace_to)
{
    memset(out, 0, sizeof *out);
    struct sim_world *w = sim_world_new(plan, trace_to);
    sim_world_run(w, plan->safety_us);
    if (w->violation[0] == 0) {
        sim_tell(w, NULL, "faults end");
        sim_faults_end(w);
        if (w->fork[0] != 0)
            name_the_guilty(w);
        else if (plan->liveness_us != 0 && plan->byzantine <= members_f(plan->dcs))
            recover(w, out);
    }
    if (w->violation[0] == 0 && plan->liveness_us != 0 && plan->byzantine <= members_f(plan->dcs))
        sim_check_end(w);
    memcpy(out->violation, w->violation, sizeof out->violation);
    out->trace = w->trace;
    out->end_us = w->now_us;
    out->count = w->count;
    out->faults_used = plan->faults_max - w->plan.faults_max;
    sim_world_free(w);
}
