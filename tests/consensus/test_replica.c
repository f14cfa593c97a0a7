/* Rules 1 to 8 and 11 of consensus.md, one by one, on a few nodes and virtual time. Above each
 * test stands the rule that it checks. */
#include "tests/harness.h"

#include "crypto/secret.h"
#include "ledger/block.h"
#include "ledger/evidence.h"
#include "tests/consensus/sound.h"

#include <stdlib.h>
#include <string.h>

static const unsigned sizes[] = {4, 5, 7};
#define EACH_SIZE(n) for (unsigned k_ = 0, n; k_ < 3 && (n = sizes[k_], true); k_++)

/* Submits one transaction at a time until every node that is up has this height. */
static void commit_up_to(struct world *w, uint64_t height)
{
    uint64_t end = world_now(w) + 60 * SECONDS;
    for (;;) {
        uint64_t lowest = UINT64_MAX;
        for (unsigned i = 0; i < members_quorum(1) + 30; i++)
            if (i < world_nodes(w) && world_up(w, i) && world_height(w, i) < lowest)
                lowest = world_height(w, i);
        if (lowest >= height)
            return;
        if (world_now(w) > end)
            fail_msg("height %u is not reached", (unsigned)height);
        world_submit(w, 1);
        (void)world_run_until_height(w, lowest + 1, 5 * SECONDS);
        assert_sound(w);
    }
}

/* --- the whole ------------------------------------------------------------------------------- */

/* Rules 1 to 7 without any fault; a single node, as tests may use it, too. */
static void a_healthy_network_commits(void **state)
{
    (void)state;
    static const unsigned all[] = {1, 4, 5, 7};
    for (size_t k = 0; k < sizeof all / sizeof all[0]; k++) {
        int leader;
        struct world *w = running((struct world_options){.n = all[k], .seed = 1}, &leader);
        for (uint64_t h = 2; h <= 20; h++) {
            world_submit(w, 1);
            assert_true(world_run_until_height(w, h, 1 * SECONDS));
        }
        assert_sound(w);
        assert_int_equal(world_elections(w), 1);
        world_free(w);
    }
}

/* "Idle chains make no other empty blocks", and nobody asks for elections meanwhile. */
static void an_idle_network_stays_as_it_is(void **state)
{
    (void)state;
    int leader;
    struct world *w = running((struct world_options){.n = 4, .seed = 2}, &leader);
    uint64_t term = replica_term(world_replica(w, 0));
    uint64_t events = world_events(w);
    world_run(w, 60 * SECONDS);
    assert_sound(w);
    assert_in_range(world_events(w) - events, 1, 20000); /* heartbeats, and no deadline spins */
    assert_int_equal(world_height(w, 0), 1);
    assert_int_equal(replica_term(world_replica(w, 0)), term);
    world_free(w);
}

/* Sizes: with f nodes dead it goes on; with f+1 it stops; with one of them back it goes on. */
static void f_dead_go_on_f_plus_1_stop(void **state)
{
    (void)state;
    EACH_SIZE(n) for (uint64_t seed = 1; seed <= 5; seed++)
    {
        int leader;
        struct world *w = running((struct world_options){.n = n, .seed = seed}, &leader);
        unsigned f = members_f(n);
        for (unsigned i = 0; i < f; i++) /* the leader first */
            world_crash(w, ((unsigned)leader + i) % n);
        commit_up_to(w, 3);
        int second = new_leader(w);
        world_crash(w, (unsigned)second);
        world_submit(w, 5);
        uint64_t highest = 0;
        world_run(w, 1 * MS); /* a write under way may still end */
        for (unsigned i = 0; i < n; i++)
            highest = world_height(w, i) > highest ? world_height(w, i) : highest;
        uint64_t events = world_events(w);
        world_run(w, 20 * SECONDS);
        assert_in_range(world_events(w) - events, 1, 20000);
        for (unsigned i = 0; i < n; i++)
            assert_true(world_height(w, i) <= highest + 1);
        for (unsigned i = 0; i < n; i++)
            if (world_up(w, i))
                assert_false(replica_has_quorum(world_replica(w, i)));
        uint32_t txs = world_txs(w);
        world_start(w, (unsigned)second);
        commit_up_to(w, highest + 2);
        assert_true(world_tx_committed(w, (unsigned)second, txs - 1));
        assert_sound(w);
        world_free(w);
    }
}

/* targets.md: a leader killed under load, committing again in under 2 s with default timers. */
static void a_dead_leader_is_replaced_quickly(void **state)
{
    (void)state;
    uint64_t worst = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        int leader;
        struct world *w = running(
            (struct world_options){.n = 4, .seed = seed, .submit_every_us = 10 * MS}, &leader);
        world_run(w, 500 * MS);
        uint64_t from = world_now(w), height = world_height(w, (unsigned)leader);
        world_crash(w, (unsigned)leader);
        assert_true(world_run_until_height(w, height + 2, 5 * SECONDS));
        assert_sound(w);
        if (world_now(w) - from > worst)
            worst = world_now(w) - from;
        world_free(w);
    }
    assert_true(worst < 2 * SECONDS);
}

