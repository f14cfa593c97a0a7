#include "sim/lab/link_x509.h"

#include "base/check.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#define SM2_ID "1234567812345678"

static void add_extension(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    AMI_CHECK(e != NULL && X509_add_ext(x, e, -1) == 1);
    X509_EXTENSION_free(e);
}

static void sign(X509 *x, enum link_x509_kind kind, EVP_PKEY *key)
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    EVP_PKEY_CTX *ctx = NULL;
    const bool sm2 = kind == LINK_X509_SM2;
    AMI_CHECK(md != NULL &&
              EVP_DigestSignInit(md, &ctx, sm2 ? EVP_sm3() : EVP_sha256(), NULL, key) == 1);
    AMI_CHECK(!sm2 || EVP_PKEY_CTX_set1_id(ctx, SM2_ID, (int)strlen(SM2_ID)) == 1);
    AMI_CHECK(X509_sign_ctx(x, md) > 0);
    EVP_MD_CTX_free(md);
}

static X509 *make_certificate(struct link_x509 *a, EVP_PKEY *key, const char *name, const char *san,
                              bool is_authority, X509 *issuer, EVP_PKEY *issuer_key)
{
    X509 *x = X509_new();
    AMI_CHECK(x != NULL && X509_set_version(x, 2) == 1);
    X509 *by = issuer == NULL ? x : issuer;
    AMI_CHECK(ASN1_INTEGER_set(X509_get_serialNumber(x), ++a->serial) == 1);
    AMI_CHECK(X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
                                         (const unsigned char *)name, -1, -1, 0) == 1);
    AMI_CHECK(X509_set_issuer_name(x, X509_get_subject_name(by)) == 1 &&
              ASN1_TIME_set(X509_getm_notBefore(x), (time_t)a->from_s) != NULL &&
              ASN1_TIME_set(X509_getm_notAfter(x), (time_t)a->until_s) != NULL &&
              X509_set_pubkey(x, key) == 1);
    add_extension(x, by, NID_basic_constraints,
                  is_authority ? "critical,CA:TRUE" : "critical,CA:FALSE");
    add_extension(x, by, NID_key_usage,
                  is_authority ? "critical,keyCertSign" : "critical,digitalSignature");
    add_extension(x, by, NID_subject_key_identifier, "hash");
    if (issuer != NULL)
        add_extension(x, by, NID_authority_key_identifier, "keyid:always");
    if (san != NULL)
        add_extension(x, by, NID_subject_alt_name, san);
    sign(x, a->kind, issuer_key);
    return x;
}

static EVP_PKEY *make_key(enum link_x509_kind kind)
{
    EVP_PKEY *key = kind == LINK_X509_SM2    ? EVP_PKEY_Q_keygen(NULL, NULL, "SM2")
                    : kind == LINK_X509_P256 ? EVP_EC_gen("P-256")
                                             : EVP_RSA_gen(2048);
    AMI_CHECK(key != NULL);
    return key;
}

void link_x509_make(struct link_x509 *out, enum link_x509_kind kind, int64_t from_s,
                    int64_t until_s)
{
    *out = (struct link_x509){.kind = kind, .from_s = from_s, .until_s = until_s};
    out->root_key = make_key(kind);
    out->authority_key = make_key(kind);
    out->root = make_certificate(out, out->root_key, "root", NULL, true, NULL, out->root_key);
    out->authority = make_certificate(out, out->authority_key, "authority", NULL, true, out->root,
                                      out->root_key);
}

void link_x509_free(struct link_x509 *x)
{
    X509_free(x->root);
    X509_free(x->authority);
    EVP_PKEY_free(x->root_key);
    EVP_PKEY_free(x->authority_key);
}

void link_x509_leaf_make(struct link_x509_leaf *out, struct link_x509 *x, const char *name,
                         const char *san)
{
    out->key = make_key(x->kind);
    out->certificate =
        make_certificate(x, out->key, name, san, false, x->authority, x->authority_key);
}

void link_x509_leaf_free(struct link_x509_leaf *leaf)
{
    X509_free(leaf->certificate);
    EVP_PKEY_free(leaf->key);
}

static struct span pem_of(BIO *out)
{
    char *text = NULL;
    long size = BIO_get_mem_data(out, &text);
    return span_of(text, (size_t)size);
}

struct x509_trust *link_x509_trust(const struct link_x509 *x)
{
    char why[200] = "";
    BIO *roots = BIO_new(BIO_s_mem());
    AMI_CHECK(roots != NULL && PEM_write_bio_X509(roots, x->root) == 1);
    struct x509_trust *trust = x509_trust_new(pem_of(roots), span_of(NULL, 0), why, sizeof why);
    AMI_CHECK(trust != NULL);
    BIO_free(roots);
    return trust;
}

void link_x509_credential(struct credential *out, struct link_x509 *x, const struct network *net,
                          const char *name, const char *label)
{
    char san[200], hex[2 * SM3_BYTES + 1], why[300] = "";
    struct link_x509_leaf leaf;
    hex_encode(hex, net->id.b, SM3_BYTES);
    snprintf(san, sizeof san, "URI:urn:amiledger:%s:%s:%s%s%s", hex,
             label == NULL ? "dc" : "operator", name, label == NULL ? "" : ":",
             label == NULL ? "" : label);
    link_x509_leaf_make(&leaf, x, name, san);
    BIO *chain = BIO_new(BIO_s_mem()), *keys = BIO_new(BIO_s_mem());
    AMI_CHECK(chain != NULL && keys != NULL && PEM_write_bio_X509(chain, leaf.certificate) == 1 &&
              PEM_write_bio_X509(chain, x->authority) == 1 &&
              PEM_write_bio_PrivateKey(keys, leaf.key, NULL, NULL, 0, NULL, NULL) == 1);
    AMI_CHECK(x509_credential(out, net, pem_of(keys), pem_of(chain), why, sizeof why) == AMI_OK);
    BIO_free(chain);
    BIO_free(keys);
    link_x509_leaf_free(&leaf);
}
