/* Consensus rule 13 in the ledger: when a membership transaction is admissible, which list votes at
 * which height, and that a registry and a committee (for those who keep no registry) agree on it.
 */
#include "tests/harness.h"

#include "ledger/committee.h"
#include "tests/ledger/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct fixture *f;
static struct fixture_body *body;
static struct committee committee;
static struct fixture_device dc5, dc6; /* enrolled in block 1 */

static void assert_digest(sm3_digest a, sm3_digest b)
{
    assert_memory_equal(&a, &b, sizeof a);
}

static void commit_body(void)
{
    fixture_block_free(fixture_commit(f, body, 1));
    fixture_clear(body);
}

static void begin_with(unsigned n)
{
    f = fixture_new(n, 77);
    body = fixture_body();
    committee_first(&committee, &f->genesis);
    dc5 = fixture_device(f, ROLE_DC_SIGN, fixture_id("dc-5x"), 1);
    dc6 = fixture_device(f, ROLE_DC_SIGN, fixture_id("dc-6x"), 1);
    fixture_dc_enrol(f, body, &dc5);
    fixture_dc_enrol(f, body, &dc6);
    commit_body();
}

static int start(void **state)
{
    (void)state;
    begin_with(4);
    return 0;
}

static int start_5(void **state)
{
    (void)state;
    begin_with(5);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    fixture_free(f);
    free(body);
    return 0;
}

static const struct members *at(uint64_t height)
{
    const struct members *m = registry_members(f->registry, height);
    assert_non_null(m);
    return m;
}

/* Would the last transaction of `body` stand at the start of the next block? */
static enum ami_status judge(void)
{
    struct tx_view tx;
    assert_ok(tx_view_parse(&tx, fixture_last(body)));
    registry_stage_begin(f->registry, f->tip.height + 1);
    enum ami_status status = registry_stage_tx(f->registry, &tx);
    registry_stage_drop(f->registry);
    return status;
}

static enum ami_status judge_change(enum member_change change, const struct fixture_device *d)
{
    fixture_clear(body);
    fixture_membership(f, body, change, d, 3);
    f->mdms_number--;
    enum ami_status status = judge();
    fixture_clear(body);
    return status;
}

/* Commits a change alone in a block and applies it to the committee. Returns the new epoch's first
 * height. */
static uint64_t change(enum member_change what, const struct fixture_device *d, uint32_t delay)
{
    struct tx_view tx;
    fixture_clear(body);
    fixture_membership(f, body, what, d, delay);
    assert_ok(judge());
    assert_ok(tx_view_parse(&tx, fixture_last(body)));
    assert_ok(
        committee_change(&committee, &f->genesis.network, &tx.u.membership, f->tip.height + 1));
    commit_body();
    return f->tip.height + delay;
}

static void empty_blocks_to(uint64_t height)
{
    fixture_clear(body);
    while (f->tip.height < height)
        commit_body();
}

static void names(uint64_t height, uint32_t epoch, const char *expected)
{
    char text[AMI_MEMBERS_MAX * 40] = "";
    const struct members *m = at(height);
    for (uint8_t i = 0; i < m->count; i++) {
        size_t size = strlen(text);
        snprintf(text + size, sizeof text - size, "%s%s:%u", i == 0 ? "" : " ",
                 m->member[i].name.text, (unsigned)m->member[i].key_epoch);
    }
    assert_string_equal(text, expected);
    assert_int_equal(m->epoch, epoch);
    sm3_digest hash = members_hash(m);
    assert_digest(m->hash, hash);
}

static void same_as_committee(uint64_t height)
{
    const struct members *m = at(height);
    assert_int_equal(m->epoch, committee.members.epoch);
    assert_digest(m->hash, committee.members.hash);
    for (uint8_t i = 0; i < m->count; i++) {
        const struct member *a = &m->member[i], *b = &committee.members.member[i];
        assert_memory_equal(a->agree_part, b->agree_part, sizeof a->agree_part);
        assert_int_equal(a->agree_part_size, b->agree_part_size);
        assert_true(point_equal(&a->key.p, &b->key.p));
    }
}

