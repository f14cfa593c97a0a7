/* bench/bench_sm2.c - bench-sm2: the SM2 group engine and what is built on it, beside OpenSSL.
 *
 * One row for each claim about speed: what it is about is in the families of bench/sm2_rows.h, what
 * it has to reach in the table below. Nothing here fails because it is slow; a wrong result ends
 * the program with status 1.
 */
#include "base/check.h"
#include "bench/report.h"
#include "bench/sm2_rows.h"
#include "crypto/secret.h"
#include "net/options.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#define PROGRAM  "bench-sm2"
#define PATH_ENV "AMI_SM2_PATH"

/* What is asked of one code path; 0: nothing. */
struct aim {
    double target_ns, ratio_floor;
};

/* The targets for the group engine and for key agreement. Where two figures stand for alone and in
 * batches, the batch's is that of 8. Targets of the DC's side are for the IFMA path, those of
 * the meter's for the portable one. */
static const struct goal {
    const char *row;
    struct aim ifma, portable;
} goals[] = {
    {"mul_base_secret", {3500, 80}, {10000, 25}},
    {"mul_base_secret_batch8", {1400, 0}, {0, 0}},
    {"mul_var_secret", {40000, 0}, {60000, 5}},
    {"mul_var_secret_batch8", {10500, 28}, {0, 0}},
    {"sign", {5500, 50}, {0, 25}},
    {"sign_batch8", {1900, 0}, {0, 0}},
    {"verify_known", {3500, 0}, {12000, 20}},
    {"verify_known_batch8", {2400, 120}, {0, 0}},
    {"verify_unknown", {50000, 0}, {0, 0}},
    {"verify_unknown_batch8", {12000, 0}, {0, 0}},
    {"verify_unknown_block512", {4000, 60}, {16000, 0}},
    {"encapsulate", {0, 0}, {0, 0}},
    {"decapsulate_batch8", {0, 0}, {0, 0}},
    {"aka_liu2023_dc", {12000, 0}, {0, 0}},
    {"aka_liu2023_dc_batch8", {5000, 0}, {0, 0}},
    {"aka_sm2kx_dc", {60000, 0}, {0, 0}},
    {"aka_sm2kx_dc_batch8", {16000, 0}, {0, 0}},
    {"aka_liu2023_meter", {0, 0}, {100000, 0}},
    {"aka_sm2kx_meter", {0, 0}, {100000, 0}},
};
#define GOALS (sizeof goals / sizeof goals[0])

static const struct sm2_family *const families[] = {
    &sm2_products, &sm2_signatures,    &sm2_encapsulation, &sm2_liu2023_dc,
    &sm2_sm2kx_dc, &sm2_liu2023_meter, &sm2_sm2kx_meter,
};
#define FAMILIES (sizeof families / sizeof families[0])

static struct options {
    bool json;
    const char *path, *rows;
    int64_t repeat;
} opt = {.repeat = 21};

/* --- which rows ------------------------------------------------------------------------------- */

/* Marks the rows of a comma-separated list, all when there is none. */
static enum ami_status choose_rows(bool chosen[GOALS], const char *list, struct why *why)
{
    for (size_t i = 0; i < GOALS; i++)
        chosen[i] = list == NULL;
    while (list != NULL) {
        size_t size = strcspn(list, ","), i = 0;
        while (i < GOALS &&
               (strlen(goals[i].row) != size || strncmp(goals[i].row, list, size) != 0))
            i++;
        if (i == GOALS)
            return why_set(why, AMI_BAD_ARGUMENT,
                           "there is no row \"%.*s\"; " PROGRAM " --help lists them",
                           (int)(size < 100 ? size : 100), list);
        chosen[i] = true;
        list = list[size] == ',' ? list + size + 1 : NULL;
    }
    return AMI_OK;
}

static const struct sm2_row *find_row(const char *name, size_t *family)
{
    for (size_t f = 0; f < FAMILIES; f++)
        for (const struct sm2_row *row = families[f]->rows; row->name != NULL; row++)
            if (strcmp(row->name, name) == 0) {
                *family = f;
                return row;
            }
    bench_fail("nothing measures the row %s", name);
}

/* --- which code path -------------------------------------------------------------------------- */

static enum ami_status check_path(const char *path, struct why *why)
{
    if (path == NULL || strcmp(path, "portable") == 0 || strcmp(path, "adx") == 0 ||
        strcmp(path, "ifma") == 0)
        return AMI_OK;
    return why_set(why, AMI_BAD_ARGUMENT,
                   "there is no path \"%.100s\": portable, adx and ifma are known", path);
}

