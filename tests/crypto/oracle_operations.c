/* The operations of oracle-long: their inputs, their oracles, and how the library does them.
 *
 * Inputs are biased to where mistakes live: edge scalars, points with telling coordinates, sums
 * that double or cancel. Products for them come from OpenSSL, so that a wrong library cannot make
 * its own inputs easy. scalar_mul and its kind do help to make inputs; if they were wrong,
 * signatures would turn bad for both sides, and the driver counts how many are good.
 */
#include "oracle_long.h"

#include "crypto/sm2.h"

#include <stdlib.h>
#include <string.h>

static const scalar zero = {{0}}, one = {{1}};
static const point infinity = {{0}, {0}};

#define INFO SPAN_LITERAL("oracle-long")

/* --- material --------------------------------------------------------------------------------- */

static void put_pair(struct pairs *out, struct oracle *o, const scalar *d)
{
    out->d[out->count] = *d;
    out->p[out->count++] = openssl_mul_base(&o->openssl, d);
}

/* Points with x in [n, p), counted from both ends. */
static void find_beyond_n(struct material *m, struct oracle *o)
{
    uint8_t ends[2][32];
    static const scalar minus_1_mod_p = {
        {UINT64_MAX - 1, UINT64_C(0xffffffff00000000), UINT64_MAX, UINT64_C(0xfffffffeffffffff)}};
    scalar n = scalar_sub(&zero, &one);
    n.w[0]++; /* n itself is odd, so there is no carry */
    openssl_scalar_bytes(ends[0], &n);
    openssl_scalar_bytes(ends[1], &minus_1_mod_p);
    for (uint64_t i = 0; m->beyonds < sizeof m->beyond_n / sizeof m->beyond_n[0]; i++) {
        point_bytes in = {{(uint8_t)(2 + i % 2)}};
        memcpy(in.b + 1, ends[i / 2 % 2], 32);
        uint64_t low = load_be64(in.b + 25);
        store_be64(in.b + 25, i / 2 % 2 == 0 ? low + i / 4 : low - i / 4);
        m->beyonds += openssl_decode(&o->openssl, &m->beyond_n[m->beyonds], &in);
    }
}

void material_make(struct material *out, struct oracle *o, uint64_t seed)
{
    struct seeded s = {seed ^ UINT64_C(0x6d6174657269616c)};
    memset(out, 0, sizeof *out);
    out->edges = edge_scalars(out->edge, EDGE_SCALARS_MAX);
    out->specials = special_points(out->special, SPECIAL_POINTS_MAX);
    find_beyond_n(out, o);
    for (uint64_t v = 1; v <= SMALL; v++) {
        scalar d = {{v}};
        put_pair(&out->small, o, &d);
        d = scalar_sub(&zero, &d);
        if (v > 1)
            put_pair(&out->small, o, &d);
    }
    for (size_t i = 0; i < 4; i++)
        put_pair(&out->known, o, &out->small.d[i]);
    while (out->known.count < KNOWN_SIGNERS) {
        scalar d = seeded_scalar(&s);
        put_pair(&out->known, o, &d);
    }
}

/* Random keys, cheaply: each is the one before plus a random difference. */
static void make_pool(struct chunk *c, struct oracle *o)
{
    struct pairs *pool = &c->pool;
    scalar d = seeded_scalar(&c->seeded), step = seeded_scalar(&c->seeded);
    point step_g = openssl_mul_base(&o->openssl, &step);
    pool->count = 0;
    put_pair(pool, o, &d);
    for (; pool->count < POOL; pool->count++) {
        const size_t i = pool->count;
        pool->d[i] = scalar_add(&pool->d[i - 1], &step);
        pool->p[i] = openssl_add(&o->openssl, &pool->p[i - 1], &step_g);
    }
}

void chunk_make(struct chunk *c, const struct operation *op, struct oracle *o, uint64_t seed)
{
    struct seeded s = {seed};
    for (const char *at = op->name; *at != 0; at++)
        s.state = seeded_u64(&s) ^ (uint8_t)*at;
    s.state = seeded_u64(&s) ^ c->number;
    c->seeded = (struct seeded){seeded_u64(&s)};
    make_pool(c, o);
    /* G and its neighbours first, then keys of no distinction. */
    const struct pairs *from = c->number % 4 == 0 ? &c->material->small : &c->pool;
    size_t at = c->number % 4 == 0 ? c->number / 4 % from->count : 0;
    c->d = from->d[at];
    c->p = from->p[at];
    memset(c->in, 0, sizeof c->in);
    for (size_t i = 0; i < c->count; i++)
        op->make(o, c, i);
}

/* --- biased inputs ---------------------------------------------------------------------------- */

static size_t below(struct chunk *c, size_t limit)
{
    return seeded_below(&c->seeded, limit);
}

static scalar edge(struct chunk *c)
{
    return c->material->edge[below(c, c->material->edges)];
}

static scalar some_scalar(struct chunk *c)
{
    scalar a, b;
    switch (below(c, 8)) {
    case 0:
        return c->material->edge[below(c, 80)]; /* small, and their negatives */
    case 1:
        return edge(c);
    case 2: /* two runs, two windows, ... */
        a = edge(c);
        b = edge(c);
        return scalar_add(&a, &b);
    case 3: /* one window of any place */
        a = (scalar){{0}};
        a.w[below(c, 4)] = (1 + (uint64_t)below(c, 255)) << below(c, 56);
        return a;
    default:
        return seeded_scalar(&c->seeded);
    }
}

