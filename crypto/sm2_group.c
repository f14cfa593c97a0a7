/* Points of sm2p256v1 and their products, portable path.
 *
 * Secret scalars are cut into 52 signed windows of 5 bits, digits in [-16, 16], and a digit picks
 * its multiple by reading the whole row of 16. A fixed point has a row per window (53 KB), so its
 * product is additions only; any other point has one row and five doublings between additions.
 * Public scalars use width-w non-adjacent forms and branches.
 */
#include "crypto/sm2_jacobian.h"

#include "base/check.h"
#include "crypto/secret.h"

#include <stdlib.h>

#define WINDOW_BITS  5
#define WINDOW_COUNT 52 /* 260 bits: a scalar's 256 and the carry of signed digits */
#define ROW          16 /* multiples 1 to 16 */

struct point_table {
    point p;
    point row[WINDOW_COUNT][ROW]; /* row[i][j] = (j + 1) 32^i p */
};

#define PUBLIC_BASE_WIDTH 8 /* odd multiples of G up to 127, for public scalars */
#define PUBLIC_BASE_ROW   64
#define PUBLIC_WIDTH      5 /* odd multiples up to 15 of any other point */
#define PUBLIC_ROW        8

static const point generator = {.x = {UINT64_C(0x61328990f418029e), UINT64_C(0x3e7981eddca6c050),
                                      UINT64_C(0xd6a1ed99ac24c3c3), UINT64_C(0x91167a5ee1c13b05)},
                                .y = {UINT64_C(0xc1354e593c2d0ddd), UINT64_C(0xc1f5e5788d3295fa),
                                      UINT64_C(0x8d4cfb066e2a48f8), UINT64_C(0x63cd65d481d735bd)}};

static struct point_table base_table;
static point base_odd[PUBLIC_BASE_ROW]; /* (2 j + 1) G */
static bool base_ready;

/* --- conversions ------------------------------------------------------------------------------ */

static uint64_t point_mask_infinity(const point *p)
{
    return fe_mask_zero(p->x) & fe_mask_zero(p->y);
}

uint64_t jacobian_mask_infinity(const jacobian *p)
{
    return fe_mask_zero(p->z);
}

jacobian jacobian_from_point(const point *p)
{
    static const fe zero = {0};
    jacobian out;
    fe_copy(out.x, p->x);
    fe_copy(out.y, p->y);
    fe_select(out.z, point_mask_infinity(p), zero, fe_one);
    return out;
}

/* Montgomery's trick: one inversion for up to SM2_BATCH points; z = 0 takes part as 1. */
static void chunk_to_points(point *out, const jacobian *in, size_t count)
{
    fe z[SM2_BATCH], product[SM2_BATCH], inverse, zi, zi2;
    AMI_CHECK(count >= 1 && count <= SM2_BATCH);
    for (size_t i = 0; i < count; i++) {
        fe_select(z[i], fe_mask_zero(in[i].z), fe_one, in[i].z);
        if (i == 0)
            fe_copy(product[0], z[0]);
        else
            fe_mul(product[i], product[i - 1], z[i]);
    }
    fe_inverse(inverse, product[count - 1]);
    for (size_t i = count; i-- > 0;) {
        if (i == 0) {
            fe_copy(zi, inverse);
        } else {
            fe_mul(zi, inverse, product[i - 1]);
            fe_mul(inverse, inverse, z[i]);
        }
        uint64_t finite = ~fe_mask_zero(in[i].z);
        fe_sqr(zi2, zi);
        fe_mul(out[i].x, in[i].x, zi2);
        fe_mul(zi2, zi2, zi);
        fe_mul(out[i].y, in[i].y, zi2);
        for (int j = 0; j < 4; j++) {
            out[i].x[j] &= finite;
            out[i].y[j] &= finite;
        }
    }
}

