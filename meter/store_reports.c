#include "meter/store_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The journal is in the order of writing, and people want the order of names. So it is read once
 * for where each report is, these places are sorted, and the reports are fetched in their order. */

#define SETTLED (UINT64_C(1) << 63) /* serials are below that */

struct place {
    uint64_t serial; /* with SETTLED */
    uint64_t sequence;
    uint32_t epoch;
    uint32_t name; /* when it was first seen; before sorting, its rank */
};

struct named {
    struct ami_id id;
    uint32_t number;
    UT_hash_handle hh;
};

struct scan {
    struct meter_store *s;
    MDB_txn *txn;
    unsigned boxes;
    const struct ami_id *only;
    struct named *names;
    struct place *place;
    size_t count, capacity;
};

/* --- finding --------------------------------------------------------------------------------- */

static int number_of(struct scan *c, const struct ami_id *id, uint32_t *number)
{
    struct named *n;
    HASH_FIND(hh, c->names, id->text, id->size, n);
    if (n == NULL) {
        n = malloc(sizeof *n);
        if (n == NULL)
            return ENOMEM;
        n->id = *id;
        n->number = HASH_COUNT(c->names);
        HASH_ADD_KEYPTR(hh, c->names, n->id.text, n->id.size, n);
    }
    *number = n->number;
    return 0;
}

static int add(struct scan *c, uint64_t serial, MDB_val value, bool settled)
{
    struct store_entry e;
    if (store_entry_parse(&e, store_span(value)) != AMI_OK)
        return MDB_CORRUPTED;
    if (e.kind == STORE_SETTLED)
        return 0;
    if (c->only != NULL && !ami_id_equal(c->only, &e.name))
        return 0;
    if (c->count == c->capacity) {
        const size_t capacity = c->capacity == 0 ? 1024 : c->capacity * 2;
        struct place *grown = realloc(c->place, capacity * sizeof *grown);
        if (grown == NULL)
            return ENOMEM;
        c->place = grown;
        c->capacity = capacity;
    }
    struct place *p = &c->place[c->count++];
    *p = (struct place){settled ? serial | SETTLED : serial, e.sequence, e.epoch, 0};
    return number_of(c, &e.name, &p->name);
}

/* The journal, and beside it what waits: both are in order of serials. */
static int scan_journal(struct scan *c, const struct store_serials *waiting)
{
    MDB_cursor *cursor;
    MDB_val k, v;
    size_t next = 0;
    int rc = mdb_cursor_open(c->txn, c->s->table[T_JOURNAL], &cursor);
    if (rc != 0)
        return rc;
    rc = mdb_cursor_get(cursor, &k, &v, MDB_FIRST);
    while (rc == 0) {
        uint64_t serial;
        if (!store_serial_parse(&serial, k)) {
            rc = MDB_CORRUPTED;
            break;
        }
        while (next < waiting->count && (waiting->at[next] & ~STORE_GONE) < serial)
            next++;
        const bool settled = next == waiting->count || waiting->at[next] != serial;
        if ((c->boxes >> (settled ? METER_ARCHIVE : METER_OUTBOX) & 1u) != 0)
            rc = add(c, serial, v, settled);
        if (rc == 0)
            rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/* What waits alone, which is little where the archive is large. */
static int scan_waiting(struct scan *c, const struct store_serials *waiting)
{
    int rc = 0;
    for (size_t i = 0; i < waiting->count && rc == 0; i++) {
        const struct store_key key = store_key_serial(waiting->at[i]);
        MDB_val k = store_key_val(&key), v;
        if ((waiting->at[i] & STORE_GONE) != 0)
            continue;
        rc = mdb_get(c->txn, c->s->table[T_JOURNAL], &k, &v);
        if (rc == 0)
            rc = add(c, waiting->at[i], v, false);
    }
    return rc == MDB_NOTFOUND ? MDB_CORRUPTED : rc;
}

static int find_all(struct scan *c)
{
    struct store_serials waiting = {0};
    int rc = store_waiting_read(c->s, c->txn, &waiting, NULL);
    if (rc == 0)
        rc = c->boxes == 1u << METER_OUTBOX ? scan_waiting(c, &waiting) : scan_journal(c, &waiting);
    store_serials_free(&waiting);
    return rc;
}

/* --- in order -------------------------------------------------------------------------------- */

static int by_name(struct named *a, struct named *b)
{
    return ami_id_compare(&a->id, &b->id);
}

static int by_place(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    if (x->name != y->name)
        return x->name < y->name ? -1 : 1;
    if (x->epoch != y->epoch)
        return x->epoch < y->epoch ? -1 : 1;
    return (x->sequence > y->sequence) - (x->sequence < y->sequence);
}

static int sort(struct scan *c)
{
    uint32_t *rank = malloc((HASH_COUNT(c->names) + 1) * sizeof *rank), next = 0;
    struct named *n, *tmp;
    if (rank == NULL)
        return ENOMEM;
    HASH_SORT(c->names, by_name);
    HASH_ITER(hh, c->names, n, tmp)
    {
        rank[n->number] = next++;
    }
    for (size_t i = 0; i < c->count; i++)
        c->place[i].name = rank[c->place[i].name];
    free(rank);
    if (c->count > 1)
        qsort(c->place, c->count, sizeof *c->place, by_place);
    return 0;
}

static int hand_out(struct scan *c,
                    bool (*each)(void *ctx, const struct meter_stored_report *report), void *ctx)
{
    for (size_t i = 0; i < c->count; i++) {
        const struct place *p = &c->place[i];
        struct store_entry e;
        int rc = store_entry_get(c->s, c->txn, p->serial & ~SETTLED, &e);
        if (rc != 0)
            return rc == MDB_NOTFOUND ? MDB_CORRUPTED : rc;
        const struct meter_stored_report report = {.name = e.name,
                                                   .epoch = e.epoch,
                                                   .sequence = e.sequence,
                                                   .settled = (p->serial & SETTLED) != 0,
                                                   .readings = e.readings,
                                                   .record = e.record};
        if (!each(ctx, &report))
            break;
    }
    return 0;
}

enum ami_status
meter_store_each_report(struct meter_store *s, unsigned boxes, const struct ami_id *name,
                        bool (*each)(void *ctx, const struct meter_stored_report *report),
                        void *ctx)
{
    struct scan c = {.s = s, .boxes = boxes, .only = name};
    struct named *n, *tmp;
    int rc = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &c.txn);
    if (rc != 0)
        return store_status(rc);
    rc = find_all(&c);
    if (rc == 0)
        rc = sort(&c);
    if (rc == 0)
        rc = hand_out(&c, each, ctx);
    mdb_txn_abort(c.txn);
    free(c.place);
    HASH_ITER(hh, c.names, n, tmp)
    {
        HASH_DEL(c.names, n);
        free(n);
    }
    return store_status(rc);
}
