/* The simulator's own parts, and that a seed is a run. */
#include "tests/harness.h"

#include "crypto/secret.h"
#include "sim/events.h"
#include "sim/kv.h"
#include "sim/random.h"
#include "sim/rules.h"
#include "sim/run.h"
#include "sim/world.h"

#include <stdlib.h>
#include <string.h>

/* --- chance ---------------------------------------------------------------------------------- */

static void streams_of_one_seed_differ(void **state)
{
    (void)state;
    struct sim_random a = sim_random_stream(1, 2, 3), b = sim_random_stream(1, 2, 4);
    struct sim_random c = sim_random_stream(1, 3, 3), d = sim_random_stream(2, 2, 3);
    struct sim_random again = sim_random_stream(1, 2, 3);
    uint64_t first = sim_random_u64(&a);
    assert_true(first == sim_random_u64(&again));
    assert_true(first != sim_random_u64(&b) && first != sim_random_u64(&c) &&
                first != sim_random_u64(&d));
}

static void numbers_stay_in_range_and_reach_its_ends(void **state)
{
    (void)state;
    struct sim_random r = sim_random_stream(7, 0, 0);
    unsigned seen[5] = {0};
    for (int i = 0; i < 1000; i++) {
        uint64_t v = sim_random_between(&r, 10, 14);
        assert_true(v >= 10 && v <= 14);
        seen[v - 10]++;
    }
    for (int i = 0; i < 5; i++)
        assert_true(seen[i] > 100);
    assert_true(sim_random_below(&r, 0) == 0);
}

static void exponential_has_its_mean_and_its_tail(void **state)
{
    (void)state;
    struct sim_random r = sim_random_stream(9, 0, 0);
    uint64_t sum = 0, long_ones = 0, n = 200000;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t v = sim_random_exponential(&r, 1000);
        assert_true(v >= 1);
        sum += v;
        long_ones += v > 3000; /* e^-3: 5 % */
    }
    assert_true(sum / n > 900 && sum / n < 1100);
    assert_true(long_ones > n / 25 && long_ones < n / 16);
}

/* --- events ---------------------------------------------------------------------------------- */

static void events_happen_in_order_of_time_then_of_scheduling(void **state)
{
    (void)state;
    struct sim_events q = {0};
    struct sim_random r = sim_random_stream(3, 0, 0);
    for (uint64_t i = 0; i < 5000; i++)
        sim_events_push(&q, (struct sim_event){.at_us = sim_random_below(&r, 100), .link = i});
    uint64_t at = 0, link = 0;
    for (int i = 0; i < 5000; i++) {
        struct sim_event e = sim_events_pop(&q);
        assert_true(e.at_us > at || (e.at_us == at && (i == 0 || e.link > link)));
        at = e.at_us;
        link = e.link;
    }
    assert_null(sim_events_next(&q));
    sim_events_free(&q);
}

static void a_deferred_event_keeps_its_place(void **state)
{
    (void)state;
    struct sim_events q = {0};
    sim_events_push(&q, (struct sim_event){.at_us = 1, .link = 1});
    sim_events_push(&q, (struct sim_event){.at_us = 2, .link = 2});
    struct sim_event first = sim_events_pop(&q);
    sim_events_push(&q, (struct sim_event){.at_us = 5, .link = 3});
    sim_events_defer(&q, first, 5);
    struct sim_event second = sim_events_pop(&q);
    sim_events_defer(&q, second, 5);
    for (uint64_t i = 1; i <= 3; i++)
        assert_int_equal(sim_events_pop(&q).link, i);
    sim_events_free(&q);
}

/* --- the MDMS's store ------------------------------------------------------------------------ */

#define KEYS 512

static void put_number(struct sim_kv *kv, uint64_t key, uint64_t value)
{
    uint8_t k[8], v[8];
    store_be64(k, key);
    store_be64(v, value);
    sim_kv_put(kv, TABLE_REPORTS, span_of(k, 8), span_of(v, 8));
}

