/* Membership (consensus rule 13) as the MDMS sees to it: changes that were asked for are judged by
 * the ledger's rules and signed one at a time, the ledger is followed from one epoch into the next,
 * and the links are those of the members. */
#include "tests/mdms/rig.h"

#include "crypto/secret.h"

#include <stdio.h>
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

static void ask(struct rig *r, uint64_t request, enum member_change change, const char *dc,
                uint32_t delay)
{
    uint8_t bytes[MDMS_CHANGE_BYTES_MAX];
    struct change_record c = {.change = (uint8_t)change, .delay = delay};
    assert_ok(ami_id_from_text(&c.dc, dc));
    if (change == MEMBER_JOIN) {
        c.peer = SPAN_LITERAL("tcp://127.0.0.1:7901");
        c.meter = SPAN_LITERAL("tcp://127.0.0.1:7902");
        c.admin = SPAN_LITERAL("tcp://127.0.0.1:7903");
    }
    struct writer w = writer_on(bytes, sizeof bytes);
    change_record_encode(&w, &c);
    rig_put(r, TABLE_CHANGES, key_number(request), writer_span(&w));
    rig_advance(r, 1000);
}

static struct change_record change_of(struct rig *r, uint64_t request)
{
    struct change_record c;
    struct span value;
    assert_true(rig_get(r, TABLE_CHANGES, key_number(request), &value));
    assert_ok(change_record_parse(&c, value));
    return c;
}

static void assert_refused(struct rig *r, uint64_t request, enum ami_status status)
{
    struct change_record c = change_of(r, request);
    assert_int_equal(c.state, CHANGE_REFUSED);
    assert_int_equal(c.status, status);
}

/* A block with one report, and everything in the outbox that is in none yet. */
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
}

static void check(struct fixture *f)
{
    assert_int_equal(rig_count(&f->r, TABLE_REPORTS), f->sequence);
    assert_int_equal(rig_state(&f->r).reports, f->sequence);
    assert_int_equal(rig_logged(&f->r, "bad_block"), 0);
}

static void followed_from_one_epoch_into_the_next(void **state)
{
    struct fixture *f = *state;
    struct rig *r = &f->r;
    struct span value;
    struct tx_view tx;
    rig_connect(r, 0);
    rig_enrol(r, &r->dc[4], ENROL_DC, "dc-5");
    ask(r, 1, MEMBER_JOIN, "dc-5", 3);
    struct change_record c = change_of(r, 1);
    assert_int_equal(c.state, CHANGE_SIGNED);
    assert_int_equal(c.key_epoch, 1);
    assert_true(rig_get(r, TABLE_OUTBOX, key_number(c.number), &value));
    assert_ok(tx_view_parse(&tx, value));
    assert_int_equal(tx.tx.kind, TX_MEMBERSHIP);
    assert_ok(mdms_tx_check(&r->keys.net, &r->genesis->members.chain, TX_MEMBERSHIP, tx.tx.first,
                            &tx.mdms.signature));
    assert_int_equal(tx.u.membership.epoch, 2);
    assert_int_equal(tx.u.membership.delay, 3);
    assert_true(span_equal(tx.u.membership.entry.peer, SPAN_LITERAL("tcp://127.0.0.1:7901")));
    grow(f, 2); /* the change is in block 1: epoch 2 begins at 4 */
    rig_follow(r);
    assert_int_equal(rig_count(r, TABLE_EPOCHS), 1);
    grow(f, 40); /* all at once, across the boundary */
    assert_int_equal(r->committee.members.epoch, 2);
    rig_follow(r);
    check(f);
    /* The new member is dialled, and may be followed. */
    rig_disconnect(r, 0);
    rig_connect(r, 4);
    grow(f, 5);
    rig_follow(r);
    check(f);
    assert_int_equal(change_of(r, 1).state, CHANGE_SIGNED);
}

static void a_restart_at_any_block(void **state)
{
    struct fixture *f = *state;
    struct rig *r = &f->r;
    rig_enrol(r, &r->dc[4], ENROL_DC, "dc-5");
    ask(r, 1, MEMBER_JOIN, "dc-5", 2);
    grow(f, 1);
    for (unsigned i = 0; i < 6; i++) {
        rig_connect(r, i % RIG_DCS);
        rig_follow(r);
        check(f);
        rig_kill(r);
        rig_start(r);
        grow(f, 1);
    }
    rig_connect(r, 4);
    rig_follow(r);
    check(f);
    assert_int_equal(r->committee.members.count, 5);
}

