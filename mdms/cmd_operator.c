/* mdms/cmd_operator.c - `ami-mdms operator`: who may ask DCs what.
 *
 * `add` issues an implicit certificate (channel/credential.h) or a CFL one with the label in it:
 * over the key of a request (channel/request.h), which stays with its operator, or over one that is
 * drawn here and goes into the operator's file. What was given out is written down (mdms/roster.h)
 * before a file is made, and a name that has a credential in force gets no second one. `revoke`
 * goes by that name, or by a certificate: an X.509 authority gives it out, or this folder, put back
 * from before, has not heard of it. Of a certificate is said whether anybody is known to have it:
 * one that was altered, or that somebody made for himself, revokes nobody.
 */
#include "base/check.h"
#include "channel/x509.h"
#include "crypto/secret.h"
#include "mdms/roster.h"
#include "mdms/seed.h"
#include "net/file.h"
#include "net/trust.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CERTIFICATE_BYTES_MAX (64u << 10)

static struct common_options common;
static const char *label_given, *out_file, *kind_given, *request_file, *certificate_file,
    *roots_file;
static bool clock_is_right;
static int64_t days = ISSUE_DAYS;

static const struct option_spec options[] = {
    CLI_OPTION_DIR,
    {.name = "label",
     .kind = OPTION_TEXT,
     .value = &label_given,
     .argument = "LABEL",
     .help = "add: level 0 to 3 and categories, such as 2:ledger+metering+operation"},
    {.name = "request",
     .kind = OPTION_TEXT,
     .value = &request_file,
     .argument = "FILE",
     .help = "add: over the operator's own key, from what `dc-cli request` wrote"},
    ISSUE_OPTION_DAYS("add: how long it is good, or may at most be asked for (default 365)"),
    {.name = "kind",
     .kind = OPTION_TEXT,
     .value = &kind_given,
     .argument = "KIND",
     .help = "add: implicit (default) or cfl; a request says which"},
    ISSUE_OPTION_OUT("add: where the operator's credential, or the answer to its request, goes",
                     false),
    {.name = "certificate",
     .kind = OPTION_TEXT,
     .value = &certificate_file,
     .argument = "FILE",
     .help = "revoke: by this instead of a name, an X.509 certificate (PEM) or what add has made"},
    {.name = "x509-roots",
     .kind = OPTION_TEXT,
     .value = &roots_file,
     .argument = "FILE",
     .help = "revoke: check an X.509 certificate, with its chain, against these roots (PEM)"},
    {.name = "clock-is-right",
     .kind = OPTION_FLAG,
     .value = &clock_is_right,
     .help = "revoke: this clock may be far beyond the last signed list: leave out what has ended"},
    CLI_OPTION_PASSPHRASE,
    CLI_OPTION_JSON,
    {0},
};

struct work {
    struct issuer by;
    struct roster roster;
    struct credential_identity who; /* that was added, or revoked by its certificate */
    struct cfl_certificate cfl;     /* of the latter, when it is one */
    const char *unchecked; /* why it is not known that anybody has it; NULL: somebody has */
    bool unwritten;        /* list.json had no room for what was revoked */
    json_t *dcs;           /* for `list` */
};

static enum ami_status begin(struct work *w, bool changes, struct why *why)
{
    if (changes) {
        AMI_TRY(issuer_begin(&w->by, &common, why));
        AMI_TRY(issuer_lock(&w->by, why));
    } else
        AMI_TRY(cli_network(common.dir, &w->by.net, why));
    return roster_read(&w->roster, common.dir, &w->by.net, why);
}

static void end(struct work *w)
{
    roster_free(&w->roster);
    json_decref(w->dcs);
    issuer_end(&w->by);
}

/* --- add -------------------------------------------------------------------------------------- */

