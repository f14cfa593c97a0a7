/* sim/changes.c - what the network's operator asks for: DCs join, leave, rotate their keys and are
 * switched off; meters get their next keys, move to another home DC, are revoked; DCs may prune.
 *
 * He writes into the MDMS's store what `ami-mdms codes`, `member`, `revoke` and `retain` write
 * there, beside the MDMS that may be running or not; all that follows is the production code's.
 *
 * The budget over epochs: in every committee that may still count, those that lie and those that
 * have lost their record with the key that votes there are together at most f. A committee counts
 * no more when a block of the next one is committed: a quorum of that has all that went before. */
#include "sim/world.h"

#include "base/check.h"

#include <stdlib.h>
#include <string.h>

#define LOOK_US (200 * SIM_MS)
#define DEAF_US (3 * SIM_SECOND) /* mean, of a DC whose key is asked to vote before it has it */

/* A committee that was asked for; the one of index i is that of membership epoch i + 1. */
struct planned {
    uint32_t members, lost;   /* bit k: the DC of number k */
    uint8_t key[SIM_DCS_MAX]; /* epoch of the key that it votes with */
};

struct sim_changes {
    struct planned *planned;
    size_t count, past; /* those below `past` count no more */
    uint64_t asked, revocations;
    uint64_t retentions, retained; /* how many watermarks were asked for, and the last one */
    struct {
        uint8_t wants; /* enum member_change, when its key is there; 0: nothing */
        bool early;    /* as soon as the MDMS has issued the key */
    } dc[SIM_DCS_MAX];
};

static uint32_t bit(unsigned number)
{
    return 1u << number;
}

static struct planned *last_planned(struct sim_changes *c)
{
    return &c->planned[c->count - 1];
}

static uint32_t liars(const struct sim_world *w)
{
    uint32_t mask = 0;
    for (unsigned i = 0; i < w->names; i++)
        mask |= w->name[i].liar ? bit(i) : 0;
    return mask;
}

/* The budget of one committee. */
static bool fits(const struct sim_world *w, const struct planned *p)
{
    unsigned bad = (unsigned)__builtin_popcount(p->members & (liars(w) | p->lost));
    return bad <= members_f((unsigned)__builtin_popcount(p->members));
}

static void plan(struct sim_changes *c, const struct planned *p)
{
    c->planned = realloc(c->planned, (c->count + 1) * sizeof *c->planned);
    AMI_CHECK(c->planned != NULL);
    c->planned[c->count++] = *p;
}

struct sim_changes *sim_changes_new(struct sim_world *w)
{
    struct sim_changes *c = calloc(1, sizeof *c);
    AMI_CHECK(c != NULL);
    struct planned first = {0};
    for (unsigned i = 0; i < w->plan.dcs; i++) {
        first.members |= bit(i);
        first.key[i] = 1;
    }
    plan(c, &first);
    return c;
}

void sim_changes_free(struct sim_changes *c)
{
    free(c->planned);
    free(c);
}

/* Of an event: he asks for something, looks whether a key is issued, switches a DC off. */
enum { TURN, LOOK, OFF };

static void look_soon(struct sim_world *w)
{
    struct sim_event e = {.type = SIM_CHANGE, .link = LOOK, .at_us = w->now_us + LOOK_US};
    sim_events_push(&w->events, e);
}

static void look_later(struct sim_world *w)
{
    struct sim_event e = {.type = SIM_CHANGE, .link = TURN};
    struct sim_random r = sim_random_stream(w->plan.seed, SIM_STREAM_CHANGES + 100, w->now_us);
    e.at_us =
        w->now_us + (w->quiet ? SIM_SECOND : sim_random_exponential(&r, w->plan.change_every_us));
    sim_events_push(&w->events, e);
}

void sim_changes_begin(struct sim_world *w)
{
    if (w->plan.change_every_us != 0)
        look_later(w);
}

/* --- the budget ------------------------------------------------------------------------------ */

