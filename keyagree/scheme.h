/* keyagree/scheme.h - how a meter and a data concentrator agree on a key, one table per scheme.
 *
 * Two schemes fill `struct scheme`: liu2023, the published one (protocol.md section 1), and sm2kx,
 * the default (section 2). Each comes in two parts: issuance of the long-term key of a device's
 * agreeing role, and three flights that end with the same 32-byte K on both sides. A new scheme is
 * one file and one line in scheme.c.
 *
 * Pure functions: no clock, no heap, no random source; the caller hands in SM2_WIDE_BYTES of fresh
 * random bytes where they are needed. What a scheme says about an identity is said over key_id
 * (wire/identity.h: network, role, name, epoch).
 *
 * Whatever the outside sends and is wrong gives AMI_BAD_CRYPTO, without saying which check failed.
 */
#ifndef AMI_KEYAGREE_SCHEME_H
#define AMI_KEYAGREE_SCHEME_H

#include "wire/identity.h"
#include "wire/types.h"

#define SCHEME_LIU2023 1
#define SCHEME_SM2KX   2 /* the default */
#define SCHEME_DEFAULT SCHEME_SM2KX

#define AGREE_KEY_BYTES     32  /* K */
#define AGREE_FLIGHT1_BYTES 97  /* at most; AMI_FLIGHT_BYTES_MAX bounds any scheme to come */
#define AGREE_FLIGHT2_BYTES 130 /* at most */
#define AGREE_FLIGHT3_BYTES 64  /* at most */
#define AGREE_SECRET_BYTES  32  /* at most, of the secret reply to it */
#define AGREE_PART_BYTES    33  /* the public part of U, of either scheme */

/* A scheme's opaque bytes, in place. */
struct agree_part {
    uint8_t size;
    uint8_t b[AGREE_PART_BYTES];
};
static inline struct span agree_part_span(const struct agree_part *p)
{
    return span_of(p->b, p->size);
}

/* Long-term material of one device's agreeing role. Wipe after use. */
struct agree_key {
    uint8_t scheme;
    enum key_role role; /* ROLE_METER_AGREE or ROLE_DC_AGREE */
    struct ami_id name;
    uint32_t epoch;
    scalar d; /* sm2kx: private key d. liu2023: S_SM of a meter, r_DC of a DC (it is never used) */
    scalar r; /* liu2023: r_SM of a meter; else zero */
    point w;  /* sm2kx: W. liu2023: y_DC, a DC's own or that of a meter's home DC */
    point p;  /* sm2kx: public key P; else zero (derived) */
    sm3_digest z; /* sm2kx: Z over key_id and P; else zero (derived) */
};

/* A device's secret between its enrolment request and the reply: d' or r_SM or r_DC. */
struct agree_enrolling {
    scalar secret;
    struct agree_part request;
};

/* The secret part of the reply to an enrolment. */
struct agree_secret {
    uint8_t size;
    uint8_t b[AGREE_SECRET_BYTES];
};

/* What a DC keeps of a meter's part of U; made once per enrolment, 96 bytes. Public. */
struct agree_peer {
    point p;      /* sm2kx: P_SM */
    sm3_digest z; /* sm2kx: Z_SM. liu2023: h = H2(ID_SM, y_DC), big-endian */
};

/* What a DC knows of a meter, before it is decoded. */
struct agree_peer_in {
    const struct ami_id *meter;
    uint32_t epoch;
    struct span part; /* of U */
};

/* --- flights ---------------------------------------------------------------------------------- */

/* Everything of flights 1 and 2 that is not the scheme's: all of it is authenticated by sm2kx, none
 * by liu2023, which does not know it. */
struct agree_terms {
    struct ami_id meter;
    uint32_t epoch; /* the meter's */
    uint32_t tag;
    uint8_t insist;
    sm3_digest chain;
    uint8_t scheme;
    uint64_t term;
    uint64_t session;
    struct ami_id dc;
    uint32_t dc_epoch;
};

/* A meter between flight 1 and flight 2. Fixed size, no pointers. Wipe to give up. */
struct agree_state {
    bool open; /* false: nothing under way */
    uint32_t tag;
    uint8_t insist;
    uint8_t flight_size;
    uint8_t flight[AGREE_FLIGHT1_BYTES]; /* the scheme's part of flight 1, for retries as well */
    scalar secret;                       /* a or r_A */
};

/* What the meter has when flight 2 was good. K goes to session_begin and is wiped; flight 3 is kept
 * for retries until the DC has answered inside the session. */
