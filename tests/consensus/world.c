#include "tests/consensus/world.h"

#include "base/check.h"
#include "ledger/block.h"
#include "ledger/evidence.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WALL_START_MS   INT64_C(1700000000000)
#define KEPT_MAX        16
#define SERVE_MAX       64
#define TIMER_QUOTA     64
#define FRAME_BYTES_MAX (512u << 10)

/* --- small things ---------------------------------------------------------------------------- */

static void *must(void *p)
{
    AMI_CHECK(p != NULL);
    return p;
}

static struct span copy_of(struct span s)
{
    uint8_t *d = must(malloc(s.size + 1));
    if (s.size != 0)
        memcpy(d, s.data, s.size);
    return span_of(d, s.size);
}

static void free_span(struct span s)
{
    free((void *)(uintptr_t)s.data);
}

struct stored {
    struct block_header header;
    sm3_digest hash;
    struct span qc; /* encoded; empty for a body that is only kept */
    struct span body;
};

static struct stored *stored_new(const struct block_header *h, struct span qc, struct span body)
{
    struct stored *s = must(calloc(1, sizeof *s));
    s->header = *h;
    s->hash = block_hash(h);
    s->qc = copy_of(qc);
    s->body = copy_of(body);
    return s;
}

static void stored_free(struct stored *s)
{
    if (s == NULL)
        return;
    free_span(s->qc);
    free_span(s->body);
    free(s);
}

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

