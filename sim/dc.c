/* sim/dc.c - the shell around a data concentrator: what node/main.c is to the process. */
#include "sim/world.h"

#include "base/check.h"
#include "consensus/replica.h"
#include "node/starts.h"

#include <stdlib.h>
#include <string.h>

#define SESSIONS_MAX   20000 /* or twice as many as there are meters */
#define POOL_TXS_MAX   4096
#define POOL_BYTES_MAX (4u << 20)

static enum ami_status env_store(void *ctx, void *write)
{
    struct sim_host *h = ctx;
    struct sim_dc *d = h->as.dc;
    if (d->writes == sizeof d->write / sizeof d->write[0])
        return AMI_AGAIN;
    uint64_t done_us = sim_host_disk_us(h);
    struct sim_event e = {.type = SIM_STORED};
    e.u.number = ++d->write_number;
    d->write[d->writes].write = write;
    d->write[d->writes++].number = e.u.number;
    sim_push_for(h, e, done_us);
    sim_faults_on_write(h, done_us);
    return AMI_OK;
}

void sim_dc_new(struct sim_host *h, uint8_t number, bool twin)
{
    struct sim_dc *d = calloc(1, sizeof *d);
    AMI_CHECK(d != NULL);
    h->as.dc = d;
    d->number = number;
    d->twin = twin;
    d->honest = !h->world->name[number].liar;
    d->disk = sim_disk_new(&h->world->cast->genesis);
    if (!d->honest)
        d->byzantine = sim_byzantine_new(h);
}

static void put_down(struct sim_dc *d)
{
    node_free(d->node);
    d->node = NULL;
    registry_free(d->registry);
    d->registry = NULL;
    d->writes = 0;
    memset(d->to_host, 0, sizeof d->to_host);
    d->dialling = 0;
    d->wanted = 0;
    d->to_mdms = 0;
    d->dialling_mdms = false;
}

void sim_dc_free(struct sim_host *h)
{
    struct sim_dc *d = h->as.dc;
    put_down(d);
    sim_disk_free(d->disk);
    sim_byzantine_free(d->byzantine);
    free(d);
}

bool sim_dc_runs(const struct sim_host *h)
{
    return h->up && h->as.dc->node != NULL;
}

bool sim_dc_counts(const struct sim_host *h)
{
    const struct sim_dc *d = h->as.dc;
    return d->honest && !d->retired && h->world->name[d->number].keys > 0;
}

/* --- keys: as node/main.c does it ------------------------------------------------------------ */

static const struct device_keys *key_of(const struct sim_host *h, uint32_t epoch)
{
    const struct sim_name *n = &h->world->name[h->as.dc->number];
    AMI_CHECK(epoch >= 1 && epoch <= n->keys);
    return n->key[epoch - 1];
}

static bool may_sign(const struct sim_host *h, uint32_t epoch)
{
    const struct sim_dc *d = h->as.dc;
    const struct starts_key key = {&h->world->name[d->number].name, epoch, d->starts[epoch - 1]};
    /* Liars have their own idea of rule 11, and so has everybody when it is off. */
    return d->byzantine != NULL || h->world->plan.record_repaired ||
           starts_may_sign(&h->world->cast->genesis, &key, sim_disk_record(d->disk),
                           sim_disk_height(d->disk));
}

