/* crypto/sm4ctr.h - SM4 in counter mode (GB/T 32907, GB/T 17964), through libgcrypt.
 *
 * It hides, and authenticates nothing: channel/ puts an HMAC-SM3 over the ciphertext, and nobody
 * else has a use for it.
 */
#ifndef AMI_CRYPTO_SM4CTR_H
#define AMI_CRYPTO_SM4CTR_H

#include "crypto/sm4gcm.h"

#define SM4_BLOCK_BYTES 16

/* out = in xor SM4(key, counter), SM4(key, counter + 1), ..; the counter is 128 bits, big-endian.
 * The same call encrypts and decrypts; out (in.size bytes) may be in.data. A counter block must
 * never serve twice under one key. */
void sm4ctr_xor(uint8_t *out, const sm4_key *key, const uint8_t counter[SM4_BLOCK_BYTES],
                struct span in);

#endif