/* --- rule 1 ---------------------------------------------------------------------------------- */

/* Stickiness: a node that hears nobody and asks again and again moves nobody to a new term. */
static void a_deaf_node_disturbs_nobody(void **state)
{
    (void)state;
    int leader;
    struct world *w =
        running((struct world_options){.n = 4, .seed = 3, .submit_every_us = 50 * MS}, &leader);
    unsigned deaf = ((unsigned)leader + 1) % 4;
    uint64_t term = replica_term(world_replica(w, (unsigned)leader));
    for (unsigned i = 0; i < 4; i++)
        world_cut(w, i, deaf, true);
    world_run(w, 20 * SECONDS);
    assert_sound(w);
    assert_true(world_notes(w, deaf, REPLICA_NOTE_ELECTION) > 3);
    assert_int_equal(replica_term(world_replica(w, (unsigned)leader)), term);
    assert_int_equal(replica_role(world_replica(w, (unsigned)leader)), REPLICA_LEADER);
    world_free(w);
}

static void send_prevote_request(struct world *w, uint8_t from, uint8_t to, uint64_t term,
                                 const struct qc *votes)
{
    static uint8_t bytes[16384];
    static struct prevote_request m;
    memset(&m, 0, sizeof m);
    m.chain = world_members(w)->chain;
    m.epoch = 1;
    m.term = term;
    m.candidate = from;
    if ((m.proof.has_votes = votes != NULL))
        m.proof.votes = *votes;
    struct writer out = writer_on(bytes, sizeof bytes);
    frame_begin(&out, MSG_PREVOTE_REQUEST);
    prevote_request_encode(&out, &m);
    struct span part = signed_part(span_of(bytes + 2, out.size - 2));
    uint8_t random[SM2_WIDE_BYTES] = {7};
    sm2_signature sig = sign_key_sign(world_key(w, from), LABEL_PREVOTE_REQUEST, &part, 1, random);
    memcpy(bytes + out.size - sizeof sig.b, sig.b, sizeof sig.b);
    world_inject(w, from, to, writer_span(&out), 1);
}

/* Terms rise one by one: a request for a far term is not believed without that term's proof. */
static void nobody_jumps_to_the_end_of_the_terms(void **state)
{
    (void)state;
    int leader;
    struct world *w = running((struct world_options){.n = 4, .seed = 4}, &leader);
    uint8_t liar = (uint8_t)((leader + 1) % 4), to = (uint8_t)((leader + 2) % 4);
    world_crash(w, (unsigned)leader);
    world_crash(w, liar);
    world_run(w, 5 * SECONDS); /* two of four: every timer has expired, no term can rise */
    uint64_t term = replica_term(world_replica(w, to));
    struct qc forged = *replica_tip_commit(world_replica(w, to));
    forged.term = UINT64_MAX - 1;
    send_prevote_request(w, liar, to, UINT64_MAX, &forged);
    send_prevote_request(w, liar, to, UINT64_MAX, NULL);
    send_prevote_request(w, liar, to, 0, NULL);
    send_prevote_request(w, liar, to, term + 2, replica_tip_commit(world_replica(w, to)));
    world_run(w, 1 * SECONDS);
    assert_int_equal(replica_term(world_replica(w, to)), term);
    assert_sound(w);
    world_free(w);
}

/* --- rules 3 to 7: a leader dies at the worst moments ----------------------------------------- */

/* Watches for a certificate of this kind sent by `from`, lets it pass to `reach` of the others, and
 * from then on nothing of that sender. */
struct watch {
    uint8_t from, kind;
    uint32_t reach;
    bool hit, any_proposal;
    sm3_digest block; /* of the first proposal seen */
    uint32_t proposal_reach;
};

static bool watch_filter(struct world *w, void *ctx, const struct world_frame *f)
{
    (void)w;
    struct watch *x = ctx;
    struct span body = span_of(f->frame.data + 2, f->frame.size - 2);
    if (f->from != x->from)
        return true;
    if (f->type == MSG_PROPOSAL) {
        static struct proposal p;
        assert_ok(proposal_parse(&p, body));
        x->block = block_hash(&p.core.header);
        x->any_proposal = true;
        return (x->proposal_reach >> f->to & 1) != 0;
    }
    struct qc_announce q;
    if (f->type == MSG_QC_ANNOUNCE) {
        assert_ok(qc_announce_parse(&q, body));
        if (q.cert.kind == x->kind && x->any_proposal) {
            x->hit = true;
            return (x->reach >> f->to & 1) != 0;
        }
    }
    return !x->hit;
}

