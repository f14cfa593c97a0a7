/* SM2 signatures, implicit certificates, encryption, key exchange over the group engine.
 *
 * Names of values are the standards': e, k, r, s, Z, lambda, t, W, U_A, x', V.
 */
#include "crypto/sm2.h"

#include "base/check.h"
#include "crypto/secret.h"
#include "crypto/sm2_jacobian.h"

#define ID_BYTES_MAX 8191 /* ENTL counts bits in two bytes */

/* --- digests ---------------------------------------------------------------------------------- */

sm3_digest sm2_z(struct span id, const point *p)
{
    AMI_CHECK(id.size <= ID_BYTES_MAX);
    uint8_t entl_be[2], a_be[32], b_be[32], g_xy[SM2_XY_BYTES], p_xy[SM2_XY_BYTES];
    store_be16(entl_be, (uint16_t)(id.size * 8));
    fe a;
    fe_negate(a, fe_one);
    fe_sub(a, a, fe_one);
    fe_sub(a, a, fe_one);
    fe_to_bytes(a_be, a); /* -3 */
    fe_to_bytes(b_be, fe_b);
    point_xy(g_xy, point_generator());
    point_xy(p_xy, p);
    struct span parts[] = {span_of(entl_be, sizeof entl_be), id,
                           span_of(a_be, sizeof a_be),       span_of(b_be, sizeof b_be),
                           span_of(g_xy, sizeof g_xy),       span_of(p_xy, sizeof p_xy)};
    return sm3_parts(parts, 6);
}

sm3_digest sm2_digest(const sm3_digest *z, const struct span *parts, size_t count)
{
    AMI_CHECK(count <= SM3_PARTS_MAX - 1);
    struct span all[SM3_PARTS_MAX];
    all[0] = span_of(z->b, sizeof z->b);
    for (size_t i = 0; i < count; i++)
        all[1 + i] = parts[i];
    return sm3_parts(all, count + 1);
}

/* x mod n for the x of a finite point, as bytes at the start of its xy. */
static scalar x_mod_n(const point *p)
{
    uint8_t xy[SM2_XY_BYTES];
    point_xy(xy, p);
    return scalar_reduce(xy);
}

static uint64_t scalar_mask_zero(const scalar *a)
{
    return ct_mask_zero(a->w[0] | a->w[1] | a->w[2] | a->w[3]);
}

/* --- signatures, GB/T 32918.2 ----------------------------------------------------------------- */

enum ami_status sm2_private_init(sm2_private *out, const scalar *d)
{
    static const scalar one = {{1}};
    scalar d_plus_1 = scalar_add(d, &one);
    uint64_t bad = scalar_mask_zero(d) | scalar_mask_zero(&d_plus_1);
    memset(out, 0, sizeof *out);
    /* Whether a key was refused is public. */
    if (ct_reveal(bad))
        return AMI_BAD_CRYPTO;
    out->d = *d;
    out->inverse_1_plus_d = scalar_inverse(&d_plus_1);
    out->p = point_mul_base(d);
    secret_wipe(&d_plus_1, sizeof d_plus_1);
    return AMI_OK;
}

/* Hedged nonce: an expansion of (label, random, context..., attempt) under HMAC with the secret
 * key given. A random source that repeats or is known does not make two messages share a nonce,
 * and a good one keeps the nonce secret even from faults in the key. */
static scalar hedged_nonce(const char *label, struct span key, struct span random,
                           const struct span context[2], uint8_t attempt)
{
    uint8_t wide[2 * SM3_BYTES];
    for (uint8_t half = 0; half < 2; half++) {
        const uint8_t counters[2] = {attempt, half};
        struct span parts[] = {span_of(label, strlen(label) + 1), span_of(counters, 2), random,
                               context[0], context[1]};
        sm3_digest block = hmac_sm3(key, parts, 5);
        memcpy(wide + half * SM3_BYTES, block.b, SM3_BYTES);
        secret_wipe(&block, sizeof block);
    }
    _Static_assert(sizeof wide >= SM2_WIDE_BYTES, "enough for a scalar");
    scalar k = scalar_from_wide(wide);
    secret_wipe(wide, sizeof wide);
    return k;
}

