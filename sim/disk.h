/* sim/disk.h - a data concentrator's disk in memory: what ledger/store.h keeps in LMDB.
 *
 * What is in it is durable. A batch goes in as a whole or not at all, as in one LMDB transaction;
 * which of the two a crash leaves is the caller's to decide. Outside checkers read it too: it holds
 * what the node cannot take back.
 */
#ifndef AMI_SIM_DISK_H
#define AMI_SIM_DISK_H

#include "ledger/store.h"
#include "node/core.h"

/* A committed block. */
struct sim_block {
    sm3_digest hash;
    struct block_header header;
    struct qc commit;
    uint8_t *bytes; /* encoding of certified_block */
    size_t size;
    struct span body; /* in it */
};

struct sim_disk;
/* The genesis must outlive it. */
struct sim_disk *sim_disk_new(const struct genesis *genesis);
void sim_disk_free(struct sim_disk *d);
/* Everything that was on it is gone. */
void sim_disk_wipe(struct sim_disk *d);

void sim_disk_forget_record(struct sim_disk *d); /* the vote record alone */

void sim_disk_write(struct sim_disk *d, const struct store_batch *b);

uint64_t sim_disk_height(const struct sim_disk *d);
const struct sim_block *sim_disk_block(const struct sim_disk *d, uint64_t height); /* or NULL */
/* NULL: none. */
const struct vote_record *sim_disk_record(const struct sim_disk *d);
/* Whether this block is on it, committed or kept. */
bool sim_disk_has(const struct sim_disk *d, const sm3_digest *block);
/* Where a report stands. */
bool sim_disk_find_report(const struct sim_disk *d, const struct ami_id *meter, uint32_t epoch,
                          uint64_t sequence, uint64_t *height, uint32_t *index);
/* The registry as stored: what a node starts from. */
struct registry *sim_disk_registry(const struct sim_disk *d);
/* For node_config. Reads say `status` while it is not AMI_OK; returns what they said before. */
struct node_disk sim_disk_reader(struct sim_disk *d);
enum ami_status sim_disk_fail_reads(struct sim_disk *d, enum ami_status status);

#endif
