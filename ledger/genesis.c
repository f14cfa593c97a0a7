#include "ledger/genesis.h"

#include "ledger/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FORMAT_NETWORK "amiledger-network"
#define FORMAT_GENESIS "amiledger-genesis"
#define FORMAT_VERSION 1

#define FILE_BYTES_MAX (256u << 10)             /* 31 members take less than 40 KiB */
#define TIME_MS_MAX    INT64_C(253402300799999) /* the end of the year 9999 */
#define DAY_MS         86400000

struct parameters parameters_default(void)
{
    return (struct parameters){.election_timeout_ms = 600,
                               .progress_timeout_ms = 3000,
                               .heartbeat_ms = 100,
                               .block_age_ms = 50,
                               .block_txs_max = 2048,
                               .block_bytes_max = 1u << 20,
                               .timestamp_back_ms = 30000,
                               .timestamp_ahead_ms = 30000,
                               .session_messages_max = 100000,
                               .session_seconds_max = 86400,
                               .gateway = GATEWAY_LEADER};
}

/* The whole numbers among the parameters, in the order of the file: X(name, min, max). A block must
 * hold the largest transaction, otherwise that one would wait for ever. */
#define NUMBERS(X)                                                                                 \
    X(election_timeout_ms, 10, 3600000)                                                            \
    X(progress_timeout_ms, 20, 3600000)                                                            \
    X(heartbeat_ms, 1, 600000)                                                                     \
    X(block_age_ms, 0, 3600000)                                                                    \
    X(block_txs_max, 1, AMI_BLOCK_TXS_MAX)                                                         \
    X(block_bytes_max, 2 * AMI_TX_BYTES_MAX, AMI_BLOCK_BYTES_MAX)                                  \
    X(timestamp_back_ms, 1, DAY_MS)                                                                \
    X(timestamp_ahead_ms, 1, DAY_MS)                                                               \
    X(session_messages_max, 1, UINT32_MAX)                                                         \
    X(session_seconds_max, 1, UINT32_MAX)

/* --- network ---------------------------------------------------------------------------------- */

static void read_network(struct json_in *in, struct network *net, const json_t *o,
                         const char *where)
{
    static const char *const keys[] = {"format", "version", "name",     "scheme", "p_pub",
                                       "sign",   "enrol",   "readings", "id"};
    json_in_keys(in, o, where, keys, 9, 9);
    json_in_format(in, o, where, FORMAT_NETWORK, FORMAT_VERSION);
    json_in_id(in, o, where, "name", &net->name);
    net->scheme = (uint8_t)json_in_integer(in, o, where, "scheme", 1, UINT8_MAX);
    json_in_point(in, o, where, "p_pub", &net->p_pub);
    json_in_point(in, o, where, "sign", &net->sign);
    json_in_point(in, o, where, "enrol", &net->enrol);
    json_in_point(in, o, where, "readings", &net->readings);
    json_in_fixed(in, o, where, "id", net->id.b, sizeof net->id.b);
    if (in->status != AMI_OK)
        return;
    /* The id follows from the rest; it is there so that a damaged file is noticed. */
    const sm3_digest named = net->id;
    network_finish(net);
    if (!sm3_equal(&named, &net->id))
        json_in_fail(in, AMI_DAMAGED,
                     "the network's id is not the hash of its name, scheme and keys: one of them "
                     "was altered");
}

enum ami_status network_parse(struct network *out, struct span json, char *why, size_t why_size)
{
    struct json_in in = {AMI_OK, why, why_size};
    memset(out, 0, sizeof *out);
    json_t *o = json_in_load(&in, json, FILE_BYTES_MAX);
    if (o == NULL)
        return in.status;
    read_network(&in, out, o, "");
    json_decref(o);
    if (in.status == AMI_OK) {
        char *printed = network_print(out);
        json_in_canonical(&in, json, printed);
        free(printed);
    }
    return in.status;
}

static json_t *point_out(const point *p)
{
    point_bytes bytes = point_encode(p);
    return json_out_hex(bytes.b, sizeof bytes.b);
}

/* NULL: out of memory. */
static json_t *network_out(const struct network *net)
{
    sm3_digest id = network_id(net);
    return json_pack("{s:s, s:i, s:s, s:i, s:o, s:o, s:o, s:o, s:o}", "format", FORMAT_NETWORK,
                     "version", FORMAT_VERSION, "name", net->name.text, "scheme", (int)net->scheme,
                     "p_pub", point_out(&net->p_pub), "sign", point_out(&net->sign), "enrol",
                     point_out(&net->enrol), "readings", point_out(&net->readings), "id",
                     json_out_hex(id.b, sizeof id.b));
}

char *network_print(const struct network *net)
{
    return json_out_text(network_out(net));
}