/* Not infinity. */
static point some_point(struct chunk *c)
{
    const struct material *m = c->material;
    switch (below(c, 8)) {
    case 0:
        return m->special[below(c, m->specials)];
    case 1:
        return m->small.p[below(c, m->small.count)];
    default:
        return c->pool.p[below(c, c->pool.count)];
    }
}

/* A private key and its public key. */
static void some_pair(struct chunk *c, scalar *d, point *p)
{
    const struct pairs *from = below(c, 6) == 0 ? &c->material->small : &c->pool;
    const size_t at = below(c, from->count);
    *d = from->d[at];
    *p = from->p[at];
}

static sm3_digest some_digest(struct chunk *c)
{
    sm3_digest out;
    seeded_bytes(&c->seeded, out.b, sizeof out.b);
    if (below(c, 64) == 0) /* n and above too */
        memset(out.b, below(c, 2) == 0 ? 0xff : 0, sizeof out.b - below(c, 9));
    return out;
}

/* --- results ---------------------------------------------------------------------------------- */

static void put_point(struct result *out, const point *p)
{
    out->ok = 1;
    memcpy(out->bytes, p, sizeof *p);
}

static void put_scalar(struct result *out, const scalar *k)
{
    out->ok = 1;
    memcpy(out->bytes, k, sizeof *k);
}

static void put_points(struct result *out, const point *p, const bool *ok, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (ok == NULL || ok[i])
            put_point(&out[i], &p[i]);
}

static scalar x_mod_n(struct oracle *o, const point *p)
{
    uint8_t xy[SM2_XY_BYTES];
    openssl_xy(xy, p);
    return openssl_scalar_reduce(&o->openssl, xy, 32);
}

/* Arrays that a batch call wants, out of the inputs. */
static void gather(const struct input *in, size_t count, scalar *a, scalar *b, point *p, point *q)
{
    for (size_t i = 0; i < count; i++) {
        if (a != NULL)
            a[i] = in[i].a;
        if (b != NULL)
            b[i] = in[i].b;
        if (p != NULL)
            p[i] = in[i].p;
        if (q != NULL)
            q[i] = in[i].q;
    }
}

/* --- scalars ---------------------------------------------------------------------------------- */

static void two_scalars_make(struct oracle *o, struct chunk *c, size_t i)
{
    (void)o;
    c->in[i].a = some_scalar(c);
    c->in[i].b = some_scalar(c);
}

static void inverse_expect(struct oracle *o, const struct chunk *c, size_t i, struct result *out)
{
    scalar k = openssl_scalar_inverse(&o->openssl, &c->in[i].a);
    put_scalar(out, &k);
}

static void inverse_run(const struct chunk *c, const struct input *in, struct result *out,
                        size_t count)
{
    static scalar a[CHUNK], inverse[CHUNK];
    (void)c;
    gather(in, count, a, NULL, NULL, NULL);
    scalar_inverse_batch(inverse, a, count);
    for (size_t i = 0; i < count; i++) {
        put_scalar(&out[i], &inverse[i]);
        inverse[i] = scalar_inverse(&a[i]);
        if (memcmp(out[i].bytes, &inverse[i], sizeof inverse[i]) != 0)
            out[i].ok = 2; /* the two forms differ */
    }
}

static void mul_expect(struct oracle *o, const struct chunk *c, size_t i, struct result *out)
{
    scalar k = openssl_scalar_mul(&o->openssl, &c->in[i].a, &c->in[i].b);
    put_scalar(out, &k);
}

static void mul_run(const struct chunk *c, const struct input *in, struct result *out, size_t count)
{
    (void)c;
    for (size_t i = 0; i < count; i++) {
        scalar k = scalar_mul(&in[i].a, &in[i].b);
        put_scalar(&out[i], &k);
    }
}

static void add_expect(struct oracle *o, const struct chunk *c, size_t i, struct result *out)
{
    scalar sum = openssl_scalar_add(&o->openssl, &c->in[i].a, &c->in[i].b);
    scalar difference = openssl_scalar_sub(&o->openssl, &c->in[i].a, &c->in[i].b);
    put_scalar(out, &sum);
    memcpy(out->bytes + sizeof sum, &difference, sizeof difference);
}

static void add_run(const struct chunk *c, const struct input *in, struct result *out, size_t count)
{
    (void)c;
    for (size_t i = 0; i < count; i++) {
        scalar sum = scalar_add(&in[i].a, &in[i].b), difference = scalar_sub(&in[i].a, &in[i].b);
        put_scalar(&out[i], &sum);
        memcpy(out[i].bytes + sizeof sum, &difference, sizeof difference);
    }
}

/* --- products --------------------------------------------------------------------------------- */

static gcry_mpi_t mpi_of(const void *bytes, size_t size)
{
    gcry_mpi_t out = NULL;
    if (gcry_mpi_scan(&out, GCRYMPI_FMT_USG, bytes, size, NULL) != 0)
        oracle_die("libgcrypt cannot read a number");
    return out;
}

static bool mpi_is(gcry_mpi_t m, const uint8_t bytes[32])
{
    gcry_mpi_t other = mpi_of(bytes, 32);
    const bool same = gcry_mpi_cmp(m, other) == 0;
    gcry_mpi_release(other);
    return same;
}

