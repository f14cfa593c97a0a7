/* node/disk.h - reading the committed ledger, whoever keeps it.
 *
 * A process reads from ledger/store.h, the simulator from memory. disk_of_store makes the first.
 */
#ifndef AMI_NODE_DISK_H
#define AMI_NODE_DISK_H

#include "ledger/store.h"

/* Reads of the committed ledger. The functions follow ledger/store.h, with ctx in place of the
 * store. */
struct node_disk {
    void *ctx;
    enum ami_status (*block)(void *ctx, uint64_t height, struct certified_block *out,
                             uint8_t *buffer, size_t buffer_size);
    enum ami_status (*header)(void *ctx, uint64_t height, struct block_header *header,
                              struct qc *commit);
    enum ami_status (*body)(void *ctx, const sm3_digest *block, struct body_reply *out,
                            uint8_t *buffer, size_t buffer_size);
    enum ami_status (*height_of)(void *ctx, const sm3_digest *block, uint64_t *height);
    enum ami_status (*find_tx)(void *ctx, const sm3_digest *id, uint64_t *height, uint32_t *index);
    enum ami_status (*find_report)(void *ctx, const struct ami_id *meter, uint32_t epoch,
                                   uint64_t sequence, uint64_t *height, uint32_t *index);
    enum ami_status (*find_epoch)(void *ctx, uint32_t epoch, uint64_t *height, uint32_t *index);
    enum ami_status (*retention)(void *ctx, struct store_retention *out);
};

/* The proof of the membership transaction that begins this epoch; borrows `buffer`, which has room
 * for a block. AMI_NOT_FOUND, AMI_NO_MEMORY, those of reading. */
enum ami_status epoch_prove(const struct node_disk *disk, uint32_t epoch, uint8_t *buffer,
                            size_t buffer_size, struct membership_proof *out) AMI_MUST_CHECK;

/* The store must outlive it. */
struct node_disk disk_of_store(struct store *store);

#endif
