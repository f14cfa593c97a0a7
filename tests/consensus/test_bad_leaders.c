/* Rule 9: members that use every chance to be elected and do nothing with it. They ask for
 * pre-votes as early and as often as they like, with valid messages only; their own replicas are
 * kept silent. With the rule, the others commit all the same; without it, hardly anything ever. */
#include "tests/harness.h"

#include "crypto/secret.h"
#include "tests/consensus/world.h"

#include <string.h>

enum habit {
    HOARDS = 1, /* takes pre-votes and shows them to nobody */
    STORMS,     /* raises the term with them and asks for grants that it does not use */
    IDLES       /* is elected, beats its heart, proposes nothing */
};

struct liar {
    uint8_t member;
    struct prevote_cert proof; /* of the highest term that it heard of; term 0: none */
    uint64_t asks, leads;      /* terms */
    uint32_t prevotes_mask, grants_mask;
    sm2_signature prevote[AMI_MEMBERS_MAX];
    struct election_cert election;
};

struct gang {
    enum habit habit;
    unsigned n, count;
    struct liar liar[4];
};

static uint8_t bytes[1u << 16];

static void put_tail(struct world *w, const struct liar *x, const char *label, struct writer *out)
{
    struct span part = signed_part(span_of(bytes + 2, out->size - 2));
    uint8_t random[SM2_WIDE_BYTES] = {7};
    sm2_signature sig = sign_key_sign(world_key(w, x->member), label, &part, 1, random);
    memcpy(bytes + out->size - sizeof sig.b, sig.b, sizeof sig.b);
}

static void to_all(struct world *w, const struct gang *g, const struct liar *x, struct span frame)
{
    for (uint8_t i = 0; i < g->n; i++)
        if (i != x->member)
            world_inject(w, x->member, i, frame, 1 * MS);
}

static sm2_signature sign_prevote(struct world *w, const struct liar *x, uint64_t term)
{
    uint8_t part[SM3_BYTES + 4 + 8 + 1], random[SM2_WIDE_BYTES] = {7};
    struct writer out = writer_on(part, sizeof part);
    write_raw(&out, world_members(w)->chain.b, SM3_BYTES);
    write_u32(&out, 1);
    write_u64(&out, term);
    write_u8(&out, x->member);
    struct span span = writer_span(&out);
    return sign_key_sign(world_key(w, x->member), LABEL_PREVOTE, &span, 1, random);
}

static void ask_prevotes(struct world *w, const struct gang *g, struct liar *x)
{
    static struct prevote_request m;
    memset(&m, 0, sizeof m);
    m.chain = world_members(w)->chain;
    m.epoch = 1;
    m.term = x->proof.term + 1;
    m.candidate = x->member;
    if ((m.proof.has_prevotes = x->proof.term != 0))
        m.proof.prevotes = x->proof;
    struct writer out = writer_on(bytes, sizeof bytes);
    frame_begin(&out, MSG_PREVOTE_REQUEST);
    prevote_request_encode(&out, &m);
    put_tail(w, x, LABEL_PREVOTE_REQUEST, &out);
    to_all(w, g, x, writer_span(&out));
    if (x->asks == m.term)
        return;
    x->asks = m.term;
    x->prevotes_mask = 1u << x->member;
    x->prevote[x->member] = sign_prevote(w, x, m.term);
}

static void ask_grants(struct world *w, const struct gang *g, struct liar *x)
{
    struct prevote_cert c = {.chain = world_members(w)->chain,
                             .epoch = 1,
                             .term = x->asks,
                             .candidate = x->member,
                             .signers = x->prevotes_mask};
    for (unsigned i = 0; i < g->n; i++)
        if ((x->prevotes_mask >> i & 1) != 0)
            c.signatures[c.signatures_count++] = x->prevote[i];
    x->proof = x->election.prevotes = c;
    struct grant_request m = {
        .chain = c.chain, .epoch = 1, .term = c.term, .candidate = x->member, .cert = c};
    struct writer out = writer_on(bytes, sizeof bytes);
    frame_begin(&out, MSG_GRANT_REQUEST);
    grant_request_encode(&out, &m);
    put_tail(w, x, LABEL_GRANT_REQUEST, &out);
    to_all(w, g, x, writer_span(&out));
    struct grant own = {
        .chain = c.chain, .epoch = 1, .term = c.term, .candidate = x->member, .voter = x->member};
    struct writer enc = writer_on(bytes + 2, sizeof bytes - 2);
    grant_encode(&enc, &own);
    struct writer whole = enc;
    whole.size += 2;
    put_tail(w, x, LABEL_GRANT, &whole);
    memcpy(own.signature.b, bytes + whole.size - sizeof own.signature.b, sizeof own.signature.b);
    x->grants_mask = 1u << x->member;
    x->election.grants_count = 1;
    x->election.grants[0] = own;
}

