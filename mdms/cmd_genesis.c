/* mdms/cmd_genesis.c - `ami-mdms genesis`: fixes parameters, first members and addresses.
 *
 * The hash of the file is the chain id, the one thing that everybody must pin.
 */
#include "base/check.h"
#include "mdms/cli.h"
#include "net/file.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct common_options common;
static struct text_list members_given, params_given;
static const char *gateway = "leader", *out_file;
static bool allow_single;

static const struct option_spec options[] = {
    CLI_OPTION_DIR,
    {.name = "member",
     .letter = 'm',
     .kind = OPTION_LIST,
     .value = &members_given,
     .argument = "ID=HOST:PEERPORT:METERPORT:ADMINPORT",
     .help = "a first member, enrolled already; once per DC, in order of index",
     .required = true},
    {.name = "gateway",
     .kind = OPTION_TEXT,
     .value = &gateway,
     .argument = "POLICY",
     .help = "who takes meters' reports: leader (default) or home"},
    {.name = "param",
     .kind = OPTION_LIST,
     .value = &params_given,
     .argument = "NAME=VALUE",
     .help = "election_timeout_ms, progress_timeout_ms, heartbeat_ms, block_age_ms, "
             "block_txs_max, block_bytes_max, timestamp_back_ms, timestamp_ahead_ms, "
             "session_messages_max or session_seconds_max"},
    {.name = "out",
     .letter = 'o',
     .kind = OPTION_TEXT,
     .value = &out_file,
     .argument = "FILE",
     .help = "where to write it (default DIR/genesis.json); never overwrites"},
    CLI_OPTION_JSON,
    /* n < 4 tolerates no fault; one DC alone serves tests only. */
    {.name = "allow-single",
     .kind = OPTION_FLAG,
     .value = &allow_single,
     .help = "for tests: accept a single DC"},
    {0},
};

/* --- parameters ------------------------------------------------------------------------------- */

struct param {
    const char *name;
    uint32_t *value;
};

static enum ami_status set_param(struct parameters *p, const char *text, struct why *why)
{
    const struct param table[] = {
        {"election_timeout_ms", &p->election_timeout_ms},
        {"progress_timeout_ms", &p->progress_timeout_ms},
        {"heartbeat_ms", &p->heartbeat_ms},
        {"block_age_ms", &p->block_age_ms},
        {"block_txs_max", &p->block_txs_max},
        {"block_bytes_max", &p->block_bytes_max},
        {"timestamp_back_ms", &p->timestamp_back_ms},
        {"timestamp_ahead_ms", &p->timestamp_ahead_ms},
        {"session_messages_max", &p->session_messages_max},
        {"session_seconds_max", &p->session_seconds_max},
    };
    const char *equals = strchr(text, '=');
    size_t size = equals == NULL ? strlen(text) : (size_t)(equals - text);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        int64_t v;
        if (strlen(table[i].name) != size || memcmp(table[i].name, text, size) != 0)
            continue;
        if (equals == NULL || integer_parse(equals + 1, &v) != AMI_OK || v < 0 || v > UINT32_MAX)
            return why_set(why, AMI_BAD_ARGUMENT,
                           "--param %s: expected %s=NUMBER with a number from 0 to 4294967295",
                           text, table[i].name);
        *table[i].value = (uint32_t)v;
        return AMI_OK;
    }
    return why_set(why, AMI_BAD_ARGUMENT, "--param %s: there is no parameter of that name", text);
}

/* --- members ---------------------------------------------------------------------------------- */

static enum ami_status set_address(char out[AMI_ADDRESS_BYTES_MAX + 1], const char *host,
                                   int host_size, const char *port, const char *given,
                                   struct why *why)
{
    int64_t number;
    if (integer_parse(port, &number) != AMI_OK || number < 1 || number > 65535)
        return why_set(why, AMI_BAD_ARGUMENT, "--member %s: \"%s\" is no port (1 to 65535)", given,
                       port);
    int n = snprintf(out, AMI_ADDRESS_BYTES_MAX + 1, "tcp://%.*s:%d", host_size, host, (int)number);
    if (n > AMI_ADDRESS_BYTES_MAX)
        return why_set(why, AMI_TOO_LARGE, "--member %s: the host's name is too long", given);
    return AMI_OK;
}

