/* mdms/cmd_readings.c - `ami-mdms readings`, `export` and `status`: what the ledger told.
 *
 * Rows come in order of meter, key epoch, sequence, place in the report; one at a time out of the
 * store, so an export needs no memory for what it exports.
 */
#include "base/check.h"
#include "mdms/cli.h"
#include "net/file.h"
#include "wire/report.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct common_options common;
static const char *id_text, *from_text, *to_text, *format_text = "csv", *out_file;

static const struct option_spec readings_options[] = {
    CLI_OPTION_DIR,
    {.name = "id",
     .kind = OPTION_TEXT,
     .value = &id_text,
     .argument = "ID",
     .help = "one meter (default all)"},
    {.name = "from",
     .kind = OPTION_TEXT,
     .value = &from_text,
     .argument = "TIME",
     .help = "readings that start at or after, such as 2013-01-01T00:00:00Z"},
    {.name = "to",
     .kind = OPTION_TEXT,
     .value = &to_text,
     .argument = "TIME",
     .help = "readings that start before"},
    CLI_OPTION_JSON,
    {0},
};

static const struct option_spec export_options[] = {
    CLI_OPTION_DIR,
    {.name = "format",
     .letter = 'f',
     .kind = OPTION_TEXT,
     .value = &format_text,
     .argument = "FORMAT",
     .help = "csv (default) or jsonl"},
    {.name = "out",
     .letter = 'o',
     .kind = OPTION_TEXT,
     .value = &out_file,
     .argument = "FILE",
     .help = "where to write it (default stdout); replaces it when complete"},
    {.name = "id",
     .kind = OPTION_TEXT,
     .value = &id_text,
     .argument = "ID",
     .help = "one meter (default all)"},
    {.name = "from",
     .kind = OPTION_TEXT,
     .value = &from_text,
     .argument = "TIME",
     .help = "readings that start at or after"},
    {.name = "to",
     .kind = OPTION_TEXT,
     .value = &to_text,
     .argument = "TIME",
     .help = "readings that start before"},
    {0},
};

static const struct option_spec status_options[] = {
    CLI_OPTION_DIR,
    CLI_OPTION_JSON,
    {0},
};

/* --- rows ------------------------------------------------------------------------------------- */

struct row {
    const struct ami_id *id;
    uint64_t sequence;
    const struct reading *reading;
    char time[CLI_TIME_BYTES];
    char obis[32];
    char value[REPORT_VALUE_TEXT_BYTES_MAX + 1];
    const char *unit;
};

struct walk {
    bool one;
    struct ami_id id;
    int64_t from_s, to_s;
    void (*put)(struct walk *w, const struct row *row);
    FILE *out;
    uint64_t rows, bad_reports;
    enum ami_status status;
    struct reading *scratch;
};

static const char *const QUALITIES[] = {"missing", "repeated", "text", "off_raster", "estimated"};

static void put_qualities(FILE *out, unsigned quality, const char *between, const char *quote)
{
    bool any = false;
    for (unsigned i = 0; i < sizeof QUALITIES / sizeof QUALITIES[0]; i++) {
        if ((quality & 1u << i) == 0)
            continue;
        fprintf(out, "%s%s%s%s", any ? between : "", quote, QUALITIES[i], quote);
        any = true;
    }
}

/* Quoted only where it must be (RFC 4180). */
static void put_csv_text(FILE *out, const char *text)
{
    if (strpbrk(text, ",\"\r\n") == NULL) {
        fputs(text, out);
        return;
    }
    fputc('"', out);
    for (; *text != '\0'; text++) {
        if (*text == '"')
            fputc('"', out);
        fputc(*text, out);
    }
    fputc('"', out);
}

static void put_json_text(FILE *out, const char *text)
{
    fputc('"', out);
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            fprintf(out, "\\%c", c);
        else if (c < 0x20 || c > 0x7e)
            fprintf(out, "\\u%04x", c);
        else
            fputc(c, out);
    }
    fputc('"', out);
}