/* Runs until the leader has sent that certificate, then kills it. */
static void kill_at_certificate(struct world *w, int leader, uint8_t kind, uint32_t reach,
                                uint32_t proposal_reach, struct watch *x)
{
    *x = (struct watch){
        .from = (uint8_t)leader, .kind = kind, .reach = reach, .proposal_reach = proposal_reach};
    world_set_filter(w, watch_filter, x);
    world_submit(w, 1);
    while (!x->hit)
        world_step(w);
    world_run(w, 5 * MS);
    world_crash(w, (unsigned)leader);
    world_run(w, 5 * MS);
    world_set_filter(w, NULL, NULL);
}

/* Rules 3, 6, 7: a commit certificate that only one follower has seen: the others commit that very
 * block, and the old leader, when it is back. */
static void a_commit_that_one_follower_saw_stays(void **state)
{
    (void)state;
    EACH_SIZE(n) for (uint64_t seed = 1; seed <= 10; seed++)
    {
        int leader;
        struct watch x;
        struct world *w = running((struct world_options){.n = n, .seed = seed}, &leader);
        unsigned one = ((unsigned)leader + 1) % n;
        kill_at_certificate(w, leader, VOTE_COMMIT, 1u << one, UINT32_MAX, &x);
        assert_int_equal(world_height(w, one), 2);
        assert_true(world_run_until_height(w, 2, 10 * SECONDS));
        for (unsigned i = 0; i < n; i++) {
            if (i == (unsigned)leader)
                continue;
            sm3_digest hash = world_block(w, i, 2);
            assert_true(sm3_equal(&hash, &x.block));
        }
        world_start(w, (unsigned)leader);
        commit_up_to(w, 4);
        world_free(w);
    }
}

/* Rule 3: with a prepare certificate somewhere, the next leader proposes that block again. With a
 * quorum of holders it must be chosen, whoever leads. */
static void a_prepared_block_is_proposed_again(void **state)
{
    (void)state;
    EACH_SIZE(n) for (uint64_t seed = 1; seed <= 10; seed++)
    {
        int leader;
        struct watch x;
        struct world *w = running((struct world_options){.n = n, .seed = seed}, &leader);
        kill_at_certificate(w, leader, VOTE_PREPARE, UINT32_MAX, UINT32_MAX, &x);
        assert_true(world_run_until_height(w, 2, 10 * SECONDS));
        for (unsigned i = 0; i < n; i++) {
            if (i == (unsigned)leader)
                continue;
            sm3_digest hash = world_block(w, i, 2);
            assert_true(sm3_equal(&hash, &x.block));
        }
        world_start(w, (unsigned)leader);
        commit_up_to(w, 4);
        world_free(w);
    }
}

static bool only_candidate(struct world *w, void *ctx, const struct world_frame *f)
{
    (void)w;
    const unsigned *who = ctx;
    return f->type != MSG_PREVOTE_REQUEST || f->from == *who;
}

/* Rules 3 and 10: a leader that never saw M's block fetches its body from those who signed. */
static void a_leader_fetches_the_body_of_m(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        int leader;
        struct watch x;
        struct world *w = running((struct world_options){.n = 4, .seed = seed}, &leader);
        unsigned last = ((unsigned)leader + 3) % 4;
        kill_at_certificate(w, leader, VOTE_PREPARE, UINT32_MAX, ~(1u << last), &x);
        world_set_filter(w, only_candidate, &last);
        assert_int_equal(new_leader(w), (int)last);
        assert_true(world_run_until_height(w, 2, 10 * SECONDS));
        sm3_digest hash = world_block(w, last, 2);
        assert_true(sm3_equal(&hash, &x.block));
        assert_sound(w);
        world_free(w);
    }
}

struct helper {
    unsigned candidate, applied, lost;
    unsigned votes, certificates;
};

static bool helper_filter(struct world *w, void *ctx, const struct world_frame *f)
{
    (void)w;
    struct helper *x = ctx;
    if (f->type == MSG_PREVOTE_REQUEST && f->from != x->candidate)
        return false;
    if (f->from == x->applied && f->type == MSG_GRANT)
        return false; /* its highQC would show the leader at once that the block is committed */
    if (f->from == x->lost && f->type == MSG_VOTE)
        return false; /* one vote too few without the helper's */
    if (f->from == x->applied && f->type == MSG_VOTE)
        x->votes++;
    if (f->from == x->applied && f->type == MSG_QC_ANNOUNCE)
        x->certificates++;
    return f->type != MSG_FETCH_BLOCKS; /* no other way to catch up */
}

/* Rule 5, a node that has applied the block: it votes and shows its certificate. Without that rule
 * those that are left do not go on. */
