/* sim/lab/link_x509.h - X.509 chains made in the process by OpenSSL's libcrypto: a root, an
 * authority under it, and leaves under that. For links-crypto, for attacks on the channel
 * (scene.h), and for tests that want no files.
 *
 * Keys are libcrypto's own, so a chain is another one in each run. What cannot be made aborts.
 */
#ifndef AMI_SIM_LAB_LINK_X509_H
#define AMI_SIM_LAB_LINK_X509_H

#include "channel/x509.h"

#include <openssl/x509.h>

enum link_x509_kind {
    LINK_X509_SM2,  /* SM2 with SM3 over the ID 1234567812345678 (GM/T 0009) */
    LINK_X509_P256, /* ECDSA on P-256 with SHA-256 */
    LINK_X509_RSA,  /* RSA of 2048 bits with SHA-256 */
};

struct link_x509 {
    enum link_x509_kind kind;
    int64_t from_s, until_s; /* validity of all certificates, seconds since 1970 */
    long serial;
    EVP_PKEY *root_key, *authority_key;
    X509 *root, *authority;
};
void link_x509_make(struct link_x509 *out, enum link_x509_kind kind, int64_t from_s,
                    int64_t until_s);
void link_x509_free(struct link_x509 *x);

struct link_x509_leaf {
    EVP_PKEY *key;
    X509 *certificate;
};
/* `san`: a subject alternative name as OpenSSL's configuration has it ("URI:..."); NULL: none. */
void link_x509_leaf_make(struct link_x509_leaf *out, struct link_x509 *x, const char *name,
                         const char *san);
void link_x509_leaf_free(struct link_x509_leaf *leaf);

/* For channels, of a chain with SM2 keys: what its root vouches for (owned by the caller), and
 * somebody's credential: a DC's when `label` is NULL, else an operator's. */
struct x509_trust *link_x509_trust(const struct link_x509 *x);
void link_x509_credential(struct credential *out, struct link_x509 *x, const struct network *net,
                          const char *name, const char *label);

#endif
