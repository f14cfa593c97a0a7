/* ledger/store_write.c - one batch in one synced transaction: check it, write it, prune on the way,
 * and grow the map and try again when it is full. */
#include "ledger/store_lmdb.h"

#include "base/check.h"

#include <stdlib.h>
#include <string.h>

/* --- writing --------------------------------------------------------------------------------- */

/* A batch as far as it can be checked without looking at the store. */
struct checked_batch {
    const struct store_batch *b;
    struct block_header pending, block;
    sm3_digest pending_hash, block_hash;
    struct vote_record vote; /* when the batch has one */
    uint8_t *rows;           /* of the block */
    size_t row_count;
};

static enum ami_status check_header(const struct store *s, struct span encoded,
                                    struct block_header *header, sm3_digest *hash)
{
    AMI_TRY(block_header_parse(header, encoded));
    if (memcmp(header->chain.b, s->chain.b, sizeof s->chain.b) != 0)
        return AMI_WRONG_CHAIN;
    *hash = block_hash(header);
    return AMI_OK;
}

static enum ami_status check_commit(const struct store *s, struct checked_batch *c)
{
    struct qc commit;
    AMI_TRY(check_header(s, c->b->block_header, &c->block, &c->block_hash));
    AMI_TRY(qc_parse(&commit, c->b->block_commit));
    if (commit.kind != VOTE_COMMIT || commit.height != c->block.height ||
        memcmp(commit.block.b, c->block_hash.b, sizeof c->block_hash.b) != 0)
        return AMI_BAD_CERTIFICATE;
    if (c->b->block_body.size > AMI_BLOCK_BYTES_MAX)
        return AMI_TOO_LARGE;
    return rows_of_block(&c->rows, &c->row_count, s->salt, c->block.height, c->b->block_body);
}

static enum ami_status check_batch(const struct store *s, const struct store_batch *b,
                                   struct checked_batch *c)
{
    c->b = b;
    if (b->vote_record.size != 0) {
        AMI_TRY(vote_record_parse(&c->vote, b->vote_record));
        if (memcmp(c->vote.chain.b, s->chain.b, sizeof s->chain.b) != 0)
            return AMI_WRONG_CHAIN;
    }
    if (b->body_header.size != 0) {
        AMI_TRY(check_header(s, b->body_header, &c->pending, &c->pending_hash));
        if (b->body.size > AMI_BLOCK_BYTES_MAX)
            return AMI_TOO_LARGE;
    }
    if (b->retention.size != 0) {
        struct tx_view tx;
        AMI_TRY(tx_view_parse(&tx, b->retention));
        if (tx.tx.kind != TX_RETENTION)
            return AMI_BAD_ARGUMENT;
    }
    if (b->commit)
        return check_commit(s, c);
    return b->records.size == 0 ? AMI_OK : AMI_BAD_ARGUMENT;
}

/* One attempt at a batch. */
struct attempt {
    struct store *s;
    MDB_txn *txn;
    struct checked_batch *c;
    bool map_full;         /* the failure is one that a larger map would cure */
    uint64_t pruned_below; /* the watermark, as far as the batch has come */
    size_t bytes_wanted;
};

static enum ami_status attempt_status(struct attempt *a, int rc)
{
    if (rc == MDB_MAP_FULL)
        a->map_full = true;
    return store_write_status(a->s, rc, a->bytes_wanted);
}

int store_put_value(struct store *s, MDB_txn *txn, int db, struct span key, struct span value,
                    struct span more, unsigned flags)
{
    MDB_val k = {key.size, (void *)(uintptr_t)key.data};
    MDB_val v = {value.size + more.size + STORE_CHECK_BYTES, NULL};
    int rc = mdb_put(txn, s->db[db], &k, &v, flags | MDB_RESERVE);
    if (rc == MDB_SUCCESS) {
        struct writer w = writer_on(v.mv_data, v.mv_size);
        uint8_t check[STORE_CHECK_BYTES];
        store_check(check, store_db_names[db], key, value, more);
        write_raw(&w, value.data, value.size);
        write_raw(&w, more.data, more.size);
        write_raw(&w, check, sizeof check);
        AMI_CHECK(w.size == v.mv_size);
    }
    return rc;
}

