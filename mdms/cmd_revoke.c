/* mdms/cmd_revoke.c - `ami-mdms revoke`: a device's key is valid no longer.
 *
 * The request is put into the store; `serve` (running now or started later) numbers it, signs it
 * and sees it onto the ledger. No passphrase is asked for: who may write the MDMS's directory may
 * revoke. It applies from the height of its block on.
 */
#include "base/check.h"
#include "mdms/cli.h"
#include "net/loop.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static struct common_options common = {.wait_ms = CLI_WAIT_MS};
static const char *id_text, *role_text = "meter", *reason_text = "unspecified";
static int64_t epoch_given;

static const struct option_spec options[] = {
    CLI_OPTION_DIR,
    {.name = "id",
     .kind = OPTION_TEXT,
     .value = &id_text,
     .argument = "ID",
     .help = "name of the device",
     .required = true},
    {.name = "role",
     .kind = OPTION_TEXT,
     .value = &role_text,
     .argument = "ROLE",
     .help = "meter (default) or dc"},
    {.name = "epoch",
     .kind = OPTION_INT,
     .value = &epoch_given,
     .min = 1,
     .max = UINT32_MAX,
     .argument = "N",
     .help = "key epoch (default the newest)"},
    {.name = "reason",
     .kind = OPTION_TEXT,
     .value = &reason_text,
     .argument = "WHY",
     .help = "unspecified (default), compromise, withdrawn or superseded"},
    CLI_OPTION_WAIT("wait until it is on the ledger"),
    CLI_OPTION_WAIT_MS,
    CLI_OPTION_JSON,
    {0},
};

struct change {
    struct mdms_store *store;
    struct revocation_record record;
    uint64_t number; /* of the MDMS's transaction, once it is on the ledger */
    struct why *why;
};

static bool newest_of(void *ctx, struct span key, struct span value)
{
    struct revocation_record *r = ctx;
    uint8_t role;
    struct ami_id id;
    uint32_t epoch;
    (void)value;
    if (key_device_parse(&role, &id, &epoch, key) != AMI_OK || role != r->role ||
        !ami_id_equal(&id, &r->device))
        return false;
    r->epoch = epoch;
    return true;
}

static enum ami_status ask(void *ctx, struct mdms_update *u, struct mdms_write *write)
{
    struct change *c = ctx;
    const struct revocation_record *r = &c->record;
    struct mdms_key key = key_device(r->role, &r->device, r->epoch);
    struct span value;
    if (r->epoch == 0 || mdms_update_get(u, TABLE_DEVICES, &key, &value) != AMI_OK)
        return why_set(c->why, AMI_UNKNOWN_DEVICE, "the %s \"%s\" is not enrolled%s",
                       cli_role_name(r->role), r->device.text,
                       r->epoch == 0 ? "" : " in that epoch");
    if (mdms_update_get(u, TABLE_REVOCATIONS, &key, &value) == AMI_OK)
        return why_set(c->why, AMI_REVOKED, "the %s \"%s\", epoch %u, is revoked already",
                       cli_role_name(r->role), r->device.text, (unsigned)r->epoch);
    uint64_t last = 0;
    struct span last_key;
    if (mdms_update_last(u, TABLE_REQUESTS, &last_key) == AMI_OK)
        AMI_TRY(key_number_parse(&last, last_key));
    uint8_t bytes[128];
    struct writer w = writer_on(bytes, sizeof bytes);
    revocation_record_encode(&w, r);
    AMI_CHECK(writer_ok(&w));
    key = key_number(last + 1);
    mdms_write_put(write, TABLE_REQUESTS, &key, writer_span(&w));
    return AMI_OK;
}

static const char *const REASONS[] = {"unspecified", "compromise", "withdrawn", "superseded"};

