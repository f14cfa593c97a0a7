#include "tests/consensus/world_internal.h"

#include "ledger/evidence.h"

#define TIMER_QUOTA 64

int64_t world_wall(const struct world *w, const struct node *n)
{
    return WALL_START_MS + (int64_t)(w->now / 1000) + n->clock_offset_ms;
}

void world_feed_flag(struct world *w, unsigned i, enum replica_event_type type, bool flag)
{
    struct replica_event e = {.type = type, .u.flag = flag};
    world_feed(w, i, &e);
}

bool world_waiting(const struct world *w, const struct node *n)
{
    for (uint32_t tx = n->first_waiting; tx < w->tx_count; tx++)
        if (!n->committed[tx])
            return true;
    return false;
}

/* Rule 8: has the timer of one of the first transactions that wait run out? */
void world_progress(struct world *w, unsigned i)
{
    struct node *n = &w->node[i];
    bool expired = false;
    unsigned seen = 0;
    for (uint32_t tx = n->first_waiting; tx < w->tx_count && seen < TIMER_QUOTA; tx++) {
        if (n->committed[tx])
            continue;
        seen++;
        if (n->arrived[tx] + w->parameters.progress_timeout_ms * MS <= w->now)
            expired = true;
    }
    if (expired == n->progress_said)
        return;
    n->progress_said = expired;
    world_feed_flag(w, i, REPLICA_PROGRESS, expired);
}

static void on_notes(struct world *w, unsigned i, const struct effects *fx, bool *new_leader)
{
    for (size_t k = 0; k < fx->note_count; k++) {
        const struct replica_note *note = &fx->note[k];
        w->node[i].notes[note->type]++;
        if (note->type != REPLICA_NOTE_LEADER)
            continue;
        world_check_leader(w, note->member, note->term);
        *new_leader = true;
    }
}

/* Rule 12: whatever is called evidence convicts, and nobody honest. */
static void on_evidence(struct world *w, unsigned i, const struct effects *fx)
{
    for (size_t k = 0; k < fx->evidence_count; k++) {
        struct evidence e;
        if (evidence_parse(&e, fx->evidence[k].encoded) != AMI_OK ||
            evidence_check(&w->members, &e) != AMI_OK || e.accused != fx->evidence[k].accused ||
            e.kind != fx->evidence[k].kind) {
            world_violate(w, "node %u: evidence that convicts nobody", i);
            continue;
        }
        if (world_judged(w, e.accused))
            world_violate(w, "node %u shows evidence (%s) against member %u, which is honest", i,
                          evidence_kind_name(e.kind), e.accused);
        w->node[i].convicted |= 1u << e.accused;
    }
}

static void start_write(struct world *w, unsigned i, const struct effects *fx)
{
    struct node *n = &w->node[i];
    if (n->write != NULL) {
        world_violate(w, "node %u: two writes at once", i);
        return;
    }
    struct write *d = must(calloc(1, sizeof *d));
    d->ticket = fx->persist.ticket;
    d->record = world_copy(fx->persist.vote_record);
    if (fx->persist.body_header.size != 0) {
        struct block_header h;
        AMI_CHECK(block_header_parse(&h, fx->persist.body_header) == AMI_OK);
        d->keep = stored_new(&h, span_of(NULL, 0), fx->persist.body);
    }
    if (fx->persist.commit) {
        d->commit =
            stored_new(fx->persist.header, fx->persist.block_commit, fx->persist.block_body);
        if (world_validate(w, n, fx->persist.header, fx->persist.block_body, false, 0) != AMI_OK &&
            w->o.rules_off == 0)
            world_violate(w, "node %u commits a block that is not valid", i);
    }
    if (d->commit != NULL && n->validating)
        world_violate(w, "node %u commits while a block is being checked", i);
    if (n->mute && d->record.size != 0)
        world_violate(w, "node %u may not sign and writes a record", i);
    n->write = d;
    world_push_for(w, i, EV_WRITTEN, world_delay(w, w->o.disk_mean_us, 200));
}

static void on_deliver(struct world *w, unsigned i, const struct effects *fx)
{
    struct node *n = &w->node[i];
    uint64_t h = fx->deliver.header->height;
    if (h != n->delivered + 1 || h > n->height ||
        !sm3_equal(&n->chain[h - 1]->hash, &fx->deliver.block))
        world_violate(w, "node %u delivered height %llu before it was durable or twice", i,
                      (unsigned long long)h);
    n->delivered = h;
    world_settle(w, n, fx->deliver.body);
}

