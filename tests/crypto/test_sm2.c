/* SM2's schemes: properties of our own, then both ways against OpenSSL and libgcrypt. */
#include "support.h"

#include "crypto/secret.h"

#include <gcrypt.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <stdlib.h>

static sm2_private seeded_key(struct seeded *s)
{
    sm2_private key;
    scalar d = seeded_scalar(s);
    assert_ok(sm2_private_init(&key, &d));
    return key;
}

static sm3_digest seeded_digest(struct seeded *s)
{
    sm3_digest d;
    seeded_bytes(s, d.b, sizeof d.b);
    return d;
}

/* --- signatures ------------------------------------------------------------------------------- */

static void private_keys_are_1_to_n_minus_2(void **state)
{
    (void)state;
    const scalar zero = {{0}}, one = scalar_of_small(1), two = scalar_of_small(2);
    scalar minus_one = scalar_sub(&zero, &one), minus_two = scalar_sub(&zero, &two);
    sm2_private key;
    assert_status(sm2_private_init(&key, &zero), AMI_BAD_CRYPTO);
    assert_status(sm2_private_init(&key, &minus_one), AMI_BAD_CRYPTO);
    const scalar *good[] = {&one, &two, &minus_two};
    struct seeded s = {1};
    for (int i = 0; i < 3; i++) {
        assert_ok(sm2_private_init(&key, good[i]));
        sm3_digest e = seeded_digest(&s);
        uint8_t random[SM2_WIDE_BYTES] = {0};
        sm2_signature sig = sm2_sign(&key, &e, random);
        assert_ok(sm2_verify(&key.p, &e, &sig));
    }
}

