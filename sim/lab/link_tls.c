#include "sim/lab/link_tls.h"

#include "base/check.h"
#include "sim/lab/lab.h"

#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RECORD_BYTES_MAX 16384

struct link_tls {
    SSL_CTX *client_ctx, *server_ctx;
    SSL *client, *server; /* NULL before the first handshake */
};

const char *link_tls_suite(enum link_x509_kind kind)
{
    return kind == LINK_X509_P256 ? "ECDHE-ECDSA-AES256-GCM-SHA384" : "ECDHE-RSA-AES256-GCM-SHA384";
}

static SSL_CTX *make_context(struct link_x509 *x, const SSL_METHOD *method, const char *name)
{
    struct link_x509_leaf leaf;
    SSL_CTX *ctx = SSL_CTX_new(method);
    AMI_CHECK(ctx != NULL);
    link_x509_leaf_make(&leaf, x, name, NULL);
    AMI_CHECK(SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1 &&
              SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION) == 1);
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    AMI_CHECK(SSL_CTX_set_cipher_list(ctx, link_tls_suite(x->kind)) == 1 &&
              SSL_CTX_use_certificate(ctx, leaf.certificate) == 1 &&
              SSL_CTX_use_PrivateKey(ctx, leaf.key) == 1 &&
              SSL_CTX_add1_chain_cert(ctx, x->authority) == 1 &&
              X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), x->root) == 1);
    link_x509_leaf_free(&leaf);
    return ctx;
}

struct link_tls *link_tls_new(enum link_x509_kind kind)
{
    const int64_t now_s = (int64_t)time(NULL); /* TLS looks at no other clock */
    struct link_x509 x;
    struct link_tls *l = calloc(1, sizeof *l);
    AMI_CHECK(l != NULL);
    link_x509_make(&x, kind, now_s - 86400, now_s + 86400);
    l->client_ctx = make_context(&x, TLS_client_method(), "client");
    l->server_ctx = make_context(&x, TLS_server_method(), "server");
    link_x509_free(&x);
    return l;
}

void link_tls_free(struct link_tls *l)
{
    SSL_free(l->client);
    SSL_free(l->server);
    SSL_CTX_free(l->client_ctx);
    SSL_CTX_free(l->server_ctx);
    free(l);
}

static bool step(SSL *ssl, double *ns)
{
    uint64_t from = lab_cpu_ns();
    int done = SSL_do_handshake(ssl);
    bool good = done == 1 || SSL_get_error(ssl, done) == SSL_ERROR_WANT_READ;
    *ns += (double)(lab_cpu_ns() - from);
    return good;
}

bool link_tls_open(struct link_tls *l, double ns[2])
{
    uint64_t from = lab_cpu_ns();
    SSL_free(l->client);
    l->client = SSL_new(l->client_ctx);
    BIO *to_client = BIO_new(BIO_s_mem()), *to_server = BIO_new(BIO_s_mem());
    AMI_CHECK(l->client != NULL && to_client != NULL && to_server != NULL);
    SSL_set_bio(l->client, to_client, to_server);
    SSL_set_connect_state(l->client);
    ns[0] += (double)(lab_cpu_ns() - from);
    from = lab_cpu_ns();
    SSL_free(l->server);
    l->server = SSL_new(l->server_ctx);
    AMI_CHECK(l->server != NULL && BIO_up_ref(to_client) == 1 && BIO_up_ref(to_server) == 1);
    SSL_set_bio(l->server, to_server, to_client);
    SSL_set_accept_state(l->server);
    ns[1] += (double)(lab_cpu_ns() - from);
    bool good = true;
    for (int round = 0;
         good && (!SSL_is_init_finished(l->client) || !SSL_is_init_finished(l->server)); round++)
        good = round < 10 && step(l->client, &ns[0]) && step(l->server, &ns[1]);
    return good && SSL_get_verify_result(l->client) == X509_V_OK &&
           SSL_get_verify_result(l->server) == X509_V_OK;
}

bool link_tls_send(struct link_tls *l, const uint8_t *text, size_t size, size_t count, double ns[2])
{
    static uint8_t got[RECORD_BYTES_MAX];
    bool good = size <= RECORD_BYTES_MAX;
    uint64_t from = lab_cpu_ns();
    for (size_t i = 0; i < count && good; i++)
        good = SSL_write(l->client, text, (int)size) == (int)size;
    ns[0] += (double)(lab_cpu_ns() - from);
    from = lab_cpu_ns();
    for (size_t i = 0; i < count && good; i++)
        good = SSL_read(l->server, got, (int)size) == (int)size;
    ns[1] += (double)(lab_cpu_ns() - from);
    return good && memcmp(got, text, size) == 0;
}
