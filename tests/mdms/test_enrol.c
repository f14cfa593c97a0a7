/* Enrolment and the MDMS's own transactions (protocol.md section 3): who gets keys, who does not,
 * and that nothing which was given out is ever lost or given out twice, whenever power fails. */
#include "tests/mdms/rig.h"

#include "crypto/secret.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int setup(void **state)
{
    struct rig *r = malloc(sizeof *r);
    assert_non_null(r);
    rig_begin(r, SCHEME_DEFAULT);
    *state = r;
    return 0;
}

static int setup_with_ledger(void **state)
{
    setup(state);
    rig_genesis(*state);
    return 0;
}

static int teardown(void **state)
{
    rig_end(*state);
    free(*state);
    return 0;
}

/* The status of the answer to a request from link 1; AMI_AGAIN-like when there is none fails. */
static enum ami_status answer(struct rig *r, const struct enrol_pending *p)
{
    struct enrol_reply reply;
    struct span body;
    rig_send_request(r, 1, p);
    rig_settle(r);
    assert_true(rig_reply(r, 1, &reply, &body));
    assert_true(ami_id_equal(&reply.device, &p->name));
    assert_int_equal(reply.sealed.size == 0, reply.status != AMI_OK);
    return (enum ami_status)reply.status;
}

static enum ami_status try_enrol(struct rig *r, enum enrol_role role, const char *id,
                                 uint32_t epoch, const sm3_digest *code)
{
    struct enrol_pending p;
    rig_request(r, &p, role, id, epoch, code);
    return answer(r, &p);
}

static void enrolment_matrix(void **state)
{
    struct rig *r = *state;
    sm3_digest other = rig_code(r, ENROL_METER, "other", NULL);
    assert_status(try_enrol(r, ENROL_METER, "stranger", 1, &other), AMI_UNKNOWN_DEVICE);

    sm3_digest code = rig_code(r, ENROL_METER, "m-1", NULL);
    assert_status(try_enrol(r, ENROL_METER, "m-1", 1, &other), AMI_WRONG_CODE);
    /* A code is bound to its role and its name. */
    assert_status(try_enrol(r, ENROL_DC, "m-1", 1, &code), AMI_UNKNOWN_DEVICE);
    assert_status(try_enrol(r, ENROL_METER, "other", 1, &code), AMI_WRONG_CODE);
    assert_status(try_enrol(r, ENROL_METER, "m-1", 2, &code), AMI_WRONG_EPOCH);
    uint64_t last = rig_state(r).last;
    assert_status(try_enrol(r, ENROL_METER, "m-1", 1, &code), AMI_OK);
    assert_int_equal(rig_state(r).last, last + 1);

    /* The code has served: not again for the same epoch, nor for the next. */
    assert_status(try_enrol(r, ENROL_METER, "m-1", 1, &code), AMI_CODE_USED);
    assert_status(try_enrol(r, ENROL_METER, "m-1", 2, &code), AMI_CODE_USED);
    assert_status(try_enrol(r, ENROL_METER, "m-1", 1, &other), AMI_WRONG_CODE);

    /* A new code is for the next epoch only. */
    sm3_digest second = rig_code(r, ENROL_METER, "m-1", NULL);
    assert_status(try_enrol(r, ENROL_METER, "m-1", 1, &second), AMI_ALREADY_ENROLLED);
    assert_status(try_enrol(r, ENROL_METER, "m-1", 3, &second), AMI_WRONG_EPOCH);
    assert_status(try_enrol(r, ENROL_METER, "m-1", 2, &second), AMI_OK);
    assert_int_equal(rig_state(r).last, last + 2);
    assert_int_equal(rig_state(r).meters, 2);
}