void world_feed(struct world *w, unsigned i, struct replica_event *e)
{
    struct node *n = &w->node[i];
    struct effects *fx = w->fx;
    e->now_us = w->now;
    e->wall_ms = world_wall(w, n);
    replica_step(n->replica, e, fx);
    bool new_leader = false, delivered = fx->has_deliver;
    on_notes(w, i, fx, &new_leader);
    on_evidence(w, i, fx);
    if (fx->has_persist)
        start_write(w, i, fx);
    for (size_t k = 0; k < fx->send_count; k++) {
        world_check_frame(w, i, fx->send[k].type, fx->send[k].frame);
        world_send_many(w, (uint8_t)i, fx->send[k].to, fx->send[k].frame);
    }
    if (fx->has_deliver)
        on_deliver(w, i, fx);
    if (fx->has_validate) {
        if (n->validating)
            world_violate(w, "node %u: two validations at once", i);
        n->validating = true;
        world_push(w, (struct world_event){.at_us = w->now + 100 + world_random(w, 400),
                                           .type = EV_VALIDATED,
                                           .node = (uint8_t)i,
                                           .life = n->life,
                                           .hash = fx->validate.block,
                                           .status = world_validate(
                                               w, n, fx->validate.header, fx->validate.body,
                                               fx->validate.fresh, fx->validate.received_wall_ms)});
    }
    if ((fx->has_validate || fx->has_build) && n->write != NULL && n->write->commit != NULL)
        world_violate(w, "node %u: a check or a build while a commit is being written", i);
    if (fx->has_build)
        world_push(w, (struct world_event){.at_us = w->now + 100 + world_random(w, 400),
                                           .type = EV_BUILD,
                                           .node = (uint8_t)i,
                                           .life = n->life,
                                           .ticket = fx->build.ticket,
                                           .term = fx->build.term,
                                           .hash = fx->build.parent});
    if (fx->has_need_body)
        world_push(w, (struct world_event){.at_us = w->now + 100,
                                           .type = EV_BODY,
                                           .node = (uint8_t)i,
                                           .life = n->life,
                                           .hash = fx->need_body});
    if (fx->deadline_us <= w->now)
        world_violate(w, "node %u: a deadline that has passed", i);
    if (fx->deadline_us != n->alarm_at && fx->deadline_us != UINT64_MAX)
        world_push(w, (struct world_event){.at_us = fx->deadline_us,
                                           .type = EV_ALARM,
                                           .node = (uint8_t)i,
                                           .life = n->life});
    n->alarm_at = fx->deadline_us;
    if (new_leader) { /* a new leader gets the full time again */
        for (uint32_t tx = n->first_waiting; tx < w->tx_count; tx++)
            n->arrived[tx] = w->now;
        n->progress_said = false;
    }
    if (delivered || new_leader)
        world_push_for(w, i, EV_WORK, 0);
}

void world_build(struct world *w, unsigned i, const struct world_event *ev)
{
    struct node *n = &w->node[i];
    uint8_t body[WORLD_BODY_BYTES];
    size_t size = 0;
    for (uint32_t tx = n->first_waiting; tx < w->tx_count && size + 4 <= sizeof body; tx++) {
        if (n->committed[tx] || w->censored[i] == tx + 1)
            continue;
        store_be32(body + size, tx);
        size += 4;
    }
    struct replica_event e = {.type = REPLICA_BUILT, .u.built.ticket = ev->ticket};
    struct block_header h;
    if (size != 0 && sm3_equal(&ev->hash, world_tip(w, n))) {
        int64_t after = n->height == 0 ? 0 : n->chain[n->height - 1]->header.timestamp_ms + 1;
        int64_t stamp = world_wall(w, n) > after ? world_wall(w, n) : after;
        world_make_block(w, &h, world_tip(w, n), n->height + 1, ev->term, world_member(w, i), stamp,
                         span_of(body, size));
        e.u.built.header = &h;
        e.u.built.body = span_of(body, size);
    }
    world_feed(w, i, &e);
}

void world_written(struct world *w, unsigned i)
{
    struct node *n = &w->node[i];
    struct write *d = n->write;
    AMI_CHECK(d != NULL);
    n->write = NULL;
    struct replica_event e = {.type = REPLICA_PERSISTED,
                              .u.persisted = {d->ticket, n->disk_status}};
    if (!w->quiet && world_chance(w, w->o.crash_before_per_mille, 1000)) {
        world_drop_write(d);
        world_crash(w, i);
    } else if (!w->quiet && world_chance(w, w->o.crash_after_per_mille, 1000)) {
        world_apply(w, i, d);
        world_crash(w, i);
    } else {
        if (n->disk_status == AMI_OK)
            world_apply(w, i, d);
        else
            world_drop_write(d);
        world_feed(w, i, &e);
        return;
    }
    world_push_for(w, i, EV_START, world_delay(w, w->o.down_mean_us, SECONDS));
}

