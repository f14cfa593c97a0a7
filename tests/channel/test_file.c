/* Credential files and the list of revoked operators: as they are, cut, altered, of somebody else.
 */
#include "channel/file.h"

#include "crypto/secret.h"
#include "sim/lab/realm.h"
#include "tests/harness.h"

#include <string.h>

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

static void the_list_of_revoked_ones(void **state)
{
    (void)state;
    static struct revoked_list list, back, head;
    static uint8_t bytes[AMI_REVOKED_BYTES_MAX];
    const struct network *net = &realm.mdms.net;
    for (uint16_t count = 0; count <= AMI_REVOKED_MAX; count = (uint16_t)(count * 10 + 1)) {
        list = (struct revoked_list){
            .number = 7 + count, .previous = 4, .issued_ms = -1, .count = count};
        for (size_t i = 0; i < count; i++)
            store_be32(list.fingerprint[i].b, (uint32_t)i + 1);
        size_t size =
            revoked_list_encode(bytes, &list, net, &realm.mdms.sign, realm_random(&realm));
        assert_ok(revoked_list_parse(&back, net, span_of(bytes, size)));
        assert_memory_equal(&back, &list, sizeof list);
        assert_ok(revoked_list_numbers(&head, span_of(bytes, size)));
        assert_true(head.number == list.number && head.previous == 4);
        sm3_digest absent = {{0xff}};
        assert_false(revoked_list_has(&back, &absent));
        for (size_t i = 0; i < count; i++)
            assert_true(revoked_list_has(&back, &list.fingerprint[i]));
        assert_status(revoked_list_parse(&back, &elsewhere.mdms.net, span_of(bytes, size)),
                      AMI_WRONG_CHAIN);
        assert_int_not_equal(revoked_list_parse(&back, net, span_of(bytes, size - 1)), AMI_OK);
        for (size_t at = 0; at < size; at += 1 + size / 97) {
            bytes[at] ^= 1;
            assert_int_not_equal(revoked_list_parse(&back, net, span_of(bytes, size)), AMI_OK);
            bytes[at] ^= 1;
        }
        /* Signed by somebody else. */
        size = revoked_list_encode(bytes, &list, net, &realm.mdms.enrol, realm_random(&realm));
        assert_status(revoked_list_parse(&back, net, span_of(bytes, size)), AMI_BAD_SIGNATURE);
    }
}

/* Which list takes another's place, and that each has a number above the last, whatever the clock.
 */
static void a_list_follows_what_it_knew(void **state)
{
    (void)state;
    static struct revoked_list known, list;
    revoked_list_number_after(&known, 0, 1000);
    assert_true(known.number == 1000 && known.previous == 0);
    revoked_list_number_after(&list, known.number, 900);
    assert_true(list.number == 1001 && list.previous == 1000 && list.issued_ms == 900);
    assert_true(revoked_list_follows(&list, &known));
    assert_false(revoked_list_follows(&known, &list));
    assert_false(revoked_list_follows(&list, &list));
    /* Of a folder that has forgotten `known`: newer, and it takes nobody back. */
    revoked_list_number_after(&list, 800, 5000);
    assert_false(revoked_list_follows(&list, &known));
    revoked_list_number_after(&list, 0, -1);
    assert_true(list.number == 1 && list.previous == 0);
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_credential_comes_back_whole),
        cmocka_unit_test(cfl_credentials_and_seeds_come_back),
        cmocka_unit_test(the_list_of_revoked_ones),
        cmocka_unit_test(a_list_follows_what_it_knew),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
