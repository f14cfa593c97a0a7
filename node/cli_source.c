/* node/cli_source.c - where dc-cli's answers come from. */
#include "node/cli.h"

#include "ledger/genesis.h"
#include "ledger/registry.h"
#include "ledger/store.h"
#include "net/ask.h"
#include "net/file.h"
#include "net/loop.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GENESIS_BYTES_MAX (1u << 20)

/* The genesis file that belongs to a ledger is in its folder or in the one above. */
static void find_genesis(char *out, size_t size, const char *data)
{
    snprintf(out, size, "%s/genesis.json", data);
    if (access(out, F_OK) == 0)
        return;
    char above[4096];
    snprintf(above, sizeof above, "%s/../genesis.json", data);
    if (access(above, F_OK) == 0)
        snprintf(out, size, "%s", above);
}

bool cli_genesis(struct cli *c, const char *data, int *exit_status)
{
    if (c->genesis != NULL)
        return true;
    char beside[4096];
    const char *path = c->genesis_path;
    if (path == NULL && data != NULL) {
        find_genesis(beside, sizeof beside, data);
        path = beside;
    }
    if (path == NULL) {
        *exit_status = cli_usage("which network? name its --genesis FILE");
        return false;
    }
    struct why why = {""};
    enum ami_status status =
        file_read(path, GENESIS_BYTES_MAX, &c->genesis_bytes, &c->genesis_size, &why);
    if (status == AMI_NOT_FOUND && c->genesis_path == NULL)
        why_set(&why, status, "%.300s: there is no such file; name the network's --genesis FILE",
                path);
    if (status == AMI_OK) {
        c->genesis = calloc(1, sizeof *c->genesis);
        status = c->genesis == NULL ? why_set(&why, AMI_NO_MEMORY, "out of memory") : AMI_OK;
    }
    if (status == AMI_OK) {
        char detail[WHY_BYTES_MAX - 200] = "";
        status = genesis_parse(c->genesis, span_of(c->genesis_bytes, c->genesis_size), true, detail,
                               sizeof detail);
        if (status != AMI_OK)
            why_set(&why, status, "%.150s is no genesis file: %s", path, detail);
    }
    if (status == AMI_OK)
        return true;
    free(c->genesis);
    c->genesis = NULL;
    *exit_status = program_fail(CLI_NAME, c->json, status, &why);
    return false;
}

