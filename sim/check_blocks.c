/* sim/check_blocks.c - what is on honest disks: see checks.h. */
#include "sim/checks.h"

#include "base/check.h"
#include "ledger/block.h"

#include <stdlib.h>

/* --- disks ----------------------------------------------------------------------------------- */

static struct sim_meter *meter_named(const struct sim_world *w, const struct ami_id *name)
{
    unsigned long k = name->size > 2 ? strtoul(name->text + 2, NULL, 10) : 0; /* m-1, m-2, ... */
    struct sim_meter *m = k >= 1 && k <= w->plan.meters ? w->checks->meter[k - 1] : NULL;
    return m != NULL && ami_id_equal(&m->key[0]->name, name) ? m : NULL;
}

static void check_report(struct sim_host *h, const struct report_meter_part *p, uint64_t height)
{
    struct sim_world *w = h->world;
    struct sim_meter *m = meter_named(w, &p->meter);
    struct sim_book *b =
        m != NULL && p->epoch >= 1 && p->epoch <= m->epoch ? &m->book[p->epoch - 1] : NULL;
    if (b == NULL || p->sequence == 0 || p->sequence > b->reports ||
        !sm3_equal(&b->report[p->sequence - 1].commitment, &p->commitment))
        sim_violate(w, "made-by-meter",
                    "dc-%u: block %llu has report %llu of %s, which that meter did not make",
                    h->as.dc->number + 1u, ull(height), ull(p->sequence), p->meter.text);
    else if (b->revoked_at != 0)
        sim_violate(w, "revoked",
                    "dc-%u: block %llu has report %llu of %s, whose key was revoked in block %llu",
                    h->as.dc->number + 1u, ull(height), ull(p->sequence), p->meter.text,
                    ull(b->revoked_at));
    else
        b->report[p->sequence - 1].height = height;
}

/* --- changes --------------------------------------------------------------------------------- */

static void check_new_keys(struct sim_world *w, const struct meter_enrol *e)
{
    const struct sim_meter *m = meter_named(w, &e->meter);
    if (m != NULL)
        w->count.change[ami_id_equal(&m->home, &e->home_dc) ? SIM_CHANGE_MOVE : SIM_CHANGE_RENEW]++;
}

static void check_revocation(struct sim_world *w, const struct revoke *r, uint64_t height)
{
    struct sim_meter *m = r->role == DEVICE_METER ? meter_named(w, &r->device) : NULL;
    if (m == NULL || r->epoch == 0 || r->epoch > m->epoch || !m->to_revoke) {
        sim_violate(w, "revoked", "block %llu revokes a key of %s that nobody asked for",
                    ull(height), r->device.text);
        return;
    }
    m->book[r->epoch - 1].revoked_at = height;
    w->count.change[SIM_CHANGE_REVOKE]++;
}

static bool was_member(const struct sim_world *w, uint8_t number)
{
    for (uint32_t e = 1; e <= sim_epochs(w); e++)
        if (sim_index_in(sim_epoch(w, e), number) != SIM_NOBODY)
            return true;
    return false;
}

static void count_change(struct sim_world *w, const struct membership *m, uint8_t number)
{
    static const enum sim_change kinds[] = {[MEMBER_JOIN] = SIM_CHANGE_JOIN,
                                            [MEMBER_LEAVE] = SIM_CHANGE_LEAVE,
                                            [MEMBER_ROTATE] = SIM_CHANGE_ROTATE};
    enum sim_change kind = kinds[m->change];
    if (kind == SIM_CHANGE_JOIN && was_member(w, number))
        kind = SIM_CHANGE_REJOIN;
    if (kind == SIM_CHANGE_ROTATE && w->host[number].as.dc->key_lost != 0)
        kind = SIM_CHANGE_ROTATE_LOST;
    w->count.change[kind]++;
}

/* The next epoch is decided. */
static void check_membership(struct sim_world *w, const struct membership *m, uint64_t height)
{
    struct sim_checks *c = w->checks;
    const struct sim_epoch *before = c->epoch[c->epochs - 1];
    uint8_t number = sim_number_of(w, &m->dc);
    if (before->committee.from > height || number == SIM_NOBODY) {
        sim_violate(w, "epoch", "block %llu changes the committee while a change is pending",
                    ull(height));
        return;
    }
    count_change(w, m, number);
    struct sim_epoch *e = sim_checks_add_epoch(c);
    e->committee = before->committee;
    if (committee_change(&e->committee, &w->cast->genesis.network, m, height) != AMI_OK)
        sim_violate(w, "epoch", "block %llu holds a change that does not fit the committee",
                    ull(height));
    sim_checks_number(w, e);
    e->change = m->change;
    e->changed = number;
    sim_changes_on_epoch(w, e);
}

