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
#include "crypto/sm2_lanes.h"

#include <stdlib.h>
#include <string.h>

/* Secret scalars, as in sm2_path_single.c. */
#define FIXED_W       6
#define FIXED_ROWS    42
#define FIXED_ENTRIES 32
#define W             5
#define ROWS          51
#define ENTRIES       16
#define PACKED        8

/* Limb by limb, so that one permutation looks a limb up for eight different digits: word[i][j][k]
 * is word j (x, then y) of entry k of row i. Row FIXED_ROWS has the top digits' eight entries. */
struct lane_table {
    struct point_table head;
    _Alignas(64) uint64_t word[FIXED_ROWS + 1][PACKED][FIXED_ENTRIES];
};

static struct lane_table *base_table;
static const struct known_table *base_known; /* the adx path's */

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
    secret_wipe(&k, sizeof k);
}

#define SPREAD_ROWS ((FIXED_ROWS + LANES) / LANES)
/* Lanes of the last row that have a window. */
#define SPREAD_LAST ((__mmask8)((1u << (FIXED_ROWS + 1 - (SPREAD_ROWS - 1) * LANES)) - 1))

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
    base_known = sm2_path_adx_base_known();
    return base_table != NULL;
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

/* a^((p + 1) / 4); see fe_pow_p34 of sm2_fe.h. */
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
    .sum_is = sm2_sum_ifma,
    .known_fill = known_fill,
    .on_curve = on_curve,
    .add = add,
    .mul2_complete = mul2_complete,
    .sum_count_min = 64,
};
