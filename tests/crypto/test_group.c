/* Scalars and points: random and edge values against libgcrypt's integers and OpenSSL's and
 * libgcrypt's points; encodings; batches of every awkward size. For the code path in use;
 * test_paths.c shows that the others give the same. */
#include "support.h"

#include "crypto/secret.h"

#include <gcrypt.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/obj_mac.h>
#include <stdlib.h>

static const char n_hex[] = "FFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123";
static const char p_hex[] = "FFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF00000000FFFFFFFFFFFFFFFF";

/* --- integers against libgcrypt --------------------------------------------------------------- */

static gcry_mpi_t mpi_of_limbs(const uint64_t w[4])
{
    uint8_t b[32];
    gcry_mpi_t m = NULL;
    for (int i = 0; i < 4; i++)
        store_be64(b + 24 - 8 * i, w[i]);
    assert_int_equal(gcry_mpi_scan(&m, GCRYMPI_FMT_USG, b, sizeof b, NULL), 0);
    return m;
}

static void limbs_of_mpi(uint64_t w[4], gcry_mpi_t m)
{
    uint8_t b[32] = {0}, raw[32];
    size_t size = 0;
    assert_int_equal(gcry_mpi_print(GCRYMPI_FMT_USG, raw, sizeof raw, &size, m), 0);
    memcpy(b + 32 - size, raw, size);
    for (int i = 0; i < 4; i++)
        w[i] = load_be64(b + 24 - 8 * i);
}

static gcry_mpi_t mpi_of_hex(const char *hex)
{
    gcry_mpi_t m = NULL;
    assert_int_equal(gcry_mpi_scan(&m, GCRYMPI_FMT_HEX, hex, 0, NULL), 0);
    return m;
}

/* Values where carries and reductions change their mind: near 0, near the modulus, limbs of all
 * ones and all zeros, single bits; then random ones. All reduced below the modulus. */
#define EDGE_COUNT 80
static void edge_values(uint64_t out[EDGE_COUNT][4], gcry_mpi_t modulus, uint64_t seed)
{
    struct seeded s = {seed};
    static const uint64_t limb[] = {0,
                                    1,
                                    2,
                                    0xffffffff,
                                    UINT64_C(0x100000000),
                                    UINT64_C(0xffffffff00000000),
                                    UINT64_C(0xfffffffeffffffff),
                                    UINT64_MAX - 1,
                                    UINT64_MAX};
    for (unsigned i = 0; i < EDGE_COUNT; i++) {
        uint64_t w[4];
        for (int j = 0; j < 4; j++)
            w[j] = i < 60 ? limb[seeded_u64(&s) % (sizeof limb / sizeof *limb)] : seeded_u64(&s);
        gcry_mpi_t m = mpi_of_limbs(w);
        if (i < 5)
            gcry_mpi_set_ui(m, i);
        else if (i < 10)
            gcry_mpi_sub_ui(m, modulus, i - 4);
        else if (i < 14)
            gcry_mpi_set_ui(m, 0), gcry_mpi_set_bit(m, 64 * (i - 10) + 63);
        gcry_mpi_mod(m, m, modulus);
        limbs_of_mpi(out[i], m);
        gcry_mpi_release(m);
    }
}

static void assert_limbs(const uint64_t got[4], gcry_mpi_t expected)
{
    uint64_t w[4];
    limbs_of_mpi(w, expected);
    assert_memory_equal(got, w, sizeof w);
}