static void who_applied_a_block_helps_the_others(void **state)
{
    (void)state;
    for (unsigned off = 0; off < 2; off++) {
        int leader;
        struct watch x;
        struct world *w = running(
            (struct world_options){
                .n = 7, .seed = 6, .rules_off = off != 0 ? RULE_OFF_VOTE_APPLIED : 0},
            &leader);
        struct helper h = {.candidate = ((unsigned)leader + 2) % 7,
                           .applied = ((unsigned)leader + 1) % 7,
                           .lost = ((unsigned)leader + 3) % 7};
        unsigned other = ((unsigned)leader + 4) % 7;
        kill_at_certificate(w, leader, VOTE_COMMIT, 1u << h.applied, UINT32_MAX, &x);
        world_set_filter(w, helper_filter, &h);
        world_run(w, 8 * SECONDS);
        bool went_on = world_height(w, h.candidate) >= 2 && world_height(w, other) >= 2;
        assert_int_equal(went_on, off == 0);
        assert_int_equal(h.votes > 0, off == 0);
        assert_int_equal(h.certificates > 0, off == 0);
        assert_sound(w);
        world_free(w);
    }
}

/* Rules 1 and 10: who does not hear the leader while all others do learns from them what has been
 * committed, and deposes nobody. */
static void who_does_not_hear_the_leader_follows_the_others(void **state)
{
    (void)state;
    EACH_SIZE(n) for (uint64_t seed = 1; seed <= 5; seed++)
    {
        int leader;
        struct world *w = running(
            (struct world_options){.n = n, .seed = seed, .submit_every_us = 20 * MS}, &leader);
        unsigned deaf = ((unsigned)leader + 1) % n;
        uint64_t elections = world_elections(w);
        world_cut(w, (unsigned)leader, deaf, true);
        for (unsigned second = 0; second < 5; second++) {
            uint64_t before = world_height(w, (unsigned)leader);
            world_run(w, 2 * SECONDS);
            assert_true(world_height(w, (unsigned)leader) > before);
            assert_true(world_height(w, deaf) >= before);
        }
        assert_int_equal(world_elections(w), elections);
        assert_sound(w);
        world_free(w);
    }
}

/* Rule 8: a leader cut off from all steps down within two time-outs; nothing it does counts. */
static void a_stale_leader_steps_down(void **state)
{
    (void)state;
    EACH_SIZE(n) for (uint64_t seed = 1; seed <= 5; seed++)
    {
        int leader;
        struct world *w = running(
            (struct world_options){.n = n, .seed = seed, .submit_every_us = 20 * MS}, &leader);
        world_isolate(w, 1u << leader);
        world_run(w, 1200 * MS);
        assert_int_not_equal(replica_role(world_replica(w, (unsigned)leader)), REPLICA_LEADER);
        assert_int_equal(world_notes(w, (unsigned)leader, REPLICA_NOTE_STEPPED_DOWN), 1);
        world_run(w, 3 * SECONDS);
        uint64_t stale = world_height(w, (unsigned)leader);
        assert_true(world_height(w, ((unsigned)leader + 1) % n) > stale + 5);
        world_isolate(w, 0);
        world_run(w, 3 * SECONDS);
        assert_true(world_height(w, (unsigned)leader) > stale + 20);
        assert_sound(w);
        world_free(w);
    }
}

/* A leader that is told to step down hands over within two time-outs: somebody else leads, whatever
 * was open is committed, and it follows. */
static void a_leader_that_is_told_to_hands_over(void **state)
{
    (void)state;
    EACH_SIZE(n) for (uint64_t seed = 1; seed <= 5; seed++)
    {
        int leader;
        struct world *w = running(
            (struct world_options){.n = n, .seed = seed, .submit_every_us = 20 * MS}, &leader);
        const uint64_t term = replica_term(world_replica(w, (unsigned)leader));
        const uint32_t txs = world_txs(w);
        world_step_down(w, ((unsigned)leader + 1) % n); /* does not lead: nothing happens */
        assert_int_equal(replica_role(world_replica(w, (unsigned)leader)), REPLICA_LEADER);
        world_step_down(w, (unsigned)leader);
        assert_int_not_equal(replica_role(world_replica(w, (unsigned)leader)), REPLICA_LEADER);
        assert_int_equal(world_notes(w, (unsigned)leader, REPLICA_NOTE_STEPPED_DOWN), 1);
        world_run(w, 1500 * MS);
        int next = world_run_until_leader(w, 500 * MS);
        assert_true(next >= 0 && next != leader);
        assert_int_equal(replica_term(world_replica(w, (unsigned)next)), term + 1);
        world_run(w, 2 * SECONDS);
        for (uint32_t tx = 0; tx < txs; tx++)
            assert_true(world_tx_committed(w, (unsigned)leader, tx));
        assert_int_equal(world_run_until_leader(w, 10 * MS), next);
        assert_sound(w);
        world_free(w);
    }
}