static void any_changed_bit_spoils_a_signature(void **state)
{
    (void)state;
    struct seeded s = {2};
    sm2_private key = seeded_key(&s), other = seeded_key(&s);
    sm3_digest e = seeded_digest(&s);
    uint8_t random[SM2_WIDE_BYTES];
    seeded_bytes(&s, random, sizeof random);
    sm2_signature sig = sm2_sign(&key, &e, random);
    assert_ok(sm2_verify(&key.p, &e, &sig));
    for (unsigned bit = 0; bit < 8 * SM2_SIGNATURE_BYTES; bit += 3) {
        sm2_signature bad = sig;
        bad.b[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_status(sm2_verify(&key.p, &e, &bad), AMI_BAD_SIGNATURE);
    }
    sm3_digest changed = e;
    changed.b[31] ^= 1;
    assert_status(sm2_verify(&key.p, &changed, &sig), AMI_BAD_SIGNATURE);
    assert_status(sm2_verify(&other.p, &e, &sig), AMI_BAD_SIGNATURE);
    point minus = point_negate(&key.p), infinity = {{0}, {0}};
    assert_status(sm2_verify(&minus, &e, &sig), AMI_BAD_SIGNATURE);
    assert_status(sm2_verify(&infinity, &e, &sig), AMI_BAD_SIGNATURE);
}

static void signature_scalars_out_of_range_are_refused(void **state)
{
    (void)state;
    struct seeded s = {3};
    sm2_private key = seeded_key(&s);
    sm3_digest e = seeded_digest(&s);
    uint8_t random[SM2_WIDE_BYTES] = {7};
    sm2_signature good = sm2_sign(&key, &e, random), bad;
    static const char *const out_of_range[] = {
        "0000000000000000000000000000000000000000000000000000000000000000",
        "FFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123",
        "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF"};
    for (int i = 0; i < 3; i++)
        for (int half = 0; half < 2; half++) {
            bad = good;
            from_hex(bad.b + 32 * half, 32, out_of_range[i]);
            assert_status(sm2_verify(&key.p, &e, &bad), AMI_BAD_SIGNATURE);
        }
    /* r + s = n, that is t = 0 (clause 7.1 step B5): then any s with r = -s and e = r - x(sG) would
     * pass, under every key. */
    const scalar zero = {{0}};
    scalar forged_s = seeded_scalar(&s), forged_r = scalar_sub(&zero, &forged_s);
    point sg = point_mul_base(&forged_s);
    uint8_t xy[SM2_XY_BYTES];
    point_xy(xy, &sg);
    scalar x1 = scalar_reduce(xy), forged_e = scalar_sub(&forged_r, &x1);
    scalar_encode(e.b, &forged_e);
    scalar_encode(bad.b, &forged_r);
    scalar_encode(bad.b + 32, &forged_s);
    assert_status(sm2_verify(&key.p, &e, &bad), AMI_BAD_SIGNATURE);
}

/* Signs backwards: for a given R and the value v that stands for its x, finds a public key and a
 * digest that the signature (r, s) belongs to. */
static void sign_backwards(struct seeded *seed, const point *big_r, const scalar *v, point *p,
                           sm3_digest *e, sm2_signature *sig)
{
    scalar s = seeded_scalar(seed), t = seeded_scalar(seed);
    scalar t_inverse = scalar_inverse(&t), r = scalar_sub(&t, &s);
    point sg = point_mul_base(&s), minus_sg = point_negate(&sg);
    point tp = point_add(big_r, &minus_sg);
    *p = point_mul(&t_inverse, &tp);
    scalar e_scalar = scalar_sub(&r, v);
    scalar_encode(e->b, &e_scalar);
    scalar_encode(sig->b, &r);
    scalar_encode(sig->b + 32, &s);
}

/* A verifier that forgets the reduction modulo n, or compares only one candidate, refuses these. */
static void x_of_r_between_n_and_p_is_accepted(void **state)
{
    (void)state;
    struct seeded seed = {4};
    point_bytes encoded = {{2}};
    uint8_t xy[SM2_XY_BYTES];
    int found = 0;
    for (uint64_t i = 0; i < 40; i++) {
        /* x = n + i, and p - 1 - i for odd i: both ends of [n, p). */
        from_hex(encoded.b + 1, 32,
                 i % 2 == 0 ? "FFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123"
                            : "FFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF00000000FFFFFFFFFFFFFFFE");
        uint64_t low = load_be64(encoded.b + 25);
        store_be64(encoded.b + 25, i % 2 == 0 ? low + i : low - i);
        point big_r, p;
        if (point_decode(&big_r, &encoded) != AMI_OK)
            continue;
        found++;
        point_xy(xy, &big_r);
        scalar x1 = scalar_reduce(xy), one = scalar_of_small(1);
        sm3_digest e;
        sm2_signature sig;
        sign_backwards(&seed, &big_r, &x1, &p, &e, &sig);
        assert_ok(sm2_verify(&p, &e, &sig));
        x1 = scalar_add(&x1, &one);
        sign_backwards(&seed, &big_r, &x1, &p, &e, &sig);
        assert_status(sm2_verify(&p, &e, &sig), AMI_BAD_SIGNATURE);
    }
    assert_true(found >= 10);
}

/* The second candidate, v + n, counts only below p: for R with a small x, v = x + p - n is not x
 * modulo n although v + n is x modulo p. */
static void x_of_r_that_matches_only_modulo_p_is_refused(void **state)
{
    (void)state;
    struct seeded seed = {24};
    const scalar p_minus_n = {{UINT64_C(0xac440bf6c62abedc), UINT64_C(0x8dfc2093de39fad5), 0, 0}};
    point_bytes encoded = {{2}};
    int found = 0;
    for (uint8_t x = 0; x < 40; x++) {
        encoded.b[SM2_POINT_BYTES - 1] = x;
        point big_r, p;
        if (point_decode(&big_r, &encoded) != AMI_OK)
            continue;
        found++;
        scalar good = scalar_of_small(x), bad = scalar_add(&good, &p_minus_n);
        sm3_digest e;
        sm2_signature sig;
        sign_backwards(&seed, &big_r, &good, &p, &e, &sig);
        assert_ok(sm2_verify(&p, &e, &sig));
        sign_backwards(&seed, &big_r, &bad, &p, &e, &sig);
        assert_status(sm2_verify(&p, &e, &sig), AMI_BAD_SIGNATURE);
    }
    assert_true(found >= 10);
}

/* r of a signature minus e mod n is x1, which stands for the nonce. */
static scalar x1_of(const sm2_signature *sig, const sm3_digest *e)
{
    scalar r, e_mod_n = scalar_reduce(e->b);
    assert_ok(scalar_decode(&r, sig->b));
    return scalar_sub(&r, &e_mod_n);
}

static void nonces_are_hedged(void **state)
{
    (void)state;
    struct seeded s = {5};
    sm2_private key = seeded_key(&s), other_key = seeded_key(&s);
    sm3_digest e = seeded_digest(&s), f = seeded_digest(&s);
    uint8_t random[SM2_WIDE_BYTES] = {0}, other_random[SM2_WIDE_BYTES] = {1};
    sm2_signature a = sm2_sign(&key, &e, random);
    sm2_signature same = sm2_sign(&key, &e, random);
    assert_memory_equal(&a, &same, sizeof a);
    sm2_signature b = sm2_sign(&key, &f, random);
    sm2_signature c = sm2_sign(&other_key, &e, random);
    sm2_signature d = sm2_sign(&key, &e, other_random);
    scalar xa = x1_of(&a, &e), xb = x1_of(&b, &f), xc = x1_of(&c, &e), xd = x1_of(&d, &e);
    assert_false(scalar_equal(&xa, &xb));
    assert_false(scalar_equal(&xa, &xc));
    assert_false(scalar_equal(&xa, &xd));
    /* Every byte of the random input counts. */
    for (size_t i = 0; i < SM2_WIDE_BYTES; i += 5) {
        uint8_t changed[SM2_WIDE_BYTES] = {0};
        changed[i] = 0x40;
        d = sm2_sign(&key, &e, changed);
        assert_memory_not_equal(&a, &d, sizeof a);
    }
}

static void refused_nonces(void **state)
{
    (void)state;
    struct seeded seed = {6};
    const scalar zero = {{0}};
    sm2_private key = seeded_key(&seed);
    sm2_signature sig;
    sm3_digest e = seeded_digest(&seed);
    assert_status(sm2_sign_with_nonce(&sig, &key, &e, &zero), AMI_BAD_CRYPTO);
    /* e = -x1 makes r zero; e = -x1 - k makes r + k zero; e = k / d - x1 makes s zero. */
    scalar k = seeded_scalar(&seed), inverse_d = scalar_inverse(&key.d);
    point kg = point_mul_base(&k);
    uint8_t xy[SM2_XY_BYTES];
    point_xy(xy, &kg);
    scalar x1 = scalar_reduce(xy), r[3] = {zero, scalar_sub(&zero, &k), scalar_mul(&k, &inverse_d)};
    for (int i = 0; i < 3; i++) {
        scalar e_scalar = scalar_sub(&r[i], &x1);
        scalar_encode(e.b, &e_scalar);
        assert_status(sm2_sign_with_nonce(&sig, &key, &e, &k), AMI_BAD_CRYPTO);
    }
}

static int compare_scalars(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(scalar));
}

/* The same random bytes with another digest or another key never give the same nonce: x of k G,
 * which is r - e, differs in all pairs of keys and digests. Zero bytes are what a broken source
 * gives. */