static void put_csv(struct walk *w, const struct row *row)
{
    fprintf(w->out, "%s,%s,%" PRIu32 ",%s,%s,", row->id->text, row->time, row->reading->interval_s,
            row->obis, row->unit);
    put_csv_text(w->out, row->value);
    fputc(',', w->out);
    put_qualities(w->out, row->reading->quality, "+", "");
    fprintf(w->out, ",%" PRIu64 "\n", row->sequence);
}

static void put_json(struct walk *w, const struct row *row)
{
    fprintf(w->out,
            "{\"id\":\"%s\",\"time\":\"%s\",\"interval_s\":%" PRIu32
            ",\"obis\":\"%s\",\"unit\":\"%s\",\"value\":",
            row->id->text, row->time, row->reading->interval_s, row->obis, row->unit);
    if ((row->reading->quality & QUALITY_MISSING) != 0)
        fputs("null", w->out);
    else
        put_json_text(w->out, row->value);
    fputs(",\"quality\":[", w->out);
    put_qualities(w->out, row->reading->quality, ",", "\"");
    fprintf(w->out, "],\"sequence\":%" PRIu64 "}", row->sequence);
}

static void put_json_line(struct walk *w, const struct row *row)
{
    put_json(w, row);
    fputc('\n', w->out);
}

static void put_json_item(struct walk *w, const struct row *row)
{
    fputs(w->rows == 0 ? "\n" : ",\n", w->out);
    put_json(w, row);
}

static void put_table(struct walk *w, const struct row *row)
{
    if (w->rows == 0)
        fprintf(w->out, "%-20s %-20s %14s %-6s %10s %-14s %10s  %s\n", "METER", "START (UTC)",
                "VALUE", "UNIT", "INTERVAL s", "REGISTER", "SEQUENCE", "QUALITY");
    fprintf(w->out, "%-20s %-20s %14s %-6s %10" PRIu32 " %-14s %10" PRIu64 "  ", row->id->text,
            row->time, (row->reading->quality & QUALITY_MISSING) != 0 ? "-" : row->value, row->unit,
            row->reading->interval_s, row->obis, row->sequence);
    put_qualities(w->out, row->reading->quality, "+", "");
    fputc('\n', w->out);
}

static void put_reading(struct walk *w, const struct ami_id *id, uint64_t sequence,
                        const struct reading *r)
{
    if (r->start_s < w->from_s || r->start_s >= w->to_s)
        return;
    struct row row = {.id = id, .sequence = sequence, .reading = r};
    cli_time_text(row.time, r->start_s);
    obis_text(row.obis, r->obis);
    reading_value_text(row.value, r);
    row.unit = unit_name(r->unit);
    w->put(w, &row);
    w->rows++;
}

static bool each_report(void *ctx, struct span key, struct span value)
{
    struct walk *w = ctx;
    struct ami_id id;
    uint32_t epoch;
    uint64_t sequence;
    struct report_record record;
    enum report_kind kind;
    size_t count;
    w->status = key_report_parse(&id, &epoch, &sequence, key);
    if (w->status == AMI_OK)
        w->status = report_record_parse(&record, value);
    if (w->status != AMI_OK)
        return false;
    if (w->one && !ami_id_equal(&id, &w->id))
        return false;
    if (report_decode(&kind, w->scratch, &count, record.m) != AMI_OK) {
        w->bad_reports++;
        return true;
    }
    for (size_t i = 0; i < count; i++)
        put_reading(w, &id, sequence, &w->scratch[i]);
    if (ferror(w->out) != 0)
        w->status = AMI_IO;
    return w->status == AMI_OK;
}

/* --- walking ---------------------------------------------------------------------------------- */

static bool device_of(void *ctx, struct span key, struct span value)
{
    struct walk *w = ctx;
    uint8_t role;
    struct ami_id id;
    uint32_t epoch;
    (void)value;
    w->one = key_device_parse(&role, &id, &epoch, key) == AMI_OK && role == DEVICE_METER &&
             ami_id_equal(&id, &w->id);
    return false;
}

/* Says so when there is no such meter, rather than printing nothing. */
static enum ami_status find_meter(struct mdms_store *store, struct walk *w, struct why *why)
{
    AMI_TRY(cli_id(id_text, &w->id, why));
    struct mdms_key from = key_device(DEVICE_METER, &w->id, 1);
    AMI_TRY(mdms_store_scan(store, TABLE_DEVICES, key_span(&from), device_of, w, why));
    if (w->one)
        return AMI_OK;
    return why_set(why, AMI_UNKNOWN_DEVICE, "no meter \"%s\" is enrolled", id_text);
}

