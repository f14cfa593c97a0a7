#include "bench/openssl.h"

#include "bench/timing.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/obj_mac.h>
#include <openssl/param_build.h>

static EC_GROUP *group;
static BN_CTX *bn;

void openssl_need(bool good, const char *what)
{
    if (!good) {
        const char *reason = ERR_reason_error_string(ERR_peek_last_error());
        bench_fail("OpenSSL's %s failed: %s", what, reason != NULL ? reason : "no reason given");
    }
}

void openssl_start(void)
{
    group = EC_GROUP_new_by_curve_name(NID_sm2);
    openssl_need(group != NULL, "curve SM2");
    bn = BN_CTX_new();
    openssl_need(bn != NULL, "BN_CTX_new");
}

void openssl_stop(void)
{
    EC_GROUP_free(group);
    BN_CTX_free(bn);
}

/* --- products --------------------------------------------------------------------------------- */

BIGNUM *openssl_number(const scalar *k)
{
    uint8_t bytes[SM2_SCALAR_BYTES];
    scalar_encode(bytes, k);
    BIGNUM *out = BN_bin2bn(bytes, sizeof bytes, NULL);
    openssl_need(out != NULL, "BN_bin2bn");
    return out;
}

static EC_POINT *new_point(void)
{
    EC_POINT *out = EC_POINT_new(group);
    openssl_need(out != NULL, "EC_POINT_new");
    return out;
}

/* 04, x, y: how OpenSSL reads and writes a point. */
static void uncompressed(uint8_t out[1 + SM2_XY_BYTES], const point *p)
{
    out[0] = 4;
    point_xy(out + 1, p);
}

EC_POINT *openssl_point(const point *p)
{
    uint8_t bytes[1 + SM2_XY_BYTES];
    EC_POINT *out = new_point();
    uncompressed(bytes, p);
    openssl_need(EC_POINT_oct2point(group, out, bytes, sizeof bytes, bn) == 1,
                 "EC_POINT_oct2point");
    return out;
}

void openssl_mul(EC_POINT *r, const BIGNUM *k, const EC_POINT *p)
{
    int done = p == NULL ? EC_POINT_mul(group, r, k, NULL, NULL, bn)
                         : EC_POINT_mul(group, r, NULL, p, k, bn);
    openssl_need(done == 1, "EC_POINT_mul");
}

void openssl_add(EC_POINT *r, const EC_POINT *a, const EC_POINT *b)
{
    openssl_need(EC_POINT_add(group, r, a, b, bn) == 1, "EC_POINT_add");
}

bool openssl_agrees(const point *ours, const scalar *k, const point *p)
{
    uint8_t have[1 + SM2_XY_BYTES], want[1 + SM2_XY_BYTES];
    EC_POINT *theirs = new_point(), *theirs_p = p == NULL ? NULL : openssl_point(p);
    BIGNUM *theirs_k = openssl_number(k);
    openssl_mul(theirs, theirs_k, theirs_p);
    size_t size =
        EC_POINT_point2oct(group, theirs, POINT_CONVERSION_UNCOMPRESSED, want, sizeof want, bn);
    EC_POINT_free(theirs);
    EC_POINT_free(theirs_p);
    BN_free(theirs_k);
    if (point_is_infinity(ours))
        return false; /* the scalars here are never zero */
    uncompressed(have, ours);
    return span_equal(span_of(have, sizeof have), span_of(want, size));
}

void openssl_inputs_make(struct openssl_inputs *out, const scalar *k, const point *p)
{
    for (size_t i = 0; i < OPENSSL_POOL; i++) {
        out->k[i] = openssl_number(&k[i]);
        out->p[i] = openssl_point(&p[i]);
    }
    for (size_t i = 0; i < sizeof out->r / sizeof out->r[0]; i++)
        out->r[i] = new_point();
}

void openssl_inputs_free(struct openssl_inputs *in)
{
    for (size_t i = 0; i < OPENSSL_POOL; i++) {
        BN_free(in->k[i]);
        EC_POINT_free(in->p[i]);
    }
    for (size_t i = 0; i < sizeof in->r / sizeof in->r[0]; i++)
        EC_POINT_free(in->r[i]);
}

/* --- keys ------------------------------------------------------------------------------------- */

static EVP_PKEY *new_key(const sm2_private *key)
{
    uint8_t xy[1 + SM2_XY_BYTES];
    uncompressed(xy, &key->p);
    BIGNUM *d = openssl_number(&key->d);
    OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    openssl_need(
        builder != NULL &&
            OSSL_PARAM_BLD_push_utf8_string(builder, OSSL_PKEY_PARAM_GROUP_NAME, "SM2", 0) == 1 &&
            OSSL_PARAM_BLD_push_octet_string(builder, OSSL_PKEY_PARAM_PUB_KEY, xy, sizeof xy) ==
                1 &&
            OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_PRIV_KEY, d) == 1,
        "OSSL_PARAM_BLD");
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(builder);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "SM2", NULL);
    EVP_PKEY *out = NULL;
    openssl_need(params != NULL && ctx != NULL && EVP_PKEY_fromdata_init(ctx) == 1 &&
                     EVP_PKEY_fromdata(ctx, &out, EVP_PKEY_KEYPAIR, params) == 1,
                 "EVP_PKEY_fromdata");
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(builder);
    BN_free(d);
    return out;
}

EVP_PKEY_CTX *openssl_context(const sm2_private *key, enum openssl_use use)
{
    static int (*const init[])(EVP_PKEY_CTX *) = {
        [OPENSSL_SIGN] = EVP_PKEY_sign_init,
        [OPENSSL_VERIFY] = EVP_PKEY_verify_init,
        [OPENSSL_ENCRYPT] = EVP_PKEY_encrypt_init,
        [OPENSSL_DECRYPT] = EVP_PKEY_decrypt_init,
    };
    EVP_PKEY *pkey = new_key(key);
    EVP_PKEY_CTX *out = EVP_PKEY_CTX_new(pkey, NULL);
    openssl_need(out != NULL && init[use](out) == 1, "EVP_PKEY_CTX_new");
    EVP_PKEY_free(pkey); /* the context holds it */
    return out;
}

size_t openssl_signature(uint8_t out[OPENSSL_SIGNATURE_BYTES], const sm2_signature *sig)
{
    ECDSA_SIG *both = ECDSA_SIG_new();
    openssl_need(both != NULL && ECDSA_SIG_set0(both, BN_bin2bn(sig->b, 32, NULL),
                                                BN_bin2bn(sig->b + 32, 32, NULL)) == 1,
                 "ECDSA_SIG_set0");
    int size = i2d_ECDSA_SIG(both, NULL);
    openssl_need(size > 0 && size <= OPENSSL_SIGNATURE_BYTES, "i2d_ECDSA_SIG");
    i2d_ECDSA_SIG(both, &out);
    ECDSA_SIG_free(both);
    return (size_t)size;
}

bool openssl_verifies(const sm2_private *key, const sm3_digest *e, const sm2_signature *sig)
{
    uint8_t der[OPENSSL_SIGNATURE_BYTES];
    size_t size = openssl_signature(der, sig);
    EVP_PKEY_CTX *ctx = openssl_context(key, OPENSSL_VERIFY);
    bool good = EVP_PKEY_verify(ctx, der, size, e->b, sizeof e->b) == 1;
    EVP_PKEY_CTX_free(ctx);
    return good;
}
