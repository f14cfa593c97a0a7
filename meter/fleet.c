#include "meter/fleet_internal.h"

#include "crypto/secret.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STORE_RETRY_US 5000u

/* --- the heap of timers ----------------------------------------------------------------------
 *
 * One entry per meter that waits for anything, ordered by the earlier of its two instants.
 */

static uint64_t at_of(const struct fleet_meter *m)
{
    return m->core_at_us < m->measure_at_us ? m->core_at_us : m->measure_at_us;
}

static void heap_put(struct fleet *f, size_t place, struct fleet_timer t)
{
    f->heap[place] = t;
    t.meter->heap_at = place + 1;
}

static void heap_up(struct fleet *f, size_t i)
{
    const struct fleet_timer t = f->heap[i];
    while (i > 0 && t.at_us < f->heap[(i - 1) / 2].at_us) {
        heap_put(f, i, f->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    heap_put(f, i, t);
}

static void heap_down(struct fleet *f, size_t i)
{
    const struct fleet_timer t = f->heap[i];
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= f->heap_count)
            break;
        if (child + 1 < f->heap_count && f->heap[child + 1].at_us < f->heap[child].at_us)
            child++;
        if (f->heap[child].at_us >= t.at_us)
            break;
        heap_put(f, i, f->heap[child]);
        i = child;
    }
    heap_put(f, i, t);
}

static void arm_timers(struct fleet *f)
{
    uint64_t at_us = f->heap_count == 0 ? UINT64_MAX : f->heap[0].at_us;
    if (at_us < f->timers_from_us)
        at_us = f->timers_from_us;
    if (!f->timers.armed || at_us != f->timers.at_us)
        loop_alarm_set(f->loop, &f->timers, at_us);
}

/* After one of the meter's instants changed. */
void fleet_set_timer(struct fleet_meter *m)
{
    struct fleet *f = m->fleet;
    const struct fleet_timer t = {at_of(m), m};
    if (m->heap_at == 0) {
        if (t.at_us == UINT64_MAX)
            return;
        heap_put(f, f->heap_count++, t);
        heap_up(f, m->heap_at - 1);
    } else if (t.at_us == f->heap[m->heap_at - 1].at_us) {
        return;
    } else if (t.at_us != UINT64_MAX) {
        f->heap[m->heap_at - 1] = t;
        heap_up(f, m->heap_at - 1);
        heap_down(f, m->heap_at - 1);
    } else {
        size_t hole = m->heap_at - 1;
        const struct fleet_timer last = f->heap[--f->heap_count];
        m->heap_at = 0;
        if (last.meter != m) {
            heap_put(f, hole, last);
            heap_up(f, hole);
            heap_down(f, last.meter->heap_at - 1);
        }
    }
    arm_timers(f);
}

/* --- the environment of the cores ------------------------------------------------------------ */

static uint64_t env_mono(void *ctx)
{
    (void)ctx;
    return clock_mono_us();
}

static int64_t env_wall(void *ctx)
{
    (void)ctx;
    return clock_wall_ms();
}

static void env_alarm(void *ctx, uint64_t at_us)
{
    struct fleet_meter *m = ctx;
    if (m->core_at_us == at_us)
        return;
    m->core_at_us = at_us;
    fleet_set_timer(m);
}

static void env_random(void *ctx, void *out, size_t size)
{
    (void)ctx;
    secret_random(out, size);
}

static void env_log(void *ctx, enum env_log_level level, const char *event, const char *detail)
{
    const struct fleet_meter *m = ctx;
    log_say(m->fleet->c.log, level, event, "meter=%s %s", m->core.keys.name.text, detail);
}

/* --- meters ---------------------------------------------------------------------------------- */

