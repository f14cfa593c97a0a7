/* bench/bench_ledger_store.c - what a DC's ledger writes and computes for a report, and whether
 * that stays as it is while the ledger grows.
 *
 * Blocks of a varying number of reports are written as a node does it: with the vote, and again
 * with the commit, which has the records that the block changed. Signatures are zeros: the store
 * does not look at them. Bytes are those handed to the system (wchar of /proc/self/io), which for
 * LMDB are whole pages, so they do not depend on the disk; time is of the processor, in the store
 * alone, and without the sync's waiting. At the end reports are looked up.
 */
#include "base/check.h"
#include "bench/city.h"
#include "ledger/registry.h"
#include "ledger/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PROGRAM "bench-ledger-store"
#define SHARES  10 /* of the blocks, a row of figures each */

static int64_t blocks = 8000, reports = 600, meters = 4000, looked_up = 1000;
static const char *parent = "/tmp";
static bool as_json;

static const struct option_spec options[] = {
    {.name = "blocks",
     .letter = 'b',
     .kind = OPTION_INT,
     .value = &blocks,
     .min = SHARES,
     .max = 10000000,
     .argument = "N",
     .help = "to write (default 8000)"},
    {.name = "reports",
     .letter = 'r',
     .kind = OPTION_INT,
     .value = &reports,
     .min = 3,
     .max = 3000,
     .argument = "N",
     .help = "in a block, on average (default 600: 400 to 800)"},
    {.name = "meters",
     .letter = 'm',
     .kind = OPTION_INT,
     .value = &meters,
     .min = 1,
     .max = 1000000,
     .argument = "N",
     .help = "that report in turn (default 4000)"},
    {.name = "look-up",
     .kind = OPTION_INT,
     .value = &looked_up,
     .min = 1,
     .max = 1000000,
     .argument = "N",
     .help = "reports that are looked up at the end (default 1000)"},
    {.name = "dir",
     .letter = 'd',
     .kind = OPTION_TEXT,
     .value = &parent,
     .argument = "DIR",
     .help = "where to make a folder for it (default /tmp)"},
    {.name = "json", .kind = OPTION_FLAG, .value = &as_json, .help = "one JSON document"},
    {0}};

/* A tenth of the blocks. */
struct share {
    uint64_t blocks, reports;
    double bytes, us, slowest_us; /* a report, a report, a write */
};

struct run {
    struct store *store;
    struct city city;
    uint64_t *sequence; /* of each meter's last report */
    size_t next;        /* in the order of meters */
    struct block_header last;
    sm3_digest chain, last_hash;
    uint8_t body[AMI_BLOCK_BYTES_MAX], records[AMI_BLOCK_BYTES_MAX];
    struct writer body_out, records_out;
    struct share share[SHARES];
    double file_bytes, look_us; /* a report */
    int exit_status;
    struct why why;
};

/* --- writing ---------------------------------------------------------------------------------- */

static void put_report(struct run *r)
{
    uint8_t sealed[64], encoded[AMI_TX_BYTES_MAX], record[RECORD_BYTES_MAX];
    if (r->next == r->city.count) {
        city_shuffle(&r->city);
        r->next = 0;
    }
    const uint32_t meter = r->city.order[r->next++];
    struct report_meter_part m = {
        .meter = r->city.name[meter], .epoch = 1, .sequence = ++r->sequence[meter]};
    struct report_gateway_part g = {.sealed = span_of(sealed, sizeof sealed), .dc_epoch = 1};
    struct record changed = {.kind = RECORD_METER,
                             .name = r->city.name[meter],
                             .epoch = 1,
                             .w.b = {2},
                             .agree_part_size = 33,
                             .enrolled_at = 1,
                             .floor = r->sequence[meter]};
    AMI_CHECK(ami_id_from_text(&g.dc, "dc1") == AMI_OK);
    changed.home_dc = g.dc;
    for (size_t i = 0; i < sizeof sealed; i++)
        sealed[i] = (uint8_t)city_draw(&r->city, 256);
    memcpy(m.commitment.b, sealed, sizeof m.commitment.b);
    struct writer w = writer_on(encoded, sizeof encoded);
    report_tx_encode(&w, &m, &g);
    AMI_CHECK(writer_ok(&w));
    body_append(&r->body_out, writer_span(&w));
    struct writer c = writer_on(record, sizeof record);
    record_encode(&c, &changed);
    AMI_CHECK(writer_ok(&c));
    write_u64(&r->records_out, meter);
    write_bytes(&r->records_out, writer_span(&c));
}

