/* sim/lab/scale.c - `ami-sim lab scale`: what a report costs, by DCs, meters, delay, and what a
 * block holds.
 *
 * Whole networks in the simulator, measured over a stretch of virtual time once all meters are in
 * session. Frames, bytes, blocks, latency and operations are the network's own (operations are
 * counted while DCs' code runs, with the invariants switched off, so that nobody else's are among
 * them); only the processor's time and memory depend on this machine. What grows with the number of
 * meters has a table of its own (scale_meters.c), and so has what is larger than one committee
 * (scale_networks.c). */
#include "sim/lab/scale.h"

#include "base/check.h"
#include "sim/lab/count.h"
#include "sim/lab/figure.h"
#include "sim/lab/lab.h"
#include "sim/lab/quantile.h"
#include "sim/lab/service.h"

#include <stdlib.h>
#include <string.h>

#define READY_US    (1200 * SIM_SECOND) /* for enrolments, and for agreements */
#define TINY_METERS 60
/* A fleet knows 1.3 MB of headers, whatever the number of its meters. */
#define FLEET_METERS 1000
#define FLEETS_MAX   128

#define QUARTER_HOUR_MS 900000

static const struct scale_case cases[] = {
    {"DCs", 4, 60, 1, 0, 3000, 3000, 20, 2, false},
    {"DCs", 7, 60, 1, 0, 3000, 3000, 20, 2, false},
    {"DCs", 10, 60, 1, 0, 3000, 3000, 20, 0, false},
    {"DCs", 13, 60, 1, 0, 3000, 3000, 15, 0, false},
    {"DCs", 22, 60, 1, 0, 3000, 3000, 8, 0, false},
    {"DCs", 31, 60, 1, 0, 3000, 3000, 5, 0, false},
    {"busy", 4, 200, 1, 0, 100, 3000, 2, 1, false},
    {"busy", 7, 200, 1, 0, 100, 3000, 2, 1, false},
    {"busy", 10, 200, 1, 0, 100, 3000, 2, 0, false},
    {"busy", 13, 200, 1, 0, 100, 3000, 2, 0, false},
    {"busy", 22, 200, 1, 0, 100, 3000, 1, 0, false},
    {"busy", 31, 200, 1, 0, 100, 3000, 1, 0, false},
    {"meters", 4, 30, 1, 2048, 20000, 3000, 0, 20, false},
    {"meters", 4, 60, 1, 2048, 20000, 3000, 0, 20, false},
    {"meters", 4, 1000, 1, 2048, QUARTER_HOUR_MS, 3000, 60, 0, false},
    {"meters", 4, 10000, 1, 2048, QUARTER_HOUR_MS, 3000, 60, 0, false},
    {"meters", 4, 100000, 1, 2048, QUARTER_HOUR_MS, 3000, 60, 0, true},
    {"meters", 4, 1000000, 1, 2048, QUARTER_HOUR_MS, 3000, 60, 0, true},
    {"block", 4, 400, 1, 1, 200, 3000, 3, 0, false},
    {"block", 4, 400, 1, 4, 200, 3000, 3, 1, false},
    {"block", 4, 400, 1, 16, 200, 3000, 3, 0, false},
    {"block", 4, 400, 1, 64, 200, 3000, 3, 1, false},
    {"block", 4, 400, 1, 256, 200, 3000, 3, 0, false},
    {"delay", 4, 400, 1, 0, 200, 50, 3, 1, false},
    {"delay", 4, 400, 1, 0, 200, 1000, 3, 0, false},
    {"delay", 4, 400, 1, 0, 200, 3000, 3, 0, false},
    {"delay", 4, 400, 1, 0, 200, 10000, 3, 1, false},
    {"delay", 4, 400, 1, 0, 200, 24320, 3, 0, false},
    {"delay", 4, 400, 1, 0, 200, 55000, 3, 0, false},
    {"readings", 4, 100, 1, 0, 2000, 3000, 20, 2, false},
    {"readings", 4, 100, 4, 0, 2000, 3000, 20, 2, false},
    {"readings", 4, 100, 16, 0, 2000, 3000, 20, 0, false},
    {"readings", 4, 100, 48, 0, 2000, 3000, 20, 0, false},
    {"readings", 4, 100, 96, 0, 2000, 3000, 20, 0, false},
};
#define CASES (sizeof cases / sizeof cases[0])

