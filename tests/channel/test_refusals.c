/* Every reason for which a credential is refused, for each kind of credential that can have it, in
 * whole handshakes, whoever of the two sides shows it: who refuses knows the reason, and the other
 * hears one byte.
 *
 *                  implicit        x509            cfl
 *   expired        operator        DC, operator    DC, operator
 *   future         operator        DC              DC, operator
 *   revoked        operator, list  DC, lists       operator, list
 *   wrong use      by role         key usage       by role
 *   self-signed    nobody's W      itself          the own key as the issuer's
 *   wrong chain    another MDMS    other root, gap another seed set
 *   other network  yes             yes             yes
 *
 * A DC's implicit certificate has no dates: key epochs and the ledger end it (docs/channel.md).
 */
#include "tests/channel/certificates.h"

#include "crypto/secret.h"
#include "tests/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOW_S          (SUITE_WALL_MS / 1000)
#define FILE_BYTES_MAX 65536

static struct realm realm, elsewhere;
static char dir[] = "/tmp/amiledger-refusals-XXXXXX";
static struct x509_trust *anchors;

static struct span file(const char *name, const char *ending)
{
    static uint8_t bytes[4][FILE_BYTES_MAX];
    static unsigned at;
    char path[256];
    uint8_t *out = bytes[at++ % 4];
    snprintf(path, sizeof path, "%s/%s%s", dir, name, ending);
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        fail_msg("there is no %s", path);
    size_t size = fread(out, 1, FILE_BYTES_MAX, f);
    fclose(f);
    return span_of(out, size);
}

static int setup(void **state)
{
    char why[200] = "";
    (void)state;
    realm_make(&realm, "grid", 1);
    realm_make(&elsewhere, "other", 2);
    if (mkdtemp(dir) == NULL)
        return -1;
    if (certificates_make(dir, &realm) != 0)
        return -1;
    anchors = x509_trust_new(file("root", ".pem"), file("all", ".crl"), why, sizeof why);
    return anchors != NULL && x509_trust_operators(anchors, file("middle", ".pem"),
                                                   label_of("2:ledger+metering")) == AMI_OK
               ? 0
               : -1;
}

