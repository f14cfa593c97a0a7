#include "mdms/roster.h"

#include "base/check.h"
#include "crypto/secret.h"
#include "mdms/seed.h"
#include "net/file.h"

#include <stdlib.h>
#include <string.h>

#define LIST_BYTES_MAX (1u << 20)
/* Of which additions leave so much to revocations, which lengthen an entry by a few bytes. */
#define LIST_BYTES_KEPT (LIST_BYTES_MAX / 16)
/* Nothing that is given out here is good for longer. */
#define LONGEST_S ((json_int_t)ISSUE_DAYS_MAX * ISSUE_DAY_S)

const char *roster_text(const json_t *entry, const char *key)
{
    const char *s = json_string_value(json_object_get(entry, key));
    return s == NULL ? "" : s;
}

json_int_t roster_number(const json_t *entry, const char *key)
{
    return json_integer_value(json_object_get(entry, key));
}

bool roster_is_revoked(const json_t *entry)
{
    return json_is_integer(json_object_get(entry, "revoked_ms"));
}

bool roster_in_force(const json_t *entry)
{
    return !roster_is_revoked(entry) && roster_number(entry, "until") >= issue_now_s();
}

static bool is_unknown(const json_t *entry)
{
    return strcmp(roster_text(entry, "name"), ROSTER_UNKNOWN) == 0;
}

/* When a revoked one may leave the signed list. An X.509 key may get another certificate when this
 * one has run out, and is revoked under that one as well: it stays for as long as anything does. */
static int64_t leaves_s(const json_t *entry)
{
    const int64_t until = roster_number(entry, "until");
    const int64_t least = roster_number(entry, "revoked_ms") / 1000 + LONGEST_S;
    const bool is_key =
        strcmp(roster_text(entry, "kind"), credential_kind_name(CREDENTIAL_X509)) == 0;
    return is_key && until < least ? least : until;
}

/* DCs with another clock do not miss it, either. */
static bool has_ended(int64_t until_s)
{
    return until_s < issue_now_s() - 2 * REVOKED_MARGIN_S;
}

/* --- reading ---------------------------------------------------------------------------------- */

/* Every entry has what the code takes from it. */
static bool list_valid(const json_t *all)
{
    uint8_t bytes[SM3_BYTES];
    if (!json_is_array(all))
        return false;
    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *o = json_array_get(all, i);
        const json_t *at = json_object_get(o, "revoked_ms");
        if (hex_decode(bytes, sizeof bytes, roster_text(o, "fingerprint")) != AMI_OK ||
            roster_text(o, "name")[0] == '\0' || !json_is_integer(json_object_get(o, "epoch")) ||
            !json_is_integer(json_object_get(o, "until")) ||
            !(json_is_integer(at) || json_is_null(at)))
            return false;
    }
    return true;
}

static enum ami_status read_list(struct roster *r, struct why *why)
{
    uint8_t *data = NULL;
    size_t size = 0;
    enum ami_status status = file_read(r->list, LIST_BYTES_MAX, &data, &size, why);
    if (status == AMI_NOT_FOUND) {
        r->all = json_array();
        return r->all == NULL ? AMI_NO_MEMORY : AMI_OK;
    }
    AMI_TRY(status);
    r->all = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
    free(data);
    return list_valid(r->all)
               ? AMI_OK
               : why_set(why, AMI_DAMAGED, "%.300s is no list of operators", r->list);
}

/* One that cannot be read is not written over: DCs may know its number. */
static enum ami_status read_last(struct roster *r, const struct network *net, struct why *why)
{
    uint8_t *data = NULL;
    size_t size;
    r->last = calloc(1, sizeof *r->last);
    if (r->last == NULL)
        return AMI_NO_MEMORY;
    enum ami_status status = file_read(r->revoked, AMI_REVOKED_BYTES_MAX, &data, &size, why);
    if (status == AMI_NOT_FOUND)
        return AMI_OK;
    AMI_TRY(status);
    status = revoked_list_parse(r->last, net, span_of(data, size));
    free(data);
    return status == AMI_OK
               ? AMI_OK
               : why_set(
                     why, status,
                     "%.300s is no signed list of this version (%s): move it away, and `ami-mdms "
                     "serve` puts the one that the DCs have in its place",
                     r->revoked, ami_status_text(status));
}

