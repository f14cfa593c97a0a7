/* Credential files and the list of revoked operators: as they are, cut, altered, of somebody else.
 */
#include "channel/file.h"

#include "crypto/secret.h"
#include "sim/lab/realm.h"
#include "tests/harness.h"

#include <string.h>

#define FILE_VERSION_AT 8

static struct realm realm, elsewhere;

static int setup(void **state)
{
    (void)state;
    realm_make(&realm, "grid", 1);
    realm_make(&elsewhere, "other", 2);
    return 0;
}

static void a_credential_comes_back_whole(void **state)
{
    (void)state;
    struct credential own, back, dc;
    struct network net;
    struct party i, r;
    uint8_t file[CREDENTIAL_FILE_BYTES_MAX + 1];
    realm_credential(&realm, &own, CREDENTIAL_IMPLICIT, "alice", "2:ledger", 100,
                     SUITE_WALL_MS / 1000 + 5);
    size_t size = credential_file_encode(file, &realm.mdms.net, &own);
    assert_ok(credential_file_parse(&back, &net, span_of(file, size)));
    assert_memory_equal(&back.who.fingerprint, &own.who.fingerprint, SM3_BYTES);
    assert_memory_equal(&back.key, &own.key, sizeof own.key);
    assert_memory_equal(&net.id, &realm.mdms.net.id, SM3_BYTES);
    assert_int_equal(back.who.label.level, 2);
    /* It works. */
    realm_credential(&realm, &dc, CREDENTIAL_IMPLICIT, "dc-1", NULL, 0, 0);
    party_make(&i, &realm, &back);
    i.trust.net = &net;
    party_make(&r, &realm, &dc);
    assert_true(pair_handshake(&i, &r, &realm));

    for (size_t cut = 0; cut < size; cut++)
        assert_int_not_equal(credential_file_parse(&back, &net, span_of(file, cut)), AMI_OK);
    file[size] = 0;
    assert_status(credential_file_parse(&back, &net, span_of(file, size + 1)), AMI_DAMAGED);
    for (size_t at = 0; at < size; at++) {
        file[at] ^= 1;
        assert_int_not_equal(credential_file_parse(&back, &net, span_of(file, size)), AMI_OK);
        file[at] ^= 1;
    }
    const struct credential zero = {0};
    assert_memory_equal(&back.key, &zero.key, sizeof zero.key);
    assert_status(credential_file_parse(&back, &net, SPAN_LITERAL("amicred")), AMI_TRUNCATED);
    assert_status(credential_file_parse(&back, &net, SPAN_LITERAL("amikey\r\n")), AMI_BAD_ENCODING);
}

static void cfl_credentials_and_seeds_come_back(void **state)
{
    (void)state;
    static struct cfl_seed seed;
    static uint8_t bytes[CFL_SEED_BYTES_MAX];
    struct credential own, back, dc;
    struct network net;
    struct party i, r;
    uint8_t file[CREDENTIAL_FILE_BYTES_MAX];
    realm_credential(&realm, &own, CREDENTIAL_CFL, "carol", "1:ledger", 0, 0);
    size_t size = credential_file_encode(file, &realm.mdms.net, &own);
    assert_ok(credential_file_parse(&back, &net, span_of(file, size)));
    assert_memory_equal(&back.who.fingerprint, &own.who.fingerprint, SM3_BYTES);
    realm_credential(&realm, &dc, CREDENTIAL_IMPLICIT, "dc-1", NULL, 0, 0);
    party_make(&i, &realm, &back);
    party_make(&r, &realm, &dc);
    assert_true(pair_handshake(&i, &r, &realm));
    for (size_t at = 0; at < size; at++) {
        file[at] ^= 1;
        assert_int_not_equal(credential_file_parse(&back, &net, span_of(file, size)), AMI_OK);
        file[at] ^= 1;
    }
    size = cfl_seed_encode(bytes, &realm.seed);
    assert_int_equal(size, CFL_SEED_BYTES_MAX);
    assert_ok(cfl_seed_parse(&seed, span_of(bytes, size)));
    assert_memory_equal(&seed, &realm.seed, sizeof seed);
    assert_status(cfl_seed_parse(&seed, span_of(bytes, size - 1)), AMI_BAD_ENCODING);
    memset(bytes + 2, 0, SM2_SCALAR_BYTES);
    assert_status(cfl_seed_parse(&seed, span_of(bytes, size)), AMI_BAD_ENCODING);
}

/* `count` entries, the first of which has the number `first` in its fingerprint. */
static void fill(struct revoked_list *list, uint32_t first, uint16_t count, int64_t until_s)
{
    for (uint16_t i = 0; i < count; i++) {
        struct revoked_entry e = {.until_s = until_s + i};
        store_be32(e.fingerprint.b, first + i);
        assert_ok(revoked_list_add(list, &e));
    }
}

