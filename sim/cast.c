#include "sim/cast.h"

#include "base/check.h"
#include "mdms/codes.h"
#include "mdms/core.h"
#include "sim/random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JOBS_MAX 64

/* The MDMS while it enrols: nothing takes time. */
struct office {
    struct mdms *mdms;
    struct sim_random random;
    struct sim_kv *kv;
    struct {
        void (*run)(void *job);
        void *job;
    } job[JOBS_MAX];
    size_t jobs;
    struct mdms_write *write;
    uint8_t reply[MDMS_REPLY_BYTES_MAX];
    size_t reply_size;
};

#define DEVICE_LINK 1

static uint64_t office_mono(void *ctx)
{
    (void)ctx;
    return 1000000;
}

static int64_t office_wall(void *ctx)
{
    (void)ctx;
    return SIM_GENESIS_MS;
}

static void office_alarm(void *ctx, uint64_t at_us)
{
    (void)ctx;
    (void)at_us;
}

static enum ami_status office_send(void *ctx, env_link link, struct span frame)
{
    struct office *o = ctx;
    enum message_type type;
    struct span body;
    AMI_CHECK(link == DEVICE_LINK && frame_open(frame, &type, &body) == AMI_OK);
    AMI_CHECK(type == MSG_ENROL_REPLY && body.size <= sizeof o->reply);
    memcpy(o->reply, body.data, body.size);
    o->reply_size = body.size;
    return AMI_OK;
}

static void office_close(void *ctx, env_link link)
{
    (void)ctx;
    (void)link;
}

static void office_random(void *ctx, void *out, size_t size)
{
    sim_random_bytes(&((struct office *)ctx)->random, out, size);
}

static void office_log(void *ctx, enum env_log_level level, const char *event, const char *detail)
{
    (void)ctx;
    (void)level;
    (void)event;
    (void)detail;
}

static enum ami_status office_work(void *ctx, void (*run)(void *job), void *job)
{
    struct office *o = ctx;
    if (o->jobs == JOBS_MAX)
        return AMI_AGAIN;
    o->job[o->jobs].run = run;
    o->job[o->jobs++].job = job;
    return AMI_OK;
}

static enum ami_status office_store(void *ctx, void *write)
{
    ((struct office *)ctx)->write = write;
    return AMI_OK;
}

static void settle(struct office *o)
{
    while (o->jobs > 0 || o->write != NULL) {
        if (o->jobs > 0) {
            o->jobs--;
            o->job[o->jobs].run(o->job[o->jobs].job);
            mdms_on_work(o->mdms, o->job[o->jobs].job);
            continue;
        }
        struct mdms_write *w = o->write;
        o->write = NULL;
        sim_kv_write(o->kv, w);
        mdms_on_stored(o->mdms, w, AMI_OK);
    }
}

static void open_office(struct office *o, const struct sim_cast *c, const struct genesis *genesis)
{
    const struct env env = {o,           office_mono,  office_wall,   office_alarm,
                            office_send, office_close, office_random, office_log,
                            office_work, office_store, NULL};
    const struct mdms_config config = {.network = &c->keys.net,
                                       .genesis = genesis,
                                       .keys = &c->keys,
                                       .scheme = scheme_by_number(c->size.scheme),
                                       .kv = sim_kv_reader(o->kv),
                                       .timing = mdms_timing_default()};
    AMI_CHECK(mdms_new(&o->mdms, &config, &env) == AMI_OK);
    mdms_on_time(o->mdms);
    settle(o);
    mdms_on_open(o->mdms, DEVICE_LINK, MDMS_PORT_ENROL, 0);
}

static void close_office(struct office *o)
{
    mdms_free(o->mdms);
    o->mdms = NULL;
}

