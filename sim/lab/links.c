/* sim/lab/links.c - `ami-sim lab links`: agreements over the links that meters really have.
 *
 * The real meters and DCs in the simulator, with a narrow, lossy medium between them
 * (sim/medium.h). First all meters agree for the first time, then the leader dies and whoever was
 * in session with it agrees anew with the next one. What is asked for is when the last meter is in
 * session. A meter whose third flight was lost does not know that the DC is not; it learns that
 * with its next report, and is counted apart ("half open"). */
#include "base/check.h"
#include "sim/lab/figure.h"
#include "sim/lab/frames.h"
#include "sim/lab/lab.h"
#include "sim/lab/service.h"

#include <string.h>

#define METERS    127 /* behind one concentrator */
#define GIVE_UP_S 1200
#define TINY_S    60
#define QUIET_US  (30 * 86400 * SIM_SECOND) /* no reports: their time is not asked for */

/* network-profiles.md. Where it gives a range a value inside was chosen; fragments, what is sent
 * around them, tries and lengths of bursts are planning values throughout. */
static const struct profile {
    const char *name, *status;
    bool shared; /* one medium for all meters; else each has its own */
    struct sim_medium medium;
} profiles[] = {
    {"plc-prime",
     "rate published, rest planning",
     true,
     {5400, 128, 16, 3, 4, 200000, 1000000, 50000, 3}},
    {"plc-g3", "planning", true, {20000, 200, 24, 3, 4, 300000, 1500000, 50000, 3}},
    {"plc-hplc", "planning", true, {500000, 264, 16, 3, 4, 30000, 200000, 20000, 3}},
    {"rf-wisun",
     "rate published, rest planning",
     true,
     {50000, 200, 25, 3, 4, 50000, 300000, 20000, 2}},
    {"nbiot", "planning", false, {15000, 512, 40, 1, 4, 800000, 10000000, 10000, 2}},
    {"lte", "planning", false, {1000000, 1400, 40, 1, 4, 30000, 80000, 5000, 2}},
    {"wan-cn", "delay published", false, {10000000, 1400, 40, 1, 4, 4000, 44640, 0, 1}},
    {"fiber", "planning", false, {100000000, 1400, 40, 1, 4, 1000, 5000, 0, 1}},
};
#define PROFILES (sizeof profiles / sizeof profiles[0])

static const struct mode {
    const char *name;
    bool many, patient, staggered;
    bool all_schemes;
} modes[] = {
    {"one, usual time-outs", false, false, false, false},
    {"one, link's time-outs", false, true, false, true},
    {"127 at once, usual time-outs", true, false, false, false},
    {"127 at once, link's time-outs", true, true, false, false},
    {"127 staggered, link's time-outs", true, true, true, true},
};
#define MODES (sizeof modes / sizeof modes[0])

static const struct lab_column columns[] = {
    {.name = "profile", .title = "link"},
    {.name = "scheme", .title = "scheme"},
    {.name = "mode", .title = "meters"},
    {.name = "spread", .title = "spread", .unit = "s", .decimals = 1, .source = LAB_ASSUMED},
    {.name = "answer", .title = "time-out", .unit = "s", .decimals = 1, .source = LAB_ASSUMED},
    {.name = "first",
     .title = "first agreement",
     .unit = "s",
     .decimals = 2,
     .source = LAB_SIMULATED},
    {.name = "missing", .title = "to re-key", .source = LAB_SIMULATED},
    {.name = "half", .title = "half re-keyed", .unit = "s", .decimals = 2, .source = LAB_SIMULATED},
    {.name = "all", .title = "all re-keyed", .unit = "s", .decimals = 2, .source = LAB_SIMULATED},
    {.name = "served", .title = "in session", .unit = "%", .decimals = 0, .source = LAB_SIMULATED},
    {.name = "half_open", .title = "half open", .source = LAB_SIMULATED},
    {.name = "attempts",
     .title = "first flights",
     .unit = "a meter",
     .decimals = 2,
     .source = LAB_SIMULATED},
    {.name = "bytes",
     .title = "sent",
     .unit = "bytes a meter",
     .decimals = 0,
     .source = LAB_SIMULATED},
    {.name = "airtime", .title = "air", .unit = "s", .decimals = 1, .source = LAB_SIMULATED},
    {.name = "repeated",
     .title = "fragments repeated",
     .unit = "%",
     .decimals = 1,
     .source = LAB_SIMULATED},
    {.name = "lost", .title = "frames lost", .unit = "%", .decimals = 2, .source = LAB_SIMULATED},
    {0}};

