#include "node/gateway_internal.h"

bool gateway_ack_init(struct node *n)
{
    struct gateway *g = n->gateway;
    const size_t digests = n->c.genesis->parameters.block_txs_max * sizeof *g->leaves;
    g->leaves = malloc(digests);
    bool ok = g->leaves != NULL;
    for (unsigned i = 0; i < NODE_SETTLED_BLOCKS; i++) {
        struct settled_block *b = &g->settled[i];
        b->tree = merkle_tree_new();
        b->second = malloc(digests);
        ok = ok && b->tree != NULL && b->second != NULL;
    }
    return ok;
}

void gateway_ack_free(struct gateway *g)
{
    for (unsigned i = 0; i < NODE_SETTLED_BLOCKS; i++) {
        merkle_tree_free(g->settled[i].tree);
        free(g->settled[i].second);
    }
    free(g->leaves);
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
        n->counters.acks_dropped++; /* the meter asks again, and is answered again */
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

static void send_ack(struct node *n, struct gateway_session *s, struct settled_block *b,
                     uint64_t sequence, uint32_t index)
{
    n->gateway->settled_last = b;
    b->used = ++n->gateway->settled_uses;
    struct report_ack a = {.sequence = sequence,
                           .height = b->height,
                           .block = b->hash,
                           .index = index,
                           .second = b->second[index]};
    sm3_digest path[MERKLE_PATH_MAX];
    size_t size = merkle_tree_path(b->tree, index, path);
    AMI_CHECK(size <= sizeof a.path / sizeof a.path[0]);
    memcpy(a.path, path, size * sizeof path[0]);
    a.path_count = (uint16_t)size;
    uint8_t plain[1024];
    struct writer w = writer_on(plain, sizeof plain);
    report_ack_encode(&w, &a);
    AMI_CHECK(writer_ok(&w));
    send_block_proof(n, s->link, &b->header, &b->commit);
    n->counters.acks++;
    send_inside(n, s, DATA_REPORT_ACK, writer_span(&w));
}

/* The place of the block of this height, or the one that was not used for longest. */
static struct settled_block *place_of(struct gateway *g, uint64_t height)
{
    struct settled_block *b = g->settled_last;
    if (b != NULL && b->height == height)
        return b; /* they come a block at a time */
    b = &g->settled[0];
    for (unsigned i = 0; i < NODE_SETTLED_BLOCKS; i++) {
        if (g->settled[i].height == height)
            return &g->settled[i];
        if (g->settled[i].used < b->used)
            b = &g->settled[i];
    }
    return b;
}

/* Makes it what is needed to prove the transactions of this block. AMI_NO_MEMORY; AMI_DAMAGED: its
 * body is not its header's; as body_leaves. */
static enum ami_status plant(struct node *n, struct settled_block *b, const struct delivered *d)
{
    sm3_digest *leaves = n->gateway->leaves;
    size_t count = 0;
    b->height = 0;
    merkle_tree_truncate(b->tree, 0);
    AMI_TRY(
        body_leaves(leaves, b->second, n->c.genesis->parameters.block_txs_max, &count, d->body));
    if (count != d->header->tx_count)
        return AMI_DAMAGED;
    for (size_t i = 0; i < count; i++)
        AMI_TRY(merkle_tree_set(b->tree, i, &leaves[i]));
    merkle_tree_root(b->tree);
    b->header = *d->header;
    b->hash = d->block;
    b->commit = *d->commit;
    b->height = d->header->height;
    return AMI_OK;
}

/* The block of that height. AMI_AGAIN: enough were read for the moment. */
static enum ami_status settled_block(struct node *n, uint64_t height, struct settled_block **out)
{
    struct gateway *g = n->gateway;
    struct certified_block read;
    *out = place_of(g, height);
    if ((*out)->height == height)
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
    AMI_TRY(n->c.disk.block(n->c.disk.ctx, height, &read, n->block, n->block_size));
    return plant(
        n, *out,
        &(struct delivered){&read.header, block_hash(&read.header), &read.commit, read.body});
}

void gateway_answer_settled(struct node *n, struct gateway_session *s, uint64_t sequence)
{
    const struct record *rec = registry_at(n->c.registry, s->meter);
    const struct node_disk *d = &n->c.disk;
    uint64_t height = 0;
    uint32_t index;
    struct settled_block *b;
    enum ami_status status =
        d->find_report(d->ctx, &rec->name, rec->epoch, sequence, &height, &index);
    if (status == AMI_NOT_FOUND) { /* its meter has skipped it */
        gateway_nack(n, s, sequence, AMI_SEQUENCE_SETTLED);
        return;
    }
    if (status == AMI_OK)
        status = settled_block(n, height, &b);
    if (status == AMI_OK && index >= b->header.tx_count)
        status = AMI_DAMAGED;
    if (status == AMI_OK) {
        send_ack(n, s, b, sequence, index);
        return;
    }
    if (status != AMI_AGAIN)
        node_event_often(n, ENV_LOG_ERROR, "no_proof", "height=%llu status=%s",
                         (unsigned long long)height, ami_status_name(status));
    gateway_nack(n, s, sequence, AMI_AGAIN);
}

void gateway_on_commit(struct node *n, const struct delivered *d, uint32_t index,
                       const struct tx_view *tx, const struct pool_entry *e)
{
    struct gateway_session *s = e->waiter == 0 ? NULL : gateway_find_session(n, e->waiter);
    if (s == NULL || s->state != SESSION_CONFIRMED || tx->tx.kind != TX_REPORT)
        return;
    struct gateway *g = n->gateway;
    struct settled_block *b = place_of(g, d->header->height);
    if (g->unproved_height == d->header->height)
        return;
    if (b->height != d->header->height && plant(n, b, d) != AMI_OK) {
        g->unproved_height = d->header->height; /* out of memory: the meters ask again */
        return;
    }
    send_ack(n, s, b, tx->u.report.meter.sequence, index);
}
