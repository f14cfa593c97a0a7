/* Points in eight lanes: formulas, and the way in and out of lanes. Functions that are called often
 * are out of line: a product alone is some 120 instructions. */
#include "crypto/sm2_lanes.h"

#include "crypto/limbs.h"
#include "crypto/secret.h"
#include "crypto/sm2_inverse.h"

#include <string.h>

/* --- products that are called often ------------------------------------------------------------
 */

void mul8(fe8 *out, const fe8 *a, const fe8 *b)
{
    fe8_mul(out, a, b);
}

void sqr8(fe8 *out, const fe8 *a)
{
    fe8_sqr(out, a);
}

void sqr8_times(fe8 *out, const fe8 *a, unsigned count)
{
    sqr8(out, a);
    for (unsigned i = 1; i < count; i++)
        sqr8(out, out);
}

/* --- points ----------------------------------------------------------------------------------- */

/* The end of a mixed or full addition: h = u2 - u1, r = s2 - s1 (normed), x = u1, y = s1. */
FE8_INLINE void add8_finish(fe8 *x, fe8 *y, const fe8 *h, const fe8 *r, fe8 *hh, fe8 *hhh)
{
    fe8 v, rr, t;
    fe8_sqr(hh, h);
    fe8_mul(hhh, h, hh);
    fe8_mul(&v, x, hh);
    fe8_sqr(&rr, r);
    t = fe8_raw_sub(&rr, hhh);
    t = fe8_raw_sub(&t, &v);
    t = fe8_raw_sub(&t, &v);
    fe8_norm(&t);
    *x = t;
    fe8_sub(&t, &v, &t);
    fe8 minus_y = fe8_raw_negate(ALL, y);
    fe8_norm(&minus_y);
    fe8_mul_add_mul(y, r, &t, &minus_y, hhh);
}

void xyzz8_add_mixed(struct xyzz8 *a, const struct affine8 *b, __mmask8 negative)
{
    fe8 h, r, hh, hhh;
    fe8_mul(&h, &b->x, &a->zz);
    fe8_mul(&r, &b->y, &a->zzz);
    fe8_sub(&h, &h, &a->x);
    r = fe8_raw_negate(negative, &r);
    fe8_sub(&r, &r, &a->y);
    add8_finish(&a->x, &a->y, &h, &r, &hh, &hhh);
    fe8_mul(&a->zz, &a->zz, &hh);
    fe8_mul(&a->zzz, &a->zzz, &hhh);
}

void xyzz8_add_affine(struct xyzz8 *a, const struct affine8 *first, const struct affine8 *b,
                      __mmask8 negative)
{
    fe8 h, r;
    r = fe8_raw_negate(negative, &b->y);
    fe8_sub(&h, &b->x, &first->x);
    fe8_sub(&r, &r, &first->y);
    a->x = first->x;
    a->y = first->y;
    add8_finish(&a->x, &a->y, &h, &r, &a->zz, &a->zzz);
}

void xyzz8_add(struct xyzz8 *a, const struct xyzz8 *b)
{
    fe8 h, r, hh, hhh, t;
    fe8_mul(&h, &b->x, &a->zz);
    fe8_mul(&r, &b->y, &a->zzz);
    fe8_mul(&a->x, &a->x, &b->zz);
    fe8_mul(&a->y, &a->y, &b->zzz);
    fe8_sub(&h, &h, &a->x);
    fe8_sub(&r, &r, &a->y);
    add8_finish(&a->x, &a->y, &h, &r, &hh, &hhh);
    fe8_mul(&t, &a->zz, &b->zz);
    fe8_mul(&a->zz, &t, &hh);
    fe8_mul(&t, &a->zzz, &b->zzz);
    fe8_mul(&a->zzz, &t, &hhh);
}