static const struct lab_column columns[] = {
    {.name = "sweep", .title = "varied"},
    {.name = "dcs", .title = "DCs", .source = LAB_ASSUMED},
    {.name = "meters", .title = "meters", .source = LAB_ASSUMED},
    {.name = "readings", .title = "readings a report", .source = LAB_ASSUMED},
    {.name = "block_max", .title = "reports a block, at most", .source = LAB_ASSUMED},
    {.name = "delay",
     .title = "one-way delay, mean",
     .unit = "ms",
     .decimals = 2,
     .source = LAB_ASSUMED},
    {.name = "offered",
     .title = "reports made",
     .unit = "per virtual s",
     .decimals = 1,
     .source = LAB_ASSUMED},
    {.name = "reports",
     .title = "reports committed",
     .unit = "per virtual s",
     .decimals = 1,
     .source = LAB_SIMULATED},
    {.name = "per_block", .title = "reports a block", .decimals = 1, .source = LAB_SIMULATED},
    {.name = "latency",
     .title = "latency, median",
     .unit = "ms",
     .decimals = 0,
     .source = LAB_SIMULATED},
    {.name = "latency_p99",
     .title = "latency, p99",
     .unit = "ms",
     .decimals = 0,
     .source = LAB_SIMULATED},
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
     .unit = "a report and DC",
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
    {.name = "capacity",
     .title = "one core a DC would allow",
     .unit = "reports per s",
     .decimals = 0,
     .source = LAB_MODEL,
     .clock = true},
    {.name = "real_reports",
     .title = "reports simulated",
     .unit = "per s of processor time",
     .decimals = 0,
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
     .title = "Operations of a DC for a report, by number of DCs, 20 reports a second",
     SWEEP("DCs"),
     .x = "dcs",
     .y = {"verified", "signed", "hashed"},
     .y_title = "operations",
     .y_log = true},
    {.kind = LAB_LINES,
     .name = "dcs_latency",
     .title = "From making a report to its acknowledgement, by number of DCs (virtual)",
     SWEEP("DCs"),
     .x = "dcs",
     .y = {"latency", "latency_p99"},
     .y_title = "latency"},
    {.kind = LAB_LINES,
     .name = "busy_reports",
     .title = "Reports committed, by number of DCs, 2,000 made a second (virtual)",
     SWEEP("busy"),
     .x = "dcs",
     .y = {"offered", "reports"},
     .y_title = "reports"},
    {.kind = LAB_LINES,
     .name = "busy_latency",
     .title = "Commit latency under that load, by number of DCs (virtual)",
     SWEEP("busy"),
     .x = "dcs",
     .y = {"latency", "latency_p99"},
     .y_title = "latency"},
    {.kind = LAB_LINES,
     .name = "busy_bytes",
     .title = "Bytes between DCs for a report under that load, by number of DCs",
     SWEEP("busy"),
     .x = "dcs",
     .y = {"report_bytes"}},
    {.kind = LAB_LINES,
     .name = "busy_operations",
     .title = "Operations of a DC for a report under that load, by number of DCs",
     SWEEP("busy"),
     .x = "dcs",
     .y = {"verified", "signed"},
     .y_title = "operations"},
    {.kind = LAB_LINES,
     .name = "busy_time",
     .title = "Processor time of a DC for a report under that load, by number of DCs",
     SWEEP("busy"),
     .x = "dcs",
     .y = {"dc_time"}},
    {.kind = LAB_LINES,
     .name = "busy_capacity",
     .title =
         "Reports that one core for each DC would allow, computed, and that one core simulates",
     SWEEP("busy"),
     .x = "dcs",
     .y = {"capacity", "real_reports"},
     .y_title = "reports per s",
     .y_log = true},
    {.kind = LAB_LINES,
     .name = "meters_reports",
     .title = "Reports committed, one from each meter every 15 minutes (virtual)",
     SWEEP("meters"),
     .x = "meters",
     .y = {"reports"},
     .x_log = true,
     .y_log = true},
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
     .title = "From making a report to its acknowledgement, by number of meters (virtual)",
     SWEEP("meters"),
     .x = "meters",
     .y = {"latency", "latency_p99"},
     .y_title = "latency",
     .x_log = true},
    {.kind = LAB_LINES,
     .name = "meters_time",
     .title = "Processor time of a DC for a report, by number of meters",
     SWEEP("meters"),
     .x = "meters",
     .y = {"dc_time"},
     .x_log = true,
     .y_log = true},
    {.kind = LAB_LINES,
     .name = "block_reports",
     .title = "Reports that get through, by how many a block may hold (virtual)",
     SWEEP("block"),
     .x = "block_max",
     .y = {"offered", "reports"},
     .y_title = "reports",
     .x_log = true},
    {.kind = LAB_LINES,
     .name = "block_latency",
     .title = "Commit latency, by how many reports a block may hold (virtual)",
     SWEEP("block"),
     .x = "block_max",
     .y = {"latency", "latency_p99"},
     .y_title = "latency",
     .x_log = true,
     .y_log = true},
    {.kind = LAB_LINES,
     .name = "block_bytes",
     .title = "Bytes between DCs for a report, by how many a block may hold",
     SWEEP("block"),
     .x = "block_max",
     .y = {"report_bytes"},
     .x_log = true,
     .y_log = true},
    {.kind = LAB_LINES,
     .name = "block_time",
     .title = "Processor time of a DC for a report, by how many a block may hold",
     SWEEP("block"),
     .x = "block_max",
     .y = {"dc_time"},
     .x_log = true},
    {.kind = LAB_LINES,
     .name = "delay_reports",
     .title = "Reports that get through, by delay of a link (virtual)",
     SWEEP("delay"),
     .x = "delay",
     .y = {"offered", "reports"},
     .y_title = "reports",
     .x_log = true},
    {.kind = LAB_LINES,
     .name = "delay_latency",
     .title = "Commit latency, by delay of a link (virtual)",
     SWEEP("delay"),
     .x = "delay",
     .y = {"latency", "latency_p99"},
     .y_title = "latency",
     .x_log = true,
     .y_log = true},
    {.kind = LAB_LINES,
     .name = "readings_bytes",
     .title = "Bytes between DCs for a reading, by readings in a report",
     SWEEP("readings"),
     .x = "readings",
     .y = {"reading_bytes"},
     .x_log = true,
     .y_log = true},
    {0}};