static void request_of_another_network_or_scheme_is_refused(void **state)
{
    struct rig *r = *state;
    struct enrol_pending p;
    sm3_digest code = rig_code(r, ENROL_METER, "m-1", NULL);
    struct network net = r->keys.net;

    net.id.b[0] ^= 1;
    struct ami_id name;
    uint8_t random[3][SM2_WIDE_BYTES];
    memset(random, 7, sizeof random);
    assert_ok(ami_id_from_text(&name, "m-1"));
    assert_ok(enrol_begin(&p, &net, ENROL_METER, &name, 1, &code,
                          (const uint8_t(*)[SM2_WIDE_BYTES])random));
    assert_status(answer(r, &p), AMI_WRONG_CHAIN);

    net = r->keys.net;
    net.scheme = net.scheme == SCHEME_SM2KX ? SCHEME_LIU2023 : SCHEME_SM2KX;
    assert_ok(enrol_begin(&p, &net, ENROL_METER, &name, 1, &code,
                          (const uint8_t(*)[SM2_WIDE_BYTES])random));
    assert_status(answer(r, &p), AMI_WRONG_SCHEME);
    assert_int_equal(rig_count(r, TABLE_OUTBOX), 0);
}

static void same_request_gets_the_same_bytes(void **state)
{
    struct rig *r = *state;
    struct enrol_pending p;
    struct enrol_reply reply;
    struct span body;
    uint8_t first[ENROL_REPLY_BYTES_MAX];
    sm3_digest code = rig_code(r, ENROL_METER, "m-1", NULL);
    rig_request(r, &p, ENROL_METER, "m-1", 1, &code);
    rig_send_request(r, 1, &p);
    rig_settle(r);
    assert_true(rig_reply(r, 1, &reply, &body));
    size_t size = body.size;
    memcpy(first, body.data, size);

    uint64_t last = rig_state(r).last;
    for (unsigned i = 0; i < 3; i++) {
        if (i == 2) { /* also after a restart, over another link */
            rig_kill(r);
            rig_start(r);
        }
        rig_send_request(r, 2 + i, &p);
        rig_settle(r);
        assert_true(rig_reply(r, 2 + i, &reply, &body));
        assert_int_equal(body.size, size);
        assert_memory_equal(body.data, first, size);
    }
    assert_int_equal(rig_state(r).last, last);
    struct device_keys keys;
    assert_ok(enrol_finish(&keys, &p, &r->keys.net, &reply));
}

/* Asked again while the answer is under way: one issuance, one answer, to where it was asked last;
 * another request of the same device has to wait. */
static void one_enrolment_of_a_device_at_a_time(void **state)
{
    struct rig *r = *state;
    struct enrol_pending p, q;
    struct enrol_reply reply;
    struct span body;
    sm3_digest code = rig_code(r, ENROL_METER, "m-1", NULL);
    rig_request(r, &p, ENROL_METER, "m-1", 1, &code);
    rig_request(r, &q, ENROL_METER, "m-1", 1, &code);
    rig_send_request(r, 1, &p);
    rig_send_request(r, 2, &p);
    rig_send_request(r, 3, &q);
    assert_true(rig_reply(r, 3, &reply, &body));
    assert_status((enum ami_status)reply.status, AMI_AGAIN);
    rig_settle(r);
    assert_false(rig_reply(r, 1, &reply, &body));
    assert_true(rig_reply(r, 2, &reply, &body));
    assert_status((enum ami_status)reply.status, AMI_OK);
    assert_int_equal(rig_count(r, TABLE_OUTBOX), 1);
    assert_status(answer(r, &q), AMI_CODE_USED);
}

static void no_meter_before_the_genesis(void **state)
{
    struct rig *r = *state;
    rig_start(r);
    sm3_digest code = rig_code(r, ENROL_METER, "m-1", NULL);
    assert_status(try_enrol(r, ENROL_METER, "m-1", 1, &code), AMI_AGAIN);
    rig_kill(r);
    rig_genesis(r);
    assert_status(try_enrol(r, ENROL_METER, "m-1", 1, &code), AMI_OK);
}

/* Power fails: before the write, after it but before anybody was told, and at every job between.
 * The device asks again; in the end there is one record, one transaction, and the reply fits it. */
