/* All code paths of the SM2 engine give the same bytes, and batches give what single calls give.
 *
 * Each test fills the inputs, then hands an `operation` to assert_paths_agree: the portable path
 * does every case by the single form; after that every path does them by the single form and in
 * batches of every size of batch_sizes. test_verify.c does the same for verification, and
 * oracle_long.c compares with arithmetic that is not ours.
 */
#include "paths.h"

#include <stdlib.h>

/* --- inputs and the comparison ---------------------------------------------------------------- */

#define INPUTS_MAX 30000

/* Case i of an operation takes the i-th of each list that it needs. */
static struct inputs {
    scalar a[INPUTS_MAX], b[INPUTS_MAX];
    point p[INPUTS_MAX], q[INPUTS_MAX];
    size_t count;
} in;

struct operation {
    const char *name;
    size_t result_size, count;
    void (*prepare)(void); /* with the path in use; may be NULL, like finish */
    void (*finish)(void);
    void (*single)(void *out, size_t at);
    void (*batch)(void *out, size_t at, size_t count); /* NULL: there is only the single form */
};

/* Exactly this size on the heap, so that AddressSanitizer sees a path that goes beyond, and aligned
 * no better than callers' arrays are. */
static void *room_for(size_t size)
{
    void *out = malloc(size > 0 ? size : 1);
    assert_non_null(out);
    return out;
}

static void *exact(const void *from, size_t size)
{
    void *out = room_for(size);
    memcpy(out, from, size);
    return out;
}

static void print_hex(const char *name, const void *data, size_t size)
{
    const uint8_t *b = data;
    printf("  %-9s ", name);
    for (size_t i = 0; i < size; i++)
        printf("%02x", b[i]);
    printf("\n");
}

static void print_number(const char *name, const uint64_t w[4])
{
    printf("  %-9s %016llx%016llx%016llx%016llx\n", name, (unsigned long long)w[3],
           (unsigned long long)w[2], (unsigned long long)w[1], (unsigned long long)w[0]);
}

static void assert_result(const struct operation *op, const char *path, size_t at, size_t batch,
                          const uint8_t *got, const uint8_t *expected)
{
    if (memcmp(got, expected, op->result_size) == 0)
        return;
    printf("%s, path %s, case %zu in a %s of %zu:\n", op->name, path, at,
           batch == 0 ? "call" : "batch", batch == 0 ? 1 : batch);
    print_hex("got", got, op->result_size);
    print_hex("portable", expected, op->result_size);
    print_number("a", in.a[at].w);
    print_number("b", in.b[at].w);
    print_number("p.x", in.p[at].x);
    print_number("p.y", in.p[at].y);
    print_number("q.x", in.q[at].x);
    print_number("q.y", in.q[at].y);
    fail();
}

static void run_singles(const struct operation *op, const char *path, size_t step,
                        const uint8_t *expected)
{
    uint8_t *got = room_for(op->result_size);
    for (size_t i = 0; i < op->count; i += step) {
        memset(got, 0, op->result_size);
        op->single(got, i);
        assert_result(op, path, i, 0, got, expected + i * op->result_size);
    }
    free(got);
}

/* Results outside of the batch have to stay as they are. */
#define GUARD_BYTES 128

static void run_batch(const struct operation *op, const char *path, size_t at, size_t size,
                      const uint8_t *expected)
{
    size_t bytes = size * op->result_size;
    uint8_t *got = room_for(bytes + GUARD_BYTES), guard[GUARD_BYTES];
    memset(got, 0, bytes);
    memset(got + bytes, 0xa5, GUARD_BYTES);
    memset(guard, 0xa5, sizeof guard);
    op->batch(got, at, size);
    for (size_t i = 0; i < size; i++)
        assert_result(op, path, at + i, size, got + i * op->result_size,
                      expected + (at + i) * op->result_size);
    assert_memory_equal(got + bytes, guard, sizeof guard);
    free(got);
}

/* Through all cases in batches of changing sizes, and from the start again until each size has
 * come. */
static void run_batches(const struct operation *op, const char *path, const uint8_t *expected)
{
    size_t at = 0;
    for (size_t i = 0; i < BATCH_SIZES || at + batch_sizes[i % BATCH_SIZES] <= op->count; i++) {
        size_t size = batch_sizes[i % BATCH_SIZES];
        if (at + size > op->count)
            at = 0;
        run_batch(op, path, at, size, expected);
        at += size;
    }
    run_batch(op, path, at, op->count - at, expected);
    run_batch(op, path, 0, 0, expected);
}

static void assert_paths_agree(const struct operation *op)
{
    struct paths paths = paths_of_this_processor();
    uint8_t *expected = calloc(op->count, op->result_size);
    assert_non_null(expected);
    assert_true(op->count >= BATCH_MAX && op->count <= INPUTS_MAX);
    for (const char *name; (name = path_next(&paths)) != NULL;) {
        if (op->prepare != NULL)
            op->prepare();
        for (size_t i = 0; paths.next == 1 && i < op->count; i++)
            op->single(expected + i * op->result_size, i);
        run_singles(op, name, op->count / 1500 + 1, expected);
        if (op->batch != NULL)
            run_batches(op, name, expected);
        if (op->finish != NULL)
            op->finish();
    }
    free(expected);
    printf("%s: %zu cases on %zu paths\n", op->name, op->count, paths.count);
}

