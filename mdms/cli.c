/* mdms/cli.c - what the commands of ami-mdms share; see the header. */
#include "mdms/cli.h"

#include "client/genesis.h"
#include "net/file.h"
#include "net/loop.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define JSON_FILE_BYTES_MAX (1u << 20)
#define WAIT_POLL_US        100000

enum ami_status cli_network(const char *dir, struct network *out, struct why *why)
{
    char path[PATH_MAX], reason[WHY_BYTES_MAX];
    uint8_t *data;
    size_t size;
    AMI_TRY(path_join(path, sizeof path, dir, FILE_NETWORK, why));
    enum ami_status status = file_read(path, JSON_FILE_BYTES_MAX, &data, &size, why);
    if (status == AMI_NOT_FOUND)
        return why_set(why, status,
                       "%s: no such file; make the MDMS's directory with `ami-mdms init --dir DIR "
                       "--name NAME`",
                       path);
    AMI_TRY(status);
    status = network_parse(out, span_of(data, size), reason, sizeof reason);
    free(data);
    return status == AMI_OK ? AMI_OK : why_set(why, status, "%s: %s", path, reason);
}

/* --- the passphrase --------------------------------------------------------------------------- */

/* Takes the first line; the rest of the file means nothing. */
static enum ami_status passphrase_from_file(const char *file, char *out, struct why *why)
{
    uint8_t *data;
    size_t size;
    AMI_TRY(file_read(file, PASSPHRASE_BYTES_MAX, &data, &size, why));
    size_t line = strcspn((const char *)data, "\r\n");
    enum ami_status status = AMI_OK;
    if (line == 0 || line >= PASSPHRASE_BYTES_MAX)
        status = why_set(why, AMI_BAD_ARGUMENT, "%s: its first line holds no passphrase", file);
    else
        memcpy(out, data, line);
    out[status == AMI_OK ? line : 0] = '\0';
    secret_wipe(data, size);
    free(data);
    return status;
}

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    interrupted = number;
}

/* A line without echo. Ctrl-C ends the process, but not before the terminal shows again what is
 * typed. */
