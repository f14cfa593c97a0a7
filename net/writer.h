/* net/writer.h - the storage thread: writes carried out one after the other, away from the loop.
 *
 * The loop's thread puts a write, the storage thread takes as many as wait (up to
 * DISK_WRITER_BATCH_MAX) and hands them to `execute` in the order of putting, so that the store
 * can make them durable with one sync; each then comes back through on_done in the same order, in
 * the loop's thread. This is `store` of base/env.h. What a write is, only `execute` knows.
 */
#ifndef AMI_NET_WRITER_H
#define AMI_NET_WRITER_H

#include <stddef.h>

#include "base/status.h"
#include "net/loop.h"

#define DISK_WRITER_BATCH_MAX 64

struct disk_writer;

struct disk_writer_config {
    void *ctx;
    /* Storage thread: carries out writes[0..count) in order and sets status[i] for each. When it
     * sets AMI_OK the write survives a crash. A write must not be made durable when one before it
     * in the batch was not. */
    void (*execute)(void *ctx, void *const *writes, size_t count, enum ami_status *status);
    /* Loop's thread. */
    void (*on_done)(void *ctx, void *write, enum ami_status status);
    size_t writes_max; /* put and not yet back */
};

/* NULL when there is no memory or no thread to be had. */
struct disk_writer *disk_writer_new(struct loop *loop, const struct disk_writer_config *config);

/* Carries out what was put, without further on_done, and ends the thread. NULL is allowed. */
void disk_writer_free(struct disk_writer *writer);

/* AMI_AGAIN when writes_max writes are out. */
enum ami_status disk_writer_put(struct disk_writer *writer, void *write) AMI_MUST_CHECK;

#endif
