/* ledger/members.h - who may vote, how many make a quorum, and certificates of their votes.
 *
 * consensus.md, "Sizes" and "Objects". A member is named by its index in the epoch's member list.
 * Certificates prove themselves: these checks need the member list and nothing else.
 */
#ifndef AMI_LEDGER_MEMBERS_H
#define AMI_LEDGER_MEMBERS_H

#include "wire/types.h"

/* Roles, as they enter the hashed ID of a key (docs/security.md). */
enum key_role { ROLE_METER_AGREE = 1, ROLE_METER_REPORT = 2, ROLE_DC_AGREE = 3, ROLE_DC_SIGN = 4 };

/* The MDMS's public keys and the id of the network; fixed by `ami-mdms init`. */
struct network {
    sm3_digest id; /* SM3 over the fields below, see network_id */
    struct ami_id name;
    uint8_t scheme; /* number of the key-agreement scheme */
    point p_pub;    /* issuance */
    point sign;     /* the MDMS's transactions */
    point enrol;    /* encapsulation of enrolment requests */
    point readings; /* encapsulation of reports */
};
/* SM3("amiledger network v1" 00 name scheme p_pub sign enrol readings). */
sm3_digest network_id(const struct network *net);

/* The ID that a key of this role is hashed with: "amiledger id v1" 00, network id, role u8,
 * epoch u32, name as wire id. The network id stands where protocol.md says chain id: the first DCs
 * enrol before the genesis file, whose hash the chain id is, can exist (docs/security.md). */
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
/* e for a signature under this key over label 00 parts (at most 8 parts). */
sm3_digest verify_key_digest(const struct verify_key *key, const char *label,
                             const struct span *parts, size_t count);
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

struct member {
    struct ami_id name;
    uint32_t key_epoch;
    point_bytes w_sign;
    uint8_t agree_part[AMI_SCHEME_PART_BYTES_MAX];
    size_t agree_part_size;
    struct verify_key key; /* recovered from w_sign */
};

struct members {
    sm3_digest chain;
    uint32_t epoch;
    sm3_digest hash; /* SM3("amiledger members v1" 00 epoch u32, count u8, per member: name,
                        key_epoch, w_sign) */
    uint8_t count;
    struct member member[AMI_MEMBERS_MAX];
};
sm3_digest members_hash(const struct members *m);

/* f = floor((n-1)/3); q = ceil((n+f+1)/2). */
unsigned members_f(unsigned n);
unsigned members_quorum(unsigned n);

/* The labels of consensus.md's signed objects. */
#define LABEL_VOTE            "amiledger vote v1"
#define LABEL_PREVOTE         "amiledger prevote v1"
#define LABEL_PREVOTE_REQUEST "amiledger prevote request v1"
#define LABEL_GRANT           "amiledger grant v1"
#define LABEL_GRANT_REQUEST   "amiledger grant request v1"
#define LABEL_PROPOSAL        "amiledger proposal v1"
#define LABEL_HEARTBEAT       "amiledger heartbeat v1"
#define LABEL_HEARTBEAT_ACK   "amiledger heartbeat ack v1"
#define LABEL_LINK            "amiledger link v1"
#define LABEL_REPORT          "amiledger report v1"
#define LABEL_GATEWAY         "amiledger gateway v1"
#define LABEL_SKIP            "amiledger skip v1"
#define LABEL_MDMS            "amiledger mdms v1"

enum vote_kind { VOTE_PREPARE = 1, VOTE_COMMIT = 2 };

/* Signature, chain, epoch, voter's index. AMI_WRONG_CHAIN, AMI_WRONG_EPOCH, AMI_BAD_ARGUMENT
 * (index, kind), AMI_BAD_SIGNATURE. */
enum ami_status vote_check(const struct members *m, const struct vote *v) AMI_MUST_CHECK;
void vote_sign(struct vote *v, const struct sign_key *key, const uint8_t random[SM2_WIDE_BYTES]);
/* q distinct signers, all signatures valid. AMI_BAD_CERTIFICATE otherwise (or WRONG_CHAIN, _EPOCH).
 */
enum ami_status qc_check(const struct members *m, const struct qc *c) AMI_MUST_CHECK;
/* Puts votes for one (kind, term, height, block) together; the caller has checked each. Votes of
 * one voter count once. AMI_NO_QUORUM when fewer than q voters. */
enum ami_status qc_make(struct qc *out, const struct members *m, const struct vote *votes,
                        size_t count) AMI_MUST_CHECK;
/* rank(QC) = (term, height), term first: negative, 0, positive. */
int qc_rank_compare(const struct qc *a, const struct qc *b);

#endif
