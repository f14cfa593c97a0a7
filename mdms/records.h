/* mdms/records.h - what the MDMS keeps on disk, one record per concept, and the writes that change
 * it.
 *
 * The store is an ordered map per table, from keys to records. The core reads it through `struct
 * mdms_kv` (answered at once, from what is durable) and changes it through writes handed to
 * env->store: lists of puts and deletes that become durable together. The shell puts LMDB behind
 * both, a test or the simulator a map in memory. Integers in keys are big-endian, so that the order
 * of keys is the order of numbers.
 */
#ifndef AMI_MDMS_RECORDS_H
#define AMI_MDMS_RECORDS_H

#include "ledger/committee.h"

enum mdms_table {
    TABLE_STATE,       /* records under the keys "state" and "retention"; the store's own */
    TABLE_CODES,       /* role, id: install code, sealed; written by `ami-mdms codes` too */
    TABLE_DEVICES,     /* role, id, epoch: what was issued; never changed once it was submitted */
    TABLE_OUTBOX,      /* number: a transaction that is not yet seen committed */
    TABLE_REQUESTS,    /* running number: a revocation asked for by `ami-mdms revoke` */
    TABLE_REVOCATIONS, /* role, id, epoch: number of the transaction, reason */
    TABLE_REPORTS,     /* meter, epoch, sequence: an opened report; never changed or deleted */
    TABLE_BAD_SEALS,   /* meter, epoch, sequence: who sealed something else */
    TABLE_CHANGES,     /* running number: a change of membership asked for by `ami-mdms member` */
    TABLE_EPOCHS,      /* membership epoch, as u64: what began it, where it was followed */
    TABLE_RETENTIONS,  /* running number: a watermark asked for by `ami-mdms retain` */
    TABLE_OPERATORS,   /* id of a DC: which list of revoked operators it goes by */
    TABLE_COUNT
};

/* Roles of devices as in enrol_request. */
enum device_role { DEVICE_METER = 1, DEVICE_DC = 2 };

#define MDMS_KEY_BYTES_MAX    64
#define MDMS_RECORD_BYTES_MAX (AMI_REPORT_BYTES_MAX + 512)
#define MDMS_REPLY_BYTES_MAX  768
#define MDMS_CODE_BYTES_MAX   64 /* sealed */
#define MDMS_CHANGE_BYTES_MAX 512
#define MDMS_EPOCH_BYTES_MAX  640
#define MDMS_LISTED_BYTES_MAX 64

struct mdms_key {
    uint8_t size;
    uint8_t b[MDMS_KEY_BYTES_MAX];
};

struct mdms_key key_state(void);
struct mdms_key key_retained(void);
struct mdms_key key_runs(void);
struct mdms_key key_format(void);
struct mdms_key key_code(uint8_t role, const struct ami_id *id);
struct mdms_key key_device(uint8_t role, const struct ami_id *id, uint32_t epoch);
struct mdms_key key_listed(const struct ami_id *dc);
struct mdms_key key_number(uint64_t number);
/* epoch 0: the first key that a report of this meter can have; for a cursor. */
struct mdms_key key_report(const struct ami_id *meter, uint32_t epoch, uint64_t sequence);
static inline struct span key_span(const struct mdms_key *k)
{
    return span_of(k->b, k->size);
}
/* AMI_BAD_ENCODING: the store holds something else than it should. */
enum ami_status key_device_parse(uint8_t *role, struct ami_id *id, uint32_t *epoch,
                                 struct span key) AMI_MUST_CHECK;
enum ami_status key_report_parse(struct ami_id *meter, uint32_t *epoch, uint64_t *sequence,
                                 struct span key) AMI_MUST_CHECK;
enum ami_status key_number_parse(uint64_t *number, struct span key) AMI_MUST_CHECK;

/* --- records ----------------------------------------------------------------------------------
 *
 * Each has one encoder and one decoder. A decoded record borrows the bytes that it came from. The
 * decoders give AMI_BAD_ENCODING. */

/* Where the MDMS stands. */
struct state_record {
    sm3_digest network; /* network id */
    sm3_digest chain;   /* all zero before a genesis file was seen */
    uint64_t height;    /* of the last block followed */
    sm3_digest tip;     /* its hash; the chain id at height 0 */
    int64_t tip_ms;     /* its timestamp; the genesis file's at height 0 */
    uint64_t settled;   /* number of the last transaction of ours seen committed */
    uint64_t last;      /* number of the last transaction made */
    uint64_t meters, dcs;
    uint64_t reports, readings;
    uint64_t bad_seals, bad_reports; /* bad_reports: signed by the meter, but no valid encoding */
};
void state_record_encode(struct writer *w, const struct state_record *s);
enum ami_status state_record_parse(struct state_record *out, struct span s) AMI_MUST_CHECK;

