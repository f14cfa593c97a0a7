/* bench/openssl.h - OpenSSL's side of a benchmark: SM2 products, keys, signatures, encryption.
 *
 * Thin names over libcrypto's calls, and the same values in its types as in ours, made outside of
 * what is timed. A call of libcrypto that fails ends the program with a sentence.
 */
#ifndef AMI_BENCH_OPENSSL_H
#define AMI_BENCH_OPENSSL_H

#include "crypto/sm2.h"

#include <openssl/ec.h>
#include <openssl/evp.h>

/* Operations prepared for OpenSSL, a power of two: enough for a repetition of 2 ms down to 16 us
 * each. */
#define OPENSSL_POOL 128

#define OPENSSL_SIGNATURE_BYTES 80 /* DER, at most */

void openssl_start(void);
void openssl_stop(void);

/* Ends the program when libcrypto's answer is not the good one. */
void openssl_need(bool good, const char *what);

/* --- products --------------------------------------------------------------------------------- */

BIGNUM *openssl_number(const scalar *k);
EC_POINT *openssl_point(const point *p);
/* r = k p; p NULL: k G. r may not be p. */
void openssl_mul(EC_POINT *r, const BIGNUM *k, const EC_POINT *p);
void openssl_add(EC_POINT *r, const EC_POINT *a, const EC_POINT *b);
/* Whether `ours` is k p as OpenSSL computes it; p NULL: k G. */
bool openssl_agrees(const point *ours, const scalar *k, const point *p);

/* OPENSSL_POOL scalars and points in OpenSSL's types, and room for results. */
struct openssl_inputs {
    BIGNUM *k[OPENSSL_POOL];
    EC_POINT *p[OPENSSL_POOL];
    EC_POINT *r[4];
};
void openssl_inputs_make(struct openssl_inputs *out, const scalar *k, const point *p);
void openssl_inputs_free(struct openssl_inputs *in);

/* --- keys ------------------------------------------------------------------------------------- */

/* Ready for EVP_PKEY_sign, _verify (both of a digest, no ID), _encrypt or _decrypt. Free with
 * EVP_PKEY_CTX_free. */
enum openssl_use { OPENSSL_SIGN, OPENSSL_VERIFY, OPENSSL_ENCRYPT, OPENSSL_DECRYPT };
EVP_PKEY_CTX *openssl_context(const sm2_private *key, enum openssl_use use);

/* DER of r and s. Returns its size. */
size_t openssl_signature(uint8_t out[OPENSSL_SIGNATURE_BYTES], const sm2_signature *sig);
/* Whether OpenSSL accepts the signature under the key. */
bool openssl_verifies(const sm2_private *key, const sm3_digest *e, const sm2_signature *sig);

#endif
