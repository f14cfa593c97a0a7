/* meter/cmd_proof.c - `ami-meter proof`: one report with the proof that it was recorded.
 *
 * The meter's store holds what it alone knows, salt and m; a DC gives the rest (client/proof.h).
 */
#include "client/proof.h"
#include "meter/calendar.h"
#include "meter/cli.h"
#include "net/file.h"
#include "wire/report.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static int64_t sequence_given, epoch_given, timeout_ms = 10000;
static const char *time_given, *node, *out_file, *credential_file;

static const struct option_spec options[] = {
    CLI_OPTION_GENESIS,
    CLI_OPTION_DIR,
    {.name = "id",
     .kind = OPTION_TEXT,
     .value = &cli_common.id,
     .argument = "ID",
     .help = "the meter",
     .required = true},
    {.name = "sequence",
     .letter = 's',
     .kind = OPTION_INT,
     .value = &sequence_given,
     .min = 1,
     .max = INT64_MAX,
     .argument = "N",
     .help = "number of the report (the last column of `ami-meter export`)"},
    {.name = "epoch",
     .kind = OPTION_INT,
     .value = &epoch_given,
     .min = 1,
     .max = UINT32_MAX,
     .argument = "E",
     .help = "the meter's key epoch (default the newest with that report)"},
    {.name = "time",
     .letter = 't',
     .kind = OPTION_TEXT,
     .value = &time_given,
     .argument = "TIME",
     .help = "instead: a report with the reading that starts then, such as "
             "2013-01-01T00:00:00Z"},
    {.name = "node",
     .letter = 'n',
     .kind = OPTION_TEXT,
     .value = &node,
     .argument = "URL",
     .help = "admin address of a DC (default: those of the members, one after the other)"},
    {.name = "out",
     .letter = 'o',
     .kind = OPTION_TEXT,
     .value = &out_file,
     .argument = "FILE",
     .help = "where to write it (default stdout)"},
    {.name = "credential",
     .kind = OPTION_TEXT,
     .value = &credential_file,
     .argument = "FILE",
     .help = "an operator's credential (default: $AMI_CREDENTIAL)"},
    {.name = "timeout",
     .kind = OPTION_DURATION,
     .value = &timeout_ms,
     .min = 1,
     .max = 3600000,
     .argument = "TIME",
     .help = "how long a DC may take (default 10s)"},
    {0},
};

struct wanted {
    struct ami_id meter;
    uint32_t epoch;
    uint64_t sequence;
    bool by_time;
    int64_t start_s;
    bool found;
    struct reading *scratch;
    struct headers *headers; /* who the members are now, as far as these meters know */
    struct report_submit record;
    uint8_t bytes[METER_RECORD_BYTES_MAX]; /* that the record points into */
};

static bool has_reading_at(const struct wanted *w, const struct report_submit *record)
{
    enum report_kind kind;
    size_t count;
    if (report_decode(&kind, w->scratch, &count, record->report) != AMI_OK)
        return false;
    for (size_t i = 0; i < count; i++)
        if (w->scratch[i].start_s == w->start_s)
            return true;
    return false;
}

static bool look(void *ctx, const struct meter_stored_report *report)
{
    struct wanted *w = ctx;
    struct report_submit record;
    if (report->record.size > sizeof w->bytes ||
        report_submit_parse(&record, report->record) != AMI_OK)
        return true;
    if (w->by_time ? !has_reading_at(w, &record) : report->sequence != w->sequence)
        return true;
    if (epoch_given != 0 && report->epoch != (uint32_t)epoch_given)
        return true;
    memcpy(w->bytes, report->record.data, report->record.size);
    if (report_submit_parse(&w->record, span_of(w->bytes, report->record.size)) != AMI_OK)
        return true;
    w->epoch = report->epoch;
    w->sequence = report->sequence;
    w->found = true;
    return !w->by_time; /* a later key epoch may have that number too */
}

static enum ami_status find(struct wanted *w, const struct genesis *g, struct why *why)
{
    struct meter_store *store;
    AMI_TRY(cli_id(&w->meter, cli_common.id, why));
    if ((sequence_given != 0) == (time_given != NULL))
        return why_set(why, AMI_BAD_ARGUMENT, "give either --sequence or --time");
    w->sequence = (uint64_t)sequence_given;
    w->by_time = time_given != NULL;
    if (w->by_time && calendar_parse_iso(&w->start_s, time_given, strlen(time_given)) != AMI_OK)
        return why_set(why, AMI_BAD_ARGUMENT,
                       "--time %.60s: expected a time such as 2013-01-01T00:00:00Z", time_given);
    w->scratch = calloc(AMI_REPORT_READINGS_MAX, sizeof *w->scratch);
    w->headers = calloc(1, sizeof *w->headers);
    if (w->scratch == NULL || w->headers == NULL)
        return AMI_NO_MEMORY;
    headers_init(w->headers, g);
    AMI_TRY(cli_store(&store, METER_STORE_READ, g, why));
    enum ami_status status = meter_store_each_report(
        store, 1u << METER_OUTBOX | 1u << METER_ARCHIVE, &w->meter, look, w);
    if (status == AMI_OK)
        status = meter_store_committees(store, w->headers);
    meter_store_close(store);
    if (status != AMI_OK)
        return why_set(why, status, "%s: %s", cli_common.dir, ami_status_text(status));
    if (!w->found)
        return why_set(why, AMI_NOT_FOUND,
                       "%s holds no such report of meter %s; `ami-meter export --dir %s --id %s` "
                       "shows which there are",
                       cli_common.dir, w->meter.text, cli_common.dir, w->meter.text);
    return AMI_OK;
}

static enum ami_status make(struct wanted *w, struct genesis **g, char **text, struct why *why)
{
    AMI_TRY(cli_genesis(g, why));
    AMI_TRY(find(w, *g, why));
    const struct proof_wanted wanted = {w->meter, w->epoch, w->sequence, w->record.salt,
                                        w->record.report};
    const struct proof_source from = {headers_committee(w->headers), node, credential_file,
                                      (uint32_t)timeout_ms, PROGRAM};
    return proof_fetch(text, &wanted, *g, &from, why);
}

static int run(int argc, char **argv, void *ctx)
{
    (void)argc;
    (void)argv;
    (void)ctx;
    struct why why = {{0}};
    struct genesis *g = NULL;
    char *text = NULL;
    struct wanted *w = calloc(1, sizeof *w);
    enum ami_status status = w == NULL ? AMI_NO_MEMORY : make(w, &g, &text, &why);
    if (status == AMI_OK && out_file != NULL) {
        status = file_write(out_file, span_of(text, strlen(text)), FILE_MODE_PUBLIC, &why);
        if (status == AMI_OK)
            printf("the proof of report %" PRIu64 " of %s was checked and written to %s\n",
                   w->sequence, w->meter.text, out_file);
    } else if (status == AMI_OK) {
        fputs(text, stdout);
    }
    if (status == AMI_OK)
        status = cli_stdout_done(&why);
    free(text);
    free(g);
    if (w != NULL) {
        free(w->scratch);
        free(w->headers);
    }
    free(w);
    return status == AMI_OK ? EXIT_STATUS_OK : cli_fail(status, &why);
}

const struct command_spec COMMAND_PROOF = {
    .name = "proof",
    .summary = "one report with the proof that it was recorded, for its consumer",
    .example = "ami-meter proof --genesis genesis.json --dir fleet --id meter-17 --sequence 3 "
               "--out reading.json",
    .options = options,
    .run = run,
};
