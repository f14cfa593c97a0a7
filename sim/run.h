/* sim/run.h - one whole run of the simulator, and its verdict. */
#ifndef AMI_SIM_RUN_H
#define AMI_SIM_RUN_H

#include "sim/world.h"

struct sim_result {
    char violation[256];   /* "invariant: what"; empty: none */
    uint64_t trace;        /* hash of all that happened */
    uint64_t end_us;       /* virtual time at the end, or at the violation */
    uint64_t recovered_us; /* from the last fault until all healthy DCs had a new block */
    uint64_t complete_us;  /* ... until all that was made was acknowledged and with the MDMS */
    uint64_t faults_used;  /* instants of faults */
    struct sim_counters count;
};

/* trace_to: a line for every frame and event of interest; NULL: none. */
void sim_run(struct sim_result *out, const struct sim_plan *plan, FILE *trace_to);

#endif
