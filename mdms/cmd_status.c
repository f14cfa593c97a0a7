/* mdms/cmd_status.c - `ami-mdms status`: how far the ledger was followed, and what `serve` speaks
 * under.
 */
#include "base/check.h"
#include "mdms/cli.h"
#include "mdms/serving.h"
#include "net/loop.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static struct common_options common;

static const struct option_spec options[] = {
    CLI_OPTION_DIR,
    CLI_OPTION_JSON,
    {0},
};

struct figures {
    struct network net;
    struct state_record state;
    uint64_t codes, outbox, requests, revocations;
    /* Membership. */
    uint32_t epoch;     /* of the block above the last one followed */
    uint64_t next_from; /* first height of the epoch after that; 0: none is decided */
    char change[96];    /* that change, or one that was asked for; empty: none */
    const char *change_state;
    struct retained_record retained;
    struct retention_record retention; /* the last one asked for; below 0: none */
    struct serving serving;
    struct why serving_why; /* why that is not known; empty: it is */
};

static const char *change_name(uint8_t change)
{
    return change == MEMBER_JOIN ? "join" : change == MEMBER_LEAVE ? "leave" : "rotate";
}

static enum ami_status collect_epochs(struct figures *f, const struct mdms_kv *kv)
{
    f->epoch = 1;
    for (uint32_t epoch = 2; epoch != 0; epoch++) {
        struct epoch_record e;
        struct membership m;
        struct span value;
        struct mdms_key key = key_number(epoch);
        enum ami_status status = kv->get(kv->ctx, TABLE_EPOCHS, key_span(&key), &value);
        if (status == AMI_NOT_FOUND)
            return AMI_OK;
        AMI_TRY(status);
        if (epoch_record_parse(&e, value) != AMI_OK || membership_parse(&m, e.first) != AMI_OK)
            return AMI_DAMAGED;
        if (e.height + m.delay <= f->state.height + 1) {
            f->epoch = epoch;
            continue;
        }
        f->next_from = e.height + m.delay;
        f->change_state = "decided";
        snprintf(f->change, sizeof f->change, "%s of %s", change_name(m.change), m.dc.text);
    }
    return AMI_OK;
}

/* The last change that was asked for, unless it is decided or in force. */
static bool last_change(void *ctx, struct span key, struct span value)
{
    struct figures *f = ctx;
    struct change_record c;
    (void)key;
    if (change_record_parse(&c, value) != AMI_OK)
        return true;
    if (c.state == CHANGE_SIGNED && c.number <= f->state.settled) {
        if (f->next_from == 0)
            f->change[0] = '\0';
        return true;
    }
    f->change_state = c.state == CHANGE_WANTED   ? "asked for"
                      : c.state == CHANGE_SIGNED ? "signed, not on the ledger yet"
                                                 : "refused";
    if (c.state == CHANGE_REFUSED)
        snprintf(f->change, sizeof f->change, "%s of %s: %s", change_name(c.change), c.dc.text,
                 ami_status_name((enum ami_status)c.status));
    else
        snprintf(f->change, sizeof f->change, "%s of %s", change_name(c.change), c.dc.text);
    return true;
}

static bool last_retention(void *ctx, struct span key, struct span value)
{
    struct figures *f = ctx;
    (void)key;
    return retention_record_parse(&f->retention, value) == AMI_OK;
}

/* What is said of the last watermark that was asked for; NULL: nothing, it is on the ledger. */
static const char *retention_state(const struct figures *f)
{
    const struct retention_record *r = &f->retention;
    if (r->below == 0 || (r->state == CHANGE_SIGNED && r->number <= f->state.settled))
        return NULL;
    return r->state == CHANGE_WANTED   ? "asked for"
           : r->state == CHANGE_SIGNED ? "signed, not on the ledger yet"
                                       : "refused";
}

