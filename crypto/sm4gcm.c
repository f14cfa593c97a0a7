/* SM4-GCM over libgcrypt. */
#include "crypto/sm4gcm.h"

#include "base/check.h"
#include "crypto/secret.h"
#include "crypto/sm4_thread.h"

static gcry_cipher_hd_t begin(const sm4_key *key, const gcm_nonce *nonce, struct span aad)
{
    gcry_cipher_hd_t handle = sm4_thread_begin(SM4_MODE_GCM, key);
    gcry_error_t error = gcry_cipher_setiv(handle, nonce->b, sizeof nonce->b);
    AMI_CHECK(error == 0);
    if (aad.size > 0) {
        error = gcry_cipher_authenticate(handle, aad.data, aad.size);
        AMI_CHECK(error == 0);
    }
    return handle;
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
    sm4_thread_forget(handle);
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
    sm4_thread_forget(handle);
    secret_disclose(&error, sizeof error);
    if (error != 0) {
        secret_wipe(out, size);
        return AMI_BAD_CRYPTO;
    }
    return AMI_OK;
}
