#include "tests/node/net_internal.h"

#include "channel/channel.h"

#include <stdio.h>

#define DELAY_US 1000 /* of a frame */

static void net_schedule(struct net *net, struct event *e, uint64_t delay_us)
{
    e->at_us = net->now_us + delay_us;
    struct event **at = &net->queue;
    while (*at != NULL && (*at)->at_us <= e->at_us)
        at = &(*at)->next;
    e->next = *at;
    *at = e;
}

static struct event *net_event(unsigned type, unsigned node, size_t size)
{
    struct event *e = calloc(1, sizeof *e + size);
    AMI_CHECK(e != NULL);
    e->type = type;
    e->node = node;
    e->size = size;
    return e;
}

/* --- links --------------------------------------------------------------------------------------
 */

env_link net_new_end(struct net *net, unsigned node)
{
    net->end = realloc(net->end, (net->ends + 1) * sizeof *net->end);
    AMI_CHECK(net->end != NULL);
    net->end[net->ends] = (struct end){.node = node, .open = true};
    return net->ends++;
}

unsigned net_life_of(const struct net *net, unsigned node)
{
    return node == TEST_END ? 0 : net->host[node].starts;
}

void net_open_pair(struct net *net, unsigned from, unsigned to, enum node_port to_port,
                   const struct ami_id *name, env_link ids[2])
{
    ids[0] = net_new_end(net, from);
    ids[1] = net_new_end(net, to);
    net->end[ids[0]].other = ids[1];
    net->end[ids[1]].other = ids[0];
    struct event *far = net_event(EVENT_OPEN, to, 0);
    far->link = ids[1];
    far->port = to_port;
    if (to_port == NODE_PORT_DIALLED)
        far->dialled = *name;
    far->start = net_life_of(net, to);
    net_schedule(net, far, 0);
    if (from == TEST_END)
        return;
    struct event *near = net_event(EVENT_OPEN, from, 0);
    near->link = ids[0];
    near->port = NODE_PORT_DIALLED;
    near->dialled = *name;
    near->start = net_life_of(net, from);
    net_schedule(net, near, 0);
}

static bool is_heard(const struct net *net, const struct end *from, env_link at)
{
    const struct host *h = &net->host[net->end[at].node];
    return h->hearing == HEARS_ALL || (h->hearing == HEARS_ON_OWN_LINKS && h->to[from->node] == at);
}

enum ami_status net_send_frame(struct net *net, env_link link, struct span frame)
{
    struct end *e = &net->end[link];
    if (!e->open)
        return AMI_CLOSED;
    struct end *far = &net->end[e->other];
    if (e->node != TEST_END && far->node != TEST_END &&
        (net->host[e->node].mute || !is_heard(net, e, e->other) ||
         (frame.data[1] != MSG_LINK_HELLO && frame.data[1] != MSG_LINK_PROOF &&
          fixture_u64(&net->rng) % 100 < net->loss_percent)))
        return AMI_OK;
    struct event *x = net_event(EVENT_FRAME, far->node, frame.size);
    x->link = e->other;
    x->start = net_life_of(net, far->node);
    memcpy(x->bytes, frame.data, frame.size);
    net_schedule(net, x, DELAY_US);
    return AMI_OK;
}

void net_close_link(struct net *net, env_link link)
{
    if (!net->end[link].open)
        return;
    env_link ids[2] = {link, net->end[link].other};
    for (int i = 0; i < 2; i++) {
        net->end[ids[i]].open = false;
        struct event *x = net_event(EVENT_CLOSED, net->end[ids[i]].node, 0);
        x->link = ids[i];
        x->start = net_life_of(net, x->node);
        net_schedule(net, x, DELAY_US);
    }
    net->connect_us = net->now_us + 10 * DELAY_US;
}

static bool wants(const struct host *h, const struct ami_id *name)
{
    for (size_t i = 0; i < h->wants; i++)
        if (ami_id_equal(&h->want[i], name))
            return true;
    return false;
}

/* What the processes' dialers do: those that run reach those that run and are wanted. */
static void net_connect_all(struct net *net)
{
    net->connect_us = UINT64_MAX;
    for (unsigned i = 0; i < net->count; i++) {
        struct host *h = &net->host[i];
        for (unsigned j = 0; h->node != NULL && j < net->count; j++) {
            const struct ami_id *name = &net->host[j].key[0].device.name;
            bool open = h->to[j] != 0 && net->end[h->to[j]].open;
            bool wanted = net->host[j].node != NULL && wants(h, name);
            env_link ids[2];
            if (open && !wanted)
                net_close_link(net, h->to[j]);
            if (open || !wanted)
                continue;
            net_open_pair(net, i, j, NODE_PORT_PEER, name, ids);
            h->to[j] = ids[0];
        }
    }
}

/* --- environment -------------------------------------------------------------------------------
 */

static uint64_t env_mono(void *ctx)
{
    return ((struct host *)ctx)->net->now_us;
}

static int64_t env_wall(void *ctx)
{
    struct host *h = ctx;
    return h->net->f->genesis.created_ms + 1000 + (int64_t)(h->net->now_us / 1000) +
           h->wall_ahead_ms;
}

static void env_alarm(void *ctx, uint64_t at_us)
{
    ((struct host *)ctx)->alarm_us = at_us;
}

static enum ami_status env_send(void *ctx, env_link link, struct span frame)
{
    return net_send_frame(((struct host *)ctx)->net, link, frame);
}