/* Where nobody else can be elected it leads again: the others hear it, but not one another. */
static void who_stepped_down_comes_back_when_nobody_else_can(void **state)
{
    (void)state;
    int leader;
    struct world *w = running((struct world_options){.n = 4, .seed = 3}, &leader);
    for (unsigned a = 0; a < 4; a++)
        for (unsigned b = 0; b < 4; b++)
            if (a != b && a != (unsigned)leader && b != (unsigned)leader)
                world_cut(w, a, b, true);
    world_step_down(w, (unsigned)leader);
    world_run(w, 1 * SECONDS);
    assert_int_not_equal(replica_role(world_replica(w, (unsigned)leader)), REPLICA_LEADER);
    assert_int_equal(world_run_until_leader(w, 30 * SECONDS), leader);
    assert_sound(w);
    world_free(w);
}

/* --- rule 5: proposals that must not pass ----------------------------------------------------- */

struct forger {
    uint8_t leader;
    uint32_t victims; /* get the other block */
    unsigned forged;
};

/* Signs another block for the same slot and sends it to the victims. */
static bool forge_filter(struct world *w, void *ctx, const struct world_frame *f)
{
    struct forger *x = ctx;
    static struct proposal p;
    static uint8_t bytes[65536];
    if (f->from != x->leader || f->type != MSG_PROPOSAL || (x->victims >> f->to & 1) == 0)
        return true;
    assert_ok(proposal_parse(&p, span_of(f->frame.data + 2, f->frame.size - 2)));
    sm3_digest parent = p.core.header.previous;
    if (p.core.header.term != p.core.term)
        return true;
    struct span body = span_of(p.body.data, p.body.size - 4); /* one transaction fewer */
    world_make_block(w, &p.core.header, &parent, p.core.header.height, p.core.term, x->leader,
                     p.core.header.timestamp_ms + 1, body);
    struct writer out = writer_on(bytes, sizeof bytes);
    frame_begin(&out, MSG_PROPOSAL);
    proposal_core_encode(&out, &p.core);
    uint8_t head[PROPOSAL_SIGNED_BYTES_MAX], random[SM2_WIDE_BYTES] = {9};
    struct span part = proposal_signed(head, &p.core, span_of(bytes + 2, out.size - 2));
    sm2_signature sig = sign_key_sign(world_key(w, x->leader), LABEL_PROPOSAL, &part, 1, random);
    memcpy(bytes + out.size - sizeof sig.b, sig.b, sizeof sig.b);
    write_bytes(&out, body);
    world_inject(w, f->from, f->to, writer_span(&out), 500);
    x->forged++;
    return false;
}

/* Rule 5, one vote per slot: a Byzantine leader that shows two blocks for one slot gets at most one
 * of them committed; the others depose it and go on. */
static void two_proposals_for_one_slot_do_not_fork(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        int leader;
        struct world *w = running((struct world_options){.n = 4, .seed = seed}, &leader);
        struct forger x = {.leader = (uint8_t)leader,
                           .victims = (uint32_t)(1 + seed % 15) & ~(1u << leader)};
        world_set_byzantine(w, 1u << leader);
        world_set_filter(w, forge_filter, &x);
        for (unsigned k = 0; k < 10; k++) {
            world_submit(w, 3);
            world_run(w, 1 * SECONDS);
        }
        assert_true(x.forged > 0 || x.victims == 0);
        world_set_filter(w, NULL, NULL);
        world_run(w, 10 * SECONDS);
        for (unsigned i = 0; i < 4; i++)
            for (uint32_t tx = 0; i != (unsigned)leader && tx < world_txs(w); tx++)
                assert_true(world_tx_committed(w, i, tx));
        assert_sound(w);
        world_free(w);
    }
}

/* Rule 5, timestamps: a leader whose clock is wrong is refused, and passed over by rule 8. */
static void a_leader_with_a_wrong_clock_is_deposed(void **state)
{
    (void)state;
    int leader;
    struct world *w =
        running((struct world_options){.n = 4, .seed = 7, .submit_every_us = 100 * MS}, &leader);
    world_set_clock(w, (unsigned)leader, 3600000);
    world_run(w, 15 * SECONDS);
    unsigned refused = 0;
    for (unsigned i = 0; i < 4; i++)
        refused += world_notes(w, i, REPLICA_NOTE_REFUSED);
    assert_true(refused > 0);
    assert_int_not_equal(replica_role(world_replica(w, (unsigned)leader)), REPLICA_LEADER);
    assert_true(world_height(w, 0) > 20);
    assert_sound(w);
    world_free(w);
}

/* --- rule 8: work, not heartbeats ------------------------------------------------------------- */

