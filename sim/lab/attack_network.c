/* sim/lab/attack_network.c - a whole network on virtual time: the simulator's hosts, which are the
 * real cores, with an adversary on their links, among their DCs, or at their power switches. */
#include "sim/lab/attack.h"

#include "base/check.h"
#include "node/internal.h"
#include "sim/lab/count.h"
#include "sim/rules.h"
#include "sim/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- a network with somebody on its links ---------------------------------------------------- */

static void calm(struct attack_context *c, struct sim_plan *p)
{
    sim_plan_calm(p, c->seed);
    p->scheme = c->scheme->number;
    p->fleets = 1;
    p->meters = 2;
    p->report_every_us = 500 * SIM_MS;
}

/* Does this frame arrive? */
typedef bool tap_fn(void *ctx, struct sim_world *w, const struct sim_event *e,
                    enum message_type type);

static void lose(struct sim_world *w)
{
    struct sim_event e = sim_events_pop(&w->events);
    w->end[w->end[e.link].other].queued -= e.u.frame->size;
    sim_net_release(&e);
}

static void run_tapped(struct sim_world *w, uint64_t until_us, tap_fn *tap, void *ctx)
{
    const struct sim_event *e;
    while (w->violation[0] == 0 && (e = sim_events_next(&w->events)) != NULL &&
           e->at_us <= until_us) {
        enum message_type type;
        struct span body;
        if (e->type == SIM_FRAME &&
            frame_open(span_of(e->u.frame->bytes, e->u.frame->size), &type, &body) == AMI_OK &&
            !tap(ctx, w, e, type)) {
            lose(w);
            continue;
        }
        (void)sim_world_step(w, until_us);
    }
    if (w->violation[0] == 0 && w->now_us < until_us)
        (void)sim_world_step(w, until_us);
}

/* A frame arrives at this end of a link, as if the other end had sent it. */
static void inject(struct sim_world *w, env_link at, const uint8_t *frame, size_t size)
{
    struct sim_frame *f = malloc(sizeof *f + size);
    AMI_CHECK(f != NULL);
    f->size = size;
    memcpy(f->bytes, frame, size);
    w->end[w->end[at].other].queued += size;
    struct sim_event e = {.type = SIM_FRAME, .link = at};
    e.u.frame = f;
    sim_push_for(&w->host[w->end[at].host], e, w->now_us + 1);
}

/* When the first report of any meter that was made after `since` was acknowledged; 0: none was. */
static uint64_t served_since(const struct sim_world *w, uint64_t since)
{
    uint64_t first = 0;
    for (uint16_t f = w->dcs; f < w->dcs + w->fleets; f++)
        for (size_t i = 0; i < w->host[f].as.fleet->count; i++) {
            const struct sim_book *b = &w->host[f].as.fleet->meter[i].book[0]; /* nobody renews */
            for (size_t k = 0; k < b->reports; k++)
                if (b->report[k].made_us >= since && b->report[k].acknowledged_us != 0 &&
                    (first == 0 || b->report[k].acknowledged_us < first))
                    first = b->report[k].acknowledged_us;
        }
    return first;
}

static int leader_of(const struct sim_world *w)
{
    for (uint16_t i = 0; i < w->dcs; i++)
        if (w->host[i].up && w->host[i].as.dc->leads_since_us != 0)
            return i;
    return -1;
}

/* --- single points of failure ---------------------------------------------------------------- */

#define CRASH_US        (6 * SIM_SECOND)
#define OUTAGE_US       (20 * SIM_SECOND)
#define PATIENCE_US     (60 * SIM_SECOND)
#define seconds(micros) ((double)(micros) / 1e6)

static bool leader_crash(struct attack_context *c)
{
    struct sim_plan p;
    calm(c, &p);
    struct sim_world *w = sim_world_new(&p, NULL);
    sim_world_run(w, CRASH_US);
    int leader = leader_of(w);
    AMI_CHECK(leader >= 0);
    sim_host_crash(&w->host[leader]);
    if (c->control) /* so few are left that there is no quorum */
        sim_host_crash(&w->host[(leader + 1) % w->dcs]);
    uint64_t served = 0;
    while (served == 0 && w->now_us < CRASH_US + PATIENCE_US && w->violation[0] == 0) {
        sim_world_run(w, w->now_us + 100 * SIM_MS);
        served = served_since(w, CRASH_US);
    }
    bool broken =
        served == 0
            ? attack_says(c, true, "dc-%d dies; %.0f s later no newer report is acknowledged %s",
                          leader + 1, seconds(PATIENCE_US), w->violation)
            : attack_says(
                  c, false,
                  "dc-%d, which leads, dies; %.3f s of virtual time later a newer report is "
                  "acknowledged",
                  leader + 1, seconds(served - CRASH_US));
    sim_world_free(w);
    return broken;
}

