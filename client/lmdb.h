/* client/lmdb.h - what the codes of LMDB mean to a program and to whoever runs it. The store of the
 * ledger has a list of its own: ledger/ does not know net/, and its map grows.
 */
#ifndef AMI_CLIENT_LMDB_H
#define AMI_CLIENT_LMDB_H

#include "net/why.h"

/* A code of LMDB, or an errno value that it passed on: why_status_of_errno. */
enum ami_status lmdb_status(int rc);
/* The same with a sentence about the file or directory at `path`. */
enum ami_status lmdb_fail(const char *path, int rc, struct why *why);

#endif
