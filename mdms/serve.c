/* mdms/serve.c - `ami-mdms serve`: the shell around the core.
 *
 * One loop owns everything. Devices come in on the listener, the members' peer addresses are
 * dialled; frames go to the core as they are. The work pool opens and issues, the storage thread
 * writes, the loop reads the store. What the core wants of the world is the table `environment`.
 */
#include "base/check.h"
#include "base/table.h"
#include "channel/file.h"
#include "mdms/cli.h"
#include "mdms/core.h"
#include "mdms/seed.h"
#include "mdms/serving.h"
#include "net/file.h"
#include "net/link.h"
#include "net/logline.h"
#include "net/loop.h"
#include "net/pool.h"
#include "net/writer.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LISTEN_DEFAULT    "127.0.0.1:7400"
#define CONNECTIONS_MAX   1024
#define STRANGER_MS       30000
#define HALF_FRAME_MS     10000
#define GRANT_US          (60u * 1000000u) /* how long newly issued keys make a device known */
#define ENROL_QUEUE_BYTES (1u << 20)
#define DC_QUEUE_BYTES    (8u << 20)
#define DC_RETRY_MS_MAX   2000
#define REPORT_PERIOD_US  (10u * 1000000u)
#define STOP_US           (2u * 1000000u)
#define OPERATORS_LOOK_US (1u * 1000000u) /* how often the list of revoked ones is looked at */
#define JOBS_MAX          (MDMS_ENROL_MAX + 4 * MDMS_FOLLOW_WINDOW)

static struct common_options common;
static const char *genesis_file, *listen_address = LISTEN_DEFAULT, *until_text, *log_level = "info";
static int64_t threads, map_mib, poll_ms = 200;
static bool allow_single;

static struct trust_files trust_files;

static const struct option_spec options[] = {
    {.name = "dir",
     .letter = 'd',
     .kind = OPTION_TEXT,
     .value = &common.dir,
     .argument = "DIR",
     .help = "the MDMS's directory",
     .required = true},
    {.name = "genesis",
     .letter = 'g',
     .kind = OPTION_TEXT,
     .value = &genesis_file,
     .argument = "FILE",
     .help = "the ledger's genesis (default DIR/genesis.json); without any only DCs can enrol"},
    {.name = "listen",
     .letter = 'l',
     .kind = OPTION_TEXT,
     .value = &listen_address,
     .argument = "HOST:PORT",
     .help = "where devices enrol (default " LISTEN_DEFAULT ")"},
    CLI_OPTION_PASSPHRASE,
    {.name = "until",
     .kind = OPTION_TEXT,
     .value = &until_text,
     .argument = "WHAT=N",
     .help = "end when dcs, meters (enrolled), committed (of them), height, reports or readings "
             "reach N"},
    {.name = "x509-roots",
     .kind = OPTION_TEXT,
     .value = &trust_files.roots,
     .argument = "FILE",
     .help = "speak with DCs that have X.509 certificates under these roots (PEM)"},
    {.name = "x509-crls",
     .kind = OPTION_TEXT,
     .value = &trust_files.crls,
     .argument = "FILE",
     .help = "their authorities' revocation lists (PEM), needed with roots; or none"},
    {.name = "x509-chain",
     .kind = OPTION_TEXT,
     .value = &trust_files.chain,
     .argument = "FILE",
     .help = "speak with DCs under this certificate over the MDMS's key (PEM, leaf first), from "
             "`credential x509-request`"},
    {.name = "cfl-certificate",
     .kind = OPTION_TEXT,
     .value = &trust_files.cfl_certificate,
     .argument = "FILE",
     .help = "speak with DCs under this CFL certificate, from `credential mdms`"},
    {.name = "poll",
     .kind = OPTION_DURATION,
     .value = &poll_ms,
     .min = 10,
     .max = 60000,
     .argument = "TIME",
     .help = "how often to ask for new blocks (default 200ms)"},
    {.name = "threads",
     .kind = OPTION_INT,
     .value = &threads,
     .min = 0,
     .max = 256,
     .argument = "N",
     .help = "threads of the work pool (default one per core)"},
    {.name = "map-size",
     .kind = OPTION_INT,
     .value = &map_mib,
     .min = 1,
     .max = 1 << 24,
     .argument = "MIB",
     .help = "greatest size of the store (default 65536)"},
    {.name = "log-level",
     .kind = OPTION_TEXT,
     .value = &log_level,
     .argument = "LEVEL",
     .help = "debug, info (default), warn or error"},
    {.name = "allow-single",
     .kind = OPTION_FLAG,
     .value = &allow_single,
     .help = "for tests: accept a genesis with a single DC"},
    {0},
};

