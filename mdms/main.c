/* mdms/main.c - ami-mdms: issues key material, follows the ledger, keeps the readings. */
#include "mdms/cli.h"

int main(int argc, char **argv)
{
    const struct command_spec commands[] = {
        COMMAND_INIT,     COMMAND_CODES,
        COMMAND_GENESIS,  COMMAND_SERVE,
        COMMAND_REVOKE,   COMMAND_MEMBER,
        COMMAND_OPERATOR, COMMAND_CREDENTIAL,
        COMMAND_RETAIN,   COMMAND_STATUS,
        COMMAND_READINGS, COMMAND_EXPORT,
        COMMAND_PROOF,    {0},
    };
    const struct program_spec program = {
        .name = PROGRAM,
        .summary = "the utility's end of the network: keys for devices, readings from the ledger",
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