static enum ami_status read_options(struct revocation_record *r, struct why *why)
{
    memset(r, 0, sizeof *r);
    AMI_TRY(cli_id(id_text, &r->device, why));
    AMI_TRY(cli_role(role_text, &r->role, why));
    size_t i = 0;
    while (i < 4 && strcmp(reason_text, REASONS[i]) != 0)
        i++;
    if (i == 4)
        return why_set(why, AMI_BAD_ARGUMENT,
                       "--reason %s: it is unspecified, compromise, withdrawn or superseded",
                       reason_text);
    r->reason = (uint8_t)i;
    r->asked_ms = clock_wall_ms();
    return AMI_OK;
}

/* AMI_OK: it is on the ledger; AMI_AGAIN: not yet. */
static enum ami_status committed(void *ctx)
{
    struct change *c = ctx;
    const struct revocation_record *r = &c->record;
    struct mdms_kv kv = mdms_store_kv(c->store);
    struct mdms_key key = key_device(r->role, &r->device, r->epoch);
    struct span value;
    struct revocation_record made;
    struct state_record state;
    enum ami_status status = kv.get(kv.ctx, TABLE_REVOCATIONS, key_span(&key), &value);
    if (status != AMI_OK)
        return status == AMI_NOT_FOUND ? AMI_AGAIN : status;
    AMI_TRY(revocation_record_parse(&made, value));
    AMI_TRY(mdms_state_load(&kv, &state));
    c->number = made.number;
    return state.settled >= made.number ? AMI_OK : AMI_AGAIN;
}

static enum ami_status wait_committed(struct change *c)
{
    enum ami_status status = cli_wait(committed, c, common.wait_ms);
    if (status == AMI_AGAIN)
        return why_set(c->why, AMI_TIMEOUT,
                       "the revocation of \"%s\" is not on the ledger yet; it stays in the outbox "
                       "and goes on while `ami-mdms serve` runs",
                       c->record.device.text);
    return status;
}

static enum ami_status queue(struct change *c)
{
    struct revocation_record *r = &c->record;
    AMI_TRY(read_options(r, c->why));
    AMI_TRY(mdms_store_open(&c->store, common.dir, 0, c->why));
    enum ami_status status = AMI_OK;
    r->epoch = (uint32_t)epoch_given;
    if (epoch_given == 0) {
        struct mdms_key from = key_device(r->role, &r->device, 1);
        status = mdms_store_scan(c->store, TABLE_DEVICES, key_span(&from), newest_of, r, c->why);
    }
    if (status == AMI_OK)
        status = mdms_store_update(c->store, ask, c, c->why);
    if (status == AMI_OK && common.wait)
        status = wait_committed(c);
    mdms_store_close(c->store);
    return status;
}

static int run(int argc, char **argv, void *ctx)
{
    (void)argc;
    (void)argv;
    (void)ctx;
    struct why why = {0};
    struct change c = {.why = &why};
    const struct revocation_record *r = &c.record;
    enum ami_status status = queue(&c);
    if (status != AMI_OK)
        return cli_fail(common.json, status, &why);
    if (common.json)
        return cli_print_json(json_pack("{s:b, s:s, s:s, s:I, s:b}", "ok", 1, "id", r->device.text,
                                        "role", cli_role_name(r->role), "epoch",
                                        (json_int_t)r->epoch, "committed", (int)common.wait));
    if (common.wait)
        printf("revoked: %s %s, epoch %u, is revoked on the ledger (transaction %" PRIu64
               " of the MDMS)\n",
               cli_role_name(r->role), r->device.text, (unsigned)r->epoch, c.number);
    else
        printf("queued: the revocation of %s %s, epoch %u, goes to the ledger while `ami-mdms "
               "serve` runs\n",
               cli_role_name(r->role), r->device.text, (unsigned)r->epoch);
    return EXIT_STATUS_OK;
}

const struct command_spec COMMAND_REVOKE = {
    .name = "revoke",
    .summary = "revoke the key of a meter or a DC",
    .example = "ami-mdms revoke --dir mdms --id meter-17 --reason compromise --wait",
    .options = options,
    .run = run,
};