static void repeated_random_bytes_repeat_no_nonce(void **state)
{
    enum { KEYS = 16, DIGESTS = 40, ALL = KEYS * DIGESTS };
    static sm2_private key[KEYS];
    static const sm2_private *keys[ALL];
    static sm3_digest digest[DIGESTS], e[ALL];
    static uint8_t random[ALL][SM2_WIDE_BYTES];
    static sm2_signature sig[ALL], again[ALL];
    static scalar x1[3 * ALL];
    struct seeded s = {25};
    (void)state;
    for (size_t i = 0; i < KEYS; i++)
        key[i] = seeded_key(&s);
    for (size_t i = 0; i < DIGESTS; i++) /* neighbours, too */
        digest[i] = i % 2 == 0 ? seeded_digest(&s) : digest[i - 1];
    for (size_t i = 1; i < DIGESTS; i += 2)
        digest[i].b[i % sizeof digest[i].b] ^= 1;
    for (size_t round = 0; round < 3; round++) {
        seeded_bytes(&s, random[0], sizeof random[0]);
        if (round < 2)
            memset(random[0], round == 0 ? 0 : 0xff, sizeof random[0]);
        for (size_t i = 0; i < ALL; i++) {
            keys[i] = &key[i / DIGESTS];
            e[i] = digest[i % DIGESTS];
            memcpy(random[i], random[0], sizeof random[0]);
        }
        const uint8_t(*source)[SM2_WIDE_BYTES] = (const uint8_t(*)[SM2_WIDE_BYTES])random;
        sm2_sign_batch(sig, keys, e, source, ALL);
        sm2_sign_batch(again, keys, e, source, ALL);
        assert_memory_equal(sig, again, sizeof sig);
        for (size_t i = 0; i < ALL; i++)
            x1[round * ALL + i] = x1_of(&sig[i], &e[i]);
    }
    qsort(x1, 3 * ALL, sizeof x1[0], compare_scalars);
    for (size_t i = 1; i < 3 * ALL; i++)
        assert_memory_not_equal(&x1[i - 1], &x1[i], sizeof x1[0]);
}

static void signature_batches(void **state)
{
    (void)state;
    struct seeded s = {7};
    sm2_private key[3] = {seeded_key(&s), seeded_key(&s), seeded_key(&s)};
    const sm2_private *keys[BATCH_MAX];
    sm3_digest e[BATCH_MAX];
    uint8_t random[BATCH_MAX][SM2_WIDE_BYTES];
    sm2_signature sig[BATCH_MAX];
    point p[BATCH_MAX];
    bool ok[BATCH_MAX];
    seeded_bytes(&s, random, sizeof random);
    seeded_bytes(&s, e, sizeof e);
    for (size_t b = 0; b < BATCH_SIZES; b++) {
        size_t count = batch_sizes[b], bad = count / 2;
        memset(sig, 0, sizeof sig);
        for (size_t i = 0; i < count; i++) {
            keys[i] = &key[(i + b) % 3];
            p[i] = keys[i]->p;
        }
        sm2_sign_batch(sig, keys, e, (const uint8_t(*)[SM2_WIDE_BYTES])random, count);
        for (size_t i = 0; i < count; i++) {
            sm2_signature single = sm2_sign(keys[i], &e[i], random[i]);
            assert_memory_equal(&single, &sig[i], sizeof single);
        }
        assert_ok(sm2_verify_batch(p, e, sig, ok, count));
        for (size_t i = 0; i < count; i++)
            assert_true(ok[i]);
        sig[bad].b[40] ^= 1;
        assert_status(sm2_verify_batch(p, e, sig, ok, count), AMI_BAD_SIGNATURE);
        for (size_t i = 0; i < count; i++)
            assert_int_equal(ok[i], i != bad);
    }
}

/* --- implicit certificates -------------------------------------------------------------------- */

static void implicit_certificates_of_random_devices(void **state)
{
    (void)state;
    struct seeded s = {8};
    scalar x = seeded_scalar(&s);
    point pub = point_mul_base(&x);
    for (int i = 0; i < 10; i++) {
        scalar d_prime = seeded_scalar(&s), w = seeded_scalar(&s), t;
        point u = point_mul_base(&d_prime), w_point, p;
        char id[8] = {'m', (char)('0' + i)};
        sm3_digest h_a = sm2_z(span_of(id, 2), &pub);
        sm2_implicit_issue(&w_point, &t, &w, &x, &u, &h_a);
        sm2_private key;
        assert_ok(sm2_implicit_accept(&key, &t, &d_prime, &w_point, &h_a, &pub));
        assert_ok(sm2_implicit_public(&p, &w_point, &h_a, &pub));
        assert_point_equal(&p, &key.p);
        struct span m = SPAN_LITERAL("report");
        sm3_digest e = sm2_implicit_digest(&h_a, &w_point, &m, 1);
        uint8_t random[SM2_WIDE_BYTES] = {1};
        sm2_signature sig = sm2_sign(&key, &e, random);
        assert_ok(sm2_verify(&p, &e, &sig));
    }
    /* W = -lambda P_pub would give the key infinity. */
    sm3_digest h = seeded_digest(&s);
    scalar k = seeded_scalar(&s), minus_inverse;
    point w = point_mul_base(&k), p, infinity = {{0}, {0}};
    scalar lambda = sm2_implicit_lambda(&w, &h);
    const scalar zero = {{0}};
    minus_inverse = scalar_inverse(&lambda);
    minus_inverse = scalar_sub(&zero, &minus_inverse);
    point bad_pub = point_mul(&minus_inverse, &w);
    assert_status(sm2_implicit_public(&p, &w, &h, &bad_pub), AMI_BAD_CRYPTO);
    assert_status(sm2_implicit_public(&p, &infinity, &h, &pub), AMI_BAD_CRYPTO);
    assert_status(sm2_implicit_public(&p, &w, &h, &infinity), AMI_BAD_CRYPTO);
}