static void the_first_epoch_is_the_genesis_file_s(void **state)
{
    (void)state;
    names(1, 1, "dc-1:1 dc-2:1 dc-3:1 dc-4:1");
    names(1000000, 1, "dc-1:1 dc-2:1 dc-3:1 dc-4:1");
    assert_digest(at(1)->hash, f->genesis.members.hash);
    assert_int_equal(registry_next_epoch(f->registry, 1), 0);
    same_as_committee(1);
}

static void a_join_counts_from_its_height_on(void **state)
{
    (void)state;
    uint64_t from = change(MEMBER_JOIN, &dc5, 4);
    assert_int_equal(from, 6); /* in block 2 */
    assert_int_equal(registry_next_epoch(f->registry, 2), 6);
    assert_int_equal(registry_next_epoch(f->registry, 5), 6);
    assert_int_equal(registry_next_epoch(f->registry, 6), 0);
    names(5, 1, "dc-1:1 dc-2:1 dc-3:1 dc-4:1");
    names(6, 2, "dc-1:1 dc-2:1 dc-3:1 dc-4:1 dc-5x:1");
    assert_int_equal(committee.from, 6);
    same_as_committee(6);
    assert_string_equal(committee.address[4].peer, "tcp://127.0.0.1:7511");
    empty_blocks_to(6);
    names(6, 2, "dc-1:1 dc-2:1 dc-3:1 dc-4:1 dc-5x:1");
    names(2, 1, "dc-1:1 dc-2:1 dc-3:1 dc-4:1");
}

static void a_leave_and_a_rotation(void **state)
{
    (void)state;
    uint64_t from = change(MEMBER_LEAVE, &f->dc[1], 2);
    empty_blocks_to(from - 1);
    names(from - 1, 1, "dc-1:1 dc-2:1 dc-3:1 dc-4:1 dc-5:1");
    names(from, 2, "dc-1:1 dc-3:1 dc-4:1 dc-5:1");
    same_as_committee(from);
    struct fixture_device next = fixture_device(f, ROLE_DC_SIGN, f->dc[0].name, 2);
    fixture_dc_enrol(f, body, &next);
    commit_body();
    uint64_t second = change(MEMBER_ROTATE, &next, MEMBERSHIP_DELAY_MAX);
    names(second - 1, 2, "dc-1:1 dc-3:1 dc-4:1 dc-5:1");
    names(second, 3, "dc-3:1 dc-4:1 dc-5:1 dc-1:2");
    same_as_committee(second);
    /* Any height of the past can still be asked for. */
    names(1, 1, "dc-1:1 dc-2:1 dc-3:1 dc-4:1 dc-5:1");
    names(from, 2, "dc-1:1 dc-3:1 dc-4:1 dc-5:1");
}

static void order_is_that_of_joining(void **state)
{
    (void)state;
    uint64_t from = change(MEMBER_JOIN, &dc6, 2); /* enrolled after dc-5x */
    empty_blocks_to(from);
    from = change(MEMBER_JOIN, &dc5, 2);
    names(from, 3, "dc-1:1 dc-2:1 dc-3:1 dc-4:1 dc-6x:1 dc-5x:1");
    same_as_committee(from);
}

static void one_change_at_a_time(void **state)
{
    (void)state;
    uint64_t from = change(MEMBER_JOIN, &dc5, 5);
    fixture_membership(f, body, MEMBER_JOIN, &dc6, 2);
    struct tx_view tx;
    assert_ok(tx_view_parse(&tx, fixture_last(body)));
    while (f->tip.height + 1 < from) {
        assert_status(judge(), AMI_SEQUENCE_AHEAD);
        assert_ok(registry_admits(f->registry, &tx)); /* it may wait in a pool */
        struct fixture_body *nothing = fixture_body();
        fixture_block_free(fixture_commit(f, nothing, 1));
        free(nothing);
    }
    /* The block that begins the epoch may hold the next change, made for the epoch after it. */
    assert_status(judge(), AMI_WRONG_EPOCH);
    f->mdms_number--;
    fixture_clear(body);
    assert_int_equal(change(MEMBER_JOIN, &dc6, 2), from + 2);
    names(from + 2, 3, "dc-1:1 dc-2:1 dc-3:1 dc-4:1 dc-5x:1 dc-6x:1");
}