void world_stored_body(struct world *w, unsigned i, const sm3_digest *hash)
{
    const struct stored *s = world_find_kept(&w->node[i], hash);
    struct replica_event e = {.type = REPLICA_STORED_BODY, .u.stored_body.block = *hash};
    if (s != NULL) {
        e.u.stored_body.header = &s->header;
        e.u.stored_body.body = s->body;
    }
    world_feed(w, i, &e);
}

void world_on_frame(struct world *w, const struct world_event *ev)
{
    enum message_type type;
    struct span body;
    if (!w->node[ev->node].up ||
        frame_open(span_of(ev->frame->data, ev->frame->size), &type, &body) != AMI_OK)
        return;
    if (type == MSG_FETCH_BLOCKS || type == MSG_FETCH_BODY) {
        world_serve(w, ev->node, ev->from, type, body);
        return;
    }
    struct replica_event e = {
        .type = REPLICA_MESSAGE,
        .u.message = {.from = world_member(w, ev->from), .type = type, .body = body}};
    world_feed(w, ev->node, &e);
}

/* --- lives ----------------------------------------------------------------------------------- */

void world_crash(struct world *w, unsigned i)
{
    struct node *n = &w->node[i];
    world_start_all(w);
    if (!n->up)
        return;
    n->up = false;
    n->life++;
    if (n->write != NULL && world_chance(w, 1, 2))
        world_apply(w, i, n->write);
    else
        world_drop_write(n->write);
    n->write = NULL;
    free(n->replica);
    n->replica = NULL;
}

void world_crash_for_good(struct world *w, unsigned i)
{
    world_crash(w, i);
    w->node[i].gone = true;
}

void world_start(struct world *w, unsigned i)
{
    struct node *n = &w->node[i];
    AMI_CHECK(!n->up);
    n->up = true;
    n->gone = false;
    n->life++;
    n->starts++;
    n->mute = n->lost_record;
    n->delivered = n->height;
    n->validating = n->progress_said = false;
    n->alarm_at = 0;
    memset(n->committed, 0, sizeof n->committed);
    n->first_waiting = 0;
    for (uint64_t h = 0; h < n->height; h++)
        world_settle(w, n, n->chain[h]->body);
    for (uint32_t tx = 0; tx < w->tx_count; tx++)
        n->arrived[tx] = w->now;
    static struct qc qc;
    struct replica_config c = {.members = &w->members,
                               .parameters = &w->parameters,
                               .key = &w->keys[world_member(w, i)],
                               .self = world_member(w, i),
                               .first_height = 1,
                               .rules_off = w->o.rules_off,
                               .now_us = w->now,
                               .may_sign = !n->mute,
                               .starts = n->starts,
                               .record = n->has_record ? n->record : NULL,
                               .tip_height = n->height,
                               .tip = *world_tip(w, n),
                               .tip_timestamp_ms = 0};
    store_be64(c.seed, w->o.seed);
    store_be64(c.seed + 8, n->starts * 64 + world_member(w, i)); /* twins draw the same */
    if (n->height != 0) {
        AMI_CHECK(qc_parse(&qc, n->chain[n->height - 1]->qc) == AMI_OK);
        c.tip_commit = &qc;
        c.tip_timestamp_ms = n->chain[n->height - 1]->header.timestamp_ms;
    }
    void *memory = must(calloc(1, replica_size(&w->parameters)));
    enum ami_status s = replica_init(&n->replica, memory, &c);
    if (s != AMI_OK) {
        world_violate(w, "node %u does not start: %s", i, ami_status_name(s));
        AMI_CHECK(false && "replica_init");
    }
    world_feed_flag(w, i, REPLICA_TIME, false);
    world_push_for(w, i, EV_WORK, 0);
    world_push_for(w, i, EV_TICK, 100 * MS);
}

void world_lose_record(struct world *w, unsigned i)
{
    AMI_CHECK(!w->node[i].up);
    w->node[i].has_record = false;
    w->node[i].lost_record = true;
}

bool world_up(const struct world *w, unsigned i)
{
    return w->node[i].up;
}

void world_disk_fails(struct world *w, unsigned i, enum ami_status status)
{
    w->node[i].disk_status = status;
}
