/* How a channel is used: every pair of credentials under each suite, what the sides learn of one
 * another, records, a close, and the reasons for which a credential is refused. */
#include "sim/lab/realm.h"

#include "crypto/secret.h"
#include "tests/harness.h"

#include <string.h>

static struct realm realm, elsewhere;

#define NOW_S (SUITE_WALL_MS / 1000)

static int setup(void **state)
{
    (void)state;
    realm_make(&realm, "grid", 1);
    realm_make(&elsewhere, "other", 2);
    return 0;
}

/* In short: the use. */
static void two_dcs_speak(void **state)
{
    (void)state;
    struct credential a, b;
    struct party i, r;
    realm_credential(&realm, &a, CREDENTIAL_IMPLICIT, "dc-1", NULL, 0, 0);
    realm_credential(&realm, &b, CREDENTIAL_IMPLICIT, "dc-2", NULL, 0, 0);
    party_make(&i, &realm, &a);
    party_make(&r, &realm, &b);
    i.welcome = id_of("dc-2");
    assert_true(pair_handshake(&i, &r, &realm));
    assert_string_equal(channel_peer(&i.channel)->name.text, "dc-2");
    assert_string_equal(channel_peer(&r.channel)->name.text, "dc-1");
    assert_int_equal(channel_peer(&r.channel)->role, CREDENTIAL_DC);
    assert_int_equal(channel_peer(&r.channel)->epoch, 1);
    /* Both sides have the same secrets, one for each direction. */
    assert_memory_equal(&i.channel.send, &r.channel.receive, sizeof i.channel.send);
    assert_memory_equal(&i.channel.receive, &r.channel.send, sizeof i.channel.send);
    assert_memory_not_equal(&i.channel.send, &i.channel.receive, sizeof i.channel.send);
    assert_true(pair_say(&i, &r, "prepare", 7));
    assert_true(pair_say(&r, &i, "commit", 6));
    assert_true(pair_say(&i, &r, "", 0));

    struct frame wire, reply;
    wire.size = channel_close(&i.channel, wire.b);
    assert_true(wire.size > 1);
    assert_int_equal(deliver(&r, &wire, &reply).event, CHANNEL_CLOSED);
    assert_int_equal(reply.size, 0);
    assert_int_equal(channel_cut(&i.channel), FAULT_NONE);
    assert_int_equal(channel_cut(&r.channel), FAULT_NONE);
    channel_wipe(&i.channel);
    assert_int_equal(i.channel.state, CHANNEL_IDLE);
}

static void every_kind_with_every_other_under_each_suite(void **state)
{
    (void)state;
    static const enum credential_kind kind[] = {CREDENTIAL_IMPLICIT, CREDENTIAL_CFL};
    static const uint8_t suites[] = {CHANNEL_SM4_GCM, CHANNEL_SM4_CTR_HMAC, CHANNEL_SUITES_ALL};
    static uint8_t text[70000];
    for (size_t a = 0; a < 2; a++)
        for (size_t b = 0; b < 2; b++)
            for (size_t s = 0; s < 3; s++) {
                struct credential operator, dc;
                struct party i, r;
                realm_credential(&realm, &operator, kind[a], "alice", "2:ledger+operation",
                                 NOW_S - 10, NOW_S + 86400);
                realm_credential(&realm, &dc, kind[b], "dc-1", NULL, 0, 0);
                party_make(&i, &realm, &operator);
                party_make(&r, &realm, &dc);
                i.config.suites = suites[s];
                assert_true(pair_handshake(&i, &r, &realm));
                assert_int_equal(i.channel.suite,
                                 suites[s] == CHANNEL_SUITES_ALL ? CHANNEL_SM4_GCM : suites[s]);
                const struct credential_identity *who = channel_peer(&r.channel);
                assert_int_equal(who->kind, kind[a]);
                assert_int_equal(who->role, CREDENTIAL_OPERATOR);
                assert_int_equal(who->label.level, 2);
                assert_int_equal(who->label.categories, LABEL_LEDGER | LABEL_OPERATION);
                assert_int_equal(credential_left_s(who, NOW_S), 86400);
                assert_memory_equal(&who->fingerprint, &operator.who.fingerprint, SM3_BYTES);
                assert_memory_equal(&who->key, &operator.who.key, sizeof who->key);
                for (size_t size = 0; size < 65000; size = size * 3 + 1) {
                    memset(text, (int)size, size);
                    assert_true(pair_say(&i, &r, text, size));
                    assert_true(pair_say(&r, &i, text, size));
                }
            }
}

