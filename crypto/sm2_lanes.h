/* crypto/sm2_lanes.h - points of sm2p256v1 in eight lanes: what the files of the ifma path share.
 *
 * Formulas and coordinates are those of sm2_path_single.c. Between functions x and y are below 2.01
 * p (sm2_fe_ifma.h), entries of tables below 16 p. Private to crypto/.
 */
#ifndef AMI_CRYPTO_SM2_LANES_H
#define AMI_CRYPTO_SM2_LANES_H

#include "crypto/sm2_fe_ifma.h"
#include "crypto/sm2_group.h"

#define LANES 8
#define ALL   ((__mmask8)0xff)
/* Groups of eight that share one inversion. */
#define GROUPS 4

struct affine8 {
    fe8 x, y;
};
struct jacobian8 {
    fe8 x, y, z;
};
struct xyzz8 {
    fe8 x, y, zz, zzz;
};

/* Scalars of eight lanes, limb by limb. */
struct scalar8 {
    __m512i w[4];
};

/* Reads 64 bytes; the compiler may not turn it into something that takes an address from data. */
FE8_INLINE __m512i load(const uint64_t *from)
{
    return _mm512_load_si512((const void *)from);
}

/* a = b or -b, raw table entries. */
FE8_INLINE void affine8_norm(struct affine8 *a, const struct affine8 *b, __mmask8 negative)
{
    a->x = b->x;
    fe8_norm(&a->x);
    a->y = fe8_raw_negate(negative, &b->y);
    fe8_norm(&a->y);
}

/* Lane i gets lane (i + by) mod 8. */
FE8_INLINE fe8 fe8_rotate(const fe8 *a, int by)
{
    fe8 out;
    const __m512i index = _mm512_and_si512(
        _mm512_add_epi64(_mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0), FE8_ALL(by)), FE8_ALL(7));
#pragma GCC unroll 5
    for (int i = 0; i < 5; i++)
        out.l[i] = _mm512_permutexvar_epi64(index, a->l[i]);
    return out;
}

FE8_INLINE void affine8_unpack_256(struct affine8 *out, const __m512i w[8])
{
    fe8_unpack_256(&out->x, w);
    fe8_unpack_256(&out->y, w + 4);
}

/* width bits from bit `at` on, in each lane; zeros beyond the top. */
FE8_INLINE __m512i bits8(const struct scalar8 *k, unsigned at, unsigned width)
{
    const unsigned limb = at / 64, shift = at % 64;
    __m512i v = limb < 4 ? FE8_SHR(k->w[limb], shift) : _mm512_setzero_si512();
    if (shift + width > 64 && limb < 3)
        v = FE8_OR(v, FE8_SHL(k->w[limb + 1], 64 - shift));
    return FE8_AND(v, FE8_ALL((1 << width) - 1));
}

/* Window i of odd scalars: the entries, and the lanes whose digit is negative. */
FE8_INLINE __m512i digit8(__mmask8 *negative, const struct scalar8 *k, unsigned i, unsigned width)
{
    const __m512i v = bits8(k, width * i + 1, width), half = FE8_ALL(1 << (width - 1));
    *negative = (__mmask8)~_mm512_test_epi64_mask(v, half);
    const __m512i flipped = _mm512_mask_xor_epi64(v, *negative, v, FE8_ALL(-1));
    return FE8_AND(flipped, FE8_ALL((1 << (width - 1)) - 1));
}

/* Out of line: a product is some 120 instructions. */
void mul8(fe8 *out, const fe8 *a, const fe8 *b);

void sqr8(fe8 *out, const fe8 *a);

void sqr8_times(fe8 *out, const fe8 *a, unsigned count);

/* a += b, or a -= b in the lanes of the mask. */
void xyzz8_add_mixed(struct xyzz8 *a, const struct affine8 *b, __mmask8 negative);

/* a = first + b or first - b, first being affine and normed. */
void xyzz8_add_affine(struct xyzz8 *a, const struct affine8 *first, const struct affine8 *b,
                      __mmask8 negative);

void xyzz8_add(struct xyzz8 *a, const struct xyzz8 *b);

void jacobian8_double(struct jacobian8 *a);

void jacobian8_add_mixed(struct jacobian8 *a, const struct affine8 *b, __mmask8 negative);

/* The same point with zz = z^2, zzz = z^3. */
struct xyzz8 xyzz8_from_jacobian(const struct jacobian8 *a);

/* Sums of the points of lanes i and i + 4, in lanes 0 to 3. Two products of one addition share a
 * vector: the lower four lanes do one, the upper four the other. */
void xyzz8_add_halves(struct xyzz8 *a);

/* All lanes' sum, in lane 0. */
void xyzz8_gather(struct xyzz8 *a);

void xyzz8_select(struct xyzz8 *out, __mmask8 k, const struct xyzz8 *a, const struct xyzz8 *b);

void lane_pointers(const point *at[LANES], const point *p, size_t count);

void affine8_from_points(struct affine8 *out, const point *const p[LANES]);

/* Plain limbs to Montgomery form, in each lane. */
void fe8_from_plain(fe8 *out, const uint64_t *const in[LANES]);

void fe8_to_plain(__m512i w[4], const fe8 *a);

/* Inverses of all lanes of count elements, none zero; results of products, below 2 p. By one
 * inversion: Montgomery's trick along the elements, and a tree over the lanes. */
void invert_all(fe8 *value, fe8 *product, size_t count);

/* Affine points of groups <= GROUPS results, the first `count` lanes of them, each negated where
 * its group's mask says so. Bits of infinite[] tell where z was zero; out is infinity there. */
void finish8(point *out, __mmask8 *infinite, const struct xyzz8 *in, const __mmask8 *negate,
             size_t groups, size_t count);

/* One result, that of lane 0. */
void finish_one(point *out, __mmask8 *infinite, const struct xyzz8 *in, __mmask8 negate);

void scalar8_load(struct scalar8 *out, const scalar *const k[LANES]);

/* Lanes beyond count repeat the first one. */
void scalar8_load_array(struct scalar8 *out, const scalar *k, size_t count);

/* k itself or, where it is even, n - k; the mask tells where. */
__mmask8 scalar8_make_odd(struct scalar8 *k);

/* Is the sum of k[i] p[i] equal to c G? See sum_is of sm2_path.h; sm2_sum_ifma.c. */
bool sm2_sum_ifma(const scalar *c, const point *p, const scalar *k, size_t count, size_t short_from,
                  const scalar blind[2]);

#endif
