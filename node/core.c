#include "node/core.h"

#include "crypto/secret.h"
#include "node/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t node_now_us(const struct node *n)
{
    return n->env.clock_mono_us(n->env.ctx);
}

int64_t node_wall_ms(const struct node *n)
{
    return n->env.clock_wall_ms(n->env.ctx);
}

void node_random(struct node *n, void *out, size_t size)
{
    n->env.random(n->env.ctx, out, size);
}

struct node_link *node_link_find(const struct node *n, env_link id)
{
    struct node_link *l = NULL;
    HASH_FIND(hh, n->links, &id, sizeof id, l);
    return l;
}

enum ami_status node_send(struct node *n, env_link link, struct span frame)
{
    return n->env.send(n->env.ctx, link, frame);
}

size_t node_queued(const struct node *n, env_link link)
{
    return n->env.queued == NULL ? 0 : n->env.queued(n->env.ctx, link);
}

void node_close(struct node *n, env_link link)
{
    struct node_link *l = node_link_find(n, link);
    if (l == NULL || l->closing)
        return;
    l->closing = true;
    n->env.close(n->env.ctx, link);
}

struct writer node_frame(struct node *n, enum message_type type)
{
    struct writer w = writer_on(n->frame, AMI_FRAME_PEER_BYTES_MAX);
    frame_begin(&w, type);
    return w;
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

struct node *node_new(const struct node_config *config, const struct env *env,
                      enum ami_status *status)
{
    struct node *n = calloc(1, sizeof *n);
    *status = AMI_NO_MEMORY;
    if (n == NULL)
        return NULL;
    n->start_status = AMI_NO_MEMORY;
    n->c = *config;
    n->env = *env;
    for (uint8_t i = 0; i < AMI_MEMBERS_MAX; i++)
        n->link_since_us[i] = env->clock_mono_us(env->ctx);
    n->block_size = AMI_BLOCK_BYTES_MAX + 8192;
    n->frame = malloc(AMI_FRAME_PEER_BYTES_MAX);
    n->block = malloc(n->block_size);
    n->events = calloc(NODE_EVENTS_MAX, sizeof *n->events);
    n->caused = calloc(NODE_CAUSED_MAX, sizeof *n->caused);
    if (config->meter_unchecked)
        registry_leave_meters_unchecked(config->registry);
    n->pool = pool_new((struct pool_limits){config->pool_txs_max, config->pool_bytes_max});
    enum ami_status listed = operators_init(n);
    if (listed != AMI_OK)
        n->start_status = listed;
    if (n->frame == NULL || n->block == NULL || n->events == NULL || n->caused == NULL ||
        n->pool == NULL || listed != AMI_OK || !gateway_init(n) || !prune_init(n) ||
        !chain_init(n)) {
        *status = n->start_status;
        node_free(n);
        return NULL;
    }
    submit_on_commit(n);
    node_event(n, ENV_LOG_INFO, "started", "dc=%s height=%llu epoch=%u member=%d may_sign=%d",
               config->key.agree->name.text, (unsigned long long)config->height,
               (unsigned)n->committee.members.epoch, n->self != AMI_MEMBERS_MAX,
               config->key.may_sign);
    *status = AMI_OK;
    n->started_us = n->rate_at_us = node_now_us(n);
    epoch_dial(n);
    node_on_time(n);
    return n;
}

void node_free(struct node *n)
{
    if (n == NULL)
        return;
    chain_free(n);
    prune_free(n);
    gateway_free(n);
    relay_free(n);
    operators_free(n);
    epoch_free(n);
    submit_free(n);
    pool_free(n->pool);
    struct node_link *l, *tmp;
    HASH_ITER(hh, n->links, l, tmp)
    {
        HASH_DELETE(hh, n->links, l);
        free(l);
    }
    free(n->events);
    free(n->caused);
    free(n->block);
    free(n->frame);
    secret_wipe(n, sizeof *n);
    free(n);
}

/* An event may have made any part wait for something: look again soon. */
static void look_soon(struct node *n)
{
    n->next_us = min_u64(n->next_us, node_now_us(n) + NODE_TICK_US);
}

void node_on_open(struct node *n, env_link link, enum node_port port, const struct ami_id *dialled)
{
    struct node_link *l = n->link_count < NODE_LINKS_MAX ? calloc(1, sizeof *l) : NULL;
    if (l == NULL) {
        n->counters.links_refused++;
        n->env.close(n->env.ctx, link);
        return;
    }
    l->id = link;
    l->port = port;
    l->member = AMI_MEMBERS_MAX;
    if (dialled != NULL)
        l->dialled = *dialled;
    l->opened_us = node_now_us(n);
    HASH_ADD(hh, n->links, id, sizeof l->id, l);
    n->link_count++;
    if (port == NODE_PORT_PEER || port == NODE_PORT_DIALLED)
        peers_on_open(n, l);
    look_soon(n);
    node_alarm(n);
}

void node_on_identity(struct node *n, env_link link, const struct credential_identity *who,
                      uint8_t suite)
{
    struct node_link *l = node_link_find(n, link);
    if (l == NULL)
        return;
    l->identified = true;
    l->who = *who;
    l->suite = suite;
}

void node_on_refused(struct node *n, enum node_port port, const char *remote,
                     enum channel_fault fault, const struct credential_identity *who,
                     enum channel_standing standing)
{
    static const char *const name[] = {[NODE_PORT_PEER] = "peers",
                                       [NODE_PORT_METER] = "meters",
                                       [NODE_PORT_ADMIN] = "admin",
                                       [NODE_PORT_DIALLED] = "dialled"};
    /* Who is proven has its own share of the log: strangers do not use it up. */
    static const struct ami_id stranger;
    node_event_of(n, ENV_LOG_WARN, "channel_refused",
                  standing == CHANNEL_PROVEN ? &who->name : &stranger,
                  "port=%s remote=%s reason=%s: %s%s%s", name[port], remote,
                  channel_fault_name(fault), channel_fault_text(fault),
                  channel_standing_text(standing), who == NULL ? "" : who->name.text);
}

void node_on_closed(struct node *n, env_link link)
{
    struct node_link *l = node_link_find(n, link);
    if (l == NULL)
        return;
    if (l->port == NODE_PORT_METER)
        gateway_on_closed(n, l);
    else if (l->port != NODE_PORT_ADMIN)
        peers_on_closed(n, l);
    HASH_DELETE(hh, n->links, l);
    n->link_count--;
    free(l);
}

void node_on_frame(struct node *n, env_link link, struct span frame)
{
    struct node_link *l = node_link_find(n, link);
    if (l == NULL || l->closing)
        return;
    enum message_type type;
    struct span body;
    enum ami_status status = frame_open(frame, &type, &body);
    if (status != AMI_OK) {
        n->counters.frames_bad++;
        node_event_often(n, ENV_LOG_WARN, "frame_bad", "link=%llu status=%s",
                         (unsigned long long)link, ami_status_name(status));
        node_close(n, link);
        return;
    }
    switch (l->port) {
    case NODE_PORT_PEER:
    case NODE_PORT_DIALLED:
        peers_on_frame(n, l, type, body);
        break;
    case NODE_PORT_METER:
        gateway_on_frame(n, l, type, body);
        break;
    case NODE_PORT_ADMIN:
        admin_on_frame(n, l, type, body);
        break;
    }
    look_soon(n);
    node_alarm(n);
}

void node_on_writable(struct node *n, env_link link)
{
    /* Nothing waits for room on one link: peers' messages may be lost, a meter asks again. */
    (void)n;
    (void)link;
}

bool node_link_known(const struct node *n, env_link link)
{
    const struct node_link *l = node_link_find(n, link);
    return l != NULL && l->known;
}

void node_alarm(struct node *n)
{
    n->env.set_alarm(n->env.ctx, min_u64(n->next_us, chain_deadline_us(n)));
}

/* What every part but the chain waits for. It is looked at only when something is due, because
 * finished work and writes come in by the thousand. */
static void other_parts_on_time(struct node *n)
{
    if (node_now_us(n) < n->next_us)
        return;
    uint64_t next = submit_on_time(n);
    next = min_u64(next, peers_on_time(n));
    next = min_u64(next, relay_on_time(n));
    next = min_u64(next, gateway_on_time(n));
    next = min_u64(next, prune_on_time(n));
    next = min_u64(next, operators_on_time(n));
    n->next_us = next;
}

void node_on_time(struct node *n)
{
    chain_on_time(n);
    other_parts_on_time(n);
    node_alarm(n);
}

void node_on_work(struct node *n, void *job)
{
    bool taken = submit_on_work(n, job) || gateway_on_work(n, job) || chain_on_work(n, job);
    AMI_CHECK(taken);
    look_soon(n);
    node_on_time(n);
}

void node_on_stored(struct node *n, struct node_write *write, enum ami_status status)
{
    if (!prune_on_stored(n, write, status))
        chain_on_stored(n, write, status);
    look_soon(n);
    node_on_time(n);
}
