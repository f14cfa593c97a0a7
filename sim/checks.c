/* sim/checks.c - the invariants of consensus.md, each under a name.
 *
 * They judge as an outsider would who has all wires tapped and all disks at hand: frames that
 * leave honest DCs, what is on disks, what meters made and believe. They read the wire format and
 * know nothing of how a node decides. */
#include "sim/checks.h"

#include "base/check.h"
#include "ledger/block.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name, *what;
} invariants[] = {
    {"agreement", "honest DCs have the same block at every height"},
    {"chain", "a block extends the one before it, and heights have no gap"},
    {"certified", "a committed block has a commit certificate of its epoch that verifies"},
    {"state-root", "the registry on the disk has the root that the block's header names"},
    {"made-by-meter", "every committed report was made by its meter, as it is"},
    {"once", "a report is committed once"},
    {"acknowledged", "what a meter believes acknowledged is on a ledger, on enough disks to stay"},
    {"kept", "what was acknowledged is on every honest ledger in the end"},
    {"one-vote", "an honest DC signs one statement for a slot"},
    {"rising", "votes, grants and terms of an honest DC never go back, restarts included"},
    {"durable", "nothing leaves before what it reveals is on the disk"},
    {"mute", "a DC without its record signs nothing"},
    {"member", "who signs is a member of that epoch, under its index there"},
    {"epoch", "a block is of the epoch that the changes before it decide"},
    {"revoked", "no report of a revoked key is committed from the revocation on"},
    {"changes", "what the operator asked for is in force within the bound"},
    {"retained", "DCs prune what the MDMS has, below where it was allowed, and nothing else"},
    {"readings", "the MDMS has every reading once, as it was measured"},
    {"starts", "whatever a crash left, a process starts from it"},
    {"bounded", "queues and sessions stay within their limits"},
    {"mdms", "the MDMS never gives up"},
    {"liveness", "when faults stop, everything that was made is committed within the bound"},
    {"stable", "when faults have stopped, a good leader is not deposed, whoever asks for it"},
    {"evidence", "evidence names liars only, and after a fork f+1 of them or more"},
    {"crash", "no program ends by itself"},
};

void sim_check_list(FILE *to)
{
    for (size_t i = 0; i < sizeof invariants / sizeof invariants[0]; i++)
        fprintf(to, "%-14s %s\n", invariants[i].name, invariants[i].what);
}

#define SETTLED_US                                                                                 \
    (8 * SIM_SECOND) /* after the last fault: back-offs and meters' pauses are over */
#define LED_US (2 * SIM_SECOND)

/* --- epochs ---------------------------------------------------------------------------------- */

struct sim_epoch *sim_checks_add_epoch(struct sim_checks *c)
{
    c->epoch = realloc(c->epoch, (c->epochs + 1) * sizeof(struct sim_epoch *));
    struct sim_epoch *e = calloc(1, sizeof *e);
    AMI_CHECK(c->epoch != NULL && e != NULL);
    c->epoch[c->epochs++] = e;
    return e;
}

void sim_checks_number(const struct sim_world *w, struct sim_epoch *e)
{
    for (uint8_t i = 0; i < e->committee.members.count; i++)
        e->number[i] = sim_number_of(w, &e->committee.members.member[i].name);
}

const struct sim_epoch *sim_epoch(const struct sim_world *w, uint32_t epoch)
{
    return epoch >= 1 && epoch <= w->checks->epochs ? w->checks->epoch[epoch - 1] : NULL;
}

uint32_t sim_epochs(const struct sim_world *w)
{
    return w->checks->epochs;
}

const struct sim_epoch *sim_epoch_at(const struct sim_world *w, uint64_t height)
{
    uint32_t epoch = w->checks->epochs;
    while (sim_epoch(w, epoch)->committee.from > height)
        epoch--;
    return sim_epoch(w, epoch);
}

uint8_t sim_index_in(const struct sim_epoch *e, uint8_t number)
{
    for (uint8_t i = 0; e != NULL && i < e->committee.members.count; i++)
        if (e->number[i] == number)
            return i;
    return SIM_NOBODY;
}

uint64_t sim_agreed(const struct sim_world *w)
{
    return w->checks->agreed_count;
}

/* Whether this DC may say that in this epoch, under that index. What it showed in an earlier one
 * binds it no more: each epoch has terms of its own. */
