/* bench/timing.h - how long an operation takes, beside somebody else's in the same minute.
 *
 * A side is a prepared pool of operations, all different, and a function that does a stretch of
 * them. bench_compare finds how many make a repetition long enough to be timed, then lets the two
 * sides take turns, so that a machine that grows slow or busy does so for both. All times are of
 * the monotonic clock, in nanoseconds for one operation: a batch's time divided by its size.
 */
#ifndef AMI_BENCH_TIMING_H
#define AMI_BENCH_TIMING_H

#include <stddef.h>
#include <stdint.h>

/* Fewer say little about a median. */
#define BENCH_REPETITIONS_MIN 11
#define BENCH_REPETITIONS_MAX 1001

/* What a repetition lasts at least, unless the pool is too small for it. */
#define BENCH_REPETITION_NS 2000000

/* Does operations [first, first + count) of a pool in calls of `batch` operations each. */
typedef void bench_work(void *with, size_t first, size_t count, size_t batch);

struct bench_side {
    bench_work *work;
    void *with;
    size_t batch; /* operations in one call */
    size_t pool;  /* operations prepared; a multiple of batch */
};

struct bench_stats {
    double median_ns, min_ns, max_ns;
};

/* Returns how many operations of our pool have been done, from the first on: their results are
 * there to be checked. */
size_t bench_compare(struct bench_stats *ours_out, struct bench_stats *theirs_out,
                     const struct bench_side *ours, const struct bench_side *theirs,
                     unsigned repetitions);

/* Prints "PROGRAM: SENTENCE" to standard error and exits with 1: a check failed, or the machine
 * lacks what the benchmark needs. */
_Noreturn void bench_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Zeroed memory; ends the program when there is none. */
void *bench_new(size_t size);

#endif
