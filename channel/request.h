/* channel/request.h - an operator's credential over a key that nobody but the operator has.
 *
 *   operator   draws the key, asks under it              -> request, and a key file that it keeps
 *   MDMS       checks that whoever asks has the key      -> answer
 *   operator   joins the answer and the key file         -> credential file (file.h)
 *
 * Requests and answers hold nothing secret: where t and W of an implicit certificate are known, d
 * is still t + d'. The signature in a request says that its key is held by whoever asks, not who
 * that is.
 *
 *   request    implicit: "amiimpq\n", version u8 1, identity, U 33, signature 64 under U over
 *              "amiledger operator request v1" 00, identity, U; Z over the identity
 *              CFL: that of cfl.h, with RAPK
 *   answer     implicit: "amiimpc\n", version u8 1, identity, t 32, W 33
 *              CFL: the certificate, as cfl.h has it
 *   key file   "amireqk\n", version u8 1, network as in file.h, request u16 and bytes, private key
 *              32, SM3 of everything before; not sealed, its mode is the caller's to set, and 0600
 *
 * The label of an implicit certificate is the MDMS's to give. Under CFL the user's own signature is
 * in the certificate, and covers the label as well: that one is given or none.
 */
#ifndef AMI_CHANNEL_REQUEST_H
#define AMI_CHANNEL_REQUEST_H

#include "channel/cfl.h"

/* What is asked for. Public. */
struct credential_request {
    struct credential_identity who; /* kind implicit or CFL; key: U or RAPK; no fingerprint */
    sm2_signature self;
};
#define CREDENTIAL_REQUEST_BYTES_MAX CFL_FILE_BYTES_MAX

/* What comes back. Public. */
struct credential_answer {
    struct credential_identity who; /* as it was issued, with its fingerprint; key: CFL only */
    scalar t;                       /* implicit */
    point w;
    sm2_signature self, issuer; /* CFL */
};
#define CREDENTIAL_ANSWER_BYTES_MAX CFL_FILE_BYTES_MAX

/* What waits for the answer. Wipe after use. */
struct credential_key {
    struct network net;
    struct credential_request request;
    sm2_private key; /* d' or RASK */
};
#define CREDENTIAL_KEY_BYTES_MAX (CREDENTIAL_REQUEST_BYTES_MAX + 512)

/* The operator: draws the key and signs. `who` needs kind, role, name, epoch, label, from_s and
 * until_s; network is net's. random: the key, then the signature's nonce. AMI_BAD_ARGUMENT: an
 * identity that cannot be an operator's. */
enum ami_status credential_request_make(struct credential_key *out, const struct network *net,
                                        const struct credential_identity *who,
                                        const uint8_t random[2][SM2_WIDE_BYTES]) AMI_MUST_CHECK;
/* Is the signature good, so that whoever has the key asks for this? AMI_BAD_SIGNATURE. */
enum ami_status credential_request_check(const struct credential_request *in) AMI_MUST_CHECK;

/* The MDMS, for an implicit one: checks the request's signature and issues with this label, for
 * which x is the network's. It is the caller who decides whether this identity is to be had.
 * AMI_BAD_SIGNATURE; AMI_BAD_ARGUMENT: of another kind, or no operator's. */
enum ami_status credential_answer_implicit(struct credential_answer *out,
                                           const struct credential_request *request,
                                           struct label label, const struct network *net,
                                           const scalar *x,
                                           const uint8_t random[SM2_WIDE_BYTES]) AMI_MUST_CHECK;
/* For CFL: cfl_issue for the first makes the second's. */
struct cfl_certificate credential_request_cfl(const struct credential_request *request);
void credential_answer_cfl(struct credential_answer *out, const struct cfl_certificate *issued);

/* The operator: the credential, when all of it is right. `set` is the public seed set, which tells
 * whether a CFL answer is; NULL only where whoever calls has issued it. AMI_WRONG_CHAIN: of another
 * network; AMI_FOREIGN_KEY: to a request for something else; AMI_BAD_CRYPTO: to a request with
 * another key, or an implicit one that was altered, or issued by somebody without the network's x;
 * AMI_BAD_SIGNATURE: a CFL one that was altered, or is not of the set's issuer. *out is all zeros
 * then. */
enum ami_status credential_answer_accept(struct credential *out,
                                         const struct credential_answer *answer,
                                         const struct credential_key *key,
                                         const struct cfl_public *set) AMI_MUST_CHECK;

/* Files. Each encoder's `out` has the size above; they return the size. */
size_t credential_request_encode(uint8_t *out, const struct credential_request *in);
size_t credential_answer_encode(uint8_t *out, const struct credential_answer *in);
size_t credential_key_encode(uint8_t *out, const struct credential_key *in);
/* AMI_BAD_ENCODING, AMI_TRUNCATED, AMI_BAD_VERSION. No signature is checked. */
enum ami_status credential_request_parse(struct credential_request *out,
                                         struct span in) AMI_MUST_CHECK;
enum ami_status credential_answer_parse(struct credential_answer *out,
                                        struct span in) AMI_MUST_CHECK;
/* As well AMI_DAMAGED: the digest or the key does not fit. *out is all zeros on failure. */
enum ami_status credential_key_parse(struct credential_key *out, struct span in) AMI_MUST_CHECK;

#endif