static void count_start(struct sim_host *h, uint32_t key_epoch)
{
    struct sim_dc *d = h->as.dc;
    const struct sim_cast *cast = h->world->cast;
    const struct vote_record *stored = sim_disk_record(d->disk);
    const struct sim_block *tip = sim_disk_block(d->disk, sim_disk_height(d->disk));
    struct starts_tip at = {.height = sim_disk_height(d->disk), .tip = cast->genesis.members.chain};
    if (tip != NULL)
        at.tip = tip->hash;
    const struct members *m = registry_members(d->registry, at.height + 1);
    AMI_CHECK(m != NULL);
    at.epoch = m->epoch;
    uint64_t newest = 0;
    for (size_t i = 0; i < SIM_KEYS_MAX; i++)
        if (d->starts[i] > newest)
            newest = d->starts[i];
    if (stored != NULL)
        d->loaded = *stored;
    starts_count(&d->loaded, stored != NULL, newest, &cast->genesis.members.chain, &at);
    uint8_t *bytes = malloc(NODE_RECORD_BYTES_MAX);
    AMI_CHECK(bytes != NULL);
    struct writer w = writer_on(bytes, NODE_RECORD_BYTES_MAX);
    vote_record_encode(&w, &d->loaded);
    AMI_CHECK(writer_ok(&w));
    struct store_batch batch = {.vote_record = writer_span(&w)};
    sim_disk_write(d->disk, &batch);
    free(bytes);
    d->loaded = *sim_disk_record(d->disk);
    d->starts[key_epoch - 1] = d->loaded.starts;
}

static struct node_key take_key(struct sim_host *h, uint32_t epoch, bool sign)
{
    struct sim_dc *d = h->as.dc;
    if (sign)
        count_start(h, epoch);
    d->muted = !sign;
    d->key_missing = false;
    d->key_epoch = epoch;
    const struct device_keys *k = key_of(h, epoch);
    return (struct node_key){.sign = &k->sign,
                             .agree = &k->agree,
                             .may_sign = sign,
                             .starts = d->starts[epoch - 1],
                             .begun = sign ? d->loaded.begun : 0};
}

/* The key that votes on the next block; when there is none, the newest. */
static struct node_key choose_key(struct sim_host *h)
{
    struct sim_dc *d = h->as.dc;
    const struct sim_name *n = &h->world->name[d->number];
    const struct members *m = registry_members(d->registry, sim_disk_height(d->disk) + 1);
    uint32_t epoch[SIM_KEYS_MAX];
    size_t used;
    AMI_CHECK(m != NULL);
    for (uint32_t i = 0; i < n->keys; i++)
        epoch[i] = i + 1;
    const bool missing = starts_choose(m, &n->name, epoch, n->keys, &used) == STARTS_KEY_MISSING;
    struct node_key key = take_key(h, epoch[used], !missing && may_sign(h, epoch[used]));
    d->key_missing = missing;
    h->world->count.rare[SIM_RARE_KEY_LATE] += missing;
    return key;
}

/* The ledger calls for another key. */
static enum ami_status use_key(void *ctx, uint32_t epoch, struct node_key *out)
{
    struct sim_host *h = ctx;
    if (epoch > h->world->name[h->as.dc->number].keys) {
        h->as.dc->key_missing = true;
        h->world->count.rare[SIM_RARE_KEY_LATE]++;
        return AMI_NOT_FOUND;
    }
    *out = take_key(h, epoch, may_sign(h, epoch));
    return AMI_OK;
}

/* --- whom it dials --------------------------------------------------------------------------- */

static bool is_wanted(const struct sim_host *h, uint16_t to)
{
    const struct sim_host *far = &h->world->host[to];
    if (far->kind == SIM_MDMS)
        return h->world->name[h->as.dc->number].pending != NULL;
    return (h->as.dc->wanted >> far->as.dc->number & 1) != 0;
}

static void dial_host(struct sim_host *h, uint16_t to, uint64_t after_us)
{
    struct sim_dc *d = h->as.dc;
    if (!is_wanted(h, to) || d->to_host[to] != 0 || (d->dialling >> to & 1) != 0)
        return;
    d->dialling |= UINT64_C(1) << to;
    sim_net_dial(h, to, SIM_PORT_PEER, h->world->host[to].as.dc->number, after_us);
}

bool sim_dc_dials(struct sim_host *h, uint16_t to)
{
    struct sim_dc *d = h->as.dc;
    if (is_wanted(h, to))
        return true;
    if (h->world->host[to].kind == SIM_MDMS)
        d->dialling_mdms = false;
    else
        d->dialling &= ~(UINT64_C(1) << to);
    return false;
}

