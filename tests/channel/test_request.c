/* An operator's own key: asked, answered and joined, for both kinds; and every request, answer and
 * key file that was altered, cut, exchanged or made for somebody else. */
#include "channel/request.h"

#include "channel/file.h"
#include "crypto/secret.h"
#include "sim/lab/realm.h"
#include "tests/harness.h"

#include <string.h>

#define WIDE(array) ((const uint8_t(*)[SM2_WIDE_BYTES])(array))
#define NOW_S       (SUITE_WALL_MS / 1000)

static const enum credential_kind kinds[] = {CREDENTIAL_IMPLICIT, CREDENTIAL_CFL};
#define KINDS (sizeof kinds / sizeof kinds[0])

static struct realm realm, elsewhere;

static int setup(void **state)
{
    (void)state;
    realm_make(&realm, "grid", 1);
    realm_make(&elsewhere, "other", 2);
    return 0;
}

static struct credential_identity identity_of(enum credential_kind kind, const char *name)
{
    return (struct credential_identity){.kind = kind,
                                        .role = CREDENTIAL_OPERATOR,
                                        .name = id_of(name),
                                        .epoch = 1,
                                        .label = label_of("2:ledger"),
                                        .from_s = NOW_S - 10,
                                        .until_s = NOW_S + 1000};
}

static void ask(struct credential_key *out, struct realm *r, enum credential_kind kind,
                const char *name)
{
    uint8_t random[2][SM2_WIDE_BYTES];
    const struct credential_identity who = identity_of(kind, name);
    memcpy(random[0], realm_random(r), SM2_WIDE_BYTES);
    memcpy(random[1], realm_random(r), SM2_WIDE_BYTES);
    assert_ok(credential_request_make(out, &r->mdms.net, &who, WIDE(random)));
}

/* As `ami-mdms operator add` does. */
static enum ami_status answer(struct credential_answer *out, struct realm *r,
                              const struct credential_request *request, const char *label)
{
    if (request->who.kind == CREDENTIAL_CFL) {
        struct cfl_certificate certificate = credential_request_cfl(request);
        AMI_TRY(cfl_issue(&certificate, &r->seed, realm_random(r)));
        credential_answer_cfl(out, &certificate);
        return AMI_OK;
    }
    return credential_answer_implicit(out, request, label_of(label), &r->mdms.net, &r->mdms.x,
                                      realm_random(r));
}

static const struct cfl_public *set_of(const struct realm *r, enum credential_kind kind)
{
    return kind == CREDENTIAL_CFL ? &r->set : NULL;
}

/* Through the files, into a handshake. */
static void a_key_of_ones_own_opens_a_channel(void **state)
{
    (void)state;
    for (size_t k = 0; k < KINDS; k++) {
        struct credential_key key, held;
        struct credential_request request;
        struct credential_answer made, back;
        struct credential own, dc;
        struct party i, r;
        uint8_t file[CREDENTIAL_KEY_BYTES_MAX], again[CREDENTIAL_FILE_BYTES_MAX];
        struct network net;
        ask(&key, &realm, kinds[k], "alice");
        size_t size = credential_request_encode(file, &key.request);
        assert_ok(credential_request_parse(&request, span_of(file, size)));
        assert_ok(credential_request_check(&request));
        assert_int_equal(request.who.kind, kinds[k]);
        assert_ok(answer(&made, &realm, &request, "2:ledger"));
        size = credential_answer_encode(file, &made);
        assert_ok(credential_answer_parse(&back, span_of(file, size)));
        assert_memory_equal(&back.who.fingerprint, &made.who.fingerprint, SM3_BYTES);
        size = credential_key_encode(file, &key);
        assert_ok(credential_key_parse(&held, span_of(file, size)));
        assert_memory_equal(&held.net.id, &realm.mdms.net.id, SM3_BYTES);
        assert_ok(credential_answer_accept(&own, &back, &held, set_of(&realm, kinds[k])));
        /* It is by this fingerprint that the MDMS revokes it. */
        assert_memory_equal(&own.who.fingerprint, &made.who.fingerprint, SM3_BYTES);
        assert_int_equal(own.who.kind, kinds[k]);
        size = credential_file_encode(again, &held.net, &own);
        assert_ok(credential_file_parse(&own, &net, span_of(again, size)));
        realm_credential(&realm, &dc, CREDENTIAL_IMPLICIT, "dc-1", NULL, 0, 0);
        party_make(&i, &realm, &own);
        party_make(&r, &realm, &dc);
        assert_true(pair_handshake(&i, &r, &realm));
        assert_string_equal(r.seen.name.text, "alice");
        assert_memory_equal(&r.seen.fingerprint, &made.who.fingerprint, SM3_BYTES);
    }
}

