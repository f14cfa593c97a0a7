#include "net/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/check.h"

#define OPTIONS_MAX 64 /* of one command with the common ones */
/* getopt_long returns these for options without a letter; above every character. */
#define LONG_FIRST   1000
#define LONG_HELP    500
#define LONG_VERSION 501

/* --- values ---------------------------------------------------------------------------------- */

enum ami_status integer_parse(const char *text, int64_t *out)
{
    const char *digits = text[0] == '-' ? text + 1 : text;
    if (digits[0] < '0' || digits[0] > '9')
        return AMI_BAD_ARGUMENT;
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno != 0 || *end != 0)
        return AMI_BAD_ARGUMENT;
    *out = value;
    return AMI_OK;
}

enum ami_status duration_parse(const char *text, int64_t *out_ms)
{
    static const struct {
        const char *unit;
        int64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    if (strcmp(text, "0") == 0) {
        *out_ms = 0;
        return AMI_OK;
    }
    if (text[0] < '0' || text[0] > '9')
        return AMI_BAD_ARGUMENT;
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno != 0)
        return AMI_BAD_ARGUMENT;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        int64_t ms;
        if (strcmp(end, units[i].unit) == 0) {
            if (__builtin_mul_overflow((int64_t)value, units[i].ms, &ms))
                return AMI_BAD_ARGUMENT;
            *out_ms = ms;
            return AMI_OK;
        }
    }
    return AMI_BAD_ARGUMENT;
}

static enum ami_status real_parse(const char *text, double *out)
{
    /* A number starts with a digit or a point: no space, no "inf", no "nan". */
    const char *first = text[0] == '-' ? text + 1 : text;
    if ((first[0] < '0' || first[0] > '9') && first[0] != '.')
        return AMI_BAD_ARGUMENT;
    char *end;
    errno = 0;
    double value = strtod(text, &end);
    if (errno != 0 || end == text || *end != 0)
        return AMI_BAD_ARGUMENT;
    *out = value;
    return AMI_OK;
}

/* "30000 ms" as a person would write it. */
static void duration_text(char out[32], int64_t ms)
{
    if (ms % 86400000 == 0 && ms != 0)
        snprintf(out, 32, "%lldd", (long long)(ms / 86400000));
    else if (ms % 3600000 == 0 && ms != 0)
        snprintf(out, 32, "%lldh", (long long)(ms / 3600000));
    else if (ms % 60000 == 0 && ms != 0)
        snprintf(out, 32, "%lldm", (long long)(ms / 60000));
    else if (ms % 1000 == 0)
        snprintf(out, 32, "%llds", (long long)(ms / 1000));
    else
        snprintf(out, 32, "%lldms", (long long)ms);
}

static enum ami_status set_number(const struct option_spec *o, const char *text, struct why *why)
{
    bool bounded = o->min != 0 || o->max != 0;
    int64_t number = 0;
    double real = 0;
    if (o->kind == OPTION_REAL) {
        if (real_parse(text, &real) != AMI_OK)
            return why_set(why, AMI_BAD_ARGUMENT, "--%s expects a number, not \"%s\"", o->name,
                           text);
        if (bounded && (real < (double)o->min || real > (double)o->max))
            return why_set(why, AMI_BAD_ARGUMENT, "--%s expects a number from %lld to %lld, not %s",
                           o->name, (long long)o->min, (long long)o->max, text);
        *(double *)o->value = real;
        return AMI_OK;
    }
    if (o->kind == OPTION_INT) {
        if (integer_parse(text, &number) != AMI_OK)
            return why_set(why, AMI_BAD_ARGUMENT, "--%s expects a whole number, not \"%s\"",
                           o->name, text);
        if (bounded && (number < o->min || number > o->max))
            return why_set(why, AMI_BAD_ARGUMENT, "--%s expects a number from %lld to %lld, not %s",
                           o->name, (long long)o->min, (long long)o->max, text);
    } else {
        if (duration_parse(text, &number) != AMI_OK)
            return why_set(why, AMI_BAD_ARGUMENT,
                           "--%s expects a duration such as 250ms, 30s, 5m, 2h or 1d, not \"%s\"",
                           o->name, text);
        if (bounded && (number < o->min || number > o->max)) {
            char least[32], most[32];
            duration_text(least, o->min);
            duration_text(most, o->max);
            return why_set(why, AMI_BAD_ARGUMENT, "--%s expects a duration from %s to %s, not %s",
                           o->name, least, most, text);
        }
    }
    *(int64_t *)o->value = number;
    return AMI_OK;
}