struct map {
    struct sim_kv *kv;
    uint64_t model[KEYS]; /* value + 1; 0: none */
    size_t count;
};

static void change_map(struct map *m, struct sim_random *r, uint64_t value)
{
    uint64_t key = sim_random_below(r, KEYS);
    if (sim_random_chance(r, 400000)) {
        struct mdms_write w = {0};
        struct mdms_key k = key_number(key);
        mdms_write_delete(&w, TABLE_REPORTS, &k);
        sim_kv_write(m->kv, &w);
        mdms_write_free(&w);
        m->count -= m->model[key] != 0;
        m->model[key] = 0;
    } else {
        put_number(m->kv, key, value);
        m->count += m->model[key] == 0;
        m->model[key] = value + 1;
    }
}

static void look_from(const struct map *m, uint64_t from)
{
    uint64_t want = from;
    while (want < KEYS && m->model[want] == 0)
        want++;
    uint8_t k[8];
    struct span key, value;
    store_be64(k, from);
    bool found = sim_kv_seek(m->kv, TABLE_REPORTS, span_of(k, 8), &key, &value);
    assert_int_equal(found, want < KEYS);
    if (found) {
        assert_int_equal(load_be64(key.data), want);
        assert_int_equal(load_be64(value.data), m->model[want] - 1);
    }
}

/* Copies share what they have in common, and none sees what is done to another. */
static void maps_do_what_sorted_arrays_do(void **state)
{
    (void)state;
    static struct map map[3];
    struct sim_random r = sim_random_stream(11, 0, 0);
    for (int i = 0; i < 3; i++)
        map[i].kv = sim_kv_new();
    for (uint64_t i = 0; i < 60000; i++) {
        struct map *m = &map[sim_random_below(&r, 3)];
        if (sim_random_chance(&r, 500)) {
            struct map *from = &map[sim_random_below(&r, 3)];
            struct sim_kv *copy = sim_kv_copy(from->kv);
            sim_kv_free(m->kv);
            *m = *from;
            m->kv = copy;
        }
        change_map(m, &r, i);
        assert_int_equal(sim_kv_count(m->kv, TABLE_REPORTS), m->count);
        look_from(m, sim_random_below(&r, KEYS));
    }
    for (int i = 0; i < 3; i++) {
        for (uint64_t key = 0; key < KEYS; key++)
            look_from(&map[i], key);
        sim_kv_free(map[i].kv);
    }
}

/* --- runs ------------------------------------------------------------------------------------ */

static struct sim_result run_seed(uint64_t seed, bool calm)
{
    struct sim_plan p = {.byzantine = SIM_PLAN_ANY};
    struct sim_result r;
    if (calm)
        sim_plan_calm(&p, seed);
    else
        sim_plan_draw(&p, seed);
    sim_run(&r, &p, NULL);
    return r;
}

static void a_seed_is_a_run(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct sim_result a = run_seed(seed, false), b = run_seed(seed, false);
        assert_string_equal(a.violation, "");
        assert_true(a.trace == b.trace && a.count.events == b.count.events);
        struct sim_result c = run_seed(seed + 1, false);
        assert_true(a.trace != c.trace);
    }
}

static void a_calm_network_commits_all_it_is_given(void **state)
{
    (void)state;
    struct sim_result r = run_seed(5, true);
    assert_string_equal(r.violation, "");
    assert_true(r.count.reports_made > 50);
    assert_int_equal(r.count.reports_made, r.count.reports_acknowledged);
    assert_int_equal(r.count.elections, 1);
    for (int k = 0; k < SIM_FAULT_KINDS; k++)
        assert_int_equal(r.count.fault[k], 0);
}

