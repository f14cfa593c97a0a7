/* node/main.c - dc-node: a data concentrator as a process.
 *
 * The shell around node/core.h: files, nng links, the LMDB store behind the storage thread, the
 * work pool, signals. In: a genesis file and a folder with keys and ledger. Out: a node of the
 * network.
 */
#include "node/shell.h"

#include "crypto/secret.h"
#include "net/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME           "dc-node"
#define SESSIONS_MAX   200000
#define POOL_TXS_MAX   50000
#define POOL_BYTES_MAX (64u << 20)
#define WORK_JOBS_MAX  64
#define PATROL_MS      (24LL * 3600 * 1000)

static struct shell_options opt = {.log_level = "info", .patrol_ms = PATROL_MS};

static int fail(enum ami_status status, const struct why *why)
{
    return program_fail(NAME, false, status, why);
}

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
    struct shell *s = ctx;
    loop_alarm_set(s->loop, &s->alarm, at_us);
}

static enum ami_status env_send(void *ctx, env_link link, struct span frame)
{
    return link_send(((struct shell *)ctx)->links, link, frame);
}

static size_t env_queued(void *ctx, env_link link)
{
    return link_queued_bytes(((struct shell *)ctx)->links, link);
}

static void env_close(void *ctx, env_link link)
{
    link_close(((struct shell *)ctx)->links, link);
}

static void env_random(void *ctx, void *out, size_t size)
{
    (void)ctx;
    secret_random(out, size);
}

static void env_log(void *ctx, enum env_log_level level, const char *event, const char *detail)
{
    log_write(((struct shell *)ctx)->log, clock_wall_ms(), level, event, detail);
}

static enum ami_status env_work(void *ctx, void (*run)(void *job), void *job)
{
    return work_pool_submit(((struct shell *)ctx)->work, run, job);
}

static enum ami_status env_store(void *ctx, void *write)
{
    return disk_writer_put(((struct shell *)ctx)->writer, write);
}

/* What is on the disk is not what was written: here, or in the patrol's eyes. It was not served,
 * but the next page may crash this process: the next start checks the whole ledger and begins a new
 * one. */
static void stop_if_damaged(struct shell *s)
{
    struct why why = {"a value is not what was written"};
    enum ami_status status = recover_patrol_look(&s->patrol, &why);
    if (status == AMI_IO)
        log_say(s->log, ENV_LOG_WARN, "patrol_ended", "%s", why.text);
    if (s->failed || (status != AMI_DAMAGED && !store_damaged(s->store)))
        return;
    log_say(
        s->log, ENV_LOG_ERROR, "ledger_damaged",
        "%.120s/ledger: %.100s; nothing of it was served; the node stops, start it again to have "
        "the ledger checked and fetched anew",
        opt.dir, why.text);
    s->failed = s->damaged = true;
    loop_stop(s->loop);
}

static void on_alarm(void *arg)
{
    struct shell *s = arg;
    node_on_time(s->node);
    stop_if_damaged(s);
}

static void on_work_done(void *ctx, void *job)
{
    node_on_work(((struct shell *)ctx)->node, job);
}

static void on_write_done(void *ctx, void *write, enum ami_status status)
{
    struct shell *s = ctx;
    node_on_stored(s->node, write, status);
    stop_if_damaged(s);
    /* Room and memory come back, and the replica tries again. After anything else it is not known
     * what the disk holds before the ledger is opened anew. */
    if (status != AMI_OK && status != AMI_FULL && status != AMI_NO_MEMORY && !s->failed) {
        log_say(s->log, ENV_LOG_ERROR, "disk_failed",
                "status=%s: %s; nothing of it was acknowledged; the node stops, start it again",
                ami_status_name(status), ami_status_text(status));
        s->failed = s->disk_failed = true;
        loop_stop(s->loop);
    }
}

