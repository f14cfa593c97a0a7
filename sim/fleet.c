/* sim/fleet.c - the shell around a fleet of meters: what meter/fleet.c is to the process. */
#include "sim/world.h"

#include "base/check.h"
#include "keyagree/enrol.h"
#include "wire/report.h"

#include <stdlib.h>
#include <string.h>

#define BACKLOG_MAX 48 /* unsettled reports of a meter; it measures no more meanwhile */
#define LINK_FIRST  1  /* a meter's link to a member is its index + 1 */

struct sim_meter_write {
    struct meter_write *write;
    struct sim_meter *owner;
};

/* A report on its way to the outbox. */
struct sim_put {
    struct meter_put put;
    sm3_digest commitment;
};

/* --- environment of one meter ---------------------------------------------------------------- */

static uint64_t env_mono(void *ctx)
{
    return sim_host_mono_us(((struct sim_meter *)ctx)->host);
}

static int64_t env_wall(void *ctx)
{
    return sim_host_wall_ms(((struct sim_meter *)ctx)->host);
}

static uint64_t index_of(const struct sim_meter *m)
{
    return (uint64_t)(m - m->host->as.fleet->meter);
}

static void env_alarm(void *ctx, uint64_t at_us)
{
    struct sim_meter *m = ctx;
    uint64_t at = at_us == UINT64_MAX ? UINT64_MAX : sim_host_world_us(m->host, at_us);
    if (at == m->alarm_us)
        return;
    m->alarm_us = at;
    struct sim_event e = {.type = SIM_METER_ALARM, .link = index_of(m), .u.number = at};
    if (at != UINT64_MAX)
        sim_push_for(m->host, e, at);
}

static enum ami_status env_send(void *ctx, env_link link, struct span frame)
{
    struct sim_meter *m = ctx;
    struct sim_fleet *f = m->host->as.fleet;
    AMI_CHECK(link >= LINK_FIRST && link < LINK_FIRST + SIM_MEMBERS);
    uint64_t member = link - LINK_FIRST;
    if (f->to_member[member] == 0 || !f->welcomed[member])
        return AMI_CLOSED;
    if (frame.size > 1 && frame.data[1] == MSG_AGREE_FLIGHT1 && m->core.u.agree.insist)
        m->host->world->count.rare[SIM_RARE_INSISTED]++;
    return sim_net_send(m->host, f->to_member[member], frame);
}

static void env_close(void *ctx, env_link link)
{
    (void)ctx;
    (void)link; /* a meter does not close what it shares */
}

static void env_random(void *ctx, void *out, size_t size)
{
    sim_random_bytes(&((struct sim_meter *)ctx)->host->random, out, size);
}

static void env_log(void *ctx, enum env_log_level level, const char *event, const char *detail)
{
    struct sim_meter *m = ctx;
    (void)level;
    sim_tell(m->host->world, m->host, "%s: %s %s", m->core.keys.name.text, event, detail);
}

static struct sim_report *report_of(struct sim_meter *m, uint64_t sequence)
{
    AMI_CHECK(sequence >= 1 && sequence <= m->reports);
    return &m->report[sequence - 1];
}

static enum ami_status env_store(void *ctx, void *write)
{
    struct sim_meter *m = ctx;
    struct sim_fleet *f = m->host->as.fleet;
    struct meter_write *w = write;
    if (f->writes == f->writes_capacity) {
        f->writes_capacity = f->writes_capacity == 0 ? 64 : 2 * f->writes_capacity;
        f->write = realloc(f->write, f->writes_capacity * sizeof *f->write);
        AMI_CHECK(f->write != NULL);
    }
    f->write[f->writes++] = (struct sim_meter_write){w, m};
    if (w->kind == METER_WRITE_SETTLE)
        sim_check_acknowledged(m->host, m, report_of(m, w->sequence));
    sim_push_for(m->host, (struct sim_event){.type = SIM_STORED}, sim_host_disk_us(m->host));
    return AMI_OK;
}

