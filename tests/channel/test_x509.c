/* X.509 credentials made by OpenSSL's command line: whole channels with them, and each reason for
 * which one is refused. */
#include "tests/channel/certificates.h"

#include "crypto/secret.h"
#include "tests/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct realm realm, elsewhere;
static char dir[] = "/tmp/amiledger-x509-XXXXXX";
static struct x509_trust *with_lists, *without_lists, *other_root;

#define FILE_BYTES_MAX 65536

/* A file made by the script; the bytes stay until the eighth call after. */
static struct span file(const char *name)
{
    static uint8_t bytes[8][FILE_BYTES_MAX];
    static unsigned at;
    char path[256];
    uint8_t *out = bytes[at++ % 8];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        fail_msg("there is no %s", path);
    size_t size = fread(out, 1, FILE_BYTES_MAX, f);
    fclose(f);
    return span_of(out, size);
}

static struct x509_trust *trust_of(const char *roots, const char *crls)
{
    char why[200] = "";
    struct span none = {NULL, 0};
    struct x509_trust *t =
        x509_trust_new(file(roots), crls == NULL ? none : file(crls), why, sizeof why);
    if (t == NULL)
        fail_msg("%s", why);
    return t;
}

static int setup(void **state)
{
    (void)state;
    realm_make(&realm, "grid", 1);
    realm_make(&elsewhere, "other", 2);
    if (mkdtemp(dir) == NULL)
        return -1;
    if (certificates_make(dir, &realm) != 0)
        return -1;
    with_lists = trust_of("root.pem", "all.crl");
    assert_ok(x509_trust_operators(with_lists, file("middle.pem"), label_of("2:ledger+metering")));
    without_lists = trust_of("root.pem", NULL);
    other_root = trust_of("other.pem", "other.crl");
    return 0;
}

