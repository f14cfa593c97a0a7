#include "node/gateway_internal.h"

bool gateway_ack_init(struct node *n)
{
    n->gateway->tree = merkle_tree_new();
    n->gateway->second = malloc(AMI_BLOCK_TXS_MAX * sizeof *n->gateway->second);
    bool ok = n->gateway->tree != NULL && n->gateway->second != NULL;
    for (unsigned i = 0; i < NODE_SETTLED_BLOCKS; i++) {
        struct settled_block *b = &n->gateway->settled[i];
        b->tree = merkle_tree_new();
        b->bytes = malloc(n->block_size);
        ok = ok && b->tree != NULL && b->bytes != NULL;
    }
    return ok;
}

void gateway_ack_free(struct gateway *g)
{
    merkle_tree_free(g->tree);
    free(g->second);
    for (unsigned i = 0; i < NODE_SETTLED_BLOCKS; i++) {
        merkle_tree_free(g->settled[i].tree);
        free(g->settled[i].bytes);
    }
}

static void send_inside(struct node *n, struct gateway_session *s, uint8_t kind, struct span plain)
{
    uint8_t buffer[1024 + GCM_TAG_BYTES];
    AMI_CHECK(plain.size + GCM_TAG_BYTES <= sizeof buffer);
    struct session_data d;
    if (session_seal(&s->u.session, &d, buffer, kind, plain, gateway_now_s(n)) != AMI_OK) {
        gateway_say_ended(n, s->link, s->id, AMI_SESSION_ENDED);
        gateway_drop_session(n, s);
        return;
    }
    struct writer w = node_frame(n, MSG_SESSION_DATA);
    session_data_encode(&w, &d);
    if (s->link == 0 || node_send(n, s->link, writer_span(&w)) != AMI_OK)
        n->counters.acks_dropped++; /* the meter asks again and is answered from the disk */
}

void gateway_nack(struct node *n, struct gateway_session *s, uint64_t sequence,
                  enum ami_status status)
{
    const struct record *rec = registry_at(n->c.registry, s->meter);
    struct report_nack k = {.sequence = sequence, .status = (uint16_t)status, .floor = rec->floor};
    uint8_t plain[32];
    struct writer w = writer_on(plain, sizeof plain);
    report_nack_encode(&w, &k);
    AMI_CHECK(writer_ok(&w));
    n->counters.reports_refused++;
    send_inside(n, s, DATA_REPORT_NACK, writer_span(&w));
}

/* The header and its certificate, once per link. */
static void send_block_proof(struct node *n, env_link link, const struct block_header *h,
                             const struct qc *commit)
{
    struct node_link *l = node_link_find(n, link);
    if (l == NULL)
        return;
    for (unsigned i = 0; i < NODE_PROOFS_PER_LINK; i++)
        if (l->proofs_sent[i] == h->height)
            return;
    struct block_proof p = {*h, *commit};
    struct writer w = node_frame(n, MSG_BLOCK_PROOF);
    block_proof_encode(&w, &p);
    if (node_send(n, link, writer_span(&w)) != AMI_OK)
        return;
    l->proofs_sent[l->proofs_at++ % NODE_PROOFS_PER_LINK] = h->height;
}

/* Where a report stands in its block, and its tx_second. */
struct place {
    uint32_t index;
    sm3_digest second;
};

/* `tree` is the block's. */
static void send_ack(struct node *n, struct gateway_session *s, struct merkle_tree *tree,
                     const struct block_header *h, const sm3_digest *block, const struct qc *commit,
                     const struct tx_view *tx, const struct place *at)
{
    struct report_ack a = {.sequence = tx->u.report.meter.sequence,
                           .height = h->height,
                           .block = *block,
                           .index = at->index,
                           .second = at->second};
    sm3_digest path[MERKLE_PATH_MAX];
    size_t size = merkle_tree_path(tree, at->index, path);
    AMI_CHECK(size <= sizeof a.path / sizeof a.path[0]);
    memcpy(a.path, path, size * sizeof path[0]);
    a.path_count = (uint16_t)size;
    uint8_t plain[1024];
    struct writer w = writer_on(plain, sizeof plain);
    report_ack_encode(&w, &a);
    AMI_CHECK(writer_ok(&w));
    send_block_proof(n, s->link, h, commit);
    n->counters.acks++;
    send_inside(n, s, DATA_REPORT_ACK, writer_span(&w));
}

