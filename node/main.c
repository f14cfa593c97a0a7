/* node/main.c - dc-node: a data concentrator as a process.
 *
 * The shell around node/core.h: files, nng links, the LMDB store behind the storage thread, the
 * work pool, signals. In: a genesis file and a folder with keys and ledger. Out: a node of the
 * network.
 */
#include "base/check.h"
#include "crypto/secret.h"
#include "keyagree/keyfile.h"
#include "ledger/committee.h"
#include "ledger/registry.h"
#include "net/file.h"
#include "net/link.h"
#include "net/logline.h"
#include "net/loop.h"
#include "net/options.h"
#include "net/pool.h"
#include "net/writer.h"
#include "node/anchors.h"
#include "node/core.h"
#include "node/keys.h"
#include "node/own.h"
#include "node/recover.h"
#include "node/starts.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME              "dc-node"
#define GENESIS_BYTES_MAX (1u << 20)
#define PATH_BYTES        4096
#define SESSIONS_MAX      200000
#define POOL_TXS_MAX      50000
#define POOL_BYTES_MAX    (64u << 20)
#define WORK_JOBS_MAX     64
#define KEYS_MAX          16 /* key epochs of this DC in its folder */
#define PATROL_MS         (24LL * 3600 * 1000)
#define QUIET_MS          60000

static struct options {
    const char *genesis, *dir, *log_level;
    const char *listen_peers, *listen_meters, *listen_admin; /* NULL: as the ledger says */
    const char *suites;
    struct trust_files trust;
    struct text_list peers; /* NAME=ADDRESS */
    int64_t map_bytes, threads, patrol_ms;
} opt = {.log_level = "info", .patrol_ms = PATROL_MS};

static int fail(enum ami_status status, const struct why *why)
{
    return program_fail(NAME, false, status, why);
}

/* --- dc-node run -------------------------------------------------------------------------------
 */

/* One dialler, and whom it reaches. It stays in the list, stopped, until the end: its link may
 * still speak. */
struct dial {
    struct dial *next;
    struct shell *shell;
    struct node_peer peer;
    struct link_security security;
    struct link_dialer *dialer; /* NULL: stopped */
};

struct own_key {
    char name[KEY_NAME_BYTES];
    struct device_file file;
};

struct port {
    struct shell *shell;
    enum node_port port;
    struct link_security security; /* not of meters, which bring their own */
    struct gate gate;
    struct link_listener *listener;
};

struct shell {
    struct genesis genesis;
    uint8_t *genesis_text;
    size_t genesis_size;
    struct own_key key[KEYS_MAX];
    size_t keys;
    struct own_key *used;           /* the one that the node began with */
    const struct own_key *speaking; /* the one that links are made under */
    struct credential credential;   /* under which this DC speaks with other DCs, MDMS, operators */
    uint8_t suites;                 /* of records on links */
    struct anchors anchors;
    struct loop_alarm anchors_alarm;
    struct registry *registry;
    struct store *store;
    struct point_table *p_pub;
    struct loop *loop;
    struct links *links;
    struct work_pool *work;
    struct disk_writer *writer;
    struct log_sink *log;
    struct loop_alarm alarm;
    struct node *node;
    struct dial *dials;
    struct port port[3];
    bool record_exists;
    struct vote_record record;
    uint8_t record_bytes[NODE_RECORD_BYTES_MAX];
    struct block_header tip_header;
    struct qc tip_commit;
    bool key_missing; /* the key that votes now is not in the folder */
    struct recover_mark mark;
    int64_t checked_ms; /* when the whole ledger was checked */
    int dir_lock;       /* -1: not locked */
    bool unmarked;      /* the last end's mark is gone: this end makes one */
    bool failed, disk_failed, damaged;
    struct recover_patrol patrol;
    /* The vote record that was written last, size 0 when this node may not sign. Of the storage
     * thread while there is one. */
    uint8_t last_record[NODE_RECORD_BYTES_MAX];
    size_t last_record_size;
};

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

/* The record that is on the disk, for the mark of a clean end. */
static void keep_record(struct shell *s, struct span record)
{
    AMI_CHECK(record.size <= sizeof s->last_record);
    memcpy(s->last_record, record.data, record.size);
    s->last_record_size = record.size;
}