/* libgcrypt's opinion on k p, which OpenSSL says is `expected`. */
static void ask_libgcrypt(struct oracle *o, const scalar *k, const point *p, const point *expected)
{
    uint8_t b[SM2_SCALAR_BYTES], xy[SM2_XY_BYTES];
    openssl_scalar_bytes(b, k);
    openssl_xy(xy, p);
    gcry_mpi_t factor = mpi_of(b, sizeof b), x = mpi_of(xy, 32), y = mpi_of(xy + 32, 32);
    gcry_mpi_point_t operand = gcry_mpi_point_set(NULL, x, y, GCRYMPI_CONST_ONE);
    gcry_mpi_point_t product = gcry_mpi_point_new(0);
    gcry_mpi_ec_mul(product, factor, operand, o->gcrypt);
    const bool finite = gcry_mpi_ec_get_affine(x, y, product, o->gcrypt) == 0;
    openssl_xy(xy, expected);
    if (finite == (memcmp(expected, &infinity, sizeof infinity) == 0) ||
        (finite && (!mpi_is(x, xy) || !mpi_is(y, xy + 32))))
        oracle_die("OpenSSL and libgcrypt do not agree on a product");
    gcry_mpi_point_release(operand);
    gcry_mpi_point_release(product);
    gcry_mpi_release(factor);
    gcry_mpi_release(x);
    gcry_mpi_release(y);
}

#define LIBGCRYPT_EVERY 16

static void mul_base_expect(struct oracle *o, const struct chunk *c, size_t i, struct result *out)
{
    point r = openssl_mul_base(&o->openssl, &c->in[i].a);
    put_point(out, &r);
    if (i % LIBGCRYPT_EVERY == 0)
        ask_libgcrypt(o, &c->in[i].a, &c->material->small.p[0], &r);
}

static void mul_base_run(const struct chunk *c, const struct input *in, struct result *out,
                         size_t count)
{
    static scalar a[CHUNK];
    static point r[CHUNK];
    (void)c;
    gather(in, count, a, NULL, NULL, NULL);
    point_mul_base_batch(r, a, count);
    put_points(out, r, NULL, count);
}

static void mul_var_make(struct oracle *o, struct chunk *c, size_t i)
{
    (void)o;
    c->in[i].a = some_scalar(c);
    c->in[i].p = below(c, 64) == 0 ? infinity : some_point(c);
}

static void mul_var_expect(struct oracle *o, const struct chunk *c, size_t i, struct result *out)
{
    const struct input *in = &c->in[i];
    point r = openssl_mul(&o->openssl, &in->a, &in->p);
    put_point(out, &r);
    if (i % LIBGCRYPT_EVERY == 1 && memcmp(&in->p, &infinity, sizeof infinity) != 0)
        ask_libgcrypt(o, &in->a, &in->p, &r);
}

static void mul_var_run(const struct chunk *c, const struct input *in, struct result *out,
                        size_t count)
{
    static scalar a[CHUNK];
    static point p[CHUNK], r[CHUNK];
    (void)c;
    gather(in, count, a, NULL, p, NULL);
    point_mul_batch(r, a, p, count);
    put_points(out, r, NULL, count);
}

/* Short b as in key exchange; q = b p and q = -b p; infinities. */
static void mul_add_make(struct oracle *o, struct chunk *c, size_t i)
{
    struct input *in = &c->in[i];
    in->b = some_scalar(c);
    if (below(c, 4) == 0)
        in->b.w[2] = in->b.w[3] = 0;
    in->p = below(c, 64) == 0 ? infinity : some_point(c);
    switch (below(c, 24)) {
    case 0:
        in->q = openssl_mul(&o->openssl, &in->b, &in->p);
        break;
    case 1:
        in->q = openssl_mul(&o->openssl, &in->b, &in->p);
        in->q = openssl_negate(&o->openssl, &in->q);
        break;
    case 2:
        in->q = in->p;
        break;
    case 3:
        in->q = openssl_negate(&o->openssl, &in->p);
        break;
    case 4:
        in->q = infinity;
        break;
    default:
        in->q = some_point(c);
    }
}

static void mul_add_expect(struct oracle *o, const struct chunk *c, size_t i, struct result *out)
{
    const struct input *in = &c->in[i];
    point bp = openssl_mul(&o->openssl, &in->b, &in->p);
    bp = openssl_add(&o->openssl, &in->q, &bp);
    put_point(out, &bp);
}

static void mul_add_run(const struct chunk *c, const struct input *in, struct result *out,
                        size_t count)
{
    static scalar b[CHUNK];
    static point p[CHUNK], q[CHUNK], r[CHUNK];
    (void)c;
    gather(in, count, NULL, b, p, q);
    point_mul_add_public_batch(r, q, b, p, count);
    put_points(out, r, NULL, count);
}

/* a = +-b d, where the two sums meet, for the table's private key d. */
static void base_table_make(struct oracle *o, struct chunk *c, size_t i)
{
    struct input *in = &c->in[i];
    (void)o;
    in->b = some_scalar(c);
    in->a = some_scalar(c);
    const size_t relation = below(c, 16);
    if (relation < 2)
        in->a = scalar_mul(&in->b, &c->d);
    if (relation == 1)
        in->a = scalar_sub(&zero, &in->a);
}

