/* See openssl_group.h. */
#include "openssl_group.h"

#include <openssl/bn.h>
#include <openssl/evp.h>
#include <openssl/obj_mac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(int good)
{
    if (good == 1)
        return;
    fprintf(stderr, "openssl_group: OpenSSL refuses a call that it has to accept\n");
    abort();
}

void openssl_group_start(struct openssl_group *o)
{
    memset(o, 0, sizeof *o);
    o->group = EC_GROUP_new_by_curve_name(NID_sm2);
    o->ctx = BN_CTX_new();
    must(o->group != NULL && o->ctx != NULL);
    o->n = EC_GROUP_get0_order(o->group);
    o->r = EC_POINT_new(o->group);
    o->q = EC_POINT_new(o->group);
    BIGNUM **scratch[] = {&o->a, &o->b, &o->x, &o->y};
    for (size_t i = 0; i < sizeof scratch / sizeof *scratch; i++) {
        *scratch[i] = BN_new();
        must(*scratch[i] != NULL);
    }
    must(o->n != NULL && o->r != NULL && o->q != NULL);
}

void openssl_group_end(struct openssl_group *o)
{
    BN_free(o->a);
    BN_free(o->b);
    BN_free(o->x);
    BN_free(o->y);
    EC_POINT_free(o->r);
    EC_POINT_free(o->q);
    EC_GROUP_free(o->group);
    BN_CTX_free(o->ctx);
}

/* --- numbers ---------------------------------------------------------------------------------- */

static void bytes_of_limbs(uint8_t out[32], const uint64_t w[4])
{
    for (int i = 0; i < 4; i++)
        store_be64(out + 24 - 8 * i, w[i]);
}

static void bn_of_limbs(BIGNUM *out, const uint64_t w[4])
{
    uint8_t b[32];
    bytes_of_limbs(b, w);
    must(BN_bin2bn(b, sizeof b, out) != NULL);
}

static void limbs_of_bn(uint64_t w[4], const BIGNUM *in)
{
    uint8_t b[32];
    must(BN_bn2binpad(in, b, sizeof b) == sizeof b);
    for (int i = 0; i < 4; i++)
        w[i] = load_be64(b + 24 - 8 * i);
}

void openssl_xy(uint8_t out[SM2_XY_BYTES], const point *p)
{
    bytes_of_limbs(out, p->x);
    bytes_of_limbs(out + 32, p->y);
}

void openssl_scalar_bytes(uint8_t out[SM2_SCALAR_BYTES], const scalar *k)
{
    bytes_of_limbs(out, k->w);
}

static scalar scalar_of_bn(const BIGNUM *in)
{
    scalar out;
    limbs_of_bn(out.w, in);
    return out;
}

scalar openssl_scalar_add(struct openssl_group *o, const scalar *a, const scalar *b)
{
    bn_of_limbs(o->a, a->w);
    bn_of_limbs(o->b, b->w);
    must(BN_mod_add(o->x, o->a, o->b, o->n, o->ctx));
    return scalar_of_bn(o->x);
}

scalar openssl_scalar_sub(struct openssl_group *o, const scalar *a, const scalar *b)
{
    bn_of_limbs(o->a, a->w);
    bn_of_limbs(o->b, b->w);
    must(BN_mod_sub(o->x, o->a, o->b, o->n, o->ctx));
    return scalar_of_bn(o->x);
}

scalar openssl_scalar_mul(struct openssl_group *o, const scalar *a, const scalar *b)
{
    bn_of_limbs(o->a, a->w);
    bn_of_limbs(o->b, b->w);
    must(BN_mod_mul(o->x, o->a, o->b, o->n, o->ctx));
    return scalar_of_bn(o->x);
}

scalar openssl_scalar_inverse(struct openssl_group *o, const scalar *a)
{
    bn_of_limbs(o->a, a->w);
    if (BN_is_zero(o->a))
        return (scalar){{0}};
    must(BN_mod_inverse(o->x, o->a, o->n, o->ctx) != NULL);
    return scalar_of_bn(o->x);
}

scalar openssl_scalar_reduce(struct openssl_group *o, const void *bytes, size_t size)
{
    must(BN_bin2bn(bytes, (int)size, o->a) != NULL);
    must(BN_nnmod(o->x, o->a, o->n, o->ctx));
    return scalar_of_bn(o->x);
}

/* --- points ----------------------------------------------------------------------------------- */

static bool limbs_are_zero(const uint64_t w[4])
{
    return (w[0] | w[1] | w[2] | w[3]) == 0;
}

/* OpenSSL checks that the point is on the curve. */
static void put_point(struct openssl_group *o, EC_POINT *out, const point *p)
{
    if (limbs_are_zero(p->x) && limbs_are_zero(p->y)) {
        must(EC_POINT_set_to_infinity(o->group, out));
        return;
    }
    bn_of_limbs(o->x, p->x);
    bn_of_limbs(o->y, p->y);
    must(EC_POINT_set_affine_coordinates(o->group, out, o->x, o->y, o->ctx));
}

static point get_point(struct openssl_group *o, const EC_POINT *in)
{
    point out = {{0}, {0}};
    if (EC_POINT_is_at_infinity(o->group, in))
        return out;
    must(EC_POINT_get_affine_coordinates(o->group, in, o->x, o->y, o->ctx));
    limbs_of_bn(out.x, o->x);
    limbs_of_bn(out.y, o->y);
    return out;
}

point openssl_mul_base(struct openssl_group *o, const scalar *k)
{
    bn_of_limbs(o->a, k->w);
    must(EC_POINT_mul(o->group, o->r, o->a, NULL, NULL, o->ctx));
    return get_point(o, o->r);
}