bool sim_changes_lose(struct sim_world *w, const struct sim_host *h)
{
    struct sim_changes *c = w->changes;
    const struct sim_dc *d = h->as.dc;
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = c->past; i < c->count; i++) {
            struct planned p = c->planned[i];
            if ((p.members & bit(d->number)) == 0 || d->starts[p.key[d->number] - 1] == 0)
                continue; /* no member, or with a key that has not signed yet */
            p.lost |= bit(d->number);
            if (!fits(w, &p))
                return false;
            if (pass == 1)
                c->planned[i] = p;
        }
    return true;
}

void sim_changes_on_height(struct sim_world *w, uint64_t height)
{
    struct sim_changes *c = w->changes;
    const struct sim_epoch *next;
    while ((next = sim_epoch(w, (uint32_t)c->past + 2)) != NULL && next->committee.from <= height)
        c->past++;
}

/* --- DCs ------------------------------------------------------------------------------------- */

/* As `ami-mdms member` asks. */
static void ask_for_change(struct sim_world *w, unsigned number, uint8_t change,
                           const struct planned *then)
{
    struct sim_changes *c = w->changes;
    struct member_address address;
    uint8_t bytes[MDMS_CHANGE_BYTES_MAX];
    sim_address(&address, number);
    struct change_record r = {.change = change,
                              .dc = w->name[number].name,
                              .key_epoch = change == MEMBER_LEAVE ? 0 : then->key[number],
                              .delay = MEMBERSHIP_DELAY_MIN + (uint32_t)(w->now_us % 5),
                              .asked_ms = SIM_START_MS + (int64_t)(w->now_us / 1000)};
    if (change == MEMBER_JOIN) {
        r.peer = span_of(address.peer, strlen(address.peer));
        r.meter = span_of(address.meter, strlen(address.meter));
        r.admin = span_of(address.admin, strlen(address.admin));
    }
    struct writer out = writer_on(bytes, sizeof bytes);
    change_record_encode(&out, &r);
    AMI_CHECK(writer_ok(&out));
    struct mdms_key key = key_number(++c->asked);
    sim_kv_put(w->host[w->host_count - 1].as.mdms->kv, TABLE_CHANGES, key_span(&key),
               writer_span(&out));
    plan(c, then);
    static const char *const names[] = {
        [MEMBER_JOIN] = "join", [MEMBER_LEAVE] = "leave", [MEMBER_ROTATE] = "rotate"};
    sim_tell(w, NULL, "the operator asks: %s of dc-%u, epoch %zu", names[change], number + 1,
             c->count);
}

static void enrol(struct sim_world *w, unsigned number, uint8_t wants, bool early)
{
    struct sim_changes *c = w->changes;
    struct sim_name *n = &w->name[number];
    n->pending = sim_enrol_begin(w, ENROL_DC, &n->name, n->keys + 1, NULL);
    c->dc[number].wants = wants;
    c->dc[number].early = early;
    sim_enrol_dial(&w->host[number]);
    if (!early)
        return;
    struct sim_random r = sim_random_stream(w->plan.seed, SIM_STREAM_CHANGES + 300, w->now_us);
    n->deaf_until_us = w->now_us + sim_random_exponential(&r, DEAF_US);
    look_soon(w);
}

/* Its next key votes from some epoch on. `here`: the DC has it. */
static void use_next_key(struct sim_world *w, unsigned number, uint32_t epoch, bool here)
{
    struct sim_changes *c = w->changes;
    const struct sim_dc *d = w->host[number].as.dc;
    uint8_t wants = c->dc[number].wants;
    struct planned p = *last_planned(c);
    p.members |= bit(number);
    p.key[number] = (uint8_t)epoch;
    p.lost &= ~bit(number);
    /* A key that followed and lost its record meanwhile signs nothing when it counts. */
    if (!here || (d->honest && d->key_lost == epoch))
        p.lost |= bit(number);
    if (!fits(w, &p)) {
        if (here)
            c->dc[number].wants = 0; /* it goes on following */
        return;
    }
    c->dc[number].wants = 0;
    ask_for_change(w, number, wants, &p);
}