static scalar signing_nonce(const sm2_private *key, const sm3_digest *e,
                            const uint8_t random[SM2_WIDE_BYTES], uint8_t attempt)
{
    uint8_t d[SM2_SCALAR_BYTES];
    scalar_encode(d, &key->d);
    const struct span context[2] = {span_of(e->b, sizeof e->b), span_of(NULL, 0)};
    scalar k = hedged_nonce("amiledger sm2 signature nonce", span_of(d, sizeof d),
                            span_of(random, SM2_WIDE_BYTES), context, attempt);
    secret_wipe(d, sizeof d);
    return k;
}

/* r = e + x1, s = (1 + d)^-1 (k - r d) = (1 + d)^-1 (k + r) - r. False when the standard asks for
 * another nonce: r = 0, r + k = n or s = 0. */
static bool sign_finish(sm2_signature *out, const sm2_private *key, const sm3_digest *e,
                        const scalar *k, const point *kg)
{
    scalar x1 = x_mod_n(kg), e_mod_n = scalar_reduce(e->b);
    scalar r = scalar_add(&e_mod_n, &x1);
    scalar k_plus_r = scalar_add(k, &r);
    scalar s = scalar_mul(&key->inverse_1_plus_d, &k_plus_r);
    s = scalar_sub(&s, &r);
    uint64_t bad = scalar_mask_zero(&r) | scalar_mask_zero(&k_plus_r) | scalar_mask_zero(&s);
    scalar_encode(out->b, &r);
    scalar_encode(out->b + 32, &s);
    secret_wipe(&k_plus_r, sizeof k_plus_r);
    /* Reveals an event of probability 2^-254, and then about a nonce that is not used. */
    return !ct_reveal(bad);
}

sm2_signature sm2_sign(const sm2_private *key, const sm3_digest *e,
                       const uint8_t random[SM2_WIDE_BYTES])
{
    sm2_signature out;
    for (uint8_t attempt = 0;; attempt++) {
        AMI_CHECK(attempt < UINT8_MAX);
        scalar k = signing_nonce(key, e, random, attempt);
        point kg = point_mul_base(&k);
        bool good = sign_finish(&out, key, e, &k, &kg);
        secret_wipe(&k, sizeof k);
        if (good)
            return out;
    }
}

void sm2_sign_batch(sm2_signature *out, const sm2_private *key, const sm3_digest *e,
                    const uint8_t (*random)[SM2_WIDE_BYTES], size_t count)
{
    scalar k[SM2_BATCH];
    point kg[SM2_BATCH];
    for (size_t done = 0; done < count; done += SM2_BATCH) {
        size_t size = count - done < SM2_BATCH ? count - done : SM2_BATCH;
        for (size_t i = 0; i < size; i++)
            k[i] = signing_nonce(key, &e[done + i], random[done + i], 0);
        point_mul_base_batch(kg, k, size);
        for (size_t i = 0; i < size; i++) {
            size_t at = done + i;
            /* The single form meets the same refusal and goes on to the next attempt. */
            if (!sign_finish(&out[at], key, &e[at], &k[i], &kg[i]))
                out[at] = sm2_sign(key, &e[at], random[at]);
        }
    }
    secret_wipe(k, sizeof k);
}

enum ami_status sm2_sign_with_nonce(sm2_signature *out, const sm2_private *key, const sm3_digest *e,
                                    const scalar *k)
{
    if (ct_reveal(scalar_mask_zero(k)))
        return AMI_BAD_CRYPTO;
    point kg = point_mul_base(k);
    return sign_finish(out, key, e, k, &kg) ? AMI_OK : AMI_BAD_CRYPTO;
}

/* Whether x mod n = v for the finite point's x, without its inversion: x is v, or v + n where that
 * is still below p. */
