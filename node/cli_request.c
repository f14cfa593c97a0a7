/* node/cli_request.c - dc-cli request, accept: a credential over a key that its operator alone has.
 *
 *   request   draws the key: the key file, for the operator, and the request, for the MDMS's
 *   accept    joins the key file and the MDMS's answer to the credential file, when all of it is
 *             right, and removes the key file
 *
 * Neither needs a node or a credential, but the network's public keys: an answer is held to them.
 */
#include "node/cli.h"

#include "channel/file.h"
#include "channel/request.h"
#include "crypto/secret.h"
#include "net/file.h"
#include "net/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DAY_S 86400
/* Clocks that are behind by up to so much still find the new credential valid. */
#define EARLY_S 3600

static int64_t days_of(const struct credential_identity *who)
{
    return (who->until_s - clock_wall_ms() / 1000 + DAY_S / 2) / DAY_S;
}

/* {"ok", "operator", "epoch", "kind", "label", "days", "out"} */
static json_t *describe(const struct cli *c, const struct credential_identity *who)
{
    char label[LABEL_TEXT_BYTES];
    label_text(label, who->label);
    return json_pack("{s:b, s:s, s:I, s:s, s:s, s:I, s:s}", "ok", 1, "operator", who->name.text,
                     "epoch", (json_int_t)who->epoch, "kind", credential_kind_name(who->kind),
                     "label", label, "days", (json_int_t)days_of(who), "out", c->out);
}

/* --- request ---------------------------------------------------------------------------------- */

static enum ami_status identify(const struct cli *c, struct credential_identity *out,
                                const char *name, struct why *why)
{
    const int64_t now_s = clock_wall_ms() / 1000;
    const bool cfl = c->kind != NULL && strcmp(c->kind, "cfl") == 0;
    *out = (struct credential_identity){.kind = cfl ? CREDENTIAL_CFL : CREDENTIAL_IMPLICIT,
                                        .role = CREDENTIAL_OPERATOR,
                                        .epoch = c->epoch == 0 ? 1 : (uint32_t)c->epoch,
                                        .from_s = now_s - EARLY_S,
                                        .until_s = now_s + c->days * DAY_S};
    if (ami_id_from_text(&out->name, name) != AMI_OK)
        return why_set(why, AMI_BAD_ARGUMENT, "\"%.80s\" is no name: 1 to %d of a-z A-Z 0-9 . _ -",
                       name, AMI_ID_BYTES_MAX);
    if (label_parse(&out->label, c->label) != AMI_OK)
        return why_set(why, AMI_BAD_ARGUMENT,
                       "\"%.60s\" is no label: expected a level 0 to 3 and categories, such as "
                       "2:ledger+metering+operation+membership, or 0: for none",
                       c->label);
    if (!cfl && c->kind != NULL && strcmp(c->kind, "implicit") != 0)
        return why_set(why, AMI_BAD_ARGUMENT, "--kind is implicit or cfl, not \"%.60s\"", c->kind);
    return AMI_OK;
}

/* The key first: a request whose key was lost would be answered for nothing. */
static enum ami_status write_both(const struct cli *c, const struct credential_key *key,
                                  struct why *why)
{
    uint8_t secret[CREDENTIAL_KEY_BYTES_MAX], request[CREDENTIAL_REQUEST_BYTES_MAX];
    const size_t size = credential_request_encode(request, &key->request);
    enum ami_status status = file_write_new(
        c->key, span_of(secret, credential_key_encode(secret, key)), FILE_MODE_SECRET, why);
    secret_wipe(secret, sizeof secret);
    AMI_TRY(status);
    status = file_write_new(c->out, span_of(request, size), FILE_MODE_PUBLIC, why);
    if (status != AMI_OK)
        (void)unlink(c->key); /* nobody asks under it */
    return status;
}

static enum ami_status ask(struct cli *c, struct credential_key *key, const char *name,
                           struct why *why)
{
    uint8_t random[2][SM2_WIDE_BYTES];
    struct credential_identity who;
    const struct network *net;
    struct network room;
    AMI_TRY(identify(c, &who, name, why));
    AMI_TRY(cli_find_network(c, &room, &net, why));
    if (net == NULL)
        return why_set(why, AMI_BAD_ARGUMENT,
                       "which network? name its --genesis FILE, or --network FILE (network.json of "
                       "the MDMS)");
    secret_random(random, sizeof random);
    const enum ami_status status =
        credential_request_make(key, net, &who, (const uint8_t(*)[SM2_WIDE_BYTES])random);
    secret_wipe(random, sizeof random);
    AMI_TRY(status);
    return write_both(c, key, why);
}

int cli_request(int argc, char **argv, void *ctx)
{
    (void)argc;
    struct cli *c = ctx;
    struct credential_key key = {0};
    struct why why = {""};
    int exit_status = EXIT_STATUS_OK;
    if (c->genesis_path != NULL && !cli_genesis(c, NULL, &exit_status))
        return exit_status;
    const enum ami_status status = ask(c, &key, argv[0], &why);
    const struct credential_identity who = key.request.who;
    secret_wipe(&key, sizeof key);
    if (status != AMI_OK)
        return cli_fail(c, status, "%s", why.text[0] != '\0' ? why.text : ami_status_text(status));
    if (c->json) {
        json_t *d = describe(c, &who);
        json_object_set_new(d, "key", json_string(c->key));
        return cli_print_json(d);
    }
    printf("request of %s in %s: `ami-mdms operator add --request` answers it, `dc-cli accept` "
           "takes the answer\n"
           "the key in %s is yours alone, and goes nowhere\n",
           who.name.text, c->out, c->key);
    return EXIT_STATUS_OK;
}

