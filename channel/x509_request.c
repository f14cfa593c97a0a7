/* Requests for X.509 certificates (PKCS #10), for keys that do not leave their owner. */
#include "channel/internal.h"
#include "channel/x509.h"

#include "crypto/secret.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#define SM2_ID "1234567812345678"

/* The key in libcrypto's hands. NULL when out of memory. */
static EVP_PKEY *key_of(const sm2_private *key)
{
    uint8_t d[SM2_SCALAR_BYTES], xy[1 + SM2_XY_BYTES] = {4};
    EVP_PKEY *out = NULL;
    scalar_encode(d, &key->d);
    point_xy(xy + 1, &key->p);
    BIGNUM *secret = BN_secure_new();
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "SM2", NULL);
    OSSL_PARAM *params = NULL;
    if (secret != NULL && build != NULL && ctx != NULL && BN_bin2bn(d, sizeof d, secret) != NULL &&
        OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, "SM2", 0) == 1 &&
        OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_PRIV_KEY, secret) == 1 &&
        OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, xy, sizeof xy) == 1 &&
        (params = OSSL_PARAM_BLD_to_param(build)) != NULL && EVP_PKEY_fromdata_init(ctx) == 1 &&
        EVP_PKEY_fromdata(ctx, &out, EVP_PKEY_KEYPAIR, params) != 1)
        out = NULL;
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(build);
    EVP_PKEY_CTX_free(ctx);
    BN_clear_free(secret);
    secret_wipe(d, sizeof d);
    return out;
}

static bool add_extension(STACK_OF(X509_EXTENSION) * to, int nid, const char *value)
{
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    if (e != NULL && sk_X509_EXTENSION_push(to, e) != 0)
        return true;
    X509_EXTENSION_free(e);
    return false;
}

static bool add_extensions(X509_REQ *request, const struct credential_identity *who)
{
    char san[256], network[2 * SM3_BYTES + 1], label[LABEL_TEXT_BYTES] = "";
    const bool person = who->role == CREDENTIAL_OPERATOR;
    hex_encode(network, who->network.b, SM3_BYTES);
    if (person)
        label_text(label, who->label);
    snprintf(san, sizeof san, "URI:urn:amiledger:%s:%s:%s%s%s", network,
             credential_role_name(who->role), who->name.text, person ? ":" : "", label);
    STACK_OF(X509_EXTENSION) *all = sk_X509_EXTENSION_new_null();
    bool good =
        all != NULL && add_extension(all, NID_basic_constraints, "critical,CA:FALSE") &&
        add_extension(all, NID_key_usage, "critical,digitalSignature") &&
        add_extension(all, NID_ext_key_usage, person ? "clientAuth" : "clientAuth,serverAuth") &&
        add_extension(all, NID_subject_alt_name, san) && X509_REQ_add_extensions(request, all) == 1;
    sk_X509_EXTENSION_pop_free(all, X509_EXTENSION_free);
    return good;
}

static bool sign(X509_REQ *request, EVP_PKEY *key)
{
    bool good = false;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *key_ctx = EVP_PKEY_CTX_new(key, NULL);
    if (ctx != NULL && key_ctx != NULL &&
        EVP_PKEY_CTX_set1_id(key_ctx, SM2_ID, sizeof SM2_ID - 1) == 1) {
        EVP_MD_CTX_set_pkey_ctx(ctx, key_ctx);
        good = EVP_DigestSignInit(ctx, NULL, EVP_sm3(), NULL, key) == 1 &&
               X509_REQ_sign_ctx(request, ctx) > 0;
    }
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_CTX_free(key_ctx);
    return good;
}

size_t x509_request(char *out, const struct credential_identity *who, const sm2_private *key)
{
    size_t size = 0;
    char *text = NULL;
    EVP_PKEY *own = key_of(key);
    X509_REQ *request = X509_REQ_new();
    BIO *to = BIO_new(BIO_s_mem());
    X509_NAME *name = X509_NAME_new();
    if (own != NULL && request != NULL && to != NULL && name != NULL &&
        X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_UTF8,
                                   (const unsigned char *)who->name.text, -1, -1, 0) == 1 &&
        X509_REQ_set_subject_name(request, name) == 1 && X509_REQ_set_pubkey(request, own) == 1 &&
        add_extensions(request, who) && sign(request, own) &&
        PEM_write_bio_X509_REQ(to, request) == 1) {
        const long written = BIO_get_mem_data(to, &text);
        if (written > 0 && written <= X509_REQUEST_BYTES_MAX) {
            size = (size_t)written;
            memcpy(out, text, size);
        }
    }
    X509_NAME_free(name);
    BIO_free(to);
    X509_REQ_free(request);
    EVP_PKEY_free(own);
    ERR_clear_error();
    return size;
}