/* --- looking on ------------------------------------------------------------------------------ */

static void on_sent(void *ctx, struct sim_world *w, uint16_t from, uint16_t to, struct span frame)
{
    struct scale_onlooker *o = ctx;
    if (w->host[from].kind != SIM_DC || w->host[to].kind != SIM_DC)
        return;
    o->frames++;
    o->bytes += frame.size;
}

static void on_turn(void *ctx, struct sim_host *dc)
{
    struct scale_onlooker *o = ctx;
    if (o->counts)
        lab_count_pause(dc == NULL);
    if (dc != NULL)
        o->began_ns = lab_cpu_ns();
    else
        o->dc_ns[o->runs] += lab_cpu_ns() - o->began_ns;
    o->runs = dc == NULL ? 0 : dc->index;
}

static void on_noted(void *ctx, struct sim_meter *m, enum meter_note_kind kind, uint64_t value)
{
    struct scale_onlooker *o = ctx;
    if (kind == METER_NOTE_AGREED)
        o->agreed[m->core.target]++;
    if (kind == METER_NOTE_ACKNOWLEDGED && o->latencies < SCALE_LATENCIES_MAX)
        o->latency_ms[o->latencies++] = (double)value / 1e3;
}

void scale_watch(struct sim_watch *watch, struct scale_onlooker *o)
{
    *watch = (struct sim_watch){.ctx = o, .sent = on_sent, .turn = on_turn, .noted = on_noted};
}

