/* consensus/contact.c - rule 8, the part of it that concerns links: heartbeats, and a leader that
 * steps down because too few followers answer or its disk hangs.
 *
 * A heartbeat keeps the followers' timers from expiring while there is nothing to commit. It proves
 * nothing about work: transactions that wait too long depose a leader however well it beats.
 */
#include "consensus/internal.h"

void contact_heard(struct replica *r, uint8_t member)
{
    r->heard[member] = r->spoke[member] = true;
    r->heard_us[member] = r->spoke_us[member] = r->now_us;
}

void contact_assume(struct replica *r, uint8_t member)
{
    r->heard[member] = true;
    r->heard_us[member] = r->now_us;
}

static bool is_recent(const struct replica *r, uint8_t member)
{
    return member == r->self ||
           (r->heard[member] && r->now_us < r->heard_us[member] + r->timeout_us);
}

unsigned contact_count(const struct replica *r)
{
    unsigned count = 0;
    for (uint8_t i = 0; i < r->n; i++)
        count += is_recent(r, i) ? 1 : 0;
    return count;
}

void contact_on_heartbeat(struct replica *r, uint8_t from, struct span body)
{
    struct heartbeat *h = &r->scratch.heartbeat;
    if (heartbeat_parse(h, body) != AMI_OK || h->leader != from ||
        !cert_same_chain(r, &h->chain, h->epoch) ||
        cert_check_tail(r, from, LABEL_HEARTBEAT, body) != AMI_OK)
        return;
    contact_heard(r, from);
    if (h->term < r->term) {
        outbox_post(r, OUT_TERM_PROOF, bit_of(from), 0);
        return;
    }
    if (h->has_election && election_learn(r, &h->election, h->term, from) != AMI_OK)
        return;
    bool follows = h->term == r->term && r->elected.known && r->elected.leader == from;
    r->ack_round = h->round;
    if (r->may_sign)
        outbox_post(r, OUT_HEARTBEAT_ACK, bit_of(from), r->term_ticket);
    if (!follows)
        return; /* the answer says that the election certificate is wanted */
    election_contact(r);
    catchup_target(r, h->committed, from);
    vote_again(r);
}

void contact_on_ack(struct replica *r, uint8_t from, struct span body)
{
    struct heartbeat_ack a;
    if (!leads(r) || heartbeat_ack_parse(&a, body) != AMI_OK || a.voter != from ||
        !cert_same_chain(r, &a.chain, a.epoch) ||
        cert_check_tail(r, from, LABEL_HEARTBEAT_ACK, body) != AMI_OK)
        return;
    if (a.term > r->term)
        return; /* it shows its term's proof when it hears of ours */
    if (a.term < r->term || a.elected != 1) {
        r->lead.elected_mask &= ~bit_of(from);
        return;
    }
    contact_heard(r, from);
    r->lead.elected_mask |= bit_of(from);
    if (a.committed + 1 == r->tip_height)
        outbox_post(r, OUT_QC_TIP, bit_of(from), 0); /* it may have missed just that */
    catchup_target(r, a.committed, from);
}

/* The instant at which a leader will have lost its quorum if nobody is heard any more. */
static uint64_t quorum_until_us(const struct replica *r)
{
    uint64_t at_us = UINT64_MAX;
    for (uint8_t i = 0; i < r->n; i++)
        if (i != r->self && is_recent(r, i) && r->heard_us[i] + r->timeout_us < at_us)
            at_us = r->heard_us[i] + r->timeout_us;
    return at_us; /* of the first contact to run out: early is good enough */
}

void contact_advance(struct replica *r)
{
    if (!leads(r))
        return;
    if (r->disk_stalled) {
        lead_stop(r, AMI_IO, true);
        return;
    }
    if (contact_count(r) < r->q) {
        lead_stop(r, AMI_NO_QUORUM, true);
        return;
    }
    if (r->now_us < r->lead.heartbeat_at_us)
        return;
    r->lead.heartbeat_at_us = r->now_us + r->heartbeat_us;
    r->round++;
    /* One that is silent may have started anew, and one that may not sign does not say so. */
    for (uint8_t i = 0; i < r->n; i++)
        if (!is_recent(r, i))
            r->lead.elected_mask &= ~bit_of(i);
    uint32_t elected = r->lead.elected_mask & all_others(r);
    outbox_post(r, OUT_HEARTBEAT, elected, 0);
    outbox_post(r, OUT_HEARTBEAT_ELECTED, all_others(r) & ~elected, 0);
}

uint64_t contact_deadline(const struct replica *r)
{
    if (!leads(r))
        return UINT64_MAX;
    uint64_t at_us = quorum_until_us(r);
    return r->lead.heartbeat_at_us < at_us ? r->lead.heartbeat_at_us : at_us;
}
