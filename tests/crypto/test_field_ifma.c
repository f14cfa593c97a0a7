/* The eight-lane field against libgcrypt's integers: limbs at the bounds that sm2_fe_ifma.h states,
 * every lane with values of its own. */
#include "field_support.h"

#include "crypto/sm2_fe_ifma.h"

#define LANES 8
#define MASK  FE8_LIMB_MASK

static int64_t limb_of(const fe8 *a, int limb, int lane)
{
    int64_t l[LANES];
    memcpy(l, &a->l[limb], sizeof l);
    return l[lane];
}

/* The integer itself, which may be negative. */
static gcry_mpi_t integer_of(const fe8 *a, int lane)
{
    gcry_mpi_t v = gcry_mpi_new(330), limb = gcry_mpi_new(64);
    gcry_mpi_set_ui(v, 0);
    for (int i = 4; i >= 0; i--) {
        const int64_t l = limb_of(a, i, lane);
        gcry_mpi_mul_2exp(v, v, 52);
        gcry_mpi_set_ui(limb, l < 0 ? (unsigned long)-l : (unsigned long)l);
        if (l < 0)
            gcry_mpi_sub(v, v, limb);
        else
            gcry_mpi_add(v, v, limb);
    }
    gcry_mpi_release(limb);
    return v;
}

static gcry_mpi_t value_of(const fe8 *a, int lane)
{
    gcry_mpi_t v = integer_of(a, lane);
    gcry_mpi_mod(v, v, field_p);
    return v;
}

/* The value, limbs of 52 bits, and the integer below `hundredths` of p. */
static void assert_lane(const fe8 *a, int lane, gcry_mpi_t expected, unsigned hundredths)
{
    gcry_mpi_t got = value_of(a, lane), v = integer_of(a, lane), bound = gcry_mpi_new(330);
    assert_int_equal(gcry_mpi_cmp(got, expected), 0);
    for (int i = 0; i < 4; i++)
        assert_in_range(limb_of(a, i, lane), 0, MASK);
    assert_true(limb_of(a, 4, lane) >= 0); /* and bounded by the value */
    gcry_mpi_mul_ui(v, v, 100);
    gcry_mpi_mul_ui(bound, field_p, hundredths);
    assert_true(gcry_mpi_cmp(v, bound) < 0);
    gcry_mpi_release(got);
    gcry_mpi_release(v);
    gcry_mpi_release(bound);
}

/* Operands of products: any limbs of 52 bits, up to all ones (16 p). */
static fe8 operand(struct seeded *s)
{
    static const int64_t limb[] = {
        0, 1, MASK, MASK - 1, INT64_C(1) << 51, INT64_C(0xff00000000fff), INT64_C(0xfffffffeffff)};
    int64_t l[5][LANES];
    fe8 out;
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < LANES; j++)
            l[i][j] = seeded_u64(s) % 3 == 0 ? (int64_t)(seeded_u64(s) >> 12)
                                             : limb[seeded_u64(s) % (sizeof limb / sizeof *limb)];
    /* Values that a comparison with zero has to know: 0, p, 2 p, and next to them. */
    for (int j = 0; j < LANES && seeded_u64(s) % 4 == 0; j++)
        for (int i = 0; i < 5; i++)
            l[i][j] = (j % 3 == 0 ? 0 : j % 3 == 1 ? fe8_p[i] : fe8_2p[i]) + (i == 4 && j > 5);
    for (int i = 0; i < 5; i++)
        out.l[i] = _mm512_loadu_si512(l[i]);
    return out;
}

/* Raw sums before fe8_norm: limbs of any sign, at most 2^58 in size. */
static fe8 raw(struct seeded *s)
{
    static const int64_t limb[] = {0, 1, -1, MASK, -MASK, INT64_C(1) << 58, -(INT64_C(1) << 58)};
    int64_t l[5][LANES];
    fe8 out;
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < LANES; j++)
            l[i][j] = seeded_u64(s) % 2 ? limb[seeded_u64(s) % (sizeof limb / sizeof *limb)]
                                        : (int64_t)(seeded_u64(s) >> 5) - (INT64_C(1) << 58);
    /* The value of a sum of a few elements: within 64 p. */
    for (int j = 0; j < LANES; j++)
        l[4][j] = (int64_t)(seeded_u64(s) >> 9) - (INT64_C(1) << 54);
    for (int i = 0; i < 5; i++)
        out.l[i] = _mm512_loadu_si512(l[i]);
    return out;
}

#define ROUNDS 3000