static bool may_say(struct sim_host *h, uint32_t epoch, uint8_t index, const char *what)
{
    struct sim_world *w = h->world;
    struct sim_dc *d = h->as.dc;
    struct shown *s = &w->checks->shown[d->number];
    if (index == SIM_NOBODY || sim_index_in(sim_epoch(w, epoch), d->number) != index) {
        sim_violate(w, "member", "dc-%u sent a %s of epoch %u as member %u, which it is not",
                    d->number + 1u, what, (unsigned)epoch, index);
        return false;
    }
    if (epoch < s->epoch) {
        sim_violate(w, "rising", "dc-%u sent a %s of epoch %u after one of %u", d->number + 1u,
                    what, (unsigned)epoch, (unsigned)s->epoch);
        return false;
    }
    if (epoch > s->epoch)
        *s = (struct shown){.epoch = epoch};
    return true;
}

/* The vote record, as far as it is of this epoch. */
static const struct vote_record *record_of(const struct sim_dc *d, uint32_t epoch)
{
    const struct vote_record *r = sim_disk_record(d->disk);
    return r != NULL && r->epoch == epoch ? r : NULL;
}

struct sim_checks *sim_checks_new(struct sim_world *w)
{
    struct sim_checks *c = calloc(1, sizeof *c);
    AMI_CHECK(c != NULL);
    c->meter = calloc(w->plan.meters + 1u, sizeof(struct sim_meter *));
    AMI_CHECK(c->meter != NULL);
    for (uint16_t i = 0; i < w->fleets; i++) {
        struct sim_fleet *f = w->host[w->dcs + i].as.fleet;
        for (size_t k = 0; k < f->count; k++)
            c->meter[f->meter[k].number] = &f->meter[k];
    }
    struct sim_epoch *first = sim_checks_add_epoch(c);
    committee_first(&first->committee, &w->cast->genesis);
    sim_checks_number(w, first);
    for (unsigned i = 0; i < w->names; i++)
        c->shown[i].epoch = 1;
    return c;
}

void sim_checks_free(struct sim_checks *c)
{
    struct slot *s, *next;
    if (c == NULL)
        return;
    HASH_ITER(hh, c->slots, s, next)
    {
        HASH_DELETE(hh, c->slots, s);
        free(s);
    }
    for (uint32_t i = 0; i < c->epochs; i++)
        free(c->epoch[i]);
    free(c->epoch);
    free(c->agreed);
    free(c->meter);
    free(c);
}

/* --- frames ---------------------------------------------------------------------------------- */

enum {
    SLOT_PREPARE = VOTE_PREPARE,
    SLOT_COMMIT = VOTE_COMMIT,
    SLOT_GRANT,
    SLOT_PROPOSAL,
    SLOT_REPORT
};

/* What is in this slot; `value` is put there when nothing is. */
static const struct slot *slot_at(struct sim_checks *c, const struct slot_key *key,
                                  const sm3_digest *value, bool *was_free)
{
    struct slot *s;
    HASH_FIND(hh, c->slots, key, sizeof *key, s);
    *was_free = s == NULL;
    if (s != NULL)
        return s;
    s = calloc(1, sizeof *s);
    AMI_CHECK(s != NULL);
    s->key = *key;
    s->value = *value;
    HASH_ADD(hh, c->slots, key, sizeof s->key, s);
    return s;
}

/* False: another statement was made in this slot. */
static bool slot_same(struct sim_checks *c, uint8_t number, uint8_t what, uint64_t term,
                      uint64_t height, const sm3_digest *value)
{
    const struct slot_key key = {.number = number,
                                 .what = what,
                                 .epoch = c->shown[number].epoch,
                                 .term = term,
                                 .height = height};
    bool was_free;
    return sm3_equal(&slot_at(c, &key, value, &was_free)->value, value);
}

bool sim_checks_slot_free(struct sim_checks *c, const struct tx_view *tx)
{
    const struct report_meter_part *p = &tx->u.report.meter;
    const struct slot_key key = {.what = SLOT_REPORT,
                                 .epoch = p->epoch,
                                 .term = strtoull(p->meter.text + 2, NULL, 10),
                                 .height = p->sequence};
    bool was_free;
    (void)slot_at(c, &key, &tx->id, &was_free);
    return was_free;
}

static bool same_signature(const sm2_signature *a, const sm2_signature *b)
{
    return memcmp(a->b, b->b, sizeof a->b) == 0;
}

