/* crypto/sm2_fe_portable.h - the field of sm2p256v1 in plain C: five signed limbs of 52 bits.
 *
 * p = 2^256 - 2^224 - 2^96 + 2^64 - 1. An element stands for sum l[i] 2^(52 i) modulo p, in
 * Montgomery form with R = 2^260. Limbs are lazy: additions and subtractions are limb by limb and
 * carry nothing. Bounds, asserted where AMI_SM2_BOUNDS is defined (debug builds):
 *   - fe_mul and fe_sqr take limbs of at most 2^56 in size. A column then sums at most 5 products
 *     below 2^112 and two multiples of m below 2^101, which stays below 2^115 of the 2^127.
 *   - They take values of at most 16 p in size, so l[4] is at most 2^53: with |a|, |b| <= A p, B p
 *     the result lies in (-A B / 16 p, (A B / 16 + 1) p). Limbs 0 to 3 of a result are in
 *     [0, 2^52).
 *   - fe_weak brings any value of limbs below 2^56 into (-2^230, 2^256 + 2^230).
 * The formulas of sm2_path_single.c weaken every coordinate that they hand on, and never add more
 * than eight elements before a product, which keeps both bounds.
 *
 * Everything is constant time. Outputs may alias inputs. Private to crypto/; the twin of
 * sm2_fe_x86.h, with the same functions.
 */
#ifndef AMI_CRYPTO_SM2_FE_PORTABLE_H
#define AMI_CRYPTO_SM2_FE_PORTABLE_H

#include "base/bytes.h"
#include "crypto/ct.h"
#ifdef AMI_SM2_BOUNDS
#include "base/check.h"
#endif

__extension__ typedef unsigned __int128 u128;
__extension__ typedef __int128 i128;

typedef struct fe {
    int64_t l[5];
} fe;
#define FE_LIMBS 5

#define FE_LIMB_MASK ((INT64_C(1) << 52) - 1)

static const fe fe_one = {{0x10, INT64_C(0xffffffff0000), 0, 0, 0x100000}};
/* 2^520 and 2^780 mod p: what takes integers, and inverses of Montgomery forms, to that form. */
static const fe fe_r2 = {{INT64_C(0x20000000300), INT64_C(0xffffffff00000), INT64_C(0x100000002),
                          INT64_C(0x200000001000), INT64_C(0x4000000)}};
static const fe fe_r3 = {{INT64_C(0x1200000016000), INT64_C(0xffffff8000000), INT64_C(0xc0000000ef),
                          INT64_C(0x90000000a0000), INT64_C(0x1b0000000)}};
/* The curve's b. */
static const fe fe_b = {{INT64_C(0x30632bc0dd422), INT64_C(0xb09b537ab70d2),
                         INT64_C(0xa51c3c71cf379), INT64_C(0x2c8527981505e),
                         INT64_C(0x40fe188da20e)}};

static inline void fe_check_operand(const fe *a)
{
#ifdef AMI_SM2_BOUNDS
    for (int i = 0; i < 4; i++)
        AMI_CHECK(a->l[i] >= -(INT64_C(1) << 56) && a->l[i] <= INT64_C(1) << 56);
    AMI_CHECK(a->l[4] >= -(INT64_C(1) << 53) && a->l[4] <= INT64_C(1) << 53);
#else
    (void)a;
#endif
}

#define FE_PRODUCT(x, y) ((i128)(x) * (y))

/* One column: takes its low limb as Montgomery's m, whose multiple m p clears it (p = -1 modulo
 * 2^52), and carries the rest. */
#define FE_CLEAR(m, t)                                                                             \
    int64_t m = (int64_t)(t)&FE_LIMB_MASK;                                                         \
    (t) >>= 52
#define FE_KEEP(out, t)                                                                            \
    (out) = (int64_t)(t)&FE_LIMB_MASK;                                                             \
    (t) >>= 52
/* m p = -m + m (2^12 - 2^44) 2^52 + m (2^48 - 2^16) 2^208. */
#define FE_P_COLUMN_1 ((INT64_C(1) << 12) - (INT64_C(1) << 44))
#define FE_P_COLUMN_4 ((INT64_C(1) << 48) - (INT64_C(1) << 16))

