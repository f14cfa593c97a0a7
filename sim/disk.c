#include "sim/disk.h"

#include "base/check.h"
#include "base/table.h"

#include <stdlib.h>
#include <string.h>

#define PLACE_BYTES_MAX (1 + AMI_ID_BYTES_MAX + 4 + 8)

/* A block that is kept and not committed. */
struct kept {
    struct kept *next;
    sm3_digest hash;
    uint64_t height;
    size_t size;
    uint8_t bytes[]; /* encoding of body_reply */
};

/* Where a transaction stands, by its id, by meter, epoch and sequence, or by the membership epoch
 * that it begins. */
struct place {
    uint64_t height;
    uint32_t index;
    uint8_t key_size;
    uint8_t key[PLACE_BYTES_MAX];
    UT_hash_handle hh;
};

struct stored_record {
    uint16_t size;
    uint8_t bytes[];
};
_Static_assert(RECORD_BYTES_MAX <= UINT16_MAX, "its size fits");

struct height_of {
    sm3_digest hash;
    uint64_t height;
    UT_hash_handle hh;
};

struct sim_disk {
    const struct genesis *genesis;
    struct sim_block *block; /* [height - 1] */
    size_t blocks, blocks_capacity;
    struct height_of *heights;
    struct kept *kept;
    struct place *places;
    struct stored_record **record; /* the registry's, by index; NULL: as the genesis says */
    size_t records, records_capacity;
    uint8_t vote_bytes[NODE_RECORD_BYTES_MAX];
    size_t vote_size;
    struct vote_record vote; /* decoded from there */
    struct store_retention retention;
    enum ami_status reads;
};

static void *must(void *p)
{
    AMI_CHECK(p != NULL);
    return p;
}

struct sim_disk *sim_disk_new(const struct genesis *genesis)
{
    struct sim_disk *d = must(calloc(1, sizeof *d));
    d->genesis = genesis;
    return d;
}

void sim_disk_wipe(struct sim_disk *d)
{
    for (size_t i = 0; i < d->blocks; i++)
        free(d->block[i].bytes);
    free(d->block);
    while (d->kept != NULL) {
        struct kept *k = d->kept;
        d->kept = k->next;
        free(k);
    }
    struct place *p, *next_place;
    HASH_ITER(hh, d->places, p, next_place)
    {
        HASH_DELETE(hh, d->places, p);
        free(p);
    }
    struct height_of *h, *next_height;
    HASH_ITER(hh, d->heights, h, next_height)
    {
        HASH_DELETE(hh, d->heights, h);
        free(h);
    }
    for (size_t i = 0; i < d->records; i++)
        free(d->record[i]);
    free(d->record);
    *d = (struct sim_disk){.genesis = d->genesis};
}

void sim_disk_forget_record(struct sim_disk *d)
{
    d->vote_size = 0;
}

void sim_disk_free(struct sim_disk *d)
{
    if (d == NULL)
        return;
    sim_disk_wipe(d);
    free(d);
}

/* --- writing --------------------------------------------------------------------------------- */

static uint8_t place_key(uint8_t key[PLACE_BYTES_MAX], const struct ami_id *meter, uint32_t epoch,
                         uint64_t sequence)
{
    key[0] = meter->size;
    memcpy(key + 1, meter->text, meter->size);
    store_be32(key + 1 + meter->size, epoch);
    store_be64(key + 5 + meter->size, sequence);
    return (uint8_t)(13 + meter->size);
}

static uint8_t epoch_key(uint8_t key[PLACE_BYTES_MAX], uint32_t epoch)
{
    store_be32(key, epoch);
    return 4;
}

static void put_place(struct sim_disk *d, const uint8_t *key, uint8_t key_size, uint64_t height,
                      uint32_t index)
{
    struct place *p = must(calloc(1, sizeof *p));
    memcpy(p->key, key, key_size);
    p->key_size = key_size;
    p->height = height;
    p->index = index;
    HASH_ADD(hh, d->places, key, key_size, p);
}

static void keep_retention(struct sim_disk *d, struct span encoded)
{
    struct store_retention *r = &d->retention;
    struct tx_view tx;
    AMI_CHECK(tx_view_parse(&tx, encoded) == AMI_OK && tx.tx.kind == TX_RETENTION);
    if (tx.u.retention.below <= r->below)
        return;
    AMI_CHECK(encoded.size == sizeof r->tx);
    memcpy(r->tx, encoded.data, encoded.size);
    r->tx_size = encoded.size;
    r->below = tx.u.retention.below;
}