/* An install code, sealed to the MDMS enrolment key: `codes` needs no secret to add one, a copy of
 * the store tells nobody a code. See code_seal in mdms/codes.h. */
struct code_record {
    uint32_t served_epoch; /* epoch enrolled with it; 0: not used yet */
    bool has_home;
    struct ami_id home; /* home DC wanted for this meter */
    point_bytes c1;     /* encapsulation, shared by the codes of one list */
    struct span sealed; /* SM4-GCM */
};
void code_record_encode(struct writer *w, const struct code_record *c);
enum ami_status code_record_parse(struct code_record *out, struct span s) AMI_MUST_CHECK;

struct device_record {
    sm3_digest request; /* SM3 of the request that was answered */
    int64_t enrolled_ms;
    uint64_t number; /* of the transaction that puts it on the ledger; 0: a genesis member */
    struct ami_id home_dc;
    point_bytes w_sign;
    struct span agree_part; /* the scheme's part of U */
    struct span reply;      /* the ENROL_REPLY, body only, exactly as it was sent */
};
void device_record_encode(struct writer *w, const struct device_record *d);
enum ami_status device_record_parse(struct device_record *out, struct span s) AMI_MUST_CHECK;

/* A revocation, asked for (number 0) or made. */
struct revocation_record {
    uint8_t role;
    struct ami_id device;
    uint32_t epoch;
    uint8_t reason;
    uint64_t number;
    int64_t asked_ms;
};
void revocation_record_encode(struct writer *w, const struct revocation_record *r);
enum ami_status revocation_record_parse(struct revocation_record *out,
                                        struct span s) AMI_MUST_CHECK;

/* A change of membership (consensus rule 13), and what became of it. */
enum change_state { CHANGE_WANTED = 0, CHANGE_SIGNED = 1, CHANGE_REFUSED = 2 };
struct change_record {
    uint8_t state;
    uint16_t status; /* why it was refused */
    uint8_t change;  /* enum member_change */
    struct ami_id dc;
    uint32_t key_epoch; /* 0: the newest, until it is signed */
    uint32_t delay;
    uint64_t number; /* of the transaction; 0: not signed */
    int64_t asked_ms;
    struct span peer, meter, admin; /* empty: as it is */
};
void change_record_encode(struct writer *w, const struct change_record *c);
enum ami_status change_record_parse(struct change_record *out, struct span s) AMI_MUST_CHECK;

/* A membership transaction that stands in a followed block of this height: its first part. */
struct epoch_record {
    uint64_t height;
    struct span first;
};
void epoch_record_encode(struct writer *w, const struct epoch_record *e);
enum ami_status epoch_record_parse(struct epoch_record *out, struct span s) AMI_MUST_CHECK;

/* A watermark that was asked for, and what became of it. */
struct retention_record {
    uint8_t state;   /* enum change_state */
    uint16_t status; /* why it was refused */
    uint64_t below;
    uint64_t number; /* of the transaction; 0: not signed */
    int64_t asked_ms;
};
void retention_record_encode(struct writer *w, const struct retention_record *r);
enum ami_status retention_record_parse(struct retention_record *out, struct span s) AMI_MUST_CHECK;

/* What was followed of it. */
struct retained_record {
    uint64_t below;     /* the followed ledger's watermark; 0: none */
    uint64_t unread;    /* reports that were pruned before this store had them */
    uint64_t unread_to; /* height of the last block with such reports */
};
void retained_record_encode(struct writer *w, const struct retained_record *r);
enum ami_status retained_record_parse(struct retained_record *out, struct span s) AMI_MUST_CHECK;

/* What a DC said last of the list of revoked operators. */
struct listed_record {
    struct ami_id dc;
    uint64_t number; /* of the list that it goes by; 0: none */
    uint16_t status; /* of the list that it was sent: AMI_OK, or why it was not taken or kept */
    int64_t at_ms;
};
void listed_record_encode(struct writer *w, const struct listed_record *r);
enum ami_status listed_record_parse(struct listed_record *out, struct span s) AMI_MUST_CHECK;

