#include "ledger/store.h"

#include "base/check.h"
#include "ledger/store_value.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* The sub-databases (docs/ledger-format.md). Integers in keys and values are big-endian; behind
 * every value stands its check (ledger/store_value.h), and in blocks and pending that of the front
 * before it.
 *
 *   meta     "format" -> "amiledger store 4", or 5 with a retention; "chain" -> chain id; "tip" ->
 * u64 height, hash; "vote" -> vote_record, u64 LMDB's number of that write; "write" -> u64 number
 * of the last write, u64 of the last with a vote record; "retention" -> the transaction of the
 *            highest watermark; "pruned" -> u64 height: below it no report is whole
 *   blocks   u64 height -> certified_block, its body perhaps pruned
 *   hashes   block hash -> u64 height
 *   txs      transaction id -> u64 height, u32 index
 *   reports  meter (id), u32 epoch, u64 sequence -> u64 height, u32 index
 *   epochs   u32 epoch -> u64 height, u32 index; of the membership transaction that begins it
 *   records  u64 index -> record; those that differ from the genesis file's
 *   pending  block hash -> body_reply; blocks that are not committed
 */
enum { META, BLOCKS, HASHES, TXS, REPORTS, EPOCHS, RECORDS, PENDING, DB_COUNT };
static const char *const db_names[DB_COUNT] = {"meta",    "blocks", "hashes",  "txs",
                                               "reports", "epochs", "records", "pending"};

static const char format_text[] = STORE_FORMAT;
#define KEY_FORMAT    "format"
#define KEY_CHAIN     "chain"
#define KEY_TIP       "tip"  /* u64 height, hash */
#define KEY_VOTE      "vote" /* encoding of vote_record, u64 LMDB's number of its write */
#define KEY_RETENTION "retention"
#define KEY_PRUNED    "pruned"
#define KEY_WRITE     "write" /* u64 number of the last write, u64 of the last with a vote record */

static const struct span meta_keys[] = {{(const uint8_t *)KEY_FORMAT, sizeof KEY_FORMAT - 1},
                                        {(const uint8_t *)KEY_CHAIN, sizeof KEY_CHAIN - 1},
                                        {(const uint8_t *)KEY_TIP, sizeof KEY_TIP - 1},
                                        {(const uint8_t *)KEY_RETENTION, sizeof KEY_RETENTION - 1},
                                        {(const uint8_t *)KEY_PRUNED, sizeof KEY_PRUNED - 1},
                                        {(const uint8_t *)KEY_VOTE, sizeof KEY_VOTE - 1},
                                        {(const uint8_t *)KEY_WRITE, sizeof KEY_WRITE - 1}};
#define META_KEYS (sizeof meta_keys / sizeof meta_keys[0])

#define DATA_NAME "data.mdb"
#define LOCK_NAME "ledger.lock"
/* LMDB's table of readers; its size for the default number of them. */
#define READERS_NAME  "lock.mdb"
#define READERS_BYTES 8192

#define TIP_BYTES        (8 + SM3_BYTES)
#define PLACE_BYTES      (8 + 4) /* height, index */
#define REPORT_KEY_BYTES (1 + AMI_ID_BYTES_MAX + 4 + 8)

/* The first map; it doubles up to a step of 1 GiB. Small enough that small tests see it grow. */
#define MAP_BYTES_FIRST ((size_t)16 << 20)
#define MAP_BYTES_MIN   ((size_t)1 << 20)
#define MAP_STEP_MAX    ((size_t)1 << 30)
#define PAGE_ALIGN      ((size_t)4095)

/* A file may lack its last pages when a transaction gave them back before it ended (LMDB does not
 * write those). More than so many missing pages are a cut. */
#define UNWRITTEN_PAGES_MAX 16

struct store {
    MDB_env *env;
    MDB_dbi db[DB_COUNT];
    enum store_mode mode;
    size_t map_bytes_max;
    int lock_fd;
    bool dead; /* the map was lost for lack of memory */
    _Atomic bool damaged;
    sm3_digest chain;
    _Atomic uint64_t height;
    /* LMDB lets nobody use a map that is being replaced: every transaction holds this for reading,
     * whoever replaces the map for writing. */
    pthread_rwlock_t map_lock;
    char *dir;
};

/* --- statuses -------------------------------------------------------------------------------- */

__attribute__((format(printf, 3, 4))) static void say(char *why, size_t why_size,
                                                      const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (why != NULL && why_size > 0)
        vsnprintf(why, why_size, format, args);
    va_end(args);
}

static enum ami_status status_of(int rc)
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

/* What LMDB makes of a full file system is often a short write, which it reports as EIO. */
static enum ami_status write_status_of(const struct store *s, int rc, size_t bytes_wanted)
{
    if (rc != EIO)
        return status_of(rc);
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
    return status_of(rc);
}

static enum ami_status map_grow(struct store *s)
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
    return status_of(rc);
}

/* --- transactions ---------------------------------------------------------------------------- */

/* Begins a transaction and holds the map lock for reading; only with AMI_OK. */
static enum ami_status begin(struct store *s, unsigned flags, MDB_txn **txn)
{
    for (;;) {
        pthread_rwlock_rdlock(&s->map_lock);
        int rc = s->dead ? EIO : mdb_txn_begin(s->env, NULL, flags, txn);
        if (rc == MDB_SUCCESS)
            return AMI_OK;
        pthread_rwlock_unlock(&s->map_lock);
        if (rc != MDB_MAP_RESIZED)
            return status_of(rc);
        AMI_TRY(map_adopt(s));
    }
}

static void end(struct store *s, MDB_txn *txn)
{
    mdb_txn_abort(txn);
    pthread_rwlock_unlock(&s->map_lock);
}

static int damaged(struct store *s)
{
    atomic_store(&s->damaged, true);
    return MDB_CORRUPTED;
}

/* A stored value without its check. MDB_CORRUPTED: the check is another one's. */
static int open_value(struct store *s, int db, struct span key, const MDB_val *v,
                      struct span *value)
{
    struct span stored = span_of(v->mv_data, v->mv_size);
    if (store_check_open(db_names[db], key, stored, value))
        return MDB_SUCCESS;
    *value = span_of(NULL, 0);
    return damaged(s);
}

static int get(struct store *s, MDB_txn *txn, int db, struct span key, struct span *value)
{
    MDB_val k = {key.size, (void *)(uintptr_t)key.data}, v;
    *value = span_of(NULL, 0);
    int rc = mdb_get(txn, s->db[db], &k, &v);
    return rc == MDB_SUCCESS ? open_value(s, db, key, &v, value) : rc;
}

/* A block as it was encoded. */
static int get_block(struct store *s, MDB_txn *txn, int db, struct span key, struct span *value)
{
    int rc = get(s, txn, db, key, value);
    if (rc == MDB_SUCCESS && value->size < STORE_CHECK_BYTES)
        return damaged(s);
    if (rc == MDB_SUCCESS)
        value->size -= STORE_CHECK_BYTES; /* the front's, which the whole's covers */
    return rc;
}

static struct span key_u64(uint8_t out[8], uint64_t v)
{
    store_be64(out, v);
    return span_of(out, 8);
}

static struct span key_u32(uint8_t out[4], uint32_t v)
{
    store_be32(out, v);
    return span_of(out, 4);
}

static struct span key_report(uint8_t out[REPORT_KEY_BYTES], const struct ami_id *meter,
                              uint32_t epoch, uint64_t sequence)
{
    struct writer w = writer_on(out, REPORT_KEY_BYTES);
    write_id(&w, meter);
    write_u32(&w, epoch);
    write_u64(&w, sequence);
    AMI_CHECK(writer_ok(&w));
    return writer_span(&w);
}