static void implicit_certificates_in_batches(void **state)
{
    (void)state;
    struct seeded s = {26};
    point pub = seeded_point(&s), infinity = {{0}, {0}}, w[BATCH_MAX], out[BATCH_MAX], single;
    sm3_digest h_a[BATCH_MAX];
    bool ok[BATCH_MAX];
    for (size_t i = 0; i < BATCH_MAX; i++) {
        w[i] = seeded_point(&s);
        h_a[i] = seeded_digest(&s);
    }
    for (size_t b = 0; b < BATCH_SIZES; b++) {
        size_t count = batch_sizes[b], bad = count / 2;
        assert_ok(sm2_implicit_public_batch(out, ok, w, h_a, &pub, count));
        for (size_t i = 0; i < count; i++) {
            assert_true(ok[i]);
            assert_ok(sm2_implicit_public(&single, &w[i], &h_a[i], &pub));
            assert_point_equal(&out[i], &single);
        }
        point kept = w[bad];
        w[bad] = infinity;
        assert_status(sm2_implicit_public_batch(out, ok, w, h_a, &pub, count), AMI_BAD_CRYPTO);
        w[bad] = kept;
        for (size_t i = 0; i < count; i++)
            assert_int_equal(ok[i], i != bad);
        assert_status(sm2_implicit_public_batch(out, ok, w, h_a, &infinity, count), AMI_BAD_CRYPTO);
        for (size_t i = 0; i < count; i++)
            assert_false(ok[i]);
    }
}

/* --- encryption ------------------------------------------------------------------------------- */

static void encapsulation_round_trip(void **state)
{
    (void)state;
    struct seeded s = {9};
    sm2_private key = seeded_key(&s), other = seeded_key(&s);
    point infinity = {{0}, {0}};
    uint8_t random[SM2_WIDE_BYTES], sent[77], received[77];
    point_bytes c1, c2;
    for (size_t size = 1; size <= sizeof sent; size += 19) {
        seeded_bytes(&s, random, sizeof random);
        assert_ok(sm2_encapsulate(&c1, sent, size, &key.p, SPAN_LITERAL("info"), random));
        assert_ok(sm2_decapsulate(received, size, &key, &c1, SPAN_LITERAL("info")));
        assert_memory_equal(sent, received, size);
    }
    assert_ok(sm2_encapsulate(&c1, sent, 32, &key.p, SPAN_LITERAL("info"), random));
    assert_ok(sm2_decapsulate(received, 32, &key, &c1, SPAN_LITERAL("inf0")));
    assert_memory_not_equal(sent, received, 32);
    assert_ok(sm2_decapsulate(received, 32, &other, &c1, SPAN_LITERAL("info")));
    assert_memory_not_equal(sent, received, 32);
    /* The same random bytes for another recipient are another C1. */
    assert_ok(sm2_encapsulate(&c2, received, 32, &other.p, SPAN_LITERAL("info"), random));
    assert_memory_not_equal(&c1, &c2, sizeof c1);
    c1.b[0] = 5;
    assert_status(sm2_decapsulate(received, 32, &key, &c1, SPAN_LITERAL("info")), AMI_BAD_CRYPTO);
    assert_status(sm2_encapsulate(&c1, sent, 32, &infinity, SPAN_LITERAL("info"), random),
                  AMI_BAD_CRYPTO);
}

static void encapsulation_batches(void **state)
{
    (void)state;
    struct seeded s = {27};
    sm2_private key = seeded_key(&s);
    const uint8_t wiped[SM2_SHARED_KEY_BYTES] = {0};
    uint8_t random[BATCH_MAX][SM2_WIDE_BYTES], sent[BATCH_MAX][SM2_SHARED_KEY_BYTES];
    uint8_t received[BATCH_MAX][SM2_SHARED_KEY_BYTES], single[SM2_SHARED_KEY_BYTES];
    point_bytes c1[BATCH_MAX], c1_single;
    bool ok[BATCH_MAX];
    seeded_bytes(&s, random, sizeof random);
    for (size_t b = 0; b < BATCH_SIZES; b++) {
        size_t count = batch_sizes[b], bad = count / 2;
        assert_ok(sm2_encapsulate_batch(c1, sent, &key.p, SPAN_LITERAL("info"),
                                        (const uint8_t(*)[SM2_WIDE_BYTES])random, count));
        for (size_t i = 0; i < count; i++) {
            assert_ok(sm2_encapsulate(&c1_single, single, sizeof single, &key.p,
                                      SPAN_LITERAL("info"), random[i]));
            assert_memory_equal(&c1[i], &c1_single, sizeof c1_single);
            assert_memory_equal(sent[i], single, sizeof single);
        }
        assert_ok(sm2_decapsulate_batch(received, ok, &key, c1, SPAN_LITERAL("info"), count));
        assert_memory_equal(received, sent, count * sizeof *sent);
        c1[bad].b[0] = 4;
        assert_status(sm2_decapsulate_batch(received, ok, &key, c1, SPAN_LITERAL("info"), count),
                      AMI_BAD_CRYPTO);
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(ok[i], i != bad);
            assert_memory_equal(received[i], i != bad ? sent[i] : wiped, sizeof wiped);
        }
    }
}

static void encryption_round_trip_and_tampered(void **state)
{
    (void)state;
    struct seeded s = {10};
    sm2_private key = seeded_key(&s), other = seeded_key(&s);
    point infinity = {{0}, {0}};
    uint8_t text[70], sealed[70 + SM2_ENCRYPT_OVERHEAD_BYTES], again[sizeof sealed], out[70];
    const uint8_t zero[70] = {0};
    uint8_t random[SM2_WIDE_BYTES];
    seeded_bytes(&s, text, sizeof text);
    for (size_t size = 0; size <= sizeof text; size += 7) {
        seeded_bytes(&s, random, sizeof random);
        struct span plain = span_of(text, size);
        struct span all = span_of(sealed, size + SM2_ENCRYPT_OVERHEAD_BYTES);
        assert_ok(sm2_encrypt(sealed, &key.p, plain, random));
        assert_ok(sm2_decrypt(out, &key, all));
        assert_memory_equal(out, text, size);
        assert_status(sm2_decrypt(out, &other, all), AMI_BAD_CRYPTO);
        assert_memory_equal(out, zero, size);
        for (size_t at = 0; at < all.size; at += 9) {
            memset(out, 0xa5, sizeof out);
            sealed[at] ^= 0x10;
            assert_status(sm2_decrypt(out, &key, all), AMI_BAD_CRYPTO);
            assert_memory_equal(out, zero, size);
            sealed[at] ^= 0x10;
        }
        assert_status(sm2_decrypt(out, &key, span_of(sealed, SM2_ENCRYPT_OVERHEAD_BYTES - 1)),
                      AMI_BAD_CRYPTO);
        if (size > 0)
            assert_status(sm2_decrypt(out, &key, span_of(sealed, all.size - 1)), AMI_BAD_CRYPTO);
    }
    /* Hedging: the same random bytes with another text give another C1. */
    assert_ok(sm2_encrypt(sealed, &key.p, span_of(text, 20), random));
    assert_ok(sm2_encrypt(again, &key.p, span_of(text + 1, 20), random));
    assert_memory_not_equal(sealed, again, 64);
    assert_status(sm2_encrypt(sealed, &infinity, span_of(text, 20), random), AMI_BAD_CRYPTO);
}

