/* sim/fleet.c - the shell around a fleet of meters: what meter/fleet.c is to the process. */
#include "sim/world.h"

#include "base/check.h"
#include "keyagree/enrol.h"
#include "wire/report.h"

#include <stdlib.h>
#include <string.h>

#define BACKLOG_MAX  48 /* unsettled reports of a meter; it measures no more meanwhile */
#define LINK_FIRST   1  /* a meter's link to a DC is its place + 1 */
#define ASK_AGAIN_US (2 * SIM_SECOND) /* for the next keys */

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
    AMI_CHECK(link >= LINK_FIRST && link < LINK_FIRST + METER_DCS);
    uint64_t place = link - LINK_FIRST;
    if (f->dials.link[place] == 0 || !f->welcomed[place])
        return AMI_CLOSED;
    if (frame.size > 1 && frame.data[1] == MSG_AGREE_FLIGHT1 && m->core.u.agree.insist)
        m->host->world->count.rare[SIM_RARE_INSISTED]++;
    return sim_net_send(m->host, f->dials.link[place], frame);
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
    AMI_CHECK(sequence >= 1 && sequence <= sim_book(m)->reports);
    return &sim_book(m)->report[sequence - 1];
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
    const struct sim_book *b = sim_book(ctx);
    size_t i = from == 0 ? 0 : from - 1;
    if (i < b->settled_below)
        i = b->settled_below;
    while (i < b->reports && b->report[i].settled)
        i++;
    if (i >= b->reports)
        return AMI_NOT_FOUND;
    memcpy(buffer, b->report[i].record, b->report[i].size);
    *size = b->report[i].size;
    return AMI_OK;
}

static void outbox_put(struct sim_meter *m, const struct sim_put *p)
{
    struct sim_book *b = sim_book(m);
    AMI_CHECK(p->put.write.sequence == b->reports + 1);
    if (b->reports == b->reports_capacity) {
        b->reports_capacity = b->reports_capacity == 0 ? 16 : 2 * b->reports_capacity;
        b->report = realloc(b->report, b->reports_capacity * sizeof *b->report);
        AMI_CHECK(b->report != NULL);
    }
    struct sim_report *r = &b->report[b->reports++];
    *r = (struct sim_report){.sequence = p->put.write.sequence,
                             .made_us = m->host->world->now_us,
                             .commitment = p->commitment,
                             .size = (uint16_t)p->put.size};
    r->record = malloc(p->put.size);
    AMI_CHECK(r->record != NULL);
    memcpy(r->record, p->put.record, p->put.size);
    b->open++;
    m->host->world->count.reports_made++;
    sim_check_made(m->host, m, r);
}

