/* mdms/store.c - LMDB behind struct mdms_kv and struct mdms_write; see the header. */
#include "mdms/store.h"

#include "base/check.h"
#include "client/lmdb.h"
#include "mdms/reports.h"
#include "net/file.h"

#include <errno.h>
#include <limits.h>
#include <lmdb.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const TABLE_NAMES[TABLE_COUNT] = {
    "state",   "codes",     "devices", "outbox", "requests",   "revocations",
    "reports", "bad_seals", "changes", "epochs", "retentions", "operators"};

#define KEY_BYTES_MAX 128

/* 2: reports in runs. Format 1, with a tree by meter, had no record of its format. */
#define FORMAT 2

struct mdms_store {
    MDB_env *env;
    MDB_dbi table[TABLE_COUNT];
    char path[PATH_MAX];
    MDB_txn *reader; /* of the kv, reset between calls */
    uint8_t key[KEY_BYTES_MAX];
    uint8_t value[MDMS_RECORD_BYTES_MAX + AMI_TX_BYTES_MAX];
};

struct mdms_update {
    struct mdms_store *store;
    MDB_txn *txn;
};

static enum ami_status fail(const struct mdms_store *s, int rc, struct why *why)
{
    if (lmdb_status(rc) == AMI_DAMAGED)
        return why_set(why, AMI_DAMAGED, "%s: the file is damaged (%s); restore it from a copy",
                       s->path, mdb_strerror(rc));
    return lmdb_fail(s->path, rc, why);
}

static struct reports_tables reports_tables(const struct mdms_store *s)
{
    return (struct reports_tables){.rows = s->table[TABLE_REPORTS], .state = s->table[TABLE_STATE]};
}

static MDB_val val_of(struct span s)
{
    return (MDB_val){s.size, (void *)(uintptr_t)s.data};
}

static struct span span_of_val(const MDB_val *v)
{
    return span_of(v->mv_data, v->mv_size);
}

/* --- opening ---------------------------------------------------------------------------------- */

static enum ami_status check_format(const struct mdms_store *s, MDB_txn *txn, struct why *why)
{
    struct mdms_key key = key_format();
    MDB_val k = val_of(key_span(&key)), v;
    unsigned format = 1;
    int rc = mdb_get(txn, s->table[TABLE_STATE], &k, &v);
    if (rc == 0 && v.mv_size == 1)
        format = *(const uint8_t *)v.mv_data;
    else if (rc == 0)
        rc = MDB_CORRUPTED;
    else if (rc == MDB_NOTFOUND) {
        key = key_state();
        k = val_of(key_span(&key));
        rc = mdb_get(txn, s->table[TABLE_STATE], &k, &v);
    }
    if (rc == MDB_NOTFOUND)
        return why_set(why, AMI_DAMAGED, "%s: it is no store of ami-mdms", s->path);
    if (rc != 0)
        return fail(s, rc, why);
    if (format != FORMAT)
        return why_set(why, AMI_BAD_VERSION, "%s: written in format %u, this program reads %d",
                       s->path, format, FORMAT);
    return AMI_OK;
}

/* The state comes first: it says what the others are. */
static enum ami_status open_tables(struct mdms_store *s, bool create, struct why *why)
{
    MDB_txn *txn;
    enum ami_status status = AMI_OK;
    _Static_assert(TABLE_STATE == 0, "the first");
    int rc = mdb_txn_begin(s->env, NULL, create ? 0 : MDB_RDONLY, &txn);
    if (rc != 0)
        return fail(s, rc, why);
    for (int i = 0; i < TABLE_COUNT && rc == 0 && status == AMI_OK; i++) {
        rc = mdb_dbi_open(txn, TABLE_NAMES[i], create ? MDB_CREATE : 0, &s->table[i]);
        if (rc == 0 && i == TABLE_STATE && !create)
            status = check_format(s, txn, why);
    }
    if (rc == MDB_NOTFOUND)
        status = why_set(why, AMI_DAMAGED, "%s: it is no store of ami-mdms", s->path);
    else if (rc != 0)
        status = fail(s, rc, why);
    if (status != AMI_OK) {
        mdb_txn_abort(txn);
        return status;
    }
    rc = mdb_txn_commit(txn);
    return rc == 0 ? AMI_OK : fail(s, rc, why);
}