/* Height 0 and the chain id when no block is there. */
static enum ami_status get_tip(struct store *s, MDB_txn *txn, uint64_t *height, sm3_digest *hash)
{
    struct span v = {0};
    int rc = get(s, txn, META, SPAN_LITERAL(KEY_TIP), &v);
    if (rc == MDB_NOTFOUND) {
        *height = 0;
        *hash = s->chain;
        return AMI_OK;
    }
    AMI_TRY(status_of(rc));
    struct reader r = reader_on(v);
    *height = read_u64(&r);
    read_raw(&r, hash->b, sizeof hash->b);
    return reader_done(&r) && *height > 0 ? AMI_OK : AMI_DAMAGED;
}

static enum ami_status get_retention(struct store *s, MDB_txn *txn, struct store_retention *out)
{
    struct span v = {0};
    struct tx_view tx;
    *out = (struct store_retention){.pruned = 1};
    int rc = get(s, txn, META, SPAN_LITERAL(KEY_RETENTION), &v);
    if (rc == MDB_NOTFOUND) {
        rc = get(s, txn, META, SPAN_LITERAL(KEY_PRUNED), &v);
        return rc == MDB_SUCCESS ? AMI_DAMAGED : rc == MDB_NOTFOUND ? AMI_OK : status_of(rc);
    }
    AMI_TRY(status_of(rc));
    if (v.size != sizeof out->tx || tx_view_parse(&tx, v) != AMI_OK || tx.tx.kind != TX_RETENTION)
        return AMI_DAMAGED;
    memcpy(out->tx, v.data, v.size);
    out->tx_size = v.size;
    out->below = tx.u.retention.below;
    rc = get(s, txn, META, SPAN_LITERAL(KEY_PRUNED), &v);
    if (rc == MDB_NOTFOUND)
        return AMI_OK;
    AMI_TRY(status_of(rc));
    if (v.size != 8)
        return AMI_DAMAGED;
    out->pruned = load_be64(v.data);
    return out->pruned > 1 && out->pruned <= out->below ? AMI_OK : AMI_DAMAGED;
}

/* Header and certificate at the front of a stored block; `r` stands before the body then. */
static enum ami_status read_front(struct reader *r, uint64_t height, struct block_header *header,
                                  struct qc *commit)
{
    block_header_decode(r, header);
    qc_decode(r, commit);
    return !r->failed && header->height == height ? AMI_OK : AMI_DAMAGED;
}

/* What stands under KEY_VOTE. */
static enum ami_status parse_vote(struct vote_record *out, struct span v)
{
    if (v.size < 8)
        return AMI_DAMAGED;
    return vote_record_parse(out, span_of(v.data, v.size - 8)) == AMI_OK ? AMI_OK : AMI_DAMAGED;
}

/* Whether the first `size` bytes of a stored block are what was written. */
static bool front_is_whole(struct store *s, struct span key, const MDB_val *v, size_t size)
{
    uint8_t check[STORE_CHECK_BYTES];
    const uint8_t *data = v->mv_data;
    bool whole = v->mv_size >= size + 2 * STORE_CHECK_BYTES;
    if (whole) {
        store_check(check, STORE_FRONT, key, span_of(data, size), span_of(NULL, 0));
        whole = memcmp(check, data + v->mv_size - 2 * STORE_CHECK_BYTES, sizeof check) == 0;
    }
    if (!whole)
        (void)damaged(s);
    return whole;
}

/* --- writing --------------------------------------------------------------------------------- */

/* A batch as far as it can be checked without looking at the store. */
struct checked_batch {
    const struct store_batch *b;
    struct block_header pending, block;
    sm3_digest pending_hash, block_hash;
    struct vote_record vote; /* when the batch has one */
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
    return c->b->block_body.size <= AMI_BLOCK_BYTES_MAX ? AMI_OK : AMI_TOO_LARGE;
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
    return write_status_of(a->s, rc, a->bytes_wanted);
}

/* A value in two parts, of which the second may be empty, and its check. */
static int put_value(struct store *s, MDB_txn *txn, int db, struct span key, struct span value,
                     struct span more, unsigned flags)
{
    MDB_val k = {key.size, (void *)(uintptr_t)key.data};
    MDB_val v = {value.size + more.size + STORE_CHECK_BYTES, NULL};
    int rc = mdb_put(txn, s->db[db], &k, &v, flags | MDB_RESERVE);
    if (rc == MDB_SUCCESS) {
        struct writer w = writer_on(v.mv_data, v.mv_size);
        uint8_t check[STORE_CHECK_BYTES];
        store_check(check, db_names[db], key, value, more);
        write_raw(&w, value.data, value.size);
        write_raw(&w, more.data, more.size);
        write_raw(&w, check, sizeof check);
        AMI_CHECK(w.size == v.mv_size);
    }
    return rc;
}

/* Values of one database whose checks are computed side by side. */
#define ROWS_MAX AMI_BLOCK_TXS_MAX
struct rows {
    size_t count;
    struct span key[ROWS_MAX], value[ROWS_MAX];
    uint8_t key_bytes[ROWS_MAX][REPORT_KEY_BYTES]; /* room for keys that stand nowhere else */
    uint8_t check[ROWS_MAX][STORE_CHECK_BYTES];
    const struct span *order[ROWS_MAX]; /* of the keys */
};

static int compare_keys(const void *a, const void *b)
{
    const struct span *const x = *(const struct span *const *)a;
    const struct span *const y = *(const struct span *const *)b;
    const size_t least = x->size < y->size ? x->size : y->size;
    const int order = memcmp(x->data, y->data, least);
    return order != 0 ? order : (x->size > y->size) - (x->size < y->size);
}

/* Stores all of them and empties the list. */
static enum ami_status put_rows(struct attempt *a, int db, struct rows *rows, unsigned flags)
{
    store_checks(rows->check, db_names[db], rows->key, rows->value, rows->count);
    for (size_t i = 0; i < rows->count; i++)
        rows->order[i] = &rows->key[i];
    /* Those that go to one page follow one another. */
    qsort(rows->order, rows->count, sizeof rows->order[0], compare_keys);
    for (size_t at = 0; at < rows->count; at++) {
        const size_t i = (size_t)(rows->order[at] - rows->key);
        const struct span value = rows->value[i];
        MDB_val k = {rows->key[i].size, (void *)(uintptr_t)rows->key[i].data};
        MDB_val v = {value.size + STORE_CHECK_BYTES, NULL};
        int rc = mdb_put(a->txn, a->s->db[db], &k, &v, flags | MDB_RESERVE);
        AMI_TRY(attempt_status(a, rc));
        memcpy(v.mv_data, value.data, value.size);
        memcpy((uint8_t *)v.mv_data + value.size, rows->check[i], STORE_CHECK_BYTES);
    }
    rows->count = 0;
    return AMI_OK;
}

static enum ami_status put(struct attempt *a, int db, struct span key, struct span value,
                           unsigned flags)
{
    return attempt_status(a, put_value(a->s, a->txn, db, key, value, span_of(NULL, 0), flags));
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
        store_check(check, db_names[db], key, writer_span(&w), span_of(NULL, 0));
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
    AMI_TRY(get_retention(a->s, a->txn, &known));
    a->pruned_below = known.below;
    if (shown.size == 0)
        return AMI_OK;
    AMI_TRY(tx_view_parse(&tx, shown));
    return put_retention(a, shown, tx.u.retention.below);
}

/* Where a block's transactions stand, and what finds them again. */
struct tx_rows {
    struct tx tx[ROWS_MAX];
    sm3_digest id[ROWS_MAX];
    uint8_t place[ROWS_MAX][PLACE_BYTES];
    struct rows ids, reports;
};

