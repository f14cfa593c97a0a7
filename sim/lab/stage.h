/* sim/lab/stage.h - a whole network of the simulator with an adversary on its links, who sees every
 * frame before it arrives, keeps it back, and sends what it likes on links of its own. */
#ifndef AMI_SIM_LAB_STAGE_H
#define AMI_SIM_LAB_STAGE_H

#include "sim/lab/attack.h"
#include "sim/world.h"

#define seconds(micros) ((double)(micros) / 1e6)

/* Where an attack begins: the network has settled by then. */
#define STAGE_SETTLED_US (6 * SIM_SECOND)

/* A calm network of 4 DCs under the attacked scheme: one fleet of two meters, two reports a second
 * from each. A fleet without meters is the adversary's host: plan more fleets than meters, and the
 * first ones have none. */
void stage_calm(const struct attack_context *c, struct sim_plan *p);

/* Does this frame arrive? */
typedef bool stage_tap(void *ctx, struct sim_world *w, const struct sim_event *e,
                       enum message_type type);
/* Until then, or until an invariant is violated. */
void stage_run(struct sim_world *w, uint64_t until_us, stage_tap *tap, void *ctx);

/* A frame arrives at this end of a link, as if the other end had sent it. */
void stage_inject(struct sim_world *w, env_link at, const uint8_t *frame, size_t size);

/* When the first report of any meter that was made after `since` was acknowledged; 0: none was. */
uint64_t stage_served_since(const struct sim_world *w, uint64_t since);
int stage_leader(const struct sim_world *w); /* a host; -1: nobody leads */

#endif
