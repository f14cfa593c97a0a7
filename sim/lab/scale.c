/* sim/lab/scale.c - `ami-sim lab scale`: what a report costs, by DCs, meters, and what a block
 * holds.
 *
 * Whole networks in the simulator, measured over a stretch of virtual time once all meters are in
 * session. Frames, bytes, blocks, latency and operations are the network's own (operations are
 * counted while DCs' code runs, with the invariants switched off, so that nobody else's are among
 * them); only the processor's time depends on this machine. */
#include "base/check.h"
#include "sim/lab/count.h"
#include "sim/lab/figure.h"
#include "sim/lab/lab.h"
#include "sim/lab/quantile.h"
#include "sim/lab/service.h"

#include <stdlib.h>
#include <string.h>

#define LATENCIES_MAX (1 << 20)

static const struct scale_case {
    const char *sweep;
    unsigned dcs, meters, readings, block_txs_max;
    uint32_t report_every_ms;
    uint32_t measured_s; /* of virtual time */
    bool large;
} cases[] = {
    {"DCs", 4, 60, 1, 0, 3000, 20, false},
    {"DCs", 7, 60, 1, 0, 3000, 20, false},
    {"DCs", 10, 60, 1, 0, 3000, 20, false},
    {"DCs", 13, 60, 1, 0, 3000, 15, false},
    {"DCs", 22, 60, 1, 0, 3000, 8, false},
    {"DCs", 31, 60, 1, 0, 3000, 5, false},
    {"meters", 4, 10, 1, 0, 10000, 120, false},
    {"meters", 4, 100, 1, 0, 10000, 60, false},
    {"meters", 4, 1000, 1, 0, 10000, 10, false},
    {"meters", 4, 3000, 1, 0, 30000, 10, false},
    {"meters", 4, 10000, 1, 2048, 900000, 60, true},
    {"meters", 4, 100000, 1, 2048, 900000, 60, true},
    {"meters", 4, 1000000, 1, 2048, 900000, 60, true},
    {"block", 4, 200, 1, 1, 1000, 10, false},
    {"block", 4, 200, 1, 4, 1000, 10, false},
    {"block", 4, 200, 1, 16, 1000, 10, false},
    {"block", 4, 200, 1, 64, 1000, 10, false},
    {"readings", 4, 100, 1, 0, 2000, 20, false},
    {"readings", 4, 100, 4, 0, 2000, 20, false},
    {"readings", 4, 100, 16, 0, 2000, 20, false},
    {"readings", 4, 100, 48, 0, 2000, 20, false},
    {"readings", 4, 100, 96, 0, 2000, 20, false},
};
#define CASES (sizeof cases / sizeof cases[0])

static const struct lab_column columns[] = {
    {.name = "sweep", .title = "varied"},
    {.name = "dcs", .title = "DCs", .source = LAB_ASSUMED},
    {.name = "meters", .title = "meters", .source = LAB_ASSUMED},
    {.name = "readings", .title = "readings a report", .source = LAB_ASSUMED},
    {.name = "block_max", .title = "reports a block, at most", .source = LAB_ASSUMED},
    {.name = "reports",
     .title = "reports",
     .unit = "per s",
     .decimals = 1,
     .source = LAB_SIMULATED},
    {.name = "per_block", .title = "a block", .decimals = 1, .source = LAB_SIMULATED},
    {.name = "latency",
     .title = "latency, median",
     .unit = "ms",
     .decimals = 0,
     .source = LAB_SIMULATED},
    {.name = "latency_p99", .title = "p99", .unit = "ms", .decimals = 0, .source = LAB_SIMULATED},
    {.name = "frames",
     .title = "frames",
     .unit = "a block",
     .decimals = 1,
     .source = LAB_SIMULATED},
    {.name = "block_bytes",
     .title = "sent",
     .unit = "KB a block",
     .decimals = 2,
     .source = LAB_SIMULATED},
    {.name = "report_bytes",
     .title = "sent",
     .unit = "bytes a report",
     .decimals = 0,
     .source = LAB_SIMULATED},
    {.name = "reading_bytes",
     .title = "sent",
     .unit = "bytes a reading",
     .decimals = 0,
     .source = LAB_SIMULATED},
    {.name = "verified",
     .title = "verified",
     .unit = "a report and DC",
     .decimals = 2,
     .source = LAB_SIMULATED},
    {.name = "signed",
     .title = "signed",
     .unit = "a report, all DCs",
     .decimals = 2,
     .source = LAB_SIMULATED},
    {.name = "hashed",
     .title = "hashed",
     .unit = "a report and DC",
     .decimals = 1,
     .source = LAB_SIMULATED},
    {.name = "dc_time",
     .title = "processor",
     .unit = "us a report and DC",
     .decimals = 1,
     .source = LAB_MEASURED,
     .clock = true},
    {.name = "times_real",
     .title = "times real time",
     .decimals = 0,
     .source = LAB_MEASURED,
     .clock = true},
    {0}};

