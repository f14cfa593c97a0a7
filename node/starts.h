/* node/starts.h - consensus rule 11 at a start of dc-node: which key is used, and may it sign?
 *
 * Each start with a key that may sign is counted, first in the vote record, then in the key's file,
 * and only then does the key sign. So a record that is missing or counts less than the key's file
 * is not the newest one, and a file that counts 0 is that of a key that never signed from this
 * folder. A file that was put back from a copy made before its key's first start looks the same;
 * nothing here can tell it (docs/limits.md).
 *
 * A record that is begun anew, because there is none or only an old one, notes how many starts
 * there had been. What a key signed before is not in it, so such a key stays silent even where it
 * is the one that votes: a DC that fetches its ledger anew passes through the epochs of its older
 * keys.
 *
 * Pure: no files.
 */
#ifndef AMI_NODE_STARTS_H
#define AMI_NODE_STARTS_H

#include "ledger/committee.h"
#include "ledger/genesis.h"
#include "wire/codec.h"

/* One of the DC's keys at one moment. */
struct starts_key {
    const struct ami_id *name;
    uint32_t epoch;  /* of the key */
    uint64_t starts; /* as its file counts them */
};

/* record: the stored vote record, NULL when there is none. height: of the ledger's tip.
 *
 * Without a record a key that never signed may begin. A key of the genesis file does so on an empty
 * ledger only: its first start makes a record, so on any later height its record was lost, and then
 * its file may be an old one, too. Any other key begins wherever the ledger stands: when the record
 * of the key before it was lost, or it came into the folder late. */
bool starts_may_sign(const struct genesis *g, const struct starts_key *key,
                     const struct vote_record *record, uint64_t height);

/* Where a record that is begun now stands. */
struct starts_tip {
    uint32_t epoch; /* membership epoch of the block above the tip */
    uint64_t height;
    sm3_digest tip; /* the chain id at height 0 */
};

/* Counts a start in *record, after making it one without votes unless there is one. newest: the
 * greatest count in any of the DC's key files. The count rises above all of them, so that no record
 * from before can ever pass for the newest.
 *
 * While the key that votes was missing the ledger grew and the record stayed. Its votes, grants and
 * highQC are the newest all the same; only the tip is the ledger's, as after a commit. */
void starts_count(struct vote_record *record, bool exists, uint64_t newest, const sm3_digest *chain,
                  const struct starts_tip *at);

enum starts_choice {
    STARTS_VOTES,      /* the key that votes on the next block */
    STARTS_FOLLOWS,    /* this DC is no member then; its newest key */
    STARTS_KEY_MISSING /* the key that votes is not here; the newest one, which must not sign */
};
/* Which of the keys of `name`, by their epochs, is used; at least one. *used: its index. */
enum starts_choice starts_choose(const struct members *m, const struct ami_id *name,
                                 const uint32_t *epoch, size_t count, size_t *used);

#endif