static bool mdms_outage(struct attack_context *c)
{
    struct sim_plan p;
    calm(c, &p);
    struct sim_world *w = sim_world_new(&p, NULL);
    struct sim_host *mdms = &w->host[w->host_count - 1];
    uint64_t from = c->control ? 0 : CRASH_US;
    sim_world_run(w, from);
    sim_host_crash(mdms);
    sim_world_run(w, from + OUTAGE_US);
    uint64_t made = 0, acknowledged = 0, slowest = 0;
    for (size_t i = 0; i < w->host[w->dcs].as.fleet->count; i++) {
        const struct sim_book *b = &w->host[w->dcs].as.fleet->meter[i].book[0]; /* nobody renews */
        for (size_t k = 0; k < b->reports; k++) {
            const struct sim_report *r = &b->report[k];
            if (r->made_us < from)
                continue;
            made++;
            if (r->acknowledged_us == 0)
                continue;
            acknowledged++;
            if (r->acknowledged_us - r->made_us > slowest)
                slowest = r->acknowledged_us - r->made_us;
        }
    }
    bool broken;
    if (acknowledged == 0) {
        broken = attack_says(c, true,
                             "of %llu reports made in %.0f s without the MDMS none is "
                             "acknowledged",
                             (unsigned long long)made, seconds(OUTAGE_US));
    } else {
        sim_host_start(mdms);
        uint64_t back = w->now_us;
        struct mdms_stats stats = {0};
        while (w->now_us < back + PATIENCE_US && w->violation[0] == 0 &&
               stats.state.height < sim_disk_height(w->host[0].as.dc->disk)) {
            sim_world_run(w, w->now_us + 50 * SIM_MS);
            mdms_stats(mdms->as.mdms->core, &stats);
        }
        broken =
            attack_says(c, w->now_us >= back + PATIENCE_US || w->violation[0] != 0,
                        "%llu of %llu reports made in %.0f s without the MDMS were acknowledged "
                        "in them, after %.3f s at most; it had caught up %.2f s after its return",
                        (unsigned long long)acknowledged, (unsigned long long)made,
                        seconds(OUTAGE_US), seconds(slowest), seconds(w->now_us - back));
    }
    sim_world_free(w);
    return broken;
}

/* --- messages lost --------------------------------------------------------------------------- */

/* What travels between a meter and its DC, once it is connected. */
static const struct point_of_loss {
    enum message_type type;
    bool to_dc;
} losses[] = {{MSG_AGREE_FLIGHT1, true}, {MSG_AGREE_FLIGHT2, false}, {MSG_AGREE_FLIGHT3, true},
              {MSG_SESSION_DATA, true},  {MSG_SESSION_DATA, false},  {MSG_BLOCK_PROOF, false},
              {MSG_REFUSED, false},      {MSG_SESSION_ENDED, false}};
#define LOSSES (sizeof losses / sizeof losses[0])

struct losing {
    const struct point_of_loss *at;
    unsigned left, lost;
};

static bool tap_losing(void *ctx, struct sim_world *w, const struct sim_event *e,
                       enum message_type type)
{
    struct losing *l = ctx;
    bool to_dc = w->host[e->host].kind == SIM_DC;
    if (type != l->at->type || to_dc != l->at->to_dc || l->left == 0)
        return true;
    l->left--;
    l->lost++;
    return false;
}

