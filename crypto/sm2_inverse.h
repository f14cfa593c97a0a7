/* crypto/sm2_inverse.h - inverses modulo p and modulo n of sm2p256v1.
 *
 * Plain integers in, plain integers out, least significant limb first, constant time. Private to
 * crypto/. Source: D. Bernstein, B.-Y. Yang, "Fast constant-time gcd computation and modular
 * inversion" (2019), with half-integer delta, for which 590 steps are enough for 256 bits
 * (P. Wuille's computed bound).
 */
#ifndef AMI_CRYPTO_SM2_INVERSE_H
#define AMI_CRYPTO_SM2_INVERSE_H

#include <stdint.h>

/* in less than the modulus; the inverse of zero is zero. out may be in. */
void inverse_mod_p(uint64_t out[4], const uint64_t in[4]);
void inverse_mod_n(uint64_t out[4], const uint64_t in[4]);

#endif