/* For one byte the standard's check on an all-zero t strikes once in 256 nonces: encryption then
 * takes the next nonce, and the fixed-nonce form says so. */
static void an_all_zero_key_stream_is_not_used(void **state)
{
    (void)state;
    struct seeded s = {11};
    sm2_private key = seeded_key(&s);
    uint8_t sealed[1 + SM2_ENCRYPT_OVERHEAD_BYTES], out[1], text[1] = {0x5a};
    int refused = 0;
    for (int i = 0; i < 1500; i++) {
        scalar k = seeded_scalar(&s);
        if (sm2_encrypt_with_nonce(sealed, &key.p, span_of(text, 1), &k) != AMI_OK) {
            refused++;
            /* A sender without the check: the receiver refuses as well. */
            assert_int_equal(sealed[SM2_ENCRYPT_OVERHEAD_BYTES], text[0]);
            assert_status(sm2_decrypt(out, &key, span_of(sealed, sizeof sealed)), AMI_BAD_CRYPTO);
        } else {
            assert_int_not_equal(sealed[SM2_ENCRYPT_OVERHEAD_BYTES], text[0]);
        }
    }
    assert_in_range(refused, 1, 25);
    for (int i = 0; i < 600; i++) {
        uint8_t random[SM2_WIDE_BYTES];
        seeded_bytes(&s, random, sizeof random);
        assert_ok(sm2_encrypt(sealed, &key.p, span_of(text, 1), random));
        assert_int_not_equal(sealed[SM2_ENCRYPT_OVERHEAD_BYTES], text[0]);
    }
}

/* --- key exchange ----------------------------------------------------------------------------- */

struct exchange_case {
    sm2_private a, b;
    scalar ra, rb;
    point r_a, r_b;
    sm3_digest z_a, z_b;
};

static struct exchange_case seeded_exchange(struct seeded *s)
{
    struct exchange_case c = {.a = seeded_key(s), .b = seeded_key(s)};
    c.ra = seeded_scalar(s);
    c.rb = seeded_scalar(s);
    c.r_a = point_mul_base(&c.ra);
    c.r_b = point_mul_base(&c.rb);
    c.z_a = sm2_z(SPAN_LITERAL("meter"), &c.a.p);
    c.z_b = sm2_z(SPAN_LITERAL("dc"), &c.b.p);
    return c;
}

static struct sm2_exchange_in side_of(const struct exchange_case *c, bool initiator)
{
    return (struct sm2_exchange_in){.initiator = initiator,
                                    .d = initiator ? &c->a.d : &c->b.d,
                                    .r = initiator ? &c->ra : &c->rb,
                                    .r_a = &c->r_a,
                                    .r_b = &c->r_b,
                                    .p_peer = initiator ? &c->b.p : &c->a.p,
                                    .z_a = &c->z_a,
                                    .z_b = &c->z_b};
}

static void exchange_both_sides_agree_and_nobody_else(void **state)
{
    (void)state;
    struct seeded s = {12};
    for (int i = 0; i < 8; i++) {
        struct exchange_case c = seeded_exchange(&s);
        struct sm2_exchange_in in_a = side_of(&c, true), in_b = side_of(&c, false);
        struct sm2_exchange_out a, b, other;
        assert_ok(sm2_exchange(&a, &in_a));
        assert_ok(sm2_exchange(&b, &in_b));
        assert_memory_equal(&a, &b, sizeof a);
        assert_memory_not_equal(&a.s_a, &a.s_b, sizeof a.s_a);
        uint8_t key_a[32], key_b[32];
        sm2_exchange_key(key_a, sizeof key_a, &a, &c.z_a, &c.z_b);
        sm2_exchange_key(key_b, sizeof key_b, &b, &c.z_a, &c.z_b);
        assert_memory_equal(key_a, key_b, sizeof key_a);
        /* Without the long-term key, without the ephemeral key: no agreement. */
        struct sm2_exchange_in wrong = in_a;
        wrong.d = &c.ra;
        assert_ok(sm2_exchange(&other, &wrong));
        assert_memory_not_equal(other.xy_v, a.xy_v, sizeof a.xy_v);
        wrong = in_a;
        wrong.r = &c.a.d;
        assert_ok(sm2_exchange(&other, &wrong));
        assert_memory_not_equal(other.xy_v, a.xy_v, sizeof a.xy_v);
        /* Another name changes the confirmations, not V. */
        wrong = in_a;
        wrong.z_b = &c.z_a;
        assert_ok(sm2_exchange(&other, &wrong));
        assert_memory_equal(other.xy_v, a.xy_v, sizeof a.xy_v);
        assert_memory_not_equal(&other.s_a, &a.s_a, sizeof a.s_a);
        assert_memory_not_equal(&other.s_b, &a.s_b, sizeof a.s_b);
    }
}

/* x' = 2^127 + (x mod 2^127) of a point. */
static scalar x_bar_of(const point *p)
{
    uint8_t xy[SM2_XY_BYTES], low[32] = {0};
    point_xy(xy, p);
    memcpy(low + 16, xy + 16, 16);
    low[16] |= 0x80;
    return scalar_reduce(low);
}

