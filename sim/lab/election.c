/* sim/lab/election.c - `ami-sim lab election`: how long a network is without a leader.
 *
 * A committee works, its leader dies, another one is elected, the dead one comes back; again and
 * again in one simulated network. Everything is virtual time: delays are drawn from the link's
 * distribution, what processors need is the plan's mean for a job, and nothing depends on this
 * machine. */
#include "sim/lab/election.h"

#include "base/check.h"
#include "crypto/sm2.h"
#include "sim/lab/figure.h"
#include "sim/lab/lab.h"
#include "sim/lab/quantile.h"
#include "sim/lab/service.h"
#include "sim/world.h"

#include <stdlib.h>
#include <string.h>

#define BEATS_KEPT  64        /* rounds whose answers are still counted */
#define BEATS_MAX   (1 << 16) /* samples of broadcast time */
#define PATIENCE_US (120 * SIM_SECOND)
#define MTBF_DAYS   30.0 /* of one DC: an assumption, on the careful side for servers */

/* --- one case -------------------------------------------------------------------------------- */

struct beat {
    uint64_t round, sent_us;
    uint16_t leader;
    unsigned answers;
};

struct onlooker {
    struct lab_elections *out;
    struct beat beat[BEATS_KEPT];
    unsigned quorum;
    uint64_t asked_us; /* since the death; 0: nobody yet */
};

static void on_sent(void *ctx, struct sim_world *w, uint16_t from, uint16_t to, struct span frame)
{
    static struct heartbeat b; /* large */
    struct onlooker *o = ctx;
    enum message_type type;
    struct span body;
    (void)to;
    if (frame_open(frame, &type, &body) != AMI_OK || type != MSG_HEARTBEAT ||
        heartbeat_parse(&b, body) != AMI_OK)
        return;
    struct beat *at = &o->beat[b.round % BEATS_KEPT];
    if (at->round != b.round || at->leader != from)
        *at = (struct beat){.round = b.round, .leader = from, .sent_us = w->now_us};
}

static void on_arrived(void *ctx, struct sim_world *w, uint16_t from, uint16_t to,
                       struct span frame)
{
    struct onlooker *o = ctx;
    struct heartbeat_ack a;
    enum message_type type;
    struct span body;
    (void)from;
    if (frame_open(frame, &type, &body) != AMI_OK || type != MSG_HEARTBEAT_ACK ||
        heartbeat_ack_parse(&a, body) != AMI_OK)
        return;
    struct beat *at = &o->beat[a.round % BEATS_KEPT];
    if (at->round != a.round || at->leader != to || at->sent_us == 0)
        return;
    /* The leader is one of its quorum. */
    if (++at->answers + 1 == o->quorum && o->out->beats < BEATS_MAX)
        o->out->broadcast_ms[o->out->beats++] = (double)(w->now_us - at->sent_us) / 1e3;
}

static void on_said(void *ctx, struct sim_host *dc, const char *event, const char *detail)
{
    struct onlooker *o = ctx;
    (void)detail;
    if (o->asked_us == 0 && strcmp(event, "election") == 0)
        o->asked_us = dc->world->now_us;
}

static struct sim_host *leader_since(struct sim_world *w, uint64_t since_us)
{
    for (uint16_t i = 0; i < w->dcs; i++) {
        struct sim_host *h = &w->host[i];
        if (h->up && h->as.dc->leads_since_us > since_us)
            return h;
    }
    return NULL;
}

static struct sim_host *await_leader(struct sim_world *w, uint64_t since_us)
{
    struct sim_host *h;
    uint64_t limit_us = w->now_us + PATIENCE_US;
    while ((h = leader_since(w, since_us)) == NULL && w->now_us < limit_us && w->violation[0] == 0)
        (void)sim_world_step(w, limit_us);
    return h;
}

/* False: none was elected, or an invariant broke. */
static bool one_election(struct sim_world *w, struct onlooker *o, struct lab_elections *out)
{
    struct sim_host *old = await_leader(w, 0);
    if (old == NULL)
        return false;
    sim_world_run(w, w->now_us + SIM_SECOND + sim_random_below(&w->faults, SIM_SECOND));
    old = leader_since(w, 0);
    if (old == NULL) /* deposed meanwhile: heartbeats were lost */
        old = await_leader(w, 0);
    if (old == NULL)
        return false;
    uint64_t height = lab_height(w), died_us = w->now_us, attempts = w->count.attempts;
    o->asked_us = 0;
    lab_kill_leader(old);
    struct sim_host *now = await_leader(w, died_us);
    if (now == NULL)
        return false;
    /* A leader elected just before it heard of nothing may be there without anybody asking. */
    uint64_t leads_us = w->now_us, asked_us = o->asked_us == 0 ? died_us : o->asked_us;
    uint64_t asking = w->count.attempts - attempts;
    while (lab_height(w) <= height && w->now_us < leads_us + PATIENCE_US && w->violation[0] == 0)
        (void)sim_world_step(w, leads_us + PATIENCE_US);
    size_t i = out->count++;
    out->detect_ms[i] = (double)(asked_us - died_us) / 1e3;
    out->elect_ms[i] = (double)(leads_us - asked_us) / 1e3;
    out->total_ms[i] = (double)(leads_us - died_us) / 1e3;
    out->commit_ms[i] = (double)(w->now_us - died_us) / 1e3;
    out->attempts += (double)asking;
    sim_host_start(old);
    sim_world_run(w, w->now_us + 2 * SIM_SECOND);
    return w->violation[0] == 0;
}

