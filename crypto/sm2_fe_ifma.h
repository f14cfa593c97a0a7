/* crypto/sm2_fe_ifma.h - eight elements of the field of sm2p256v1 side by side, by AVX-512 IFMA.
 *
 * p = 2^256 - 2^224 - 2^96 + 2^64 - 1. An element is five limbs of 52 bits, l[i] holding limb i of
 * all eight lanes, in Montgomery form with R = 2^260. The multiplier takes 52 bits of each limb, so
 * limbs are always carried. Bounds, in multiples of p, asserted where AMI_SM2_BOUNDS is defined
 * (debug builds):
 *   - operands of a product have limbs in [0, 2^52), which bounds the value by 2^260, 16.01 p.
 *     With a < A p and b < B p the result is less than (A B / 16 + 1) p.
 *   - fe8_norm takes limbs of any sign and at most 2^58 in size, and gives a value in
 *     (2^256 - 2^235, 2.001 2^256), that is less than 2.01 p, with limbs in [0, 2^52). This is the
 *     bound of all sums and differences.
 *   - so products of two such are below 1.26 p, and of one such and a raw table entry (16 p) below
 *     3.02 p.
 * A column of a product sums at most ten halves below 2^52 and the reduction's two, a two-fold
 * product twice as many: below 2^57.
 *
 * Constant time. Outputs may alias inputs. Private to crypto/.
 */
#ifndef AMI_CRYPTO_SM2_FE_IFMA_H
#define AMI_CRYPTO_SM2_FE_IFMA_H

#include "base/bytes.h"
#ifdef AMI_SM2_BOUNDS
#include "base/check.h"
#endif

#include <immintrin.h>

typedef struct fe8 {
    __m512i l[5];
} fe8;

#define FE8_LIMB_MASK   ((INT64_C(1) << 52) - 1)
#define FE8_INLINE      static inline __attribute__((always_inline))
#define FE8_ALL(v)      _mm512_set1_epi64((long long)(v))
#define FE8_LO(t, a, b) ((t) = _mm512_madd52lo_epu64((t), (a), (b)))
#define FE8_HI(t, a, b) ((t) = _mm512_madd52hi_epu64((t), (a), (b)))
#define FE8_ADD(a, b)   _mm512_add_epi64((a), (b))
#define FE8_SUB(a, b)   _mm512_sub_epi64((a), (b))
#define FE8_AND(a, b)   _mm512_and_si512((a), (b))
#define FE8_SHL(a, n)   _mm512_slli_epi64((a), (n))
#define FE8_SAR(a, n)   _mm512_srai_epi64((a), (n))
#define FE8_SHR(a, n)   _mm512_srli_epi64((a), (n))
#define FE8_OR(a, b)    _mm512_or_si512((a), (b))

/* The constant's five limbs in all lanes. */
FE8_INLINE fe8 fe8_all(const int64_t l[5])
{
    return (fe8){{FE8_ALL(l[0]), FE8_ALL(l[1]), FE8_ALL(l[2]), FE8_ALL(l[3]), FE8_ALL(l[4])}};
}

static const int64_t fe8_one[5] = {0x10, INT64_C(0xffffffff0000), 0, 0, 0x100000};
/* 2^520 and 2^780 mod p: what takes integers, and inverses of Montgomery forms, to that form. */
static const int64_t fe8_r2[5] = {INT64_C(0x20000000300), INT64_C(0xffffffff00000),
                                  INT64_C(0x100000002), INT64_C(0x200000001000),
                                  INT64_C(0x4000000)};
static const int64_t fe8_r3[5] = {INT64_C(0x1200000016000), INT64_C(0xffffff8000000),
                                  INT64_C(0xc0000000ef), INT64_C(0x90000000a0000),
                                  INT64_C(0x1b0000000)};
/* The curve's b. */
static const int64_t fe8_b[5] = {INT64_C(0x30632bc0dd422), INT64_C(0xb09b537ab70d2),
                                 INT64_C(0xa51c3c71cf379), INT64_C(0x2c8527981505e),
                                 INT64_C(0x40fe188da20e)};
static const int64_t fe8_p[5] = {INT64_C(0xfffffffffffff), INT64_C(0xff00000000fff),
                                 INT64_C(0xfffffffffffff), INT64_C(0xfffffffffffff),
                                 INT64_C(0xfffffffeffff)};
