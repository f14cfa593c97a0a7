/* Verification of SM2 signatures on every code path: alone, in batches of every size, with signers
 * that are remembered or not. What is right is decided by OpenSSL's group arithmetic.
 *
 * From 64 on a batch is checked as one random linear combination, which needs each signature's
 * point R; only its x is in the signature, and only modulo n. So the signatures here vary what that
 * leaves open (the parity of y, x beyond n), and wrong ones are placed so that a combination with
 * careless factors would not see them. A triple is a public key, a digest and a signature.
 */
#include "openssl_group.h"
#include "paths.h"

#include <stdlib.h>

struct triple {
    point p;
    sm3_digest e;
    sm2_signature sig;
    bool good;
};

static const scalar zero = {{0}}, one = {{1}};
static const point infinity = {{0}, {0}};
static struct seeded seed = {51};
static struct openssl_group openssl;

static const char n_hex[] = "FFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123";
static const char n_plus_1_hex[] =
    "FFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54124";
static const char ones_hex[] = "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF";
static const char p_minus_1_hex[] =
    "FFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF00000000FFFFFFFFFFFFFFFE";

/* --- the signers ------------------------------------------------------------------------------ */

/* Private keys 1 (the public key is G), 2, 3, n - 2 and random ones; then points whose private keys
 * nobody knows, -G apart. The first of all can be remembered. */
#define KEYS    12
#define SIGNERS 20
#define KNOWN   16 /* how many a test remembers at most */

static sm2_private key[KEYS];
static point signer[SIGNERS];

static void make_signers(void)
{
    point special[SPECIAL_POINTS_MAX];
    size_t count = special_points(special, SPECIAL_POINTS_MAX);
    for (uint64_t i = 0; i < KEYS; i++) {
        scalar d = i < 3 ? (scalar){{i + 1}} : i == 3 ? (scalar){{2}} : seeded_scalar(&seed);
        if (i == 3)
            d = scalar_sub(&zero, &d);
        assert_ok(sm2_private_init(&key[i], &d));
        signer[i] = key[i].p;
    }
    for (size_t i = KEYS; i < SIGNERS; i++)
        signer[i] = special[1 + (i - KEYS) * (count / 10)]; /* the first is -G */
    point minus_g = point_negate(point_generator());
    assert_point_equal(&signer[KEYS], &minus_g);
}

/* Which signers a path remembers while a test runs. */
enum known { NOBODY, SOME, ALL, KNOWN_CASES };

static void remember(enum known known)
{
    sm2_signers_forget();
    for (size_t i = 0; i < KNOWN && known != NOBODY; i++)
        if (known == ALL || i % 2 == 0)
            assert_ok(sm2_signer_remember(&signer[i]));
}

/* --- making triples --------------------------------------------------------------------------- */

static scalar x_mod_n(const point *p)
{
    uint8_t x[32];
    for (int i = 0; i < 4; i++)
        store_be64(x + 24 - 8 * i, p->x[i]);
    return scalar_reduce(x);
}

static struct triple triple_of(const point *p, const scalar *e, const scalar *r, const scalar *s)
{
    struct triple out = {.p = *p};
    scalar_encode(out.e.b, e);
    scalar_encode(out.sig.b, r);
    scalar_encode(out.sig.b + 32, s);
    return out;
}

/* s G + t P, the point that verification computes. */
static point r_of(const point *p, const scalar *s, const scalar *t)
{
    point sg = point_mul_base(s), tp = point_mul(t, p);
    return point_add(&sg, &tp);
}

/* With s and t = r + s chosen beforehand: e follows. R at infinity counts as x = 0. */
static struct triple triple_from_s_t(const point *p, const scalar *s, const scalar *t)
{
    point r_point = r_of(p, s, t);
    scalar x = x_mod_n(&r_point), r = scalar_sub(t, s), e = scalar_sub(&r, &x);
    return triple_of(p, &e, &r, s);
}

