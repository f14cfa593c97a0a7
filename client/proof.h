/* client/proof.h - a consumer's proof (ledger/proof.h), asked of the network's DCs.
 *
 * A DC gives what everybody may know: header, certificate, path, transaction, the meter's
 * enrolment. Who holds the reading adds what it alone knows: salt and m. The whole is checked
 * against the genesis file before it is handed out, so no DC can make anybody hand out nonsense.
 */
#ifndef AMI_CLIENT_PROOF_H
#define AMI_CLIENT_PROOF_H

#include "ledger/committee.h"
#include "net/why.h"

/* A report and its opening. */
struct proof_wanted {
    struct ami_id meter;
    uint32_t epoch;
    uint64_t sequence;
    const uint8_t *salt; /* 16 bytes */
    struct span m;
};

/* Whom to ask, and how. */
struct proof_source {
    const struct committee *members; /* asked at their admin addresses, one after the other */
    const char *node;                /* this address alone instead; NULL: the members */
    const char *credential;          /* file of an operator; NULL: AMI_CREDENTIAL names it */
    uint32_t timeout_ms;             /* of each DC */
};

/* *text: the proof, malloc'ed, to be freed; only with AMI_OK. Otherwise status and sentence are
 * those of the last DC that was asked: what admin_ask, proof_complete and proof_is_of say; or what
 * operator_begin_link says of the credential. AMI_UNREACHABLE: there is no member to ask. */
enum ami_status proof_fetch(char **text, const struct proof_wanted *w, const struct genesis *g,
                            const struct proof_source *from, struct why *why) AMI_MUST_CHECK;

#endif