/* --- --until ---------------------------------------------------------------------------------- */

struct until {
    enum until_what {
        UNTIL_NEVER,
        UNTIL_DCS,
        UNTIL_METERS,
        UNTIL_COMMITTED,
        UNTIL_HEIGHT,
        UNTIL_REPORTS,
        UNTIL_READINGS
    } what;
    uint64_t n;
};

static enum ami_status until_parse(const char *text, struct until *out, struct why *why)
{
    static const char *const names[] = {
        [UNTIL_DCS] = "dcs=",       [UNTIL_METERS] = "meters=",   [UNTIL_COMMITTED] = "committed=",
        [UNTIL_HEIGHT] = "height=", [UNTIL_REPORTS] = "reports=", [UNTIL_READINGS] = "readings="};
    *out = (struct until){UNTIL_NEVER, 0};
    if (text == NULL)
        return AMI_OK;
    for (int i = UNTIL_DCS; i <= UNTIL_READINGS; i++) {
        int64_t n;
        size_t size = strlen(names[i]);
        if (strncmp(text, names[i], size) == 0 && integer_parse(text + size, &n) == AMI_OK &&
            n >= 0) {
            out->what = (enum until_what)i;
            out->n = (uint64_t)n;
            return AMI_OK;
        }
    }
    return why_set(why, AMI_BAD_ARGUMENT,
                   "--until %s: expected dcs=N, meters=N, committed=N, height=N, reports=N or "
                   "readings=N",
                   text);
}

static bool until_reached(const struct until *u, const struct state_record *s)
{
    switch (u->what) {
    case UNTIL_NEVER:
        return false;
    case UNTIL_DCS:
        return s->dcs >= u->n;
    case UNTIL_METERS:
        return s->meters >= u->n;
    case UNTIL_COMMITTED:
        return s->meters >= u->n && s->settled == s->last;
    case UNTIL_HEIGHT:
        return s->height >= u->n;
    case UNTIL_REPORTS:
        return s->reports >= u->n;
    case UNTIL_READINGS:
        return s->readings >= u->n;
    }
    return false;
}

/* --- the process ------------------------------------------------------------------------------ */

struct serve;

/* A dialled member; what its link events come with. */
struct dialled {
    struct serve *serve;
    uint8_t member;
    struct link_dialer *dialer;
    struct link_security security;
};

struct open_link {
    env_link id;
    bool device;         /* it came in on the listener */
    uint64_t granted_us; /* when it last got newly issued keys; 0: not yet */
    UT_hash_handle hh;
};

struct serve {
    struct mdms_keys keys;
    struct speaker speaker;
    struct genesis *genesis; /* NULL: none yet */
    char genesis_path[PATH_MAX];
    int lock;
    struct mdms_store *store;
    struct loop *loop;
    struct links *links;
    struct link_listener *listener;
    struct dialled dialled[MDMS_DCS_MAX];
    struct open_link *open;
    struct work_pool *pool;
    struct disk_writer *writer;
    struct log_sink *log;
    struct loop_alarm core_alarm, report_alarm, stop_alarm, operators_alarm;
    char operators_folder[PATH_MAX], operators_path[PATH_MAX];
    struct timespec operators_mtime;
    uint64_t operators_number;        /* of the list in the file; 0: none */
    sm3_digest operators_digest;      /* of its bytes: there may be others of its number */
    enum ami_status operators_status; /* of writing it last */
    struct mdms *core;
    struct until until;
    bool stopping;
    enum ami_status status; /* how it ends */
    struct why why;
    struct why seed_why;  /* why the seed set cannot be opened; empty: it can, or is not there */
    struct why write_why; /* of the storage thread's last write; read when the write is back */
    uint64_t enrolled;    /* mdms_stats when something was last sent */
    struct state_record reported;
    uint64_t drops_reported[LINK_DROP_REASONS];
};

