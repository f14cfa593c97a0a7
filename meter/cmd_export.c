/* meter/cmd_export.c - `ami-meter export`: what the meters measured, acknowledged or not.
 *
 * The same rows in the same order and form as `ami-mdms export`, so that the two can be compared.
 */
#include "meter/calendar.h"
#include "meter/cli.h"
#include "wire/report.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *format_text = "csv";
static bool only_unsettled;

static const struct option_spec options[] = {
    CLI_OPTION_DIR,
    {.name = "format",
     .letter = 'f',
     .kind = OPTION_TEXT,
     .value = &format_text,
     .argument = "FORMAT",
     .help = "csv (default) or jsonl"},
    {.name = "id",
     .kind = OPTION_TEXT,
     .value = &cli_common.id,
     .argument = "ID",
     .help = "one meter (default all)"},
    {.name = "unacknowledged",
     .kind = OPTION_FLAG,
     .value = &only_unsettled,
     .help = "only what is still in the outbox"},
    {0},
};

struct walk {
    bool json, one;
    struct ami_id id;
    struct reading *scratch;
    enum ami_status status;
};

static void put_quality(unsigned quality, const char *between, const char *quote)
{
    static const char *const names[] = {"missing", "repeated", "text", "off_raster", "estimated"};
    bool any = false;
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        if ((quality >> i & 1u) == 0)
            continue;
        printf("%s%s%s%s", any ? between : "", quote, names[i], quote);
        any = true;
    }
}

/* No text here needs quoting: names, numbers and fixed words. */
static void put_row(const struct walk *w, const struct meter_stored_report *report,
                    const struct reading *r)
{
    char time[CALENDAR_TEXT_BYTES], obis[32], value[REPORT_VALUE_TEXT_BYTES_MAX + 1];
    calendar_text(time, r->start_s);
    obis_text(obis, r->obis);
    reading_value_text(value, r);
    if (!w->json) {
        printf("%s,%s,%" PRIu32 ",%s,%s,%s,", report->name.text, time, r->interval_s, obis,
               unit_name(r->unit), value);
        put_quality(r->quality, "+", "");
        printf(",%" PRIu64 "\n", report->sequence);
        return;
    }
    printf("{\"id\":\"%s\",\"time\":\"%s\",\"interval_s\":%" PRIu32
           ",\"obis\":\"%s\",\"unit\":\"%s\",\"value\":",
           report->name.text, time, r->interval_s, obis, unit_name(r->unit));
    if ((r->quality & QUALITY_MISSING) != 0)
        fputs("null", stdout);
    else
        printf("\"%s\"", value);
    fputs(",\"quality\":[", stdout);
    put_quality(r->quality, ",", "\"");
    printf("],\"sequence\":%" PRIu64 "}\n", report->sequence);
}

static bool each(void *ctx, const struct meter_stored_report *report)
{
    struct walk *w = ctx;
    struct report_submit record;
    enum report_kind kind;
    size_t count;
    w->status = report_submit_parse(&record, report->record);
    if (w->status == AMI_OK)
        w->status = report_decode(&kind, w->scratch, &count, record.report);
    if (w->status != AMI_OK) {
        w->status = AMI_DAMAGED;
        return false;
    }
    for (size_t i = 0; i < count; i++)
        put_row(w, report, &w->scratch[i]);
    return ferror(stdout) == 0;
}

static enum ami_status export_all(struct walk *w, struct why *why)
{
    struct meter_store *store;
    if (strcmp(format_text, "csv") != 0 && strcmp(format_text, "jsonl") != 0)
        return why_set(why, AMI_BAD_ARGUMENT, "--format %s: it is csv or jsonl", format_text);
    w->json = format_text[0] == 'j';
    if (cli_common.id != NULL) {
        w->one = true;
        AMI_TRY(cli_id(&w->id, cli_common.id, why));
    }
    AMI_TRY(cli_store(&store, METER_STORE_READ, NULL, why));
    uint8_t keys[KEYFILE_BYTES_MAX];
    size_t size;
    enum ami_status status = AMI_OK;
    if (w->one)
        status = meter_store_keys(store, &w->id, keys, sizeof keys, &size);
    if (status == AMI_NOT_FOUND)
        why_set(why, status, "meter %s is not enrolled in %s", w->id.text, cli_common.dir);
    if (status == AMI_OK) {
        if (!w->json)
            puts("id,time,interval_s,obis,unit,value,quality,sequence");
        unsigned boxes = 1u << METER_OUTBOX | (only_unsettled ? 0 : 1u << METER_ARCHIVE);
        status = meter_store_each_report(store, boxes, w->one ? &w->id : NULL, each, w);
        if (status == AMI_OK)
            status = w->status;
        if (status != AMI_OK)
            why_set(why, status, "%s: a stored report cannot be read: %s", cli_common.dir,
                    ami_status_text(status));
    }
    secret_wipe(keys, sizeof keys);
    meter_store_close(store);
    return status == AMI_OK ? cli_stdout_done(why) : status;
}

static int run(int argc, char **argv, void *ctx)
{
    (void)argc;
    (void)argv;
    (void)ctx;
    struct why why = {{0}};
    struct walk w = {.scratch = calloc(AMI_REPORT_READINGS_MAX, sizeof(struct reading))};
    enum ami_status status = w.scratch == NULL ? AMI_NO_MEMORY : export_all(&w, &why);
    free(w.scratch);
    return status == AMI_OK ? EXIT_STATUS_OK : cli_fail(status, &why);
}

const struct command_spec COMMAND_EXPORT = {
    .name = "export",
    .summary = "what the meters of a directory measured, acknowledged or not",
    .example = "ami-meter export --dir fleet --format csv >measured.csv",
    .options = options,
    .run = run,
};
