#include "sim/medium.h"

#include "base/check.h"

#define MILLION 1000000u

uint64_t sim_medium_fragment_us(const struct sim_medium *m, size_t payload)
{
    return ((uint64_t)payload + m->overhead_bytes) * 8 * MILLION / m->rate_bps + 1;
}

static size_t payload_of(const struct sim_medium *m, size_t left)
{
    return left < m->fragment_bytes ? left : m->fragment_bytes;
}

uint64_t sim_medium_frame_us(const struct sim_medium *m, size_t size)
{
    uint64_t us = 0;
    for (size_t left = size; left > 0; left -= payload_of(m, left))
        us += sim_medium_fragment_us(m, payload_of(m, left));
    return us * m->hops;
}

/* The chance of a bad fragment is loss_ppm in the long run, and bursts have their mean length. */
static bool fragment_lost(struct sim_medium_state *s, const struct sim_medium *m,
                          struct sim_random *r)
{
    if (m->loss_ppm == 0)
        return false;
    uint64_t to_good = MILLION / m->burst_fragments;
    uint64_t to_bad = (uint64_t)m->loss_ppm * to_good / (MILLION - m->loss_ppm);
    if (to_bad > MILLION)
        to_bad = MILLION;
    if (sim_random_chance(r, (uint32_t)(s->bad ? to_good : to_bad)))
        s->bad = !s->bad;
    return s->bad;
}

/* One fragment over one hop; false: given up. */
static bool send_fragment(struct sim_medium_state *s, const struct sim_medium *m,
                          struct sim_random *r, uint64_t us, bool reliable, uint64_t *busy_us)
{
    for (unsigned i = 0; reliable || i < m->tries; i++) {
        *busy_us += us;
        s->fragments++;
        s->fragments_repeated += i > 0;
        if (!fragment_lost(s, m, r))
            return true;
    }
    return false;
}

bool sim_medium_send(struct sim_medium_state *s, const struct sim_medium *m, struct sim_random *r,
                     uint64_t now_us, size_t size, bool reliable, uint64_t *at_us)
{
    uint64_t busy_us = 0, latency_us = 0;
    bool whole = true;
    AMI_CHECK(m->rate_bps != 0 && m->hops >= 1 && m->tries >= 1 && m->burst_fragments >= 1);
    AMI_CHECK(m->fragment_bytes != 0 && m->loss_ppm < MILLION);
    for (unsigned hop = 0; hop < m->hops && whole; hop++) {
        for (size_t left = size; left > 0 && whole; left -= payload_of(m, left))
            whole = send_fragment(s, m, r, sim_medium_fragment_us(m, payload_of(m, left)), reliable,
                                  &busy_us);
        latency_us += sim_random_between(r, m->hop_us_min, m->hop_us_max);
    }
    uint64_t from_us = s->free_us > now_us ? s->free_us : now_us;
    s->free_us = from_us + busy_us;
    s->airtime_us += busy_us;
    s->frames++;
    s->bytes += size;
    s->frames_lost += !whole;
    *at_us = s->free_us + latency_us;
    return whole;
}