static enum ami_status set_value(const struct option_spec *o, const char *text, struct why *why)
{
    switch (o->kind) {
    case OPTION_FLAG:
        *(bool *)o->value = true;
        return AMI_OK;
    case OPTION_TEXT:
        *(const char **)o->value = text;
        return AMI_OK;
    case OPTION_LIST: {
        struct text_list *list = (struct text_list *)o->value;
        if (list->count == OPTION_LIST_MAX)
            return why_set(why, AMI_BAD_ARGUMENT, "--%s is given more than %d times", o->name,
                           OPTION_LIST_MAX);
        list->items[list->count++] = text;
        return AMI_OK;
    }
    case OPTION_INT:
    case OPTION_REAL:
    case OPTION_DURATION:
        return set_number(o, text, why);
    }
    AMI_CHECK(false);
    return AMI_BAD_ARGUMENT;
}

/* --- help ------------------------------------------------------------------------------------ */

static void help_option(FILE *out, const struct option_spec *o)
{
    char left[64];
    if (o->letter != 0)
        snprintf(left, sizeof left, "-%c, --%s%s%s", o->letter, o->name,
                 o->argument == NULL ? "" : " ", o->argument == NULL ? "" : o->argument);
    else
        snprintf(left, sizeof left, "    --%s%s%s", o->name, o->argument == NULL ? "" : " ",
                 o->argument == NULL ? "" : o->argument);
    const char *note = o->required ? " (required)" : o->kind == OPTION_LIST ? " (repeatable)" : "";
    fprintf(out, "  %-28s %s%s\n", left, o->help, note);
}

static void help_command(FILE *out, const struct program_spec *program,
                         const struct command_spec *command)
{
    bool single = command == program->single;
    fprintf(out, "Usage: %s%s%s [OPTIONS]%s%s\n\n%s\n\nOptions:\n", program->name,
            single ? "" : " ", single ? "" : command->name, command->arguments == NULL ? "" : " ",
            command->arguments == NULL ? "" : command->arguments, command->summary);
    for (const struct option_spec *o = command->options; o != NULL && o->name != NULL; o++)
        help_option(out, o);
    for (const struct option_spec *o = program->common; o != NULL && o->name != NULL; o++)
        help_option(out, o);
    fprintf(out, "  %-28s %s\n", "-h, --help", "this text");
    if (command->example == NULL)
        return;
    fputs("\nExample:\n", out);
    for (const char *line = command->example; *line != 0;) {
        size_t size = strcspn(line, "\n");
        fprintf(out, "  %.*s\n", (int)size, line);
        line += size + (line[size] == '\n');
    }
}

static void help_program(FILE *out, const struct program_spec *program)
{
    if (program->single != NULL) {
        help_command(out, program, program->single);
        return;
    }
    fprintf(out, "Usage: %s COMMAND [OPTIONS]\n\n%s\n\nCommands:\n", program->name,
            program->summary);
    for (const struct command_spec *c = program->commands; c->name != NULL; c++)
        fprintf(out, "  %-16s %s\n", c->name, c->summary);
    fprintf(out, "\n\"%s COMMAND --help\" tells the options of a command, with an example.\n",
            program->name);
}

/* --- parsing --------------------------------------------------------------------------------- */

/* One command's options in the two shapes that are needed: ours and getopt_long's. */
struct option_set {
    const struct option_spec *spec[OPTIONS_MAX];
    bool given[OPTIONS_MAX];
    size_t count;
    struct option getopt[OPTIONS_MAX + 3];
    char letters[3 * OPTIONS_MAX + 8];
};