static void check_vote(struct sim_host *h, struct span body)
{
    struct sim_world *w = h->world;
    struct sim_dc *d = h->as.dc;
    struct shown *s = &w->checks->shown[d->number];
    struct vote v;
    if (vote_parse(&v, body) != AMI_OK || v.kind < VOTE_PREPARE || v.kind > VOTE_COMMIT) {
        sim_violate(w, "one-vote", "dc-%u sent a malformed vote", d->number + 1u);
        return;
    }
    if (!may_say(h, v.epoch, v.voter, "vote"))
        return;
    const struct vote_record *r = record_of(d, v.epoch);
    if (d->key_lost != 0 && d->key_epoch > d->key_lost) {
        w->count.rare[SIM_RARE_RECORD_RENEWED]++;
        d->key_lost = 0;
    }
    if (!slot_same(w->checks, d->number, v.kind, v.term, v.height, &v.block))
        sim_violate(w, "one-vote", "dc-%u signed two votes of kind %u in term %llu for height %llu",
                    d->number + 1u, v.kind, ull(v.term), ull(v.height));
    const struct sim_block *applied = sim_disk_block(d->disk, v.height);
    if (v.kind == VOTE_PREPARE && applied != NULL && applied->commit.term < v.term)
        w->count.rare[SIM_RARE_VOTED_APPLIED]++;
    const struct vote *last = &s->vote[v.kind];
    if (s->has_vote[v.kind] &&
        (v.term < last->term || (v.term == last->term && v.height < last->height)))
        sim_violate(w, "rising", "dc-%u: votes of kind %u go back to term %llu height %llu",
                    d->number + 1u, v.kind, ull(v.term), ull(v.height));
    s->vote[v.kind] = v;
    s->has_vote[v.kind] = true;
    if (v.term < s->grant_term)
        sim_violate(w, "rising", "dc-%u voted in term %llu after its grant in %llu", d->number + 1u,
                    ull(v.term), ull(s->grant_term));
    bool durable =
        r != NULL && (v.kind == VOTE_PREPARE
                          ? r->has_prepare && same_signature(&r->prepare.signature, &v.signature)
                          : r->has_commit && same_signature(&r->commit.signature, &v.signature));
    if (!durable || !sim_disk_has(d->disk, &v.block))
        sim_violate(w, "durable", "dc-%u sent a vote for height %llu before %s was on its disk",
                    d->number + 1u, ull(v.height), durable ? "its block" : "it");
}

static void check_grant(struct sim_host *h, struct span body)
{
    struct sim_world *w = h->world;
    struct sim_dc *d = h->as.dc;
    struct shown *s = &w->checks->shown[d->number];
    struct grant g;
    if (grant_parse(&g, body) != AMI_OK) {
        sim_violate(w, "one-vote", "dc-%u sent a malformed grant", d->number + 1u);
        return;
    }
    if (!may_say(h, g.epoch, g.voter, "grant"))
        return;
    const struct vote_record *r = record_of(d, g.epoch);
    sm3_digest value = sm3(signed_part(body));
    if (!slot_same(w->checks, d->number, SLOT_GRANT, g.term, 0, &value))
        sim_violate(w, "one-vote", "dc-%u granted term %llu twice", d->number + 1u, ull(g.term));
    if (g.has_high && g.high.term >= g.term)
        sim_violate(w, "rising", "dc-%u: the highQC of its grant is not of a lower term",
                    d->number + 1u);
    if (g.has_high && g.high.kind == VOTE_COMMIT)
        w->count.rare[SIM_RARE_COMMIT_IN_GRANT]++;
    for (int k = VOTE_PREPARE; k <= VOTE_COMMIT; k++)
        if (s->has_vote[k] && s->vote[k].term > g.term)
            sim_violate(w, "rising", "dc-%u granted term %llu after a vote in a later one",
                        d->number + 1u, ull(g.term));
    if (s->grant_term < g.term)
        s->grant_term = g.term;
    if (r == NULL || !r->has_granted || !same_signature(&r->granted.signature, &g.signature))
        sim_violate(w, "durable", "dc-%u sent a grant before it was on its disk", d->number + 1u);
}

static void count_first_proposal(struct sim_world *w, const struct proposal_core *p)
{
    const struct qc *m = NULL;
    if (!p->has_election)
        return;
    for (size_t i = 0; i < p->election.grants_count; i++) {
        const struct grant *g = &p->election.grants[i];
        if (g->has_high && (m == NULL || qc_rank_compare(&g->high, m) > 0))
            m = &g->high;
    }
    if (m == NULL)
        w->count.rare[SIM_RARE_EMPTY_M]++;
    else if (p->header.height == m->height)
        w->count.rare[SIM_RARE_REPROPOSED]++;
    else
        w->count.rare[SIM_RARE_EXTENDED_M]++;
}