void jacobian_to_points(point *out, const jacobian *in, size_t count)
{
    for (size_t done = 0; done < count; done += SM2_BATCH)
        chunk_to_points(out + done, in + done, count - done < SM2_BATCH ? count - done : SM2_BATCH);
}

/* --- addition --------------------------------------------------------------------------------- */

static void jacobian_select(jacobian *out, uint64_t mask, const jacobian *a, const jacobian *b)
{
    fe_select(out->x, mask, a->x, b->x);
    fe_select(out->y, mask, a->y, b->y);
    fe_select(out->z, mask, a->z, b->z);
}

/* The a = -3 doubling (dbl-2001-b of the Explicit-Formulas Database); infinity gives infinity, and
 * no finite point has y = 0 because the order is odd. */
static void jacobian_double(jacobian *out, const jacobian *a)
{
    fe delta, gamma, beta, alpha, t;
    fe_sqr(delta, a->z);
    fe_sqr(gamma, a->y);
    fe_mul(beta, a->x, gamma);
    fe_sub(t, a->x, delta);
    fe_add(alpha, a->x, delta);
    fe_mul(t, t, alpha);
    fe_double(alpha, t);
    fe_add(alpha, alpha, t); /* 3 (x - z^2) (x + z^2) */
    fe_mul(t, a->y, a->z);
    fe_double(out->z, t);
    fe_double(beta, beta);
    fe_double(beta, beta); /* 4 x y^2 */
    fe_sqr(t, alpha);
    fe_sub(t, t, beta);
    fe_sub(out->x, t, beta);
    fe_double(gamma, gamma);
    fe_sqr(gamma, gamma);
    fe_double(gamma, gamma); /* 8 y^4 */
    fe_sub(beta, beta, out->x);
    fe_mul(alpha, alpha, beta);
    fe_sub(out->y, alpha, gamma);
}

/* What the addition formulas share once both points are over one denominator: (u1, s1) and
 * (u2, s2) with z = z1 z2. The result is right unless one point is infinity (then out->z = 0) or
 * the points are equal (then out->z = 0 too, and both masks are set). */
struct add_state {
    fe u1, s1, u2, s2, z;
    uint64_t same_x, same_y;
};

static void add_finish(jacobian *out, struct add_state *s)
{
    fe h, r, hh, hhh, v;
    fe_sub(h, s->u2, s->u1);
    fe_sub(r, s->s2, s->s1);
    s->same_x = fe_mask_zero(h);
    s->same_y = fe_mask_zero(r);
    fe_mul(out->z, s->z, h);
    fe_sqr(hh, h);
    fe_mul(hhh, hh, h);
    fe_mul(v, s->u1, hh);
    fe_sqr(h, r);
    fe_sub(h, h, hhh);
    fe_sub(h, h, v);
    fe_sub(out->x, h, v);
    fe_sub(v, v, out->x);
    fe_mul(v, v, r);
    fe_mul(hhh, hhh, s->s1);
    fe_sub(out->y, v, hhh);
}

/* add-1998-cmo: 12 multiplications, 4 squarings. */
static void add_incomplete(jacobian *out, const jacobian *a, const jacobian *b, struct add_state *s)
{
    fe aa, bb;
    fe_sqr(aa, a->z);
    fe_sqr(bb, b->z);
    fe_mul(s->u1, a->x, bb);
    fe_mul(s->u2, b->x, aa);
    fe_mul(bb, bb, b->z);
    fe_mul(aa, aa, a->z);
    fe_mul(s->s1, a->y, bb);
    fe_mul(s->s2, b->y, aa);
    fe_mul(s->z, a->z, b->z);
    add_finish(out, s);
}

/* b affine and finite: 8 multiplications, 3 squarings. */
static void add_mixed_incomplete(jacobian *out, const jacobian *a, const point *b,
                                 struct add_state *s)
{
    fe aa;
    fe_sqr(aa, a->z);
    fe_copy(s->u1, a->x);
    fe_copy(s->s1, a->y);
    fe_mul(s->u2, b->x, aa);
    fe_mul(aa, aa, a->z);
    fe_mul(s->s2, b->y, aa);
    fe_copy(s->z, a->z);
    add_finish(out, s);
}

