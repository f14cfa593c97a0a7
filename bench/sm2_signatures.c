/* Signing with the hedged nonce, and verification: of signers whose tables the library keeps, and
 * of as many unknown ones as there are signatures.
 *
 * OpenSSL gets the digest e as well (plain EVP_PKEY_sign and EVP_PKEY_verify of an SM2 key hash
 * nothing), its keys and DER signatures are decoded beforehand, and each signer has its context.
 */
#include "bench/sm2_rows.h"

#include "crypto/secret.h"

#include <stdlib.h>
#include <string.h>

#define POOL 2048
/* The DCs of the smallest committee, AMI_MEMBERS_MIN: one signer's tables alone would stay in a
 * nearer cache than a node's do. */
#define KNOWN_SIGNERS AMI_MEMBERS_MIN

/* Signatures that belong to points and digests at the same index. */
struct signed_set {
    const sm2_private *key[POOL];
    point p[POOL];
    sm3_digest e[POOL];
    sm2_signature sig[POOL];
    bool ok[POOL];
    EVP_PKEY_CTX *verify[OPENSSL_POOL];
    uint8_t der[OPENSSL_POOL][OPENSSL_SIGNATURE_BYTES];
    size_t der_size[OPENSSL_POOL];
};

struct signatures {
    sm2_private signer[POOL]; /* of the unknown set: each signs once */
    sm2_private known_signer[KNOWN_SIGNERS];
    struct signed_set unknown, known;
    uint8_t random[POOL][SM2_WIDE_BYTES];
    sm2_signature made[POOL];
    EVP_PKEY_CTX *sign[OPENSSL_POOL];
    size_t refused; /* verifications that should have passed */
};

static void make_set(struct signatures *s, struct signed_set *set, const sm2_private *key,
                     size_t keys)
{
    secret_random(set->e, sizeof set->e);
    for (size_t i = 0; i < POOL; i++) {
        set->key[i] = &key[i % keys];
        set->p[i] = set->key[i]->p;
    }
    sm2_sign_batch(set->sig, set->key, set->e, SM2_WIDE(s->random), POOL);
    for (size_t i = 0; i < OPENSSL_POOL; i++) {
        set->verify[i] = openssl_context(set->key[i], OPENSSL_VERIFY);
        set->der_size[i] = openssl_signature(set->der[i], &set->sig[i]);
    }
}

static void *make(void)
{
    struct signatures *s = bench_new(sizeof *s);
    secret_random(s->random, sizeof s->random);
    for (size_t i = 0; i < POOL; i++)
        s->signer[i] = sm2_random_private();
    for (size_t i = 0; i < KNOWN_SIGNERS; i++) {
        s->known_signer[i] = sm2_random_private();
        if (sm2_signer_remember(&s->known_signer[i].p) != AMI_OK)
            bench_fail("the library did not take a signer to remember");
    }
    make_set(s, &s->unknown, s->signer, POOL);
    make_set(s, &s->known, s->known_signer, KNOWN_SIGNERS);
    for (size_t i = 0; i < OPENSSL_POOL; i++)
        s->sign[i] = openssl_context(s->unknown.key[i], OPENSSL_SIGN);
    return s;
}

static void release(void *with)
{
    struct signatures *s = with;
    for (size_t i = 0; i < OPENSSL_POOL; i++) {
        EVP_PKEY_CTX_free(s->unknown.verify[i]);
        EVP_PKEY_CTX_free(s->known.verify[i]);
        EVP_PKEY_CTX_free(s->sign[i]);
    }
    secret_wipe(s, sizeof *s);
    free(s);
}

/* --- what is timed ---------------------------------------------------------------------------- */

static void sign(void *with, size_t first, size_t count, size_t batch)
{
    struct signatures *s = with;
    const struct signed_set *set = &s->unknown;
    for (size_t at = first; at < first + count; at += batch) {
        if (batch == 1)
            s->made[at] = sm2_sign(set->key[at], &set->e[at], s->random[at]);
        else
            sm2_sign_batch(s->made + at, set->key + at, set->e + at, SM2_WIDE(s->random + at),
                           batch);
    }
}

static void openssl_sign(void *with, size_t first, size_t count, size_t batch)
{
    struct signatures *s = with;
    uint8_t der[OPENSSL_SIGNATURE_BYTES];
    (void)batch;
    for (size_t i = first; i < first + count; i++) {
        size_t size = sizeof der;
        openssl_need(EVP_PKEY_sign(s->sign[i], der, &size, s->unknown.e[i].b, SM3_BYTES) == 1,
                     "EVP_PKEY_sign");
    }
}

/* Returns how many calls did not accept all they were given. */
static size_t verify(struct signed_set *set, size_t first, size_t count, size_t batch)
{
    size_t refused = 0;
    for (size_t at = first; at < first + count; at += batch) {
        if (batch == 1) {
            set->ok[at] = sm2_verify(&set->p[at], &set->e[at], &set->sig[at]) == AMI_OK;
            refused += !set->ok[at];
        } else {
            refused += sm2_verify_batch(set->p + at, set->e + at, set->sig + at, set->ok + at,
                                        batch) != AMI_OK;
        }
    }
    return refused;
}

