/* ledger/store_runs.c - what finds transactions and reports (ledger/runs.h), and the registry's
 * records. Both are written in bulk: with most blocks only what came new, and in larger steps what
 * would otherwise rewrite a page for each row. */
#include "ledger/store_lmdb.h"

#include "base/check.h"

#include <stdlib.h>
#include <string.h>

/* Growing bytes. */
struct heap {
    uint8_t *data;
    size_t size, room;
};

static enum ami_status heap_put(struct heap *h, const void *data, size_t size)
{
    if (h->room - h->size < size) {
        size_t room = 2 * h->room + size;
        uint8_t *more = realloc(h->data, room);
        if (more == NULL)
            return AMI_NO_MEMORY;
        h->data = more;
        h->room = room;
    }
    if (size != 0)
        memcpy(h->data + h->size, data, size);
    h->size += size;
    return AMI_OK;
}

/* --- many values at once ---------------------------------------------------------------------- */

/* Of at most a page each: their checks are computed side by side. */
#define VALUES_ROUND 64

static int put_values(struct store *s, MDB_txn *txn, int db, const struct span *key,
                      const struct span *value, size_t count, unsigned flags)
{
    uint8_t check[VALUES_ROUND][STORE_CHECK_BYTES];
    AMI_CHECK(count <= VALUES_ROUND);
    store_checks(check, store_db_names[db], key, value, count);
    for (size_t i = 0; i < count; i++) {
        MDB_val k = {key[i].size, (void *)(uintptr_t)key[i].data};
        MDB_val v = {value[i].size + STORE_CHECK_BYTES, NULL};
        int rc = mdb_put(txn, s->db[db], &k, &v, flags | MDB_RESERVE);
        if (rc != MDB_SUCCESS)
            return rc;
        memcpy(v.mv_data, value[i].data, value[i].size);
        memcpy((uint8_t *)v.mv_data + value[i].size, check[i], STORE_CHECK_BYTES);
    }
    return MDB_SUCCESS;
}

/* --- one run's pieces ------------------------------------------------------------------------- */

#define LMDB_PAGE_HEADER_BYTES 16
_Static_assert(LMDB_PAGE_HEADER_BYTES + ROW_BYTES * RUN_PIECE_ROWS + STORE_CHECK_BYTES <= 4096,
               "a piece fits on any free page");

/* The piece where the cursor stands; MDB_NOTFOUND when it is of another slice, as well as when the
 * step there came to the end. */
static int piece_of(struct store *s, int step, const struct run_name *n, const MDB_val *k,
                    const uint8_t **first)
{
    struct run_name here;
    if (step != MDB_SUCCESS)
        return step;
    if (!run_key_parse(&here, first, span_of(k->mv_data, k->mv_size)))
        return store_note_damage(s);
    return here.level == n->level && here.run == n->run && here.slice == n->slice ? MDB_SUCCESS
                                                                                  : MDB_NOTFOUND;
}

/* MDB_NOTFOUND: the slice is empty. */
static int first_piece(struct store *s, MDB_cursor *cursor, const struct run_name *n, MDB_val *k,
                       MDB_val *v)
{
    uint8_t row[ROW_BYTES], begin[RUN_KEY_BYTES];
    const uint8_t *first;
    run_slice_begin(row, n);
    run_key_encode(begin, n->level, n->run, row);
    *k = (MDB_val){sizeof begin, begin};
    return piece_of(s, mdb_cursor_get(cursor, k, v, MDB_SET_RANGE), n, k, &first);
}

static int next_piece(struct store *s, MDB_cursor *cursor, const struct run_name *n, MDB_val *k,
                      MDB_val *v)
{
    const uint8_t *first;
    return piece_of(s, mdb_cursor_get(cursor, k, v, MDB_NEXT), n, k, &first);
}