/* --- filling the inputs ----------------------------------------------------------------------- */

static const scalar zero = {{0}};
static const point infinity = {{0}, {0}};

static struct {
    scalar edge[EDGE_SCALARS_MAX];
    size_t edges;
    scalar window[3 * WINDOW_SCALARS_MAX];
    size_t windows;
    point point[SPECIAL_POINTS_MAX + 8];
    size_t points;
} lists;

/* Once, by the portable path; 8 points of no distinction come first. */
static int fill_lists(void **state)
{
    static const unsigned bits[] = {5, 6, 8};
    struct seeded s = {31};
    (void)state;
    print_paths();
    path_use(sm2_path_named("portable"));
    lists.edges = edge_scalars(lists.edge, EDGE_SCALARS_MAX);
    for (int i = 0; i < 3; i++)
        lists.windows += window_scalars(lists.window + lists.windows, WINDOW_SCALARS_MAX, bits[i]);
    while (lists.points < 8)
        lists.point[lists.points++] = seeded_point(&s);
    lists.points += special_points(lists.point + lists.points, SPECIAL_POINTS_MAX);
    assert_in_range(lists.edges, 3000, EDGE_SCALARS_MAX - 1);
    assert_in_range(lists.windows, 12400, 12500);
    assert_in_range(lists.points, 80, SPECIAL_POINTS_MAX + 7);
    return 0;
}

static void add_case(scalar a, scalar b, point p, point q)
{
    assert_true(in.count < INPUTS_MAX);
    in.a[in.count] = a;
    in.b[in.count] = b;
    in.p[in.count] = p;
    in.q[in.count] = q;
    in.count++;
}

/* Every edge scalar and every single window as a, some random ones, with the points in turn. */
static void fill_scalars_and_points(struct seeded *s)
{
    in.count = 0;
    for (size_t i = 0; i < lists.edges; i++)
        add_case(lists.edge[i], zero, lists.point[i % lists.points], infinity);
    for (size_t i = 0; i < lists.windows; i++)
        add_case(lists.window[i], zero, lists.point[i % lists.points], infinity);
    for (size_t i = 0; i < 1000; i++)
        add_case(seeded_scalar(s), zero, lists.point[i % lists.points], infinity);
}

/* --- scalars ---------------------------------------------------------------------------------- */

static void inverse_single(void *out, size_t at)
{
    *(scalar *)out = scalar_inverse(&in.a[at]);
}

static void inverse_batch(void *out, size_t at, size_t count)
{
    scalar *a = exact(in.a + at, count * sizeof *a);
    scalar_inverse_batch(out, a, count);
    scalar_inverse_batch(a, a, count); /* in place */
    assert_memory_equal(out, a, count * sizeof *a);
    free(a);
}

static void inverses_agree(void **state)
{
    struct seeded s = {32};
    (void)state;
    in.count = 0;
    for (size_t i = 0; i < lists.edges; i++)
        add_case(lists.edge[i], zero, infinity, infinity);
    for (size_t i = 0; i < 1000; i++)
        add_case(i % 7 == 3 || (i >= 100 && i < 300) ? zero : seeded_scalar(&s), zero, infinity,
                 infinity);
    const struct operation op = {.name = "scalar_inverse",
                                 .result_size = sizeof(scalar),
                                 .count = in.count,
                                 .single = inverse_single,
                                 .batch = inverse_batch};
    assert_paths_agree(&op);
}

/* --- products --------------------------------------------------------------------------------- */

static void mul_base_single(void *out, size_t at)
{
    *(point *)out = point_mul_base(&in.a[at]);
}

static void mul_base_batch(void *out, size_t at, size_t count)
{
    scalar *a = exact(in.a + at, count * sizeof *a);
    point_mul_base_batch(out, a, count);
    free(a);
}

static void products_of_g_agree(void **state)
{
    struct seeded s = {33};
    (void)state;
    fill_scalars_and_points(&s);
    const struct operation op = {.name = "point_mul_base",
                                 .result_size = sizeof(point),
                                 .count = in.count,
                                 .single = mul_base_single,
                                 .batch = mul_base_batch};
    assert_paths_agree(&op);
}

static void mul_single(void *out, size_t at)
{
    *(point *)out = point_mul(&in.a[at], &in.p[at]);
}

static void mul_batch(void *out, size_t at, size_t count)
{
    scalar *a = exact(in.a + at, count * sizeof *a);
    point *p = exact(in.p + at, count * sizeof *p);
    point_mul_batch(out, a, p, count);
    free(a);
    free(p);
}

static const struct operation mul_operation = {
    .name = "point_mul", .result_size = sizeof(point), .single = mul_single, .batch = mul_batch};

static void products_of_points_agree(void **state)
{
    struct seeded s = {34};
    (void)state;
    fill_scalars_and_points(&s);
    struct operation op = mul_operation;
    op.count = in.count;
    assert_paths_agree(&op);
}