/* --- the outbox ------------------------------------------------------------------------------ */

static enum ami_status outbox_next(void *ctx, uint64_t from, uint8_t *buffer, size_t *size)
{
    struct sim_meter *m = ctx;
    size_t i = from == 0 ? 0 : from - 1;
    if (i < m->settled_below)
        i = m->settled_below;
    while (i < m->reports && m->report[i].settled)
        i++;
    if (i >= m->reports)
        return AMI_NOT_FOUND;
    memcpy(buffer, m->report[i].record, m->report[i].size);
    *size = m->report[i].size;
    return AMI_OK;
}

static void outbox_put(struct sim_meter *m, const struct sim_put *p)
{
    AMI_CHECK(p->put.write.sequence == m->reports + 1);
    if (m->reports == m->reports_capacity) {
        m->reports_capacity = m->reports_capacity == 0 ? 16 : 2 * m->reports_capacity;
        m->report = realloc(m->report, m->reports_capacity * sizeof *m->report);
        AMI_CHECK(m->report != NULL);
    }
    struct sim_report *r = &m->report[m->reports++];
    *r = (struct sim_report){.sequence = p->put.write.sequence,
                             .made_us = m->host->world->now_us,
                             .commitment = p->commitment,
                             .size = (uint16_t)p->put.size};
    r->record = malloc(p->put.size);
    AMI_CHECK(r->record != NULL);
    memcpy(r->record, p->put.record, p->put.size);
    m->open++;
    m->host->world->count.reports_made++;
    sim_check_made(m->host, m, r);
}

static void outbox_settle(struct sim_meter *m, uint64_t sequence)
{
    struct sim_report *r = report_of(m, sequence);
    if (r->settled)
        return;
    r->settled = true;
    free(r->record);
    r->record = NULL;
    m->open--;
    while (m->settled_below < m->reports && m->report[m->settled_below].settled)
        m->settled_below++;
}

/* The oldest write is on the disk (or lost with the process: the core is not told then). */
static void write_done(struct sim_fleet *f, bool durable, bool told)
{
    struct sim_meter_write w = f->write[0];
    f->writes--;
    memmove(&f->write[0], &f->write[1], f->writes * sizeof f->write[0]);
    if (w.write->kind == METER_WRITE_PUT) {
        struct sim_put *p = (struct sim_put *)(void *)w.write;
        if (durable)
            outbox_put(w.owner, p);
        if (told)
            meter_on_stored(&w.owner->core, w.write, AMI_OK);
        free(p);
        return;
    }
    if (durable)
        outbox_settle(w.owner, w.write->sequence);
    if (told)
        meter_on_stored(&w.owner->core, w.write, AMI_OK);
}

/* --- measuring ------------------------------------------------------------------------------- */

static void measure_later(struct sim_meter *m, uint64_t after_us)
{
    struct sim_event e = {.type = SIM_MEASURE, .link = index_of(m)};
    sim_push_for(m->host, e, m->host->world->now_us + after_us);
}

static void measure(struct sim_meter *m)
{
    struct sim_world *w = m->host->world;
    struct sim_fleet *f = m->host->as.fleet;
    if (f->stopped || (w->plan.reports_max != 0 && m->reports >= w->plan.reports_max))
        return;
    uint64_t every = w->plan.report_every_us;
    measure_later(m, every / 2 + sim_random_below(&m->host->random, every));
    if (m->open >= BACKLOG_MAX)
        return;
    struct reading reading = {.obis = {1, 0, 1, 8, 0, 255},
                              .unit = UNIT_KWH,
                              .scaler = -3,
                              .interval_s = 900,
                              .start_s = SIM_START_MS / 1000 + (int64_t)(w->now_us / 1000000),
                              .mantissa = (int64_t)sim_random_below(&m->host->random, 100000)};
    uint8_t bytes[128];
    struct writer out = writer_on(bytes, sizeof bytes);
    AMI_CHECK(report_encode(&out, REPORT_READINGS, &reading, 1) == AMI_OK);
    struct sim_put *p = calloc(1, sizeof *p);
    AMI_CHECK(p != NULL);
    if (meter_report(&m->core, &p->put, writer_span(&out)) != AMI_OK) {
        free(p);
        return;
    }
    struct report_submit record;
    AMI_CHECK(report_submit_parse(&record, span_of(p->put.record, p->put.size)) == AMI_OK);
    p->commitment = report_commitment(record.salt, record.report);
}

