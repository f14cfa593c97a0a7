/* sim/electors.c - see liars.h. */
#include "sim/liars.h"

#include "base/check.h"
#include "ledger/block.h"
#include "node/internal.h"

#include <stdlib.h>
#include <string.h>

#define WAIT_US (300 * SIM_MS) /* for more grants than it needs, before it shows any */

/* One choice of q grants. */
struct choice {
    size_t count;
    const struct grant *grant[SIM_MEMBERS];
    const struct qc *m; /* NULL: none of them has one */
};

struct sim_elector {
    struct sim_host *host;
    uint32_t epoch;
    uint64_t term;
    bool plays;
    uint64_t since_us; /* when it had its first certificate to show; 0: not yet */
    uint32_t voters;
    struct grant grant[SIM_MEMBERS];
    struct grant own_low; /* its own once more, without a certificate */
    bool has_own_low;
    uint64_t acted[2]; /* hosts that were shown the one or the other, and went by it */
    bool counted;
    struct proposal proposal; /* large */
    struct heartbeat heartbeat;
    uint8_t *body; /* SIM_LIAR_BYTES_MAX */
};

struct sim_elector *sim_elector_new(struct sim_host *h)
{
    struct sim_elector *e = calloc(1, sizeof *e);
    AMI_CHECK(e != NULL);
    e->host = h;
    e->body = malloc(SIM_LIAR_BYTES_MAX);
    AMI_CHECK(e->body != NULL);
    return e;
}

void sim_elector_free(struct sim_elector *e)
{
    if (e == NULL)
        return;
    free(e->body);
    free(e);
}

static const struct node *node_of(const struct sim_elector *e)
{
    return e->host->as.dc->node;
}

static unsigned far_index(const struct sim_elector *e, env_link link)
{
    const struct sim_world *w = e->host->world;
    return w->end[w->end[link].other].host;
}

static void begin_term(struct sim_elector *e, uint32_t epoch, uint64_t term)
{
    struct sim_world *w = e->host->world;
    e->epoch = epoch;
    e->term = term;
    e->voters = 0;
    e->acted[0] = e->acted[1] = 0;
    e->counted = false;
    e->has_own_low = false;
    e->since_us = 0;
    e->plays = sim_random_chance(&w->mischief, w->plan.mischief[SIM_MISCHIEF_SHOW_OTHER_M]);
}

static void keep_grant(struct sim_elector *e, const struct grant *g)
{
    if (g->epoch != e->epoch || g->term > e->term)
        begin_term(e, g->epoch, g->term);
    if (g->term != e->term || g->voter >= SIM_MEMBERS || (e->voters >> g->voter & 1) != 0)
        return;
    e->grant[g->voter] = *g;
    e->voters |= 1u << g->voter;
}

static void on_grant(struct sim_elector *e, struct span body)
{
    const struct members *m = &node_of(e)->committee.members;
    struct grant g;
    if (grant_parse(&g, body) != AMI_OK || g.epoch != m->epoch || g.voter >= m->count ||
        g.candidate != node_of(e)->self)
        return;
    struct span part = span_of(body.data, body.size - SM2_SIGNATURE_BYTES);
    if (verify_key_check(&m->member[g.voter].key, LABEL_GRANT, &part, 1, &g.signature) == AMI_OK)
        keep_grant(e, &g);
}

/* Somebody goes by what was shown. */
static void note_acted(struct sim_elector *e, env_link link)
{
    unsigned who = far_index(e, link);
    e->acted[who & 1] |= UINT64_C(1) << who;
}

void sim_elector_receive(struct sim_elector *e, env_link link, enum message_type type,
                         struct span body)
{
    struct vote v;
    struct heartbeat_ack a;
    if (type == MSG_GRANT)
        on_grant(e, body);
    else if (e->counted && type == MSG_VOTE && vote_parse(&v, body) == AMI_OK && v.term == e->term)
        note_acted(e, link);
    else if (e->counted && type == MSG_HEARTBEAT_ACK && heartbeat_ack_parse(&a, body) == AMI_OK &&
             a.term == e->term && a.elected == 1)
        note_acted(e, link);
    if (e->acted[0] != 0 && e->acted[1] != 0) {
        e->host->world->count.rare[SIM_RARE_OTHER_M]++;
        e->acted[0] = e->acted[1] = 0;
        e->counted = false; /* once in a term */
    }
}

/* --- choosing -------------------------------------------------------------------------------- */

static int compare_high(const struct grant *a, const struct grant *b)
{
    if (!a->has_high || !b->has_high)
        return (int)a->has_high - (int)b->has_high;
    int rank = qc_rank_compare(&a->high, &b->high);
    return rank != 0 ? rank : (int)a->high.kind - (int)b->high.kind;
}

