/* The SM2 engine one point at a time: the portable path, and, compiled with AMI_SM2_ADX, the adx
 * one. Both are the same text over two fields (sm2_fe.h).
 *
 * Scalars are taken apart into odd signed windows: with k odd (n - k is taken instead of an even k,
 * and the result negated), k = sum d_i 2^(w i) where every d_i is odd and |d_i| < 2^w. No digit is
 * zero, so every window costs the same addition.
 *   secret, fixed point   windows of 6, one table row each: 42 additions
 *   secret, other point   windows of 5, one row, 5 doublings between additions
 *   public, known point   windows of 8, one table row each (256 KB)
 * Secret digits pick their entry by reading the whole row. The addition formulas are incomplete:
 * where both operands are equal or one is infinity, the result has z = 0, and z = 0 stays. So one
 * test at the end finds the few scalars that need point_mul_complete. docs/sm2-engine.md tells
 * which these are.
 */
#include "crypto/sm2_path.h"

#include "base/check.h"
#include "crypto/limbs.h"
#include "crypto/sm2_fe.h"
#ifdef AMI_SM2_ADX
#define PATH      sm2_path_adx
#define PATH_NAME "adx"
#else
#define PATH      sm2_path_portable
#define PATH_NAME "portable"
#endif

#include <stdlib.h>
#include <string.h>

/* Secret scalars: a fixed point has a row per window of 6 bits, any other point one row for all its
 * windows of 5 bits. The top digit of any scalar is 1 for 51 windows of 5. */
#define FIXED_W       6
#define FIXED_ROWS    42
#define FIXED_ENTRIES 32
#define W             5
#define ROWS          51
#define ENTRIES       16
#define FIXED_TOP     8
#define CHUNK         16  /* results that share one inversion */
#define PACKED        8   /* x and y, four limbs each */
#define SUM_BITS      256 /* of the scalars of sum_is, and of its short ones */
#define SUM_SHORT     128

struct affine {
    fe x, y;
};

/* (x / z^2, y / z^3): for chains of doublings. */
struct jacobian {
    fe x, y, z;
};

/* (x / zz, y / zzz) with zz^3 = zzz^2: cheaper where nothing is doubled. */
struct xyzz {
    fe x, y, zz, zzz;
};

struct single_table {
    struct point_table head;
    _Alignas(64) uint64_t row[FIXED_ROWS][FIXED_ENTRIES][PACKED];
    _Alignas(64)
        uint64_t top[FIXED_TOP][PACKED]; /* of 2^252 P: the digit above all windows is 1 to 15 */
};

static struct single_table base_table;
static struct known_table *base_known;

/* --- conversions ------------------------------------------------------------------------------ */

static struct affine affine_from_point(const point *p)
{
    struct affine a;
    fe_from_plain(&a.x, p->x);
    fe_from_plain(&a.y, p->y);
    return a;
}

static struct affine affine_unpack(const uint64_t in[PACKED])
{
    struct affine a;
    fe_unpack(&a.x, in);
    fe_unpack(&a.y, in + 4);
    return a;
}

static void affine_pack(uint64_t out[PACKED], const struct affine *a)
{
    fe_pack(out, &a->x);
    fe_pack(out + 4, &a->y);
}

static uint64_t point_mask_infinity(const point *p)
{
    return ct_mask_zero(p->x[0] | p->x[1] | p->x[2] | p->x[3] | p->y[0] | p->y[1] | p->y[2] |
                        p->y[3]);
}

/* Montgomery's trick: the inverses of count values, none zero, by one inversion. product has room
 * for count. */
static void invert_all(fe *value, fe *product, size_t count)
{
    fe inverse, t;
    product[0] = value[0];
    for (size_t i = 1; i < count; i++)
        fe_mul(&product[i], &product[i - 1], &value[i]);
    fe_inverse(&inverse, &product[count - 1]);
    for (size_t i = count - 1; i > 0; i--) {
        fe_mul(&t, &inverse, &product[i - 1]);
        fe_mul(&inverse, &inverse, &value[i]);
        value[i] = t;
    }
    value[0] = inverse;
    secret_wipe(&inverse, sizeof inverse);
    secret_wipe(&t, sizeof t);
}

/* --- points ----------------------------------------------------------------------------------- */

/* Bounds in sm2_fe_portable.h's sense, in multiples of p: products are below 2; x, y below 1.01
 * (weakened), z, zz, zzz below 2.5; no operand of a product exceeds 12, no pair of them 16 x 4. */

/* dbl-2001-b of the Explicit-Formulas Database, a = -3. Infinity (z = 0) stays; no finite point has
 * y = 0, the order being odd. */
static void jacobian_double(struct jacobian *a)
{
    fe delta, gamma, beta, alpha, t;
    fe_sqr(&delta, &a->z);
    fe_sqr(&gamma, &a->y);
    fe_mul(&beta, &a->x, &gamma);
    fe_sub(&t, &a->x, &delta);
    fe_add(&alpha, &a->x, &delta);
    fe_mul(&t, &t, &alpha);
    fe_double(&alpha, &t);
    fe_add(&alpha, &alpha, &t); /* 3 (x - z^2) (x + z^2) */
    fe_mul(&t, &a->y, &a->z);
    fe_double(&a->z, &t);
    fe_double(&beta, &beta);
    fe_double(&beta, &beta); /* 4 x y^2 */
    fe_sqr(&t, &alpha);
    fe_sub(&t, &t, &beta);
    fe_sub(&a->x, &t, &beta);
    fe_weak(&a->x);
    fe_sqr(&gamma, &gamma);
    fe_double(&gamma, &gamma);
    fe_double(&gamma, &gamma);
    fe_double(&gamma, &gamma); /* 8 y^4 */
    fe_sub(&beta, &beta, &a->x);
    fe_mul(&alpha, &alpha, &beta);
    fe_sub(&a->y, &alpha, &gamma);
    fe_weak(&a->y);
}

