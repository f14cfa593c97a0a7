/* bench/bench_mdms_store.c - what the MDMS's store writes and computes for a report, and what
 * reading back costs.
 *
 * Many meters report in turn, in random order, one reading each; a write takes the reports of one
 * block, whose number varies by a third around --batch, and the state record, as `ami-mdms serve`
 * does it. Bytes are those handed to the system (wchar of /proc/self/io), which for LMDB are whole
 * pages, so they do not depend on the disk; time is of the processor, in the store alone, and
 * without the sync's waiting.
 */
#include "base/check.h"
#include "bench/city.h"
#include "mdms/core.h"
#include "mdms/store.h"
#include "wire/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PROGRAM "bench-mdms-store"

static int64_t meters = 100000, rounds = 10, batch = 3000, looked_up = 200;
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
     .help = "meters that report (default 100000)"},
    {.name = "rounds",
     .letter = 'r',
     .kind = OPTION_INT,
     .value = &rounds,
     .min = 1,
     .max = 100000,
     .argument = "N",
     .help = "reports of each meter (default 10)"},
    {.name = "batch",
     .letter = 'b',
     .kind = OPTION_INT,
     .value = &batch,
     .min = 3,
     .max = 100000,
     .argument = "N",
     .help = "reports in one write, on average (default 3000: 2000 to 4000)"},
    {.name = "look-up",
     .kind = OPTION_INT,
     .value = &looked_up,
     .min = 1,
     .max = 1000000,
     .argument = "N",
     .help = "meters whose reports are read back (default 200)"},
    {.name = "dir",
     .letter = 'd',
     .kind = OPTION_TEXT,
     .value = &parent,
     .argument = "DIR",
     .help = "where to make a folder for it (default /tmp)"},
    {.name = "json", .kind = OPTION_FLAG, .value = &as_json, .help = "one JSON document"},
    {0}};

struct figures {
    double bytes, us;                /* a report */
    double slowest_us;               /* write, computing */
    double file_bytes;               /* a report */
    double meter_us, one_us, all_us; /* a meter's reports, one report, all of them by report */
};

struct run {
    struct mdms_store *store;
    struct mdms_write write;
    struct city city;
    uint64_t *sequence; /* of each meter's last report */
    uint64_t height, reports;
    struct figures f;
    int exit_status;
    struct why why;
};

/* --- writing ---------------------------------------------------------------------------------- */

static void put_report(struct run *r, uint32_t meter, uint32_t index)
{
    uint8_t m[256], bytes[MDMS_RECORD_BYTES_MAX];
    char text[32];
    struct reading reading = {.obis = {1, 0, 1, 8, 0, 255},
                              .unit = UNIT_KWH,
                              .interval_s = 1800,
                              .start_s = 1356998400 + (int64_t)r->sequence[meter] * 1800};
    struct report_record record = {.height = r->height,
                                   .index = index,
                                   .block_ms = 1356998400000 + (int64_t)r->height * 1000,
                                   .dc_epoch = 1};
    snprintf(text, sizeof text, "0.%03u", (unsigned)city_draw(&r->city, 1000));
    AMI_CHECK(reading_value_set(&reading, text, strlen(text)) == AMI_OK);
    struct writer w = writer_on(m, sizeof m);
    AMI_CHECK(report_encode(&w, REPORT_READINGS, &reading, 1) == AMI_OK);
    record.m = writer_span(&w);
    AMI_CHECK(ami_id_from_text(&record.dc, "dc-1") == AMI_OK);
    for (size_t i = 0; i < sizeof record.salt; i++)
        record.salt[i] = (uint8_t)city_draw(&r->city, 256);
    struct writer out = writer_on(bytes, sizeof bytes);
    report_record_encode(&out, &record);
    AMI_CHECK(writer_ok(&out));
    const struct mdms_key key = key_report(&r->city.name[meter], 1, ++r->sequence[meter]);
    mdms_write_put(&r->write, TABLE_REPORTS, &key, writer_span(&out));
}

/* The reports of a block, from `first` on in this round's order, and where the MDMS stands then. */
static enum ami_status write_block(struct run *r, size_t first, size_t count)
{
    uint8_t bytes[256];
    mdms_write_reset(&r->write);
    r->height++;
    for (size_t i = 0; i < count; i++)
        put_report(r, r->city.order[first + i], (uint32_t)i);
    r->reports += count;
    const struct state_record state = {
        .height = r->height, .reports = r->reports, .readings = r->reports};
    struct writer w = writer_on(bytes, sizeof bytes);
    state_record_encode(&w, &state);
    AMI_CHECK(writer_ok(&w));
    const struct mdms_key key = key_state();
    mdms_write_put(&r->write, TABLE_STATE, &key, writer_span(&w));
    if (r->write.no_memory)
        return why_set(&r->why, AMI_NO_MEMORY, "out of memory");
    const uint64_t before = written_bytes();
    const double us = computed_us();
    AMI_TRY(mdms_store_write(r->store, &r->write, &r->why));
    const double taken = computed_us() - us;
    r->f.us += taken;
    r->f.bytes += (double)(written_bytes() - before);
    if (taken > r->f.slowest_us)
        r->f.slowest_us = taken;
    return AMI_OK;
}

static enum ami_status report_all(struct run *r)
{
    for (int64_t round = 0; round < rounds; round++) {
        city_shuffle(&r->city);
        for (size_t i = 0, count; i < (size_t)meters; i += count) {
            count = (size_t)(batch - batch / 3) + city_draw(&r->city, 2 * (uint64_t)batch / 3 + 1);
            if (count > (size_t)meters - i)
                count = (size_t)meters - i;
            AMI_TRY(write_block(r, i, count));
        }
    }
    return AMI_OK;
}