/* --- links ----------------------------------------------------------------------------------- */

static void dial(struct sim_host *h, uint8_t member, uint64_t after_us)
{
    struct sim_world *w = h->world;
    uint16_t to = member;
    if (member < w->dcs - w->plan.dcs && sim_random_chance(&w->net, 500000))
        to = (uint16_t)(w->plan.dcs + member);
    sim_net_dial(h, to, SIM_PORT_METER, member, after_us);
}

static void on_open(struct sim_host *h, env_link link)
{
    struct sim_fleet *f = h->as.fleet;
    const struct genesis *g = &h->world->cast->genesis;
    uint8_t member = h->world->end[link].member;
    f->to_member[member] = link;
    f->welcomed[member] = false;
    struct meter_hello hello = {
        .chain = g->members.chain, .scheme = g->network.scheme, .epoch = f->headers->newest};
    uint8_t frame[64];
    struct writer w = writer_on(frame, sizeof frame);
    frame_begin(&w, MSG_METER_HELLO);
    meter_hello_encode(&w, &hello);
    AMI_CHECK(writer_ok(&w));
    if (sim_net_send(h, link, writer_span(&w)) != AMI_OK)
        sim_net_close(h, link);
}

static void on_closed(struct sim_host *h, env_link link)
{
    struct sim_fleet *f = h->as.fleet;
    struct sim_world *w = h->world;
    uint8_t member = w->end[link].member;
    if (f->to_member[member] != link)
        return;
    bool was = f->welcomed[member];
    f->to_member[member] = 0;
    f->welcomed[member] = false;
    f->shared.open &= ~(1u << member);
    for (size_t i = 0; was && i < f->count; i++)
        meter_on_closed(&f->meter[i].core, member + (env_link)LINK_FIRST);
    dial(h, member, 200 * SIM_MS + sim_random_below(&w->net, 800 * SIM_MS));
}

static void on_welcome(struct sim_host *h, env_link link, uint8_t member, struct span body)
{
    struct sim_fleet *f = h->as.fleet;
    struct meter_welcome welcome;
    if (meter_welcome_parse(&welcome, body) != AMI_OK || welcome.status != AMI_OK ||
        !ami_id_equal(&welcome.dc, &h->world->cast->genesis.members.member[member].name)) {
        sim_net_close(h, link);
        return;
    }
    f->welcomed[member] = true;
    f->shared.open |= 1u << member;
    for (size_t i = 0; i < f->count; i++)
        meter_on_open(&f->meter[i].core, member + (env_link)LINK_FIRST);
}

/* Frames of a session find its meter by the session's id. */
static void route(struct sim_fleet *f, struct sim_meter *m)
{
    if (m->routed == m->core.session_id)
        return;
    if (m->routed != 0)
        HASH_DELETE(by_session, f->by_session, m);
    m->routed = m->core.session_id;
    if (m->routed != 0)
        HASH_ADD(by_session, f->by_session, routed, sizeof m->routed, m);
}