static void scalars_agree_with_libgcrypt(void **state)
{
    (void)state;
    uint64_t value[EDGE_COUNT][4];
    gcry_mpi_t n = mpi_of_hex(n_hex), r = gcry_mpi_new(256);
    edge_values(value, n, 11);
    for (unsigned i = 0; i < EDGE_COUNT; i++) {
        scalar a, b, c;
        memcpy(a.w, value[i], 32);
        gcry_mpi_t x = mpi_of_limbs(value[i]);
        for (unsigned j = 0; j < EDGE_COUNT; j++) {
            gcry_mpi_t y = mpi_of_limbs(value[j]);
            memcpy(b.w, value[j], 32);
            gcry_mpi_addm(r, x, y, n);
            c = scalar_add(&a, &b);
            assert_limbs(c.w, r);
            gcry_mpi_subm(r, x, y, n);
            c = scalar_sub(&a, &b);
            assert_limbs(c.w, r);
            gcry_mpi_mulm(r, x, y, n);
            c = scalar_mul(&a, &b);
            assert_limbs(c.w, r);
            assert_int_equal(scalar_equal(&a, &b), gcry_mpi_cmp(x, y) == 0);
            gcry_mpi_release(y);
        }
        c = scalar_inverse(&a);
        assert_int_equal(scalar_is_zero(&a), gcry_mpi_cmp_ui(x, 0) == 0);
        if (scalar_is_zero(&a)) {
            assert_true(scalar_is_zero(&c));
        } else {
            gcry_mpi_invm(r, x, n);
            assert_limbs(c.w, r);
        }
        gcry_mpi_release(x);
    }
    gcry_mpi_release(n);
    gcry_mpi_release(r);
}

/* One inversion serves a whole batch; zeros among the others may not spoil it. */
static void inverses_in_batches(void **state)
{
    (void)state;
    struct seeded s = {12};
    scalar in[BATCH_MAX], out[BATCH_MAX], expected[BATCH_MAX];
    for (size_t i = 0; i < BATCH_SIZES; i++) {
        size_t count = batch_sizes[i];
        for (size_t j = 0; j < count; j++) {
            in[j] = seeded_below(&s, 4) == 0 ? scalar_of_small(0) : seeded_scalar(&s);
            expected[j] = scalar_inverse(&in[j]);
        }
        scalar_inverse_batch(out, in, count);
        assert_memory_equal(out, expected, count * sizeof *out);
        scalar_inverse_batch(in, in, count); /* in place */
        assert_memory_equal(in, expected, count * sizeof *in);
    }
    memset(in, 0, sizeof in);
    scalar_inverse_batch(out, in, BATCH_MAX);
    assert_memory_equal(out, in, sizeof in);
}

static void scalar_decode_accepts_1_to_n_minus_1_only(void **state)
{
    (void)state;
    static const struct {
        const char *hex;
        enum ami_status expected;
    } cases[] = {
        {"0000000000000000000000000000000000000000000000000000000000000000", AMI_BAD_CRYPTO},
        {"0000000000000000000000000000000000000000000000000000000000000001", AMI_OK},
        {"FFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54122", AMI_OK},
        {"FFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123", AMI_BAD_CRYPTO},
        {"FFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54124", AMI_BAD_CRYPTO},
        {"FFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052C0000000000000000", AMI_BAD_CRYPTO},
        {"FFFFFFFF00000000000000000000000000000000000000000000000000000000", AMI_BAD_CRYPTO},
        {"FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF", AMI_BAD_CRYPTO},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t in[32], out[32];
        scalar k;
        from_hex(in, sizeof in, cases[i].hex);
        assert_status(scalar_decode(&k, in), cases[i].expected);
        if (cases[i].expected != AMI_OK)
            continue;
        scalar_encode(out, &k);
        assert_memory_equal(in, out, sizeof in);
    }
}

static void wide_and_digest_reduction(void **state)
{
    (void)state;
    gcry_mpi_t n = mpi_of_hex(n_hex), m = NULL;
    struct seeded s = {13};
    for (int i = 0; i < 200; i++) {
        uint8_t wide[SM2_WIDE_BYTES];
        seeded_bytes(&s, wide, sizeof wide);
        if (i < 4)
            memset(wide, i % 2 ? 0xff : 0, i < 2 ? sizeof wide : 24);
        scalar k = scalar_from_wide(wide);
        assert_int_equal(gcry_mpi_scan(&m, GCRYMPI_FMT_USG, wide, sizeof wide, NULL), 0);
        gcry_mpi_mod(m, m, n);
        if (gcry_mpi_cmp_ui(m, 0) == 0) /* zero is replaced, see the header */
            gcry_mpi_set_ui(m, 1);
        assert_limbs(k.w, m);
        gcry_mpi_release(m);
        k = scalar_reduce(wide);
        assert_int_equal(gcry_mpi_scan(&m, GCRYMPI_FMT_USG, wide, 32, NULL), 0);
        gcry_mpi_mod(m, m, n);
        assert_limbs(k.w, m);
        gcry_mpi_release(m);
    }
    /* n itself, wide, is zero modulo n and so becomes one. */
    uint8_t wide[SM2_WIDE_BYTES] = {0};
    from_hex(wide + 16, 32, n_hex);
    scalar k = scalar_from_wide(wide), one = scalar_of_small(1);
    assert_true(scalar_equal(&k, &one));
    gcry_mpi_release(n);
}

