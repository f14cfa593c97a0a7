/* meter/headers.h - who certifies blocks, and certified block headers: what acknowledgements are
 * measured against.
 *
 * A process begins with the genesis file's committee. The DCs tell it of later ones (MEMBERSHIP),
 * each proved by the one before and by the MDMS, so a lying DC can withhold a change, not invent
 * one. A block counts under the committee of its epoch, at the heights of that epoch only: keys of
 * DCs that left certify nothing new. The last METER_EPOCHS committees are kept.
 *
 * A BLOCK_PROOF comes once per block and connection, before the acknowledgements that need it. All
 * meters of a process share one ring, so a block's commit certificate is checked once however many
 * meters have a report in it. Pure and of fixed size.
 */
#ifndef AMI_METER_HEADERS_H
#define AMI_METER_HEADERS_H

#include "ledger/block.h"
#include "ledger/committee.h"

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

/* Acknowledgements of one block share what is above their leaves: the nodes that a proof has shown,
 * those of its path included, are kept for the last few blocks, so that a whole block's proofs cost
 * about one digest each. By level from the leaves up, each level after the one below it. */
#define METER_TREES_KEPT 4
#define METER_TREE_NODES (2 * AMI_BLOCK_TXS_MAX + 32) /* a level has one more than half at most */
struct shown_nodes {
    uint64_t height; /* 0: nothing is kept */
    sm3_digest hash;
    uint8_t shown[METER_TREE_NODES];
    sm3_digest node[METER_TREE_NODES];
};

/* Committees kept, for blocks that are acknowledged late. */
#define METER_EPOCHS 48 /* as many as a proof shows changes */
/* DCs that a process knows, present members and those that left: each has a place of its own. */
#define METER_DCS 32

struct headers {
    const struct network *network;
    uint32_t newest;                      /* membership epoch, perhaps still to begin */
    struct committee epoch[METER_EPOCHS]; /* epoch modulo METER_EPOCHS; the genesis file's is 1 */
    uint8_t dc_count;
    struct ami_id dc[METER_DCS]; /* by place; at first in the order of the genesis file */
    uint64_t checked;            /* certificates checked */
    uint64_t refused;            /* of those and of malformed ones */
    struct certified_header ring[METER_HEADERS]; /* height modulo METER_HEADERS */
    /* Those that are older than what stands in their place of the ring: anybody has true headers of
     * old blocks, and one DC that sends them must not push out what other DCs' acknowledgements
     * need. Height modulo METER_HEADERS_OLD. */
    struct certified_header old[METER_HEADERS_OLD];
    /* Height modulo METER_TREES_KEPT. Large and the last member: what no block has needed is hardly
     * touched. */
    struct shown_nodes tree[METER_TREES_KEPT];
};

/* The genesis file must outlive it. */
void headers_init(struct headers *h, const struct genesis *g);

/* The newest committee. */
const struct committee *headers_committee(const struct headers *h);
/* Takes the next one. AMI_WRONG_EPOCH: it is not the next (it is known already, or others are
 * missing); else as committee_advance. */
enum ami_status headers_advance(struct headers *h,
                                const struct membership_proof *proof) AMI_MUST_CHECK;
/* A DC's place; METER_DCS: it is not known. */
uint8_t headers_place(const struct headers *h, const struct ami_id *dc);
/* Whether the DC of this place is a member of the newest committee, and its index there. */
bool headers_is_member(const struct headers *h, uint8_t place, uint8_t *index);

/* The body of a BLOCK_PROOF frame. AMI_OK also when it is known already. AMI_BAD_ENCODING,
 * AMI_WRONG_CHAIN, AMI_WRONG_EPOCH (an epoch that is not known, or not at that height),
 * AMI_BAD_CERTIFICATE: nothing is kept, and it is counted. */
enum ami_status headers_add(struct headers *h, struct span block_proof_body);

/* NULL when there is no certified header of this height with this hash. */
const struct certified_header *headers_find(const struct headers *h, uint64_t height,
                                            const sm3_digest *hash);

/* Whether this leaf stands there in the block; `c` is one that headers_find gave. As merkle_check
 * with its root, but from the first node on that an earlier proof has shown only the number of
 * digests above it is looked at. AMI_BAD_PROOF. */
enum ami_status headers_check_leaf(struct headers *h, const struct certified_header *c,
                                   const sm3_digest *leaf, uint64_t index, const sm3_digest *path,
                                   size_t path_size) AMI_MUST_CHECK;

#endif
