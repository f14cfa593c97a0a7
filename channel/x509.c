/* Shown bytes: count u8, then per certificate size u16 and DER, leaf first. */
#include "channel/x509.h"

#include "base/check.h"
#include "channel/internal.h"
#include "crypto/secret.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SM2_ID     "1234567812345678"
#define URN_PREFIX "urn:amiledger:"
#define URN_BYTES  256

struct x509_trust {
    X509_STORE *store;
    bool has_crls;
    int64_t until_s;
    STACK_OF(X509) * operators; /* authorities that may make them; NULL: none may */
    struct label highest;
};

/* --- certificates ----------------------------------------------------------------------------- */

/* Signatures of certificates are hashed over this ID. */
static bool set_id(X509 *x)
{
    ASN1_OCTET_STRING *id = ASN1_OCTET_STRING_new();
    if (id == NULL || ASN1_OCTET_STRING_set(id, (const unsigned char *)SM2_ID, -1) != 1) {
        ASN1_OCTET_STRING_free(id);
        return false;
    }
    X509_set0_distinguishing_id(x, id);
    return true;
}

static bool is_sm2(EVP_PKEY *key)
{
    char group[32];
    return key != NULL && EVP_PKEY_get_group_name(key, group, sizeof group, NULL) == 1 &&
           strcmp(group, "SM2") == 0;
}

/* The key of a certificate, when it is one on sm2p256v1. */
static bool public_point(point *out, X509 *x)
{
    uint8_t bytes[1 + SM2_XY_BYTES];
    size_t size = 0;
    EVP_PKEY *key = X509_get0_pubkey(x);
    return is_sm2(key) &&
           EVP_PKEY_get_octet_string_param(key, OSSL_PKEY_PARAM_PUB_KEY, bytes, sizeof bytes,
                                           &size) == 1 &&
           size == sizeof bytes && bytes[0] == 4 && point_from_xy(out, bytes + 1) == AMI_OK;
}

static bool seconds_of(int64_t *out, const ASN1_TIME *t)
{
    struct tm tm;
    if (t == NULL || ASN1_TIME_to_tm(t, &tm) != 1)
        return false;
    *out = (int64_t)timegm(&tm);
    return true;
}

/* Of several ends the first; one that cannot be read, or is not there, is none. */
static void end_sooner(int64_t *until_s, const ASN1_TIME *t)
{
    int64_t s;
    if (seconds_of(&s, t) && s < *until_s)
        *until_s = s;
}

/* The text up to the next colon, or the rest; NULL at the end. */
static char *next_word(char **rest)
{
    return *rest == NULL ? NULL : strsep(rest, ":");
}

static bool urn_parse(struct credential_identity *out, char urn[URN_BYTES])
{
    char *rest = urn + strlen(URN_PREFIX);
    const char *network = next_word(&rest), *role = next_word(&rest), *name = next_word(&rest);
    if (name == NULL || hex_decode(out->network.b, sizeof out->network.b, network) != AMI_OK ||
        ami_id_from_text(&out->name, name) != AMI_OK)
        return false;
    if (strcmp(role, "operator") == 0) {
        out->role = CREDENTIAL_OPERATOR;
        return rest != NULL && label_parse(&out->label, rest) == AMI_OK;
    }
    if (strcmp(role, "dc") == 0)
        out->role = CREDENTIAL_DC;
    else if (strcmp(role, "mdms") == 0)
        out->role = CREDENTIAL_MDMS;
    else
        return false;
    return rest == NULL;
}

/* Exactly one URI of ours. */
static bool urn_of(char out[URN_BYTES], const GENERAL_NAMES *names)
{
    unsigned found = 0;
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *n = sk_GENERAL_NAME_value(names, i);
        if (n->type != GEN_URI)
            continue;
        const unsigned char *text = ASN1_STRING_get0_data(n->d.uniformResourceIdentifier);
        size_t size = (size_t)ASN1_STRING_length(n->d.uniformResourceIdentifier);
        if (size < strlen(URN_PREFIX) || memcmp(text, URN_PREFIX, strlen(URN_PREFIX)) != 0)
            continue;
        if (size >= URN_BYTES || memchr(text, 0, size) != NULL || ++found > 1)
            return false;
        memcpy(out, text, size);
        out[size] = '\0';
    }
    return found == 1;
}

