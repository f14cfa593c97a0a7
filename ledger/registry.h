/* ledger/registry.h - the state that blocks change: devices, keys, revocations, settled sequences.
 *
 * One record per device and key epoch, in order of enrolment; the state root is the Merkle root
 * over the records' encodings (docs/ledger-format.md). All in memory (a compact record per meter);
 * the store keeps the same records so that a node starts without replaying the chain.
 *
 * At most one block is staged on top of the committed state: stage, look at the root, then commit
 * or drop. Validation, building a block and audit all go through the same staging.
 *
 * One thread owns a registry and calls all of this; what other threads may do is said where it is.
 * Work per block grows with the block, not with the registry. Memory: about 400 bytes a record, 180
 * more once its key was needed.
 */
#ifndef AMI_LEDGER_REGISTRY_H
#define AMI_LEDGER_REGISTRY_H

#include "ledger/genesis.h"
#include "ledger/tx.h"

enum record_kind { RECORD_MDMS = 0, RECORD_METER = 1, RECORD_DC = 2 };

/* One record. The MDMS's record (index 0) holds the number of its last transaction, and below which
 * height blocks may be pruned. */
struct record {
    uint8_t kind;
    struct ami_id name;
    uint32_t epoch;
    struct ami_id home_dc; /* meters */
    point_bytes w;         /* report or signing role */
    uint8_t agree_part[AMI_SCHEME_PART_BYTES_MAX];
    uint8_t agree_part_size;
    uint64_t enrolled_at; /* height */
    uint64_t revoked_at;  /* height; 0 while valid */
    union {
        uint64_t
            floor; /* meters: every sequence below is settled (1 at first). MDMS: last number */
        uint64_t member_from; /* DCs: the first height that this key votes at; 0: none so far */
    };
    /* meters: bit i: floor + i is settled. Bit 0 is never set. DCs: bit k: evidence of kind k is on
     * the ledger; above the lowest 8 bits, the first height that this key votes at no more; 0: none
     * so far (record_member_until). MDMS: the last retention's watermark; 0: none so far. */
    uint64_t window;
    struct verify_key
        *key; /* recovered when first needed; NULL before (not part of the encoding) */
};

static inline uint64_t record_member_until(const struct record *dc)
{
    return dc->window >> 8;
}

/* How far below its own block a retention's watermark has to be: what a DC asks for in one go when
 * it is behind (FETCH_WINDOW of consensus/). So a DC that missed that much and no more gets every
 * report whole, and nothing that votes, elections or waiting acknowledgements look at is pruned. */
#define RETENTION_MARGIN 64
static inline bool retention_fits(uint64_t below, uint64_t height)
{
    return below <= height && height - below >= RETENTION_MARGIN;
}

struct registry;
/* Height 0: the MDMS's record (named "mdms"), then the genesis members as DC records. NULL: out of
 * memory. The genesis must outlive it. */
struct registry *registry_new(const struct genesis *g);
void registry_free(struct registry *r);

/* A rule switched off, by the simulator alone, to see that its checks notice: from now on nobody
 * who asks this registry checks that a report was signed by its meter. */
void registry_leave_meters_unchecked(struct registry *r);
bool registry_meters_unchecked(const struct registry *r);

const struct genesis *registry_genesis(const struct registry *r);
uint64_t registry_size(const struct registry *r);
const struct record *registry_at(const struct registry *r, uint64_t index);
/* NULL when there is none. epoch 0: the newest epoch. Looks at the committed state. */
const struct record *registry_find(const struct registry *r, enum record_kind kind,
                                   const struct ami_id *name, uint32_t epoch);
uint64_t registry_index_of(const struct registry *r, const struct record *rec);
/* The verification key of a committed record, recovered and cached; it never moves nor changes.
 * NULL: out of memory, or W is bad (cannot happen for a record that was admitted). */
const struct verify_key *registry_key(struct registry *r, const struct record *rec);
sm3_digest registry_root(struct registry *r); /* of the committed state, also while one is staged */
uint64_t registry_height(const struct registry *r); /* of the committed state */

/* Membership (consensus rule 13). A key votes at the heights of one interval; each change of the
 * list begins an epoch. The list of an epoch is in order of the height that a key votes from, those
 * of one height in order of enrolment: who joins comes last, and so does a rotated key. What the
 * committed state says of any height up to registry_height + 1, and, as long as no change is
 * decided, of all that follow. */

