/* sim/lab/gateways.c - `ami-sim lab gateways`: gateway = leader against gateway = home.
 *
 * Under the published scheme's policy every meter talks to the leader, so a change of leader ends
 * every session; under the other one each meter talks to its home DC, and only a dead DC's meters
 * move. The same network under both: it works for a while, its leader dies, it works on. */
#include "base/check.h"
#include "sim/lab/figure.h"
#include "sim/lab/lab.h"
#include "sim/lab/quantile.h"
#include "sim/lab/service.h"

#include <stdlib.h>
#include <string.h>

#define CALM_US   (20 * SIM_SECOND)
#define AFTER_US  (30 * SIM_SECOND)
#define REPORT_US (2 * SIM_SECOND)

static const struct lab_column columns[] = {
    {.name = "policy", .title = "gateway"},
    {.name = "meters", .title = "meters", .source = LAB_ASSUMED},
    {.name = "agreements", .title = "agreements after", .source = LAB_SIMULATED},
    {.name = "share", .title = "a meter", .decimals = 2, .source = LAB_SIMULATED},
    {.name = "leaderless",
     .title = "no leader",
     .unit = "s",
     .decimals = 2,
     .source = LAB_SIMULATED},
    {.name = "commit", .title = "no commit", .unit = "s", .decimals = 2, .source = LAB_SIMULATED},
    {.name = "sessions",
     .title = "all in session",
     .unit = "s",
     .decimals = 2,
     .source = LAB_SIMULATED},
    {.name = "gap",
     .title = "oldest report, median",
     .unit = "s",
     .decimals = 2,
     .source = LAB_SIMULATED},
    {.name = "gap_most",
     .title = "oldest report, most",
     .unit = "s",
     .decimals = 2,
     .source = LAB_SIMULATED},
    {.name = "made", .title = "reports made", .source = LAB_SIMULATED},
    {.name = "lost", .title = "not acknowledged", .source = LAB_SIMULATED},
    {0}};

static const struct lab_column load_columns[] = {
    {.name = "policy", .title = "gateway"},
    {.name = "phase", .title = "phase"},
    {.name = "dc", .title = "DC"},
    {.name = "role", .title = "role"},
    {.name = "answers", .title = "agreements answered", .source = LAB_SIMULATED},
    {.name = "reports", .title = "reports taken", .source = LAB_SIMULATED},
    {.name = "meter_bytes",
     .title = "from and to meters",
     .unit = "KB",
     .decimals = 1,
     .source = LAB_SIMULATED},
    {.name = "dc_bytes",
     .title = "sent to DCs",
     .unit = "KB",
     .decimals = 1,
     .source = LAB_SIMULATED},
    {.name = "share",
     .title = "of all reports",
     .unit = "%",
     .decimals = 0,
     .source = LAB_SIMULATED},
    {0}};

static const struct lab_figure figures[] = {
    {.kind = LAB_BARS,
     .name = "agreements",
     .title = "Agreements that a change of leader costs",
     .table = "policies",
     .x = "meters",
     .y = {"agreements"},
     .series = "policy",
     .y_log = true},
    {.kind = LAB_BARS,
     .name = "service",
     .title = "Until all meters are in session again",
     .table = "policies",
     .x = "meters",
     .y = {"sessions"},
     .series = "policy"},
    {.kind = LAB_BARS,
     .name = "load",
     .title = "Share of the reports that each DC takes, before the change",
     .table = "load",
     .x = "dc",
     .y = {"share"},
     .series = "policy",
     .only = "phase",
     .is = "before"},
    {0}};

struct load {
    uint64_t answers, reports, meter_bytes, dc_bytes;
};

struct onlooker {
    struct load load[SIM_MEMBERS];
    uint64_t agreements;
    bool changed;
};

static void on_sent(void *ctx, struct sim_world *w, uint16_t from, uint16_t to, struct span frame)
{
    struct onlooker *o = ctx;
    enum sim_host_kind a = w->host[from].kind, b = w->host[to].kind;
    uint8_t type = frame.size > 1 ? frame.data[1] : 0;
    if (a == SIM_DC && b == SIM_DC)
        o->load[from].dc_bytes += frame.size;
    if (a == SIM_DC && b == SIM_FLEET) {
        o->load[from].meter_bytes += frame.size;
        o->load[from].answers += type == MSG_AGREE_FLIGHT2;
    }
    if (a == SIM_FLEET && b == SIM_DC) {
        o->load[to].meter_bytes += frame.size;
        o->load[to].reports += type == MSG_SESSION_DATA;
    }
}