static void dial(void *ctx, const struct node_peer *peer, size_t count)
{
    struct sim_host *h = ctx;
    struct sim_world *w = h->world;
    struct sim_dc *d = h->as.dc;
    d->wanted = 0;
    for (size_t i = 0; i < count; i++)
        d->wanted |= 1u << sim_address_number(peer[i].address);
    for (uint16_t i = 0; i < w->dcs; i++) {
        if (!is_wanted(h, i) && d->to_host[i] != 0)
            sim_net_close(h, d->to_host[i]);
        dial_host(h, i, i);
    }
}

/* --- lives ----------------------------------------------------------------------------------- */

static void make_node(struct sim_host *h)
{
    struct sim_dc *d = h->as.dc;
    struct sim_world *w = h->world;
    const struct sim_cast *cast = w->cast;
    d->leads_since_us = d->commits_since_us = 0;
    d->registry = sim_disk_registry(d->disk);
    struct node_key key = choose_key(h);
    struct env env = sim_host_env(h);
    env.store = env_store;
    struct node_config c = {.genesis = &cast->genesis,
                            .key = key,
                            .use_key = use_key,
                            .dial = dial,
                            .membership_ctx = h,
                            .scheme = scheme_by_number(w->plan.scheme),
                            .p_pub_table = cast->p_pub,
                            .registry = d->registry,
                            .disk = sim_disk_reader(d->disk),
                            .record = d->muted ? NULL : &d->loaded,
                            .height = sim_disk_height(d->disk),
                            .tip = cast->genesis.members.chain,
                            .tip_timestamp_ms = cast->genesis.created_ms,
                            .sessions_max = w->plan.meters > SESSIONS_MAX / 2 ? 2 * w->plan.meters
                                                                              : SESSIONS_MAX,
                            .pool_txs_max = POOL_TXS_MAX,
                            .pool_bytes_max = POOL_BYTES_MAX,
                            .rules_off = w->plan.rules_off,
                            .meter_unchecked = w->plan.meter_unchecked};
    const struct sim_block *tip = sim_disk_block(d->disk, c.height);
    if (tip != NULL) {
        c.tip = tip->hash;
        c.tip_timestamp_ms = tip->header.timestamp_ms;
        d->tip_commit = tip->commit;
        c.tip_commit = &d->tip_commit;
    }
    if (d->muted)
        w->count.rare[SIM_RARE_MUTE]++;
    sim_check_started(h);
    /* A process that cannot read its ledger does not start, and is started again until it can. */
    enum ami_status status, reads = sim_disk_fail_reads(d->disk, AMI_OK);
    d->node = node_new(&c, &env, &status);
    (void)sim_disk_fail_reads(d->disk, reads);
    if (d->node == NULL) {
        sim_violate(w, "starts", "dc-%u does not start from its disk: %s", d->number + 1u,
                    ami_status_name(status));
        h->up = false;
    }
}

void sim_dc_start(struct sim_host *h)
{
    const struct sim_name *n = &h->world->name[h->as.dc->number];
    if (n->pending != NULL)
        sim_enrol_dial(h);
    if (n->keys == 0)
        return;
    make_node(h);
    if (h->as.dc->byzantine != NULL)
        sim_byzantine_start(h);
}

/* Writes are atomic and done in order: a crash leaves a prefix of those under way. */
void sim_dc_crash(struct sim_host *h)
{
    struct sim_dc *d = h->as.dc;
    struct sim_world *w = h->world;
    size_t durable = d->disk_status == AMI_OK ? sim_random_below(&w->faults, d->writes + 1) : 0;
    if (d->writes != 0)
        w->count.fault[SIM_FAULT_CRASH_WRITE]++;
    w->count.fault[SIM_FAULT_WRITE_LOST] += d->writes - durable;
    for (size_t i = 0; i < durable; i++) {
        uint64_t before = sim_disk_height(d->disk);
        sim_disk_write(d->disk, &d->write[i].write->batch);
        sim_check_stored(h, before);
    }
    put_down(d);
}

