/* sim/lab/scale_networks.c - many committees in one process, up to a thousand DCs.
 *
 * A committee has at most AMI_MEMBERS_MAX members, and a utility with more DCs has more committees,
 * one for each region. Nothing passes between them, so they take turns on one virtual time. */
#include "base/check.h"
#include "crypto/sm2.h"
#include "sim/lab/quantile.h"
#include "sim/lab/scale.h"
#include "sim/lab/service.h"

#include <stdlib.h>

#define NETWORKS_MAX 33
#define METERS       62 /* of each network: two for each of 31 DCs */
#define TURN_US      (100 * SIM_MS)
#define READY_US     (120 * SIM_SECOND)

static const struct networks_case {
    unsigned networks, dcs; /* members of each */
    uint32_t measured_s;    /* of virtual time */
    bool tiny, large;
} cases[] = {
    {1, 4, 2, true, false},   {2, 4, 2, true, false},   {1, 31, 5, false, false},
    {4, 31, 5, false, false}, {10, 31, 5, false, true}, {33, 31, 5, false, true},
};
#define CASES (sizeof cases / sizeof cases[0])

static const struct lab_column columns[] = {
    {.name = "networks", .title = "committees", .source = LAB_ASSUMED},
    {.name = "dcs", .title = "DCs in all", .source = LAB_ASSUMED},
    {.name = "meters", .title = "meters in all", .source = LAB_ASSUMED},
    {.name = "ready",
     .title = "until all meters are in session",
     .unit = "virtual s",
     .decimals = 1,
     .source = LAB_SIMULATED},
    {.name = "blocks",
     .title = "blocks committed",
     .unit = "per virtual s",
     .decimals = 1,
     .source = LAB_SIMULATED},
    {.name = "reports",
     .title = "reports acknowledged",
     .unit = "per virtual s",
     .decimals = 1,
     .source = LAB_SIMULATED},
    {.name = "latency",
     .title = "latency, median",
     .unit = "ms",
     .decimals = 0,
     .source = LAB_SIMULATED},
    {.name = "frames",
     .title = "frames between DCs",
     .unit = "per virtual s",
     .decimals = 0,
     .source = LAB_SIMULATED},
    {.name = "sent",
     .title = "sent between DCs",
     .unit = "MB per virtual s",
     .decimals = 2,
     .source = LAB_SIMULATED},
    {.name = "dc_time",
     .title = "processor of a DC",
     .unit = "ms per virtual s",
     .decimals = 2,
     .source = LAB_MEASURED,
     .clock = true},
    {.name = "times_real",
     .title = "times real time",
     .decimals = 2,
     .source = LAB_MEASURED,
     .clock = true},
    {.name = "sim_memory",
     .title = "memory of the whole simulation",
     .unit = "MB",
     .decimals = 0,
     .source = LAB_MEASURED,
     .clock = true},
    {.name = "sim_dc_memory",
     .title = "for each DC",
     .unit = "MB",
     .decimals = 2,
     .source = LAB_MEASURED,
     .clock = true},
    {0}};

#define TABLE .table = "networks", .x = "dcs", .x_log = true, .kind = LAB_LINES
const struct lab_figure scale_networks_figures[] = {
    {TABLE, .name = "networks_reports",
     .title = "Reports acknowledged, by number of DCs in all their committees (virtual)",
     .y = {"reports"}, .y_log = true},
    {TABLE, .name = "networks_memory",
     .title = "Memory of the whole simulation, by number of DCs in all their committees",
     .y = {"sim_memory"}, .y_log = true},
    {TABLE, .name = "networks_time",
     .title = "Virtual time for each second of one core, by number of DCs in all their committees",
     .y = {"times_real"}, .y_log = true},
    {0}};

struct lab_table *scale_networks_table(struct lab_output *out)
{
    return lab_table(out, "networks", "Many committees at once", columns);
}

static bool is_wanted(const struct networks_case *c, const struct lab_options *o)
{
    return o->tiny ? c->tiny : !c->tiny && (!c->large || o->large);
}

static const struct networks_case *case_at(const struct lab_options *o, size_t index)
{
    size_t i = 0;
    while (i < CASES && (!is_wanted(&cases[i], o) || index-- > 0))
        i++;
    return i == CASES ? NULL : &cases[i];
}

size_t scale_networks_cases(const struct lab_options *o)
{
    size_t count = 0;
    while (case_at(o, count) != NULL)
        count++;
    return count;
}

/* --- many worlds ----------------------------------------------------------------------------- */

struct worlds {
    size_t count;
    struct sim_world *world[NETWORKS_MAX];
    struct sim_watch watch[NETWORKS_MAX];
    struct scale_onlooker all;
};

static void make_worlds(struct worlds *ws, const struct networks_case *c, uint64_t seed)
{
    const struct scale_case one = {
        .dcs = c->dcs, .meters = METERS, .readings = 1, .report_every_ms = 10000, .delay_us = 3000};
    AMI_CHECK(c->networks <= NETWORKS_MAX);
    ws->count = c->networks;
    for (size_t i = 0; i < ws->count; i++) {
        struct sim_plan p;
        scale_plan(&p, &one, seed + i);
        ws->world[i] = sim_world_new(&p, NULL);
        scale_watch(&ws->watch[i], &ws->all);
        ws->world[i]->watch = &ws->watch[i];
    }
}

