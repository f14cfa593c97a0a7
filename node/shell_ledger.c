/* node/shell_ledger.c - a DC's own keys and its ledger, at the start and when the key changes. */
#include "node/shell.h"

#include "base/check.h"
#include "crypto/secret.h"
#include "ledger/registry.h"
#include "net/file.h"
#include "node/own.h"
#include "node/starts.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GENESIS_BYTES_MAX (1u << 20)

enum ami_status shell_load_genesis(struct shell *s, struct why *why)
{
    uint8_t *text;
    size_t size;
    char detail[WHY_BYTES_MAX - 200];
    AMI_TRY(file_read(s->opt->genesis, GENESIS_BYTES_MAX, &text, &size, why));
    enum ami_status status =
        genesis_parse(&s->genesis, span_of(text, size), getenv("AMI_ALLOW_SINGLE") != NULL, detail,
                      sizeof detail);
    if (status != AMI_OK)
        why_set(why, status, "%.150s is no genesis file: %s", s->opt->genesis, detail);
    s->genesis_text = text;
    s->genesis_size = size;
    return status;
}

static enum ami_status check_key(const struct shell *s, const struct own_key *k, struct why *why)
{
    const struct device_file *f = &k->file;
    if (!ami_id_equal(&f->keys.name, &s->key[0].file.keys.name))
        return why_set(why, AMI_FOREIGN_KEY, "%.200s/%s is the key of %s, %s that of %s",
                       s->opt->dir, k->name, f->keys.name.text, s->key[0].name,
                       s->key[0].file.keys.name.text);
    if (f->has_chain && !sm3_equal(&f->chain, &s->genesis.members.chain))
        return why_set(why, AMI_WRONG_CHAIN,
                       "the keys in %.200s served another chain before: they sign on one only",
                       s->opt->dir);
    return AMI_OK;
}

enum ami_status shell_load_keys(struct shell *s, struct why *why)
{
    const struct network *net = &s->genesis.network;
    snprintf(s->key[0].name, sizeof s->key[0].name, KEY_FIRST);
    AMI_TRY(key_load(&s->key[0].file, s->opt->dir, s->key[0].name, net, why));
    s->keys = 1;
    AMI_TRY(check_key(s, &s->key[0], why));
    DIR *d = opendir(s->opt->dir);
    if (d == NULL)
        return why_set(why, AMI_IO, "%.300s cannot be read: %s", s->opt->dir, strerror(errno));
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
                             s->opt->dir, KEYS_MAX);
            break;
        }
        snprintf(k->name, sizeof k->name, "%s", expected);
        status = key_load(&k->file, s->opt->dir, k->name, net, why);
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
enum ami_status shell_choose_key(struct shell *s, struct why *why)
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
                       s->opt->dir, s->used->name, name->text);
    s->key_missing = choice == STARTS_KEY_MISSING;
    if (s->key_missing)
        log_say(s->log, ENV_LOG_ERROR, "key_missing",
                "key_epoch=%u dir=%.200s: this DC follows until it is started with that key",
                (unsigned)m->member[at].key_epoch, s->opt->dir);
    return AMI_OK;
}

