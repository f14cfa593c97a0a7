#include "tests/node/net.h"
#include "channel/channel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DELAY_US 1000 /* of a frame */
#define DISK_US  2000 /* of a write */
#define WORK_US  500  /* of a job */

enum { SALT_BYTES = 16, REPORT_M_BYTES = 60 };

struct event {
    struct event *next;
    uint64_t at_us;
    enum { EVENT_FRAME, EVENT_OPEN, EVENT_CLOSED, EVENT_WORK, EVENT_STORED } type;
    unsigned node;  /* whose, or the test's own */
    unsigned start; /* of that node; events of an earlier life are dropped */
    env_link link;
    enum node_port port;
    struct ami_id dialled;
    void *job;
    void (*run)(void *job);
    size_t size;
    uint8_t bytes[];
};

struct end {
    env_link other;
    unsigned node; /* where this end is; TEST_END: with the test */
    bool open;
    struct net_peer *peer;
};

struct stored_block {
    uint8_t *bytes; /* encoding of certified_block */
    size_t size;
    sm3_digest hash;
};

struct kept_body {
    struct kept_body *next;
    sm3_digest hash;
    size_t size;
    uint8_t bytes[]; /* encoding of body_reply */
};

/* A key of a DC; the first one of a genesis member is in the fixture, too. */
struct host_key {
    struct fixture_device device;
    struct agree_key agree;
    bool mute; /* consensus rule 11 */
};

struct host {
    struct net *net;
    unsigned index, starts;
    struct node *node;
    uint64_t alarm_us;
    struct host_key key[2];
    unsigned keys;
    struct ami_id want[AMI_MEMBERS_MAX]; /* to be dialled */
    size_t wants;
    env_link to[NET_NODES_MAX]; /* dialled; 0: none */
    struct registry *registry;
    enum ami_status disk; /* what it says to writes */
    uint64_t disk_us;     /* how long one takes */
    uint64_t writes;
    unsigned writing; /* under way */
    struct net_pruning pruning;
    bool mute, forgot;
    struct net_peer *asker; /* the test's link to its admin port */
    /* What is durable. */
    struct stored_block *block;
    size_t blocks;
    struct kept_body *kept;
    uint8_t record[NODE_RECORD_BYTES_MAX];
    size_t record_size;
    struct store_retention retention;
    uint8_t operators[AMI_REVOKED_BYTES_MAX];
    size_t operators_size;
    enum ami_status operators_kept; /* what keeping a list says */
    /* Of the present life. */
    struct vote_record loaded;
    struct block_header tip_header;
    struct qc tip_commit;
};

struct net {
    struct fixture *f;
    unsigned count;
    uint64_t now_us, rng, work_us;
    uint64_t connect_us; /* links are made and ended then */
    unsigned loss_percent;
    struct event *queue;
    struct host host[NET_NODES_MAX];
    struct end *end; /* by link id */
    size_t ends;
    struct net_peer *peers[256];
    size_t peer_count;
    struct point_table *p_pub;
    struct credential_identity asker; /* who comes in by the admin port; role 0: nobody */
    uint8_t scratch[AMI_FRAME_PEER_BYTES_MAX];
};

#define TEST_END 1000u

static void schedule(struct net *net, struct event *e, uint64_t delay_us)
{
    e->at_us = net->now_us + delay_us;
    struct event **at = &net->queue;
    while (*at != NULL && (*at)->at_us <= e->at_us)
        at = &(*at)->next;
    e->next = *at;
    *at = e;
}

static struct event *event(unsigned type, unsigned node, size_t size)
{
    struct event *e = calloc(1, sizeof *e + size);
    AMI_CHECK(e != NULL);
    e->type = type;
    e->node = node;
    e->size = size;
    return e;
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
    return h->net->f->genesis.created_ms + 1000 + (int64_t)(h->net->now_us / 1000);
}

static void env_alarm(void *ctx, uint64_t at_us)
{
    ((struct host *)ctx)->alarm_us = at_us;
}

static env_link new_end(struct net *net, unsigned node)
{
    net->end = realloc(net->end, (net->ends + 1) * sizeof *net->end);
    AMI_CHECK(net->end != NULL);
    net->end[net->ends] = (struct end){.node = node, .open = true};
    return net->ends++;
}

static unsigned life_of(const struct net *net, unsigned node)
{
    return node == TEST_END ? 0 : net->host[node].starts;
}

static enum ami_status send_frame(struct net *net, env_link link, struct span frame)
{
    struct end *e = &net->end[link];
    if (!e->open)
        return AMI_CLOSED;
    struct end *far = &net->end[e->other];
    if (e->node != TEST_END && far->node != TEST_END &&
        (net->host[e->node].mute ||
         (frame.data[1] != MSG_LINK_HELLO && frame.data[1] != MSG_LINK_PROOF &&
          fixture_u64(&net->rng) % 100 < net->loss_percent)))
        return AMI_OK;
    struct event *x = event(EVENT_FRAME, far->node, frame.size);
    x->link = e->other;
    x->start = life_of(net, far->node);
    memcpy(x->bytes, frame.data, frame.size);
    schedule(net, x, DELAY_US);
    return AMI_OK;
}

static enum ami_status env_send(void *ctx, env_link link, struct span frame)
{
    return send_frame(((struct host *)ctx)->net, link, frame);
}

static void close_link(struct net *net, env_link link)
{
    if (!net->end[link].open)
        return;
    env_link ids[2] = {link, net->end[link].other};
    for (int i = 0; i < 2; i++) {
        net->end[ids[i]].open = false;
        struct event *x = event(EVENT_CLOSED, net->end[ids[i]].node, 0);
        x->link = ids[i];
        x->start = life_of(net, x->node);
        schedule(net, x, DELAY_US);
    }
    net->connect_us = net->now_us + 10 * DELAY_US;
}

