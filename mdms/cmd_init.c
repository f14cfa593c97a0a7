/* mdms/cmd_init.c - `ami-mdms init`: the keys of a new network. */
#include "base/check.h"
#include "mdms/cli.h"
#include "mdms/core.h"
#include "net/file.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct common_options common;
static const char *name;
static const char *scheme_name = "sm2kx";

static const struct option_spec options[] = {
    {.name = "dir",
     .letter = 'd',
     .kind = OPTION_TEXT,
     .value = &common.dir,
     .argument = "DIR",
     .help = "the MDMS's directory, made when it is missing",
     .required = true},
    {.name = "name",
     .kind = OPTION_TEXT,
     .value = &name,
     .argument = "NAME",
     .help = "name of the network",
     .required = true},
    {.name = "scheme",
     .kind = OPTION_TEXT,
     .value = &scheme_name,
     .argument = "NAME",
     .help = "key agreement: sm2kx (default) or liu2023"},
    CLI_OPTION_PASSPHRASE,
    CLI_OPTION_JSON,
    {0},
};

struct files {
    char network[PATH_MAX], keys[PATH_MAX], data[PATH_MAX], lock[PATH_MAX], store[PATH_MAX];
};

static enum ami_status files_in(struct files *f, const char *dir, struct why *why)
{
    AMI_TRY(path_join(f->network, sizeof f->network, dir, FILE_NETWORK, why));
    AMI_TRY(path_join(f->keys, sizeof f->keys, dir, FILE_KEYS, why));
    AMI_TRY(path_join(f->store, sizeof f->store, dir, "store", why));
    AMI_TRY(path_join(f->data, sizeof f->data, dir, "store/data.mdb", why));
    return path_join(f->lock, sizeof f->lock, dir, "store/lock.mdb", why);
}

/* network.json is written last: a directory that has it is complete. */
static enum ami_status write_all(const struct files *f, const struct mdms_keys *keys,
                                 const char *passphrase, struct why *why)
{
    uint8_t sealed[KEYFILE_BYTES_MAX];
    size_t size;
    AMI_TRY(mdms_file_encode(sealed, &size, keys, passphrase));
    AMI_TRY(file_write_new(f->keys, span_of(sealed, size), FILE_MODE_SECRET, why));
    struct state_record state = mdms_state_initial(&keys->net);
    enum ami_status status = mdms_store_create(common.dir, &state, why);
    char *text = NULL;
    if (status == AMI_OK && (text = network_print(&keys->net)) == NULL)
        status = AMI_NO_MEMORY;
    if (status == AMI_OK)
        status = file_write_new(f->network, span_of(text, strlen(text)), FILE_MODE_PUBLIC, why);
    free(text);
    if (status != AMI_OK) {
        /* Ours, made above: nothing half-made stays behind. */
        (void)unlink(f->data);
        (void)unlink(f->lock);
        (void)rmdir(f->store);
        (void)unlink(f->keys);
    }
    return status;
}

static enum ami_status check_empty(const struct files *f, struct why *why)
{
    if (access(f->network, F_OK) == 0)
        return why_set(why, AMI_EXISTS,
                       "%s: there is a network already; its keys are never overwritten, choose "
                       "another --dir",
                       common.dir);
    if (access(f->keys, F_OK) == 0 || access(f->store, F_OK) == 0)
        return why_set(why, AMI_EXISTS,
                       "%s: an earlier `ami-mdms init` was cut short here; remove what it left "
                       "(%s and %s) or choose another --dir",
                       common.dir, f->keys, f->store);
    return AMI_OK;
}

static enum ami_status make(struct mdms_keys *keys, struct why *why)
{
    struct ami_id id;
    struct files f;
    char passphrase[PASSPHRASE_BYTES_MAX];
    uint8_t random[4][SM2_WIDE_BYTES];
    AMI_TRY(cli_id(name, &id, why));
    const struct scheme *scheme = scheme_by_name(scheme_name);
    if (scheme == NULL)
        return why_set(why, AMI_BAD_ARGUMENT,
                       "there is no key agreement \"%s\": sm2kx and liu2023 are known",
                       scheme_name);
    AMI_TRY(files_in(&f, common.dir, why));
    AMI_TRY(check_empty(&f, why));
    AMI_TRY(cli_passphrase(common.passphrase_file, true, passphrase, why));
    secret_random(random, sizeof random);
    enum ami_status status =
        mdms_keys_make(keys, &id, scheme->number, (const uint8_t(*)[SM2_WIDE_BYTES])random);
    if (status == AMI_OK)
        status = directory_make(common.dir, 0700, why);
    if (status == AMI_OK)
        status = write_all(&f, keys, passphrase, why);
    secret_wipe(random, sizeof random);
    secret_wipe(passphrase, sizeof passphrase);
    return status;
}

static int run(int argc, char **argv, void *ctx)
{
    (void)argc;
    (void)argv;
    (void)ctx;
    struct mdms_keys keys;
    struct why why = {0};
    enum ami_status status = make(&keys, &why);
    if (status != AMI_OK)
        return cli_fail(common.json, status, &why);
    char id[2 * SM3_BYTES + 1];
    hex_encode(id, keys.net.id.b, SM3_BYTES);
    secret_wipe(&keys, sizeof keys);
    if (common.json)
        return cli_print_json(json_pack("{s:b, s:s, s:s, s:s, s:s}", "ok", 1, "dir", common.dir,
                                        "name", name, "scheme", scheme_name, "network", id));
    printf("network  %s\nscheme   %s\nid       %s\nwritten  %s/%s for everybody, %s/%s for nobody "
           "else\n",
           name, scheme_name, id, common.dir, FILE_NETWORK, common.dir, FILE_KEYS);
    return EXIT_STATUS_OK;
}

const struct command_spec COMMAND_INIT = {
    .name = "init",
    .summary = "make the keys of a new network",
    .example = "ami-mdms init --dir /var/lib/amiledger/mdms --name north-1 --passphrase-file pass",
    .options = options,
    .run = run,
};