/* Somebody reads the lines that a run writes; what it does is the same. */
static void a_trace_changes_nothing(void **state)
{
    (void)state;
    struct sim_plan p = {.byzantine = SIM_PLAN_ANY};
    struct sim_result quiet, traced;
    sim_plan_draw(&p, 4);
    sim_run(&quiet, &p, NULL);
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    assert_non_null(f);
    sim_run(&traced, &p, f);
    assert_int_equal(fclose(f), 0);
    assert_true(quiet.trace == traced.trace);
    assert_true(size > 10000);
    assert_non_null(strstr(text, "HEARTBEAT"));
    assert_non_null(strstr(text, "has block 1"));
    assert_non_null(strstr(text, "faults end"));
    free(text);
}

/* --- changes -----------------------------------------------------------------------------------
 */

/* A network where nothing goes wrong, and an operator who is never done. */
static struct sim_plan busy_operator(uint64_t seed)
{
    struct sim_plan p;
    sim_plan_calm(&p, seed);
    p.spares = 2;
    p.change_every_us = SIM_SECOND;
    for (int k = 0; k < SIM_CHANGE_KINDS; k++)
        p.change_weight[k] = 1;
    return p;
}

static void committees_change_and_nothing_is_lost(void **state)
{
    (void)state;
    struct sim_counters sum = {0};
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct sim_plan p = busy_operator(seed);
        struct sim_result r;
        p.safety_us = 30 * SIM_SECOND;
        sim_run(&r, &p, NULL);
        assert_string_equal(r.violation, "");
        for (int k = 0; k < SIM_CHANGE_KINDS; k++)
            sum.change[k] += r.count.change[k];
        for (int k = 0; k < SIM_RARE_KINDS; k++)
            sum.rare[k] += r.count.rare[k];
        assert_true(r.count.reports_acknowledged > 0);
    }
    static const enum sim_change asked[] = {
        SIM_CHANGE_JOIN,   SIM_CHANGE_LEAVE,      SIM_CHANGE_ROTATE,
        SIM_CHANGE_RENEW,  SIM_CHANGE_MOVE,       SIM_CHANGE_REVOKE,
        SIM_CHANGE_REJOIN, SIM_CHANGE_SWITCH_OFF, SIM_CHANGE_RETAIN};
    for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++)
        assert_true(sum.change[asked[i]] > 0);
    assert_true(sum.rare[SIM_RARE_COMMITTEE_TOLD] > 0);
    assert_true(sum.rare[SIM_RARE_RELAYED] > 0);
    assert_true(sum.rare[SIM_RARE_OUTCAST] > 0);
    assert_true(sum.rare[SIM_RARE_EMPTY_BLOCK] > 0);
}

static void a_lost_record_comes_back_with_the_next_key(void **state)
{
    (void)state;
    struct sim_plan p = busy_operator(2);
    struct sim_result r;
    memset(p.change_weight, 0, sizeof p.change_weight);
    p.change_weight[SIM_CHANGE_ROTATE_LOST] = 1;
    p.fault_every_us = 2 * SIM_SECOND;
    p.weight[SIM_FAULT_LOST_DISK] = 1;
    sim_run(&r, &p, NULL);
    assert_string_equal(r.violation, "");
    /* More than f in all, never more than f at once. */
    assert_true(r.count.fault[SIM_FAULT_LOST_DISK] > 1);
    assert_true(r.count.change[SIM_CHANGE_ROTATE_LOST] > 1);
    assert_true(r.count.rare[SIM_RARE_RECORD_RENEWED] > 1);
}

/* DCs prune while others die, lose their disks and come back: these fetch what is left. */
static void dcs_prune_and_catch_up_from_what_is_left(void **state)
{
    (void)state;
    struct sim_counters sum = {0};
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct sim_plan p = busy_operator(seed);
        struct sim_result r;
        memset(p.change_weight, 0, sizeof p.change_weight);
        p.change_weight[SIM_CHANGE_RETAIN] = 1;
        p.report_every_us = 200 * SIM_MS;
        p.safety_us = 60 * SIM_SECOND;
        p.fault_every_us = 6 * SIM_SECOND;
        p.down_mean_us = 10 * SIM_SECOND; /* longer than the blocks that stay whole */
        p.weight[SIM_FAULT_CRASH] = 1;
        sim_run(&r, &p, NULL);
        assert_string_equal(r.violation, "");
        sum.change[SIM_CHANGE_RETAIN] += r.count.change[SIM_CHANGE_RETAIN];
        sum.rare[SIM_RARE_PRUNED_FETCHED] += r.count.rare[SIM_RARE_PRUNED_FETCHED];
    }
    assert_true(sum.change[SIM_CHANGE_RETAIN] > 3);
    assert_true(sum.rare[SIM_RARE_PRUNED_FETCHED] > 0);
}

