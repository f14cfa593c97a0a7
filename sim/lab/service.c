#include "sim/lab/service.h"

#include "crypto/sm2.h"
#include "node/internal.h" /* whether the DC holds a session as well */

struct sim_host *lab_leader(struct sim_world *w)
{
    struct sim_host *leader = NULL;
    for (uint16_t i = 0; i < w->dcs; i++) {
        struct sim_host *h = &w->host[i];
        if (h->up && h->as.dc->leads_since_us != 0 &&
            (leader == NULL || h->as.dc->leads_since_us > leader->as.dc->leads_since_us))
            leader = h;
    }
    return leader;
}

void lab_kill_leader(struct sim_host *leader)
{
    leader->as.dc->leads_since_us = 0;
    sim_host_crash(leader);
}

uint64_t lab_height(const struct sim_world *w)
{
    uint64_t height = 0;
    for (uint16_t i = 0; i < w->dcs; i++)
        if (sim_disk_height(w->host[i].as.dc->disk) > height)
            height = sim_disk_height(w->host[i].as.dc->disk);
    return height;
}

static uint64_t index_of(const struct registry *r, const struct device_keys *keys, bool *found)
{
    const struct record *at = registry_find(r, RECORD_METER, &keys->name, keys->epoch);
    *found = at != NULL;
    return at == NULL ? 0 : registry_index_of(r, at);
}

bool lab_in_session(const struct sim_meter *m)
{
    const struct sim_world *w = m->host->world;
    return m->host->up && m->core.phase == METER_IN_SESSION && m->core.target < w->dcs &&
           w->host[m->core.target].up;
}

bool lab_served(const struct sim_meter *m)
{
    bool found;
    if (!lab_in_session(m))
        return false;
    const struct sim_dc *dc = m->host->world->host[m->core.target].as.dc;
    uint64_t index = index_of(dc->registry, &m->core.keys, &found);
    const struct gateway_session *s = found ? gateway_session_of(dc->node, index) : NULL;
    return s != NULL && s->id == m->core.session_id;
}

size_t lab_count_meters(struct sim_world *w, bool (*are)(const struct sim_meter *m))
{
    size_t count = 0;
    for (uint16_t i = w->dcs; i < w->dcs + w->fleets; i++)
        for (size_t k = 0; k < w->host[i].as.fleet->count; k++)
            count += are(&w->host[i].as.fleet->meter[k]);
    return count;
}

bool lab_all_enrolled(const struct sim_host *dc)
{
    const struct sim_cast *cast = dc->world->cast;
    for (size_t i = cast->size.meters; i-- > 0;)
        if (registry_find(dc->as.dc->registry, RECORD_METER, &cast->meter[i].name,
                          cast->meter[i].epoch) == NULL)
            return false;
    return true;
}

static bool await_enrolments(struct sim_world *w, uint64_t limit_us)
{
    uint64_t until_us = w->now_us + limit_us;
    while (w->now_us < until_us && w->violation[0] == 0) {
        struct sim_host *leader = lab_leader(w);
        if (leader != NULL && lab_all_enrolled(leader))
            return true;
        sim_world_run(w, w->now_us + 100 * SIM_MS);
    }
    return false;
}

bool lab_open_network(struct sim_world *w, uint64_t limit_us)
{
    /* Tables of networks that were there before are in the way: there is room for some only. */
    sm2_signers_forget();
    genesis_remember_signers(&w->cast->genesis);
    for (uint16_t i = w->dcs; i < w->dcs + w->fleets; i++)
        sim_host_crash(&w->host[i]);
    if (!await_enrolments(w, limit_us))
        return false;
    for (uint16_t i = w->dcs; i < w->dcs + w->fleets; i++)
        sim_host_start(&w->host[i]);
    return true;
}
