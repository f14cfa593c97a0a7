#include "sim/world.h"

#include "base/check.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* --- trace ----------------------------------------------------------------------------------- */

void sim_trace_number(struct sim_world *w, uint64_t number)
{
    uint64_t h = (w->trace ^ number) * UINT64_C(0x9e3779b97f4a7c15);
    w->trace = h ^ h >> 32;
}

void sim_trace_bytes(struct sim_world *w, const void *data, size_t size)
{
    const uint8_t *p = data;
    for (; size >= 8; p += 8, size -= 8)
        sim_trace_number(w, load_be64(p));
    uint64_t rest = size;
    for (; size > 0; p++, size--)
        rest = rest << 8 | *p;
    sim_trace_number(w, rest);
}

const char *sim_host_name(const struct sim_host *h, char out[24])
{
    if (h->kind == SIM_DC)
        snprintf(out, 24, "dc-%u%s", h->as.dc->number + 1u, h->as.dc->twin ? "'" : "");
    else if (h->kind == SIM_FLEET)
        snprintf(out, 24, "fleet-%u", h->index - h->world->dcs + 1u);
    else
        snprintf(out, 24, "mdms");
    return out;
}

void sim_tell(struct sim_world *w, const struct sim_host *h, const char *format, ...)
{
    char name[24] = "-";
    if (w->trace_to == NULL)
        return;
    if (h != NULL)
        sim_host_name(h, name);
    fprintf(w->trace_to, "%10.6f  %-8s ", (double)w->now_us / 1e6, name);
    va_list args;
    va_start(args, format);
    vfprintf(w->trace_to, format, args);
    va_end(args);
    fputc('\n', w->trace_to);
}

void sim_violate(struct sim_world *w, const char *invariant, const char *format, ...)
{
    bool forks = strcmp(invariant, "agreement") == 0 && w->plan.byzantine > members_f(w->plan.dcs);
    /* Nothing else holds on the two sides of a fork, but that nobody honest is blamed for it. */
    if (w->violation[0] != 0 || (w->fork[0] != 0 && strcmp(invariant, "evidence") != 0))
        return;
    char *to = forks ? w->fork : w->violation;
    int n = snprintf(to, sizeof w->violation, "%s: ", invariant);
    va_list args;
    va_start(args, format);
    vsnprintf(to + n, sizeof w->violation - (size_t)n, format, args);
    va_end(args);
    sim_tell(w, NULL, "VIOLATION %s", to);
}

/* --- clocks and the environment -------------------------------------------------------------- */

uint64_t sim_host_mono_us(const struct sim_host *h)
{
    uint64_t passed = h->world->now_us - h->clock_base_us;
    int64_t drift = (int64_t)passed / 1000000 * h->drift_ppm +
                    (int64_t)(passed % 1000000) * h->drift_ppm / 1000000;
    return h->own_base_us + passed + (uint64_t)drift;
}

uint64_t sim_host_world_us(const struct sim_host *h, uint64_t own_us)
{
    uint64_t now = h->world->now_us, own_now = sim_host_mono_us(h);
    if (own_us <= own_now)
        return now;
    uint64_t wait = own_us - own_now, rate = (uint64_t)(1000000 + h->drift_ppm);
    return now + wait / rate * 1000000 + wait % rate * 1000000 / rate + 1;
}

static uint64_t env_mono(void *ctx)
{
    return sim_host_mono_us(ctx);
}

int64_t sim_host_wall_ms(const struct sim_host *h)
{
    return SIM_START_MS + (int64_t)(sim_host_mono_us(h) / 1000) + h->wall_offset_ms;
}

static int64_t env_wall(void *ctx)
{
    return sim_host_wall_ms(ctx);
}

void sim_push_for(struct sim_host *h, struct sim_event e, uint64_t at_us)
{
    e.at_us = at_us;
    e.host = h->index;
    e.life = h->life;
    sim_events_push(&h->world->events, e);
}