static void base_table_expect(struct oracle *o, const struct chunk *c, size_t i, struct result *out)
{
    point r = openssl_mul_add(&o->openssl, &c->in[i].a, &c->in[i].b, &c->p);
    put_point(out, &r);
}

static void base_table_run(const struct chunk *c, const struct input *in, struct result *out,
                           size_t count)
{
    static scalar a[CHUNK], b[CHUNK];
    static point r[CHUNK];
    struct point_table *table = point_table_new(&c->p);
    if (table == NULL)
        oracle_die("out of memory");
    gather(in, count, a, b, NULL, NULL);
    point_mul_base_table_batch(r, a, b, table, count);
    point_table_free(table);
    put_points(out, r, NULL, count);
}

/* --- encodings -------------------------------------------------------------------------------- */

static void some_encoding(struct chunk *c, point_bytes *out)
{
    point p = some_point(c);
    scalar x = edge(c);
    uint8_t xy[SM2_XY_BYTES];
    openssl_xy(xy, &p);
    out->b[0] = (uint8_t)(2 + below(c, 2));
    memcpy(out->b + 1, xy, 32);
    switch (below(c, 16)) {
    case 0: /* on the curve or not */
        openssl_scalar_bytes(out->b + 1, &x);
        break;
    case 1:
    case 2:
        seeded_bytes(&c->seeded, out->b + 1, 32);
        break;
    case 3: /* p and above, or just below */
        memset(out->b + 1, 0xff, 32);
        out->b[4] = 0xfe;
        if (below(c, 2) == 0)
            memset(out->b + 21, 0, 4);
        out->b[32] = (uint8_t)(0xff - below(c, 40));
        break;
    case 4:
        out->b[0] = (uint8_t)below(c, 256);
        break;
    default:
        break;
    }
}

static void decode_make(struct oracle *o, struct chunk *c, size_t i)
{
    (void)o;
    some_encoding(c, &c->in[i].encoded);
}

/* OpenSSL takes more: 02 and 03 are what travels here. */
static bool decode(struct oracle *o, point *out, const point_bytes *in)
{
    return (in->b[0] == 2 || in->b[0] == 3) && openssl_decode(&o->openssl, out, in);
}

static void decode_expect(struct oracle *o, const struct chunk *c, size_t i, struct result *out)
{
    point p;
    if (decode(o, &p, &c->in[i].encoded))
        put_point(out, &p);
}

/* Whether `status` says the same as ok[]. */
static void check_status(enum ami_status status, const bool *ok, size_t count)
{
    bool all = true;
    for (size_t i = 0; i < count; i++)
        all = all && ok[i];
    if ((status == AMI_OK) != all)
        oracle_die("a batch's status is not what its parts say");
}

static void decode_run(const struct chunk *c, const struct input *in, struct result *out,
                       size_t count)
{
    static point_bytes encoded[CHUNK];
    static point p[CHUNK];
    static bool ok[CHUNK];
    (void)c;
    for (size_t i = 0; i < count; i++)
        encoded[i] = in[i].encoded;
    check_status(point_decode_batch(p, ok, encoded, count), ok, count);
    put_points(out, p, ok, count);
}

/* --- signatures ------------------------------------------------------------------------------- */

/* sm2_private's of the inputs' a. */
static void private_keys(sm2_private *out, const struct input *in, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (sm2_private_init(&out[i], &in[i].a) != AMI_OK)
            oracle_die("a private key is refused");
}

static void sign_make(struct oracle *o, struct chunk *c, size_t i)
{
    struct input *in = &c->in[i];
    (void)o;
    some_pair(c, &in->a, &in->p);
    in->e = some_digest(c);
    seeded_bytes(&c->seeded, in->random, below(c, 64) == 0 ? 0 : sizeof in->random);
}

/* Good, and R has the even y that crypto/sm2.h promises. */
static bool sign_judge(struct oracle *o, const struct chunk *c, size_t i, const struct result *got)
{
    const struct input *in = &c->in[i];
    sm2_signature sig;
    point r_point;
    memcpy(&sig, got->bytes, sizeof sig);
    return openssl_verify(&o->openssl, &in->p, &in->e, &sig, &r_point) && r_point.y[0] % 2 == 0;
}

static void put_signature(struct result *out, const sm2_signature *sig)
{
    out->ok = 1;
    memcpy(out->bytes, sig, sizeof *sig);
}

static void sign_run(const struct chunk *c, const struct input *in, struct result *out,
                     size_t count)
{
    static sm2_private key[CHUNK];
    static const sm2_private *keys[CHUNK];
    static sm3_digest e[CHUNK];
    static uint8_t random[CHUNK][SM2_WIDE_BYTES];
    static sm2_signature sig[CHUNK];
    (void)c;
    private_keys(key, in, count);
    for (size_t i = 0; i < count; i++) {
        keys[i] = &key[i];
        e[i] = in[i].e;
        memcpy(random[i], in[i].random, sizeof random[i]);
    }
    sm2_sign_batch(sig, keys, e, (const uint8_t(*)[SM2_WIDE_BYTES])random, count);
    for (size_t i = 0; i < count; i++)
        put_signature(&out[i], &sig[i]);
}

