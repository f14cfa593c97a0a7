#include "meter/store_internal.h"

#include "base/check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* --- what waits ------------------------------------------------------------------------------ */

static uint64_t *slot_of(const struct store_line *line, uint64_t ordinal)
{
    AMI_CHECK(ordinal >= line->base && ordinal - line->base < line->span);
    return &line->slot[(line->head + (uint32_t)(ordinal - line->base)) & (line->capacity - 1)];
}

uint64_t store_line_ordinal(const struct store_line *line, uint64_t sequence)
{
    if (sequence == 0 || sequence >= line->state.next_sequence)
        return 0;
    return line->state.reports - (line->state.next_sequence - 1 - sequence);
}

uint64_t store_line_serial(const struct store_line *line, uint64_t ordinal)
{
    if (line->waiting == 0 || ordinal < line->base || ordinal - line->base >= line->span)
        return 0;
    return *slot_of(line, ordinal) >> 16;
}

/* Room for `span` serials, those that are there in front. */
static int reserve(struct store_line *line, uint64_t span)
{
    if (span <= line->capacity)
        return 0;
    if (span > UINT32_MAX / 2)
        return ENOMEM;
    uint32_t capacity = line->capacity == 0 ? 4 : line->capacity;
    while (capacity < span)
        capacity *= 2;
    uint64_t *slot = malloc(capacity * sizeof *slot);
    if (slot == NULL)
        return ENOMEM;
    for (uint32_t i = 0; i < line->span; i++)
        slot[i] = line->slot[(line->head + i) & (line->capacity - 1)];
    free(line->slot);
    line->slot = slot;
    line->capacity = capacity;
    line->head = 0;
    return 0;
}

int store_line_wait(struct store_line *line, uint64_t ordinal, uint64_t serial, uint16_t readings)
{
    AMI_CHECK(ordinal >= 1 && serial != 0 && serial < STORE_SERIAL_END);
    if (line->waiting == 0) {
        line->base = ordinal;
        line->head = line->span = 0;
        line->settled_top = ordinal - 1;
    }
    const uint64_t below = ordinal < line->base ? line->base - ordinal : 0;
    const uint64_t above = ordinal >= line->base + line->span ? ordinal - line->base + 1 : 0;
    int rc = reserve(line, below != 0 ? below + line->span : above);
    if (rc != 0)
        return rc;
    for (uint64_t i = 0; i < below; i++) {
        line->head = (line->head - 1) & (line->capacity - 1);
        line->base--;
        line->span++;
        *slot_of(line, line->base) = 0;
    }
    while (line->span < above) {
        line->span++;
        *slot_of(line, line->base + line->span - 1) = 0;
    }
    uint64_t *at = slot_of(line, ordinal);
    if (*at == 0) {
        line->waiting++;
        line->waiting_readings += readings;
    }
    *at = serial << 16 | readings;
    return 0;
}

uint16_t store_line_settle(struct store_line *line, uint64_t ordinal)
{
    uint64_t *at = slot_of(line, ordinal);
    const uint16_t readings = (uint16_t)*at;
    AMI_CHECK(*at != 0);
    *at = 0;
    line->waiting--;
    line->waiting_readings -= readings;
    if (ordinal > line->settled_top)
        line->settled_top = ordinal;
    while (line->waiting != 0 && *slot_of(line, line->base) == 0) {
        line->base++;
        line->span--;
        line->head = (line->head + 1) & (line->capacity - 1);
    }
    return readings;
}

uint64_t store_line_dead_to(const struct store_line *line, uint64_t keep)
{
    const uint64_t top = line->waiting == 0 ? line->state.reports : line->settled_top;
    if (keep == 0 || top <= keep)
        return 0;
    return line->waiting != 0 && top - keep >= line->base ? line->base - 1 : top - keep;
}

/* --- lines ----------------------------------------------------------------------------------- */

struct store_line *store_line_find(struct meter_store *s, const struct ami_id *name)
{
    struct store_line *line;
    HASH_FIND(hh, s->lines, name->text, name->size, line);
    return line;
}

void store_line_sources_free(struct store_line *line)
{
    while (line->sources != NULL) {
        struct store_source *next = line->sources->next;
        free(line->sources);
        line->sources = next;
    }
}

void store_lines_free(struct meter_store *s)
{
    struct store_line *line, *tmp;
    HASH_ITER(hh, s->lines, line, tmp)
    {
        HASH_DEL(s->lines, line);
        store_line_sources_free(line);
        free(line->slot);
        free(line);
    }
    store_serials_free(&s->struck);
    s->dirty = 0;
}

