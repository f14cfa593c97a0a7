/* The first byte picks a type of wire/table.h. What its decoder accepts must encode to the same
 * bytes: every value has exactly one encoding, so a hash over received bytes is a hash over the
 * value. */
#include "tests/fuzz/fuzz.h"

#include "base/check.h"
#include "tests/wire/samples.h"

#include <string.h>

static uint8_t again[SAMPLE_BYTES_MAX];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    size_t again_size;
    struct span in = span_of(data + 1, size - 1);
    if (sample_recode(data[0] % SAMPLE_TYPE_COUNT, in, again, sizeof again, &again_size) == AMI_OK)
        AMI_CHECK(again_size == in.size && memcmp(again, in.data, in.size) == 0);
    return 0;
}

size_t fuzz_seed(uint64_t index, uint8_t *out, size_t capacity)
{
    if (capacity < 65536)
        return 0;
    out[0] = (uint8_t)(index % SAMPLE_TYPE_COUNT);
    struct sample_plan plan = {.seed = index, .size = index % 2 == 0 ? SAMPLE_ANY : SAMPLE_FULL};
    return 1 + sample_make(out[0], &plan, out + 1, capacity - 1);
}
