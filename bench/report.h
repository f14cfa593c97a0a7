/* bench/report.h - what a benchmark prints: a table for people or one JSON document for tools.
 *
 *   {machine, path, openssl, repetitions,
 *    rows: [{name, batch, median_ns, min_ns, max_ns, openssl_median_ns, openssl_min_ns,
 *            openssl_max_ns, ratio, ratio_floor, target_ns, target_met}]}
 *
 * `ratio` is OpenSSL's median over ours: how many times faster we are. A target or a floor that
 * there is not is null. The table's rows appear as they are measured.
 */
#ifndef AMI_BENCH_REPORT_H
#define AMI_BENCH_REPORT_H

#include "bench/timing.h"

#include <jansson.h>
#include <stdbool.h>

struct bench_row {
    const char *name;
    size_t batch; /* operations in one call; times are of one operation */
    struct bench_stats ours, openssl;
    double ratio_floor; /* 0: none */
    double target_ns;   /* 0: none */
};

struct bench_report {
    bool as_json;
    json_t *document;
};

/* `path`: the code path that runs. `openssl`: its version. */
void bench_report_begin(struct bench_report *r, bool as_json, const char *path, const char *openssl,
                        unsigned repetitions);
void bench_report_row(struct bench_report *r, const struct bench_row *row);
/* Writes the rest. Returns the exit status: 1, with a sentence, when not all could be written. */
int bench_report_end(struct bench_report *r);

#endif
