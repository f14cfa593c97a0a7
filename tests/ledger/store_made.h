/* tests/ledger/store_made.h - blocks and votes for tests of the store: right in form, signed by
 * nobody.
 */
#ifndef AMI_TESTS_LEDGER_STORE_MADE_H
#define AMI_TESTS_LEDGER_STORE_MADE_H

#include "ledger/genesis.h"
#include "ledger/store.h"

extern sm3_digest chain; /* what made_chain gave last */
sm3_digest made_chain(void);

/* Where the chain that a test makes stands. */
struct tip {
    uint64_t height;
    sm3_digest hash;
    uint64_t sequence; /* of the next report */
};
struct tip tip_at_start(void);

/* A block with all that a batch needs, on the heap. */
struct made {
    struct block_header header;
    sm3_digest hash;
    uint8_t header_bytes[512], commit_bytes[4096], *body;
    size_t body_size, header_size, commit_size;
    sm3_digest first_tx; /* id */
    uint64_t first_sequence;
};

/* The meter of all reports. */
struct ami_id meter_name(void);
void append_report(struct writer *body, uint64_t sequence, size_t sealed_bytes);
/* Encodes header and certificate, which is one of this kind. */
void seal_block(struct made *b, uint8_t kind);
/* The block after `tip` with `txs` reports; moves the tip on. */
struct made *make_block(struct tip *tip, uint32_t txs, size_t sealed_bytes);
void free_block(struct made *b);
struct store_batch commit_of(const struct made *b);
struct store_batch pending_of(const struct made *b);
/* A vote record of this term, which may name a block as that of its last prepare vote. */
struct span vote_of(uint8_t out[512], uint64_t term, const sm3_digest *prepared);

/* Four DCs without keys on that chain; for free(). */
struct genesis *genesis_of_made(void);

#endif