/* Takes the rows of one slice out of the store. */
static enum ami_status take_slice(struct store *s, MDB_cursor *cursor, const struct run_name *n,
                                  struct heap *rows)
{
    MDB_val k, v;
    int rc = first_piece(s, cursor, n, &k, &v);
    while (rc == MDB_SUCCESS) {
        const struct span key = span_of(k.mv_data, k.mv_size);
        struct span piece = {0};
        AMI_TRY(store_status(store_open_value(s, RUNS, key, &v, &piece)));
        if (piece.size % ROW_BYTES != 0)
            return store_status(store_note_damage(s));
        for (size_t at = 0; at < piece.size; at += ROW_BYTES)
            if (!run_covers(n, piece.data + at))
                return store_status(store_note_damage(s));
        AMI_TRY(heap_put(rows, piece.data, piece.size));
        rc = mdb_cursor_del(cursor, 0);
        if (rc == MDB_SUCCESS)
            rc = next_piece(s, cursor, n, &k, &v);
    }
    return rc == MDB_NOTFOUND ? AMI_OK : store_status(rc);
}

/* Has what the next part of this level will take fetched from the disk: it is minutes old and lies
 * here and there, and a write is not to wait for each page. */
static int fetch_part(struct store *s, MDB_cursor *cursor, const struct run_part *p)
{
    for (size_t i = 0; i < RUNS_FAN; i++) {
        const struct run_name n = {p->level - 1, p->run * RUNS_FAN + i, p->part};
        MDB_val k, v;
        int rc = first_piece(s, cursor, &n, &k, &v);
        for (; rc == MDB_SUCCESS; rc = next_piece(s, cursor, &n, &k, &v))
            store_will_read(s, &v);
        if (rc != MDB_NOTFOUND)
            return rc;
    }
    return MDB_SUCCESS;
}

/* Sorted rows of 64 slices, as pieces of this run. */
static int put_slices(struct store *s, MDB_txn *txn, unsigned level, uint64_t run,
                      const struct heap *sorted)
{
    uint8_t key[VALUES_ROUND][RUN_KEY_BYTES];
    struct span keys[VALUES_ROUND] = {{0}}, pieces[VALUES_ROUND] = {{0}};
    int rc = MDB_SUCCESS;
    for (size_t at = 0; at < sorted->size && rc == MDB_SUCCESS;) {
        size_t count = 0;
        for (; count < VALUES_ROUND && at < sorted->size; count++) {
            const uint8_t *first = sorted->data + at;
            const uint32_t slice = runs_slice_of(level, first);
            size_t size = ROW_BYTES;
            while (at + size < sorted->size && size < ROW_BYTES * RUN_PIECE_ROWS &&
                   runs_slice_of(level, first + size) == slice)
                size += ROW_BYTES;
            run_key_encode(key[count], level, run, first);
            keys[count] = span_of(key[count], RUN_KEY_BYTES);
            pieces[count] = span_of(first, size);
            at += size;
        }
        rc = put_values(s, txn, RUNS, keys, pieces, count, MDB_NOOVERWRITE);
    }
    return rc;
}

/* --- the tail --------------------------------------------------------------------------------- */

void store_tail_clear(struct store_tail *t)
{
    for (size_t i = 0; i < RUNS_FAN; i++) {
        free(t->rows[i]);
        t->rows[i] = NULL;
        t->count[i] = 0;
    }
}

static void tail_begin(struct store_tail *t, uint64_t tip)
{
    store_tail_clear(t);
    t->from = t->to = tip - tip % RUNS_FAN;
}

static void tail_take(struct store_tail *t, uint64_t height, uint8_t *rows, size_t count)
{
    const size_t at = height - t->from - 1;
    AMI_CHECK(height == t->to + 1 && at < RUNS_FAN);
    t->rows[at] = rows;
    t->count[at] = count;
    t->to = height;
}

enum ami_status store_rows_at(struct store *s, MDB_txn *txn, uint64_t height, uint8_t **rows,
                              size_t *count)
{
    uint8_t key[8];
    struct block_header header;
    struct qc commit;
    struct span v = {0};
    int rc = store_get_block(s, txn, BLOCKS, store_key_u64(key, height), &v);
    AMI_TRY(rc == MDB_NOTFOUND ? AMI_DAMAGED : store_status(rc));
    struct reader r = reader_on(v);
    AMI_TRY(store_read_front(&r, height, &header, &commit));
    enum ami_status status =
        rows_of_block(rows, count, s->salt, height, read_bytes(&r, AMI_BLOCK_BYTES_MAX));
    return status == AMI_OK || status == AMI_NO_MEMORY ? status : AMI_DAMAGED;
}

