/* sim/lab/realm_x509.h - X.509 credentials of a realm, made in the process; their keys and bytes
 * are OpenSSL's chance. Tests of channel/x509.c take what its command line makes
 * (tests/channel/make_certificates). */
#ifndef AMI_SIM_LAB_REALM_X509_H
#define AMI_SIM_LAB_REALM_X509_H

#include "sim/lab/realm.h"

/* A root, an authority under it, and DCs and operators under that. Valid around SUITE_WALL_MS. */
struct x509_realm;
struct x509_realm *x509_realm_new(struct realm *r);
void x509_realm_free(struct x509_realm *x);
/* Owned by the caller. */
struct x509_trust *x509_realm_trust(const struct x509_realm *x);
/* `label` NULL: a DC, else an operator. */
void x509_realm_credential(struct x509_realm *x, struct credential *out, const char *name,
                           const char *label);

#endif