static int teardown(void **state)
{
    char command[128];
    (void)state;
    x509_trust_free(with_lists);
    x509_trust_free(without_lists);
    x509_trust_free(other_root);
    x509_trust_free(NULL);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

static enum ami_status load(struct credential *out, const struct network *net, const char *name)
{
    char key[64], chain[64], why[300] = "";
    snprintf(key, sizeof key, "%s.key", name);
    snprintf(chain, sizeof chain, "%s.chain", name);
    sm2_private own;
    memset(out, 0, sizeof *out);
    AMI_TRY(x509_key(&own, file(key)));
    enum ami_status status = x509_credential(out, net, &own, file(chain), why, sizeof why);
    assert_int_equal(status != AMI_OK, why[0] != '\0');
    return status;
}

static void channels_between_certificates(void **state)
{
    (void)state;
    struct credential dc_1, dc_2, alice, implicit, cfl;
    struct party i, r;
    assert_ok(load(&dc_1, &realm.mdms.net, "dc-1"));
    assert_ok(load(&dc_2, &realm.mdms.net, "dc-2"));
    assert_ok(load(&alice, &realm.mdms.net, "alice"));
    realm_credential(&realm, &implicit, CREDENTIAL_IMPLICIT, "dc-3", NULL, 0, 0);
    realm_credential(&realm, &cfl, CREDENTIAL_CFL, "dc-4", NULL, 0, 0);
    const struct credential *const left[] = {&dc_1, &alice, &implicit, &cfl};
    for (size_t n = 0; n < 4; n++) {
        party_make(&i, &realm, left[n]);
        party_make(&r, &realm, &dc_2);
        i.trust.x509 = r.trust.x509 = with_lists;
        assert_true(pair_handshake(&i, &r, &realm));
        assert_true(pair_say(&i, &r, "vote", 4));
        assert_true(pair_say(&r, &i, "vote", 4));
        assert_string_equal(channel_peer(&i.channel)->name.text, "dc-2");
        assert_int_equal(channel_peer(&i.channel)->kind, CREDENTIAL_X509);
        assert_int_equal(channel_peer(&r.channel)->kind, left[n]->who.kind);
    }
    party_make(&i, &realm, &alice);
    i.trust.x509 = with_lists;
    assert_true(pair_handshake(&i, &r, &realm));
    const struct credential_identity *who = channel_peer(&r.channel);
    assert_int_equal(who->role, CREDENTIAL_OPERATOR);
    assert_int_equal(who->label.level, 2);
    assert_int_equal(who->label.categories, LABEL_LEDGER | LABEL_METERING);
    assert_int_equal(who->from_s, CERTIFICATES_FROM_S);
    assert_int_equal(who->until_s, CERTIFICATES_UNTIL_S);
    assert_int_equal(credential_left_s(who, CERTIFICATES_UNTIL_S - 5), 5);
    assert_memory_equal(&who->fingerprint, &alice.who.fingerprint, SM3_BYTES);
}

/* Whoever has no anchor for X.509 takes none, whatever its set of kinds says. */
static void without_an_anchor_there_is_no_x509(void **state)
{
    (void)state;
    struct credential dc_1, dc_2;
    struct party i, r;
    assert_ok(load(&dc_1, &realm.mdms.net, "dc-1"));
    realm_credential(&realm, &dc_2, CREDENTIAL_IMPLICIT, "dc-2", NULL, 0, 0);
    party_make(&i, &realm, &dc_1);
    party_make(&r, &realm, &dc_2);
    assert_false(pair_handshake(&i, &r, &realm));
    assert_int_equal(channel_why(&r.channel), FAULT_NO_KIND);
}

static enum channel_fault check(const char *name, const struct x509_trust *anchor, int64_t wall_ms)
{
    struct credential own;
    struct credential_peer peer;
    struct party r;
    uint8_t shown[CREDENTIAL_BYTES_MAX];
    const uint8_t nonce[CREDENTIAL_NONCE_BYTES] = {0};
    const struct credential_moment at = {wall_ms, nonce};
    assert_ok(load(&own, &realm.mdms.net, name));
    party_make(&r, &realm, &own);
    r.trust.x509 = anchor;
    size_t size = credential_show(shown, &own, &at);
    return credential_check(&peer, CREDENTIAL_X509, span_of(shown, size), &r.trust, &at);
}

static void refused_with_the_reason(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum channel_fault fault;
    } cases[] = {
        {"dc-1", FAULT_NONE},
        {"mdms", FAULT_UNEXPECTED}, /* the network has a key for it */
        {"alice", FAULT_NONE},
        {"expired", FAULT_EXPIRED},
        {"future", FAULT_FUTURE},
        {"revoked", FAULT_REVOKED},
        {"no-signing", FAULT_USAGE},
        {"no-server", FAULT_USAGE},
        {"authority-leaf", FAULT_USAGE},
        {"usurper", FAULT_USAGE},
        {"alone", FAULT_SELF_SIGNED},
        {"gap", FAULT_WRONG_CHAIN},
        {"lax", FAULT_WRONG_CHAIN},
        {"stranger", FAULT_WRONG_CHAIN},
        {"empty-id", FAULT_WRONG_CHAIN},
    };
    for (size_t n = 0; n < sizeof cases / sizeof cases[0]; n++) {
        enum channel_fault fault = check(cases[n].name, with_lists, SUITE_WALL_MS);
        if (fault != cases[n].fault)
            fail_msg("%s: %s instead of %s", cases[n].name, channel_fault_name(fault),
                     channel_fault_name(cases[n].fault));
    }
    /* The time is what the caller says. */
    assert_int_equal(check("expired", with_lists, (CERTIFICATES_EXPIRED_S - 1) * 1000), FAULT_NONE);
    assert_int_equal(check("dc-1", with_lists, (CERTIFICATES_UNTIL_S + 1) * 1000), FAULT_EXPIRED);
    assert_int_equal(check("dc-1", with_lists, (CERTIFICATES_FROM_S - 1) * 1000), FAULT_FUTURE);
    /* What the lists do, and what becomes of a network that has none. */
    assert_int_equal(check("revoked", without_lists, SUITE_WALL_MS), FAULT_NONE);
    assert_int_equal(check("dc-1", other_root, SUITE_WALL_MS), FAULT_WRONG_CHAIN);
    struct x509_trust *older = trust_of("root.pem", "empty.crl");
    assert_int_equal(check("revoked", older, SUITE_WALL_MS), FAULT_NONE);
    x509_trust_free(older);
    struct x509_trust *one_list = trust_of("root.pem", "root.crl");
    assert_int_equal(check("dc-1", one_list, SUITE_WALL_MS), FAULT_NO_CRL);
    x509_trust_free(one_list);
    /* A self-signed certificate stays what it is when it is among the anchors. */
    struct x509_trust *itself = trust_of("alone.pem", NULL);
    assert_int_equal(check("alone", itself, SUITE_WALL_MS), FAULT_SELF_SIGNED);
    x509_trust_free(itself);
}

