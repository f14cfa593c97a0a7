/* sim/random.h - the simulator's only source of chance: streams of numbers that follow from a seed.
 *
 * Integers only, so that a seed means the same on every machine and compiler.
 */
#ifndef AMI_SIM_RANDOM_H
#define AMI_SIM_RANDOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim_random {
    uint64_t state;
};

/* Streams of one seed with different names share nothing. */
struct sim_random sim_random_stream(uint64_t seed, uint64_t name, uint64_t part);
uint64_t sim_random_u64(struct sim_random *r);                   /* splitmix64 */
uint64_t sim_random_below(struct sim_random *r, uint64_t limit); /* [0, limit); 0 for limit 0 */
uint64_t sim_random_between(struct sim_random *r, uint64_t least, uint64_t most); /* both in it */
bool sim_random_chance(struct sim_random *r, uint32_t per_million);
void sim_random_bytes(struct sim_random *r, void *out, size_t size);
/* Exponentially distributed around this mean, at least 1; the logarithm is taken as linear between
 * powers of two, which is right to 9 %. */
uint64_t sim_random_exponential(struct sim_random *r, uint64_t mean);

#endif
