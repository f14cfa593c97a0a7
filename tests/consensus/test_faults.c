/* Random faults over many seeds (faults.h). A seed replays bit for bit.
 *
 * Without arguments each test takes its usual range of seeds; `test-consensus-faults SEED` shows
 * one run alone, `FROM TO N TWINS RULES_OFF DEAD` a range of them.
 */
#include "tests/harness.h"

#include "crypto/secret.h"
#include "tests/consensus/faults.h"

#include <stdlib.h>

#define SEEDS 300

static const struct plan honest = {0};
static const struct plan with_twins = {.twins = true};
static const struct plan with_dead = {.dead = true};

/* Rules 1 to 10, and 12: nobody is ever convicted (the checkers of world.c see to it). */
static void faults_break_nothing_and_work_goes_on(void **state)
{
    (void)state;
    struct outcome out;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        const char *why = faults_run(seed, &honest, false, &out);
        if (why != NULL)
            fail_msg("%s", why);
    }
}

/* The same with f members that run twice. They are convicted, not always, and nobody else. */
static void f_twins_break_nothing_and_work_goes_on(void **state)
{
    (void)state;
    struct outcome out;
    unsigned convicted = 0;
    for (uint64_t seed = 1; seed <= SEEDS / 2; seed++) {
        const char *why = faults_run(seed, &with_twins, false, &out);
        if (why != NULL)
            fail_msg("%s", why);
        convicted += out.convicted != 0 ? 1 : 0;
    }
    assert_true(convicted >= SEEDS / 8);
}

/* The same, and f members do not come back: every vote of the others is needed, whomever they pass
 * over (rule 9). */
static void work_goes_on_without_f_members(void **state)
{
    (void)state;
    struct outcome out;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        const char *why = faults_run(seed, &with_dead, false, &out);
        if (why != NULL)
            fail_msg("%s", why);
    }
}

/* The more members, the more of them ask at once. */
static void large_committees_go_on_too(void **state)
{
    (void)state;
    static const unsigned sizes[] = {10, 13, 22};
    struct outcome out;
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++)
        for (uint64_t seed = 100; seed < 120; seed++) {
            const struct plan p = {.n = sizes[k], .dead = true};
            const char *why = faults_run(seed, &p, false, &out);
            if (why != NULL)
                fail_msg("n %u: %s", sizes[k], why);
        }
}

/* The replica has no clock and no random source of its own: two runs are one. */
static void a_seed_replays_bit_for_bit(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct outcome a, b;
        assert_null(faults_run(seed, &honest, false, &a));
        assert_null(faults_run(seed, &honest, false, &b));
        assert_true(a.trace == b.trace);
    }
}

static int run_range(uint64_t from, uint64_t to, const struct plan *p)
{
    unsigned bad = 0;
    struct outcome out;
    for (uint64_t seed = from; seed <= to; seed++)
        bad += faults_run(seed, p, true, &out) == NULL ? 0 : 1;
    return bad == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (crypto_start() != AMI_OK)
        return 1;
    if (argc > 1) {
        uint64_t v[6] = {0};
        for (int i = 1; i < argc && i <= 6; i++)
            v[i - 1] = strtoull(argv[i], NULL, 0);
        struct plan p = {.n = (unsigned)v[2],
                         .twins = v[3] != 0,
                         .rules_off = (uint32_t)v[4],
                         .dead = v[5] != 0};
        return run_range(v[0], argc > 2 ? v[1] : v[0], &p);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(faults_break_nothing_and_work_goes_on),
        cmocka_unit_test(f_twins_break_nothing_and_work_goes_on),
        cmocka_unit_test(work_goes_on_without_f_members),
        cmocka_unit_test(large_committees_go_on_too),
        cmocka_unit_test(a_seed_replays_bit_for_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