static enum ami_status next_epoch(const struct roster *r, const char *name, uint32_t *epoch,
                                  struct why *why)
{
    *epoch = 1;
    for (size_t i = 0; i < json_array_size(r->all); i++) {
        const json_t *o = json_array_get(r->all, i);
        if (strcmp(roster_text(o, "name"), name) != 0)
            continue;
        if (roster_in_force(o))
            return why_set(why, AMI_EXISTS,
                           "operator %s has a credential in force; revoke it first", name);
        if (roster_number(o, "epoch") >= *epoch)
            *epoch = (uint32_t)roster_number(o, "epoch") + 1;
    }
    return AMI_OK;
}

static enum ami_status read_label(struct label *out, struct why *why)
{
    return label_parse(out, label_given) == AMI_OK
               ? AMI_OK
               : why_set(why, AMI_BAD_ARGUMENT,
                         "\"%.60s\" is no label: expected a level 0 to 3 and categories, such as "
                         "2:ledger+metering+operation+membership, or 0: for none",
                         label_given);
}

/* Issues, and writes down what was issued. */
static enum ami_status give(struct work *w, struct credential_answer *out,
                            const struct credential_request *request, struct label label,
                            struct why *why)
{
    AMI_TRY(issue_answer(&w->by, out, request, label, why));
    w->who = out->who;
    AMI_TRY(roster_add(&w->roster, &out->who, true));
    AMI_TRY(roster_write(&w->roster, true, why));
    /* From the first operator on there is a list, so that every DC can know that it has it. */
    return w->roster.last->number == 0 ? roster_sign(&w->roster, &w->by, clock_is_right, why)
                                       : AMI_OK;
}

/* What is asked for in the file, whose operator is to be `name`; NULL: the one that it names. */
static enum ami_status read_request(struct credential_request *out, const char *path,
                                    const char *name, struct why *why)
{
    uint8_t *data = NULL;
    size_t size;
    AMI_TRY(file_read(path, CREDENTIAL_REQUEST_BYTES_MAX, &data, &size, why));
    const enum ami_status status = credential_request_parse(out, span_of(data, size));
    free(data);
    if (status != AMI_OK)
        return why_set(why, status, "%.300s is no request for an operator's credential: %s", path,
                       ami_status_text(status));
    if (name != NULL && strcmp(name, out->who.name.text) != 0)
        return why_set(why, AMI_FOREIGN_KEY, "%.300s is the request of %s, not of %.64s", path,
                       out->who.name.text, name);
    return AMI_OK;
}

/* Is this operator to have what it asks for, under that label? */
static enum ami_status judge(const struct work *w, const struct credential_request *request,
                             struct label label, const char *path, struct why *why)
{
    const struct credential_identity *who = &request->who;
    char asked[LABEL_TEXT_BYTES];
    uint32_t epoch;
    AMI_TRY(issue_may_ask(&w->by, who, CREDENTIAL_OPERATOR, days, path, why));
    if (credential_request_check(request) != AMI_OK)
        return why_set(why, AMI_BAD_SIGNATURE, "%.300s is not signed with the key in it", path);
    AMI_TRY(next_epoch(&w->roster, who->name.text, &epoch, why));
    if (who->epoch != epoch)
        return why_set(why, AMI_WRONG_EPOCH,
                       "%.300s is for key epoch %u of %s, and its next one is %u: it has to ask "
                       "anew, with --epoch %u",
                       path, (unsigned)who->epoch, who->name.text, (unsigned)epoch,
                       (unsigned)epoch);
    label_text(asked, who->label);
    if (who->kind == CREDENTIAL_CFL &&
        (label.level != who->label.level || label.categories != who->label.categories))
        return why_set(
            why, AMI_NOT_ALLOWED,
            "%.300s asks for the label %s; under CFL it is the operator who signs it, so "
            "that for another one %s has to ask anew",
            path, asked, who->name.text);
    return AMI_OK;
}

