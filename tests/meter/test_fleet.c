/* A fleet and its links, over TCP, with DCs that lie. What a single meter does is tested in
 * test_core.c; here are the things that concern all meters of a process. */
#include "tests/harness.h"

#include "base/check.h"
#include "crypto/secret.h"
#include "meter/fleet_internal.h"
#include "tests/meter/enrolled.h"

#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define METERS 3
#define SHOUTS 500

/* Two DCs with a loop and a thread of their own: the first refuses everybody and says, as often as
 * it can and each time in another term, that it leads; the second only listens. */
struct dcs {
    struct loop *loop;
    struct links *links;
    struct link_listener *listener[2];
    struct ami_id name[2];
    uint64_t term;
    unsigned flights[2];
    struct ami_id came[METERS]; /* to the second one */
    size_t came_count;
    struct loop *fleet_loop;
    struct loop_task all_came; /* in the fleet's loop */
};

struct dc {
    struct dcs *all;
    unsigned index;
};

static struct fleet *fleet;

static void stop_fleet(void *arg)
{
    (void)arg;
    fleet_stop_measuring(fleet, NULL);
}

static void say(struct dcs *d, env_link link, const struct writer *w)
{
    AMI_CHECK(writer_ok(w));
    /* What finds no room is lost; the fleet had enough of it then. */
    (void)!link_send(d->links, link, writer_span(w));
}

static void shout(struct dcs *d, env_link link)
{
    for (int i = 0; i < SHOUTS; i++) {
        const struct leads leads = {.term = ++d->term, .spread_ms = UINT32_MAX};
        uint8_t frame[64];
        struct writer w = writer_on(frame, sizeof frame);
        frame_begin(&w, MSG_LEADS);
        leads_encode(&w, &leads);
        say(d, link, &w);
    }
}

static void refuse(struct dcs *d, env_link link, const struct agree_flight1 *in)
{
    const struct refused r = {.meter = in->meter, .tag = in->tag, .status = AMI_NO_QUORUM};
    uint8_t frame[128];
    struct writer w = writer_on(frame, sizeof frame);
    frame_begin(&w, MSG_REFUSED);
    refused_encode(&w, &r);
    say(d, link, &w);
}

static void note_came(struct dcs *d, const struct ami_id *meter)
{
    for (size_t i = 0; i < d->came_count; i++)
        if (ami_id_equal(&d->came[i], meter))
            return;
    AMI_CHECK(d->came_count < METERS);
    d->came[d->came_count++] = *meter;
    if (d->came_count == METERS)
        loop_post(d->fleet_loop, &d->all_came);
}

static void dc_on_frame(void *ctx, env_link link, struct span frame)
{
    const struct dc *dc = ctx;
    struct dcs *d = dc->all;
    enum message_type type;
    struct span body;
    AMI_CHECK(frame_open(frame, &type, &body) == AMI_OK);
    if (type == MSG_METER_HELLO) {
        const struct meter_welcome welcome = {.dc = d->name[dc->index], .gateway = GATEWAY_LEADER};
        uint8_t bytes[128];
        struct writer w = writer_on(bytes, sizeof bytes);
        frame_begin(&w, MSG_METER_WELCOME);
        meter_welcome_encode(&w, &welcome);
        say(d, link, &w);
        if (dc->index == 0)
            shout(d, link);
    } else if (type == MSG_AGREE_FLIGHT1) {
        struct agree_flight1 in;
        AMI_CHECK(agree_flight1_parse(&in, body) == AMI_OK);
        d->flights[dc->index]++;
        if (dc->index == 0) {
            refuse(d, link, &in);
            shout(d, link);
        } else {
            note_came(d, &in.meter);
        }
    }
}

static void *run_dcs(void *arg)
{
    struct dcs *d = arg;
    loop_run(d->loop);
    return NULL;
}

static void listen_as(struct dcs *d, struct dc *dc, struct fixture *f)
{
    const struct link_limits limits = {.frame_bytes_max = AMI_FRAME_METER_BYTES_MAX,
                                       .queue_bytes_max = 1u << 20,
                                       .connections_max = 8};
    const struct link_events events = {.ctx = dc, .on_frame = dc_on_frame};
    struct member_address *address = &f->genesis.address[dc->index];
    struct why why = {{0}};
    assert_ok(
        link_listen(d->links, "127.0.0.1:0", &limits, &events, &d->listener[dc->index], &why));
    snprintf(address->meter, sizeof address->meter, "tcp://%s",
             link_listener_address(d->listener[dc->index]));
    d->name[dc->index] = f->dc[dc->index].name;
}

