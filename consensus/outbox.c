/* consensus/outbox.c - frames. A kind of message is posted for some members under the ticket of the
 * write that must be durable first; at the end of each step every kind that is due becomes one
 * frame, made of the state as it is then. So a step sends a bounded number of frames and nothing
 * leaves before what it reveals is on the disk.
 */
#include "consensus/internal.h"

void outbox_post(struct replica *r, enum out_kind kind, uint32_t to, uint64_t ticket)
{
    r->out[kind].to |= to & all_others(r);
    if (r->out[kind].ticket < ticket)
        r->out[kind].ticket = ticket;
}

void outbox_clear(struct replica *r, enum out_kind kind)
{
    r->out[kind].to = 0;
    r->out[kind].ticket = 0;
}

static void put_prevote_request(struct replica *r, struct writer *w)
{
    struct prevote_request *m = &r->scratch.prevote_request;
    m->chain = r->members->chain;
    m->epoch = r->members->epoch;
    m->term = r->term + 1;
    m->candidate = r->self;
    bool proof = election_term_proof(r, &m->proof);
    AMI_CHECK(proof || r->term == 0);
    prevote_request_encode(w, m);
    cert_sign_tail(r, LABEL_PREVOTE_REQUEST, w->data + 2, w->size - 2);
}

static void put_grant_request(struct replica *r, struct writer *w)
{
    struct grant_request m = {.chain = r->members->chain,
                              .epoch = r->members->epoch,
                              .term = r->term,
                              .candidate = r->self,
                              .cert = r->term_cert};
    grant_request_encode(w, &m);
    cert_sign_tail(r, LABEL_GRANT_REQUEST, w->data + 2, w->size - 2);
}

static void put_heartbeat(struct replica *r, struct writer *w, bool elected)
{
    struct heartbeat *m = &r->scratch.heartbeat;
    m->chain = r->members->chain;
    m->epoch = r->members->epoch;
    m->term = r->term;
    m->leader = r->self;
    m->committed = r->tip_height;
    m->round = r->round;
    if ((m->has_election = elected))
        m->election = r->election;
    heartbeat_encode(w, m);
    cert_sign_tail(r, LABEL_HEARTBEAT, w->data + 2, w->size - 2);
}

static void put_heartbeat_ack(struct replica *r, struct writer *w)
{
    struct heartbeat_ack m = {.chain = r->members->chain,
                              .epoch = r->members->epoch,
                              .term = r->term,
                              .voter = r->self,
                              .committed = r->tip_height,
                              .round = r->ack_round,
                              .elected = r->elected.known ? 1 : 0};
    heartbeat_ack_encode(w, &m);
    cert_sign_tail(r, LABEL_HEARTBEAT_ACK, w->data + 2, w->size - 2);
}

static void put_proposal(struct replica *r, struct writer *w)
{
    const struct block_slot *s = r->lead.slot;
    struct proposal_core *m = &r->scratch.proposal.core;
    m->term = r->term;
    m->leader = r->self;
    m->header = s->header;
    if ((m->has_election = !r->lead.committed_own))
        m->election = r->election;
    /* A block proposed again stands for itself (rule 3); any other shows its parent's certificate.
     */
    bool again = r->elected.has_m && sm3_equal(&s->hash, &r->elected.m.block);
    bool of_epoch =
        r->tip_height >= r->first_height || (r->has_tip_commit && rule_is_off(r, RULE_OFF_EPOCH));
    if ((m->has_parent_commit = !again && of_epoch))
        m->parent_commit = r->tip_commit;
    proposal_core_encode(w, m);
    AMI_CHECK(writer_ok(w));
    cert_sign_proposal(r, m, w->data + 2, w->size - 2);
    write_bytes(w, span_of(s->body, s->body_size));
}

static void put_qc(struct writer *w, const struct qc *qc)
{
    struct qc_announce m = {.cert = *qc};
    qc_announce_encode(w, &m);
}

static void put_fetch_blocks(struct replica *r, struct writer *w)
{
    struct fetch_blocks m = {.chain = r->members->chain,
                             .from_height = r->fetch.from,
                             .count_max = (uint32_t)(r->fetch.last - r->fetch.from + 1)};
    fetch_blocks_encode(w, &m);
}

static void put_fetch_body(struct replica *r, struct writer *w)
{
    struct fetch_body m = {.chain = r->members->chain, .block = r->wish.block};
    fetch_body_encode(w, &m);
}