/* The part that both mixed additions share: h = u2 - u1, r = s2 - s1 are there. */
static void add_finish(fe *x, fe *y, const fe *h, const fe *r, fe *hh, fe *hhh)
{
    fe v, t;
    fe_sqr(hh, h);
    fe_mul(hhh, h, hh);
    fe_mul(&v, x, hh);
    fe_sqr(&t, r);
    fe_sub(&t, &t, hhh);
    fe_sub(&t, &t, &v);
    fe_sub(x, &t, &v);
    fe_weak(x);
    fe_sub(&v, &v, x);
    fe_mul(&v, &v, r);
    fe_mul(&t, y, hhh);
    fe_sub(y, &v, &t);
    fe_weak(y);
}

/* a += b: madd, 8 products and 3 squares. z = 0 afterwards when a was infinity, b or -b. */
static void jacobian_add_mixed(struct jacobian *a, const struct affine *b)
{
    fe zz, h, r, hh, hhh;
    fe_sqr(&zz, &a->z);
    fe_mul(&h, &b->x, &zz);
    fe_mul(&zz, &zz, &a->z);
    fe_mul(&r, &b->y, &zz);
    fe_sub(&h, &h, &a->x);
    fe_sub(&r, &r, &a->y);
    fe_mul(&a->z, &a->z, &h);
    add_finish(&a->x, &a->y, &h, &r, &hh, &hhh);
}

/* a += b: madd-2008-s, 8 products and 2 squares. zz = 0 afterwards when a was infinity, b or -b. */
static void xyzz_add_mixed(struct xyzz *a, const struct affine *b)
{
    fe h, r, hh, hhh;
    fe_mul(&h, &b->x, &a->zz);
    fe_mul(&r, &b->y, &a->zzz);
    fe_sub(&h, &h, &a->x);
    fe_sub(&r, &r, &a->y);
    add_finish(&a->x, &a->y, &h, &r, &hh, &hhh);
    fe_mul(&a->zz, &a->zz, &hh);
    fe_mul(&a->zzz, &a->zzz, &hhh);
}

/* a += b: add-2008-s. zz = 0 afterwards when one was infinity or a was b or -b. */
static void xyzz_add(struct xyzz *a, const struct xyzz *b)
{
    fe h, r, hh, hhh, t;
    fe_mul(&h, &b->x, &a->zz);
    fe_mul(&r, &b->y, &a->zzz);
    fe_mul(&a->x, &a->x, &b->zz);
    fe_mul(&a->y, &a->y, &b->zzz);
    fe_sub(&h, &h, &a->x);
    fe_sub(&r, &r, &a->y);
    add_finish(&a->x, &a->y, &h, &r, &hh, &hhh);
    fe_mul(&t, &a->zz, &b->zz);
    fe_mul(&a->zz, &t, &hh);
    fe_mul(&t, &a->zzz, &b->zzz);
    fe_mul(&a->zzz, &t, &hhh);
}

/* dbl-2008-s-1 with a = -3. */
static void xyzz_double(struct xyzz *a)
{
    fe u, v, w, s, m, t;
    fe_double(&u, &a->y);
    fe_sqr(&v, &u);
    fe_mul(&w, &u, &v);
    fe_mul(&s, &a->x, &v);
    fe_sub(&m, &a->x, &a->zz);
    fe_add(&t, &a->x, &a->zz);
    fe_mul(&t, &m, &t);
    fe_double(&m, &t);
    fe_add(&m, &m, &t);
    fe_sqr(&t, &m);
    fe_sub(&t, &t, &s);
    fe_sub(&a->x, &t, &s);
    fe_weak(&a->x);
    fe_sub(&s, &s, &a->x);
    fe_mul(&s, &s, &m);
    fe_mul(&t, &w, &a->y);
    fe_sub(&a->y, &s, &t);
    fe_weak(&a->y);
    fe_mul(&a->zz, &a->zz, &v);
    fe_mul(&a->zzz, &a->zzz, &w);
}

static struct jacobian jacobian_from_affine(const struct affine *a)
{
    return (struct jacobian){a->x, a->y, fe_one};
}

static struct xyzz xyzz_from_affine(const struct affine *a)
{
    return (struct xyzz){a->x, a->y, fe_one, fe_one};
}

/* a += b for any a and finite b. Variable time. */
static void jacobian_add_complete(struct jacobian *a, const struct affine *b)
{
    struct jacobian sum = *a;
    if (fe_mask_zero(&a->z)) {
        *a = jacobian_from_affine(b);
        return;
    }
    jacobian_add_mixed(&sum, b);
    if (!fe_mask_zero(&sum.z)) {
        *a = sum;
        return;
    }
    fe zz, t;
    fe_sqr(&zz, &a->z);
    fe_mul(&t, &zz, &a->z);
    fe_mul(&t, &t, &b->y);
    if (fe_mask_equal(&t, &a->y))
        jacobian_double(a);
    else
        memset(a, 0, sizeof *a);
}