/* Storage thread. */
static void execute_writes(void *ctx, void *const *writes, size_t count, enum ami_status *status)
{
    struct shell *s = ctx;
    for (size_t i = 0; i < count; i++) {
        const struct store_batch *b = &((struct node_write *)writes[i])->batch;
        status[i] = store_write(s->store, b);
        if (status[i] == AMI_OK && b->vote_record.size != 0)
            keep_record(s, b->vote_record);
    }
}

static void port_open(void *ctx, env_link link, const char *remote)
{
    struct port *p = ctx;
    (void)remote;
    const struct credential_identity *who = link_peer(p->shell->links, link);
    node_on_open(p->shell->node, link, p->port, NULL);
    if (who != NULL)
        node_on_identity(p->shell->node, link, who, link_suite(p->shell->links, link));
}

static void port_refused(void *ctx, const char *remote, enum channel_fault fault,
                         const struct credential_identity *who, enum channel_standing standing)
{
    struct port *p = ctx;
    node_on_refused(p->shell->node, p->port, remote, fault, who, standing);
}

/* Whom each port lets in; what it may do there, the core decides. */
static enum channel_fault port_accept(void *ctx, const struct credential_identity *who)
{
    const struct port *p = ctx;
    const enum credential_role meant =
        p->port == NODE_PORT_PEER ? CREDENTIAL_DC : CREDENTIAL_OPERATOR;
    return who->role == meant || who->role == CREDENTIAL_MDMS ? FAULT_NONE : FAULT_USAGE;
}

static void port_frame(void *ctx, env_link link, struct span frame)
{
    struct port *p = ctx;
    node_on_frame(p->shell->node, link, frame);
    if (node_link_known(p->shell->node, link))
        link_mark_known(p->shell->links, link);
}

static void port_closed(void *ctx, env_link link, enum ami_status why)
{
    (void)why;
    node_on_closed(((struct port *)ctx)->shell->node, link);
}

static void port_writable(void *ctx, env_link link)
{
    node_on_writable(((struct port *)ctx)->shell->node, link);
}

static void dial_open(void *ctx, env_link link, const char *remote)
{
    struct dial *d = ctx;
    (void)remote;
    const struct credential_identity *who = link_peer(d->shell->links, link);
    node_on_open(d->shell->node, link, NODE_PORT_DIALLED, &d->peer.name);
    if (who != NULL)
        node_on_identity(d->shell->node, link, who, link_suite(d->shell->links, link));
}

static void dial_refused(void *ctx, const char *remote, enum channel_fault fault,
                         const struct credential_identity *who, enum channel_standing standing)
{
    node_on_refused(((struct dial *)ctx)->shell->node, NODE_PORT_DIALLED, remote, fault, who,
                    standing);
}

static enum channel_fault dial_accept(void *ctx, const struct credential_identity *who)
{
    const struct dial *d = ctx;
    if (who->role != CREDENTIAL_DC)
        return FAULT_USAGE;
    return ami_id_equal(&who->name, &d->peer.name) ? FAULT_NONE : FAULT_UNEXPECTED;
}

static void dial_frame(void *ctx, env_link link, struct span frame)
{
    node_on_frame(((struct dial *)ctx)->shell->node, link, frame);
}

static void dial_closed(void *ctx, env_link link, enum ami_status why)
{
    (void)why;
    node_on_closed(((struct dial *)ctx)->shell->node, link);
}

/* What strangers get computed for them on one port: in all, and from one address. The unit is the
 * answer to a first flight, a tenth of a millisecond, and what else they may ask for is counted in
 * it (channel_cost), so this is a twentieth of a core. A DC that starts again has its 30 peers' and
 * the MDMS's first and third flights looked at at once even when all are under X.509. */
static const struct gate_rate gate_all = {1000, 500}, gate_one = {400, 200};