/* --- accept ----------------------------------------------------------------------------------- */

static enum ami_status read_key(struct credential_key *out, const char *path, struct why *why)
{
    uint8_t *data = NULL;
    size_t size;
    AMI_TRY(file_read(path, CREDENTIAL_KEY_BYTES_MAX, &data, &size, why));
    const enum ami_status status = credential_key_parse(out, span_of(data, size));
    secret_wipe(data, size);
    free(data);
    return status == AMI_OK
               ? AMI_OK
               : why_set(why, status, "%.300s is no key that `dc-cli request` wrote: %s", path,
                         ami_status_text(status));
}

static enum ami_status read_answer(struct credential_answer *out, const char *path, struct why *why)
{
    uint8_t *data = NULL;
    size_t size;
    AMI_TRY(file_read(path, CREDENTIAL_ANSWER_BYTES_MAX, &data, &size, why));
    const enum ami_status status = credential_answer_parse(out, span_of(data, size));
    free(data);
    return status == AMI_OK ? AMI_OK
                            : why_set(why, status, "%.300s is no answer to a request: %s", path,
                                      ami_status_text(status));
}

/* A CFL answer is judged by the public seed set, before the key file goes. */
static enum ami_status read_set(const struct cli *c, const struct credential_key *key,
                                struct trust *out, struct why *why)
{
    const char *path = c->cfl_public != NULL ? c->cfl_public : getenv("AMI_CFL_PUBLIC");
    if (path == NULL || path[0] == '\0')
        return why_set(why, AMI_BAD_ARGUMENT,
                       "whether a CFL certificate is good, the network's public seed set tells: "
                       "name it with --cfl-public FILE or AMI_CFL_PUBLIC (operators/cfl.public of "
                       "the MDMS)");
    const struct trust_files files = {.cfl_public = path};
    return trust_load(out, &key->net, &files, why);
}

static enum ami_status say_mismatch(enum ami_status status, const struct cli *c, const char *path,
                                    struct why *why)
{
    switch (status) {
    case AMI_OK:
        return AMI_OK;
    case AMI_WRONG_CHAIN:
        return why_set(why, status, "%.200s is for another network than %.200s", path, c->key);
    case AMI_FOREIGN_KEY:
        return why_set(why, status, "%.200s answers another request than the one of %.200s", path,
                       c->key);
    case AMI_BAD_SIGNATURE:
        return why_set(why, status,
                       "%.200s was altered, or the issuer of that public seed set did not make it",
                       path);
    default:
        return why_set(why, status,
                       "%.200s answers a request with another key than that in %.200s, or was "
                       "altered, or is not the MDMS's",
                       path, c->key);
    }
}

/* The credential has the key in it, so when it is there for good nothing is lost with the key file,
 * and to write over its bytes would hide nothing. */
static enum ami_status keep(const struct cli *c, const struct credential *own,
                            const struct network *net, struct why *why)
{
    uint8_t file[CREDENTIAL_FILE_BYTES_MAX];
    const enum ami_status status = file_write_new(
        c->out, span_of(file, credential_file_encode(file, net, own)), FILE_MODE_SECRET, why);
    secret_wipe(file, sizeof file);
    AMI_TRY(status);
    if (unlink(c->key) != 0)
        return why_set(
            why, why_status_of_errno(errno),
            "the credential is in %.200s; %.150s, which is not needed any more, cannot be "
            "removed: %s",
            c->out, c->key, strerror(errno));
    return AMI_OK;
}

static enum ami_status join(const struct cli *c, struct credential_key *key, struct credential *own,
                            const char *path, struct why *why)
{
    struct credential_answer answer;
    struct trust trust = {0};
    AMI_TRY(read_key(key, c->key, why));
    AMI_TRY(read_answer(&answer, path, why));
    enum ami_status status =
        key->request.who.kind == CREDENTIAL_CFL ? read_set(c, key, &trust, why) : AMI_OK;
    if (status == AMI_OK) {
        status = credential_answer_accept(own, &answer, key, trust.cfl);
        status = say_mismatch(status, c, path, why);
    }
    trust_end(&trust);
    AMI_TRY(status);
    return keep(c, own, &key->net, why);
}

int cli_accept(int argc, char **argv, void *ctx)
{
    (void)argc;
    struct cli *c = ctx;
    struct credential_key key = {0};
    struct credential own = {0};
    struct why why = {""};
    char given[LABEL_TEXT_BYTES], asked[LABEL_TEXT_BYTES];
    const enum ami_status status = join(c, &key, &own, argv[0], &why);
    const struct credential_identity who = own.who;
    label_text(given, who.label);
    label_text(asked, key.request.who.label);
    secret_wipe(&key, sizeof key);
    secret_wipe(&own, sizeof own);
    if (status != AMI_OK)
        return cli_fail(c, status, "%s", why.text[0] != '\0' ? why.text : ami_status_text(status));
    if (c->json)
        return cli_print_json(describe(c, &who));
    printf("operator %s: %s, for %lld days, in %s\n", who.name.text, given,
           (long long)days_of(&who), c->out);
    if (strcmp(given, asked) != 0)
        printf("the label is another one than %s, which was asked for\n", asked);
    return EXIT_STATUS_OK;
}
