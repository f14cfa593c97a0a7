/* node/internal.h - what the files of node/'s core share. Nothing outside node/ includes it but
 * tests, and the simulator's liars, who are nodes that do what a node would not.
 *
 *   core.c     events in, to the part that they concern
 *   peers.c    links with DCs and the MDMS: handshake, sending, serving blocks
 *   epoch.c    membership: the committee, the own key in it, those who only follow
 *   chain.c    the replica's effects carried out: validate, build, persist, deliver
 *   fill.c     which waiting transactions go into a leader's next block
 *   write.c    what must be durable in one go, copied for the storage thread
 *   gateway.c  meters: agreement, sessions, reports, acknowledgements (node/gateway_internal.h)
 *   submit.c   waiting transactions: pool, handing over, rule 8's timers
 *   prune.c    blocks below the MDMS's watermark
 *   relay.c    enrolment frames between devices and the MDMS
 *   operators.c  the MDMS's list of operators that are let in no more
 *   admin.c    dc-cli's questions
 *   stuck.c    one of them: what do commits wait for?
 */
#ifndef AMI_NODE_INTERNAL_H
#define AMI_NODE_INTERNAL_H

#include "base/check.h"
#include "base/table.h"
#include "node/core.h"

#include "channel/file.h"
#include "consensus/replica.h"
#include "keyagree/session.h"
#include "ledger/committee.h"
#include "node/pool.h"

#include <jansson.h>

/* Bounds, each named once. */
#define NODE_LINKS_MAX        4096
#define NODE_AGREE_QUEUE_MAX  4096 /* first flights waiting for the work pool */
#define NODE_AGREE_BATCH_MAX  64
#define NODE_REPORT_QUEUE_MAX 4096 /* reports waiting for the work pool */
#define NODE_REPORT_BATCH_MAX 2048
/* Of these so many at most are one session's, or one link's: nobody fills them alone. */
#define NODE_REPORTS_PER_SESSION  16
#define NODE_FLIGHTS_PER_LINK     1024
#define NODE_CHECK_BATCH_MAX      64 /* handed-over transactions in one job */
#define NODE_CHECK_QUEUE_MAX      8  /* frames of one source that wait for the work pool */
#define NODE_READERS_MAX          16 /* links that proved nothing and fetch blocks */
#define NODE_SERVE_BLOCKS_MAX     64 /* blocks served per request */
#define NODE_SERVE_BYTES_MAX      (3u << 20)
#define NODE_SERVE_QUEUED_MAX     (512u << 10) /* not while so much waits on the link already */
#define NODE_RELAYS_MAX           4096
#define NODE_RELAY_TIMEOUT_US     (30u * 1000000u)
#define NODE_PROOFS_PER_LINK      64
#define NODE_AHEAD_MAX            2   /* later blocks whose bodies are checked by a node behind */
#define NODE_OPENINGS_PER_METER   8   /* agreements begun and not confirmed, each on another link */
#define NODE_SETTLED_BLOCKS       32  /* whose proofs are kept in memory: 100 bytes a transaction */
#define NODE_SETTLED_READS        100 /* blocks read for that in NODE_SETTLED_US; then: try again */
#define NODE_SETTLED_US           (1u * 1000000u)
#define NODE_EVENTS_MAX           1000
#define NODE_EVENT_TEXT_BYTES_MAX 200
#define NODE_NOTE_BYTES_MAX       80  /* of an operator's remark */
#define NODE_CAUSED_MAX           400 /* events kept that others caused */
#define NODE_OFTEN_MAX            96  /* their names, and who caused them: 24 names alone at most */
#define NODE_OFTEN_SHOWN          20  /* of each in NODE_OFTEN_US */
#define NODE_OFTEN_US             (10u * 1000000u)
#define NODE_TICK_US              (50u * 1000u) /* how soon timers are looked at after a frame */
#define NODE_HANDSHAKE_US         (10u * 1000000u)
#define NODE_REMIND_US            (10u * 1000000u) /* of the tip, who follows */