/* The private key is in what the operator keeps, and in nothing that goes out. */
static void nothing_secret_leaves(void **state)
{
    (void)state;
    for (size_t k = 0; k < KINDS; k++) {
        struct credential_key key;
        struct credential_answer made;
        struct credential own;
        uint8_t d[2][SM2_SCALAR_BYTES], file[CREDENTIAL_KEY_BYTES_MAX];
        ask(&key, &realm, kinds[k], "alice");
        assert_ok(answer(&made, &realm, &key.request, "2:ledger"));
        assert_ok(credential_answer_accept(&own, &made, &key, set_of(&realm, kinds[k])));
        scalar_encode(d[0], &key.key.d);
        scalar_encode(d[1], &own.key.d);
        for (int i = 0; i < 2; i++) {
            size_t size = credential_request_encode(file, &key.request);
            assert_null(memmem(file, size, d[i], SM2_SCALAR_BYTES));
            size = credential_answer_encode(file, &made);
            assert_null(memmem(file, size, d[i], SM2_SCALAR_BYTES));
        }
        size_t size = credential_key_encode(file, &key);
        assert_non_null(memmem(file, size, d[0], SM2_SCALAR_BYTES));
    }
}

static void an_altered_request_is_not_answered(void **state)
{
    (void)state;
    for (size_t k = 0; k < KINDS; k++) {
        struct credential_key key;
        struct credential_request back;
        struct credential_answer none;
        uint8_t file[CREDENTIAL_REQUEST_BYTES_MAX + 1];
        ask(&key, &realm, kinds[k], "alice");
        const size_t size = credential_request_encode(file, &key.request);
        for (size_t cut = 0; cut < size; cut++)
            assert_int_not_equal(credential_request_parse(&back, span_of(file, cut)), AMI_OK);
        file[size] = 0;
        assert_status(credential_request_parse(&back, span_of(file, size + 1)), AMI_BAD_ENCODING);
        for (size_t at = 0; at < size; at++) {
            file[at] ^= 1;
            if (credential_request_parse(&back, span_of(file, size)) == AMI_OK) {
                assert_status(credential_request_check(&back), AMI_BAD_SIGNATURE);
                assert_status(answer(&none, &realm, &back, "2:ledger"), AMI_BAD_SIGNATURE);
            }
            file[at] ^= 1;
        }
        file[8]++;
        assert_status(credential_request_parse(&back, span_of(file, size)), AMI_BAD_VERSION);
        /* A label above the one asked for. */
        back = key.request;
        back.who.label = label_of("3:ledger");
        assert_status(credential_request_check(&back), AMI_BAD_SIGNATURE);
        /* One of the other kind is asked under another label of the signature. */
        back = key.request;
        back.who.kind = kinds[1 - k];
        assert_status(credential_request_check(&back), AMI_BAD_SIGNATURE);
    }
}

static void an_answer_fits_one_request(void **state)
{
    (void)state;
    for (size_t k = 0; k < KINDS; k++) {
        struct credential_key key, again, foreign, bob, other_kind;
        struct credential_answer made, back;
        struct credential own;
        const struct credential zero = {0};
        const struct cfl_public *set = set_of(&realm, kinds[k]);
        uint8_t file[CREDENTIAL_ANSWER_BYTES_MAX + 1];
        ask(&key, &realm, kinds[k], "alice");
        ask(&again, &realm, kinds[k], "alice");
        ask(&bob, &realm, kinds[k], "bob");
        ask(&foreign, &elsewhere, kinds[k], "alice");
        ask(&other_kind, &realm, kinds[1 - k], "alice");
        assert_ok(answer(&made, &realm, &key.request, "2:ledger"));
        assert_status(credential_answer_accept(&own, &made, &again, set), AMI_BAD_CRYPTO);
        assert_status(credential_answer_accept(&own, &made, &bob, set), AMI_FOREIGN_KEY);
        assert_status(credential_answer_accept(&own, &made, &other_kind, &realm.set),
                      AMI_FOREIGN_KEY);
        assert_status(credential_answer_accept(&own, &made, &foreign, set), AMI_WRONG_CHAIN);
        assert_memory_equal(&own, &zero, sizeof own);
        struct credential_key later = key;
        later.request.who.until_s++;
        assert_status(credential_answer_accept(&own, &made, &later, set), AMI_FOREIGN_KEY);
        /* Another issuer in the network's name. */
        struct realm fake = elsewhere;
        fake.mdms.net = realm.mdms.net;
        assert_ok(answer(&back, &fake, &key.request, "2:ledger"));
        assert_status(credential_answer_accept(&own, &back, &key, set),
                      kinds[k] == CREDENTIAL_CFL ? AMI_BAD_SIGNATURE : AMI_BAD_CRYPTO);
        const size_t size = credential_answer_encode(file, &made);
        for (size_t cut = 0; cut < size; cut++)
            assert_int_not_equal(credential_answer_parse(&back, span_of(file, cut)), AMI_OK);
        file[size] = 0;
        assert_status(credential_answer_parse(&back, span_of(file, size + 1)), AMI_BAD_ENCODING);
        for (size_t at = 0; at < size; at++) {
            file[at] ^= 1;
            if (credential_answer_parse(&back, span_of(file, size)) == AMI_OK)
                assert_int_not_equal(credential_answer_accept(&own, &back, &key, set), AMI_OK);
            file[at] ^= 1;
        }
        file[8]++;
        assert_status(credential_answer_parse(&back, span_of(file, size)), AMI_BAD_VERSION);
    }
}

