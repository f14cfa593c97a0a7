#include "ledger/store_check.h"

#include "ledger/block.h"
#include "ledger/lmdb_file.h"
#include "ledger/runs.h"
#include "ledger/store_value.h"

#include <stdio.h>
#include <string.h>

#define PATH_BYTES 4096

struct check {
    const sm3_digest *chain;
    void (*progress)(void *ctx, uint64_t done, uint64_t total);
    void *ctx;
    /* As the walk finds them: databases come in order of their names, blocks in order of height. */
    uint64_t blocks;
    sm3_digest last; /* hash of the last block; the chain id before the first */
    uint64_t hashes, rows, epochs;
    struct run_pieces pieces;
    uint64_t txs_and_reports, must_rows, must_epochs; /* as the blocks have them */
    uint64_t tip_height;
    sm3_digest tip;
    uint64_t last_pruned, first_whole; /* blocks with pruned and with whole reports; 0: none */
    uint64_t below, pruned;            /* as "retention" and "pruned" say; 0: nothing */
    bool has_format, has_chain, has_salt;
    uint64_t vote_txn;             /* of the record that is there; 0: none */
    uint64_t write_txn, last_vote; /* as "write" says */
};

/* --- values ------------------------------------------------------------------------------------
 */

static enum ami_status check_meta(struct check *c, struct span key, struct span value)
{
    if (span_equal(key, SPAN_LITERAL("format"))) {
        c->has_format = store_format_known(value);
        return c->has_format ? AMI_OK : AMI_DAMAGED;
    }
    if (span_equal(key, SPAN_LITERAL("chain"))) {
        c->has_chain = true;
        return span_equal(value, span_of(c->chain->b, SM3_BYTES)) ? AMI_OK : AMI_WRONG_CHAIN;
    }
    if (span_equal(key, SPAN_LITERAL("salt"))) {
        c->has_salt = value.size == ROW_SALT_BYTES;
        return c->has_salt ? AMI_OK : AMI_DAMAGED;
    }
    if (span_equal(key, SPAN_LITERAL("tip"))) {
        struct reader r = reader_on(value);
        c->tip_height = read_u64(&r);
        read_raw(&r, c->tip.b, SM3_BYTES);
        return reader_done(&r) ? AMI_OK : AMI_DAMAGED;
    }
    if (span_equal(key, SPAN_LITERAL("retention"))) {
        struct tx_view tx;
        if (tx_view_parse(&tx, value) != AMI_OK || tx.tx.kind != TX_RETENTION)
            return AMI_DAMAGED;
        c->below = tx.u.retention.below;
        return AMI_OK;
    }
    if (span_equal(key, SPAN_LITERAL("pruned"))) {
        struct reader r = reader_on(value);
        c->pruned = read_u64(&r);
        return reader_done(&r) ? AMI_OK : AMI_DAMAGED;
    }
    if (span_equal(key, SPAN_LITERAL("vote"))) {
        struct vote_record v;
        if (value.size < 8)
            return AMI_DAMAGED;
        c->vote_txn = load_be64(value.data + value.size - 8);
        return vote_record_parse(&v, span_of(value.data, value.size - 8));
    }
    if (span_equal(key, SPAN_LITERAL("write"))) {
        struct reader r = reader_on(value);
        c->write_txn = read_u64(&r);
        c->last_vote = read_u64(&r);
        return reader_done(&r) ? AMI_OK : AMI_DAMAGED;
    }
    return AMI_DAMAGED;
}

/* Takes the check of the front off the end; front_size bytes are the front. */
static bool open_front(struct span key, struct span *value, size_t front_size)
{
    uint8_t check[STORE_CHECK_BYTES];
    if (value->size < front_size + STORE_CHECK_BYTES)
        return false;
    value->size -= STORE_CHECK_BYTES;
    store_check(check, STORE_FRONT, key, span_of(value->data, front_size), span_of(NULL, 0));
    return memcmp(check, value->data + value->size, sizeof check) == 0;
}

