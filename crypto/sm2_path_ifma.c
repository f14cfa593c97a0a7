/* The SM2 engine in eight lanes of AVX-512 IFMA.
 *
 * A batch puts one product into each lane, and what is left over beside full groups of eight goes
 * in a group that is not full, or, where that is faster, to the adx path one by one. A single
 * product of a fixed point spreads its windows over the lanes and adds the lanes up in the end. The
 * digits, the formulas and their exceptions are those of sm2_path_single.c; so are the tables of
 * public multiples, in that path's Montgomery form, which fe8_unpack_256 reads.
 */
#include "crypto/sm2_path.h"

#include "base/check.h"
#include "crypto/limbs.h"
#include "crypto/secret.h"
#include "crypto/sm2_fe_ifma.h"
#include "crypto/sm2_inverse.h"

#include <stdlib.h>
#include <string.h>

#define LANES 8
#define ALL   ((__mmask8)0xff)
/* Groups that share one inversion. */
#define GROUPS 4

/* Secret scalars, as in sm2_path_single.c. */
#define FIXED_W       6
#define FIXED_ROWS    42
#define FIXED_ENTRIES 32
#define W             5
#define ROWS          51
#define ENTRIES       16
#define PACKED        8

struct affine8 {
    fe8 x, y;
};
struct jacobian8 {
    fe8 x, y, z;
};
struct xyzz8 {
    fe8 x, y, zz, zzz;
};

/* Limb by limb, so that one permutation looks a limb up for eight different digits: word[i][j][k]
 * is word j (x, then y) of entry k of row i. Row FIXED_ROWS has the top digits' eight entries. */
struct lane_table {
    struct point_table head;
    _Alignas(64) uint64_t word[FIXED_ROWS + 1][PACKED][FIXED_ENTRIES];
};

static struct lane_table *base_table;
static struct known_table *base_known;

/* Reads 64 bytes; the compiler may not turn it into something that takes an address from data. */
FE8_INLINE __m512i load(const uint64_t *from)
{
    return _mm512_load_si512((const void *)from);
}

/* --- products that are called often ------------------------------------------------------------
 */

/* Out of line: a product is some 120 instructions. */
static __attribute__((noinline)) void mul8(fe8 *out, const fe8 *a, const fe8 *b)
{
    fe8_mul(out, a, b);
}

static __attribute__((noinline)) void sqr8(fe8 *out, const fe8 *a)
{
    fe8_sqr(out, a);
}

static void sqr8_times(fe8 *out, const fe8 *a, unsigned count)
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

/* a += b, or a -= b in the lanes of the mask. */
static __attribute__((noinline)) void xyzz8_add_mixed(struct xyzz8 *a, const struct affine8 *b,
                                                      __mmask8 negative)
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

/* a = b or -b, raw table entries. */
FE8_INLINE void affine8_norm(struct affine8 *a, const struct affine8 *b, __mmask8 negative)
{
    a->x = b->x;
    fe8_norm(&a->x);
    a->y = fe8_raw_negate(negative, &b->y);
    fe8_norm(&a->y);
}

/* a = first + b or first - b, first being affine and normed. */
static __attribute__((noinline)) void xyzz8_add_affine(struct xyzz8 *a, const struct affine8 *first,
                                                       const struct affine8 *b, __mmask8 negative)
{
    fe8 h, r;
    r = fe8_raw_negate(negative, &b->y);
    fe8_sub(&h, &b->x, &first->x);
    fe8_sub(&r, &r, &first->y);
    a->x = first->x;
    a->y = first->y;
    add8_finish(&a->x, &a->y, &h, &r, &a->zz, &a->zzz);
}

static __attribute__((noinline)) void xyzz8_add(struct xyzz8 *a, const struct xyzz8 *b)
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

static __attribute__((noinline)) void jacobian8_double(struct jacobian8 *a)
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

static __attribute__((noinline)) void
jacobian8_add_mixed(struct jacobian8 *a, const struct affine8 *b, __mmask8 negative)
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

/* The same point with zz = z^2, zzz = z^3. */
static struct xyzz8 xyzz8_from_jacobian(const struct jacobian8 *a)
{
    struct xyzz8 out = {.x = a->x, .y = a->y};
    sqr8(&out.zz, &a->z);
    mul8(&out.zzz, &out.zz, &a->z);
    return out;
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

/* Sums of the points of lanes i and i + 4, in lanes 0 to 3. Two products of one addition share a
 * vector: the lower four lanes do one, the upper four the other. */
static void xyzz8_add_halves(struct xyzz8 *a)
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

/* --- conversions ------------------------------------------------------------------------------ */

/* Words of eight points, one lane each: w[0..3] x, w[4..7] y. */
FE8_INLINE void words_from_points(__m512i w[8], const point *const p[LANES])
{
#pragma GCC unroll 8
    for (int i = 0; i < LANES; i++)
        w[i] = _mm512_loadu_si512((const void *)p[i]);
    fe8_transpose(w);
}

static void affine8_from_points(struct affine8 *out, const point *const p[LANES])
{
    const fe8 r2 = fe8_all(fe8_r2);
    __m512i w[8];
    words_from_points(w, p);
    fe8_unpack(&out->x, w);
    fe8_unpack(&out->y, w + 4);
    mul8(&out->x, &out->x, &r2);
    mul8(&out->y, &out->y, &r2);
}

/* Plain limbs to Montgomery form, in each lane. */
static void fe8_from_plain(fe8 *out, const uint64_t *const in[LANES])
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

static void fe8_to_plain(__m512i w[4], const fe8 *a)
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

/* Inverses of all lanes of count elements, none zero; results of products, below 2 p. By one
 * inversion: Montgomery's trick along the elements, and a tree over the lanes. */
static void invert_all(fe8 *value, fe8 *product, size_t count)
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
}

/* Affine points of groups <= GROUPS results, the first `count` lanes of them, each negated where
 * its group's mask says so. Bits of infinite[] tell where z was zero; out is infinity there. */