/* The small scalars and their negatives with every point, and infinity in between: it may not
 * disturb its neighbours in a batch. */
static void products_of_every_point_agree(void **state)
{
    (void)state;
    in.count = 0;
    for (size_t i = 0; i < lists.points; i++)
        for (size_t j = 0; j < 60; j++)
            add_case(lists.edge[j], zero, j % 13 == 5 ? infinity : lists.point[i], infinity);
    struct operation op = mul_operation;
    op.count = in.count;
    assert_paths_agree(&op);
}

static void mul_add_single(void *out, size_t at)
{
    point bp = point_mul(&in.b[at], &in.p[at]);
    *(point *)out = point_add(&in.q[at], &bp);
}

static void mul_add_batch(void *out, size_t at, size_t count)
{
    scalar *b = exact(in.b + at, count * sizeof *b);
    point *p = exact(in.p + at, count * sizeof *p), *q = exact(in.q + at, count * sizeof *q);
    point_mul_add_public_batch(out, q, b, p, count);
    free(b);
    free(p);
    free(q);
}

/* q = b p is a doubling at the end, q = -b p ends at infinity, q = +-p meets the first entry of
 * p's multiples. */
static point related_point(unsigned relation, const scalar *b, const point *p)
{
    point bp = point_mul(b, p);
    switch (relation % 6) {
    case 0:
        return bp;
    case 1:
        return point_negate(&bp);
    case 2:
        return *p;
    case 3:
        return point_negate(p);
    case 4:
        return infinity;
    default:
        return lists.point[relation % lists.points];
    }
}

static void sums_with_public_products_agree(void **state)
{
    struct seeded s = {35};
    (void)state;
    in.count = 0;
    for (unsigned i = 0; i < lists.edges + 600; i++) {
        scalar b = i < lists.edges ? lists.edge[i] : seeded_scalar(&s);
        if (i >= lists.edges + 300)
            b.w[2] = b.w[3] = 0; /* short, as in key exchange */
        point p = i % 17 == 11 ? infinity : lists.point[(i / 6) % lists.points];
        add_case(zero, b, p, related_point(i + i / 80, &b, &p));
    }
    for (size_t i = 0; i < lists.windows; i += 3)
        add_case(zero, lists.window[i], lists.point[i % lists.points], lists.point[0]);
    const struct operation op = {.name = "point_mul_add_public",
                                 .result_size = sizeof(point),
                                 .count = in.count,
                                 .single = mul_add_single,
                                 .batch = mul_add_batch};
    assert_paths_agree(&op);
}

static point table_point;
static struct point_table *table;

static void make_table(void)
{
    table = point_table_new(&table_point);
    assert_non_null(table);
    assert_point_equal(point_table_point(table), &table_point);
}

static void free_table(void)
{
    point_table_free(table);
}

static void base_table_single(void *out, size_t at)
{
    point ag = point_mul_base(&in.a[at]), bp = point_mul(&in.b[at], &table_point);
    *(point *)out = point_add(&ag, &bp);
}

static void base_table_batch(void *out, size_t at, size_t count)
{
    scalar *a = exact(in.a + at, count * sizeof *a), *b = exact(in.b + at, count * sizeof *b);
    point_mul_base_table_batch(out, a, b, table, count);
    free(a);
    free(b);
}

/* a G = b P and a G = -b P where P = f G, a or b zero, both edge scalars. */
static scalar related_scalar(unsigned relation, const scalar *b, const scalar *f)
{
    scalar fb = scalar_mul(f, b);
    switch (relation % 5) {
    case 0:
        return fb;
    case 1:
        return scalar_sub(&zero, &fb);
    case 2:
        return zero;
    case 3:
        return *b;
    default:
        return lists.edge[(7 * relation) % lists.edges];
    }
}

/* f tells the relation of P to G where one is known. */
static void assert_tables_agree(const point *p, const scalar *f, size_t step)
{
    table_point = *p;
    in.count = 0;
    for (unsigned i = 0; i * step < lists.edges; i++)
        add_case(related_scalar(i, &lists.edge[i * step], f), lists.edge[i * step], *p, infinity);
    for (size_t i = 0; i < lists.windows; i += 40 * step / 3)
        add_case(i % 2 == 0 ? zero : lists.edge[i % lists.edges], lists.window[i], *p, infinity);
    const struct operation op = {.name = "point_mul_base_table",
                                 .result_size = sizeof(point),
                                 .count = in.count,
                                 .prepare = make_table,
                                 .finish = free_table,
                                 .single = base_table_single,
                                 .batch = base_table_batch};
    assert_paths_agree(&op);
}

static void sums_with_a_table_agree(void **state)
{
    struct seeded s = {36};
    (void)state;
    scalar f[] = {{{1}}, {{1}}, {{2}}, {{3}}, {{32}}, {{64}}, {{127}}, {{256}}, {{0}}};
    f[1] = scalar_sub(&zero, &f[0]);
    f[8] = seeded_scalar(&s);
    for (size_t i = 0; i < sizeof f / sizeof *f; i++) {
        point p = point_mul_base(&f[i]);
        assert_tables_agree(&p, &f[i], i == 8 ? 1 : 7);
    }
    for (size_t i = 10; i < lists.points; i += 11)
        assert_tables_agree(&lists.point[i], &f[8], 20);
}