static void outbox_settle(struct sim_meter *m, uint64_t sequence)
{
    struct sim_book *b = sim_book(m);
    struct sim_report *r = report_of(m, sequence);
    if (r->settled)
        return;
    r->settled = true;
    free(r->record);
    r->record = NULL;
    b->open--;
    while (b->settled_below < b->reports && b->report[b->settled_below].settled)
        b->settled_below++;
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
    if (f->stopped || (w->plan.reports_max != 0 && sim_book(m)->reports >= w->plan.reports_max))
        return;
    uint64_t every = w->plan.report_every_us;
    measure_later(m, every / 2 + sim_random_below(&m->host->random, every));
    if (sim_book(m)->open >= BACKLOG_MAX || m->renews)
        return;
    struct reading reading[SIM_READINGS_MAX];
    size_t readings = w->plan.readings_per_report == 0 ? 1 : w->plan.readings_per_report;
    AMI_CHECK(readings <= SIM_READINGS_MAX);
    for (size_t i = 0; i < readings; i++)
        reading[i] = (struct reading){
            .obis = {1, 0, 1, 8, 0, 255},
            .unit = UNIT_KWH,
            .scaler = -3,
            .interval_s = 900,
            .start_s = SIM_START_MS / 1000 + (int64_t)(w->now_us / 1000000 + 900 * i),
            .mantissa = (int64_t)sim_random_below(&m->host->random, 100000)};
    uint8_t bytes[AMI_REPORT_BYTES_MAX];
    struct writer out = writer_on(bytes, sizeof bytes);
    AMI_CHECK(report_encode(&out, REPORT_READINGS, reading, readings) == AMI_OK);
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

/* The newest committee's members are dialled, others no more. */
static void dial_members(struct sim_host *h)
{
    struct sim_fleet *f = h->as.fleet;
    for (uint8_t k = 0, index; k < f->headers->dc_count; k++) {
        bool member = headers_is_member(f->headers, k, &index);
        f->dials.number[k] = member ? sim_number_of(h->world, &f->headers->dc[k]) : SIM_NOBODY;
        if (!member && f->dials.link[k] != 0)
            sim_net_close(h, f->dials.link[k]);
        sim_dials_dial(h, &f->dials, k, k);
    }
}

static void on_open(struct sim_host *h, env_link link)
{
    struct sim_fleet *f = h->as.fleet;
    const struct genesis *g = &h->world->cast->genesis;
    const struct sim_end *end = &h->world->end[link];
    const bool wanted = sim_dials_opened(h, &f->dials, link);
    f->welcomed[end->member] = false;
    struct meter_hello hello = {
        .chain = g->members.chain, .scheme = g->network.scheme, .epoch = f->headers->newest};
    uint8_t frame[64];
    struct writer w = writer_on(frame, sizeof frame);
    frame_begin(&w, MSG_METER_HELLO);
    meter_hello_encode(&w, &hello);
    AMI_CHECK(writer_ok(&w));
    if (!wanted || sim_net_send(h, link, writer_span(&w)) != AMI_OK)
        sim_net_close(h, link);
}

static void on_closed(struct sim_host *h, env_link link)
{
    struct sim_fleet *f = h->as.fleet;
    struct sim_world *w = h->world;
    uint8_t place = w->end[link].member;
    if (!sim_dials_lost(&f->dials, place, link))
        return;
    bool was = f->welcomed[place];
    f->welcomed[place] = false;
    f->shared.open &= ~(1u << place);
    for (size_t i = 0; was && i < f->count; i++)
        meter_on_closed(&f->meter[i].core, place + (env_link)LINK_FIRST);
    sim_dials_again(h, &f->dials, place);
}

static void on_welcome(struct sim_host *h, env_link link, uint8_t place, struct span body)
{
    struct sim_fleet *f = h->as.fleet;
    struct meter_welcome welcome;
    if (meter_welcome_parse(&welcome, body) != AMI_OK || welcome.status != AMI_OK ||
        !ami_id_equal(&welcome.dc, &f->headers->dc[place])) {
        sim_net_close(h, link);
        return;
    }
    f->welcomed[place] = true;
    f->shared.open |= 1u << place;
    for (size_t i = 0; i < f->count; i++)
        meter_on_open(&f->meter[i].core, place + (env_link)LINK_FIRST);
}

/* --- changes of the committee ---------------------------------------------------------------- */

static void keep_proof(struct sim_fleet *f, struct span body)
{
    f->proof = realloc(f->proof, (f->proofs + 1) * sizeof f->proof[0]);
    AMI_CHECK(f->proof != NULL);
    f->proof[f->proofs].bytes = malloc(body.size);
    AMI_CHECK(f->proof[f->proofs].bytes != NULL);
    memcpy(f->proof[f->proofs].bytes, body.data, body.size);
    f->proof[f->proofs++].size = body.size;
}

static enum ami_status advance(struct sim_fleet *f, struct span body)
{
    static struct membership_proof proof; /* large */
    AMI_TRY(membership_proof_parse(&proof, body));
    return headers_advance(f->headers, &proof);
}

static void on_membership(struct sim_host *h, env_link link, struct span body)
{
    struct sim_fleet *f = h->as.fleet;
    enum ami_status status = advance(f, body);
    if (status == AMI_WRONG_EPOCH)
        return; /* known already */
    if (status != AMI_OK) {
        sim_net_close(h, link);
        return;
    }
    h->world->count.rare[SIM_RARE_COMMITTEE_TOLD]++;
    sim_tell(h->world, h, "knows the committee of epoch %u", (unsigned)f->headers->newest);
    keep_proof(f, body);
    dial_members(h);
}

/* --- the next keys of a meter ---------------------------------------------------------------- */

static void ask_later(struct sim_meter *m, uint64_t after_us)
{
    struct sim_event e = {.type = SIM_ENROL, .link = index_of(m)};
    sim_push_for(m->host, e, m->host->world->now_us + after_us);
}

static bool writes_something(const struct sim_fleet *f, const struct sim_meter *m)
{
    for (size_t i = 0; i < f->writes; i++)
        if (f->write[i].owner == m)
            return true;
    return false;
}

/* Any DC that is there passes it on to the MDMS. */
static void ask_for_keys(struct sim_meter *m)
{
    struct sim_fleet *f = m->host->as.fleet;
    uint8_t frame[ENROL_REQUEST_BYTES_MAX + 2];
    struct writer w = writer_on(frame, sizeof frame);
    frame_begin(&w, MSG_ENROL_REQUEST);
    write_raw(&w, m->pending->request, m->pending->request_size);
    AMI_CHECK(writer_ok(&w));
    const uint64_t known = f->headers->dc_count;
    uint64_t first = sim_random_below(&m->host->random, known);
    for (uint64_t i = 0; i < known; i++) {
        uint64_t place = (first + i) % known;
        if (f->dials.link[place] == 0 || !f->welcomed[place])
            continue;
        (void)sim_net_send(m->host, f->dials.link[place], writer_span(&w)); /* asked again */
        return;
    }
}

static void on_ask(struct sim_meter *m)
{
    struct sim_fleet *f = m->host->as.fleet;
    if (!m->renews)
        return;
    ask_later(m, ASK_AGAIN_US);
    if (sim_book(m)->open != 0 || writes_something(f, m))
        return; /* a report that waits under the old key would wait for ever */
    if (m->pending == NULL)
        m->pending = sim_enrol_begin(m->host->world, ENROL_METER, &m->key[m->epoch - 1]->name,
                                     m->epoch + 1, m->home.size == 0 ? NULL : &m->home);
    ask_for_keys(m);
}

static void route(struct sim_fleet *f, struct sim_meter *m);
static void start_meter(struct sim_meter *m);

static void on_keys(struct sim_host *h, struct span body)
{
    struct sim_fleet *f = h->as.fleet;
    struct sim_meter *m = NULL;
    struct reader r = reader_on(body);
    struct ami_id name = read_id(&r);
    if (!r.failed)
        HASH_FIND(by_name, f->by_name, &name, sizeof name, m);
    if (m == NULL || m->pending == NULL || sim_book(m)->open != 0 || writes_something(f, m))
        return;
    struct device_keys *keys = sim_enrol_finish(h->world, m->pending, body);
    if (keys == NULL)
        return; /* a refusal, or nothing at all: it is asked for again */
    h->world->count.rare[SIM_RARE_RELAYED]++;
    free(m->pending);
    m->pending = NULL;
    m->renews = false;
    HASH_DELETE(by_name, f->by_name, m);
    meter_wipe(&m->core);
    route(f, m);
    AMI_CHECK(keys->epoch == m->epoch + 1);
    m->key[m->epoch++] = keys;
    sim_tell(h->world, h, "%s: has its keys of epoch %u, home %s", name.text, (unsigned)m->epoch,
             keys->home_dc.text);
    start_meter(m);
}

void sim_fleet_renew(struct sim_meter *m, const struct ami_id *home)
{
    m->renews = true;
    m->home = home != NULL ? *home : (struct ami_id){0};
    if (m->host->up)
        ask_later(m, 1);
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
    uint8_t place = h->world->end[link].member;
    enum message_type type;
    struct span body;
    struct sim_meter *m = NULL;
    if (f->dials.link[place] != link)
        return;
    if (frame_open(frame, &type, &body) != AMI_OK ||
        (!f->welcomed[place] && type != MSG_METER_WELCOME)) {
        sim_net_close(h, link);
        return;
    }
    struct reader r = reader_on(body);
    switch ((int)type) {
    case MSG_METER_WELCOME:
        on_welcome(h, link, place, body);
        return;
    case MSG_MEMBERSHIP:
        on_membership(h, link, body);
        return;
    case MSG_ENROL_REPLY:
        on_keys(h, body);
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
        if (!meter_shared_hears(&f->shared, place + (env_link)LINK_FIRST, leads.term,
                                h->world->now_us))
            return;
        for (size_t i = 0; i < f->count; i++)
            meter_on_leads(&f->meter[i].core, place + (env_link)LINK_FIRST,
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
    meter_on_frame(&m->core, place + (env_link)LINK_FIRST, type, body);
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
    if (kind == METER_NOTE_REFUSED && value == AMI_REVOKED)
        w->count.rare[SIM_RARE_OUTCAST]++;
    if (w->watch != NULL && w->watch->noted != NULL)
        w->watch->noted(w->watch->ctx, m, kind, value);
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
        f->meter[i].epoch = 1;
        f->meter[i].key[0] = &h->world->cast->meter[first + i];
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
        struct sim_meter *m = &f->meter[i];
        for (uint32_t e = 0; e < m->epoch; e++) {
            for (size_t k = 0; k < m->book[e].reports; k++)
                free(m->book[e].report[k].record);
            free(m->book[e].report);
            if (e > 0)
                free((void *)(uintptr_t)m->key[e]);
        }
        free(m->pending);
    }
    for (size_t i = 0; i < f->proofs; i++)
        free(f->proof[i].bytes);
    free(f->proof);
    free(f->write);
    free(f->meter);
    free(f->headers);
    free(f);
}

static void start_meter(struct sim_meter *m)
{
    struct sim_fleet *f = m->host->as.fleet;
    m->alarm_us = UINT64_MAX;
    meter_init(&m->core, &f->shared, m, m->key[m->epoch - 1], sim_book(m)->reports + 1,
               sim_book(m)->settled_below + 1);
    HASH_ADD_KEYPTR(by_name, f->by_name, &m->core.keys.name, sizeof m->core.keys.name, m);
    meter_start(&m->core);
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
    sim_dials_init(&f->dials, SIM_PORT_METER);
    if (w->plan.meter_spread_ms != 0)
        f->shared.timing.spread_ms = w->plan.meter_spread_ms;
    if (w->plan.meter_answer_ms != 0)
        f->shared.timing.answer_ms = w->plan.meter_answer_ms;
    if (w->plan.meter_answer_ms_max != 0)
        f->shared.timing.answer_ms_max = w->plan.meter_answer_ms_max;
    if (w->plan.meter_insist_ms != 0)
        f->shared.timing.insist_ms = w->plan.meter_insist_ms;
    memset(f->welcomed, 0, sizeof f->welcomed);
    for (size_t i = 0; i < f->proofs; i++)
        AMI_CHECK(advance(f, span_of(f->proof[i].bytes, f->proof[i].size)) == AMI_OK);
    for (size_t i = 0; i < f->count; i++) {
        struct sim_meter *m = &f->meter[i];
        start_meter(m);
        measure_later(m, sim_random_below(&h->random, w->plan.report_every_us));
        if (m->renews)
            ask_later(m, ASK_AGAIN_US);
    }
    dial_members(h);
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
    /* What was told last may not have been on the disk yet; it is told again. */
    if (f->proofs > 0 && sim_random_chance(&h->world->faults, 300000))
        free(f->proof[--f->proofs].bytes);
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
    case SIM_ENROL:
        on_ask(&f->meter[e->link]);
        break;
    case SIM_MEASURE:
        measure(&f->meter[e->link]);
        break;
    default:
        AMI_CHECK(false && "no event of a fleet");
    }
}