/* "ID=HOST:PEER:METER:ADMIN"; a numeric IPv6 host stands in brackets. */
static enum ami_status parse_member(const char *given, struct ami_id *id,
                                    struct member_address *address, struct why *why)
{
    char text[256];
    const char *ports[3];
    if (strlen(given) >= sizeof text)
        return why_set(why, AMI_TOO_LARGE, "--member %s: too long", given);
    memcpy(text, given, strlen(given) + 1);
    char *equals = strchr(text, '=');
    bool ok = equals != NULL;
    for (int i = 2; ok && i >= 0; i--) {
        char *colon = strrchr(equals + 1, ':');
        ok = colon != NULL;
        if (ok) {
            ports[i] = colon + 1;
            *colon = '\0';
        }
    }
    if (!ok || equals[1] == '\0')
        return why_set(why, AMI_BAD_ARGUMENT,
                       "--member %s: expected ID=HOST:PEERPORT:METERPORT:ADMINPORT, such as "
                       "dc-1=10.0.0.11:7101:7201:7301",
                       given);
    *equals = '\0';
    const char *host = equals + 1;
    int size = (int)strlen(host);
    AMI_TRY(cli_id(text, id, why));
    AMI_TRY(set_address(address->peer, host, size, ports[0], given, why));
    AMI_TRY(set_address(address->meter, host, size, ports[1], given, why));
    return set_address(address->admin, host, size, ports[2], given, why);
}

struct newest {
    const struct ami_id *id;
    uint32_t epoch;
    struct member *member;
    enum ami_status status;
};

static bool look_at_device(void *ctx, struct span key, struct span value)
{
    struct newest *n = ctx;
    struct ami_id id;
    struct device_record d;
    uint8_t role;
    uint32_t epoch;
    if (key_device_parse(&role, &id, &epoch, key) != AMI_OK ||
        device_record_parse(&d, value) != AMI_OK) {
        n->status = AMI_DAMAGED;
        return false;
    }
    if (role != DEVICE_DC || !ami_id_equal(&id, n->id))
        return false;
    n->epoch = epoch;
    n->member->w_sign = d.w_sign;
    memcpy(n->member->agree_part, d.agree_part.data, d.agree_part.size);
    n->member->agree_part_size = d.agree_part.size;
    return true;
}

/* The newest keys issued to this DC. */
static enum ami_status load_member(struct mdms_store *store, const struct network *net,
                                   const struct ami_id *id, struct member *out, struct why *why)
{
    struct newest n = {.id = id, .member = out, .status = AMI_OK};
    struct mdms_key from = key_device(DEVICE_DC, id, 1);
    AMI_TRY(mdms_store_scan(store, TABLE_DEVICES, key_span(&from), look_at_device, &n, why));
    if (n.status != AMI_OK)
        return why_set(why, n.status, "the stored record of \"%s\" is damaged", id->text);
    if (n.epoch == 0)
        return why_set(why, AMI_UNKNOWN_DEVICE,
                       "the DC \"%s\" is not enrolled: give it a code (`ami-mdms codes --dc --id "
                       "%s`), run `ami-mdms serve`, then `dc-node enrol`",
                       id->text, id->text);
    out->name = *id;
    out->key_epoch = n.epoch;
    if (verify_key_init(&out->key, net, ROLE_DC_SIGN, id, n.epoch, &out->w_sign) != AMI_OK)
        return why_set(why, AMI_DAMAGED, "the stored key of \"%s\" is damaged", id->text);
    return AMI_OK;
}

static enum ami_status check_same(const struct genesis *g, unsigned i, struct why *why)
{
    for (unsigned k = 0; k < i; k++) {
        if (ami_id_equal(&g->members.member[k].name, &g->members.member[i].name))
            return why_set(why, AMI_EXISTS, "the DC \"%s\" is named twice",
                           g->members.member[i].name.text);
        if (strcmp(g->address[k].peer, g->address[i].peer) == 0)
            return why_set(why, AMI_EXISTS, "\"%s\" and \"%s\" have the same peer address %s",
                           g->members.member[k].name.text, g->members.member[i].name.text,
                           g->address[i].peer);
    }
    return AMI_OK;
}

/* --- all of it -------------------------------------------------------------------------------- */

