/* Montgomery arithmetic modulo p.
 *
 * p = -1 modulo 2^64, so Montgomery's constant is 1 and the multiple of p that clears a low limb m
 * is m p itself: (m + m p) / 2^64 = m + m 2^192 - m 2^32 - m 2^160. One step of the reduction
 * is therefore ten additions and subtractions and no multiplication.
 */
#include "crypto/sm2_field.h"

#include "base/bytes.h"

const fe fe_one = {UINT64_C(1), UINT64_C(0xffffffff), 0, UINT64_C(0x100000000)};
const fe fe_b = {UINT64_C(0x90d230632bc0dd42), UINT64_C(0x71cf379ae9b537ab),
                 UINT64_C(0x527981505ea51c3c), UINT64_C(0x240fe188ba20e2c8)};
/* 2^512 mod p: a multiplication by it takes an integer to Montgomery form. */
static const fe r_squared = {UINT64_C(0x0000000200000003), UINT64_C(0x00000002ffffffff),
                             UINT64_C(0x0000000100000001), UINT64_C(0x0000000400000002)};

/* (t1, t2, t3, t4, t5) += (m + m p) / 2^64 for the limb m below t1; t5 takes the carry. The value
 * added is not negative, so the final borrow never exceeds what the additions carried. */
static inline void clear_limb(uint64_t m, uint64_t *t1, uint64_t *t2, uint64_t *t3, uint64_t *t4,
                              uint64_t *t5)
{
    uint64_t low = m << 32, high = m >> 32;
#if SM2_X86_64
    __asm__("addq %5, %0\n\t"
            "adcq $0, %1\n\t"
            "adcq $0, %2\n\t"
            "adcq %5, %3\n\t"
            "adcq $0, %4\n\t"
            "subq %6, %0\n\t"
            "sbbq %7, %1\n\t"
            "sbbq %6, %2\n\t"
            "sbbq %7, %3\n\t"
            "sbbq $0, %4"
            : "+&r"(*t1), "+&r"(*t2), "+&r"(*t3), "+&r"(*t4), "+&r"(*t5)
            : "r"(m), "r"(low), "r"(high)
            : "cc");
#else
    uint64_t carry = add_carry(t1, *t1, m, 0);
    carry = add_carry(t2, *t2, 0, carry);
    carry = add_carry(t3, *t3, 0, carry);
    carry = add_carry(t4, *t4, m, carry);
    *t5 += carry;
    uint64_t borrow = sub_borrow(t1, *t1, low, 0);
    borrow = sub_borrow(t2, *t2, high, borrow);
    borrow = sub_borrow(t3, *t3, low, borrow);
    borrow = sub_borrow(t4, *t4, high, borrow);
    *t5 -= borrow;
#endif
}

/* (t0..t4, t5) += a b 2^0 for one limb a; t5 is set to the carry out of t4. */
static inline void add_row(uint64_t a, const fe b, uint64_t *t0, uint64_t *t1, uint64_t *t2,
                           uint64_t *t3, uint64_t *t4, uint64_t *t5)
{
    u128 d = (u128)a * b[0] + *t0;
    *t0 = (uint64_t)d;
    d = (u128)a * b[1] + *t1 + (uint64_t)(d >> 64);
    *t1 = (uint64_t)d;
    d = (u128)a * b[2] + *t2 + (uint64_t)(d >> 64);
    *t2 = (uint64_t)d;
    d = (u128)a * b[3] + *t3 + (uint64_t)(d >> 64);
    *t3 = (uint64_t)d;
    d = (u128)*t4 + (uint64_t)(d >> 64);
    *t4 = (uint64_t)d;
    *t5 = (uint64_t)(d >> 64);
}

/* Rows and reduction steps in turn; the six limbs rotate their roles. Before each row the value is
 * below 2p, after the row below 2p + 2^64 p, after its reduction below 2p again. */
