/* sim/checks.c - the invariants of consensus.md, each under a name.
 *
 * They judge as an outsider would who has all wires tapped and all disks at hand: frames that
 * leave honest DCs, what is on disks, what meters made and believe. They read the wire format and
 * know nothing of how a node decides. */
#include "sim/world.h"

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

/* What an honest DC has shown the others in its newest epoch; it outlives restarts. */
struct shown {
    uint32_t epoch;
    struct vote vote[3];
    bool has_vote[3];
    uint64_t grant_term;
    uint64_t term;
};

/* A statement that was signed for a slot. */
struct slot_key {
    uint8_t number, what;
    uint16_t zero;
    uint32_t epoch; /* of the membership; of a report's key */
    uint64_t term, height;
};
struct slot {
    struct slot_key key;
    sm3_digest value;
    UT_hash_handle hh;
};

struct sim_checks {
    struct shown shown[SIM_DCS_MAX];
    struct slot *slots;
    struct sim_epoch **epoch; /* [epoch - 1] */
    uint32_t epochs;
    uint64_t committed; /* reports on the ledger */
    sm3_digest *agreed; /* by height - 1 */
    uint64_t agreed_count, agreed_capacity;
    /* The announcement that was found good last: it goes to all, one after the other. */
    size_t announced_size;
    uint8_t announced[4096];
    struct sim_meter **meter; /* by number in the cast */
};

/* --- epochs ---------------------------------------------------------------------------------- */

static struct sim_epoch *add_epoch(struct sim_checks *c)
{
    c->epoch = realloc(c->epoch, (c->epochs + 1) * sizeof(struct sim_epoch *));
    struct sim_epoch *e = calloc(1, sizeof *e);
    AMI_CHECK(c->epoch != NULL && e != NULL);
    c->epoch[c->epochs++] = e;
    return e;
}

static void number_members(const struct sim_world *w, struct sim_epoch *e)
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
    struct sim_epoch *first = add_epoch(c);
    committee_first(&first->committee, &w->cast->genesis);
    number_members(w, first);
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

/* With a rule off, what follows from it directly is not what is looked for. */
static bool judged(const struct sim_world *w)
{
    return w->plan.rules_off == 0 && !w->plan.record_repaired;
}

static unsigned long long ull(uint64_t v)
{
    return (unsigned long long)v;
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

/* False: this report was committed before. */
static bool slot_free(struct sim_checks *c, const struct tx_view *tx)
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

/* A leader is good when it is honest, has led for a while and nothing goes wrong around it. */
static void check_deposed(struct sim_host *h, const char *detail)
{
    struct sim_world *w = h->world;
    struct sim_dc *d = h->as.dc;
    bool settled = w->quiet && w->now_us > w->quiet_since_us + SETTLED_US &&
                   w->now_us > d->leads_since_us + LED_US && d->leads_since_us != 0;
    if (d->honest && settled && !w->plan.delay_late && strstr(detail, "why=OK") != NULL)
        sim_violate(w, "stable", "dc-%u led well for %.1f s and was deposed (%s)", d->number + 1u,
                    (double)(w->now_us - d->leads_since_us) / 1e6, detail);
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
        w->count.elections += self;
    }
    if (strcmp(event, "left") == 0)
        sim_changes_on_left(h);
    if (strcmp(event, "epoch") == 0)
        d->leads_since_us = 0; /* nobody has led in it yet */
    if (strcmp(event, "stepped_down") != 0)
        return;
    w->count.rare[SIM_RARE_STEPPED_DOWN]++;
    check_deposed(h, detail);
    d->leads_since_us = 0;
}

/* --- disks ----------------------------------------------------------------------------------- */

static struct sim_meter *meter_named(const struct sim_world *w, const struct ami_id *name)
{
    unsigned long k = name->size > 2 ? strtoul(name->text + 2, NULL, 10) : 0; /* m-1, m-2, ... */
    struct sim_meter *m = k >= 1 && k <= w->plan.meters ? w->checks->meter[k - 1] : NULL;
    return m != NULL && ami_id_equal(&m->key[0]->name, name) ? m : NULL;
}

