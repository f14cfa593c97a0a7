/* Random faults: a safety phase (links lose, repeat, delay, reorder; partitions; nodes die at any
 * write, before or after it is durable, and come back), then a liveness phase: once faults stop,
 * every healthy node commits everything within a bound. A seed replays bit for bit.
 *
 * Without arguments each test takes its usual range of seeds; `test-consensus-faults SEED` shows
 * one run alone.
 */
#include "tests/harness.h"

#include "crypto/secret.h"
#include "tests/consensus/world.h"

#include <stdio.h>
#include <stdlib.h>

#define SEEDS       300
#define SAFETY_US   (12 * SECONDS)
#define LIVENESS_US (40 * SECONDS)

static uint64_t draw(uint64_t *state, uint64_t below)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (*state >> 33) % below;
}

/* What to run: the same faults with other rules, or with members that run twice. */
struct plan {
    uint32_t rules_off;
    unsigned n; /* 0: drawn */
    bool twins; /* f of them */
};

static struct world_options faults_of(uint64_t seed, const struct plan *p)
{
    static const unsigned sizes[] = {4, 5, 7, 4};
    uint64_t s = seed * 2654435761u + 99;
    struct world_options o = {.seed = seed, .n = sizes[draw(&s, 4)]};
    o.n = p->n != 0 ? p->n : o.n;
    o.twins = p->twins ? members_f(o.n) : 0;
    o.rules_off = p->rules_off;
    o.loss_percent = (unsigned)draw(&s, 31);
    o.dup_percent = (unsigned)draw(&s, 20);
    o.delay_mean_us = 1000 + draw(&s, 60000);
    o.disk_mean_us = 100 + draw(&s, 5000);
    o.crash_before_per_mille = (unsigned)draw(&s, 30);
    o.crash_after_per_mille = (unsigned)draw(&s, 30);
    o.down_mean_us = 50 * MS + draw(&s, 2000 * MS);
    o.submit_every_us = 20 * MS + draw(&s, 300 * MS);
    return o;
}

/* Cuts and heals links at random moments; crashes at moments between writes too. */
static void trouble(struct world *w, const struct world_options *o)
{
    uint64_t end = world_now(w) + SAFETY_US;
    while (world_now(w) < end && world_violation(w) == NULL) {
        world_run(w, world_random(w, 800 * MS));
        uint64_t what = world_random(w, 10);
        unsigned n = o->n + o->twins;
        unsigned a = (unsigned)world_random(w, n), b = (unsigned)world_random(w, n);
        if (what < 2)
            world_isolate(w, (uint32_t)world_random(w, 1u << n));
        else if (what < 5)
            world_isolate(w, 0);
        else if (what < 7)
            world_cut(w, a, b, true);
        else if (what < 8)
            world_isolate(w, 1u << a);
        else if (what < 9 && world_up(w, a))
            world_crash(w, a);
        else if (!world_up(w, a))
            world_start(w, a);
    }
}

static bool all_committed(struct world *w, const struct world_options *o, uint32_t txs)
{
    for (unsigned i = o->twins; i < o->n; i++)
        for (uint32_t tx = 0; tx < txs; tx++)
            if (!world_up(w, i) || !world_tx_committed(w, i, tx))
                return false;
    return true;
}