static const int64_t fe8_2p[5] = {INT64_C(0xffffffffffffe), INT64_C(0xfe00000001fff),
                                  INT64_C(0xfffffffffffff), INT64_C(0xfffffffffffff),
                                  INT64_C(0x1fffffffdffff)};

FE8_INLINE void fe8_check_operand(const fe8 *a)
{
#ifdef AMI_SM2_BOUNDS
    for (int i = 0; i < 5; i++)
        AMI_CHECK(_mm512_cmpgt_epu64_mask(a->l[i], FE8_ALL(FE8_LIMB_MASK)) == 0);
#else
    (void)a;
#endif
}

/* --- products --------------------------------------------------------------------------------- */

FE8_INLINE void fe8_product(__m512i t[10], const fe8 *a, const fe8 *b)
{
    fe8_check_operand(a);
    fe8_check_operand(b);
#pragma GCC unroll 5
    for (int i = 0; i < 5; i++) {
#pragma GCC unroll 5
        for (int j = 0; j < 5; j++) {
            FE8_LO(t[i + j], a->l[i], b->l[j]);
            FE8_HI(t[i + j + 1], a->l[i], b->l[j]);
        }
    }
}

/* Montgomery's reduction. m = t[i] modulo 2^52 and p = -1 modulo 2^52, so m p clears t[i]:
 *   m p = -m + m (2^12 - 2^44) 2^52 + m (2^48 - 2^16) 2^208,
 * with 2^12 - 2^44 taken as (2^52 - 2^44 + 2^12) - 2^52, for the multiplier knows no signs. */
FE8_INLINE void fe8_reduce(fe8 *out, __m512i t[10])
{
    const __m512i mask = FE8_ALL(FE8_LIMB_MASK);
    const __m512i column_1 = FE8_ALL((INT64_C(1) << 52) - (INT64_C(1) << 44) + (1 << 12));
    const __m512i column_4 = FE8_ALL((INT64_C(1) << 48) - (1 << 16));
#pragma GCC unroll 5
    for (int i = 0; i < 5; i++) {
        const __m512i m = FE8_AND(t[i], mask);
        t[i + 1] = FE8_ADD(t[i + 1], FE8_SAR(t[i], 52));
        FE8_LO(t[i + 1], m, column_1);
        t[i + 2] = FE8_SUB(t[i + 2], m);
        FE8_HI(t[i + 2], m, column_1);
        FE8_LO(t[i + 4], m, column_4);
        FE8_HI(t[i + 5], m, column_4);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        out->l[i] = FE8_AND(t[i + 5], mask);
        t[i + 6] = FE8_ADD(t[i + 6], FE8_SAR(t[i + 5], 52));
    }
    out->l[4] = t[9];
}

#define FE8_COLUMNS(t)                                                                             \
    __m512i t[10] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(),       \
                     _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(),       \
                     _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(),       \
                     _mm512_setzero_si512()}

FE8_INLINE void fe8_mul(fe8 *out, const fe8 *a, const fe8 *b)
{
    FE8_COLUMNS(t);
    fe8_product(t, a, b);
    fe8_reduce(out, t);
}

/* out = a b + c d, with one reduction. */
FE8_INLINE void fe8_mul_add_mul(fe8 *out, const fe8 *a, const fe8 *b, const fe8 *c, const fe8 *d)
{
    FE8_COLUMNS(t);
    fe8_product(t, a, b);
    fe8_product(t, c, d);
    fe8_reduce(out, t);
}

FE8_INLINE void fe8_sqr(fe8 *out, const fe8 *a)
{
    FE8_COLUMNS(t);
    fe8_check_operand(a);
#pragma GCC unroll 5
    for (int i = 0; i < 5; i++) {
#pragma GCC unroll 5
        for (int j = i + 1; j < 5; j++) {
            FE8_LO(t[i + j], a->l[i], a->l[j]);
            FE8_HI(t[i + j + 1], a->l[i], a->l[j]);
        }
    }
#pragma GCC unroll 10
    for (int i = 1; i < 10; i++)
        t[i] = FE8_ADD(t[i], t[i]);
#pragma GCC unroll 5
    for (int i = 0; i < 5; i++) {
        FE8_LO(t[2 * i], a->l[i], a->l[i]);
        FE8_HI(t[2 * i + 1], a->l[i], a->l[i]);
    }
    fe8_reduce(out, t);
}