static void stop_now(void *arg)
{
    struct serve *s = arg;
    loop_stop(s->loop);
}

/* What strangers did on the open port. */
static void report_drops(struct serve *s)
{
    const struct link_counters *c = link_listener_counters(s->listener);
    if (memcmp(c->dropped, s->drops_reported, sizeof c->dropped) == 0)
        return;
    memcpy(s->drops_reported, c->dropped, sizeof c->dropped);
    char text[256];
    size_t at = 0;
    for (int i = 0; i < LINK_DROP_REASONS && at < sizeof text; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, " %s=%" PRIu64,
                               link_drop_name((enum link_drop_reason)i), c->dropped[i]);
    log_say(s->log, ENV_LOG_WARN, "strangers_dropped", "open=%u opened=%" PRIu64 "%s",
            link_listener_open_now(s->listener), c->opened, text);
}

/* Ends in order: no newcomers, answers that are queued leave, then the loop stops. */
static void stop(struct serve *s)
{
    if (s->stopping)
        return;
    s->stopping = true;
    report_drops(s);
    log_say(s->log, ENV_LOG_INFO, "stopping", "links=%u", HASH_COUNT(s->open));
    link_listener_stop(s->listener);
    for (unsigned i = 0; i < MDMS_DCS_MAX; i++) {
        if (s->dialled[i].dialer != NULL)
            link_dialer_stop(s->dialled[i].dialer);
        s->dialled[i].dialer = NULL;
    }
    for (struct open_link *l = s->open; l != NULL; l = l->hh.next)
        link_close(s->links, l->id);
    loop_alarm_set(s->loop, &s->stop_alarm,
                   HASH_COUNT(s->open) == 0 ? clock_mono_us() : clock_mono_us() + STOP_US);
}

static void fail(struct serve *s, enum ami_status status, const struct why *why)
{
    if (s->status == AMI_OK) {
        s->status = status;
        if (why != NULL)
            s->why = *why;
    }
    stop(s);
}

static void look(struct serve *s)
{
    struct mdms_stats stats;
    mdms_stats(s->core, &stats);
    if (mdms_failed(s->core) != AMI_OK)
        fail(s, mdms_failed(s->core), &s->write_why);
    else if (stats.storage_full)
        fail(s, AMI_FULL, &s->write_why);
    else if (until_reached(&s->until, &stats.state))
        stop(s);
}

/* --- the environment -------------------------------------------------------------------------- */

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

static void env_set_alarm(void *ctx, uint64_t at_us)
{
    struct serve *s = ctx;
    loop_alarm_set(s->loop, &s->core_alarm, at_us);
}

/* A device that was answered with keys is no stranger any more, for a while: it enrols others
 * through the same link, or it goes. A stored answer is sent to whoever repeats the request, so it
 * says nothing about who asks; only newly issued keys, for a code that serves once, do. Else one
 * old request on many links would hold the port against everybody. */
static bool is_grant(struct span frame)
{
    enum message_type type;
    struct span body;
    struct enrol_reply reply;
    return frame_open(frame, &type, &body) == AMI_OK && type == MSG_ENROL_REPLY &&
           enrol_reply_parse(&reply, body) == AMI_OK && reply.status == AMI_OK;
}

static enum ami_status env_send(void *ctx, env_link link, struct span frame)
{
    struct serve *s = ctx;
    struct mdms_stats stats;
    mdms_stats(s->core, &stats);
    bool issued = stats.enrolled != s->enrolled; /* counted just before its answer is sent */
    s->enrolled = stats.enrolled;
    if (issued && is_grant(frame)) {
        struct open_link *l;
        HASH_FIND(hh, s->open, &link, sizeof link, l);
        if (l != NULL)
            l->granted_us = clock_mono_us();
        link_mark_known(s->links, link);
    }
    return link_send(s->links, link, frame);
}