static const struct lab_column profile_columns[] = {
    {.name = "profile", .title = "link"},
    {.name = "status", .title = "status of the figures"},
    {.name = "rate", .title = "rate", .unit = "kb/s", .decimals = 1, .source = LAB_ASSUMED},
    {.name = "hops", .title = "hops", .source = LAB_ASSUMED},
    {.name = "latency_least",
     .title = "a hop, least",
     .unit = "ms",
     .decimals = 0,
     .source = LAB_ASSUMED},
    {.name = "latency_most", .title = "most", .unit = "ms", .decimals = 0, .source = LAB_ASSUMED},
    {.name = "loss", .title = "fragments lost", .unit = "%", .decimals = 1, .source = LAB_ASSUMED},
    {.name = "burst", .title = "burst", .unit = "fragments", .source = LAB_ASSUMED},
    {.name = "fragment", .title = "fragment", .unit = "bytes", .source = LAB_ASSUMED},
    {.name = "shared", .title = "medium"},
    {0}};

static const struct lab_column air_columns[] = {
    {.name = "profile", .title = "link"},
    {.name = "scheme", .title = "scheme"},
    {.name = "fragments", .title = "fragments", .source = LAB_SIMULATED},
    {.name = "air",
     .title = "air, one agreement",
     .unit = "s",
     .decimals = 3,
     .source = LAB_SIMULATED},
    {.name = "air_all",
     .title = "127 agreements",
     .unit = "s",
     .decimals = 1,
     .source = LAB_SIMULATED},
    {0}};

static const struct lab_figure figures[] = {
    {.kind = LAB_BARS,
     .name = "rekey",
     .title = "After a change of leader: until all meters are in session again (sm2kx)",
     .table = "links",
     .x = "profile",
     .y = {"all"},
     .series = "mode",
     .y_log = true,
     .only = "scheme",
     .is = "sm2kx"},
    {.kind = LAB_BARS,
     .name = "schemes",
     .title = "The same by scheme: 127 meters, staggered",
     .table = "links",
     .x = "profile",
     .y = {"all"},
     .series = "scheme",
     .y_log = true,
     .only = "mode",
     .is = "127 staggered, link's time-outs"},
    {.kind = LAB_BARS,
     .name = "air",
     .title = "Airtime of one agreement over all hops, nothing lost",
     .table = "air",
     .x = "profile",
     .y = {"air"},
     .series = "scheme",
     .y_log = true},
    {0}};

/* --- one case -------------------------------------------------------------------------------- */

struct onlooker {
    bool changed; /* something arrived that can begin or end a session */
    uint64_t first_flights;
};

static void on_arrived(void *ctx, struct sim_world *w, uint16_t from, uint16_t to,
                       struct span frame)
{
    struct onlooker *o = ctx;
    (void)w;
    (void)from;
    (void)to;
    if (frame.size > 1 &&
        (frame.data[1] == MSG_AGREE_FLIGHT2 || frame.data[1] == MSG_SESSION_ENDED))
        o->changed = true;
}

static void on_sent(void *ctx, struct sim_world *w, uint16_t from, uint16_t to, struct span frame)
{
    struct onlooker *o = ctx;
    (void)w;
    (void)from;
    (void)to;
    if (frame.size > 1 && frame.data[1] == MSG_AGREE_FLIGHT1)
        o->first_flights++;
}