/* Who was where when an epoch began: seldom paths. */
static void count_begin(struct sim_world *w, const struct sim_epoch *e)
{
    const struct sim_host *h = &w->host[e->changed];
    bool cut = true;
    for (uint8_t i = 0; i < e->committee.members.count; i++) {
        uint16_t other = e->number[i];
        cut = cut && (other == e->changed || sim_net_is_cut(w, h->index, other) ||
                      sim_net_is_cut(w, other, h->index));
    }
    if (e->change == MEMBER_JOIN) {
        w->count.rare[SIM_RARE_JOINED_DOWN] += !sim_dc_runs(h);
        w->count.rare[SIM_RARE_JOINED_CUT] += sim_dc_runs(h) && cut;
    } else {
        w->count.rare[SIM_RARE_LEADER_LEFT] += h->as.dc->leads_since_us != 0;
    }
}

/* Its first block is committed, and some are not in it yet. */
static void count_late(struct sim_world *w, const struct sim_epoch *e)
{
    const uint64_t last = e->committee.from - 1;
    for (uint16_t i = 0; i < w->names; i++) {
        const struct sim_dc *d = w->host[i].as.dc;
        const struct vote_record *r = sim_disk_record(d->disk);
        const uint64_t height = sim_disk_height(d->disk);
        if (!d->honest || height >= last)
            continue;
        if (sim_index_in(e, (uint8_t)i) != SIM_NOBODY && height + 1 < last)
            w->count.rare[SIM_RARE_EPOCH_BEHIND]++;
        if (r != NULL && r->epoch + 1 == e->committee.members.epoch && r->has_high &&
            r->high.height > height)
            w->count.rare[SIM_RARE_EPOCH_OPEN_QC]++;
    }
}

static void check_retention(struct sim_world *w, const struct retention *x, uint64_t height)
{
    w->count.change[SIM_CHANGE_RETAIN]++;
    if (x->below > sim_retained(w) || x->below > sim_followed(w) + 1)
        sim_violate(w, "retained",
                    "block %llu lets DCs prune below %llu: %llu was asked for, and the MDMS has "
                    "followed to %llu",
                    ull(height), ull(x->below), ull(sim_retained(w)), ull(sim_followed(w)));
}

/* A block that others have had before. */
static void check_form(struct sim_host *h, const struct sim_block *b)
{
    struct sim_world *w = h->world;
    if (!body_is_pruned(b->body))
        return;
    w->count.rare[SIM_RARE_PRUNED_FETCHED]++;
    if (b->header.height >= sim_retained(w))
        sim_violate(w, "retained",
                    "dc-%u took block %llu pruned, and no more than below %llu may be",
                    h->as.dc->number + 1u, ull(b->header.height), ull(sim_retained(w)));
}

/* A block that was not seen before at this height: what is in it. */
static void check_body(struct sim_host *h, const struct sim_block *b)
{
    struct sim_world *w = h->world;
    struct body_reader it = body_reader_on(b->body);
    struct span encoded;
    while (body_next(&it, &encoded)) {
        struct tx_view tx;
        if (tx_view_parse(&tx, encoded) != AMI_OK) {
            sim_violate(w, "chain", "block %llu holds something that is no transaction",
                        ull(b->header.height));
            return;
        }
        if (tx.tx.kind == TX_REVOKE)
            check_revocation(w, &tx.u.revoke, b->header.height);
        if (tx.tx.kind == TX_MEMBERSHIP)
            check_membership(w, &tx.u.membership, b->header.height);
        if (tx.tx.kind == TX_RETENTION)
            check_retention(w, &tx.u.retention, b->header.height);
        if (tx.tx.kind == TX_METER_ENROL && tx.u.meter_enrol.epoch > 1)
            check_new_keys(w, &tx.u.meter_enrol);
        if (tx.tx.kind != TX_REPORT)
            continue;
        const struct report_meter_part *p = &tx.u.report.meter;
        check_report(h, p, b->header.height);
        w->checks->committed++;
        if (!sim_checks_slot_free(w->checks, &tx))
            sim_violate(w, "once", "report %llu of %s is committed again in block %llu",
                        ull(p->sequence), p->meter.text, ull(b->header.height));
    }
}

