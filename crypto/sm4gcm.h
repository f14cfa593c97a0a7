/* crypto/sm4gcm.h - SM4-GCM (GB/T 32907, RFC 8998), through libgcrypt. */
#ifndef AMI_CRYPTO_SM4GCM_H
#define AMI_CRYPTO_SM4GCM_H

#include "base/bytes.h"

#define SM4_KEY_BYTES   16
#define GCM_NONCE_BYTES 12
#define GCM_TAG_BYTES   16

typedef struct sm4_key {
    uint8_t b[SM4_KEY_BYTES];
} sm4_key;

typedef struct gcm_nonce {
    uint8_t b[GCM_NONCE_BYTES];
} gcm_nonce;

/* out receives plain.size + GCM_TAG_BYTES bytes, ciphertext then tag. out may be plain.data. */
void sm4gcm_seal(uint8_t *out, const sm4_key *key, const gcm_nonce *nonce, struct span aad,
                 struct span plain);

/* out receives sealed.size - GCM_TAG_BYTES bytes. AMI_BAD_CRYPTO when the tag is wrong or sealed is
 * shorter than a tag; then nothing of the plaintext is left in out. out may be sealed.data. */
enum ami_status sm4gcm_open(uint8_t *out, const sm4_key *key, const gcm_nonce *nonce,
                            struct span aad, struct span sealed) AMI_MUST_CHECK;

#endif