/* The q grants with the lowest or the highest certificates. False: there are no more than q. */
static bool choose(const struct sim_elector *e, bool highest, struct choice *out)
{
    const unsigned q = members_quorum(node_of(e)->committee.members.count);
    const struct grant *sorted[SIM_MEMBERS];
    size_t n = 0;
    for (uint8_t i = 0; i < SIM_MEMBERS; i++) {
        if ((e->voters >> i & 1) == 0)
            continue;
        const bool own = i == node_of(e)->self && e->has_own_low && !highest;
        const struct grant *g = own ? &e->own_low : &e->grant[i];
        size_t at = n++;
        for (; at > 0 && compare_high(g, sorted[at - 1]) < 0; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = g;
    }
    if (n <= q)
        return false;
    out->count = q;
    memcpy(out->grant, highest ? &sorted[n - q] : sorted, q * sizeof sorted[0]);
    const struct grant *top = out->grant[q - 1];
    out->m = top->has_high ? &top->high : NULL;
    return true;
}

static bool same_m(const struct choice *a, const struct choice *b)
{
    if (a->m == NULL || b->m == NULL)
        return a->m == b->m;
    return a->m->kind == b->m->kind && a->m->term == b->m->term &&
           sm3_equal(&a->m->block, &b->m->block);
}

static void put_choice(struct election_cert *out, const struct choice *c)
{
    out->grants_count = (uint16_t)c->count;
    for (size_t i = 0; i < c->count; i++)
        out->grants[i] = *c->grant[i];
}

/* --- what follows from M --------------------------------------------------------------------- */

static bool read_block(struct sim_elector *e, const sm3_digest *hash, struct proposal *p)
{
    struct node_disk d = sim_disk_reader(e->host->as.dc->disk);
    struct body_reply kept;
    if (d.body(d.ctx, hash, &kept, e->body, SIM_LIAR_BYTES_MAX) != AMI_OK)
        return false;
    p->core.header = kept.header;
    p->body = kept.body;
    return true;
}

/* Makes the node's proposal fit this M, as far as that can be done: M's block again, or one of its
 * own making on M's, with the same transactions as another one of that height. */
static void fit(struct sim_elector *e, struct proposal *p, const struct qc *m)
{
    struct block_header *h = &p->core.header;
    sm3_digest hash = block_hash(h);
    if (m != NULL && sm3_equal(&hash, &m->block))
        return;
    if (m != NULL && m->kind == VOTE_PREPARE) {
        if (read_block(e, &m->block, p))
            p->core.has_parent_commit = false;
        return;
    }
    if (h->term == p->core.term)
        return; /* fresh already */
    h->term = p->core.term;
    h->proposer = p->core.leader;
    h->timestamp_ms++;
    p->core.has_parent_commit = m != NULL;
    if (m != NULL)
        p->core.parent_commit = *m;
}

/* Two grants of one member in one term are evidence against it; a liar may not mind. */
static void make_own_low(struct sim_elector *e, const struct grant *own)
{
    uint8_t random[SM2_WIDE_BYTES];
    struct grant *g = &e->own_low;
    *g = *own;
    g->has_high = false;
    struct writer w = writer_on(e->body, SIM_LIAR_BYTES_MAX);
    grant_encode(&w, g);
    AMI_CHECK(writer_ok(&w));
    struct span part = span_of(w.data, w.size - SM2_SIGNATURE_BYTES);
    sim_random_bytes(&e->host->world->mischief, random, sizeof random);
    g->signature = sign_key_sign(node_of(e)->c.key.sign, LABEL_GRANT, &part, 1, random);
    e->has_own_low = true;
}

static void learn_own(struct sim_elector *e, const struct election_cert *c)
{
    for (size_t i = 0; i < c->grants_count; i++)
        keep_grant(e, &c->grants[i]);
    for (size_t i = 0; i < c->grants_count && !e->has_own_low; i++)
        if (c->grants[i].voter == node_of(e)->self && c->grants[i].has_high)
            make_own_low(e, &c->grants[i]);
}

/* More grants may come; what is said again and again can wait for them. */
static bool waits(struct sim_elector *e)
{
    const struct sim_world *w = e->host->world;
    const unsigned n = node_of(e)->committee.members.count;
    if (e->since_us == 0)
        e->since_us = w->now_us;
    return e->plays && (unsigned)__builtin_popcount(e->voters) < n &&
           w->now_us < e->since_us + WAIT_US;
}

/* Which of the two this link's other end is shown. False: there is only one M. */
static bool choose_for(struct sim_elector *e, env_link link, struct choice *out)
{
    struct choice low, high;
    if (!e->plays || !choose(e, false, &low) || !choose(e, true, &high) || same_m(&low, &high))
        return false;
    *out = (far_index(e, link) & 1) != 0 ? high : low;
    e->counted = true;
    e->host->world->count.mischief[SIM_MISCHIEF_SHOW_OTHER_M]++;
    return true;
}

static bool send_heartbeat(struct sim_elector *e, env_link link, struct span body)
{
    struct heartbeat *b = &e->heartbeat;
    struct choice c;
    if (heartbeat_parse(b, body) != AMI_OK || !b->has_election)
        return false;
    learn_own(e, &b->election);
    if (waits(e))
        return true;
    if (!choose_for(e, link, &c))
        return false;
    put_choice(&b->election, &c);
    struct writer w = writer_on(sim_liar_scratch(e->host), SIM_LIAR_BYTES_MAX);
    frame_begin(&w, MSG_HEARTBEAT);
    heartbeat_encode(&w, b);
    sim_liar_sign_and_send(e->host, link, &w, LABEL_HEARTBEAT);
    return true;
}

static bool send_proposal(struct sim_elector *e, env_link link, struct span body)
{
    struct proposal *p = &e->proposal;
    struct choice c;
    if (proposal_parse(p, body) != AMI_OK || !p->core.has_election)
        return false;
    learn_own(e, &p->core.election);
    if (waits(e))
        return true;
    if (!choose_for(e, link, &c))
        return false;
    put_choice(&p->core.election, &c);
    fit(e, p, c.m);
    sim_liar_send_proposal(e->host, link, p);
    return true;
}

bool sim_elector_send(struct sim_elector *e, env_link link, enum message_type type,
                      struct span body)
{
    const struct sim_world *w = e->host->world;
    if (w->plan.mischief[SIM_MISCHIEF_SHOW_OTHER_M] == 0)
        return false;
    return (type == MSG_HEARTBEAT && send_heartbeat(e, link, body)) ||
           (type == MSG_PROPOSAL && send_proposal(e, link, body));
}
