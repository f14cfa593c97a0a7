/* sim/lab/service.h - who serves whom in a simulated network: for experiments that count meters in
 * session. These look into the nodes; the simulator's invariants do not. */
#ifndef AMI_SIM_LAB_SERVICE_H
#define AMI_SIM_LAB_SERVICE_H

#include "sim/world.h"

/* The DC that leads; NULL: none does, as far as those that are up have said. */
struct sim_host *lab_leader(struct sim_world *w);
/* Takes its power away; it leads no more, whatever it said last. */
void lab_kill_leader(struct sim_host *leader);
/* The height of the highest ledger. */
uint64_t lab_height(const struct sim_world *w);
/* Whether the meter holds a session with a DC that is up; and whether that DC holds it as well. It
 * may not, when the third flight was lost; the meter learns that with its next report. */
bool lab_in_session(const struct sim_meter *m);
bool lab_served(const struct sim_meter *m);
/* How many meters of the network are. */
size_t lab_count_meters(struct sim_world *w, bool (*are)(const struct sim_meter *m));
/* Whether this DC's ledger knows all meters of the cast. */
bool lab_all_enrolled(const struct sim_host *dc);
/* For a world that has not run yet: until a DC leads whose ledger knows all meters, for at most
 * `limit_us`; only then the meters are switched on. False: it did not come to that. */
bool lab_open_network(struct sim_world *w, uint64_t limit_us);

#endif
