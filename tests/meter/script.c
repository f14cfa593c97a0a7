#include "tests/meter/script.h"

#include "base/check.h"
#include "crypto/secret.h"
#include "meter/profile.h"

#include <stdlib.h>
#include <string.h>

#define OK(expr) AMI_CHECK((expr) == AMI_OK)

/* --- the environment ------------------------------------------------------------------------- */

static uint64_t env_mono(void *ctx)
{
    const struct script *s = ctx;
    return s->now_us;
}

/* Nothing of a meter's may depend on the wall clock. */
static int64_t env_wall(void *ctx)
{
    (void)ctx;
    AMI_CHECK(false && "the meter read the wall clock");
    return 0;
}

static void env_alarm(void *ctx, uint64_t at_us)
{
    struct script *s = ctx;
    s->alarm_us = at_us;
}

static struct script_report *find_report(struct script *s, uint64_t sequence)
{
    for (size_t i = 0; i < s->report_count; i++)
        if (s->report[i].sequence == sequence)
            return &s->report[i];
    return NULL;
}

static enum ami_status env_send(void *ctx, env_link link, struct span frame)
{
    struct script *s = ctx;
    AMI_CHECK(link >= 1 && link <= SCRIPT_DCS && frame.size <= sizeof s->frame[0].bytes);
    struct script_dc *dc = &s->dc[link - 1];
    if (!dc->open)
        return AMI_CLOSED;
    if (dc->starved || s->frame_count == SCRIPT_FRAMES)
        return AMI_AGAIN;
    struct script_frame *f = &s->frame[(s->frame_first + s->frame_count++) % SCRIPT_FRAMES];
    f->link = link;
    f->size = frame.size;
    memcpy(f->bytes, frame.data, frame.size);
    return AMI_OK;
}

static void env_random(void *ctx, void *out, size_t size)
{
    struct script *s = ctx;
    fixture_bytes(&s->f->rng, out, size);
}

static void env_log(void *ctx, enum env_log_level level, const char *event, const char *detail)
{
    (void)ctx;
    (void)level;
    (void)event;
    (void)detail;
}

static enum ami_status env_store(void *ctx, void *write)
{
    struct script *s = ctx;
    AMI_CHECK(s->write_count < SCRIPT_REPORTS);
    if (s->no_settling && ((const struct meter_write *)write)->kind == METER_WRITE_SETTLE)
        return AMI_AGAIN;
    s->writes[s->write_count++] = write;
    return AMI_OK;
}

static void note(void *ctx, enum meter_note_kind kind, uint64_t value)
{
    struct script *s = ctx;
    s->notes[kind]++;
    s->last_note[kind] = value;
}

static enum ami_status disk_next(void *ctx, uint64_t from, uint8_t *buffer, size_t *size)
{
    struct script *s = ctx;
    const struct script_report *found = NULL;
    for (size_t i = 0; i < s->report_count; i++) {
        const struct script_report *r = &s->report[i];
        if (r->durable && !r->settled && r->sequence >= from &&
            (found == NULL || r->sequence < found->sequence))
            found = r;
    }
    if (found == NULL)
        return AMI_NOT_FOUND;
    memcpy(buffer, found->record, found->size);
    *size = found->size;
    return AMI_OK;
}

static void complete_writes(struct script *s)
{
    while (s->write_count > 0 && !s->hold_writes) {
        struct meter_write *w = s->writes[0];
        s->write_count--;
        memmove(s->writes, s->writes + 1, s->write_count * sizeof s->writes[0]);
        enum ami_status status = s->store_fails;
        struct script_report *r = find_report(s, w->sequence);
        if (status == AMI_OK && w->kind == METER_WRITE_PUT) {
            const struct meter_put *put = (const struct meter_put *)(const void *)w;
            AMI_CHECK(r == NULL && s->report_count < SCRIPT_REPORTS);
            r = &s->report[s->report_count++];
            r->sequence = w->sequence;
            r->size = put->size;
            memcpy(r->record, put->record, put->size);
            r->durable = true;
        } else if (status == AMI_OK) {
            AMI_CHECK(r != NULL && r->durable && !r->settled);
            r->settled = true;
            s->settled_count++;
            AMI_CHECK(meter_of_settle(w) == &s->meter);
        }
        meter_on_stored(&s->meter, w, status);
    }
}