void sim_changes_on_key(struct sim_world *w, uint8_t number)
{
    struct sim_changes *c = w->changes;
    uint32_t epoch = w->name[number].keys;
    for (size_t i = 0; i < c->count; i++)
        if (c->planned[i].key[number] == epoch)
            c->planned[i].lost &= ~bit(number);
    if (c->dc[number].wants != 0)
        use_next_key(w, number, epoch, true);
    /* Who waits for this key is started anew with it, and so is who has its first one. */
    for (uint16_t i = 0; i < w->dcs; i++) {
        struct sim_host *h = &w->host[i];
        if (h->as.dc->number != number || !h->up || !(h->as.dc->key_missing || epoch == 1))
            continue;
        sim_host_crash(h);
        struct sim_event e = {.type = SIM_START, .host = i};
        e.at_us = w->now_us + 100 * SIM_MS;
        sim_events_push(&w->events, e);
    }
}

static bool issued(const struct sim_world *w, unsigned number)
{
    const struct sim_name *n = &w->name[number];
    struct mdms_key at = key_device(DEVICE_DC, &n->name, n->keys + 1);
    struct span key, value;
    return sim_kv_seek(w->host[w->host_count - 1].as.mdms->kv, TABLE_DEVICES, key_span(&at), &key,
                       &value) &&
           span_equal(key, key_span(&at));
}

/* What waits for the MDMS. True: something still does. */
static bool look_for_early_ones(struct sim_world *w)
{
    struct sim_changes *c = w->changes;
    bool waits = false;
    for (unsigned i = 0; i < w->names; i++) {
        if (c->dc[i].wants == 0 || !c->dc[i].early || w->name[i].pending == NULL)
            continue;
        if (issued(w, i))
            use_next_key(w, i, w->name[i].keys + 1, false);
        waits = waits || c->dc[i].wants != 0;
    }
    return waits;
}

static bool is_free(const struct sim_world *w, unsigned number)
{
    return w->changes->dc[number].wants == 0 && w->name[number].pending == NULL &&
           w->name[number].keys < SIM_KEYS_MAX && !w->host[number].as.dc->retired;
}

static bool is_lost(const struct sim_world *w, unsigned number)
{
    const struct planned *p = last_planned(w->changes);
    return (p->lost & bit(number)) != 0;
}

static bool was_member(const struct sim_world *w, unsigned number)
{
    for (size_t i = 0; i < w->changes->count; i++)
        if ((w->changes->planned[i].members & bit(number)) != 0)
            return true;
    return false;
}

/* Whether this may be asked for of that DC now. */
static bool suits(const struct sim_world *w, enum sim_change kind, unsigned number)
{
    const struct sim_changes *c = w->changes;
    const bool member = (last_planned(w->changes)->members & bit(number)) != 0;
    if (!is_free(w, number))
        return false;
    switch (kind) {
    case SIM_CHANGE_JOIN:
        return !member && w->name[number].keys == 0;
    case SIM_CHANGE_REJOIN:
        return !member && was_member(w, number);
    case SIM_CHANGE_LEAVE:
        return member && __builtin_popcount(c->planned[c->count - 1].members) > AMI_MEMBERS_MIN;
    case SIM_CHANGE_ROTATE:
        return member && !is_lost(w, number);
    case SIM_CHANGE_ROTATE_LOST:
        return member && is_lost(w, number);
    case SIM_CHANGE_SWITCH_OFF:
        for (size_t i = c->past; i < c->count; i++)
            if ((c->planned[i].members & bit(number)) != 0)
                return false;
        return was_member(w, number);
    default:
        return false;
    }
}

static void leave(struct sim_world *w, unsigned number)
{
    struct planned p = *last_planned(w->changes);
    p.members &= ~bit(number);
    p.lost &= ~bit(number);
    if (fits(w, &p))
        ask_for_change(w, number, MEMBER_LEAVE, &p);
}

static void switch_off(struct sim_world *w, unsigned number)
{
    for (uint16_t i = 0; i < w->dcs; i++) {
        struct sim_host *h = &w->host[i];
        if (h->as.dc->number != number)
            continue;
        sim_tell(w, h, "is switched off for good");
        sim_host_crash(h);
        h->as.dc->retired = true;
    }
    w->count.change[SIM_CHANGE_SWITCH_OFF]++;
}