point openssl_mul(struct openssl_group *o, const scalar *k, const point *p)
{
    put_point(o, o->q, p);
    bn_of_limbs(o->a, k->w);
    must(EC_POINT_mul(o->group, o->r, NULL, o->q, o->a, o->ctx));
    return get_point(o, o->r);
}

point openssl_mul_add(struct openssl_group *o, const scalar *a, const scalar *b, const point *p)
{
    put_point(o, o->q, p);
    bn_of_limbs(o->a, a->w);
    bn_of_limbs(o->b, b->w);
    must(EC_POINT_mul(o->group, o->r, o->a, o->q, o->b, o->ctx));
    return get_point(o, o->r);
}

point openssl_add(struct openssl_group *o, const point *a, const point *b)
{
    put_point(o, o->r, a);
    put_point(o, o->q, b);
    must(EC_POINT_add(o->group, o->r, o->r, o->q, o->ctx));
    return get_point(o, o->r);
}

point openssl_negate(struct openssl_group *o, const point *a)
{
    put_point(o, o->r, a);
    must(EC_POINT_invert(o->group, o->r, o->ctx));
    return get_point(o, o->r);
}

bool openssl_decode(struct openssl_group *o, point *out, const point_bytes *in)
{
    memset(out, 0, sizeof *out);
    if (EC_POINT_oct2point(o->group, o->r, in->b, sizeof in->b, o->ctx) != 1)
        return false;
    *out = get_point(o, o->r);
    return true;
}

/* --- signatures ------------------------------------------------------------------------------- */

static bool in_range(struct openssl_group *o, const BIGNUM *v)
{
    return !BN_is_zero(v) && BN_cmp(v, o->n) < 0;
}

bool openssl_verify(struct openssl_group *o, const point *p, const sm3_digest *e,
                    const sm2_signature *sig, point *out)
{
    BIGNUM *r = o->a, *s = o->b;
    put_point(o, o->q, p);
    if (EC_POINT_is_at_infinity(o->group, o->q))
        return false;
    must(BN_bin2bn(sig->b, 32, r) != NULL && BN_bin2bn(sig->b + 32, 32, s) != NULL);
    if (!in_range(o, r) || !in_range(o, s))
        return false;
    must(BN_mod_add(o->x, r, s, o->n, o->ctx));
    if (BN_is_zero(o->x))
        return false;
    must(EC_POINT_mul(o->group, o->r, s, o->q, o->x, o->ctx));
    if (EC_POINT_is_at_infinity(o->group, o->r))
        return false;
    must(EC_POINT_get_affine_coordinates(o->group, o->r, o->x, NULL, o->ctx));
    must(BN_bin2bn(e->b, sizeof e->b, o->y) != NULL);
    must(BN_mod_add(o->x, o->x, o->y, o->n, o->ctx));
    if (BN_cmp(o->x, r) != 0)
        return false;
    if (out != NULL)
        *out = get_point(o, o->r);
    return true;
}

bool openssl_sign(struct openssl_group *o, sm2_signature *out, const scalar *d, const sm3_digest *e,
                  const scalar *k)
{
    static const scalar zero = {{0}}, one = {{1}};
    memset(out, 0, sizeof *out);
    point kg = openssl_mul_base(o, k);
    uint8_t xy[SM2_XY_BYTES];
    openssl_xy(xy, &kg);
    scalar x1 = openssl_scalar_reduce(o, xy, 32), e_mod_n = openssl_scalar_reduce(o, e->b, 32);
    scalar r = openssl_scalar_add(o, &e_mod_n, &x1), r_plus_k = openssl_scalar_add(o, &r, k);
    scalar d_plus_1 = openssl_scalar_add(o, d, &one), s = openssl_scalar_mul(o, &r, d);
    s = openssl_scalar_sub(o, k, &s);
    d_plus_1 = openssl_scalar_inverse(o, &d_plus_1);
    s = openssl_scalar_mul(o, &d_plus_1, &s);
    const scalar *refused[] = {k, &r, &r_plus_k, &s};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (memcmp(refused[i], &zero, sizeof zero) == 0)
            return false;
    openssl_scalar_bytes(out->b, &r);
    openssl_scalar_bytes(out->b + 32, &s);
    return true;
}

/* --- SM3 -------------------------------------------------------------------------------------- */

sm3_digest openssl_sm3(const struct span *parts, size_t count)
{
    sm3_digest out;
    unsigned size = 0;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    must(ctx != NULL);
    must(EVP_DigestInit_ex(ctx, EVP_sm3(), NULL));
    for (size_t i = 0; i < count; i++)
        must(EVP_DigestUpdate(ctx, parts[i].data, parts[i].size));
    must(EVP_DigestFinal_ex(ctx, out.b, &size));
    must(size == sizeof out.b);
    EVP_MD_CTX_free(ctx);
    return out;
}

void openssl_kdf(uint8_t *out, size_t size, const struct span *parts, size_t count)
{
    struct span all[8];
    uint8_t counter_be[4];
    must(count < sizeof all / sizeof *all);
    memcpy(all, parts, count * sizeof *parts);
    all[count] = span_of(counter_be, sizeof counter_be);
    for (uint32_t counter = 1; size > 0; counter++) {
        store_be32(counter_be, counter);
        sm3_digest block = openssl_sm3(all, count + 1);
        size_t take = size < sizeof block.b ? size : sizeof block.b;
        memcpy(out, block.b, take);
        out += take;
        size -= take;
    }
}