/* Who vouches for machines vouches for people only where it was told so, and up to a label. */
static void operators_need_an_authority_of_their_own(void **state)
{
    (void)state;
    static const struct {
        const char *authorities, *label;
        enum channel_fault fault;
    } cases[] = {
        {NULL, NULL, FAULT_ISSUER}, /* the safe side is what one gets untold */
        {"middle.pem", "2:ledger+metering", FAULT_NONE},
        {"root.pem", "3:ledger+metering+operation", FAULT_NONE},
        {"middle.pem", "1:ledger+metering", FAULT_LABEL},
        {"middle.pem", "3:ledger", FAULT_LABEL},
        {"other.pem", "3:ledger+metering", FAULT_ISSUER},
        {"alice.pem", "3:ledger+metering", FAULT_ISSUER}, /* nobody vouches for itself */
    };
    for (size_t n = 0; n < sizeof cases / sizeof cases[0]; n++) {
        struct x509_trust *t = trust_of("root.pem", "all.crl");
        if (cases[n].authorities != NULL)
            assert_ok(
                x509_trust_operators(t, file(cases[n].authorities), label_of(cases[n].label)));
        assert_string_equal(channel_fault_name(check("alice", t, SUITE_WALL_MS)),
                            channel_fault_name(cases[n].fault));
        assert_int_equal(check("dc-1", t, SUITE_WALL_MS), FAULT_NONE);
        x509_trust_free(t);
    }
    struct x509_trust *t = trust_of("root.pem", NULL);
    assert_status(x509_trust_operators(t, file("dc-1.key"), label_of("3:")), AMI_BAD_ENCODING);
    x509_trust_free(t);
}

/* An MDMS asks for a certificate over the key that the network has for it, an authority makes it,
 * and DCs take it; nobody else's authority could. */
static void an_mdms_gets_a_certificate_over_its_own_key(void **state)
{
    (void)state;
    char request[X509_REQUEST_BYTES_MAX], command[512], why[300] = "";
    struct credential own, dc;
    struct party i, r;
    const struct network *net = &realm.mdms.net;
    const struct credential_identity who = {
        .role = CREDENTIAL_MDMS, .network = net->id, .name = net->name};
    size_t size = x509_request(request, &who, &realm.mdms.sign);
    assert_true(size > 0);
    snprintf(command, sizeof command, "%s/own-mdms.csr", dir);
    FILE *out = fopen(command, "w");
    assert_non_null(out);
    assert_int_equal(fwrite(request, 1, size, out), size);
    assert_int_equal(fclose(out), 0);
    /* The authority copies the extensions of the request, and adds the key identifiers. */
    snprintf(command, sizeof command, "tests/channel/sign_request %s own-mdms", dir);
    assert_int_equal(system(command), 0);
    assert_ok(
        x509_credential(&own, net, &realm.mdms.sign, file("own-mdms.chain"), why, sizeof why));
    assert_int_equal(own.who.role, CREDENTIAL_MDMS);
    assert_int_equal(own.chain_until_s != 0, 1);
    realm_credential(&realm, &dc, CREDENTIAL_IMPLICIT, "dc-1", NULL, 0, 0);
    party_make(&i, &realm, &own);
    party_make(&r, &realm, &dc);
    r.trust.x509 = with_lists;
    assert_true(pair_handshake(&i, &r, &realm));
    assert_int_equal(channel_peer(&r.channel)->role, CREDENTIAL_MDMS);
    assert_int_equal(channel_peer(&r.channel)->kind, CREDENTIAL_X509);
    /* Another network's MDMS has another key. */
    assert_status(
        x509_credential(&own, net, &elsewhere.mdms.sign, file("own-mdms.chain"), why, sizeof why),
        AMI_BAD_CRYPTO);
}