static void power_loss_at_every_point(void **state)
{
    struct rig *r = *state;
    for (unsigned when = 0; when < 4; when++) {
        char id[16];
        struct enrol_pending p;
        struct enrol_reply reply;
        struct span body, value;
        snprintf(id, sizeof id, "m-%u", when);
        sm3_digest code = rig_code(r, ENROL_METER, id, NULL);
        rig_request(r, &p, ENROL_METER, id, 1, &code);
        uint64_t last = rig_state(r).last;
        rig_send_request(r, 1, &p);
        if (when >= 1)
            assert_true(rig_run_job(r)); /* issued, not stored */
        assert_false(rig_reply(r, 1, &reply, &body));
        if (when >= 2)
            assert_true(rig_write_applies(r)); /* stored, nobody knows */
        assert_false(rig_reply(r, 1, &reply, &body));
        if (when == 3) {
            assert_true(rig_write_completes(r)); /* sent, and lost on the way */
            assert_true(rig_reply(r, 1, &reply, &body));
        }
        rig_kill(r);
        assert_int_equal(rig_state(r).last, when >= 2 ? last + 1 : last);
        rig_start(r);
        rig_send_request(r, 1, &p);
        rig_settle(r);
        assert_true(rig_reply(r, 1, &reply, &body));
        assert_status((enum ami_status)reply.status, AMI_OK);
        assert_int_equal(rig_state(r).last, last + 1);

        struct device_keys keys;
        struct device_record d;
        assert_ok(enrol_finish(&keys, &p, &r->keys.net, &reply));
        assert_true(rig_get(r, TABLE_DEVICES, key_device(DEVICE_METER, &p.name, 1), &value));
        assert_ok(device_record_parse(&d, value));
        point_bytes w = point_encode(&keys.sign.public_key.w);
        assert_memory_equal(&w, &d.w_sign, sizeof w);
        /* What the ledger will say is what the device got. */
        struct tx_view tx;
        assert_true(rig_get(r, TABLE_OUTBOX, key_number(last + 1), &value));
        assert_ok(tx_view_parse(&tx, value));
        assert_memory_equal(&tx.u.meter_enrol.w_report, &w, sizeof w);
        assert_ok(mdms_tx_check(&r->keys.net, &r->genesis->members.chain, TX_METER_ENROL,
                                tx.tx.first, &tx.mdms.signature));
    }
}

/* A full disk: the device is told to come again, numbers have no gap, later it works. */
static void full_disk_refuses_and_recovers(void **state)
{
    struct rig *r = *state;
    struct enrol_pending p;
    sm3_digest code = rig_code(r, ENROL_METER, "m-1", NULL);
    rig_request(r, &p, ENROL_METER, "m-1", 1, &code);
    uint64_t last = rig_state(r).last;
    r->store_status = AMI_FULL;
    assert_status(answer(r, &p), AMI_FULL);
    struct mdms_stats stats;
    mdms_stats(r->m, &stats);
    assert_true(stats.storage_full);
    assert_int_equal(rig_count(r, TABLE_OUTBOX), 0);
    r->store_status = AMI_OK;
    rig_advance(r, 2000);
    assert_status(answer(r, &p), AMI_OK);
    assert_int_equal(rig_state(r).last, last + 1);
    assert_ok(mdms_failed(r->m));
}

/* A disk that fails in any other way leaves unknown what it holds: nothing leaves any more. */
static void broken_disk_stops_it(void **state)
{
    struct rig *r = *state;
    struct enrol_pending p;
    struct enrol_reply reply;
    struct span body;
    sm3_digest code = rig_code(r, ENROL_METER, "m-1", NULL);
    rig_request(r, &p, ENROL_METER, "m-1", 1, &code);
    r->store_status = AMI_IO;
    rig_send_request(r, 1, &p);
    rig_settle(r);
    assert_false(rig_reply(r, 1, &reply, &body));
    assert_status(mdms_failed(r->m), AMI_IO);
    r->store_status = AMI_OK;
    rig_send_request(r, 1, &p);
    rig_settle(r);
    assert_false(rig_reply(r, 1, &reply, &body));
}