static void one_change_at_a_time(void **state)
{
    struct fixture *f = *state;
    struct rig *r = &f->r;
    rig_connect(r, 0);
    rig_enrol(r, &r->dc[4], ENROL_DC, "dc-5");
    rig_enrol(r, &r->dc[5], ENROL_DC, "dc-6");
    ask(r, 1, MEMBER_JOIN, "dc-5", 4);
    ask(r, 2, MEMBER_LEAVE, "dc-1", 2);
    assert_int_equal(change_of(r, 1).state, CHANGE_SIGNED);
    assert_int_equal(change_of(r, 2).state, CHANGE_WANTED);
    rig_kill(r); /* and it still knows afterwards */
    rig_start(r);
    rig_connect(r, 0);
    rig_advance(r, 1000);
    assert_int_equal(change_of(r, 2).state, CHANGE_WANTED);
    grow(f, 4); /* in block 1; epoch 2 begins at 5: block 4 is the last before it */
    rig_follow(r);
    rig_advance(r, 1000);
    assert_int_equal(change_of(r, 2).state, CHANGE_SIGNED);
    grow(f, 6);
    rig_follow(r);
    check(f);
    assert_int_equal(r->committee.members.epoch, 3);
    assert_int_equal(r->committee.members.count, 4);
    /* dc-1 left: its link is no member's any more and it is not dialled again. */
    rig_disconnect(r, 0);
    mdms_on_open(r->m, RIG_LINK_DC(0), MDMS_PORT_DC, 0);
    assert_int_equal(rig_take(r, 0, MSG_LINK_HELLO, NULL), 0);
    rig_connect(r, 1);
    grow(f, 1);
    rig_follow(r);
    check(f);
}

static void what_the_ledger_would_refuse_is_not_signed(void **state)
{
    struct fixture *f = *state;
    struct rig *r = &f->r;
    uint8_t bytes[128];
    rig_connect(r, 0);
    size_t signed_before = rig_count(r, TABLE_OUTBOX);
    ask(r, 1, MEMBER_JOIN, "nobody", 2);
    assert_refused(r, 1, AMI_UNKNOWN_DEVICE);
    ask(r, 2, MEMBER_JOIN, "dc-2", 2);
    assert_refused(r, 2, AMI_EXISTS);
    ask(r, 3, MEMBER_LEAVE, "dc-2", 2);
    assert_refused(r, 3, AMI_NO_QUORUM);
    ask(r, 4, MEMBER_LEAVE, "nobody", 2);
    assert_refused(r, 4, AMI_NOT_FOUND);
    ask(r, 5, MEMBER_ROTATE, "dc-2", 2);
    assert_refused(r, 5, AMI_WRONG_EPOCH); /* it has no newer key */
    ask(r, 6, MEMBER_ROTATE, "nobody", 2);
    assert_refused(r, 6, AMI_NOT_FOUND);
    assert_int_equal(rig_count(r, TABLE_OUTBOX), signed_before);
    rig_enrol(r, &r->dc[4], ENROL_DC, "dc-5");
    struct revocation_record v = {
        .role = DEVICE_DC, .device = r->dc[4].name, .epoch = 1, .reason = 1};
    struct writer w = writer_on(bytes, sizeof bytes);
    revocation_record_encode(&w, &v);
    rig_put(r, TABLE_REQUESTS, key_number(1), writer_span(&w));
    rig_advance(r, 1000);
    ask(r, 7, MEMBER_JOIN, "dc-5", 2);
    assert_refused(r, 7, AMI_REVOKED);
    /* Another member's address is taken. */
    rig_enrol(r, &r->dc[5], ENROL_DC, "dc-6");
    struct change_record c = {.change = MEMBER_JOIN,
                              .delay = 2,
                              .dc = r->dc[5].name,
                              .peer = SPAN_LITERAL("tcp://127.0.0.1:7101"),
                              .meter = SPAN_LITERAL("tcp://127.0.0.1:7902"),
                              .admin = SPAN_LITERAL("tcp://127.0.0.1:7903")};
    uint8_t change[MDMS_CHANGE_BYTES_MAX];
    w = writer_on(change, sizeof change);
    change_record_encode(&w, &c);
    rig_put(r, TABLE_CHANGES, key_number(8), writer_span(&w));
    rig_advance(r, 1000);
    assert_refused(r, 8, AMI_IN_USE);
    ask(r, 9, MEMBER_JOIN, "dc-6", 2);
    assert_int_equal(change_of(r, 9).state, CHANGE_SIGNED);
}

