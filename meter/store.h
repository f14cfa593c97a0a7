/* meter/store.h - what meters keep on disk: keys, outbox, archive and how far they are.
 *
 * One LMDB environment DIR/meters.mdb for all meters of a directory, so that what many of them
 * write shares one synced transaction, and few pages of it. One process at a time writes
 * (directory_lock); others may read beside it. Names in keys are followed by a zero byte. Tables:
 *
 *   journal   serial u64: a report, and how far its meter is with it, or which reports are settled
 *             (meter/store_entry.h). Written at the end only. All meters share it, so what is
 *             written together lies together
 *   state     name, epoch u32: meter_state                           } summed up at the last
 *   sources   name, epoch, SM3 of a file: u64, the next of its rows  } checkpoint; what came later
 *             to be reported                                         } stands in the journal's end
 *   outbox    serial: nothing; of a report that is not acknowledged  } (meter/store_write.c)
 *             yet. The others are the archive, for exports, proofs   }
 *   meta      "chain": version u8 3, network id, chain id; "epoch" and a u32: membership_proof of
 *             that epoch; "journal": serial u64 of the last entry that the checkpoint sums up, and
 *             three u64 for throwing away what is old
 *   keys      name: a device key file (keyagree/keyfile.h)
 *   pending   name: SM3 of the install code's hash, then a pending key file: an enrolment under way
 *
 * There is no index by name on the disk. Who writes keeps in memory where the reports that wait
 * are, and reads the journal's end when it opens the store; who reads all reports scans and sorts.
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
/* Also makes a checkpoint, so that the next opening is quick. NULL is allowed. */
void meter_store_close(struct meter_store *s);

/* How far one meter (in one key epoch) is. */
struct meter_state {
    uint64_t next_sequence; /* of the next report in this epoch; the others go on in the next one */
    uint64_t reports;       /* made so far */
    uint64_t readings;      /* in them */
    uint64_t profile_next;  /* next interval of the built-in profile */
};

/* --- writing: one synced transaction for all of it, or nothing ------------------------------- */

enum meter_op_kind {
    METER_OP_REPORT = 1, /* into journal and outbox, with the state after it (one report and one
                            number more than before) and, with `source`, the file's row */
    METER_OP_SETTLE,     /* out of the outbox. Older reports of this meter than the last `keep`
                            (0: all) may go, but none at or above the lowest that is still in the
                            outbox: not at once, but a bounded number with each settling */
    METER_OP_PENDING,    /* pending := record */
    METER_OP_KEYS,       /* keys := record, state := of a new epoch; pending is erased. AMI_EXISTS:
                            not a later epoch; AMI_IN_USE: something waits under the keys before */
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
/* Any one thread at a time, and beside it the one that reads. AMI_EXISTS: a number serves once.
 * AMI_FULL, AMI_IO, AMI_DAMAGED, AMI_BAD_ARGUMENT: nothing of it was written. */
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

/* Of writers alone, down to meter_store_next. AMI_NOT_FOUND. */
enum ami_status meter_store_state(struct meter_store *s, const struct ami_id *name, uint32_t epoch,
                                  struct meter_state *out) AMI_MUST_CHECK;
/* The next row of a file, as far as keys of this epoch or an earlier one reported it; 0 when the
 * file was never begun. */
enum ami_status meter_store_source(struct meter_store *s, const struct ami_id *name, uint32_t epoch,
                                   const sm3_digest *source, uint64_t *row) AMI_MUST_CHECK;

/* What is in the outbox of a meter. */
struct meter_backlog {
    uint64_t lowest; /* sequence; 0: nothing waits */
    uint64_t reports, readings;
};
enum ami_status meter_store_backlog(struct meter_store *s, const struct ami_id *name,
                                    uint32_t epoch, struct meter_backlog *out) AMI_MUST_CHECK;
/* Copies the record with the lowest sequence >= from that is in the outbox; what is being written
 * meanwhile is waited for, what is being settled may count as settled. AMI_NOT_FOUND. */
enum ami_status meter_store_next(struct meter_store *s, const struct ami_id *name, uint32_t epoch,
                                 uint64_t from, uint8_t buffer[METER_RECORD_BYTES_MAX],
                                 size_t *size) AMI_MUST_CHECK;

enum meter_box { METER_OUTBOX, METER_ARCHIVE };
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
 * `each` returns false. boxes: bit METER_OUTBOX, bit METER_ARCHIVE; name: of one meter, NULL: of
 * all. Reads through the whole journal, or the outbox if that is all, and takes some 24 bytes of
 * memory for each report. */
enum ami_status
meter_store_each_report(struct meter_store *s, unsigned boxes, const struct ami_id *name,
                        bool (*each)(void *ctx, const struct meter_stored_report *report),
                        void *ctx) AMI_MUST_CHECK;

#endif
