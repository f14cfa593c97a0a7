/* Rules that, switched off, must be caught: the checkers of world.c would notice if they did not
 * hold. Each run is one of faults.h with one rule less (and, where it says so, with f members that
 * run twice). The first seed tried is one that is known to fork; if the replica has changed since,
 * others are tried.
 */
#include "tests/harness.h"

#include "crypto/secret.h"
#include "tests/consensus/faults.h"

#include <string.h>

#define SEEDS_TRIED 3000

static void forks(const struct plan *p, uint64_t known_seed)
{
    struct outcome out;
    for (uint64_t k = 0; k < SEEDS_TRIED; k++) {
        uint64_t seed = k == 0 ? known_seed : k;
        const char *why = faults_run(seed, p, false, &out);
        if (why == NULL || strstr(why, "agreement") == NULL)
            continue;
        /* With the rule on, the same faults do no harm. */
        struct plan on = *p;
        on.rules_off = 0;
        assert_null(faults_run(seed, &on, false, &out));
        return;
    }
    fail_msg("nothing was noticed");
}

static void quorum_2f_plus_1_at_5_nodes_forks(void **state)
{
    (void)state;
    forks(&(struct plan){.n = 5, .twins = true, .rules_off = RULE_OFF_QUORUM}, 40);
}

static void votes_that_are_not_persisted_fork(void **state)
{
    (void)state;
    forks(&(struct plan){.n = 4, .rules_off = RULE_OFF_PERSIST_VOTES}, 264);
}

static void grants_without_high_qc_fork(void **state)
{
    (void)state;
    forks(&(struct plan){.n = 4, .rules_off = RULE_OFF_GRANT_HIGH}, 319);
}

static void any_old_committed_block_extended_forks(void **state)
{
    (void)state;
    forks(&(struct plan){.n = 4, .rules_off = RULE_OFF_PARENT}, 16);
}

static void a_leader_that_is_not_bound_to_m_forks(void **state)
{
    (void)state;
    forks(&(struct plan){.n = 4, .rules_off = RULE_OFF_BOUND}, 16);
}

/* Algorithm 2 to the letter: the leader announces the commit at q replies. */
static void one_phase_forks(void **state)
{
    (void)state;
    forks(&(struct plan){.n = 4, .rules_off = RULE_OFF_ONE_PHASE}, 58);
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quorum_2f_plus_1_at_5_nodes_forks),
        cmocka_unit_test(votes_that_are_not_persisted_fork),
        cmocka_unit_test(grants_without_high_qc_fork),
        cmocka_unit_test(any_old_committed_block_extended_forks),
        cmocka_unit_test(a_leader_that_is_not_bound_to_m_forks),
        cmocka_unit_test(one_phase_forks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
