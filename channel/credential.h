/* channel/credential.h - who is at the other end: three kinds of credential behind one interface.
 *
 *   implicit  GM/T 0130 implicit certificates, issued by the MDMS (the default): a DC's signing
 *             key, the MDMS's own key, which the genesis file pins, and operators
 *   x509      X.509 certificates with SM2 keys and SM2-with-SM3 signatures (x509.h)
 *   cfl       CFL identity certificates (cfl.h)
 *
 * A credential names an identity and proves the right to use a public SM2 key in its name. It is
 * *shown* as bytes, for CFL bound to the session; whoever gets them *checks* them against what it
 * trusts; and the holder signs the handshake's transcript under the key. Which identity is welcome
 * is not decided here: the caller of channel.h is asked.
 *
 * Pure: no clock, no disk, no random source. OpenSSL's libcrypto allocates while it checks an X.509
 * chain, bounded by CREDENTIAL_BYTES_MAX of input.
 */
#ifndef AMI_CHANNEL_CREDENTIAL_H
#define AMI_CHANNEL_CREDENTIAL_H

#include "channel/fault.h"
#include "channel/label.h"
#include "wire/codec.h"
#include "wire/identity.h"

/* Values travel in handshakes. */
enum credential_kind { CREDENTIAL_IMPLICIT = 1, CREDENTIAL_X509 = 2, CREDENTIAL_CFL = 3 };
#define CREDENTIAL_KINDS     4                         /* kinds are below this */
#define CREDENTIAL_BIT(kind) ((uint8_t)(1u << (kind))) /* in sets of kinds */
#define CREDENTIAL_ALL_BITS  0x0eu                     /* the three */

enum credential_role { CREDENTIAL_DC = 1, CREDENTIAL_MDMS = 2, CREDENTIAL_OPERATOR = 3 };

/* A credential as it travels: no larger is looked at. */
#define CREDENTIAL_BYTES_MAX 4096

/* Before it runs out for so long there are warnings. */
#define CREDENTIAL_WARN_S (30 * 86400)
/* A CFL certificate of one session is taken when its time is no further from ours than this. */
#define CREDENTIAL_SKEW_MS (5 * 60 * 1000)

#define CREDENTIAL_NONCE_BYTES 32

/* What a credential says of its holder. Public. */
struct credential_identity {
    enum credential_kind kind;
    enum credential_role role;
    sm3_digest network;
    struct ami_id name;      /* the MDMS bears the network's */
    uint32_t epoch;          /* of the key; 0 where there are none (the MDMS, X.509) */
    struct label label;      /* operators; else zero */
    int64_t from_s, until_s; /* seconds since 1970; 0 and 0: for as long as it is not revoked */
    point_bytes key;         /* the public key that it binds */
    sm3_digest fingerprint;  /* SM3 over what does not change from session to session */
};

const char *credential_kind_name(enum credential_kind kind); /* "implicit"; never NULL */
const char *credential_role_name(enum credential_role role); /* "operator"; never NULL */

/* Seconds until it runs out, negative when it has; INT64_MAX when it never does. */
int64_t credential_left_s(const struct credential_identity *who, int64_t now_s);

/* --- to hold one ------------------------------------------------------------------------------ */

/* What a holder has. Made by one of the functions below, of x509.h or of cfl.h. No pointers. Wipe
 * after use. */
struct credential {
    struct credential_identity who;
    sm2_private key;
    bool implicit; /* signatures hash W too */
    point w;
    sm3_digest z;          /* Z of the key, H_A of an implicit one */
    int64_t chain_until_s; /* X.509: when the first certificate that is shown ends; else 0 */
    size_t shown_size;
    uint8_t shown[CREDENTIAL_BYTES_MAX]; /* without what CFL adds for a session */
};

/* Seconds until nobody takes it any more, whatever of it ends first; INT64_MAX: never. */
int64_t credential_own_left_s(const struct credential *own, int64_t now_s);

/* A DC's signing key. AMI_BAD_ARGUMENT: the key is not that of this DC in this network; here and in
 * the next one `out`, which links may be made with, is then left alone. */
enum ami_status credential_of_dc(struct credential *out, const struct network *net,
                                 const struct ami_id *name, uint32_t epoch,
                                 const struct sign_key *key) AMI_MUST_CHECK;
/* The MDMS's key of transactions and links. AMI_BAD_ARGUMENT: it is not the network's. */
enum ami_status credential_of_mdms(struct credential *out, const struct network *net,
                                   const sm2_private *sign) AMI_MUST_CHECK;

