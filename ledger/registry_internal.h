/* ledger/registry_internal.h - what the files of the registry share. Inside of ledger/ only.
 *
 *   record.c            one record: its encoding, settled sequences
 *   registry.c          committed records: by index, by name, their keys; start and end
 *   registry_members.c  who votes at which height, and rule 13 of consensus.md
 *   registry_rules.c    what a transaction may do
 *   registry_stage.c    one block's changes on top of the committed state
 *   tx_check.c          signatures of transactions
 */
#ifndef AMI_LEDGER_REGISTRY_INTERNAL_H
#define AMI_LEDGER_REGISTRY_INTERNAL_H

#include "base/check.h"
#include "ledger/internal.h"
#include "ledger/merkle.h"

/* Records live in chunks, so that pointers to them stay good while the registry grows. */
#define CHUNK_RECORDS 1024

/* A committed record. */
struct slot {
    struct record rec; /* first: a record's address is its slot's */
    uint64_t hash;     /* of kind and name */
    uint32_t index;
    uint32_t older; /* index + 1 of the same device's previous key epoch; 0: none */
};

/* A record as the stage has it. */
struct change {
    struct record rec;
    uint64_t hash;       /* of kind, name and epoch */
    sm3_digest old_leaf; /* of the committed record, while the stage's leaf is in the tree */
    uint32_t index;
    bool added;   /* the stage enrolled it */
    bool in_tree; /* the tree holds a leaf of the stage */
    bool stale;   /* that leaf, or the want of one, is behind the record */
};

struct registry {
    const struct genesis *genesis;
    bool meters_unchecked;

    struct slot **chunk;
    size_t chunk_count;
    uint64_t size;

    /* Newest key epoch by kind and name: open addressing, index + 1, 0 is free. Nothing is ever
     * taken out. */
    uint32_t *newest;
    size_t newest_count; /* a power of two, at least twice the number of records */

    uint64_t committed_height;
    uint64_t shown_retention; /* registry_show_retention */
    uint32_t *dc;             /* indices of the DCs' records */
    size_t dc_count, dc_capacity;
    /* The list asked for last, good for heights from `list_from` to below `list_until`. */
    struct members *list;
    uint64_t list_from, list_until;

    struct merkle_tree *tree; /* of the committed state, or of the stage after its root was asked */

    bool staged;
    uint64_t height; /* of the stage */
    sm3_digest committed_root;
    struct change *change;
    uint64_t *order; /* room for sorting the changes by index */
    size_t change_count, change_capacity, added_count;
    uint32_t *found; /* the changes by kind, name and epoch: open addressing, place + 1 */
    size_t found_count;
};

/* The state that a rule looks at: with the stage or without it. */
struct view {
    const struct registry *r;
    bool staged;
};

static inline struct slot *slot_at(const struct registry *r, uint64_t index)
{
    AMI_CHECK(index < r->size);
    return &r->chunk[index / CHUNK_RECORDS][index % CHUNK_RECORDS];
}

static inline enum ami_status record_check_valid(const struct record *rec)
{
    if (rec == NULL)
        return AMI_UNKNOWN_DEVICE;
    return rec->revoked_at != 0 ? AMI_REVOKED : AMI_OK;
}

/* --- record.c */

sm3_digest record_leaf(const struct record *rec); /* of the state's tree */
/* A sequence that record_admits. */
void record_settle(struct record *rec, uint64_t sequence);
/* `below` is at most AMI_SEQ_WINDOW above the floor. */
void record_settle_below(struct record *rec, uint64_t below);

/* --- registry.c */

/* The slot behind a record that was handed out. */
struct slot *registry_slot_of(const struct registry *r, const struct record *rec);
/* Committed ones; NULL: none. */
const struct slot *registry_find_newest(const struct registry *r, uint8_t kind,
                                        const struct ami_id *name);
const struct record *registry_find_committed(const struct registry *r, uint8_t kind,
                                             const struct ami_id *name, uint32_t epoch);
/* Room for `more` further records, so that appending them cannot fail. */
enum ami_status registry_reserve(struct registry *r, size_t more) AMI_MUST_CHECK;
/* There is room. The leaf is the caller's business. */
void registry_append(struct registry *r, const struct record *rec);
/* Recovers a record's key: *out is the caller's, to be freed. */
enum ami_status registry_recover_key(const struct registry *r, const struct record *rec,
                                     struct verify_key **out) AMI_MUST_CHECK;
/* The key of a committed record, recovered when first asked for; the registry's. */
enum ami_status registry_key_of(struct registry *r, const struct record *rec,
                                const struct verify_key **out) AMI_MUST_CHECK;

/* --- registry_members.c */

/* The list that was asked for last is no good any more. */
void registry_forget_list(struct registry *r);
/* Consensus rule 13. *leaves and *joins receive the records whose interval ends or begins; NULL:
 * none. */
enum ami_status registry_check_membership(struct view v, uint64_t height,
                                          const struct membership *m, const struct record **leaves,
                                          const struct record **joins) AMI_MUST_CHECK;

/* --- registry_rules.c */

/* All rules but signatures and the goodness of W. *subject receives the record that a report, a
 * skip, a revocation or evidence changes. */
enum ami_status registry_check_rules(struct view v, uint64_t height, const struct tx_view *tx,
                                     const struct record **subject) AMI_MUST_CHECK;

/* --- registry_stage.c */

/* A record as the view has it; NULL: none. */
const struct record *registry_look(struct view v, uint8_t kind, const struct ami_id *name,
                                   uint32_t epoch);
const struct record *registry_look_mdms(struct view v);

#endif
