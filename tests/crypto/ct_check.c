/* Constant-time check of the secret paths, to be run under valgrind's memcheck.
 *
 * Secrets are marked as undefined memory; memcheck then reports every branch and every address that
 * depends on one. Crypto's own sources are built with AMI_CT_CHECK, so the few values whose
 * disclosure is harmless are declared public where they arise (crypto/ct.h). What the program
 * prints:
 *   - each operation with the number of reports, which has to be 0;
 *   - two negative controls, a branch and a table look-up on a secret, which have to be reported:
 *     without them a checker that sees nothing would pass.
 * SM3, SM4 and argon2 belong to libgcrypt and libsodium and are not judged here; the secrets run
 * through libgcrypt's SM3 nevertheless and stay secret behind it, because memcheck follows them.
 */
#include "crypto/secret.h"
#include "crypto/sm2.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <valgrind/memcheck.h>

#define SECRET(object) ((void)VALGRIND_MAKE_MEM_UNDEFINED(&(object), sizeof(object)))
/* For what an operation is meant to publish. */
#define PUBLIC(object) ((void)VALGRIND_MAKE_MEM_DEFINED(&(object), sizeof(object)))

static int failures;

static void expect(const char *name, unsigned long before, bool reports)
{
    unsigned long count = VALGRIND_COUNT_ERRORS - before;
    bool good = reports ? count > 0 : count == 0;
    printf("%s %s: %lu reports\n", good ? "ok  " : "FAIL", name, count);
    failures += !good;
}

#define CLEAN(name, ...)                                                                           \
    do {                                                                                           \
        unsigned long before_ = VALGRIND_COUNT_ERRORS;                                             \
        __VA_ARGS__;                                                                               \
        expect(name, before_, false);                                                              \
    } while (0)

/* Sets `out` from the status of a call that cannot fail here. */
static void must(enum ami_status status)
{
    if (status != AMI_OK) {
        printf("FAIL a call returned %s\n", ami_status_name(status));
        exit(1);
    }
}

static void fill_random(void *out, size_t size)
{
    secret_random(out, size);
}

static scalar random_scalar(void)
{
    uint8_t wide[SM2_WIDE_BYTES];
    fill_random(wide, sizeof wide);
    return scalar_from_wide(wide);
}

static scalar secret_scalar(void)
{
    scalar k = random_scalar();
    SECRET(k);
    return k;
}

static sm2_private secret_key(void)
{
    scalar d = random_scalar();
    sm2_private key;
    must(sm2_private_init(&key, &d));
    SECRET(key.d);
    SECRET(key.inverse_1_plus_d);
    return key;
}

/* The instruction in it keeps the compiler from replacing the branch by a selection. */
static __attribute__((noinline)) void leaky_branch(const uint8_t *secret)
{
    if (secret[0] & 1)
        __asm__ volatile("nop");
}

static __attribute__((noinline)) int leaky_lookup(const uint8_t *secret)
{
    static volatile int table[256];
    return table[secret[0]];
}

static void negative_controls(void)
{
    uint8_t secret[1] = {3};
    volatile int sink;
    SECRET(secret);
    unsigned long before = VALGRIND_COUNT_ERRORS;
    leaky_branch(secret);
    expect("control: a branch on a secret is reported", before, true);
    before = VALGRIND_COUNT_ERRORS;
    sink = leaky_lookup(secret);
    expect("control: an address from a secret is reported", before, true);
    (void)sink;
    /* A secret has to be followed through libgcrypt's hash too: nonces come out of it. */
    uint8_t key[32] = {0};
    SECRET(key);
    struct span part = SPAN_LITERAL("text");
    sm3_digest digest = hmac_sm3(span_of(key, sizeof key), &part, 1);
    before = VALGRIND_COUNT_ERRORS;
    (void)VALGRIND_CHECK_MEM_IS_DEFINED(&digest, sizeof digest);
    expect("control: an HMAC under a secret key is secret", before, true);
}

static void check_scalars(void)
{
    uint8_t bytes[32], wide[SM2_WIDE_BYTES];
    scalar a = random_scalar(), b = secret_scalar(), c;
    scalar_encode(bytes, &a);
    SECRET(a);
    SECRET(bytes);
    CLEAN("scalar_decode", must(scalar_decode(&c, bytes)));
    CLEAN("scalar_encode", scalar_encode(bytes, &a));
    CLEAN("scalar_reduce", c = scalar_reduce(bytes));
    fill_random(wide, sizeof wide);
    SECRET(wide);
    CLEAN("scalar_from_wide", c = scalar_from_wide(wide));
    CLEAN("scalar_add", c = scalar_add(&a, &b));
    CLEAN("scalar_sub", c = scalar_sub(&a, &b));
    CLEAN("scalar_mul", c = scalar_mul(&a, &b));
    CLEAN("scalar_inverse", c = scalar_inverse(&a));
    bool zero, equal;
    CLEAN("scalar_is_zero, scalar_equal", zero = scalar_is_zero(&c); equal = scalar_equal(&a, &c));
    PUBLIC(zero);
    PUBLIC(equal);
    if (zero || equal)
        failures++;
}