static bool read_unseen(const struct termios *old, char *out)
{
    struct termios quiet = *old;
    struct sigaction catch = {.sa_handler = on_interrupt}, before;
    quiet.c_lflag &= (tcflag_t)~ECHO;
    (void)sigaction(SIGINT, &catch, &before); /* without SA_RESTART: reading ends */
    (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
    bool read = fgets(out, PASSPHRASE_BYTES_MAX, stdin) != NULL;
    (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, old);
    (void)sigaction(SIGINT, &before, NULL);
    fputc('\n', stderr);
    if (interrupted != 0)
        (void)raise(SIGINT);
    return read;
}

static enum ami_status passphrase_typed(const char *prompt, char *out, struct why *why)
{
    struct termios old;
    if (tcgetattr(STDIN_FILENO, &old) != 0)
        return why_set(why, AMI_BAD_ARGUMENT,
                       "a passphrase is needed: give --passphrase-file FILE, or set "
                       "AMI_PASSPHRASE, or run this on a terminal");
    fprintf(stderr, "%s: ", prompt);
    bool read = read_unseen(&old, out);
    if (read)
        out[strcspn(out, "\r\n")] = '\0';
    if (!read || out[0] == '\0')
        return why_set(why, AMI_BAD_ARGUMENT, "no passphrase was typed");
    return AMI_OK;
}

enum ami_status cli_passphrase(const char *file, bool confirm, char *out, struct why *why)
{
    if (file != NULL)
        return passphrase_from_file(file, out, why);
    const char *set = getenv("AMI_PASSPHRASE");
    if (set != NULL) {
        size_t size = strlen(set);
        if (size == 0 || size >= PASSPHRASE_BYTES_MAX)
            return why_set(why, AMI_BAD_ARGUMENT, "AMI_PASSPHRASE is empty or too long");
        memcpy(out, set, size + 1);
        return AMI_OK;
    }
    AMI_TRY(passphrase_typed("Passphrase of the MDMS's keys", out, why));
    if (!confirm)
        return AMI_OK;
    char again[PASSPHRASE_BYTES_MAX];
    enum ami_status status = passphrase_typed("The same again", again, why);
    if (status == AMI_OK && strcmp(out, again) != 0)
        status = why_set(why, AMI_BAD_ARGUMENT, "the two passphrases differ");
    secret_wipe(again, sizeof again);
    return status;
}

enum ami_status cli_keys(const char *dir, const struct network *net, const char *passphrase,
                         struct mdms_keys *out, struct why *why)
{
    char path[PATH_MAX];
    uint8_t *data;
    size_t size;
    AMI_TRY(path_join(path, sizeof path, dir, FILE_KEYS, why));
    AMI_TRY(file_read(path, KEYFILE_BYTES_MAX, &data, &size, why));
    enum ami_status status = mdms_file_parse(out, net, span_of(data, size), passphrase);
    free(data);
    if (status == AMI_OK)
        return AMI_OK;
    if (status == AMI_FOREIGN_KEY)
        return why_set(why, status, "%s: the keys belong to another network than %s/%s", path, dir,
                       FILE_NETWORK);
    return why_set(why, status, "%s: %s", path, ami_status_text(status));
}

/* --- genesis ---------------------------------------------------------------------------------- */

enum ami_status cli_genesis(const char *path, const struct network *net, bool allow_single,
                            struct genesis *out, struct why *why)
{
    AMI_TRY(genesis_read(out, path, allow_single, why));
    if (!sm3_equal(&out->network.id, &net->id))
        return why_set(why, AMI_WRONG_CHAIN,
                       "%s: it is the genesis of the network \"%s\" with other keys than \"%s\" "
                       "in this directory",
                       path, out->network.name.text, net->name.text);
    return AMI_OK;
}

enum ami_status cli_genesis_path(const char *dir, const char *given, char *out, size_t size,
                                 struct why *why)
{
    if (given != NULL) {
        if (strlen(given) >= size)
            return why_set(why, AMI_TOO_LARGE, "%s: the path is too long", given);
        memcpy(out, given, strlen(given) + 1);
        return AMI_OK;
    }
    AMI_TRY(path_join(out, size, dir, FILE_GENESIS, why));
    if (access(out, F_OK) != 0)
        out[0] = '\0';
    return AMI_OK;
}

enum ami_status cli_wait(enum ami_status (*look)(void *ctx), void *ctx, int64_t wait_ms)
{
    const uint64_t end = clock_mono_us() + (uint64_t)wait_ms * 1000;
    enum ami_status status;
    while ((status = look(ctx)) == AMI_AGAIN && clock_mono_us() < end)
        usleep(WAIT_POLL_US);
    return status;
}

/* --- words ------------------------------------------------------------------------------------ */

enum ami_status cli_id(const char *text, struct ami_id *out, struct why *why)
{
    if (ami_id_from_text(out, text) == AMI_OK)
        return AMI_OK;
    return why_set(why, AMI_BAD_ARGUMENT,
                   "\"%s\" is no name: 1 to %d letters, digits, dots, hyphens or underscores are",
                   text, AMI_ID_BYTES_MAX);
}

enum ami_status cli_role(const char *text, uint8_t *out, struct why *why)
{
    if (strcmp(text, "meter") == 0)
        *out = DEVICE_METER;
    else if (strcmp(text, "dc") == 0)
        *out = DEVICE_DC;
    else
        return why_set(why, AMI_BAD_ARGUMENT, "the role \"%s\" is neither meter nor dc", text);
    return AMI_OK;
}

const char *cli_role_name(uint8_t role)
{
    return role == DEVICE_DC ? "dc" : "meter";
}

enum ami_status cli_time(const char *text, int64_t *out_s, struct why *why)
{
    struct tm tm;
    memset(&tm, 0, sizeof tm);
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    if (rest == NULL) {
        memset(&tm, 0, sizeof tm);
        rest = strptime(text, "%Y-%m-%d", &tm);
    }
    if (rest == NULL || *rest != '\0')
        return why_set(why, AMI_BAD_ARGUMENT,
                       "\"%s\" is no time: write 2013-01-01T00:00:00Z, or 2013-01-01", text);
    *out_s = (int64_t)timegm(&tm);
    return AMI_OK;
}

void cli_time_text(char out[CLI_TIME_BYTES], int64_t s)
{
    struct tm tm;
    time_t t = (time_t)s;
    if (gmtime_r(&t, &tm) == NULL ||
        snprintf(out, CLI_TIME_BYTES, "%04d-%02d-%02dT%02d:%02d:%02dZ", tm.tm_year + 1900,
                 tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec) >= CLI_TIME_BYTES)
        out[0] = '\0';
}

/* --- output ----------------------------------------------------------------------------------- */

int cli_fail(bool json, enum ami_status status, const struct why *why)
{
    int result = program_fail(PROGRAM, json, status, why);
    return status == AMI_BAD_ARGUMENT ? EXIT_STATUS_USAGE : result;
}

enum ami_status cli_stdout_done(struct why *why)
{
    if (fflush(stdout) == 0 && ferror(stdout) == 0)
        return AMI_OK;
    return why_set(why, AMI_IO, "standard output: %s", strerror(errno));
}

int cli_print_json(json_t *document)
{
    struct why why = {0};
    enum ami_status status = AMI_NO_MEMORY;
    if (document != NULL && json_dumpf(document, stdout, JSON_COMPACT) == 0) {
        fputc('\n', stdout);
        status = cli_stdout_done(&why);
    }
    json_decref(document);
    return status == AMI_OK ? EXIT_STATUS_OK : program_fail(PROGRAM, false, status, &why);
}
