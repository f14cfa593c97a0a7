/* The MDMS's stored records and keys: a damaged store must give AMI_BAD_ENCODING, never more. The
 * first byte picks the decoder; what is accepted is written again to the same bytes. */
#include "tests/fuzz/fuzz.h"

#include "base/check.h"
#include "mdms/records.h"

#include <string.h>

enum {
    KIND_STATE,
    KIND_CODE,
    KIND_DEVICE,
    KIND_REVOCATION,
    KIND_REPORT,
    KIND_BAD_SEAL,
    KIND_CHANGE,
    KIND_EPOCH,
    KIND_RETENTION,
    KIND_RETAINED,
    KIND_LISTED,
    KIND_RUNS,
    KIND_ROWS,
    RECORDS
};

#define RECORD(out, in, T)                                                                         \
    do {                                                                                           \
        struct T##_record record;                                                                  \
        if (T##_record_parse(&record, in) == AMI_OK)                                               \
            T##_record_encode(out, &record);                                                       \
    } while (0)

static void keys(struct span in)
{
    struct ami_id id;
    uint8_t role;
    uint32_t epoch;
    uint64_t number;
    if (key_device_parse(&role, &id, &epoch, in) == AMI_OK) {
        struct mdms_key k = key_device(role, &id, epoch);
        AMI_CHECK(span_equal(key_span(&k), in));
    }
    if (key_report_parse(&id, &epoch, &number, in) == AMI_OK) {
        struct mdms_key k = key_report(&id, epoch, number);
        AMI_CHECK(span_equal(key_span(&k), in));
    }
    if (key_number_parse(&number, in) == AMI_OK) {
        struct mdms_key k = key_number(number);
        AMI_CHECK(span_equal(key_span(&k), in));
    }
}

/* A chunk of reports: what comes before a fault is written again. */
static void rows(struct writer *out, struct span in)
{
    struct reader r = reader_on(in);
    struct span key, record;
    size_t size = 0;
    enum ami_status status;
    while ((status = report_row_next(&r, &key, &record)) == AMI_OK) {
        size += report_row_bytes(key, record);
        if (size <= out->capacity)
            report_row_encode(out, key, record);
    }
    AMI_CHECK(status == AMI_NOT_FOUND ? size == in.size : status == AMI_BAD_ENCODING);
    AMI_CHECK(out->size <= in.size && memcmp(out->data, in.data, out->size) == 0);
    out->size = 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t again[2 * MDMS_RECORD_BYTES_MAX];
    if (size == 0)
        return 0;
    struct span in = span_of(data + 1, size - 1);
    struct writer out = writer_on(again, sizeof again);
    switch (data[0] % (RECORDS + 1)) {
    case KIND_STATE:
        RECORD(&out, in, state);
        break;
    case KIND_CODE:
        RECORD(&out, in, code);
        break;
    case KIND_DEVICE:
        RECORD(&out, in, device);
        break;
    case KIND_REVOCATION:
        RECORD(&out, in, revocation);
        break;
    case KIND_REPORT:
        RECORD(&out, in, report);
        break;
    case KIND_BAD_SEAL:
        RECORD(&out, in, bad_seal);
        break;
    case KIND_CHANGE:
        RECORD(&out, in, change);
        break;
    case KIND_EPOCH:
        RECORD(&out, in, epoch);
        break;
    case KIND_RETENTION:
        RECORD(&out, in, retention);
        break;
    case KIND_RETAINED:
        RECORD(&out, in, retained);
        break;
    case KIND_LISTED:
        RECORD(&out, in, listed);
        break;
    case KIND_RUNS:
        RECORD(&out, in, runs);
        break;
    case KIND_ROWS:
        rows(&out, in);
        break;
    default:
        keys(in);
        break;
    }
    AMI_CHECK(out.size == 0 || span_equal(writer_span(&out), in));
    return 0;
}

size_t fuzz_seed(uint64_t index, uint8_t *out, size_t capacity)
{
    static const uint8_t bytes[80] = {1, 2, 3};
    struct ami_id id;
    struct writer w = writer_on(out, capacity);
    AMI_CHECK(ami_id_from_text(&id, index % 2 == 0 ? "m-1" : "a.longer_name") == AMI_OK);
    write_u8(&w, (uint8_t)(index % (RECORDS + 1)));
    const struct state_record state = {.height = index, .settled = 3, .last = 7, .readings = 9};
    const struct code_record code = {
        .served_epoch = 1, .has_home = index % 3 == 0, .home = id, .sealed = span_of(bytes, 48)};
    const struct device_record device = {.number = index,
                                         .home_dc = id,
                                         .agree_part = span_of(bytes, 33),
                                         .reply = span_of(bytes, sizeof bytes)};
    const struct revocation_record revocation = {.role = 1, .device = id, .epoch = 1};
    const struct report_record report = {.height = 5, .dc = id, .m = span_of(bytes, 70)};
    const struct bad_seal_record bad_seal = {.height = 5, .dc = id, .status = 6};
    const struct change_record change = {.state = (uint8_t)(index % 3),
                                         .change = (uint8_t)(1 + index % 2),
                                         .dc = id,
                                         .delay = 10,
                                         .peer = SPAN_LITERAL("tcp://127.0.0.1:7001")};
    const struct retention_record retention = {
        .state = (uint8_t)(index % 3), .below = 2 + index, .number = index % 5};
    const struct retained_record retained = {.below = index, .unread = 3, .unread_to = 7};
    const struct listed_record listed = {.dc = id, .number = index, .at_ms = 9};
    const struct epoch_record epoch = {.height = index, .first = span_of(bytes, 77)};
    struct mdms_key key = index % 4 < 2 ? key_report(&id, 1, index) : key_device(1, &id, 2);
    struct runs_record runs = {.level[1] = {.first = index, .end = index + 3}};
    runs.level[0] = (struct runs_level){.first = 64, .end = 130, .merged_end = 128, .from = key};
    switch (index % (RECORDS + 1)) {
    case KIND_STATE:
        state_record_encode(&w, &state);
        break;
    case KIND_CODE:
        code_record_encode(&w, &code);
        break;
    case KIND_DEVICE:
        device_record_encode(&w, &device);
        break;
    case KIND_REVOCATION:
        revocation_record_encode(&w, &revocation);
        break;
    case KIND_REPORT:
        report_record_encode(&w, &report);
        break;
    case KIND_BAD_SEAL:
        bad_seal_record_encode(&w, &bad_seal);
        break;
    case KIND_CHANGE:
        change_record_encode(&w, &change);
        break;
    case KIND_EPOCH:
        epoch_record_encode(&w, &epoch);
        break;
    case KIND_RETENTION:
        retention_record_encode(&w, &retention);
        break;
    case KIND_RETAINED:
        retained_record_encode(&w, &retained);
        break;
    case KIND_LISTED:
        listed_record_encode(&w, &listed);
        break;
    case KIND_RUNS:
        runs_record_encode(&w, &runs);
        break;
    case KIND_ROWS:
        report_row_encode(&w, key_span(&key), span_of(bytes, 70));
        report_row_encode(&w, key_span(&key), span_of(bytes, index % 80));
        break;
    default:
        write_raw(&w, key.b, key.size);
        break;
    }
    return writer_ok(&w) ? w.size : 0;
}
