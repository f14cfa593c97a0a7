#include "tests/consensus/world_internal.h"

struct span world_copy(struct span s)
{
    uint8_t *d = must(malloc(s.size + 1));
    if (s.size != 0)
        memcpy(d, s.data, s.size);
    return span_of(d, s.size);
}

void world_free_span(struct span s)
{
    free((void *)(uintptr_t)s.data);
}

struct stored *stored_new(const struct block_header *h, struct span qc, struct span body)
{
    struct stored *s = must(calloc(1, sizeof *s));
    s->header = *h;
    s->hash = block_hash(h);
    s->qc = world_copy(qc);
    s->body = world_copy(body);
    return s;
}

void stored_free(struct stored *s)
{
    if (s == NULL)
        return;
    world_free_span(s->qc);
    world_free_span(s->body);
    free(s);
}

/* --- the ledger's stand-in ------------------------------------------------------------------- */

static sm3_digest state_after(const sm3_digest *parent, struct span body)
{
    struct span parts[2] = {span_of(parent->b, SM3_BYTES), body};
    return sm3_labelled("test state", parts, 2);
}

void world_make_block(struct world *w, struct block_header *h, const sm3_digest *parent,
                      uint64_t height, uint64_t term, uint8_t proposer, int64_t timestamp_ms,
                      struct span body)
{
    *h = (struct block_header){.version = 1,
                               .chain = w->members.chain,
                               .epoch = w->members.epoch,
                               .members = w->members.hash,
                               .height = height,
                               .term = term,
                               .previous = *parent,
                               .merkle_root = sm3(body),
                               .state_root = state_after(parent, body),
                               .timestamp_ms = timestamp_ms,
                               .tx_count = (uint32_t)(body.size / 4),
                               .proposer = proposer};
}

const sm3_digest *world_tip(const struct world *w, const struct node *n)
{
    return n->height == 0 ? &w->members.chain : &n->chain[n->height - 1]->hash;
}

enum ami_status world_validate(const struct world *w, const struct node *n,
                               const struct block_header *h, struct span body, bool fresh,
                               int64_t received_ms)
{
    if (h->height != n->height + 1 || !sm3_equal(&h->previous, world_tip(w, n)))
        return AMI_BAD_PARENT;
    sm3_digest merkle = sm3(body), state = state_after(&h->previous, body);
    if (body.size % 4 != 0 || body.size / 4 != h->tx_count || !sm3_equal(&merkle, &h->merkle_root))
        return AMI_BAD_MERKLE_ROOT;
    if (!sm3_equal(&state, &h->state_root))
        return AMI_BAD_STATE_ROOT;
    for (size_t i = 0; i < body.size; i += 4) {
        uint32_t tx = load_be32(body.data + i);
        if (tx >= w->tx_count || n->committed[tx])
            return AMI_SEQUENCE_SETTLED;
        for (size_t j = 0; j < i; j += 4)
            if (load_be32(body.data + j) == tx)
                return AMI_SEQUENCE_SETTLED;
    }
    if (fresh && (received_ms - h->timestamp_ms > 30000 || h->timestamp_ms - received_ms > 30000))
        return AMI_BAD_TIMESTAMP;
    return AMI_OK;
}

void world_settle(struct world *w, struct node *n, struct span body)
{
    for (size_t i = 0; i + 4 <= body.size; i += 4) {
        uint32_t tx = load_be32(body.data + i);
        if (tx >= w->tx_count || n->committed[tx])
            world_violate(w, "a transaction was committed twice");
        else
            n->committed[tx] = true;
    }
    while (n->first_waiting < w->tx_count && n->committed[n->first_waiting])
        n->first_waiting++;
}

/* --- disk ------------------------------------------------------------------------------------ */

const struct stored *world_find_kept(const struct node *n, const sm3_digest *hash)
{
    for (size_t i = 0; i < KEPT_MAX; i++)
        if (n->kept[i] != NULL && sm3_equal(&n->kept[i]->hash, hash))
            return n->kept[i];
    for (uint64_t h = n->height; h > 0 && h + 2 > n->height; h--)
        if (sm3_equal(&n->chain[h - 1]->hash, hash))
            return n->chain[h - 1];
    return NULL;
}

static void keep(struct node *n, struct stored *s)
{
    for (size_t i = 0; i < KEPT_MAX; i++) {
        if (n->kept[i] != NULL && sm3_equal(&n->kept[i]->hash, &s->hash)) {
            stored_free(s);
            return;
        }
    }
    for (size_t i = 0; i < KEPT_MAX; i++) {
        if (n->kept[i] == NULL) {
            n->kept[i] = s;
            return;
        }
    }
    AMI_CHECK(false && "too many blocks are kept");
}

