/* What is shown as a credential: the first byte is the kind. A credential that is taken says
 * what the genuine one says, or is one of the implicit kind, where only the signature tells. Public
 * sets and certificates of CFL are read as well. */
#include "tests/fuzz/fuzz.h"

#include "base/check.h"
#include "crypto/secret.h"
#include "tests/channel/support.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

static struct realm realm;
static struct party party;
static struct credential held[CREDENTIAL_KINDS];
static uint8_t shown[CREDENTIAL_KINDS][CREDENTIAL_BYTES_MAX];
static size_t shown_size[CREDENTIAL_KINDS];
static const uint8_t nonce[CREDENTIAL_NONCE_BYTES] = {7};
static const struct credential_moment at = {SUITE_WALL_MS, nonce};

static void add_extension(X509 *x, int nid, const char *value)
{
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    AMI_CHECK(e != NULL && X509_add_ext(x, e, -1) == 1);
    X509_EXTENSION_free(e);
}

/* A certificate, signed by `issuer`, whose key is issuer_key. */
static X509 *make_certificate(EVP_PKEY *key, const char *name, const char *san, X509 *issuer,
                              EVP_PKEY *issuer_key)
{
    X509 *x = X509_new();
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    EVP_PKEY_CTX *ctx = NULL;
    AMI_CHECK(x != NULL && md != NULL && X509_set_version(x, 2) == 1);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
                               (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(issuer == NULL ? x : issuer));
    ASN1_TIME_set(X509_getm_notBefore(x), (time_t)(SUITE_WALL_MS / 1000 - 1000));
    ASN1_TIME_set(X509_getm_notAfter(x), (time_t)(SUITE_WALL_MS / 1000 + 1000));
    X509_set_pubkey(x, key);
    add_extension(x, NID_basic_constraints, san == NULL ? "critical,CA:TRUE" : "critical,CA:FALSE");
    add_extension(x, NID_key_usage,
                  san == NULL ? "critical,keyCertSign" : "critical,digitalSignature");
    if (san != NULL)
        add_extension(x, NID_subject_alt_name, san);
    AMI_CHECK(EVP_DigestSignInit(md, &ctx, EVP_sm3(), NULL, issuer_key) == 1 &&
              EVP_PKEY_CTX_set1_id(ctx, "1234567812345678", 16) == 1 && X509_sign_ctx(x, md) > 0);
    EVP_MD_CTX_free(md);
    return x;
}

static struct span pem_of(BIO *out)
{
    char *text = NULL;
    long size = BIO_get_mem_data(out, &text);
    return span_of(text, (size_t)size);
}

static void make_x509(void)
{
    char san[200], hex[2 * SM3_BYTES + 1], why[300] = "";
    EVP_PKEY *root_key = EVP_PKEY_Q_keygen(NULL, NULL, "SM2");
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "SM2");
    AMI_CHECK(root_key != NULL && key != NULL);
    hex_encode(hex, realm.mdms.net.id.b, SM3_BYTES);
    snprintf(san, sizeof san, "URI:urn:amiledger:%s:dc:dc-1", hex);
    X509 *root = make_certificate(root_key, "root", NULL, NULL, root_key);
    X509 *leaf = make_certificate(key, "dc-1", san, root, root_key);
    BIO *roots = BIO_new(BIO_s_mem()), *chain = BIO_new(BIO_s_mem()), *keys = BIO_new(BIO_s_mem());
    AMI_CHECK(PEM_write_bio_X509(roots, root) == 1 && PEM_write_bio_X509(chain, leaf) == 1 &&
              PEM_write_bio_PrivateKey(keys, key, NULL, NULL, 0, NULL, NULL) == 1);
    party.trust.x509 = x509_trust_new(pem_of(roots), span_of(NULL, 0), why, sizeof why);
    AMI_CHECK(party.trust.x509 != NULL);
    AMI_CHECK(x509_credential(&held[CREDENTIAL_X509], &realm.mdms.net, pem_of(keys), pem_of(chain),
                              why, sizeof why) == AMI_OK);
    BIO_free(roots);
    BIO_free(chain);
    BIO_free(keys);
    X509_free(root);
    X509_free(leaf);
    EVP_PKEY_free(root_key);
    EVP_PKEY_free(key);
}

