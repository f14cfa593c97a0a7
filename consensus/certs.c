/* consensus/certs.c - certificates checked and made (consensus.md "Objects").
 *
 * Votes and their certificates are checked by ledger/members.h, which knows nothing of terms and
 * leaders; pre-votes, grants and what is made of them matter to the replica alone and are here.
 */
#include "consensus/internal.h"

#include <string.h>

/* What all pre-votes of a certificate sign: chain, epoch, term, candidate. */
#define PREVOTE_SIGNED_BYTES (SM3_BYTES + 4 + 8 + 1)
/* Votes sign kind, chain, epoch, term, height and block. */
#define VOTE_SIGNED_BYTES (1 + SM3_BYTES + 4 + 8 + 8 + SM3_BYTES)

bool cert_same_chain(const struct replica *r, const sm3_digest *chain, uint32_t epoch)
{
    const uint32_t own = r->members->epoch;
    return sm3_equal(chain, &r->members->chain) &&
           (epoch == own || (epoch < own && rule_is_off(r, RULE_OFF_EPOCH)));
}

/* q distinct members signed these bytes. */
static enum ami_status check_signers(const struct replica *r, const char *label, struct span bytes,
                                     uint32_t signers, const sm2_signature *sigs, size_t count)
{
    if ((signers >> r->n) != 0 || (unsigned)__builtin_popcount(signers) != count || count < r->q)
        return AMI_BAD_CERTIFICATE;
    for (uint8_t i = 0, at = 0; i < r->n; i++) {
        if ((signers & bit_of(i)) == 0)
            continue;
        if (verify_key_check(&r->members->member[i].key, label, &bytes, 1, &sigs[at]) != AMI_OK)
            return AMI_BAD_CERTIFICATE;
        at++;
    }
    return AMI_OK;
}

/* Field by field: what lies behind the last signature of a decoded certificate means nothing. */
static bool same_qc(const struct qc *a, const struct qc *b)
{
    return a->kind == b->kind && sm3_equal(&a->chain, &b->chain) && a->epoch == b->epoch &&
           a->term == b->term && a->height == b->height && sm3_equal(&a->block, &b->block) &&
           a->signers == b->signers && a->signatures_count == b->signatures_count &&
           memcmp(a->signatures, b->signatures, a->signatures_count * sizeof a->signatures[0]) == 0;
}

static bool same_prevotes(const struct prevote_cert *a, const struct prevote_cert *b)
{
    return sm3_equal(&a->chain, &b->chain) && a->epoch == b->epoch && a->term == b->term &&
           a->candidate == b->candidate && a->signers == b->signers &&
           a->signatures_count == b->signatures_count &&
           memcmp(a->signatures, b->signatures, a->signatures_count * sizeof a->signatures[0]) == 0;
}

/* With RULE_OFF_QUORUM, what ledger/members.h does with another quorum; with RULE_OFF_EPOCH for
 * another epoch's votes. */
static enum ami_status check_qc_by_own_quorum(const struct replica *r, const struct qc *qc)
{
    uint8_t bytes[VOTE_SIGNED_BYTES];
    struct writer w = writer_on(bytes, sizeof bytes);
    write_u8(&w, qc->kind);
    write_raw(&w, qc->chain.b, SM3_BYTES);
    write_u32(&w, qc->epoch);
    write_u64(&w, qc->term);
    write_u64(&w, qc->height);
    write_raw(&w, qc->block.b, SM3_BYTES);
    AMI_CHECK(writer_ok(&w) && w.size == sizeof bytes);
    return check_signers(r, LABEL_VOTE, writer_span(&w), qc->signers, qc->signatures,
                         qc->signatures_count);
}

enum ami_status cert_check_qc(const struct replica *r, const struct qc *qc)
{
    if (qc->kind != VOTE_PREPARE && qc->kind != VOTE_COMMIT)
        return AMI_BAD_CERTIFICATE;
    if (qc->term == 0 || (qc->height < r->first_height && !rule_is_off(r, RULE_OFF_EPOCH)))
        return AMI_BAD_CERTIFICATE;
    if (!cert_same_chain(r, &qc->chain, qc->epoch))
        return sm3_equal(&qc->chain, &r->members->chain) ? AMI_WRONG_EPOCH : AMI_WRONG_CHAIN;
    /* The node has checked these already; a leader shows one of them with every proposal. */
    if (r->has_high && same_qc(qc, &r->high))
        return AMI_OK;
    if (r->has_tip_commit && same_qc(qc, &r->tip_commit))
        return AMI_OK;
    if (rule_is_off(r, RULE_OFF_QUORUM) || qc->epoch != r->members->epoch)
        return check_qc_by_own_quorum(r, qc);
    return qc_check(r->members, qc);
}