static enum ami_status put(struct attempt *a, int db, struct span key, struct span value,
                           unsigned flags)
{
    return attempt_status(a,
                          store_put_value(a->s, a->txn, db, key, value, span_of(NULL, 0), flags));
}

/* header, [certificate,] u32 size, body: the wire's body_reply or certified_block. AMI_EXISTS, with
 * MDB_NOOVERWRITE. */
static enum ami_status put_block(struct attempt *a, int db, struct span key, struct span header,
                                 struct span commit, struct span body, unsigned flags)
{
    MDB_val k = {key.size, (void *)(uintptr_t)key.data};
    MDB_val v = {header.size + commit.size + 4 + body.size + 2 * STORE_CHECK_BYTES, NULL};
    int rc = mdb_put(a->txn, a->s->db[db], &k, &v, MDB_RESERVE | flags);
    if (rc == MDB_SUCCESS) {
        struct writer w = writer_on(v.mv_data, v.mv_size);
        write_raw(&w, header.data, header.size);
        write_raw(&w, commit.data, commit.size);
        write_bytes(&w, body);
        uint8_t check[STORE_CHECK_BYTES];
        store_check(check, STORE_FRONT, key, header, commit);
        write_raw(&w, check, sizeof check);
        store_check(check, store_db_names[db], key, writer_span(&w), span_of(NULL, 0));
        write_raw(&w, check, sizeof check);
        AMI_CHECK(w.size == v.mv_size);
    }
    return attempt_status(a, rc);
}

/* Keeps the transaction of the highest watermark. From then on blocks may be pruned, and the format
 * says so. */
static enum ami_status put_retention(struct attempt *a, struct span encoded, uint64_t below)
{
    if (below <= a->pruned_below)
        return AMI_OK;
    a->pruned_below = below;
    AMI_TRY(put(a, META, SPAN_LITERAL(KEY_FORMAT), SPAN_LITERAL(STORE_FORMAT_PRUNED), 0));
    return put(a, META, SPAN_LITERAL(KEY_RETENTION), encoded, 0);
}

static enum ami_status put_shown_retention(struct attempt *a)
{
    const struct span shown = a->c->b->retention;
    struct store_retention known;
    struct tx_view tx;
    AMI_TRY(store_get_retention(a->s, a->txn, &known));
    a->pruned_below = known.below;
    if (shown.size == 0)
        return AMI_OK;
    AMI_TRY(tx_view_parse(&tx, shown));
    return put_retention(a, shown, tx.u.retention.below);
}

/* What this transaction is to the ledger beside its place. */
static enum ami_status put_tx(struct attempt *a, struct span encoded, uint32_t index)
{
    struct tx_view tx;
    uint8_t key[4], place[PLACE_BYTES];
    AMI_TRY(tx_view_decode_kept(&tx, encoded));
    if (tx.pruned && a->c->block.height >= a->pruned_below)
        return AMI_BAD_ENCODING;
    store_be64(place, a->c->block.height);
    store_be32(place + 8, index);
    if (tx.tx.kind == TX_MEMBERSHIP)
        return put(a, EPOCHS, store_key_u32(key, tx.u.membership.epoch),
                   span_of(place, sizeof place), MDB_NOOVERWRITE);
    if (tx.tx.kind == TX_RETENTION)
        return put_retention(a, encoded, tx.u.retention.below);
    return AMI_OK;
}

static enum ami_status put_txs(struct attempt *a)
{
    struct body_reader it = body_reader_on(a->c->b->block_body);
    struct span encoded;
    uint32_t index = 0;
    int rc;
    while (body_next(&it, &encoded))
        AMI_TRY(put_tx(a, encoded, index++));
    if (!body_ok(&it) || index != a->c->block.tx_count)
        return AMI_BAD_ENCODING;
    AMI_TRY(store_put_runs(a->s, a->txn, a->c->block.height, a->c->rows, a->c->row_count, &rc));
    return attempt_status(a, rc);
}

