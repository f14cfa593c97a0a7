/* What the laboratory's tables are made of: counters, frames, elections, the narrow medium. */
#include "base/check.h"
#include "crypto/sm2.h"
#include "sim/lab/count.h"
#include "sim/lab/election.h"
#include "sim/lab/frames.h"
#include "sim/lab/quantile.h"
#include "sim/medium.h"
#include "sim/world.h"
#include "tests/harness.h"

#include <stdlib.h>
#include <string.h>

/* --- counters -------------------------------------------------------------------------------- */

static struct lab_counts count_step(struct lab_pair *p, void (*step)(struct lab_pair *))
{
    struct lab_counts c;
    lab_count_begin(&c, false);
    step(p);
    lab_count_end();
    return c;
}

/* The counts follow from the formulas at the head of keyagree/liu2023.c. */
static void counts_the_published_scheme(void **state)
{
    (void)state;
    struct lab_pair *p = lab_pair_new(scheme_by_name("liu2023"), 1);
    struct lab_counts c = count_step(p, lab_pair_flight1);
    assert_int_equal(c.count[LAB_OP_RANDOM], 1); /* a */
    assert_int_equal(c.count[LAB_OP_BASE] + c.count[LAB_OP_MUL] + c.count[LAB_OP_HASH], 0);
    c = count_step(p, lab_pair_flight2);
    assert_int_equal(c.count[LAB_OP_BASE], 1);   /* T = b G */
    assert_int_equal(c.count[LAB_OP_TABLE], 1);  /* k = (bA) G + (bh) P_pub */
    assert_int_equal(c.count[LAB_OP_SCALAR], 2); /* bA, bh */
    assert_int_equal(c.count[LAB_OP_HASH], 2);   /* M1, M2 */
    assert_int_equal(c.count[LAB_OP_KDF], 1);    /* K */
    assert_int_equal(c.count[LAB_OP_MUL], 0);
    c = count_step(p, lab_pair_flight3);
    assert_int_equal(c.count[LAB_OP_DECODE], 1); /* T */
    assert_int_equal(c.count[LAB_OP_MUL], 1);    /* (S + a) T */
    assert_int_equal(c.count[LAB_OP_HASH], 2);
    lab_pair_confirm(p);
    lab_pair_free(p);
}

/* GB/T 32918.3: V = t (P + x' R); the DC's key is recovered from its certificate. */
static void counts_the_default_scheme(void **state)
{
    (void)state;
    struct lab_pair *p = lab_pair_new(scheme_by_name("sm2kx"), 1);
    struct lab_counts c = count_step(p, lab_pair_flight1);
    assert_int_equal(c.count[LAB_OP_BASE], 1); /* R_A */
    c = count_step(p, lab_pair_flight2);
    assert_int_equal(c.count[LAB_OP_BASE], 1);
    assert_int_equal(c.count[LAB_OP_PUBLIC_SHORT], 1); /* x' has 128 bits */
    assert_int_equal(c.count[LAB_OP_PUBLIC], 0);
    assert_int_equal(c.count[LAB_OP_MUL], 1);
    assert_int_equal(c.count[LAB_OP_RECOVER], 0); /* cached */
    c = count_step(p, lab_pair_flight3);
    assert_int_equal(c.count[LAB_OP_RECOVER], 1);
    assert_int_equal(c.count[LAB_OP_PUBLIC_SHORT], 1);
    assert_int_equal(c.count[LAB_OP_MUL], 1);
    lab_pair_confirm(p);
    c = count_step(p, lab_pair_flight2_batch);
    assert_int_equal(c.count[LAB_OP_MUL], LAB_PAIR_BATCH);
    lab_pair_free(p);
}

/* A signature is one operation, not also the product and the hash inside it; a pause counts
 * nothing. */
