#include "ledger/members.h"

#include "base/check.h"

#include <string.h>

sm3_digest members_hash(const struct members *m)
{
    uint8_t bytes[5 + AMI_MEMBERS_MAX * (1 + AMI_ID_BYTES_MAX + 4 + SM2_POINT_BYTES)];
    struct writer w = writer_on(bytes, sizeof bytes);
    write_u32(&w, m->epoch);
    write_u8(&w, m->count);
    for (uint8_t i = 0; i < m->count; i++) {
        write_id(&w, &m->member[i].name);
        write_u32(&w, m->member[i].key_epoch);
        write_raw(&w, m->member[i].w_sign.b, SM2_POINT_BYTES);
    }
    AMI_CHECK(writer_ok(&w));
    const struct span parts[] = {writer_span(&w)};
    return sm3_labelled("amiledger members v1", parts, 1);
}

unsigned members_f(unsigned n)
{
    return n == 0 ? 0 : (n - 1) / 3;
}

unsigned members_quorum(unsigned n)
{
    return (n + members_f(n) + 2) / 2; /* ceil((n + f + 1) / 2) */
}

#define VOTE_BODY_BYTES (1 + SM3_BYTES + 4 + 8 + 8 + SM3_BYTES)

/* What a vote's signature covers: its encoding up to `block`. */
static struct span vote_body(uint8_t out[VOTE_BODY_BYTES], const struct vote *v)
{
    struct writer w = writer_on(out, VOTE_BODY_BYTES);
    write_u8(&w, v->kind);
    write_raw(&w, v->chain.b, SM3_BYTES);
    write_u32(&w, v->epoch);
    write_u64(&w, v->term);
    write_u64(&w, v->height);
    write_raw(&w, v->block.b, SM3_BYTES);
    AMI_CHECK(w.size == VOTE_BODY_BYTES);
    return writer_span(&w);
}

static enum ami_status check_place(const struct members *m, const sm3_digest *chain, uint32_t epoch)
{
    if (!sm3_equal(chain, &m->chain))
        return AMI_WRONG_CHAIN;
    return epoch == m->epoch ? AMI_OK : AMI_WRONG_EPOCH;
}

static bool is_kind(uint8_t kind)
{
    return kind == VOTE_PREPARE || kind == VOTE_COMMIT;
}

enum ami_status vote_check(const struct members *m, const struct vote *v)
{
    uint8_t bytes[VOTE_BODY_BYTES];
    AMI_TRY(check_place(m, &v->chain, v->epoch));
    if (!is_kind(v->kind) || v->voter >= m->count)
        return AMI_BAD_ARGUMENT;
    const struct span parts[] = {vote_body(bytes, v)};
    return verify_key_check(&m->member[v->voter].key, LABEL_VOTE, parts, 1, &v->signature);
}

void vote_sign(struct vote *v, const struct sign_key *key, const uint8_t random[SM2_WIDE_BYTES])
{
    uint8_t bytes[VOTE_BODY_BYTES];
    const struct span parts[] = {vote_body(bytes, v)};
    v->signature = sign_key_sign(key, LABEL_VOTE, parts, 1, random);
}

enum ami_status qc_check(const struct members *m, const struct qc *c)
{
    AMI_TRY(check_place(m, &c->chain, c->epoch));
    AMI_CHECK(m->count <= AMI_MEMBERS_MAX);
    if (!is_kind(c->kind) || c->signers >> m->count != 0)
        return AMI_BAD_CERTIFICATE;
    unsigned signers = (unsigned)__builtin_popcount(c->signers);
    if (signers != c->signatures_count || signers < members_quorum(m->count))
        return AMI_BAD_CERTIFICATE;
    struct vote v = {.kind = c->kind,
                     .chain = c->chain,
                     .epoch = c->epoch,
                     .term = c->term,
                     .height = c->height,
                     .block = c->block};
    uint8_t bytes[VOTE_BODY_BYTES];
    const struct span parts[] = {vote_body(bytes, &v)};
    /* One batch: each signer has a key and a digest of its own. */
    point keys[AMI_MEMBERS_MAX];
    sm3_digest digests[AMI_MEMBERS_MAX];
    bool ok[AMI_MEMBERS_MAX];
    unsigned at = 0;
    for (uint8_t i = 0; i < m->count; i++) {
        if ((c->signers >> i & 1) == 0)
            continue;
        keys[at] = m->member[i].key.p;
        digests[at] = verify_key_digest(&m->member[i].key, LABEL_VOTE, parts, 1);
        at++;
    }
    return sm2_verify_batch(keys, digests, c->signatures, ok, at) == AMI_OK ? AMI_OK
                                                                            : AMI_BAD_CERTIFICATE;
}

static bool same_subject(const struct vote *a, const struct vote *b)
{
    return a->kind == b->kind && sm3_equal(&a->chain, &b->chain) && a->epoch == b->epoch &&
           a->term == b->term && a->height == b->height && sm3_equal(&a->block, &b->block);
}

enum ami_status qc_make(struct qc *out, const struct members *m, const struct vote *votes,
                        size_t count)
{
    const struct vote *of[AMI_MEMBERS_MAX] = {NULL};
    unsigned voters = 0;
    for (size_t i = 0; i < count; i++) {
        if (votes[i].voter >= m->count || !same_subject(&votes[i], &votes[0]))
            return AMI_BAD_ARGUMENT;
        if (of[votes[i].voter] == NULL)
            voters++;
        of[votes[i].voter] = &votes[i];
    }
    if (count == 0 || voters < members_quorum(m->count))
        return AMI_NO_QUORUM;
    *out = (struct qc){.kind = votes[0].kind,
                       .chain = votes[0].chain,
                       .epoch = votes[0].epoch,
                       .term = votes[0].term,
                       .height = votes[0].height,
                       .block = votes[0].block};
    for (uint8_t i = 0; i < m->count; i++) {
        if (of[i] == NULL)
            continue;
        out->signers |= 1u << i;
        out->signatures[out->signatures_count++] = of[i]->signature;
    }
    return AMI_OK;
}

int qc_rank_compare(const struct qc *a, const struct qc *b)
{
    if (a->term != b->term)
        return a->term < b->term ? -1 : 1;
    return (a->height > b->height) - (a->height < b->height);
}