static void port_counters(void *ctx, enum node_port port, struct node_port_counters *out)
{
    struct shell *s = ctx;
    _Static_assert((int)LINK_DROP_REASONS <= NODE_DROP_REASONS_MAX, "room for every reason");
    for (size_t i = 0; i < sizeof s->port / sizeof s->port[0]; i++) {
        if (s->port[i].port != port || s->port[i].listener == NULL)
            continue;
        const struct link_counters *c = link_listener_counters(s->port[i].listener);
        out->open_now = link_listener_open_now(s->port[i].listener);
        out->opened = c->opened;
        out->closed = c->closed;
        out->bytes_in = c->bytes_in;
        out->bytes_out = c->bytes_out;
        out->frames_in = c->frames_in;
        out->frames_out = c->frames_out;
        for (out->reasons = 0; out->reasons < LINK_DROP_REASONS; out->reasons++) {
            out->reason[out->reasons] = link_drop_name((enum link_drop_reason)out->reasons);
            out->dropped[out->reasons] = c->dropped[out->reasons];
        }
        out->secured = port != NODE_PORT_METER;
        if (!out->secured)
            continue;
        out->handshakes_begun = c->handshakes_begun;
        out->channels_opened = c->channels_opened;
        out->turned_away = c->turned_away;
        memcpy(out->faults, c->faults, sizeof out->faults);
        out->budget_left = gate_left(&s->port[i].gate, clock_mono_us());
        out->budget_most = gate_all.burst;
    }
}

static enum ami_status load_genesis(struct shell *s, struct why *why)
{
    uint8_t *text;
    size_t size;
    char detail[WHY_BYTES_MAX - 200];
    AMI_TRY(file_read(opt.genesis, GENESIS_BYTES_MAX, &text, &size, why));
    enum ami_status status =
        genesis_parse(&s->genesis, span_of(text, size), getenv("AMI_ALLOW_SINGLE") != NULL, detail,
                      sizeof detail);
    if (status != AMI_OK)
        why_set(why, status, "%.150s is no genesis file: %s", opt.genesis, detail);
    s->genesis_text = text;
    s->genesis_size = size;
    return status;
}

/* --- own keys ----------------------------------------------------------------------------------
 */

static enum ami_status check_key(const struct shell *s, const struct own_key *k, struct why *why)
{
    const struct device_file *f = &k->file;
    if (!ami_id_equal(&f->keys.name, &s->key[0].file.keys.name))
        return why_set(why, AMI_FOREIGN_KEY, "%.200s/%s is the key of %s, %s that of %s", opt.dir,
                       k->name, f->keys.name.text, s->key[0].name, s->key[0].file.keys.name.text);
    if (f->has_chain && !sm3_equal(&f->chain, &s->genesis.members.chain))
        return why_set(why, AMI_WRONG_CHAIN,
                       "the keys in %.200s served another chain before: they sign on one only",
                       opt.dir);
    return AMI_OK;
}

static enum ami_status load_keys(struct shell *s, struct why *why)
{
    const struct network *net = &s->genesis.network;
    snprintf(s->key[0].name, sizeof s->key[0].name, KEY_FIRST);
    AMI_TRY(key_load(&s->key[0].file, opt.dir, s->key[0].name, net, why));
    s->keys = 1;
    AMI_TRY(check_key(s, &s->key[0], why));
    DIR *d = opendir(opt.dir);
    if (d == NULL)
        return why_set(why, AMI_IO, "%.300s cannot be read: %s", opt.dir, strerror(errno));
    enum ami_status status = AMI_OK;
    for (struct dirent *e; status == AMI_OK && (e = readdir(d)) != NULL;) {
        struct own_key *k = &s->key[s->keys];
        char expected[KEY_NAME_BYTES];
        unsigned epoch;
        if (sscanf(e->d_name, "dc-%u.key", &epoch) != 1)
            continue;
        key_name(expected, epoch);
        if (strcmp(e->d_name, expected) != 0)
            continue;
        if (s->keys == KEYS_MAX) {
            status = why_set(why, AMI_TOO_LARGE,
                             "%.300s holds more than %d keys: move away those of old epochs",
                             opt.dir, KEYS_MAX);
            break;
        }
        snprintf(k->name, sizeof k->name, "%s", expected);
        status = key_load(&k->file, opt.dir, k->name, net, why);
        if (status == AMI_OK)
            status = check_key(s, k, why);
        s->keys += status == AMI_OK;
    }
    closedir(d);
    return status;
}

static struct own_key *key_of_epoch(struct shell *s, uint32_t epoch)
{
    for (size_t i = 0; i < s->keys; i++)
        if (s->key[i].file.keys.epoch == epoch)
            return &s->key[i];
    return NULL;
}