static void finish8(point *out, __mmask8 *infinite, const struct xyzz8 *in, const __mmask8 *negate,
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

/* One result, that of lane 0. */
static void finish_one(point *out, __mmask8 *infinite, const struct xyzz8 *in, __mmask8 negate)
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

/* Scalars of eight lanes, limb by limb. */
struct scalar8 {
    __m512i w[4];
};

static void scalar8_load(struct scalar8 *out, const scalar *const k[LANES])
{
    uint64_t words[4][LANES];
    for (int j = 0; j < 4; j++)
        for (size_t i = 0; i < LANES; i++)
            words[j][i] = k[i]->w[j];
    for (int j = 0; j < 4; j++)
        out->w[j] = _mm512_loadu_si512(words[j]);
    secret_wipe(words, sizeof words);
}

/* Lanes beyond count repeat the first one. */
static void scalar8_load_array(struct scalar8 *out, const scalar *k, size_t count)
{
    const scalar *at[LANES];
    for (size_t i = 0; i < LANES; i++)
        at[i] = &k[i < count ? i : 0];
    scalar8_load(out, at);
}

/* k itself or, where it is even, n - k; the mask tells where. */
static __mmask8 scalar8_make_odd(struct scalar8 *k)
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

/* --- fixed points, secret scalars --------------------------------------------------------------
 */

/* Each lane's entry of one row: a permutation reads 16 entries at once, and all are read. */
FE8_INLINE void pick8(__m512i w[8], const uint64_t row[PACKED][FIXED_ENTRIES], __m512i entry)
{
    const __mmask8 upper = _mm512_test_epi64_mask(entry, FE8_ALL(16));
#pragma GCC unroll 8
    for (int j = 0; j < PACKED; j++) {
        const __m512i low = _mm512_permutex2var_epi64(load(row[j]), entry, load(row[j] + 8));
        const __m512i high = _mm512_permutex2var_epi64(load(row[j] + 16), entry, load(row[j] + 24));
        w[j] = _mm512_mask_mov_epi64(low, upper, high);
    }
}

FE8_INLINE void affine8_unpack_256(struct affine8 *out, const __m512i w[8])
{
    fe8_unpack_256(&out->x, w);
    fe8_unpack_256(&out->y, w + 4);
}

static __attribute__((noinline)) void
pick_entry8(struct affine8 *out, const uint64_t row[PACKED][FIXED_ENTRIES], __m512i entry)
{
    __m512i w[8];
    pick8(w, row, entry);
    affine8_unpack_256(out, w);
}

/* a += k p, or a = k p if `first`, with odd k; lanes of `flip` subtract. */
static void comb8(struct xyzz8 *a, const struct scalar8 *odd, const struct lane_table *table,
                  bool first, __mmask8 flip)
{
    struct affine8 start, t;
    __mmask8 negative;
    pick_entry8(&t, table->word[FIXED_ROWS], bits8(odd, FIXED_W * FIXED_ROWS + 1, FIXED_W - 1));
    if (first)
        affine8_norm(&start, &t, flip);
    else
        xyzz8_add_mixed(a, &t, flip);
    for (unsigned i = 0; i < FIXED_ROWS; i++) {
        const __m512i entry = digit8(&negative, odd, i, FIXED_W);
        pick_entry8(&t, table->word[i], entry);
        negative ^= flip;
        if (first && i == 0)
            xyzz8_add_affine(a, &start, &t, negative);
        else
            xyzz8_add_mixed(a, &t, negative);
    }
    secret_wipe(&t, sizeof t);
    secret_wipe(&start, sizeof start);
}

/* One product spread over the lanes: window 8 r + i goes to lane i. Entries of the windows of one
 * r. Digits are looked up one lane after another, for each has its own row. */
static void spread_entries(struct affine8 *out, __mmask8 *negative, const scalar *odd,
                           const struct lane_table *table, unsigned r)
{
    struct scalar8 k;
    __m512i w[8], t[8];
    for (int j = 0; j < 4; j++)
        k.w[j] = FE8_ALL(odd->w[j]);
    for (int j = 0; j < 8; j++)
        w[j] = _mm512_setzero_si512();
    *negative = 0;
    for (unsigned lane = 0; lane < LANES && r * LANES + lane <= FIXED_ROWS; lane++) {
        const unsigned row = r * LANES + lane;
        const __mmask8 here = (__mmask8)(1u << lane);
        __mmask8 minus = 0;
        const __m512i entry = row < FIXED_ROWS ? digit8(&minus, &k, row, FIXED_W)
                                               : bits8(&k, FIXED_W * row + 1, FIXED_W - 1);
        pick8(t, table->word[row], entry);
        *negative |= minus & here;
        for (int j = 0; j < 8; j++)
            w[j] = _mm512_mask_mov_epi64(w[j], here, t[j]);
    }
    affine8_unpack_256(out, w);
}

#define SPREAD_ROWS ((FIXED_ROWS + LANES) / LANES)
/* Lanes of the last row that have a window. */
#define SPREAD_LAST ((__mmask8)((1u << (FIXED_ROWS + 1 - (SPREAD_ROWS - 1) * LANES)) - 1))

/* All lanes' sum, in lane 0. */
static void xyzz8_gather(struct xyzz8 *a)
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

static void xyzz8_select(struct xyzz8 *out, __mmask8 k, const struct xyzz8 *a,
                         const struct xyzz8 *b)
{
    fe8_select(&out->x, k, &a->x, &b->x);
    fe8_select(&out->y, k, &a->y, &b->y);
    fe8_select(&out->zz, k, &a->zz, &b->zz);
    fe8_select(&out->zzz, k, &a->zzz, &b->zzz);
}

static void spread_product(struct xyzz8 *a, const scalar *odd, const struct lane_table *table,
                           bool first, __mmask8 flip)
{
    struct affine8 start, t;
    __mmask8 negative;
    for (unsigned r = 0; r < SPREAD_ROWS; r++) {
        spread_entries(&t, &negative, odd, table, r);
        negative ^= flip;
        if (first && r == 0) {
            affine8_norm(&start, &t, negative);
        } else if (first && r == 1) {
            xyzz8_add_affine(a, &start, &t, negative);
        } else if (r < SPREAD_ROWS - 1) {
            xyzz8_add_mixed(a, &t, negative);
        } else {
            struct xyzz8 sum = *a;
            xyzz8_add_mixed(&sum, &t, negative);
            xyzz8_select(a, SPREAD_LAST, &sum, a);
        }
    }
    secret_wipe(&t, sizeof t);
    secret_wipe(&start, sizeof start);
}

/* a G + b p by the table, or a G alone. */
static void spread_one(struct xyzz8 *out, __mmask8 *negate, const scalar *a, const scalar *b,
                       const struct lane_table *table)
{
    scalar odd;
    *negate = (__mmask8)sm2_make_odd(&odd, a);
    spread_product(out, &odd, base_table, true, 0);
    if (b != NULL) {
        const __mmask8 even = (__mmask8)sm2_make_odd(&odd, b);
        spread_product(out, &odd, table, false, even ^ *negate);
    }
    xyzz8_gather(out);
    secret_wipe(&odd, sizeof odd);
}

/* A group of at most eight. */
static void comb_group(struct xyzz8 *out, __mmask8 *negate, const scalar *a, const scalar *b,
                       const struct lane_table *table, size_t size)
{
    struct scalar8 k;
    scalar8_load_array(&k, a, size);
    *negate = scalar8_make_odd(&k);
    comb8(out, &k, base_table, true, 0);
    if (b != NULL) {
        scalar8_load_array(&k, b, size);
        const __mmask8 even = scalar8_make_odd(&k);
        comb8(out, &k, table, false, (__mmask8)(even ^ *negate));
    }
    secret_wipe(&k, sizeof k);
}

/* Whether result i has z = 0, which may be known: the scalars for which the formulas give that are
 * known beforehand. */
static bool is_infinite(const __mmask8 *infinite, size_t i)
{
    return ct_reveal(ct_mask((uint64_t)infinite[i / LANES] >> (i % LANES) & 1));
}

/* a[i] G + b[i] p, or a[i] G where b is NULL, by complete formulas where it has come to that. */
static void mend(point *out, const __mmask8 *infinite, const scalar *a, const scalar *b,
                 const point *p, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!is_infinite(infinite, i))
            continue;
        CT_PUBLIC(&a[i], sizeof *a);
        if (b == NULL) {
            out[i] = point_mul_complete(&a[i], point_generator());
            continue;
        }
        CT_PUBLIC(&b[i], sizeof *b);
        out[i] = point_mul2_complete(&a[i], point_generator(), &b[i], p);
    }
}

