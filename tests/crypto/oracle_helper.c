/* The library's side of oracle.py: reads one case per line, writes one answer per line.
 *
 * Fields are hex words; "-" is the empty string.
 *   h2c DST MSG                                   -> xy
 *   implicit X D' W ID MSG K                      -> xyW t lambda d xyP e r s
 *   exchange DA RA IDA DB RB IDB SIZE(decimal)    -> xyV inner S_A S_B key, from both sides
 *   kdf Z SIZE                                    -> bytes
 *   sm3 MSG SIZES (a byte each)                   -> digest by init, updates and final; in one call
 *   hmac KEY MSG                                  -> digest
 *   gcm KEY NONCE AAD TEXT                        -> ciphertext and tag
 *   ctr KEY COUNTER TEXT                          -> ciphertext
 *   bases                                         -> xyG xyNegG
 * A line that cannot be read ends the program with status 1.
 */
#include "crypto/secret.h"
#include "crypto/sm2.h"
#include "crypto/sm4ctr.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_MAX_BYTES 8192
#define WORDS_MAX      8
#define BYTES_MAX      1024

struct bytes {
    uint8_t data[BYTES_MAX];
    size_t size;
};

static void die(const char *why)
{
    fprintf(stderr, "oracle_helper: %s\n", why);
    exit(1);
}

static void must(enum ami_status status)
{
    if (status != AMI_OK)
        die(ami_status_name(status));
}

static struct bytes bytes_of(const char *word)
{
    struct bytes b = {.size = 0};
    if (strcmp(word, "-") == 0)
        return b;
    b.size = strlen(word) / 2;
    if (b.size > BYTES_MAX)
        die("a word is too long");
    must(hex_decode(b.data, b.size, word));
    return b;
}

static scalar scalar_of_word(const char *word)
{
    struct bytes b = bytes_of(word);
    scalar k;
    if (b.size != SM2_SCALAR_BYTES)
        die("a scalar has 32 bytes");
    must(scalar_decode(&k, b.data));
    return k;
}

static size_t size_of_word(const char *word)
{
    unsigned long size = strtoul(word, NULL, 10);
    if (size > BYTES_MAX)
        die("a size is too large");
    return size;
}

static void put(const void *data, size_t size)
{
    char text[2 * BYTES_MAX + 1];
    hex_encode(text, data, size);
    printf("%s ", text);
}

static void put_point(const point *p)
{
    uint8_t xy[SM2_XY_BYTES];
    point_xy(xy, p);
    put(xy, sizeof xy);
}

static void put_scalar(const scalar *k)
{
    uint8_t b[SM2_SCALAR_BYTES];
    scalar_encode(b, k);
    put(b, sizeof b);
}

static void answer_h2c(char **word)
{
    struct bytes dst = bytes_of(word[1]), message = bytes_of(word[2]);
    /* In two parts, as callers do. */
    size_t half = message.size / 2;
    struct span parts[] = {span_of(message.data, half),
                           span_of(message.data + half, message.size - half)};
    point p = point_hash_to_curve(parts, 2, span_of(dst.data, dst.size));
    put_point(&p);
}

static void answer_implicit(char **word)
{
    scalar x = scalar_of_word(word[1]), d_prime = scalar_of_word(word[2]);
    scalar w = scalar_of_word(word[3]), k = scalar_of_word(word[6]), t, lambda;
    struct bytes id = bytes_of(word[4]), message = bytes_of(word[5]);
    point pub = point_mul_base(&x), u = point_mul_base(&d_prime), w_point, p;
    sm3_digest h_a = sm2_z(span_of(id.data, id.size), &pub);
    sm2_implicit_issue(&w_point, &t, &w, &x, &u, &h_a);
    lambda = sm2_implicit_lambda(&w_point, &h_a);
    sm2_private key;
    must(sm2_implicit_accept(&key, &t, &d_prime, &w_point, &h_a, &pub));
    must(sm2_implicit_public(&p, &w_point, &h_a, &pub));
    struct span part = span_of(message.data, message.size);
    sm3_digest e = sm2_implicit_digest(&h_a, &w_point, &part, 1);
    sm2_signature sig;
    must(sm2_sign_with_nonce(&sig, &key, &e, &k));
    must(sm2_verify(&p, &e, &sig));
    put_point(&w_point);
    put_scalar(&t);
    put_scalar(&lambda);
    put_scalar(&key.d);
    put_point(&p);
    put(e.b, sizeof e.b);
    put(sig.b, sizeof sig.b);
}

