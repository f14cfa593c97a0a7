#include "sim/world.h"

#include "base/check.h"

#include <stdlib.h>
#include <string.h>

/* Connections as net/link.c gives them: a dialler that tries again, frames in order, a queue with
 * a bound, an end that both sides hear of. A cut does not end a connection at once: what is sent
 * into it is lost and the connection breaks after a while, as TCP's would.
 *
 * Between DCs it is worse than TCP: there frames are also lost, repeated and reordered one by one
 * (after the handshake), because the consensus must not depend on more. */

#define QUEUE_BYTES     (1u << 20)
#define REDIAL_US       (300 * SIM_MS)
#define BREAK_US        (4 * SIM_SECOND) /* mean, until a cut connection is given up */
#define GREETING_FRAMES 2                /* hello and proof */

bool sim_net_is_cut(const struct sim_world *w, uint16_t from, uint16_t to)
{
    return w->cut[(size_t)from * w->host_count + to] != 0;
}

void sim_net_cut(struct sim_world *w, uint16_t from, uint16_t to, bool cut)
{
    w->cut[(size_t)from * w->host_count + to] = cut;
}

void sim_net_heal(struct sim_world *w)
{
    memset(w->cut, 0, (size_t)w->host_count * w->host_count);
    for (size_t i = 1; i < w->ends; i++)
        w->end[i].clogged_until_us = 0;
}

/* --- opening --------------------------------------------------------------------------------- */

void sim_net_dial(struct sim_host *from, uint16_t to, enum sim_port port, uint8_t member,
                  uint64_t after_us)
{
    struct sim_event e = {.type = SIM_DIAL, .link = to};
    e.u.number = (uint64_t)port << 8 | member;
    sim_push_for(from, e, from->world->now_us + after_us);
}

static uint64_t redial_us(struct sim_world *w)
{
    return REDIAL_US / 2 + sim_random_below(&w->net, REDIAL_US);
}

static env_link new_end(struct sim_world *w, const struct sim_host *h, uint8_t port, uint8_t member,
                        bool datagrams)
{
    if (w->ends == w->ends_capacity) {
        w->ends_capacity *= 2;
        w->end = realloc(w->end, w->ends_capacity * sizeof *w->end);
        AMI_CHECK(w->end != NULL);
    }
    w->end[w->ends] = (struct sim_end){.host = h->index,
                                       .life = h->life,
                                       .open = true,
                                       .datagrams = datagrams,
                                       .member = member,
                                       .port = port};
    return w->ends++;
}

static uint64_t delay_us(struct sim_world *w)
{
    return sim_random_exponential(&w->net, w->plan.delay_mean_us);
}

static void push_link(struct sim_world *w, enum sim_event_type type, env_link link, uint64_t at_us)
{
    struct sim_event e = {.type = (uint8_t)type, .link = link};
    sim_push_for(&w->host[w->end[link].host], e, at_us);
}

/* A DC that has no key yet listens nowhere. */
static bool takes_links(const struct sim_host *h)
{
    return h->kind == SIM_DC ? sim_dc_runs(h) : h->up;
}

static void on_dial(struct sim_world *w, const struct sim_event *e)
{
    struct sim_host *h = &w->host[e->host];
    uint16_t to = (uint16_t)e->link;
    uint8_t member = (uint8_t)e->u.number, port = (uint8_t)(e->u.number >> 8);
    struct sim_host *far = &w->host[to];
    if (h->kind == SIM_DC      ? !sim_dc_dials(h, to)
        : h->kind == SIM_FLEET ? !sim_dials_wants(h, &h->as.fleet->dials, to, member)
                               : !sim_dials_wants(h, &h->as.mdms->dials, to, member))
        return;
    if (!takes_links(far) || sim_net_is_cut(w, h->index, to) || sim_net_is_cut(w, to, h->index)) {
        sim_net_dial(h, to, (enum sim_port)port, member, redial_us(w));
        return;
    }
    bool datagrams = h->kind == SIM_DC && far->kind == SIM_DC;
    env_link near = new_end(w, h, NODE_PORT_DIALLED, member, datagrams);
    env_link other = new_end(w, far, port, 0, datagrams);
    w->end[near].other = other;
    w->end[other].other = near;
    uint64_t there = w->now_us + delay_us(w);
    w->end[near].last_us = w->end[other].last_us = there;
    push_link(w, SIM_OPEN, other, there);
    push_link(w, SIM_OPEN, near, there + 1);
}