static void two_changes_in_one_block(void **state)
{
    (void)state;
    struct tx_view tx;
    registry_stage_begin(f->registry, 2);
    fixture_membership(f, body, MEMBER_JOIN, &dc5, 2);
    assert_ok(tx_view_parse(&tx, fixture_last(body)));
    assert_ok(registry_stage_tx(f->registry, &tx));
    sm3_digest root = registry_stage_root(f->registry), before = registry_root(f->registry);
    assert_memory_not_equal(&root, &before, sizeof root);
    fixture_membership(f, body, MEMBER_JOIN, &dc6, 2);
    assert_ok(tx_view_parse(&tx, fixture_last(body)));
    assert_status(registry_stage_tx(f->registry, &tx), AMI_SEQUENCE_AHEAD);
    assert_digest(registry_stage_root(f->registry), root);
    registry_stage_drop(f->registry);
    names(9, 1, "dc-1:1 dc-2:1 dc-3:1 dc-4:1");
}

static void enrolled_and_joined_in_one_block(void **state)
{
    (void)state;
    struct fixture_device late = fixture_device(f, ROLE_DC_SIGN, fixture_id("dc-late"), 1);
    fixture_dc_enrol(f, body, &late);
    fixture_membership(f, body, MEMBER_JOIN, &late, 2);
    commit_body();
    names(4, 2, "dc-1:1 dc-2:1 dc-3:1 dc-4:1 dc-late:1");
}

static void who_may_join(void **state)
{
    (void)state;
    struct fixture_device stranger = fixture_device(f, ROLE_DC_SIGN, fixture_id("dc-9"), 1);
    assert_status(judge_change(MEMBER_JOIN, &stranger), AMI_UNKNOWN_DEVICE);
    assert_status(judge_change(MEMBER_JOIN, &f->dc[2]), AMI_EXISTS);
    struct fixture_device other = dc5;
    other.w = dc6.w;
    assert_status(judge_change(MEMBER_JOIN, &other), AMI_FOREIGN_KEY);
    other = dc5;
    other.agree_part[3] ^= 1;
    assert_status(judge_change(MEMBER_JOIN, &other), AMI_FOREIGN_KEY);
    other = dc5;
    other.epoch = 2;
    assert_status(judge_change(MEMBER_JOIN, &other), AMI_UNKNOWN_DEVICE);
    assert_ok(judge_change(MEMBER_JOIN, &dc5));
    fixture_revoke(f, body, 2, &dc5.name, 1);
    commit_body();
    assert_status(judge_change(MEMBER_JOIN, &dc5), AMI_REVOKED);
}

static void who_may_leave(void **state)
{
    (void)state;
    assert_status(judge_change(MEMBER_LEAVE, &dc5), AMI_NOT_FOUND);
    struct fixture_device other = f->dc[0];
    other.epoch = 2;
    assert_status(judge_change(MEMBER_LEAVE, &other), AMI_NOT_FOUND);
    assert_ok(judge_change(MEMBER_LEAVE, &f->dc[0]));
    empty_blocks_to(change(MEMBER_LEAVE, &f->dc[0], 2));
    assert_status(judge_change(MEMBER_LEAVE, &f->dc[1]), AMI_BAD_ARGUMENT); /* four stay */
    assert_status(judge_change(MEMBER_JOIN, &f->dc[0]), AMI_EXISTS);        /* its key voted */
    struct fixture_device back = fixture_device(f, ROLE_DC_SIGN, f->dc[0].name, 2);
    fixture_dc_enrol(f, body, &back);
    commit_body();
    uint64_t from = change(MEMBER_JOIN, &back, 2);
    names(from, 3, "dc-2:1 dc-3:1 dc-4:1 dc-5:1 dc-1:2");
    same_as_committee(from);
}

static void who_may_rotate(void **state)
{
    (void)state;
    assert_status(judge_change(MEMBER_ROTATE, &dc5), AMI_NOT_FOUND);
    assert_status(judge_change(MEMBER_ROTATE, &f->dc[0]), AMI_WRONG_EPOCH);
    struct fixture_device next = fixture_device(f, ROLE_DC_SIGN, f->dc[0].name, 2);
    assert_status(judge_change(MEMBER_ROTATE, &next), AMI_UNKNOWN_DEVICE);
    fixture_dc_enrol(f, body, &next);
    commit_body();
    assert_ok(judge_change(MEMBER_ROTATE, &next));
    fixture_revoke(f, body, 2, &next.name, 2);
    commit_body();
    assert_status(judge_change(MEMBER_ROTATE, &next), AMI_REVOKED);
}

