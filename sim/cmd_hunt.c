/* sim/cmd_hunt.c - `ami-sim hunt`: many seeds, and what they found. */
#include "sim/cli.h"
#include "sim/lab/remember.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *seeds_text, *rule_name, *shape_name, *resume;
static int64_t nodes, byzantine = -1, jobs;
static bool as_json, list_rules, list_invariants, keep_going;

static const struct option_spec options[] = {
    {.name = "seeds",
     .letter = 's',
     .kind = OPTION_TEXT,
     .value = &seeds_text,
     .argument = "A..B",
     .help = "the seeds, both ends run (default 1..1000)"},
    {.name = "nodes",
     .letter = 'n',
     .kind = OPTION_INT,
     .value = &nodes,
     .min = AMI_MEMBERS_MIN,
     .max = AMI_MEMBERS_MAX,
     .argument = "N",
     .help = "DCs (default: each seed draws from 4, 5, 7, 10)"},
    {.name = "byzantine",
     .letter = 'b',
     .kind = OPTION_INT,
     .value = &byzantine,
     .min = 0,
     .max = AMI_MEMBERS_MAX,
     .argument = "K",
     .help = "how many of them lie (default: each seed draws at most f)"},
    {.name = "jobs",
     .letter = 'j',
     .kind = OPTION_INT,
     .value = &jobs,
     .min = 1,
     .max = 64,
     .argument = "J",
     .help = "processes (default: one a processor)"},
    {.name = "rule-off",
     .kind = OPTION_TEXT,
     .value = &rule_name,
     .argument = "NAME",
     .help = "one rule less: expects a violation and stops at the first"},
    {.name = "shape",
     .kind = OPTION_TEXT,
     .value = &shape_name,
     .argument = "NAME",
     .help = "the troubles that --rule-off NAME makes, with the rule on"},
    {.name = "keep-going",
     .kind = OPTION_FLAG,
     .value = &keep_going,
     .help = "with --rule-off: runs all seeds"},
    {.name = "resume",
     .kind = OPTION_TEXT,
     .value = &resume,
     .argument = "FILE",
     .help = "notes there how far it came, and goes on from there"},
    {.name = "list-rules",
     .kind = OPTION_FLAG,
     .value = &list_rules,
     .help = "prints the rules that can be switched off, one a line"},
    {.name = "list-invariants",
     .kind = OPTION_FLAG,
     .value = &list_invariants,
     .help = "prints what is checked"},
    {.name = "json", .kind = OPTION_FLAG, .value = &as_json, .help = "one JSON document"},
    {0}};

static int usage(const char *sentence)
{
    struct why why;
    snprintf(why.text, sizeof why.text, "%s", sentence);
    (void)program_fail(PROGRAM, as_json, AMI_BAD_ARGUMENT, &why);
    return EXIT_STATUS_USAGE;
}

static bool parse_seeds(const char *text, uint64_t *first, uint64_t *last)
{
    char head[32];
    const char *dots = strstr(text, "..");
    int64_t a, b;
    if (dots == NULL || (size_t)(dots - text) >= sizeof head)
        return false;
    memcpy(head, text, (size_t)(dots - text));
    head[dots - text] = 0;
    if (integer_parse(head, &a) != AMI_OK || integer_parse(dots + 2, &b) != AMI_OK || a < 0 ||
        b < a || b - a > 1000000000)
        return false;
    *first = (uint64_t)a;
    *last = (uint64_t)b;
    return true;
}

/* --- output ---------------------------------------------------------------------------------- */

static void mischief_left_out(const struct sim_hunt *h, const struct sim_found *f, char *out,
                              size_t size)
{
    struct sim_plan plan;
    sim_hunt_plan(h, f->seed, &plan);
    out[0] = 0;
    for (int k = 0; k < SIM_MISCHIEF_KINDS; k++) {
        if (plan.mischief[k] == 0 || (f->mischief_needed >> k & 1) != 0)
            continue;
        size_t n = strlen(out);
        snprintf(out + n, size - n, "%s%s", n == 0 ? " --without " : ",",
                 sim_mischief_name((enum sim_mischief_kind)k));
    }
}

