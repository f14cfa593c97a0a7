/* ledger/internal.h - what the files of this room tell each other and nobody else. */
#ifndef AMI_LEDGER_INTERNAL_H
#define AMI_LEDGER_INTERNAL_H

#include "ledger/registry.h"

/* One signature with all that checking it takes: sm2_verify over many of them. */
/* A signature and what it is of: e = SM3 over message.parts. Stays in place while that is used. */
struct tx_signature {
    point p;
    sm2_signature sig;
    struct verify_key_message message;
};
#define TX_SIGNATURES_MAX 2

/* The transaction's author (meter, MDMS, or whom evidence accuses) first, then the gateway, unless
 * its part was pruned. Returns how many. Messages borrow the network. `author` is not used for a
 * transaction of the MDMS, `gateway` only for a report. */
unsigned tx_signatures(struct tx_signature out[TX_SIGNATURES_MAX], const struct tx_view *tx,
                       const sm3_digest *chain, const struct network *net,
                       const struct verify_key *author, const struct verify_key *gateway);

/* The first of them that is to be checked. */
static inline unsigned tx_signatures_from(const struct tx_view *tx, bool meters_unchecked)
{
    return meters_unchecked && tx->tx.kind == TX_REPORT ? 1 : 0;
}

/* Which key a record's W stands for. */
static inline enum key_role record_role(uint8_t kind)
{
    return kind == RECORD_METER ? ROLE_METER_REPORT : ROLE_DC_SIGN;
}

/* For tables in memory: of a key epoch of a device. */
uint64_t registry_hash_key(uint8_t kind, const struct ami_id *name, uint32_t epoch);

/* Whom evidence on the block of this height, which is above the committed ones, is against.
 * AMI_WRONG_CHAIN, AMI_WRONG_EPOCH (no longer, or not yet, the epoch of that block),
 * AMI_BAD_ARGUMENT. */
enum ami_status evidence_record(const struct registry *r, uint64_t height, const struct evidence *e,
                                const struct record **out) AMI_MUST_CHECK;

/* The committed record's key was recovered elsewhere: keeps a copy unless there is one. Does
 * nothing when memory is short. */
void registry_adopt_key(struct registry *r, uint64_t index, const struct verify_key *key);

#endif