static void counts_what_is_outermost(void **state)
{
    (void)state;
    scalar d = {{7}};
    sm2_private key;
    sm3_digest e = {{1}};
    uint8_t random[SM2_WIDE_BYTES] = {2};
    struct lab_counts c;
    assert_int_equal(sm2_private_init(&key, &d), AMI_OK);
    lab_count_begin(&c, true);
    sm2_signature s = sm2_sign(&key, &e, random);
    assert_int_equal(sm2_verify(&key.p, &e, &s), AMI_OK);
    lab_count_pause(true);
    (void)sm2_sign(&key, &e, random);
    lab_count_pause(false);
    lab_count_end();
    (void)sm2_sign(&key, &e, random);
    for (int op = 0; op < LAB_OP_KINDS; op++)
        assert_int_equal(c.count[op], op == LAB_OP_SIGN || op == LAB_OP_VERIFY);
    assert_true(c.ns[LAB_OP_SIGN] > 0);
}

/* --- frames ---------------------------------------------------------------------------------- */

static void on_sent(void *ctx, struct sim_world *w, uint16_t from, uint16_t to, struct span frame)
{
    size_t *seen = ctx;
    if (w->host[from].kind == SIM_DC && w->host[to].kind == SIM_DC)
        return;
    if (frame.data[1] == MSG_AGREE_FLIGHT1)
        seen[LAB_FRAME_FLIGHT1] = frame.size;
    struct refused r;
    if (frame.data[1] == MSG_REFUSED &&
        refused_parse(&r, span_of(frame.data + 2, frame.size - 2)) == AMI_OK && r.has_other)
        seen[LAB_FRAME_REDIRECT] = frame.size;
    if (frame.data[1] == MSG_AGREE_FLIGHT2)
        seen[LAB_FRAME_FLIGHT2] = frame.size;
    if (frame.data[1] == MSG_AGREE_FLIGHT3)
        seen[LAB_FRAME_FLIGHT3] = frame.size;
}

/* table5's frames are those that travel in a network: names there are m-N and dc-N as well. */
static void frames_are_those_on_the_wire(void **state)
{
    static const char *const names[] = {"liu2023", "sm2kx"};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        const struct scheme *scheme = scheme_by_name(names[i]);
        struct lab_frame_size f[LAB_FRAMES];
        struct lab_pair *p = lab_pair_new(scheme, 1);
        struct sim_plan plan;
        size_t seen[LAB_FRAMES] = {0};
        const struct sim_watch watch = {.ctx = seen, .sent = on_sent};
        lab_frames_measure(f, p);
        lab_pair_free(p);
        /* A leader tells its meters that it leads, so redirections are seldom. */
        for (uint64_t seed = 1; seed <= 40 && seen[LAB_FRAME_REDIRECT] == 0; seed++) {
            sim_plan_calm(&plan, seed);
            plan.scheme = scheme->number;
            struct sim_world *w = sim_world_new(&plan, NULL);
            w->watch = &watch;
            sim_world_run(w, 6 * SIM_SECOND);
            assert_string_equal(w->violation, "");
            sim_world_free(w);
        }
        for (int k = 0; k < LAB_FRAMES; k++)
            assert_int_equal(seen[k], f[k].frame_bytes);
    }
}

/* --- elections ------------------------------------------------------------------------------- */

static void elections_follow_from_the_seed(void **state)
{
    struct lab_elections e[3];
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        const struct lab_election_case c = {.dcs = 4,
                                            .timeout_ms = 300,
                                            .delay_mean_us = 3000,
                                            .elections = 3,
                                            .seed = i == 2 ? 8 : 7};
        lab_elections_run(&e[i], &c);
        assert_string_equal(e[i].violation, "");
        assert_int_equal(e[i].count, 3);
        /* A follower waits T at least since the last heartbeat, which is at most T/6 old, and its
         * clock starts when that arrives. */
        assert_true(e[i].total_ms[0] > 300.0 * 5 / 6 - 1);
        for (int k = 0; k < 3; k++) /* both are sorted */
            assert_true(e[i].commit_ms[k] >= e[i].total_ms[k]);
        assert_true(e[i].beats > 10);
        assert_true(lab_quantile(e[i].broadcast_ms, e[i].beats, 0.5) < 300);
    }
    assert_memory_equal(e[0].total_ms, e[1].total_ms, 3 * sizeof(double));
    assert_int_equal(e[0].beats, e[1].beats);
    assert_memory_not_equal(e[0].total_ms, e[2].total_ms, 3 * sizeof(double));
    for (size_t i = 0; i < 3; i++)
        lab_elections_free(&e[i]);
}