static enum ami_status put_tx(struct attempt *a, struct tx_rows *t, struct span encoded, size_t at,
                              uint32_t index)
{
    struct tx_view tx;
    uint8_t key[REPORT_KEY_BYTES];
    AMI_TRY(tx_view_decode_kept(&tx, encoded));
    AMI_TRY(tx_parse(&t->tx[at], encoded)); /* a pruned report as it is */
    if (tx.pruned && a->c->block.height >= a->pruned_below)
        return AMI_BAD_ENCODING;
    store_be64(t->place[at], a->c->block.height);
    store_be32(t->place[at] + 8, index);
    struct span where = span_of(t->place[at], PLACE_BYTES);
    t->ids.key[at] = span_of(t->id[at].b, SM3_BYTES);
    t->ids.value[at] = where;
    t->ids.count++;
    if (tx.tx.kind == TX_MEMBERSHIP)
        return put(a, EPOCHS, key_u32(key, tx.u.membership.epoch), where, MDB_NOOVERWRITE);
    if (tx.tx.kind == TX_RETENTION)
        return put_retention(a, encoded, tx.u.retention.below);
    if (tx.tx.kind != TX_REPORT)
        return AMI_OK;
    const struct report_meter_part *m = &tx.u.report.meter;
    struct rows *r = &t->reports;
    r->key[r->count] = key_report(r->key_bytes[r->count], &m->meter, m->epoch, m->sequence);
    r->value[r->count++] = where;
    return AMI_OK;
}

static enum ami_status put_tx_rows(struct attempt *a, struct tx_rows *t)
{
    AMI_TRY(tx_ids(t->id, t->tx, t->ids.count));
    AMI_TRY(put_rows(a, TXS, &t->ids, 0));
    /* The registry has settled that this is the first time; a ledger that disagrees must not grow.
     */
    enum ami_status status = put_rows(a, REPORTS, &t->reports, MDB_NOOVERWRITE);
    return status == AMI_EXISTS ? AMI_SEQUENCE_SETTLED : status;
}

static enum ami_status put_txs(struct attempt *a)
{
    struct body_reader it = body_reader_on(a->c->b->block_body);
    struct span encoded;
    uint32_t index = 0;
    struct tx_rows *t = malloc(sizeof *t);
    enum ami_status status = t == NULL ? AMI_NO_MEMORY : AMI_OK;
    if (t != NULL)
        t->ids.count = t->reports.count = 0;
    while (status == AMI_OK && body_next(&it, &encoded)) {
        status = put_tx(a, t, encoded, t->ids.count, index++);
        if (status == AMI_OK && t->ids.count == ROWS_MAX)
            status = put_tx_rows(a, t);
    }
    if (status == AMI_OK)
        status = put_tx_rows(a, t);
    free(t);
    AMI_TRY(status);
    return body_ok(&it) && index == a->c->block.tx_count ? AMI_OK : AMI_BAD_ENCODING;
}

static enum ami_status put_records(struct attempt *a)
{
    struct reader r = reader_on(a->c->b->records);
    struct rows *rows = malloc(sizeof *rows);
    enum ami_status status = rows == NULL ? AMI_NO_MEMORY : AMI_OK;
    if (rows != NULL)
        rows->count = 0;
    while (status == AMI_OK && reader_left(&r) > 0) {
        uint64_t index = read_u64(&r);
        struct span record = read_bytes(&r, RECORD_BYTES_MAX);
        if (r.failed || record.size == 0) {
            status = AMI_BAD_ENCODING;
            break;
        }
        rows->key[rows->count] = key_u64(rows->key_bytes[rows->count], index);
        rows->value[rows->count++] = record;
        if (rows->count == ROWS_MAX)
            status = put_rows(a, RECORDS, rows, 0);
    }
    if (status == AMI_OK)
        status = put_rows(a, RECORDS, rows, 0);
    free(rows);
    AMI_TRY(status);
    return reader_done(&r) ? AMI_OK : AMI_BAD_ENCODING;
}