/* Groups of eight, the last perhaps not full, for a round of what is left; no group of so few that
 * they are faster one by one. */
static size_t groups_for(size_t left, size_t alone_max)
{
    const size_t full = left / LANES, rest = left % LANES;
    const size_t groups = rest > alone_max ? full + 1 : full;
    return groups < GROUPS ? groups : GROUPS;
}

/* a[i] G + b[i] p, or a[i] G where b is NULL. So many results or fewer are spread one by one. */
#define SPREAD_MAX 2

static void fixed_products(point *out, const scalar *a, const scalar *b,
                           const struct lane_table *table, size_t count)
{
    struct xyzz8 t[GROUPS];
    __mmask8 negate[GROUPS], infinite[GROUPS];
    size_t size;
    for (size_t done = 0; done < count; done += size) {
        const scalar *a_left = a + done, *b_left = b == NULL ? NULL : b + done;
        const size_t left = count - done;
        if (left <= SPREAD_MAX) {
            spread_one(&t[0], &negate[0], a_left, b_left, table);
            finish_one(out + done, &infinite[0], &t[0], negate[0]);
            size = 1;
        } else {
            const size_t groups = groups_for(left, SPREAD_MAX);
            size = left < groups * LANES ? left : groups * LANES;
            for (size_t i = 0; i < groups; i++)
                comb_group(&t[i], &negate[i], a_left + i * LANES,
                           b == NULL ? NULL : b_left + i * LANES, table, size - i * LANES);
            finish8(out + done, infinite, t, negate, groups, size);
        }
        mend(out + done, infinite, a_left, b_left, b == NULL ? NULL : &table->head.p, size);
    }
    secret_wipe(t, sizeof t);
}

static void mul_base(point *out, const scalar *k, size_t count)
{
    fixed_products(out, k, NULL, NULL, count);
}

static void mul_base_table(point *out, const scalar *a, const scalar *b,
                           const struct point_table *table, size_t count)
{
    fixed_products(out, a, b, (const struct lane_table *)table, count);
}

/* --- tables ----------------------------------------------------------------------------------- */

/* Turns the adx path's rows round: entry by entry to word by word. */
static bool lane_table_fill(struct lane_table *table, const point *p)
{
    enum { TOP = 8 };
    uint64_t(*flat)[PACKED] = aligned_alloc(64, sizeof *flat * (FIXED_ROWS * FIXED_ENTRIES + TOP));
    if (flat == NULL)
        return false;
    sm2_path_adx_rows(flat, p);
    memset(table, 0, sizeof *table);
    table->head.p = *p;
    for (size_t i = 0; i < FIXED_ROWS * FIXED_ENTRIES + TOP; i++)
        for (size_t j = 0; j < PACKED; j++)
            table->word[i / FIXED_ENTRIES][j][i % FIXED_ENTRIES] = flat[i][j];
    free(flat);
    return true;
}

static struct lane_table *lane_table_new(const point *p)
{
    struct lane_table *table = aligned_alloc(_Alignof(struct lane_table), sizeof *table);
    if (table != NULL && lane_table_fill(table, p))
        return table;
    free(table);
    return NULL;
}

static struct point_table *table_new(const point *p)
{
    return (struct point_table *)lane_table_new(p);
}

static void known_fill(struct known_table *out, const point *p)
{
    sm2_path_adx.known_fill(out, p);
}

static bool start(void)
{
    if (!sm2_path_adx.start())
        return false;
    if (base_table == NULL)
        base_table = lane_table_new(point_generator());
    if (base_known == NULL)
        base_known = aligned_alloc(_Alignof(struct known_table), sizeof *base_known);
    if (base_table == NULL || base_known == NULL)
        return false;
    known_fill(base_known, point_generator());
    return true;
}

/* --- other points ------------------------------------------------------------------------------
 */

/* row[j] = (2 j + 1) p in each lane, affine; see odd_multiples of sm2_path_single.c. A lane at
 * infinity gives nonsense. */
