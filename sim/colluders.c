/* sim/colluders.c - see liars.h. */
#include "sim/liars.h"

#include "base/check.h"
#include "ledger/block.h"
#include "node/internal.h"

#include <string.h>

static bool is_liar(const struct sim_host *h)
{
    return h->kind == SIM_DC && h->as.dc->byzantine != NULL;
}

void sim_collude_learn(struct sim_world *w, const struct qc *qc)
{
    if (w->plan.mischief[SIM_MISCHIEF_COLLUDE] != 0 ||
        w->plan.mischief[SIM_MISCHIEF_OLD_EPOCH] != 0)
        w->held[w->held_count++ % SIM_HELD] = *qc;
}

const struct qc *sim_collude_held(struct sim_world *w, uint32_t epoch, uint64_t below_term)
{
    size_t known = w->held_count < SIM_HELD ? w->held_count : SIM_HELD;
    size_t first = sim_random_below(&w->mischief, known);
    for (size_t i = 0; i < known; i++) {
        const struct qc *qc = &w->held[(first + i) % known];
        if (qc->epoch == epoch && qc->term < below_term)
            return qc;
    }
    return NULL;
}

const struct qc *sim_collude_highest(const struct sim_world *w, uint32_t epoch)
{
    const struct qc *best = NULL;
    const struct sim_epoch *e = sim_epoch(w, epoch);
    for (size_t i = 0; e != NULL && i < SIM_HELD && i < w->held_count; i++)
        if (w->held[i].epoch == epoch &&
            w->held[i].signers >> (e->committee.members.count - 1) == 0 &&
            (best == NULL || qc_rank_compare(&w->held[i], best) > 0))
            best = &w->held[i];
    return best;
}

static void give_prevote(struct sim_host *h, env_link link, struct span body)
{
    static struct prevote_request q; /* large */
    const struct node *n = h->as.dc->node;
    if (prevote_request_parse(&q, body) != AMI_OK || q.epoch != n->committee.members.epoch)
        return;
    struct prevote v = {.chain = q.chain,
                        .epoch = q.epoch,
                        .term = q.term,
                        .candidate = q.candidate,
                        .voter = n->self};
    uint8_t random[SM2_WIDE_BYTES];
    struct writer w = writer_on(sim_liar_scratch(h), SIM_LIAR_BYTES_MAX);
    frame_begin(&w, MSG_PREVOTE);
    prevote_encode(&w, &v);
    AMI_CHECK(writer_ok(&w));
    /* Signed are the fields up to the candidate. */
    struct span part = span_of(w.data + 2, w.size - 2 - SM2_SIGNATURE_BYTES - 1);
    sim_random_bytes(&h->world->mischief, random, sizeof random);
    sm2_signature sig = sign_key_sign(n->c.key.sign, LABEL_PREVOTE, &part, 1, random);
    memcpy(w.data + w.size - SM2_SIGNATURE_BYTES, sig.b, sizeof sig.b);
    (void)sim_net_send_raw(h, link, writer_span(&w), 0);
}

/* With whatever certificate any of them holds, or none. */
static void give_grant(struct sim_host *h, env_link link, struct span body)
{
    static struct grant_request q; /* large */
    struct sim_world *w = h->world;
    const struct node *n = h->as.dc->node;
    if (grant_request_parse(&q, body) != AMI_OK || q.epoch != n->committee.members.epoch)
        return;
    struct grant g = {.chain = q.chain,
                      .epoch = q.epoch,
                      .term = q.term,
                      .candidate = q.candidate,
                      .voter = n->self};
    const struct qc *held =
        sim_random_chance(&w->mischief, 500000) ? sim_collude_held(w, q.epoch, q.term) : NULL;
    g.has_high = held != NULL;
    if (held != NULL)
        g.high = *held;
    struct writer f = writer_on(sim_liar_scratch(h), SIM_LIAR_BYTES_MAX);
    frame_begin(&f, MSG_GRANT);
    grant_encode(&f, &g);
    sim_liar_sign_and_send(h, link, &f, LABEL_GRANT);
}

static void give_vote(struct sim_host *h, env_link link, enum vote_kind kind, uint64_t term,
                      uint64_t height, const sm3_digest *block)
{
    const struct members *m = &h->as.dc->node->committee.members;
    sim_liar_send_vote(h, link,
                       (struct vote){.kind = (uint8_t)kind,
                                     .chain = m->chain,
                                     .epoch = m->epoch,
                                     .term = term,
                                     .height = height,
                                     .block = *block,
                                     .voter = h->as.dc->node->self});
}

void sim_collude_vote(struct sim_host *h, env_link link, struct span body)
{
    static struct proposal p; /* large */
    if (proposal_parse(&p, body) != AMI_OK ||
        p.core.header.epoch != h->as.dc->node->committee.members.epoch ||
        h->as.dc->node->self == AMI_MEMBERS_MAX)
        return;
    sm3_digest hash = block_hash(&p.core.header);
    give_vote(h, link, VOTE_PREPARE, p.core.term, p.core.header.height, &hash);
    give_vote(h, link, VOTE_COMMIT, p.core.term, p.core.header.height, &hash);
}

bool sim_collude_receive(struct sim_host *h, env_link link, enum message_type type,
                         struct span body)
{
    struct sim_world *w = h->world;
    const struct sim_host *from = &w->host[w->end[w->end[link].other].host];
    struct qc_announce a;
    if (type == MSG_QC_ANNOUNCE && qc_announce_parse(&a, body) == AMI_OK)
        sim_collude_learn(w, &a.cert);
    if (w->plan.mischief[SIM_MISCHIEF_COLLUDE] == 0)
        return false;
    if (!is_liar(from) || from->as.dc->number == h->as.dc->number ||
        h->as.dc->node->self == AMI_MEMBERS_MAX)
        return false;
    if (type != MSG_PREVOTE_REQUEST && type != MSG_GRANT_REQUEST && type != MSG_PROPOSAL)
        return false;
    env_link back = sim_liar_link_back(h, link);
    if (back == 0 || !sim_liar_does(h, SIM_MISCHIEF_COLLUDE))
        return false;
    if (type == MSG_PREVOTE_REQUEST)
        give_prevote(h, back, body);
    else if (type == MSG_GRANT_REQUEST)
        give_grant(h, back, body);
    else
        sim_collude_vote(h, back, body);
    return sim_random_chance(&w->mischief, 500000);
}
