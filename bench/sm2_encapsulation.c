/* A 32-byte key for one recipient, as every report carries one for the MDMS; and its recovery in
 * batches. OpenSSL encrypts and decrypts a 32-byte key.
 */
#include "bench/sm2_rows.h"

#include "crypto/secret.h"

#include <stdlib.h>
#include <string.h>

#define POOL      1024
#define KEY_BYTES 32
/* OpenSSL's DER of C1, C3 and C2. */
#define SEALED_BYTES_MAX 192

struct encapsulation {
    sm2_private recipient;
    uint8_t random[POOL][SM2_WIDE_BYTES];
    point_bytes c1[POOL];
    uint8_t key[POOL][KEY_BYTES]; /* as encapsulated */
    uint8_t got[POOL][KEY_BYTES]; /* as decapsulated */
    bool ok[POOL];
    size_t refused;
    EVP_PKEY_CTX *encrypt, *decrypt;
    uint8_t text[OPENSSL_POOL][KEY_BYTES];
    uint8_t sealed[OPENSSL_POOL][SEALED_BYTES_MAX];
    size_t sealed_size[OPENSSL_POOL];
    uint8_t opened[OPENSSL_POOL][KEY_BYTES];
};

static struct span info(void)
{
    return SPAN_LITERAL("bench-sm2");
}

static void encapsulate(void *with, size_t first, size_t count, size_t batch)
{
    struct encapsulation *s = with;
    (void)batch;
    for (size_t i = first; i < first + count; i++)
        s->refused += sm2_encapsulate(&s->c1[i], s->key[i], KEY_BYTES, &s->recipient.p, info(),
                                      s->random[i]) != AMI_OK;
}

static void decapsulate(void *with, size_t first, size_t count, size_t batch)
{
    struct encapsulation *s = with;
    for (size_t at = first; at < first + count; at += batch)
        s->refused += sm2_decapsulate_batch(s->got + at, s->ok + at, &s->recipient, s->c1 + at,
                                            info(), batch) != AMI_OK;
}

static void openssl_encrypt(void *with, size_t first, size_t count, size_t batch)
{
    struct encapsulation *s = with;
    (void)batch;
    for (size_t i = first; i < first + count; i++) {
        s->sealed_size[i] = SEALED_BYTES_MAX;
        openssl_need(EVP_PKEY_encrypt(s->encrypt, s->sealed[i], &s->sealed_size[i], s->text[i],
                                      KEY_BYTES) == 1,
                     "EVP_PKEY_encrypt");
    }
}

static void openssl_decrypt(void *with, size_t first, size_t count, size_t batch)
{
    struct encapsulation *s = with;
    (void)batch;
    for (size_t i = first; i < first + count; i++) {
        size_t size = KEY_BYTES;
        openssl_need(EVP_PKEY_decrypt(s->decrypt, s->opened[i], &size, s->sealed[i],
                                      s->sealed_size[i]) == 1 &&
                         size == KEY_BYTES,
                     "EVP_PKEY_decrypt");
    }
}

static void *make(void)
{
    struct encapsulation *s = bench_new(sizeof *s);
    s->recipient = sm2_random_private();
    secret_random(s->random, sizeof s->random);
    secret_random(s->text, sizeof s->text);
    s->encrypt = openssl_context(&s->recipient, OPENSSL_ENCRYPT);
    s->decrypt = openssl_context(&s->recipient, OPENSSL_DECRYPT);
    encapsulate(s, 0, POOL, 1);
    openssl_encrypt(s, 0, OPENSSL_POOL, 1);
    return s;
}

static void release(void *with)
{
    struct encapsulation *s = with;
    EVP_PKEY_CTX_free(s->encrypt);
    EVP_PKEY_CTX_free(s->decrypt);
    secret_wipe(s, sizeof *s);
    free(s);
}

/* --- checks ----------------------------------------------------------------------------------- */

static void check_openssl(struct encapsulation *s, const struct sm2_row *row)
{
    openssl_decrypt(s, 0, OPENSSL_POOL, 1);
    if (memcmp(s->opened, s->text, sizeof s->text) != 0)
        bench_fail("%s: OpenSSL does not decrypt what it encrypted", row->name);
}

static void check_encapsulate(void *with, const struct sm2_row *row, size_t done)
{
    struct encapsulation *s = with;
    if (s->refused != 0)
        bench_fail("%s: an encapsulation failed", row->name);
    for (size_t i = 0; i < done; i++) {
        uint8_t key[KEY_BYTES];
        if (sm2_decapsulate(key, KEY_BYTES, &s->recipient, &s->c1[i], info()) != AMI_OK ||
            memcmp(key, s->key[i], KEY_BYTES) != 0)
            bench_fail("%s: encapsulation %zu does not give its key back", row->name, i);
    }
    check_openssl(s, row);
}

static void check_decapsulate(void *with, const struct sm2_row *row, size_t done)
{
    struct encapsulation *s = with;
    if (s->refused != 0)
        bench_fail("%s: a good encapsulation is refused", row->name);
    for (size_t i = 0; i < done; i++)
        if (!s->ok[i] || memcmp(s->got[i], s->key[i], KEY_BYTES) != 0)
            bench_fail("%s: encapsulation %zu does not give its key back", row->name, i);
    size_t at = row->batch - 1;
    uint8_t prefix = s->c1[at].b[0];
    s->c1[at].b[0] = 5; /* no point starts so */
    if (sm2_decapsulate_batch(s->got, s->ok, &s->recipient, s->c1, info(), row->batch) == AMI_OK)
        bench_fail("%s: what is no point is accepted", row->name);
    for (size_t i = 0; i < row->batch; i++)
        if (s->ok[i] != (i != at))
            bench_fail("%s: %zu is no point, but %zu has the wrong answer", row->name, at, i);
    s->c1[at].b[0] = prefix;
    check_openssl(s, row);
}

const struct sm2_family sm2_encapsulation = {
    .make = make,
    .release = release,
    .rows =
        {
            {"encapsulate", 1, POOL, encapsulate, openssl_encrypt, check_encapsulate},
            {"decapsulate_batch8", 8, POOL, decapsulate, openssl_decrypt, check_decapsulate},
        },
};
