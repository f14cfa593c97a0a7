/* tests/consensus/world.h - a few replicas in memory, on virtual time drawn from one seed.
 *
 * Around each replica stands the least that a node is: a disk (what is on it survives a crash, what
 * is being written may not), pending transactions with the timers of rule 8, and a stand-in for the
 * ledger: a body is a run of u32 transaction numbers, each of which may be committed once. The
 * links lose, repeat, delay and so reorder frames. Checkers look at every frame that leaves and at
 * every block that is committed; they know the wire format and the disk, not the replica.
 */
#ifndef AMI_TESTS_CONSENSUS_WORLD_H
#define AMI_TESTS_CONSENSUS_WORLD_H

#include "consensus/replica.h"

#define WORLD_TXS_MAX    20000
#define WORLD_BODY_BYTES 512 /* block_bytes_max of the worlds */
#define MS               UINT64_C(1000)
#define SECONDS          UINT64_C(1000000)

struct world_options {
    unsigned n;
    uint64_t seed;
    unsigned loss_percent, dup_percent;
    uint64_t delay_mean_us;          /* exponential; 0: 1 ms fixed */
    uint64_t disk_mean_us;           /* exponential; 0: 0.2 ms fixed */
    unsigned crash_before_per_mille; /* of writes: the node dies and the write is lost */
    unsigned crash_after_per_mille;  /* the node dies, the write is durable */
    uint64_t down_mean_us;           /* after such a crash */
    uint64_t submit_every_us;        /* one transaction at all nodes; 0: only by world_submit */
    unsigned preload_txs;            /* in each block of world_preload; 0: 1 */
    uint32_t rules_off;
    unsigned twins; /* members 0.. that run twice, as nodes n..: see below */
    bool may_fork;  /* more than f of them: two chains and two leaders of a term are no violation */
};

/* Nodes are numbered like members. A twin (Twins, Bano et al.) is a second running copy of a
 * member: same key, same number, another disk. The two together do most of what a Byzantine member
 * can do and stay simple: propose two blocks for one slot, vote both ways, forget their locks. What
 * they sign is not judged. */

struct world;
struct world_frame {
    uint8_t from, to;
    enum message_type type;
    struct span frame;
};

struct world *world_new(const struct world_options *o);
void world_free(struct world *w);

/* NULL: nothing went wrong so far. */
const char *world_violation(const struct world *w);

uint64_t world_now(const struct world *w);
void world_run(struct world *w, uint64_t for_us);
/* Until every node that is up has this height, at most for_us. True: reached. */
bool world_run_until_height(struct world *w, uint64_t height, uint64_t for_us);
/* Until a node leads and can commit; its index, or -1. */
int world_run_until_leader(struct world *w, uint64_t for_us);
void world_step(struct world *w); /* one event */

void world_submit(struct world *w, unsigned count); /* transactions that every node hears of */
bool world_tx_committed(const struct world *w, unsigned node, uint32_t tx);
uint32_t world_txs(const struct world *w); /* numbers below this one exist */

void world_crash(struct world *w, unsigned node);
void world_crash_for_good(struct world *w, unsigned node); /* or until world_start */
void world_start(struct world *w, unsigned node);          /* from its disk */
void world_lose_record(struct world *w, unsigned node);    /* while it is down (rule 11) */
void world_step_down(struct world *w, unsigned node);      /* it is told to */
bool world_up(const struct world *w, unsigned node);
void world_cut(struct world *w, unsigned a, unsigned b, bool cut); /* one way: a to b */
void world_isolate(struct world *w, uint32_t group);               /* cuts group from the rest */
void world_heal(struct world *w);                                  /* links, and no more faults */
void world_disk_fails(struct world *w, unsigned node, enum ami_status status); /* AMI_OK: works */

/* Sees every frame before it leaves; false: it does not leave. May send others by world_inject. */
typedef bool (*world_filter)(struct world *w, void *ctx, const struct world_frame *f);
void world_set_filter(struct world *w, world_filter filter, void *ctx);
void world_inject(struct world *w, uint8_t from, uint8_t to, struct span frame, uint64_t after_us);
/* The node's idea of the time of day is so far off. */
void world_set_clock(struct world *w, unsigned node, int64_t offset_ms);
/* This member's leader leaves that transaction out. */
void world_censor(struct world *w, unsigned node, uint32_t tx);
/* What is signed by these members is not judged. */
void world_set_byzantine(struct world *w, uint32_t mask);
unsigned world_nodes(const struct world *w); /* members and twins */
bool world_honest(const struct world *w, unsigned node);

struct replica *world_replica(struct world *w, unsigned node);
const struct members *world_members(const struct world *w);
const struct sign_key *world_key(const struct world *w, unsigned node);
/* Hash of a committed block. */
sm3_digest world_block(const struct world *w, unsigned node, uint64_t height);
uint64_t world_height(const struct world *w, unsigned node); /* on its disk */
uint64_t world_elections(const struct world *w);             /* leaders seen in all terms */
uint64_t world_events(const struct world *w);
uint64_t world_random(struct world *w, uint64_t below);
/* Of a running hash over all frames sent and blocks committed. */
uint64_t world_trace(const struct world *w);
/* Gives this node's disk a chain of so many certified blocks, as if it had been there. All nodes
 * whose disks get the same number get the same chain. Only before world_run. */
void world_preload(struct world *w, unsigned node, uint64_t height);
/* Members that this node has shown evidence against, in all its lives. */
uint32_t world_convicted(const struct world *w, unsigned node);
unsigned world_notes(const struct world *w, unsigned node, enum replica_note_type type);

/* A block header and body of the worlds' kind. */
void world_make_block(struct world *w, struct block_header *h, const sm3_digest *parent,
                      uint64_t height, uint64_t term, uint8_t proposer, int64_t timestamp_ms,
                      struct span body);

/* keys.c: keys for n members; with real crypto in a program that does not link fake_keys.c. */
void test_keys(struct members *m, struct sign_key *keys, unsigned n, uint64_t seed);

/* Signatures checked so far; in programs that link fake_keys.c. */
uint64_t test_signatures_checked(void);

#endif