/* Starts the library on the path asked for, or on the one that it chooses. */
static void start_library(const char *path)
{
    if (path != NULL && setenv(PATH_ENV, path, 1) != 0)
        bench_fail("out of memory");
    enum ami_status status = crypto_start();
    if (status != AMI_OK && path != NULL)
        bench_fail("the path %s does not run here: %s", path, ami_status_text(status));
    if (status != AMI_OK)
        bench_fail("the cryptographic library does not start: %s", ami_status_text(status));
    if (path != NULL && strcmp(path, sm2_path_name()) != 0)
        bench_fail("the path %s does not run here; the library has taken %s", path,
                   sm2_path_name());
}

static struct aim aim_of(const struct goal *goal)
{
    /* ADX has no figures of its own: it is held to those of the portable path, which it replaces.
     */
    return strcmp(sm2_path_name(), "ifma") == 0 ? goal->ifma : goal->portable;
}

/* --- the run ---------------------------------------------------------------------------------- */

static void run_row(struct bench_report *report, const struct goal *goal, void *made[FAMILIES])
{
    size_t family = 0;
    const struct sm2_row *row = find_row(goal->row, &family);
    if (made[family] == NULL)
        made[family] = families[family]->make();
    struct aim aim = aim_of(goal);
    struct bench_row result = {
        .name = row->name,
        .batch = row->batch,
        .ratio_floor = aim.ratio_floor,
        .target_ns = aim.target_ns,
    };
    const struct bench_side ours = {row->ours, made[family], row->batch, row->pool};
    const struct bench_side theirs = {row->openssl, made[family], 1, OPENSSL_POOL};
    size_t done =
        bench_compare(&result.ours, &result.openssl, &ours, &theirs, (unsigned)opt.repeat);
    row->check(made[family], row, done);
    bench_report_row(report, &result);
}

static int run(int argc, char **argv, void *ctx)
{
    (void)argc;
    (void)argv;
    (void)ctx;
    bool chosen[GOALS];
    void *made[FAMILIES] = {NULL};
    struct bench_report report;
    struct why why;
    enum ami_status status = choose_rows(chosen, opt.rows, &why);
    if (status == AMI_OK)
        status = check_path(opt.path, &why);
    if (status != AMI_OK) {
        program_fail(PROGRAM, false, status, &why);
        return EXIT_STATUS_USAGE;
    }
    start_library(opt.path);
    openssl_start();
    bench_report_begin(&report, opt.json, sm2_path_name(), OpenSSL_version(OPENSSL_VERSION_STRING),
                       (unsigned)opt.repeat);
    for (size_t i = 0; i < GOALS; i++)
        if (chosen[i])
            run_row(&report, &goals[i], made);
    for (size_t f = 0; f < FAMILIES; f++)
        if (made[f] != NULL)
            families[f]->release(made[f]);
    openssl_stop();
    return bench_report_end(&report);
}

/* What the program does, and the names of its rows. */
static const char *summary(void)
{
    static char text[2048];
    size_t at = (size_t)snprintf(
        text, sizeof text,
        "Times the SM2 arithmetic and what is built on it, beside OpenSSL, and checks the "
        "results.\n"
        "Compares with the targets of the code path that runs; slowness is no failure.\n\nRows:");
    for (size_t i = 0; i < GOALS; i++) {
        at += (size_t)snprintf(text + at, sizeof text - at, "\n  %s", goals[i].row);
        AMI_CHECK(at < sizeof text);
    }
    return text;
}

int main(int argc, char **argv)
{
    const struct option_spec options[] = {
        {.name = "json", .kind = OPTION_FLAG, .value = &opt.json, .help = "one JSON document"},
        {.name = "path",
         .kind = OPTION_TEXT,
         .value = &opt.path,
         .argument = "PATH",
         .help = "portable, adx or ifma (default: what the library chooses)"},
        {.name = "rows",
         .kind = OPTION_TEXT,
         .value = &opt.rows,
         .argument = "NAME,NAME...",
         .help = "only these rows (default: all)"},
        {.name = "repeat",
         .kind = OPTION_INT,
         .value = &opt.repeat,
         .min = BENCH_REPETITIONS_MIN,
         .max = BENCH_REPETITIONS_MAX,
         .argument = "N",
         .help = "repetitions of each row, 11 to 1001 (default 21)"},
        {0},
    };
    const struct command_spec command = {
        .name = PROGRAM,
        .summary = summary(),
        .example = PROGRAM "\n" PROGRAM " --json --path portable --rows sign,verify_known_batch8",
        .options = options,
        .run = run,
    };
    const struct program_spec program = {
        .name = PROGRAM,
        .summary = "the SM2 engine beside OpenSSL",
        .single = &command,
    };
    return program_main(&program, argc, argv, NULL);
}