void jacobian_add(jacobian *out, const jacobian *a, const jacobian *b)
{
    jacobian sum, twice;
    struct add_state s;
    uint64_t a_infinity = fe_mask_zero(a->z), b_infinity = fe_mask_zero(b->z);
    add_incomplete(&sum, a, b, &s);
    jacobian_double(&twice, a);
    jacobian_select(&sum, s.same_x & s.same_y & ~a_infinity & ~b_infinity, &twice, &sum);
    jacobian_select(&sum, b_infinity, a, &sum);
    jacobian_select(out, a_infinity, b, &sum);
}

/* Variable time from here to the end of the section; out and a may be one. */
static void add_public(jacobian *out, const jacobian *a, const jacobian *b)
{
    struct add_state s;
    jacobian sum;
    if (fe_mask_zero(a->z)) {
        *out = *b;
    } else if (fe_mask_zero(b->z)) {
        *out = *a;
    } else {
        add_incomplete(&sum, a, b, &s);
        if (s.same_x & s.same_y)
            jacobian_double(&sum, a);
        *out = sum;
    }
}

static void add_mixed_public(jacobian *out, const jacobian *a, const point *b)
{
    struct add_state s;
    jacobian sum;
    if (fe_mask_zero(a->z)) {
        *out = jacobian_from_point(b);
    } else if (!point_mask_infinity(b)) {
        add_mixed_incomplete(&sum, a, b, &s);
        if (s.same_x & s.same_y)
            jacobian_double(&sum, a);
        *out = sum;
    } else {
        *out = *a;
    }
}

/* --- constant-time products ------------------------------------------------------------------- */

struct digit {
    uint64_t magnitude; /* 0 to 16 */
    uint64_t negative;  /* mask */
};

/* Window i of the signed form (Booth): bits 5i - 1 to 5i + 4 as b, digit = ceil(b / 2), minus 32
 * when the highest bit is set. Summed over all windows with their weights this is k exactly,
 * because each window hands its highest bit to the next one as a carry. */
static struct digit digit_of(const scalar *k, unsigned i)
{
    uint64_t bits = k->w[0] << 1;
    if (i > 0) {
        unsigned at = WINDOW_BITS * i - 1, limb = at / 64, shift = at % 64;
        bits = k->w[limb] >> shift;
        if (shift > 64 - (WINDOW_BITS + 1) && limb < 3)
            bits |= k->w[limb + 1] << (64 - shift);
    }
    bits &= 63;
    uint64_t negative = ct_mask(bits >> 5);
    bits = (bits ^ negative) & 63;
    return (struct digit){(bits >> 1) + (bits & 1), negative};
}

/* out = the multiple that the digit asks for, all of the row read; zero for digit zero. */
static void pick_affine(point *out, const point row[ROW], struct digit d)
{
    point t = {0};
    for (uint64_t j = 0; j < ROW; j++) {
        uint64_t mask = ct_mask_equal(j + 1, d.magnitude);
        for (int i = 0; i < 4; i++) {
            t.x[i] |= row[j].x[i] & mask;
            t.y[i] |= row[j].y[i] & mask;
        }
    }
    fe minus_y;
    fe_negate(minus_y, t.y);
    fe_copy(out->x, t.x);
    fe_select(out->y, d.negative, minus_y, t.y);
}

static void pick_jacobian(jacobian *out, const jacobian row[ROW], struct digit d)
{
    jacobian t = {{0}, {0}, {0}};
    for (uint64_t j = 0; j < ROW; j++) {
        uint64_t mask = ct_mask_equal(j + 1, d.magnitude);
        for (int i = 0; i < 4; i++) {
            t.x[i] |= row[j].x[i] & mask;
            t.y[i] |= row[j].y[i] & mask;
            t.z[i] |= row[j].z[i] & mask;
        }
    }
    fe minus_y;
    fe_negate(minus_y, t.y);
    fe_copy(out->x, t.x);
    fe_select(out->y, d.negative, minus_y, t.y);
    fe_copy(out->z, t.z);
}