static enum ami_status walk(struct walk *w, struct mdms_store *store, struct why *why)
{
    w->from_s = INT64_MIN;
    w->to_s = INT64_MAX;
    if (from_text != NULL)
        AMI_TRY(cli_time(from_text, &w->from_s, why));
    if (to_text != NULL)
        AMI_TRY(cli_time(to_text, &w->to_s, why));
    struct mdms_key from = {0};
    if (id_text != NULL) {
        AMI_TRY(find_meter(store, w, why));
        from = key_report(&w->id, 0, 0);
    }
    w->scratch = calloc(AMI_REPORT_READINGS_MAX, sizeof *w->scratch);
    if (w->scratch == NULL)
        return AMI_NO_MEMORY;
    enum ami_status status =
        mdms_store_scan(store, TABLE_REPORTS, key_span(&from), each_report, w, why);
    free(w->scratch);
    AMI_TRY(status);
    if (w->status == AMI_IO)
        return why_set(why, AMI_IO, "%s cannot be written: %s",
                       out_file != NULL ? out_file : "the output", strerror(errno));
    if (w->status != AMI_OK)
        return why_set(why, AMI_DAMAGED, "%s/store: a stored report is damaged", common.dir);
    return AMI_OK;
}

static enum ami_status open_and_walk(struct walk *w, struct why *why)
{
    struct mdms_store *store;
    AMI_TRY(mdms_store_open(&store, common.dir, 0, why));
    enum ami_status status = walk(w, store, why);
    mdms_store_close(store);
    return status;
}

static int finish(const struct walk *w, enum ami_status status, const struct why *why)
{
    if (w->bad_reports > 0)
        fprintf(stderr,
                PROGRAM ": note: %" PRIu64
                        " report%s signed by their meters, but not readable as readings\n",
                w->bad_reports, w->bad_reports == 1 ? " was" : "s were");
    if (status == AMI_OK)
        return EXIT_STATUS_OK;
    return cli_fail(common.json, status, why);
}

static int run_readings(int argc, char **argv, void *ctx)
{
    (void)argc;
    (void)argv;
    (void)ctx;
    struct why why = {0};
    struct walk w = {.put = common.json ? put_json_item : put_table, .out = stdout};
    /* The document is begun only when there is something to say: an error is one of its own. */
    char *text = NULL;
    size_t size = 0;
    if (common.json && (w.out = open_memstream(&text, &size)) == NULL)
        return program_fail(PROGRAM, true, AMI_NO_MEMORY, NULL);
    enum ami_status status = open_and_walk(&w, &why);
    if (common.json) {
        if (fclose(w.out) != 0 && status == AMI_OK)
            status = AMI_NO_MEMORY;
        if (status == AMI_OK)
            printf("{\"ok\":true,\"count\":%" PRIu64 ",\"readings\":[%s]}\n", w.rows, text);
        free(text);
    }
    if (status == AMI_OK)
        status = cli_stdout_done(&why);
    if (status == AMI_OK && !common.json && w.rows == 0)
        fputs("no readings\n", stderr);
    return finish(&w, status, &why);
}

/* --- export ----------------------------------------------------------------------------------- */

static enum ami_status export_to(struct walk *w, FILE *out, struct why *why)
{
    w->out = out;
    if (w->put == put_csv)
        fputs("id,time,interval_s,obis,unit,value,quality,sequence\n", out);
    return open_and_walk(w, why);
}

