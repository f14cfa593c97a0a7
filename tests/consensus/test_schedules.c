/* Forks that the model of docs/model found, on real replicas: rules whose absence needs such a
 * coincidence that random faults did not show it. Each schedule runs twice: without the rule two
 * blocks are committed at one height, with it the same messages do no harm.
 */
#include "tests/harness.h"

#include "crypto/secret.h"
#include "ledger/block.h"
#include "ledger/evidence.h"
#include "tests/consensus/world.h"

#include <string.h>

#define NODES 4
#define SEEDS 10

struct kept {
    uint8_t bytes[16384];
    size_t size;
};

static void keep(struct kept *k, const struct world_frame *f)
{
    assert_in_range(f->frame.size, 1, sizeof k->bytes);
    memcpy(k->bytes, f->frame.data, f->frame.size);
    k->size = f->frame.size;
}

static struct span body_of(const struct world_frame *f)
{
    return span_of(f->frame.data + 2, f->frame.size - 2);
}

/* A world of four with one block, whose leader is `leader`. */
static struct world *running(uint64_t seed, uint32_t rules_off, uint8_t *leader)
{
    struct world_options o = {.n = NODES, .seed = seed, .rules_off = rules_off};
    struct world *w = world_new(&o);
    world_submit(w, 1);
    int who = world_run_until_leader(w, 20 * SECONDS);
    assert_in_range(who, 0, NODES - 1);
    assert_true(world_run_until_height(w, 1, 5 * SECONDS));
    *leader = (uint8_t)who;
    return w;
}

static void assert_outcome(struct world *w, bool forks)
{
    const char *why = world_violation(w);
    if (!forks && why != NULL)
        fail_msg("%s", why);
    if (forks && (why == NULL || strstr(why, "agreement") == NULL))
        fail_msg("no fork, but: %s", why != NULL ? why : "nothing");
}

/* --- COMMIT_TERM ------------------------------------------------------------------------------ */

struct late {
    uint8_t old; /* leads the older term */
    bool cut;    /* its prepare certificate was made, and is held back with all else that it says */
    struct kept announce, ack[NODES];
};

static bool late_filter(struct world *w, void *ctx, const struct world_frame *f)
{
    (void)w;
    struct late *x = ctx;
    struct qc_announce a;
    struct vote v;
    if (f->type == MSG_HEARTBEAT_ACK && f->to == x->old && !x->cut)
        keep(&x->ack[f->from], f);
    if (f->from == x->old && f->type == MSG_QC_ANNOUNCE) {
        assert_ok(qc_announce_parse(&a, body_of(f)));
        if (a.cert.kind == VOTE_PREPARE && !x->cut) {
            keep(&x->announce, f);
            x->cut = true;
        }
    }
    if (!x->cut)
        return true;
    if (f->to == x->old && f->type == MSG_VOTE) {
        assert_ok(vote_parse(&v, body_of(f)));
        return v.kind == VOTE_COMMIT; /* of whatever term */
    }
    return f->from != x->old && f->to != x->old;
}

/* Until another one leads. Acknowledgements that were under way for long keep the old leader in
 * office meanwhile. */
static void elect_another(struct world *w, struct late *x)
{
    uint64_t end = world_now(w) + 20 * SECONDS, ack_at = 0;
    for (;;) {
        for (unsigned i = 0; i < NODES; i++)
            if (i != x->old && replica_role(world_replica(w, i)) == REPLICA_LEADER)
                return;
        assert_true(world_now(w) < end);
        if (world_now(w) >= ack_at) {
            for (uint8_t i = 0; i < NODES; i++)
                if (i != x->old)
                    world_inject(w, i, x->old, span_of(x->ack[i].bytes, x->ack[i].size), 1);
            ack_at = world_now(w) + 50 * MS;
        }
        world_step(w);
    }
}

