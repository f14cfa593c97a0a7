/* SM2 signatures, implicit certificates, encryption, key exchange over the group engine.
 *
 * Names of values are the standards': e, k, r, s, Z, lambda, t, W, U_A, x', V.
 */
#include "crypto/sm2.h"

#include "base/check.h"
#include "crypto/ct.h"
#include "crypto/secret.h"
#include "crypto/sm2_known.h"

#include <string.h>

#define ID_BYTES_MAX 8191 /* ENTL counts bits in two bytes */

/* --- digests ---------------------------------------------------------------------------------- */

sm3_digest sm2_z(struct span id, const point *p)
{
    AMI_CHECK(id.size <= ID_BYTES_MAX);
    /* a, b, xG, yG */
    static const uint8_t curve[4 * 32] = {
        0xff, 0xff, 0xff, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xfc, 0x28, 0xe9, 0xfa, 0x9e, 0x9d, 0x9f, 0x5e, 0x34, 0x4d, 0x5a, 0x9e, 0x4b, 0xcf,
        0x65, 0x09, 0xa7, 0xf3, 0x97, 0x89, 0xf5, 0x15, 0xab, 0x8f, 0x92, 0xdd, 0xbc, 0xbd, 0x41,
        0x4d, 0x94, 0x0e, 0x93, 0x32, 0xc4, 0xae, 0x2c, 0x1f, 0x19, 0x81, 0x19, 0x5f, 0x99, 0x04,
        0x46, 0x6a, 0x39, 0xc9, 0x94, 0x8f, 0xe3, 0x0b, 0xbf, 0xf2, 0x66, 0x0b, 0xe1, 0x71, 0x5a,
        0x45, 0x89, 0x33, 0x4c, 0x74, 0xc7, 0xbc, 0x37, 0x36, 0xa2, 0xf4, 0xf6, 0x77, 0x9c, 0x59,
        0xbd, 0xce, 0xe3, 0x6b, 0x69, 0x21, 0x53, 0xd0, 0xa9, 0x87, 0x7c, 0xc6, 0x2a, 0x47, 0x40,
        0x02, 0xdf, 0x32, 0xe5, 0x21, 0x39, 0xf0, 0xa0,
    };
    uint8_t entl_be[2], p_xy[SM2_XY_BYTES];
    store_be16(entl_be, (uint16_t)(id.size * 8));
    point_xy(p_xy, p);
    const struct span parts[] = {span_of(entl_be, sizeof entl_be), id, span_of(curve, sizeof curve),
                                 span_of(p_xy, sizeof p_xy)};
    return sm3_parts(parts, 4);
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

/* Hedged nonces: expansions of HMAC over (label, attempt, random, context...) under the secret key
 * given. A random source that repeats or is known does not make two messages share a nonce, and a
 * good one keeps the nonce secret even from faults in the key. */
#define NONCE_CHUNK 32

struct nonce_request {
    struct span key, random, context[2];
};

static void hedged_nonces(scalar *out, const char *label, uint8_t attempt,
                          const struct nonce_request *in, size_t size)
{
    static const uint8_t counter_be[2][4] = {{0, 0, 0, 1}, {0, 0, 0, 2}}; /* of the KDF */
    struct span key[NONCE_CHUNK], part[NONCE_CHUNK][5], wide_part[2 * NONCE_CHUNK][2];
    struct sm3_message message[2 * NONCE_CHUNK];
    sm3_digest seed[NONCE_CHUNK], wide[2 * NONCE_CHUNK];
    AMI_CHECK(size <= NONCE_CHUNK);
    for (size_t i = 0; i < size; i++) {
        key[i] = in[i].key;
        part[i][0] = span_of(label, strlen(label) + 1);
        part[i][1] = span_of(&attempt, 1);
        part[i][2] = in[i].random;
        part[i][3] = in[i].context[0];
        part[i][4] = in[i].context[1];
        message[i] = (struct sm3_message){part[i], 5};
    }
    hmac_sm3_batch(seed, key, message, size);
    for (size_t i = 0; i < 2 * size; i++) {
        wide_part[i][0] = span_of(seed[i / 2].b, SM3_BYTES);
        wide_part[i][1] = span_of(counter_be[i % 2], 4);
        message[i] = (struct sm3_message){wide_part[i], 2};
    }
    sm3_batch(wide, message, 2 * size);
    _Static_assert(2 * SM3_BYTES >= SM2_WIDE_BYTES, "enough for a scalar");
    uint8_t both[2 * SM3_BYTES];
    for (size_t i = 0; i < size; i++) {
        memcpy(both, wide[2 * i].b, SM3_BYTES);
        memcpy(both + SM3_BYTES, wide[2 * i + 1].b, SM3_BYTES);
        out[i] = scalar_from_wide(both);
    }
    secret_wipe(both, sizeof both);
    secret_wipe(seed, size * sizeof seed[0]);
    secret_wipe(wide, 2 * size * sizeof wide[0]);
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

/* k or n - k, whichever multiple of G has the even y. Both are as good, and r is the same; a
 * verifier that may count on the even one can recover R from r alone and check many signatures at
 * once. */
static void prefer_even(scalar *k, const point *kg)
{
    static const scalar zero = {{0}};
    const uint64_t odd = ct_mask(kg->y[0] & 1);
    scalar minus = scalar_sub(&zero, k);
    for (int i = 0; i < 4; i++)
        k->w[i] ^= odd & (k->w[i] ^ minus.w[i]);
    secret_wipe(&minus, sizeof minus);
}

#define SIGN_CHUNK NONCE_CHUNK

/* Attempt `attempt` for size <= SIGN_CHUNK signatures; good[i] tells which need another. */
static void sign_attempt(sm2_signature *out, bool *good, const sm2_private *const *key,
                         const sm3_digest *e, const uint8_t (*random)[SM2_WIDE_BYTES], size_t size,
                         uint8_t attempt)
{
    struct nonce_request request[SIGN_CHUNK];
    uint8_t d[SIGN_CHUNK][SM2_SCALAR_BYTES];
    scalar k[SIGN_CHUNK];
    point kg[SIGN_CHUNK];
    for (size_t i = 0; i < size; i++) {
        scalar_encode(d[i], &key[i]->d);
        request[i] = (struct nonce_request){.key = span_of(d[i], sizeof d[i]),
                                            .random = span_of(random[i], SM2_WIDE_BYTES),
                                            .context = {span_of(e[i].b, sizeof e[i].b)}};
    }
    hedged_nonces(k, "amiledger sm2 signature nonce", attempt, request, size);
    secret_wipe(d, size * sizeof d[0]);
    point_mul_base_batch(kg, k, size);
    for (size_t i = 0; i < size; i++) {
        prefer_even(&k[i], &kg[i]);
        good[i] = sign_finish(&out[i], key[i], &e[i], &k[i], &kg[i]);
    }
    secret_wipe(k, size * sizeof k[0]);
}

sm2_signature sm2_sign(const sm2_private *key, const sm3_digest *e,
                       const uint8_t random[SM2_WIDE_BYTES])
{
    sm2_signature out;
    bool good = false;
    for (uint8_t attempt = 0; !good; attempt++) {
        AMI_CHECK(attempt < UINT8_MAX);
        sign_attempt(&out, &good, &key, e, (const uint8_t(*)[SM2_WIDE_BYTES])random, 1, attempt);
    }
    return out;
}

void sm2_sign_batch(sm2_signature *out, const sm2_private *const *key, const sm3_digest *e,
                    const uint8_t (*random)[SM2_WIDE_BYTES], size_t count)
{
    bool good[SIGN_CHUNK];
    for (size_t done = 0; done < count; done += SIGN_CHUNK) {
        const size_t size = count - done < SIGN_CHUNK ? count - done : SIGN_CHUNK;
        sign_attempt(out + done, good, key + done, e + done, random + done, size, 0);
        for (size_t i = 0; i < size; i++)
            /* The single form meets the same refusal and goes on to the next attempt. */
            if (!good[i])
                out[done + i] = sm2_sign(key[done + i], &e[done + i], random[done + i]);
    }
}

enum ami_status sm2_sign_with_nonce(sm2_signature *out, const sm2_private *key, const sm3_digest *e,
                                    const scalar *k)
{
    if (ct_reveal(scalar_mask_zero(k)))
        return AMI_BAD_CRYPTO;
    point kg = point_mul_base(k);
    return sign_finish(out, key, e, k, &kg) ? AMI_OK : AMI_BAD_CRYPTO;
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
    bool ok;
    return sm2_implicit_public_batch(out, &ok, w, h_a, p_pub, 1);
}

#define IMPLICIT_CHUNK 32

enum ami_status sm2_implicit_public_batch(point *out, bool *ok, const point *w,
                                          const sm3_digest *h_a, const point *p_pub, size_t count)
{
    scalar lambda[IMPLICIT_CHUNK];
    point base[IMPLICIT_CHUNK];
    bool all = true;
    for (size_t i = 0; i < IMPLICIT_CHUNK && i < count; i++)
        base[i] = *p_pub;
    for (size_t done = 0; done < count; done += IMPLICIT_CHUNK) {
        const size_t size = count - done < IMPLICIT_CHUNK ? count - done : IMPLICIT_CHUNK;
        for (size_t i = 0; i < size; i++) {
            ok[done + i] = !point_is_infinity(&w[done + i]) && !point_is_infinity(p_pub);
            /* Without a W there is nothing to hash; the result is not used. */
            lambda[i] =
                ok[done + i] ? sm2_implicit_lambda(&w[done + i], &h_a[done + i]) : (scalar){{1}};
        }
        sm2_known_begin();
        sm2_path()->mul_add_public(out + done, w + done, lambda, base, sm2_known_find(p_pub), size);
        sm2_known_end();
        for (size_t i = 0; i < size; i++) {
            ok[done + i] = ok[done + i] && !point_is_infinity(&out[done + i]);
            if (!ok[done + i])
                memset(&out[done + i], 0, sizeof out[done + i]);
            all = all && ok[done + i];
        }
    }
    return all ? AMI_OK : AMI_BAD_CRYPTO;
}

size_t sm2_implicit_parts(struct span *all, uint8_t xy[SM2_XY_BYTES], const sm3_digest *h_a,
                          const point *w, const struct span *parts, size_t count)
{
    AMI_CHECK(count <= SM3_PARTS_MAX - 2);
    point_xy(xy, w);
    all[0] = span_of(h_a->b, sizeof h_a->b);
    all[1] = span_of(xy, SM2_XY_BYTES);
    for (size_t i = 0; i < count; i++)
        all[2 + i] = parts[i];
    return count + 2;
}

sm3_digest sm2_implicit_digest(const sm3_digest *h_a, const point *w, const struct span *parts,
                               size_t count)
{
    uint8_t xy[SM2_XY_BYTES];
    struct span all[SM3_PARTS_MAX];
    return sm3_parts(all, sm2_implicit_parts(all, xy, h_a, w, parts, count));
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

#define SHARE_CHUNK NONCE_CHUNK

/* key[i] = KDF(x2 || y2 || info) of k[i] p[i], for size <= SHARE_CHUNK. */
static void shared_keys(uint8_t *const *key, size_t key_size, const scalar *k, const point *p,
                        struct span info, size_t size)
{
    point shared[SHARE_CHUNK];
    uint8_t xy[SM2_XY_BYTES];
    point_mul_batch(shared, k, p, size);
    for (size_t i = 0; i < size; i++) {
        point_xy(xy, &shared[i]);
        const struct span parts[] = {span_of(xy, sizeof xy), info};
        sm2_kdf(key[i], key_size, parts, 2);
    }
    secret_wipe(xy, sizeof xy);
    secret_wipe(shared, size * sizeof shared[0]);
}

static void encapsulate_chunk(point_bytes *c1, uint8_t *const *key, size_t key_size, const point *p,
                              struct span info, const uint8_t (*random)[SM2_WIDE_BYTES],
                              size_t size)
{
    struct nonce_request request[SHARE_CHUNK];
    scalar k[SHARE_CHUNK];
    point kg[SHARE_CHUNK], peer[SHARE_CHUNK];
    const point_bytes peer_bytes = point_encode(p);
    for (size_t i = 0; i < size; i++) {
        request[i] =
            (struct nonce_request){.key = span_of(random[i], SM2_WIDE_BYTES),
                                   .context = {span_of(peer_bytes.b, sizeof peer_bytes.b), info}};
        peer[i] = *p;
    }
    hedged_nonces(k, "amiledger sm2 encapsulation nonce", 0, request, size);
    point_mul_base_batch(kg, k, size);
    CT_PUBLIC(kg, size * sizeof kg[0]); /* C1 travels in the clear */
    for (size_t i = 0; i < size; i++)
        c1[i] = point_encode(&kg[i]);
    shared_keys(key, key_size, k, peer, info, size);
    secret_wipe(k, size * sizeof k[0]);
}

enum ami_status sm2_encapsulate(point_bytes *c1, uint8_t *key, size_t key_size, const point *p,
                                struct span info, const uint8_t random[SM2_WIDE_BYTES])
{
    if (point_is_infinity(p))
        return AMI_BAD_CRYPTO;
    encapsulate_chunk(c1, &key, key_size, p, info, (const uint8_t(*)[SM2_WIDE_BYTES])random, 1);
    return AMI_OK;
}

enum ami_status sm2_encapsulate_batch(point_bytes *c1, uint8_t (*key)[SM2_SHARED_KEY_BYTES],
                                      const point *p, struct span info,
                                      const uint8_t (*random)[SM2_WIDE_BYTES], size_t count)
{
    uint8_t *keys[SHARE_CHUNK];
    if (point_is_infinity(p))
        return AMI_BAD_CRYPTO;
    for (size_t done = 0; done < count; done += SHARE_CHUNK) {
        const size_t size = count - done < SHARE_CHUNK ? count - done : SHARE_CHUNK;
        for (size_t i = 0; i < size; i++)
            keys[i] = key[done + i];
        encapsulate_chunk(c1 + done, keys, SM2_SHARED_KEY_BYTES, p, info, random + done, size);
    }
    return AMI_OK;
}

enum ami_status sm2_decapsulate(uint8_t *key, size_t key_size, const sm2_private *d,
                                const point_bytes *c1, struct span info)
{
    point c1_point;
    AMI_TRY(point_decode(&c1_point, c1));
    shared_keys(&key, key_size, &d->d, &c1_point, info, 1);
    return AMI_OK;
}

enum ami_status sm2_decapsulate_batch(uint8_t (*key)[SM2_SHARED_KEY_BYTES], bool *ok,
                                      const sm2_private *d, const point_bytes *c1, struct span info,
                                      size_t count)
{
    point c1_point[SHARE_CHUNK];
    scalar k[SHARE_CHUNK];
    uint8_t *keys[SHARE_CHUNK];
    bool all = true;
    for (size_t i = 0; i < SHARE_CHUNK && i < count; i++)
        k[i] = d->d;
    for (size_t done = 0; done < count; done += SHARE_CHUNK) {
        const size_t size = count - done < SHARE_CHUNK ? count - done : SHARE_CHUNK;
        if (point_decode_batch(c1_point, ok + done, c1 + done, size) != AMI_OK)
            all = false;
        for (size_t i = 0; i < size; i++) {
            keys[i] = key[done + i];
            if (!ok[done + i])
                c1_point[i] = *point_generator(); /* keeps the group whole; wiped below */
        }
        shared_keys(keys, SM2_SHARED_KEY_BYTES, k, c1_point, info, size);
        for (size_t i = 0; i < size; i++)
            if (!ok[done + i])
                secret_wipe(keys[i], SM2_SHARED_KEY_BYTES);
    }
    secret_wipe(k, sizeof k);
    return all ? AMI_OK : AMI_BAD_CRYPTO;
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
    const struct nonce_request request = {.key = span_of(random, SM2_WIDE_BYTES),
                                          .context = {span_of(peer.b, sizeof peer.b), plain}};
    enum ami_status status = AMI_BAD_CRYPTO;
    /* Each attempt fails with probability at most 1/256. */
    for (uint8_t attempt = 0; status != AMI_OK && attempt < UINT8_MAX; attempt++) {
        scalar k;
        hedged_nonces(&k, "amiledger sm2 encryption nonce", attempt, &request, 1);
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

#define EXCHANGE_CHUNK 32

/* V = t (P_peer + x'_peer R_peer), t = d + x'_own r, for size <= EXCHANGE_CHUNK. R of both sides
 * and the peer's key are public, and so is their sum; ok[i] tells whether all is finite. Refused
 * inputs take part with a point that keeps the group whole. */
static void exchange_v(point *v, bool *ok, const struct sm2_exchange_in *in, size_t size)
{
    scalar t[EXCHANGE_CHUNK], x_peer[EXCHANGE_CHUNK];
    point r[EXCHANGE_CHUNK], p[EXCHANGE_CHUNK], sum[EXCHANGE_CHUNK];
    for (size_t i = 0; i < size; i++) {
        const point *r_own = in[i].initiator ? in[i].r_a : in[i].r_b;
        const point *r_peer = in[i].initiator ? in[i].r_b : in[i].r_a;
        ok[i] = !point_is_infinity(r_own) && !point_is_infinity(r_peer) &&
                !point_is_infinity(in[i].p_peer);
        r[i] = ok[i] ? *r_peer : *point_generator();
        p[i] = ok[i] ? *in[i].p_peer : *point_generator();
        const scalar x_own = x_bar(ok[i] ? r_own : point_generator());
        x_peer[i] = x_bar(&r[i]);
        t[i] = scalar_mul(&x_own, in[i].r);
        t[i] = scalar_add(in[i].d, &t[i]);
    }
    point_mul_add_public_batch(sum, p, x_peer, r, size);
    point_mul_batch(v, t, sum, size);
    for (size_t i = 0; i < size; i++)
        /* That an exchange fails is public. */
        if (ct_reveal(ct_mask(point_is_infinity(&v[i]))))
            ok[i] = false;
    secret_wipe(t, size * sizeof t[0]);
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
    point v[EXCHANGE_CHUNK];
    bool all = true;
    memset(out, 0, count * sizeof *out);
    for (size_t done = 0; done < count; done += EXCHANGE_CHUNK) {
        const size_t size = count - done < EXCHANGE_CHUNK ? count - done : EXCHANGE_CHUNK;
        exchange_v(v, ok + done, in + done, size);
        for (size_t i = 0; i < size; i++) {
            const size_t at = done + i;
            all = all && ok[at];
            if (!ok[at])
                continue;
            point_xy(out[at].xy_v, &v[i]);
            exchange_confirmations(&out[at], &in[at]);
        }
    }
    secret_wipe(v, sizeof v);
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
