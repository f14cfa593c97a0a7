/* Hash to curve, RFC 9380: expand_message_xmd (5.3.1) with SM3, hash_to_field (5.2) with m = 1 and
 * L = 48, the simplified SWU map (6.6.2, written as in appendix F.2) with Z = -9, two maps added
 * (random-oracle variant, section 3). The cofactor is 1, so nothing is cleared. */
#include "crypto/sm2_fe.h"
#include "crypto/sm2_group.h"

#include "base/check.h"
#include "crypto/sm3.h"

#include <string.h>

#define FIELD_BYTES  48 /* L = ceil((256 + 128) / 8) */
#define EXPAND_BYTES (2 * FIELD_BYTES)
#define BLOCK_BYTES  64 /* SM3's input block */

static void expand_message(uint8_t out[EXPAND_BYTES], const struct span *parts, size_t count,
                           struct span dst)
{
    static const uint8_t zero_block[BLOCK_BYTES];
    static const uint8_t length_and_zero[3] = {0, EXPAND_BYTES, 0};
    AMI_CHECK(dst.size <= 255 && count <= SM3_PARTS_MAX - 4);
    const uint8_t dst_size = (uint8_t)dst.size;
    struct span all[SM3_PARTS_MAX];
    size_t used = 0;
    all[used++] = span_of(zero_block, sizeof zero_block);
    for (size_t i = 0; i < count; i++)
        all[used++] = parts[i];
    all[used++] = span_of(length_and_zero, sizeof length_and_zero);
    all[used++] = dst;
    all[used++] = span_of(&dst_size, 1);
    const sm3_digest b0 = sm3_parts(all, used);

    sm3_digest previous = {{0}};
    for (uint8_t i = 1; i <= EXPAND_BYTES / SM3_BYTES; i++) {
        sm3_digest mixed; /* b_0 itself for the first block */
        for (size_t j = 0; j < SM3_BYTES; j++)
            mixed.b[j] = b0.b[j] ^ previous.b[j];
        struct span block[] = {span_of(mixed.b, SM3_BYTES), span_of(&i, 1), dst,
                               span_of(&dst_size, 1)};
        previous = sm3_parts(block, 4);
        memcpy(out + (i - 1) * SM3_BYTES, previous.b, SM3_BYTES);
    }
}

/* A 384-bit big-endian integer modulo p. */
static void fe_from_wide(fe *out, const uint8_t in[FIELD_BYTES])
{
    /* 2^256 modulo p */
    static const uint64_t two_256[4] = {1, UINT64_C(0xffffffff), 0, UINT64_C(0x100000000)};
    const uint64_t high_limbs[4] = {load_be64(in + 8), load_be64(in), 0, 0};
    uint64_t low_limbs[4];
    fe high, shift, low;
    for (int i = 0; i < 4; i++)
        low_limbs[i] = load_be64(in + 40 - 8 * i);
    fe_from_plain(&high, high_limbs);
    fe_from_plain(&shift, two_256);
    fe_from_plain(&low, low_limbs); /* below 2^256, which is as good as below p here */
    fe_mul(&high, &high, &shift);
    fe_add(out, &high, &low);
    fe_weak(out);
}

/* 1 when the element's integer is odd. */
static uint64_t fe_is_odd(const fe *a)
{
    uint64_t plain[4];
    fe_to_plain(plain, a);
    return plain[0] & 1;
}

static void times_three(fe *out, const fe *a)
{
    fe t;
    fe_double(&t, a);
    fe_add(out, &t, a);
    fe_weak(out);
    fe_carry(out); /* three of these in a row would outgrow the limbs */
}

/* appendix F.2.1.2, sqrt_ratio for q = 3 mod 4: a root of u / v if there is one (mask), else of
 * Z u / v. sqrt(-Z) = 3. */
static uint64_t sqrt_ratio(fe *out, const fe *u, const fe *v)
{
    fe uv, t, y1, y2, check;
    fe_sqr(&t, v);
    fe_mul(&uv, u, v);
    fe_mul(&t, &t, &uv); /* u v^3 */
    fe_pow_p34(&y1, &t);
    fe_mul(&y1, &y1, &uv);
    times_three(&y2, &y1);
    fe_sqr(&check, &y1);
    fe_mul(&check, &check, v);
    const uint64_t is_square = fe_mask_equal(&check, u);
    fe_select(out, is_square, &y1, &y2);
    return is_square;
}

static void times_minus_three(fe *out, const fe *a)
{
    times_three(out, a);
    fe_negate(out, out);
}

static void times_minus_nine(fe *out, const fe *a)
{
    times_three(out, a);
    times_minus_three(out, out);
}

/* appendix F.2; variables are named as there. Sums are weakened before they enter a product. */
static point map_to_curve(const fe *u)
{
    fe tv1, tv2, tv3, tv4, tv5, tv6, x, y, y1, t;
    point out;
    fe_sqr(&tv1, u);
    times_minus_nine(&tv1, &tv1);
    fe_sqr(&tv2, &tv1);
    fe_add(&tv2, &tv2, &tv1);
    fe_add(&tv3, &tv2, &fe_one);
    fe_mul(&tv3, &tv3, &fe_b);
    times_minus_nine(&tv4, &fe_one);
    fe_negate(&t, &tv2);
    fe_select(&tv4, fe_mask_zero(&tv2), &tv4, &t);
    times_minus_three(&tv4, &tv4);
    fe_sqr(&tv2, &tv3);
    fe_sqr(&tv6, &tv4);
    times_minus_three(&tv5, &tv6);
    fe_add(&tv2, &tv2, &tv5);
    fe_mul(&tv2, &tv2, &tv3);
    fe_mul(&tv6, &tv6, &tv4);
    fe_mul(&tv5, &tv6, &fe_b);
    fe_add(&tv2, &tv2, &tv5);
    fe_mul(&x, &tv1, &tv3);
    const uint64_t is_square = sqrt_ratio(&y1, &tv2, &tv6);
    fe_mul(&y, &tv1, u);
    fe_mul(&y, &y, &y1);
    fe_select(&x, is_square, &tv3, &x);
    fe_select(&y, is_square, &y1, &y);
    fe_negate(&t, &y);
    fe_select(&y, ct_mask(fe_is_odd(u) ^ fe_is_odd(&y)), &t, &y);
    fe_inverse(&tv4, &tv4);
    fe_mul(&x, &x, &tv4);
    fe_to_plain(out.x, &x);
    fe_to_plain(out.y, &y);
    return out;
}

point point_hash_to_curve(const struct span *parts, size_t count, struct span dst)
{
    uint8_t uniform[EXPAND_BYTES];
    expand_message(uniform, parts, count, dst);
    fe u0, u1;
    fe_from_wide(&u0, uniform);
    fe_from_wide(&u1, uniform + FIELD_BYTES);
    const point q0 = map_to_curve(&u0), q1 = map_to_curve(&u1);
    return point_add(&q0, &q1);
}
