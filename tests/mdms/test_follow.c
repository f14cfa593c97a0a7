/* Following the ledger: what a DC says counts only as far as certificates and hashes carry it, and
 * no reading is lost, doubled or invented whoever lies, goes away or loses power. */
#include "tests/mdms/rig.h"

#include "crypto/secret.h"
#include "ledger/evidence.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fixture {
    struct rig r;
    struct device_keys meter;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    rig_begin(&f->r, SCHEME_DEFAULT);
    rig_genesis(&f->r);
    rig_enrol(&f->r, &f->meter, ENROL_METER, "m-1");
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    rig_end(&f->r);
    free(f);
    return 0;
}

/* `count` blocks of two reports each. */
static void grow(struct fixture *f, unsigned count)
{
    static struct rig_tx txs[2];
    for (unsigned i = 0; i < count; i++) {
        uint64_t sequence = 2 * f->r.block_count + 1;
        rig_report(&f->r, &txs[0], &f->meter, sequence, i % RIG_DCS, SEAL_HONEST);
        rig_report(&f->r, &txs[1], &f->meter, sequence + 1, i % RIG_DCS, SEAL_HONEST);
        rig_block(&f->r, txs, 2);
    }
}

static void check_readings(struct fixture *f, uint64_t count)
{
    struct rig *r = &f->r;
    assert_int_equal(rig_count(r, TABLE_REPORTS), count);
    assert_int_equal(rig_state(r).reports, count);
    assert_int_equal(rig_state(r).readings, count);
    for (uint64_t s = 1; s <= count; s++) {
        struct span value;
        struct report_record rec;
        struct reading readings[AMI_REPORT_READINGS_MAX];
        enum report_kind kind;
        size_t n;
        char text[REPORT_VALUE_TEXT_BYTES_MAX + 1], expected[16];
        assert_true(rig_get(r, TABLE_REPORTS, key_report(&f->meter.name, 1, s), &value));
        assert_ok(report_record_parse(&rec, value));
        assert_int_equal(rec.height, (s + 1) / 2);
        assert_int_equal(rec.index, (s + 1) % 2);
        assert_ok(report_decode(&kind, readings, &n, rec.m));
        assert_int_equal(n, 1);
        reading_value_text(text, &readings[0]);
        snprintf(expected, sizeof expected, "0.%03u", (unsigned)s);
        assert_string_equal(text, expected);
    }
}

static void follows_from_any_dc(void **state)
{
    struct fixture *f = *state;
    rig_connect(&f->r, 1);
    grow(f, 40);
    rig_follow(&f->r);
    check_readings(f, 80);
    struct state_record stands = rig_state(&f->r);
    assert_memory_equal(&stands.tip, &f->r.block[39].after.hash, sizeof stands.tip);

    /* The chain goes on; it was idle meanwhile. */
    rig_advance(&f->r, 5000);
    grow(f, 1);
    rig_follow(&f->r);
    check_readings(f, 82);
    assert_int_equal(rig_logged(&f->r, "bad_block"), 0);
}

static void asks_every_poll_while_idle(void **state)
{
    struct fixture *f = *state;
    rig_connect(&f->r, 0);
    rig_advance(&f->r, 1);
    assert_int_equal(rig_take(&f->r, 0, MSG_FETCH_BLOCKS, NULL), 1);
    rig_advance(&f->r, 1000);
    size_t n = rig_take(&f->r, 0, MSG_FETCH_BLOCKS, NULL);
    assert_in_range(n, 4, 6);
}

static void unsolicited_and_repeated_blocks_do_no_harm(void **state)
{
    struct fixture *f = *state;
    grow(f, 3);
    rig_connect(&f->r, 0);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned h = 0; h < 3; h++) {
            struct rig_block *b = &f->r.block[h];
            rig_send(&f->r, RIG_LINK_DC(0), MSG_BLOCK, span_of(b->bytes, b->size));
            rig_send(&f->r, RIG_LINK_DC(0), MSG_BLOCK, span_of(b->bytes, b->size));
        }
        rig_settle(&f->r);
    }
    check_readings(f, 6);
    assert_int_equal(rig_logged(&f->r, "bad_block"), 0);
}