static void add_single(void *out, size_t at)
{
    *(point *)out = point_add(&in.p[at], &in.q[at]);
}

static void sums_agree(void **state)
{
    static const scalar one = {{1}};
    (void)state;
    in.count = 0;
    for (unsigned i = 0; i < 1200; i++) {
        point p = i % 25 == 24 ? infinity : lists.point[i / 6 % lists.points];
        add_case(zero, zero, p, related_point(i, &one, &p));
    }
    const struct operation op = {
        .name = "point_add", .result_size = sizeof(point), .count = in.count, .single = add_single};
    assert_paths_agree(&op);
}

/* --- encodings -------------------------------------------------------------------------------- */

/* No padding, so that results compare as memory; `p` stays zero where `ok` is. */
struct maybe_point {
    uint64_t ok;
    point p;
};

static void put_maybe(struct maybe_point *out, bool ok, const point *p)
{
    memset(out, 0, sizeof *out);
    out->ok = ok;
    if (ok)
        out->p = *p;
}

#define SCHEME_CASES 600

static point_bytes encoded[INPUTS_MAX];

static void decode_single(void *out, size_t at)
{
    point p;
    bool ok = point_decode(&p, &encoded[at]) == AMI_OK;
    put_maybe(out, ok, &p);
}

static void decode_batch(void *out, size_t at, size_t count)
{
    point_bytes *e = exact(encoded + at, count * sizeof *e);
    point *p = room_for(count * sizeof *p);
    bool *ok = room_for(count * sizeof *ok), all = true;
    enum ami_status status = point_decode_batch(p, ok, e, count);
    for (size_t i = 0; i < count; i++) {
        put_maybe((struct maybe_point *)out + i, ok[i], &p[i]);
        all = all && ok[i];
    }
    assert_status(status, all ? AMI_OK : AMI_BAD_CRYPTO);
    free(e);
    free(p);
    free(ok);
}

static size_t fill_encodings(void)
{
    static const char *const too_large[] = {
        "FFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF00000000FFFFFFFFFFFFFFFF",
        "FFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF000000010000000000000000",
        "FFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF000000010000000000000001",
        "FFFFFFFF00000000000000000000000000000000000000000000000000000001",
        "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF"};
    struct seeded s = {37};
    size_t count = 0;
    for (size_t i = 0; i < lists.points; i++)
        encoded[count++] = point_encode(&lists.point[i]);
    for (size_t i = 0; i < lists.edges; i++) { /* as x, every other one on the curve */
        encoded[count].b[0] = (uint8_t)(2 + i % 2);
        scalar_encode(encoded[count++].b + 1, &lists.edge[i]);
    }
    for (uint8_t i = 0; i < 50; i++, count++) {
        seeded_bytes(&s, encoded[count].b, SM2_POINT_BYTES);
        encoded[count].b[0] = i < 20 ? i : 2;
        if (i >= 40)
            from_hex(encoded[count].b + 1, 32, too_large[i % 5]);
    }
    return count;
}

static void decodings_agree(void **state)
{
    (void)state;
    const struct operation op = {.name = "point_decode",
                                 .result_size = sizeof(struct maybe_point),
                                 .count = fill_encodings(),
                                 .single = decode_single,
                                 .batch = decode_batch};
    assert_paths_agree(&op);
}

/* --- signatures ------------------------------------------------------------------------------- */

static struct {
    sm2_private key[SCHEME_CASES];
    sm3_digest e[SCHEME_CASES];
    uint8_t random[SCHEME_CASES][SM2_WIDE_BYTES];
    scalar k[SCHEME_CASES];
} scheme;

/* Private keys 1, 2, ..., n - 2, ..., powers of two, random ones; nonces alike. */
static void fill_scheme(uint64_t seed)
{
    struct seeded s = {seed};
    path_use(sm2_path_named("portable"));
    seeded_bytes(&s, scheme.e, sizeof scheme.e);
    seeded_bytes(&s, scheme.random, sizeof scheme.random);
    for (size_t i = 0; i < SCHEME_CASES; i++) {
        scalar d = i % 3 == 0 ? lists.edge[2 + i / 3] : seeded_scalar(&s);
        if (sm2_private_init(&scheme.key[i], &d) != AMI_OK) /* n - 1 */
            assert_ok(sm2_private_init(&scheme.key[i], &scheme.key[0].d));
        scheme.k[i] = i % 4 == 1 ? lists.edge[i / 4] : seeded_scalar(&s);
    }
}

static void private_init_single(void *out, size_t at)
{
    sm2_private key;
    if (sm2_private_init(&key, &in.a[at]) == AMI_OK)
        memcpy(out, &key, sizeof key);
}

static void private_keys_agree(void **state)
{
    (void)state;
    in.count = 0;
    for (size_t i = 0; i < 500; i++)
        add_case(lists.edge[i], zero, infinity, infinity);
    const struct operation op = {.name = "sm2_private_init",
                                 .result_size = sizeof(sm2_private),
                                 .count = in.count,
                                 .single = private_init_single};
    assert_paths_agree(&op);
}

