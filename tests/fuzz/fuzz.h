/* tests/fuzz/fuzz.h - what a fuzz target defines and who runs it.
 *
 * A target is one file with `LLVMFuzzerTestOneInput`, which aborts (AMI_CHECK, a sanitizer) when
 * something is wrong, and perhaps with `fuzz_seed`. ami_fuzz (cmake/Rooms.cmake) links it with
 * libFuzzer and seeds.c when the build has AMI_FUZZ, and with driver.c otherwise, so that every
 * target runs with every compiler.
 */
#ifndef AMI_TESTS_FUZZ_H
#define AMI_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* Always returns 0; keeps nothing of `data`. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Optional: writes a valid (or at least interesting) input to out and returns its size. The same
 * index gives the same input; any index may be asked for. 0: none, or it does not fit. Random bytes
 * hardly ever pass a strict decoder, so a target without seeds tests little more than refusals. */
size_t fuzz_seed(uint64_t index, uint8_t *out, size_t capacity);

#endif
