#include "ledger/genesis.h"

#include "base/check.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NETWORK_FORMAT "amiledger-network"
#define GENESIS_FORMAT "amiledger-genesis"
#define FILE_VERSION   1

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

/* Every parameter that is a number: its name in the file, where it is, its bounds. */
#define PARAMETERS(X)                                                                              \
    X(election_timeout_ms, 10, 3600000)                                                            \
    X(progress_timeout_ms, 20, 3600000)                                                            \
    X(heartbeat_ms, 1, 600000)                                                                     \
    X(block_age_ms, 0, 3600000)                                                                    \
    X(block_txs_max, 1, AMI_BLOCK_TXS_MAX)                                                         \
    X(block_bytes_max, 2 * AMI_TX_BYTES_MAX, AMI_BLOCK_BYTES_MAX)                                  \
    X(timestamp_back_ms, 1, 86400000)                                                              \
    X(timestamp_ahead_ms, 1, 86400000)                                                             \
    X(session_messages_max, 1, UINT32_MAX)                                                         \
    X(session_seconds_max, 1, UINT32_MAX)

/* --- reading ----------------------------------------------------------------------------------- */

struct reading_file {
    char *why;
    size_t why_size;
};

static enum ami_status bad(const struct reading_file *f, enum ami_status status, const char *format,
                           ...) __attribute__((format(printf, 3, 4)));

static enum ami_status bad(const struct reading_file *f, enum ami_status status, const char *format,
                           ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(f->why, f->why_size, format, args);
    va_end(args);
    return status;
}

/* Refuses keys that are not in `known` (NULL-terminated) and objects that lack one of them. */
static enum ami_status check_keys(const struct reading_file *f, const json_t *o, const char *what,
                                  const char *const *known)
{
    if (!json_is_object(o))
        return bad(f, AMI_BAD_ENCODING, "%s is no JSON object", what);
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)o, key, v)
    {
        bool found = false;
        for (size_t i = 0; known[i] != NULL; i++)
            found |= strcmp(key, known[i]) == 0;
        if (!found)
            return bad(f, AMI_BAD_ENCODING, "%s holds the unknown key \"%.40s\"", what, key);
    }
    for (size_t i = 0; known[i] != NULL; i++)
        if (json_object_get(o, known[i]) == NULL)
            return bad(f, AMI_BAD_ENCODING, "%s lacks \"%s\"", what, known[i]);
    return AMI_OK;
}

static enum ami_status get_number(const struct reading_file *f, const json_t *o, const char *key,
                                  int64_t min, int64_t max, int64_t *out)
{
    const json_t *v = json_object_get(o, key);
    if (!json_is_integer(v) || json_integer_value(v) < min || json_integer_value(v) > max)
        return bad(f, AMI_BAD_ARGUMENT, "\"%s\" must be a whole number from %lld to %lld", key,
                   (long long)min, (long long)max);
    *out = json_integer_value(v);
    return AMI_OK;
}

static enum ami_status get_text(const struct reading_file *f, const json_t *o, const char *key,
                                const char **out)
{
    *out = json_string_value(json_object_get(o, key));
    return *out == NULL ? bad(f, AMI_BAD_ENCODING, "\"%s\" must be a text", key) : AMI_OK;
}

static enum ami_status get_id(const struct reading_file *f, const json_t *o, const char *key,
                              struct ami_id *out)
{
    const char *text;
    AMI_TRY(get_text(f, o, key, &text));
    if (ami_id_from_text(out, text) != AMI_OK)
        return bad(f, AMI_BAD_ARGUMENT,
                   "\"%s\" is '%.40s', expected 1 to 32 of A-Z a-z 0-9 . _ -", key, text);
    return AMI_OK;
}

static enum ami_status get_hex(const struct reading_file *f, const json_t *o, const char *key,
                               uint8_t *out, size_t size)
{
    const char *text;
    AMI_TRY(get_text(f, o, key, &text));
    if (hex_decode(out, size, text) != AMI_OK)
        return bad(f, AMI_BAD_ENCODING, "\"%s\" must be %zu hex digits", key, 2 * size);
    return AMI_OK;
}