/* The state of a meter's last epoch. */
static int read_state(struct meter_store *s, MDB_txn *txn, struct store_line *line)
{
    const struct store_key last = store_key_epoch(&line->name, UINT32_MAX);
    MDB_val k = store_key_val(&last), v;
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(txn, s->table[T_STATE], &cursor);
    if (rc != 0)
        return rc;
    rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
    if (rc == MDB_NOTFOUND)
        rc = mdb_cursor_get(cursor, &k, &v, MDB_LAST);
    else if (rc == 0 && (k.mv_size != last.size || memcmp(k.mv_data, last.b, last.size) != 0))
        rc = mdb_cursor_get(cursor, &k, &v, MDB_PREV);
    if (rc == 0 && k.mv_size == last.size && memcmp(k.mv_data, last.b, last.size - 4) == 0) {
        line->epoch = load_be32((const uint8_t *)k.mv_data + last.size - 4);
        if (line->epoch == 0 || !store_state_parse(&line->state, v))
            rc = MDB_CORRUPTED;
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

int store_line_get(struct meter_store *s, MDB_txn *txn, const struct ami_id *name,
                   struct store_line **out)
{
    *out = store_line_find(s, name);
    if (*out != NULL)
        return 0;
    struct store_line *line = calloc(1, sizeof *line);
    if (line == NULL)
        return ENOMEM;
    line->name = *name;
    line->state.next_sequence = 1;
    int rc = read_state(s, txn, line);
    if (rc != 0) {
        free(line);
        return rc;
    }
    HASH_ADD_KEYPTR(hh, s->lines, line->name.text, line->name.size, line);
    *out = line;
    return 0;
}

void store_line_soil(struct meter_store *s, struct store_line *line, uint64_t ordinal)
{
    if (!line->dirty || ordinal < line->fresh_from)
        line->fresh_from = ordinal;
    s->dirty += !line->dirty;
    line->dirty = true;
}

static int advance_source(struct store_line *line, const struct store_entry *e)
{
    struct store_source *at = line->sources;
    while (at != NULL && !sm3_equal(&at->digest, &e->source))
        at = at->next;
    if (at == NULL) {
        at = malloc(sizeof *at);
        if (at == NULL)
            return ENOMEM;
        at->digest = e->source;
        at->next = line->sources;
        line->sources = at;
    }
    at->row = e->source_row;
    return 0;
}

int store_line_advance(struct meter_store *s, struct store_line *line, const struct store_entry *e)
{
    if (line->epoch != 0 && e->epoch != line->epoch)
        return STORE_NOT_NEXT;
    if (e->sequence < line->state.next_sequence)
        return STORE_SERVED;
    if (e->sequence > line->state.next_sequence || e->state.reports != line->state.reports + 1)
        return STORE_NOT_NEXT;
    int rc = e->has_source ? advance_source(line, e) : 0;
    if (rc != 0)
        return rc;
    line->epoch = e->epoch;
    line->state = e->state;
    store_line_soil(s, line, e->state.reports);
    return 0;
}

/* --- opening --------------------------------------------------------------------------------- */

/* Every entry above the checkpoint is there still, in the order in which they were written; those
 * that were moved there stand among them, and say nothing new of their meters. */
static int load_entry(struct meter_store *s, MDB_txn *txn, uint64_t serial,
                      const struct store_entry *e)
{
    struct store_line *line;
    s->next_serial = serial + 1;
    if (e->kind == STORE_SETTLED)
        return 0;
    int rc = store_line_get(s, txn, &e->name, &line);
    if (rc != 0)
        return rc;
    /* An epoch that another one followed was written down as a whole then. */
    if (e->epoch < line->epoch || e->state.reports <= line->state.reports)
        return 0;
    rc = store_line_advance(s, line, e);
    return rc == STORE_SERVED || rc == STORE_NOT_NEXT ? MDB_CORRUPTED : rc;
}

/* room: how many entries the journal has beyond those that are counted for lines. */
static int load_waiting(struct meter_store *s, MDB_txn *txn, uint64_t *room, uint64_t serial)
{
    struct store_entry e;
    struct store_line *line;
    int rc = store_entry_get(s, txn, serial, &e);
    if (rc == 0)
        rc = store_line_get(s, txn, &e.name, &line);
    if (rc != 0)
        return rc == MDB_NOTFOUND ? MDB_CORRUPTED : rc;
    /* Nothing above the lowest that waits was thrown away: wider spans than the journal has entries
     * are damage, and must not size what is allocated. */
    const uint64_t lowest =
        line->waiting != 0 && line->base < e.state.reports ? line->base : e.state.reports;
    if (e.epoch != line->epoch || e.state.reports > line->state.reports ||
        line->state.reports - lowest >= *room + line->span ||
        store_line_ordinal(line, e.sequence) != e.state.reports ||
        store_line_serial(line, e.state.reports) != 0)
        return MDB_CORRUPTED;
    const uint32_t before = line->span;
    rc = store_line_wait(line, e.state.reports, serial, e.readings);
    *room -= line->span - before;
    if (rc == 0 && serial > s->checkpoint.serial)
        store_line_soil(s, line, e.state.reports);
    return rc;
}

static int load_all_waiting(struct meter_store *s, MDB_txn *txn, const struct store_serials *list)
{
    MDB_stat stat;
    int rc = mdb_stat(txn, s->table[T_JOURNAL], &stat);
    uint64_t room = rc == 0 ? stat.ms_entries : 0;
    for (size_t i = 0; i < list->count && rc == 0; i++) {
        const uint64_t serial = list->at[i] & ~STORE_GONE;
        if (list->at[i] == serial)
            rc = load_waiting(s, txn, &room, serial);
        else if (serial <= s->checkpoint.serial)
            rc = store_serials_add(&s->struck, serial);
    }
    return rc;
}

static void find_settled_top(struct store_line *line)
{
    uint64_t top = line->state.reports;
    while (top >= line->base && store_line_serial(line, top) != 0)
        top--;
    line->settled_top = top;
}

int store_lines_load(struct meter_store *s, MDB_txn *txn)
{
    struct store_serials waiting = {0};
    AMI_CHECK(s->lines == NULL && s->struck.count == 0);
    int rc = store_checkpoint_read(s, txn, &s->checkpoint);
    s->stored = s->checkpoint;
    s->next_serial = s->checkpoint.serial + 1;
    if (rc == 0)
        rc = store_waiting_read(s, txn, &waiting, load_entry);
    if (rc == 0)
        rc = load_all_waiting(s, txn, &waiting);
    store_serials_free(&waiting);
    struct store_line *line, *tmp;
    HASH_ITER(hh, s->lines, line, tmp)
    {
        if (line->waiting != 0)
            find_settled_top(line);
    }
    return rc;
}
