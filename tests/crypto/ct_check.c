/* Constant-time check of the secret paths, to be run under valgrind's memcheck or built with
 * clang's MemorySanitizer.
 *
 * Secrets are marked as undefined memory; the checker then reports every branch and every address
 * that depends on one. Crypto's own sources are built with AMI_CT_CHECK or AMI_CT_MSAN, so the few
 * values whose disclosure is harmless are declared public where they arise (crypto/ct.h). What the
 * program prints:
 *   - each operation with the number of reports, which has to be 0;
 *   - negative controls, which have to be reported: a branch and a table look-up on a secret, and
 * an own, leaky way to pick a table's entry. Without them a checker that sees nothing would pass.
 * SM3, SM4 and argon2 belong to libgcrypt and libsodium and are not judged here. Secrets stay
 * secret behind libgcrypt's SM3: memcheck follows them, and for MemorySanitizer CT_DERIVED does.
 */
#include "crypto/ct.h"
#include "crypto/secret.h"
#include "crypto/sm2.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef AMI_CT_MSAN
/* MemorySanitizer's reports, counted as they are printed. */
void __sanitizer_on_print(const char *text);
static volatile unsigned long msan_reports;
__attribute__((no_sanitize("memory"))) void __sanitizer_on_print(const char *text)
{
    /* Not by strstr, which is watched itself. */
    static const char sign[] = "WARNING: MemorySanitizer: use";
    for (; *text != 0; text++) {
        size_t i = 0;
        while (sign[i] != 0 && text[i] == sign[i])
            i++;
        if (sign[i] == 0)
            msan_reports++;
    }
}
#define REPORTS()      msan_reports
#define SECRET(object) __msan_poison(&(object), sizeof(object))
#define PUBLIC(object) __msan_unpoison(&(object), sizeof(object))
#define USE(object)    (msan_reports += __msan_test_shadow(&(object), sizeof(object)) >= 0)
#define CHECKED()      true
#else
#define REPORTS()      VALGRIND_COUNT_ERRORS
#define SECRET(object) ((void)VALGRIND_MAKE_MEM_UNDEFINED(&(object), sizeof(object)))
/* For what an operation is meant to publish. */
#define PUBLIC(object) ((void)VALGRIND_MAKE_MEM_DEFINED(&(object), sizeof(object)))
#define USE(object)    ((void)VALGRIND_CHECK_MEM_IS_DEFINED(&(object), sizeof(object)))
#define CHECKED()      RUNNING_ON_VALGRIND
#endif

static int failures;

static void expect(const char *name, unsigned long before, bool reports)
{
    unsigned long count = (unsigned long)REPORTS() - before;
    bool good = reports ? count > 0 : count == 0;
    printf("%s %s: %lu reports\n", good ? "ok  " : "FAIL", name, count);
    failures += !good;
}

