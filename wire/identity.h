/* wire/identity.h - the network's public keys, key roles, and keys under implicit certificates.
 *
 * Whoever checks or makes a signature, and whoever agrees on a key, starts from here: the hashed ID
 * of a key (network, role, name, epoch), the key recovered from an implicit certificate
 * (GM/T 0130-2023), and signing and checking under a label.
 */
#ifndef AMI_WIRE_IDENTITY_H
#define AMI_WIRE_IDENTITY_H

#include "base/bytes.h"
#include "crypto/sm2.h"

/* Roles, as they enter the hashed ID of a key (docs/security.md). */
enum key_role {
    ROLE_METER_AGREE = 1,
    ROLE_METER_REPORT = 2,
    ROLE_DC_AGREE = 3,
    ROLE_DC_SIGN = 4,
    ROLE_OPERATOR = 5 /* more follows in its ID: channel/implicit.c */
};

/* The MDMS's public keys and the id of the network; fixed by `ami-mdms init`. */
struct network {
    sm3_digest id; /* SM3 over the fields below, see network_id */
    struct ami_id name;
    uint8_t scheme; /* number of the key-agreement scheme */
    point p_pub;    /* issuance */
    point sign;     /* the MDMS's transactions */
    point enrol;    /* encapsulation of enrolment requests */
    point readings; /* encapsulation of reports */
    sm3_digest
        sign_z; /* Z of `sign`, computed once; its ID is "amiledger mdms" (GB/T 32918.2, 5.5) */
};
/* SM3("amiledger network v1" 00 name scheme p_pub sign enrol readings): the name as wire id, the
 * points compressed. None of the points may be infinity. */
sm3_digest network_id(const struct network *net);
/* Sets id and sign_z from the rest. */
void network_finish(struct network *net);

/* The ID that a key of this role is hashed with: "amiledger id v1" 00, network id, role u8,
 * epoch u32, name as wire id. The network id stands where protocol.md says chain id: the first DCs
 * enrol before the genesis file, whose hash the chain id is, can exist (docs/security.md). */
#define KEY_ID_BYTES_MAX (16 + SM3_BYTES + 1 + 4 + 1 + AMI_ID_BYTES_MAX)
struct span key_id(uint8_t out[KEY_ID_BYTES_MAX], const struct network *net, enum key_role role,
                   const struct ami_id *name, uint32_t epoch);

/* H_A = Z over that ID and P_pub (GM/T 0130-2023). */
sm3_digest key_h_a(const struct network *net, enum key_role role, const struct ami_id *name,
                   uint32_t epoch);

/* A public key under an implicit certificate, recovered once. */
struct verify_key {
    sm3_digest h_a;
    point w; /* decoded W */
    point p; /* W + lambda P_pub */
};
/* AMI_BAD_CRYPTO when W is no point or P is infinity. */
enum ami_status verify_key_init(struct verify_key *out, const struct network *net,
                                enum key_role role, const struct ami_id *name, uint32_t epoch,
                                const point_bytes *w) AMI_MUST_CHECK;
/* The same for many keys at once, at most VERIFY_KEY_BATCH; each request has its own status.
 * Returns AMI_OK when all are good, else the first other status. */
#define VERIFY_KEY_BATCH 32
struct verify_key_request {
    struct verify_key *out;
    enum key_role role;
    const struct ami_id *name;
    uint32_t epoch;
    const point_bytes *w;
    enum ami_status status;
};
enum ami_status verify_key_init_batch(struct verify_key_request *in, const struct network *net,
                                      size_t count) AMI_MUST_CHECK;
/* e for a signature under this key over label 00 parts (at most 8 parts). */
sm3_digest verify_key_digest(const struct verify_key *key, const char *label,
                             const struct span *parts, size_t count);
/* What verify_key_digest hashes, for sm3_batch. Borrows the key and what the parts borrow, and
 * stays in place while `parts` is used. */
#define VERIFY_KEY_PARTS 8
struct verify_key_message {
    uint8_t xy[SM2_XY_BYTES];
    struct span parts[2 + 1 + VERIFY_KEY_PARTS];
    size_t count;
};
void verify_key_message(struct verify_key_message *out, const struct verify_key *key,
                        const char *label, const struct span *parts, size_t count);
enum ami_status verify_key_check(const struct verify_key *key, const char *label,
                                 const struct span *parts, size_t count,
                                 const sm2_signature *sig) AMI_MUST_CHECK;

/* The same for signing. Wipe after use. */
struct sign_key {
    struct verify_key public_key;
    sm2_private private_key;
};
sm2_signature sign_key_sign(const struct sign_key *key, const char *label, const struct span *parts,
                            size_t count, const uint8_t random[SM2_WIDE_BYTES]);

#endif
