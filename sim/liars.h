/* sim/liars.h - what the files of the liars share, and what goes beyond one frame altered on its
 * way.
 *
 *   byzantine.c  somebody on the wire of a real node, with its keys
 *   schemer.c    a leader with a plan (schemer.h)
 *   electors.c   several election certificates of one term
 *   colluders.c  liars that help each other
 */
#ifndef AMI_SIM_LIARS_H
#define AMI_SIM_LIARS_H

#include "sim/world.h"

/* --- byzantine.c ----------------------------------------------------------------------------- */

#define SIM_LIAR_BYTES_MAX (256u << 10)

/* Whether it does so this time; counted. */
bool sim_liar_does(struct sim_host *h, enum sim_mischief_kind kind);
/* Signs what is encoded behind a frame's two first bytes, up to its last field, and sends it. */
void sim_liar_sign_and_send(struct sim_host *h, env_link link, struct writer *w, const char *label);
void sim_liar_send_vote(struct sim_host *h, env_link link, struct vote v);
void sim_liar_send_proposal(struct sim_host *h, env_link link, const struct proposal *p);
/* Where such a frame is put together: SIM_LIAR_BYTES_MAX. */
uint8_t *sim_liar_scratch(struct sim_host *h);
/* Its link to the DC at the other end of this one; 0: none that may be used. */
env_link sim_liar_link_back(struct sim_host *h, env_link link);

/* --- electors.c ------------------------------------------------------------------------------ */

/* A candidate that is granted its term by more than q members has several certificates to choose
 * from, and M, what it is bound to, differs between them. It shows members with odd and even
 * numbers different ones, and proposes to each what follows from its M. */
struct sim_elector;
struct sim_elector *sim_elector_new(struct sim_host *h);
void sim_elector_free(struct sim_elector *e);
void sim_elector_receive(struct sim_elector *e, env_link link, enum message_type type,
                         struct span body);
/* True: it has sent something else instead. */
bool sim_elector_send(struct sim_elector *e, env_link link, enum message_type type,
                      struct span body);

/* --- colluders.c ----------------------------------------------------------------------------- */

/* Something came from another liar: it gets at once the pre-vote, grant or vote that it needs,
 * whatever that contradicts. True: the node does not get to see it. */
bool sim_collude_receive(struct sim_host *h, env_link link, enum message_type type,
                         struct span body);
/* Votes for this proposal, twice, whatever it is. */
void sim_collude_vote(struct sim_host *h, env_link link, struct span body);
/* Certificates that any of them has seen are at the hands of all. */
void sim_collude_learn(struct sim_world *w, const struct qc *qc);
/* One of those; NULL: there is none of a term below this one. */
const struct qc *sim_collude_held(struct sim_world *w, uint32_t epoch, uint64_t below_term);
/* The one of highest term of this epoch without the last member's vote, whose key may have been
 * another since; NULL: there is none. */
const struct qc *sim_collude_highest(const struct sim_world *w, uint32_t epoch);

#endif
