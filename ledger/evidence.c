#include "ledger/evidence.h"

#include "base/check.h"
#include "ledger/block.h"

#include <string.h>

/* A vote's signature does not cover its last field but one, the voter. */
#define VOTER_BYTES 1

const char *evidence_kind_name(uint8_t kind)
{
    static const char *const names[EVIDENCE_KIND_END] = {
        [EVIDENCE_VOTES] = "votes",     [EVIDENCE_PROPOSALS] = "proposals",
        [EVIDENCE_GRANTS] = "grants",   [EVIDENCE_HIDDEN] = "hidden_certificate",
        [EVIDENCE_GRANT] = "bad_grant", [EVIDENCE_PROPOSAL] = "bad_proposal",
    };
    return kind < EVIDENCE_KIND_END && names[kind] != NULL ? names[kind] : "unknown";
}

/* --- statements --------------------------------------------------------------------------------
 */

/* Each parses one statement and sees that it is of this case and the accused's. */

static bool is_case(const struct evidence *e, const sm3_digest *chain, uint32_t epoch,
                    uint8_t signer)
{
    return sm3_equal(chain, &e->chain) && epoch == e->epoch && signer == e->accused;
}

static enum ami_status take_vote(struct vote *out, const struct evidence *e, struct span s)
{
    AMI_TRY(vote_parse(out, s));
    bool kind = out->kind == VOTE_PREPARE || out->kind == VOTE_COMMIT;
    return kind && is_case(e, &out->chain, out->epoch, out->voter) ? AMI_OK : AMI_BAD_ARGUMENT;
}

static enum ami_status take_grant(struct grant *out, const struct evidence *e, struct span s)
{
    AMI_TRY(grant_parse(out, s));
    return is_case(e, &out->chain, out->epoch, out->voter) ? AMI_OK : AMI_BAD_ARGUMENT;
}

static enum ami_status take_head(struct proposal_head *out, const struct evidence *e, struct span s)
{
    AMI_TRY(proposal_head_parse(out, s));
    return is_case(e, &out->header.chain, out->header.epoch, out->leader) ? AMI_OK
                                                                          : AMI_BAD_ARGUMENT;
}

/* --- kinds: false when an honest member may have made the statements ---------------------------
 */

static enum ami_status convicts(bool guilty)
{
    return guilty ? AMI_OK : AMI_BAD_ARGUMENT;
}

static enum ami_status judge_votes(const struct evidence *e)
{
    struct vote a, b;
    AMI_TRY(take_vote(&a, e, e->first));
    AMI_TRY(take_vote(&b, e, e->second));
    return convicts(a.kind == b.kind && a.term == b.term && a.height == b.height &&
                    !sm3_equal(&a.block, &b.block));
}

static enum ami_status judge_proposals(const struct evidence *e)
{
    struct proposal_head a, b;
    AMI_TRY(take_head(&a, e, e->first));
    AMI_TRY(take_head(&b, e, e->second));
    sm3_digest hash_a = block_hash(&a.header), hash_b = block_hash(&b.header);
    return convicts(a.term == b.term && a.header.height == b.header.height &&
                    !sm3_equal(&hash_a, &hash_b));
}

static enum ami_status judge_grants(const struct evidence *e)
{
    struct grant a, b;
    AMI_TRY(take_grant(&a, e, e->first));
    AMI_TRY(take_grant(&b, e, e->second));
    return convicts(a.term == b.term && !span_equal(signed_part(e->first), signed_part(e->second)));
}

static enum ami_status judge_hidden(const struct evidence *e)
{
    struct vote v;
    struct grant g;
    AMI_TRY(take_vote(&v, e, e->first));
    AMI_TRY(take_grant(&g, e, e->second));
    const struct qc rank = {.term = v.term, .height = v.height};
    return convicts(v.kind == VOTE_COMMIT && g.term > v.term &&
                    (!g.has_high || qc_rank_compare(&g.high, &rank) < 0));
}

static enum ami_status judge_grant(const struct evidence *e)
{
    struct grant g;
    AMI_TRY(take_grant(&g, e, e->first));
    return convicts(e->second.size == 0 && g.has_high && g.high.term >= g.term);
}

static enum ami_status judge_proposal(const struct evidence *e)
{
    struct proposal_head p;
    AMI_TRY(take_head(&p, e, e->first));
    bool later = p.header.term > p.term;
    bool foreign = p.header.term == p.term && p.header.proposer != p.leader;
    return convicts(e->second.size == 0 && (later || foreign));
}

enum ami_status evidence_judge(const struct evidence *e)
{
    switch (e->kind) {
    case EVIDENCE_VOTES:
        return judge_votes(e);
    case EVIDENCE_PROPOSALS:
        return judge_proposals(e);
    case EVIDENCE_GRANTS:
        return judge_grants(e);
    case EVIDENCE_HIDDEN:
        return judge_hidden(e);
    case EVIDENCE_GRANT:
        return judge_grant(e);
    case EVIDENCE_PROPOSAL:
        return judge_proposal(e);
    default:
        return AMI_BAD_ARGUMENT;
    }
}