static __attribute__((noinline, unused)) void fe_mul(fe *out, const fe *a, const fe *b)
{
    const int64_t a0 = a->l[0], a1 = a->l[1], a2 = a->l[2], a3 = a->l[3], a4 = a->l[4];
    const int64_t b0 = b->l[0], b1 = b->l[1], b2 = b->l[2], b3 = b->l[3], b4 = b->l[4];
    fe_check_operand(a);
    fe_check_operand(b);
    i128 t = FE_PRODUCT(a0, b0);
    FE_CLEAR(m0, t);
    t += FE_PRODUCT(a0, b1) + FE_PRODUCT(a1, b0) + FE_PRODUCT(m0, FE_P_COLUMN_1);
    FE_CLEAR(m1, t);
    t += FE_PRODUCT(a0, b2) + FE_PRODUCT(a1, b1) + FE_PRODUCT(a2, b0) +
         FE_PRODUCT(m1, FE_P_COLUMN_1);
    FE_CLEAR(m2, t);
    t += FE_PRODUCT(a0, b3) + FE_PRODUCT(a1, b2) + FE_PRODUCT(a2, b1) + FE_PRODUCT(a3, b0) +
         FE_PRODUCT(m2, FE_P_COLUMN_1);
    FE_CLEAR(m3, t);
    t += FE_PRODUCT(a0, b4) + FE_PRODUCT(a1, b3) + FE_PRODUCT(a2, b2) + FE_PRODUCT(a3, b1) +
         FE_PRODUCT(a4, b0) + FE_PRODUCT(m3, FE_P_COLUMN_1) + FE_PRODUCT(m0, FE_P_COLUMN_4);
    FE_CLEAR(m4, t);
    t += FE_PRODUCT(a1, b4) + FE_PRODUCT(a2, b3) + FE_PRODUCT(a3, b2) + FE_PRODUCT(a4, b1) +
         FE_PRODUCT(m4, FE_P_COLUMN_1) + FE_PRODUCT(m1, FE_P_COLUMN_4);
    FE_KEEP(out->l[0], t);
    t += FE_PRODUCT(a2, b4) + FE_PRODUCT(a3, b3) + FE_PRODUCT(a4, b2) +
         FE_PRODUCT(m2, FE_P_COLUMN_4);
    FE_KEEP(out->l[1], t);
    t += FE_PRODUCT(a3, b4) + FE_PRODUCT(a4, b3) + FE_PRODUCT(m3, FE_P_COLUMN_4);
    FE_KEEP(out->l[2], t);
    t += FE_PRODUCT(a4, b4) + FE_PRODUCT(m4, FE_P_COLUMN_4);
    FE_KEEP(out->l[3], t);
    out->l[4] = (int64_t)t;
}

static __attribute__((noinline, unused)) void fe_sqr(fe *out, const fe *a)
{
    const int64_t a0 = a->l[0], a1 = a->l[1], a2 = a->l[2], a3 = a->l[3], a4 = a->l[4];
    const int64_t d0 = 2 * a0, d1 = 2 * a1, d2 = 2 * a2, d3 = 2 * a3;
    fe_check_operand(a);
    i128 t = FE_PRODUCT(a0, a0);
    FE_CLEAR(m0, t);
    t += FE_PRODUCT(d0, a1) + FE_PRODUCT(m0, FE_P_COLUMN_1);
    FE_CLEAR(m1, t);
    t += FE_PRODUCT(d0, a2) + FE_PRODUCT(a1, a1) + FE_PRODUCT(m1, FE_P_COLUMN_1);
    FE_CLEAR(m2, t);
    t += FE_PRODUCT(d0, a3) + FE_PRODUCT(d1, a2) + FE_PRODUCT(m2, FE_P_COLUMN_1);
    FE_CLEAR(m3, t);
    t += FE_PRODUCT(d0, a4) + FE_PRODUCT(d1, a3) + FE_PRODUCT(a2, a2) +
         FE_PRODUCT(m3, FE_P_COLUMN_1) + FE_PRODUCT(m0, FE_P_COLUMN_4);
    FE_CLEAR(m4, t);
    t += FE_PRODUCT(d1, a4) + FE_PRODUCT(d2, a3) + FE_PRODUCT(m4, FE_P_COLUMN_1) +
         FE_PRODUCT(m1, FE_P_COLUMN_4);
    FE_KEEP(out->l[0], t);
    t += FE_PRODUCT(d2, a4) + FE_PRODUCT(a3, a3) + FE_PRODUCT(m2, FE_P_COLUMN_4);
    FE_KEEP(out->l[1], t);
    t += FE_PRODUCT(d3, a4) + FE_PRODUCT(m3, FE_P_COLUMN_4);
    FE_KEEP(out->l[2], t);
    t += FE_PRODUCT(a4, a4) + FE_PRODUCT(m4, FE_P_COLUMN_4);
    FE_KEEP(out->l[3], t);
    out->l[4] = (int64_t)t;
}