static bool desync(struct attack_context *c)
{
    static const unsigned counts[] = {1, 3};
    unsigned runs = 0, dead = 0, lost = 0;
    uint64_t slowest = 0;
    for (size_t i = 0; i < LOSSES * 2 && dead == 0; i++) {
        struct sim_plan p;
        struct losing l = {.at = &losses[i / 2], .left = counts[i % 2]};
        calm(c, &p);
        p.meters = 1;
        p.reports_max = 3;
        p.gateway = (i & 1) != 0 ? GATEWAY_HOME : GATEWAY_LEADER;
        struct sim_world *w = sim_world_new(&p, NULL);
        struct sim_fleet *f = w->host[w->dcs].as.fleet;
        if (c->control) { /* a meter that waits for ever for its first answer */
            f->shared.timing.answer_ms = f->shared.timing.answer_ms_max = 3600u * 1000;
            f->shared.timing.ack_ms = f->shared.timing.ack_ms_max = 3600u * 1000;
        }
        const struct sim_book *b = &f->meter[0].book[0]; /* nobody renews */
        bool done = false;
        while (!done && w->now_us < 4 * PATIENCE_US && w->violation[0] == 0) {
            run_tapped(w, w->now_us + 100 * SIM_MS, tap_losing, &l);
            done = b->reports == p.reports_max && b->open == 0;
        }
        runs++;
        lost += l.lost;
        if (!done || w->violation[0] != 0) {
            attack_says(c, true,
                        "after %u lost %s (%s the DC) the meter's reports are not "
                        "acknowledged in %.0f s %s",
                        l.lost, message_name(l.at->type), l.at->to_dc ? "to" : "from",
                        seconds(4 * PATIENCE_US), w->violation);
            dead++;
        }
        for (size_t k = 0; done && k < b->reports; k++)
            if (b->report[k].acknowledged_us - b->report[k].made_us > slowest)
                slowest = b->report[k].acknowledged_us - b->report[k].made_us;
        sim_world_free(w);
    }
    return dead != 0 ||
           attack_says(c, false,
                       "%u messages lost in %u runs, one or three of each kind in each direction: "
                       "every report was acknowledged, after %.1f s at most",
                       lost, runs, seconds(slowest));
}

/* --- a flood --------------------------------------------------------------------------------- */

#define FLOOD_US       (3 * SIM_SECOND)
#define FLOOD_EVERY_US (10 * SIM_MS)
#define FLOOD_DELAY_US (60 * SIM_MS)
/* Links of the adversary to each DC, in the control; a DC keeps NODE_OPENINGS_PER_METER places. */
#define FLOOD_LINKS (NODE_OPENINGS_PER_METER + 2)

struct flood {
    size_t size;
    uint8_t frame[512];              /* the meter's first flight, as it was seen */
    uint64_t sent, answers, refused; /* by the adversary, to it */
    bool on;
};

/* The first flight on all of the adversary's links to this DC. */
static void flood_dc(struct flood *f, struct sim_world *w, uint16_t dc)
{
    for (uint16_t i = 0; i + 1 < w->fleets; i++) {
        env_link own = w->host[w->dcs + i].as.fleet->to_place[dc];
        if (own == 0 || !w->end[own].open)
            continue;
        inject(w, w->end[own].other, f->frame, f->size);
        f->sent++;
    }
}

static bool tap_flood(void *ctx, struct sim_world *w, const struct sim_event *e,
                      enum message_type type)
{
    struct flood *f = ctx;
    const struct sim_host *h = &w->host[e->host];
    if (type == MSG_AGREE_FLIGHT1 && h->kind == SIM_DC && f->size == 0 &&
        e->u.frame->size <= sizeof f->frame) {
        f->size = e->u.frame->size;
        memcpy(f->frame, e->u.frame->bytes, f->size);
    }
    /* It listens where the meter is, and is quick when a DC has answered it. */
    if (type == MSG_AGREE_FLIGHT2 && h->kind == SIM_FLEET && h->as.fleet->count != 0 && f->on)
        flood_dc(f, w, w->end[w->end[e->link].other].host);
    if (h->kind == SIM_FLEET && h->as.fleet->count == 0) {
        f->answers += type == MSG_AGREE_FLIGHT2;
        f->refused += type == MSG_REFUSED;
    }
    return true;
}

/* The recorded flight asks the DC to be the gateway itself: insist is not the DC's to check. */
static void insist(struct flood *f)
{
    struct agree_flight1 f1;
    uint8_t flight[AMI_FLIGHT_BYTES_MAX];
    AMI_CHECK(agree_flight1_parse(&f1, span_of(f->frame + 2, f->size - 2)) == AMI_OK);
    f1.insist = 1;
    memcpy(flight, f1.flight.data, f1.flight.size);
    f1.flight.data = flight;
    struct writer w = writer_on(f->frame, sizeof f->frame);
    frame_begin(&w, MSG_AGREE_FLIGHT1);
    agree_flight1_encode(&w, &f1);
    AMI_CHECK(writer_ok(&w) && w.size == f->size);
}

/* What the DC computes for one first flight, however often it has come before: the operations on
 * points, as they are counted while it answers. */