static enum ami_status put_commit(struct attempt *a, uint64_t tip_height, const sm3_digest *tip)
{
    const struct checked_batch *c = a->c;
    uint8_t height[8], new_tip[TIP_BYTES];
    if (c->block.height != tip_height + 1 ||
        memcmp(c->block.previous.b, tip->b, sizeof tip->b) != 0)
        return AMI_BAD_PARENT;
    struct span by_height = key_u64(height, c->block.height);
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
    int rc = get(a->s, a->txn, META, SPAN_LITERAL(KEY_VOTE), &v);
    if (rc == MDB_NOTFOUND) {
        memset(out, 0, sizeof *out);
        return AMI_OK;
    }
    AMI_TRY(status_of(rc));
    return parse_vote(out, v);
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
            !front_is_whole(a->s, span_of(k.mv_data, k.mv_size), &v, r.at)) {
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
    int rc = get(a->s, a->txn, META, SPAN_LITERAL(KEY_WRITE), &v);
    if (rc == MDB_SUCCESS && v.size == sizeof of_writes)
        memcpy(of_writes, v.data, sizeof of_writes);
    else if (rc != MDB_NOTFOUND)
        return rc == MDB_SUCCESS ? AMI_DAMAGED : status_of(rc);
    memcpy(of_writes, now, sizeof now);
    if (a->c->b->vote_record.size != 0) {
        memcpy(of_writes + sizeof now, now, sizeof now);
        AMI_TRY(attempt_status(a, put_value(a->s, a->txn, META, SPAN_LITERAL(KEY_VOTE),
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
    struct span v = {0}, by_height = key_u64(key, height);
    int rc = get_block(a->s, a->txn, BLOCKS, by_height, &v);
    AMI_TRY(rc == MDB_NOTFOUND ? AMI_DAMAGED : status_of(rc));
    struct reader r = reader_on(v);
    AMI_TRY(read_front(&r, height, &header, &commit));
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
    AMI_TRY(get_retention(a->s, a->txn, &at));
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
    AMI_TRY(get_tip(a->s, a->txn, height, &tip));
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
    AMI_TRY(begin(a->s, 0, &a->txn));
    enum ami_status status = put_batch(a, &height);
    if (status != AMI_OK) {
        end(a->s, a->txn);
        return status;
    }
    /* Writes the pages, syncs, writes the page that makes them count, and syncs. */
    status = attempt_status(a, mdb_txn_commit(a->txn));
    pthread_rwlock_unlock(&a->s->map_lock);
    if (status == AMI_OK)
        atomic_store(&a->s->height, height);
    return status;
}

enum ami_status store_write(struct store *s, const struct store_batch *b)
{
    AMI_CHECK(s->mode == STORE_READ_WRITE);
    struct checked_batch c;
    memset(&c, 0, sizeof c);
    AMI_TRY(check_batch(s, b, &c));
    for (;;) {
        struct attempt a = {.s = s, .c = &c, .map_full = false};
        /* Pages are rewritten whole: a rough upper bound, used to tell a full disk. */
        a.bytes_wanted =
            2 * (b->body.size + b->block_body.size + b->records.size) + ((size_t)1 << 20);
        if (b->prune_below != 0)
            a.bytes_wanted += AMI_BLOCK_BYTES_MAX + b->prune_bytes;
        enum ami_status status = try_batch(&a);
        if (status != AMI_FULL || !a.map_full)
            return status;
        AMI_TRY(map_grow(s));
    }
}

/* --- reading --------------------------------------------------------------------------------- */

bool store_damaged(const struct store *s)
{
    return atomic_load(&s->damaged);
}

const sm3_digest *store_chain(const struct store *s)
{
    return &s->chain;
}

uint64_t store_height(struct store *s)
{
    MDB_txn *txn;
    uint64_t height;
    sm3_digest tip;
    /* The only writer of a ledger knows. Who only reads looks, and when the look fails answers
     * with what was last seen, which is still true. */
    if (s->mode == STORE_READ_ONLY && begin(s, MDB_RDONLY, &txn) == AMI_OK) {
        if (get_tip(s, txn, &height, &tip) == AMI_OK)
            atomic_store(&s->height, height);
        end(s, txn);
    }
    return atomic_load(&s->height);
}

/* Copies a value, or a block, into the caller's buffer. */
static enum ami_status get_copy(struct store *s, int db, struct span key, uint8_t *buffer,
                                size_t buffer_size, struct span *out)
{
    MDB_txn *txn;
    struct span v = {0};
    AMI_TRY(begin(s, MDB_RDONLY, &txn));
    enum ami_status status =
        status_of(db == BLOCKS ? get_block(s, txn, db, key, &v) : get(s, txn, db, key, &v));
    if (status == AMI_OK && v.size > buffer_size)
        status = AMI_TOO_LARGE;
    if (status == AMI_OK) {
        memcpy(buffer, v.data, v.size);
        *out = span_of(buffer, v.size);
    }
    end(s, txn);
    return status;
}

enum ami_status store_block(struct store *s, uint64_t height, struct certified_block *out,
                            uint8_t *buffer, size_t buffer_size)
{
    uint8_t key[8];
    struct span v = {0};
    AMI_TRY(get_copy(s, BLOCKS, key_u64(key, height), buffer, buffer_size, &v));
    if (certified_block_parse(out, v) != AMI_OK || out->header.height != height)
        return AMI_DAMAGED;
    return AMI_OK;
}

enum ami_status store_header(struct store *s, uint64_t height, struct block_header *header,
                             struct qc *commit)
{
    MDB_txn *txn;
    uint8_t key[8];
    struct span by_height = key_u64(key, height);
    MDB_val k = {by_height.size, key}, v;
    AMI_TRY(begin(s, MDB_RDONLY, &txn));
    enum ami_status status = status_of(mdb_get(txn, s->db[BLOCKS], &k, &v));
    if (status == AMI_OK) {
        struct reader r = reader_on(span_of(v.mv_data, v.mv_size));
        status = read_front(&r, height, header, commit);
        if (status != AMI_OK || !front_is_whole(s, by_height, &v, r.at))
            status = AMI_DAMAGED;
    }
    end(s, txn);
    return status;
}

/* A number in a value of exactly its size. */
static enum ami_status get_height(struct store *s, MDB_txn *txn, const sm3_digest *block,
                                  uint64_t *height)
{
    struct span v = {0};
    AMI_TRY(status_of(get(s, txn, HASHES, span_of(block->b, SM3_BYTES), &v)));
    if (v.size != 8)
        return AMI_DAMAGED;
    *height = load_be64(v.data);
    return AMI_OK;
}

static enum ami_status get_body(struct store *s, MDB_txn *txn, const sm3_digest *block,
                                struct block_header *header, struct span *body)
{
    struct span v = {0};
    int rc = get_block(s, txn, PENDING, span_of(block->b, SM3_BYTES), &v);
    if (rc == MDB_SUCCESS) {
        struct body_reply kept;
        AMI_TRY(body_reply_parse(&kept, v) == AMI_OK ? AMI_OK : AMI_DAMAGED);
        *header = kept.header;
        *body = kept.body;
        return AMI_OK;
    }
    if (rc != MDB_NOTFOUND)
        return status_of(rc);
    uint8_t key[8];
    uint64_t height;
    struct qc commit;
    AMI_TRY(get_height(s, txn, block, &height));
    rc = get_block(s, txn, BLOCKS, key_u64(key, height), &v);
    AMI_TRY(rc == MDB_NOTFOUND ? AMI_DAMAGED : status_of(rc));
    struct reader r = reader_on(v);
    AMI_TRY(read_front(&r, height, header, &commit));
    *body = read_bytes(&r, AMI_BLOCK_BYTES_MAX);
    return reader_done(&r) ? AMI_OK : AMI_DAMAGED;
}

enum ami_status store_body(struct store *s, const sm3_digest *block, struct body_reply *out,
                           uint8_t *buffer, size_t buffer_size)
{
    MDB_txn *txn;
    struct span body;
    AMI_TRY(begin(s, MDB_RDONLY, &txn));
    enum ami_status status = get_body(s, txn, block, &out->header, &body);
    if (status == AMI_OK && body.size > buffer_size)
        status = AMI_TOO_LARGE;
    if (status == AMI_OK) {
        if (body.size != 0)
            memcpy(buffer, body.data, body.size);
        out->body = span_of(buffer, body.size);
    }
    end(s, txn);
    return status;
}

enum ami_status store_height_of(struct store *s, const sm3_digest *block, uint64_t *height)
{
    MDB_txn *txn;
    AMI_TRY(begin(s, MDB_RDONLY, &txn));
    enum ami_status status = get_height(s, txn, block, height);
    end(s, txn);
    return status;
}

static enum ami_status find_place(struct store *s, int db, struct span key, uint64_t *height,
                                  uint32_t *index)
{
    uint8_t place[PLACE_BYTES];
    struct span v = {0};
    enum ami_status status = get_copy(s, db, key, place, sizeof place, &v);
    if (status == AMI_TOO_LARGE || (status == AMI_OK && v.size != sizeof place))
        return AMI_DAMAGED;
    AMI_TRY(status);
    *height = load_be64(place);
    *index = load_be32(place + 8);
    return AMI_OK;
}

enum ami_status store_find_tx(struct store *s, const sm3_digest *id, uint64_t *height,
                              uint32_t *index)
{
    return find_place(s, TXS, span_of(id->b, SM3_BYTES), height, index);
}

enum ami_status store_find_report(struct store *s, const struct ami_id *meter, uint32_t epoch,
                                  uint64_t sequence, uint64_t *height, uint32_t *index)
{
    uint8_t key[REPORT_KEY_BYTES];
    return find_place(s, REPORTS, key_report(key, meter, epoch, sequence), height, index);
}

enum ami_status store_find_epoch(struct store *s, uint32_t epoch, uint64_t *height, uint32_t *index)
{
    uint8_t key[4];
    return find_place(s, EPOCHS, key_u32(key, epoch), height, index);
}

enum ami_status store_retention(struct store *s, struct store_retention *out)
{
    MDB_txn *txn;
    AMI_TRY(begin(s, MDB_RDONLY, &txn));
    enum ami_status status = get_retention(s, txn, out);
    end(s, txn);
    return status;
}

/* Whether the file has a database, or a value in `meta`, that is none of ours. */
static int look_for_foreign(struct store *s, MDB_txn *txn, bool *foreign)
{
    MDB_dbi names;
    MDB_stat stat_db;
    size_t ours = 0;
    int rc = mdb_dbi_open(txn, NULL, 0, &names);
    if (rc == MDB_SUCCESS)
        rc = mdb_stat(txn, names, &stat_db);
    *foreign = rc == MDB_SUCCESS && stat_db.ms_entries != DB_COUNT;
    for (size_t i = 0; rc == MDB_SUCCESS && i < META_KEYS; i++) {
        struct span v;
        rc = get(s, txn, META, meta_keys[i], &v);
        ours += rc == MDB_SUCCESS;
        if (rc == MDB_NOTFOUND)
            rc = MDB_SUCCESS;
    }
    if (rc == MDB_SUCCESS)
        rc = mdb_stat(txn, s->db[META], &stat_db);
    *foreign |= rc == MDB_SUCCESS && stat_db.ms_entries != ours;
    return rc;
}

enum ami_status store_count(struct store *s, struct store_counts *out)
{
    static const int dbs[] = {BLOCKS, HASHES, TXS, REPORTS, EPOCHS};
    uint64_t *const counts[] = {&out->blocks, &out->hashes, &out->txs, &out->reports, &out->epochs};
    MDB_txn *txn;
    sm3_digest tip;
    AMI_TRY(begin(s, MDB_RDONLY, &txn));
    enum ami_status status = get_tip(s, txn, &out->height, &tip);
    if (status == AMI_OK)
        status = get_retention(s, txn, &out->retention);
    if (status == AMI_OK)
        status = status_of(look_for_foreign(s, txn, &out->foreign));
    for (size_t i = 0; status == AMI_OK && i < sizeof dbs / sizeof dbs[0]; i++) {
        MDB_stat stat_db;
        status = status_of(mdb_stat(txn, s->db[dbs[i]], &stat_db));
        if (status == AMI_OK)
            *counts[i] = stat_db.ms_entries;
    }
    end(s, txn);
    return status;
}

/* Compares what stands under the keys with what is expected there. */
static enum ami_status compare_rows(struct store *s, MDB_txn *txn, int db, struct rows *rows,
                                    size_t *bad)
{
    store_checks(rows->check, db_names[db], rows->key, rows->value, rows->count);
    for (*bad = 0; *bad < rows->count; ++*bad) {
        const struct span key = rows->key[*bad], value = rows->value[*bad];
        MDB_val k = {key.size, (void *)(uintptr_t)key.data}, v;
        int rc = mdb_get(txn, s->db[db], &k, &v);
        if (rc != MDB_SUCCESS && rc != MDB_NOTFOUND)
            return status_of(rc);
        if (rc == MDB_NOTFOUND || v.mv_size != value.size + STORE_CHECK_BYTES ||
            memcmp(v.mv_data, value.data, value.size) != 0 ||
            memcmp((const uint8_t *)v.mv_data + value.size, rows->check[*bad], STORE_CHECK_BYTES) !=
                0)
            return AMI_DAMAGED;
    }
    return AMI_OK;
}

/* The rows of up to ROWS_MAX transactions from `it` on. */
static enum ami_status list_places(struct tx_rows *t, struct rows *epochs, struct body_reader *it,
                                   uint64_t height, uint32_t first)
{
    struct span encoded;
    struct tx_view tx;
    t->ids.count = t->reports.count = epochs->count = 0;
    while (t->ids.count < ROWS_MAX && body_next(it, &encoded)) {
        const size_t at = t->ids.count++;
        struct rows *r = &t->reports;
        AMI_TRY(tx_view_decode_kept(&tx, encoded));
        AMI_TRY(tx_parse(&t->tx[at], encoded));
        store_be64(t->place[at], height);
        store_be32(t->place[at] + 8, first + (uint32_t)at);
        const struct span where = span_of(t->place[at], PLACE_BYTES);
        t->ids.key[at] = span_of(t->id[at].b, SM3_BYTES);
        t->ids.value[at] = where;
        if (tx.tx.kind == TX_MEMBERSHIP) {
            epochs->key[epochs->count] =
                key_u32(epochs->key_bytes[epochs->count], tx.u.membership.epoch);
            epochs->value[epochs->count++] = where;
        } else if (tx.tx.kind == TX_REPORT) {
            const struct report_meter_part *m = &tx.u.report.meter;
            r->key[r->count] = key_report(r->key_bytes[r->count], &m->meter, m->epoch, m->sequence);
            r->value[r->count++] = where;
        }
    }
    return tx_ids(t->id, t->tx, t->ids.count);
}

enum ami_status store_check_places(struct store *s, uint64_t height, struct span body,
                                   uint32_t *bad, const char **index)
{
    static const char *const names[] = {"transactions", "epochs", "reports"};
    static const int dbs[] = {TXS, EPOCHS, REPORTS};
    struct tx_rows *t = malloc(sizeof *t);
    struct rows *epochs = malloc(sizeof *epochs);
    MDB_txn *txn = NULL;
    enum ami_status status = t == NULL || epochs == NULL ? AMI_NO_MEMORY : AMI_OK;
    if (status == AMI_OK)
        status = begin(s, MDB_RDONLY, &txn);
    struct body_reader it = body_reader_on(body);
    *bad = 0;
    for (uint32_t first = 0; status == AMI_OK; first += ROWS_MAX) {
        status = list_places(t, epochs, &it, height, first);
        if (status != AMI_OK || t->ids.count == 0)
            break;
        struct rows *const rows[] = {&t->ids, epochs, &t->reports};
        for (size_t i = 0; i < 3 && status == AMI_OK; i++) {
            size_t at;
            status = compare_rows(s, txn, dbs[i], rows[i], &at);
            *index = names[i];
            if (status == AMI_DAMAGED)
                *bad = load_be32(rows[i]->value[at].data + 8);
        }
    }
    if (status == AMI_OK && !body_ok(&it))
        status = AMI_BAD_ENCODING;
    if (txn != NULL)
        end(s, txn);
    free(epochs);
    free(t);
    return status;
}

enum ami_status store_vote_record(struct store *s, struct vote_record *out, uint8_t *buffer,
                                  size_t buffer_size)
{
    struct span v = {0};
    AMI_TRY(get_copy(s, META, SPAN_LITERAL(KEY_VOTE), buffer, buffer_size, &v));
    return parse_vote(out, v);
}

static enum ami_status load_records(struct store *s, struct registry *r, MDB_cursor *cursor)
{
    MDB_val k, v;
    int rc = mdb_cursor_get(cursor, &k, &v, MDB_FIRST);
    for (; rc == MDB_SUCCESS; rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) {
        struct record rec;
        struct span value = {0};
        if (open_value(s, RECORDS, span_of(k.mv_data, k.mv_size), &v, &value) != MDB_SUCCESS ||
            k.mv_size != 8 || record_parse(&rec, value) != AMI_OK)
            return AMI_DAMAGED;
        enum ami_status status = registry_load(r, load_be64(k.mv_data), &rec);
        if (status != AMI_OK)
            return status == AMI_NO_MEMORY ? status : AMI_DAMAGED;
    }
    return rc == MDB_NOTFOUND ? AMI_OK : status_of(rc);
}

enum ami_status store_load_registry(struct store *s, struct registry *r)
{
    uint64_t height;
    return store_load_registry_at(s, r, &height);
}

enum ami_status store_load_registry_at(struct store *s, struct registry *r, uint64_t *height)
{
    MDB_txn *txn;
    MDB_cursor *cursor;
    sm3_digest tip;
    AMI_TRY(begin(s, MDB_RDONLY, &txn));
    enum ami_status status = get_tip(s, txn, height, &tip);
    if (status == AMI_OK)
        status = status_of(mdb_cursor_open(txn, s->db[RECORDS], &cursor));
    if (status == AMI_OK) {
        status = load_records(s, r, cursor);
        mdb_cursor_close(cursor);
    }
    end(s, txn);
    if (status == AMI_OK)
        registry_loaded(r, *height);
    return status;
}

/* --- patrol ---------------------------------------------------------------------------------- */

_Static_assert(STORE_DATABASES == DB_COUNT, "one place for each");

/* All databases but that of kept blocks only grow. */
static int patrol_count(struct store *s, MDB_txn *txn, struct store_patrol *p)
{
    for (int i = 0; i < DB_COUNT; i++) {
        MDB_stat stat_db;
        int rc = mdb_stat(txn, s->db[i], &stat_db);
        if (rc != MDB_SUCCESS)
            return rc;
        if (i != PENDING && stat_db.ms_entries > p->most[i])
            p->most[i] = stat_db.ms_entries;
    }
    return MDB_SUCCESS;
}

/* From behind the last key on. MDB_NOTFOUND: there is nothing more in this database. */
static int patrol_values(struct store *s, MDB_cursor *cursor, struct store_patrol *p, size_t *left)
{
    MDB_val k = {p->key_size, p->key}, v;
    int rc = mdb_cursor_get(cursor, &k, &v, p->key_size == 0 ? MDB_FIRST : MDB_SET_RANGE);
    if (rc == MDB_SUCCESS && p->key_size != 0 && k.mv_size == p->key_size &&
        memcmp(k.mv_data, p->key, k.mv_size) == 0)
        rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
    for (; rc == MDB_SUCCESS; rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) {
        const struct span key = span_of(k.mv_data, k.mv_size);
        struct span value;
        if (key.size == 0 || key.size > sizeof p->key ||
            open_value(s, (int)p->db, key, &v, &value) != MDB_SUCCESS)
            return MDB_CORRUPTED;
        memcpy(p->key, key.data, key.size);
        p->key_size = key.size;
        p->seen++;
        const size_t done = key.size + v.mv_size;
        p->bytes += done;
        if (done >= *left)
            return MDB_SUCCESS;
        *left -= done;
    }
    return rc;
}

/* Goes on in the present database. MDB_NOTFOUND: it is at its end, and the next one is the present.
 */
static int patrol_db(struct store *s, MDB_txn *txn, struct store_patrol *p, size_t *left)
{
    MDB_cursor *cursor;
    if (p->seen == 0)
        p->must = p->most[p->db]; /* what comes in later may stand before the patrol's place */
    int rc = mdb_cursor_open(txn, s->db[p->db], &cursor);
    if (rc != MDB_SUCCESS)
        return rc;
    rc = patrol_values(s, cursor, p, left);
    mdb_cursor_close(cursor);
    if (rc != MDB_NOTFOUND)
        return rc;
    if (p->seen < p->must)
        return damaged(s);
    p->db++;
    p->key_size = 0;
    p->seen = 0;
    return MDB_NOTFOUND;
}

enum ami_status store_patrol_on(struct store *s, struct store_patrol *p, size_t bytes_max,
                                bool *round)
{
    MDB_txn *txn;
    size_t left = bytes_max;
    AMI_TRY(begin(s, MDB_RDONLY, &txn));
    int rc = patrol_count(s, txn, p);
    if (rc == MDB_SUCCESS)
        do
            rc = patrol_db(s, txn, p, &left);
        while (rc == MDB_NOTFOUND && p->db < DB_COUNT);
    end(s, txn);
    *round = rc == MDB_NOTFOUND;
    if (!*round)
        return status_of(rc);
    p->db = 0;
    p->bytes = 0;
    return AMI_OK;
}

/* --- opening ---------------------------------------------------------------------------------
 *
 * What LMDB takes on trust in a data file (sizes in its first pages, pages that must exist) is
 * looked at before LMDB sees it, as far as that goes without reading the whole file.
 */

struct opening {
    struct store *s;
    const sm3_digest *chain; /* NULL: any */
    char *why;
    size_t why_size;
};

#define FAIL(o, status, ...) (say((o)->why, (o)->why_size, __VA_ARGS__), (status))

static enum ami_status fail_errno(const struct opening *o, const char *what, int error)
{
    return FAIL(o, status_of(error), "%s: %s: %s", o->s->dir, what, strerror(error));
}

/* True when the directory holds nothing but what an interrupted creation can leave behind. */
static bool dir_is_ours(const char *dir)
{
    DIR *d = opendir(dir);
    bool ours = d != NULL;
    for (struct dirent *e; ours && (e = readdir(d)) != NULL;)
        ours = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
               strcmp(e->d_name, DATA_NAME) == 0 || strcmp(e->d_name, READERS_NAME) == 0 ||
               strcmp(e->d_name, LOCK_NAME) == 0;
    if (d != NULL)
        closedir(d);
    return ours;
}

/* LMDB 0.9's first pages: page header 16 bytes, then u32 magic, u32 version, address, map size,
 * then the page size in the first field of the first database. In the machine's byte order. */
static bool meta_page_plausible(const uint8_t *page, uint32_t *page_size)
{
    uint32_t magic, version, size;
    memcpy(&magic, page + 16, 4);
    memcpy(&version, page + 20, 4);
    memcpy(&size, page + 40, 4);
    *page_size = size;
    return magic == 0xBEEFC0DE && version == 1 && size >= 512 && size <= 65536 &&
           (size & (size - 1)) == 0;
}

/* *exists: there is a data file that is more than empty. */
static enum ami_status look_at_data(const struct opening *o, bool *exists)
{
    char path[4096];
    uint8_t page[64];
    uint32_t page_size, second_size;
    struct stat st;
    snprintf(path, sizeof path, "%s/" DATA_NAME, o->s->dir);
    *exists = false;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? AMI_OK : fail_errno(o, "cannot open " DATA_NAME, errno);
    enum ami_status status = AMI_OK;
    if (fstat(fd, &st) != 0)
        status = fail_errno(o, "cannot look at " DATA_NAME, errno);
    else if (st.st_size == 0)
        *exists = false;
    else if (pread(fd, page, sizeof page, 0) != sizeof page ||
             !meta_page_plausible(page, &page_size) ||
             pread(fd, page, sizeof page, page_size) != sizeof page ||
             !meta_page_plausible(page, &second_size) || second_size != page_size ||
             st.st_size < 2 * (off_t)page_size)
        status = FAIL(o, AMI_DAMAGED, "%s: " DATA_NAME " is damaged or no ledger file", o->s->dir);
    else
        *exists = true;
    close(fd);
    return status;
}

static void sync_dir(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        /* Some file systems refuse to sync a directory; LMDB's own syncs stand on their own. */
        (void)fsync(fd);
        close(fd);
    }
}

static enum ami_status make_dir(const struct opening *o)
{
    if (mkdir(o->s->dir, 0700) != 0)
        return fail_errno(o, "cannot create the directory", errno);
    char parent[4096];
    snprintf(parent, sizeof parent, "%s/..", o->s->dir);
    sync_dir(parent);
    return AMI_OK;
}

/* The right to write, kept until the file is closed (also by a crash). */
static enum ami_status lock_dir(const struct opening *o)
{
    char path[4096], pid[24] = "";
    snprintf(path, sizeof path, "%s/" LOCK_NAME, o->s->dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail_errno(o, "cannot create " LOCK_NAME, errno);
    o->s->lock_fd = fd;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK)
            return fail_errno(o, "cannot lock " LOCK_NAME, errno);
        ssize_t got = pread(fd, pid, sizeof pid - 1, 0);
        pid[got > 0 ? got : 0] = '\0';
        pid[strcspn(pid, "\n")] = '\0';
        return FAIL(o, AMI_IN_USE, "%s: another process writes to this ledger (pid %s)", o->s->dir,
                    pid[0] == '\0' ? "unknown" : pid);
    }
    /* The number serves the message above only: a full disk must not keep a node from starting. */
    int size = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) != 0 || pwrite(fd, pid, (size_t)size, 0) != size)
        (void)ftruncate(fd, 0);
    return AMI_OK;
}