static void env_close(void *ctx, env_link link)
{
    close_link(((struct host *)ctx)->net, link);
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
    struct event *x = event(EVENT_WORK, h->index, 0);
    x->run = run;
    x->job = job;
    x->start = h->starts;
    schedule(h->net, x, h->net->work_us);
    return AMI_OK;
}

static enum ami_status env_store(void *ctx, void *write)
{
    struct host *h = ctx;
    struct event *x = event(EVENT_STORED, h->index, 0);
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
    schedule(h->net, x, h->disk_us);
    return AMI_OK;
}

/* --- disk --------------------------------------------------------------------------------------
 */

static void keep_retention(struct host *h, struct span encoded)
{
    struct tx_view tx;
    AMI_CHECK(tx_view_parse(&tx, encoded) == AMI_OK && tx.tx.kind == TX_RETENTION);
    if (tx.u.retention.below <= h->retention.below)
        return;
    AMI_CHECK(encoded.size == sizeof h->retention.tx);
    memcpy(h->retention.tx, encoded.data, encoded.size);
    h->retention.tx_size = encoded.size;
    h->retention.below = tx.u.retention.below;
}

/* As the store does, but a block at a time. */
static void disk_prune(struct host *h, uint64_t below)
{
    if (h->retention.pruned < 1)
        h->retention.pruned = 1;
    if (h->retention.pruned >= below)
        return;
    struct stored_block *s = &h->block[h->retention.pruned++ - 1];
    struct certified_block b;
    bool changed;
    AMI_CHECK(certified_block_parse(&b, span_of(s->bytes, s->size)) == AMI_OK);
    uint8_t *body = malloc(b.body.size + 1), *bytes = malloc(s->size);
    AMI_CHECK(body != NULL && bytes != NULL);
    struct writer pruned = writer_on(body, b.body.size), w = writer_on(bytes, s->size);
    AMI_CHECK(body_prune(&pruned, b.body, &changed) == AMI_OK);
    b.body = writer_span(&pruned);
    certified_block_encode(&w, &b);
    AMI_CHECK(writer_ok(&w));
    free(body);
    free(s->bytes);
    s->bytes = bytes;
    s->size = w.size;
}

static void disk_write(struct host *h, const struct store_batch *b)
{
    if (b->retention.size != 0)
        keep_retention(h, b->retention);
    if (b->prune_below != 0)
        disk_prune(h, b->prune_below);
    if (b->vote_record.size != 0) {
        AMI_CHECK(b->vote_record.size <= sizeof h->record);
        memcpy(h->record, b->vote_record.data, b->vote_record.size);
        h->record_size = b->vote_record.size;
    }
    if (b->body_header.size != 0) {
        struct block_header header;
        AMI_CHECK(block_header_parse(&header, b->body_header) == AMI_OK);
        struct kept_body *k = calloc(1, sizeof *k + b->body_header.size + b->body.size + 16);
        AMI_CHECK(k != NULL);
        struct writer w = writer_on(k->bytes, b->body_header.size + b->body.size + 16);
        struct body_reply r = {header, b->body};
        body_reply_encode(&w, &r);
        k->size = w.size;
        k->hash = block_hash(&header);
        k->next = h->kept;
        h->kept = k;
    }
    if (b->commit) {
        struct certified_block c = {.body = b->block_body};
        AMI_CHECK(block_header_parse(&c.header, b->block_header) == AMI_OK);
        AMI_CHECK(qc_parse(&c.commit, b->block_commit) == AMI_OK);
        AMI_CHECK(c.header.height == h->blocks + 1);
        h->block = realloc(h->block, (h->blocks + 1) * sizeof *h->block);
        struct stored_block *s = &h->block[h->blocks++];
        size_t capacity = b->block_body.size + 8192;
        s->bytes = malloc(capacity);
        AMI_CHECK(s->bytes != NULL);
        struct writer w = writer_on(s->bytes, capacity);
        certified_block_encode(&w, &c);
        AMI_CHECK(writer_ok(&w));
        s->size = w.size;
        s->hash = block_hash(&c.header);
        struct body_reader it = body_reader_on(c.body);
        struct span encoded;
        while (body_next(&it, &encoded)) {
            struct tx_view tx;
            AMI_CHECK(tx_view_parse_kept(&tx, encoded) == AMI_OK);
            AMI_CHECK(!tx.pruned || h->blocks < h->retention.below); /* or the store refuses it */
            if (tx.tx.kind == TX_RETENTION)
                keep_retention(h, encoded);
        }
    }
}

static enum ami_status disk_block(void *ctx, uint64_t height, struct certified_block *out,
                                  uint8_t *buffer, size_t buffer_size)
{
    struct host *h = ctx;
    if (height == 0 || height > h->blocks)
        return AMI_NOT_FOUND;
    struct stored_block *s = &h->block[height - 1];
    AMI_CHECK(s->size <= buffer_size);
    memcpy(buffer, s->bytes, s->size);
    return certified_block_parse(out, span_of(buffer, s->size));
}

static enum ami_status disk_header(void *ctx, uint64_t height, struct block_header *header,
                                   struct qc *commit)
{
    struct host *h = ctx;
    struct certified_block b;
    if (height == 0 || height > h->blocks)
        return AMI_NOT_FOUND;
    AMI_TRY(
        certified_block_parse(&b, span_of(h->block[height - 1].bytes, h->block[height - 1].size)));
    *header = b.header;
    *commit = b.commit;
    return AMI_OK;
}

