/* mdms/seed.h - the MDMS's seed key set of CFL (channel/cfl.h).
 *
 *   DIR/operators/cfl.seed     sealed with the passphrase; drawn when it is first needed
 *   DIR/operators/cfl.public   what everybody checks CFL certificates with
 *
 * A public set that is not the seed's is never taken for it, nor written over.
 */
#ifndef AMI_MDMS_SEED_H
#define AMI_MDMS_SEED_H

#include "channel/cfl.h"
#include "net/why.h"

#define SEED_FOLDER "operators"
#define SEED_PUBLIC "cfl.public"

/* The caller holds the folder's lock (directory_lock), wipes *out, and gives a passphrase that
 * opens mdms.key. AMI_WRONG_PASSPHRASE, AMI_DAMAGED, AMI_FOREIGN_KEY (the public set is another's),
 * AMI_NOT_FOUND (it is there without a seed), ...: `why` names the file. */
enum ami_status seed_open(const char *dir, const struct network *net, const char *passphrase,
                          struct cfl_seed *out, struct why *why) AMI_MUST_CHECK;

/* As seed_open, of a public set that is there, for whoever goes by it; AMI_OK also where there is
 * no seed to hold it against. */
enum ami_status seed_check(const char *dir, const struct network *net, const char *passphrase,
                           struct why *why) AMI_MUST_CHECK;

/* Where the public set is, or will be. */
enum ami_status seed_public_path(char *out, size_t size, const char *dir,
                                 struct why *why) AMI_MUST_CHECK;

#endif
