/* Consensus rule 11 at a start: which key is used, whether it may sign, and how starts are counted.
 */
#include "tests/harness.h"

#include "node/starts.h"
#include "tests/ledger/fixture.h"

static struct fixture *f;

static int set_up(void **state)
{
    (void)state;
    f = fixture_new(4, 1);
    return f == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    fixture_free(f);
    return 0;
}

static bool may_sign(uint32_t key_epoch, uint64_t starts, const struct vote_record *record,
                     uint64_t height)
{
    const struct starts_key key = {&f->dc[1].name, key_epoch, starts};
    return starts_may_sign(&f->genesis, &key, record, height);
}

static void a_key_with_its_newest_record_signs(void **state)
{
    (void)state;
    struct vote_record record = {.version = 1, .starts = 5};
    for (uint32_t epoch = 1; epoch <= 2; epoch++) {
        assert_true(may_sign(epoch, 5, &record, 9));
        assert_true(may_sign(epoch, 4, &record, 9)); /* the crash between record and file */
        assert_true(may_sign(epoch, 0, &record, 9)); /* takes over from another key */
        assert_false(may_sign(epoch, 6, &record, 9));
        assert_false(may_sign(epoch, 6, &record, 0));
    }
}

/* Without a record: what has been started is silent for ever; a new key begins wherever the ledger
 * is, be it that it came into the folder late, joins, or is started just behind its boundary. */
static void a_key_without_a_record(void **state)
{
    (void)state;
    for (uint32_t epoch = 1; epoch <= 2; epoch++) {
        assert_true(may_sign(epoch, 0, NULL, 0));
        assert_false(may_sign(epoch, 1, NULL, 0));
        assert_false(may_sign(epoch, 1, NULL, 9));
    }
    assert_true(may_sign(2, 0, NULL, 9));
    /* The genesis key made its record at height 0: it was lost, and its file may be a copy. */
    assert_false(may_sign(1, 0, NULL, 9));
    /* One that is not in the genesis file joined later, with whatever key. */
    const struct ami_id other = fixture_id("dc-9");
    const struct starts_key joined = {&other, 1, 0};
    assert_true(starts_may_sign(&f->genesis, &joined, NULL, 9));
}

static void a_record_begins_where_the_ledger_is(void **state)
{
    (void)state;
    struct vote_record record;
    struct starts_tip at = {3, 17, {{7}}};
    starts_count(&record, false, 5, &f->genesis.members.chain, &at);
    assert_int_equal(record.version, 1);
    assert_int_equal(record.starts, 6); /* above what any key was started with */
    assert_int_equal(record.epoch, 3);
    assert_int_equal(record.tip_height, 17);
    assert_true(sm3_equal(&record.tip, &at.tip));
    assert_true(sm3_equal(&record.chain, &f->genesis.members.chain));
    assert_false(record.has_granted || record.has_prepare || record.has_commit || record.has_high);
}

/* Key 1 was started five times and lost its record; key 2 takes over. Then a copy of the record
 * from key 1's fourth start comes back: key 2 must see that it is not its newest. */
static void an_old_record_never_fits_a_later_key(void **state)
{
    (void)state;
    struct vote_record record, copy = {.version = 1, .starts = 4};
    const struct starts_tip at = {2, 17, {{7}}};
    assert_true(may_sign(2, 0, NULL, 17));
    starts_count(&record, false, 5, &f->genesis.members.chain, &at);
    assert_true(may_sign(2, record.starts, &record, 18));
    assert_false(may_sign(2, record.starts, &copy, 18));
    /* The same when it was there at first: it counts on from the greater one. */
    record = copy;
    starts_count(&record, true, 5, &f->genesis.members.chain, &at);
    assert_int_equal(record.starts, 6);
    assert_int_equal(record.epoch, copy.epoch);
    starts_count(&record, true, 6, &f->genesis.members.chain, &at);
    assert_int_equal(record.starts, 7);
}

