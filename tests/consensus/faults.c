#include "tests/consensus/faults.h"

#include <stdio.h>
#include <stdlib.h>

#define SAFETY_US   (12 * SECONDS)
#define LIVENESS_US (40 * SECONDS)

static uint64_t draw(uint64_t *state, uint64_t below)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (*state >> 33) % below;
}

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

/* Cuts and heals links at random moments; crashes at moments between writes too; and leaders that
 * are told to step down. */
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
        else
            world_step_down(w, a); /* if it leads */
    }
}

static bool all_committed(struct world *w, const struct world_options *o, uint32_t txs,
                          uint32_t dead)
{
    for (unsigned i = o->twins; i < o->n; i++)
        for (uint32_t tx = 0; (dead >> i & 1) == 0 && tx < txs; tx++)
            if (!world_up(w, i) || !world_tx_committed(w, i, tx))
                return false;
    return true;
}

/* Faults stop; all but `dead` are up. */
static void heal(struct world *w, const struct world_options *o, uint32_t dead)
{
    world_heal(w);
    for (unsigned i = 0; i < o->n + o->twins; i++) {
        if ((dead >> i & 1) != 0)
            world_crash_for_good(w, i);
        else if (!world_up(w, i))
            world_start(w, i);
    }
}

static uint32_t convicted_by_all(const struct world *w, const struct world_options *o)
{
    uint32_t mask = 0;
    for (unsigned i = 0; i < o->n; i++)
        mask |= world_honest(w, i) ? world_convicted(w, i) : 0;
    return mask;
}

const char *faults_run(uint64_t seed, const struct plan *p, bool show, struct outcome *out)
{
    static char why[300];
    struct world_options o = faults_of(seed, p);
    struct world *w = world_new(&o);
    trouble(w, &o);
    uint64_t before = world_now(w), height = 0;
    for (unsigned i = 0; i < o.n; i++)
        height = world_height(w, i) > height ? world_height(w, i) : height;
    uint32_t dead = 0;
    for (unsigned k = 0; p->dead && k < members_f(o.n); k++)
        dead |= 1u << (seed + k) % o.n;
    heal(w, &o, dead);
    uint32_t txs = world_txs(w) + 1;
    bool alive = false;
    while (!alive && world_violation(w) == NULL && world_now(w) < before + LIVENESS_US) {
        world_run(w, 100 * MS);
        alive = world_txs(w) >= txs && all_committed(w, &o, txs, dead);
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
               "%llu elections, %llu events, convicted %x, whole after %llu ms %s\n",
               (unsigned long long)seed, o.n, o.loss_percent, o.dup_percent,
               (unsigned long long)o.delay_mean_us, o.crash_before_per_mille,
               o.crash_after_per_mille, (unsigned long long)height,
               (unsigned long long)world_elections(w), (unsigned long long)world_events(w),
               convicted_by_all(w, &o), (unsigned long long)((world_now(w) - before) / MS), why);
        for (unsigned i = 0; i < o.n + o.twins; i++)
            printf("  node %u: role %d term %llu height %llu refused %u diverged %u\n", i,
                   world_up(w, i) ? (int)replica_role(world_replica(w, i)) : 0,
                   (unsigned long long)(world_up(w, i) ? replica_term(world_replica(w, i)) : 0),
                   (unsigned long long)world_height(w, i), world_notes(w, i, REPLICA_NOTE_REFUSED),
                   world_notes(w, i, REPLICA_NOTE_DIVERGED));
    }
    *out = (struct outcome){.trace = world_trace(w), .convicted = convicted_by_all(w, &o)};
    world_free(w);
    return why[0] == 0 ? NULL : why;
}
