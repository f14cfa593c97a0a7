/* consensus/leaders.c - rule 9: who led badly is passed over, and nobody has more turns than
 * others.
 *
 * A term has failed when nothing was committed in it as far as this node saw, or when a transaction
 * waited too long. To blame is its leader or, if none was seen, the member whose pre-votes made the
 * term. Whoever is to blame for one of the last f failed terms, the present one among them, gets no
 * pre-vote. So a member that collects votes and makes nothing of them does so once.
 *
 * Nodes that saw different things pass over different members, and where every vote is needed
 * nobody may be left whom all accept. So a node whose own turn has come to nothing since the term
 * rose passes over nobody until the term rises again.
 *
 * Among those who ask for the same term, the one that had fewer turns comes first, then the one
 * whose slot does: by hash(chain, epoch, term, member), the same everywhere. A turn is a slot's
 * time from when a member asks; asking again meanwhile is part of it.
 *
 * Nothing of this is durable or needed for safety: it decides about pre-votes only.
 */
#include "consensus/internal.h"

#include <string.h>

/* Something was committed in the present term, as far as is known here. */
static bool term_has_commit(const struct replica *r)
{
    if (r->has_tip_commit && r->tip_commit.epoch == r->members->epoch &&
        r->tip_commit.term == r->term)
        return true;
    if (r->has_high && r->high.term == r->term && cert_commits(r, &r->high))
        return true;
    for (size_t i = 0; i < COMMITS_KEPT; i++)
        if (r->commits[i].used && r->commits[i].qc.term == r->term)
            return true;
    return false;
}

static void new_turns(struct replica *r)
{
    memset(r->bad.turns, 0, sizeof r->bad.turns);
    memset(r->bad.turn_until_us, 0, sizeof r->bad.turn_until_us);
    r->bad.turns_lost = 0;
}

/* Who is to blame for the present term, as it looks now. */
static uint8_t to_blame(const struct replica *r)
{
    if (term_has_commit(r) && !r->progress_expired)
        return NOBODY;
    if (r->elected.known)
        return r->elected.leader;
    return r->has_term_cert ? r->term_cert.candidate : NOBODY;
}

void leaders_term_ends(struct replica *r)
{
    uint8_t who = to_blame(r);
    new_turns(r);
    if (rule_is_off(r, RULE_OFF_BAD_LEADERS) || r->f == 0 || who == NOBODY)
        return;
    AMI_CHECK(r->f <= FAILED_TERMS_MAX && who < r->n);
    r->bad.failed[r->bad.failed_next] = who;
    r->bad.failed_next = (r->bad.failed_next + 1) % r->f;
    if (r->bad.failed_count < r->f)
        r->bad.failed_count++;
}

/* All is forgiven when a leader has committed for so long that no transaction waits since before.
 * Sooner would help two liars that depose each other: each would be electable again as soon as the
 * other committed anything. */
void leaders_on_commit(struct replica *r)
{
    uint64_t proven_us = 2 * (uint64_t)r->parameters->progress_timeout_ms * 1000u;
    if (!r->elected.known || r->tip_commit.term != r->term || r->progress_expired ||
        r->now_us < r->elected.since_us + proven_us)
        return;
    r->bad.failed_count = r->bad.failed_next = 0;
}

/* The present term counts: whoever asks for the next one says that it has failed. */
bool leaders_passed_over(const struct replica *r, uint8_t member)
{
    if (r->bad.turns_lost >= FORGET_TURNS_LOST || rule_is_off(r, RULE_OFF_BAD_LEADERS) || r->f == 0)
        return false;
    uint8_t who = to_blame(r);
    unsigned count = r->bad.failed_count;
    if (who == member)
        return true;
    if (who != NOBODY && count == r->f)
        count--; /* the oldest gives way */
    for (unsigned i = 1; i <= count; i++)
        if (r->bad.failed[(r->bad.failed_next + r->f - i) % r->f] == member)
            return true;
    return false;
}

void leaders_turn_lost(struct replica *r)
{
    r->bad.turns_lost++;
}

void leaders_asks(struct replica *r, uint8_t member)
{
    if (rule_is_off(r, RULE_OFF_BAD_LEADERS) || r->now_us < r->bad.turn_until_us[member])
        return; /* the same turn still */
    r->bad.turns[member]++;
    r->bad.turn_until_us[member] = r->now_us + election_backoff_us(r);
}

bool leaders_is_fair(const struct replica *r, uint8_t member)
{
    return r->bad.turns[member] <= r->bad.turns[r->self] + 1;
}

void leaders_takes(struct replica *r, uint8_t member)
{
    r->bad.held_turn = r->bad.turns[member];
}

bool leaders_holds(const struct replica *r, uint8_t holder, uint8_t other)
{
    if (r->bad.held_turn != r->bad.turns[other])
        return r->bad.held_turn < r->bad.turns[other];
    return r->rank[holder] <= r->rank[other];
}

bool leaders_precedes(const struct replica *r, uint8_t a, uint8_t b)
{
    if (r->bad.turns[a] != r->bad.turns[b])
        return r->bad.turns[a] < r->bad.turns[b];
    return r->rank[a] < r->rank[b];
}
