/* tests/crypto/inputs.h - seeded input, and the inputs that are most likely to find a mistake.
 *
 * For the cmocka tests and for oracle_long.c alike, so nothing here asserts through cmocka.
 */
#ifndef AMI_TESTS_CRYPTO_INPUTS_H
#define AMI_TESTS_CRYPTO_INPUTS_H

#include "crypto/sm2_group.h"

/* Seeded bytes (splitmix64), so that a failure repeats. */
struct seeded {
    uint64_t state;
};

static inline uint64_t seeded_u64(struct seeded *s)
{
    uint64_t z = (s->state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static inline void seeded_bytes(struct seeded *s, void *out, size_t size)
{
    uint8_t *b = out;
    for (size_t i = 0; i < size; i++)
        b[i] = (uint8_t)seeded_u64(s);
}

/* 0 to below - 1. */
static inline size_t seeded_below(struct seeded *s, size_t below)
{
    return (size_t)(seeded_u64(s) % below);
}

static inline scalar seeded_scalar(struct seeded *s)
{
    uint8_t wide[SM2_WIDE_BYTES];
    seeded_bytes(s, wide, sizeof wide);
    return scalar_from_wide(wide);
}

/* Batches around the widths that code works in (4, 8, 16, 32, 64 at a time), and odd ones. */
#define BATCH_SIZES 17
extern const size_t batch_sizes[BATCH_SIZES];
#define BATCH_MAX 100

/* Both fill `out` up to `max` and return how many there are.
 *
 * Scalars where carries, signed digits and last windows change their mind: small ones, powers of
 * two with their neighbours, runs of ones, one digit repeated in every window of 5, 6 or 8 bits;
 * each with its negative modulo n. */
#define EDGE_SCALARS_MAX 4096
size_t edge_scalars(scalar *out, size_t max);
/* d 2^(bits i) for every d in [1, 2^bits - 1] and every i: one window is set, so that each entry
 * of a table is met alone. */
#define WINDOW_SCALARS_MAX 8192
size_t window_scalars(scalar *out, size_t max, unsigned bits);

/* Points whose x is small, just below p, or next to a border of limbs of 52 and 64 bits, and G;
 * each with its negative. */
#define SPECIAL_POINTS_MAX 160
size_t special_points(point *out, size_t max);

#endif