static void quantiles(void **state)
{
    static const double v[] = {1, 2, 4};
    (void)state;
    assert_true(lab_quantile(v, 3, 0) == 1 && lab_quantile(v, 3, 1) == 4);
    assert_true(lab_quantile(v, 3, 0.5) == 2 && lab_quantile(v, 3, 0.75) == 3);
    assert_true(lab_quantile(v, 0, 0.5) == 0);
}

/* --- the medium ------------------------------------------------------------------------------ */

static const struct sim_medium narrow = {.rate_bps = 8000, /* a byte a millisecond */
                                         .fragment_bytes = 100,
                                         .overhead_bytes = 10,
                                         .hops = 2,
                                         .tries = 3,
                                         .hop_us_min = 5000,
                                         .hop_us_max = 5000,
                                         .burst_fragments = 1};

static void medium_takes_its_time(void **state)
{
    struct sim_medium_state s = {0};
    struct sim_random r = sim_random_stream(1, 1, 1);
    uint64_t at;
    (void)state;
    /* 250 bytes: fragments of 110, 110 and 60 bytes on each of two hops. */
    assert_in_range(sim_medium_frame_us(&narrow, 250), 560000, 560010);
    assert_true(sim_medium_send(&s, &narrow, &r, 1000, 250, false, &at));
    assert_in_range(at, 1000 + 570000, 1000 + 570010);
    /* The next one waits until the medium is free. */
    assert_true(sim_medium_send(&s, &narrow, &r, 2000, 10, false, &at));
    assert_in_range(at, 1000 + 560000 + 50000, 1000 + 560000 + 50020);
    assert_int_equal(s.frames, 2);
    assert_int_equal(s.fragments, 8);
    assert_int_equal(s.bytes, 260);
}

static void medium_loses_as_told(void **state)
{
    struct sim_medium m = narrow;
    struct sim_medium_state s = {0};
    struct sim_random r = sim_random_stream(2, 1, 1);
    uint64_t at, lost = 0;
    (void)state;
    m.hops = m.tries = 1;
    m.loss_ppm = 100000;
    m.burst_fragments = 4;
    for (int i = 0; i < 100000; i++)
        lost += !sim_medium_send(&s, &m, &r, 0, 50, false, &at);
    assert_in_range(lost, 9000, 11000);
    assert_int_equal(s.frames_lost, lost);
    /* Bursts of four: tries in a row share a bad stretch, so three do not bring it to 0.1 % (100).
     */
    m.tries = 3;
    lost = 0;
    for (int i = 0; i < 100000; i++)
        lost += !sim_medium_send(&s, &m, &r, 0, 50, false, &at);
    assert_in_range(lost, 1500, 5000);
    /* What must get through does. */
    for (int i = 0; i < 1000; i++)
        assert_true(sim_medium_send(&s, &m, &r, 0, 50, true, &at));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_the_published_scheme),
        cmocka_unit_test(counts_the_default_scheme),
        cmocka_unit_test(counts_what_is_outermost),
        cmocka_unit_test(frames_are_those_on_the_wire),
        cmocka_unit_test(elections_follow_from_the_seed),
        cmocka_unit_test(quantiles),
        cmocka_unit_test(medium_takes_its_time),
        cmocka_unit_test(medium_loses_as_told),
    };
    AMI_CHECK(crypto_start() == AMI_OK);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