static void check_report(struct sim_host *h, const struct report_meter_part *p, uint64_t height)
{
    struct sim_world *w = h->world;
    struct sim_meter *m = meter_named(w, &p->meter);
    const struct sim_book *b =
        m != NULL && p->epoch >= 1 && p->epoch <= m->epoch ? &m->book[p->epoch - 1] : NULL;
    if (b == NULL || p->sequence == 0 || p->sequence > b->reports ||
        !sm3_equal(&b->report[p->sequence - 1].commitment, &p->commitment))
        sim_violate(w, "made-by-meter",
                    "dc-%u: block %llu has report %llu of %s, which that meter did not make",
                    h->as.dc->number + 1u, ull(height), ull(p->sequence), p->meter.text);
    else if (b->revoked_at != 0)
        sim_violate(w, "revoked",
                    "dc-%u: block %llu has report %llu of %s, whose key was revoked in block %llu",
                    h->as.dc->number + 1u, ull(height), ull(p->sequence), p->meter.text,
                    ull(b->revoked_at));
}

/* --- changes --------------------------------------------------------------------------------- */

static void check_new_keys(struct sim_world *w, const struct meter_enrol *e)
{
    const struct sim_meter *m = meter_named(w, &e->meter);
    if (m != NULL)
        w->count.change[ami_id_equal(&m->home, &e->home_dc) ? SIM_CHANGE_MOVE : SIM_CHANGE_RENEW]++;
}

static void check_revocation(struct sim_world *w, const struct revoke *r, uint64_t height)
{
    struct sim_meter *m = r->role == DEVICE_METER ? meter_named(w, &r->device) : NULL;
    if (m == NULL || r->epoch == 0 || r->epoch > m->epoch || !m->to_revoke) {
        sim_violate(w, "revoked", "block %llu revokes a key of %s that nobody asked for",
                    ull(height), r->device.text);
        return;
    }
    m->book[r->epoch - 1].revoked_at = height;
    w->count.change[SIM_CHANGE_REVOKE]++;
}

static bool was_member(const struct sim_world *w, uint8_t number)
{
    for (uint32_t e = 1; e <= sim_epochs(w); e++)
        if (sim_index_in(sim_epoch(w, e), number) != SIM_NOBODY)
            return true;
    return false;
}

static void count_change(struct sim_world *w, const struct membership *m, uint8_t number)
{
    static const enum sim_change kinds[] = {[MEMBER_JOIN] = SIM_CHANGE_JOIN,
                                            [MEMBER_LEAVE] = SIM_CHANGE_LEAVE,
                                            [MEMBER_ROTATE] = SIM_CHANGE_ROTATE};
    enum sim_change kind = kinds[m->change];
    if (kind == SIM_CHANGE_JOIN && was_member(w, number))
        kind = SIM_CHANGE_REJOIN;
    if (kind == SIM_CHANGE_ROTATE && w->host[number].as.dc->key_lost != 0)
        kind = SIM_CHANGE_ROTATE_LOST;
    w->count.change[kind]++;
}

/* The next epoch is decided. */
static void check_membership(struct sim_world *w, const struct membership *m, uint64_t height)
{
    struct sim_checks *c = w->checks;
    const struct sim_epoch *before = c->epoch[c->epochs - 1];
    uint8_t number = sim_number_of(w, &m->dc);
    if (before->committee.from > height || number == SIM_NOBODY) {
        sim_violate(w, "epoch", "block %llu changes the committee while a change is pending",
                    ull(height));
        return;
    }
    count_change(w, m, number);
    struct sim_epoch *e = add_epoch(c);
    e->committee = before->committee;
    if (committee_change(&e->committee, &w->cast->genesis.network, m, height) != AMI_OK)
        sim_violate(w, "epoch", "block %llu holds a change that does not fit the committee",
                    ull(height));
    number_members(w, e);
    e->change = m->change;
    e->changed = number;
    sim_changes_on_epoch(w, e);
}