static void env_set_alarm(void *ctx, uint64_t at_us)
{
    struct sim_host *h = ctx;
    uint64_t at = at_us == UINT64_MAX ? UINT64_MAX : sim_host_world_us(h, at_us);
    if (at == h->alarm_us)
        return;
    h->alarm_us = at;
    if (at != UINT64_MAX)
        sim_push_for(h, (struct sim_event){.type = SIM_ALARM, .u.number = at}, at);
}

static enum ami_status env_send(void *ctx, env_link link, struct span frame)
{
    return sim_net_send(ctx, link, frame);
}

static void env_close(void *ctx, env_link link)
{
    sim_net_close(ctx, link);
}

static void env_random(void *ctx, void *out, size_t size)
{
    sim_random_bytes(&((struct sim_host *)ctx)->random, out, size);
}

static void env_log(void *ctx, enum env_log_level level, const char *event, const char *detail)
{
    struct sim_host *h = ctx;
    if (h->kind == SIM_DC)
        sim_check_said(h, event, detail);
    if (level != ENV_LOG_DEBUG)
        sim_tell(h->world, h, "%s %s", event, detail);
}

static enum ami_status env_work(void *ctx, void (*run)(void *job), void *job)
{
    struct sim_host *h = ctx;
    uint64_t took = sim_random_exponential(&h->world->net, h->world->plan.work_mean_us);
    struct sim_event e = {.type = SIM_WORK};
    e.u.work.run = run;
    e.u.work.job = job;
    sim_push_for(h, e, h->world->now_us + took);
    return AMI_OK;
}

struct env sim_host_env(struct sim_host *h)
{
    return (struct env){.ctx = h,
                        .clock_mono_us = env_mono,
                        .clock_wall_ms = env_wall,
                        .set_alarm = env_set_alarm,
                        .send = env_send,
                        .close = env_close,
                        .random = env_random,
                        .log = env_log,
                        .work = env_work};
}

uint64_t sim_host_disk_us(struct sim_host *h)
{
    struct sim_world *w = h->world;
    uint64_t at = w->now_us + sim_random_exponential(&w->net, w->plan.disk_mean_us);
    if (at <= h->disk_free_us)
        at = h->disk_free_us + 1;
    h->disk_free_us = at;
    return at;
}

/* --- lives ----------------------------------------------------------------------------------- */

void sim_host_start(struct sim_host *h)
{
    AMI_CHECK(!h->up);
    h->up = true;
    h->life++;
    h->alarm_us = UINT64_MAX;
    h->paused_until = 0;
    h->random = sim_random_stream(h->world->plan.seed, SIM_STREAM_HOST + 1000u * h->index, h->life);
    sim_tell(h->world, h, "starts");
    if (h->kind == SIM_DC)
        sim_dc_start(h);
    else if (h->kind == SIM_FLEET)
        sim_fleet_start(h);
    else
        sim_mdms_start(h);
}

void sim_host_crash(struct sim_host *h)
{
    if (!h->up)
        return;
    sim_tell(h->world, h, "dies");
    h->up = false;
    sim_net_drop_host(h);
    if (h->kind == SIM_DC)
        sim_dc_crash(h);
    else if (h->kind == SIM_FLEET)
        sim_fleet_crash(h);
    else
        sim_mdms_crash(h);
    h->life++;
    h->disk_free_us = 0;
}

void sim_host_pause(struct sim_host *h, uint64_t until_us)
{
    if (!h->up || h->paused_until >= until_us)
        return;
    sim_tell(h->world, h, "is stopped until %.6f", (double)until_us / 1e6);
    h->paused_until = until_us;
}

void sim_host_step_clock(struct sim_host *h, int64_t by_ms)
{
    h->wall_offset_ms += by_ms;
    sim_tell(h->world, h, "wall clock is off by %lld ms now", (long long)h->wall_offset_ms);
}

/* --- the loop -------------------------------------------------------------------------------- */

