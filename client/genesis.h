/* client/genesis.h - the genesis file of a program that belongs to a ledger.
 *
 * client/ is what such programs share that takes files and links (net/) and the ledger's rules
 * (ledger/) alike: neither room may know the other.
 */
#ifndef AMI_CLIENT_GENESIS_H
#define AMI_CLIENT_GENESIS_H

#include "ledger/genesis.h"
#include "net/why.h"

/* Reads and checks it. `out` is large. What file_read says of the file, and what genesis_parse says
 * of its text, where AMI_BAD_ENCODING stands for any mistake in it; `why` names the path. */
enum ami_status genesis_read(struct genesis *out, const char *path, bool allow_single,
                             struct why *why) AMI_MUST_CHECK;

#endif
