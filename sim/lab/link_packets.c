/* Packets of a tunnel, encrypted and then authenticated, as the HMAC-SM3 papers have them: AES and
 * SM4 in CBC, each with HMAC-SM3 and with HMAC-SHA-1. And SM3 of a long message in chunks. */
#include "sim/lab/links_crypto.h"

#include "base/check.h"
#include "crypto/secret.h"
#include "crypto/sm3.h"
#include "sim/lab/unit.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#define BATCH       64 /* packets between two looks at the clock */
#define BYTES_MAX   1420
#define IV_BYTES    16
#define BLOCK_BYTES 16
#define MAC_BYTES   32
#define KEY_BYTES   16 /* both ciphers' */

static const size_t sizes[] = {64, 128, 256, 512, 1024, BYTES_MAX};
#define SIZES (sizeof sizes / sizeof sizes[0])

static const struct lab_column columns[] = {
    {.name = "bytes", .title = "packet", .unit = "bytes", .source = LAB_ASSUMED},
    {.name = "suite", .title = "suite"},
    {.name = "by", .title = "HMAC by"},
    {.name = "protect",
     .title = "protected",
     .unit = "Mbit/s",
     .decimals = 0,
     .source = LAB_MEASURED,
     .clock = true},
    {.name = "check",
     .title = "checked and opened",
     .unit = "Mbit/s",
     .decimals = 0,
     .source = LAB_MEASURED,
     .clock = true},
    {.name = "ratio",
     .title = "of HMAC-SHA1's",
     .unit = "%",
     .decimals = 0,
     .source = LAB_MEASURED,
     .clock = true},
    {0}};

static const struct lab_column reported_columns[] = {
    {.name = "bytes", .title = "packet", .unit = "bytes", .source = LAB_REPORTED},
    {.name = "suite", .title = "suite"},
    {.name = "rate", .title = "rate", .unit = "Mbit/s", .decimals = 1, .source = LAB_REPORTED},
    {0}};

/* --- packets --------------------------------------------------------------------------------- */

enum mac { MAC_SHA1, MAC_SM3_OURS, MAC_SM3_OPENSSL };
static const struct suite {
    const char *name, *by;
    const EVP_CIPHER *(*cipher)(void);
    enum mac mac;
} suites[] = {{"AES-CBC, HMAC-SHA1", "OpenSSL", EVP_aes_128_cbc, MAC_SHA1},
              {"AES-CBC, HMAC-SM3", "amiledger", EVP_aes_128_cbc, MAC_SM3_OURS},
              {"AES-CBC, HMAC-SM3 (OpenSSL)", "OpenSSL", EVP_aes_128_cbc, MAC_SM3_OPENSSL},
              {"SM4-CBC, HMAC-SHA1", "OpenSSL", EVP_sm4_cbc, MAC_SHA1},
              {"SM4-CBC, HMAC-SM3", "amiledger", EVP_sm4_cbc, MAC_SM3_OURS},
              {"SM4-CBC, HMAC-SM3 (OpenSSL)", "OpenSSL", EVP_sm4_cbc, MAC_SM3_OPENSSL}};
#define SUITES (sizeof suites / sizeof suites[0])

/* A tunnel with one key for each cipher and HMAC, kept in OpenSSL's contexts. */
struct tunnel {
    const struct suite *suite;
    size_t size;
    uint64_t number;
    EVP_CIPHER_CTX *seal, *open;
    EVP_MAC_CTX *mac;
    uint8_t mac_key[MAC_BYTES], text[BYTES_MAX], plain[BYTES_MAX + BLOCK_BYTES];
    uint8_t packet[BATCH][IV_BYTES + BYTES_MAX + BLOCK_BYTES + MAC_BYTES];
};

static void put_mac(uint8_t out[MAC_BYTES], struct tunnel *t, struct span message)
{
    size_t size = 0;
    if (t->suite->mac == MAC_SM3_OURS) {
        sm3_digest mac = hmac_sm3(span_of(t->mac_key, sizeof t->mac_key), &message, 1);
        memcpy(out, mac.b, sizeof mac.b);
        return;
    }
    memset(out, 0, MAC_BYTES);
    AMI_CHECK(EVP_MAC_init(t->mac, NULL, 0, NULL) == 1 &&
              EVP_MAC_update(t->mac, message.data, message.size) == 1 &&
              EVP_MAC_final(t->mac, out, &size, MAC_BYTES) == 1);
}