static enum ami_status open_env(struct mdms_store **out, const char *dir, uint64_t map_bytes,
                                bool create, struct why *why)
{
    struct mdms_store *s = calloc(1, sizeof *s);
    if (s == NULL)
        return why_set(why, AMI_NO_MEMORY, "out of memory");
    enum ami_status status = path_join(s->path, sizeof s->path, dir, "store", why);
    if (status != AMI_OK) {
        free(s);
        return status;
    }
    int rc = mdb_env_create(&s->env);
    if (rc == 0)
        rc = mdb_env_set_mapsize(s->env, map_bytes == 0 ? MDMS_STORE_MAP_BYTES : map_bytes);
    if (rc == 0)
        rc = mdb_env_set_maxdbs(s->env, TABLE_COUNT);
    /* Readers are not tied to threads: the loop reads, the storage thread writes. */
    if (rc == 0)
        rc = mdb_env_open(s->env, s->path, MDB_NOTLS, 0600);
    int dead;
    if (rc == 0)
        rc = mdb_reader_check(s->env, &dead);
    status = rc == 0 ? open_tables(s, create, why) : fail(s, rc, why);
    if (status == AMI_OK)
        *out = s;
    else
        mdms_store_close(s);
    return status;
}

enum ami_status mdms_store_create(const char *dir, const struct state_record *state,
                                  struct why *why)
{
    char path[PATH_MAX];
    AMI_TRY(path_join(path, sizeof path, dir, "store", why));
    if (access(path, F_OK) == 0)
        return why_set(why, AMI_EXISTS, "%s: there is a store already", path);
    AMI_TRY(directory_make(path, 0700, why));
    struct mdms_store *s;
    AMI_TRY(open_env(&s, dir, 0, true, why));
    uint8_t bytes[256];
    struct writer out = writer_on(bytes, sizeof bytes);
    state_record_encode(&out, state);
    AMI_CHECK(writer_ok(&out));
    struct mdms_write w = {0};
    const uint8_t format = FORMAT;
    struct mdms_key key = key_state(), format_key = key_format();
    mdms_write_put(&w, TABLE_STATE, &key, writer_span(&out));
    mdms_write_put(&w, TABLE_STATE, &format_key, span_of(&format, 1));
    enum ami_status status = w.no_memory ? AMI_NO_MEMORY : mdms_store_write(s, &w, why);
    mdms_write_free(&w);
    mdms_store_close(s);
    return status;
}

enum ami_status mdms_store_open(struct mdms_store **out, const char *dir, uint64_t map_bytes,
                                struct why *why)
{
    char path[PATH_MAX];
    AMI_TRY(path_join(path, sizeof path, dir, "store/data.mdb", why));
    if (access(path, F_OK) != 0)
        return why_set(why, errno == ENOENT ? AMI_NOT_FOUND : AMI_IO,
                       "%s: %s; make the MDMS's directory with `ami-mdms init --dir DIR --name "
                       "NAME`",
                       path, strerror(errno));
    return open_env(out, dir, map_bytes, false, why);
}

void mdms_store_close(struct mdms_store *s)
{
    if (s == NULL)
        return;
    if (s->reader != NULL)
        mdb_txn_abort(s->reader);
    if (s->env != NULL)
        mdb_env_close(s->env);
    free(s);
}

/* --- reading for the core --------------------------------------------------------------------- */

static int reader_begin(struct mdms_store *s)
{
    if (s->reader == NULL)
        return mdb_txn_begin(s->env, NULL, MDB_RDONLY, &s->reader);
    return mdb_txn_renew(s->reader);
}

static enum ami_status copy_out(uint8_t *to, size_t size, struct span found, struct span *out)
{
    if (found.size > size)
        return AMI_DAMAGED;
    if (found.size > 0)
        memcpy(to, found.data, found.size);
    *out = span_of(to, found.size);
    return AMI_OK;
}

