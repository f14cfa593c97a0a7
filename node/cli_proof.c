/* node/cli_proof.c - dc-cli verify-proof: one file and the genesis file, no node and no ledger.
 *
 * In: a consumer's proof. Out: what it proves and the reading in it, or the first thing wrong.
 */
#include "node/cli.h"

#include "base/check.h"
#include "ledger/proof.h"
#include "net/file.h"
#include "net/logline.h"
#include "node/describe.h"
#include "wire/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PROOF_BYTES_MAX (1u << 20)

/* "2013-01-01T00:30:00Z"; a reading's years go from 1 to 9999. */
static void time_text(char out[40], int64_t s)
{
    time_t t = (time_t)s;
    struct tm tm;
    if (gmtime_r(&t, &tm) == NULL) {
        snprintf(out, 40, "%lld s", (long long)s);
        return;
    }
    snprintf(out, 40, "%04d-%02d-%02dT%02d:%02d:%02dZ", tm.tm_year + 1900, tm.tm_mon + 1,
             tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

static json_t *quality_names(uint16_t quality)
{
    static const struct {
        unsigned flag;
        const char *name;
    } flags[] = {{QUALITY_MISSING, "missing"},
                 {QUALITY_REPEATED, "repeated"},
                 {QUALITY_TEXT, "text"},
                 {QUALITY_OFF_RASTER, "off_raster"},
                 {QUALITY_ESTIMATED, "estimated"}};
    json_t *names = json_array();
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
        if ((quality & flags[i].flag) != 0)
            json_array_append_new(names, json_string(flags[i].name));
    return names;
}

static json_t *reading_document(const struct reading *r)
{
    char obis[32], value[REPORT_VALUE_TEXT_BYTES_MAX + 1], start[40];
    obis_text(obis, r->obis);
    reading_value_text(value, r);
    time_text(start, r->start_s);
    return json_pack("{s:s, s:s, s:I, s:s, s:s, s:o}", "obis", obis, "start", start, "interval_s",
                     (json_int_t)r->interval_s, "value", value, "unit", unit_name(r->unit),
                     "quality", quality_names(r->quality));
}

/* NULL: m is no report. */
static json_t *readings_of(struct span m)
{
    enum report_kind kind;
    size_t count = 0;
    struct reading *readings = calloc(AMI_REPORT_READINGS_MAX, sizeof *readings);
    json_t *out = NULL;
    if (readings != NULL && report_decode(&kind, readings, &count, m) == AMI_OK) {
        out = json_array();
        for (size_t i = 0; i < count; i++)
            json_array_append_new(out, reading_document(&readings[i]));
    }
    free(readings);
    return out;
}

static json_t *voters_of(const struct members *m, const struct qc *c)
{
    json_t *voters = json_array();
    for (unsigned i = 0; i < m->count; i++)
        if (c->signers >> i & 1)
            json_array_append_new(voters, json_string(m->member[i].name.text));
    return voters;
}

/* What a proof that holds proves; `c`: the committee of its block. `readings` is taken over, NULL:
 * it has no opening. */
static json_t *proof_document(const struct genesis *g, const struct committee *c,
                              const struct proof *p, const struct tx_view *report,
                              const struct tx_view *enrolment, json_t *readings)
{
    const struct report_meter_part *m = &report->u.report.meter;
    const struct report_gateway_part *d = &report->u.report.gateway;
    sm3_digest hash = block_hash(&p->header);
    char block_time[LOG_TIME_BYTES], received[LOG_TIME_BYTES];
    log_time_text(block_time, p->header.timestamp_ms);
    log_time_text(received, d->timestamp_ms);
    const bool pruned = report->pruned; /* then nobody knows any more */
    return json_pack(
        "{s:b, s:s, s:o, s:{s:I, s:o, s:s, s:I, s:o, s:I, s:I}, "
        "s:{s:s, s:I, s:s, s:I}, s:{s:o, s:I, s:o, s:b, s:s?, s:s?}, s:o}",
        "ok", 1, "network", g->network.name.text, "chain",
        describe_hex(g->members.chain.b, SM3_BYTES), "block", "height",
        (json_int_t)p->header.height, "hash", describe_hex(hash.b, SM3_BYTES), "time", block_time,
        "term", (json_int_t)p->commit.term, "voters", voters_of(&c->members, &p->commit), "members",
        (json_int_t)c->members.count, "membership_epoch", (json_int_t)c->members.epoch, "meter",
        "id", m->meter.text, "epoch", (json_int_t)m->epoch, "home_dc",
        enrolment->u.meter_enrol.home_dc.text, "enrolled_at", (json_int_t)p->enrol_header.height,
        "report", "tx", describe_hex(report->id.b, SM3_BYTES), "sequence", (json_int_t)m->sequence,
        "commitment", describe_hex(m->commitment.b, SM3_BYTES), "pruned", pruned, "gateway",
        pruned ? NULL : d->dc.text, "received", pruned ? NULL : received, "readings",
        readings == NULL ? json_null() : readings);
}

static const char *text(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

static long long number(const json_t *o, const char *key)
{
    return (long long)json_integer_value(json_object_get(o, key));
}

static void print_reading(const json_t *r)
{
    char interval[32], quality[64] = "";
    size_t index, used = 0;
    json_t *v;
    snprintf(interval, sizeof interval, "%lld s", number(r, "interval_s"));
    json_array_foreach(json_object_get(r, "quality"), index, v) used += (size_t)snprintf(
        quality + used, sizeof quality - used, "%s%s", index == 0 ? "" : " ", json_string_value(v));
    const char *value = text(r, "value");
    printf("  %-18s %-22s %9s %18s %-6s %s\n", text(r, "obis"), text(r, "start"), interval,
           value[0] == '\0' ? "-" : value, text(r, "unit"), quality);
}

static void print_proof(const json_t *d)
{
    const json_t *block = json_object_get(d, "block"), *meter = json_object_get(d, "meter");
    const json_t *report = json_object_get(d, "report"), *readings = json_object_get(d, "readings");
    const json_t *voters = json_object_get(block, "voters");
    size_t index;
    json_t *v;
    printf("ok: the report below was recorded and has not been altered since\n");
    printf("chain       %s, network %s\n", text(d, "chain"), text(d, "network"));
    printf("block       %lld of %s, hash %s\n", number(block, "height"), text(block, "time"),
           text(block, "hash"));
    printf("committed   in term %lld by %zu of %lld DCs:", number(block, "term"),
           json_array_size(voters), number(block, "members"));
    json_array_foreach(voters, index, v) printf(" %s", json_string_value(v));
    printf("\nmeter       %s, key epoch %lld, home DC %s, enrolled in block %lld\n",
           text(meter, "id"), number(meter, "epoch"), text(meter, "home_dc"),
           number(meter, "enrolled_at"));
    if (json_is_true(json_object_get(report, "pruned")))
        printf("report      number %lld; by which gateway and when it came was pruned\n",
               number(report, "sequence"));
    else
        printf("report      number %lld, received by gateway %s at %s\n",
               number(report, "sequence"), text(report, "gateway"), text(report, "received"));
    if (json_is_null(readings)) {
        printf("readings    not shown by this proof: it holds their commitment only, %s\n",
               text(report, "commitment"));
        return;
    }
    printf("readings    %zu\n  %-18s %-22s %9s %18s %-6s %s\n", json_array_size(readings),
           "register", "start", "interval", "value", "unit", "quality");
    json_array_foreach(readings, index, v) print_reading(v);
}

static int show_proof(const struct cli *c, const struct proof *p, const char *path)
{
    struct tx_view report, enrolment;
    json_t *readings = NULL;
    /* proof_check has parsed both. */
    enum ami_status status = tx_view_parse_kept(&report, p->tx);
    if (status == AMI_OK)
        status = tx_view_parse(&enrolment, p->enrolment);
    if (status == AMI_OK && p->has_opening) {
        readings = readings_of(p->m);
        if (readings == NULL)
            return cli_fail(c, AMI_BAD_ENCODING,
                            "%.200s: the meter signed something that is no report of readings",
                            path);
    }
    if (status != AMI_OK)
        return cli_fail(c, status, "%.200s: %s", path, ami_status_text(status));
    struct committee *committee = malloc(sizeof *committee);
    if (committee == NULL)
        return cli_fail(c, AMI_NO_MEMORY, "out of memory");
    committee_first(committee, c->genesis);
    for (size_t i = 0; status == AMI_OK && i < p->change_count; i++)
        status = committee_advance(committee, &c->genesis->network, &p->changes[i]);
    AMI_CHECK(status == AMI_OK); /* proof_check has done the same */
    json_t *d = proof_document(c->genesis, committee, p, &report, &enrolment, readings);
    free(committee);
    if (c->json || d == NULL)
        return cli_print_json(d);
    print_proof(d);
    json_decref(d);
    return fflush(stdout) == 0 ? EXIT_STATUS_OK : EXIT_STATUS_FAILED;
}

int cli_verify_proof(int argc, char **argv, void *ctx)
{
    (void)argc;
    struct cli *c = ctx;
    int exit_status = EXIT_STATUS_OK;
    struct why why = {""};
    char detail[WHY_BYTES_MAX - 200] = "";
    uint8_t *file = NULL;
    size_t size;
    void *hold = NULL;
    if (c->genesis_path == NULL)
        return cli_usage("a proof is checked against a genesis file: name it with --genesis FILE");
    if (!cli_genesis(c, NULL, &exit_status))
        return exit_status;
    enum ami_status status = file_read(argv[0], PROOF_BYTES_MAX, &file, &size, &why);
    if (status != AMI_OK)
        return program_fail(CLI_NAME, c->json, status, &why);
    struct proof *p = calloc(1, sizeof *p);
    status = p == NULL ? AMI_NO_MEMORY
                       : proof_parse(p, &hold, span_of(file, size), detail, sizeof detail);
    if (status == AMI_OK)
        status = proof_check(p, c->genesis, detail, sizeof detail);
    exit_status = status == AMI_OK ? show_proof(c, p, argv[0])
                                   : cli_fail(c, status, "%.150s proves nothing: %s", argv[0],
                                              detail[0] == '\0' ? ami_status_text(status) : detail);
    free(hold);
    free(p);
    free(file);
    return exit_status;
}