void sim_host_on_event(struct sim_host *h, const struct sim_event *e)
{
    if (h->kind == SIM_DC)
        sim_dc_on_event(h, e);
    else if (h->kind == SIM_FLEET)
        sim_fleet_on_event(h, e);
    else
        sim_mdms_on_event(h, e);
}

static void to_host(struct sim_host *h, const struct sim_event *e)
{
    if (e->type == SIM_START) {
        if (!h->up && !(h->kind == SIM_DC && h->as.dc->retired))
            sim_host_start(h);
        return;
    }
    if (!h->up || (e->life != 0 && e->life != h->life) ||
        (e->type == SIM_ALARM && e->u.number != h->alarm_us)) {
        sim_net_release(e);
        return;
    }
    if (e->type == SIM_DIE) {
        sim_faults_on_die(h);
        return;
    }
    if (h->paused_until > h->world->now_us) {
        /* It all happens when the process goes on, in the same order. */
        sim_events_defer(&h->world->events, *e, h->paused_until);
        return;
    }
    h->paused_until = 0;
    if (e->type == SIM_ALARM)
        h->alarm_us = UINT64_MAX;
    sim_host_on_event(h, e);
}

static void happen(struct sim_world *w, const struct sim_event *e)
{
    w->count.events++;
    sim_trace_number(w, w->now_us << 8 | e->type);
    sim_trace_number(w, (uint64_t)e->host << 32 | e->life);
    switch (e->type) {
    case SIM_FRAME:
    case SIM_OPEN:
    case SIM_CLOSED:
    case SIM_BREAK:
    case SIM_WRITABLE:
    case SIM_DIAL:
        sim_net_on_event(w, e);
        break;
    case SIM_FAULT:
        sim_faults_on_event(w, e);
        break;
    case SIM_CHANGE:
        sim_changes_on_event(w, e);
        break;
    default:
        to_host(&w->host[e->host], e);
        break;
    }
}

bool sim_world_step(struct sim_world *w, uint64_t until_us)
{
    const struct sim_event *next = sim_events_next(&w->events);
    if (next == NULL || next->at_us > until_us) {
        w->now_us = until_us;
        return false;
    }
    struct sim_event e = sim_events_pop(&w->events);
    if (e.at_us > w->now_us)
        w->now_us = e.at_us;
    happen(w, &e);
    return true;
}

void sim_world_run(struct sim_world *w, uint64_t until_us)
{
    while (w->violation[0] == 0 && sim_world_step(w, until_us))
        ;
}

/* --- beginning and end ----------------------------------------------------------------------- */

static void make_host(struct sim_world *w, uint16_t i, enum sim_host_kind kind)
{
    struct sim_host *h = &w->host[i];
    *h = (struct sim_host){.world = w, .index = i, .kind = kind, .own_base_us = SIM_SECOND};
    h->alarm_us = UINT64_MAX;
}

static void make_names(struct sim_world *w)
{
    const struct sim_plan *p = &w->plan;
    w->names = p->dcs + p->spares;
    AMI_CHECK(w->names <= SIM_DCS_MAX);
    for (unsigned i = 0; i < w->names; i++) {
        struct sim_name *n = &w->name[i];
        char text[16];
        snprintf(text, sizeof text, "dc-%u", i + 1);
        AMI_CHECK(ami_id_from_text(&n->name, text) == AMI_OK);
        n->liar = i < p->byzantine || (i == p->dcs && p->spare_lies);
        if (i >= p->dcs)
            continue;
        n->keys = 1;
        n->key[0] = &w->cast->dc[i];
    }
}

uint8_t sim_number_of(const struct sim_world *w, const struct ami_id *dc)
{
    for (unsigned i = 0; i < w->names; i++)
        if (ami_id_equal(&w->name[i].name, dc))
            return (uint8_t)i;
    return SIM_NOBODY;
}

uint16_t sim_host_of(struct sim_world *w, uint8_t number)
{
    bool second = number < w->dcs - w->names && sim_random_chance(&w->net, 500000);
    return (uint16_t)(second ? w->names + number : number);
}