static bool x_mod_n_is(const jacobian *q, const scalar *v)
{
    /* p - n, so that v + n < p can be asked as v < p - n; and n as a field element. */
    static const uint64_t p_minus_n[4] = {UINT64_C(0xac440bf6c62abedc),
                                          UINT64_C(0x8dfc2093de39fad5), 0, 0};
    static const uint64_t n[4] = {UINT64_C(0x53bbf40939d54123), UINT64_C(0x7203df6b21c6052b),
                                  UINT64_C(0xffffffffffffffff), UINT64_C(0xfffffffeffffffff)};
    fe zz, x, n_fe, t;
    fe_sqr(zz, q->z);
    fe_from_limbs(x, v->w);
    fe_mul(t, x, zz);
    if (fe_mask_equal(t, q->x))
        return true;
    uint64_t ignored, borrow = 0;
    for (int i = 0; i < 4; i++)
        borrow = sub_borrow(&ignored, v->w[i], p_minus_n[i], borrow);
    if (!borrow)
        return false;
    fe_from_limbs(n_fe, n);
    fe_add(x, x, n_fe);
    fe_mul(t, x, zz);
    return fe_mask_equal(t, q->x) != 0;
}

enum ami_status sm2_verify(const point *p, const sm3_digest *e, const sm2_signature *sig)
{
    scalar r, s;
    if (point_is_infinity(p) || scalar_decode(&r, sig->b) != AMI_OK ||
        scalar_decode(&s, sig->b + 32) != AMI_OK)
        return AMI_BAD_SIGNATURE;
    scalar t = scalar_add(&r, &s);
    if (scalar_is_zero(&t))
        return AMI_BAD_SIGNATURE;
    jacobian q;
    jacobian_mul_add_public(&q, &s, &t, p);
    scalar e_mod_n = scalar_reduce(e->b);
    scalar x1 = scalar_sub(&r, &e_mod_n);
    if (jacobian_mask_infinity(&q) || !x_mod_n_is(&q, &x1))
        return AMI_BAD_SIGNATURE;
    return AMI_OK;
}

enum ami_status sm2_verify_batch(const point *p, const sm3_digest *e, const sm2_signature *sig,
                                 bool *ok, size_t count)
{
    bool all = true;
    for (size_t i = 0; i < count; i++) {
        ok[i] = sm2_verify(&p[i], &e[i], &sig[i]) == AMI_OK;
        all = all && ok[i];
    }
    return all ? AMI_OK : AMI_BAD_SIGNATURE;
}

/* --- implicit certificates, GM/T 0130 --------------------------------------------------------- */

scalar sm2_implicit_lambda(const point *w, const sm3_digest *h_a)
{
    uint8_t xy[SM2_XY_BYTES];
    point_xy(xy, w);
    struct span parts[] = {span_of(xy, sizeof xy), span_of(h_a->b, sizeof h_a->b)};
    sm3_digest digest = sm3_parts(parts, 2);
    return scalar_reduce(digest.b);
}

enum ami_status sm2_implicit_public(point *out, const point *w, const sm3_digest *h_a,
                                    const point *p_pub)
{
    memset(out, 0, sizeof *out);
    if (point_is_infinity(w) || point_is_infinity(p_pub))
        return AMI_BAD_CRYPTO;
    scalar lambda = sm2_implicit_lambda(w, h_a);
    jacobian p;
    jacobian_mul_add_point_public(&p, w, &lambda, p_pub);
    if (jacobian_mask_infinity(&p))
        return AMI_BAD_CRYPTO;
    jacobian_to_points(out, &p, 1);
    return AMI_OK;
}

sm3_digest sm2_implicit_digest(const sm3_digest *h_a, const point *w, const struct span *parts,
                               size_t count)
{
    AMI_CHECK(count <= SM3_PARTS_MAX - 2);
    uint8_t xy[SM2_XY_BYTES];
    point_xy(xy, w);
    struct span all[SM3_PARTS_MAX];
    all[0] = span_of(h_a->b, sizeof h_a->b);
    all[1] = span_of(xy, sizeof xy);
    for (size_t i = 0; i < count; i++)
        all[2 + i] = parts[i];
    return sm3_parts(all, count + 2);
}