static void on_frame(struct sim_host *h, env_link link, struct span frame)
{
    struct sim_fleet *f = h->as.fleet;
    uint8_t member = h->world->end[link].member;
    enum message_type type;
    struct span body;
    struct sim_meter *m = NULL;
    if (f->to_member[member] != link)
        return;
    if (frame_open(frame, &type, &body) != AMI_OK ||
        (!f->welcomed[member] && type != MSG_METER_WELCOME)) {
        sim_net_close(h, link);
        return;
    }
    struct reader r = reader_on(body);
    switch ((int)type) {
    case MSG_METER_WELCOME:
        on_welcome(h, link, member, body);
        return;
    case MSG_BLOCK_PROOF: {
        enum ami_status status = headers_add(f->headers, body);
        if (status != AMI_OK && status != AMI_WRONG_EPOCH)
            sim_net_close(h, link);
        return;
    }
    case MSG_LEADS: {
        struct leads leads;
        if (leads_parse(&leads, body) != AMI_OK) {
            sim_net_close(h, link);
            return;
        }
        f->shared.leader = member;
        for (size_t i = 0; i < f->count; i++)
            meter_on_leads(&f->meter[i].core, member + (env_link)LINK_FIRST,
                           (uint64_t)leads.spread_ms * 1000u);
        return;
    }
    case MSG_AGREE_FLIGHT2:
    case MSG_REFUSED: {
        struct ami_id name = read_id(&r);
        if (!r.failed)
            HASH_FIND(by_name, f->by_name, &name, sizeof name, m);
        break;
    }
    case MSG_SESSION_ENDED:
    case MSG_SESSION_DATA: {
        uint64_t session = read_u64(&r);
        HASH_FIND(by_session, f->by_session, &session, sizeof session, m);
        break;
    }
    default:
        sim_net_close(h, link);
        return;
    }
    if (m == NULL)
        return; /* a session that is over */
    meter_on_frame(&m->core, member + (env_link)LINK_FIRST, type, body);
    route(f, m);
}

/* --- lives ----------------------------------------------------------------------------------- */

static void note(void *ctx, enum meter_note_kind kind, uint64_t value)
{
    struct sim_meter *m = ctx;
    struct sim_world *w = m->host->world;
    static const char *const names[] = {[METER_NOTE_AGREED] = "agreed after us",
                                        [METER_NOTE_REDIRECTED] = "sent on to member",
                                        [METER_NOTE_FELL_BACK] = "leaves member",
                                        [METER_NOTE_REFUSED] = "refused with status",
                                        [METER_NOTE_SENT] = "sends report",
                                        [METER_NOTE_ACKNOWLEDGED] = "acknowledged after us",
                                        [METER_NOTE_BAD_ACK] = "sees a bad acknowledgement, status",
                                        [METER_NOTE_NACK] = "report refused with status"};
    if (kind == METER_NOTE_REDIRECTED)
        w->count.rare[SIM_RARE_REDIRECTED]++;
    if (kind == METER_NOTE_FELL_BACK)
        w->count.rare[SIM_RARE_FELL_BACK]++;
    if (kind == METER_NOTE_BAD_ACK)
        w->count.rare[SIM_RARE_BAD_ACK]++;
    sim_tell(w, m->host, "%s: %s %llu", m->core.keys.name.text, names[kind],
             (unsigned long long)value);
}

void sim_fleet_new(struct sim_host *h, size_t first, size_t count)
{
    struct sim_fleet *f = calloc(1, sizeof *f);
    AMI_CHECK(f != NULL);
    h->as.fleet = f;
    f->first = first;
    f->count = count;
    f->meter = calloc(count + 1, sizeof *f->meter);
    f->headers = malloc(sizeof *f->headers);
    AMI_CHECK(f->meter != NULL && f->headers != NULL);
    for (size_t i = 0; i < count; i++) {
        f->meter[i].host = h;
        f->meter[i].number = first + i;
    }
}

static void forget(struct sim_fleet *f)
{
    for (size_t i = 0; i < f->writes; i++)
        if (f->write[i].write->kind == METER_WRITE_PUT)
            free(f->write[i].write);
    f->writes = 0;
    HASH_CLEAR(by_session, f->by_session);
    HASH_CLEAR(by_name, f->by_name);
    for (size_t i = 0; i < f->count; i++)
        f->meter[i].routed = 0;
}

