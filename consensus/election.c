/* consensus/election.c - rules 1 and 2: the timer, pre-votes, terms, grants.
 *
 * A node whose timer has expired waits for its slot in the order drawn for the next term, asks for
 * pre-votes of that term (PRECANDIDATE), makes a certificate of q of them, which is what allows
 * anybody to enter the term, and asks for grants with it (CANDIDATE); q grants make it the leader.
 * Terms rise one by one: nobody answers a request for t+1 before it was shown that t was reached.
 */
#include "consensus/internal.h"

#include <string.h>

/* Factor on slots after so many failed attempts. */
static const uint8_t backoff[BACKOFF_STEPS] = {1, 1, 2, 2, 3, 4, 6, 8};

uint64_t election_backoff_us(const struct replica *r)
{
    unsigned step = r->attempts < BACKOFF_STEPS ? r->attempts : BACKOFF_STEPS - 1;
    return r->slot_us * backoff[step];
}

/* The order in which members ask for pre-votes of the next term: by a hash that all can compute.
 * Every live node may have to choose the same candidate (n - f of them are just enough), so that
 * two that ask at once would split them. */
static void draw_ranks(struct replica *r)
{
    sm3_digest h[AMI_MEMBERS_MAX];
    uint8_t epoch[4], term[8];
    store_be32(epoch, r->members->epoch);
    store_be64(term, r->term + 1);
    for (uint8_t i = 0; i < r->n; i++) {
        struct span parts[4] = {span_of(r->members->chain.b, SM3_BYTES), span_of(epoch, 4),
                                span_of(term, 8), span_of(&i, 1)};
        h[i] = sm3_labelled("amiledger slot v1", parts, 4);
    }
    for (uint8_t i = 0; i < r->n; i++) {
        r->rank[i] = 0;
        for (uint8_t j = 0; j < r->n; j++)
            if (memcmp(h[j].b, h[i].b, SM3_BYTES) < 0)
                r->rank[i]++;
        if (rule_is_off(r, RULE_OFF_SLOTS))
            r->rank[i] = 0;
    }
}

static uint64_t own_slot(struct replica *r, uint64_t base_us)
{
    if (!r->may_sign)
        return base_us; /* it never asks, and may be no member that has a rank */
    uint64_t slot_us = election_backoff_us(r);
    uint64_t jitter_us = rule_is_off(r, RULE_OFF_SLOTS) ? r->timeout_us : slot_us / 4;
    return base_us + r->rank[r->self] * slot_us + replica_jitter(r, jitter_us + 1);
}

void election_set_timer(struct replica *r, uint64_t at_us)
{
    r->timer_us = at_us;
    if (!r->progress_expired)
        r->ask_us = own_slot(r, at_us > r->now_us ? at_us : r->now_us);
}

void election_start(struct replica *r)
{
    draw_ranks(r);
    r->role = REPLICA_FOLLOWER;
    r->prevoted_for = NOBODY;
    /* An epoch that just begins has no leader whom anybody could depose. */
    bool begins = r->first_height > 1 && r->tip_height + 1 == r->first_height && r->term == 0;
    election_set_timer(r, begins ? r->now_us : r->now_us + r->timeout_us);
}

/* Stickiness: while this is false the node helps nobody to a new term. A leader has no timer. */
bool election_expired(const struct replica *r)
{
    if (rule_is_off(r, RULE_OFF_PREVOTE))
        return true;
    return r->progress_expired || (!leads(r) && r->now_us >= r->timer_us);
}

void election_contact(struct replica *r)
{
    election_set_timer(r, r->now_us + r->timeout_us);
    if (r->progress_expired)
        return; /* rule 8: heartbeats alone satisfy nobody whose transaction waits */
    r->askers = 0;
    if (r->role == REPLICA_PRECANDIDATE)
        r->role = REPLICA_FOLLOWER;
}

void election_progress(struct replica *r, bool expired)
{
    if (rule_is_off(r, RULE_OFF_PROGRESS))
        return;
    if (expired && !r->progress_expired && r->now_us < r->timer_us)
        r->ask_us = own_slot(r, r->now_us);
    r->progress_expired = expired;
    if (!expired && r->now_us < r->timer_us)
        election_set_timer(r, r->timer_us);
}

/* Everybody else has a slot before this node is in the running again, and their timers have to run
 * out first. */
