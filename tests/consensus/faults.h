/* tests/consensus/faults.h - one run with faults drawn from a seed.
 *
 * A safety phase (links lose, repeat, delay, reorder; partitions; nodes die at any write, before or
 * after it is durable, and come back), then a liveness phase: once faults stop, every healthy node
 * commits everything within a bound.
 */
#ifndef AMI_TESTS_CONSENSUS_FAULTS_H
#define AMI_TESTS_CONSENSUS_FAULTS_H

#include "tests/consensus/world.h"

/* What to run: the same faults with other rules, or with members that run twice. */
struct plan {
    uint32_t rules_off;
    unsigned n; /* 0: drawn from 4, 5, 7 */
    bool twins; /* f of them */
    bool dead;  /* f members do not come back when the faults stop (not together with twins) */
};

struct outcome {
    uint64_t trace;     /* a hash of all that was sent and committed */
    uint32_t convicted; /* members that honest ones found evidence against */
};

/* NULL: sound and alive; otherwise what went wrong, valid until the next call. Evidence against an
 * honest member is a violation. show: prints one line and one for each node. */
const char *faults_run(uint64_t seed, const struct plan *p, bool show, struct outcome *out);

#endif
