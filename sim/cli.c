#include "sim/cli.h"

#include <string.h>

enum ami_status cli_rule(const char *name, const struct sim_rule **out, struct why *why)
{
    *out = NULL;
    if (name == NULL)
        return AMI_OK;
    *out = sim_rule_find(name);
    if (*out == NULL)
        return why_set(why, AMI_BAD_ARGUMENT,
                       "--rule-off names a rule of `ami-sim hunt --list-rules`, not '%.40s'", name);
    return AMI_OK;
}

json_t *cli_faults(const struct sim_counters *c)
{
    json_t *o = json_object();
    for (int k = 0; k < SIM_FAULT_KINDS; k++)
        json_object_set_new(o, sim_fault_name((enum sim_fault)k),
                            json_integer((json_int_t)c->fault[k]));
    return o;
}

json_t *cli_mischief(const struct sim_counters *c)
{
    json_t *o = json_object();
    for (int k = 0; k < SIM_MISCHIEF_KINDS; k++)
        json_object_set_new(o, sim_mischief_name((enum sim_mischief_kind)k),
                            json_integer((json_int_t)c->mischief[k]));
    return o;
}

json_t *cli_changes(const struct sim_counters *c)
{
    json_t *o = json_object();
    for (int k = 0; k < SIM_CHANGE_KINDS; k++)
        json_object_set_new(o, sim_change_name((enum sim_change)k),
                            json_integer((json_int_t)c->change[k]));
    return o;
}

json_t *cli_rare(const struct sim_counters *c)
{
    json_t *o = json_object();
    for (int k = 0; k < SIM_RARE_KINDS; k++)
        json_object_set_new(o, sim_rare_name((enum sim_rare)k),
                            json_integer((json_int_t)c->rare[k]));
    return o;
}

static void print_counts(FILE *to, const char *title, const uint64_t *count, int kinds,
                         const char *(*name)(int k))
{
    int column = 0;
    fprintf(to, "%s\n", title);
    for (int k = 0; k < kinds; k++) {
        fprintf(to, "  %-18s %10llu%s", name(k), (unsigned long long)count[k],
                column == 2 ? "\n" : "");
        column = (column + 1) % 3;
    }
    if (column != 0)
        fputc('\n', to);
}

static const char *fault_name(int k)
{
    return sim_fault_name((enum sim_fault)k);
}

static const char *mischief_name(int k)
{
    return sim_mischief_name((enum sim_mischief_kind)k);
}

static const char *change_name(int k)
{
    return sim_change_name((enum sim_change)k);
}

static const char *rare_name(int k)
{
    return sim_rare_name((enum sim_rare)k);
}

void cli_print_counters(FILE *to, const struct sim_counters *c)
{
    print_counts(to, "faults, times", c->fault, SIM_FAULT_KINDS, fault_name);
    print_counts(to, "changes that the operator asked for, in force", c->change, SIM_CHANGE_KINDS,
                 change_name);
    print_counts(to, "what Byzantine DCs did, times", c->mischief, SIM_MISCHIEF_KINDS,
                 mischief_name);
    print_counts(to, "seldom paths, times taken", c->rare, SIM_RARE_KINDS, rare_name);
}

int cli_print_json(json_t *document, int status)
{
    if (document == NULL || json_dumpf(document, stdout, JSON_INDENT(2)) != 0)
        status = EXIT_STATUS_FAILED;
    putchar('\n');
    json_decref(document);
    return status;
}
