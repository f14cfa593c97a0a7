/* sim/cmd_run.c - `ami-sim run`: one run from its seed. */
#include "sim/cli.h"
#include "sim/lab/remember.h"

#include <inttypes.h>
#include <string.h>

static int64_t seed = 1, nodes, byzantine = -1, faults = -1;
static const char *rule_name, *shape_name, *without;
static bool trace, once, as_json;

static const struct option_spec options[] = {
    {.name = "seed",
     .letter = 's',
     .kind = OPTION_INT,
     .value = &seed,
     .min = 0,
     .max = INT64_MAX,
     .argument = "N",
     .help = "everything follows from it (default 1)"},
    {.name = "nodes",
     .letter = 'n',
     .kind = OPTION_INT,
     .value = &nodes,
     .min = AMI_MEMBERS_MIN,
     .max = AMI_MEMBERS_MAX,
     .argument = "N",
     .help = "DCs (default: drawn from 4, 5, 7, 10)"},
    {.name = "byzantine",
     .letter = 'b',
     .kind = OPTION_INT,
     .value = &byzantine,
     .min = 0,
     .max = AMI_MEMBERS_MAX,
     .argument = "K",
     .help = "how many of them lie (default: drawn, at most f)"},
    {.name = "rule-off",
     .kind = OPTION_TEXT,
     .value = &rule_name,
     .argument = "NAME",
     .help = "one rule less; names: ami-sim hunt --list-rules"},
    {.name = "shape",
     .kind = OPTION_TEXT,
     .value = &shape_name,
     .argument = "NAME",
     .help = "the troubles that --rule-off NAME makes, with the rule on"},
    {.name = "faults",
     .kind = OPTION_INT,
     .value = &faults,
     .min = 0,
     .max = INT64_MAX,
     .argument = "K",
     .help = "the first K faults of the seed only"},
    {.name = "without",
     .kind = OPTION_TEXT,
     .value = &without,
     .argument = "LIST",
     .help = "kinds of mischief left out, with commas between"},
    {.name = "once",
     .kind = OPTION_FLAG,
     .value = &once,
     .help = "no signature is verified a second time, as in a hunt: the same run, sooner"},
    {.name = "trace",
     .letter = 't',
     .kind = OPTION_FLAG,
     .value = &trace,
     .help = "a line for every frame and event"},
    {.name = "json", .kind = OPTION_FLAG, .value = &as_json, .help = "one JSON document"},
    {0}};

static bool is_listed(const char *list, const char *name)
{
    size_t n = strlen(name);
    for (const char *p = list; p != NULL && *p != 0;) {
        size_t item = strcspn(p, ",");
        if (item == n && memcmp(p, name, n) == 0)
            return true;
        p += item + (p[item] == ',');
    }
    return false;
}

static enum ami_status plan_of(const char *scenario, struct sim_plan *p, struct why *why)
{
    const struct sim_rule *rule, *shape;
    AMI_TRY(cli_rule(rule_name, &rule, why));
    AMI_TRY(cli_rule(shape_name, &shape, why));
    *p = (struct sim_plan){.dcs = (unsigned)nodes,
                           .byzantine = byzantine < 0 ? SIM_PLAN_ANY : (unsigned)byzantine};
    if (strcmp(scenario, "swarm") == 0) {
        sim_plan_draw(p, (uint64_t)seed);
    } else if (strcmp(scenario, "calm") == 0) {
        sim_plan_calm(p, (uint64_t)seed);
        p->dcs = nodes != 0 ? (unsigned)nodes : p->dcs;
    } else if (strcmp(scenario, "elections") == 0) {
        sim_plan_elections(p, (uint64_t)seed);
    } else {
        return why_set(why, AMI_BAD_ARGUMENT, "a scenario is swarm, calm or elections, not '%.40s'",
                       scenario);
    }
    if (rule != NULL)
        sim_rule_off(rule, p);
    else if (shape != NULL)
        sim_rule_on(shape, p);
    if (p->byzantine > p->dcs)
        return why_set(why, AMI_BAD_ARGUMENT, "%u of %u DCs cannot lie", p->byzantine, p->dcs);
    if (faults >= 0)
        p->faults_max = (uint64_t)faults;
    for (int k = 0; k < SIM_MISCHIEF_KINDS; k++)
        if (is_listed(without, sim_mischief_name((enum sim_mischief_kind)k)))
            p->mischief[k] = 0;
    return AMI_OK;
}