void jacobian8_double(struct jacobian8 *a)
{
    fe8 delta, gamma, beta, alpha, t, u;
    fe8_sqr(&delta, &a->z);
    fe8_sqr(&gamma, &a->y);
    fe8_mul(&beta, &a->x, &gamma);
    fe8_sub(&t, &a->x, &delta);
    fe8_add(&u, &a->x, &delta);
    fe8_mul(&t, &t, &u);
    alpha = fe8_raw_shl(&t, 1);
    fe8_add(&alpha, &alpha, &t); /* 3 (x - z^2) (x + z^2) */
    fe8_mul(&t, &a->y, &a->z);
    fe8_add(&a->z, &t, &t);
    beta = fe8_raw_shl(&beta, 2); /* 4 x y^2 */
    fe8_sqr(&t, &alpha);
    t = fe8_raw_sub(&t, &beta);
    fe8_sub(&a->x, &t, &beta);
    fe8_sub(&beta, &beta, &a->x);
    fe8_mul(&alpha, &alpha, &beta);
    fe8_sqr(&gamma, &gamma);
    gamma = fe8_raw_shl(&gamma, 3); /* 8 y^4 */
    fe8_sub(&a->y, &alpha, &gamma);
}

void jacobian8_add_mixed(struct jacobian8 *a, const struct affine8 *b, __mmask8 negative)
{
    fe8 zz, h, r, hh, hhh;
    fe8_sqr(&zz, &a->z);
    fe8_mul(&h, &b->x, &zz);
    fe8_mul(&zz, &zz, &a->z);
    fe8_mul(&r, &b->y, &zz);
    fe8_sub(&h, &h, &a->x);
    r = fe8_raw_negate(negative, &r);
    fe8_sub(&r, &r, &a->y);
    fe8_mul(&a->z, &a->z, &h);
    add8_finish(&a->x, &a->y, &h, &r, &hh, &hhh);
}

struct xyzz8 xyzz8_from_jacobian(const struct jacobian8 *a)
{
    struct xyzz8 out = {.x = a->x, .y = a->y};
    sqr8(&out.zz, &a->z);
    mul8(&out.zzz, &out.zz, &a->z);
    return out;
}

void xyzz8_add_halves(struct xyzz8 *a)
{
    const __mmask8 low = 0x0f;
    fe8 other = fe8_rotate(&a->zz, 4), u, s, h, r, t, zz, hh_rr, hhh_v, both;
    mul8(&u, &a->x, &other); /* u1 | u2 */
    fe8_select(&both, low, &a->zz, &a->zzz);
    other = fe8_rotate(&a->zzz, 4);
    mul8(&s, &a->y, &other); /* s1 | s2 */
    t = fe8_rotate(&a->zz, 4);
    fe8_select(&t, low, &t, &other);
    mul8(&zz, &both, &t); /* zz1 zz2 | zzz1 zzz2 */
    const fe8 u_other = fe8_rotate(&u, 4), s_other = fe8_rotate(&s, 4);
    fe8_sub(&h, &u_other, &u); /* h | -h */
    fe8_sub(&r, &s_other, &s); /* r | -r */
    fe8_select(&t, low, &h, &r);
    sqr8(&hh_rr, &t); /* hh | rr */
    const fe8 rr_hh = fe8_rotate(&hh_rr, 4);
    fe8_select(&both, low, &hh_rr, &rr_hh); /* hh | hh */
    fe8_select(&t, low, &h, &u_other);      /* h | u1 */
    mul8(&hhh_v, &both, &t);                /* hhh | v */
    const fe8 v_hhh = fe8_rotate(&hhh_v, 4);
    t = fe8_raw_sub(&rr_hh, &hhh_v);
    t = fe8_raw_sub(&t, &v_hhh);
    fe8_sub(&a->x, &t, &v_hhh);
    fe8_sub(&t, &v_hhh, &a->x);        /* v - x | */
    fe8_select(&t, low, &t, &s_other); /* v - x | s1 */
    fe8_select(&h, low, &r, &v_hhh);   /* r | hhh */
    mul8(&t, &t, &h);
    const fe8 t_other = fe8_rotate(&t, 4);
    fe8_sub(&a->y, &t, &t_other);
    fe8_select(&both, low, &hh_rr, &v_hhh); /* hh | hhh */
    mul8(&a->zz, &zz, &both);
    a->zzz = fe8_rotate(&a->zz, 4);
}