/* As far as this transaction's tip, at least; from blocks, which is what a reader of a ledger and
 * one who opens it do. A tail that has begun anew since the transaction did is none of its time. */
static enum ami_status tail_bring(struct store *s, MDB_txn *txn, struct store_tail *t, uint64_t tip)
{
    if (tip >= t->from + RUNS_FAN)
        tail_begin(t, tip);
    while (t->to < tip) {
        uint8_t *rows;
        size_t count;
        AMI_TRY(store_rows_at(s, txn, t->to + 1, &rows, &count));
        tail_take(t, t->to + 1, rows, count);
    }
    return AMI_OK;
}

static bool tail_find(const struct store_tail *t, const struct row_key *key, uint64_t tip,
                      uint64_t *height, uint32_t *index)
{
    for (uint64_t h = t->to < tip ? t->to : tip; h > t->from; h--) {
        const size_t at = h - t->from - 1;
        if (rows_find(t->rows[at], t->count[at], key, h, height, index))
            return true;
    }
    return false;
}

/* In the blocks that no run has yet. AMI_NOT_FOUND. */
static enum ami_status find_in_tail(struct store *s, MDB_txn *txn, const struct row_key *key,
                                    uint64_t tip, uint64_t *height, uint32_t *index)
{
    struct store_tail own = {.from = 0};
    bool found = false;
    pthread_mutex_lock(&s->tail.lock);
    const bool later = tip < s->tail.from;
    enum ami_status status = AMI_OK;
    if (!later) {
        status = tail_bring(s, txn, &s->tail, tip);
        found = status == AMI_OK && tail_find(&s->tail, key, tip, height, index);
    }
    pthread_mutex_unlock(&s->tail.lock);
    if (later) {
        tail_begin(&own, tip);
        status = tail_bring(s, txn, &own, tip);
        found = status == AMI_OK && tail_find(&own, key, tip, height, index);
        store_tail_clear(&own);
    }
    return status == AMI_OK && !found ? AMI_NOT_FOUND : status;
}

enum ami_status store_tail_read(struct store *s)
{
    MDB_txn *txn;
    uint64_t tip;
    sm3_digest hash;
    AMI_TRY(store_begin(s, MDB_RDONLY, &txn));
    enum ami_status status = store_get_tip(s, txn, &tip, &hash);
    pthread_mutex_lock(&s->tail.lock);
    if (status == AMI_OK)
        status = tail_bring(s, txn, &s->tail, tip);
    pthread_mutex_unlock(&s->tail.lock);
    store_end(s, txn);
    return status;
}

void store_tail_push(struct store *s, uint64_t height, uint8_t *rows, size_t count)
{
    struct store_tail *t = &s->tail;
    pthread_mutex_lock(&t->lock);
    if (height % RUNS_FAN == 0 && t->from < height)
        tail_begin(t, height);
    if (height == t->to + 1) {
        tail_take(t, height, rows, count);
        rows = NULL;
    }
    pthread_mutex_unlock(&t->lock);
    free(rows); /* a reader was quicker, or a run has them */
}

/* --- finding ---------------------------------------------------------------------------------- */

/* The last piece whose key is not above this one, of whatever run. */
static int last_upto(MDB_cursor *cursor, const uint8_t wanted[RUN_KEY_BYTES], MDB_val *k,
                     MDB_val *v)
{
    uint8_t copy[RUN_KEY_BYTES];
    memcpy(copy, wanted, sizeof copy);
    *k = (MDB_val){sizeof copy, copy};
    int rc = mdb_cursor_get(cursor, k, v, MDB_SET_RANGE);
    if (rc == MDB_NOTFOUND)
        return mdb_cursor_get(cursor, k, v, MDB_LAST);
    if (rc == MDB_SUCCESS &&
        (k->mv_size != sizeof copy || memcmp(k->mv_data, wanted, sizeof copy) != 0))
        rc = mdb_cursor_get(cursor, k, v, MDB_PREV);
    return rc;
}