void sim_code_put(struct sim_kv *kv, const struct network *net, enum enrol_role role,
                  const struct ami_id *name, const struct ami_id *home, const sm3_digest *hash,
                  const uint8_t random[SM2_WIDE_BYTES])
{
    struct code_list list;
    uint8_t sealed[CODE_SEALED_BYTES], bytes[256];
    AMI_CHECK(code_list_begin(&list, net, random) == AMI_OK);
    code_seal(sealed, &list, (uint8_t)role, name, hash);
    struct code_record record = {
        .has_home = home != NULL, .c1 = list.c1, .sealed = span_of(sealed, sizeof sealed)};
    if (home != NULL)
        record.home = *home;
    struct writer w = writer_on(bytes, sizeof bytes);
    code_record_encode(&w, &record);
    AMI_CHECK(writer_ok(&w));
    struct mdms_key key = key_code((uint8_t)role, name);
    sim_kv_put(kv, TABLE_CODES, key_span(&key), writer_span(&w));
}

static void enrol(struct office *o, const struct network *net, struct device_keys *out,
                  enum enrol_role role, const char *name)
{
    struct ami_id id;
    struct install_code code;
    struct enrol_pending pending;
    struct enrol_reply reply;
    uint8_t random[3][SM2_WIDE_BYTES], frame[ENROL_REQUEST_BYTES_MAX + 2];
    AMI_CHECK(ami_id_from_text(&id, name) == AMI_OK);
    office_random(o, &code, sizeof code);
    sm3_digest hash = install_code_hash(&code, role, &id);
    office_random(o, random[0], sizeof random[0]);
    sim_code_put(o->kv, net, role, &id, NULL, &hash, random[0]);
    office_random(o, random, sizeof random);
    AMI_CHECK(enrol_begin(&pending, net, role, &id, 1, &hash,
                          (const uint8_t(*)[SM2_WIDE_BYTES])random) == AMI_OK);
    struct writer w = writer_on(frame, sizeof frame);
    frame_begin(&w, MSG_ENROL_REQUEST);
    write_raw(&w, pending.request, pending.request_size);
    o->reply_size = 0;
    mdms_on_frame(o->mdms, DEVICE_LINK, writer_span(&w));
    settle(o);
    AMI_CHECK(enrol_reply_parse(&reply, span_of(o->reply, o->reply_size)) == AMI_OK);
    AMI_CHECK(enrol_finish(out, &pending, net, &reply) == AMI_OK);
}

#define PEER_PORT 1000u

void sim_address(struct member_address *out, unsigned number)
{
    snprintf(out->peer, sizeof out->peer, "tcp://sim:%u", PEER_PORT + number);
    snprintf(out->meter, sizeof out->meter, "tcp://sim:%u", 2000 + number);
    snprintf(out->admin, sizeof out->admin, "tcp://sim:%u", 3000 + number);
}

unsigned sim_address_number(const char *peer)
{
    unsigned port = 0;
    AMI_CHECK(sscanf(peer, "tcp://sim:%u", &port) == 1 && port >= PEER_PORT);
    return port - PEER_PORT;
}

