/* meter/cli.h - what the commands of ami-meter share.
 *
 *   main.c         the table of commands
 *   cmd_enrol.c    enrol: keys from the MDMS, for one device or thousands
 *   cmd_run.c      run, fleet, replay, ids, rows: meters that measure
 *   cmd_export.c   export: what was measured
 *   cmd_proof.c    proof: one report for its consumer
 */
#ifndef AMI_METER_CLI_H
#define AMI_METER_CLI_H

#include "ledger/genesis.h"
#include "meter/store.h"
#include "net/options.h"

#define PROGRAM "ami-meter"

/* Options that many commands have. */
struct common_options {
    const char *genesis;
    const char *dir;
    const char *id;
    int64_t map_mib; /* 0: METER_STORE_MAP_BYTES */
};
extern struct common_options cli_common;

#define CLI_OPTION_GENESIS                                                                         \
    {                                                                                              \
        .name = "genesis", .letter = 'g', .kind = OPTION_TEXT, .value = &cli_common.genesis,       \
        .argument = "FILE", .help = "the network's genesis file", .required = true                 \
    }
#define CLI_OPTION_DIR                                                                             \
    {                                                                                              \
        .name = "dir", .letter = 'd', .kind = OPTION_TEXT, .value = &cli_common.dir,               \
        .argument = "DIR", .help = "keys, outbox and archive of the meters", .required = true      \
    }
#define CLI_OPTION_MAP                                                                             \
    {                                                                                              \
        .name = "map-size", .kind = OPTION_INT, .value = &cli_common.map_mib, .min = 0,            \
        .max = 1 << 24, .argument = "MIB",                                                         \
        .help = "greatest size of the directory's file (default 65536)"                            \
    }

/* Reads the genesis file; the caller frees *out. */
enum ami_status cli_genesis(struct genesis **out, struct why *why) AMI_MUST_CHECK;
/* Opens --dir for this genesis (NULL: whatever it belongs to). */
enum ami_status cli_store(struct meter_store **out, enum meter_store_mode mode,
                          const struct genesis *g, struct why *why) AMI_MUST_CHECK;
enum ami_status cli_id(struct ami_id *out, const char *text, struct why *why) AMI_MUST_CHECK;
/* Prints the failure; returns the exit status. Wrong arguments are a usage mistake. */
int cli_fail(enum ami_status status, const struct why *why);
/* Whether all that went to stdout arrived: AMI_FULL, AMI_IO. */
enum ami_status cli_stdout_done(struct why *why) AMI_MUST_CHECK;

extern const struct command_spec COMMAND_ENROL, COMMAND_RUN, COMMAND_FLEET, COMMAND_REPLAY,
    COMMAND_IDS, COMMAND_ROWS, COMMAND_EXPORT, COMMAND_PROOF;

#endif
