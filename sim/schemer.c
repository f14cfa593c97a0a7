#include "sim/schemer.h"

#include "sim/liars.h"

#include "base/check.h"
#include "ledger/block.h"
#include "ledger/evidence.h"
#include "node/internal.h"

#include <stdlib.h>
#include <string.h>

#define BYTES_MAX      (256u << 10)
#define ALONE_AFTER_US (5 * SIM_MS)
#define ALONE_US       (4 * SIM_SECOND)

enum plan { PLAN_NONE, PLAN_HOARD, PLAN_TWO_FACED, PLAN_RELIC };

/* Votes of one kind for one block. */
struct ballot {
    uint32_t voters;
    struct vote vote[SIM_MEMBERS];
};

struct sim_schemer {
    struct sim_host *host;
    enum plan plan;
    uint32_t epoch; /* of the membership: a plan ends with it */
    uint64_t term, height;
    sm3_digest a, b;
    struct qc a_prepared; /* relic: the certificate of the epoch before */
    bool shown;           /* hoard: the certificate was shown */
    bool finished;        /* two-faced: B is committed */
    struct ballot prepare, commit;
    struct {
        uint64_t term;
        uint32_t epoch, voters;
        struct prevote vote[SIM_MEMBERS];
    } storm;
    /* Its last proposal, as it left. */
    size_t proposal_size;
    uint8_t *proposal;     /* BYTES_MAX */
    uint8_t *scratch;      /* BYTES_MAX */
    struct proposal other; /* large */
};

struct sim_schemer *sim_schemer_new(struct sim_host *h)
{
    struct sim_schemer *s = calloc(1, sizeof *s);
    AMI_CHECK(s != NULL);
    s->host = h;
    s->proposal = malloc(BYTES_MAX);
    s->scratch = malloc(BYTES_MAX);
    AMI_CHECK(s->proposal != NULL && s->scratch != NULL);
    return s;
}

void sim_schemer_free(struct sim_schemer *s)
{
    if (s == NULL)
        return;
    free(s->proposal);
    free(s->scratch);
    free(s);
}

static const struct sign_key *key_of(const struct sim_schemer *s)
{
    return s->host->as.dc->node->c.key.sign;
}

/* The committee that its node is in, or follows. */
static const struct members *members_of(const struct sim_schemer *s)
{
    return &s->host->as.dc->node->committee.members;
}

static uint8_t self_of(const struct sim_schemer *s)
{
    return s->host->as.dc->node->self;
}

static void look_at_epoch(struct sim_schemer *s)
{
    if (s->epoch == members_of(s)->epoch)
        return;
    s->epoch = members_of(s)->epoch;
    s->plan = PLAN_NONE;
    s->proposal_size = 0;
}

/* To the DC at this host index, or to all. */
static void say(struct sim_schemer *s, struct span frame, int to)
{
    struct sim_world *w = s->host->world;
    for (uint16_t i = 0; i < w->dcs; i++) {
        env_link link = s->host->as.dc->to_host[i];
        if ((to < 0 || to == i) && link != 0 && w->end[link].open && w->end[link].greeted >= 2)
            (void)sim_net_send_raw(s->host, link, frame, 0);
    }
}

static void announce(struct sim_schemer *s, const struct qc *qc, int to)
{
    struct qc_announce a = {*qc};
    struct writer w = writer_on(s->scratch, BYTES_MAX);
    frame_begin(&w, MSG_QC_ANNOUNCE);
    qc_announce_encode(&w, &a);
    AMI_CHECK(writer_ok(&w));
    say(s, writer_span(&w), to);
}

/* B is A a millisecond later. */
static bool propose_b(struct sim_schemer *s)
{
    uint8_t random[SM2_WIDE_BYTES];
    struct proposal *p = &s->other;
    if (s->proposal_size < 2 ||
        proposal_parse(p, span_of(s->proposal + 2, s->proposal_size - 2)) != AMI_OK ||
        p->core.term != s->term || p->core.header.height != s->height)
        return false;
    p->core.header.timestamp_ms++;
    s->b = block_hash(&p->core.header);
    struct writer core = writer_on(s->scratch, BYTES_MAX);
    proposal_core_encode(&core, &p->core);
    if (!writer_ok(&core))
        return false;
    uint8_t head[PROPOSAL_SIGNED_BYTES_MAX];
    struct span part = proposal_signed(head, &p->core, writer_span(&core));
    sim_random_bytes(&s->host->world->mischief, random, sizeof random);
    p->core.signature = sign_key_sign(key_of(s), LABEL_PROPOSAL, &part, 1, random);
    struct writer w = writer_on(s->scratch, BYTES_MAX);
    frame_begin(&w, MSG_PROPOSAL);
    proposal_encode(&w, p);
    if (!writer_ok(&w))
        return false;
    say(s, writer_span(&w), -1);
    return true;
}