static void the_mdms_speaks_under_its_pinned_key(void **state)
{
    (void)state;
    struct credential mdms, dc;
    struct party i, r;
    assert_ok(credential_of_mdms(&mdms, &realm.mdms.net, &realm.mdms.sign));
    assert_status(credential_of_mdms(&dc, &realm.mdms.net, &realm.mdms.enrol), AMI_BAD_ARGUMENT);
    realm_credential(&realm, &dc, CREDENTIAL_IMPLICIT, "dc-1", NULL, 0, 0);
    /* What cannot be made leaves the one that is there alone. */
    struct credential before = dc;
    struct sign_key key;
    realm_dc_key(&realm, &key, "dc-1", 2);
    const struct ami_id dc_1 = id_of("dc-1");
    assert_status(credential_of_dc(&dc, &realm.mdms.net, &dc_1, 3, &key), AMI_BAD_ARGUMENT);
    assert_status(credential_of_mdms(&dc, &realm.mdms.net, &realm.mdms.enrol), AMI_BAD_ARGUMENT);
    assert_memory_equal(&dc, &before, sizeof dc);
    party_make(&i, &realm, &mdms);
    party_make(&r, &realm, &dc);
    assert_true(pair_handshake(&i, &r, &realm));
    assert_int_equal(channel_peer(&r.channel)->role, CREDENTIAL_MDMS);
    assert_int_equal(credential_left_s(channel_peer(&r.channel), NOW_S), INT64_MAX);
    /* Another network's MDMS that calls itself ours. */
    assert_ok(credential_of_mdms(&mdms, &elsewhere.mdms.net, &elsewhere.mdms.sign));
    struct credential genuine;
    assert_ok(credential_of_mdms(&genuine, &realm.mdms.net, &realm.mdms.sign));
    memcpy(mdms.shown, genuine.shown, genuine.shown_size);
    mdms.shown_size = genuine.shown_size;
    party_make(&i, &realm, &mdms);
    assert_false(pair_handshake(&i, &r, &realm));
    assert_int_equal(channel_why(&r.channel), FAULT_SIGNATURE);
}

/* --- refusals, each with its reason ----------------------------------------------------------- */

/* Alice dials dc-1; the DC must refuse for this reason, tell alice one byte, and hold nothing. */
static void expect_refusal(struct party *i, struct party *r, enum channel_fault why)
{
    static struct frame a, b;
    pair_start(i, r, &realm, &a);
    assert_int_equal(deliver(r, &a, &b).event, CHANNEL_NOTHING);
    assert_int_equal(deliver(i, &b, &a).event, CHANNEL_NOTHING);
    assert_int_equal(deliver(r, &a, &b).event, CHANNEL_FAILED);
    assert_string_equal(channel_fault_name(channel_why(&r->channel)), channel_fault_name(why));
    assert_int_equal(b.size, 1);
    assert_int_equal(b.b[0], CHANNEL_FRAME_ALERT);
    assert_null(channel_peer(&r->channel));
    assert_int_equal(deliver(i, &b, &a).event, CHANNEL_FAILED);
    assert_int_equal(a.size, 0);
    assert_int_equal(channel_why(&i->channel), FAULT_REFUSED);
    assert_non_null(channel_peer(&i->channel)); /* who refused has proven itself */
    const struct key_chain zero = {0};
    assert_memory_equal(&r->channel.receive, &zero, sizeof zero);
    assert_memory_equal(&i->channel.send, &zero, sizeof zero);
}

