/* tests/channel/x509_made.h - X.509 credentials made in the process, for fuzz targets and
 * benchmarks; tests take what OpenSSL's command line makes (make_certificates). */
#ifndef AMI_TESTS_CHANNEL_X509_MADE_H
#define AMI_TESTS_CHANNEL_X509_MADE_H

#include "tests/channel/support.h"

/* A root, an authority under it and DCs under that. Valid around SUITE_WALL_MS. */
struct x509_realm;
struct x509_realm *x509_realm_new(struct realm *r);
void x509_realm_free(struct x509_realm *x);
/* Owned by the caller. */
struct x509_trust *x509_realm_trust(const struct x509_realm *x);
void x509_realm_dc(struct x509_realm *x, struct credential *out, const char *name);

#endif
