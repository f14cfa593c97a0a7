#include "tests/node/net_internal.h"

#define DISK_US 2000 /* of a write */
#define WORK_US 500  /* of a job */

int net_host_of(const struct net *net, const struct ami_id *name)
{
    for (unsigned i = 0; i < net->count; i++)
        if (ami_id_equal(&net->host[i].key[0].device.name, name))
            return (int)i;
    return -1;
}

static void host_dial(void *ctx, const struct node_peer *peer, size_t count)
{
    struct host *h = ctx;
    h->wants = count;
    for (size_t i = 0; i < count; i++) {
        h->want[i] = peer[i].name;
        AMI_CHECK(net_host_of(h->net, &peer[i].name) >= 0);
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

static enum ami_status keep_operators(void *ctx, struct span list)
{
    struct host *h = ctx;
    if (h->operators_kept != AMI_OK)
        return h->operators_kept;
    memcpy(h->operators, list.data, list.size);
    h->operators_size = list.size;
    return AMI_OK;
}

void net_wall_ahead(struct net *net, unsigned i, int64_t ms)
{
    net->host[i].wall_ahead_ms = ms;
}

void net_operators_kept(struct net *net, unsigned i, enum ami_status status)
{
    net->host[i].operators_kept = status;
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
    const struct env env = host_env(h);
    struct node_config c = {.genesis = &net->f->genesis,
                            .key = node_key_of(h, first_key(h)),
                            .use_key = host_use_key,
                            .dial = host_dial,
                            .membership_ctx = h,
                            .scheme = scheme_by_number(net->f->genesis.network.scheme),
                            .p_pub_table = net->p_pub,
                            .registry = h->registry,
                            .disk = host_disk(h),
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
        AMI_CHECK(host_disk_header(h, h->blocks, &h->tip_header, &h->tip_commit) == AMI_OK);
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
            net_close_link(net, l);
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

void net_make_agree_key(struct net *net, struct agree_key *out, enum key_role role,
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
    net_new_end(net, TEST_END); /* link id 0 is nobody */
    net->p_pub = point_table_new(&net->f->genesis.network.p_pub);
    for (unsigned i = 0; i < nodes; i++) {
        struct agree_part part;
        struct host *h = &net->host[i];
        h->net = net;
        h->index = i;
        h->disk_us = DISK_US;
        h->keys = 1;
        h->key[0].device = net->f->dc[i];
        net_make_agree_key(net, &h->key[0].agree, ROLE_DC_AGREE, &net->f->dc[i].name, 1, &part);
    }
    net_ask_as(net, CREDENTIAL_OPERATOR,
               (struct label){LABEL_LEVEL_MAX, (1 << LABEL_CATEGORIES) - 1});
    for (unsigned i = 0; i < nodes; i++)
        net_start(net, i);
    return net;
}

struct net *net_with_leader(unsigned nodes, enum gateway_policy policy, uint64_t seed)
{
    struct net *net = net_new(nodes, policy, seed);
    AMI_CHECK(net_until(net, 20000, net_has_leader, NULL));
    return net;
}

static void add_key(struct net *net, struct host *h, const struct ami_id *name, uint32_t epoch)
{
    struct agree_part part;
    AMI_CHECK(h->keys < sizeof h->key / sizeof h->key[0]);
    struct host_key *k = &h->key[h->keys++];
    k->device = fixture_device(net->f, ROLE_DC_SIGN, *name, epoch);
    net_make_agree_key(net, &k->agree, ROLE_DC_AGREE, name, epoch, &part);
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

void net_loss(struct net *net, unsigned percent)
{
    net->loss_percent = percent;
}

void net_queued(struct net *net, unsigned i, size_t bytes)
{
    net->host[i].queued = bytes;
}

void net_work(struct net *net, uint64_t us)
{
    net->work_us = us;
}

void net_mute(struct net *net, unsigned i, bool mute)
{
    net->host[i].mute = mute;
}

void net_hearing(struct net *net, unsigned i, enum net_hearing what)
{
    net->host[i].hearing = what;
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

bool net_has_leader(struct net *net, void *arg)
{
    (void)arg;
    return net_leader(net) >= 0;
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

bool net_all_at(struct net *net, void *arg)
{
    return net_height_min(net) >= *(uint64_t *)arg;
}

bool net_is_level(struct net *net, void *arg)
{
    (void)arg;
    return net_height_min(net) == net_height_max(net);
}

bool net_block(struct net *net, unsigned i, uint64_t height, struct certified_block *out)
{
    struct host *h = &net->host[i];
    if (height == 0 || height > h->blocks)
        return false;
    return certified_block_parse(
               out, span_of(h->block[height - 1].bytes, h->block[height - 1].size)) == AMI_OK;
}

bool net_is_one_chain(struct net *net)
{
    for (uint64_t h = 1; h <= net_height_max(net); h++) {
        struct certified_block b;
        sm3_digest first;
        bool have = false;
        for (unsigned i = 0; i < net->count; i++) {
            if (!net_block(net, i, h, &b))
                continue;
            const sm3_digest hash = block_hash(&b.header);
            if (have && !sm3_equal(&first, &hash))
                return false;
            first = hash;
            have = true;
            const struct host *host = &net->host[i];
            const struct members *m =
                host->node == NULL ? NULL : registry_members(host->registry, h);
            if (m != NULL && (b.header.epoch != m->epoch || qc_check(m, &b.commit) != AMI_OK))
                return false;
        }
    }
    return true;
}