static enum ami_status disk_body(void *ctx, const sm3_digest *block, struct body_reply *out,
                                 uint8_t *buffer, size_t buffer_size)
{
    struct host *h = ctx;
    for (struct kept_body *k = h->kept; k != NULL; k = k->next) {
        if (!sm3_equal(&k->hash, block))
            continue;
        AMI_CHECK(k->size <= buffer_size);
        memcpy(buffer, k->bytes, k->size);
        return body_reply_parse(out, span_of(buffer, k->size));
    }
    return AMI_NOT_FOUND;
}

static enum ami_status disk_height_of(void *ctx, const sm3_digest *block, uint64_t *height)
{
    struct host *h = ctx;
    for (size_t i = 0; i < h->blocks; i++)
        if (sm3_equal(&h->block[i].hash, block)) {
            *height = i + 1;
            return AMI_OK;
        }
    return AMI_NOT_FOUND;
}

static bool find(struct host *h, bool (*match)(const struct tx_view *tx, const void *what),
                 const void *what, uint64_t *height, uint32_t *index)
{
    for (size_t i = 0; i < h->blocks; i++) {
        struct certified_block b;
        AMI_CHECK(certified_block_parse(&b, span_of(h->block[i].bytes, h->block[i].size)) ==
                  AMI_OK);
        struct body_reader it = body_reader_on(b.body);
        struct span encoded;
        for (uint32_t at = 0; body_next(&it, &encoded); at++) {
            struct tx_view tx;
            AMI_CHECK(tx_view_parse_kept(&tx, encoded) == AMI_OK);
            if (!match(&tx, what))
                continue;
            *height = i + 1;
            *index = at;
            return true;
        }
    }
    return false;
}

static bool match_id(const struct tx_view *tx, const void *what)
{
    return sm3_equal(&tx->id, what);
}

static enum ami_status disk_find_tx(void *ctx, const sm3_digest *id, uint64_t *height,
                                    uint32_t *index)
{
    return find(ctx, match_id, id, height, index) ? AMI_OK : AMI_NOT_FOUND;
}

struct report_place {
    const struct ami_id *meter;
    uint32_t epoch;
    uint64_t sequence;
};

static bool match_report(const struct tx_view *tx, const void *what)
{
    const struct report_place *p = what;
    return tx->tx.kind == TX_REPORT && ami_id_equal(&tx->u.report.meter.meter, p->meter) &&
           tx->u.report.meter.epoch == p->epoch && tx->u.report.meter.sequence == p->sequence;
}

static enum ami_status disk_find_report(void *ctx, const struct ami_id *meter, uint32_t epoch,
                                        uint64_t sequence, uint64_t *height, uint32_t *index)
{
    const struct report_place p = {meter, epoch, sequence};
    return find(ctx, match_report, &p, height, index) ? AMI_OK : AMI_NOT_FOUND;
}

static bool match_epoch(const struct tx_view *tx, const void *what)
{
    return tx->tx.kind == TX_MEMBERSHIP && tx->u.membership.epoch == *(const uint32_t *)what;
}

static enum ami_status disk_find_epoch(void *ctx, uint32_t epoch, uint64_t *height, uint32_t *index)
{
    return find(ctx, match_epoch, &epoch, height, index) ? AMI_OK : AMI_NOT_FOUND;
}

static enum ami_status disk_retention(void *ctx, struct store_retention *out)
{
    struct host *h = ctx;
    *out = h->retention;
    if (out->pruned < 1)
        out->pruned = 1;
    return AMI_OK;
}

static enum ami_status keep_operators(void *ctx, struct span list)
{
    struct host *h = ctx;
    if (h->operators_kept != AMI_OK)
        return h->operators_kept;
    memcpy(h->operators, list.data, list.size);
    h->operators_size = list.size;
    return AMI_OK;
}

void net_operators_kept(struct net *net, unsigned i, enum ami_status status)
{
    net->host[i].operators_kept = status;
}

/* --- nodes --------------------------------------------------------------------------------------
 */

static void open_pair(struct net *net, unsigned from, unsigned to, enum node_port to_port,
                      const struct ami_id *name, env_link ids[2])
{
    ids[0] = new_end(net, from);
    ids[1] = new_end(net, to);
    net->end[ids[0]].other = ids[1];
    net->end[ids[1]].other = ids[0];
    struct event *far = event(EVENT_OPEN, to, 0);
    far->link = ids[1];
    far->port = to_port;
    if (to_port == NODE_PORT_DIALLED)
        far->dialled = *name;
    far->start = life_of(net, to);
    schedule(net, far, 0);
    if (from == TEST_END)
        return;
    struct event *near = event(EVENT_OPEN, from, 0);
    near->link = ids[0];
    near->port = NODE_PORT_DIALLED;
    near->dialled = *name;
    near->start = life_of(net, from);
    schedule(net, near, 0);
}

static int host_of(const struct net *net, const struct ami_id *name)
{
    for (unsigned i = 0; i < net->count; i++)
        if (ami_id_equal(&net->host[i].key[0].device.name, name))
            return (int)i;
    return -1;
}

static bool wants(const struct host *h, const struct ami_id *name)
{
    for (size_t i = 0; i < h->wants; i++)
        if (ami_id_equal(&h->want[i], name))
            return true;
    return false;
}

/* What the processes' dialers do: those that run reach those that run and are wanted. */
static void connect_all(struct net *net)
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
                close_link(net, h->to[j]);
            if (open || !wanted)
                continue;
            open_pair(net, i, j, NODE_PORT_PEER, name, ids);
            h->to[j] = ids[0];
        }
    }
}

