#include "tests/node/net_internal.h"

void host_keep_retention(struct host *h, struct span encoded)
{
    struct tx_view tx;
    AMI_CHECK(tx_view_parse(&tx, encoded) == AMI_OK && tx.tx.kind == TX_RETENTION);
    if (tx.u.retention.below <= h->retention.below)
        return;
    AMI_CHECK(encoded.size == sizeof h->retention.tx);
    memcpy(h->retention.tx, encoded.data, encoded.size);
    h->retention.tx_size = encoded.size;
    h->retention.below = tx.u.retention.below;
}

/* As the store does, but a block at a time. */
static void disk_prune(struct host *h, uint64_t below)
{
    if (h->retention.pruned < 1)
        h->retention.pruned = 1;
    if (h->retention.pruned >= below)
        return;
    struct stored_block *s = &h->block[h->retention.pruned++ - 1];
    struct certified_block b;
    bool changed;
    AMI_CHECK(certified_block_parse(&b, span_of(s->bytes, s->size)) == AMI_OK);
    uint8_t *body = malloc(b.body.size + 1), *bytes = malloc(s->size);
    AMI_CHECK(body != NULL && bytes != NULL);
    struct writer pruned = writer_on(body, b.body.size), w = writer_on(bytes, s->size);
    AMI_CHECK(body_prune(&pruned, b.body, &changed) == AMI_OK);
    b.body = writer_span(&pruned);
    certified_block_encode(&w, &b);
    AMI_CHECK(writer_ok(&w));
    free(body);
    free(s->bytes);
    s->bytes = bytes;
    s->size = w.size;
}

void host_disk_write(struct host *h, const struct store_batch *b)
{
    if (b->retention.size != 0)
        host_keep_retention(h, b->retention);
    if (b->prune_below != 0)
        disk_prune(h, b->prune_below);
    if (b->vote_record.size != 0) {
        AMI_CHECK(b->vote_record.size <= sizeof h->record);
        memcpy(h->record, b->vote_record.data, b->vote_record.size);
        h->record_size = b->vote_record.size;
    }
    if (b->body_header.size != 0) {
        struct block_header header;
        AMI_CHECK(block_header_parse(&header, b->body_header) == AMI_OK);
        struct kept_body *k = calloc(1, sizeof *k + b->body_header.size + b->body.size + 16);
        AMI_CHECK(k != NULL);
        struct writer w = writer_on(k->bytes, b->body_header.size + b->body.size + 16);
        struct body_reply r = {header, b->body};
        body_reply_encode(&w, &r);
        k->size = w.size;
        k->hash = block_hash(&header);
        k->next = h->kept;
        h->kept = k;
    }
    if (b->commit) {
        struct certified_block c = {.body = b->block_body};
        AMI_CHECK(block_header_parse(&c.header, b->block_header) == AMI_OK);
        AMI_CHECK(qc_parse(&c.commit, b->block_commit) == AMI_OK);
        AMI_CHECK(c.header.height == h->blocks + 1);
        h->block = realloc(h->block, (h->blocks + 1) * sizeof *h->block);
        struct stored_block *s = &h->block[h->blocks++];
        size_t capacity = b->block_body.size + 8192;
        s->bytes = malloc(capacity);
        AMI_CHECK(s->bytes != NULL);
        struct writer w = writer_on(s->bytes, capacity);
        certified_block_encode(&w, &c);
        AMI_CHECK(writer_ok(&w));
        s->size = w.size;
        s->hash = block_hash(&c.header);
        struct body_reader it = body_reader_on(c.body);
        struct span encoded;
        while (body_next(&it, &encoded)) {
            struct tx_view tx;
            AMI_CHECK(tx_view_parse_kept(&tx, encoded) == AMI_OK);
            AMI_CHECK(!tx.pruned || h->blocks < h->retention.below); /* or the store refuses it */
            if (tx.tx.kind == TX_RETENTION)
                host_keep_retention(h, encoded);
        }
    }
}

static enum ami_status disk_block(void *ctx, uint64_t height, struct certified_block *out,
                                  uint8_t *buffer, size_t buffer_size)
{
    struct host *h = ctx;
    if (height == 0 || height > h->blocks)
        return AMI_NOT_FOUND;
    struct stored_block *s = &h->block[height - 1];
    h->reads++;
    AMI_CHECK(s->size <= buffer_size);
    memcpy(buffer, s->bytes, s->size);
    return certified_block_parse(out, span_of(buffer, s->size));
}

enum ami_status host_disk_header(void *ctx, uint64_t height, struct block_header *header,
                                 struct qc *commit)
{
    struct host *h = ctx;
    struct certified_block b;
    if (height == 0 || height > h->blocks)
        return AMI_NOT_FOUND;
    AMI_TRY(
        certified_block_parse(&b, span_of(h->block[height - 1].bytes, h->block[height - 1].size)));
    *header = b.header;
    *commit = b.commit;
    return AMI_OK;
}