/* Affine points of count <= CHUNK results, each negated where its mask says so. The mask of
 * infinite[i] is set, and out[i] is infinity, where z is zero. Constant time. */
static void finish_jacobian(point *out, uint64_t *infinite, const struct jacobian *in,
                            const uint64_t *negate, size_t count)
{
    fe z[CHUNK], product[CHUNK], t, y, minus_y;
    AMI_CHECK(count >= 1 && count <= CHUNK);
    for (size_t i = 0; i < count; i++) {
        infinite[i] = fe_mask_zero(&in[i].z);
        fe_select(&z[i], infinite[i], &fe_one, &in[i].z);
    }
    invert_all(z, product, count);
    for (size_t i = 0; i < count; i++) {
        fe_mul(&y, &in[i].y, &z[i]);
        fe_sqr(&t, &z[i]);
        fe_mul(&y, &y, &t);
        fe_mul(&t, &in[i].x, &t);
        fe_negate(&minus_y, &y);
        fe_select(&y, negate[i], &minus_y, &y);
        fe_to_plain(out[i].x, &t);
        fe_to_plain(out[i].y, &y);
        for (int j = 0; j < 4; j++) {
            out[i].x[j] &= ~infinite[i];
            out[i].y[j] &= ~infinite[i];
        }
    }
    secret_wipe(&t, sizeof t);
    secret_wipe(z, sizeof z);
    secret_wipe(product, sizeof product);
}

/* The same point with z = zzz. */
static void jacobian_from_xyzz(struct jacobian *out, const struct xyzz *a)
{
    fe t;
    fe_sqr(&t, &a->zz);
    fe_mul(&out->x, &a->x, &t);
    fe_sqr(&t, &a->zzz);
    fe_mul(&out->y, &a->y, &t);
    out->z = a->zzz;
    secret_wipe(&t, sizeof t);
}

/* --- digits ----------------------------------------------------------------------------------- */

/* width bits of k from bit `at` on; zeros beyond the top. */
static uint64_t bits_of(const scalar *k, unsigned at, unsigned width)
{
    const unsigned limb = at / 64, shift = at % 64;
    uint64_t v = limb < 4 ? k->w[limb] >> shift : 0;
    if (shift + width > 64 && limb < 3)
        v |= k->w[limb + 1] << (64 - shift);
    return v & ((UINT64_C(1) << width) - 1);
}

struct digit {
    uint64_t entry;    /* |d| = 2 entry + 1 */
    uint64_t negative; /* mask */
};

/* Window i of an odd k: d = 2 v + 1 - 2^w with v the w bits from w i + 1 on. */
static struct digit digit_of(const scalar *k, unsigned i, unsigned width)
{
    const uint64_t v = bits_of(k, width * i + 1, width);
    const uint64_t negative = ct_mask(1 ^ (v >> (width - 1)));
    return (struct digit){(v ^ negative) & ((UINT64_C(1) << (width - 1)) - 1), negative};
}

/* What is left above `rows` windows: 2 v + 1 is the top digit. */
static uint64_t top_of(const scalar *k, unsigned rows, unsigned width)
{
    return bits_of(k, width * rows + 1, width - 1);
}

/* Vectors as wide as the path's processors have them; entries are told apart by 32-bit compares,
 * which all of them have. */
#ifdef AMI_SM2_ADX
#define VECTOR_LIMBS 4
#else
#define VECTOR_LIMBS 2
#endif
#define VECTORS (PACKED / VECTOR_LIMBS)
typedef uint64_t limb_vector __attribute__((vector_size(8 * VECTOR_LIMBS), may_alias));
typedef uint32_t half_vector __attribute__((vector_size(8 * VECTOR_LIMBS)));

/* The entry that the digit asks for; all of the row is read. Rows are aligned to 64 bytes. */
static struct affine pick(const uint64_t (*row)[PACKED], uint64_t entries, uint64_t entry,
                          uint64_t negative)
{
    union {
        limb_vector v[VECTORS];
        uint64_t limb[PACKED];
    } t;
    limb_vector v[VECTORS] = {{0}};
    const half_vector want = (uint32_t)entry - (half_vector){0};
    half_vector at = {0};
    for (uint64_t j = 0; j < entries; j++) {
        const limb_vector mask = (limb_vector)(at == want);
        const limb_vector *from = (const limb_vector *)row[j];
        at += 1;
#pragma GCC unroll 4
        for (int i = 0; i < VECTORS; i++)
            v[i] |= from[i] & mask;
    }
#pragma GCC unroll 4
    for (int i = 0; i < VECTORS; i++)
        t.v[i] = v[i];
    struct affine a = affine_unpack(t.limb);
    fe minus_y;
    fe_negate(&minus_y, &a.y);
    fe_select(&a.y, negative, &minus_y, &a.y);
    return a;
}

/* --- tables ----------------------------------------------------------------------------------- */

/* Makes affine, packed points of count Jacobian ones in place of a shared z: none is infinity. */
static void pack_all(uint64_t (*out)[PACKED], const struct jacobian *in, size_t count)
{
    fe z[KNOWN_ENTRIES], product[KNOWN_ENTRIES], t;
    AMI_CHECK(count <= KNOWN_ENTRIES);
    for (size_t i = 0; i < count; i++)
        z[i] = in[i].z;
    invert_all(z, product, count);
    for (size_t i = 0; i < count; i++) {
        struct affine a;
        fe_mul(&a.y, &in[i].y, &z[i]);
        fe_sqr(&t, &z[i]);
        fe_mul(&a.y, &a.y, &t);
        fe_mul(&a.x, &in[i].x, &t);
        affine_pack(out[i], &a);
    }
}