static enum ami_status write_batch(struct run *r, const struct store_batch *b, struct share *s)
{
    const uint64_t before = written_bytes();
    const double us = computed_us();
    enum ami_status status = store_write(r->store, b);
    const double taken = computed_us() - us;
    if (status != AMI_OK)
        return why_set(&r->why, status, "block %llu cannot be written: %s",
                       (unsigned long long)r->last.height, ami_status_text(status));
    s->us += taken;
    s->bytes += (double)(written_bytes() - before);
    if (taken > s->slowest_us)
        s->slowest_us = taken;
    return AMI_OK;
}

static enum ami_status write_block(struct run *r, struct share *s)
{
    uint8_t header[512], commit[512], vote[512];
    const uint64_t spread = (uint64_t)reports / 3;
    const uint64_t count = (uint64_t)reports - spread + city_draw(&r->city, 2 * spread + 1);
    r->body_out = writer_on(r->body, sizeof r->body);
    r->records_out = writer_on(r->records, sizeof r->records);
    for (uint64_t i = 0; i < count; i++)
        put_report(r);
    AMI_CHECK(writer_ok(&r->body_out) && writer_ok(&r->records_out));
    r->last = (struct block_header){.version = 1,
                                    .chain = r->chain,
                                    .epoch = 1,
                                    .height = r->last.height + 1,
                                    .term = 1,
                                    .previous = r->last_hash,
                                    .timestamp_ms = 1000 * (int64_t)(r->last.height + 1),
                                    .tx_count = (uint32_t)count};
    r->last_hash = block_hash(&r->last);
    const struct qc qc = {.kind = VOTE_COMMIT,
                          .chain = r->chain,
                          .epoch = 1,
                          .term = 1,
                          .height = r->last.height,
                          .block = r->last_hash,
                          .signers = 7,
                          .signatures_count = 3};
    const struct vote_record voted = {.version = 1,
                                      .chain = r->chain,
                                      .epoch = 1,
                                      .term = 1,
                                      .tip = r->last.previous,
                                      .has_prepare = true,
                                      .prepare.block = r->last_hash};
    struct writer h = writer_on(header, sizeof header), c = writer_on(commit, sizeof commit),
                  v = writer_on(vote, sizeof vote);
    block_header_encode(&h, &r->last);
    qc_encode(&c, &qc);
    vote_record_encode(&v, &voted);
    AMI_CHECK(writer_ok(&h) && writer_ok(&c) && writer_ok(&v));
    const struct store_batch vote_batch = {.vote_record = writer_span(&v),
                                           .body_header = writer_span(&h),
                                           .body = writer_span(&r->body_out)};
    const struct store_batch commit_batch = {.commit = true,
                                             .block_header = writer_span(&h),
                                             .block_commit = writer_span(&c),
                                             .block_body = writer_span(&r->body_out),
                                             .records = writer_span(&r->records_out)};
    AMI_TRY(write_batch(r, &vote_batch, s));
    AMI_TRY(write_batch(r, &commit_batch, s));
    s->blocks++;
    s->reports += count;
    return AMI_OK;
}

/* --- looking up ------------------------------------------------------------------------------- */

static enum ami_status look_up(struct run *r)
{
    for (int64_t i = 0; i < looked_up; i++) {
        const uint64_t meter = city_draw(&r->city, r->city.count);
        uint64_t height;
        uint32_t index;
        if (r->sequence[meter] == 0)
            continue; /* more meters than reports */
        const uint64_t sequence = 1 + city_draw(&r->city, r->sequence[meter]);
        const double before = computed_us();
        enum ami_status status =
            store_find_report(r->store, &r->city.name[meter], 1, sequence, &height, &index);
        if (status != AMI_OK)
            return why_set(&r->why, status, "a report that was written is not found");
        r->look_us += (computed_us() - before) / (double)looked_up;
    }
    return AMI_OK;
}

/* --- all of it -------------------------------------------------------------------------------- */

