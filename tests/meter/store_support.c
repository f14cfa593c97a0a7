#include "tests/meter/store_support.h"

#include "crypto/secret.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char folder[64];
const sm3_digest network = {{1}}, chain = {{2}}, other_chain = {{3}};
struct ami_id a, b;

static char crash_folder[96];

bool store_support_start(void)
{
    return crypto_start() == AMI_OK && ami_id_from_text(&a, "m") == AMI_OK &&
           ami_id_from_text(&b, "m-2") == AMI_OK;
}

int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/ami-meters-XXXXXX");
    return mkdtemp(folder) == NULL;
}

static int remove_folder(const char *path)
{
    char command[160];
    snprintf(command, sizeof command, "rm -rf '%s'", path);
    return system(command);
}

int drop_folder(void **state)
{
    (void)state;
    /* A test that failed may have left this one, too. */
    return remove_folder(crash_folder) != 0 ? -1 : remove_folder(folder);
}

static struct meter_store *opened_in(const char *dir, enum meter_store_mode mode,
                                     uint64_t map_bytes)
{
    struct meter_store *s = NULL;
    struct why why = {{0}};
    enum ami_status status = meter_store_open(&s, dir, mode, &network, &chain, map_bytes, &why);
    if (status != AMI_OK)
        print_error("%s\n", why.text);
    assert_ok(status);
    return s;
}

struct meter_store *opened(enum meter_store_mode mode, uint64_t map_bytes)
{
    return opened_in(folder, mode, map_bytes);
}

struct meter_store *reopened(struct meter_store *s)
{
    meter_store_close(s);
    return opened(METER_STORE_WRITE, 0);
}

struct meter_store *crashed(void)
{
    char path[128];
    uint8_t block[4096];
    size_t size;
    snprintf(crash_folder, sizeof crash_folder, "%s.crash", folder);
    snprintf(path, sizeof path, "%s/meters.mdb", folder);
    FILE *from = fopen(path, "rb");
    assert_non_null(from);
    assert_int_equal(mkdir(crash_folder, 0700), 0);
    snprintf(path, sizeof path, "%s/meters.mdb", crash_folder);
    FILE *to = fopen(path, "wb");
    assert_non_null(to);
    while ((size = fread(block, 1, sizeof block, from)) > 0)
        assert_int_equal(fwrite(block, 1, size, to), size);
    assert_int_equal(fclose(to), 0);
    fclose(from);
    return opened_in(crash_folder, METER_STORE_WRITE, 0);
}

struct meter_store *crashed_again(struct meter_store *s)
{
    meter_store_close(s);
    return opened_in(crash_folder, METER_STORE_WRITE, 0);
}

void dropped(struct meter_store *s)
{
    static const char *const files[] = {"meters.mdb", "meters.mdb-lock", "lock"};
    char path[128];
    meter_store_close(s);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", crash_folder, files[i]);
        (void)unlink(path);
    }
    assert_int_equal(rmdir(crash_folder), 0);
}

struct meter_op report_op(const struct ami_id *name, uint64_t sequence,
                          uint8_t record[RECORD_BYTES])
{
    memset(record, (int)sequence, RECORD_BYTES);
    memcpy(record + 8, &sequence, sizeof sequence);
    return (struct meter_op){.kind = METER_OP_REPORT,
                             .name = name,
                             .epoch = 1,
                             .sequence = sequence,
                             .record = span_of(record, RECORD_BYTES),
                             .readings = (uint16_t)(sequence % 7),
                             .state = {.next_sequence = sequence + 1, .reports = sequence},
                             .source = &chain,
                             .source_row = sequence * 10};
}

void put(struct meter_store *s, const struct ami_id *name, uint64_t sequence)
{
    uint8_t record[RECORD_BYTES];
    struct meter_op op = report_op(name, sequence, record);
    assert_ok(meter_store_apply(s, &op, 1, NULL));
}

uint16_t settle(struct meter_store *s, const struct ami_id *name, uint64_t sequence, uint64_t keep)
{
    struct meter_op op = {
        .kind = METER_OP_SETTLE, .name = name, .epoch = 1, .sequence = sequence, .keep = keep};
    assert_ok(meter_store_apply(s, &op, 1, NULL));
    return op.readings;
}

struct listing {
    char text[512];
    size_t size;
};

static bool list(void *ctx, const struct meter_stored_report *r)
{
    struct listing *l = ctx;
    uint64_t number;
    assert_int_equal(r->record.size, RECORD_BYTES);
    memcpy(&number, r->record.data + 8, sizeof number);
    assert_int_equal(number, r->sequence);
    assert_int_equal(r->readings, r->sequence % 7);
    l->size += (size_t)snprintf(l->text + l->size, sizeof l->text - l->size, "%s/%u/%llu%s ",
                                r->name.text, (unsigned)r->epoch, (unsigned long long)r->sequence,
                                r->settled ? "+" : "");
    return true;
}

void assert_listed(struct meter_store *s, const char *expected)
{
    struct listing l = {{0}, 0};
    assert_ok(meter_store_each_report(s, 1u << METER_OUTBOX | 1u << METER_ARCHIVE, NULL, list, &l));
    assert_string_equal(l.text, expected);
}

uint64_t next_waiting(struct meter_store *s, const struct ami_id *name, uint64_t from)
{
    uint8_t record[METER_RECORD_BYTES_MAX];
    size_t size;
    uint64_t number;
    enum ami_status status = meter_store_next(s, name, 1, from, record, &size);
    if (status == AMI_NOT_FOUND)
        return 0;
    assert_ok(status);
    assert_int_equal(size, RECORD_BYTES);
    memcpy(&number, record + 8, sizeof number);
    return number;
}
