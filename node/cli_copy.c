/* node/cli_copy.c - dc-cli copy: another DC's ledger, whole and verified, for a DC to begin with.
 *
 * In: a ledger's folder, also one that a DC writes to meanwhile, or that somebody sent; and the
 * genesis file. Out: a new folder with all of it but what is one node's alone. Nobody need be
 * trusted for what is in it: the copy is audited from the genesis on, and takes its name only when
 * all of it is right. The DC that begins with it fetches what came since from its peers.
 */
#include "node/cli.h"

#include "net/file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct copy {
    struct cli *c;
    char part[4096]; /* the copy, until it is found right */
};

static void on_progress(void *ctx, uint64_t done, uint64_t total)
{
    cli_child_progress(ctx, done, total);
}

static json_t *failed(enum ami_status status, const char *why)
{
    return json_pack("{s:b, s:s, s:s}", "ok", 0, "status", ami_status_name(status), "error", why);
}

static json_t *copy_in_child(struct cli_child *child, void *ctx)
{
    struct copy *x = ctx;
    struct store *from;
    enum ami_status status;
    char why[WHY_BYTES_MAX];
    uint64_t height = 0;
    if (!cli_child_open(child, x->c->data, &x->c->genesis->members.chain, &from, &status, why,
                        sizeof why))
        return failed(status, why);
    status = store_copy(from, x->part, &height, on_progress, child, why, sizeof why);
    store_close(from);
    return status == AMI_OK ? json_pack("{s:b, s:I}", "ok", 1, "height", (json_int_t)height)
                            : failed(status, why);
}

/* What did not become a ledger goes away. */
static void remove_part(const struct copy *x)
{
    static const char *const names[] = {"data.mdb", "lock.mdb", "ledger.lock", "genesis.json"};
    char path[4224];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", x->part, names[i]);
        (void)unlink(path);
    }
    (void)rmdir(x->part);
}

/* The copy takes its name, with the genesis file that it was audited against. */
static enum ami_status finish(const struct copy *x, struct why *why)
{
    char path[4224];
    snprintf(path, sizeof path, "%s/genesis.json", x->part);
    AMI_TRY(
        file_write(path, span_of(x->c->genesis_bytes, x->c->genesis_size), FILE_MODE_PUBLIC, why));
    snprintf(path, sizeof path, "%s/ledger.lock", x->part);
    (void)unlink(path); /* it names this process */
    if (rename(x->part, x->c->out) != 0)
        return why_set(why, why_status_of_errno(errno), "%.200s: %s", x->c->out, strerror(errno));
    return AMI_OK;
}

static int say_failure(const struct cli *c, json_t *d, const struct cli_guard_end *end)
{
    const char *problem = json_string_value(json_object_get(json_object_get(d, "problem"), "text"));
    const char *error = json_string_value(json_object_get(d, "error"));
    int status;
    if (d == NULL)
        status = cli_fail(c, end->status, "%s", end->why);
    else if (problem != NULL)
        status = cli_fail(c, AMI_DAMAGED, "%.200s is not worth copying: %s", c->data, problem);
    else
        status = cli_fail(c, cli_status_of(d), "%s", error);
    json_decref(d);
    return status;
}

static int copy(struct copy *x)
{
    struct cli *c = x->c;
    struct cli_guard_end end = {0};
    struct why why = {""};
    json_t *d = cli_guard(c, "copy", "bytes", copy_in_child, x, &end);
    if (!json_is_true(json_object_get(d, "ok"))) {
        remove_part(x);
        return say_failure(c, d, &end);
    }
    json_decref(d);
    d = cli_audit_of(c, x->part);
    if (!json_is_true(json_object_get(d, "ok"))) {
        remove_part(x);
        return say_failure(c, d, &end);
    }
    const long long height = (long long)json_integer_value(json_object_get(d, "height"));
    json_decref(d);
    enum ami_status status = finish(x, &why);
    if (status != AMI_OK) {
        remove_part(x);
        return program_fail(CLI_NAME, c->json, status, &why);
    }
    if (c->json)
        return cli_print_json(
            json_pack("{s:b, s:s, s:I}", "ok", 1, "out", c->out, "height", (json_int_t)height));
    printf("ok: %s was copied to %s up to height %lld, and verified from its genesis on\n", c->data,
           c->out, height);
    return EXIT_STATUS_OK;
}

int cli_copy(int argc, char **argv, void *ctx)
{
    (void)argc;
    (void)argv;
    struct cli *c = ctx;
    int exit_status = EXIT_STATUS_OK;
    struct stat st;
    struct copy x = {.c = c};
    if (c->out == NULL)
        return cli_usage("name the new folder with --out DIR");
    if (cli_data(c, &exit_status) == NULL || !cli_genesis(c, c->data, &exit_status))
        return exit_status;
    if ((size_t)snprintf(x.part, sizeof x.part, "%s.part", c->out) >= sizeof x.part)
        return cli_usage("the name of --out is too long");
    if (stat(c->out, &st) == 0 || stat(x.part, &st) == 0)
        return cli_fail(c, AMI_EXISTS, "%.300s is there already",
                        stat(c->out, &st) == 0 ? c->out : x.part);
    return copy(&x);
}
