/* tests/mdms/rig.c - see the header. */
#include "tests/mdms/rig.h"

#include "ledger/pruned.h"

#include "base/check.h"
#include "crypto/sm4gcm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- environment ------------------------------------------------------------------------------ */

static uint64_t env_mono(void *ctx)
{
    return ((struct rig *)ctx)->now_us;
}

static int64_t env_wall(void *ctx)
{
    return 1700000000000 + (int64_t)(((struct rig *)ctx)->now_us / 1000);
}

static void env_set_alarm(void *ctx, uint64_t at_us)
{
    ((struct rig *)ctx)->alarm_us = at_us;
}

static enum ami_status env_send(void *ctx, env_link link, struct span frame)
{
    struct rig *r = ctx;
    if (r->link_full)
        return AMI_AGAIN;
    assert_true(r->frame_count < RIG_FRAMES);
    struct rig_frame *f = &r->frame[r->frame_count++];
    f->link = link;
    f->data = malloc(frame.size);
    assert_non_null(f->data);
    memcpy(f->data, frame.data, frame.size);
    f->size = frame.size;
    return AMI_OK;
}

static void env_close(void *ctx, env_link link)
{
    struct rig *r = ctx;
    if (r->closed_count < sizeof r->closed / sizeof r->closed[0])
        r->closed[r->closed_count++] = link;
}

/* xorshift64*: the same bytes in every run. */
static void env_random(void *ctx, void *out, size_t size)
{
    struct rig *r = ctx;
    uint8_t *p = out;
    for (size_t i = 0; i < size; i++) {
        r->random ^= r->random >> 12;
        r->random ^= r->random << 25;
        r->random ^= r->random >> 27;
        p[i] = (uint8_t)((r->random * 0x2545f4914f6cdd1dull) >> 56);
    }
}

static void env_log(void *ctx, enum env_log_level level, const char *event, const char *detail)
{
    struct rig *r = ctx;
    (void)level;
    int n = snprintf(r->log + r->log_size, sizeof r->log - r->log_size, "%s %s\n", event, detail);
    if (n > 0 && r->log_size + (size_t)n < sizeof r->log)
        r->log_size += (size_t)n;
}

static enum ami_status env_work(void *ctx, void (*run)(void *), void *job)
{
    struct rig *r = ctx;
    if (r->job_count == sizeof r->job / sizeof r->job[0])
        return AMI_AGAIN;
    r->job[r->job_count++] = (struct rig_job){run, job};
    return AMI_OK;
}

static enum ami_status env_store(void *ctx, void *write)
{
    struct rig *r = ctx;
    assert_null(r->write); /* one at a time */
    r->write = write;
    r->writes++;
    return AMI_OK;
}

/* --- the store -------------------------------------------------------------------------------- */

static int compare_key(const struct rig_record *a, enum mdms_table table, struct span key)
{
    if (a->table != table)
        return a->table < table ? -1 : 1;
    size_t n = a->key_size < key.size ? a->key_size : key.size;
    int c = n == 0 ? 0 : memcmp(a->key, key.data, n);
    return c != 0 ? c : (a->key_size > key.size) - (a->key_size < key.size);
}

/* Index of the first record that is not before this key. */
static size_t lower_bound(const struct rig *r, enum mdms_table table, struct span key)
{
    size_t i = 0;
    while (i < r->record_count && compare_key(&r->record[i], table, key) < 0)
        i++;
    return i;
}

static uint8_t *copy(struct span s)
{
    uint8_t *p = malloc(s.size + 1);
    assert_non_null(p);
    if (s.size > 0)
        memcpy(p, s.data, s.size);
    return p;
}