/* row[j] = (2 j + 1) p, with the z of p = 1. The additions take place where 2 p is affine: on the
 * curve that x z^2, y z^3 maps ours to, z being that of 2 p. The formulas do not use the curve's
 * coefficients, and every z is multiplied by that z in the end. Nothing is exceptional: j p and 2 p
 * differ, n being large. */
static void odd_multiples(struct jacobian *row, const struct affine *p, size_t entries)
{
    struct jacobian twice = jacobian_from_affine(p);
    fe zz;
    jacobian_double(&twice);
    const struct affine step = {twice.x, twice.y};
    fe_sqr(&zz, &twice.z);
    fe_mul(&row[0].x, &p->x, &zz);
    fe_mul(&zz, &zz, &twice.z);
    fe_mul(&row[0].y, &p->y, &zz);
    row[0].z = fe_one;
    for (size_t j = 1; j < entries; j++) {
        row[j] = row[j - 1];
        jacobian_add_mixed(&row[j], &step);
    }
    for (size_t j = 0; j < entries; j++)
        fe_mul(&row[j].z, &row[j].z, &twice.z);
}

/* row i: odd multiples of 2^(width i) p, for `rows` rows; then `base` is 2^(width rows) p. */
static void fill_rows(uint64_t (*out)[PACKED], struct affine *base, size_t rows, size_t entries,
                      unsigned width)
{
    struct jacobian row[KNOWN_ENTRIES];
    uint64_t packed[1][PACKED];
    for (size_t i = 0; i < rows; i++) {
        odd_multiples(row, base, entries);
        pack_all(out + i * entries, row, entries);
        struct jacobian next = jacobian_from_affine(base);
        for (unsigned j = 0; j < width; j++)
            jacobian_double(&next);
        pack_all(packed, &next, 1);
        *base = affine_unpack(packed[0]);
    }
}

#ifdef AMI_SM2_ADX
void sm2_path_adx_rows(uint64_t (*out)[PACKED], const point *p)
{
    struct affine base = affine_from_point(p);
    fill_rows(out, &base, FIXED_ROWS, FIXED_ENTRIES, FIXED_W);
    fill_rows(out + FIXED_ROWS * FIXED_ENTRIES, &base, 1, FIXED_TOP, FIXED_W);
}
#endif

static void fill_table(struct single_table *table, const point *p)
{
    struct affine base = affine_from_point(p);
    table->head.p = *p;
    fill_rows(table->row[0], &base, FIXED_ROWS, FIXED_ENTRIES, FIXED_W);
    fill_rows(table->top, &base, 1, FIXED_TOP, FIXED_W);
}

static struct point_table *table_new(const point *p)
{
    struct single_table *table = aligned_alloc(_Alignof(struct single_table), sizeof *table);
    if (table == NULL)
        return NULL;
    fill_table(table, p);
    return &table->head;
}

static void known_fill(struct known_table *out, const point *p)
{
    struct affine base = affine_from_point(p);
    out->p = *p;
    fill_rows(out->entry[0], &base, KNOWN_ROWS, KNOWN_ENTRIES, 8);
}

static bool start(void)
{
    if (base_known != NULL)
        return true;
    base_known = aligned_alloc(_Alignof(struct known_table), sizeof *base_known);
    if (base_known == NULL)
        return false;
    fill_table(&base_table, point_generator());
    known_fill(base_known, point_generator());
    return true;
}

#ifdef AMI_SM2_ADX
const struct known_table *sm2_path_adx_base_known(void)
{
    return base_known;
}
#endif

/* --- secret products -------------------------------------------------------------------------- */

/* sum += k p by the table; `sum` holds something or, if `first`, is written. The mask tells whether
 * the sum is to be negated. */
static uint64_t comb_secret(struct xyzz *sum, const scalar *k, const struct single_table *table,
                            bool first, uint64_t negated)
{
    scalar odd;
    /* The sum so far has its own sign: it is of -sum where `negated` is set. */
    const uint64_t even = sm2_make_odd(&odd, k), flip = even ^ negated;
    struct affine t =
        pick(table->top, FIXED_TOP, top_of(&odd, FIXED_ROWS, FIXED_W), first ? 0 : flip);
    if (first)
        *sum = xyzz_from_affine(&t);
    else
        xyzz_add_mixed(sum, &t);
    for (unsigned i = 0; i < FIXED_ROWS; i++) {
        const struct digit d = digit_of(&odd, i, FIXED_W);
        t = pick(table->row[i], FIXED_ENTRIES, d.entry, first ? d.negative : d.negative ^ flip);
        xyzz_add_mixed(sum, &t);
    }
    secret_wipe(&odd, sizeof odd);
    secret_wipe(&t, sizeof t);
    return first ? even : negated;
}

/* Results for which z = 0 are computed again, by formulas that know no exceptions. Their scalars
 * are among a few known beforehand, so they are no secret any more. */
static void mend(point *out, const uint64_t *infinite, const scalar *k, const point *p, size_t step,
                 size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!ct_reveal(infinite[i]))
            continue;
        CT_PUBLIC(&k[i], sizeof k[i]);
        out[i] = point_mul_complete(&k[i], &p[i * step]);
    }
}