/* --- parameters ------------------------------------------------------------------------------- */

static void read_parameters(struct json_in *in, struct parameters *p, const json_t *o)
{
#define KEY(name, min, max) #name,
    static const char *const keys[] = {NUMBERS(KEY) "gateway"};
#undef KEY
    const char *where = "parameters";
    json_in_keys(in, o, where, keys, sizeof keys / sizeof keys[0], sizeof keys / sizeof keys[0]);
#define READ(name, min, max) p->name = (uint32_t)json_in_integer(in, o, where, #name, min, max);
    NUMBERS(READ)
#undef READ
    const char *gateway = json_in_text(in, o, where, "gateway");
    p->gateway = strcmp(gateway, "home") == 0 ? GATEWAY_HOME : GATEWAY_LEADER;
    if (p->gateway == GATEWAY_LEADER && strcmp(gateway, "leader") != 0)
        json_in_fail(in, AMI_BAD_ARGUMENT,
                     "parameters.gateway is \"%.20s\", it must be \"leader\" "
                     "or \"home\"",
                     gateway);
    /* Otherwise one late heartbeat deposes a leader. */
    if (in->status == AMI_OK && p->heartbeat_ms > p->election_timeout_ms / 2)
        json_in_fail(in, AMI_BAD_ARGUMENT,
                     "parameters.heartbeat_ms must be at most half of "
                     "parameters.election_timeout_ms");
}

static json_t *parameters_out(const struct parameters *p)
{
    json_t *o = json_object();
    bool ok = o != NULL;
#define SET(name, min, max) ok = ok && json_object_set_new(o, #name, json_integer(p->name)) == 0;
    NUMBERS(SET)
#undef SET
    ok = ok && json_object_set_new(
                   o, "gateway", json_string(p->gateway == GATEWAY_HOME ? "home" : "leader")) == 0;
    if (ok)
        return o;
    json_decref(o);
    return NULL;
}

/* --- members ---------------------------------------------------------------------------------- */

bool address_ok(struct span text)
{
    static const char prefix[] = "tcp://";
    const size_t start = sizeof prefix - 1;
    if (text.size > AMI_ADDRESS_BYTES_MAX || text.size <= start ||
        memcmp(text.data, prefix, start) != 0)
        return false;
    size_t colon = text.size;
    while (colon > start && text.data[colon - 1] != ':')
        colon--;
    if (colon <= start + 1) /* `colon` stands behind it */
        return false;
    for (size_t i = start; i + 1 < colon; i++)
        if (text.data[i] <= ' ' || text.data[i] > '~' || text.data[i] == '/')
            return false;
    unsigned long port = 0;
    size_t digits = text.size - colon;
    for (size_t i = colon; i < text.size && digits <= 5; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        port = port * 10 + (unsigned long)(text.data[i] - '0');
    }
    return digits >= 1 && digits <= 5 && text.data[colon] != '0' && port <= 65535;
}

static void read_address(struct json_in *in, const json_t *o, const char *where, const char *key,
                         char out[AMI_ADDRESS_BYTES_MAX + 1])
{
    const char *text = json_in_text(in, o, where, key);
    if (in->status != AMI_OK)
        return;
    if (!address_ok(span_of(text, strlen(text)))) {
        json_in_fail(in, AMI_BAD_ARGUMENT, "%s.%s must be tcp://HOST:PORT of at most %d characters",
                     where, key, AMI_ADDRESS_BYTES_MAX);
        return;
    }
    memcpy(out, text, strlen(text) + 1);
}

static void read_member(struct json_in *in, struct genesis *g, const json_t *o, uint8_t index)
{
    static const char *const keys[] = {"id",   "key_epoch", "w_sign", "agree_part",
                                       "peer", "meter",     "admin"};
    struct member *m = &g->members.member[index];
    struct member_address *a = &g->address[index];
    char where[24];
    snprintf(where, sizeof where, "members[%d]", index);
    json_in_keys(in, o, where, keys, sizeof keys / sizeof keys[0], sizeof keys / sizeof keys[0]);
    json_in_id(in, o, where, "id", &m->name);
    m->key_epoch = (uint32_t)json_in_integer(in, o, where, "key_epoch", 1, UINT32_MAX);
    json_in_fixed(in, o, where, "w_sign", m->w_sign.b, sizeof m->w_sign.b);
    m->agree_part_size =
        json_in_bytes(in, o, where, "agree_part", m->agree_part, sizeof m->agree_part);
    read_address(in, o, where, "peer", a->peer);
    read_address(in, o, where, "meter", a->meter);
    read_address(in, o, where, "admin", a->admin);
    if (in->status != AMI_OK)
        return;
    if (verify_key_init(&m->key, &g->network, ROLE_DC_SIGN, &m->name, m->key_epoch, &m->w_sign) !=
        AMI_OK)
        json_in_fail(in, AMI_BAD_CRYPTO, "%s.w_sign does not lead to a key", where);
    for (uint8_t i = 0; i < index; i++) {
        if (ami_id_equal(&g->members.member[i].name, &m->name))
            json_in_fail(in, AMI_BAD_ARGUMENT, "\"%s\" is listed twice among the members",
                         m->name.text);
        if (strcmp(g->address[i].peer, a->peer) == 0)
            json_in_fail(in, AMI_BAD_ARGUMENT, "two members have the peer address %s", a->peer);
    }
}