static enum ami_status put_records(struct attempt *a)
{
    int rc;
    AMI_TRY(store_put_records(a->s, a->txn, a->c->block.height, a->c->b->records, &rc));
    return attempt_status(a, rc);
}

static enum ami_status put_commit(struct attempt *a, uint64_t tip_height, const sm3_digest *tip)
{
    const struct checked_batch *c = a->c;
    uint8_t height[8], new_tip[TIP_BYTES];
    if (c->block.height != tip_height + 1 ||
        memcmp(c->block.previous.b, tip->b, sizeof tip->b) != 0)
        return AMI_BAD_PARENT;
    struct span by_height = store_key_u64(height, c->block.height);
    AMI_TRY(put_block(a, BLOCKS, by_height, c->b->block_header, c->b->block_commit,
                      c->b->block_body, MDB_NOOVERWRITE));
    AMI_TRY(put(a, HASHES, span_of(c->block_hash.b, SM3_BYTES), by_height, 0));
    AMI_TRY(put_txs(a));
    AMI_TRY(put_records(a));
    store_be64(new_tip, c->block.height);
    memcpy(new_tip + 8, c->block_hash.b, SM3_BYTES);
    return put(a, META, SPAN_LITERAL(KEY_TIP), span_of(new_tip, sizeof new_tip), 0);
}

/* The vote record as it will be after this batch; absent: no block is named by it. */
static enum ami_status vote_after(struct attempt *a, struct vote_record *out)
{
    struct span v = {0};
    if (a->c->b->vote_record.size != 0) {
        *out = a->c->vote;
        return AMI_OK;
    }
    int rc = store_get(a->s, a->txn, META, SPAN_LITERAL(KEY_VOTE), &v);
    if (rc == MDB_NOTFOUND) {
        memset(out, 0, sizeof *out);
        return AMI_OK;
    }
    AMI_TRY(store_status(rc));
    return store_parse_vote(out, v);
}

static bool vote_names(const struct vote_record *v, const uint8_t block[SM3_BYTES])
{
    return (v->has_prepare && memcmp(v->prepare.block.b, block, SM3_BYTES) == 0) ||
           (v->has_commit && memcmp(v->commit.block.b, block, SM3_BYTES) == 0) ||
           (v->has_high && memcmp(v->high.block.b, block, SM3_BYTES) == 0);
}

/* Deletes the kept blocks of heights <= tip: none of them but the committed one, which stands among
 * the blocks, can matter again. With `vote` also finds the one of the lowest term that may go. */
