/* consensus/evidence.c - rule 12: statements that cannot all be honest are noticed.
 *
 * What others signed passes by here once its signature was checked: votes (at the leader),
 * certificates, grants, proposals. The last ones are kept: of each member and kind a vote, a
 * proposal and the grants of a few terms, and certificates by height. What comes in is compared
 * with what is kept; where two contradict each other, ledger/evidence.h judges, and only what
 * convicts leaves the replica. One piece for each member and kind is enough.
 *
 * What was not checked yet may be compared, too: it is not kept, and costs a check only if it would
 * be evidence.
 */
#include "consensus/internal.h"

#include <string.h>

_Static_assert(EVIDENCE_KIND_END <= 8, "the kinds shown fit a byte");

static void emit(struct replica *r, enum evidence_kind kind, uint8_t accused, uint64_t term,
                 uint64_t height, struct span first, struct span second)
{
    struct effects *fx = r->fx;
    if (fx == NULL || accused >= r->n || fx->evidence_count == EFFECTS_EVIDENCE_MAX ||
        (r->seen.shown[accused] >> kind & 1) != 0)
        return;
    const struct evidence e = {.chain = r->members->chain,
                               .epoch = r->members->epoch,
                               .accused = accused,
                               .kind = (uint8_t)kind,
                               .first = first,
                               .second = second};
    if (evidence_check(r->members, &e) != AMI_OK)
        return;
    struct writer w = writer_on(fx->arena + fx->arena_used, sizeof fx->arena - fx->arena_used);
    evidence_encode(&w, &e);
    AMI_CHECK(writer_ok(&w));
    fx->arena_used += w.size;
    fx->evidence[fx->evidence_count].kind = (uint8_t)kind;
    fx->evidence[fx->evidence_count].accused = accused;
    fx->evidence[fx->evidence_count].term = term;
    fx->evidence[fx->evidence_count].height = height;
    fx->evidence[fx->evidence_count].encoded = writer_span(&w);
    fx->evidence_count++;
    r->seen.shown[accused] |= (uint8_t)(1u << kind);
}

/* --- contradictions ----------------------------------------------------------------------------
 */

static bool contradict(const struct vote *a, const struct vote *b)
{
    return a->kind == b->kind && a->term == b->term && a->height == b->height &&
           !sm3_equal(&a->block, &b->block);
}

/* The voter of `v` held a certificate that its grant does not show. */
static bool hides(const struct grant *g, const struct vote *v)
{
    const struct qc rank = {.term = v->term, .height = v->height};
    return v->kind == VOTE_COMMIT && g->term > v->term &&
           (!g->has_high || qc_rank_compare(&g->high, &rank) < 0);
}

static void emit_votes(struct replica *r, const struct vote *a, const struct vote *b)
{
    uint8_t bytes[2][AMI_STATEMENT_BYTES_MAX];
    struct writer first = writer_on(bytes[0], sizeof bytes[0]);
    struct writer second = writer_on(bytes[1], sizeof bytes[1]);
    vote_encode(&first, a);
    vote_encode(&second, b);
    emit(r, EVIDENCE_VOTES, a->voter, a->term, a->height, writer_span(&first),
         writer_span(&second));
}

static void emit_hidden(struct replica *r, const struct vote *v, const struct grant *g)
{
    uint8_t bytes[2][AMI_STATEMENT_BYTES_MAX];
    struct writer first = writer_on(bytes[0], sizeof bytes[0]);
    struct writer second = writer_on(bytes[1], sizeof bytes[1]);
    vote_encode(&first, v);
    grant_encode(&second, g);
    emit(r, EVIDENCE_HIDDEN, v->voter, g->term, v->height, writer_span(&first),
         writer_span(&second));
}

static void emit_grants(struct replica *r, const struct grant *a, const struct grant *b)
{
    uint8_t bytes[2][AMI_STATEMENT_BYTES_MAX];
    struct writer first = writer_on(bytes[0], sizeof bytes[0]);
    struct writer second = writer_on(bytes[1], sizeof bytes[1]);
    grant_encode(&first, a);
    grant_encode(&second, b);
    if (!span_equal(signed_part(writer_span(&first)), signed_part(writer_span(&second))))
        emit(r, EVIDENCE_GRANTS, a->voter, a->term, 0, writer_span(&first), writer_span(&second));
}