/* The operator has the key, and gets no more than what belongs to it. */
static enum ami_status add_asked(struct work *w, const char *name, struct why *why)
{
    struct credential_request request;
    struct credential_answer answer;
    uint8_t file[CREDENTIAL_ANSWER_BYTES_MAX];
    AMI_TRY(read_request(&request, request_file, name, why));
    struct label label;
    AMI_TRY(read_label(&label, why));
    AMI_TRY(judge(w, &request, label, request_file, why));
    AMI_TRY(give(w, &answer, &request, label, why));
    return file_write_new(out_file, span_of(file, credential_answer_encode(file, &answer)),
                          FILE_MODE_PUBLIC, why);
}

static enum ami_status identify(const struct work *w, struct credential_identity *out,
                                const char *name, struct why *why)
{
    const bool cfl = kind_given != NULL && strcmp(kind_given, "cfl") == 0;
    *out = (struct credential_identity){.kind = cfl ? CREDENTIAL_CFL : CREDENTIAL_IMPLICIT,
                                        .role = CREDENTIAL_OPERATOR,
                                        .from_s = issue_now_s() - ISSUE_EARLY_S,
                                        .until_s = issue_now_s() + days * ISSUE_DAY_S};
    AMI_TRY(cli_id(name, &out->name, why));
    AMI_TRY(read_label(&out->label, why));
    if (!cfl && kind_given != NULL && strcmp(kind_given, "implicit") != 0)
        return why_set(why, AMI_BAD_ARGUMENT, "--kind is implicit or cfl, not \"%.60s\"",
                       kind_given);
    return next_epoch(&w->roster, name, &out->epoch, why);
}

/* The MDMS is the operator as well: it draws the key, which goes into the operator's file. */
static enum ami_status add_drawn(struct work *w, const char *name, struct why *why)
{
    uint8_t random[2][SM2_WIDE_BYTES], file[CREDENTIAL_FILE_BYTES_MAX];
    struct credential_identity who;
    struct credential_key drawn;
    struct credential_answer answer;
    struct credential own;
    AMI_TRY(identify(w, &who, name, why));
    secret_random(random, sizeof random);
    enum ami_status status =
        credential_request_make(&drawn, &w->by.net, &who, (const uint8_t(*)[SM2_WIDE_BYTES])random);
    if (status == AMI_OK)
        status = give(w, &answer, &drawn.request, who.label, why);
    if (status == AMI_OK)
        status = credential_answer_accept(&own, &answer, &drawn, NULL);
    if (status == AMI_OK) {
        const size_t size = credential_file_encode(file, &w->by.net, &own);
        status = file_write_new(out_file, span_of(file, size), FILE_MODE_SECRET, why);
    }
    secret_wipe(random, sizeof random);
    secret_wipe(&drawn, sizeof drawn);
    secret_wipe(&own, sizeof own);
    secret_wipe(file, sizeof file);
    return status;
}

static enum ami_status add(struct work *w, const char *name, struct why *why)
{
    if (out_file == NULL || label_given == NULL)
        return why_set(why, AMI_BAD_ARGUMENT,
                       "operator add needs --out, and --label: what the operator may ask is yours "
                       "to say, also where a request names a label");
    if (request_file != NULL && kind_given != NULL)
        return why_set(
            why, AMI_BAD_ARGUMENT,
            "a request says of which kind it is: --kind is for operator add without one");
    if (access(out_file, F_OK) == 0)
        return why_set(why, AMI_EXISTS, "%.300s exists and will not be overwritten", out_file);
    return request_file != NULL ? add_asked(w, name, why) : add_drawn(w, name, why);
}

/* --- revoke ----------------------------------------------------------------------------------- */

/* Again for one that is revoked already: the signed list may not have been written then. */
static enum ami_status take_back_named(struct work *w, const char *name, struct why *why)
{
    bool found = false;
    for (size_t i = 0; i < json_array_size(w->roster.all); i++) {
        json_t *o = json_array_get(w->roster.all, i);
        if (strcmp(roster_text(o, "name"), name) != 0 || roster_number(o, "until") < issue_now_s())
            continue;
        found = true;
        if (!roster_is_revoked(o))
            AMI_TRY(roster_revoke(o));
    }
    return found
               ? AMI_OK
               : why_set(why, AMI_NOT_FOUND,
                         "operator %s has no credential in force here; one under X.509 is revoked "
                         "by its certificate",
                         name);
}

