/* ledger/store_copy.c - a compact copy of a ledger, made while it goes on. */
#include "ledger/store_lmdb.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- copying ---------------------------------------------------------------------------------- */

/* So much goes into one write of a copy. */
#define COPY_WRITE_BYTES ((size_t)16 << 20)
/* Address space for what the writes of rows take and give back. */
#define COPY_ROOM_BYTES ((size_t)256 << 20)

struct copying {
    struct store *from, *to;
    MDB_txn *read, *write;
    size_t in_write; /* bytes */
    uint64_t done, total;
    void (*progress)(void *ctx, uint64_t done, uint64_t total);
    void *ctx;
};

/* Not what the ledger's own node alone may use, nor what is none of ours. */
static bool is_to_copy(int db, const MDB_val *k)
{
    const struct span key = span_of(k->mv_data, k->mv_size);
    if (db != META)
        return db != PENDING && db != RUNS;
    if (span_equal(key, SPAN_LITERAL(KEY_VOTE)) || span_equal(key, SPAN_LITERAL(KEY_WRITE)) ||
        span_equal(key, SPAN_LITERAL(KEY_SALT)))
        return false;
    for (size_t i = 0; i < STORE_META_KEYS; i++)
        if (span_equal(key, store_meta_keys[i]))
            return true;
    return false;
}

static int copy_next_write(struct copying *c)
{
    int rc = mdb_txn_commit(c->write);
    c->write = NULL;
    c->in_write = 0;
    return rc == MDB_SUCCESS ? mdb_txn_begin(c->to->env, NULL, 0, &c->write) : rc;
}

static int copy_db(struct copying *c, int db)
{
    MDB_cursor *cursor;
    MDB_val k, v;
    /* The new ledger has keys in `meta` already. */
    const unsigned flags = db == META ? 0 : MDB_APPEND;
    int rc = mdb_cursor_open(c->read, c->from->db[db], &cursor);
    if (rc != MDB_SUCCESS)
        return rc;
    for (rc = mdb_cursor_get(cursor, &k, &v, MDB_FIRST); rc == MDB_SUCCESS;
         rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) {
        if (!is_to_copy(db, &k))
            continue;
        rc = mdb_put(c->write, c->to->db[db], &k, &v, flags);
        c->in_write += k.mv_size + v.mv_size;
        c->done += k.mv_size + v.mv_size;
        if (rc == MDB_SUCCESS && c->in_write >= COPY_WRITE_BYTES) {
            rc = copy_next_write(c);
            if (c->progress != NULL)
                c->progress(c->ctx, c->done < c->total ? c->done : c->total, c->total);
        }
        if (rc != MDB_SUCCESS)
            break;
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? MDB_SUCCESS : rc;
}

/* The rows of all blocks, which are there by now, with the salt of the new ledger: who has the old
 * one, or has made it, must not know where rows go. */
static enum ami_status make_rows(struct copying *c, uint64_t tip, int *rc)
{
    for (uint64_t h = 1; h <= tip && *rc == MDB_SUCCESS; h++) {
        uint8_t *rows = NULL;
        size_t count = 0;
        if (h % RUNS_FAN == 0)
            AMI_TRY(store_rows_at(c->to, c->write, h, &rows, &count));
        enum ami_status status = store_put_runs(c->to, c->write, h, rows, count, rc);
        free(rows);
        AMI_TRY(status);
        if (h % RUNS_FAN == 0 && *rc == MDB_SUCCESS)
            *rc = copy_next_write(c);
    }
    return AMI_OK;
}

/* Which write this is, as the checker wants it; no vote record was ever in this file. */
static int copy_end(struct copying *c)
{
    uint8_t of_writes[16] = {0};
    store_be64(of_writes, mdb_txn_id(c->write));
    int rc = store_put_value(c->to, c->write, META, SPAN_LITERAL(KEY_WRITE),
                             span_of(of_writes, sizeof of_writes), span_of(NULL, 0), 0);
    if (rc != MDB_SUCCESS)
        return rc;
    rc = mdb_txn_commit(c->write);
    c->write = NULL;
    return rc == MDB_SUCCESS ? mdb_env_sync(c->to->env, 1) : rc;
}

static enum ami_status copy_all(struct copying *c, uint64_t tip)
{
    enum ami_status status = AMI_OK;
    MDB_envinfo info;
    MDB_stat stat_db;
    mdb_env_info(c->from->env, &info);
    mdb_env_stat(c->from->env, &stat_db);
    c->total = (uint64_t)(info.me_last_pgno + 1) * stat_db.ms_psize;
    /* In order, values take no more room than they do there; rows are written once a level. */
    int rc = mdb_env_set_mapsize(c->to->env, 2 * (size_t)c->total + COPY_ROOM_BYTES);
    if (rc == MDB_SUCCESS)
        rc = mdb_env_set_flags(c->to->env, MDB_NOSYNC, 1); /* copy_end syncs */
    if (rc == MDB_SUCCESS)
        rc = mdb_txn_begin(c->to->env, NULL, 0, &c->write);
    for (int db = 0; rc == MDB_SUCCESS && db < DB_COUNT; db++)
        if (db != META)
            rc = copy_db(c, db);
    if (rc == MDB_SUCCESS)
        status = make_rows(c, tip, &rc);
    if (rc == MDB_SUCCESS && status == AMI_OK)
        rc = copy_db(c, META); /* last: without its tip this is no ledger */
    if (rc == MDB_SUCCESS && status == AMI_OK)
        rc = copy_end(c);
    if (c->write != NULL)
        mdb_txn_abort(c->write);
    return status != AMI_OK ? status : store_write_status(c->to, rc, MAP_BYTES_MIN);
}

enum ami_status store_copy(struct store *s, const char *dir, uint64_t *height,
                           void (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx,
                           char *why, size_t why_size)
{
    struct copying c = {.from = s, .progress = progress, .ctx = ctx};
    sm3_digest tip;
    struct stat st;
    char path[4096];
    snprintf(path, sizeof path, "%s/" DATA_NAME, dir);
    if (stat(path, &st) == 0) {
        store_say(why, why_size, "%s: there is a ledger already", dir);
        return AMI_EXISTS;
    }
    AMI_TRY(store_open(&c.to, dir, &s->chain, STORE_READ_WRITE, 0, why, why_size));
    enum ami_status status = store_begin(s, MDB_RDONLY, &c.read);
    if (status == AMI_OK) {
        status = store_get_tip(s, c.read, height, &tip);
        if (status == AMI_OK)
            status = copy_all(&c, *height);
        store_end(s, c.read);
    }
    if (status != AMI_OK)
        store_say(why, why_size, "%s: cannot be copied to %s: %s", s->dir, dir,
                  ami_status_text(status));
    store_close(c.to);
    return status;
}