/* Whom he thinks of first. */
static uint64_t pick(const struct sim_world *w, struct sim_random *r)
{
    const struct sim_epoch *e = sim_epoch(w, sim_epochs(w));
    if (w->plan.change_pick == SIM_PICK_LAST)
        return e->number[e->committee.members.count - 1];
    for (unsigned i = 0; w->plan.change_pick == SIM_PICK_LEADER && i < w->names; i++)
        if (w->host[i].as.dc->leads_since_us != 0)
            return i;
    return sim_random_below(r, w->names);
}

void sim_changes_on_left(struct sim_host *h)
{
    struct sim_world *w = h->world;
    if (!w->plan.leave_early)
        return;
    struct sim_event e = {.type = SIM_CHANGE, .link = OFF, .at_us = w->now_us + 1};
    e.u.number = h->as.dc->number;
    sim_events_push(&w->events, e);
}

static void change_dc(struct sim_world *w, enum sim_change kind, struct sim_random *r)
{
    uint64_t first = pick(w, r);
    for (unsigned i = 0; i < w->names; i++) {
        unsigned number = (unsigned)(first + i) % w->names;
        if (!suits(w, kind, number))
            continue;
        if (kind == SIM_CHANGE_LEAVE)
            leave(w, number);
        else if (kind == SIM_CHANGE_SWITCH_OFF)
            switch_off(w, number);
        else
            enrol(w, number,
                  kind == SIM_CHANGE_JOIN || kind == SIM_CHANGE_REJOIN ? MEMBER_JOIN
                                                                       : MEMBER_ROTATE,
                  !w->name[number].liar && kind != SIM_CHANGE_JOIN &&
                      sim_random_chance(r, w->plan.early_ppm));
        return;
    }
}

/* --- meters ---------------------------------------------------------------------------------- */

static struct sim_meter *any_meter(struct sim_world *w, struct sim_random *r)
{
    struct sim_fleet *f = w->host[w->dcs + sim_random_below(r, w->fleets)].as.fleet;
    return f->count == 0 ? NULL : &f->meter[sim_random_below(r, f->count)];
}

/* As `ami-mdms revoke` asks. */
static void revoke(struct sim_world *w, struct sim_meter *m)
{
    uint8_t bytes[128];
    struct revocation_record r = {.role = DEVICE_METER,
                                  .device = m->key[0]->name,
                                  .epoch = m->epoch,
                                  .reason = 1,
                                  .asked_ms = SIM_START_MS + (int64_t)(w->now_us / 1000)};
    struct writer out = writer_on(bytes, sizeof bytes);
    revocation_record_encode(&out, &r);
    AMI_CHECK(writer_ok(&out));
    struct mdms_key key = key_number(++w->changes->revocations);
    sim_kv_put(w->host[w->host_count - 1].as.mdms->kv, TABLE_REQUESTS, key_span(&key),
               writer_span(&out));
    m->to_revoke = true;
    sim_tell(w, NULL, "the operator asks: the key of %s is revoked", r.device.text);
}

/* Somebody must be left to report, or nothing more is committed. */
static bool is_last_good_one(const struct sim_world *w)
{
    return w->changes->revocations + 1 >= w->plan.meters;
}

static void change_meter(struct sim_world *w, enum sim_change kind, struct sim_random *r)
{
    struct sim_meter *m = any_meter(w, r);
    if (m == NULL || m->renews || m->to_revoke || m->epoch == SIM_KEYS_MAX)
        return;
    if (kind == SIM_CHANGE_REVOKE && is_last_good_one(w))
        return;
    if (kind == SIM_CHANGE_REVOKE)
        revoke(w, m);
    else
        sim_fleet_renew(m, kind == SIM_CHANGE_RENEW ? NULL
                                                    : &w->name[sim_random_below(r, w->names)].name);
}

/* --- what the DCs keep ----------------------------------------------------------------------- */

