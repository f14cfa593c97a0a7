/* consensus/blocks.c - the few buffers that hold blocks.
 *
 * One block is in flight at a time, and yet a replica may have to hold: the block of its highQC,
 * the proposal that it judges, one that the caller still checks, and the blocks of a write under
 * way. They may all differ during a change of leaders, so there are six slots, and one of them is
 * always free. What a slot holds stays until the slot is needed: a block that was refused for its
 * time and is then certified by the others need not be fetched.
 */
#include "consensus/internal.h"

#include <string.h>

struct block_slot *blocks_find(struct replica *r, const sm3_digest *hash)
{
    for (size_t i = 0; i < BLOCK_SLOTS; i++)
        if (r->slot[i].used && sm3_equal(&r->slot[i].hash, hash))
            return &r->slot[i];
    return NULL;
}

static bool is_held(const struct replica *r, const struct block_slot *s)
{
    return s == r->high_slot || s == r->prop.slot || s == r->checking || s == r->committing ||
           s == r->keep || s == r->lead.slot || s == r->delivered || s == r->write.body ||
           s == r->write.commit;
}

struct block_slot *blocks_put(struct replica *r, uint8_t from, const struct block_header *h,
                              const sm3_digest *hash, struct span body)
{
    struct block_slot *best = blocks_find(r, hash);
    if (best != NULL)
        return best;
    if (body.size > r->body_max)
        return NULL;
    for (size_t i = 0; i < BLOCK_SLOTS; i++) {
        struct block_slot *s = &r->slot[i];
        if (is_held(r, s))
            continue;
        if (best == NULL || (best->used && (!s->used || s->header.height < best->header.height)))
            best = s;
    }
    if (best == NULL)
        return NULL;
    best->used = true;
    best->valid = best->stored = false;
    best->retry_us = 0;
    best->from = from;
    best->header = *h;
    best->hash = *hash;
    best->body_size = (uint32_t)body.size;
    if (body.size != 0)
        memcpy(best->body, body.data, body.size);
    if (r->has_high && h->height > r->tip_height && sm3_equal(&r->high.block, hash))
        r->high_slot = best;
    return best;
}

void blocks_renew(struct replica *r, struct block_slot *s, uint8_t from, struct span body)
{
    if (s->valid || s == r->checking || s == r->committing || s == r->write.body ||
        s->from == from || body.size > r->body_max)
        return;
    s->from = from;
    s->stored = false;
    s->retry_us = 0;
    s->body_size = (uint32_t)body.size;
    if (body.size != 0)
        memcpy(s->body, body.data, body.size);
}

/* Forgets a block that proved to be worth nothing. */
void blocks_drop(struct replica *r, struct block_slot *s)
{
    if (r->prop.slot == s)
        r->prop.slot = NULL;
    if (r->high_slot == s)
        r->high_slot = NULL;
    if (!is_held(r, s))
        s->used = false;
}

bool blocks_follows_tip(const struct replica *r, const struct block_slot *s)
{
    return s->header.height == r->tip_height + 1 && sm3_equal(&s->header.previous, &r->tip);
}

void blocks_check(struct replica *r, struct block_slot *s, bool fresh, bool certified)
{
    AMI_CHECK(s->used && !s->valid);
    if (r->checking != NULL || r->committing != NULL || r->now_us < s->retry_us)
        return;
    if (!blocks_follows_tip(r, s))
        return;
    r->checking = s;
    r->check_new = true;
    r->check_fresh = fresh;
    r->check_certified = certified;
    blocks_cancel_build(r); /* the registry stages one block */
}

/* The answer to a build under way is not wanted any more; the transactions are. */
void blocks_cancel_build(struct replica *r)
{
    if (!leads(r) || r->lead.stage != LEAD_BUILDING)
        return;
    r->lead.stage = LEAD_IDLE;
    r->lead.build_new = false;
    r->work = true;
}

uint64_t blocks_deadline(const struct replica *r)
{
    uint64_t at_us = UINT64_MAX;
    for (size_t i = 0; i < BLOCK_SLOTS; i++) {
        const struct block_slot *s = &r->slot[i];
        if (s->used && !s->valid && s->retry_us > r->now_us && s->retry_us < at_us)
            at_us = s->retry_us;
    }
    return at_us;
}

void blocks_on_validated(struct replica *r, const sm3_digest *hash, enum ami_status status)
{
    struct block_slot *s = r->checking;
    if (s == NULL || !sm3_equal(&s->hash, hash))
        return;
    r->checking = NULL;
    r->check_new = false;
    if (status == AMI_OK) {
        s->valid = true;
        return;
    }
    uint8_t leader = r->elected.known ? r->elected.leader : NOBODY;
    replica_note(r, r->check_certified ? REPLICA_NOTE_DIVERGED : REPLICA_NOTE_REFUSED, leader,
                 s->header.height, status);
    s->retry_us = r->now_us + RECHECK_US;
    if (status == AMI_AGAIN || status == AMI_NO_MEMORY || status == AMI_IO) {
        if (r->check_certified)
            r->fetch.hold_us = s->retry_us;
        return; /* says nothing about the block */
    }
    /* A quorum found the block good, so its bytes came wrong. */
    if (r->check_certified || (s == r->high_slot && status != AMI_BAD_TIMESTAMP))
        catchup_blame(r, s->from);
    if (!r->check_certified && r->prop.slot == s)
        r->prop.slot = NULL;
    if (status == AMI_BAD_TIMESTAMP && r->check_fresh) {
        s->retry_us = 0; /* it may still be certified by others, and then time is no matter */
        return;
    }
    /* The bytes may not be those that the header stands for: fetch them from somebody else. */
    blocks_drop(r, s);
}
