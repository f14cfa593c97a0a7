/* ledger/runs.h - where transactions and reports stand, in sorted runs that only ever grow by whole
 * values: pure functions, the store (ledger/store_runs.c) keeps them.
 *
 * Keys of an index are digests, so a tree of them has no order that writing could follow: once it
 * is large, every new row rewrites a page of its own. Here rows are kept as in a log-structured
 * merge tree instead (O'Neil et al. 1996), whose shape follows from the ledger's height alone:
 *
 *   - The rows of the blocks after the last multiple of 64 stand nowhere but in their blocks; who
 *     looks for one keeps them in memory.
 *   - Block 64 (r + 1) writes run r of level 1: the rows of its last 64 blocks, in 64 slices by the
 *     first six bits of their keys.
 *   - Run r of level n has the rows of 64^n blocks in 64^n slices. It is made of the 64 runs of the
 *     level below, in parts: part p takes slice p of each of them, which thereby goes, and makes
 *     slices 64 p to 64 p + 63. At most one part is made with a block, of as many rows as 64 blocks
 *     have.
 *
 * So a row is written once a level, in slices of about one block's rows, and found by looking into
 * at most 127 slices a level. A slice is kept in pieces of a page each, lest the pages that merging
 * leaves behind lie about in runs too short for the next slice. docs/ledger-format.md, "Indexes".
 */
#ifndef AMI_LEDGER_RUNS_H
#define AMI_LEDGER_RUNS_H

#include "ledger/tx.h"

#define RUNS_FAN        64
#define RUNS_LEVELS     5 /* the runs of the last one, 2^30 blocks each, are not merged */
#define ROW_KEY_BYTES   16
#define ROW_BYTES       (ROW_KEY_BYTES + 8 + 4)
#define ROW_ORDER(a, b) memcmp(a, b, ROW_BYTES)
#define RUN_PIECE_ROWS  145 /* with their check and LMDB's header not more than 4096 bytes */
#define RUN_KEY_BYTES   (1 + 8 + ROW_BYTES)

/* A row is 28 bytes: its key, the first 16 bytes of a digest; u64 height, u32 index in the block.
 * Rows are in the order of these bytes. Of every transaction there is one by its id, and of every
 * report one by (meter, epoch, sequence). The digests have a salt that each ledger draws for itself
 * and shows nobody: who makes transactions cannot choose where their rows go, to fill one slice or
 * to have two of one key. */
#define ROW_SALT_BYTES 16
struct row_key {
    uint8_t b[ROW_KEY_BYTES];
};
struct row_key row_tx_key(const uint8_t salt[ROW_SALT_BYTES], const sm3_digest *id);
struct row_key row_report_key(const uint8_t salt[ROW_SALT_BYTES], const struct ami_id *meter,
                              uint32_t epoch, uint64_t sequence);

/* The rows of a block, sorted; *rows is malloc'd, NULL when there are none. AMI_NO_MEMORY,
 * AMI_BAD_ENCODING and the like: the body is none. */
enum ami_status rows_of_block(uint8_t **rows, size_t *count, const uint8_t salt[ROW_SALT_BYTES],
                              uint64_t height, struct span body) AMI_MUST_CHECK;
void rows_sort(uint8_t *rows, size_t count);
/* The last row that this key may have up to that height, and how many of them are not above it. */
void row_last(uint8_t row[ROW_BYTES], const struct row_key *key, uint64_t height_max);
size_t rows_upto(const uint8_t *rows, size_t count, const struct row_key *key, uint64_t height_max);
/* The last one with this key and a height up to `height_max`. False: none. */
bool rows_find(const uint8_t *rows, size_t count, const struct row_key *key, uint64_t height_max,
               uint64_t *height, uint32_t *index);

/* --- the shape -------------------------------------------------------------------------------- */

struct run_name {
    unsigned level; /* 1 to RUNS_LEVELS */
    uint64_t run;
    uint32_t slice;
};
/* The store's key of a piece: u8 level, u64 run, its first row. So a run's pieces are in the order
 * of their rows, and where a row may be is the last piece whose key is not above it. */
void run_key_encode(uint8_t out[RUN_KEY_BYTES], unsigned level, uint64_t run, const uint8_t *row);
bool run_key_parse(struct run_name *out, const uint8_t **row, struct span key);
/* Below every row of this slice. */
void run_slice_begin(uint8_t row[ROW_BYTES], const struct run_name *n);

uint64_t runs_blocks(unsigned level);                              /* 64^level */
uint32_t runs_slice_of(unsigned level, const uint8_t *key);        /* its first 6 level bits */
bool runs_has(const struct run_name *n, uint64_t tip);             /* it may have rows then */
bool run_covers(const struct run_name *n, const uint8_t *one_row); /* the row belongs there */

/* Pieces one after another, in the order of their keys. Zeroed, it begins. */
struct run_pieces {
    struct run_name last;
    uint8_t last_row[ROW_BYTES];
};
/* Whether this is a piece that a ledger with this tip may have, behind those before it. */
bool run_piece_is_right(struct run_pieces *p, uint64_t tip, struct span key, struct span rows);

/* What block `height` makes beside level 1 (which it does at multiples of RUNS_FAN): slices
 * 64 part to 64 part + 63 of this run. False: nothing. */
struct run_part {
    unsigned level; /* 2 or more */
    uint64_t run;
    uint32_t part;
};
bool runs_part(uint64_t height, struct run_part *out);

/* The slices that may have this key, newest blocks first. */
struct runs_walk {
    uint64_t tip, left; /* blocks up to `left` have not been passed yet */
    struct row_key key;
};
struct runs_walk runs_walk_on(uint64_t tip, const struct row_key *key);
bool runs_walk_next(struct runs_walk *w, struct run_name *out);

/* The registry's changed records, which stand beside the blocks, go to their table with blocks that
 * have no run to make: those whose height leaves this when divided by RUNS_FAN. */
#define RECORDS_AT 52
/* The last such height; 0: none yet. */
static inline uint64_t records_folded(uint64_t tip)
{
    return tip < RECORDS_AT ? 0 : tip - (tip - RECORDS_AT) % RUNS_FAN;
}

/* --- all rows at once ------------------------------------------------------------------------- */

/* A sum over rows, each hashed with a secret: two sums of one secret are equal when the rows are,
 * whatever their order, and nobody who does not know it can make others with the same sum. Zeroed,
 * it begins. */
#define ROWS_SECRET_BYTES 16
struct rows_sum {
    uint64_t rows;
    uint64_t sum[2];
};
void rows_sum_add(struct rows_sum *s, const uint8_t secret[ROWS_SECRET_BYTES], const uint8_t *rows,
                  size_t count);
bool rows_sum_equal(const struct rows_sum *a, const struct rows_sum *b);

#endif
