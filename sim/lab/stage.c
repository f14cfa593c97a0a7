#include "sim/lab/stage.h"

#include "base/check.h"

#include <stdlib.h>
#include <string.h>

void stage_calm(const struct attack_context *c, struct sim_plan *p)
{
    sim_plan_calm(p, c->seed);
    p->scheme = c->scheme->number;
    p->fleets = 1;
    p->meters = 2;
    p->report_every_us = 500 * SIM_MS;
}

static void lose(struct sim_world *w)
{
    struct sim_event e = sim_events_pop(&w->events);
    w->end[w->end[e.link].other].queued -= e.u.frame->size;
    sim_net_release(&e);
}

void stage_run(struct sim_world *w, uint64_t until_us, stage_tap *tap, void *ctx)
{
    const struct sim_event *e;
    while (w->violation[0] == 0 && (e = sim_events_next(&w->events)) != NULL &&
           e->at_us <= until_us) {
        enum message_type type;
        struct span body;
        if (e->type == SIM_FRAME &&
            frame_open(span_of(e->u.frame->bytes, e->u.frame->size), &type, &body) == AMI_OK &&
            !tap(ctx, w, e, type)) {
            lose(w);
            continue;
        }
        (void)sim_world_step(w, until_us);
    }
    if (w->violation[0] == 0 && w->now_us < until_us)
        (void)sim_world_step(w, until_us);
}

void stage_inject(struct sim_world *w, env_link at, const uint8_t *frame, size_t size)
{
    struct sim_frame *f = malloc(sizeof *f + size);
    AMI_CHECK(f != NULL);
    f->size = size;
    memcpy(f->bytes, frame, size);
    w->end[w->end[at].other].queued += size;
    struct sim_event e = {.type = SIM_FRAME, .link = at};
    e.u.frame = f;
    sim_push_for(&w->host[w->end[at].host], e, w->now_us + 1);
}

uint64_t stage_served_since(const struct sim_world *w, uint64_t since)
{
    uint64_t first = 0;
    for (uint16_t f = w->dcs; f < w->dcs + w->fleets; f++)
        for (size_t i = 0; i < w->host[f].as.fleet->count; i++) {
            const struct sim_book *m = sim_book(&w->host[f].as.fleet->meter[i]);
            for (size_t k = 0; k < m->reports; k++)
                if (m->report[k].made_us >= since && m->report[k].acknowledged_us != 0 &&
                    (first == 0 || m->report[k].acknowledged_us < first))
                    first = m->report[k].acknowledged_us;
        }
    return first;
}

int stage_leader(const struct sim_world *w)
{
    for (uint16_t i = 0; i < w->dcs; i++)
        if (w->host[i].up && w->host[i].as.dc->leads_since_us != 0)
            return i;
    return -1;
}