/* With R chosen beforehand, and x the value that stands for its x: P and e follow. */
static struct triple triple_from_r(const point *r_point, const scalar *x)
{
    scalar s = seeded_scalar(&seed), t = seeded_scalar(&seed), t_inverse = scalar_inverse(&t);
    point sg = point_mul_base(&s), minus_sg = point_negate(&sg);
    point tp = point_add(r_point, &minus_sg), p = point_mul(&t_inverse, &tp);
    scalar r = scalar_sub(&t, &s), e = scalar_sub(&r, x);
    return triple_of(&p, &e, &r, &s);
}

/* By the standard, with y of R of the parity asked for. */
static struct triple standard_triple(size_t i, bool odd)
{
    const sm2_private *by = &key[i % KEYS];
    struct triple out = {.p = by->p, .good = true};
    scalar k = seeded_scalar(&seed);
    point kg = point_mul_base(&k);
    if ((kg.y[0] & 1) != odd)
        k = scalar_sub(&zero, &k);
    seeded_bytes(&seed, out.e.b, sizeof out.e.b);
    assert_ok(sm2_sign_with_nonce(&out.sig, by, &out.e, &k));
    return out;
}

static struct triple signed_triple(size_t i)
{
    const sm2_private *by = &key[i % KEYS];
    uint8_t random[SM2_WIDE_BYTES];
    struct triple out = {.p = by->p, .good = true};
    seeded_bytes(&seed, random, sizeof random);
    seeded_bytes(&seed, out.e.b, sizeof out.e.b);
    out.sig = sm2_sign(by, &out.e, random);
    return out;
}

/* --- the pool: at least one triple of each kind ----------------------------------------------- */

#define POOL_MAX 1000

static struct triple pool[POOL_MAX];
static size_t pool_count;

enum expected { BAD, GOOD, AS_OPENSSL_SAYS };

static void put(struct triple t, enum expected expected, const char *kind)
{
    t.good = openssl_verify(&openssl, &t.p, &t.e, &t.sig, NULL);
    if (expected != AS_OPENSSL_SAYS && t.good != (expected == GOOD)) {
        printf("%s, triple %zu: OpenSSL says %s\n", kind, pool_count, t.good ? "good" : "bad");
        fail();
    }
    assert_true(pool_count < POOL_MAX);
    pool[pool_count++] = t;
}

static void put_standard(void)
{
    for (size_t i = 0; i < 48; i++) {
        put(standard_triple(i, i % 2 == 0), GOOD, "standard");
        put(signed_triple(i), GOOD, "signed");
    }
}

/* The i-th x counted from either end of [n, p), of either parity of y; false: not on the curve. */
static bool point_beyond_n(point *out, unsigned i)
{
    point_bytes in = {{(uint8_t)(2 + i % 2)}};
    from_hex(in.b + 1, 32, i / 2 % 2 == 0 ? n_hex : p_minus_1_hex);
    uint64_t low = load_be64(in.b + 25);
    store_be64(in.b + 25, i / 2 % 2 == 0 ? low + i / 4 : low - i / 4);
    return point_decode(out, &in) == AMI_OK;
}

/* x of R is in [n, p): r - e is x - n, and x - n + n has to be tried as well. */
static void put_x_beyond_n(void)
{
    const size_t before = pool_count;
    for (unsigned i = 0; i < 80; i++) {
        point r_point;
        if (!point_beyond_n(&r_point, i))
            continue;
        scalar x = x_mod_n(&r_point);
        put(triple_from_r(&r_point, &x), GOOD, "x beyond n");
        x = scalar_add(&x, &one);
        put(triple_from_r(&r_point, &x), BAD, "x beyond n, not this one");
    }
    assert_true(pool_count >= before + 40);
}

/* Both r - e and r - e + n stand for an x that could be R's, and for small x a third value,
 * x + p - n, differs from it by p: it must not pass. */
static void put_small_x(void)
{
    const scalar p_minus_n = {{UINT64_C(0xac440bf6c62abedc), UINT64_C(0x8dfc2093de39fad5), 0, 0}};
    const size_t before = pool_count;
    for (uint8_t i = 0; i < 60; i++) {
        point r_point;
        point_bytes in = {{(uint8_t)(2 + i % 2)}};
        in.b[SM2_POINT_BYTES - 1] = i / 2;
        if (point_decode(&r_point, &in) != AMI_OK)
            continue;
        scalar x = {{i / 2}};
        put(triple_from_r(&r_point, &x), GOOD, "small x");
        x = scalar_add(&x, &p_minus_n);
        put(triple_from_r(&r_point, &x), BAD, "small x, equal only modulo p");
    }
    assert_true(pool_count >= before + 40);
}