struct result {
    double first_s, half_s, all_s; /* negative: not in time */
    size_t missing;                /* meters that had to agree anew */
    size_t there, half_open;       /* in session at the end */
    uint64_t first_flights;
    struct sim_medium_state medium; /* of re-keying, summed over media */
    char violation[256];
};

/* Until all are in session; the times since `from_us` at which half of `missing` and all were. */
static size_t await_sessions(struct sim_world *w, struct onlooker *o, uint64_t from_us,
                             size_t missing, double *half_s, double *all_s)
{
    size_t meters = w->plan.meters, there = lab_count_meters(w, lab_in_session);
    uint64_t limit_us = from_us + w->plan.liveness_us;
    *half_s = *all_s = -1;
    while (w->now_us < limit_us && w->violation[0] == 0) {
        if (o->changed) {
            there = lab_count_meters(w, lab_in_session);
            o->changed = false;
        }
        if (*half_s < 0 && 2 * (meters - there) <= missing)
            *half_s = (double)(w->now_us - from_us) / 1e6;
        if (there == meters) {
            *all_s = (double)(w->now_us - from_us) / 1e6;
            break;
        }
        (void)sim_world_step(w, limit_us);
    }
    return lab_count_meters(w, lab_in_session);
}

static struct sim_medium_state medium_sum(const struct sim_world *w)
{
    struct sim_medium_state sum = {0};
    for (uint16_t i = w->dcs; i < w->dcs + w->fleets; i++) {
        const struct sim_medium_state *s = &w->host[i].as.fleet->medium;
        sum.airtime_us += s->airtime_us;
        sum.frames += s->frames;
        sum.frames_lost += s->frames_lost;
        sum.bytes += s->bytes;
        sum.fragments += s->fragments;
        sum.fragments_repeated += s->fragments_repeated;
    }
    return sum;
}

static void subtract(struct sim_medium_state *a, const struct sim_medium_state *b)
{
    a->airtime_us -= b->airtime_us;
    a->frames -= b->frames;
    a->frames_lost -= b->frames_lost;
    a->bytes -= b->bytes;
    a->fragments -= b->fragments;
    a->fragments_repeated -= b->fragments_repeated;
}

static void run_case(struct result *r, const struct sim_plan *plan)
{
    struct onlooker o = {.changed = true};
    const struct sim_watch watch = {.ctx = &o, .sent = on_sent, .arrived = on_arrived};
    struct sim_world *w = sim_world_new(plan, NULL);
    double half_s;
    memset(r, 0, sizeof *r);
    w->watch = &watch;
    if (!lab_open_network(w, 60 * SIM_SECOND)) {
        snprintf(r->violation, sizeof r->violation, "%s",
                 w->violation[0] != 0 ? w->violation : "no leader, or enrolments not committed");
        sim_world_free(w);
        return;
    }
    (void)await_sessions(w, &o, w->now_us, w->plan.meters, &half_s, &r->first_s);
    sim_world_run(w, w->now_us + 10 * SIM_SECOND);
    struct sim_medium_state before = medium_sum(w);
    struct sim_host *leader = lab_leader(w);
    o.first_flights = 0;
    o.changed = true;
    if (leader != NULL)
        lab_kill_leader(leader);
    r->missing = w->plan.meters - lab_count_meters(w, lab_in_session);
    r->there = await_sessions(w, &o, w->now_us, r->missing, &r->half_s, &r->all_s);
    sim_world_run(w, w->now_us + 10 * SIM_SECOND); /* third flights are still on their way */
    r->half_open = lab_count_meters(w, lab_in_session) - lab_count_meters(w, lab_served);
    r->first_flights = o.first_flights;
    r->medium = medium_sum(w);
    subtract(&r->medium, &before);
    snprintf(r->violation, sizeof r->violation, "%s", w->violation);
    sim_world_free(w);
}

/* --- the experiment -------------------------------------------------------------------------- */

