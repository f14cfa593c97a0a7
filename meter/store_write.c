#include "meter/store_internal.h"

#include "base/check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The journal is written at its end and thrown away at its front, so what a report costs is the
 * report, and not a page for every table that its meter has something in.
 *
 * Which of two says the truth. The entries, of what was reported and settled; the tables "state",
 * "sources" and "outbox" only sum up those up to the checkpoint's serial, and are written in one
 * pass when enough new entries make that worth it. An entry above that serial is neither thrown
 * away nor moved: up to the next checkpoint what it says stands nowhere else. Everything happens in
 * whole transactions, so a crash finds the tables and the serial up to which they hold as of one
 * instant.
 *
 * Which entries stay: those that wait, those above one that waits, and the last `keep` of each
 * meter. One of them at the front, of a meter that has been silent, would keep all that others
 * wrote since. So when a third of the journal need not stay it is looked through once, and what
 * must stay is written again at the end: for each entry that goes, two are moved at most. */

/* A checkpoint is worth it when this many entries are new, and so many for each meter. */
#define CHECKPOINT_ENTRIES   4096u
#define CHECKPOINT_PER_METER 8u
/* Entries at the front that one settling looks at: more than one, to catch up; few, because
 * --keep-reports may have been a million before. */
#define TRIM_MAX 16u
/* Settlings in one entry: it stays below half a page as long as what waits is not far away. */
#define SETTLED_MAX 500u
/* Below that much to be gained (about a megabyte) nothing is moved. */
#define SWEEP_ENTRIES 4096u

/* --- checkpoints ----------------------------------------------------------------------------- */

/* State and sources of one meter into their tables. What waits is left to put_new_waiting. */
static int write_line(struct meter_store *s, MDB_txn *txn, struct store_line *line)
{
    uint8_t state[STORE_STATE_BYTES], row[8];
    const struct store_key key = store_key_epoch(&line->name, line->epoch);
    store_state_encode(state, &line->state);
    int rc = store_put(s, txn, T_STATE, &key, state, sizeof state);
    for (const struct store_source *at = line->sources; at != NULL && rc == 0; at = at->next) {
        const struct store_key source = store_key_source(&line->name, line->epoch, &at->digest);
        store_be64(row, at->row);
        rc = store_put(s, txn, T_SOURCES, &source, row, sizeof row);
    }
    if (rc != 0)
        return rc;
    pthread_mutex_lock(&s->lines_lock);
    store_line_sources_free(line);
    s->dirty -= line->dirty;
    line->dirty = false;
    pthread_mutex_unlock(&s->lines_lock);
    return 0;
}

static int by_name(const void *a, const void *b)
{
    const struct store_line *const *x = a, *const *y = b;
    return ami_id_compare(&(*x)->name, &(*y)->name);
}