void election_step_down(struct replica *r)
{
    if (!leads(r))
        return;
    lead_stop(r, AMI_OK, true);
    r->ask_us = r->now_us + 2 * r->timeout_us + r->n * election_backoff_us(r);
}

/* --- terms ----------------------------------------------------------------------------------- */

/* Enters a term that is proved to have been reached (cert NULL: by a certificate of votes, which is
 * highQC by then). Whatever was going on in the old term ends. */
void election_adopt(struct replica *r, uint64_t term, const struct prevote_cert *cert)
{
    if (cert != NULL && cert->term == r->term && !r->has_term_cert) {
        r->term_cert = *cert;
        r->has_term_cert = true;
        record_changed(r, &r->term_ticket);
    }
    if (term <= r->term)
        return;
    if (leads(r))
        lead_stop(r, AMI_OK, false);
    bool was_expired = election_expired(r);
    leaders_term_ends(r);
    r->role = REPLICA_FOLLOWER;
    r->term = term;
    r->has_term_cert = cert != NULL;
    if (cert != NULL)
        r->term_cert = *cert;
    r->has_granted = false;
    r->elected.known = false;
    outbox_clear(r, OUT_PREPARE); /* no vote of any kind in an older term leaves any more */
    outbox_clear(r, OUT_COMMIT);
    outbox_clear(r, OUT_GRANT);
    outbox_clear(r, OUT_PREVOTE);
    r->prop.slot = NULL;
    r->askers = 0;
    r->prevoted_for = NOBODY;
    r->progress_expired = false;
    r->attempts++; /* until a block is committed, every election makes the slots longer */
    draw_ranks(r);
    if (was_expired)
        election_set_timer(r, r->timer_us < r->now_us ? r->timer_us : r->now_us);
    else
        election_set_timer(r, r->timer_us);
    record_changed(r, &r->term_ticket);
    replica_note(r, REPLICA_NOTE_TERM, NOBODY, r->tip_height, AMI_OK);
}

/* Raises highQC, and the term with it: votes cast in a term prove it. */
void election_learn_qc(struct replica *r, const struct qc *qc)
{
    seen_qc(r, qc, true);
    if (!r->has_high || cert_compare(qc, &r->high) > 0) {
        r->high = *qc;
        r->has_high = true;
        r->high_slot = qc->height > r->tip_height ? blocks_find(r, &qc->block) : NULL;
        uint64_t ticket;
        record_changed(r, &ticket);
    }
    if (qc->term > r->term)
        election_adopt(r, qc->term, NULL);
}

bool election_term_proof(const struct replica *r, struct term_proof *out)
{
    out->has_prevotes = r->has_term_cert;
    if (r->has_term_cert)
        out->prevotes = r->term_cert;
    out->has_votes = !r->has_term_cert && r->has_high && r->high.term == r->term;
    if (out->has_votes)
        out->votes = r->high;
    return out->has_prevotes || out->has_votes;
}

/* What a proof shows; 0: nothing, or it is not valid. */
static uint64_t proved_term(const struct replica *r, const struct term_proof *p)
{
    uint64_t term = 0;
    if (p->has_prevotes) {
        if (cert_check_prevotes(r, &p->prevotes) != AMI_OK)
            return 0;
        term = p->prevotes.term;
    }
    if (p->has_votes) {
        if (cert_check_qc(r, &p->votes) != AMI_OK)
            return 0;
        if (p->votes.term > term)
            term = p->votes.term;
    }
    return term;
}

static void learn_proof(struct replica *r, const struct term_proof *p, uint8_t from)
{
    if (p->has_prevotes)
        election_adopt(r, p->prevotes.term, &p->prevotes);
    if (p->has_votes) {
        election_learn_qc(r, &p->votes);
        commit_learn(r, &p->votes, from);
    }
}

void election_on_term_proof(struct replica *r, uint8_t from, struct span body)
{
    struct term_proof p;
    if (term_proof_parse(&p, body) != AMI_OK || proved_term(r, &p) == 0)
        return;
    contact_heard(r, from);
    learn_proof(r, &p, from);
}

/* --- pre-votes ------------------------------------------------------------------------------- */

static bool is_exclusive(const struct replica *r, uint8_t candidate)
{
    /* A pre-vote binds nobody for long; but two candidates at once would split the grants. */
    return r->prevoted_for != NOBODY && r->prevoted_for != candidate &&
           r->now_us < r->prevoted_until_us && leaders_holds(r, r->prevoted_for, candidate);
}