/* What the leaf says; not whether that is to be believed. */
static bool leaf_identity(struct credential_identity *out, point *p, X509 *leaf)
{
    char urn[URN_BYTES];
    memset(out, 0, sizeof *out);
    GENERAL_NAMES *names =
        (GENERAL_NAMES *)X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
    bool good = names != NULL && urn_of(urn, names) && urn_parse(out, urn) &&
                seconds_of(&out->from_s, X509_get0_notBefore(leaf)) &&
                seconds_of(&out->until_s, X509_get0_notAfter(leaf)) && identity_valid(out) &&
                public_point(p, leaf);
    GENERAL_NAMES_free(names);
    return good;
}

static bool usage_good(X509 *leaf, enum credential_role role)
{
    uint32_t flags = X509_get_extension_flags(leaf);
    if ((flags & EXFLAG_INVALID) != 0 || (flags & EXFLAG_KUSAGE) == 0 || X509_check_ca(leaf) != 0)
        return false;
    if ((X509_get_key_usage(leaf) & KU_DIGITAL_SIGNATURE) == 0)
        return false;
    uint32_t needed =
        role == CREDENTIAL_OPERATOR ? XKU_SSL_CLIENT : XKU_SSL_CLIENT | XKU_SSL_SERVER;
    return (flags & EXFLAG_XKUSAGE) == 0 || (X509_get_extended_key_usage(leaf) & needed) == needed;
}

/* --- checking --------------------------------------------------------------------------------- */

static enum channel_fault fault_of(int error)
{
    switch (error) {
    case X509_V_OK:
        return FAULT_NONE;
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return FAULT_EXPIRED;
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return FAULT_FUTURE;
    case X509_V_ERR_CERT_REVOKED:
        return FAULT_REVOKED;
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        return FAULT_SELF_SIGNED;
    case X509_V_ERR_INVALID_PURPOSE:
    case X509_V_ERR_INVALID_CA:
    case X509_V_ERR_KEYUSAGE_NO_CERTSIGN:
    case X509_V_ERR_PATH_LENGTH_EXCEEDED:
        return FAULT_USAGE;
    case X509_V_ERR_UNABLE_TO_GET_CRL:
    case X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER:
    case X509_V_ERR_CRL_SIGNATURE_FAILURE:
    case X509_V_ERR_CRL_NOT_YET_VALID:
    case X509_V_ERR_CRL_HAS_EXPIRED:
    case X509_V_ERR_KEYUSAGE_NO_CRL_SIGN:
        return FAULT_NO_CRL;
    default:
        return FAULT_WRONG_CHAIN;
    }
}

/* The leaf, and the others in a stack, or with NULL only the leaf; NULL unless all that was asked
 * for is exact DER. */
static X509 *chain_read(struct span shown, STACK_OF(X509) * others)
{
    struct reader r = reader_on(shown);
    X509 *leaf = NULL;
    uint8_t count = read_u8(&r);
    if (count < 1 || count > X509_CHAIN_MAX)
        return NULL;
    for (uint8_t i = 0; i < count; i++) {
        struct span der = read_span(&r, read_u16(&r));
        const unsigned char *at = der.data;
        if (!r.failed && i > 0 && others == NULL)
            continue;
        X509 *x = r.failed ? NULL : d2i_X509(NULL, &at, (long)der.size);
        bool good = x != NULL && at == der.data + der.size && set_id(x) &&
                    X509_get_signature_nid(x) == NID_SM2_with_SM3;
        if (good && i == 0)
            leaf = x;
        else if (!good || sk_X509_push(others, x) == 0) {
            X509_free(x);
            X509_free(leaf);
            return NULL;
        }
    }
    if (reader_done(&r))
        return leaf;
    X509_free(leaf);
    return NULL;
}

/* May this chain, which is verified, make that operator? */
static enum channel_fault operator_allowed(const struct x509_trust *trust,
                                           const STACK_OF(X509) * chain,
                                           const struct credential_identity *who)
{
    bool found = false;
    for (int i = 1; i < sk_X509_num(chain) && !found; i++)
        for (int j = 0; j < sk_X509_num(trust->operators) && !found; j++)
            found = X509_cmp(sk_X509_value(chain, i), sk_X509_value(trust->operators, j)) == 0;
    if (!found)
        return FAULT_ISSUER;
    return label_dominates(trust->highest, who->label) ? FAULT_NONE : FAULT_LABEL;
}