static void mul_base(point *out, const scalar *k, size_t count)
{
    struct jacobian t[CHUNK];
    struct xyzz sum;
    uint64_t negate[CHUNK], infinite[CHUNK];
    for (size_t done = 0; done < count; done += CHUNK) {
        const size_t size = count - done < CHUNK ? count - done : CHUNK;
        for (size_t i = 0; i < size; i++) {
            negate[i] = comb_secret(&sum, &k[done + i], &base_table, true, 0);
            jacobian_from_xyzz(&t[i], &sum);
        }
        finish_jacobian(out + done, infinite, t, negate, size);
        mend(out + done, infinite, k + done, point_generator(), 0, size);
        secret_wipe(t, size * sizeof t[0]); /* a result's z tells of the way to it */
    }
    secret_wipe(&sum, sizeof sum);
}

static void mul_base_table(point *out, const scalar *a, const scalar *b,
                           const struct point_table *table, size_t count)
{
    const struct single_table *own = (const struct single_table *)table;
    struct jacobian t[CHUNK];
    struct xyzz sum;
    uint64_t negate[CHUNK], infinite[CHUNK];
    for (size_t done = 0; done < count; done += CHUNK) {
        const size_t size = count - done < CHUNK ? count - done : CHUNK;
        for (size_t i = 0; i < size; i++) {
            negate[i] = comb_secret(&sum, &a[done + i], &base_table, true, 0);
            (void)comb_secret(&sum, &b[done + i], own, false, negate[i]);
            jacobian_from_xyzz(&t[i], &sum);
        }
        finish_jacobian(out + done, infinite, t, negate, size);
        for (size_t i = 0; i < size; i++) {
            if (!ct_reveal(infinite[i]))
                continue;
            CT_PUBLIC(&a[done + i], sizeof *a);
            CT_PUBLIC(&b[done + i], sizeof *b);
            out[done + i] =
                point_mul2_complete(&a[done + i], point_generator(), &b[done + i], &table->p);
        }
        secret_wipe(t, size * sizeof t[0]);
    }
    secret_wipe(&sum, sizeof sum);
}

/* k p for an odd k of rows windows and a top digit, by p's odd multiples. */
static void window_product(struct jacobian *out, const scalar *odd, unsigned rows,
                           const uint64_t row[ENTRIES][PACKED])
{
    struct affine t = pick(row, ENTRIES, top_of(odd, rows, W), 0);
    *out = jacobian_from_affine(&t);
    for (unsigned i = rows; i-- > 0;) {
        for (unsigned j = 0; j < W; j++)
            jacobian_double(out);
        const struct digit d = digit_of(odd, i, W);
        t = pick(row, ENTRIES, d.entry, d.negative);
        jacobian_add_mixed(out, &t);
    }
    secret_wipe(&t, sizeof t);
}

/* The odd multiples of count <= CHUNK points, by one inversion. A point at infinity gives nonsense
 * and does not disturb the others. */
static void rows_of(uint64_t (*out)[ENTRIES][PACKED], const point *p, size_t count)
{
    struct jacobian row[ENTRIES];
    fe z[CHUNK * ENTRIES], product[CHUNK * ENTRIES], t;
    struct affine xy[CHUNK * ENTRIES];
    for (size_t i = 0; i < count; i++) {
        const struct affine a = affine_from_point(&p[i]);
        odd_multiples(row, &a, ENTRIES);
        const uint64_t infinite = point_mask_infinity(&p[i]);
        for (size_t j = 0; j < ENTRIES; j++) {
            fe_select(&z[i * ENTRIES + j], infinite, &fe_one, &row[j].z);
            xy[i * ENTRIES + j] = (struct affine){row[j].x, row[j].y};
        }
    }
    invert_all(z, product, count * ENTRIES);
    for (size_t i = 0; i < count * ENTRIES; i++) {
        fe_mul(&xy[i].y, &xy[i].y, &z[i]);
        fe_sqr(&t, &z[i]);
        fe_mul(&xy[i].y, &xy[i].y, &t);
        fe_mul(&xy[i].x, &xy[i].x, &t);
        affine_pack(out[i / ENTRIES][i % ENTRIES], &xy[i]);
    }
}

static void mul(point *out, const scalar *k, const point *p, size_t count)
{
    static const fe zero = {{0}};
    _Alignas(64) uint64_t row[CHUNK][ENTRIES][PACKED];
    struct jacobian t[CHUNK];
    uint64_t negate[CHUNK], infinite[CHUNK];
    scalar odd;
    for (size_t done = 0; done < count; done += CHUNK) {
        const size_t size = count - done < CHUNK ? count - done : CHUNK;
        rows_of(row, p + done, size);
        for (size_t i = 0; i < size; i++) {
            negate[i] = sm2_make_odd(&odd, &k[done + i]);
            window_product(&t[i], &odd, ROWS, (const uint64_t(*)[PACKED])row[i]);
            fe_select(&t[i].z, point_mask_infinity(&p[done + i]), &zero, &t[i].z);
        }
        finish_jacobian(out + done, infinite, t, negate, size);
        mend(out + done, infinite, k + done, p + done, 1, size);
        secret_wipe(t, size * sizeof t[0]);
    }
    secret_wipe(&odd, sizeof odd);
}

/* --- public products -------------------------------------------------------------------------- */