/* Beside the file, synced, renamed: what stands under its name is complete. */
static enum ami_status export_to_file(struct walk *w, struct why *why)
{
    char temporary[PATH_MAX], directory[PATH_MAX];
    if (snprintf(temporary, sizeof temporary, "%s.part", out_file) >= (int)sizeof temporary)
        return why_set(why, AMI_TOO_LARGE, "%s: the path is too long", out_file);
    /* What a household used is nobody else's business: only its owner opens the file. A link that
     * stands under the name is not followed. */
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    FILE *out = fd < 0 || fchmod(fd, 0600) != 0 ? NULL : fdopen(fd, "w");
    if (out == NULL && fd >= 0)
        close(fd);
    if (out == NULL)
        return why_set(why, why_status_of_errno(errno), "%s: %s", temporary, strerror(errno));
    enum ami_status status = export_to(w, out, why);
    if (status == AMI_OK && (fflush(out) != 0 || fsync(fileno(out)) != 0))
        status = why_set(why, why_status_of_errno(errno), "%s: %s", temporary, strerror(errno));
    if (fclose(out) != 0 && status == AMI_OK)
        status = why_set(why, why_status_of_errno(errno), "%s: %s", temporary, strerror(errno));
    if (status == AMI_OK && rename(temporary, out_file) != 0)
        status = why_set(why, why_status_of_errno(errno), "%s: %s", out_file, strerror(errno));
    if (status != AMI_OK) {
        (void)unlink(temporary);
        return status;
    }
    snprintf(directory, sizeof directory, "%s", out_file);
    return directory_sync(dirname(directory), why);
}

static int run_export(int argc, char **argv, void *ctx)
{
    (void)argc;
    (void)argv;
    (void)ctx;
    struct why why = {0};
    struct walk w = {0};
    enum ami_status status = AMI_OK;
    if (strcmp(format_text, "csv") == 0)
        w.put = put_csv;
    else if (strcmp(format_text, "jsonl") == 0)
        w.put = put_json_line;
    else
        status = why_set(&why, AMI_BAD_ARGUMENT, "--format %s: it is csv or jsonl", format_text);
    if (status == AMI_OK && out_file != NULL)
        status = export_to_file(&w, &why);
    else if (status == AMI_OK && (status = export_to(&w, stdout, &why)) == AMI_OK)
        status = cli_stdout_done(&why);
    if (status == AMI_OK && out_file != NULL)
        printf("%" PRIu64 " readings written to %s\n", w.rows, out_file);
    return finish(&w, status, &why);
}

/* --- status ----------------------------------------------------------------------------------- */

struct figures {
    struct network net;
    struct state_record state;
    uint64_t codes, outbox, requests, revocations;
    /* Membership. */
    uint32_t epoch;     /* of the block above the last one followed */
    uint64_t next_from; /* first height of the epoch after that; 0: none is decided */
    char change[96];    /* that change, or one that was asked for; empty: none */
    const char *change_state;
    struct retained_record retained;
    struct retention_record retention; /* the last one asked for; below 0: none */
};

static const char *change_name(uint8_t change)
{
    return change == MEMBER_JOIN ? "join" : change == MEMBER_LEAVE ? "leave" : "rotate";
}

static enum ami_status collect_epochs(struct figures *f, const struct mdms_kv *kv)
{
    f->epoch = 1;
    for (uint32_t epoch = 2; epoch != 0; epoch++) {
        struct epoch_record e;
        struct membership m;
        struct span value;
        struct mdms_key key = key_number(epoch);
        enum ami_status status = kv->get(kv->ctx, TABLE_EPOCHS, key_span(&key), &value);
        if (status == AMI_NOT_FOUND)
            return AMI_OK;
        AMI_TRY(status);
        if (epoch_record_parse(&e, value) != AMI_OK || membership_parse(&m, e.first) != AMI_OK)
            return AMI_DAMAGED;
        if (e.height + m.delay <= f->state.height + 1) {
            f->epoch = epoch;
            continue;
        }
        f->next_from = e.height + m.delay;
        f->change_state = "decided";
        snprintf(f->change, sizeof f->change, "%s of %s", change_name(m.change), m.dc.text);
    }
    return AMI_OK;
}

/* The last change that was asked for, unless it is decided or in force. */
static bool last_change(void *ctx, struct span key, struct span value)
{
    struct figures *f = ctx;
    struct change_record c;
    (void)key;
    if (change_record_parse(&c, value) != AMI_OK)
        return true;
    if (c.state == CHANGE_SIGNED && c.number <= f->state.settled) {
        if (f->next_from == 0)
            f->change[0] = '\0';
        return true;
    }
    f->change_state = c.state == CHANGE_WANTED   ? "asked for"
                      : c.state == CHANGE_SIGNED ? "signed, not on the ledger yet"
                                                 : "refused";
    if (c.state == CHANGE_REFUSED)
        snprintf(f->change, sizeof f->change, "%s of %s: %s", change_name(c.change), c.dc.text,
                 ami_status_name((enum ami_status)c.status));
    else
        snprintf(f->change, sizeof f->change, "%s of %s", change_name(c.change), c.dc.text);
    return true;
}