static void put_with_half(struct triple t, int half, const char *hex, const char *kind)
{
    from_hex(t.sig.b + 32 * half, 32, hex);
    put(t, BAD, kind);
}

/* The equation holds in all of these, but r or s is not in [1, n-1], or t = 0. */
static void put_out_of_range(void)
{
    for (size_t i = 0; i < SIGNERS; i += 3) {
        const point *p = &signer[i];
        scalar v = seeded_scalar(&seed), w = scalar_add(&v, &one);
        struct triple r_is_0 = triple_from_s_t(p, &v, &v), s_is_0 = triple_from_s_t(p, &zero, &v);
        put(r_is_0, BAD, "r = 0");
        put(s_is_0, BAD, "s = 0");
        put_with_half(r_is_0, 0, n_hex, "r = n");
        put_with_half(s_is_0, 1, n_hex, "s = n");
        struct triple r_is_1 = triple_from_s_t(p, &v, &w), s_is_1 = triple_from_s_t(p, &one, &v);
        put(r_is_1, GOOD, "r = 1");
        put(s_is_1, GOOD, "s = 1");
        put_with_half(r_is_1, 0, n_plus_1_hex, "r = n + 1");
        put_with_half(s_is_1, 1, n_plus_1_hex, "s = n + 1");
        put_with_half(s_is_1, 0, ones_hex, "r = 2^256 - 1");
        put_with_half(r_is_1, 1, ones_hex, "s = 2^256 - 1");
        put(triple_from_s_t(p, &v, &zero), BAD, "r + s = n");
    }
}

/* s and t where digits and windows change their mind, P in turn. */
static void put_edge_scalars(void)
{
    static scalar edge[EDGE_SCALARS_MAX];
    size_t count = edge_scalars(edge, EDGE_SCALARS_MAX);
    for (size_t i = 0; i < 260; i++) {
        scalar s = edge[i < 60 ? i : 13 * i % count], t = edge[i < 120 ? i % 60 : 29 * i % count];
        if (i % 3 == 1)
            s = seeded_scalar(&seed);
        else if (i % 3 == 2)
            t = seeded_scalar(&seed);
        put(triple_from_s_t(&signer[i % SIGNERS], &s, &t), AS_OPENSSL_SAYS, "edge scalars");
    }
}

/* s G = -t P, so that R is at infinity, and s G = t P, so that the last addition is a doubling. The
 * signer is one of those at hand, or P = f G is made for the purpose. */
static void put_collisions(void)
{
    for (size_t i = 0; i < 12; i++) {
        scalar s = seeded_scalar(&seed), f = i < KEYS ? key[i].d : seeded_scalar(&seed);
        scalar f_inverse = scalar_inverse(&f), t = scalar_mul(&s, &f_inverse);
        point p = point_mul_base(&f);
        if (!scalar_equal(&s, &t)) /* r would be 0 */
            put(triple_from_s_t(&p, &s, &t), GOOD, "s G = t P");
        t = scalar_sub(&zero, &t);
        put(triple_from_s_t(&p, &s, &t), BAD, "s G = -t P");
        struct triple claims = triple_from_s_t(&p, &s, &t); /* another x than 0 for infinity */
        claims.e.b[31] ^= 1;
        put(claims, BAD, "s G = -t P");
    }
}

/* R is G, -G, P or -P, and one R for different signers and with both parities of y. */
static void put_equal_points(void)
{
    scalar same = seeded_scalar(&seed);
    for (size_t i = 0; i < KEYS; i++) {
        const scalar nonce[] = {one, key[i].d, same};
        for (size_t j = 0; j < 6; j++) {
            struct triple t = {.p = key[i].p};
            scalar k = nonce[j / 2];
            if (j % 2 == 1)
                k = scalar_sub(&zero, &k);
            seeded_bytes(&seed, t.e.b, sizeof t.e.b);
            assert_ok(sm2_sign_with_nonce(&t.sig, &key[i], &t.e, &k));
            put(t, GOOD, "R is G, P or the same again");
        }
    }
}