static void env_close(void *ctx, env_link link)
{
    struct serve *s = ctx;
    struct open_link *l;
    HASH_FIND(hh, s->open, &link, sizeof link, l);
    /* Who breaks a rule on the open port is dropped and counted; a DC is merely left. */
    if (l != NULL && l->device)
        link_drop(s->links, link, LINK_DROP_GARBAGE);
    else
        link_close(s->links, link);
}

static void env_random(void *ctx, void *out, size_t size)
{
    (void)ctx;
    secret_random(out, size);
}

static void env_log(void *ctx, enum env_log_level level, const char *event, const char *detail)
{
    struct serve *s = ctx;
    log_say(s->log, level, event, "%s", detail);
}

static enum ami_status env_work(void *ctx, void (*run)(void *job), void *job)
{
    struct serve *s = ctx;
    return work_pool_submit(s->pool, run, job);
}

static enum ami_status env_store(void *ctx, void *write)
{
    struct serve *s = ctx;
    return disk_writer_put(s->writer, write);
}

static struct env environment(struct serve *s)
{
    return (struct env){.ctx = s,
                        .clock_mono_us = env_mono,
                        .clock_wall_ms = env_wall,
                        .set_alarm = env_set_alarm,
                        .send = env_send,
                        .close = env_close,
                        .random = env_random,
                        .log = env_log,
                        .work = env_work,
                        .store = env_store};
}

/* --- events in -------------------------------------------------------------------------------- */

static void on_core_alarm(void *arg)
{
    struct serve *s = arg;
    mdms_on_time(s->core);
    look(s);
}

static void on_work(void *ctx, void *job)
{
    struct serve *s = ctx;
    mdms_on_work(s->core, job);
    look(s);
}

/* Storage thread. */
static void execute(void *ctx, void *const *writes, size_t count, enum ami_status *status)
{
    struct serve *s = ctx;
    bool broken = false;
    for (size_t i = 0; i < count; i++) {
        status[i] = broken ? AMI_AGAIN : mdms_store_write(s->store, writes[i], &s->write_why);
        broken = status[i] != AMI_OK;
    }
}

static void on_stored(void *ctx, void *write, enum ami_status status)
{
    struct serve *s = ctx;
    mdms_on_stored(s->core, write, status);
    look(s);
}

static void add_link(struct serve *s, env_link link, bool device)
{
    struct open_link *l = calloc(1, sizeof *l);
    if (l == NULL) {
        link_close(s->links, link);
        return;
    }
    l->id = link;
    l->device = device;
    HASH_ADD(hh, s->open, id, sizeof l->id, l);
}

static void on_device_open(void *ctx, env_link link, const char *remote)
{
    struct serve *s = ctx;
    (void)remote;
    add_link(s, link, true);
    if (s->stopping)
        link_close(s->links, link);
    mdms_on_open(s->core, link, MDMS_PORT_ENROL, 0);
}

static void on_frame(struct serve *s, env_link link, struct span frame)
{
    if (s->stopping)
        return;
    mdms_on_frame(s->core, link, frame);
    look(s);
}

static void on_device_frame(void *ctx, env_link link, struct span frame)
{
    on_frame(ctx, link, frame);
}

static void on_closed(struct serve *s, env_link link)
{
    struct open_link *l;
    HASH_FIND(hh, s->open, &link, sizeof link, l);
    if (l != NULL) {
        HASH_DEL(s->open, l);
        free(l);
    }
    mdms_on_closed(s->core, link);
    if (s->stopping && HASH_COUNT(s->open) == 0)
        loop_alarm_set(s->loop, &s->stop_alarm, clock_mono_us());
}

static void on_device_closed(void *ctx, env_link link, enum ami_status why)
{
    (void)why;
    on_closed(ctx, link);
}

static void on_device_writable(void *ctx, env_link link)
{
    struct serve *s = ctx;
    mdms_on_writable(s->core, link);
}