static void host_dial(void *ctx, const struct node_peer *peer, size_t count)
{
    struct host *h = ctx;
    h->wants = count;
    for (size_t i = 0; i < count; i++) {
        h->want[i] = peer[i].name;
        AMI_CHECK(host_of(h->net, &peer[i].name) >= 0);
    }
    h->net->connect_us = h->net->now_us;
}

static struct node_key node_key_of(const struct host *h, const struct host_key *k)
{
    return (struct node_key){&k->device.key, &k->agree, !k->mute && !h->forgot, h->starts, 0};
}

static enum ami_status host_use_key(void *ctx, uint32_t epoch, struct node_key *out)
{
    struct host *h = ctx;
    for (unsigned i = 0; i < h->keys; i++)
        if (h->key[i].device.epoch == epoch) {
            *out = node_key_of(h, &h->key[i]);
            return AMI_OK;
        }
    return AMI_NOT_FOUND;
}

/* As dc-node chooses at its start. */
static const struct host_key *first_key(struct host *h)
{
    const struct members *m = registry_members(h->registry, h->blocks + 1);
    uint8_t at = members_find(m, &h->key[0].device.name);
    for (unsigned i = 0; at < m->count && i < h->keys; i++)
        if (h->key[i].device.epoch == m->member[at].key_epoch)
            return &h->key[i];
    return &h->key[h->keys - 1];
}

/* The registry as it follows from the disk's blocks. */
static void replay_registry(struct host *h)
{
    h->registry = registry_new(&h->net->f->genesis);
    AMI_CHECK(h->registry != NULL);
    for (size_t i = 0; i < h->blocks; i++) {
        struct certified_block b;
        uint32_t bad;
        AMI_CHECK(certified_block_parse(&b, span_of(h->block[i].bytes, h->block[i].size)) ==
                  AMI_OK);
        AMI_CHECK(block_stage(h->registry, &b.header, b.body, &bad) == AMI_OK);
        registry_stage_commit(h->registry);
    }
}

void net_disk_retention(struct net *net, unsigned i, struct span encoded)
{
    struct host *h = &net->host[i];
    AMI_CHECK(h->node == NULL);
    h->retention = (struct store_retention){.pruned = 1};
    if (encoded.size != 0)
        keep_retention(h, encoded);
}

void net_start(struct net *net, unsigned i)
{
    AMI_CHECK(net_try_start(net, i) == AMI_OK);
}

enum ami_status net_try_start(struct net *net, unsigned i)
{
    struct host *h = &net->host[i];
    AMI_CHECK(h->node == NULL);
    h->starts++;
    h->writing = 0;
    h->alarm_us = UINT64_MAX;
    replay_registry(h);
    const struct env env = {h,         env_mono,   env_wall, env_alarm, env_send,
                            env_close, env_random, env_log,  env_work,  env_store};
    struct node_config c = {.genesis = &net->f->genesis,
                            .key = node_key_of(h, first_key(h)),
                            .use_key = host_use_key,
                            .dial = host_dial,
                            .membership_ctx = h,
                            .scheme = scheme_by_number(net->f->genesis.network.scheme),
                            .p_pub_table = net->p_pub,
                            .registry = h->registry,
                            .disk = {h, disk_block, disk_header, disk_body, disk_height_of,
                                     disk_find_tx, disk_find_report, disk_find_epoch,
                                     disk_retention},
                            .height = h->blocks,
                            .tip = net->f->genesis.members.chain,
                            .tip_timestamp_ms = net->f->genesis.created_ms,
                            .sessions_max = 1000,
                            .pool_txs_max = 1000,
                            .pool_bytes_max = 1u << 20,
                            .operators = span_of(h->operators, h->operators_size),
                            .keep_operators = keep_operators,
                            .operators_ctx = h};
    if (h->record_size != 0) {
        AMI_CHECK(vote_record_parse(&h->loaded, span_of(h->record, h->record_size)) == AMI_OK);
        c.record = &h->loaded;
    }
    if (h->blocks > 0) {
        AMI_CHECK(disk_header(h, h->blocks, &h->tip_header, &h->tip_commit) == AMI_OK);
        c.tip = h->block[h->blocks - 1].hash;
        c.tip_timestamp_ms = h->tip_header.timestamp_ms;
        c.tip_commit = &h->tip_commit;
    }
    enum ami_status status;
    h->node = node_new(&c, &env, &status);
    if (h->node == NULL) {
        registry_free(h->registry);
        h->registry = NULL;
        return status;
    }
    net->connect_us = net->now_us;
    return AMI_OK;
}

void net_kill(struct net *net, unsigned i)
{
    struct host *h = &net->host[i];
    AMI_CHECK(h->node != NULL);
    for (env_link l = 1; l < net->ends; l++)
        if (net->end[l].open && net->end[l].node == i)
            close_link(net, l);
    /* Jobs and writes under way are lost with the process; the node gives their memory back. */
    for (struct event **at = &net->queue; *at != NULL;) {
        struct event *e = *at;
        if (e->node != i || e->start != h->starts) {
            at = &e->next;
            continue;
        }
        *at = e->next;
        free(e);
    }
    node_free(h->node);
    h->node = NULL;
    h->wants = 0;
    registry_free(h->registry);
    h->registry = NULL;
}

static void make_agree_key(struct net *net, struct agree_key *out, enum key_role role,
                           const struct ami_id *name, uint32_t epoch, struct agree_part *part)
{
    const struct scheme *s = scheme_by_number(net->f->genesis.network.scheme);
    struct agree_enrolling begun;
    struct agree_secret secret;
    uint8_t random[2][SM2_WIDE_BYTES];
    fixture_bytes(&net->rng, random, sizeof random);
    s->device_begin(&begun, role, random[0]);
    AMI_CHECK(s->mdms_issue(&secret, part, &net->f->genesis.network, &net->f->p_pub.d, role, name,
                            epoch, span_of(NULL, 0), agree_part_span(&begun.request),
                            random[1]) == AMI_OK);
    AMI_CHECK(s->device_accept(out, &begun, &net->f->genesis.network, role, name, epoch,
                               span_of(secret.b, secret.size), agree_part_span(part)) == AMI_OK);
}