/* e = -x makes r zero, e = -x - k makes r + k zero, e = k / d - x makes s zero. */
static void refuse_nonce(struct oracle *o, struct chunk *c, struct input *in)
{
    point kg = openssl_mul_base(&o->openssl, &in->b);
    scalar x = x_mod_n(o, &kg), d_inverse = scalar_inverse(&in->a);
    scalar r[3] = {zero, scalar_sub(&zero, &in->b), scalar_mul(&in->b, &d_inverse)};
    scalar e = scalar_sub(&r[below(c, 3)], &x);
    openssl_scalar_bytes(in->e.b, &e);
}

static void sign_with_nonce_make(struct oracle *o, struct chunk *c, size_t i)
{
    struct input *in = &c->in[i];
    some_pair(c, &in->a, &in->p);
    in->b = some_scalar(c);
    in->e = some_digest(c);
    if (below(c, 32) == 0)
        refuse_nonce(o, c, in);
}

static void sign_with_nonce_expect(struct oracle *o, const struct chunk *c, size_t i,
                                   struct result *out)
{
    const struct input *in = &c->in[i];
    sm2_signature sig;
    if (openssl_sign(&o->openssl, &sig, &in->a, &in->e, &in->b))
        put_signature(out, &sig);
}

static void sign_with_nonce_run(const struct chunk *c, const struct input *in, struct result *out,
                                size_t count)
{
    (void)c;
    for (size_t i = 0; i < count; i++) {
        sm2_private key;
        sm2_signature sig;
        private_keys(&key, &in[i], 1);
        if (sm2_sign_with_nonce(&sig, &key, &in[i].e, &in[i].b) == AMI_OK)
            put_signature(&out[i], &sig);
    }
}

/* --- verification ----------------------------------------------------------------------------- */

static void put_r_s(struct input *in, const scalar *r, const scalar *s)
{
    openssl_scalar_bytes(in->sig.b, r);
    openssl_scalar_bytes(in->sig.b + 32, s);
}

/* By the standard, without a product: the nonce is another key of the pool, so k G is at hand.
 * y of R is even, unless `any` parity is asked for. */
static void good_signature(struct oracle *o, struct chunk *c, struct input *in, const scalar *d,
                           bool any)
{
    const size_t at = below(c, c->pool.count);
    scalar k = c->pool.d[at], x = x_mod_n(o, &c->pool.p[at]);
    const bool odd = c->pool.p[at].y[0] % 2 == 1;
    if (any ? below(c, 2) == 0 : odd)
        k = scalar_sub(&zero, &k);
    in->e = some_digest(c);
    scalar e = scalar_reduce(in->e.b), r = scalar_add(&e, &x), d_plus_1 = scalar_add(d, &one);
    scalar s = scalar_add(&k, &r), inverse = scalar_inverse(&d_plus_1);
    s = scalar_mul(&s, &inverse); /* (1 + d)^-1 (k + r) - r = (1 + d)^-1 (k - r d) */
    s = scalar_sub(&s, &r);
    put_r_s(in, &r, &s);
}

/* s and t chosen beforehand, e to fit; also s G = +-t P. */
static void signature_from_s_t(struct oracle *o, struct chunk *c, struct input *in, const scalar *d)
{
    scalar s = some_scalar(c), t = some_scalar(c);
    const size_t relation = below(c, 4);
    if (relation < 2)
        s = scalar_mul(&t, d);
    if (relation == 1)
        s = scalar_sub(&zero, &s);
    point r_point = openssl_mul_add(&o->openssl, &s, &t, &in->p);
    scalar x = x_mod_n(o, &r_point), r = scalar_sub(&t, &s), e = scalar_sub(&r, &x);
    openssl_scalar_bytes(in->e.b, &e);
    put_r_s(in, &r, &s);
}

/* R with x in [n, p), P and e to fit: P is nobody's key. */
static void signature_beyond_n(struct oracle *o, struct chunk *c, struct input *in)
{
    const point *r_point = &c->material->beyond_n[below(c, c->material->beyonds)];
    scalar s = seeded_scalar(&c->seeded), t = seeded_scalar(&c->seeded);
    point sg = openssl_mul_base(&o->openssl, &s);
    sg = openssl_negate(&o->openssl, &sg);
    sg = openssl_add(&o->openssl, r_point, &sg);
    scalar t_inverse = scalar_inverse(&t), x = x_mod_n(o, r_point), r = scalar_sub(&t, &s);
    in->p = openssl_mul(&o->openssl, &t_inverse, &sg);
    scalar e = scalar_sub(&r, &x);
    openssl_scalar_bytes(in->e.b, &e);
    put_r_s(in, &r, &s);
}

static void spoil(struct oracle *o, struct chunk *c, struct input *in)
{
    const size_t half = 32 * below(c, 2);
    const uint8_t mask = (uint8_t)(1 << below(c, 8));
    scalar n_minus_1 = scalar_sub(&zero, &one);
    switch (below(c, 8)) {
    case 0:
    case 1:
    case 2:
        in->sig.b[half + below(c, 32)] ^= mask;
        break;
    case 3:
        in->e.b[below(c, 32)] ^= mask;
        break;
    case 4:
        in->p = openssl_negate(&o->openssl, &in->p);
        break;
    case 5: /* 0, n, n + 1, ... */
        openssl_scalar_bytes(in->sig.b + half, &n_minus_1);
        in->sig.b[half + 31] = (uint8_t)(in->sig.b[half + 31] + 1 + below(c, 3));
        if (below(c, 2) == 0)
            memset(in->sig.b + half, 0, 32);
        break;
    case 6:
        in->p = below(c, 4) == 0 ? infinity : some_point(c);
        break;
    default: /* r + s = n */
        n_minus_1 = openssl_scalar_reduce(&o->openssl, in->sig.b, 32);
        n_minus_1 = scalar_sub(&zero, &n_minus_1);
        openssl_scalar_bytes(in->sig.b + 32, &n_minus_1);
    }
}

