/* channel/channel.h - a secure channel between two nodes: one handshake, then records.
 *
 * A pure state machine: frames in, frames out; the caller carries them, in order, over anything
 * that keeps frames apart (net/link.h). Time and randomness are handed in, nothing is allocated.
 * Both sides prove a credential (credential.h); the keys come from an exchange of ephemeral SM2
 * keys, so that a credential stolen later opens nothing; both sides' signatures and tags cover
 * everything that was said, so that nothing can be taken out or weakened on the way. handshake.c
 * has the transcript, docs/channel.md the reasons.
 *
 * Records are sealed with SM4-GCM, or with SM4-CTR and HMAC-SM3 (encrypt, then MAC). Every record
 * has a key of its own from the hash key generator (keyagree/keychain.h): there is nothing to be
 * re-keyed later, and who takes a channel's state cannot open earlier records.
 *
 * Use: channel_start on both sides; the initiator sends what it gets from channel_first; every
 * frame that arrives goes to channel_receive, and what that answers is sent. When it says
 * CHANNEL_OPEN, channel_seal may be called. When the connection ends, channel_cut tells whether
 * the other side had closed, or somebody cut it.
 *
 * Whoever gets a fault drops the connection after sending the reply, if there is one.
 */
#ifndef AMI_CHANNEL_CHANNEL_H
#define AMI_CHANNEL_CHANNEL_H

#include "channel/credential.h"
#include "keyagree/keychain.h"

#define CHANNEL_VERSION 1

/* Record suites, in sets and as the one chosen. In the order of preference. */
#define CHANNEL_SM4_GCM      1
#define CHANNEL_SM4_CTR_HMAC 2
#define CHANNEL_SUITES_ALL   (CHANNEL_SM4_GCM | CHANNEL_SM4_CTR_HMAC)
/* Names with commas between them, each once, as a set. AMI_BAD_ARGUMENT. */
enum ami_status channel_suites_parse(uint8_t *out, const char *text) AMI_MUST_CHECK;
const char *channel_suite_name(uint8_t suite); /* "sm4-gcm", "sm4-ctr-hmac-sm3"; never NULL */

/* Flights; the largest hold a credential. Nothing larger is looked at before the channel is open.
 */
#define CHANNEL_FIRST_BYTES      (1 + 1 + 1 + 1 + SM3_BYTES + CREDENTIAL_NONCE_BYTES + SM2_POINT_BYTES)
#define CHANNEL_FLIGHT_BYTES_MAX (128 + CREDENTIAL_BYTES_MAX + SM2_SIGNATURE_BYTES + SM3_BYTES + 16)
/* A record is larger than what it carries by at most so much. */
#define CHANNEL_OVERHEAD_BYTES_MAX (1 + SM3_BYTES)
/* What a single record may carry. */
#define CHANNEL_PLAIN_BYTES_MAX ((4u << 20) + 64)

/* First bytes of handshake frames. None is a wire version, so that a peer without a channel is
 * recognised. */
enum channel_frame {
    CHANNEL_FRAME_FIRST = 0xa1,
    CHANNEL_FRAME_ANSWER = 0xa2,
    CHANNEL_FRAME_FINISH = 0xa3,
    CHANNEL_FRAME_ALERT = 0xaf /* of one byte: refused, and no reason */
};

struct channel_config {
    const struct credential *own;
    const struct credential_trust *trust; /* its net is the network of both sides */
    uint8_t suites;                       /* allowed */
    /* Is this peer welcome? Called when it has proven everything. FAULT_NONE, or the reason why
     * not: FAULT_UNEXPECTED, FAULT_REVOKED, .. */
    enum channel_fault (*accept)(void *ctx, const struct credential_identity *peer);
    void *accept_ctx;
};

enum channel_state {
    CHANNEL_IDLE,          /* wiped, or never started */
    CHANNEL_EXPECT_FIRST,  /* responder */
    CHANNEL_EXPECT_ANSWER, /* initiator */
    CHANNEL_EXPECT_FINISH, /* responder */
    CHANNEL_EXPECT_READY,  /* initiator: has proven itself, and waits to hear that it is welcome */
    CHANNEL_UP,
    CHANNEL_DOWN /* closed or failed */
};

/* What the other side's identity is worth. */
enum channel_standing {
    CHANNEL_UNKNOWN, /* it has not shown that it holds any credential's key */
    CHANNEL_CLAIMED, /* it holds the key of a credential that says so; no issuer was asked yet, or
                        none that is trusted vouches for it */
    CHANNEL_PROVEN   /* an issuer that is trusted says so */
};
/* What stands before a name at the end of a log line: "", "; claimed=" or "; who="; never NULL. */
const char *channel_standing_text(enum channel_standing standing);

