#include "meter/fleet_internal.h"

#include <stdio.h>
#include <string.h>

static enum ami_status dial_members(struct fleet *f, struct why *why);

/* --- sending --------------------------------------------------------------------------------- */

static void block(struct fleet_link *l, struct fleet_meter *m)
{
    struct fleet *f = l->fleet;
    if (m->blocked)
        return;
    m->blocked = true;
    m->next_blocked = NULL;
    if (l->blocked_last == NULL)
        l->blocked_first = m;
    else
        l->blocked_last->next_blocked = m;
    l->blocked_last = m;
    if (!f->blocked_any) {
        f->blocked_any = true;
        loop_alarm_set(f->loop, &f->unblock, clock_mono_us() + FLEET_UNBLOCK_US);
    }
}

void fleet_links_agreed(struct fleet_meter *m)
{
    if (m->agreeing == NULL)
        return;
    AMI_CHECK(m->agreeing->agreeing > 0);
    m->agreeing->agreeing--;
    m->agreeing = NULL;
}

static bool has_room(const struct fleet_link *l, enum message_type type)
{
    size_t queued = link_queued_bytes(l->fleet->links, l->link);
    /* Room is kept for third flights: a meter that waited for its second one should not have to
     * begin again because others fill the queue with first ones. */
    if (type == MSG_AGREE_FLIGHT3)
        return true;
    if (type == MSG_AGREE_FLIGHT1 && l->agreeing >= FLEET_AGREEING_MAX)
        return false;
    return queued < FLEET_QUEUE_SOFT;
}

enum ami_status fleet_env_send(void *ctx, env_link link, struct span frame)
{
    struct fleet_meter *m = ctx;
    struct fleet *f = m->fleet;
    AMI_CHECK(link >= 1 && link <= f->headers->dc_count && frame.size > 1);
    struct fleet_link *l = &f->lane[m->lane].link[link - 1];
    enum message_type type = (enum message_type)frame.data[1];
    if (!l->welcomed)
        return AMI_CLOSED;
    if (type == MSG_AGREE_FLIGHT1)
        fleet_links_agreed(m);
    enum ami_status status = has_room(l, type) ? link_send(f->links, l->link, frame) : AMI_AGAIN;
    if (status == AMI_AGAIN)
        block(l, m);
    if (status == AMI_OK && type == MSG_AGREE_FLIGHT1) {
        m->agreeing = l;
        l->agreeing++;
    }
    return status == AMI_OK || status == AMI_AGAIN ? status : AMI_CLOSED;
}

/* Wakes as many as there is room for; who still finds none joins the end of the line. */
static void unblock_link(struct fleet_link *l)
{
    struct fleet *f = l->fleet;
    struct fleet_meter *last = l->blocked_last;
    while (l->blocked_first != NULL &&
           (!l->welcomed || link_queued_bytes(f->links, l->link) < FLEET_QUEUE_SOFT / 2)) {
        struct fleet_meter *m = l->blocked_first;
        if (l->welcomed && m->core.phase == METER_PAUSE && l->agreeing >= FLEET_AGREEING_MAX)
            break;
        l->blocked_first = m->next_blocked;
        if (l->blocked_first == NULL)
            l->blocked_last = NULL;
        m->blocked = false;
        meter_on_writable(&m->core, (env_link)l->place + 1);
        fleet_touch(m);
        /* It turned to another DC meanwhile, whose link is full as well. */
        if (m->core.starved && m->core.target != l->place)
            block(&l->lane->link[m->core.target], m);
        if (m == last)
            break;
    }
}

static void unblock(void *arg)
{
    struct fleet *f = arg;
    f->blocked_any = false;
    for (unsigned i = 0; i < f->lanes; i++)
        for (uint8_t k = 0; k < f->headers->dc_count; k++) {
            struct fleet_link *l = &f->lane[i].link[k];
            unblock_link(l);
            if (l->blocked_first != NULL && !f->blocked_any) {
                f->blocked_any = true;
                loop_alarm_set(f->loop, &f->unblock, clock_mono_us() + FLEET_UNBLOCK_US);
            }
        }
}

static const char *dc_name(const struct fleet_link *l)
{
    return l->fleet->headers->dc[l->place].text;
}

/* --- receiving ------------------------------------------------------------------------------- */

static void drop(struct fleet_link *l)
{
    l->fleet->stats.frames_bad++;
    link_drop(l->fleet->links, l->link, LINK_DROP_GARBAGE);
}

static void on_welcome(struct fleet_link *l, struct span body)
{
    struct fleet *f = l->fleet;
    struct meter_welcome w;
    if (l->welcomed || meter_welcome_parse(&w, body) != AMI_OK) {
        drop(l);
        return;
    }
    const char *name = dc_name(l);
    l->refused = w.status;
    if (w.status != AMI_OK || !ami_id_equal(&w.dc, &f->headers->dc[l->place])) {
        if (w.status == AMI_OK)
            l->refused = AMI_BAD_ARGUMENT; /* another DC listens where this one should */
        log_say(f->c.log, ENV_LOG_ERROR, "dc_refuses_us", "dc=%s status=%s", name,
                ami_status_name((enum ami_status)l->refused));
        link_close(f->links, l->link);
        return;
    }
    log_say(f->c.log, ENV_LOG_INFO, "dc_connected", "dc=%s", name);
    l->welcomed = true;
    f->ever_welcomed = true;
    l->lane->shared.open |= 1u << l->place;
    for (size_t i = 0; i < l->lane->paused_count; i++)
        meter_on_open(&l->lane->paused[i]->core, (env_link)l->place + 1);
}