/* The command that shows it again. */
static void command_of(const struct sim_hunt *h, const struct sim_found *f, char *out, size_t size)
{
    char left_out[256];
    mischief_left_out(h, f, left_out, sizeof left_out);
    int n = snprintf(out, size, "ami-sim run --seed %" PRIu64 " --faults %" PRIu64 "%s", f->seed,
                     f->faults_needed, left_out);
    if (h->dcs != 0)
        n += snprintf(out + n, size - (size_t)n, " --nodes %u", h->dcs);
    if (h->byzantine != SIM_PLAN_ANY)
        n += snprintf(out + n, size - (size_t)n, " --byzantine %u", h->byzantine);
    if (h->rule_off != NULL)
        snprintf(out + n, size - (size_t)n, " --rule-off %s", h->rule_off->name);
    else if (h->shape != NULL)
        snprintf(out + n, size - (size_t)n, " --shape %s", h->shape->name);
}

static void print_found(const struct sim_hunt *h, const struct sim_found *f)
{
    char command[600];
    command_of(h, f, command, sizeof command);
    printf("seed %" PRIu64 ": %s\n", f->seed, f->violation);
    printf("  at %.6f s, event %" PRIu64 ", with the first %" PRIu64 " of %" PRIu64 " faults\n",
           (double)f->end_us / 1e6, f->events, f->faults_needed, f->faults_used);
    printf("  again: %s --trace\n", command);
}

static int print_json(const struct sim_hunt *h, int status)
{
    json_t *found = json_array();
    for (size_t i = 0; i < h->found_count; i++) {
        const struct sim_found *f = &h->found[i];
        char command[600], invariant[32];
        command_of(h, f, command, sizeof command);
        snprintf(invariant, sizeof invariant, "%.*s", (int)strcspn(f->violation, ":"),
                 f->violation);
        json_array_append_new(
            found, json_pack("{s:I, s:s, s:s, s:I, s:f, s:I, s:I, s:s}", "seed",
                             (json_int_t)f->seed, "invariant", invariant, "what", f->violation,
                             "event", (json_int_t)f->events, "virtual_seconds",
                             (double)f->end_us / 1e6, "faults_needed", (json_int_t)f->faults_needed,
                             "faults", (json_int_t)f->faults_used, "command", command));
    }
    json_t *o = json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:I, s:I, s:f, s:f, s:b, s:s}", "first_seed",
        (json_int_t)h->first, "last_seed", (json_int_t)h->last, "seeds", (json_int_t)h->seeds,
        "violations", (json_int_t)h->violations, "commits", (json_int_t)h->count.commits,
        "elections", (json_int_t)h->count.elections, "virtual_seconds", h->virtual_s,
        "wall_seconds", h->wall_s, "reports_made", (json_int_t)h->count.reports_made,
        "reports_acknowledged", (json_int_t)h->count.reports_acknowledged, "recovered_seconds_max",
        (double)h->recovered_max_us / 1e6, "complete_seconds_max", (double)h->complete_max_us / 1e6,
        "stopped", (int)h->stopped, "rule_off", h->rule_off == NULL ? "" : h->rule_off->name);
    if (o != NULL) {
        json_object_set_new(o, "attempts", json_integer((json_int_t)h->count.attempts));
        json_object_set_new(o, "faults", cli_faults(&h->count));
        json_object_set_new(o, "changes", cli_changes(&h->count));
        json_object_set_new(o, "mischief", cli_mischief(&h->count));
        json_object_set_new(o, "rare", cli_rare(&h->count));
        json_object_set_new(o, "found", found);
    }
    return cli_print_json(o, status);
}

