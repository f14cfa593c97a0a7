/* keyagree/keychain.h - the hash key generator: fresh key material for every message (protocol.md
 * section 4).
 *
 * Two sides that share a secret derive (Count, Seed) for each direction. Message number i of a
 * direction takes SM3(Count + i || Seed_i), 32 bytes; Seed_{i+1} = SM3(Seed_i), and what was used
 * is erased: who takes a chain learns nothing of the messages before. Sessions with meters
 * (session.h) and channels between nodes (channel/) both draw from it; what they do about lost
 * messages is theirs.
 *
 * Derivation: Seed_0 = HMAC-SM3(secret, label 00, direction u8, 01, context), Count = the first
 * 8 bytes of HMAC-SM3(secret, label 00, direction u8, 02, context).
 */
#ifndef AMI_KEYAGREE_KEYCHAIN_H
#define AMI_KEYAGREE_KEYCHAIN_H

#include "crypto/sm3.h"

#define KEY_CHAIN_MATERIAL_BYTES SM3_BYTES

/* Holds no pointer: may be copied, to try a message and forget about it. Wipe after use. */
struct key_chain {
    uint64_t base; /* Count at message 0 */
    uint64_t next; /* number of the next message */
    uint8_t seed[SM3_BYTES];
};

/* `context`: what the chain is for, such as the parties or the transcript. */
void key_chain_begin(struct key_chain *out, struct span secret, const char *label,
                     uint8_t direction, const sm3_digest *context);

/* Material of message `next`; then the chain stands at the one after it. Wipe the material. */
void key_chain_step(struct key_chain *c, uint8_t material[KEY_CHAIN_MATERIAL_BYTES]);

#endif
