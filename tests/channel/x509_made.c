#include "tests/channel/x509_made.h"

#include "base/check.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>

struct x509_realm {
    struct realm *realm;
    EVP_PKEY *root_key, *middle_key;
    X509 *root, *middle;
    long serial;
};

static void add_extension(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    AMI_CHECK(e != NULL && X509_add_ext(x, e, -1) == 1);
    X509_EXTENSION_free(e);
}

/* `san` NULL: an authority's; `issuer` NULL: by itself. */
static X509 *make_certificate(struct x509_realm *r, EVP_PKEY *key, const char *name,
                              const char *san, X509 *issuer, EVP_PKEY *issuer_key)
{
    X509 *x = X509_new();
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    EVP_PKEY_CTX *ctx = NULL;
    AMI_CHECK(x != NULL && md != NULL && X509_set_version(x, 2) == 1);
    ASN1_INTEGER_set(X509_get_serialNumber(x), ++r->serial);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
                               (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(issuer == NULL ? x : issuer));
    ASN1_TIME_set(X509_getm_notBefore(x), (time_t)(SUITE_WALL_MS / 1000 - 1000));
    ASN1_TIME_set(X509_getm_notAfter(x), (time_t)(SUITE_WALL_MS / 1000 + 1000));
    X509_set_pubkey(x, key);
    add_extension(x, issuer, NID_basic_constraints,
                  san == NULL ? "critical,CA:TRUE" : "critical,CA:FALSE");
    add_extension(x, issuer, NID_key_usage,
                  san == NULL ? "critical,keyCertSign" : "critical,digitalSignature");
    add_extension(x, issuer, NID_subject_key_identifier, "hash");
    if (issuer != NULL)
        add_extension(x, issuer, NID_authority_key_identifier, "keyid:always");
    if (san != NULL)
        add_extension(x, issuer, NID_subject_alt_name, san);
    AMI_CHECK(EVP_DigestSignInit(md, &ctx, EVP_sm3(), NULL, issuer_key) == 1 &&
              EVP_PKEY_CTX_set1_id(ctx, "1234567812345678", 16) == 1 && X509_sign_ctx(x, md) > 0);
    EVP_MD_CTX_free(md);
    return x;
}

static EVP_PKEY *make_key(void)
{
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "SM2");
    AMI_CHECK(key != NULL);
    return key;
}

struct x509_realm *x509_realm_new(struct realm *r)
{
    struct x509_realm *x = calloc(1, sizeof *x);
    AMI_CHECK(x != NULL);
    x->realm = r;
    x->root_key = make_key();
    x->middle_key = make_key();
    x->root = make_certificate(x, x->root_key, "root", NULL, NULL, x->root_key);
    x->middle = make_certificate(x, x->middle_key, "middle", NULL, x->root, x->root_key);
    return x;
}

void x509_realm_free(struct x509_realm *x)
{
    X509_free(x->root);
    X509_free(x->middle);
    EVP_PKEY_free(x->root_key);
    EVP_PKEY_free(x->middle_key);
    free(x);
}

static struct span pem_of(BIO *out)
{
    char *text = NULL;
    long size = BIO_get_mem_data(out, &text);
    return span_of(text, (size_t)size);
}

struct x509_trust *x509_realm_trust(const struct x509_realm *x)
{
    char why[200] = "";
    BIO *roots = BIO_new(BIO_s_mem());
    AMI_CHECK(roots != NULL && PEM_write_bio_X509(roots, x->root) == 1);
    struct x509_trust *trust = x509_trust_new(pem_of(roots), span_of(NULL, 0), why, sizeof why);
    AMI_CHECK(trust != NULL);
    BIO_free(roots);
    return trust;
}

void x509_realm_dc(struct x509_realm *x, struct credential *out, const char *name)
{
    char san[200], hex[2 * SM3_BYTES + 1], why[300] = "";
    hex_encode(hex, x->realm->mdms.net.id.b, SM3_BYTES);
    snprintf(san, sizeof san, "URI:urn:amiledger:%s:dc:%s", hex, name);
    EVP_PKEY *key = make_key();
    X509 *leaf = make_certificate(x, key, name, san, x->middle, x->middle_key);
    BIO *chain = BIO_new(BIO_s_mem()), *keys = BIO_new(BIO_s_mem());
    AMI_CHECK(chain != NULL && keys != NULL && PEM_write_bio_X509(chain, leaf) == 1 &&
              PEM_write_bio_X509(chain, x->middle) == 1 &&
              PEM_write_bio_PrivateKey(keys, key, NULL, NULL, 0, NULL, NULL) == 1);
    sm2_private own;
    AMI_CHECK(x509_key(&own, pem_of(keys)) == AMI_OK &&
              x509_credential(out, &x->realm->mdms.net, &own, pem_of(chain), why, sizeof why) ==
                  AMI_OK);
    BIO_free(chain);
    BIO_free(keys);
    X509_free(leaf);
    EVP_PKEY_free(key);
}