static enum ami_status fill(struct genesis *g, struct mdms_store *store, struct why *why)
{
    g->parameters = parameters_default();
    if (strcmp(gateway, "leader") == 0)
        g->parameters.gateway = GATEWAY_LEADER;
    else if (strcmp(gateway, "home") == 0)
        g->parameters.gateway = GATEWAY_HOME;
    else
        return why_set(why, AMI_BAD_ARGUMENT, "--gateway %s: it is leader or home", gateway);
    for (size_t i = 0; i < params_given.count; i++)
        AMI_TRY(set_param(&g->parameters, params_given.items[i], why));
    size_t n = members_given.count;
    if (n > AMI_MEMBERS_MAX)
        return why_set(why, AMI_TOO_LARGE, "%zu members were given, at most %d can be", n,
                       AMI_MEMBERS_MAX);
    if (n < AMI_MEMBERS_MIN && !allow_single)
        return why_set(why, AMI_BAD_ARGUMENT,
                       "%zu member%s given; a ledger needs at least %d, of which one may fail", n,
                       n == 1 ? " was" : "s were", AMI_MEMBERS_MIN);
    for (unsigned i = 0; i < n; i++) {
        struct ami_id id;
        AMI_TRY(parse_member(members_given.items[i], &id, &g->address[i], why));
        AMI_TRY(load_member(store, &g->network, &id, &g->members.member[i], why));
        AMI_TRY(check_same(g, i, why));
    }
    g->members.count = (uint8_t)n;
    g->members.epoch = 1;
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    g->created_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    return AMI_OK;
}

static enum ami_status check_unbound(struct mdms_store *store, struct why *why)
{
    struct mdms_kv kv = mdms_store_kv(store);
    struct state_record s;
    static const sm3_digest zero;
    enum ami_status status = mdms_state_load(&kv, &s);
    if (status == AMI_DAMAGED)
        return why_set(why, status, "%s/store: the state record is damaged", common.dir);
    AMI_TRY(status);
    if (sm3_equal(&s.chain, &zero))
        return AMI_OK;
    return why_set(why, AMI_EXISTS,
                   "%s follows a ledger already; another genesis would be another ledger and needs "
                   "another directory",
                   common.dir);
}

/* The text, checked as everybody else will check it; malloc'ed. */
static enum ami_status make(struct genesis *g, char **text, struct why *why)
{
    struct mdms_store *store;
    char reason[WHY_BYTES_MAX];
    AMI_TRY(cli_network(common.dir, &g->network, why));
    AMI_TRY(mdms_store_open(&store, common.dir, 0, why));
    enum ami_status status = check_unbound(store, why);
    if (status == AMI_OK)
        status = fill(g, store, why);
    mdms_store_close(store);
    AMI_TRY(status);
    *text = genesis_print(g);
    if (*text == NULL)
        return AMI_NO_MEMORY;
    status = genesis_parse(g, span_of(*text, strlen(*text)), allow_single, reason, sizeof reason);
    return status == AMI_OK ? AMI_OK : why_set(why, status, "%s", reason);
}

static int report(const struct genesis *g, const char *path)
{
    char chain[2 * SM3_BYTES + 1];
    hex_encode(chain, g->members.chain.b, SM3_BYTES);
    unsigned n = g->members.count;
    if (common.json)
        return cli_print_json(json_pack("{s:b, s:s, s:s, s:i, s:i, s:i}", "ok", 1, "file", path,
                                        "chain", chain, "members", (int)n, "quorum",
                                        (int)members_quorum(n), "faults", (int)members_f(n)));
    printf("chain    %s\nmembers  %u, of which %u may fail; %u votes commit\nwritten  %s: give it "
           "to every DC, meter and consumer\n",
           chain, n, members_f(n), members_quorum(n), path);
    return EXIT_STATUS_OK;
}

static int run(int argc, char **argv, void *ctx)
{
    (void)argc;
    (void)argv;
    (void)ctx;
    struct why why = {0};
    char path[PATH_MAX], *text = NULL;
    enum ami_status status = AMI_OK;
    struct genesis *g = calloc(1, sizeof *g);
    if (g == NULL)
        status = AMI_NO_MEMORY;
    if (status == AMI_OK && out_file != NULL)
        snprintf(path, sizeof path, "%s", out_file);
    else if (status == AMI_OK)
        status = path_join(path, sizeof path, common.dir, FILE_GENESIS, &why);
    if (status == AMI_OK)
        status = make(g, &text, &why);
    if (status == AMI_OK)
        status = file_write_new(path, span_of(text, strlen(text)), FILE_MODE_PUBLIC, &why);
    int result = status == AMI_OK ? report(g, path) : cli_fail(common.json, status, &why);
    free(text);
    free(g);
    return result;
}

const struct command_spec COMMAND_GENESIS = {
    .name = "genesis",
    .summary = "fix the first members and parameters of the ledger",
    .example = "ami-mdms genesis --dir mdms --member dc-1=10.0.0.11:7101:7201:7301 \\\n"
               "    --member dc-2=10.0.0.12:7101:7201:7301 --member "
               "dc-3=10.0.0.13:7101:7201:7301 \\\n"
               "    --member dc-4=10.0.0.14:7101:7201:7301 --out genesis.json",
    .options = options,
    .run = run,
};