void scale_forget(struct scale_onlooker *o)
{
    *o = (struct scale_onlooker){.latency_ms = o->latency_ms};
}

uint64_t scale_dc_ns(const struct scale_onlooker *o)
{
    uint64_t all = 0;
    for (size_t i = 0; i < sizeof o->dc_ns / sizeof o->dc_ns[0]; i++)
        all += o->dc_ns[i];
    return all;
}

uint64_t scale_agreed(const struct scale_onlooker *o)
{
    uint64_t all = 0;
    for (size_t i = 0; i < METER_DCS; i++)
        all += o->agreed[i];
    return all;
}

/* --- one network ----------------------------------------------------------------------------- */

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

bool scale_await(struct sim_world *w, size_t want, uint64_t limit_us, uint64_t step_us)
{
    limit_us += w->now_us;
    while (w->now_us < limit_us && w->violation[0] == 0) {
        if (lab_count_meters(w, lab_in_session) >= want)
            return true;
        sim_world_run(w, w->now_us + step_us);
    }
    return false;
}

void scale_plan(struct sim_plan *p, const struct scale_case *c, uint64_t seed)
{
    sim_plan_calm(p, seed);
    p->dcs = c->dcs;
    p->meters = c->meters;
    p->fleets = c->meters / FLEET_METERS + 1;
    if (p->fleets > FLEETS_MAX)
        p->fleets = FLEETS_MAX;
    p->readings_per_report = c->readings;
    p->block_txs_max = c->block_txs_max;
    p->report_every_us = c->report_every_ms * SIM_MS;
    p->delay_mean_us = c->delay_us;
    p->unjudged = true;
    /* As a fleet does it: the more meters, the longer they take to come back. */
    p->meter_spread_ms = 50 + c->meters * 30 / 1000;
}

static void put(struct lab_table *t, const struct scale_case *c, const struct sim_world *w,
                const struct scale_onlooker *o, const struct lab_counts *n, uint64_t blocks,
                uint64_t txs, double virtual_s, double cpu_s)
{
    double reports = txs > 0 ? (double)txs : 1, all_blocks = blocks > 0 ? (double)blocks : 1;
    uint64_t hashes = n->count[LAB_OP_HASH] + n->count[LAB_OP_HMAC] + n->count[LAB_OP_KDF];
    double dc_us = (double)scale_dc_ns(o) / 1e3 / reports / c->dcs;
    lab_text(t, "%s", c->sweep);
    lab_integer(t, c->dcs);
    lab_integer(t, c->meters);
    lab_integer(t, c->readings);
    lab_integer(t, w->cast->genesis.parameters.block_txs_max);
    lab_real(t, c->delay_us / 1e3);
    lab_real(t, 1e3 * c->meters / c->report_every_ms);
    lab_real(t, (double)txs / virtual_s);
    lab_real(t, (double)txs / all_blocks);
    lab_real(t, lab_quantile(o->latency_ms, o->latencies, 0.5));
    lab_real(t, lab_quantile(o->latency_ms, o->latencies, 0.99));
    lab_real(t, (double)o->frames / all_blocks);
    lab_real(t, (double)o->bytes / all_blocks / 1e3);
    lab_real(t, (double)o->bytes / reports);
    lab_real(t, (double)o->bytes / reports / c->readings);
    lab_real(t, (double)n->count[LAB_OP_VERIFY] / reports / c->dcs);
    lab_real(t, (double)n->count[LAB_OP_SIGN] / reports / c->dcs);
    lab_real(t, (double)hashes / reports / c->dcs);
    lab_real(t, dc_us);
    lab_real(t, 1e6 / dc_us);
    lab_real(t, (double)txs / cpu_s);
    lab_real(t, virtual_s / cpu_s);
}