static struct affine known_entry(const struct known_table *table, const scalar *odd, unsigned i,
                                 uint64_t flip)
{
    /* The top window holds the top digit, which is positive. */
    const struct digit d = i < KNOWN_ROWS - 1 ? digit_of(odd, i, 8)
                                              : (struct digit){top_of(odd, KNOWN_ROWS - 1, 8), 0};
    struct affine a = affine_unpack(table->entry[i][d.entry]);
    if (d.negative ^ flip)
        fe_negate(&a.y, &a.y);
    return a;
}

/* sum += k p, or sum = k p if `first`, exactly as to the sign. */
static void comb_public(struct xyzz *sum, const scalar *k, const struct known_table *table,
                        bool first)
{
    scalar odd;
    const uint64_t flip = sm2_make_odd(&odd, k);
    for (unsigned i = 0; i < KNOWN_ROWS; i++) {
        const struct affine a = known_entry(table, &odd, i, flip);
        if (first && i == 0)
            *sum = xyzz_from_affine(&a);
        else
            xyzz_add_mixed(sum, &a);
    }
}

static bool mul_add_by_row(struct jacobian *t, const point *q, const scalar *b, const point *p,
                           const uint64_t row[ENTRIES][PACKED])
{
    scalar odd = *b;
    struct affine a;
    if (point_mask_infinity(p))
        return false;
    /* An even b is made odd by one, which is taken away again: b stays short that way. */
    const bool even = (b->w[0] & 1) == 0;
    odd.w[0] |= 1;
    window_product(t, &odd, sm2_rows_for(b, W), row);
    if (fe_mask_zero(&t->z))
        return false;
    if (even) {
        a = affine_from_point(p);
        fe_negate(&a.y, &a.y);
        jacobian_add_complete(t, &a);
    }
    if (!point_mask_infinity(q)) {
        a = affine_from_point(q);
        jacobian_add_complete(t, &a);
    }
    return true;
}

static bool mul_add_by_known(struct jacobian *t, const point *q, const scalar *b,
                             const struct known_table *known)
{
    struct xyzz sum;
    comb_public(&sum, b, known, true);
    jacobian_from_xyzz(t, &sum);
    if (fe_mask_zero(&t->z))
        return false;
    if (!point_mask_infinity(q)) {
        const struct affine a = affine_from_point(q);
        jacobian_add_complete(t, &a);
    }
    return true;
}

static void mul_add_public(point *out, const point *q, const scalar *b, const point *p,
                           const struct known_table *known, size_t count)
{
    static const scalar one = {{1}};
    _Alignas(64) uint64_t row[CHUNK][ENTRIES][PACKED];
    struct jacobian t[CHUNK];
    uint64_t negate[CHUNK] = {0}, infinite[CHUNK];
    bool good[CHUNK];
    for (size_t done = 0; done < count; done += CHUNK) {
        const size_t size = count - done < CHUNK ? count - done : CHUNK;
        if (known == NULL)
            rows_of(row, p + done, size);
        memset(t, 0, sizeof t);
        for (size_t i = 0; i < size; i++)
            good[i] = known != NULL
                          ? mul_add_by_known(&t[i], &q[done + i], &b[done + i], known)
                          : mul_add_by_row(&t[i], &q[done + i], &b[done + i], &p[done + i],
                                           (const uint64_t(*)[PACKED])row[i]);
        finish_jacobian(out + done, infinite, t, negate, size);
        for (size_t i = 0; i < size; i++)
            if (!good[i])
                out[done + i] = point_mul2_complete(&one, &q[done + i], &b[done + i], &p[done + i]);
    }
}

static void decompress(point *out, bool *ok, const uint64_t (*x)[4], const uint8_t *odd,
                       size_t count)
{
    for (size_t i = 0; i < count; i++) {
        fe fx, right, root;
        fe_from_plain(&fx, x[i]);
        curve_right_side(&right, &fx);
        memset(&out[i], 0, sizeof out[i]);
        ok[i] = fe_root(&root, &right) != 0;
        if (!ok[i])
            continue;
        fe_to_plain(out[i].y, &root);
        if ((out[i].y[0] & 1) != odd[i]) {
            fe_negate(&root, &root);
            fe_to_plain(out[i].y, &root);
        }
        memcpy(out[i].x, x[i], sizeof out[i].x);
    }
}

static bool on_curve(const point *p)
{
    const struct affine a = affine_from_point(p);
    fe left, right;
    fe_sqr(&left, &a.y);
    curve_right_side(&right, &a.x);
    return ct_reveal(fe_mask_equal(&left, &right)); /* whether an input was refused is public */
}

/* --- complete formulas ------------------------------------------------------------------------ */

