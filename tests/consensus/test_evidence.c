/* Rule 12: contradictory statements are noticed by those whom they reach, and name who signed them.
 * That nobody honest is ever named is checked in every world (world.c), and by test_faults.c over
 * many seeds. */
#include "tests/harness.h"

#include "crypto/secret.h"
#include "ledger/evidence.h"
#include "tests/consensus/sound.h"

#include <string.h>

/* --- one liar: whatever it sends of a type is followed by another version ----------------------
 */

struct liar {
    uint8_t member;
    enum evidence_kind kind;
    unsigned told;
};

static uint8_t bytes[1u << 16];

static sm2_signature sign(struct world *w, uint8_t member, const char *label, struct span part)
{
    uint8_t random[SM2_WIDE_BYTES] = {5};
    return sign_key_sign(world_key(w, member), label, &part, 1, random);
}

static struct writer other_vote(struct world *w, const struct liar *x, struct span body)
{
    struct vote v;
    uint8_t random[SM2_WIDE_BYTES] = {5};
    struct writer out = writer_on(bytes, sizeof bytes);
    assert_ok(vote_parse(&v, body));
    v.block.b[7] ^= 1;
    vote_sign(&v, world_key(w, x->member), random);
    frame_begin(&out, MSG_VOTE);
    vote_encode(&out, &v);
    return out;
}

static struct writer other_grant(struct world *w, const struct liar *x, struct span body)
{
    static struct grant g;
    struct writer out = writer_on(bytes, sizeof bytes);
    assert_ok(grant_parse(&g, body));
    if (x->kind == EVIDENCE_GRANT)
        g.high.term = g.term; /* its votes do not verify; that does not matter */
    else
        g.has_high = !g.has_high;
    frame_begin(&out, MSG_GRANT);
    grant_encode(&out, &g);
    g.signature = sign(w, x->member, LABEL_GRANT, signed_part(span_of(bytes + 2, out.size - 2)));
    memcpy(bytes + out.size - sizeof g.signature.b, g.signature.b, sizeof g.signature.b);
    return out;
}

static struct writer other_proposal(struct world *w, const struct liar *x, struct span body)
{
    static struct proposal p;
    uint8_t head[PROPOSAL_SIGNED_BYTES_MAX];
    struct writer out = writer_on(bytes, sizeof bytes);
    assert_ok(proposal_parse(&p, body));
    if (x->kind == EVIDENCE_PROPOSAL)
        p.core.header.proposer = (uint8_t)((x->member + 1) % 4);
    p.core.header.timestamp_ms++;
    frame_begin(&out, MSG_PROPOSAL);
    proposal_core_encode(&out, &p.core);
    struct span part = proposal_signed(head, &p.core, span_of(bytes + 2, out.size - 2));
    sm2_signature sig = sign(w, x->member, LABEL_PROPOSAL, part);
    memcpy(bytes + out.size - sizeof sig.b, sig.b, sizeof sig.b);
    write_bytes(&out, p.body);
    return out;
}

static bool lie(struct world *w, void *ctx, const struct world_frame *f)
{
    struct liar *x = ctx;
    struct span body = span_of(f->frame.data + 2, f->frame.size - 2);
    bool votes = x->kind == EVIDENCE_VOTES && f->type == MSG_VOTE;
    bool grants =
        (x->kind == EVIDENCE_GRANTS || x->kind == EVIDENCE_GRANT || x->kind == EVIDENCE_HIDDEN) &&
        f->type == MSG_GRANT;
    bool proposals =
        (x->kind == EVIDENCE_PROPOSALS || x->kind == EVIDENCE_PROPOSAL) && f->type == MSG_PROPOSAL;
    if (f->from != x->member || !(votes || grants || proposals))
        return true;
    struct writer out = votes    ? other_vote(w, x, body)
                        : grants ? other_grant(w, x, body)
                                 : other_proposal(w, x, body);
    assert_true(writer_ok(&out));
    world_inject(w, f->from, f->to, writer_span(&out), 2 * MS);
    x->told++;
    return x->kind != EVIDENCE_HIDDEN; /* there the other version replaces it */
}