/* A report as it was opened, and where it stands. */
struct report_record {
    uint64_t height;
    uint32_t index;
    int64_t block_ms;
    struct ami_id dc; /* the gateway that sealed it */
    uint32_t dc_epoch;
    uint8_t salt[16];
    struct span m;
};
void report_record_encode(struct writer *w, const struct report_record *r);
enum ami_status report_record_parse(struct report_record *out, struct span s) AMI_MUST_CHECK;

/* Reports behind each other, as mdms/reports.h stores them: u8 size of the key, u16 size of the
 * record, the key, the record. */
#define REPORT_ROW_BYTES_MAX (1 + 2 + MDMS_KEY_BYTES_MAX + MDMS_RECORD_BYTES_MAX)
size_t report_row_bytes(struct span key, struct span record);
void report_row_encode(struct writer *w, struct span key, struct span record);
/* The next row; AMI_NOT_FOUND behind the last. */
enum ami_status report_row_next(struct reader *r, struct span *key,
                                struct span *record) AMI_MUST_CHECK;

/* Which runs of reports there are (mdms/reports.h). */
#define MDMS_RUN_LEVELS 8
/* Of a level: far above what there can be. A merge of 64 writes as large as they come, some 18 MiB
 * each, is done after 2,400 more, however small; and so it is on every level. */
#define MDMS_RUNS_MAX (1u << 16)
struct runs_record {
    struct runs_level {
        uint64_t first, end;  /* its runs: first to end - 1 */
        uint64_t merged_end;  /* first to merged_end - 1 become run `end` of the next level; 0: none
                                 do */
        struct mdms_key from; /* the first of their rows that are not there yet; empty: all */
    } level[MDMS_RUN_LEVELS];
};
#define MDMS_RUNS_BYTES_MAX (1 + MDMS_RUN_LEVELS * (8 + 8 + 8 + 1 + MDMS_KEY_BYTES_MAX))
void runs_record_encode(struct writer *w, const struct runs_record *r);
enum ami_status runs_record_parse(struct runs_record *out, struct span s) AMI_MUST_CHECK;

struct bad_seal_record {
    uint64_t height;
    uint32_t index;
    struct ami_id dc;
    uint32_t dc_epoch;
    uint16_t status; /* BAD_CRYPTO: does not open; BAD_PROOF: opens to another commitment */
};
void bad_seal_record_encode(struct writer *w, const struct bad_seal_record *b);
enum ami_status bad_seal_record_parse(struct bad_seal_record *out, struct span s) AMI_MUST_CHECK;

/* --- reads and writes ------------------------------------------------------------------------- */

struct mdms_kv {
    void *ctx;
    /* `value` stays valid until the next call. AMI_NOT_FOUND; AMI_DAMAGED, AMI_IO. */
    enum ami_status (*get)(void *ctx, enum mdms_table table, struct span key, struct span *value);
    /* The first record whose key is at least `from`. */
    enum ami_status (*seek)(void *ctx, enum mdms_table table, struct span from, struct span *key,
                            struct span *value);
};

/* The state record, which every store has. AMI_DAMAGED, AMI_IO. */
enum ami_status mdms_state_load(const struct mdms_kv *kv, struct state_record *out) AMI_MUST_CHECK;
/* The committee of the block above `height`, and the one that is decided after it, by what the
 * store says was followed. AMI_DAMAGED, AMI_IO. */
enum ami_status mdms_committee_load(const struct mdms_kv *kv, const struct genesis *g,
                                    uint64_t height, struct committee *now, struct committee *next,
                                    bool *has_next) AMI_MUST_CHECK;

/* A list of puts and deletes, durable together or not at all. */
struct mdms_write {
    uint8_t *data;
    size_t size, capacity;
    bool no_memory; /* sticky: the write must not be handed out */
};
void mdms_write_reset(struct mdms_write *w); /* keeps the memory */
void mdms_write_free(struct mdms_write *w);
void mdms_write_put(struct mdms_write *w, enum mdms_table table, const struct mdms_key *key,
                    struct span value);
void mdms_write_delete(struct mdms_write *w, enum mdms_table table, const struct mdms_key *key);

struct mdms_op {
    bool remove;
    enum mdms_table table;
    struct span key, value;
};
/* Walks over a write: *at from 0; false at the end. */
bool mdms_write_next(const struct mdms_write *w, size_t *at, struct mdms_op *op);

#endif