/* A file that ends before its last page would raise SIGBUS in whoever reads there. */
static enum ami_status check_length(const struct opening *o)
{
    struct store *s = o->s;
    MDB_envinfo info;
    MDB_stat stat_db;
    struct stat st;
    int fd;
    mdb_env_info(s->env, &info);
    mdb_env_stat(s->env, &stat_db);
    if (mdb_env_get_fd(s->env, &fd) != MDB_SUCCESS || fstat(fd, &st) != 0)
        return fail_errno(o, "cannot look at " DATA_NAME, errno);
    uint64_t have = (uint64_t)st.st_size / stat_db.ms_psize, want = info.me_last_pgno + 1;
    if (have >= want)
        return AMI_OK;
    if (want - have > UNWRITTEN_PAGES_MAX)
        return FAIL(o, AMI_DAMAGED, "%s: " DATA_NAME " is cut off: %llu of %llu pages are there",
                    s->dir, (unsigned long long)have, (unsigned long long)want);
    if (s->mode == STORE_READ_WRITE && ftruncate(fd, (off_t)(want * stat_db.ms_psize)) != 0)
        return fail_errno(o, "cannot extend " DATA_NAME, errno);
    return AMI_OK;
}

/* LMDB maps its table of readers and writes to it as memory: on a full disk a page of that file
 * without room behind it would kill the process. Asks for the room first. Not while an environment
 * of this process is open (closing a file drops the process's locks on it). */