void sm2_implicit_issue(point *w_out, scalar *t_out, const scalar *w, const scalar *x,
                        const point *u_a, const sm3_digest *h_a)
{
    point wg = point_mul_base(w);
    *w_out = point_add(&wg, u_a);
    /* W travels in the clear. It is finite: w is random and unknown to who chose U_A. */
    CT_PUBLIC(w_out, sizeof *w_out);
    scalar lambda = sm2_implicit_lambda(w_out, h_a);
    scalar lambda_x = scalar_mul(&lambda, x);
    *t_out = scalar_add(w, &lambda_x);
    secret_wipe(&lambda_x, sizeof lambda_x);
}

enum ami_status sm2_implicit_accept(sm2_private *out, const scalar *t, const scalar *d_prime,
                                    const point *w, const sm3_digest *h_a, const point *p_pub)
{
    point p;
    memset(out, 0, sizeof *out);
    AMI_TRY(sm2_implicit_public(&p, w, h_a, p_pub));
    scalar d = scalar_add(t, d_prime);
    enum ami_status status = sm2_private_init(out, &d);
    secret_wipe(&d, sizeof d);
    if (status != AMI_OK)
        return status;
    /* dG is the device's public key if the certificate is good; if it is not, the key is thrown
     * away. Either way the comparison may be public. */
    CT_PUBLIC(&out->p, sizeof out->p);
    if (!point_equal(&out->p, &p)) {
        secret_wipe(out, sizeof *out);
        return AMI_BAD_CRYPTO;
    }
    return AMI_OK;
}

/* --- encapsulation and encryption, GB/T 32918.4 ----------------------------------------------- */

/* x2 || y2 of k P, the shared secret. p is finite and k in [1, n-1], so k P is finite. */
static void shared_xy(uint8_t xy[SM2_XY_BYTES], const scalar *k, const point *p)
{
    point shared = point_mul(k, p);
    point_xy(xy, &shared);
    secret_wipe(&shared, sizeof shared);
}

enum ami_status sm2_encapsulate(point_bytes *c1, uint8_t *key, size_t key_size, const point *p,
                                struct span info, const uint8_t random[SM2_WIDE_BYTES])
{
    if (point_is_infinity(p))
        return AMI_BAD_CRYPTO;
    point_bytes peer = point_encode(p);
    const struct span context[2] = {span_of(peer.b, sizeof peer.b), info};
    scalar k = hedged_nonce("amiledger sm2 encapsulation nonce", span_of(random, SM2_WIDE_BYTES),
                            span_of(NULL, 0), context, 0);
    point kg = point_mul_base(&k);
    CT_PUBLIC(&kg, sizeof kg); /* C1 travels in the clear */
    *c1 = point_encode(&kg);
    uint8_t xy[SM2_XY_BYTES];
    shared_xy(xy, &k, p);
    struct span parts[] = {span_of(xy, sizeof xy), info};
    sm2_kdf(key, key_size, parts, 2);
    secret_wipe(xy, sizeof xy);
    secret_wipe(&k, sizeof k);
    return AMI_OK;
}

enum ami_status sm2_decapsulate(uint8_t *key, size_t key_size, const sm2_private *d,
                                const point_bytes *c1, struct span info)
{
    point c1_point;
    AMI_TRY(point_decode(&c1_point, c1));
    uint8_t xy[SM2_XY_BYTES];
    shared_xy(xy, &d->d, &c1_point);
    struct span parts[] = {span_of(xy, sizeof xy), info};
    sm2_kdf(key, key_size, parts, 2);
    secret_wipe(xy, sizeof xy);
    return AMI_OK;
}

/* out = in XOR KDF(x2 || y2). The mask is zero when the standard's check "t is not all zero" fails,
 * which happens to one short message in 256^size. */
