/* node/cfl_request.c - `dc-node cfl-request`: a request for a CFL certificate over this DC's key.
 *
 * RAPK is the DC's enrolled signing key, and the identity names its epoch: the MDMS knows from its
 * own books that this key is this DC's, no secret travels, and what the ledger says of the key
 * epoch goes for the certificate as well.
 */
#include "channel/cfl.h"
#include "crypto/secret.h"
#include "net/file.h"
#include "net/loop.h"
#include "node/keys.h"

#include <stdio.h>
#include <string.h>

#define NAME  "dc-node"
#define DAY_S 86400
/* Clocks that are behind by up to so much still find the new certificate valid. */
#define EARLY_S 3600

static const char *network_path, *dir, *out_path;
static int64_t epoch, days = 365;

static const struct option_spec options[] = {
    {"network", 0, OPTION_TEXT, &network_path, 0, 0, "FILE", "network.json of the MDMS", true},
    {"dir", 0, OPTION_TEXT, &dir, 0, 0, "DIR", "where this DC's keys are", true},
    {"out", 'o', OPTION_TEXT, &out_path, 0, 0, "FILE", "where the request goes", true},
    {"epoch", 0, OPTION_INT, &epoch, 1, UINT32_MAX, "E", "of this key (default: the first one's)",
     false},
    {"days", 0, OPTION_INT, &days, 1, 3650, "N", "how long it is to be good (default 365)", false},
    {0}};

/* The key of that epoch, whichever file it is in. */
static enum ami_status load(struct device_file *key, const struct network *net, struct why *why)
{
    char name[KEY_NAME_BYTES];
    AMI_TRY(key_load(key, dir, KEY_FIRST, net, why));
    if (epoch == 0 || key->keys.epoch == (uint32_t)epoch)
        return AMI_OK;
    key_name(name, (uint32_t)epoch);
    return key_load(key, dir, name, net, why);
}

static enum ami_status make(const struct device_file *key, const struct network *net,
                            struct why *why)
{
    uint8_t random[SM2_WIDE_BYTES], file[CFL_FILE_BYTES_MAX];
    struct cfl_certificate request;
    const int64_t now_s = clock_wall_ms() / 1000;
    const struct credential_identity who = {.role = CREDENTIAL_DC,
                                            .network = net->id,
                                            .name = key->keys.name,
                                            .epoch = key->keys.epoch,
                                            .from_s = now_s - EARLY_S,
                                            .until_s = now_s + days * DAY_S};
    secret_random(random, sizeof random);
    enum ami_status status = cfl_request_with(&request, &key->keys.sign.private_key, &who, random);
    secret_wipe(random, sizeof random);
    if (status != AMI_OK)
        return why_set(why, status, "no request could be made: %s", ami_status_text(status));
    return file_write(out_path, span_of(file, cfl_file_encode(file, &request, false)),
                      FILE_MODE_PUBLIC, why);
}

static int run(int argc, char **argv, void *ctx)
{
    (void)argc;
    (void)argv;
    (void)ctx;
    struct why why = {""};
    struct network net;
    struct device_file key = {0};
    enum ami_status status = key_network(&net, network_path, &why);
    if (status == AMI_OK)
        status = load(&key, &net, &why);
    if (status == AMI_OK)
        status = make(&key, &net, &why);
    if (status == AMI_OK)
        printf(
            "request of %s, key epoch %u, in %s: `ami-mdms credential dc` makes the certificate\n",
            key.keys.name.text, (unsigned)key.keys.epoch, out_path);
    secret_wipe(&key, sizeof key);
    return status == AMI_OK ? EXIT_STATUS_OK : program_fail(NAME, false, status, &why);
}

const struct command_spec COMMAND_CFL_REQUEST = {
    "cfl-request",
    NULL,
    0,
    0,
    "ask for a CFL certificate over this DC's key",
    "dc-node cfl-request --network network.json --dir dc1 --out dc1.request",
    options,
    run};
