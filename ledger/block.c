#include "ledger/block.h"

#include "base/check.h"

#include <stdlib.h>
#include <string.h>

#define HEADER_BYTES_MAX 320

sm3_digest block_hash(const struct block_header *h)
{
    uint8_t bytes[HEADER_BYTES_MAX];
    struct writer w = writer_on(bytes, sizeof bytes);
    block_header_encode(&w, h);
    AMI_CHECK(writer_ok(&w));
    const struct span parts[] = {writer_span(&w)};
    return sm3_labelled("amiledger block v1", parts, 1);
}

enum ami_status block_build(struct block_header *out, const struct genesis *g, struct registry *r,
                            const struct block_parent *parent, uint64_t term, uint8_t proposer,
                            int64_t now_ms, struct span body)
{
    AMI_CHECK(registry_staged(r) && proposer < g->members.count);
    sm3_digest *leaves = malloc(g->parameters.block_txs_max * sizeof *leaves);
    if (leaves == NULL)
        return AMI_NO_MEMORY;
    struct body_reader it = body_reader_on(body);
    struct span encoded;
    uint32_t count = 0;
    enum ami_status status = AMI_OK;
    while (status == AMI_OK && body_next(&it, &encoded)) {
        struct tx_view tx;
        if (count == g->parameters.block_txs_max) {
            status = AMI_TOO_LARGE;
            break;
        }
        status = tx_view_parse(&tx, encoded);
        if (status == AMI_OK)
            leaves[count++] = tx_leaf(&tx.id);
    }
    if (status == AMI_OK && !body_ok(&it))
        status = AMI_BAD_ENCODING;
    if (status == AMI_OK)
        *out = (struct block_header){
            .version = 1,
            .chain = g->members.chain,
            .epoch = g->members.epoch,
            .members = g->members.hash,
            .height = parent->height + 1,
            .term = term,
            .previous = parent->hash,
            .merkle_root = merkle_root(leaves, count),
            .state_root = registry_stage_root(r),
            .timestamp_ms = now_ms > parent->timestamp_ms ? now_ms : parent->timestamp_ms + 1,
            .tx_count = count,
            .proposer = proposer};
    free(leaves);
    return status;
}

enum ami_status block_check_header(const struct genesis *g, const struct block_header *h,
                                   const struct block_parent *parent)
{
    if (h->version != 1)
        return AMI_BAD_VERSION;
    if (!sm3_equal(&h->chain, &g->members.chain))
        return AMI_WRONG_CHAIN;
    if (h->epoch != g->members.epoch || !sm3_equal(&h->members, &g->members.hash))
        return AMI_WRONG_EPOCH;
    if (parent->height == UINT64_MAX || h->height != parent->height + 1 ||
        !sm3_equal(&h->previous, &parent->hash))
        return AMI_BAD_PARENT;
    if (h->timestamp_ms <= parent->timestamp_ms)
        return AMI_BAD_TIMESTAMP;
    if (h->proposer >= g->members.count || h->term == 0)
        return AMI_BAD_ARGUMENT;
    return h->tx_count > g->parameters.block_txs_max ? AMI_TOO_LARGE : AMI_OK;
}

enum ami_status block_check_time(const struct genesis *g, const struct block_header *h,
                                 int64_t now_ms)
{
    const int64_t back = (int64_t)g->parameters.timestamp_back_ms;
    const int64_t ahead = (int64_t)g->parameters.timestamp_ahead_ms;
    if (h->timestamp_ms < now_ms - back || h->timestamp_ms > now_ms + ahead)
        return AMI_BAD_TIMESTAMP;
    return AMI_OK;
}

/* --- signatures -------------------------------------------------------------------------------- */

struct block_check {
    uint32_t count;
    struct tx_view *tx;
    struct tx_check *keys;
    /* Keys of meters that this very body enrols: the registry does not know them yet. */
    struct verify_key *enrolled;
    uint32_t enrolled_count;
    sm3_digest merkle_root;
};

void block_check_free(struct block_check *c)
{
    if (c == NULL)
        return;
    free(c->tx);
    free(c->keys);
    free(c->enrolled);
    free(c);
}

static enum ami_status parse_body(struct block_check *c, struct span body, uint32_t *bad_index)
{
    struct body_reader it = body_reader_on(body);
    struct span encoded;
    uint32_t at = 0;
    while (body_next(&it, &encoded)) {
        *bad_index = at;
        if (at == c->count)
            return AMI_TOO_LARGE;
        AMI_TRY(tx_view_parse(&c->tx[at], encoded));
        at++;
    }
    *bad_index = at;
    return body_ok(&it) && at == c->count ? AMI_OK : AMI_BAD_ENCODING;
}

/* The record that an enrolment earlier in this body makes: its key, recovered once. */
static const struct verify_key *enrolled_here(struct block_check *c, const struct genesis *g,
                                              uint32_t before, enum record_kind kind,
                                              const struct ami_id *name, uint32_t epoch)
{
    for (uint32_t i = 0; i < before; i++) {
        const struct tx_view *tx = &c->tx[i];
        enum key_role role = kind == RECORD_METER ? ROLE_METER_REPORT : ROLE_DC_SIGN;
        const point_bytes *w = NULL;
        if (kind == RECORD_METER && tx->tx.kind == TX_METER_ENROL &&
            tx->u.meter_enrol.epoch == epoch && ami_id_equal(&tx->u.meter_enrol.meter, name))
            w = &tx->u.meter_enrol.w_report;
        if (kind == RECORD_DC && tx->tx.kind == TX_DC_ENROL && tx->u.dc_enrol.epoch == epoch &&
            ami_id_equal(&tx->u.dc_enrol.dc, name))
            w = &tx->u.dc_enrol.w_sign;
        if (w == NULL)
            continue;
        struct verify_key *key = &c->enrolled[c->enrolled_count];
        if (verify_key_init(key, &g->network, role, name, epoch, w) != AMI_OK)
            return NULL;
        c->enrolled_count++;
        return key;
    }
    return NULL;
}