/* An operator's implicit certificate, issued as a device's is (docs/security.md), but with the
 * whole identity in the hashed ID: operator draws d', U = d'G; the MDMS answers t, W; the operator
 * computes d. `who` needs name, epoch, label, from_s and until_s; the rest is set. */
struct operator_request {
    scalar d_prime;
    point u;
};
void operator_begin(struct operator_request *out, const uint8_t random[SM2_WIDE_BYTES]);
/* AMI_BAD_ARGUMENT: a label or validity that cannot be. */
enum ami_status operator_issue(point *w, scalar *t, const struct network *net, const scalar *x,
                               const struct credential_identity *who, const point *u,
                               const uint8_t random[SM2_WIDE_BYTES]) AMI_MUST_CHECK;
/* AMI_BAD_CRYPTO: t and W do not belong to the request and the identity. */
enum ami_status operator_accept(struct credential *out, const struct network *net,
                                const struct credential_identity *who,
                                const struct operator_request *request, const scalar *t,
                                const point *w) AMI_MUST_CHECK;

/* --- to show and check one -------------------------------------------------------------------- */

struct x509_trust; /* x509.h */
struct cfl_public; /* cfl.h */

/* What is trusted, and how far. Borrowed for as long as channels use it. */
struct credential_trust {
    const struct network *net;
    uint8_t kinds; /* CREDENTIAL_BIT of those accepted; a kind without its anchor below never is */
    const struct x509_trust *x509;
    const struct cfl_public *cfl;
    /* Is this one revoked? NULL: nobody knows. X.509 has its revocation lists besides. */
    bool (*revoked)(void *ctx, const struct credential_identity *who);
    void *revoked_ctx;
};

/* The moment for which a credential is shown or checked. */
struct credential_moment {
    int64_t wall_ms;
    const uint8_t *verifier_nonce; /* CREDENTIAL_NONCE_BYTES, drawn by who checks */
};

/* A peer as its credential has it. Nothing of it is to be believed before credential_vouched, and
 * that the peer holds the key not before credential_verify. */
struct credential_peer {
    struct credential_identity who;
    bool implicit;
    bool vouched; /* an issuer that is trusted says that this is the holder of the key; whether it
                     is in force and welcome is another question. Set by credential_vouched. */
    point w, p;
    sm3_digest z;
};

/* Bytes for one session. `out` has CREDENTIAL_BYTES_MAX bytes; returns the size. */
size_t credential_show(uint8_t *out, const struct credential *own,
                       const struct credential_moment *at);

/* FAULT_NONE, or the reason why not. In two steps, with credential_verify between them: to read
 * costs little, to ask the issuers a signature check for each of them (X.509, CFL), which a
 * stranger with a copy of somebody's credential should not have for nothing. */
enum channel_fault credential_read(struct credential_peer *out, enum credential_kind kind,
                                   struct span shown, const struct credential_trust *trust,
                                   const struct credential_moment *at);
/* `peer` as read from the same bytes. An implicit certificate's issuer has spoken when
 * credential_verify succeeds: it is called before this. */
enum channel_fault credential_vouched(struct credential_peer *peer, struct span shown,
                                      const struct credential_trust *trust,
                                      const struct credential_moment *at);
/* Both, for bytes that nobody signs a transcript with. */
enum channel_fault credential_check(struct credential_peer *out, enum credential_kind kind,
                                    struct span shown, const struct credential_trust *trust,
                                    const struct credential_moment *at);

/* Would a credential that was taken once, as `who` from these bytes, be taken at this moment, by
 * what is trusted now? What belongs to the session of then (nonce, CFL's time) is not asked again.
 */
enum channel_fault credential_again(const struct credential_identity *who, struct span shown,
                                    const struct credential_trust *trust, int64_t wall_ms);

/* Signature over label 00 parts (at most 4 parts). */
sm2_signature credential_sign(const struct credential *own, const char *label,
                              const struct span *parts, size_t count,
                              const uint8_t random[SM2_WIDE_BYTES]);
enum channel_fault credential_verify(const struct credential_peer *peer, const char *label,
                                     const struct span *parts, size_t count,
                                     const sm2_signature *sig);

/* --- the identity's bytes, under every issuer's signature ------------------------------------- */

/* role u8, network, name, epoch u32, level u8, categories u8, from i64, until i64. */
#define IDENTITY_BYTES_MAX (1 + SM3_BYTES + 1 + AMI_ID_BYTES_MAX + 4 + 1 + 1 + 8 + 8)
void identity_write(struct writer *w, const struct credential_identity *who);
/* Sets those fields. The reader fails for a role, label or validity that cannot be. */
void identity_read(struct reader *r, struct credential_identity *out);

#endif