/* As ledger/store.c does. */
static void prune(struct sim_disk *d, uint64_t below)
{
    struct store_retention *r = &d->retention;
    if (below > r->below)
        below = r->below;
    if (below > d->blocks + 1)
        below = d->blocks + 1;
    if (r->pruned == 0)
        r->pruned = 1;
    for (unsigned i = 0; i < STORE_PRUNE_BLOCKS && r->pruned < below; i++) {
        struct sim_block *s = &d->block[r->pruned++ - 1];
        struct certified_block c = {.header = s->header, .commit = s->commit};
        uint8_t *body = must(malloc(s->body.size + 1)), *bytes = must(malloc(s->size));
        struct writer pruned = writer_on(body, s->body.size), w = writer_on(bytes, s->size);
        bool changed;
        AMI_CHECK(body_prune(&pruned, s->body, &changed) == AMI_OK);
        c.body = writer_span(&pruned);
        certified_block_encode(&w, &c);
        AMI_CHECK(writer_ok(&w) && certified_block_parse(&c, writer_span(&w)) == AMI_OK);
        free(body);
        free(s->bytes);
        s->bytes = bytes;
        s->size = w.size;
        s->body = c.body;
    }
}

static void index_block(struct sim_disk *d, const struct sim_block *b)
{
    struct body_reader it = body_reader_on(b->body);
    struct span encoded;
    for (uint32_t at = 0; body_next(&it, &encoded); at++) {
        struct tx_view tx;
        uint8_t key[PLACE_BYTES_MAX];
        AMI_CHECK(tx_view_parse_kept(&tx, encoded) == AMI_OK);
        AMI_CHECK(!tx.pruned ||
                  b->header.height < d->retention.below); /* or the store refuses it */
        if (tx.tx.kind == TX_RETENTION)
            keep_retention(d, encoded);
        put_place(d, tx.id.b, sizeof tx.id.b, b->header.height, at);
        if (tx.tx.kind == TX_MEMBERSHIP)
            put_place(d, key, epoch_key(key, tx.u.membership.epoch), b->header.height, at);
        if (tx.tx.kind != TX_REPORT)
            continue;
        const struct report_meter_part *m = &tx.u.report.meter;
        uint8_t size = place_key(key, &m->meter, m->epoch, m->sequence);
        put_place(d, key, size, b->header.height, at);
    }
    struct height_of *h = must(calloc(1, sizeof *h));
    h->hash = b->hash;
    h->height = b->header.height;
    HASH_ADD(hh, d->heights, hash, sizeof h->hash, h);
}

static void add_record(struct sim_disk *d)
{
    if (d->records == d->records_capacity) {
        d->records_capacity = d->records_capacity == 0 ? 64 : 2 * d->records_capacity;
        d->record = must(realloc(d->record, d->records_capacity * sizeof(struct stored_record *)));
    }
    d->record[d->records++] = NULL;
}

static void put_records(struct sim_disk *d, struct span records)
{
    struct reader r = reader_on(records);
    while (r.at < r.size) {
        uint64_t index = read_u64(&r);
        struct span s = read_bytes(&r, RECORD_BYTES_MAX);
        AMI_CHECK(!r.failed && s.size <= RECORD_BYTES_MAX);
        while (d->records <= index)
            add_record(d);
        struct stored_record **at = &d->record[index];
        if (*at == NULL || (*at)->size != s.size)
            *at = must(realloc(*at, sizeof **at + s.size));
        (*at)->size = (uint16_t)s.size;
        memcpy((*at)->bytes, s.data, s.size);
    }
}

static void drop_kept(struct sim_disk *d, uint64_t height)
{
    for (struct kept **at = &d->kept; *at != NULL;) {
        struct kept *k = *at;
        if (k->height > height) {
            at = &k->next;
            continue;
        }
        *at = k->next;
        free(k);
    }
}