void xyzz8_gather(struct xyzz8 *a)
{
    /* The lanes that come to stand opposite each other at the second and the third step. */
    const __m512i index[2] = {_mm512_set_epi64(3, 2, 3, 2, 1, 0, 1, 0),
                              _mm512_set_epi64(1, 1, 1, 1, 0, 0, 0, 0)};
    for (int step = 0; step < 3; step++) {
        xyzz8_add_halves(a);
        if (step == 2)
            break;
        for (int i = 0; i < 5; i++) {
            a->x.l[i] = _mm512_permutexvar_epi64(index[step], a->x.l[i]);
            a->y.l[i] = _mm512_permutexvar_epi64(index[step], a->y.l[i]);
            a->zz.l[i] = _mm512_permutexvar_epi64(index[step], a->zz.l[i]);
            a->zzz.l[i] = _mm512_permutexvar_epi64(index[step], a->zzz.l[i]);
        }
    }
}

void xyzz8_select(struct xyzz8 *out, __mmask8 k, const struct xyzz8 *a, const struct xyzz8 *b)
{
    fe8_select(&out->x, k, &a->x, &b->x);
    fe8_select(&out->y, k, &a->y, &b->y);
    fe8_select(&out->zz, k, &a->zz, &b->zz);
    fe8_select(&out->zzz, k, &a->zzz, &b->zzz);
}

void lane_pointers(const point *at[LANES], const point *p, size_t count)
{
    for (size_t i = 0; i < LANES; i++)
        at[i] = &p[i < count ? i : 0];
}

/* --- conversions ------------------------------------------------------------------------------ */

/* Words of eight points, one lane each: w[0..3] x, w[4..7] y. */
FE8_INLINE void words_from_points(__m512i w[8], const point *const p[LANES])
{
#pragma GCC unroll 8
    for (int i = 0; i < LANES; i++)
        w[i] = _mm512_loadu_si512((const void *)p[i]);
    fe8_transpose(w);
}

void affine8_from_points(struct affine8 *out, const point *const p[LANES])
{
    const fe8 r2 = fe8_all(fe8_r2);
    __m512i w[8];
    words_from_points(w, p);
    fe8_unpack(&out->x, w);
    fe8_unpack(&out->y, w + 4);
    mul8(&out->x, &out->x, &r2);
    mul8(&out->y, &out->y, &r2);
}

void fe8_from_plain(fe8 *out, const uint64_t *const in[LANES])
{
    const fe8 r2 = fe8_all(fe8_r2);
    uint64_t words[4][LANES];
    __m512i w[4];
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < LANES; j++)
            words[i][j] = in[j][i];
        w[i] = _mm512_loadu_si512(words[i]);
    }
    fe8_unpack(out, w);
    mul8(out, out, &r2);
}

void fe8_to_plain(__m512i w[4], const fe8 *a)
{
    static const int64_t plain_one[5] = {1};
    const fe8 one = fe8_all(plain_one);
    fe8 t;
    mul8(&t, a, &one);
    fe8_pack(w, &t);
}

/* The inverse of lane 0's element, below 2 p, in all lanes. */
static void invert_first(fe8 *out, const fe8 *a)
{
    const fe8 r3 = fe8_all(fe8_r3);
    __m512i w[4];
    uint64_t lane[4];
    fe8_pack(w, a);
    for (int i = 0; i < 4; i++)
        lane[i] = (uint64_t)_mm_cvtsi128_si64(_mm512_castsi512_si128(w[i]));
    inverse_mod_p(lane, lane);
    for (int i = 0; i < 4; i++)
        w[i] = FE8_ALL(lane[i]);
    fe8_unpack(out, w);
    mul8(out, out, &r3);
    secret_wipe(lane, sizeof lane);
}

void invert_all(fe8 *value, fe8 *product, size_t count)
{
    fe8 pair, four, all, inverse, others, t;
    product[0] = value[0];
    for (size_t i = 1; i < count; i++)
        mul8(&product[i], &product[i - 1], &value[i]);
    const fe8 *last = &product[count - 1];
    const fe8 last_4 = fe8_rotate(last, 4);
    mul8(&pair, last, &last_4); /* lanes i and i + 4 */
    const fe8 pair_2 = fe8_rotate(&pair, 2);
    mul8(&four, &pair, &pair_2);
    const fe8 four_1 = fe8_rotate(&four, 1);
    mul8(&all, &four, &four_1);
    invert_first(&inverse, &all);
    mul8(&others, &last_4, &pair_2);
    mul8(&others, &others, &four_1);
    mul8(&inverse, &inverse, &others);
    for (size_t i = count - 1; i > 0; i--) {
        mul8(&t, &inverse, &product[i - 1]);
        mul8(&inverse, &inverse, &value[i]);
        value[i] = t;
    }
    value[0] = inverse;
    secret_wipe(&inverse, sizeof inverse);
    secret_wipe(&all, sizeof all);
}

