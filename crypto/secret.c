/* Start-up, randomness, wiping, and key files at rest.
 *
 * A sealed key file is
 *   magic "AMK1" | plain size, 4 bytes | argon2id salt, 16 | secretstream header, 24 | ciphertext
 * with the ciphertext one final secretstream message of plain size + 17 bytes. Its associated data
 * is SM3(magic and size || purpose). The size up front tells a truncated file from a wrong
 * passphrase.
 */
#include "crypto/secret.h"

#include "base/check.h"
#include "crypto/ct.h"
#include "crypto/sm2_path.h"
#include "crypto/sm3.h"
#include "crypto/sm4gcm.h"

#include <gcrypt.h>
#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define HEAD_BYTES 8
#define SALT_BYTES crypto_pwhash_argon2id_SALTBYTES
#define KEY_BYTES  crypto_secretstream_xchacha20poly1305_KEYBYTES
_Static_assert(SECRET_SEAL_OVERHEAD_BYTES == HEAD_BYTES + SALT_BYTES +
                                                 crypto_secretstream_xchacha20poly1305_HEADERBYTES +
                                                 crypto_secretstream_xchacha20poly1305_ABYTES,
               "the layout above");

static const uint8_t magic[4] = {'A', 'M', 'K', '1'};

/* GB/T 32905 annex A.1. */
static bool sm3_answers(void)
{
    static const sm3_digest expected = {{0x66, 0xc7, 0xf0, 0xf4, 0x62, 0xee, 0xed, 0xd9,
                                         0xd1, 0xf2, 0xd4, 0x6b, 0xdc, 0x10, 0xe4, 0xe2,
                                         0x41, 0x67, 0xc4, 0x87, 0x5c, 0xf2, 0xf7, 0xa2,
                                         0x29, 0x7d, 0xa0, 0x2b, 0x8f, 0x4b, 0xa8, 0xe0}};
    sm3_digest got;
    gcry_buffer_t iov = {.len = 3, .data = (void *)(uintptr_t) "abc"};
    if (gcry_md_hash_buffers(GCRY_MD_SM3, 0, got.b, &iov, 1) != 0)
        return false;
    CT_RESULT(got.b, sizeof got.b);
    return sm3_equal(&got, &expected);
}

/* RFC 8998 annex A.1, its first 16 bytes of ciphertext (they do not depend on the rest). */
static bool sm4_answers(void)
{
    static const uint8_t key[16] = {0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef,
                                    0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10};
    static const uint8_t nonce[12] = {0x00, 0x00, 0x12, 0x34, 0x56, 0x78,
                                      0x00, 0x00, 0x00, 0x00, 0xab, 0xcd};
    static const uint8_t expected[16] = {0x17, 0xf3, 0x99, 0xf0, 0x8c, 0x67, 0xd5, 0xee,
                                         0x19, 0xd0, 0xdc, 0x99, 0x69, 0xc4, 0xbb, 0x7d};
    uint8_t text[16];
    memset(text, 0xaa, 8);
    memset(text + 8, 0xbb, 8);
    gcry_cipher_hd_t handle = NULL;
    if (gcry_cipher_open(&handle, GCRY_CIPHER_SM4, GCRY_CIPHER_MODE_GCM, 0) != 0)
        return false;
    bool good = gcry_cipher_setkey(handle, key, sizeof key) == 0 &&
                gcry_cipher_setiv(handle, nonce, sizeof nonce) == 0 &&
                gcry_cipher_encrypt(handle, text, sizeof text, NULL, 0) == 0 &&
                memcmp(text, expected, sizeof text) == 0;
    gcry_cipher_close(handle);
    return good;
}

static enum ami_status start_status = AMI_UNSUPPORTED;
static const char *start_why = "libsodium or libgcrypt is too old, or fails its self-test";

/* The path that AMI_SM2_PATH names, or the fastest. */
static enum ami_status start_path(void)
{
    const char *forced = getenv("AMI_SM2_PATH");
    const struct sm2_path *path = NULL;
    if (forced != NULL && forced[0] != 0)
        path = sm2_path_named(forced);
    else
        for (size_t i = 0; path == NULL && sm2_path_names[i] != NULL; i++)
            path = sm2_path_named(sm2_path_names[i]);
    if (path == NULL) {
        start_why =
            "AMI_SM2_PATH names no code path that this processor has: it may be portable, adx "
            "or ifma, or unset for the fastest";
        return AMI_UNSUPPORTED;
    }
    if (!sm2_path_use(path)) {
        start_why = "there is no memory for the tables of SM2";
        return AMI_NO_MEMORY;
    }
    return AMI_OK;
}

/* Of secret_unforeseen, and of what hedges secret_random. */
static uint8_t unforeseen_key[crypto_stream_chacha20_KEYBYTES];
static uint8_t hedge_key[crypto_stream_xchacha20_KEYBYTES];

static void start(void)
{
    if (sodium_init() < 0 || sodium_library_version_major() < SODIUM_LIBRARY_VERSION_MAJOR)
        return;
    /* 1.9 brought SM4 and its GCM. Somebody else in the process may have set libgcrypt up. */
    if (!gcry_check_version("1.9.0"))
        return;
    if (!gcry_control(GCRYCTL_INITIALIZATION_FINISHED_P)) {
        /* Nothing is stored in libgcrypt's locked pool: secrets live in callers' structures. */
        gcry_control(GCRYCTL_DISABLE_SECMEM, 0);
        gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
    }
    if (!sm3_answers() || !sm4_answers())
        return;
    randombytes_buf(unforeseen_key, sizeof unforeseen_key);
    randombytes_buf(hedge_key, sizeof hedge_key);
    start_status = start_path();
}

enum ami_status crypto_start(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, start);
    return start_status;
}