static int teardown(void **state)
{
    char command[128];
    (void)state;
    x509_trust_free(anchors);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

/* --- credentials that do not count ------------------------------------------------------------ */

static void dated(struct credential *out, enum credential_kind kind, const char *label,
                  int64_t from_s, int64_t until_s)
{
    realm_credential(&realm, out, kind, label == NULL ? "dc-1" : "alice", label, from_s, until_s);
}

static void of_openssl(struct credential *out, const char *name)
{
    char why[300] = "";
    sm2_private key;
    struct network net = realm.mdms.net;
    if (strcmp(name, "foreign") == 0)
        memset(&net.id, 0, sizeof net.id);
    assert_ok(x509_key(&key, file(name, ".key")));
    if (x509_credential(out, &net, &key, file(name, ".chain"), why, sizeof why) != AMI_OK)
        fail_msg("%s: %s", name, why);
}

/* By another issuer that says that it is ours. */
static void forged(struct credential *out, enum credential_kind kind, const char *label)
{
    static struct realm forger;
    forger = elsewhere;
    forger.mdms.net.id = realm.mdms.net.id;
    realm_credential(&forger, out, kind, label == NULL ? "dc-1" : "alice", label, 0, 0);
}

/* By nobody: the holder's own key stands where an issuer's should. */
static void self_made(struct credential *out, enum credential_kind kind)
{
    dated(out, kind, "1:", 0, 0);
    if (kind == CREDENTIAL_IMPLICIT) {
        /* W = dG, as if P_pub were nothing; the holder believes that P is W. */
        point_bytes w = point_encode(&out->key.p);
        memcpy(out->shown + out->shown_size - sizeof w.b, w.b, sizeof w.b);
        out->w = out->key.p;
        return;
    }
    /* A seed set whose every sum is the holder's key: one row, all columns the same. */
    static struct cfl_seed seed;
    struct cfl_certificate certificate;
    memset(&seed, 0, sizeof seed);
    seed.rows = 1;
    seed.columns = 2;
    seed.key[0] = seed.key[1] = out->key.d;
    assert_ok(cfl_certificate_parse(&certificate, span_of(out->shown, out->shown_size)));
    assert_ok(cfl_issue(&certificate, &seed, realm_random(&realm)));
    const sm2_private rask = out->key;
    assert_ok(cfl_credential(out, &certificate, &rask));
}

/* --- who judges ------------------------------------------------------------------------------- */

/* As a DC's or an operator's port does: by the role that is meant there. */
static enum credential_role meant;
static enum channel_fault by_role(void *ctx, const struct credential_identity *who)
{
    (void)ctx;
    return who->role == meant ? FAULT_NONE : FAULT_USAGE;
}

static void judge_make(struct party *p)
{
    struct credential own;
    realm_credential(&realm, &own, CREDENTIAL_IMPLICIT, "dc-2", NULL, 0, 0);
    party_make(p, &realm, &own);
    p->trust.x509 = anchors;
    p->config.accept = by_role;
}

static void expect(const char *what, const struct credential *bad, const sm3_digest *revoked,
                   enum channel_fault fault)
{
    struct party shows, judges;
    for (int dialled = 0; dialled < 2; dialled++) {
        judge_make(&judges);
        party_make(&shows, &realm, bad);
        shows.trust.x509 = anchors;
        if (revoked != NULL)
            judges.revoked = *revoked;
        const bool up = dialled ? pair_handshake(&judges, &shows, &realm)
                                : pair_handshake(&shows, &judges, &realm);
        if (up != (fault == FAULT_NONE) || channel_why(&judges.channel) != fault)
            fail_msg("%s, %s: %s instead of %s", what, dialled ? "dialled" : "dialling",
                     channel_fault_name(channel_why(&judges.channel)), channel_fault_name(fault));
        if (!up)
            assert_int_equal(channel_why(&shows.channel), FAULT_REFUSED);
    }
}

/* --- the tests -------------------------------------------------------------------------------- */

static void what_can_have_dates_is_held_to_them(void **state)
{
    (void)state;
    static const struct {
        enum credential_kind kind;
        const char *label;
    } of[] = {{CREDENTIAL_IMPLICIT, "1:"}, {CREDENTIAL_CFL, "1:"}, {CREDENTIAL_CFL, NULL}};
    struct credential c;
    for (size_t i = 0; i < sizeof of / sizeof of[0]; i++) {
        meant = of[i].label == NULL ? CREDENTIAL_DC : CREDENTIAL_OPERATOR;
        dated(&c, of[i].kind, of[i].label, NOW_S - 9, NOW_S + 9);
        expect("in force", &c, NULL, FAULT_NONE);
        expect("revoked", &c, &c.who.fingerprint, FAULT_REVOKED);
        dated(&c, of[i].kind, of[i].label, NOW_S - 9, NOW_S - 1);
        expect("expired", &c, NULL, FAULT_EXPIRED);
        dated(&c, of[i].kind, of[i].label, NOW_S + 1, NOW_S + 9);
        expect("future", &c, NULL, FAULT_FUTURE);
        /* Wrong use: an operator's at a DC's port, and the other way round. */
        meant = of[i].label == NULL ? CREDENTIAL_OPERATOR : CREDENTIAL_DC;
        dated(&c, of[i].kind, of[i].label, 0, 0);
        expect("wrong use", &c, NULL, FAULT_USAGE);
    }
}

static void issuers_count(void **state)
{
    (void)state;
    struct credential c;
    meant = CREDENTIAL_OPERATOR;
    /* Whether W is the MDMS's doing shows in the holder's signature alone. */
    self_made(&c, CREDENTIAL_IMPLICIT);
    expect("implicit by itself", &c, NULL, FAULT_SIGNATURE);
    forged(&c, CREDENTIAL_IMPLICIT, "1:");
    expect("implicit by another", &c, NULL, FAULT_SIGNATURE);
    self_made(&c, CREDENTIAL_CFL);
    expect("cfl by itself", &c, NULL, FAULT_WRONG_CHAIN);
    forged(&c, CREDENTIAL_CFL, "1:");
    expect("cfl by another", &c, NULL, FAULT_WRONG_CHAIN);
    meant = CREDENTIAL_DC;
    forged(&c, CREDENTIAL_IMPLICIT, NULL);
    expect("a DC's, implicit, by another", &c, NULL, FAULT_SIGNATURE);
    forged(&c, CREDENTIAL_CFL, NULL);
    expect("a DC's, cfl, by another", &c, NULL, FAULT_WRONG_CHAIN);
}

static void another_network_s_do_not(void **state)
{
    (void)state;
    static const char *const label[] = {NULL, "1:"};
    struct credential c;
    for (size_t i = 0; i < 2; i++) {
        meant = i == 0 ? CREDENTIAL_DC : CREDENTIAL_OPERATOR;
        realm_credential(&elsewhere, &c, CREDENTIAL_IMPLICIT, "dc-1", label[i], 0, 0);
        expect("implicit", &c, NULL, FAULT_OTHER_NETWORK);
        realm_credential(&elsewhere, &c, CREDENTIAL_CFL, "dc-1", label[i], 0, 0);
        expect("cfl", &c, NULL, FAULT_OTHER_NETWORK);
    }
    assert_ok(credential_of_mdms(&c, &elsewhere.mdms.net, &elsewhere.mdms.sign));
    meant = CREDENTIAL_MDMS;
    expect("the MDMS's", &c, NULL, FAULT_OTHER_NETWORK);
}

static void certificates_by_openssl(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum credential_role meant;
        enum channel_fault fault;
    } cases[] = {
        {"dc-1", CREDENTIAL_DC, FAULT_NONE},
        {"alice", CREDENTIAL_OPERATOR, FAULT_NONE},
        {"expired", CREDENTIAL_DC, FAULT_EXPIRED},
        {"future", CREDENTIAL_DC, FAULT_FUTURE},
        {"revoked", CREDENTIAL_DC, FAULT_REVOKED},
        {"no-signing", CREDENTIAL_DC, FAULT_USAGE},
        {"no-server", CREDENTIAL_DC, FAULT_USAGE},
        {"authority-leaf", CREDENTIAL_DC, FAULT_USAGE},
        {"alice", CREDENTIAL_DC, FAULT_USAGE},
        {"dc-1", CREDENTIAL_OPERATOR, FAULT_USAGE},
        {"alone", CREDENTIAL_DC, FAULT_SELF_SIGNED},
        {"stranger", CREDENTIAL_DC, FAULT_WRONG_CHAIN},
        {"gap", CREDENTIAL_DC, FAULT_WRONG_CHAIN},
        {"foreign", CREDENTIAL_DC, FAULT_OTHER_NETWORK},
        {"mdms", CREDENTIAL_MDMS, FAULT_UNEXPECTED}, /* the network has another key for it */
        {"chief", CREDENTIAL_OPERATOR, FAULT_LABEL},
        {"insider", CREDENTIAL_OPERATOR, FAULT_ISSUER},
    };
    struct credential c;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        meant = cases[i].meant;
        of_openssl(&c, cases[i].name);
        expect(cases[i].name, &c, NULL, cases[i].fault);
    }
    of_openssl(&c, "alice");
    meant = CREDENTIAL_OPERATOR;
    expect("on the MDMS's list", &c, &c.who.fingerprint, FAULT_REVOKED);
}

/* Whoever reads a log can tell them apart. */
static void every_reason_has_its_own_sentence(void **state)
{
    (void)state;
    for (int i = 0; i < CHANNEL_FAULTS; i++) {
        const char *text = channel_fault_text((enum channel_fault)i);
        assert_true(strlen(text) > 5 && text[strlen(text) - 1] != '.');
        for (int j = 0; j < i; j++) {
            assert_string_not_equal(text, channel_fault_text((enum channel_fault)j));
            assert_string_not_equal(channel_fault_name((enum channel_fault)i),
                                    channel_fault_name((enum channel_fault)j));
        }
    }
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_can_have_dates_is_held_to_them),
        cmocka_unit_test(issuers_count),
        cmocka_unit_test(another_network_s_do_not),
        cmocka_unit_test(certificates_by_openssl),
        cmocka_unit_test(every_reason_has_its_own_sentence),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