#define SWEEP(sweep_) .table = "scale", .only = "sweep", .is = sweep_
static const struct lab_figure figures[] = {
    {.kind = LAB_LINES,
     .name = "dcs_frames",
     .title = "Frames between DCs for a block, by number of DCs",
     SWEEP("DCs"),
     .x = "dcs",
     .y = {"frames"}},
    {.kind = LAB_LINES,
     .name = "dcs_operations",
     .title = "Operations of a DC for a report, by number of DCs",
     SWEEP("DCs"),
     .x = "dcs",
     .y = {"verified", "signed", "hashed"},
     .y_log = true},
    {.kind = LAB_LINES,
     .name = "dcs_latency",
     .title = "From making a report to its acknowledgement, ms, by number of DCs",
     SWEEP("DCs"),
     .x = "dcs",
     .y = {"latency", "latency_p99"}},
    {.kind = LAB_LINES,
     .name = "meters_bytes",
     .title = "Bytes between DCs for a report, by number of meters",
     SWEEP("meters"),
     .x = "meters",
     .y = {"report_bytes"},
     .x_log = true,
     .y_log = true},
    {.kind = LAB_LINES,
     .name = "meters_latency",
     .title = "From making a report to its acknowledgement, ms, by number of meters",
     SWEEP("meters"),
     .x = "meters",
     .y = {"latency", "latency_p99"},
     .x_log = true},
    {.kind = LAB_LINES,
     .name = "meters_time",
     .title = "Processor time of a DC for a report, us, by number of meters",
     SWEEP("meters"),
     .x = "meters",
     .y = {"dc_time"},
     .x_log = true},
    {.kind = LAB_LINES,
     .name = "block_reports",
     .title = "Reports a second that get through, by how many a block may hold",
     SWEEP("block"),
     .x = "block_max",
     .y = {"reports"},
     .x_log = true},
    {.kind = LAB_LINES,
     .name = "readings_bytes",
     .title = "Bytes between DCs for a reading, by readings in a report",
     SWEEP("readings"),
     .x = "readings",
     .y = {"reading_bytes"},
     .x_log = true,
     .y_log = true},
    {0}};
#define FIGURES (sizeof figures / sizeof figures[0])

struct onlooker {
    uint64_t frames, bytes, dc_ns, began_ns;
    double *latency_ms;
    size_t latencies;
};

static void on_sent(void *ctx, struct sim_world *w, uint16_t from, uint16_t to, struct span frame)
{
    struct onlooker *o = ctx;
    if (w->host[from].kind != SIM_DC || w->host[to].kind != SIM_DC)
        return;
    o->frames++;
    o->bytes += frame.size;
}

static void on_turn(void *ctx, struct sim_host *dc)
{
    struct onlooker *o = ctx;
    lab_count_pause(dc == NULL);
    if (dc != NULL)
        o->began_ns = lab_cpu_ns();
    else
        o->dc_ns += lab_cpu_ns() - o->began_ns;
}

static void on_noted(void *ctx, struct sim_meter *m, enum meter_note_kind kind, uint64_t value)
{
    struct onlooker *o = ctx;
    (void)m;
    if (kind == METER_NOTE_ACKNOWLEDGED && o->latencies < LATENCIES_MAX)
        o->latency_ms[o->latencies++] = (double)value / 1e3;
}