/* The best of those who asked and may have a pre-vote; the others are forgotten. */
static uint8_t take_asker(struct replica *r)
{
    uint8_t best = NOBODY;
    for (uint8_t i = 0; i < r->n; i++)
        if ((r->askers & bit_of(i)) != 0 && !leaders_passed_over(r, i) &&
            (best == NOBODY || leaders_precedes(r, i, best)))
            best = i;
    r->askers = 0;
    return best;
}

/* The own turn is over, in vain or unused. */
static void turn_over(struct replica *r)
{
    leaders_turn_lost(r);
    uint64_t base_us = r->now_us + election_backoff_us(r);
    r->ask_us = own_slot(r, base_us > r->timer_us ? base_us : r->timer_us);
}

static void give_up_attempt(struct replica *r)
{
    outbox_clear(r, OUT_PREVOTE_REQUEST);
    outbox_clear(r, OUT_GRANT_REQUEST);
    r->role = REPLICA_FOLLOWER;
    r->attempts++;
    r->prevoted_for = NOBODY;
    turn_over(r);
}

/* Answers the best of those who asked for term + 1, once the own timer has expired. */
static void answer_askers(struct replica *r)
{
    if (r->askers == 0 || !may_vote(r) || !election_expired(r) || r->role == REPLICA_CANDIDATE)
        return;
    uint8_t best = take_asker(r);
    if (best == NOBODY || is_exclusive(r, best))
        return;
    if (best == r->prevoted_for && r->now_us < r->prevoted_until_us &&
        !rule_is_off(r, RULE_OFF_BAD_LEADERS)) {
        outbox_post(r, OUT_PREVOTE, bit_of(best), r->term_ticket); /* the same turn still */
        return;
    }
    if (r->role == REPLICA_PRECANDIDATE)
        give_up_attempt(r);
    r->prevoted_for = best;
    r->prevoted_until_us = r->now_us + election_backoff_us(r);
    uint64_t later_us = r->prevoted_until_us + replica_jitter(r, r->slot_us / 4 + 1);
    if (r->ask_us < later_us && leaders_is_fair(r, best))
        r->ask_us = later_us; /* who asks again and again does not keep this node from asking */
    leaders_takes(r, best);
    r->prevote_out = (struct prevote){.chain = r->members->chain,
                                      .epoch = r->members->epoch,
                                      .term = r->term + 1,
                                      .candidate = best,
                                      .voter = r->self};
    cert_sign_prevote(r, &r->prevote_out);
    outbox_clear(r, OUT_PREVOTE);
    outbox_post(r, OUT_PREVOTE, bit_of(best), r->term_ticket);
}

void election_on_prevote_request(struct replica *r, uint8_t from, struct span body)
{
    struct prevote_request *req = &r->scratch.prevote_request;
    if (prevote_request_parse(req, body) != AMI_OK || req->candidate != from || req->term == 0)
        return;
    if (!cert_same_chain(r, &req->chain, req->epoch) ||
        cert_check_tail(r, from, LABEL_PREVOTE_REQUEST, body) != AMI_OK)
        return;
    contact_heard(r, from);
    if (req->term <= r->term) {
        outbox_post(r, OUT_TERM_PROOF, bit_of(from), 0);
        return;
    }
    if (req->term > 1) {
        if (proved_term(r, &req->proof) != req->term - 1)
            return;
        learn_proof(r, &req->proof, from);
    }
    if (req->term != r->term + 1)
        return;
    r->askers |= bit_of(from);
    leaders_asks(r, from);
    /* Who asks although the leader is heard here may not hear it, and learns of commits from us. */
    if (!election_expired(r) && r->has_tip_commit)
        outbox_post(r, OUT_QC_TIP, bit_of(from), 0);
}

static void become_candidate(struct replica *r);

static void add_prevote(struct replica *r, uint8_t voter, const sm2_signature *sig)
{
    r->prevotes_mask |= bit_of(voter);
    r->prevote_sig[voter] = *sig;
    if ((unsigned)__builtin_popcount(r->prevotes_mask) >= r->q)
        become_candidate(r);
}