static void store_apply(struct rig *r, const struct mdms_op *op)
{
    size_t i = lower_bound(r, op->table, op->key);
    bool there = i < r->record_count && compare_key(&r->record[i], op->table, op->key) == 0;
    if (there) {
        free(r->record[i].key);
        free(r->record[i].value);
        r->record_count--;
        memmove(&r->record[i], &r->record[i + 1], (r->record_count - i) * sizeof r->record[0]);
    }
    if (op->remove)
        return;
    assert_true(r->record_count < RIG_RECORDS);
    memmove(&r->record[i + 1], &r->record[i], (r->record_count - i) * sizeof r->record[0]);
    r->record_count++;
    r->record[i] = (struct rig_record){.table = op->table,
                                       .key_size = op->key.size,
                                       .value_size = op->value.size,
                                       .key = copy(op->key),
                                       .value = copy(op->value)};
}

static enum ami_status kv_get(void *ctx, enum mdms_table table, struct span key, struct span *value)
{
    struct rig *r = ctx;
    if (r->read_status != AMI_OK && r->read_table == table)
        return r->read_status;
    size_t i = lower_bound(r, table, key);
    if (i == r->record_count || compare_key(&r->record[i], table, key) != 0)
        return AMI_NOT_FOUND;
    assert_true(r->record[i].value_size <= sizeof r->value);
    memcpy(r->value, r->record[i].value, r->record[i].value_size);
    *value = span_of(r->value, r->record[i].value_size);
    return AMI_OK;
}

static enum ami_status kv_seek(void *ctx, enum mdms_table table, struct span from, struct span *key,
                               struct span *value)
{
    struct rig *r = ctx;
    if (r->read_status != AMI_OK && r->read_table == table)
        return r->read_status;
    size_t i = lower_bound(r, table, from);
    if (i == r->record_count || r->record[i].table != table)
        return AMI_NOT_FOUND;
    memcpy(r->key, r->record[i].key, r->record[i].key_size);
    memcpy(r->value, r->record[i].value, r->record[i].value_size);
    *key = span_of(r->key, r->record[i].key_size);
    *value = span_of(r->value, r->record[i].value_size);
    return AMI_OK;
}

bool rig_get(struct rig *r, enum mdms_table table, struct mdms_key key, struct span *value)
{
    return kv_get(r, table, key_span(&key), value) == AMI_OK;
}

size_t rig_count(const struct rig *r, enum mdms_table table)
{
    size_t n = 0;
    for (size_t i = 0; i < r->record_count; i++)
        n += r->record[i].table == table;
    return n;
}

struct state_record rig_state(struct rig *r)
{
    struct span value;
    struct state_record s;
    assert_true(rig_get(r, TABLE_STATE, key_state(), &value));
    assert_ok(state_record_parse(&s, value));
    return s;
}

void rig_put(struct rig *r, enum mdms_table table, struct mdms_key key, struct span value)
{
    struct mdms_op op = {.table = table, .key = key_span(&key), .value = value};
    store_apply(r, &op);
}

/* --- starting, killing, time ------------------------------------------------------------------ */

void rig_begin(struct rig *r, uint8_t scheme)
{
    memset(r, 0, sizeof *r);
    r->random = 0x9e3779b97f4a7c15ull;
    r->now_us = 1000000;
    r->record = calloc(RIG_RECORDS, sizeof *r->record);
    assert_non_null(r->record);
    r->env = (struct env){.ctx = r,
                          .clock_mono_us = env_mono,
                          .clock_wall_ms = env_wall,
                          .set_alarm = env_set_alarm,
                          .send = env_send,
                          .close = env_close,
                          .random = env_random,
                          .log = env_log,
                          .work = env_work,
                          .store = env_store};
    struct ami_id name;
    uint8_t random[4][SM2_WIDE_BYTES];
    assert_ok(ami_id_from_text(&name, "test-net"));
    env_random(r, random, sizeof random);
    assert_ok(mdms_keys_make(&r->keys, &name, scheme, (const uint8_t(*)[SM2_WIDE_BYTES])random));
    uint8_t bytes[256];
    struct state_record state = mdms_state_initial(&r->keys.net);
    struct writer w = writer_on(bytes, sizeof bytes);
    state_record_encode(&w, &state);
    rig_put(r, TABLE_STATE, key_state(), writer_span(&w));
}