/* Every link is so slow that a block takes longer than a DC may be silent. What was asked for is
 * taken when it comes, though somebody else is asked by then; otherwise nothing might ever be. */
static void blocks_that_take_longer_than_silence_are_taken(void **state)
{
    struct fixture *f = *state;
    struct rig *r = &f->r;
    uint64_t due_us[RIG_DCS] = {0}, height[RIG_DCS] = {0};
    struct fetch_blocks q;
    struct span body;
    grow(f, 20);
    for (unsigned i = 0; i < RIG_DCS; i++)
        rig_connect(r, i);
    for (unsigned k = 0; k < 6000 && rig_state(r).height < r->block_count; k++) {
        rig_settle(r);
        for (unsigned i = 0; i < RIG_DCS; i++) {
            if (due_us[i] == 0 && rig_take(r, i, MSG_FETCH_BLOCKS, &body) > 0) {
                assert_ok(fetch_blocks_parse(&q, body));
                height[i] = q.from_height;
                due_us[i] = r->now_us + 2600000;
            }
            if (due_us[i] == 0 || r->now_us < due_us[i])
                continue;
            due_us[i] = 0;
            if (height[i] <= r->block_count)
                rig_send(r, RIG_LINK_DC(i), MSG_BLOCK,
                         span_of(r->block[height[i] - 1].bytes, r->block[height[i] - 1].size));
        }
        rig_advance(r, 20);
    }
    assert_int_equal(rig_logged(r, "bad_block"), 0);
    check_readings(f, 40);
}

/* A lie that comes late is the fault of who tells it, not of the source. */
static void a_late_lie_costs_its_dc_alone(void **state)
{
    struct fixture *f = *state;
    struct rig *r = &f->r;
    uint8_t *memory;
    grow(f, 3);
    rig_connect(r, 0);
    rig_connect(r, 1);
    rig_advance(r, 1);
    assert_int_equal(rig_take(r, 0, MSG_FETCH_BLOCKS, NULL), 1);
    for (unsigned i = 0; i < 100 && rig_take(r, 1, MSG_FETCH_BLOCKS, NULL) == 0; i++)
        rig_advance(r, 100);
    struct span lie = rig_damaged(r, 1, DAMAGE_CERTIFICATE, &memory);
    rig_send(r, RIG_LINK_DC(0), MSG_BLOCK, lie);
    rig_send(r, RIG_LINK_DC(1), MSG_BLOCK, span_of(r->block[0].bytes, r->block[0].size));
    rig_send(r, RIG_LINK_DC(1), MSG_BLOCK, span_of(r->block[1].bytes, r->block[1].size));
    rig_settle(r);
    assert_int_equal(rig_logged(r, "bad_block"), 1);
    for (unsigned i = 0; i < 100 && rig_state(r).height < 3; i++) {
        rig_send(r, RIG_LINK_DC(0), MSG_BLOCK, lie);
        (void)rig_serve(r, 1);
        rig_settle(r);
        rig_advance(r, 20);
    }
    check_readings(f, 6);
    assert_int_equal(rig_logged(r, "bad_block"), 1);
    free(memory);
}

