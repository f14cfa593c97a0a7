/* consensus/catchup.c - rule 10: a node that is behind fetches what it lacks from anybody.
 *
 * Certificates prove themselves, so it does not matter who sends a block. Blocks are asked for in
 * windows, checked and queued as they come in order, and handed one by one to commit.c, which
 * validates and stores them. A peer that stays silent is left for the next one. What others claim
 * to have committed is only a reason to ask; a false claim is forgotten when nobody can show it.
 * A certificate says nothing of the bytes that come with it until they are validated: who sent
 * wrong ones is not listened to any more, so that each liar holds this node up once, and not for
 * as long as it is quicker than the others.
 *
 * A block without a commit certificate (M's, that a leader has to propose again) is asked for by
 * its hash, from the own store first and then from those who signed its certificate: they stored
 * it.
 */
#include "consensus/internal.h"

#include <string.h>

static bool is_liar(const struct replica *r, uint8_t member)
{
    return member < r->n && (r->fetch.liars & bit_of(member)) != 0;
}

/* --- committed blocks ------------------------------------------------------------------------ */

void catchup_target(struct replica *r, uint64_t height, uint8_t from)
{
    if (height <= r->fetch.target)
        return;
    const bool first = r->fetch.target <= r->tip_height;
    r->fetch.target = height;
    if (!first)
        return; /* whoever claims more and more is not asked for it each time */
    r->fetch.since_us = r->now_us;
    if (!r->fetch.asked && from != NOBODY && !is_liar(r, from))
        r->fetch.peer = from;
}

void catchup_certified(struct replica *r, uint64_t height, uint8_t from)
{
    if (height > r->fetch.certified)
        r->fetch.certified = height;
    catchup_target(r, height, from);
}

/* The block above the tip is here and certified; commit.c is at it. */
static bool have_next(struct replica *r)
{
    if (r->committing != NULL)
        return true;
    size_t at = (r->tip_height + 1) % COMMITS_KEPT;
    return r->commits[at].used && r->commits[at].qc.height == r->tip_height + 1 &&
           blocks_find(r, &r->commits[at].qc.block) != NULL;
}

/* The queue is a run of entries: u32 size, u64 height, u8 who sent it, encoding. They come mostly
 * in order, and are taken out in order. */
#define ENTRY_BYTES 13

static uint64_t entry_height(const struct replica *r, size_t at)
{
    return load_be64(r->fetch.queue + at + 4);
}

static size_t entry_size(const struct replica *r, size_t at)
{
    return ENTRY_BYTES + (size_t)load_be32(r->fetch.queue + at);
}

/* SIZE_MAX: not in the queue. */
static size_t queue_find(const struct replica *r, uint64_t height)
{
    for (size_t at = r->fetch.head; at < r->fetch.tail; at += entry_size(r, at))
        if (entry_height(r, at) == height)
            return at;
    return SIZE_MAX;
}

static void queue_remove(struct replica *r, size_t at)
{
    size_t size = entry_size(r, at);
    if (at == r->fetch.head) {
        r->fetch.head += size;
    } else {
        memmove(r->fetch.queue + at, r->fetch.queue + at + size, r->fetch.tail - at - size);
        r->fetch.tail -= size;
    }
    if (r->fetch.head == r->fetch.tail)
        r->fetch.head = r->fetch.tail = 0;
}

static uint8_t entry_from(const struct replica *r, size_t at)
{
    return r->fetch.queue[at + 12];
}

static bool queue_put(struct replica *r, uint8_t from, uint64_t height, struct span encoded)
{
    size_t need = ENTRY_BYTES + encoded.size;
    if (r->fetch.queue_size - r->fetch.tail < need && r->fetch.head != 0) {
        memmove(r->fetch.queue, r->fetch.queue + r->fetch.head, r->fetch.tail - r->fetch.head);
        r->fetch.tail -= r->fetch.head;
        r->fetch.head = 0;
    }
    if (r->fetch.queue_size - r->fetch.tail < need)
        return false;
    uint8_t *entry = r->fetch.queue + r->fetch.tail;
    store_be32(entry, (uint32_t)encoded.size);
    store_be64(entry + 4, height);
    entry[12] = from;
    memcpy(entry + ENTRY_BYTES, encoded.data, encoded.size);
    r->fetch.tail += need;
    return true;
}