static void read_members(struct json_in *in, struct genesis *g, const json_t *list,
                         bool allow_single)
{
    size_t count = json_array_size(list), min = allow_single ? 1 : AMI_MEMBERS_MIN;
    if (!json_is_array(list))
        json_in_fail(in, AMI_BAD_ENCODING, "members must be a list");
    if (count < min || count > AMI_MEMBERS_MAX)
        json_in_fail(in, AMI_BAD_ARGUMENT,
                     "there are %zu members, a ledger needs %zu to %d data concentrators", count,
                     min, AMI_MEMBERS_MAX);
    for (uint8_t i = 0; i < count && in->status == AMI_OK; i++) {
        read_member(in, g, json_array_get(list, i), i);
        g->members.count = (uint8_t)(i + 1);
    }
}

static json_t *members_out(const struct genesis *g)
{
    json_t *list = json_array();
    for (uint8_t i = 0; list != NULL && i < g->members.count; i++) {
        const struct member *m = &g->members.member[i];
        const struct member_address *a = &g->address[i];
        json_t *o = json_pack("{s:s, s:I, s:o, s:o, s:s, s:s, s:s}", "id", m->name.text,
                              "key_epoch", (json_int_t)m->key_epoch, "w_sign",
                              json_out_hex(m->w_sign.b, sizeof m->w_sign.b), "agree_part",
                              json_out_hex(m->agree_part, m->agree_part_size), "peer", a->peer,
                              "meter", a->meter, "admin", a->admin);
        if (json_array_append_new(list, o) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

/* --- genesis ---------------------------------------------------------------------------------- */

sm3_digest genesis_chain_id(struct span json)
{
    return sm3_labelled("amiledger genesis v1", &json, 1);
}

enum ami_status genesis_parse(struct genesis *out, struct span json, bool allow_single, char *why,
                              size_t why_size)
{
    static const char *const keys[] = {"format",  "version",    "created_ms",
                                       "network", "parameters", "members"};
    struct json_in in = {AMI_OK, why, why_size};
    memset(out, 0, sizeof *out);
    json_t *o = json_in_load(&in, json, FILE_BYTES_MAX);
    if (o == NULL)
        return in.status;
    json_in_keys(&in, o, "", keys, 6, 6);
    json_in_format(&in, o, "", FORMAT_GENESIS, FORMAT_VERSION);
    out->created_ms = json_in_integer(&in, o, "", "created_ms", 1, TIME_MS_MAX);
    read_network(&in, &out->network, json_object_get(o, "network"), "network");
    read_parameters(&in, &out->parameters, json_object_get(o, "parameters"));
    out->members.epoch = 1;
    read_members(&in, out, json_object_get(o, "members"), allow_single);
    json_decref(o);
    if (in.status == AMI_OK) {
        /* One form only: a copy with other line ends or blanks would be another chain, and nobody
         * would see why. */
        char *printed = genesis_print(out);
        json_in_canonical(&in, json, printed);
        free(printed);
    }
    if (in.status == AMI_OK) {
        out->members.chain = genesis_chain_id(json);
        out->members.hash = members_hash(&out->members);
    }
    return in.status;
}

char *genesis_print(const struct genesis *g)
{
    /* json_pack takes the parts over, also when it fails. */
    return json_out_text(json_pack(
        "{s:s, s:i, s:I, s:o, s:o, s:o}", "format", FORMAT_GENESIS, "version", FORMAT_VERSION,
        "created_ms", (json_int_t)g->created_ms, "network", network_out(&g->network), "parameters",
        parameters_out(&g->parameters), "members", members_out(g)));
}

void genesis_remember_signers(const struct genesis *g)
{
    const point *const own[] = {&g->network.p_pub, &g->network.sign};
    enum ami_status status = AMI_OK;
    /* What fails is the lack of memory; then there are fewer tables, and all still works. */
    for (size_t i = 0; status == AMI_OK && i < sizeof own / sizeof own[0]; i++)
        status = sm2_signer_remember(own[i]);
    for (uint8_t i = 0; status == AMI_OK && i < g->members.count; i++)
        status = sm2_signer_remember(&g->members.member[i].key.p);
}
