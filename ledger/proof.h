/* ledger/proof.h - a consumer's proof: one file that shows that a reading was recorded.
 *
 * protocol.md section 5, "A consumer's proof". It holds the chain id, header, commit certificate,
 * inclusion path, the transaction, and (salt, m) when the reading itself is to be shown; and, when
 * the block is of a later membership epoch than the genesis file's, what leads from there to it:
 * every change of members, in order, each proved by the members before it. Its JSON
 * is canonical: a file that does not print again to the same bytes is refused, so every byte
 * counts.
 */
#ifndef AMI_LEDGER_PROOF_H
#define AMI_LEDGER_PROOF_H

#include "ledger/block.h"
#include "ledger/committee.h"

/* Changes of members that a proof may hold. */
#define PROOF_CHANGES_MAX 48

struct proof {
    struct block_header header;
    struct qc commit;
    uint32_t index;
    size_t path_size;
    sm3_digest path[MERKLE_PATH_MAX];
    struct span tx; /* encoding of tx; a pruned one (ledger/pruned.h) proves the same reading */
    bool has_opening;
    uint8_t salt[16];
    struct span m;
    struct span
        enrolment; /* encoding of the tx with the meter's U and its own inclusion, see below */
    struct block_header enrol_header;
    struct qc enrol_commit;
    uint32_t enrol_index;
    size_t enrol_path_size;
    sm3_digest enrol_path[MERKLE_PATH_MAX];
    size_t change_count;              /* epochs up to the report's, less the first */
    struct membership_proof *changes; /* the first begins epoch 2 */
};

/* Canonical JSON; malloc'ed, zero-terminated, ends with a newline. NULL: out of memory. */
char *proof_print(const struct proof *p);
/* `hold` (malloc'ed, to be freed by the caller) keeps the bytes that p's spans point to. */
enum ami_status proof_parse(struct proof *p, void **hold, struct span json, char *why,
                            size_t why_size) AMI_MUST_CHECK;
/* Everything: certificates, inclusion of the report and of the meter's enrolment (whose W gives the
 * key that Sig_SM is checked with), both signatures (of a pruned report the meter's alone), c =
 * SM3(salt || m). `why` says the first thing
 * wrong. */
enum ami_status proof_check(const struct proof *p, const struct genesis *g, char *why,
                            size_t why_size) AMI_MUST_CHECK;

/* What a DC gave, without the opening, plus salt and m of its owner: checked as a whole and
 * printed. *text is malloc'ed; errors as those of proof_parse and proof_check. */
enum ami_status proof_complete(char **text, struct span given, const struct genesis *g,
                               const uint8_t salt[16], struct span m, char *why,
                               size_t why_size) AMI_MUST_CHECK;

/* Whether a proof (its text, as proof_complete gives it) is of this very report: who gave it may
 * have answered with a true proof of another. AMI_BAD_PROOF; errors of proof_parse. */
enum ami_status proof_is_of(const char *text, const struct ami_id *meter, uint32_t epoch,
                            uint64_t sequence, char *why, size_t why_size) AMI_MUST_CHECK;

#endif