static void drop_frames(struct rig *r)
{
    for (size_t i = 0; i < r->frame_count; i++)
        free(r->frame[i].data);
    r->frame_count = 0;
}

void rig_kill(struct rig *r)
{
    mdms_free(r->m);
    r->m = NULL;
    r->write = NULL;
    r->job_count = 0;
    r->closed_count = 0;
    drop_frames(r);
}

void rig_end(struct rig *r)
{
    rig_kill(r);
    for (size_t i = 0; i < r->record_count; i++) {
        free(r->record[i].key);
        free(r->record[i].value);
    }
    free(r->record);
    for (size_t i = 0; i < r->block_count; i++)
        free(r->block[i].bytes);
    free(r->block);
    free(r->genesis);
}

enum ami_status rig_try_start(struct rig *r)
{
    struct mdms_config config = {.network = &r->keys.net,
                                 .genesis = r->genesis,
                                 .keys = &r->keys,
                                 .scheme = scheme_by_number(r->keys.net.scheme),
                                 .kv = {.ctx = r, .get = kv_get, .seek = kv_seek},
                                 .timing = mdms_timing_default()};
    enum ami_status status = mdms_new(&r->m, &config, &r->env);
    if (status != AMI_OK) {
        r->m = NULL;
        return status;
    }
    mdms_on_time(r->m);
    for (env_link l = 1; l <= RIG_DEVICES; l++)
        mdms_on_open(r->m, l, MDMS_PORT_ENROL, 0);
    return AMI_OK;
}

void rig_start(struct rig *r)
{
    assert_ok(rig_try_start(r));
}

bool rig_run_job(struct rig *r)
{
    if (r->job_count == 0)
        return false;
    struct rig_job j = r->job[0];
    memmove(r->job, r->job + 1, --r->job_count * sizeof r->job[0]);
    j.run(j.job);
    mdms_on_work(r->m, j.job);
    return true;
}

bool rig_write_applies(struct rig *r)
{
    size_t at = 0;
    struct mdms_op op;
    if (r->write == NULL)
        return false;
    while (r->store_status == AMI_OK && mdms_write_next(r->write, &at, &op))
        store_apply(r, &op);
    return true;
}

bool rig_write_completes(struct rig *r)
{
    if (!rig_write_applies(r))
        return false;
    struct mdms_write *w = r->write;
    r->write = NULL;
    mdms_on_stored(r->m, w, r->store_status);
    return true;
}

void rig_settle(struct rig *r)
{
    for (unsigned i = 0; i < 100000; i++) {
        if (!rig_run_job(r) && !rig_write_completes(r))
            return;
    }
    fail_msg("the MDMS never comes to rest");
}

void rig_advance(struct rig *r, uint64_t ms)
{
    uint64_t end = r->now_us + ms * 1000;
    rig_settle(r);
    for (unsigned i = 0; r->alarm_us <= end; i++) {
        assert_true(i < 100000); /* an alarm that is always due */
        if (r->alarm_us > r->now_us)
            r->now_us = r->alarm_us;
        r->alarm_us = UINT64_MAX;
        mdms_on_time(r->m);
        rig_settle(r);
    }
    r->now_us = end;
}

unsigned rig_logged(const struct rig *r, const char *event)
{
    unsigned n = 0;
    size_t size = strlen(event);
    for (const char *p = r->log; p != NULL && *p != '\0'; p = strchr(p, '\n')) {
        p += *p == '\n';
        n += strncmp(p, event, size) == 0 && p[size] == ' ';
    }
    return n;
}

/* --- devices ---------------------------------------------------------------------------------- */

