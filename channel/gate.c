#include "channel/gate.h"

#include "base/check.h"

#include <string.h>

#define MICRO 1000000u

static void fill(struct gate_bucket *b, struct gate_rate rate, uint64_t now_us)
{
    const uint64_t full = (uint64_t)rate.burst * MICRO;
    uint64_t elapsed = now_us - b->filled_us;
    /* A permit per second is a millionth of it per microsecond. */
    if (elapsed >= full / rate.per_s + 1 || b->micro + elapsed * rate.per_s > full)
        b->micro = full;
    else
        b->micro += elapsed * rate.per_s;
    b->filled_us = now_us;
}

void gate_init(struct gate *g, struct gate_rate all, struct gate_rate one, const uint8_t key[16],
               uint64_t now_us)
{
    AMI_CHECK(all.burst >= 1 && all.per_s >= 1 && one.burst >= 1 && one.per_s >= 1);
    AMI_CHECK(all.burst <= MICRO && all.per_s <= MICRO && one.burst <= MICRO && one.per_s <= MICRO);
    memset(g, 0, sizeof *g);
    memcpy(g->key, key, sizeof g->key);
    g->all = all;
    g->one = one;
    g->total = (struct gate_bucket){now_us, (uint64_t)all.burst * MICRO};
    for (size_t i = 0; i < GATE_SOURCES; i++)
        g->source[i] = (struct gate_bucket){now_us, (uint64_t)one.burst * MICRO};
}

bool gate_admit(struct gate *g, struct span source, uint32_t cost, uint64_t now_us)
{
    const uint64_t price = (uint64_t)cost * MICRO;
    sm3_digest hash = hmac_sm3(span_of(g->key, sizeof g->key), &source, 1);
    struct gate_bucket *own = &g->source[load_be16(hash.b) % GATE_SOURCES];
    fill(own, g->one, now_us);
    fill(&g->total, g->all, now_us);
    if (own->micro < price || g->total.micro < price) {
        g->refused++;
        return false;
    }
    own->micro -= price;
    g->total.micro -= price;
    g->admitted++;
    return true;
}

uint32_t gate_left(struct gate *g, uint64_t now_us)
{
    fill(&g->total, g->all, now_us);
    return (uint32_t)(g->total.micro / MICRO);
}
