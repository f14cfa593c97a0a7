/* consensus/commit.c - rule 7: commit certificates carried out.
 *
 * A commit certificate for the block above the tip makes the replica write block, certificate and
 * registry in one transaction; when that is durable the tip moves and the block is delivered, so
 * that its meters are acknowledged. Certificates for higher blocks wait; if the blocks between are
 * not here, catchup.c fetches them.
 */
#include "consensus/internal.h"

/* The certificate was checked and highQC and term were raised by it. */
void commit_learn(struct replica *r, const struct qc *qc, uint8_t from)
{
    if (!cert_commits(r, qc) || qc->height <= r->tip_height)
        return;
    catchup_certified(r, qc->height, from);
    if (qc->height > r->tip_height + COMMITS_KEPT)
        return;
    size_t at = qc->height % COMMITS_KEPT;
    r->commits[at].qc = *qc;
    r->commits[at].used = true;
}

void commit_on_announce(struct replica *r, uint8_t from, struct span body)
{
    struct qc_announce a;
    if (qc_announce_parse(&a, body) != AMI_OK)
        return;
    const struct qc *qc = &a.cert;
    seen_qc(r, qc, false);
    bool news = !r->has_high || cert_compare(qc, &r->high) > 0 ||
                (qc->kind == VOTE_COMMIT && qc->height > r->tip_height);
    if (!news) {
        vote_again(r); /* whoever repeats a certificate may lack our commit vote */
        return;
    }
    if (cert_check_qc(r, qc) != AMI_OK)
        return;
    contact_heard(r, from);
    election_learn_qc(r, qc);
    commit_learn(r, qc, from);
}

/* The block above the tip, if it is certified. */
static const struct qc *next_commit(const struct replica *r)
{
    size_t at = (r->tip_height + 1) % COMMITS_KEPT;
    if (!r->commits[at].used || r->commits[at].qc.height != r->tip_height + 1)
        return NULL;
    return &r->commits[at].qc;
}

void commit_advance(struct replica *r)
{
    const struct qc *qc = next_commit(r);
    if (qc == NULL || r->committing != NULL || r->checking != NULL)
        return; /* the registry holds one staged block: not while another one is checked */
    struct block_slot *s = blocks_find(r, &qc->block);
    if (s == NULL || !blocks_follows_tip(r, s))
        return;
    if (!s->valid) {
        blocks_check(r, s, false, true);
        return;
    }
    blocks_cancel_build(r); /* the tip is about to move: that block would be too late */
    r->committing = s;
    r->committing_qc = *qc;
    election_learn_qc(r, &r->committing_qc); /* fetched blocks: not before, to save a write */
    uint64_t ticket;
    record_changed(r, &ticket);
}

/* The write that held r->committing is durable. */
void commit_stored(struct replica *r)
{
    struct block_slot *s = r->committing;
    AMI_CHECK(s != NULL && s->header.height == r->tip_height + 1);
    r->committing = NULL;
    r->delivered = s;
    r->commits[s->header.height % COMMITS_KEPT].used = false;
    r->tip_height = s->header.height;
    r->tip = s->hash;
    r->tip_timestamp_ms = s->header.timestamp_ms;
    r->tip_commit = r->committing_qc;
    r->has_tip_commit = true;
    s->stored = true;
    r->attempts = 0;
    if (r->high_slot == s)
        r->high_slot = NULL;
    struct effects *fx = r->fx;
    fx->has_deliver = true;
    fx->deliver.header = &s->header;
    fx->deliver.block = s->hash;
    fx->deliver.commit = &r->tip_commit;
    fx->deliver.body = span_of(s->body, s->body_size);
    leaders_on_commit(r);
    catchup_progress(r);
}