static enum ami_status collect(struct figures *f, struct why *why)
{
    struct mdms_store *store;
    AMI_TRY(cli_network(common.dir, &f->net, why));
    /* It is the least of what there is to say, and `serve` writes it again. */
    if (serving_read(&f->serving, common.dir, &f->serving_why) == AMI_OK)
        f->serving_why = (struct why){""};
    AMI_TRY(mdms_store_open(&store, common.dir, 0, why));
    struct mdms_kv kv = mdms_store_kv(store);
    enum ami_status status = mdms_state_load(&kv, &f->state);
    if (status == AMI_DAMAGED)
        why_set(why, status, "%s/store: the state record is damaged", common.dir);
    if (status == AMI_OK)
        status = mdms_store_count(store, TABLE_CODES, &f->codes, why);
    if (status == AMI_OK)
        status = mdms_store_count(store, TABLE_OUTBOX, &f->outbox, why);
    if (status == AMI_OK)
        status = mdms_store_count(store, TABLE_REQUESTS, &f->requests, why);
    if (status == AMI_OK)
        status = mdms_store_count(store, TABLE_REVOCATIONS, &f->revocations, why);
    if (status == AMI_OK && (status = collect_epochs(f, &kv)) != AMI_OK)
        why_set(why, status, "%s/store: the membership records: %s", common.dir,
                ami_status_text(status));
    struct mdms_key from = key_number(0);
    if (status == AMI_OK)
        status = mdms_store_scan(store, TABLE_CHANGES, key_span(&from), last_change, f, why);
    if (status == AMI_OK)
        status = mdms_store_scan(store, TABLE_RETENTIONS, key_span(&from), last_retention, f, why);
    struct mdms_key key = key_retained();
    struct span value;
    if (status == AMI_OK && kv.get(kv.ctx, TABLE_STATE, key_span(&key), &value) == AMI_OK &&
        retained_record_parse(&f->retained, value) != AMI_OK)
        status = why_set(why, AMI_DAMAGED, "%s/store: the retention record is damaged", common.dir);
    mdms_store_close(store);
    return status;
}

static void hex_or_nothing(char out[2 * SM3_BYTES + 1], const sm3_digest *d)
{
    static const sm3_digest zero;
    out[0] = '\0';
    if (!sm3_equal(d, &zero))
        hex_encode(out, d->b, SM3_BYTES);
}

static json_t *seconds_left(int64_t until_s, int64_t now_s)
{
    return until_s == INT64_MAX ? json_null() : json_integer((json_int_t)(until_s - now_s));
}

static int print_status_json(const struct figures *f, const char *chain, const char *tip,
                             const char *tip_time)
{
    const struct state_record *s = &f->state;
    char id[2 * SM3_BYTES + 1];
    hex_encode(id, f->net.id.b, SM3_BYTES);
    json_t *o = json_pack(
        "{s:b, s:s, s:s, s:i, s:s, s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, "
        "s:I, s:I, s:I, s:s, s:s, s:I, s:I, s:I, s:s}",
        "ok", 1, "network", f->net.name.text, "network_id", id, "scheme", (int)f->net.scheme,
        "chain", chain, "height", (json_int_t)s->height, "tip", tip, "tip_time", tip_time, "codes",
        (json_int_t)f->codes, "dcs", (json_int_t)s->dcs, "meters", (json_int_t)s->meters, "reports",
        (json_int_t)s->reports, "readings", (json_int_t)s->readings, "transactions",
        (json_int_t)s->last, "outbox", (json_int_t)(f->outbox + f->requests), "revocations",
        (json_int_t)(f->revocations + f->requests), "bad_seals", (json_int_t)s->bad_seals,
        "bad_reports", (json_int_t)s->bad_reports, "epoch", (json_int_t)f->epoch, "next_epoch_at",
        (json_int_t)f->next_from, "membership_change", f->change, "membership_change_state",
        f->change[0] == '\0' ? "" : f->change_state, "retention_below",
        (json_int_t)f->retained.below, "pruned_unread", (json_int_t)f->retained.unread,
        "retention_asked", (json_int_t)f->retention.below, "retention_state",
        retention_state(f) == NULL ? "" : retention_state(f));
    const int64_t now_s = clock_wall_ms() / 1000;
    json_object_set_new(o, "credential",
                        f->serving.kind[0] == '\0'
                            ? json_null()
                            : json_pack("{s:s, s:o}", "kind", f->serving.kind, "expires_in_s",
                                        seconds_left(f->serving.until_s, now_s)));
    json_object_set_new(o, "trust_expires_in_s", seconds_left(f->serving.trust_until_s, now_s));
    if (f->serving_why.text[0] != '\0')
        json_object_set_new(o, "credential_error", json_string(f->serving_why.text));
    return cli_print_json(o);
}