static void on_dc_open(void *ctx, env_link link, const char *remote)
{
    struct dialled *d = ctx;
    (void)remote;
    const struct credential_identity who = *link_peer(d->serve->links, link);
    add_link(d->serve, link, false);
    mdms_on_open(d->serve->core, link, MDMS_PORT_DC, d->member);
    mdms_on_identity(d->serve->core, link, &who);
}

static enum channel_fault accept_dc(void *ctx, const struct credential_identity *who)
{
    (void)ctx; /* which DC it has to be, the core knows */
    return who->role == CREDENTIAL_DC ? FAULT_NONE : FAULT_USAGE;
}

static void on_dc_refused(void *ctx, const char *remote, enum channel_fault fault,
                          const struct credential_identity *who, enum channel_standing standing)
{
    const struct dialled *d = ctx;
    log_say(d->serve->log, ENV_LOG_WARN, "channel_refused", "remote=%s reason=%s: %s%s%s", remote,
            channel_fault_name(fault), channel_fault_text(fault), channel_standing_text(standing),
            who == NULL ? "" : who->name.text);
}

static void on_dc_frame(void *ctx, env_link link, struct span frame)
{
    struct dialled *d = ctx;
    on_frame(d->serve, link, frame);
}

static void on_dc_closed(void *ctx, env_link link, enum ami_status why)
{
    struct dialled *d = ctx;
    (void)why;
    on_closed(d->serve, link);
}

static void on_dc_writable(void *ctx, env_link link)
{
    struct dialled *d = ctx;
    mdms_on_writable(d->serve->core, link);
}

static void on_signal(void *arg)
{
    stop(arg);
}

/* Devices that were issued keys and then stayed without a reason. */
static void drop_idle(struct serve *s)
{
    uint64_t now = clock_mono_us();
    for (struct open_link *l = s->open; l != NULL; l = l->hh.next)
        if (l->granted_us != 0 && now - l->granted_us > GRANT_US)
            link_drop(s->links, l->id, LINK_DROP_MUTE);
}

/* The list of revoked operators, which `ami-mdms operator` writes, goes to the DCs. */
static void read_operators(struct serve *s)
{
    struct why why = {0};
    struct revoked_list *found = calloc(1, sizeof *found);
    uint8_t *list = NULL;
    size_t size;
    enum ami_status status =
        found == NULL ? AMI_NO_MEMORY
                      : file_read(s->operators_path, AMI_REVOKED_BYTES_MAX, &list, &size, &why);
    if (status == AMI_OK) {
        status = mdms_operators(s->core, span_of(list, size));
        const bool fits = status != AMI_FULL;
        /* An older one is what keep_operators is for. One that cannot be joined stays where it is:
         * nothing else may have what is on it. */
        if (status == AMI_OK || status == AMI_EXISTS || !fits)
            status = revoked_list_read(found, span_of(list, size));
        if (status == AMI_OK) {
            uint64_t number;
            s->operators_number = found->number;
            s->operators_digest =
                sm3(fits ? span_of(list, size) : mdms_operators_known(s->core, &number));
        } else
            (void)why_set(&why, status, "%.300s is no list of revoked operators to go by: %s",
                          s->operators_path, ami_status_text(status));
        free(list);
    }
    free(found);
    if (status == AMI_OK)
        return;
    log_say(s->log, ENV_LOG_WARN, "operators_bad", "%s", why.text);
    if (file_is_worth_another_look(status))
        s->operators_mtime = (struct timespec){0};
}

/* The folder, which was put back from before, gets what the DCs had: so that the next list is made
 * from that. AMI_AGAIN: there is another file by now. */
static enum ami_status write_operators(struct serve *s, struct span list, struct why *why)
{
    int lock = -1;
    AMI_TRY(directory_make(s->operators_folder, 0755, why));
    AMI_TRY(directory_lock(s->operators_folder, &lock, why));
    struct timespec seen = s->operators_mtime;
    enum ami_status status = file_changed(s->operators_path, &seen)
                                 ? AMI_AGAIN
                                 : file_write(s->operators_path, list, FILE_MODE_PUBLIC, why);
    if (status == AMI_OK)
        (void)file_changed(s->operators_path, &s->operators_mtime);
    directory_unlock(lock);
    return status;
}