static void relayed_request_is_answered_with_its_token(void **state)
{
    struct rig *r = *state;
    struct enrol_pending p;
    struct span body;
    struct relay relay;
    sm3_digest code = rig_code(r, ENROL_METER, "m-1", NULL);
    rig_request(r, &p, ENROL_METER, "m-1", 1, &code);
    rig_connect(r, 2);
    rig_send_relayed(r, 2, 0x1122334455667788, &p);
    rig_settle(r);
    assert_int_equal(rig_take(r, 2, MSG_RELAY_REPLY, &body), 1);
    assert_ok(relay_parse(&relay, body));
    assert_int_equal(relay.token, 0x1122334455667788);
    enum message_type type;
    struct span inner;
    struct enrol_reply reply;
    struct device_keys keys;
    assert_ok(frame_open(relay.frame, &type, &inner));
    assert_int_equal(type, MSG_ENROL_REPLY);
    assert_ok(enrol_reply_parse(&reply, inner));
    assert_ok(enrol_finish(&keys, &p, &r->keys.net, &reply));
    (void)rig_take(r, 2, MSG_RELAY_REPLY, NULL);
}

static void homes_go_round_unless_one_is_named(void **state)
{
    struct rig *r = *state;
    unsigned homes[RIG_DCS] = {0};
    for (unsigned i = 0; i < 8; i++) {
        char id[16];
        struct device_keys keys;
        snprintf(id, sizeof id, "m-%u", i);
        rig_enrol(r, &keys, ENROL_METER, id);
        for (unsigned k = 0; k < RIG_DCS; k++)
            homes[k] += ami_id_equal(&keys.home_dc, &r->dc[k].name);
    }
    for (unsigned k = 0; k < RIG_DCS; k++)
        assert_int_equal(homes[k], 2);

    struct enrol_pending p;
    struct enrol_reply reply;
    struct span body;
    struct device_keys keys;
    sm3_digest code = rig_code(r, ENROL_METER, "at-home", "dc-3");
    rig_request(r, &p, ENROL_METER, "at-home", 1, &code);
    rig_send_request(r, 1, &p);
    rig_settle(r);
    assert_true(rig_reply(r, 1, &reply, &body));
    assert_ok(enrol_finish(&keys, &p, &r->keys.net, &reply));
    assert_string_equal(keys.home_dc.text, "dc-3");

    /* A home that is no member is said, but whoever asks again and again fills no log. */
    code = rig_code(r, ENROL_METER, "astray", "dc-77");
    sm3_digest wrong = rig_code(r, ENROL_METER, "another", NULL);
    for (unsigned i = 0; i < 50; i++) {
        rig_request(r, &p, ENROL_METER, "astray", 1, &wrong);
        rig_send_request(r, 1, &p);
        rig_settle(r);
    }
    assert_in_range(rig_logged(r, "home_unknown"), 1, 10);
}

/* Under the published scheme a meter's key depends on its home DC's. */
static void enrolment_under_the_published_scheme(void **state)
{
    struct rig *r = *state;
    rig_end(r);
    rig_begin(r, SCHEME_LIU2023);
    rig_genesis(r);
    for (unsigned i = 0; i < RIG_DCS; i++) {
        char id[16];
        struct device_keys keys;
        struct span value;
        struct device_record d;
        snprintf(id, sizeof id, "m-%u", i);
        rig_enrol(r, &keys, ENROL_METER, id);
        assert_int_equal(keys.agree.scheme, SCHEME_LIU2023);
        /* y_DC of the home DC, as the genesis file has it, is what the ledger will say. */
        const struct member *home = &r->genesis->members.member[i];
        assert_true(ami_id_equal(&keys.home_dc, &home->name));
        assert_true(rig_get(r, TABLE_DEVICES, key_device(DEVICE_METER, &keys.name, 1), &value));
        assert_ok(device_record_parse(&d, value));
        assert_true(span_equal(d.agree_part, span_of(home->agree_part, home->agree_part_size)));
    }
}

