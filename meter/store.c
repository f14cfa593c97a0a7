#include "meter/store_internal.h"

#include "base/check.h"
#include "client/lmdb.h"
#include "crypto/secret.h"
#include "net/file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char *const table_names[TABLES] = {"meta",    "keys",    "pending", "state",
                                                "sources", "journal", "outbox"};

#define FORMAT_VERSION 3
#define META_BYTES     (1 + 2 * SM3_BYTES)

/* --- errors ---------------------------------------------------------------------------------- */

enum ami_status store_status(int rc)
{
    switch (rc) {
    case STORE_SERVED:
        return AMI_EXISTS;
    case STORE_WAITS:
        return AMI_IN_USE;
    case STORE_NOT_NEXT:
        return AMI_BAD_ARGUMENT;
    default:
        return lmdb_status(rc);
    }
}

enum ami_status store_fail(const struct meter_store *s, int rc, struct why *why)
{
    const enum ami_status status = store_status(rc);
    if (status == AMI_DAMAGED)
        return why_set(why, status,
                       "%s: the file is damaged (%s); restore it from a copy, or enrol the meters "
                       "anew in another directory",
                       s->path, mdb_strerror(rc));
    if (status != lmdb_status(rc))
        return why_set(why, status, "%s: %s", s->path, ami_status_text(status));
    return lmdb_fail(s->path, rc, why);
}

/* --- keys and small records ------------------------------------------------------------------ */

static void key_add(struct store_key *k, const void *data, size_t size)
{
    AMI_CHECK(k->size + size <= sizeof k->b);
    memcpy(k->b + k->size, data, size);
    k->size += size;
}

static void key_add_u32(struct store_key *k, uint32_t v)
{
    uint8_t b[4];
    store_be32(b, v);
    key_add(k, b, sizeof b);
}

struct store_key store_key_name(const struct ami_id *name)
{
    struct store_key k = {.size = 0};
    key_add(&k, name->text, name->size);
    key_add(&k, "", 1); /* no name holds it: a shorter name comes before a longer one */
    return k;
}

struct store_key store_key_committee(uint32_t epoch)
{
    struct store_key k = {.size = 0};
    key_add(&k, "epoch", 5);
    key_add_u32(&k, epoch);
    return k;
}

struct store_key store_key_epoch(const struct ami_id *name, uint32_t epoch)
{
    struct store_key k = store_key_name(name);
    key_add_u32(&k, epoch);
    return k;
}

struct store_key store_key_source(const struct ami_id *name, uint32_t epoch,
                                  const sm3_digest *source)
{
    struct store_key k = store_key_epoch(name, epoch);
    key_add(&k, source->b, sizeof source->b);
    return k;
}

struct store_key store_key_serial(uint64_t serial)
{
    struct store_key k = {.size = 8};
    store_be64(k.b, serial);
    return k;
}

bool store_serial_parse(uint64_t *out, MDB_val key)
{
    if (key.mv_size != 8)
        return false;
    *out = load_be64(key.mv_data);
    return *out != 0 && *out < STORE_SERIAL_END;
}

int store_put(struct meter_store *s, MDB_txn *txn, enum store_table table,
              const struct store_key *key, const void *data, size_t size)
{
    MDB_val k = store_key_val(key), v = store_val(data, size);
    return mdb_put(txn, s->table[table], &k, &v, 0);
}

void store_state_encode(uint8_t out[STORE_STATE_BYTES], const struct meter_state *s)
{
    store_be64(out, s->next_sequence);
    store_be64(out + 8, s->reports);
    store_be64(out + 16, s->readings);
    store_be64(out + 24, s->profile_next);
}

bool store_state_parse(struct meter_state *out, MDB_val v)
{
    if (v.mv_size != STORE_STATE_BYTES)
        return false;
    const uint8_t *b = v.mv_data;
    out->next_sequence = load_be64(b);
    out->reports = load_be64(b + 8);
    out->readings = load_be64(b + 16);
    out->profile_next = load_be64(b + 24);
    return out->next_sequence >= 1 && out->reports >= out->next_sequence - 1 &&
           out->reports < UINT64_MAX / 2;
}