static void print_human(const struct sim_hunt *h)
{
    for (size_t i = 0; i < h->found_count; i++)
        print_found(h, &h->found[i]);
    if (h->violations > h->found_count)
        printf("and %" PRIu64 " more\n", h->violations - h->found_count);
    printf("%" PRIu64 " seeds, %" PRIu64 " violations; %" PRIu64 " blocks, %" PRIu64
           " elections, %" PRIu64 " reports; %.0f s of virtual time in %.1f s\n",
           h->seeds, h->violations, h->count.commits, h->count.elections, h->count.reports_made,
           h->virtual_s, h->wall_s);
    printf("longest until all DCs committed again: %.1f s (seed %" PRIu64
           "); until nothing was open: %.1f s (seed %" PRIu64 ")\n",
           (double)h->recovered_max_us / 1e6, h->recovered_max_seed,
           (double)h->complete_max_us / 1e6, h->complete_max_seed);
    cli_print_counters(stdout, &h->count);
}

/* Without a rule, its own violation is what is wanted; anything else is not. */
static int verdict(const struct sim_hunt *h)
{
    if (h->stopped)
        return EXIT_STATUS_FAILED;
    if (h->rule_off == NULL)
        return h->violations == 0 ? EXIT_STATUS_OK : EXIT_STATUS_FAILED;
    size_t n = strlen(h->rule_off->expects);
    if (strcmp(h->rule_off->expects, SIM_EXPECTS_NOTHING) == 0)
        return h->violations == 0 ? EXIT_STATUS_OK : EXIT_STATUS_FAILED;
    for (size_t i = 0; i < h->found_count; i++)
        if (strncmp(h->found[i].violation, h->rule_off->expects, n) == 0 &&
            h->found[i].violation[n] == ':')
            return EXIT_STATUS_OK;
    return EXIT_STATUS_FAILED;
}

static int run(int argc, char **argv, void *ctx)
{
    struct why why = {""};
    (void)argc;
    (void)argv;
    (void)ctx;
    if (list_rules) {
        for (size_t i = 0; sim_rule_at(i) != NULL; i++)
            printf("%s\n", sim_rule_at(i)->name);
        return EXIT_STATUS_OK;
    }
    if (list_invariants) {
        sim_check_list(stdout);
        return EXIT_STATUS_OK;
    }
    struct sim_hunt *h = calloc(1, sizeof *h);
    if (h == NULL)
        return program_fail(PROGRAM, as_json, AMI_NO_MEMORY, NULL);
    h->first = 1;
    h->last = 1000;
    if (seeds_text != NULL && !parse_seeds(seeds_text, &h->first, &h->last)) {
        free(h);
        return usage("--seeds is A..B, such as 1..1000");
    }
    if (cli_rule(rule_name, &h->rule_off, &why) != AMI_OK ||
        cli_rule(shape_name, &h->shape, &why) != AMI_OK) {
        free(h);
        return usage(why.text);
    }
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    h->jobs = jobs != 0                           ? (unsigned)jobs
              : processors > 0 && processors < 64 ? (unsigned)processors
                                                  : 1;
    h->dcs = (unsigned)nodes;
    h->byzantine = byzantine < 0 ? SIM_PLAN_ANY : (unsigned)byzantine;
    h->stop_at_first = h->rule_off != NULL && !keep_going;
    h->resume = resume;
    h->quiet = as_json;
    enum ami_status status = remember_signatures();
    if (status != AMI_OK)
        (void)why_set(&why, status, "out of memory");
    else
        status = sim_hunt_run(h, &why);
    if (status != AMI_OK) {
        free(h);
        return program_fail(PROGRAM, as_json, status, &why);
    }
    for (size_t i = 0; i < h->found_count && i < 4 && !h->stopped; i++)
        sim_shorten(h, &h->found[i]);
    int exit_status = verdict(h);
    if (as_json)
        exit_status = print_json(h, exit_status);
    else
        print_human(h);
    free(h);
    return exit_status;
}

const struct command_spec sim_command_hunt = {
    .name = "hunt",
    .summary = "many runs; prints the seeds that break an invariant, and how to see it again",
    .example = "ami-sim hunt --seeds 1..2000\nami-sim hunt --rule-off two-phases --seeds 1..3000",
    .options = options,
    .run = run};
