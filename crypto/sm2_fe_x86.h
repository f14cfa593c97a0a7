/* crypto/sm2_fe_x86.h - the field of sm2p256v1 on x86-64: four 64-bit limbs.
 *
 * Montgomery form with R = 2^256; elements are always fully reduced, so nothing here is lazy and
 * fe_weak and fe_carry have nothing to do. Products are in sm2_fe_x86.S: with AMI_SM2_ADX those
 * that use mulx, adcx and adox, without it those for any x86-64. (gcc 12 does not find the carry
 * flag behind 128-bit arithmetic; C takes nearly twice as long.) Everything is constant time.
 * Outputs may alias inputs. Private to crypto/; the twin of sm2_fe_portable.h, with the same
 * functions.
 */
#ifndef AMI_CRYPTO_SM2_FE_X86_H
#define AMI_CRYPTO_SM2_FE_X86_H

#include "base/bytes.h"
#include "crypto/limbs.h"

typedef struct fe {
    uint64_t l[4];
} fe;
#define FE_LIMBS 4

static const fe fe_one = {{1, UINT64_C(0xffffffff), 0, UINT64_C(0x100000000)}};
/* 2^512 and 2^768 mod p: what takes integers, and inverses of Montgomery forms, to that form. */
static const fe fe_r2 = {
    {UINT64_C(0x200000003), UINT64_C(0x2ffffffff), UINT64_C(0x100000001), UINT64_C(0x400000002)}};
static const fe fe_r3 = {
    {UINT64_C(0x1200000016), UINT64_C(0xefffffff8), UINT64_C(0xa0000000c), UINT64_C(0x1b00000009)}};
/* The curve's b. */
static const fe fe_b = {{UINT64_C(0x90d230632bc0dd42), UINT64_C(0x71cf379ae9b537ab),
                         UINT64_C(0x527981505ea51c3c), UINT64_C(0x240fe188ba20e2c8)}};

#define FE_P1 UINT64_C(0xffffffff00000000)
#define FE_P3 UINT64_C(0xfffffffeffffffff)

void sm2_fe_mul_adx(uint64_t out[4], const uint64_t a[4], const uint64_t b[4]);
void sm2_fe_sqr_adx(uint64_t out[4], const uint64_t a[4]);
void sm2_fe_mul_x86(uint64_t out[4], const uint64_t a[4], const uint64_t b[4]);
void sm2_fe_sqr_x86(uint64_t out[4], const uint64_t a[4]);

#ifndef AMI_CT_MSAN

/* (t, carry) in [0, 2p) to [0, p): it is kept when it is less than p. */
static inline void fe_reduce_once(fe *out, uint64_t t0, uint64_t t1, uint64_t t2, uint64_t t3,
                                  uint64_t carry)
{
    uint64_t s0 = t0, s1 = t1, s2 = t2, s3 = t3;
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
            : "rm"(t0), "rm"(t1), "rm"(t2), "rm"(t3), "r"(FE_P1), "r"(FE_P3)
            : "cc");
    *out = (fe){{s0, s1, s2, s3}};
}

#ifdef AMI_SM2_ADX
#define FE_MUL sm2_fe_mul_adx
#define FE_SQR sm2_fe_sqr_adx
#else
#define FE_MUL sm2_fe_mul_x86
#define FE_SQR sm2_fe_sqr_x86
#endif

static inline void fe_mul(fe *out, const fe *a, const fe *b)
{
    FE_MUL(out->l, a->l, b->l);
}

static inline void fe_sqr(fe *out, const fe *a)
{
    FE_SQR(out->l, a->l);
}

static inline void fe_add(fe *out, const fe *a, const fe *b)
{
    uint64_t t0 = a->l[0], t1 = a->l[1], t2 = a->l[2], t3 = a->l[3], carry = 0;
    __asm__("addq %5, %0\n\t"
            "adcq %6, %1\n\t"
            "adcq %7, %2\n\t"
            "adcq %8, %3\n\t"
            "adcq $0, %4"
            : "+&r"(t0), "+&r"(t1), "+&r"(t2), "+&r"(t3), "+&r"(carry)
            : "rm"(b->l[0]), "rm"(b->l[1]), "rm"(b->l[2]), "rm"(b->l[3])
            : "cc");
    fe_reduce_once(out, t0, t1, t2, t3, carry);
}

