/* bench/bench_sim.c - how much faster than real time the simulator runs whole networks.
 *
 * Calm networks with the genesis file's default timers, each meter reporting every 15 minutes; the
 * invariants are checked as in every run. One thread. Prints virtual seconds per second of
 * processor time (what a quiet core would do) and of wall time, medians over repeated runs with
 * other seeds. */
#include "crypto/secret.h"
#include "crypto/sm2_group.h"
#include "net/options.h"
#include "sim/run.h"

#include <jansson.h>
#include <stdlib.h>
#include <time.h>

#define PROGRAM         "bench-sim"
#define REPORT_US       (900 * SIM_SECOND)
#define REPETITIONS_MAX 101
#define TARGET          1000.0 /* of the first row, targets.md */

static int64_t repetitions = 11, virtual_s = 600, meters_max = 10000;
static bool as_json;

static const struct option_spec options[] = {
    {.name = "repetitions",
     .letter = 'r',
     .kind = OPTION_INT,
     .value = &repetitions,
     .min = 1,
     .max = REPETITIONS_MAX,
     .argument = "N",
     .help = "runs of each row; a fifth of that from 10,000 meters on (default 11)"},
    {.name = "seconds",
     .letter = 's',
     .kind = OPTION_INT,
     .value = &virtual_s,
     .min = 10,
     .max = 1000000,
     .argument = "N",
     .help = "virtual seconds of each run (default 600)"},
    {.name = "meters",
     .kind = OPTION_INT,
     .value = &meters_max,
     .min = 100,
     .max = 1000000,
     .argument = "N",
     .help = "leaves out rows with more meters (default 10000; the largest row has 100000)"},
    {.name = "json", .kind = OPTION_FLAG, .value = &as_json, .help = "one JSON document"},
    {0}};

static const struct {
    unsigned dcs, meters;
} rows[] = {{4, 100}, {7, 100}, {13, 100}, {31, 100}, {4, 1000}, {4, 10000}, {4, 100000}};

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct row {
    double cpu[REPETITIONS_MAX], wall[REPETITIONS_MAX];
    uint64_t events, reports;
    double virtual_s;
};

/* False: a run broke an invariant. */
static bool measure(struct row *r, unsigned dcs, unsigned meters, int64_t runs)
{
    for (int64_t i = 0; i < runs; i++) {
        struct sim_plan p;
        struct sim_result result;
        sim_plan_calm(&p, (uint64_t)i + 1);
        p.dcs = dcs;
        p.meters = meters;
        p.fleets = meters / 1000 + 1;
        p.report_every_us = REPORT_US;
        p.safety_us = (uint64_t)virtual_s * SIM_SECOND;
        p.liveness_us = 2 * REPORT_US;
        const struct sim_cast_size size = {
            .dcs = p.dcs, .meters = p.meters, .scheme = p.scheme, .gateway = p.gateway};
        (void)sim_cast_get(&size); /* keys are made outside the timed part */
        double wall = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
        sim_run(&result, &p, NULL);
        r->cpu[i] = (double)result.end_us / 1e6 / (seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu);
        r->wall[i] = (double)result.end_us / 1e6 / (seconds(CLOCK_MONOTONIC) - wall);
        r->events += result.count.events;
        r->reports += result.count.reports_acknowledged;
        r->virtual_s += (double)result.end_us / 1e6;
        if (result.violation[0] != 0) {
            fprintf(stderr, "%s: %u DCs, %u meters, seed %lld: %s\n", PROGRAM, dcs, meters,
                    (long long)i + 1, result.violation);
            return false;
        }
    }
    qsort(r->cpu, (size_t)runs, sizeof r->cpu[0], compare);
    qsort(r->wall, (size_t)runs, sizeof r->wall[0], compare);
    return true;
}

static int run(int argc, char **argv, void *ctx)
{
    json_t *list = json_array();
    int status = EXIT_STATUS_OK;
    (void)argc;
    (void)argv;
    (void)ctx;
    if (!as_json)
        printf("%5s %8s %5s | %10s %10s %10s | %10s | %12s %8s\n", "DCs", "meters", "runs",
               "times real", "least", "most", "by wall", "events/s", "reports");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct row r = {.events = 0};
        int64_t runs = rows[i].meters < 10000 ? repetitions : (repetitions + 4) / 5;
        if (rows[i].meters > meters_max)
            continue;
        if (!measure(&r, rows[i].dcs, rows[i].meters, runs)) {
            status = EXIT_STATUS_FAILED;
            continue;
        }
        double cpu_s = r.virtual_s / r.cpu[runs / 2];
        if (!as_json)
            printf("%5u %8u %5lld | %10.0f %10.0f %10.0f | %10.0f | %12.0f %8llu\n", rows[i].dcs,
                   rows[i].meters, (long long)runs, r.cpu[runs / 2], r.cpu[0], r.cpu[runs - 1],
                   r.wall[runs / 2], (double)r.events / cpu_s, (unsigned long long)r.reports);
        fflush(stdout);
        json_array_append_new(
            list, json_pack("{s:i, s:i, s:I, s:f, s:f, s:f, s:f, s:o}", "dcs", (int)rows[i].dcs,
                            "meters", (int)rows[i].meters, "runs", (json_int_t)runs,
                            "times_real_median", r.cpu[runs / 2], "times_real_min", r.cpu[0],
                            "times_real_max", r.cpu[runs - 1], "times_real_wall_median",
                            r.wall[runs / 2], "target", i == 0 ? json_real(TARGET) : json_null()));
    }
    if (!as_json) {
        json_decref(list);
        return status;
    }
    json_t *o = json_pack("{s:s, s:I, s:o}", "path", sm2_path_name(), "virtual_seconds",
                          (json_int_t)virtual_s, "rows", list);
    if (o == NULL || json_dumpf(o, stdout, JSON_INDENT(2)) != 0)
        status = EXIT_STATUS_FAILED;
    putchar('\n');
    json_decref(o);
    return status;
}

int main(int argc, char **argv)
{
    const struct command_spec single = {
        .name = PROGRAM,
        .summary = "how many times real time the simulator runs, by DCs and meters",
        .example = "bench-sim --json",
        .options = options,
        .run = run};
    const struct program_spec program = {
        .name = PROGRAM, .summary = single.summary, .single = &single};
    if (crypto_start() != AMI_OK) {
        fprintf(stderr, "%s: %s\n", PROGRAM, crypto_start_why());
        return EXIT_STATUS_FAILED;
    }
    return program_main(&program, argc, argv, NULL);
}