/* The lowest height above the tip that is neither with commit.c nor in the queue. */
static uint64_t first_missing(struct replica *r)
{
    uint64_t height = r->tip_height + (have_next(r) ? 2 : 1);
    r->fetch.hole = queue_find(r, height) == SIZE_MAX;
    if (r->fetch.hole)
        return height;
    if (height < r->fetch.first)
        height = r->fetch.first; /* as it was, if no entry went but from the front */
    while (queue_find(r, height) != SIZE_MAX)
        height++;
    r->fetch.first = height;
    return height;
}

/* Takes later blocks than this out of the queue, the last in it first, until it has room for the
 * one that all others wait for. False: there are not enough. */
static bool make_room(struct replica *r, uint64_t height, size_t need)
{
    while (r->fetch.queue_size - (r->fetch.tail - r->fetch.head) < need) {
        size_t at = r->fetch.head, last = SIZE_MAX;
        for (; at < r->fetch.tail; at += entry_size(r, at))
            if (entry_height(r, at) > height)
                last = at;
        if (last == SIZE_MAX)
            return false;
        queue_remove(r, last);
        r->fetch.first = 0;
    }
    return true;
}

void catchup_on_block(struct replica *r, uint8_t from, struct span body)
{
    struct certified_block *b = &r->scratch.block;
    /* Who has not shown its key yet stands for the member that was asked by its name. */
    const uint8_t sender = from == NOBODY ? r->fetch.peer : from;
    if (is_liar(r, sender) || certified_block_parse(b, body) != AMI_OK ||
        b->body.size > r->body_max)
        return;
    const struct block_header *h = &b->header;
    uint64_t first = first_missing(r);
    if (h->height < first || h->height >= first + FETCH_WINDOW ||
        queue_find(r, h->height) != SIZE_MAX || !sm3_equal(&h->chain, &r->members->chain) ||
        h->epoch != r->members->epoch)
        return;
    sm3_digest hash = block_hash(h);
    if (!cert_commits(r, &b->commit) || b->commit.height != h->height ||
        !sm3_equal(&b->commit.block, &hash) || cert_check_qc(r, &b->commit) != AMI_OK)
        return;
    if (from != NOBODY)
        contact_heard(r, from);
    if (body.size > r->fetch.size_seen)
        r->fetch.size_seen = (uint32_t)body.size;
    if ((h->height == first && !make_room(r, first, ENTRY_BYTES + body.size)) ||
        !queue_put(r, sender, h->height, body)) {
        r->fetch.asked = false; /* ask for the rest when there is room */
        return;
    }
    r->fetch.silent = 0;
    r->fetch.got++;
    /* A later one came first: what lies between may be lost. */
    bool gap = h->height != first;
    uint64_t at_us = r->now_us + (gap ? r->slot_us : r->timeout_us);
    uint64_t over_us = r->fetch.asked_us + FETCH_TIMEOUTS_MAX * r->timeout_us;
    r->fetch.deadline_us = at_us < over_us ? at_us : over_us;
}

static struct span entry_encoded(const struct replica *r, size_t at)
{
    return span_of(r->fetch.queue + at + ENTRY_BYTES, entry_size(r, at) - ENTRY_BYTES);
}

bool replica_fetched(const struct replica *r, uint64_t height, struct certified_block *out)
{
    size_t at = queue_find(r, height);
    if (at == SIZE_MAX)
        return false;
    AMI_CHECK(certified_block_parse(out, entry_encoded(r, at)) == AMI_OK);
    return true;
}

/* Takes the block above the tip out of the queue. */
static void feed(struct replica *r)
{
    while (r->fetch.head != r->fetch.tail && entry_height(r, r->fetch.head) <= r->tip_height)
        queue_remove(r, r->fetch.head);
    if (r->fetch.head == r->fetch.tail || have_next(r))
        return;
    size_t at = queue_find(r, r->tip_height + 1);
    if (at == SIZE_MAX)
        return;
    struct certified_block *b = &r->scratch.block;
    AMI_CHECK(certified_block_parse(b, entry_encoded(r, at)) == AMI_OK);
    sm3_digest hash = block_hash(&b->header);
    struct block_slot *s = blocks_put(r, entry_from(r, at), &b->header, &hash, b->body);
    if (s == NULL)
        return;
    blocks_renew(r, s, entry_from(r, at), b->body);
    commit_learn(r, &b->commit, NOBODY);
    queue_remove(r, at);
}

static void next_peer(struct replica *r)
{
    do
        r->fetch.peer = (uint8_t)((r->fetch.peer + 1) % r->n);
    while (r->fetch.peer == r->self || is_liar(r, r->fetch.peer));
}

