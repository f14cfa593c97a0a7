/* sim/rules.h - rules that can be switched off, one at a time, to see that the checks notice. */
#ifndef AMI_SIM_RULES_H
#define AMI_SIM_RULES_H

#include "sim/plan.h"

#define SIM_EXPECTS_NOTHING "nothing"

struct sim_rule {
    const char *name;    /* for --rule-off */
    const char *expects; /* the invariant that breaks without it, or SIM_EXPECTS_NOTHING: another
                            rule does its work as well (docs/simulator.md says which) */
    const char *what;    /* the rule that is off, for people */
};

/* NULL: there is none. */
const struct sim_rule *sim_rule_find(const char *name);
/* In order; NULL behind the last. */
const struct sim_rule *sim_rule_at(size_t index);
/* Switches it off in a plan that was drawn, and gives the run the troubles in which it matters. */
void sim_rule_off(const struct sim_rule *rule, struct sim_plan *p);
/* The same troubles with the rule on: nothing may be found. */
void sim_rule_on(const struct sim_rule *rule, struct sim_plan *p);

#endif