static void sign_single(void *out, size_t at)
{
    *(sm2_signature *)out = sm2_sign(&scheme.key[at], &scheme.e[at], scheme.random[at]);
}

static void sign_batch(void *out, size_t at, size_t count)
{
    const sm2_private *key[SCHEME_CASES];
    for (size_t i = 0; i < count; i++)
        key[i] = &scheme.key[at + i];
    const sm2_private **keys = exact(key, count * sizeof *keys);
    sm3_digest *e = exact(scheme.e + at, count * sizeof *e);
    uint8_t(*random)[SM2_WIDE_BYTES] = exact(scheme.random + at, count * sizeof *random);
    sm2_sign_batch(out, keys, e, (const uint8_t(*)[SM2_WIDE_BYTES])random, count);
    free(keys);
    free(e);
    free(random);
}

static void signatures_agree(void **state)
{
    (void)state;
    fill_scheme(38);
    const struct operation op = {.name = "sm2_sign",
                                 .result_size = sizeof(sm2_signature),
                                 .count = SCHEME_CASES,
                                 .single = sign_single,
                                 .batch = sign_batch};
    assert_paths_agree(&op);
}

static void sign_with_nonce_single(void *out, size_t at)
{
    sm2_signature sig;
    if (sm2_sign_with_nonce(&sig, &scheme.key[at], &scheme.e[at], &scheme.k[at]) == AMI_OK)
        memcpy(out, &sig, sizeof sig);
}

static void signatures_with_nonce_agree(void **state)
{
    (void)state;
    fill_scheme(39);
    const struct operation op = {.name = "sm2_sign_with_nonce",
                                 .result_size = sizeof(sm2_signature),
                                 .count = SCHEME_CASES,
                                 .single = sign_with_nonce_single};
    assert_paths_agree(&op);
}

/* --- implicit certificates -------------------------------------------------------------------- */

static point p_pub;

static void implicit_single(void *out, size_t at)
{
    point p;
    bool ok = sm2_implicit_public(&p, &in.p[at], &scheme.e[at], &p_pub) == AMI_OK;
    put_maybe(out, ok, &p);
}

static void implicit_batch(void *out, size_t at, size_t count)
{
    point *w = exact(in.p + at, count * sizeof *w), *p = room_for(count * sizeof *p);
    sm3_digest *h_a = exact(scheme.e + at, count * sizeof *h_a);
    bool *ok = room_for(count * sizeof *ok), all = true;
    enum ami_status status = sm2_implicit_public_batch(p, ok, w, h_a, &p_pub, count);
    for (size_t i = 0; i < count; i++) {
        put_maybe((struct maybe_point *)out + i, ok[i], &p[i]);
        all = all && ok[i];
    }
    assert_status(status, all ? AMI_OK : AMI_BAD_CRYPTO);
    free(w);
    free(p);
    free(h_a);
    free(ok);
}

static void remember_p_pub(void)
{
    assert_ok(sm2_signer_remember(&p_pub));
}

/* lambda P_pub = W for one case (a doubling at the end), = -W for another (infinity). */
static void implicit_keys_agree(void **state)
{
    struct seeded s = {40};
    (void)state;
    fill_scheme(41);
    in.count = 0;
    for (size_t i = 0; i < SCHEME_CASES; i++)
        add_case(zero, zero, i % 50 == 49 ? infinity : lists.point[i % lists.points], infinity);
    scalar lambda[] = {sm2_implicit_lambda(&in.p[5], &scheme.e[5]),
                       sm2_implicit_lambda(&in.p[70], &scheme.e[70])};
    for (int i = 0; i < 2; i++)
        lambda[i] = scalar_inverse(&lambda[i]);
    lambda[1] = scalar_sub(&zero, &lambda[1]);
    const point pubs[] = {seeded_point(&s), point_mul(&lambda[0], &in.p[5]),
                          point_mul(&lambda[1], &in.p[70]), *point_generator(), infinity};
    for (int i = 0; i < 9; i++) {
        p_pub = pubs[i / 2];
        const struct operation op = {.name = "sm2_implicit_public",
                                     .result_size = sizeof(struct maybe_point),
                                     .count = in.count,
                                     .prepare = i % 2 == 1 ? remember_p_pub : NULL,
                                     .single = implicit_single,
                                     .batch = implicit_batch};
        assert_paths_agree(&op);
        struct maybe_point result;
        implicit_single(&result, i / 2 == 2 ? 70 : 5);
        assert_int_equal(result.ok, i / 2 != 2 && i / 2 != 4);
    }
}

static void issue_single(void *out, size_t at)
{
    struct issued {
        point w;
        scalar t;
        sm2_private key;
    } *r = out;
    const scalar *x = &scheme.key[at].d, *w = &scheme.k[at];
    const sm2_private *device = &scheme.key[(at + 1) % SCHEME_CASES];
    point pub = point_mul_base(x);
    if (scalar_is_zero(w))
        return;
    sm2_implicit_issue(&r->w, &r->t, w, x, &device->p, &scheme.e[at]);
    assert_ok(sm2_implicit_accept(&r->key, &r->t, &device->d, &r->w, &scheme.e[at], &pub));
}