static void check_products(void)
{
    scalar k[3] = {secret_scalar(), secret_scalar(), secret_scalar()};
    scalar special[3] = {random_scalar(), {{0}}, {{1}}};
    point p[3], out[3];
    for (int i = 0; i < 3; i++) {
        scalar public_k = random_scalar();
        p[i] = point_mul_base(&public_k);
    }
    struct point_table *table = point_table_new(&p[0]);
    if (table == NULL)
        exit(1);
    CLEAN("point_mul_base", out[0] = point_mul_base(&k[0]));
    CLEAN("point_mul_base_batch", point_mul_base_batch(out, k, 3));
    CLEAN("point_mul", out[0] = point_mul(&k[0], &p[0]));
    CLEAN("point_mul_batch", point_mul_batch(out, k, p, 3));
    CLEAN("point_mul_base_table_batch", point_mul_base_table_batch(out, k, special, table, 3));
    SECRET(special);
    CLEAN("point_mul_base_table_batch, both secret",
          point_mul_base_table_batch(out, k, special, table, 3));
    CLEAN("point_mul of edge scalars", point_mul_batch(out, special, p, 3));
    uint8_t xy[SM2_XY_BYTES];
    CLEAN("point_xy of a secret point", point_xy(xy, &out[0]));
    CLEAN("point_add of secret points", out[1] = point_add(&out[0], &out[2]));
    point_table_free(table);
}

static void check_signatures(void)
{
    sm2_private key = secret_key();
    sm3_digest e[3];
    uint8_t random[3][SM2_WIDE_BYTES];
    sm2_signature sig[3];
    bool ok[3];
    fill_random(e, sizeof e);
    fill_random(random, sizeof random);
    SECRET(random);
    CLEAN("sm2_sign", sig[0] = sm2_sign(&key, &e[0], random[0]));
    CLEAN("sm2_sign_batch",
          sm2_sign_batch(sig, &key, e, (const uint8_t(*)[SM2_WIDE_BYTES])random, 3));
    PUBLIC(sig);
    const point p[3] = {key.p, key.p, key.p};
    must(sm2_verify_batch(p, e, sig, ok, 3));
    scalar k = secret_scalar();
    CLEAN("sm2_sign_with_nonce", must(sm2_sign_with_nonce(&sig[0], &key, &e[0], &k)));
    PUBLIC(sig);
    must(sm2_verify(&key.p, &e[0], &sig[0]));
    CLEAN("sm2_private_init", must(sm2_private_init(&key, &k)));
}

static void check_implicit_certificates(void)
{
    scalar x = random_scalar(), d_prime = random_scalar(), w = secret_scalar(), t;
    point pub = point_mul_base(&x), u = point_mul_base(&d_prime), w_point;
    sm3_digest h_a = sm2_z(SPAN_LITERAL("meter"), &pub);
    sm2_private key;
    SECRET(x);
    SECRET(d_prime);
    CLEAN("sm2_implicit_issue", sm2_implicit_issue(&w_point, &t, &w, &x, &u, &h_a));
    CLEAN("sm2_implicit_accept",
          must(sm2_implicit_accept(&key, &t, &d_prime, &w_point, &h_a, &pub)));
}

static void check_encryption(void)
{
    sm2_private key = secret_key();
    uint8_t random[SM2_WIDE_BYTES], sent[48], received[48], text[20] = {0}, out[20];
    uint8_t sealed[sizeof text + SM2_ENCRYPT_OVERHEAD_BYTES];
    point_bytes c1;
    fill_random(random, sizeof random);
    SECRET(random);
    SECRET(text);
    CLEAN("sm2_encapsulate",
          must(sm2_encapsulate(&c1, sent, sizeof sent, &key.p, SPAN_LITERAL("info"), random)));
    CLEAN("sm2_decapsulate",
          must(sm2_decapsulate(received, sizeof received, &key, &c1, SPAN_LITERAL("info"))));
    CLEAN("sm2_encrypt", must(sm2_encrypt(sealed, &key.p, span_of(text, sizeof text), random)));
    PUBLIC(sealed);
    CLEAN("sm2_decrypt", must(sm2_decrypt(out, &key, span_of(sealed, sizeof sealed))));
    PUBLIC(sent);
    PUBLIC(received);
    PUBLIC(out);
    PUBLIC(text);
    if (memcmp(sent, received, sizeof sent) != 0 || memcmp(out, text, sizeof out) != 0)
        failures++;
}

static void check_exchange(void)
{
    sm2_private key[2] = {secret_key(), secret_key()};
    scalar r[2] = {random_scalar(), random_scalar()};
    point r_point[2];
    sm3_digest z[2];
    struct sm2_exchange_in in[2];
    struct sm2_exchange_out out[2];
    uint8_t shared[2][32];
    bool ok[2];
    point_mul_base_batch(r_point, r, 2);
    SECRET(r);
    z[0] = sm2_z(SPAN_LITERAL("meter"), &key[0].p);
    z[1] = sm2_z(SPAN_LITERAL("dc"), &key[1].p);
    for (int i = 0; i < 2; i++)
        in[i] = (struct sm2_exchange_in){.initiator = i == 0,
                                         .d = &key[i].d,
                                         .r = &r[i],
                                         .r_a = &r_point[0],
                                         .r_b = &r_point[1],
                                         .p_peer = &key[1 - i].p,
                                         .z_a = &z[0],
                                         .z_b = &z[1]};
    CLEAN("sm2_exchange", must(sm2_exchange(&out[0], &in[0])));
    CLEAN("sm2_exchange_batch", must(sm2_exchange_batch(out, in, ok, 2)));
    for (int i = 0; i < 2; i++)
        CLEAN("sm2_exchange_key", sm2_exchange_key(shared[i], 32, &out[i], &z[0], &z[1]));
    PUBLIC(shared);
    if (memcmp(shared[0], shared[1], 32) != 0)
        failures++;
}

int main(void)
{
    if (!RUNNING_ON_VALGRIND) {
        fputs("this program checks nothing unless it runs under valgrind\n", stderr);
        return 2;
    }
    must(crypto_start());
    negative_controls();
    check_scalars();
    check_products();
    check_signatures();
    check_implicit_certificates();
    check_encryption();
    check_exchange();
    printf("%d failures\n", failures);
    return failures == 0 ? 0 : 1;
}