static enum ami_status get_point(const struct reading_file *f, const json_t *o, const char *key,
                                 point *out)
{
    point_bytes b;
    AMI_TRY(get_hex(f, o, key, b.b, sizeof b.b));
    if (point_decode(out, &b) != AMI_OK)
        return bad(f, AMI_BAD_CRYPTO, "\"%s\" is no point of the SM2 curve", key);
    return AMI_OK;
}

static enum ami_status check_format(const struct reading_file *f, const json_t *o,
                                    const char *format)
{
    const char *text;
    int64_t version;
    AMI_TRY(get_text(f, o, "format", &text));
    if (strcmp(text, format) != 0)
        return bad(f, AMI_BAD_ENCODING, "its format is '%.40s', expected '%s'", text, format);
    AMI_TRY(get_number(f, o, "version", 0, INT32_MAX, &version));
    if (version != FILE_VERSION)
        return bad(f, AMI_BAD_VERSION, "its version is %lld, this program reads %d",
                   (long long)version, FILE_VERSION);
    return AMI_OK;
}

static enum ami_status read_network(const struct reading_file *f, struct network *out,
                                    const json_t *o)
{
    static const char *const keys[] = {"format", "version", "name",  "scheme",   "p_pub",
                                       "sign",   "enrol",   "readings", "id", NULL};
    int64_t scheme;
    sm3_digest id;
    AMI_TRY(check_keys(f, o, "the network", keys));
    AMI_TRY(check_format(f, o, NETWORK_FORMAT));
    AMI_TRY(get_id(f, o, "name", &out->name));
    AMI_TRY(get_number(f, o, "scheme", 1, UINT8_MAX, &scheme));
    out->scheme = (uint8_t)scheme;
    AMI_TRY(get_point(f, o, "p_pub", &out->p_pub));
    AMI_TRY(get_point(f, o, "sign", &out->sign));
    AMI_TRY(get_point(f, o, "enrol", &out->enrol));
    AMI_TRY(get_point(f, o, "readings", &out->readings));
    AMI_TRY(get_hex(f, o, "id", id.b, sizeof id.b));
    out->id = network_id(out);
    if (!sm3_equal(&out->id, &id))
        return bad(f, AMI_DAMAGED, "\"id\" is not the hash of the network's keys");
    return AMI_OK;
}