/* Counts what the indexes must have, and notes which form its reports have. */
static void look_at_txs(struct check *c, uint64_t height, struct span body)
{
    struct body_reader it = body_reader_on(body);
    struct span encoded;
    while (body_next(&it, &encoded)) {
        const uint8_t kind = encoded.size == 0 ? 0 : encoded.data[0];
        c->txs_and_reports += kind == TX_REPORT || kind == TX_PRUNED_REPORT ? 2 : 1;
        c->must_epochs += kind == TX_MEMBERSHIP;
        if (kind == TX_PRUNED_REPORT)
            c->last_pruned = height;
        if (kind == TX_REPORT && c->first_whole == 0)
            c->first_whole = height;
    }
}

static enum ami_status check_block(struct check *c, struct span key, struct span value)
{
    struct certified_block b;
    struct block_header header;
    struct qc commit;
    struct reader r = reader_on(value);
    block_header_decode(&r, &header);
    qc_decode(&r, &commit);
    if (r.failed || !open_front(key, &value, r.at) || certified_block_parse(&b, value) != AMI_OK)
        return AMI_DAMAGED;
    sm3_digest hash = block_hash(&b.header);
    if (key.size != 8 || load_be64(key.data) != c->blocks + 1 || b.header.height != c->blocks + 1 ||
        !sm3_equal(&b.header.previous, &c->last) || !sm3_equal(&b.header.chain, c->chain) ||
        b.commit.kind != VOTE_COMMIT || b.commit.height != b.header.height ||
        !sm3_equal(&b.commit.block, &hash))
        return AMI_DAMAGED;
    c->blocks++;
    look_at_txs(c, c->blocks, b.body);
    if (c->blocks % RUNS_FAN == 0)
        c->must_rows = c->txs_and_reports;
    c->last = hash;
    return AMI_OK;
}

static enum ami_status check_pending(struct span key, struct span value)
{
    struct body_reply b;
    struct block_header header;
    struct reader r = reader_on(value);
    block_header_decode(&r, &header);
    if (r.failed || !open_front(key, &value, r.at) || body_reply_parse(&b, value) != AMI_OK)
        return AMI_DAMAGED;
    sm3_digest hash = block_hash(&b.header);
    return span_equal(key, span_of(hash.b, SM3_BYTES)) ? AMI_OK : AMI_DAMAGED;
}

static enum ami_status check_run(struct check *c, struct span key, struct span value)
{
    if (!run_piece_is_right(&c->pieces, c->blocks, key, value))
        return AMI_DAMAGED;
    c->rows += value.size / ROW_BYTES;
    return AMI_OK;
}

static enum ami_status check_changes(struct check *c, struct span key, struct span value)
{
    struct reader r = reader_on(value);
    const uint64_t height = key.size == 8 ? load_be64(key.data) : 0;
    enum ami_status status = AMI_OK;
    while (status == AMI_OK && reader_left(&r) > 0) {
        struct record record;
        (void)read_u64(&r);
        const struct span encoded = read_bytes(&r, RECORD_BYTES_MAX);
        status = r.failed ? AMI_DAMAGED : record_parse(&record, encoded);
    }
    /* Those of earlier blocks are in `records`. */
    if (status != AMI_OK || height <= records_folded(c->blocks) || height > c->blocks)
        return AMI_DAMAGED;
    return AMI_OK;
}

static enum ami_status check_value(struct check *c, const char *db, struct span key,
                                   struct span value)
{
    struct record record;
    if (strcmp(db, "meta") == 0)
        return check_meta(c, key, value);
    if (strcmp(db, "blocks") == 0)
        return check_block(c, key, value);
    if (strcmp(db, "pending") == 0)
        return check_pending(key, value);
    if (strcmp(db, "records") == 0)
        return key.size == 8 && record_parse(&record, value) == AMI_OK ? AMI_OK : AMI_DAMAGED;
    if (strcmp(db, "hashes") == 0) {
        c->hashes++;
        return key.size == SM3_BYTES && value.size == 8 ? AMI_OK : AMI_DAMAGED;
    }
    if (strcmp(db, "runs") == 0)
        return check_run(c, key, value);
    if (strcmp(db, "changes") == 0)
        return check_changes(c, key, value);
    if (strcmp(db, "epochs") == 0) {
        c->epochs++;
        return key.size == 4 && value.size == 12 ? AMI_OK : AMI_DAMAGED;
    }
    return AMI_DAMAGED; /* none of ours */
}