/* Looks into one slice. To check the whole of a piece takes a hundred times as long as to look,
 * there may be hundreds to look into, and anybody who has a meter can ask. So what is checked is
 * the piece in which something was found; one in which nothing was is believed as long as the rows
 * around the place belong there. The patrol checks them all. */
static enum ami_status find_in_run(struct store *s, MDB_cursor *cursor, const struct run_name *n,
                                   const struct row_key *key, uint64_t tip, uint64_t *height,
                                   uint32_t *index)
{
    uint8_t row[ROW_BYTES], wanted[RUN_KEY_BYTES];
    const uint8_t *first;
    struct span rows;
    MDB_val k, v;
    row_last(row, key, tip);
    run_key_encode(wanted, n->level, n->run, row);
    /* Of another slice when all rows of this one are above it. */
    int rc = piece_of(s, last_upto(cursor, wanted, &k, &v), n, &k, &first);
    if (rc != MDB_SUCCESS)
        return store_status(rc);
    const struct span name = span_of(k.mv_data, k.mv_size);
    if (v.mv_size < STORE_CHECK_BYTES + ROW_BYTES ||
        (v.mv_size - STORE_CHECK_BYTES) % ROW_BYTES != 0)
        return store_status(store_note_damage(s));
    const uint8_t *data = v.mv_data;
    const size_t count = (v.mv_size - STORE_CHECK_BYTES) / ROW_BYTES;
    const size_t at = rows_upto(data, count, key, tip);
    if (at != 0 && ROW_ORDER(first, data) == 0 && run_covers(n, data + ROW_BYTES * (at - 1)) &&
        (at == count || run_covers(n, data + ROW_BYTES * at)) &&
        !rows_find(data, count, key, tip, height, index))
        return AMI_NOT_FOUND;
    AMI_TRY(store_status(store_open_value(s, RUNS, name, &v, &rows)));
    if (!rows_find(rows.data, count, key, tip, height, index))
        return store_status(store_note_damage(s));
    return AMI_OK;
}

static enum ami_status find_in(struct store *s, MDB_txn *txn, const struct row_key *key,
                               uint64_t *height, uint32_t *index)
{
    uint64_t tip;
    sm3_digest hash;
    AMI_TRY(store_get_tip(s, txn, &tip, &hash));
    enum ami_status status = find_in_tail(s, txn, key, tip, height, index);
    if (status != AMI_NOT_FOUND)
        return status;
    struct runs_walk walk = runs_walk_on(tip, key);
    MDB_cursor *cursor;
    AMI_TRY(store_status(mdb_cursor_open(txn, s->db[RUNS], &cursor)));
    for (struct run_name n; status == AMI_NOT_FOUND && runs_walk_next(&walk, &n);)
        status = find_in_run(s, cursor, &n, key, tip, height, index);
    mdb_cursor_close(cursor);
    return status;
}

static enum ami_status find(struct store *s, const struct row_key *key, uint64_t *height,
                            uint32_t *index)
{
    MDB_txn *txn;
    AMI_TRY(store_begin(s, MDB_RDONLY, &txn));
    enum ami_status status = find_in(s, txn, key, height, index);
    store_end(s, txn);
    return status;
}

enum ami_status store_find_tx(struct store *s, const sm3_digest *id, uint64_t *height,
                              uint32_t *index)
{
    const struct row_key key = row_tx_key(s->salt, id);
    return find(s, &key, height, index);
}

enum ami_status store_find_report(struct store *s, const struct ami_id *meter, uint32_t epoch,
                                  uint64_t sequence, uint64_t *height, uint32_t *index)
{
    const struct row_key key = row_report_key(s->salt, meter, epoch, sequence);
    return find(s, &key, height, index);
}

/* --- writing ---------------------------------------------------------------------------------- */