/* --- reading ---------------------------------------------------------------------------------- */

struct counted {
    struct span prefix;
    uint64_t reports;
};

static bool count_one(void *ctx, struct span key, struct span value)
{
    struct counted *c = ctx;
    struct report_record record;
    if (key.size < c->prefix.size || memcmp(key.data, c->prefix.data, c->prefix.size) != 0)
        return false;
    AMI_CHECK(report_record_parse(&record, value) == AMI_OK);
    c->reports++;
    return true;
}

static enum ami_status scan(struct run *r, struct span prefix, uint64_t expected, double *us)
{
    struct counted c = {.prefix = prefix};
    const double before = computed_us();
    AMI_TRY(mdms_store_scan(r->store, TABLE_REPORTS, prefix, count_one, &c, &r->why));
    *us += computed_us() - before;
    return c.reports == expected
               ? AMI_OK
               : why_set(&r->why, AMI_DAMAGED, "%llu reports were read back, not %llu",
                         (unsigned long long)c.reports, (unsigned long long)expected);
}

static enum ami_status read_back(struct run *r)
{
    const struct mdms_kv kv = mdms_store_kv(r->store);
    for (int64_t i = 0; i < looked_up; i++) {
        struct span value;
        const uint64_t meter = city_draw(&r->city, (uint64_t)meters);
        const struct mdms_key first = key_report(&r->city.name[meter], 0, 0);
        const struct mdms_key one =
            key_report(&r->city.name[meter], 1, 1 + city_draw(&r->city, (uint64_t)rounds));
        AMI_TRY(scan(r, span_of(first.b, r->city.name[meter].size + 1u), (uint64_t)rounds,
                     &r->f.meter_us));
        const double before = computed_us();
        enum ami_status status = kv.get(kv.ctx, TABLE_REPORTS, key_span(&one), &value);
        if (status != AMI_OK)
            return why_set(&r->why, status, "a report that was written is not there");
        r->f.one_us += computed_us() - before;
    }
    return scan(r, span_of(NULL, 0), r->reports, &r->f.all_us);
}

/* --- all of it -------------------------------------------------------------------------------- */

static int tell(const struct figures *f, uint64_t reports)
{
    if (as_json)
        printf("{\"meters\":%lld,\"reports\":%llu,\"batch\":%lld,\"bytes_per_report\":%.1f,"
               "\"us_per_report\":%.3f,\"slowest_write_us\":%.0f,\"file_bytes_per_report\":%.1f,"
               "\"read_meter_us\":%.1f,\"read_report_us\":%.1f,\"read_all_us_per_report\":%.3f}\n",
               (long long)meters, (unsigned long long)reports, (long long)batch, f->bytes, f->us,
               f->slowest_us, f->file_bytes, f->meter_us, f->one_us, f->all_us);
    else
        printf("%lld meters, %llu reports, %lld in a write: %.0f bytes written and %.2f us "
               "computed for each (%.0f us for the slowest write), %.0f bytes in the file; read "
               "back: the %lld of a meter in %.0f us, one in %.0f us, all in %.2f us each\n",
               (long long)meters, (unsigned long long)reports, (long long)batch, f->bytes, f->us,
               f->slowest_us, f->file_bytes, (long long)rounds, f->meter_us, f->one_us, f->all_us);
    return fflush(stdout) == 0 ? EXIT_STATUS_OK : EXIT_STATUS_FAILED;
}

static enum ami_status measure(struct run *r, const char *dir)
{
    char file[640];
    struct stat st;
    const struct state_record state = {.height = 0};
    AMI_TRY(mdms_store_create(dir, &state, &r->why));
    AMI_TRY(mdms_store_open(&r->store, dir, 0, &r->why));
    AMI_TRY(report_all(r));
    AMI_TRY(read_back(r));
    snprintf(file, sizeof file, "%s/store/data.mdb", dir);
    if (stat(file, &st) != 0)
        return why_set(&r->why, AMI_IO, "%s is not there", file);
    r->f.bytes /= (double)r->reports;
    r->f.us /= (double)r->reports;
    r->f.file_bytes = (double)st.st_size / (double)r->reports;
    r->f.meter_us /= (double)looked_up;
    r->f.one_us /= (double)looked_up;
    r->f.all_us /= (double)r->reports;
    r->exit_status = tell(&r->f, r->reports);
    return AMI_OK;
}

static enum ami_status measure_and_close(void *ctx, const char *dir)
{
    struct run *r = ctx;
    enum ami_status status = measure(r, dir);
    mdms_store_close(r->store);
    return status;
}

static int run(int argc, char **argv, void *ctx)
{
    (void)argc;
    (void)argv;
    (void)ctx;
    struct run r = {.sequence = calloc((size_t)meters, sizeof *r.sequence),
                    .exit_status = EXIT_STATUS_FAILED};
    enum ami_status status = city_make(&r.city, (size_t)meters);
    if (status != AMI_OK || r.sequence == NULL)
        status = why_set(&r.why, AMI_NO_MEMORY, "out of memory for %lld meters", (long long)meters);
    else
        status = in_folder(parent, PROGRAM, measure_and_close, &r, &r.why);
    mdms_write_free(&r.write);
    city_free(&r.city);
    free(r.sequence);
    return status == AMI_OK ? r.exit_status : program_fail(PROGRAM, false, status, &r.why);
}

int main(int argc, char **argv)
{
    const struct command_spec single = {
        .name = PROGRAM,
        .summary = "what the MDMS's store writes and computes for a report",
        .example = "bench-mdms-store --meters 100000 --batch 3000",
        .options = options,
        .run = run};
    return store_bench(&single, argc, argv);
}
