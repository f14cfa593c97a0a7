/* sim/cli.h - what the commands of ami-sim share. */
#ifndef AMI_SIM_CLI_H
#define AMI_SIM_CLI_H

#include "net/options.h"
#include "sim/hunt.h"

#include <jansson.h>

#define PROGRAM "ami-sim"

/* --rule-off. AMI_BAD_ARGUMENT, with the names there are. */
enum ami_status cli_rule(const char *name, const struct sim_rule **out,
                         struct why *why) AMI_MUST_CHECK;
/* A count by name for each kind; a run in which none happened says 0. */
json_t *cli_faults(const struct sim_counters *c);
json_t *cli_mischief(const struct sim_counters *c);
json_t *cli_changes(const struct sim_counters *c);
json_t *cli_rare(const struct sim_counters *c);
/* The same as a table for people. */
void cli_print_counters(FILE *to, const struct sim_counters *c);
/* Prints a document to stdout and frees it. Returns the exit status. */
int cli_print_json(json_t *document, int status);

extern const struct command_spec sim_command_run, sim_command_hunt, sim_command_lab,
    sim_command_report;

#endif