static void refused_credentials(void **state)
{
    (void)state;
    static const enum credential_kind kind[] = {CREDENTIAL_IMPLICIT, CREDENTIAL_CFL};
    struct credential dc, alice;
    struct party i, r;
    realm_credential(&realm, &dc, CREDENTIAL_IMPLICIT, "dc-1", NULL, 0, 0);
    party_make(&r, &realm, &dc);
    for (size_t k = 0; k < 2; k++) {
        realm_credential(&realm, &alice, kind[k], "alice", "1:", NOW_S - 100, NOW_S + 100);
        party_make(&i, &realm, &alice);
        assert_true(pair_handshake(&i, &r, &realm)); /* the control */

        r.revoked = alice.who.fingerprint;
        expect_refusal(&i, &r, FAULT_REVOKED);
        memset(&r.revoked, 0, sizeof r.revoked);

        r.welcome = id_of("bob");
        expect_refusal(&i, &r, FAULT_UNEXPECTED);
        r.welcome.size = 0;

        r.trust.kinds = CREDENTIAL_BIT(kind[1 - k]);
        realm_credential(&realm, &r.own, kind[1 - k], "dc-1", NULL, 0, 0);
        struct frame a, b;
        pair_start(&i, &r, &realm, &a);
        assert_int_equal(deliver(&r, &a, &b).event, CHANNEL_NOTHING);
        assert_int_equal(deliver(&i, &b, &a).event, CHANNEL_FAILED);
        assert_int_equal(channel_why(&i.channel), FAULT_NO_KIND);
        r.trust.kinds = CREDENTIAL_ALL_BITS;
        r.own = dc;

        realm_credential(&realm, &alice, kind[k], "alice", "1:", NOW_S - 100, NOW_S - 1);
        party_make(&i, &realm, &alice);
        expect_refusal(&i, &r, FAULT_EXPIRED);
        realm_credential(&realm, &alice, kind[k], "alice", "1:", NOW_S + 1, NOW_S + 100);
        party_make(&i, &realm, &alice);
        expect_refusal(&i, &r, FAULT_FUTURE);

        /* Issued elsewhere; alice claims to be in our network. */
        realm_credential(&elsewhere, &alice, kind[k], "alice", "1:", NOW_S - 100, NOW_S + 100);
        party_make(&i, &realm, &alice);
        expect_refusal(&i, &r, FAULT_OTHER_NETWORK);
    }
}

/* The issuer's part missing: whoever has no key from the MDMS, or no issuer's signature. */
static void made_without_the_issuer(void **state)
{
    (void)state;
    struct credential dc, alice, mallory;
    struct party i, r;
    realm_credential(&realm, &dc, CREDENTIAL_IMPLICIT, "dc-1", NULL, 0, 0);
    party_make(&r, &realm, &dc);
    /* Implicit: alice's certificate in a stranger's hand. */
    realm_credential(&realm, &alice, CREDENTIAL_IMPLICIT, "alice", "3:", 0, 0);
    realm_credential(&realm, &mallory, CREDENTIAL_IMPLICIT, "mallory", "0:", 0, 0);
    memcpy(mallory.shown, alice.shown, alice.shown_size);
    mallory.shown_size = alice.shown_size;
    party_make(&i, &realm, &mallory);
    expect_refusal(&i, &r, FAULT_SIGNATURE);
    /* A higher label in an own certificate. */
    realm_credential(&realm, &mallory, CREDENTIAL_IMPLICIT, "mallory", "0:", 0, 0);
    const size_t level_at = 1 + SM3_BYTES + 1 + strlen("mallory") + 4;
    assert_int_equal(mallory.shown[level_at], 0);
    mallory.shown[level_at] = 3;
    party_make(&i, &realm, &mallory);
    expect_refusal(&i, &r, FAULT_SIGNATURE);
    /* CFL: the same, where the issuer's signature tells. */
    realm_credential(&realm, &mallory, CREDENTIAL_CFL, "mallory", "0:", 0, 0);
    mallory.shown[level_at] = 3;
    party_make(&i, &realm, &mallory);
    expect_refusal(&i, &r, FAULT_SIGNATURE); /* which is over the identity that it was made for */
    uint8_t identity[IDENTITY_BYTES_MAX];
    struct writer w = writer_on(identity, sizeof identity);
    mallory.who.label.level = 3;
    identity_write(&w, &mallory.who);
    mallory.z = sm2_z(writer_span(&w), &mallory.key.p);
    party_make(&i, &realm, &mallory);
    expect_refusal(&i, &r, FAULT_WRONG_CHAIN);
    /* CFL: signed by another issuer for our network. */
    struct realm forger = elsewhere;
    forger.mdms.net.id = realm.mdms.net.id;
    realm_credential(&forger, &mallory, CREDENTIAL_CFL, "mallory", "3:", 0, 0);
    party_make(&i, &realm, &mallory);
    expect_refusal(&i, &r, FAULT_WRONG_CHAIN);
    /* CFL: alice's certificate in a stranger's hand. */
    realm_credential(&realm, &alice, CREDENTIAL_CFL, "alice", "3:", 0, 0);
    memcpy(mallory.shown, alice.shown, alice.shown_size);
    party_make(&i, &realm, &mallory);
    assert_int_equal(mallory.shown_size, alice.shown_size + 2);
    i.own.shown_size = alice.shown_size;
    expect_refusal(&i, &r, FAULT_SIGNATURE);
}

