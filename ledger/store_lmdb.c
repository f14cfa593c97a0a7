/* ledger/store_lmdb.c - see store_lmdb.h. */
#include "ledger/store_lmdb.h"

#include "base/check.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

const char *const store_db_names[DB_COUNT] = {"meta",   "blocks",  "hashes",  "runs",
                                              "epochs", "changes", "records", "pending"};

const struct span store_meta_keys[STORE_META_KEYS] = {
    {(const uint8_t *)KEY_FORMAT, sizeof KEY_FORMAT - 1},
    {(const uint8_t *)KEY_CHAIN, sizeof KEY_CHAIN - 1},
    {(const uint8_t *)KEY_SALT, sizeof KEY_SALT - 1},
    {(const uint8_t *)KEY_TIP, sizeof KEY_TIP - 1},
    {(const uint8_t *)KEY_RETENTION, sizeof KEY_RETENTION - 1},
    {(const uint8_t *)KEY_PRUNED, sizeof KEY_PRUNED - 1},
    {(const uint8_t *)KEY_VOTE, sizeof KEY_VOTE - 1},
    {(const uint8_t *)KEY_WRITE, sizeof KEY_WRITE - 1}};

#define MAP_STEP_MAX ((size_t)1 << 30)

/* --- statuses -------------------------------------------------------------------------------- */

void store_say(char *why, size_t why_size, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (why != NULL && why_size > 0)
        vsnprintf(why, why_size, format, args);
    va_end(args);
}

enum ami_status store_status(int rc)
{
    switch (rc) {
    case MDB_SUCCESS:
        return AMI_OK;
    case MDB_NOTFOUND:
        return AMI_NOT_FOUND;
    case MDB_KEYEXIST:
        return AMI_EXISTS;
    case MDB_MAP_FULL:
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return AMI_FULL;
    case MDB_TXN_FULL:
        return AMI_TOO_LARGE;
    case MDB_READERS_FULL:
    case EAGAIN:
        return AMI_AGAIN;
    case ENOMEM:
        return AMI_NO_MEMORY;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
    case MDB_INCOMPATIBLE:
        return AMI_DAMAGED;
    default:
        return AMI_IO;
    }
}

enum ami_status store_write_status(const struct store *s, int rc, size_t bytes_wanted)
{
    if (rc != EIO)
        return store_status(rc);
    struct statvfs fs;
    struct rlimit limit;
    struct stat file;
    char path[4096];
    snprintf(path, sizeof path, "%s/" DATA_NAME, s->dir);
    if (statvfs(s->dir, &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize < bytes_wanted)
        return AMI_FULL;
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
        stat(path, &file) == 0 && (uint64_t)file.st_size + bytes_wanted > limit.rlim_cur)
        return AMI_FULL;
    return AMI_IO;
}

/* --- the map --------------------------------------------------------------------------------- */

/* Under the map lock, held for writing. 0 adopts what another process has made of it. */
static int map_replace(struct store *s, size_t bytes)
{
    MDB_envinfo info;
    mdb_env_info(s->env, &info);
    int rc = mdb_env_set_mapsize(s->env, bytes);
    /* LMDB has let the old map go before it asks for the new one. */
    if (rc != MDB_SUCCESS && mdb_env_set_mapsize(s->env, info.me_mapsize) != MDB_SUCCESS)
        s->dead = true;
    return rc;
}

static enum ami_status map_adopt(struct store *s)
{
    pthread_rwlock_wrlock(&s->map_lock);
    int rc = s->dead ? EIO : map_replace(s, 0);
    pthread_rwlock_unlock(&s->map_lock);
    return store_status(rc);
}

enum ami_status store_map_grow(struct store *s)
{
    MDB_envinfo info;
    int stale = 0;
    pthread_rwlock_wrlock(&s->map_lock);
    /* Readers that were killed no longer keep old pages from being used again. */
    (void)mdb_reader_check(s->env, &stale);
    mdb_env_info(s->env, &info);
    size_t step = info.me_mapsize < MAP_STEP_MAX ? info.me_mapsize : MAP_STEP_MAX;
    size_t bytes = info.me_mapsize + step;
    if (s->map_bytes_max != 0 && bytes > s->map_bytes_max)
        bytes = s->map_bytes_max;
    int rc = MDB_MAP_FULL;
    if (s->dead)
        rc = EIO;
    else if (bytes > info.me_mapsize)
        rc = map_replace(s, bytes);
    pthread_rwlock_unlock(&s->map_lock);
    return store_status(rc);
}

/* --- transactions ---------------------------------------------------------------------------- */

enum ami_status store_begin(struct store *s, unsigned flags, MDB_txn **txn)
{
    for (;;) {
        pthread_rwlock_rdlock(&s->map_lock);
        int rc = s->dead ? EIO : mdb_txn_begin(s->env, NULL, flags, txn);
        if (rc == MDB_SUCCESS)
            return AMI_OK;
        pthread_rwlock_unlock(&s->map_lock);
        if (rc != MDB_MAP_RESIZED)
            return store_status(rc);
        AMI_TRY(map_adopt(s));
    }
}

void store_end(struct store *s, MDB_txn *txn)
{
    mdb_txn_abort(txn);
    pthread_rwlock_unlock(&s->map_lock);
}

int store_note_damage(struct store *s)
{
    atomic_store(&s->damaged, true);
    return MDB_CORRUPTED;
}