const char *crypto_start_why(void)
{
    return start_why;
}

/* The system's bytes xor XChaCha20 of the time and the number of the draw, under a key drawn at
 * start. For each moment that is a permutation of what the system may give, so that nothing of its
 * entropy is lost; and a system that gives the same again gives another result. */
void secret_random(void *out, size_t size)
{
    static atomic_ullong draws;
    struct timespec now;
    uint8_t moment[crypto_stream_xchacha20_NONCEBYTES];
    AMI_CHECK(start_status == AMI_OK);
    AMI_CHECK(clock_gettime(CLOCK_REALTIME, &now) == 0);
    _Static_assert(sizeof moment == 3 * 8, "all of it");
    store_be64(moment, (uint64_t)now.tv_sec);
    store_be64(moment + 8, (uint64_t)now.tv_nsec);
    store_be64(moment + 16, atomic_fetch_add(&draws, 1));
    randombytes_buf(out, size);
    crypto_stream_xchacha20_xor(out, out, size, moment, hedge_key);
    CT_RESULT(out, size);
}

void secret_unforeseen(void *out, size_t size)
{
    static atomic_ullong uses;
    uint8_t nonce[crypto_stream_chacha20_NONCEBYTES];
    AMI_CHECK(start_status == AMI_OK);
    store_be64(nonce, atomic_fetch_add(&uses, 1));
    crypto_stream_chacha20(out, size, nonce, unforeseen_key);
    CT_RESULT(out, size);
}

void secret_wipe(void *data, size_t size)
{
    sodium_memzero(data, size);
}

bool secret_equal(const void *a, const void *b, size_t size)
{
    int different = sodium_memcmp(a, b, size);
    CT_PUBLIC(&different, sizeof different); /* the answer is acted upon for everybody to see */
    return different == 0;
}

void secret_disclose(const void *data, size_t size)
{
    CT_PUBLIC(data, size);
}

static enum ami_status derive_key(uint8_t key[KEY_BYTES], const char *passphrase,
                                  const uint8_t salt[SALT_BYTES])
{
    int failed = crypto_pwhash_argon2id(key, KEY_BYTES, passphrase, strlen(passphrase), salt,
                                        crypto_pwhash_argon2id_OPSLIMIT_INTERACTIVE,
                                        crypto_pwhash_argon2id_MEMLIMIT_INTERACTIVE,
                                        crypto_pwhash_argon2id_ALG_ARGON2ID13);
    return failed ? AMI_NO_MEMORY : AMI_OK;
}

static sm3_digest associated_data(const uint8_t head[HEAD_BYTES], const char *purpose)
{
    struct span parts[] = {span_of(head, HEAD_BYTES), span_of(purpose, strlen(purpose))};
    return sm3_parts(parts, 2);
}

enum ami_status secret_seal(uint8_t *out, const char *passphrase, const char *purpose,
                            struct span plain)
{
    if (plain.size > UINT32_MAX)
        return AMI_TOO_LARGE;
    uint8_t *salt = out + HEAD_BYTES;
    uint8_t *header = salt + SALT_BYTES;
    uint8_t *sealed = header + crypto_secretstream_xchacha20poly1305_HEADERBYTES;
    uint8_t key[KEY_BYTES];
    memcpy(out, magic, sizeof magic);
    store_be32(out + sizeof magic, (uint32_t)plain.size);
    randombytes_buf(salt, SALT_BYTES);
    AMI_TRY(derive_key(key, passphrase, salt));

    sm3_digest ad = associated_data(out, purpose);
    crypto_secretstream_xchacha20poly1305_state state;
    int failed = crypto_secretstream_xchacha20poly1305_init_push(&state, header, key);
    AMI_CHECK(failed == 0);
    failed = crypto_secretstream_xchacha20poly1305_push(
        &state, sealed, NULL, plain.data, plain.size, ad.b, sizeof ad.b,
        crypto_secretstream_xchacha20poly1305_TAG_FINAL);
    AMI_CHECK(failed == 0);
    secret_wipe(key, sizeof key);
    secret_wipe(&state, sizeof state);
    return AMI_OK;
}

enum ami_status secret_open(uint8_t *out, const char *passphrase, const char *purpose,
                            struct span sealed)
{
    if (sealed.size < SECRET_SEAL_OVERHEAD_BYTES || memcmp(sealed.data, magic, sizeof magic) != 0)
        return AMI_BAD_ENCODING;
    size_t plain_size = sealed.size - SECRET_SEAL_OVERHEAD_BYTES;
    if (load_be32(sealed.data + sizeof magic) != plain_size)
        return AMI_BAD_ENCODING;
    const uint8_t *salt = sealed.data + HEAD_BYTES;
    const uint8_t *header = salt + SALT_BYTES;
    const uint8_t *content = header + crypto_secretstream_xchacha20poly1305_HEADERBYTES;
    uint8_t key[KEY_BYTES];
    AMI_TRY(derive_key(key, passphrase, salt));

    sm3_digest ad = associated_data(sealed.data, purpose);
    crypto_secretstream_xchacha20poly1305_state state;
    uint8_t tag = 0;
    bool good =
        crypto_secretstream_xchacha20poly1305_init_pull(&state, header, key) == 0 &&
        crypto_secretstream_xchacha20poly1305_pull(
            &state, out, NULL, &tag, content,
            plain_size + crypto_secretstream_xchacha20poly1305_ABYTES, ad.b, sizeof ad.b) == 0 &&
        tag == crypto_secretstream_xchacha20poly1305_TAG_FINAL;
    secret_wipe(key, sizeof key);
    secret_wipe(&state, sizeof state);
    if (!good) {
        secret_wipe(out, plain_size);
        return AMI_WRONG_PASSPHRASE;
    }
    return AMI_OK;
}