static int print_json(const struct sim_plan *p, const struct sim_result *r)
{
    char hash[20];
    snprintf(hash, sizeof hash, "%016" PRIx64, r->trace);
    json_t *o = json_pack(
        "{s:I, s:i, s:i, s:s, s:s, s:f, s:I, s:I, s:I, s:I, s:I, s:f, s:f}", "seed",
        (json_int_t)p->seed, "nodes", (int)p->dcs, "byzantine", (int)p->byzantine, "violation",
        r->violation, "trace", hash, "virtual_seconds", (double)r->end_us / 1e6, "events",
        (json_int_t)r->count.events, "commits", (json_int_t)r->count.commits, "elections",
        (json_int_t)r->count.elections, "reports_made", (json_int_t)r->count.reports_made,
        "reports_acknowledged", (json_int_t)r->count.reports_acknowledged, "recovered_seconds",
        (double)r->recovered_us / 1e6, "complete_seconds", (double)r->complete_us / 1e6);
    if (o != NULL) {
        json_object_set_new(o, "attempts", json_integer((json_int_t)r->count.attempts));
        json_object_set_new(o, "faults", cli_faults(&r->count));
        json_object_set_new(o, "changes", cli_changes(&r->count));
        json_object_set_new(o, "mischief", cli_mischief(&r->count));
        json_object_set_new(o, "rare", cli_rare(&r->count));
    }
    return cli_print_json(o, r->violation[0] == 0 ? EXIT_STATUS_OK : EXIT_STATUS_FAILED);
}

static int no_memory(void)
{
    struct why why;
    return program_fail(PROGRAM, as_json, why_set(&why, AMI_NO_MEMORY, "out of memory"), &why);
}

static int run(int argc, char **argv, void *ctx)
{
    struct sim_plan p;
    struct sim_result r;
    struct why why = {""};
    (void)ctx;
    if (plan_of(argc > 0 ? argv[0] : "swarm", &p, &why) != AMI_OK) {
        (void)program_fail(PROGRAM, as_json, AMI_BAD_ARGUMENT, &why);
        return EXIT_STATUS_USAGE;
    }
    if (once && remember_signatures() != AMI_OK)
        return no_memory();
    sim_run(&r, &p, trace ? (as_json ? stderr : stdout) : NULL);
    if (as_json)
        return print_json(&p, &r);
    printf("seed %" PRIu64 ": %u DCs, %u of them Byzantine, %u meters; %.3f s of virtual time, "
           "%" PRIu64 " events\n",
           p.seed, p.dcs, p.byzantine, p.meters, (double)r.end_us / 1e6, r.count.events);
    printf("%" PRIu64 " blocks; %" PRIu64 " elections in %" PRIu64 " attempts; reports: %" PRIu64
           " made, %" PRIu64 " acknowledged\n",
           r.count.commits, r.count.elections, r.count.attempts, r.count.reports_made,
           r.count.reports_acknowledged);
    if (r.violation[0] == 0 && p.liveness_us != 0)
        printf("after the last fault: all DCs commit again after %.1f s, nothing is open after "
               "%.1f s\n",
               (double)r.recovered_us / 1e6, (double)r.complete_us / 1e6);
    printf("trace %016" PRIx64 "\n", r.trace);
    printf("%s%s\n", r.violation[0] == 0 ? "no violation" : "VIOLATION ", r.violation);
    return r.violation[0] == 0 ? EXIT_STATUS_OK : EXIT_STATUS_FAILED;
}

const struct command_spec sim_command_run = {
    .name = "run",
    .arguments = "[SCENARIO]",
    .arguments_max = 1,
    .summary = "one run: swarm (default; faults and lies drawn), calm (none), or elections",
    .example = "ami-sim run --seed 7 --trace | less\nami-sim run calm --nodes 7",
    .options = options,
    .run = run};
