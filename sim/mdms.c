/* sim/mdms.c - the shell around the MDMS: what mdms/serve.c is to the process. */
#include "sim/world.h"

#include "base/check.h"

#include <stdlib.h>
#include <string.h>

static enum ami_status env_store(void *ctx, void *write)
{
    struct sim_host *h = ctx;
    struct sim_mdms *m = h->as.mdms;
    AMI_CHECK(m->write == NULL); /* one at a time */
    m->write = write;
    sim_push_for(h, (struct sim_event){.type = SIM_STORED}, sim_host_disk_us(h));
    return AMI_OK;
}

void sim_mdms_new(struct sim_host *h)
{
    struct sim_mdms *m = calloc(1, sizeof *m);
    AMI_CHECK(m != NULL);
    h->as.mdms = m;
    m->kv = sim_kv_copy(h->world->cast->store);
}

void sim_mdms_free(struct sim_host *h)
{
    mdms_free(h->as.mdms->core);
    sim_kv_free(h->as.mdms->kv);
    free(h->as.mdms);
}

/* --- whom it dials --------------------------------------------------------------------------- */

static void dial(void *ctx, unsigned slot, const char *address)
{
    struct sim_host *h = ctx;
    struct sim_mdms *m = h->as.mdms;
    m->dials.number[slot] = address == NULL ? SIM_NOBODY : (uint8_t)sim_address_number(address);
    if (m->dials.link[slot] != 0) /* on_closed dials anew */
        sim_net_close(h, m->dials.link[slot]);
    sim_dials_dial(h, &m->dials, (uint8_t)slot, slot);
}

static void on_open(struct sim_host *h, env_link link)
{
    struct sim_world *w = h->world;
    struct sim_mdms *m = h->as.mdms;
    const struct sim_end *end = &w->end[link];
    if (end->port == SIM_PORT_ENROL) {
        mdms_on_open(m->core, link, MDMS_PORT_ENROL, 0);
        return;
    }
    if (sim_dials_opened(h, &m->dials, link))
        mdms_on_open(m->core, link, MDMS_PORT_DC, end->member);
    else
        sim_net_close(h, link);
}

static void on_closed(struct sim_host *h, env_link link)
{
    struct sim_world *w = h->world;
    struct sim_mdms *m = h->as.mdms;
    const uint8_t slot = w->end[link].member;
    mdms_on_closed(m->core, link);
    if (w->end[link].port == SIM_PORT_ENROL || !sim_dials_lost(&m->dials, slot, link))
        return;
    sim_dials_again(h, &m->dials, slot);
}

/* --- lives ----------------------------------------------------------------------------------- */

void sim_mdms_start(struct sim_host *h)
{
    struct sim_mdms *m = h->as.mdms;
    const struct sim_cast *cast = h->world->cast;
    m->env = sim_host_env(h);
    m->env.store = env_store;
    struct mdms_config c = {.network = &cast->keys.net,
                            .genesis = &cast->genesis,
                            .keys = &cast->keys,
                            .scheme = scheme_by_number(h->world->plan.scheme),
                            .kv = sim_kv_reader(m->kv),
                            .timing = mdms_timing_default(),
                            .dial = dial,
                            .dial_ctx = h};
    sim_dials_init(&m->dials, SIM_PORT_PEER);
    enum ami_status status = mdms_new(&m->core, &c, &m->env);
    if (status != AMI_OK) {
        sim_violate(h->world, "starts", "the MDMS does not start from its store: %s",
                    ami_status_name(status));
        h->up = false;
        return;
    }
    mdms_on_time(m->core);
}

void sim_mdms_crash(struct sim_host *h)
{
    struct sim_mdms *m = h->as.mdms;
    if (m->core == NULL)
        return;
    if (m->write != NULL && sim_random_chance(&h->world->faults, 500000))
        sim_kv_write(m->kv, m->write);
    m->write = NULL;
    mdms_free(m->core);
    m->core = NULL;
}

void sim_mdms_on_event(struct sim_host *h, const struct sim_event *e)
{
    struct sim_mdms *m = h->as.mdms;
    struct sim_world *w = h->world;
    switch (e->type) {
    case SIM_FRAME:
        mdms_on_frame(m->core, e->link, span_of(e->u.frame->bytes, e->u.frame->size));
        break;
    case SIM_OPEN:
        on_open(h, e->link);
        break;
    case SIM_CLOSED:
        on_closed(h, e->link);
        break;
    case SIM_WRITABLE:
        mdms_on_writable(m->core, e->link);
        break;
    case SIM_WORK:
        e->u.work.run(e->u.work.job);
        mdms_on_work(m->core, e->u.work.job);
        break;
    case SIM_STORED: {
        struct mdms_write *write = m->write;
        m->write = NULL;
        if (m->disk_status == AMI_OK)
            sim_kv_write(m->kv, write);
        mdms_on_stored(m->core, write, m->disk_status);
        break;
    }
    case SIM_ALARM:
        mdms_on_time(m->core);
        break;
    default:
        AMI_CHECK(false && "no event of the MDMS");
    }
    if (m->core != NULL && mdms_failed(m->core) != AMI_OK)
        sim_violate(w, "mdms", "the MDMS gave up: %s", ami_status_name(mdms_failed(m->core)));
}

uint64_t sim_followed(const struct sim_world *w)
{
    struct state_record state;
    struct span key, value;
    const struct mdms_key at = key_state();
    const struct sim_kv *kv = w->host[w->host_count - 1].as.mdms->kv;
    AMI_CHECK(sim_kv_seek(kv, TABLE_STATE, key_span(&at), &key, &value) &&
              span_equal(key, key_span(&at)) && state_record_parse(&state, value) == AMI_OK);
    return state.height;
}