static void on_arrived(void *ctx, struct sim_world *w, uint16_t from, uint16_t to,
                       struct span frame)
{
    struct onlooker *o = ctx;
    (void)w;
    (void)from;
    (void)to;
    if (frame.size > 1 &&
        (frame.data[1] == MSG_AGREE_FLIGHT3 || frame.data[1] == MSG_SESSION_ENDED))
        o->changed = true;
}

static void on_noted(void *ctx, struct sim_meter *m, enum meter_note_kind kind, uint64_t value)
{
    struct onlooker *o = ctx;
    (void)m;
    (void)value;
    o->agreements += kind == METER_NOTE_AGREED;
}

struct result {
    uint64_t agreements, made, lost;
    double leaderless_s, commit_s, sessions_s, gap_s, gap_most_s;
    struct load before[SIM_MEMBERS], after[SIM_MEMBERS];
    uint16_t first, second; /* leaders */
    char violation[256];
};

/* How long each meter waited at worst for the acknowledgement of a report that was open at the
 * change or made soon after it. */
static void measure_gaps(struct result *r, const struct sim_world *w, uint64_t died_us)
{
    double *gap = calloc(w->plan.meters, sizeof *gap);
    size_t count = 0;
    AMI_CHECK(gap != NULL);
    for (uint16_t i = w->dcs; i < w->dcs + w->fleets; i++) {
        const struct sim_fleet *f = w->host[i].as.fleet;
        for (size_t k = 0; k < f->count; k++) {
            uint64_t worst = 0;
            const struct sim_book *b = sim_book(&f->meter[k]);
            for (size_t n = 0; n < b->reports; n++) {
                const struct sim_report *p = &b->report[n];
                uint64_t end = p->acknowledged_us == 0 ? w->now_us : p->acknowledged_us;
                if (end >= died_us && p->made_us < died_us + AFTER_US / 2 &&
                    end - p->made_us > worst)
                    worst = end - p->made_us;
            }
            gap[count++] = (double)worst / 1e6;
        }
    }
    lab_sort(gap, count);
    r->gap_s = lab_quantile(gap, count, 0.5);
    r->gap_most_s = lab_quantile(gap, count, 1);
    free(gap);
}

static double since_s(const struct sim_world *w, uint64_t from_us)
{
    return (double)(w->now_us - from_us) / 1e6;
}

/* From the leader's death on, as long as anything is still to be seen. */
static void after_the_death(struct result *r, struct sim_world *w, struct onlooker *o)
{
    uint64_t died_us = w->now_us, height = lab_height(w);
    r->leaderless_s = r->commit_s = r->sessions_s = -1;
    o->changed = true;
    while (w->now_us < died_us + AFTER_US && w->violation[0] == 0) {
        (void)sim_world_step(w, died_us + AFTER_US);
        struct sim_host *leader = r->leaderless_s < 0 ? lab_leader(w) : NULL;
        if (leader != NULL && leader->as.dc->leads_since_us > died_us) {
            r->leaderless_s = since_s(w, died_us);
            r->second = leader->index;
        }
        if (r->commit_s < 0 && lab_height(w) > height)
            r->commit_s = since_s(w, died_us);
        if (o->changed && r->sessions_s < 0) {
            o->changed = false;
            if (lab_count_meters(w, lab_served) == w->plan.meters)
                r->sessions_s = since_s(w, died_us);
        }
    }
    measure_gaps(r, w, died_us);
}

static void stop_reports(struct sim_world *w)
{
    for (uint16_t i = w->dcs; i < w->dcs + w->fleets; i++)
        w->host[i].as.fleet->stopped = true;
    sim_world_run(w, w->now_us + 60 * SIM_SECOND);
}

