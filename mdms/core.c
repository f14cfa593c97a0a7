/* mdms/core.c - events in, to the part that they concern; and the one write under way.
 *
 * Parts put what they want stored into the next write when the one before is done (the `..._stage`
 * functions), so that many enrolments and blocks share one sync. While a write is under way
 * `staged` is the state as it will be; when the write fails it is thrown away and everything that
 * was in it stays where it was, to be staged again.
 */
#include "mdms/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct mdms_timing mdms_timing_default(void)
{
    return (struct mdms_timing){.poll_ms = 200,
                                .silence_ms = 2000,
                                .submit_ms = 3000,
                                .retry_ms = 1000,
                                .distrust_ms = 60000};
}

/* --- what the parts share --------------------------------------------------------------------- */

uint64_t mdms_now_us(const struct mdms *m)
{
    return m->env.clock_mono_us(m->env.ctx);
}

void mdms_random(struct mdms *m, void *out, size_t size)
{
    m->env.random(m->env.ctx, out, size);
}

void mdms_log(struct mdms *m, enum env_log_level level, const char *event, const char *format, ...)
{
    char text[320];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    m->env.log(m->env.ctx, level, event, n < 0 ? "" : text);
}

struct writer mdms_frame(struct mdms *m, enum message_type type)
{
    struct writer w = writer_on(m->frame, AMI_FRAME_PEER_BYTES_MAX);
    frame_begin(&w, type);
    return w;
}

enum ami_status mdms_send(struct mdms *m, env_link link, struct span frame)
{
    return m->env.send(m->env.ctx, link, frame);
}

enum ami_status mdms_work(struct mdms *m, void (*run)(void *job), struct job *job)
{
    AMI_TRY(m->env.work(m->env.ctx, run, job));
    m->jobs++;
    return AMI_OK;
}

static enum ami_status read_done(struct mdms *m, enum mdms_table table, enum ami_status status)
{
    if (status == AMI_OK || status == AMI_NOT_FOUND || m->failed != AMI_OK)
        return status;
    m->failed = status;
    mdms_log(m, ENV_LOG_ERROR, "store_not_readable", "table=%d status=%s", (int)table,
             ami_status_name(status));
    return status;
}

enum ami_status mdms_get(struct mdms *m, enum mdms_table table, const struct mdms_key *key,
                         struct span *value)
{
    return read_done(m, table, m->c.kv.get(m->c.kv.ctx, table, key_span(key), value));
}

enum ami_status mdms_seek(struct mdms *m, enum mdms_table table, const struct mdms_key *from,
                          struct span *key, struct span *value)
{
    return read_done(m, table, m->c.kv.seek(m->c.kv.ctx, table, key_span(from), key, value));
}

enum ami_status mdms_damaged(struct mdms *m, enum mdms_table table)
{
    return read_done(m, table, AMI_DAMAGED);
}

/* --- start ------------------------------------------------------------------------------------ */

struct state_record mdms_state_initial(const struct network *net)
{
    struct state_record s;
    memset(&s, 0, sizeof s);
    s.network = net->id;
    return s;
}

static bool digest_is_zero(const sm3_digest *d)
{
    static const sm3_digest zero;
    return memcmp(d, &zero, sizeof zero) == 0;
}

static enum ami_status load_state(struct mdms *m)
{
    AMI_TRY(mdms_state_load(&m->c.kv, &m->durable));
    const struct genesis *g = m->c.genesis;
    if (!sm3_equal(&m->durable.network, &m->c.network->id))
        return AMI_WRONG_CHAIN;
    if (g == NULL)
        return digest_is_zero(&m->durable.chain) ? AMI_OK : AMI_WRONG_CHAIN;
    if (!sm3_equal(&g->network.id, &m->c.network->id))
        return AMI_WRONG_CHAIN;
    m->bind = digest_is_zero(&m->durable.chain);
    if (!m->bind && !sm3_equal(&m->durable.chain, &g->members.chain))
        return AMI_WRONG_CHAIN;
    return AMI_OK;
}

