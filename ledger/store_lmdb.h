/* ledger/store_lmdb.h - what the files of the store share: its databases, LMDB's transactions over
 * a map that grows, values with their checks. Inside of ledger/ only.
 *
 *   store_lmdb.c   all that is declared here
 *   store_open.c   opening, making, closing
 *   store_write.c  one batch, pruning
 *   store_runs.c   indexes of transactions and reports; the registry's records
 *   store.c        reading, what an audit and the patrol ask
 *   store_copy.c   a compact copy
 */
#ifndef AMI_LEDGER_STORE_LMDB_H
#define AMI_LEDGER_STORE_LMDB_H

#include "ledger/runs.h"
#include "ledger/store.h"
#include "ledger/store_value.h"

#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>

/* The sub-databases (docs/ledger-format.md). Integers in keys and values are big-endian; behind
 * every value stands its check (ledger/store_value.h), and in blocks and pending that of the front
 * before it.
 *
 *   meta     "format" -> "amiledger store 8", or 9 with a retention; "chain" -> chain id;
 *            "salt" -> ROW_SALT_BYTES; "tip" -> u64 height, hash; "vote" -> vote_record, u64
 *            LMDB's number of that write; "write" -> u64 number of the last write, u64 of the
 *            last with a vote record; "retention" -> the transaction of the highest watermark;
 *            "pruned" -> u64 height: below it no report is whole
 *   blocks   u64 height -> certified_block, its body perhaps pruned
 *   hashes   block hash -> u64 height
 *   runs     level, run, first row -> rows of transactions and reports (ledger/runs.h)
 *   epochs   u32 epoch -> u64 height, u32 index; of the membership transaction that begins it
 *   changes  u64 height -> the records that this block changed, as a batch has them; of the
 *            blocks after records_folded(tip)
 *   records  u64 index -> record, as of that height; those that differ from the genesis file's
 *   pending  block hash -> body_reply; blocks that are not committed
 */
enum { META, BLOCKS, HASHES, RUNS, EPOCHS, CHANGES, RECORDS, PENDING, DB_COUNT };
extern const char *const store_db_names[DB_COUNT];

#define KEY_FORMAT    "format"
#define KEY_CHAIN     "chain"
#define KEY_TIP       "tip"  /* u64 height, hash */
#define KEY_VOTE      "vote" /* encoding of vote_record, u64 LMDB's number of its write */
#define KEY_RETENTION "retention"
#define KEY_PRUNED    "pruned"
#define KEY_SALT      "salt"
#define KEY_WRITE     "write" /* u64 number of the last write, u64 of the last with a vote record */

#define STORE_META_KEYS 8
extern const struct span store_meta_keys[STORE_META_KEYS];

#define DATA_NAME "data.mdb"

#define TIP_BYTES   (8 + SM3_BYTES)
#define PLACE_BYTES (8 + 4) /* height, index */

/* The first map; it doubles up to a step of 1 GiB. Small enough that small tests see it grow. */
#define MAP_BYTES_FIRST ((size_t)16 << 20)
#define MAP_BYTES_MIN   ((size_t)1 << 20)

/* The rows of the blocks after a multiple of RUNS_FAN, up to `to`, which may be behind the tip: who
 * looks for something reads on. `lock` is taken inside of a transaction, never before one. */
struct store_tail {
    pthread_mutex_t lock;
    uint64_t from, to;
    uint8_t *rows[RUNS_FAN]; /* of block from + 1 + i */
    size_t count[RUNS_FAN];
};

struct store {
    MDB_env *env;
    MDB_dbi db[DB_COUNT];
    enum store_mode mode;
    size_t map_bytes_max;
    int lock_fd;
    bool dead; /* the map was lost for lack of memory */
    _Atomic bool damaged;
    sm3_digest chain;
    _Atomic uint64_t height;
    /* LMDB lets nobody use a map that is being replaced: every transaction holds this for reading,
     * whoever replaces the map for writing. */
    pthread_rwlock_t map_lock;
    struct store_tail tail;
    uint8_t salt[ROW_SALT_BYTES]; /* of the rows' keys */
    char *dir;
};

