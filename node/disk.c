#include "node/disk.h"

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

struct node_disk disk_of_store(struct store *store)
{
    return (struct node_disk){store,     block,   header,      body,
                              height_of, find_tx, find_report, find_epoch};
}
