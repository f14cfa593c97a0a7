/* tests/ledger/fixture.h - a small network to test with: MDMS, DCs, meters, and the chain that they
 * make together.
 *
 * Everything follows from a seed, so a failure repeats. All keys are real ones, made as issuance
 * makes them (GM/T 0130). Functions that cannot fail here check it themselves and abort: no test
 * framework is needed, so that fuzz targets and benchmarks can use this too.
 */
#ifndef AMI_TESTS_LEDGER_FIXTURE_H
#define AMI_TESTS_LEDGER_FIXTURE_H

#include "ledger/block.h"
#include "ledger/committee.h"
#include "ledger/evidence.h"
#include "ledger/proof.h"

/* splitmix64. */
uint64_t fixture_u64(uint64_t *state);
void fixture_bytes(uint64_t *state, void *out, size_t size);

/* A device's signing key with the W that others recover its public key from. */
struct fixture_device {
    struct ami_id name;
    uint32_t epoch;
    point_bytes w;
    struct sign_key key;
    uint8_t agree_part[33]; /* any bytes: the ledger does not look into them */
    uint64_t sequence;      /* of its next report */
};

struct fixture {
    uint64_t rng;
    sm2_private p_pub, sign, enrol, readings; /* the MDMS's private keys */
    struct genesis genesis;
    char *genesis_text;
    struct fixture_device dc[AMI_MEMBERS_MAX]; /* by member index in epoch 1 */
    struct fixture_device later[16];           /* enrolled by fixture_dc_enrol: may vote later */
    unsigned later_count;
    uint64_t mdms_number;      /* of the MDMS's last transaction */
    uint32_t membership_epoch; /* of its last membership transaction; 0: ask the registry */
    struct registry *registry;
    struct block_parent tip;
};

/* n DCs named dc-1 .. dc-n, network "fixture", created at 1700000000000, default parameters. n = 1
 * is allowed. */
struct fixture *fixture_new(unsigned n, uint64_t seed);
void fixture_free(struct fixture *f);

struct ami_id fixture_id(const char *format, ...) __attribute__((format(printf, 1, 2)));
void fixture_random(struct fixture *f, uint8_t out[SM2_WIDE_BYTES]);
/* New keys for this name, role and epoch; sequence 1. */
struct fixture_device fixture_device(struct fixture *f, enum key_role role, struct ami_id name,
                                     uint32_t epoch);
/* The same as a meter named m-NUMBER in epoch 1. */
struct fixture_device fixture_meter(struct fixture *f, unsigned number);

/* --- transactions: each is appended to a body, as block_build wants it -------------------------
 */

struct fixture_body {
    struct writer w;
    uint32_t count;
    size_t at; /* where the encoding of the last transaction starts */
    uint8_t bytes[1u << 20];
};
struct fixture_body *fixture_body(void); /* empty; malloc'ed, to be freed with free() */
void fixture_clear(struct fixture_body *b);
struct span fixture_span(const struct fixture_body *b);
struct span fixture_last(const struct fixture_body *b); /* the last transaction's encoding */
void fixture_append(struct fixture_body *b, struct span encoded_tx);

void fixture_meter_enrol(struct fixture *f, struct fixture_body *b, const struct fixture_device *m,
                         const struct ami_id *home_dc);
void fixture_dc_enrol(struct fixture *f, struct fixture_body *b, const struct fixture_device *d);
/* role: 1 meter, 2 DC. */
void fixture_revoke(struct fixture *f, struct fixture_body *b, uint8_t role,
                    const struct ami_id *device, uint32_t epoch);
/* Number and epoch are the next ones. For a leave only name and epoch of the device count. */
void fixture_membership(struct fixture *f, struct fixture_body *b, enum member_change change,
                        const struct fixture_device *d, uint32_t delay);
/* Blocks below this height may be pruned. */
void fixture_retention(struct fixture *f, struct fixture_body *b, uint64_t below);
void fixture_skip(struct fixture *f, struct fixture_body *b, const struct fixture_device *m,
                  uint64_t below);
/* The meter's next report, of m_size arbitrary bytes, through that gateway. Salt and m are those of
 * fixture_opening. */
void fixture_report(struct fixture *f, struct fixture_body *b, struct fixture_device *m,
                    const struct fixture_device *gateway, size_t m_size);
/* Salt and m of a report, which follow from meter, epoch and sequence. */
void fixture_opening(uint8_t salt[16], uint8_t *m, size_t m_size, const struct fixture_device *d,
                     uint64_t sequence);

/* --- blocks ------------------------------------------------------------------------------------
 */

struct fixture_block {
    struct block_header header;
    sm3_digest hash;
    struct qc commit;
    struct span body; /* owned */
};
/* Builds a block of this body on the tip, certified by the first q members in `term`, and commits
 * it to the registry: the tip moves. Every transaction must be admissible. To be freed with
 * fixture_block_free. */
struct fixture_block *fixture_commit(struct fixture *f, const struct fixture_body *b,
                                     uint64_t term);
void fixture_block_free(struct fixture_block *b);
/* Votes of the members in `signers`, of the epoch of that height, for any block. */
struct qc fixture_qc(struct fixture *f, enum vote_kind kind, uint64_t term, uint64_t height,
                     const sm3_digest *block, uint32_t signers);
/* The first q members of the epoch that the next block belongs to. */
/* Statements of members, signed. `rest` stands for the certificates of the proposal. */
struct vote fixture_vote(struct fixture *f, enum vote_kind kind, uint64_t term, uint64_t height,
                         const sm3_digest *block, uint8_t voter);
void fixture_grant(struct fixture *f, struct grant *out, uint64_t term, uint8_t candidate,
                   uint8_t voter, const struct qc *high);
void fixture_head(struct fixture *f, struct proposal_head *out, uint64_t term, uint8_t leader,
                  const struct block_header *h, const sm3_digest *rest);
/* A header as `proposer` might have made it in this term. */
struct block_header fixture_header(struct fixture *f, uint64_t term, uint64_t height,
                                   uint8_t proposer, uint64_t salt);

/* Evidence: its statements lie in it. fixture_evidence makes one of this kind that convicts. */
struct fixture_evidence {
    struct evidence e;
    uint8_t first[AMI_STATEMENT_BYTES_MAX], second[AMI_STATEMENT_BYTES_MAX];
};
void fixture_evidence(struct fixture_evidence *out, struct fixture *f, uint8_t accused,
                      uint8_t kind);
void fixture_evidence_votes(struct fixture_evidence *out, struct fixture *f, const struct vote *a,
                            const struct vote *b);

void fixture_evidence_tx(struct fixture_body *b, const struct evidence *e);

/* Certificate of the first q members. */
uint32_t fixture_quorum(const struct fixture *f);
const struct fixture_device *fixture_voter(const struct fixture *f, const struct member *m);

/* The proof of the membership transaction at `index` of this block; borrows it. */
struct membership_proof fixture_membership_proof(const struct fixture_block *b, uint32_t index);

/* A proof of the report at `report_index` of `report`, whose meter was enrolled at `enrol_index` of
 * `enrol`. Borrows both blocks. No opening. */
struct proof fixture_proof(const struct fixture_block *report, uint32_t report_index,
                           const struct fixture_block *enrol, uint32_t enrol_index);

#endif
