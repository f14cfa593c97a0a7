/* node/write.c - what must be durable in one go, copied for the storage thread. */
#include "node/internal.h"

#include <stdlib.h>
#include <string.h>

void write_free(struct node_write *w)
{
    free(w->records);
    free(w->memory);
    free(w);
}

struct record_run {
    uint8_t *data;
    size_t size, capacity;
    bool failed;
};

static void put_record(void *ctx, uint64_t index, const struct record *rec)
{
    struct record_run *run = ctx;
    if (run->capacity - run->size < RECORD_BYTES_MAX + 12 && !run->failed) {
        size_t capacity = run->capacity * 2 + 64 * RECORD_BYTES_MAX;
        uint8_t *data = realloc(run->data, capacity);
        if (data == NULL) {
            run->failed = true;
        } else {
            run->data = data;
            run->capacity = capacity;
        }
    }
    if (run->failed)
        return;
    uint8_t encoded[RECORD_BYTES_MAX];
    struct writer record = writer_on(encoded, sizeof encoded);
    record_encode(&record, rec);
    AMI_CHECK(writer_ok(&record));
    struct writer w = writer_on(run->data + run->size, run->capacity - run->size);
    write_u64(&w, index);
    write_bytes(&w, writer_span(&record));
    AMI_CHECK(writer_ok(&w));
    run->size += w.size;
}

static struct span keep(struct writer *w, struct span s)
{
    size_t at = w->size;
    write_raw(w, s.data, s.size);
    AMI_CHECK(writer_ok(w));
    return span_of(w->data + at, s.size);
}

struct node_write *write_make(struct node *n, const struct effects *fx)
{
    struct node_write *w = calloc(1, sizeof *w);
    uint8_t *small = malloc(EFFECTS_PERSIST_SMALL_BYTES_MAX);
    struct record_run run = {0};
    if (w == NULL || small == NULL)
        goto fail;
    struct writer out = writer_on(small, EFFECTS_PERSIST_SMALL_BYTES_MAX);
    w->memory = small;
    w->ticket = fx->persist.ticket;
    w->batch.vote_record = keep(&out, fx->persist.vote_record);
    w->batch.body_header = keep(&out, fx->persist.body_header);
    w->batch.body = fx->persist.body;
    const struct span shown = prune_unsaved(n);
    if (shown.size != 0) { /* it may change while this is written */
        memcpy(w->retention, shown.data, shown.size);
        w->batch.retention = span_of(w->retention, shown.size);
    }
    if (fx->persist.commit) {
        registry_stage_changes(n->c.registry, put_record, &run);
        if (run.failed)
            goto fail;
        w->commits = true;
        w->height = fx->persist.header->height;
        w->tip = fx->persist.block;
        w->timestamp_ms = fx->persist.header->timestamp_ms;
        w->batch.commit = true;
        w->batch.block_header = keep(&out, fx->persist.block_header);
        w->batch.block_commit = keep(&out, fx->persist.block_commit);
        w->batch.block_body = fx->persist.block_body;
        w->records = run.data;
        w->batch.records = span_of(run.data, run.size);
    }
    return w;
fail:
    free(run.data);
    free(small);
    free(w);
    return NULL;
}
