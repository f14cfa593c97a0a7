#include "bench/links_rows.h"

#include "base/check.h"
#include "bench/openssl.h"
#include "crypto/secret.h"
#include "sim/lab/realm_x509.h"

#include <openssl/pem.h>
#include <string.h>
#include <time.h>

#define PER_REPETITION 8

const char *const links_handshake_rows[] = {
    "handshake_implicit_ecdsa",
    "handshake_implicit_rsa",
    "handshake_x509_ecdsa",
    "handshake_x509_rsa",
    "handshake_cfl_ecdsa",
    "handshake_cfl_rsa",
    "cfl_sign",
    "cfl_verify",
    NULL,
};

double links_now_ns(void)
{
    struct timespec t;
    AMI_CHECK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) == 0);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* Both sides of ours with one kind of credential, and what checks CFL and X.509. */
struct sides {
    struct realm realm;
    struct x509_realm *x509;
    struct x509_trust *trust;
    struct party i, r;
};

static void make_sides(struct sides *s, enum credential_kind kind)
{
    struct credential one, two;
    realm_make(&s->realm, "grid", 1);
    s->x509 = x509_realm_new(&s->realm);
    s->trust = x509_realm_trust(s->x509);
    if (kind == CREDENTIAL_X509) {
        x509_realm_credential(s->x509, &one, "dc-1", NULL);
        x509_realm_credential(s->x509, &two, "dc-2", NULL);
    } else {
        realm_credential(&s->realm, &one, kind, "dc-1", NULL, 0, 0);
        realm_credential(&s->realm, &two, kind, "dc-2", NULL, 0, 0);
    }
    party_make(&s->i, &s->realm, &one);
    party_make(&s->r, &s->realm, &two);
    s->i.trust.x509 = s->r.trust.x509 = s->trust;
    /* P_pub is the key that a node checks under all day: it has its tables. */
    AMI_CHECK(sm2_signer_remember(&s->realm.mdms.net.p_pub) == AMI_OK);
}

static void free_sides(struct sides *s)
{
    x509_trust_free(s->trust);
    x509_realm_free(s->x509);
    free(s);
}

/* Four frames, each timed for who handles it. */
static void our_handshake(struct sides *s, double *client_ns, double *server_ns)
{
    static struct frame a, b;
    double start = links_now_ns();
    struct party *i = &s->i, *r = &s->r;
    uint8_t random[2][CHANNEL_RANDOM_BYTES];
    secret_random(random, sizeof random);
    channel_start(&i->channel, &i->config, true, random[0], SUITE_WALL_MS);
    channel_first(&i->channel, a.b);
    a.size = CHANNEL_FIRST_BYTES;
    *client_ns += links_now_ns() - start;
    start = links_now_ns();
    channel_start(&r->channel, &r->config, false, random[1], SUITE_WALL_MS);
    (void)deliver(r, &a, &b);
    *server_ns += links_now_ns() - start;
    start = links_now_ns();
    (void)deliver(i, &b, &a);
    *client_ns += links_now_ns() - start;
    start = links_now_ns();
    struct channel_result open = deliver(r, &a, &b);
    *server_ns += links_now_ns() - start;
    start = links_now_ns();
    struct channel_result ready = deliver(i, &b, &a);
    *client_ns += links_now_ns() - start;
    if (open.event != CHANNEL_OPEN || ready.event != CHANNEL_OPEN)
        bench_fail("a handshake failed");
}

static void report(const struct links_run *run, const char *name, const char *part, double *ours,
                   double *theirs)
{
    char text[64];
    snprintf(text, sizeof text, "%s%s", name, part);
    const struct bench_row row = {
        .name = text,
        .batch = 1,
        .ours = bench_stats_of(ours, run->repetitions),
        .openssl = bench_stats_of(theirs, run->repetitions),
    };
    bench_report_row(run->report, &row);
}

static void handshake_row(const struct links_run *run, const char *name, enum credential_kind kind,
                          enum tls_kind tls_kind)
{
    static double ours[3][BENCH_REPETITIONS_MAX], theirs[3][BENCH_REPETITIONS_MAX];
    struct sides *s = bench_new(sizeof *s);
    struct tls *tls = tls_new(tls_kind);
    double warm[2] = {0};
    make_sides(s, kind);
    our_handshake(s, &warm[0], &warm[1]);
    tls_handshake(tls, &warm[0], &warm[1]);
    for (unsigned n = 0; n < run->repetitions; n++) {
        double mine[2] = {0}, other[2] = {0};
        for (int k = 0; k < PER_REPETITION; k++) {
            our_handshake(s, &mine[0], &mine[1]);
            tls_handshake(tls, &other[0], &other[1]);
        }
        for (int side = 0; side < 2; side++) {
            ours[side][n] = mine[side] / PER_REPETITION;
            theirs[side][n] = other[side] / PER_REPETITION;
        }
        ours[2][n] = ours[0][n] + ours[1][n];
        theirs[2][n] = theirs[0][n] + theirs[1][n];
    }
    report(run, name, "", ours[2], theirs[2]);
    report(run, name, "_client", ours[0], theirs[0]);
    report(run, name, "_server", ours[1], theirs[1]);
    tls_free(tls);
    free_sides(s);
}

/* --- CFL certificates beside X.509 ------------------------------------------------------------ */

#define LABEL_BENCH "amiledger bench v1"