/* As `ami-mdms retain` asks, and refuses. */
static void retain(struct sim_world *w, struct sim_random *r)
{
    struct sim_changes *c = w->changes;
    struct sim_kv *kv = w->host[w->host_count - 1].as.mdms->kv;
    uint8_t bytes[64];
    const uint64_t followed = sim_followed(w), first = c->retained < 2 ? 2 : c->retained + 1;
    if (followed + 1 < first + RETENTION_MARGIN)
        return;
    const struct retention_record q = {
        .below = sim_random_between(r, first, followed + 1 - RETENTION_MARGIN),
        .asked_ms = SIM_START_MS + (int64_t)(w->now_us / 1000)};
    struct writer out = writer_on(bytes, sizeof bytes);
    retention_record_encode(&out, &q);
    AMI_CHECK(writer_ok(&out));
    struct mdms_key key = key_number(++c->retentions);
    sim_kv_put(kv, TABLE_RETENTIONS, key_span(&key), writer_span(&out));
    c->retained = q.below;
    sim_tell(w, NULL, "the operator asks: blocks below %llu may be pruned",
             (unsigned long long)q.below);
}

uint64_t sim_retained(const struct sim_world *w)
{
    return w->changes->retained;
}

/* --- his turn -------------------------------------------------------------------------------- */

static void change_something(struct sim_world *w)
{
    struct sim_random r = sim_random_stream(w->plan.seed, SIM_STREAM_CHANGES + 200, w->now_us);
    uint64_t sum = 0;
    for (int k = 0; k < SIM_CHANGE_KINDS; k++)
        sum += w->plan.change_weight[k];
    uint64_t at = sim_random_below(&r, sum);
    if (w->plan.change_weight[SIM_CHANGE_ROTATE_LOST] != 0 &&
        (last_planned(w->changes)->lost & last_planned(w->changes)->members) != 0) {
        change_dc(w, SIM_CHANGE_ROTATE_LOST, &r);
        return;
    }
    for (int k = 0; k < SIM_CHANGE_KINDS; k++) {
        if (at >= w->plan.change_weight[k]) {
            at -= w->plan.change_weight[k];
            continue;
        }
        if (k == SIM_CHANGE_RETAIN)
            retain(w, &r);
        else if (k < SIM_CHANGE_RENEW)
            change_dc(w, (enum sim_change)k, &r);
        else
            change_meter(w, (enum sim_change)k, &r);
        return;
    }
}

void sim_changes_on_event(struct sim_world *w, const struct sim_event *e)
{
    if (e->link == OFF) {
        switch_off(w, (unsigned)e->u.number);
        return;
    }
    if (e->link == LOOK) {
        if (look_for_early_ones(w))
            look_soon(w);
        return;
    }
    if (!w->quiet && w->plan.faults_max != 0) {
        w->plan.faults_max--;
        change_something(w);
    }
    if (!w->quiet || !sim_changes_done(w))
        look_later(w);
}

/* Cut off, or dead, from shortly before the epoch begins or after it has. */
void sim_changes_on_epoch(struct sim_world *w, const struct sim_epoch *next)
{
    struct sim_random r = sim_random_stream(w->plan.seed, SIM_STREAM_CHANGES + 400, w->now_us);
    struct sim_host *h = &w->host[next->changed];
    if (w->quiet || !sim_random_chance(&r, w->plan.struck_ppm))
        return;
    uint64_t soon = 1 + sim_random_below(&r, 300 * SIM_MS);
    if (sim_random_chance(&r, 500000))
        sim_faults_isolate_later(w, h->index, soon,
                                 sim_random_exponential(&r, w->plan.cut_mean_us));
    else if (h->up)
        sim_push_for(h, (struct sim_event){.type = SIM_DIE}, w->now_us + soon);
}

static bool renews(const struct sim_world *w)
{
    for (uint16_t i = 0; i < w->fleets; i++) {
        const struct sim_fleet *f = w->host[w->dcs + i].as.fleet;
        for (size_t k = 0; k < f->count; k++)
            if (f->meter[k].renews)
                return true;
    }
    return false;
}

bool sim_changes_done(const struct sim_world *w)
{
    const struct sim_changes *c = w->changes;
    for (unsigned i = 0; i < w->names; i++)
        if (c->dc[i].wants != 0 || w->name[i].pending != NULL)
            return false;
    const struct sim_epoch *newest = sim_epoch(w, (uint32_t)c->count);
    return newest != NULL && newest->committee.from <= sim_agreed(w) + 1 && !renews(w) &&
           w->count.change[SIM_CHANGE_REVOKE] == c->revocations &&
           w->count.change[SIM_CHANGE_RETAIN] == c->retentions;
}