/* A leader that leaves one transaction out, and commits all others, is deposed. */
static void a_censoring_leader_is_deposed(void **state)
{
    (void)state;
    for (unsigned off = 0; off < 2; off++) {
        int leader;
        struct world *w =
            running((struct world_options){.n = 4,
                                           .seed = 8,
                                           .submit_every_us = 50 * MS,
                                           .rules_off = off != 0 ? RULE_OFF_PROGRESS : 0},
                    &leader);
        uint32_t tx = world_txs(w);
        world_censor(w, (unsigned)leader, tx);
        world_submit(w, 1);
        world_run(w, 10 * SECONDS);
        assert_int_equal(world_tx_committed(w, ((unsigned)leader + 1) % 4, tx), off == 0);
        assert_int_equal(world_elections(w) == 1, off != 0);
        assert_sound(w);
        world_free(w);
    }
}

/* A leader whose writes fail steps down; the others go on; when there is room again it follows. */
static void a_leader_whose_disk_is_full_steps_down(void **state)
{
    (void)state;
    int leader;
    struct world *w =
        running((struct world_options){.n = 4, .seed = 9, .submit_every_us = 50 * MS}, &leader);
    world_disk_fails(w, (unsigned)leader, AMI_FULL);
    world_run(w, 5 * SECONDS);
    assert_int_not_equal(replica_role(world_replica(w, (unsigned)leader)), REPLICA_LEADER);
    assert_true(world_notes(w, (unsigned)leader, REPLICA_NOTE_WRITE_FAILED) > 0);
    uint64_t stuck = world_height(w, (unsigned)leader);
    assert_true(world_height(w, ((unsigned)leader + 1) % 4) > stuck + 10);
    world_disk_fails(w, (unsigned)leader, AMI_OK);
    world_run(w, 6 * SECONDS); /* it is tried again after 8T at the latest */
    assert_true(world_height(w, (unsigned)leader) + 5 >
                world_height(w, ((unsigned)leader + 1) % 4));
    assert_sound(w);
    world_free(w);
}

/* --- rules 10 and 11: leaders that were away -------------------------------------------------- */

/* All but one forgot their ledgers' last blocks: who is ahead brings the leader forward too. */
static void a_leader_that_is_behind_catches_up_first(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        struct world *w = world_new(&(struct world_options){.n = 4, .seed = seed});
        unsigned behind = 3;
        for (unsigned i = 0; i < 3; i++)
            world_preload(w, i, 200);
        world_set_filter(w, only_candidate, &behind);
        assert_int_equal(new_leader(w), (int)behind);
        world_submit(w, 1);
        assert_true(world_run_until_height(w, 201, 10 * SECONDS));
        assert_sound(w);
        world_free(w);
    }
}

/* The checkers of world.c see to it that no vote is signed anew; here: who restarts does not lead
 * its old term, and its stored votes are enough to finish the block in flight. */
static void a_restarted_leader_does_not_lead_its_old_term(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        int leader;
        struct world *w = running(
            (struct world_options){.n = 4, .seed = seed, .submit_every_us = 5 * MS}, &leader);
        world_run(w, 100 * MS);
        uint64_t term = replica_term(world_replica(w, (unsigned)leader));
        world_crash(w, (unsigned)leader);
        world_start(w, (unsigned)leader);
        while (replica_term(world_replica(w, (unsigned)leader)) == term) {
            assert_int_not_equal(replica_role(world_replica(w, (unsigned)leader)), REPLICA_LEADER);
            world_step(w);
        }
        world_run(w, 2 * SECONDS);
        assert_sound(w);
        world_free(w);
    }
}

/* --- rule 11 --------------------------------------------------------------------------------- */

/* Without its record a node follows and stores, and signs nothing (world.c looks at every frame and
 * every write); it counts among the f: with one more dead, nothing is committed. */
static void a_node_without_its_record_only_follows(void **state)
{
    (void)state;
    int leader;
    struct world *w =
        running((struct world_options){.n = 4, .seed = 10, .submit_every_us = 50 * MS}, &leader);
    unsigned lost = ((unsigned)leader + 1) % 4, other = ((unsigned)leader + 2) % 4;
    world_crash(w, lost);
    world_lose_record(w, lost);
    world_run(w, 1 * SECONDS);
    world_start(w, lost);
    world_run(w, 3 * SECONDS);
    assert_false(replica_may_sign(world_replica(w, lost)));
    assert_true(world_height(w, lost) + 3 > world_height(w, other));
    assert_true(world_height(w, other) > 20);
    world_crash(w, (unsigned)leader);
    world_run(w, 1 * SECONDS);
    uint64_t height = world_height(w, other);
    world_run(w, 10 * SECONDS);
    assert_int_equal(world_height(w, other), height);
    assert_sound(w);
    world_free(w);
}

