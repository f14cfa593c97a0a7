/* A report m. What the decoder accepts must encode to the same bytes, and every value in it must
 * print and, read again from its text, be the same value. */
#include "tests/fuzz/fuzz.h"

#include "base/check.h"
#include "wire/report.h"

#include <stdio.h>
#include <string.h>

static struct reading readings[AMI_REPORT_READINGS_MAX];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum report_kind kind;
    size_t count;
    if (report_decode(&kind, readings, &count, span_of(data, size)) != AMI_OK)
        return 0;
    AMI_CHECK(count >= 1 && count <= AMI_REPORT_READINGS_MAX);
    uint8_t again[AMI_REPORT_BYTES_MAX];
    struct writer w = writer_on(again, sizeof again);
    AMI_CHECK(report_encode(&w, kind, readings, count) == AMI_OK);
    AMI_CHECK(w.size == size && memcmp(again, data, size) == 0);
    for (size_t i = 0; i < count; i++) {
        char text[REPORT_VALUE_TEXT_BYTES_MAX + 1];
        struct reading r = readings[i];
        reading_value_text(text, &r);
        AMI_CHECK(reading_value_set(&r, text, strlen(text)) == AMI_OK);
        AMI_CHECK(r.quality == readings[i].quality && r.scaler == readings[i].scaler &&
                  r.mantissa == readings[i].mantissa && r.text_size == readings[i].text_size &&
                  memcmp(r.text, readings[i].text, r.text_size) == 0);
    }
    return 0;
}

size_t fuzz_seed(uint64_t index, uint8_t *out, size_t capacity)
{
    static const char *const values[] = {"0",   "0.250", "-17", "123456789012345678",    "",
                                         "1e3", "+4",    "-0",  "0.00000000000000000001"};
    struct reading some[24] = {0};
    size_t count = 1 + index % (sizeof some / sizeof some[0]);
    uint64_t bits = index * 0x9e3779b97f4a7c15u;
    for (size_t i = 0; i < count; i++, bits = bits << 7 | bits >> 57) {
        const char *value = values[bits % (sizeof values / sizeof values[0])];
        struct reading *r = &some[i];
        AMI_CHECK(reading_value_set(r, value, strlen(value)) == AMI_OK);
        r->obis[3] = (uint8_t)(i * (bits >> 60) / 32);
        r->unit = UNIT_WH;
        r->interval_s = 1800;
        r->start_s = 1357000200 + (int64_t)i * 1800 + (bits >> 20 & 7 ? 0 : 3600);
        r->quality |= bits >> 30 & 15 ? 0 : QUALITY_REPEATED;
    }
    struct writer w = writer_on(out, capacity);
    enum report_kind kind = index % 5 == 0 ? REPORT_EVENT : REPORT_READINGS;
    return report_encode(&w, kind, some, count) == AMI_OK ? w.size : 0;
}
