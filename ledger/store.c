/* ledger/store.c - reading a ledger: blocks, indexes, records; and what audit and patrol look at.
 */
#include "ledger/store_lmdb.h"

#include <string.h>

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
    if (s->mode == STORE_READ_ONLY && store_begin(s, MDB_RDONLY, &txn) == AMI_OK) {
        if (store_get_tip(s, txn, &height, &tip) == AMI_OK)
            atomic_store(&s->height, height);
        store_end(s, txn);
    }
    return atomic_load(&s->height);
}

/* Copies a value, or a block, into the caller's buffer. */
static enum ami_status get_copy(struct store *s, int db, struct span key, uint8_t *buffer,
                                size_t buffer_size, struct span *out)
{
    MDB_txn *txn;
    struct span v = {0};
    AMI_TRY(store_begin(s, MDB_RDONLY, &txn));
    enum ami_status status = store_status(db == BLOCKS ? store_get_block(s, txn, db, key, &v)
                                                       : store_get(s, txn, db, key, &v));
    if (status == AMI_OK && v.size > buffer_size)
        status = AMI_TOO_LARGE;
    if (status == AMI_OK) {
        memcpy(buffer, v.data, v.size);
        *out = span_of(buffer, v.size);
    }
    store_end(s, txn);
    return status;
}

enum ami_status store_block(struct store *s, uint64_t height, struct certified_block *out,
                            uint8_t *buffer, size_t buffer_size)
{
    uint8_t key[8];
    struct span v = {0};
    AMI_TRY(get_copy(s, BLOCKS, store_key_u64(key, height), buffer, buffer_size, &v));
    if (certified_block_parse(out, v) != AMI_OK || out->header.height != height)
        return AMI_DAMAGED;
    return AMI_OK;
}

enum ami_status store_header(struct store *s, uint64_t height, struct block_header *header,
                             struct qc *commit)
{
    MDB_txn *txn;
    uint8_t key[8];
    struct span by_height = store_key_u64(key, height);
    MDB_val k = {by_height.size, key}, v;
    AMI_TRY(store_begin(s, MDB_RDONLY, &txn));
    enum ami_status status = store_status(mdb_get(txn, s->db[BLOCKS], &k, &v));
    if (status == AMI_OK) {
        struct reader r = reader_on(span_of(v.mv_data, v.mv_size));
        status = store_read_front(&r, height, header, commit);
        if (status != AMI_OK || !store_front_is_whole(s, by_height, &v, r.at))
            status = AMI_DAMAGED;
    }
    store_end(s, txn);
    return status;
}

/* A number in a value of exactly its size. */
static enum ami_status get_height(struct store *s, MDB_txn *txn, const sm3_digest *block,
                                  uint64_t *height)
{
    struct span v = {0};
    AMI_TRY(store_status(store_get(s, txn, HASHES, span_of(block->b, SM3_BYTES), &v)));
    if (v.size != 8)
        return AMI_DAMAGED;
    *height = load_be64(v.data);
    return AMI_OK;
}

static enum ami_status get_body(struct store *s, MDB_txn *txn, const sm3_digest *block,
                                struct block_header *header, struct span *body)
{
    struct span v = {0};
    int rc = store_get_block(s, txn, PENDING, span_of(block->b, SM3_BYTES), &v);
    if (rc == MDB_SUCCESS) {
        struct body_reply kept;
        AMI_TRY(body_reply_parse(&kept, v) == AMI_OK ? AMI_OK : AMI_DAMAGED);
        *header = kept.header;
        *body = kept.body;
        return AMI_OK;
    }
    if (rc != MDB_NOTFOUND)
        return store_status(rc);
    uint8_t key[8];
    uint64_t height;
    struct qc commit;
    AMI_TRY(get_height(s, txn, block, &height));
    rc = store_get_block(s, txn, BLOCKS, store_key_u64(key, height), &v);
    AMI_TRY(rc == MDB_NOTFOUND ? AMI_DAMAGED : store_status(rc));
    struct reader r = reader_on(v);
    AMI_TRY(store_read_front(&r, height, header, &commit));
    *body = read_bytes(&r, AMI_BLOCK_BYTES_MAX);
    return reader_done(&r) ? AMI_OK : AMI_DAMAGED;
}