/* Directory, fixture and store of so many meters, at DCs of which none is there yet. */
struct city {
    char dir[32], path[64];
    struct fixture *f;
    struct meter_store *store;
    struct log_sink *log;
    struct fleet_config config;
};

static void city_open(struct city *c, size_t meters)
{
    uint8_t file[KEYFILE_BYTES_MAX];
    struct why why = {{0}};
    snprintf(c->dir, sizeof c->dir, "/tmp/ami-fleet-XXXXXX");
    assert_non_null(mkdtemp(c->dir));
    for (size_t i = 0; i < meters; i++) {
        char name[24];
        snprintf(name, sizeof name, "m-%zu", i);
        enrolled_store(c->f, c->dir, name, span_of(file, enrolled_key_file(c->f, name, file)));
    }
    assert_ok(meter_store_open(&c->store, c->dir, METER_STORE_WRITE, &c->f->genesis.network.id,
                               &c->f->genesis.members.chain, 0, &why));
    c->log = log_open(NULL, ENV_LOG_ERROR, 0);
    snprintf(c->path, sizeof c->path, "%s/stats", c->dir);
    c->config = (struct fleet_config){.genesis = &c->f->genesis,
                                      .store = c->store,
                                      .mode = "fleet",
                                      .connections = 2,
                                      .keep = 1,
                                      .measure_ms = 60000,
                                      .drain_ms = 1,
                                      .stats_path = c->path,
                                      .quiet = true,
                                      .log = c->log};
    assert_ok(fleet_new(&fleet, &c->config, &why));
}

static void city_close(struct city *c)
{
    char command[64];
    fleet_free(fleet);
    meter_store_close(c->store);
    log_close(c->log);
    fixture_free(c->f);
    snprintf(command, sizeof command, "rm -rf '%s'", c->dir);
    assert_int_equal(system(command), 0);
}

static json_int_t figure(const json_t *stats, const char *name)
{
    const json_t *v = json_object_get(stats, name);
    assert_true(json_is_number(v));
    return (json_int_t)json_number_value(v);
}

/* protocol.md section 5: no leader can silence a meter, and much less a fleet. */
static void a_fleet_is_not_kept_by_who_says_that_it_leads(void **state)
{
    (void)state;
    struct city c = {.f = fixture_new(4, 20240102)};
    struct fixture *f = c.f;
    struct dcs d = {.all_came = {.run = stop_fleet}};
    struct dc dc[2] = {{&d, 0}, {&d, 1}};
    struct why why = {{0}};
    pthread_t thread;
    f->genesis.parameters.gateway = GATEWAY_LEADER;
    d.loop = loop_new();
    d.links = links_new(d.loop);
    assert_non_null(d.links);
    for (unsigned i = 0; i < 4; i++)
        strcpy(f->genesis.address[i].meter, "tcp://127.0.0.1:1"); /* nobody is there */
    for (unsigned i = 0; i < 2; i++)
        listen_as(&d, &dc[i], f);
    city_open(&c, METERS); /* it ends when all have come */
    struct profile_source source;
    assert_ok(profile_source_init(&source, METERS, 1, 100000, 1));
    for (size_t i = 0; i < METERS; i++)
        profile_source_meter(&source, i, fleet_name(fleet, i), 0, clock_mono_us());
    d.fleet_loop = fleet_loop(fleet);
    assert_int_equal(pthread_create(&thread, NULL, run_dcs, &d), 0);
    assert_status(fleet_run(fleet, &source.source, &why), AMI_TIMEOUT); /* nobody took a report */
    loop_stop(d.loop);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(d.came_count, METERS);
    assert_true(d.flights[0] >= 1); /* it was their home */

    json_t *stats = json_load_file(c.path, 0, NULL);
    assert_non_null(stats);
    /* However often it was said: each link is heard once in METER_LEADS_US. */
    const json_int_t rounds = 1 + figure(stats, "run_ms") * 1000 / METER_LEADS_US;
    assert_true(d.term >= SHOUTS);
    assert_in_range(figure(stats, "leads_told"), 1, METERS * rounds);
    assert_int_equal(figure(stats, "bad_frames"), 0);
    json_decref(stats);
    profile_source_free(&source);
    links_free(d.links);
    loop_free(d.loop);
    city_close(&c);
}

