/* sim/lab/cmd_lab.c - `ami-sim lab NAME`: experiments from the command line. */
#include "sim/cli.h"
#include "sim/lab/output.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static int64_t seed = 1;
static const char *scheme_name, *out_dir;
static bool as_json, list_items, fast_only, tiny, large;

static const struct option_spec options[] = {
    {.name = "seed",
     .letter = 's',
     .kind = OPTION_INT,
     .value = &seed,
     .min = 0,
     .max = INT64_MAX,
     .argument = "N",
     .help = "everything that chance decides follows from it (default 1)"},
    {.name = "scheme",
     .kind = OPTION_TEXT,
     .value = &scheme_name,
     .argument = "NAME",
     .help = "this key-agreement scheme only (default: all there are)"},
    {.name = "out",
     .letter = 'o',
     .kind = OPTION_TEXT,
     .value = &out_dir,
     .argument = "DIR",
     .help = "writes NAME.json and a CSV file for each table there, too; made when needed"},
    {.name = "list",
     .kind = OPTION_FLAG,
     .value = &list_items,
     .help = "the experiments, or what NAME is made of, one a line"},
    {.name = "fast",
     .kind = OPTION_FLAG,
     .value = &fast_only,
     .help = "with all: leaves out what takes minutes"},
    {.name = "tiny",
     .kind = OPTION_FLAG,
     .value = &tiny,
     .help = "as little as shows that it works; its figures say nothing"},
    {.name = "large",
     .kind = OPTION_FLAG,
     .value = &large,
     .help = "scale: up to a million meters (20 minutes, 12 GB) and 1,023 DCs"},
    {.name = "json", .kind = OPTION_FLAG, .value = &as_json, .help = "one JSON document"},
    {0}};

static int usage(const struct why *why)
{
    (void)program_fail(PROGRAM, as_json, AMI_BAD_ARGUMENT, why);
    return EXIT_STATUS_USAGE;
}

static int run_one(const struct lab_experiment *e, const struct lab_options *o)
{
    struct why why = {""};
    enum ami_status status;
    struct lab_output *out = lab_output_of(e, o, &status, &why);
    if (out != NULL && o->out != NULL)
        status = lab_output_write(out, o->out, e->name, &why);
    if (status == AMI_BAD_ARGUMENT)
        return usage(&why);
    int exit_status = EXIT_STATUS_FAILED;
    if (status != AMI_OK) {
        exit_status = program_fail(PROGRAM, as_json, status, &why);
    } else {
        exit_status = lab_output_failed(out) ? EXIT_STATUS_FAILED : EXIT_STATUS_OK;
        if (o->json)
            exit_status = cli_print_json(json_incref(lab_output_json(out)), exit_status);
        else
            lab_output_print(out, stdout);
    }
    if (out != NULL)
        lab_output_free(out);
    return exit_status;
}

/* One after another, each with its own files and its own text; with --json an array. */
static int run_all(const struct lab_options *o)
{
    int worst = EXIT_STATUS_OK;
    bool first = true;
    if (o->json)
        puts("[");
    for (size_t i = 0; lab_experiment_at(i) != NULL; i++) {
        const struct lab_experiment *e = lab_experiment_at(i);
        if (fast_only && e->slow)
            continue;
        if (!first)
            puts(o->json ? "," : "");
        first = false;
        if (!o->json)
            printf("== %s: %s\n\n", e->name, e->summary);
        int status = run_one(e, o);
        worst = status > worst ? status : worst;
        fflush(stdout);
    }
    if (o->json)
        puts("]");
    return worst;
}

static int list_all(void)
{
    for (size_t i = 0; lab_experiment_at(i) != NULL; i++)
        printf("%-12s %s%s\n", lab_experiment_at(i)->name, lab_experiment_at(i)->summary,
               lab_experiment_at(i)->slow ? " (takes minutes)" : "");
    return EXIT_STATUS_OK;
}

static int run(int argc, char **argv, void *ctx)
{
    struct why why = {""};
    struct lab_options o = {
        .seed = (uint64_t)seed, .json = as_json, .tiny = tiny, .large = large, .out = out_dir};
    (void)ctx;
    if (argc == 0 && list_items)
        return list_all();
    if (argc == 0) {
        (void)why_set(
            &why, AMI_BAD_ARGUMENT,
            "which experiment? `ami-sim lab --list` has their names; `all` runs them all");
        return usage(&why);
    }
    if (scheme_name != NULL) {
        o.scheme = lab_scheme_find(scheme_name);
        if (o.scheme == NULL) {
            (void)why_set(&why, AMI_BAD_ARGUMENT, "there is no scheme '%.40s'", scheme_name);
            return usage(&why);
        }
    }
    if (out_dir != NULL && mkdir(out_dir, 0777) != 0 && errno != EEXIST) {
        enum ami_status status = why_set(&why, why_status_of_errno(errno), "%s cannot be made: %s",
                                         out_dir, strerror(errno));
        return program_fail(PROGRAM, as_json, status, &why);
    }
    o.item = argv + 1;
    o.items = (size_t)argc - 1;
    if (strcmp(argv[0], "all") == 0 && argc == 1)
        return run_all(&o);
    const struct lab_experiment *e = lab_experiment_find(argv[0]);
    if (e == NULL) {
        (void)why_set(&why, AMI_BAD_ARGUMENT,
                      "'%.40s' is no experiment; `ami-sim lab --list` has their names", argv[0]);
        return usage(&why);
    }
    if (e->list == NULL && (o.items != 0 || list_items)) {
        (void)why_set(&why, AMI_BAD_ARGUMENT, "%s takes no further names", e->name);
        return usage(&why);
    }
    if (list_items) {
        e->list(&o, stdout);
        return EXIT_STATUS_OK;
    }
    return run_one(e, &o);
}

const struct command_spec sim_command_lab = {
    .name = "lab",
    .arguments = "NAME [ITEM...]",
    .arguments_max = 256,
    .summary = "experiments: attacks that run, the paper's tables measured (--list)",
    .example = "ami-sim lab attacks --scheme liu2023\nami-sim lab all --out results",
    .options = options,
    .run = run};
