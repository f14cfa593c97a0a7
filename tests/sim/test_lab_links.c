/* What links-crypto compares does what it is timed for, and a wrong result is noticed. */
#include "tests/harness.h"

#include "crypto/secret.h"
#include "sim/lab/link_ours.h"
#include "sim/lab/link_tls.h"
#include "sim/lab/unit.h"

#include <string.h>

static struct link_issuers *issuers;

static int make_issuers(void **state)
{
    (void)state;
    issuers = link_issuers_new(1);
    return 0;
}

static int free_issuers(void **state)
{
    (void)state;
    link_issuers_free(issuers);
    return 0;
}

#define COUNT 5
#define BYTES 1420

static void every_credential_opens_a_channel_that_carries_records(void **state)
{
    static const enum credential_kind kinds[] = {CREDENTIAL_IMPLICIT, CREDENTIAL_X509,
                                                 CREDENTIAL_CFL};
    static uint8_t text[BYTES], wire[COUNT * (BYTES + CHANNEL_OVERHEAD_BYTES_MAX)];
    (void)state;
    memset(text, 7, sizeof text);
    for (uint8_t suite = CHANNEL_SM4_GCM; suite <= CHANNEL_SM4_CTR_HMAC; suite++)
        for (size_t i = 0; i < 3; i++) {
            struct link_ours *l = link_ours_new(issuers, kinds[i], 1, suite);
            for (int round = 0; round < 2; round++) {
                double ns[2] = {0};
                assert_true(link_ours_open(l, ns));
                assert_true(ns[0] > 0 && ns[1] > 0);
                assert_int_equal(l->client.channel.suite, suite);
                assert_int_equal(channel_peer(&l->server.channel)->kind, kinds[i]);
                assert_true(link_ours_send(l, text, wire, BYTES, COUNT, ns));
            }
            link_ours_free(l);
        }
}

static void a_channel_that_does_not_open_or_arrive_is_noticed(void **state)
{
    static uint8_t text[BYTES], wire[COUNT * (BYTES + CHANNEL_OVERHEAD_BYTES_MAX)];
    double ns[2] = {0};
    (void)state;
    struct link_ours *l = link_ours_new(issuers, CREDENTIAL_CFL, 1, CHANNEL_SM4_GCM);
    assert_true(link_ours_open(l, ns));
    /* The server has missed a record: all later ones have other keys. */
    (void)channel_seal(&l->client.channel, wire, span_of(text, BYTES));
    assert_false(link_ours_send(l, text, wire, BYTES, COUNT, ns));
    l->server.trust.kinds = CREDENTIAL_BIT(CREDENTIAL_IMPLICIT);
    assert_false(link_ours_open(l, ns));
    link_ours_free(l);
}

static void tls_opens_with_both_kinds_of_keys(void **state)
{
    static const enum link_x509_kind kinds[] = {LINK_X509_P256, LINK_X509_RSA};
    static uint8_t text[BYTES];
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct link_tls *l = link_tls_new(kinds[i]);
        for (int round = 0; round < 2; round++) {
            double ns[2] = {0};
            assert_true(link_tls_open(l, ns));
            assert_true(ns[0] > 0 && ns[1] > 0);
            assert_true(link_tls_send(l, text, BYTES, COUNT, ns));
        }
        assert_false(link_tls_send(l, text, 16385, COUNT, (double[2]){0})); /* no record of TLS */
        link_tls_free(l);
    }
}

/* One side ten times the other; at the given call the result is wrong. */
struct play {
    unsigned calls, wrong_at;
};

static bool run_play(void *with, double ns[2])
{
    struct play *p = with;
    ns[0] += 40000;
    ns[1] += 400000;
    return ++p->calls != p->wrong_at;
}

static void sides_are_told_apart_and_a_wrong_result_is_kept(void **state)
{
    struct play good = {.wrong_at = 0}, bad = {.wrong_at = 5};
    struct lab_two_sided work[] = {{.run = run_play, .with = &good, .size = 4},
                                   {.run = run_play, .with = &bad, .size = 1}};
    (void)state;
    lab_time_briefly(true);
    lab_time_two_sided(work, 2);
    assert_true(good.calls >= 13 && bad.calls >= 13);
    assert_false(work[0].wrong);
    assert_true(work[1].wrong);
    assert_float_equal(work[0].side[0].median_us, 10, 1e-4);
    assert_float_equal(work[0].side[1].median_us, 100, 1e-4);
    assert_float_equal(work[0].both.median_us, 110, 1e-4);
    assert_float_equal(work[1].both.max_us, 440, 1e-4);
}

/* A chain that is not the root's is refused. */
static void chains_hang_on_their_root(void **state)
{
    const uint8_t nonce[CREDENTIAL_NONCE_BYTES] = {0};
    const struct credential_moment at = {LINK_WALL_MS, nonce};
    static uint8_t shown[CREDENTIAL_BYTES_MAX];
    static struct credential own;
    struct credential_trust trust = link_trust(issuers);
    struct credential_peer peer;
    struct link_x509 other;
    (void)state;
    link_credential(issuers, &own, CREDENTIAL_X509, 2);
    const struct span part = span_of(shown, credential_show(shown, &own, &at));
    assert_int_equal(credential_check(&peer, CREDENTIAL_X509, part, &trust, &at), FAULT_NONE);
    link_x509_make(&other, LINK_X509_SM2, LINK_WALL_MS / 1000 - 10, LINK_WALL_MS / 1000 + 10);
    struct x509_trust *foreign = link_x509_trust(&other);
    trust.x509 = foreign;
    assert_int_equal(credential_check(&peer, CREDENTIAL_X509, part, &trust, &at),
                     FAULT_WRONG_CHAIN);
    x509_trust_free(foreign);
    link_x509_free(&other);
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_credential_opens_a_channel_that_carries_records),
        cmocka_unit_test(a_channel_that_does_not_open_or_arrive_is_noticed),
        cmocka_unit_test(tls_opens_with_both_kinds_of_keys),
        cmocka_unit_test(sides_are_told_apart_and_a_wrong_result_is_kept),
        cmocka_unit_test(chains_hang_on_their_root),
    };
    return cmocka_run_group_tests(tests, make_issuers, free_issuers);
}