/* --- sums ------------------------------------------------------------------------------------- */

/* Raw: limb by limb, to be followed by fe8_norm. */
FE8_INLINE fe8 fe8_raw_add(const fe8 *a, const fe8 *b)
{
    return (fe8){{FE8_ADD(a->l[0], b->l[0]), FE8_ADD(a->l[1], b->l[1]), FE8_ADD(a->l[2], b->l[2]),
                  FE8_ADD(a->l[3], b->l[3]), FE8_ADD(a->l[4], b->l[4])}};
}

FE8_INLINE fe8 fe8_raw_sub(const fe8 *a, const fe8 *b)
{
    return (fe8){{FE8_SUB(a->l[0], b->l[0]), FE8_SUB(a->l[1], b->l[1]), FE8_SUB(a->l[2], b->l[2]),
                  FE8_SUB(a->l[3], b->l[3]), FE8_SUB(a->l[4], b->l[4])}};
}

FE8_INLINE fe8 fe8_raw_shl(const fe8 *a, unsigned n)
{
    return (fe8){{FE8_SHL(a->l[0], n), FE8_SHL(a->l[1], n), FE8_SHL(a->l[2], n),
                  FE8_SHL(a->l[3], n), FE8_SHL(a->l[4], n)}};
}

/* Lanes of the mask negated. */
FE8_INLINE fe8 fe8_raw_negate(__mmask8 k, const fe8 *a)
{
    const __m512i zero = _mm512_setzero_si512();
    fe8 out;
#pragma GCC unroll 5
    for (int i = 0; i < 5; i++)
        out.l[i] = _mm512_mask_sub_epi64(a->l[i], k, zero, a->l[i]);
    return out;
}

FE8_INLINE void fe8_carry(fe8 *a)
{
    const __m512i mask = FE8_ALL(FE8_LIMB_MASK);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        a->l[i + 1] = FE8_ADD(a->l[i + 1], FE8_SAR(a->l[i], 52));
        a->l[i] = FE8_AND(a->l[i], mask);
    }
}

/* Takes away q p, q being one less than what the top limb shows of 2^256: then what the lower limbs
 * borrow cannot make the value negative. q 2^256 - q p = q (2^224 + 2^96 - 2^64 + 1). */
FE8_INLINE void fe8_norm(fe8 *a)
{
    const __m512i q = FE8_SUB(FE8_SAR(a->l[4], 48), FE8_ALL(1));
    a->l[0] = FE8_ADD(a->l[0], q);
    a->l[1] = FE8_ADD(a->l[1], FE8_SUB(FE8_SHL(q, 44), FE8_SHL(q, 12)));
    a->l[4] = FE8_ADD(a->l[4], FE8_SUB(FE8_SHL(q, 16), FE8_SHL(q, 48)));
    fe8_carry(a);
#ifdef AMI_SM2_BOUNDS
    AMI_CHECK(_mm512_cmpgt_epu64_mask(a->l[4], FE8_ALL((INT64_C(1) << 49) + (1 << 25))) == 0);
#endif
}

FE8_INLINE void fe8_add(fe8 *out, const fe8 *a, const fe8 *b)
{
    *out = fe8_raw_add(a, b);
    fe8_norm(out);
}

FE8_INLINE void fe8_sub(fe8 *out, const fe8 *a, const fe8 *b)
{
    *out = fe8_raw_sub(a, b);
    fe8_norm(out);
}

/* --- choices ---------------------------------------------------------------------------------- */

/* Lanes of the mask from a, the others from b. */
FE8_INLINE void fe8_select(fe8 *out, __mmask8 k, const fe8 *a, const fe8 *b)
{
#pragma GCC unroll 5
    for (int i = 0; i < 5; i++)
        out->l[i] = _mm512_mask_mov_epi64(b->l[i], k, a->l[i]);
}

FE8_INLINE __mmask8 fe8_mask_is(const fe8 *a, const int64_t l[5])
{
    __mmask8 k = 0xff;
#pragma GCC unroll 5
    for (int i = 0; i < 5; i++)
        k &= _mm512_cmpeq_epi64_mask(a->l[i], FE8_ALL(l[i]));
    return k;
}