static const enum message_type type_of[OUT_KINDS] = {
    [OUT_PREVOTE_REQUEST] = MSG_PREVOTE_REQUEST,
    [OUT_PREVOTE] = MSG_PREVOTE,
    [OUT_GRANT_REQUEST] = MSG_GRANT_REQUEST,
    [OUT_GRANT] = MSG_GRANT,
    [OUT_HEARTBEAT] = MSG_HEARTBEAT,
    [OUT_HEARTBEAT_ELECTED] = MSG_HEARTBEAT,
    [OUT_HEARTBEAT_ACK] = MSG_HEARTBEAT_ACK,
    [OUT_PROPOSAL] = MSG_PROPOSAL,
    [OUT_PREPARE] = MSG_VOTE,
    [OUT_COMMIT] = MSG_VOTE,
    [OUT_QC_PREPARE] = MSG_QC_ANNOUNCE,
    [OUT_QC_COMMIT] = MSG_QC_ANNOUNCE,
    [OUT_QC_TIP] = MSG_QC_ANNOUNCE,
    [OUT_TERM_PROOF] = MSG_TERM_PROOF,
    [OUT_FETCH_BLOCKS] = MSG_FETCH_BLOCKS,
    [OUT_FETCH_BODY] = MSG_FETCH_BODY,
};

/* Signed when they leave, with the term as it is then: that must be durable too. */
static bool shows_term(enum out_kind kind)
{
    return kind == OUT_PREVOTE_REQUEST || kind == OUT_GRANT_REQUEST || kind == OUT_HEARTBEAT ||
           kind == OUT_HEARTBEAT_ELECTED || kind == OUT_HEARTBEAT_ACK;
}

/* A vote below the tip decides nothing any more, and its block may have been forgotten. */
static bool is_open(const struct replica *r, const struct vote *v)
{
    return v->height > r->tip_height ||
           (v->height == r->tip_height && sm3_equal(&v->block, &r->tip));
}

/* False: the moment for such a message has passed. */
static bool put_frame(struct replica *r, enum out_kind kind, struct writer *w)
{
    struct term_proof proof;
    frame_begin(w, type_of[kind]);
    switch (kind) {
    case OUT_PREVOTE_REQUEST:
        if (r->role != REPLICA_PRECANDIDATE)
            return false;
        put_prevote_request(r, w);
        return true;
    case OUT_PREVOTE:
        prevote_encode(w, &r->prevote_out);
        return true;
    case OUT_GRANT_REQUEST:
        if (r->role != REPLICA_CANDIDATE)
            return false;
        put_grant_request(r, w);
        return true;
    case OUT_GRANT:
        grant_encode(w, &r->granted);
        return r->has_granted;
    case OUT_HEARTBEAT:
    case OUT_HEARTBEAT_ELECTED:
        if (!leads(r))
            return false;
        put_heartbeat(r, w, kind == OUT_HEARTBEAT_ELECTED);
        return true;
    case OUT_HEARTBEAT_ACK:
        put_heartbeat_ack(r, w);
        return true;
    case OUT_PROPOSAL:
        if (!leads(r) || r->lead.slot == NULL)
            return false;
        put_proposal(r, w);
        return true;
    case OUT_PREPARE:
        vote_encode(w, &r->prepare);
        return r->prepare.term == r->term && is_open(r, &r->prepare);
    case OUT_COMMIT:
        vote_encode(w, &r->commit);
        return (r->commit.term == r->term && is_open(r, &r->commit)) ||
               rule_is_off(r, RULE_OFF_COMMIT_TERM);
    case OUT_QC_PREPARE:
        put_qc(w, &r->lead.prepare_qc);
        return leads(r);
    case OUT_QC_COMMIT:
        put_qc(w, &r->lead.commit_qc);
        return true;
    case OUT_QC_TIP:
        put_qc(w, &r->tip_commit);
        return r->has_tip_commit;
    case OUT_TERM_PROOF:
        if (!election_term_proof(r, &proof))
            return false;
        term_proof_encode(w, &proof);
        return true;
    case OUT_FETCH_BLOCKS:
        put_fetch_blocks(r, w);
        return r->fetch.asked;
    case OUT_FETCH_BODY:
        put_fetch_body(r, w);
        return r->wish.active;
    case OUT_KINDS:
        break;
    }
    return false;
}

void outbox_flush(struct replica *r)
{
    struct effects *fx = r->fx;
    for (unsigned k = 0; k < OUT_KINDS; k++) {
        enum out_kind kind = (enum out_kind)k;
        if (r->out[kind].to == 0 || r->out[kind].ticket > r->durable)
            continue;
        if (shows_term(kind) && r->term_ticket > r->durable)
            continue;
        struct writer w = writer_on(fx->arena + fx->arena_used, sizeof fx->arena - fx->arena_used);
        if (put_frame(r, kind, &w)) {
            AMI_CHECK(writer_ok(&w) && fx->send_count < EFFECTS_SENDS_MAX);
            fx->send[fx->send_count].to = r->out[kind].to;
            fx->send[fx->send_count].type = type_of[kind];
            fx->send[fx->send_count].frame = writer_span(&w);
            fx->send_count++;
            fx->arena_used += w.size;
        }
        outbox_clear(r, kind);
    }
}
