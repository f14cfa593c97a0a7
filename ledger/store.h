/* ledger/store.h - a node's ledger on disk: one LMDB environment.
 *
 * Everything that one step must make durable together is one `store_batch`, written in one synced
 * LMDB transaction (consensus rule 7, "durable before visible"). The batch is plain data, so that
 * the simulator can keep it in memory instead. Readers run beside the writer, also from another
 * process. docs/ledger-format.md describes the files.
 *
 * Threads: one thread writes (a second one that wants to waits for it), any thread reads meanwhile;
 * every read sees one committed state and holds it only until it returns. A write waits for reads
 * under way only when the map has to grow.
 *
 * Caveats: every value has a check, so that a damaged one is never returned; but LMDB has no page
 * checksums, and a damaged page can crash its reader (`dc-node run` has the whole file checked
 * first, ledger/store_check.h); an environment must not be opened twice in one process nor used
 * across a fork; a reader that was stopped (SIGSTOP) amid a read keeps old pages from being used
 * again, so the file grows; network file systems are not supported.
 */
#ifndef AMI_LEDGER_STORE_H
#define AMI_LEDGER_STORE_H

#include "ledger/block.h"
#include "ledger/pruned.h"
#include "ledger/runs.h"

/* What is written together. Absent parts are empty spans. All bytes are borrowed until the write
 * is done. */
struct store_batch {
    struct span vote_record; /* encoding of vote_record */
    struct span body_header; /* with body: an uncommitted block to keep, by hash */
    struct span body;
    bool commit; /* the block below is committed */
    struct span block_header;
    struct span block_commit; /* encoding of its commit qc */
    struct span block_body;
    struct span records; /* with commit: run of (u64 index, u32 size, record encoding) */
    /* A retention transaction, its signature checked, that is not (yet) in a committed block: it is
     * kept when its watermark is the highest so far. */
    struct span retention;
    /* The next blocks below this height, and below the watermark, get their pruned form. 0: none.
     */
    uint64_t prune_below;
    /* Not another one after so many bytes of them; 0: STORE_PRUNE_BYTES. For each
     * STORE_PRUNE_BYTES, at least once, STORE_PRUNE_BLOCKS are looked at and no more. */
    uint32_t prune_bytes;
};
#define STORE_PRUNE_BLOCKS 64
#define STORE_PRUNE_BYTES  (256u << 10)

/* What may be pruned in a ledger, and what is. */
struct store_retention {
    uint64_t below;                 /* the highest watermark known; 0: none */
    uint64_t pruned;                /* in blocks below this height no report is whole; at least 1 */
    size_t tx_size;                 /* 0: none; else RETENTION_TX_BYTES */
    uint8_t tx[RETENTION_TX_BYTES]; /* the transaction of that watermark */
};

/* Uncommitted blocks that are kept, each until a block of its height is committed. Beyond that
 * number the one of the lowest term goes first, but never one that the vote record names. */
#define STORE_PENDING_MAX 256

struct store;

enum store_mode { STORE_READ_ONLY, STORE_READ_WRITE };
/* Opens or (READ_WRITE, and only an empty or missing directory) creates. map_bytes: greatest size
 * of the ledger, at least 1 MiB; without bound when it is 0. The map grows by itself.
 * chain may be NULL when only reading: any chain.
 * AMI_IN_USE: another process holds it for writing. AMI_WRONG_CHAIN: holds another chain.
 * AMI_NOT_FOUND: nothing there to read. AMI_EXISTS: the directory holds other files but no ledger.
 * AMI_DAMAGED: cut off, foreign or inconsistent. AMI_UNSUPPORTED: the format of another version of
 * this program. AMI_IO, AMI_FULL, AMI_NO_MEMORY. `why` (of
 * why_size bytes) receives one clear sentence on failure. */
enum ami_status store_open(struct store **out, const char *dir, const sm3_digest *chain,
                           enum store_mode mode, uint64_t map_bytes, char *why,
                           size_t why_size) AMI_MUST_CHECK;
void store_close(struct store *s);

const sm3_digest *store_chain(const struct store *s);

/* One synced transaction. AMI_FULL (map or file system), AMI_IO: nothing of the batch is visible.
 * When it was the last page of a write that failed, every later call says AMI_IO until the ledger
 * is opened again; the batch is then there as a whole or not at all. Otherwise a later write may
 * succeed. What does not belong together is refused: AMI_BAD_ENCODING, AMI_WRONG_CHAIN,
 * AMI_BAD_PARENT (not the next block), AMI_BAD_CERTIFICATE (not of this block),
 * AMI_TOO_LARGE. AMI_BAD_ENCODING also for a block with pruned reports at or above the watermark.
 * That no report comes twice is for the registry to see; here it would be found twice. */
enum ami_status store_write(struct store *s, const struct store_batch *b) AMI_MUST_CHECK;

/* A value was met that is not what was written under its key (whoever asked for it got
 * AMI_DAMAGED): nothing in this ledger should be trusted before it was checked as a whole
 * (ledger/store_check.h). */
bool store_damaged(const struct store *s);

uint64_t store_height(struct store *s); /* of the last committed block; 0: none */