/* --- closing --------------------------------------------------------------------------------- */

static void close_both(struct sim_world *w, env_link link)
{
    env_link ids[2] = {link, w->end[link].other};
    for (int i = 0; i < 2; i++) {
        struct sim_end *end = &w->end[ids[i]];
        if (!end->open)
            continue;
        end->open = false;
        struct sim_host *h = &w->host[end->host];
        if (!h->up || h->life != end->life)
            continue;
        uint64_t at = w->now_us + 1 + (i == 1 ? delay_us(w) : 0);
        /* After the frames that were on their way, which came in. */
        uint64_t frames = w->end[end->other].last_us;
        push_link(w, SIM_CLOSED, ids[i], at > frames ? at : frames + 1);
    }
}

void sim_net_close(struct sim_host *h, env_link link)
{
    AMI_CHECK(link != 0 && link < h->world->ends && h->world->end[link].host == h->index);
    close_both(h->world, link);
}

void sim_net_drop_host(struct sim_host *h)
{
    struct sim_world *w = h->world;
    for (env_link l = 1; l < w->ends; l++)
        if (w->end[l].open && w->end[l].host == h->index)
            close_both(w, l);
}

/* --- sending --------------------------------------------------------------------------------- */

static void give_up_later(struct sim_world *w, env_link link)
{
    struct sim_end *end = &w->end[link];
    if (end->breaking)
        return;
    end->breaking = true;
    push_link(w, SIM_BREAK, link, w->now_us + sim_random_exponential(&w->net, BREAK_US));
}

static void deliver(struct sim_world *w, env_link from, struct span frame, uint64_t at_us)
{
    struct sim_end *end = &w->end[from];
    struct sim_frame *f = malloc(sizeof *f + frame.size);
    AMI_CHECK(f != NULL);
    f->size = frame.size;
    memcpy(f->bytes, frame.data, frame.size);
    end->queued += frame.size;
    struct sim_event e = {.type = SIM_FRAME, .link = end->other};
    e.u.frame = f;
    sim_push_for(&w->host[w->end[end->other].host], e, at_us);
    w->count.frames++;
}

/* Lost, late, twice. */
static void send_datagram(struct sim_world *w, env_link link, struct span frame, uint64_t at_us)
{
    if (!w->quiet && sim_random_chance(&w->net, w->plan.loss_ppm)) {
        w->count.frames_lost++;
        w->count.fault[SIM_FAULT_LOSS]++;
        return;
    }
    deliver(w, link, frame, at_us);
    if (!w->quiet && sim_random_chance(&w->net, w->plan.repeat_ppm)) {
        w->count.frames_repeated++;
        w->count.fault[SIM_FAULT_REPEAT]++;
        deliver(w, link, frame, at_us + delay_us(w));
    }
}

/* Between a fleet and whomever else the frame takes the fleet's medium, where there is one. False:
 * lost there; unlike a stream's, such a loss is the frame's own. */
static bool pass_medium(struct sim_world *w, struct sim_host *from, struct sim_host *to,
                        const struct sim_end *end, size_t size, uint64_t *at_us)
{
    struct sim_host *fleet = from->kind == SIM_FLEET ? from : to->kind == SIM_FLEET ? to : NULL;
    uint64_t through_us;
    if (w->plan.medium.rate_bps == 0 || fleet == NULL)
        return true;
    if (!sim_medium_send(&fleet->as.fleet->medium, &w->plan.medium, &w->net, w->now_us, size,
                         end->greeted < GREETING_FRAMES, &through_us)) {
        w->count.frames_lost++;
        return false;
    }
    *at_us += through_us - w->now_us;
    return true;
}

enum ami_status sim_net_send_raw(struct sim_host *h, env_link link, struct span frame,
                                 uint64_t more_us)
{
    struct sim_world *w = h->world;
    AMI_CHECK(link != 0 && link < w->ends && w->end[link].host == h->index);
    struct sim_end *end = &w->end[link];
    if (!end->open)
        return AMI_CLOSED;
    if (end->queued + frame.size > QUEUE_BYTES) {
        end->starved = true;
        return AMI_AGAIN;
    }
    uint16_t to = w->end[end->other].host;
    if (w->watch != NULL && w->watch->sent != NULL)
        w->watch->sent(w->watch->ctx, w, h->index, to, frame);
    /* A stream that has lost something carries nothing more until it breaks. */
    if (sim_net_is_cut(w, h->index, to) || (end->breaking && !end->datagrams)) {
        give_up_later(w, link);
        return AMI_OK;
    }
    uint64_t at = w->now_us + delay_us(w) + more_us;
    if (!pass_medium(w, h, &w->host[to], end, frame.size, &at))
        return AMI_OK;
    if (at < end->clogged_until_us)
        at = end->clogged_until_us + delay_us(w);
    if (end->datagrams && end->greeted >= GREETING_FRAMES) {
        send_datagram(w, link, frame, at);
        return AMI_OK;
    }
    if (end->greeted < GREETING_FRAMES)
        end->greeted++;
    if (at <= end->last_us)
        at = end->last_us + 1;
    end->last_us = at;
    deliver(w, link, frame, at);
    return AMI_OK;
}

