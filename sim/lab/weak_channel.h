/* sim/lab/weak_channel.h - the secure channel with single protections left out, for controls, and
 * what an adversary computes from flights that it has heard.
 *
 * channel/handshake.c and channel/record.c, written once more here, on the same struct channel.
 * With nothing left out every byte is that of the real channel (tests/sim/test_lab_channel.c), so
 * that a control shows what the one protection does. It exists in this room alone.
 */
#ifndef AMI_SIM_LAB_WEAK_CHANNEL_H
#define AMI_SIM_LAB_WEAK_CHANNEL_H

#include "sim/lab/realm.h"

/* What can be left out. */
enum channel_without {
    WITHOUT_SIGNATURE = 1, /* nobody checks the signature over the transcript */
    WITHOUT_ISSUER = 2,    /* an identity and its key are believed as they are shown */
    WITHOUT_KINDS = 4,     /* a credential of any kind is taken, whatever is allowed */
    WITHOUT_CLEAR_PARTS =
        8, /* beside nonces and ephemeral keys nothing in the clear is in T1, T2 */
    WITHOUT_CONFIRMATION = 16, /* proofs travel unsealed and without C_X; records come from T2 */
    WITHOUT_FRESH_KEYS = 32,   /* the ephemeral key follows from the long-term key and the nonce */
    WITHOUT_SELF = 64,         /* one's own credential is a peer's like any other */
    WITHOUT_DIRECTIONS = 128,  /* both directions have the same key chain */
    WITHOUT_NUMBERS = 256,     /* a chain stands still: all records have the same number and key */
    WITHOUT_HASHING = 512,     /* a chain's seed stays as it is, only its numbers move */
    WITHOUT_NEW_KEYS = 1024,   /* all records have the first one's key, and a nonce by number */
    WITHOUT_TAGS = 2048,       /* records are opened whatever their tag says */
    WITHOUT_CLOSE = 4096       /* a connection that ends has been closed */
};

/* What channel_form_weak leaves out, until the next call. One thread. */
void weak_channel_without(unsigned what);
extern const struct channel_form channel_form_weak;

/* --- for adversaries ------------------------------------------------------------------------- */

/* The channel of who made flight 1 or 2, and knows V, when these three flights have travelled:
 * open, with both key chains at their start. */
void weak_channel_of(struct channel *out, const struct channel_config *config, bool initiator,
                     const point *v, const struct frame flight[3]);
/* A flight 3 under one's own credential for flights 1 and 2 of others, whose S one does not know.
 * Its proof is not sealed. */
void weak_channel_finish(struct frame *out, const struct channel_config *config,
                         const struct frame flight[2], const uint8_t random[SM2_WIDE_BYTES]);
/* The ephemeral key that WITHOUT_FRESH_KEYS makes of this long-term key and nonce. */
scalar weak_channel_ephemeral(const scalar *d, const uint8_t nonce[CREDENTIAL_NONCE_BYTES]);
/* Where flights 1 and 2 have them. */
const uint8_t *weak_channel_nonce(const struct frame *flight);
point weak_channel_point(const struct frame *flight); /* aborts: the flight is an honest one */
/* Opens record `number` of a direction (1: from the initiator) with its material. Returns false
 * when that is not the one; `out` gets what it says, at most out_size - 1 bytes and a zero. */
bool weak_channel_open(char *out, size_t out_size, const struct frame *record, uint8_t suite,
                       uint8_t direction, uint64_t number,
                       const uint8_t material[KEY_CHAIN_MATERIAL_BYTES]);

#endif