static void beat(struct world *w, const struct gang *g, struct liar *x)
{
    static struct heartbeat m;
    m = (struct heartbeat){.chain = world_members(w)->chain,
                           .epoch = 1,
                           .term = x->leads,
                           .leader = x->member,
                           .has_election = true,
                           .election = x->election};
    struct writer out = writer_on(bytes, sizeof bytes);
    frame_begin(&out, MSG_HEARTBEAT);
    heartbeat_encode(&out, &m);
    put_tail(w, x, LABEL_HEARTBEAT, &out);
    to_all(w, g, x, writer_span(&out));
}

static void learn(struct liar *x, const struct prevote_cert *c)
{
    if (c->term > x->proof.term)
        x->proof = *c;
}

static void liar_hears(struct world *w, const struct gang *g, struct liar *x, uint8_t from,
                       enum message_type type, struct span body)
{
    static struct heartbeat h;
    static struct grant_request q;
    struct term_proof t;
    struct prevote p;
    struct grant v;
    if (type == MSG_HEARTBEAT && heartbeat_parse(&h, body) == AMI_OK && h.has_election)
        learn(x, &h.election.prevotes);
    else if (type == MSG_GRANT_REQUEST && grant_request_parse(&q, body) == AMI_OK)
        learn(x, &q.cert);
    else if (type == MSG_TERM_PROOF && term_proof_parse(&t, body) == AMI_OK && t.has_prevotes)
        learn(x, &t.prevotes);
    else if (type == MSG_PREVOTE && prevote_parse(&p, body) == AMI_OK && p.term == x->asks &&
             x->asks == x->proof.term + 1) {
        x->prevotes_mask |= 1u << from;
        x->prevote[from] = p.signature;
        if (g->habit != HOARDS &&
            (unsigned)__builtin_popcount(x->prevotes_mask) >= members_quorum(g->n))
            ask_grants(w, g, x);
    } else if (type == MSG_GRANT && g->habit == IDLES && grant_parse(&v, body) == AMI_OK &&
               v.term == x->asks && v.term == x->proof.term && v.term != x->leads &&
               (x->grants_mask >> from & 1) == 0) {
        x->grants_mask |= 1u << from;
        x->election.grants[x->election.grants_count++] = v;
        if (x->election.grants_count < members_quorum(g->n))
            return;
        x->leads = v.term;
        beat(w, g, x);
    }
}

static bool gang_filter(struct world *w, void *ctx, const struct world_frame *f)
{
    struct gang *g = ctx;
    for (unsigned k = 0; k < g->count; k++)
        if (g->liar[k].member == f->from)
            return false;
    for (unsigned k = 0; k < g->count; k++)
        if (g->liar[k].member == f->to)
            liar_hears(w, g, &g->liar[k], f->from, f->type,
                       span_of(f->frame.data + 2, f->frame.size - 2));
    return true;
}

/* What the honest members commit in a minute while the gang does what it can. */
static uint64_t height_after_a_minute(enum habit habit, unsigned n, uint64_t seed, bool rule_off)
{
    struct world_options o = {.n = n,
                              .seed = seed,
                              .submit_every_us = 200 * MS,
                              .rules_off = rule_off ? RULE_OFF_BAD_LEADERS : 0};
    struct world *w = world_new(&o);
    static struct gang g;
    memset(&g, 0, sizeof g);
    g.habit = habit;
    g.n = n;
    g.count = members_f(n);
    uint32_t mask = 0;
    for (unsigned k = 0; k < g.count; k++) {
        g.liar[k].member = (uint8_t)((seed + k) % n);
        mask |= 1u << g.liar[k].member;
    }
    world_set_byzantine(w, mask);
    world_set_filter(w, gang_filter, &g);
    for (unsigned tick = 0; tick < 60 * 50; tick++) {
        world_run(w, 20 * MS);
        for (unsigned k = 0; k < g.count; k++) {
            if (g.liar[k].leads != 0 && g.liar[k].leads == g.liar[k].proof.term && tick % 5 == 0)
                beat(w, &g, &g.liar[k]);
            ask_prevotes(w, &g, &g.liar[k]);
        }
    }
    if (!rule_off && world_violation(w) != NULL)
        fail_msg("%s", world_violation(w));
    uint64_t height = UINT64_MAX;
    for (unsigned i = 0; i < n; i++)
        if ((mask >> i & 1) == 0 && world_height(w, i) < height)
            height = world_height(w, i);
    world_free(w);
    return height;
}