/* Every kind of bad block: refused, its DC named, another DC asked, the readings complete. */
static void a_lying_dc_is_passed_over(void **state)
{
    struct fixture *f = *state;
    static const enum rig_damage kinds[] = {
        DAMAGE_CERTIFICATE, DAMAGE_SIGNATURE,   DAMAGE_OTHER_BLOCK, DAMAGE_PREPARE_ONLY,
        DAMAGE_LINK,        DAMAGE_MERKLE_ROOT, DAMAGE_BODY,        DAMAGE_GARBAGE};
    rig_connect(&f->r, 0);
    rig_connect(&f->r, 1);
    for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        struct mdms_stats stats;
        uint8_t *memory;
        grow(f, 3);
        uint64_t stood = rig_state(&f->r).height;
        mdms_stats(f->r.m, &stats);
        unsigned liar = (unsigned)stats.source;
        uint64_t bad = stats.bad_blocks[liar];
        assert_in_range(liar, 0, 1);
        /* One good block, then a bad one, then one that would extend the good chain. */
        rig_send(&f->r, RIG_LINK_DC(liar), MSG_BLOCK,
                 span_of(f->r.block[stood].bytes, f->r.block[stood].size));
        rig_settle(&f->r);
        struct span damaged = rig_damaged(&f->r, stood + 2, kinds[i], &memory);
        rig_send(&f->r, RIG_LINK_DC(liar), MSG_BLOCK, damaged);
        free(memory);
        rig_send(&f->r, RIG_LINK_DC(liar), MSG_BLOCK,
                 span_of(f->r.block[stood + 2].bytes, f->r.block[stood + 2].size));
        rig_settle(&f->r);
        assert_int_equal(rig_state(&f->r).height, stood + 1);
        mdms_stats(f->r.m, &stats);
        assert_int_equal(stats.bad_blocks[liar], bad + 1);
        assert_int_equal(stats.source, 1 - liar);
        assert_int_equal(rig_logged(&f->r, "bad_block"), i + 1);
        rig_follow(&f->r);
        check_readings(f, 2 * f->r.block_count);
        rig_advance(&f->r, 70000); /* the liar is forgiven for the next round */
    }
}

/* When all that are left have lied, it waits and then asks them again. */
static void a_single_liar_is_asked_again_later(void **state)
{
    struct fixture *f = *state;
    uint8_t *memory;
    grow(f, 1);
    rig_connect(&f->r, 2);
    struct span damaged = rig_damaged(&f->r, 1, DAMAGE_SIGNATURE, &memory);
    rig_send(&f->r, RIG_LINK_DC(2), MSG_BLOCK, damaged);
    free(memory);
    rig_settle(&f->r);
    (void)rig_take(&f->r, 2, MSG_FETCH_BLOCKS, NULL);
    rig_advance(&f->r, 50000);
    assert_int_equal(rig_take(&f->r, 2, MSG_FETCH_BLOCKS, NULL), 0);
    rig_advance(&f->r, 11000);
    rig_follow(&f->r);
    check_readings(f, 2);
}

static void a_silent_dc_is_left(void **state)
{
    struct fixture *f = *state;
    rig_connect(&f->r, 0);
    rig_connect(&f->r, 3);
    grow(f, 20);
    rig_advance(&f->r, 2500);
    (void)rig_take(&f->r, 0, MSG_FETCH_BLOCKS, NULL); /* dc-1 never answers */
    for (unsigned i = 0; i < 50 && rig_state(&f->r).height < 20; i++) {
        (void)rig_serve(&f->r, 3);
        rig_advance(&f->r, 100);
    }
    check_readings(f, 40);
}

/* A DC that gives true blocks, but slower than the chain grows, does not keep the MDMS behind. */
static void a_dc_that_trickles_has_its_turn_only(void **state)
{
    struct fixture *f = *state;
    rig_connect(&f->r, 0);
    rig_connect(&f->r, 3);
    grow(f, 40);
    for (unsigned i = 0; i < 30; i++) {
        rig_advance(&f->r, 1500);
        if (rig_take(&f->r, 0, MSG_FETCH_BLOCKS, NULL) > 0 && rig_state(&f->r).height < 40) {
            struct rig_block *b = &f->r.block[rig_state(&f->r).height];
            rig_send(&f->r, RIG_LINK_DC(0), MSG_BLOCK, span_of(b->bytes, b->size));
        }
        while (rig_serve(&f->r, 3) > 0)
            rig_advance(&f->r, 100);
    }
    check_readings(f, 80);
}

/* One that goes on sending garbage is named once, not once a frame. */
static void garbage_does_not_fill_the_log(void **state)
{
    struct fixture *f = *state;
    struct mdms_stats stats;
    rig_connect(&f->r, 0);
    rig_connect(&f->r, 3);
    for (unsigned i = 0; i < 100; i++)
        rig_send(&f->r, RIG_LINK_DC(3), MSG_BLOCK, SPAN_LITERAL("no block"));
    mdms_stats(f->r.m, &stats);
    assert_int_equal(stats.bad_blocks[3], 100);
    assert_int_equal(rig_logged(&f->r, "bad_block"), 1);
}