static void odd_multiples8(struct affine8 *row, const struct affine8 *p)
{
    const fe8 one = fe8_all(fe8_one);
    struct jacobian8 t[ENTRIES], twice = {p->x, p->y, one};
    fe8 z[ENTRIES], product[ENTRIES], zz;
    jacobian8_double(&twice);
    const struct affine8 step = {twice.x, twice.y};
    sqr8(&zz, &twice.z);
    mul8(&t[0].x, &p->x, &zz);
    mul8(&zz, &zz, &twice.z);
    mul8(&t[0].y, &p->y, &zz);
    t[0].z = one;
    for (size_t j = 1; j < ENTRIES; j++) {
        t[j] = t[j - 1];
        jacobian8_add_mixed(&t[j], &step, 0);
    }
    /* Infinity in a lane would make the product of all z zero. */
    const __mmask8 infinite = fe8_mask_zero(&twice.z);
    for (size_t j = 0; j < ENTRIES; j++) {
        mul8(&z[j], &t[j].z, &twice.z);
        fe8_select(&z[j], infinite, &one, &z[j]);
    }
    invert_all(z, product, ENTRIES);
    for (size_t j = 0; j < ENTRIES; j++) {
        mul8(&row[j].y, &t[j].y, &z[j]);
        sqr8(&zz, &z[j]);
        mul8(&row[j].y, &row[j].y, &zz);
        mul8(&row[j].x, &t[j].x, &zz);
    }
}

/* Each lane's entry; all are read. */
static __attribute__((noinline)) void pick_row8(struct affine8 *out,
                                                const struct affine8 row[ENTRIES], __m512i entry)
{
    struct affine8 t = row[0];
    for (int j = 1; j < ENTRIES; j++) {
        const __mmask8 k = _mm512_cmpeq_epi64_mask(entry, FE8_ALL(j));
#pragma GCC unroll 5
        for (int i = 0; i < 5; i++) {
            t.x.l[i] = _mm512_mask_mov_epi64(t.x.l[i], k, row[j].x.l[i]);
            t.y.l[i] = _mm512_mask_mov_epi64(t.y.l[i], k, row[j].y.l[i]);
        }
    }
    *out = t;
}

/* k p for odd k of rows windows and a top digit. */
static void window_product8(struct jacobian8 *out, const struct scalar8 *odd, unsigned rows,
                            const struct affine8 row[ENTRIES])
{
    const fe8 one = fe8_all(fe8_one);
    struct affine8 t;
    __mmask8 negative;
    pick_row8(&t, row, bits8(odd, W * rows + 1, W - 1));
    *out = (struct jacobian8){t.x, t.y, one};
    for (unsigned i = rows; i-- > 0;) {
        for (unsigned j = 0; j < W; j++)
            jacobian8_double(out);
        const __m512i entry = digit8(&negative, odd, i, W);
        pick_row8(&t, row, entry);
        jacobian8_add_mixed(out, &t, negative);
    }
    secret_wipe(&t, sizeof t);
}

static void lane_pointers(const point *at[LANES], const point *p, size_t count)
{
    for (size_t i = 0; i < LANES; i++)
        at[i] = &p[i < count ? i : 0];
}

static __mmask8 mask_infinity8(const point *const p[LANES])
{
    __mmask8 k = 0;
    for (int i = 0; i < LANES; i++)
        k |= (__mmask8)(point_is_infinity(p[i]) ? 1u << i : 0u);
    return k;
}

/* So many or fewer are faster one by one. */
#define ALONE_MAX 2

static void mul_group(struct xyzz8 *out, __mmask8 *negate, const scalar *k, const point *p,
                      size_t size)
{
    struct jacobian8 t;
    const fe8 zero = fe8_all((const int64_t[5]){0});
    struct affine8 a, row[ENTRIES];
    struct scalar8 odd;
    const point *at[LANES];
    lane_pointers(at, p, size);
    affine8_from_points(&a, at);
    odd_multiples8(row, &a);
    scalar8_load_array(&odd, k, size);
    *negate = scalar8_make_odd(&odd);
    window_product8(&t, &odd, ROWS, row);
    fe8_select(&t.z, mask_infinity8(at), &zero, &t.z);
    *out = xyzz8_from_jacobian(&t);
    secret_wipe(&odd, sizeof odd);
    secret_wipe(&t, sizeof t);
}

static void mul(point *out, const scalar *k, const point *p, size_t count)
{
    struct xyzz8 t[GROUPS];
    __mmask8 negate[GROUPS], infinite[GROUPS];
    size_t done = 0, size;
    for (; count - done > ALONE_MAX; done += size) {
        const size_t groups = groups_for(count - done, ALONE_MAX);
        size = count - done < groups * LANES ? count - done : groups * LANES;
        for (size_t i = 0; i < groups; i++)
            mul_group(&t[i], &negate[i], k + done + i * LANES, p + done + i * LANES,
                      size - i * LANES);
        finish8(out + done, infinite, t, negate, groups, size);
        for (size_t i = 0; i < size; i++) {
            if (!is_infinite(infinite, i))
                continue;
            CT_PUBLIC(&k[done + i], sizeof *k);
            out[done + i] = point_mul_complete(&k[done + i], &p[done + i]);
        }
    }
    sm2_path_adx.mul(out + done, k + done, p + done, count - done);
    secret_wipe(t, sizeof t);
}

/* --- known points, public scalars ---------------------------------------------------------------
 */

/* Entries of eight rows of one table or of one row of eight tables. */
FE8_INLINE void known_entries8(struct affine8 *out, const uint64_t *const from[LANES])
{
    __m512i w[8];
#pragma GCC unroll 8
    for (int i = 0; i < LANES; i++)
        w[i] = load(from[i]);
    fe8_transpose(w);
    affine8_unpack_256(out, w);
}

/* Windows of 8 bits of public scalars, one in each lane: the entries, and the lanes that subtract.
 */
struct known_digits {
    uint64_t entry[KNOWN_ROWS][LANES];
    uint8_t negative[KNOWN_ROWS];
};