struct certificates {
    struct sides *s;
    struct credential x509;
    uint8_t nonce[CREDENTIAL_NONCE_BYTES];
    uint8_t shown[CREDENTIAL_BYTES_MAX], x509_shown[CREDENTIAL_BYTES_MAX];
    size_t shown_size, x509_size;
    sm2_signature sig;
    EVP_PKEY_CTX *sign, *verify;
    uint8_t der[OPENSSL_SIGNATURE_BYTES];
    size_t der_size;
    sm3_digest digest;
};

static struct credential_moment moment_of(const struct certificates *c)
{
    return (struct credential_moment){SUITE_WALL_MS, c->nonce};
}

/* The certificate of a session: shown and signed. */
static void cfl_sign(void *with, size_t first, size_t count, size_t batch)
{
    struct certificates *c = with;
    const struct credential_moment at = moment_of(c);
    (void)first;
    (void)batch;
    for (size_t n = 0; n < count; n++) {
        uint8_t random[SM2_WIDE_BYTES];
        secret_random(random, sizeof random);
        c->shown_size = credential_show(c->shown, &c->s->i.own, &at);
        const struct span part = span_of(c->shown, c->shown_size);
        c->sig = credential_sign(&c->s->i.own, LABEL_BENCH, &part, 1, random);
    }
}

/* Both signatures of the certificate, and the session's. */
static void cfl_verify(void *with, size_t first, size_t count, size_t batch)
{
    struct certificates *c = with;
    const struct credential_moment at = moment_of(c);
    struct credential_peer peer;
    (void)first;
    (void)batch;
    for (size_t n = 0; n < count; n++) {
        const struct span part = span_of(c->shown, c->shown_size);
        if (credential_check(&peer, CREDENTIAL_CFL, part, &c->s->r.trust, &at) != FAULT_NONE ||
            credential_verify(&peer, LABEL_BENCH, &part, 1, &c->sig) != FAULT_NONE)
            bench_fail("a CFL certificate does not verify");
    }
}

/* OpenSSL: a signature under the leaf's key. */
static void x509_sign(void *with, size_t first, size_t count, size_t batch)
{
    struct certificates *c = with;
    (void)first;
    (void)batch;
    for (size_t n = 0; n < count; n++) {
        c->der_size = sizeof c->der;
        openssl_need(EVP_PKEY_sign(c->sign, c->der, &c->der_size, c->digest.b, SM3_BYTES) == 1,
                     "signature");
    }
}

/* OpenSSL: the chain of two, and the signature. */
static void x509_verify(void *with, size_t first, size_t count, size_t batch)
{
    struct certificates *c = with;
    const struct credential_moment at = moment_of(c);
    struct credential_peer peer;
    (void)first;
    (void)batch;
    for (size_t n = 0; n < count; n++) {
        if (credential_check(&peer, CREDENTIAL_X509, span_of(c->x509_shown, c->x509_size),
                             &c->s->r.trust, &at) != FAULT_NONE)
            bench_fail("a chain does not verify");
        openssl_need(EVP_PKEY_verify(c->verify, c->der, c->der_size, c->digest.b, SM3_BYTES) == 1,
                     "verification");
    }
}

static void certificate_rows(const struct links_run *run)
{
    struct certificates *c = bench_new(sizeof *c);
    c->s = bench_new(sizeof *c->s);
    make_sides(c->s, CREDENTIAL_CFL);
    x509_realm_credential(c->s->x509, &c->x509, "dc-9", NULL);
    const struct credential_moment at = moment_of(c);
    c->x509_size = credential_show(c->x509_shown, &c->x509, &at);
    openssl_start();
    c->sign = openssl_context(&c->x509.key, OPENSSL_SIGN);
    c->verify = openssl_context(&c->x509.key, OPENSSL_VERIFY);
    cfl_sign(c, 0, 1, 1);
    x509_sign(c, 0, 1, 1);
    static const struct {
        const char *name;
        bench_work *ours, *theirs;
    } rows[] = {{"cfl_sign", cfl_sign, x509_sign}, {"cfl_verify", cfl_verify, x509_verify}};
    for (size_t n = 0; n < 2; n++) {
        if (!run->chosen(rows[n].name))
            continue;
        struct bench_row row = {.name = rows[n].name, .batch = 1};
        const struct bench_side ours = {rows[n].ours, c, 1, 1024},
                                theirs = {rows[n].theirs, c, 1, 128};
        bench_compare(&row.ours, &row.openssl, &ours, &theirs, run->repetitions);
        bench_report_row(run->report, &row);
    }
    EVP_PKEY_CTX_free(c->sign);
    EVP_PKEY_CTX_free(c->verify);
    openssl_stop();
    free_sides(c->s);
    free(c);
}

void links_handshakes(const struct links_run *run)
{
    static const struct {
        enum credential_kind kind;
        enum tls_kind tls;
    } rows[] = {{CREDENTIAL_IMPLICIT, TLS_ECDSA}, {CREDENTIAL_IMPLICIT, TLS_RSA},
                {CREDENTIAL_X509, TLS_ECDSA},     {CREDENTIAL_X509, TLS_RSA},
                {CREDENTIAL_CFL, TLS_ECDSA},      {CREDENTIAL_CFL, TLS_RSA}};
    for (size_t n = 0; n < sizeof rows / sizeof rows[0]; n++)
        if (run->chosen(links_handshake_rows[n]))
            handshake_row(run, links_handshake_rows[n], rows[n].kind, rows[n].tls);
    if (run->chosen("cfl_sign") || run->chosen("cfl_verify"))
        certificate_rows(run);
}