/* --- the DCs --------------------------------------------------------------------------------- */

static void to_meter(struct script *s, unsigned k, enum message_type type, const struct writer *w)
{
    AMI_CHECK(writer_ok(w));
    if (type == MSG_BLOCK_PROOF)
        headers_add(&s->headers, writer_span(w));
    else
        meter_on_frame(&s->meter, k + 1, type, writer_span(w));
}

static void dc_refuse(struct script *s, unsigned k, const struct agree_flight1 *in)
{
    const struct script_dc *dc = &s->dc[k];
    struct refused r = {.meter = in->meter, .tag = in->tag, .status = (uint16_t)dc->refuse};
    uint8_t bytes[128];
    struct writer w = writer_on(bytes, sizeof bytes);
    if (dc->refer_to >= 0) {
        r.has_other = true;
        r.other.dc = dc->refer_to < SCRIPT_DCS ? s->f->dc[dc->refer_to].name : fixture_id("nobody");
    }
    refused_encode(&w, &r);
    to_meter(s, k, MSG_REFUSED, &w);
}

static void dc_flight1(struct script *s, unsigned k, struct span body)
{
    struct script_dc *dc = &s->dc[k];
    struct agree_flight1 in;
    OK(agree_flight1_parse(&in, body));
    dc->flights1++;
    dc->insisted += in.insist;
    if (dc->lose_flight1 > 0) {
        dc->lose_flight1--;
        return;
    }
    if (dc->refuse != AMI_OK && !(dc->demands_insist && in.insist)) {
        dc_refuse(s, k, &in);
        return;
    }
    struct agree_peer peer;
    const struct network *net = &s->f->genesis.network;
    OK(agree_peer_init(&peer, s->scheme, net, &in.meter, in.epoch, agree_part_span(&s->u)));
    struct agree_answer answer;
    struct agree_request q = {.peer = &peer, .flight = in.flight};
    q.terms = agree_terms_for(&in, &dc->agree, &s->f->genesis.members.chain, 7, ++s->session_next);
    fixture_bytes(&s->f->rng, q.random, sizeof q.random);
    struct point_table *table = point_table_new(&net->p_pub);
    agree_answer_batch(&answer, net, &dc->agree, table, &q, 1);
    point_table_free(table);
    OK(answer.status);
    dc->terms = q.terms;
    dc->pending = answer.pending;
    dc->opening = true;
    if (dc->lose_flight2 > 0) {
        dc->lose_flight2--;
        return;
    }
    struct agree_flight2 out = agree_flight2_of(&q.terms, &answer);
    uint8_t bytes[512];
    struct writer w = writer_on(bytes, sizeof bytes);
    agree_flight2_encode(&w, &out);
    to_meter(s, k, MSG_AGREE_FLIGHT2, &w);
}

static void dc_flight3(struct script *s, unsigned k, struct span body)
{
    struct script_dc *dc = &s->dc[k];
    struct agree_flight3 in;
    OK(agree_flight3_parse(&in, body));
    if (dc->lose_flight3 > 0) {
        dc->lose_flight3--;
        return;
    }
    AMI_CHECK(dc->opening && in.session == dc->terms.session);
    OK(agree_confirm(&dc->pending, in.flight));
    const struct parameters *p = &s->f->genesis.parameters;
    session_begin(&dc->session, false, dc->pending.k, &dc->terms, p->session_messages_max,
                  p->session_seconds_max, (uint32_t)(s->now_us / 1000000));
    dc->opening = false;
    dc->confirmed = true;
    dc->sessions++;
}

static void dc_inside(struct script *s, unsigned k, uint8_t kind, struct span plain)
{
    struct script_dc *dc = &s->dc[k];
    uint8_t sealed[1024], bytes[1200];
    struct session_data d;
    OK(session_seal(&dc->session, &d, sealed, kind, plain, (uint32_t)(s->now_us / 1000000)));
    struct writer w = writer_on(bytes, sizeof bytes);
    session_data_encode(&w, &d);
    to_meter(s, k, MSG_SESSION_DATA, &w);
}

static sm3_digest leaf_of(const struct report_meter_part *part, const sm3_digest *second)
{
    uint8_t bytes[256];
    struct writer w = writer_on(bytes, sizeof bytes);
    report_meter_part_encode(&w, part);
    sm3_digest first = sm3(writer_span(&w));
    sm3_digest id = tx_id(TX_REPORT, &first, second);
    return tx_leaf(&id);
}