/* The plain coordinates of lanes [0, count), y negated in the lanes of the mask; infinity in those
 * of `infinite`. z_inverse = 1 / zzz. */
static void store8(point *out, const struct xyzz8 *a, const fe8 *zzz_inverse, __mmask8 negate,
                   __mmask8 infinite, size_t count)
{
    fe8 x, y, t;
    __m512i w[8];
    mul8(&t, zzz_inverse, &a->zz); /* 1 / z */
    sqr8(&t, &t);
    mul8(&x, &a->x, &t);
    mul8(&y, &a->y, zzz_inverse);
    y = fe8_raw_negate(negate, &y);
    fe8_norm(&y);
    fe8_to_plain(w, &x);
    fe8_to_plain(w + 4, &y);
    fe8_transpose(w);
    for (size_t i = 0; i < LANES && i < count; i++) {
        const __mmask8 keep = infinite >> i & 1 ? 0 : ALL;
        _mm512_storeu_si512((void *)&out[i], _mm512_maskz_mov_epi64(keep, w[i]));
    }
    secret_wipe(&t, sizeof t);
}

void finish8(point *out, __mmask8 *infinite, const struct xyzz8 *in, const __mmask8 *negate,
             size_t groups, size_t count)
{
    const fe8 one = fe8_all(fe8_one);
    fe8 z[GROUPS], product[GROUPS];
    for (size_t i = 0; i < groups; i++) {
        infinite[i] = fe8_mask_zero(&in[i].zzz);
        fe8_select(&z[i], infinite[i], &one, &in[i].zzz);
    }
    invert_all(z, product, groups);
    for (size_t i = 0; i < groups; i++)
        store8(out + i * LANES, &in[i], &z[i], negate[i], infinite[i], count - i * LANES);
    secret_wipe(z, sizeof z);
    secret_wipe(product, sizeof product);
}

void finish_one(point *out, __mmask8 *infinite, const struct xyzz8 *in, __mmask8 negate)
{
    const fe8 one = fe8_all(fe8_one);
    fe8 z;
    *infinite = fe8_mask_zero(&in->zzz) & 1;
    fe8_select(&z, *infinite, &one, &in->zzz);
    invert_first(&z, &z);
    store8(out, in, &z, negate, *infinite, 1);
    secret_wipe(&z, sizeof z);
}

/* --- digits ----------------------------------------------------------------------------------- */

void scalar8_load(struct scalar8 *out, const scalar *const k[LANES])
{
    uint64_t words[4][LANES];
    for (int j = 0; j < 4; j++)
        for (size_t i = 0; i < LANES; i++)
            words[j][i] = k[i]->w[j];
    for (int j = 0; j < 4; j++)
        out->w[j] = _mm512_loadu_si512(words[j]);
    secret_wipe(words, sizeof words);
}

void scalar8_load_array(struct scalar8 *out, const scalar *k, size_t count)
{
    const scalar *at[LANES];
    for (size_t i = 0; i < LANES; i++)
        at[i] = &k[i < count ? i : 0];
    scalar8_load(out, at);
}

__mmask8 scalar8_make_odd(struct scalar8 *k)
{
    static const uint64_t n[4] = SM2_ORDER_LIMBS;
    const __mmask8 even = (__mmask8)~_mm512_test_epi64_mask(k->w[0], FE8_ALL(1));
    __mmask8 borrow = 0;
    for (int i = 0; i < 4; i++) {
        const __m512i limb = FE8_ALL(n[i]);
        const __m512i d = FE8_SUB(limb, k->w[i]);
        const __m512i e = _mm512_mask_sub_epi64(d, borrow, d, FE8_ALL(1));
        const __mmask8 under = _mm512_cmplt_epu64_mask(limb, k->w[i]);
        borrow = (__mmask8)(under | (borrow & _mm512_cmpeq_epi64_mask(d, _mm512_setzero_si512())));
        k->w[i] = _mm512_mask_mov_epi64(k->w[i], even, e);
    }
    return even;
}