static void the_list_of_revoked_ones(void **state)
{
    (void)state;
    static struct revoked_list list, back;
    static uint8_t bytes[AMI_REVOKED_BYTES_MAX];
    const struct network *net = &realm.mdms.net;
    for (uint16_t count = 0; count <= AMI_REVOKED_MAX; count = (uint16_t)(count * 10 + 1)) {
        list = (struct revoked_list){.number = 7 + count, .issued_ms = -1};
        fill(&list, 1, count, -3);
        size_t size =
            revoked_list_encode(bytes, &list, net, &realm.mdms.sign, realm_random(&realm));
        assert_ok(revoked_list_parse(&back, net, span_of(bytes, size)));
        assert_memory_equal(&back, &list, sizeof list);
        sm3_digest absent = {{0xff}};
        assert_null(revoked_list_find(&back, &absent));
        for (size_t i = 0; i < count; i++)
            assert_true(revoked_list_find(&back, &list.entry[i].fingerprint)->until_s ==
                        (int64_t)i - 3);
        assert_status(revoked_list_parse(&back, &elsewhere.mdms.net, span_of(bytes, size)),
                      AMI_WRONG_CHAIN);
        assert_int_not_equal(revoked_list_parse(&back, net, span_of(bytes, size - 1)), AMI_OK);
        for (size_t at = 0; at < size; at += 1 + size / 97) {
            bytes[at] ^= 1;
            assert_int_not_equal(revoked_list_parse(&back, net, span_of(bytes, size)), AMI_OK);
            bytes[at] ^= 1;
        }
        bytes[FILE_VERSION_AT]--;
        assert_status(revoked_list_parse(&back, net, span_of(bytes, size)), AMI_BAD_VERSION);
        /* Signed by somebody else. */
        size = revoked_list_encode(bytes, &list, net, &realm.mdms.enrol, realm_random(&realm));
        assert_status(revoked_list_parse(&back, net, span_of(bytes, size)), AMI_BAD_SIGNATURE);
    }
    /* Out of order, or twice: one set has one encoding. */
    list = (struct revoked_list){.number = 7};
    fill(&list, 1, 2, 0);
    for (int twice = 0; twice < 2; twice++) {
        list.entry[0] = list.entry[1];
        list.entry[0].fingerprint.b[0] = twice ? 0 : 1;
        const size_t size =
            revoked_list_encode(bytes, &list, net, &realm.mdms.sign, realm_random(&realm));
        assert_status(revoked_list_parse(&back, net, span_of(bytes, size)), AMI_BAD_ENCODING);
    }
    list = (struct revoked_list){.number = 0};
    const size_t size =
        revoked_list_encode(bytes, &list, net, &realm.mdms.sign, realm_random(&realm));
    assert_status(revoked_list_parse(&back, net, span_of(bytes, size)), AMI_BAD_ENCODING);
}

/* Each list has a number above the last, whatever the clock. */
static void numbers_only_grow(void **state)
{
    (void)state;
    assert_int_equal(revoked_list_number_after(0, 1000), 1000);
    assert_int_equal(revoked_list_number_after(1000, 900), 1001);
    assert_int_equal(revoked_list_number_after(1000, 1000), 1001);
    assert_int_equal(revoked_list_number_after(0, -1), 1);
}

/* A set that grows: in any order the same, and the later end of two counts. */
static void entries_are_added_and_joined(void **state)
{
    (void)state;
    static struct revoked_list a, b, c;
    a = b = (struct revoked_list){.number = 5, .issued_ms = 70};
    b.issued_ms = 90;
    fill(&a, 3, 4, 100); /* 3 to 6 */
    fill(&b, 1, 3, 500); /* 1 to 3 */
    c = b;
    assert_ok(revoked_list_join(&a, &b));
    assert_int_equal(a.count, 6);
    assert_int_equal(a.number, 5);
    assert_int_equal(a.issued_ms, 90);
    assert_int_equal(a.entry[2].until_s, 502); /* of 100 and 502 */
    fill(&c, 3, 4, 100);
    assert_memory_equal(&a, &c, sizeof a);
    c = a;
    assert_ok(revoked_list_join(&a, &b));
    assert_memory_equal(&a, &c, sizeof a);
    fill(&a, 100, AMI_REVOKED_MAX - 6, 0);
    fill(&a, 1, 6, 0); /* which are there */
    assert_int_equal(a.count, AMI_REVOKED_MAX);
    struct revoked_entry one = {.until_s = 1};
    assert_status(revoked_list_add(&a, &one), AMI_FULL);
    one.fingerprint.b[0] = 0xff;
    assert_status(revoked_list_add(&a, &one), AMI_FULL);
}

/* Which list may take another's place: one that lacks nothing of it that has not ended. */
static void what_a_list_has_to_have(void **state)
{
    (void)state;
    static struct revoked_list known, list;
    const int64_t end = 1000000, gone = end + REVOKED_MARGIN_S + 1;
    known = list = (struct revoked_list){.number = 1};
    assert_true(revoked_list_covers(&list, &known, REVOKED_ALWAYS));
    fill(&known, 5, 1, end);
    assert_true(revoked_list_covers(&known, &list, REVOKED_ALWAYS));
    assert_false(revoked_list_covers(&list, &known, REVOKED_ALWAYS));
    assert_false(revoked_list_covers(&list, &known, 0));
    assert_false(revoked_list_covers(&list, &known, gone - 1));
    assert_true(revoked_list_covers(&list, &known, gone));
    assert_true(revoked_list_covers(&list, &known, INT64_MAX));
    /* Nor may it leave sooner there. */
    fill(&list, 5, 1, end - 1);
    assert_false(revoked_list_covers(&list, &known, 0));
    assert_true(revoked_list_covers(&list, &known, gone));
    fill(&list, 5, 1, end);
    assert_true(revoked_list_covers(&list, &known, REVOKED_ALWAYS));
    /* One with an end before all times has none the less to be there always. */
    fill(&known, 6, 1, INT64_MIN);
    assert_false(revoked_list_covers(&list, &known, REVOKED_ALWAYS));
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_credential_comes_back_whole),
        cmocka_unit_test(cfl_credentials_and_seeds_come_back),
        cmocka_unit_test(the_list_of_revoked_ones),
        cmocka_unit_test(numbers_only_grow),
        cmocka_unit_test(entries_are_added_and_joined),
        cmocka_unit_test(what_a_list_has_to_have),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