/* Two liars of five are more than f. */
static void the_operator_keeps_to_the_budget(void **state)
{
    (void)state;
    for (int lies = 0; lies <= 1; lies++) {
        struct sim_plan p = busy_operator(3);
        struct sim_result r;
        memset(p.change_weight, 0, sizeof p.change_weight);
        p.change_weight[SIM_CHANGE_JOIN] = 1;
        p.byzantine = 1;
        p.spares = 1;
        p.spare_lies = lies == 1;
        sim_run(&r, &p, NULL);
        assert_string_equal(r.violation, "");
        assert_int_equal(r.count.change[SIM_CHANGE_JOIN], lies == 1 ? 0 : 1);
    }
}

/* A liar that leads shows what it has been granted in two ways, and others go by either. */
static void several_election_certificates_are_shown(void **state)
{
    (void)state;
    uint64_t shown = 0, acted = 0;
    for (uint64_t seed = 1; seed <= 30 && acted == 0; seed++) {
        struct sim_plan p;
        struct sim_result r;
        sim_plan_calm(&p, seed);
        p.dcs = 4;
        p.byzantine = 1;
        p.mischief[SIM_MISCHIEF_SHOW_OTHER_M] = 1000000;
        p.fault_every_us = SIM_SECOND;
        p.weight[SIM_FAULT_POWER] = p.weight[SIM_FAULT_ISOLATE] = 1;
        p.loss_ppm = 30000;
        p.delay_mean_us = 20 * SIM_MS;
        p.strike_ppm = 100000;
        p.cut_mean_us = 500 * SIM_MS;
        p.report_every_us = 100 * SIM_MS;
        sim_run(&r, &p, NULL);
        assert_string_equal(r.violation, "");
        shown += r.count.mischief[SIM_MISCHIEF_SHOW_OTHER_M];
        acted += r.count.rare[SIM_RARE_OTHER_M];
    }
    assert_true(shown > 0 && acted > 0);
}

static void every_rule_has_a_name_of_its_own(void **state)
{
    (void)state;
    size_t count = 0;
    for (; sim_rule_at(count) != NULL; count++)
        assert_ptr_equal(sim_rule_find(sim_rule_at(count)->name), sim_rule_at(count));
    assert_true(count >= 16);
    assert_null(sim_rule_find("no-such-rule"));
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_of_one_seed_differ),
        cmocka_unit_test(numbers_stay_in_range_and_reach_its_ends),
        cmocka_unit_test(exponential_has_its_mean_and_its_tail),
        cmocka_unit_test(events_happen_in_order_of_time_then_of_scheduling),
        cmocka_unit_test(a_deferred_event_keeps_its_place),
        cmocka_unit_test(maps_do_what_sorted_arrays_do),
        cmocka_unit_test(a_seed_is_a_run),
        cmocka_unit_test(a_calm_network_commits_all_it_is_given),
        cmocka_unit_test(a_trace_changes_nothing),
        cmocka_unit_test(committees_change_and_nothing_is_lost),
        cmocka_unit_test(a_lost_record_comes_back_with_the_next_key),
        cmocka_unit_test(dcs_prune_and_catch_up_from_what_is_left),
        cmocka_unit_test(the_operator_keeps_to_the_budget),
        cmocka_unit_test(several_election_certificates_are_shown),
        cmocka_unit_test(every_rule_has_a_name_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