/* Chunks in turn: everything mixed; all good with even y, as sm2_sign makes them, which one sum
 * settles; the same with one bad. */
static void verify_make(struct oracle *o, struct chunk *c, size_t i, const struct pairs *keys)
{
    struct input *in = &c->in[i];
    const size_t at = below(c, keys->count);
    const bool mixed = c->number % 3 == 0;
    in->p = keys->p[at];
    good_signature(o, c, in, &keys->d[at], mixed);
    if (!mixed) {
        if (c->number % 3 == 2 && i == c->number * 37 % c->count)
            spoil(o, c, in);
        return;
    }
    switch (below(c, 16)) {
    case 0:
        signature_from_s_t(o, c, in, &keys->d[at]);
        break;
    case 1:
        signature_beyond_n(o, c, in);
        break;
    case 2:
    case 3:
    case 4:
    case 5:
        spoil(o, c, in);
        break;
    case 6: /* once more */
        *in = c->in[below(c, i + 1)];
        break;
    default:
        break;
    }
}

static void verify_unknown_make(struct oracle *o, struct chunk *c, size_t i)
{
    const struct pairs *from = below(c, 6) == 0 ? &c->material->small : &c->pool;
    verify_make(o, c, i, from);
}

/* One in four is by somebody else. */
static void verify_known_make(struct oracle *o, struct chunk *c, size_t i)
{
    verify_make(o, c, i, below(c, 4) == 0 ? &c->pool : &c->material->known);
}

static void verify_expect(struct oracle *o, const struct chunk *c, size_t i, struct result *out)
{
    const struct input *in = &c->in[i];
    out->ok = openssl_verify(&o->openssl, &in->p, &in->e, &in->sig, NULL);
}

static void verify_run(const struct chunk *c, const struct input *in, struct result *out,
                       size_t count)
{
    static point p[CHUNK];
    static sm3_digest e[CHUNK];
    static sm2_signature sig[CHUNK];
    static bool ok[CHUNK];
    (void)c;
    for (size_t i = 0; i < count; i++) {
        p[i] = in[i].p;
        e[i] = in[i].e;
        sig[i] = in[i].sig;
    }
    check_status(sm2_verify_batch(p, e, sig, ok, count), ok, count);
    for (size_t i = 0; i < count; i++) {
        out[i].ok = ok[i];
        /* The single form may say nothing else. */
        if (i % 4 == 0 && (sm2_verify(&p[i], &e[i], &sig[i]) == AMI_OK) != ok[i])
            out[i].ok = 2;
    }
}

/* --- implicit certificates -------------------------------------------------------------------- */

/* W = +-lambda P_pub cannot be made, as lambda hangs on W; test_paths.c turns it round. */
static void implicit_make(struct oracle *o, struct chunk *c, size_t i)
{
    (void)o;
    c->in[i].p = below(c, 64) == 0 ? infinity : some_point(c);
    c->in[i].h = some_digest(c);
}

static void implicit_expect(struct oracle *o, const struct chunk *c, size_t i, struct result *out)
{
    const struct input *in = &c->in[i];
    uint8_t xy[SM2_XY_BYTES];
    if (memcmp(&in->p, &infinity, sizeof infinity) == 0)
        return;
    openssl_xy(xy, &in->p);
    struct span parts[] = {span_of(xy, sizeof xy), span_of(in->h.b, sizeof in->h.b)};
    sm3_digest digest = openssl_sm3(parts, 2);
    scalar lambda = openssl_scalar_reduce(&o->openssl, digest.b, sizeof digest.b);
    point r = openssl_mul(&o->openssl, &lambda, &c->p);
    r = openssl_add(&o->openssl, &in->p, &r);
    if (memcmp(&r, &infinity, sizeof infinity) != 0)
        put_point(out, &r);
}

static void implicit_run(const struct chunk *c, const struct input *in, struct result *out,
                         size_t count)
{
    static point w[CHUNK], r[CHUNK];
    static sm3_digest h_a[CHUNK];
    static bool ok[CHUNK];
    /* Every other P_pub has a table. */
    if (c->number % 2 == 1 && sm2_signer_remember(&c->p) != AMI_OK)
        oracle_die("a signer cannot be remembered");
    gather(in, count, NULL, NULL, w, NULL);
    for (size_t i = 0; i < count; i++)
        h_a[i] = in[i].h;
    check_status(sm2_implicit_public_batch(r, ok, w, h_a, &c->p, count), ok, count);
    put_points(out, r, ok, count);
}

/* --- encapsulation ---------------------------------------------------------------------------- */

