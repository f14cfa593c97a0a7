/* The field of one scalar path against libgcrypt's integers: built as the portable path has it on
 * this processor, as plain C (AMI_CRYPTO_NO_ASM), and as the adx path has it (AMI_SM2_ADX). Values
 * lie where carries and reductions change their mind; for the lazy limbs of the C field, at the
 * bounds that its header states. */
#include "field_support.h"

#include "crypto/sm2_fe.h"

#if FE_LIMBS == 4
#define LIMB_BITS 64
#define R_BITS    256
#else
#define LIMB_BITS 52
#define R_BITS    260
#endif

/* The sum of the limbs, whatever their sign, modulo p. */
static gcry_mpi_t value_of(const fe *a)
{
    gcry_mpi_t v = gcry_mpi_new(320), limb = gcry_mpi_new(64);
    gcry_mpi_set_ui(v, 0);
    for (int i = FE_LIMBS - 1; i >= 0; i--) {
        gcry_mpi_mul_2exp(v, v, LIMB_BITS);
#if FE_LIMBS == 4
        gcry_mpi_set_ui(limb, a->l[i]);
        gcry_mpi_add(v, v, limb);
#else
        const int64_t l = a->l[i];
        gcry_mpi_set_ui(limb, l < 0 ? (unsigned long)-l : (unsigned long)l);
        if (l < 0)
            gcry_mpi_sub(v, v, limb);
        else
            gcry_mpi_add(v, v, limb);
#endif
    }
    gcry_mpi_mod(v, v, field_p);
    gcry_mpi_release(limb);
    return v;
}

static void assert_value(const fe *a, gcry_mpi_t expected)
{
    gcry_mpi_t got = value_of(a);
    assert_int_equal(gcry_mpi_cmp(got, expected), 0);
    gcry_mpi_release(got);
    /* The packed form is the one integer below p. */
    uint64_t w[4];
    uint8_t b[32];
    gcry_mpi_t packed = NULL;
    fe_pack(w, a);
    for (int i = 0; i < 4; i++)
        store_be64(b + 24 - 8 * i, w[i]);
    assert_int_equal(gcry_mpi_scan(&packed, GCRYMPI_FMT_USG, b, sizeof b, NULL), 0);
    assert_int_equal(gcry_mpi_cmp(packed, expected), 0);
    gcry_mpi_release(packed);
}

#define VALUES 120

#if FE_LIMBS == 4
/* Fully reduced: limbs of all ones and zeros, single bits, next to 0 and p, random ones. */
static void values(fe out[VALUES])
{
    static const uint64_t limb[] = {0,
                                    1,
                                    0xffffffff,
                                    UINT64_C(0x100000000),
                                    UINT64_C(0xffffffff00000000),
                                    UINT64_MAX - 1,
                                    UINT64_MAX};
    static const fe p_limbs = {{UINT64_MAX, FE_P1, UINT64_MAX, FE_P3}};
    struct seeded s = {21};
    for (unsigned i = 0; i < VALUES;) {
        fe a;
        for (int j = 0; j < 4; j++)
            a.l[j] = i < 80 ? limb[seeded_u64(&s) % (sizeof limb / sizeof *limb)] : seeded_u64(&s);
        if (i < 6)
            a = (fe){{i, 0, 0, 0}};
        else if (i < 12)
            a = (fe){{UINT64_MAX - 1 - (i - 6), FE_P1, UINT64_MAX, FE_P3}};
        uint64_t ignored[4];
        if (limbs_subtract(ignored, a.l, p_limbs.l) == 1)
            out[i++] = a;
    }
}
#else
/* Lazy: each limb at its bounds, at 52 bits' borders, at zero, of either sign; then random ones.
 * The top limb keeps the value within 16 p. */
