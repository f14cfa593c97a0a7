/* sim/main.c - ami-sim: the deterministic simulator. */
#include "crypto/secret.h"
#include "sim/cli.h"

int main(int argc, char **argv)
{
    const struct command_spec commands[] = {
        sim_command_run, sim_command_hunt, sim_command_lab, sim_command_report, {0}};
    const struct program_spec program = {
        .name = PROGRAM,
        .summary = "whole networks on virtual time: faults, lies, and whether the rules hold",
        .commands = commands,
    };
    enum ami_status status = crypto_start();
    if (status != AMI_OK) {
        struct why why = {""};
        (void)why_set(&why, status, "%s", crypto_start_why());
        return program_fail(PROGRAM, false, status, &why);
    }
    return program_main(&program, argc, argv, NULL);
}
