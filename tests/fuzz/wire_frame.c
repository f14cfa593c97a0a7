/* A whole frame as a link hands it over: version, type, body. */
#include "tests/fuzz/fuzz.h"

#include "base/check.h"
#include "tests/wire/samples.h"

#include <string.h>

static uint8_t again[SAMPLE_BYTES_MAX];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum message_type type;
    struct span body;
    enum ami_status status = frame_open(span_of(data, size), &type, &body);
    bool version = size >= 2 && data[0] == AMI_WIRE_VERSION;
    bool known = version && sample_of_message(data[1]) != SAMPLE_TYPE_COUNT;
    AMI_CHECK((status == AMI_OK) == known);
    if (status != AMI_OK) {
        AMI_CHECK(status == (size >= 2 && !version ? AMI_BAD_VERSION : AMI_BAD_ENCODING));
        return 0;
    }
    AMI_CHECK(type == data[1] && body.data == data + 2 && body.size == size - 2);
    AMI_CHECK(strcmp(message_name(type), "UNKNOWN") != 0);
    size_t again_size;
    if (sample_recode(sample_of_message(type), body, again, sizeof again, &again_size) == AMI_OK)
        AMI_CHECK(again_size == body.size && memcmp(again, body.data, body.size) == 0);
    return 0;
}

size_t fuzz_seed(uint64_t index, uint8_t *out, size_t capacity)
{
    static const uint8_t messages[] = {
#define NUMBER(number, NAME, T, from_to) number,
        AMI_MESSAGES(NUMBER)};
    if (capacity < 65536)
        return 0;
    out[0] = AMI_WIRE_VERSION;
    out[1] = messages[index % sizeof messages];
    struct sample_plan plan = {.seed = index, .size = SAMPLE_ANY};
    return 2 + sample_make(sample_of_message(out[1]), &plan, out + 2, capacity - 2);
}
