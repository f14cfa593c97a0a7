/* ledger/members.h - who may vote, how many make a quorum, and certificates of their votes.
 *
 * consensus.md, "Sizes" and "Objects". A member is named by its index in the epoch's member list.
 * Certificates prove themselves: these checks need the member list and nothing else.
 */
#ifndef AMI_LEDGER_MEMBERS_H
#define AMI_LEDGER_MEMBERS_H

#include "wire/identity.h"
#include "wire/types.h"

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

/* How a membership transaction changes the list (consensus rule 13). */
enum member_change { MEMBER_JOIN = 1, MEMBER_LEAVE = 2, MEMBER_ROTATE = 3 };
/* Between the block with the transaction and the first one of the new epoch. Two at least: who is
 * about to extend the former block knows already whether the next one is the last of its epoch. */
#define MEMBERSHIP_DELAY_MIN 2
#define MEMBERSHIP_DELAY_MAX 1000

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
 * one voter count once. AMI_NO_QUORUM when fewer than q voters; AMI_BAD_ARGUMENT when they are not
 * for one thing or a voter is no member. */
enum ami_status qc_make(struct qc *out, const struct members *m, const struct vote *votes,
                        size_t count) AMI_MUST_CHECK;
/* rank(QC) = (term, height), term first: negative, 0, positive. */
int qc_rank_compare(const struct qc *a, const struct qc *b);

#endif