static uint64_t xor_kdf(uint8_t *out, struct span in, const uint8_t xy[SM2_XY_BYTES])
{
    struct span parts[] = {span_of(xy, SM2_XY_BYTES)};
    uint64_t any = in.size == 0;
    sm2_kdf(out, in.size, parts, 1);
    for (size_t i = 0; i < in.size; i++) {
        any |= out[i];
        out[i] ^= in.data[i];
    }
    return ~ct_mask_zero(any);
}

static sm3_digest encryption_c3(const uint8_t xy[SM2_XY_BYTES], struct span plain)
{
    struct span parts[] = {span_of(xy, 32), plain, span_of(xy + 32, 32)};
    return sm3_parts(parts, 3);
}

enum ami_status sm2_encrypt_with_nonce(uint8_t *out, const point *p, struct span plain,
                                       const scalar *k)
{
    if (point_is_infinity(p) || ct_reveal(scalar_mask_zero(k)))
        return AMI_BAD_CRYPTO;
    uint8_t xy[SM2_XY_BYTES];
    point c1 = point_mul_base(k);
    CT_PUBLIC(&c1, sizeof c1); /* it travels in the clear */
    point_xy(out, &c1);
    shared_xy(xy, k, p);
    sm3_digest c3 = encryption_c3(xy, plain);
    memcpy(out + SM2_XY_BYTES, c3.b, sizeof c3.b);
    uint64_t good = xor_kdf(out + SM2_ENCRYPT_OVERHEAD_BYTES, plain, xy);
    secret_wipe(xy, sizeof xy);
    /* Reveals that this nonce is not used. */
    return ct_reveal(good) ? AMI_OK : AMI_BAD_CRYPTO;
}

enum ami_status sm2_encrypt(uint8_t *out, const point *p, struct span plain,
                            const uint8_t random[SM2_WIDE_BYTES])
{
    if (point_is_infinity(p))
        return AMI_BAD_CRYPTO;
    point_bytes peer = point_encode(p);
    const struct span context[2] = {span_of(peer.b, sizeof peer.b), plain};
    enum ami_status status = AMI_BAD_CRYPTO;
    /* Each attempt fails with probability at most 1/256. */
    for (uint8_t attempt = 0; status != AMI_OK && attempt < UINT8_MAX; attempt++) {
        scalar k = hedged_nonce("amiledger sm2 encryption nonce", span_of(random, SM2_WIDE_BYTES),
                                span_of(NULL, 0), context, attempt);
        status = sm2_encrypt_with_nonce(out, p, plain, &k);
        secret_wipe(&k, sizeof k);
    }
    return status;
}

enum ami_status sm2_decrypt(uint8_t *out, const sm2_private *d, struct span sealed)
{
    if (sealed.size < SM2_ENCRYPT_OVERHEAD_BYTES)
        return AMI_BAD_CRYPTO;
    size_t size = sealed.size - SM2_ENCRYPT_OVERHEAD_BYTES;
    point c1;
    if (point_from_xy(&c1, sealed.data) != AMI_OK) {
        secret_wipe(out, size);
        return AMI_BAD_CRYPTO;
    }
    uint8_t xy[SM2_XY_BYTES];
    shared_xy(xy, &d->d, &c1);
    uint64_t good = xor_kdf(out, span_of(sealed.data + SM2_ENCRYPT_OVERHEAD_BYTES, size), xy);
    sm3_digest c3 = encryption_c3(xy, span_of(out, size));
    uint8_t difference = 0;
    for (size_t i = 0; i < SM3_BYTES; i++)
        difference |= (uint8_t)(c3.b[i] ^ sealed.data[SM2_XY_BYTES + i]);
    good &= ct_mask_zero(difference);
    secret_wipe(xy, sizeof xy);
    /* One answer for every reason of refusal. */
    if (!ct_reveal(good)) {
        secret_wipe(out, size);
        return AMI_BAD_CRYPTO;
    }
    return AMI_OK;
}

/* --- key exchange, GB/T 32918.3 --------------------------------------------------------------- */

