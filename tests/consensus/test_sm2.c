/* The replica with real keys and signatures: everything it checks and makes goes through SM2. */
#include "tests/harness.h"

#include "crypto/secret.h"
#include "tests/consensus/world.h"

#include <string.h>

static void four_nodes_commit_and_replace_their_leader(void **state)
{
    (void)state;
    struct world *w = world_new(&(struct world_options){.n = 4, .seed = 1});
    world_submit(w, 1);
    int leader = world_run_until_leader(w, 10 * SECONDS);
    assert_true(leader >= 0);
    assert_true(world_run_until_height(w, 1, 5 * SECONDS));
    for (uint64_t h = 2; h <= 4; h++) {
        world_submit(w, 1);
        assert_true(world_run_until_height(w, h, 5 * SECONDS));
    }
    world_crash(w, (unsigned)leader);
    world_submit(w, 1);
    assert_true(world_run_until_height(w, 5, 10 * SECONDS));
    world_start(w, (unsigned)leader);
    assert_true(world_run_until_height(w, 5, 10 * SECONDS));
    if (world_violation(w) != NULL)
        fail_msg("%s", world_violation(w));
    assert_int_equal(world_elections(w), 2);
    world_free(w);
}

/* One flipped bit anywhere in a frame: with real signatures nothing of it is believed. */
static bool flip(struct world *w, void *ctx, const struct world_frame *f)
{
    static uint8_t bytes[65536];
    unsigned *count = ctx;
    if (f->frame.size > sizeof bytes || world_random(w, 2) != 0)
        return true;
    memcpy(bytes, f->frame.data, f->frame.size);
    bytes[2 + world_random(w, f->frame.size - 2)] ^= (uint8_t)(1u << world_random(w, 8));
    world_inject(w, f->from, f->to, span_of(bytes, f->frame.size), 100);
    *count += 1;
    return true;
}

static void flipped_bits_are_not_believed(void **state)
{
    (void)state;
    unsigned count = 0;
    struct world *w = world_new(&(struct world_options){.n = 4, .seed = 2});
    world_set_filter(w, flip, &count);
    for (uint64_t h = 1; h <= 3; h++) {
        world_submit(w, 1);
        assert_true(world_run_until_height(w, h, 10 * SECONDS));
    }
    if (world_violation(w) != NULL)
        fail_msg("%s", world_violation(w));
    assert_true(count > 20);
    world_free(w);
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(four_nodes_commit_and_replace_their_leader),
        cmocka_unit_test(flipped_bits_are_not_believed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
