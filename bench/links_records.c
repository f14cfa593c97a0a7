/* Records of our two suites beside AES-256-GCM as TLS uses it; and, as the HMAC-SM3 papers have it,
 * a block cipher with an HMAC, ours with SM3, OpenSSL's with SHA-1. One key per connection for
 * OpenSSL; our records have a key each. */
#include "bench/links_rows.h"

#include "bench/openssl.h"
#include "crypto/secret.h"
#include "crypto/sm3.h"
#include "sim/lab/realm.h"

#include <string.h>

const char *const links_record_rows[] = {"record_gcm", "record_ctr_hmac", "aes_cbc_hmac_sm3",
                                         "sm4_cbc_hmac_sm3", NULL};

static const size_t sizes[] = {64, 128, 256, 512, 1024, 1420, 16384};
#define SIZE_MAX_BYTES 16384

struct records {
    struct realm realm;
    struct party i, r;
    size_t size;
    uint8_t text[SIZE_MAX_BYTES], out[SIZE_MAX_BYTES + 64];
    uint8_t key[32], iv[16], mac_key[32];
    EVP_CIPHER_CTX *cipher;
    EVP_MAC *hmac;
    EVP_MAC_CTX *mac_ctx;
};

static void seal_ours(void *with, size_t first, size_t count, size_t batch)
{
    struct records *c = with;
    (void)first;
    (void)batch;
    for (size_t n = 0; n < count; n++)
        (void)channel_seal(&c->i.channel, c->out, span_of(c->text, c->size));
}

static void seal_aes_gcm(void *with, size_t first, size_t count, size_t batch)
{
    struct records *c = with;
    uint8_t head[13] = {0};
    int size = 0;
    (void)batch;
    for (size_t n = 0; n < count; n++) {
        store_be64(c->iv + 4, first + n);
        bool good =
            EVP_EncryptInit_ex(c->cipher, NULL, NULL, NULL, c->iv) == 1 &&
            EVP_EncryptUpdate(c->cipher, NULL, &size, head, sizeof head) == 1 &&
            EVP_EncryptUpdate(c->cipher, c->out, &size, c->text, (int)c->size) == 1 &&
            EVP_EncryptFinal_ex(c->cipher, c->out + size, &size) == 1 &&
            EVP_CIPHER_CTX_ctrl(c->cipher, EVP_CTRL_AEAD_GET_TAG, 16, c->out + c->size) == 1;
        openssl_need(good, "AES-GCM");
    }
}

static void cbc(struct records *c, size_t number)
{
    int size = 0, rest = 0;
    store_be64(c->iv, number);
    openssl_need(EVP_EncryptInit_ex(c->cipher, NULL, NULL, NULL, c->iv) == 1 &&
                     EVP_EncryptUpdate(c->cipher, c->out, &size, c->text, (int)c->size) == 1 &&
                     EVP_EncryptFinal_ex(c->cipher, c->out + size, &rest) == 1,
                 "CBC");
}

static void cbc_hmac_sm3(void *with, size_t first, size_t count, size_t batch)
{
    struct records *c = with;
    (void)batch;
    for (size_t n = 0; n < count; n++) {
        cbc(c, first + n);
        const struct span part = span_of(c->out, c->size + 16);
        sm3_digest mac = hmac_sm3(span_of(c->mac_key, sizeof c->mac_key), &part, 1);
        memcpy(c->out + c->size + 16, mac.b, sizeof mac.b);
    }
}

static void cbc_hmac_sha1(void *with, size_t first, size_t count, size_t batch)
{
    struct records *c = with;
    size_t size = 0;
    (void)batch;
    for (size_t n = 0; n < count; n++) {
        cbc(c, first + n);
        openssl_need(EVP_MAC_init(c->mac_ctx, NULL, 0, NULL) == 1 &&
                         EVP_MAC_update(c->mac_ctx, c->out, c->size + 16) == 1 &&
                         EVP_MAC_final(c->mac_ctx, c->out + c->size + 16, &size, 32) == 1,
                     "HMAC");
    }
}

static void use_cipher(struct records *c, const EVP_CIPHER *cipher)
{
    openssl_need(EVP_EncryptInit_ex(c->cipher, cipher, NULL, c->key, c->iv) == 1, "cipher");
}

static void row(const struct links_run *run, struct records *c, const char *name, size_t size,
                bench_work *ours, bench_work *theirs)
{
    char text[64];
    snprintf(text, sizeof text, "%s_%zu", name, size);
    struct bench_row result = {.name = text, .batch = 1, .bytes = size};
    const struct bench_side a = {ours, c, 1, 1 << 16}, b = {theirs, c, 1, 1 << 16};
    c->size = size;
    bench_compare(&result.ours, &result.openssl, &a, &b, run->repetitions);
    bench_report_row(run->report, &result);
}

/* What was sealed last is what the other side opens, all of it in order. */
static void check_records(struct records *c)
{
    if (!pair_handshake(&c->i, &c->r, &c->realm))
        bench_fail("a handshake failed");
    for (size_t n = 0; n < sizeof sizes / sizeof sizes[0]; n++)
        if (!pair_say(&c->i, &c->r, c->text, sizes[n]))
            bench_fail("a record does not open");
}

void links_records(const struct links_run *run)
{
    struct records *c = bench_new(sizeof *c);
    struct credential one, two;
    char sha1[] = "SHA1";
    const OSSL_PARAM params[] = {OSSL_PARAM_utf8_string("digest", sha1, 4), OSSL_PARAM_END};
    realm_make(&c->realm, "grid", 1);
    realm_credential(&c->realm, &one, CREDENTIAL_IMPLICIT, "dc-1", NULL, 0, 0);
    realm_credential(&c->realm, &two, CREDENTIAL_IMPLICIT, "dc-2", NULL, 0, 0);
    party_make(&c->i, &c->realm, &one);
    party_make(&c->r, &c->realm, &two);
    secret_random(c->text, sizeof c->text);
    secret_random(c->key, sizeof c->key);
    secret_random(c->mac_key, sizeof c->mac_key);
    c->cipher = EVP_CIPHER_CTX_new();
    c->hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    c->mac_ctx = EVP_MAC_CTX_new(c->hmac);
    openssl_need(c->cipher != NULL && c->mac_ctx != NULL &&
                     EVP_MAC_init(c->mac_ctx, c->mac_key, 20, params) == 1,
                 "HMAC");
    for (size_t n = 0; n < sizeof sizes / sizeof sizes[0]; n++) {
        for (uint8_t suite = CHANNEL_SM4_GCM; suite <= CHANNEL_SM4_CTR_HMAC; suite++) {
            const char *name = links_record_rows[suite == CHANNEL_SM4_GCM ? 0 : 1];
            if (!run->chosen(name))
                continue;
            c->i.config.suites = suite;
            check_records(c);
            use_cipher(c, EVP_aes_256_gcm());
            row(run, c, name, sizes[n], seal_ours, seal_aes_gcm);
        }
    }
    for (int k = 2; k < 4; k++)
        for (size_t n = 0; n < sizeof sizes / sizeof sizes[0] && run->chosen(links_record_rows[k]);
             n++) {
            use_cipher(c, k == 2 ? EVP_aes_128_cbc() : EVP_sm4_cbc());
            row(run, c, links_record_rows[k], sizes[n], cbc_hmac_sm3, cbc_hmac_sha1);
        }
    EVP_CIPHER_CTX_free(c->cipher);
    EVP_MAC_CTX_free(c->mac_ctx);
    EVP_MAC_free(c->hmac);
    free(c);
}