static void check_proposal(struct sim_host *h, struct span body)
{
    static struct proposal p; /* large */
    struct sim_world *w = h->world;
    struct sim_dc *d = h->as.dc;
    if (proposal_parse(&p, body) != AMI_OK) {
        sim_violate(w, "one-vote", "dc-%u sent a malformed proposal", d->number + 1u);
        return;
    }
    if (!may_say(h, p.core.header.epoch, p.core.leader, "proposal"))
        return;
    const struct vote_record *r = record_of(d, p.core.header.epoch);
    sm3_digest hash = block_hash(&p.core.header);
    if (!slot_same(w->checks, d->number, SLOT_PROPOSAL, p.core.term, p.core.header.height, &hash))
        sim_violate(w, "one-vote", "dc-%u proposed twice in term %llu for height %llu",
                    d->number + 1u, ull(p.core.term), ull(p.core.header.height));
    if (r == NULL || !r->has_prepare || r->prepare.term != p.core.term ||
        !sm3_equal(&r->prepare.block, &hash))
        sim_violate(w, "durable", "dc-%u sent a proposal before its own vote was on its disk",
                    d->number + 1u);
    count_first_proposal(w, &p.core);
}

static void check_term(struct sim_host *h, uint32_t epoch, uint64_t term, uint64_t height)
{
    struct sim_world *w = h->world;
    struct sim_dc *d = h->as.dc;
    struct shown *s = &w->checks->shown[d->number];
    const struct vote_record *r = record_of(d, epoch);
    if (term != 0 && (r == NULL || r->term < term))
        sim_violate(w, "durable", "dc-%u showed term %llu before it was on its disk",
                    d->number + 1u, ull(term));
    if (term < s->term)
        sim_violate(w, "rising", "dc-%u: its terms go back from %llu to %llu", d->number + 1u,
                    ull(s->term), ull(term));
    s->term = term;
    if (height > sim_disk_height(d->disk))
        sim_violate(w, "durable", "dc-%u claims height %llu and has %llu", d->number + 1u,
                    ull(height), ull(sim_disk_height(d->disk)));
}

static void check_heartbeat(struct sim_host *h, struct span body)
{
    static struct heartbeat b; /* large */
    if (heartbeat_parse(&b, body) != AMI_OK)
        return;
    if (may_say(h, b.epoch, b.leader, "heartbeat"))
        check_term(h, b.epoch, b.term, b.committed);
}

static void check_announcement(struct sim_host *h, struct span body)
{
    struct sim_world *w = h->world;
    struct sim_checks *c = w->checks;
    struct qc_announce announce;
    if (span_equal(body, span_of(c->announced, c->announced_size)))
        return;
    const struct sim_epoch *e;
    if (qc_announce_parse(&announce, body) != AMI_OK ||
        (e = sim_epoch(w, announce.cert.epoch)) == NULL ||
        qc_check(&e->committee.members, &announce.cert) != AMI_OK)
        sim_violate(w, "certified", "dc-%u announced a bad certificate", h->as.dc->number + 1u);
    if (body.size <= sizeof c->announced) {
        memcpy(c->announced, body.data, body.size);
        c->announced_size = body.size;
    }
}

static bool is_signed(enum message_type type)
{
    return type == MSG_VOTE || type == MSG_GRANT || type == MSG_PROPOSAL || type == MSG_HEARTBEAT ||
           type == MSG_HEARTBEAT_ACK || type == MSG_PREVOTE || type == MSG_PREVOTE_REQUEST ||
           type == MSG_GRANT_REQUEST;
}

void sim_check_sent(struct sim_host *h, struct span frame)
{
    struct sim_world *w = h->world;
    enum message_type type;
    struct span body;
    struct heartbeat_ack ack;
    struct prevote prevote;
    if (frame_open(frame, &type, &body) != AMI_OK)
        return;
    if (type == MSG_TERM_PROOF)
        w->count.rare[SIM_RARE_TERM_PROOF]++;
    if (type == MSG_FETCH_BODY)
        w->count.rare[SIM_RARE_BODY_FETCHED]++;
    if (type == MSG_FETCH_BLOCKS)
        w->count.rare[SIM_RARE_CAUGHT_UP]++;
    if (type == MSG_TX_SUBMIT)
        w->count.rare[SIM_RARE_HANDED_OVER]++;
    if (!judged(w) || w->plan.unjudged)
        return;
    if (h->as.dc->muted && is_signed(type))
        sim_violate(w, "mute", "dc-%u has no record and signed a %s", h->as.dc->number + 1u,
                    message_name(type));
    if (type == MSG_VOTE)
        check_vote(h, body);
    else if (type == MSG_GRANT)
        check_grant(h, body);
    else if (type == MSG_PROPOSAL)
        check_proposal(h, body);
    else if (type == MSG_HEARTBEAT)
        check_heartbeat(h, body);
    else if (type == MSG_HEARTBEAT_ACK && heartbeat_ack_parse(&ack, body) == AMI_OK &&
             may_say(h, ack.epoch, ack.voter, "heartbeat ack"))
        check_term(h, ack.epoch, ack.term, ack.committed);
    else if (type == MSG_PREVOTE && prevote_parse(&prevote, body) == AMI_OK &&
             may_say(h, prevote.epoch, prevote.voter, "prevote"))
        check_term(h, prevote.epoch, prevote.term - 1, 0);
    else if (type == MSG_QC_ANNOUNCE)
        check_announcement(h, body);
}