/* The rows of this block and of the tail: run height / 64 - 1 of level 1. */
static enum ami_status put_first_level(struct store *s, MDB_txn *txn, uint64_t height,
                                       const uint8_t *rows, size_t count, struct heap *all, int *rc)
{
    struct store_tail *t = &s->tail;
    enum ami_status status = AMI_OK;
    pthread_mutex_lock(&t->lock);
    status = tail_bring(s, txn, t, height - 1);
    for (size_t i = 0; status == AMI_OK && i < RUNS_FAN - 1; i++)
        status = heap_put(all, t->rows[i], ROW_BYTES * t->count[i]);
    pthread_mutex_unlock(&t->lock);
    if (status == AMI_OK)
        status = heap_put(all, rows, ROW_BYTES * count);
    AMI_TRY(status);
    rows_sort(all->data, all->size / ROW_BYTES);
    *rc = put_slices(s, txn, 1, height / RUNS_FAN - 1, all);
    return AMI_OK;
}

/* One slice of each of the 64 runs below becomes 64 slices of one run. */
static enum ami_status put_part(struct store *s, MDB_txn *txn, uint64_t height,
                                const struct run_part *p, struct heap *all, int *rc)
{
    struct run_part next;
    MDB_cursor *cursor;
    enum ami_status status = AMI_OK;
    *rc = mdb_cursor_open(txn, s->db[RUNS], &cursor);
    if (*rc != MDB_SUCCESS)
        return AMI_OK;
    for (size_t i = 0; status == AMI_OK && i < RUNS_FAN; i++) {
        const struct run_name n = {p->level - 1, p->run * RUNS_FAN + i, p->part};
        status = take_slice(s, cursor, &n, all);
    }
    if (status == AMI_OK && runs_part(height + RUNS_FAN, &next))
        *rc = fetch_part(s, cursor, &next);
    mdb_cursor_close(cursor);
    AMI_TRY(status);
    rows_sort(all->data, all->size / ROW_BYTES);
    if (*rc == MDB_SUCCESS)
        *rc = put_slices(s, txn, p->level, p->run, all);
    return AMI_OK;
}

enum ami_status store_put_runs(struct store *s, MDB_txn *txn, uint64_t height, const uint8_t *rows,
                               size_t count, int *rc)
{
    struct heap all = {NULL, 0, 0};
    struct run_part part;
    enum ami_status status = AMI_OK;
    *rc = MDB_SUCCESS;
    if (height % RUNS_FAN == 0)
        status = put_first_level(s, txn, height, rows, count, &all, rc);
    else if (runs_part(height, &part))
        status = put_part(s, txn, height, &part, &all, rc);
    free(all.data);
    return status;
}

/* --- the registry's records ------------------------------------------------------------------- */

/* A changed record: where it stands in the bytes of all. */
struct change {
    uint64_t index;
    size_t at; /* later ones are further behind */
    uint32_t size;
};

static int compare_changes(const void *a, const void *b)
{
    const struct change *x = a, *y = b;
    if (x->index != y->index)
        return x->index < y->index ? -1 : 1;
    return (x->at > y->at) - (x->at < y->at);
}

static enum ami_status list_changes(const struct heap *all, struct heap *list)
{
    struct reader r = reader_on(span_of(all->data, all->size));
    for (;;) {
        struct change c;
        struct span record;
        enum ami_status status = store_next_record(&r, &c.index, &record);
        if (status != AMI_OK)
            return status == AMI_NOT_FOUND ? AMI_OK : AMI_DAMAGED;
        c.at = (size_t)(record.data - all->data);
        c.size = (uint32_t)record.size;
        AMI_TRY(heap_put(list, &c, sizeof c));
    }
}