enum part { PART_R, PART_S, PART_E, PART_P, PARTS };

static struct triple tampered(struct triple t, enum part part, size_t bit)
{
    uint8_t mask = (uint8_t)(1 << bit % 8);
    size_t byte = bit / 8 % 32;
    if (part == PART_R)
        t.sig.b[byte] ^= mask;
    else if (part == PART_S)
        t.sig.b[32 + byte] ^= mask;
    else if (part == PART_E)
        t.e.b[byte] ^= mask;
    else if (bit % 2 == 0)
        t.p = point_negate(&t.p);
    else
        t.p = point_add(&t.p, point_generator());
    t.good = false;
    return t;
}

static void put_tampered(void)
{
    for (size_t i = 0; i < 96; i++)
        put(tampered(standard_triple(i, i % 2 == 0), i % PARTS, 11 * i), BAD, "tampered");
    for (size_t i = 0; i < 4; i++) {
        struct triple t = standard_triple(i, false);
        t.p = infinity;
        put(t, BAD, "P is infinity");
    }
}

static int make_pool(void **state)
{
    (void)state;
    print_paths();
    path_use(sm2_path_named("portable"));
    openssl_group_start(&openssl);
    make_signers();
    put_standard();
    put_x_beyond_n();
    put_small_x();
    put_out_of_range();
    put_edge_scalars();
    put_collisions();
    put_equal_points();
    put_tampered();
    size_t good = 0;
    for (size_t i = 0; i < pool_count; i++)
        good += pool[i].good;
    printf("%zu triples, %zu of them good\n", pool_count, good);
    assert_in_range(good, 300, pool_count - 200);
    return 0;
}

static int free_openssl(void **state)
{
    (void)state;
    openssl_group_end(&openssl);
    return 0;
}

/* --- one batch -------------------------------------------------------------------------------- */

static void print_triple(const struct triple *t)
{
    uint8_t xy[SM2_XY_BYTES];
    char hex[3][2 * SM2_XY_BYTES + 1];
    openssl_xy(xy, &t->p);
    hex_encode(hex[0], xy, sizeof xy);
    hex_encode(hex[1], t->e.b, sizeof t->e.b);
    hex_encode(hex[2], t->sig.b, sizeof t->sig.b);
    printf("  P %s\n  e %s\n  r, s %s\n", hex[0], hex[1], hex[2]);
}

static void assert_answer(const char *what, const struct triple *t, size_t at, size_t count,
                          bool got)
{
    if (got == t[at].good)
        return;
    printf("%s: path %s says %s to number %zu of %zu, which is %s\n", what, sm2_path_name(),
           got ? "good" : "bad", at, count, t[at].good ? "good" : "bad");
    print_triple(&t[at]);
    fail();
}

/* Each array on the heap and no larger than it has to be, see test_paths.c. */
static void assert_batch(const char *what, const struct triple *t, size_t count)
{
    point *p = calloc(count + 1, sizeof *p);
    sm3_digest *e = malloc((count + 1) * sizeof *e);
    sm2_signature *sig = malloc((count + 1) * sizeof *sig);
    bool *ok = malloc(count + 1), all = true;
    assert_true(p != NULL && e != NULL && sig != NULL && ok != NULL);
    for (size_t i = 0; i < count; i++) {
        p[i] = t[i].p;
        e[i] = t[i].e;
        sig[i] = t[i].sig;
        all = all && t[i].good;
    }
    enum ami_status status = sm2_verify_batch(p, e, sig, ok, count);
    for (size_t i = 0; i < count; i++)
        assert_answer(what, t, i, count, ok[i]);
    assert_status(status, all ? AMI_OK : AMI_BAD_SIGNATURE);
    free(p);
    free(e);
    free(sig);
    free(ok);
}