/* The key that votes on the next block; when there is none, the newest. */
static enum ami_status choose_key(struct shell *s, struct why *why)
{
    const struct members *m = registry_members(s->registry, store_height(s->store) + 1);
    const struct ami_id *name = &s->key[0].file.keys.name;
    uint32_t epoch[KEYS_MAX];
    size_t used;
    if (m == NULL)
        return why_set(why, AMI_NO_MEMORY, "out of memory");
    for (size_t i = 0; i < s->keys; i++)
        epoch[i] = s->key[i].file.keys.epoch;
    const enum starts_choice choice = starts_choose(m, name, epoch, s->keys, &used);
    s->used = &s->key[used];
    const uint8_t at = members_find(m, name);
    if (choice == STARTS_VOTES &&
        !point_equal(&s->used->file.keys.sign.public_key.p, &m->member[at].key.p))
        return why_set(why, AMI_FOREIGN_KEY, "%.200s/%s is not the key that %s has on the ledger",
                       opt.dir, s->used->name, name->text);
    s->key_missing = choice == STARTS_KEY_MISSING;
    if (s->key_missing)
        log_say(s->log, ENV_LOG_ERROR, "key_missing",
                "key_epoch=%u dir=%.200s: this DC follows until it is started with that key",
                (unsigned)m->member[at].key_epoch, opt.dir);
    return AMI_OK;
}

static struct recover_where where_of(const struct shell *s, const char *ledger)
{
    return (struct recover_where){opt.dir, ledger, &s->genesis, s->log, s->loop, s->dir_lock};
}

/* In a process that only reads the ledger. */
static void forget_keys(void *ctx)
{
    struct shell *s = ctx;
    secret_wipe(s->key, sizeof s->key);
}

/* How often this DC was started with a key that may sign: each start counts in the key that it
 * uses, from the one before on, whichever key that was. */
static uint64_t newest_starts(const struct shell *s)
{
    uint64_t starts = 0;
    for (size_t i = 0; i < s->keys; i++)
        if (s->key[i].file.starts > starts)
            starts = s->key[i].file.starts;
    return starts;
}

/* The ledger is empty, because there was none or a damaged one was set aside. The record that the
 * last clean end left beside it is the newest when no start came after that end. It says of what it
 * voted for and saw; the tip is this ledger's. One of a later membership epoch does not fit the
 * first epoch, which an empty ledger begins with. */
static void take_marked_record(struct shell *s)
{
    if (!s->mark.has_record || s->mark.record.starts != newest_starts(s) ||
        s->mark.record.epoch != s->genesis.members.epoch)
        return;
    s->record = s->mark.record;
    s->record.tip_height = 0;
    s->record.tip = s->genesis.members.chain;
    s->record_exists = true;
    log_say(s->log, ENV_LOG_WARN, "vote_record_kept",
            "the ledger is empty, and the vote record of the last clean end goes on: term=%llu",
            (unsigned long long)s->record.term);
}

/* Opens the ledger, loads the state, and decides whether this node may sign (consensus rule 11):
 * the key file counts the starts, and so does the vote record. A record that is missing or counts
 * less is not the newest one. */
static enum ami_status open_ledger(struct shell *s, struct why *why)
{
    char dir[PATH_BYTES];
    AMI_TRY(path_join(dir, sizeof dir, opt.dir, "ledger", why));
    AMI_TRY(directory_make(dir, 0755, why));
    const struct recover_where where = where_of(s, dir);
    recover_mark_read(&s->mark, &where);
    AMI_TRY(recover_check(&where, &s->mark, &s->checked_ms, why));
    AMI_TRY(directory_make(dir, 0755, why));
    if (opt.patrol_ms != 0)
        AMI_TRY(recover_patrol_begin(&s->patrol, &where, opt.patrol_ms, forget_keys, s, why));
    AMI_TRY(store_open(&s->store, dir, &s->genesis.members.chain, STORE_READ_WRITE,
                       (uint64_t)opt.map_bytes, why->text, sizeof why->text));
    /* The ledger carries its genesis file along, so that it can be audited on its own. */
    char path[PATH_BYTES];
    AMI_TRY(path_join(path, sizeof path, dir, "genesis.json", why));
    enum ami_status copied =
        file_write_new(path, span_of(s->genesis_text, s->genesis_size), FILE_MODE_PUBLIC, why);
    if (copied != AMI_OK && copied != AMI_EXISTS)
        return copied;
    s->registry = registry_new(&s->genesis);
    enum ami_status status =
        s->registry == NULL ? AMI_NO_MEMORY : store_load_registry(s->store, s->registry);
    if (status != AMI_OK)
        return why_set(why, status, "the registry in %.200s: %s", dir, ami_status_text(status));
    uint64_t height = store_height(s->store);
    if (height > 0) {
        status = store_header(s->store, height, &s->tip_header, &s->tip_commit);
        if (status != AMI_OK)
            return why_set(why, status, "block %llu in %.200s: %s", (unsigned long long)height, dir,
                           ami_status_text(status));
        sm3_digest root = registry_root(s->registry);
        if (!sm3_equal(&root, &s->tip_header.state_root))
            return why_set(why, AMI_DAMAGED,
                           "the ledger in %.200s changed after it was checked: its registry is not "
                           "the one that "
                           "block %llu certifies",
                           dir, (unsigned long long)height);
    }
    status = store_vote_record(s->store, &s->record, s->record_bytes, sizeof s->record_bytes);
    if (status != AMI_OK && status != AMI_NOT_FOUND)
        return why_set(why, status, "the vote record in %.200s: %s", dir, ami_status_text(status));
    s->record_exists = status == AMI_OK;
    if (!s->record_exists && height == 0)
        take_marked_record(s);
    return AMI_OK;
}