static inline void fe_sub(fe *out, const fe *a, const fe *b)
{
    uint64_t t0 = a->l[0], t1 = a->l[1], t2 = a->l[2], t3 = a->l[3], borrow = 0;
    __asm__("subq %5, %0\n\t"
            "sbbq %6, %1\n\t"
            "sbbq %7, %2\n\t"
            "sbbq %8, %3\n\t"
            "sbbq %4, %4"
            : "+&r"(t0), "+&r"(t1), "+&r"(t2), "+&r"(t3), "+&r"(borrow)
            : "rm"(b->l[0]), "rm"(b->l[1]), "rm"(b->l[2]), "rm"(b->l[3])
            : "cc");
    /* borrow is a mask now: p is added back under it. */
    __asm__("addq %4, %0\n\t"
            "adcq %5, %1\n\t"
            "adcq %4, %2\n\t"
            "adcq %6, %3"
            : "+&r"(t0), "+&r"(t1), "+&r"(t2), "+&r"(t3)
            : "r"(borrow), "r"(borrow & FE_P1), "r"(borrow & FE_P3)
            : "cc");
    *out = (fe){{t0, t1, t2, t3}};
}

#else /* the adx path's without assembly of this header's own, into which MemorySanitizer does not \
         see */

static inline void fe_mul(fe *out, const fe *a, const fe *b)
{
    const struct span parts[] = {span_of(a->l, sizeof a->l), span_of(b->l, sizeof b->l)};
    fe t;
    sm2_fe_mul_adx(t.l, a->l, b->l);
    CT_DERIVED(t.l, sizeof t.l, parts, 2);
    *out = t;
}

static inline void fe_sqr(fe *out, const fe *a)
{
    fe_mul(out, a, a);
}

static inline void fe_add_masked(fe *out, const uint64_t a[4], uint64_t mask)
{
    const uint64_t p[4] = {mask, mask & FE_P1, mask, mask & FE_P3};
    uint64_t carry = 0;
    for (int i = 0; i < 4; i++)
        carry = add_carry(&out->l[i], a[i], p[i], carry);
}

static inline void fe_add(fe *out, const fe *a, const fe *b)
{
    const uint64_t p[4] = {UINT64_MAX, FE_P1, UINT64_MAX, FE_P3};
    uint64_t t[4], carry = 0;
    for (int i = 0; i < 4; i++)
        carry = add_carry(&t[i], a->l[i], b->l[i], carry);
    const uint64_t borrow = limbs_subtract(t, t, p);
    fe_add_masked(out, t, ct_mask(borrow & (1 ^ carry)));
}

static inline void fe_sub(fe *out, const fe *a, const fe *b)
{
    uint64_t t[4];
    const uint64_t borrow = limbs_subtract(t, a->l, b->l);
    fe_add_masked(out, t, ct_mask(borrow));
}

#endif

static inline void fe_double(fe *out, const fe *a)
{
    fe_add(out, a, a);
}

static inline void fe_negate(fe *out, const fe *a)
{
    static const fe zero = {{0}};
    fe_sub(out, &zero, a);
}

static inline void fe_weak(fe *a)
{
    (void)a;
}

static inline void fe_carry(fe *a)
{
    (void)a;
}

/* out = mask ? a : b */
static inline void fe_select(fe *out, uint64_t mask, const fe *a, const fe *b)
{
    for (int i = 0; i < 4; i++)
        out->l[i] = b->l[i] ^ (mask & (a->l[i] ^ b->l[i]));
}

/* To four 64-bit limbs of the one value in [0, p), still in Montgomery form. */
static inline void fe_pack(uint64_t out[4], const fe *a)
{
    for (int i = 0; i < 4; i++)
        out[i] = a->l[i];
}

static inline void fe_unpack(fe *out, const uint64_t in[4])
{
    for (int i = 0; i < 4; i++)
        out->l[i] = in[i];
}

#endif