/* Both copies of a member that runs twice hear what is sent to it. */
static void send_to_twin(struct sim_host *h, env_link link, struct span frame)
{
    struct sim_world *w = h->world;
    struct sim_host *to = &w->host[w->end[w->end[link].other].host];
    if (h->kind != SIM_DC || to->kind != SIM_DC || w->dcs == w->names ||
        w->end[link].greeted < GREETING_FRAMES)
        return;
    uint8_t number = to->as.dc->number;
    if (number >= w->dcs - w->names)
        return;
    uint16_t other = to->as.dc->twin ? number : (uint16_t)(w->names + number);
    env_link there = h->as.dc->to_host[other];
    if (there != 0 && w->end[there].open && w->end[there].greeted >= GREETING_FRAMES)
        (void)sim_net_send_raw(h, there, frame, 0); /* as lossy as the rest */
}

enum ami_status sim_net_send(struct sim_host *h, env_link link, struct span frame)
{
    struct sim_world *w = h->world;
    if (h->kind == SIM_DC) {
        if (h->as.dc->byzantine != NULL) {
            if (!w->end[link].open)
                return AMI_CLOSED;
            if (sim_byzantine_send(h, link, frame))
                return AMI_OK;
        } else if (w->end[link].open) {
            sim_check_sent(h, frame);
        }
    }
    enum ami_status status = sim_net_send_raw(h, link, frame, 0);
    if (status != AMI_OK)
        return status;
    send_to_twin(h, link, frame);
    if (h->kind == SIM_DC)
        sim_faults_on_sent(h, frame);
    return AMI_OK;
}

/* --- arriving -------------------------------------------------------------------------------- */

void sim_net_release(const struct sim_event *e)
{
    if (e->type == SIM_FRAME)
        free(e->u.frame);
}

static void drained(struct sim_world *w, env_link from, size_t size)
{
    struct sim_end *end = &w->end[from];
    end->queued -= size;
    if (!end->starved || end->queued > QUEUE_BYTES / 2)
        return;
    end->starved = false;
    if (end->open)
        push_link(w, SIM_WRITABLE, from, w->now_us);
}

void sim_net_on_event(struct sim_world *w, const struct sim_event *e)
{
    struct sim_host *h = &w->host[e->host];
    bool alive = h->up && e->life == h->life;
    if (e->type == SIM_DIAL) {
        if (alive)
            on_dial(w, e);
        return;
    }
    struct sim_end *end = &w->end[e->link];
    if (alive && h->paused_until > w->now_us) {
        sim_events_defer(&w->events, *e, h->paused_until);
        return;
    }
    if (e->type == SIM_FRAME)
        drained(w, end->other, e->u.frame->size);
    if (e->type == SIM_BREAK) {
        end->breaking = false;
        if (alive && end->open &&
            (!end->datagrams || sim_net_is_cut(w, h->index, w->end[end->other].host))) {
            w->count.fault[SIM_FAULT_BREAK]++;
            close_both(w, e->link);
        }
        return;
    }
    if (!alive) {
        sim_net_release(e);
        return;
    }
    struct span frame = span_of("", 0);
    if (e->type == SIM_FRAME) {
        frame = span_of(e->u.frame->bytes, e->u.frame->size);
        sim_trace_bytes(w, frame.data, frame.size);
        if (w->watch != NULL && w->watch->arrived != NULL)
            w->watch->arrived(w->watch->ctx, w, w->end[end->other].host, h->index, frame);
        if (w->trace_to != NULL && frame.size > 1) {
            char from[24];
            sim_tell(w, h, "<- %s %s, %zu bytes",
                     sim_host_name(&w->host[w->end[end->other].host], from),
                     message_name(frame.data[1]), frame.size);
        }
    }
    sim_host_on_event(h, e);
    sim_net_release(e);
}
