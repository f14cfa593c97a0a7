#include "node/disk.h"

#include "base/check.h"

#include <stdlib.h>
#include <string.h>

static enum ami_status block(void *ctx, uint64_t height, struct certified_block *out,
                             uint8_t *buffer, size_t buffer_size)
{
    return store_block(ctx, height, out, buffer, buffer_size);
}

static enum ami_status header(void *ctx, uint64_t height, struct block_header *h, struct qc *commit)
{
    return store_header(ctx, height, h, commit);
}

static enum ami_status body(void *ctx, const sm3_digest *hash, struct body_reply *out,
                            uint8_t *buffer, size_t buffer_size)
{
    return store_body(ctx, hash, out, buffer, buffer_size);
}

static enum ami_status height_of(void *ctx, const sm3_digest *hash, uint64_t *height)
{
    return store_height_of(ctx, hash, height);
}

static enum ami_status find_tx(void *ctx, const sm3_digest *id, uint64_t *height, uint32_t *index)
{
    return store_find_tx(ctx, id, height, index);
}

static enum ami_status find_report(void *ctx, const struct ami_id *meter, uint32_t epoch,
                                   uint64_t sequence, uint64_t *height, uint32_t *index)
{
    return store_find_report(ctx, meter, epoch, sequence, height, index);
}

static enum ami_status find_epoch(void *ctx, uint32_t epoch, uint64_t *height, uint32_t *index)
{
    return store_find_epoch(ctx, epoch, height, index);
}

static enum ami_status retention(void *ctx, struct store_retention *out)
{
    return store_retention(ctx, out);
}

struct node_disk disk_of_store(struct store *store)
{
    return (struct node_disk){store,   block,       header,     body,     height_of,
                              find_tx, find_report, find_epoch, retention};
}

/* The leaves of a block's tree. */
static enum ami_status leaves_of(const struct certified_block *b, sm3_digest **leaves)
{
    size_t count = 0;
    *leaves = calloc(b->header.tx_count + 1u, sizeof **leaves);
    if (*leaves == NULL)
        return AMI_NO_MEMORY;
    AMI_TRY(body_leaves(*leaves, NULL, b->header.tx_count, &count, b->body));
    return count == b->header.tx_count ? AMI_OK : AMI_DAMAGED;
}

enum ami_status epoch_prove(const struct node_disk *disk, uint32_t epoch, uint8_t *buffer,
                            size_t buffer_size, struct membership_proof *out)
{
    struct certified_block b;
    struct span encoded;
    uint64_t height;
    sm3_digest *leaves = NULL;
    AMI_TRY(disk->find_epoch(disk->ctx, epoch, &height, &out->index));
    AMI_TRY(disk->block(disk->ctx, height, &b, buffer, buffer_size));
    enum ami_status status = leaves_of(&b, &leaves);
    if (status == AMI_OK && out->index >= b.header.tx_count)
        status = AMI_DAMAGED;
    if (status == AMI_OK) {
        struct body_reader it = body_reader_on(b.body);
        for (uint32_t i = 0; i <= out->index; i++)
            AMI_CHECK(body_next(&it, &encoded));
        out->header = b.header;
        out->commit = b.commit;
        out->tx = encoded;
        sm3_digest path[MERKLE_PATH_MAX];
        size_t size = merkle_path(path, leaves, b.header.tx_count, out->index);
        AMI_CHECK(size <= sizeof out->path / sizeof out->path[0]); /* 4,096 transactions at most */
        memcpy(out->path, path, size * sizeof path[0]);
        out->path_count = (uint16_t)size;
    }
    free(leaves);
    return status;
}