/* Who was where when an epoch began: seldom paths. */
static void count_begin(struct sim_world *w, const struct sim_epoch *e)
{
    const struct sim_host *h = &w->host[e->changed];
    bool cut = true;
    for (uint8_t i = 0; i < e->committee.members.count; i++) {
        uint16_t other = e->number[i];
        cut = cut && (other == e->changed || sim_net_is_cut(w, h->index, other) ||
                      sim_net_is_cut(w, other, h->index));
    }
    if (e->change == MEMBER_JOIN) {
        w->count.rare[SIM_RARE_JOINED_DOWN] += !sim_dc_runs(h);
        w->count.rare[SIM_RARE_JOINED_CUT] += sim_dc_runs(h) && cut;
    } else {
        w->count.rare[SIM_RARE_LEADER_LEFT] += h->as.dc->leads_since_us != 0;
    }
}

/* Its first block is committed, and some are not in it yet. */
static void count_late(struct sim_world *w, const struct sim_epoch *e)
{
    const uint64_t last = e->committee.from - 1;
    for (uint16_t i = 0; i < w->names; i++) {
        const struct sim_dc *d = w->host[i].as.dc;
        const struct vote_record *r = sim_disk_record(d->disk);
        const uint64_t height = sim_disk_height(d->disk);
        if (!d->honest || height >= last)
            continue;
        if (sim_index_in(e, (uint8_t)i) != SIM_NOBODY && height + 1 < last)
            w->count.rare[SIM_RARE_EPOCH_BEHIND]++;
        if (r != NULL && r->epoch + 1 == e->committee.members.epoch && r->has_high &&
            r->high.height > height)
            w->count.rare[SIM_RARE_EPOCH_OPEN_QC]++;
    }
}

/* A block that was not seen before at this height: what is in it. */
static void check_body(struct sim_host *h, const struct sim_block *b)
{
    struct sim_world *w = h->world;
    struct body_reader it = body_reader_on(b->body);
    struct span encoded;
    while (body_next(&it, &encoded)) {
        struct tx_view tx;
        if (tx_view_parse(&tx, encoded) != AMI_OK) {
            sim_violate(w, "chain", "block %llu holds something that is no transaction",
                        ull(b->header.height));
            return;
        }
        if (tx.tx.kind == TX_REVOKE)
            check_revocation(w, &tx.u.revoke, b->header.height);
        if (tx.tx.kind == TX_MEMBERSHIP)
            check_membership(w, &tx.u.membership, b->header.height);
        if (tx.tx.kind == TX_METER_ENROL && tx.u.meter_enrol.epoch > 1)
            check_new_keys(w, &tx.u.meter_enrol);
        if (tx.tx.kind != TX_REPORT)
            continue;
        const struct report_meter_part *p = &tx.u.report.meter;
        check_report(h, p, b->header.height);
        w->checks->committed++;
        if (!slot_free(w->checks, &tx))
            sim_violate(w, "once", "report %llu of %s is committed again in block %llu",
                        ull(p->sequence), p->meter.text, ull(b->header.height));
    }
}

static void new_height(struct sim_checks *c, const struct sim_block *b)
{
    if (c->agreed_count == c->agreed_capacity) {
        c->agreed_capacity = c->agreed_capacity == 0 ? 256 : 2 * c->agreed_capacity;
        c->agreed = realloc(c->agreed, c->agreed_capacity * sizeof *c->agreed);
        AMI_CHECK(c->agreed != NULL);
    }
    c->agreed[c->agreed_count++] = b->hash;
}

