/* sim/lab/link_tls.h - OpenSSL's TLS 1.2 beside our channels: both ends over memory, in one
 * process.
 *
 * Mutual authentication, no resumption; each side has a leaf under an authority under a root.
 */
#ifndef AMI_SIM_LAB_LINK_TLS_H
#define AMI_SIM_LAB_LINK_TLS_H

#include "sim/lab/link_x509.h"

#include <stdbool.h>
#include <stddef.h>

/* ECDHE-ECDSA-AES256-GCM-SHA384 on P-256 for LINK_X509_P256, ECDHE-RSA-AES256-GCM-SHA384 with 2048
 * bits for LINK_X509_RSA. */
struct link_tls;
struct link_tls *link_tls_new(enum link_x509_kind kind);
void link_tls_free(struct link_tls *l);
const char *link_tls_suite(enum link_x509_kind kind);

/* A whole handshake, which ends the one before; adds what each side took (client, server; processor
 * time, nanoseconds). False when it fails. */
bool link_tls_open(struct link_tls *l, double ns[2]);

/* The client writes `count` records of `size` bytes (16384 at most), then the server reads them;
 * adds what each took. False when one does not arrive as it was. */
bool link_tls_send(struct link_tls *l, const uint8_t *text, size_t size, size_t count,
                   double ns[2]);

#endif
