/* net/loop.h - the one event loop of a process. The thread that runs it owns all state.
 *
 * In: tasks posted from any thread (nng's callbacks, pool threads and the storage thread do nothing
 * but post), alarms that come due, SIGINT and SIGTERM. Out: calls of the given functions, one after
 * the other, in the loop's thread. So nothing else is shared and nothing else is locked.
 *
 * Tasks and alarms are memory of their owner: posting never allocates and cannot fail.
 *
 * Caveats. Signal handlers are a property of the process: one loop at a time may catch signals.
 * Functions marked (any thread) may be called from anywhere, all others only from the thread that
 * runs the loop, or before it runs.
 */
#ifndef AMI_NET_LOOP_H
#define AMI_NET_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct loop;

/* A function to be called once in the loop's thread. Zero it, set run and arg, post it. */
struct loop_task {
    void (*run)(void *arg);
    void *arg;
    /* The loop's own. */
    struct loop_task *next;
    bool queued;
};

/* A function to be called at an instant. Zero it, set fire and arg, then loop_alarm_set. */
struct loop_alarm {
    void (*fire)(void *arg);
    void *arg;
    /* The loop's own. */
    struct loop_alarm *next;
    uint64_t at_us;
    bool armed;
};

/* NULL when the system has no memory or no descriptor left. */
struct loop *loop_new(void);

/* Forgets queued tasks and armed alarms without calling them. NULL is allowed. */
void loop_free(struct loop *loop);

/* Queues `task` (any thread). A task that is queued already stays queued once: it runs at least
 * once after this call begins, so it may stand for "look at what I own". It may post itself again
 * from within run. Tasks posted by one thread run in the order of posting. */
void loop_post(struct loop *loop, struct loop_task *task);

/* Takes a queued task back. Its memory may be given up afterwards, provided nobody posts it again.
 */
void loop_cancel(struct loop *loop, struct loop_task *task);

/* Arms, or moves, an alarm: fire is called once at or soon after at_us of clock_mono_us;
 * UINT64_MAX disarms. Meant for tens of alarms in a process (they are searched, not sorted). */
void loop_alarm_set(struct loop *loop, struct loop_alarm *alarm, uint64_t at_us);

/* Catches SIGINT and SIGTERM and ignores SIGPIPE: the first signal calls on_signal(arg) in the
 * loop's thread (loop_stop when on_signal is NULL), the second ends the process at once with 128 +
 * signal, whatever the loop is doing. Call it before other threads start and before long work at
 * start. loop_free gives the signals back. False when the system refuses. */
bool loop_catch_signals(struct loop *loop, void (*on_signal)(void *arg), void *arg);

/* The signal caught first, 0 when none was. (any thread) */
int loop_signal_caught(const struct loop *loop);

/* Runs until loop_stop. */
void loop_run(struct loop *loop);

/* Makes loop_run return after the task or alarm that is running now (any thread). */
void loop_stop(struct loop *loop);

/* One round: waits at most `wait_us` for something to do, does what is due, and returns true when
 * it did something. For tests and for tools that wait for a condition. */
bool loop_step(struct loop *loop, uint64_t wait_us);

/* Microseconds of CLOCK_MONOTONIC (any thread). */
uint64_t clock_mono_us(void);

/* Milliseconds since 1970 UTC (any thread). */
int64_t clock_wall_ms(void);

#endif