static void keep_operators(struct serve *s)
{
    struct why why = {0};
    uint64_t number;
    const struct span list = mdms_operators_known(s->core, &number);
    const sm3_digest digest = sm3(list);
    if (list.size == 0 || sm3_equal(&digest, &s->operators_digest))
        return;
    const enum ami_status status = write_operators(s, list, &why);
    if (status == AMI_OK) {
        log_say(s->log, ENV_LOG_WARN, "operators_kept", "number=%" PRIu64 " before=%" PRIu64,
                number, s->operators_number);
        s->operators_number = number;
        s->operators_digest = digest;
    } else if (status != AMI_AGAIN && status != AMI_IN_USE && status != s->operators_status)
        log_say(s->log, ENV_LOG_ERROR, "operators_not_kept", "%s", why.text);
    s->operators_status = status;
}

static void look_at_operators(void *arg)
{
    struct serve *s = arg;
    loop_alarm_set(s->loop, &s->operators_alarm, clock_mono_us() + OPERATORS_LOOK_US);
    if (file_changed(s->operators_path, &s->operators_mtime))
        read_operators(s);
    keep_operators(s);
}

/* A line now and then, when something happened. */
static void on_report(void *arg)
{
    struct serve *s = arg;
    struct mdms_stats t;
    mdms_stats(s->core, &t);
    if (memcmp(&t.state, &s->reported, sizeof t.state) != 0)
        log_say(s->log, ENV_LOG_INFO, "progress",
                "height=%" PRIu64 " reports=%" PRIu64 " readings=%" PRIu64 " meters=%" PRIu64
                " outbox=%" PRIu64 " bad_seals=%" PRIu64 " dcs_connected=%u",
                t.state.height, t.state.reports, t.state.readings, t.state.meters,
                t.state.last - t.state.settled, t.state.bad_seals, t.links_ready);
    s->reported = t.state;
    drop_idle(s);
    report_drops(s);
    if (speaker_look(&s->speaker))
        link_judge(s->links, clock_wall_ms());
    loop_alarm_set(s->loop, &s->report_alarm, clock_mono_us() + REPORT_PERIOD_US);
}

/* --- start ------------------------------------------------------------------------------------ */

/* DCs are believed by the public seed set, so it must be ours; a seed that cannot be opened is for
 * the next `ami-mdms operator` to be stopped by. */
static enum ami_status check_seed(struct serve *s, const struct network *net,
                                  const char *passphrase, struct why *why)
{
    const enum ami_status status = seed_check(common.dir, net, passphrase, &s->seed_why);
    if (status == AMI_OK)
        s->seed_why = (struct why){""};
    if (status == AMI_FOREIGN_KEY)
        *why = s->seed_why;
    return status == AMI_FOREIGN_KEY ? status : AMI_OK;
}

static enum ami_status open_files(struct serve *s, struct why *why)
{
    struct network net;
    char passphrase[PASSPHRASE_BYTES_MAX];
    AMI_TRY(cli_network(common.dir, &net, why));
    AMI_TRY(directory_lock(common.dir, &s->lock, why));
    AMI_TRY(
        cli_genesis_path(common.dir, genesis_file, s->genesis_path, sizeof s->genesis_path, why));
    if (s->genesis_path[0] != '\0') {
        s->genesis = calloc(1, sizeof *s->genesis);
        if (s->genesis == NULL)
            return AMI_NO_MEMORY;
        AMI_TRY(cli_genesis(s->genesis_path, &net, allow_single, s->genesis, why));
        genesis_remember_signers(s->genesis);
    }
    AMI_TRY(cli_passphrase(common.passphrase_file, false, passphrase, why));
    enum ami_status status = cli_keys(common.dir, &net, passphrase, &s->keys, why);
    if (status == AMI_OK)
        status = check_seed(s, &net, passphrase, why);
    secret_wipe(passphrase, sizeof passphrase);
    AMI_TRY(status);
    return mdms_store_open(&s->store, common.dir, (uint64_t)map_mib << 20, why);
}