static void values(fe out[VALUES])
{
    static const int64_t limb[] = {0,
                                   1,
                                   -1,
                                   FE_LIMB_MASK,
                                   FE_LIMB_MASK + 1,
                                   -FE_LIMB_MASK,
                                   INT64_C(1) << 56,
                                   -(INT64_C(1) << 56),
                                   (INT64_C(1) << 56) - 1};
    static const int64_t top[] = {0,
                                  1,
                                  -1,
                                  (INT64_C(1) << 48) - 1,
                                  -(INT64_C(1) << 48),
                                  (INT64_C(1) << 52) - 32,
                                  -(INT64_C(1) << 52) + 32};
    struct seeded s = {22};
    for (unsigned i = 0; i < VALUES; i++) {
        for (int j = 0; j < 4; j++)
            out[i].l[j] = i < 90 ? limb[seeded_u64(&s) % (sizeof limb / sizeof *limb)]
                                 : (int64_t)(seeded_u64(&s) >> 7) - (INT64_C(1) << 56);
        out[i].l[4] = i < 90 ? top[seeded_u64(&s) % (sizeof top / sizeof *top)]
                             : (int64_t)(seeded_u64(&s) >> 11) - (INT64_C(1) << 52);
        if (i < 6)
            out[i] = (fe){{(int64_t)i, 0, 0, 0, 0}};
        else if (i < 12) { /* p and its neighbours, and their negatives */
            out[i] = (fe){{FE_LIMB_MASK - 2 + (int64_t)(i % 6), INT64_C(0xff00000000fff),
                           FE_LIMB_MASK, FE_LIMB_MASK, INT64_C(0xfffffffeffff)}};
            if (i % 2 == 1)
                fe_negate(&out[i], &out[i]);
        }
    }
}
#endif

static void products_and_sums(void **state)
{
    (void)state;
    fe a[VALUES], c;
    gcry_mpi_t want = gcry_mpi_new(320);
    values(a);
    for (unsigned i = 0; i < VALUES; i++) {
        gcry_mpi_t x = value_of(&a[i]);
        assert_value(&a[i], x);
        for (unsigned j = 0; j < VALUES; j++) {
            gcry_mpi_t y = value_of(&a[j]);
            fe_mul(&c, &a[i], &a[j]);
            gcry_mpi_mulm(want, x, y, field_p);
            gcry_mpi_mulm(want, want, r_inverse, field_p);
            assert_value(&c, want);
            fe_add(&c, &a[i], &a[j]);
            gcry_mpi_addm(want, x, y, field_p);
            assert_value(&c, want);
            fe_weak(&c);
            assert_value(&c, want);
            fe_sub(&c, &a[i], &a[j]);
            gcry_mpi_subm(want, x, y, field_p);
            assert_value(&c, want);
            gcry_mpi_release(y);
        }
        fe_sqr(&c, &a[i]);
        gcry_mpi_mulm(want, x, x, field_p);
        gcry_mpi_mulm(want, want, r_inverse, field_p);
        assert_value(&c, want);
        fe_negate(&c, &a[i]);
        gcry_mpi_subm(want, field_p, x, field_p);
        assert_value(&c, want);
        assert_int_equal(fe_mask_zero(&a[i]) != 0, gcry_mpi_cmp_ui(x, 0) == 0);
        gcry_mpi_release(x);
    }
    gcry_mpi_release(want);
}

/* Chains of what the formulas do, so that the bounds of one result meet the next operation. */
static void long_chains(void **state)
{
    (void)state;
    struct seeded s = {23};
    fe a[VALUES], x, y, t;
    values(a);
    for (unsigned i = 0; i < VALUES; i++) {
        fe_sqr(&x, &a[i]); /* from here on the limbs are what formulas leave */
        fe_sqr(&y, &a[VALUES - 1 - i]);
        fe_weak(&x);
        fe_weak(&y);
        gcry_mpi_t mx = value_of(&x), my = value_of(&y), mt = gcry_mpi_new(320);
        for (int step = 0; step < 200; step++) {
            switch (seeded_u64(&s) % 4) {
            case 0:
                fe_mul(&x, &x, &y);
                gcry_mpi_mulm(mx, mx, my, field_p);
                gcry_mpi_mulm(mx, mx, r_inverse, field_p);
                break;
            case 1:
                fe_sqr(&y, &y);
                gcry_mpi_mulm(my, my, my, field_p);
                gcry_mpi_mulm(my, my, r_inverse, field_p);
                break;
            case 2:
                fe_sub(&t, &x, &y);
                fe_double(&t, &t);
                fe_add(&x, &t, &y);
                fe_weak(&x);
                gcry_mpi_subm(mt, mx, my, field_p);
                gcry_mpi_addm(mt, mt, mt, field_p);
                gcry_mpi_addm(mx, mt, my, field_p);
                break;
            default:
                fe_sub(&y, &y, &x);
                fe_weak(&y);
                gcry_mpi_subm(my, my, mx, field_p);
            }
            if (step % 3 == 0) { /* every formula ends in products, which carry the limbs */
                fe_sqr(&x, &x);
                gcry_mpi_mulm(mx, mx, mx, field_p);
                gcry_mpi_mulm(mx, mx, r_inverse, field_p);
                fe_sqr(&y, &y);
                gcry_mpi_mulm(my, my, my, field_p);
                gcry_mpi_mulm(my, my, r_inverse, field_p);
            }
            assert_value(&x, mx);
            assert_value(&y, my);
        }
        gcry_mpi_release(mx);
        gcry_mpi_release(my);
        gcry_mpi_release(mt);
    }
}