/* --- products against OpenSSL and libgcrypt --------------------------------------------------- */

struct openssl {
    EC_GROUP *group;
    BN_CTX *ctx;
};

static int start_openssl(void **state)
{
    static struct openssl o;
    o.group = EC_GROUP_new_by_curve_name(NID_sm2);
    o.ctx = BN_CTX_new();
    *state = &o;
    return o.group != NULL && o.ctx != NULL ? 0 : -1;
}

static int end_openssl(void **state)
{
    struct openssl *o = *state;
    EC_GROUP_free(o->group);
    BN_CTX_free(o->ctx);
    return 0;
}

/* k G (p NULL) or k p by OpenSSL, compared with our result. */
static void assert_product(const struct openssl *o, const scalar *k, const point *p,
                           const point *ours)
{
    uint8_t kb[32], in[65] = {4}, out[65];
    scalar_encode(kb, k);
    BIGNUM *bk = BN_bin2bn(kb, 32, NULL);
    EC_POINT *r = EC_POINT_new(o->group), *q = EC_POINT_new(o->group);
    if (p != NULL) {
        point_xy(in + 1, p);
        assert_int_equal(EC_POINT_oct2point(o->group, q, in, sizeof in, o->ctx), 1);
        assert_int_equal(EC_POINT_mul(o->group, r, NULL, q, bk, o->ctx), 1);
    } else {
        assert_int_equal(EC_POINT_mul(o->group, r, bk, NULL, NULL, o->ctx), 1);
    }
    assert_int_equal(EC_POINT_is_at_infinity(o->group, r), point_is_infinity(ours));
    if (!point_is_infinity(ours)) {
        assert_int_equal(
            EC_POINT_point2oct(o->group, r, POINT_CONVERSION_UNCOMPRESSED, out, sizeof out, o->ctx),
            65);
        point_xy(in + 1, ours);
        assert_memory_equal(in + 1, out + 1, 64);
    }
    EC_POINT_free(r);
    EC_POINT_free(q);
    BN_free(bk);
}

/* The i-th edge scalar, false beyond the last: small ones, n minus small ones, powers of two and
 * their neighbours, and repeated windows of every digit, with both signs. */
static bool edge_scalar(scalar *out, unsigned i)
{
    const scalar zero = {{0}}, one = scalar_of_small(1);
    scalar k = zero;
    if (i < 40) {
        *out = scalar_of_small(i);
    } else if (i < 80) {
        k = scalar_of_small(i - 39);
        *out = scalar_sub(&zero, &k);
    } else if (i < 80 + 3 * 64) {
        unsigned bit = (i - 80) / 3 * 4 + 3;
        k.w[bit / 64] = UINT64_C(1) << bit % 64;
        *out = (i - 80) % 3 == 0   ? k
               : (i - 80) % 3 == 1 ? scalar_sub(&k, &one)
                                   : scalar_sub(&zero, &k);
    } else if (i < 80 + 3 * 64 + 32) {
        scalar shift = scalar_of_small(32), digit = scalar_of_small(i - 80 - 3 * 64);
        for (int j = 0; j < 51; j++) {
            k = scalar_mul(&k, &shift);
            k = scalar_add(&k, &digit);
        }
        *out = k;
    } else {
        return false;
    }
    return true;
}

static void edge_scalars_agree_with_openssl(void **state)
{
    const struct openssl *o = *state;
    struct seeded s = {14};
    point p = seeded_point(&s);
    scalar k;
    for (unsigned i = 0; edge_scalar(&k, i); i++) {
        point ours = point_mul_base(&k);
        assert_product(o, &k, NULL, &ours);
        ours = point_mul(&k, &p);
        assert_product(o, &k, &p, &ours);
    }
}

