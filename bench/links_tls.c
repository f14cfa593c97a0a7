#include "bench/links_rows.h"

#include "bench/openssl.h"

#include <openssl/ssl.h>
#include <openssl/x509v3.h>

struct tls {
    SSL_CTX *client, *server;
};

static EVP_PKEY *make_key(enum tls_kind kind)
{
    EVP_PKEY *key = kind == TLS_ECDSA ? EVP_EC_gen("P-256") : EVP_RSA_gen(2048);
    openssl_need(key != NULL, "key generation");
    return key;
}

static X509 *make_certificate(EVP_PKEY *key, const char *name, X509 *issuer, EVP_PKEY *issuer_key)
{
    static long serial;
    X509 *x = X509_new();
    openssl_need(x != NULL && X509_set_version(x, 2) == 1, "X509_new");
    ASN1_INTEGER_set(X509_get_serialNumber(x), ++serial);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
                               (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(issuer == NULL ? x : issuer));
    X509_gmtime_adj(X509_getm_notBefore(x), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x), 86400);
    X509_set_pubkey(x, key);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints,
                                            issuer == NULL ? "critical,CA:TRUE" : "CA:FALSE");
    openssl_need(e != NULL && X509_add_ext(x, e, -1) == 1, "X509_add_ext");
    X509_EXTENSION_free(e);
    openssl_need(X509_sign(x, issuer_key, EVP_sha256()) > 0, "X509_sign");
    return x;
}

static SSL_CTX *make_context(enum tls_kind kind, const SSL_METHOD *method, const char *name,
                             X509 *root, EVP_PKEY *root_key)
{
    EVP_PKEY *key = make_key(kind);
    X509 *x = make_certificate(key, name, root, root_key);
    SSL_CTX *ctx = SSL_CTX_new(method);
    openssl_need(ctx != NULL, "SSL_CTX_new");
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    openssl_need(
        SSL_CTX_set_cipher_list(ctx, kind == TLS_ECDSA ? "ECDHE-ECDSA-AES256-GCM-SHA384"
                                                       : "ECDHE-RSA-AES256-GCM-SHA384") == 1 &&
            SSL_CTX_use_certificate(ctx, x) == 1 && SSL_CTX_use_PrivateKey(ctx, key) == 1 &&
            X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), root) == 1,
        "SSL_CTX");
    X509_free(x);
    EVP_PKEY_free(key);
    return ctx;
}

struct tls *tls_new(enum tls_kind kind)
{
    struct tls *t = bench_new(sizeof *t);
    EVP_PKEY *root_key = make_key(kind);
    X509 *root = make_certificate(root_key, "root", NULL, root_key);
    t->client = make_context(kind, TLS_client_method(), "client", root, root_key);
    t->server = make_context(kind, TLS_server_method(), "server", root, root_key);
    X509_free(root);
    EVP_PKEY_free(root_key);
    return t;
}

void tls_free(struct tls *t)
{
    SSL_CTX_free(t->client);
    SSL_CTX_free(t->server);
    free(t);
}

void tls_handshake(struct tls *t, double *client_ns, double *server_ns)
{
    double start = links_now_ns();
    SSL *client = SSL_new(t->client);
    BIO *c_in = BIO_new(BIO_s_mem()), *s_in = BIO_new(BIO_s_mem());
    openssl_need(client != NULL && c_in != NULL && s_in != NULL, "SSL_new");
    SSL_set_bio(client, c_in, s_in);
    SSL_set_connect_state(client);
    *client_ns += links_now_ns() - start;
    start = links_now_ns();
    SSL *server = SSL_new(t->server);
    openssl_need(server != NULL && BIO_up_ref(c_in) == 1 && BIO_up_ref(s_in) == 1, "SSL_new");
    SSL_set_bio(server, s_in, c_in);
    SSL_set_accept_state(server);
    *server_ns += links_now_ns() - start;
    for (int round = 0; !SSL_is_init_finished(client) || !SSL_is_init_finished(server); round++) {
        openssl_need(round < 10, "TLS handshake");
        start = links_now_ns();
        int done = SSL_do_handshake(client);
        openssl_need(done == 1 || SSL_get_error(client, done) == SSL_ERROR_WANT_READ, "client");
        *client_ns += links_now_ns() - start;
        start = links_now_ns();
        done = SSL_do_handshake(server);
        openssl_need(done == 1 || SSL_get_error(server, done) == SSL_ERROR_WANT_READ, "server");
        *server_ns += links_now_ns() - start;
    }
    openssl_need(SSL_get_verify_result(client) == X509_V_OK &&
                     SSL_get_verify_result(server) == X509_V_OK,
                 "verification");
    start = links_now_ns();
    SSL_free(client);
    *client_ns += links_now_ns() - start;
    start = links_now_ns();
    SSL_free(server);
    *server_ns += links_now_ns() - start;
}
