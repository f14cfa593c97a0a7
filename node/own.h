/* node/own.h - under which credential a DC speaks with other DCs, the MDMS and operators: its
 * enrolled key's implicit certificate, or what its files name instead.
 */
#ifndef AMI_NODE_OWN_H
#define AMI_NODE_OWN_H

#include "keyagree/keyfile.h"
#include "net/logline.h"
#include "net/trust.h"

/* For the key that is in use. Links may be made with *out meanwhile: on failure it stays as it is;
 * of no kind: the program starts. A CFL certificate over another key of this DC does not keep it
 * from speaking, nor does any file from changing its key: where *out is not of the key in use, the
 * implicit one takes its place until there is another, and the log says so. */
enum ami_status own_credential(struct credential *out, const struct network *net,
                               const struct trust_files *files, const struct trust *trust,
                               const struct device_keys *keys, struct log_sink *log,
                               struct why *why) AMI_MUST_CHECK;

#endif
