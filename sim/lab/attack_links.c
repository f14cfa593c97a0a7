/* sim/lab/attack_links.c - on the links of a whole network: frames lost, old ones, too many. */
#include "sim/lab/stage.h"

#include "base/check.h"
#include "node/internal.h"
#include "sim/lab/count.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- messages lost --------------------------------------------------------------------------- */

/* What travels between a meter and its DC, once it is connected. */
static const struct point_of_loss {
    enum message_type type;
    bool to_dc;
} losses[] = {{MSG_AGREE_FLIGHT1, true}, {MSG_AGREE_FLIGHT2, false}, {MSG_AGREE_FLIGHT3, true},
              {MSG_SESSION_DATA, true},  {MSG_SESSION_DATA, false},  {MSG_BLOCK_PROOF, false},
              {MSG_REFUSED, false},      {MSG_SESSION_ENDED, false}};
#define DELIVERED_US (240 * SIM_SECOND)
#define LOSSES       (sizeof losses / sizeof losses[0])

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
        stage_calm(c, &p);
        p.meters = 1;
        p.reports_max = 3;
        p.gateway = (i & 1) != 0 ? GATEWAY_HOME : GATEWAY_LEADER;
        struct sim_world *w = sim_world_new(&p, NULL);
        struct sim_fleet *f = w->host[w->dcs].as.fleet;
        if (c->control) { /* a meter that waits for ever for its first answer */
            f->shared.timing.answer_ms = f->shared.timing.answer_ms_max = 3600u * 1000;
            f->shared.timing.ack_ms = f->shared.timing.ack_ms_max = 3600u * 1000;
        }
        const struct sim_book *m = sim_book(&f->meter[0]);
        bool done = false;
        while (!done && w->now_us < DELIVERED_US && w->violation[0] == 0) {
            stage_run(w, w->now_us + 100 * SIM_MS, tap_losing, &l);
            done = m->reports == p.reports_max && m->open == 0;
        }
        runs++;
        lost += l.lost;
        if (!done || w->violation[0] != 0) {
            attack_says(c, true,
                        "after %u lost %s (%s the DC) the meter's reports are not "
                        "acknowledged in %.0f s %s",
                        l.lost, message_name(l.at->type), l.at->to_dc ? "to" : "from",
                        seconds(DELIVERED_US), w->violation);
            dead++;
        }
        for (size_t k = 0; done && k < m->reports; k++)
            if (m->report[k].acknowledged_us - m->report[k].made_us > slowest)
                slowest = m->report[k].acknowledged_us - m->report[k].made_us;
        sim_world_free(w);
    }
    return dead != 0 ||
           attack_says(c, false,
                       "%u messages lost in %u runs, one or three of each kind in each direction: "
                       "every report was acknowledged, after %.1f s at most",
                       lost, runs, seconds(slowest));
}

/* --- old frames at a DC that has forgotten --------------------------------------------------- */

#define TAPE_FRAMES    4
#define TAPE_BYTES     1024
#define STEP_US        (500 * SIM_MS)
#define FORGETS_FOR_US (4 * SIM_SECOND)

struct tape {
    struct {
        size_t size;
        uint8_t bytes[TAPE_BYTES];
    } frame[TAPE_FRAMES]; /* flight 1, flight 3, messages of the session */
    size_t frames;
    uint16_t from, dc;        /* whose they are, and to whom */
    struct sim_random chance; /* the DC's, when flight 1 came */
    bool again;               /* it has that chance once more when the next flight 1 comes */
};

static bool tap_tape(void *ctx, struct sim_world *w, const struct sim_event *e,
                     enum message_type type)
{
    struct tape *t = ctx;
    const struct sim_frame *f = e->u.frame;
    if (w->host[e->host].kind != SIM_DC ||
        (type != MSG_AGREE_FLIGHT1 && type != MSG_AGREE_FLIGHT3 && type != MSG_SESSION_DATA))
        return true;
    if (t->again && type == MSG_AGREE_FLIGHT1)
        w->host[e->host].random = t->chance;
    if (w->end[w->end[e->link].other].host != t->from)
        return true;
    if (type == MSG_AGREE_FLIGHT1 && t->frames < 2) { /* the one that is answered */
        t->frames = 0;
        t->dc = e->host;
        t->chance = w->host[e->host].random;
    }
    if (t->frames == TAPE_FRAMES || e->host != t->dc || f->size > TAPE_BYTES)
        return true;
    t->frame[t->frames].size = f->size;
    memcpy(t->frame[t->frames++].bytes, f->bytes, f->size);
    return true;
}