/* x' = 2^127 + (x mod 2^127), from a finite point. Public. */
static scalar x_bar(const point *r)
{
    uint8_t xy[SM2_XY_BYTES];
    point_xy(xy, r);
    return (scalar){{load_be64(xy + 24), load_be64(xy + 16) | UINT64_C(1) << 63, 0, 0}};
}

/* V = t (P_peer + x'_peer R_peer), t = d + x'_own r. The mask tells whether the inputs are finite;
 * V may still be infinity. */
static bool exchange_v(jacobian *v, const struct sm2_exchange_in *in)
{
    const point *r_own = in->initiator ? in->r_a : in->r_b;
    const point *r_peer = in->initiator ? in->r_b : in->r_a;
    memset(v, 0, sizeof *v);
    /* R of both sides and the peer's key are public. */
    if (point_is_infinity(r_own) || point_is_infinity(r_peer) || point_is_infinity(in->p_peer))
        return false;
    scalar x_own = x_bar(r_own), x_peer = x_bar(r_peer);
    scalar t = scalar_mul(&x_own, in->r);
    t = scalar_add(in->d, &t);
    jacobian sum;
    jacobian_mul_add_point_public(&sum, in->p_peer, &x_peer, r_peer);
    jacobian_mul(v, &t, &sum);
    secret_wipe(&t, sizeof t);
    return true;
}

static void exchange_confirmations(struct sm2_exchange_out *out, const struct sm2_exchange_in *in)
{
    static const uint8_t two = 2, three = 3;
    uint8_t r_a[SM2_XY_BYTES], r_b[SM2_XY_BYTES];
    point_xy(r_a, in->r_a);
    point_xy(r_b, in->r_b);
    struct span inner[] = {span_of(out->xy_v, 32), span_of(in->z_a->b, SM3_BYTES),
                           span_of(in->z_b->b, SM3_BYTES), span_of(r_a, sizeof r_a),
                           span_of(r_b, sizeof r_b)};
    out->inner = sm3_parts(inner, 5);
    struct span outer[] = {span_of(&two, 1), span_of(out->xy_v + 32, 32),
                           span_of(out->inner.b, SM3_BYTES)};
    out->s_b = sm3_parts(outer, 3);
    outer[0] = span_of(&three, 1);
    out->s_a = sm3_parts(outer, 3);
}

enum ami_status sm2_exchange_batch(struct sm2_exchange_out *out, const struct sm2_exchange_in *in,
                                   bool *ok, size_t count)
{
    jacobian v[SM2_BATCH];
    point v_affine[SM2_BATCH];
    bool all = true;
    memset(out, 0, count * sizeof *out);
    for (size_t done = 0; done < count; done += SM2_BATCH) {
        size_t size = count - done < SM2_BATCH ? count - done : SM2_BATCH;
        for (size_t i = 0; i < size; i++)
            ok[done + i] = exchange_v(&v[i], &in[done + i]);
        jacobian_to_points(v_affine, v, size);
        for (size_t i = 0; i < size; i++) {
            size_t at = done + i;
            /* That an exchange fails is public. */
            if (ct_reveal(jacobian_mask_infinity(&v[i])))
                ok[at] = false;
            all = all && ok[at];
            if (!ok[at])
                continue;
            point_xy(out[at].xy_v, &v_affine[i]);
            exchange_confirmations(&out[at], &in[at]);
        }
    }
    secret_wipe(v, sizeof v);
    secret_wipe(v_affine, sizeof v_affine);
    return all ? AMI_OK : AMI_BAD_CRYPTO;
}

enum ami_status sm2_exchange(struct sm2_exchange_out *out, const struct sm2_exchange_in *in)
{
    bool ok;
    return sm2_exchange_batch(out, in, &ok, 1);
}

void sm2_exchange_key(uint8_t *key, size_t key_size, const struct sm2_exchange_out *x,
                      const sm3_digest *z_a, const sm3_digest *z_b)
{
    struct span parts[] = {span_of(x->xy_v, sizeof x->xy_v), span_of(z_a->b, SM3_BYTES),
                           span_of(z_b->b, SM3_BYTES)};
    sm2_kdf(key, key_size, parts, 3);
}