/* Air of one agreement by way of a DC that does not lead. */
static uint64_t agreement_us(const struct sim_medium *m, const struct lab_frame_size f[LAB_FRAMES])
{
    uint64_t us = sim_medium_frame_us(m, f[LAB_FRAME_FLIGHT1].frame_bytes);
    for (int i = 0; i < LAB_FRAMES; i++)
        us += sim_medium_frame_us(m, f[i].frame_bytes);
    return us;
}

static void make_plan(struct sim_plan *p, const struct profile *f, const struct mode *m,
                      const struct scheme *scheme, uint64_t air_us, const struct lab_options *o)
{
    sim_plan_calm(p, o->seed);
    p->scheme = scheme->number;
    p->meters = m->many ? (unsigned)lab_size(o, METERS, 8) : 1;
    p->fleets = f->shared ? 1 : p->meters;
    p->delay_mean_us = 3 * SIM_MS; /* fiber behind the medium and between DCs */
    p->report_every_us = QUIET_US;
    p->liveness_us = lab_size(o, GIVE_UP_S, TINY_S) * SIM_SECOND; /* then it is given up */
    p->medium = f->medium;
    uint64_t trip_us = 2 * f->medium.hops * f->medium.hop_us_max + air_us;
    if (m->patient) {
        p->meter_answer_ms = (uint32_t)(2 * trip_us / 1000 + 100);
        p->meter_answer_ms_max = 8 * p->meter_answer_ms;
    }
    /* A quarter more than the air that all of them need. Where each has its own medium it is the
     * DC that is spared, and a few seconds do. */
    if (m->staggered)
        p->meter_spread_ms =
            (uint32_t)((f->shared ? air_us * p->meters / 1000 * 5 / 4 : 2000) + 50);
    /* Waiting for one's turn is no reason to insist. */
    if (m->patient)
        p->meter_insist_ms = 4 * p->meter_answer_ms + 2 * p->meter_spread_ms;
}

static void put_time(struct lab_table *t, double s)
{
    if (s < 0)
        lab_none(t);
    else
        lab_real(t, s);
}

static void put_case(struct lab_table *t, const struct profile *f, const struct mode *m,
                     const struct scheme *scheme, const struct sim_plan *p, const struct result *r)
{
    const struct meter_timing usual = meter_timing_default();
    double meters = p->meters;
    lab_text(t, "%s", f->name);
    lab_text(t, "%s", scheme->name);
    lab_text(t, "%s", m->name);
    lab_real(t, (p->meter_spread_ms == 0 ? usual.spread_ms : p->meter_spread_ms) / 1e3);
    lab_real(t, (p->meter_answer_ms == 0 ? usual.answer_ms : p->meter_answer_ms) / 1e3);
    put_time(t, r->first_s);
    lab_integer(t, (int64_t)r->missing);
    put_time(t, r->missing == 0 ? -1 : r->half_s);
    put_time(t, r->missing == 0 ? -1 : r->all_s);
    lab_real(t, 100.0 * (double)r->there / meters);
    lab_integer(t, (int64_t)r->half_open);
    lab_real(t, (double)r->first_flights / meters);
    lab_real(t, (double)r->medium.bytes / meters);
    lab_real(t, (double)r->medium.airtime_us / 1e6);
    lab_real(t, r->medium.fragments == 0
                    ? 0
                    : 100.0 * (double)r->medium.fragments_repeated / (double)r->medium.fragments);
    lab_real(t, r->medium.frames == 0
                    ? 0
                    : 100.0 * (double)r->medium.frames_lost / (double)r->medium.frames);
}

static void put_profiles(struct lab_table *t)
{
    for (size_t i = 0; i < PROFILES; i++) {
        const struct profile *f = &profiles[i];
        lab_text(t, "%s", f->name);
        lab_text(t, "%s", f->status);
        lab_real(t, f->medium.rate_bps / 1e3);
        lab_integer(t, f->medium.hops);
        lab_real(t, f->medium.hop_us_min / 1e3);
        lab_real(t, f->medium.hop_us_max / 1e3);
        lab_real(t, f->medium.loss_ppm / 1e4);
        lab_integer(t, f->medium.burst_fragments);
        lab_integer(t, f->medium.fragment_bytes);
        lab_text(t, f->shared ? "shared" : "one each");
    }
}