static int get(const struct mdms_store *s, MDB_txn *txn, enum mdms_table table, struct span key,
               struct span *value)
{
    const struct reports_tables reports = reports_tables(s);
    if (table == TABLE_REPORTS)
        return reports_get(txn, &reports, key, value);
    MDB_val k = val_of(key), v;
    int rc = mdb_get(txn, s->table[table], &k, &v);
    if (rc == 0)
        *value = span_of_val(&v);
    return rc;
}

static enum ami_status kv_get(void *ctx, enum mdms_table table, struct span key, struct span *value)
{
    struct mdms_store *s = ctx;
    int rc = reader_begin(s);
    if (rc != 0)
        return lmdb_status(rc);
    struct span found;
    enum ami_status status = lmdb_status(get(s, s->reader, table, key, &found));
    if (status == AMI_OK)
        status = copy_out(s->value, sizeof s->value, found, value);
    mdb_txn_reset(s->reader);
    return status;
}

static enum ami_status kv_seek(void *ctx, enum mdms_table table, struct span from, struct span *key,
                               struct span *value)
{
    struct mdms_store *s = ctx;
    AMI_CHECK(table != TABLE_REPORTS);
    int rc = reader_begin(s);
    if (rc != 0)
        return lmdb_status(rc);
    MDB_cursor *cursor;
    MDB_val k = val_of(from), v;
    rc = mdb_cursor_open(s->reader, s->table[table], &cursor);
    if (rc == 0) {
        rc = mdb_cursor_get(cursor, &k, &v, from.size == 0 ? MDB_FIRST : MDB_SET_RANGE);
        mdb_cursor_close(cursor);
    }
    enum ami_status status = lmdb_status(rc);
    if (status == AMI_OK)
        status = copy_out(s->key, sizeof s->key, span_of_val(&k), key);
    if (status == AMI_OK)
        status = copy_out(s->value, sizeof s->value, span_of_val(&v), value);
    mdb_txn_reset(s->reader);
    return status;
}

struct mdms_kv mdms_store_kv(struct mdms_store *s)
{
    return (struct mdms_kv){.ctx = s, .get = kv_get, .seek = kv_seek};
}

/* --- writing ---------------------------------------------------------------------------------- */

/* The reports of a write, which borrow from it. */
struct reports_list {
    struct reports_row *row;
    size_t count, room;
};

static int list_report(struct reports_list *l, const struct mdms_op *op)
{
    AMI_CHECK(!op->remove);
    if (l->count == l->room) {
        const size_t room = l->room == 0 ? 256 : 2 * l->room;
        struct reports_row *more = realloc(l->row, room * sizeof *more);
        if (more == NULL)
            return ENOMEM;
        l->row = more;
        l->room = room;
    }
    l->row[l->count++] = (struct reports_row){op->key, op->value};
    return 0;
}

static int apply_op(struct mdms_store *s, MDB_txn *txn, const struct mdms_op *op)
{
    MDB_val k = val_of(op->key), v = val_of(op->value);
    int rc = op->remove ? mdb_del(txn, s->table[op->table], &k, NULL)
                        : mdb_put(txn, s->table[op->table], &k, &v, 0);
    return op->remove && rc == MDB_NOTFOUND ? 0 : rc;
}

static int apply(struct mdms_store *s, MDB_txn *txn, const struct mdms_write *w)
{
    const struct reports_tables tables = reports_tables(s);
    struct reports_list reports = {0};
    struct mdms_op op;
    int rc = 0;
    for (size_t at = 0; rc == 0 && mdms_write_next(w, &at, &op);)
        rc = op.table == TABLE_REPORTS ? list_report(&reports, &op) : apply_op(s, txn, &op);
    if (rc == 0)
        rc = reports_add(txn, &tables, reports.row, reports.count);
    free(reports.row);
    return rc;
}