static bool begin(struct sim_schemer *s, const struct qc *prepared)
{
    struct sim_world *w = s->host->world;
    bool hoard = sim_random_chance(&w->mischief, w->plan.mischief[SIM_MISCHIEF_HOARD]);
    bool two = sim_random_chance(&w->mischief, w->plan.mischief[SIM_MISCHIEF_TWO_FACED]);
    if (!hoard && !two)
        return false;
    s->plan = two ? PLAN_TWO_FACED : PLAN_HOARD;
    s->term = prepared->term;
    s->height = prepared->height;
    s->a = prepared->block;
    s->a_prepared = *prepared;
    sim_collude_learn(w, prepared); /* another liar may show it in time */
    s->shown = s->finished = false;
    s->prepare.voters = s->commit.voters = 0;
    if (two && !propose_b(s)) {
        s->plan = PLAN_NONE;
        return false;
    }
    w->count.mischief[two ? SIM_MISCHIEF_TWO_FACED : SIM_MISCHIEF_HOARD]++;
    sim_tell(w, s->host, "has a plan for term %llu: %s", (unsigned long long)s->term,
             two ? "a second block" : "hoards its certificate");
    return true;
}

static void tell_one(struct sim_schemer *s, const struct qc *qc, uint16_t who);

/* An honest DC that can commit this at once; SIM_NOBODY: none. */
static uint16_t who_is_ready(const struct sim_schemer *s, const struct qc *qc)
{
    const struct sim_world *w = s->host->world;
    for (uint16_t i = 0; i < w->names; i++) {
        const struct sim_dc *d = w->host[i].as.dc;
        if (d->honest && sim_dc_runs(&w->host[i]) && s->host->as.dc->to_host[i] != 0 &&
            sim_disk_height(d->disk) + 1 == qc->height && sim_disk_has(d->disk, &qc->block))
            return i;
    }
    return SIM_NOBODY;
}

static bool begin_relic(struct sim_schemer *s, const struct qc *commit)
{
    struct sim_world *w = s->host->world;
    const struct qc *old = sim_collude_highest(w, commit->epoch - 1);
    const uint16_t who = who_is_ready(s, commit);
    if (old == NULL || who == SIM_NOBODY || old->term <= commit->term ||
        !sim_random_chance(&w->mischief, w->plan.mischief[SIM_MISCHIEF_OLD_EPOCH]))
        return false;
    s->plan = PLAN_RELIC;
    s->term = commit->term;
    s->height = commit->height;
    s->a_prepared = *old;
    s->finished = true;
    sim_tell(w, s->host, "has a plan for term %llu: a certificate of the epoch before",
             (unsigned long long)s->term);
    tell_one(s, commit, who);
    return true;
}

static bool on_announce(struct sim_schemer *s, struct span body)
{
    struct qc_announce a;
    if (qc_announce_parse(&a, body) != AMI_OK)
        return false;
    if (s->plan == PLAN_NONE && a.cert.kind == VOTE_COMMIT && begin_relic(s, &a.cert))
        return true;
    bool mine = s->plan != PLAN_NONE && a.cert.term == s->term && a.cert.height == s->height;
    if (mine)
        return true;
    return a.cert.kind == VOTE_PREPARE && (s->plan == PLAN_NONE || a.cert.term > s->term) &&
           begin(s, &a.cert);
}

