/* sim/lab/realm.h - a network's issuers and everybody's credentials, and two channels with a wire
 * between: what attacks on the channel are played in.
 *
 * Keys come from a seeded generator, so that every run is the same. Tests and fuzz targets of the
 * channel share it: it needs channel/ alone, and what goes wrong here aborts.
 */
#ifndef AMI_SIM_LAB_REALM_H
#define AMI_SIM_LAB_REALM_H

#include "channel/cfl.h"
#include "channel/channel.h"
#include "channel/x509.h"
#include "keyagree/keyfile.h"

#define SUITE_WALL_MS INT64_C(1800000000000) /* a moment in January 2027 */
#define WIRE_BYTES    (CHANNEL_FLIGHT_BYTES_MAX + 65536)

/* The issuers of one network. */
struct realm {
    struct mdms_keys mdms;
    struct cfl_seed seed;
    struct cfl_public set;
    uint64_t drawn;  /* set back, it gives the same bytes again */
    uint64_t number; /* realms of different numbers have different keys */
};
void realm_make(struct realm *r, const char *name, uint64_t number);
/* 48 bytes that no earlier call for this realm gave; valid for 16 more calls. */
const uint8_t *realm_random(struct realm *r);

struct ami_id id_of(const char *text);
struct label label_of(const char *text);

/* A signing key of a DC, issued as enrolment does. */
void realm_dc_key(struct realm *r, struct sign_key *key, const char *name, uint32_t epoch);
/* Credentials of a kind without X.509. `label` NULL: a DC, else an operator; validity in seconds.
 */
void realm_credential(struct realm *r, struct credential *out, enum credential_kind kind,
                      const char *name, const char *label, int64_t from_s, int64_t until_s);

/* The functions of channel/channel.h that a party calls: the real ones, or a weakened form of them
 * (weak_channel.h). */
struct channel_form {
    void (*start)(struct channel *c, const struct channel_config *config, bool initiator,
                  const uint8_t random[CHANNEL_RANDOM_BYTES], int64_t wall_ms);
    struct channel_result (*receive)(struct channel *c, uint8_t *frame, size_t size, uint8_t *reply,
                                     int64_t wall_ms);
    size_t (*seal)(struct channel *c, uint8_t *out, struct span plain);
    size_t (*close)(struct channel *c, uint8_t out[CHANNEL_OVERHEAD_BYTES_MAX]);
    enum channel_fault (*cut)(struct channel *c);
};
extern const struct channel_form channel_form_real;

/* One side of a link: what it holds and what it trusts. It accepts whoever `welcome` says. Its
 * channel points into it: a copy serves at the same address only. */
struct party {
    const struct channel_form *form;
    struct credential own;
    struct credential_trust trust;
    struct channel_config config;
    struct channel channel;
    struct ami_id welcome;           /* size 0: everybody */
    sm3_digest revoked;              /* a fingerprint */
    struct credential_identity seen; /* what accept was asked about last */
    unsigned asked;
};
/* Trusts the realm's issuers with every kind it has an anchor for; speaks the real channel. */
void party_make(struct party *p, const struct realm *r, const struct credential *own);

/* Frames on their way. */
struct frame {
    size_t size;
    uint8_t b[WIRE_BYTES];
};

void frame_copy(struct frame *to, const struct frame *from);

/* A channel started on one side. An initiator's first flight lies in `first`, which may be NULL for
 * a responder. */
void party_start(struct party *p, bool initiator, struct realm *realm, struct frame *first);
/* Both of them; `first` is the first flight. */
void pair_start(struct party *i, struct party *r, struct realm *realm, struct frame *first);
/* Hands a frame over; what is answered lies in `reply`. The frame is used up. */
struct channel_result deliver(struct party *to, struct frame *in, struct frame *reply);
/* A whole handshake. Returns false when either side failed; both states are then final. */
bool pair_handshake(struct party *i, struct party *r, struct realm *realm);
/* One record of data. */
void party_seal(struct party *from, struct frame *out, const void *text, size_t size);
/* Sends text from one to the other; true when it arrives as it is. */
bool pair_say(struct party *from, struct party *to, const void *text, size_t size);

#endif