struct net *net_new(unsigned nodes, enum gateway_policy policy, uint64_t seed)
{
    struct net *net = calloc(1, sizeof *net);
    AMI_CHECK(net != NULL && nodes <= NET_NODES_MAX);
    net->f = fixture_new(nodes, seed);
    net->f->genesis.parameters.gateway = policy;
    net->f->membership_epoch = 1;
    net->count = nodes;
    net->rng = seed;
    net->work_us = WORK_US;
    net->now_us = 1000000;
    net->connect_us = UINT64_MAX;
    new_end(net, TEST_END); /* link id 0 is nobody */
    net->p_pub = point_table_new(&net->f->genesis.network.p_pub);
    for (unsigned i = 0; i < nodes; i++) {
        struct agree_part part;
        struct host *h = &net->host[i];
        h->net = net;
        h->index = i;
        h->disk_us = DISK_US;
        h->keys = 1;
        h->key[0].device = net->f->dc[i];
        make_agree_key(net, &h->key[0].agree, ROLE_DC_AGREE, &net->f->dc[i].name, 1, &part);
    }
    net_ask_as(net, CREDENTIAL_OPERATOR,
               (struct label){LABEL_LEVEL_MAX, (1 << LABEL_CATEGORIES) - 1});
    for (unsigned i = 0; i < nodes; i++)
        net_start(net, i);
    return net;
}

static void add_key(struct net *net, struct host *h, const struct ami_id *name, uint32_t epoch)
{
    struct agree_part part;
    AMI_CHECK(h->keys < sizeof h->key / sizeof h->key[0]);
    struct host_key *k = &h->key[h->keys++];
    k->device = fixture_device(net->f, ROLE_DC_SIGN, *name, epoch);
    make_agree_key(net, &k->agree, ROLE_DC_AGREE, name, epoch, &part);
    AMI_CHECK(part.size == sizeof k->device.agree_part);
    memcpy(k->device.agree_part, part.b, part.size);
}

unsigned net_add(struct net *net)
{
    AMI_CHECK(net->count < NET_NODES_MAX);
    unsigned i = net->count++;
    struct ami_id name = fixture_id("dc-%u", i + 1);
    net->host[i].net = net;
    net->host[i].index = i;
    add_key(net, &net->host[i], &name, 1);
    return i;
}

void net_add_key(struct net *net, unsigned i)
{
    struct host *h = &net->host[i];
    const struct ami_id name = h->key[0].device.name;
    add_key(net, h, &name, h->key[h->keys - 1].device.epoch + 1);
}

const struct fixture_device *net_key(struct net *net, unsigned i)
{
    return &net->host[i].key[net->host[i].keys - 1].device;
}

void net_lose_record(struct net *net, unsigned i)
{
    struct host *h = &net->host[i];
    AMI_CHECK(h->node == NULL);
    h->record_size = 0;
    h->key[h->keys - 1].mute = true;
}

void net_may_sign(struct net *net, unsigned i, bool may)
{
    struct host *h = &net->host[i];
    h->key[h->keys - 1].mute = !may;
}

static void free_inbox(struct net_peer *p)
{
    while (p->inbox != NULL) {
        struct net_inbox *x = p->inbox;
        p->inbox = x->next;
        free(x);
    }
}