bool sim_schemer_send(struct sim_schemer *s, enum message_type type, struct span frame)
{
    struct span body = span_of(frame.data + 2, frame.size - 2);
    look_at_epoch(s);
    if (type == MSG_PROPOSAL && frame.size <= BYTES_MAX && s->plan == PLAN_NONE) {
        memcpy(s->proposal, frame.data, frame.size);
        s->proposal_size = frame.size;
    }
    if (type == MSG_QC_ANNOUNCE)
        return on_announce(s, body);
    if (s->plan == PLAN_RELIC && (type == MSG_PREVOTE_REQUEST || type == MSG_GRANT_REQUEST))
        return true; /* somebody else is to lead */
    /* Silent from then on, so that somebody else is elected. */
    return (type == MSG_HEARTBEAT || type == MSG_PROPOSAL) &&
           (((s->plan == PLAN_TWO_FACED || s->plan == PLAN_RELIC) && s->finished) ||
            (s->plan == PLAN_HOARD && !s->shown));
}

const struct qc *sim_schemer_high(const struct sim_schemer *s, uint64_t term)
{
    if (s->plan == PLAN_RELIC)
        return term > s->a_prepared.term ? &s->a_prepared : NULL;
    return s->plan == PLAN_TWO_FACED && term > s->term ? &s->a_prepared : NULL;
}

/* The network keeps it apart from then on for a while: an adversary's network may. */
static void tell_one(struct sim_schemer *s, const struct qc *qc, uint16_t who)
{
    struct sim_world *w = s->host->world;
    announce(s, qc, who);
    sim_faults_isolate_later(w, who, ALONE_AFTER_US, ALONE_US);
}

/* --- votes ----------------------------------------------------------------------------------- */

/* True: with this vote, and its own, there is a certificate. */
static bool count(struct sim_schemer *s, struct ballot *b, const struct vote *v, struct qc *out)
{
    const struct members *m = members_of(s);
    uint8_t random[SM2_WIDE_BYTES];
    if (self_of(s) >= m->count || v->voter >= m->count || vote_check(m, v) != AMI_OK)
        return false;
    if (b->voters == 0) {
        struct vote own = *v;
        own.voter = self_of(s);
        sim_random_bytes(&s->host->world->mischief, random, sizeof random);
        vote_sign(&own, key_of(s), random);
        b->vote[own.voter] = own;
        b->voters |= 1u << own.voter;
    }
    b->vote[v->voter] = *v;
    b->voters |= 1u << v->voter;
    struct vote list[SIM_MEMBERS];
    size_t votes = 0;
    for (uint8_t i = 0; i < m->count; i++)
        if ((b->voters >> i & 1) != 0)
            list[votes++] = b->vote[i];
    return qc_make(out, m, list, votes) == AMI_OK;
}

static void on_vote(struct sim_schemer *s, struct span body)
{
    struct vote v;
    struct qc qc;
    if (vote_parse(&v, body) != AMI_OK || v.term != s->term || v.height != s->height)
        return;
    const sm3_digest *wanted = s->plan == PLAN_TWO_FACED ? &s->b : &s->a;
    if (!sm3_equal(&v.block, wanted))
        return;
    if (v.kind == VOTE_PREPARE && s->plan == PLAN_TWO_FACED && count(s, &s->prepare, &v, &qc))
        announce(s, &qc, -1);
    if (v.kind == VOTE_COMMIT && (s->plan == PLAN_TWO_FACED || s->shown) &&
        count(s, &s->commit, &v, &qc)) {
        sim_tell(s->host->world, s->host, "its plan works: it has a commit certificate");
        s->finished = true;
        if (s->plan == PLAN_TWO_FACED)
            tell_one(s, &qc, (uint16_t)(s->host->world->plan.dcs - 1));
        else
            announce(s, &qc, -1);
    }
}

/* --- the storm ------------------------------------------------------------------------------- */

/* Signs what is encoded behind the two first bytes and tells all. */
static void sign_and_say(struct sim_schemer *s, struct writer *w, const char *label)
{
    uint8_t random[SM2_WIDE_BYTES];
    AMI_CHECK(writer_ok(w));
    sim_random_bytes(&s->host->world->mischief, random, sizeof random);
    struct span part = span_of(w->data + 2, w->size - 2 - SM2_SIGNATURE_BYTES);
    sm2_signature sig = sign_key_sign(key_of(s), label, &part, 1, random);
    memcpy(w->data + w->size - SM2_SIGNATURE_BYTES, sig.b, sizeof sig.b);
    say(s, writer_span(w), -1);
}