static void strangers_are_dropped(void **state)
{
    struct rig *r = *state;
    static const uint8_t garbage[] = {0xff, 1, 2, 3};
    mdms_on_frame(r->m, 1, span_of(garbage, sizeof garbage));
    rig_send(r, 2, MSG_ENROL_REQUEST, span_of(garbage, sizeof garbage));
    rig_send(r, 3, MSG_BLOCK, span_of(garbage, sizeof garbage)); /* only a DC may */
    assert_int_equal(r->closed_count, 3);
    struct mdms_stats stats;
    mdms_stats(r->m, &stats);
    assert_int_equal(stats.frames_bad, 3);
}

/* --- the outbox ------------------------------------------------------------------------------- */

#define METERS 150

/* Numbers in the TX_SUBMIT frames to a DC, all checked to be in order; returns how many. */
static uint64_t submitted(struct rig *r, unsigned dc, uint64_t first)
{
    uint64_t next = first;
    for (size_t i = 0; i < r->frame_count; i++) {
        enum message_type type;
        struct span body;
        assert_ok(frame_open(span_of(r->frame[i].data, r->frame[i].size), &type, &body));
        if (r->frame[i].link != RIG_LINK_DC(dc) || type != MSG_TX_SUBMIT)
            continue;
        struct tx_submit *s = malloc(sizeof *s);
        assert_non_null(s);
        assert_ok(tx_submit_parse(s, body));
        for (unsigned k = 0; k < s->txs_count; k++) {
            struct tx_view tx;
            assert_ok(tx_view_parse(&tx, s->txs[k].encoded));
            assert_int_equal(tx.u.meter_enrol.number, next);
            next++;
        }
        free(s);
    }
    (void)rig_take(r, dc, MSG_TX_SUBMIT, NULL);
    return next - first;
}

static void commit_outbox(struct rig *r, uint64_t from, uint64_t to)
{
    struct rig_tx *txs = calloc(to - from + 1, sizeof *txs);
    assert_non_null(txs);
    for (uint64_t n = from; n <= to; n++) {
        struct span value;
        assert_true(rig_get(r, TABLE_OUTBOX, key_number(n), &value));
        memcpy(txs[n - from].bytes, value.data, value.size);
        txs[n - from].size = value.size;
    }
    rig_block(r, txs, (size_t)(to - from + 1));
    free(txs);
}

static void outbox_is_submitted_in_order_until_committed(void **state)
{
    struct rig *r = *state;
    for (unsigned i = 0; i < METERS; i++) {
        char id[16];
        struct device_keys keys;
        snprintf(id, sizeof id, "m-%u", i);
        rig_enrol(r, &keys, ENROL_METER, id);
    }
    assert_int_equal(rig_count(r, TABLE_OUTBOX), METERS);
    rig_connect(r, 0);
    rig_connect(r, 1);
    assert_int_equal(submitted(r, 0, 1), METERS);
    assert_int_equal(submitted(r, 1, 1), 0);

    /* Nothing is committed: the next DC gets all of it. */
    rig_advance(r, 3100);
    assert_int_equal(submitted(r, 1, 1), METERS);
    assert_int_equal(submitted(r, 0, 1), 0);

    /* Half of it is committed, then the DC goes: the rest goes to the other one. */
    commit_outbox(r, 1, METERS / 2);
    rig_follow(r);
    assert_int_equal(rig_count(r, TABLE_OUTBOX), METERS - METERS / 2);
    assert_int_equal(rig_state(r).settled, METERS / 2);
    rig_disconnect(r, 1);
    assert_int_equal(submitted(r, 0, METERS / 2 + 1), METERS - METERS / 2);

    /* A restart loses nothing. */
    rig_kill(r);
    rig_start(r);
    rig_settle(r);
    rig_connect(r, 3);
    assert_int_equal(submitted(r, 3, METERS / 2 + 1), METERS - METERS / 2);
    commit_outbox(r, METERS / 2 + 1, METERS);
    rig_follow(r);
    assert_int_equal(rig_count(r, TABLE_OUTBOX), 0);
    rig_advance(r, 10000);
    for (unsigned dc = 0; dc < RIG_DCS; dc++)
        assert_int_equal(submitted(r, dc, 1), 0);
}

