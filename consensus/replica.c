/* consensus/replica.c - events in, timers, deadline, queries. consensus/internal.h has the map. */
#include "consensus/internal.h"

#include <string.h>

#define US_PER_MS 1000u

static uint32_t body_max_of(const struct parameters *p)
{
    return p->block_bytes_max < AMI_BLOCK_BYTES_MAX ? p->block_bytes_max : AMI_BLOCK_BYTES_MAX;
}

static size_t queue_size_of(const struct parameters *p)
{
    return 2 * (size_t)body_max_of(p) + CATCHUP_SLACK;
}

size_t replica_size(const struct parameters *parameters)
{
    return sizeof(struct replica) + BLOCK_SLOTS * (size_t)body_max_of(parameters) +
           queue_size_of(parameters);
}

enum ami_status replica_init(struct replica **out, void *memory, const struct replica_config *c)
{
    struct replica *r = memory;
    const struct parameters *p = c->parameters;
    if (c->members->count == 0 || c->members->count > AMI_MEMBERS_MAX ||
        (c->self >= c->members->count && (c->self != NOBODY || c->may_sign)) ||
        c->first_height == 0 || c->tip_height < c->first_height - 1)
        return AMI_BAD_ARGUMENT;
    if (p->election_timeout_ms == 0 || p->heartbeat_ms == 0)
        return AMI_BAD_ARGUMENT;
    r->members = c->members;
    r->parameters = p;
    r->key = c->key;
    r->self = c->self;
    r->n = c->members->count;
    r->f = members_f(r->n);
    r->rules_off = c->rules_off;
    r->q = rule_is_off(r, RULE_OFF_QUORUM) ? 2 * r->f + 1 : members_quorum(r->n);
    r->may_sign = c->may_sign;
    r->first_height = c->first_height;
    r->starts = c->starts;
    r->begun = c->begun;
    memcpy(r->seed, c->seed, sizeof r->seed);
    r->timeout_us = (uint64_t)p->election_timeout_ms * US_PER_MS;
    r->slot_us = r->timeout_us / 4; /* about four one-way delays */
    r->heartbeat_us = (uint64_t)p->heartbeat_ms * US_PER_MS;
    r->body_max = body_max_of(p);
    r->now_us = c->now_us;
    uint8_t *bytes = (uint8_t *)memory + sizeof *r;
    for (size_t i = 0; i < BLOCK_SLOTS; i++, bytes += r->body_max)
        r->slot[i].body = bytes;
    r->fetch.queue = bytes;
    r->fetch.queue_size = queue_size_of(p);
    r->fetch.peer = r->self;
    AMI_TRY(record_load(r, c));
    r->attempts = 0;
    election_start(r);
    catchup_target(r, c->known_height, NOBODY);
    waiting_start(r);
    *out = r;
    return AMI_OK;
}

/* --- seeded numbers -------------------------------------------------------------------------- */

static sm3_digest draw(struct replica *r)
{
    uint8_t count[8];
    store_be64(count, r->draws++);
    struct span parts[2] = {span_of(r->seed, sizeof r->seed), span_of(count, sizeof count)};
    return sm3_labelled("amiledger replica seed v1", parts, 2);
}

void replica_draw(struct replica *r, uint8_t out[SM2_WIDE_BYTES])
{
    _Static_assert(SM2_WIDE_BYTES <= 2 * SM3_BYTES, "two digests are enough");
    sm3_digest a = draw(r), b = draw(r);
    memcpy(out, a.b, SM3_BYTES);
    memcpy(out + SM3_BYTES, b.b, SM2_WIDE_BYTES - SM3_BYTES);
}

uint64_t replica_jitter(struct replica *r, uint64_t below)
{
    sm3_digest d = draw(r);
    return below == 0 ? 0 : load_be64(d.b) % below;
}

void replica_note(struct replica *r, enum replica_note_type type, uint8_t member, uint64_t height,
                  enum ami_status status)
{
    struct effects *fx = r->fx;
    if (fx == NULL || fx->note_count == EFFECTS_NOTES_MAX)
        return;
    uint64_t term = type == REPLICA_NOTE_ELECTION ? r->term + 1 : r->term;
    fx->note[fx->note_count++] = (struct replica_note){type, member, term, height, status};
}

/* --- one step -------------------------------------------------------------------------------- */

static void on_message(struct replica *r, uint8_t from, enum message_type type, struct span body)
{
    /* Blocks prove themselves, so even nobody may bring them. */
    const bool anonymous = from == NOBODY && (type == MSG_BLOCK || type == MSG_BODY);
    if (!anonymous && (from >= r->n || from == r->self))
        return;
    switch (type) {
    case MSG_PREVOTE_REQUEST:
        election_on_prevote_request(r, from, body);
        break;
    case MSG_PREVOTE:
        election_on_prevote(r, from, body);
        break;
    case MSG_GRANT_REQUEST:
        election_on_grant_request(r, from, body);
        break;
    case MSG_GRANT:
        election_on_grant(r, from, body);
        break;
    case MSG_TERM_PROOF:
        election_on_term_proof(r, from, body);
        break;
    case MSG_PROPOSAL:
        vote_on_proposal(r, from, body);
        break;
    case MSG_VOTE:
        lead_on_vote(r, from, body);
        break;
    case MSG_QC_ANNOUNCE:
        commit_on_announce(r, from, body);
        break;
    case MSG_HEARTBEAT:
        contact_on_heartbeat(r, from, body);
        break;
    case MSG_HEARTBEAT_ACK:
        contact_on_ack(r, from, body);
        break;
    case MSG_BLOCK:
        catchup_on_block(r, from, body);
        break;
    case MSG_BODY:
        catchup_on_body(r, from, body);
        break;
    default: /* not for the replica */
        break;
    }
}