static void random_scalars_agree_with_openssl(void **state)
{
    const struct openssl *o = *state;
    struct seeded s = {15};
    point p = *point_generator();
    for (int i = 0; i < 60; i++) {
        scalar k = seeded_scalar(&s);
        point ours = point_mul_base(&k);
        assert_product(o, &k, NULL, &ours);
        ours = point_mul(&k, &p);
        assert_product(o, &k, &p, &ours);
        p = ours;
    }
}

static void products_agree_with_libgcrypt(void **state)
{
    (void)state;
    gcry_ctx_t ctx = NULL;
    struct seeded s = {16};
    assert_int_equal(gcry_mpi_ec_new(&ctx, NULL, "sm2p256v1"), 0);
    gcry_mpi_point_t g = gcry_mpi_ec_get_point("g", ctx, 1), r = gcry_mpi_point_new(0);
    gcry_mpi_t x = gcry_mpi_new(256), y = gcry_mpi_new(256);
    assert_non_null(g);
    for (int i = 0; i < 20; i++) {
        scalar k = seeded_scalar(&s);
        gcry_mpi_t m = mpi_of_limbs(k.w);
        point ours = point_mul_base(&k);
        gcry_mpi_ec_mul(r, m, g, ctx);
        assert_int_equal(gcry_mpi_ec_get_affine(x, y, r, ctx), 0);
        uint8_t xy[SM2_XY_BYTES];
        uint64_t w[4];
        point_xy(xy, &ours);
        limbs_of_mpi(w, x);
        for (int j = 0; j < 4; j++)
            assert_true(load_be64(xy + 24 - 8 * j) == w[j]);
        limbs_of_mpi(w, y);
        for (int j = 0; j < 4; j++)
            assert_true(load_be64(xy + 56 - 8 * j) == w[j]);
        gcry_mpi_release(m);
    }
    gcry_mpi_release(x);
    gcry_mpi_release(y);
    gcry_mpi_point_release(g);
    gcry_mpi_point_release(r);
    gcry_ctx_release(ctx);
}

/* --- what every product has to agree on with the others --------------------------------------- */

static void addition_is_complete(void **state)
{
    (void)state;
    struct seeded s = {17};
    point p = seeded_point(&s), q = seeded_point(&s), infinity = {{0}, {0}};
    point minus_p = point_negate(&p);
    scalar two = scalar_of_small(2);
    point sum = point_add(&p, &infinity);
    assert_point_equal(&sum, &p);
    sum = point_add(&infinity, &p);
    assert_point_equal(&sum, &p);
    sum = point_add(&infinity, &infinity);
    assert_true(point_is_infinity(&sum));
    sum = point_add(&p, &minus_p);
    assert_true(point_is_infinity(&sum));
    sum = point_negate(&infinity);
    assert_true(point_is_infinity(&sum));
    sum = point_add(&p, &p);
    point twice = point_mul(&two, &p);
    assert_point_equal(&sum, &twice);
    sum = point_add(&p, &q);
    point other = point_add(&q, &p);
    assert_point_equal(&sum, &other);
    sum = point_add(&sum, &minus_p);
    assert_point_equal(&sum, &q);
    assert_true(point_equal(&sum, &q));
    assert_false(point_equal(&p, &q));
    assert_false(point_equal(&p, &minus_p));
    assert_false(point_is_infinity(&p));
}

static void products_of_infinity_and_by_zero(void **state)
{
    (void)state;
    struct seeded s = {19};
    point infinity = {{0}, {0}}, p = seeded_point(&s);
    scalar zero = {{0}}, k = seeded_scalar(&s), one = scalar_of_small(1);
    scalar minus_six = scalar_of_small(6);
    minus_six = scalar_sub(&zero, &minus_six);
    const scalar *all[] = {&zero, &one, &k, &minus_six};
    for (int i = 0; i < 4; i++) {
        point r = point_mul(all[i], &infinity);
        assert_true(point_is_infinity(&r));
        point_mul_add_public_batch(&r, &infinity, all[i], &infinity, 1);
        assert_true(point_is_infinity(&r));
        point kg = point_mul_base(all[i]);
        point_mul_add_public_batch(&r, &kg, &k, &infinity, 1);
        assert_point_equal(&r, &kg);
        point_mul_add_public_batch(&r, &kg, &zero, &p, 1);
        assert_point_equal(&r, &kg);
    }
    point r = point_mul(&zero, &p);
    assert_true(point_is_infinity(&r));
    r = point_mul_base(&zero);
    assert_true(point_is_infinity(&r));
}