static void new_height(struct sim_checks *c, const struct sim_block *b)
{
    if (c->agreed_count == c->agreed_capacity) {
        c->agreed_capacity = c->agreed_capacity == 0 ? 256 : 2 * c->agreed_capacity;
        c->agreed = realloc(c->agreed, c->agreed_capacity * sizeof *c->agreed);
        AMI_CHECK(c->agreed != NULL);
    }
    c->agreed[c->agreed_count++] = b->hash;
}

static void check_block(struct sim_host *h, uint64_t height)
{
    struct sim_world *w = h->world;
    struct sim_dc *d = h->as.dc;
    struct sim_checks *c = w->checks;
    const struct sim_block *b = sim_disk_block(d->disk, height);
    const struct sim_block *parent = sim_disk_block(d->disk, height - 1);
    const sm3_digest *previous = height == 1 ? &w->cast->genesis.members.chain : &parent->hash;
    sim_trace_bytes(w, b->hash.b, sizeof b->hash.b);
    sim_tell(w, h, "has block %llu: %02x%02x%02x%02x, term %llu, %u transactions", ull(height),
             b->hash.b[0], b->hash.b[1], b->hash.b[2], b->hash.b[3], ull(b->header.term),
             b->header.tx_count);
    if (d->leads_since_us != 0 && d->commits_since_us == 0)
        d->commits_since_us = w->now_us;
    if (b->header.height != height || !sm3_equal(&b->header.previous, previous))
        sim_violate(w, "chain", "dc-%u: block %llu does not extend the one before", d->number + 1u,
                    ull(height));
    if (height <= c->agreed_count) {
        if (!sm3_equal(&c->agreed[height - 1], &b->hash))
            sim_violate(w, "agreement", "dc-%u committed another block at height %llu than others",
                        d->number + 1u, ull(height));
        check_form(h, b);
        return;
    }
    AMI_CHECK(height == c->agreed_count + 1);
    new_height(c, b);
    w->count.commits++;
    if (b->commit.kind != VOTE_COMMIT && judged(w))
        sim_violate(w, "certified", "dc-%u: block %llu has no commit certificate", d->number + 1u,
                    ull(height));
    const struct sim_epoch *e = sim_epoch_at(w, height);
    if (b->header.epoch != e->committee.members.epoch ||
        !sm3_equal(&b->header.members, &e->committee.members.hash))
        sim_violate(w, "epoch", "dc-%u: block %llu is of epoch %u, not %u", d->number + 1u,
                    ull(height), (unsigned)b->header.epoch, (unsigned)e->committee.members.epoch);
    if (b->commit.height != height || !sm3_equal(&b->commit.block, &b->hash) ||
        (judged(w) && qc_check(&e->committee.members, &b->commit) != AMI_OK))
        sim_violate(w, "certified", "dc-%u: the certificate of block %llu does not verify",
                    d->number + 1u, ull(height));
    if (height == e->committee.from && height > 1)
        count_late(w, e);
    w->count.rare[SIM_RARE_EMPTY_BLOCK] += b->header.tx_count == 0;
    check_body(h, b);
    const struct sim_epoch *next = sim_epoch_at(w, height + 1);
    if (next != e)
        count_begin(w, next);
    sim_changes_on_height(w, height);
}

void sim_check_stored(struct sim_host *h, uint64_t before)
{
    struct sim_world *w = h->world;
    struct sim_dc *d = h->as.dc;
    if (w->watch != NULL && w->watch->stored != NULL)
        w->watch->stored(w->watch->ctx, h, before);
    if (!d->honest || w->plan.unjudged)
        return;
    for (uint64_t height = before + 1; height <= sim_disk_height(d->disk); height++)
        check_block(h, height);
    const struct vote_record *r = sim_disk_record(d->disk);
    struct shown *s = &w->checks->shown[d->number];
    if (judged(w) && r != NULL && !d->muted && r->epoch == s->epoch && r->term < s->term)
        sim_violate(w, "rising", "dc-%u: term %llu was shown, %llu is on its disk", d->number + 1u,
                    ull(s->term), ull(r->term));
}

void sim_check_started(struct sim_host *h)
{
    struct sim_dc *d = h->as.dc;
    const struct sim_block *tip = sim_disk_block(d->disk, sim_disk_height(d->disk));
    if (!d->honest || tip == NULL)
        return;
    sm3_digest root = registry_root(d->registry);
    if (!sm3_equal(&root, &tip->header.state_root))
        sim_violate(h->world, "state-root",
                    "dc-%u starts with another registry than block %llu certifies", d->number + 1u,
                    ull(tip->header.height));
}
