/* sim/lab/scale.h - what the files of `ami-sim lab scale` share.
 *
 *   scale.c           the experiment: its sweeps, and what a report costs in each
 *   scale_meters.c    what grows with the number of meters: time, memory, a leader's death
 *   scale_networks.c  many committees in one process
 */
#ifndef AMI_SIM_LAB_SCALE_H
#define AMI_SIM_LAB_SCALE_H

#include "sim/lab/figure.h"
#include "sim/lab/lab.h"
#include "sim/world.h"

/* One network. */
struct scale_case {
    const char *sweep; /* what is varied */
    unsigned dcs, meters, readings;
    unsigned block_txs_max; /* 0: as the simulator has it otherwise */
    uint32_t report_every_ms;
    uint32_t delay_us;   /* mean, one way */
    uint32_t measured_s; /* of virtual time; 0: with --tiny only */
    uint32_t tiny_s;     /* the same with --tiny; 0: left out there */
    bool large;          /* with --large only */
};

#define SCALE_LATENCIES_MAX (1 << 20)

/* Who looks on while a network runs. */
struct scale_onlooker {
    uint64_t frames, bytes;          /* between DCs */
    uint64_t dc_ns[2 * SIM_DCS_MAX]; /* processor time of each DC's code, by host */
    uint64_t began_ns;               /* the turn of the host `runs` */
    uint16_t runs;
    bool counts;                /* lab/count.h counts while DCs' code runs */
    uint64_t agreed[METER_DCS]; /* agreements that meters finished, by DC */
    double *latency_ms;         /* the first SCALE_LATENCIES_MAX of them */
    size_t latencies;
};
/* Of all DCs. */
uint64_t scale_dc_ns(const struct scale_onlooker *o);
uint64_t scale_agreed(const struct scale_onlooker *o);
/* What it saw so far is forgotten; the room for latencies stays. */
void scale_forget(struct scale_onlooker *o);
void scale_watch(struct sim_watch *watch, struct scale_onlooker *o);

void scale_plan(struct sim_plan *p, const struct scale_case *c, uint64_t seed);
/* Until `want` meters are in session, for at most `limit_us`; looks every `step_us`. */
bool scale_await(struct sim_world *w, size_t want, uint64_t limit_us, uint64_t step_us);

/* --- scale_meters.c --------------------------------------------------------------------------- */

/* What was seen of a network before its leader dies. */
struct scale_growth {
    double keys_us;                  /* processor time for the keys of all devices, on both sides */
    double enrolled_s, in_session_s; /* virtual, each from where the one before ended */
    double enrol_dc_us, agree_dc_us; /* processor time: of all DCs, of the leader */
    uint64_t agreed, agreed_leader;  /* agreements meanwhile: with all DCs, with the leader */
    double resident_before;          /* scale_resident() when there was no network yet */
};
/* Bytes of a row that a later one is compared with. */
struct scale_memory {
    unsigned meters; /* 0: there is none */
    double dc, whole;
};
/* Bytes of this process that are in memory; what it has freed is given back first. */
double scale_resident(void);
struct lab_table *scale_meters_table(struct lab_output *out);
/* Kills the leader, has the meters come back, stops their reports: a row. What fails is said in
 * `out`. `o` watches `w`. `*last` becomes this row's. */
void scale_meters_row(struct lab_table *t, struct lab_output *out, const struct scale_case *c,
                      const struct scale_growth *g, struct scale_memory *last, struct sim_world *w,
                      struct scale_onlooker *o);
/* Ends with a NULL name. */
extern const struct lab_figure scale_meters_figures[];

/* --- scale_networks.c ------------------------------------------------------------------------- */

struct lab_table *scale_networks_table(struct lab_output *out);
size_t scale_networks_cases(const struct lab_options *o);
void scale_networks_row(struct lab_table *t, struct lab_output *out, const struct lab_options *o,
                        size_t index);
extern const struct lab_figure scale_networks_figures[];

#endif
