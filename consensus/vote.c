/* consensus/vote.c - rules 5 and 6: proposals judged, prepare and commit votes cast.
 *
 * A proposal passes: signature -> the leader's election certificate -> rules 3 and 4 (what it may
 * extend) -> the caller's check of the block (Algorithm 2's and the state root) -> a prepare vote,
 * written together with the block's body, then sent. A prepare certificate for it raises highQC and
 * makes a commit vote, written, then sent. A vote that was cast once for a slot is sent again as it
 * is, never signed anew.
 */
#include "consensus/internal.h"

#include <string.h>

/* (term, height) of votes of one kind only rise; the same vote may be asked for again. */
enum slot_order { SLOT_NEW, SLOT_SAME, SLOT_CLOSED };

static enum slot_order slot_order(bool has, const struct vote *last, uint64_t term, uint64_t height,
                                  const sm3_digest *block)
{
    if (!has || term > last->term || (term == last->term && height > last->height))
        return SLOT_NEW;
    if (term == last->term && height == last->height && sm3_equal(block, &last->block))
        return SLOT_SAME;
    return SLOT_CLOSED;
}

static struct vote make_vote(struct replica *r, enum vote_kind kind, uint64_t term, uint64_t height,
                             const sm3_digest *block)
{
    struct vote v = {.kind = (uint8_t)kind,
                     .chain = r->members->chain,
                     .epoch = r->members->epoch,
                     .term = term,
                     .height = height,
                     .block = *block,
                     .voter = r->self};
    uint8_t random[SM2_WIDE_BYTES];
    replica_draw(r, random);
    vote_sign(&v, r->key, random);
    return v;
}

static void send_vote(struct replica *r, enum out_kind kind, uint64_t ticket)
{
    r->votes_sent_us = r->now_us;
    if (r->elected.known && r->elected.leader != r->self)
        outbox_post(r, kind, bit_of(r->elected.leader), ticket);
}

static bool wants_keeping(const struct replica *r, const struct block_slot *s)
{
    return s != NULL && !s->stored && s != r->write.body;
}

/* One body goes with a write, and again with the next when it fails. False: another one is on its
 * way, and a vote for this block would leave without its body. */
bool vote_has_room(const struct replica *r, const struct block_slot *s)
{
    return !wants_keeping(r, s) || r->keep == s || (r->keep == NULL && r->write.body == NULL);
}

/* Rule 5, once everything about the block is known to be right. `s` NULL: it is applied already, so
 * its body is in the ledger. There is room. False: another vote stands in this slot, or this node
 * may not vote now. */
bool vote_prepare(struct replica *r, const struct block_slot *s, uint64_t height,
                  const sm3_digest *hash)
{
    AMI_CHECK(vote_has_room(r, s));
    if (!may_vote(r))
        return false;
    enum slot_order order = slot_order(r->has_prepare, &r->prepare, r->term, height, hash);
    if (order == SLOT_CLOSED && rule_is_off(r, RULE_OFF_MONOTONE))
        order = SLOT_NEW;
    if (order == SLOT_CLOSED)
        return false;
    if (order == SLOT_NEW) {
        r->prepare = make_vote(r, VOTE_PREPARE, r->term, height, hash);
        r->has_prepare = true;
        outbox_clear(r, OUT_PREPARE);
        record_changed(r, &r->prepare_ticket);
    }
    if (wants_keeping(r, s))
        r->keep = &r->slot[s - r->slot];
    send_vote(r, OUT_PREPARE, r->prepare_ticket);
    return true;
}

/* Rule 6. The body must be on the disk, or go there no later than the vote. */
static void vote_commit(struct replica *r)
{
    const struct qc *qc = &r->high;
    bool applied = qc->height == r->tip_height && sm3_equal(&qc->block, &r->tip);
    struct block_slot *s = applied ? NULL : blocks_find(r, &qc->block);
    if (!applied && (s == NULL || !s->valid || !vote_has_room(r, s)))
        return;
    enum slot_order order = slot_order(r->has_commit, &r->commit, qc->term, qc->height, &qc->block);
    if (order != SLOT_NEW)
        return;
    r->commit = make_vote(r, VOTE_COMMIT, qc->term, qc->height, &qc->block);
    r->has_commit = true;
    outbox_clear(r, OUT_COMMIT);
    record_changed(r, &r->commit_ticket);
    if (wants_keeping(r, s))
        r->keep = s;
    send_vote(r, OUT_COMMIT, r->commit_ticket);
    if (qc->term != r->term) /* RULE_OFF_COMMIT_TERM: wherever that term's leader is */
        outbox_post(r, OUT_COMMIT, all_others(r), r->commit_ticket);
}

