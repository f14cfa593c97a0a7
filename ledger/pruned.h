/* ledger/pruned.h - blocks whose reports have lost what their gateways added.
 *
 * The MDMS says on the ledger below which height it has all readings (a retention transaction).
 * From then on a DC need not keep what was sealed for the MDMS, which is most of a block. A pruned
 * body is the body, with every report
 *
 *     kind 1, first part, second part     as     kind 129, first part, SM3(second part)
 *
 * So every transaction's id, the Merkle tree and all inclusion proofs are what they were, the meter
 * and its commitment are there, the meter's signature can be checked, and the registry can be
 * replayed. Each byte that is left is bound to the header: who serves a pruned block cannot change
 * any, and two pruned bodies of one block are equal. What is gone is the sealed report, the name of
 * its gateway, the gateway's time and signature; a quorum has checked that signature, and the
 * commit certificate says so. All other transactions stay as they are.
 *
 * A pruned body must not pass where the whole one is still wanted: block_check_prepare takes it
 * below a watermark that the MDMS has signed, and nowhere else.
 */
#ifndef AMI_LEDGER_PRUNED_H
#define AMI_LEDGER_PRUNED_H

#include "ledger/genesis.h"
#include "ledger/tx.h"

/* Whether any report in it is a pruned one. False also for what is no body. */
bool body_is_pruned(struct span body);
/* Writes the pruned form, which is never longer; what is pruned already stays. *changed: it differs
 * from `body`. AMI_BAD_ENCODING: it is no body, or holds a report that is none. */
enum ami_status body_prune(struct writer *out, struct span body, bool *changed) AMI_MUST_CHECK;

/* A retention transaction, whose encoding has always this size. */
#define RETENTION_TX_BYTES (1 + 4 + 16 + 4 + SM2_SIGNATURE_BYTES)
/* Whether the MDMS has signed this for this chain. That it did is all that whoever gets pruned
 * blocks must know: it is the MDMS alone that needs what was pruned. AMI_BAD_ENCODING,
 * AMI_BAD_ARGUMENT (no retention), AMI_BAD_SIGNATURE. */
enum ami_status retention_check(const struct genesis *g, struct span encoded_tx,
                                uint64_t *below) AMI_MUST_CHECK;

#endif
