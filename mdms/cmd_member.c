/* mdms/cmd_member.c - `ami-mdms member`: a DC joins the committee, leaves it, or votes with a new
 * key.
 *
 * The request is put into the store, as with `revoke`; `serve` (running now or started later)
 * judges it by the ledger's rules, signs it and sees it onto the ledger, one change at a time. It
 * applies from the height that the ledger gives it: so many blocks (--delay) above its own.
 */
#include "base/check.h"
#include "mdms/cli.h"
#include "net/loop.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static struct common_options common = {.wait_ms = CLI_WAIT_MS};
static const char *id_text, *peer_text, *meter_text, *admin_text;
static int64_t epoch_given, delay = 10;

static const struct option_spec options[] = {
    CLI_OPTION_DIR,
    {.name = "id",
     .kind = OPTION_TEXT,
     .value = &id_text,
     .argument = "ID",
     .help = "name of the DC",
     .required = true},
    {.name = "epoch",
     .kind = OPTION_INT,
     .value = &epoch_given,
     .min = 1,
     .max = UINT32_MAX,
     .argument = "N",
     .help = "key epoch that votes from then on (default the newest)"},
    {.name = "peer",
     .kind = OPTION_TEXT,
     .value = &peer_text,
     .argument = "URL",
     .help = "its address for DCs and the MDMS"},
    {.name = "meter",
     .kind = OPTION_TEXT,
     .value = &meter_text,
     .argument = "URL",
     .help = "its address for meters"},
    {.name = "admin",
     .kind = OPTION_TEXT,
     .value = &admin_text,
     .argument = "URL",
     .help = "its address for dc-cli"},
    {.name = "delay",
     .kind = OPTION_INT,
     .value = &delay,
     .min = MEMBERSHIP_DELAY_MIN,
     .max = MEMBERSHIP_DELAY_MAX,
     .argument = "BLOCKS",
     .help = "from when on, in blocks above its own (default 10)"},
    CLI_OPTION_WAIT("wait until it is in force"),
    CLI_OPTION_WAIT_MS,
    CLI_OPTION_JSON,
    {0},
};

static const char *const NAMES[] = {
    [MEMBER_JOIN] = "join", [MEMBER_LEAVE] = "leave", [MEMBER_ROTATE] = "rotate"};

struct asked {
    struct mdms_store *store;
    struct change_record record;
    uint64_t request; /* its key */
    uint64_t from;    /* first height of the epoch that it begins; 0: not on the ledger yet */
    uint32_t epoch;
    struct why *why;
};

static enum ami_status read_address(const char *text, const char *option, struct span *out,
                                    struct why *why)
{
    *out = text == NULL ? span_of(NULL, 0) : span_of(text, strlen(text));
    if (text != NULL && !address_ok(*out))
        return why_set(why, AMI_BAD_ARGUMENT,
                       "--%s %.80s: it must be tcp://HOST:PORT of at most %d characters", option,
                       text, AMI_ADDRESS_BYTES_MAX);
    return AMI_OK;
}

static enum ami_status read_arguments(const char *action, struct change_record *c, struct why *why)
{
    memset(c, 0, sizeof *c);
    for (uint8_t i = MEMBER_JOIN; i <= MEMBER_ROTATE; i++)
        if (strcmp(action, NAMES[i]) == 0)
            c->change = i;
    if (c->change == 0)
        return why_set(why, AMI_BAD_ARGUMENT, "member %.40s: it is join, leave or rotate", action);
    AMI_TRY(cli_id(id_text, &c->dc, why));
    AMI_TRY(read_address(peer_text, "peer", &c->peer, why));
    AMI_TRY(read_address(meter_text, "meter", &c->meter, why));
    AMI_TRY(read_address(admin_text, "admin", &c->admin, why));
    const bool all = c->peer.size != 0 && c->meter.size != 0 && c->admin.size != 0;
    const bool none = c->peer.size == 0 && c->meter.size == 0 && c->admin.size == 0;
    if (c->change == MEMBER_JOIN && !all)
        return why_set(why, AMI_BAD_ARGUMENT,
                       "member join: say where %s will be, with --peer, --meter and --admin URL",
                       c->dc.text);
    if (c->change == MEMBER_LEAVE && (!none || epoch_given != 0))
        return why_set(why, AMI_BAD_ARGUMENT,
                       "member leave: it takes neither addresses nor a key epoch");
    c->key_epoch = (uint32_t)epoch_given;
    c->delay = (uint32_t)delay;
    c->asked_ms = clock_wall_ms();
    return AMI_OK;
}

static enum ami_status ask(void *ctx, struct mdms_update *u, struct mdms_write *write)
{
    struct asked *a = ctx;
    const struct change_record *c = &a->record;
    struct mdms_key key = key_device(DEVICE_DC, &c->dc, c->key_epoch == 0 ? 1 : c->key_epoch);
    struct span value, last;
    if (c->change != MEMBER_LEAVE && mdms_update_get(u, TABLE_DEVICES, &key, &value) != AMI_OK)
        return why_set(a->why, AMI_UNKNOWN_DEVICE, "the DC \"%s\" is not enrolled%s", c->dc.text,
                       c->key_epoch == 0 ? "" : " in that epoch");
    uint64_t number = 0;
    if (mdms_update_last(u, TABLE_CHANGES, &last) == AMI_OK)
        AMI_TRY(key_number_parse(&number, last));
    uint8_t bytes[MDMS_CHANGE_BYTES_MAX];
    struct writer w = writer_on(bytes, sizeof bytes);
    change_record_encode(&w, c);
    AMI_CHECK(writer_ok(&w));
    a->request = number + 1;
    key = key_number(a->request);
    mdms_write_put(write, TABLE_CHANGES, &key, writer_span(&w));
    return AMI_OK;
}

