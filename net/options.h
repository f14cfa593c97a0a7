/* net/options.h - command lines: subcommands in the manner of git, options from a table.
 *
 * A program states its commands and options as tables; this file parses argv into the variables
 * that the tables point to, prints --help (with an example) and --version, and turns every
 * mistake into one sentence on stderr and exit status 2. Options may stand before, between or
 * behind the arguments; "--" ends them. It also holds the conventions that all programs share: exit
 * statuses and how an error is printed.
 */
#ifndef AMI_NET_OPTIONS_H
#define AMI_NET_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "net/why.h"

/* Exit statuses of every program (experience.md). */
enum exit_status {
    EXIT_STATUS_OK = 0,
    EXIT_STATUS_FAILED = 1, /* a check failed, or any error that is none of the others */
    EXIT_STATUS_USAGE = 2,
    EXIT_STATUS_UNREACHABLE = 3
};

#define OPTION_LIST_MAX 64

/* The values of a repeated option; they point into argv (or, from net/config.h, into fresh memory
 * that lives as long as the process). */
struct text_list {
    const char *items[OPTION_LIST_MAX];
    size_t count;
};

enum option_kind {
    OPTION_FLAG,     /* bool *: set to true */
    OPTION_TEXT,     /* const char **: points into argv */
    OPTION_INT,      /* int64_t *: within [min, max] */
    OPTION_REAL,     /* double *: within [min, max] */
    OPTION_DURATION, /* int64_t *: milliseconds within [min, max]; "250ms", "30s", "5m", "2h", "1d"
                      */
    OPTION_LIST      /* struct text_list *: once per value */
};

struct option_spec {
    const char *name; /* "node"; the table ends with a NULL name */
    char letter;      /* 'n', or 0 */
    enum option_kind kind;
    void *value;          /* holds the default when nothing is given */
    int64_t min, max;     /* for INT, REAL and DURATION; both 0: no bounds */
    const char *argument; /* "URL", for the help; NULL for a flag */
    const char *help;     /* a phrase; tell the default there */
    bool required;
};

struct command_spec {
    const char *name;      /* "blocks"; NULL ends the table */
    const char *arguments; /* "DIR..." for the help; NULL none */
    int arguments_min, arguments_max;
    const char *summary;               /* one line */
    const char *example;               /* one or more full command lines, separated by newlines */
    const struct option_spec *options; /* may be NULL */
    /* The work. argv[0..argc) are the arguments that are no options. Returns the exit status. */
    int (*run)(int argc, char **argv, void *ctx);
};

struct program_spec {
    const char *name;    /* "dc-cli" */
    const char *summary; /* one line */
    /* Either commands, or single (a program without subcommands). */
    const struct command_spec *commands;
    const struct command_spec *single;
    const struct option_spec *common; /* options of every command, such as --json; may be NULL */
};

/* Parses and runs: the whole of main. Returns the exit status of the command, EXIT_STATUS_OK for
 * --help and --version, EXIT_STATUS_USAGE for a mistake. */
int program_main(const struct program_spec *program, int argc, char **argv, void *ctx);

/* The same without running anything, for tests: the command chosen and its arguments. AMI_NOT_FOUND
 * when help or the version was asked for (written to `out`), AMI_BAD_ARGUMENT with `why`. */
enum ami_status program_parse(const struct program_spec *program, int argc, char **argv, FILE *out,
                              const struct command_spec **command, int *argument_count,
                              char ***arguments, struct why *why) AMI_MUST_CHECK;

/* "30s" to 30000. AMI_BAD_ARGUMENT, *out untouched. A bare number is refused except 0. */
enum ami_status duration_parse(const char *text, int64_t *out_ms) AMI_MUST_CHECK;

/* Whole decimal number, no space, no trailing text. AMI_BAD_ARGUMENT, *out untouched. */
enum ami_status integer_parse(const char *text, int64_t *out) AMI_MUST_CHECK;

/* Prints "dc-cli: SENTENCE\n" to stderr, where the sentence is `why` when there is one and the
 * status's own text otherwise; with json, {"ok":false,"status":NAME,"error":SENTENCE} to stdout.
 * Returns the exit status that belongs to the status. */
int program_fail(const char *program, bool json, enum ami_status status, const struct why *why);

/* EXIT_STATUS_OK, _UNREACHABLE for UNREACHABLE, TIMEOUT and CLOSED, else _FAILED. */
int exit_status_of(enum ami_status status);

#endif