/* Lanes that are zero modulo p. A normed value is p or 2 p then: 0 and 3 p are out of its range. */
FE8_INLINE __mmask8 fe8_mask_zero(const fe8 *a)
{
    fe8 t = *a;
    fe8_norm(&t);
    return (__mmask8)(fe8_mask_is(&t, fe8_p) | fe8_mask_is(&t, fe8_2p));
}

FE8_INLINE __mmask8 fe8_mask_equal(const fe8 *a, const fe8 *b)
{
    const fe8 d = fe8_raw_sub(a, b);
    return fe8_mask_zero(&d);
}

/* --- forms ------------------------------------------------------------------------------------ */

/* Four 64-bit limbs of each lane to five of 52 bits. */
FE8_INLINE void fe8_unpack(fe8 *out, const __m512i w[4])
{
    const __m512i mask = FE8_ALL(FE8_LIMB_MASK);
    out->l[0] = FE8_AND(w[0], mask);
    out->l[1] = FE8_AND(FE8_OR(FE8_SHR(w[0], 52), FE8_SHL(w[1], 12)), mask);
    out->l[2] = FE8_AND(FE8_OR(FE8_SHR(w[1], 40), FE8_SHL(w[2], 24)), mask);
    out->l[3] = FE8_AND(FE8_OR(FE8_SHR(w[2], 28), FE8_SHL(w[3], 36)), mask);
    out->l[4] = FE8_SHR(w[3], 16);
}

/* The same times 16: this takes the adx path's Montgomery form, of 2^256, to that of 2^260. The
 * value is below 2^260 and otherwise as it comes. */
FE8_INLINE void fe8_unpack_256(fe8 *out, const __m512i w[4])
{
    const __m512i mask = FE8_ALL(FE8_LIMB_MASK);
    out->l[0] = FE8_AND(FE8_SHL(w[0], 4), mask);
    out->l[1] = FE8_AND(FE8_OR(FE8_SHR(w[0], 48), FE8_SHL(w[1], 16)), mask);
    out->l[2] = FE8_AND(FE8_OR(FE8_SHR(w[1], 36), FE8_SHL(w[2], 28)), mask);
    out->l[3] = FE8_AND(FE8_OR(FE8_SHR(w[2], 24), FE8_SHL(w[3], 40)), mask);
    out->l[4] = FE8_SHR(w[3], 12);
}

/* Of values in [0, 2p): the one in [0, p), as four 64-bit limbs. */
FE8_INLINE void fe8_pack(__m512i w[4], const fe8 *a)
{
    const fe8 p = fe8_all(fe8_p);
    fe8 t = fe8_raw_sub(a, &p);
    fe8_carry(&t);
    fe8_select(&t, _mm512_movepi64_mask(t.l[4]), a, &t);
    w[0] = FE8_OR(t.l[0], FE8_SHL(t.l[1], 52));
    w[1] = FE8_OR(FE8_SHR(t.l[1], 12), FE8_SHL(t.l[2], 40));
    w[2] = FE8_OR(FE8_SHR(t.l[2], 24), FE8_SHL(t.l[3], 28));
    w[3] = FE8_OR(FE8_SHR(t.l[3], 36), FE8_SHL(t.l[4], 16));
}

/* Rows to columns of an 8x8 matrix of 64-bit words. */
FE8_INLINE void fe8_transpose(__m512i r[8])
{
    __m512i a[8], b[8];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        a[2 * i] = _mm512_unpacklo_epi64(r[2 * i], r[2 * i + 1]);
        a[2 * i + 1] = _mm512_unpackhi_epi64(r[2 * i], r[2 * i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
#pragma GCC unroll 2
        for (int j = 0; j < 2; j++) {
            b[4 * i + j] = _mm512_shuffle_i64x2(a[4 * i + j], a[4 * i + 2 + j], 0x88);
            b[4 * i + 2 + j] = _mm512_shuffle_i64x2(a[4 * i + j], a[4 * i + 2 + j], 0xdd);
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_i64x2(b[i], b[i + 4], 0x88);
        r[i + 4] = _mm512_shuffle_i64x2(b[i], b[i + 4], 0xdd);
    }
}

#endif