/* k p by the table, windows from the lowest up. The mixed addition is incomplete, but never meets
 * the case that it cannot do. Let A be the sum of the windows below i and T = d 32^i, d not 0, so
 * that the step computes A p + T p.
 *   |A| <= 16 (32^i - 1) / 31 < 0.52 32^i, and |T| >= 32^i, so A and T differ as integers, also
 *   from each other's negatives.
 *   Up to i = 50, |A| + |T| < 17 2^250 < n, so they differ modulo n as well.
 *   At i = 51 the top window holds one bit and a carry: d is 1 or 2 and A + T = k < n. A = T mod n
 *   would mean k = 2T mod n: 2^256 - n (for d = 1) or 2^257 - 2n (for d = 2), both below 2^226;
 *   but k = A + T > 0.48 2^255. A = -T mod n would mean k = 0, which has no digits at all.
 * A zero digit keeps the sum, and the first other digit starts it; both by selection. */
static void comb_mul(jacobian *out, const scalar *k, const struct point_table *table)
{
    jacobian sum = {{0}, {0}, {0}}, next;
    point t;
    struct add_state s;
    uint64_t started = 0;
    for (unsigned i = 0; i < WINDOW_COUNT; i++) {
        struct digit d = digit_of(k, i);
        pick_affine(&t, table->row[i], d);
        uint64_t present = ~ct_mask_zero(d.magnitude);
        add_mixed_incomplete(&next, &sum, &t, &s);
        jacobian first;
        fe_copy(first.x, t.x);
        fe_copy(first.y, t.y);
        fe_copy(first.z, fe_one);
        jacobian_select(&next, started, &next, &first);
        jacobian_select(&sum, present, &next, &sum);
        started |= present;
    }
    *out = sum;
    secret_wipe(&next, sizeof next);
    secret_wipe(&t, sizeof t);
    secret_wipe(&s, sizeof s);
}

void jacobian_mul_base(jacobian *out, const scalar *k)
{
    AMI_CHECK(base_ready); /* crypto_start was called */
    comb_mul(out, k, &base_table);
}

/* k p, windows from the highest down. Let A > 0 be the value of the windows above i, so that the
 * step computes 32 A p + d p. Each prefix of the signed form is k / 32^i rounded to an integer.
 *   32 A = d mod n: as integers they differ (32 A >= 32 > |d|). For i > 0 both are below
 *   n / 16, so they differ modulo n too. For i = 0, 32 A + d = k < n, and 32 A = d mod n means
 *   k = 2 d + m n; that leaves k = n + 2 d with d < 0 and 32 A = n + d, so d = -3 as n = 3 mod 32:
 *   k = n - 6. So the last addition, and only that, has to be the complete one.
 *   32 A = -d mod n would make the next prefix 0 modulo n, but it lies in [1, n - 1].
 * If p is infinity, so are its multiples, and z stays 0 through all formulas. */
void jacobian_mul(jacobian *out, const scalar *k, const jacobian *p)
{
    jacobian row[ROW], sum, t, next;
    struct add_state s;
    row[0] = *p;
    jacobian_double(&row[1], p);
    for (unsigned j = 2; j < ROW; j++)
        if (j % 2 == 1)
            jacobian_double(&row[j], &row[j / 2]);
        else
            add_incomplete(&row[j], &row[j - 1], p, &s); /* j p and p differ, n being large */

    struct digit d = digit_of(k, WINDOW_COUNT - 1);
    pick_jacobian(&sum, row, d);
    uint64_t started = ~ct_mask_zero(d.magnitude);
    for (unsigned i = WINDOW_COUNT - 1; i-- > 0;) {
        for (int j = 0; j < WINDOW_BITS; j++)
            jacobian_double(&sum, &sum);
        d = digit_of(k, i);
        pick_jacobian(&t, row, d);
        if (i == 0) {
            jacobian_add(&sum, &sum, &t);
            break;
        }
        uint64_t present = ~ct_mask_zero(d.magnitude);
        add_incomplete(&next, &sum, &t, &s);
        jacobian_select(&next, started, &next, &t);
        jacobian_select(&sum, present, &next, &sum);
        started |= present;
    }
    *out = sum;
    secret_wipe(row, sizeof row);
    secret_wipe(&t, sizeof t);
    secret_wipe(&next, sizeof next);
    secret_wipe(&s, sizeof s);
}

