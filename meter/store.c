#include "meter/store.h"

#include "base/check.h"
#include "client/lmdb.h"
#include "crypto/secret.h"
#include "net/file.h"

#include <errno.h>
#include <limits.h>
#include <lmdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum table { T_META, T_KEYS, T_PENDING, T_STATE, T_SOURCES, T_REPORTS, T_OUTBOX, TABLES };
static const char *const table_names[TABLES] = {"meta",    "keys",    "pending", "state",
                                                "sources", "reports", "outbox"};

#define FORMAT_VERSION 2
#define META_BYTES     (1 + 2 * SM3_BYTES)
/* name, zero, epoch, digest */
#define KEY_BYTES_MAX (AMI_ID_BYTES_MAX + 1 + 4 + SM3_BYTES)
#define STATE_BYTES   32
#define COUNT_BYTES   2 /* a number of readings: before a record, and alone in the outbox */
/* Old reports that one settling deletes at most: more than one, to catch up; few, because
 * --keep-reports may have been a million before. */
#define TRIM_MAX 16

struct meter_store {
    MDB_env *env;
    MDB_dbi table[TABLES];
    MDB_txn *reader; /* reset between calls */
    char path[PATH_MAX];
    int lock_fd; /* -1: reading only */
};

/* --- errors ---------------------------------------------------------------------------------- */

static enum ami_status fail(const struct meter_store *s, int rc, struct why *why)
{
    if (lmdb_status(rc) != AMI_DAMAGED)
        return lmdb_fail(s->path, rc, why);
    return why_set(why, AMI_DAMAGED,
                   "%s: the file is damaged (%s); restore it from a copy, or enrol the meters anew "
                   "in another directory",
                   s->path, mdb_strerror(rc));
}

/* --- keys and small records ------------------------------------------------------------------ */

struct key {
    size_t size;
    uint8_t b[KEY_BYTES_MAX];
};

static struct key key_of(const struct ami_id *name)
{
    struct key k;
    struct writer w = writer_on(k.b, sizeof k.b);
    write_raw(&w, name->text, name->size);
    write_u8(&w, 0); /* no name holds it: a shorter name comes before a longer one */
    k.size = w.size;
    return k;
}

static void key_add(struct key *k, const void *data, size_t size)
{
    AMI_CHECK(k->size + size <= sizeof k->b);
    memcpy(k->b + k->size, data, size);
    k->size += size;
}

/* In the table "meta". */
static struct key epoch_key(uint32_t epoch)
{
    struct key k = {.size = 5};
    uint8_t b[4];
    memcpy(k.b, "epoch", 5);
    store_be32(b, epoch);
    key_add(&k, b, sizeof b);
    return k;
}

static struct key key_epoch(const struct ami_id *name, uint32_t epoch)
{
    struct key k = key_of(name);
    uint8_t b[4];
    store_be32(b, epoch);
    key_add(&k, b, sizeof b);
    return k;
}

static struct key key_report(const struct ami_id *name, uint32_t epoch, uint64_t sequence)
{
    struct key k = key_epoch(name, epoch);
    uint8_t b[8];
    store_be64(b, sequence);
    key_add(&k, b, sizeof b);
    return k;
}

static struct key key_source(const struct ami_id *name, uint32_t epoch, const sm3_digest *source)
{
    struct key k = key_epoch(name, epoch);
    key_add(&k, source->b, sizeof source->b);
    return k;
}

static bool key_report_parse(struct meter_stored_report *out, const MDB_val *key)
{
    const uint8_t *b = key->mv_data;
    size_t size = strnlen((const char *)b, key->mv_size);
    if (key->mv_size != size + 1 + 4 + 8 || ami_id_set(&out->name, (const char *)b, size) != AMI_OK)
        return false;
    out->epoch = load_be32(b + size + 1);
    out->sequence = load_be64(b + size + 5);
    return true;
}

static MDB_val val(const void *data, size_t size)
{
    return (MDB_val){size, (void *)(uintptr_t)data};
}

static MDB_val key_val(const struct key *k)
{
    return val(k->b, k->size);
}

