/* crypto/sm2_field.h - the field of sm2p256v1, p = 2^256 - 2^224 - 2^96 + 2^64 - 1.
 *
 * Elements are four 64-bit limbs, least significant first, in Montgomery form (a 2^256 mod p) and
 * always fully reduced, so that equality of elements is equality of limbs. Everything here runs in
 * constant time. Outputs may alias inputs. Private to crypto/.
 */
#ifndef AMI_CRYPTO_SM2_FIELD_H
#define AMI_CRYPTO_SM2_FIELD_H

#include "crypto/ct.h"

#include <string.h>

__extension__ typedef unsigned __int128 u128;

typedef uint64_t fe[4];

/* Short inline assembly for the carry chains: gcc 12 does not find the carry flag behind 128-bit
 * arithmetic and is more than twice as slow. AMI_CRYPTO_NO_ASM forces the C code, which other
 * processors use and tests/crypto compares. */
#if defined(__x86_64__) && !defined(AMI_CRYPTO_NO_ASM)
#define SM2_X86_64 1
#else
#define SM2_X86_64 0
#endif

#define SM2_P0 UINT64_C(0xffffffffffffffff)
#define SM2_P1 UINT64_C(0xffffffff00000000)
#define SM2_P2 UINT64_C(0xffffffffffffffff)
#define SM2_P3 UINT64_C(0xfffffffeffffffff)

extern const fe fe_one;
extern const fe fe_b; /* the curve's b */

void fe_mul(fe out, const fe a, const fe b);
void fe_sqr(fe out, const fe a);
/* a^((p - 3) / 4), from which come both the inverse and the square root. */
void fe_pow_p34(fe out, const fe a);
void fe_inverse(fe out, const fe a); /* of zero: zero */
/* A root of a; the mask tells whether there is one (out is unspecified otherwise). */
uint64_t fe_sqrt(fe out, const fe a);

/* Big-endian bytes; the mask tells whether the integer was less than p. */
uint64_t fe_from_bytes(fe out, const uint8_t in[32]);
void fe_to_bytes(uint8_t out[32], const fe a);
/* A 384-bit big-endian integer modulo p. */
void fe_from_wide(fe out, const uint8_t in[48]);
/* From four plain limbs that are less than p. */
void fe_from_limbs(fe out, const uint64_t in[4]);
/* 1 when the element's integer is odd. */
uint64_t fe_is_odd(const fe a);

static inline uint64_t sub_borrow(uint64_t *out, uint64_t a, uint64_t b, uint64_t borrow)
{
    u128 d = (u128)a - b - borrow;
    *out = (uint64_t)d;
    return (uint64_t)(d >> 64) & 1;
}

static inline uint64_t add_carry(uint64_t *out, uint64_t a, uint64_t b, uint64_t carry)
{
    u128 s = (u128)a + b + carry;
    *out = (uint64_t)s;
    return (uint64_t)(s >> 64);
}

/* (t, carry) in [0, 2p) to [0, p). */
static inline void fe_reduce_once(fe out, const fe t, uint64_t carry)
{
    uint64_t s0 = t[0], s1 = t[1], s2 = t[2], s3 = t[3];
#if SM2_X86_64
    __asm__("subq $-1, %0\n\t"
            "sbbq %9, %1\n\t"
            "sbbq $-1, %2\n\t"
            "sbbq %10, %3\n\t"
            "sbbq $0, %4\n\t"
            "cmovcq %5, %0\n\t"
            "cmovcq %6, %1\n\t"
            "cmovcq %7, %2\n\t"
            "cmovcq %8, %3"
            : "+&r"(s0), "+&r"(s1), "+&r"(s2), "+&r"(s3), "+&r"(carry)
            : "r"(t[0]), "r"(t[1]), "r"(t[2]), "r"(t[3]), "r"(SM2_P1), "r"(SM2_P3)
            : "cc");
    out[0] = s0;
    out[1] = s1;
    out[2] = s2;
    out[3] = s3;
#else
    uint64_t borrow = sub_borrow(&s0, s0, SM2_P0, 0);
    borrow = sub_borrow(&s1, s1, SM2_P1, borrow);
    borrow = sub_borrow(&s2, s2, SM2_P2, borrow);
    borrow = sub_borrow(&s3, s3, SM2_P3, borrow);
    /* Less than p exactly when the subtraction borrows from beyond the carry. */
    uint64_t keep = ct_mask(borrow & (1 ^ carry));
    out[0] = s0 ^ (keep & (s0 ^ t[0]));
    out[1] = s1 ^ (keep & (s1 ^ t[1]));
    out[2] = s2 ^ (keep & (s2 ^ t[2]));
    out[3] = s3 ^ (keep & (s3 ^ t[3]));
#endif
}

