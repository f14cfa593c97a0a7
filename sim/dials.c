/* Links to DCs that a host keeps open, each at a place of its own: a fleet's and the MDMS's. */
#include "sim/world.h"

#include <string.h>

_Static_assert(METER_DCS <= SIM_DIALS_MAX && MDMS_DCS_MAX <= SIM_DIALS_MAX, "places");

void sim_dials_init(struct sim_dials *d, enum sim_port port)
{
    *d = (struct sim_dials){.port = port};
    memset(d->number, SIM_NOBODY, sizeof d->number);
}

void sim_dials_dial(struct sim_host *h, struct sim_dials *d, uint8_t place, uint64_t after_us)
{
    if (d->number[place] == SIM_NOBODY || d->under_way[place] || d->link[place] != 0)
        return;
    d->under_way[place] = true;
    sim_net_dial(h, sim_host_of(h->world, d->number[place]), d->port, place, after_us);
}

static bool is_wanted(const struct sim_host *h, const struct sim_dials *d, uint16_t to,
                      uint8_t place)
{
    return d->number[place] == h->world->host[to].as.dc->number;
}

bool sim_dials_wants(struct sim_host *h, struct sim_dials *d, uint16_t to, uint8_t place)
{
    if (is_wanted(h, d, to, place))
        return true;
    d->under_way[place] = false;
    sim_dials_dial(h, d, place, 1); /* somebody else, if anybody */
    return false;
}

bool sim_dials_opened(struct sim_host *h, struct sim_dials *d, env_link link)
{
    const struct sim_end *end = &h->world->end[link];
    d->under_way[end->member] = false;
    d->link[end->member] = link;
    return is_wanted(h, d, h->world->end[end->other].host, end->member);
}

bool sim_dials_lost(struct sim_dials *d, uint8_t place, env_link link)
{
    if (d->link[place] != link)
        return false;
    d->link[place] = 0;
    return true;
}

void sim_dials_again(struct sim_host *h, struct sim_dials *d, uint8_t place)
{
    sim_dials_dial(h, d, place, 200 * SIM_MS + sim_random_below(&h->world->net, 800 * SIM_MS));
}