/* NULL: out of memory. Valid until the next call with a height of another epoch, or until a change
 * is committed: copy what is kept. */
const struct members *registry_members(struct registry *r, uint64_t height);
/* The first height of the epoch after that of `height`; 0: no change is decided. */
uint64_t registry_next_epoch(const struct registry *r, uint64_t height);

/* Retention: the watermark of the last retention transaction; 0: none so far. */
uint64_t registry_retention(const struct registry *r);
/* Somebody showed a retention transaction of the MDMS, maybe one of a later block than the
 * committed ones, and its signature was checked: reports in blocks below this height may be pruned
 * ones. */
void registry_show_retention(struct registry *r, uint64_t below);
/* The greater of both: block_check_prepare takes no pruned reports from this height on. */
uint64_t registry_pruned_below(const struct registry *r);

/* floor-and-window rule of meters: AMI_OK, AMI_SEQUENCE_SETTLED or AMI_SEQUENCE_AHEAD. */
enum ami_status record_admits(const struct record *rec, uint64_t sequence);

/* Signatures of one transaction, in two steps as in block.h: `prepare` finds the keys (owner's
 * thread; they stay where they are as long as the registry lives), `run` checks (any thread), for
 * an enrolment also that W leads to a key. AMI_UNKNOWN_DEVICE when a signer has no record. */
struct tx_check {
    const struct genesis *genesis;
    const struct verify_key *author;  /* a report's or skip's meter, or whom evidence accuses */
    const struct verify_key *gateway; /* a report's */
    bool meters_unchecked;            /* registry_leave_meters_unchecked */
};
enum ami_status registry_check_prepare(struct registry *r, const struct tx_view *tx,
                                       struct tx_check *out) AMI_MUST_CHECK;
enum ami_status tx_check_run(const struct tx_check *c, const struct tx_view *tx) AMI_MUST_CHECK;
/* The same for many, side by side: those whose status is AMI_OK receive theirs, the others are left
 * out. At most TX_CHECK_BATCH. */
#define TX_CHECK_BATCH 64
void tx_check_run_batch(const struct tx_check *c, const struct tx_view *tx, enum ami_status *status,
                        size_t count);

/* Would it be admissible on the committed state (no signatures)? For the pending pool. AMI_EXISTS:
 * evidence against this key of this kind is on the ledger. A
 * transaction of the MDMS whose number is not the next one cannot be judged yet, because those
 * before it are missing: AMI_OK up to this distance, so that it can wait; staging says
 * AMI_SEQUENCE_AHEAD then. So does a change of membership while another one is pending, and a
 * retention whose margin is not there yet. */
#define REGISTRY_NUMBERS_AHEAD_MAX 4096
enum ami_status registry_admits(const struct registry *r, const struct tx_view *tx);

/* Staging. stage_begin at a height; stage_tx applies one transaction's rules to the staged state
 * (not its signatures): the error says why and leaves the staged state as it was before this
 * transaction. Later transactions of the stage see what earlier ones changed; everything above
 * (find, at, root, admits, keys) goes on seeing the committed state. */
void registry_stage_begin(struct registry *r, uint64_t height);
enum ami_status registry_stage_tx(struct registry *r, const struct tx_view *tx) AMI_MUST_CHECK;
sm3_digest registry_stage_root(struct registry *r);
/* Calls back for every record changed or added, in order of index: what the store must write. The
 * records are those of the stage and vanish with it. */
void registry_stage_changes(struct registry *r,
                            void (*put)(void *ctx, uint64_t index, const struct record *rec),
                            void *ctx);
void registry_stage_commit(struct registry *r);
void registry_stage_drop(struct registry *r);
bool registry_staged(const struct registry *r);

/* Encoding of a record, hashed into the state root and stored: docs/ledger-format.md. */
#define RECORD_BYTES_MAX 320
void record_encode(struct writer *w, const struct record *rec);
enum ami_status record_parse(struct record *out, struct span s) AMI_MUST_CHECK;
/* Loads stored records, in order of index, into a new registry: an index below registry_size says
 * how a record of the genesis has changed, the next index adds one. AMI_DAMAGED when the record
 * cannot stand there; AMI_NO_MEMORY. Whoever has the header of the last block compares its state
 * root with registry_root afterwards. */
enum ami_status registry_load(struct registry *r, uint64_t index,
                              const struct record *rec) AMI_MUST_CHECK;
/* All are loaded, and this is the height whose state they are. */
void registry_loaded(struct registry *r, uint64_t height);

#endif