static enum ami_status on_entry(void *ctx, const char *db, struct span key, struct span stored,
                                char *why, size_t why_size)
{
    struct check *c = ctx;
    struct span value;
    enum ami_status status = AMI_DAMAGED;
    if (store_check_open(db, key, stored, &value))
        status = check_value(c, db, key, value);
    if (status == AMI_WRONG_CHAIN)
        snprintf(why, why_size, "the ledger is of another chain (of another genesis file)");
    else if (status != AMI_OK && strcmp(db, "blocks") == 0 && key.size == 8)
        snprintf(why, why_size, "block %llu is not what was written, or not the next one",
                 (unsigned long long)load_be64(key.data));
    else if (status != AMI_OK)
        snprintf(why, why_size, "a value in %s is not what was written", db);
    return status;
}

static enum ami_status on_format(void *ctx, const char *db, struct span key, struct span stored,
                                 char *why, size_t why_size)
{
    (void)ctx;
    (void)db;
    if (!span_equal(key, SPAN_LITERAL("format")) || !store_format_is_other(stored))
        return AMI_OK;
    snprintf(why, why_size, "the ledger is of another version's format; this program reads \"%s\"",
             STORE_FORMAT);
    return AMI_UNSUPPORTED;
}

static bool wants_meta(void *ctx, const char *db)
{
    (void)ctx;
    return strcmp(db, "meta") == 0;
}

static void on_progress(void *ctx, uint64_t done, uint64_t total)
{
    const struct check *c = ctx;
    if (c->progress != NULL)
        c->progress(c->ctx, done, total);
}

/* --- the whole ---------------------------------------------------------------------------------
 */

static const char *whole(const struct check *c, uint64_t txn)
{
    /* Before the first batch there is the write that made the databases. */
    if ((c->write_txn != 0 || txn > 1) && c->write_txn != txn)
        return "what it says of its last write is not of that";
    if (c->vote_txn != c->last_vote)
        return "its vote record is not the newest one";

    if (!c->has_format || !c->has_chain || !c->has_salt)
        return "it does not name its format, chain and salt";
    if (c->last_pruned >= c->below && c->last_pruned != 0)
        return "a block is pruned that must not be";
    if (c->pruned > c->below || (c->first_whole != 0 && c->first_whole < c->pruned))
        return "a block is whole that it says it has pruned";
    if (c->tip_height != c->blocks || !sm3_equal(&c->tip, &c->last))
        return "its tip is not its last block";
    if (c->hashes != c->blocks)
        return "its index of hashes is not that of its blocks";
    if (c->rows != c->must_rows || c->epochs != c->must_epochs)
        return "an index of transactions is not that of its blocks";
    return NULL;
}

enum ami_status store_check_all(const char *dir, const sm3_digest *chain,
                                void (*progress)(void *ctx, uint64_t done, uint64_t total),
                                void *ctx, struct store_check_result *out, char *why,
                                size_t why_size)
{
    char path[PATH_BYTES], detail[256] = "";
    struct check c = {
        .chain = chain, .progress = progress, .ctx = ctx, .last = *chain, .tip = *chain};
    const struct lmdb_walk look = {on_format, wants_meta, NULL, &c};
    const struct lmdb_walk walk = {on_entry, NULL, on_progress, &c};
    struct lmdb_file_result walked = {0};
    if (snprintf(path, sizeof path, "%s/data.mdb", dir) >= (int)sizeof path) {
        snprintf(why, why_size, "the folder's name is too long");
        return AMI_BAD_ARGUMENT;
    }
    /* First: another version's ledger would look like damage, and is none. */
    enum ami_status status = lmdb_file_walk(path, &look, &walked, detail, sizeof detail);
    if (status != AMI_UNSUPPORTED)
        status = lmdb_file_walk(path, &walk, &walked, detail, sizeof detail);
    if (status == AMI_OK &&
        walked.entries == 0) /* made, and nothing written: as if there was none */
        status = AMI_NOT_FOUND;
    else if (status == AMI_OK && whole(&c, walked.txn) != NULL) {
        snprintf(detail, sizeof detail, "%s", whole(&c, walked.txn));
        status = AMI_DAMAGED;
    }
    *out = (struct store_check_result){c.blocks, walked.entries, walked.pages};
    if (status != AMI_OK)
        snprintf(why, why_size, "%.300s: %s", path, detail);
    return status;
}