static void violate(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void violate(struct world *w, const char *format, ...)
{
    if (w->violation[0] != 0)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(w->violation, sizeof w->violation, format, args);
    va_end(args);
}

static uint64_t next_random(struct world *w)
{
    uint64_t z = w->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

uint64_t world_random(struct world *w, uint64_t below)
{
    return below == 0 ? 0 : next_random(w) % below;
}

static bool chance(struct world *w, unsigned of, unsigned in)
{
    return of != 0 && world_random(w, in) < of;
}

static uint64_t exponential(struct world *w, uint64_t mean_us, uint64_t fixed_us)
{
    if (mean_us == 0)
        return fixed_us;
    double u = (double)(next_random(w) >> 11) / 9007199254740992.0;
    return 1 + (uint64_t)(-log(1.0 - u) * (double)mean_us);
}

static void trace(struct world *w, const void *data, size_t size)
{
    const uint8_t *p = data;
    uint64_t h = w->trace ^ w->now;
    for (size_t i = 0; i < size; i++)
        h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    w->trace = h;
}

/* --- the queue of events: a binary heap by (time, order) -------------------------------------- */

static bool before(const struct world_event *a, const struct world_event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

static void push(struct world *w, struct world_event e)
{
    if (w->heap_size == w->heap_capacity) {
        w->heap_capacity = w->heap_capacity == 0 ? 256 : 2 * w->heap_capacity;
        w->heap = must(realloc(w->heap, w->heap_capacity * sizeof *w->heap));
    }
    e.order = w->order++;
    size_t i = w->heap_size++;
    for (; i > 0 && before(&e, &w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = e;
}

static struct world_event pop(struct world *w)
{
    struct world_event top = w->heap[0], last = w->heap[--w->heap_size];
    size_t i = 0;
    for (;;) {
        size_t c = 2 * i + 1;
        if (c >= w->heap_size)
            break;
        if (c + 1 < w->heap_size && before(&w->heap[c + 1], &w->heap[c]))
            c++;
        if (!before(&w->heap[c], &last))
            break;
        w->heap[i] = w->heap[c];
        i = c;
    }
    if (w->heap_size > 0)
        w->heap[i] = last;
    return top;
}

static void push_for(struct world *w, unsigned node, enum world_event_type type, uint64_t after_us)
{
    push(w, (struct world_event){.at_us = w->now + after_us,
                                 .type = type,
                                 .node = (uint8_t)node,
                                 .life = w->node[node].life});
}

/* --- statements of one slot are all the same -------------------------------------------------- */

static struct slot_entry *slot_at(struct world *w, const uint64_t key[4])
{
    uint64_t h = 7;
    for (int i = 0; i < 4; i++)
        h = (h ^ key[i]) * UINT64_C(0x9e3779b97f4a7c15), h ^= h >> 32;
    for (size_t i = h % w->slot_capacity;; i = (i + 1) % w->slot_capacity)
        if (!w->slots[i].used || memcmp(w->slots[i].key, key, sizeof w->slots[i].key) == 0)
            return &w->slots[i];
}

static void slots_grow(struct world *w)
{
    struct slot_entry *old = w->slots;
    size_t capacity = w->slot_capacity;
    w->slot_capacity = capacity == 0 ? 1024 : 2 * capacity;
    w->slots = must(calloc(w->slot_capacity, sizeof *w->slots));
    for (size_t i = 0; i < capacity; i++)
        if (old[i].used)
            *slot_at(w, old[i].key) = old[i];
    free(old);
}

/* False: another statement was made in this slot. */
static bool slot_same(struct world *w, unsigned node, unsigned what, uint64_t term, uint64_t height,
                      const sm3_digest *value)
{
    if (2 * w->slot_count >= w->slot_capacity)
        slots_grow(w);
    const uint64_t key[4] = {node, what, term, height};
    struct slot_entry *e = slot_at(w, key);
    if (e->used)
        return sm3_equal(&e->value, value);
    e->used = true;
    memcpy(e->key, key, sizeof e->key);
    e->value = *value;
    w->slot_count++;
    return true;
}

unsigned world_nodes(const struct world *w)
{
    return w->o.n + w->o.twins;
}

/* The member that a node is. */
static uint8_t member_of(const struct world *w, unsigned node)
{
    return (uint8_t)(node < w->o.n ? node : node - w->o.n);
}

bool world_honest(const struct world *w, unsigned node)
{
    uint8_t m = member_of(w, node);
    return m >= w->o.twins && (w->byzantine >> m & 1) == 0;
}

/* --- checkers -------------------------------------------------------------------------------- */

static bool judged(const struct world *w, unsigned node)
{
    return w->o.rules_off == 0 && world_honest(w, node);
}

static const struct stored *find_kept(const struct node *n, const sm3_digest *hash)
{
    for (size_t i = 0; i < KEPT_MAX; i++)
        if (n->kept[i] != NULL && sm3_equal(&n->kept[i]->hash, hash))
            return n->kept[i];
    for (uint64_t h = n->height; h > 0 && h + 2 > n->height; h--)
        if (sm3_equal(&n->chain[h - 1]->hash, hash))
            return n->chain[h - 1];
    return NULL;
}

static bool same_vote(const struct vote *a, const struct vote *b)
{
    uint8_t x[512], y[512];
    struct writer wx = writer_on(x, sizeof x), wy = writer_on(y, sizeof y);
    vote_encode(&wx, a);
    vote_encode(&wy, b);
    return wx.size == wy.size && memcmp(x, y, wx.size) == 0;
}

/* Rules 5, 6, 10: one vote per slot for ever, slots only rise, durable with its body before sent.
 */
static void check_vote(struct world *w, unsigned i, struct span body)
{
    struct node *n = &w->node[i];
    struct vote v;
    if (vote_parse(&v, body) != AMI_OK || v.voter != i || v.kind < 1 || v.kind > 2) {
        violate(w, "vote of %u: malformed", i);
        return;
    }
    if (!slot_same(w, i, v.kind, v.term, v.height, &v.block))
        violate(w, "node %u voted twice in kind %u term %llu height %llu", i, v.kind,
                (unsigned long long)v.term, (unsigned long long)v.height);
    const struct vote *last = &n->last_vote[v.kind];
    if (n->has_last_vote[v.kind] &&
        (v.term < last->term || (v.term == last->term && v.height < last->height)))
        violate(w, "node %u: votes of kind %u go back", i, v.kind);
    n->last_vote[v.kind] = v;
    n->has_last_vote[v.kind] = true;
    if (v.term < n->grant_term)
        violate(w, "node %u voted in term %llu after a grant in %llu", i,
                (unsigned long long)v.term, (unsigned long long)n->grant_term);
    const struct vote_record *d = n->has_record ? n->record : NULL;
    bool durable =
        d != NULL && (v.kind == VOTE_PREPARE ? d->has_prepare && same_vote(&d->prepare, &v)
                                             : d->has_commit && same_vote(&d->commit, &v));
    if (!durable || find_kept(n, &v.block) == NULL)
        violate(w, "node %u sent a vote of kind %u, height %llu, before %s was durable", i, v.kind,
                (unsigned long long)v.height, durable ? "its block" : "it");
}

/* Rule 2: one grant per term for ever, durable, with a highQC of a lower term. */
static void check_grant(struct world *w, unsigned i, struct span body)
{
    struct node *n = &w->node[i];
    struct grant g;
    if (grant_parse(&g, body) != AMI_OK || g.voter != i) {
        violate(w, "grant of %u: malformed", i);
        return;
    }
    sm3_digest value = sm3(signed_part(body));
    if (!slot_same(w, i, 3, g.term, 0, &value))
        violate(w, "node %u granted term %llu twice", i, (unsigned long long)g.term);
    if (g.has_high && g.high.term >= g.term)
        violate(w, "node %u: highQC of its grant is not of a lower term", i);
    for (int k = 1; k <= 2; k++)
        if (n->has_last_vote[k] && n->last_vote[k].term > g.term)
            violate(w, "node %u granted term %llu after a vote in a later one", i,
                    (unsigned long long)g.term);
    if (n->grant_term < g.term)
        n->grant_term = g.term;
    if (!n->has_record || !n->record->has_granted || n->record->granted.term != g.term ||
        memcmp(n->record->granted.signature.b, g.signature.b, sizeof g.signature.b) != 0)
        violate(w, "node %u sent a grant before it was durable", i);
}

static void check_proposal(struct world *w, unsigned i, struct span body)
{
    static struct proposal p;
    struct node *n = &w->node[i];
    if (proposal_parse(&p, body) != AMI_OK || p.core.leader != i) {
        violate(w, "proposal of %u: malformed", i);
        return;
    }
    sm3_digest hash = block_hash(&p.core.header);
    if (!slot_same(w, i, 4, p.core.term, p.core.header.height, &hash))
        violate(w, "node %u proposed twice in term %llu", i, (unsigned long long)p.core.term);
    const struct vote_record *d = n->has_record ? n->record : NULL;
    if (d == NULL || !d->has_prepare || d->prepare.term != p.core.term ||
        !sm3_equal(&d->prepare.block, &hash))
        violate(w, "node %u sent a proposal before its own vote was durable", i);
}

static void check_term(struct world *w, unsigned i, uint64_t term, uint64_t height)
{
    struct node *n = &w->node[i];
    if (term != 0 && (!n->has_record || n->record->term < term))
        violate(w, "node %u showed term %llu before it was durable", i, (unsigned long long)term);
    if (term < n->term_shown)
        violate(w, "node %u: terms go back from %llu to %llu", i, (unsigned long long)n->term_shown,
                (unsigned long long)term);
    n->term_shown = term;
    if (height > n->height)
        violate(w, "node %u claims a block that it does not have", i);
}

static void check_frame(struct world *w, unsigned i, enum message_type type, struct span frame)
{
    static struct heartbeat h;
    struct heartbeat_ack a;
    struct prevote p;
    struct qc_announce q;
    struct span body = span_of(frame.data + 2, frame.size - 2);
    if (!judged(w, i))
        return;
    bool is_signed = type == MSG_VOTE || type == MSG_GRANT || type == MSG_PROPOSAL ||
                     type == MSG_HEARTBEAT || type == MSG_HEARTBEAT_ACK || type == MSG_PREVOTE ||
                     type == MSG_PREVOTE_REQUEST || type == MSG_GRANT_REQUEST;
    if (w->node[i].mute && is_signed)
        violate(w, "node %u has no record and signed a %s", i, message_name(type));
    if (type == MSG_VOTE)
        check_vote(w, i, body);
    else if (type == MSG_GRANT)
        check_grant(w, i, body);
    else if (type == MSG_PROPOSAL)
        check_proposal(w, i, body);
    else if (type == MSG_HEARTBEAT && heartbeat_parse(&h, body) == AMI_OK)
        check_term(w, i, h.term, h.committed);
    else if (type == MSG_HEARTBEAT_ACK && heartbeat_ack_parse(&a, body) == AMI_OK)
        check_term(w, i, a.term, a.committed);
    else if (type == MSG_PREVOTE && prevote_parse(&p, body) == AMI_OK)
        check_term(w, i, p.term - 1, 0);
    else if (type == MSG_QC_ANNOUNCE &&
             (qc_announce_parse(&q, body) != AMI_OK || qc_check(&w->members, &q.cert) != AMI_OK))
        violate(w, "node %u announced a bad certificate", i);
}

/* Agreement at every height; the certificate verifies; the chain is one. */
static void check_commit(struct world *w, unsigned i, const struct stored *s)
{
    struct node *n = &w->node[i];
    uint64_t h = s->header.height;
    struct qc qc;
    if (w->o.rules_off == 0) {
        if (qc_parse(&qc, s->qc) != AMI_OK || qc.kind != VOTE_COMMIT || qc.height != h ||
            !sm3_equal(&qc.block, &s->hash) || qc_check(&w->members, &qc) != AMI_OK)
            violate(w, "node %u committed height %llu on a bad certificate", i,
                    (unsigned long long)h);
    }
    if (h != n->height + 1 ||
        !sm3_equal(&s->header.previous,
                   n->height == 0 ? &w->members.chain : &n->chain[n->height - 1]->hash))
        violate(w, "node %u committed height %llu out of order", i, (unsigned long long)h);
    if (h >= w->agreed_capacity) {
        uint64_t capacity = 2 * h + 64;
        w->agreed = must(realloc(w->agreed, capacity * sizeof *w->agreed));
        memset(w->agreed + w->agreed_capacity, 0,
               (capacity - w->agreed_capacity) * sizeof *w->agreed);
        w->agreed_capacity = capacity;
    }
    static const sm3_digest none;
    if (sm3_equal(&w->agreed[h], &none))
        w->agreed[h] = s->hash;
    if (!sm3_equal(&w->agreed[h], &s->hash) && !w->o.may_fork)
        violate(w, "agreement: node %u committed another block at height %llu", i,
                (unsigned long long)h);
    trace(w, s->hash.b, SM3_BYTES);
}

static void check_leader(struct world *w, unsigned i, uint64_t term)
{
    if (term >= w->leader_capacity) {
        uint64_t capacity = 2 * term + 64;
        w->leader_of = must(realloc(w->leader_of, capacity));
        memset(w->leader_of + w->leader_capacity, 0xff, capacity - w->leader_capacity);
        w->leader_capacity = capacity;
    }
    if (w->leader_of[term] == 0xff)
        w->elections++;
    else if (w->leader_of[term] != i && w->o.rules_off == 0 && !w->o.may_fork)
        violate(w, "two leaders in term %llu", (unsigned long long)term);
    w->leader_of[term] = (uint8_t)i;
}

/* --- the ledger's stand-in ------------------------------------------------------------------- */

static sm3_digest state_after(const sm3_digest *parent, struct span body)
{
    struct span parts[2] = {span_of(parent->b, SM3_BYTES), body};
    return sm3_labelled("test state", parts, 2);
}

void world_make_block(struct world *w, struct block_header *h, const sm3_digest *parent,
                      uint64_t height, uint64_t term, uint8_t proposer, int64_t timestamp_ms,
                      struct span body)
{
    *h = (struct block_header){.version = 1,
                               .chain = w->members.chain,
                               .epoch = w->members.epoch,
                               .members = w->members.hash,
                               .height = height,
                               .term = term,
                               .previous = *parent,
                               .merkle_root = sm3(body),
                               .state_root = state_after(parent, body),
                               .timestamp_ms = timestamp_ms,
                               .tx_count = (uint32_t)(body.size / 4),
                               .proposer = proposer};
}

static int64_t wall_of(const struct world *w, const struct node *n)
{
    return WALL_START_MS + (int64_t)(w->now / 1000) + n->clock_offset_ms;
}

static const sm3_digest *tip_of(const struct world *w, const struct node *n)
{
    return n->height == 0 ? &w->members.chain : &n->chain[n->height - 1]->hash;
}

static enum ami_status validate(const struct world *w, const struct node *n,
                                const struct block_header *h, struct span body, bool fresh,
                                int64_t received_ms)
{
    if (h->height != n->height + 1 || !sm3_equal(&h->previous, tip_of(w, n)))
        return AMI_BAD_PARENT;
    sm3_digest merkle = sm3(body), state = state_after(&h->previous, body);
    if (body.size % 4 != 0 || body.size / 4 != h->tx_count || !sm3_equal(&merkle, &h->merkle_root))
        return AMI_BAD_MERKLE_ROOT;
    if (!sm3_equal(&state, &h->state_root))
        return AMI_BAD_STATE_ROOT;
    for (size_t i = 0; i < body.size; i += 4) {
        uint32_t tx = load_be32(body.data + i);
        if (tx >= w->tx_count || n->committed[tx])
            return AMI_SEQUENCE_SETTLED;
        for (size_t j = 0; j < i; j += 4)
            if (load_be32(body.data + j) == tx)
                return AMI_SEQUENCE_SETTLED;
    }
    if (fresh && (received_ms - h->timestamp_ms > 30000 || h->timestamp_ms - received_ms > 30000))
        return AMI_BAD_TIMESTAMP;
    return AMI_OK;
}

static void settle(struct world *w, struct node *n, struct span body)
{
    for (size_t i = 0; i + 4 <= body.size; i += 4) {
        uint32_t tx = load_be32(body.data + i);
        if (tx >= w->tx_count || n->committed[tx])
            violate(w, "a transaction was committed twice");
        else
            n->committed[tx] = true;
    }
    while (n->first_waiting < w->tx_count && n->committed[n->first_waiting])
        n->first_waiting++;
}

/* --- disk ------------------------------------------------------------------------------------ */

static void keep(struct node *n, struct stored *s)
{
    for (size_t i = 0; i < KEPT_MAX; i++) {
        if (n->kept[i] != NULL && sm3_equal(&n->kept[i]->hash, &s->hash)) {
            stored_free(s);
            return;
        }
    }
    for (size_t i = 0; i < KEPT_MAX; i++) {
        if (n->kept[i] == NULL) {
            n->kept[i] = s;
            return;
        }
    }
    AMI_CHECK(false && "too many blocks are kept");
}

static void prune(struct node *n)
{
    for (size_t i = 0; i < KEPT_MAX; i++)
        if (n->kept[i] != NULL && n->kept[i]->header.height <= n->height) {
            stored_free(n->kept[i]);
            n->kept[i] = NULL;
        }
}

static void append(struct node *n, struct stored *s)
{
    if ((n->height & (n->height + 1)) == 0 || n->chain == NULL)
        n->chain = must(realloc(n->chain, (2 * n->height + 16) * sizeof *n->chain));
    n->chain[n->height++] = s;
}

static void set_record(struct world *w, struct node *n, struct span record)
{
    free_span(n->record_bytes);
    n->record_bytes = record;
    n->has_record = true;
    if (n->record == NULL)
        n->record = must(calloc(1, sizeof *n->record));
    if (vote_record_parse(n->record, record) != AMI_OK)
        violate(w, "a vote record does not parse");
}

/* The write becomes durable. */
static void apply(struct world *w, unsigned i, struct write *d)
{
    struct node *n = &w->node[i];
    if (d->record.size != 0) {
        if (n->has_record) {
            uint64_t term = n->record->term;
            set_record(w, n, d->record);
            if (n->record->term < term && w->o.rules_off == 0)
                violate(w, "node %u: the durable term goes back", i);
        } else {
            set_record(w, n, d->record);
        }
    } else {
        free_span(d->record);
    }
    if (d->keep != NULL)
        keep(n, d->keep);
    if (d->commit != NULL) {
        check_commit(w, i, d->commit);
        append(n, d->commit);
        prune(n);
    }
    if (n->has_record && !n->mute &&
        (n->record->tip_height != n->height || !sm3_equal(&n->record->tip, tip_of(w, n))))
        violate(w, "node %u: record and chain were not written together", i);
    free(d);
}

static void drop_write(struct write *d)
{
    if (d == NULL)
        return;
    free_span(d->record);
    stored_free(d->keep);
    stored_free(d->commit);
    free(d);
}

/* --- sending --------------------------------------------------------------------------------- */

static void deliver_frame(struct world *w, uint8_t from, uint8_t to, struct frame *f,
                          uint64_t after_us)
{
    f->refs++;
    push(w,
         (struct world_event){
             .at_us = w->now + after_us, .type = EV_FRAME, .node = to, .from = from, .frame = f});
}

static void release(struct frame *f)
{
    if (f != NULL && --f->refs == 0)
        free(f);
}

static struct frame *frame_of(struct span s)
{
    struct frame *f = must(malloc(sizeof *f + s.size));
    f->refs = 1;
    f->size = s.size;
    memcpy(f->data, s.data, s.size);
    return f;
}

static void send_one(struct world *w, uint8_t from, uint8_t to, struct frame *f)
{
    struct world_frame seen = {from, to, (enum message_type)f->data[1], span_of(f->data, f->size)};
    if (w->filter != NULL && !w->filter(w, w->filter_ctx, &seen))
        return;
    if (w->cut[from][to])
        return;
    unsigned copies = !w->quiet && chance(w, w->o.dup_percent, 100) ? 2 : 1;
    for (unsigned c = 0; c < copies; c++)
        if (w->quiet || !chance(w, w->o.loss_percent, 100))
            deliver_frame(w, from, to, f, exponential(w, w->o.delay_mean_us, 1000));
}

void world_inject(struct world *w, uint8_t from, uint8_t to, struct span frame, uint64_t after_us)
{
    struct frame *f = frame_of(frame);
    deliver_frame(w, from, to, f, after_us);
    release(f);
}

static void send_many(struct world *w, uint8_t from, uint32_t to, struct span frame)
{
    struct frame *f = frame_of(frame);
    trace(w, frame.data, frame.size);
    for (uint8_t i = 0; i < world_nodes(w); i++)
        if ((to >> member_of(w, i) & 1) != 0)
            send_one(w, from, i, f);
    release(f);
}

static void send_to(struct world *w, uint8_t from, uint8_t to, struct span frame)
{
    struct frame *f = frame_of(frame);
    trace(w, frame.data, frame.size);
    send_one(w, from, to, f);
    release(f);
}

static void serve_block(struct world *w, uint8_t from, uint8_t to, const struct stored *s)
{
    static uint8_t bytes[FRAME_BYTES_MAX];
    static struct certified_block b;
    b.header = s->header;
    AMI_CHECK(qc_parse(&b.commit, s->qc) == AMI_OK);
    b.body = s->body;
    struct writer out = writer_on(bytes, sizeof bytes);
    frame_begin(&out, MSG_BLOCK);
    certified_block_encode(&out, &b);
    AMI_CHECK(writer_ok(&out));
    send_to(w, from, to, writer_span(&out));
}

static void serve(struct world *w, uint8_t i, uint8_t from, enum message_type type,
                  struct span body)
{
    struct node *n = &w->node[i];
    struct fetch_blocks f;
    struct fetch_body b;
    if (type == MSG_FETCH_BLOCKS && fetch_blocks_parse(&f, body) == AMI_OK) {
        for (uint64_t k = 0; k < f.count_max && k < SERVE_MAX; k++)
            if (f.from_height + k >= 1 && f.from_height + k <= n->height)
                serve_block(w, i, from, n->chain[f.from_height + k - 1]);
    } else if (type == MSG_FETCH_BODY && fetch_body_parse(&b, body) == AMI_OK) {
        static uint8_t bytes[FRAME_BYTES_MAX];
        const struct stored *s = find_kept(n, &b.block);
        if (s == NULL)
            return;
        struct body_reply reply = {.header = s->header, .body = s->body};
        struct writer out = writer_on(bytes, sizeof bytes);
        frame_begin(&out, MSG_BODY);
        body_reply_encode(&out, &reply);
        send_to(w, i, from, writer_span(&out));
    }
}

/* --- one node -------------------------------------------------------------------------------- */

static void feed(struct world *w, unsigned i, struct replica_event *e);

static void feed_flag(struct world *w, unsigned i, enum replica_event_type type, bool flag)
{
    struct replica_event e = {.type = type, .u.flag = flag};
    feed(w, i, &e);
}

static bool waiting(const struct world *w, const struct node *n)
{
    for (uint32_t tx = n->first_waiting; tx < w->tx_count; tx++)
        if (!n->committed[tx])
            return true;
    return false;
}

/* Rule 8: has the timer of one of the first transactions that wait run out? */
static void progress(struct world *w, unsigned i)
{
    struct node *n = &w->node[i];
    bool expired = false;
    unsigned seen = 0;
    for (uint32_t tx = n->first_waiting; tx < w->tx_count && seen < TIMER_QUOTA; tx++) {
        if (n->committed[tx])
            continue;
        seen++;
        if (n->arrived[tx] + w->parameters.progress_timeout_ms * MS <= w->now)
            expired = true;
    }
    if (expired == n->progress_said)
        return;
    n->progress_said = expired;
    feed_flag(w, i, REPLICA_PROGRESS, expired);
}

static void on_notes(struct world *w, unsigned i, const struct effects *fx, bool *new_leader)
{
    for (size_t k = 0; k < fx->note_count; k++) {
        const struct replica_note *note = &fx->note[k];
        w->node[i].notes[note->type]++;
        if (note->type != REPLICA_NOTE_LEADER)
            continue;
        check_leader(w, note->member, note->term);
        *new_leader = true;
    }
}

/* Rule 12: whatever is called evidence convicts, and nobody honest. */
static void on_evidence(struct world *w, unsigned i, const struct effects *fx)
{
    for (size_t k = 0; k < fx->evidence_count; k++) {
        struct evidence e;
        if (evidence_parse(&e, fx->evidence[k].encoded) != AMI_OK ||
            evidence_check(&w->members, &e) != AMI_OK || e.accused != fx->evidence[k].accused ||
            e.kind != fx->evidence[k].kind) {
            violate(w, "node %u: evidence that convicts nobody", i);
            continue;
        }
        if (judged(w, e.accused))
            violate(w, "node %u shows evidence (%s) against member %u, which is honest", i,
                    evidence_kind_name(e.kind), e.accused);
        w->node[i].convicted |= 1u << e.accused;
    }
}

static void start_write(struct world *w, unsigned i, const struct effects *fx)
{
    struct node *n = &w->node[i];
    if (n->write != NULL) {
        violate(w, "node %u: two writes at once", i);
        return;
    }
    struct write *d = must(calloc(1, sizeof *d));
    d->ticket = fx->persist.ticket;
    d->record = copy_of(fx->persist.vote_record);
    if (fx->persist.body_header.size != 0) {
        struct block_header h;
        AMI_CHECK(block_header_parse(&h, fx->persist.body_header) == AMI_OK);
        d->keep = stored_new(&h, span_of(NULL, 0), fx->persist.body);
    }
    if (fx->persist.commit) {
        d->commit =
            stored_new(fx->persist.header, fx->persist.block_commit, fx->persist.block_body);
        if (validate(w, n, fx->persist.header, fx->persist.block_body, false, 0) != AMI_OK &&
            w->o.rules_off == 0)
            violate(w, "node %u commits a block that is not valid", i);
    }
    if (d->commit != NULL && n->validating)
        violate(w, "node %u commits while a block is being checked", i);
    if (n->mute && d->record.size != 0)
        violate(w, "node %u may not sign and writes a record", i);
    n->write = d;
    push_for(w, i, EV_WRITTEN, exponential(w, w->o.disk_mean_us, 200));
}

static void on_deliver(struct world *w, unsigned i, const struct effects *fx)
{
    struct node *n = &w->node[i];
    uint64_t h = fx->deliver.header->height;
    if (h != n->delivered + 1 || h > n->height ||
        !sm3_equal(&n->chain[h - 1]->hash, &fx->deliver.block))
        violate(w, "node %u delivered height %llu before it was durable or twice", i,
                (unsigned long long)h);
    n->delivered = h;
    settle(w, n, fx->deliver.body);
}

static void feed(struct world *w, unsigned i, struct replica_event *e)
{
    struct node *n = &w->node[i];
    struct effects *fx = w->fx;
    e->now_us = w->now;
    e->wall_ms = wall_of(w, n);
    replica_step(n->replica, e, fx);
    bool new_leader = false, delivered = fx->has_deliver;
    on_notes(w, i, fx, &new_leader);
    on_evidence(w, i, fx);
    if (fx->has_persist)
        start_write(w, i, fx);
    for (size_t k = 0; k < fx->send_count; k++) {
        check_frame(w, i, fx->send[k].type, fx->send[k].frame);
        send_many(w, (uint8_t)i, fx->send[k].to, fx->send[k].frame);
    }
    if (fx->has_deliver)
        on_deliver(w, i, fx);
    if (fx->has_validate) {
        if (n->validating)
            violate(w, "node %u: two validations at once", i);
        n->validating = true;
        push(w, (struct world_event){.at_us = w->now + 100 + world_random(w, 400),
                                     .type = EV_VALIDATED,
                                     .node = (uint8_t)i,
                                     .life = n->life,
                                     .hash = fx->validate.block,
                                     .status = validate(w, n, fx->validate.header,
                                                        fx->validate.body, fx->validate.fresh,
                                                        fx->validate.received_wall_ms)});
    }
    if ((fx->has_validate || fx->has_build) && n->write != NULL && n->write->commit != NULL)
        violate(w, "node %u: a check or a build while a commit is being written", i);
    if (fx->has_build)
        push(w, (struct world_event){.at_us = w->now + 100 + world_random(w, 400),
                                     .type = EV_BUILD,
                                     .node = (uint8_t)i,
                                     .life = n->life,
                                     .ticket = fx->build.ticket,
                                     .term = fx->build.term,
                                     .hash = fx->build.parent});
    if (fx->has_need_body)
        push(w, (struct world_event){.at_us = w->now + 100,
                                     .type = EV_BODY,
                                     .node = (uint8_t)i,
                                     .life = n->life,
                                     .hash = fx->need_body});
    if (fx->deadline_us <= w->now)
        violate(w, "node %u: a deadline that has passed", i);
    if (fx->deadline_us != n->alarm_at && fx->deadline_us != UINT64_MAX)
        push(w,
             (struct world_event){
                 .at_us = fx->deadline_us, .type = EV_ALARM, .node = (uint8_t)i, .life = n->life});
    n->alarm_at = fx->deadline_us;
    if (new_leader) { /* a new leader gets the full time again */
        for (uint32_t tx = n->first_waiting; tx < w->tx_count; tx++)
            n->arrived[tx] = w->now;
        n->progress_said = false;
    }
    if (delivered || new_leader)
        push_for(w, i, EV_WORK, 0);
}

static void build(struct world *w, unsigned i, const struct world_event *ev)
{
    struct node *n = &w->node[i];
    uint8_t body[WORLD_BODY_BYTES];
    size_t size = 0;
    for (uint32_t tx = n->first_waiting; tx < w->tx_count && size + 4 <= sizeof body; tx++) {
        if (n->committed[tx] || w->censored[i] == tx + 1)
            continue;
        store_be32(body + size, tx);
        size += 4;
    }
    struct replica_event e = {.type = REPLICA_BUILT, .u.built.ticket = ev->ticket};
    struct block_header h;
    if (size != 0 && sm3_equal(&ev->hash, tip_of(w, n))) {
        int64_t after = n->height == 0 ? 0 : n->chain[n->height - 1]->header.timestamp_ms + 1;
        int64_t stamp = wall_of(w, n) > after ? wall_of(w, n) : after;
        world_make_block(w, &h, tip_of(w, n), n->height + 1, ev->term, member_of(w, i), stamp,
                         span_of(body, size));
        e.u.built.header = &h;
        e.u.built.body = span_of(body, size);
    }
    feed(w, i, &e);
}

static void written(struct world *w, unsigned i)
{
    struct node *n = &w->node[i];
    struct write *d = n->write;
    AMI_CHECK(d != NULL);
    n->write = NULL;
    struct replica_event e = {.type = REPLICA_PERSISTED,
                              .u.persisted = {d->ticket, n->disk_status}};
    if (!w->quiet && chance(w, w->o.crash_before_per_mille, 1000)) {
        drop_write(d);
        world_crash(w, i);
    } else if (!w->quiet && chance(w, w->o.crash_after_per_mille, 1000)) {
        apply(w, i, d);
        world_crash(w, i);
    } else {
        if (n->disk_status == AMI_OK)
            apply(w, i, d);
        else
            drop_write(d);
        feed(w, i, &e);
        return;
    }
    push_for(w, i, EV_START, exponential(w, w->o.down_mean_us, SECONDS));
}

static void stored_body(struct world *w, unsigned i, const sm3_digest *hash)
{
    const struct stored *s = find_kept(&w->node[i], hash);
    struct replica_event e = {.type = REPLICA_STORED_BODY, .u.stored_body.block = *hash};
    if (s != NULL) {
        e.u.stored_body.header = &s->header;
        e.u.stored_body.body = s->body;
    }
    feed(w, i, &e);
}

static void on_frame(struct world *w, const struct world_event *ev)
{
    enum message_type type;
    struct span body;
    if (!w->node[ev->node].up ||
        frame_open(span_of(ev->frame->data, ev->frame->size), &type, &body) != AMI_OK)
        return;
    if (type == MSG_FETCH_BLOCKS || type == MSG_FETCH_BODY) {
        serve(w, ev->node, ev->from, type, body);
        return;
    }
    struct replica_event e = {
        .type = REPLICA_MESSAGE,
        .u.message = {.from = member_of(w, ev->from), .type = type, .body = body}};
    feed(w, ev->node, &e);
}

static void submit(struct world *w)
{
    if (w->tx_count == WORLD_TXS_MAX)
        return;
    uint32_t tx = w->tx_count++;
    for (unsigned i = 0; i < world_nodes(w); i++)
        w->node[i].arrived[tx] = w->now;
    for (unsigned i = 0; i < world_nodes(w); i++)
        if (w->node[i].up)
            push_for(w, i, EV_WORK, 0);
}

void world_submit(struct world *w, unsigned count)
{
    while (count-- > 0)
        submit(w);
}

static void start_all(struct world *w)
{
    if (w->started)
        return;
    w->started = true;
    for (unsigned i = 0; i < world_nodes(w); i++)
        world_start(w, i);
    if (w->o.submit_every_us != 0)
        push(w, (struct world_event){.at_us = w->now + w->o.submit_every_us, .type = EV_SUBMIT});
}

void world_step_down(struct world *w, unsigned node)
{
    feed_flag(w, node, REPLICA_STEP_DOWN, false);
}

void world_step(struct world *w)
{
    start_all(w);
    AMI_CHECK(w->heap_size > 0);
    struct world_event ev = pop(w);
    w->now = ev.at_us;
    w->events++;
    struct node *n = &w->node[ev.node];
    if (ev.type == EV_FRAME) {
        on_frame(w, &ev);
        release(ev.frame);
    } else if (ev.type == EV_SUBMIT) {
        submit(w);
        push(w, (struct world_event){.at_us = w->now + w->o.submit_every_us, .type = EV_SUBMIT});
    } else if (ev.type == EV_START) {
        if (!n->up && !n->gone)
            world_start(w, ev.node);
    } else if (!n->up || n->life != ev.life) {
        return;
    } else if (ev.type == EV_WRITTEN) {
        written(w, ev.node);
    } else if (ev.type == EV_VALIDATED) {
        n->validating = false;
        struct replica_event e = {.type = REPLICA_VALIDATED, .u.validated = {ev.hash, ev.status}};
        feed(w, ev.node, &e);
    } else if (ev.type == EV_BUILD) {
        build(w, ev.node, &ev);
    } else if (ev.type == EV_BODY) {
        stored_body(w, ev.node, &ev.hash);
    } else if (ev.type == EV_ALARM) {
        if (n->alarm_at == ev.at_us)
            feed_flag(w, ev.node, REPLICA_TIME, false);
    } else if (ev.type == EV_WORK) {
        if (waiting(w, n))
            feed_flag(w, ev.node, REPLICA_WORK, true);
        if (n->up)
            progress(w, ev.node);
    } else if (ev.type == EV_TICK) {
        progress(w, ev.node);
        push_for(w, ev.node, EV_TICK, 100 * MS);
    }
}

void world_run(struct world *w, uint64_t for_us)
{
    start_all(w);
    uint64_t end = w->now + for_us;
    while (w->violation[0] == 0 && w->heap_size > 0 && w->heap[0].at_us <= end)
        world_step(w);
    if (w->violation[0] == 0)
        w->now = end;
}

static bool all_at(const struct world *w, uint64_t height)
{
    for (unsigned i = 0; i < world_nodes(w); i++)
        if (world_honest(w, i) && w->node[i].up && w->node[i].height < height)
            return false;
    return true;
}

bool world_run_until_height(struct world *w, uint64_t height, uint64_t for_us)
{
    start_all(w);
    uint64_t end = w->now + for_us;
    while (w->violation[0] == 0 && !all_at(w, height) && w->heap_size > 0 &&
           w->heap[0].at_us <= end)
        world_step(w);
    return all_at(w, height);
}

int world_run_until_leader(struct world *w, uint64_t for_us)
{
    start_all(w);
    uint64_t end = w->now + for_us;
    while (w->violation[0] == 0 && w->heap_size > 0 && w->heap[0].at_us <= end) {
        world_step(w);
        for (unsigned i = 0; i < w->o.n; i++) {
            if (!w->node[i].up || replica_role(w->node[i].replica) != REPLICA_LEADER)
                continue;
            unsigned followers = 0;
            uint8_t leader;
            for (unsigned j = 0; j < w->o.n; j++)
                if (w->node[j].up && replica_leader(w->node[j].replica, &leader) && leader == i)
                    followers++;
            if (followers >= members_quorum(w->o.n))
                return (int)i;
        }
    }
    return -1;
}

/* --- lives ----------------------------------------------------------------------------------- */

void world_crash(struct world *w, unsigned i)
{
    struct node *n = &w->node[i];
    start_all(w);
    if (!n->up)
        return;
    n->up = false;
    n->life++;
    if (n->write != NULL && chance(w, 1, 2))
        apply(w, i, n->write);
    else
        drop_write(n->write);
    n->write = NULL;
    free(n->replica);
    n->replica = NULL;
}

void world_crash_for_good(struct world *w, unsigned i)
{
    world_crash(w, i);
    w->node[i].gone = true;
}

void world_start(struct world *w, unsigned i)
{
    struct node *n = &w->node[i];
    AMI_CHECK(!n->up);
    n->up = true;
    n->gone = false;
    n->life++;
    n->starts++;
    n->mute = n->lost_record;
    n->delivered = n->height;
    n->validating = n->progress_said = false;
    n->alarm_at = 0;
    memset(n->committed, 0, sizeof n->committed);
    n->first_waiting = 0;
    for (uint64_t h = 0; h < n->height; h++)
        settle(w, n, n->chain[h]->body);
    for (uint32_t tx = 0; tx < w->tx_count; tx++)
        n->arrived[tx] = w->now;
    static struct qc qc;
    struct replica_config c = {.members = &w->members,
                               .parameters = &w->parameters,
                               .key = &w->keys[member_of(w, i)],
                               .self = member_of(w, i),
                               .first_height = 1,
                               .rules_off = w->o.rules_off,
                               .now_us = w->now,
                               .may_sign = !n->mute,
                               .starts = n->starts,
                               .record = n->has_record ? n->record : NULL,
                               .tip_height = n->height,
                               .tip = *tip_of(w, n),
                               .tip_timestamp_ms = 0};
    store_be64(c.seed, w->o.seed);
    store_be64(c.seed + 8, n->starts * 64 + member_of(w, i)); /* twins draw the same */
    if (n->height != 0) {
        AMI_CHECK(qc_parse(&qc, n->chain[n->height - 1]->qc) == AMI_OK);
        c.tip_commit = &qc;
        c.tip_timestamp_ms = n->chain[n->height - 1]->header.timestamp_ms;
    }
    void *memory = must(calloc(1, replica_size(&w->parameters)));
    enum ami_status s = replica_init(&n->replica, memory, &c);
    if (s != AMI_OK) {
        violate(w, "node %u does not start: %s", i, ami_status_name(s));
        AMI_CHECK(false && "replica_init");
    }
    feed_flag(w, i, REPLICA_TIME, false);
    push_for(w, i, EV_WORK, 0);
    push_for(w, i, EV_TICK, 100 * MS);
}

void world_lose_record(struct world *w, unsigned i)
{
    AMI_CHECK(!w->node[i].up);
    w->node[i].has_record = false;
    w->node[i].lost_record = true;
}

bool world_up(const struct world *w, unsigned i)
{
    return w->node[i].up;
}

void world_cut(struct world *w, unsigned a, unsigned b, bool cut)
{
    w->cut[a][b] = cut;
}

void world_isolate(struct world *w, uint32_t group)
{
    for (unsigned a = 0; a < world_nodes(w); a++)
        for (unsigned b = 0; b < world_nodes(w); b++)
            w->cut[a][b] = (group >> a & 1) != (group >> b & 1);
}

void world_heal(struct world *w)
{
    memset(w->cut, 0, sizeof w->cut);
    w->quiet = true;
    for (unsigned i = 0; i < world_nodes(w); i++)
        w->node[i].disk_status = AMI_OK;
}

void world_disk_fails(struct world *w, unsigned i, enum ami_status status)
{
    w->node[i].disk_status = status;
}

void world_set_filter(struct world *w, world_filter filter, void *ctx)
{
    w->filter = filter;
    w->filter_ctx = ctx;
}

void world_censor(struct world *w, unsigned node, uint32_t tx)
{
    w->censored[node] = tx + 1;
}

void world_set_byzantine(struct world *w, uint32_t mask)
{
    w->byzantine = mask;
}

/* --- making and asking ----------------------------------------------------------------------- */

struct world *world_new(const struct world_options *o)
{
    struct world *w = must(calloc(1, sizeof *w));
    w->o = *o;
    w->random = o->seed * UINT64_C(0x2545f4914f6cdd1d) + 1;
    w->fx = must(malloc(sizeof *w->fx));
    w->parameters = (struct parameters){.election_timeout_ms = 600,
                                        .progress_timeout_ms = 3000,
                                        .heartbeat_ms = 100,
                                        .block_age_ms = 50,
                                        .block_txs_max = WORLD_BODY_BYTES / 4,
                                        .block_bytes_max = WORLD_BODY_BYTES,
                                        .timestamp_back_ms = 30000,
                                        .timestamp_ahead_ms = 30000};
    struct members *m = &w->members;
    m->count = (uint8_t)o->n;
    m->epoch = 1;
    m->chain = sm3(SPAN_LITERAL("test chain"));
    for (unsigned i = 0; i < o->n; i++) {
        char name[16];
        snprintf(name, sizeof name, "dc-%u", i + 1);
        AMI_CHECK(ami_id_from_text(&m->member[i].name, name) == AMI_OK);
        m->member[i].key_epoch = 1;
    }
    test_keys(m, w->keys, o->n, o->seed);
    m->hash = members_hash(m);
    return w;
}

void world_free(struct world *w)
{
    for (unsigned i = 0; i < world_nodes(w); i++) {
        struct node *n = &w->node[i];
        free(n->replica);
        drop_write(n->write);
        free_span(n->record_bytes);
        free(n->record);
        for (uint64_t h = 0; h < n->height; h++)
            stored_free(n->chain[h]);
        free(n->chain);
        for (size_t k = 0; k < KEPT_MAX; k++)
            stored_free(n->kept[k]);
    }
    for (size_t i = 0; i < w->heap_size; i++)
        release(w->heap[i].frame);
    for (uint64_t h = 0; h < w->preload_count; h++)
        stored_free(w->preloaded[h]);
    free(w->preloaded);
    free(w->heap);
    free(w->slots);
    free(w->agreed);
    free(w->leader_of);
    free(w->fx);
    free(w);
}

static void preload_one(struct world *w)
{
    uint64_t h = w->preload_count + 1;
    const sm3_digest *parent = h == 1 ? &w->members.chain : &w->preloaded[h - 2]->hash;
    uint8_t body[WORLD_BODY_BYTES], bytes[4096];
    size_t size = 4 * (w->o.preload_txs == 0 ? 1 : w->o.preload_txs);
    AMI_CHECK(size <= sizeof body && w->tx_count + size / 4 < WORLD_TXS_MAX);
    for (size_t at = 0; at < size; at += 4)
        store_be32(body + at, w->tx_count++);
    struct block_header header;
    world_make_block(w, &header, parent, h, 1, 0, WALL_START_MS - 1000000 + (int64_t)h,
                     span_of(body, size));
    struct vote votes[AMI_MEMBERS_MAX];
    unsigned q = members_quorum(w->o.n);
    for (uint8_t i = 0; i < q; i++) {
        uint8_t random[SM2_WIDE_BYTES] = {0};
        votes[i] = (struct vote){.kind = VOTE_COMMIT,
                                 .chain = w->members.chain,
                                 .epoch = 1,
                                 .term = 1,
                                 .height = h,
                                 .block = block_hash(&header),
                                 .voter = i};
        vote_sign(&votes[i], &w->keys[i], random);
    }
    struct qc qc;
    AMI_CHECK(qc_make(&qc, &w->members, votes, q) == AMI_OK);
    struct writer out = writer_on(bytes, sizeof bytes);
    qc_encode(&out, &qc);
    w->preloaded = must(realloc(w->preloaded, h * sizeof *w->preloaded));
    w->preloaded[h - 1] = stored_new(&header, writer_span(&out), span_of(body, size));
    w->preload_count = h;
}

void world_preload(struct world *w, unsigned i, uint64_t height)
{
    struct node *n = &w->node[i];
    AMI_CHECK(!w->started);
    while (w->preload_count < height)
        preload_one(w);
    for (uint64_t h = 1; h <= height; h++) {
        const struct stored *s = w->preloaded[h - 1];
        struct stored *copy = stored_new(&s->header, s->qc, s->body);
        check_commit(w, i, copy);
        append(n, copy);
    }
    static struct vote_record v;
    memset(&v, 0, sizeof v);
    v.version = 1;
    v.chain = w->members.chain;
    v.epoch = 1;
    v.term = 1;
    v.has_high = true;
    AMI_CHECK(qc_parse(&v.high, n->chain[height - 1]->qc) == AMI_OK);
    v.tip_height = height;
    v.tip = n->chain[height - 1]->hash;
    uint8_t bytes[8192];
    struct writer out = writer_on(bytes, sizeof bytes);
    vote_record_encode(&out, &v);
    set_record(w, n, copy_of(writer_span(&out)));
}

const char *world_violation(const struct world *w)
{
    return w->violation[0] == 0 ? NULL : w->violation;
}
sm3_digest world_block(const struct world *w, unsigned i, uint64_t height)
{
    AMI_CHECK(height >= 1 && height <= w->node[i].height);
    return w->node[i].chain[height - 1]->hash;
}
void world_set_clock(struct world *w, unsigned i, int64_t offset_ms)
{
    w->node[i].clock_offset_ms = offset_ms;
}
uint64_t world_now(const struct world *w)
{
    return w->now;
}
bool world_tx_committed(const struct world *w, unsigned node, uint32_t tx)
{
    return w->node[node].committed[tx];
}
uint32_t world_txs(const struct world *w)
{
    return w->tx_count;
}
struct replica *world_replica(struct world *w, unsigned node)
{
    return w->node[node].replica;
}
const struct members *world_members(const struct world *w)
{
    return &w->members;
}
const struct sign_key *world_key(const struct world *w, unsigned node)
{
    return &w->keys[node];
}
uint64_t world_height(const struct world *w, unsigned node)
{
    return w->node[node].height;
}
uint64_t world_elections(const struct world *w)
{
    return w->elections;
}
uint64_t world_events(const struct world *w)
{
    return w->events;
}
uint64_t world_trace(const struct world *w)
{
    return w->trace;
}
uint32_t world_convicted(const struct world *w, unsigned node)
{
    return w->node[node].convicted;
}
unsigned world_notes(const struct world *w, unsigned node, enum replica_note_type type)
{
    return w->node[node].notes[type];
}