static size_t env_queued(void *ctx, env_link link)
{
    (void)link;
    return ((struct host *)ctx)->queued;
}

static void env_close(void *ctx, env_link link)
{
    net_close_link(((struct host *)ctx)->net, link);
}

static void env_random(void *ctx, void *out, size_t size)
{
    fixture_bytes(&((struct host *)ctx)->net->rng, out, size);
}

static void env_log(void *ctx, enum env_log_level level, const char *name, const char *detail)
{
    if (getenv("NET_LOG") != NULL)
        fprintf(stderr, "%8llu dc-%u %d %s %s\n",
                (unsigned long long)((struct host *)ctx)->net->now_us,
                ((struct host *)ctx)->index + 1, level, name, detail);
}

static enum ami_status env_work(void *ctx, void (*run)(void *job), void *job)
{
    struct host *h = ctx;
    struct event *x = net_event(EVENT_WORK, h->index, 0);
    x->run = run;
    x->job = job;
    x->start = h->starts;
    net_schedule(h->net, x, h->net->work_us);
    return AMI_OK;
}

static enum ami_status env_store(void *ctx, void *write)
{
    struct host *h = ctx;
    struct event *x = net_event(EVENT_STORED, h->index, 0);
    const struct store_batch *b = &((struct node_write *)write)->batch;
    if (b->prune_below != 0) {
        h->pruning.steps++;
        h->pruning.beside += h->writing != 0;
        h->pruning.bytes = b->prune_bytes;
        if (h->pruning.least == 0 || b->prune_bytes < h->pruning.least)
            h->pruning.least = b->prune_bytes;
    }
    h->writes++;
    h->writing++;
    x->job = write;
    x->start = h->starts;
    net_schedule(h->net, x, h->disk_us);
    return AMI_OK;
}

struct env host_env(struct host *h)
{
    return (struct env){h,          env_mono, env_wall, env_alarm, env_send,  env_close,
                        env_random, env_log,  env_work, env_store, env_queued};
}

/* --- time ---------------------------------------------------------------------------------------
 */

static void to_test(struct net *net, const struct event *e)
{
    struct net_peer *p = net->end[e->link].peer;
    if (p == NULL)
        return;
    if (e->type == EVENT_CLOSED)
        p->open = false;
    if (e->type != EVENT_FRAME)
        return;
    struct net_inbox *x = malloc(sizeof *x + e->size), **at = &p->inbox;
    AMI_CHECK(x != NULL);
    x->next = NULL;
    x->size = e->size;
    memcpy(x->bytes, e->bytes, e->size);
    while (*at != NULL)
        at = &(*at)->next;
    *at = x;
}

static void to_node(struct net *net, struct event *e)
{
    struct host *h = &net->host[e->node];
    if (h->node == NULL || e->start != h->starts)
        return;
    switch (e->type) {
    case EVENT_OPEN:
        node_on_open(h->node, e->link, e->port, e->port == NODE_PORT_DIALLED ? &e->dialled : NULL);
        if (e->port == NODE_PORT_ADMIN && net->asker.role != 0)
            node_on_identity(h->node, e->link, &net->asker, CHANNEL_SM4_GCM);
        break;
    case EVENT_CLOSED:
        node_on_closed(h->node, e->link);
        break;
    case EVENT_FRAME:
        node_on_frame(h->node, e->link, span_of(e->bytes, e->size));
        break;
    case EVENT_WORK:
        e->run(e->job);
        node_on_work(h->node, e->job);
        break;
    case EVENT_STORED:
        h->writing--;
        if (h->disk == AMI_OK)
            host_disk_write(h, &((struct node_write *)e->job)->batch);
        node_on_stored(h->node, e->job, h->disk);
        break;
    }
}

/* One event or one alarm; false when nothing is due before `until`. */
static bool advance(struct net *net, uint64_t until)
{
    unsigned next = NET_NODES_MAX;
    uint64_t at = net->queue == NULL ? UINT64_MAX : net->queue->at_us;
    for (unsigned i = 0; i < net->count; i++)
        if (net->host[i].node != NULL && net->host[i].alarm_us < at) {
            at = net->host[i].alarm_us;
            next = i;
        }
    const bool connect = net->connect_us <= at;
    if (connect)
        at = net->connect_us;
    if (at > until) {
        net->now_us = until;
        return false;
    }
    if (at > net->now_us)
        net->now_us = at;
    if (connect) {
        net_connect_all(net);
        return true;
    }
    if (next != NET_NODES_MAX) {
        net->host[next].alarm_us = UINT64_MAX;
        node_on_time(net->host[next].node);
        return true;
    }
    struct event *e = net->queue;
    net->queue = e->next;
    if (e->node == TEST_END)
        to_test(net, e);
    else
        to_node(net, e);
    free(e);
    return true;
}

bool net_until(struct net *net, uint64_t limit_ms, bool (*done)(struct net *net, void *arg),
               void *arg)
{
    uint64_t until = net->now_us + limit_ms * 1000;
    while (!done(net, arg))
        if (!advance(net, until))
            return done(net, arg);
    return true;
}

static bool never(struct net *net, void *arg)
{
    (void)net;
    (void)arg;
    return false;
}

void net_run_us(struct net *net, uint64_t us)
{
    uint64_t until = net->now_us + us;
    while (advance(net, until))
        ;
}

void net_run_ms(struct net *net, uint64_t ms)
{
    net_until(net, ms, never, NULL);
}
