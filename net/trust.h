/* net/trust.h - which credentials a program takes, and its own, from files.
 *
 * Implicit certificates need no file: the network's keys are their anchor. With roots, X.509 ones
 * are taken as well, with a public seed set CFL ones; with a key and a chain, a program shows its
 * X.509 credential instead of the other.
 */
#ifndef AMI_NET_TRUST_H
#define AMI_NET_TRUST_H

#include "channel/cfl.h"
#include "channel/channel.h"
#include "channel/x509.h"
#include "net/why.h"

/* Of the command line; NULL: not given. */
#define TRUST_NO_CRLS "none"
struct trust_files {
    const char *roots, *crls; /* PEM; roots without lists only when these are TRUST_NO_CRLS */
    const char *key, *chain;  /* PEM, the key without a passphrase */
    const char *cfl_public;   /* as `ami-mdms operator` writes it */
};

struct trust {
    struct credential_trust trust; /* for channels */
    struct x509_trust *x509;       /* NULL: none */
    struct cfl_public *cfl;        /* NULL: none */
};

/* `net` is borrowed. AMI_BAD_ARGUMENT: roots or lists without the other; what is wrong with a file,
 * in `why`. */
enum ami_status trust_load(struct trust *out, const struct network *net,
                           const struct trust_files *files, struct why *why) AMI_MUST_CHECK;
void trust_end(struct trust *t);

/* The program's own, when the files name one; else, and on failure, `out` stays as it is. It must
 * be of `role` and have this name. AMI_BAD_ARGUMENT: one file without the other; AMI_FOREIGN_KEY:
 * somebody else's.
 */
enum ami_status trust_own(struct credential *out, const struct network *net,
                          const struct trust_files *files, enum credential_role role,
                          const struct ami_id *name, struct why *why) AMI_MUST_CHECK;

#endif