static bool may_sign(const struct shell *s, const struct own_key *k)
{
    const struct starts_key key = {&k->file.keys.name, k->file.keys.epoch, k->file.starts};
    return starts_may_sign(&s->genesis, &key, s->record_exists ? &s->record : NULL,
                           store_height(s->store));
}

/* Where the ledger stands now. */
static enum ami_status read_tip(const struct shell *s, struct starts_tip *out)
{
    struct block_header header;
    struct qc commit;
    *out = (struct starts_tip){.height = store_height(s->store), .tip = s->genesis.members.chain};
    const struct members *m = registry_members(s->registry, out->height + 1);
    if (m == NULL)
        return AMI_NO_MEMORY;
    out->epoch = m->epoch;
    if (out->height == 0)
        return AMI_OK;
    AMI_TRY(store_header(s->store, out->height, &header, &commit));
    out->tip = block_hash(&header);
    return AMI_OK;
}

/* Counts this start in both places, the record first: a crash in between leaves it ahead, which is
 * allowed. */
static enum ami_status count_start(struct shell *s, struct own_key *k, struct why *why)
{
    struct starts_tip at;
    enum ami_status read = read_tip(s, &at);
    if (read != AMI_OK)
        return why_set(why, read, "the last block cannot be read: %s", ami_status_text(read));
    starts_count(&s->record, s->record_exists, newest_starts(s), &s->genesis.members.chain, &at);
    s->record_exists = true;
    uint8_t *bytes = malloc(NODE_RECORD_BYTES_MAX);
    if (bytes == NULL)
        return why_set(why, AMI_NO_MEMORY, "out of memory");
    struct writer w = writer_on(bytes, NODE_RECORD_BYTES_MAX);
    vote_record_encode(&w, &s->record);
    struct store_batch batch = {.vote_record = writer_span(&w)};
    enum ami_status status = writer_ok(&w) ? store_write(s->store, &batch) : AMI_TOO_LARGE;
    if (status == AMI_OK)
        keep_record(s, batch.vote_record);
    free(bytes);
    if (status != AMI_OK)
        return why_set(why, status, "the vote record cannot be written: %s",
                       ami_status_text(status));
    k->file.starts = s->record.starts;
    k->file.has_chain = true;
    k->file.chain = s->genesis.members.chain;
    return key_save(&k->file, opt.dir, k->name, &s->genesis.network, why);
}

static struct node_key node_key_of(const struct shell *s, const struct own_key *k, bool sign)
{
    return (struct node_key){.sign = &k->file.keys.sign,
                             .agree = &k->file.keys.agree,
                             .may_sign = sign,
                             .starts = k->file.starts,
                             .begun = s->record.begun};
}

/* Links are made under the key that votes, as hellos are, or under what the options name. */
static enum ami_status use_credential(void *ctx, struct why *why)
{
    struct shell *s = ctx;
    return own_credential(&s->credential, &s->genesis.network, &opt.trust, &s->anchors.watch.trust,
                          &s->speaking->file.keys, s->log, why);
}

/* The ledger calls for another key of ours. Nothing of the replica's is being written at this
 * moment; a step of pruning may be, and then this waits for it. */