sm3_digest rig_code(struct rig *r, enum enrol_role role, const char *id, const char *home)
{
    struct ami_id name;
    struct install_code code;
    struct code_list list;
    uint8_t random[SM2_WIDE_BYTES], sealed[CODE_SEALED_BYTES], bytes[256];
    assert_ok(ami_id_from_text(&name, id));
    env_random(r, &code, sizeof code);
    env_random(r, random, sizeof random);
    assert_ok(code_list_begin(&list, &r->keys.net, random));
    sm3_digest hash = install_code_hash(&code, role, &name);
    code_seal(sealed, &list, (uint8_t)role, &name, &hash);
    struct code_record record = {
        .has_home = home != NULL, .c1 = list.c1, .sealed = span_of(sealed, sizeof sealed)};
    if (home != NULL)
        assert_ok(ami_id_from_text(&record.home, home));
    struct writer w = writer_on(bytes, sizeof bytes);
    code_record_encode(&w, &record);
    rig_put(r, TABLE_CODES, key_code((uint8_t)role, &name), writer_span(&w));
    return hash;
}

void rig_request(struct rig *r, struct enrol_pending *p, enum enrol_role role, const char *id,
                 uint32_t epoch, const sm3_digest *code)
{
    struct ami_id name;
    uint8_t random[3][SM2_WIDE_BYTES];
    assert_ok(ami_id_from_text(&name, id));
    env_random(r, random, sizeof random);
    assert_ok(enrol_begin(p, &r->keys.net, role, &name, epoch, code,
                          (const uint8_t(*)[SM2_WIDE_BYTES])random));
}

void rig_send(struct rig *r, env_link link, enum message_type type, struct span body)
{
    size_t size = body.size + 16;
    uint8_t *bytes = malloc(size);
    assert_non_null(bytes);
    struct writer w = writer_on(bytes, size);
    frame_begin(&w, type);
    write_raw(&w, body.data, body.size);
    mdms_on_frame(r->m, link, writer_span(&w));
    free(bytes);
}

void rig_send_request(struct rig *r, env_link link, const struct enrol_pending *p)
{
    rig_send(r, link, MSG_ENROL_REQUEST, span_of(p->request, p->request_size));
}

void rig_send_relayed(struct rig *r, unsigned dc, uint64_t token, const struct enrol_pending *p)
{
    uint8_t inner[2048], body[2200];
    struct writer f = writer_on(inner, sizeof inner);
    frame_begin(&f, MSG_ENROL_REQUEST);
    write_raw(&f, p->request, p->request_size);
    struct relay relay = {.token = token, .frame = writer_span(&f)};
    struct writer w = writer_on(body, sizeof body);
    relay_encode(&w, &relay);
    assert_true(writer_ok(&w));
    rig_send(r, RIG_LINK_DC(dc), MSG_RELAY_REQUEST, writer_span(&w));
}

static void remove_frame(struct rig *r, size_t i)
{
    free(r->frame[i].data);
    memmove(&r->frame[i], &r->frame[i + 1], (--r->frame_count - i) * sizeof r->frame[0]);
}

bool rig_reply(struct rig *r, env_link link, struct enrol_reply *reply, struct span *body)
{
    static uint8_t kept[4096];
    bool found = false;
    for (size_t i = 0; i < r->frame_count;) {
        enum message_type type;
        struct span b;
        struct relay relay;
        struct rig_frame *f = &r->frame[i];
        assert_ok(frame_open(span_of(f->data, f->size), &type, &b));
        if (f->link != link || (type != MSG_ENROL_REPLY && type != MSG_RELAY_REPLY)) {
            i++;
            continue;
        }
        if (type == MSG_RELAY_REPLY) {
            assert_ok(relay_parse(&relay, b));
            assert_ok(frame_open(relay.frame, &type, &b));
            assert_int_equal(type, MSG_ENROL_REPLY);
        }
        assert_true(b.size <= sizeof kept);
        memcpy(kept, b.data, b.size);
        *body = span_of(kept, b.size);
        found = true;
        remove_frame(r, i);
    }
    if (found)
        assert_ok(enrol_reply_parse(reply, *body));
    return found;
}

void rig_enrol_epoch(struct rig *r, struct device_keys *out, enum enrol_role role, const char *id,
                     uint32_t epoch)
{
    struct enrol_pending p;
    struct enrol_reply reply;
    struct span body;
    sm3_digest code = rig_code(r, role, id, NULL);
    rig_request(r, &p, role, id, epoch, &code);
    rig_send_request(r, 1, &p);
    rig_settle(r);
    assert_true(rig_reply(r, 1, &reply, &body));
    assert_ok(enrol_finish(out, &p, &r->keys.net, &reply));
}