/* a G + b P by both ways against point_add of the single products, where P is related to G so that
 * doublings and cancellations happen inside. */
static void double_products_meet_every_relation(void **state)
{
    (void)state;
    struct seeded s = {20};
    const scalar zero = {{0}};
    scalar factor[6] = {scalar_of_small(1), scalar_of_small(2), scalar_of_small(127), zero,
                        seeded_scalar(&s),  scalar_of_small(32)};
    factor[3] = scalar_sub(&zero, &factor[0]);
    for (int f = 0; f < 6; f++) {
        point p = point_mul_base(&factor[f]);
        struct point_table *table = point_table_new(&p);
        assert_non_null(table);
        assert_ptr_not_equal(point_table_point(table), &p);
        assert_point_equal(point_table_point(table), &p);
        for (unsigned i = 0; i < 60; i++) {
            scalar a, b, fb;
            edge_scalar(&b, i * 5 % 304);
            fb = scalar_mul(&factor[f], &b);
            switch (i % 4) {
            case 0: /* a G = b P */
                a = fb;
                break;
            case 1: /* a G = -b P */
                a = scalar_sub(&zero, &fb);
                break;
            case 2:
                a = zero;
                break;
            default:
                a = seeded_scalar(&s);
            }
            point ag = point_mul_base(&a), bp = point_mul(&b, &p);
            point expected = point_add(&ag, &bp), got;
            point_mul_base_table_batch(&got, &a, &b, table, 1);
            assert_point_equal(&got, &expected);
            point_mul_add_public_batch(&got, &ag, &b, &p, 1);
            assert_point_equal(&got, &expected);
            if (i % 4 == 1)
                assert_true(point_is_infinity(&got));
        }
        point_table_free(table);
    }
    point_table_free(NULL);
}

static void batches_agree_with_single_calls(void **state)
{
    (void)state;
    struct seeded s = {21};
    scalar a[BATCH_MAX], b[BATCH_MAX];
    point p[BATCH_MAX], out[BATCH_MAX + 1], base[BATCH_MAX], product[BATCH_MAX];
    point both[BATCH_MAX], sum[BATCH_MAX];
    point fixed = seeded_point(&s);
    struct point_table *table = point_table_new(&fixed);
    assert_non_null(table);
    for (size_t i = 0; i < BATCH_MAX; i++) {
        a[i] = i % 5 == 3 ? scalar_of_small(0) : seeded_scalar(&s);
        b[i] = i % 10 == 8 ? scalar_of_small(0) : seeded_scalar(&s);
        p[i] = i % 11 == 6 ? (point){{0}, {0}} : seeded_point(&s);
        base[i] = point_mul_base(&a[i]);
        product[i] = point_mul(&a[i], &p[i]);
        point t = point_mul(&b[i], &fixed);
        both[i] = point_add(&base[i], &t);
        t = point_mul(&b[i], &p[i]);
        sum[i] = point_add(&base[i], &t);
    }
    for (size_t i = 0; i < BATCH_SIZES; i++) {
        size_t count = batch_sizes[i];
        point guard;
        memset(&guard, 0xa5, sizeof guard);
        out[count] = guard;
        point_mul_base_batch(out, a, count);
        assert_memory_equal(out, base, count * sizeof *out);
        point_mul_batch(out, a, p, count);
        assert_memory_equal(out, product, count * sizeof *out);
        point_mul_base_table_batch(out, a, b, table, count);
        assert_memory_equal(out, both, count * sizeof *out);
        point_mul_add_public_batch(out, base, b, p, count);
        assert_memory_equal(out, sum, count * sizeof *out);
        assert_memory_equal(&out[count], &guard, sizeof guard);
    }
    point_mul_base_batch(out, a, 0);
    point_table_free(table);
}