static enum ami_status use_key(void *ctx, uint32_t epoch, struct node_key *out)
{
    struct shell *s = ctx;
    struct own_key *k = key_of_epoch(s, epoch);
    struct why why = {""};
    if (k == NULL)
        return AMI_NOT_FOUND;
    enum ami_status status =
        store_vote_record(s->store, &s->record, s->record_bytes, sizeof s->record_bytes);
    s->record_exists = status == AMI_OK;
    if (status == AMI_NOT_FOUND)
        status = AMI_OK;
    bool sign = status == AMI_OK && may_sign(s, k);
    if (sign)
        status = count_start(s, k, &why);
    const struct own_key *before = s->speaking;
    s->speaking = k;
    if (status == AMI_OK &&
        s->credential.who.kind != CREDENTIAL_X509) /* which is of no key epoch */
        status = use_credential(s, &why);
    if (status != AMI_OK)
        s->speaking = before;
    if (status != AMI_OK) {
        log_say(s->log, ENV_LOG_ERROR, "key_failed", "%s: %s", k->name,
                why.text[0] == '\0' ? ami_status_text(status) : why.text);
        return status;
    }
    *out = node_key_of(s, k, sign);
    return AMI_OK;
}

/* --- links -------------------------------------------------------------------------------------
 */

/* A peer's frame may be a block, a stranger's there is a hello; a meter's is small. A stranger is
 * dropped, and counted, before the core gives up its handshake. Of one DC there is a link, and
 * another that may not have been noticed to be dead, and readers' (node/peers.c); a proven one may
 * be quiet as long as a slow line needs for what the system has taken of an answer. */
static const struct link_limits port_limits[3] = {
    {.frame_bytes_max = AMI_FRAME_PEER_BYTES_MAX,
     .queue_bytes_max = 16u << 20,
     .connections_max = 256,
     .stranger_ms = 8000,
     .half_frame_ms = 30000,
     .stranger_frame_bytes_max = 1024,
     .idle_ms = LINK_IDLE_MS,
     .silent_ms = LINK_SILENT_MS,
     .identity_max = 4,
     .quiet_ms = QUIET_MS},
    {.frame_bytes_max = AMI_FRAME_METER_BYTES_MAX,
     .queue_bytes_max = 4u << 20,
     .connections_max = 2048,
     .stranger_ms = 30000,
     .half_frame_ms = 30000,
     .stranger_frame_bytes_max = 2048},
    {.frame_bytes_max = 8192,
     .queue_bytes_max = AMI_FRAME_ADMIN_BYTES_MAX + 64,
     .connections_max = 64,
     .stranger_ms = 15000,
     .half_frame_ms = 10000,
     .identity_max = 8,
     .quiet_ms = QUIET_MS}};

static bool same_peer(const struct node_peer *a, const struct node_peer *b)
{
    return ami_id_equal(&a->name, &b->name) && strcmp(a->address, b->address) == 0;
}

/* Where this node reaches that DC: as the ledger says, unless --peer names another way. */
static const char *peer_address(const struct node_peer *peer)
{
    const size_t size = peer->name.size;
    const char *address = peer->address;
    for (size_t k = 0; k < opt.peers.count; k++)
        if (strncmp(opt.peers.items[k], peer->name.text, size) == 0 &&
            opt.peers.items[k][size] == '=')
            address = opt.peers.items[k] + size + 1;
    return address;
}

static bool is_other_dc(const struct shell *s, const struct ami_id *id)
{
    bool known = false;
    for (uint64_t i = 0; i < registry_size(s->registry) && !known; i++) {
        const struct record *r = registry_at(s->registry, i);
        known = r->kind == RECORD_DC && ami_id_equal(&r->name, id);
    }
    return known && !ami_id_equal(id, &s->key[0].file.keys.name);
}

/* Every --peer names another DC, so that a mistyped one is not silently without effect. */
static enum ami_status check_peers(const struct shell *s, struct why *why)
{
    for (size_t k = 0; k < opt.peers.count; k++) {
        const char *given = opt.peers.items[k];
        const char *equals = strchr(given, '=');
        struct ami_id id;
        if (equals == NULL || ami_id_set(&id, given, (size_t)(equals - given)) != AMI_OK ||
            !is_other_dc(s, &id))
            return why_set(why, AMI_BAD_ARGUMENT,
                           "--peer %.100s: expected NAME=HOST:PORT with the name of another DC of "
                           "the genesis file or the ledger",
                           given);
    }
    return AMI_OK;
}

/* --- channels ----------------------------------------------------------------------------------
 */