/* Storage thread. */
static void execute_writes(void *ctx, void *const *writes, size_t count, enum ami_status *status)
{
    struct shell *s = ctx;
    for (size_t i = 0; i < count; i++) {
        const struct store_batch *b = &((struct node_write *)writes[i])->batch;
        status[i] = store_write(s->store, b);
        if (status[i] == AMI_OK && b->vote_record.size != 0)
            shell_keep_record(s, b->vote_record);
    }
}

static enum ami_status make_node(struct shell *s, bool sign, struct why *why)
{
    const struct env env = {s,          env_mono, env_wall, env_set_alarm, env_send,  env_close,
                            env_random, env_log,  env_work, env_store,     env_queued};
    uint64_t height = store_height(s->store);
    struct node_config c = {.genesis = &s->genesis,
                            .key = shell_node_key(s, s->used, sign),
                            .use_key = shell_use_key,
                            .dial = shell_dial,
                            .membership_ctx = s,
                            .scheme = scheme_by_number(s->genesis.network.scheme),
                            .p_pub_table = s->p_pub,
                            .registry = s->registry,
                            .disk = disk_of_store(s->store),
                            .record = s->record_exists ? &s->record : NULL,
                            .height = height,
                            .tip = s->genesis.members.chain,
                            .tip_timestamp_ms = s->genesis.created_ms,
                            .sessions_max = SESSIONS_MAX,
                            .pool_txs_max = POOL_TXS_MAX,
                            .pool_bytes_max = POOL_BYTES_MAX,
                            .operators = span_of(s->anchors.operators, s->anchors.operators_size),
                            .keep_operators = anchors_keep_operators,
                            .operators_ctx = &s->anchors,
                            .anchors = anchors_state,
                            .anchors_ctx = &s->anchors,
                            .port_counters = shell_port_counters,
                            .port_ctx = s};
    if (height > 0) {
        c.tip = block_hash(&s->tip_header);
        c.tip_timestamp_ms = s->tip_header.timestamp_ms;
        c.tip_commit = &s->tip_commit;
    }
    if (c.scheme == NULL)
        return why_set(why, AMI_WRONG_SCHEME, "this program does not know the network's scheme");
    enum ami_status status = AMI_NO_MEMORY;
    s->node = node_new(&c, &env, &status);
    return s->node == NULL
               ? why_set(why, status, "the node cannot start: %s", ami_status_text(status))
               : AMI_OK;
}