static inline void fe_add(fe *out, const fe *a, const fe *b)
{
    *out = (fe){{a->l[0] + b->l[0], a->l[1] + b->l[1], a->l[2] + b->l[2], a->l[3] + b->l[3],
                 a->l[4] + b->l[4]}};
}

static inline void fe_sub(fe *out, const fe *a, const fe *b)
{
    *out = (fe){{a->l[0] - b->l[0], a->l[1] - b->l[1], a->l[2] - b->l[2], a->l[3] - b->l[3],
                 a->l[4] - b->l[4]}};
}

static inline void fe_double(fe *out, const fe *a)
{
    fe_add(out, a, a);
}

static inline void fe_negate(fe *out, const fe *a)
{
    *out = (fe){{-a->l[0], -a->l[1], -a->l[2], -a->l[3], -a->l[4]}};
}

/* Takes away the multiple of p that the top limb shows: q 2^256 = q (2^224 + 2^96 - 2^64 + 1). */
static inline void fe_weak(fe *a)
{
    const int64_t q = a->l[4] >> 48;
    a->l[0] += q;
    a->l[1] -= q * FE_P_COLUMN_1;
    a->l[4] = (a->l[4] & ((INT64_C(1) << 48) - 1)) + q * (1 << 16);
}

/* out = mask ? a : b */
static inline void fe_select(fe *out, uint64_t mask, const fe *a, const fe *b)
{
    for (int i = 0; i < 5; i++)
        out->l[i] = b->l[i] ^ ((a->l[i] ^ b->l[i]) & (int64_t)mask);
}

static inline void fe_carry(fe *a)
{
    for (int i = 0; i < 4; i++) {
        a->l[i + 1] += a->l[i] >> 52;
        a->l[i] &= FE_LIMB_MASK;
    }
}

/* a += p where the mask is set. */
static inline void fe_add_p(fe *a, int64_t mask)
{
    a->l[0] -= mask & 1;
    a->l[1] += mask & FE_P_COLUMN_1;
    a->l[4] += mask & FE_P_COLUMN_4;
    fe_carry(a);
}

/* To four 64-bit limbs of the one value in [0, p), still in Montgomery form. fe_weak leaves
 * (-2^230, 2^256 + 2^230), which is inside (-p, 2p). */
static inline void fe_pack(uint64_t out[4], const fe *a)
{
    fe t = *a;
    fe_weak(&t);
    fe_carry(&t);
    fe_add_p(&t, t.l[4] >> 63);
    fe reduced = t;
    reduced.l[0] += 1;
    reduced.l[1] -= FE_P_COLUMN_1;
    reduced.l[4] -= FE_P_COLUMN_4;
    fe_carry(&reduced);
    fe_select(&t, (uint64_t)(reduced.l[4] >> 63), &t, &reduced);
    const uint64_t *l = (const uint64_t *)t.l;
    out[0] = l[0] | l[1] << 52;
    out[1] = l[1] >> 12 | l[2] << 40;
    out[2] = l[2] >> 24 | l[3] << 28;
    out[3] = l[3] >> 36 | l[4] << 16;
}

static inline void fe_unpack(fe *out, const uint64_t in[4])
{
    const uint64_t mask = (uint64_t)FE_LIMB_MASK;
    out->l[0] = (int64_t)(in[0] & mask);
    out->l[1] = (int64_t)((in[0] >> 52 | in[1] << 12) & mask);
    out->l[2] = (int64_t)((in[1] >> 40 | in[2] << 24) & mask);
    out->l[3] = (int64_t)((in[2] >> 28 | in[3] << 36) & mask);
    out->l[4] = (int64_t)(in[3] >> 16);
}

#endif
