/* bench/bench_links.c - bench-links: channels between nodes beside TLS of OpenSSL in the same run.
 *
 * Rows as links_rows.h lists them. Nothing here fails because it is slow; a wrong result ends the
 * program with status 1. */
#include "base/check.h"
#include "bench/links_rows.h"
#include "crypto/secret.h"
#include "crypto/sm2_group.h"
#include "net/options.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#define PROGRAM "bench-links"

static struct options {
    bool json;
    const char *rows;
    int64_t repeat;
} opt = {.repeat = 21};

static bool in_list(const char *list, const char *row)
{
    const size_t size = strlen(row);
    for (const char *at = list; at != NULL; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, row, size) == 0 && (at[size] == ',' || at[size] == '\0'))
            return true;
    }
    return false;
}

static bool chosen(const char *row)
{
    return opt.rows == NULL || in_list(opt.rows, row);
}

static bool exists(const char *row, size_t size)
{
    for (int k = 0; k < 2; k++)
        for (const char *const *r = k == 0 ? links_handshake_rows : links_record_rows; *r != NULL;
             r++)
            if (strlen(*r) == size && strncmp(*r, row, size) == 0)
                return true;
    return false;
}

static int run(int argc, char **argv, void *ctx)
{
    struct bench_report report;
    struct why why;
    (void)argc;
    (void)argv;
    (void)ctx;
    for (const char *at = opt.rows; at != NULL; at = *at == ',' ? at + 1 : NULL) {
        size_t size = strcspn(at, ",");
        if (!exists(at, size)) {
            enum ami_status status = why_set(
                &why, AMI_BAD_ARGUMENT, "there is no row \"%.*s\"; " PROGRAM " --help lists them",
                (int)(size < 100 ? size : 100), at);
            program_fail(PROGRAM, false, status, &why);
            return EXIT_STATUS_USAGE;
        }
        at += size;
    }
    if (crypto_start() != AMI_OK)
        bench_fail("%s", crypto_start_why());
    bench_report_begin(&report, opt.json, sm2_path_name(), OpenSSL_version(OPENSSL_VERSION_STRING),
                       (unsigned)opt.repeat);
    const struct links_run links = {&report, (unsigned)opt.repeat, chosen};
    links_handshakes(&links);
    links_records(&links);
    return bench_report_end(&report);
}

static const char *summary(void)
{
    static char text[2048];
    size_t at = (size_t)snprintf(
        text, sizeof text,
        "Times handshakes with each credential and records of each suite, beside TLS 1.2 and HMACs "
        "of OpenSSL,\nand checks the results; slowness is no failure. Handshakes have rows for the "
        "client and the server as well,\nrecords one for each size.\n\nRows:");
    for (int k = 0; k < 2; k++)
        for (const char *const *r = k == 0 ? links_handshake_rows : links_record_rows; *r != NULL;
             r++) {
            at += (size_t)snprintf(text + at, sizeof text - at, "\n  %s", *r);
            AMI_CHECK(at < sizeof text);
        }
    return text;
}

int main(int argc, char **argv)
{
    const struct option_spec options[] = {
        {.name = "json", .kind = OPTION_FLAG, .value = &opt.json, .help = "one JSON document"},
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
        .example = PROGRAM "\n" PROGRAM " --json --rows handshake_implicit_ecdsa,record_gcm",
        .options = options,
        .run = run,
    };
    const struct program_spec program = {
        .name = PROGRAM, .summary = "channels beside OpenSSL's TLS", .single = &command};
    return program_main(&program, argc, argv, NULL);
}