enum { LEAVES = 5, OWN = 3, OTHER = 1 };

/* A block of five transactions: the meter's report is the fourth, another meter's the second. */
static void dc_ack(struct script *s, unsigned k, const struct report_submit *in)
{
    struct script_dc *dc = &s->dc[k];
    struct fixture *f = s->f;
    struct report_meter_part own, other = {.meter = s->other.name, .epoch = 1, .sequence = 1};
    OK(meter_record_part(&own, &s->keys, in));
    sm3_digest leaves[LEAVES], second, path[MERKLE_PATH_MAX];
    fixture_bytes(&f->rng, leaves, sizeof leaves);
    fixture_bytes(&f->rng, &second, sizeof second);
    fixture_bytes(&f->rng, &other.commitment, sizeof other.commitment);
    leaves[OTHER] = leaf_of(&other, &second);
    if (dc->ack != ACK_OTHER_HEIGHT)
        leaves[OWN] = leaf_of(&own, &second);
    unsigned at = dc->ack == ACK_OTHER_LEAF ? OTHER : OWN;
    size_t path_size = merkle_path(path, leaves, LEAVES, at);
    struct block_proof proof = {.header = {.version = 1,
                                           .chain = f->genesis.members.chain,
                                           .epoch = f->genesis.members.epoch,
                                           .members = f->genesis.members.hash,
                                           .height = ++s->height,
                                           .term = 7,
                                           .timestamp_ms = 1,
                                           .tx_count = LEAVES}};
    proof.header.merkle_root = merkle_root(leaves, LEAVES);
    sm3_digest hash = block_hash(&proof.header), voted = hash;
    uint32_t voters = fixture_quorum(f);
    if (dc->ack == ACK_BAD_CERT)
        voted.b[0] ^= 1;
    if (dc->ack == ACK_FEW_VOTES)
        voters &= voters - 1;
    proof.commit = fixture_qc(f, dc->ack == ACK_PREPARE_CERT ? VOTE_PREPARE : VOTE_COMMIT, 7,
                              s->height, &voted, voters);
    proof.commit.block = hash;
    uint8_t bytes[4096];
    struct writer w = writer_on(bytes, sizeof bytes);
    block_proof_encode(&w, &proof);
    if (dc->ack != ACK_NO_PROOF)
        to_meter(s, k, MSG_BLOCK_PROOF, &w);
    struct report_ack ack = {.sequence = in->sequence,
                             .height = s->height,
                             .block = hash,
                             .index = at,
                             .second = second,
                             .path_count = (uint16_t)path_size};
    memcpy(ack.path, path, path_size * sizeof path[0]);
    if (dc->ack == ACK_WRONG_PATH)
        ack.path[1].b[5] ^= 4;
    if (dc->ack == ACK_WRONG_INDEX)
        ack.index = 2;
    if (dc->ack == ACK_OTHER_CONTENT)
        ack.second.b[0] ^= 1;
    w = writer_on(bytes, sizeof bytes);
    report_ack_encode(&w, &ack);
    dc_inside(s, k, 2, writer_span(&w));
}

static void dc_ends(struct script *s, unsigned k)
{
    const struct script_dc *dc = &s->dc[k];
    struct session_ended e = {.session = dc->session.id, .status = AMI_NO_SESSION};
    uint8_t bytes[64];
    struct writer w = writer_on(bytes, sizeof bytes);
    if (dc->refer_to >= 0) {
        e.has_other = true;
        e.other.dc = s->f->dc[dc->refer_to].name;
    }
    session_ended_encode(&w, &e);
    to_meter(s, k, MSG_SESSION_ENDED, &w);
}

