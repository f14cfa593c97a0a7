/* tests/crypto/openssl_group.h - the curve, the signature equation and SM3 by OpenSSL alone.
 *
 * The second opinion of test_verify.c and oracle_long.c. Nothing here calls the library: numbers go
 * in and out as the plain limbs of `scalar` and `point`, and are OpenSSL's big numbers in between.
 * One struct per thread. What OpenSSL itself refuses ends the program.
 */
#ifndef AMI_TESTS_CRYPTO_OPENSSL_GROUP_H
#define AMI_TESTS_CRYPTO_OPENSSL_GROUP_H

#include "crypto/sm2.h"

#include <openssl/ec.h>

struct openssl_group {
    EC_GROUP *group;
    BN_CTX *ctx;
    const BIGNUM *n;
    EC_POINT *r, *q;       /* the result, an operand */
    BIGNUM *a, *b, *x, *y; /* scratch */
};

void openssl_group_start(struct openssl_group *o);
void openssl_group_end(struct openssl_group *o);

point openssl_mul_base(struct openssl_group *o, const scalar *k);
point openssl_mul(struct openssl_group *o, const scalar *k, const point *p);
/* a G + b p */
point openssl_mul_add(struct openssl_group *o, const scalar *a, const scalar *b, const point *p);
point openssl_add(struct openssl_group *o, const point *a, const point *b);
point openssl_negate(struct openssl_group *o, const point *a);
bool openssl_decode(struct openssl_group *o, point *out, const point_bytes *in);

/* out = a op b mod n */
scalar openssl_scalar_add(struct openssl_group *o, const scalar *a, const scalar *b);
scalar openssl_scalar_sub(struct openssl_group *o, const scalar *a, const scalar *b);
scalar openssl_scalar_mul(struct openssl_group *o, const scalar *a, const scalar *b);
scalar openssl_scalar_inverse(struct openssl_group *o, const scalar *a); /* of zero: zero */
/* A big-endian integer modulo n. */
scalar openssl_scalar_reduce(struct openssl_group *o, const void *bytes, size_t size);

/* GB/T 32918.2 clause 7.1: r and s in [1, n-1], t = r + s not 0, and x of s G + t p plus e is r.
 * That point goes to `out`, which may be NULL, where the answer is true. */
bool openssl_verify(struct openssl_group *o, const point *p, const sm3_digest *e,
                    const sm2_signature *sig, point *out);
/* Clause 6.1 with the nonce k; false when the standard asks for another nonce. */
bool openssl_sign(struct openssl_group *o, sm2_signature *out, const scalar *d, const sm3_digest *e,
                  const scalar *k);

sm3_digest openssl_sm3(const struct span *parts, size_t count);
/* KDF of GB/T 32918.4 clause 5.4.3. */
void openssl_kdf(uint8_t *out, size_t size, const struct span *parts, size_t count);

/* x || y of a finite point and one scalar as big-endian bytes. */
void openssl_xy(uint8_t out[SM2_XY_BYTES], const point *p);
void openssl_scalar_bytes(uint8_t out[SM2_SCALAR_BYTES], const scalar *k);

#endif