static void check_block(struct sim_host *h, uint64_t height)
{
    struct sim_world *w = h->world;
    struct sim_dc *d = h->as.dc;
    struct sim_checks *c = w->checks;
    const struct sim_block *b = sim_disk_block(d->disk, height);
    const struct sim_block *parent = sim_disk_block(d->disk, height - 1);
    const sm3_digest *previous = height == 1 ? &w->cast->genesis.members.chain : &parent->hash;
    sim_trace_bytes(w, b->hash.b, sizeof b->hash.b);
    sim_tell(w, h, "has block %llu: %02x%02x%02x%02x, term %llu, %u transactions", ull(height),
             b->hash.b[0], b->hash.b[1], b->hash.b[2], b->hash.b[3], ull(b->header.term),
             b->header.tx_count);
    if (b->header.height != height || !sm3_equal(&b->header.previous, previous))
        sim_violate(w, "chain", "dc-%u: block %llu does not extend the one before", d->number + 1u,
                    ull(height));
    if (height <= c->agreed_count) {
        if (!sm3_equal(&c->agreed[height - 1], &b->hash))
            sim_violate(w, "agreement", "dc-%u committed another block at height %llu than others",
                        d->number + 1u, ull(height));
        return;
    }
    AMI_CHECK(height == c->agreed_count + 1);
    new_height(c, b);
    w->count.commits++;
    if (b->commit.kind != VOTE_COMMIT && judged(w))
        sim_violate(w, "certified", "dc-%u: block %llu has no commit certificate", d->number + 1u,
                    ull(height));
    const struct sim_epoch *e = sim_epoch_at(w, height);
    if (b->header.epoch != e->committee.members.epoch ||
        !sm3_equal(&b->header.members, &e->committee.members.hash))
        sim_violate(w, "epoch", "dc-%u: block %llu is of epoch %u, not %u", d->number + 1u,
                    ull(height), (unsigned)b->header.epoch, (unsigned)e->committee.members.epoch);
    if (b->commit.height != height || !sm3_equal(&b->commit.block, &b->hash) ||
        (judged(w) && qc_check(&e->committee.members, &b->commit) != AMI_OK))
        sim_violate(w, "certified", "dc-%u: the certificate of block %llu does not verify",
                    d->number + 1u, ull(height));
    if (height == e->committee.from && height > 1)
        count_late(w, e);
    w->count.rare[SIM_RARE_EMPTY_BLOCK] += b->header.tx_count == 0;
    check_body(h, b);
    const struct sim_epoch *next = sim_epoch_at(w, height + 1);
    if (next != e)
        count_begin(w, next);
    sim_changes_on_height(w, height);
}

void sim_check_stored(struct sim_host *h, uint64_t before)
{
    struct sim_world *w = h->world;
    struct sim_dc *d = h->as.dc;
    if (w->watch != NULL && w->watch->stored != NULL)
        w->watch->stored(w->watch->ctx, h, before);
    if (!d->honest || w->plan.unjudged)
        return;
    for (uint64_t height = before + 1; height <= sim_disk_height(d->disk); height++)
        check_block(h, height);
    const struct vote_record *r = sim_disk_record(d->disk);
    struct shown *s = &w->checks->shown[d->number];
    if (judged(w) && r != NULL && !d->muted && r->epoch == s->epoch && r->term < s->term)
        sim_violate(w, "rising", "dc-%u: term %llu was shown, %llu is on its disk", d->number + 1u,
                    ull(s->term), ull(r->term));
}

void sim_check_started(struct sim_host *h)
{
    struct sim_dc *d = h->as.dc;
    const struct sim_block *tip = sim_disk_block(d->disk, sim_disk_height(d->disk));
    if (!d->honest || tip == NULL)
        return;
    sm3_digest root = registry_root(d->registry);
    if (!sm3_equal(&root, &tip->header.state_root))
        sim_violate(h->world, "state-root",
                    "dc-%u starts with another registry than block %llu certifies", d->number + 1u,
                    ull(tip->header.height));
}

/* --- meters ---------------------------------------------------------------------------------- */