static void set_add(struct option_set *set, const struct option_spec *table)
{
    for (const struct option_spec *o = table; o != NULL && o->name != NULL; o++) {
        AMI_CHECK(set->count < OPTIONS_MAX);
        size_t i = set->count++;
        set->spec[i] = o;
        set->getopt[i] =
            (struct option){.name = o->name,
                            .has_arg = o->kind == OPTION_FLAG ? no_argument : required_argument,
                            .val = LONG_FIRST + (int)i};
        if (o->letter != 0) {
            size_t at = strlen(set->letters);
            set->letters[at] = o->letter;
            set->letters[at + 1] = o->kind == OPTION_FLAG ? 0 : ':';
            set->letters[at + 2] = 0;
        }
    }
}

static void set_build(struct option_set *set, const struct program_spec *program,
                      const struct command_spec *command)
{
    memset(set, 0, sizeof *set);
    /* ':' in front: a missing value is told apart from an unknown option. */
    snprintf(set->letters, sizeof set->letters, ":h");
    set_add(set, command->options);
    set_add(set, program->common);
    set->getopt[set->count] = (struct option){.name = "help", .val = LONG_HELP};
    set->getopt[set->count + 1] = (struct option){.name = "version", .val = LONG_VERSION};
}

static size_t set_find(const struct option_set *set, int code)
{
    for (size_t i = 0; i < set->count; i++)
        if (code == LONG_FIRST + (int)i || (code > 0 && code == set->spec[i]->letter))
            return i;
    return set->count;
}

/* argv as getopt_long sees it begins with a word in front of the options: argv[0]. */
static enum ami_status parse_options(const struct program_spec *program,
                                     const struct command_spec *command, int argc, char **argv,
                                     FILE *out, struct option_set *set, struct why *why)
{
    set_build(set, program, command);
    optind = 0; /* glibc: start afresh, also forget a half-read word */
    opterr = 0;
    int code;
    while ((code = getopt_long(argc, argv, set->letters, set->getopt, NULL)) != -1) {
        if (code == 'h' || code == LONG_HELP) {
            help_command(out, program, command);
            return AMI_NOT_FOUND;
        }
        if (code == LONG_VERSION) {
            fprintf(out, "%s %s\n", program->name, AMI_VERSION);
            return AMI_NOT_FOUND;
        }
        if (code == ':' || code == '?') {
            size_t i = set_find(set, optopt);
            const char *word = argv[optind - 1];
            if (code == ':' && i < set->count)
                return why_set(why, AMI_BAD_ARGUMENT, "--%s expects a value (%s)",
                               set->spec[i]->name,
                               set->spec[i]->argument == NULL ? "VALUE" : set->spec[i]->argument);
            if (i < set->count)
                return why_set(why, AMI_BAD_ARGUMENT, "--%s takes no value", set->spec[i]->name);
            if (optopt > 0 && optopt < 256)
                return why_set(why, AMI_BAD_ARGUMENT, "there is no option -%c", optopt);
            return why_set(why, AMI_BAD_ARGUMENT, "there is no option \"%.*s\"",
                           (int)strcspn(word, "="), word);
        }
        size_t i = set_find(set, code);
        AMI_CHECK(i < set->count);
        const struct option_spec *o = set->spec[i];
        if (set->given[i] && o->kind != OPTION_LIST && o->kind != OPTION_FLAG)
            return why_set(why, AMI_BAD_ARGUMENT, "--%s is given twice", o->name);
        set->given[i] = true;
        AMI_TRY(set_value(o, optarg, why));
    }
    for (size_t i = 0; i < set->count; i++)
        if (set->spec[i]->required && !set->given[i])
            return why_set(why, AMI_BAD_ARGUMENT, "--%s is missing", set->spec[i]->name);
    return AMI_OK;
}

/* Finds the command's word: the first one, options of a command stand behind it. */
static enum ami_status choose_command(const struct program_spec *program, int argc, char **argv,
                                      FILE *out, const struct command_spec **command,
                                      struct why *why)
{
    if (program->single != NULL) {
        *command = program->single;
        return AMI_OK;
    }
    if (argc < 2)
        return why_set(why, AMI_BAD_ARGUMENT, "a command is missing");
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        help_program(out, program);
        return AMI_NOT_FOUND;
    }
    if (strcmp(argv[1], "--version") == 0) {
        fprintf(out, "%s %s\n", program->name, AMI_VERSION);
        return AMI_NOT_FOUND;
    }
    if (argv[1][0] == '-')
        return why_set(why, AMI_BAD_ARGUMENT, "a command is missing before the option \"%s\"",
                       argv[1]);
    for (const struct command_spec *c = program->commands; c->name != NULL; c++) {
        if (strcmp(argv[1], c->name) == 0) {
            *command = c;
            return AMI_OK;
        }
    }
    return why_set(why, AMI_BAD_ARGUMENT, "there is no command \"%s\"", argv[1]);
}