/* What is shown is good only as long as all of it is. */
static void a_chain_ends_with_its_first_certificate(void **state)
{
    (void)state;
    struct credential own;
    const int64_t leaf = CERTIFICATES_UNTIL_S, authority = CERTIFICATES_ENDING_UNTIL_S;
    assert_ok(load(&own, &realm.mdms.net, "early"));
    assert_int_equal(own.who.until_s, leaf);
    assert_int_equal(credential_own_left_s(&own, authority - 7), 7);
    assert_int_equal(check("early", without_lists, (authority + 1) * 1000), FAULT_EXPIRED);
    assert_ok(load(&own, &realm.mdms.net, "dc-1"));
    assert_int_equal(credential_own_left_s(&own, leaf - 7), 7);
    realm_credential(&realm, &own, CREDENTIAL_IMPLICIT, "dc-3", NULL, 0, 0);
    assert_true(credential_own_left_s(&own, leaf) == INT64_MAX);
}

/* An authority makes no MDMS: name and key are the network's. */
static void the_mdms_is_pinned(void **state)
{
    (void)state;
    struct credential own;
    struct credential_peer peer;
    struct party r;
    struct network net = realm.mdms.net;
    const uint8_t nonce[CREDENTIAL_NONCE_BYTES] = {0};
    const struct credential_moment at = {SUITE_WALL_MS, nonce};
    assert_ok(load(&own, &net, "mdms"));
    const struct span shown = span_of(own.shown, own.shown_size);
    party_make(&r, &realm, &own);
    r.trust.x509 = with_lists;
    r.trust.net = &net;
    assert_int_equal(credential_check(&peer, CREDENTIAL_X509, shown, &r.trust, &at),
                     FAULT_UNEXPECTED);
    net.sign = own.key.p;
    assert_int_equal(credential_check(&peer, CREDENTIAL_X509, shown, &r.trust, &at), FAULT_NONE);
    net.name = id_of("grid-2");
    assert_int_equal(credential_check(&peer, CREDENTIAL_X509, shown, &r.trust, &at),
                     FAULT_UNEXPECTED);
}

static void certificates_that_cannot_be_held(void **state)
{
    (void)state;
    struct credential out;
    char why[300] = "";
    static const char *const bad[] = {"no-label", "bad-label", "odd-role",
                                      "no-urn",   "two-names", "p256"};
    for (size_t n = 0; n < sizeof bad / sizeof bad[0]; n++)
        assert_status(load(&out, &realm.mdms.net, bad[n]), AMI_BAD_ENCODING);
    assert_status(load(&out, &realm.mdms.net, "foreign"), AMI_WRONG_CHAIN);
    assert_status(load(&out, &elsewhere.mdms.net, "dc-1"), AMI_WRONG_CHAIN);
    sm2_private key;
    assert_ok(x509_key(&key, file("dc-2.key")));
    assert_status(x509_credential(&out, &realm.mdms.net, &key, file("dc-1.chain"), why, sizeof why),
                  AMI_BAD_CRYPTO);
    assert_status(x509_credential(&out, &realm.mdms.net, &key, file("dc-2.key"), why, sizeof why),
                  AMI_BAD_ENCODING);
    assert_status(x509_key(&key, file("locked.key")), AMI_BAD_ENCODING);
    assert_status(x509_key(&key, file("dc-1.chain")), AMI_BAD_ENCODING);
    assert_status(x509_key(&key, file("p256.key")), AMI_BAD_ENCODING);
    const uint8_t zero[sizeof out] = {0};
    assert_memory_equal(&out, zero, sizeof out); /* nothing of a key is left */
    assert_null(x509_trust_new(file("dc-1.key"), span_of(NULL, 0), why, sizeof why));
    assert_null(x509_trust_new(file("root.pem"), file("root.pem"), why, sizeof why));
    assert_null(x509_trust_new(span_of(NULL, 0), span_of(NULL, 0), why, sizeof why));
}