/* Affine addition with the slope chosen by selection: constant time, any two points. */
static point add(const point *a, const point *b)
{
    const struct affine p = affine_from_point(a), q = affine_from_point(b);
    const uint64_t p_infinite = point_mask_infinity(a), q_infinite = point_mask_infinity(b);
    fe dx, dy, slope, twice_y, t, x, y;
    point sum;
    fe_sub(&dx, &q.x, &p.x);
    fe_sub(&dy, &q.y, &p.y);
    const uint64_t same_x = fe_mask_zero(&dx), same_y = fe_mask_zero(&dy);
    fe_sqr(&t, &p.x);
    fe_sub(&t, &t, &fe_one);
    fe_double(&slope, &t);
    fe_add(&slope, &slope, &t); /* 3 x^2 - 3 */
    fe_double(&twice_y, &p.y);
    fe_select(&dy, same_x & same_y, &slope, &dy);
    fe_select(&dx, same_x & same_y, &twice_y, &dx);
    fe_inverse(&dx, &dx);
    fe_mul(&slope, &dx, &dy);
    fe_sqr(&x, &slope);
    fe_sub(&x, &x, &p.x);
    fe_sub(&x, &x, &q.x);
    fe_sub(&t, &p.x, &x);
    fe_mul(&y, &slope, &t);
    fe_sub(&y, &y, &p.y);
    fe_to_plain(sum.x, &x);
    fe_to_plain(sum.y, &y);
    const uint64_t opposite = same_x & ~same_y;
    for (int i = 0; i < 4; i++) {
        sum.x[i] &= ~opposite & ~p_infinite & ~q_infinite;
        sum.y[i] &= ~opposite & ~p_infinite & ~q_infinite;
        sum.x[i] |= (b->x[i] & p_infinite) | (a->x[i] & q_infinite);
        sum.y[i] |= (b->y[i] & p_infinite) | (a->y[i] & q_infinite);
    }
    return sum;
}

static point mul2_complete(const scalar *a, const point *p, const scalar *b, const point *q)
{
    const struct affine pa = affine_from_point(p), qa = affine_from_point(q);
    const bool p_finite = !point_mask_infinity(p), q_finite = !point_mask_infinity(q);
    struct jacobian t = {{{0}}, {{0}}, {{0}}};
    const uint64_t negate = 0;
    uint64_t infinite;
    point out;
    for (unsigned i = 256; i-- > 0;) {
        jacobian_double(&t);
        if (p_finite && bits_of(a, i, 1))
            jacobian_add_complete(&t, &pa);
        if (q_finite && bits_of(b, i, 1))
            jacobian_add_complete(&t, &qa);
    }
    finish_jacobian(&out, &infinite, &t, &negate, 1);
    return out;
}

/* --- verification ----------------------------------------------------------------------------- */

/* Is x = x1 or, where that is below p, x1 + n, for (x / zz, ...)? */
static bool x_is(const fe *x, const fe *zz, const scalar *x1)
{
    fe t;
    uint64_t wrapped[4];
    fe_from_plain(&t, x1->w);
    fe_mul(&t, &t, zz);
    if (fe_mask_equal(&t, x))
        return true;
    if (!sm2_x_may_wrap(x1))
        return false;
    sm2_add_n(wrapped, x1);
    fe_from_plain(&t, wrapped);
    fe_mul(&t, &t, zz);
    return fe_mask_equal(&t, x) != 0;
}

static bool verify_known(const struct sm2_equation *e)
{
    struct xyzz sum;
    comb_public(&sum, &e->s, base_known, true);
    comb_public(&sum, &e->t, e->known, false);
    if (fe_mask_zero(&sum.zz))
        return sm2_equation_holds_complete(e);
    return x_is(&sum.x, &sum.zz, &e->x1);
}

static bool verify_unknown(const struct sm2_equation *e, const uint64_t row[ENTRIES][PACKED])
{
    struct jacobian sum;
    scalar odd;
    fe zz;
    const uint64_t flip_t = sm2_make_odd(&odd, &e->t);
    window_product(&sum, &odd, ROWS, row);
    if (flip_t)
        fe_negate(&sum.y, &sum.y);
    const uint64_t flip_s = sm2_make_odd(&odd, &e->s);
    for (unsigned i = 0; i < KNOWN_ROWS; i++) {
        const struct affine a = known_entry(base_known, &odd, i, flip_s);
        jacobian_add_mixed(&sum, &a);
    }
    if (fe_mask_zero(&sum.z))
        return sm2_equation_holds_complete(e);
    fe_sqr(&zz, &sum.z);
    return x_is(&sum.x, &zz, &e->x1);
}

static void verify(bool *ok, const struct sm2_equation *in, size_t count)
{
    _Alignas(64) uint64_t row[CHUNK][ENTRIES][PACKED];
    point p[CHUNK];
    size_t at[CHUNK], waiting = 0;
    for (size_t i = 0; i < count; i++) {
        if (in[i].known != NULL) {
            ok[i] = verify_known(&in[i]);
        } else {
            p[waiting] = *in[i].p;
            at[waiting++] = i;
        }
        if (waiting == 0 || (waiting < CHUNK && i + 1 < count))
            continue;
        rows_of(row, p, waiting);
        for (size_t j = 0; j < waiting; j++)
            ok[at[j]] = verify_unknown(&in[at[j]], (const uint64_t(*)[PACKED])row[j]);
        waiting = 0;
    }
}

/* --- sums of many products -------------------------------------------------------------------- */

/* Pippenger's method with signed windows of c bits: in each window a point goes into the bucket of
 * its digit's size, and the buckets are summed with their weights by running sums. The running
 * sums start from two points that nobody can foresee, so that they never meet a bucket or one
 * another, and the whole is compared with what that adds: a point of which only its finder knows
 * the logarithm. Where two equal points meet in a bucket its zz is zero and stays so, up to the
 * total, which then equals no point: the answer is no, and the signatures are checked one by one.
 */

/* Window width that costs least for count long and as many short scalars. */
static unsigned sum_width(size_t count)
{
    return count < 48 ? 4 : count < 160 ? 5 : count < 480 ? 6 : count < 1800 ? 7 : 8;
}