static void an_exchange_at_infinity_is_refused(void **state)
{
    (void)state;
    struct seeded s = {13};
    struct exchange_case c = seeded_exchange(&s);
    const scalar zero = {{0}};
    point infinity = {{0}, {0}};
    struct sm2_exchange_out out;
    struct sm2_exchange_in in = side_of(&c, true);
    /* A hostile peer key P_B = -x' R_B. */
    scalar minus = x_bar_of(&c.r_b);
    minus = scalar_sub(&zero, &minus);
    point hostile = point_mul(&minus, &c.r_b);
    in.p_peer = &hostile;
    assert_status(sm2_exchange(&out, &in), AMI_BAD_CRYPTO);
    /* Our own t = 0: d = -x' r. */
    scalar x_own = x_bar_of(&c.r_a), d = scalar_mul(&x_own, &c.ra);
    d = scalar_sub(&zero, &d);
    in = side_of(&c, true);
    in.d = &d;
    assert_status(sm2_exchange(&out, &in), AMI_BAD_CRYPTO);
    in = side_of(&c, true);
    in.p_peer = &infinity;
    assert_status(sm2_exchange(&out, &in), AMI_BAD_CRYPTO);
    in = side_of(&c, true);
    in.r_b = &infinity;
    assert_status(sm2_exchange(&out, &in), AMI_BAD_CRYPTO);
    in = side_of(&c, false);
    in.r_b = &infinity;
    assert_status(sm2_exchange(&out, &in), AMI_BAD_CRYPTO);
    /* P_B = x' R_B: the sum doubles inside. */
    minus = x_bar_of(&c.r_b);
    scalar db = scalar_mul(&minus, &c.rb);
    point twin = point_mul_base(&db);
    struct sm2_exchange_out peer;
    in = side_of(&c, true);
    in.p_peer = &twin;
    assert_ok(sm2_exchange(&out, &in));
    in = side_of(&c, false);
    in.d = &db;
    assert_ok(sm2_exchange(&peer, &in));
    assert_memory_equal(&out, &peer, sizeof out);
}

static void exchange_batches(void **state)
{
    (void)state;
    struct seeded s = {14};
    static struct exchange_case c[BATCH_MAX];
    struct sm2_exchange_in in[BATCH_MAX];
    struct sm2_exchange_out out[BATCH_MAX], single;
    bool ok[BATCH_MAX];
    point infinity = {{0}, {0}};
    for (size_t i = 0; i < BATCH_MAX; i++) {
        c[i] = seeded_exchange(&s);
        in[i] = side_of(&c[i], i % 3 == 0);
    }
    for (size_t b = 0; b < BATCH_SIZES; b++) {
        size_t count = batch_sizes[b], bad = count / 2;
        assert_ok(sm2_exchange_batch(out, in, ok, count));
        for (size_t i = 0; i < count; i++) {
            assert_true(ok[i]);
            assert_ok(sm2_exchange(&single, &in[i]));
            assert_memory_equal(&single, &out[i], sizeof single);
        }
        const point *kept = in[bad].p_peer;
        in[bad].p_peer = &infinity;
        assert_status(sm2_exchange_batch(out, in, ok, count), AMI_BAD_CRYPTO);
        in[bad].p_peer = kept;
        for (size_t i = 0; i < count; i++)
            assert_int_equal(ok[i], i != bad);
    }
}

/* --- OpenSSL ---------------------------------------------------------------------------------- */

static EVP_PKEY *openssl_key(const sm2_private *key)
{
    uint8_t d[32], xy[65] = {4};
    scalar_encode(d, &key->d);
    point_xy(xy + 1, &key->p);
    BIGNUM *bd = BN_bin2bn(d, 32, NULL);
    OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    OSSL_PARAM_BLD_push_utf8_string(builder, OSSL_PKEY_PARAM_GROUP_NAME, "SM2", 0);
    OSSL_PARAM_BLD_push_octet_string(builder, OSSL_PKEY_PARAM_PUB_KEY, xy, sizeof xy);
    OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_PRIV_KEY, bd);
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(builder);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "SM2", NULL);
    EVP_PKEY *out = NULL;
    assert_int_equal(EVP_PKEY_fromdata_init(ctx), 1);
    assert_int_equal(EVP_PKEY_fromdata(ctx, &out, EVP_PKEY_KEYPAIR, params), 1);
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(builder);
    BN_free(bd);
    return out;
}

static int signature_to_der(uint8_t **der, const sm2_signature *sig)
{
    ECDSA_SIG *both = ECDSA_SIG_new();
    assert_int_equal(
        ECDSA_SIG_set0(both, BN_bin2bn(sig->b, 32, NULL), BN_bin2bn(sig->b + 32, 32, NULL)), 1);
    *der = NULL;
    int size = i2d_ECDSA_SIG(both, der);
    ECDSA_SIG_free(both);
    return size;
}

static void signature_from_der(sm2_signature *sig, const uint8_t *der, size_t size)
{
    ECDSA_SIG *both = d2i_ECDSA_SIG(NULL, &der, (long)size);
    assert_non_null(both);
    assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_r(both), sig->b, 32), 32);
    assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_s(both), sig->b + 32, 32), 32);
    ECDSA_SIG_free(both);
}

/* Without an ID (data is NULL) it is OpenSSL's default, the empty one. */
static EVP_MD_CTX *openssl_digest_context(EVP_PKEY *pkey, struct span id, bool sign)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *pctx = EVP_PKEY_CTX_new(pkey, NULL);
    if (id.data != NULL)
        assert_int_equal(EVP_PKEY_CTX_set1_id(pctx, id.data, (int)id.size), 1);
    EVP_MD_CTX_set_pkey_ctx(ctx, pctx);
    assert_int_equal(sign ? EVP_DigestSignInit(ctx, NULL, EVP_sm3(), NULL, pkey)
                          : EVP_DigestVerifyInit(ctx, NULL, EVP_sm3(), NULL, pkey),
                     1);
    return ctx;
}