enum { LINK_ROLE_DC = 2, LINK_ROLE_MDMS = 3, LINK_ROLE_READER = 5 };
enum link_state { LINK_NEW, LINK_HELLO_SEEN, LINK_READY };

/* Any link, of any port. */
struct node_link {
    env_link id;
    enum node_port port;
    enum link_state state;
    bool closing;          /* no more frames are taken */
    bool known;            /* it did something that a stranger cannot */
    bool enrol_only;       /* a meter link whose hello named no chain */
    struct ami_id dialled; /* NODE_PORT_DIALLED: whom we dialled */
    bool identified;       /* `who` proved itself on the link's channel */
    struct credential_identity who;
    uint8_t suite;           /* of the channel's records */
    uint8_t role;            /* of link_hello: 2 DC, 3 MDMS, 5 reader */
    struct ami_id peer_name; /* of link_hello, when role is DC */
    uint32_t peer_epoch;
    bool unproven;       /* DC, with a key that cannot be checked or counts no more: see peers.c */
    unsigned blocks_due; /* BLOCK and BODY that may come from a DC that is no member */
    uint8_t member;      /* its index in this epoch; AMI_MEMBERS_MAX: it is none */
    uint64_t told_us;    /* a follower: when it was last told of the tip */
    uint64_t opened_us;
    uint8_t own_hello[128]; /* as sent, for the proof */
    size_t own_hello_size;
    uint8_t peer_hello[128];
    size_t peer_hello_size;
    uint64_t proofs_sent[NODE_PROOFS_PER_LINK]; /* heights whose block_proof went out; a ring */
    unsigned proofs_at;
    struct gateway_session *sessions; /* whose answers go here */
    unsigned flights_waiting;         /* first flights of this link, queued or being answered */
    UT_hash_handle hh;
};

enum session_state {
    SESSION_FREE = 0,
    SESSION_RESERVED,  /* its first flight waits for its answer: it has an id and nothing else */
    SESSION_OPENING,   /* answered; whose flight it was is not proven yet */
    SESSION_CONFIRMED, /* open */
};

/* One session of a meter, or one on the way to it: a slot of the gateway's table. */
struct gateway_session {
    uint64_t id;
    env_link link; /* where answers go, one of the link's sessions; 0: its link was closed */
    struct gateway_session *link_prev, *link_next;
    struct gateway_session *next_opening; /* of the same meter, a newer one */
    uint64_t meter;                       /* index in the registry */
    uint8_t state;                        /* enum session_state */
    bool insist;                          /* the meter came here although another DC leads */
    uint8_t reports_waiting;              /* reports of it that are queued or being checked */
    union {
        struct {
            uint64_t since_us;
            struct agree_pending pending;
            struct agree_terms terms;
        } opening;
        struct session session; /* when confirmed */
    } u;
};
_Static_assert(sizeof(struct gateway_session) <= 448, "a DC holds 100,000 of them");

struct check_job;
struct chain;
struct gateway;
struct prune;
struct operators;
struct relay_entry;

/* A MEMBERSHIP frame, as it goes to meters. */
struct epoch_frame {
    uint8_t *bytes; /* NULL: not made yet */
    size_t size;
};

struct node_counters {
    uint64_t frames_bad, links_refused, requests_denied;
    uint64_t agreements, agreements_refused;
    uint64_t reports, reports_refused, acks, acks_dropped;
    uint64_t txs_handed_in, txs_refused, txs_not_taken, txs_committed;
    uint64_t blocks_built, blocks_applied, blocks_refused, checked_ahead;
    uint64_t elections_won, terms_seen, evidence_found, evidence_committed, writes_failed;
};

struct node_event {
    uint64_t number; /* from 1 */
    int64_t wall_ms;
    const char *name;
    struct ami_id who; /* node_event_of; else empty */
    char text[NODE_EVENT_TEXT_BYTES_MAX];
};

/* How often an event that others cause was shown lately. */
struct node_often {
    const char *name;
    struct ami_id who;
    uint64_t since_us;
    unsigned shown;
    uint64_t left_out;
};