/* --- tables ----------------------------------------------------------------------------------- */

static void fill_table(struct point_table *table, const point *p)
{
    jacobian row[ROW], base = jacobian_from_point(p);
    table->p = *p;
    for (unsigned i = 0; i < WINDOW_COUNT; i++) {
        row[0] = base;
        for (unsigned j = 1; j < ROW; j++)
            add_public(&row[j], &row[j - 1], &base);
        jacobian_to_points(table->row[i], row, ROW);
        jacobian_double(&base, &row[ROW - 1]);
    }
}

void sm2_group_start(void)
{
    fill_table(&base_table, &generator);
    jacobian odd[PUBLIC_BASE_ROW], twice;
    odd[0] = jacobian_from_point(&generator);
    jacobian_double(&twice, &odd[0]);
    for (unsigned j = 1; j < PUBLIC_BASE_ROW; j++)
        add_public(&odd[j], &odd[j - 1], &twice);
    jacobian_to_points(base_odd, odd, PUBLIC_BASE_ROW);
    base_ready = true;
}

struct point_table *point_table_new(const point *p)
{
    AMI_CHECK(!point_is_infinity(p));
    struct point_table *table = malloc(sizeof *table);
    if (table != NULL)
        fill_table(table, p);
    return table;
}

void point_table_free(struct point_table *table)
{
    free(table);
}

const point *point_table_point(const struct point_table *table)
{
    return &table->p;
}

/* --- public products -------------------------------------------------------------------------- */

#define NAF_DIGITS 257

/* Width-w non-adjacent form: odd digits below 2^(w-1) in size, w - 1 zeros after each. Returns the
 * number of digits. */
static int naf_of(int8_t digits[NAF_DIGITS], const scalar *k, unsigned width)
{
    uint64_t w[5] = {k->w[0], k->w[1], k->w[2], k->w[3], 0};
    int count = 0;
    memset(digits, 0, NAF_DIGITS);
    for (int at = 0; at < NAF_DIGITS; at++) {
        if (w[0] & 1) {
            int digit = (int)(w[0] & ((UINT64_C(1) << width) - 1));
            uint64_t carry = 0;
            if (digit >= 1 << (width - 1)) {
                digit -= 1 << width;
                carry = add_carry(&w[0], w[0], (uint64_t)-digit, 0);
                for (int i = 1; i < 5; i++)
                    carry = add_carry(&w[i], w[i], 0, carry);
            } else {
                w[0] -= (uint64_t)digit;
            }
            digits[at] = (int8_t)digit;
            count = at + 1;
        }
        for (int i = 0; i < 4; i++)
            w[i] = w[i] >> 1 | w[i + 1] << 63;
        w[4] >>= 1;
    }
    return count;
}

static void odd_multiples(jacobian row[PUBLIC_ROW], const point *p)
{
    jacobian twice;
    row[0] = jacobian_from_point(p);
    jacobian_double(&twice, &row[0]);
    for (unsigned j = 1; j < PUBLIC_ROW; j++)
        add_public(&row[j], &row[j - 1], &twice);
}