static void commit(struct sim_disk *d, const struct store_batch *b)
{
    if (d->blocks == d->blocks_capacity) {
        d->blocks_capacity = d->blocks_capacity == 0 ? 64 : 2 * d->blocks_capacity;
        d->block = must(realloc(d->block, d->blocks_capacity * sizeof *d->block));
    }
    struct sim_block *s = &d->block[d->blocks];
    struct certified_block c = {.body = b->block_body};
    AMI_CHECK(block_header_parse(&c.header, b->block_header) == AMI_OK);
    AMI_CHECK(qc_parse(&c.commit, b->block_commit) == AMI_OK);
    AMI_CHECK(c.header.height == d->blocks + 1);
    size_t capacity = b->block_header.size + b->block_commit.size + b->block_body.size + 16;
    s->bytes = must(malloc(capacity));
    struct writer w = writer_on(s->bytes, capacity);
    certified_block_encode(&w, &c);
    AMI_CHECK(writer_ok(&w));
    s->size = w.size;
    AMI_CHECK(certified_block_parse(&c, writer_span(&w)) == AMI_OK);
    s->header = c.header;
    s->commit = c.commit;
    s->body = c.body;
    s->hash = block_hash(&c.header);
    d->blocks++;
    index_block(d, s);
    put_records(d, b->records);
    drop_kept(d, s->header.height);
}

static void keep(struct sim_disk *d, const struct store_batch *b)
{
    struct body_reply r = {.body = b->body};
    AMI_CHECK(block_header_parse(&r.header, b->body_header) == AMI_OK);
    sm3_digest hash = block_hash(&r.header);
    if (sim_disk_has(d, &hash))
        return;
    size_t capacity = b->body_header.size + b->body.size + 16;
    struct kept *k = must(calloc(1, sizeof *k + capacity));
    struct writer w = writer_on(k->bytes, capacity);
    body_reply_encode(&w, &r);
    AMI_CHECK(writer_ok(&w));
    k->size = w.size;
    k->hash = hash;
    k->height = r.header.height;
    k->next = d->kept;
    d->kept = k;
}

void sim_disk_write(struct sim_disk *d, const struct store_batch *b)
{
    if (b->vote_record.size != 0) {
        AMI_CHECK(b->vote_record.size <= sizeof d->vote_bytes);
        memcpy(d->vote_bytes, b->vote_record.data, b->vote_record.size);
        d->vote_size = b->vote_record.size;
        AMI_CHECK(vote_record_parse(&d->vote, span_of(d->vote_bytes, d->vote_size)) == AMI_OK);
    }
    if (b->retention.size != 0)
        keep_retention(d, b->retention);
    if (b->body_header.size != 0)
        keep(d, b);
    if (b->commit)
        commit(d, b);
    if (b->prune_below != 0)
        prune(d, b->prune_below);
}

/* --- reading --------------------------------------------------------------------------------- */

uint64_t sim_disk_height(const struct sim_disk *d)
{
    return d->blocks;
}

const struct sim_block *sim_disk_block(const struct sim_disk *d, uint64_t height)
{
    return height == 0 || height > d->blocks ? NULL : &d->block[height - 1];
}

const struct vote_record *sim_disk_record(const struct sim_disk *d)
{
    return d->vote_size == 0 ? NULL : &d->vote;
}

static const struct kept *find_kept(const struct sim_disk *d, const sm3_digest *block)
{
    const struct kept *k = d->kept;
    while (k != NULL && !sm3_equal(&k->hash, block))
        k = k->next;
    return k;
}

static bool find_height(const struct sim_disk *d, const sm3_digest *block, uint64_t *height)
{
    struct height_of *h;
    HASH_FIND(hh, d->heights, block, sizeof *block, h);
    if (h != NULL)
        *height = h->height;
    return h != NULL;
}

bool sim_disk_has(const struct sim_disk *d, const sm3_digest *block)
{
    uint64_t height;
    return find_kept(d, block) != NULL || find_height(d, block, &height);
}

static bool find_place(const struct sim_disk *d, const uint8_t *key, uint8_t size, uint64_t *height,
                       uint32_t *index)
{
    struct place *p;
    HASH_FIND(hh, d->places, key, size, p);
    if (p == NULL)
        return false;
    *height = p->height;
    *index = p->index;
    return true;
}

bool sim_disk_find_report(const struct sim_disk *d, const struct ami_id *meter, uint32_t epoch,
                          uint64_t sequence, uint64_t *height, uint32_t *index)
{
    uint8_t key[PLACE_BYTES_MAX];
    uint8_t size = place_key(key, meter, epoch, sequence);
    return find_place(d, key, size, height, index);
}

