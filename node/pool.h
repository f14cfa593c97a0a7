/* node/pool.h - transactions that wait for the ledger.
 *
 * In: transactions whose signatures were checked, from this DC's own gateway, from other DCs and
 * from the MDMS. Out: in order of arrival, to the leader's next block; and the answer to rule 8's
 * question (consensus.md): has any of them waited longer than an honest leader would let it?
 *
 * Bounded: by count and by bytes; when full, pool_add says AMI_AGAIN and the sender keeps what it
 * has. Only the first POOL_QUOTA transactions of each source start timers, so that overload deposes
 * nobody. Pure: no clock, no I/O; memory comes from malloc within the bounds.
 */
#ifndef AMI_NODE_POOL_H
#define AMI_NODE_POOL_H

#include "ledger/tx.h"

#define POOL_QUOTA 64 /* transactions with running timers, per source */

/* A source is a member index, or POOL_SOURCE_MDMS. */
#define POOL_SOURCE_MDMS AMI_MEMBERS_MAX
#define POOL_SOURCES     (AMI_MEMBERS_MAX + 1)

struct pool;

struct pool_limits {
    size_t count_max;
    size_t bytes_max;
};

/* One waiting transaction; owned by the pool, valid until it is removed. */
struct pool_entry {
    struct tx_view view; /* borrows `view.encoded`, which the entry owns */
    uint8_t source;
    bool own;             /* made by this DC's gateway, which sees it through */
    uint64_t handed_us;   /* when it was last handed on because it waited long; 0 never */
    uint64_t handed_term; /* own only: term whose leader it was handed to; 0 none */
    uint64_t waiter;      /* id of the session that waits for the acknowledgement; 0 none */
    uint64_t arrived_us;
};

struct pool *pool_new(struct pool_limits limits);
void pool_free(struct pool *p);

/* Copies `encoded` (which must parse). AMI_EXISTS: this transaction, or for a report another one
 * with the same (meter, epoch, sequence), waits already. AMI_AGAIN: full. AMI_NO_MEMORY. */
enum ami_status pool_add(struct pool *p, struct span encoded, uint8_t source, bool own,
                         uint64_t now_us, struct pool_entry **out) AMI_MUST_CHECK;
/* now_us: when the next transaction of this source comes into the quota and its timer starts. */
void pool_remove(struct pool *p, struct pool_entry *e, uint64_t now_us);

struct pool_entry *pool_find(struct pool *p, const sm3_digest *id);
struct pool_entry *pool_find_report(struct pool *p, const struct ami_id *meter, uint32_t epoch,
                                    uint64_t sequence);

/* In order of arrival. An entry may be removed after its successor was fetched. */
struct pool_entry *pool_first(struct pool *p);
struct pool_entry *pool_next(struct pool_entry *e);

size_t pool_count(const struct pool *p);
size_t pool_bytes(const struct pool *p);

/* Rule 8. The instant at which the first running timer expires, UINT64_MAX when none runs. */
uint64_t pool_progress_deadline_us(const struct pool *p, uint64_t progress_timeout_us);
/* A new leader gets the full time again. */
void pool_restart_timers(struct pool *p, uint64_t now_us);

#endif
