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
#include <time.h>

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

/* Who was refused can be told as far as it is proven. */
static void check_named(const char *what, const struct channel *c, const struct credential *bad,
                        enum channel_fault fault, enum channel_standing named)
{
    const struct credential_identity *who;
    if (channel_claimant(c, &who) != named || (who == NULL) != (named == CHANNEL_UNKNOWN))
        fail_msg("%s: named with standing %d instead of %d", what, channel_claimant(c, &who),
                 named);
    if (who != NULL) {
        assert_true(ami_id_equal(&who->name, &bad->who.name));
        assert_int_equal(who->role, bad->who.role);
    }
    assert_int_equal(channel_peer(c) != NULL, fault == FAULT_NONE);
}

static void expect(const char *what, const struct credential *bad, const sm3_digest *revoked,
                   enum channel_fault fault, enum channel_standing named)
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
        check_named(what, &judges.channel, bad, fault, named);
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
        /* An implicit certificate's key is its issuer's word; a CFL one's issuer was not asked yet.
         */
        const enum channel_standing early =
            of[i].kind == CREDENTIAL_IMPLICIT ? CHANNEL_PROVEN : CHANNEL_CLAIMED;
        dated(&c, of[i].kind, of[i].label, NOW_S - 9, NOW_S + 9);
        expect("in force", &c, NULL, FAULT_NONE, CHANNEL_PROVEN);
        expect("revoked", &c, &c.who.fingerprint, FAULT_REVOKED, early);
        dated(&c, of[i].kind, of[i].label, NOW_S - 9, NOW_S - 1);
        expect("expired", &c, NULL, FAULT_EXPIRED, early);
        dated(&c, of[i].kind, of[i].label, NOW_S + 1, NOW_S + 9);
        expect("future", &c, NULL, FAULT_FUTURE, early);
        /* Wrong use: an operator's at a DC's port, and the other way round. */
        meant = of[i].label == NULL ? CREDENTIAL_OPERATOR : CREDENTIAL_DC;
        dated(&c, of[i].kind, of[i].label, 0, 0);
        expect("wrong use", &c, NULL, FAULT_USAGE, CHANNEL_PROVEN);
    }
}

static void issuers_count(void **state)
{
    (void)state;
    struct credential c;
    meant = CREDENTIAL_OPERATOR;
    /* Whether W is the MDMS's doing shows in the holder's signature alone. */
    self_made(&c, CREDENTIAL_IMPLICIT);
    expect("implicit by itself", &c, NULL, FAULT_SIGNATURE, CHANNEL_UNKNOWN);
    forged(&c, CREDENTIAL_IMPLICIT, "1:");
    expect("implicit by another", &c, NULL, FAULT_SIGNATURE, CHANNEL_UNKNOWN);
    self_made(&c, CREDENTIAL_CFL);
    expect("cfl by itself", &c, NULL, FAULT_WRONG_CHAIN, CHANNEL_CLAIMED);
    forged(&c, CREDENTIAL_CFL, "1:");
    expect("cfl by another", &c, NULL, FAULT_WRONG_CHAIN, CHANNEL_CLAIMED);
    meant = CREDENTIAL_DC;
    forged(&c, CREDENTIAL_IMPLICIT, NULL);
    expect("a DC's, implicit, by another", &c, NULL, FAULT_SIGNATURE, CHANNEL_UNKNOWN);
    forged(&c, CREDENTIAL_CFL, NULL);
    expect("a DC's, cfl, by another", &c, NULL, FAULT_WRONG_CHAIN, CHANNEL_CLAIMED);
}

static void another_network_s_do_not(void **state)
{
    (void)state;
    static const char *const label[] = {NULL, "1:"};
    struct credential c;
    for (size_t i = 0; i < 2; i++) {
        meant = i == 0 ? CREDENTIAL_DC : CREDENTIAL_OPERATOR;
        realm_credential(&elsewhere, &c, CREDENTIAL_IMPLICIT, "dc-1", label[i], 0, 0);
        expect("implicit", &c, NULL, FAULT_OTHER_NETWORK, CHANNEL_UNKNOWN);
        realm_credential(&elsewhere, &c, CREDENTIAL_CFL, "dc-1", label[i], 0, 0);
        expect("cfl", &c, NULL, FAULT_OTHER_NETWORK, CHANNEL_UNKNOWN);
    }
    assert_ok(credential_of_mdms(&c, &elsewhere.mdms.net, &elsewhere.mdms.sign));
    meant = CREDENTIAL_MDMS;
    expect("the MDMS's", &c, NULL, FAULT_OTHER_NETWORK, CHANNEL_UNKNOWN);
}

