/* ledger/block.h - building and checking blocks (the published Algorithm 2's checks, and more).
 */
#ifndef AMI_LEDGER_BLOCK_H
#define AMI_LEDGER_BLOCK_H

#include "ledger/merkle.h"
#include "ledger/registry.h"

sm3_digest block_hash(const struct block_header *h);

/* Where a block goes: its parent. For height 1 the hash is the chain id and the time is the
 * genesis file's. */
struct block_parent {
    uint64_t height; /* of the parent */
    sm3_digest hash;
    int64_t timestamp_ms;
};

/* Puts a header around a body whose transactions the caller has staged in `r` one by one.
 * timestamp = max(now, parent + 1). */
enum ami_status block_build(struct block_header *out, const struct genesis *g, struct registry *r,
                            const struct block_parent *parent, uint64_t term, uint8_t proposer,
                            int64_t now_ms, struct span body) AMI_MUST_CHECK;

/* Header against chain, epoch, members, parent, proposer, limits. AMI_WRONG_CHAIN, AMI_BAD_PARENT,
 * ... */
enum ami_status block_check_header(const struct genesis *g, const struct block_header *h,
                                   const struct block_parent *parent) AMI_MUST_CHECK;
/* T_min <= now - timestamp <= T_max; only for a fresh block, at receipt. */
enum ami_status block_check_time(const struct genesis *g, const struct block_header *h,
                                 int64_t now_ms) AMI_MUST_CHECK;
/* Body against header: count, size, Merkle root, every signature. In two steps, so that the long one
 * can run in another thread: `prepare` parses the body and finds every key in the registry (owner's
 * thread; a meter enrolled in the same body is found there), `run` computes and touches nothing but
 * the check and the body, which must stay in place. `bad_index` receives the first offending
 * transaction. On failure of `prepare` there is no check. AMI_TOO_LARGE, AMI_BAD_ENCODING,
 * AMI_UNKNOWN_DEVICE, AMI_BAD_MERKLE_ROOT, AMI_BAD_SIGNATURE, AMI_NO_MEMORY, ... */
struct block_check;
enum ami_status block_check_prepare(struct registry *r, const struct block_header *h,
                                    struct span body, struct block_check **out,
                                    uint32_t *bad_index) AMI_MUST_CHECK;
enum ami_status block_check_run(struct block_check *c, uint32_t *bad_index) AMI_MUST_CHECK;
void block_check_free(struct block_check *c); /* NULL is allowed */
/* Both steps at once. */
enum ami_status block_check_body(struct registry *r, const struct block_header *h, struct span body,
                                 uint32_t *bad_index) AMI_MUST_CHECK;
/* Applies the body to a stage (begun here) and compares the state root; on success the block stays
 * staged, on failure nothing is staged. */
enum ami_status block_stage(struct registry *r, const struct block_header *h, struct span body,
                            uint32_t *bad_index) AMI_MUST_CHECK;

#endif