static void no_more_than_31(void **state)
{
    (void)state;
    fixture_free(f);
    free(body);
    begin_with(31);
    assert_status(judge_change(MEMBER_JOIN, &dc5), AMI_BAD_ARGUMENT);
    assert_ok(judge_change(MEMBER_LEAVE, &f->dc[30]));
    struct fixture_device next = fixture_device(f, ROLE_DC_SIGN, f->dc[30].name, 2);
    fixture_dc_enrol(f, body, &next);
    commit_body();
    names(change(MEMBER_ROTATE, &next, 2), 2,
          "dc-1:1 dc-2:1 dc-3:1 dc-4:1 dc-5:1 dc-6:1 dc-7:1 dc-8:1 dc-9:1 dc-10:1 dc-11:1 dc-12:1 "
          "dc-13:1 dc-14:1 dc-15:1 dc-16:1 dc-17:1 dc-18:1 dc-19:1 dc-20:1 dc-21:1 dc-22:1 dc-23:1 "
          "dc-24:1 dc-25:1 dc-26:1 dc-27:1 dc-28:1 dc-29:1 dc-30:1 dc-31:2");
}

/* --- what does not even parse ------------------------------------------------------------------
 */

static enum ami_status parse(const struct membership *m)
{
    uint8_t first[1024], bytes[2048], signature[SM2_SIGNATURE_BYTES] = {1};
    struct writer w = writer_on(first, sizeof first), out = writer_on(bytes, sizeof bytes);
    membership_encode(&w, m);
    struct tx t = {TX_MEMBERSHIP, writer_span(&w), span_of(signature, sizeof signature)};
    tx_encode(&out, &t);
    struct tx_view tx;
    return tx_view_parse(&tx, writer_span(&out));
}

static void values_that_cannot_be(void **state)
{
    (void)state;
    struct tx_view tx;
    fixture_membership(f, body, MEMBER_JOIN, &dc5, 7);
    assert_ok(tx_view_parse(&tx, fixture_last(body)));
    const struct membership good = tx.u.membership;
    struct membership m = good;
    assert_ok(parse(&m));
#define BAD(field, value)                                                                          \
    do {                                                                                           \
        m = good;                                                                                  \
        m.field = value;                                                                           \
        assert_status(parse(&m), AMI_BAD_ARGUMENT);                                                \
    } while (0)
    BAD(number, 0);
    BAD(epoch, 0);
    BAD(epoch, 1);
    BAD(change, 0);
    BAD(change, 2); /* a leave has no entry */
    BAD(change, 4);
    BAD(key_epoch, 0);
    BAD(delay, 1);
    BAD(delay, MEMBERSHIP_DELAY_MAX + 1);
    BAD(has_entry, false);
    BAD(entry.peer, span_of(NULL, 0));
    BAD(entry.meter, SPAN_LITERAL("127.0.0.1:7000"));
    BAD(entry.admin, SPAN_LITERAL("tcp://127.0.0.1:0"));
    BAD(entry.admin, SPAN_LITERAL("tcp://127.0.0.1:65536"));
    BAD(entry.admin, SPAN_LITERAL("tcp://127.0.0.1:7000 "));
    BAD(entry.admin, SPAN_LITERAL("tcp://a\0b:7000"));
    BAD(entry.admin, SPAN_LITERAL("tcp://:7000"));
    BAD(entry.admin, SPAN_LITERAL("tcp://7000"));
    m = good;
    m.change = MEMBER_LEAVE;
    m.has_entry = false;
    assert_ok(parse(&m));
}

