/* mdms/cli.h - what the commands of ami-mdms share: the MDMS's directory and how it is opened.
 *
 *   DIR/network.json   public keys of the network, for everybody
 *   DIR/mdms.key       the four private keys, sealed with the passphrase
 *   DIR/store/         LMDB: codes, devices, outbox, readings (mdms/store.h)
 *   DIR/genesis.json   where `genesis` writes and `serve` looks when they are not told otherwise
 */
#ifndef AMI_MDMS_CLI_H
#define AMI_MDMS_CLI_H

#include "keyagree/keyfile.h"
#include "ledger/genesis.h"
#include "mdms/store.h"
#include "net/options.h"

#include <jansson.h>

#define PROGRAM "ami-mdms"

#define FILE_NETWORK "network.json"
#define FILE_KEYS    "mdms.key"
#define FILE_GENESIS "genesis.json"

#define PASSPHRASE_BYTES_MAX 1024

/* Options that many commands have. */
struct common_options {
    const char *dir;
    const char *passphrase_file;
    bool json;
    bool wait;
    int64_t wait_ms; /* CLI_WAIT_MS until the command line says otherwise */
};
#define CLI_WAIT_MS 60000

/* For a table of options; the values are those of the command's own `common`. */
#define CLI_OPTION_DIR                                                                             \
    {                                                                                              \
        .name = "dir", .letter = 'd', .kind = OPTION_TEXT, .value = &common.dir,                   \
        .argument = "DIR", .help = "the MDMS's directory", .required = true                        \
    }
#define CLI_OPTION_JSON                                                                            \
    {                                                                                              \
        .name = "json", .kind = OPTION_FLAG, .value = &common.json,                                \
        .help = "print one JSON document"                                                          \
    }
#define CLI_OPTION_PASSPHRASE                                                                      \
    {                                                                                              \
        .name = "passphrase-file", .kind = OPTION_TEXT, .value = &common.passphrase_file,          \
        .argument = "FILE",                                                                        \
        .help = "passphrase in its first line (else AMI_PASSPHRASE, else asked)"                   \
    }
#define CLI_OPTION_WAIT(what)                                                                      \
    {                                                                                              \
        .name = "wait", .kind = OPTION_FLAG, .value = &common.wait, .help = (what)                 \
    }
#define CLI_OPTION_WAIT_MS                                                                         \
    {                                                                                              \
        .name = "timeout", .kind = OPTION_DURATION, .value = &common.wait_ms, .min = 100,          \
        .max = 86400000, .argument = "TIME", .help = "how long to wait (default 60s)"              \
    }

/* Asks look(ctx) again and again until it says anything but AMI_AGAIN, or that time is over: then
 * AMI_AGAIN. Another process works on what is waited for, so there is nothing else to wait on. */
enum ami_status cli_wait(enum ami_status (*look)(void *ctx), void *ctx,
                         int64_t wait_ms) AMI_MUST_CHECK;

/* Reads DIR/network.json. AMI_NOT_FOUND says how to make one. */
enum ami_status cli_network(const char *dir, struct network *out, struct why *why) AMI_MUST_CHECK;

/* From `file` (its first line), else from AMI_PASSPHRASE, else typed on the terminal (twice when
 * `confirm`). `out` has PASSPHRASE_BYTES_MAX bytes; wipe it. AMI_BAD_ARGUMENT: none given. */
enum ami_status cli_passphrase(const char *file, bool confirm, char *out,
                               struct why *why) AMI_MUST_CHECK;

/* Opens DIR/mdms.key, which must belong to `net`. */
enum ami_status cli_keys(const char *dir, const struct network *net, const char *passphrase,
                         struct mdms_keys *out, struct why *why) AMI_MUST_CHECK;

/* Reads a genesis file, which must belong to `net`; AMI_WRONG_CHAIN otherwise. `out` is large. */
enum ami_status cli_genesis(const char *path, const struct network *net, bool allow_single,
                            struct genesis *out, struct why *why) AMI_MUST_CHECK;

/* --genesis, else DIR/genesis.json when it exists, else "" (no genesis yet). */
enum ami_status cli_genesis_path(const char *dir, const char *given, char *out, size_t size,
                                 struct why *why) AMI_MUST_CHECK;

/* Name from the command line. */
enum ami_status cli_id(const char *text, struct ami_id *out, struct why *why) AMI_MUST_CHECK;

/* The device's role: "meter" or "dc". */
enum ami_status cli_role(const char *text, uint8_t *out, struct why *why) AMI_MUST_CHECK;
const char *cli_role_name(uint8_t role);

/* "2013-01-01T00:00:00Z", or a date alone for its midnight; UTC. */
enum ami_status cli_time(const char *text, int64_t *out_s, struct why *why) AMI_MUST_CHECK;
#define CLI_TIME_BYTES 32
void cli_time_text(char out[CLI_TIME_BYTES], int64_t s);

/* Prints one JSON document with a newline to stdout and releases it. NULL: out of memory. Returns
 * the exit status. */
int cli_print_json(json_t *document);

/* program_fail, with AMI_BAD_ARGUMENT as a usage mistake. Returns the exit status. */
int cli_fail(bool json, enum ami_status status, const struct why *why);

/* After the last output to stdout: AMI_IO when it did not all arrive (a full disk, a closed pipe).
 */
enum ami_status cli_stdout_done(struct why *why) AMI_MUST_CHECK;

extern const struct command_spec COMMAND_INIT, COMMAND_CODES, COMMAND_GENESIS, COMMAND_SERVE,
    COMMAND_REVOKE, COMMAND_MEMBER, COMMAND_RETAIN, COMMAND_READINGS, COMMAND_EXPORT,
    COMMAND_STATUS, COMMAND_PROOF, COMMAND_OPERATOR, COMMAND_CREDENTIAL;

#endif
