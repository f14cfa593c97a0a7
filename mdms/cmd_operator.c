/* mdms/cmd_operator.c - `ami-mdms operator`: who may ask DCs what.
 *
 *   DIR/operators/list.json      every credential that was given out, also revoked ones
 *   DIR/operators/revoked.list   the signed list of those that count no more, which `serve` sends
 *                                to every DC
 *
 * `add` makes an implicit certificate with the label in it (channel/credential.h) and writes one
 * file for the operator. What was given out is written down before that file is made, and a name
 * that has a credential in force gets no second one. The folder is locked while it changes, not the
 * MDMS's, so that this works beside `serve`.
 */
#include "base/check.h"
#include "channel/cfl.h"
#include "channel/file.h"
#include "crypto/secret.h"
#include "mdms/cli.h"
#include "mdms/seed.h"
#include "net/file.h"
#include "net/loop.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LIST_BYTES_MAX (1u << 20)
/* Of which `add` leaves so much to `revoke`, which lengthens an entry by a few bytes. */
#define LIST_BYTES_KEPT (LIST_BYTES_MAX / 16)
#define DAY_S           86400
/* Clocks of DCs that are behind by up to so much still find a new credential valid. */
#define EARLY_S 3600

static struct common_options common;
static const char *label_given, *out_file, *kind_given = "implicit";
static int64_t days = 365;

static const struct option_spec options[] = {
    {.name = "dir",
     .letter = 'd',
     .kind = OPTION_TEXT,
     .value = &common.dir,
     .argument = "DIR",
     .help = "the MDMS's directory",
     .required = true},
    {.name = "label",
     .kind = OPTION_TEXT,
     .value = &label_given,
     .argument = "LABEL",
     .help = "add: level 0 to 3 and categories, such as 2:ledger+metering+operation"},
    {.name = "days",
     .kind = OPTION_INT,
     .value = &days,
     .min = 1,
     .max = 3650,
     .argument = "N",
     .help = "add: how long it is good (default 365)"},
    {.name = "kind",
     .kind = OPTION_TEXT,
     .value = &kind_given,
     .argument = "KIND",
     .help = "add: implicit (default) or cfl"},
    {.name = "out",
     .letter = 'o',
     .kind = OPTION_TEXT,
     .value = &out_file,
     .argument = "FILE",
     .help = "add: where the operator's credential goes"},
    {.name = "passphrase-file",
     .kind = OPTION_TEXT,
     .value = &common.passphrase_file,
     .argument = "FILE",
     .help = "passphrase in its first line (else AMI_PASSPHRASE, else asked)"},
    {.name = "json", .kind = OPTION_FLAG, .value = &common.json, .help = "print one JSON document"},
    {0},
};

struct work {
    struct network net;
    struct mdms_keys keys;
    char folder[PATH_MAX], list[PATH_MAX], revoked[PATH_MAX];
    char passphrase[PASSPHRASE_BYTES_MAX];
    json_t *all; /* of list.json: an array */
    /* operator list: the signed list, 0: none, and what the DCs say of it */
    uint64_t number;
    unsigned count;
    json_t *dcs;
    int lock; /* -1: none */
};

static int64_t now_s(void)
{
    return clock_wall_ms() / 1000;
}

static const char *text(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s == NULL ? "" : s;
}

static json_int_t number(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

static bool revoked(const json_t *o)
{
    return json_is_integer(json_object_get(o, "revoked_ms"));
}

static bool in_force(const json_t *o)
{
    return !revoked(o) && number(o, "until") >= now_s();
}

/* --- the folder ------------------------------------------------------------------------------- */

/* Every entry has what the code below takes from it. */
static bool list_valid(const json_t *all)
{
    uint8_t bytes[SM3_BYTES];
    if (!json_is_array(all))
        return false;
    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *o = json_array_get(all, i);
        const json_t *at = json_object_get(o, "revoked_ms");
        if (hex_decode(bytes, sizeof bytes, text(o, "fingerprint")) != AMI_OK ||
            text(o, "name")[0] == '\0' || !json_is_integer(json_object_get(o, "epoch")) ||
            !json_is_integer(json_object_get(o, "until")) ||
            !(json_is_integer(at) || json_is_null(at)))
            return false;
    }
    return true;
}