static void to_meter(struct fleet_link *l, struct fleet_meter *m, enum message_type type,
                     struct span body)
{
    if (m == NULL || &l->fleet->lane[m->lane] != l->lane)
        return; /* a meter that another process runs, or a session that is over */
    meter_on_frame(&m->core, (env_link)l->place + 1, type, body);
    fleet_touch(m);
}

/* Everything that came in this round is answered together. */
void fleet_links_answer(void *arg)
{
    struct fleet *f = arg;
    struct fleet_answers *a = f->answers;
    const size_t count = a->count;
    a->count = 0;
    meter_on_flight2s(a->of, count);
    for (size_t i = 0; i < count; i++)
        fleet_touch(a->meter[i]);
}

static void on_flight2(struct fleet_link *l, struct fleet_meter *m, struct span body)
{
    struct fleet *f = l->fleet;
    struct fleet_answers *a = f->answers;
    if (m == NULL || &f->lane[m->lane] != l->lane || body.size > sizeof a->bytes[0])
        return; /* a meter that another process runs, or no second flight */
    memcpy(a->bytes[a->count], body.data, body.size);
    a->meter[a->count] = m;
    a->of[a->count] = (struct meter_answer){&m->core, (env_link)l->place + 1,
                                            span_of(a->bytes[a->count], body.size)};
    if (++a->count == METER_ANSWERS_MAX)
        fleet_links_answer(f);
    else
        loop_post(f->loop, &f->answer_task);
}

/* A DC says that it leads: its meters come over the time that it names. */
static void on_leads(struct fleet_link *l, struct span body)
{
    struct fleet *f = l->fleet;
    struct leads in;
    if (leads_parse(&in, body) != AMI_OK) {
        drop(l);
        return;
    }
    const env_link link = (env_link)l->place + 1;
    if (!meter_shared_hears(&l->lane->shared, link, in.term, clock_mono_us()))
        return;
    for (size_t i = 0; i < l->lane->paused_count; i++)
        meter_on_leads(&l->lane->paused[i]->core, link, (uint64_t)in.spread_ms * 1000u);
    f->stats.leads_told += l->lane->paused_count;
}

/* A change of the committee. Every DC tells it; the first to do so is believed because of its
 * proof. */
static void on_membership(struct fleet_link *l, struct span body)
{
    static struct membership_proof proof; /* large; the loop is one thread */
    struct fleet *f = l->fleet;
    enum ami_status status = membership_proof_parse(&proof, body);
    if (status == AMI_OK)
        status = headers_advance(f->headers, &proof);
    if (status == AMI_WRONG_EPOCH)
        return; /* known already */
    if (status != AMI_OK) {
        log_say(f->c.log, ENV_LOG_WARN, "bad_membership_proof", "dc=%s status=%s", dc_name(l),
                ami_status_name(status));
        drop(l);
        return;
    }
    const struct committee *c = headers_committee(f->headers);
    log_say(f->c.log, ENV_LOG_INFO, "membership", "epoch=%u members=%u from_height=%llu",
            (unsigned)c->members.epoch, (unsigned)c->members.count, (unsigned long long)c->from);
    fleet_put_epoch(f, c->members.epoch, body);
    struct why why = {{0}};
    if (dial_members(f, &why) != AMI_OK)
        log_say(f->c.log, ENV_LOG_ERROR, "not_dialled", "%s", why.text);
}

static void on_frame(void *ctx, env_link link, struct span frame)
{
    struct fleet_link *l = ctx;
    struct fleet *f = l->fleet;
    enum message_type type;
    struct span body;
    if (link != l->link)
        return; /* of a DC that had this place before */
    if (frame_open(frame, &type, &body) != AMI_OK || (!l->welcomed && type != MSG_METER_WELCOME)) {
        drop(l);
        return;
    }
    struct reader r = reader_on(body);
    struct fleet_meter *m = NULL;
    switch ((int)type) {
    case MSG_METER_WELCOME:
        on_welcome(l, body);
        break;
    case MSG_MEMBERSHIP:
        on_membership(l, body);
        break;
    case MSG_BLOCK_PROOF: {
        enum ami_status status = headers_add(f->headers, body);
        if (status == AMI_OK)
            break;
        log_say(f->c.log, ENV_LOG_WARN, "bad_block_proof", "dc=%s status=%s", dc_name(l),
                ami_status_name(status));
        /* A certificate costs much to check and nothing to invent: who sends a false one waits for
         * the next connection. */
        if (status != AMI_WRONG_EPOCH)
            drop(l);
        break;
    }
    case MSG_LEADS:
        on_leads(l, body);
        break;
    case MSG_AGREE_FLIGHT2:
    case MSG_REFUSED: {
        /* Both begin with the meter's name. */
        struct ami_id name = read_id(&r);
        if (type == MSG_AGREE_FLIGHT2)
            on_flight2(l, r.failed ? NULL : fleet_find(f, &name), body);
        else
            to_meter(l, r.failed ? NULL : fleet_find(f, &name), type, body);
        break;
    }
    case MSG_SESSION_ENDED:
    case MSG_SESSION_DATA: {
        /* Both begin with the session's id. */
        uint64_t session = read_u64(&r);
        HASH_FIND(by_session, f->sessions, &session, sizeof session, m);
        to_meter(l, m, type, body);
        break;
    }
    default:
        drop(l);
        break;
    }
}