/* A key is revoked and asked to join at the same moment: the ledger would refuse the change behind
 * the revocation, and no later number could ever be committed. */
static void a_key_that_is_just_revoked_does_not_join(void **state)
{
    struct fixture *f = *state;
    struct rig *r = &f->r;
    uint8_t bytes[128];
    rig_connect(r, 0);
    rig_enrol(r, &r->dc[4], ENROL_DC, "dc-5");
    struct revocation_record v = {
        .role = DEVICE_DC, .device = r->dc[4].name, .epoch = 1, .reason = 1};
    struct writer w = writer_on(bytes, sizeof bytes);
    revocation_record_encode(&w, &v);
    rig_put(r, TABLE_REQUESTS, key_number(1), writer_span(&w));
    ask(r, 1, MEMBER_JOIN, "dc-5", 2);
    rig_advance(r, 1000);
    assert_int_equal(rig_count(r, TABLE_REVOCATIONS), 1);
    assert_refused(r, 1, AMI_REVOKED);
}

/* A first member enrols again after the genesis file was made and before the MDMS runs with it.
 * That key is neither in the file nor, by itself, on the ledger: without it the member could never
 * rotate, and the ledger would refuse its next enrolment, and with that every later number. */
static void a_key_made_before_the_store_is_bound_is_put_on_the_ledger(void **state)
{
    (void)state;
    struct rig *r = calloc(1, sizeof *r);
    struct device_keys keys;
    struct span value;
    struct tx_view tx;
    assert_non_null(r);
    rig_begin(r, SCHEME_DEFAULT);
    rig_genesis_made(r);
    struct genesis *g = r->genesis;
    r->genesis = NULL;
    rig_start(r);
    rig_enrol_epoch(r, &keys, ENROL_DC, "dc-1", 2);
    rig_kill(r);
    r->genesis = g;
    rig_start(r);
    rig_settle(r);
    rig_connect(r, 1);
    assert_int_equal(rig_count(r, TABLE_OUTBOX), 1);
    assert_true(rig_get(r, TABLE_OUTBOX, key_number(1), &value));
    assert_ok(tx_view_parse(&tx, value));
    assert_int_equal(tx.tx.kind, TX_DC_ENROL);
    assert_string_equal(tx.u.dc_enrol.dc.text, "dc-1");
    assert_int_equal(tx.u.dc_enrol.epoch, 2);
    ask(r, 1, MEMBER_ROTATE, "dc-1", 2);
    assert_int_equal(change_of(r, 1).state, CHANGE_SIGNED);
    rig_end(r);
    free(r);
}

static uint8_t *duplicate(const uint8_t *bytes, size_t size)
{
    uint8_t *out = malloc(size + 1);
    assert_non_null(out);
    memcpy(out, bytes, size);
    return out;
}

/* The store's records, as a backup would have them. */
static struct rig_record *backup(const struct rig *r)
{
    struct rig_record *out = calloc(r->record_count, sizeof *out);
    assert_non_null(out);
    for (size_t i = 0; i < r->record_count; i++) {
        out[i] = r->record[i];
        out[i].key = duplicate(out[i].key, out[i].key_size);
        out[i].value = duplicate(out[i].value, out[i].value_size);
    }
    return out;
}

static void restore(struct rig *r, struct rig_record *from, size_t count)
{
    for (size_t i = 0; i < r->record_count; i++) {
        free(r->record[i].key);
        free(r->record[i].value);
    }
    memcpy(r->record, from, count * sizeof *from);
    r->record_count = count;
    free(from);
}

/* Every member has another key than the last one that this store knows, and it could learn of the
 * new ones only through links with the members. */