static struct prevote own_prevote(struct sim_schemer *s, uint64_t term)
{
    const struct members *m = members_of(s);
    struct prevote v = {.chain = m->chain,
                        .epoch = m->epoch,
                        .term = term,
                        .candidate = self_of(s),
                        .voter = self_of(s)};
    uint8_t bytes[256], random[SM2_WIDE_BYTES];
    struct writer w = writer_on(bytes, sizeof bytes);
    prevote_encode(&w, &v);
    /* The signature is over the fields up to the candidate: all but the voter and itself. */
    struct span part = span_of(bytes, w.size - SM2_SIGNATURE_BYTES - 1);
    sim_random_bytes(&s->host->world->mischief, random, sizeof random);
    v.signature = sign_key_sign(key_of(s), LABEL_PREVOTE, &part, 1, random);
    return v;
}

void sim_schemer_storm(struct sim_schemer *s)
{
    const struct members *m = members_of(s);
    const struct vote_record *r = sim_disk_record(s->host->as.dc->disk);
    static struct prevote_request q; /* large */
    if (r == NULL || r->epoch != m->epoch || self_of(s) >= m->count)
        return;
    q = (struct prevote_request){
        .chain = m->chain, .epoch = m->epoch, .term = r->term + 1, .candidate = self_of(s)};
    if (r->has_term_cert && r->term_cert.term == r->term) {
        q.proof.has_prevotes = true;
        q.proof.prevotes = r->term_cert;
    } else if (r->has_high && r->high.term == r->term) {
        q.proof.has_votes = true;
        q.proof.votes = r->high;
    } else if (r->term != 0) {
        return;
    }
    if (s->storm.term != q.term || s->storm.epoch != m->epoch) {
        s->storm.term = q.term;
        s->storm.epoch = m->epoch;
        s->storm.voters = 1u << q.candidate;
        s->storm.vote[q.candidate] = own_prevote(s, q.term);
    }
    struct writer w = writer_on(s->scratch, BYTES_MAX);
    frame_begin(&w, MSG_PREVOTE_REQUEST);
    prevote_request_encode(&w, &q);
    sign_and_say(s, &w, LABEL_PREVOTE_REQUEST);
}

static void on_prevote(struct sim_schemer *s, struct span body)
{
    const struct members *m = members_of(s);
    static struct grant_request q; /* large */
    struct prevote v;
    if (prevote_parse(&v, body) != AMI_OK || v.term != s->storm.term || v.voter >= m->count ||
        v.epoch != m->epoch || s->storm.epoch != m->epoch || v.candidate != self_of(s))
        return;
    s->storm.vote[v.voter] = v;
    s->storm.voters |= 1u << v.voter;
    if ((unsigned)__builtin_popcount(s->storm.voters) < members_quorum(m->count))
        return;
    q = (struct grant_request){
        .chain = m->chain, .epoch = m->epoch, .term = v.term, .candidate = v.candidate};
    q.cert = (struct prevote_cert){.chain = m->chain,
                                   .epoch = m->epoch,
                                   .term = v.term,
                                   .candidate = v.candidate,
                                   .signers = s->storm.voters};
    for (uint8_t i = 0; i < m->count; i++)
        if ((s->storm.voters >> i & 1) != 0)
            q.cert.signatures[q.cert.signatures_count++] = s->storm.vote[i].signature;
    struct writer w = writer_on(s->scratch, BYTES_MAX);
    frame_begin(&w, MSG_GRANT_REQUEST);
    grant_request_encode(&w, &q);
    sign_and_say(s, &w, LABEL_GRANT_REQUEST);
}

void sim_schemer_receive(struct sim_schemer *s, env_link link, enum message_type type,
                         struct span body)
{
    look_at_epoch(s);
    if (type == MSG_PREVOTE)
        on_prevote(s, body);
    if (s->plan == PLAN_NONE)
        return;
    if (s->plan == PLAN_RELIC) {
        env_link back = sim_liar_link_back(s->host, link);
        if (type == MSG_PROPOSAL && back != 0)
            sim_collude_vote(s->host, back, body);
        return;
    }
    if (type == MSG_VOTE)
        on_vote(s, body);
    if (type != MSG_PROPOSAL || s->plan != PLAN_HOARD || s->shown ||
        proposal_parse(&s->other, body) != AMI_OK || s->other.core.term <= s->term)
        return;
    s->shown = true;
    announce(s, &s->a_prepared, -1);
}