static enum ami_status reserve_readers(const struct opening *o)
{
    char path[4096];
    struct stat st;
    snprintf(path, sizeof path, "%s/" READERS_NAME, o->s->dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) /* a medium or directory that is read only: LMDB decides */
        return o->s->mode == STORE_READ_ONLY ? AMI_OK
                                             : fail_errno(o, "cannot create " READERS_NAME, errno);
    off_t bytes = fstat(fd, &st) == 0 && st.st_size > READERS_BYTES ? st.st_size : READERS_BYTES;
    int error = fallocate(fd, 0, 0, bytes) == 0 ? 0 : errno;
    close(fd);
    if (error == 0 || error == EOPNOTSUPP)
        return AMI_OK;
    return fail_errno(o, "no room for " READERS_NAME, error);
}

static enum ami_status open_env(const struct opening *o)
{
    struct store *s = o->s;
    unsigned flags = MDB_NOTLS | (s->mode == STORE_READ_ONLY ? MDB_RDONLY : 0);
    AMI_TRY(reserve_readers(o));
    int rc = mdb_env_create(&s->env);
    if (rc == MDB_SUCCESS)
        rc = mdb_env_set_maxdbs(s->env, DB_COUNT);
    if (rc == MDB_SUCCESS)
        rc = mdb_env_open(s->env, s->dir, flags, 0600);
    if (rc != MDB_SUCCESS)
        return FAIL(o, status_of(rc), "%s: cannot open the ledger: %s", s->dir, mdb_strerror(rc));
    AMI_TRY(check_length(o));
    if (s->mode == STORE_READ_ONLY)
        return AMI_OK;
    /* Readers that were killed no longer keep old pages from being used again. */
    int stale = 0;
    (void)mdb_reader_check(s->env, &stale);
    MDB_envinfo info;
    mdb_env_info(s->env, &info);
    size_t bytes = info.me_mapsize > MAP_BYTES_FIRST ? info.me_mapsize : MAP_BYTES_FIRST;
    if (s->map_bytes_max != 0 && bytes > s->map_bytes_max)
        bytes = s->map_bytes_max; /* LMDB keeps what is in use */
    rc = mdb_env_set_mapsize(s->env, bytes);
    if (rc != MDB_SUCCESS)
        return FAIL(o, status_of(rc), "%s: cannot map %zu bytes: %s", s->dir, bytes,
                    mdb_strerror(rc));
    return AMI_OK;
}