static void issued_certificates_agree(void **state)
{
    (void)state;
    fill_scheme(42);
    for (size_t i = 0; i < SCHEME_CASES; i++) /* W = wG + U_A finite: no edges that cancel */
        scheme.k[i] = scalar_reduce(scheme.e[(i + 7) % SCHEME_CASES].b);
    const struct operation op = {.name = "sm2_implicit_issue",
                                 .result_size =
                                     sizeof(point) + sizeof(scalar) + sizeof(sm2_private),
                                 .count = 300,
                                 .single = issue_single};
    assert_paths_agree(&op);
}

/* --- encapsulation and encryption ------------------------------------------------------------- */

#define INFO SPAN_LITERAL("test_paths")

static point recipient;

struct capsule {
    point_bytes c1;
    uint8_t key[32];
};

static void encapsulate_single(void *out, size_t at)
{
    struct capsule *c = out;
    assert_ok(sm2_encapsulate(&c->c1, c->key, sizeof c->key, &recipient, INFO, scheme.random[at]));
}

static void encapsulate_batch(void *out, size_t at, size_t count)
{
    point_bytes *c1 = room_for(count * sizeof *c1);
    uint8_t(*key)[32] = room_for(count * sizeof *key);
    uint8_t(*random)[SM2_WIDE_BYTES] = exact(scheme.random + at, count * sizeof *random);
    assert_ok(sm2_encapsulate_batch(c1, key, &recipient, INFO,
                                    (const uint8_t(*)[SM2_WIDE_BYTES])random, count));
    for (size_t i = 0; i < count; i++) {
        struct capsule *c = (struct capsule *)out + i;
        c->c1 = c1[i];
        memcpy(c->key, key[i], sizeof c->key);
    }
    free(c1);
    free(key);
    free(random);
}

static void encapsulations_agree(void **state)
{
    (void)state;
    fill_scheme(43);
    const point to[] = {lists.point[0], *point_generator(), point_negate(point_generator()),
                        lists.point[10]};
    for (size_t i = 0; i < sizeof to / sizeof *to; i++) {
        recipient = to[i];
        const struct operation op = {.name = "sm2_encapsulate",
                                     .result_size = sizeof(struct capsule),
                                     .count = i == 0 ? SCHEME_CASES : BATCH_MAX,
                                     .single = encapsulate_single,
                                     .batch = encapsulate_batch};
        assert_paths_agree(&op);
    }
    struct paths paths = paths_of_this_processor();
    while (path_next(&paths) != NULL) {
        point_bytes c1[3];
        uint8_t key[3][32];
        assert_status(sm2_encapsulate_batch(c1, key, &infinity, INFO,
                                            (const uint8_t(*)[SM2_WIDE_BYTES])scheme.random, 3),
                      AMI_BAD_CRYPTO);
    }
}

struct maybe_key {
    uint8_t ok;
    uint8_t key[32];
};

static const sm2_private *opener;

static void put_maybe_key(struct maybe_key *out, bool ok, const uint8_t key[32])
{
    memset(out, 0, sizeof *out);
    out->ok = ok;
    if (ok)
        memcpy(out->key, key, sizeof out->key);
}

static void decapsulate_single(void *out, size_t at)
{
    uint8_t key[32];
    bool ok = sm2_decapsulate(key, sizeof key, opener, &encoded[at], INFO) == AMI_OK;
    put_maybe_key(out, ok, key);
}

static void decapsulate_batch(void *out, size_t at, size_t count)
{
    const uint8_t wiped[32] = {0};
    point_bytes *c1 = exact(encoded + at, count * sizeof *c1);
    uint8_t(*key)[32] = room_for(count * sizeof *key);
    bool *ok = room_for(count * sizeof *ok), all = true;
    enum ami_status status = sm2_decapsulate_batch(key, ok, opener, c1, INFO, count);
    for (size_t i = 0; i < count; i++) {
        put_maybe_key((struct maybe_key *)out + i, ok[i], key[i]);
        if (!ok[i])
            assert_memory_equal(key[i], wiped, sizeof wiped);
        all = all && ok[i];
    }
    assert_status(status, all ? AMI_OK : AMI_BAD_CRYPTO);
    free(c1);
    free(key);
    free(ok);
}

/* C1 among them that are no points; private keys 1, 2, n - 2 and one of no distinction. */
static void decapsulations_agree(void **state)
{
    static const size_t openers[] = {0, 3, 6, 1};
    (void)state;
    fill_scheme(44);
    size_t count = fill_encodings();
    for (size_t i = 0; i < 4; i++) {
        opener = &scheme.key[openers[i]];
        const struct operation op = {.name = "sm2_decapsulate",
                                     .result_size = sizeof(struct maybe_key),
                                     .count = i == 3 ? count : 400,
                                     .single = decapsulate_single,
                                     .batch = decapsulate_batch};
        assert_paths_agree(&op);
    }
}

#define TEXT_BYTES 40

