/* meter/store_internal.h - what the files of the meters' store share. Nothing outside meter/
 * includes it.
 *
 *   store.c          the file: opened, closed; the small tables; errors
 *   store_entry.c    what an entry of the journal holds
 *   store_waiting.c  which reports wait, by the outbox and the journal's end
 *   store_lines.c    what is known of each meter in memory, and how it is found again at opening
 *   store_write.c    what is written: reports, settlings, keys, checkpoints; what is thrown away
 *   store_reports.c  all reports in order, for exports and proofs
 *
 * Functions that return int return a code of LMDB's, an errno value, or one of those below; 0:
 * done.
 */
#ifndef AMI_METER_STORE_INTERNAL_H
#define AMI_METER_STORE_INTERNAL_H

#include "base/table.h"
#include "meter/store_entry.h"

#include <limits.h>
#include <lmdb.h>
#include <pthread.h>

enum store_table { T_META, T_KEYS, T_PENDING, T_STATE, T_SOURCES, T_JOURNAL, T_OUTBOX, TABLES };

/* Refused: the number or the epoch served before; something waits; it does not follow. */
#define STORE_SERVED   (-1)
#define STORE_WAITS    (-2)
#define STORE_NOT_NEXT (-3)

#define STORE_STATE_BYTES 32
/* Above all serials: at 20,000 reports a second reached after 400 years. */
#define STORE_SERIAL_END (UINT64_C(1) << 48)

/* The next row of a file, where the table "sources" does not have it yet. */
struct store_source {
    sm3_digest digest;
    uint64_t row;
    struct store_source *next;
};

/* One meter. In memory are those that did something since the last checkpoint, those that have
 * something in the outbox, and whoever was asked for; of the others the tables tell all.
 *
 * Reports are counted through all key epochs of a meter ("reports" of its state). By this number,
 * its ordinal, those that wait are found: slot[(head + ordinal - base) & (capacity - 1)] is the
 * place in the journal, with the number of readings in its 16 low bits; 0 when it does not wait.
 * base is the lowest one that waits. */
struct store_line {
    struct ami_id name;
    bool dirty;     /* the tables do not have all of it yet */
    uint32_t epoch; /* 0: it has neither keys nor reports */
    uint32_t waiting, head, span, capacity;
    struct meter_state state;
    uint64_t base;
    uint64_t fresh_from; /* dirty: no lower ordinal has a serial above the checkpoint */
    uint64_t *slot;
    uint64_t waiting_readings;
    uint64_t settled_top;         /* the highest ordinal that is settled, while others wait */
    struct store_source *sources; /* of this epoch */
    UT_hash_handle hh;            /* by name */
};

/* How far the tables of states, sources and outbox hold, and how the journal's front is kept short.
 * In "meta" under "journal". */
struct store_checkpoint {
    uint64_t serial;   /* of the last entry that they hold; those above it say what is newer */
    uint64_t dead;     /* about how many entries need not stay */
    uint64_t sweep_to; /* the journal is being looked through up to this serial; 0: it is not */
    uint64_t keep;     /* as last given; 0: never */
};

/* Serials, in a growing array. */
struct store_serials {
    uint64_t *at;
    size_t count, capacity;
};

struct meter_store {
    MDB_env *env;
    MDB_dbi table[TABLES];
    MDB_txn *reader; /* reset between calls */
    char path[PATH_MAX];
    int lock_fd; /* -1: reading only */

    /* From here on for writers alone. `writing` is held by who writes, from the first change in
     * memory until it is durable; `lines_lock` while the lines are changed or read. Taken in this
     * order. */
    pthread_mutex_t writing, lines_lock;
    struct store_line *lines;
    uint64_t next_serial;
    struct store_serials settling; /* by the write under way */
    struct store_serials struck;   /* in the table "outbox" still, and waiting no more */
    struct store_checkpoint checkpoint, stored; /* as it is now; as it was written */
    size_t dirty;                               /* lines */
    int broken; /* why what is in memory is not to be believed: it could not be read, perhaps
                   again after a write that failed. 0: all is well */
};

/* --- store.c --------------------------------------------------------------------------------- */