#define SEEDS 7 /* liars are the members from this one on */

/* With the rule in every run; returns in how many they do not without it. */
static unsigned the_others_commit(enum habit habit)
{
    unsigned stuck = 0;
    for (unsigned n = 4; n <= 13; n += 3)
        for (uint64_t seed = 1; seed <= SEEDS; seed++) {
            uint64_t height = height_after_a_minute(habit, n, seed, false);
            if (height < 150)
                fail_msg("n %u seed %u: height %u", n, (unsigned)seed, (unsigned)height);
            stuck += height_after_a_minute(habit, n, seed, true) < 10 ? 1 : 0;
        }
    return stuck;
}

static void who_hoards_pre_votes_stops_nobody(void **state)
{
    (void)state;
    assert_int_equal(the_others_commit(HOARDS), 4 * SEEDS);
}

static void who_raises_terms_in_vain_is_passed_over(void **state)
{
    (void)state;
    assert_int_equal(the_others_commit(STORMS), 4 * SEEDS);
}

static void a_leader_that_only_beats_its_heart_is_passed_over(void **state)
{
    (void)state;
    assert_int_equal(the_others_commit(IDLES), 4 * SEEDS);
}

/* --- nodes that saw different things -----------------------------------------------------------
 */

struct only {
    unsigned candidate;
};

static bool only_candidate(struct world *w, void *ctx, const struct world_frame *f)
{
    (void)w;
    const struct only *x = ctx;
    return f->type != MSG_PREVOTE_REQUEST || f->from == x->candidate || x->candidate == UINT32_MAX;
}

/* Four members lead one after the other. What each of the first three commits, one of the others
 * does not see, for which that was a failed term: the second passes over the first, and so on in a
 * ring. Then the fourth dies, and every vote of the three is needed. */
static void three_that_pass_over_each_other_elect_one(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct world *w = world_new(&(struct world_options){.n = 4, .seed = seed});
        struct only x = {0};
        world_set_filter(w, only_candidate, &x);
        for (unsigned leader = 0; leader < 3; leader++) {
            unsigned blind = (leader + 2) % 3;
            if (leader == 0)
                assert_int_equal(world_run_until_leader(w, 20 * SECONDS), 0);
            world_isolate(w, 0);
            world_run(w, 300 * MS); /* everybody hears the leader */
            for (unsigned i = 0; i < 4; i++)
                assert_int_equal(replica_term(world_replica(w, i)), leader + 1);
            uint64_t height = world_height(w, leader);
            world_isolate(w, 1u << blind);
            world_submit(w, 1);
            world_run(w, 100 * MS);
            assert_int_equal(world_height(w, leader), height + 1);
            assert_int_equal(world_height(w, blind), height);
            world_isolate(w, 1u << leader);
            x.candidate = leader + 1;
            world_run(w, 700 * MS); /* nobody hears the old one any more */
            while (world_run_until_leader(w, 1 * SECONDS) != (int)leader + 1)
                assert_true(world_now(w) < 60 * SECONDS);
        }
        world_isolate(w, 0);
        world_submit(w, 1);
        assert_true(world_run_until_height(w, 4, 2 * SECONDS));
        x.candidate = UINT32_MAX;
        world_crash(w, 3); /* nothing waits, so that nobody has anything against it */
        world_run(w, 1 * SECONDS);
        assert_true(world_run_until_leader(w, 20 * SECONDS) >= 0);
        world_submit(w, 1);
        assert_true(world_run_until_height(w, 5, 2 * SECONDS));
        if (world_violation(w) != NULL)
            fail_msg("%s", world_violation(w));
        world_free(w);
    }
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_hoards_pre_votes_stops_nobody),
        cmocka_unit_test(who_raises_terms_in_vain_is_passed_over),
        cmocka_unit_test(a_leader_that_only_beats_its_heart_is_passed_over),
        cmocka_unit_test(three_that_pass_over_each_other_elect_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