static void look_at_anchors(void *arg)
{
    struct shell *s = arg;
    const uint64_t now = clock_mono_us();
    if (anchors_look(&s->anchors, now, clock_wall_ms()))
        link_judge(s->links, clock_wall_ms());
    loop_alarm_set(s->loop, &s->anchors_alarm, now + ANCHORS_LOOK_US);
}

static bool operator_revoked(void *ctx, const struct credential_identity *who)
{
    return node_operator_revoked(((struct shell *)ctx)->node, who);
}

static struct channel_config
channel_config_of(struct shell *s,
                  enum channel_fault (*accept)(void *ctx, const struct credential_identity *who),
                  void *ctx)
{
    return (struct channel_config){.own = &s->credential,
                                   .trust = &s->anchors.watch.trust.trust,
                                   .suites = s->suites,
                                   .accept = accept,
                                   .accept_ctx = ctx};
}

static void secure_port(struct shell *s, struct port *p)
{
    uint8_t key[16];
    secret_random(key, sizeof key);
    gate_init(&p->gate, gate_all, gate_one, key, clock_mono_us());
    p->security = (struct link_security){channel_config_of(s, port_accept, p), &p->gate};
}

static void dial_one(struct shell *s, const struct node_peer *peer)
{
    struct why why = {""};
    struct dial *d = calloc(1, sizeof *d);
    if (d == NULL) {
        log_say(s->log, ENV_LOG_ERROR, "not_dialled", "dc=%s: out of memory", peer->name.text);
        return;
    }
    *d = (struct dial){.next = s->dials, .shell = s, .peer = *peer};
    d->security.config = channel_config_of(s, dial_accept, d);
    s->dials = d;
    const struct link_events events = {.ctx = d,
                                       .on_open = dial_open,
                                       .on_frame = dial_frame,
                                       .on_closed = dial_closed,
                                       .on_refused = dial_refused,
                                       .security = &d->security};
    if (link_dial(s->links, peer_address(peer), &port_limits[0], 1000, &events, &d->dialer, &why) !=
        AMI_OK)
        log_say(s->log, ENV_LOG_ERROR, "not_dialled", "dc=%s: %s", peer->name.text, why.text);
}

static void dial(void *ctx, const struct node_peer *peer, size_t count)
{
    struct shell *s = ctx;
    bool known[AMI_MEMBERS_MAX] = {false};
    for (struct dial *d = s->dials; d != NULL; d = d->next) {
        bool wanted = false;
        for (size_t i = 0; d->dialer != NULL && i < count && !wanted; i++)
            known[i] |= wanted = same_peer(&d->peer, &peer[i]);
        if (d->dialer != NULL && !wanted) {
            link_dialer_stop(d->dialer);
            d->dialer = NULL;
        }
    }
    for (size_t i = 0; i < count; i++)
        if (!known[i])
            dial_one(s, &peer[i]);
}

/* Where this DC listens: as its options say, else as the genesis file or its membership does. */
static enum ami_status open_ports(struct shell *s, struct why *why)
{
    const struct member_address *known = node_address(s->node);
    const char *given[3] = {opt.listen_peers, opt.listen_meters, opt.listen_admin};
    const char *from[3] = {NULL, NULL, NULL};
    if (known != NULL) {
        from[0] = known->peer;
        from[1] = known->meter;
        from[2] = known->admin;
    }
    const enum node_port port[3] = {NODE_PORT_PEER, NODE_PORT_METER, NODE_PORT_ADMIN};
    for (int i = 0; i < 3; i++) {
        s->port[i] = (struct port){.shell = s, .port = port[i]};
        const bool secure = port[i] == NODE_PORT_PEER || port[i] == NODE_PORT_ADMIN;
        if (secure)
            secure_port(s, &s->port[i]);
        const struct link_events events = {.ctx = &s->port[i],
                                           .on_open = port_open,
                                           .on_frame = port_frame,
                                           .on_closed = port_closed,
                                           .on_writable = port_writable,
                                           .on_refused = port_refused,
                                           .security = secure ? &s->port[i].security : NULL};
        const char *address = given[i] != NULL ? given[i] : from[i];
        if (address == NULL)
            return why_set(why, AMI_BAD_ARGUMENT,
                           "%s is no member yet, so the ledger does not say where it listens: "
                           "name --listen-peers, --listen-meters and --listen-admin ADDRESS",
                           s->used->file.keys.name.text);
        AMI_TRY(
            link_listen(s->links, address, &port_limits[i], &events, &s->port[i].listener, why));
    }
    return AMI_OK;
}