static void a_committee_takes_only_the_next_change(void **state)
{
    (void)state;
    struct tx_view tx;
    fixture_membership(f, body, MEMBER_JOIN, &dc5, 7);
    assert_ok(tx_view_parse(&tx, fixture_last(body)));
    const struct committee before = committee;
    struct membership m = tx.u.membership;
#define REFUSED(change_of, status)                                                                 \
    do {                                                                                           \
        m = tx.u.membership;                                                                       \
        change_of;                                                                                 \
        assert_status(committee_change(&committee, &f->genesis.network, &m, 9), status);           \
        assert_memory_equal(&committee, &before, sizeof before);                                   \
    } while (0)
    REFUSED(m.epoch = 1, AMI_WRONG_EPOCH);
    REFUSED(m.epoch = 3, AMI_WRONG_EPOCH);
    REFUSED(m.epoch = 0, AMI_WRONG_EPOCH);
    REFUSED(m.change = 9, AMI_BAD_ARGUMENT);
    REFUSED(m.has_entry = false, AMI_BAD_ARGUMENT);
    REFUSED(m.dc = f->dc[1].name, AMI_EXISTS);
    REFUSED(m.change = MEMBER_ROTATE, AMI_NOT_FOUND);
    REFUSED((m.change = MEMBER_LEAVE, m.has_entry = false), AMI_NOT_FOUND);
    REFUSED((m.change = MEMBER_LEAVE, m.has_entry = false, m.dc = f->dc[1].name),
            AMI_BAD_ARGUMENT); /* three would stay */
    REFUSED((m.change = MEMBER_ROTATE, m.dc = f->dc[1].name), AMI_BAD_ARGUMENT);
    REFUSED(memset(m.entry.w_sign.b, 0xff, sizeof m.entry.w_sign.b), AMI_BAD_CRYPTO);
    assert_ok(committee_change(&committee, &f->genesis.network, &tx.u.membership, 9));
    assert_int_equal(committee.from, 16);
    assert_status(committee_change(&committee, &f->genesis.network, &tx.u.membership, 9),
                  AMI_WRONG_EPOCH);
}

/* --- blocks around the boundary ----------------------------------------------------------------
 */

/* Evidence that convicts, as the only transaction of the next block. */
static enum ami_status judge_evidence(const struct fixture_evidence *x)
{
    fixture_clear(body);
    fixture_evidence_tx(body, &x->e);
    enum ami_status status = judge();
    struct tx_view tx;
    assert_ok(tx_view_parse(&tx, fixture_last(body)));
    assert_int_equal(registry_admits(f->registry, &tx), status);
    return status;
}

/* An index means a member of the block's own epoch, and a key that no longer votes stays convicted
 * of what it did while it did. */
static void evidence_is_judged_by_the_members_of_its_block(void **state)
{
    (void)state;
    static struct fixture_evidence old, early, now;
    uint64_t from = change(MEMBER_LEAVE, &f->dc[0], 3);
    fixture_evidence(&early, f, 0, EVIDENCE_VOTES);
    assert_ok(judge_evidence(&early));
    commit_body();
    fixture_evidence(&old, f, 1, EVIDENCE_GRANT);
    assert_ok(judge_evidence(&old));
    const struct record *left = registry_find(f->registry, RECORD_DC, &f->dc[0].name, 1);
    assert_int_equal(left->window, from << 8 | 1u << EVIDENCE_VOTES);
    empty_blocks_to(from - 1);
    assert_status(judge_evidence(&old), AMI_WRONG_EPOCH);
    fixture_evidence(&now, f, 0, EVIDENCE_VOTES); /* of who comes first now */
    assert_ok(judge_evidence(&now));
    commit_body();
    assert_status(judge_evidence(&now), AMI_EXISTS);
    const struct record *second = registry_find(f->registry, RECORD_DC, &f->dc[1].name, 1);
    assert_int_equal(second->window, 1u << EVIDENCE_VOTES);
    assert_int_equal(at(f->tip.height + 1)->count, 4);
    fixture_evidence(&now, f, 0, EVIDENCE_GRANT);
    now.e.accused = 4;
    fixture_clear(body);
    fixture_evidence_tx(body, &now.e);
    struct tx_view tx; /* its statements name another */
    assert_status(tx_view_parse(&tx, fixture_last(body)), AMI_BAD_ARGUMENT);
}

static enum ami_status check(const struct block_header *h)
{
    return block_check_header(&f->genesis.parameters, at(f->tip.height + 1), h, &f->tip);
}

static enum ami_status stage_empty(uint64_t height)
{
    struct block_header h = {.height = height, .state_root = registry_root(f->registry)};
    uint32_t bad;
    enum ami_status status = block_stage(f->registry, &h, span_of(NULL, 0), &bad);
    if (status == AMI_OK)
        registry_stage_drop(f->registry);
    return status;
}