static void roots_and_inverses(void **state)
{
    (void)state;
    fe a[VALUES], c, d;
    values(a);
    for (unsigned i = 0; i < VALUES; i++) {
        const bool zero = fe_mask_zero(&a[i]) != 0;
        fe_mul(&a[i], &a[i], &fe_one); /* the same value, as a product leaves it */
        fe_sqr(&c, &a[i]);
        assert_true(fe_root(&d, &c) != 0);
        fe_sqr(&d, &d);
        assert_true(fe_mask_equal(&c, &d) != 0);
        fe_negate(&d, &c); /* -1 is no square, so neither is the negative of one, 0 apart */
        fe root;
        assert_int_equal(fe_root(&root, &d) != 0, zero);
        fe_inverse(&c, &a[i]);
        fe_mul(&d, &c, &a[i]);
        if (zero)
            assert_true(fe_mask_zero(&c) != 0);
        else
            assert_true(fe_mask_equal(&d, &fe_one) != 0);
        uint64_t plain[4];
        fe_to_plain(plain, &a[i]);
        fe_from_plain(&c, plain);
        assert_true(fe_mask_equal(&c, &a[i]) != 0);
    }
}

/* inverse_mod_p and inverse_mod_n at the edges of 62-bit limbs and next to 0 and the modulus. */
static void inverses_of_integers(void **state)
{
    (void)state;
    static const char *const modulus[] = {
        "FFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF00000000FFFFFFFFFFFFFFFF",
        "FFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123"};
    struct seeded s = {24};
    for (int m = 0; m < 2; m++) {
        gcry_mpi_t n = NULL, x = NULL, want = gcry_mpi_new(256), got = NULL;
        assert_int_equal(gcry_mpi_scan(&n, GCRYMPI_FMT_HEX, modulus[m], 0, NULL), 0);
        for (unsigned i = 0; i < 2000; i++) {
            uint8_t b[32], out[32];
            uint64_t w[4];
            seeded_bytes(&s, b, sizeof b);
            if (i < 256) {
                memset(b, 0, sizeof b);
                b[31 - i / 8] = (uint8_t)(1u << i % 8);
            } else if (i < 512) {
                memset(b, i % 2 ? 0xff : 0, (i - 256) / 8);
            }
            assert_int_equal(gcry_mpi_scan(&x, GCRYMPI_FMT_USG, b, sizeof b, NULL), 0);
            gcry_mpi_mod(x, x, n);
            if (i >= 512 && i < 520)
                gcry_mpi_sub_ui(x, n, i - 511);
            size_t size;
            memset(b, 0, sizeof b);
            assert_int_equal(gcry_mpi_print(GCRYMPI_FMT_USG, out, sizeof out, &size, x), 0);
            memcpy(b + 32 - size, out, size);
            for (int j = 0; j < 4; j++)
                w[j] = load_be64(b + 24 - 8 * j);
            if (m == 0)
                inverse_mod_p(w, w);
            else
                inverse_mod_n(w, w);
            for (int j = 0; j < 4; j++)
                store_be64(out + 24 - 8 * j, w[j]);
            assert_int_equal(gcry_mpi_scan(&got, GCRYMPI_FMT_USG, out, sizeof out, NULL), 0);
            if (gcry_mpi_cmp_ui(x, 0) == 0)
                gcry_mpi_set_ui(want, 0);
            else
                gcry_mpi_invm(want, x, n);
            assert_int_equal(gcry_mpi_cmp(got, want), 0);
            gcry_mpi_release(x);
            gcry_mpi_release(got);
            x = got = NULL;
        }
        gcry_mpi_release(n);
        gcry_mpi_release(want);
    }
}

static int start(void **state)
{
    (void)state;
    return field_start(R_BITS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_and_sums),
        cmocka_unit_test(long_chains),
        cmocka_unit_test(roots_and_inverses),
        cmocka_unit_test(inverses_of_integers),
    };
    return cmocka_run_group_tests(tests, start, field_end);
}