/* Everybody is in session: so many virtual seconds of that. */
static void measure(const struct scale_case *c, struct sim_world *w, struct scale_onlooker *o,
                    double virtual_s, struct lab_table *t)
{
    struct lab_counts counts;
    uint64_t blocks, txs;
    sim_world_run(w, w->now_us + SIM_SECOND);
    scale_forget(o);
    uint64_t height = sim_disk_height(w->host[0].as.dc->disk), from_ns = lab_cpu_ns();
    lab_count_begin(&counts, false);
    lab_count_pause(true);
    o->counts = true;
    sim_world_run(w, w->now_us + (uint64_t)(virtual_s * 1e6));
    lab_count_end();
    o->counts = false;
    double cpu_s = (double)(lab_cpu_ns() - from_ns) / 1e9;
    count_blocks(w, height, &blocks, &txs);
    lab_sort(o->latency_ms, o->latencies);
    put(t, c, w, o, &counts, blocks, txs, virtual_s, cpu_s);
}

/* A network that has not run yet, until nearly all of its meters are in session: a last one may
 * wait for its next report. */
static bool make_ready(struct sim_world *w, struct scale_onlooker *o, struct scale_growth *g)
{
    uint64_t began_us = w->now_us;
    if (!lab_open_network(w, READY_US))
        return false;
    g->enrolled_s = (double)(w->now_us - began_us) / 1e6;
    g->enrol_dc_us = (double)scale_dc_ns(o) / 1e3;
    scale_forget(o);
    began_us = w->now_us;
    if (!scale_await(w, w->plan.meters - w->plan.meters / 50, READY_US, 250 * SIM_MS))
        return false;
    const struct sim_host *leader = lab_leader(w);
    g->in_session_s = (double)(w->now_us - began_us) / 1e6;
    g->agree_dc_us = leader == NULL ? 0 : (double)o->dc_ns[leader->index] / 1e3;
    g->agreed_leader = leader == NULL ? 0 : o->agreed[leader->index];
    g->agreed = scale_agreed(o);
    return true;
}

static void run_case(const struct scale_case *usual, const struct lab_options *opt,
                     struct lab_table *t, struct lab_table *growth, struct scale_memory *last,
                     struct lab_output *out)
{
    struct sim_plan p;
    struct scale_case c = *usual;
    struct scale_growth g;
    struct scale_onlooker o = {.latency_ms = calloc(SCALE_LATENCIES_MAX, sizeof(double))};
    struct sim_watch watch;
    AMI_CHECK(o.latency_ms != NULL);
    if (opt->tiny && c.meters > TINY_METERS)
        c.meters = TINY_METERS;
    scale_plan(&p, &c, opt->seed);
    g.resident_before = scale_resident();
    uint64_t began_ns = lab_cpu_ns();
    struct sim_world *w = sim_world_new(&p, NULL);
    g.keys_us = (double)(lab_cpu_ns() - began_ns) / 1e3;
    scale_watch(&watch, &o);
    w->watch = &watch;
    bool ready = make_ready(w, &o, &g);
    if (ready)
        measure(&c, w, &o, opt->tiny ? c.tiny_s : c.measured_s, t);
    if (w->violation[0] != 0 || !ready)
        lab_fail(out, "%u DCs, %u meters: %s", c.dcs, c.meters,
                 w->violation[0] != 0 ? w->violation : "the meters never got into session");
    else if (growth != NULL)
        scale_meters_row(growth, out, &c, &g, last, w, &o);
    sim_world_free(w);
    free(o.latency_ms);
}

/* --- the experiment -------------------------------------------------------------------------- */

#define METERS   "meters"
#define NETWORKS "networks"
static const char *const sweeps[] = {"DCs", "busy", METERS, "block", "delay", "readings", NETWORKS};
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
    return o->tiny ? c->tiny_s != 0 : c->measured_s != 0 && (!c->large || o->large);
}