/* The liar leads or follows, and a leader dies meanwhile, so that it has something to say. */
static uint32_t convicted_after(enum evidence_kind kind, uint64_t seed, unsigned *told)
{
    struct world *w =
        world_new(&(struct world_options){.n = 4, .seed = seed, .submit_every_us = 100 * MS});
    int leader = world_run_until_leader(w, 20 * SECONDS);
    assert_true(leader >= 0);
    bool leads = kind == EVIDENCE_PROPOSALS || kind == EVIDENCE_PROPOSAL;
    struct liar x = {.member = (uint8_t)((unsigned)leader + (leads ? 0 : 1)) % 4, .kind = kind};
    world_run(w, 1 * SECONDS);
    world_set_byzantine(w, 1u << x.member);
    world_set_filter(w, lie, &x);
    world_run(w, 1 * SECONDS);
    if (kind == EVIDENCE_GRANTS || kind == EVIDENCE_GRANT || kind == EVIDENCE_HIDDEN) {
        world_crash(w, (unsigned)leader);
        world_run(w, 5 * SECONDS);
    }
    assert_sound(w);
    uint32_t convicted = 0;
    for (unsigned i = 0; i < 4; i++)
        if (i != x.member)
            convicted |= world_convicted(w, i);
    *told += x.told;
    world_free(w);
    if (convicted != 0)
        assert_int_equal(convicted, 1u << x.member);
    return convicted;
}

static void every_kind_of_lie_is_noticed(void **state)
{
    (void)state;
    for (unsigned kind = EVIDENCE_VOTES; kind < EVIDENCE_KIND_END; kind++) {
        unsigned noticed = 0, told = 0;
        for (uint64_t seed = 1; seed <= 10; seed++)
            noticed += convicted_after((enum evidence_kind)kind, seed, &told) != 0 ? 1 : 0;
        /* A grant may come when the candidate leads already, or go to the liar itself. */
        if (noticed < 5)
            fail_msg("%s: %u of 10 noticed, told %u times", evidence_kind_name((uint8_t)kind),
                     noticed, told);
    }
}

/* Whoever may send may not make others verify at will: a forged grant that contradicts a long past
 * is found out by one check. */
static void forged_grants_cost_one_check_each(void **state)
{
    (void)state;
    struct world *w =
        world_new(&(struct world_options){.n = 4, .seed = 3, .submit_every_us = 50 * MS});
    int leader = world_run_until_leader(w, 20 * SECONDS);
    assert_true(leader >= 0);
    world_run(w, 20 * SECONDS); /* the others keep the certificates of many heights */
    const struct members *m = world_members(w);
    uint8_t liar = (uint8_t)((leader + 1) % 4);
    static struct grant g;
    g = (struct grant){.chain = m->chain, .epoch = m->epoch, .term = 1000, .voter = liar};
    struct writer out = writer_on(bytes, sizeof bytes);
    frame_begin(&out, MSG_GRANT);
    grant_encode(&out, &g);
    world_set_byzantine(w, 1u << liar);
    uint64_t quiet = test_signatures_checked();
    world_run(w, 200 * MS);
    quiet = test_signatures_checked() - quiet;
    uint64_t loud = test_signatures_checked();
    for (unsigned i = 0; i < 100; i++)
        world_inject(w, liar, (uint8_t)leader, writer_span(&out), 1 * MS + i);
    world_run(w, 200 * MS);
    loud = test_signatures_checked() - loud;
    if (loud > quiet + 100 + 100)
        fail_msg("100 forged grants cost %llu checks", (unsigned long long)(loud - quiet));
    assert_int_equal(world_convicted(w, (unsigned)leader), 0);
    assert_sound(w);
    world_free(w);
}

/* --- a fork --------------------------------------------------------------------------------------
 */

/* f+1 members that run twice, half of the honest ones with each copy: both sides commit, and that
 * is the end of agreement. When the sides meet, what they signed names at least f+1 of them. */
static void a_fork_names_f_plus_1_and_nobody_honest(void **state)
{
    (void)state;
    for (unsigned n = 4; n <= 7; n += 3)
        for (uint64_t seed = 1; seed <= 10; seed++) {
            const unsigned liars = members_f(n) + 1;
            struct world *w = world_new(&(struct world_options){.n = n,
                                                                .seed = seed,
                                                                .twins = liars,
                                                                .may_fork = true,
                                                                .submit_every_us = 100 * MS});
            uint32_t honest_half = 0, copies = ((1u << liars) - 1u) << n;
            for (unsigned i = liars; i < n; i += 2)
                honest_half |= 1u << i;
            world_isolate(w, copies | honest_half);
            world_run(w, 4 * SECONDS);
            assert_sound(w);
            sm3_digest a = world_block(w, liars, 1), b = world_block(w, liars + 1, 1);
            assert_false(sm3_equal(&a, &b)); /* forked */
            world_isolate(w, 0);
            world_run(w, 10 * SECONDS);
            uint32_t named = 0;
            for (unsigned i = liars; i < n; i++)
                named |= world_convicted(w, i);
            if ((unsigned)__builtin_popcount(named) < liars)
                fail_msg("n %u seed %u: %x named", n, (unsigned)seed, named);
            assert_int_equal(named & ~((1u << liars) - 1u), 0);
            world_free(w);
        }
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_lie_is_noticed),
        cmocka_unit_test(forged_grants_cost_one_check_each),
        cmocka_unit_test(a_fork_names_f_plus_1_and_nobody_honest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