static void certificates_by_openssl(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum credential_role meant;
        enum channel_fault fault;
        enum channel_standing named;
    } cases[] = {
        {"dc-1", CREDENTIAL_DC, FAULT_NONE, CHANNEL_PROVEN},
        {"alice", CREDENTIAL_OPERATOR, FAULT_NONE, CHANNEL_PROVEN},
        {"expired", CREDENTIAL_DC, FAULT_EXPIRED, CHANNEL_CLAIMED},
        {"future", CREDENTIAL_DC, FAULT_FUTURE, CHANNEL_CLAIMED},
        {"revoked", CREDENTIAL_DC, FAULT_REVOKED, CHANNEL_CLAIMED},
        {"no-signing", CREDENTIAL_DC, FAULT_USAGE, CHANNEL_PROVEN},
        {"no-server", CREDENTIAL_DC, FAULT_USAGE, CHANNEL_PROVEN},
        {"authority-leaf", CREDENTIAL_DC, FAULT_USAGE, CHANNEL_PROVEN},
        {"alice", CREDENTIAL_DC, FAULT_USAGE, CHANNEL_PROVEN},
        {"dc-1", CREDENTIAL_OPERATOR, FAULT_USAGE, CHANNEL_PROVEN},
        {"alone", CREDENTIAL_DC, FAULT_SELF_SIGNED, CHANNEL_CLAIMED},
        {"stranger", CREDENTIAL_DC, FAULT_WRONG_CHAIN, CHANNEL_CLAIMED},
        {"gap", CREDENTIAL_DC, FAULT_WRONG_CHAIN, CHANNEL_CLAIMED},
        {"foreign", CREDENTIAL_DC, FAULT_OTHER_NETWORK, CHANNEL_CLAIMED},
        {"mdms", CREDENTIAL_MDMS, FAULT_UNEXPECTED,
         CHANNEL_CLAIMED}, /* the network has another key for it */
        {"chief", CREDENTIAL_OPERATOR, FAULT_LABEL, CHANNEL_PROVEN},
        {"insider", CREDENTIAL_OPERATOR, FAULT_ISSUER, CHANNEL_PROVEN},
    };
    struct credential c;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        meant = cases[i].meant;
        of_openssl(&c, cases[i].name);
        expect(cases[i].name, &c, NULL, cases[i].fault, cases[i].named);
    }
    of_openssl(&c, "alice");
    meant = CREDENTIAL_OPERATOR;
    expect("on the MDMS's list", &c, &c.who.fingerprint, FAULT_REVOKED, CHANNEL_CLAIMED);
}

static double lesser(double a, double b)
{
    return a < b ? a : b;
}

static double cpu_us(void)
{
    struct timespec t;
    assert_int_equal(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t), 0);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* What a third flight makes its receiver compute is charged in answers to a first one. The least of
 * several runs is what it takes; half as much again is allowed for another processor. */
static void what_a_third_flight_takes_is_charged(void **state)
{
    (void)state;
    enum { RUNS = 15 };
    static const enum credential_kind kinds[] = {CREDENTIAL_IMPLICIT, CREDENTIAL_CFL,
                                                 CREDENTIAL_X509};
    static struct party shows, judges;
    static struct frame f, g;
    struct credential c;
    meant = CREDENTIAL_DC;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        double first = 1e12, third = 1e12;
        uint32_t price[2] = {0, 0};
        if (kinds[i] == CREDENTIAL_X509)
            of_openssl(&c, "dc-1");
        else
            dated(&c, kinds[i], NULL, 0, 0);
        judge_make(&judges);
        party_make(&shows, &realm, &c);
        shows.trust.x509 = anchors;
        for (int run = 0; run < RUNS; run++) {
            pair_start(&shows, &judges, &realm, &f);
            price[0] = channel_cost(&judges.channel, f.b, f.size);
            double began = cpu_us();
            (void)deliver(&judges, &f, &g);
            first = lesser(first, cpu_us() - began);
            (void)deliver(&shows, &g, &f);
            price[1] = channel_cost(&judges.channel, f.b, f.size);
            began = cpu_us();
            assert_int_equal(deliver(&judges, &f, &g).event, CHANNEL_OPEN);
            third = lesser(third, cpu_us() - began);
        }
        assert_int_equal(price[0], 1);
        print_message("%s: %.0f us for a first flight, %.0f us for a third one, charged %u\n",
                      credential_kind_name(kinds[i]), first, third, (unsigned)price[1]);
        assert_true(third <= 1.5 * price[1] * first);
    }
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
        cmocka_unit_test(what_a_third_flight_takes_is_charged),
        cmocka_unit_test(every_reason_has_its_own_sentence),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
