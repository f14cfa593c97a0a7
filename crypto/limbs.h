/* crypto/limbs.h - 256-bit integers as four 64-bit limbs, least significant first. Constant time.
 * Private to crypto/. */
#ifndef AMI_CRYPTO_LIMBS_H
#define AMI_CRYPTO_LIMBS_H

#include "crypto/ct.h"

__extension__ typedef unsigned __int128 limb_pair;

static inline uint64_t sub_borrow(uint64_t *out, uint64_t a, uint64_t b, uint64_t borrow)
{
    const limb_pair d = (limb_pair)a - b - borrow;
    *out = (uint64_t)d;
    return (uint64_t)(d >> 64) & 1;
}

static inline uint64_t add_carry(uint64_t *out, uint64_t a, uint64_t b, uint64_t carry)
{
    const limb_pair s = (limb_pair)a + b + carry;
    *out = (uint64_t)s;
    return (uint64_t)(s >> 64);
}

/* out = a - b; the borrow. out may be a or b. */
static inline uint64_t limbs_subtract(uint64_t out[4], const uint64_t a[4], const uint64_t b[4])
{
    uint64_t borrow = 0;
    for (int i = 0; i < 4; i++)
        borrow = sub_borrow(&out[i], a[i], b[i], borrow);
    return borrow;
}

/* The order of sm2p256v1's group. */
#define SM2_ORDER_LIMBS                                                                            \
    {                                                                                              \
        UINT64_C(0x53bbf40939d54123), UINT64_C(0x7203df6b21c6052b), UINT64_C(0xffffffffffffffff),  \
            UINT64_C(0xfffffffeffffffff)                                                           \
    }

#endif