/* Rule 6, only in the own term. A is prepared in the old term, which nobody but its leader knows;
 * the others elect a leader with grants that do not show A, and hear of A's certificate then. Who
 * now votes to commit A completes the old leader's commit certificate, and B's in the new term. */
static void commit_votes_of_an_older_term_fork(void **state)
{
    (void)state;
    for (uint64_t k = 0; k < 2 * SEEDS; k++) {
        bool off = k % 2 != 0;
        static struct late x;
        memset(&x, 0, sizeof x);
        struct world *w = running(1 + k / 2, off ? RULE_OFF_COMMIT_TERM : 0, &x.old);
        world_set_filter(w, late_filter, &x);
        world_run(w, 300 * MS); /* a few heartbeats */
        world_submit(w, 1);
        while (!x.cut)
            world_step(w);
        elect_another(w, &x);
        assert_int_equal(replica_role(world_replica(w, x.old)), REPLICA_LEADER);
        for (uint8_t i = 0; i < NODES; i++)
            if (i != x.old)
                world_inject(w, x.old, i, span_of(x.announce.bytes, x.announce.size), 1);
        world_run(w, 2 * SECONDS);
        world_set_filter(w, NULL, NULL);
        world_run(w, 5 * SECONDS);
        assert_outcome(w, off);
        if (!off)
            assert_true(world_run_until_height(w, 2, 1));
        world_free(w);
    }
}

/* --- MONOTONE --------------------------------------------------------------------------------- */

struct twice {
    uint8_t liar, alone; /* the liar leads; `alone` hears of B only, and nobody of it later */
    bool second_term;
    bool made_a; /* the liar has A's prepare certificate */
    bool made_b; /* B exists */
    uint32_t shown;
    sm3_digest b;
    struct vote vote[3][NODES]; /* for B, by kind */
    uint32_t voted[3];
};

/* The liar's proposal of A becomes one of B, a millisecond younger. */
static void show_b(struct world *w, struct twice *x, const struct world_frame *f)
{
    static struct proposal p;
    static uint8_t bytes[65536];
    assert_ok(proposal_parse(&p, body_of(f)));
    sm3_digest parent = p.core.header.previous;
    world_make_block(w, &p.core.header, &parent, p.core.header.height, p.core.term, x->liar,
                     p.core.header.timestamp_ms + 1, p.body);
    x->b = block_hash(&p.core.header);
    x->made_b = true;
    struct writer out = writer_on(bytes, sizeof bytes);
    frame_begin(&out, MSG_PROPOSAL);
    proposal_core_encode(&out, &p.core);
    uint8_t head[PROPOSAL_SIGNED_BYTES_MAX], random[SM2_WIDE_BYTES] = {9};
    struct span part = proposal_signed(head, &p.core, span_of(bytes + 2, out.size - 2));
    sm2_signature sig = sign_key_sign(world_key(w, x->liar), LABEL_PROPOSAL, &part, 1, random);
    memcpy(bytes + out.size - sizeof sig.b, sig.b, sizeof sig.b);
    write_bytes(&out, p.body);
    world_inject(w, f->from, f->to, writer_span(&out), 20 * MS); /* after A */
}

static bool first_term(struct world *w, struct twice *x, const struct world_frame *f)
{
    struct qc_announce a;
    struct vote v;
    if (f->from == x->liar && f->type == MSG_PROPOSAL) {
        if ((x->shown >> f->to & 1) == 0)
            show_b(w, x, f);
        bool a_too = f->to != x->alone && (x->shown >> f->to & 1) == 0;
        x->shown |= 1u << f->to;
        return a_too;
    }
    if (f->from == x->liar && f->type == MSG_QC_ANNOUNCE) {
        assert_ok(qc_announce_parse(&a, body_of(f)));
        x->made_a = x->made_a || a.cert.kind == VOTE_PREPARE;
        return false;
    }
    if (f->to == x->liar && f->type == MSG_VOTE) {
        assert_ok(vote_parse(&v, body_of(f)));
        if (!x->made_b || !sm3_equal(&v.block, &x->b))
            return v.kind == VOTE_PREPARE;
        x->vote[v.kind][f->from] = v;
        x->voted[v.kind] |= 1u << f->from;
        return false;
    }
    return true;
}