/* A link on which blocks take a second: asking five times meanwhile makes them come five times. It
 * notices and asks less often; on a quick link it comes back to its pace. */
static void a_slow_link_is_not_asked_in_vain(void **state)
{
    struct fixture *f = *state;
    size_t asked = 0;
    rig_connect(&f->r, 0);
    grow(f, 30);
    for (unsigned second = 0; second < 30; second++) {
        rig_advance(&f->r, 1000);
        asked = rig_take(&f->r, 0, MSG_FETCH_BLOCKS, NULL);
        for (size_t i = 0; i < asked && second < 15; i++) { /* one block a second */
            struct rig_block *b = &f->r.block[second];
            rig_send(&f->r, RIG_LINK_DC(0), MSG_BLOCK, span_of(b->bytes, b->size));
        }
        if (second == 14)
            assert_in_range(asked, 0, 2);
    }
    assert_int_equal(rig_state(&f->r).height, 15);
    assert_in_range(asked, 4, 6);
    rig_follow(&f->r);
    check_readings(f, 60);
}

/* A DC that sealed something else than its meter signed is named, once; the reading is not stored,
 * the others of the block are. */
static void a_wrong_seal_names_the_dc(void **state)
{
    struct fixture *f = *state;
    static struct rig_tx txs[3];
    rig_report(&f->r, &txs[0], &f->meter, 1, 0, SEAL_OTHER_REPORT);
    rig_report(&f->r, &txs[1], &f->meter, 2, 1, SEAL_HONEST);
    rig_report(&f->r, &txs[2], &f->meter, 3, 2, SEAL_GARBAGE);
    rig_block(&f->r, txs, 3);
    rig_connect(&f->r, 0);
    rig_follow(&f->r);
    assert_int_equal(rig_count(&f->r, TABLE_REPORTS), 1);
    assert_int_equal(rig_count(&f->r, TABLE_BAD_SEALS), 2);
    assert_int_equal(rig_state(&f->r).bad_seals, 2);
    assert_int_equal(rig_state(&f->r).readings, 1);
    assert_int_equal(rig_logged(&f->r, "bad_seal"), 2);
    static const struct {
        uint64_t sequence;
        const char *dc;
        enum ami_status status;
    } expected[] = {{1, "dc-1", AMI_BAD_PROOF}, {3, "dc-3", AMI_BAD_CRYPTO}};
    for (unsigned i = 0; i < 2; i++) {
        struct span value;
        struct bad_seal_record b;
        assert_true(rig_get(&f->r, TABLE_BAD_SEALS,
                            key_report(&f->meter.name, 1, expected[i].sequence), &value));
        assert_ok(bad_seal_record_parse(&b, value));
        assert_string_equal(b.dc.text, expected[i].dc);
        assert_int_equal(b.status, expected[i].status);
    }
}

/* Power fails before the write, after it, and again and again: position and readings always agree,
 * in the end everything is there once. */
static void power_loss_while_following(void **state)
{
    struct fixture *f = *state;
    struct rig *r = &f->r;
    grow(f, 12);
    for (unsigned i = 0; i < 100 && rig_state(r).height < 12; i++) {
        rig_connect(r, i % RIG_DCS);
        rig_advance(r, 1);
        (void)rig_serve(r, i % RIG_DCS);
        for (unsigned k = 0; k < 1 + i % 3; k++)
            (void)rig_run_job(r);
        if (i % 2 == 1)
            (void)rig_write_applies(r);
        rig_kill(r);
        assert_int_equal(rig_count(r, TABLE_REPORTS), 2 * rig_state(r).height);
        assert_int_equal(rig_state(r).reports, 2 * rig_state(r).height);
        rig_start(r);
        rig_settle(r);
    }
    check_readings(f, 24);
}