/* The bytes are copied into `buffer`, spans of the result point there. AMI_NOT_FOUND,
 * AMI_TOO_LARGE (buffer too small; AMI_BLOCK_BYTES_MAX + 8 KiB always does). */
enum ami_status store_block(struct store *s, uint64_t height, struct certified_block *out,
                            uint8_t *buffer, size_t buffer_size) AMI_MUST_CHECK;
enum ami_status store_header(struct store *s, uint64_t height, struct block_header *header,
                             struct qc *commit) AMI_MUST_CHECK;
enum ami_status store_body(struct store *s, const sm3_digest *block, struct body_reply *out,
                           uint8_t *buffer, size_t buffer_size) AMI_MUST_CHECK;
enum ami_status store_height_of(struct store *s, const sm3_digest *block,
                                uint64_t *height) AMI_MUST_CHECK;
/* Where a transaction stands: by id, or a report by (meter, epoch, sequence). Takes up to some
 * hundred looks into the file, and the first one in a process reads up to 63 blocks. A damaged
 * value of the index may hide a row that it should have: then AMI_NOT_FOUND. */
enum ami_status store_find_tx(struct store *s, const sm3_digest *id, uint64_t *height,
                              uint32_t *index) AMI_MUST_CHECK;
enum ami_status store_find_report(struct store *s, const struct ami_id *meter, uint32_t epoch,
                                  uint64_t sequence, uint64_t *height,
                                  uint32_t *index) AMI_MUST_CHECK;
/* Where the membership transaction stands that begins this epoch (2 or later). */
enum ami_status store_find_epoch(struct store *s, uint32_t epoch, uint64_t *height,
                                 uint32_t *index) AMI_MUST_CHECK;
enum ami_status store_retention(struct store *s, struct store_retention *out) AMI_MUST_CHECK;

/* How much stands in a ledger at one moment. */
struct store_counts {
    uint64_t height; /* of the last block */
    uint64_t blocks, hashes, epochs;
    bool foreign; /* something is there that no ledger has */
    struct store_retention retention;
};
enum ami_status store_count(struct store *s, struct store_counts *out) AMI_MUST_CHECK;
/* Adds the rows that the indexes must have of this block. */
enum ami_status store_sum_block(struct store *s, struct rows_sum *sum,
                                const uint8_t secret[ROWS_SECRET_BYTES], uint64_t height,
                                struct span body) AMI_MUST_CHECK;
/* Adds the rows that the indexes have of blocks up to `height`, a multiple of RUNS_FAN that the
 * ledger has reached; those of later blocks are written with later ones. AMI_DAMAGED: something is
 * in the wrong place. */
enum ami_status store_sum_runs(struct store *s, struct rows_sum *sum,
                               const uint8_t secret[ROWS_SECRET_BYTES],
                               uint64_t height) AMI_MUST_CHECK;
/* AMI_NOT_FOUND: a new store. out borrows buffer. */
enum ami_status store_vote_record(struct store *s, struct vote_record *out, uint8_t *buffer,
                                  size_t buffer_size) AMI_MUST_CHECK;
enum ami_status store_load_registry(struct store *s, struct registry *r) AMI_MUST_CHECK;
/* The same, and the height whose registry it is: for a reader beside a writer. */
enum ami_status store_load_registry_at(struct store *s, struct registry *r,
                                       uint64_t *height) AMI_MUST_CHECK;

/* Copies the ledger, as it is at this moment, into a directory that is missing or empty: all but
 * what is one node's alone, its vote record and the blocks that nobody has committed yet; the index
 * of transactions and reports is made anew, with another salt. Other values go over as they are,
 * checks included, in order of their keys, so the new file is small; whether they are a ledger's,
 * an audit of the copy tells. AMI_DAMAGED: a block does not even parse. The writer of `s` may go
 * on, but its file cannot use space again meanwhile. *height: of the copy. progress (may be NULL)
 * counts bytes of values. AMI_EXISTS: the directory holds something. AMI_FULL, AMI_IO, ...: what is
 * there is no ledger. */
enum ami_status store_copy(struct store *s, const char *dir, uint64_t *height,
                           void (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx,
                           char *why, size_t why_size) AMI_MUST_CHECK;

/* A look at all values, a few at a time, for a process beside the writer. Zeroed, it begins. */
#define STORE_DATABASES 8
struct store_patrol {
    unsigned db;
    size_t key_size; /* of the value that was looked at last; 0: none of this database yet */
    uint8_t key[512];
    uint64_t bytes;      /* looked at in this round */
    uint64_t seen, must; /* values of this database, and how many there have to be */
    /* Of each, the most that were met: a damaged tree may lose its values without a trace. */
    uint64_t most[STORE_DATABASES];
};
/* Looks at the next values until about `bytes_max` bytes are done. AMI_OK: they are what was
 * written; *round is true when these were the last ones, and `p` begins anew. AMI_DAMAGED: one is
 * not, or some are missing. A damaged page may crash the process. */
enum ami_status store_patrol_on(struct store *s, struct store_patrol *p, size_t bytes_max,
                                bool *round) AMI_MUST_CHECK;

#endif