static void start_prevote(struct replica *r)
{
    replica_note(r, REPLICA_NOTE_ELECTION, r->self, r->tip_height, AMI_OK);
    r->role = REPLICA_PRECANDIDATE;
    r->prevotes_mask = 0;
    r->attempt_end_us = r->now_us + election_backoff_us(r);
    r->attempt_retry_us = r->now_us + r->slot_us / 2;
    r->prevoted_for = r->self;
    r->prevoted_until_us = r->attempt_end_us;
    leaders_asks(r, r->self);
    leaders_takes(r, r->self);
    struct prevote own = {.chain = r->members->chain,
                          .epoch = r->members->epoch,
                          .term = r->term + 1,
                          .candidate = r->self,
                          .voter = r->self};
    cert_sign_prevote(r, &own);
    outbox_post(r, OUT_PREVOTE_REQUEST, all_others(r), r->term_ticket);
    add_prevote(r, r->self, &own.signature);
}

void election_on_prevote(struct replica *r, uint8_t from, struct span body)
{
    struct prevote p;
    if (prevote_parse(&p, body) != AMI_OK || p.voter != from)
        return;
    if (r->role != REPLICA_PRECANDIDATE || !may_vote(r) || p.term != r->term + 1 ||
        p.candidate != r->self || (r->prevotes_mask & bit_of(from)) != 0)
        return;
    if (cert_check_prevote(r, &p) != AMI_OK)
        return;
    contact_heard(r, from);
    add_prevote(r, from, &p.signature);
}

/* --- grants ---------------------------------------------------------------------------------- */

/* Rule 2. `term` is greater than the own term and the caller has checked the certificate. */
static void give_grant(struct replica *r, uint8_t candidate, const struct prevote_cert *cert)
{
    AMI_CHECK(r->may_sign && cert->term > r->term && cert->candidate == candidate);
    election_adopt(r, cert->term, cert);
    memset(&r->granted, 0, sizeof r->granted);
    r->granted.chain = r->members->chain;
    r->granted.epoch = r->members->epoch;
    r->granted.term = r->term;
    r->granted.candidate = candidate;
    r->granted.voter = r->self;
    r->granted.has_high = r->has_high && !rule_is_off(r, RULE_OFF_GRANT_HIGH);
    if (r->granted.has_high)
        r->granted.high = r->high;
    AMI_CHECK(!r->has_high || r->high.term < r->term);
    cert_sign_grant(r, &r->granted);
    r->has_granted = true;
    record_changed(r, &r->grant_ticket);
    election_set_timer(r, r->now_us + r->timeout_us); /* the new leader has time to be heard */
    replica_note(r, REPLICA_NOTE_GRANTED, candidate, r->tip_height, AMI_OK);
}

static void become_candidate(struct replica *r)
{
    struct prevote_cert cert = {.chain = r->members->chain,
                                .epoch = r->members->epoch,
                                .term = r->term + 1,
                                .candidate = r->self,
                                .signers = r->prevotes_mask};
    for (uint8_t i = 0; i < r->n; i++)
        if ((r->prevotes_mask & bit_of(i)) != 0)
            cert.signatures[cert.signatures_count++] = r->prevote_sig[i];
    give_grant(r, r->self, &cert);
    r->role = REPLICA_CANDIDATE;
    r->grants_mask = 0;
    r->election.prevotes = cert;
    r->election.grants_count = 0;
    r->attempt_end_us = r->now_us + election_backoff_us(r);
    r->attempt_retry_us = r->now_us + r->slot_us / 2;
    outbox_post(r, OUT_GRANT_REQUEST, all_others(r), 0);
}

void election_on_grant_request(struct replica *r, uint8_t from, struct span body)
{
    struct grant_request req;
    if (grant_request_parse(&req, body) != AMI_OK || req.candidate != from ||
        req.cert.candidate != from || req.cert.term != req.term)
        return;
    if (!cert_same_chain(r, &req.chain, req.epoch) ||
        cert_check_tail(r, from, LABEL_GRANT_REQUEST, body) != AMI_OK)
        return;
    contact_heard(r, from);
    if (req.term < r->term) {
        outbox_post(r, OUT_TERM_PROOF, bit_of(from), 0);
        return;
    }
    if (req.term == r->term) { /* asked again: the same grant, or none */
        if (r->has_granted && r->granted.candidate == from)
            outbox_post(r, OUT_GRANT, bit_of(from), r->grant_ticket);
        return;
    }
    if (!may_vote(r) || !election_expired(r) || cert_check_prevotes(r, &req.cert) != AMI_OK)
        return;
    give_grant(r, from, &req.cert);
    outbox_clear(r, OUT_GRANT);
    outbox_post(r, OUT_GRANT, bit_of(from), r->grant_ticket);
}

