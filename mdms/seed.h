/* mdms/seed.h - the MDMS's seed key set of CFL (channel/cfl.h).
 *
 *   DIR/operators/cfl.seed     sealed with the passphrase; drawn when it is first needed
 *   DIR/operators/cfl.public   what everybody checks CFL certificates with
 */
#ifndef AMI_MDMS_SEED_H
#define AMI_MDMS_SEED_H

#include "channel/cfl.h"
#include "net/why.h"

#define SEED_FOLDER "operators"
#define SEED_PUBLIC "cfl.public"

/* The caller holds the folder's lock (directory_lock), wipes *out, and gives a passphrase that
 * opens mdms.key. AMI_WRONG_PASSPHRASE, AMI_DAMAGED, ...: `why` names the file. */
enum ami_status seed_open(const char *dir, const struct network *net, const char *passphrase,
                          struct cfl_seed *out, struct why *why) AMI_MUST_CHECK;

/* Where the public set is, or will be. */
enum ami_status seed_public_path(char *out, size_t size, const char *dir,
                                 struct why *why) AMI_MUST_CHECK;

#endif