int store_entry_get(struct meter_store *s, MDB_txn *txn, uint64_t serial, struct store_entry *out)
{
    const struct store_key key = store_key_serial(serial);
    MDB_val k = store_key_val(&key), v;
    int rc = mdb_get(txn, s->table[T_JOURNAL], &k, &v);
    if (rc == 0 && (store_entry_parse(out, store_span(v)) != AMI_OK || out->kind == STORE_SETTLED))
        rc = MDB_CORRUPTED;
    return rc;
}

/* --- opening --------------------------------------------------------------------------------- */

/* The directory belongs to one chain for ever. */
static enum ami_status bind(struct meter_store *s, MDB_txn *txn, bool create,
                            const sm3_digest *network, const sm3_digest *chain, struct why *why)
{
    uint8_t wanted[META_BYTES] = {FORMAT_VERSION};
    MDB_val key = store_val("chain", 5), v;
    if (network != NULL && chain != NULL) {
        memcpy(wanted + 1, network->b, SM3_BYTES);
        memcpy(wanted + 1 + SM3_BYTES, chain->b, SM3_BYTES);
    }
    int rc = mdb_get(txn, s->table[T_META], &key, &v);
    if (rc == MDB_NOTFOUND && create && chain != NULL) {
        v = store_val(wanted, sizeof wanted);
        rc = mdb_put(txn, s->table[T_META], &key, &v, 0);
    }
    if (rc == MDB_NOTFOUND)
        return why_set(why, AMI_DAMAGED, "%s: it holds no meters of this project", s->path);
    if (rc == 0 && v.mv_size != META_BYTES)
        rc = MDB_CORRUPTED;
    if (rc != 0)
        return store_fail(s, rc, why);
    const uint8_t *meta = v.mv_data;
    if (meta[0] != FORMAT_VERSION)
        return why_set(why, AMI_BAD_VERSION, "%s: written in format %u, this program reads %d",
                       s->path, (unsigned)meta[0], FORMAT_VERSION);
    if (chain == NULL || memcmp(meta, wanted, sizeof wanted) == 0)
        return AMI_OK;
    char found[2 * SM3_BYTES + 1], given[2 * SM3_BYTES + 1];
    hex_encode(found, meta + 1 + SM3_BYTES, SM3_BYTES);
    hex_encode(given, chain->b, SM3_BYTES);
    return why_set(why, AMI_WRONG_CHAIN,
                   "%s: its meters belong to chain %.16s..., the genesis file is of chain "
                   "%.16s...; give the genesis file that they were enrolled with",
                   s->path, found, given);
}

/* The table "meta" comes first: only it has the same form in every format. */
static enum ami_status open_tables(struct meter_store *s, enum meter_store_mode mode,
                                   const sm3_digest *network, const sm3_digest *chain,
                                   struct why *why)
{
    const bool create = mode == METER_STORE_CREATE;
    MDB_txn *txn;
    enum ami_status status = AMI_OK;
    int rc = mdb_txn_begin(s->env, NULL, create ? 0 : MDB_RDONLY, &txn);
    if (rc != 0)
        return store_fail(s, rc, why);
    for (int i = 0; i < TABLES && rc == 0 && status == AMI_OK; i++) {
        rc = mdb_dbi_open(txn, table_names[i], create ? MDB_CREATE : 0, &s->table[i]);
        if (rc == 0 && i == T_META)
            status = bind(s, txn, create, network, chain, why);
    }
    if (rc == 0 && status == AMI_OK && mode != METER_STORE_READ)
        rc = store_lines_load(s, txn);
    if (rc == 0 && status == AMI_OK) {
        rc = mdb_txn_commit(txn);
        s->broken = rc;
        return rc == 0 ? AMI_OK : store_fail(s, rc, why);
    }
    mdb_txn_abort(txn);
    if (rc == MDB_NOTFOUND)
        return why_set(why, AMI_DAMAGED, "%s: it holds no meters of this project", s->path);
    return rc != 0 ? store_fail(s, rc, why) : status;
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
    s->broken = MDB_PANIC; /* until the lines are loaded */
    pthread_mutex_init(&s->writing, NULL);
    pthread_mutex_init(&s->lines_lock, NULL);
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
    status = rc != 0 ? store_fail(s, rc, why) : open_tables(s, mode, network, chain, why);
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
    store_write_end(s);
    store_lines_free(s);
    store_serials_free(&s->settling);
    if (s->reader != NULL)
        mdb_txn_abort(s->reader);
    if (s->env != NULL)
        mdb_env_close(s->env);
    if (s->lock_fd >= 0)
        directory_unlock(s->lock_fd);
    pthread_mutex_destroy(&s->writing);
    pthread_mutex_destroy(&s->lines_lock);
    free(s);
}

