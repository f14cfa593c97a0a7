/* sim/lab/attack_replay.c - what was sent once is sent again. Each flight of an agreement; messages
 * inside a session are in attack_session.c, what stands on the ledger in attack_ledger.c. */
#include "sim/lab/attack.h"

#include <string.h>

/* The meter's flights of an earlier run, to the same DC. */
static bool replay_to_dc(struct attack_context *c)
{
    const bool meter_begins = c->which != 0;
    struct arena *a = arena_new(c->scheme, c->seed);
    struct arena_run past, now;
    arena_agree(a, &past, 0, 0);
    arena_start(a, &now, 0, 0);
    if (c->control) {
        memcpy(now.dc_random, past.dc_random, sizeof now.dc_random);
        if (meter_begins) {
            memcpy(now.meter_random, past.meter_random, sizeof now.meter_random);
            arena_start_again(a, &now);
        }
    }
    arena_answer(a, &now, meter_begins ? &now.f1 : &past.f1, &a->peer[0]);
    enum ami_status status = now.answer.status == AMI_OK
                                 ? agree_confirm(&now.answer.pending, past.f3.flight)
                                 : now.answer.status;
    bool broken =
        attack_says(c, status == AMI_OK, "the DC's check of the recorded third flight %s...: %s",
                    attack_hex(past.f3.flight.data, 8), ami_status_name(status));
    arena_free(a);
    return broken;
}

static bool replay_flight2(struct attack_context *c)
{
    struct arena *a = arena_new(c->scheme, c->seed);
    struct arena_run past, now;
    arena_agree(a, &past, 0, 0);
    arena_start(a, &now, 0, 0);
    if (c->control) {
        memcpy(now.meter_random, past.meter_random, sizeof now.meter_random);
        arena_start_again(a, &now);
    }
    enum ami_status status = arena_meter(a, &now, &past.f2);
    bool broken = attack_says(c, status == AMI_OK,
                              "the meter's check of the recorded second flight %s...: %s",
                              attack_hex(past.f2.flight.data, 8), ami_status_name(status));
    arena_free(a);
    return broken;
}

const struct attack attacks_replay[] = {
    {.name = "replay-flight-1",
     .row = ROW_REPLAY,
     .knows = "all flights of one earlier run",
     .goal = "the DC confirms a session for the first and third flight of that run, sent again",
     .protection = "the DC draws a fresh ephemeral value (in the control it draws the old one)",
     .run = replay_to_dc,
     .which = false},
    {.name = "replay-flight-2",
     .row = ROW_REPLAY,
     .knows = "all flights of one earlier run",
     .goal = "the meter takes the second flight of that run for the answer to a new first one",
     .protection = "the meter draws a fresh ephemeral value (in the control it draws the old one)",
     .run = replay_flight2},
    {.name = "replay-flight-3",
     .row = ROW_REPLAY,
     .knows = "all flights of one earlier run",
     .goal = "the DC takes the third flight of that run for the confirmation of a new run",
     .protection = "both sides draw fresh ephemeral values (in the control the old ones)",
     .run = replay_to_dc,
     .which = true},
    {0}};