/* The names of the sub-databases are keys of the unnamed one; it is empty in a new file. */
static int count_dbs(MDB_txn *txn, size_t *count)
{
    MDB_dbi main_db;
    MDB_stat stat_db;
    int rc = mdb_dbi_open(txn, NULL, 0, &main_db);
    if (rc == MDB_SUCCESS)
        rc = mdb_stat(txn, main_db, &stat_db);
    if (rc == MDB_SUCCESS)
        *count = stat_db.ms_entries;
    return rc;
}

static int open_dbs(struct store *s, MDB_txn *txn, unsigned flags)
{
    int rc = MDB_SUCCESS;
    for (int i = 0; rc == MDB_SUCCESS && i < DB_COUNT; i++)
        rc = mdb_dbi_open(txn, db_names[i], flags, &s->db[i]);
    return rc;
}

/* In one transaction: a ledger has all of its parts or none. */
static int create_dbs(struct store *s, MDB_txn *txn)
{
    int rc = open_dbs(s, txn, MDB_CREATE);
    if (rc == MDB_SUCCESS)
        rc = put_value(s, txn, META, SPAN_LITERAL(KEY_FORMAT), SPAN_LITERAL(format_text),
                       span_of(NULL, 0), 0);
    if (rc == MDB_SUCCESS)
        rc = put_value(s, txn, META, SPAN_LITERAL(KEY_CHAIN), span_of(s->chain.b, SM3_BYTES),
                       span_of(NULL, 0), 0);
    return rc;
}

static enum ami_status check_identity(const struct opening *o, MDB_txn *txn)
{
    struct store *s = o->s;
    struct span v = {0};
    int rc = open_dbs(s, txn, 0);
    if (rc == MDB_NOTFOUND || rc == MDB_INCOMPATIBLE)
        return FAIL(o, AMI_DAMAGED, "%s: " DATA_NAME " belongs to another program", s->dir);
    if (rc != MDB_SUCCESS)
        return FAIL(o, status_of(rc), "%s: %s", s->dir, mdb_strerror(rc));
    MDB_val k = {sizeof KEY_FORMAT - 1, KEY_FORMAT}, raw;
    if (mdb_get(txn, s->db[META], &k, &raw) == MDB_SUCCESS &&
        store_format_is_other(span_of(raw.mv_data, raw.mv_size)))
        return FAIL(o, AMI_UNSUPPORTED,
                    "%s: the ledger is of another version's format; this program reads \"%s\"",
                    s->dir, format_text);
    if (get(s, txn, META, SPAN_LITERAL(KEY_FORMAT), &v) != MDB_SUCCESS || !store_format_known(v))
        return FAIL(o, AMI_DAMAGED, "%s: the ledger's format is not \"%s\"", s->dir, format_text);
    if (get(s, txn, META, SPAN_LITERAL(KEY_CHAIN), &v) != MDB_SUCCESS || v.size != SM3_BYTES)
        return FAIL(o, AMI_DAMAGED, "%s: the ledger does not name its chain", s->dir);
    memcpy(s->chain.b, v.data, SM3_BYTES);
    if (o->chain != NULL && memcmp(s->chain.b, o->chain->b, SM3_BYTES) != 0)
        return FAIL(o, AMI_WRONG_CHAIN,
                    "%s: the ledger is of another chain (of another genesis file)", s->dir);
    return AMI_OK;
}

/* The last block is where and what the tip says, and nothing stands behind it. */
static enum ami_status check_tip(const struct opening *o, MDB_txn *txn)
{
    struct store *s = o->s;
    uint64_t height;
    sm3_digest tip;
    MDB_cursor *cursor;
    MDB_val k, v;
    enum ami_status status = get_tip(s, txn, &height, &tip);
    if (status == AMI_OK)
        status = status_of(mdb_cursor_open(txn, s->db[BLOCKS], &cursor));
    if (status == AMI_OK) {
        int rc = mdb_cursor_get(cursor, &k, &v, MDB_LAST);
        if (rc == MDB_NOTFOUND && height == 0) {
            status = AMI_OK;
        } else if (rc == MDB_SUCCESS && k.mv_size == 8 && load_be64(k.mv_data) == height) {
            struct block_header header;
            struct qc commit;
            struct span value = {0};
            (void)open_value(s, BLOCKS, span_of(k.mv_data, 8), &v, &value); /* or an empty one */
            struct reader r = reader_on(value);
            status = read_front(&r, height, &header, &commit);
            sm3_digest hash = status == AMI_OK ? block_hash(&header) : tip;
            if (memcmp(hash.b, tip.b, sizeof tip.b) != 0)
                status = AMI_DAMAGED;
        } else {
            status = rc == MDB_SUCCESS || rc == MDB_NOTFOUND ? AMI_DAMAGED : status_of(rc);
        }
        mdb_cursor_close(cursor);
    }
    if (status != AMI_OK)
        return FAIL(o, status, "%s: the ledger's last block: %s", s->dir, ami_status_text(status));
    atomic_store(&s->height, height);
    return AMI_OK;
}