static enum channel_fault verify_chain(const struct x509_trust *trust, X509 *leaf,
                                       STACK_OF(X509) * others, struct credential_peer *peer,
                                       int64_t now_s)
{
    const struct credential_identity *who = &peer->who;
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    enum channel_fault fault = FAULT_WRONG_CHAIN;
    if (ctx == NULL || X509_STORE_CTX_init(ctx, trust->store, leaf, others) != 1)
        goto out;
    X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);
    X509_VERIFY_PARAM_set_time(param, (time_t)now_s);
    X509_VERIFY_PARAM_set_depth(param, X509_CHAIN_MAX);
    unsigned long flags = X509_V_FLAG_X509_STRICT; /* what RFC 5280 asks of every certificate */
    if (trust->has_crls)
        flags |= X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL;
    if (X509_VERIFY_PARAM_set_flags(param, flags) != 1)
        goto out;
    if (X509_verify_cert(ctx) != 1) {
        fault = fault_of(X509_STORE_CTX_get_error(ctx));
        if (fault == FAULT_NONE) /* it failed before it looked at anything */
            fault = FAULT_WRONG_CHAIN;
        goto out;
    }
    const STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(ctx);
    peer->vouched = sk_X509_num(chain) >= 2;
    if (!peer->vouched) /* a leaf that is an anchor itself vouches for itself */
        fault = FAULT_SELF_SIGNED;
    else if (!usage_good(leaf, who->role))
        fault = FAULT_USAGE;
    else
        fault = who->role == CREDENTIAL_OPERATOR ? operator_allowed(trust, chain, who) : FAULT_NONE;
out:
    X509_STORE_CTX_free(ctx);
    return fault;
}

/* The key alone, so that no other certificate over it, and no other way to it, is another's. */
static sm3_digest fingerprint_of(const point *p)
{
    point_bytes encoded = point_encode(p);
    return credential_fingerprint(CREDENTIAL_X509, span_of(encoded.b, sizeof encoded.b));
}

enum channel_fault x509_read(struct credential_peer *out, struct span shown,
                             const struct credential_trust *trust,
                             const struct credential_moment *at)
{
    (void)at;
    if (trust->x509 == NULL)
        return FAULT_NO_KIND;
    X509 *leaf = chain_read(shown, NULL);
    enum channel_fault fault = FAULT_MALFORMED;
    if (leaf != NULL && leaf_identity(&out->who, &out->p, leaf)) {
        out->z = sm2_z(SPAN_LITERAL(SM2_ID), &out->p);
        out->who.fingerprint = fingerprint_of(&out->p);
        fault = FAULT_NONE;
    }
    X509_free(leaf);
    ERR_clear_error();
    return fault;
}

enum channel_fault x509_vouched(struct credential_peer *peer, struct span shown,
                                const struct credential_trust *trust,
                                const struct credential_moment *at)
{
    STACK_OF(X509) *others = sk_X509_new_null();
    X509 *leaf = others == NULL ? NULL : chain_read(shown, others);
    enum channel_fault fault = FAULT_MALFORMED;
    if (leaf != NULL)
        fault = verify_chain(trust->x509, leaf, others, peer, at->wall_ms / 1000);
    X509_free(leaf);
    sk_X509_pop_free(others, X509_free);
    ERR_clear_error();
    return fault;
}

/* --- what is trusted -------------------------------------------------------------------------- */

static BIO *bio_of(struct span s)
{
    return s.size > INT32_MAX ? NULL : BIO_new_mem_buf(s.data, (int)s.size);
}

/* How many were added; -1 when one cannot be. */
static int add_roots(X509_STORE *store, BIO *in, int64_t *until_s)
{
    int count = 0;
    for (X509 *x; (x = PEM_read_bio_X509(in, NULL, NULL, NULL)) != NULL; count++) {
        bool good = set_id(x) && X509_STORE_add_cert(store, x) == 1;
        end_sooner(until_s, X509_get0_notAfter(x));
        X509_free(x);
        if (!good)
            return -1;
    }
    return count;
}