static int by_serial(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void sort_serials(struct store_serials *list)
{
    if (list->count > 1)
        qsort(list->at, list->count, sizeof *list->at, by_serial);
}

/* What waits, of what came after the last checkpoint, stands behind all that the table has. */
static int put_new_waiting(struct meter_store *s, MDB_txn *txn, struct store_line *const *list,
                           size_t count)
{
    struct store_serials fresh = {0};
    int rc = 0;
    for (size_t i = 0; i < count && rc == 0; i++) {
        const struct store_line *line = list[i];
        uint64_t k = line->fresh_from > line->base ? line->fresh_from : line->base;
        for (; line->waiting != 0 && k < line->base + line->span && rc == 0; k++) {
            const uint64_t serial = store_line_serial(line, k);
            if (serial > s->checkpoint.serial)
                rc = store_serials_add(&fresh, serial);
        }
    }
    sort_serials(&fresh);
    for (size_t i = 0; i < fresh.count && rc == 0; i++) {
        const struct store_key key = store_key_serial(fresh.at[i]);
        MDB_val k = store_key_val(&key), v = {0, NULL};
        rc = mdb_put(txn, s->table[T_OUTBOX], &k, &v, MDB_APPEND);
    }
    store_serials_free(&fresh);
    return rc;
}

static int write_outbox(struct meter_store *s, MDB_txn *txn, struct store_line *const *list,
                        size_t count)
{
    int rc = 0;
    sort_serials(&s->struck);
    for (size_t i = 0; i < s->struck.count && rc == 0; i++) {
        const struct store_key key = store_key_serial(s->struck.at[i]);
        MDB_val k = store_key_val(&key);
        rc = mdb_del(txn, s->table[T_OUTBOX], &k, NULL);
    }
    s->struck.count = 0;
    if (rc == MDB_NOTFOUND)
        rc = MDB_CORRUPTED;
    return rc == 0 ? put_new_waiting(s, txn, list, count) : rc;
}

static int write_checkpoint(struct meter_store *s, MDB_txn *txn)
{
    struct store_line **list = malloc((s->dirty + 1) * sizeof(struct store_line *)), *line, *tmp;
    size_t count = 0;
    int rc = 0;
    if (list == NULL)
        return ENOMEM;
    HASH_ITER(hh, s->lines, line, tmp)
    {
        if (line->dirty)
            list[count++] = line;
    }
    AMI_CHECK(count == s->dirty);
    /* In the tables' order, so that a page is touched once. */
    qsort(list, count, sizeof(struct store_line *), by_name);
    rc = write_outbox(s, txn, list, count);
    for (size_t i = 0; i < count && rc == 0; i++)
        rc = write_line(s, txn, list[i]);
    free(list);
    if (rc != 0)
        return rc;
    uint8_t bytes[4 * 8];
    MDB_val k = store_val("journal", 7), v = store_val(bytes, sizeof bytes);
    s->checkpoint.serial = s->next_serial - 1;
    struct writer w = writer_on(bytes, sizeof bytes);
    write_u64(&w, s->checkpoint.serial);
    write_u64(&w, s->checkpoint.dead);
    write_u64(&w, s->checkpoint.sweep_to);
    write_u64(&w, s->checkpoint.keep);
    AMI_CHECK(w.size == sizeof bytes);
    s->stored = s->checkpoint;
    return mdb_put(txn, s->table[T_META], &k, &v, 0);
}

static bool checkpoint_due(const struct meter_store *s)
{
    const uint64_t entries = s->next_serial - 1 - s->checkpoint.serial;
    return entries >= CHECKPOINT_ENTRIES && entries >= s->dirty * (uint64_t)CHECKPOINT_PER_METER;
}

/* --- the journal's front --------------------------------------------------------------------- */

/* A report that waited does so no more, or not there. */
static int strike(struct meter_store *s, uint64_t serial)
{
    return serial <= s->checkpoint.serial ? store_serials_add(&s->struck, serial) : 0;
}

static int append(struct meter_store *s, MDB_txn *txn, struct span head, struct span rest)
{
    const struct store_key key = store_key_serial(s->next_serial);
    MDB_val k = store_key_val(&key), v = {head.size + rest.size, NULL};
    int rc = mdb_put(txn, s->table[T_JOURNAL], &k, &v, MDB_APPEND | MDB_RESERVE);
    if (rc != 0)
        return rc;
    memcpy(v.mv_data, head.data, head.size);
    memcpy((uint8_t *)v.mv_data + head.size, rest.data, rest.size);
    s->next_serial++;
    return 0;
}

static int append_report(struct meter_store *s, MDB_txn *txn, const struct store_entry *e)
{
    uint8_t head[STORE_ENTRY_HEAD_BYTES_MAX];
    struct writer w = writer_on(head, sizeof head);
    store_entry_head(&w, e);
    AMI_CHECK(writer_ok(&w));
    return append(s, txn, writer_span(&w), e->record);
}

/* The oldest entry; of a report its meter's line, and whether it waits. */
struct front {
    MDB_val key, value;
    uint64_t serial;
    struct store_entry entry;
    struct store_line *line;
    bool waits;
};

static int look_at_front(struct meter_store *s, MDB_txn *txn, struct front *f)
{
    if (!store_serial_parse(&f->serial, f->key) ||
        store_entry_parse(&f->entry, store_span(f->value)) != AMI_OK)
        return MDB_CORRUPTED;
    if (f->entry.kind == STORE_SETTLED)
        return 0;
    pthread_mutex_lock(&s->lines_lock);
    int rc = store_line_get(s, txn, &f->entry.name, &f->line);
    pthread_mutex_unlock(&s->lines_lock);
    f->waits = rc == 0 && store_line_serial(f->line, f->entry.state.reports) == f->serial;
    return rc;
}

/* The entry at the cursor goes to the journal's end, under another serial. */
static int move_to_end(struct meter_store *s, MDB_txn *txn, MDB_cursor *cursor, struct front *f)
{
    uint8_t record[METER_RECORD_BYTES_MAX];
    struct store_entry *e = &f->entry;
    AMI_CHECK(f->serial < s->next_serial);
    memcpy(record, e->record.data, e->record.size);
    e->record.data = record;
    e->kind = STORE_MOVED;
    e->moved_back = s->next_serial - f->serial;
    int rc = f->waits ? strike(s, f->serial) : 0;
    if (rc == 0)
        rc = mdb_cursor_del(cursor, 0);
    if (rc == 0)
        rc = append_report(s, txn, e);
    if (rc == 0 && f->waits) {
        pthread_mutex_lock(&s->lines_lock);
        rc = store_line_wait(f->line, e->state.reports, s->next_serial - 1, e->readings);
        store_line_soil(s, f->line, e->state.reports);
        pthread_mutex_unlock(&s->lines_lock);
    }
    return rc;
}

/* Whether the entry at the front, which must stay, is worth moving. What is dead above the
 * checkpoint cannot go yet and counts for nothing. A sweep looks at each entry that is there when
 * it begins; so whatever the count was, it is right afterwards. */
static int sweep_begin(struct meter_store *s, MDB_txn *txn)
{
    struct store_checkpoint *c = &s->checkpoint;
    const uint64_t tail = s->next_serial - 1 - c->serial;
    MDB_stat stat;
    int rc = mdb_stat(txn, s->table[T_JOURNAL], &stat);
    if (rc == 0 && c->dead >= tail + SWEEP_ENTRIES && c->dead - tail >= stat.ms_entries / 3) {
        c->sweep_to = s->next_serial - 1;
        c->dead = 0;
    }
    return rc;
}

/* Fewer are to stay than before: nobody has counted what that makes dead. Looking tells. */
static int keep_begin(struct meter_store *s, MDB_txn *txn, uint64_t keep)
{
    struct store_checkpoint *c = &s->checkpoint;
    MDB_stat stat;
    int rc = keep < c->keep ? mdb_stat(txn, s->table[T_JOURNAL], &stat) : 0;
    if (rc == 0 && keep < c->keep)
        c->dead = stat.ms_entries;
    c->keep = keep;
    return rc;
}

/* The entry at the cursor, which is the first, goes, stays, or is moved; `stay`: there it ends. */
static int trim_one(struct meter_store *s, MDB_txn *txn, MDB_cursor *cursor, uint64_t keep,
                    bool *stay)
{
    struct store_checkpoint *c = &s->checkpoint;
    struct front f;
    *stay = true;
    int rc = mdb_cursor_get(cursor, &f.key, &f.value, MDB_FIRST);
    if (rc == 0)
        rc = look_at_front(s, txn, &f);
    if (rc != 0 || f.serial > c->serial)
        return rc == MDB_NOTFOUND ? 0 : rc;
    if (f.serial > c->sweep_to)
        c->sweep_to = 0;
    if (f.entry.kind == STORE_SETTLED) {
        *stay = false;
        return mdb_cursor_del(cursor, 0);
    }
    if (!f.waits && f.entry.state.reports <= store_line_dead_to(f.line, keep)) {
        *stay = false;
        if (c->sweep_to == 0 && c->dead > 0)
            c->dead--;
        return mdb_cursor_del(cursor, 0);
    }
    if (c->sweep_to == 0)
        rc = sweep_begin(s, txn);
    if (rc != 0 || c->sweep_to == 0)
        return rc;
    *stay = false;
    return move_to_end(s, txn, cursor, &f);
}

/* Looks at the journal's oldest entries, so many at most. */
static int trim(struct meter_store *s, MDB_txn *txn, uint64_t keep, uint64_t budget)
{
    MDB_cursor *cursor;
    bool stay = false;
    int rc = keep_begin(s, txn, keep);
    if (rc == 0)
        rc = mdb_cursor_open(txn, s->table[T_JOURNAL], &cursor);
    if (rc != 0)
        return rc;
    for (; budget > 0 && rc == 0 && !stay; budget--)
        rc = trim_one(s, txn, cursor, keep, &stay);
    mdb_cursor_close(cursor);
    return rc;
}

/* --- operations ------------------------------------------------------------------------------ */

static int get_line(struct meter_store *s, MDB_txn *txn, const struct meter_op *op,
                    struct store_line **line)
{
    pthread_mutex_lock(&s->lines_lock);
    int rc = store_line_get(s, txn, op->name, line);
    pthread_mutex_unlock(&s->lines_lock);
    return rc;
}

static int apply_report(struct meter_store *s, MDB_txn *txn, const struct meter_op *op)
{
    struct store_line *line;
    struct store_entry e = {.kind = STORE_REPORT,
                            .name = *op->name,
                            .epoch = op->epoch,
                            .sequence = op->sequence,
                            .state = op->state,
                            .readings = op->readings,
                            .has_source = op->source != NULL,
                            .source_row = op->source_row,
                            .record = op->record};
    if (e.has_source)
        e.source = *op->source;
    AMI_CHECK(op->epoch != 0 && op->sequence != 0 && op->state.next_sequence == op->sequence + 1 &&
              op->record.size != 0 && op->record.size <= METER_RECORD_BYTES_MAX);
    int rc = get_line(s, txn, op, &line);
    if (rc != 0)
        return rc;
    pthread_mutex_lock(&s->lines_lock);
    rc = store_line_advance(s, line, &e);
    if (rc == 0)
        rc = store_line_wait(line, e.state.reports, s->next_serial, e.readings);
    pthread_mutex_unlock(&s->lines_lock);
    return rc == 0 ? append_report(s, txn, &e) : rc;
}

static int apply_settle(struct meter_store *s, MDB_txn *txn, struct meter_op *op)
{
    struct store_line *line;
    int rc = get_line(s, txn, op, &line);
    if (rc != 0)
        return rc;
    const uint64_t ordinal = line->epoch == op->epoch ? store_line_ordinal(line, op->sequence) : 0;
    const uint64_t serial = ordinal == 0 ? 0 : store_line_serial(line, ordinal);
    if (serial == 0)
        return MDB_CORRUPTED;
    rc = strike(s, serial);
    if (rc == 0)
        rc = store_serials_add(&s->settling, serial);
    if (rc != 0)
        return rc;
    const uint64_t before = store_line_dead_to(line, op->keep);
    pthread_mutex_lock(&s->lines_lock);
    op->readings = store_line_settle(line, ordinal);
    pthread_mutex_unlock(&s->lines_lock);
    s->checkpoint.dead += store_line_dead_to(line, op->keep) - before;
    return 0;
}

/* Entries for all that was settled. */
static int append_settled(struct meter_store *s, MDB_txn *txn)
{
    uint8_t bytes[1 + 10 * SETTLED_MAX];
    int rc = 0;
    for (size_t i = 0; i < s->settling.count && rc == 0;) {
        struct writer w = writer_on(bytes, sizeof bytes);
        write_u8(&w, STORE_SETTLED);
        for (size_t k = 0; k < SETTLED_MAX && i < s->settling.count; k++, i++)
            write_varint(&w, s->next_serial - s->settling.at[i]);
        AMI_CHECK(writer_ok(&w));
        rc = append(s, txn, writer_span(&w), span_of("", 0));
    }
    return rc;
}

static int apply_keys(struct meter_store *s, MDB_txn *txn, const struct meter_op *op)
{
    const struct store_key key = store_key_name(op->name);
    MDB_val k = store_key_val(&key);
    struct store_line *line;
    AMI_CHECK(op->epoch != 0 && op->state.next_sequence == 1);
    int rc = get_line(s, txn, op, &line);
    if (rc != 0)
        return rc;
    /* Of an epoch that is over nothing waits and the tables tell all: its entries above the
     * checkpoint count for nothing from now on. */
    if (op->epoch <= line->epoch)
        return STORE_SERVED;
    if (line->waiting != 0)
        return STORE_WAITS;
    if (op->state.reports < line->state.reports)
        return STORE_NOT_NEXT;
    if (line->dirty)
        rc = write_line(s, txn, line);
    pthread_mutex_lock(&s->lines_lock);
    line->epoch = op->epoch;
    line->state = op->state;
    pthread_mutex_unlock(&s->lines_lock);
    if (rc == 0)
        rc = write_line(s, txn, line);
    if (rc == 0)
        rc = store_put(s, txn, T_KEYS, &key, op->record.data, op->record.size);
    if (rc == 0)
        rc = mdb_del(txn, s->table[T_PENDING], &k, NULL);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int apply_one(struct meter_store *s, MDB_txn *txn, struct meter_op *op)
{
    struct store_key key;
    switch (op->kind) {
    case METER_OP_REPORT:
        return apply_report(s, txn, op);
    case METER_OP_SETTLE:
        return apply_settle(s, txn, op);
    case METER_OP_PENDING:
        key = store_key_name(op->name);
        return store_put(s, txn, T_PENDING, &key, op->record.data, op->record.size);
    case METER_OP_KEYS:
        return apply_keys(s, txn, op);
    case METER_OP_EPOCH:
        key = store_key_committee(op->epoch);
        return store_put(s, txn, T_META, &key, op->record.data, op->record.size);
    }
    return EINVAL;
}

static int apply_all(struct meter_store *s, MDB_txn *txn, struct meter_op *ops, size_t count)
{
    uint64_t keep = 0, settled = 0;
    int rc = 0;
    s->settling.count = 0;
    for (size_t i = 0; i < count && rc == 0; i++) {
        rc = apply_one(s, txn, &ops[i]);
        if (ops[i].kind == METER_OP_SETTLE && ops[i].keep != 0) {
            keep = ops[i].keep;
            settled++;
        }
    }
    if (rc == 0)
        rc = append_settled(s, txn);
    if (rc == 0 && settled != 0)
        rc = trim(s, txn, keep, settled * TRIM_MAX);
    if (rc == 0 && checkpoint_due(s))
        rc = write_checkpoint(s, txn);
    return rc;
}

/* Nothing was written: what is in memory becomes again what is on the disk. */
static void forget(struct meter_store *s)
{
    MDB_txn *txn;
    pthread_mutex_lock(&s->lines_lock);
    store_lines_free(s);
    s->broken = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &txn);
    if (s->broken == 0) {
        s->broken = store_lines_load(s, txn);
        mdb_txn_abort(txn);
    }
    pthread_mutex_unlock(&s->lines_lock);
}

enum ami_status meter_store_apply(struct meter_store *s, struct meter_op *ops, size_t count,
                                  struct why *why)
{
    MDB_txn *txn;
    AMI_CHECK(s->lock_fd >= 0);
    pthread_mutex_lock(&s->writing);
    int rc = s->broken != 0 ? s->broken : mdb_txn_begin(s->env, NULL, 0, &txn);
    if (rc == 0) {
        rc = apply_all(s, txn, ops, count);
        if (rc != 0)
            mdb_txn_abort(txn);
        else
            rc = mdb_txn_commit(txn); /* synced */
        if (rc != 0)
            forget(s);
    }
    pthread_mutex_unlock(&s->writing);
    return rc == 0 ? AMI_OK : store_fail(s, rc, why);
}

void store_write_end(struct meter_store *s)
{
    MDB_txn *txn;
    if (s->lock_fd < 0 || s->broken != 0 ||
        (s->next_serial - 1 == s->checkpoint.serial &&
         memcmp(&s->checkpoint, &s->stored, sizeof s->stored) == 0))
        return;
    /* When there is no room for it, the next start reads the entries instead. */
    if (mdb_txn_begin(s->env, NULL, 0, &txn) != 0)
        return;
    if (write_checkpoint(s, txn) != 0)
        mdb_txn_abort(txn);
    else
        (void)mdb_txn_commit(txn);
}