static double *samples(size_t count)
{
    double *out = calloc(count, sizeof *out);
    AMI_CHECK(out != NULL);
    return out;
}

void lab_elections_run(struct lab_elections *out, const struct lab_election_case *c)
{
    struct sim_plan p;
    AMI_CHECK(c->timeout_ms % 6 == 0 && c->elections > 0);
    *out = (struct lab_elections){.detect_ms = samples(c->elections),
                                  .elect_ms = samples(c->elections),
                                  .total_ms = samples(c->elections),
                                  .commit_ms = samples(c->elections),
                                  .broadcast_ms = samples(BEATS_MAX)};
    sim_plan_calm(&p, c->seed);
    p.dcs = c->dcs;
    p.heartbeat_ms = c->timeout_ms / 6;
    p.delay_mean_us = c->delay_mean_us;
    p.loss_ppm = c->loss_ppm;
    /* Reports keep coming by way of the DCs that live, so that a new leader has what to commit. */
    p.gateway = GATEWAY_HOME;
    p.fleets = 1;
    p.meters = 6;
    p.report_every_us = SIM_SECOND;
    struct sim_world *w = sim_world_new(&p, NULL);
    sm2_signers_forget(); /* of networks of before: there is room for some only */
    genesis_remember_signers(&w->cast->genesis);
    struct onlooker o = {.out = out, .quorum = members_quorum(c->dcs)};
    const struct sim_watch watch = {
        .ctx = &o, .sent = on_sent, .arrived = on_arrived, .said = on_said};
    w->watch = &watch;
    while (out->count < c->elections && one_election(w, &o, out))
        ;
    if (out->count < c->elections)
        snprintf(out->violation, sizeof out->violation, "%s",
                 w->violation[0] != 0 ? w->violation : "no leader within two minutes");
    out->virtual_s = (double)w->now_us / 1e6;
    sim_world_free(w);
    if (out->count > 0)
        out->attempts /= (double)out->count;
    lab_sort(out->detect_ms, out->count);
    lab_sort(out->elect_ms, out->count);
    lab_sort(out->total_ms, out->count);
    lab_sort(out->commit_ms, out->count);
    lab_sort(out->broadcast_ms, out->beats);
}

void lab_elections_free(struct lab_elections *e)
{
    free(e->detect_ms);
    free(e->elect_ms);
    free(e->total_ms);
    free(e->commit_ms);
    free(e->broadcast_ms);
}

/* --- the experiment -------------------------------------------------------------------------- */

/* One-way delays are exponential with the mean of the profile's range (network-profiles.md); that
 * of wan-cn has half of the published round trip's mean, and its spread comes close to the
 * published one. */
static const struct {
    const char *name;
    uint64_t delay_mean_us;
} links[] = {{"loopback", 50}, {"fiber", 3000}, {"wan-cn", 24320}, {"lte", 55000}};

enum { LOOPBACK, FIBER, WAN_CN, LTE };

static const struct row {
    const char *sweep;
    unsigned dcs;
    uint32_t timeout_ms;
    unsigned link;
    uint32_t loss_ppm;
} rows[] = {
    {"DCs", 4, 600, FIBER, 0},        {"DCs", 7, 600, FIBER, 0},
    {"DCs", 10, 600, FIBER, 0},       {"DCs", 13, 600, FIBER, 0},
    {"DCs", 22, 600, FIBER, 0},       {"DCs", 31, 600, FIBER, 0},
    {"time-out", 4, 150, WAN_CN, 0},  {"time-out", 4, 300, WAN_CN, 0},
    {"time-out", 4, 600, WAN_CN, 0},  {"time-out", 4, 1200, WAN_CN, 0},
    {"time-out", 4, 2400, WAN_CN, 0}, {"link", 4, 600, LOOPBACK, 0},
    {"link", 4, 600, FIBER, 0},       {"link", 4, 600, WAN_CN, 0},
    {"link", 4, 600, LTE, 0},         {"loss", 4, 600, WAN_CN, 0},
    {"loss", 4, 600, WAN_CN, 10000},  {"loss", 4, 600, WAN_CN, 50000},
    {"loss", 4, 600, WAN_CN, 100000}, {"loss", 4, 600, WAN_CN, 200000},
};
#define ROWS (sizeof rows / sizeof rows[0])

