/* SM4-GCM over libgcrypt.
 *
 * Every message of the system has a key of its own, so opening a cipher handle per message would
 * cost more than the encryption. Each thread keeps one handle and re-keys it; the key of the last
 * message is overwritten before the call returns, because sessions promise that used keys are gone.
 */
#include "crypto/sm4gcm.h"

#include "base/check.h"
#include "crypto/secret.h"

#include <gcrypt.h>
#include <pthread.h>

static _Thread_local gcry_cipher_hd_t thread_handle;
static pthread_key_t thread_exit_key;
static pthread_once_t thread_exit_once = PTHREAD_ONCE_INIT;

static void close_handle(void *handle)
{
    gcry_cipher_close((gcry_cipher_hd_t)handle);
}

static void make_exit_key(void)
{
    int error = pthread_key_create(&thread_exit_key, close_handle);
    AMI_CHECK(error == 0);
}

/* The calling thread's handle. A thread's first message allocates it: about 1.5 KB, so a failure
 * means that the process cannot go on at all. */
static gcry_cipher_hd_t handle_of_thread(void)
{
    if (thread_handle == NULL) {
        pthread_once(&thread_exit_once, make_exit_key);
        gcry_error_t error =
            gcry_cipher_open(&thread_handle, GCRY_CIPHER_SM4, GCRY_CIPHER_MODE_GCM, 0);
        AMI_CHECK(error == 0);
        int kept = pthread_setspecific(thread_exit_key, thread_handle);
        AMI_CHECK(kept == 0);
    }
    return thread_handle;
}

static gcry_cipher_hd_t begin(const sm4_key *key, const gcm_nonce *nonce, struct span aad)
{
    gcry_cipher_hd_t handle = handle_of_thread();
    gcry_error_t error = gcry_cipher_setkey(handle, key->b, sizeof key->b);
    AMI_CHECK(error == 0);
    error = gcry_cipher_setiv(handle, nonce->b, sizeof nonce->b);
    AMI_CHECK(error == 0);
    if (aad.size > 0) {
        error = gcry_cipher_authenticate(handle, aad.data, aad.size);
        AMI_CHECK(error == 0);
    }
    return handle;
}

static void forget_key(gcry_cipher_hd_t handle)
{
    static const sm4_key zero;
    gcry_error_t error = gcry_cipher_setkey(handle, zero.b, sizeof zero.b);
    AMI_CHECK(error == 0);
}

void sm4gcm_seal(uint8_t *out, const sm4_key *key, const gcm_nonce *nonce, struct span aad,
                 struct span plain)
{
    gcry_cipher_hd_t handle = begin(key, nonce, aad);
    gcry_error_t error = 0;
    if (plain.size > 0)
        error = gcry_cipher_encrypt(handle, out, plain.size, plain.data, plain.size);
    AMI_CHECK(error == 0);
    error = gcry_cipher_gettag(handle, out + plain.size, GCM_TAG_BYTES);
    AMI_CHECK(error == 0);
    forget_key(handle);
}

enum ami_status sm4gcm_open(uint8_t *out, const sm4_key *key, const gcm_nonce *nonce,
                            struct span aad, struct span sealed)
{
    if (sealed.size < GCM_TAG_BYTES)
        return AMI_BAD_CRYPTO;
    size_t size = sealed.size - GCM_TAG_BYTES;
    gcry_cipher_hd_t handle = begin(key, nonce, aad);
    gcry_error_t error = 0;
    if (size > 0)
        error = gcry_cipher_decrypt(handle, out, size, sealed.data, size);
    AMI_CHECK(error == 0);
    /* libgcrypt compares the tag in constant time. */
    error = gcry_cipher_checktag(handle, sealed.data + size, GCM_TAG_BYTES);
    forget_key(handle);
    if (error != 0) {
        secret_wipe(out, size);
        return AMI_BAD_CRYPTO;
    }
    return AMI_OK;
}