static void add_digit_public(jacobian *sum, const jacobian row[PUBLIC_ROW], int digit)
{
    if (digit > 0) {
        add_public(sum, sum, &row[digit / 2]);
    } else if (digit < 0) {
        jacobian t = row[-digit / 2];
        fe_negate(t.y, t.y);
        add_public(sum, sum, &t);
    }
}

static void add_base_digit_public(jacobian *sum, int digit)
{
    if (digit > 0) {
        add_mixed_public(sum, sum, &base_odd[digit / 2]);
    } else if (digit < 0) {
        point t = point_negate(&base_odd[-digit / 2]);
        add_mixed_public(sum, sum, &t);
    }
}

void jacobian_mul_add_public(jacobian *out, const scalar *a, const scalar *b, const point *p)
{
    AMI_CHECK(base_ready);
    int8_t a_digits[NAF_DIGITS], b_digits[NAF_DIGITS];
    int a_count = naf_of(a_digits, a, PUBLIC_BASE_WIDTH);
    int b_count = naf_of(b_digits, b, PUBLIC_WIDTH);
    jacobian row[PUBLIC_ROW], sum = {{0}, {0}, {0}};
    odd_multiples(row, p);
    for (int i = (a_count > b_count ? a_count : b_count) - 1; i >= 0; i--) {
        jacobian_double(&sum, &sum);
        add_base_digit_public(&sum, a_digits[i]);
        add_digit_public(&sum, row, b_digits[i]);
    }
    *out = sum;
}

void jacobian_mul_add_point_public(jacobian *out, const point *q, const scalar *b, const point *p)
{
    int8_t digits[NAF_DIGITS];
    int count = naf_of(digits, b, PUBLIC_WIDTH);
    jacobian row[PUBLIC_ROW], sum = {{0}, {0}, {0}};
    odd_multiples(row, p);
    for (int i = count - 1; i >= 0; i--) {
        jacobian_double(&sum, &sum);
        add_digit_public(&sum, row, digits[i]);
    }
    add_mixed_public(out, &sum, q);
}

/* --- the public interface --------------------------------------------------------------------- */

/* x^3 - 3 x + b */
static void curve_right_side(fe out, const fe x)
{
    fe t, three_x;
    fe_sqr(t, x);
    fe_mul(t, t, x);
    fe_double(three_x, x);
    fe_add(three_x, three_x, x);
    fe_sub(t, t, three_x);
    fe_add(out, t, fe_b);
}

enum ami_status point_decode(point *out, const point_bytes *in)
{
    point p;
    fe right, minus_y;
    memset(out, 0, sizeof *out);
    if (in->b[0] != 2 && in->b[0] != 3)
        return AMI_BAD_CRYPTO;
    if (!fe_from_bytes(p.x, in->b + 1))
        return AMI_BAD_CRYPTO;
    curve_right_side(right, p.x);
    if (!fe_sqrt(p.y, right))
        return AMI_BAD_CRYPTO;
    fe_negate(minus_y, p.y);
    fe_select(p.y, ct_mask(fe_is_odd(p.y) ^ (in->b[0] & 1)), minus_y, p.y);
    *out = p;
    return AMI_OK;
}

enum ami_status point_decode_batch(point *out, bool *ok, const point_bytes *in, size_t count)
{
    bool all = true;
    for (size_t i = 0; i < count; i++) {
        ok[i] = point_decode(&out[i], &in[i]) == AMI_OK;
        all = all && ok[i];
    }
    return all ? AMI_OK : AMI_BAD_CRYPTO;
}

void point_xy(uint8_t out[SM2_XY_BYTES], const point *p)
{
    /* Reveals only that the point is finite, which every caller has made sure of. */
    AMI_CHECK(!ct_reveal(point_mask_infinity(p)));
    fe_to_bytes(out, p->x);
    fe_to_bytes(out + 32, p->y);
}

point_bytes point_encode(const point *p)
{
    uint8_t xy[SM2_XY_BYTES];
    point_bytes out;
    point_xy(xy, p);
    out.b[0] = (uint8_t)(2 | (xy[SM2_XY_BYTES - 1] & 1));
    memcpy(out.b + 1, xy, 32);
    return out;
}