static enum ami_status read_list(struct work *w, struct why *why)
{
    uint8_t *data = NULL;
    size_t size = 0;
    enum ami_status status = file_read(w->list, LIST_BYTES_MAX, &data, &size, why);
    if (status == AMI_NOT_FOUND) {
        w->all = json_array();
        return w->all == NULL ? AMI_NO_MEMORY : AMI_OK;
    }
    AMI_TRY(status);
    w->all = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
    free(data);
    return list_valid(w->all)
               ? AMI_OK
               : why_set(why, AMI_DAMAGED, "%.300s is no list of operators", w->list);
}

static enum ami_status write_list(const struct work *w, size_t size_max, struct why *why)
{
    char *out = json_dumps(w->all, JSON_INDENT(2));
    if (out == NULL)
        return AMI_NO_MEMORY;
    enum ami_status status =
        strlen(out) > size_max
            ? why_set(why, AMI_FULL, "%.300s would be larger than the %zu bytes that are allowed",
                      w->list, size_max)
            : file_write(w->list, span_of(out, strlen(out)), FILE_MODE_PUBLIC, why);
    free(out);
    return status;
}

/* Of the list that there is; 0: none. One that cannot be read is not written over: DCs may know its
 * number. */
static enum ami_status last_list(const struct work *w, uint64_t *number, unsigned *count,
                                 struct why *why)
{
    *number = *count = 0;
    uint8_t *data = NULL;
    size_t size;
    enum ami_status status = file_read(w->revoked, AMI_REVOKED_BYTES_MAX, &data, &size, why);
    if (status == AMI_NOT_FOUND)
        return AMI_OK;
    AMI_TRY(status);
    struct revoked_list *list = calloc(1, sizeof *list);
    status = list == NULL ? AMI_NO_MEMORY : revoked_list_parse(list, &w->net, span_of(data, size));
    if (status == AMI_OK) {
        *number = list->number;
        *count = list->count;
    } else
        why_set(why, status, "%.300s: %s", w->revoked, ami_status_text(status));
    free(list);
    free(data);
    return status;
}

/* The signed list: every revoked credential that has not expired anyway. Its number is the time, so
 * that it grows, or one more than the last one's. */
static enum ami_status write_revoked(struct work *w, struct why *why)
{
    struct revoked_list *list = calloc(1, sizeof *list);
    uint8_t *out = malloc(AMI_REVOKED_BYTES_MAX), random[SM2_WIDE_BYTES];
    uint64_t last = 0;
    unsigned last_count;
    enum ami_status status =
        list == NULL || out == NULL ? AMI_NO_MEMORY : last_list(w, &last, &last_count, why);
    for (size_t i = 0; status == AMI_OK && i < json_array_size(w->all); i++) {
        const json_t *o = json_array_get(w->all, i);
        if (!revoked(o) || number(o, "until") + DAY_S < now_s())
            continue;
        if (list->count == AMI_REVOKED_MAX)
            status = why_set(why, AMI_FULL, "more than %d credentials are revoked and in date",
                             AMI_REVOKED_MAX);
        else
            status =
                hex_decode(list->fingerprint[list->count++].b, SM3_BYTES, text(o, "fingerprint"));
    }
    if (status == AMI_OK) {
        list->issued_ms = clock_wall_ms();
        const uint64_t now = list->issued_ms > 0 ? (uint64_t)list->issued_ms : 1;
        list->number = last >= now ? last + 1 : now; /* also when the clock has stepped back */
        secret_random(random, sizeof random);
        size_t size = revoked_list_encode(out, list, &w->net, &w->keys.sign, random);
        status = file_write(w->revoked, span_of(out, size), FILE_MODE_PUBLIC, why);
    }
    free(list);
    free(out);
    return status;
}

static enum ami_status begin(struct work *w, bool changes, struct why *why)
{
    w->lock = -1;
    AMI_TRY(cli_network(common.dir, &w->net, why));
    AMI_TRY(path_join(w->folder, sizeof w->folder, common.dir, "operators", why));
    AMI_TRY(path_join(w->list, sizeof w->list, w->folder, "list.json", why));
    AMI_TRY(path_join(w->revoked, sizeof w->revoked, w->folder, "revoked.list", why));
    if (changes) {
        AMI_TRY(cli_passphrase(common.passphrase_file, false, w->passphrase, why));
        AMI_TRY(cli_keys(common.dir, &w->net, w->passphrase, &w->keys, why));
        AMI_TRY(directory_make(w->folder, 0755, why));
        AMI_TRY(directory_lock(w->folder, &w->lock, why));
    }
    return read_list(w, why);
}

static void end(struct work *w)
{
    json_decref(w->all);
    json_decref(w->dcs);
    if (w->lock >= 0)
        directory_unlock(w->lock);
    secret_wipe(w, sizeof *w);
}