enum ami_status mdms_new(struct mdms **out, const struct mdms_config *config, const struct env *env)
{
    AMI_CHECK(config->network != NULL && config->keys != NULL && config->scheme != NULL);
    struct mdms *m = calloc(1, sizeof *m);
    uint8_t *frame = malloc(AMI_FRAME_PEER_BYTES_MAX);
    if (m == NULL || frame == NULL) {
        free(m);
        free(frame);
        return AMI_NO_MEMORY;
    }
    m->c = *config;
    m->env = *env;
    m->frame = frame;
    m->source = m->submit_to = -1;
    m->submit_deadline_us = UINT64_MAX;
    enum ami_status status = load_state(m);
    if (status != AMI_OK) {
        mdms_free(m);
        return status;
    }
    m->staged = m->durable;
    m->submitted = m->durable.settled;
    status = members_init(m);
    if (status == AMI_OK)
        status = retention_init(m);
    if (status != AMI_OK) {
        mdms_free(m);
        return status;
    }
    m->home_next = m->durable.meters;
    *out = m;
    return AMI_OK;
}

void mdms_free(struct mdms *m)
{
    if (m == NULL)
        return;
    enrol_free(m);
    follow_free(m);
    mdms_write_free(&m->write);
    free(m->frame);
    free(m);
}

/* --- the write under way ---------------------------------------------------------------------- */

static void stage_state(struct mdms *m)
{
    uint8_t bytes[256];
    struct writer w = writer_on(bytes, sizeof bytes);
    state_record_encode(&w, &m->staged);
    AMI_CHECK(writer_ok(&w));
    struct mdms_key key = key_state();
    mdms_write_put(&m->write, TABLE_STATE, &key, writer_span(&w));
}

static void write_failed(struct mdms *m, enum ami_status status)
{
    m->staged = m->durable;
    m->write_at_us = mdms_now_us(m) + (uint64_t)m->c.timing.retry_ms * 1000;
    m->stats.writes_failed++;
    m->storage_full = status == AMI_FULL;
    mdms_log(m, ENV_LOG_ERROR, "write_failed", "status=%s", ami_status_name(status));
    if (status != AMI_FULL && status != AMI_NO_MEMORY && status != AMI_AGAIN)
        m->failed = status;
}

static void parts_on_stored(struct mdms *m, enum ami_status status)
{
    members_on_stored(m, status);
    retention_on_stored(m, status);
    outbox_on_stored(m, status);
    enrol_on_stored(m, status);
    follow_on_stored(m, status);
}

/* Begins the next write when there is something to store. Blocks come last: numbers that they
 * settle never overtake those that are given out in the same write. */
static void flush(struct mdms *m)
{
    if (m->writing || m->failed != AMI_OK || mdms_now_us(m) < m->write_at_us)
        return;
    mdms_write_reset(&m->write);
    m->staged = m->durable;
    m->retained_staged = m->retained;
    bool any = outbox_stage(m);
    /* The chain must be bound before a number is given out that a genesis decides about. */
    any = enrol_stage(m) || any;
    any = members_stage(m) || any; /* behind the enrolments that it may name */
    any = retention_stage(m) || any;
    any = follow_stage(m) || any;
    if (m->failed != AMI_OK) {
        /* Something could not be read while this was put together: none of it is stored. */
        m->staged = m->durable;
        return;
    }
    if (!any)
        return;
    stage_state(m);
    enum ami_status status = AMI_NO_MEMORY;
    if (!m->write.no_memory)
        status = m->env.store(m->env.ctx, &m->write);
    if (status == AMI_OK) {
        m->writing = true;
        return;
    }
    write_failed(m, status);
    parts_on_stored(m, status);
}

void mdms_on_stored(struct mdms *m, struct mdms_write *write, enum ami_status status)
{
    AMI_CHECK(write == &m->write && m->writing);
    m->writing = false;
    if (status == AMI_OK) {
        m->durable = m->staged;
        m->storage_full = false;
        m->bind = false;
    } else {
        write_failed(m, status);
    }
    parts_on_stored(m, status);
    mdms_on_time(m);
}