static void end_digest_context(EVP_MD_CTX *ctx)
{
    EVP_PKEY_CTX *pctx = EVP_MD_CTX_pkey_ctx(ctx);
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_CTX_free(pctx);
}

static void signatures_pass_both_ways_with_openssl(void **state)
{
    (void)state;
    struct seeded s = {15};
    for (size_t i = 0; i < 12; i++) {
        sm2_private key = seeded_key(&s);
        EVP_PKEY *pkey = openssl_key(&key);
        uint8_t id[40], m[100], random[SM2_WIDE_BYTES];
        seeded_bytes(&s, id, sizeof id);
        seeded_bytes(&s, m, sizeof m);
        seeded_bytes(&s, random, sizeof random);
        struct span id_span = i % 3 == 0   ? SPAN_LITERAL("1234567812345678")
                              : i % 3 == 1 ? span_of(NULL, 0)
                                           : span_of(id, 1 + i * 3);
        struct span text = span_of(m, i * 8);
        sm3_digest z = sm2_z(id_span, &key.p), e = sm2_digest(&z, &text, 1);

        sm2_signature sig = sm2_sign(&key, &e, random);
        uint8_t *der;
        int der_size = signature_to_der(&der, &sig);
        EVP_MD_CTX *ctx = openssl_digest_context(pkey, id_span, false);
        assert_int_equal(EVP_DigestVerify(ctx, der, (size_t)der_size, text.data, text.size), 1);
        end_digest_context(ctx);
        /* The oracle can say no: another ID. */
        ctx = openssl_digest_context(pkey, SPAN_LITERAL("somebody else"), false);
        assert_int_not_equal(EVP_DigestVerify(ctx, der, (size_t)der_size, text.data, text.size), 1);
        end_digest_context(ctx);
        OPENSSL_free(der);

        uint8_t theirs[80];
        size_t theirs_size = sizeof theirs;
        ctx = openssl_digest_context(pkey, id_span, true);
        assert_int_equal(EVP_DigestSign(ctx, theirs, &theirs_size, text.data, text.size), 1);
        end_digest_context(ctx);
        signature_from_der(&sig, theirs, theirs_size);
        assert_ok(sm2_verify(&key.p, &e, &sig));
        e.b[0] ^= 1;
        assert_status(sm2_verify(&key.p, &e, &sig), AMI_BAD_SIGNATURE);
        EVP_PKEY_free(pkey);
    }
}

/* OpenSSL wraps a ciphertext as SEQUENCE { INTEGER x, INTEGER y, OCTET STRING C3, C2 }; all parts
 * here are shorter than 128 bytes, so lengths are single bytes but for the outermost. */
static size_t ciphertext_to_der(uint8_t *out, struct span sealed)
{
    uint8_t body[200];
    size_t at = 0;
    for (int i = 0; i < 2; i++) {
        const uint8_t *v = sealed.data + 32 * i;
        size_t skip = 0;
        while (skip < 31 && v[skip] == 0)
            skip++;
        size_t pad = v[skip] >> 7;
        body[at++] = 2;
        body[at++] = (uint8_t)(32 - skip + pad);
        if (pad)
            body[at++] = 0;
        memcpy(body + at, v + skip, 32 - skip);
        at += 32 - skip;
    }
    size_t text = sealed.size - SM2_ENCRYPT_OVERHEAD_BYTES;
    body[at++] = 4;
    body[at++] = 32;
    memcpy(body + at, sealed.data + 64, 32);
    at += 32;
    body[at++] = 4;
    body[at++] = (uint8_t)text;
    memcpy(body + at, sealed.data + 96, text);
    at += text;
    size_t head = 0;
    out[head++] = 0x30;
    if (at >= 128)
        out[head++] = 0x81;
    out[head++] = (uint8_t)at;
    memcpy(out + head, body, at);
    return head + at;
}

static size_t ciphertext_from_der(uint8_t *out, const uint8_t *der)
{
    const uint8_t *at = der + (der[1] == 0x81 ? 3 : 2);
    memset(out, 0, 64);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(at[0], 2);
        size_t size = at[1];
        const uint8_t *v = at + 2;
        at = v + size;
        if (size == 33) {
            v++;
            size--;
        }
        memcpy(out + 32 * i + 32 - size, v, size);
    }
    assert_int_equal(at[0], 4);
    assert_int_equal(at[1], 32);
    memcpy(out + 64, at + 2, 32);
    at += 34;
    assert_int_equal(at[0], 4);
    memcpy(out + 96, at + 2, at[1]);
    return 96u + at[1];
}

static void ciphertexts_pass_both_ways_with_openssl(void **state)
{
    (void)state;
    struct seeded s = {16};
    for (size_t size = 1; size <= 64; size += 7) {
        sm2_private key = seeded_key(&s);
        EVP_PKEY *pkey = openssl_key(&key);
        uint8_t text[64], sealed[64 + 96], der[200], out[200], random[SM2_WIDE_BYTES];
        seeded_bytes(&s, text, sizeof text);
        seeded_bytes(&s, random, sizeof random);
        EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(pkey, NULL);
        assert_ok(sm2_encrypt(sealed, &key.p, span_of(text, size), random));
        size_t der_size = ciphertext_to_der(der, span_of(sealed, size + 96));
        size_t out_size = sizeof out;
        assert_int_equal(EVP_PKEY_decrypt_init(ctx), 1);
        assert_int_equal(EVP_PKEY_decrypt(ctx, out, &out_size, der, der_size), 1);
        assert_int_equal(out_size, size);
        assert_memory_equal(out, text, size);

        der_size = sizeof der;
        assert_int_equal(EVP_PKEY_encrypt_init(ctx), 1);
        assert_int_equal(EVP_PKEY_encrypt(ctx, der, &der_size, text, size), 1);
        size_t sealed_size = ciphertext_from_der(sealed, der);
        assert_int_equal(sealed_size, size + 96);
        assert_ok(sm2_decrypt(out, &key, span_of(sealed, sealed_size)));
        assert_memory_equal(out, text, size);
        EVP_PKEY_CTX_free(ctx);
        EVP_PKEY_free(pkey);
    }
}

