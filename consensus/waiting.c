/* consensus/waiting.c - what the next commit waits for, as this node sees it, and since when.
 *
 * It follows from the rest of the state; only the instants at which it changed are kept. They are
 * noted at the end of a step, so that no other part has to think of it.
 */
#include "consensus/internal.h"

/* A follower's part in the proposal that it was shown. */
static enum replica_stage follower_stage(const struct replica *r, uint64_t *height)
{
    const struct block_slot *s = r->prop.slot;
    if (s == NULL || r->prop.term != r->term || !blocks_follows_tip(r, s))
        return REPLICA_STAGE_IDLE;
    *height = s->header.height;
    if (!r->has_prepare || r->prepare.term != r->term || !sm3_equal(&r->prepare.block, &s->hash))
        return REPLICA_STAGE_CHECK;
    bool committed = r->has_commit && r->commit.term == r->term && r->commit.height == *height;
    uint64_t ticket = committed ? r->commit_ticket : r->prepare_ticket;
    return r->durable >= ticket ? REPLICA_STAGE_VOTED : REPLICA_STAGE_OWN_WRITE;
}

static enum replica_stage leader_stage(const struct replica *r, uint64_t *height)
{
    *height = r->tip_height + 1;
    switch (r->lead.stage) {
    case LEAD_RECOVER:
        return REPLICA_STAGE_RECOVER;
    case LEAD_BUILDING:
        return REPLICA_STAGE_BUILD;
    case LEAD_OWN:
        return REPLICA_STAGE_OWN_WRITE;
    case LEAD_PREPARE:
        return REPLICA_STAGE_PREPARE;
    case LEAD_COMMIT:
        return REPLICA_STAGE_COMMIT;
    case LEAD_STORE:
        return REPLICA_STAGE_STORE;
    case LEAD_IDLE:
        break;
    }
    *height = 0;
    return REPLICA_STAGE_IDLE;
}

static enum replica_stage stage_of(const struct replica *r, uint64_t *height)
{
    *height = 0;
    if (r->role == REPLICA_PRECANDIDATE)
        return REPLICA_STAGE_PREVOTES;
    if (r->role == REPLICA_CANDIDATE)
        return REPLICA_STAGE_GRANTS;
    if (!replica_has_quorum(r))
        return REPLICA_STAGE_NO_LEADER;
    if (r->committing != NULL) {
        *height = r->committing->header.height;
        return REPLICA_STAGE_STORE;
    }
    return leads(r) ? leader_stage(r, height) : follower_stage(r, height);
}

static uint32_t voters_of(const struct replica *r, enum replica_stage stage)
{
    switch (stage) {
    case REPLICA_STAGE_PREVOTES:
        return r->prevotes_mask;
    case REPLICA_STAGE_GRANTS:
        return r->grants_mask;
    case REPLICA_STAGE_PREPARE:
        return r->lead.prepare_mask;
    case REPLICA_STAGE_COMMIT:
        return r->lead.commit_mask;
    default:
        return 0;
    }
}

void waiting_start(struct replica *r)
{
    r->waiting.stage = REPLICA_STAGE_NO_LEADER;
    r->waiting.since_us = r->waiting.led_us = r->now_us;
}

void waiting_note(struct replica *r)
{
    uint64_t height;
    enum replica_stage stage = stage_of(r, &height);
    if (replica_has_quorum(r))
        r->waiting.led_us = r->now_us;
    if (stage == r->waiting.stage && height == r->waiting.height)
        return;
    r->waiting.stage = stage;
    r->waiting.height = height;
    r->waiting.since_us = r->now_us;
}

void replica_waiting(const struct replica *r, struct replica_waiting *out)
{
    *out = r->waiting;
    out->have = voters_of(r, out->stage);
}

bool replica_heard(const struct replica *r, uint8_t member, uint64_t *at_us)
{
    if (member == r->self)
        *at_us = r->now_us;
    else if (member < r->n && r->spoke[member])
        *at_us = r->spoke_us[member];
    else
        return false;
    return true;
}

bool replica_behind(const struct replica *r, uint8_t *from, uint64_t *since_us)
{
    if (r->fetch.target <= r->tip_height)
        return false;
    *from = r->fetch.peer;
    *since_us = r->fetch.since_us;
    return true;
}