static void prune(struct node *n)
{
    for (size_t i = 0; i < KEPT_MAX; i++)
        if (n->kept[i] != NULL && n->kept[i]->header.height <= n->height) {
            stored_free(n->kept[i]);
            n->kept[i] = NULL;
        }
}

void world_append(struct node *n, struct stored *s)
{
    if ((n->height & (n->height + 1)) == 0 || n->chain == NULL)
        n->chain = must(realloc(n->chain, (2 * n->height + 16) * sizeof *n->chain));
    n->chain[n->height++] = s;
}

void world_set_record(struct world *w, struct node *n, struct span record)
{
    world_free_span(n->record_bytes);
    n->record_bytes = record;
    n->has_record = true;
    if (n->record == NULL)
        n->record = must(calloc(1, sizeof *n->record));
    if (vote_record_parse(n->record, record) != AMI_OK)
        world_violate(w, "a vote record does not parse");
}

/* The write becomes durable. */
void world_apply(struct world *w, unsigned i, struct write *d)
{
    struct node *n = &w->node[i];
    if (d->record.size != 0) {
        if (n->has_record) {
            uint64_t term = n->record->term;
            world_set_record(w, n, d->record);
            if (n->record->term < term && w->o.rules_off == 0)
                world_violate(w, "node %u: the durable term goes back", i);
        } else {
            world_set_record(w, n, d->record);
        }
    } else {
        world_free_span(d->record);
    }
    if (d->keep != NULL)
        keep(n, d->keep);
    if (d->commit != NULL) {
        world_check_commit(w, i, d->commit);
        world_append(n, d->commit);
        prune(n);
    }
    if (n->has_record && !n->mute &&
        (n->record->tip_height != n->height || !sm3_equal(&n->record->tip, world_tip(w, n))))
        world_violate(w, "node %u: record and chain were not written together", i);
    free(d);
}

void world_drop_write(struct write *d)
{
    if (d == NULL)
        return;
    world_free_span(d->record);
    stored_free(d->keep);
    stored_free(d->commit);
    free(d);
}

static void preload_one(struct world *w)
{
    uint64_t h = w->preload_count + 1;
    const sm3_digest *parent = h == 1 ? &w->members.chain : &w->preloaded[h - 2]->hash;
    uint8_t body[WORLD_BODY_BYTES], bytes[4096];
    size_t size = 4 * (w->o.preload_txs == 0 ? 1 : w->o.preload_txs);
    AMI_CHECK(size <= sizeof body && w->tx_count + size / 4 < WORLD_TXS_MAX);
    for (size_t at = 0; at < size; at += 4)
        store_be32(body + at, w->tx_count++);
    struct block_header header;
    world_make_block(w, &header, parent, h, 1, 0, WALL_START_MS - 1000000 + (int64_t)h,
                     span_of(body, size));
    struct vote votes[AMI_MEMBERS_MAX];
    unsigned q = members_quorum(w->o.n);
    for (uint8_t i = 0; i < q; i++) {
        uint8_t random[SM2_WIDE_BYTES] = {0};
        votes[i] = (struct vote){.kind = VOTE_COMMIT,
                                 .chain = w->members.chain,
                                 .epoch = 1,
                                 .term = 1,
                                 .height = h,
                                 .block = block_hash(&header),
                                 .voter = i};
        vote_sign(&votes[i], &w->keys[i], random);
    }
    struct qc qc;
    AMI_CHECK(qc_make(&qc, &w->members, votes, q) == AMI_OK);
    struct writer out = writer_on(bytes, sizeof bytes);
    qc_encode(&out, &qc);
    w->preloaded = must(realloc(w->preloaded, h * sizeof *w->preloaded));
    w->preloaded[h - 1] = stored_new(&header, writer_span(&out), span_of(body, size));
    w->preload_count = h;
}

void world_preload(struct world *w, unsigned i, uint64_t height)
{
    struct node *n = &w->node[i];
    AMI_CHECK(!w->started);
    while (w->preload_count < height)
        preload_one(w);
    for (uint64_t h = 1; h <= height; h++) {
        const struct stored *s = w->preloaded[h - 1];
        struct stored *copy = stored_new(&s->header, s->qc, s->body);
        world_check_commit(w, i, copy);
        world_append(n, copy);
    }
    static struct vote_record v;
    memset(&v, 0, sizeof v);
    v.version = 1;
    v.chain = w->members.chain;
    v.epoch = 1;
    v.term = 1;
    v.has_high = true;
    AMI_CHECK(qc_parse(&v.high, n->chain[height - 1]->qc) == AMI_OK);
    v.tip_height = height;
    v.tip = n->chain[height - 1]->hash;
    uint8_t bytes[8192];
    struct writer out = writer_on(bytes, sizeof bytes);
    vote_record_encode(&out, &v);
    world_set_record(w, n, world_copy(writer_span(&out)));
}
