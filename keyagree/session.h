/* keyagree/session.h - a new key for every message: the hash key generator (protocol.md section 4).
 *
 * From K both sides derive (Count, Seed) for each direction. Message number i of a direction takes
 * SM3(Count + i || Seed_i): 16 bytes SM4 key, 12 bytes nonce; Seed_{i+1} = SM3(Seed_i), and what
 * was used is erased. SM4-GCM seals the message; the associated data is the session's parties, the
 * direction, the count and the kind.
 *
 * A retry is the same bytes again (the caller keeps them): sealing the same message twice takes two
 * counts. Nothing received changes the state unless its tag verifies. After a restart there is no
 * session: agree anew. The struct holds no pointer; 100,000 of them fit a DC.
 *
 * Derivation (docs/security.md): parties = SM3("amiledger session parties v1" 00, session id u64,
 * meter id, epoch u32, dc id, dc epoch u32). For direction d (1 meter to DC, 2 DC to meter):
 * Seed_0 = HMAC-SM3(K, "amiledger session v1" 00, d, 01, parties), Count = the first 8 bytes of
 * HMAC-SM3(K, "amiledger session v1" 00, d, 02, parties).
 */
#ifndef AMI_KEYAGREE_SESSION_H
#define AMI_KEYAGREE_SESSION_H

#include "crypto/sm4gcm.h"
#include "keyagree/keychain.h"
#include "keyagree/scheme.h"

#define SESSION_WINDOW          8 /* W: messages that may overtake another, and keys kept for it */
#define SESSION_SKIPPED_SECONDS 120 /* then keys of messages that never came are erased */
#define SESSION_PLAIN_BYTES_MAX (AMI_FRAME_METER_BYTES_MAX - 64)

struct session {
    uint64_t id;
    sm3_digest parties;
    struct key_chain send, receive;
    /* Key and nonce of received direction's message c, not seen yet, at c mod W; c lies within the
     * W numbers before the highest one seen. */
    uint8_t skipped[SESSION_WINDOW][SM4_KEY_BYTES + GCM_NONCE_BYTES];
    uint8_t skipped_mask;
    bool meter_side;
    bool open;
    uint32_t skipped_s; /* when the newest of them was kept */
    uint32_t opened_s;
    uint32_t messages_max;
    uint32_t seconds_max;
};
_Static_assert(sizeof(struct session) <= 400, "a DC holds 100,000 of them");

/* `terms` gives session id, names and epochs. Times are seconds of any clock that does not go back.
 * A session ends after messages_max messages in either direction or seconds_max seconds. */
void session_begin(struct session *out, bool meter_side, const uint8_t k[AGREE_KEY_BYTES],
                   const struct agree_terms *terms, uint32_t messages_max, uint32_t seconds_max,
                   uint32_t now_s);
void session_wipe(struct session *s);

/* AMI_OK, or AMI_SESSION_ENDED when a limit is reached, or AMI_NO_SESSION when it was wiped. */
enum ami_status session_check(const struct session *s, uint32_t now_s);
/* Messages that can still be sent. */
uint64_t session_left(const struct session *s);

/* Seals the next message into `buffer` (plain.size + GCM_TAG_BYTES bytes; may be where plain lies)
 * and fills `out`, which borrows the buffer. AMI_NO_SESSION, AMI_SESSION_ENDED; AMI_TOO_LARGE. */
enum ami_status session_seal(struct session *s, struct session_data *out, uint8_t *buffer,
                             uint8_t kind, struct span plain, uint32_t now_s) AMI_MUST_CHECK;

/* Opens a message into `plain` (in->sealed.size - GCM_TAG_BYTES bytes; may be where it lies).
 * AMI_NO_SESSION (another session id), AMI_REPLAYED (seen, or so late that its key is erased),
 * AMI_SEQUENCE_AHEAD (beyond next + W: too many were lost, agree anew), AMI_BAD_CRYPTO,
 * AMI_SESSION_ENDED. Unless AMI_OK the state is as before, except for keys that expired. */
enum ami_status session_open(struct session *s, uint8_t *plain, size_t *plain_size,
                             const struct session_data *in, uint32_t now_s) AMI_MUST_CHECK;

/* Erases keys of messages that never came, when they are due; the caller's timer may call it. */
void session_expire(struct session *s, uint32_t now_s);

#endif