/* Key 1 signed and lost its record, key 2 began another one, and the ledger, fetched anew, comes to
 * an epoch in which key 1 votes: what it voted for is not known. */
static void a_record_begun_later_is_none_for_an_earlier_key(void **state)
{
    (void)state;
    struct vote_record record;
    const struct starts_tip at = {1, 0, f->genesis.members.chain};
    starts_count(&record, false, 5, &f->genesis.members.chain, &at);
    assert_int_equal(record.begun, 5);
    assert_true(may_sign(2, 6, &record, 9));
    assert_true(may_sign(2, 0, &record, 9)); /* the crash between record and file; or key 3 */
    for (uint64_t starts = 1; starts <= 5; starts++)
        assert_false(may_sign(1, starts, &record, 9));
    /* It stays so however often key 2 is started. */
    starts_count(&record, true, 6, &f->genesis.members.chain, &at);
    assert_int_equal(record.begun, 5);
    assert_false(may_sign(1, 5, &record, 9));
    /* An old record that counts on is one that was begun anew. */
    record = (struct vote_record){.version = 1, .epoch = 1, .starts = 4};
    starts_count(&record, true, 5, &f->genesis.members.chain, &at);
    assert_int_equal(record.begun, 5);
    assert_false(may_sign(1, 5, &record, 9));
    /* The first one of all: every key that signs has it. */
    starts_count(&record, false, 0, &f->genesis.members.chain, &at);
    assert_int_equal(record.begun, 0);
    assert_true(may_sign(1, 1, &record, 9));
}

/* The DC followed without its key for five blocks: what it voted for stays, and the tip moves. */
static void the_tip_of_a_record_follows_the_ledger(void **state)
{
    (void)state;
    const struct vote_record was = {
        .version = 1, .epoch = 2, .starts = 4, .term = 7, .has_prepare = true, .tip_height = 12};
    const struct starts_tip at = {2, 17, {{7}}}, later = {3, 17, {{7}}};
    struct vote_record record = was;
    starts_count(&record, true, 4, &f->genesis.members.chain, &at);
    assert_int_equal(record.tip_height, 17);
    assert_true(sm3_equal(&record.tip, &at.tip));
    assert_int_equal(record.term, 7);
    assert_true(record.has_prepare);
    /* One of an earlier epoch counts as none, and stays what it is. */
    record = was;
    starts_count(&record, true, 4, &f->genesis.members.chain, &later);
    assert_int_equal(record.tip_height, 12);
    assert_int_equal(record.epoch, 2);
}

static void the_key_that_votes_is_used_or_the_newest_follows(void **state)
{
    (void)state;
    static struct members m;
    const struct ami_id *name = &f->dc[1].name, other = fixture_id("dc-9");
    const uint32_t epoch[] = {1, 3, 2};
    size_t used;
    m = f->genesis.members;
    const uint8_t at = members_find(&m, name);
    for (uint32_t e = 1; e <= 3; e++) {
        m.member[at].key_epoch = e;
        assert_int_equal(starts_choose(&m, name, epoch, 3, &used), STARTS_VOTES);
        assert_int_equal(epoch[used], e);
    }
    m.member[at].key_epoch = 4;
    assert_int_equal(starts_choose(&m, name, epoch, 3, &used), STARTS_KEY_MISSING);
    assert_int_equal(epoch[used], 3);
    assert_int_equal(starts_choose(&m, &other, epoch, 3, &used), STARTS_FOLLOWS);
    assert_int_equal(epoch[used], 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_with_its_newest_record_signs),
        cmocka_unit_test(a_key_without_a_record),
        cmocka_unit_test(a_record_begins_where_the_ledger_is),
        cmocka_unit_test(an_old_record_never_fits_a_later_key),
        cmocka_unit_test(a_record_begun_later_is_none_for_an_earlier_key),
        cmocka_unit_test(the_tip_of_a_record_follows_the_ledger),
        cmocka_unit_test(the_key_that_votes_is_used_or_the_newest_follows),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