/* A source that has so many reports of each meter at once, and the meters' a little after one
 * another. */
struct scripted {
    struct source source;
    struct profile_source profile;
    unsigned reports;
    uint64_t start_us, stagger_us;
    struct {
        unsigned made;
        uint64_t first_us, last_us; /* when the fleet asked for it */
    } meter[FLEET_SLACK_METERS];
    uint64_t look_us[FLEET_SLACK_METERS]; /* and found any due */
    size_t looks;
};

static enum source_answer scripted_offer(void *ctx, size_t meter, uint64_t now_us, size_t rows_max,
                                         struct source_batch *out)
{
    struct scripted *e = ctx;
    out->at_us = e->start_us + meter * e->stagger_us;
    if (e->meter[meter].made == e->reports)
        return SOURCE_DONE;
    if (now_us < out->at_us)
        return SOURCE_WAIT;
    if (e->meter[meter].made++ == 0)
        e->meter[meter].first_us = now_us;
    e->meter[meter].last_us = now_us;
    if (e->looks == 0 || e->look_us[e->looks - 1] != now_us) {
        AMI_CHECK(e->looks < FLEET_SLACK_METERS);
        e->look_us[e->looks++] = now_us;
    }
    return e->profile.source.offer(&e->profile, meter, UINT64_MAX / 2, rows_max, out);
}

static void scripted_taken(void *ctx, size_t meter, const struct source_batch *batch,
                           uint64_t now_us)
{
    struct scripted *e = ctx;
    e->profile.source.taken(&e->profile, meter, batch, now_us);
}

/* A fleet of FLEET_SLACK_METERS, with nobody to report to, until all reports are made. */
static void run_scripted(struct scripted *e, unsigned reports, uint64_t stagger_us)
{
    struct city c = {.f = fixture_new(4, 20240103)};
    struct why why = {{0}};
    for (unsigned i = 0; i < 4; i++)
        strcpy(c.f->genesis.address[i].meter, "tcp://127.0.0.1:1"); /* nobody is there */
    city_open(&c, FLEET_SLACK_METERS);
    *e = (struct scripted){
        .reports = reports,
        .stagger_us = stagger_us,
        .source = {.ctx = e, .offer = scripted_offer, .taken = scripted_taken, .batch_rows = 1}};
    assert_ok(profile_source_init(&e->profile, FLEET_SLACK_METERS, 1, 1000, 1));
    for (size_t i = 0; i < FLEET_SLACK_METERS; i++)
        profile_source_meter(&e->profile, i, fleet_name(fleet, i), 0, clock_mono_us());
    e->start_us = clock_mono_us();
    assert_status(fleet_run(fleet, &e->source, &why), AMI_UNREACHABLE);
    for (size_t i = 0; i < FLEET_SLACK_METERS; i++)
        assert_int_equal(e->meter[i].made, reports);
    profile_source_free(&e->profile);
    city_close(&c);
}

static void timers_of_many_meters_are_looked_at_together(void **state)
{
    (void)state;
    static struct scripted e;
    run_scripted(&e, 1, FLEET_SLACK_US / 10);
    for (size_t i = 1; i < e.looks; i++)
        assert_true(e.look_us[i] - e.look_us[i - 1] >= FLEET_SLACK_US);
}

/* What a meter has at once does not wait for the next look. */
static void reports_that_are_there_at_once_are_made_at_once(void **state)
{
    (void)state;
    static struct scripted e;
    run_scripted(&e, 5, 0);
    for (size_t i = 0; i < FLEET_SLACK_METERS; i++)
        assert_int_equal(e.meter[i].first_us, e.meter[i].last_us);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fleet_is_not_kept_by_who_says_that_it_leads),
        cmocka_unit_test(timers_of_many_meters_are_looked_at_together),
        cmocka_unit_test(reports_that_are_there_at_once_are_made_at_once),
    };
    if (crypto_start() != AMI_OK)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
