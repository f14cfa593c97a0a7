/* sim/schemer.h - a Byzantine leader with a plan: what it takes to fork a network that lacks a
 * rule.
 *
 * Three plans, begun when its node, which leads, has a certificate (QC) for block A. The first two
 * begin with a prepare certificate, the third with a commit certificate.
 *
 * Hoard: it shows the QC to nobody until others have elected somebody and he proposes; then it
 * shows it to all, and collects commit votes of the old term, which nobody honest gives (rule 6).
 * docs/model, COMMIT_TERM.
 *
 * Two-faced: it proposes block B for the same place, collects prepare votes for that, too, which
 * nobody honest gives twice (rule 5); commits B, tells one DC, falls silent, and shows A's
 * certificate in its next grant. docs/model, MONOTONE.
 *
 * Relic, in a new membership epoch: it tells one DC of the commit, falls silent, shows the others a
 * certificate of the epoch before, whose terms were higher, as their highest, and votes for what
 * they then put in A's place. Nobody honest takes that certificate (rule 13).
 *
 * And another, which needs no leading: it asks for the next term all the time, with a true proof of
 * the present one, and calls the election when enough would give it their votes. While a leader is
 * heard nobody honest does (rule 1).
 */
#ifndef AMI_SIM_SCHEMER_H
#define AMI_SIM_SCHEMER_H

#include "sim/world.h"

struct sim_schemer;
struct sim_schemer *sim_schemer_new(struct sim_host *h);
void sim_schemer_free(struct sim_schemer *s);

/* What the node sends. True: it does not leave. */
bool sim_schemer_send(struct sim_schemer *s, enum message_type type, struct span frame);
/* The certificate to show in a grant for this term instead of the node's own; NULL: none. */
const struct qc *sim_schemer_high(const struct sim_schemer *s, uint64_t term);
/* What comes in; the node gets it all the same. */
void sim_schemer_receive(struct sim_schemer *s, env_link link, enum message_type type,
                         struct span body);

/* Asks for the next term. */
void sim_schemer_storm(struct sim_schemer *s);

#endif
