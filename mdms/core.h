/* mdms/core.h - the MDMS as a state machine: it enrols devices, puts what it issued on the ledger,
 * follows the ledger and opens the readings.
 *
 * In: frames on links, instants of time, finished work, finished writes. Out: through base/env.h.
 * The shell (mdms/serve.c) runs it on nng and LMDB; a test or the simulator runs the same objects
 * on virtual time. It reads its store through `struct mdms_kv` and changes it through env->store,
 * to which it hands a `struct mdms_write`, one at a time; so what one write makes durable is
 * visible to the next, and a crash at any point leaves either all of a write or nothing.
 *
 * What leaves is durable before: a reply to an enrolment is sent after the reply and its
 * transaction are stored, a transaction is submitted after it is stored, and readings are stored
 * together with the height that they came from. Nothing is acknowledged to the DCs: they serve
 * committed blocks to anyone, and the MDMS asks from where it stands, so it may be away for as long
 * as it likes.
 */
#ifndef AMI_MDMS_CORE_H
#define AMI_MDMS_CORE_H

#include "base/env.h"
#include "channel/credential.h"
#include "keyagree/enrol.h"
#include "keyagree/keyfile.h"
#include "ledger/block.h"
#include "mdms/records.h"

/* Bounds. */
#define MDMS_DCS_MAX            (2 * AMI_MEMBERS_MAX) /* slots of links to DCs: old ones end slowly */
#define MDMS_FOLLOW_WINDOW      16   /* blocks asked for, checked and not yet stored */
#define MDMS_ENROL_MAX          1024 /* enrolments under way; more are asked to come again */
#define MDMS_SUBMIT_WINDOW      512  /* transactions submitted and not yet seen committed */
#define MDMS_WRITE_ENROLS_MAX   256  /* enrolments made durable together */
#define MDMS_WRITE_REQUESTS_MAX 64
#define MDMS_SERVE_BYTES        (3u << 20) /* a DC stops serving one request when it gave so much */
#define MDMS_WRITE_BYTES_MAX    (16u << 20) /* blocks are added to a write up to this size */

enum mdms_port {
    MDMS_PORT_ENROL = 1, /* a device dialled us */
    MDMS_PORT_DC = 2     /* we dialled a DC's peer address */
};

struct mdms_timing {
    uint32_t poll_ms;     /* asks for the next blocks so often while the chain is idle: 200 */
    uint32_t silence_ms;  /* asks another DC when one has given nothing for so long: 2000 */
    uint32_t submit_ms;   /* hands transactions to another DC when none commits: 3000 */
    uint32_t retry_ms;    /* after a failed write: 1000 */
    uint32_t distrust_ms; /* a DC that served a bad block is not asked again for so long: 60000 */
};
struct mdms_timing mdms_timing_default(void);

struct mdms_config {
    const struct network *network; /* outlives the MDMS, as all pointers here */
    const struct genesis *genesis; /* NULL: only DCs can enrol */
    const struct mdms_keys *keys;
    const struct scheme *scheme;
    struct mdms_kv kv;
    struct mdms_timing timing;
    /* From now on this peer address is to be dialled, and what comes of it is given to mdms_on_open
     * as `slot`; NULL: it is to be dialled no more. NULL as a function: the caller knows whom. */
    void (*dial)(void *ctx, unsigned slot, const char *address);
    void *dial_ctx;
};

struct mdms;

/* Loads where it stood. AMI_WRONG_CHAIN: the store belongs to another network or chain;
 * AMI_DAMAGED; AMI_NOT_FOUND: the store was never initialised; AMI_NO_MEMORY. Call mdms_on_time
 * once to start it. */
enum ami_status mdms_new(struct mdms **out, const struct mdms_config *config,
                         const struct env *env) AMI_MUST_CHECK;
/* No job may be under way any more. */
void mdms_free(struct mdms *m);

/* The state record of a new store, to be written by `ami-mdms init`. */
struct state_record mdms_state_initial(const struct network *net);

/* Events. `slot` is meant with MDMS_PORT_DC only: at first a member's index. */
void mdms_on_open(struct mdms *m, env_link link, enum mdms_port port, uint8_t slot);
/* Right after mdms_on_open with MDMS_PORT_DC: who has proven itself on the link's channel. What its
 * hello says has to agree. */
void mdms_on_identity(struct mdms *m, env_link link, const struct credential_identity *who);
void mdms_on_frame(struct mdms *m, env_link link, struct span frame);
void mdms_on_writable(struct mdms *m, env_link link);
void mdms_on_closed(struct mdms *m, env_link link);
void mdms_on_time(struct mdms *m);
void mdms_on_work(struct mdms *m, void *job);
/* The list of revoked operators in the folder (channel/file.h), for all DCs: at the start and
 * whenever there is another. AMI_EXISTS: older than the one that is known, which has all of
 * it; AMI_FULL: it cannot be joined with that one; else what revoked_list_parse says. */
enum ami_status mdms_operators(struct mdms *m, struct span list) AMI_MUST_CHECK;
/* The one that all DCs are to have, and its number; empty and 0: none. When that is another than
 * was given, a DC had a newer one, or one of which the given one lacked something: for the folder,
 * so that it does not fall behind again. Valid until the next event. */
struct span mdms_operators_known(const struct mdms *m, uint64_t *number);
/* AMI_FULL and AMI_NO_MEMORY: nothing was written, it tries again. Any other failure: what is on
 * disk is not known, the core stops (mdms_failed) and the process must start anew. */
void mdms_on_stored(struct mdms *m, struct mdms_write *write, enum ami_status status);

/* AMI_OK while it works. */
enum ami_status mdms_failed(const struct mdms *m);

/* Whether the ledger would take this watermark in a block of this height; `last`: the one that it
 * has. AMI_EXISTS: it has it already or a higher one. AMI_SEQUENCE_AHEAD: not yet. */
enum ami_status retention_judge(uint64_t below, uint64_t height, uint64_t last) AMI_MUST_CHECK;

/* For people: since the start, unless it is in the state. */
struct mdms_stats {
    struct state_record state;            /* durable */
    unsigned links_ready;                 /* DCs that are connected and proved who they are */
    int source;                           /* slot asked for blocks; -1: none */
    uint64_t blocks;                      /* followed since the start */
    uint64_t enrolled, repeated, refused; /* enrolment requests answered since the start */
    uint64_t enrolling;                   /* under way */
    uint64_t frames_bad;                  /* frames that were no valid message */
    uint64_t writes_failed;
    uint64_t submits;                  /* times that transactions were handed to a DC */
    uint64_t bad_blocks[MDMS_DCS_MAX]; /* served through this slot, refused by us */
    bool storage_full;                 /* the last write found no room */
};
void mdms_stats(const struct mdms *m, struct mdms_stats *out);

#endif