enum ami_status point_from_xy(point *out, const uint8_t in[SM2_XY_BYTES])
{
    point p;
    fe left, right;
    uint64_t good = fe_from_bytes(p.x, in) & fe_from_bytes(p.y, in + 32);
    fe_sqr(left, p.y);
    curve_right_side(right, p.x);
    memset(out, 0, sizeof *out);
    if (!(good & fe_mask_equal(left, right)))
        return AMI_BAD_CRYPTO;
    *out = p;
    return AMI_OK;
}

bool point_is_infinity(const point *p)
{
    return point_mask_infinity(p) != 0;
}

bool point_equal(const point *a, const point *b)
{
    return (fe_mask_equal(a->x, b->x) & fe_mask_equal(a->y, b->y)) != 0;
}

const point *point_generator(void)
{
    return &generator;
}

point point_add(const point *a, const point *b)
{
    jacobian ja = jacobian_from_point(a), jb = jacobian_from_point(b);
    point out;
    jacobian_add(&ja, &ja, &jb);
    jacobian_to_points(&out, &ja, 1);
    return out;
}

point point_negate(const point *a)
{
    point out;
    fe_copy(out.x, a->x);
    fe_negate(out.y, a->y);
    return out;
}

point point_mul_base(const scalar *k)
{
    point out;
    point_mul_base_batch(&out, k, 1);
    return out;
}

void point_mul_base_batch(point *out, const scalar *k, size_t count)
{
    jacobian t[SM2_BATCH];
    for (size_t done = 0; done < count; done += SM2_BATCH) {
        size_t size = count - done < SM2_BATCH ? count - done : SM2_BATCH;
        for (size_t i = 0; i < size; i++)
            jacobian_mul_base(&t[i], &k[done + i]);
        jacobian_to_points(out + done, t, size);
        secret_wipe(t, size * sizeof t[0]); /* a result's z tells of the way to it */
    }
}

point point_mul(const scalar *k, const point *p)
{
    point out;
    point_mul_batch(&out, k, p, 1);
    return out;
}

void point_mul_batch(point *out, const scalar *k, const point *p, size_t count)
{
    jacobian t[SM2_BATCH];
    for (size_t done = 0; done < count; done += SM2_BATCH) {
        size_t size = count - done < SM2_BATCH ? count - done : SM2_BATCH;
        for (size_t i = 0; i < size; i++) {
            jacobian q = jacobian_from_point(&p[done + i]);
            jacobian_mul(&t[i], &k[done + i], &q);
        }
        jacobian_to_points(out + done, t, size);
        secret_wipe(t, size * sizeof t[0]);
    }
}

point point_mul_add_public(const scalar *a, const scalar *b, const point *p)
{
    jacobian t;
    point out;
    jacobian_mul_add_public(&t, a, b, p);
    jacobian_to_points(&out, &t, 1);
    return out;
}

void point_mul_base_table_batch(point *out, const scalar *a, const scalar *b,
                                const struct point_table *table, size_t count)
{
    jacobian t[SM2_BATCH], u;
    for (size_t done = 0; done < count; done += SM2_BATCH) {
        size_t size = count - done < SM2_BATCH ? count - done : SM2_BATCH;
        for (size_t i = 0; i < size; i++) {
            /* Two sums, each free of exceptions, joined by a complete addition: nothing is
             * known of how the table's point relates to G. */
            jacobian_mul_base(&t[i], &a[done + i]);
            comb_mul(&u, &b[done + i], table);
            jacobian_add(&t[i], &t[i], &u);
        }
        jacobian_to_points(out + done, t, size);
        secret_wipe(t, size * sizeof t[0]);
    }
    secret_wipe(&u, sizeof u);
}

const char *sm2_path_name(void)
{
    return "portable";
}