static int add_crls(X509_STORE *store, BIO *in, int64_t *until_s)
{
    int count = 0;
    for (X509_CRL *l; (l = PEM_read_bio_X509_CRL(in, NULL, NULL, NULL)) != NULL; count++) {
        bool good = X509_STORE_add_crl(store, l) == 1;
        end_sooner(until_s, X509_CRL_get0_nextUpdate(l));
        X509_CRL_free(l);
        if (!good)
            return -1;
    }
    return count;
}

struct x509_trust *x509_trust_new(struct span roots, struct span crls, char *why, size_t why_size)
{
    struct x509_trust *trust = calloc(1, sizeof *trust);
    BIO *roots_in = bio_of(roots), *crls_in = crls.size == 0 ? NULL : bio_of(crls);
    const char *bad = NULL;
    if (trust != NULL)
        trust->until_s = INT64_MAX;
    if (trust == NULL || roots_in == NULL || (crls.size != 0 && crls_in == NULL) ||
        (trust->store = X509_STORE_new()) == NULL)
        bad = "out of memory";
    else if (add_roots(trust->store, roots_in, &trust->until_s) < 1)
        bad = "there is no certificate in PEM among the roots";
    else if (crls_in != NULL && add_crls(trust->store, crls_in, &trust->until_s) < 1)
        bad = "there is no revocation list in PEM where one is named";
    if (bad == NULL)
        trust->has_crls = crls_in != NULL;
    BIO_free(roots_in);
    BIO_free(crls_in);
    ERR_clear_error(); /* the end of a PEM file is an error to libcrypto */
    if (bad == NULL)
        return trust;
    snprintf(why, why_size, "%s", bad);
    x509_trust_free(trust);
    return NULL;
}

enum ami_status x509_trust_operators(struct x509_trust *trust, struct span authorities,
                                     struct label highest)
{
    AMI_CHECK(trust->operators == NULL);
    BIO *in = bio_of(authorities);
    trust->operators = sk_X509_new_null();
    trust->highest = highest;
    enum ami_status status = in == NULL || trust->operators == NULL ? AMI_NO_MEMORY : AMI_OK;
    for (X509 *x; status == AMI_OK && (x = PEM_read_bio_X509(in, NULL, NULL, NULL)) != NULL;)
        if (sk_X509_push(trust->operators, x) == 0) {
            X509_free(x);
            status = AMI_NO_MEMORY;
        }
    BIO_free(in);
    ERR_clear_error();
    return status == AMI_OK && sk_X509_num(trust->operators) < 1 ? AMI_BAD_ENCODING : status;
}

int64_t x509_trust_until_s(const struct x509_trust *trust)
{
    return trust->until_s;
}

void x509_trust_free(struct x509_trust *trust)
{
    if (trust == NULL)
        return;
    X509_STORE_free(trust->store);
    sk_X509_pop_free(trust->operators, X509_free);
    free(trust);
}

/* --- to hold one ------------------------------------------------------------------------------ */

/* A file with a passphrase is refused instead of asking the terminal. */
static int no_passphrase(char *buffer, int size, int writing, void *ctx)
{
    (void)buffer;
    (void)size;
    (void)writing;
    (void)ctx;
    return -1;
}

enum ami_status x509_key(sm2_private *out, struct span pem)
{
    uint8_t bytes[SM2_SCALAR_BYTES];
    scalar d;
    BIGNUM *secret = NULL;
    BIO *in = bio_of(pem);
    EVP_PKEY *key = in == NULL ? NULL : PEM_read_bio_PrivateKey(in, NULL, no_passphrase, NULL);
    bool good = is_sm2(key) && EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_PRIV_KEY, &secret) == 1 &&
                BN_bn2binpad(secret, bytes, sizeof bytes) == sizeof bytes &&
                scalar_decode(&d, bytes) == AMI_OK && sm2_private_init(out, &d) == AMI_OK;
    BN_clear_free(secret);
    EVP_PKEY_free(key);
    BIO_free(in);
    ERR_clear_error();
    secret_wipe(bytes, sizeof bytes);
    secret_wipe(&d, sizeof d);
    return good ? AMI_OK : AMI_BAD_ENCODING;
}