/* --- add -------------------------------------------------------------------------------------- */

/* Draws and issues at once: the MDMS sees the operator's key, which goes into the file. */
static enum ami_status issue(const struct work *w, const struct credential_identity *who,
                             struct credential *out)
{
    uint8_t random[2][SM2_WIDE_BYTES];
    struct operator_request request;
    point w_point;
    scalar t;
    secret_random(random, sizeof random);
    operator_begin(&request, random[0]);
    enum ami_status status =
        operator_issue(&w_point, &t, &w->net, &w->keys.x, who, &request.u, random[1]);
    if (status == AMI_OK)
        status = operator_accept(out, &w->net, who, &request, &t, &w_point);
    secret_wipe(random, sizeof random);
    secret_wipe(&request, sizeof request);
    secret_wipe(&t, sizeof t);
    return status;
}

/* --- CFL -------------------------------------------------------------------------------------- */

static enum ami_status issue_cfl(const struct work *w, const struct credential_identity *who,
                                 struct credential *out, struct why *why)
{
    uint8_t random[3][SM2_WIDE_BYTES];
    struct cfl_certificate certificate;
    sm2_private rask;
    struct credential_identity full = *who;
    struct cfl_seed *seed = calloc(1, sizeof *seed);
    enum ami_status status =
        seed == NULL ? AMI_NO_MEMORY : seed_open(common.dir, &w->net, w->passphrase, seed, why);
    full.network = w->net.id;
    secret_random(random, sizeof random);
    if (status == AMI_OK)
        status = cfl_request(&certificate, &rask, &full, (const uint8_t(*)[SM2_WIDE_BYTES])random);
    if (status == AMI_OK)
        status = cfl_issue(&certificate, seed, random[2]);
    if (status == AMI_OK)
        status = cfl_credential(out, &certificate, &rask);
    if (seed != NULL)
        secret_wipe(seed, sizeof *seed);
    free(seed);
    secret_wipe(random, sizeof random);
    secret_wipe(&rask, sizeof rask);
    return status;
}

static enum ami_status next_epoch(const struct work *w, const char *name, uint32_t *epoch,
                                  struct why *why)
{
    *epoch = 1;
    for (size_t i = 0; i < json_array_size(w->all); i++) {
        const json_t *o = json_array_get(w->all, i);
        if (strcmp(text(o, "name"), name) != 0)
            continue;
        if (in_force(o))
            return why_set(why, AMI_EXISTS,
                           "operator %s has a credential in force; revoke it first", name);
        if (number(o, "epoch") >= *epoch)
            *epoch = (uint32_t)number(o, "epoch") + 1;
    }
    return AMI_OK;
}

static enum ami_status note_down(struct work *w, const struct credential *own, struct why *why)
{
    char label[LABEL_TEXT_BYTES], hex[2 * SM3_BYTES + 1];
    label_text(label, own->who.label);
    hex_encode(hex, own->who.fingerprint.b, SM3_BYTES);
    json_t *entry =
        json_pack("{s:s, s:I, s:s, s:s, s:I, s:I, s:s, s:n}", "name", own->who.name.text, "epoch",
                  (json_int_t)own->who.epoch, "kind", credential_kind_name(own->who.kind), "label",
                  label, "from", (json_int_t)own->who.from_s, "until", (json_int_t)own->who.until_s,
                  "fingerprint", hex, "revoked_ms");
    if (json_array_append_new(w->all, entry) != 0)
        return AMI_NO_MEMORY;
    return write_list(w, LIST_BYTES_MAX - LIST_BYTES_KEPT, why);
}