/* What a DC's ledger got meanwhile. */
static void count_blocks(const struct sim_world *w, uint64_t above, uint64_t *blocks, uint64_t *txs)
{
    const struct sim_disk *d = w->host[0].as.dc->disk;
    *blocks = *txs = 0;
    for (uint64_t h = above + 1; h <= sim_disk_height(d); h++) {
        const struct sim_block *b = sim_disk_block(d, h);
        *blocks += b != NULL;
        *txs += b == NULL ? 0 : b->header.tx_count;
    }
}

/* Until nearly all meters are in session: a last one may wait for its next report. */
static bool await_meters(struct sim_world *w)
{
    uint64_t limit_us = w->now_us + 600 * SIM_SECOND;
    size_t want = w->plan.meters - w->plan.meters / 50;
    while (w->now_us < limit_us && w->violation[0] == 0) {
        if (lab_count_meters(w, lab_in_session) >= want)
            return true;
        sim_world_run(w, w->now_us + 250 * SIM_MS);
    }
    return false;
}

static void plan_of(struct sim_plan *p, const struct scale_case *c, uint64_t seed)
{
    sim_plan_calm(p, seed);
    p->dcs = c->dcs;
    p->meters = c->meters;
    p->fleets = c->meters / 1000 + 1;
    p->readings_per_report = c->readings;
    p->block_txs_max = c->block_txs_max;
    p->report_every_us = c->report_every_ms * SIM_MS;
    p->delay_mean_us = 3 * SIM_MS;
    p->unjudged = true;
    /* As a fleet does it: the more meters, the longer they take to come back. */
    p->meter_spread_ms = 50 + c->meters * 30 / 1000;
}

static void put(struct lab_table *t, const struct scale_case *c, const struct onlooker *o,
                const struct lab_counts *n, uint64_t blocks, uint64_t txs, double virtual_s,
                double cpu_s)
{
    double reports = txs > 0 ? (double)txs : 1, all_blocks = blocks > 0 ? (double)blocks : 1;
    uint64_t hashes = n->count[LAB_OP_HASH] + n->count[LAB_OP_HMAC] + n->count[LAB_OP_KDF];
    lab_text(t, "%s", c->sweep);
    lab_integer(t, c->dcs);
    lab_integer(t, c->meters);
    lab_integer(t, c->readings);
    lab_integer(t, c->block_txs_max == 0 ? 128 : c->block_txs_max);
    lab_real(t, (double)txs / virtual_s);
    lab_real(t, (double)txs / all_blocks);
    lab_real(t, lab_quantile(o->latency_ms, o->latencies, 0.5));
    lab_real(t, lab_quantile(o->latency_ms, o->latencies, 0.99));
    lab_real(t, (double)o->frames / all_blocks);
    lab_real(t, (double)o->bytes / all_blocks / 1e3);
    lab_real(t, (double)o->bytes / reports);
    lab_real(t, (double)o->bytes / reports / c->readings);
    lab_real(t, (double)n->count[LAB_OP_VERIFY] / reports / c->dcs);
    lab_real(t, (double)n->count[LAB_OP_SIGN] / reports);
    lab_real(t, (double)hashes / reports / c->dcs);
    lab_real(t, (double)o->dc_ns / 1e3 / reports / c->dcs);
    lab_real(t, virtual_s / cpu_s);
}

