#include "tests/consensus/world_internal.h"

#include <stdio.h>

/* --- running ---------------------------------------------------------------------------------- */

static void submit(struct world *w)
{
    if (w->tx_count == WORLD_TXS_MAX)
        return;
    uint32_t tx = w->tx_count++;
    for (unsigned i = 0; i < world_nodes(w); i++)
        w->node[i].arrived[tx] = w->now;
    for (unsigned i = 0; i < world_nodes(w); i++)
        if (w->node[i].up)
            world_push_for(w, i, EV_WORK, 0);
}

void world_submit(struct world *w, unsigned count)
{
    while (count-- > 0)
        submit(w);
}

void world_start_all(struct world *w)
{
    if (w->started)
        return;
    w->started = true;
    for (unsigned i = 0; i < world_nodes(w); i++)
        world_start(w, i);
    if (w->o.submit_every_us != 0)
        world_push(w,
                   (struct world_event){.at_us = w->now + w->o.submit_every_us, .type = EV_SUBMIT});
}

void world_step(struct world *w)
{
    world_start_all(w);
    AMI_CHECK(w->heap_size > 0);
    struct world_event ev = world_pop(w);
    w->now = ev.at_us;
    w->events++;
    struct node *n = &w->node[ev.node];
    if (ev.type == EV_FRAME) {
        world_on_frame(w, &ev);
        world_release(ev.frame);
    } else if (ev.type == EV_SUBMIT) {
        submit(w);
        world_push(w,
                   (struct world_event){.at_us = w->now + w->o.submit_every_us, .type = EV_SUBMIT});
    } else if (ev.type == EV_START) {
        if (!n->up && !n->gone)
            world_start(w, ev.node);
    } else if (!n->up || n->life != ev.life) {
        return;
    } else if (ev.type == EV_WRITTEN) {
        world_written(w, ev.node);
    } else if (ev.type == EV_VALIDATED) {
        n->validating = false;
        struct replica_event e = {.type = REPLICA_VALIDATED, .u.validated = {ev.hash, ev.status}};
        world_feed(w, ev.node, &e);
    } else if (ev.type == EV_BUILD) {
        world_build(w, ev.node, &ev);
    } else if (ev.type == EV_BODY) {
        world_stored_body(w, ev.node, &ev.hash);
    } else if (ev.type == EV_ALARM) {
        if (n->alarm_at == ev.at_us)
            world_feed_flag(w, ev.node, REPLICA_TIME, false);
    } else if (ev.type == EV_WORK) {
        if (world_waiting(w, n))
            world_feed_flag(w, ev.node, REPLICA_WORK, true);
        if (n->up)
            world_progress(w, ev.node);
    } else if (ev.type == EV_TICK) {
        world_progress(w, ev.node);
        world_push_for(w, ev.node, EV_TICK, 100 * MS);
    }
}

void world_run(struct world *w, uint64_t for_us)
{
    world_start_all(w);
    uint64_t end = w->now + for_us;
    while (w->violation[0] == 0 && w->heap_size > 0 && w->heap[0].at_us <= end)
        world_step(w);
    if (w->violation[0] == 0)
        w->now = end;
}

static bool all_at(const struct world *w, uint64_t height)
{
    for (unsigned i = 0; i < world_nodes(w); i++)
        if (world_honest(w, i) && w->node[i].up && w->node[i].height < height)
            return false;
    return true;
}

bool world_run_until_height(struct world *w, uint64_t height, uint64_t for_us)
{
    world_start_all(w);
    uint64_t end = w->now + for_us;
    while (w->violation[0] == 0 && !all_at(w, height) && w->heap_size > 0 &&
           w->heap[0].at_us <= end)
        world_step(w);
    return all_at(w, height);
}

int world_run_until_leader(struct world *w, uint64_t for_us)
{
    world_start_all(w);
    uint64_t end = w->now + for_us;
    while (w->violation[0] == 0 && w->heap_size > 0 && w->heap[0].at_us <= end) {
        world_step(w);
        for (unsigned i = 0; i < w->o.n; i++) {
            if (!w->node[i].up || replica_role(w->node[i].replica) != REPLICA_LEADER)
                continue;
            unsigned followers = 0;
            uint8_t leader;
            for (unsigned j = 0; j < w->o.n; j++)
                if (w->node[j].up && replica_leader(w->node[j].replica, &leader) && leader == i)
                    followers++;
            if (followers >= members_quorum(w->o.n))
                return (int)i;
        }
    }
    return -1;
}

/* --- who is who --------------------------------------------------------------------------------
 */