static void answer_exchange(char **word)
{
    scalar d[2] = {scalar_of_word(word[1]), scalar_of_word(word[4])};
    scalar r[2] = {scalar_of_word(word[2]), scalar_of_word(word[5])};
    struct bytes id[2] = {bytes_of(word[3]), bytes_of(word[6])};
    size_t size = size_of_word(word[7]);
    point p[2], r_point[2];
    sm3_digest z[2];
    point_mul_base_batch(p, d, 2);
    point_mul_base_batch(r_point, r, 2);
    for (int i = 0; i < 2; i++)
        z[i] = sm2_z(span_of(id[i].data, id[i].size), &p[i]);
    for (int i = 0; i < 2; i++) {
        struct sm2_exchange_in in = {.initiator = i == 0,
                                     .d = &d[i],
                                     .r = &r[i],
                                     .r_a = &r_point[0],
                                     .r_b = &r_point[1],
                                     .p_peer = &p[1 - i],
                                     .z_a = &z[0],
                                     .z_b = &z[1]};
        struct sm2_exchange_out out;
        uint8_t key[BYTES_MAX];
        must(sm2_exchange(&out, &in));
        sm2_exchange_key(key, size, &out, &z[0], &z[1]);
        put(out.xy_v, sizeof out.xy_v);
        put(out.inner.b, sizeof out.inner.b);
        put(out.s_a.b, sizeof out.s_a.b);
        put(out.s_b.b, sizeof out.s_b.b);
        put(key, size);
    }
}

static void answer_kdf(char **word)
{
    struct bytes z = bytes_of(word[1]);
    size_t size = size_of_word(word[2]);
    uint8_t out[BYTES_MAX];
    struct span part = span_of(z.data, z.size);
    sm2_kdf(out, size, &part, 1);
    put(out, size);
}

/* Updates of these sizes, over and over; of the whole rest when there are none. */
static void answer_sm3(char **word)
{
    struct bytes message = bytes_of(word[1]), sizes = bytes_of(word[2]);
    struct sm3_stream stream;
    must(sm3_stream_begin(&stream));
    for (size_t at = 0, i = 0, take; at < message.size; at += take, i++) {
        take = message.size - at;
        if (sizes.size > 0 && sizes.data[i % sizes.size] < take)
            take = sizes.data[i % sizes.size];
        sm3_stream_update(&stream, span_of(message.data + at, take));
    }
    sm3_digest streamed = sm3_stream_final(&stream),
               whole = sm3(span_of(message.data, message.size));
    put(streamed.b, sizeof streamed.b);
    put(whole.b, sizeof whole.b);
}

static void answer_hmac(char **word)
{
    struct bytes key = bytes_of(word[1]), message = bytes_of(word[2]);
    struct span part = span_of(message.data, message.size);
    sm3_digest out = hmac_sm3(span_of(key.data, key.size), &part, 1);
    put(out.b, sizeof out.b);
}

static sm4_key key_of_word(const char *word)
{
    struct bytes b = bytes_of(word);
    sm4_key key;
    if (b.size != sizeof key.b)
        die("a key of SM4 has 16 bytes");
    memcpy(key.b, b.data, sizeof key.b);
    return key;
}

static void answer_gcm(char **word)
{
    sm4_key key = key_of_word(word[1]);
    struct bytes n = bytes_of(word[2]), aad = bytes_of(word[3]), text = bytes_of(word[4]);
    gcm_nonce nonce;
    uint8_t out[BYTES_MAX + GCM_TAG_BYTES];
    if (n.size != sizeof nonce.b)
        die("a nonce has 12 bytes");
    memcpy(nonce.b, n.data, sizeof nonce.b);
    sm4gcm_seal(out, &key, &nonce, span_of(aad.data, aad.size), span_of(text.data, text.size));
    put(out, text.size + GCM_TAG_BYTES);
}

static void answer_ctr(char **word)
{
    sm4_key key = key_of_word(word[1]);
    struct bytes counter = bytes_of(word[2]), text = bytes_of(word[3]);
    if (counter.size != SM4_BLOCK_BYTES)
        die("a counter has 16 bytes");
    sm4ctr_xor(text.data, &key, counter.data, span_of(text.data, text.size));
    put(text.data, text.size);
}

static void answer_bases(char **word)
{
    (void)word;
    point minus = point_negate(point_generator());
    put_point(point_generator());
    put_point(&minus);
}

static const struct {
    const char *name;
    int words;
    void (*answer)(char **word);
} commands[] = {
    {"h2c", 3, answer_h2c}, {"implicit", 7, answer_implicit}, {"exchange", 8, answer_exchange},
    {"kdf", 3, answer_kdf}, {"hmac", 3, answer_hmac},         {"gcm", 5, answer_gcm},
    {"ctr", 4, answer_ctr}, {"bases", 1, answer_bases},       {"sm3", 3, answer_sm3},
};

static void answer(char *line)
{
    char *word[WORDS_MAX], *rest = NULL;
    int count = 0;
    for (char *w = strtok_r(line, " \n", &rest); w != NULL; w = strtok_r(NULL, " \n", &rest)) {
        if (count == WORDS_MAX)
            die("too many words");
        word[count++] = w;
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (count == commands[i].words && strcmp(word[0], commands[i].name) == 0) {
            commands[i].answer(word);
            printf("\n");
            return;
        }
    die("no such command");
}

int main(void)
{
    static char line[LINE_MAX_BYTES];
    must(crypto_start());
    while (fgets(line, sizeof line, stdin) != NULL)
        answer(line);
    return 0;
}
