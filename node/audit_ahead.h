/* node/audit_ahead.h - bodies whose signatures other threads check while an audit goes on.
 *
 * An audit reads a block, judges its header and certificate, applies it to the registry, and leaves
 * what takes longest, Merkle root and signatures, to these threads. Blocks come back in the order
 * in which they were put in, so that the first thing wrong is the first one found. All calls are
 * the registry's thread's.
 */
#ifndef AMI_NODE_AUDIT_AHEAD_H
#define AMI_NODE_AUDIT_AHEAD_H

#include "ledger/block.h"

struct audit_ahead;

/* One block on its way. The audit fills `block`, from `buffer`, and keeps what it likes in `ctx`.
 */
struct audit_block {
    uint8_t *buffer; /* AUDIT_BUFFER_BYTES */
    struct certified_block block;
    enum ami_status status; /* of body against header, when it came back */
    uint32_t bad_index;     /* as of block_check_run */
    void *ctx;              /* memory of the size given to audit_ahead_new */
};

#define AUDIT_BUFFER_BYTES (AMI_BLOCK_BYTES_MAX + 8192)

/* threads 0: as many as there are processors. NULL: out of memory, or no thread can be had. */
struct audit_ahead *audit_ahead_new(struct registry *r, unsigned threads, size_t ctx_bytes);
/* Waits for what is being checked. NULL is allowed. */
void audit_ahead_free(struct audit_ahead *a);

/* A place for the next block, NULL when all are in use: take the oldest out first. */
struct audit_block *audit_ahead_place(struct audit_ahead *a);
/* The registry stands at the block's parent. AMI_OK: it is in, and comes out of audit_ahead_next.
 * Otherwise it is not, and *bad_index says what block_check_prepare found. */
enum ami_status audit_ahead_put(struct audit_ahead *a, struct audit_block *b,
                                uint32_t *bad_index) AMI_MUST_CHECK;
/* The oldest one, when it is checked; its place is free with the next call of place. NULL: none. */
struct audit_block *audit_ahead_next(struct audit_ahead *a);

#endif
