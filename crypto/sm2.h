/* crypto/sm2.h - SM2 signatures, encryption, encapsulation and key exchange (GB/T 32918.2 to .4).
 *
 * Nothing here draws randomness: the caller hands in SM2_WIDE_BYTES from its environment, and
 * nonces are hedged: k = HMAC-SM3-expanded(private key, random || digest), so a repeated random
 * value does not repeat a nonce for another message. In processes the random bytes have the time
 * mixed in besides (crypto/secret.h). The functions with `_with_nonce` take the
 * standard's own value, for published vectors; only tests call them.
 */
#ifndef AMI_CRYPTO_SM2_H
#define AMI_CRYPTO_SM2_H

#include "crypto/sm2_group.h"
#include "crypto/sm3.h"

#define SM2_SIGNATURE_BYTES 64 /* r then s, big-endian */

typedef struct sm2_signature {
    uint8_t b[SM2_SIGNATURE_BYTES];
} sm2_signature;

/* A private key with what signing needs: d, (1 + d)^-1, and its public point. Wipe after use. */
typedef struct sm2_private {
    scalar d;
    scalar inverse_1_plus_d;
    point p;
} sm2_private;

/* AMI_BAD_CRYPTO when d is not in [1, n-2]. */
enum ami_status sm2_private_init(sm2_private *out, const scalar *d) AMI_MUST_CHECK;

/* Z = SM3(ENTL || ID || a || b || xG || yG || xP || yP), GB/T 32918.2 clause 5.5. `id` of at most
 * 8191 bytes. Also H_A of GM/T 0130 with p = P_pub. */
sm3_digest sm2_z(struct span id, const point *p);

/* e = SM3(Z || parts), at most SM3_PARTS_MAX - 1 parts. */
sm3_digest sm2_digest(const sm3_digest *z, const struct span *parts, size_t count);

/* Of k and n - k the one is taken whose multiple R of G has an even y. The signature is the
 * standard's like any other; that all of ours are so lets sm2_verify_batch recover R. */
sm2_signature sm2_sign(const sm2_private *key, const sm3_digest *e,
                       const uint8_t random[SM2_WIDE_BYTES]);
/* key[i], e[i] and random[i] belong together. The result is that of sm2_sign for each. */
void sm2_sign_batch(sm2_signature *out, const sm2_private *const *key, const sm3_digest *e,
                    const uint8_t (*random)[SM2_WIDE_BYTES], size_t count);
enum ami_status sm2_sign_with_nonce(sm2_signature *out, const sm2_private *key, const sm3_digest *e,
                                    const scalar *k) AMI_MUST_CHECK;

/* AMI_BAD_SIGNATURE, also when p is infinity. */
enum ami_status sm2_verify(const point *p, const sm3_digest *e,
                           const sm2_signature *sig) AMI_MUST_CHECK;
/* p[i], e[i] and sig[i] belong together; ok[i] tells each result, which is that of sm2_verify;
 * AMI_OK only when all verify. A few dozen or more are checked by one random linear combination
 * (crypto/sm2_verify.c), which costs a third, or less, of one after another; a signature that is
 * bad, or whose R has an odd y, costs a search for it. */
enum ami_status sm2_verify_batch(const point *p, const sm3_digest *e, const sm2_signature *sig,
                                 bool *ok, size_t count) AMI_MUST_CHECK;

/* Makes tables for a public key whose signatures are checked often, or that is P_pub: verifying
 * under it, or recovering keys with it, gets several times cheaper. 256 KB each; at most
 * SM2_SIGNERS_MAX are kept, and the one not used for longest makes room. Takes about a millisecond;
 * thread-safe, also beside verifications. AMI_NO_MEMORY, AMI_BAD_CRYPTO (infinity); nothing is lost
 * then but speed. */
#define SM2_SIGNERS_MAX 64
enum ami_status sm2_signer_remember(const point *p) AMI_MUST_CHECK;
void sm2_signers_forget(void);

/* --- implicit certificates, GM/T 0130-2023 ---------------------------------------------------- */

/* lambda = SM3(xW || yW || H_A) mod n. */
scalar sm2_implicit_lambda(const point *w, const sm3_digest *h_a);
/* P = W + lambda P_pub; AMI_BAD_CRYPTO at infinity. */
enum ami_status sm2_implicit_public(point *out, const point *w, const sm3_digest *h_a,
                                    const point *p_pub) AMI_MUST_CHECK;
/* w[i] and h_a[i] belong together; ok[i] tells each result. */
enum ami_status sm2_implicit_public_batch(point *out, bool *ok, const point *w,
                                          const sm3_digest *h_a, const point *p_pub,
                                          size_t count) AMI_MUST_CHECK;
/* The signature's e = SM3(H_A || xW || yW || parts), at most SM3_PARTS_MAX - 2 parts; sign and
 * verify with sm2_sign, sm2_verify. */