bool cert_commits(const struct replica *r, const struct qc *qc)
{
    return qc->kind == VOTE_COMMIT || rule_is_off(r, RULE_OFF_ONE_PHASE);
}

int cert_compare(const struct qc *a, const struct qc *b)
{
    int rank = qc_rank_compare(a, b);
    return rank != 0 ? rank : (int)a->kind - (int)b->kind;
}

enum ami_status cert_make_qc(const struct replica *r, struct qc *out, const struct vote *votes,
                             uint32_t voters)
{
    if ((unsigned)__builtin_popcount(voters) < r->q)
        return AMI_NO_QUORUM;
    memset(out, 0, sizeof *out);
    for (uint8_t i = 0; i < r->n; i++) {
        if ((voters & bit_of(i)) == 0)
            continue;
        const struct vote *v = &votes[i];
        AMI_CHECK(v->voter == i);
        out->kind = v->kind;
        out->chain = v->chain;
        out->epoch = v->epoch;
        out->term = v->term;
        out->height = v->height;
        out->block = v->block;
        out->signers |= bit_of(i);
        out->signatures[out->signatures_count++] = v->signature;
    }
    return AMI_OK;
}

static void prevote_bytes(uint8_t out[PREVOTE_SIGNED_BYTES], const sm3_digest *chain,
                          uint32_t epoch, uint64_t term, uint8_t candidate)
{
    struct writer w = writer_on(out, PREVOTE_SIGNED_BYTES);
    write_raw(&w, chain->b, SM3_BYTES);
    write_u32(&w, epoch);
    write_u64(&w, term);
    write_u8(&w, candidate);
    AMI_CHECK(writer_ok(&w) && w.size == PREVOTE_SIGNED_BYTES);
}

enum ami_status cert_check_prevote(const struct replica *r, const struct prevote *p)
{
    if (!cert_same_chain(r, &p->chain, p->epoch))
        return AMI_WRONG_CHAIN;
    if (p->voter >= r->n || p->candidate >= r->n)
        return AMI_BAD_ARGUMENT;
    uint8_t bytes[PREVOTE_SIGNED_BYTES];
    prevote_bytes(bytes, &p->chain, p->epoch, p->term, p->candidate);
    struct span part = span_of(bytes, sizeof bytes);
    return verify_key_check(&r->members->member[p->voter].key, LABEL_PREVOTE, &part, 1,
                            &p->signature);
}

void cert_sign_prevote(struct replica *r, struct prevote *p)
{
    AMI_CHECK(r->may_sign);
    uint8_t bytes[PREVOTE_SIGNED_BYTES], random[SM2_WIDE_BYTES];
    prevote_bytes(bytes, &p->chain, p->epoch, p->term, p->candidate);
    struct span part = span_of(bytes, sizeof bytes);
    replica_draw(r, random);
    p->signature = sign_key_sign(r->key, LABEL_PREVOTE, &part, 1, random);
}

enum ami_status cert_check_prevotes(const struct replica *r, const struct prevote_cert *c)
{
    if (!cert_same_chain(r, &c->chain, c->epoch))
        return AMI_WRONG_CHAIN;
    if (c->candidate >= r->n || c->term == 0)
        return AMI_BAD_CERTIFICATE;
    if (r->has_term_cert && same_prevotes(c, &r->term_cert))
        return AMI_OK;
    uint8_t bytes[PREVOTE_SIGNED_BYTES];
    prevote_bytes(bytes, &c->chain, c->epoch, c->term, c->candidate);
    return check_signers(r, LABEL_PREVOTE, span_of(bytes, sizeof bytes), c->signers, c->signatures,
                         c->signatures_count);
}

#define GRANT_BYTES_MAX 4096

static size_t grant_bytes(uint8_t out[GRANT_BYTES_MAX], const struct grant *g)
{
    struct writer w = writer_on(out, GRANT_BYTES_MAX);
    grant_encode(&w, g);
    AMI_CHECK(writer_ok(&w));
    return w.size;
}

/* Rule 2: the highQC in a grant is valid and of a lower term. */
enum ami_status cert_check_grant(const struct replica *r, const struct grant *g)
{
    if (!cert_same_chain(r, &g->chain, g->epoch))
        return AMI_WRONG_CHAIN;
    if (g->voter >= r->n || g->candidate >= r->n)
        return AMI_BAD_ARGUMENT;
    if (g->has_high && g->high.term >= g->term)
        return AMI_BAD_CERTIFICATE;
    uint8_t bytes[GRANT_BYTES_MAX];
    struct span encoded = span_of(bytes, grant_bytes(bytes, g));
    AMI_TRY(cert_check_tail(r, g->voter, LABEL_GRANT, encoded));
    return g->has_high ? cert_check_qc(r, &g->high) : AMI_OK;
}