unsigned world_nodes(const struct world *w)
{
    return w->o.n + w->o.twins;
}

bool world_honest(const struct world *w, unsigned node)
{
    uint8_t m = world_member(w, node);
    return m >= w->o.twins && (w->byzantine >> m & 1) == 0;
}

void world_set_byzantine(struct world *w, uint32_t mask)
{
    w->byzantine = mask;
}

void world_censor(struct world *w, unsigned node, uint32_t tx)
{
    w->censored[node] = tx + 1;
}

void world_heal(struct world *w)
{
    memset(w->cut, 0, sizeof w->cut);
    w->quiet = true;
    for (unsigned i = 0; i < world_nodes(w); i++)
        w->node[i].disk_status = AMI_OK;
}

/* --- making and asking ----------------------------------------------------------------------- */

struct world *world_new(const struct world_options *o)
{
    struct world *w = must(calloc(1, sizeof *w));
    w->o = *o;
    w->random = o->seed * UINT64_C(0x2545f4914f6cdd1d) + 1;
    w->fx = must(malloc(sizeof *w->fx));
    w->parameters = (struct parameters){.election_timeout_ms = 600,
                                        .progress_timeout_ms = 3000,
                                        .heartbeat_ms = 100,
                                        .block_age_ms = 50,
                                        .block_txs_max = WORLD_BODY_BYTES / 4,
                                        .block_bytes_max = WORLD_BODY_BYTES,
                                        .timestamp_back_ms = 30000,
                                        .timestamp_ahead_ms = 30000};
    struct members *m = &w->members;
    m->count = (uint8_t)o->n;
    m->epoch = 1;
    m->chain = sm3(SPAN_LITERAL("test chain"));
    for (unsigned i = 0; i < o->n; i++) {
        char name[16];
        snprintf(name, sizeof name, "dc-%u", i + 1);
        AMI_CHECK(ami_id_from_text(&m->member[i].name, name) == AMI_OK);
        m->member[i].key_epoch = 1;
    }
    test_keys(m, w->keys, o->n, o->seed);
    m->hash = members_hash(m);
    return w;
}

void world_free(struct world *w)
{
    for (unsigned i = 0; i < world_nodes(w); i++) {
        struct node *n = &w->node[i];
        free(n->replica);
        world_drop_write(n->write);
        world_free_span(n->record_bytes);
        free(n->record);
        for (uint64_t h = 0; h < n->height; h++)
            stored_free(n->chain[h]);
        free(n->chain);
        for (size_t k = 0; k < KEPT_MAX; k++)
            stored_free(n->kept[k]);
    }
    for (size_t i = 0; i < w->heap_size; i++)
        world_release(w->heap[i].frame);
    for (uint64_t h = 0; h < w->preload_count; h++)
        stored_free(w->preloaded[h]);
    free(w->preloaded);
    free(w->heap);
    free(w->slots);
    free(w->agreed);
    free(w->leader_of);
    free(w->fx);
    free(w);
}

const char *world_violation(const struct world *w)
{
    return w->violation[0] == 0 ? NULL : w->violation;
}
sm3_digest world_block(const struct world *w, unsigned i, uint64_t height)
{
    AMI_CHECK(height >= 1 && height <= w->node[i].height);
    return w->node[i].chain[height - 1]->hash;
}
void world_set_clock(struct world *w, unsigned i, int64_t offset_ms)
{
    w->node[i].clock_offset_ms = offset_ms;
}
uint64_t world_now(const struct world *w)
{
    return w->now;
}
bool world_tx_committed(const struct world *w, unsigned node, uint32_t tx)
{
    return w->node[node].committed[tx];
}
uint32_t world_txs(const struct world *w)
{
    return w->tx_count;
}
struct replica *world_replica(struct world *w, unsigned node)
{
    return w->node[node].replica;
}
const struct members *world_members(const struct world *w)
{
    return &w->members;
}
const struct sign_key *world_key(const struct world *w, unsigned node)
{
    return &w->keys[node];
}
uint64_t world_height(const struct world *w, unsigned node)
{
    return w->node[node].height;
}
uint64_t world_elections(const struct world *w)
{
    return w->elections;
}
uint64_t world_events(const struct world *w)
{
    return w->events;
}
uint64_t world_trace(const struct world *w)
{
    return w->trace;
}
uint32_t world_convicted(const struct world *w, unsigned node)
{
    return w->node[node].convicted;
}
unsigned world_notes(const struct world *w, unsigned node, enum replica_note_type type)
{
    return w->node[node].notes[type];
}