static void free_names(struct sim_world *w)
{
    for (unsigned i = 0; i < w->names; i++) {
        for (unsigned k = i < w->plan.dcs ? 1 : 0; k < w->name[i].keys; k++)
            free((void *)(uintptr_t)w->name[i].key[k]);
        free(w->name[i].pending);
    }
}

static void make_hosts(struct sim_world *w)
{
    const struct sim_plan *p = &w->plan;
    unsigned twins = p->mischief[SIM_MISCHIEF_TWIN] != 0 ? p->byzantine : 0;
    w->count.mischief[SIM_MISCHIEF_TWIN] += twins;
    make_names(w);
    w->dcs = (uint16_t)(w->names + twins);
    w->fleets = (uint16_t)p->fleets;
    w->host_count = (uint16_t)(w->dcs + w->fleets + 1);
    w->host = calloc(w->host_count, sizeof *w->host);
    w->cut = calloc((size_t)w->host_count * w->host_count, 1);
    AMI_CHECK(w->host != NULL && w->cut != NULL);
    for (uint16_t i = 0; i < w->dcs; i++) {
        make_host(w, i, SIM_DC);
        bool twin = i >= w->names;
        sim_dc_new(&w->host[i], (uint8_t)(twin ? i - w->names : i), twin);
    }
    size_t first = 0;
    for (uint16_t i = 0; i < w->fleets; i++) {
        size_t last = (size_t)p->meters * (i + 1u) / p->fleets;
        make_host(w, (uint16_t)(w->dcs + i), SIM_FLEET);
        sim_fleet_new(&w->host[w->dcs + i], first, last - first);
        first = last;
    }
    make_host(w, (uint16_t)(w->host_count - 1), SIM_MDMS);
    sim_mdms_new(&w->host[w->host_count - 1]);
}

struct sim_world *sim_world_new(const struct sim_plan *plan, FILE *trace_to)
{
    struct sim_world *w = calloc(1, sizeof *w);
    AMI_CHECK(w != NULL);
    w->plan = *plan;
    w->trace_to = trace_to;
    const struct sim_cast_size size = {plan->dcs,     plan->meters,       plan->scheme,
                                       plan->gateway, plan->heartbeat_ms, plan->block_txs_max};
    w->cast = sim_cast_get(&size);
    w->net = sim_random_stream(plan->seed, SIM_STREAM_NET, 0);
    w->faults = sim_random_stream(plan->seed, SIM_STREAM_FAULTS, 0);
    w->mischief = sim_random_stream(plan->seed, SIM_STREAM_MISCHIEF, 0);
    w->ends_capacity = 1024;
    w->end = calloc(w->ends_capacity, sizeof *w->end);
    AMI_CHECK(w->end != NULL);
    w->ends = 1; /* link 0 is nobody */
    make_hosts(w);
    w->checks = sim_checks_new(w);
    w->changes = sim_changes_new(w);
    for (uint16_t i = 0; i < w->host_count; i++)
        sim_host_start(&w->host[i]);
    sim_faults_begin(w);
    sim_changes_begin(w);
    return w;
}

void sim_world_free(struct sim_world *w)
{
    if (w == NULL)
        return;
    for (uint16_t i = 0; i < w->host_count; i++) {
        struct sim_host *h = &w->host[i];
        h->up = false;
        if (h->kind == SIM_DC)
            sim_dc_free(h);
        else if (h->kind == SIM_FLEET)
            sim_fleet_free(h);
        else
            sim_mdms_free(h);
    }
    while (sim_events_next(&w->events) != NULL) {
        struct sim_event e = sim_events_pop(&w->events);
        sim_net_release(&e);
    }
    sim_events_free(&w->events);
    sim_checks_free(w->checks);
    sim_changes_free(w->changes);
    free_names(w);
    free(w->host);
    free(w->cut);
    free(w->end);
    free(w);
}