static void work_per_flight(struct attack_context *c, char *out, size_t size)
{
    struct arena *a = arena_new(c->scheme, c->seed);
    struct arena_run r;
    struct lab_counts counts;
    size_t n = 0;
    arena_agree(a, &r, 0, 0);
    arena_random(a, r.dc_random, sizeof r.dc_random);
    lab_count_begin(&counts, false);
    arena_answer(a, &r, &r.f1, &a->peer[0]);
    lab_count_end();
    out[0] = 0;
    for (int op = 0; op < LAB_OP_KINDS; op++)
        if (counts.count[op] != 0 && lab_op_group((enum lab_op)op) == LAB_GROUP_PUBLIC_KEY &&
            op != LAB_OP_RANDOM && op != LAB_OP_SCALAR && n < size)
            n += (size_t)snprintf(out + n, size - n, "%s%llu %s", n == 0 ? "" : ", ",
                                  (unsigned long long)counts.count[op],
                                  lab_op_what((enum lab_op)op));
    arena_free(a);
}

static bool flood(struct attack_context *c)
{
    struct sim_plan p;
    struct flood f = {0};
    char work[160];
    work_per_flight(c, work, sizeof work);
    calm(c, &p);
    p.meters = 1;
    p.fleets = 1 + (c->control ? FLOOD_LINKS : 1); /* the last one has the meter */
    p.delay_mean_us = FLOOD_DELAY_US;
    struct sim_world *w = sim_world_new(&p, NULL);
    run_tapped(w, CRASH_US, tap_flood, &f);
    AMI_CHECK(f.size != 0);
    insist(&f);
    struct sim_host *meter = &w->host[w->dcs + w->fleets - 1];
    sim_host_crash(meter); /* it has to agree anew */
    sim_host_start(meter);
    uint64_t end = w->now_us + FLOOD_US, served = 0;
    f.on = true;
    while (w->now_us < end && w->violation[0] == 0 && served == 0) {
        for (uint16_t dc = 0; dc < w->dcs; dc++)
            flood_dc(&f, w, dc);
        run_tapped(w, w->now_us + FLOOD_EVERY_US, tap_flood, &f);
        served = served_since(w, CRASH_US);
    }
    uint64_t agreed = 0;
    for (uint16_t dc = 0; dc < w->dcs; dc++)
        agreed += w->host[dc].as.dc->node->counters.agreements;
    bool broken = attack_says(
        c, served == 0 || w->violation[0] != 0,
        "%llu recorded first flights on %u link%s to each DC, %llu answered (each costs %s), %llu "
        "refused; %llu sessions confirmed in all; the meter, which has to agree anew, is %s %.2f s "
        "%s",
        (unsigned long long)f.sent, p.fleets - 1, p.fleets == 2 ? "" : "s",
        (unsigned long long)f.answers, work, (unsigned long long)f.refused,
        (unsigned long long)agreed, served == 0 ? "not served in" : "served after",
        seconds(served == 0 ? FLOOD_US : served - CRASH_US), w->violation);
    sim_world_free(w);
    return broken;
}

/* --- Byzantine DCs --------------------------------------------------------------------------- */

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

/* Runs of one rule's troubles, with the rule or without it, until one is violated. */
static bool hunt(struct attack_context *c, const char *rule, bool off, uint64_t first,
                 unsigned runs, struct sim_result *last, struct sim_counters *sum)
{
    memset(sum, 0, sizeof *sum);
    for (unsigned i = 0; i < runs; i++) {
        struct sim_plan p = {.byzantine = SIM_PLAN_ANY};
        sim_plan_draw(&p, first + i + 1000 * (c->seed - 1));
        if (rule != NULL && off)
            sim_rule_off(sim_rule_find(rule), &p);
        else if (rule != NULL)
            sim_rule_on(sim_rule_find(rule), &p);
        else
            p.byzantine = members_f(p.dcs);
        p.scheme = c->scheme->number;
        sim_run(last, &p, NULL);
        for (int k = 0; k < SIM_MISCHIEF_KINDS; k++)
            sum->mischief[k] += last->count.mischief[k];
        sum->commits += last->count.commits;
        sum->reports_acknowledged += last->count.reports_acknowledged;
        if (last->violation[0] != 0)
            return true;
    }
    return false;
}

static uint64_t mischief(const struct sim_counters *s)
{
    uint64_t n = 0;
    for (int k = 0; k < SIM_MISCHIEF_KINDS; k++)
        n += s->mischief[k];
    return n;
}

#define HUNT_RUNS     4
#define HUNT_RUNS_OFF 400

static bool byzantine_f(struct attack_context *c)
{
    struct sim_result r;
    struct sim_counters s, more;
    if (c->control) {
        bool found = hunt(c, "monotone", true, 20, HUNT_RUNS_OFF, &r, &s);
        return attack_says(c, found && begins(r.violation, "agreement"), "%.200s", r.violation);
    }
    bool found = hunt(c, "monotone", false, 20, HUNT_RUNS, &r, &s) ||
                 hunt(c, NULL, false, 1, HUNT_RUNS, &r, &more);
    if (found)
        return attack_says(c, true, "%.200s", r.violation);
    return attack_says(c, false,
                       "%d networks with f liars, who lied %llu times: %llu blocks, %llu reports "
                       "acknowledged, one history",
                       2 * HUNT_RUNS, (unsigned long long)(mischief(&s) + mischief(&more)),
                       (unsigned long long)(s.commits + more.commits),
                       (unsigned long long)(s.reports_acknowledged + more.reports_acknowledged));
}

