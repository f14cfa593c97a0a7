/* consensus/propose.c - rules 3 and 4: a leader's work.
 *
 *   RECOVER --M's block proposed again------------------.
 *      | M's block is committed, or there is no M       |
 *      v                                                v
 *    IDLE --work--> BUILDING --block--> OWN --durable--> PREPARE --q votes--> COMMIT --q votes-->
 *      ^                                                                                  STORE
 *      '------------------------------- block durable, delivered ---------------------------'
 *
 * One block is in flight at a time. The proposal leaves only after the leader's own prepare vote
 * for it is durable, so that a leader that restarts cannot propose another block in that slot.
 */
#include "consensus/internal.h"

#include <string.h>

void lead_start(struct replica *r)
{
    r->role = REPLICA_LEADER;
    memset(&r->lead, 0, offsetof(struct replica, lead.prepare) - offsetof(struct replica, lead));
    r->lead.stage = LEAD_RECOVER;
    r->work = true; /* ask once; there may be nothing */
    r->lead.heartbeat_at_us = r->now_us;
    r->elected.known = true;
    r->elected.leader = r->self;
    r->elected.since_us = r->now_us;
    const struct qc *m = cert_highest(&r->election);
    r->elected.has_m = m != NULL;
    if (m != NULL)
        r->elected.m = *m;
    r->progress_expired = false;
    r->prop.slot = NULL;
    for (uint8_t i = 0; i < r->n; i++)
        contact_assume(r, i); /* each has a time-out to answer in */
    replica_note(r, REPLICA_NOTE_LEADER, r->self, r->tip_height, AMI_OK);
    if (m != NULL) {
        election_learn_qc(r, &r->elected.m);
        commit_learn(r, &r->elected.m, NOBODY);
    }
}

/* expired: this node wants an election at once; otherwise it gives the next leader time. */
void lead_stop(struct replica *r, enum ami_status why, bool expired)
{
    AMI_CHECK(leads(r));
    replica_note(r, REPLICA_NOTE_STEPPED_DOWN, r->self, r->tip_height, why);
    r->role = REPLICA_FOLLOWER;
    r->elected.known = false;
    r->lead.slot = NULL;
    r->wish.active = false;
    outbox_clear(r, OUT_HEARTBEAT);
    outbox_clear(r, OUT_HEARTBEAT_ELECTED);
    outbox_clear(r, OUT_PROPOSAL);
    election_set_timer(r, expired ? r->now_us : r->now_us + r->timeout_us);
}

/* --- what to propose ------------------------------------------------------------------------- */

/* Rule 3. Takes this block up and votes for it; false: another vote stands in its slot. */
static void take_up(struct replica *r, struct block_slot *s)
{
    AMI_CHECK(s->valid);
    if (!vote_prepare(r, s, s->header.height, &s->hash)) {
        lead_stop(r, AMI_EQUIVOCATION, true);
        return;
    }
    r->lead.slot = s;
    r->lead.prepare_mask = r->lead.commit_mask = 0;
    r->lead.stage = LEAD_OWN;
}

static void recover(struct replica *r)
{
    const struct qc *m = r->elected.has_m ? &r->elected.m : NULL;
    if (m == NULL || rule_is_off(r, RULE_OFF_BOUND)) {
        r->lead.stage = LEAD_IDLE;
        return;
    }
    if (rule_is_off(r, RULE_OFF_PARENT) && r->tip_height > 0 && !cert_commits(r, m)) {
        r->lead.stage = LEAD_IDLE;
        return;
    }
    if (r->tip_height >= m->height) {
        /* M's block, or with a certificate of a later commit than M: never, see docs/consensus.md
         */
        if (r->tip_height > m->height || !sm3_equal(&r->tip, &m->block))
            lead_stop(r, AMI_BAD_PARENT, true);
        else
            r->lead.stage = LEAD_IDLE;
        return;
    }
    if (m->height > r->tip_height + 1) {
        catchup_target(r, m->height - 1, NOBODY);
        return;
    }
    if (cert_commits(r, m) || r->committing != NULL)
        return; /* commit.c brings the tip there */
    struct block_slot *s = blocks_find(r, &m->block);
    if (s == NULL)
        catchup_wish(r, &m->block, m->signers);
    else if (!s->valid)
        blocks_check(r, s, false, true);
    else if (blocks_follows_tip(r, s) && vote_has_room(r, s))
        take_up(r, s);
}

/* Rule 4: the tip is M's block, or was committed in this term, or the chain begins here. */
static void ask_for_block(struct replica *r)
{
    if (!r->work || r->checking != NULL || r->committing != NULL || r->keep != NULL ||
        r->write.body != NULL)
        return;
    r->work = false; /* whatever comes from now on may be too late for this block */
    r->lead.stage = LEAD_BUILDING;
    r->build_ticket++;
    r->lead.build_new = true;
}

void lead_on_built(struct replica *r, uint64_t ticket, const struct block_header *h,
                   struct span body)
{
    if (!leads(r) || r->lead.stage != LEAD_BUILDING || ticket != r->build_ticket)
        return;
    r->lead.build_new = false;
    r->lead.stage = LEAD_IDLE;
    if (h == NULL)
        return;
    AMI_CHECK(h->height == r->tip_height + 1 && sm3_equal(&h->previous, &r->tip));
    AMI_CHECK(h->term == r->term && h->proposer == r->self && body.size <= r->body_max);
    sm3_digest hash = block_hash(h);
    struct block_slot *s = blocks_put(r, NOBODY, h, &hash, body);
    AMI_CHECK(s != NULL);
    s->valid = true;
    if (vote_has_room(r, s))
        take_up(r, s);
    else
        r->work = true; /* build again, a little later */
}

