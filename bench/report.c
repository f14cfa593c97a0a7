#include "bench/report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#define MACHINE_BYTES 128

/* The processor's name, or where /proc/cpuinfo has none the architecture's. */
static void machine_name(char out[MACHINE_BYTES])
{
    char line[256];
    struct utsname system;
    FILE *f = fopen("/proc/cpuinfo", "re");
    out[0] = 0;
    while (f != NULL && out[0] == 0 && fgets(line, sizeof line, f) != NULL) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && colon != NULL) {
            const char *name = colon + 1 + strspn(colon + 1, " \t");
            snprintf(out, MACHINE_BYTES, "%.*s", (int)strcspn(name, "\n"), name);
        }
    }
    if (f != NULL)
        fclose(f);
    if (out[0] == 0 && uname(&system) == 0)
        snprintf(out, MACHINE_BYTES, "%s", system.machine);
}

static double ratio_of(const struct bench_row *row)
{
    return row->openssl.median_ns / row->ours.median_ns;
}

static json_t *checked(json_t *j)
{
    if (j == NULL)
        bench_fail("out of memory");
    return j;
}

/* A tenth of a nanosecond, a hundredth of a ratio: more digits would only be noise. */
static json_t *json_tenths(double v)
{
    return checked(json_real(round(v * 10) / 10));
}

static json_t *row_json(const struct bench_row *row)
{
    return checked(json_pack(
        "{s:s, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:f, s:o, s:o, s:o}", "name", row->name, "batch",
        (json_int_t)row->batch, "median_ns", json_tenths(row->ours.median_ns), "min_ns",
        json_tenths(row->ours.min_ns), "max_ns", json_tenths(row->ours.max_ns), "openssl_median_ns",
        json_tenths(row->openssl.median_ns), "openssl_min_ns", json_tenths(row->openssl.min_ns),
        "openssl_max_ns", json_tenths(row->openssl.max_ns), "ratio",
        round(ratio_of(row) * 100) / 100, "ratio_floor",
        row->ratio_floor > 0 ? json_tenths(row->ratio_floor) : json_null(), "target_ns",
        row->target_ns > 0 ? json_tenths(row->target_ns) : json_null(), "target_met",
        row->target_ns > 0 ? json_boolean(row->ours.median_ns <= row->target_ns) : json_null()));
}

static void print_head(const char *machine, const char *path, const char *openssl,
                       unsigned repetitions)
{
    printf("machine      %s\n"
           "path         %s\n"
           "OpenSSL      %s\n"
           "repetitions  %u of each side in turn, each of about %d ms or more\n"
           "\n"
           "Microseconds for one operation; ratio is OpenSSL's median over ours.\n"
           "\n",
           machine, path, openssl, repetitions, BENCH_REPETITION_NS / 1000000);
    printf("%-24s %9s %9s %9s %11s %8s %6s %3s %9s %3s\n", "", "median us", "min us", "max us",
           "OpenSSL us", "ratio", "floor", "met", "target us", "met");
    fflush(stdout);
}

/* "80 yes", "80 no", or dashes where nothing is asked for. */
static void print_goal(int width, int digits, double goal, bool met)
{
    if (goal > 0)
        printf(" %*.*f %3s", width, digits, goal, met ? "yes" : "no");
    else
        printf(" %*s %3s", width, "-", "-");
}

static void print_row(const struct bench_row *row)
{
    printf("%-24s %9.2f %9.2f %9.2f %11.2f %8.1f", row->name, row->ours.median_ns / 1000,
           row->ours.min_ns / 1000, row->ours.max_ns / 1000, row->openssl.median_ns / 1000,
           ratio_of(row));
    print_goal(6, 0, row->ratio_floor, ratio_of(row) >= row->ratio_floor);
    print_goal(9, 1, row->target_ns / 1000, row->ours.median_ns <= row->target_ns);
    putchar('\n');
    fflush(stdout);
}

void bench_report_begin(struct bench_report *r, bool as_json, const char *path, const char *openssl,
                        unsigned repetitions)
{
    char machine[MACHINE_BYTES];
    machine_name(machine);
    *r = (struct bench_report){.as_json = as_json};
    if (!as_json) {
        print_head(machine, path, openssl, repetitions);
        return;
    }
    r->document =
        checked(json_pack("{s:s, s:s, s:s, s:I, s:[]}", "machine", machine, "path", path, "openssl",
                          openssl, "repetitions", (json_int_t)repetitions, "rows"));
}

void bench_report_row(struct bench_report *r, const struct bench_row *row)
{
    if (!r->as_json)
        print_row(row);
    else if (json_array_append_new(json_object_get(r->document, "rows"), row_json(row)) != 0)
        bench_fail("out of memory");
}

int bench_report_end(struct bench_report *r)
{
    bool good = true;
    if (r->as_json) {
        good = json_dumpf(r->document, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(12)) == 0;
        putchar('\n');
        json_decref(r->document);
    }
    if (fflush(stdout) != 0 || ferror(stdout) || !good)
        bench_fail("the report could not be written");
    return 0;
}