/* What the signed list has and list.json does not. */
static enum ami_status catch_up(struct roster *r)
{
    for (size_t i = 0; i < r->last->count; i++) {
        char hex[2 * SM3_BYTES + 1];
        const struct revoked_entry *e = &r->last->entry[i];
        const json_int_t at_ms = (json_int_t)r->last->issued_ms;
        json_t *entry = roster_find(r, &e->fingerprint);
        if (entry != NULL && roster_is_revoked(entry))
            continue;
        hex_encode(hex, e->fingerprint.b, SM3_BYTES);
        const int failed =
            entry != NULL ? json_object_set_new(entry, "revoked_ms", json_integer(at_ms))
                          : json_array_append_new(
                                r->all, json_pack("{s:s, s:i, s:s, s:s, s:I, s:I, s:s, s:I}",
                                                  "name", ROSTER_UNKNOWN, "epoch", 0, "kind",
                                                  ROSTER_UNKNOWN, "label", ROSTER_UNKNOWN, "from",
                                                  at_ms / 1000, "until", (json_int_t)e->until_s,
                                                  "fingerprint", hex, "revoked_ms", at_ms));
        if (failed)
            return AMI_NO_MEMORY;
    }
    return AMI_OK;
}

enum ami_status roster_read(struct roster *r, const char *dir, const struct network *net,
                            struct why *why)
{
    char folder[PATH_MAX];
    AMI_TRY(path_join(folder, sizeof folder, dir, SEED_FOLDER, why));
    AMI_TRY(path_join(r->list, sizeof r->list, folder, "list.json", why));
    AMI_TRY(path_join(r->revoked, sizeof r->revoked, folder, "revoked.list", why));
    AMI_TRY(read_list(r, why));
    AMI_TRY(read_last(r, net, why));
    return catch_up(r);
}

void roster_free(struct roster *r)
{
    json_decref(r->all);
    free(r->last);
    *r = (struct roster){.all = NULL};
}

/* --- changing --------------------------------------------------------------------------------- */

json_t *roster_find(const struct roster *r, const sm3_digest *fingerprint)
{
    char hex[2 * SM3_BYTES + 1];
    hex_encode(hex, fingerprint->b, SM3_BYTES);
    for (size_t i = 0; i < json_array_size(r->all); i++) {
        json_t *o = json_array_get(r->all, i);
        if (strcmp(roster_text(o, "fingerprint"), hex) == 0)
            return o;
    }
    return NULL;
}

bool roster_is_checked(const json_t *entry)
{
    return json_object_get(entry, "unchecked") == NULL && !is_unknown(entry);
}

enum ami_status roster_add(struct roster *r, const struct credential_identity *who, bool checked)
{
    char label[LABEL_TEXT_BYTES], hex[2 * SM3_BYTES + 1];
    label_text(label, who->label);
    hex_encode(hex, who->fingerprint.b, SM3_BYTES);
    json_t *entry =
        json_pack("{s:s, s:I, s:s, s:s, s:I, s:I, s:s, s:n}", "name", who->name.text, "epoch",
                  (json_int_t)who->epoch, "kind", credential_kind_name(who->kind), "label", label,
                  "from", (json_int_t)who->from_s, "until", (json_int_t)who->until_s, "fingerprint",
                  hex, "revoked_ms");
    if (!checked && json_object_set_new(entry, "unchecked", json_true()) != 0) {
        json_decref(entry);
        return AMI_NO_MEMORY;
    }
    return json_array_append_new(r->all, entry) == 0 ? AMI_OK : AMI_NO_MEMORY;
}

enum ami_status roster_revoke(json_t *entry)
{
    return json_object_set_new(entry, "revoked_ms", json_integer((json_int_t)clock_wall_ms())) == 0
               ? AMI_OK
               : AMI_NO_MEMORY;
}

/* The signed list as it is now has to go before its entries may: they would come back from it, as
 * unknown ones. */
static void leave_out_ended(struct roster *r)
{
    for (size_t i = json_array_size(r->all); i-- > 0;) {
        sm3_digest fingerprint;
        const json_t *o = json_array_get(r->all, i);
        AMI_CHECK(hex_decode(fingerprint.b, SM3_BYTES, roster_text(o, "fingerprint")) == AMI_OK);
        if (has_ended(leaves_s(o)) && revoked_list_find(r->last, &fingerprint) == NULL)
            (void)json_array_remove(r->all, i);
    }
}