#define CLEAN(name, ...)                                                                           \
    do {                                                                                           \
        unsigned long before_ = (unsigned long)REPORTS();                                          \
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

/* What a careless comb does: the digit is the address. */
static __attribute__((noinline)) uint64_t leaky_pick(const point row[16], const scalar *k)
{
    return row[k->w[0] & 15].x[0];
}

static void negative_controls(void)
{
    uint8_t secret[1] = {3};
    volatile int sink;
    SECRET(secret);
    unsigned long before = (unsigned long)REPORTS();
    leaky_branch(secret);
    expect("control: a branch on a secret is reported", before, true);
    before = (unsigned long)REPORTS();
    sink = leaky_lookup(secret);
    expect("control: an address from a secret is reported", before, true);
    (void)sink;
    point row[16] = {{{0}, {0}}};
    scalar k = {{5}};
    SECRET(k);
    before = (unsigned long)REPORTS();
    sink = (int)leaky_pick(row, &k);
    expect("control: a table's entry by a secret digit is reported", before, true);
    (void)sink;
    /* A secret has to be followed through libgcrypt's hash too: nonces come out of it. */
    uint8_t key[32] = {0};
    SECRET(key);
    struct span part = SPAN_LITERAL("text");
    sm3_digest digest = hmac_sm3(span_of(key, sizeof key), &part, 1);
    before = (unsigned long)REPORTS();
    USE(digest);
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

/* Sizes that meet each way a path cuts a batch: alone, a few, a full group, several, with a rest.
 */
#define MOST 35
static const size_t sizes[] = {1, 2, 3, 8, 9, MOST};

static void check_products(void)
{
    static scalar a[MOST], b[MOST];
    static point p[MOST], out[MOST];
    for (int i = 0; i < MOST; i++) {
        scalar public_k = random_scalar();
        p[i] = point_mul_base(&public_k);
        a[i] = random_scalar();
        b[i] = random_scalar();
    }
    /* Values that a comb might treat in a way of its own. */
    a[3] = (scalar){{0}};
    a[5] = (scalar){{1}};
    a[6] = (scalar){{6}};
    b[4] = (scalar){{0}};
    struct point_table *table = point_table_new(&p[0]);
    if (table == NULL)
        exit(1);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const size_t count = sizes[i];
        SECRET(a);
        SECRET(b);
        printf("batches of %zu\n", count);
        CLEAN("point_mul_base_batch", point_mul_base_batch(out, a, count));
        /* The checker has followed the secrets all the way, through every lane: results are secret.
         */
        unsigned long before = (unsigned long)REPORTS();
        USE(out[count - 1]);
        expect("control: a product by a secret is secret", before, true);
        SECRET(a); /* what was found to be special was made public */
        CLEAN("point_mul_batch", point_mul_batch(out, a, p, count));
        SECRET(a);
        CLEAN("point_mul_base_table_batch", point_mul_base_table_batch(out, a, b, table, count));
        SECRET(a);
        CLEAN("scalar_inverse_batch", scalar_inverse_batch(b, a, count));
    }
    uint8_t xy[SM2_XY_BYTES];
    SECRET(out);
    PUBLIC(p);
    out[0] = point_mul_base(&b[0]);
    out[2] = point_mul_base(&b[2]);
    CLEAN("point_xy of a secret point", point_xy(xy, &out[0]));
    CLEAN("point_add of secret points", out[1] = point_add(&out[0], &out[2]));
    point_table_free(table);
}

static void check_signatures(void)
{
    static sm2_private key[MOST];
    static const sm2_private *key_at[MOST];
    static sm3_digest e[MOST];
    static uint8_t random[MOST][SM2_WIDE_BYTES];
    static sm2_signature sig[MOST];
    static point p[MOST];
    static bool ok[MOST];
    fill_random(e, sizeof e);
    fill_random(random, sizeof random);
    for (int i = 0; i < MOST; i++) {
        key[i] = secret_key();
        key_at[i] = &key[i];
        p[i] = key[i].p;
    }
    SECRET(random);
    CLEAN("sm2_sign", sig[0] = sm2_sign(&key[0], &e[0], random[0]));
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        printf("batches of %zu\n", sizes[i]);
        CLEAN("sm2_sign_batch",
              sm2_sign_batch(sig, key_at, e, (const uint8_t(*)[SM2_WIDE_BYTES])random, sizes[i]));
    }
    PUBLIC(sig);
    must(sm2_verify_batch(p, e, sig, ok, MOST));
    scalar k = secret_scalar();
    CLEAN("sm2_sign_with_nonce", must(sm2_sign_with_nonce(&sig[0], &key[0], &e[0], &k)));
    PUBLIC(sig);
    must(sm2_verify(&p[0], &e[0], &sig[0]));
    CLEAN("sm2_private_init", must(sm2_private_init(&key[0], &k)));
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
    static point_bytes c1s[MOST];
    static uint8_t keys[MOST][SM2_SHARED_KEY_BYTES], opened[MOST][SM2_SHARED_KEY_BYTES];
    static uint8_t randoms[MOST][SM2_WIDE_BYTES];
    static bool ok[MOST];
    fill_random(randoms, sizeof randoms);
    SECRET(randoms);
    CLEAN("sm2_encapsulate_batch",
          must(sm2_encapsulate_batch(c1s, keys, &key.p, SPAN_LITERAL("info"),
                                     (const uint8_t(*)[SM2_WIDE_BYTES])randoms, MOST)));
    CLEAN("sm2_decapsulate_batch",
          must(sm2_decapsulate_batch(opened, ok, &key, c1s, SPAN_LITERAL("info"), MOST)));
    PUBLIC(keys);
    PUBLIC(opened);
    PUBLIC(sent);
    PUBLIC(received);
    PUBLIC(out);
    PUBLIC(text);
    if (memcmp(keys, opened, sizeof keys) != 0 || memcmp(sent, received, sizeof sent) != 0 ||
        memcmp(out, text, sizeof out) != 0)
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

/* Both schemes' secret paths as keyagree/ puts them together: products with a table of P_pub, and
 * the exchange, in groups. */
static void check_agreements(void)
{
    static scalar b[MOST], b_a[MOST], b_h[MOST], r[MOST];
    static point t[MOST], k[MOST], r_point[MOST];
    static struct sm2_exchange_in in[MOST];
    static struct sm2_exchange_out out[MOST];
    static bool ok[MOST];
    sm2_private key = secret_key(), peer = secret_key();
    const sm3_digest z = sm2_z(SPAN_LITERAL("meter"), &peer.p);
    struct point_table *table = point_table_new(&peer.p);
    if (table == NULL)
        exit(1);
    for (int i = 0; i < MOST; i++) {
        b[i] = random_scalar();
        r[i] = random_scalar();
    }
    point_mul_base_batch(r_point, r, MOST);
    SECRET(b);
    SECRET(r);
    for (int i = 0; i < MOST; i++) {
        const scalar public_a = random_scalar();
        CLEAN("scalar_mul", b_a[i] = scalar_mul(&b[i], &public_a));
        b_h[i] = scalar_mul(&b[i], &b_a[i]);
        in[i] = (struct sm2_exchange_in){.initiator = false,
                                         .d = &key.d,
                                         .r = &r[i],
                                         .r_a = &r_point[0],
                                         .r_b = &r_point[i],
                                         .p_peer = &peer.p,
                                         .z_a = &z,
                                         .z_b = &z};
    }
    CLEAN("liu2023: T_DC", point_mul_base_batch(t, b, MOST));
    CLEAN("liu2023: k", point_mul_base_table_batch(k, b_a, b_h, table, MOST));
    CLEAN("sm2kx: sm2_exchange_batch", must(sm2_exchange_batch(out, in, ok, MOST)));
    point_table_free(table);
}

int main(void)
{
    if (!CHECKED()) {
        fputs("this program checks nothing unless it runs under valgrind\n", stderr);
        return 2;
    }
    must(crypto_start());
    printf("path %s\n", sm2_path_name());
    negative_controls();
    check_scalars();
    check_products();
    check_signatures();
    check_implicit_certificates();
    check_encryption();
    check_exchange();
    check_agreements();
    printf("%d failures\n", failures);
    fflush(stdout);
    /* Not by way of MemorySanitizer's own end, which the controls' reports would make a failure. */
    _exit(failures == 0 ? 0 : 1);
}
