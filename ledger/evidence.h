/* ledger/evidence.h - proof that a member broke the rules of consensus.md: what it signed itself.
 *
 * Evidence is one statement, or two, that an honest member never makes; it needs the member list
 * and nothing else to be judged. An honest member is never convicted, whatever it went through: it
 * has every vote, grant and proposal on its disk before it sends it, sends what it signed again as
 * it is, and signs nothing without its record (rules 2, 5, 6, 10, 11). The same content under
 * another signature is no evidence (SM2 signatures differ each time), nor are two proposals of one
 * block that show different certificates, nor pre-votes and heartbeats, which bind nobody.
 *
 *   kind       statements                    why no honest member makes them
 *   VOTES      two votes of one kind, term   rules 5, 6: one vote per slot
 *              and height, for two blocks
 *   PROPOSALS  two proposals of one term     rules 3, 4: a leader votes for what it proposes
 *              and height, two blocks
 *   GRANTS     two grants of one term that   rule 2: one grant per term
 *              differ
 *   HIDDEN     a commit vote of (t, h), and  rules 2, 6: who votes to commit holds a certificate
 *              a grant of a later term with  of that rank and shows it or a higher one
 *              a highQC below (t, h) or none
 *   GRANT      a grant with a highQC that is rule 2: highQC is of a lower term
 *              not of a lower term
 *   PROPOSAL   a block of a later term, or a rule 3: a fresh block is its leader's, any other is
 *              fresh one of somebody else    of a term before
 *
 * Certificates are evidence too: their votes are taken out one by one (evidence_vote_of). Two of
 * one kind, term and height for different blocks convict everybody who signed both, at least f+1.
 *
 * What cannot be judged from signed bytes alone is not here. That a proposal does not follow from
 * its election certificate is plain to all who see it, and gets no votes, but the certificate is
 * too large for a transaction; that a vote was for such a proposal is not written in the vote.
 */
#ifndef AMI_LEDGER_EVIDENCE_H
#define AMI_LEDGER_EVIDENCE_H

#include "ledger/members.h"

enum evidence_kind {
    EVIDENCE_VOTES = 1,
    EVIDENCE_PROPOSALS,
    EVIDENCE_GRANTS,
    EVIDENCE_HIDDEN,
    EVIDENCE_GRANT,
    EVIDENCE_PROPOSAL,
    EVIDENCE_KIND_END
};
/* "votes", "proposals", "grants", "hidden_certificate", "bad_grant", "bad_proposal"; "unknown". */
const char *evidence_kind_name(uint8_t kind);

/* AMI_OK: convicts e->accused, both signatures included. AMI_WRONG_CHAIN; AMI_WRONG_EPOCH: of
 * another epoch than these members; AMI_BAD_ARGUMENT: no such member or kind, or the statements may
 * well be honest; AMI_BAD_ENCODING; AMI_BAD_SIGNATURE. */
enum ami_status evidence_check(const struct members *m, const struct evidence *e) AMI_MUST_CHECK;

/* The parts of it. Whose case it is: chain, epoch, index. */
enum ami_status evidence_place(const struct members *m, const struct evidence *e) AMI_MUST_CHECK;
/* The statements name the accused, the chain and the epoch, and contradict each other; who signed
 * them is not looked at. */
enum ami_status evidence_judge(const struct evidence *e) AMI_MUST_CHECK;
/* What the accused must have signed, of evidence that was judged AMI_OK. Returns how many, 1 or 2.
 * Borrows from e. */
struct evidence_statement {
    const char *label;
    struct span bytes;
    sm2_signature signature;
};
#define EVIDENCE_STATEMENTS_MAX 2
unsigned evidence_statements(struct evidence_statement out[EVIDENCE_STATEMENTS_MAX],
                             const struct evidence *e);

/* The vote of this member in a certificate. False: it did not sign. */
bool evidence_vote_of(struct vote *out, const struct qc *c, uint8_t member);
/* The head of a proposal; `encoded` is the encoding of `core`. */
void proposal_head_of(struct proposal_head *out, const struct proposal_core *core,
                      struct span encoded);
/* What the proposal's signature covers: its head without the signature. `encoded` is the encoding
 * of `core`, whose signature may be missing yet. The span is in `out`. */
#define PROPOSAL_SIGNED_BYTES_MAX 512
struct span proposal_signed(uint8_t out[PROPOSAL_SIGNED_BYTES_MAX],
                            const struct proposal_core *core, struct span encoded);

#endif