/* False: an invariant broke somewhere. */
static bool run_worlds(struct worlds *ws, uint64_t until_us)
{
    bool good = true;
    for (uint64_t now_us = ws->world[0]->now_us; good && now_us < until_us;) {
        now_us = now_us + TURN_US < until_us ? now_us + TURN_US : until_us;
        for (size_t i = 0; i < ws->count; i++) {
            sim_world_run(ws->world[i], now_us);
            good = good && ws->world[i]->violation[0] == 0;
        }
    }
    return good;
}

/* What holds of all of them. */
static bool of_all(struct worlds *ws, bool (*holds)(struct sim_world *w))
{
    for (size_t i = 0; i < ws->count; i++)
        if (!holds(ws->world[i]))
            return false;
    return true;
}

static bool is_enrolled(struct sim_world *w)
{
    const struct sim_host *leader = lab_leader(w);
    return leader != NULL && lab_all_enrolled(leader);
}

static bool is_in_session(struct sim_world *w)
{
    return lab_count_meters(w, lab_in_session) == w->plan.meters;
}

/* False: it did not come to that in time. */
static bool run_until(struct worlds *ws, bool (*holds)(struct sim_world *w))
{
    while (ws->world[0]->now_us < READY_US) {
        if (of_all(ws, holds))
            return true;
        if (!run_worlds(ws, ws->world[0]->now_us + TURN_US))
            return false;
    }
    return false;
}

static void switch_fleets(struct worlds *ws, void (*how)(struct sim_host *h))
{
    for (size_t i = 0; i < ws->count; i++) {
        struct sim_world *w = ws->world[i];
        for (uint16_t k = w->dcs; k < w->dcs + w->fleets; k++)
            how(&w->host[k]);
    }
}

static uint64_t heights(const struct worlds *ws)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < ws->count; i++)
        sum += lab_height(ws->world[i]);
    return sum;
}

/* --- a row ----------------------------------------------------------------------------------- */

static void measure(struct worlds *ws, const struct networks_case *c, double base,
                    struct lab_table *t)
{
    const double ready_s = (double)ws->world[0]->now_us / 1e6;
    const double s = c->measured_s, dcs = (double)c->networks * c->dcs;
    scale_forget(&ws->all);
    const uint64_t height = heights(ws), from_ns = lab_cpu_ns();
    (void)run_worlds(ws, ws->world[0]->now_us + c->measured_s * SIM_SECOND); /* the caller looks */
    const double cpu_s = (double)(lab_cpu_ns() - from_ns) / 1e9;
    const double bytes = scale_resident() - base;
    lab_sort(ws->all.latency_ms, ws->all.latencies);
    lab_integer(t, c->networks);
    lab_integer(t, c->networks * c->dcs);
    lab_integer(t, c->networks * METERS);
    lab_real(t, ready_s);
    lab_real(t, (double)(heights(ws) - height) / s);
    lab_real(t, (double)ws->all.latencies / s);
    lab_real(t, lab_quantile(ws->all.latency_ms, ws->all.latencies, 0.5));
    lab_real(t, (double)ws->all.frames / s);
    lab_real(t, (double)ws->all.bytes / 1e6 / s);
    lab_real(t, (double)scale_dc_ns(&ws->all) / 1e6 / s / dcs);
    lab_real(t, s / cpu_s);
    lab_real(t, bytes / 1e6);
    lab_real(t, bytes / 1e6 / dcs);
}

void scale_networks_row(struct lab_table *t, struct lab_output *out, const struct lab_options *o,
                        size_t index)
{
    const struct networks_case *c = case_at(o, index);
    struct worlds ws = {.all.latency_ms = calloc(SCALE_LATENCIES_MAX, sizeof(double))};
    const char *wrong = NULL;
    AMI_CHECK(c != NULL && ws.all.latency_ms != NULL);
    const double base = scale_resident();
    make_worlds(&ws, c, o->seed);
    /* Tables of networks that were there before are in the way: there is room for some only. */
    sm2_signers_forget();
    genesis_remember_signers(&ws.world[0]->cast->genesis);
    switch_fleets(&ws, sim_host_crash);
    bool ready = run_until(&ws, is_enrolled);
    switch_fleets(&ws, sim_host_start);
    ready = ready && run_until(&ws, is_in_session);
    if (ready)
        measure(&ws, c, base, t);
    else
        wrong = "the meters never got into session";
    for (size_t i = 0; i < ws.count; i++)
        if (ws.world[i]->violation[0] != 0)
            wrong = ws.world[i]->violation;
    if (wrong != NULL)
        lab_fail(out, "%u committees of %u DCs: %s", c->networks, c->dcs, wrong);
    for (size_t i = 0; i < ws.count; i++)
        sim_world_free(ws.world[i]);
    free(ws.all.latency_ms);
}