/* What a file of ours says, credential or answer. AMI_BAD_ENCODING: it is neither. The key that may
 * be in it is not needed. */
static enum ami_status read_ours(struct work *w, struct span in)
{
    struct credential own;
    struct credential_answer answer;
    struct network net;
    enum ami_status status = credential_file_parse(&own, &net, in);
    if (status == AMI_OK) {
        w->who = own.who;
        w->who.network = net.id;
        /* The key in it is the one that the network's P_pub certifies, if that is the network. */
        w->unchecked = NULL;
        if (own.who.kind == CREDENTIAL_CFL)
            status = cfl_certificate_parse(&w->cfl, span_of(own.shown, own.shown_size));
    } else if (status == AMI_BAD_ENCODING &&
               (status = credential_answer_parse(&answer, in)) == AMI_OK) {
        w->who = answer.who;
        w->cfl = (struct cfl_certificate){answer.who, answer.self, answer.issuer};
        w->unchecked = "an answer does not show who made it, and this folder has not written it "
                       "down";
    }
    secret_wipe(&own, sizeof own);
    return status;
}

/* By the issuer's signature, where the public set is at hand. */
static enum ami_status check_cfl(struct work *w, const char *path, struct why *why)
{
    char set[PATH_MAX];
    struct trust trust;
    AMI_TRY(seed_public_path(set, sizeof set, common.dir, why));
    if (access(set, F_OK) != 0) {
        w->unchecked = "there is no public seed set in this folder to check it with";
        return AMI_OK;
    }
    const struct trust_files files = {.cfl_public = set};
    enum ami_status status = trust_load(&trust, &w->by.net, &files, why);
    if (status == AMI_OK && cfl_certificate_check(&w->cfl, trust.cfl) != FAULT_NONE)
        status = why_set(why, AMI_BAD_SIGNATURE,
                         "the issuer of %.300s did not make %.300s: it was altered, or somebody "
                         "else made it, and revoking it would revoke nobody",
                         set, path);
    trust_end(&trust);
    w->unchecked = NULL;
    return status;
}

/* By its chain; one that has expired is held against the day of its end. */
static enum ami_status check_x509(struct work *w, const char *path, struct span pem,
                                  struct why *why)
{
    struct trust trust;
    const struct trust_files files = {.roots = roots_file,
                                      .crls = TRUST_NO_CRLS,
                                      .operators = roots_file,
                                      .operators_label = "3:ledger+metering+operation+membership"};
    if (roots_file == NULL) {
        w->unchecked = "it was not checked against an authority, for want of --x509-roots";
        return AMI_OK;
    }
    int64_t at_s = issue_now_s();
    at_s = at_s > w->who.until_s ? w->who.until_s : at_s;
    at_s = at_s < w->who.from_s ? w->who.from_s : at_s;
    enum ami_status status = trust_load(&trust, &w->by.net, &files, why);
    if (status == AMI_OK) {
        const enum channel_fault fault = x509_chain_check(pem, trust.x509, at_s);
        if (fault != FAULT_NONE)
            status = why_set(why, AMI_BAD_SIGNATURE,
                             "no authority under %.300s made %.300s (%s), as far as the chain in "
                             "it shows: revoking it may revoke nobody",
                             roots_file, path, channel_fault_text(fault));
    }
    trust_end(&trust);
    w->unchecked = NULL;
    return status;
}