sm3_digest sm2_implicit_digest(const sm3_digest *h_a, const point *w, const struct span *parts,
                               size_t count);
/* The parts that it hashes, for sm3_batch: count + 2 of them in `all`, xy being room for one. They
 * borrow h_a, xy and what the parts borrow. */
size_t sm2_implicit_parts(struct span *all, uint8_t xy[SM2_XY_BYTES], const sm3_digest *h_a,
                          const point *w, const struct span *parts, size_t count);
/* KGC: W = wG + U_A, t = w + lambda x. */
void sm2_implicit_issue(point *w_out, scalar *t_out, const scalar *w, const scalar *x,
                        const point *u_a, const sm3_digest *h_a);
/* Device: d = t + d'; checks dG = W + lambda P_pub. AMI_BAD_CRYPTO otherwise. */
enum ami_status sm2_implicit_accept(sm2_private *out, const scalar *t, const scalar *d_prime,
                                    const point *w, const sm3_digest *h_a,
                                    const point *p_pub) AMI_MUST_CHECK;

/* --- encapsulation and public-key encryption, GB/T 32918.4 ------------------------------------ */

/* Encapsulation: C1 = kG, shared = k P; out = KDF(x2 || y2 || info). The pair (C1, key). */
enum ami_status sm2_encapsulate(point_bytes *c1, uint8_t *key, size_t key_size, const point *p,
                                struct span info,
                                const uint8_t random[SM2_WIDE_BYTES]) AMI_MUST_CHECK;
/* AMI_BAD_CRYPTO when c1 is no point. */
enum ami_status sm2_decapsulate(uint8_t *key, size_t key_size, const sm2_private *d,
                                const point_bytes *c1, struct span info) AMI_MUST_CHECK;
/* Many at once, to one recipient, for keys of one size. ok[i] tells each result of decapsulation;
 * key[i] is wiped when it is false. */
#define SM2_SHARED_KEY_BYTES 32
enum ami_status sm2_encapsulate_batch(point_bytes *c1, uint8_t (*key)[SM2_SHARED_KEY_BYTES],
                                      const point *p, struct span info,
                                      const uint8_t (*random)[SM2_WIDE_BYTES],
                                      size_t count) AMI_MUST_CHECK;
enum ami_status sm2_decapsulate_batch(uint8_t (*key)[SM2_SHARED_KEY_BYTES], bool *ok,
                                      const sm2_private *d, const point_bytes *c1, struct span info,
                                      size_t count) AMI_MUST_CHECK;

/* C1 (x || y, 64 bytes) || C3 || C2; out receives 96 + plain.size bytes. */
#define SM2_ENCRYPT_OVERHEAD_BYTES 96
enum ami_status sm2_encrypt(uint8_t *out, const point *p, struct span plain,
                            const uint8_t random[SM2_WIDE_BYTES]) AMI_MUST_CHECK;
enum ami_status sm2_encrypt_with_nonce(uint8_t *out, const point *p, struct span plain,
                                       const scalar *k) AMI_MUST_CHECK;
/* out receives sealed.size - 96 bytes; wiped on AMI_BAD_CRYPTO. */
enum ami_status sm2_decrypt(uint8_t *out, const sm2_private *d, struct span sealed) AMI_MUST_CHECK;

/* --- key exchange, GB/T 32918.3 --------------------------------------------------------------- */

/* One side of the exchange. Initiator is A. `z_a`, `z_b`, `r_a`, `r_b` are always A's and B's. */
struct sm2_exchange_in {
    bool initiator;
    const scalar *d; /* own private key */
    const scalar *r; /* own ephemeral */
    const point *r_a, *r_b;
    const point *p_peer;
    const sm3_digest *z_a, *z_b;
};
struct sm2_exchange_out {
    uint8_t xy_v[SM2_XY_BYTES]; /* secret */
    sm3_digest s_a;             /* SM3(03 || yV || inner), A's confirmation */
    sm3_digest s_b;             /* SM3(02 || yV || inner), B's confirmation */
    sm3_digest inner;           /* for vectors */
};
/* AMI_BAD_CRYPTO when V is infinity. Wipe `out` after use. */
enum ami_status sm2_exchange(struct sm2_exchange_out *out,
                             const struct sm2_exchange_in *in) AMI_MUST_CHECK;
enum ami_status sm2_exchange_batch(struct sm2_exchange_out *out, const struct sm2_exchange_in *in,
                                   bool *ok, size_t count) AMI_MUST_CHECK;
/* K = KDF(xV || yV || Z_A || Z_B). */
void sm2_exchange_key(uint8_t *key, size_t key_size, const struct sm2_exchange_out *x,
                      const sm3_digest *z_a, const sm3_digest *z_b);

#endif