static enum ami_status start(struct shell *s, struct why *why)
{
    enum env_log_level level;
    if (log_level_parse(opt.log_level, &level) != AMI_OK)
        return why_set(why, AMI_BAD_ARGUMENT,
                       "--log-level is debug, info, warn or error, not '%.20s'", opt.log_level);
    s->suites = CHANNEL_SUITES_ALL;
    if (opt.suites != NULL && channel_suites_parse(&s->suites, opt.suites) != AMI_OK)
        return why_set(why, AMI_BAD_ARGUMENT,
                       "--suites is sm4-gcm, sm4-ctr-hmac-sm3 or both with a comma, not '%.60s'",
                       opt.suites);
    s->loop = loop_new();
    if (s->loop == NULL || !loop_catch_signals(s->loop, NULL, NULL))
        return why_set(why, AMI_IO, "the event loop cannot start");
    AMI_TRY(shell_load_genesis(s, why));
    genesis_remember_signers(&s->genesis);
    s->log = log_open(stderr, level, 0);
    if (s->log == NULL)
        return why_set(why, AMI_NO_MEMORY, "out of memory at start");
    AMI_TRY(shell_load_keys(s, why));
    AMI_TRY(directory_lock(opt.dir, &s->dir_lock, why));
    AMI_TRY(shell_open_ledger(s, why));
    AMI_TRY(shell_check_peers(s, why));
    AMI_TRY(shell_choose_key(s, why));
    s->speaking = s->used;
    s->anchors = (struct anchors){.watch = {.net = &s->genesis.network,
                                            .files = &opt.trust,
                                            .log = s->log,
                                            .own = &s->credential,
                                            .renew = shell_use_credential,
                                            .ctx = s},
                                  .dir = opt.dir};
    AMI_TRY(anchors_start(&s->anchors, clock_mono_us(), clock_wall_ms(), why));
    s->anchors_alarm = (struct loop_alarm){.fire = shell_look_at_anchors, .arg = s};
    loop_alarm_set(s->loop, &s->anchors_alarm, clock_mono_us() + ANCHORS_LOOK_US);
    const bool sign = !s->key_missing && shell_may_sign(s, s->used);
    if (sign)
        AMI_TRY(shell_count_start(s, s->used, why));
    AMI_TRY(shell_unmark(s, why));
    s->p_pub = point_table_new(&s->genesis.network.p_pub);
    s->links = links_new(s->loop);
    s->work = work_pool_new(s->loop, (unsigned)opt.threads, WORK_JOBS_MAX, on_work_done, s);
    const struct disk_writer_config writer = {s, execute_writes, on_write_done, 4};
    s->writer = disk_writer_new(s->loop, &writer);
    if (s->p_pub == NULL || s->links == NULL || s->work == NULL || s->writer == NULL)
        return why_set(why, AMI_NO_MEMORY, "out of memory at start");
    s->alarm = (struct loop_alarm){.fire = on_alarm, .arg = s};
    s->anchors.watch.trust.trust.revoked =
        shell_operator_revoked; /* asked on links, which come later */
    s->anchors.watch.trust.trust.revoked_ctx = s;
    AMI_TRY(make_node(s, sign, why));
    if (!sign && !s->key_missing)
        log_say(s->log, ENV_LOG_ERROR, "vote_record_missing",
                "this node signs nothing until the MDMS has rotated its key; it only follows");
    return shell_open_ports(s, why);
}

static void stop(struct shell *s)
{
    links_free(s->links);
    while (s->dials != NULL) {
        struct dial *d = s->dials;
        s->dials = d->next;
        free(d);
    }
    work_pool_free(s->work);
    disk_writer_free(s->writer);
    recover_patrol_end(&s->patrol);
    shell_close_ledger(s);
    node_free(s->node);
    registry_free(s->registry);
    if (s->dir_lock >= 0)
        directory_unlock(s->dir_lock);
    point_table_free(s->p_pub);
    log_close(s->log);
    loop_free(s->loop);
    free(s->genesis_text);
    anchors_end(&s->anchors);
    secret_wipe(s, sizeof *s);
    free(s);
}

static int run_node(int argc, char **argv, void *ctx)
{
    (void)argc;
    (void)argv;
    (void)ctx;
    struct shell *s = calloc(1, sizeof *s);
    if (s == NULL)
        return fail(AMI_NO_MEMORY, NULL);
    struct why why = {""};
    s->opt = &opt;
    s->dir_lock = -1;
    enum ami_status status = start(s, &why);
    if (status != AMI_OK) {
        stop(s);
        return fail(status, &why);
    }
    printf("ready: %s, height %llu, peers %s, meters %s, admin %s\n", s->used->file.keys.name.text,
           (unsigned long long)store_height(s->store), link_listener_address(s->port[0].listener),
           link_listener_address(s->port[1].listener), link_listener_address(s->port[2].listener));
    fflush(stdout);
    loop_run(s->loop);
    log_say(s->log, ENV_LOG_INFO, "stopping", "signal=%d", loop_signal_caught(s->loop));
    bool failed = s->failed;
    stop(s);
    return failed ? EXIT_STATUS_FAILED : EXIT_STATUS_OK;
}

