/* net/operator.h - how a program that asks DCs holds its operator's credential.
 *
 * A credential from `ami-mdms operator add` is all that is needed: it names the network whose DCs
 * are believed. An X.509 one, the SM2 key and the chain in one PEM file, needs the network's public
 * keys besides. Found by --credential, else by AMI_CREDENTIAL.
 */
#ifndef AMI_NET_OPERATOR_H
#define AMI_NET_OPERATOR_H

#include "channel/channel.h"
#include "net/trust.h"
#include "net/why.h"

/* From the command line; what is NULL there, the environment may name. */
struct operator_files {
    const char *credential; /* AMI_CREDENTIAL */
    const char *roots;      /* AMI_X509_ROOTS, with the lists of AMI_X509_CRLS */
    const char *cfl_public; /* AMI_CFL_PUBLIC */
};

/* Memory of its owner; points into itself, so it stays where it is. Wipe with operator_end. */
struct operator_link {
    struct network net;
    struct credential own;
    struct trust trust;
    struct channel_config config; /* for admin_ask */
    struct ami_id expected;       /* the DC that has to answer; size 0: any of the network */
};

/* Who is asking: reads the credential, and what DCs are believed by besides implicit certificates:
 * X.509 roots and a public seed set, where there are any. `net`: the network where it is known,
 * else NULL; an X.509 credential needs it. AMI_BAD_ARGUMENT when there is no path or no network,
 * AMI_NOT_FOUND, and what credential_file_parse, x509_credential and trust_load say; `why` gets a
 * sentence, and nothing of *out is left. */
enum ami_status operator_begin_link(struct operator_link *out, const struct operator_files *files,
                                    const struct network *net, struct why *why) AMI_MUST_CHECK;
void operator_end_link(struct operator_link *o);

/* Whether the own credential runs out within CREDENTIAL_WARN_S, or has; with a sentence. */
bool operator_expires(const struct operator_link *o, int64_t now_s, struct why *out);

#endif