void fe_mul(fe out, const fe a, const fe b)
{
    uint64_t t0 = 0, t1 = 0, t2 = 0, t3 = 0, t4 = 0, t5 = 0;
    add_row(a[0], b, &t0, &t1, &t2, &t3, &t4, &t5);
    clear_limb(t0, &t1, &t2, &t3, &t4, &t5);
    add_row(a[1], b, &t1, &t2, &t3, &t4, &t5, &t0);
    clear_limb(t1, &t2, &t3, &t4, &t5, &t0);
    add_row(a[2], b, &t2, &t3, &t4, &t5, &t0, &t1);
    clear_limb(t2, &t3, &t4, &t5, &t0, &t1);
    add_row(a[3], b, &t3, &t4, &t5, &t0, &t1, &t2);
    clear_limb(t3, &t4, &t5, &t0, &t1, &t2);
    fe t = {t4, t5, t0, t1};
    fe_reduce_once(out, t, t2);
}

/* The 512-bit value t, below p 2^256, times 2^-256 modulo p. Reducing the low half by itself gives
 * at most p, so its steps carry nothing out of their four limbs. */
static inline void reduce_wide(fe out, const uint64_t t[8])
{
    uint64_t l1 = t[1], l2 = t[2], l3 = t[3], s0 = 0, s1 = 0, s2 = 0, s3 = 0, none = 0;
    clear_limb(t[0], &l1, &l2, &l3, &s0, &none);
    clear_limb(l1, &l2, &l3, &s0, &s1, &none);
    clear_limb(l2, &l3, &s0, &s1, &s2, &none);
    clear_limb(l3, &s0, &s1, &s2, &s3, &none);
    fe sum;
    uint64_t carry = add_carry(&sum[0], t[4], s0, 0);
    carry = add_carry(&sum[1], t[5], s1, carry);
    carry = add_carry(&sum[2], t[6], s2, carry);
    carry = add_carry(&sum[3], t[7], s3, carry);
    fe_reduce_once(out, sum, carry);
}

void fe_sqr(fe out, const fe a)
{
    uint64_t t[8];
    /* The six products of different limbs, doubled by a shift, then the four squares. */
    u128 d = (u128)a[0] * a[1];
    t[1] = (uint64_t)d;
    d = (u128)a[0] * a[2] + (uint64_t)(d >> 64);
    t[2] = (uint64_t)d;
    d = (u128)a[0] * a[3] + (uint64_t)(d >> 64);
    t[3] = (uint64_t)d;
    t[4] = (uint64_t)(d >> 64);
    d = (u128)a[1] * a[2] + t[3];
    t[3] = (uint64_t)d;
    d = (u128)a[1] * a[3] + t[4] + (uint64_t)(d >> 64);
    t[4] = (uint64_t)d;
    t[5] = (uint64_t)(d >> 64);
    d = (u128)a[2] * a[3] + t[5];
    t[5] = (uint64_t)d;
    t[6] = (uint64_t)(d >> 64);

    t[7] = t[6] >> 63;
    t[6] = t[6] << 1 | t[5] >> 63;
    t[5] = t[5] << 1 | t[4] >> 63;
    t[4] = t[4] << 1 | t[3] >> 63;
    t[3] = t[3] << 1 | t[2] >> 63;
    t[2] = t[2] << 1 | t[1] >> 63;
    t[1] = t[1] << 1;

    d = (u128)a[0] * a[0];
    t[0] = (uint64_t)d;
    uint64_t carry = add_carry(&t[1], t[1], (uint64_t)(d >> 64), 0);
    d = (u128)a[1] * a[1];
    carry = add_carry(&t[2], t[2], (uint64_t)d, carry);
    carry = add_carry(&t[3], t[3], (uint64_t)(d >> 64), carry);
    d = (u128)a[2] * a[2];
    carry = add_carry(&t[4], t[4], (uint64_t)d, carry);
    carry = add_carry(&t[5], t[5], (uint64_t)(d >> 64), carry);
    d = (u128)a[3] * a[3];
    carry = add_carry(&t[6], t[6], (uint64_t)d, carry);
    (void)add_carry(&t[7], t[7], (uint64_t)(d >> 64), carry);
    reduce_wide(out, t);
}

