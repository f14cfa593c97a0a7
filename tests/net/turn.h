/* tests/net/turn.h - a test's loop turned until something is so. */
#ifndef AMI_TESTS_NET_TURN_H
#define AMI_TESTS_NET_TURN_H

#include "net/loop.h"
#include "tests/harness.h"

#define WAIT_US 20000000u

/* Turns `loop` until `condition`, which is evaluated again each time. */
#define turn_until(condition)                                                                      \
    do {                                                                                           \
        uint64_t turn_end_us = clock_mono_us() + WAIT_US;                                          \
        while (!(condition)) {                                                                     \
            loop_step(loop, 5000);                                                                 \
            if (clock_mono_us() > turn_end_us)                                                     \
                fail_msg("waited in vain for %s", #condition);                                     \
        }                                                                                          \
    } while (0)

#endif