static void known_digits(struct known_digits *out, const scalar *const k[LANES])
{
    struct scalar8 odd;
    scalar8_load(&odd, k);
    const __mmask8 even = scalar8_make_odd(&odd);
    for (unsigned i = 0; i < KNOWN_ROWS; i++) {
        __mmask8 negative = 0;
        /* The top window holds the top digit, which is positive. */
        const __m512i entry =
            i < KNOWN_ROWS - 1 ? digit8(&negative, &odd, i, 8) : bits8(&odd, 8 * i + 1, 7);
        _mm512_storeu_si512(out->entry[i], entry);
        out->negative[i] = (uint8_t)(negative ^ even);
    }
}

/* a += t or a -= t; the first two times a is made. */
static void known_add8(struct xyzz8 *a, struct affine8 *start, const struct affine8 *t,
                       __mmask8 negative, unsigned terms)
{
    if (terms == 0)
        affine8_norm(start, t, negative);
    else if (terms == 1)
        xyzz8_add_affine(a, start, t, negative);
    else
        xyzz8_add_mixed(a, t, negative);
}

/* a += k p in each lane, each by its own table, or a = k p if `first`. */
static void known_comb8(struct xyzz8 *a, const scalar *const k[LANES],
                        const struct known_table *const table[LANES], bool first)
{
    struct known_digits digits;
    struct affine8 start, t;
    known_digits(&digits, k);
    for (unsigned i = 0; i < KNOWN_ROWS; i++) {
        const uint64_t *from[LANES];
        for (unsigned j = 0; j < LANES; j++)
            from[j] = table[j]->entry[i][digits.entry[i][j]];
        known_entries8(&t, from);
        known_add8(a, &start, &t, digits.negative[i], first ? i : KNOWN_ROWS);
    }
}

/* One product's windows over the lanes: rows 8 r to 8 r + 7 of one table. */
static void known_spread8(struct xyzz8 *a, const scalar *k, const struct known_table *table,
                          bool first)
{
    const scalar *const same[LANES] = {k, k, k, k, k, k, k, k};
    struct known_digits digits;
    struct affine8 start, t;
    known_digits(&digits, same);
    for (unsigned r = 0; r < KNOWN_ROWS / LANES; r++) {
        const uint64_t *from[LANES];
        unsigned negative = 0;
        for (unsigned j = 0; j < LANES; j++) {
            const unsigned i = r * LANES + j;
            from[j] = table->entry[i][digits.entry[i][0]];
            negative |= (digits.negative[i] & 1u) << j;
        }
        known_entries8(&t, from);
        known_add8(a, &start, &t, (__mmask8)negative, first ? r : KNOWN_ROWS);
    }
}

/* --- q + b p ------------------------------------------------------------------------------------
 */

/* b p by windows; an even b is made odd by one, and p is taken away again. */
static void window_sum8(struct xyzz8 *out, const scalar *b, const point *const p[LANES],
                        size_t size)
{
    struct affine8 a, row[ENTRIES];
    struct jacobian8 t;
    struct scalar8 odd;
    unsigned rows = 0;
    for (size_t i = 0; i < size; i++) {
        const unsigned needed = sm2_rows_for(&b[i], W);
        rows = needed > rows ? needed : rows;
    }
    affine8_from_points(&a, p);
    odd_multiples8(row, &a);
    scalar8_load_array(&odd, b, size);
    const __mmask8 even = (__mmask8)~_mm512_test_epi64_mask(odd.w[0], FE8_ALL(1));
    odd.w[0] = FE8_OR(odd.w[0], FE8_ALL(1));
    window_product8(&t, &odd, rows, row);
    *out = xyzz8_from_jacobian(&t);
    if (even != 0) {
        struct xyzz8 less = *out;
        xyzz8_add_mixed(&less, &a, ALL);
        xyzz8_select(out, even, &less, out);
    }
}

static void known_sum8(struct xyzz8 *out, const scalar *b, const struct known_table *known,
                       size_t size)
{
    const struct known_table *table[LANES];
    const scalar *at[LANES];
    for (size_t i = 0; i < LANES; i++) {
        at[i] = &b[i < size ? i : 0];
        table[i] = known;
    }
    known_comb8(out, at, table, true);
}

static void mul_add_group(point *out, const point *q, const scalar *b, const point *p,
                          const struct known_table *known, size_t size)
{
    struct xyzz8 t;
    struct affine8 a;
    const point *p_at[LANES], *q_at[LANES];
    const __mmask8 negate = 0;
    __mmask8 infinite;
    lane_pointers(p_at, p, size);
    lane_pointers(q_at, q, size);
    if (known != NULL)
        known_sum8(&t, b, known, size);
    else
        window_sum8(&t, b, p_at, size);
    affine8_from_points(&a, q_at);
    xyzz8_add_mixed(&t, &a, 0);
    finish8(out, &infinite, &t, &negate, 1, size);
    /* What the formulas cannot do, and what has no affine form. */
    infinite |= mask_infinity8(p_at) | mask_infinity8(q_at);
    for (size_t i = 0; i < size; i++)
        if (infinite >> i & 1)
            sm2_path_adx.mul_add_public(&out[i], &q[i], &b[i], &p[i], known, 1);
}

static void mul_add_public(point *out, const point *q, const scalar *b, const point *p,
                           const struct known_table *known, size_t count)
{
    size_t done = 0;
    while (count - done > ALONE_MAX) {
        const size_t left = count - done, lanes = left < LANES ? left : LANES;
        mul_add_group(out + done, q + done, b + done, p + done, known, lanes);
        done += lanes;
    }
    sm2_path_adx.mul_add_public(out + done, q + done, b + done, p + done, known, count - done);
}

/* --- roots --------------------------------------------------------------------------------------
 */

/* a^((p + 1) / 4); see fe_pow_p34 of sm2_fe_common.h. */
static void root8(fe8 *out, const fe8 *a)
{
    fe8 x2, x3, x6, x12, x15, x30, x31, x32, t;
    sqr8_times(&x2, a, 1);
    mul8(&x2, &x2, a);
    sqr8_times(&x3, &x2, 1);
    mul8(&x3, &x3, a);
    sqr8_times(&x6, &x3, 3);
    mul8(&x6, &x6, &x3);
    sqr8_times(&x12, &x6, 6);
    mul8(&x12, &x12, &x6);
    sqr8_times(&x15, &x12, 3);
    mul8(&x15, &x15, &x3);
    sqr8_times(&x30, &x15, 15);
    mul8(&x30, &x30, &x15);
    sqr8_times(&x31, &x30, 1);
    mul8(&x31, &x31, a);
    sqr8_times(&x32, &x31, 1);
    mul8(&x32, &x32, a);
    sqr8_times(&t, &x31, 1);
    for (int i = 0; i < 4; i++) {
        sqr8_times(&t, &t, 32);
        mul8(&t, &t, &x32);
    }
    sqr8_times(&t, &t, 64);
    mul8(&t, &t, &x32);
    sqr8_times(&t, &t, 30);
    mul8(&t, &t, &x30);
    mul8(out, &t, a);
}