enum ami_status store_body(struct store *s, const sm3_digest *block, struct body_reply *out,
                           uint8_t *buffer, size_t buffer_size)
{
    MDB_txn *txn;
    struct span body;
    AMI_TRY(store_begin(s, MDB_RDONLY, &txn));
    enum ami_status status = get_body(s, txn, block, &out->header, &body);
    if (status == AMI_OK && body.size > buffer_size)
        status = AMI_TOO_LARGE;
    if (status == AMI_OK) {
        if (body.size != 0)
            memcpy(buffer, body.data, body.size);
        out->body = span_of(buffer, body.size);
    }
    store_end(s, txn);
    return status;
}

enum ami_status store_height_of(struct store *s, const sm3_digest *block, uint64_t *height)
{
    MDB_txn *txn;
    AMI_TRY(store_begin(s, MDB_RDONLY, &txn));
    enum ami_status status = get_height(s, txn, block, height);
    store_end(s, txn);
    return status;
}

enum ami_status store_find_epoch(struct store *s, uint32_t epoch, uint64_t *height, uint32_t *index)
{
    uint8_t key[4], place[PLACE_BYTES];
    struct span v = {0};
    enum ami_status status =
        get_copy(s, EPOCHS, store_key_u32(key, epoch), place, sizeof place, &v);
    if (status == AMI_TOO_LARGE || (status == AMI_OK && v.size != sizeof place))
        return AMI_DAMAGED;
    AMI_TRY(status);
    *height = load_be64(place);
    *index = load_be32(place + 8);
    return AMI_OK;
}

enum ami_status store_retention(struct store *s, struct store_retention *out)
{
    MDB_txn *txn;
    AMI_TRY(store_begin(s, MDB_RDONLY, &txn));
    enum ami_status status = store_get_retention(s, txn, out);
    store_end(s, txn);
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
    for (size_t i = 0; rc == MDB_SUCCESS && i < STORE_META_KEYS; i++) {
        struct span v;
        rc = store_get(s, txn, META, store_meta_keys[i], &v);
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
    static const int dbs[] = {BLOCKS, HASHES, EPOCHS};
    uint64_t *const counts[] = {&out->blocks, &out->hashes, &out->epochs};
    MDB_txn *txn;
    sm3_digest tip;
    AMI_TRY(store_begin(s, MDB_RDONLY, &txn));
    enum ami_status status = store_get_tip(s, txn, &out->height, &tip);
    if (status == AMI_OK)
        status = store_get_retention(s, txn, &out->retention);
    if (status == AMI_OK)
        status = store_status(look_for_foreign(s, txn, &out->foreign));
    for (size_t i = 0; status == AMI_OK && i < sizeof dbs / sizeof dbs[0]; i++) {
        MDB_stat stat_db;
        status = store_status(mdb_stat(txn, s->db[dbs[i]], &stat_db));
        if (status == AMI_OK)
            *counts[i] = stat_db.ms_entries;
    }
    store_end(s, txn);
    return status;
}

enum ami_status store_vote_record(struct store *s, struct vote_record *out, uint8_t *buffer,
                                  size_t buffer_size)
{
    struct span v = {0};
    AMI_TRY(get_copy(s, META, SPAN_LITERAL(KEY_VOTE), buffer, buffer_size, &v));
    return store_parse_vote(out, v);
}

/* --- patrol ---------------------------------------------------------------------------------- */

_Static_assert(STORE_DATABASES == DB_COUNT, "one place for each");

/* Whether a database only grows. */
static bool grows(int db)
{
    return db != PENDING && db != RUNS && db != CHANGES;
}

static int patrol_count(struct store *s, MDB_txn *txn, struct store_patrol *p)
{
    for (int i = 0; i < DB_COUNT; i++) {
        MDB_stat stat_db;
        int rc = mdb_stat(txn, s->db[i], &stat_db);
        if (rc != MDB_SUCCESS)
            return rc;
        if (grows(i) && stat_db.ms_entries > p->most[i])
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
            store_open_value(s, (int)p->db, key, &v, &value) != MDB_SUCCESS)
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
        return store_note_damage(s);
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
    AMI_TRY(store_begin(s, MDB_RDONLY, &txn));
    int rc = patrol_count(s, txn, p);
    if (rc == MDB_SUCCESS)
        do
            rc = patrol_db(s, txn, p, &left);
        while (rc == MDB_NOTFOUND && p->db < DB_COUNT);
    store_end(s, txn);
    *round = rc == MDB_NOTFOUND;
    if (!*round)
        return store_status(rc);
    p->db = 0;
    p->bytes = 0;
    return AMI_OK;
}