static void openssl_verify(const struct signed_set *set, size_t first, size_t count)
{
    for (size_t i = first; i < first + count; i++)
        openssl_need(EVP_PKEY_verify(set->verify[i], set->der[i], set->der_size[i], set->e[i].b,
                                     SM3_BYTES) == 1,
                     "EVP_PKEY_verify");
}

static void verify_known(void *with, size_t first, size_t count, size_t batch)
{
    struct signatures *s = with;
    s->refused += verify(&s->known, first, count, batch);
}

static void verify_unknown(void *with, size_t first, size_t count, size_t batch)
{
    struct signatures *s = with;
    s->refused += verify(&s->unknown, first, count, batch);
}

static void openssl_verify_known(void *with, size_t first, size_t count, size_t batch)
{
    struct signatures *s = with;
    (void)batch;
    openssl_verify(&s->known, first, count);
}

static void openssl_verify_unknown(void *with, size_t first, size_t count, size_t batch)
{
    struct signatures *s = with;
    (void)batch;
    openssl_verify(&s->unknown, first, count);
}

/* --- checks ----------------------------------------------------------------------------------- */

static void check_made(void *with, const struct sm2_row *row, size_t done)
{
    const struct signatures *s = with;
    const struct signed_set *set = &s->unknown;
    for (size_t i = 0; i < done; i += sm2_sample_step(done))
        if (!openssl_verifies(set->key[i], &set->e[i], &s->made[i]))
            bench_fail("%s: OpenSSL refuses signature %zu", row->name, i);
    sm2_signature bad = s->made[0];
    bad.b[SM2_SIGNATURE_BYTES - 1] ^= 1;
    if (openssl_verifies(set->key[0], &set->e[0], &bad))
        bench_fail("%s: OpenSSL accepts a tampered signature, so its word is no check", row->name);
}

#define TAMPERINGS 4

/* One bit of r, of s or of the digest, or somebody else's key. */
static void tamper(struct signed_set *set, size_t at, size_t other, unsigned way)
{
    if (way == 0)
        set->sig[at].b[31] ^= 1;
    else if (way == 1)
        set->sig[at].b[SM2_SIGNATURE_BYTES - 1] ^= 1;
    else if (way == 2)
        set->e[at].b[0] ^= 0x80;
    else
        set->p[at] = set->p[other];
}

/* One bad signature somewhere in the first batch: it alone must be refused. */
static void check_refusal(struct signed_set *set, const struct sm2_row *row, unsigned way)
{
    uint32_t drawn;
    secret_random(&drawn, sizeof drawn);
    size_t at = drawn % row->batch;
    point p = set->p[at];
    sm3_digest e = set->e[at];
    sm2_signature sig = set->sig[at];
    tamper(set, at, at + 1, way);
    memset(set->ok, 0, sizeof set->ok);
    if (verify(set, 0, row->batch, row->batch) != 1)
        bench_fail("%s: a tampered signature is accepted", row->name);
    for (size_t i = 0; i < row->batch; i++)
        if (set->ok[i] != (i != at))
            bench_fail("%s: signature %zu is tampered with, but %zu has the wrong answer",
                       row->name, at, i);
    set->p[at] = p;
    set->e[at] = e;
    set->sig[at] = sig;
}

/* What was timed was accepted; so is all of the pool; one bad signature alone is not. */
static void check_verify(const struct signatures *s, struct signed_set *set,
                         const struct sm2_row *row)
{
    if (s->refused != 0 || verify(set, 0, POOL, row->batch) != 0)
        bench_fail("%s: a good signature is refused", row->name);
    for (size_t i = 0; i < POOL; i++)
        if (!set->ok[i])
            bench_fail("%s: good signature %zu has the wrong answer", row->name, i);
    for (unsigned way = 0; way < TAMPERINGS; way++)
        check_refusal(set, row, way);
}

static void check_known(void *with, const struct sm2_row *row, size_t done)
{
    struct signatures *s = with;
    (void)done;
    check_verify(s, &s->known, row);
}

static void check_unknown(void *with, const struct sm2_row *row, size_t done)
{
    struct signatures *s = with;
    (void)done;
    check_verify(s, &s->unknown, row);
}

const struct sm2_family sm2_signatures = {
    .make = make,
    .release = release,
    .rows =
        {
            {"sign", 1, POOL, sign, openssl_sign, check_made},
            {"sign_batch8", 8, POOL, sign, openssl_sign, check_made},
            {"verify_known", 1, POOL, verify_known, openssl_verify_known, check_known},
            {"verify_known_batch8", 8, POOL, verify_known, openssl_verify_known, check_known},
            {"verify_unknown", 1, POOL, verify_unknown, openssl_verify_unknown, check_unknown},
            {"verify_unknown_batch8", 8, POOL, verify_unknown, openssl_verify_unknown,
             check_unknown},
            {"verify_unknown_block512", 512, POOL, verify_unknown, openssl_verify_unknown,
             check_unknown},
        },
};
