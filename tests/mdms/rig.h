/* tests/mdms/rig.h - an MDMS in memory: virtual time, a store that can lose power at any write, and
 * DCs and devices whose part the test plays.
 *
 * Nothing happens by itself: the test lets jobs run, writes complete or fail, time pass. What the
 * core sends is kept until the test takes it.
 */
#ifndef AMI_TESTS_MDMS_RIG_H
#define AMI_TESTS_MDMS_RIG_H

#include "tests/harness.h"

#include "mdms/codes.h"
#include "mdms/core.h"
#include "wire/report.h"

#define RIG_DCS        4
#define RIG_DCS_LATER  2
#define RIG_RECORDS    4096
#define RIG_FRAMES     4096
#define RIG_DEVICES    8 /* links of devices: ids 1.. */
#define RIG_LINK_DC(i) ((env_link)(100 + (i)))

struct rig_record {
    enum mdms_table table;
    size_t key_size, value_size;
    uint8_t *key, *value;
};

struct rig_frame {
    env_link link;
    uint8_t *data;
    size_t size;
};

struct rig_job {
    void (*run)(void *);
    void *job;
};

struct rig {
    struct mdms *m;
    struct env env;
    struct mdms_keys keys;
    struct genesis *genesis;                        /* NULL before it was made */
    struct device_keys dc[RIG_DCS + RIG_DCS_LATER]; /* the genesis members, then others */
    struct committee committee;                     /* of the next block of the honest chain */
    struct committee next_committee;
    bool has_next;
    uint64_t now_us, alarm_us;
    uint64_t random;

    struct rig_record *record;
    size_t record_count;
    uint8_t value[MDMS_RECORD_BYTES_MAX + AMI_TX_BYTES_MAX];
    uint8_t key[MDMS_KEY_BYTES_MAX];

    struct mdms_write *write;     /* under way */
    enum ami_status store_status; /* what the next writes end with */
    enum ami_status read_status;  /* what reads of read_table end with, unless AMI_OK */
    enum mdms_table read_table;
    unsigned writes;

    struct rig_job job[64];
    size_t job_count;

    struct rig_frame frame[RIG_FRAMES];
    size_t frame_count;
    env_link closed[64];
    size_t closed_count;
    bool link_full; /* sends say AMI_AGAIN */

    /* The chain that honest DCs serve. */
    struct rig_block {
        uint8_t *bytes; /* encoding of certified_block */
        size_t size;
        struct block_parent after;
    } * block;
    size_t block_count; /* heights 1.. */

    char log[65536]; /* event names and details, one a line */
    size_t log_size;
};

/* A network with keys, an empty store and no MDMS running. */
void rig_begin(struct rig *r, uint8_t scheme);
void rig_end(struct rig *r);

/* Starts the MDMS on what the store holds. */
enum ami_status rig_try_start(struct rig *r);
void rig_start(struct rig *r);
/* Power loss: whatever is in memory is gone. */
void rig_kill(struct rig *r);

/* Lets everything run that can without time passing: jobs, writes, their completions. */
void rig_settle(struct rig *r);
/* One thing at a time; false when there was nothing. */
bool rig_run_job(struct rig *r);
/* The write under way reaches the disk (or fails with store_status); its completion is not told. */
bool rig_write_applies(struct rig *r);
/* ... and told. */
bool rig_write_completes(struct rig *r);
void rig_advance(struct rig *r, uint64_t ms);

/* Events logged since the start, by name: how many. */
unsigned rig_logged(const struct rig *r, const char *event);

/* Store. */
bool rig_get(struct rig *r, enum mdms_table table, struct mdms_key key, struct span *value);
size_t rig_count(const struct rig *r, enum mdms_table table);
struct state_record rig_state(struct rig *r);
void rig_put(struct rig *r, enum mdms_table table, struct mdms_key key, struct span value);

/* Codes: stores one and returns its hash. */
sm3_digest rig_code(struct rig *r, enum enrol_role role, const char *id, const char *home);

/* Devices. */
void rig_request(struct rig *r, struct enrol_pending *p, enum enrol_role role, const char *id,
                 uint32_t epoch, const sm3_digest *code);
void rig_send_request(struct rig *r, env_link link, const struct enrol_pending *p);
void rig_send_relayed(struct rig *r, unsigned dc, uint64_t token, const struct enrol_pending *p);
/* The body of the last ENROL_REPLY to this link, direct or relayed; removes all frames to it.
 * False when there is none. The bytes live until the next call. */
bool rig_reply(struct rig *r, env_link link, struct enrol_reply *reply, struct span *body);
/* All in one: a device that enrols. */
void rig_enrol(struct rig *r, struct device_keys *out, enum enrol_role role, const char *id);
void rig_enrol_epoch(struct rig *r, struct device_keys *out, enum enrol_role role, const char *id,
                     uint32_t epoch);

/* Enrols four DCs, makes the genesis and restarts the MDMS under it. */
void rig_genesis(struct rig *r);
/* The same without the restart: no MDMS runs, and r->genesis is what it would be started with. */
void rig_genesis_made(struct rig *r);

/* DCs. */
void rig_connect(struct rig *r, unsigned dc);    /* whole handshake */
void rig_disconnect(struct rig *r, unsigned dc); /* the link breaks */
void rig_send(struct rig *r, env_link link, enum message_type type, struct span body);
/* Removes frames of this type to this DC and returns how many; `last` gets the last one's body,
 * which lives until the next call. */
size_t rig_take(struct rig *r, unsigned dc, enum message_type type, struct span *last);

/* Transactions and blocks. */
struct rig_tx {
    uint8_t bytes[8192];
    size_t size;
};
enum rig_seal { SEAL_HONEST, SEAL_OTHER_REPORT, SEAL_GARBAGE };
void rig_report(struct rig *r, struct rig_tx *out, const struct device_keys *meter,
                uint64_t sequence, unsigned dc, enum rig_seal seal);
enum rig_damage {
    DAMAGE_NONE,
    DAMAGE_CERTIFICATE,  /* too few votes */
    DAMAGE_SIGNATURE,    /* one vote altered */
    DAMAGE_OTHER_BLOCK,  /* a good certificate of another block */
    DAMAGE_PREPARE_ONLY, /* a certificate of prepare votes */
    DAMAGE_LINK,         /* extends something else; certified by nobody honest, but it verifies */
    DAMAGE_MERKLE_ROOT,
    DAMAGE_BODY, /* one byte of a sealed report altered */
    DAMAGE_GARBAGE
};
/* Makes the next block of the honest chain out of transactions, certified by q of its committee. */
void rig_block(struct rig *r, const struct rig_tx *txs, size_t count);
/* An altered copy of block `height`, malloc'ed. */
struct span rig_damaged(struct rig *r, uint64_t height, enum rig_damage damage, uint8_t **memory);
/* Block `height` is served pruned from now on (ledger/pruned.h). */
void rig_prune(struct rig *r, uint64_t height);
/* The DC answers the last FETCH_BLOCKS that waits, if any, from the honest chain: how many. */
size_t rig_serve(struct rig *r, unsigned dc);
/* Serves and lets time pass until the MDMS stands at the chain's end (a bounded time). */
void rig_follow(struct rig *r);

#endif