static void put_air(struct lab_table *t, const struct profile *f, const struct scheme *scheme,
                    const struct lab_frame_size frames[LAB_FRAMES])
{
    static const enum lab_frame direct[] = {LAB_FRAME_FLIGHT1, LAB_FRAME_FLIGHT2,
                                            LAB_FRAME_FLIGHT3};
    uint64_t us = 0, fragments = 0;
    for (size_t i = 0; i < 3; i++) {
        size_t size = frames[direct[i]].frame_bytes;
        us += sim_medium_frame_us(&f->medium, size);
        fragments += (size + f->medium.fragment_bytes - 1) / f->medium.fragment_bytes;
    }
    lab_text(t, "%s", f->name);
    lab_text(t, "%s", scheme->name);
    lab_integer(t, (int64_t)fragments);
    lab_real(t, (double)us / 1e6);
    lab_real(t, f->shared ? METERS * (double)us / 1e6 : (double)us / 1e6);
}

/* Networks of schemes that keyagree/ has; the laboratory's own have no ledger. */
static bool has_network(const struct scheme *s)
{
    return scheme_by_number(s->number) == s;
}

static void run_profile(const struct profile *f, const struct lab_options *o,
                        struct lab_output *out, struct lab_table *t, struct lab_table *air,
                        struct progress *progress, uint64_t *done)
{
    for (const struct scheme *s = NULL; (s = lab_scheme_next(o, s)) != NULL;) {
        struct lab_frame_size frames[LAB_FRAMES];
        struct lab_pair *pair = lab_pair_new(s, o->seed);
        lab_frames_measure(frames, pair);
        lab_pair_free(pair);
        put_air(air, f, s, frames);
        for (size_t m = 0; m < MODES && has_network(s); m++) {
            struct sim_plan p;
            struct result r;
            if (s->number != SCHEME_DEFAULT && !modes[m].all_schemes)
                continue;
            make_plan(&p, f, &modes[m], s, agreement_us(&f->medium, frames), o);
            run_case(&r, &p);
            if (r.violation[0] != 0)
                lab_fail(out, "%s, %s, %s: %s", f->name, s->name, modes[m].name, r.violation);
            put_case(t, f, &modes[m], s, &p, &r);
            progress_update(progress, ++*done, f->name);
        }
    }
}

static enum ami_status run(const struct lab_options *o, struct lab_output *out, struct why *why)
{
    struct lab_table *t =
        lab_table(out, "links",
                  "Meters in session: first, and after a change of leader (virtual time)", columns);
    struct lab_table *air =
        lab_table(out, "air", "What one agreement needs of the medium", air_columns);
    struct lab_table *list = lab_table(out, "profiles", "The links", profile_columns);
    struct progress progress;
    uint64_t done = 0;
    (void)why;
    lab_progress(o, &progress, "links", "runs", 0);
    for (size_t i = 0; i < PROFILES; i++)
        run_profile(&profiles[i], o, out, t, air, &progress, &done);
    progress_end(&progress, NULL);
    put_profiles(list);
    lab_note(out,
             "A row without a time: not all were in session %llu minutes after the change, or "
             "nobody had to agree anew, since meters that had waited long had gone to other DCs.",
             (unsigned long long)(GIVE_UP_S / 60));
    lab_note(out,
             "Policy gateway = leader, 4 DCs, T = 600 ms: the time without a leader is part of "
             "the time to re-key. Planning values are configuration, not measurements.");
    lab_note(out, "Usual time-outs are those of a meter as delivered (an answer within 2 s at "
                  "first). The link's: twice the longest round trip with all its air.");
    lab_figures(out, figures);
    return AMI_OK;
}

const struct lab_experiment lab_links = {
    .name = "links",
    .summary = "agreement and re-keying over power lines and radio, on virtual time",
    .slow = true,
    .run = run};