struct agree_result {
    uint8_t k[AGREE_KEY_BYTES];
    struct agree_terms terms;
    uint8_t flight_size;
    uint8_t flight[AGREE_FLIGHT3_BYTES]; /* the scheme's part of flight 3 */
};

/* One second flight for a meter to answer. */
struct agree_meter_in {
    struct agree_state *state;
    const struct agree_key *key;
    const struct agree_flight2 *in;
};

/* One first flight for a DC to answer. */
struct agree_request {
    struct agree_terms terms; /* dc, dc_epoch, scheme: the answering key's own (an invariant) */
    const struct agree_peer *peer;
    struct span flight; /* the scheme's part of flight 1, as received */
    uint8_t random[SM2_WIDE_BYTES];
};

/* A DC between flight 2 and flight 3: all it remembers. Wipe after use. */
struct agree_pending {
    uint8_t k[AGREE_KEY_BYTES];
    uint8_t expected_size;
    uint8_t expected[AGREE_FLIGHT3_BYTES];
};

struct agree_answer {
    enum ami_status status; /* AMI_OK or AMI_BAD_CRYPTO; in the latter case the rest is zero */
    uint8_t flight_size;
    uint8_t flight[AGREE_FLIGHT2_BYTES]; /* the scheme's part of flight 2 */
    struct agree_pending pending;
};

/* --- the table -------------------------------------------------------------------------------- */

/* The functions of one scheme. Outside keyagree/ and tests, the agree_* functions below are used
 * for the flights: they check what is the same under every scheme. */
struct scheme {
    const char *name;
    uint8_t number;
    const char *summary; /* one line for --help */
    /* Does the DC's answer use a table of P_pub (agree_answer_batch's `p_pub`)? */
    bool needs_p_pub_table;

    /* Device: draws its secret and makes the request. */
    void (*device_begin)(struct agree_enrolling *out, enum key_role role,
                         const uint8_t random[SM2_WIDE_BYTES]);
    /* MDMS, with the master key x. `home` is the public part of the meter's home DC (empty for a
     * DC). Gives the secret reply and the public part of U. AMI_BAD_CRYPTO. */
    enum ami_status (*mdms_issue)(struct agree_secret *secret, struct agree_part *part,
                                  const struct network *net, const scalar *x, enum key_role role,
                                  const struct ami_id *name, uint32_t epoch, struct span home,
                                  struct span request, const uint8_t random[SM2_WIDE_BYTES]);
    /* Device: makes its key. sm2kx checks dG = W + lambda P_pub; liu2023 checks y_SM G = h P_pub
     * for a meter, and for a DC that y_DC is a point (more cannot be checked). AMI_BAD_CRYPTO. */
    enum ami_status (*device_accept)(struct agree_key *out, const struct agree_enrolling *begun,
                                     const struct network *net, enum key_role role,
                                     const struct ami_id *name, uint32_t epoch, struct span secret,
                                     struct span part);
    /* Fills in what an agree_key holds in derived form (p, z) after it was read from a file.
     * AMI_BAD_CRYPTO. `check`: also that d belongs to w, as far as that can be known. */
    enum ami_status (*key_restore)(struct agree_key *key, const struct network *net, bool check);
    /* DC: decodes a meter's part of U. AMI_BAD_CRYPTO. */
    enum ami_status (*peer_init)(struct agree_peer *out, const struct network *net,
                                 const struct ami_id *meter, uint32_t epoch, struct span part);
    /* The same for many side by side, at most as many at once as dc_answer gets; NULL: they are
     * decoded one after another. */
    void (*peer_init_batch)(struct agree_peer *out, enum ami_status *status,
                            const struct network *net, const struct agree_peer_in *in,
                            size_t count);

    enum ami_status (*meter_start)(struct agree_state *state, const struct agree_key *key,
                                   const uint8_t random[SM2_WIDE_BYTES]);
    enum ami_status (*meter_answer)(struct agree_result *out, const struct agree_state *state,
                                    const struct network *net, const struct agree_key *key,
                                    struct span flight2);
    /* The same for many side by side, at most as many at once as dc_answer gets; NULL: they are
     * computed one after another. out[i].terms are there. Those whose status is not AMI_OK are left
     * out; the others' receive AMI_OK or AMI_BAD_CRYPTO. */
    void (*meter_answer_batch)(struct agree_result *out, enum ami_status *status,
                               const struct agree_meter_in *in, const struct network *net,
                               size_t count);
    void (*dc_answer)(struct agree_answer *out, const struct network *net,
                      const struct agree_key *key, const struct point_table *p_pub,
                      const struct agree_request *in, size_t count);
};