static enum ami_status make_node(struct shell *s, bool sign, struct why *why)
{
    const struct env env = {s,          env_mono, env_wall, env_set_alarm, env_send,  env_close,
                            env_random, env_log,  env_work, env_store,     env_queued};
    uint64_t height = store_height(s->store);
    struct node_config c = {.genesis = &s->genesis,
                            .key = node_key_of(s, s->used, sign),
                            .use_key = use_key,
                            .dial = dial,
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
                            .port_counters = port_counters,
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
    AMI_TRY(load_genesis(s, why));
    genesis_remember_signers(&s->genesis);
    s->log = log_open(stderr, level, 0);
    if (s->log == NULL)
        return why_set(why, AMI_NO_MEMORY, "out of memory at start");
    AMI_TRY(load_keys(s, why));
    AMI_TRY(directory_lock(opt.dir, &s->dir_lock, why));
    AMI_TRY(open_ledger(s, why));
    AMI_TRY(check_peers(s, why));
    AMI_TRY(choose_key(s, why));
    s->speaking = s->used;
    s->anchors = (struct anchors){.watch = {.net = &s->genesis.network,
                                            .files = &opt.trust,
                                            .log = s->log,
                                            .own = &s->credential,
                                            .renew = use_credential,
                                            .ctx = s},
                                  .dir = opt.dir};
    AMI_TRY(anchors_start(&s->anchors, clock_mono_us(), clock_wall_ms(), why));
    s->anchors_alarm = (struct loop_alarm){.fire = look_at_anchors, .arg = s};
    loop_alarm_set(s->loop, &s->anchors_alarm, clock_mono_us() + ANCHORS_LOOK_US);
    const bool sign = !s->key_missing && may_sign(s, s->used);
    if (sign)
        AMI_TRY(count_start(s, s->used, why));
    char ledger[PATH_BYTES];
    AMI_TRY(path_join(ledger, sizeof ledger, opt.dir, "ledger", why));
    const struct recover_where where = where_of(s, ledger);
    AMI_TRY(recover_mark_remove(&where, why)); /* its record may be an older one from here on */
    s->unmarked = true;
    s->p_pub = point_table_new(&s->genesis.network.p_pub);
    s->links = links_new(s->loop);
    s->work = work_pool_new(s->loop, (unsigned)opt.threads, WORK_JOBS_MAX, on_work_done, s);
    const struct disk_writer_config writer = {s, execute_writes, on_write_done, 4};
    s->writer = disk_writer_new(s->loop, &writer);
    if (s->p_pub == NULL || s->links == NULL || s->work == NULL || s->writer == NULL)
        return why_set(why, AMI_NO_MEMORY, "out of memory at start");
    s->alarm = (struct loop_alarm){.fire = on_alarm, .arg = s};
    s->anchors.watch.trust.trust.revoked = operator_revoked; /* asked on links, which come later */
    s->anchors.watch.trust.trust.revoked_ctx = s;
    AMI_TRY(make_node(s, sign, why));
    if (!sign && !s->key_missing)
        log_say(s->log, ENV_LOG_ERROR, "vote_record_missing",
                "this node signs nothing until the MDMS has rotated its key; it only follows");
    return open_ports(s, why);
}

/* Closes the ledger, and marks how it was left. Not after a write failed: what the disk holds then
 * is not known. Damage that was met makes the ledger worthless, but not the record, which this
 * process knows. */
static void close_ledger(struct shell *s)
{
    char ledger[PATH_BYTES];
    struct why why = {""};
    if (s->store == NULL)
        return;
    const bool damaged = s->damaged || store_damaged(s->store);
    store_close(s->store);
    s->store = NULL;
    if (!s->unmarked || s->disk_failed)
        return;
    enum ami_status status = path_join(ledger, sizeof ledger, opt.dir, "ledger", &why);
    const struct recover_where where = where_of(s, ledger);
    if (status == AMI_OK)
        status = recover_mark_write(&where, newest_starts(s),
                                    span_of(s->last_record, s->last_record_size),
                                    damaged ? 0 : s->checked_ms, &why);
    if (status != AMI_OK) /* the next start takes longer, and needs a ledger that is whole */
        log_say(s->log, ENV_LOG_WARN, "no_closing_mark", "%s", why.text);
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
    close_ledger(s);
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
