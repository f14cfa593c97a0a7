/* bench/bench_meter_store.c - what the meters' store writes and computes for a report.
 *
 * Many meters of one directory report in turn, in random order; a transaction takes a batch of
 * reports and settles as many of those that wait, in no order, as a fleet's storage thread does it.
 * Bytes are those handed to the system (wchar of /proc/self/io), which for LMDB are whole pages,
 * so they do not depend on the disk; time is of the processor, and without the sync's waiting.
 */
#include "bench/city.h"
#include "meter/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROGRAM "bench-meter-store"

static int64_t meters = 10000, rounds = 12, batch = 500, under_way = 5000, record_bytes = 150,
               keep = 1000000;
static const char *parent = "/tmp";
static bool as_json;

static const struct option_spec options[] = {
    {.name = "meters",
     .letter = 'm',
     .kind = OPTION_INT,
     .value = &meters,
     .min = 1,
     .max = 1000000,
     .argument = "N",
     .help = "meters of the directory (default 10000)"},
    {.name = "rounds",
     .letter = 'r',
     .kind = OPTION_INT,
     .value = &rounds,
     .min = 1,
     .max = 10000,
     .argument = "N",
     .help = "reports of each meter (default 12)"},
    {.name = "batch",
     .letter = 'b',
     .kind = OPTION_INT,
     .value = &batch,
     .min = 1,
     .max = 4096,
     .argument = "N",
     .help = "reports in one transaction (default 500)"},
    {.name = "under-way",
     .letter = 'u',
     .kind = OPTION_INT,
     .value = &under_way,
     .min = 0,
     .max = 10000000,
     .argument = "N",
     .help = "reports that wait before settling begins (default 5000)"},
    {.name = "bytes",
     .kind = OPTION_INT,
     .value = &record_bytes,
     .min = 92,
     .max = METER_RECORD_BYTES_MAX,
     .argument = "N",
     .help = "size of a report's record (default 150: one reading)"},
    {.name = "keep-reports",
     .kind = OPTION_INT,
     .value = &keep,
     .min = 1,
     .max = INT64_MAX,
     .argument = "N",
     .help = "as of ami-meter (default 1000000)"},
    {.name = "dir",
     .letter = 'd',
     .kind = OPTION_TEXT,
     .value = &parent,
     .argument = "DIR",
     .help = "where to make a folder for it (default /tmp)"},
    {.name = "json", .kind = OPTION_FLAG, .value = &as_json, .help = "one JSON document"},
    {0}};

struct run {
    struct meter_store *store;
    struct city city;
    struct meter_state *state;
    struct meter_op *op;
    struct waiting {
        uint32_t meter;
        uint64_t sequence;
    } * waiting;
    size_t waiting_count;
    uint8_t *record;
    int exit_status;
    struct why why;
};

static enum ami_status enrol(struct run *r)
{
    static const uint8_t key_file[600] = {1};
    enum ami_status status = AMI_OK;
    for (size_t i = 0; i < (size_t)meters && status == AMI_OK; i += 1000) {
        size_t count = 0;
        for (size_t k = i; k < (size_t)meters && count < 1000; k++) {
            r->state[k].next_sequence = 1;
            r->op[count++] = (struct meter_op){.kind = METER_OP_KEYS,
                                               .name = &r->city.name[k],
                                               .epoch = 1,
                                               .record = span_of(key_file, sizeof key_file),
                                               .state = r->state[k]};
        }
        status = meter_store_apply(r->store, r->op, count, &r->why);
    }
    return status;
}

/* One transaction: `count` new reports, from `first` in this round's order, and `settled`
 * settlings. */
static enum ami_status transaction(struct run *r, size_t first, size_t count, size_t settled)
{
    for (size_t i = 0; i < settled; i++) {
        const size_t k = city_draw(&r->city, r->waiting_count);
        r->op[count + i] = (struct meter_op){.kind = METER_OP_SETTLE,
                                             .name = &r->city.name[r->waiting[k].meter],
                                             .epoch = 1,
                                             .sequence = r->waiting[k].sequence,
                                             .keep = (uint64_t)keep};
        r->waiting[k] = r->waiting[--r->waiting_count];
    }
    for (size_t i = 0; i < count; i++) {
        const uint32_t at = r->city.order[first + i];
        struct meter_state *s = &r->state[at];
        const uint64_t sequence = s->next_sequence++;
        s->reports++;
        s->readings++;
        s->profile_next++;
        r->op[i] = (struct meter_op){.kind = METER_OP_REPORT,
                                     .name = &r->city.name[at],
                                     .epoch = 1,
                                     .sequence = sequence,
                                     .record = span_of(r->record, (size_t)record_bytes),
                                     .readings = 1,
                                     .state = *s};
        r->waiting[r->waiting_count++] = (struct waiting){at, sequence};
    }
    return meter_store_apply(r->store, r->op, count + settled, &r->why);
}