static void state_encode(uint8_t out[STATE_BYTES], const struct meter_state *s)
{
    store_be64(out, s->next_sequence);
    store_be64(out + 8, s->reports);
    store_be64(out + 16, s->readings);
    store_be64(out + 24, s->profile_next);
}

static bool state_parse(struct meter_state *out, const MDB_val *v)
{
    if (v->mv_size != STATE_BYTES)
        return false;
    const uint8_t *b = v->mv_data;
    out->next_sequence = load_be64(b);
    out->reports = load_be64(b + 8);
    out->readings = load_be64(b + 16);
    out->profile_next = load_be64(b + 24);
    return out->next_sequence >= 1;
}

/* --- opening --------------------------------------------------------------------------------- */

static int open_tables(struct meter_store *s, bool create)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(s->env, NULL, create ? 0 : MDB_RDONLY, &txn);
    if (rc != 0)
        return rc;
    for (int i = 0; i < TABLES && rc == 0; i++)
        rc = mdb_dbi_open(txn, table_names[i], create ? MDB_CREATE : 0, &s->table[i]);
    if (rc != 0) {
        mdb_txn_abort(txn);
        return rc;
    }
    return mdb_txn_commit(txn);
}

static int meta_read(struct meter_store *s, uint8_t out[META_BYTES])
{
    MDB_txn *txn;
    MDB_val key = val("chain", 5), v;
    int rc = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &txn);
    if (rc != 0)
        return rc;
    rc = mdb_get(txn, s->table[T_META], &key, &v);
    if (rc == 0 && v.mv_size != META_BYTES)
        rc = MDB_CORRUPTED;
    if (rc == 0)
        memcpy(out, v.mv_data, META_BYTES);
    mdb_txn_abort(txn);
    return rc;
}

static int meta_write(struct meter_store *s, const uint8_t meta[META_BYTES])
{
    MDB_txn *txn;
    MDB_val key = val("chain", 5), v = val(meta, META_BYTES);
    int rc = mdb_txn_begin(s->env, NULL, 0, &txn);
    if (rc != 0)
        return rc;
    rc = mdb_put(txn, s->table[T_META], &key, &v, MDB_NOOVERWRITE);
    if (rc != 0) {
        mdb_txn_abort(txn);
        return rc;
    }
    return mdb_txn_commit(txn);
}

/* The directory belongs to one chain for ever. */
static enum ami_status bind(struct meter_store *s, bool create, const sm3_digest *network,
                            const sm3_digest *chain, struct why *why)
{
    uint8_t meta[META_BYTES], wanted[META_BYTES];
    int rc = meta_read(s, meta);
    if (network != NULL && chain != NULL) {
        wanted[0] = FORMAT_VERSION;
        memcpy(wanted + 1, network->b, SM3_BYTES);
        memcpy(wanted + 1 + SM3_BYTES, chain->b, SM3_BYTES);
        if (rc == MDB_NOTFOUND && create) {
            rc = meta_write(s, wanted);
            memcpy(meta, wanted, sizeof meta);
        }
    }
    if (rc == MDB_NOTFOUND)
        return why_set(why, AMI_DAMAGED, "%s: it holds no meters of this project", s->path);
    if (rc != 0)
        return fail(s, rc, why);
    if (meta[0] != FORMAT_VERSION)
        return why_set(why, AMI_BAD_VERSION, "%s: written in format %u, this program reads %d",
                       s->path, (unsigned)meta[0], FORMAT_VERSION);
    if (chain == NULL || memcmp(meta, wanted, sizeof meta) == 0)
        return AMI_OK;
    char found[2 * SM3_BYTES + 1], given[2 * SM3_BYTES + 1];
    hex_encode(found, meta + 1 + SM3_BYTES, SM3_BYTES);
    hex_encode(given, chain->b, SM3_BYTES);
    return why_set(why, AMI_WRONG_CHAIN,
                   "%s: its meters belong to chain %.16s..., the genesis file is of chain "
                   "%.16s...; give the genesis file that they were enrolled with",
                   s->path, found, given);
}