/* The holder's key is proven by the transcript alone: another's chain is of no use. */
static void anothers_chain_and_another_network(void **state)
{
    (void)state;
    struct credential dc_1, dc_2, mallory;
    struct party i, r;
    assert_ok(load(&dc_1, &realm.mdms.net, "dc-1"));
    assert_ok(load(&dc_2, &realm.mdms.net, "dc-2"));
    assert_ok(load(&mallory, &realm.mdms.net, "alice"));
    memcpy(mallory.shown, dc_1.shown, dc_1.shown_size);
    mallory.shown_size = dc_1.shown_size;
    party_make(&i, &realm, &mallory);
    party_make(&r, &realm, &dc_2);
    i.trust.x509 = r.trust.x509 = with_lists;
    assert_false(pair_handshake(&i, &r, &realm));
    assert_int_equal(channel_why(&r.channel), FAULT_SIGNATURE);
    /* And costs no look at its issuers, which would have refused it, or at the lists. */
    party_make(&i, &realm, &mallory);
    party_make(&r, &realm, &dc_2);
    i.trust.x509 = with_lists;
    r.trust.x509 = other_root;
    assert_false(pair_handshake(&i, &r, &realm));
    assert_int_equal(channel_why(&r.channel), FAULT_SIGNATURE);
    party_make(&i, &realm, &dc_1); /* as it does to who holds the key */
    party_make(&r, &realm, &dc_2);
    i.trust.x509 = with_lists;
    r.trust.x509 = other_root;
    assert_false(pair_handshake(&i, &r, &realm));
    assert_int_equal(channel_why(&r.channel), FAULT_WRONG_CHAIN);
    /* Good certificates of one authority, for two networks. */
    struct credential_peer peer;
    const uint8_t nonce[CREDENTIAL_NONCE_BYTES] = {0};
    const struct credential_moment at = {SUITE_WALL_MS, nonce};
    party_make(&r, &elsewhere, &dc_2);
    r.trust.x509 = with_lists;
    assert_int_equal(credential_check(&peer, CREDENTIAL_X509, span_of(dc_1.shown, dc_1.shown_size),
                                      &r.trust, &at),
                     FAULT_OTHER_NETWORK);
}

/* What is on a list of revoked ones stays on it however its holder comes to be shown. */
static void another_chain_has_no_other_fingerprint(void **state)
{
    (void)state;
    struct credential own, longer;
    struct credential_peer peer[2];
    struct party r;
    char why[300] = "";
    static char pem[2 * FILE_BYTES_MAX];
    const uint8_t nonce[CREDENTIAL_NONCE_BYTES] = {0};
    const struct credential_moment at = {SUITE_WALL_MS, nonce};
    assert_ok(load(&own, &realm.mdms.net, "dc-1"));
    struct span chain = file("dc-1.chain"), more = file("middle.pem");
    memcpy(pem, chain.data, chain.size);
    memcpy(pem + chain.size, more.data, more.size);
    assert_ok(x509_credential(&longer, &realm.mdms.net, &own.key,
                              span_of(pem, chain.size + more.size), why, sizeof why));
    assert_true(longer.shown_size > own.shown_size);
    assert_memory_equal(&longer.who.fingerprint, &own.who.fingerprint, SM3_BYTES);
    party_make(&r, &realm, &own);
    r.trust.x509 = with_lists;
    const struct credential *const shown[] = {&own, &longer};
    for (size_t n = 0; n < 2; n++) {
        struct span bytes = span_of(shown[n]->shown, shown[n]->shown_size);
        assert_int_equal(credential_check(&peer[n], CREDENTIAL_X509, bytes, &r.trust, &at),
                         FAULT_NONE);
        assert_memory_equal(&peer[n].who.fingerprint, &own.who.fingerprint, SM3_BYTES);
    }
    r.revoked = own.who.fingerprint;
    assert_int_equal(credential_check(&peer[1], CREDENTIAL_X509,
                                      span_of(longer.shown, longer.shown_size), &r.trust, &at),
                     FAULT_REVOKED);
}