struct registry *sim_disk_registry(const struct sim_disk *d)
{
    struct registry *r = must(registry_new(d->genesis));
    for (size_t i = 0; i < d->records; i++) {
        struct record rec;
        if (d->record[i] == NULL)
            continue;
        AMI_CHECK(record_parse(&rec, span_of(d->record[i]->bytes, d->record[i]->size)) == AMI_OK);
        AMI_CHECK(registry_load(r, i, &rec) == AMI_OK);
    }
    registry_loaded(r, sim_disk_height(d));
    return r;
}

static enum ami_status read_block(void *ctx, uint64_t height, struct certified_block *out,
                                  uint8_t *buffer, size_t buffer_size)
{
    struct sim_disk *d = ctx;
    const struct sim_block *b = sim_disk_block(d, height);
    if (d->reads != AMI_OK)
        return d->reads;
    if (b == NULL)
        return AMI_NOT_FOUND;
    if (b->size > buffer_size)
        return AMI_TOO_LARGE;
    memcpy(buffer, b->bytes, b->size);
    return certified_block_parse(out, span_of(buffer, b->size));
}

static enum ami_status read_header(void *ctx, uint64_t height, struct block_header *header,
                                   struct qc *qc)
{
    struct sim_disk *d = ctx;
    const struct sim_block *b = sim_disk_block(d, height);
    if (d->reads != AMI_OK)
        return d->reads;
    if (b == NULL)
        return AMI_NOT_FOUND;
    *header = b->header;
    *qc = b->commit;
    return AMI_OK;
}

static enum ami_status read_body(void *ctx, const sm3_digest *block, struct body_reply *out,
                                 uint8_t *buffer, size_t buffer_size)
{
    struct sim_disk *d = ctx;
    const struct kept *k = find_kept(d, block);
    if (d->reads != AMI_OK)
        return d->reads;
    if (k == NULL)
        return AMI_NOT_FOUND;
    if (k->size > buffer_size)
        return AMI_TOO_LARGE;
    memcpy(buffer, k->bytes, k->size);
    return body_reply_parse(out, span_of(buffer, k->size));
}

static enum ami_status read_height_of(void *ctx, const sm3_digest *block, uint64_t *height)
{
    struct sim_disk *d = ctx;
    if (d->reads != AMI_OK)
        return d->reads;
    return find_height(d, block, height) ? AMI_OK : AMI_NOT_FOUND;
}

static enum ami_status read_tx(void *ctx, const sm3_digest *id, uint64_t *height, uint32_t *index)
{
    struct sim_disk *d = ctx;
    if (d->reads != AMI_OK)
        return d->reads;
    return find_place(d, id->b, sizeof id->b, height, index) ? AMI_OK : AMI_NOT_FOUND;
}

static enum ami_status read_report(void *ctx, const struct ami_id *meter, uint32_t epoch,
                                   uint64_t sequence, uint64_t *height, uint32_t *index)
{
    struct sim_disk *d = ctx;
    if (d->reads != AMI_OK)
        return d->reads;
    return sim_disk_find_report(d, meter, epoch, sequence, height, index) ? AMI_OK : AMI_NOT_FOUND;
}

static enum ami_status read_epoch(void *ctx, uint32_t epoch, uint64_t *height, uint32_t *index)
{
    struct sim_disk *d = ctx;
    uint8_t key[PLACE_BYTES_MAX];
    if (d->reads != AMI_OK)
        return d->reads;
    return find_place(d, key, epoch_key(key, epoch), height, index) ? AMI_OK : AMI_NOT_FOUND;
}

static enum ami_status read_retention(void *ctx, struct store_retention *out)
{
    struct sim_disk *d = ctx;
    if (d->reads != AMI_OK)
        return d->reads;
    *out = d->retention;
    if (out->pruned == 0)
        out->pruned = 1;
    return AMI_OK;
}

struct node_disk sim_disk_reader(struct sim_disk *d)
{
    return (struct node_disk){d,       read_block,  read_header, read_body,     read_height_of,
                              read_tx, read_report, read_epoch,  read_retention};
}

enum ami_status sim_disk_fail_reads(struct sim_disk *d, enum ami_status status)
{
    enum ami_status before = d->reads;
    d->reads = status;
    return before;
}