static enum ami_status check_file(const struct meter_store *s, const char *dir,
                                  enum meter_store_mode mode, struct why *why)
{
    struct stat st;
    if (stat(s->path, &st) != 0) {
        if (errno == ENOENT && mode == METER_STORE_CREATE)
            return AMI_OK;
        if (errno == ENOENT)
            return why_set(why, AMI_NOT_FOUND,
                           "%s: no meter is enrolled here; `ami-meter enrol --dir %s` does it", dir,
                           dir);
        return why_set(why, why_status_of_errno(errno), "%s: %s", s->path, strerror(errno));
    }
    /* LMDB would take an empty file for a new one, and lose that something is missing. */
    if (st.st_size == 0 && mode != METER_STORE_CREATE)
        return why_set(why, AMI_DAMAGED,
                       "%s: the file is empty; restore it from a copy, or enrol the meters anew "
                       "in another directory",
                       s->path);
    return AMI_OK;
}

enum ami_status meter_store_open(struct meter_store **out, const char *dir,
                                 enum meter_store_mode mode, const sm3_digest *network,
                                 const sm3_digest *chain, uint64_t map_bytes, struct why *why)
{
    struct meter_store *s = calloc(1, sizeof *s);
    if (s == NULL)
        return why_set(why, AMI_NO_MEMORY, "out of memory");
    s->lock_fd = -1;
    enum ami_status status = path_join(s->path, sizeof s->path, dir, "meters.mdb", why);
    if (status == AMI_OK)
        status = check_file(s, dir, mode, why);
    if (status == AMI_OK && mode == METER_STORE_CREATE)
        status = directory_make(dir, 0700, why);
    if (status == AMI_OK && mode != METER_STORE_READ)
        status = directory_lock(dir, &s->lock_fd, why);
    if (status != AMI_OK) {
        meter_store_close(s);
        return status;
    }
    int rc = mdb_env_create(&s->env);
    if (rc == 0)
        rc = mdb_env_set_mapsize(s->env, map_bytes == 0 ? METER_STORE_MAP_BYTES : map_bytes);
    if (rc == 0)
        rc = mdb_env_set_maxdbs(s->env, TABLES);
    /* Readers are not tied to threads: the loop reads, the storage thread writes. */
    if (rc == 0)
        rc = mdb_env_open(s->env, s->path,
                          MDB_NOSUBDIR | MDB_NOTLS | (mode == METER_STORE_READ ? MDB_RDONLY : 0),
                          0600);
    int dead;
    if (rc == 0 && mode != METER_STORE_READ)
        rc = mdb_reader_check(s->env, &dead);
    if (rc == 0)
        rc = open_tables(s, mode == METER_STORE_CREATE);
    if (rc == MDB_NOTFOUND)
        status = why_set(why, AMI_DAMAGED, "%s: it holds no meters of this project", s->path);
    else if (rc != 0)
        status = fail(s, rc, why);
    else
        status = bind(s, mode == METER_STORE_CREATE, network, chain, why);
    if (status != AMI_OK) {
        meter_store_close(s);
        return status;
    }
    *out = s;
    return AMI_OK;
}

void meter_store_close(struct meter_store *s)
{
    if (s == NULL)
        return;
    if (s->reader != NULL)
        mdb_txn_abort(s->reader);
    if (s->env != NULL)
        mdb_env_close(s->env);
    if (s->lock_fd >= 0)
        directory_unlock(s->lock_fd);
    free(s);
}

/* --- writing --------------------------------------------------------------------------------- */

static int put(struct meter_store *s, MDB_txn *txn, enum table table, const struct key *key,
               const void *data, size_t size)
{
    MDB_val k = key_val(key), v = val(data, size);
    return mdb_put(txn, s->table[table], &k, &v, 0);
}

static int put_state(struct meter_store *s, MDB_txn *txn, const struct meter_op *op)
{
    struct key key = key_epoch(op->name, op->epoch);
    uint8_t bytes[STATE_BYTES];
    state_encode(bytes, &op->state);
    return put(s, txn, T_STATE, &key, bytes, sizeof bytes);
}