struct node {
    struct node_config c;
    uint64_t step_down_us; /* when an operator had it step down last; 0: never */
    struct env env;
    enum ami_status start_status;
    struct committee committee; /* of the block above the tip */
    struct committee next_committee;
    bool has_next;                   /* a change is decided */
    struct epoch_frame *epoch_proof; /* from epoch 2 on */
    size_t epoch_proofs;
    struct member_address address; /* own, the last one known */
    bool has_address;
    uint8_t self; /* own index; AMI_MEMBERS_MAX: no member */
    struct replica *replica;
    struct chain *chain;
    struct gateway *gateway;
    struct prune *prune;
    struct operators *operators;
    bool leader_changed;
    uint64_t next_us; /* the earliest instant that a part other than the chain waits for */
    uint64_t started_us;
    size_t sessions_open; /* confirmed ones */

    struct node_link *links; /* by id */
    size_t link_count;
    env_link to_member[AMI_MEMBERS_MAX]; /* the ready link that we send on; 0: none */
    /* To a DC that has this member's name, but not the key that votes for it in this epoch: blocks
     * are fetched there when there is no other link; 0: none. */
    env_link fetch_from[AMI_MEMBERS_MAX];
    uint64_t link_since_us[AMI_MEMBERS_MAX]; /* since when that link is up, or down */
    env_link mdms;                           /* a ready link of the MDMS; 0: none */

    struct pool *pool;
    struct check_job *checking;
    struct check_job *check_queue[POOL_SOURCES];
    size_t check_queued[POOL_SOURCES];
    uint8_t check_turn;  /* source whose turn it is */
    uint64_t hand_batch; /* of transactions handed to a leader, counted */
    uint64_t hand_on_us; /* the next three: nothing is due there before */
    uint64_t peers_us;
    uint64_t blocks_filled; /* for marking what a block holds already */
    uint64_t relays_us;

    struct relay_entry *relays;
    uint64_t relay_next;

    struct node_counters counters;
    uint64_t rate_at_us, rate_reports; /* for reports/s in the status */
    double reports_per_s;
    struct node_event *events; /* a ring of NODE_EVENTS_MAX */
    struct node_event *caused; /* NODE_CAUSED_MAX */
    uint64_t event_count, events_kept;
    size_t caused_kept;
    struct node_often often[NODE_OFTEN_MAX];
    uint8_t *frame; /* AMI_FRAME_PEER_BYTES_MAX: where outgoing frames are put together */
    uint8_t *block; /* one block: where blocks are read from the disk */
    size_t block_size;
};