static bool last_retention(void *ctx, struct span key, struct span value)
{
    struct figures *f = ctx;
    (void)key;
    return retention_record_parse(&f->retention, value) == AMI_OK;
}

/* What is said of the last watermark that was asked for; NULL: nothing, it is on the ledger. */
static const char *retention_state(const struct figures *f)
{
    const struct retention_record *r = &f->retention;
    if (r->below == 0 || (r->state == CHANGE_SIGNED && r->number <= f->state.settled))
        return NULL;
    return r->state == CHANGE_WANTED   ? "asked for"
           : r->state == CHANGE_SIGNED ? "signed, not on the ledger yet"
                                       : "refused";
}

static enum ami_status collect(struct figures *f, struct why *why)
{
    struct mdms_store *store;
    AMI_TRY(cli_network(common.dir, &f->net, why));
    AMI_TRY(mdms_store_open(&store, common.dir, 0, why));
    struct mdms_kv kv = mdms_store_kv(store);
    enum ami_status status = mdms_state_load(&kv, &f->state);
    if (status == AMI_DAMAGED)
        why_set(why, status, "%s/store: the state record is damaged", common.dir);
    if (status == AMI_OK)
        status = mdms_store_count(store, TABLE_CODES, &f->codes, why);
    if (status == AMI_OK)
        status = mdms_store_count(store, TABLE_OUTBOX, &f->outbox, why);
    if (status == AMI_OK)
        status = mdms_store_count(store, TABLE_REQUESTS, &f->requests, why);
    if (status == AMI_OK)
        status = mdms_store_count(store, TABLE_REVOCATIONS, &f->revocations, why);
    if (status == AMI_OK && (status = collect_epochs(f, &kv)) != AMI_OK)
        why_set(why, status, "%s/store: the membership records: %s", common.dir,
                ami_status_text(status));
    struct mdms_key from = key_number(0);
    if (status == AMI_OK)
        status = mdms_store_scan(store, TABLE_CHANGES, key_span(&from), last_change, f, why);
    if (status == AMI_OK)
        status = mdms_store_scan(store, TABLE_RETENTIONS, key_span(&from), last_retention, f, why);
    struct mdms_key key = key_retained();
    struct span value;
    if (status == AMI_OK && kv.get(kv.ctx, TABLE_STATE, key_span(&key), &value) == AMI_OK &&
        retained_record_parse(&f->retained, value) != AMI_OK)
        status = why_set(why, AMI_DAMAGED, "%s/store: the retention record is damaged", common.dir);
    mdms_store_close(store);
    return status;
}

static void hex_or_nothing(char out[2 * SM3_BYTES + 1], const sm3_digest *d)
{
    static const sm3_digest zero;
    out[0] = '\0';
    if (!sm3_equal(d, &zero))
        hex_encode(out, d->b, SM3_BYTES);
}

static int print_status_json(const struct figures *f, const char *chain, const char *tip,
                             const char *tip_time)
{
    const struct state_record *s = &f->state;
    char id[2 * SM3_BYTES + 1];
    hex_encode(id, f->net.id.b, SM3_BYTES);
    return cli_print_json(json_pack(
        "{s:b, s:s, s:s, s:i, s:s, s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, "
        "s:I, s:I, s:I, s:s, s:s, s:I, s:I, s:I, s:s}",
        "ok", 1, "network", f->net.name.text, "network_id", id, "scheme", (int)f->net.scheme,
        "chain", chain, "height", (json_int_t)s->height, "tip", tip, "tip_time", tip_time, "codes",
        (json_int_t)f->codes, "dcs", (json_int_t)s->dcs, "meters", (json_int_t)s->meters, "reports",
        (json_int_t)s->reports, "readings", (json_int_t)s->readings, "transactions",
        (json_int_t)s->last, "outbox", (json_int_t)(f->outbox + f->requests), "revocations",
        (json_int_t)(f->revocations + f->requests), "bad_seals", (json_int_t)s->bad_seals,
        "bad_reports", (json_int_t)s->bad_reports, "epoch", (json_int_t)f->epoch, "next_epoch_at",
        (json_int_t)f->next_from, "membership_change", f->change, "membership_change_state",
        f->change[0] == '\0' ? "" : f->change_state, "retention_below",
        (json_int_t)f->retained.below, "pruned_unread", (json_int_t)f->retained.unread,
        "retention_asked", (json_int_t)f->retention.below, "retention_state",
        retention_state(f) == NULL ? "" : retention_state(f)));
}

