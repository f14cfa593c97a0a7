/* keyagree/keyfile.h - key files: one durable record per concept, to bytes and back.
 *
 * Three kinds: a device's keys, a device's unfinished enrolment, the MDMS's keys. No disk here:
 * callers write the bytes (to a new file, synced, then renamed) and hand them in.
 *
 * A file is: "amikey" 0d 0a, version u8 1, kind u8, sealed u8 (0 or 1), network id, body size u32,
 * body, SM3 of all that. A sealed body is secret_seal (argon2id, secretstream) of the content with
 * kind and network id bound in. The plain head and the digest let a reader tell a wrong file, a cut
 * one, a damaged one, a foreign one and a wrong passphrase apart.
 */
#ifndef AMI_KEYAGREE_KEYFILE_H
#define AMI_KEYAGREE_KEYFILE_H

#include "crypto/secret.h"
#include "keyagree/enrol.h"

enum keyfile_kind { KEYFILE_DEVICE = 1, KEYFILE_PENDING = 2, KEYFILE_MDMS = 3 };

/* No key file is larger. */
#define KEYFILE_BYTES_MAX 2048

/* What can be read without a passphrase. */
struct keyfile_head {
    enum keyfile_kind kind;
    bool sealed;
    sm3_digest network;
};
/* AMI_BAD_ENCODING: no key file. AMI_BAD_VERSION. AMI_TRUNCATED: cut short. AMI_DAMAGED: the digest
 * does not match, or bytes follow it. All decoders below start with it and give the same errors. */
enum ami_status keyfile_head_parse(struct keyfile_head *out, struct span file) AMI_MUST_CHECK;

/* --- a device --------------------------------------------------------------------------------- */

struct device_file {
    struct device_keys keys;
    bool has_chain;   /* the genesis file was seen */
    sm3_digest chain; /* its chain id, pinned from then on */
    uint64_t starts;  /* a DC counts its starts here (consensus rule 11); 0 for a meter */
};

/* passphrase NULL: not sealed. `out` has KEYFILE_BYTES_MAX bytes. AMI_NO_MEMORY. */
enum ami_status device_file_encode(uint8_t *out, size_t *size, const struct network *net,
                                   const struct device_file *in,
                                   const char *passphrase) AMI_MUST_CHECK;
/* AMI_FOREIGN_KEY: another network's. AMI_WRONG_PASSPHRASE, also when it is sealed and none was
 * given. AMI_BAD_ARGUMENT: it is a key file of another kind. AMI_DAMAGED: keys that are none.
 * The public keys are recomputed from the private ones; see device_file_verify. */
enum ami_status device_file_parse(struct device_file *out, const struct network *net,
                                  struct span file, const char *passphrase) AMI_MUST_CHECK;
/* Checks dG = W + lambda P_pub for the signing role, and what the scheme can check for the agreeing
 * one (some products per device: a single process does it at start, a fleet need not).
 * AMI_FOREIGN_KEY. */
enum ami_status device_file_verify(const struct device_file *f,
                                   const struct network *net) AMI_MUST_CHECK;

/* --- a device that waits for its reply -------------------------------------------------------- */

enum ami_status pending_file_encode(uint8_t *out, size_t *size, const struct enrol_pending *in,
                                    const char *passphrase) AMI_MUST_CHECK;
/* Errors as in device_file_parse. */
enum ami_status pending_file_parse(struct enrol_pending *out, const struct network *net,
                                   struct span file, const char *passphrase) AMI_MUST_CHECK;

/* --- the MDMS --------------------------------------------------------------------------------- */

/* Wipe after use. */
struct mdms_keys {
    struct network net; /* with its id, from the keys below */
    scalar x;           /* issuance: P_pub = xG */
    sm2_private sign;
    sm2_private enrol;
    sm2_private readings;
};

/* Draws the four keys of a new network. AMI_BAD_ARGUMENT: no such scheme. AMI_BAD_CRYPTO: random
 * bytes that give no key (probability below 2^-250). */
enum ami_status mdms_keys_make(struct mdms_keys *out, const struct ami_id *name, uint8_t scheme,
                               const uint8_t random[4][SM2_WIDE_BYTES]) AMI_MUST_CHECK;

/* A passphrase is required (AMI_BAD_ARGUMENT when NULL or empty). AMI_NO_MEMORY. */
enum ami_status mdms_file_encode(uint8_t *out, size_t *size, const struct mdms_keys *in,
                                 const char *passphrase) AMI_MUST_CHECK;
/* `net` is what the keys must belong to, or NULL. AMI_FOREIGN_KEY, AMI_WRONG_PASSPHRASE, ... */
enum ami_status mdms_file_parse(struct mdms_keys *out, const struct network *net, struct span file,
                                const char *passphrase) AMI_MUST_CHECK;

#endif
