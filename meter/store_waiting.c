#include "meter/store_internal.h"

#include <errno.h>
#include <stdlib.h>

int store_serials_add(struct store_serials *list, uint64_t serial)
{
    if (list->count == list->capacity) {
        const size_t capacity = list->capacity == 0 ? 512 : list->capacity * 2;
        uint64_t *grown = realloc(list->at, capacity * sizeof *grown);
        if (grown == NULL)
            return ENOMEM;
        list->at = grown;
        list->capacity = capacity;
    }
    list->at[list->count++] = serial;
    return 0;
}

void store_serials_free(struct store_serials *list)
{
    free(list->at);
    *list = (struct store_serials){0};
}

int store_checkpoint_read(struct meter_store *s, MDB_txn *txn, struct store_checkpoint *out)
{
    MDB_val k = store_val("journal", 7), v;
    *out = (struct store_checkpoint){0};
    int rc = mdb_get(txn, s->table[T_META], &k, &v);
    if (rc != 0)
        return rc == MDB_NOTFOUND ? 0 : rc;
    struct reader r = reader_on(store_span(v));
    out->serial = read_u64(&r);
    out->dead = read_u64(&r);
    out->sweep_to = read_u64(&r);
    out->keep = read_u64(&r);
    return reader_done(&r) && out->serial < STORE_SERIAL_END ? 0 : MDB_CORRUPTED;
}

/* Those that waited at the checkpoint. */
static int read_outbox(struct meter_store *s, MDB_txn *txn, uint64_t checkpoint,
                       struct store_serials *out)
{
    MDB_cursor *cursor;
    MDB_val k, v;
    uint64_t serial;
    int rc = mdb_cursor_open(txn, s->table[T_OUTBOX], &cursor);
    if (rc != 0)
        return rc;
    rc = mdb_cursor_get(cursor, &k, &v, MDB_FIRST);
    while (rc == 0) {
        rc = store_serial_parse(&serial, k) && serial <= checkpoint ? store_serials_add(out, serial)
                                                                    : MDB_CORRUPTED;
        if (rc == 0)
            rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/* Whether it waited, and waits no more from now on. */
static bool strike(struct store_serials *list, uint64_t serial)
{
    size_t low = 0, high = list->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if ((list->at[middle] & ~STORE_GONE) < serial)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == list->count || list->at[low] != serial)
        return false;
    list->at[low] |= STORE_GONE;
    return true;
}

static int strike_all(struct store_serials *list, uint64_t serial, struct span settled)
{
    struct reader r = reader_on(settled);
    while (reader_left(&r) > 0) {
        const uint64_t back = read_varint(&r);
        if (back >= serial || !strike(list, serial - back))
            return MDB_CORRUPTED;
    }
    return 0;
}

static int read_entry(struct store_serials *out, uint64_t serial, const struct store_entry *e)
{
    switch (e->kind) {
    case STORE_REPORT:
        return store_serials_add(out, serial);
    case STORE_MOVED:
        if (e->moved_back >= serial)
            return MDB_CORRUPTED;
        return strike(out, serial - e->moved_back) ? store_serials_add(out, serial) : 0;
    case STORE_SETTLED:
        return strike_all(out, serial, e->settled);
    }
    return MDB_CORRUPTED;
}

int store_waiting_read(struct meter_store *s, MDB_txn *txn, struct store_serials *out,
                       int (*each)(struct meter_store *s, MDB_txn *txn, uint64_t serial,
                                   const struct store_entry *e))
{
    struct store_checkpoint checkpoint;
    MDB_cursor *cursor;
    int rc = store_checkpoint_read(s, txn, &checkpoint);
    if (rc == 0)
        rc = read_outbox(s, txn, checkpoint.serial, out);
    if (rc == 0)
        rc = mdb_cursor_open(txn, s->table[T_JOURNAL], &cursor);
    if (rc != 0)
        return rc;
    const struct store_key first = store_key_serial(checkpoint.serial + 1);
    MDB_val k = store_key_val(&first), v;
    rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
    while (rc == 0) {
        uint64_t serial;
        struct store_entry e;
        rc = store_serial_parse(&serial, k) && store_entry_parse(&e, store_span(v)) == AMI_OK
                 ? read_entry(out, serial, &e)
                 : MDB_CORRUPTED;
        if (rc == 0 && each != NULL)
            rc = each(s, txn, serial, &e);
        if (rc == 0)
            rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}