/* A record that belongs elsewhere or contradicts itself is refused at the start. */
static void a_damaged_record_is_refused(void **state)
{
    (void)state;
    struct world *w = world_new(&(struct world_options){.n = 4, .seed = 1});
    static struct vote_record record;
    struct parameters parameters = {
        .election_timeout_ms = 600, .heartbeat_ms = 100, .block_bytes_max = 512};
    struct replica_config c = {.members = world_members(w),
                               .parameters = &parameters,
                               .key = world_key(w, 1),
                               .self = 1,
                               .first_height = 1,
                               .may_sign = true,
                               .record = &record,
                               .tip = world_members(w)->chain};
    void *memory = calloc(1, replica_size(&parameters));
    struct replica *r;
    assert_non_null(memory);
#define STARTS(expected)                                                                           \
    do {                                                                                           \
        memset(memory, 0, replica_size(&parameters));                                              \
        assert_status(replica_init(&r, memory, &c), expected);                                     \
    } while (0)
    record.version = 1;
    record.epoch = 1;
    record.tip = record.chain = world_members(w)->chain;
    STARTS(AMI_OK);
    record.epoch = 2;
    STARTS(AMI_WRONG_EPOCH);
    record.epoch = 1;
    record.chain.b[5] ^= 1;
    STARTS(AMI_WRONG_CHAIN);
    record.chain.b[5] ^= 1;
    record.tip_height = 1; /* the chain's tip is another one */
    STARTS(AMI_DAMAGED);
    record.tip_height = 0;
    record.has_prepare = true;
    record.prepare = (struct vote){.kind = VOTE_PREPARE,
                                   .chain = record.chain,
                                   .epoch = 1,
                                   .term = 3,
                                   .height = 1,
                                   .voter = 1};
    STARTS(AMI_DAMAGED); /* a vote above the term */
    record.term = 3;
    STARTS(AMI_OK);
    record.prepare.voter = 2;
    STARTS(AMI_DAMAGED); /* of somebody else */
    record.prepare.voter = 1;
    record.has_high = true;
    record.high.term = 4;
    STARTS(AMI_DAMAGED);
    c.self = 4;
    STARTS(AMI_BAD_ARGUMENT);
    free(memory);
    world_free(w);
}

/* Rule 13: a replica of a later epoch begins on the last block of the one before, whose votes and
 * records count for nothing in it. */
static void a_new_epoch_begins_with_nothing(void **state)
{
    (void)state;
    struct world *w = world_new(&(struct world_options){.n = 4, .seed = 1});
    struct members members = *world_members(w);
    members.epoch = 2;
    static struct vote_record record;
    static struct effects fx;
    struct qc last = {.kind = VOTE_COMMIT,
                      .chain = members.chain,
                      .epoch = 1,
                      .term = 7,
                      .height = 5,
                      .block = members.hash};
    struct parameters parameters = {
        .election_timeout_ms = 600, .heartbeat_ms = 100, .block_bytes_max = 512};
    struct replica_config c = {.members = &members,
                               .parameters = &parameters,
                               .key = world_key(w, 1),
                               .self = 1,
                               .first_height = 6,
                               .known_height = 9,
                               .may_sign = true,
                               .record = &record,
                               .tip_height = 5,
                               .tip = last.block,
                               .tip_commit = &last};
    void *memory = calloc(1, replica_size(&parameters));
    struct replica *r;
    assert_non_null(memory);
    record = (struct vote_record){.version = 1,
                                  .chain = members.chain,
                                  .epoch = 1,
                                  .term = 7,
                                  .tip_height = 4,
                                  .tip = members.chain,
                                  .has_high = true,
                                  .high = last};
    STARTS(AMI_OK);
    assert_int_equal(replica_term(r), 0);
    assert_null(replica_high(r));
    assert_int_equal(replica_height(r), 5);
    assert_int_equal(replica_known_height(r), 9);
    assert_memory_equal(replica_tip_commit(r), &last, sizeof last);
    /* The certificate of the epoch's first parent is no certificate of this epoch, though it is
     * known: neither shown to prove a term, nor as a commit. */
    uint8_t bytes[4096];
    struct term_proof proof = {.has_votes = true, .votes = last};
    struct writer body = writer_on(bytes, sizeof bytes);
    term_proof_encode(&body, &proof);
    struct replica_event e = {.type = REPLICA_MESSAGE, .now_us = 1};
    e.u.message.from = 2;
    e.u.message.type = MSG_TERM_PROOF;
    e.u.message.body = writer_span(&body);
    replica_step(r, &e, &fx);
    assert_int_equal(replica_term(r), 0);
    assert_null(replica_high(r));
    /* A claim makes it ask, and nothing else. */
    e = (struct replica_event){.type = REPLICA_CLAIM, .now_us = 2, .u.height = 11};
    replica_step(r, &e, &fx);
    assert_int_equal(replica_known_height(r), 11);
    assert_int_equal(replica_height(r), 5);
    record.epoch = 3;
    STARTS(AMI_WRONG_EPOCH);
    record.epoch = 2;
    STARTS(AMI_DAMAGED); /* its tip is another one */
    c.record = NULL;
    c.tip_height = 4;
    last.height = 4;
    STARTS(AMI_BAD_ARGUMENT); /* below the epoch */
    c.first_height = 0;
    STARTS(AMI_BAD_ARGUMENT);
    c.first_height = 5;
    c.self = AMI_MEMBERS_MAX;
    STARTS(AMI_BAD_ARGUMENT); /* no member signs */
    c.may_sign = false;
    STARTS(AMI_OK);
    e = (struct replica_event){.type = REPLICA_TIME, .now_us = 100000000};
    replica_step(r, &e, &fx);
    assert_false(fx.has_persist);
    assert_int_equal(fx.send_count, 1); /* it asks for blocks */
    assert_int_equal(fx.send[0].type, MSG_FETCH_BLOCKS);
    assert_int_equal(replica_role(r), REPLICA_FOLLOWER);
    free(memory);
    world_free(w);
}