/* Inside the first transaction: creates or checks. */
static enum ami_status create_or_check(const struct opening *o, MDB_txn *txn)
{
    struct store *s = o->s;
    size_t dbs = 0;
    int rc = count_dbs(txn, &dbs);
    if (rc == MDB_SUCCESS && dbs == 0 && s->mode == STORE_READ_ONLY)
        return FAIL(o, AMI_NOT_FOUND, "%s: there is no ledger here yet", s->dir);
    if (rc == MDB_SUCCESS && dbs == 0) {
        s->chain = *o->chain;
        rc = create_dbs(s, txn);
    }
    if (rc != MDB_SUCCESS)
        return FAIL(o, write_status_of(s, rc, MAP_BYTES_MIN), "%s: cannot open the ledger: %s",
                    s->dir, mdb_strerror(rc));
    if (dbs == 0)
        return AMI_OK;
    AMI_TRY(check_identity(o, txn));
    return check_tip(o, txn);
}

static enum ami_status open_ledger(const struct opening *o)
{
    struct store *s = o->s;
    MDB_txn *txn;
    enum ami_status status = begin(s, s->mode == STORE_READ_ONLY ? MDB_RDONLY : 0, &txn);
    if (status != AMI_OK)
        return FAIL(o, status, "%s: cannot open the ledger: %s", s->dir, ami_status_text(status));
    status = create_or_check(o, txn);
    if (status != AMI_OK) {
        end(s, txn);
        return status;
    }
    /* Only a commit keeps the handles of the sub-databases, also when nothing was written. */
    int rc = mdb_txn_commit(txn);
    pthread_rwlock_unlock(&s->map_lock);
    if (rc != MDB_SUCCESS)
        return FAIL(o, write_status_of(s, rc, MAP_BYTES_MIN), "%s: cannot create the ledger: %s",
                    s->dir, mdb_strerror(rc));
    return AMI_OK;
}

static enum ami_status open_steps(const struct opening *o)
{
    struct store *s = o->s;
    struct stat st;
    bool exists;
    if (stat(s->dir, &st) != 0) {
        if (errno != ENOENT)
            return fail_errno(o, "cannot look at the directory", errno);
        if (s->mode == STORE_READ_ONLY)
            return FAIL(o, AMI_NOT_FOUND, "%s: there is no such directory", s->dir);
        AMI_TRY(make_dir(o));
    } else if (!S_ISDIR(st.st_mode)) {
        return FAIL(o, AMI_IO, "%s: not a directory", s->dir);
    }
    if (s->mode == STORE_READ_WRITE) {
        AMI_TRY(look_at_data(o, &exists));
        if (!exists && !dir_is_ours(s->dir))
            return FAIL(o, AMI_EXISTS,
                        "%s: the directory holds other files but no ledger; give an empty one",
                        s->dir);
        AMI_TRY(lock_dir(o));
    }
    /* For who writes: again, now that nobody else does. */
    AMI_TRY(look_at_data(o, &exists));
    if (!exists && s->mode == STORE_READ_ONLY)
        return FAIL(o, AMI_NOT_FOUND, "%s: there is no ledger here", s->dir);
    enum ami_status status = open_env(o);
    if (status == AMI_OK)
        status = open_ledger(o);
    if (!exists && status == AMI_OK)
        sync_dir(s->dir);
    if (!exists && status != AMI_OK) { /* what was begun would look like damage */
        char path[4096];
        snprintf(path, sizeof path, "%s/" DATA_NAME, s->dir);
        (void)unlink(path);
    }
    return status;
}

enum ami_status store_open(struct store **out, const char *dir, const sm3_digest *chain,
                           enum store_mode mode, uint64_t map_bytes, char *why, size_t why_size)
{
    *out = NULL;
    AMI_CHECK(chain != NULL || mode == STORE_READ_ONLY);
    if ((map_bytes != 0 && map_bytes < MAP_BYTES_MIN) || map_bytes > SIZE_MAX / 2 ||
        strlen(dir) > 4000) {
        say(why, why_size, "%s: the greatest size must be at least %zu bytes", dir, MAP_BYTES_MIN);
        return AMI_BAD_ARGUMENT;
    }
    struct store *s = calloc(1, sizeof *s);
    if (s == NULL || (s->dir = strdup(dir)) == NULL || pthread_rwlock_init(&s->map_lock, NULL)) {
        say(why, why_size, "%s: out of memory", dir);
        if (s != NULL)
            free(s->dir);
        free(s);
        return AMI_NO_MEMORY;
    }
    s->mode = mode;
    s->map_bytes_max = (size_t)map_bytes & ~PAGE_ALIGN;
    s->lock_fd = -1;
    const struct opening o = {s, chain, why, why_size};
    enum ami_status status = open_steps(&o);
    if (status != AMI_OK) {
        store_close(s);
        return status;
    }
    *out = s;
    return AMI_OK;
}

void store_close(struct store *s)
{
    if (s == NULL)
        return;
    if (s->env != NULL)
        mdb_env_close(s->env);
    if (s->lock_fd >= 0)
        close(s->lock_fd); /* and with it the lock */
    pthread_rwlock_destroy(&s->map_lock);
    free(s->dir);
    free(s);
}

/* --- copying ---------------------------------------------------------------------------------- */

/* So much goes into one write of a copy. */
#define COPY_WRITE_BYTES ((size_t)16 << 20)

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
        return db != PENDING;
    if (span_equal(key, SPAN_LITERAL(KEY_VOTE)) || span_equal(key, SPAN_LITERAL(KEY_WRITE)))
        return false;
    for (size_t i = 0; i < META_KEYS; i++)
        if (span_equal(key, meta_keys[i]))
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

/* Which write this is, as the checker wants it; no vote record was ever in this file. */
static int copy_end(struct copying *c)
{
    uint8_t of_writes[16] = {0};
    store_be64(of_writes, mdb_txn_id(c->write));
    int rc = put_value(c->to, c->write, META, SPAN_LITERAL(KEY_WRITE),
                       span_of(of_writes, sizeof of_writes), span_of(NULL, 0), 0);
    if (rc != MDB_SUCCESS)
        return rc;
    rc = mdb_txn_commit(c->write);
    c->write = NULL;
    return rc == MDB_SUCCESS ? mdb_env_sync(c->to->env, 1) : rc;
}

static enum ami_status copy_all(struct copying *c)
{
    MDB_envinfo info;
    MDB_stat stat_db;
    mdb_env_info(c->from->env, &info);
    mdb_env_stat(c->from->env, &stat_db);
    c->total = (uint64_t)(info.me_last_pgno + 1) * stat_db.ms_psize;
    /* In order, values take no more room than they do there. */
    int rc = mdb_env_set_mapsize(c->to->env, (size_t)c->total + MAP_BYTES_FIRST);
    if (rc == MDB_SUCCESS)
        rc = mdb_env_set_flags(c->to->env, MDB_NOSYNC, 1); /* copy_end syncs */
    if (rc == MDB_SUCCESS)
        rc = mdb_txn_begin(c->to->env, NULL, 0, &c->write);
    for (int db = 0; rc == MDB_SUCCESS && db < DB_COUNT; db++)
        if (db != META)
            rc = copy_db(c, db);
    if (rc == MDB_SUCCESS)
        rc = copy_db(c, META); /* last: without its tip this is no ledger */
    if (rc == MDB_SUCCESS)
        rc = copy_end(c);
    if (c->write != NULL)
        mdb_txn_abort(c->write);
    return write_status_of(c->to, rc, MAP_BYTES_MIN);
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
        say(why, why_size, "%s: there is a ledger already", dir);
        return AMI_EXISTS;
    }
    AMI_TRY(store_open(&c.to, dir, &s->chain, STORE_READ_WRITE, 0, why, why_size));
    enum ami_status status = begin(s, MDB_RDONLY, &c.read);
    if (status == AMI_OK) {
        status = get_tip(s, c.read, height, &tip);
        if (status == AMI_OK)
            status = copy_all(&c);
        end(s, c.read);
    }
    if (status != AMI_OK)
        say(why, why_size, "%s: cannot be copied to %s: %s", s->dir, dir, ami_status_text(status));
    store_close(c.to);
    return status;
}