static void on_event(struct replica *r, const struct replica_event *e)
{
    switch (e->type) {
    case REPLICA_TIME:
        break;
    case REPLICA_MESSAGE:
        on_message(r, e->u.message.from, e->u.message.type, e->u.message.body);
        break;
    case REPLICA_PERSISTED:
        record_on_persisted(r, e->u.persisted.ticket, e->u.persisted.status);
        break;
    case REPLICA_VALIDATED:
        blocks_on_validated(r, &e->u.validated.block, e->u.validated.status);
        break;
    case REPLICA_BUILT:
        lead_on_built(r, e->u.built.ticket, e->u.built.header, e->u.built.body);
        break;
    case REPLICA_STORED_BODY:
        catchup_on_stored_body(r, &e->u.stored_body.block, e->u.stored_body.header,
                               e->u.stored_body.body);
        break;
    case REPLICA_WORK:
        r->work = e->u.flag;
        break;
    case REPLICA_PROGRESS:
        election_progress(r, e->u.flag);
        break;
    case REPLICA_DISK:
        r->disk_stalled = e->u.flag;
        break;
    case REPLICA_CLAIM:
        catchup_target(r, e->u.height, NOBODY);
        break;
    case REPLICA_STEP_DOWN:
        election_step_down(r);
        break;
    }
}

/* Questions to the caller that came up in this step. */
static void flush_questions(struct replica *r, struct effects *fx)
{
    if ((fx->has_validate = r->check_new)) {
        struct block_slot *s = r->checking;
        r->check_new = false;
        fx->validate.header = &s->header;
        fx->validate.block = s->hash;
        fx->validate.body = span_of(s->body, s->body_size);
        fx->validate.fresh = r->check_fresh;
        fx->validate.certified = r->check_certified;
        fx->validate.received_wall_ms = r->check_fresh ? r->prop.received_wall_ms : r->wall_ms;
    }
    if ((fx->has_build = leads(r) && r->lead.build_new)) {
        r->lead.build_new = false;
        fx->build.ticket = r->build_ticket;
        fx->build.term = r->term;
        fx->build.parent_height = r->tip_height;
        fx->build.parent = r->tip;
        fx->build.parent_timestamp_ms = r->tip_timestamp_ms;
    }
    if ((fx->has_need_body = r->wish.active && r->wish.store_new)) {
        r->wish.store_new = false;
        fx->need_body = r->wish.block;
    }
}

static uint64_t deadline(const struct replica *r)
{
    const uint64_t each[] = {election_deadline(r), contact_deadline(r), lead_deadline(r),
                             catchup_deadline(r),  record_deadline(r),  blocks_deadline(r)};
    uint64_t at_us = UINT64_MAX;
    for (size_t i = 0; i < sizeof each / sizeof each[0]; i++)
        at_us = each[i] < at_us ? each[i] : at_us;
    /* What is overdue waits for another event; look again soon, but never spin. */
    return at_us <= r->now_us ? r->now_us + US_PER_MS : at_us;
}

void replica_step(struct replica *r, const struct replica_event *event, struct effects *fx)
{
    fx->has_persist = fx->has_validate = fx->has_build = fx->has_deliver = fx->has_need_body =
        false;
    fx->send_count = fx->note_count = fx->evidence_count = fx->arena_used = 0;
    r->fx = fx;
    r->delivered = NULL;
    if (event->now_us > r->now_us)
        r->now_us = event->now_us;
    r->wall_ms = event->wall_ms;
    on_event(r, event);
    election_advance(r);
    contact_advance(r);
    lead_advance(r);
    vote_advance(r);
    commit_advance(r);
    catchup_advance(r);
    commit_advance(r); /* a block that was just taken out of the queue may be valid already */
    waiting_note(r);
    record_flush(r);
    outbox_flush(r);
    flush_questions(r, fx);
    fx->deadline_us = deadline(r);
    r->fx = NULL;
}

/* --- queries --------------------------------------------------------------------------------- */

enum replica_role replica_role(const struct replica *r)
{
    return r->role;
}

uint64_t replica_term(const struct replica *r)
{
    return r->term;
}

bool replica_leader(const struct replica *r, uint8_t *leader)
{
    if (r->elected.known)
        *leader = r->elected.leader;
    return r->elected.known;
}

uint64_t replica_height(const struct replica *r)
{
    return r->tip_height;
}

sm3_digest replica_tip(const struct replica *r)
{
    return r->tip;
}

const struct qc *replica_tip_commit(const struct replica *r)
{
    return r->has_tip_commit ? &r->tip_commit : NULL;
}

bool replica_may_sign(const struct replica *r)
{
    return r->may_sign;
}

unsigned replica_contacts(const struct replica *r)
{
    return contact_count(r);
}

unsigned replica_quorum(const struct replica *r)
{
    return r->q;
}

bool replica_has_quorum(const struct replica *r)
{
    if (leads(r))
        return contact_count(r) >= r->q;
    return r->elected.known && r->now_us < r->timer_us;
}

uint64_t replica_known_height(const struct replica *r)
{
    return r->fetch.target > r->tip_height ? r->fetch.target : r->tip_height;
}

const struct qc *replica_high(const struct replica *r)
{
    return r->has_high ? &r->high : NULL;
}