static int apply_report(struct meter_store *s, MDB_txn *txn, const struct meter_op *op)
{
    struct key key = key_report(op->name, op->epoch, op->sequence);
    MDB_val k = key_val(&key), v = {COUNT_BYTES + op->record.size, NULL};
    uint8_t readings[COUNT_BYTES];
    /* A number serves once: an entry that is there already must not change. */
    int rc = mdb_put(txn, s->table[T_REPORTS], &k, &v, MDB_NOOVERWRITE | MDB_RESERVE);
    store_be16(readings, op->readings);
    if (rc == 0) {
        memcpy(v.mv_data, readings, sizeof readings);
        memcpy((uint8_t *)v.mv_data + COUNT_BYTES, op->record.data, op->record.size);
        rc = put(s, txn, T_OUTBOX, &key, readings, sizeof readings);
    }
    if (rc == 0)
        rc = put_state(s, txn, op);
    if (rc == 0 && op->source != NULL) {
        struct key source = key_source(op->name, op->epoch, op->source);
        uint8_t row[8];
        store_be64(row, op->source_row);
        rc = put(s, txn, T_SOURCES, &source, row, sizeof row);
    }
    return rc;
}

/* Deletes this key's oldest reports up to the one that is `keep` before the settled one.
 * Acknowledgements come in any order, so it ends at the first report that still waits for its own;
 * what stands behind that one goes when a later settling comes by. */