/* --- libgcrypt -------------------------------------------------------------------------------- */

static gcry_sexp_t sexp(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    gcry_sexp_t out = NULL;
    void *list[4];
    for (int i = 0; i < 4; i++)
        list[i] = va_arg(args, void *);
    va_end(args);
    void *pointers[4] = {&list[0], &list[1], &list[2], &list[3]};
    assert_int_equal(gcry_sexp_build_array(&out, NULL, format, pointers), 0);
    return out;
}

static gcry_mpi_t mpi_of_bytes(const void *b, size_t size)
{
    gcry_mpi_t m = NULL;
    assert_int_equal(gcry_mpi_scan(&m, GCRYMPI_FMT_USG, b, size, NULL), 0);
    return m;
}

static void token_bytes(uint8_t out[32], gcry_sexp_t list, const char *token)
{
    gcry_sexp_t found = gcry_sexp_find_token(list, token, 0);
    assert_non_null(found);
    gcry_mpi_t m = gcry_sexp_nth_mpi(found, 1, GCRYMPI_FMT_USG);
    uint8_t raw[32];
    size_t size = 0;
    assert_int_equal(gcry_mpi_print(GCRYMPI_FMT_USG, raw, sizeof raw, &size, m), 0);
    memset(out, 0, 32);
    memcpy(out + 32 - size, raw, size);
    gcry_mpi_release(m);
    gcry_sexp_release(found);
}

static void signatures_pass_both_ways_with_libgcrypt(void **state)
{
    (void)state;
    struct seeded s = {17};
    for (int i = 0; i < 8; i++) {
        sm2_private key = seeded_key(&s);
        sm3_digest e = seeded_digest(&s);
        uint8_t d[32], xy[65] = {4}, random[SM2_WIDE_BYTES];
        seeded_bytes(&s, random, sizeof random);
        scalar_encode(d, &key.d);
        point_xy(xy + 1, &key.p);
        gcry_mpi_t md = mpi_of_bytes(d, 32), mq = mpi_of_bytes(xy, 65);
        gcry_mpi_t me = mpi_of_bytes(e.b, 32);
        gcry_sexp_t secret =
            sexp("(private-key (ecc (curve sm2p256v1)(q %m)(d %m)))", mq, md, NULL, NULL);
        gcry_sexp_t public =
            sexp("(public-key (ecc (curve sm2p256v1)(q %m)))", mq, NULL, NULL, NULL);
        gcry_sexp_t data = sexp("(data (flags sm2)(value %m))", me, NULL, NULL, NULL),
                    theirs = NULL;

        sm2_signature sig = sm2_sign(&key, &e, random);
        gcry_mpi_t mr = mpi_of_bytes(sig.b, 32), ms = mpi_of_bytes(sig.b + 32, 32);
        gcry_sexp_t ours = sexp("(sig-val (sm2 (r %m)(s %m)))", mr, ms, NULL, NULL);
        assert_int_equal(gcry_pk_verify(ours, data, public), 0);
        gcry_mpi_add_ui(ms, ms, 1);
        gcry_sexp_t bad = sexp("(sig-val (sm2 (r %m)(s %m)))", mr, ms, NULL, NULL);
        assert_int_not_equal(gcry_pk_verify(bad, data, public), 0);

        assert_int_equal(gcry_pk_sign(&theirs, data, secret), 0);
        token_bytes(sig.b, theirs, "r");
        token_bytes(sig.b + 32, theirs, "s");
        assert_ok(sm2_verify(&key.p, &e, &sig));
        sig.b[63] ^= 1;
        assert_status(sm2_verify(&key.p, &e, &sig), AMI_BAD_SIGNATURE);

        gcry_sexp_t lists[] = {secret, public, data, ours, bad, theirs};
        gcry_mpi_t numbers[] = {md, mq, me, mr, ms};
        for (size_t j = 0; j < sizeof lists / sizeof *lists; j++)
            gcry_sexp_release(lists[j]);
        for (size_t j = 0; j < sizeof numbers / sizeof *numbers; j++)
            gcry_mpi_release(numbers[j]);
    }
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(private_keys_are_1_to_n_minus_2),
        cmocka_unit_test(any_changed_bit_spoils_a_signature),
        cmocka_unit_test(signature_scalars_out_of_range_are_refused),
        cmocka_unit_test(x_of_r_between_n_and_p_is_accepted),
        cmocka_unit_test(x_of_r_that_matches_only_modulo_p_is_refused),
        cmocka_unit_test(nonces_are_hedged),
        cmocka_unit_test(repeated_random_bytes_repeat_no_nonce),
        cmocka_unit_test(refused_nonces),
        cmocka_unit_test(signature_batches),
        cmocka_unit_test(implicit_certificates_of_random_devices),
        cmocka_unit_test(implicit_certificates_in_batches),
        cmocka_unit_test(encapsulation_round_trip),
        cmocka_unit_test(encapsulation_batches),
        cmocka_unit_test(encryption_round_trip_and_tampered),
        cmocka_unit_test(an_all_zero_key_stream_is_not_used),
        cmocka_unit_test(exchange_both_sides_agree_and_nobody_else),
        cmocka_unit_test(an_exchange_at_infinity_is_refused),
        cmocka_unit_test(exchange_batches),
        cmocka_unit_test(signatures_pass_both_ways_with_openssl),
        cmocka_unit_test(ciphertexts_pass_both_ways_with_openssl),
        cmocka_unit_test(signatures_pass_both_ways_with_libgcrypt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
