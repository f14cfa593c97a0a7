/* Retention as the MDMS sees to it: what was asked for is signed when the ledger will take it and
 * refused otherwise, and a store that comes too late says what it has lost. */
#include "tests/mdms/rig.h"

#include "crypto/secret.h"
#include "ledger/pruned.h"

#include <stdlib.h>
#include <string.h>

struct fixture {
    struct rig r;
    struct device_keys meter;
    uint64_t sequence;
    uint64_t committed; /* numbers of the MDMS that are in blocks */
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    rig_begin(&f->r, SCHEME_DEFAULT);
    rig_genesis(&f->r);
    rig_enrol(&f->r, &f->meter, ENROL_METER, "m-1");
    rig_connect(&f->r, 0);
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

static void ask(struct rig *r, uint64_t request, uint64_t below)
{
    uint8_t bytes[64];
    const struct retention_record q = {.below = below};
    struct writer w = writer_on(bytes, sizeof bytes);
    retention_record_encode(&w, &q);
    rig_put(r, TABLE_RETENTIONS, key_number(request), writer_span(&w));
    rig_advance(r, 1000);
}

static struct retention_record asked(struct rig *r, uint64_t request)
{
    struct retention_record q;
    struct span value;
    assert_true(rig_get(r, TABLE_RETENTIONS, key_number(request), &value));
    assert_ok(retention_record_parse(&q, value));
    return q;
}

static struct retained_record retained(struct rig *r)
{
    struct retained_record q = {0};
    struct span value;
    if (rig_get(r, TABLE_STATE, key_retained(), &value))
        assert_ok(retained_record_parse(&q, value));
    return q;
}

/* Blocks with one report each, the first with everything in the outbox that is in none yet. */
static void grow(struct fixture *f, unsigned blocks)
{
    static struct rig_tx txs[16];
    for (unsigned k = 0; k < blocks; k++) {
        size_t count = 0;
        rig_report(&f->r, &txs[count++], &f->meter, ++f->sequence, k % RIG_DCS, SEAL_HONEST);
        struct span value;
        while (rig_get(&f->r, TABLE_OUTBOX, key_number(f->committed + 1), &value)) {
            assert_true(count < 16 && value.size <= sizeof txs[0].bytes);
            memcpy(txs[count].bytes, value.data, value.size);
            txs[count++].size = value.size;
            f->committed++;
        }
        rig_block(&f->r, txs, count);
    }
    rig_follow(&f->r);
}

static void signed_when_the_ledger_will_take_it(void **state)
{
    struct fixture *f = *state;
    struct rig *r = &f->r;
    struct span value;
    uint64_t below = 0;
    grow(f, 70);
    ask(r, 1, 8); /* a block of height 71 would take 7 */
    assert_int_equal(asked(r, 1).state, CHANGE_REFUSED);
    assert_int_equal(asked(r, 1).status, AMI_SEQUENCE_AHEAD);
    ask(r, 2, 7);
    const struct retention_record q = asked(r, 2);
    assert_int_equal(q.state, CHANGE_SIGNED);
    assert_true(rig_get(r, TABLE_OUTBOX, key_number(q.number), &value));
    assert_ok(retention_check(r->genesis, value, &below));
    assert_int_equal(below, 7);
    /* One at a time, also across a restart; then not the same again, nor less. */
    ask(r, 3, 6);
    assert_int_equal(asked(r, 3).state, CHANGE_WANTED);
    rig_kill(r);
    rig_start(r);
    rig_connect(r, 0);
    rig_advance(r, 1000);
    assert_int_equal(asked(r, 3).state, CHANGE_WANTED);
    assert_int_equal(retained(r).below, 0);
    grow(f, 1);
    rig_advance(r, 1000);
    assert_int_equal(retained(r).below, 7);
    assert_int_equal(asked(r, 3).state, CHANGE_REFUSED);
    assert_int_equal(asked(r, 3).status, AMI_EXISTS);
    ask(r, 4, 8);
    assert_int_equal(asked(r, 4).state, CHANGE_SIGNED);
    grow(f, 1);
    assert_int_equal(retained(r).below, 8);
    assert_int_equal(retained(r).unread, 0);
    assert_int_equal(rig_state(r).reports, 72);
}

/* What the last write does not reach is asked for again: no number is given out twice. */
static void a_crash_before_it_is_stored_signs_nothing(void **state)
{
    struct fixture *f = *state;
    struct rig *r = &f->r;
    grow(f, 70);
    const uint64_t last = rig_state(r).last;
    r->store_status = AMI_FULL;
    ask(r, 1, 5);
    assert_int_equal(asked(r, 1).state, CHANGE_WANTED);
    assert_int_equal(rig_state(r).last, last);
    rig_kill(r);
    r->store_status = AMI_OK;
    rig_start(r);
    rig_connect(r, 0);
    rig_advance(r, 1000);
    assert_int_equal(asked(r, 1).state, CHANGE_SIGNED);
    assert_int_equal(asked(r, 1).number, last + 1);
}

static void show(struct rig *r, unsigned dc, uint64_t below, bool forged)
{
    uint8_t first[16], random[SM2_WIDE_BYTES] = {7}, tx[RETENTION_TX_BYTES];
    const struct retention x = {.number = 99, .below = below};
    struct writer w = writer_on(first, sizeof first);
    retention_encode(&w, &x);
    sm2_signature s = mdms_tx_sign(&r->keys.net, &r->keys.sign, &r->genesis->members.chain,
                                   TX_RETENTION, writer_span(&w), random);
    s.b[5] ^= forged;
    struct writer out = writer_on(tx, sizeof tx);
    mdms_tx_encode(&out, TX_RETENTION, writer_span(&w), &s);
    assert_true(writer_ok(&out));
    rig_send(r, RIG_LINK_DC(dc), MSG_RETENTION, writer_span(&out));
    rig_settle(r);
}

/* What we know already costs nothing, and who shows what we never signed is asked for nothing. */
static void a_flood_of_retentions_is_not_verified(void **state)
{
    struct fixture *f = *state;
    struct rig *r = &f->r;
    grow(f, 1);
    show(r, 0, 9, false);
    show(r, 0, 9, true); /* had it been verified, it would have been refused */
    show(r, 0, 8, true);
    assert_int_equal(rig_logged(r, "retention_refused"), 0);
    assert_int_equal(r->closed_count, 0);
    show(r, 0, 10, true);
    assert_int_equal(rig_logged(r, "retention_refused"), 1);
    assert_int_equal(r->closed_count, 1);
    assert_int_equal(r->closed[0], RIG_LINK_DC(0));
    rig_disconnect(r, 0);
    /* Back at once, it is passed over for a while. */
    rig_connect(r, 0);
    (void)rig_take(r, 0, MSG_FETCH_BLOCKS, NULL);
    rig_advance(r, 1000);
    assert_int_equal(rig_take(r, 0, MSG_FETCH_BLOCKS, NULL), 0);
    rig_connect(r, 1);
    rig_advance(r, 1000);
    assert_int_not_equal(rig_take(r, 1, MSG_FETCH_BLOCKS, NULL), 0);
}

/* A store that was lost, or is an old copy, follows the pruned ledger and says what is missing; and
 * it takes pruned blocks below its own watermark only. */
static void an_old_copy_says_what_it_never_had(void **state)
{
    struct fixture *f = *state;
    struct rig *r = &f->r;
    grow(f, 4);
    rig_disconnect(r, 0);
    static struct rig_tx tx;
    for (unsigned i = 0; i < 8; i++) {
        rig_report(r, &tx, &f->meter, ++f->sequence, 0, SEAL_HONEST);
        rig_block(r, &tx, 1);
    }
    for (uint64_t h = 1; h <= 8; h++)
        rig_prune(r, h);
    /* Without the MDMS's word, and with a forged one, who serves this lies. */
    rig_connect(r, 1);
    rig_advance(r, 10);
    rig_serve(r, 1);
    rig_settle(r);
    assert_int_equal(rig_logged(r, "bad_block"), 1);
    rig_connect(r, 2);
    rig_advance(r, 10);
    rig_serve(r, 2);
    show(r, 2, 9, true);
    rig_settle(r);
    assert_int_equal(rig_logged(r, "bad_block"), 2);
    assert_int_equal(rig_logged(r, "retention_refused"), 1);
    assert_int_equal(rig_state(r).height, 4);
    /* With it the ledger is followed: what can be read, and what cannot. */
    rig_connect(r, 3);
    rig_advance(r, 10);
    show(r, 3, 9, false);
    rig_follow(r);
    assert_int_equal(rig_logged(r, "pruned_blocks"), 1);
    assert_int_equal(rig_state(r).reports, 4 + 4);
    assert_int_equal(retained(r).unread, 4);
    assert_int_equal(retained(r).unread_to, 8);
    assert_int_equal(rig_state(r).bad_seals, 0);
    assert_int_equal(rig_count(r, TABLE_REPORTS), 8);
}

#define AWAY 40

/* The other form of all blocks is served from now on. */
static void swap_forms(struct rig *r, struct rig_block *other)
{
    for (unsigned i = 0; i < AWAY; i++) {
        const struct rig_block b = r->block[i];
        r->block[i] = other[i];
        other[i] = b;
    }
}

/* A ledger whose blocks this MDMS does not have; `other` receives their pruned forms. */
static void grow_unseen(struct fixture *f, struct rig_block *other)
{
    struct rig *r = &f->r;
    static struct rig_tx tx;
    rig_disconnect(r, 0);
    for (unsigned i = 0; i < AWAY; i++) {
        rig_report(r, &tx, &f->meter, ++f->sequence, 0, SEAL_HONEST);
        rig_block(r, &tx, 1);
        other[i] = r->block[i];
        other[i].bytes = malloc(other[i].size);
        assert_non_null(other[i].bytes);
        memcpy(other[i].bytes, r->block[i].bytes, other[i].size);
        rig_prune(r, i + 1);
    }
    swap_forms(r, other);
}

static void free_forms(struct rig_block *other)
{
    for (unsigned i = 0; i < AWAY; i++)
        free(other[i].bytes);
}

/* Until all is stored: the DCs from 0 to `liars` serve pruned blocks, or nothing with `mute`, those
 * from there to `all` whole ones. */
static void follow_among(struct rig *r, struct rig_block *pruned, unsigned liars, unsigned all,
                         bool mute)
{
    for (unsigned i = 0; i < 4000 && rig_state(r).height != r->block_count; i++) {
        if (!mute) {
            swap_forms(r, pruned);
            for (unsigned dc = 0; dc < liars; dc++)
                (void)rig_serve(r, dc);
            swap_forms(r, pruned);
        }
        for (unsigned dc = liars; dc < all; dc++)
            (void)rig_serve(r, dc);
        rig_settle(r);
        rig_advance(r, 10);
    }
    assert_int_equal(rig_state(r).height, r->block_count);
}

/* Those that prune too early, within what the MDMS has allowed, do not make it lose what one DC
 * still holds. */
static void one_that_has_it_whole_is_enough(void **state)
{
    struct fixture *f = *state;
    struct rig *r = &f->r;
    struct rig_block pruned[AWAY];
    grow_unseen(f, pruned);
    rig_connect(r, 0); /* one of the liars is the first to answer */
    show(r, 0, 1000, false);
    swap_forms(r, pruned);
    for (unsigned i = 0; i < 5; i++) {
        rig_advance(r, 10);
        assert_true(i > 0 || rig_serve(r, 0) > 0);
        rig_settle(r);
    }
    swap_forms(r, pruned);
    assert_int_equal(rig_state(r).height, 0);
    for (unsigned dc = 1; dc < RIG_DCS; dc++)
        rig_connect(r, dc);
    follow_among(r, pruned, RIG_DCS - 1, RIG_DCS, false);
    assert_int_equal(retained(r).unread, 0);
    assert_int_equal(rig_state(r).reports, AWAY);
    assert_int_equal(rig_logged(r, "bad_block"), 0);
    free_forms(pruned);
}

/* What nobody has whole is taken as it is, however little some of them say. */
static void what_all_have_pruned_is_taken(void **state)
{
    struct fixture *f = *state;
    struct rig *r = &f->r;
    struct rig_block other[AWAY];
    grow_unseen(f, other);
    for (unsigned dc = 0; dc < RIG_DCS; dc++)
        rig_connect(r, dc);
    show(r, 0, 1000, false);
    swap_forms(r, other);
    follow_among(r, other, 1, RIG_DCS, true);
    assert_int_equal(retained(r).unread, AWAY);
    assert_int_equal(rig_state(r).reports, 0);
    free_forms(other);
}

static void not_a_block_further(void **state)
{
    struct fixture *f = *state;
    struct rig *r = &f->r;
    static struct rig_tx tx;
    show(r, 0, 3, false);
    for (unsigned i = 0; i < 3; i++) {
        rig_report(r, &tx, &f->meter, ++f->sequence, 0, SEAL_HONEST);
        rig_block(r, &tx, 1);
        rig_prune(r, i + 1);
        if (i < 2)
            rig_follow(r);
    }
    rig_advance(r, 1000);
    rig_serve(r, 0);
    rig_settle(r);
    assert_int_equal(rig_logged(r, "bad_block"), 1);
    assert_int_equal(rig_state(r).height, 2);
    assert_int_equal(retained(r).unread, 2);
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(signed_when_the_ledger_will_take_it, setup, teardown),
        cmocka_unit_test_setup_teardown(a_crash_before_it_is_stored_signs_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_flood_of_retentions_is_not_verified, setup, teardown),
        cmocka_unit_test_setup_teardown(an_old_copy_says_what_it_never_had, setup, teardown),
        cmocka_unit_test_setup_teardown(one_that_has_it_whole_is_enough, setup, teardown),
        cmocka_unit_test_setup_teardown(what_all_have_pruned_is_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(not_a_block_further, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