void sim_fleet_free(struct sim_host *h)
{
    struct sim_fleet *f = h->as.fleet;
    forget(f);
    for (size_t i = 0; i < f->count; i++) {
        for (size_t k = 0; k < f->meter[i].reports; k++)
            free(f->meter[i].report[k].record);
        free(f->meter[i].report);
    }
    free(f->write);
    free(f->meter);
    free(f->headers);
    free(f);
}

void sim_fleet_start(struct sim_host *h)
{
    struct sim_fleet *f = h->as.fleet;
    struct sim_world *w = h->world;
    const struct sim_cast *cast = w->cast;
    f->env = (struct env){.ctx = h,
                          .clock_mono_us = env_mono,
                          .clock_wall_ms = env_wall,
                          .set_alarm = env_alarm,
                          .send = env_send,
                          .close = env_close,
                          .random = env_random,
                          .log = env_log,
                          .store = env_store};
    headers_init(f->headers, &cast->genesis);
    meter_shared_init(&f->shared, &cast->genesis, f->headers, &f->env);
    f->shared.disk.next = outbox_next;
    f->shared.note = note;
    f->shared.ack_unchecked = w->plan.ack_unchecked;
    memset(f->to_member, 0, sizeof f->to_member);
    memset(f->welcomed, 0, sizeof f->welcomed);
    for (size_t i = 0; i < f->count; i++) {
        struct sim_meter *m = &f->meter[i];
        m->alarm_us = UINT64_MAX;
        meter_init(&m->core, &f->shared, m, &cast->meter[m->number], m->reports + 1,
                   m->settled_below + 1);
        HASH_ADD_KEYPTR(by_name, f->by_name, &m->core.keys.name, sizeof m->core.keys.name, m);
        meter_start(&m->core);
        measure_later(m, sim_random_below(&h->random, w->plan.report_every_us));
    }
    for (uint8_t i = 0; i < cast->size.dcs; i++)
        dial(h, i, i);
}

void sim_fleet_crash(struct sim_host *h)
{
    struct sim_fleet *f = h->as.fleet;
    size_t durable = sim_random_below(&h->world->faults, f->writes + 1);
    while (durable-- > 0)
        write_done(f, true, false);
    forget(f);
    for (size_t i = 0; i < f->count; i++)
        meter_wipe(&f->meter[i].core);
}

size_t sim_fleet_open(const struct sim_host *h)
{
    size_t open = 0;
    for (size_t i = 0; i < h->as.fleet->count; i++)
        open += h->as.fleet->meter[i].open;
    return open;
}

void sim_fleet_on_event(struct sim_host *h, const struct sim_event *e)
{
    struct sim_fleet *f = h->as.fleet;
    struct sim_meter *m;
    switch (e->type) {
    case SIM_FRAME:
        on_frame(h, e->link, span_of(e->u.frame->bytes, e->u.frame->size));
        break;
    case SIM_OPEN:
        on_open(h, e->link);
        break;
    case SIM_CLOSED:
        on_closed(h, e->link);
        break;
    case SIM_WRITABLE:
        for (size_t i = 0; i < f->count; i++)
            if (f->meter[i].core.starved)
                meter_on_writable(&f->meter[i].core,
                                  h->world->end[e->link].member + (env_link)LINK_FIRST);
        break;
    case SIM_STORED:
        m = f->write[0].owner;
        write_done(f, true, true);
        route(f, m);
        break;
    case SIM_METER_ALARM:
        m = &f->meter[e->link];
        if (e->u.number != m->alarm_us)
            break;
        m->alarm_us = UINT64_MAX;
        meter_on_time(&m->core);
        route(f, m);
        break;
    case SIM_MEASURE:
        measure(&f->meter[e->link]);
        break;
    default:
        AMI_CHECK(false && "no event of a fleet");
    }
}