static void products(void **state)
{
    (void)state;
    struct seeded s = {31};
    gcry_mpi_t want = gcry_mpi_new(330), other = gcry_mpi_new(330);
    for (int round = 0; round < ROUNDS; round++) {
        const fe8 a = operand(&s), b = operand(&s), c = operand(&s), d = operand(&s);
        fe8 ab, aa, sum;
        fe8_mul(&ab, &a, &b);
        fe8_sqr(&aa, &a);
        fe8_mul_add_mul(&sum, &a, &b, &c, &d);
        for (int lane = 0; lane < LANES; lane++) {
            gcry_mpi_t ma = value_of(&a, lane), mb = value_of(&b, lane), mc = value_of(&c, lane),
                       md = value_of(&d, lane);
            gcry_mpi_mulm(want, ma, mb, field_p);
            gcry_mpi_mulm(want, want, r_inverse, field_p);
            /* 16.01 p squared over 16 p, and one */
            assert_lane(&ab, lane, want, 1702);
            gcry_mpi_mulm(other, ma, ma, field_p);
            gcry_mpi_mulm(other, other, r_inverse, field_p);
            assert_lane(&aa, lane, other, 1702);
            gcry_mpi_mulm(other, mc, md, field_p);
            gcry_mpi_mulm(other, other, r_inverse, field_p);
            gcry_mpi_addm(want, want, other, field_p);
            gcry_mpi_t got = value_of(&sum, lane);
            assert_int_equal(gcry_mpi_cmp(got, want), 0);
            gcry_mpi_release(got);
            gcry_mpi_release(ma);
            gcry_mpi_release(mb);
            gcry_mpi_release(mc);
            gcry_mpi_release(md);
        }
    }
    gcry_mpi_release(want);
    gcry_mpi_release(other);
}

static void norm_and_what_builds_on_it(void **state)
{
    (void)state;
    struct seeded s = {32};
    gcry_mpi_t want = gcry_mpi_new(330);
    for (int round = 0; round < ROUNDS; round++) {
        const fe8 a = raw(&s), x = operand(&s);
        fe8 normed = a, xn = x, product;
        fe8_norm(&normed);
        fe8_norm(&xn);
        const __mmask8 zero = fe8_mask_zero(&x);
        fe8_mul(&product, &normed, &xn);
        __m512i w[4];
        uint64_t words[4][LANES];
        fe8_pack(w, &product);
        for (int i = 0; i < 4; i++)
            memcpy(words[i], &w[i], sizeof words[i]);
        for (int lane = 0; lane < LANES; lane++) {
            gcry_mpi_t ma = value_of(&a, lane), mx = value_of(&x, lane), packed = NULL;
            assert_lane(&normed, lane, ma, 201);
            assert_lane(&xn, lane, mx, 201);
            assert_int_equal(zero >> lane & 1, gcry_mpi_cmp_ui(mx, 0) == 0);
            gcry_mpi_mulm(want, ma, mx, field_p);
            gcry_mpi_mulm(want, want, r_inverse, field_p);
            assert_lane(&product, lane, want, 126);
            uint8_t b[32];
            for (int i = 0; i < 4; i++)
                store_be64(b + 24 - 8 * i, words[i][lane]);
            assert_int_equal(gcry_mpi_scan(&packed, GCRYMPI_FMT_USG, b, sizeof b, NULL), 0);
            assert_int_equal(gcry_mpi_cmp(packed, want), 0);
            gcry_mpi_release(packed);
            gcry_mpi_release(ma);
            gcry_mpi_release(mx);
        }
    }
    gcry_mpi_release(want);
}

/* Four 64-bit words to limbs, as they are and times 16; and the transposition. */
static void forms(void **state)
{
    (void)state;
    struct seeded s = {33};
    uint64_t in[8][LANES], out[8][LANES];
    __m512i w[8];
    fe8 a, b;
    seeded_bytes(&s, in, sizeof in);
    for (int i = 0; i < 8; i++)
        w[i] = _mm512_loadu_si512(in[i]);
    fe8_unpack(&a, w);
    fe8_unpack_256(&b, w);
    for (int lane = 0; lane < LANES; lane++) {
        uint8_t bytes[32];
        gcry_mpi_t want = NULL, got = integer_of(&a, lane);
        for (int i = 0; i < 4; i++)
            store_be64(bytes + 24 - 8 * i, in[i][lane]);
        assert_int_equal(gcry_mpi_scan(&want, GCRYMPI_FMT_USG, bytes, sizeof bytes, NULL), 0);
        assert_int_equal(gcry_mpi_cmp(got, want), 0);
        gcry_mpi_release(got);
        got = integer_of(&b, lane);
        gcry_mpi_mul_2exp(want, want, 4);
        assert_int_equal(gcry_mpi_cmp(got, want), 0);
        gcry_mpi_release(got);
        gcry_mpi_release(want);
    }
    fe8_transpose(w);
    for (int i = 0; i < 8; i++)
        memcpy(out[i], &w[i], sizeof out[i]);
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < 8; j++)
            assert_true(out[i][j] == in[j][i]);
}

static int start(void **state)
{
    (void)state;
    return field_start(260);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products),
        cmocka_unit_test(norm_and_what_builds_on_it),
        cmocka_unit_test(forms),
    };
    return cmocka_run_group_tests(tests, start, field_end);
}