static void dc_report(struct script *s, unsigned k, struct span plain)
{
    struct script_dc *dc = &s->dc[k];
    struct report_submit in;
    struct report_meter_part part;
    OK(report_submit_parse(&in, plain));
    const struct script_report *stored = find_report(s, in.sequence);
    if (stored == NULL || !stored->durable)
        s->early++;
    OK(meter_record_part(&part, &s->keys, &in));
    OK(report_meter_check(&part, &s->f->genesis.members.chain, &s->keys.sign.public_key));
    dc->reports++;
    memcpy(dc->last_record, plain.data, plain.size);
    dc->last_size = plain.size;
    if (dc->nacks > 0) {
        dc->nacks--;
        struct report_nack nack = {
            .sequence = in.sequence, .status = (uint16_t)dc->nack, .floor = 1};
        uint8_t bytes[64];
        struct writer w = writer_on(bytes, sizeof bytes);
        report_nack_encode(&w, &nack);
        dc_inside(s, k, 3, writer_span(&w));
    } else if (dc->lose_ack > 0) {
        dc->lose_ack--;
    } else if (dc->ack == ACK_ENDS) {
        dc_ends(s, k);
    } else if (dc->ack != ACK_NONE) {
        dc_ack(s, k, &in);
    }
}

static void dc_data(struct script *s, unsigned k, struct span body)
{
    struct script_dc *dc = &s->dc[k];
    struct session_data in;
    uint8_t plain[METER_RECORD_BYTES_MAX + 16];
    size_t size;
    OK(session_data_parse(&in, body));
    if (dc->lose_data > 0) {
        dc->lose_data--;
        return;
    }
    if (!dc->confirmed || in.session != dc->session.id ||
        session_open(&dc->session, plain, &size, &in, (uint32_t)(s->now_us / 1000000)) != AMI_OK) {
        struct session_ended e = {.session = in.session, .status = AMI_NO_SESSION};
        uint8_t bytes[64];
        struct writer w = writer_on(bytes, sizeof bytes);
        session_ended_encode(&w, &e);
        dc->data_refused++;
        to_meter(s, k, MSG_SESSION_ENDED, &w);
        return;
    }
    AMI_CHECK(in.kind == 1);
    dc_report(s, k, span_of(plain, size));
}

static void dc_on_frame(struct script *s, const struct script_frame *f)
{
    unsigned k = (unsigned)f->link - 1;
    enum message_type type;
    struct span body;
    OK(frame_open(span_of(f->bytes, f->size), &type, &body));
    if (!s->dc[k].open)
        return;
    if (type == MSG_AGREE_FLIGHT1)
        dc_flight1(s, k, body);
    else if (type == MSG_AGREE_FLIGHT3)
        dc_flight3(s, k, body);
    else if (type == MSG_SESSION_DATA)
        dc_data(s, k, body);
    else
        AMI_CHECK(false && "a message that no meter sends");
}

/* --- running --------------------------------------------------------------------------------- */

/* Everything that happens at this instant. */
static void settle_instant(struct script *s)
{
    do {
        complete_writes(s);
        if (s->frame_count > 0) {
            static struct script_frame f;
            f = s->frame[s->frame_first];
            s->frame_first = (s->frame_first + 1) % SCRIPT_FRAMES;
            s->frame_count--;
            dc_on_frame(s, &f);
        }
    } while (s->frame_count > 0 || (s->write_count > 0 && !s->hold_writes));
}

static bool all_settled(const struct script *s)
{
    return s->settled_count == s->report_count && !meter_unsettled(&s->meter);
}

static void run(struct script *s, uint64_t ms, bool until_settled)
{
    uint64_t until = s->now_us + ms * 1000;
    unsigned idle = 0;
    for (;;) {
        settle_instant(s);
        if (until_settled && all_settled(s))
            return;
        if (s->alarm_us > until)
            break;
        /* An alarm in the past that is set again and again would never let time go on. */
        idle = s->alarm_us <= s->now_us ? idle + 1 : 0;
        AMI_CHECK(idle < 1000);
        if (s->alarm_us > s->now_us)
            s->now_us = s->alarm_us;
        s->alarm_us = UINT64_MAX;
        meter_on_time(&s->meter);
    }
    s->now_us = until;
}

void script_run(struct script *s, uint64_t ms)
{
    run(s, ms, false);
}

bool script_run_settled(struct script *s, uint64_t ms)
{
    run(s, ms, true);
    return all_settled(s);
}

void script_measure(struct script *s, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct reading r;
        uint8_t m[256];
        struct writer w = writer_on(m, sizeof m);
        uint64_t sequence = s->meter.next_sequence;
        AMI_CHECK(sequence < SCRIPT_REPORTS);
        profile_reading(&r, 1, &s->keys.name, sequence);
        OK(report_encode(&w, REPORT_READINGS, &r, 1));
        OK(meter_report(&s->meter, &s->put[sequence], writer_span(&w)));
        complete_writes(s);
    }
}