/* --- votes and certificates --------------------------------------------------------------------
 */

static struct seen_cert *cert_place(struct replica *r, uint8_t kind, uint64_t height)
{
    return &r->seen.cert[kind - 1][height % SEEN_CERTS];
}

/* Compares one vote with what is kept of its voter. True: something contradicts it; `show`: then
 * that leaves. */
static bool compare_vote(struct replica *r, const struct vote *v, bool show)
{
    bool found = false;
    struct vote other;
    const struct seen_vote *kept = &r->seen.vote[v->kind - 1][v->voter];
    if (kept->used && contradict(&kept->vote, v)) {
        found = true;
        if (show)
            emit_votes(r, &kept->vote, v);
    }
    const struct seen_cert *c = cert_place(r, v->kind, v->height);
    if (c->used && evidence_vote_of(&other, &c->qc, v->voter) && contradict(&other, v)) {
        found = true;
        if (show)
            emit_votes(r, &other, v);
    }
    for (size_t i = 0; i < SEEN_GRANTS; i++) {
        const struct seen_grant *g = &r->seen.grant[v->voter][i];
        if (!g->used || !hides(&g->grant, v))
            continue;
        found = true;
        if (show)
            emit_hidden(r, v, &g->grant);
    }
    return found;
}

void seen_vote(struct replica *r, const struct vote *v)
{
    AMI_CHECK(v->voter < r->n && (v->kind == VOTE_PREPARE || v->kind == VOTE_COMMIT));
    (void)compare_vote(r, v, true);
    struct seen_vote *kept = &r->seen.vote[v->kind - 1][v->voter];
    if (kept->used && (v->term < kept->vote.term ||
                       (v->term == kept->vote.term && v->height <= kept->vote.height)))
        return;
    kept->used = true;
    kept->vote = *v;
}

static bool compare_qc(struct replica *r, const struct qc *qc, bool show)
{
    bool found = false;
    struct vote v;
    for (uint8_t i = 0; i < r->n; i++)
        if (evidence_vote_of(&v, qc, i))
            found = compare_vote(r, &v, show) || found;
    return found;
}

void seen_qc(struct replica *r, const struct qc *qc, bool checked)
{
    if (qc->kind != VOTE_PREPARE && qc->kind != VOTE_COMMIT)
        return;
    struct seen_cert *kept = cert_place(r, qc->kind, qc->height);
    bool same = kept->used && kept->qc.height == qc->height && kept->qc.term == qc->term;
    if (same && sm3_equal(&kept->qc.block, &qc->block))
        return;
    if (!checked && (!compare_qc(r, qc, false) || cert_check_qc(r, qc) != AMI_OK))
        return;
    (void)compare_qc(r, qc, true);
    if (same || (kept->used && (kept->qc.height > qc->height ||
                                (kept->qc.height == qc->height && kept->qc.term > qc->term))))
        return;
    kept->used = true;
    kept->qc = *qc;
}

/* --- grants ------------------------------------------------------------------------------------
 */

/* A commit vote that this grant hides. False: none is kept here. */
static bool find_hidden(const struct replica *r, const struct grant *g, struct vote *out)
{
    const struct seen_vote *kept = &r->seen.vote[VOTE_COMMIT - 1][g->voter];
    if (kept->used && hides(g, &kept->vote)) {
        *out = kept->vote;
        return true;
    }
    for (size_t i = 0; i < SEEN_CERTS; i++) {
        const struct seen_cert *c = &r->seen.cert[VOTE_COMMIT - 1][i];
        if (c->used && evidence_vote_of(out, &c->qc, g->voter) && hides(g, out))
            return true;
    }
    return false;
}