static inline void fe_add(fe out, const fe a, const fe b)
{
    fe t;
    uint64_t carry = 0;
#if SM2_X86_64
    uint64_t t0 = a[0], t1 = a[1], t2 = a[2], t3 = a[3];
    __asm__("addq %5, %0\n\t"
            "adcq %6, %1\n\t"
            "adcq %7, %2\n\t"
            "adcq %8, %3\n\t"
            "adcq $0, %4"
            : "+&r"(t0), "+&r"(t1), "+&r"(t2), "+&r"(t3), "+&r"(carry)
            : "rm"(b[0]), "rm"(b[1]), "rm"(b[2]), "rm"(b[3])
            : "cc");
    t[0] = t0;
    t[1] = t1;
    t[2] = t2;
    t[3] = t3;
#else
    for (int i = 0; i < 4; i++)
        carry = add_carry(&t[i], a[i], b[i], carry);
#endif
    fe_reduce_once(out, t, carry);
}

static inline void fe_sub(fe out, const fe a, const fe b)
{
    uint64_t t0 = a[0], t1 = a[1], t2 = a[2], t3 = a[3];
    uint64_t borrow = 0;
#if SM2_X86_64
    __asm__("subq %5, %0\n\t"
            "sbbq %6, %1\n\t"
            "sbbq %7, %2\n\t"
            "sbbq %8, %3\n\t"
            "sbbq %4, %4"
            : "+&r"(t0), "+&r"(t1), "+&r"(t2), "+&r"(t3), "+&r"(borrow)
            : "rm"(b[0]), "rm"(b[1]), "rm"(b[2]), "rm"(b[3])
            : "cc");
    /* borrow is a mask now: p is added back under it. */
    __asm__("addq %4, %0\n\t"
            "adcq %5, %1\n\t"
            "adcq %4, %2\n\t"
            "adcq %6, %3"
            : "+&r"(t0), "+&r"(t1), "+&r"(t2), "+&r"(t3)
            : "r"(borrow), "r"(borrow & SM2_P1), "r"(borrow & SM2_P3)
            : "cc");
#else
    borrow = sub_borrow(&t0, t0, b[0], 0);
    borrow = sub_borrow(&t1, t1, b[1], borrow);
    borrow = sub_borrow(&t2, t2, b[2], borrow);
    borrow = sub_borrow(&t3, t3, b[3], borrow);
    uint64_t mask = ct_mask(borrow);
    uint64_t carry = add_carry(&t0, t0, mask & SM2_P0, 0);
    carry = add_carry(&t1, t1, mask & SM2_P1, carry);
    carry = add_carry(&t2, t2, mask & SM2_P2, carry);
    (void)add_carry(&t3, t3, mask & SM2_P3, carry);
#endif
    out[0] = t0;
    out[1] = t1;
    out[2] = t2;
    out[3] = t3;
}

static inline void fe_double(fe out, const fe a)
{
    fe_add(out, a, a);
}

static inline void fe_negate(fe out, const fe a)
{
    static const fe zero = {0};
    fe_sub(out, zero, a);
}

static inline void fe_copy(fe out, const fe a)
{
    memcpy(out, a, sizeof(fe));
}

/* out = mask ? a : b */
static inline void fe_select(fe out, uint64_t mask, const fe a, const fe b)
{
    for (int i = 0; i < 4; i++)
        out[i] = b[i] ^ (mask & (a[i] ^ b[i]));
}

static inline uint64_t fe_mask_zero(const fe a)
{
    return ct_mask_zero(a[0] | a[1] | a[2] | a[3]);
}

static inline uint64_t fe_mask_equal(const fe a, const fe b)
{
    return ct_mask_zero((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]));
}

#endif