static const size_t large_sizes[] = {127, 128, 129, 200, 511, 512, 513, 600};
#define BLOCK     512
#define SUM       4096 /* signatures in one sum */
#define BLOCK_MAX 4200 /* more than one sum takes */

/* --- the pool in every way -------------------------------------------------------------------- */

static void pool_alone(void **state)
{
    struct paths paths = paths_of_this_processor();
    (void)state;
    while (path_next(&paths) != NULL)
        for (enum known known = NOBODY; known < KNOWN_CASES; known++) {
            remember(known);
            for (size_t i = 0; i < pool_count; i++) {
                const struct triple *t = &pool[i];
                bool got = sm2_verify(&t->p, &t->e, &t->sig) == AMI_OK;
                assert_answer("alone", t, 0, 1, got);
            }
        }
}

/* The pool again and again, so that each triple comes at many places of many batches. */
static void pool_in_batches(void **state)
{
    struct paths paths = paths_of_this_processor();
    const size_t sizes = BATCH_SIZES + sizeof large_sizes / sizeof *large_sizes;
    (void)state;
    while (path_next(&paths) != NULL)
        for (enum known known = NOBODY; known < KNOWN_CASES; known++) {
            remember(known);
            size_t at = 0;
            for (size_t i = 0; i < 2 * sizes; i++) {
                size_t size = i % sizes < BATCH_SIZES ? batch_sizes[i % sizes]
                                                      : large_sizes[i % sizes - BATCH_SIZES];
                if (at + size > pool_count)
                    at = 0;
                assert_batch("pool", pool + at, size);
                at += size;
            }
            assert_batch("none", pool, 0);
        }
}

/* The pool's good ones alone: combinations of everything that is allowed have to hold. */
static void good_ones_in_batches(void **state)
{
    static struct triple good[POOL_MAX];
    struct paths paths = paths_of_this_processor();
    size_t count = 0;
    (void)state;
    for (size_t i = 0; i < pool_count; i++)
        if (pool[i].good)
            good[count++] = pool[i];
    while (path_next(&paths) != NULL)
        for (enum known known = NOBODY; known < KNOWN_CASES; known++) {
            remember(known);
            for (size_t i = 0; i < BATCH_SIZES; i++)
                for (size_t at = 0; at + batch_sizes[i] <= count; at += count / 3)
                    assert_batch("good ones", good + at, batch_sizes[i]);
            assert_batch("good ones", good, count);
        }
}

/* --- blocks of good signatures ---------------------------------------------------------------- */

/* By the standard with even y, the same with odd y, and as sm2_sign makes them. */
enum maker { EVEN, ODD, SIGNED, MAKERS };
static struct triple block[MAKERS][BLOCK_MAX];

static int make_blocks(void **state)
{
    (void)state;
    path_use(sm2_path_named("portable"));
    for (size_t i = 0; i < BLOCK_MAX; i++) {
        block[EVEN][i] = standard_triple(i, false);
        block[ODD][i] = standard_triple(i, true);
        block[SIGNED][i] = signed_triple(i);
    }
    return 0;
}

/* All sizes of one maker's block and of a mixture of them. */
static void blocks_of_good_signatures(void **state)
{
    static struct triple mixed[BLOCK_MAX];
    struct paths paths = paths_of_this_processor();
    (void)state;
    for (size_t i = 0; i < BLOCK_MAX; i++)
        mixed[i] = block[seeded_below(&seed, MAKERS)][i];
    while (path_next(&paths) != NULL)
        for (enum known known = NOBODY; known < KNOWN_CASES; known++) {
            remember(known);
            for (int maker = 0; maker <= MAKERS; maker++) {
                const struct triple *t = maker < MAKERS ? block[maker] : mixed;
                for (size_t i = 0; i < sizeof large_sizes / sizeof *large_sizes; i++)
                    assert_batch("a block", t, large_sizes[i]);
                for (size_t i = 0; i < BATCH_SIZES; i++)
                    assert_batch("a block", t, batch_sizes[i]);
            }
            for (size_t size = SUM - 1; known == NOBODY && size <= SUM + 1; size++)
                assert_batch("a sum", mixed, size);
            assert_batch("more than a sum", mixed, known == NOBODY ? BLOCK_MAX : SUM / 4);
        }
}

