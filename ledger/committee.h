/* ledger/committee.h - who votes in an epoch and where they are, for those who keep no registry.
 *
 * A meter, the MDMS and a consumer know the genesis file, and from there the membership
 * transactions in their order (consensus rule 13); each leads from one committee to the next. A
 * node takes the same list from its registry (registry_members), and addresses from here. Of fixed
 * size, no disk, no clock.
 */
#ifndef AMI_LEDGER_COMMITTEE_H
#define AMI_LEDGER_COMMITTEE_H

#include "ledger/genesis.h"

struct committee {
    struct members members;
    struct member_address address[AMI_MEMBERS_MAX];
    uint64_t from; /* first height of this epoch */
};

/* Epoch 1. */
void committee_first(struct committee *out, const struct genesis *g);
/* The next epoch, by a membership transaction that stands in a block of this height; whoever calls
 * this has made sure that it does. AMI_WRONG_EPOCH: it does not begin the next epoch.
 * AMI_BAD_ARGUMENT, AMI_EXISTS, AMI_NOT_FOUND: it does not fit the committee. AMI_BAD_CRYPTO: the
 * W is bad. Then nothing is changed. */
enum ami_status committee_change(struct committee *c, const struct network *net,
                                 const struct membership *change, uint64_t height) AMI_MUST_CHECK;
/* The same, proved: by a quorum of this committee, whose block holds the transaction, and by the
 * MDMS. AMI_BAD_ENCODING, AMI_WRONG_CHAIN, AMI_WRONG_EPOCH (it is of another epoch than c's),
 * AMI_BAD_CERTIFICATE, AMI_BAD_PROOF, AMI_BAD_SIGNATURE, and those of committee_change. */
enum ami_status committee_advance(struct committee *c, const struct network *net,
                                  const struct membership_proof *proof) AMI_MUST_CHECK;
/* Index of the member of this name; AMI_MEMBERS_MAX: none. */
uint8_t members_find(const struct members *m, const struct ami_id *name);

#endif