void catchup_blame(struct replica *r, uint8_t from)
{
    if (from >= r->n || from == r->self) {
        r->fetch.hold_us = r->now_us + RECHECK_US;
        return;
    }
    r->fetch.liars |= bit_of(from);
    if ((all_others(r) & ~r->fetch.liars) == 0) {
        r->fetch.liars = 0; /* they cannot all lie: something is wrong here */
        r->fetch.hold_us = r->now_us + RECHECK_US;
    }
    size_t at = r->fetch.head;
    while (at < r->fetch.tail) {
        if (entry_from(r, at) != from) {
            at += entry_size(r, at);
            continue;
        }
        bool first = at == r->fetch.head;
        queue_remove(r, at);
        if (first)
            at = r->fetch.head;
    }
    r->fetch.first = 0;
    r->fetch.asked = false;
    if (r->fetch.peer == from)
        next_peer(r);
}

/* All of a window is here, or what still lacks is to be asked for again. Who takes long or gives
 * little is not asked next: it may be slower than the chain grows, and no sign tells a slow link
 * from a peer that holds others up. Less is asked for then, so that a slow link is not filled with
 * the same blocks from several. */
static void window_over(struct replica *r)
{
    const uint64_t took_us = r->now_us - r->fetch.asked_us;
    const uint64_t wanted = r->fetch.last - r->fetch.from + 1;
    r->fetch.asked = false;
    if (took_us < FETCH_TIMEOUTS_BRISK * r->timeout_us && 2 * (uint64_t)r->fetch.got >= wanted) {
        if (r->fetch.halved > 0)
            r->fetch.halved--;
        return;
    }
    if (took_us >= FETCH_TIMEOUTS_MAX * r->timeout_us && FETCH_WINDOW >> r->fetch.halved > 1)
        r->fetch.halved++;
    next_peer(r);
}

static void fetch_timed_out(struct replica *r)
{
    if (r->fetch.got != 0) {
        window_over(r);
        return;
    }
    r->fetch.asked = false;
    r->fetch.size_seen = 0;
    r->fetch.silent++;
    next_peer(r);
    if (r->fetch.silent < r->n)
        return;
    r->fetch.silent = 0;
    /* Nobody has it; if somebody says so again, ask again. What is certified is somewhere. */
    r->fetch.target = r->fetch.certified > r->tip_height ? r->fetch.certified : r->tip_height;
}

static uint64_t fetch_begin_us(const struct replica *r)
{
    /* One block behind is the usual state between a commit and its announcement. */
    uint64_t at_us = r->fetch.target <= r->tip_height + 2 ? r->fetch.since_us + 2 * r->heartbeat_us
                                                          : r->fetch.since_us;
    return at_us > r->fetch.hold_us ? at_us : r->fetch.hold_us;
}

/* What is in the queue above a lost block goes nowhere before that block is here. */
static bool fetch_wanted(const struct replica *r)
{
    return (r->n > 1 || r->self == NOBODY) && !r->fetch.complete &&
           r->fetch.target > r->tip_height &&
           (r->fetch.hole || r->fetch.tail - r->fetch.head <= r->fetch.queue_size / 4);
}

static uint32_t fetch_window(const struct replica *r)
{
    const uint32_t window = FETCH_WINDOW >> r->fetch.halved;
    if (r->fetch.size_seen == 0)
        return window;
    uint64_t room = r->fetch.queue_size / 2;
    uint64_t fit = (room < FETCH_BYTES ? room : FETCH_BYTES) / r->fetch.size_seen;
    return fit >= window ? window : fit <= 1 ? 1 : (uint32_t)fit;
}

static void fetch(struct replica *r, uint64_t first)
{
    if (r->fetch.peer == r->self || r->fetch.peer >= r->n || is_liar(r, r->fetch.peer))
        next_peer(r);
    r->fetch.from = r->fetch.last = first;
    uint32_t window = fetch_window(r);
    while (r->fetch.last < r->fetch.target && r->fetch.last - first + 1 < window &&
           queue_find(r, r->fetch.last + 1) == SIZE_MAX)
        r->fetch.last++;
    r->fetch.asked = true;
    r->fetch.got = 0;
    r->fetch.asked_us = r->now_us;
    r->fetch.deadline_us = r->now_us + r->timeout_us;
    outbox_clear(r, OUT_FETCH_BLOCKS);
    outbox_post(r, OUT_FETCH_BLOCKS, bit_of(r->fetch.peer), 0);
    if (!r->fetch.noted && r->fetch.target > r->tip_height + 2) {
        r->fetch.noted = true;
        replica_note(r, REPLICA_NOTE_CATCHING_UP, r->fetch.peer, r->fetch.target, AMI_OK);
    }
}

