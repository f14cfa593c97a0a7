/* keyagree/internal.h - what the files of this room share. Nothing outside includes it.
 *
 *   scheme.c   the table, and what is the same under every scheme
 *   liu2023.c  the published scheme
 *   sm2kx.c    GM/T 0130 keys and the SM2 key exchange
 *   keychain.c the hash key generator
 *   session.c  a new key for every message
 *   enrol.c    install codes, requests and replies
 *   keyfile.c  key files
 */
#ifndef AMI_KEYAGREE_INTERNAL_H
#define AMI_KEYAGREE_INTERNAL_H

#include "keyagree/scheme.h"

extern const struct scheme scheme_liu2023;
extern const struct scheme scheme_sm2kx;

/* Answers are computed in groups of so many, in arrays on the stack. */
#define AGREE_CHUNK 32

/* Each is exactly what a bytes-and-size pair of this room takes. */
static inline void agree_part_set_point(struct agree_part *out, const point *p)
{
    point_bytes encoded = point_encode(p);
    *out = (struct agree_part){.size = SM2_POINT_BYTES};
    for (size_t i = 0; i < SM2_POINT_BYTES; i++)
        out->b[i] = encoded.b[i];
}

/* A point that arrived as opaque bytes: exactly 33 of them, on the curve. */
static inline enum ami_status agree_point_parse(point *out, struct span s)
{
    point_bytes encoded;
    if (s.size != sizeof encoded.b)
        return AMI_BAD_CRYPTO;
    for (size_t i = 0; i < sizeof encoded.b; i++)
        encoded.b[i] = s.data[i];
    return point_decode(out, &encoded);
}

/* Exactly 32 bytes, in [1, n-1]. */
static inline enum ami_status agree_scalar_parse(scalar *out, struct span s)
{
    return s.size == SM2_SCALAR_BYTES ? scalar_decode(out, s.data) : AMI_BAD_CRYPTO;
}

#endif