/* What this grant contradicts leaves as evidence: one piece of each kind at most. */
static void emit_contradictions(struct replica *r, const struct grant *g)
{
    struct vote hidden;
    const struct seen_grant *kept = &r->seen.grant[g->voter][g->term % SEEN_GRANTS];
    if (kept->used && kept->grant.term == g->term)
        emit_grants(r, &kept->grant, g);
    if (g->has_high && g->high.term >= g->term) {
        uint8_t bytes[AMI_STATEMENT_BYTES_MAX];
        struct writer w = writer_on(bytes, sizeof bytes);
        grant_encode(&w, g);
        emit(r, EVIDENCE_GRANT, g->voter, g->term, 0, writer_span(&w), span_of(NULL, 0));
    }
    if (find_hidden(r, g, &hidden))
        emit_hidden(r, &hidden, g);
}

/* Whether a grant whose signature is not checked yet is worth checking: it contradicts something.
 * Comparing costs nothing; a liar could otherwise make everybody verify at will. */
static bool is_suspicious(const struct replica *r, const struct grant *g)
{
    struct vote hidden;
    const struct seen_grant *kept = &r->seen.grant[g->voter][g->term % SEEN_GRANTS];
    return (kept->used && kept->grant.term == g->term) ||
           (g->has_high && g->high.term >= g->term) || find_hidden(r, g, &hidden);
}

/* False: its signature is not its voter's, and neither may be what came with it. */
static bool look_at_grant(struct replica *r, const struct grant *g, bool checked)
{
    if (g->voter >= r->n || !cert_same_chain(r, &g->chain, g->epoch))
        return true;
    if (!checked) {
        uint8_t bytes[AMI_STATEMENT_BYTES_MAX];
        struct writer w = writer_on(bytes, sizeof bytes);
        if (!is_suspicious(r, g))
            return true;
        grant_encode(&w, g);
        if (!writer_ok(&w) || cert_check_tail(r, g->voter, LABEL_GRANT, writer_span(&w)) != AMI_OK)
            return false;
    }
    emit_contradictions(r, g);
    if (!checked)
        return true;
    if (g->has_high)
        seen_qc(r, &g->high, true);
    struct seen_grant *kept = &r->seen.grant[g->voter][g->term % SEEN_GRANTS];
    if (kept->used && kept->grant.term >= g->term)
        return true;
    kept->used = true;
    kept->grant = *g;
    return true;
}

void seen_grant(struct replica *r, const struct grant *g, bool checked)
{
    (void)look_at_grant(r, g, checked);
}

void seen_election(struct replica *r, const struct election_cert *c, bool checked)
{
    uint32_t voters = 0;
    for (uint16_t i = 0; i < c->grants_count; i++) {
        const struct grant *g = &c->grants[i];
        if (g->voter >= r->n || (voters & bit_of(g->voter)) != 0)
            continue;
        voters |= bit_of(g->voter);
        if (!look_at_grant(r, g, checked))
            return; /* forged: the rest costs nothing any more */
    }
}

/* --- proposals ---------------------------------------------------------------------------------
 */

void seen_proposal(struct replica *r, const struct proposal_core *core, struct span encoded)
{
    struct proposal_head head;
    uint8_t bytes[2][AMI_STATEMENT_BYTES_MAX];
    struct writer first = writer_on(bytes[0], sizeof bytes[0]);
    struct writer second = writer_on(bytes[1], sizeof bytes[1]);
    AMI_CHECK(core->leader < r->n);
    proposal_head_of(&head, core, encoded);
    sm3_digest hash = block_hash(&head.header);
    proposal_head_encode(&first, &head);
    if (head.header.term > head.term ||
        (head.header.term == head.term && head.header.proposer != head.leader))
        emit(r, EVIDENCE_PROPOSAL, head.leader, head.term, head.header.height, writer_span(&first),
             span_of(NULL, 0));
    struct seen_proposal *kept = &r->seen.proposal[head.leader];
    bool same = kept->used && kept->head.term == head.term &&
                kept->head.header.height == head.header.height;
    if (same && !sm3_equal(&kept->hash, &hash)) {
        proposal_head_encode(&second, &kept->head);
        emit(r, EVIDENCE_PROPOSALS, head.leader, head.term, head.header.height, writer_span(&first),
             writer_span(&second));
    }
    if (same || (kept->used && kept->head.term > head.term))
        return;
    kept->used = true;
    kept->head = head;
    kept->hash = hash;
}