static void full_disk_delays_and_loses_nothing(void **state)
{
    struct fixture *f = *state;
    grow(f, 5);
    rig_connect(&f->r, 0);
    rig_advance(&f->r, 1);
    f->r.store_status = AMI_FULL;
    (void)rig_serve(&f->r, 0);
    rig_advance(&f->r, 5000);
    assert_int_equal(rig_state(&f->r).height, 0);
    f->r.store_status = AMI_OK;
    rig_follow(&f->r);
    check_readings(f, 10);
}

/* Somebody else at a DC's address: another name, another chain, another key. */
static void a_false_dc_gets_no_further_than_the_handshake(void **state)
{
    struct fixture *f = *state;
    struct rig *r = &f->r;
    for (unsigned kind = 0; kind < 3; kind++) {
        env_link link = RIG_LINK_DC(0);
        struct span theirs;
        uint8_t own[128], bytes[128], random[SM2_WIDE_BYTES];
        struct link_hello hello = {
            .role = 2, .chain = r->genesis->members.chain, .name = r->dc[0].name, .epoch = 1};
        if (kind == 0)
            hello.name = r->dc[1].name;
        if (kind == 1)
            hello.chain.b[0] ^= 1;
        size_t closed = r->closed_count;
        mdms_on_open(r->m, link, MDMS_PORT_DC, 0);
        assert_int_equal(rig_take(r, 0, MSG_LINK_HELLO, &theirs), 1);
        struct writer w = writer_on(own, sizeof own);
        link_hello_encode(&w, &hello);
        rig_send(r, link, MSG_LINK_HELLO, writer_span(&w));
        if (kind == 2) { /* the right hello, proved by another DC's key */
            const struct span parts[] = {writer_span(&w), theirs};
            memset(random, 9, sizeof random);
            struct link_proof proof = {sign_key_sign(&r->dc[1].sign, LABEL_LINK, parts, 2, random)};
            struct writer p = writer_on(bytes, sizeof bytes);
            link_proof_encode(&p, &proof);
            rig_send(r, link, MSG_LINK_PROOF, writer_span(&p));
        }
        assert_int_equal(r->closed_count, closed + 1);
        assert_int_equal(r->closed[closed], link);
        assert_int_equal(rig_take(r, 0, MSG_LINK_PROOF, NULL), 0);
        struct mdms_stats stats;
        mdms_stats(r->m, &stats);
        assert_int_equal(stats.links_ready, 0);
        mdms_on_closed(r->m, link);
        (void)rig_take(r, 0, MSG_LINK_HELLO, NULL);
    }
    /* One that says nothing is left after a while. */
    size_t closed = r->closed_count;
    mdms_on_open(r->m, RIG_LINK_DC(0), MDMS_PORT_DC, 0);
    rig_advance(r, 11000);
    assert_true(r->closed_count > closed);
}

/* A transaction of the MDMS that this MDMS did not make: said loudly, and its number is not used
 * again. */
static void a_foreign_transaction_is_noticed(void **state)
{
    struct fixture *f = *state;
    struct rig *r = &f->r;
    static struct rig_tx tx;
    uint8_t first[128], random[SM2_WIDE_BYTES];
    struct revoke u = {.number = 9, .role = 1, .device = f->meter.name, .epoch = 1};
    struct writer w = writer_on(first, sizeof first);
    revoke_encode(&w, &u);
    memset(random, 5, sizeof random);
    sm2_signature sig = mdms_tx_sign(&r->keys.net, &r->keys.sign, &r->genesis->members.chain,
                                     TX_REVOKE, writer_span(&w), random);
    struct writer t = writer_on(tx.bytes, sizeof tx.bytes);
    mdms_tx_encode(&t, TX_REVOKE, writer_span(&w), &sig);
    tx.size = t.size;
    rig_block(r, &tx, 1);
    rig_connect(r, 0);
    rig_follow(r);
    assert_int_equal(rig_logged(r, "foreign_transaction"), 1);
    struct device_keys keys;
    rig_enrol(r, &keys, ENROL_METER, "m-2");
    assert_int_equal(rig_state(r).last, 10);
}

/* Back from an old copy of its store it gave a number to another transaction than the ledger has:
 * it does not take the one for the other in silence. */