void net_free(struct net *net)
{
    for (unsigned i = 0; i < net->count; i++) {
        struct host *h = &net->host[i];
        if (h->node != NULL)
            net_kill(net, i);
        for (size_t b = 0; b < h->blocks; b++)
            free(h->block[b].bytes);
        free(h->block);
        while (h->kept != NULL) {
            struct kept_body *k = h->kept;
            h->kept = k->next;
            free(k);
        }
    }
    while (net->queue != NULL) {
        struct event *e = net->queue;
        net->queue = e->next;
        free(e);
    }
    for (size_t i = 0; i < net->peer_count; i++) {
        free_inbox(net->peers[i]);
        free(net->peers[i]);
    }
    point_table_free(net->p_pub);
    fixture_free(net->f);
    free(net->end);
    free(net);
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
            disk_write(h, &((struct node_write *)e->job)->batch);
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
        connect_all(net);
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

void net_loss(struct net *net, unsigned percent)
{
    net->loss_percent = percent;
}

void net_work(struct net *net, uint64_t us)
{
    net->work_us = us;
}

void net_disk(struct net *net, unsigned i, enum ami_status status)
{
    net->host[i].disk = status;
}

uint64_t net_disk_writes(const struct net *net, unsigned i)
{
    return net->host[i].writes;
}

struct net_pruning net_pruning(const struct net *net, unsigned i)
{
    return net->host[i].pruning;
}

void net_disk_us(struct net *net, unsigned i, uint64_t us)
{
    net->host[i].disk_us = us;
}

void net_mute(struct net *net, unsigned i, bool mute)
{
    net->host[i].mute = mute;
}

void net_forget_record(struct net *net, unsigned i)
{
    AMI_CHECK(net->host[i].node == NULL);
    net->host[i].record_size = 0;
    net->host[i].forgot = true;
}

/* --- looking ------------------------------------------------------------------------------------
 */

struct fixture *net_fixture(struct net *net)
{
    return net->f;
}

struct node *net_node(struct net *net, unsigned i)
{
    return net->host[i].node;
}

unsigned net_count(const struct net *net)
{
    return net->count;
}

uint64_t net_now_us(const struct net *net)
{
    return net->now_us;
}

int net_leader(struct net *net)
{
    int leader = -1;
    uint64_t term = 0;
    for (unsigned i = 0; i < net->count; i++) {
        struct node *n = net->host[i].node;
        if (n != NULL && replica_role(n->replica) == REPLICA_LEADER &&
            replica_term(n->replica) > term) {
            leader = (int)i;
            term = replica_term(n->replica);
        }
    }
    return leader;
}

uint64_t net_height_max(struct net *net)
{
    uint64_t best = 0;
    for (unsigned i = 0; i < net->count; i++)
        if (net->host[i].node != NULL && net->host[i].blocks > best)
            best = net->host[i].blocks;
    return best;
}

uint64_t net_height_min(struct net *net)
{
    uint64_t least = UINT64_MAX;
    for (unsigned i = 0; i < net->count; i++)
        if (net->host[i].node != NULL && net->host[i].blocks < least)
            least = net->host[i].blocks;
    return least;
}

bool net_block(struct net *net, unsigned i, uint64_t height, struct certified_block *out)
{
    struct host *h = &net->host[i];
    if (height == 0 || height > h->blocks)
        return false;
    return certified_block_parse(
               out, span_of(h->block[height - 1].bytes, h->block[height - 1].size)) == AMI_OK;
}

/* --- the test's own links ------------------------------------------------------------------------
 */

static struct net_peer *open_own(struct net *net, unsigned node, enum node_port port,
                                 const struct ami_id *dialled)
{
    struct net_peer *p = calloc(1, sizeof *p);
    AMI_CHECK(p != NULL && net->peer_count < sizeof net->peers / sizeof net->peers[0]);
    env_link ids[2];
    open_pair(net, TEST_END, node, port, dialled, ids);
    *p = (struct net_peer){net, node, ids[0], ids[1], true, NULL};
    net->end[ids[0]].peer = p;
    net->peers[net->peer_count++] = p;
    return p;
}

struct net_peer *net_dial(struct net *net, unsigned node, enum node_port port)
{
    return open_own(net, node, port, NULL);
}

struct net_peer *net_answer(struct net *net, unsigned node, const struct ami_id *dialled)
{
    return open_own(net, node, NODE_PORT_DIALLED, dialled);
}

void net_send(struct net_peer *p, struct span frame)
{
    (void)send_frame(p->net, p->near_id, frame);
}

static bool has_frame(struct net *net, void *arg)
{
    (void)net;
    struct net_peer *p = arg;
    return p->inbox != NULL || !p->open;
}

bool net_expect(struct net_peer *p, enum message_type type, uint64_t limit_ms, struct span *body)
{
    uint64_t until = p->net->now_us + limit_ms * 1000;
    while (p->net->now_us <= until) {
        if (!net_until(p->net, (until - p->net->now_us) / 1000 + 1, has_frame, p) ||
            p->inbox == NULL)
            return false;
        struct net_inbox *x = p->inbox;
        p->inbox = x->next;
        enum message_type got;
        AMI_CHECK(x->size <= sizeof p->net->scratch);
        memcpy(p->net->scratch, x->bytes, x->size);
        size_t size = x->size;
        free(x);
        AMI_CHECK(frame_open(span_of(p->net->scratch, size), &got, body) == AMI_OK);
        if (got == type)
            return true;
    }
    return false;
}

void net_ask_as(struct net *net, enum credential_role role, struct label label)
{
    net_ask_named(net, "alice", role, label);
}

sm3_digest net_fingerprint(const char *name)
{
    return sm3(span_of(name, strlen(name)));
}

void net_ask_named(struct net *net, const char *name, enum credential_role role, struct label label)
{
    net->asker = (struct credential_identity){.kind = CREDENTIAL_IMPLICIT,
                                              .role = role,
                                              .name = fixture_id("%s", name),
                                              .epoch = 1,
                                              .label = label,
                                              .fingerprint = net_fingerprint(name)};
    for (unsigned i = 0; i < net->count; i++)
        net->host[i].asker = NULL; /* a link has one identity: the next question takes another */
}

json_t *net_ask_status(struct net *net, unsigned node, const char *question,
                       enum ami_status *status)
{
    struct host *h = &net->host[node];
    if (h->asker == NULL || !h->asker->open)
        h->asker = net_dial(net, node, NODE_PORT_ADMIN);
    struct net_peer *p = h->asker;
    uint8_t frame[512];
    struct admin_request q = {span_of(question, strlen(question))};
    struct writer w = writer_on(frame, sizeof frame);
    frame_begin(&w, MSG_ADMIN_REQUEST);
    admin_request_encode(&w, &q);
    AMI_CHECK(writer_ok(&w));
    net_send(p, writer_span(&w));
    struct span body;
    struct admin_reply r;
    AMI_CHECK(net_expect(p, MSG_ADMIN_REPLY, 1000, &body));
    AMI_CHECK(admin_reply_parse(&r, body) == AMI_OK && r.status < AMI_STATUS_COUNT);
    *status = (enum ami_status)r.status;
    json_t *answer = json_loadb((const char *)r.json.data, r.json.size, 0, NULL);
    AMI_CHECK(answer != NULL);
    return answer;
}

json_t *net_ask(struct net *net, unsigned node, const char *ask)
{
    char text[64];
    enum ami_status status;
    snprintf(text, sizeof text, "{\"ask\":\"%s\"}", ask);
    json_t *answer = net_ask_status(net, node, text, &status);
    AMI_CHECK(status == AMI_OK);
    return answer;
}

static struct net_peer *handshake(struct net *net, unsigned node, uint8_t role,
                                  const struct ami_id *name, unsigned member)
{
    struct net_peer *p = net_dial(net, node, NODE_PORT_PEER);
    struct link_hello h = {
        .role = role, .chain = net->f->genesis.members.chain, .name = *name, .epoch = 1};
    uint8_t mine[256], theirs[256];
    struct writer w = writer_on(mine, sizeof mine);
    frame_begin(&w, MSG_LINK_HELLO);
    link_hello_encode(&w, &h);
    net_send(p, writer_span(&w));
    struct span hello, proof;
    AMI_CHECK(net_expect(p, MSG_LINK_HELLO, 1000, &hello) && hello.size <= sizeof theirs);
    memcpy(theirs, hello.data, hello.size);
    size_t theirs_size = hello.size;
    AMI_CHECK(net_expect(p, MSG_LINK_PROOF, 1000, &proof));
    const struct span parts[] = {span_of(LABEL_LINK, sizeof LABEL_LINK),
                                 span_of(mine + 2, w.size - 2), span_of(theirs, theirs_size)};
    struct link_proof mine_proof;
    uint8_t random[SM2_WIDE_BYTES];
    fixture_random(net->f, random);
    if (role == 3) {
        sm3_digest z = sm2_z(SPAN_LITERAL("amiledger mdms"), &net->f->sign.p);
        sm3_digest e = sm2_digest(&z, parts, 3);
        mine_proof.signature = sm2_sign(&net->f->sign, &e, random);
    } else {
        mine_proof.signature =
            sign_key_sign(&net->f->dc[member].key, LABEL_LINK, parts + 1, 2, random);
    }
    uint8_t out[128];
    w = writer_on(out, sizeof out);
    frame_begin(&w, MSG_LINK_PROOF);
    link_proof_encode(&w, &mine_proof);
    net_send(p, writer_span(&w));
    return p;
}

struct net_peer *net_dial_as_mdms(struct net *net, unsigned node)
{
    struct ami_id name = fixture_id("mdms");
    return handshake(net, node, 3, &name, 0);
}

struct net_peer *net_dial_as_member(struct net *net, unsigned node, unsigned member)
{
    return handshake(net, node, 2, &net->f->dc[member].name, member);
}

void net_submit(struct net_peer *p, struct span encoded_tx)
{
    struct tx_submit *s = calloc(1, sizeof *s);
    uint8_t *out = malloc(encoded_tx.size + 256);
    AMI_CHECK(s != NULL && out != NULL);
    s->chain = p->net->f->genesis.members.chain;
    s->txs_count = 1;
    s->txs[0].encoded = encoded_tx;
    struct writer w = writer_on(out, encoded_tx.size + 256);
    frame_begin(&w, MSG_TX_SUBMIT);
    tx_submit_encode(&w, s);
    net_send(p, writer_span(&w));
    free(out);
    free(s);
}

/* --- a meter
 * -------------------------------------------------------------------------------------- */

static bool all_know(struct net *net, void *arg)
{
    const struct ami_id *name = arg;
    for (unsigned i = 0; i < net->count; i++)
        if (net->host[i].node != NULL &&
            registry_find(net->host[i].registry, RECORD_METER, name, 1) == NULL)
            return false;
    return true;
}

void net_meter_enrol(struct net *net, struct net_meter *m, unsigned number, unsigned node)
{
    *m = (struct net_meter){.device = fixture_meter(net->f, number)};
    struct agree_part part;
    make_agree_key(net, &m->agree, ROLE_METER_AGREE, &m->device.name, 1, &part);
    AMI_CHECK(part.size == sizeof m->device.agree_part);
    memcpy(m->device.agree_part, part.b, part.size);
    struct fixture_body *b = fixture_body();
    fixture_meter_enrol(net->f, b, &m->device, &net->f->dc[0].name);
    net_submit(net_dial_as_mdms(net, node), fixture_last(b));
    free(b);
    AMI_CHECK(net_until(net, 20000, all_know, &m->device.name));
}

enum ami_status net_meter_agree(struct net *net, struct net_meter *m, unsigned node, bool insist,
                                int *redirect)
{
    struct span body;
    uint8_t out[512], random[SM2_WIDE_BYTES];
    *redirect = -1;
    m->link = net_dial(net, node, NODE_PORT_METER);
    m->node = node;
    struct meter_hello hello = {net->f->genesis.members.chain, net->f->genesis.network.scheme, 1};
    struct writer w = writer_on(out, sizeof out);
    frame_begin(&w, MSG_METER_HELLO);
    meter_hello_encode(&w, &hello);
    net_send(m->link, writer_span(&w));
    struct meter_welcome welcome;
    if (!net_expect(m->link, MSG_METER_WELCOME, 2000, &body))
        return AMI_TIMEOUT;
    AMI_CHECK(meter_welcome_parse(&welcome, body) == AMI_OK);
    if (welcome.status != 0)
        return (enum ami_status)welcome.status;
    struct agree_state state;
    fixture_random(net->f, random);
    AMI_CHECK(agree_meter_start(&state, &m->agree, 7, insist, random) == AMI_OK);
    struct agree_flight1 f1 = agree_flight1_of(&state, &m->agree);
    w = writer_on(out, sizeof out);
    frame_begin(&w, MSG_AGREE_FLIGHT1);
    agree_flight1_encode(&w, &f1);
    net_send(m->link, writer_span(&w));
    /* Either answer may come. */
    AMI_CHECK(net_until(net, 2000, has_frame, m->link));
    if (m->link->inbox == NULL)
        return AMI_CLOSED;
    if (m->link->inbox->bytes[1] == MSG_REFUSED) {
        struct refused r;
        AMI_CHECK(net_expect(m->link, MSG_REFUSED, 1, &body) && refused_parse(&r, body) == AMI_OK);
        if (r.has_other)
            *redirect = host_of(net, &r.other.dc);
        return (enum ami_status)r.status;
    }
    struct agree_flight2 f2;
    struct agree_result result;
    if (!net_expect(m->link, MSG_AGREE_FLIGHT2, 2000, &body))
        return AMI_TIMEOUT;
    AMI_CHECK(agree_flight2_parse(&f2, body) == AMI_OK);
    AMI_TRY(agree_meter_answer(&result, &state, &net->f->genesis.network, &m->agree,
                               &net->f->genesis.members.chain, &f2));
    struct agree_flight3 f3 = agree_flight3_of(&result);
    w = writer_on(out, sizeof out);
    frame_begin(&w, MSG_AGREE_FLIGHT3);
    agree_flight3_encode(&w, &f3);
    net_send(m->link, writer_span(&w));
    session_begin(&m->session, true, result.k, &result.terms, 1000, 1000, 0);
    m->session_id = result.terms.session;
    return AMI_OK;
}

struct report_meter_part net_meter_part(struct net *net, const struct net_meter *m,
                                        uint64_t sequence)
{
    uint8_t salt[SALT_BYTES], bytes[REPORT_M_BYTES];
    /* Once per report: its bytes and its signature follow from the sequence alone. */
    uint64_t rng = sequence * 1000003u + (uint8_t)m->device.name.text[2];
    uint8_t random[SM2_WIDE_BYTES];
    fixture_opening(salt, bytes, sizeof bytes, &m->device, sequence);
    fixture_bytes(&rng, random, sizeof random);
    struct report_meter_part part = {.meter = m->device.name,
                                     .epoch = m->device.epoch,
                                     .sequence = sequence,
                                     .commitment =
                                         report_commitment(salt, span_of(bytes, sizeof bytes))};
    report_meter_sign(&part, &net->f->genesis.members.chain, &m->device.key, random);
    return part;
}

void net_meter_report(struct net *net, struct net_meter *m, uint64_t sequence)
{
    uint8_t bytes[REPORT_M_BYTES], plain[256], sealed[300], out[512];
    struct report_submit q = {.sequence = sequence,
                              .signature = net_meter_part(net, m, sequence).signature};
    fixture_opening(q.salt, bytes, sizeof bytes, &m->device, sequence);
    q.report = span_of(bytes, sizeof bytes);
    struct writer w = writer_on(plain, sizeof plain);
    report_submit_encode(&w, &q);
    AMI_CHECK(writer_ok(&w));
    struct session_data d;
    AMI_CHECK(session_seal(&m->session, &d, sealed, 1, writer_span(&w), 0) == AMI_OK);
    w = writer_on(out, sizeof out);
    frame_begin(&w, MSG_SESSION_DATA);
    session_data_encode(&w, &d);
    net_send(m->link, writer_span(&w));
}

static enum ami_status check_ack(struct net *net, struct net_meter *m, const struct report_ack *a,
                                 const struct block_header *h)
{
    struct report_meter_part part = net_meter_part(net, m, a->sequence);
    uint8_t bytes[256];
    struct writer w = writer_on(bytes, sizeof bytes);
    report_meter_part_encode(&w, &part);
    sm3_digest first = sm3(writer_span(&w));
    sm3_digest id = tx_id(TX_REPORT, &first, &a->second), leaf = tx_leaf(&id);
    return merkle_check(&h->merkle_root, &leaf, a->index, h->tx_count, a->path, a->path_count);
}

enum ami_status net_meter_ack(struct net *net, struct net_meter *m, uint64_t sequence,
                              uint64_t limit_ms, uint64_t *height)
{
    uint64_t until = net->now_us + limit_ms * 1000;
    while (net->now_us < until &&
           net_until(net, (until - net->now_us) / 1000 + 1, has_frame, m->link) &&
           m->link->inbox != NULL) {
        enum message_type type = m->link->inbox->bytes[1];
        struct span body;
        AMI_CHECK(net_expect(m->link, type, 1, &body));
        if (type == MSG_BLOCK_PROOF) {
            AMI_CHECK(block_proof_parse(&m->proof, body) == AMI_OK);
            const struct members *members =
                registry_members(net->host[m->node].registry, m->proof.header.height);
            if (qc_check(members, &m->proof.commit) != AMI_OK)
                return AMI_BAD_CERTIFICATE;
            continue;
        }
        if (type == MSG_SESSION_ENDED) {
            struct session_ended e;
            AMI_CHECK(session_ended_parse(&e, body) == AMI_OK);
            return (enum ami_status)e.status;
        }
        if (type != MSG_SESSION_DATA)
            continue;
        struct session_data d;
        uint8_t plain[2048];
        size_t size;
        AMI_CHECK(session_data_parse(&d, body) == AMI_OK);
        AMI_TRY(session_open(&m->session, plain, &size, &d, 0));
        if (d.kind == 3) {
            struct report_nack k;
            AMI_CHECK(report_nack_parse(&k, span_of(plain, size)) == AMI_OK);
            if (k.sequence == sequence)
                return (enum ami_status)k.status;
            continue;
        }
        struct report_ack a;
        AMI_CHECK(report_ack_parse(&a, span_of(plain, size)) == AMI_OK);
        if (a.sequence != sequence)
            continue;
        sm3_digest hash = block_hash(&m->proof.header);
        if (!sm3_equal(&hash, &a.block) || m->proof.header.height != a.height)
            return AMI_BAD_PROOF;
        *height = a.height;
        return check_ack(net, m, &a, &m->proof.header);
    }
    return AMI_TIMEOUT;
}