static void sqr_times(fe out, const fe a, unsigned count)
{
    fe_sqr(out, a);
    for (unsigned i = 1; i < count; i++)
        fe_sqr(out, out);
}

/* (p - 3) / 4 in binary: 31 ones, a zero, 128 ones, 32 zeros, 62 ones. xN below is a to the power
 * of N ones. */
void fe_pow_p34(fe out, const fe a)
{
    fe x2, x3, x6, x12, x15, x30, x31, x32, t;
    sqr_times(x2, a, 1);
    fe_mul(x2, x2, a);
    sqr_times(x3, x2, 1);
    fe_mul(x3, x3, a);
    sqr_times(x6, x3, 3);
    fe_mul(x6, x6, x3);
    sqr_times(x12, x6, 6);
    fe_mul(x12, x12, x6);
    sqr_times(x15, x12, 3);
    fe_mul(x15, x15, x3);
    sqr_times(x30, x15, 15);
    fe_mul(x30, x30, x15);
    sqr_times(x31, x30, 1);
    fe_mul(x31, x31, a);
    sqr_times(x32, x31, 1);
    fe_mul(x32, x32, a);

    sqr_times(t, x31, 1);
    for (int i = 0; i < 4; i++) {
        sqr_times(t, t, 32);
        fe_mul(t, t, x32);
    }
    sqr_times(t, t, 64);
    fe_mul(t, t, x32);
    sqr_times(t, t, 30);
    fe_mul(out, t, x30);
}

void fe_inverse(fe out, const fe a)
{
    /* p - 2 = 4 (p - 3) / 4 + 1 */
    fe t;
    fe_pow_p34(t, a);
    sqr_times(t, t, 2);
    fe_mul(out, t, a);
}

uint64_t fe_sqrt(fe out, const fe a)
{
    /* (p + 1) / 4 = (p - 3) / 4 + 1 */
    fe root, check;
    fe_pow_p34(root, a);
    fe_mul(root, root, a);
    fe_sqr(check, root);
    uint64_t good = fe_mask_equal(check, a);
    fe_copy(out, root);
    return good;
}

void fe_from_limbs(fe out, const uint64_t in[4])
{
    fe_mul(out, in, r_squared);
}

static void limbs_from_bytes(uint64_t out[4], const uint8_t in[32])
{
    for (int i = 0; i < 4; i++)
        out[i] = load_be64(in + 24 - 8 * i);
}

uint64_t fe_from_bytes(fe out, const uint8_t in[32])
{
    fe t, ignored;
    limbs_from_bytes(t, in);
    uint64_t borrow = sub_borrow(&ignored[0], t[0], SM2_P0, 0);
    borrow = sub_borrow(&ignored[1], t[1], SM2_P1, borrow);
    borrow = sub_borrow(&ignored[2], t[2], SM2_P2, borrow);
    borrow = sub_borrow(&ignored[3], t[3], SM2_P3, borrow);
    uint64_t in_range = ct_mask(borrow);
    for (int i = 0; i < 4; i++)
        t[i] &= in_range;
    fe_from_limbs(out, t);
    return in_range;
}

static void from_montgomery(fe out, const fe a)
{
    static const fe plain_one = {1};
    fe_mul(out, a, plain_one);
}

void fe_to_bytes(uint8_t out[32], const fe a)
{
    fe t;
    from_montgomery(t, a);
    for (int i = 0; i < 4; i++)
        store_be64(out + 24 - 8 * i, t[i]);
}

uint64_t fe_is_odd(const fe a)
{
    fe t;
    from_montgomery(t, a);
    return t[0] & 1;
}

void fe_from_wide(fe out, const uint8_t in[48])
{
    fe high = {load_be64(in + 8), load_be64(in), 0, 0};
    fe low, t;
    limbs_from_bytes(t, in + 16);
    fe_reduce_once(low, t, 0); /* 2^256 < 2p */
    /* high 2^256 + low: the high part gets its factor 2^256 by a second conversion. */
    fe_mul(high, high, r_squared);
    fe_add(low, high, low);
    fe_mul(out, low, r_squared);
}