void sim_check_made(struct sim_host *h, struct sim_meter *m, struct sim_report *r)
{
    sim_trace_number(h->world, (uint64_t)m->number << 32 | r->sequence);
}

/* Honest disks that hold this report. */
static unsigned holders(struct sim_world *w, const struct sim_meter *m, uint32_t epoch,
                        const struct sim_report *r)
{
    unsigned count = 0;
    for (uint16_t i = 0; i < w->dcs; i++) {
        struct sim_host *h = &w->host[i];
        uint64_t height;
        uint32_t index;
        if (sim_dc_counts(h) && sim_disk_find_report(h->as.dc->disk, &m->key[0]->name, epoch,
                                                     r->sequence, &height, &index))
            count++;
    }
    return count;
}

/* Where it is on somebody's disk; NULL: nowhere. */
static const struct sim_block *block_with(struct sim_world *w, const struct sim_meter *m,
                                          const struct sim_report *r)
{
    for (uint16_t i = 0; i < w->dcs; i++) {
        uint64_t height;
        uint32_t index;
        const struct sim_disk *disk = w->host[i].as.dc->disk;
        if (sim_disk_find_report(disk, &m->key[0]->name, m->epoch, r->sequence, &height, &index))
            return sim_disk_block(disk, height);
    }
    return NULL;
}

/* The block itself may be committed on one disk only so far; but q members of its epoch have signed
 * to have it, so that q - f honest ones hold it, committed or kept. */
static unsigned keepers(struct sim_world *w, const struct sim_epoch *e, const sm3_digest *block)
{
    unsigned count = 0;
    for (uint16_t i = 0; i < w->dcs; i++) {
        const struct sim_dc *d = w->host[i].as.dc;
        count +=
            d->honest && sim_index_in(e, d->number) != SIM_NOBODY && sim_disk_has(d->disk, block);
    }
    return count;
}

/* Members that lost their disk and may have held it. */
static unsigned wiped(const struct sim_world *w, const struct sim_epoch *e)
{
    unsigned count = 0;
    for (uint16_t i = 0; i < w->dcs; i++) {
        const struct sim_dc *d = w->host[i].as.dc;
        count += d->honest && d->wiped && sim_index_in(e, d->number) != SIM_NOBODY;
    }
    return count;
}

void sim_check_acknowledged(struct sim_host *h, struct sim_meter *m, struct sim_report *r)
{
    struct sim_world *w = h->world;
    if (r->acknowledged_us != 0)
        w->count.rare[SIM_RARE_BELIEVED_AGAIN]++;
    if (r->acknowledged_us == 0) {
        r->acknowledged_us = w->now_us;
        w->count.reports_acknowledged++;
    }
    if (w->plan.unjudged)
        return;
    const struct sim_block *b = block_with(w, m, r);
    const struct sim_epoch *e = sim_epoch_at(w, b == NULL ? 1 : b->header.height);
    unsigned n = e->committee.members.count, f = members_f(n), need = members_quorum(n) - f;
    unsigned kept = b == NULL ? 0 : keepers(w, e, &b->hash) + wiped(w, e);
    if (w->plan.byzantine <= members_f(w->plan.dcs) && w->plan.rules_off == 0 && kept < need)
        sim_violate(w, "acknowledged",
                    "m-%zu believes report %llu acknowledged; %u honest DCs hold it, not %u",
                    m->number + 1, ull(r->sequence), kept, need);
}

/* --- the end --------------------------------------------------------------------------------- */

static bool mdms_has(struct sim_world *w, const struct sim_meter *m, uint32_t epoch,
                     const struct sim_report *r, struct report_record *out)
{
    struct mdms_key at = key_report(&m->key[0]->name, epoch, r->sequence);
    struct span key, value;
    return sim_kv_seek(w->host[w->host_count - 1].as.mdms->kv, TABLE_REPORTS, key_span(&at), &key,
                       &value) &&
           span_equal(key, key_span(&at)) && report_record_parse(out, value) == AMI_OK;
}