/* Without those that only the signed list knows: it knows them still. */
static json_t *to_write(const struct roster *r)
{
    json_t *out = json_array();
    for (size_t i = 0; out != NULL && i < json_array_size(r->all); i++) {
        json_t *o = json_array_get(r->all, i);
        if (!is_unknown(o) && json_array_append(out, o) != 0) {
            json_decref(out);
            out = NULL;
        }
    }
    return out;
}

static enum ami_status write_list(const struct roster *r, size_t size_max, struct why *why)
{
    json_t *list = to_write(r);
    char *out = list == NULL ? NULL : json_dumps(list, JSON_INDENT(2));
    json_decref(list);
    if (out == NULL)
        return AMI_NO_MEMORY;
    enum ami_status status =
        strlen(out) > size_max
            ? why_set(why, AMI_FULL, "%.300s would be larger than the %zu bytes that are allowed",
                      r->list, size_max)
            : file_write(r->list, span_of(out, strlen(out)), FILE_MODE_PUBLIC, why);
    free(out);
    return status;
}

enum ami_status roster_write(struct roster *r, bool adds, struct why *why)
{
    const size_t size_max = adds ? LIST_BYTES_MAX - LIST_BYTES_KEPT : LIST_BYTES_MAX;
    const enum ami_status status = write_list(r, size_max, why);
    if (status != AMI_FULL)
        return status;
    leave_out_ended(r);
    return write_list(r, size_max, why);
}

/* How many entries of the last list have ended by a clock that is too far beyond it. */
static unsigned held(const struct roster *r)
{
    unsigned count = 0;
    const int64_t ahead_ms = (int64_t)ROSTER_AHEAD_DAYS * ISSUE_DAY_S * 1000;
    if (r->last->number == 0 || clock_wall_ms() - ahead_ms <= r->last->issued_ms)
        return 0;
    for (size_t i = 0; i < r->last->count; i++)
        count += has_ended(r->last->entry[i].until_s);
    return count;
}

static enum ami_status gather(const struct roster *r, struct revoked_list *list)
{
    for (size_t i = 0; i < r->last->count; i++)
        if (r->held != 0 || !has_ended(r->last->entry[i].until_s))
            AMI_TRY(revoked_list_add(list, &r->last->entry[i]));
    for (size_t i = 0; i < json_array_size(r->all); i++) {
        const json_t *o = json_array_get(r->all, i);
        struct revoked_entry e = {.until_s = leaves_s(o)};
        AMI_CHECK(hex_decode(e.fingerprint.b, SM3_BYTES, roster_text(o, "fingerprint")) == AMI_OK);
        if (roster_is_revoked(o) && !has_ended(e.until_s))
            AMI_TRY(revoked_list_add(list, &e));
    }
    return AMI_OK;
}

static enum ami_status sign(const struct roster *r, const struct issuer *by,
                            struct revoked_list *list, struct why *why)
{
    uint8_t *out = malloc(AMI_REVOKED_BYTES_MAX), random[SM2_WIDE_BYTES];
    if (out == NULL)
        return AMI_NO_MEMORY;
    /* A clock that looks wrong is not what the next one is held against. */
    list->issued_ms = r->held != 0 ? r->last->issued_ms : clock_wall_ms();
    list->number = revoked_list_number_after(r->last->number, clock_wall_ms());
    secret_random(random, sizeof random);
    const size_t size = revoked_list_encode(out, list, &by->net, &by->keys.sign, random);
    secret_wipe(random, sizeof random);
    const enum ami_status status =
        file_write(r->revoked, span_of(out, size), FILE_MODE_PUBLIC, why);
    free(out);
    return status;
}

enum ami_status roster_sign(struct roster *r, const struct issuer *by, bool clock_is_right,
                            struct why *why)
{
    struct revoked_list *list = calloc(1, sizeof *list);
    if (list == NULL)
        return AMI_NO_MEMORY;
    r->held = clock_is_right ? 0 : held(r);
    enum ami_status status = gather(r, list);
    if (status == AMI_FULL)
        (void)why_set(why, status, "more than %d credentials are revoked and in date%s",
                      AMI_REVOKED_MAX,
                      r->held == 0 ? ""
                                   : ", with those that have ended only by a clock that looks "
                                     "wrong; if it is right, --clock-is-right leaves them out");
    else if (status == AMI_OK)
        status = sign(r, by, list, why);
    if (status == AMI_OK) {
        struct revoked_list *before = r->last;
        r->last = list;
        list = before;
    }
    free(list);
    return status;
}