/* --- elections ------------------------------------------------------------------------------- */

/* Whether enough others could answer: who asks into the void has not tried. */
static bool reaches_quorum(const struct sim_host *h)
{
    const struct sim_world *w = h->world;
    const struct sim_epoch *e = sim_epoch_at(w, sim_disk_height(h->as.dc->disk) + 1);
    unsigned count = 0;
    for (uint16_t i = 0; i < w->names; i++)
        count +=
            sim_index_in(e, (uint8_t)i) != SIM_NOBODY &&
            (i == h->index || (sim_dc_runs(&w->host[i]) && w->host[i].as.dc->honest &&
                               w->host[i].paused_until == 0 && !sim_net_is_cut(w, h->index, i) &&
                               !sim_net_is_cut(w, i, h->index)));
    return count >= members_quorum(e->committee.members.count);
}

/* A leader is good when it is honest, has committed blocks for a while and nothing goes wrong
 * around it. One that waits for the last member of its quorum to catch up, while f liars hold that
 * up, is not: its transactions' timers may run out. */
static void check_deposed(struct sim_host *h, const char *detail)
{
    struct sim_world *w = h->world;
    struct sim_dc *d = h->as.dc;
    bool settled = w->quiet && w->now_us > w->quiet_since_us + SETTLED_US &&
                   d->commits_since_us != 0 && w->now_us > d->commits_since_us + LED_US;
    if (d->honest && settled && !w->plan.delay_late && strstr(detail, "why=OK") != NULL)
        sim_violate(w, "stable", "dc-%u led well for %.1f s and was deposed (%s)", d->number + 1u,
                    (double)(w->now_us - d->commits_since_us) / 1e6, detail);
}

static void check_evidence(struct sim_host *h, const char *detail)
{
    struct sim_world *w = h->world;
    char who[AMI_ID_BYTES_MAX + 1];
    if (sscanf(detail, "against=%32s", who) != 1)
        return;
    for (uint8_t i = 0; i < w->names; i++) {
        if (strcmp(w->name[i].name.text, who) != 0)
            continue;
        w->convicted |= 1u << i;
        w->count.rare[SIM_RARE_EVIDENCE]++;
        if (!w->name[i].liar && judged(w))
            sim_violate(w, "evidence", "dc-%u has evidence against dc-%u, which is honest (%s)",
                        h->as.dc->number + 1u, i + 1u, detail);
        return;
    }
}

void sim_check_said(struct sim_host *h, const char *event, const char *detail)
{
    struct sim_world *w = h->world;
    struct sim_dc *d = h->as.dc;
    if (w->watch != NULL && w->watch->said != NULL)
        w->watch->said(w->watch->ctx, h, event, detail);
    if (strcmp(event, "election") == 0 && d->honest && reaches_quorum(h))
        w->count.attempts++;
    if (strcmp(event, "evidence") == 0 && d->honest)
        check_evidence(h, detail);
    if (strcmp(event, "evidence_committed") == 0)
        w->count.rare[SIM_RARE_EVIDENCE_COMMITTED]++;
    if (strcmp(event, "leader") == 0) {
        char own[48];
        snprintf(own, sizeof own, "dc=%s", w->name[d->number].name.text);
        const char *who = strstr(detail, own);
        bool self = who != NULL && (who[strlen(own)] == 0 || who[strlen(own)] == ' ');
        d->leads_since_us = self ? w->now_us : 0;
        d->commits_since_us = 0;
        w->count.elections += self;
    }
    if (strcmp(event, "left") == 0)
        sim_changes_on_left(h);
    if (strcmp(event, "epoch") == 0)
        d->leads_since_us = d->commits_since_us = 0; /* nobody has led in it yet */
    if (strcmp(event, "stepped_down") != 0)
        return;
    w->count.rare[SIM_RARE_STEPPED_DOWN]++;
    check_deposed(h, detail);
    d->leads_since_us = d->commits_since_us = 0;
}