/* A network with two meters, at home at different DCs: one of these does not lead, so that its
 * restart changes no term. */
static struct sim_world *recorded(struct attack_context *c, struct tape *t)
{
    for (uint16_t meter = 0; meter < 2; meter++) {
        struct sim_plan p;
        stage_calm(c, &p);
        p.meters = 2;
        p.fleets = 3; /* the first has no meter: the adversary's */
        p.gateway = GATEWAY_HOME;
        struct sim_world *w = sim_world_new(&p, NULL);
        memset(t, 0, sizeof *t);
        t->from = (uint16_t)(w->dcs + 1 + meter);
        stage_run(w, STAGE_SETTLED_US, tap_tape, t);
        if (t->frames == TAPE_FRAMES && stage_leader(w) != t->dc)
            return w;
        sim_world_free(w);
    }
    AMI_CHECK(false && "two DCs lead");
    return NULL;
}

static bool replay_after_restart(struct attack_context *c)
{
    struct tape t;
    struct sim_world *w = recorded(c, &t);
    struct sim_host *dc = &w->host[t.dc];
    sim_host_crash(&w->host[w->dcs + 1]); /* the meters are away */
    sim_host_crash(&w->host[w->dcs + 2]);
    sim_host_crash(dc);
    sim_host_start(dc);
    stage_run(w, STAGE_SETTLED_US + FORGETS_FOR_US, tap_tape, &t);
    env_link own = w->host[w->dcs].as.fleet->dials.link[t.dc];
    AMI_CHECK(own != 0 && w->end[own].open);
    t.again = c->control;
    for (size_t i = 0; i < t.frames; i++) {
        stage_inject(w, w->end[own].other, t.frame[i].bytes, t.frame[i].size);
        stage_run(w, w->now_us + STEP_US, tap_tape, &t);
    }
    const struct node_counters *n = &dc->as.dc->node->counters;
    bool broken = attack_says(
        c, n->agreements != 0 || w->violation[0] != 0,
        "dc-%u, started anew, gets flight 1, flight 3 and %zu messages of an old session: %llu "
        "sessions confirmed, %llu reports taken or acknowledged %s",
        t.dc + 1u, t.frames - 2, (unsigned long long)n->agreements,
        (unsigned long long)(n->reports + n->acks), w->violation);
    sim_world_free(w);
    return broken;
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
        env_link own = w->host[w->dcs + i].as.fleet->dials.link[dc];
        if (own == 0 || !w->end[own].open)
            continue;
        stage_inject(w, w->end[own].other, f->frame, f->size);
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
    stage_calm(c, &p);
    p.meters = 1;
    p.fleets = 1 + (c->control ? FLOOD_LINKS : 1); /* the last one has the meter */
    p.delay_mean_us = FLOOD_DELAY_US;
    struct sim_world *w = sim_world_new(&p, NULL);
    stage_run(w, STAGE_SETTLED_US, tap_flood, &f);
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
        stage_run(w, w->now_us + FLOOD_EVERY_US, tap_flood, &f);
        served = stage_served_since(w, STAGE_SETTLED_US);
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
        seconds(served == 0 ? FLOOD_US : served - STAGE_SETTLED_US), w->violation);
    sim_world_free(w);
    return broken;
}

const struct attack attacks_links[] = {
    {.name = "desync-every-message",
     .row = ROW_DESYNC,
     .knows = "nothing; it drops messages of each kind between a meter and its DC",
     .goal = "a report is not acknowledged within four minutes",
     .protection = "meters do not wait for ever (in the control they wait an hour)",
     .run = desync},
    {.name = "replay-after-restart",
     .row = ROW_REPLAY,
     .knows = "all that a meter sent to its DC, and how to make that DC start anew",
     .goal = "the DC, which has forgotten its sessions, confirms the old one",
     .protection = "the DC draws a fresh ephemeral value and session id (in the control it draws "
                   "the old ones)",
     .run = replay_after_restart},
    {.name = "flood-first-flights",
     .row = ROW_FLOOD,
     .knows = "what travels on the meter's link, a first flight of it; connections to every DC",
     .goal = "the meter gets no session while the flood lasts",
     .protection =
         "a link's flights take one place for a meter, of 8 (in the control the adversary "
         "has 10 links to each DC)",
     .run = flood},
    {0}};
