/* mdms/cmd_retain.c - `ami-mdms retain`: below this height, or before this day, the MDMS has all
 * readings, and DCs may forget what they keep sealed for it.
 *
 * The request is put into the store, as with `revoke`; `serve` (running now or started later) signs
 * it and sees it onto the ledger. What the DCs prune then, nobody has any more but this folder and
 * the meters: back it up first.
 */
#include "base/check.h"
#include "mdms/cli.h"
#include "mdms/core.h"
#include "net/loop.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static struct common_options common = {.wait_ms = CLI_WAIT_MS};
static const char *before_text;
static int64_t below_given;
static bool unopened;

static const struct option_spec options[] = {
    CLI_OPTION_DIR,
    {.name = "below",
     .kind = OPTION_INT,
     .value = &below_given,
     .min = 2,
     .max = INT64_MAX,
     .argument = "HEIGHT",
     .help = "blocks below this height may be pruned"},
    {.name = "before",
     .kind = OPTION_TEXT,
     .value = &before_text,
     .argument = "TIME",
     .help = "blocks with reports that were committed before this time may be, such as 2026-01-01"},
    {.name = "unopened",
     .kind = OPTION_FLAG,
     .value = &unopened,
     .help = "also when reports there did not open: what shows their gateways' fault goes, too"},
    CLI_OPTION_WAIT("wait until it is on the ledger"),
    CLI_OPTION_WAIT_MS,
    CLI_OPTION_JSON,
    {0},
};

struct asked {
    struct mdms_store *store;
    uint64_t below;
    uint64_t request;   /* its key */
    int64_t before_ms;  /* of the scan of reports */
    uint64_t last;      /* height of the last block before that */
    uint64_t bad_seals; /* below the watermark */
    bool damaged;
    struct why *why;
};

/* --- what is asked for -------------------------------------------------------------------------
 */

static bool on_report(void *ctx, struct span key, struct span value)
{
    struct asked *a = ctx;
    struct report_record r;
    (void)key;
    a->damaged = report_record_parse(&r, value) != AMI_OK;
    if (!a->damaged && r.block_ms < a->before_ms && r.height > a->last)
        a->last = r.height;
    return !a->damaged;
}

static bool on_bad_seal(void *ctx, struct span key, struct span value)
{
    struct asked *a = ctx;
    struct bad_seal_record b;
    (void)key;
    a->damaged = bad_seal_record_parse(&b, value) != AMI_OK;
    if (!a->damaged && b.height < a->below)
        a->bad_seals++;
    return !a->damaged;
}

static enum ami_status scan(struct asked *a, enum mdms_table table,
                            bool (*each)(void *ctx, struct span key, struct span value))
{
    AMI_TRY(mdms_store_scan(a->store, table, span_of(NULL, 0), each, a, a->why));
    if (a->damaged)
        return why_set(a->why, AMI_DAMAGED, "%s/store: a record is damaged", common.dir);
    return AMI_OK;
}

static enum ami_status choose_height(struct asked *a)
{
    int64_t s;
    if ((below_given != 0) == (before_text != NULL))
        return why_set(a->why, AMI_BAD_ARGUMENT, "retain: give --below HEIGHT or --before TIME");
    a->below = (uint64_t)below_given;
    if (before_text == NULL)
        return AMI_OK;
    AMI_TRY(cli_time(before_text, &s, a->why));
    a->before_ms = s * 1000;
    AMI_TRY(scan(a, TABLE_REPORTS, on_report));
    if (a->last == 0)
        return why_set(a->why, AMI_NOT_FOUND, "no report was committed before %s", before_text);
    a->below = a->last + 1;
    return AMI_OK;
}

/* Can it be vouched for? */
static enum ami_status judge(struct asked *a, uint64_t height, uint64_t last)
{
    enum ami_status status = retention_judge(a->below, height + 1, last);
    if (status == AMI_EXISTS)
        return why_set(a->why, status, "blocks below height %" PRIu64 " may be pruned already",
                       last);
    if (status != AMI_OK && height + 1 < 2 + RETENTION_MARGIN)
        return why_set(a->why, status,
                       "the ledger was followed to height %" PRIu64
                       " only, and its last %d blocks stay whole",
                       height, RETENTION_MARGIN);
    if (status != AMI_OK)
        return why_set(a->why, status,
                       "the ledger was followed to height %" PRIu64
                       ": the watermark can be %" PRIu64
                       " at most, since the last %d blocks stay whole",
                       height, height + 1 - RETENTION_MARGIN, RETENTION_MARGIN);
    return AMI_OK;
}