void cert_sign_grant(struct replica *r, struct grant *g)
{
    uint8_t bytes[GRANT_BYTES_MAX];
    size_t size = grant_bytes(bytes, g);
    cert_sign_tail(r, LABEL_GRANT, bytes, size);
    memcpy(g->signature.b, bytes + size - SM2_SIGNATURE_BYTES, SM2_SIGNATURE_BYTES);
}

enum ami_status cert_check_election(const struct replica *r, const struct election_cert *c)
{
    if (c->grants_count < r->q)
        return AMI_BAD_CERTIFICATE;
    uint64_t term = c->prevotes.term;
    uint8_t candidate = c->prevotes.candidate;
    AMI_TRY(cert_check_prevotes(r, &c->prevotes));
    uint32_t voters = 0;
    const struct qc *seen = NULL; /* most grants carry the same certificate: check it once */
    for (uint16_t i = 0; i < c->grants_count; i++) {
        const struct grant *g = &c->grants[i];
        if (g->term != term || g->candidate != candidate || g->voter >= r->n ||
            (voters & bit_of(g->voter)) != 0)
            return AMI_BAD_CERTIFICATE;
        voters |= bit_of(g->voter);
        uint8_t bytes[GRANT_BYTES_MAX];
        struct span encoded = span_of(bytes, grant_bytes(bytes, g));
        if (!cert_same_chain(r, &g->chain, g->epoch) ||
            cert_check_tail(r, g->voter, LABEL_GRANT, encoded) != AMI_OK)
            return AMI_BAD_CERTIFICATE;
        if (!g->has_high)
            continue;
        if (g->high.term >= term)
            return AMI_BAD_CERTIFICATE;
        if (seen != NULL && same_qc(seen, &g->high))
            continue;
        AMI_TRY(cert_check_qc(r, &g->high));
        seen = &g->high;
    }
    return AMI_OK;
}

/* Proposals are signed as their heads: so two of them fit a piece of evidence. */
#define HEAD_BYTES_MAX 512

static size_t head_bytes(uint8_t out[HEAD_BYTES_MAX], const struct proposal_core *core,
                         struct span encoded)
{
    struct proposal_head head;
    proposal_head_of(&head, core, encoded);
    struct writer w = writer_on(out, HEAD_BYTES_MAX);
    proposal_head_encode(&w, &head);
    AMI_CHECK(writer_ok(&w));
    return w.size;
}

enum ami_status cert_check_proposal(const struct replica *r, const struct proposal_core *core,
                                    struct span encoded)
{
    uint8_t bytes[HEAD_BYTES_MAX];
    struct span head = span_of(bytes, head_bytes(bytes, core, encoded));
    return cert_check_tail(r, core->leader, LABEL_PROPOSAL, head);
}

void cert_sign_proposal(struct replica *r, const struct proposal_core *core, uint8_t *encoded,
                        size_t size)
{
    uint8_t bytes[HEAD_BYTES_MAX];
    size_t head = head_bytes(bytes, core, span_of(encoded, size));
    cert_sign_tail(r, LABEL_PROPOSAL, bytes, head);
    memcpy(encoded + size - SM2_SIGNATURE_BYTES, bytes + head - SM2_SIGNATURE_BYTES,
           SM2_SIGNATURE_BYTES);
}

const struct qc *cert_highest(const struct election_cert *c)
{
    const struct qc *m = NULL;
    for (uint16_t i = 0; i < c->grants_count; i++)
        if (c->grants[i].has_high && (m == NULL || cert_compare(&c->grants[i].high, m) > 0))
            m = &c->grants[i].high;
    return m;
}

enum ami_status cert_check_tail(const struct replica *r, uint8_t member, const char *label,
                                struct span encoded)
{
    if (member >= r->n || encoded.size < SM2_SIGNATURE_BYTES)
        return AMI_BAD_ARGUMENT;
    sm2_signature sig;
    struct span part = signed_part(encoded);
    memcpy(sig.b, encoded.data + part.size, sizeof sig.b);
    return verify_key_check(&r->members->member[member].key, label, &part, 1, &sig);
}

void cert_sign_tail(struct replica *r, const char *label, uint8_t *encoded, size_t size)
{
    AMI_CHECK(r->may_sign && size > SM2_SIGNATURE_BYTES);
    uint8_t random[SM2_WIDE_BYTES];
    replica_draw(r, random);
    struct span part = span_of(encoded, size - SM2_SIGNATURE_BYTES);
    sm2_signature sig = sign_key_sign(r->key, label, &part, 1, random);
    memcpy(encoded + part.size, sig.b, sizeof sig.b);
}