static void add_grant(struct replica *r, const struct grant *g)
{
    r->grants_mask |= bit_of(g->voter);
    r->election.grants[r->election.grants_count++] = *g;
    if (r->election.grants_count < r->q || (r->grants_mask & bit_of(r->self)) == 0)
        return;
    lead_start(r);
}

void election_on_grant(struct replica *r, uint8_t from, struct span body)
{
    struct grant g;
    if (grant_parse(&g, body) != AMI_OK || g.voter != from)
        return;
    seen_grant(r, &g, false);
    if (r->role != REPLICA_CANDIDATE || g.term != r->term || g.candidate != r->self ||
        (r->grants_mask & bit_of(from)) != 0)
        return;
    if (cert_check_grant(r, &g) != AMI_OK)
        return;
    contact_heard(r, from);
    seen_grant(r, &g, true);
    add_grant(r, &g);
}

/* A leader shows its election certificate. The first one that a node sees in a term counts: it
 * binds the leader to its M. */
enum ami_status election_learn(struct replica *r, const struct election_cert *c, uint64_t term,
                               uint8_t leader)
{
    seen_election(r, c, false);
    if (c->prevotes.term != term || c->prevotes.candidate != leader || term < r->term)
        return AMI_BAD_CERTIFICATE;
    if (term == r->term && r->elected.known)
        return r->elected.leader == leader ? AMI_OK : AMI_EQUIVOCATION;
    AMI_TRY(cert_check_election(r, c));
    seen_election(r, c, true);
    election_adopt(r, term, &c->prevotes);
    if (leads(r))
        return AMI_EQUIVOCATION; /* two leaders of a term: more than f members lie */
    r->role = REPLICA_FOLLOWER;
    r->elected.known = true;
    r->elected.leader = leader;
    r->elected.since_us = r->now_us;
    const struct qc *m = cert_highest(c);
    r->elected.has_m = m != NULL;
    if (m != NULL) {
        r->elected.m = *m;
        election_learn_qc(r, m);
        commit_learn(r, m, leader);
    }
    r->progress_expired = false;
    replica_note(r, REPLICA_NOTE_LEADER, leader, r->tip_height, AMI_OK);
    return AMI_OK;
}

/* --- time ------------------------------------------------------------------------------------ */

static void attempt_retry(struct replica *r)
{
    r->attempt_retry_us = r->now_us + r->slot_us / 2;
    if (r->role == REPLICA_PRECANDIDATE)
        outbox_post(r, OUT_PREVOTE_REQUEST, all_others(r) & ~r->prevotes_mask, r->term_ticket);
    else
        outbox_post(r, OUT_GRANT_REQUEST, all_others(r) & ~r->grants_mask, 0);
}

static bool attempts(const struct replica *r)
{
    return r->role == REPLICA_PRECANDIDATE || r->role == REPLICA_CANDIDATE;
}

static bool may_ask(const struct replica *r)
{
    bool proof = r->has_term_cert || (r->has_high && r->high.term == r->term);
    bool more = r->term < UINT64_MAX - 1; /* where only forged certificates could lead */
    return !r->disk_stalled && more && (r->term == 0 || proof);
}

void election_advance(struct replica *r)
{
    if (!r->may_sign)
        return;
    if (r->role == REPLICA_CANDIDATE && (r->grants_mask & bit_of(r->self)) == 0 &&
        r->durable >= r->grant_ticket)
        add_grant(r, &r->granted);
    answer_askers(r);
    if (attempts(r)) {
        if (r->now_us >= r->attempt_end_us)
            give_up_attempt(r);
        else if (r->now_us >= r->attempt_retry_us)
            attempt_retry(r);
    }
    if (r->role != REPLICA_FOLLOWER || !may_ask(r) || !election_expired(r) || r->now_us < r->ask_us)
        return;
    if (leaders_passed_over(r, r->self))
        turn_over(r);
    else
        start_prevote(r);
}

uint64_t election_deadline(const struct replica *r)
{
    if (!r->may_sign || leads(r))
        return UINT64_MAX;
    if (attempts(r))
        return r->attempt_end_us < r->attempt_retry_us ? r->attempt_end_us : r->attempt_retry_us;
    uint64_t at_us = may_ask(r) ? r->ask_us : UINT64_MAX;
    if (at_us <= r->now_us && !election_expired(r))
        at_us = r->timer_us;
    if (r->askers != 0 && r->timer_us > r->now_us && r->timer_us < at_us)
        at_us = r->timer_us;
    return at_us;
}
