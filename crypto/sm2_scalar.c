/* Integers modulo the order n of the curve's group, plain form outside, Montgomery products inside.
 * Constant time throughout. */
#include "crypto/limbs.h"
#include "crypto/secret.h"
#include "crypto/sm2_group.h"
#include "crypto/sm2_inverse.h"

/* n, -1/n mod 2^64, 2^512 mod n. */
static const uint64_t order[4] = SM2_ORDER_LIMBS;
static const uint64_t order_minus_inverse = UINT64_C(0x327f9e8872350975);
static const scalar r_squared = {{UINT64_C(0x901192af7c114f20), UINT64_C(0x3464504ade6fa2fa),
                                  UINT64_C(0x620fc84c3affe0d4), UINT64_C(0x1eb5e412a22b3d3b)}};

/* (t, carry) in [0, 2n) to [0, n). */
static scalar reduce_once(const uint64_t t[4], uint64_t carry)
{
    uint64_t s[4], borrow = 0;
    for (int i = 0; i < 4; i++)
        borrow = sub_borrow(&s[i], t[i], order[i], borrow);
    uint64_t keep = ct_mask(borrow & (1 ^ carry));
    scalar out;
    for (int i = 0; i < 4; i++)
        out.w[i] = s[i] ^ (keep & (s[i] ^ t[i]));
    return out;
}

/* a b 2^-256 mod n. */
static scalar montgomery_mul(const scalar *a, const scalar *b)
{
    uint64_t t[6] = {0};
    for (int i = 0; i < 4; i++) {
        uint64_t carry = 0;
        for (int j = 0; j < 4; j++) {
            limb_pair d = (limb_pair)a->w[i] * b->w[j] + t[j] + carry;
            t[j] = (uint64_t)d;
            carry = (uint64_t)(d >> 64);
        }
        t[5] = add_carry(&t[4], t[4], carry, 0);

        uint64_t m = t[0] * order_minus_inverse;
        carry = (uint64_t)(((limb_pair)m * order[0] + t[0]) >> 64);
        for (int j = 1; j < 4; j++) {
            limb_pair d = (limb_pair)m * order[j] + t[j] + carry;
            t[j - 1] = (uint64_t)d;
            carry = (uint64_t)(d >> 64);
        }
        carry = add_carry(&t[3], t[4], carry, 0);
        t[4] = t[5] + carry;
    }
    return reduce_once(t, t[4]);
}

static uint64_t mask_zero(const scalar *a)
{
    return ct_mask_zero(a->w[0] | a->w[1] | a->w[2] | a->w[3]);
}

static scalar from_bytes(const uint8_t in[32])
{
    scalar out;
    for (int i = 0; i < 4; i++)
        out.w[i] = load_be64(in + 24 - 8 * i);
    return out;
}

enum ami_status scalar_decode(scalar *out, const uint8_t in[SM2_SCALAR_BYTES])
{
    scalar t = from_bytes(in);
    uint64_t ignored, borrow = 0;
    for (int i = 0; i < 4; i++)
        borrow = sub_borrow(&ignored, t.w[i], order[i], borrow);
    uint64_t good = ct_mask(borrow) & ~mask_zero(&t);
    for (int i = 0; i < 4; i++)
        out->w[i] = t.w[i] & good;
    secret_wipe(&t, sizeof t);
    /* Whether an input was refused is public. */
    return ct_reveal(good) ? AMI_OK : AMI_BAD_CRYPTO;
}

void scalar_encode(uint8_t out[SM2_SCALAR_BYTES], const scalar *k)
{
    for (int i = 0; i < 4; i++)
        store_be64(out + 24 - 8 * i, k->w[i]);
}

scalar scalar_reduce(const uint8_t in[32])
{
    scalar t = from_bytes(in);
    return reduce_once(t.w, 0); /* 2^256 < 2n */
}

scalar scalar_from_wide(const uint8_t in[SM2_WIDE_BYTES])
{
    scalar high = {{load_be64(in + 8), load_be64(in), 0, 0}};
    scalar low = scalar_reduce(in + 16);
    high = montgomery_mul(&high, &r_squared); /* high 2^256 */
    scalar out = scalar_add(&high, &low);
    /* Zero, which comes with probability 2^-256, becomes one. */
    out.w[0] |= mask_zero(&out) & 1;
    return out;
}

scalar scalar_add(const scalar *a, const scalar *b)
{
    uint64_t t[4], carry = 0;
    for (int i = 0; i < 4; i++)
        carry = add_carry(&t[i], a->w[i], b->w[i], carry);
    return reduce_once(t, carry);
}

scalar scalar_sub(const scalar *a, const scalar *b)
{
    scalar out;
    uint64_t borrow = 0, carry = 0;
    for (int i = 0; i < 4; i++)
        borrow = sub_borrow(&out.w[i], a->w[i], b->w[i], borrow);
    uint64_t mask = ct_mask(borrow);
    for (int i = 0; i < 4; i++)
        carry = add_carry(&out.w[i], out.w[i], mask & order[i], carry);
    return out;
}

scalar scalar_mul(const scalar *a, const scalar *b)
{
    scalar t = montgomery_mul(a, b);
    return montgomery_mul(&t, &r_squared);
}

scalar scalar_inverse(const scalar *a)
{
    scalar out;
    inverse_mod_n(out.w, a->w);
    return out;
}

#define INVERSE_CHUNK 32

/* Montgomery's trick; a zero takes part as a one and is put back. */
void scalar_inverse_batch(scalar *out, const scalar *in, size_t count)
{
    scalar value[INVERSE_CHUNK], product[INVERSE_CHUNK], inverse, t;
    uint64_t zero[INVERSE_CHUNK];
    for (size_t done = 0; done < count; done += INVERSE_CHUNK) {
        const size_t size = count - done < INVERSE_CHUNK ? count - done : INVERSE_CHUNK;
        for (size_t i = 0; i < size; i++) {
            value[i] = in[done + i];
            zero[i] = mask_zero(&value[i]);
            value[i].w[0] |= zero[i] & 1;
            product[i] = i == 0 ? value[0] : scalar_mul(&product[i - 1], &value[i]);
        }
        inverse = scalar_inverse(&product[size - 1]);
        for (size_t i = size; i-- > 0;) {
            t = i == 0 ? inverse : scalar_mul(&inverse, &product[i - 1]);
            inverse = scalar_mul(&inverse, &value[i]);
            for (int j = 0; j < 4; j++)
                out[done + i].w[j] = t.w[j] & ~zero[i];
        }
    }
    secret_wipe(value, sizeof value);
    secret_wipe(product, sizeof product);
    secret_wipe(&inverse, sizeof inverse);
    secret_wipe(&t, sizeof t);
}

bool scalar_is_zero(const scalar *a)
{
    return mask_zero(a) != 0;
}

bool scalar_equal(const scalar *a, const scalar *b)
{
    uint64_t difference = 0;
    for (int i = 0; i < 4; i++)
        difference |= a->w[i] ^ b->w[i];
    return ct_mask_zero(difference) != 0;
}