static enum ami_status read_state(struct asked *a, const struct mdms_kv *kv, uint64_t *height,
                                  uint64_t *settled, uint64_t *last)
{
    struct state_record state;
    struct retained_record r = {0};
    struct span value;
    enum ami_status status = mdms_state_load(kv, &state);
    if (status == AMI_OK) {
        *height = state.height;
        *settled = state.settled;
        struct mdms_key key = key_retained();
        status = kv->get(kv->ctx, TABLE_STATE, key_span(&key), &value);
        if (status == AMI_OK)
            status = retained_record_parse(&r, value);
        else if (status == AMI_NOT_FOUND)
            status = AMI_OK;
    }
    *last = r.below;
    return status == AMI_OK ? AMI_OK
                            : why_set(a->why, status, "%s/store: the state cannot be read: %s",
                                      common.dir, ami_status_text(status));
}

static enum ami_status ask(void *ctx, struct mdms_update *u, struct mdms_write *write)
{
    struct asked *a = ctx;
    struct span last;
    uint64_t number = 0;
    uint8_t bytes[64];
    if (mdms_update_last(u, TABLE_RETENTIONS, &last) == AMI_OK)
        AMI_TRY(key_number_parse(&number, last));
    const struct retention_record r = {.below = a->below, .asked_ms = clock_wall_ms()};
    struct writer w = writer_on(bytes, sizeof bytes);
    retention_record_encode(&w, &r);
    AMI_CHECK(writer_ok(&w));
    a->request = number + 1;
    struct mdms_key key = key_number(a->request);
    mdms_write_put(write, TABLE_RETENTIONS, &key, writer_span(&w));
    return AMI_OK;
}

/* --- waiting -----------------------------------------------------------------------------------
 */

/* AMI_OK: it is on the ledger; AMI_AGAIN: not yet. */
static enum ami_status look(void *ctx)
{
    struct asked *a = ctx;
    struct mdms_kv kv = mdms_store_kv(a->store);
    struct mdms_key key = key_number(a->request);
    struct retention_record r;
    struct span value;
    uint64_t height, settled, last;
    AMI_TRY(kv.get(kv.ctx, TABLE_RETENTIONS, key_span(&key), &value));
    AMI_TRY(retention_record_parse(&r, value));
    AMI_TRY(read_state(a, &kv, &height, &settled, &last));
    if (r.state == CHANGE_REFUSED) {
        AMI_TRY(judge(a, height, last));
        return (enum ami_status)r.status;
    }
    return r.state == CHANGE_SIGNED && r.number <= settled ? AMI_OK : AMI_AGAIN;
}

static enum ami_status wait_for_ledger(struct asked *a)
{
    enum ami_status status = cli_wait(look, a, common.wait_ms);
    if (status == AMI_AGAIN)
        return why_set(
            a->why, AMI_TIMEOUT,
            "the retention is not on the ledger yet; it goes on while `ami-mdms serve` runs");
    return status;
}

/* --- the command -------------------------------------------------------------------------------
 */

static enum ami_status queue(struct asked *a)
{
    uint64_t height, settled, last;
    struct mdms_kv kv = mdms_store_kv(a->store);
    AMI_TRY(choose_height(a));
    AMI_TRY(read_state(a, &kv, &height, &settled, &last));
    AMI_TRY(judge(a, height, last));
    /* What is followed by now has its reports opened or noted here: that does not change any more.
     */
    AMI_TRY(scan(a, TABLE_BAD_SEALS, on_bad_seal));
    if (a->bad_seals != 0 && !unopened)
        return why_set(a->why, AMI_BAD_PROOF,
                       "%" PRIu64 " report%s below height %" PRIu64
                       " did not open: pruning loses what shows their gateways' fault; --unopened "
                       "does it all the same",
                       a->bad_seals, a->bad_seals == 1 ? "" : "s", a->below);
    AMI_TRY(mdms_store_update(a->store, ask, a, a->why));
    return common.wait ? wait_for_ledger(a) : AMI_OK;
}

static int run(int argc, char **argv, void *ctx)
{
    (void)argc;
    (void)argv;
    (void)ctx;
    struct why why = {0};
    struct asked a = {.why = &why};
    enum ami_status status = mdms_store_open(&a.store, common.dir, 0, &why);
    if (status == AMI_OK) {
        status = queue(&a);
        mdms_store_close(a.store);
    }
    if (status != AMI_OK)
        return cli_fail(common.json, status, &why);
    if (common.json)
        return cli_print_json(json_pack("{s:b, s:I, s:b}", "ok", 1, "below", (json_int_t)a.below,
                                        "on_ledger", (int)common.wait));
    if (common.wait)
        printf("on the ledger: DCs may prune the blocks below height %" PRIu64 "\n", a.below);
    else
        printf("queued: the retention below height %" PRIu64
               " goes to the ledger while `ami-mdms serve` runs; see `ami-mdms status`\n",
               a.below);
    return EXIT_STATUS_OK;
}

const struct command_spec COMMAND_RETAIN = {
    .name = "retain",
    .summary = "let DCs forget what they keep sealed of old reports, which are all here",
    .example = "ami-mdms retain --dir mdms --before 2026-01-01 --wait\n"
               "ami-mdms retain --dir mdms --below 100000",
    .options = options,
    .run = run,
};
