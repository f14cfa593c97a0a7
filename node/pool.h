/* node/pool.h - transactions that wait for the ledger.
 *
 * In: transactions whose signatures were checked, from this DC's own gateway, from other DCs and
 * from the MDMS. Out: in order of arrival, to the leader's next block; and the answer to rule 8's
 * question (consensus.md): has any of them waited longer than an honest leader would let it?
 *
 * Bounded: by count and by bytes; when full, pool_add says AMI_AGAIN and the sender keeps what it
 * has. Only the first POOL_QUOTA transactions of each source start timers, so that overload deposes
 * nobody; for the same reason a source that has fewer waiting is let in although the pool is full,
 * and no other DC's transactions may fill it alone.
 *
 * The MDMS numbers its transactions, and the ledger takes them in that order only. One whose number
 * is not the next one, counting on from the ledger and those that wait, is parked: it holds its
 * place and is found by its id, but nobody is asked to commit it, and it has no timer.
 *
 * Evidence (consensus rule 12) waits in the order of arrival, one piece for each member and kind,
 * and is of no source: it starts no timer, so nobody can depose a leader with it, except the one
 * that it is against, who would never put it on the ledger. No honest leader is ever in that place.
 *
 * Pure: no clock, no I/O; memory comes from malloc within the bounds.
 */
#ifndef AMI_NODE_POOL_H
#define AMI_NODE_POOL_H

#include "ledger/tx.h"

#define POOL_QUOTA 64 /* transactions with running timers, per source */
/* Another DC's transactions take at most this part of the pool. */
#define POOL_FOREIGN_PART 4

/* A source is a member index, or one of these; POOL_SOURCE_OTHERS: DCs that are no members. */
#define POOL_SOURCE_OTHERS AMI_MEMBERS_MAX
#define POOL_SOURCE_MDMS   (AMI_MEMBERS_MAX + 1)
#define POOL_SOURCES       (AMI_MEMBERS_MAX + 2)

struct pool;

struct pool_limits {
    size_t count_max;
    size_t bytes_max;
};

/* One waiting transaction; owned by the pool, valid until it is removed. */
struct pool_entry {
    struct tx_view view; /* borrows `view.encoded`, which the entry owns; a report's has no id */
    uint8_t source;
    bool own;              /* of this DC's gateway or of the MDMS: this DC sees it through */
    uint64_t number;       /* of an MDMS's transaction; 0: none */
    uint64_t build;        /* the block that it was last put into; the builder's own */
    uint64_t handed_us;    /* when it was last handed on because it waited long; 0 never */
    uint64_t handed_term;  /* own only: term whose leader it was handed to; 0 none */
    uint64_t handed_batch; /* which time that was; the owner's own */
    uint64_t waiter;       /* id of the session that waits for the acknowledgement; 0 none */
    uint64_t arrived_us;
};

struct pool *pool_new(struct pool_limits limits);
void pool_free(struct pool *p);

/* Copies `encoded` (which must parse). AMI_EXISTS: this transaction waits already, or another one
 * with the same (meter, epoch, sequence), the same number of the MDMS, or the same (accused, kind).
 * AMI_BAD_ARGUMENT: evidence against no member. AMI_SEQUENCE_SETTLED: that
 * number is on the ledger. AMI_AGAIN: full. AMI_NO_MEMORY. */
enum ami_status pool_add(struct pool *p, struct span encoded, uint8_t source, bool own,
                         uint64_t now_us, struct pool_entry **out) AMI_MUST_CHECK;
/* now_us: when the next transaction of this source comes into the quota and its timer starts. When
 * it has a number that is not on the ledger, those after it are parked. */
void pool_remove(struct pool *p, struct pool_entry *e, uint64_t now_us);

/* `last` is the number of the MDMS's last transaction on the ledger: those up to it are removed and
 * those that follow it without a gap are no longer parked. `last` never falls. */
void pool_set_number(struct pool *p, uint64_t last, uint64_t now_us);

/* This transaction, or the one that has its place: the report of the same (meter, epoch, sequence),
 * evidence of the same (accused, kind). `tx` need not be identified, and is when that is needed. */
struct pool_entry *pool_find(struct pool *p, struct tx_view *tx);
struct pool_entry *pool_find_report(struct pool *p, const struct ami_id *meter, uint32_t epoch,
                                    uint64_t sequence);

struct pool_entry *pool_find_number(struct pool *p, uint64_t number);
struct pool_entry *pool_find_evidence(struct pool *p, uint8_t accused, uint8_t kind);

/* In order of arrival, without the parked ones. Removing one may park others: begin anew then,
 * unless it has no number. */
struct pool_entry *pool_first(struct pool *p);
struct pool_entry *pool_next(struct pool_entry *e);
/* The same, of one source; without evidence. */
struct pool_entry *pool_first_of(struct pool *p, uint8_t source);
struct pool_entry *pool_next_of(struct pool_entry *e);

size_t pool_count(const struct pool *p);
size_t pool_bytes(const struct pool *p);

/* Rule 8. The instant at which the first running timer expires, UINT64_MAX when none runs. */
uint64_t pool_progress_deadline_us(const struct pool *p, uint64_t progress_timeout_us);
/* One whose timer has run out; NULL: none. */
struct pool_entry *pool_expired(struct pool *p, uint64_t progress_timeout_us, uint64_t now_us);
/* How many are within their source's quota and have waited that long since they came into it,
 * however many leaders there were since; `oldest` is the one that waits for longest, NULL: none. */
size_t pool_overdue(const struct pool *p, uint64_t wait_us, uint64_t now_us,
                    const struct pool_entry **oldest, uint64_t *since_us);
/* When evidence against this member, who leads, will have waited for so long; UINT64_MAX: none. */
uint64_t pool_evidence_deadline_us(const struct pool *p, uint8_t accused,
                                   uint64_t progress_timeout_us);
/* Whether its timer runs: it is within its source's quota. */
bool pool_timed(const struct pool_entry *e);
/* Its timer begins anew: so far no leader could have committed it. */
void pool_restart_timer(struct pool_entry *e, uint64_t now_us);
/* A new leader gets the full time again. */
void pool_restart_timers(struct pool *p, uint64_t now_us);

#endif