/* One signature among many good ones that is good in another way: odd y, x beyond n. */
static void one_of_another_kind_in_a_block(void **state)
{
    static struct triple t[BLOCK];
    static const size_t sizes[] = {1, 8, 64, BLOCK};
    struct paths paths = paths_of_this_processor();
    point r_point;
    unsigned found = 0;
    (void)state;
    while (!point_beyond_n(&r_point, found))
        found++;
    scalar x = x_mod_n(&r_point);
    struct triple other[] = {block[ODD][BLOCK], triple_from_r(&r_point, &x)};
    other[1].good = true;
    while (path_next(&paths) != NULL)
        for (enum known known = NOBODY; known < KNOWN_CASES; known++) {
            remember(known);
            if (known == ALL)
                assert_ok(sm2_signer_remember(&other[1].p));
            for (size_t i = 0; i < 12; i++) {
                size_t size = sizes[i % 4], at = (size - 1) * (i / 4) / 2;
                memcpy(t, block[EVEN], sizeof t);
                for (size_t j = 0; j < 2; j++) {
                    t[at] = other[j];
                    assert_batch("one of another kind", t, size);
                }
            }
        }
}

/* Every signature has x of R beyond n. */
static void blocks_of_x_beyond_n(void **state)
{
    static struct triple t[BLOCK];
    struct paths paths = paths_of_this_processor();
    size_t count = 0;
    (void)state;
    path_use(sm2_path_named("portable"));
    for (unsigned i = 0; count < BLOCK; i++) {
        point r_point;
        if (!point_beyond_n(&r_point, i))
            continue;
        scalar x = x_mod_n(&r_point);
        t[count] = triple_from_r(&r_point, &x);
        t[count++].good = true;
    }
    while (path_next(&paths) != NULL)
        for (int known = 0; known < 2; known++) {
            for (size_t i = 0; i < KNOWN && known; i++)
                assert_ok(sm2_signer_remember(&t[i].p));
            assert_batch("x beyond n", t, 1);
            assert_batch("x beyond n", t, 8);
            assert_batch("x beyond n", t, 64);
            assert_batch("x beyond n", t, BLOCK);
            t[40] = tampered(t[40], PART_E, 255);
            assert_batch("x beyond n", t, 64);
            t[40] = tampered(t[40], PART_E, 255);
            t[40].good = true;
        }
}

/* The same triple throughout; pairs of it; one signer throughout; one nonce throughout. */
static void blocks_with_repetitions(void **state)
{
    static struct triple t[4][BLOCK];
    struct paths paths = paths_of_this_processor();
    (void)state;
    path_use(sm2_path_named("portable"));
    scalar k = seeded_scalar(&seed);
    for (size_t i = 0; i < BLOCK; i++) {
        t[0][i] = block[EVEN][7];
        t[1][i] = block[SIGNED][i / 2];
        t[2][i] = standard_triple(5, i % 2 == 0);
        t[3][i] = standard_triple(i, false);
        assert_ok(sm2_sign_with_nonce(&t[3][i].sig, &key[i % KEYS], &t[3][i].e, &k));
        k = scalar_sub(&zero, &k); /* both parities, one x */
    }
    while (path_next(&paths) != NULL)
        for (enum known known = NOBODY; known < KNOWN_CASES; known++) {
            remember(known);
            for (size_t i = 0; i < 4; i++) {
                assert_batch("repetitions", t[i], 64);
                assert_batch("repetitions", t[i], BLOCK);
                struct triple kept = t[i][33];
                t[i][33] = tampered(kept, (enum part)i, 77);
                assert_batch("repetitions", t[i], 64);
                t[i][34] = t[i][33]; /* the bad one twice */
                assert_batch("repetitions", t[i], BLOCK);
                t[i][33] = kept;
                t[i][34] = i == 0 ? kept : i == 1 ? block[SIGNED][17] : standard_triple(5, true);
            }
        }
}

/* --- bad ones among good ones ----------------------------------------------------------------- */