int cli_usage(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs(CLI_NAME ": ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return EXIT_STATUS_USAGE;
}

const char *cli_data(const struct cli *c, int *exit_status)
{
    if (c->data == NULL || c->data[0] == '\0') {
        *exit_status = cli_usage("which ledger? name its folder with --data DIR");
        return NULL;
    }
    return c->data;
}

bool cli_child_open(struct cli_child *child, const char *data, const sm3_digest *chain,
                    struct store **store, enum ami_status *status, char *why, size_t why_size)
{
    why[0] = '\0';
    cli_child_reads(child, data);
    *status = store_open(store, data, chain, STORE_READ_ONLY, 0, why, why_size);
    return *status == AMI_OK;
}

const char *cli_node(const struct cli *c, int *exit_status)
{
    if (c->node != NULL)
        return c->node;
    const char *url = getenv("AMI_NODE");
    if (url != NULL && url[0] != '\0')
        return url;
    *exit_status = cli_usage("which node? name its --node URL (its admin address), or look at a "
                             "ledger on disk with --data DIR");
    return NULL;
}

enum ami_status cli_find_network(const struct cli *c, struct network *room,
                                 const struct network **out, struct why *why)
{
    const char *path = c->network != NULL ? c->network : getenv("AMI_NETWORK");
    char detail[WHY_BYTES_MAX - 200] = "";
    uint8_t *data = NULL;
    size_t size;
    *out = c->genesis != NULL ? &c->genesis->network : NULL;
    if (*out != NULL || path == NULL || path[0] == '\0')
        return AMI_OK;
    AMI_TRY(file_read(path, GENESIS_BYTES_MAX, &data, &size, why));
    enum ami_status status = network_parse(room, span_of(data, size), detail, sizeof detail);
    free(data);
    *out = room;
    return status == AMI_OK ? AMI_OK
                            : why_set(why, status, "%.150s is no network file: %s", path, detail);
}

/* The credential, once. Says on stderr when it runs out soon. */
static enum ami_status hold_credential(struct cli *c, struct why *why)
{
    const struct operator_files files = {c->credential, c->x509_roots, c->cfl_public};
    const struct network *net;
    struct network room;
    struct why soon;
    if (c->has_operator)
        return AMI_OK;
    AMI_TRY(cli_find_network(c, &room, &net, why));
    AMI_TRY(operator_begin_link(&c->operator_link, &files, net, why));
    c->has_operator = true;
    if (operator_expires(&c->operator_link, clock_wall_ms() / 1000, &soon))
        fprintf(stderr, CLI_NAME ": %s\n", soon.text);
    return AMI_OK;
}

json_t *cli_ask_node(struct cli *c, const char *url, const json_t *question,
                     enum ami_status *status, char *why, size_t why_size)
{
    struct why sentence = {""};
    json_t *out = NULL;
    *status = hold_credential(c, &sentence);
    if (*status == AMI_OK)
        out = admin_ask(url, &c->operator_link.config, question, (uint32_t)c->timeout_ms, status,
                        &sentence);
    if (out == NULL)
        snprintf(why, why_size, "%s", sentence.text);
    return out;
}

/* --- several live nodes ----------------------------------------------------------------------- */

static json_t *ask_dc(struct cli *c, const char *ask, const char *url, const char *name)
{
    json_t *question = json_pack("{s:s}", "ask", ask);
    enum ami_status status;
    char why[WHY_BYTES_MAX];
    /* "?": only the address is known. */
    if (ami_id_from_text(&c->operator_link.expected, name) != AMI_OK)
        c->operator_link.expected = (struct ami_id){0};
    json_t *out = cli_ask_node(c, url, question, &status, why, sizeof why);
    c->operator_link.expected = (struct ami_id){0};
    json_decref(question);
    if (out == NULL)
        out = json_pack("{s:s, s:s, s:s, s:s}", "role", "unreachable", "error", why, "status",
                        ami_status_name(status), "dc", name);
    json_object_set_new(out, "node", json_string(url));
    return out;
}

static const char *text(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s == NULL ? "" : s;
}

static bool was_asked(const json_t *nodes, const char *dc)
{
    for (size_t i = 0; i < json_array_size(nodes); i++)
        if (strcmp(text(json_array_get(nodes, i), "dc"), dc) == 0)
            return true;
    return false;
}

/* The DCs that joined after the genesis file, as those that were asked know them. */
static void ask_later_members(struct cli *c, const char *ask, json_t *nodes)
{
    const json_t *newest = NULL;
    for (size_t i = 0; i < json_array_size(nodes); i++) {
        const json_t *n = json_array_get(nodes, i);
        if (newest == NULL || json_integer_value(json_object_get(n, "epoch")) >
                                  json_integer_value(json_object_get(newest, "epoch")))
            newest = n;
    }
    const json_t *committee = json_object_get(newest, "committee");
    for (size_t i = 0; i < json_array_size(committee); i++) {
        const json_t *m = json_array_get(committee, i);
        if (!was_asked(nodes, text(m, "dc")))
            json_array_append_new(nodes, ask_dc(c, ask, text(m, "admin"), text(m, "dc")));
    }
}

bool cli_reached(const json_t *of_dc)
{
    const char *role = json_string_value(json_object_get(of_dc, "role"));
    return role == NULL || strcmp(role, "unreachable") != 0;
}

json_t *cli_ask_dcs(struct cli *c, const char *ask, int *exit_status)
{
    const char *url = getenv("AMI_NODE");
    const bool named = c->nodes.count > 0 || c->genesis_path == NULL;
    if (named && c->nodes.count == 0 && (url == NULL || url[0] == '\0')) {
        *exit_status = cli_usage("which node? name its --node URL (its admin address), or the "
                                 "network's --genesis FILE to ask all");
        return NULL;
    }
    if (!named && !cli_genesis(c, NULL, exit_status))
        return NULL;
    struct why why = {""};
    const enum ami_status status = hold_credential(c, &why);
    if (status != AMI_OK) {
        *exit_status = cli_fail(c, status, "%s", why.text);
        return NULL;
    }
    json_t *nodes = json_array();
    if (named && c->nodes.count == 0)
        json_array_append_new(nodes, ask_dc(c, ask, url, "?"));
    for (size_t i = 0; i < c->nodes.count; i++)
        json_array_append_new(nodes, ask_dc(c, ask, c->nodes.items[i], "?"));
    for (uint8_t i = 0; !named && i < c->genesis->members.count; i++)
        json_array_append_new(nodes, ask_dc(c, ask, c->genesis->address[i].admin,
                                            c->genesis->members.member[i].name.text));
    if (!named)
        ask_later_members(c, ask, nodes);
    return nodes;
}

/* --- a ledger on disk ------------------------------------------------------------------------- */

struct data_question {
    struct cli *c;
    const json_t *question;
};

static json_t *error_document(enum ami_status status, const char *why)
{
    return json_pack("{s:b, s:s, s:s}", "ok", 0, "status", ami_status_name(status), "error", why);
}

static json_t *answer_from(struct cli *c, struct store *store, const json_t *question)
{
    char why[WHY_BYTES_MAX] = "";
    uint64_t height; /* a DC may go on writing: the registry's, not that of a later block */
    struct registry *registry = registry_new(c->genesis);
    enum ami_status status =
        registry == NULL ? AMI_NO_MEMORY : store_load_registry_at(store, registry, &height);
    if (status != AMI_OK) {
        registry_free(registry);
        snprintf(why, sizeof why, "the registry in %.200s cannot be read: %s", c->data,
                 ami_status_text(status));
        return error_document(status, why);
    }
    const struct node_disk disk = disk_of_store(store);
    const struct answer_source source = {c->genesis, registry, &disk, height};
    json_t *found = answer(&source, question, &status, why, sizeof why);
    json_t *out = found == NULL ? error_document(status, why)
                                : json_pack("{s:b, s:o}", "ok", 1, "answer", found);
    registry_free(registry);
    return out;
}

static json_t *ask_in_child(struct cli_child *child, void *ctx)
{
    struct data_question *q = ctx;
    struct store *store;
    enum ami_status status;
    char why[WHY_BYTES_MAX];
    if (!cli_child_open(child, q->c->data, &q->c->genesis->members.chain, &store, &status, why,
                        sizeof why))
        return error_document(status, why);
    json_t *out = answer_from(q->c, store, q->question);
    store_close(store);
    return out;
}

enum ami_status cli_status_of(const json_t *document)
{
    const char *name = json_string_value(json_object_get(document, "status"));
    for (int i = 1; name != NULL && i < AMI_STATUS_COUNT; i++)
        if (strcmp(name, ami_status_name((enum ami_status)i)) == 0)
            return (enum ami_status)i;
    return AMI_BAD_ENCODING;
}

static json_t *ask_data(struct cli *c, const json_t *question, int *exit_status)
{
    struct data_question q = {c, question};
    struct cli_guard_end end;
    if (!cli_genesis(c, c->data, exit_status))
        return NULL;
    json_t *document = cli_guard(c, NULL, "", ask_in_child, &q, &end);
    if (document == NULL) {
        *exit_status = cli_fail(c, end.status, "%s", end.why);
        return NULL;
    }
    json_t *out = json_incref(json_object_get(document, "answer"));
    if (out == NULL)
        *exit_status = cli_fail(c, cli_status_of(document), "%s",
                                json_string_value(json_object_get(document, "error")));
    json_decref(document);
    return out;
}

json_t *cli_ask(struct cli *c, json_t *question, int *exit_status)
{
    json_t *out = NULL;
    if (c->data != NULL) {
        out = ask_data(c, question, exit_status);
    } else {
        const char *url = cli_node(c, exit_status);
        enum ami_status status;
        char why[WHY_BYTES_MAX];
        if (url != NULL) {
            out = cli_ask_node(c, url, question, &status, why, sizeof why);
            if (out == NULL)
                *exit_status = cli_fail(c, status, "%s", why);
        }
    }
    json_decref(question);
    return out;
}
