/* crypto/sm2_group.h - arithmetic on sm2p256v1 (GB/T 32918.5): scalars, points, products.
 *
 * Scalars are integers modulo the group order n; points are affine. Functions that take a `scalar`
 * run in constant time with regard to it unless their name says _public. Everything that comes in
 * bulk has a batch form, which is what the engine is fast at; a batch of any size works, and one of
 * one costs what a single call costs. Output arrays may not overlap inputs unless said so.
 *
 * crypto_start (crypto/secret.h) chooses one of three code paths by what the processor has, or
 * takes the one that the environment variable AMI_SM2_PATH names ("portable", "adx", "ifma"), and
 * makes its tables. All paths give identical results. docs/sm2-engine.md describes them.
 */
#ifndef AMI_CRYPTO_SM2_GROUP_H
#define AMI_CRYPTO_SM2_GROUP_H

#include "base/bytes.h"

#define SM2_SCALAR_BYTES 32
#define SM2_POINT_BYTES  33 /* compressed: 02 or 03, then x */
#define SM2_XY_BYTES     64 /* x then y, as the standard hashes a point */
#define SM2_WIDE_BYTES   48 /* uniform bytes that are reduced to a scalar without visible bias */

typedef struct scalar {
    uint64_t w[4]; /* least significant first, less than n */
} scalar;

typedef struct point {
    uint64_t x[4], y[4]; /* integers less than p, least significant limb first; both zero is the
                          * point at infinity */
} point;

/* A point as it travels. */
typedef struct point_bytes {
    uint8_t b[SM2_POINT_BYTES];
} point_bytes;

/* --- scalars --------------------------------------------------------------------------------- */

/* Accepts [1, n-1] only. AMI_BAD_CRYPTO otherwise (the check itself is constant time). */
enum ami_status scalar_decode(scalar *out, const uint8_t in[SM2_SCALAR_BYTES]) AMI_MUST_CHECK;
void scalar_encode(uint8_t out[SM2_SCALAR_BYTES], const scalar *k);
/* Big-endian 256-bit integer modulo n; may give zero. For digests. */
scalar scalar_reduce(const uint8_t in[32]);
/* 384 random bits to [1, n-1]. */
scalar scalar_from_wide(const uint8_t in[SM2_WIDE_BYTES]);
scalar scalar_add(const scalar *a, const scalar *b);
scalar scalar_sub(const scalar *a, const scalar *b);
scalar scalar_mul(const scalar *a, const scalar *b);
scalar scalar_inverse(const scalar *a); /* of zero: zero */
/* One inversion for all. Zero gives zero. out may be in. */
void scalar_inverse_batch(scalar *out, const scalar *in, size_t count);
bool scalar_is_zero(const scalar *a);
bool scalar_equal(const scalar *a, const scalar *b);

/* --- points ---------------------------------------------------------------------------------- */

/* Decodes a compressed point, with the on-curve check. AMI_BAD_CRYPTO for a wrong prefix, x >= p or
 * x not on the curve (infinity has no encoding). */
enum ami_status point_decode(point *out, const point_bytes *in) AMI_MUST_CHECK;
/* ok[i] tells each result; returns AMI_OK only when all are good. */
enum ami_status point_decode_batch(point *out, bool *ok, const point_bytes *in,
                                   size_t count) AMI_MUST_CHECK;
/* Not for infinity (an invariant). */
point_bytes point_encode(const point *p);
/* Affine coordinates as the standard hashes them. Not for infinity. */
void point_xy(uint8_t out[SM2_XY_BYTES], const point *p);
/* From affine coordinates, with the on-curve check: for vectors and X.509. */
enum ami_status point_from_xy(point *out, const uint8_t in[SM2_XY_BYTES]) AMI_MUST_CHECK;
bool point_is_infinity(const point *p);
bool point_equal(const point *a, const point *b); /* public values */
const point *point_generator(void);
point point_add(const point *a, const point *b); /* complete: any two points */
point point_negate(const point *a);

/* --- products -------------------------------------------------------------------------------- */

point point_mul_base(const scalar *k);
void point_mul_base_batch(point *out, const scalar *k, size_t count);

point point_mul(const scalar *k, const point *p);
void point_mul_batch(point *out, const scalar *k, const point *p, size_t count);

/* q + b p with a public scalar, variable time; any points, infinity among them. A short b costs
 * less. For key reconstruction and key exchange. */
void point_mul_add_public_batch(point *out, const point *q, const scalar *b, const point *p,
                                size_t count);

/* Multiples of one fixed point (P_pub), for constant-time products: 88 KB, made in well
 * under a millisecond. Made once; the owner keeps it in place as long as it is used. */
struct point_table;
struct point_table *point_table_new(const point *p); /* NULL: out of memory. p not infinity. */
void point_table_free(struct point_table *table);
const point *point_table_point(const struct point_table *table);
/* a G + b p, constant time, p the table's point. */
void point_mul_base_table_batch(point *out, const scalar *a, const scalar *b,
                                const struct point_table *table, size_t count);

/* --- hash to curve --------------------------------------------------------------------------- */

/* RFC 9380 section 3, random-oracle variant: expand_message_xmd with SM3, hash_to_field with
 * m = 1, L = 48, simplified SWU with Z = -9. `dst` is the domain separation tag, at most 255
 * bytes; at most SM3_PARTS_MAX - 4 parts. The input is public. */
point point_hash_to_curve(const struct span *parts, size_t count, struct span dst);

/* Name of the code path in use, for benchmarks and status. */
const char *sm2_path_name(void);

#endif
