/* mdms/reports.h - the reports in the MDMS's store: sorted runs that are merged as they grow more.
 * Only mdms/store.c uses it.
 *
 * Reports come in order of the ledger and are wanted in order of their meters. A tree by meter
 * would rewrite a page for each of them; so they are kept as in a log-structured merge tree (O'Neil
 * et al. 1996), out of which LMDB's transactions take what is hard about one:
 *
 *   - The reports of a write are a run of level 0, sorted by (meter, epoch, sequence) and cut into
 *     chunks of two pages.
 *   - 64 runs of a level become one of the next. That is done bit by bit: each write takes the next
 *     rows of those 64, in order, for twice as many bytes as it adds itself (and some, for small
 *     ones), and removes the chunks that they leave empty. So a merge is done long before the next
 *     64 runs are there.
 *   - Which runs there are, and how far merges have come, is one record. It, the rows and whatever
 *     else a write changes are durable together.
 *
 * A report is written once a level, in order; one meter's are found by one look into each run, at
 * most some 130 a level, of which there are log64 of the number of writes. Nothing is held in
 * memory between calls. Caveat: after a giant's writes (a year that is caught up on) a dwarf's wait
 * for the giant's merge, and there may be some thousand runs.
 *
 * Of two reports of one place the one stored first stays, as on the ledger; the other is dropped
 * when they meet, and never seen.
 */
#ifndef AMI_MDMS_REPORTS_H
#define AMI_MDMS_REPORTS_H

#include "mdms/records.h"

#include <lmdb.h>

#define REPORTS_FAN             64              /* runs that are merged into one */
#define REPORTS_CHUNK_BYTES     (2 * 4096 - 16) /* two of LMDB's pages, without their header */
#define REPORTS_MERGE_BYTES_MIN (512u << 10)    /* a level and write */

/* All functions return LMDB's codes. MDB_CORRUPTED: what is stored is not what was written. */

struct reports_tables {
    MDB_dbi rows;  /* u8 level, u64 run, key of the chunk's first report: the chunk */
    MDB_dbi state; /* the record of runs stands there under key_runs() */
};

struct reports_row {
    struct span key, record;
};

/* Adds these, in the order in which they stand on the ledger; sorts the array. */
int reports_add(MDB_txn *txn, const struct reports_tables *t, struct reports_row *rows,
                size_t count);
/* The record is LMDB's, valid as long as the transaction and until it writes. MDB_NOTFOUND. */
int reports_get(MDB_txn *txn, const struct reports_tables *t, struct span key, struct span *record);
/* From `from` on, in order of keys, until `each` returns false. */
int reports_scan(MDB_txn *txn, const struct reports_tables *t, struct span from,
                 bool (*each)(void *ctx, struct span key, struct span record), void *ctx);

#endif