/* The label of an implicit certificate is the MDMS's to give, and nobody's to change afterwards;
 * one of CFL is under the operator's own signature. */
static void another_label_than_was_asked_for(void **state)
{
    (void)state;
    struct credential_key key;
    struct credential_answer made;
    struct credential own;
    ask(&key, &realm, CREDENTIAL_IMPLICIT, "alice");
    assert_ok(answer(&made, &realm, &key.request, "1:operation"));
    assert_ok(credential_answer_accept(&own, &made, &key, NULL));
    assert_int_equal(own.who.label.level, 1);
    assert_int_equal(own.who.label.categories, LABEL_OPERATION);
    made.who.label = label_of("2:ledger");
    assert_status(credential_answer_accept(&own, &made, &key, NULL), AMI_BAD_CRYPTO);
    ask(&key, &realm, CREDENTIAL_CFL, "alice");
    struct credential_request lowered = key.request;
    lowered.who.label = label_of("1:operation");
    assert_status(answer(&made, &realm, &lowered, "1:operation"), AMI_BAD_SIGNATURE);
    assert_status(credential_answer_implicit(&made, &key.request, label_of("2:ledger"),
                                             &realm.mdms.net, &realm.mdms.x, realm_random(&realm)),
                  AMI_BAD_ARGUMENT);
}

static void a_key_file_comes_back_whole_or_not_at_all(void **state)
{
    (void)state;
    for (size_t k = 0; k < KINDS; k++) {
        struct credential_key key, back;
        const struct credential_key zero = {0};
        uint8_t file[CREDENTIAL_KEY_BYTES_MAX + 1], again[CREDENTIAL_KEY_BYTES_MAX];
        ask(&key, &realm, kinds[k], "alice");
        const size_t size = credential_key_encode(file, &key);
        assert_ok(credential_key_parse(&back, span_of(file, size)));
        assert_memory_equal(&back.key, &key.key, sizeof key.key);
        assert_int_equal(credential_key_encode(again, &back), size);
        assert_memory_equal(again, file, size);
        for (size_t cut = 0; cut < size; cut++)
            assert_int_not_equal(credential_key_parse(&back, span_of(file, cut)), AMI_OK);
        file[size] = 0;
        assert_status(credential_key_parse(&back, span_of(file, size + 1)), AMI_DAMAGED);
        for (size_t at = 0; at < size; at++) {
            file[at] ^= 1;
            assert_int_not_equal(credential_key_parse(&back, span_of(file, size)), AMI_OK);
            assert_memory_equal(&back, &zero, sizeof back);
            file[at] ^= 1;
        }
        /* Another key than the request's, and a request for another network, with a good digest. */
        struct credential_key odd = key;
        odd.key = realm.mdms.sign;
        assert_status(credential_key_parse(&back, span_of(file, credential_key_encode(file, &odd))),
                      AMI_DAMAGED);
        odd = key;
        odd.net = elsewhere.mdms.net;
        assert_status(credential_key_parse(&back, span_of(file, credential_key_encode(file, &odd))),
                      AMI_DAMAGED);
    }
}

static void only_operators_ask(void **state)
{
    (void)state;
    struct credential_key out;
    const struct credential_key zero = {0};
    uint8_t random[2][SM2_WIDE_BYTES] = {{1}, {2}};
    struct credential_identity odd[5];
    for (size_t i = 0; i < 5; i++)
        odd[i] = identity_of(CREDENTIAL_IMPLICIT, "alice");
    odd[0].role = CREDENTIAL_DC;
    odd[1].label.level = LABEL_LEVEL_MAX + 1;
    odd[2].name.size = 0;
    odd[3].kind = CREDENTIAL_X509;
    odd[4].until_s = 1;
    for (size_t i = 0; i < 5; i++) {
        assert_status(credential_request_make(&out, &realm.mdms.net, &odd[i], WIDE(random)),
                      AMI_BAD_ARGUMENT);
        assert_memory_equal(&out, &zero, sizeof out);
    }
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_of_ones_own_opens_a_channel),
        cmocka_unit_test(nothing_secret_leaves),
        cmocka_unit_test(an_altered_request_is_not_answered),
        cmocka_unit_test(an_answer_fits_one_request),
        cmocka_unit_test(another_label_than_was_asked_for),
        cmocka_unit_test(a_key_file_comes_back_whole_or_not_at_all),
        cmocka_unit_test(only_operators_ask),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