struct fleet_meter *fleet_find(struct fleet *f, const struct ami_id *name)
{
    size_t low = 0, high = f->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = ami_id_compare(&f->meter[middle].core.keys.name, name);
        if (order == 0)
            return &f->meter[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static void note_outcast(struct fleet *f, struct fleet_meter *m)
{
    enum ami_status status = meter_outcast(&m->core);
    if (status == AMI_UNKNOWN_DEVICE && clock_mono_us() - f->started_us < FLEET_UNKNOWN_GRACE_US)
        status = AMI_OK; /* its enrolment may not have reached the ledger yet */
    if (status == m->outcast)
        return;
    f->outcast_count += status != AMI_OK && m->outcast == AMI_OK;
    f->outcast_count -= status == AMI_OK && m->outcast != AMI_OK;
    m->outcast = (uint16_t)status;
    if (status == AMI_OK)
        return;
    log_say(f->c.log, ENV_LOG_ERROR, "meter_refused", "meter=%s status=%s", m->core.keys.name.text,
            ami_status_name(status));
    if (f->outcast_count == f->count)
        fleet_fail(f, status,
                   f->count == 1 ? "meter %s is refused by the network: %s; its reports stay in "
                                   "the outbox"
                                 : "every meter is refused by the network (%s is the last one): "
                                   "%s; their reports stay in the outbox",
                   m->core.keys.name.text, ami_status_text(status));
}

/* Keeps count of those in session, and of how those who lost theirs come back. */
static void count_session(struct fleet *f, struct fleet_meter *m)
{
    const bool now_in = m->core.phase == METER_IN_SESSION;
    struct fleet_return *b = &f->back;
    if (now_in == m->counted)
        return;
    m->counted = now_in;
    f->in_session += now_in ? 1 : SIZE_MAX;
    if (!now_in) {
        /* A few that agree anew are no return; when a tenth of them is out, it is one. */
        if ((b->began_us == 0 || b->all_us != 0) && f->count - f->in_session > f->count / 10)
            *b = (struct fleet_return){.began_us = clock_mono_us()};
        return;
    }
    if (b->began_us == 0)
        return;
    const uint64_t after_us = clock_mono_us() - b->began_us;
    if (b->half_us == 0 && f->in_session >= f->count / 2)
        b->half_us = after_us;
    if (b->most_us == 0 && f->in_session >= f->count - f->count / 100)
        b->most_us = after_us;
    if (b->all_us == 0 && f->in_session == f->count)
        b->all_us = after_us;
}

/* Keeps the list of its lane's paused meters. */
static void list_paused(struct fleet *f, struct fleet_meter *m)
{
    struct fleet_lane *l = &f->lane[m->lane];
    if ((m->core.phase == METER_PAUSE) == (m->paused_at != 0))
        return;
    if (m->paused_at == 0) {
        l->paused[l->paused_count++] = m;
        m->paused_at = l->paused_count;
        return;
    }
    struct fleet_meter *last = l->paused[--l->paused_count];
    l->paused[m->paused_at - 1] = last;
    last->paused_at = m->paused_at;
    m->paused_at = 0;
}

void fleet_touch(struct fleet_meter *m)
{
    struct fleet *f = m->fleet;
    list_paused(f, m);
    count_session(f, m);
    if (m->agreeing != NULL &&
        (m->core.phase != METER_AGREEING || m->core.target != m->agreeing->place))
        fleet_links_agreed(m);
    if (m->core.session_id != m->routed) {
        if (m->routed != 0)
            HASH_DELETE(by_session, f->sessions, m);
        m->routed = m->core.session_id;
        struct fleet_meter *other = NULL;
        if (m->routed != 0)
            HASH_FIND(by_session, f->sessions, &m->routed, sizeof m->routed, other);
        if (other != NULL) {
            /* Two sessions of one id, from two DCs: frames can find one of them only. The other
             * meter will miss its answers and agree anew. */
            HASH_DELETE(by_session, f->sessions, other);
            other->routed = 0;
        }
        if (m->routed != 0)
            HASH_ADD(by_session, f->sessions, routed, sizeof m->routed, m);
    }
    if (m->core.refused_by != 0 || m->outcast != AMI_OK)
        note_outcast(f, m);
}

struct load {
    struct fleet *f;
    enum ami_status status;
    struct why *why;
};

static int by_name(const void *a, const void *b)
{
    return ami_id_compare(a, b);
}

static bool load_meter(void *ctx, const struct ami_id *name, struct span file)
{
    struct load *load = ctx;
    struct fleet *f = load->f;
    if (f->c.names != NULL &&
        bsearch(name, f->c.names, f->c.name_count, sizeof *name, by_name) == NULL)
        return true;
    if (f->c.meters_max != 0 && f->count == f->c.meters_max)
        return false;
    struct device_file *device = calloc(1, sizeof *device);
    enum ami_status status = device == NULL
                                 ? AMI_NO_MEMORY
                                 : device_file_parse(device, &f->c.genesis->network, file, NULL);
    if (status == AMI_OK &&
        (device->keys.role != ENROL_METER || !ami_id_equal(&device->keys.name, name) ||
         (device->has_chain && !sm3_equal(&device->chain, &f->c.genesis->members.chain))))
        status = AMI_FOREIGN_KEY;
    if (status == AMI_OK) {
        struct fleet_meter *m = &f->meter[f->count];
        m->fleet = f;
        m->index = (uint32_t)f->count;
        m->lane = (uint8_t)(f->count % f->lanes);
        m->core_at_us = UINT64_MAX;
        m->measure_at_us = UINT64_MAX;
        m->core.keys = device->keys; /* meter_init follows in load_state */
        f->count++;
    } else {
        load->status = why_set(load->why, status, "the keys of meter %s cannot be used: %s",
                               name->text, ami_status_text(status));
    }
    if (device != NULL)
        secret_wipe(device, sizeof *device);
    free(device);
    return status == AMI_OK;
}

static bool count_key(void *ctx, const struct ami_id *name, struct span file)
{
    (void)name;
    (void)file;
    ++*(size_t *)ctx;
    return true;
}

/* State and outbox of a meter; its core begins. */
static enum ami_status load_state(struct fleet *f, struct fleet_meter *m)
{
    struct device_keys keys = m->core.keys;
    struct meter_backlog backlog = {0};
    enum ami_status status = meter_store_state(f->c.store, &keys.name, keys.epoch, &m->state);
    if (status == AMI_OK)
        status = meter_store_backlog(f->c.store, &keys.name, keys.epoch, &backlog);
    if (status == AMI_OK) {
        m->unsettled = (uint32_t)backlog.reports;
        f->outbox_reports += backlog.reports;
        f->outbox_readings += backlog.readings;
        meter_init(&m->core, &f->lane[m->lane].shared, m, &keys, m->state.next_sequence,
                   backlog.reports == 0 ? m->state.next_sequence : backlog.lowest);
    }
    secret_wipe(&keys, sizeof keys);
    return status;
}

static enum ami_status load_all(struct fleet *f, struct why *why)
{
    struct load load = {.f = f, .why = why};
    size_t known = 0;
    AMI_TRY(meter_store_each_keys(f->c.store, count_key, &known));
    f->meter = calloc(known + 1, sizeof *f->meter);
    f->heap = calloc(known + 1, sizeof *f->heap);
    if (f->meter == NULL || f->heap == NULL)
        return why_set(why, AMI_NO_MEMORY, "out of memory for %zu meters", known);
    AMI_TRY(meter_store_each_keys(f->c.store, load_meter, &load));
    AMI_TRY(load.status);
    for (size_t i = 0; f->c.names != NULL && i < f->c.name_count; i++)
        if (fleet_find(f, &f->c.names[i]) == NULL)
            return why_set(why, AMI_NOT_FOUND,
                           "meter %s is not enrolled in this directory; `ami-meter enrol` does it",
                           f->c.names[i].text);
    if (f->count == 0)
        return why_set(why, AMI_NOT_FOUND,
                       "no meter is enrolled in this directory; `ami-meter enrol` does it");
    const size_t lane_max = f->count / f->lanes + 1;
    f->paused = calloc(lane_max * f->lanes, sizeof(struct fleet_meter *));
    if (f->paused == NULL)
        return why_set(why, AMI_NO_MEMORY, "out of memory for %zu meters", f->count);
    for (unsigned i = 0; i < f->lanes; i++)
        f->lane[i].paused = f->paused + i * lane_max;
    for (size_t i = 0; i < f->count; i++) {
        struct fleet_meter *m = &f->meter[i];
        enum ami_status status = load_state(f, m);
        if (status != AMI_OK)
            return why_set(why, status, "the state of meter %s cannot be used: %s",
                           m->core.keys.name.text, ami_status_text(status));
    }
    return AMI_OK;
}

size_t fleet_count(const struct fleet *f)
{
    return f->count;
}

const struct ami_id *fleet_name(const struct fleet *f, size_t meter)
{
    AMI_CHECK(meter < f->count);
    return &f->meter[meter].core.keys.name;
}

uint32_t fleet_epoch(const struct fleet *f, size_t meter)
{
    AMI_CHECK(meter < f->count);
    return f->meter[meter].core.keys.epoch;
}

const struct meter_state *fleet_state(const struct fleet *f, size_t meter)
{
    AMI_CHECK(meter < f->count);
    return &f->meter[meter].state;
}

struct loop *fleet_loop(struct fleet *f)
{
    return f->loop;
}

/* --- measuring ------------------------------------------------------------------------------- */

/* Encodes as many of the offered rows as one report can hold. */
static enum source_answer make_report(struct fleet *f, struct fleet_meter *m, uint64_t now,
                                      uint8_t *out, size_t *size)
{
    for (size_t rows = f->source->batch_rows;; rows = (rows + 1) / 2) {
        struct source_batch *b = f->batch;
        enum source_answer answer = f->source->offer(f->source->ctx, m->index, now, rows, b);
        if (answer != SOURCE_READY)
            return answer;
        struct writer w = writer_on(out, AMI_REPORT_BYTES_MAX);
        enum ami_status status = report_encode(&w, REPORT_READINGS, b->readings, b->count);
        if (status == AMI_OK) {
            *size = w.size;
            return SOURCE_READY;
        }
        /* One row of seven registers is far below the limit, and sources check their values. */
        AMI_CHECK(status == AMI_TOO_LARGE && rows > 1);
    }
}

static void fill_put(struct fleet_put *p, struct fleet_meter *m, const struct source_batch *b)
{
    p->owner = m;
    p->readings = (uint16_t)b->count;
    p->state = m->state;
    p->state.next_sequence = m->core.next_sequence + 1;
    p->state.reports++;
    p->state.readings += b->count;
    if (b->source == NULL)
        p->state.profile_next = b->profile_next;
    p->has_source = b->source != NULL;
    if (p->has_source)
        p->source = *b->source;
    p->source_row = b->source_row;
}

static void meter_done(struct fleet_meter *m)
{
    m->measure_at_us = UINT64_MAX;
    if (!m->done) {
        m->done = true;
        m->fleet->done_count++;
    }
}

/* The report is on its way to the outbox, or was refused. */
static void made(struct fleet *f, const struct meter_making *r, struct fleet_put *p, uint64_t now)
{
    struct fleet_meter *m = p->owner;
    if (r->status == AMI_OK) {
        if (f->outbox_reports == 0)
            f->stats.last_ack_us = now;
        m->state = p->state;
        m->unsettled++;
        f->outbox_reports++;
        f->outbox_readings += p->readings;
        /* What the source wants to know of a batch; the readings are gone. */
        f->batch->count = p->readings;
        f->batch->profile_next = p->state.profile_next;
        f->batch->source_row = p->source_row;
        f->source->taken(f->source->ctx, m->index, f->batch, now);
        m->measure_at_us = now; /* again; the source says when */
        return;
    }
    fleet_put_give(f, p);
    if (r->status == AMI_AGAIN)
        m->measure_at_us = now + STORE_RETRY_US;
    else
        fleet_fail(f, r->status, "meter %s cannot store a report: %s", m->core.keys.name.text,
                   ami_status_text(r->status));
}

/* Signs and stores what was measured. */
static void make_all(struct fleet *f, uint64_t now)
{
    struct fleet_making *k = f->making;
    const size_t count = k->count;
    k->count = 0;
    meter_reports(k->of, count);
    for (size_t i = 0; i < count; i++) {
        made(f, &k->of[i], k->put[i], now);
        fleet_set_timer(k->put[i]->owner);
    }
}

/* The meter's next report, if there is one, joins those that are made together. */
static void measure(struct fleet_meter *m, uint64_t now)
{
    struct fleet *f = m->fleet;
    struct fleet_making *k = f->making;
    size_t size = 0;
    m->measure_at_us = UINT64_MAX;
    if (!f->measuring || m->done)
        return;
    if (m->unsettled >= f->backlog) {
        m->held = true; /* the source keeps the rest; an acknowledgement goes on */
        return;
    }
    struct fleet_put *p = fleet_disk_room(f, k->count + 1) ? fleet_put_take(f) : NULL;
    if (p == NULL) {
        m->measure_at_us = now + STORE_RETRY_US;
        return;
    }
    enum source_answer answer = make_report(f, m, now, k->report[k->count], &size);
    if (answer == SOURCE_READY) {
        fill_put(p, m, f->batch);
        k->put[k->count] = p;
        k->of[k->count] = (struct meter_making){
            .meter = &m->core, .put = &p->put, .report = span_of(k->report[k->count], size)};
        if (++k->count == METER_MAKING_MAX)
            make_all(f, now);
        return;
    }
    fleet_put_give(f, p);
    if (answer == SOURCE_WAIT)
        m->measure_at_us = f->batch->at_us > now ? f->batch->at_us : now + 1;
    else if (answer == SOURCE_DONE)
        meter_done(m);
}

void fleet_after_settle(struct fleet_meter *m)
{
    const struct fleet *f = m->fleet;
    if (!m->held || m->unsettled >= (f->backlog + 1) / 2)
        return;
    m->held = false;
    m->measure_at_us = clock_mono_us();
    fleet_set_timer(m);
}

void fleet_poke(struct fleet *f)
{
    uint64_t now = clock_mono_us();
    for (size_t i = 0; i < f->count; i++) {
        measure(&f->meter[i], now);
        fleet_set_timer(&f->meter[i]);
    }
    make_all(f, now);
    fleet_check_over(f);
}

static uint64_t slack_us(const struct fleet *f)
{
    const uint64_t quarter_us = f->source->pace_us / 4;
    if (f->count < FLEET_SLACK_METERS)
        return 0;
    return f->source->pace_us != 0 && quarter_us < FLEET_SLACK_US ? quarter_us : FLEET_SLACK_US;
}

static void on_timers(void *arg)
{
    struct fleet *f = arg;
    uint64_t now = clock_mono_us();
    int looked = 0;
    f->timers_from_us = 0;
    do {
        for (; looked < FLEET_TIMERS_PER_FIRE && f->heap_count > 0 && f->heap[0].at_us <= now;
             looked++) {
            struct fleet_meter *m = f->heap[0].meter;
            if (m->core_at_us <= now) {
                m->core_at_us = UINT64_MAX;
                meter_on_time(&m->core);
                fleet_touch(m);
            }
            if (m->measure_at_us <= now)
                measure(m, now);
            fleet_set_timer(m);
        }
        make_all(f, now); /* whose source may have the next one at once */
    } while (looked < FLEET_TIMERS_PER_FIRE && f->heap_count > 0 && f->heap[0].at_us <= now);
    if (looked < FLEET_TIMERS_PER_FIRE)
        f->timers_from_us = now + slack_us(f);
    arm_timers(f);
    fleet_check_over(f);
}

/* --- when it is over ------------------------------------------------------------------------- */

static void end(struct fleet *f)
{
    f->over = true;
    loop_stop(f->loop);
}

void fleet_fail(struct fleet *f, enum ami_status status, const char *format, ...)
{
    if (f->over)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(f->result_why.text, sizeof f->result_why.text, format, args);
    va_end(args);
    f->result = status;
    f->measuring = false;
    end(f);
}

static void drain(struct fleet *f)
{
    if (!f->measuring)
        return;
    f->measuring = false;
    f->drain_until_us = clock_mono_us() + f->c.drain_ms * 1000u;
}

void fleet_stop_measuring(struct fleet *f, const struct why *why)
{
    if (why != NULL && !f->source_failed) {
        f->source_failed = true;
        f->source_why = *why;
    }
    drain(f);
    fleet_check_over(f);
}

void fleet_check_over(struct fleet *f)
{
    if (f->over)
        return;
    if (f->measuring && f->done_count == f->count)
        drain(f);
    if (!f->measuring && f->outbox_reports == 0 && f->writes_out == 0)
        end(f);
}

static void on_signal(void *arg)
{
    struct fleet *f = arg;
    f->stopping = true;
    f->measuring = false;
    end(f);
}

static void run_out(struct fleet *f)
{
    unsigned long long left = f->outbox_reports;
    if (!f->ever_welcomed)
        fleet_fail(f, AMI_UNREACHABLE,
                   "no DC of the genesis file could be reached (the first is %s); %llu reports "
                   "stay in the outbox",
                   f->c.genesis->address[0].meter, left);
    else
        fleet_fail(f, AMI_TIMEOUT,
                   "%llu reports (%llu readings) are not acknowledged after %llu s and stay in "
                   "the outbox; run it again to deliver them",
                   left, (unsigned long long)f->outbox_readings,
                   (unsigned long long)f->c.drain_ms / 1000);
}

/* Waiting is of no use for what belongs to refused meters alone. */
static void check_only_outcasts_left(struct fleet *f)
{
    uint64_t left = 0;
    const struct fleet_meter *last = NULL;
    if (f->over || f->measuring || f->outcast_count == 0)
        return;
    for (size_t i = 0; i < f->count; i++)
        if (f->meter[i].outcast != AMI_OK) {
            left += f->meter[i].unsettled;
            last = &f->meter[i];
        }
    if (left == f->outbox_reports && f->writes_out == 0)
        fleet_fail(f, (enum ami_status)last->outcast,
                   "%zu of %zu meters are refused by the network (%s is the last one: %s); %llu "
                   "reports of theirs stay in the outbox",
                   f->outcast_count, f->count, last->core.keys.name.text,
                   ami_status_text((enum ami_status)last->outcast), (unsigned long long)left);
}

static void on_tick(void *arg)
{
    struct fleet *f = arg;
    uint64_t now = clock_mono_us();
    if (f->measuring && f->c.measure_ms != 0 && now >= f->stop_us)
        drain(f);
    if (!f->warm && now - f->started_us >= f->c.warm_up_ms * 1000u)
        fleet_stats_begin(f);
    fleet_links_tick(f);
    fleet_check_over(f);
    check_only_outcasts_left(f);
    if (!f->over && !f->measuring && now >= f->drain_until_us)
        run_out(f);
    fleet_progress(f);
    fleet_stats_write(f);
    uint64_t next = now + FLEET_TICK_US;
    if (f->measuring && f->c.measure_ms != 0 && f->stop_us > now && f->stop_us < next)
        next = f->stop_us;
    if (!f->warm && f->started_us + f->c.warm_up_ms * 1000u < next)
        next = f->started_us + f->c.warm_up_ms * 1000u;
    if (!f->measuring && f->drain_until_us > now && f->drain_until_us < next)
        next = f->drain_until_us;
    loop_alarm_set(f->loop, &f->tick, next);
}

/* --- life ------------------------------------------------------------------------------------ */

enum ami_status fleet_new(struct fleet **out, const struct fleet_config *config, struct why *why)
{
    struct fleet *f = calloc(1, sizeof *f);
    if (f == NULL)
        return why_set(why, AMI_NO_MEMORY, "out of memory");
    f->c = *config;
    f->lanes = config->connections < 1 ? 1 : config->connections;
    AMI_CHECK(f->lanes <= FLEET_LANES_MAX);
    f->env = (struct env){.ctx = f,
                          .clock_mono_us = env_mono,
                          .clock_wall_ms = env_wall,
                          .set_alarm = env_alarm,
                          .send = fleet_env_send,
                          .random = env_random,
                          .log = env_log,
                          .store = fleet_env_store};
    f->timers = (struct loop_alarm){.fire = on_timers, .arg = f};
    f->answer_task = (struct loop_task){.run = fleet_links_answer, .arg = f};
    f->tick = (struct loop_alarm){.fire = on_tick, .arg = f};
    f->loop = loop_new();
    f->links = f->loop == NULL ? NULL : links_new(f->loop);
    f->headers = calloc(1, sizeof *f->headers);
    f->lane = calloc(f->lanes, sizeof *f->lane);
    f->batch = calloc(1, sizeof *f->batch);
    f->making = calloc(1, sizeof *f->making);
    f->answers = calloc(1, sizeof *f->answers);
    enum ami_status status = AMI_OK;
    if (f->links == NULL || f->headers == NULL || f->lane == NULL || f->batch == NULL ||
        f->making == NULL || f->answers == NULL || !fleet_disk_init(f)) {
        status = why_set(why, AMI_NO_MEMORY, "out of memory");
    } else {
        headers_init(f->headers, config->genesis);
        status = meter_store_committees(f->c.store, f->headers);
        if (status != AMI_OK)
            why_set(why, status, "the committees stored with the meters: %s",
                    ami_status_text(status));
        for (unsigned i = 0; i < f->lanes; i++) {
            struct meter_shared *s = &f->lane[i].shared;
            meter_shared_init(s, config->genesis, f->headers, &f->env);
            s->disk.next = fleet_disk_next;
            s->note = fleet_note;
        }
        if (status == AMI_OK)
            status = load_all(f, why);
        /* The more meters follow a lost DC, the longer they take to come back: 30 us each. */
        for (unsigned i = 0; i < f->lanes; i++)
            f->lane[i].shared.timing.spread_ms += (uint32_t)(f->count * 30 / 1000);
    }
    if (status != AMI_OK) {
        fleet_free(f);
        return status;
    }
    *out = f;
    return AMI_OK;
}

void fleet_free(struct fleet *f)
{
    if (f == NULL)
        return;
    links_free(f->links);
    fleet_disk_end(f);
    HASH_CLEAR(by_session, f->sessions);
    for (size_t i = 0; i < f->count; i++)
        meter_wipe(&f->meter[i].core);
    loop_free(f->loop);
    fleet_disk_free(f);
    free(f->headers);
    free(f->lane);
    free(f->paused);
    free(f->batch);
    free(f->making);
    free(f->answers);
    free(f->meter);
    free(f->heap);
    free(f);
}

static void start(struct fleet *f)
{
    uint64_t now = clock_mono_us();
    f->started_us = now;
    f->stats.last_ack_us = f->stats.since_us = now;
    f->warm = f->c.warm_up_ms == 0;
    f->measuring = true;
    f->stop_us = now + f->c.measure_ms * 1000u;
    for (size_t i = 0; i < f->count; i++) {
        meter_start(&f->meter[i].core);
        fleet_touch(&f->meter[i]);
        f->meter[i].measure_at_us = now;
        fleet_set_timer(&f->meter[i]);
    }
    loop_alarm_set(f->loop, &f->tick, now);
}

enum ami_status fleet_run(struct fleet *f, struct source *source, struct why *why)
{
    f->source = source;
    f->backlog = f->c.backlog != 0 ? f->c.backlog : UINT32_MAX;
    if (f->c.backlog == 0 && source->bounded)
        f->backlog = FLEET_BACKLOG_MAX;
    AMI_TRY(fleet_links_open(f, why));
    if (!loop_catch_signals(f->loop, on_signal, f))
        return why_set(why, AMI_IO, "the system refuses to catch signals");
    progress_begin(&f->progress, stderr, f->c.quiet, "readings acknowledged", "readings",
                   source->total);
    start(f);
    loop_run(f->loop);
    f->over = true;
    fleet_disk_end(f);
    if (f->result == AMI_OK && f->disk_status != AMI_OK) {
        /* The last writes, after the loop had ended. */
        f->result = f->disk_status;
        f->result_why = f->disk_why;
    }
    fleet_progress(f);
    progress_end(&f->progress, NULL);
    fleet_stats_write(f);
    if (f->source_failed)
        return why_set(why, AMI_BAD_ENCODING, "%s%s%.200s", f->source_why.text,
                       f->result != AMI_OK ? "; " : "", f->result_why.text);
    if (f->result != AMI_OK)
        return why_set(why, f->result, "%s", f->result_why.text);
    if (f->stopping && f->outbox_reports != 0)
        log_say(f->c.log, ENV_LOG_WARN, "stopped",
                "%llu reports stay in the outbox; the next run delivers them",
                (unsigned long long)f->outbox_reports);
    return AMI_OK;
}