/* Of one that nobody is known to have: is it in another's place? */
static enum ami_status find_another(const struct work *w, const char *path, struct why *why)
{
    char hex[2 * SM3_BYTES + 1];
    hex_encode(hex, w->who.fingerprint.b, SM3_BYTES);
    for (size_t i = 0; i < json_array_size(w->roster.all); i++) {
        const json_t *o = json_array_get(w->roster.all, i);
        const bool both_x509 =
            w->who.kind == CREDENTIAL_X509 &&
            strcmp(roster_text(o, "kind"), credential_kind_name(CREDENTIAL_X509)) == 0;
        /* X.509 has no epochs: the name alone says whose place it is in. */
        const bool same = strcmp(roster_text(o, "name"), w->who.name.text) == 0 &&
                          (w->who.kind == CREDENTIAL_X509 ||
                           roster_number(o, "epoch") == (json_int_t)w->who.epoch);
        if (same && !both_x509 && roster_is_checked(o))
            return why_set(
                why, AMI_FOREIGN_KEY,
                "%.200s has the fingerprint %.16s.., and what %s was given for key epoch "
                "%lld has %.16s..: %s; revoke %s by name, or by another file",
                path, hex, w->who.name.text, (long long)roster_number(o, "epoch"),
                roster_text(o, "fingerprint"), w->unchecked, w->who.name.text);
    }
    return AMI_OK;
}

/* Does anybody have this credential? What was written down here was given out. */
static enum ami_status check(struct work *w, const char *path, struct span in, struct why *why)
{
    const json_t *entry = roster_find(&w->roster, &w->who.fingerprint);
    if (entry != NULL && roster_is_checked(entry))
        w->unchecked = NULL;
    else if (w->who.kind == CREDENTIAL_CFL)
        AMI_TRY(check_cfl(w, path, why));
    else if (w->who.kind == CREDENTIAL_X509)
        AMI_TRY(check_x509(w, path, in, why));
    return w->unchecked == NULL ? AMI_OK : find_another(w, path, why);
}

static enum ami_status judge_shown(struct work *w, const char *path, struct span in,
                                   struct why *why)
{
    enum ami_status status = read_ours(w, in);
    if (status == AMI_BAD_ENCODING)
        status = x509_identity(&w->who, in);
    if (status != AMI_OK)
        return why_set(why, status,
                       "%.300s is neither a certificate in PEM with a name of amiledger's nor an "
                       "operator's credential: %s",
                       path, ami_status_text(status));
    if (!sm3_equal(&w->who.network, &w->by.net.id))
        return why_set(why, AMI_WRONG_CHAIN, "%.300s is for another network", path);
    if (w->who.role != CREDENTIAL_OPERATOR)
        return why_set(why, AMI_NOT_ALLOWED,
                       "%.300s is the credential of %s %s: operators are revoked here", path,
                       credential_role_name(w->who.role), w->who.name.text);
    /* A key under X.509 may have another certificate, which is revoked with it. */
    if (w->who.kind != CREDENTIAL_X509 && w->who.until_s < issue_now_s())
        return why_set(why, AMI_NOT_FOUND, "%.300s has expired", path);
    return check(w, path, in, why);
}

static enum ami_status take_back_shown(struct work *w, const char *path, struct why *why)
{
    uint8_t *data = NULL;
    size_t size;
    AMI_TRY(file_read(path, CERTIFICATE_BYTES_MAX, &data, &size, why));
    const enum ami_status status = judge_shown(w, path, span_of(data, size), why);
    secret_wipe(data, size);
    free(data);
    AMI_TRY(status);
    json_t *entry = roster_find(&w->roster, &w->who.fingerprint);
    if (entry == NULL) {
        AMI_TRY(roster_add(&w->roster, &w->who, w->unchecked == NULL));
        entry = json_array_get(w->roster.all, json_array_size(w->roster.all) - 1);
    } else if (w->unchecked == NULL)
        (void)json_object_del(entry, "unchecked");
    return roster_is_revoked(entry) ? AMI_OK : roster_revoke(entry);
}

