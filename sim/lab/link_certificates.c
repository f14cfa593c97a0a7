/* Signing and checking with each credential, in signatures a second: what CFL's paper reports, and
 * X.509 with a chain. A checker gets bytes: the credential as it is shown, and a signature. */
#include "sim/lab/links_crypto.h"

#include "base/check.h"
#include "crypto/secret.h"
#include "sim/lab/unit.h"

#include <openssl/evp.h>
#include <openssl/x509_vfy.h>
#include <string.h>

#define LABEL     "amiledger laboratory v1"
#define SM2_ID    "1234567812345678"
#define DER_BYTES 2048

static const struct lab_column columns[] = {{.name = "way", .title = "credential"},
                                            {.name = "by", .title = "by"},
                                            {.name = "signatures", .title = "signatures checked"},
                                            {.name = "sign",
                                             .title = "signing",
                                             .unit = "a second",
                                             .decimals = 0,
                                             .source = LAB_MEASURED,
                                             .clock = true},
                                            {.name = "verify",
                                             .title = "checking",
                                             .unit = "a second",
                                             .decimals = 0,
                                             .source = LAB_MEASURED,
                                             .clock = true},
                                            {.name = "reported_sign",
                                             .title = "signing, as reported",
                                             .unit = "a second",
                                             .source = LAB_REPORTED},
                                            {.name = "reported_verify",
                                             .title = "checking, as reported",
                                             .unit = "a second",
                                             .source = LAB_REPORTED},
                                            {0}};

/* --- as channels do it ----------------------------------------------------------------------- */

struct ours {
    struct credential own;
    struct credential_trust trust;
};

/* Shows the credential for a verifier's nonce and signs that; then checks both. */
static bool sign_and_check(void *with, double ns[2])
{
    static uint8_t shown[CREDENTIAL_BYTES_MAX];
    const struct ours *c = with;
    uint8_t random[SM2_WIDE_BYTES];
    uint8_t nonce[CREDENTIAL_NONCE_BYTES];
    const struct credential_moment at = {LINK_WALL_MS, nonce};
    struct credential_peer peer;
    secret_random(nonce, sizeof nonce);
    uint64_t from = lab_cpu_ns();
    secret_random(random, sizeof random);
    const struct span part = span_of(shown, credential_show(shown, &c->own, &at));
    sm2_signature sig = credential_sign(&c->own, LABEL, &part, 1, random);
    ns[0] += (double)(lab_cpu_ns() - from);
    from = lab_cpu_ns();
    bool good = credential_check(&peer, c->own.who.kind, part, &c->trust, &at) == FAULT_NONE &&
                credential_verify(&peer, LABEL, &part, 1, &sig) == FAULT_NONE;
    ns[1] += (double)(lab_cpu_ns() - from);
    return good;
}

/* --- OpenSSL alone --------------------------------------------------------------------------- */

struct theirs {
    bool sm2;
    struct link_x509 x;
    struct link_x509_leaf leaf;
    X509_STORE *store;
    uint8_t der[2][DER_BYTES]; /* leaf, authority */
    int size[2];
    EVP_MD_CTX *md;
};

static void set_id(X509 *x)
{
    ASN1_OCTET_STRING *id = ASN1_OCTET_STRING_new();
    AMI_CHECK(id != NULL &&
              ASN1_OCTET_STRING_set(id, (const unsigned char *)SM2_ID, (int)strlen(SM2_ID)) == 1);
    X509_set0_distinguishing_id(x, id);
}

static void theirs_make(struct theirs *t, enum link_x509_kind kind)
{
    t->sm2 = kind == LINK_X509_SM2;
    link_x509_make(&t->x, kind, LINK_WALL_MS / 1000 - 86400, LINK_WALL_MS / 1000 + 86400);
    link_x509_leaf_make(&t->leaf, &t->x, "leaf", NULL);
    if (t->sm2)
        set_id(t->x.root);
    t->store = X509_STORE_new();
    t->md = EVP_MD_CTX_new();
    AMI_CHECK(t->store != NULL && t->md != NULL && X509_STORE_add_cert(t->store, t->x.root) == 1);
    X509 *const shown[2] = {t->leaf.certificate, t->x.authority};
    for (int i = 0; i < 2; i++) {
        unsigned char *to = t->der[i];
        AMI_CHECK(i2d_X509(shown[i], NULL) <= DER_BYTES);
        t->size[i] = i2d_X509(shown[i], &to);
    }
}

static void theirs_free(struct theirs *t)
{
    EVP_MD_CTX_free(t->md);
    X509_STORE_free(t->store);
    link_x509_leaf_free(&t->leaf);
    link_x509_free(&t->x);
}