static void print_credential(const struct figures *f)
{
    const struct serving *s = &f->serving;
    const int64_t now_s = clock_wall_ms() / 1000;
    if (f->serving_why.text[0] != '\0')
        printf("credential    not known: %s\n", f->serving_why.text);
    if (s->kind[0] == '\0')
        return;
    printf("credential    %s", s->kind);
    if (s->until_s != INT64_MAX)
        printf(", %" PRId64 " days left", (s->until_s - now_s) / 86400);
    if (s->trust_until_s != INT64_MAX)
        printf("; X.509 roots and lists: %" PRId64 " days left",
               (s->trust_until_s - now_s) / 86400);
    printf("\n");
}

static int run_status(int argc, char **argv, void *ctx)
{
    (void)argc;
    (void)argv;
    (void)ctx;
    struct why why = {0};
    struct figures f;
    memset(&f, 0, sizeof f);
    enum ami_status status = collect(&f, &why);
    if (status != AMI_OK)
        return program_fail(PROGRAM, common.json, status, &why);
    const struct state_record *s = &f.state;
    char chain[2 * SM3_BYTES + 1], tip[2 * SM3_BYTES + 1], time[CLI_TIME_BYTES] = "";
    hex_or_nothing(chain, &s->chain);
    hex_or_nothing(tip, &s->tip);
    if (s->height > 0)
        cli_time_text(time, s->tip_ms / 1000);
    if (common.json)
        return print_status_json(&f, chain, tip, time);
    const struct scheme *scheme = scheme_by_number(f.net.scheme);
    printf("network       %s (%s)\n", f.net.name.text, scheme == NULL ? "?" : scheme->name);
    printf("chain         %s\n", chain[0] == '\0' ? "none yet" : chain);
    printf("followed to   height %" PRIu64 "%s%s\n", s->height, time[0] == '\0' ? "" : ", of ",
           time);
    printf("membership    epoch %u", (unsigned)f.epoch);
    if (f.change[0] != '\0')
        printf("; %s: %s", f.change_state, f.change);
    if (f.next_from != 0)
        printf(", from height %" PRIu64 " on", f.next_from);
    printf("\n");
    printf("devices       %" PRIu64 " DCs, %" PRIu64 " meters enrolled; %" PRIu64 " codes made\n",
           s->dcs, s->meters, f.codes);
    printf("readings      %" PRIu64 " in %" PRIu64 " reports\n", s->readings, s->reports);
    printf("outbox        %" PRIu64 " of %" PRIu64 " transactions not on the ledger yet\n",
           f.outbox + f.requests, s->last + f.requests);
    printf("bad seals     %" PRIu64 "\n", s->bad_seals);
    print_credential(&f);
    if (f.retained.below != 0)
        printf("retention     blocks below height %" PRIu64 " may be pruned\n", f.retained.below);
    if (retention_state(&f) != NULL)
        printf("retention     %s: below height %" PRIu64 "\n", retention_state(&f),
               f.retention.below);
    if (f.retained.unread != 0)
        printf("never read    %" PRIu64 " reports, the last in block %" PRIu64
               ": pruned before this folder had them\n",
               f.retained.unread, f.retained.unread_to);
    if (s->bad_reports > 0)
        printf("bad reports   %" PRIu64 "\n", s->bad_reports);
    status = cli_stdout_done(&why);
    return status == AMI_OK ? EXIT_STATUS_OK : program_fail(PROGRAM, false, status, &why);
}

const struct command_spec COMMAND_STATUS = {
    .name = "status",
    .summary = "how far the ledger was followed, and what came of it",
    .example = "ami-mdms status --dir mdms --json",
    .options = options,
    .run = run_status,
};