/* A link without room: nothing is skipped, it goes on when there is room. */
static void full_link_delays_the_outbox(void **state)
{
    struct rig *r = *state;
    struct device_keys keys;
    rig_connect(r, 0);
    rig_enrol(r, &keys, ENROL_METER, "m-1");
    assert_int_equal(submitted(r, 0, 1), 1);
    sm3_digest code = rig_code(r, ENROL_METER, "m-2", NULL);
    struct enrol_pending p;
    rig_request(r, &p, ENROL_METER, "m-2", 1, &code);
    rig_send_request(r, 1, &p);
    r->link_full = true;
    rig_settle(r);
    r->link_full = false;
    mdms_on_writable(r->m, RIG_LINK_DC(0));
    assert_int_equal(submitted(r, 0, 2), 1);
    assert_status(answer(r, &p), AMI_OK); /* its reply found no room either: stored, sent again */
}

static void ask_revocation(struct rig *r, uint64_t request, uint8_t role, const char *id,
                           uint32_t epoch)
{
    uint8_t bytes[128];
    struct revocation_record v = {.role = role, .epoch = epoch, .reason = 1};
    assert_ok(ami_id_from_text(&v.device, id));
    struct writer w = writer_on(bytes, sizeof bytes);
    revocation_record_encode(&w, &v);
    rig_put(r, TABLE_REQUESTS, key_number(request), writer_span(&w));
}

static void revocations_become_transactions_once(void **state)
{
    struct rig *r = *state;
    struct device_keys keys;
    rig_enrol(r, &keys, ENROL_METER, "m-1");
    ask_revocation(r, 1, DEVICE_METER, "m-1", 1);
    ask_revocation(r, 2, DEVICE_METER, "m-1", 1);    /* the same again */
    ask_revocation(r, 3, DEVICE_METER, "nobody", 1); /* never enrolled */
    /* Power fails after the transaction was stored, before anybody knows. */
    r->now_us += 300000;
    mdms_on_time(r->m);
    assert_true(rig_write_applies(r));
    rig_kill(r);
    rig_start(r);
    rig_advance(r, 1000);
    assert_int_equal(rig_count(r, TABLE_REQUESTS), 0);
    assert_int_equal(rig_count(r, TABLE_REVOCATIONS), 1);
    assert_int_equal(rig_count(r, TABLE_OUTBOX), 2);
    struct span value;
    struct tx_view tx;
    assert_true(rig_get(r, TABLE_OUTBOX, key_number(2), &value));
    assert_ok(tx_view_parse(&tx, value));
    assert_int_equal(tx.tx.kind, TX_REVOKE);
    assert_string_equal(tx.u.revoke.device.text, "m-1");
    assert_int_equal(tx.u.revoke.reason, 1);
    ask_revocation(r, 1, DEVICE_METER, "m-1", 1); /* and later once more */
    rig_advance(r, 1000);
    assert_int_equal(rig_count(r, TABLE_REQUESTS), 0);
    assert_int_equal(rig_count(r, TABLE_OUTBOX), 2);
}

/* A store that cannot be read is not an empty one: nobody is told so, nothing is dropped, no key is
 * issued on the strength of it. */
