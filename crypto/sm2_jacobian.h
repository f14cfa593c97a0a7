/* crypto/sm2_jacobian.h - what the files of the SM2 engine share: points in Jacobian coordinates.
 *
 * (x, y, z) stands for the affine point (x / z^2, y / z^3); z = 0 is infinity, whatever x and y
 * are. Keeping results in this form lets callers put off the inversion, batch it or do without.
 * Every point on the curve has order n or is infinity (cofactor 1), which the proofs of
 * completeness in sm2_group.c use. Outputs may alias inputs. Private to crypto/.
 */
#ifndef AMI_CRYPTO_SM2_JACOBIAN_H
#define AMI_CRYPTO_SM2_JACOBIAN_H

#include "crypto/sm2_field.h"
#include "crypto/sm2_group.h"

typedef struct jacobian {
    fe x, y, z;
} jacobian;

/* How many results share one inversion. */
#define SM2_BATCH 16

/* Makes the tables of G. Called by crypto_start. */
void sm2_group_start(void);

jacobian jacobian_from_point(const point *p);
/* Any count, one inversion per SM2_BATCH points. Constant time. */
void jacobian_to_points(point *out, const jacobian *in, size_t count);
uint64_t jacobian_mask_infinity(const jacobian *p);

/* Complete and constant time. */
void jacobian_add(jacobian *out, const jacobian *a, const jacobian *b);

/* k G and k P, constant time. */
void jacobian_mul_base(jacobian *out, const scalar *k);
void jacobian_mul(jacobian *out, const scalar *k, const jacobian *p);

/* a G + b p, variable time. */
void jacobian_mul_add_public(jacobian *out, const scalar *a, const scalar *b, const point *p);
/* q + b p, variable time. A short b costs less. */
void jacobian_mul_add_point_public(jacobian *out, const point *q, const scalar *b, const point *p);

#endif