static bool use_id(const struct theirs *t, EVP_PKEY_CTX *ctx)
{
    return !t->sm2 || EVP_PKEY_CTX_set1_id(ctx, SM2_ID, (int)strlen(SM2_ID)) == 1;
}

static const EVP_MD *digest_of(const struct theirs *t)
{
    return t->sm2 ? EVP_sm3() : EVP_sha256();
}

static bool chain_good(const struct theirs *t, X509 *leaf, X509 *authority)
{
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    STACK_OF(X509) *others = sk_X509_new_null();
    AMI_CHECK(ctx != NULL && others != NULL && sk_X509_push(others, authority) == 1 &&
              X509_STORE_CTX_init(ctx, t->store, leaf, others) == 1);
    X509_VERIFY_PARAM_set_time(X509_STORE_CTX_get0_param(ctx), (time_t)(LINK_WALL_MS / 1000));
    bool good = X509_verify_cert(ctx) == 1;
    sk_X509_free(others);
    X509_STORE_CTX_free(ctx);
    return good;
}

static bool their_sign_and_check(void *with, double ns[2])
{
    struct theirs *t = with;
    uint8_t sig[512];
    size_t sig_size = sizeof sig;
    EVP_PKEY_CTX *ctx = NULL;
    X509 *got[2];
    const size_t size = (size_t)t->size[0];
    uint64_t from = lab_cpu_ns();
    bool good = EVP_MD_CTX_reset(t->md) == 1 &&
                EVP_DigestSignInit(t->md, &ctx, digest_of(t), NULL, t->leaf.key) == 1 &&
                use_id(t, ctx) && EVP_DigestSign(t->md, sig, &sig_size, t->der[0], size) == 1;
    ns[0] += (double)(lab_cpu_ns() - from);
    from = lab_cpu_ns();
    for (int i = 0; i < 2; i++) {
        const unsigned char *at = t->der[i];
        got[i] = d2i_X509(NULL, &at, t->size[i]);
        AMI_CHECK(got[i] != NULL);
        if (t->sm2)
            set_id(got[i]);
    }
    good = good && chain_good(t, got[0], got[1]) && EVP_MD_CTX_reset(t->md) == 1 &&
           EVP_DigestVerifyInit(t->md, &ctx, digest_of(t), NULL, X509_get0_pubkey(got[0])) == 1 &&
           use_id(t, ctx) && EVP_DigestVerify(t->md, sig, sig_size, t->der[0], size) == 1;
    X509_free(got[0]);
    X509_free(got[1]);
    ns[1] += (double)(lab_cpu_ns() - from);
    return good;
}

/* --- the table ------------------------------------------------------------------------------- */

void link_certificates(struct lab_output *out, struct link_issuers *s)
{
    static struct ours ours[3];
    static struct theirs theirs[2];
    static const enum credential_kind kind[] = {CREDENTIAL_CFL, CREDENTIAL_X509,
                                                CREDENTIAL_IMPLICIT};
    static const struct {
        const char *way, *by, *signatures;
    } row[] = {{"CFL", "amiledger", "3"},
               {"X.509, SM2", "amiledger; OpenSSL checks the chain", "3"},
               {"implicit, SM2", "amiledger", "1, and a key recovered"},
               {"X.509, SM2, OpenSSL", "OpenSSL", "3"},
               {"X.509, P-256, OpenSSL", "OpenSSL", "3"}};
    struct lab_two_sided work[5];
    for (int i = 0; i < 3; i++) {
        link_credential(s, &ours[i].own, kind[i], 1);
        ours[i].trust = link_trust(s);
        work[i] = (struct lab_two_sided){.run = sign_and_check, .with = &ours[i], .size = 1};
    }
    for (int i = 0; i < 2; i++) {
        theirs_make(&theirs[i], i == 0 ? LINK_X509_SM2 : LINK_X509_P256);
        work[3 + i] =
            (struct lab_two_sided){.run = their_sign_and_check, .with = &theirs[i], .size = 1};
    }
    lab_time_two_sided(work, 5);
    struct lab_table *t =
        lab_table(out, "certificates", "What proves an identity, for one session", columns);
    for (size_t i = 0; i < 5; i++) {
        if (work[i].wrong)
            lab_fail(out, "certificates: %s: a good signature was refused", row[i].way);
        lab_text(t, "%s", row[i].way);
        lab_text(t, "%s", row[i].by);
        lab_text(t, "%s", row[i].signatures);
        lab_real(t, 1e6 / work[i].side[0].median_us);
        lab_real(t, 1e6 / work[i].side[1].median_us);
        if (i == 0) {
            lab_integer(t, 1772);
            lab_integer(t, 1204);
        } else {
            lab_none(t);
            lab_none(t);
        }
    }
    for (int i = 0; i < 2; i++)
        theirs_free(&theirs[i]);
    secret_wipe(ours, sizeof ours);
}