enum ami_status mdms_store_write(struct mdms_store *s, const struct mdms_write *w, struct why *why)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(s->env, NULL, 0, &txn);
    if (rc != 0)
        return fail(s, rc, why);
    rc = apply(s, txn, w);
    if (rc != 0) {
        mdb_txn_abort(txn);
        return fail(s, rc, why);
    }
    rc = mdb_txn_commit(txn);
    return rc == 0 ? AMI_OK : fail(s, rc, why);
}

enum ami_status mdms_store_update(struct mdms_store *s,
                                  enum ami_status (*change)(void *ctx, struct mdms_update *u,
                                                            struct mdms_write *write),
                                  void *ctx, struct why *why)
{
    struct mdms_update u = {.store = s};
    struct mdms_write w = {0};
    int rc = mdb_txn_begin(s->env, NULL, 0, &u.txn);
    if (rc != 0)
        return fail(s, rc, why);
    enum ami_status status = change(ctx, &u, &w);
    if (status == AMI_OK && w.no_memory)
        status = why_set(why, AMI_NO_MEMORY, "out of memory");
    if (status == AMI_OK && (rc = apply(s, u.txn, &w)) != 0)
        status = fail(s, rc, why);
    mdms_write_free(&w);
    if (status != AMI_OK) {
        mdb_txn_abort(u.txn);
        return status;
    }
    rc = mdb_txn_commit(u.txn);
    return rc == 0 ? AMI_OK : fail(s, rc, why);
}

enum ami_status mdms_update_get(struct mdms_update *u, enum mdms_table table,
                                const struct mdms_key *key, struct span *value)
{
    return lmdb_status(get(u->store, u->txn, table, key_span(key), value));
}

enum ami_status mdms_update_last(struct mdms_update *u, enum mdms_table table, struct span *key)
{
    MDB_cursor *cursor;
    MDB_val k, v;
    AMI_CHECK(table != TABLE_REPORTS);
    int rc = mdb_cursor_open(u->txn, u->store->table[table], &cursor);
    if (rc == 0) {
        rc = mdb_cursor_get(cursor, &k, &v, MDB_LAST);
        mdb_cursor_close(cursor);
    }
    if (rc == 0)
        *key = span_of_val(&k);
    return lmdb_status(rc);
}

/* --- looking through -------------------------------------------------------------------------- */

static int scan_tree(MDB_txn *txn, MDB_dbi tree, struct span from,
                     bool (*each)(void *ctx, struct span key, struct span value), void *ctx)
{
    MDB_cursor *cursor;
    MDB_val k = val_of(from), v;
    int rc = mdb_cursor_open(txn, tree, &cursor);
    if (rc != 0)
        return rc;
    rc = mdb_cursor_get(cursor, &k, &v, from.size == 0 ? MDB_FIRST : MDB_SET_RANGE);
    while (rc == 0 && each(ctx, span_of_val(&k), span_of_val(&v)))
        rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

enum ami_status mdms_store_scan(struct mdms_store *s, enum mdms_table table, struct span from,
                                bool (*each)(void *ctx, struct span key, struct span value),
                                void *ctx, struct why *why)
{
    const struct reports_tables reports = reports_tables(s);
    MDB_txn *txn;
    int rc = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &txn);
    if (rc != 0)
        return fail(s, rc, why);
    rc = table == TABLE_REPORTS ? reports_scan(txn, &reports, from, each, ctx)
                                : scan_tree(txn, s->table[table], from, each, ctx);
    mdb_txn_abort(txn);
    return rc == 0 ? AMI_OK : fail(s, rc, why);
}

enum ami_status mdms_store_count(struct mdms_store *s, enum mdms_table table, uint64_t *count,
                                 struct why *why)
{
    MDB_txn *txn;
    MDB_stat stat;
    AMI_CHECK(table != TABLE_REPORTS);
    int rc = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &txn);
    if (rc != 0)
        return fail(s, rc, why);
    rc = mdb_stat(txn, s->table[table], &stat);
    mdb_txn_abort(txn);
    *count = rc == 0 ? stat.ms_entries : 0;
    return rc == 0 ? AMI_OK : fail(s, rc, why);
}
