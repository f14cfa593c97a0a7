/* node/gateway_internal.h - what the files of the gateway share. Nobody else includes it.
 *
 *   gateway.c          events in, to the part that they concern; what ends many sessions
 *   gateway_session.c  the table of sessions, by id and by meter
 *   gateway_agree.c    first flights in batches, answers, confirmations
 *   gateway_report.c   reports in: opened, checked, sealed, signed, put into the pool
 *   gateway_ack.c      answers to reports: of the block committed just now, or of an earlier one
 */
#ifndef AMI_NODE_GATEWAY_INTERNAL_H
#define AMI_NODE_GATEWAY_INTERNAL_H

#include "node/internal.h"

#include "crypto/secret.h"
#include "ledger/merkle.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

/* Kinds of what is sealed inside a session. */

enum { DATA_REPORT_SUBMIT = 1, DATA_REPORT_ACK = 2, DATA_REPORT_NACK = 3 };

/* What proves the transactions of one block: of one that was committed while somebody waited for
 * it, or of one from the disk. After a change of leaders, and when a city comes back, many meters
 * ask for reports of the same few blocks. */
struct settled_block {
    uint64_t height; /* 0: none */
    uint64_t used;   /* for finding the one that was not used for longest */
    struct block_header header;
    sm3_digest hash;
    struct qc commit;
    struct merkle_tree *tree;
    sm3_digest *second; /* tx_second of each transaction */
};

/* What a DC keeps of one key of a meter, by the registry's index: its sessions, and what agreements
 * with it begin from. Of the sessions that are not confirmed there is one per link: anybody may
 * send a first flight in a meter's name, and must not take the place of the meter's own with it. */
struct gateway_meter {
    struct gateway_session *current; /* confirmed */
    struct gateway_session *opening; /* the oldest */
    struct agree_peer *peer;         /* the decoded part of U; NULL: not needed so far */
    unsigned openings;
};

struct session_chunk;
struct agree_item;
struct agree_job;
struct report_item;
struct report_job;

struct gateway {
    struct session_chunk **chunk; /* the table of sessions; one that holds none is NULL */
    size_t chunks;
    size_t chunk_with_room; /* none before it has */
    size_t sessions;        /* slots that are not free */
    struct gateway_meter *meter;
    size_t meters;
    struct agree_item *agree_queue, *agree_last;
    size_t agree_waiting;
    struct agree_job *agreeing;
    uint64_t agree_us; /* what one takes, of late, when many come */
    struct report_item *report_queue, *report_last;
    size_t report_waiting;
    struct report_job *reporting;
    struct settled_block settled[NODE_SETTLED_BLOCKS];
    sm3_digest *leaves;                 /* working space */
    struct settled_block *settled_last; /* NULL: none yet */
    uint64_t unproved_height;           /* a block whose proofs could not be made when it came */
    uint64_t settled_uses;
    uint64_t reads_since_us;
    unsigned reads; /* of blocks, since then */
    uint64_t scan_us;
};

static inline uint32_t gateway_now_s(const struct node *n)
{
    return (uint32_t)(node_now_us(n) / 1000000u);
}

/* --- gateway.c */

bool gateway_other_leads(const struct node *n, uint8_t *leader);

/* --- gateway_session.c */

/* A slot and an id for a session; NULL: there are as many as may be, or out of memory. */
struct gateway_session *gateway_reserve_session(struct node *n);
/* One that stayed so. */
void gateway_unreserve_session(struct node *n, struct gateway_session *s);
/* Of those that are opening or confirmed; NULL: none has this id. */
struct gateway_session *gateway_find_session(const struct node *n, uint64_t id);
/* The same ones, in turn: *slot is 0 at first. The one that was returned may be dropped. */
struct gateway_session *gateway_next_session(const struct node *n, size_t *slot);
/* NULL: it never agreed here. Valid until gateway_make_meter. */
struct gateway_meter *gateway_meter_of(const struct node *n, uint64_t meter);
struct gateway_meter *gateway_make_meter(struct node *n, uint64_t meter); /* NULL: out of memory */
/* The reserved `s` waits for the meter's confirmation from now on. */
void gateway_open_session(struct gateway_meter *m, struct gateway_session *s);
void gateway_confirm_session(struct gateway_meter *m, struct gateway_session *s);
/* Answers go to this link from now on; 0: to none. False: it is closed. */
bool gateway_set_link(struct node *n, struct gateway_session *s, env_link id);
void gateway_drop_session(struct node *n, struct gateway_session *s);
void gateway_sessions_free(struct node *n);
/* Tells the meter; the session itself stays. */
void gateway_say_ended(struct node *n, env_link link, uint64_t session, enum ami_status status);

/* --- gateway_agree.c */

void gateway_agree_free(struct gateway *g);
void gateway_on_flight1(struct node *n, struct node_link *l, const struct agree_flight1 *f);
void gateway_on_flight3(struct node *n, struct node_link *l, const struct agree_flight3 *f);
void gateway_agree_next(
    struct node *n); /* gives the work pool the first flights that wait, if it is free */
void gateway_agree_done(struct node *n); /* it has answered them */

/* --- gateway_report.c */

void gateway_report_free(struct gateway *g);
void gateway_on_data(struct node *n, struct node_link *l, const struct session_data *d);
void gateway_report_next(struct node *n);
void gateway_report_done(struct node *n);

/* --- gateway_ack.c */

bool gateway_ack_init(struct node *n);
void gateway_ack_free(struct gateway *g);
void gateway_nack(struct node *n, struct gateway_session *s, uint64_t sequence,
                  enum ami_status status);
/* A report that is settled already: its proof, of a block in memory or from the disk. */
void gateway_answer_settled(struct node *n, struct gateway_session *s, uint64_t sequence);

#endif