static struct recover_where where_of(const struct shell *s, const char *ledger)
{
    return (struct recover_where){s->opt->dir, ledger, &s->genesis, s->log, s->loop, s->dir_lock};
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

/* The record that is on the disk, for the mark of a clean end. */
void shell_keep_record(struct shell *s, struct span record)
{
    AMI_CHECK(record.size <= sizeof s->last_record);
    memcpy(s->last_record, record.data, record.size);
    s->last_record_size = record.size;
}

/* Opens the ledger, loads the state, and decides whether this node may sign (consensus rule 11):
 * the key file counts the starts, and so does the vote record. A record that is missing or counts
 * less is not the newest one. */
enum ami_status shell_open_ledger(struct shell *s, struct why *why)
{
    char dir[PATH_BYTES];
    AMI_TRY(path_join(dir, sizeof dir, s->opt->dir, "ledger", why));
    AMI_TRY(directory_make(dir, 0755, why));
    const struct recover_where where = where_of(s, dir);
    recover_mark_read(&s->mark, &where);
    AMI_TRY(recover_check(&where, &s->mark, &s->checked_ms, why));
    AMI_TRY(directory_make(dir, 0755, why));
    if (s->opt->patrol_ms != 0)
        AMI_TRY(recover_patrol_begin(&s->patrol, &where, s->opt->patrol_ms, forget_keys, s, why));
    AMI_TRY(store_open(&s->store, dir, &s->genesis.members.chain, STORE_READ_WRITE,
                       (uint64_t)s->opt->map_bytes, why->text, sizeof why->text));
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

bool shell_may_sign(const struct shell *s, const struct own_key *k)
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
enum ami_status shell_count_start(struct shell *s, struct own_key *k, struct why *why)
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
        shell_keep_record(s, batch.vote_record);
    free(bytes);
    if (status != AMI_OK)
        return why_set(why, status, "the vote record cannot be written: %s",
                       ami_status_text(status));
    k->file.starts = s->record.starts;
    k->file.has_chain = true;
    k->file.chain = s->genesis.members.chain;
    return key_save(&k->file, s->opt->dir, k->name, &s->genesis.network, why);
}

struct node_key shell_node_key(const struct shell *s, const struct own_key *k, bool sign)
{
    return (struct node_key){.sign = &k->file.keys.sign,
                             .agree = &k->file.keys.agree,
                             .may_sign = sign,
                             .starts = k->file.starts,
                             .begun = s->record.begun};
}

/* Links are made under the key that votes, as hellos are, or under what the options name. */
enum ami_status shell_use_credential(void *ctx, struct why *why)
{
    struct shell *s = ctx;
    return own_credential(&s->credential, &s->genesis.network, &s->opt->trust,
                          &s->anchors.watch.trust, &s->speaking->file.keys, s->log, why);
}

/* The ledger calls for another key of ours. Nothing of the replica's is being written at this
 * moment; a step of pruning may be, and then this waits for it. */
enum ami_status shell_use_key(void *ctx, uint32_t epoch, struct node_key *out)
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
    bool sign = status == AMI_OK && shell_may_sign(s, k);
    if (sign)
        status = shell_count_start(s, k, &why);
    const struct own_key *before = s->speaking;
    s->speaking = k;
    if (status == AMI_OK &&
        s->credential.who.kind != CREDENTIAL_X509) /* which is of no key epoch */
        status = shell_use_credential(s, &why);
    if (status != AMI_OK)
        s->speaking = before;
    if (status != AMI_OK) {
        log_say(s->log, ENV_LOG_ERROR, "key_failed", "%s: %s", k->name,
                why.text[0] == '\0' ? ami_status_text(status) : why.text);
        return status;
    }
    *out = shell_node_key(s, k, sign);
    return AMI_OK;
}

enum ami_status shell_unmark(struct shell *s, struct why *why)
{
    char ledger[PATH_BYTES];
    AMI_TRY(path_join(ledger, sizeof ledger, s->opt->dir, "ledger", why));
    const struct recover_where where = where_of(s, ledger);
    AMI_TRY(recover_mark_remove(&where, why));
    s->unmarked = true;
    return AMI_OK;
}

/* Closes the ledger, and marks how it was left. Not after a write failed: what the disk holds then
 * is not known. Damage that was met makes the ledger worthless, but not the record, which this
 * process knows. */
void shell_close_ledger(struct shell *s)
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
    enum ami_status status = path_join(ledger, sizeof ledger, s->opt->dir, "ledger", &why);
    const struct recover_where where = where_of(s, ledger);
    if (status == AMI_OK)
        status = recover_mark_write(&where, newest_starts(s),
                                    span_of(s->last_record, s->last_record_size),
                                    damaged ? 0 : s->checked_ms, &why);
    if (status != AMI_OK) /* the next start takes longer, and needs a ledger that is whole */
        log_say(s->log, ENV_LOG_WARN, "no_closing_mark", "%s", why.text);
}
