/* crypto/sm2_fe.h - the field of sm2p256v1 for code that computes with one element at a time.
 *
 * sm2_fe_x86.h on x86-64, sm2_fe_portable.h on other processors, where AMI_CRYPTO_NO_ASM is defined
 * (tests hold the C code to the same cases) and under MemorySanitizer; and what follows from their
 * products. Constant time. Private to crypto/.
 */
#ifndef AMI_CRYPTO_SM2_FE_H
#define AMI_CRYPTO_SM2_FE_H

#if defined(AMI_SM2_ADX) ||                                                                        \
    (defined(__x86_64__) && !defined(AMI_CRYPTO_NO_ASM) && !defined(AMI_CT_MSAN))
#include "crypto/sm2_fe_x86.h"
#else
#include "crypto/sm2_fe_portable.h"
#endif

#include "crypto/secret.h"
#include "crypto/sm2_inverse.h"

/* From and to integers less than p. */
static inline void fe_from_plain(fe *out, const uint64_t in[4])
{
    fe_unpack(out, in);
    fe_mul(out, out, &fe_r2);
}

static inline void fe_to_plain(uint64_t out[4], const fe *a)
{
    static const fe plain_one = {{1}};
    fe t;
    fe_mul(&t, a, &plain_one);
    fe_pack(out, &t);
}

static inline uint64_t fe_mask_zero(const fe *a)
{
    uint64_t t[4];
    fe_pack(t, a);
    return ct_mask_zero(t[0] | t[1] | t[2] | t[3]);
}

static inline uint64_t fe_mask_equal(const fe *a, const fe *b)
{
    fe d;
    fe_sub(&d, a, b);
    return fe_mask_zero(&d);
}

static inline void fe_inverse(fe *out, const fe *a)
{
    uint64_t t[4];
    fe_pack(t, a);
    inverse_mod_p(t, t);
    fe_unpack(out, t);
    fe_mul(out, out, &fe_r3);
    secret_wipe(t, sizeof t);
}

static inline void fe_sqr_times(fe *out, const fe *a, unsigned count)
{
    fe_sqr(out, a);
    for (unsigned i = 1; i < count; i++)
        fe_sqr(out, out);
}

/* a^((p - 3) / 4), whose exponent in binary is 31 ones, a zero, 128 ones, 32 zeros, 62 ones. xN
 * below is a to the power of N ones. */
static inline void fe_pow_p34(fe *out, const fe *a)
{
    fe x2, x3, x6, x12, x15, x30, x31, x32, t;
    fe_sqr_times(&x2, a, 1);
    fe_mul(&x2, &x2, a);
    fe_sqr_times(&x3, &x2, 1);
    fe_mul(&x3, &x3, a);
    fe_sqr_times(&x6, &x3, 3);
    fe_mul(&x6, &x6, &x3);
    fe_sqr_times(&x12, &x6, 6);
    fe_mul(&x12, &x12, &x6);
    fe_sqr_times(&x15, &x12, 3);
    fe_mul(&x15, &x15, &x3);
    fe_sqr_times(&x30, &x15, 15);
    fe_mul(&x30, &x30, &x15);
    fe_sqr_times(&x31, &x30, 1);
    fe_mul(&x31, &x31, a);
    fe_sqr_times(&x32, &x31, 1);
    fe_mul(&x32, &x32, a);
    fe_sqr_times(&t, &x31, 1);
    for (int i = 0; i < 4; i++) {
        fe_sqr_times(&t, &t, 32);
        fe_mul(&t, &t, &x32);
    }
    fe_sqr_times(&t, &t, 64);
    fe_mul(&t, &t, &x32);
    fe_sqr_times(&t, &t, 30);
    fe_mul(out, &t, &x30);
}

/* A root of a; the mask tells whether there is one (out is unspecified otherwise). */
static inline uint64_t fe_root(fe *out, const fe *a)
{
    fe root, check;
    fe_pow_p34(&root, a);
    fe_mul(&root, &root, a); /* (p + 1) / 4 = (p - 3) / 4 + 1 */
    fe_sqr(&check, &root);
    const uint64_t good = fe_mask_equal(&check, a);
    *out = root;
    return good;
}

/* x^3 - 3 x + b */
static inline void curve_right_side(fe *out, const fe *x)
{
    fe t, three_x;
    fe_sqr(&t, x);
    fe_mul(&t, &t, x);
    fe_double(&three_x, x);
    fe_add(&three_x, &three_x, x);
    fe_sub(&t, &t, &three_x);
    fe_add(out, &t, &fe_b);
}

#endif