static void a_cfl_certificate_of_another_time_is_stale(void **state)
{
    (void)state;
    struct credential alice;
    struct party r;
    uint8_t shown[CREDENTIAL_BYTES_MAX], nonce[CREDENTIAL_NONCE_BYTES] = {1}, other[32] = {2};
    struct credential_peer peer;
    realm_credential(&realm, &alice, CREDENTIAL_CFL, "alice", "3:", 0, 0);
    party_make(&r, &realm, &alice);
    struct credential_moment at = {SUITE_WALL_MS, nonce};
    struct span s = span_of(shown, credential_show(shown, &alice, &at));
    assert_int_equal(credential_check(&peer, CREDENTIAL_CFL, s, &r.trust, &at), FAULT_NONE);
    at.verifier_nonce = other;
    assert_int_equal(credential_check(&peer, CREDENTIAL_CFL, s, &r.trust, &at), FAULT_STALE);
    at.verifier_nonce = nonce;
    at.wall_ms = SUITE_WALL_MS + CREDENTIAL_SKEW_MS;
    assert_int_equal(credential_check(&peer, CREDENTIAL_CFL, s, &r.trust, &at), FAULT_NONE);
    at.wall_ms = SUITE_WALL_MS + CREDENTIAL_SKEW_MS + 1;
    assert_int_equal(credential_check(&peer, CREDENTIAL_CFL, s, &r.trust, &at), FAULT_STALE);
    at.wall_ms = SUITE_WALL_MS - CREDENTIAL_SKEW_MS - 1;
    assert_int_equal(credential_check(&peer, CREDENTIAL_CFL, s, &r.trust, &at), FAULT_STALE);
}

static void every_cut_credential_is_malformed(void **state)
{
    (void)state;
    static const enum credential_kind kind[] = {CREDENTIAL_IMPLICIT, CREDENTIAL_CFL};
    const uint8_t nonce[CREDENTIAL_NONCE_BYTES] = {1};
    const struct credential_moment at = {SUITE_WALL_MS, nonce};
    for (size_t k = 0; k < 2; k++) {
        struct credential alice;
        struct party r;
        struct credential_peer peer;
        uint8_t shown[CREDENTIAL_BYTES_MAX];
        realm_credential(&realm, &alice, kind[k], "alice", "3:", 0, 0);
        party_make(&r, &realm, &alice);
        size_t size = credential_show(shown, &alice, &at);
        assert_int_equal(credential_check(&peer, kind[k], span_of(shown, size), &r.trust, &at),
                         FAULT_NONE);
        for (size_t cut = 0; cut < size; cut++)
            assert_int_equal(credential_check(&peer, kind[k], span_of(shown, cut), &r.trust, &at),
                             FAULT_MALFORMED);
        shown[size] = 0;
        assert_int_equal(credential_check(&peer, kind[k], span_of(shown, size + 1), &r.trust, &at),
                         FAULT_MALFORMED);
        /* Roles, labels and dates that cannot be. */
        static const struct {
            size_t at;
            uint8_t value;
        } bad[] = {{0, 0},
                   {0, 4},
                   {1 + SM3_BYTES + 1 + 5 + 4, LABEL_LEVEL_MAX + 1},
                   {1 + SM3_BYTES + 1 + 5 + 5, 1 << LABEL_CATEGORIES},
                   {1 + SM3_BYTES + 1 + 5 + 6, 0x80},
                   {1 + SM3_BYTES + 1 + 5 + 6, 0x01}};
        for (size_t b = 0; b < sizeof bad / sizeof bad[0]; b++) {
            uint8_t was = shown[bad[b].at];
            shown[bad[b].at] = bad[b].value;
            assert_int_equal(credential_check(&peer, kind[k], span_of(shown, size), &r.trust, &at),
                             FAULT_MALFORMED);
            shown[bad[b].at] = was;
        }
    }
}