/* The core says which DCs are the members now. */
static void dial(void *ctx, unsigned slot, const char *address)
{
    struct serve *s = ctx;
    struct dialled *d = &s->dialled[slot];
    struct why why = {""};
    if (d->dialer != NULL)
        link_dialer_stop(d->dialer);
    *d = (struct dialled){.serve = s, .member = (uint8_t)slot};
    d->security.config = (struct channel_config){.own = &s->speaker.own,
                                                 .trust = &s->speaker.watch.trust.trust,
                                                 .suites = CHANNEL_SUITES_ALL,
                                                 .accept = accept_dc};
    if (address == NULL || s->stopping)
        return;
    const struct link_limits limits = {.frame_bytes_max = AMI_FRAME_PEER_BYTES_MAX,
                                       .queue_bytes_max = DC_QUEUE_BYTES,
                                       .half_frame_ms = HALF_FRAME_MS,
                                       .idle_ms = LINK_IDLE_MS,
                                       .silent_ms = LINK_SILENT_MS};
    const struct link_events events = {.ctx = d,
                                       .on_open = on_dc_open,
                                       .on_frame = on_dc_frame,
                                       .on_closed = on_dc_closed,
                                       .on_writable = on_dc_writable,
                                       .on_refused = on_dc_refused,
                                       .security = &d->security};
    if (link_dial(s->links, address, &limits, DC_RETRY_MS_MAX, &events, &d->dialer, &why) != AMI_OK)
        log_say(s->log, ENV_LOG_ERROR, "not_dialled", "%s", why.text);
}

static enum ami_status make_core(struct serve *s, struct why *why)
{
    struct mdms_config config = {.network = &s->keys.net,
                                 .genesis = s->genesis,
                                 .keys = &s->keys,
                                 .scheme = scheme_by_number(s->keys.net.scheme),
                                 .kv = mdms_store_kv(s->store),
                                 .timing = mdms_timing_default(),
                                 .dial = dial,
                                 .dial_ctx = s};
    config.timing.poll_ms = (uint32_t)poll_ms;
    if (config.scheme == NULL)
        return why_set(why, AMI_WRONG_SCHEME,
                       "the network's key agreement (number %u) is not known to this program",
                       (unsigned)s->keys.net.scheme);
    struct env env = environment(s);
    enum ami_status status = mdms_new(&s->core, &config, &env);
    if (status == AMI_WRONG_CHAIN && s->genesis == NULL)
        return why_set(why, status,
                       "%s follows a ledger already: give its genesis file with --genesis",
                       common.dir);
    if (status == AMI_WRONG_CHAIN)
        return why_set(why, status,
                       "%s: it is the genesis of another ledger than the one that %s follows",
                       s->genesis_path, common.dir);
    return status == AMI_OK
               ? AMI_OK
               : why_set(why, status, "%s/store: %s", common.dir, ami_status_text(status));
}

static enum ami_status make_machinery(struct serve *s)
{
    enum env_log_level level;
    AMI_CHECK(log_level_parse(log_level, &level) == AMI_OK); /* looked at in run() */
    s->log = log_open(stderr, level, 0);
    s->loop = loop_new();
    if (s->log == NULL || s->loop == NULL || !loop_catch_signals(s->loop, on_signal, s))
        return AMI_NO_MEMORY;
    s->core_alarm = (struct loop_alarm){.fire = on_core_alarm, .arg = s};
    s->report_alarm = (struct loop_alarm){.fire = on_report, .arg = s};
    s->stop_alarm = (struct loop_alarm){.fire = stop_now, .arg = s};
    s->operators_alarm = (struct loop_alarm){.fire = look_at_operators, .arg = s};
    const struct disk_writer_config config = {
        .ctx = s, .execute = execute, .on_done = on_stored, .writes_max = 1};
    s->links = links_new(s->loop);
    s->pool = work_pool_new(s->loop, (unsigned)threads, JOBS_MAX, on_work, s);
    s->writer = disk_writer_new(s->loop, &config);
    return s->links == NULL || s->pool == NULL || s->writer == NULL ? AMI_NO_MEMORY : AMI_OK;
}