/* The signed list first: it is what counts, and list.json follows it. */
static enum ami_status take_back(struct work *w, const char *name, struct why *why)
{
    struct why full = {{0}};
    AMI_TRY(name != NULL ? take_back_named(w, name, why)
                         : take_back_shown(w, certificate_file, why));
    AMI_TRY(roster_sign(&w->roster, &w->by, clock_is_right, why));
    const enum ami_status status = roster_write(&w->roster, false, &full);
    w->unwritten = status == AMI_FULL;
    return status == AMI_OK || status == AMI_FULL
               ? AMI_OK
               : why_set(why, status, "the signed list is written, and counts: %.400s", full.text);
}

/* --- list: which DC goes by which signed one ---------------------------------------------------
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
    const bool current = heard && number != 0 && r.number == number && r.status == AMI_OK;
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
    AMI_TRY(mdms_store_open(&store, common.dir, 0, why));
    enum ami_status status =
        scan.dcs == NULL
            ? AMI_NO_MEMORY
            : mdms_store_scan(store, TABLE_DEVICES, key_span(&from), each_dc, &scan, why);
    if (status == AMI_OK)
        status = scan.no_memory;
    w->dcs = json_array();
    for (size_t i = 0; status == AMI_OK && i < json_array_size(scan.dcs); i++)
        if (json_array_append_new(w->dcs,
                                  dc_state(store, json_string_value(json_array_get(scan.dcs, i)),
                                           w->roster.last->number)) != 0)
            status = AMI_NO_MEMORY;
    json_decref(scan.dcs);
    mdms_store_close(store);
    return status;
}

static const char *list_state(const json_t *dc, uint64_t known)
{
    if (json_is_true(json_object_get(dc, "current")))
        return "current";
    if ((uint64_t)roster_number(dc, "number") > known)
        return "ahead"; /* this folder was put back from before; `serve` has its list from it */
    const char *status = roster_text(dc, "status");
    if (strcmp(status, ami_status_name(AMI_EXISTS)) == 0)
        return "refused"; /* it goes by one that names somebody whom this one lacks */
    return strcmp(status, ami_status_name(AMI_OK)) == 0 ? "behind" : status;
}

static void print_list(const struct work *w)
{
    const struct revoked_list *last = w->roster.last;
    printf("%-20s %5s %-34s %-8s %s\n", "operator", "epoch", "label", "state", "days left");
    for (size_t i = 0; i < json_array_size(w->roster.all); i++) {
        const json_t *o = json_array_get(w->roster.all, i);
        const char *state = roster_is_revoked(o) ? "revoked"
                            : roster_in_force(o) ? "valid"
                                                 : "expired";
        printf("%-20s %5lld %-34s %-8s %lld\n", roster_text(o, "name"),
               (long long)roster_number(o, "epoch"), roster_text(o, "label"), state,
               (long long)((roster_number(o, "until") - issue_now_s()) / ISSUE_DAY_S));
    }
    if (last->number == 0)
        return;
    printf("\nlist %llu, %u revoked\n", (unsigned long long)last->number, (unsigned)last->count);
    printf("%-20s %-14s %-12s %s\n", "DC", "list", "state", "said");
    for (size_t i = 0; i < json_array_size(w->dcs); i++) {
        const json_t *o = json_array_get(w->dcs, i);
        char time[CLI_TIME_BYTES] = "never";
        if (json_is_integer(json_object_get(o, "at_ms")))
            cli_time_text(time, roster_number(o, "at_ms") / 1000);
        printf("%-20s %-14lld %-12s %s\n", roster_text(o, "dc"),
               (long long)roster_number(o, "number"), list_state(o, last->number), time);
    }
}

/* --- the command ------------------------------------------------------------------------------ */