/* core.c, events.c */
uint64_t node_now_us(const struct node *n);
int64_t node_wall_ms(const struct node *n);
void node_random(struct node *n, void *out, size_t size);
void node_event(struct node *n, enum env_log_level level, const char *name, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* The same, for what others can cause as often as they like: a bounded number of each name in a
 * while, and then how many were left out. `name` is a literal. */
void node_event_often(struct node *n, enum env_log_level level, const char *name,
                      const char *format, ...) __attribute__((format(printf, 4, 5)));
/* The same, limited and kept for each `who` apart. */
void node_event_of(struct node *n, enum env_log_level level, const char *name,
                   const struct ami_id *who, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
/* Those kept with greater numbers, in order. Returns how many. */
size_t node_events_after(const struct node *n, uint64_t after,
                         const struct node_event *out[NODE_EVENTS_MAX + NODE_CAUSED_MAX]);
struct node_link *node_link_find(const struct node *n, env_link id);
/* AMI_CLOSED also when there is no such link. */
enum ami_status node_send(struct node *n, env_link link, struct span frame);
size_t node_queued(const struct node *n, env_link link); /* bytes that have not left */
void node_close(struct node *n, env_link link);
/* Starts a frame in n->frame. */
struct writer node_frame(struct node *n, enum message_type type);
void node_alarm(struct node *n); /* asks for the earliest instant that any part waits for */

/* peers.c */
void peers_on_open(struct node *n, struct node_link *l);
void peers_on_frame(struct node *n, struct node_link *l, enum message_type type, struct span body);
void peers_on_closed(struct node *n, struct node_link *l);
void peers_send(struct node *n, uint8_t member, struct span frame);
/* Finds out what a ready link of a DC is in the present epoch. */
void peers_name(struct node *n, struct node_link *l);
uint64_t peers_on_time(struct node *n); /* this and the others: the next instant waited for */

/* epoch.c */
enum ami_status epoch_init(struct node *n, uint64_t height) AMI_MUST_CHECK;
/* AMI_MEMBERS_MAX: this key votes in no place now. */
uint8_t epoch_index_of(const struct node *n, const struct ami_id *name, uint32_t key_epoch);
/* A membership transaction was committed at this height. */
void epoch_on_change(struct node *n, const struct membership *change, uint64_t height);
bool epoch_ends_with(const struct node *n, uint64_t height);
void epoch_enter(struct node *n); /* its last block was delivered */
void epoch_dial(struct node *n);  /* says whom to dial */
/* Proofs of the changes that a meter does not know of yet. */
void epoch_tell_meter(struct node *n, struct node_link *l, uint32_t known);
void epoch_tell_meters(struct node *n); /* of the newest one */
void epoch_free(struct node *n);
/* Does this message come from an earlier epoch (negative), a later one (positive), or neither?
 * *height: what it claims to exist; 0: nothing. */
int epoch_compare(const struct node *n, enum message_type type, struct span body, uint64_t *height);
void epoch_tell(struct node *n, struct node_link *l); /* the tip's certificate */
void epoch_tell_followers(struct node *n);
/* From time to time: tells a link of a follower the tip's certificate again. */
void epoch_remind(struct node *n, struct node_link *l);
/* Who asks for this block is in an earlier epoch: tells it the tip's certificate, not too often. */
void epoch_on_fetch(struct node *n, struct node_link *l, uint64_t from_height);
/* Who is in an earlier epoch, or no member, spoke: tells it the tip's certificate, not too often.
 */
void epoch_on_behind(struct node *n, struct node_link *l);

/* chain.c */
bool chain_init(struct node *n);
void chain_free(struct node *n);
void chain_on_message(struct node *n, struct node_link *l, enum message_type type,
                      struct span body);
/* There may be blocks above the tip, more than have been heard of. */
void chain_on_unknown_key(struct node *n);
/* The block by its hash, committed or only kept, into n->block. False: not here, or not whole, and
 * whoever votes needs it whole. */
bool chain_whole_body(struct node *n, const sm3_digest *block, struct body_reply *out);
void chain_on_time(struct node *n);
bool chain_on_work(struct node *n, void *job); /* false: not this part's job */
void chain_on_stored(struct node *n, struct node_write *write, enum ami_status status);
void chain_work_pending(struct node *n);           /* transactions came in */
void chain_progress(struct node *n, bool expired); /* rule 8 */
void chain_step_down(struct node *n);              /* this leader leads no more */
/* Rule 8 on the way to a decided epoch: when the leader will have let the next block wait for too
 * long; UINT64_MAX: none is waited for. */
uint64_t chain_epoch_due_us(const struct node *n);
void chain_settle(struct node *n);
uint64_t chain_deadline_us(const struct node *n);

/* fill.c */
/* Stages waiting transactions until the block is full: first those with timers, one of each source
 * in turn, then all in order of arrival. Returns how many; what no block will ever take is dropped.
 */
size_t fill_block(struct node *n, struct writer *body);

/* write.c */
/* What these effects want to be durable; a block that is committed is staged on the registry. NULL:
 * out of memory. */
struct node_write *write_make(struct node *n, const struct effects *fx);
void write_free(struct node_write *w);

/* gateway.c */
bool gateway_init(struct node *n);
void gateway_free(struct node *n);
void gateway_on_frame(struct node *n, struct node_link *l, enum message_type type,
                      struct span body);
void gateway_on_closed(struct node *n, struct node_link *l);
bool gateway_on_work(struct node *n, void *job);
/* A transaction of a block that is delivered; `e` waited for it here. */
void gateway_on_commit(struct node *n, const struct delivered *d, uint32_t index,
                       const struct tx_view *tx, const struct pool_entry *e);
void gateway_on_leader(struct node *n);
void gateway_on_revoked(struct node *n);
uint64_t gateway_on_time(struct node *n);
/* What sessions take that malloc does not know of. */
size_t gateway_mapped_bytes(const struct node *n);
/* The confirmed session of the meter with this index in the registry; NULL: none. */
struct gateway_session *gateway_session_of(const struct node *n, uint64_t meter);

/* submit.c */
void submit_on_frame(struct node *n, struct node_link *l, struct span body);
bool submit_on_work(struct node *n, void *job);
void submit_hand_over(struct node *n);                     /* to the leader, what it has not got */
void submit_on_peer(struct node *n, uint8_t member);       /* a link to it is ready */
void submit_evidence(struct node *n, struct span encoded); /* encoding of `evidence` */
void submit_on_commit(struct node *n);
void submit_on_epoch(struct node *n); /* terms begin anew: nothing was handed to anybody */
void submit_prune(struct node *n);
void submit_judge(struct node *n); /* rule 8: has anything waited too long? */
uint64_t submit_half_time(const struct node *n, const struct pool_entry *e);
uint64_t submit_on_time(struct node *n);
void submit_free(struct node *n);

/* prune.c */
bool prune_init(struct node *n);
void prune_free(struct node *n);
void prune_on_commit(struct node *n, const struct tx_view *tx); /* a retention transaction */
/* A peer shows one, before it sends pruned blocks. */
void prune_on_shown(struct node *n, struct node_link *l, struct span body);
enum ami_status prune_show(struct node *n, struct node_link *l) AMI_MUST_CHECK;
/* False: a block or body with pruned reports where they must be whole. */
bool prune_takes(struct node *n, const struct node_link *l, enum message_type type,
                 struct span body);
/* What was shown and has to be on the disk before a pruned block is; empty: nothing. */
struct span prune_unsaved(const struct node *n);
void prune_saved(struct node *n, struct span tx);
/* The committed watermark, 0: none; in blocks below `pruned` no report is whole. */
void prune_state(const struct node *n, uint64_t *below, uint64_t *pruned);
uint64_t prune_on_time(struct node *n);
bool prune_on_stored(struct node *n, struct node_write *w, enum ami_status status);

/* operators.c */
enum ami_status operators_init(struct node *n) AMI_MUST_CHECK;
void operators_free(struct node *n);
/* A proven DC or the MDMS sends its list. False: it is none of the MDMS's. */
bool operators_on_list(struct node *n, const struct node_link *l, struct span body);
void operators_on_peer(struct node *n,
                       const struct node_link *l); /* a DC's or the MDMS's: it is ready */
/* False: there is none; then both are 0. */
bool operators_known(const struct node *n, uint64_t *number, unsigned *count);
uint64_t operators_on_time(struct node *n);

/* relay.c */
void relay_on_request(struct node *n, struct node_link *l, struct span body);
void relay_on_reply(struct node *n, struct span body);
uint64_t relay_on_time(struct node *n);
void relay_free(struct node *n);

bool chain_read_only(const struct node *n);  /* the disk is full */
bool chain_is_writing(const struct node *n); /* the consensus waits for the disk */
/* Of the last write that ended: AMI_OK, or why it failed and since when writes fail; AMI_TIMEOUT:
 * one hangs. */
enum ami_status chain_disk(const struct node *n, uint64_t *since_us);

/* stuck.c */
json_t *admin_committee(const struct node *n); /* who the members are, and where to ask them */
json_t *stuck_ask(const struct node *n);

/* admin.c */
void admin_on_frame(struct node *n, struct node_link *l, enum message_type type, struct span body);

#endif