static enum ami_status start_links(struct serve *s, struct why *why)
{
    const struct link_limits from_devices = {.frame_bytes_max = AMI_FRAME_METER_BYTES_MAX,
                                             .queue_bytes_max = ENROL_QUEUE_BYTES,
                                             .connections_max = CONNECTIONS_MAX,
                                             .stranger_ms = STRANGER_MS,
                                             .half_frame_ms = HALF_FRAME_MS};
    const struct link_events device_events = {.ctx = s,
                                              .on_open = on_device_open,
                                              .on_frame = on_device_frame,
                                              .on_closed = on_device_closed,
                                              .on_writable = on_device_writable};
    return link_listen(s->links, listen_address, &from_devices, &device_events, &s->listener, why);
}

static enum ami_status start(struct serve *s, struct why *why)
{
    AMI_TRY(until_parse(until_text, &s->until, why));
    AMI_TRY(open_files(s, why));
    AMI_TRY(make_machinery(s));
    if (s->seed_why.text[0] != '\0')
        log_say(s->log, ENV_LOG_WARN, "seed_not_checked", "%s", s->seed_why.text);
    s->speaker =
        (struct speaker){.keys = &s->keys, .dir = common.dir, .files = trust_files, .log = s->log};
    AMI_TRY(speaker_start(&s->speaker, why));
    AMI_TRY(make_core(s, why));
    AMI_TRY(start_links(s, why));
    AMI_TRY(
        path_join(s->operators_folder, sizeof s->operators_folder, common.dir, "operators", why));
    AMI_TRY(path_join(s->operators_path, sizeof s->operators_path, s->operators_folder,
                      "revoked.list", why));
    mdms_on_time(s->core);
    look_at_operators(s);
    on_report(s);
    look(s);
    return AMI_OK;
}

static void end(struct serve *s)
{
    links_free(s->links);
    work_pool_free(s->pool);
    disk_writer_free(s->writer);
    mdms_free(s->core);
    mdms_store_close(s->store);
    loop_free(s->loop);
    log_close(s->log);
    while (s->open != NULL) {
        struct open_link *l = s->open;
        HASH_DEL(s->open, l);
        free(l);
    }
    if (s->lock >= 0)
        directory_unlock(s->lock);
    secret_wipe(&s->keys, sizeof s->keys);
    speaker_end(&s->speaker);
    free(s->genesis);
    free(s);
}

static int run(int argc, char **argv, void *ctx)
{
    (void)argc;
    (void)argv;
    (void)ctx;
    enum env_log_level level;
    struct why why = {0};
    if (log_level_parse(log_level, &level) != AMI_OK) {
        (void)why_set(&why, AMI_BAD_ARGUMENT, "--log-level %s: it is debug, info, warn or error",
                      log_level);
        return cli_fail(false, AMI_BAD_ARGUMENT, &why);
    }
    struct serve *s = calloc(1, sizeof *s);
    if (s == NULL)
        return program_fail(PROGRAM, false, AMI_NO_MEMORY, NULL);
    s->lock = -1;
    enum ami_status status = start(s, &why);
    if (status == AMI_OK) {
        printf("ready enrol=%s network=%s members=%u\n", link_listener_address(s->listener),
               s->keys.net.name.text,
               s->genesis == NULL ? 0u : (unsigned)s->genesis->members.count);
        fflush(stdout);
        loop_run(s->loop);
        status = s->status;
        why = s->why;
    }
    end(s);
    return status == AMI_OK ? EXIT_STATUS_OK : cli_fail(false, status, &why);
}

const struct command_spec COMMAND_SERVE = {
    .name = "serve",
    .summary = "enrol devices, follow the ledger, store the readings",
    .example = "ami-mdms serve --dir mdms --genesis genesis.json --listen 0.0.0.0:7400 "
               "--passphrase-file pass",
    .options = options,
    .run = run,
};