static bool twice_filter(struct world *w, void *ctx, const struct world_frame *f)
{
    struct twice *x = ctx;
    if (!x->second_term)
        return first_term(w, x, f);
    if (f->from == x->alone || f->to == x->alone)
        return false;
    return f->type != MSG_PREVOTE_REQUEST || f->from == x->liar;
}

/* Shows `to` the certificate of B that the votes of the two who vote both ways and the liar's make.
 */
static void announce_b(struct world *w, struct twice *x, enum vote_kind kind, uint32_t to)
{
    struct vote votes[NODES];
    size_t count = 0;
    for (uint8_t i = 0; i < NODES; i++)
        if (i != x->alone && i != x->liar)
            votes[count++] = x->vote[kind][i];
    votes[count] = votes[0];
    votes[count].voter = x->liar;
    uint8_t random[SM2_WIDE_BYTES] = {5}, bytes[4096];
    vote_sign(&votes[count++], world_key(w, x->liar), random);
    struct qc_announce a;
    assert_ok(qc_make(&a.cert, world_members(w), votes, count));
    struct writer out = writer_on(bytes, sizeof bytes);
    frame_begin(&out, MSG_QC_ANNOUNCE);
    qc_announce_encode(&out, &a);
    for (uint8_t i = 0; i < NODES; i++)
        if ((to >> i & 1) != 0)
            world_inject(w, x->liar, i, writer_span(&out), 1);
}

/* Until both who are shown A and B have voted so for B; false: they do not. */
static bool both_vote(struct world *w, struct twice *x, enum vote_kind kind)
{
    uint32_t both = ((1u << NODES) - 1) & ~(1u << x->liar) & ~(1u << x->alone);
    uint64_t end = world_now(w) + 400 * MS; /* nobody's timer expires so soon */
    while ((x->voted[kind] & both) != both && world_now(w) < end)
        world_step(w);
    return (x->voted[kind] & both) == both;
}

/* Rule 5, one prepare vote for a slot. Two members vote for A and for B; they and a third see
 * B's certificate only, and B is committed; in the next term the liar's grant shows A's, of equal
 * rank, in front of theirs, so that A has to be proposed again. */
static void prepare_votes_for_two_blocks_fork(void **state)
{
    (void)state;
    for (uint64_t k = 0; k < 2 * SEEDS; k++) {
        bool off = k % 2 != 0;
        static struct twice x;
        memset(&x, 0, sizeof x);
        struct world *w = running(1 + k / 2, off ? RULE_OFF_MONOTONE : 0, &x.liar);
        x.alone = (uint8_t)((x.liar + 3) % NODES);
        uint32_t both = ((1u << NODES) - 1) & ~(1u << x.liar) & ~(1u << x.alone);
        world_set_byzantine(w, 1u << x.liar);
        world_set_filter(w, twice_filter, &x);
        world_submit(w, 1);
        assert_int_equal(both_vote(w, &x, VOTE_PREPARE), off);
        assert_true(x.made_a);
        if (off) {
            announce_b(w, &x, VOTE_PREPARE, both);
            assert_true(both_vote(w, &x, VOTE_COMMIT));
            announce_b(w, &x, VOTE_COMMIT, 1u << x.alone);
            while (world_height(w, x.alone) < 2)
                world_step(w);
        }
        world_crash(w, x.liar);
        x.second_term = true;
        world_start(w, x.liar);
        world_run(w, 20 * SECONDS);
        assert_outcome(w, off);
        if (!off)
            assert_int_equal(world_height(w, x.liar), 2);
        world_free(w);
    }
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commit_votes_of_an_older_term_fork),
        cmocka_unit_test(prepare_votes_for_two_blocks_fork),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