/* Leaf first; roots, which the other side has, are left out. */
static bool write_chain(struct credential *out, point *leaf_point, BIO *in)
{
    struct writer w = writer_on(out->shown, sizeof out->shown);
    uint8_t count = 0;
    bool good = true;
    out->chain_until_s = INT64_MAX;
    write_u8(&w, 0);
    for (X509 *x; good && (x = PEM_read_bio_X509(in, NULL, NULL, NULL)) != NULL; X509_free(x)) {
        unsigned char *der = NULL;
        if (count > 0 && (X509_get_extension_flags(x) & EXFLAG_SS) != 0)
            continue;
        int size = i2d_X509(x, &der);
        good = size > 0 && size <= UINT16_MAX && count < X509_CHAIN_MAX &&
               (count > 0 || leaf_identity(&out->who, leaf_point, x));
        if (good) {
            end_sooner(&out->chain_until_s, X509_get0_notAfter(x));
            write_u16(&w, (uint16_t)size);
            write_raw(&w, der, (size_t)size);
            count++;
        }
        OPENSSL_free(der);
    }
    out->shown[0] = count;
    out->shown_size = w.size;
    return good && count > 0 && writer_ok(&w);
}

enum ami_status x509_identity(struct credential_identity *out, struct span pem)
{
    point p;
    BIO *in = bio_of(pem);
    X509 *leaf = in == NULL ? NULL : PEM_read_bio_X509(in, NULL, NULL, NULL);
    const bool good = leaf != NULL && leaf_identity(out, &p, leaf);
    if (good) {
        out->kind = CREDENTIAL_X509;
        out->key = point_encode(&p);
        out->fingerprint = fingerprint_of(&p);
    }
    X509_free(leaf);
    BIO_free(in);
    ERR_clear_error();
    return good ? AMI_OK : AMI_BAD_ENCODING;
}

enum channel_fault x509_chain_check(struct span chain_pem, const struct x509_trust *trust,
                                    int64_t at_s)
{
    point p;
    const struct credential_trust all = {.x509 = trust};
    const struct credential_moment at = {.wall_ms = at_s * 1000};
    struct credential *shown = calloc(1, sizeof *shown);
    BIO *in = bio_of(chain_pem);
    enum channel_fault fault = FAULT_MALFORMED;
    if (shown != NULL && in != NULL && write_chain(shown, &p, in)) {
        struct credential_peer peer = {.who = shown->who};
        fault = x509_vouched(&peer, span_of(shown->shown, shown->shown_size), &all, &at);
    }
    free(shown);
    BIO_free(in);
    ERR_clear_error();
    return fault;
}

static enum ami_status say(enum ami_status status, char *why, size_t why_size, const char *text)
{
    snprintf(why, why_size, "%s", text);
    return status;
}

enum ami_status x509_credential(struct credential *out, const struct network *net,
                                const sm2_private *key, struct span chain_pem, char *why,
                                size_t why_size)
{
    point p;
    memset(out, 0, sizeof *out);
    BIO *chain_in = bio_of(chain_pem);
    enum ami_status status = AMI_OK;
    if (chain_in == NULL)
        status = say(AMI_NO_MEMORY, why, why_size, "out of memory");
    else if (!write_chain(out, &p, chain_in))
        status = say(AMI_BAD_ENCODING, why, why_size,
                     "the chain is not one to four certificates in PEM, the first with an SM2 key "
                     "and a subject alternative name urn:amiledger:NETWORK:ROLE:NAME");
    else if (!point_equal(&p, &key->p))
        status = say(AMI_BAD_CRYPTO, why, why_size, "the key is not that of the first certificate");
    else if (!sm3_equal(&out->who.network, &net->id))
        status = say(AMI_WRONG_CHAIN, why, why_size, "the certificate is for another network");
    BIO_free(chain_in);
    ERR_clear_error();
    if (status != AMI_OK) {
        secret_wipe(out, sizeof *out);
        return status;
    }
    out->key = *key;
    out->who.kind = CREDENTIAL_X509;
    out->who.key = point_encode(&p);
    out->who.fingerprint = fingerprint_of(&p);
    out->z = sm2_z(SPAN_LITERAL(SM2_ID), &p);
    return AMI_OK;
}