void catchup_progress(struct replica *r)
{
    r->fetch.since_us = r->now_us;
}

static void advance_fetch(struct replica *r)
{
    feed(r);
    uint64_t first = first_missing(r);
    r->fetch.complete = first > r->fetch.target;
    if (r->fetch.asked && first > r->fetch.last)
        window_over(r);
    if (r->fetch.target <= r->tip_height) {
        r->fetch.asked = false;
        if (r->fetch.noted)
            replica_note(r, REPLICA_NOTE_CAUGHT_UP, NOBODY, r->tip_height, AMI_OK);
        r->fetch.noted = false;
        return;
    }
    if (r->fetch.asked && r->now_us >= r->fetch.deadline_us)
        fetch_timed_out(r);
    if (!r->fetch.asked && fetch_wanted(r) && r->now_us >= fetch_begin_us(r))
        fetch(r, first);
}

/* --- one body by its hash -------------------------------------------------------------------- */

void catchup_wish(struct replica *r, const sm3_digest *block, uint32_t signers)
{
    if (r->wish.active && sm3_equal(&r->wish.block, block)) {
        r->wish.signers |= signers;
        return;
    }
    r->wish.active = true;
    r->wish.store_asked = r->wish.store_new = r->wish.store_waiting = false;
    r->wish.block = *block;
    r->wish.signers = signers;
    r->wish.deadline_us = r->now_us;
}

void catchup_on_body(struct replica *r, uint8_t from, struct span body)
{
    struct body_reply b;
    const uint8_t sender = from == NOBODY ? r->wish.peer : from;
    if (!r->wish.active || is_liar(r, sender) || body_reply_parse(&b, body) != AMI_OK ||
        b.body.size > r->body_max)
        return;
    sm3_digest hash = block_hash(&b.header);
    if (!sm3_equal(&hash, &r->wish.block))
        return;
    if (from != NOBODY)
        contact_heard(r, from);
    if (blocks_put(r, sender, &b.header, &hash, b.body) != NULL)
        r->wish.active = false;
}

void catchup_on_stored_body(struct replica *r, const sm3_digest *hash, const struct block_header *h,
                            struct span body)
{
    if (!r->wish.active || !r->wish.store_waiting || !sm3_equal(hash, &r->wish.block))
        return;
    r->wish.store_waiting = false;
    if (h == NULL)
        return;
    sm3_digest found = block_hash(h);
    if (!sm3_equal(&found, hash))
        return;
    struct block_slot *s = blocks_put(r, NOBODY, h, hash, body);
    if (s == NULL)
        return;
    s->stored = true;
    r->wish.active = false;
}

static void advance_wish(struct replica *r)
{
    if (!r->wish.active)
        return;
    if (blocks_find(r, &r->wish.block) != NULL) {
        r->wish.active = false;
        return;
    }
    if (!r->wish.store_asked) {
        r->wish.store_asked = r->wish.store_new = r->wish.store_waiting = true;
        return;
    }
    if (r->wish.store_waiting)
        return;
    uint32_t others = r->wish.signers & all_others(r);
    if ((others & ~r->fetch.liars) == 0)
        r->fetch.liars &= ~others; /* a quorum does not lie */
    others &= ~r->fetch.liars;
    if (others == 0) {
        r->wish.active = false;
        return;
    }
    if (r->now_us < r->wish.deadline_us)
        return;
    do
        r->wish.peer = (uint8_t)((r->wish.peer + 1) % r->n);
    while ((others & bit_of(r->wish.peer)) == 0);
    r->wish.deadline_us = r->now_us + r->timeout_us;
    outbox_clear(r, OUT_FETCH_BODY);
    outbox_post(r, OUT_FETCH_BODY, bit_of(r->wish.peer), 0);
}

void catchup_advance(struct replica *r)
{
    advance_fetch(r);
    advance_wish(r);
}

uint64_t catchup_deadline(const struct replica *r)
{
    uint64_t at_us = UINT64_MAX;
    if (r->fetch.asked)
        at_us = r->fetch.deadline_us;
    else if (fetch_wanted(r))
        at_us = fetch_begin_us(r);
    if (r->wish.active && !r->wish.store_waiting && r->wish.deadline_us < at_us)
        at_us = r->wish.deadline_us;
    return at_us;
}