int main(int argc, char **argv)
{
    const struct option_spec run_options[] = {
        {"genesis", 'g', OPTION_TEXT, &opt.genesis, 0, 0, "FILE", "the network's genesis file",
         true},
        {"dir", 0, OPTION_TEXT, &opt.dir, 0, 0, "DIR", "keys and ledger of this DC", true},
        {"log-level", 0, OPTION_TEXT, &opt.log_level, 0, 0, "LEVEL",
         "debug, info (default), warn or error", false},
        {"threads", 0, OPTION_INT, &opt.threads, 0, 256, "N",
         "threads for signatures (default: one per core)", false},
        {"map-bytes", 0, OPTION_INT, &opt.map_bytes, 0, INT64_MAX, "N",
         "greatest size of the ledger (default: it grows)", false},
        {"listen-peers", 0, OPTION_TEXT, &opt.listen_peers, 0, 0, "ADDRESS",
         "where other DCs are let in, when the ledger does not say it, or behind a NAT", false},
        {"listen-meters", 0, OPTION_TEXT, &opt.listen_meters, 0, 0, "ADDRESS",
         "the same for meters", false},
        {"listen-admin", 0, OPTION_TEXT, &opt.listen_admin, 0, 0, "ADDRESS", "the same for dc-cli",
         false},
        {"peer", 0, OPTION_LIST, &opt.peers, 0, 0, "ID=ADDRESS",
         "where this DC reaches that one, if not where the ledger says", false},
        {"x509-key", 0, OPTION_TEXT, &opt.trust.key, 0, 0, "FILE",
         "speak under this X.509 certificate's SM2 key (PEM) instead of the enrolled one", false},
        {"x509-chain", 0, OPTION_TEXT, &opt.trust.chain, 0, 0, "FILE",
         "its certificate and those above, leaf first (PEM)", false},
        {"x509-roots", 0, OPTION_TEXT, &opt.trust.roots, 0, 0, "FILE",
         "let in others with X.509 certificates under these roots (PEM)", false},
        {"x509-crls", 0, OPTION_TEXT, &opt.trust.crls, 0, 0, "FILE",
         "their authorities' revocation lists (PEM), needed with roots; or none", false},
        {"x509-operators", 0, OPTION_TEXT, &opt.trust.operators, 0, 0, "FILE",
         "let in operators whose X.509 certificates one of these authorities has made (PEM)",
         false},
        {"x509-operators-label", 0, OPTION_TEXT, &opt.trust.operators_label, 0, 0, "LABEL",
         "the highest label that it may give them, such as 1:ledger+operation", false},
        {"suites", 0, OPTION_TEXT, &opt.suites, 0, 0, "LIST",
         "record suites to allow on links: sm4-gcm, sm4-ctr-hmac-sm3 (default: both)", false},
        {"cfl-public", 0, OPTION_TEXT, &opt.trust.cfl_public, 0, 0, "FILE",
         "let in others with CFL certificates under this public seed set", false},
        {"cfl-certificate", 0, OPTION_TEXT, &opt.trust.cfl_certificate, 0, 0, "FILE",
         "speak under this CFL certificate over the enrolled key (ami-mdms credential dc)", false},
        {"patrol", 0, OPTION_DURATION, &opt.patrol_ms, 0, INT64_MAX / 1000, "TIME",
         "in which all of the ledger is looked at once while the DC runs (default 24h; 0: never)",
         false},
        {0}};
    const struct command_spec commands[] = {
        COMMAND_ENROL,
        {"run", NULL, 0, 0, "run the DC until SIGINT or SIGTERM",
         "dc-node run --genesis genesis.json --dir dc1", run_options, run_node},
        COMMAND_CFL_REQUEST,
        {0}};
    const struct program_spec program = {
        NAME, "a data concentrator: replica, gateway for meters, ledger", commands, NULL, NULL};
    enum ami_status status = crypto_start();
    if (status != AMI_OK) {
        struct why why = {""};
        (void)why_set(&why, status, "%s", crypto_start_why());
        return program_fail(NAME, false, status, &why);
    }
    return program_main(&program, argc, argv, NULL);
}