static bool run_case(const struct scale_case *c, const struct lab_options *opt, struct lab_table *t,
                     struct lab_output *out)
{
    struct sim_plan p;
    struct onlooker o = {.latency_ms = calloc(LATENCIES_MAX, sizeof(double))};
    const struct sim_watch watch = {.ctx = &o, .sent = on_sent, .turn = on_turn, .noted = on_noted};
    struct lab_counts counts;
    uint64_t blocks, txs;
    AMI_CHECK(o.latency_ms != NULL);
    plan_of(&p, c, opt->seed);
    struct sim_world *w = sim_world_new(&p, NULL);
    bool ready = lab_open_network(w, 1200 * SIM_SECOND) && await_meters(w);
    if (ready) {
        double virtual_s = (double)lab_size(opt, c->measured_s, 2);
        sim_world_run(w, w->now_us + 2 * SIM_SECOND);
        uint64_t height = sim_disk_height(w->host[0].as.dc->disk), from_ns = lab_cpu_ns();
        w->watch = &watch;
        lab_count_begin(&counts, false);
        lab_count_pause(true);
        sim_world_run(w, w->now_us + (uint64_t)(virtual_s * 1e6));
        lab_count_end();
        double cpu_s = (double)(lab_cpu_ns() - from_ns) / 1e9;
        count_blocks(w, height, &blocks, &txs);
        lab_sort(o.latency_ms, o.latencies);
        put(t, c, &o, &counts, blocks, txs, virtual_s, cpu_s);
    }
    if (w->violation[0] != 0 || !ready)
        lab_fail(out, "%u DCs, %u meters: %s", c->dcs, c->meters,
                 w->violation[0] != 0 ? w->violation : "the meters never got into session");
    bool good = w->violation[0] == 0 && ready;
    sim_world_free(w);
    free(o.latency_ms);
    return good;
}

static const char *const sweeps[] = {"DCs", "meters", "block", "readings"};
#define SWEEPS (sizeof sweeps / sizeof sweeps[0])

static void list(const struct lab_options *o, FILE *to)
{
    (void)o;
    for (size_t i = 0; i < SWEEPS; i++)
        fprintf(to, "%s\n", sweeps[i]);
}

static bool is_sweep(const char *name)
{
    for (size_t i = 0; i < SWEEPS; i++)
        if (strcmp(sweeps[i], name) == 0)
            return true;
    return false;
}

/* Those that were asked for by name, or all. */
static bool is_asked(const char *sweep, const struct lab_options *o)
{
    for (size_t i = 0; i < o->items; i++)
        if (strcmp(o->item[i], sweep) == 0)
            return true;
    return o->items == 0;
}

static bool wanted(const struct scale_case *c, const struct lab_options *o)
{
    if (!is_asked(c->sweep, o))
        return false;
    if (o->tiny)
        return c->dcs <= 7 && c->meters <= 200 && c->readings <= 4 &&
               (c->block_txs_max == 0 || c->block_txs_max == 64);
    return !c->large || o->large;
}

static enum ami_status run(const struct lab_options *o, struct lab_output *out, struct why *why)
{
    struct lab_table *t = lab_table(
        out, "scale", "What reports cost, by size of the network (virtual time)", columns);
    struct progress progress;
    struct lab_figure drawn[FIGURES] = {{0}};
    uint64_t done = 0, total = 0;
    for (size_t i = 0; i < o->items; i++)
        if (!is_sweep(o->item[i]))
            return why_set(why, AMI_BAD_ARGUMENT,
                           "scale varies DCs, meters, block or readings, not '%.40s'", o->item[i]);
    for (size_t i = 0; i < CASES; i++)
        total += wanted(&cases[i], o);
    lab_progress(o, &progress, "scale", "runs", total);
    for (size_t i = 0; i < CASES; i++) {
        if (!wanted(&cases[i], o))
            continue;
        (void)run_case(&cases[i], o, t, out);
        progress_update(&progress, ++done, NULL);
    }
    progress_end(&progress, NULL);
    lab_note(out, "Delays between DCs are exponential with a mean of 3 ms; what is sent is counted "
                  "between DCs, heartbeats among it. Reports a block: the rest of the time it is "
                  "cut after 50 ms.");
    lab_note(out,
             "Processor time is that of all DCs' code in one thread, without disk and network. "
             "Known signers are verified by tables that were made before.");
    if (!o->large)
        lab_note(out, "--large goes on to a million meters.");
    for (size_t i = 0, n = 0; figures[i].name != NULL; i++)
        if (is_asked(figures[i].is, o))
            drawn[n++] = figures[i];
    lab_figures(out, drawn);
    return AMI_OK;
}

const struct lab_experiment lab_scale = {
    .name = "scale",
    .summary = "what a report costs, by DCs, meters, and what a block and a report hold",
    .items = "SWEEP",
    .slow = true,
    .list = list,
    .run = run};