void vote_again(struct replica *r)
{
    if (r->now_us < r->votes_sent_us + 2 * r->heartbeat_us)
        return;
    if (r->has_prepare && r->prepare.term == r->term && r->prepare.height > r->tip_height)
        send_vote(r, OUT_PREPARE, r->prepare_ticket);
    if (r->has_commit && r->commit.term == r->term && r->commit.height > r->tip_height)
        send_vote(r, OUT_COMMIT, r->commit_ticket);
}

/* --- proposals ------------------------------------------------------------------------------- */

/* Rules 3 and 4: may this leader propose this block in this term? The caller has checked the
 * election certificate, which is where M comes from. */
static enum ami_status check_lineage(struct replica *r, const struct proposal_core *p,
                                     const sm3_digest *hash)
{
    const struct block_header *h = &p->header;
    const struct qc *m = r->elected.has_m ? &r->elected.m : NULL;
    if (m != NULL && sm3_equal(hash, &m->block))
        return AMI_OK; /* M's block again, the same bytes */
    if (h->term != p->term || h->proposer != p->leader)
        return AMI_BAD_PARENT; /* a block of another term, and not M's */
    if (rule_is_off(r, RULE_OFF_BOUND) && h->height == r->tip_height + 1)
        return AMI_OK;
    if (m == NULL && h->height == r->first_height) {
        /* On the epoch's first parent, which is this node's tip or lies below it. */
        bool next = r->tip_height + 1 == h->height;
        return !next || sm3_equal(&h->previous, &r->tip) ? AMI_OK : AMI_BAD_PARENT;
    }
    bool extends_m = m != NULL && sm3_equal(&h->previous, &m->block);
    if (extends_m && rule_is_off(r, RULE_OFF_PARENT_COMMIT))
        return AMI_OK;
    if (!p->has_parent_commit)
        return AMI_BAD_CERTIFICATE;
    const struct qc *c = &p->parent_commit;
    if (!cert_commits(r, c) || c->height + 1 != h->height || !sm3_equal(&c->block, &h->previous))
        return AMI_BAD_CERTIFICATE;
    AMI_TRY(cert_check_qc(r, c));
    election_learn_qc(r, c);
    commit_learn(r, c, p->leader);
    if (c->term == p->term || extends_m || rule_is_off(r, RULE_OFF_PARENT))
        return AMI_OK;
    return AMI_BAD_PARENT;
}

static enum ami_status check_header(const struct replica *r, const struct block_header *h,
                                    uint64_t term)
{
    if (!sm3_equal(&h->chain, &r->members->chain))
        return AMI_WRONG_CHAIN;
    if (h->epoch != r->members->epoch || !sm3_equal(&h->members, &r->members->hash))
        return AMI_WRONG_EPOCH;
    if (h->version != 1 || h->height < r->first_height || h->term > term || h->proposer >= r->n)
        return AMI_BAD_ARGUMENT;
    return AMI_OK;
}

/* A proposal that may be made: keep it until the tip is its parent, then judge the block. */
static void take_proposal(struct replica *r, const struct proposal *p, const sm3_digest *hash)
{
    const struct block_header *h = &p->core.header;
    if (h->height == r->tip_height && sm3_equal(hash, &r->tip)) {
        /* Applied already: no second judgement, and the leader learns that it is committed. */
        if (rule_is_off(r, RULE_OFF_VOTE_APPLIED))
            return;
        vote_prepare(r, NULL, h->height, hash);
        outbox_post(r, OUT_QC_TIP, bit_of(p->core.leader), 0);
        return;
    }
    if (h->height <= r->tip_height)
        return;
    if (h->height > r->tip_height + 1)
        catchup_target(r, h->height - 1, p->core.leader);
    if (r->prop.slot != NULL && r->prop.term == p->core.term &&
        r->prop.slot->header.height >= h->height && blocks_follows_tip(r, r->prop.slot) &&
        !sm3_equal(&r->prop.slot->hash, hash) && !rule_is_off(r, RULE_OFF_MONOTONE))
        return; /* the first proposal for a slot is the one judged */
    if (r->prop.slot != NULL && r->prop.term == p->core.term &&
        sm3_equal(&r->prop.slot->hash, hash))
        return; /* the same again; vote_advance answers it */
    struct block_slot *s = blocks_put(r, p->core.leader, h, hash, p->body);
    if (s == NULL)
        return; /* the leader repeats it */
    r->prop.slot = s;
    r->prop.term = p->core.term;
    r->prop.fresh = h->term == p->core.term;
    r->prop.received_wall_ms = r->wall_ms;
}