static void empty_blocks_only_up_to_the_new_epoch(void **state)
{
    (void)state;
    assert_status(stage_empty(2), AMI_BAD_ARGUMENT);
    uint64_t from = change(MEMBER_JOIN, &dc5, 3); /* in block 2: epoch 2 begins at 5 */
    assert_int_equal(from, 5);
    assert_ok(stage_empty(3));
    empty_blocks_to(3);
    assert_ok(stage_empty(4));
    empty_blocks_to(4);
    assert_status(stage_empty(5), AMI_BAD_ARGUMENT);
}

static void headers_name_the_epoch_of_their_height(void **state)
{
    (void)state;
    uint64_t from = change(MEMBER_JOIN, &dc5, 2);
    const struct members old = *at(from - 1), new = *at(from);
    while (f->tip.height + 1 <= from) {
        const bool begun = f->tip.height + 1 >= from;
        const struct members *right = begun ? &new : &old, *wrong = begun ? &old : &new;
        struct block_header h = {.version = 1,
                                 .chain = right->chain,
                                 .epoch = right->epoch,
                                 .members = right->hash,
                                 .height = f->tip.height + 1,
                                 .term = 1,
                                 .previous = f->tip.hash,
                                 .timestamp_ms = f->tip.timestamp_ms + 1,
                                 .proposer = (uint8_t)(right->count - 1)};
        assert_ok(check(&h));
        h.proposer++;
        assert_status(check(&h), AMI_BAD_ARGUMENT);
        h.proposer = 0;
        h.epoch = wrong->epoch;
        assert_status(check(&h), AMI_WRONG_EPOCH);
        h.members = wrong->hash;
        assert_status(check(&h), AMI_WRONG_EPOCH);
        h.epoch = right->epoch;
        assert_status(check(&h), AMI_WRONG_EPOCH);
        /* Votes of one epoch certify nothing in the other. */
        struct fixture_block *b = fixture_commit(f, body, 1);
        assert_ok(qc_check(right, &b->commit));
        assert_status(qc_check(wrong, &b->commit), AMI_WRONG_EPOCH);
        fixture_block_free(b);
    }
}

static void loaded_again_it_is_the_same(void **state)
{
    (void)state;
    empty_blocks_to(change(MEMBER_JOIN, &dc5, 2));
    (void)change(MEMBER_LEAVE, &f->dc[3], 3);
    struct registry *again = registry_new(&f->genesis);
    assert_non_null(again);
    for (uint64_t i = 0; i < registry_size(f->registry); i++) {
        uint8_t bytes[RECORD_BYTES_MAX];
        struct record rec;
        struct writer w = writer_on(bytes, sizeof bytes);
        record_encode(&w, registry_at(f->registry, i));
        assert_ok(record_parse(&rec, writer_span(&w)));
        assert_ok(registry_load(again, i, &rec));
    }
    registry_loaded(again, f->tip.height);
    assert_int_equal(registry_height(again), f->tip.height);
    assert_digest(registry_root(again), registry_root(f->registry));
    for (uint64_t h = 1; h < f->tip.height + 9; h++) {
        assert_digest(registry_members(again, h)->hash, at(h)->hash);
        assert_int_equal(registry_next_epoch(again, h), registry_next_epoch(f->registry, h));
    }
    registry_free(again);
}

int main(void)
{
#define TEST(name)   cmocka_unit_test_setup_teardown(name, start, stop)
#define TEST_5(name) cmocka_unit_test_setup_teardown(name, start_5, stop)
    const struct CMUnitTest tests[] = {
        TEST(the_first_epoch_is_the_genesis_file_s),
        TEST(a_join_counts_from_its_height_on),
        TEST_5(a_leave_and_a_rotation),
        TEST(order_is_that_of_joining),
        TEST(one_change_at_a_time),
        TEST(two_changes_in_one_block),
        TEST(enrolled_and_joined_in_one_block),
        TEST(who_may_join),
        TEST_5(who_may_leave),
        TEST(who_may_rotate),
        TEST(no_more_than_31),
        TEST(values_that_cannot_be),
        TEST(a_committee_takes_only_the_next_change),
        TEST_5(evidence_is_judged_by_the_members_of_its_block),
        TEST(empty_blocks_only_up_to_the_new_epoch),
        TEST(headers_name_the_epoch_of_their_height),
        TEST(loaded_again_it_is_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
