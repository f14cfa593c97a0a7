/* channel/cfl.h - CFL identity certificates: verified with a public set alone, no third party.
 *
 * The issuer holds a seed key set, rows by columns of private keys; everybody holds the public set,
 * the same matrix of points. An identity selects one key of each row (by SM3 of its bytes), and
 * their sum is the key that signs its certificate. So there is a signing key per identity,
 * whose public half anybody computes from the public set, and no certificate of an issuer is to be
 * fetched. The user's own key pair (RASK, RAPK) is the user's alone.
 *
 *   identity key    d_ID = sum over rows i of s[i][SM3(label, identity)_i mod columns] mod n
 *   certificate     identity, RAPK, Sig_RASK(identity, RAPK), Sig_dID(identity, RAPK, Sig_RASK)
 *   of a session    certificate, the verifier's random, the time; signed with RASK as part of the
 *                   handshake's transcript
 *
 * d_ID never leaves the issuer: identity keys are linear in the seed, so a few hundred of them give
 * all (docs/security.md; tests/channel/test_cfl.c does it).
 *
 * Source: the CFL papers (Chen et al.) for seed sets, RAPK, self-signature and dynamic
 * certificates; the encodings are ours.
 */
#ifndef AMI_CHANNEL_CFL_H
#define AMI_CHANNEL_CFL_H

#include "channel/credential.h"

#define CFL_ROWS_MAX    32 /* a digest has one byte for each */
#define CFL_COLUMNS_MAX 16
#define CFL_KEYS_MAX    (CFL_ROWS_MAX * CFL_COLUMNS_MAX)

/* The issuer's secret. Wipe after use. */
struct cfl_seed {
    uint8_t rows, columns; /* columns: a power of two */
    scalar key[CFL_KEYS_MAX];
};

/* What everybody holds; 33 KB. */
struct cfl_public {
    uint8_t rows, columns;
    point key[CFL_KEYS_MAX];
};

#define CFL_CERTIFICATE_BYTES_MAX (IDENTITY_BYTES_MAX + SM2_POINT_BYTES + 2 * SM2_SIGNATURE_BYTES)

struct cfl_certificate {
    struct credential_identity who; /* kind and fingerprint unset */
    sm2_signature self, issuer;
};

/* Draws a seed set; random: CFL_KEYS_MAX times SM2_WIDE_BYTES. AMI_BAD_ARGUMENT: rows 1 to 32,
 * columns 2, 4, 8 or 16. */
enum ami_status cfl_seed_make(struct cfl_seed *out, uint8_t rows, uint8_t columns,
                              const uint8_t (*random)[SM2_WIDE_BYTES]) AMI_MUST_CHECK;
void cfl_public_of(struct cfl_public *out, const struct cfl_seed *seed);

/* The user: RASK drawn, identity self-signed. `who` needs what identity_write writes.
 * AMI_BAD_ARGUMENT: an identity that cannot be. random: the key, then the signature's nonce. */
enum ami_status cfl_request(struct cfl_certificate *out, sm2_private *rask,
                            const struct credential_identity *who,
                            const uint8_t random[2][SM2_WIDE_BYTES]) AMI_MUST_CHECK;
/* The same over a key that the user has, such as a DC's enrolled one. random: the nonce. */
enum ami_status cfl_request_with(struct cfl_certificate *out, const sm2_private *rask,
                                 const struct credential_identity *who,
                                 const uint8_t random[SM2_WIDE_BYTES]) AMI_MUST_CHECK;
/* Is the self-signature good, so that whoever has RASK asks for this? AMI_BAD_SIGNATURE. */
enum ami_status cfl_request_check(const struct cfl_certificate *in) AMI_MUST_CHECK;
/* The issuer: checks the self-signature and signs under the identity's key. It is the caller who
 * decides whether this identity is to be had. AMI_BAD_SIGNATURE, AMI_BAD_ARGUMENT. */
enum ami_status cfl_issue(struct cfl_certificate *certificate, const struct cfl_seed *seed,
                          const uint8_t random[SM2_WIDE_BYTES]) AMI_MUST_CHECK;
/* A credential from both. AMI_BAD_CRYPTO: the key is not the certificate's. */
enum ami_status cfl_credential(struct credential *out, const struct cfl_certificate *certificate,
                               const sm2_private *rask) AMI_MUST_CHECK;

/* Returns the size. */
size_t cfl_certificate_encode(uint8_t out[CFL_CERTIFICATE_BYTES_MAX],
                              const struct cfl_certificate *in);
/* AMI_BAD_ENCODING. No signature is checked. */
enum ami_status cfl_certificate_parse(struct cfl_certificate *out, struct span in) AMI_MUST_CHECK;
/* Both signatures, with the public set alone: FAULT_SIGNATURE (of the user), FAULT_WRONG_CHAIN (of
 * the issuer), FAULT_MALFORMED. */
enum channel_fault cfl_certificate_check(const struct cfl_certificate *in,
                                         const struct cfl_public *set);

/* As a file: "amicflq\n" for a request, which no issuer has signed yet, "amicflc\n" for a
 * certificate, version u8 1, and what stands above without or with the issuer's signature. Public;
 * the signatures in it tell whether it is whole. */
#define CFL_FILE_BYTES_MAX (8 + 1 + CFL_CERTIFICATE_BYTES_MAX)
/* out has CFL_FILE_BYTES_MAX bytes. Returns the size. */
size_t cfl_file_encode(uint8_t *out, const struct cfl_certificate *in, bool issued);
/* AMI_BAD_ENCODING: no such file, or a request where a certificate is wanted (`issued`), or the
 * other way round; AMI_BAD_VERSION. No signature is checked. */
enum ami_status cfl_file_parse(struct cfl_certificate *out, bool issued,
                               struct span in) AMI_MUST_CHECK;

/* rows u8, columns u8, then points compressed or keys, row by row. */
#define CFL_PUBLIC_BYTES_MAX (2 + CFL_KEYS_MAX * SM2_POINT_BYTES)
size_t cfl_public_encode(uint8_t *out, const struct cfl_public *in);
enum ami_status cfl_public_parse(struct cfl_public *out, struct span in) AMI_MUST_CHECK;
/* The seed in the same form, to be sealed at once (crypto/secret.h). */
#define CFL_SEED_BYTES_MAX (2 + CFL_KEYS_MAX * SM2_SCALAR_BYTES)
size_t cfl_seed_encode(uint8_t *out, const struct cfl_seed *in);
enum ami_status cfl_seed_parse(struct cfl_seed *out, struct span in) AMI_MUST_CHECK;

#endif