static int run_status(int argc, char **argv, void *ctx)
{
    (void)argc;
    (void)argv;
    (void)ctx;
    struct why why = {0};
    struct figures f;
    memset(&f, 0, sizeof f);
    enum ami_status status = collect(&f, &why);
    if (status != AMI_OK)
        return program_fail(PROGRAM, common.json, status, &why);
    const struct state_record *s = &f.state;
    char chain[2 * SM3_BYTES + 1], tip[2 * SM3_BYTES + 1], time[CLI_TIME_BYTES] = "";
    hex_or_nothing(chain, &s->chain);
    hex_or_nothing(tip, &s->tip);
    if (s->height > 0)
        cli_time_text(time, s->tip_ms / 1000);
    if (common.json)
        return print_status_json(&f, chain, tip, time);
    const struct scheme *scheme = scheme_by_number(f.net.scheme);
    printf("network       %s (%s)\n", f.net.name.text, scheme == NULL ? "?" : scheme->name);
    printf("chain         %s\n", chain[0] == '\0' ? "none yet" : chain);
    printf("followed to   height %" PRIu64 "%s%s\n", s->height, time[0] == '\0' ? "" : ", of ",
           time);
    printf("membership    epoch %u", (unsigned)f.epoch);
    if (f.change[0] != '\0')
        printf("; %s: %s", f.change_state, f.change);
    if (f.next_from != 0)
        printf(", from height %" PRIu64 " on", f.next_from);
    printf("\n");
    printf("devices       %" PRIu64 " DCs, %" PRIu64 " meters enrolled; %" PRIu64 " codes made\n",
           s->dcs, s->meters, f.codes);
    printf("readings      %" PRIu64 " in %" PRIu64 " reports\n", s->readings, s->reports);
    printf("outbox        %" PRIu64 " of %" PRIu64 " transactions not on the ledger yet\n",
           f.outbox + f.requests, s->last + f.requests);
    printf("bad seals     %" PRIu64 "\n", s->bad_seals);
    if (f.retained.below != 0)
        printf("retention     blocks below height %" PRIu64 " may be pruned\n", f.retained.below);
    if (retention_state(&f) != NULL)
        printf("retention     %s: below height %" PRIu64 "\n", retention_state(&f),
               f.retention.below);
    if (f.retained.unread != 0)
        printf("never read    %" PRIu64 " reports, the last in block %" PRIu64
               ": pruned before this folder had them\n",
               f.retained.unread, f.retained.unread_to);
    if (s->bad_reports > 0)
        printf("bad reports   %" PRIu64 "\n", s->bad_reports);
    status = cli_stdout_done(&why);
    return status == AMI_OK ? EXIT_STATUS_OK : program_fail(PROGRAM, false, status, &why);
}

const struct command_spec COMMAND_READINGS = {
    .name = "readings",
    .summary = "show what meters reported",
    .example = "ami-mdms readings --dir mdms --id meter-17 --from 2013-01-01 --to 2013-01-02",
    .options = readings_options,
    .run = run_readings,
};

const struct command_spec COMMAND_EXPORT = {
    .name = "export",
    .summary = "write all readings for other tools",
    .example = "ami-mdms export --dir mdms --format csv --out readings.csv",
    .options = export_options,
    .run = run_export,
};

const struct command_spec COMMAND_STATUS = {
    .name = "status",
    .summary = "how far the ledger was followed, and what came of it",
    .example = "ami-mdms status --dir mdms --json",
    .options = status_options,
    .run = run_status,
};
