/* tests/fuzz/seeds.c - lets libFuzzer start from a target's own `fuzz_seed`.
 *
 * No corpus of files is kept: the encodings change with wire/table.h, and seeds made from that
 * table cannot go stale.
 */
#include "tests/fuzz/fuzz.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t capacity);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t capacity, unsigned seed);

__attribute__((weak)) size_t fuzz_seed(uint64_t index, uint8_t *out, size_t capacity)
{
    (void)index;
    (void)out;
    (void)capacity;
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t capacity, unsigned seed)
{
    if (seed % 16 == 0) {
        size_t seeded = fuzz_seed(seed / 16, data, capacity);
        if (seeded != 0)
            return seed % 32 == 0 ? seeded : LLVMFuzzerMutate(data, seeded, capacity);
    }
    return LLVMFuzzerMutate(data, size, capacity);
}