static size_t at_most(size_t a, size_t b)
{
    return a < b ? a : b;
}

static enum ami_status report_all(struct run *r)
{
    enum ami_status status = AMI_OK;
    for (int64_t round = 0; round < rounds && status == AMI_OK; round++) {
        city_shuffle(&r->city);
        for (size_t i = 0; i < (size_t)meters && status == AMI_OK; i += (size_t)batch) {
            const size_t count = at_most((size_t)meters - i, (size_t)batch);
            const size_t over =
                r->waiting_count > (size_t)under_way ? r->waiting_count - (size_t)under_way : 0;
            status = transaction(r, i, count, at_most(over, (size_t)batch));
        }
    }
    while (status == AMI_OK && r->waiting_count != 0)
        status = transaction(r, 0, 0, at_most(r->waiting_count, (size_t)batch));
    return status;
}

static int tell(double bytes, double us, double opening_us)
{
    if (as_json)
        printf("{\"meters\":%lld,\"reports\":%lld,\"batch\":%lld,\"record_bytes\":%lld,"
               "\"under_way\":%lld,\"bytes_per_report\":%.1f,\"us_per_report\":%.3f,\"opening_us\":"
               "%.0f}\n",
               (long long)meters, (long long)(meters * rounds), (long long)batch,
               (long long)record_bytes, (long long)under_way, bytes, us, opening_us);
    else
        printf("%lld meters, %lld reports of %lld bytes, %lld in a transaction, %lld under way: "
               "%.0f bytes written and %.2f us computed for each; opened again in %.0f us\n",
               (long long)meters, (long long)(meters * rounds), (long long)record_bytes,
               (long long)batch, (long long)under_way, bytes, us, opening_us);
    return fflush(stdout) == 0 ? EXIT_STATUS_OK : EXIT_STATUS_FAILED;
}

static enum ami_status measure(struct run *r, const char *dir)
{
    const sm3_digest network = {{1}}, chain = {{2}};
    AMI_TRY(meter_store_open(&r->store, dir, METER_STORE_CREATE, &network, &chain, 0, &r->why));
    AMI_TRY(enrol(r));
    const uint64_t bytes = written_bytes();
    const double us = computed_us();
    AMI_TRY(report_all(r));
    meter_store_close(r->store); /* what it writes counts too */
    r->store = NULL;
    const double reports = (double)(meters * rounds);
    const double written = (double)(written_bytes() - bytes) / reports;
    const double computed = (computed_us() - us) / reports;
    const double opening = computed_us();
    AMI_TRY(meter_store_open(&r->store, dir, METER_STORE_WRITE, &network, &chain, 0, &r->why));
    r->exit_status = tell(written, computed, computed_us() - opening);
    return AMI_OK;
}

static enum ami_status measure_and_close(void *ctx, const char *dir)
{
    struct run *r = ctx;
    enum ami_status status = measure(r, dir);
    meter_store_close(r->store);
    return status;
}

static int run(int argc, char **argv, void *ctx)
{
    (void)argc;
    (void)argv;
    (void)ctx;
    const size_t ops = 2 * (size_t)batch > 1000 ? 2 * (size_t)batch : 1000;
    struct run r = {.state = calloc((size_t)meters, sizeof *r.state),
                    .op = calloc(ops, sizeof *r.op),
                    .waiting = calloc((size_t)(under_way + 2 * batch), sizeof *r.waiting),
                    .record = calloc(1, (size_t)record_bytes),
                    .exit_status = EXIT_STATUS_FAILED};
    enum ami_status status = city_make(&r.city, (size_t)meters);
    if (status != AMI_OK || r.state == NULL || r.op == NULL || r.waiting == NULL ||
        r.record == NULL)
        status = why_set(&r.why, AMI_NO_MEMORY, "out of memory for %lld meters", (long long)meters);
    else
        status = in_folder(parent, PROGRAM, measure_and_close, &r, &r.why);
    city_free(&r.city);
    free(r.state);
    free(r.op);
    free(r.waiting);
    free(r.record);
    return status == AMI_OK ? r.exit_status : program_fail(PROGRAM, false, status, &r.why);
}

int main(int argc, char **argv)
{
    const struct command_spec single = {
        .name = PROGRAM,
        .summary = "what the meters' store writes and computes for a report",
        .example = "bench-meter-store --meters 100000 --batch 500",
        .options = options,
        .run = run};
    return store_bench(&single, argc, argv);
}