static void decompress_group(point *out, bool *ok, const uint64_t (*x)[4], const uint8_t *odd,
                             size_t size)
{
    const fe8 b = fe8_all(fe8_b);
    const uint64_t *at[LANES];
    fe8 fx, right, root, t;
    __m512i y[4], plain[LANES] = {_mm512_setzero_si512()};
    unsigned want_odd = 0;
    for (size_t i = 0; i < LANES; i++) {
        at[i] = x[i < size ? i : 0];
        want_odd |= (unsigned)(odd[i < size ? i : 0] & 1) << i;
    }
    fe8_from_plain(&fx, at);
    sqr8(&t, &fx);
    mul8(&t, &t, &fx);
    right = fe8_raw_shl(&fx, 1);
    right = fe8_raw_add(&right, &fx);
    right = fe8_raw_sub(&t, &right);
    fe8_add(&right, &right, &b); /* x^3 - 3 x + b */
    root8(&root, &right);
    sqr8(&t, &root);
    const __mmask8 good = fe8_mask_equal(&t, &right);
    fe8_to_plain(y, &root);
    const __mmask8 is_odd = _mm512_test_epi64_mask(y[0], FE8_ALL(1));
    root = fe8_raw_negate((__mmask8)(is_odd ^ want_odd), &root);
    fe8_norm(&root);
    fe8_to_plain(y, &root);
    for (int i = 0; i < 4; i++)
        plain[4 + i] = y[i];
    fe8_transpose(plain); /* x is left zero here, and copied below */
    for (size_t i = 0; i < size; i++) {
        ok[i] = (good >> i & 1) != 0;
        _mm512_storeu_si512((void *)&out[i], _mm512_maskz_mov_epi64(ok[i] ? ALL : 0, plain[i]));
        if (ok[i])
            memcpy(out[i].x, x[i], sizeof out[i].x);
    }
}

static void decompress(point *out, bool *ok, const uint64_t (*x)[4], const uint8_t *odd,
                       size_t count)
{
    size_t done = 0;
    while (count - done > 1) {
        const size_t left = count - done, lanes = left < LANES ? left : LANES;
        decompress_group(out + done, ok + done, x + done, odd + done, lanes);
        done += lanes;
    }
    sm2_path_adx.decompress(out + done, ok + done, x + done, odd + done, count - done);
}

/* --- verification --------------------------------------------------------------------------------
 */

/* Lanes where x = x1 zz or, where x1 + n is below p, x = (x1 + n) zz. */
static __mmask8 x_is8(const fe8 *x, const fe8 *zz, const struct sm2_equation *const e[LANES])
{
    const uint64_t *at[LANES];
    uint64_t wrapped[LANES][4];
    bool any = false;
    fe8 t;
    for (int i = 0; i < LANES; i++)
        at[i] = e[i]->x1.w;
    fe8_from_plain(&t, at);
    mul8(&t, &t, zz);
    __mmask8 equal = fe8_mask_equal(&t, x);
    for (int i = 0; i < LANES; i++) {
        if (!sm2_x_may_wrap(&e[i]->x1))
            continue;
        sm2_add_n(wrapped[i], &e[i]->x1);
        at[i] = wrapped[i];
        any = true;
    }
    if (any) {
        fe8_from_plain(&t, at);
        mul8(&t, &t, zz);
        equal |= fe8_mask_equal(&t, x);
    }
    return equal;
}

static void verify_finish(bool *ok, const fe8 *x, const fe8 *zz,
                          const struct sm2_equation *const e[LANES], size_t size)
{
    const __mmask8 equal = x_is8(x, zz, e), lost = fe8_mask_zero(zz);
    for (size_t i = 0; i < size; i++)
        ok[i] = lost >> i & 1 ? sm2_equation_holds_complete(e[i]) : (equal >> i & 1) != 0;
}

static void verify_known_group(bool *ok, const struct sm2_equation *const e[LANES], size_t size)
{
    const struct known_table *g[LANES], *table[LANES];
    const scalar *s[LANES], *t[LANES];
    struct xyzz8 sum;
    for (int i = 0; i < LANES; i++) {
        s[i] = &e[i]->s;
        t[i] = &e[i]->t;
        g[i] = base_known;
        table[i] = e[i]->known;
    }
    known_comb8(&sum, s, g, true);
    known_comb8(&sum, t, table, false);
    verify_finish(ok, &sum.x, &sum.zz, e, size);
}

static void verify_known_spread(bool *ok, const struct sm2_equation *const e[LANES])
{
    struct xyzz8 sum;
    known_spread8(&sum, &e[0]->s, base_known, true);
    known_spread8(&sum, &e[0]->t, e[0]->known, false);
    xyzz8_gather(&sum);
    verify_finish(ok, &sum.x, &sum.zz, e, 1);
}

static void verify_unknown_group(bool *ok, const struct sm2_equation *const e[LANES], size_t size)
{
    const struct known_table *g[LANES];
    const scalar *s[LANES], *t[LANES];
    const point *p[LANES];
    struct affine8 a, row[ENTRIES];
    struct scalar8 odd;
    struct jacobian8 by_p;
    struct xyzz8 sum, tp;
    for (int i = 0; i < LANES; i++) {
        p[i] = e[i]->p;
        s[i] = &e[i]->s;
        t[i] = &e[i]->t;
        g[i] = base_known;
    }
    affine8_from_points(&a, p);
    odd_multiples8(row, &a);
    scalar8_load(&odd, t);
    const __mmask8 flip = scalar8_make_odd(&odd);
    window_product8(&by_p, &odd, ROWS, row);
    tp = xyzz8_from_jacobian(&by_p);
    tp.y = fe8_raw_negate(flip, &tp.y);
    fe8_norm(&tp.y);
    known_comb8(&sum, s, g, true);
    xyzz8_add(&sum, &tp);
    verify_finish(ok, &sum.x, &sum.zz, e, size);
}