static enum ami_status read_parameters(const struct reading_file *f, struct parameters *out,
                                       const json_t *o)
{
#define KEY_OF(name, min, max) #name,
    static const char *const keys[] = {PARAMETERS(KEY_OF) "gateway", NULL};
#undef KEY_OF
    AMI_TRY(check_keys(f, o, "\"parameters\"", keys));
    int64_t v;
#define READ(name, min, max)                                                                       \
    AMI_TRY(get_number(f, o, #name, min, max, &v));                                                \
    out->name = (uint32_t)v;
    PARAMETERS(READ)
#undef READ
    const char *gateway;
    AMI_TRY(get_text(f, o, "gateway", &gateway));
    if (strcmp(gateway, "leader") == 0)
        out->gateway = GATEWAY_LEADER;
    else if (strcmp(gateway, "home") == 0)
        out->gateway = GATEWAY_HOME;
    else
        return bad(f, AMI_BAD_ARGUMENT, "\"gateway\" is '%.40s', expected leader or home", gateway);
    if (out->heartbeat_ms * (uint64_t)2 > out->election_timeout_ms)
        return bad(f, AMI_BAD_ARGUMENT,
                   "\"heartbeat_ms\" must be at most half of \"election_timeout_ms\"");
    return AMI_OK;
}

static enum ami_status read_address(const struct reading_file *f, const json_t *o, const char *key,
                                    char out[AMI_ADDRESS_BYTES_MAX + 1])
{
    const char *text;
    AMI_TRY(get_text(f, o, key, &text));
    size_t size = strlen(text);
    if (size == 0 || size > AMI_ADDRESS_BYTES_MAX)
        return bad(f, AMI_BAD_ARGUMENT, "\"%s\" must be an address of 1 to %d characters", key,
                   AMI_ADDRESS_BYTES_MAX);
    memcpy(out, text, size + 1);
    return AMI_OK;
}

static enum ami_status read_member(const struct reading_file *f, struct genesis *g, uint8_t index,
                                   const json_t *o)
{
    static const char *const keys[] = {"id",   "key_epoch", "w_sign", "agree_part",
                                       "peer", "meter",     "admin",  NULL};
    struct member *m = &g->members.member[index];
    int64_t epoch;
    const char *part;
    AMI_TRY(check_keys(f, o, "a member", keys));
    AMI_TRY(get_id(f, o, "id", &m->name));
    for (uint8_t i = 0; i < index; i++)
        if (ami_id_equal(&g->members.member[i].name, &m->name))
            return bad(f, AMI_BAD_ARGUMENT, "member %s is listed twice", m->name.text);
    AMI_TRY(get_number(f, o, "key_epoch", 1, UINT32_MAX, &epoch));
    m->key_epoch = (uint32_t)epoch;
    AMI_TRY(get_hex(f, o, "w_sign", m->w_sign.b, sizeof m->w_sign.b));
    AMI_TRY(get_text(f, o, "agree_part", &part));
    m->agree_part_size = strlen(part) / 2;
    if (m->agree_part_size > sizeof m->agree_part ||
        hex_decode(m->agree_part, m->agree_part_size, part) != AMI_OK)
        return bad(f, AMI_BAD_ENCODING, "\"agree_part\" of %s must be at most %zu hex digits",
                   m->name.text, 2 * sizeof m->agree_part);
    AMI_TRY(read_address(f, o, "peer", g->address[index].peer));
    AMI_TRY(read_address(f, o, "meter", g->address[index].meter));
    AMI_TRY(read_address(f, o, "admin", g->address[index].admin));
    if (verify_key_init(&m->key, &g->network, ROLE_DC_SIGN, &m->name, m->key_epoch, &m->w_sign) !=
        AMI_OK)
        return bad(f, AMI_BAD_CRYPTO, "\"w_sign\" of %s gives no public key", m->name.text);
    return AMI_OK;
}

static enum ami_status read_genesis(const struct reading_file *f, struct genesis *out,
                                    const json_t *o, bool allow_single)
{
    static const char *const keys[] = {"format",     "version", "created_ms", "network",
                                       "parameters", "members", NULL};
    AMI_TRY(check_keys(f, o, "the genesis file", keys));
    AMI_TRY(check_format(f, o, GENESIS_FORMAT));
    AMI_TRY(get_number(f, o, "created_ms", 1, INT64_MAX, &out->created_ms));
    AMI_TRY(read_network(f, &out->network, json_object_get(o, "network")));
    AMI_TRY(read_parameters(f, &out->parameters, json_object_get(o, "parameters")));
    const json_t *members = json_object_get(o, "members");
    size_t count = json_array_size(members);
    if (!json_is_array(members) || count > AMI_MEMBERS_MAX ||
        (count < AMI_MEMBERS_MIN && !(allow_single && count == 1)))
        return bad(f, AMI_BAD_ARGUMENT, "it lists %zu members, expected %d to %d", count,
                   AMI_MEMBERS_MIN, AMI_MEMBERS_MAX);
    out->members.epoch = 1;
    out->members.count = (uint8_t)count;
    for (uint8_t i = 0; i < count; i++)
        AMI_TRY(read_member(f, out, i, json_array_get(members, i)));
    out->members.hash = members_hash(&out->members);
    return AMI_OK;
}

static json_t *load(const struct reading_file *f, struct span json)
{
    json_error_t error;
    json_t *o = json_loadb((const char *)json.data, json.size, JSON_REJECT_DUPLICATES, &error);
    if (o == NULL)
        bad(f, AMI_BAD_ENCODING, "line %d is no JSON: %s", error.line, error.text);
    return o;
}

enum ami_status network_parse(struct network *out, struct span json, char *why, size_t why_size)
{
    const struct reading_file f = {why, why_size};
    json_t *o = load(&f, json);
    if (o == NULL)
        return AMI_BAD_ENCODING;
    memset(out, 0, sizeof *out);
    enum ami_status status = read_network(&f, out, o);
    json_decref(o);
    return status;
}

sm3_digest genesis_chain_id(struct span json)
{
    return sm3_labelled("amiledger genesis v1", &json, 1);
}

enum ami_status genesis_parse(struct genesis *out, struct span json, bool allow_single, char *why,
                              size_t why_size)
{
    const struct reading_file f = {why, why_size};
    json_t *o = load(&f, json);
    if (o == NULL)
        return AMI_BAD_ENCODING;
    memset(out, 0, sizeof *out);
    enum ami_status status = read_genesis(&f, out, o, allow_single);
    out->members.chain = genesis_chain_id(json);
    json_decref(o);
    return status;
}

/* --- printing ---------------------------------------------------------------------------------- */

static json_t *hex(const void *data, size_t size)
{
    char text[2 * 128 + 1];
    AMI_CHECK(size <= 128);
    hex_encode(text, data, size);
    return json_string(text);
}

static json_t *point_json(const point *p)
{
    point_bytes b = point_encode(p);
    return hex(b.b, sizeof b.b);
}

static json_t *network_json(const struct network *net)
{
    sm3_digest id = network_id(net);
    return json_pack("{s:s, s:i, s:s, s:i, s:o, s:o, s:o, s:o, s:o}", "format", NETWORK_FORMAT,
                     "version", FILE_VERSION, "name", net->name.text, "scheme", net->scheme,
                     "p_pub", point_json(&net->p_pub), "sign", point_json(&net->sign), "enrol",
                     point_json(&net->enrol), "readings", point_json(&net->readings), "id",
                     hex(id.b, sizeof id.b));
}

static char *print(json_t *o)
{
    char *text = o == NULL ? NULL : json_dumps(o, JSON_INDENT(2));
    json_decref(o);
    if (text == NULL)
        return NULL;
    size_t size = strlen(text);
    char *line = realloc(text, size + 2);
    if (line == NULL) {
        free(text);
        return NULL;
    }
    memcpy(line + size, "\n", 2);
    return line;
}

char *network_print(const struct network *net)
{
    return print(network_json(net));
}

static json_t *parameters_json(const struct parameters *p)
{
    json_t *o = json_object();
#define PRINT(name, min, max) json_object_set_new(o, #name, json_integer(p->name));
    PARAMETERS(PRINT)
#undef PRINT
    json_object_set_new(o, "gateway",
                        json_string(p->gateway == GATEWAY_HOME ? "home" : "leader"));
    return o;
}

char *genesis_print(const struct genesis *g)
{
    json_t *members = json_array();
    for (uint8_t i = 0; i < g->members.count; i++) {
        const struct member *m = &g->members.member[i];
        const struct member_address *a = &g->address[i];
        json_array_append_new(
            members,
            json_pack("{s:s, s:I, s:o, s:o, s:s, s:s, s:s}", "id", m->name.text, "key_epoch",
                      (json_int_t)m->key_epoch, "w_sign", hex(m->w_sign.b, sizeof m->w_sign.b),
                      "agree_part", hex(m->agree_part, m->agree_part_size), "peer", a->peer,
                      "meter", a->meter, "admin", a->admin));
    }
    return print(json_pack("{s:s, s:i, s:I, s:o, s:o, s:o}", "format", GENESIS_FORMAT, "version",
                           FILE_VERSION, "created_ms", (json_int_t)g->created_ms, "network",
                           network_json(&g->network), "parameters",
                           parameters_json(&g->parameters), "members", members));
}