static void on_stored(struct sim_host *h, uint64_t number)
{
    struct sim_dc *d = h->as.dc;
    AMI_CHECK(d->writes > 0 && d->write[0].number == number);
    struct node_write *write = d->write[0].write;
    d->writes--;
    memmove(&d->write[0], &d->write[1], d->writes * sizeof d->write[0]);
    uint64_t before = sim_disk_height(d->disk);
    if (d->disk_status == AMI_OK) {
        sim_disk_write(d->disk, &write->batch);
        sim_check_stored(h, before);
    }
    node_on_stored(d->node, write, d->disk_status);
}

static void on_open(struct sim_host *h, env_link link)
{
    struct sim_world *w = h->world;
    struct sim_dc *d = h->as.dc;
    const struct sim_end *end = &w->end[link];
    if (end->port != NODE_PORT_DIALLED) {
        if (d->node != NULL)
            node_on_open(d->node, link, (enum node_port)end->port, NULL);
        return;
    }
    uint16_t to = w->end[end->other].host;
    if (w->host[to].kind == SIM_MDMS) {
        sim_enrol_on_open(h, link);
        return;
    }
    d->dialling &= ~(UINT64_C(1) << to);
    d->to_host[to] = link;
    if (is_wanted(h, to))
        node_on_open(d->node, link, NODE_PORT_DIALLED, &w->name[end->member].name);
    else
        sim_net_close(h, link);
}

static void on_closed(struct sim_host *h, env_link link)
{
    struct sim_world *w = h->world;
    struct sim_dc *d = h->as.dc;
    const struct sim_end end = w->end[link];
    uint16_t to = w->end[end.other].host;
    if (link == d->to_mdms) {
        sim_enrol_on_closed(h);
        return;
    }
    if (d->node != NULL)
        node_on_closed(d->node, link);
    if (end.port != NODE_PORT_DIALLED || d->to_host[to] != link)
        return;
    d->to_host[to] = 0;
    dial_host(h, to, 100 * SIM_MS + sim_random_below(&w->net, 400 * SIM_MS));
}

static void on_frame(struct sim_host *h, const struct sim_event *e)
{
    struct sim_dc *d = h->as.dc;
    struct span frame = span_of(e->u.frame->bytes, e->u.frame->size);
    if (e->link == d->to_mdms)
        sim_enrol_on_frame(h, e->link, frame);
    else if (d->node != NULL && (d->byzantine == NULL || sim_byzantine_receive(h, e->link, frame)))
        node_on_frame(d->node, e->link, frame);
}

static void happen(struct sim_host *h, const struct sim_event *e)
{
    struct sim_dc *d = h->as.dc;
    switch (e->type) {
    case SIM_FRAME:
        on_frame(h, e);
        break;
    case SIM_OPEN:
        on_open(h, e->link);
        break;
    case SIM_CLOSED:
        on_closed(h, e->link);
        break;
    case SIM_WRITABLE:
        if (d->node != NULL)
            node_on_writable(d->node, e->link);
        break;
    case SIM_WORK:
        e->u.work.run(e->u.work.job);
        node_on_work(d->node, e->u.work.job);
        break;
    case SIM_STORED:
        on_stored(h, e->u.number);
        break;
    case SIM_ALARM:
        node_on_time(d->node);
        break;
    case SIM_MISCHIEF:
        sim_byzantine_on_event(h, e);
        break;
    default:
        AMI_CHECK(false && "no event of a DC");
    }
}

void sim_dc_on_event(struct sim_host *h, const struct sim_event *e)
{
    const struct sim_watch *watch = h->world->watch;
    bool looks = watch != NULL && watch->turn != NULL;
    if (looks)
        watch->turn(watch->ctx, h);
    happen(h, e);
    if (looks)
        watch->turn(watch->ctx, NULL);
}