static void a_restored_store_follows_members_whose_keys_are_all_new(void **state)
{
    struct fixture *f = *state;
    struct rig *r = &f->r;
    struct device_keys rotated[RIG_DCS];
    struct span value;
    const size_t count = r->record_count;
    struct rig_record *old = backup(r);
    for (unsigned i = 0; i < RIG_DCS; i++)
        rig_connect(r, i);
    for (unsigned i = 0; i < RIG_DCS; i++) {
        char name[16];
        snprintf(name, sizeof name, "dc-%u", i + 1);
        rig_enrol_epoch(r, &rotated[i], ENROL_DC, name, 2);
        ask(r, i + 1, MEMBER_ROTATE, name, 2);
        grow(f, 2);
        assert_int_equal(r->committee.members.epoch, i + 2);
        r->dc[i] = rotated[i];
        grow(f, 1);
        rig_follow(r);
        rig_advance(r, 1000);
    }
    check(f);
    rig_kill(r);
    restore(r, old, count);
    rig_start(r);
    rig_settle(r);
    assert_int_equal(rig_state(r).height, 0);
    for (unsigned i = 0; i < RIG_DCS; i++)
        rig_connect(r, i);
    /* Who may be somebody else is handed nothing, and relays nothing. */
    rig_advance(r, 1000);
    for (unsigned i = 0; i < RIG_DCS; i++)
        assert_int_equal(rig_take(r, i, MSG_TX_SUBMIT, NULL), 0);
    assert_true(rig_get(r, TABLE_OUTBOX, key_number(1), &value));
    for (unsigned k = 0; k < 1000 && rig_state(r).height < r->block_count; k++) {
        rig_settle(r);
        for (unsigned i = 0; i < RIG_DCS; i++)
            (void)rig_serve(r, i);
        while (r->closed_count > 0) { /* dialled again, to prove the key that is known now */
            const unsigned dc = (unsigned)(r->closed[--r->closed_count] - RIG_LINK_DC(0));
            rig_disconnect(r, dc);
            rig_connect(r, dc);
        }
        rig_advance(r, 10);
    }
    assert_int_equal(rig_state(r).height, r->block_count);
    check(f);
    for (unsigned i = 0; i < RIG_DCS; i++)
        assert_true(r->committee.members.member[i].key_epoch == 2);
    grow(f, 2);
    rig_follow(r);
    check(f);
}

/* A block of the new epoch that the old one certified proves nothing. */
static void the_old_committee_certifies_nothing_new(void **state)
{
    struct fixture *f = *state;
    struct rig *r = &f->r;
    static struct rig_tx tx;
    rig_connect(r, 0);
    rig_connect(r, 1);
    rig_enrol(r, &r->dc[4], ENROL_DC, "dc-5");
    ask(r, 1, MEMBER_JOIN, "dc-5", 2);
    grow(f, 1);
    const struct committee old = r->committee;
    grow(f, 1);
    rig_follow(r);
    assert_int_equal(r->committee.members.epoch, 2);
    const struct committee now = r->committee;
    for (unsigned k = 0; k < 2; k++) {
        /* Header and votes of the old epoch, then the new header with the old votes' members. */
        r->committee = old;
        if (k == 1)
            r->committee.members.epoch = now.members.epoch;
        r->committee.members.hash = k == 1 ? now.members.hash : old.members.hash;
        rig_report(r, &tx, &f->meter, f->sequence + 1, 0, SEAL_HONEST);
        rig_block(r, &tx, 1);
        struct rig_block *b = &r->block[r->block_count - 1];
        unsigned bad = rig_logged(r, "bad_block");
        for (unsigned i = 0; i < 200 && rig_logged(r, "bad_block") == bad; i++) {
            rig_settle(r);
            for (unsigned dc = 0; dc < 2; dc++)
                (void)rig_serve(r, dc);
            rig_advance(r, 20);
        }
        assert_true(rig_logged(r, "bad_block") > bad);
        assert_int_equal(rig_state(r).height, r->block_count - 1);
        free(b->bytes);
        r->block_count--;
        rig_advance(r, 61000); /* until they are asked again */
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(followed_from_one_epoch_into_the_next),
        TEST(a_restart_at_any_block),
        TEST(one_change_at_a_time),
        TEST(what_the_ledger_would_refuse_is_not_signed),
        TEST(a_key_that_is_just_revoked_does_not_join),
        cmocka_unit_test(a_key_made_before_the_store_is_bound_is_put_on_the_ledger),
        TEST(a_restored_store_follows_members_whose_keys_are_all_new),
        TEST(the_old_committee_certifies_nothing_new),
    };
    assert_ok(crypto_start());
    return cmocka_run_group_tests(tests, NULL, NULL);
}