static enum ami_status add(struct work *w, const char *name, struct why *why)
{
    struct credential own;
    uint8_t file[CREDENTIAL_FILE_BYTES_MAX];
    struct credential_identity who = {.role = CREDENTIAL_OPERATOR};
    if (label_given == NULL || out_file == NULL)
        return why_set(why, AMI_BAD_ARGUMENT, "operator add needs --label and --out");
    AMI_TRY(cli_id(name, &who.name, why));
    if (label_parse(&who.label, label_given) != AMI_OK)
        return why_set(why, AMI_BAD_ARGUMENT,
                       "\"%.60s\" is no label: expected a level 0 to 3 and categories, such as "
                       "2:ledger+metering+operation+membership, or 0: for none",
                       label_given);
    const bool cfl = strcmp(kind_given, "cfl") == 0;
    if (!cfl && strcmp(kind_given, "implicit") != 0)
        return why_set(why, AMI_BAD_ARGUMENT, "--kind is implicit or cfl, not \"%.60s\"",
                       kind_given);
    if (access(out_file, F_OK) == 0)
        return why_set(why, AMI_EXISTS, "%.300s exists and will not be overwritten", out_file);
    AMI_TRY(next_epoch(w, name, &who.epoch, why));
    who.from_s = now_s() - EARLY_S;
    who.until_s = now_s() + days * DAY_S;
    enum ami_status status = cfl ? issue_cfl(w, &who, &own, why) : issue(w, &who, &own);
    if (status == AMI_OK)
        status = note_down(w, &own, why);
    /* From the first operator on there is a list, so that every DC can know that it has it. */
    if (status == AMI_OK && access(w->revoked, F_OK) != 0)
        status = write_revoked(w, why);
    if (status == AMI_OK) {
        size_t size = credential_file_encode(file, &w->net, &own);
        status = file_write_new(out_file, span_of(file, size), FILE_MODE_SECRET, why);
        secret_wipe(file, sizeof file);
    }
    secret_wipe(&own, sizeof own);
    return status;
}

/* --- revoke and list -------------------------------------------------------------------------- */

/* Again for one that is revoked already: the signed list may not have been written then. */
static enum ami_status take_back(struct work *w, const char *name, struct why *why)
{
    bool found = false, changed = false;
    for (size_t i = 0; i < json_array_size(w->all); i++) {
        json_t *o = json_array_get(w->all, i);
        if (strcmp(text(o, "name"), name) != 0 || number(o, "until") < now_s())
            continue;
        found = true;
        if (revoked(o))
            continue;
        changed = true;
        if (json_object_set_new(o, "revoked_ms", json_integer((json_int_t)clock_wall_ms())) != 0)
            return AMI_NO_MEMORY;
    }
    if (!found)
        return why_set(why, AMI_NOT_FOUND, "operator %s has no credential in force", name);
    if (changed)
        AMI_TRY(write_list(w, LIST_BYTES_MAX, why));
    return write_revoked(w, why);
}

/* --- which DC goes by which list ----------------------------------------------------------------
 */

struct dc_scan {
    struct ami_id last;
    json_t *dcs; /* names, in order */
    enum ami_status no_memory;
};

static bool each_dc(void *ctx, struct span key, struct span value)
{
    struct dc_scan *scan = ctx;
    struct ami_id id;
    uint8_t role;
    uint32_t epoch;
    (void)value;
    if (key_device_parse(&role, &id, &epoch, key) != AMI_OK || role != DEVICE_DC ||
        ami_id_equal(&id, &scan->last))
        return true;
    scan->last = id;
    if (json_array_append_new(scan->dcs, json_string(id.text)) != 0)
        scan->no_memory = AMI_NO_MEMORY;
    return scan->no_memory == AMI_OK;
}

static json_t *dc_state(struct mdms_store *store, const char *name, uint64_t number)
{
    struct ami_id id;
    struct span value;
    struct listed_record r = {0};
    const struct mdms_kv kv = mdms_store_kv(store);
    if (ami_id_from_text(&id, name) != AMI_OK)
        return NULL;
    const struct mdms_key key = key_listed(&id);
    const bool heard = kv.get(kv.ctx, TABLE_OPERATORS, key_span(&key), &value) == AMI_OK &&
                       listed_record_parse(&r, value) == AMI_OK;
    /* A list that counts there and is not kept does not outlive a restart. */
    const bool current =
        heard && number != 0 && (r.number > number || (r.number == number && r.status == AMI_OK));
    return json_pack("{s:s, s:I, s:b, s:s, s:o}", "dc", name, "number", (json_int_t)r.number,
                     "current", current, "status", ami_status_name((enum ami_status)r.status),
                     "at_ms", heard ? json_integer((json_int_t)r.at_ms) : json_null());
}

/* Every DC that was ever enrolled, and what it said last. */
static enum ami_status read_dcs(struct work *w, struct why *why)
{
    struct mdms_store *store;
    const struct ami_id none = {0};
    const struct mdms_key from = key_device(DEVICE_DC, &none, 0);
    struct dc_scan scan = {.dcs = json_array()};
    AMI_TRY(last_list(w, &w->number, &w->count, why));
    AMI_TRY(mdms_store_open(&store, common.dir, 0, why));
    enum ami_status status =
        scan.dcs == NULL
            ? AMI_NO_MEMORY
            : mdms_store_scan(store, TABLE_DEVICES, key_span(&from), each_dc, &scan, why);
    if (status == AMI_OK)
        status = scan.no_memory;
    w->dcs = json_array();
    for (size_t i = 0; status == AMI_OK && i < json_array_size(scan.dcs); i++)
        if (json_array_append_new(
                w->dcs,
                dc_state(store, json_string_value(json_array_get(scan.dcs, i)), w->number)) != 0)
            status = AMI_NO_MEMORY;
    json_decref(scan.dcs);
    mdms_store_close(store);
    return status;
}