/* Number `at` of a block, which itself stays as it is, is made bad in the way that `round` says. */
static void assert_bad_one(size_t size, size_t at, size_t round)
{
    static struct triple t[BLOCK_MAX];
    memcpy(t, block[round % MAKERS], size * sizeof *t);
    t[at] = tampered(t[at], (enum part)(round / MAKERS % PARTS), 37 * round);
    assert_batch("a bad one", t, size);
}

static void a_bad_one_at_every_place(void **state)
{
    static const size_t sizes[] = {8, 64};
    struct paths paths = paths_of_this_processor();
    size_t round = 0;
    (void)state;
    while (path_next(&paths) != NULL)
        for (size_t i = 0; i < 2; i++)
            for (size_t at = 0; at < sizes[i]; at++) {
                remember((enum known)(at % KNOWN_CASES));
                /* From place to place another maker comes with each part. */
                for (size_t j = 0; j < PARTS; j++)
                    assert_bad_one(sizes[i], at, MAKERS * j + (round + j) % MAKERS);
                round++;
            }
}

static void a_bad_one_in_a_large_block(void **state)
{
    struct paths paths = paths_of_this_processor();
    (void)state;
    while (path_next(&paths) != NULL) {
        for (size_t i = 0; i < 40; i++) {
            if (i % 10 == 0)
                remember((enum known)(i / 10 % KNOWN_CASES));
            assert_bad_one(BLOCK, i == 39 ? BLOCK - 1 : 13 * i, i);
        }
        assert_bad_one(BLOCK_MAX, BLOCK_MAX - 1, 1);
    }
}

static void several_bad_ones_in_a_block(void **state)
{
    static const size_t bad[] = {2, 3, 10, 64, 300, BLOCK - 1, BLOCK};
    static struct triple t[BLOCK];
    struct paths paths = paths_of_this_processor();
    (void)state;
    while (path_next(&paths) != NULL)
        for (size_t i = 0; i < 2 * sizeof bad / sizeof *bad; i++) {
            remember((enum known)(i % KNOWN_CASES));
            memcpy(t, block[i % MAKERS], sizeof t);
            for (size_t j = 0; j < bad[i / 2];) {
                size_t at = i % 2 == 0 ? seeded_below(&seed, BLOCK) : j; /* or side by side */
                if (t[at].good) {
                    t[at] = tampered(t[at], (enum part)(j % PARTS), 31 * j);
                    j++;
                }
            }
            assert_batch("several bad ones", t, BLOCK);
        }
}

/* Makes good signatures with R_i claim the x of R_i + D_i by another digest (R_i depends on P, r
 * and s alone): each is bad. False when the y of a claim is odd, because a verifier that tries the
 * even one first would then not fall for it. */
static bool claim(struct triple *t, size_t count, const point *d)
{
    for (size_t i = 0; i < count; i++) {
        scalar r, s;
        assert_ok(scalar_decode(&r, t[i].sig.b));
        assert_ok(scalar_decode(&s, t[i].sig.b + 32));
        scalar sum = scalar_add(&r, &s);
        point r_point = r_of(&t[i].p, &s, &sum), claimed = point_add(&r_point, &d[i]);
        if (claimed.y[0] & 1)
            return false;
        scalar x = x_mod_n(&claimed), e = scalar_sub(&r, &x);
        scalar_encode(t[i].e.b, &e);
        t[i].good = false;
    }
    return true;
}

/* Errors whose sum is zero: D and -D, D and D (zero where factors alternate in sign), D, D, -2 D.
 * A combination with equal factors accepts them. */