/* The equations in[at[0..size)], all with a table or all without. */
static void verify_some(bool *ok, const struct sm2_equation *in, const size_t *at, size_t size,
                        bool known)
{
    const struct sm2_equation *e[LANES];
    bool good[LANES];
    if (size == 0)
        return;
    for (size_t i = 0; i < LANES; i++)
        e[i] = &in[at[i < size ? i : 0]];
    if (known && size > SPREAD_MAX)
        verify_known_group(good, e, size);
    else if (!known && size > ALONE_MAX)
        verify_unknown_group(good, e, size);
    else
        for (size_t i = 0; i < size; i++) {
            const struct sm2_equation *one[LANES] = {e[i], e[i], e[i], e[i],
                                                     e[i], e[i], e[i], e[i]};
            if (known)
                verify_known_spread(&good[i], one);
            else
                sm2_path_adx.verify(&good[i], e[i], 1);
        }
    for (size_t i = 0; i < size; i++)
        ok[at[i]] = good[i];
}

static void verify(bool *ok, const struct sm2_equation *in, size_t count)
{
    size_t at[2][LANES], waiting[2] = {0, 0};
    for (size_t i = 0; i < count; i++) {
        const int known = in[i].known != NULL;
        at[known][waiting[known]++] = i;
        if (waiting[known] == LANES) {
            verify_some(ok, in, at[known], LANES, known);
            waiting[known] = 0;
        }
    }
    for (int known = 0; known < 2; known++)
        verify_some(ok, in, at[known], waiting[known], known);
}

static bool on_curve(const point *p)
{
    return sm2_path_adx.on_curve(p);
}

static point add(const point *a, const point *b)
{
    return sm2_path_adx.add(a, b);
}

static point mul2_complete(const scalar *a, const point *p, const scalar *b, const point *q)
{
    return sm2_path_adx.mul2_complete(a, p, b, q);
}

/* --- sums of many products -----------------------------------------------------------------------
 */

/* Pippenger's method as in sm2_path_single.c, with windows of 8 bits: lane i of group g has window
 * 8 g + i and its own buckets, so that eight windows take in a point at once. */

#define SUM_WINDOWS  32
#define SUM_SHORT    16
#define BUCKETS      128
#define BUCKET_WORDS 24 /* x, y, zz, zzz of five limbs each, then whether anything is in it */
#define BUCKET_FULL  20

struct sum {
    size_t count, short_from;
    /* Coordinate limb j of point i is xy[i / 8][j][i % 8]. */
    _Alignas(64) uint64_t (*xy)[10][LANES];
    uint8_t (*size)[SUM_WINDOWS]; /* of each digit; 0 is no digit */
    uint8_t (*negative)[SUM_WINDOWS / LANES];
    /* Row 0 takes what has no digit, and nobody looks at it. */
    uint64_t (*bucket)[LANES][BUCKET_WORDS];
    struct affine8 blind[2];
    uint64_t total[SUM_WINDOWS][16];
};

/* Digits in (-128, 128] of k or n - k, whichever is below 2^255. */
static void sum_digits(uint8_t size[SUM_WINDOWS], uint8_t negative[SUM_WINDOWS / LANES],
                       const scalar *k)
{
    static const scalar zero = {{0}};
    const unsigned flip = (unsigned)(k->w[3] >> 63);
    const scalar half = flip ? scalar_sub(&zero, k) : *k;
    unsigned carry = 0;
    memset(negative, 0, SUM_WINDOWS / LANES);
    for (unsigned i = 0; i < SUM_WINDOWS; i++) {
        const unsigned v = (unsigned)(half.w[i / 8] >> (8 * (i % 8)) & 255) + carry;
        carry = v > 128;
        size[i] = (uint8_t)(carry ? 256 - v : v);
        negative[i / LANES] |= (uint8_t)((carry ^ flip) << (i % LANES));
    }
    AMI_CHECK(carry == 0);
}

/* The words of one bucket in each lane to coordinates; the mask of those that are full. */
FE8_INLINE __mmask8 bucket_load(struct xyzz8 *out, const uint64_t *const from[LANES])
{
    __m512i w[BUCKET_WORDS];
#pragma GCC unroll 3
    for (int part = 0; part < 3; part++) {
#pragma GCC unroll 8
        for (int i = 0; i < LANES; i++)
            w[8 * part + i] = load(from[i] + 8 * part);
        fe8_transpose(w + 8 * part);
    }
#pragma GCC unroll 5
    for (int i = 0; i < 5; i++) {
        out->x.l[i] = w[i];
        out->y.l[i] = w[5 + i];
        out->zz.l[i] = w[10 + i];
        out->zzz.l[i] = w[15 + i];
    }
    return _mm512_test_epi64_mask(w[BUCKET_FULL], w[BUCKET_FULL]);
}

FE8_INLINE void bucket_store(uint64_t *const to[LANES], const struct xyzz8 *a)
{
    __m512i w[BUCKET_WORDS];
#pragma GCC unroll 5
    for (int i = 0; i < 5; i++) {
        w[i] = a->x.l[i];
        w[5 + i] = a->y.l[i];
        w[10 + i] = a->zz.l[i];
        w[15 + i] = a->zzz.l[i];
    }
    w[BUCKET_FULL] = FE8_ALL(1);
    w[21] = w[22] = w[23] = _mm512_setzero_si512();
#pragma GCC unroll 3
    for (int part = 0; part < 3; part++) {
        fe8_transpose(w + 8 * part);
#pragma GCC unroll 8
        for (int i = 0; i < LANES; i++)
            _mm512_store_si512((void *)(to[i] + 8 * part), w[8 * part + i]);
    }
}

static void bucket_places(uint64_t *at[LANES], const struct sum *s, size_t i, unsigned group)
{
    for (unsigned lane = 0; lane < LANES; lane++)
        at[lane] = s->bucket[s->size[i][group * LANES + lane]][lane];
}