/* --- who signed --------------------------------------------------------------------------------
 */

enum ami_status evidence_place(const struct members *m, const struct evidence *e)
{
    if (!sm3_equal(&e->chain, &m->chain))
        return AMI_WRONG_CHAIN;
    if (e->epoch != m->epoch)
        return AMI_WRONG_EPOCH;
    return e->accused < m->count ? AMI_OK : AMI_BAD_ARGUMENT;
}

static struct evidence_statement statement(const char *label, struct span encoded,
                                           size_t unsigned_bytes)
{
    struct span part = signed_part(encoded);
    struct evidence_statement out = {.label = label};
    AMI_CHECK(part.size > unsigned_bytes && encoded.size == part.size + SM2_SIGNATURE_BYTES);
    out.bytes = span_of(part.data, part.size - unsigned_bytes);
    memcpy(out.signature.b, encoded.data + part.size, SM2_SIGNATURE_BYTES);
    return out;
}

unsigned evidence_statements(struct evidence_statement out[EVIDENCE_STATEMENTS_MAX],
                             const struct evidence *e)
{
    switch (e->kind) {
    case EVIDENCE_VOTES:
        out[0] = statement(LABEL_VOTE, e->first, VOTER_BYTES);
        out[1] = statement(LABEL_VOTE, e->second, VOTER_BYTES);
        return 2;
    case EVIDENCE_PROPOSALS:
        out[0] = statement(LABEL_PROPOSAL, e->first, 0);
        out[1] = statement(LABEL_PROPOSAL, e->second, 0);
        return 2;
    case EVIDENCE_GRANTS:
        out[0] = statement(LABEL_GRANT, e->first, 0);
        out[1] = statement(LABEL_GRANT, e->second, 0);
        return 2;
    case EVIDENCE_HIDDEN:
        out[0] = statement(LABEL_VOTE, e->first, VOTER_BYTES);
        out[1] = statement(LABEL_GRANT, e->second, 0);
        return 2;
    case EVIDENCE_GRANT:
        out[0] = statement(LABEL_GRANT, e->first, 0);
        return 1;
    default:
        AMI_CHECK(e->kind == EVIDENCE_PROPOSAL);
        out[0] = statement(LABEL_PROPOSAL, e->first, 0);
        return 1;
    }
}

enum ami_status evidence_check(const struct members *m, const struct evidence *e)
{
    struct evidence_statement s[EVIDENCE_STATEMENTS_MAX];
    AMI_TRY(evidence_place(m, e));
    AMI_TRY(evidence_judge(e));
    unsigned count = evidence_statements(s, e);
    for (unsigned i = 0; i < count; i++)
        AMI_TRY(verify_key_check(&m->member[e->accused].key, s[i].label, &s[i].bytes, 1,
                                 &s[i].signature));
    return AMI_OK;
}

/* --- taking statements out of others -----------------------------------------------------------
 */

bool evidence_vote_of(struct vote *out, const struct qc *c, uint8_t member)
{
    if (member >= 32 || (c->signers >> member & 1) == 0)
        return false;
    unsigned at = (unsigned)__builtin_popcount(c->signers & ((1u << member) - 1u));
    if (at >= c->signatures_count)
        return false;
    *out = (struct vote){.kind = c->kind,
                         .chain = c->chain,
                         .epoch = c->epoch,
                         .term = c->term,
                         .height = c->height,
                         .block = c->block,
                         .voter = member,
                         .signature = c->signatures[at]};
    return true;
}

void proposal_head_of(struct proposal_head *out, const struct proposal_core *core,
                      struct span encoded)
{
    *out = (struct proposal_head){.term = core->term,
                                  .leader = core->leader,
                                  .header = core->header,
                                  .signature = core->signature};
    uint8_t bytes[512];
    struct writer w = writer_on(bytes, sizeof bytes);
    proposal_head_encode(&w, out);
    AMI_CHECK(writer_ok(&w));
    size_t head = w.size - SM2_SIGNATURE_BYTES - SM3_BYTES; /* as in the proposal */
    struct span part = signed_part(encoded);
    AMI_CHECK(part.size > head);
    out->rest = sm3(span_of(part.data + head, part.size - head));
}

struct span proposal_signed(uint8_t out[PROPOSAL_SIGNED_BYTES_MAX],
                            const struct proposal_core *core, struct span encoded)
{
    struct proposal_head head;
    proposal_head_of(&head, core, encoded);
    struct writer w = writer_on(out, PROPOSAL_SIGNED_BYTES_MAX);
    proposal_head_encode(&w, &head);
    AMI_CHECK(writer_ok(&w));
    return signed_part(writer_span(&w));
}