static void errors_that_cancel(void **state)
{
    static const size_t places[][3] = {{0, 1, 2}, {5, 40, 63}, {61, 62, 63}, {8, 16, 24}};
    static struct triple t[BLOCK];
    struct paths paths = paths_of_this_processor();
    (void)state;
    for (size_t i = 0; i < 24; i++) {
        const size_t *at = places[i / 6];
        struct triple wrong[3];
        point d[3];
        do {
            d[0] = d[1] = seeded_point(&seed);
            point minus = point_negate(&d[0]), twice = point_add(&minus, &minus);
            if (i % 3 == 0)
                d[1] = minus;
            d[2] = twice;
            for (size_t j = 0; j < 3; j++)
                wrong[j] = block[EVEN][at[j]];
        } while (!claim(wrong, i % 3 == 2 ? 3 : 2, d));
        memcpy(t, block[EVEN], sizeof t);
        for (size_t j = 0; j < 3; j++)
            t[at[j]] = wrong[j];
        paths.next = 0;
        while (path_next(&paths) != NULL) {
            remember((enum known)(i % KNOWN_CASES));
            assert_batch("errors that cancel", t, 64);
            assert_batch("errors that cancel", t, i % 2 == 0 ? BLOCK : 100);
        }
    }
}

/* --- remembering signers ---------------------------------------------------------------------- */

/* One that is remembered is not taken for its negative, or for another, and can be forgotten. */
static void remembering_changes_no_answer(void **state)
{
    struct paths paths = paths_of_this_processor();
    (void)state;
    while (path_next(&paths) != NULL)
        for (size_t i = 0; i < KEYS; i++) {
            struct triple t[] = {block[EVEN][i], block[EVEN][i], block[EVEN][i]};
            t[1] = tampered(t[1], PART_P, 0);
            t[2].p = key[(i + 1) % KEYS].p;
            t[2].good = false;
            for (int round = 0; round < 5; round++) {
                assert_batch("remembering", t, 3);
                for (size_t j = 0; j < 3; j++)
                    assert_status(sm2_verify(&t[j].p, &t[j].e, &t[j].sig),
                                  t[j].good ? AMI_OK : AMI_BAD_SIGNATURE);
                if (round == 3)
                    sm2_signers_forget();
                else if (round == 2) /* the negative, too */
                    assert_ok(sm2_signer_remember(&t[1].p));
                else /* again is no mistake */
                    assert_ok(sm2_signer_remember(&t[0].p));
            }
            sm2_signers_forget();
        }
}

/* More signers than there is room for push each other out; infinity is none. */
static void more_signers_than_can_be_remembered(void **state)
{
    static struct triple t[SM2_SIGNERS_MAX + 8];
    const size_t count = sizeof t / sizeof *t;
    struct paths paths = paths_of_this_processor();
    (void)state;
    path_use(sm2_path_named("portable"));
    for (size_t i = 0; i < count; i++) {
        point r_point = seeded_point(&seed);
        scalar x = x_mod_n(&r_point);
        t[i] = triple_from_r(&r_point, &x);
        t[i].good = true;
    }
    while (path_next(&paths) != NULL) {
        assert_status(sm2_signer_remember(&infinity), AMI_BAD_CRYPTO);
        for (size_t i = 0; i < count; i++) {
            assert_ok(sm2_signer_remember(&t[i].p));
            if (i % 8 == 7)
                assert_batch("many signers", t, count);
        }
        struct triple bad[2] = {tampered(t[0], PART_E, 3), tampered(t[count - 1], PART_E, 3)};
        assert_batch("many signers", bad, 2);
        for (size_t i = 0; i < count; i++)
            assert_status(sm2_verify(&t[i].p, &t[i].e, &t[i].sig), AMI_OK);
    }
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pool_alone),
        cmocka_unit_test(pool_in_batches),
        cmocka_unit_test(good_ones_in_batches),
        cmocka_unit_test_setup(blocks_of_good_signatures, make_blocks),
        cmocka_unit_test(one_of_another_kind_in_a_block),
        cmocka_unit_test(blocks_of_x_beyond_n),
        cmocka_unit_test(blocks_with_repetitions),
        cmocka_unit_test(a_bad_one_at_every_place),
        cmocka_unit_test(a_bad_one_in_a_large_block),
        cmocka_unit_test(several_bad_ones_in_a_block),
        cmocka_unit_test(errors_that_cancel),
        cmocka_unit_test(remembering_changes_no_answer),
        cmocka_unit_test(more_signers_than_can_be_remembered),
    };
    return cmocka_run_group_tests(tests, make_pool, free_openssl);
}