static void a_number_that_another_transaction_has_is_noticed(void **state)
{
    struct fixture *f = *state;
    struct rig *r = &f->r;
    static struct rig_tx tx;
    struct span mine;
    assert_true(rig_get(r, TABLE_OUTBOX, key_number(1), &mine)); /* the enrolment of m-1 */
    struct device_keys keys;
    rig_enrol(r, &keys, ENROL_METER, "m-2");
    for (uint64_t number = 1; number <= 2; number++) {
        uint8_t first[128], random[SM2_WIDE_BYTES];
        struct revoke u = {.number = number, .role = 1, .device = f->meter.name, .epoch = 1};
        struct writer w = writer_on(first, sizeof first);
        revoke_encode(&w, &u);
        memset(random, 5, sizeof random);
        sm2_signature sig = mdms_tx_sign(&r->keys.net, &r->keys.sign, &r->genesis->members.chain,
                                         TX_REVOKE, writer_span(&w), random);
        struct writer t = writer_on(tx.bytes, sizeof tx.bytes);
        mdms_tx_encode(&t, TX_REVOKE, writer_span(&w), &sig);
        tx.size = t.size;
        if (number == 1) { /* its own, as it is */
            assert_true(rig_get(r, TABLE_OUTBOX, key_number(1), &mine));
            memcpy(tx.bytes, mine.data, mine.size);
            tx.size = mine.size;
        }
        rig_block(r, &tx, 1);
    }
    rig_connect(r, 0);
    rig_follow(r);
    assert_int_equal(rig_logged(r, "number_taken"), 1);
    assert_non_null(strstr(r->log, "number_taken number=2 device=m-2"));
}

/* Evidence on the ledger is somebody's business: it is logged with the DC's name. */
static void evidence_names_the_dc(void **state)
{
    struct fixture *f = *state;
    struct rig *r = &f->r;
    static struct rig_tx tx;
    uint8_t vote[2][256];
    struct evidence e = {.chain = r->genesis->members.chain,
                         .epoch = r->genesis->members.epoch,
                         .accused = 2,
                         .kind = EVIDENCE_VOTES};
    for (unsigned i = 0; i < 2; i++) { /* DCs have looked at the signatures */
        struct vote v = {.kind = VOTE_COMMIT,
                         .chain = e.chain,
                         .epoch = e.epoch,
                         .term = 3,
                         .height = 4,
                         .block = {{(uint8_t)i}},
                         .voter = 2};
        struct writer w = writer_on(vote[i], sizeof vote[i]);
        vote_encode(&w, &v);
        *(i == 0 ? &e.first : &e.second) = writer_span(&w);
    }
    struct writer t = writer_on(tx.bytes, sizeof tx.bytes);
    evidence_tx_encode(&t, &e);
    assert_true(writer_ok(&t));
    tx.size = t.size;
    rig_block(r, &tx, 1);
    rig_connect(r, 0);
    rig_follow(r);
    assert_int_equal(rig_logged(r, "evidence"), 1);
    char expected[128];
    snprintf(expected, sizeof expected, "evidence dc=%s epoch=1 kind=votes",
             r->genesis->members.member[2].name.text);
    assert_non_null(strstr(r->log, expected));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(follows_from_any_dc),
        T(asks_every_poll_while_idle),
        T(unsolicited_and_repeated_blocks_do_no_harm),
        T(blocks_that_take_longer_than_silence_are_taken),
        T(a_late_lie_costs_its_dc_alone),
        T(a_lying_dc_is_passed_over),
        T(a_single_liar_is_asked_again_later),
        T(a_silent_dc_is_left),
        T(a_dc_that_trickles_has_its_turn_only),
        T(garbage_does_not_fill_the_log),
        T(a_slow_link_is_not_asked_in_vain),
        T(a_wrong_seal_names_the_dc),
        T(power_loss_while_following),
        T(full_disk_delays_and_loses_nothing),
        T(a_false_dc_gets_no_further_than_the_handshake),
        T(a_foreign_transaction_is_noticed),
        T(a_number_that_another_transaction_has_is_noticed),
        T(evidence_names_the_dc),
    };
    if (crypto_start() != AMI_OK)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