void store_will_read(const struct store *s, const MDB_val *v)
{
    if (s->mode == STORE_READ_ONLY)
        return;
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), at = (uintptr_t)v->mv_data;
    /* Advice: without it the pages come one by one. */
    (void)madvise((void *)(at - at % page), at % page + v->mv_size, MADV_WILLNEED);
}

/* Values above this are fetched at once; a smaller one is a page or a few. */
#define LONG_VALUE_BYTES ((size_t)16 << 10)

int store_open_value(struct store *s, int db, struct span key, const MDB_val *v, struct span *value)
{
    struct span stored = span_of(v->mv_data, v->mv_size);
    if (v->mv_size > LONG_VALUE_BYTES)
        store_will_read(s, v);
    if (store_check_open(store_db_names[db], key, stored, value))
        return MDB_SUCCESS;
    *value = span_of(NULL, 0);
    return store_note_damage(s);
}

int store_get(struct store *s, MDB_txn *txn, int db, struct span key, struct span *value)
{
    MDB_val k = {key.size, (void *)(uintptr_t)key.data}, v;
    *value = span_of(NULL, 0);
    int rc = mdb_get(txn, s->db[db], &k, &v);
    return rc == MDB_SUCCESS ? store_open_value(s, db, key, &v, value) : rc;
}

int store_get_block(struct store *s, MDB_txn *txn, int db, struct span key, struct span *value)
{
    int rc = store_get(s, txn, db, key, value);
    if (rc == MDB_SUCCESS && value->size < STORE_CHECK_BYTES)
        return store_note_damage(s);
    if (rc == MDB_SUCCESS)
        value->size -= STORE_CHECK_BYTES; /* the front's, which the whole's covers */
    return rc;
}

struct span store_key_u64(uint8_t out[8], uint64_t v)
{
    store_be64(out, v);
    return span_of(out, 8);
}

struct span store_key_u32(uint8_t out[4], uint32_t v)
{
    store_be32(out, v);
    return span_of(out, 4);
}

enum ami_status store_get_tip(struct store *s, MDB_txn *txn, uint64_t *height, sm3_digest *hash)
{
    struct span v = {0};
    int rc = store_get(s, txn, META, SPAN_LITERAL(KEY_TIP), &v);
    if (rc == MDB_NOTFOUND) {
        *height = 0;
        *hash = s->chain;
        return AMI_OK;
    }
    AMI_TRY(store_status(rc));
    struct reader r = reader_on(v);
    *height = read_u64(&r);
    read_raw(&r, hash->b, sizeof hash->b);
    return reader_done(&r) && *height > 0 ? AMI_OK : AMI_DAMAGED;
}

enum ami_status store_get_retention(struct store *s, MDB_txn *txn, struct store_retention *out)
{
    struct span v = {0};
    struct tx_view tx;
    *out = (struct store_retention){.pruned = 1};
    int rc = store_get(s, txn, META, SPAN_LITERAL(KEY_RETENTION), &v);
    if (rc == MDB_NOTFOUND) {
        rc = store_get(s, txn, META, SPAN_LITERAL(KEY_PRUNED), &v);
        return rc == MDB_SUCCESS ? AMI_DAMAGED : rc == MDB_NOTFOUND ? AMI_OK : store_status(rc);
    }
    AMI_TRY(store_status(rc));
    if (v.size != sizeof out->tx || tx_view_parse(&tx, v) != AMI_OK || tx.tx.kind != TX_RETENTION)
        return AMI_DAMAGED;
    memcpy(out->tx, v.data, v.size);
    out->tx_size = v.size;
    out->below = tx.u.retention.below;
    rc = store_get(s, txn, META, SPAN_LITERAL(KEY_PRUNED), &v);
    if (rc == MDB_NOTFOUND)
        return AMI_OK;
    AMI_TRY(store_status(rc));
    if (v.size != 8)
        return AMI_DAMAGED;
    out->pruned = load_be64(v.data);
    return out->pruned > 1 && out->pruned <= out->below ? AMI_OK : AMI_DAMAGED;
}

enum ami_status store_read_front(struct reader *r, uint64_t height, struct block_header *header,
                                 struct qc *commit)
{
    block_header_decode(r, header);
    qc_decode(r, commit);
    return !r->failed && header->height == height ? AMI_OK : AMI_DAMAGED;
}

enum ami_status store_parse_vote(struct vote_record *out, struct span v)
{
    if (v.size < 8)
        return AMI_DAMAGED;
    return vote_record_parse(out, span_of(v.data, v.size - 8)) == AMI_OK ? AMI_OK : AMI_DAMAGED;
}

bool store_front_is_whole(struct store *s, struct span key, const MDB_val *v, size_t size)
{
    uint8_t check[STORE_CHECK_BYTES];
    const uint8_t *data = v->mv_data;
    bool whole = v->mv_size >= size + 2 * STORE_CHECK_BYTES;
    if (whole) {
        store_check(check, STORE_FRONT, key, span_of(data, size), span_of(NULL, 0));
        whole = memcmp(check, data + v->mv_size - 2 * STORE_CHECK_BYTES, sizeof check) == 0;
    }
    if (!whole)
        (void)store_note_damage(s);
    return whole;
}

enum ami_status store_next_record(struct reader *r, uint64_t *index, struct span *record)
{
    if (reader_left(r) == 0)
        return reader_done(r) ? AMI_NOT_FOUND : AMI_BAD_ENCODING;
    *index = read_u64(r);
    *record = read_bytes(r, RECORD_BYTES_MAX);
    return r->failed || record->size == 0 ? AMI_BAD_ENCODING : AMI_OK;
}
