/* tests/consensus/sound.h - what tests of a world of replicas begin and end with. */
#ifndef AMI_TESTS_CONSENSUS_SOUND_H
#define AMI_TESTS_CONSENSUS_SOUND_H

#include "tests/harness.h"

#include "tests/consensus/world.h"

#define assert_sound(w)                                                                            \
    do {                                                                                           \
        if (world_violation(w) != NULL)                                                            \
            fail_msg("%s", world_violation(w));                                                    \
    } while (0)

static inline int new_leader(struct world *w)
{
    int leader = world_run_until_leader(w, 20 * SECONDS);
    assert_sound(w);
    assert_true(leader >= 0);
    return leader;
}

/* A world that has elected a leader and committed one block. */
static inline struct world *running(struct world_options o, int *leader)
{
    struct world *w = world_new(&o);
    world_submit(w, 1);
    *leader = new_leader(w);
    assert_true(world_run_until_height(w, 1, 5 * SECONDS));
    assert_sound(w);
    return w;
}

#endif
