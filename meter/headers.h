/* meter/headers.h - certified block headers: what acknowledgements are measured against.
 *
 * A BLOCK_PROOF comes once per block and connection, before the acknowledgements that need it. All
 * meters of a process share one ring, so a block's commit certificate is checked once however many
 * meters have a report in it. Pure and of fixed size.
 */
#ifndef AMI_METER_HEADERS_H
#define AMI_METER_HEADERS_H

#include "ledger/block.h"

/* A DC sends a header again on the same link after 64 others (node/internal.h), so this many serve
 * 31 DCs with a few connections each. */
#define METER_HEADERS     4096
#define METER_HEADERS_OLD 256

struct certified_header {
    uint64_t height; /* 0: empty place */
    sm3_digest hash;
    sm3_digest merkle_root;
    uint32_t tx_count;
};

struct headers {
    const struct members *members;
    uint64_t checked;                            /* certificates checked */
    uint64_t refused;                            /* of those and of malformed ones */
    struct certified_header ring[METER_HEADERS]; /* height modulo METER_HEADERS */
    /* Those that are older than what stands in their place of the ring: anybody has true headers of
     * old blocks, and one DC that sends them must not push out what other DCs' acknowledgements
     * need. Height modulo METER_HEADERS_OLD. */
    struct certified_header old[METER_HEADERS_OLD];
};

/* `members` must outlive it. */
void headers_init(struct headers *h, const struct members *members);

/* The body of a BLOCK_PROOF frame. AMI_OK also when it is known already. AMI_BAD_ENCODING,
 * AMI_WRONG_CHAIN, AMI_WRONG_EPOCH, AMI_BAD_CERTIFICATE: nothing is kept, and it is counted. */
enum ami_status headers_add(struct headers *h, struct span block_proof_body);

/* NULL when there is no certified header of this height with this hash. */
const struct certified_header *headers_find(const struct headers *h, uint64_t height,
                                            const sm3_digest *hash);

#endif