/* Signed digits of k < 2^255: width bits each, in (-2^(width-1), 2^(width-1)]. */
static void signed_digits(int16_t *out, const scalar *k, unsigned width, unsigned windows)
{
    unsigned carry = 0;
    for (unsigned i = 0; i < windows; i++) {
        const unsigned v = (unsigned)bits_of(k, width * i, width) + carry;
        carry = v > 1u << (width - 1);
        out[i] = (int16_t)((int)v - (carry ? 1 << width : 0));
    }
    AMI_CHECK(carry == 0);
}

struct sum {
    unsigned width, windows, short_windows;
    size_t count, short_from;
    struct affine *p;
    int16_t *digit; /* windows of them for each point */
    struct xyzz *bucket;
    bool *full;
    struct affine blind[2];
};

/* total = total 2^width + sum of the window's points + (buckets) blind[0] + blind[1]. */
static void sum_window(struct sum *s, struct xyzz *total, unsigned window)
{
    const size_t buckets = (size_t)1 << (s->width - 1);
    const size_t count = window < s->short_windows ? s->count : s->short_from;
    memset(s->full, 0, buckets * sizeof *s->full);
    for (size_t i = 0; i < count; i++) {
        const int d = s->digit[i * s->windows + window];
        if (d == 0)
            continue;
        struct affine a = s->p[i];
        if (d < 0)
            fe_negate(&a.y, &a.y);
        const size_t b = (size_t)(d < 0 ? -d : d) - 1;
        if (s->full[b])
            xyzz_add_mixed(&s->bucket[b], &a);
        else
            s->bucket[b] = xyzz_from_affine(&a);
        s->full[b] = true;
    }
    struct xyzz running = xyzz_from_affine(&s->blind[0]), weighted = xyzz_from_affine(&s->blind[1]);
    for (size_t b = buckets; b-- > 0;) {
        if (s->full[b])
            xyzz_add(&running, &s->bucket[b]);
        xyzz_add(&weighted, &running);
    }
    for (unsigned j = 0; window + 1 < s->windows && j < s->width; j++)
        xyzz_double(total);
    if (window + 1 == s->windows)
        *total = weighted;
    else
        xyzz_add(total, &weighted);
}

/* k or n - k, whichever is below 2^255, and the point to match. */
static void halve_range(scalar *k, struct affine *p)
{
    static const scalar zero = {{0}};
    if (k->w[3] >> 63) {
        *k = scalar_sub(&zero, k);
        fe_negate(&p->y, &p->y);
    }
}

/* Is the point (x / zz, y / zzz) this one, and finite? */
static bool xyzz_is(const struct xyzz *a, const point *p)
{
    const struct affine e = affine_from_point(p);
    fe x, y;
    fe_mul(&x, &e.x, &a->zz);
    fe_mul(&y, &e.y, &a->zzz);
    return (fe_mask_equal(&x, &a->x) & fe_mask_equal(&y, &a->y) & ~fe_mask_zero(&a->zz)) != 0;
}

static bool sum_run(struct sum *s, const scalar *c, const scalar blind[2])
{
    point expected[3];
    const scalar k[3] = {blind[0], blind[1], sm2_sum_expected(c, blind, s->width, s->windows)};
    struct xyzz total;
    mul_base(expected, k, 3);
    for (int i = 0; i < 2; i++)
        s->blind[i] = affine_from_point(&expected[i]);
    for (unsigned window = s->windows; window-- > 0;)
        sum_window(s, &total, window);
    return xyzz_is(&total, &expected[2]);
}

#ifdef AMI_SM2_ADX
bool sm2_path_adx_total_is(const uint64_t (*window)[2 * PACKED], unsigned windows, unsigned width,
                           const point *expected)
{
    struct xyzz total = {{{0}}, {{0}}, {{0}}, {{0}}}, t;
    for (unsigned i = windows; i-- > 0;) {
        fe_unpack(&t.x, window[i]);
        fe_unpack(&t.y, window[i] + 4);
        fe_unpack(&t.zz, window[i] + 8);
        fe_unpack(&t.zzz, window[i] + 12);
        if (i + 1 == windows) {
            total = t;
            continue;
        }
        for (unsigned j = 0; j < width; j++)
            xyzz_double(&total);
        xyzz_add(&total, &t);
    }
    return xyzz_is(&total, expected);
}
#endif

static bool sum_is(const scalar *c, const point *p, const scalar *k, size_t count,
                   size_t short_from, const scalar blind[2])
{
    const unsigned width = sum_width(count);
    struct sum s = {.width = width,
                    .windows = (SUM_BITS + width - 1) / width,
                    .short_windows = (SUM_SHORT + width - 1) / width,
                    .count = count,
                    .short_from = short_from};
    s.p = malloc((count + 1) * sizeof *s.p);
    s.digit = malloc((count + 1) * s.windows * sizeof *s.digit);
    s.bucket = malloc(sizeof *s.bucket << (width - 1));
    s.full = malloc(sizeof *s.full << (width - 1));
    bool good = s.p != NULL && s.digit != NULL && s.bucket != NULL && s.full != NULL;
    for (size_t i = 0; good && i < count; i++) {
        scalar half = k[i];
        s.p[i] = affine_from_point(&p[i]);
        halve_range(&half, &s.p[i]);
        signed_digits(s.digit + i * s.windows, &half, width, s.windows);
    }
    good = good && sum_run(&s, c, blind);
    free(s.p);
    free(s.digit);
    free(s.bucket);
    free(s.full);
    return good;
}

const struct sm2_path PATH = {
    .name = PATH_NAME,
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
    .sum_count_min = 24,
};