/* What the blocks before this one changed; none is there any more. */
static enum ami_status take_changes(struct store *s, MDB_txn *txn, struct heap *all, int *rc)
{
    MDB_cursor *cursor;
    MDB_val k, v;
    enum ami_status status = AMI_OK;
    *rc = mdb_cursor_open(txn, s->db[CHANGES], &cursor);
    if (*rc != MDB_SUCCESS)
        return AMI_OK;
    *rc = mdb_cursor_get(cursor, &k, &v, MDB_FIRST);
    while (*rc == MDB_SUCCESS && status == AMI_OK) {
        struct span value = {0};
        *rc = store_open_value(s, CHANGES, span_of(k.mv_data, k.mv_size), &v, &value);
        if (*rc != MDB_SUCCESS)
            break;
        status = heap_put(all, value.data, value.size);
        *rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    if (*rc == MDB_NOTFOUND)
        *rc = mdb_drop(txn, s->db[CHANGES], 0);
    return status;
}

/* Records on their way into their table. */
static int put_round(struct store *s, MDB_txn *txn, const struct heap *all, const struct change *c,
                     size_t count)
{
    uint8_t key[VALUES_ROUND][8];
    struct span keys[VALUES_ROUND] = {{0}}, records[VALUES_ROUND] = {{0}};
    for (size_t i = 0; i < count; i++) {
        keys[i] = store_key_u64(key[i], c[i].index);
        records[i] = span_of(all->data + c[i].at, c[i].size);
    }
    return put_values(s, txn, RECORDS, keys, records, count, 0);
}

/* The newest of each record, in order, so that a page is written once. */
static enum ami_status put_changed(struct store *s, MDB_txn *txn, const struct heap *all,
                                   struct heap *list, int *rc)
{
    AMI_TRY(list_changes(all, list));
    struct change *c = (struct change *)(void *)list->data;
    const size_t count = list->size / sizeof *c;
    size_t newest = 0;
    if (count > 1)
        qsort(c, count, sizeof *c, compare_changes);
    for (size_t i = 0; i < count; i++)
        if (i + 1 == count || c[i + 1].index != c[i].index)
            c[newest++] = c[i];
    for (size_t i = 0; i < newest && *rc == MDB_SUCCESS; i += VALUES_ROUND)
        *rc = put_round(s, txn, all, c + i, newest - i < VALUES_ROUND ? newest - i : VALUES_ROUND);
    return AMI_OK;
}

enum ami_status store_put_records(struct store *s, MDB_txn *txn, uint64_t height,
                                  struct span records, int *rc)
{
    struct heap all = {NULL, 0, 0}, list = {NULL, 0, 0};
    struct reader r = reader_on(records);
    uint8_t key[8];
    *rc = MDB_SUCCESS;
    for (;;) {
        uint64_t index;
        struct span record;
        enum ami_status status = store_next_record(&r, &index, &record);
        if (status == AMI_NOT_FOUND)
            break;
        AMI_TRY(status);
    }
    if (height != records_folded(height)) {
        if (records.size > STORE_LONG_BYTES_MAX)
            return AMI_TOO_LARGE;
        if (records.size != 0)
            *rc = store_put_value(s, txn, CHANGES, store_key_u64(key, height), records,
                                  span_of(NULL, 0), 0);
        return AMI_OK;
    }
    enum ami_status status = take_changes(s, txn, &all, rc);
    if (status == AMI_OK && *rc == MDB_SUCCESS)
        status = heap_put(&all, records.data, records.size);
    if (status == AMI_OK && *rc == MDB_SUCCESS)
        status = put_changed(s, txn, &all, &list, rc);
    free(all.data);
    free(list.data);
    return status;
}

static enum ami_status load_one(struct registry *r, uint64_t index, struct span value)
{
    struct record rec;
    if (record_parse(&rec, value) != AMI_OK)
        return AMI_DAMAGED;
    enum ami_status status = registry_load(r, index, &rec);
    return status == AMI_OK || status == AMI_NO_MEMORY ? status : AMI_DAMAGED;
}

/* Changes of another height than one after the last folding of records, up to the tip, would come
 * in between those of later blocks. */
static enum ami_status load_value(int db, struct registry *r, uint64_t tip, struct span key,
                                  struct span value)
{
    if (key.size != 8)
        return AMI_DAMAGED;
    const uint64_t number = load_be64(key.data);
    if (db == RECORDS)
        return load_one(r, number, value);
    if (number <= records_folded(tip) || number > tip)
        return AMI_DAMAGED;
    struct reader changes = reader_on(value);
    for (;;) {
        uint64_t index;
        struct span record;
        enum ami_status status = store_next_record(&changes, &index, &record);
        if (status != AMI_OK)
            return status == AMI_NOT_FOUND ? AMI_OK : AMI_DAMAGED;
        AMI_TRY(load_one(r, index, record));
    }
}

static enum ami_status load_db(struct store *s, MDB_txn *txn, int db, uint64_t tip,
                               struct registry *r)
{
    MDB_cursor *cursor;
    MDB_val k, v;
    AMI_TRY(store_status(mdb_cursor_open(txn, s->db[db], &cursor)));
    enum ami_status status = AMI_OK;
    int rc = mdb_cursor_get(cursor, &k, &v, MDB_FIRST);
    while (rc == MDB_SUCCESS && status == AMI_OK) {
        const struct span key = span_of(k.mv_data, k.mv_size);
        struct span value = {0};
        rc = store_open_value(s, db, key, &v, &value);
        if (rc == MDB_SUCCESS)
            status = load_value(db, r, tip, key, value);
        if (rc == MDB_SUCCESS)
            rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    if (status == AMI_OK && rc != MDB_NOTFOUND)
        status = store_status(rc);
    return status;
}

enum ami_status store_load_registry_at(struct store *s, struct registry *r, uint64_t *height)
{
    MDB_txn *txn;
    sm3_digest tip;
    AMI_TRY(store_begin(s, MDB_RDONLY, &txn));
    enum ami_status status = store_get_tip(s, txn, height, &tip);
    if (status == AMI_OK)
        status = load_db(s, txn, RECORDS, *height, r);
    if (status == AMI_OK)
        status = load_db(s, txn, CHANGES, *height, r); /* in order of height */
    store_end(s, txn);
    if (status == AMI_OK)
        registry_loaded(r, *height);
    return status;
}

enum ami_status store_load_registry(struct store *s, struct registry *r)
{
    uint64_t height;
    return store_load_registry_at(s, r, &height);
}

/* --- audit ------------------------------------------------------------------------------------ */

enum ami_status store_sum_block(struct store *s, struct rows_sum *sum,
                                const uint8_t secret[ROWS_SECRET_BYTES], uint64_t height,
                                struct span body)
{
    uint8_t *rows;
    size_t count;
    AMI_TRY(rows_of_block(&rows, &count, s->salt, height, body));
    rows_sum_add(sum, secret, rows, count);
    free(rows);
    return AMI_OK;
}

static enum ami_status sum_runs(struct store *s, MDB_txn *txn, struct rows_sum *sum,
                                const uint8_t *secret, uint64_t height, uint64_t tip)
{
    MDB_cursor *cursor;
    MDB_val k, v;
    struct run_pieces pieces = {.last_row = {0}};
    AMI_TRY(store_status(mdb_cursor_open(txn, s->db[RUNS], &cursor)));
    int rc = mdb_cursor_get(cursor, &k, &v, MDB_FIRST);
    while (rc == MDB_SUCCESS) {
        const struct span key = span_of(k.mv_data, k.mv_size);
        struct span rows = {0};
        rc = store_open_value(s, RUNS, key, &v, &rows);
        if (rc == MDB_SUCCESS && !run_piece_is_right(&pieces, tip, key, rows))
            rc = MDB_CORRUPTED;
        for (size_t at = 0; rc == MDB_SUCCESS && at < rows.size;) {
            size_t end = at;
            while (end < rows.size && load_be64(rows.data + end + ROW_KEY_BYTES) <= height)
                end += ROW_BYTES;
            rows_sum_add(sum, secret, rows.data + at, (end - at) / ROW_BYTES);
            at = end + ROW_BYTES; /* over one that is too high */
        }
        if (rc == MDB_SUCCESS)
            rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? AMI_OK : store_status(rc);
}

enum ami_status store_sum_runs(struct store *s, struct rows_sum *sum,
                               const uint8_t secret[ROWS_SECRET_BYTES], uint64_t height)
{
    MDB_txn *txn;
    uint64_t tip;
    sm3_digest hash;
    AMI_CHECK(height % RUNS_FAN == 0);
    AMI_TRY(store_begin(s, MDB_RDONLY, &txn));
    enum ami_status status = store_get_tip(s, txn, &tip, &hash);
    if (status == AMI_OK)
        status = sum_runs(s, txn, sum, secret, height, tip);
    store_end(s, txn);
    return status;
}