/* What a certificate says, for who revokes it and has neither its key nor its roots. */
static void an_identity_is_that_of_its_holder(void **state)
{
    (void)state;
    struct credential own;
    struct credential_identity who;
    assert_ok(load(&own, &realm.mdms.net, "alice"));
    assert_ok(x509_identity(&who, file("alice.chain")));
    assert_int_equal(who.kind, CREDENTIAL_X509);
    assert_int_equal(who.role, CREDENTIAL_OPERATOR);
    assert_true(ami_id_equal(&who.name, &own.who.name));
    assert_memory_equal(&who.network, &realm.mdms.net.id, sizeof who.network);
    assert_memory_equal(&who.fingerprint, &own.who.fingerprint, SM3_BYTES);
    assert_int_equal(who.until_s, own.who.until_s);
    static const char *const bad[] = {"alice.key", "root.pem", "no-urn.chain", "p256.chain"};
    for (size_t n = 0; n < sizeof bad / sizeof bad[0]; n++)
        assert_status(x509_identity(&who, file(bad[n])), AMI_BAD_ENCODING);
    assert_status(x509_identity(&who, span_of(NULL, 0)), AMI_BAD_ENCODING);
}

static void every_cut_and_every_altered_chain(void **state)
{
    (void)state;
    struct credential own;
    struct credential_peer peer;
    struct party r;
    const uint8_t nonce[CREDENTIAL_NONCE_BYTES] = {0};
    const struct credential_moment at = {SUITE_WALL_MS, nonce};
    assert_ok(load(&own, &realm.mdms.net, "dc-1"));
    party_make(&r, &realm, &own);
    r.trust.x509 = without_lists;
    for (size_t cut = 0; cut < own.shown_size; cut++)
        assert_int_equal(
            credential_check(&peer, CREDENTIAL_X509, span_of(own.shown, cut), &r.trust, &at),
            FAULT_MALFORMED);
    for (size_t n = 0; n < own.shown_size; n += 1 + n % 3) {
        own.shown[n] ^= 1;
        assert_int_not_equal(credential_check(&peer, CREDENTIAL_X509,
                                              span_of(own.shown, own.shown_size), &r.trust, &at),
                             FAULT_NONE);
        own.shown[n] ^= 1;
    }
    assert_int_equal(
        credential_check(&peer, CREDENTIAL_X509, span_of(own.shown, own.shown_size), &r.trust, &at),
        FAULT_NONE);
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(channels_between_certificates),
        cmocka_unit_test(without_an_anchor_there_is_no_x509),
        cmocka_unit_test(refused_with_the_reason),
        cmocka_unit_test(operators_need_an_authority_of_their_own),
        cmocka_unit_test(an_mdms_gets_a_certificate_over_its_own_key),
        cmocka_unit_test(a_chain_ends_with_its_first_certificate),
        cmocka_unit_test(the_mdms_is_pinned),
        cmocka_unit_test(certificates_that_cannot_be_held),
        cmocka_unit_test(anothers_chain_and_another_network),
        cmocka_unit_test(another_chain_has_no_other_fingerprint),
        cmocka_unit_test(an_identity_is_that_of_its_holder),
        cmocka_unit_test(every_cut_and_every_altered_chain),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