static void make_genesis(struct sim_cast *c, const struct sim_kv *kv)
{
    struct genesis *g = &c->genesis;
    char why[256];
    g->network = c->keys.net;
    g->parameters = parameters_default();
    g->parameters.gateway = c->size.gateway;
    g->parameters.block_bytes_max = 64u << 10; /* small, so that the limit is met */
    g->parameters.block_txs_max = 128;
    if (c->size.block_txs_max != 0) {
        g->parameters.block_txs_max = c->size.block_txs_max;
        if (g->parameters.block_bytes_max < c->size.block_txs_max << 10)
            g->parameters.block_bytes_max = c->size.block_txs_max << 10;
    }
    if (c->size.heartbeat_ms != 0) {
        uint32_t usual_ms = g->parameters.heartbeat_ms;
        g->parameters.election_timeout_ms =
            g->parameters.election_timeout_ms * c->size.heartbeat_ms / usual_ms;
        g->parameters.progress_timeout_ms =
            g->parameters.progress_timeout_ms * c->size.heartbeat_ms / usual_ms;
        g->parameters.heartbeat_ms = c->size.heartbeat_ms;
    }
    g->created_ms = SIM_GENESIS_MS;
    g->members.epoch = 1;
    g->members.count = (uint8_t)c->size.dcs;
    for (unsigned i = 0; i < c->size.dcs; i++) {
        struct span key, value;
        struct device_record d;
        struct mdms_key at = key_device(DEVICE_DC, &c->dc[i].name, 1);
        AMI_CHECK(sim_kv_seek(kv, TABLE_DEVICES, key_span(&at), &key, &value));
        AMI_CHECK(device_record_parse(&d, value) == AMI_OK);
        struct member *m = &g->members.member[i];
        m->name = c->dc[i].name;
        m->key_epoch = 1;
        m->w_sign = d.w_sign;
        memcpy(m->agree_part, d.agree_part.data, d.agree_part.size);
        m->agree_part_size = d.agree_part.size;
        sim_address(&g->address[i], i);
    }
    char *text = genesis_print(g);
    AMI_CHECK(text != NULL);
    enum ami_status status = genesis_parse(g, span_of(text, strlen(text)), true, why, sizeof why);
    AMI_CHECK(status == AMI_OK);
    free(text);
}

static void put_state(struct sim_kv *kv, const struct network *net)
{
    uint8_t bytes[256];
    struct state_record state = mdms_state_initial(net);
    struct writer w = writer_on(bytes, sizeof bytes);
    state_record_encode(&w, &state);
    AMI_CHECK(writer_ok(&w));
    struct mdms_key key = key_state();
    sim_kv_put(kv, TABLE_STATE, key_span(&key), writer_span(&w));
}

static struct sim_cast *make_cast(const struct sim_cast_size *size)
{
    struct sim_cast *c = calloc(1, sizeof *c);
    struct office *o = calloc(1, sizeof *o);
    struct ami_id name;
    uint8_t random[4][SM2_WIDE_BYTES];
    char text[32];
    AMI_CHECK(c != NULL && o != NULL);
    c->size = *size;
    c->meter = calloc(size->meters + 1, sizeof *c->meter);
    AMI_CHECK(c->meter != NULL);
    o->random = sim_random_stream(0, 1, 0);
    o->kv = sim_kv_new();
    AMI_CHECK(ami_id_from_text(&name, "simulated") == AMI_OK);
    office_random(o, random, sizeof random);
    AMI_CHECK(mdms_keys_make(&c->keys, &name, size->scheme,
                             (const uint8_t(*)[SM2_WIDE_BYTES])random) == AMI_OK);
    put_state(o->kv, &c->keys.net);
    open_office(o, c, NULL);
    for (unsigned i = 0; i < size->dcs; i++) {
        snprintf(text, sizeof text, "dc-%u", i + 1);
        enrol(o, &c->keys.net, &c->dc[i], ENROL_DC, text);
    }
    close_office(o);
    make_genesis(c, o->kv);
    open_office(o, c, &c->genesis);
    for (size_t i = 0; i < size->meters; i++) {
        snprintf(text, sizeof text, "m-%zu", i + 1);
        enrol(o, &c->keys.net, &c->meter[i], ENROL_METER, text);
    }
    close_office(o);
    c->store = o->kv;
    c->p_pub = point_table_new(&c->keys.net.p_pub);
    AMI_CHECK(c->p_pub != NULL);
    genesis_remember_signers(&c->genesis);
    free(o);
    return c;
}

const struct sim_cast *sim_cast_get(const struct sim_cast_size *size)
{
    static struct sim_cast *all;
    for (struct sim_cast *c = all; c != NULL; c = c->next)
        if (c->size.dcs == size->dcs && c->size.meters == size->meters &&
            c->size.scheme == size->scheme && c->size.gateway == size->gateway &&
            c->size.heartbeat_ms == size->heartbeat_ms &&
            c->size.block_txs_max == size->block_txs_max)
            return c;
    struct sim_cast *c = make_cast(size);
    c->next = all;
    all = c;
    return c;
}
