/* mdms/reports.c - sorted runs of reports in LMDB; see the header. */
#include "mdms/reports.h"

#include "base/check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* As LMDB orders keys. */
static int compare(struct span a, struct span b)
{
    const size_t both = a.size < b.size ? a.size : b.size;
    const int order = both == 0 ? 0 : memcmp(a.data, b.data, both);
    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

/* --- chunks in their table -------------------------------------------------------------------- */

#define NAME_BYTES (1 + 8) /* level and run: what the keys of a run's chunks begin with */

struct chunk_key {
    uint8_t b[NAME_BYTES + MDMS_KEY_BYTES_MAX];
    size_t size;
};

static struct chunk_key chunk_key(unsigned level, uint64_t run, struct span first)
{
    struct chunk_key k = {.size = NAME_BYTES + first.size};
    AMI_CHECK(k.size <= sizeof k.b);
    k.b[0] = (uint8_t)level;
    store_be64(k.b + 1, run);
    if (first.size > 0)
        memcpy(k.b + NAME_BYTES, first.data, first.size);
    return k;
}

static bool same_run(const struct chunk_key *k, const MDB_val *found)
{
    return found->mv_size > NAME_BYTES && memcmp(found->mv_data, k->b, NAME_BYTES) == 0;
}

/* --- the record of runs ----------------------------------------------------------------------- */

static int load_runs(MDB_txn *txn, const struct reports_tables *t, struct runs_record *out)
{
    struct mdms_key key = key_runs();
    MDB_val k = {key.size, key.b}, v;
    int rc = mdb_get(txn, t->state, &k, &v);
    memset(out, 0, sizeof *out);
    if (rc == MDB_NOTFOUND)
        return MDB_SUCCESS; /* no report came yet */
    if (rc == MDB_SUCCESS && runs_record_parse(out, span_of(v.mv_data, v.mv_size)) != AMI_OK)
        rc = MDB_CORRUPTED;
    return rc;
}

static int save_runs(MDB_txn *txn, const struct reports_tables *t, const struct runs_record *r)
{
    uint8_t bytes[MDMS_RUNS_BYTES_MAX];
    struct mdms_key key = key_runs();
    struct writer w = writer_on(bytes, sizeof bytes);
    runs_record_encode(&w, r);
    AMI_CHECK(writer_ok(&w));
    MDB_val k = {key.size, key.b}, v = {w.size, bytes};
    return mdb_put(txn, t->state, &k, &v, 0);
}

/* --- reading runs side by side ---------------------------------------------------------------- */

/* Where a reader stands in a run. */
struct place {
    unsigned level;
    uint64_t run;
    struct span chunk;
    struct reader rest; /* of the chunk, behind the row */
    struct span key, record;
    bool ended;
};

struct runs_reader {
    MDB_cursor *cursor;  /* one for all: it is put where it is wanted */
    struct place *place; /* older runs first */
    size_t count, room;
    size_t *heap; /* those that have not ended, the one whose row is the next on top */
    size_t heap_size;
};

static int next_in_chunk(struct place *p)
{
    struct span key = {0}, record = {0};
    enum ami_status status = report_row_next(&p->rest, &key, &record);
    if (status == AMI_NOT_FOUND)
        return MDB_NOTFOUND;
    if (status != AMI_OK || (p->key.size > 0 && compare(p->key, key) >= 0))
        return MDB_CORRUPTED;
    p->key = key;
    p->record = record;
    return MDB_SUCCESS;
}

/* Its first row becomes the place's. */
static int begin_chunk(struct place *p, const MDB_val *k, const MDB_val *v)
{
    p->chunk = span_of(v->mv_data, v->mv_size);
    p->rest = reader_on(p->chunk);
    int rc = next_in_chunk(p);
    const struct span first = {(const uint8_t *)k->mv_data + NAME_BYTES, k->mv_size - NAME_BYTES};
    return rc == MDB_SUCCESS && span_equal(first, p->key) ? MDB_SUCCESS : MDB_CORRUPTED;
}

/* Behind a chunk comes the one whose key is the next, when it is of the same run. */
static int next_chunk(const struct runs_reader *r, struct place *p)
{
    struct reader first = reader_on(p->chunk);
    struct span key = {0}, record;
    AMI_CHECK(report_row_next(&first, &key, &record) == AMI_OK);
    const struct chunk_key at = chunk_key(p->level, p->run, key);
    MDB_val k = {at.size, (void *)(uintptr_t)at.b}, v;
    int rc = mdb_cursor_get(r->cursor, &k, &v, MDB_SET_KEY);
    if (rc != MDB_SUCCESS)
        return rc == MDB_NOTFOUND ? MDB_CORRUPTED : rc;
    rc = mdb_cursor_get(r->cursor, &k, &v, MDB_NEXT);
    p->ended = rc == MDB_NOTFOUND || (rc == MDB_SUCCESS && !same_run(&at, &k));
    return p->ended ? MDB_SUCCESS : rc != MDB_SUCCESS ? rc : begin_chunk(p, &k, &v);
}

static int next_row(const struct runs_reader *r, struct place *p)
{
    int rc = next_in_chunk(p);
    return rc == MDB_NOTFOUND ? next_chunk(r, p) : rc;
}

/* To the first row that is not below `from`: it is in the last chunk that does not begin above
 * `from`, or the first row of the next one. */
static int seek(const struct runs_reader *r, struct place *p, struct span from)
{
    const struct chunk_key at = chunk_key(p->level, p->run, from);
    MDB_val k = {at.size, (void *)(uintptr_t)at.b}, v;
    int rc = mdb_cursor_get(r->cursor, &k, &v, MDB_SET_RANGE);
    const bool above = rc == MDB_SUCCESS && same_run(&at, &k);
    if (!above || k.mv_size != at.size || memcmp(k.mv_data, at.b, at.size) != 0) {
        if (rc != MDB_SUCCESS && rc != MDB_NOTFOUND)
            return rc;
        MDB_val k_before, v_before;
        rc = mdb_cursor_get(r->cursor, &k_before, &v_before, rc == 0 ? MDB_PREV : MDB_LAST);
        if (rc == MDB_SUCCESS && same_run(&at, &k_before)) {
            k = k_before;
            v = v_before;
        } else if ((rc == MDB_SUCCESS || rc == MDB_NOTFOUND) && !above) {
            p->ended = true;
            return MDB_SUCCESS;
        } else if (rc != MDB_SUCCESS && rc != MDB_NOTFOUND) {
            return rc;
        }
    }
    rc = begin_chunk(p, &k, &v);
    while (rc == MDB_SUCCESS && !p->ended && compare(p->key, from) < 0)
        rc = next_row(r, p);
    return rc;
}

/* Of equal rows the one of the older run comes first. */
static bool comes_before(const struct runs_reader *r, size_t a, size_t b)
{
    const int order = compare(r->place[a].key, r->place[b].key);
    return order != 0 ? order < 0 : a < b;
}

static void sift_down(struct runs_reader *r, size_t at)
{
    const size_t moved = r->heap[at];
    for (size_t below; (below = 2 * at + 1) < r->heap_size; at = below) {
        if (below + 1 < r->heap_size && comes_before(r, r->heap[below + 1], r->heap[below]))
            below++;
        if (!comes_before(r, r->heap[below], moved))
            break;
        r->heap[at] = r->heap[below];
    }
    r->heap[at] = moved;
}

static int advance_top(struct runs_reader *r)
{
    struct place *p = &r->place[r->heap[0]];
    int rc = next_row(r, p);
    if (rc != MDB_SUCCESS)
        return rc;
    if (p->ended)
        r->heap[0] = r->heap[--r->heap_size];
    if (r->heap_size > 0)
        sift_down(r, 0);
    return MDB_SUCCESS;
}

/* The next row; those of the same key, of newer runs, are passed over. MDB_NOTFOUND: none left. */
static int reader_next(struct runs_reader *r, struct reports_row *out)
{
    if (r->heap_size == 0)
        return MDB_NOTFOUND;
    const struct place *p = &r->place[r->heap[0]];
    *out = (struct reports_row){p->key, p->record};
    int rc;
    do
        rc = advance_top(r);
    while (rc == MDB_SUCCESS && r->heap_size > 0 &&
           compare(r->place[r->heap[0]].key, out->key) == 0);
    return rc;
}

static int reader_open(struct runs_reader *r, MDB_txn *txn, const struct reports_tables *t,
                       size_t room)
{
    *r = (struct runs_reader){.room = room};
    r->place = calloc(room + 1, sizeof *r->place);
    r->heap = calloc(room + 1, sizeof *r->heap);
    return r->place == NULL || r->heap == NULL ? ENOMEM : mdb_cursor_open(txn, t->rows, &r->cursor);
}

static void reader_close(struct runs_reader *r)
{
    if (r->cursor != NULL)
        mdb_cursor_close(r->cursor);
    free(r->place);
    free(r->heap);
}

static int reader_add(struct runs_reader *r, unsigned level, uint64_t run, struct span from)
{
    AMI_CHECK(r->count < r->room);
    struct place *p = &r->place[r->count];
    *p = (struct place){.level = level, .run = run};
    int rc = seek(r, p, from);
    if (rc == MDB_SUCCESS && !p->ended)
        r->heap[r->heap_size++] = r->count;
    r->count++;
    return rc;
}

static void reader_begin(struct runs_reader *r)
{
    for (size_t i = r->heap_size / 2; i-- > 0;)
        sift_down(r, i);
}

/* All runs from `from` on. What a merge has made so far is a run, too, and older than those that it
 * is made of: rows of theirs that it has already, and whose chunk is still there, are passed over.
 */
static int reader_add_all(struct runs_reader *r, const struct runs_record *runs, struct span from)
{
    int rc = MDB_SUCCESS;
    for (unsigned level = MDMS_RUN_LEVELS; level-- > 0;) {
        const struct runs_level *l = &runs->level[level];
        const bool made = level > 0 && runs->level[level - 1].merged_end != 0;
        for (uint64_t run = l->first; run < l->end + made && rc == MDB_SUCCESS; run++)
            rc = reader_add(r, level, run, from);
    }
    return rc;
}

static size_t count_runs(const struct runs_record *runs)
{
    size_t count = 0;
    for (unsigned level = 0; level < MDMS_RUN_LEVELS; level++)
        count += (size_t)(runs->level[level].end - runs->level[level].first) + 1;
    return count;
}

int reports_scan(MDB_txn *txn, const struct reports_tables *t, struct span from,
                 bool (*each)(void *ctx, struct span key, struct span record), void *ctx)
{
    struct runs_record runs;
    struct runs_reader r;
    struct reports_row row;
    int rc = load_runs(txn, t, &runs);
    if (rc != MDB_SUCCESS)
        return rc;
    if (from.size > MDMS_KEY_BYTES_MAX)
        return MDB_BAD_VALSIZE;
    rc = reader_open(&r, txn, t, count_runs(&runs));
    if (rc == MDB_SUCCESS)
        rc = reader_add_all(&r, &runs, from);
    if (rc == MDB_SUCCESS) {
        reader_begin(&r);
        while ((rc = reader_next(&r, &row)) == MDB_SUCCESS && each(ctx, row.key, row.record))
            ;
    }
    reader_close(&r);
    return rc == MDB_NOTFOUND ? MDB_SUCCESS : rc;
}

struct wanted {
    struct span key, record;
    bool found;
};

static bool take_wanted(void *ctx, struct span key, struct span record)
{
    struct wanted *w = ctx;
    w->found = span_equal(key, w->key);
    w->record = record;
    return false;
}

int reports_get(MDB_txn *txn, const struct reports_tables *t, struct span key, struct span *record)
{
    struct wanted w = {.key = key};
    int rc = reports_scan(txn, t, key, take_wanted, &w);
    *record = w.record;
    return rc == MDB_SUCCESS && !w.found ? MDB_NOTFOUND : rc;
}

/* --- writing ---------------------------------------------------------------------------------- */

/* Encoded rows, in order, as chunks of this run. */
static int put_chunks(MDB_txn *txn, const struct reports_tables *t, unsigned level, uint64_t run,
                      struct span rows)
{
    struct reader r = reader_on(rows);
    struct span first = {0}, key, record;
    size_t begin = 0, end = 0;
    int rc = MDB_SUCCESS;
    while (rc == MDB_SUCCESS && begin < rows.size) {
        const bool more = report_row_next(&r, &key, &record) == AMI_OK;
        if (begin < end && (!more || r.at - begin > REPORTS_CHUNK_BYTES)) {
            const struct chunk_key at = chunk_key(level, run, first);
            MDB_val k = {at.size, (void *)(uintptr_t)at.b};
            MDB_val v = {end - begin, (void *)(uintptr_t)(rows.data + begin)};
            rc = mdb_put(txn, t->rows, &k, &v, MDB_NOOVERWRITE);
            begin = end;
        }
        if (begin == end)
            first = key;
        end = r.at;
    }
    return rc == MDB_KEYEXIST ? MDB_CORRUPTED : rc;
}

/* The chunks of a run that begin below `below`; empty: all. */
static int remove_chunks(MDB_txn *txn, const struct reports_tables *t, unsigned level, uint64_t run,
                         struct span below)
{
    MDB_cursor *cursor;
    const struct chunk_key from = chunk_key(level, run, span_of(NULL, 0));
    int rc = mdb_cursor_open(txn, t->rows, &cursor);
    if (rc != MDB_SUCCESS)
        return rc;
    while (rc == MDB_SUCCESS) {
        MDB_val k = {from.size, (void *)(uintptr_t)from.b}, v;
        rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
        if (rc != MDB_SUCCESS || !same_run(&from, &k) ||
            (below.size > 0 &&
             compare(span_of((const uint8_t *)k.mv_data + NAME_BYTES, k.mv_size - NAME_BYTES),
                     below) >= 0))
            break;
        rc = mdb_cursor_del(cursor, 0);
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? MDB_SUCCESS : rc;
}

/* A merge's next rows, and what they leave behind: copies, since a write to LMDB may move what was
 * read from it. */
struct merge {
    struct writer rows;
    struct mdms_key from;               /* the first row that is left; empty: none is */
    struct mdms_key chunk[REPORTS_FAN]; /* where the chunk begins that a run stands in */
    bool ended[REPORTS_FAN];
};

static void copy_key(struct mdms_key *to, struct span key)
{
    AMI_CHECK(key.size <= sizeof to->b);
    to->size = (uint8_t)key.size;
    memcpy(to->b, key.data, key.size);
}

static int take_rows(struct runs_reader *r, struct merge *m, const struct runs_level *l,
                     unsigned level, size_t budget)
{
    struct reports_row row;
    int rc = MDB_SUCCESS;
    for (uint64_t run = l->first; run < l->merged_end && rc == MDB_SUCCESS; run++)
        rc = reader_add(r, level, run, key_span(&l->from));
    if (rc != MDB_SUCCESS)
        return rc;
    reader_begin(r);
    while (m->rows.size < budget && (rc = reader_next(r, &row)) == MDB_SUCCESS)
        report_row_encode(&m->rows, row.key, row.record);
    if (rc != MDB_SUCCESS && rc != MDB_NOTFOUND)
        return rc;
    AMI_CHECK(writer_ok(&m->rows));
    if (r->heap_size > 0)
        copy_key(&m->from, r->place[r->heap[0]].key);
    for (size_t i = 0; i < r->count; i++) {
        const struct place *p = &r->place[i];
        struct reader first = reader_on(p->chunk);
        struct span key = {0}, record;
        m->ended[i] = p->ended;
        if (p->ended)
            continue;
        AMI_CHECK(report_row_next(&first, &key, &record) == AMI_OK);
        copy_key(&m->chunk[i], key);
    }
    return MDB_SUCCESS;
}

static int put_merged(MDB_txn *txn, const struct reports_tables *t, struct runs_record *runs,
                      unsigned level, const struct merge *m)
{
    struct runs_level *l = &runs->level[level], *above = &runs->level[level + 1];
    int rc = put_chunks(txn, t, level + 1, above->end, writer_span(&m->rows));
    for (uint64_t run = l->first; run < l->merged_end && rc == MDB_SUCCESS; run++) {
        const size_t i = (size_t)(run - l->first);
        rc = remove_chunks(txn, t, level, run,
                           m->ended[i] ? span_of(NULL, 0) : key_span(&m->chunk[i]));
    }
    l->from = m->from;
    if (m->from.size == 0) {
        l->first = l->merged_end;
        l->merged_end = 0;
        above->end++;
    }
    return rc;
}

/* Goes on with this level's merge, by as many bytes or a row more. */
static int merge_on(MDB_txn *txn, const struct reports_tables *t, struct runs_record *runs,
                    unsigned level, size_t budget)
{
    struct runs_level *l = &runs->level[level];
    if (l->merged_end == 0 && l->end - l->first >= REPORTS_FAN)
        l->merged_end = l->first + REPORTS_FAN;
    if (l->merged_end == 0)
        return MDB_SUCCESS;
    if (l->merged_end - l->first > REPORTS_FAN)
        return MDB_CORRUPTED;
    struct merge *m = calloc(1, sizeof *m);
    const size_t room = budget + REPORT_ROW_BYTES_MAX;
    uint8_t *bytes = malloc(room);
    struct runs_reader r = {0};
    int rc = m == NULL || bytes == NULL ? ENOMEM : reader_open(&r, txn, t, REPORTS_FAN);
    if (rc == MDB_SUCCESS) {
        m->rows = writer_on(bytes, room);
        rc = take_rows(&r, m, l, level, budget);
    }
    reader_close(&r);
    if (rc == MDB_SUCCESS)
        rc = put_merged(txn, t, runs, level, m);
    free(bytes);
    free(m);
    return rc;
}

/* Rows of a write lie in it one behind the other: the first of equal ones stays the first. */
static int compare_rows(const void *a, const void *b)
{
    const struct reports_row *x = a, *y = b;
    const int order = compare(x->key, y->key);
    return order != 0 ? order : (x->key.data > y->key.data) - (x->key.data < y->key.data);
}

static int put_run(MDB_txn *txn, const struct reports_tables *t, struct runs_record *runs,
                   struct reports_row *rows, size_t count, size_t bytes)
{
    uint8_t *all = malloc(bytes);
    if (all == NULL)
        return ENOMEM;
    struct writer w = writer_on(all, bytes);
    qsort(rows, count, sizeof *rows, compare_rows);
    for (size_t i = 0; i < count; i++)
        if (i == 0 || compare(rows[i - 1].key, rows[i].key) != 0)
            report_row_encode(&w, rows[i].key, rows[i].record);
    AMI_CHECK(writer_ok(&w));
    int rc = put_chunks(txn, t, 0, runs->level[0].end++, writer_span(&w));
    free(all);
    return rc;
}

int reports_add(MDB_txn *txn, const struct reports_tables *t, struct reports_row *rows,
                size_t count)
{
    struct runs_record runs;
    size_t bytes = 0;
    if (count == 0)
        return MDB_SUCCESS;
    for (size_t i = 0; i < count; i++)
        bytes += report_row_bytes(rows[i].key, rows[i].record);
    int rc = load_runs(txn, t, &runs);
    if (rc == MDB_SUCCESS)
        rc = put_run(txn, t, &runs, rows, count, bytes);
    const size_t budget = 2 * bytes > REPORTS_MERGE_BYTES_MIN ? 2 * bytes : REPORTS_MERGE_BYTES_MIN;
    for (unsigned level = 0; level + 1 < MDMS_RUN_LEVELS && rc == MDB_SUCCESS; level++)
        rc = merge_on(txn, t, &runs, level, budget);
    return rc == MDB_SUCCESS ? save_runs(txn, t, &runs) : rc;
}
