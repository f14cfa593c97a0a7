/* net/operator.h - how a program that asks DCs holds its operator's credential.
 *
 * The file comes from `ami-mdms operator add` and is all that is needed: it names the network whose
 * DCs are believed. Found by --credential, else by AMI_CREDENTIAL.
 */
#ifndef AMI_NET_OPERATOR_H
#define AMI_NET_OPERATOR_H

#include "channel/channel.h"
#include "net/trust.h"
#include "net/why.h"

/* Memory of its owner; points into itself, so it stays where it is. Wipe with operator_end. */
struct operator_link {
    struct network net;
    struct credential own;
    struct trust trust;
    struct channel_config config; /* for admin_ask */
    struct ami_id expected;       /* the DC that has to answer; size 0: any of the network */
};

/* `path` NULL: what AMI_CREDENTIAL names. `roots`: X.509 anchors for DCs that speak under such a
 * certificate; NULL: what AMI_X509_ROOTS names, or none; with revocation lists when AMI_X509_CRLS
 * names them. AMI_BAD_ARGUMENT when there is no path, AMI_NOT_FOUND, and what credential_file_parse
 * and trust_load say; `why` gets a sentence. */
enum ami_status operator_begin_link(struct operator_link *out, const char *path, const char *roots,
                                    struct why *why) AMI_MUST_CHECK;
void operator_end_link(struct operator_link *o);

#endif