/* KDF(x || y || info) of d C1. False: C1 is no point. */
static bool shared_key(struct oracle *o, uint8_t key[SM2_SHARED_KEY_BYTES], const scalar *d,
                       const point_bytes *c1)
{
    point p;
    uint8_t xy[SM2_XY_BYTES];
    if (!decode(o, &p, c1))
        return false;
    p = openssl_mul(&o->openssl, d, &p);
    openssl_xy(xy, &p);
    struct span parts[] = {span_of(xy, sizeof xy), INFO};
    openssl_kdf(key, SM2_SHARED_KEY_BYTES, parts, 2);
    return true;
}

static void encapsulate_make(struct oracle *o, struct chunk *c, size_t i)
{
    (void)o;
    seeded_bytes(&c->seeded, c->in[i].random, sizeof c->in[i].random);
}

static bool encapsulate_judge(struct oracle *o, const struct chunk *c, size_t i,
                              const struct result *got)
{
    point_bytes c1;
    uint8_t key[SM2_SHARED_KEY_BYTES];
    (void)i;
    memcpy(&c1, got->bytes, sizeof c1);
    return shared_key(o, key, &c->d, &c1) && memcmp(key, got->bytes + sizeof c1, sizeof key) == 0;
}

static void encapsulate_run(const struct chunk *c, const struct input *in, struct result *out,
                            size_t count)
{
    static point_bytes c1[CHUNK];
    static uint8_t key[CHUNK][SM2_SHARED_KEY_BYTES], random[CHUNK][SM2_WIDE_BYTES];
    for (size_t i = 0; i < count; i++)
        memcpy(random[i], in[i].random, sizeof random[i]);
    if (sm2_encapsulate_batch(c1, key, &c->p, INFO, (const uint8_t(*)[SM2_WIDE_BYTES])random,
                              count) != AMI_OK)
        oracle_die("an encapsulation is refused");
    for (size_t i = 0; i < count; i++) {
        out[i].ok = 1;
        memcpy(out[i].bytes, &c1[i], sizeof c1[i]);
        memcpy(out[i].bytes + sizeof c1[i], key[i], sizeof key[i]);
    }
}

static void decapsulate_expect(struct oracle *o, const struct chunk *c, size_t i,
                               struct result *out)
{
    out->ok = shared_key(o, out->bytes, &c->d, &c->in[i].encoded);
}

static void decapsulate_run(const struct chunk *c, const struct input *in, struct result *out,
                            size_t count)
{
    static point_bytes c1[CHUNK];
    static uint8_t key[CHUNK][SM2_SHARED_KEY_BYTES];
    static bool ok[CHUNK];
    struct input owner = {.a = c->d};
    sm2_private own;
    private_keys(&own, &owner, 1);
    for (size_t i = 0; i < count; i++)
        c1[i] = in[i].encoded;
    check_status(sm2_decapsulate_batch(key, ok, &own, c1, INFO, count), ok, count);
    for (size_t i = 0; i < count; i++) {
        out[i].ok = ok[i];
        memcpy(out[i].bytes, key[i], sizeof key[i]); /* wiped where it is false */
    }
}

/* --- key exchange ----------------------------------------------------------------------------- */

/* x' = 2^127 + (x mod 2^127), GB/T 32918.3 clause 6.1 with w = 127. */
static scalar x_bar(const point *p)
{
    return (scalar){{p->x[0], p->x[1] | UINT64_C(1) << 63, 0, 0}};
}

static const point *own_r(const struct input *in)
{
    return in->initiator ? &in->r_a : &in->r_b;
}

static const point *peer_r(const struct input *in)
{
    return in->initiator ? &in->r_b : &in->r_a;
}

/* A peer's key that leads to infinity or to a doubling, an own key that makes t zero. */
static void exchange_disturb(struct oracle *o, struct chunk *c, struct input *in)
{
    scalar own = x_bar(own_r(in)), peer = x_bar(peer_r(in));
    switch (below(c, 4)) {
    case 0:
        in->p = openssl_mul(&o->openssl, &peer, peer_r(in));
        break;
    case 1:
        in->p = openssl_mul(&o->openssl, &peer, peer_r(in));
        in->p = openssl_negate(&o->openssl, &in->p);
        break;
    case 2:
        own = scalar_mul(&own, &in->b);
        in->a = scalar_sub(&zero, &own);
        break;
    default:
        in->p = infinity;
    }
}

static void exchange_make(struct oracle *o, struct chunk *c, size_t i)
{
    struct input *in = &c->in[i];
    point own;
    in->initiator = below(c, 2);
    some_pair(c, &in->a, &own);
    some_pair(c, &in->b, &own);
    in->p = some_point(c);
    *(in->initiator ? &in->r_a : &in->r_b) = own;
    *(in->initiator ? &in->r_b : &in->r_a) = some_point(c);
    in->e = some_digest(c);
    in->h = some_digest(c);
    if (below(c, 12) == 0)
        exchange_disturb(o, c, in);
}