/* What became of a change that was signed. AMI_OK: its epoch has begun; AMI_AGAIN: not yet. */
static enum ami_status in_force(const struct mdms_kv *kv, uint64_t number, struct asked *a)
{
    struct state_record state;
    struct span value;
    AMI_TRY(mdms_state_load(kv, &state));
    for (uint32_t epoch = 2;; epoch++) {
        struct epoch_record e;
        struct membership change;
        struct mdms_key key = key_number(epoch);
        enum ami_status status = kv->get(kv->ctx, TABLE_EPOCHS, key_span(&key), &value);
        if (status != AMI_OK)
            return status == AMI_NOT_FOUND ? AMI_AGAIN : status;
        AMI_TRY(epoch_record_parse(&e, value));
        AMI_TRY(membership_parse(&change, e.first));
        if (change.number != number)
            continue;
        a->epoch = epoch;
        a->from = e.height + change.delay;
        return state.height + 1 >= a->from ? AMI_OK : AMI_AGAIN;
    }
}

static enum ami_status look(void *ctx)
{
    struct asked *a = ctx;
    struct mdms_kv kv = mdms_store_kv(a->store);
    struct mdms_key key = key_number(a->request);
    struct change_record c;
    struct span value;
    AMI_TRY(kv.get(kv.ctx, TABLE_CHANGES, key_span(&key), &value));
    AMI_TRY(change_record_parse(&c, value));
    if (c.state == CHANGE_WANTED)
        return AMI_AGAIN;
    a->record.key_epoch = c.key_epoch;
    if (c.state == CHANGE_REFUSED)
        return c.status == AMI_OK || c.status == AMI_AGAIN ? AMI_DAMAGED
                                                           : (enum ami_status)c.status;
    return in_force(&kv, c.number, a);
}

/* Why the ledger would not take it. */
static enum ami_status refused(const struct asked *a, enum ami_status status)
{
    const char *dc = a->record.dc.text;
    switch (status) {
    case AMI_EXISTS:
        return why_set(a->why, status,
                       "%s is a member already, or was one with this key: enrol its next key first",
                       dc);
    case AMI_NOT_FOUND:
        return why_set(a->why, status, "%s is no member", dc);
    case AMI_NO_QUORUM:
        return why_set(a->why, status, "a committee has at least %d members", AMI_MEMBERS_MIN);
    case AMI_TOO_LARGE:
        return why_set(a->why, status, "a committee has at most %d members", AMI_MEMBERS_MAX);
    case AMI_UNKNOWN_DEVICE:
        return why_set(a->why, status, "%s has no such key on the ledger: enrol it first", dc);
    case AMI_WRONG_EPOCH:
        return why_set(a->why, status,
                       "%s has no newer key than the one that it votes with: enrol its next one",
                       dc);
    case AMI_IN_USE:
        return why_set(a->why, status, "another member has the peer address of %s", dc);
    default:
        return why_set(a->why, status, "the change of %s: %s", dc, ami_status_text(status));
    }
}

static enum ami_status wait_until_in_force(struct asked *a)
{
    enum ami_status status = cli_wait(look, a, common.wait_ms);
    if (status == AMI_AGAIN)
        return why_set(
            a->why, AMI_TIMEOUT,
            "the change of %s is not in force yet; it goes on while `ami-mdms serve` runs",
            a->record.dc.text);
    return status == AMI_OK ? AMI_OK : refused(a, status);
}

static enum ami_status queue(const char *action, struct asked *a)
{
    AMI_TRY(read_arguments(action, &a->record, a->why));
    AMI_TRY(mdms_store_open(&a->store, common.dir, 0, a->why));
    enum ami_status status = mdms_store_update(a->store, ask, a, a->why);
    if (status == AMI_OK && common.wait)
        status = wait_until_in_force(a);
    mdms_store_close(a->store);
    return status;
}

static int run(int argc, char **argv, void *ctx)
{
    (void)argc;
    (void)ctx;
    struct why why = {0};
    struct asked a = {.why = &why};
    enum ami_status status = queue(argv[0], &a);
    if (status != AMI_OK)
        return cli_fail(common.json, status, &why);
    const char *name = NAMES[a.record.change];
    if (common.json)
        return cli_print_json(json_pack(
            "{s:b, s:s, s:s, s:I, s:b, s:I, s:I}", "ok", 1, "id", a.record.dc.text, "change", name,
            "key_epoch", (json_int_t)a.record.key_epoch, "in_force", (int)common.wait, "epoch",
            (json_int_t)a.epoch, "from_height", (json_int_t)a.from));
    if (common.wait)
        printf("in force: %s of %s, from height %" PRIu64 " on (membership epoch %u)\n", name,
               a.record.dc.text, a.from, (unsigned)a.epoch);
    else
        printf("queued: the %s of %s goes to the ledger while `ami-mdms serve` runs; see `ami-mdms "
               "status`\n",
               name, a.record.dc.text);
    return EXIT_STATUS_OK;
}

const struct command_spec COMMAND_MEMBER = {
    .name = "member",
    .arguments = "join|leave|rotate",
    .arguments_min = 1,
    .arguments_max = 1,
    .summary = "let a DC join the committee, leave it, or vote with its next key",
    .example = "ami-mdms member join --dir mdms --id dc5 --peer tcp://10.0.0.5:7001 --meter "
               "tcp://10.0.0.5:7002 --admin tcp://10.0.0.5:7003 --wait\n"
               "ami-mdms member leave --dir mdms --id dc2",
    .options = options,
    .run = run,
};