static void run_case(struct result *r, enum gateway_policy policy, unsigned meters,
                     const struct lab_options *opt)
{
    struct sim_plan p;
    struct onlooker o = {.changed = true};
    const struct sim_watch watch = {
        .ctx = &o, .sent = on_sent, .arrived = on_arrived, .noted = on_noted};
    memset(r, 0, sizeof *r);
    sim_plan_calm(&p, opt->seed);
    p.gateway = policy;
    p.meters = meters;
    p.fleets = 4;
    p.delay_mean_us = 3 * SIM_MS;
    p.report_every_us = REPORT_US;
    struct sim_world *w = sim_world_new(&p, NULL);
    if (!lab_open_network(w, 60 * SIM_SECOND))
        sim_violate(w, "liveness", "no leader that knows the meters after a minute");
    sim_world_run(w, w->now_us + CALM_US / 2);
    w->watch = &watch;
    sim_world_run(w, w->now_us + CALM_US);
    struct sim_host *leader = lab_leader(w);
    if (leader == NULL || w->violation[0] != 0) {
        snprintf(r->violation, sizeof r->violation, "%s",
                 w->violation[0] != 0 ? w->violation : "no leader in a calm network");
        sim_world_free(w);
        return;
    }
    memcpy(r->before, o.load, sizeof r->before);
    memset(&o, 0, sizeof o);
    r->first = r->second = leader->index;
    lab_kill_leader(leader);
    after_the_death(r, w, &o);
    r->agreements = o.agreements;
    memcpy(r->after, o.load, sizeof r->after);
    stop_reports(w);
    r->made = w->count.reports_made;
    r->lost = r->made - w->count.reports_acknowledged;
    snprintf(r->violation, sizeof r->violation, "%s", w->violation);
    sim_world_free(w);
}

static void put_time(struct lab_table *t, double s)
{
    if (s < 0)
        lab_none(t);
    else
        lab_real(t, s);
}

static void put_load(struct lab_table *t, const char *policy, const char *phase,
                     const struct load *load, uint16_t leader, int dead)
{
    uint64_t all = 0;
    for (int i = 0; i < 4; i++)
        all += load[i].reports;
    for (int i = 0; i < 4; i++) {
        lab_text(t, "%s", policy);
        lab_text(t, "%s", phase);
        lab_text(t, "dc-%d", i + 1);
        lab_text(t, "%s", i == dead ? "dead" : i == leader ? "leader" : "follower");
        lab_integer(t, (int64_t)load[i].answers);
        lab_integer(t, (int64_t)load[i].reports);
        lab_real(t, (double)load[i].meter_bytes / 1e3);
        lab_real(t, (double)load[i].dc_bytes / 1e3);
        lab_real(t, all == 0 ? 0 : 100.0 * (double)load[i].reports / (double)all);
    }
}

static enum ami_status run(const struct lab_options *o, struct lab_output *out, struct why *why)
{
    static const unsigned sizes[] = {20, 60, 200};
    static const struct {
        const char *name;
        enum gateway_policy policy;
    } policies[] = {{"leader", GATEWAY_LEADER}, {"home", GATEWAY_HOME}};
    struct lab_table *t =
        lab_table(out, "policies", "What a dead leader costs the meters (virtual time)", columns);
    struct lab_table *load =
        lab_table(out, "load", "Load of each DC, with the largest number of meters", load_columns);
    size_t count = lab_size(o, sizeof sizes / sizeof sizes[0], 1);
    struct progress progress;
    uint64_t done = 0;
    (void)why;
    lab_progress(o, &progress, "gateways", "runs", 2 * count);
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < 2; k++) {
            struct result r;
            run_case(&r, policies[k].policy, sizes[i], o);
            if (r.violation[0] != 0)
                lab_fail(out, "gateway = %s, %u meters: %s", policies[k].name, sizes[i],
                         r.violation);
            if (r.lost != 0)
                lab_fail(out, "gateway = %s, %u meters: %llu reports were never acknowledged",
                         policies[k].name, sizes[i], (unsigned long long)r.lost);
            lab_text(t, "%s", policies[k].name);
            lab_integer(t, sizes[i]);
            lab_integer(t, (int64_t)r.agreements);
            lab_real(t, (double)r.agreements / sizes[i]);
            put_time(t, r.leaderless_s);
            put_time(t, r.commit_s);
            put_time(t, r.sessions_s);
            lab_real(t, r.gap_s);
            lab_real(t, r.gap_most_s);
            lab_integer(t, (int64_t)r.made);
            lab_integer(t, (int64_t)r.lost);
            if (i + 1 == count) {
                put_load(load, policies[k].name, "before", r.before, r.first, -1);
                put_load(load, policies[k].name, "after", r.after, r.second, r.first);
            }
            progress_update(&progress, ++done, NULL);
        }
    }
    progress_end(&progress, NULL);
    lab_note(out,
             "4 DCs over fiber, a report from each meter about every 2 s. \"oldest report\": the "
             "longest that a meter waited for an acknowledgement around the change.");
    lab_note(
        out,
        "\"agreements after\" counts the half minute after the leader's death; it stays dead.");
    lab_figures(out, figures);
    return AMI_OK;
}

const struct lab_experiment lab_gateways = {
    .name = "gateways",
    .summary = "gateway = leader against gateway = home: what a dead leader costs the meters",
    .run = run};