static enum ami_status disk_body(void *ctx, const sm3_digest *block, struct body_reply *out,
                                 uint8_t *buffer, size_t buffer_size)
{
    struct host *h = ctx;
    for (struct kept_body *k = h->kept; k != NULL; k = k->next) {
        if (!sm3_equal(&k->hash, block))
            continue;
        AMI_CHECK(k->size <= buffer_size);
        memcpy(buffer, k->bytes, k->size);
        return body_reply_parse(out, span_of(buffer, k->size));
    }
    return AMI_NOT_FOUND;
}

static enum ami_status disk_height_of(void *ctx, const sm3_digest *block, uint64_t *height)
{
    struct host *h = ctx;
    for (size_t i = 0; i < h->blocks; i++)
        if (sm3_equal(&h->block[i].hash, block)) {
            *height = i + 1;
            return AMI_OK;
        }
    return AMI_NOT_FOUND;
}

static bool find(struct host *h, bool (*match)(const struct tx_view *tx, const void *what),
                 const void *what, uint64_t *height, uint32_t *index)
{
    for (size_t i = 0; i < h->blocks; i++) {
        struct certified_block b;
        AMI_CHECK(certified_block_parse(&b, span_of(h->block[i].bytes, h->block[i].size)) ==
                  AMI_OK);
        struct body_reader it = body_reader_on(b.body);
        struct span encoded;
        for (uint32_t at = 0; body_next(&it, &encoded); at++) {
            struct tx_view tx;
            AMI_CHECK(tx_view_parse_kept(&tx, encoded) == AMI_OK);
            if (!match(&tx, what))
                continue;
            *height = i + 1;
            *index = at;
            return true;
        }
    }
    return false;
}

static bool match_id(const struct tx_view *tx, const void *what)
{
    return sm3_equal(&tx->id, what);
}

static enum ami_status disk_find_tx(void *ctx, const sm3_digest *id, uint64_t *height,
                                    uint32_t *index)
{
    return find(ctx, match_id, id, height, index) ? AMI_OK : AMI_NOT_FOUND;
}

struct report_place {
    const struct ami_id *meter;
    uint32_t epoch;
    uint64_t sequence;
};

static bool match_report(const struct tx_view *tx, const void *what)
{
    const struct report_place *p = what;
    return tx->tx.kind == TX_REPORT && ami_id_equal(&tx->u.report.meter.meter, p->meter) &&
           tx->u.report.meter.epoch == p->epoch && tx->u.report.meter.sequence == p->sequence;
}

static enum ami_status disk_find_report(void *ctx, const struct ami_id *meter, uint32_t epoch,
                                        uint64_t sequence, uint64_t *height, uint32_t *index)
{
    const struct report_place p = {meter, epoch, sequence};
    return find(ctx, match_report, &p, height, index) ? AMI_OK : AMI_NOT_FOUND;
}

static bool match_epoch(const struct tx_view *tx, const void *what)
{
    return tx->tx.kind == TX_MEMBERSHIP && tx->u.membership.epoch == *(const uint32_t *)what;
}

static enum ami_status disk_find_epoch(void *ctx, uint32_t epoch, uint64_t *height, uint32_t *index)
{
    return find(ctx, match_epoch, &epoch, height, index) ? AMI_OK : AMI_NOT_FOUND;
}

static enum ami_status disk_retention(void *ctx, struct store_retention *out)
{
    struct host *h = ctx;
    *out = h->retention;
    if (out->pruned < 1)
        out->pruned = 1;
    return AMI_OK;
}

struct node_disk host_disk(struct host *h)
{
    return (struct node_disk){h,
                              disk_block,
                              host_disk_header,
                              disk_body,
                              disk_height_of,
                              disk_find_tx,
                              disk_find_report,
                              disk_find_epoch,
                              disk_retention};
}

void net_disk_retention(struct net *net, unsigned i, struct span encoded)
{
    struct host *h = &net->host[i];
    AMI_CHECK(h->node == NULL);
    h->retention = (struct store_retention){.pruned = 1};
    if (encoded.size != 0)
        host_keep_retention(h, encoded);
}

void net_disk(struct net *net, unsigned i, enum ami_status status)
{
    net->host[i].disk = status;
}

uint64_t net_disk_reads(const struct net *net, unsigned i)
{
    return net->host[i].reads;
}

uint64_t net_disk_writes(const struct net *net, unsigned i)
{
    return net->host[i].writes;
}

struct net_pruning net_pruning(const struct net *net, unsigned i)
{
    return net->host[i].pruning;
}

void net_disk_us(struct net *net, unsigned i, uint64_t us)
{
    net->host[i].disk_us = us;
}

void net_lose_record(struct net *net, unsigned i)
{
    struct host *h = &net->host[i];
    AMI_CHECK(h->node == NULL);
    h->record_size = 0;
    h->key[h->keys - 1].mute = true;
}

void net_forget_record(struct net *net, unsigned i)
{
    AMI_CHECK(net->host[i].node == NULL);
    net->host[i].record_size = 0;
    net->host[i].forgot = true;
}
