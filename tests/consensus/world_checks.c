#include "tests/consensus/world_internal.h"

#include <stdarg.h>
#include <stdio.h>

void world_violate(struct world *w, const char *format, ...)
{
    if (w->violation[0] != 0)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(w->violation, sizeof w->violation, format, args);
    va_end(args);
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

/* --- checkers -------------------------------------------------------------------------------- */

bool world_judged(const struct world *w, unsigned node)
{
    return w->o.rules_off == 0 && world_honest(w, node);
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
        world_violate(w, "vote of %u: malformed", i);
        return;
    }
    if (!slot_same(w, i, v.kind, v.term, v.height, &v.block))
        world_violate(w, "node %u voted twice in kind %u term %llu height %llu", i, v.kind,
                      (unsigned long long)v.term, (unsigned long long)v.height);
    const struct vote *last = &n->last_vote[v.kind];
    if (n->has_last_vote[v.kind] &&
        (v.term < last->term || (v.term == last->term && v.height < last->height)))
        world_violate(w, "node %u: votes of kind %u go back", i, v.kind);
    n->last_vote[v.kind] = v;
    n->has_last_vote[v.kind] = true;
    if (v.term < n->grant_term)
        world_violate(w, "node %u voted in term %llu after a grant in %llu", i,
                      (unsigned long long)v.term, (unsigned long long)n->grant_term);
    const struct vote_record *d = n->has_record ? n->record : NULL;
    bool durable =
        d != NULL && (v.kind == VOTE_PREPARE ? d->has_prepare && same_vote(&d->prepare, &v)
                                             : d->has_commit && same_vote(&d->commit, &v));
    if (!durable || world_find_kept(n, &v.block) == NULL)
        world_violate(w, "node %u sent a vote of kind %u, height %llu, before %s was durable", i,
                      v.kind, (unsigned long long)v.height, durable ? "its block" : "it");
}

/* Rule 2: one grant per term for ever, durable, with a highQC of a lower term. */
static void check_grant(struct world *w, unsigned i, struct span body)
{
    struct node *n = &w->node[i];
    struct grant g;
    if (grant_parse(&g, body) != AMI_OK || g.voter != i) {
        world_violate(w, "grant of %u: malformed", i);
        return;
    }
    sm3_digest value = sm3(signed_part(body));
    if (!slot_same(w, i, 3, g.term, 0, &value))
        world_violate(w, "node %u granted term %llu twice", i, (unsigned long long)g.term);
    if (g.has_high && g.high.term >= g.term)
        world_violate(w, "node %u: highQC of its grant is not of a lower term", i);
    for (int k = 1; k <= 2; k++)
        if (n->has_last_vote[k] && n->last_vote[k].term > g.term)
            world_violate(w, "node %u granted term %llu after a vote in a later one", i,
                          (unsigned long long)g.term);
    if (n->grant_term < g.term)
        n->grant_term = g.term;
    if (!n->has_record || !n->record->has_granted || n->record->granted.term != g.term ||
        memcmp(n->record->granted.signature.b, g.signature.b, sizeof g.signature.b) != 0)
        world_violate(w, "node %u sent a grant before it was durable", i);
}

static void check_proposal(struct world *w, unsigned i, struct span body)
{
    static struct proposal p;
    struct node *n = &w->node[i];
    if (proposal_parse(&p, body) != AMI_OK || p.core.leader != i) {
        world_violate(w, "proposal of %u: malformed", i);
        return;
    }
    sm3_digest hash = block_hash(&p.core.header);
    if (!slot_same(w, i, 4, p.core.term, p.core.header.height, &hash))
        world_violate(w, "node %u proposed twice in term %llu", i, (unsigned long long)p.core.term);
    const struct vote_record *d = n->has_record ? n->record : NULL;
    if (d == NULL || !d->has_prepare || d->prepare.term != p.core.term ||
        !sm3_equal(&d->prepare.block, &hash))
        world_violate(w, "node %u sent a proposal before its own vote was durable", i);
}

static void check_term(struct world *w, unsigned i, uint64_t term, uint64_t height)
{
    struct node *n = &w->node[i];
    if (term != 0 && (!n->has_record || n->record->term < term))
        world_violate(w, "node %u showed term %llu before it was durable", i,
                      (unsigned long long)term);
    if (term < n->term_shown)
        world_violate(w, "node %u: terms go back from %llu to %llu", i,
                      (unsigned long long)n->term_shown, (unsigned long long)term);
    n->term_shown = term;
    if (height > n->height)
        world_violate(w, "node %u claims a block that it does not have", i);
}

void world_check_frame(struct world *w, unsigned i, enum message_type type, struct span frame)
{
    static struct heartbeat h;
    struct heartbeat_ack a;
    struct prevote p;
    struct qc_announce q;
    struct span body = span_of(frame.data + 2, frame.size - 2);
    if (!world_judged(w, i))
        return;
    bool is_signed = type == MSG_VOTE || type == MSG_GRANT || type == MSG_PROPOSAL ||
                     type == MSG_HEARTBEAT || type == MSG_HEARTBEAT_ACK || type == MSG_PREVOTE ||
                     type == MSG_PREVOTE_REQUEST || type == MSG_GRANT_REQUEST;
    if (w->node[i].mute && is_signed)
        world_violate(w, "node %u has no record and signed a %s", i, message_name(type));
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
        world_violate(w, "node %u announced a bad certificate", i);
}

/* Agreement at every height; the certificate verifies; the chain is one. */
void world_check_commit(struct world *w, unsigned i, const struct stored *s)
{
    struct node *n = &w->node[i];
    uint64_t h = s->header.height;
    struct qc qc;
    if (w->o.rules_off == 0) {
        if (qc_parse(&qc, s->qc) != AMI_OK || qc.kind != VOTE_COMMIT || qc.height != h ||
            !sm3_equal(&qc.block, &s->hash) || qc_check(&w->members, &qc) != AMI_OK)
            world_violate(w, "node %u committed height %llu on a bad certificate", i,
                          (unsigned long long)h);
    }
    if (h != n->height + 1 ||
        !sm3_equal(&s->header.previous,
                   n->height == 0 ? &w->members.chain : &n->chain[n->height - 1]->hash))
        world_violate(w, "node %u committed height %llu out of order", i, (unsigned long long)h);
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
        world_violate(w, "agreement: node %u committed another block at height %llu", i,
                      (unsigned long long)h);
    world_add_to_trace(w, s->hash.b, SM3_BYTES);
}

void world_check_leader(struct world *w, unsigned i, uint64_t term)
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
        world_violate(w, "two leaders in term %llu", (unsigned long long)term);
    w->leader_of[term] = (uint8_t)i;
}