static int trim(struct meter_store *s, MDB_txn *txn, const struct meter_op *op)
{
    const struct key first = key_report(op->name, op->epoch, 0);
    const struct key last = key_report(op->name, op->epoch, op->sequence - op->keep);
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(txn, s->table[T_REPORTS], &cursor);
    if (rc != 0)
        return rc;
    for (int i = 0; i < TRIM_MAX && rc == 0; i++) {
        MDB_val k = key_val(&first), v;
        rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
        if (rc != 0 || k.mv_size != last.size || memcmp(k.mv_data, last.b, last.size) > 0)
            break;
        rc = mdb_get(txn, s->table[T_OUTBOX], &k, &v);
        if (rc == 0)
            break;
        if (rc == MDB_NOTFOUND)
            rc = mdb_cursor_del(cursor, 0);
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int apply_settle(struct meter_store *s, MDB_txn *txn, struct meter_op *op)
{
    struct key key = key_report(op->name, op->epoch, op->sequence);
    MDB_val k = key_val(&key), v;
    int rc = mdb_get(txn, s->table[T_OUTBOX], &k, &v);
    if (rc != 0)
        return rc == MDB_NOTFOUND ? MDB_CORRUPTED : rc;
    if (v.mv_size != COUNT_BYTES)
        return MDB_CORRUPTED;
    op->readings = load_be16(v.mv_data);
    rc = mdb_del(txn, s->table[T_OUTBOX], &k, NULL);
    return rc == 0 && op->keep != 0 && op->sequence > op->keep ? trim(s, txn, op) : rc;
}

static int apply_keys(struct meter_store *s, MDB_txn *txn, const struct meter_op *op)
{
    struct key key = key_of(op->name);
    MDB_val k = key_val(&key);
    int rc = put(s, txn, T_KEYS, &key, op->record.data, op->record.size);
    if (rc == 0)
        rc = put_state(s, txn, op);
    if (rc == 0)
        rc = mdb_del(txn, s->table[T_PENDING], &k, NULL);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int apply_one(struct meter_store *s, MDB_txn *txn, struct meter_op *op)
{
    struct key key;
    switch (op->kind) {
    case METER_OP_REPORT:
        return apply_report(s, txn, op);
    case METER_OP_SETTLE:
        return apply_settle(s, txn, op);
    case METER_OP_PENDING:
        key = key_of(op->name);
        return put(s, txn, T_PENDING, &key, op->record.data, op->record.size);
    case METER_OP_KEYS:
        return apply_keys(s, txn, op);
    case METER_OP_EPOCH:
        key = epoch_key(op->epoch);
        return put(s, txn, T_META, &key, op->record.data, op->record.size);
    }
    return EINVAL;
}

enum ami_status meter_store_apply(struct meter_store *s, struct meter_op *ops, size_t count,
                                  struct why *why)
{
    AMI_CHECK(s->lock_fd >= 0);
    MDB_txn *txn;
    int rc = mdb_txn_begin(s->env, NULL, 0, &txn);
    if (rc != 0)
        return fail(s, rc, why);
    for (size_t i = 0; i < count && rc == 0; i++)
        rc = apply_one(s, txn, &ops[i]);
    if (rc != 0) {
        mdb_txn_abort(txn);
        return fail(s, rc, why);
    }
    rc = mdb_txn_commit(txn); /* synced */
    return rc == 0 ? AMI_OK : fail(s, rc, why);
}

/* --- reading --------------------------------------------------------------------------------- */

static int read_begin(struct meter_store *s)
{
    if (s->reader == NULL)
        return mdb_txn_begin(s->env, NULL, MDB_RDONLY, &s->reader);
    return mdb_txn_renew(s->reader);
}

static void read_end(struct meter_store *s)
{
    mdb_txn_reset(s->reader);
}

static enum ami_status get_copy(struct meter_store *s, enum table table, const struct key *key,
                                uint8_t *out, size_t capacity, size_t *size)
{
    MDB_val k = key_val(key), v;
    int rc = read_begin(s);
    if (rc != 0)
        return lmdb_status(rc);
    rc = mdb_get(s->reader, s->table[table], &k, &v);
    if (rc == 0 && v.mv_size > capacity)
        rc = MDB_CORRUPTED;
    if (rc == 0) {
        memcpy(out, v.mv_data, v.mv_size);
        *size = v.mv_size;
    }
    read_end(s);
    return lmdb_status(rc);
}

enum ami_status meter_store_keys(struct meter_store *s, const struct ami_id *name, uint8_t *out,
                                 size_t capacity, size_t *size)
{
    struct key key = key_of(name);
    return get_copy(s, T_KEYS, &key, out, capacity, size);
}

enum ami_status meter_store_epoch(struct meter_store *s, uint32_t epoch, uint8_t *out,
                                  size_t capacity, size_t *size)
{
    struct key key = epoch_key(epoch);
    return get_copy(s, T_META, &key, out, capacity, size);
}

enum ami_status meter_store_committees(struct meter_store *s, struct headers *h)
{
    enum ami_status status = AMI_OK;
    uint8_t *bytes = malloc(METER_EPOCH_BYTES_MAX);
    struct membership_proof *proof = malloc(sizeof *proof);
    if (bytes == NULL || proof == NULL)
        status = AMI_NO_MEMORY;
    while (status == AMI_OK) {
        size_t size;
        status = meter_store_epoch(s, h->newest + 1, bytes, METER_EPOCH_BYTES_MAX, &size);
        if (status == AMI_OK && (membership_proof_parse(proof, span_of(bytes, size)) != AMI_OK ||
                                 headers_advance(h, proof) != AMI_OK))
            status = AMI_DAMAGED;
    }
    free(proof);
    free(bytes);
    return status == AMI_NOT_FOUND ? AMI_OK : status;
}

enum ami_status meter_store_pending(struct meter_store *s, const struct ami_id *name, uint8_t *out,
                                    size_t capacity, size_t *size)
{
    struct key key = key_of(name);
    return get_copy(s, T_PENDING, &key, out, capacity, size);
}

enum ami_status meter_store_state(struct meter_store *s, const struct ami_id *name, uint32_t epoch,
                                  struct meter_state *out)
{
    struct key key = key_epoch(name, epoch);
    uint8_t bytes[STATE_BYTES];
    size_t size = 0;
    AMI_TRY(get_copy(s, T_STATE, &key, bytes, sizeof bytes, &size));
    MDB_val v = val(bytes, size);
    return state_parse(out, &v) ? AMI_OK : AMI_DAMAGED;
}

enum ami_status meter_store_source(struct meter_store *s, const struct ami_id *name, uint32_t epoch,
                                   const sm3_digest *source, uint64_t *row)
{
    uint8_t bytes[8];
    size_t size = 0;
    enum ami_status status = AMI_NOT_FOUND;
    *row = 0;
    for (; epoch > 0 && status == AMI_NOT_FOUND; epoch--) {
        struct key key = key_source(name, epoch, source);
        status = get_copy(s, T_SOURCES, &key, bytes, sizeof bytes, &size);
    }
    if (status == AMI_NOT_FOUND)
        return AMI_OK;
    if (status == AMI_OK && size != sizeof bytes)
        status = AMI_DAMAGED;
    if (status == AMI_OK)
        *row = load_be64(bytes);
    return status;
}

enum ami_status meter_store_each_keys(struct meter_store *s,
                                      bool (*each)(void *ctx, const struct ami_id *name,
                                                   struct span key_file),
                                      void *ctx)
{
    MDB_txn *txn;
    MDB_cursor *cursor;
    MDB_val k, v;
    int rc = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &txn);
    if (rc != 0)
        return lmdb_status(rc);
    rc = mdb_cursor_open(txn, s->table[T_KEYS], &cursor);
    if (rc == 0) {
        bool go = true;
        rc = mdb_cursor_get(cursor, &k, &v, MDB_FIRST);
        while (rc == 0 && go) {
            struct ami_id name;
            if (k.mv_size < 2 || ami_id_set(&name, k.mv_data, k.mv_size - 1) != AMI_OK) {
                rc = MDB_CORRUPTED;
                break;
            }
            go = each(ctx, &name, span_of(v.mv_data, v.mv_size));
            rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
        }
        mdb_cursor_close(cursor);
    }
    mdb_txn_abort(txn);
    return rc == MDB_NOTFOUND ? AMI_OK : lmdb_status(rc);
}

/* The first report from `key` on that is in this box. MDB_NOTFOUND. */
static int seek(struct meter_store *s, MDB_cursor *cursor, enum meter_box box, const MDB_val *from,
                MDB_val *k, MDB_val *v)
{
    MDB_val marker;
    *k = *from;
    int rc = mdb_cursor_get(cursor, k, v, MDB_SET_RANGE);
    if (box == METER_OUTBOX)
        return rc == 0 ? mdb_get(s->reader, s->table[T_REPORTS], k, v) : rc;
    while (rc == 0) {
        rc = mdb_get(s->reader, s->table[T_OUTBOX], k, &marker);
        if (rc == MDB_NOTFOUND)
            return 0;
        if (rc == 0)
            rc = mdb_cursor_get(cursor, k, v, MDB_NEXT);
    }
    return rc;
}

enum ami_status meter_store_next(struct meter_store *s, enum meter_box box,
                                 const struct ami_id *name, uint32_t epoch, uint64_t from,
                                 uint8_t buffer[METER_RECORD_BYTES_MAX], size_t *size)
{
    struct key key = key_report(name, epoch, from);
    struct key prefix = key_epoch(name, epoch);
    const MDB_val first = key_val(&key);
    MDB_val k, v;
    MDB_cursor *cursor;
    int rc = read_begin(s);
    if (rc != 0)
        return lmdb_status(rc);
    rc = mdb_cursor_open(s->reader, s->table[box == METER_OUTBOX ? T_OUTBOX : T_REPORTS], &cursor);
    if (rc == 0) {
        rc = seek(s, cursor, box, &first, &k, &v);
        if (rc == 0 && (k.mv_size != prefix.size + 8 || memcmp(k.mv_data, prefix.b, prefix.size)))
            rc = MDB_NOTFOUND;
        if (rc == 0 &&
            (v.mv_size < COUNT_BYTES || v.mv_size > COUNT_BYTES + METER_RECORD_BYTES_MAX))
            rc = MDB_CORRUPTED;
        if (rc == 0) {
            *size = v.mv_size - COUNT_BYTES;
            memcpy(buffer, (const uint8_t *)v.mv_data + COUNT_BYTES, *size);
        }
        mdb_cursor_close(cursor);
    }
    read_end(s);
    return lmdb_status(rc);
}

/* One of two tables that are walked side by side. */
struct side {
    MDB_cursor *cursor;
    MDB_val key, value;
    int rc;
};

static int side_compare(const struct side *a, const struct side *b)
{
    size_t least = a->key.mv_size < b->key.mv_size ? a->key.mv_size : b->key.mv_size;
    int order = memcmp(a->key.mv_data, b->key.mv_data, least);
    if (order != 0)
        return order;
    return (a->key.mv_size > b->key.mv_size) - (a->key.mv_size < b->key.mv_size);
}

static void side_next(struct side *s)
{
    s->rc = mdb_cursor_get(s->cursor, &s->key, &s->value, MDB_NEXT);
}

/* Whether the outbox holds the report that `all` stands at. */
static int is_unsettled(struct side *all, struct side *outbox, bool *unsettled)
{
    while (outbox->rc == 0 && side_compare(outbox, all) < 0)
        side_next(outbox);
    *unsettled = outbox->rc == 0 && side_compare(outbox, all) == 0;
    return outbox->rc == MDB_NOTFOUND ? 0 : outbox->rc;
}

/* An entry of the table of reports. */
static int report_of(struct meter_stored_report *out, const MDB_val *key, const MDB_val *value,
                     bool settled)
{
    if (value->mv_size < COUNT_BYTES)
        return MDB_CORRUPTED;
    const uint8_t *v = value->mv_data;
    *out = (struct meter_stored_report){.settled = settled,
                                        .readings = load_be16(v),
                                        .record =
                                            span_of(v + COUNT_BYTES, value->mv_size - COUNT_BYTES)};
    return key_report_parse(out, key) ? 0 : MDB_CORRUPTED;
}

/* The reports of these boxes: along all reports, or, when nothing but the outbox is wanted, along
 * the outbox, which is small where the archive is large. */
static int walk(struct meter_store *s, MDB_txn *txn, struct side *all, struct side *outbox,
                unsigned boxes, bool (*each)(void *ctx, const struct meter_stored_report *report),
                void *ctx)
{
    const bool short_way = boxes == 1u << METER_OUTBOX;
    struct side *lead = short_way ? outbox : all;
    for (; lead->rc == 0; side_next(lead)) {
        struct meter_stored_report report;
        MDB_val key = lead->key, value = lead->value;
        bool unsettled = true;
        int rc = short_way ? mdb_get(txn, s->table[T_REPORTS], &key, &value)
                           : is_unsettled(all, outbox, &unsettled);
        if (rc != 0)
            return rc == MDB_NOTFOUND ? MDB_CORRUPTED : rc; /* the outbox names one that is not */
        if ((boxes >> (unsettled ? METER_OUTBOX : METER_ARCHIVE) & 1u) == 0)
            continue;
        rc = report_of(&report, &key, &value, !unsettled);
        if (rc != 0)
            return rc;
        if (!each(ctx, &report))
            return 0;
    }
    return lead->rc == MDB_NOTFOUND ? 0 : lead->rc;
}

enum ami_status meter_store_each_report(struct meter_store *s, unsigned boxes,
                                        bool (*each)(void *ctx,
                                                     const struct meter_stored_report *report),
                                        void *ctx)
{
    static const enum table table_of[2] = {T_OUTBOX, T_REPORTS};
    struct side side[2] = {{.rc = MDB_NOTFOUND}, {.rc = MDB_NOTFOUND}};
    MDB_txn *txn;
    int rc = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &txn);
    if (rc != 0)
        return lmdb_status(rc);
    for (int i = 0; i < 2 && rc == 0; i++) {
        rc = mdb_cursor_open(txn, s->table[table_of[i]], &side[i].cursor);
        if (rc == 0)
            side[i].rc = mdb_cursor_get(side[i].cursor, &side[i].key, &side[i].value, MDB_FIRST);
    }
    if (rc == 0)
        rc = walk(s, txn, &side[1], &side[0], boxes, each, ctx);
    for (int i = 0; i < 2; i++)
        if (side[i].cursor != NULL)
            mdb_cursor_close(side[i].cursor);
    mdb_txn_abort(txn);
    return lmdb_status(rc);
}