static void what_cannot_be_read_is_not_absent(void **state)
{
    struct rig *r = *state;
    struct device_keys keys;
    struct enrol_pending p;
    struct enrol_reply reply;
    struct span body;
    rig_enrol(r, &keys, ENROL_METER, "m-1");
    ask_revocation(r, 1, DEVICE_METER, "m-1", 1);
    r->read_table = TABLE_DEVICES;
    r->read_status = AMI_IO;
    rig_advance(r, 1000);
    assert_int_equal(mdms_failed(r->m), AMI_IO);
    assert_int_equal(rig_count(r, TABLE_REQUESTS), 1);
    rig_kill(r);

    r->read_status = AMI_OK;
    sm3_digest code = rig_code(r, ENROL_METER, "m-2", NULL);
    static const enum mdms_table tables[] = {TABLE_DEVICES, TABLE_CODES, TABLE_REVOCATIONS};
    for (unsigned i = 0; i < 3; i++) {
        rig_start(r);
        rig_request(r, &p, ENROL_METER, "m-2", 1, &code);
        r->read_table = tables[i];
        r->read_status = AMI_DAMAGED;
        rig_send_request(r, 1, &p);
        rig_settle(r);
        assert_int_equal(mdms_failed(r->m), AMI_DAMAGED);
        assert_true(!rig_reply(r, 1, &reply, &body) || reply.status == AMI_AGAIN);
        rig_kill(r);
        r->read_status = AMI_OK;
    }
    /* Readable again: everything takes its course. */
    rig_start(r);
    rig_advance(r, 1000);
    assert_int_equal(rig_count(r, TABLE_REQUESTS), 0);
    assert_int_equal(rig_count(r, TABLE_REVOCATIONS), 1);
    rig_send_request(r, 1, &p);
    rig_settle(r);
    assert_true(rig_reply(r, 1, &reply, &body));
    assert_int_equal(reply.status, AMI_OK);
}

/* A record that is none is said to be damaged, not skipped with all that stand behind it. */
static void a_damaged_request_is_not_passed_over(void **state)
{
    struct rig *r = *state;
    struct device_keys keys;
    rig_enrol(r, &keys, ENROL_METER, "m-1");
    rig_put(r, TABLE_REQUESTS, key_number(1), SPAN_LITERAL("?"));
    ask_revocation(r, 2, DEVICE_METER, "m-1", 1);
    rig_advance(r, 1000);
    assert_int_equal(mdms_failed(r->m), AMI_DAMAGED);
    assert_int_equal(rig_count(r, TABLE_REQUESTS), 2);
}

/* A DC that enrolled before the genesis and is no first member goes onto the ledger with it, once;
 * so does one that enrols later. */
static void late_dcs_go_onto_the_ledger(void **state)
{
    struct rig *r = *state;
    struct device_keys keys;
    rig_start(r);
    rig_enrol(r, &keys, ENROL_DC, "dc-0-spare");
    rig_enrol(r, &keys, ENROL_DC, "dc-9-spare");
    rig_kill(r);
    ask_revocation(r, 1, DEVICE_DC, "dc-9-spare", 1); /* goes behind its enrolment */
    rig_genesis(r);
    rig_advance(r, 1000);
    assert_int_equal(rig_count(r, TABLE_OUTBOX), 3);
    rig_kill(r);
    rig_start(r);
    rig_settle(r);
    assert_int_equal(rig_count(r, TABLE_OUTBOX), 3);
    rig_enrol(r, &keys, ENROL_DC, "dc-5");
    static const struct {
        uint8_t kind;
        const char *name;
    } expected[] = {{TX_DC_ENROL, "dc-0-spare"},
                    {TX_DC_ENROL, "dc-9-spare"},
                    {TX_REVOKE, "dc-9-spare"},
                    {TX_DC_ENROL, "dc-5"}};
    for (unsigned i = 0; i < 4; i++) {
        struct span value;
        struct tx_view tx;
        assert_true(rig_get(r, TABLE_OUTBOX, key_number(i + 1), &value));
        assert_ok(tx_view_parse(&tx, value));
        assert_int_equal(tx.tx.kind, expected[i].kind);
        assert_string_equal(tx.tx.kind == TX_REVOKE ? tx.u.revoke.device.text
                                                    : tx.u.dc_enrol.dc.text,
                            expected[i].name);
    }
}