/* Of fixed size, no allocation behind it; about 1 KB. Wipe with channel_wipe. */
struct channel {
    const struct channel_config *config;
    enum channel_state state;
    enum channel_fault fault;
    bool initiator;
    uint8_t suite;
    uint8_t sign_random[SM2_WIDE_BYTES];
    uint8_t nonce[CREDENTIAL_NONCE_BYTES];
    uint8_t peer_nonce[CREDENTIAL_NONCE_BYTES];
    scalar secret; /* of the ephemeral key */
    uint8_t first[CHANNEL_FIRST_BYTES];
    sm3_digest transcript;    /* of everything so far */
    sm3_digest shared;        /* S, see handshake.c */
    sm3_digest answer_sealed; /* responder: SM3 of its own sealed part */
    struct key_chain send, receive;
    struct credential_identity peer; /* see standing */
    enum channel_standing standing;
    bool welcome; /* proven, in force, and accepted here */
    int64_t wall_ms;
};

/* What a channel needs at random: a nonce, an ephemeral key, a signature's nonce. */
#define CHANNEL_RANDOM_BYTES (CREDENTIAL_NONCE_BYTES + 2 * SM2_WIDE_BYTES)

/* Begins. `random` is used up with the time mixed in, so that a source that repeats itself does not
 * repeat nonces; the time is never the only thing that cannot be foreseen. The config is borrowed
 * until channel_wipe. */
void channel_start(struct channel *c, const struct channel_config *config, bool initiator,
                   const uint8_t random[CHANNEL_RANDOM_BYTES], int64_t wall_ms);
void channel_wipe(struct channel *c);

/* The initiator's first flight, once after channel_start. */
void channel_first(struct channel *c, uint8_t out[CHANNEL_FIRST_BYTES]);

enum channel_event {
    CHANNEL_NOTHING, /* more has to come */
    CHANNEL_OPEN,    /* the peer is known: channel_peer */
    CHANNEL_DATA,    /* `data` is there, inside the frame given */
    CHANNEL_CLOSED,  /* the other side closed; nothing is missing */
    CHANNEL_FAILED   /* channel_why; the channel is of no use any more */
};

struct channel_result {
    enum channel_event event;
    struct span data;  /* CHANNEL_DATA: decrypted in place */
    size_t reply_size; /* bytes to be sent; also with CHANNEL_FAILED */
    struct span shown; /* with the frame that proved the peer: its credential, inside that frame,
                          for channel_judge. Public. */
};

/* Takes one frame of size bytes, and uses its memory. `reply` has CHANNEL_FLIGHT_BYTES_MAX bytes;
 * CHANNEL_OVERHEAD_BYTES_MAX are enough once the channel is up.
 * `wall_ms`: the time for credentials. Before the channel is open a good frame costs the responder
 * two products and a signature (first flight) or the check of a credential (third flight). */
struct channel_result channel_receive(struct channel *c, uint8_t *frame, size_t size,
                                      uint8_t *reply, int64_t wall_ms);

/* What this frame would make a responder compute, in answers to a first flight, for gate.h: 0 for
 * what costs next to nothing, because it is refused at a look or the peer is proven. */
#define CHANNEL_COST_IMPLICIT 2  /* the key recovered, a signature */
#define CHANNEL_COST_CFL      4  /* three signatures, a sum of keys */
#define CHANNEL_COST_X509     30 /* libcrypto's SM2: leaf, one authority and a list of each */
uint32_t channel_cost(const struct channel *c, const uint8_t *frame, size_t size);

/* Seals one record of data: out has plain.size + CHANNEL_OVERHEAD_BYTES_MAX bytes and may begin
 * where plain does. Returns the size. The channel must be up, plain no larger than
 * CHANNEL_PLAIN_BYTES_MAX. */
size_t channel_seal(struct channel *c, uint8_t *out, struct span plain);

/* The record that says that nothing more follows, at most CHANNEL_OVERHEAD_BYTES_MAX bytes; 0 when
 * the channel was not up. The channel is down afterwards. */
size_t channel_close(struct channel *c, uint8_t out[CHANNEL_OVERHEAD_BYTES_MAX]);

/* Judges the peer of a channel that is up again, from what it has shown, by what is trusted at this
 * moment: revoked and run out credentials end the channels that they opened. Costs what the check
 * of the credential did. CHANNEL_NOTHING: it is as good as before. CHANNEL_FAILED: the channel is
 * down, and `reply` (CHANNEL_OVERHEAD_BYTES_MAX bytes) has what tells the other side so. */
struct channel_result channel_judge(struct channel *c, struct span shown, uint8_t *reply,
                                    int64_t wall_ms);

/* The connection has ended: FAULT_NONE when one side had closed, FAULT_CUT otherwise, or the fault
 * that there was before. */
enum channel_fault channel_cut(struct channel *c);

enum channel_fault channel_why(const struct channel *c);
/* Who is there; NULL until it has proven so and is welcome here. The initiator knows it one frame
 * before the channel is open. */
const struct credential_identity *channel_peer(const struct channel *c);
/* Who was refused, for the log: *who is the identity behind what this returns, NULL with
 * CHANNEL_UNKNOWN. */
enum channel_standing channel_claimant(const struct channel *c,
                                       const struct credential_identity **who);

#endif
