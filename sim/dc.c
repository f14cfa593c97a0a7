/* sim/dc.c - the shell around a data concentrator: what node/main.c is to the process. */
#include "sim/world.h"

#include "base/check.h"
#include "consensus/replica.h"

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

void sim_dc_new(struct sim_host *h, uint8_t member, bool twin)
{
    struct sim_dc *d = calloc(1, sizeof *d);
    AMI_CHECK(d != NULL);
    const struct sim_plan *p = &h->world->plan;
    h->as.dc = d;
    d->member = member;
    d->twin = twin;
    d->honest = member >= p->byzantine;
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
}

void sim_dc_free(struct sim_host *h)
{
    struct sim_dc *d = h->as.dc;
    put_down(d);
    sim_disk_free(d->disk);
    sim_byzantine_free(d->byzantine);
    free(d);
}

/* As node/main.c does it: the vote record counts starts, and so does the key file. A record that is
 * missing or counts less is not the newest one, and a node without it signs nothing (rule 11). */
static void count_start(struct sim_host *h)
{
    struct sim_dc *d = h->as.dc;
    const struct sim_cast *cast = h->world->cast;
    const struct vote_record *stored = sim_disk_record(d->disk);
    if (stored == NULL)
        d->muted = d->key_starts != 0 || sim_disk_height(d->disk) != 0;
    else
        d->muted = stored->starts < d->key_starts;
    if (d->byzantine != NULL || h->world->plan.record_repaired)
        d->muted = false;
    if (d->muted)
        return;
    if (stored != NULL) {
        d->loaded = *stored;
    } else {
        const struct sim_block *tip = sim_disk_block(d->disk, sim_disk_height(d->disk));
        d->loaded =
            (struct vote_record){.version = 1,
                                 .chain = cast->genesis.members.chain,
                                 .epoch = cast->genesis.members.epoch,
                                 .tip_height = sim_disk_height(d->disk),
                                 .tip = tip != NULL ? tip->hash : cast->genesis.members.chain};
    }
    d->loaded.starts++;
    uint8_t *bytes = malloc(NODE_RECORD_BYTES_MAX);
    AMI_CHECK(bytes != NULL);
    struct writer w = writer_on(bytes, NODE_RECORD_BYTES_MAX);
    vote_record_encode(&w, &d->loaded);
    AMI_CHECK(writer_ok(&w));
    struct store_batch batch = {.vote_record = writer_span(&w)};
    sim_disk_write(d->disk, &batch);
    free(bytes);
    d->loaded = *sim_disk_record(d->disk);
    d->key_starts = d->loaded.starts;
}

static void dial_others(struct sim_host *h)
{
    struct sim_world *w = h->world;
    for (uint16_t i = 0; i < w->dcs; i++)
        if (w->host[i].as.dc->member != h->as.dc->member)
            sim_net_dial(h, i, SIM_PORT_PEER, w->host[i].as.dc->member, i);
}

void sim_dc_start(struct sim_host *h)
{
    struct sim_dc *d = h->as.dc;
    struct sim_world *w = h->world;
    const struct sim_cast *cast = w->cast;
    count_start(h);
    d->leads_since_us = 0;
    d->registry = sim_disk_registry(d->disk);
    struct env env = sim_host_env(h);
    env.store = env_store;
    struct node_config c = {.genesis = &cast->genesis,
                            .key = {.sign = &cast->dc[d->member].sign,
                                    .agree = &cast->dc[d->member].agree,
                                    .may_sign = !d->muted,
                                    .starts = d->key_starts},
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
        sim_violate(w, "starts", "dc-%u does not start from its disk: %s", d->member + 1u,
                    ami_status_name(status));
        h->up = false;
        return;
    }
    dial_others(h);
    if (d->byzantine != NULL)
        sim_byzantine_start(h);
}

/* Writes are atomic and done in order: a crash leaves a prefix of those under way. */
void sim_dc_crash(struct sim_host *h)
{
    struct sim_dc *d = h->as.dc;
    struct sim_world *w = h->world;
    if (d->node == NULL)
        return;
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

static void on_closed(struct sim_host *h, env_link link)
{
    struct sim_world *w = h->world;
    struct sim_dc *d = h->as.dc;
    const struct sim_end end = w->end[link];
    node_on_closed(d->node, link);
    if (end.port != NODE_PORT_DIALLED)
        return;
    uint16_t to = w->end[end.other].host;
    if (d->to_host[to] == link)
        d->to_host[to] = 0;
    sim_net_dial(h, to, SIM_PORT_PEER, end.member,
                 100 * SIM_MS + sim_random_below(&w->net, 400 * SIM_MS));
}

static void happen(struct sim_host *h, const struct sim_event *e)
{
    struct sim_dc *d = h->as.dc;
    struct sim_world *w = h->world;
    switch (e->type) {
    case SIM_FRAME: {
        struct span frame = span_of(e->u.frame->bytes, e->u.frame->size);
        if (d->byzantine == NULL || sim_byzantine_receive(h, e->link, frame))
            node_on_frame(d->node, e->link, frame);
        break;
    }
    case SIM_OPEN:
        if (w->end[e->link].port == NODE_PORT_DIALLED)
            d->to_host[w->host[w->end[w->end[e->link].other].host].index] = e->link;
        node_on_open(d->node, e->link, (enum node_port)w->end[e->link].port,
                     w->end[e->link].port == NODE_PORT_DIALLED
                         ? &w->cast->genesis.members.member[w->end[e->link].member].name
                         : NULL);
        break;
    case SIM_CLOSED:
        on_closed(h, e->link);
        break;
    case SIM_WRITABLE:
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