static const struct lab_column columns[] = {
    {.name = "sweep", .title = "varied"},
    {.name = "label", .title = "case"},
    {.name = "dcs", .title = "DCs", .source = LAB_ASSUMED},
    {.name = "timeout", .title = "T", .unit = "ms", .source = LAB_ASSUMED},
    {.name = "link", .title = "link"},
    {.name = "loss", .title = "loss", .unit = "%", .decimals = 0, .source = LAB_ASSUMED},
    {.name = "elections", .title = "elections", .source = LAB_SIMULATED},
    {.name = "least", .title = "least", .unit = "ms", .decimals = 0, .source = LAB_SIMULATED},
    {.name = "quarter", .title = "1/4", .unit = "ms", .decimals = 0, .source = LAB_SIMULATED},
    {.name = "median", .title = "median", .unit = "ms", .decimals = 0, .source = LAB_SIMULATED},
    {.name = "three_quarters", .title = "3/4", .unit = "ms", .source = LAB_SIMULATED},
    {.name = "most", .title = "most", .unit = "ms", .decimals = 0, .source = LAB_SIMULATED},
    {.name = "detect", .title = "noticed", .unit = "ms", .decimals = 0, .source = LAB_SIMULATED},
    {.name = "elect", .title = "voted", .unit = "ms", .decimals = 1, .source = LAB_SIMULATED},
    {.name = "commit", .title = "commits", .unit = "ms", .decimals = 0, .source = LAB_SIMULATED},
    {.name = "attempts",
     .title = "candidates",
     .unit = "per election",
     .decimals = 1,
     .source = LAB_SIMULATED},
    {0}};

static const struct lab_column inequality_columns[] = {
    {.name = "link", .title = "link"},
    {.name = "dcs", .title = "DCs", .source = LAB_ASSUMED},
    {.name = "broadcast",
     .title = "broadcast, median",
     .unit = "ms",
     .decimals = 2,
     .source = LAB_SIMULATED},
    {.name = "broadcast_p99",
     .title = "broadcast, p99",
     .unit = "ms",
     .decimals = 2,
     .source = LAB_SIMULATED},
    {.name = "timeout", .title = "T", .unit = "ms", .source = LAB_ASSUMED},
    {.name = "mtbf",
     .title = "MTBF of a leader",
     .unit = "ms",
     .decimals = 0,
     .source = LAB_ASSUMED},
    {.name = "timeout_over_broadcast",
     .title = "T / broadcast",
     .decimals = 0,
     .source = LAB_SIMULATED},
    {.name = "mtbf_over_timeout", .title = "MTBF / T", .decimals = 0, .source = LAB_MODEL},
    {.name = "away",
     .title = "time without a leader",
     .unit = "ppm",
     .decimals = 3,
     .source = LAB_MODEL},
    {0}};

static const struct lab_figure figures[] = {
    {.kind = LAB_BOXES,
     .name = "dcs",
     .title = "Time without a leader, by number of DCs (fiber, T = 600 ms)",
     .table = "elections",
     .x = "label",
     .y = {"least", "quarter", "median", "three_quarters", "most"},
     .only = "sweep",
     .is = "DCs"},
    {.kind = LAB_BOXES,
     .name = "timeout",
     .title = "Time without a leader, by election time-out T (4 DCs, wan-cn)",
     .table = "elections",
     .x = "label",
     .y = {"least", "quarter", "median", "three_quarters", "most"},
     .only = "sweep",
     .is = "time-out"},
    {.kind = LAB_BOXES,
     .name = "link",
     .title = "Time without a leader, by link between DCs (4 DCs, T = 600 ms)",
     .table = "elections",
     .x = "label",
     .y = {"least", "quarter", "median", "three_quarters", "most"},
     .only = "sweep",
     .is = "link"},
    {.kind = LAB_BOXES,
     .name = "loss",
     .title = "Time without a leader, by loss of frames (4 DCs, wan-cn, T = 600 ms)",
     .table = "elections",
     .x = "label",
     .y = {"least", "quarter", "median", "three_quarters", "most"},
     .only = "sweep",
     .is = "loss"},
    {.kind = LAB_BARS,
     .name = "inequality",
     .title = "Broadcast time << election time-out << time between failures",
     .table = "inequality",
     .x = "link",
     .y = {"broadcast", "timeout", "mtbf"},
     .y_log = true},
    {0}};