/* `why` may be NULL. */
__attribute__((format(printf, 3, 4))) void store_say(char *why, size_t why_size, const char *format,
                                                     ...);
enum ami_status store_status(int rc);
/* What LMDB makes of a full file system is often a short write, which it reports as EIO. */
enum ami_status store_write_status(const struct store *s, int rc, size_t bytes_wanted);
enum ami_status store_map_grow(struct store *s);
/* Begins a transaction and holds the map lock for reading; only with AMI_OK. */
enum ami_status store_begin(struct store *s, unsigned flags, MDB_txn **txn);
void store_end(struct store *s, MDB_txn *txn);
int store_note_damage(struct store *s);
/* Has the kernel fetch this value from the disk meanwhile; where it reads ahead by itself, nothing.
 */
void store_will_read(const struct store *s, const MDB_val *v);
/* A stored value without its check. MDB_CORRUPTED: the check is another one's. */
int store_open_value(struct store *s, int db, struct span key, const MDB_val *v,
                     struct span *value);
int store_get(struct store *s, MDB_txn *txn, int db, struct span key, struct span *value);
/* A block as it was encoded. */
int store_get_block(struct store *s, MDB_txn *txn, int db, struct span key, struct span *value);
struct span store_key_u64(uint8_t out[8], uint64_t v);
struct span store_key_u32(uint8_t out[4], uint32_t v);
/* Height 0 and the chain id when no block is there. */
enum ami_status store_get_tip(struct store *s, MDB_txn *txn, uint64_t *height, sm3_digest *hash);
enum ami_status store_get_retention(struct store *s, MDB_txn *txn, struct store_retention *out);
/* Header and certificate at the front of a stored block; `r` stands before the body then. */
enum ami_status store_read_front(struct reader *r, uint64_t height, struct block_header *header,
                                 struct qc *commit);
/* What stands under KEY_VOTE. */
enum ami_status store_parse_vote(struct vote_record *out, struct span v);
/* Whether the first `size` bytes of a stored block are what was written. */
bool store_front_is_whole(struct store *s, struct span key, const MDB_val *v, size_t size);
/* A value in two parts, of which the second may be empty, and its check. */
int store_put_value(struct store *s, MDB_txn *txn, int db, struct span key, struct span value,
                    struct span more, unsigned flags);

/* Each value of the batch's `records`, or of one in "changes". AMI_NOT_FOUND: no more. */
enum ami_status store_next_record(struct reader *r, uint64_t *index, struct span *record);

/* --- store_runs.c ----------------------------------------------------------------------------- */

/* The rows of a block that stands in the ledger, as rows_of_block gives them. AMI_DAMAGED. */
enum ami_status store_rows_at(struct store *s, MDB_txn *txn, uint64_t height, uint8_t **rows,
                              size_t *count);
/* Inside the write that commits block `height`, whose rows these are (which only a multiple of
 * RUNS_FAN needs): whatever of the indexes and
 * of the records is due with it. An error of LMDB is *rc; AMI_OK with another *rc than MDB_SUCCESS
 * is a failure, too. */
enum ami_status store_put_runs(struct store *s, MDB_txn *txn, uint64_t height, const uint8_t *rows,
                               size_t count, int *rc);
enum ami_status store_put_records(struct store *s, MDB_txn *txn, uint64_t height,
                                  struct span records, int *rc);
/* Reads the tail: for a writer that opens a ledger, lest the first one who looks for something, or
 * the next run, has to wait for that. */
enum ami_status store_tail_read(struct store *s);
/* Behind that write: the tail takes the rows over. */
void store_tail_push(struct store *s, uint64_t height, uint8_t *rows, size_t count);
void store_tail_clear(struct store_tail *t);

#endif