static bool byzantine_more(struct attack_context *c)
{
    struct sim_result r;
    struct sim_counters s;
    bool found = hunt(c, "f-liars", true, 1, 40, &r, &s);
    return attack_says(c, found, "two of four DCs run twice: %.240s", r.violation);
}

static bool false_acknowledgement(struct attack_context *c)
{
    struct sim_result r;
    struct sim_counters s;
    bool found = hunt(c, "ack-proof", c->control, 1, c->control ? 40 : HUNT_RUNS, &r, &s);
    unsigned long long lies = (unsigned long long)s.mischief[SIM_MISCHIEF_FALSE_ACK];
    if (!found)
        return attack_says(c, lies == 0,
                           "%llu false acknowledgements in %d networks, none believed", lies,
                           HUNT_RUNS);
    return attack_says(c, !c->control || begins(r.violation, "acknowledged"), "%.200s",
                       r.violation);
}

static bool censoring_leader(struct attack_context *c)
{
    struct sim_result r;
    struct sim_counters s;
    bool found = hunt(c, "progress", c->control, 1, c->control ? 40 : HUNT_RUNS, &r, &s);
    if (!found)
        return attack_says(c, false,
                           "%d networks whose liars lead and propose nothing: %llu reports "
                           "acknowledged, nothing left open",
                           HUNT_RUNS, (unsigned long long)s.reports_acknowledged);
    return attack_says(c, !c->control || begins(r.violation, "liveness"), "%.200s", r.violation);
}

const struct attack attacks_network[] = {
    {.name = "leader-crash",
     .row = ROW_SPOF,
     .knows = "which DC leads; it takes its power away",
     .goal = "no report made afterwards is acknowledged within 60 s",
     .protection = "others elect a leader (in the control fewer than a quorum are left)",
     .run = leader_crash},
    {.name = "mdms-outage",
     .row = ROW_SPOF,
     .knows = "where the MDMS is; it takes its power away for 20 s",
     .goal = "no report made meanwhile is acknowledged",
     .protection = "U is on the ledger (in the control the MDMS goes before it has put it there)",
     .run = mdms_outage},
    {.name = "desync-every-message",
     .row = ROW_DESYNC,
     .knows = "nothing; it drops messages of each kind between a meter and its DC",
     .goal = "a report is not acknowledged within four minutes",
     .protection = "meters do not wait for ever (in the control they wait an hour)",
     .run = desync},
    {.name = "flood-first-flights",
     .row = ROW_FLOOD,
     .knows = "what travels on the meter's link, a first flight of it; connections to every DC",
     .goal = "the meter gets no session while the flood lasts",
     .protection =
         "a link's flights take one place for a meter, of 8 (in the control the adversary "
         "has 10 links to each DC)",
     .run = flood},
    {.name = "byzantine-f",
     .row = ROW_LEDGER,
     .knows = "the keys of f of 3f+1 DCs, which lie in every way that the simulator has",
     .goal = "two histories, or anything acknowledged that is not on the ledger",
     .protection = "prepare votes only rise (consensus rule 5)",
     .run = byzantine_f},
    {.name = "byzantine-f-plus-1",
     .row = ROW_LEDGER,
     .knows = "the keys of f+1 of 3f+1 DCs, and which way the network falls apart",
     .goal = "two histories",
     .protection = "none",
     .nobody = "two quorums of 3f+1 have f+1 members in common; when all of those lie, nobody can "
               "tell. Evidence on the ledger names them",
     .run = byzantine_more},
    {.name = "acknowledgement-without-commit",
     .row = ROW_DC_LIES,
     .knows = "a DC's keys and sessions; it tells meters that their reports are on the ledger",
     .goal = "a meter forgets a report that is on no ledger",
     .protection = "a meter believes a certificate and an inclusion proof, nobody's word",
     .run = false_acknowledgement},
    {.name = "silent-leader",
     .row = ROW_SPOF,
     .knows = "the keys of f of 3f+1 DCs; where they lead they propose nothing",
     .goal = "reports are never acknowledged",
     .protection = "a leader that commits nothing is deposed (consensus rule 8)",
     .run = censoring_leader},
    {0}};