/* --- opening and closing --------------------------------------------------------------------- */

static void on_open(void *ctx, env_link link, const char *remote)
{
    struct fleet_link *l = ctx;
    struct fleet *f = l->fleet;
    (void)remote;
    l->link = link;
    l->welcomed = false;
    struct meter_hello hello = {.chain = f->c.genesis->members.chain,
                                .scheme = f->c.genesis->network.scheme,
                                .epoch = f->headers->newest};
    uint8_t frame[64];
    struct writer w = writer_on(frame, sizeof frame);
    frame_begin(&w, MSG_METER_HELLO);
    meter_hello_encode(&w, &hello);
    AMI_CHECK(writer_ok(&w));
    if (link_send(f->links, link, writer_span(&w)) != AMI_OK)
        link_close(f->links, link);
}

static void on_closed(void *ctx, env_link link, enum ami_status why)
{
    struct fleet_link *l = ctx;
    struct fleet *f = l->fleet;
    if (link != l->link)
        return;
    bool was = l->welcomed;
    l->link = 0;
    l->welcomed = false;
    l->lane->shared.open &= ~(1u << l->place);
    if (!was)
        return;
    log_say(f->c.log, ENV_LOG_INFO, "dc_lost", "dc=%s status=%s", dc_name(l), ami_status_name(why));
    unblock_link(l);
    for (size_t i = 0; i < f->count; i++) {
        struct fleet_meter *m = &f->meter[i];
        if (&f->lane[m->lane] == l->lane) {
            meter_on_closed(&m->core, (env_link)l->place + 1);
            fleet_touch(m);
        }
    }
}

static void on_writable(void *ctx, env_link link)
{
    (void)link;
    unblock_link(ctx);
}

/* Dials one place's DC at this address, or nobody. */
static enum ami_status dial(struct fleet_link *l, const char *address, struct why *why)
{
    const struct link_limits limits = {.frame_bytes_max = AMI_FRAME_METER_BYTES_MAX,
                                       .queue_bytes_max = FLEET_QUEUE_BYTES,
                                       .half_frame_ms = 30000};
    const struct link_events events = {.ctx = l,
                                       .on_open = on_open,
                                       .on_frame = on_frame,
                                       .on_closed = on_closed,
                                       .on_writable = on_writable};
    if (strcmp(l->address, address) == 0)
        return AMI_OK;
    if (l->dialer != NULL)
        link_dialer_stop(l->dialer);
    l->dialer = NULL;
    l->refused = AMI_OK;
    l->lane->shared.led[l->place] = (struct meter_led){0}; /* another DC may have this place now */
    snprintf(l->address, sizeof l->address, "%s", address);
    return address[0] == '\0'
               ? AMI_OK
               : link_dial(l->fleet->links, address, &limits, 1000, &events, &l->dialer, why);
}

/* The newest committee's members are dialled, others no more. */
static enum ami_status dial_members(struct fleet *f, struct why *why)
{
    const struct committee *c = headers_committee(f->headers);
    for (unsigned i = 0; i < f->lanes; i++)
        for (uint8_t k = 0, index; k < f->headers->dc_count; k++) {
            struct fleet_link *l = &f->lane[i].link[k];
            l->fleet = f;
            l->lane = &f->lane[i];
            l->place = k;
            bool member = headers_is_member(f->headers, k, &index);
            AMI_TRY(dial(l, member ? c->address[index].meter : "", why));
        }
    return AMI_OK;
}

enum ami_status fleet_links_open(struct fleet *f, struct why *why)
{
    f->unblock = (struct loop_alarm){.fire = unblock, .arg = f};
    return dial_members(f, why);
}

/* Whether every DC that answers at all refuses us: then waiting is of no use. */
void fleet_links_tick(struct fleet *f)
{
    uint16_t status = AMI_OK;
    uint8_t refusing = 0;
    if (f->ever_welcomed || f->over)
        return;
    for (uint8_t k = 0; k < f->headers->dc_count; k++)
        if (f->lane[0].link[k].refused != AMI_OK) {
            status = f->lane[0].link[k].refused;
            refusing++;
        }
    if (refusing > members_f(headers_committee(f->headers)->members.count))
        fleet_fail(
            f, (enum ami_status)status,
            "%u DCs refuse this program's links: %s; is it the genesis file of this network?",
            refusing, ami_status_text((enum ami_status)status));
}