void rig_enrol(struct rig *r, struct device_keys *out, enum enrol_role role, const char *id)
{
    rig_enrol_epoch(r, out, role, id, 1);
}

/* --- genesis and links ------------------------------------------------------------------------ */

void rig_genesis_made(struct rig *r)
{
    char why[256], name[16];
    struct genesis *g = calloc(1, sizeof *g);
    assert_non_null(g);
    rig_start(r);
    g->network = r->keys.net;
    g->parameters = parameters_default();
    g->created_ms = 1700000000000;
    g->members.epoch = 1;
    g->members.count = RIG_DCS;
    for (unsigned i = 0; i < RIG_DCS; i++) {
        struct span value;
        struct device_record d;
        snprintf(name, sizeof name, "dc-%u", i + 1);
        rig_enrol(r, &r->dc[i], ENROL_DC, name);
        struct member *m = &g->members.member[i];
        assert_true(rig_get(r, TABLE_DEVICES, key_device(DEVICE_DC, &r->dc[i].name, 1), &value));
        assert_ok(device_record_parse(&d, value));
        m->name = r->dc[i].name;
        m->key_epoch = 1;
        m->w_sign = d.w_sign;
        memcpy(m->agree_part, d.agree_part.data, d.agree_part.size);
        m->agree_part_size = d.agree_part.size;
        snprintf(g->address[i].peer, sizeof g->address[i].peer, "tcp://127.0.0.1:%u", 7101 + i);
        snprintf(g->address[i].meter, sizeof g->address[i].meter, "tcp://127.0.0.1:%u", 7201 + i);
        snprintf(g->address[i].admin, sizeof g->address[i].admin, "tcp://127.0.0.1:%u", 7301 + i);
    }
    rig_kill(r);
    char *text = genesis_print(g);
    assert_non_null(text);
    assert_ok(genesis_parse(g, span_of(text, strlen(text)), false, why, sizeof why));
    free(text);
    r->genesis = g;
    committee_first(&r->committee, g);
}

void rig_genesis(struct rig *r)
{
    rig_genesis_made(r);
    rig_start(r);
    rig_settle(r);
}

size_t rig_take(struct rig *r, unsigned dc, enum message_type type, struct span *last)
{
    static uint8_t *kept;
    size_t n = 0;
    for (size_t i = 0; i < r->frame_count;) {
        enum message_type t;
        struct span b;
        struct rig_frame *f = &r->frame[i];
        assert_ok(frame_open(span_of(f->data, f->size), &t, &b));
        if (f->link != RIG_LINK_DC(dc) || t != type) {
            i++;
            continue;
        }
        free(kept);
        kept = copy(b);
        if (last != NULL)
            *last = span_of(kept, b.size);
        n++;
        remove_frame(r, i);
    }
    if (last == NULL || n == 0) {
        free(kept);
        kept = NULL;
    }
    return n;
}

