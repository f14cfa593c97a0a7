#include "bench/timing.h"

#include "base/check.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static uint64_t now_ns(void)
{
    struct timespec t;
    AMI_CHECK(clock_gettime(CLOCK_MONOTONIC, &t) == 0);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t time_of(const struct bench_side *s, size_t first, size_t count)
{
    uint64_t start = now_ns();
    s->work(s->with, first, count, s->batch);
    return now_ns() - start;
}

/* Operations in one repetition. Finding out warms caches and clocks up as well. */
static size_t repetition_size(const struct bench_side *s)
{
    AMI_CHECK(s->batch > 0 && s->pool >= s->batch && s->pool % s->batch == 0);
    size_t count = s->batch;
    while (time_of(s, 0, count) < BENCH_REPETITION_NS && count < s->pool)
        count = 2 * count < s->pool ? 2 * count : s->pool;
    return count;
}

/* Where a side stands in its pool: each repetition takes the next stretch. */
struct turn {
    const struct bench_side *side;
    size_t count, next, done;
};

static double take_turn(struct turn *t)
{
    if (t->next + t->count > t->side->pool)
        t->next = 0;
    uint64_t ns = time_of(t->side, t->next, t->count);
    t->next += t->count;
    if (t->done < t->next)
        t->done = t->next;
    return (double)ns / (double)t->count;
}

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts the samples. */
static struct bench_stats stats_of(double *ns, size_t count)
{
    AMI_CHECK(count > 0);
    qsort(ns, count, sizeof ns[0], compare_double);
    return (struct bench_stats){
        .median_ns = (ns[(count - 1) / 2] + ns[count / 2]) / 2,
        .min_ns = ns[0],
        .max_ns = ns[count - 1],
    };
}

size_t bench_compare(struct bench_stats *ours_out, struct bench_stats *theirs_out,
                     const struct bench_side *ours, const struct bench_side *theirs,
                     unsigned repetitions)
{
    double ours_ns[BENCH_REPETITIONS_MAX], theirs_ns[BENCH_REPETITIONS_MAX];
    AMI_CHECK(repetitions >= BENCH_REPETITIONS_MIN && repetitions <= BENCH_REPETITIONS_MAX);
    struct turn us = {.side = ours, .count = repetition_size(ours)};
    struct turn them = {.side = theirs, .count = repetition_size(theirs)};
    for (unsigned i = 0; i < repetitions; i++) {
        ours_ns[i] = take_turn(&us);
        theirs_ns[i] = take_turn(&them);
    }
    *ours_out = stats_of(ours_ns, repetitions);
    *theirs_out = stats_of(theirs_ns, repetitions);
    return us.done;
}

void bench_fail(const char *format, ...)
{
    va_list args;
    fprintf(stderr, "%s: ", program_invocation_short_name);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

void *bench_new(size_t size)
{
    void *out = calloc(1, size);
    if (out == NULL)
        bench_fail("out of memory");
    return out;
}