void vote_on_proposal(struct replica *r, uint8_t from, struct span body)
{
    struct proposal *p = &r->scratch.proposal;
    struct reader in = reader_on(body);
    proposal_core_decode(&in, &p->core);
    struct span core = span_of(body.data, in.at);
    p->body = read_bytes(&in, r->body_max);
    if (!reader_done(&in) || p->core.leader != from ||
        !cert_same_chain(r, &p->core.header.chain, p->core.header.epoch) ||
        cert_check_proposal(r, &p->core, core) != AMI_OK)
        return;
    contact_heard(r, from);
    seen_proposal(r, &p->core, core);
    if (p->core.term < r->term) {
        outbox_post(r, OUT_TERM_PROOF, bit_of(from), 0);
        return;
    }
    if (p->core.has_election && election_learn(r, &p->core.election, p->core.term, from) != AMI_OK)
        return;
    if (p->core.term != r->term || !r->elected.known || r->elected.leader != from)
        return; /* the next heartbeat brings the election certificate */
    election_contact(r);
    sm3_digest hash = block_hash(&p->core.header);
    enum ami_status status = check_header(r, &p->core.header, p->core.term);
    if (status == AMI_OK)
        status = check_lineage(r, &p->core, &hash);
    if (status != AMI_OK) {
        replica_note(r, REPLICA_NOTE_REFUSED, from, p->core.header.height, status);
        return;
    }
    if (p->core.term != r->term)
        return; /* the parent's certificate showed a newer term */
    take_proposal(r, p, &hash);
    if (r->has_prepare && r->prepare.term == r->term && r->prepare.height > r->tip_height &&
        sm3_equal(&r->prepare.block, &hash))
        send_vote(r, OUT_PREPARE, r->prepare_ticket);
}

/* --- going on -------------------------------------------------------------------------------- */

static void advance_proposal(struct replica *r)
{
    struct block_slot *s = r->prop.slot;
    if (s == NULL)
        return;
    if (s->header.height <= r->tip_height) {
        r->prop.slot = NULL;
        return;
    }
    if (r->prop.term != r->term || !blocks_follows_tip(r, s) || r->committing != NULL)
        return;
    if (!s->valid) {
        bool certified = r->has_high && sm3_equal(&s->hash, &r->high.block);
        blocks_check(r, s, r->prop.fresh && !certified, certified);
        return;
    }
    bool voted =
        r->has_prepare && r->prepare.term == r->term && sm3_equal(&r->prepare.block, &s->hash);
    if (!voted && vote_has_room(r, s))
        vote_prepare(r, s, s->header.height, &s->hash);
}

static void advance_commit_vote(struct replica *r)
{
    if (!may_vote(r) || !r->has_high || r->high.kind != VOTE_PREPARE)
        return;
    if (r->high.term != r->term && !rule_is_off(r, RULE_OFF_COMMIT_TERM))
        return;
    struct block_slot *s = r->high.height > r->tip_height ? blocks_find(r, &r->high.block) : NULL;
    r->high_slot = s;
    if (s != NULL && !s->valid && r->high.term == r->term)
        blocks_check(r, s, false, true);
    /* Started anew since its prepare vote: the leader, which has that vote, shows the block no
     * more. */
    if (s == NULL && r->high.term == r->term && r->high.height == r->tip_height + 1)
        catchup_wish(r, &r->high.block, r->high.signers);
    vote_commit(r);
}

void vote_advance(struct replica *r)
{
    advance_proposal(r);
    advance_commit_vote(r);
}
