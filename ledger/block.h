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

/* Puts a header around a body whose transactions the caller has staged in `r` one by one; epoch and
 * members are those of its height. timestamp = max(now, parent + 1). */
enum ami_status block_build(struct block_header *out, struct registry *r,
                            const struct block_parent *parent, uint64_t term, uint8_t proposer,
                            int64_t now_ms, struct span body) AMI_MUST_CHECK;

/* Header against chain, members (those of its height: epoch, hash, proposer), parent, limits.
 * AMI_WRONG_CHAIN, AMI_BAD_PARENT, ... */
enum ami_status block_check_header(const struct parameters *p, const struct members *m,
                                   const struct block_header *h,
                                   const struct block_parent *parent) AMI_MUST_CHECK;
/* T_min <= now - timestamp <= T_max; only for a fresh block, at receipt. */
enum ami_status block_check_time(const struct genesis *g, const struct block_header *h,
                                 int64_t now_ms) AMI_MUST_CHECK;
/* Body against header: count, size, Merkle root, every signature, every W. In two steps, so that
 * the long one can run in another thread.
 *
 * `prepare`, on the registry's thread, reads the body and finds who signed what; a device that the
 * body itself enrols is found there. `run`, in any one thread, computes: it touches the check, the
 * body (which must stay in place) and keys that the registry never moves nor changes, so the owner
 * may go on changing the registry meanwhile. `free`, on the registry's thread again and while the
 * registry lives, keeps the keys that `run` had to recover. Whether the devices are in force and
 * the numbers admissible is what block_stage judges.
 *
 * Below registry_pruned_below a report may be a pruned one (ledger/pruned.h): then its gateway is
 * not looked for and its gateway's signature is not checked, and all else is.
 *
 * `bad_index` receives the first offending transaction, or tx_count when it is none in particular.
 * AMI_TOO_LARGE, AMI_BAD_ENCODING, AMI_BAD_ARGUMENT, AMI_UNKNOWN_DEVICE, AMI_BAD_MERKLE_ROOT,
 * AMI_BAD_CRYPTO (a W), AMI_BAD_SIGNATURE, AMI_NO_MEMORY. When `prepare` fails there is no check.
 * Memory: about 400 bytes a transaction, and a megabyte while `run` works. */
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
 * staged, on failure nothing is staged. Signatures are not looked at, nor whether reports may be
 * pruned. A block without transactions
 * is AMI_BAD_ARGUMENT unless a change of membership waits for its height (consensus rule 13). */
enum ami_status block_stage(struct registry *r, const struct block_header *h, struct span body,
                            uint32_t *bad_index) AMI_MUST_CHECK;

#endif