/* Name, zero, epoch, digest. */
struct store_key {
    size_t size;
    uint8_t b[AMI_ID_BYTES_MAX + 1 + 4 + SM3_BYTES];
};
struct store_key store_key_name(const struct ami_id *name);
struct store_key store_key_epoch(const struct ami_id *name, uint32_t epoch);
struct store_key store_key_source(const struct ami_id *name, uint32_t epoch,
                                  const sm3_digest *source);
struct store_key store_key_committee(uint32_t epoch); /* in "meta" */
struct store_key store_key_serial(uint64_t serial);

static inline MDB_val store_val(const void *data, size_t size)
{
    return (MDB_val){size, (void *)(uintptr_t)data};
}
static inline MDB_val store_key_val(const struct store_key *k)
{
    return store_val(k->b, k->size);
}
static inline struct span store_span(MDB_val v)
{
    return span_of(v.mv_data, v.mv_size);
}

int store_put(struct meter_store *s, MDB_txn *txn, enum store_table table,
              const struct store_key *key, const void *data, size_t size);
void store_state_encode(uint8_t out[STORE_STATE_BYTES], const struct meter_state *s);
bool store_state_parse(struct meter_state *out, MDB_val v);
/* The serial in a key of the journal or the outbox: from 1, below STORE_SERIAL_END. */
bool store_serial_parse(uint64_t *out, MDB_val key);
/* The report of this serial. MDB_NOTFOUND. */
int store_entry_get(struct meter_store *s, MDB_txn *txn, uint64_t serial, struct store_entry *out);

int store_read_begin(struct meter_store *s);
void store_read_end(struct meter_store *s);
enum ami_status store_status(int rc);
enum ami_status store_fail(const struct meter_store *s, int rc, struct why *why);

/* --- store_waiting.c ------------------------------------------------------------------------- */

int store_serials_add(struct store_serials *list, uint64_t serial);
void store_serials_free(struct store_serials *list);

int store_checkpoint_read(struct meter_store *s, MDB_txn *txn, struct store_checkpoint *out);

/* No longer waiting: a bit in what store_waiting_read gives. */
#define STORE_GONE (UINT64_C(1) << 63)
/* The serials of the reports that wait, and of those that did at the checkpoint and since with
 * STORE_GONE, in ascending order. Calls `each`, if there is one, for every report above the
 * checkpoint. */
int store_waiting_read(struct meter_store *s, MDB_txn *txn, struct store_serials *out,
                       int (*each)(struct meter_store *s, MDB_txn *txn, uint64_t serial,
                                   const struct store_entry *e));

/* --- store_lines.c: the caller holds lines_lock ---------------------------------------------- */

/* Reads checkpoint, tail of the journal and outbox. There are no lines before. */
int store_lines_load(struct meter_store *s, MDB_txn *txn);
void store_lines_free(struct meter_store *s);
void store_line_sources_free(struct store_line *line);
struct store_line *store_line_find(struct meter_store *s, const struct ami_id *name);
/* The meter's line, made from the tables when it is not in memory. */
int store_line_get(struct meter_store *s, MDB_txn *txn, const struct ami_id *name,
                   struct store_line **out);
/* The line goes on as this entry says. STORE_SERVED, STORE_NOT_NEXT (also: of another epoch): it is
 * not the line's next one. */
int store_line_advance(struct meter_store *s, struct store_line *line, const struct store_entry *e);
/* The next checkpoint must look at it, from this ordinal on. */
void store_line_soil(struct meter_store *s, struct store_line *line, uint64_t ordinal);
/* In the outbox from now on, or elsewhere in the journal. */
int store_line_wait(struct store_line *line, uint64_t ordinal, uint64_t serial, uint16_t readings);
/* Returns the number of readings. */
uint16_t store_line_settle(struct store_line *line, uint64_t ordinal);
/* Ordinal of a report of the line's epoch; 0: there is none. */
uint64_t store_line_ordinal(const struct store_line *line, uint64_t sequence);
/* Serial of a report; 0: it does not wait. */
uint64_t store_line_serial(const struct store_line *line, uint64_t ordinal);
/* Entries with an ordinal up to this one need not stay; 0: none. */
uint64_t store_line_dead_to(const struct store_line *line, uint64_t keep);

/* --- store_write.c --------------------------------------------------------------------------- */

/* A clean end: the next start need not read the journal. */
void store_write_end(struct meter_store *s);

#endif