/* NULL when there is none. */
const struct scheme *scheme_by_name(const char *name);
const struct scheme *scheme_by_number(unsigned number);
/* All of them in order, NULL at the end: for tests, benchmarks and --help. */
const struct scheme *scheme_at(size_t index);

/* A program may bring schemes of its own, under numbers and names that no other scheme has:
 * scheme_by_name and scheme_by_number find them then, scheme_at does not list them. For the
 * laboratory and tests; a program that runs a network brings none. The scheme stays where it is;
 * before any other thread calls anything of this room. */
#define SCHEMES_BROUGHT_MAX 16
void scheme_bring(const struct scheme *scheme);

/* Decodes meters' parts of U, each with its own status. */
void agree_peer_init_batch(struct agree_peer *out, enum ami_status *status,
                           const struct scheme *scheme, const struct network *net,
                           const struct agree_peer_in *in, size_t count);
/* The same for one. */
enum ami_status agree_peer_init(struct agree_peer *out, const struct scheme *scheme,
                                const struct network *net, const struct ami_id *meter,
                                uint32_t epoch, struct span part) AMI_MUST_CHECK;

/* Meter, flight 1. The scheme's bytes are state->flight; agree_flight1_of gives the whole message.
 * The same state may be sent again and again until an answer comes. AMI_BAD_CRYPTO when the random
 * bytes cannot be used (probability below 2^-250): draw again. */
enum ami_status agree_meter_start(struct agree_state *state, const struct agree_key *key,
                                  uint32_t tag, bool insist,
                                  const uint8_t random[SM2_WIDE_BYTES]) AMI_MUST_CHECK;
/* Borrows state->flight. */
struct agree_flight1 agree_flight1_of(const struct agree_state *state, const struct agree_key *key);

/* Meter, flight 2 to flight 3. On AMI_OK the state is wiped and `out` holds everything. Otherwise
 * the state is as before, so that a spoofed answer does not end the wait for the good one:
 * AMI_NO_SESSION (no agreement under way with that tag, or another meter's), AMI_WRONG_CHAIN,
 * AMI_WRONG_SCHEME, AMI_BAD_CRYPTO. `chain` is the pinned chain id. */
enum ami_status agree_meter_answer(struct agree_result *out, struct agree_state *state,
                                   const struct network *net, const struct agree_key *key,
                                   const sm3_digest *chain,
                                   const struct agree_flight2 *in) AMI_MUST_CHECK;
/* The same for many meters at once, each with its own status; side by side it is several times
 * faster. */
void agree_meter_answer_batch(struct agree_result *out, enum ami_status *status,
                              const struct agree_meter_in *in, const struct network *net,
                              const sm3_digest *chain, size_t count);
/* Borrows out->flight. */
struct agree_flight3 agree_flight3_of(const struct agree_result *out);

/* DC, flight 1 to flight 2, for `count` meters at once; each answer has its own status. `p_pub` is
 * the network's table, and may be NULL when the scheme does not need one. */
void agree_answer_batch(struct agree_answer *out, const struct network *net,
                        const struct agree_key *key, const struct point_table *p_pub,
                        const struct agree_request *in, size_t count);
/* The terms of a received flight 1 and of the DC's own choice. */
struct agree_terms agree_terms_for(const struct agree_flight1 *in, const struct agree_key *dc,
                                   const sm3_digest *chain, uint64_t term, uint64_t session);
/* The whole flight 2; borrows out->flight. */
struct agree_flight2 agree_flight2_of(const struct agree_terms *terms,
                                      const struct agree_answer *out);

/* Flights 1 and 2 as they travel under these terms, with the scheme's parts as given: what a scheme
 * confirms or signs. At most AGREE_TRANSCRIPT_BYTES_MAX. */
#define AGREE_TRANSCRIPT_BYTES_MAX (2 * AMI_FLIGHT_BYTES_MAX + 256)
void agree_transcript(struct writer *w, const struct agree_terms *terms, struct span flight1,
                      struct span flight2);

/* DC, flight 3: constant time. AMI_BAD_CRYPTO. On AMI_OK pending->k is the session's K. */
enum ami_status agree_confirm(const struct agree_pending *pending,
                              struct span flight3) AMI_MUST_CHECK;

#endif