static void another_network_or_chain_is_refused_at_start(void **state)
{
    struct rig *r = *state;
    rig_kill(r);
    struct genesis *g = r->genesis;
    r->genesis = NULL; /* it follows a ledger: which one it must be told */
    assert_status(rig_try_start(r), AMI_WRONG_CHAIN);
    r->genesis = g;
    g->members.chain.b[0] ^= 1;
    assert_status(rig_try_start(r), AMI_WRONG_CHAIN);
    g->members.chain.b[0] ^= 1;
    g->network.id.b[0] ^= 1;
    assert_status(rig_try_start(r), AMI_WRONG_CHAIN);
    g->network.id.b[0] ^= 1;
    r->keys.net.id.b[0] ^= 1;
    assert_status(rig_try_start(r), AMI_WRONG_CHAIN);
    r->keys.net.id.b[0] ^= 1;
    rig_put(r, TABLE_STATE, key_state(), SPAN_LITERAL("nonsense"));
    assert_status(rig_try_start(r), AMI_DAMAGED);
}

/* --- records ---------------------------------------------------------------------------------- */

static void keys_sort_by_name_epoch_and_number(void **state)
{
    (void)state;
    static const char *const names[] = {"a", "a-", "a.b", "aa", "b"};
    struct mdms_key before = {0};
    for (unsigned i = 0; i < 5; i++) {
        struct ami_id id, back;
        uint32_t epoch;
        uint64_t sequence;
        assert_ok(ami_id_from_text(&id, names[i]));
        for (uint32_t e = 1; e <= 300; e += 299) {
            for (uint64_t s = 255; s <= 256; s++) {
                struct mdms_key key = key_report(&id, e, s);
                size_t n = key.size < before.size ? key.size : before.size;
                int c = memcmp(key.b, before.b, n);
                assert_true(c > 0 || (c == 0 && key.size > before.size));
                before = key;
                assert_ok(key_report_parse(&back, &epoch, &sequence, key_span(&key)));
                assert_true(ami_id_equal(&back, &id) && epoch == e && sequence == s);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(enrolment_matrix, setup_with_ledger, teardown),
        cmocka_unit_test_setup_teardown(request_of_another_network_or_scheme_is_refused,
                                        setup_with_ledger, teardown),
        cmocka_unit_test_setup_teardown(same_request_gets_the_same_bytes, setup_with_ledger,
                                        teardown),
        cmocka_unit_test_setup_teardown(one_enrolment_of_a_device_at_a_time, setup_with_ledger,
                                        teardown),
        cmocka_unit_test_setup_teardown(no_meter_before_the_genesis, setup, teardown),
        cmocka_unit_test_setup_teardown(power_loss_at_every_point, setup_with_ledger, teardown),
        cmocka_unit_test_setup_teardown(full_disk_refuses_and_recovers, setup_with_ledger,
                                        teardown),
        cmocka_unit_test_setup_teardown(broken_disk_stops_it, setup_with_ledger, teardown),
        cmocka_unit_test_setup_teardown(relayed_request_is_answered_with_its_token,
                                        setup_with_ledger, teardown),
        cmocka_unit_test_setup_teardown(homes_go_round_unless_one_is_named, setup_with_ledger,
                                        teardown),
        cmocka_unit_test_setup_teardown(enrolment_under_the_published_scheme, setup, teardown),
        cmocka_unit_test_setup_teardown(strangers_are_dropped, setup_with_ledger, teardown),
        cmocka_unit_test_setup_teardown(outbox_is_submitted_in_order_until_committed,
                                        setup_with_ledger, teardown),
        cmocka_unit_test_setup_teardown(full_link_delays_the_outbox, setup_with_ledger, teardown),
        cmocka_unit_test_setup_teardown(revocations_become_transactions_once, setup_with_ledger,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_read_is_not_absent, setup_with_ledger,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_damaged_request_is_not_passed_over, setup_with_ledger,
                                        teardown),
        cmocka_unit_test_setup_teardown(late_dcs_go_onto_the_ledger, setup, teardown),
        cmocka_unit_test_setup_teardown(another_network_or_chain_is_refused_at_start,
                                        setup_with_ledger, teardown),
        cmocka_unit_test(keys_sort_by_name_epoch_and_number),
    };
    if (crypto_start() != AMI_OK)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