static void encrypt_single(void *out, size_t at)
{
    const sm2_private *to = &scheme.key[at];
    struct span plain = span_of(scheme.random[at], at % TEXT_BYTES + 1);
    uint8_t opened[TEXT_BYTES];
    assert_ok(sm2_encrypt(out, &to->p, plain, scheme.random[(at + 1) % SCHEME_CASES]));
    assert_ok(sm2_decrypt(opened, to, span_of(out, plain.size + SM2_ENCRYPT_OVERHEAD_BYTES)));
    assert_memory_equal(opened, plain.data, plain.size);
}

static void encryptions_agree(void **state)
{
    (void)state;
    fill_scheme(45);
    const struct operation op = {.name = "sm2_encrypt",
                                 .result_size = TEXT_BYTES + SM2_ENCRYPT_OVERHEAD_BYTES,
                                 .count = 300,
                                 .single = encrypt_single};
    assert_paths_agree(&op);
}

static void hash_single(void *out, size_t at)
{
    struct span text = span_of(&scheme.e[at], at % sizeof scheme.e[at]);
    *(point *)out = point_hash_to_curve(&text, 1, SPAN_LITERAL("TEST"));
}

static void hashes_to_the_curve_agree(void **state)
{
    (void)state;
    fill_scheme(46);
    const struct operation op = {.name = "point_hash_to_curve",
                                 .result_size = sizeof(point),
                                 .count = 300,
                                 .single = hash_single};
    assert_paths_agree(&op);
}

/* --- key exchange ----------------------------------------------------------------------------- */

struct maybe_exchange {
    uint8_t ok;
    struct sm2_exchange_out out;
};

static struct sm2_exchange_in exchange[SCHEME_CASES];
static point exchange_r[SCHEME_CASES], exchange_peer[SCHEME_CASES];
static scalar exchange_d[SCHEME_CASES];

static void exchange_single(void *out, size_t at)
{
    struct maybe_exchange *r = out;
    struct sm2_exchange_out x;
    r->ok = sm2_exchange(&x, &exchange[at]) == AMI_OK;
    if (r->ok)
        r->out = x;
}

static void exchange_batch(void *out, size_t at, size_t count)
{
    struct sm2_exchange_in *x = exact(exchange + at, count * sizeof *x);
    struct sm2_exchange_out *r = room_for(count * sizeof *r);
    bool *ok = room_for(count * sizeof *ok), all = true;
    enum ami_status status = sm2_exchange_batch(r, x, ok, count);
    for (size_t i = 0; i < count; i++) {
        struct maybe_exchange *to = (struct maybe_exchange *)out + i;
        to->ok = ok[i];
        if (ok[i])
            to->out = r[i];
        all = all && ok[i];
    }
    assert_status(status, all ? AMI_OK : AMI_BAD_CRYPTO);
    free(x);
    free(r);
    free(ok);
}

/* x' = 2^127 + (x mod 2^127) of a point. */
static scalar x_bar_of(const point *p)
{
    return (scalar){{p->x[0], p->x[1] | UINT64_C(1) << 63, 0, 0}};
}

/* What can go wrong in an exchange: a peer key that gives V = infinity, one that doubles inside, an
 * own key that gives t = 0, infinities. */
static void disturb_exchange(size_t i)
{
    point *peer = &exchange_peer[i];
    const size_t other = (i + 1) % SCHEME_CASES;
    const point *r_peer = exchange[i].initiator ? exchange[i].r_b : exchange[i].r_a;
    scalar x = x_bar_of(r_peer), own = x_bar_of(&exchange_r[i]);
    switch (i % 12) {
    case 4:
        *peer = point_mul(&x, r_peer);
        *peer = point_negate(peer);
        break;
    case 5:
        *peer = point_mul(&x, r_peer);
        break;
    case 6:
        exchange_d[i] = scalar_mul(&own, &scheme.k[i]);
        exchange_d[i] = scalar_sub(&zero, &exchange_d[i]);
        break;
    case 7:
        *peer = infinity;
        break;
    case 8:
        if (exchange[i].initiator)
            exchange[i].r_b = &infinity;
        else
            exchange[i].r_a = &infinity;
        break;
    case 9:
        *peer = exchange_r[other];
        break;
    default:
        break;
    }
}

static void fill_exchanges(void)
{
    struct seeded s = {48};
    fill_scheme(47);
    for (size_t i = 0; i < SCHEME_CASES; i++) {
        if (scalar_is_zero(&scheme.k[i]))
            scheme.k[i] = seeded_scalar(&s);
        exchange_r[i] = point_mul_base(&scheme.k[i]);
        exchange_d[i] = scheme.key[i].d;
    }
    for (size_t i = 0; i < SCHEME_CASES; i++) {
        const size_t other = (i + 1) % SCHEME_CASES;
        const bool initiator = i % 2 == 0;
        exchange_peer[i] = scheme.key[other].p;
        exchange[i] = (struct sm2_exchange_in){.initiator = initiator,
                                               .d = &exchange_d[i],
                                               .r = &scheme.k[i],
                                               .r_a = &exchange_r[initiator ? i : other],
                                               .r_b = &exchange_r[initiator ? other : i],
                                               .p_peer = &exchange_peer[i],
                                               .z_a = &scheme.e[initiator ? i : other],
                                               .z_b = &scheme.e[initiator ? other : i]};
        disturb_exchange(i);
    }
}