/* Clauses 6.1 and 6.2: V, then SM3(xV || Z_A || Z_B || R_A || R_B), S_A and S_B. */
static void exchange_expect(struct oracle *o, const struct chunk *c, size_t i, struct result *out)
{
    static const uint8_t two = 2, three = 3;
    const struct input *in = &c->in[i];
    struct openssl_group *g = &o->openssl;
    struct sm2_exchange_out x;
    uint8_t r_a[SM2_XY_BYTES], r_b[SM2_XY_BYTES];
    _Static_assert(sizeof x <= RESULT_BYTES, "a result has room for an exchange");
    if (memcmp(&in->p, &infinity, sizeof infinity) == 0)
        return;
    scalar own = x_bar(own_r(in)), peer = x_bar(peer_r(in)), t;
    t = openssl_scalar_mul(g, &own, &in->b);
    t = openssl_scalar_add(g, &in->a, &t);
    point v = openssl_mul(g, &peer, peer_r(in));
    v = openssl_add(g, &in->p, &v);
    v = openssl_mul(g, &t, &v);
    if (memcmp(&v, &infinity, sizeof infinity) == 0)
        return;
    openssl_xy(x.xy_v, &v);
    openssl_xy(r_a, &in->r_a);
    openssl_xy(r_b, &in->r_b);
    struct span inner[] = {span_of(x.xy_v, 32), span_of(in->e.b, 32), span_of(in->h.b, 32),
                           span_of(r_a, sizeof r_a), span_of(r_b, sizeof r_b)};
    x.inner = openssl_sm3(inner, 5);
    struct span outer[] = {span_of(&two, 1), span_of(x.xy_v + 32, 32), span_of(x.inner.b, 32)};
    x.s_b = openssl_sm3(outer, 3);
    outer[0] = span_of(&three, 1);
    x.s_a = openssl_sm3(outer, 3);
    out->ok = 1;
    memcpy(out->bytes, &x, sizeof x);
}

static void exchange_run(const struct chunk *c, const struct input *in, struct result *out,
                         size_t count)
{
    static struct sm2_exchange_in x[CHUNK];
    static struct sm2_exchange_out r[CHUNK];
    static bool ok[CHUNK];
    (void)c;
    for (size_t i = 0; i < count; i++)
        x[i] = (struct sm2_exchange_in){.initiator = in[i].initiator == 1,
                                        .d = &in[i].a,
                                        .r = &in[i].b,
                                        .r_a = &in[i].r_a,
                                        .r_b = &in[i].r_b,
                                        .p_peer = &in[i].p,
                                        .z_a = &in[i].e,
                                        .z_b = &in[i].h};
    check_status(sm2_exchange_batch(r, x, ok, count), ok, count);
    for (size_t i = 0; i < count; i++) {
        out[i].ok = ok[i];
        if (ok[i])
            memcpy(out[i].bytes, &r[i], sizeof r[i]);
    }
}

/* --- all of them ------------------------------------------------------------------------------ */

const struct operation operations[] = {
    {.name = "scalar_inverse",
     .text = "a^-1 mod n, alone and in batches",
     .make = two_scalars_make,
     .expect = inverse_expect,
     .run = inverse_run},
    {.name = "scalar_mul",
     .text = "a b mod n",
     .make = two_scalars_make,
     .expect = mul_expect,
     .run = mul_run},
    {.name = "scalar_add",
     .text = "a + b and a - b mod n",
     .make = two_scalars_make,
     .expect = add_expect,
     .run = add_run},
    {.name = "mul_base",
     .text = "a G; every 16th by libgcrypt, too",
     .make = two_scalars_make,
     .expect = mul_base_expect,
     .run = mul_base_run},
    {.name = "mul_var",
     .text = "a P; every 16th by libgcrypt, too",
     .make = mul_var_make,
     .expect = mul_var_expect,
     .run = mul_var_run},
    {.name = "mul_add_public",
     .text = "Q + b P",
     .make = mul_add_make,
     .expect = mul_add_expect,
     .run = mul_add_run},
    {.name = "mul_base_table",
     .text = "a G + b P by a table of P",
     .make = base_table_make,
     .expect = base_table_expect,
     .run = base_table_run},
    {.name = "decode",
     .text = "decompression of points and of what is none",
     .answers = true,
     .make = decode_make,
     .expect = decode_expect,
     .run = decode_run},
    {.name = "sign",
     .text = "with hedged nonces: verifies, and y of R is even",
     .make = sign_make,
     .judge = sign_judge,
     .run = sign_run},
    {.name = "sign_with_nonce",
     .text = "bit for bit as the standard's clause 6.1",
     .answers = true,
     .make = sign_with_nonce_make,
     .expect = sign_with_nonce_expect,
     .run = sign_with_nonce_run},
    {.name = "verify_unknown",
     .text = "good and bad signatures",
     .answers = true,
     .make = verify_unknown_make,
     .expect = verify_expect,
     .run = verify_run},
    {.name = "verify_known",
     .text = "the same, most signers remembered",
     .remember = true,
     .answers = true,
     .make = verify_known_make,
     .expect = verify_expect,
     .run = verify_run},
    {.name = "implicit_public",
     .text = "W + lambda P_pub",
     .answers = true,
     .make = implicit_make,
     .expect = implicit_expect,
     .run = implicit_run},
    {.name = "encapsulate",
     .text = "the recipient finds the same key",
     .make = encapsulate_make,
     .judge = encapsulate_judge,
     .run = encapsulate_run},
    {.name = "decapsulate",
     .text = "KDF of d C1, C1 a point or not",
     .answers = true,
     .make = decode_make,
     .expect = decapsulate_expect,
     .run = decapsulate_run},
    {.name = "exchange",
     .text = "V and both confirmations, either side",
     .answers = true,
     .make = exchange_make,
     .expect = exchange_expect,
     .run = exchange_run},
};
const size_t operation_count = sizeof operations / sizeof *operations;
