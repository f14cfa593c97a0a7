/* meter/main.c - ami-meter: one meter or a fleet of many thousands. */
#include "meter/cli.h"

#include "client/genesis.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct common_options cli_common;

enum ami_status cli_genesis(struct genesis **out, struct why *why)
{
    struct genesis *g = calloc(1, sizeof *g);
    if (g == NULL)
        return why_set(why, AMI_NO_MEMORY, "%s: %s", cli_common.genesis,
                       ami_status_text(AMI_NO_MEMORY));
    enum ami_status status = genesis_read(g, cli_common.genesis, false, why);
    if (status != AMI_OK) {
        free(g);
        return status;
    }
    *out = g;
    return AMI_OK;
}

enum ami_status cli_store(struct meter_store **out, enum meter_store_mode mode,
                          const struct genesis *g, struct why *why)
{
    return meter_store_open(out, cli_common.dir, mode, g == NULL ? NULL : &g->network.id,
                            g == NULL ? NULL : &g->members.chain,
                            (uint64_t)cli_common.map_mib << 20, why);
}

enum ami_status cli_id(struct ami_id *out, const char *text, struct why *why)
{
    if (ami_id_from_text(out, text) == AMI_OK)
        return AMI_OK;
    return why_set(why, AMI_BAD_ARGUMENT,
                   "\"%.60s\" is no meter id: 1 to %d letters, digits, '.', '_' or '-'", text,
                   AMI_ID_BYTES_MAX);
}

int cli_fail(enum ami_status status, const struct why *why)
{
    int code =
        program_fail(PROGRAM, false, status, why != NULL && why->text[0] != '\0' ? why : NULL);
    return status == AMI_BAD_ARGUMENT ? EXIT_STATUS_USAGE : code;
}

enum ami_status cli_stdout_done(struct why *why)
{
    if (fflush(stdout) == 0 && ferror(stdout) == 0)
        return AMI_OK;
    return why_set(why, why_status_of_errno(errno), "the output could not be written: %s",
                   strerror(errno));
}

/* LMDB reads its file as memory. Where the file was cut short there is none: the system says so
 * with this signal, and nothing but to end is left. */
static void on_bus_error(int number)
{
    static const char text[] =
        PROGRAM ": the file meters.mdb of the directory is damaged (cut short); restore it from a "
                "copy, or enrol the meters anew in another directory\n";
    (void)number;
    ssize_t written = write(STDERR_FILENO, text, sizeof text - 1);
    (void)written;
    _exit(EXIT_STATUS_FAILED);
}

int main(int argc, char **argv)
{
    const struct command_spec commands[] = {
        COMMAND_ENROL,  COMMAND_RUN,   COMMAND_FLEET, COMMAND_REPLAY, COMMAND_IDS, COMMAND_ROWS,
        COMMAND_EXPORT, COMMAND_PROOF, {0},
    };
    const struct program_spec program = {
        .name = PROGRAM,
        .summary = "meters that agree keys with the DCs and deliver their readings",
        .commands = commands,
    };
    struct sigaction action = {.sa_handler = on_bus_error};
    sigaction(SIGBUS, &action, NULL);
    enum ami_status status = crypto_start();
    if (status != AMI_OK) {
        struct why why = {""};
        (void)why_set(&why, status, "%s", crypto_start_why());
        return program_fail(PROGRAM, false, status, &why);
    }
    return program_main(&program, argc, argv, NULL);
}
