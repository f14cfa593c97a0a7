/* channel/internal.h - what the files of this room share. Nothing outside includes it.
 *
 *   label.c       levels and categories
 *   credential.c  what is the same for every kind, and the table of kinds
 *   implicit.c    GM/T 0130
 *   x509.c        X.509, through libcrypto
 *   cfl.c         CFL identity certificates
 *   file.c        credential files and the list of revoked ones
 *   request.c     an operator's request for a credential, and the answer
 *   channel.c     a channel's life: what comes goes to the handshake or to the records
 *   handshake.c   three flights
 *   record.c      both suites
 *   gate.c        what strangers may cost
 */
#ifndef AMI_CHANNEL_INTERNAL_H
#define AMI_CHANNEL_INTERNAL_H

#include "channel/channel.h"

/* One kind reads: decodes what was shown, sets the key and what it claims; that is all that a
 * signature under that key needs, and costs no signature check. */
typedef enum channel_fault credential_reader(struct credential_peer *out, struct span shown,
                                             const struct credential_trust *trust,
                                             const struct credential_moment *at);
credential_reader implicit_read, x509_read, cfl_read;
/* And asks the issuer's signatures, for what it has read. What every kind has in common (network,
 * validity, the list of revoked ones) is credential_vouched's. An implicit certificate has none:
 * its key is the issuer's doing. peer->vouched is set once every signature up to an anchor is good,
 * also when something else is wrong then. */
typedef enum channel_fault credential_voucher(struct credential_peer *peer, struct span shown,
                                              const struct credential_trust *trust,
                                              const struct credential_moment *at);
credential_voucher x509_vouched, cfl_vouched;

/* CFL: the certificate of one session, behind the lasting one. */
size_t cfl_show(uint8_t *out, const struct credential *own, const struct credential_moment *at);

/* The parts of a signed message: label with its zero, then the caller's. */
#define CREDENTIAL_PARTS_MAX 4
size_t credential_parts(struct span out[CREDENTIAL_PARTS_MAX + 1], const char *label,
                        const struct span *parts, size_t count);

bool identity_valid(const struct credential_identity *who);
/* Valid, and an operator's, with a name. */
bool operator_valid(const struct credential_identity *who);
struct span identity_bytes(uint8_t out[IDENTITY_BYTES_MAX], const struct credential_identity *who);
sm3_digest credential_fingerprint(enum credential_kind kind, struct span lasting);

/* --- file.c: what files are made of ----------------------------------------------------------- */

#define FILE_MAGIC_BYTES 8

void file_head_write(struct writer *w, const uint8_t magic[FILE_MAGIC_BYTES], uint8_t version);
/* AMI_BAD_ENCODING: another magic; AMI_TRUNCATED, AMI_BAD_VERSION. */
enum ami_status file_head_read(struct reader *r, const uint8_t magic[FILE_MAGIC_BYTES],
                               uint8_t version) AMI_MUST_CHECK;
void file_point_write(struct writer *w, const point *p);
void file_point_read(struct reader *r, point *out); /* fails for what is no point */
void file_network_write(struct writer *w, const struct network *net);
void file_network_read(struct reader *r, struct network *out); /* network_finish is left to do */
/* The end of a file with a key: the key, and SM3 of everything before. */
void file_secret_write(struct writer *w, const scalar *key);
/* `in` is the whole file. AMI_TRUNCATED, AMI_DAMAGED. Wipe d. */
enum ami_status file_secret_read(uint8_t d[SM2_SCALAR_BYTES], struct reader *r,
                                 struct span in) AMI_MUST_CHECK;

/* --- handshake.c ------------------------------------------------------------------------------ */

/* Each takes one frame (whose bytes it may use up) and answers in `reply`. */
enum channel_fault handshake_answer(struct channel *c, uint8_t *frame, size_t size, uint8_t *reply,
                                    size_t *reply_size); /* R: flight 1 */
/* On FAULT_NONE these two have in *shown where in the frame the peer's credential is. */
enum channel_fault handshake_finish(struct channel *c, uint8_t *frame, size_t size, uint8_t *reply,
                                    size_t *reply_size, struct span *shown); /* I: flight 2 */
enum channel_fault handshake_accept(struct channel *c, uint8_t *frame, size_t size,
                                    struct span *shown); /* R: flight 3 */

/* --- record.c --------------------------------------------------------------------------------- */

enum record_type { RECORD_READY = 1, RECORD_DATA = 2, RECORD_CLOSE = 3, RECORD_ERROR = 4 };

/* Seals plain and type; out has plain.size + CHANNEL_OVERHEAD_BYTES_MAX bytes and may begin where
 * plain does. Returns the size. */
size_t record_seal(struct channel *c, uint8_t *out, enum record_type type, struct span plain);
/* Opens in place. FAULT_RECORD. */
enum channel_fault record_open(struct channel *c, uint8_t *record, size_t size,
                               enum record_type *type, size_t *plain_size);

#endif
