/* tests/consensus/world_internal.h - what the files of the world share. Nobody else includes it.
 *
 *   world.c         making it, running it, asking it
 *   world_time.c    one seed's world_chance, and the queue of events
 *   world_checks.c  the checkers: of frames that leave, of blocks that are committed
 *   world_disk.c    a node's disk, and the stand-in for the ledger
 *   world_links.c   frames on their way, blocks handed out
 *   world_node.c    what stands around one replica: effects carried out, its lives
 */
#ifndef AMI_TESTS_CONSENSUS_WORLD_INTERNAL_H
#define AMI_TESTS_CONSENSUS_WORLD_INTERNAL_H

#include "base/check.h"
#include "ledger/block.h"
#include "tests/consensus/world.h"

#include <stdlib.h>
#include <string.h>

#define WALL_START_MS   INT64_C(1700000000000)
#define KEPT_MAX        16
#define FRAME_BYTES_MAX (512u << 10)

static inline void *must(void *p)
{
    AMI_CHECK(p != NULL);
    return p;
}

struct stored {
    struct block_header header;
    sm3_digest hash;
    struct span qc; /* encoded; empty for a body that is only kept */
    struct span body;
};

struct frame {
    unsigned refs;
    size_t size;
    uint8_t data[];
};

struct write {
    uint64_t ticket;
    struct span record;
    struct stored *keep, *commit;
};

enum world_event_type {
    EV_FRAME,
    EV_WRITTEN,
    EV_VALIDATED,
    EV_BUILD,
    EV_BODY,
    EV_ALARM,
    EV_START,
    EV_SUBMIT,
    EV_TICK,
    EV_WORK
};

struct world_event {
    uint64_t at_us, order;
    enum world_event_type type;
    uint8_t node, from;
    unsigned life;
    struct frame *frame;
    sm3_digest hash;
    enum ami_status status;
    uint64_t ticket, term;
};

struct node {
    bool up, mute, gone;
    unsigned life; /* events of an earlier life are void */
    struct replica *replica;
    uint64_t starts;
    uint64_t alarm_at;
    int64_t clock_offset_ms;

    /* the disk */
    struct span record_bytes;
    bool has_record, lost_record;
    struct vote_record *record; /* decoded */
    struct stored **chain;      /* [height - 1] */
    uint64_t height;
    struct stored *kept[KEPT_MAX];
    enum ami_status disk_status;

    /* what is in memory */
    struct write *write;
    uint64_t delivered;
    uint64_t arrived[WORLD_TXS_MAX]; /* of waiting transactions: when the timer began */
    bool committed[WORLD_TXS_MAX];
    uint32_t first_waiting;
    bool progress_said;
    bool validating;

    /* what it has shown the others */
    struct vote last_vote[3];
    bool has_last_vote[3];
    uint64_t grant_term;
    uint64_t term_shown;
    uint32_t convicted;
    unsigned notes[REPLICA_NOTE_CAUGHT_UP + 1];
};

struct slot_entry {
    bool used;
    uint64_t key[4];
    sm3_digest value;
};

struct world {
    struct world_options o;
    struct members members;
    struct sign_key keys[AMI_MEMBERS_MAX];
    struct parameters parameters;
    struct node node[AMI_MEMBERS_MAX];
    uint64_t now, order, random, events, trace;
    bool started, quiet;
    bool cut[AMI_MEMBERS_MAX][AMI_MEMBERS_MAX];
    uint32_t tx_count;
    uint32_t censored[AMI_MEMBERS_MAX];
    uint32_t byzantine;
    struct world_event *heap;
    size_t heap_size, heap_capacity;
    struct slot_entry *slots;
    size_t slot_capacity, slot_count;
    sm3_digest *agreed;
    uint64_t agreed_capacity;
    uint8_t *leader_of; /* by term */
    uint64_t leader_capacity, elections;
    world_filter filter;
    void *filter_ctx;
    struct effects *fx;
    char violation[256];
    struct stored **preloaded;
    uint64_t preload_count;
};

/* The member that a node is. */
static inline uint8_t world_member(const struct world *w, unsigned node)
{
    return (uint8_t)(node < w->o.n ? node : node - w->o.n);
}

/* --- world_time.c */

bool world_chance(struct world *w, unsigned of, unsigned in);
/* Exponential with that mean; `fixed_us` when it is 0. */
uint64_t world_delay(struct world *w, uint64_t mean_us, uint64_t fixed_us);
void world_add_to_trace(struct world *w, const void *data, size_t size);
void world_push(struct world *w, struct world_event e);
struct world_event world_pop(struct world *w);
/* An event of this node's present life. */
void world_push_for(struct world *w, unsigned node, enum world_event_type type, uint64_t after_us);

/* --- world_checks.c */

/* The first one is kept. */
void world_violate(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Whether what this node signs is judged. */
bool world_judged(const struct world *w, unsigned node);
void world_check_frame(struct world *w, unsigned i, enum message_type type, struct span frame);
void world_check_commit(struct world *w, unsigned i, const struct stored *s);
void world_check_leader(struct world *w, unsigned i, uint64_t term);

/* --- world_disk.c */

struct span world_copy(struct span s);
void world_free_span(struct span s);
struct stored *stored_new(const struct block_header *h, struct span qc, struct span body);
void stored_free(struct stored *s);
/* Among the blocks that are kept, and the last two committed; NULL: not there. */
const struct stored *world_find_kept(const struct node *n, const sm3_digest *hash);
const sm3_digest *world_tip(const struct world *w, const struct node *n);
enum ami_status world_validate(const struct world *w, const struct node *n,
                               const struct block_header *h, struct span body, bool fresh,
                               int64_t received_ms);
/* The transactions of a committed body wait no more. */
void world_settle(struct world *w, struct node *n, struct span body);
void world_append(struct node *n, struct stored *s);
void world_set_record(struct world *w, struct node *n, struct span record);
/* The write becomes durable; it is freed. */
void world_apply(struct world *w, unsigned i, struct write *d);
void world_drop_write(struct write *d);

/* --- world_links.c */

void world_release(struct frame *f);
void world_send_many(struct world *w, uint8_t from, uint32_t to, struct span frame);
/* Answers FETCH_BLOCKS and FETCH_BODY. */
void world_serve(struct world *w, uint8_t i, uint8_t from, enum message_type type,
                 struct span body);

/* --- world_node.c */

int64_t world_wall(const struct world *w, const struct node *n);
void world_feed_flag(struct world *w, unsigned i, enum replica_event_type type, bool flag);
bool world_waiting(const struct world *w, const struct node *n);
void world_progress(struct world *w, unsigned i);
void world_build(struct world *w, unsigned i, const struct world_event *ev);
void world_written(struct world *w, unsigned i);
void world_stored_body(struct world *w, unsigned i, const sm3_digest *hash);
void world_on_frame(struct world *w, const struct world_event *ev);
void world_feed(struct world *w, unsigned i, struct replica_event *e);

/* --- world.c */

void world_start_all(struct world *w);

#endif