void rig_connect(struct rig *r, unsigned dc)
{
    struct span theirs;
    uint8_t peer[128], own[128], bytes[128], random[SM2_WIDE_BYTES];
    mdms_on_open(r->m, RIG_LINK_DC(dc), MDMS_PORT_DC, (uint8_t)dc);
    assert_int_equal(rig_take(r, dc, MSG_LINK_HELLO, &theirs), 1);
    size_t peer_size = theirs.size;
    assert_true(peer_size <= sizeof peer);
    memcpy(peer, theirs.data, peer_size);

    struct link_hello hello = {.role = 2,
                               .chain = r->genesis->members.chain,
                               .name = r->dc[dc].name,
                               .epoch = r->dc[dc].epoch};
    env_random(r, hello.nonce, sizeof hello.nonce);
    struct writer w = writer_on(own, sizeof own);
    link_hello_encode(&w, &hello);
    rig_send(r, RIG_LINK_DC(dc), MSG_LINK_HELLO, writer_span(&w));
    const struct span parts[] = {writer_span(&w), span_of(peer, peer_size)};
    env_random(r, random, sizeof random);
    struct link_proof proof = {sign_key_sign(&r->dc[dc].sign, LABEL_LINK, parts, 2, random)};
    struct writer p = writer_on(bytes, sizeof bytes);
    link_proof_encode(&p, &proof);
    rig_send(r, RIG_LINK_DC(dc), MSG_LINK_PROOF, writer_span(&p));

    /* The MDMS's own proof, as a DC checks it. */
    struct span answer;
    assert_int_equal(rig_take(r, dc, MSG_LINK_PROOF, &answer), 1);
    assert_ok(link_proof_parse(&proof, answer));
    sm3_digest z = sm2_z(SPAN_LITERAL("amiledger mdms"), &r->keys.net.sign);
    const struct span signed_parts[] = {SPAN_LITERAL(LABEL_LINK), span_of("", 1),
                                        span_of(peer, peer_size), writer_span(&w)};
    sm3_digest e = sm2_digest(&z, signed_parts, 4);
    assert_ok(sm2_verify(&r->keys.net.sign, &e, &proof.signature));
    (void)rig_take(r, dc, MSG_LINK_PROOF, NULL);
}

void rig_disconnect(struct rig *r, unsigned dc)
{
    mdms_on_closed(r->m, RIG_LINK_DC(dc));
}

/* --- the chain -------------------------------------------------------------------------------- */

static size_t make_report(uint8_t *out, size_t size, uint64_t sequence)
{
    struct reading reading = {.obis = {1, 0, 1, 8, 0, 255},
                              .unit = UNIT_KWH,
                              .interval_s = 1800,
                              .start_s = 1356998400 + (int64_t)sequence * 1800};
    char text[32];
    snprintf(text, sizeof text, "0.%03u", (unsigned)(sequence % 1000));
    assert_ok(reading_value_set(&reading, text, strlen(text)));
    struct writer w = writer_on(out, size);
    assert_ok(report_encode(&w, REPORT_READINGS, &reading, 1));
    return w.size;
}

void rig_report(struct rig *r, struct rig_tx *out, const struct device_keys *meter,
                uint64_t sequence, unsigned dc, enum rig_seal seal)
{
    const sm3_digest *chain = &r->genesis->members.chain;
    uint8_t plain[512], sealed[600], random[SM2_WIDE_BYTES];
    env_random(r, plain, 16);
    size_t m_size = make_report(plain + 16, sizeof plain - 16, sequence);
    struct report_meter_part part = {
        .meter = meter->name, .epoch = meter->epoch, .sequence = sequence};
    part.commitment = report_commitment(plain, span_of(plain + 16, m_size));
    env_random(r, random, sizeof random);
    report_meter_sign(&part, chain, &meter->sign, random);

    if (seal == SEAL_OTHER_REPORT)
        m_size = make_report(plain + 16, sizeof plain - 16, sequence + 1);
    struct seal_batch batch;
    env_random(r, random, sizeof random);
    assert_ok(seal_batch_begin(&batch, &r->keys.net.readings, random));
    seal_report(sealed, &batch, chain, &r->dc[dc].name, &meter->name, meter->epoch, sequence,
                span_of(plain, 16 + m_size));
    if (seal == SEAL_GARBAGE)
        sealed[3] ^= 1;
    struct report_gateway_part gateway = {.c1 = batch.c1,
                                          .sealed = span_of(sealed, 16 + m_size + GCM_TAG_BYTES),
                                          .timestamp_ms = 1700000000000,
                                          .dc = r->dc[dc].name,
                                          .dc_epoch = 1};
    env_random(r, random, sizeof random);
    report_gateway_sign(&gateway, &part, chain, &r->dc[dc].sign, random);
    struct writer w = writer_on(out->bytes, sizeof out->bytes);
    report_tx_encode(&w, &part, &gateway);
    assert_true(writer_ok(&w));
    out->size = w.size;
}