static enum ami_status sweep_pending(struct attempt *a, uint64_t tip_height,
                                     const struct vote_record *vote, uint8_t lowest[SM3_BYTES],
                                     bool *found)
{
    MDB_cursor *cursor;
    MDB_val k, v;
    uint64_t lowest_term = 0;
    AMI_TRY(attempt_status(a, mdb_cursor_open(a->txn, a->s->db[PENDING], &cursor)));
    *found = false;
    int rc = mdb_cursor_get(cursor, &k, &v, MDB_FIRST);
    for (; rc == MDB_SUCCESS; rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) {
        struct block_header header;
        struct reader r = reader_on(span_of(v.mv_data, v.mv_size));
        block_header_decode(&r, &header);
        if (r.failed || k.mv_size != SM3_BYTES ||
            !store_front_is_whole(a->s, span_of(k.mv_data, k.mv_size), &v, r.at)) {
            rc = MDB_CORRUPTED;
            break;
        }
        if (header.height <= tip_height) {
            rc = mdb_cursor_del(cursor, 0);
            if (rc != MDB_SUCCESS)
                break;
            continue;
        }
        bool needed = vote == NULL || vote_names(vote, k.mv_data) ||
                      memcmp(a->c->pending_hash.b, k.mv_data, SM3_BYTES) == 0;
        if (!needed && (!*found || header.term < lowest_term)) {
            *found = true;
            lowest_term = header.term;
            memcpy(lowest, k.mv_data, SM3_BYTES);
        }
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? AMI_OK : attempt_status(a, rc);
}

/* Behind everything else in a batch: makes room among the kept blocks. */
static enum ami_status bound_pending(struct attempt *a, uint64_t tip_height)
{
    uint8_t lowest[SM3_BYTES];
    struct vote_record vote;
    bool found;
    MDB_stat kept;
    if (a->c->b->commit)
        return sweep_pending(a, tip_height, NULL, lowest, &found);
    AMI_TRY(attempt_status(a, mdb_stat(a->txn, a->s->db[PENDING], &kept)));
    if (kept.ms_entries <= STORE_PENDING_MAX)
        return AMI_OK;
    AMI_TRY(vote_after(a, &vote));
    AMI_TRY(sweep_pending(a, tip_height, &vote, lowest, &found));
    MDB_val k = {SM3_BYTES, lowest};
    return found ? attempt_status(a, mdb_del(a->txn, a->s->db[PENDING], &k, NULL)) : AMI_OK;
}

/* The vote record, and of which writes it and this are. Each write changes that, so that a page
 * which the disk has left as it was before, with an older vote record on it, is found by the
 * checker. */
static enum ami_status put_write(struct attempt *a)
{
    uint8_t now[8], of_writes[16] = {0};
    struct span v = {0};
    store_be64(now, mdb_txn_id(a->txn));
    int rc = store_get(a->s, a->txn, META, SPAN_LITERAL(KEY_WRITE), &v);
    if (rc == MDB_SUCCESS && v.size == sizeof of_writes)
        memcpy(of_writes, v.data, sizeof of_writes);
    else if (rc != MDB_NOTFOUND)
        return rc == MDB_SUCCESS ? AMI_DAMAGED : store_status(rc);
    memcpy(of_writes, now, sizeof now);
    if (a->c->b->vote_record.size != 0) {
        memcpy(of_writes + sizeof now, now, sizeof now);
        AMI_TRY(
            attempt_status(a, store_put_value(a->s, a->txn, META, SPAN_LITERAL(KEY_VOTE),
                                              a->c->b->vote_record, span_of(now, sizeof now), 0)));
    }
    return put(a, META, SPAN_LITERAL(KEY_WRITE), span_of(of_writes, sizeof of_writes), 0);
}

/* --- pruning ---------------------------------------------------------------------------------- */

/* Gives one block its pruned form, put together in `buffer`, which has room for a block: what LMDB
 * shows of the old one is good until the first write only. *read: how long its body was. */
static enum ami_status prune_block(struct attempt *a, uint64_t height, uint8_t *buffer,
                                   size_t *read)
{
    uint8_t key[8];
    struct block_header header;
    struct qc commit;
    struct span v = {0}, by_height = store_key_u64(key, height);
    int rc = store_get_block(a->s, a->txn, BLOCKS, by_height, &v);
    AMI_TRY(rc == MDB_NOTFOUND ? AMI_DAMAGED : store_status(rc));
    struct reader r = reader_on(v);
    AMI_TRY(store_read_front(&r, height, &header, &commit));
    const size_t front = r.at;
    const struct span body = read_bytes(&r, AMI_BLOCK_BYTES_MAX);
    if (!reader_done(&r))
        return AMI_DAMAGED;
    *read = body.size;
    bool changed = false;
    memcpy(buffer, v.data, front);
    struct writer w = writer_on(buffer + front, body.size);
    AMI_TRY(body_prune(&w, body, &changed) == AMI_OK ? AMI_OK : AMI_DAMAGED);
    if (!changed)
        return AMI_OK;
    return put_block(a, BLOCKS, by_height, span_of(buffer, front), span_of(NULL, 0),
                     writer_span(&w), 0);
}

/* A bounded number of them, and how far that has come: a crash takes back both or none. */
static enum ami_status put_pruned(struct attempt *a, uint64_t tip_height)
{
    struct store_retention at;
    uint8_t mark[8];
    AMI_TRY(store_get_retention(a->s, a->txn, &at));
    const size_t most = a->c->b->prune_bytes == 0 ? STORE_PRUNE_BYTES : a->c->b->prune_bytes;
    const size_t blocks =
        STORE_PRUNE_BLOCKS * (most < STORE_PRUNE_BYTES ? 1 : most / STORE_PRUNE_BYTES);
    uint64_t until = at.below < a->c->b->prune_below ? at.below : a->c->b->prune_below;
    if (until > tip_height + 1)
        until = tip_height + 1;
    if (at.pruned >= until)
        return AMI_OK;
    uint8_t *buffer = malloc(AMI_BLOCK_BYTES_MAX + 8192);
    enum ami_status status = buffer == NULL ? AMI_NO_MEMORY : AMI_OK;
    size_t bytes = 0;
    for (size_t i = 0; status == AMI_OK && at.pruned < until && i < blocks && bytes < most; i++) {
        size_t read = 0;
        status = prune_block(a, at.pruned, buffer, &read);
        bytes += read;
        at.pruned++;
    }
    free(buffer);
    AMI_TRY(status);
    store_be64(mark, at.pruned);
    return put(a, META, SPAN_LITERAL(KEY_PRUNED), span_of(mark, sizeof mark), 0);
}

static enum ami_status put_batch(struct attempt *a, uint64_t *height)
{
    const struct store_batch *b = a->c->b;
    sm3_digest tip;
    AMI_TRY(store_get_tip(a->s, a->txn, height, &tip));
    AMI_TRY(put_write(a));
    AMI_TRY(put_shown_retention(a));
    if (b->commit) {
        AMI_TRY(put_commit(a, *height, &tip));
        *height = a->c->block.height;
    }
    /* A block of a settled height would go in the same breath; one that is there already is the
     * same by its hash. */
    if (b->body_header.size != 0 && a->c->pending.height > *height) {
        enum ami_status status =
            put_block(a, PENDING, span_of(a->c->pending_hash.b, SM3_BYTES), b->body_header,
                      span_of(NULL, 0), b->body, MDB_NOOVERWRITE);
        if (status != AMI_OK && status != AMI_EXISTS)
            return status;
    }
    if (b->prune_below != 0)
        AMI_TRY(put_pruned(a, *height));
    return bound_pending(a, *height);
}

/* Whole or not at all. */
static enum ami_status try_batch(struct attempt *a)
{
    uint64_t height;
    AMI_TRY(store_begin(a->s, 0, &a->txn));
    enum ami_status status = put_batch(a, &height);
    if (status != AMI_OK) {
        store_end(a->s, a->txn);
        return status;
    }
    /* Writes the pages, syncs, writes the page that makes them count, and syncs. */
    status = attempt_status(a, mdb_txn_commit(a->txn));
    pthread_rwlock_unlock(&a->s->map_lock);
    if (status == AMI_OK)
        atomic_store(&a->s->height, height);
    return status;
}

/* What is due once in RUNS_FAN blocks. */
#define BULK_BYTES ((size_t)16 << 20)

static enum ami_status write_batch(struct store *s, struct checked_batch *c)
{
    const struct store_batch *b = c->b;
    for (;;) {
        struct attempt a = {.s = s, .c = c, .map_full = false};
        /* Pages are rewritten whole: a rough upper bound, used to tell a full disk. */
        a.bytes_wanted =
            2 * (b->body.size + b->block_body.size + b->records.size) + ((size_t)1 << 20);
        if (b->commit && c->block.height % 4 == 0)
            a.bytes_wanted += BULK_BYTES;
        if (b->prune_below != 0)
            a.bytes_wanted += AMI_BLOCK_BYTES_MAX + b->prune_bytes;
        enum ami_status status = try_batch(&a);
        if (status != AMI_FULL || !a.map_full)
            return status;
        AMI_TRY(store_map_grow(s));
    }
}

enum ami_status store_write(struct store *s, const struct store_batch *b)
{
    AMI_CHECK(s->mode == STORE_READ_WRITE);
    struct checked_batch c;
    memset(&c, 0, sizeof c);
    enum ami_status status = check_batch(s, b, &c);
    if (status == AMI_OK)
        status = write_batch(s, &c);
    if (status == AMI_OK && b->commit)
        store_tail_push(s, c.block.height, c.rows, c.row_count);
    else
        free(c.rows);
    return status;
}