enum ami_status program_parse(const struct program_spec *program, int argc, char **argv, FILE *out,
                              const struct command_spec **command, int *argument_count,
                              char ***arguments, struct why *why)
{
    AMI_CHECK((program->commands == NULL) != (program->single == NULL));
    const struct command_spec *c = NULL;
    AMI_TRY(choose_command(program, argc, argv, out, &c, why));
    int skip = program->single != NULL ? 0 : 1;
    struct option_set set;
    AMI_TRY(parse_options(program, c, argc - skip, argv + skip, out, &set, why));
    int count = argc - skip - optind;
    char **rest = argv + skip + optind;
    if (count < c->arguments_min)
        return why_set(why, AMI_BAD_ARGUMENT, "%s is missing",
                       c->arguments == NULL ? "an argument" : c->arguments);
    if (count > c->arguments_max)
        return why_set(why, AMI_BAD_ARGUMENT, "\"%s\" is one argument too many",
                       rest[c->arguments_max]);
    *command = c;
    *argument_count = count;
    *arguments = rest;
    return AMI_OK;
}

int program_main(const struct program_spec *program, int argc, char **argv, void *ctx)
{
    const struct command_spec *command = NULL;
    int count = 0;
    char **arguments = NULL;
    struct why why = {0};
    /* Every program holds keys, codes or readings in memory: a crash writes none of it to a file.
     * When the system refuses it is as it was before. */
    const struct rlimit no_core = {0, 0};
    (void)setrlimit(RLIMIT_CORE, &no_core);
    switch (program_parse(program, argc, argv, stdout, &command, &count, &arguments, &why)) {
    case AMI_OK:
        return command->run(count, arguments, ctx);
    case AMI_NOT_FOUND:
        return EXIT_STATUS_OK;
    default:
        break;
    }
    const char *word = "";
    for (const struct command_spec *c = program->commands; c != NULL && c->name != NULL; c++)
        if (argc > 1 && strcmp(argv[1], c->name) == 0)
            word = c->name;
    fprintf(stderr, "%s: %s; see \"%s%s%s --help\"\n", program->name, why.text, program->name,
            word[0] == 0 ? "" : " ", word);
    return EXIT_STATUS_USAGE;
}

/* --- errors ---------------------------------------------------------------------------------- */

int exit_status_of(enum ami_status status)
{
    switch (status) {
    case AMI_OK:
        return EXIT_STATUS_OK;
    case AMI_UNREACHABLE:
    case AMI_TIMEOUT:
    case AMI_CLOSED:
        return EXIT_STATUS_UNREACHABLE;
    default:
        return EXIT_STATUS_FAILED;
    }
}

/* A JSON string. Bytes above 0x7f pass as they are: paths and names are UTF-8 here. */
static void json_text(FILE *out, const char *text)
{
    fputc('"', out);
    for (const char *at = text; *at != 0; at++) {
        if (*at == '"' || *at == '\\')
            fprintf(out, "\\%c", *at);
        else if ((unsigned char)*at < 0x20)
            fprintf(out, "\\u%04x", (unsigned)*at);
        else
            fputc(*at, out);
    }
    fputc('"', out);
}

int program_fail(const char *program, bool json, enum ami_status status, const struct why *why)
{
    AMI_CHECK(status != AMI_OK);
    const char *sentence = ami_status_text(status);
    if (why != NULL && why->text[0] != 0)
        sentence = why->text;
    if (json) {
        printf("{\"ok\":false,\"status\":\"%s\",\"error\":", ami_status_name(status));
        json_text(stdout, sentence);
        puts("}");
    } else {
        fprintf(stderr, "%s: %s\n", program, sentence);
    }
    return exit_status_of(status);
}