/* --- votes ----------------------------------------------------------------------------------- */

static void make_commit(struct replica *r)
{
    if (cert_make_qc(r, &r->lead.commit_qc, r->lead.commit, r->lead.commit_mask) != AMI_OK)
        return;
    r->lead.stage = LEAD_STORE;
    outbox_post(r, OUT_QC_COMMIT, all_others(r), 0);
    election_learn_qc(r, &r->lead.commit_qc);
    commit_learn(r, &r->lead.commit_qc, NOBODY);
}

static void make_prepare(struct replica *r)
{
    if (cert_make_qc(r, &r->lead.prepare_qc, r->lead.prepare, r->lead.prepare_mask) != AMI_OK)
        return;
    r->lead.stage = LEAD_COMMIT;
    r->lead.retry_step_us = r->slot_us;
    r->lead.retry_us = r->now_us + r->lead.retry_step_us;
    outbox_post(r, OUT_QC_PREPARE, all_others(r), 0);
    election_learn_qc(r, &r->lead.prepare_qc);
    commit_learn(r, &r->lead.prepare_qc, NOBODY);
}

static void add_vote(struct replica *r, const struct vote *v)
{
    if (v->kind == VOTE_PREPARE) {
        r->lead.prepare_mask |= bit_of(v->voter);
        r->lead.prepare[v->voter] = *v;
        if (r->lead.stage == LEAD_PREPARE)
            make_prepare(r);
    } else {
        r->lead.commit_mask |= bit_of(v->voter);
        r->lead.commit[v->voter] = *v;
        if (r->lead.stage == LEAD_COMMIT)
            make_commit(r);
    }
}

void lead_on_vote(struct replica *r, uint8_t from, struct span body)
{
    struct vote v;
    if (!leads(r) || r->lead.slot == NULL || vote_parse(&v, body) != AMI_OK || v.voter != from)
        return;
    const struct block_slot *s = r->lead.slot;
    if (v.term != r->term || v.height != s->header.height || r->lead.stage < LEAD_PREPARE ||
        r->lead.stage > LEAD_COMMIT)
        return;
    bool prepares = v.kind == VOTE_PREPARE;
    bool known = ((prepares ? r->lead.prepare_mask : r->lead.commit_mask) & bit_of(from)) != 0;
    if (known && sm3_equal(&v.block, &s->hash))
        return;
    if (vote_check(r->members, &v) != AMI_OK)
        return;
    contact_heard(r, from);
    seen_vote(r, &v);
    if (sm3_equal(&v.block, &s->hash))
        add_vote(r, &v);
}

/* The own votes count like all others: once they are durable. */
static void count_own(struct replica *r)
{
    if (r->lead.stage == LEAD_OWN && r->durable >= r->prepare_ticket) {
        AMI_CHECK(sm3_equal(&r->prepare.block, &r->lead.slot->hash));
        r->lead.stage = LEAD_PREPARE;
        r->lead.retry_step_us = r->slot_us;
        r->lead.retry_us = r->now_us + r->lead.retry_step_us;
        outbox_post(r, OUT_PROPOSAL, all_others(r), r->prepare_ticket);
        add_vote(r, &r->prepare);
    }
    if (r->lead.stage == LEAD_COMMIT && (r->lead.commit_mask & bit_of(r->self)) == 0 &&
        r->has_commit && r->commit.term == r->term && r->durable >= r->commit_ticket &&
        sm3_equal(&r->commit.block, &r->lead.slot->hash))
        add_vote(r, &r->commit);
}

/* --- going on -------------------------------------------------------------------------------- */

/* The block in flight may become the tip at any stage: another node may have had its certificate.
 */
static void see_tip(struct replica *r)
{
    const struct block_slot *s = r->lead.slot;
    if (s == NULL || r->tip_height < s->header.height)
        return;
    bool own = r->tip_height == s->header.height && sm3_equal(&r->tip, &s->hash);
    r->lead.slot = NULL;
    outbox_clear(r, OUT_PROPOSAL);
    if (!own) {
        lead_stop(r, AMI_BAD_PARENT, true);
        return;
    }
    r->lead.committed_own = true;
    r->lead.stage = LEAD_IDLE;
}

static void retry(struct replica *r)
{
    uint32_t no_prepare = all_others(r) & ~r->lead.prepare_mask & ~r->lead.commit_mask;
    uint32_t no_commit = all_others(r) & ~r->lead.commit_mask;
    if (r->lead.stage == LEAD_PREPARE || r->lead.stage == LEAD_COMMIT)
        outbox_post(r, OUT_PROPOSAL, no_prepare, r->prepare_ticket);
    if (r->lead.stage == LEAD_COMMIT)
        outbox_post(r, OUT_QC_PREPARE, no_commit, 0);
    if (r->lead.retry_step_us < 8 * r->slot_us)
        r->lead.retry_step_us *= 2;
    r->lead.retry_us = r->now_us + r->lead.retry_step_us;
}

static bool in_flight(const struct replica *r)
{
    return leads(r) && (r->lead.stage == LEAD_PREPARE || r->lead.stage == LEAD_COMMIT);
}

void lead_advance(struct replica *r)
{
    if (leads(r))
        see_tip(r);
    if (leads(r) && r->lead.stage == LEAD_RECOVER)
        recover(r);
    if (leads(r) && r->lead.stage == LEAD_IDLE)
        ask_for_block(r);
    if (leads(r) && r->lead.slot != NULL)
        count_own(r);
    if (in_flight(r) && r->now_us >= r->lead.retry_us)
        retry(r);
}

uint64_t lead_deadline(const struct replica *r)
{
    return in_flight(r) ? r->lead.retry_us : UINT64_MAX;
}
