#include "sim/random.h"

#include <string.h>

__extension__ typedef unsigned __int128 uint128;

static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

struct sim_random sim_random_stream(uint64_t seed, uint64_t name, uint64_t part)
{
    uint64_t s = mix(seed + UINT64_C(0x9e3779b97f4a7c15));
    s = mix(s ^ name * UINT64_C(0xd1342543de82ef95));
    return (struct sim_random){mix(s ^ part * UINT64_C(0x2545f4914f6cdd1d))};
}

uint64_t sim_random_u64(struct sim_random *r)
{
    r->state += UINT64_C(0x9e3779b97f4a7c15);
    return mix(r->state);
}

uint64_t sim_random_below(struct sim_random *r, uint64_t limit)
{
    return (uint64_t)((uint128)sim_random_u64(r) * limit >> 64);
}

uint64_t sim_random_between(struct sim_random *r, uint64_t least, uint64_t most)
{
    return least + sim_random_below(r, most - least + 1);
}

bool sim_random_chance(struct sim_random *r, uint32_t per_million)
{
    return per_million != 0 && sim_random_below(r, 1000000) < per_million;
}

void sim_random_bytes(struct sim_random *r, void *out, size_t size)
{
    uint8_t *p = out;
    while (size > 0) {
        uint64_t v = sim_random_u64(r);
        size_t part = size < sizeof v ? size : sizeof v;
        memcpy(p, &v, part);
        p += part;
        size -= part;
    }
}

uint64_t sim_random_exponential(struct sim_random *r, uint64_t mean)
{
    uint64_t u = sim_random_u64(r) | 1;
    /* -log2(u / 2^64): whole part and 16 bits of fraction. */
    unsigned zeros = (unsigned)__builtin_clzll(u);
    uint64_t below_one = (u << zeros) >> 47 & 0xffff;
    uint64_t log2 = ((uint64_t)zeros + 1) * 65536 - below_one;
    /* times ln 2 = 45426 / 65536 */
    return 1 + (uint64_t)((uint128)mean * log2 * 45426 >> 32);
}
