/* Rules 1 to 8, 10 and 11 of consensus.md, one by one, on a few nodes and virtual time. */
#include "tests/harness.h"

#include "crypto/secret.h"
#include "tests/consensus/world.h"

#include <string.h>

#define assert_sound(w)                                                                            \
    do {                                                                                           \
        if (world_violation(w) != NULL)                                                            \
            fail_msg("%s", world_violation(w));                                                    \
    } while (0)

static const unsigned sizes[] = {1, 4, 5, 7};

/* All of it: terms rise, a leader is elected, blocks are committed by everybody. */
static void a_healthy_network_commits(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
        struct world *w = world_new(&(struct world_options){.n = sizes[k], .seed = 1});
        world_submit(w, 3);
        bool reached = world_run_until_height(w, 1, 5 * SECONDS);
        assert_sound(w);
        assert_true(reached);
        for (uint64_t h = 2; h <= 20; h++) {
            world_submit(w, 1);
            assert_true(world_run_until_height(w, h, 5 * SECONDS));
        }
        assert_sound(w);
        assert_int_equal(world_elections(w), 1);
        world_free(w);
    }
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_healthy_network_commits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