/* --- events ----------------------------------------------------------------------------------- */

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void mdms_on_time(struct mdms *m)
{
    if (m->failed != AMI_OK) {
        m->env.set_alarm(m->env.ctx, UINT64_MAX);
        return;
    }
    uint64_t next = dcs_on_time(m);
    next = min_u64(next, outbox_on_time(m));
    next = min_u64(next, follow_on_time(m));
    flush(m);
    if (m->write_at_us > mdms_now_us(m))
        next = min_u64(next, m->write_at_us);
    m->env.set_alarm(m->env.ctx, next);
}

void mdms_on_open(struct mdms *m, env_link link, enum mdms_port port, uint8_t slot)
{
    AMI_CHECK(link != 0);
    if (port == MDMS_PORT_DC)
        dcs_on_open(m, link, slot);
    mdms_on_time(m);
}

void mdms_on_identity(struct mdms *m, env_link link, const struct credential_identity *who)
{
    int member = dcs_member_of(m, link);
    if (member < 0)
        return;
    m->dc[member].identified = true;
    m->dc[member].who = *who;
}

/* A meter that dials greets as it greets a DC; all it can have here is an enrolment. */
static void welcome(struct mdms *m, env_link link, struct span body)
{
    struct meter_hello hello;
    if (meter_hello_parse(&hello, body) != AMI_OK) {
        m->stats.frames_bad++;
        m->env.close(m->env.ctx, link);
        return;
    }
    struct meter_welcome answer = {.status = AMI_OK, .dc = m->c.network->name};
    if (hello.scheme != m->c.network->scheme)
        answer.status = AMI_WRONG_SCHEME;
    struct writer w = mdms_frame(m, MSG_METER_WELCOME);
    meter_welcome_encode(&w, &answer);
    /* When it has no room the device repeats its request. */
    (void)mdms_send(m, link, writer_span(&w));
}

void mdms_on_frame(struct mdms *m, env_link link, struct span frame)
{
    enum message_type type;
    struct span body;
    int member = dcs_member_of(m, link);
    if (m->failed != AMI_OK)
        return;
    if (frame_open(frame, &type, &body) != AMI_OK) {
        m->stats.frames_bad++;
        m->env.close(m->env.ctx, link);
        return;
    }
    if (member >= 0) {
        dcs_on_frame(m, (uint8_t)member, type, body);
    } else if (type == MSG_ENROL_REQUEST) {
        enrol_on_request(m, link, false, 0, body);
    } else if (type == MSG_METER_HELLO) {
        welcome(m, link, body);
    } else {
        m->stats.frames_bad++;
        m->env.close(m->env.ctx, link);
    }
    mdms_on_time(m);
}

void mdms_on_writable(struct mdms *m, env_link link)
{
    (void)link;
    outbox_on_links(m);
    mdms_on_time(m);
}

void mdms_on_closed(struct mdms *m, env_link link)
{
    int member = dcs_member_of(m, link);
    if (member >= 0)
        dcs_on_closed(m, (uint8_t)member);
    mdms_on_time(m);
}

void mdms_on_work(struct mdms *m, void *job)
{
    struct job *j = job;
    AMI_CHECK(m->jobs > 0);
    m->jobs--;
    switch (j->kind) {
    case JOB_ENROL:
        enrol_on_work(m, job);
        break;
    case JOB_FOLLOW:
        follow_on_work(m, job);
        break;
    }
    mdms_on_time(m);
}

/* --- for people ------------------------------------------------------------------------------- */

enum ami_status mdms_failed(const struct mdms *m)
{
    return m->failed;
}

void mdms_stats(const struct mdms *m, struct mdms_stats *out)
{
    *out = m->stats;
    out->state = m->durable;
    out->enrolling = enrol_count(m);
    out->source = m->source;
    out->storage_full = m->storage_full;
    out->links_ready = 0;
    for (unsigned i = 0; i < MDMS_DCS_MAX; i++) {
        out->links_ready += m->dc[i].state == DC_READY;
        out->bad_blocks[i] = m->dc[i].bad_blocks;
    }
}