/* Leaves of all transactions of a body; second as body_leaves takes it. False: out of memory, or a
 * body that does not parse. */
static bool plant_tree(struct merkle_tree *t, sm3_digest *second, struct span body)
{
    sm3_digest *leaves = malloc(AMI_BLOCK_TXS_MAX * sizeof *leaves);
    size_t count = 0;
    bool ok =
        leaves != NULL && body_leaves(leaves, second, AMI_BLOCK_TXS_MAX, &count, body) == AMI_OK;
    merkle_tree_truncate(t, 0);
    for (size_t i = 0; ok && i < count; i++)
        ok = merkle_tree_set(t, i, &leaves[i]) == AMI_OK;
    free(leaves);
    if (ok)
        merkle_tree_root(t);
    return ok;
}

/* The block of that height with its tree. AMI_AGAIN: enough were read for the moment. */
static enum ami_status settled_block(struct node *n, uint64_t height, struct settled_block **out)
{
    struct gateway *g = n->gateway;
    struct settled_block *b = &g->settled[0];
    for (unsigned i = 0; i < NODE_SETTLED_BLOCKS; i++) {
        if (g->settled[i].height == height) {
            b = &g->settled[i];
            break;
        }
        if (g->settled[i].used < b->used)
            b = &g->settled[i];
    }
    b->used = ++g->settled_uses;
    *out = b;
    if (b->height == height)
        return AMI_OK;
    uint64_t now = node_now_us(n);
    if (now - g->reads_since_us >= NODE_SETTLED_US) {
        g->reads_since_us = now;
        g->reads = 0;
    }
    /* To read and hash a whole block for a few bytes of a meter is what would stop this loop. */
    if (g->reads == NODE_SETTLED_READS)
        return AMI_AGAIN;
    g->reads++;
    b->height = 0;
    AMI_TRY(n->c.disk.block(n->c.disk.ctx, height, &b->block, b->bytes, n->block_size));
    if (!plant_tree(b->tree, NULL, b->block.body))
        return AMI_NO_MEMORY;
    b->hash = block_hash(&b->block.header);
    b->height = height;
    return AMI_OK;
}

void gateway_answer_settled(struct node *n, struct gateway_session *s, uint64_t sequence)
{
    const struct record *rec = registry_at(n->c.registry, s->meter);
    const struct node_disk *d = &n->c.disk;
    uint64_t height;
    uint32_t index, at = 0;
    struct settled_block *b;
    enum ami_status status =
        d->find_report(d->ctx, &rec->name, rec->epoch, sequence, &height, &index);
    if (status == AMI_NOT_FOUND) { /* its meter has skipped it */
        gateway_nack(n, s, sequence, AMI_SEQUENCE_SETTLED);
        return;
    }
    if (status == AMI_OK)
        status = settled_block(n, height, &b);
    if (status != AMI_OK) {
        gateway_nack(n, s, sequence, AMI_AGAIN);
        return;
    }
    struct body_reader it = body_reader_on(b->block.body);
    struct span encoded;
    while (body_next(&it, &encoded)) {
        struct tx_view tx;
        if (at++ != index || tx_view_decode_kept(&tx, encoded) != AMI_OK)
            continue;
        const struct place here = {index, tx_second(&tx)};
        send_ack(n, s, b->tree, &b->block.header, &b->hash, &b->block.commit, &tx, &here);
        return;
    }
}

void gateway_on_commit(struct node *n, const struct delivered *d, uint32_t index,
                       const struct tx_view *tx, const struct pool_entry *e)
{
    struct gateway *g = n->gateway;
    struct gateway_session *s = e->waiter == 0 ? NULL : gateway_find_session(n, e->waiter);
    if (s == NULL || !s->confirmed || tx->tx.kind != TX_REPORT)
        return;
    if (g->tree_height != d->header->height) {
        g->tree_height = 0;
        if (!plant_tree(g->tree, g->second, d->body))
            return; /* out of memory: the meters ask again */
        g->tree_height = d->header->height;
    }
    const struct place at = {index, g->second[index]};
    send_ack(n, s, g->tree, d->header, &d->block, d->commit, tx, &at);
}
