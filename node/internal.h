/* node/internal.h - what the files of node/'s core share. Nothing outside node/ includes it.
 *
 *   core.c     events in, to the part that they concern
 *   peers.c    links with DCs and the MDMS: handshake, sending, serving blocks
 *   chain.c    the replica's effects carried out: validate, build, persist, deliver
 *   gateway.c  meters: agreement, sessions, reports, acknowledgements
 *   submit.c   waiting transactions: pool, handing over, rule 8's timers
 *   relay.c    enrolment frames between devices and the MDMS
 *   admin.c    dc-cli's questions
 */
#ifndef AMI_NODE_INTERNAL_H
#define AMI_NODE_INTERNAL_H

#include "base/check.h"
#include "node/core.h"

#include "consensus/replica.h"
#include "keyagree/session.h"
#include "node/pool.h"

#include <uthash.h>

/* Bounds, each named once. */
#define NODE_LINKS_MAX            4096
#define NODE_AGREE_QUEUE_MAX      4096 /* first flights waiting for the work pool */
#define NODE_AGREE_BATCH_MAX      64
#define NODE_REPORT_QUEUE_MAX     4096 /* reports waiting for the work pool */
#define NODE_REPORT_BATCH_MAX     128
#define NODE_CHECK_BATCH_MAX      64   /* handed-over transactions in one job */
#define NODE_SERVE_BLOCKS_MAX     64   /* blocks served per request */
#define NODE_SERVE_BYTES_MAX      (3u << 20)
#define NODE_RELAYS_MAX           4096
#define NODE_RELAY_TIMEOUT_US     (30u * 1000000u)
#define NODE_PROOFS_PER_LINK      64
#define NODE_EVENTS_MAX           1000
#define NODE_EVENT_TEXT_BYTES_MAX 200
#define NODE_HANDSHAKE_US         (10u * 1000000u)

enum link_state { LINK_NEW, LINK_HELLO_SEEN, LINK_READY };

/* Any link, of any port. */
struct node_link {
    env_link id;
    enum node_port port;
    enum link_state state;
    uint8_t role;   /* of link_hello: 2 DC, 3 MDMS, 5 reader */
    uint8_t member; /* index when role is DC */
    uint64_t opened_us;
    uint8_t own_hello[128]; /* as sent, for the proof */
    size_t own_hello_size;
    uint8_t peer_hello[128];
    size_t peer_hello_size;
    uint64_t proofs_sent[NODE_PROOFS_PER_LINK]; /* heights whose block_proof went out; a ring */
    unsigned proofs_at;
    UT_hash_handle hh;
};

/* One session of a meter, or one on the way to it. */
struct gateway_session {
    uint64_t id;
    env_link link;
    uint64_t meter; /* index in the registry */
    bool confirmed;
    bool insist; /* the meter came here although another DC leads */
    uint64_t opened_us;
    struct agree_pending pending; /* until confirmed */
    struct session session;       /* once confirmed */
    UT_hash_handle by_id;
};

/* The sessions of one meter: at most one of each. */
struct gateway_meter {
    uint64_t meter;
    struct gateway_session *current;
    struct gateway_session *opening;
    UT_hash_handle hh;
};

struct agree_job;
struct report_job;
struct check_job;
struct validate_job;

struct node_counters {
    uint64_t frames_bad, links_refused;
    uint64_t agreements, agreements_refused;
    uint64_t reports, reports_refused, acks, acks_dropped;
    uint64_t txs_handed_in, txs_refused;
    uint64_t blocks_built, blocks_applied, blocks_refused;
    uint64_t elections_won, terms_seen;
};

struct node_event {
    uint64_t number; /* from 1 */
    int64_t wall_ms;
    const char *name;
    char text[NODE_EVENT_TEXT_BYTES_MAX];
};

struct node {
    struct node_config c;
    struct env env;
    struct replica *replica;
    struct effects *effects;

    struct node_link *links; /* by id */
    size_t link_count;
    env_link to_member[AMI_MEMBERS_MAX]; /* the ready link that we send on; 0: none */
    env_link mdms;                       /* a ready link of the MDMS; 0: none */

    struct pool *pool;
    struct check_job *checking;
    struct check_job *check_queue;

    struct gateway_session *sessions;
    struct gateway_meter *meters;
    size_t session_count;
    struct agree_job *agreeing;
    struct report_job *reporting;
    struct gateway_queue *queue;
    point **agree_points; /* per registry index: P of the meter's agree role, recovered once */
    size_t agree_points_size;

    struct relay_entry *relays;
    uint64_t relay_next;

    struct node_counters counters;
    struct node_event *events; /* a ring of NODE_EVENTS_MAX */
    uint64_t event_count;
    uint8_t *frame; /* AMI_FRAME_PEER_BYTES_MAX: where outgoing frames are put together */
    uint8_t *block; /* AMI_BLOCK_BYTES_MAX + slack: where blocks are read from the disk */
    size_t block_size;
};

/* core.c */
uint64_t node_now_us(const struct node *n);
int64_t node_wall_ms(const struct node *n);
void node_random(struct node *n, void *out, size_t size);
void node_event(struct node *n, enum env_log_level level, const char *name, const char *format,
                ...) __attribute__((format(printf, 4, 5)));
struct node_link *node_link_find(const struct node *n, env_link id);
/* AMI_CLOSED also when there is no such link. */
enum ami_status node_send(struct node *n, env_link link, struct span frame);
void node_close(struct node *n, env_link link);
/* Starts a frame in n->frame. */
struct writer node_frame(struct node *n, enum message_type type);
void node_alarm(struct node *n); /* asks for the earliest instant that any part waits for */

/* peers.c */
void peers_on_open(struct node *n, struct node_link *l);
void peers_on_frame(struct node *n, struct node_link *l, enum message_type type, struct span body);
void peers_on_closed(struct node *n, struct node_link *l);
void peers_send(struct node *n, uint8_t member, struct span frame);
void peers_broadcast(struct node *n, struct span frame);
uint64_t peers_on_time(struct node *n); /* returns the next instant it waits for */

#endif