void script_open(struct script *s, unsigned dc)
{
    s->dc[dc].open = true;
    s->shared.open |= 1u << dc;
    meter_on_open(&s->meter, dc + 1);
}

void script_close(struct script *s, unsigned dc)
{
    s->dc[dc].open = false;
    s->dc[dc].confirmed = false;
    s->shared.open &= ~(1u << dc);
    meter_on_closed(&s->meter, dc + 1);
}

/* --- making it ------------------------------------------------------------------------------- */

static void issue(struct script *s, struct agree_key *key, struct agree_part *part,
                  enum key_role role, const struct ami_id *name, struct span home)
{
    uint8_t wide[SM2_WIDE_BYTES];
    struct agree_enrolling begun;
    struct agree_secret secret;
    const struct network *net = &s->f->genesis.network;
    fixture_random(s->f, wide);
    s->scheme->device_begin(&begun, role, wide);
    fixture_random(s->f, wide);
    OK(s->scheme->mdms_issue(&secret, part, net, &s->f->p_pub.d, role, name, 1, home,
                             agree_part_span(&begun.request), wide));
    OK(s->scheme->device_accept(key, &begun, net, role, name, 1, span_of(secret.b, secret.size),
                                agree_part_span(part)));
}

static uint64_t first_unsettled(const struct script *s, uint64_t next)
{
    uint64_t first = next;
    for (size_t i = 0; i < s->report_count; i++)
        if (!s->report[i].settled && s->report[i].sequence < first)
            first = s->report[i].sequence;
    return first;
}

void script_restart_meter(struct script *s)
{
    uint64_t next = 1;
    s->write_count = 0; /* what was not durable is gone */
    for (size_t i = 0; i < s->report_count; i++)
        if (s->report[i].sequence >= next)
            next = s->report[i].sequence + 1;
    meter_init(&s->meter, &s->shared, s, &s->keys, next, first_unsettled(s, next));
    meter_start(&s->meter);
}

struct script *script_new(const struct scheme *scheme, enum gateway_policy policy)
{
    struct script *s = calloc(1, sizeof *s);
    AMI_CHECK(s != NULL);
    s->f = fixture_new(SCRIPT_DCS, 20240101);
    s->scheme = scheme;
    s->f->genesis.network.scheme = scheme->number;
    s->f->genesis.parameters.gateway = policy;
    s->now_us = 1000000;
    s->alarm_us = UINT64_MAX;
    s->env = (struct env){.ctx = s,
                          .clock_mono_us = env_mono,
                          .clock_wall_ms = env_wall,
                          .set_alarm = env_alarm,
                          .send = env_send,
                          .random = env_random,
                          .log = env_log,
                          .store = env_store};
    headers_init(&s->headers, &s->f->genesis);
    meter_shared_init(&s->shared, &s->f->genesis, &s->headers, &s->env);
    s->shared.disk.next = disk_next;
    s->shared.note = note;
    for (unsigned k = 0; k < SCRIPT_DCS; k++) {
        s->dc[k].refer_to = -1;
        issue(s, &s->dc[k].agree, &s->dc[k].part, ROLE_DC_AGREE, &s->f->dc[k].name,
              span_of(NULL, 0));
    }
    /* The first DC is the meter's home. */
    struct ami_id name = fixture_id("meter-17");
    struct fixture_device report = fixture_device(s->f, ROLE_METER_REPORT, name, 1);
    s->keys.role = ENROL_METER;
    s->keys.name = name;
    s->keys.epoch = 1;
    s->keys.home_dc = s->f->dc[0].name;
    s->keys.sign = report.key;
    issue(s, &s->keys.agree, &s->u, ROLE_METER_AGREE, &name, agree_part_span(&s->dc[0].part));
    s->other = fixture_meter(s->f, 99);
    meter_init(&s->meter, &s->shared, s, &s->keys, 1, 1);
    meter_start(&s->meter);
    for (unsigned k = 0; k < SCRIPT_DCS; k++)
        script_open(s, k);
    return s;
}

void script_free(struct script *s)
{
    meter_wipe(&s->meter);
    fixture_free(s->f);
    free(s);
}
