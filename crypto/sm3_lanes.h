/* crypto/sm3_lanes.h - SM3 of sixteen messages side by side, by AVX-512.
 *
 * sm3_batch (crypto/sm3.h) comes here where the processor allows and the batch is worth it. Private
 * to crypto/.
 */
#ifndef AMI_CRYPTO_SM3_LANES_H
#define AMI_CRYPTO_SM3_LANES_H

#include "crypto/sm3.h"

#define SM3_LANES 16

/* As sm3_batch. Needs avx512f, bw and vl (an invariant). */
void sm3_lanes(sm3_digest *out, const struct sm3_message *in, size_t count);

#endif