static __attribute__((noinline)) void bucket_add(struct sum *s, size_t i, unsigned group)
{
    const fe8 one = fe8_all(fe8_one);
    uint64_t *at[LANES], *next[LANES];
    struct affine8 p;
    struct xyzz8 bucket;
    bucket_places(at, s, i, group);
    if (i + 1 < s->count) {
        bucket_places(next, s, i + 1, group);
        for (unsigned lane = 0; lane < LANES; lane++)
            for (int part = 0; part < 3; part++)
                __builtin_prefetch(next[lane] + 8 * part, 1);
    }
    for (int j = 0; j < 5; j++) {
        p.x.l[j] = FE8_ALL(s->xy[i / LANES][j][i % LANES]);
        p.y.l[j] = FE8_ALL(s->xy[i / LANES][5 + j][i % LANES]);
    }
    const __mmask8 negative = s->negative[i][group];
    const __mmask8 full = bucket_load(&bucket, (const uint64_t *const *)at);
    struct affine8 first;
    affine8_norm(&first, &p, negative);
    const struct xyzz8 alone = {first.x, first.y, one, one};
    xyzz8_add_mixed(&bucket, &p, negative);
    xyzz8_select(&bucket, full, &bucket, &alone);
    bucket_store(at, &bucket);
}

/* Each lane's weighted sum, plus BUCKETS times blind[0], plus blind[1]. */
static void bucket_sums(struct xyzz8 *weighted, const struct sum *s)
{
    const fe8 one = fe8_all(fe8_one);
    struct xyzz8 running = {s->blind[0].x, s->blind[0].y, one, one}, bucket, sum;
    *weighted = (struct xyzz8){s->blind[1].x, s->blind[1].y, one, one};
    for (size_t b = BUCKETS; b > 0; b--) {
        const uint64_t *at[LANES];
        for (unsigned lane = 0; lane < LANES; lane++)
            at[lane] = s->bucket[b][lane];
        const __mmask8 full = bucket_load(&bucket, at);
        if (full != 0) {
            sum = running;
            xyzz8_add(&sum, &bucket);
            xyzz8_select(&running, full, &sum, &running);
        }
        xyzz8_add(weighted, &running);
    }
}

/* Windows of a group to the adx path's packed form. */
static void sum_store(uint64_t (*out)[16], const struct xyzz8 *a)
{
    /* 2^256: from the Montgomery form of 2^260 to that of 2^256. */
    static const int64_t two_256[5] = {1, INT64_C(0xffffffff000), 0, 0, INT64_C(0x10000)};
    const fe8 shift = fe8_all(two_256);
    const fe8 *from[4] = {&a->x, &a->y, &a->zz, &a->zzz};
    __m512i w[16];
    for (int i = 0; i < 4; i++) {
        fe8 t;
        mul8(&t, from[i], &shift);
        fe8_pack(w + 4 * i, &t);
    }
    fe8_transpose(w);
    fe8_transpose(w + 8);
    for (int i = 0; i < LANES; i++) {
        _mm512_storeu_si512(out[i], w[i]);
        _mm512_storeu_si512(out[i] + 8, w[8 + i]);
    }
}

static void sum_points(struct sum *s, const point *p, const scalar *k)
{
    for (size_t i = 0; i < s->count; i += LANES) {
        const point *at[LANES];
        struct affine8 a;
        lane_pointers(at, p + i, s->count - i);
        affine8_from_points(&a, at);
        for (int j = 0; j < 5; j++) {
            _mm512_store_si512(s->xy[i / LANES][j], a.x.l[j]);
            _mm512_store_si512(s->xy[i / LANES][5 + j], a.y.l[j]);
        }
    }
    for (size_t i = 0; i < s->count; i++)
        sum_digits(s->size[i], s->negative[i], &k[i]);
}

static bool sum_run(struct sum *s, const scalar *c, const scalar blind[2])
{
    const scalar all[3] = {blind[0], blind[1], sm2_sum_expected(c, blind, 8, SUM_WINDOWS)};
    point expected[3];
    mul_base(expected, all, 3);
    for (int i = 0; i < 2; i++) {
        const point *at[LANES];
        lane_pointers(at, &expected[i], 1);
        affine8_from_points(&s->blind[i], at);
    }
    for (unsigned group = 0; group < SUM_WINDOWS / LANES; group++) {
        const size_t count = group * LANES < SUM_SHORT ? s->count : s->short_from;
        struct xyzz8 weighted;
        memset(s->bucket, 0, sizeof *s->bucket * (BUCKETS + 1));
        for (size_t i = 0; i < count; i++)
            bucket_add(s, i, group);
        bucket_sums(&weighted, s);
        sum_store(s->total + group * LANES, &weighted);
    }
    return sm2_path_adx_total_is((const uint64_t(*)[16])s->total, SUM_WINDOWS, 8, &expected[2]);
}

static bool sum_is(const scalar *c, const point *p, const scalar *k, size_t count,
                   size_t short_from, const scalar blind[2])
{
    const size_t eights = count / LANES + 1;
    struct sum s = {.count = count, .short_from = short_from};
    s.xy = aligned_alloc(64, eights * sizeof *s.xy);
    s.bucket = aligned_alloc(64, (BUCKETS + 1) * sizeof *s.bucket);
    s.size = malloc((count + 1) * sizeof *s.size);
    s.negative = malloc((count + 1) * sizeof *s.negative);
    bool good = s.xy != NULL && s.bucket != NULL && s.size != NULL && s.negative != NULL;
    if (good) {
        sum_points(&s, p, k);
        good = sum_run(&s, c, blind);
    }
    free(s.xy);
    free(s.bucket);
    free(s.size);
    free(s.negative);
    return good;
}

const struct sm2_path sm2_path_ifma = {
    .name = "ifma",
    .start = start,
    .mul_base = mul_base,
    .mul = mul,
    .table_new = table_new,
    .mul_base_table = mul_base_table,
    .mul_add_public = mul_add_public,
    .decompress = decompress,
    .verify = verify,
    .sum_is = sum_is,
    .known_fill = known_fill,
    .on_curve = on_curve,
    .add = add,
    .mul2_complete = mul2_complete,
    .sum_count_min = 64,
};