/* --- encodings -------------------------------------------------------------------------------- */

/* The limbs of a point are its coordinates, least significant first. */
static void points_are_plain_integers(void **state)
{
    static const point g = {{UINT64_C(0x715a4589334c74c7), UINT64_C(0x8fe30bbff2660be1),
                             UINT64_C(0x5f9904466a39c994), UINT64_C(0x32c4ae2c1f198119)},
                            {UINT64_C(0x02df32e52139f0a0), UINT64_C(0xd0a9877cc62a4740),
                             UINT64_C(0x59bdcee36b692153), UINT64_C(0xbc3736a2f4f6779c)}};
    (void)state;
    struct seeded s = {25};
    scalar one = scalar_of_small(1);
    point p = point_mul_base(&one);
    assert_point_equal(&p, &g);
    assert_point_equal(point_generator(), &g);
    gcry_mpi_t modulus = mpi_of_hex(p_hex), y = gcry_mpi_new(256);
    for (int i = 0; i < 20; i++) {
        uint8_t xy[SM2_XY_BYTES];
        p = seeded_point(&s);
        point minus = point_negate(&p);
        point_xy(xy, &p);
        for (int j = 0; j < 4; j++) {
            assert_true(load_be64(xy + 24 - 8 * j) == p.x[j]);
            assert_true(load_be64(xy + 56 - 8 * j) == p.y[j]);
        }
        gcry_mpi_t own = mpi_of_limbs(p.y);
        gcry_mpi_sub(y, modulus, own);
        assert_limbs(minus.y, y);
        assert_memory_equal(minus.x, p.x, sizeof p.x);
        gcry_mpi_release(own);
    }
    gcry_mpi_release(modulus);
    gcry_mpi_release(y);
}

static void encodings_round_trip(void **state)
{
    (void)state;
    struct seeded s = {22};
    for (int i = 0; i < 40; i++) {
        point p = seeded_point(&s), q, minus;
        uint8_t xy[SM2_XY_BYTES];
        point_bytes e = point_encode(&p);
        assert_ok(point_decode(&q, &e));
        assert_point_equal(&p, &q);
        point_xy(xy, &p);
        assert_int_equal(e.b[0], 2 | (xy[63] & 1));
        assert_memory_equal(e.b + 1, xy, 32);
        assert_ok(point_from_xy(&q, xy));
        assert_point_equal(&p, &q);
        e.b[0] ^= 1; /* the other parity is the negative */
        assert_ok(point_decode(&q, &e));
        minus = point_negate(&p);
        assert_point_equal(&q, &minus);
    }
}

static void bad_points_are_refused(void **state)
{
    (void)state;
    struct seeded s = {23};
    point p = seeded_point(&s), q;
    point_bytes good = point_encode(&p), e;
    for (int prefix = 0; prefix < 256; prefix++) {
        e = good;
        e.b[0] = (uint8_t)prefix;
        assert_status(point_decode(&q, &e), prefix == 2 || prefix == 3 ? AMI_OK : AMI_BAD_CRYPTO);
    }
    /* x = p, p + 1, ..., all ones: too large, whatever they are modulo p. */
    for (uint32_t i = 0; i < 300; i++) {
        e.b[0] = 2;
        from_hex(e.b + 1, 32, p_hex);
        store_be64(e.b + 25, UINT64_C(0xffffffffffffffff) + i);
        if (i > 0) /* the carry of the addition */
            store_be64(e.b + 17, UINT64_C(0xffffffff00000001));
        assert_status(point_decode(&q, &e), AMI_BAD_CRYPTO);
    }
    memset(e.b + 1, 0xff, 32);
    assert_status(point_decode(&q, &e), AMI_BAD_CRYPTO);
    /* About half of all x are on the curve: each answer checked against the equation. */
    int on = 0;
    for (int i = 0; i < 200; i++) {
        seeded_bytes(&s, e.b + 1, 32);
        e.b[1] &= 0x7f;
        if (point_decode(&q, &e) == AMI_OK) {
            uint8_t xy[SM2_XY_BYTES];
            point r;
            point_xy(xy, &q);
            assert_ok(point_from_xy(&r, xy));
            on++;
        }
    }
    assert_in_range(on, 60, 140);

    uint8_t xy[SM2_XY_BYTES], zero[SM2_XY_BYTES] = {0};
    assert_status(point_from_xy(&q, zero), AMI_BAD_CRYPTO);
    for (size_t i = 0; i < SM2_XY_BYTES; i++) {
        point_xy(xy, &p);
        xy[i] ^= (uint8_t)(1 << i % 8);
        assert_status(point_from_xy(&q, xy), AMI_BAD_CRYPTO);
    }
    point_xy(xy, &p);
    memset(xy, 0xff, 32);
    assert_status(point_from_xy(&q, xy), AMI_BAD_CRYPTO);
    point_xy(xy, &p);
    memset(xy + 32, 0xff, 32);
    assert_status(point_from_xy(&q, xy), AMI_BAD_CRYPTO);
}

