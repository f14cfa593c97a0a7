#include "crypto/sm4ctr.h"

#include "base/check.h"
#include "crypto/sm4_thread.h"

void sm4ctr_xor(uint8_t *out, const sm4_key *key, const uint8_t counter[SM4_BLOCK_BYTES],
                struct span in)
{
    gcry_cipher_hd_t handle = sm4_thread_begin(SM4_MODE_CTR, key);
    gcry_error_t error = gcry_cipher_setctr(handle, counter, SM4_BLOCK_BYTES);
    AMI_CHECK(error == 0);
    if (in.size > 0)
        error = gcry_cipher_encrypt(handle, out, in.size, in.data, in.size);
    AMI_CHECK(error == 0);
    sm4_thread_forget(handle);
}