static void exchanges_agree(void **state)
{
    (void)state;
    fill_exchanges();
    const struct operation op = {.name = "sm2_exchange",
                                 .result_size = sizeof(struct maybe_exchange),
                                 .count = SCHEME_CASES,
                                 .single = exchange_single,
                                 .batch = exchange_batch};
    assert_paths_agree(&op);
    struct maybe_exchange result = {0};
    for (size_t i = 0; i < 48; i++) {
        exchange_single(&result, i);
        assert_int_equal(result.ok, i % 12 != 4 && (i % 12 < 6 || i % 12 > 8));
    }
}

/* --- sums of many products -------------------------------------------------------------------- */

#define SUM_MAX 2100

static bool sum_is(const scalar *c, const point *p, const scalar *k, size_t count,
                   size_t short_from)
{
    static struct seeded s = {49};
    const scalar blind[2] = {seeded_scalar(&s), seeded_scalar(&s)};
    point *points = exact(p, count * sizeof *p);
    scalar *factors = exact(k, count * sizeof *k);
    bool out = sm2_path()->sum_is(c, points, factors, count, short_from, blind);
    free(points);
    free(factors);
    return out;
}

/* p[i] = d[i] G; c is the sum of k[i] d[i]. Anything changed makes it false. */
static void assert_sum(const point *p, const scalar *d, scalar *k, size_t count, size_t short_from)
{
    static const scalar one = {{1}};
    scalar c = zero, kept;
    for (size_t i = 0; i < count; i++) {
        scalar kd = scalar_mul(&k[i], &d[i]);
        c = scalar_add(&c, &kd);
    }
    assert_true(sum_is(&c, p, k, count, short_from));
    scalar wrong = scalar_add(&c, &one);
    assert_false(sum_is(&wrong, p, k, count, short_from));
    wrong = scalar_sub(&zero, &c);
    assert_false(sum_is(&wrong, p, k, count, short_from));
    for (size_t i = 0; i < count; i += count / 5 + 1) {
        kept = k[i];
        k[i].w[i % 2] ^= UINT64_C(1) << 7 * i % 63;
        assert_false(sum_is(&c, p, k, count, short_from));
        k[i] = kept;
    }
}

/* What verification in bulk rests on. test_verify.c would not see a sum that never holds, because
 * each signature is checked by itself then. */
static void sums_of_many_products_are_recognised(void **state)
{
    static const size_t counts[] = {1, 2, 3, 8, 17, 33, 64, 100, 257, 512, 1024, SUM_MAX};
    static scalar d[SUM_MAX], k[SUM_MAX];
    static point p[SUM_MAX];
    struct paths paths = paths_of_this_processor();
    struct seeded s = {50};
    (void)state;
    while (path_next(&paths) != NULL) {
        for (size_t i = 0; i < SUM_MAX; i++)
            d[i] = seeded_scalar(&s);
        point_mul_base_batch(p, d, SUM_MAX);
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
            for (size_t part = 0; part < 3; part++) { /* no, half and all of the factors short */
                const size_t count = counts[i], short_from = count - part * count / 2;
                for (size_t j = 0; j < count; j++) {
                    k[j] = seeded_scalar(&s);
                    if (j >= short_from)
                        k[j] = (scalar){{k[j].w[0], k[j].w[1] >> 1, 0, 0}};
                }
                assert_sum(p, d, k, count, short_from);
            }
    }
}

/* --- the choice of a path --------------------------------------------------------------------- */

static void paths_have_names(void **state)
{
    size_t count = 0;
    (void)state;
    while (sm2_path_names[count] != NULL)
        count++;
    assert_in_range(count, 1, PATHS_MAX);
    assert_string_equal(sm2_path_names[count - 1], "portable"); /* the slowest */
    assert_null(sm2_path_named("quick"));
    assert_null(sm2_path_named(""));
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_have_names),
        cmocka_unit_test(inverses_agree),
        cmocka_unit_test(products_of_g_agree),
        cmocka_unit_test(products_of_points_agree),
        cmocka_unit_test(products_of_every_point_agree),
        cmocka_unit_test(sums_with_public_products_agree),
        cmocka_unit_test(sums_with_a_table_agree),
        cmocka_unit_test(sums_agree),
        cmocka_unit_test(decodings_agree),
        cmocka_unit_test(private_keys_agree),
        cmocka_unit_test(signatures_agree),
        cmocka_unit_test(signatures_with_nonce_agree),
        cmocka_unit_test(implicit_keys_agree),
        cmocka_unit_test(issued_certificates_agree),
        cmocka_unit_test(encapsulations_agree),
        cmocka_unit_test(decapsulations_agree),
        cmocka_unit_test(encryptions_agree),
        cmocka_unit_test(hashes_to_the_curve_agree),
        cmocka_unit_test(exchanges_agree),
        cmocka_unit_test(sums_of_many_products_are_recognised),
    };
    return cmocka_run_group_tests(tests, fill_lists, NULL);
}