static enum ami_status act(struct work *w, int argc, char **argv, struct why *why)
{
    const bool list = strcmp(argv[0], "list") == 0, revokes = strcmp(argv[0], "revoke") == 0;
    const char *name = argc > 1 ? argv[1] : NULL;
    if (!list && !revokes && strcmp(argv[0], "add") != 0)
        return why_set(why, AMI_BAD_ARGUMENT, "expected add, revoke or list, not \"%.60s\"",
                       argv[0]);
    if (list && name != NULL)
        return why_set(why, AMI_BAD_ARGUMENT, "operator list takes no name");
    if (revokes && (name != NULL) == (certificate_file != NULL))
        return why_set(why, AMI_BAD_ARGUMENT,
                       "operator revoke needs one name, or --certificate with the operator's");
    if (roots_file != NULL && certificate_file == NULL)
        return why_set(why, AMI_BAD_ARGUMENT, "--x509-roots is for operator revoke --certificate");
    if (!list && !revokes && name == NULL && request_file == NULL)
        return why_set(why, AMI_BAD_ARGUMENT, "operator add needs one name, or --request");
    AMI_TRY(begin(w, !list, why));
    if (list)
        return read_dcs(w, why);
    return revokes ? take_back(w, name, why) : add(w, name, why);
}

static void print_added(const struct credential_identity *who)
{
    char label[LABEL_TEXT_BYTES];
    label_text(label, who->label);
    printf("operator %s: %s, for %lld days, in %s\n", who->name.text, label,
           (long long)((who->until_s - issue_now_s() + ISSUE_DAY_S / 2) / ISSUE_DAY_S), out_file);
    if (request_file != NULL)
        printf("that is the answer to its request, and nothing secret: `dc-cli accept` makes the "
               "credential of it%s\n",
               who->kind == CREDENTIAL_CFL ? ", with operators/cfl.public" : "");
}

/* What went otherwise than one would think, on stderr also beside JSON. */
static void print_notes(const struct work *w)
{
    if (w->unchecked != NULL)
        fprintf(stderr,
                PROGRAM ": note: it is not known whether anybody has that certificate: %s\n",
                w->unchecked);
    if (w->unwritten)
        fprintf(stderr,
                PROGRAM ": note: %s is full: the signed list has who was revoked, and list.json "
                        "does not say so\n",
                w->roster.list);
    if (w->roster.held != 0)
        fprintf(stderr,
                PROGRAM ": note: this clock looks wrong, it is more than %d days beyond the last "
                        "signed list: %u that have ended by it stay on the list; if it is right, "
                        "--clock-is-right leaves them out\n",
                ROSTER_AHEAD_DAYS, w->roster.held);
}

static int print_json(const struct work *w)
{
    json_t *out = json_pack("{s:b, s:O}", "ok", 1, "operators", w->roster.all);
    if (w->dcs != NULL) {
        json_object_set_new(out, "list",
                            json_pack("{s:I, s:I}", "number", (json_int_t)w->roster.last->number,
                                      "revoked", (json_int_t)w->roster.last->count));
        json_object_set(out, "dcs", w->dcs);
    }
    return cli_print_json(out);
}

static int run(int argc, char **argv, void *ctx)
{
    (void)ctx;
    struct why why = {{0}};
    struct work w = {.by = {.lock = -1}};
    enum ami_status status = act(&w, argc, argv, &why);
    int exit_status = EXIT_STATUS_OK;
    if (status != AMI_OK) {
        exit_status = cli_fail(common.json, status, &why);
    } else if (common.json) {
        exit_status = print_json(&w);
    } else if (strcmp(argv[0], "list") == 0) {
        print_list(&w);
    } else if (strcmp(argv[0], "add") == 0) {
        print_added(&w.who);
    } else {
        printf("operator %s is revoked; ami-mdms serve tells every DC, and ami-mdms operator list "
               "shows which know of it\n",
               argc > 1 ? argv[1] : w.who.name.text);
    }
    if (status == AMI_OK)
        print_notes(&w);
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
    .example = "ami-mdms operator add --request alice.request --label 2:ledger+metering+operation "
               "--out alice.answer --dir mdms\n"
               "ami-mdms operator add alice --label 2:ledger+metering+operation --out alice.cred "
               "--dir mdms\nami-mdms operator revoke alice --dir mdms\n"
               "ami-mdms operator revoke --certificate bob.pem --dir mdms\n"
               "ami-mdms operator list --dir mdms",
    .options = options,
    .run = run,
};