static void draw(const struct lab_options *o, struct lab_output *out)
{
    struct lab_figure drawn[64] = {{0}};
    const struct lab_figure *const lists[] = {figures, scale_meters_figures,
                                              scale_networks_figures};
    static const char *const about[] = {NULL, METERS, NETWORKS};
    size_t n = 0;
    for (size_t k = 0; k < sizeof lists / sizeof lists[0]; k++)
        for (const struct lab_figure *f = lists[k]; f->name != NULL; f++) {
            if (!is_asked(about[k] == NULL ? f->is : about[k], o))
                continue;
            AMI_CHECK(n + 1 < sizeof drawn / sizeof drawn[0]);
            drawn[n++] = *f;
        }
    lab_figures(out, drawn);
}

static void explain(const struct lab_options *o, struct lab_output *out)
{
    lab_note(out, "Delays between DCs are exponential; what is sent is counted between DCs, "
                  "heartbeats among it. Reports a block: the rest of the time it is cut after "
                  "50 ms.");
    lab_note(out,
             "Processor time is that of all DCs' code in one thread, without disk and network. "
             "Known signers are verified by tables that were made before. In virtual time a job in "
             "the work pool takes 0.3 ms in the mean, however much is in it: what a processor "
             "would allow is the computed column.");
    if (is_asked(METERS, o))
        lab_note(
            out,
            "meters: a report from each every 15 minutes (--tiny: 20 s). The leader dies for good; "
            "\"memory of the leader\" is what its death gives back to the allocator, "
            "that of the simulation what is resident, keys and disks of all included. "
            "\"again\" is after the leader's death, with all else that the new one does "
            "meanwhile. \"one meter more\" is computed from this row and the one before, and holds "
            "where the same share of the meters is with the leader.");
    if (is_asked(NETWORKS, o))
        lab_note(out,
                 "networks: a committee has at most %d members, so more DCs are more "
                 "committees, each with its ledger, its meters and its MDMS. They have the "
                 "same keys and each its own chance, and take turns of 100 ms of virtual "
                 "time.",
                 AMI_MEMBERS_MAX);
    if (!o->large)
        lab_note(out, "--large goes on to a million meters, and to 1,023 DCs.");
}

static size_t count_cases(const struct lab_options *o)
{
    size_t count = 0;
    for (size_t i = 0; i < CASES; i++)
        count += wanted(&cases[i], o);
    return count;
}

static enum ami_status run(const struct lab_options *o, struct lab_output *out, struct why *why)
{
    struct progress progress;
    struct scale_memory last = {0};
    uint64_t done = 0;
    for (size_t i = 0; i < o->items; i++)
        if (!is_sweep(o->item[i]))
            return why_set(why, AMI_BAD_ARGUMENT, "scale has no sweep '%.40s'; --list has them",
                           o->item[i]);
    const size_t single = count_cases(o);
    const size_t many = is_asked(NETWORKS, o) ? scale_networks_cases(o) : 0;
    struct lab_table *t = NULL, *growth = NULL, *networks = NULL;
    if (single > 0)
        t = lab_table(out, "scale", "What reports cost, by size of the network", columns);
    if (is_asked(METERS, o))
        growth = scale_meters_table(out);
    if (many > 0)
        networks = scale_networks_table(out);
    lab_progress(o, &progress, "scale", "runs", single + many);
    for (size_t i = 0; i < CASES; i++) {
        if (!wanted(&cases[i], o))
            continue;
        struct lab_table *second = strcmp(cases[i].sweep, METERS) == 0 ? growth : NULL;
        run_case(&cases[i], o, t, second, &last, out);
        progress_update(&progress, ++done, NULL);
    }
    for (size_t i = 0; i < many; i++) {
        scale_networks_row(networks, out, o, i);
        progress_update(&progress, ++done, NULL);
    }
    progress_end(&progress, NULL);
    explain(o, out);
    draw(o, out);
    return AMI_OK;
}

const struct lab_experiment lab_scale = {
    .name = "scale",
    .summary = "what a report costs, by DCs, meters, delay, and what a block and a report hold",
    .items = "SWEEP",
    .slow = true,
    .list = list,
    .run = run};