/* NULL: sound and alive. */
static const char *run(uint64_t seed, const struct plan *p, bool show, uint64_t *trace)
{
    static char why[300];
    struct world_options o = faults_of(seed, p);
    struct world *w = world_new(&o);
    trouble(w, &o);
    uint64_t before = world_now(w), height = 0;
    for (unsigned i = 0; i < o.n; i++)
        height = world_height(w, i) > height ? world_height(w, i) : height;
    world_heal(w);
    for (unsigned i = 0; i < o.n + o.twins; i++)
        if (!world_up(w, i))
            world_start(w, i);
    uint32_t txs = world_txs(w) + 1;
    bool alive = false;
    while (!alive && world_violation(w) == NULL && world_now(w) < before + LIVENESS_US) {
        world_run(w, 100 * MS);
        alive = world_txs(w) >= txs && all_committed(w, &o, txs);
    }
    why[0] = 0;
    if (world_violation(w) != NULL)
        snprintf(why, sizeof why, "seed %llu: %s", (unsigned long long)seed, world_violation(w));
    else if (!alive)
        snprintf(why, sizeof why,
                 "seed %llu: n %u: not everything committed %llu s after the last fault",
                 (unsigned long long)seed, o.n, (unsigned long long)(LIVENESS_US / SECONDS));
    if (show) {
        printf("seed %llu n %u loss %u dup %u delay %llu crash %u %u: height %llu before the end, "
               "%llu elections, %llu events, whole after %llu ms %s\n",
               (unsigned long long)seed, o.n, o.loss_percent, o.dup_percent,
               (unsigned long long)o.delay_mean_us, o.crash_before_per_mille,
               o.crash_after_per_mille, (unsigned long long)height,
               (unsigned long long)world_elections(w), (unsigned long long)world_events(w),
               (unsigned long long)((world_now(w) - before) / MS), why);
        for (unsigned i = 0; i < o.n + o.twins; i++)
            printf("  node %u: role %d term %llu height %llu refused %u diverged %u\n", i,
                   world_up(w, i) ? (int)replica_role(world_replica(w, i)) : 0,
                   (unsigned long long)(world_up(w, i) ? replica_term(world_replica(w, i)) : 0),
                   (unsigned long long)world_height(w, i), world_notes(w, i, REPLICA_NOTE_REFUSED),
                   world_notes(w, i, REPLICA_NOTE_DIVERGED));
    }
    *trace = world_trace(w);
    world_free(w);
    return why[0] == 0 ? NULL : why;
}

static const struct plan honest = {0};
static const struct plan with_twins = {.twins = true};

/* Rules 1 to 8 and 10. */
static void faults_break_nothing_and_work_goes_on(void **state)
{
    (void)state;
    uint64_t trace;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        const char *why = run(seed, &honest, false, &trace);
        if (why != NULL)
            fail_msg("%s", why);
    }
}

/* The same with f members that run twice. */
static void f_twins_break_nothing_and_work_goes_on(void **state)
{
    (void)state;
    uint64_t trace;
    for (uint64_t seed = 1; seed <= SEEDS / 2; seed++) {
        const char *why = run(seed, &with_twins, false, &trace);
        if (why != NULL)
            fail_msg("%s", why);
    }
}

/* The replica has no clock and no random source of its own: two runs are one. */
static void a_seed_replays_bit_for_bit(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        uint64_t a, b;
        assert_null(run(seed, &honest, false, &a));
        assert_null(run(seed, &honest, false, &b));
        assert_true(a == b);
    }
}

static int run_range(uint64_t from, uint64_t to, const struct plan *p)
{
    unsigned bad = 0;
    uint64_t trace;
    for (uint64_t seed = from; seed <= to; seed++)
        bad += run(seed, p, true, &trace) == NULL ? 0 : 1;
    return bad == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (crypto_start() != AMI_OK)
        return 1;
    if (argc > 1) { /* FROM [TO [N [TWINS [RULES_OFF]]]] */
        uint64_t v[5] = {0};
        for (int i = 1; i < argc && i <= 5; i++)
            v[i - 1] = strtoull(argv[i], NULL, 0);
        struct plan p = {.n = (unsigned)v[2], .twins = v[3] != 0, .rules_off = (uint32_t)v[4]};
        return run_range(v[0], argc > 2 ? v[1] : v[0], &p);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(faults_break_nothing_and_work_goes_on),
        cmocka_unit_test(f_twins_break_nothing_and_work_goes_on),
        cmocka_unit_test(a_seed_replays_bit_for_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