static void print_list(const struct work *w)
{
    printf("%-20s %5s %-34s %-8s %s\n", "operator", "epoch", "label", "state", "days left");
    for (size_t i = 0; i < json_array_size(w->all); i++) {
        const json_t *o = json_array_get(w->all, i);
        const char *state = revoked(o) ? "revoked" : in_force(o) ? "valid" : "expired";
        printf("%-20s %5lld %-34s %-8s %lld\n", text(o, "name"), (long long)number(o, "epoch"),
               text(o, "label"), state, (long long)((number(o, "until") - now_s()) / DAY_S));
    }
    if (w->number == 0)
        return;
    printf("\nlist %llu, %u revoked\n", (unsigned long long)w->number, w->count);
    printf("%-20s %-14s %-12s %s\n", "DC", "list", "state", "said");
    for (size_t i = 0; i < json_array_size(w->dcs); i++) {
        const json_t *o = json_array_get(w->dcs, i);
        char time[CLI_TIME_BYTES] = "never";
        if (json_is_integer(json_object_get(o, "at_ms")))
            cli_time_text(time, number(o, "at_ms") / 1000);
        const bool current = json_is_true(json_object_get(o, "current"));
        printf("%-20s %-14lld %-12s %s\n", text(o, "dc"), (long long)number(o, "number"),
               current                                ? "current"
               : strcmp(text(o, "status"), "OK") == 0 ? "behind"
                                                      : text(o, "status"),
               time);
    }
}

static enum ami_status act(struct work *w, int argc, char **argv, struct why *why)
{
    const bool list = strcmp(argv[0], "list") == 0;
    if (!list && strcmp(argv[0], "add") != 0 && strcmp(argv[0], "revoke") != 0)
        return why_set(why, AMI_BAD_ARGUMENT, "expected add, revoke or list, not \"%.60s\"",
                       argv[0]);
    if (argc != (list ? 1 : 2))
        return why_set(why, AMI_BAD_ARGUMENT,
                       list ? "operator list takes no name" : "operator %s needs one name",
                       argv[0]);
    AMI_TRY(begin(w, !list, why));
    if (list)
        return read_dcs(w, why);
    return strcmp(argv[0], "add") == 0 ? add(w, argv[1], why) : take_back(w, argv[1], why);
}

static int run(int argc, char **argv, void *ctx)
{
    (void)ctx;
    struct why why = {{0}};
    struct work w = {.lock = -1};
    enum ami_status status = act(&w, argc, argv, &why);
    int exit_status = EXIT_STATUS_OK;
    if (status != AMI_OK) {
        exit_status = cli_fail(common.json, status, &why);
    } else if (common.json) {
        json_t *out = json_pack("{s:b, s:O}", "ok", 1, "operators", w.all);
        if (w.dcs != NULL) {
            json_object_set_new(out, "list",
                                json_pack("{s:I, s:I}", "number", (json_int_t)w.number, "revoked",
                                          (json_int_t)w.count));
            json_object_set(out, "dcs", w.dcs);
        }
        exit_status = cli_print_json(out);
    } else if (strcmp(argv[0], "list") == 0) {
        print_list(&w);
    } else if (strcmp(argv[0], "add") == 0) {
        printf("operator %s: %s, for %lld days, in %s\n", argv[1], label_given, (long long)days,
               out_file);
    } else {
        printf("operator %s is revoked; ami-mdms serve tells every DC, and ami-mdms operator list "
               "shows which know of it\n",
               argv[1]);
    }
    if (status == AMI_OK && (status = cli_stdout_done(&why)) != AMI_OK)
        exit_status = cli_fail(common.json, status, &why);
    end(&w);
    return exit_status;
}

const struct command_spec COMMAND_OPERATOR = {
    .name = "operator",
    .arguments = "add|revoke|list [NAME]",
    .arguments_min = 1,
    .arguments_max = 2,
    .summary = "credentials of those who may ask DCs",
    .example = "ami-mdms operator add alice --label 2:ledger+metering+operation --out alice.cred "
               "--dir mdms\nami-mdms operator revoke alice --dir mdms\n"
               "ami-mdms operator list --dir mdms",
    .options = options,
    .run = run,
};