/* --- reading --------------------------------------------------------------------------------- */

int store_read_begin(struct meter_store *s)
{
    if (s->reader == NULL)
        return mdb_txn_begin(s->env, NULL, MDB_RDONLY, &s->reader);
    return mdb_txn_renew(s->reader);
}

void store_read_end(struct meter_store *s)
{
    mdb_txn_reset(s->reader);
}

static enum ami_status get_copy(struct meter_store *s, enum store_table table,
                                const struct store_key *key, uint8_t *out, size_t capacity,
                                size_t *size)
{
    MDB_val k = store_key_val(key), v;
    int rc = store_read_begin(s);
    if (rc != 0)
        return store_status(rc);
    rc = mdb_get(s->reader, s->table[table], &k, &v);
    if (rc == 0 && v.mv_size > capacity)
        rc = MDB_CORRUPTED;
    if (rc == 0) {
        memcpy(out, v.mv_data, v.mv_size);
        *size = v.mv_size;
    }
    store_read_end(s);
    return store_status(rc);
}

enum ami_status meter_store_keys(struct meter_store *s, const struct ami_id *name, uint8_t *out,
                                 size_t capacity, size_t *size)
{
    const struct store_key key = store_key_name(name);
    return get_copy(s, T_KEYS, &key, out, capacity, size);
}

enum ami_status meter_store_epoch(struct meter_store *s, uint32_t epoch, uint8_t *out,
                                  size_t capacity, size_t *size)
{
    const struct store_key key = store_key_committee(epoch);
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
    const struct store_key key = store_key_name(name);
    return get_copy(s, T_PENDING, &key, out, capacity, size);
}

/* The meter's line, with both locks; line_close gives them back, whatever this returns. */
static int line_open(struct meter_store *s, const struct ami_id *name, struct store_line **out)
{
    AMI_CHECK(s->lock_fd >= 0);
    pthread_mutex_lock(&s->writing);
    pthread_mutex_lock(&s->lines_lock);
    int rc = s->broken != 0 ? s->broken : store_read_begin(s);
    if (rc != 0)
        return rc;
    rc = store_line_get(s, s->reader, name, out);
    store_read_end(s);
    return rc;
}

static void line_close(struct meter_store *s)
{
    pthread_mutex_unlock(&s->lines_lock);
    pthread_mutex_unlock(&s->writing);
}

enum ami_status meter_store_state(struct meter_store *s, const struct ami_id *name, uint32_t epoch,
                                  struct meter_state *out)
{
    struct store_line *line;
    uint8_t bytes[STORE_STATE_BYTES];
    size_t size = 0;
    int rc = line_open(s, name, &line);
    const bool present = rc == 0 && line->epoch == epoch && epoch != 0;
    if (present)
        *out = line->state;
    line_close(s);
    if (rc != 0 || present)
        return store_status(rc);
    const struct store_key key = store_key_epoch(name, epoch);
    AMI_TRY(get_copy(s, T_STATE, &key, bytes, sizeof bytes, &size));
    return store_state_parse(out, store_val(bytes, size)) ? AMI_OK : AMI_DAMAGED;
}

enum ami_status meter_store_backlog(struct meter_store *s, const struct ami_id *name,
                                    uint32_t epoch, struct meter_backlog *out)
{
    struct store_line *line;
    *out = (struct meter_backlog){0};
    int rc = line_open(s, name, &line);
    if (rc == 0 && line->epoch == epoch && line->waiting != 0)
        *out = (struct meter_backlog){.lowest = line->state.next_sequence - 1 -
                                                (line->state.reports - line->base),
                                      .reports = line->waiting,
                                      .readings = line->waiting_readings};
    line_close(s);
    return store_status(rc);
}