static struct block_parent tip(const struct rig *r)
{
    if (r->block_count > 0)
        return r->block[r->block_count - 1].after;
    return (struct block_parent){0, r->genesis->members.chain, r->genesis->created_ms};
}

static const struct device_keys *keys_of(const struct rig *r, const struct member *m)
{
    for (unsigned i = 0; i < RIG_DCS + RIG_DCS_LATER; i++)
        if (ami_id_equal(&r->dc[i].name, &m->name) && r->dc[i].epoch == m->key_epoch)
            return &r->dc[i];
    fail_msg("nobody has the key %u of %s", (unsigned)m->key_epoch, m->name.text);
    return NULL;
}

/* The last q members vote: in a new epoch they matter. */
static struct qc certify(struct rig *r, const struct block_header *h, uint8_t kind)
{
    const struct members *m = &r->committee.members;
    struct vote votes[AMI_MEMBERS_MAX];
    struct qc qc;
    uint8_t random[SM2_WIDE_BYTES];
    const unsigned q = members_quorum(m->count);
    for (unsigned i = 0; i < q; i++) {
        const uint8_t voter = (uint8_t)(m->count - 1 - i);
        votes[i] = (struct vote){.kind = kind,
                                 .chain = h->chain,
                                 .epoch = h->epoch,
                                 .term = h->term,
                                 .height = h->height,
                                 .block = block_hash(h),
                                 .voter = voter};
        env_random(r, random, sizeof random);
        vote_sign(&votes[i], &keys_of(r, &m->member[voter])->sign, random);
    }
    assert_ok(qc_make(&qc, m, votes, q));
    return qc;
}

static size_t encode_block(uint8_t **out, const struct certified_block *b)
{
    size_t size = b->body.size + 8192;
    *out = malloc(size);
    assert_non_null(*out);
    struct writer w = writer_on(*out, size);
    certified_block_encode(&w, b);
    assert_true(writer_ok(&w));
    return w.size;
}

void rig_block(struct rig *r, const struct rig_tx *txs, size_t count)
{
    size_t capacity = 64;
    for (size_t i = 0; i < count; i++)
        capacity += txs[i].size + 4;
    uint8_t *body = malloc(capacity);
    sm3_digest *leaves = calloc(count + 1, sizeof *leaves);
    assert_true(body != NULL && leaves != NULL);
    struct writer w = writer_on(body, capacity);
    for (size_t i = 0; i < count; i++) {
        struct tx_view view;
        body_append(&w, span_of(txs[i].bytes, txs[i].size));
        assert_ok(tx_view_parse(&view, span_of(txs[i].bytes, txs[i].size)));
        leaves[i] = tx_leaf(&view.id);
        if (view.tx.kind != TX_MEMBERSHIP)
            continue;
        assert_false(r->has_next);
        r->next_committee = r->committee;
        assert_ok(committee_change(&r->next_committee, &r->genesis->network, &view.u.membership,
                                   tip(r).height + 1));
        r->has_next = true;
    }
    struct block_parent parent = tip(r);
    struct certified_block b = {.header = {.version = 1,
                                           .chain = r->genesis->members.chain,
                                           .epoch = r->committee.members.epoch,
                                           .members = r->committee.members.hash,
                                           .height = parent.height + 1,
                                           .term = 1,
                                           .previous = parent.hash,
                                           .merkle_root = merkle_root(leaves, count),
                                           .timestamp_ms = parent.timestamp_ms + 1000,
                                           .tx_count = (uint32_t)count,
                                           .proposer = 0},
                                .body = writer_span(&w)};
    b.commit = certify(r, &b.header, VOTE_COMMIT);
    r->block = realloc(r->block, (r->block_count + 1) * sizeof *r->block);
    assert_non_null(r->block);
    struct rig_block *k = &r->block[r->block_count++];
    k->size = encode_block(&k->bytes, &b);
    k->after = (struct block_parent){b.header.height, block_hash(&b.header), b.header.timestamp_ms};
    if (r->has_next && b.header.height + 1 == r->next_committee.from) {
        r->committee = r->next_committee;
        r->has_next = false;
    }
    free(body);
    free(leaves);
}