static enum ami_status find_keys(struct block_check *c, struct registry *r, uint32_t index)
{
    const struct genesis *g = registry_genesis(r);
    const struct tx_view *tx = &c->tx[index];
    enum ami_status status = registry_check_prepare(r, tx, &c->keys[index]);
    if (status != AMI_UNKNOWN_DEVICE)
        return status;
    struct tx_check *k = &c->keys[index];
    if (tx->tx.kind == TX_REPORT) {
        const struct report_meter_part *m = &tx->u.report.meter;
        const struct report_gateway_part *d = &tx->u.report.gateway;
        const struct record *rec = registry_find(r, RECORD_METER, &m->meter, m->epoch);
        k->author = rec != NULL ? registry_key(r, rec)
                                : enrolled_here(c, g, index, RECORD_METER, &m->meter, m->epoch);
        rec = registry_find(r, RECORD_DC, &d->dc, d->dc_epoch);
        k->gateway = rec != NULL ? registry_key(r, rec)
                                 : enrolled_here(c, g, index, RECORD_DC, &d->dc, d->dc_epoch);
        return k->author == NULL || k->gateway == NULL ? AMI_UNKNOWN_DEVICE : AMI_OK;
    }
    k->author = enrolled_here(c, g, index, RECORD_METER, &tx->u.skip.meter, tx->u.skip.epoch);
    return k->author == NULL ? AMI_UNKNOWN_DEVICE : AMI_OK;
}

enum ami_status block_check_prepare(struct registry *r, const struct block_header *h,
                                    struct span body, struct block_check **out, uint32_t *bad_index)
{
    *out = NULL;
    *bad_index = 0;
    if (h->tx_count > AMI_BLOCK_TXS_MAX || body.size > AMI_BLOCK_BYTES_MAX)
        return AMI_TOO_LARGE;
    struct block_check *c = calloc(1, sizeof *c);
    if (c == NULL)
        return AMI_NO_MEMORY;
    size_t count = h->tx_count;
    c->count = h->tx_count;
    c->merkle_root = h->merkle_root;
    c->tx = calloc(count + 1, sizeof *c->tx);
    c->keys = calloc(count + 1, sizeof *c->keys);
    /* Two at most per transaction: a report's meter and its gateway. */
    c->enrolled = calloc(2 * count + 1, sizeof *c->enrolled);
    enum ami_status status =
        c->tx == NULL || c->keys == NULL || c->enrolled == NULL ? AMI_NO_MEMORY : AMI_OK;
    if (status == AMI_OK)
        status = parse_body(c, body, bad_index);
    for (uint32_t i = 0; status == AMI_OK && i < c->count; i++) {
        *bad_index = i;
        status = find_keys(c, r, i);
    }
    if (status != AMI_OK) {
        block_check_free(c);
        return status;
    }
    *out = c;
    return AMI_OK;
}

enum ami_status block_check_run(struct block_check *c, uint32_t *bad_index)
{
    sm3_digest *leaves = malloc((c->count + (size_t)1) * sizeof *leaves);
    *bad_index = 0;
    if (leaves == NULL)
        return AMI_NO_MEMORY;
    for (uint32_t i = 0; i < c->count; i++)
        leaves[i] = tx_leaf(&c->tx[i].id);
    sm3_digest root = merkle_root(leaves, c->count);
    free(leaves);
    if (!sm3_equal(&root, &c->merkle_root))
        return AMI_BAD_MERKLE_ROOT;
    for (uint32_t i = 0; i < c->count; i++) {
        *bad_index = i;
        AMI_TRY(tx_check_run(&c->keys[i], &c->tx[i]));
    }
    return AMI_OK;
}

enum ami_status block_check_body(struct registry *r, const struct block_header *h, struct span body,
                                 uint32_t *bad_index)
{
    struct block_check *c;
    AMI_TRY(block_check_prepare(r, h, body, &c, bad_index));
    enum ami_status status = block_check_run(c, bad_index);
    block_check_free(c);
    return status;
}

enum ami_status block_stage(struct registry *r, const struct block_header *h, struct span body,
                            uint32_t *bad_index)
{
    struct body_reader it = body_reader_on(body);
    struct span encoded;
    uint32_t at = 0;
    enum ami_status status = AMI_OK;
    registry_stage_begin(r, h->height);
    while (status == AMI_OK && body_next(&it, &encoded)) {
        struct tx_view tx;
        *bad_index = at++;
        status = tx_view_parse(&tx, encoded);
        if (status == AMI_OK)
            status = registry_stage_tx(r, &tx);
    }
    if (status == AMI_OK && (!body_ok(&it) || at != h->tx_count))
        status = AMI_BAD_ENCODING;
    if (status == AMI_OK) {
        sm3_digest root = registry_stage_root(r);
        if (!sm3_equal(&root, &h->state_root))
            status = AMI_BAD_STATE_ROOT;
    }
    if (status != AMI_OK)
        registry_stage_drop(r);
    return status;
}