/* Of a good key everything must get there; of a revoked one what was committed before. */
static bool all_settled(const struct sim_world *w)
{
    for (size_t k = 0; k < w->plan.meters; k++) {
        const struct sim_meter *m = w->checks->meter[k];
        for (uint32_t e = 0; e < m->epoch; e++)
            if (m->book[e].open != 0 && m->book[e].revoked_at == 0)
                return false;
    }
    return true;
}

bool sim_check_complete(struct sim_world *w)
{
    uint64_t height = w->checks->agreed_count;
    for (uint16_t i = 0; i < w->dcs; i++)
        if (sim_dc_counts(&w->host[i]) &&
            (!sim_dc_runs(&w->host[i]) || sim_disk_height(w->host[i].as.dc->disk) < height))
            return false;
    return all_settled(w) && sim_changes_done(w) &&
           sim_kv_count(w->host[w->host_count - 1].as.mdms->kv, TABLE_REPORTS) >=
               w->checks->committed;
}

static void check_reading(struct sim_world *w, const struct sim_meter *m, uint32_t epoch,
                          const struct sim_report *r)
{
    struct report_record record;
    if (!mdms_has(w, m, epoch, r, &record)) {
        if (m->book[epoch - 1].revoked_at == 0 || r->acknowledged_us != 0)
            sim_violate(w, "readings", "the MDMS has no report %llu of m-%zu, epoch %u",
                        ull(r->sequence), m->number + 1, (unsigned)epoch);
        return;
    }
    sm3_digest c = report_commitment(record.salt, record.m);
    if (!sm3_equal(&c, &r->commitment))
        sim_violate(w, "readings", "the MDMS has another report %llu of m-%zu", ull(r->sequence),
                    m->number + 1);
}

static void check_kept(struct sim_world *w, const struct sim_meter *m, uint32_t epoch,
                       const struct sim_report *r)
{
    unsigned has = holders(w, m, epoch, r), all = 0;
    for (uint16_t d = 0; d < w->dcs; d++)
        all += sim_dc_counts(&w->host[d]);
    if (r->acknowledged_us != 0 && has < all)
        sim_violate(w, "kept", "report %llu of m-%zu was acknowledged; %u of %u DCs have it",
                    ull(r->sequence), m->number + 1, has, all);
}

static void each_report(struct sim_world *w,
                        void (*check)(struct sim_world *w, const struct sim_meter *m,
                                      uint32_t epoch, const struct sim_report *r))
{
    for (size_t k = 0; k < w->plan.meters; k++) {
        const struct sim_meter *m = w->checks->meter[k];
        for (uint32_t e = 1; e <= m->epoch; e++)
            for (size_t i = 0; i < m->book[e - 1].reports; i++)
                check(w, m, e, &m->book[e - 1].report[i]);
    }
}

void sim_check_end(struct sim_world *w)
{
    each_report(w, check_kept);
    for (uint16_t i = 0; i < w->dcs; i++) {
        struct sim_host *h = &w->host[i];
        const struct sim_block *tip =
            sim_disk_block(h->as.dc->disk, sim_disk_height(h->as.dc->disk));
        if (!sim_dc_counts(h) || !h->up || tip == NULL)
            continue;
        struct registry *r = sim_disk_registry(h->as.dc->disk);
        sm3_digest root = registry_root(r);
        registry_free(r);
        if (!sm3_equal(&root, &tip->header.state_root))
            sim_violate(w, "state-root", "dc-%u: the registry on its disk is not block %llu's",
                        h->as.dc->number + 1u, ull(tip->header.height));
    }
    each_report(w, check_reading);
    size_t has = sim_kv_count(w->host[w->host_count - 1].as.mdms->kv, TABLE_REPORTS);
    if (has != w->checks->committed)
        sim_violate(w, "readings", "the MDMS has %zu reports, %llu were committed", has,
                    ull(w->checks->committed));
}
