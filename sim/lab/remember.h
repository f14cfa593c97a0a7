/* sim/lab/remember.h - in a run all nodes are one process: a signature that one DC has found right
 * is not computed again for the next one.
 *
 * Verifying is a function of key, digest and signature alone, and it is what hunts would mostly do.
 * All three are compared, nothing is hashed, and only what is right is remembered; so a run is the
 * same run with it (`ami-sim run --once`, tests/sim/same_run). One thread.
 */
#ifndef AMI_SIM_LAB_REMEMBER_H
#define AMI_SIM_LAB_REMEMBER_H

#include "crypto/sm2.h"

/* From here on, for the rest of the process. AMI_NO_MEMORY. */
enum ami_status remember_signatures(void) AMI_MUST_CHECK;
bool remember_on(void);

bool remember_has(const point *p, const sm3_digest *e, const sm2_signature *sig);
void remember_put(const point *p, const sm3_digest *e, const sm2_signature *sig);

#endif