/* IV, ciphertext, HMAC over both. */
static size_t protect(struct tunnel *t, uint8_t *packet)
{
    int size = 0, rest = 0;
    memset(packet, 0, IV_BYTES);
    store_be64(packet, t->number++);
    uint8_t *sealed = packet + IV_BYTES;
    AMI_CHECK(EVP_EncryptInit_ex(t->seal, NULL, NULL, NULL, packet) == 1 &&
              EVP_EncryptUpdate(t->seal, sealed, &size, t->text, (int)t->size) == 1 &&
              EVP_EncryptFinal_ex(t->seal, sealed + size, &rest) == 1);
    const size_t all = IV_BYTES + (size_t)size + (size_t)rest;
    put_mac(packet + all, t, span_of(packet, all));
    return all + MAC_BYTES;
}

static bool check_and_open(struct tunnel *t, const uint8_t *packet, size_t packet_size)
{
    uint8_t mac[MAC_BYTES];
    const size_t all = packet_size - MAC_BYTES;
    int size = 0, rest = 0;
    put_mac(mac, t, span_of(packet, all));
    return secret_equal(mac, packet + all, MAC_BYTES) &&
           EVP_DecryptInit_ex(t->open, NULL, NULL, NULL, packet) == 1 &&
           EVP_DecryptUpdate(t->open, t->plain, &size, packet + IV_BYTES, (int)(all - IV_BYTES)) ==
               1 &&
           EVP_DecryptFinal_ex(t->open, t->plain + size, &rest) == 1 &&
           (size_t)(size + rest) == t->size;
}

static bool send_batch(void *with, double ns[2])
{
    struct tunnel *t = with;
    size_t size = 0;
    bool good = true;
    uint64_t from = lab_cpu_ns();
    for (size_t i = 0; i < BATCH; i++)
        size = protect(t, t->packet[i]);
    ns[0] += (double)(lab_cpu_ns() - from);
    from = lab_cpu_ns();
    for (size_t i = 0; i < BATCH; i++)
        good = check_and_open(t, t->packet[i], size) && good;
    ns[1] += (double)(lab_cpu_ns() - from);
    return good && memcmp(t->plain, t->text, t->size) == 0;
}

static void tunnel_make(struct tunnel *t, const struct suite *suite)
{
    char sm3_name[] = "SM3", sha1_name[] = "SHA1";
    uint8_t key[KEY_BYTES];
    const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(
                                     "digest", suite->mac == MAC_SHA1 ? sha1_name : sm3_name, 0),
                                 OSSL_PARAM_END};
    EVP_MAC *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    memset(t, 0, sizeof *t);
    t->suite = suite;
    secret_random(key, sizeof key);
    secret_random(t->mac_key, sizeof t->mac_key);
    secret_random(t->text, sizeof t->text);
    t->seal = EVP_CIPHER_CTX_new();
    t->open = EVP_CIPHER_CTX_new();
    t->mac = EVP_MAC_CTX_new(hmac);
    AMI_CHECK(t->seal != NULL && t->open != NULL && t->mac != NULL);
    AMI_CHECK(EVP_EncryptInit_ex(t->seal, suite->cipher(), NULL, key, t->text) == 1 &&
              EVP_DecryptInit_ex(t->open, suite->cipher(), NULL, key, t->text) == 1 &&
              EVP_MAC_init(t->mac, t->mac_key, sizeof t->mac_key, params) == 1);
    EVP_MAC_free(hmac);
}

static void tunnel_free(struct tunnel *t)
{
    EVP_CIPHER_CTX_free(t->seal);
    EVP_CIPHER_CTX_free(t->open);
    EVP_MAC_CTX_free(t->mac);
    secret_wipe(t, sizeof *t);
}

void link_packets(struct lab_output *out)
{
    static const struct {
        int64_t bytes;
        double rate;
    } reported[] = {{64, 106.1}, {1420, 578.8}};
    static struct tunnel tunnel[SUITES];
    struct lab_two_sided work[SUITES];
    struct lab_table *t = lab_table(out, "packets", "Packets with a cipher and an HMAC", columns);
    struct lab_table *paper = lab_table(
        out, "reported_packets", "As the seed \"HMAC-SM3\" reports its tunnel", reported_columns);
    for (size_t i = 0; i < SUITES; i++)
        tunnel_make(&tunnel[i], &suites[i]);
    for (size_t n = 0; n < SIZES; n++) {
        for (size_t i = 0; i < SUITES; i++) {
            tunnel[i].size = sizes[n];
            work[i] = (struct lab_two_sided){.run = send_batch, .with = &tunnel[i], .size = BATCH};
        }
        lab_time_two_sided(work, SUITES);
        for (size_t i = 0; i < SUITES; i++) {
            const size_t sha1 = i / 3 * 3; /* of the same cipher */
            const double bits = 8.0 * (double)sizes[n];
            if (work[i].wrong)
                lab_fail(out, "packets: %s: a packet did not arrive as it was", suites[i].name);
            lab_integer(t, (int64_t)sizes[n]);
            lab_text(t, "%s", suites[i].name);
            lab_text(t, "%s", suites[i].by);
            lab_real(t, bits / work[i].side[0].median_us);
            lab_real(t, bits / work[i].side[1].median_us);
            lab_real(t, 100 * work[sha1].side[0].median_us / work[i].side[0].median_us);
        }
    }
    for (size_t i = 0; i < SUITES; i++)
        tunnel_free(&tunnel[i]);
    for (size_t i = 0; i < sizeof reported / sizeof reported[0]; i++) {
        lab_integer(paper, reported[i].bytes);
        lab_text(paper, "AES, HMAC-SM3");
        lab_real(paper, reported[i].rate);
    }
}