/* --- what strangers may send ------------------------------------------------------------------ */

static bool mangle(struct world *w, void *ctx, const struct world_frame *f)
{
    unsigned *count = ctx;
    static uint8_t bytes[65536];
    if (f->frame.size > sizeof bytes || world_random(w, 3) != 0)
        return true;
    memcpy(bytes, f->frame.data, f->frame.size);
    size_t size = f->frame.size;
    switch (world_random(w, 4)) {
    case 0:
        bytes[1] = (uint8_t)(MSG_PREVOTE_REQUEST + world_random(w, 15)); /* another type */
        break;
    case 1:
        size = 2 + world_random(w, size - 2);
        break;
    case 2:
        for (unsigned i = 0; i < 8; i++)
            bytes[2 + world_random(w, size - 2)] = (uint8_t)world_random(w, 256);
        break;
    default:
        bytes[2 + world_random(w, size - 2)] ^= (uint8_t)(1u << world_random(w, 8));
    }
    world_inject(w, f->from, f->to, span_of(bytes, size), world_random(w, 5 * MS));
    *count += 1;
    return true;
}

/* What the network sends never reaches an assertion and changes nothing. */
static void mangled_messages_change_nothing(void **state)
{
    (void)state;
    EACH_SIZE(n) for (uint64_t seed = 1; seed <= 4; seed++)
    {
        unsigned count = 0;
        struct world *w = world_new(&(struct world_options){.n = n,
                                                            .seed = seed,
                                                            .submit_every_us = 20 * MS,
                                                            .crash_after_per_mille = 5,
                                                            .down_mean_us = 300 * MS});
        world_set_filter(w, mangle, &count);
        world_run(w, 20 * SECONDS);
        assert_sound(w);
        assert_true(count > 1000);
        assert_true(world_height(w, 0) > 50);
        world_free(w);
    }
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_healthy_network_commits),
        cmocka_unit_test(an_idle_network_stays_as_it_is),
        cmocka_unit_test(f_dead_go_on_f_plus_1_stop),
        cmocka_unit_test(a_dead_leader_is_replaced_quickly),
        cmocka_unit_test(a_deaf_node_disturbs_nobody),
        cmocka_unit_test(nobody_jumps_to_the_end_of_the_terms),
        cmocka_unit_test(a_commit_that_one_follower_saw_stays),
        cmocka_unit_test(a_prepared_block_is_proposed_again),
        cmocka_unit_test(a_leader_fetches_the_body_of_m),
        cmocka_unit_test(who_applied_a_block_helps_the_others),
        cmocka_unit_test(who_does_not_hear_the_leader_follows_the_others),
        cmocka_unit_test(a_stale_leader_steps_down),
        cmocka_unit_test(a_leader_that_is_told_to_hands_over),
        cmocka_unit_test(who_stepped_down_comes_back_when_nobody_else_can),
        cmocka_unit_test(two_proposals_for_one_slot_do_not_fork),
        cmocka_unit_test(a_leader_with_a_wrong_clock_is_deposed),
        cmocka_unit_test(a_censoring_leader_is_deposed),
        cmocka_unit_test(a_leader_whose_disk_is_full_steps_down),
        cmocka_unit_test(a_leader_that_is_behind_catches_up_first),
        cmocka_unit_test(a_restarted_leader_does_not_lead_its_old_term),
        cmocka_unit_test(a_node_without_its_record_only_follows),
        cmocka_unit_test(a_damaged_record_is_refused),
        cmocka_unit_test(a_new_epoch_begins_with_nothing),
        cmocka_unit_test(mangled_messages_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