/* The next row as far as it is in memory. */
static int source_row(struct meter_store *s, const struct ami_id *name, uint32_t epoch,
                      const sm3_digest *source, uint64_t *row, bool *known)
{
    struct store_line *line;
    int rc = line_open(s, name, &line);
    const struct store_source *at = rc == 0 && line->epoch <= epoch ? line->sources : NULL;
    while (at != NULL && !sm3_equal(&at->digest, source))
        at = at->next;
    *known = at != NULL;
    if (at != NULL)
        *row = at->row;
    line_close(s);
    return rc;
}

enum ami_status meter_store_source(struct meter_store *s, const struct ami_id *name, uint32_t epoch,
                                   const sm3_digest *source, uint64_t *row)
{
    uint8_t bytes[8];
    size_t size = 0;
    bool known;
    enum ami_status status = AMI_NOT_FOUND;
    *row = 0;
    int rc = source_row(s, name, epoch, source, row, &known);
    if (rc != 0 || known)
        return store_status(rc);
    for (; epoch > 0 && status == AMI_NOT_FOUND; epoch--) {
        const struct store_key key = store_key_source(name, epoch, source);
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

/* The lowest report that waits, from `from` on. MDB_NOTFOUND. */
static int find_waiting(struct meter_store *s, const struct ami_id *name, uint32_t epoch,
                        uint64_t from, uint64_t *serial)
{
    *serial = 0;
    pthread_mutex_lock(&s->lines_lock);
    int rc = s->broken; /* then some lines are missing, and some of what waits */
    const struct store_line *line = rc == 0 ? store_line_find(s, name) : NULL;
    if (line != NULL && line->epoch == epoch && line->waiting != 0) {
        uint64_t ordinal = from == 0 ? line->base : store_line_ordinal(line, from);
        if (ordinal != 0 && ordinal < line->base)
            ordinal = line->base;
        for (; ordinal != 0 && ordinal < line->base + line->span && *serial == 0; ordinal++)
            *serial = store_line_serial(line, ordinal);
    }
    pthread_mutex_unlock(&s->lines_lock);
    return rc == 0 && *serial == 0 ? MDB_NOTFOUND : rc;
}

static int copy_waiting(struct meter_store *s, uint64_t serial, const struct ami_id *name,
                        uint8_t buffer[METER_RECORD_BYTES_MAX], size_t *size)
{
    struct store_entry e;
    int rc = store_read_begin(s);
    if (rc != 0)
        return rc;
    rc = store_entry_get(s, s->reader, serial, &e);
    if (rc == 0 && !ami_id_equal(&e.name, name))
        rc = MDB_CORRUPTED;
    if (rc == 0) {
        *size = e.record.size;
        memcpy(buffer, e.record.data, e.record.size);
    }
    store_read_end(s);
    return rc;
}

enum ami_status meter_store_next(struct meter_store *s, const struct ami_id *name, uint32_t epoch,
                                 uint64_t from, uint8_t buffer[METER_RECORD_BYTES_MAX],
                                 size_t *size)
{
    uint64_t serial;
    AMI_CHECK(s->lock_fd >= 0);
    int rc = find_waiting(s, name, epoch, from, &serial);
    if (rc != 0)
        return store_status(rc);
    rc = copy_waiting(s, serial, name, buffer, size);
    if (rc != MDB_NOTFOUND)
        return store_status(rc);
    /* The memory is ahead of the disk, or the disk of the memory: a write is under way. After it
     * they agree. */
    pthread_mutex_lock(&s->writing);
    rc = find_waiting(s, name, epoch, from, &serial);
    if (rc == 0 && (rc = copy_waiting(s, serial, name, buffer, size)) == MDB_NOTFOUND)
        rc = MDB_CORRUPTED;
    pthread_mutex_unlock(&s->writing);
    return store_status(rc);
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
        return store_status(rc);
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
    return rc == MDB_NOTFOUND ? AMI_OK : store_status(rc);
}