/* --- SM3 in chunks --------------------------------------------------------------------------- */

#define MESSAGE_BYTES ((size_t)1 << 20)
#define TINY_BYTES    ((size_t)1 << 14)

static const struct lab_column chunk_columns[] = {
    {.name = "chunk", .title = "update of", .unit = "bytes", .source = LAB_ASSUMED},
    {.name = "message", .title = "message", .unit = "bytes", .source = LAB_ASSUMED},
    {.name = "digest", .title = "digest"},
    {.name = "ours",
     .title = "amiledger",
     .unit = "MB/s",
     .decimals = 0,
     .source = LAB_MEASURED,
     .clock = true},
    {.name = "openssl",
     .title = "OpenSSL",
     .unit = "MB/s",
     .decimals = 0,
     .source = LAB_MEASURED,
     .clock = true},
    {0}};

struct chunks {
    uint8_t *message;
    size_t size, chunk;
    sm3_digest expected;
};

/* In two sides: ours, OpenSSL's. */
static bool hash_in_chunks(void *with, double ns[2])
{
    const struct chunks *c = with;
    struct sm3_stream stream;
    sm3_digest theirs;
    uint64_t from = lab_cpu_ns();
    AMI_CHECK(sm3_stream_begin(&stream) == AMI_OK);
    for (size_t at = 0; at < c->size; at += c->chunk)
        sm3_stream_update(
            &stream, span_of(c->message + at, c->size - at < c->chunk ? c->size - at : c->chunk));
    sm3_digest ours = sm3_stream_final(&stream);
    ns[0] += (double)(lab_cpu_ns() - from);
    from = lab_cpu_ns();
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    AMI_CHECK(md != NULL && EVP_DigestInit_ex(md, EVP_sm3(), NULL) == 1);
    for (size_t at = 0; at < c->size; at += c->chunk)
        AMI_CHECK(EVP_DigestUpdate(md, c->message + at,
                                   c->size - at < c->chunk ? c->size - at : c->chunk) == 1);
    AMI_CHECK(EVP_DigestFinal_ex(md, theirs.b, NULL) == 1);
    EVP_MD_CTX_free(md);
    ns[1] += (double)(lab_cpu_ns() - from);
    return sm3_equal(&ours, &c->expected) && sm3_equal(&theirs, &c->expected);
}

void link_chunks(struct lab_output *out, const struct lab_options *o)
{
    static const size_t chunk[] = {1, 63, 64, 65, 1000, 65536, MESSAGE_BYTES};
    const size_t size = lab_size(o, MESSAGE_BYTES, TINY_BYTES);
    struct lab_table *t = lab_table(out, "chunks", "SM3 by init, updates and final", chunk_columns);
    struct chunks c = {.message = malloc(size), .size = size};
    AMI_CHECK(c.message != NULL);
    secret_random(c.message, size);
    c.expected = sm3(span_of(c.message, size));
    for (size_t i = 0; i < sizeof chunk / sizeof chunk[0]; i++) {
        struct lab_two_sided work = {.run = hash_in_chunks, .with = &c, .size = 1};
        c.chunk = chunk[i] < size ? chunk[i] : size;
        lab_time_two_sided(&work, 1);
        if (work.wrong)
            lab_fail(out, "SM3 in chunks of %zu bytes gives another digest", c.chunk);
        lab_integer(t, (int64_t)c.chunk);
        lab_integer(t, (int64_t)size);
        lab_text(t, "%s", work.wrong ? "differs" : "the same");
        lab_real(t, (double)size / work.side[0].median_us);
        lab_real(t, (double)size / work.side[1].median_us);
    }
    free(c.message);
}