static void suites_by_name(void **state)
{
    (void)state;
    uint8_t set = 0;
    assert_ok(channel_suites_parse(&set, "sm4-gcm"));
    assert_int_equal(set, CHANNEL_SM4_GCM);
    assert_ok(channel_suites_parse(&set, "sm4-ctr-hmac-sm3"));
    assert_int_equal(set, CHANNEL_SM4_CTR_HMAC);
    assert_ok(channel_suites_parse(&set, "sm4-ctr-hmac-sm3,sm4-gcm"));
    assert_int_equal(set, CHANNEL_SUITES_ALL);
    static const char *const bad[] = {"",         ",",       "sm4-gcm,", ",sm4-gcm",       "sm4-gc",
                                      "sm4-gcmx", "SM4-GCM", "unknown",  "sm4-gcm,sm4-gcm"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_status(channel_suites_parse(&set, bad[i]), AMI_BAD_ARGUMENT);
    assert_int_equal(set, CHANNEL_SUITES_ALL);
}

static void suites_and_kinds_without_a_common_one(void **state)
{
    (void)state;
    struct credential a, b;
    struct party i, r;
    struct frame x, y;
    realm_credential(&realm, &a, CREDENTIAL_IMPLICIT, "dc-1", NULL, 0, 0);
    realm_credential(&realm, &b, CREDENTIAL_IMPLICIT, "dc-2", NULL, 0, 0);
    party_make(&i, &realm, &a);
    party_make(&r, &realm, &b);
    i.config.suites = CHANNEL_SM4_GCM;
    r.config.suites = CHANNEL_SM4_CTR_HMAC;
    pair_start(&i, &r, &realm, &x);
    assert_int_equal(deliver(&r, &x, &y).event, CHANNEL_FAILED);
    assert_int_equal(channel_why(&r.channel), FAULT_NO_SUITE);
    assert_int_equal(y.size, 1);
    r.config.suites = CHANNEL_SUITES_ALL;
    i.trust.kinds = CREDENTIAL_BIT(CREDENTIAL_X509);
    pair_start(&i, &r, &realm, &x);
    assert_int_equal(deliver(&r, &x, &y).event, CHANNEL_FAILED);
    assert_int_equal(channel_why(&r.channel), FAULT_NO_KIND);
}

static void two_parties(struct party *i, struct party *r, struct credential *dc_1,
                        struct credential *dc_2)
{
    realm_credential(&realm, dc_1, CREDENTIAL_IMPLICIT, "dc-1", NULL, 0, 0);
    realm_credential(&realm, dc_2, CREDENTIAL_IMPLICIT, "dc-2", NULL, 0, 0);
    party_make(i, &realm, dc_1);
    party_make(r, &realm, dc_2);
}

/* A responder that answers with a suite that was not offered, or with none. */
static void only_a_suite_that_was_offered(void **state)
{
    (void)state;
    struct credential dc_1, dc_2;
    struct party i, r;
    struct frame a, b;
    two_parties(&i, &r, &dc_1, &dc_2);
    for (uint8_t suite = 0; suite < 8; suite++) {
        i.config.suites = CHANNEL_SM4_GCM;
        pair_start(&i, &r, &realm, &a);
        deliver(&r, &a, &b);
        b.b[2] = suite;
        const bool good = suite == CHANNEL_SM4_GCM;
        assert_int_equal(deliver(&i, &b, &a).event, good ? CHANNEL_NOTHING : CHANNEL_FAILED);
        assert_int_equal(channel_why(&i.channel), good ? FAULT_NONE : FAULT_NO_SUITE);
    }
}

/* What no peer of ours sends. (What an adversary sends is the laboratory's: `ami-sim lab attacks`.)
 */
static void plaintext_peers_and_garbage(void **state)
{
    (void)state;
    struct credential dc_1, dc_2;
    struct party i, r;
    struct frame a, b;
    two_parties(&i, &r, &dc_1, &dc_2);
    static const uint8_t hello[] = {1, 0x40, 1, 2, 3}; /* wire version, type, .. */
    pair_start(&i, &r, &realm, &a);
    memcpy(a.b, hello, sizeof hello);
    a.size = sizeof hello;
    assert_int_equal(deliver(&r, &a, &b).event, CHANNEL_FAILED);
    assert_int_equal(channel_why(&r.channel), FAULT_PLAINTEXT);
    pair_start(&i, &r, &realm, &a);
    a.b[1] = CHANNEL_VERSION + 1;
    assert_int_equal(deliver(&r, &a, &b).event, CHANNEL_FAILED);
    assert_int_equal(channel_why(&r.channel), FAULT_VERSION);
    /* Points that are none: infinity has no encoding, x beyond p, x without a y. */
    for (int bad = 0; bad < 3; bad++) {
        pair_start(&i, &r, &realm, &a);
        uint8_t *e = a.b + CHANNEL_FIRST_BYTES - SM2_POINT_BYTES;
        if (bad == 0)
            memset(e, 0, SM2_POINT_BYTES);
        if (bad == 1)
            memset(e + 1, 0xff, SM2_POINT_BYTES - 1);
        if (bad == 2) {
            point p;
            point_bytes encoded;
            do {
                e[32]++;
                memcpy(encoded.b, e, sizeof encoded.b);
            } while (point_decode(&p, &encoded) == AMI_OK);
        }
        assert_int_equal(deliver(&r, &a, &b).event, CHANNEL_FAILED);
        assert_int_equal(channel_why(&r.channel), FAULT_POINT);
    }
    /* A channel that is down takes nothing and answers nothing. */
    assert_int_equal(deliver(&r, &a, &b).event, CHANNEL_FAILED);
    assert_int_equal(b.size, 0);
}

/* A source of randomness that repeats itself repeats nothing as long as the time moves on. */
static void nonces_are_hedged_with_the_time(void **state)
{
    (void)state;
    struct credential dc_1, dc_2;
    struct party i, r;
    two_parties(&i, &r, &dc_1, &dc_2);
    const uint8_t stuck[CHANNEL_RANDOM_BYTES] = {0};
    uint8_t one[CHANNEL_FIRST_BYTES], two[CHANNEL_FIRST_BYTES], three[CHANNEL_FIRST_BYTES];
    channel_start(&i.channel, &i.config, true, stuck, 1000);
    channel_first(&i.channel, one);
    channel_start(&i.channel, &i.config, true, stuck, 1001);
    channel_first(&i.channel, two);
    channel_start(&i.channel, &i.config, true, stuck, 1000);
    channel_first(&i.channel, three);
    const size_t head = 4 + SM3_BYTES;
    assert_memory_not_equal(one + head, two + head, CREDENTIAL_NONCE_BYTES);
    assert_memory_not_equal(one + head + 32, two + head + 32, SM2_POINT_BYTES);
    assert_memory_equal(one, three, sizeof one); /* the machine itself draws nothing */
    for (size_t at = 0; at < sizeof stuck; at += 48) {
        uint8_t random[CHANNEL_RANDOM_BYTES] = {0};
        random[at] = 1; /* and the time alone is never all */
        channel_start(&i.channel, &i.config, true, random, 1000);
        channel_first(&i.channel, two);
        assert_memory_not_equal(one + head, two + head, CREDENTIAL_NONCE_BYTES);
    }
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_dcs_speak),
        cmocka_unit_test(every_kind_with_every_other_under_each_suite),
        cmocka_unit_test(the_mdms_speaks_under_its_pinned_key),
        cmocka_unit_test(refused_credentials),
        cmocka_unit_test(made_without_the_issuer),
        cmocka_unit_test(a_cfl_certificate_of_another_time_is_stale),
        cmocka_unit_test(every_cut_credential_is_malformed),
        cmocka_unit_test(suites_by_name),
        cmocka_unit_test(suites_and_kinds_without_a_common_one),
        cmocka_unit_test(only_a_suite_that_was_offered),
        cmocka_unit_test(plaintext_peers_and_garbage),
        cmocka_unit_test(nonces_are_hedged_with_the_time),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
