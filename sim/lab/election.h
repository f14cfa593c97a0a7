/* sim/lab/election.h - elections after the leader's death, many of them, on virtual time. */
#ifndef AMI_SIM_LAB_ELECTION_H
#define AMI_SIM_LAB_ELECTION_H

#include <stddef.h>
#include <stdint.h>

struct lab_election_case {
    unsigned dcs;
    uint32_t timeout_ms; /* T, a multiple of 6 (a heartbeat is a sixth of it) */
    uint64_t delay_mean_us;
    uint32_t loss_ppm;
    size_t elections;
    uint64_t seed;
};

/* In milliseconds of virtual time; arrays of `count`, sorted, but each sorted for itself. */
struct lab_elections {
    size_t count;
    double *detect_ms; /* from the leader's death until somebody asks for votes */
    double *elect_ms;  /* from then until somebody leads */
    double *total_ms;  /* both */
    double *commit_ms; /* from the death until the new leader has a new block on its disk */
    double attempts;   /* DCs that asked for votes, per election */
    size_t beats;
    double *broadcast_ms; /* from a leader's heartbeat until a quorum has answered it, [beats] */
    double virtual_s;
    char violation[256]; /* empty: none */
};

void lab_elections_run(struct lab_elections *out, const struct lab_election_case *c);
void lab_elections_free(struct lab_elections *e);

#endif