static void prepare(void)
{
    static bool ready;
    struct credential_peer peer;
    if (ready)
        return;
    ready = true;
    AMI_CHECK(crypto_start() == AMI_OK);
    realm_make(&realm, "grid", 1);
    realm_credential(&realm, &held[CREDENTIAL_IMPLICIT], CREDENTIAL_IMPLICIT, "alice", "2:ledger",
                     SUITE_WALL_MS / 1000, SUITE_WALL_MS / 1000 + 9);
    realm_credential(&realm, &held[CREDENTIAL_CFL], CREDENTIAL_CFL, "bob", "1:", 0, 0);
    party_make(&party, &realm, &held[CREDENTIAL_IMPLICIT]);
    make_x509();
    for (int kind = 1; kind < CREDENTIAL_KINDS; kind++) {
        shown_size[kind] = credential_show(shown[kind], &held[kind], &at);
        AMI_CHECK(credential_check(&peer, (enum credential_kind)kind,
                                   span_of(shown[kind], shown_size[kind]), &party.trust,
                                   &at) == FAULT_NONE);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct cfl_public set;
    struct cfl_certificate certificate;
    struct credential_peer peer;
    prepare();
    if (size == 0)
        return 0;
    const struct span rest = span_of(data + 1, size - 1);
    if (data[0] >= CREDENTIAL_KINDS) {
        static uint8_t again[CFL_PUBLIC_BYTES_MAX];
        if (cfl_public_parse(&set, rest) == AMI_OK)
            AMI_CHECK(cfl_public_encode(again, &set) == rest.size &&
                      memcmp(again, rest.data, rest.size) == 0);
        if (cfl_certificate_parse(&certificate, rest) == AMI_OK)
            AMI_CHECK(cfl_certificate_encode(again, &certificate) == rest.size &&
                      memcmp(again, rest.data, rest.size) == 0);
        return 0;
    }
    const enum credential_kind kind = (enum credential_kind)data[0];
    if (credential_check(&peer, kind, rest, &party.trust, &at) != FAULT_NONE)
        return 0;
    AMI_CHECK(sm3_equal(&peer.who.network, &realm.mdms.net.id));
    AMI_CHECK(kind == CREDENTIAL_IMPLICIT ||
              memcmp(&peer.who, &held[kind].who, sizeof peer.who) == 0 ||
              (rest.size > 0 && ami_id_equal(&peer.who.name, &held[kind].who.name) &&
               memcmp(&peer.who.key, &held[kind].who.key, sizeof peer.who.key) == 0));
    return 0;
}

size_t fuzz_seed(uint64_t index, uint8_t *out, size_t capacity)
{
    prepare();
    const uint8_t kind = (uint8_t)(index % (CREDENTIAL_KINDS + 1));
    if (kind == 0 || kind == CREDENTIAL_KINDS) {
        static struct cfl_public set;
        set = realm.set;
        set.rows = 2;
        set.columns = 4;
        if (capacity < 1 + CFL_CERTIFICATE_BYTES_MAX + 8 * SM2_POINT_BYTES)
            return 0;
        out[0] = CREDENTIAL_KINDS;
        if (kind == 0)
            return 1 + cfl_public_encode(out + 1, &set);
        memcpy(out + 1, held[CREDENTIAL_CFL].shown, held[CREDENTIAL_CFL].shown_size);
        return 1 + held[CREDENTIAL_CFL].shown_size;
    }
    if (shown_size[kind] + 1 > capacity)
        return 0;
    out[0] = kind;
    memcpy(out + 1, shown[kind], shown_size[kind]);
    return shown_size[kind] + 1;
}
