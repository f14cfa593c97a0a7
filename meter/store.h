/* meter/store.h - what meters keep on disk: keys, outbox, archive and how far they are.
 *
 * One LMDB environment DIR/meters.mdb for all meters of a directory, so that what many of them
 * write shares one synced transaction. One process at a time writes (directory_lock); others may
 * read beside it. Tables, keys of which begin with the meter's name and a zero byte:
 *
 *   meta      "chain": version u8 2, network id, chain id; "epoch" and a u32: membership_proof of
 *             that epoch
 *   keys      name: a device key file (keyagree/keyfile.h)
 *   pending   name: SM3 of the install code's hash, then a pending key file: an enrolment under way
 *   state     name, epoch u32: meter_state
 *   sources   name, epoch, SM3 of a file: u64, the next of its rows to be reported
 *   reports   name, epoch, sequence u64: u16 number of readings, encoding of report_submit
 *   outbox    the same key: u16 number of readings; of a report that is not acknowledged yet. The
 *             others are the archive, kept for exports and proofs. So an acknowledgement changes a
 *             small table only, and not a page for each meter
 *
 * Caveats: LMDB has no page checksums; a file cut short is found at opening, flipped bits are not.
 * Never open a directory twice in one process. Readers belong to one thread.
 */
#ifndef AMI_METER_STORE_H
#define AMI_METER_STORE_H

#include "keyagree/keyfile.h"
#include "meter/core.h"
#include "net/why.h"

/* Address space set aside; the file grows only as far as it is filled. */
#define METER_STORE_MAP_BYTES (64ull << 30)

struct meter_store;

enum meter_store_mode {
    METER_STORE_READ,  /* must be there; may be beside a writer */
    METER_STORE_WRITE, /* must be there */
    METER_STORE_CREATE /* made when it is not there */
};

/* network and chain: what the directory must belong to; both NULL to take it as it is (READ).
 * map_bytes 0: METER_STORE_MAP_BYTES. AMI_NOT_FOUND, AMI_IN_USE, AMI_WRONG_CHAIN, AMI_DAMAGED,
 * AMI_FULL, AMI_IO; `why` names the directory and says what to do. */
enum ami_status meter_store_open(struct meter_store **out, const char *dir,
                                 enum meter_store_mode mode, const sm3_digest *network,
                                 const sm3_digest *chain, uint64_t map_bytes,
                                 struct why *why) AMI_MUST_CHECK;
void meter_store_close(struct meter_store *s); /* NULL is allowed */

/* How far one meter (in one key epoch) is. */
struct meter_state {
    uint64_t next_sequence; /* of the next report in this epoch; the others go on in the next one */
    uint64_t reports;       /* made so far */
    uint64_t readings;      /* in them */
    uint64_t profile_next;  /* next interval of the built-in profile */
};

/* --- writing: one synced transaction for all of it, or nothing ------------------------------- */

enum meter_op_kind {
    METER_OP_REPORT = 1, /* reports += record, outbox; state; with `source`, its row */
    METER_OP_SETTLE,     /* out of the outbox; older reports than the last `keep` (0: all) go,
                            but none at or above the lowest that is still in the outbox */
    METER_OP_PENDING,    /* pending := record */
    METER_OP_KEYS,       /* keys := record, state := new; pending is erased */
    METER_OP_EPOCH       /* the membership proof of `epoch` := record */
};
struct meter_op {
    enum meter_op_kind kind;
    const struct ami_id *name;
    uint32_t epoch;
    uint64_t sequence;
    struct span record;
    uint16_t readings; /* REPORT: in the record. SETTLE: set by meter_store_apply */
    struct meter_state state;
    const sm3_digest *source; /* or NULL */
    uint64_t source_row;
    uint64_t keep;
};
/* Any one thread at a time. AMI_FULL, AMI_IO, AMI_DAMAGED: nothing of it was written. */
enum ami_status meter_store_apply(struct meter_store *s, struct meter_op *ops, size_t count,
                                  struct why *why) AMI_MUST_CHECK;

/* --- reading --------------------------------------------------------------------------------- */

/* Calls `each` for every enrolled meter in order of names until it returns false. The bytes are
 * valid during the call. */
enum ami_status meter_store_each_keys(struct meter_store *s,
                                      bool (*each)(void *ctx, const struct ami_id *name,
                                                   struct span key_file),
                                      void *ctx) AMI_MUST_CHECK;
/* Copies one out; capacity KEYFILE_BYTES_MAX + SM3_BYTES always does. AMI_NOT_FOUND. */
enum ami_status meter_store_keys(struct meter_store *s, const struct ami_id *name, uint8_t *out,
                                 size_t capacity, size_t *size) AMI_MUST_CHECK;
enum ami_status meter_store_pending(struct meter_store *s, const struct ami_id *name, uint8_t *out,
                                    size_t capacity, size_t *size) AMI_MUST_CHECK;
/* The membership proof of this epoch, of at most METER_EPOCH_BYTES_MAX bytes. AMI_NOT_FOUND. */
#define METER_EPOCH_BYTES_MAX (16u << 10)
enum ami_status meter_store_epoch(struct meter_store *s, uint32_t epoch, uint8_t *out,
                                  size_t capacity, size_t *size) AMI_MUST_CHECK;
/* Takes all that are stored. AMI_DAMAGED: they do not prove what they should. */
enum ami_status meter_store_committees(struct meter_store *s, struct headers *h) AMI_MUST_CHECK;
/* AMI_NOT_FOUND. */
enum ami_status meter_store_state(struct meter_store *s, const struct ami_id *name, uint32_t epoch,
                                  struct meter_state *out) AMI_MUST_CHECK;
/* The next row of a file, as far as keys of this epoch or an earlier one reported it; 0 when the
 * file was never begun. */
enum ami_status meter_store_source(struct meter_store *s, const struct ami_id *name, uint32_t epoch,
                                   const sm3_digest *source, uint64_t *row) AMI_MUST_CHECK;

enum meter_box { METER_OUTBOX, METER_ARCHIVE };
/* Copies the record with the lowest sequence >= from. AMI_NOT_FOUND. */
enum ami_status meter_store_next(struct meter_store *s, enum meter_box box,
                                 const struct ami_id *name, uint32_t epoch, uint64_t from,
                                 uint8_t buffer[METER_RECORD_BYTES_MAX],
                                 size_t *size) AMI_MUST_CHECK;

/* One report of either box. */
struct meter_stored_report {
    struct ami_id name;
    uint32_t epoch;
    uint64_t sequence;
    bool settled;
    uint16_t readings;
    struct span record; /* encoding of report_submit */
};
/* Outbox and archive together, in order of name, epoch and sequence, all of one instant, until
 * `each` returns false. boxes: bit METER_OUTBOX, bit METER_ARCHIVE. */
enum ami_status meter_store_each_report(struct meter_store *s, unsigned boxes,
                                        bool (*each)(void *ctx,
                                                     const struct meter_stored_report *report),
                                        void *ctx) AMI_MUST_CHECK;

#endif