static void decode_batch_tells_each_result(void **state)
{
    (void)state;
    struct seeded s = {24};
    point p[BATCH_MAX], out[BATCH_MAX];
    point_bytes e[BATCH_MAX];
    bool ok[BATCH_MAX];
    for (size_t i = 0; i < BATCH_MAX; i++) {
        p[i] = seeded_point(&s);
        e[i] = point_encode(&p[i]);
    }
    for (size_t i = 0; i < BATCH_SIZES; i++) {
        size_t count = batch_sizes[i], bad = count / 2;
        assert_ok(point_decode_batch(out, ok, e, count));
        assert_memory_equal(out, p, count * sizeof *out);
        e[bad].b[0] = 4;
        assert_status(point_decode_batch(out, ok, e, count), AMI_BAD_CRYPTO);
        e[bad] = point_encode(&p[bad]);
        for (size_t j = 0; j < count; j++) {
            assert_int_equal(ok[j], j != bad);
            if (j != bad)
                assert_point_equal(&out[j], &p[j]);
        }
    }
}

/* --- hash to curve ---------------------------------------------------------------------------- */

/* The numbers themselves are checked by oracle.py. */
static void hash_to_curve_binds_text_and_tag(void **state)
{
    (void)state;
    struct span text[] = {SPAN_LITERAL("me"), SPAN_LITERAL("ter")}, whole = SPAN_LITERAL("meter");
    point a = point_hash_to_curve(text, 2, SPAN_LITERAL("TAG"));
    point b = point_hash_to_curve(&whole, 1, SPAN_LITERAL("TAG"));
    point c = point_hash_to_curve(&whole, 1, SPAN_LITERAL("TAH"));
    point d = point_hash_to_curve(&whole, 0, SPAN_LITERAL("TAG"));
    assert_point_equal(&a, &b);
    assert_false(point_equal(&b, &c));
    assert_false(point_equal(&b, &d));
    uint8_t xy[SM2_XY_BYTES], long_tag[255];
    memset(long_tag, 'x', sizeof long_tag);
    point e = point_hash_to_curve(&whole, 1, span_of(long_tag, sizeof long_tag));
    point_xy(xy, &e);
    assert_ok(point_from_xy(&c, xy));
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalars_agree_with_libgcrypt),
        cmocka_unit_test(inverses_in_batches),
        cmocka_unit_test(scalar_decode_accepts_1_to_n_minus_1_only),
        cmocka_unit_test(wide_and_digest_reduction),
        cmocka_unit_test(edge_scalars_agree_with_openssl),
        cmocka_unit_test(random_scalars_agree_with_openssl),
        cmocka_unit_test(products_agree_with_libgcrypt),
        cmocka_unit_test(addition_is_complete),
        cmocka_unit_test(products_of_infinity_and_by_zero),
        cmocka_unit_test(double_products_meet_every_relation),
        cmocka_unit_test(batches_agree_with_single_calls),
        cmocka_unit_test(points_are_plain_integers),
        cmocka_unit_test(encodings_round_trip),
        cmocka_unit_test(bad_points_are_refused),
        cmocka_unit_test(decode_batch_tells_each_result),
        cmocka_unit_test(hash_to_curve_binds_text_and_tag),
    };
    return cmocka_run_group_tests(tests, start_openssl, end_openssl);
}