struct span rig_damaged(struct rig *r, uint64_t height, enum rig_damage damage, uint8_t **memory)
{
    const struct rig_block *k = &r->block[height - 1];
    struct certified_block b;
    uint8_t *own = copy(span_of(k->bytes, k->size));
    assert_ok(certified_block_parse(&b, span_of(own, k->size)));
    switch (damage) {
    case DAMAGE_NONE:
        break;
    case DAMAGE_CERTIFICATE:
        b.commit.signers &= b.commit.signers - 1;
        b.commit.signatures_count--;
        memmove(&b.commit.signatures[0], &b.commit.signatures[1],
                b.commit.signatures_count * sizeof b.commit.signatures[0]);
        break;
    case DAMAGE_SIGNATURE:
        b.commit.signatures[1].b[40] ^= 1;
        break;
    case DAMAGE_OTHER_BLOCK: {
        struct block_header other = b.header;
        other.timestamp_ms++;
        b.commit = certify(r, &other, VOTE_COMMIT);
        break;
    }
    case DAMAGE_PREPARE_ONLY:
        b.commit = certify(r, &b.header, VOTE_PREPARE);
        break;
    case DAMAGE_LINK:
        b.header.previous.b[0] ^= 1;
        b.commit = certify(r, &b.header, VOTE_COMMIT);
        break;
    case DAMAGE_MERKLE_ROOT:
        b.header.merkle_root.b[0] ^= 1;
        b.commit = certify(r, &b.header, VOTE_COMMIT);
        break;
    case DAMAGE_BODY:
        own[k->size - 100] ^= 1;
        break;
    case DAMAGE_GARBAGE:
        free(own);
        *memory = calloc(1, 40);
        assert_non_null(*memory);
        return span_of(*memory, 40);
    }
    size_t size = encode_block(memory, &b);
    free(own);
    return span_of(*memory, size);
}

void rig_prune(struct rig *r, uint64_t height)
{
    struct rig_block *k = &r->block[height - 1];
    struct certified_block b;
    bool changed;
    assert_ok(certified_block_parse(&b, span_of(k->bytes, k->size)));
    uint8_t *body = malloc(b.body.size + 1), *old = k->bytes;
    assert_non_null(body);
    struct writer w = writer_on(body, b.body.size);
    assert_ok(body_prune(&w, b.body, &changed));
    b.body = writer_span(&w);
    k->size = encode_block(&k->bytes, &b);
    free(old);
    free(body);
}

size_t rig_serve(struct rig *r, unsigned dc)
{
    struct span body;
    struct fetch_blocks f;
    if (rig_take(r, dc, MSG_FETCH_BLOCKS, &body) == 0)
        return 0;
    assert_ok(fetch_blocks_parse(&f, body));
    assert_true(sm3_equal(&f.chain, &r->genesis->members.chain));
    assert_true(f.from_height > 0 && f.count_max <= MDMS_FOLLOW_WINDOW);
    size_t n = 0;
    for (uint64_t h = f.from_height; h <= r->block_count && n < f.count_max; h++, n++)
        rig_send(r, RIG_LINK_DC(dc), MSG_BLOCK,
                 span_of(r->block[h - 1].bytes, r->block[h - 1].size));
    return n;
}

void rig_follow(struct rig *r)
{
    for (unsigned i = 0; i < 1000; i++) {
        rig_settle(r);
        if (rig_state(r).height == r->block_count)
            return;
        for (unsigned dc = 0; dc < RIG_DCS + RIG_DCS_LATER; dc++)
            (void)rig_serve(r, dc);
        rig_advance(r, 10);
    }
    fail_msg("the MDMS does not reach height %zu, it stands at %llu", r->block_count,
             (unsigned long long)rig_state(r).height);
}