static void tell_json(const struct run *r, uint64_t all)
{
    printf("{\"blocks\":%lld,\"reports\":%llu,\"file_bytes_per_report\":%.1f,\"look_up_us\":%.1f,"
           "\"rows\":[",
           (long long)blocks, (unsigned long long)all, r->file_bytes, r->look_us);
    for (size_t i = 0; i < SHARES; i++)
        printf("%s{\"blocks\":%llu,\"bytes_per_report\":%.1f,\"us_per_report\":%.3f,"
               "\"slowest_write_us\":%.0f}",
               i == 0 ? "" : ",", (unsigned long long)r->share[i].blocks, r->share[i].bytes,
               r->share[i].us, r->share[i].slowest_us);
    printf("]}\n");
}

static int tell(const struct run *r, uint64_t all)
{
    uint64_t up_to = 0;
    if (as_json) {
        tell_json(r, all);
        return fflush(stdout) == 0 ? EXIT_STATUS_OK : EXIT_STATUS_FAILED;
    }
    printf("%10s %15s %12s %16s\n", "block", "bytes a report", "us a report", "slowest write us");
    for (size_t i = 0; i < SHARES; i++) {
        up_to += r->share[i].blocks;
        printf("%10llu %15.0f %12.2f %16.0f\n", (unsigned long long)up_to, r->share[i].bytes,
               r->share[i].us, r->share[i].slowest_us);
    }
    printf("%llu reports, %.0f bytes in the file for each; one is found in %.0f us\n",
           (unsigned long long)all, r->file_bytes, r->look_us);
    return fflush(stdout) == 0 ? EXIT_STATUS_OK : EXIT_STATUS_FAILED;
}

static enum ami_status measure(struct run *r, const char *dir)
{
    char file[640], why[400] = "";
    struct stat st;
    uint64_t all = 0;
    enum ami_status status =
        store_open(&r->store, dir, &r->chain, STORE_READ_WRITE, 0, why, sizeof why);
    if (status != AMI_OK)
        return why_set(&r->why, status, "%s", why);
    for (size_t i = 0; i < SHARES; i++) {
        struct share *s = &r->share[i];
        while (r->last.height < (uint64_t)blocks * (i + 1) / SHARES)
            AMI_TRY(write_block(r, s));
        s->bytes /= (double)s->reports;
        s->us /= (double)s->reports;
        all += s->reports;
    }
    AMI_TRY(look_up(r));
    snprintf(file, sizeof file, "%s/data.mdb", dir);
    if (stat(file, &st) != 0)
        return why_set(&r->why, AMI_IO, "%s is not there", file);
    r->file_bytes = (double)st.st_size / (double)all;
    r->exit_status = tell(r, all);
    return AMI_OK;
}

static enum ami_status measure_and_close(void *ctx, const char *dir)
{
    struct run *r = ctx;
    enum ami_status status = measure(r, dir);
    store_close(r->store);
    return status;
}

static int run(int argc, char **argv, void *ctx)
{
    (void)argc;
    (void)argv;
    (void)ctx;
    struct run *r = calloc(1, sizeof *r);
    struct why why = {""};
    if (r == NULL)
        return program_fail(PROGRAM, false, why_set(&why, AMI_NO_MEMORY, "out of memory"), &why);
    r->exit_status = EXIT_STATUS_FAILED;
    r->chain = r->last_hash = sm3(SPAN_LITERAL("a chain for the bench of the ledger's store"));
    r->sequence = calloc((size_t)meters, sizeof *r->sequence);
    enum ami_status status = city_make(&r->city, (size_t)meters);
    if (status != AMI_OK || r->sequence == NULL)
        status =
            why_set(&r->why, AMI_NO_MEMORY, "out of memory for %lld meters", (long long)meters);
    else
        status = in_folder(parent, PROGRAM, measure_and_close, r, &r->why);
    const int exit_status =
        status == AMI_OK ? r->exit_status : program_fail(PROGRAM, false, status, &r->why);
    city_free(&r->city);
    free(r->sequence);
    free(r);
    return exit_status;
}

int main(int argc, char **argv)
{
    const struct command_spec single = {.name = PROGRAM,
                                        .summary =
                                            "what a DC's ledger writes and computes for a report",
                                        .example = "bench-ledger-store --blocks 8000",
                                        .options = options,
                                        .run = run};
    return store_bench(&single, argc, argv);
}
