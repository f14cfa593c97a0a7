/* sim/hunt.h - many runs of the simulator, in several processes, and what they found.
 *
 * Each run is in a child, so that one that dies is a finding like any other. */
#ifndef AMI_SIM_HUNT_H
#define AMI_SIM_HUNT_H

#include "sim/rules.h"
#include "sim/run.h"

#include "net/why.h"

#define SIM_FOUND_MAX 32

struct sim_found {
    uint64_t seed;
    char violation[256];
    uint64_t end_us, events;
    uint64_t faults_needed, faults_used; /* of the shortest prefix found; `used` of the whole run */
    uint32_t mischief_needed;            /* bit k: kind k */
};

struct sim_hunt {
    uint64_t first, last;            /* seeds, both run */
    unsigned dcs, byzantine;         /* 0, SIM_PLAN_ANY: each seed draws its own */
    const struct sim_rule *rule_off; /* NULL: none */
    const struct sim_rule *shape;    /* the troubles of this rule, with it on; NULL: any */
    unsigned jobs;
    bool stop_at_first;
    bool quiet;         /* no progress on stderr */
    const char *resume; /* file that remembers how far it came; NULL: none */

    /* Results. */
    uint64_t seeds, violations;
    struct sim_found found[SIM_FOUND_MAX]; /* the first ones, by seed */
    size_t found_count;
    struct sim_counters count;
    double virtual_s, wall_s;
    uint64_t recovered_max_us, complete_max_us; /* over the runs that recovered */
    uint64_t recovered_max_seed, complete_max_seed;
    bool stopped; /* by a signal: not all seeds were run */
};

/* The plan of one seed of this hunt. */
void sim_hunt_plan(const struct sim_hunt *h, uint64_t seed, struct sim_plan *out);

/* Runs a plan in a child process: a crash becomes the violation "crash: ...". False: no child could
 * be made. */
bool sim_run_apart(struct sim_result *out, const struct sim_plan *plan);

/* AMI_IO, AMI_DAMAGED (the file to resume from, with `why`); AMI_NO_MEMORY. */
enum ami_status sim_hunt_run(struct sim_hunt *h, struct why *why) AMI_MUST_CHECK;

/* Looks for the fewest faults, and kinds of mischief, that still lead to the same violation. */
void sim_shorten(const struct sim_hunt *h, struct sim_found *f);

#endif