static void label(char out[32], const struct row *r)
{
    if (strcmp(r->sweep, "DCs") == 0)
        snprintf(out, 32, "%u DCs", r->dcs);
    else if (strcmp(r->sweep, "time-out") == 0)
        snprintf(out, 32, "%u ms", r->timeout_ms);
    else if (strcmp(r->sweep, "link") == 0)
        snprintf(out, 32, "%s", links[r->link].name);
    else
        snprintf(out, 32, "%u %%", r->loss_ppm / 10000);
}

static void put_row(struct lab_table *t, const struct row *r, const struct lab_elections *e)
{
    static const double at[] = {0, 0.25, 0.5, 0.75, 1};
    char text[32];
    label(text, r);
    lab_text(t, "%s", r->sweep);
    lab_text(t, "%s", text);
    lab_integer(t, r->dcs);
    lab_integer(t, r->timeout_ms);
    lab_text(t, "%s", links[r->link].name);
    lab_real(t, (double)r->loss_ppm / 1e4);
    lab_integer(t, (int64_t)e->count);
    for (size_t i = 0; i < 5; i++)
        lab_real(t, lab_quantile(e->total_ms, e->count, at[i]));
    lab_real(t, lab_quantile(e->detect_ms, e->count, 0.5));
    lab_real(t, lab_quantile(e->elect_ms, e->count, 0.5));
    lab_real(t, lab_quantile(e->commit_ms, e->count, 0.5));
    lab_real(t, e->attempts);
}

static void put_inequality(struct lab_table *t, const struct row *r, const struct lab_elections *e)
{
    double broadcast = lab_quantile(e->broadcast_ms, e->beats, 0.5);
    double mtbf_ms = MTBF_DAYS * 86400e3;
    lab_text(t, "%s", links[r->link].name);
    lab_integer(t, r->dcs);
    lab_real(t, broadcast);
    lab_real(t, lab_quantile(e->broadcast_ms, e->beats, 0.99));
    lab_integer(t, r->timeout_ms);
    lab_real(t, mtbf_ms);
    lab_real(t, broadcast > 0 ? r->timeout_ms / broadcast : 0);
    lab_real(t, mtbf_ms / r->timeout_ms);
    lab_real(t, lab_quantile(e->total_ms, e->count, 0.5) / mtbf_ms * 1e6);
}

static enum ami_status run(const struct lab_options *o, struct lab_output *out, struct why *why)
{
    struct lab_table *t = lab_table(
        out, "elections", "Time without a leader after the leader's death (virtual time)", columns);
    struct lab_table *inequality = lab_table(
        out, "inequality", "Broadcast time << T << mean time between failures", inequality_columns);
    struct progress progress;
    (void)why;
    lab_progress(o, &progress, "elections", "cases", ROWS);
    for (size_t i = 0; i < ROWS; i++) {
        struct lab_elections e;
        if (o->tiny && rows[i].dcs > 7)
            continue;
        const struct lab_election_case c = {.dcs = rows[i].dcs,
                                            .timeout_ms = rows[i].timeout_ms,
                                            .delay_mean_us = links[rows[i].link].delay_mean_us,
                                            .loss_ppm = rows[i].loss_ppm,
                                            .elections = lab_size(o, rows[i].dcs > 10 ? 20 : 40, 2),
                                            .seed = o->seed};
        lab_elections_run(&e, &c);
        if (e.violation[0] != 0)
            lab_fail(out, "%s %u DCs, T = %u ms, %s: %s", rows[i].sweep, c.dcs, c.timeout_ms,
                     links[rows[i].link].name, e.violation);
        put_row(t, &rows[i], &e);
        if (strcmp(rows[i].sweep, "link") == 0) {
            put_inequality(inequality, &rows[i], &e);
            if (lab_quantile(e.broadcast_ms, e.beats, 0.5) * 3 > c.timeout_ms)
                lab_fail(out, "%s: broadcast time is not well below T", links[rows[i].link].name);
        }
        lab_elections_free(&e);
        progress_update(&progress, i + 1, NULL);
    }
    progress_end(&progress, NULL);
    lab_note(out, "Delays between DCs are exponential with the link's mean; a timer runs from T to "
                  "2T after the last sign of the leader.");
    lab_note(out, "\"noticed\": until the first DC asks for votes; \"voted\": from then until one "
                  "leads; \"commits\": from the death until a new block is on a disk. Medians.");
    lab_note(out,
             "The published scheme reports T_el from 10.5 to 520 ms. A DC is assumed to fail every "
             "%.0f days.",
             MTBF_DAYS);
    lab_figures(out, figures);
    return AMI_OK;
}

const struct lab_experiment lab_election = {
    .name = "election",
    .summary = "time without a leader by DCs, time-out, link and loss, on virtual time",
    .slow = true,
    .run = run};
