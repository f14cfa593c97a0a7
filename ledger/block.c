#include "ledger/block.h"

#include "base/check.h"
#include "ledger/internal.h"

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

enum ami_status block_build(struct block_header *out, struct registry *r,
                            const struct block_parent *parent, uint64_t term, uint8_t proposer,
                            int64_t now_ms, struct span body)
{
    const struct genesis *g = registry_genesis(r);
    const struct members *m = registry_members(r, parent->height + 1);
    AMI_CHECK(registry_staged(r));
    if (m == NULL)
        return AMI_NO_MEMORY;
    AMI_CHECK(proposer < m->count);
    if (body.size > g->parameters.block_bytes_max)
        return AMI_TOO_LARGE;
    if (parent->timestamp_ms == INT64_MAX)
        return AMI_BAD_TIMESTAMP;
    sm3_digest *leaves = malloc(g->parameters.block_txs_max * sizeof *leaves);
    if (leaves == NULL)
        return AMI_NO_MEMORY;
    size_t count = 0;
    enum ami_status status = body_leaves(leaves, NULL, g->parameters.block_txs_max, &count, body);
    if (status == AMI_OK)
        *out = (struct block_header){
            .version = 1,
            .chain = m->chain,
            .epoch = m->epoch,
            .members = m->hash,
            .height = parent->height + 1,
            .term = term,
            .previous = parent->hash,
            .merkle_root = merkle_root(leaves, count),
            .state_root = registry_stage_root(r),
            .timestamp_ms = now_ms > parent->timestamp_ms ? now_ms : parent->timestamp_ms + 1,
            .tx_count = (uint32_t)count,
            .proposer = proposer};
    free(leaves);
    return status;
}

enum ami_status block_check_header(const struct parameters *p, const struct members *m,
                                   const struct block_header *h, const struct block_parent *parent)
{
    if (h->version != 1)
        return AMI_BAD_VERSION;
    if (!sm3_equal(&h->chain, &m->chain))
        return AMI_WRONG_CHAIN;
    if (parent->height == UINT64_MAX || h->height != parent->height + 1 ||
        !sm3_equal(&h->previous, &parent->hash))
        return AMI_BAD_PARENT;
    if (h->epoch != m->epoch || !sm3_equal(&h->members, &m->hash))
        return AMI_WRONG_EPOCH;
    if (h->timestamp_ms <= parent->timestamp_ms)
        return AMI_BAD_TIMESTAMP;
    if (h->proposer >= m->count || h->term == 0)
        return AMI_BAD_ARGUMENT;
    return h->tx_count > p->block_txs_max ? AMI_TOO_LARGE : AMI_OK;
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

/* --- checking a body ----------------------------------------------------------------------------
 */

#define NO_DEVICE UINT32_MAX
/* Transactions whose signatures are verified in one batch. */
#define BATCH_TXS 2048

/* A transaction and who signed it: places among the devices. */
struct item {
    struct span encoded;
    uint32_t author;
    uint32_t gateway;
};

/* A key that the body needs: of a record of the registry, or of an enrolment in this very body. */
struct device {
    uint8_t kind;
    struct ami_id name;
    uint32_t epoch;
    point_bytes w;
    uint32_t first_tx;            /* that needs it */
    bool recorded;                /* it is record `index` of the registry */
    uint64_t index;               /* of that record */
    const struct verify_key *key; /* NULL until recovered */
    struct verify_key own;        /* where it is recovered to */
};

struct batch {
    struct tx_signature signature[BATCH_TXS * TX_SIGNATURES_MAX];
    struct sm3_message message[BATCH_TXS * TX_SIGNATURES_MAX];
    point p[BATCH_TXS * TX_SIGNATURES_MAX];
    sm3_digest e[BATCH_TXS * TX_SIGNATURES_MAX];
    sm2_signature sig[BATCH_TXS * TX_SIGNATURES_MAX];
    uint32_t tx[BATCH_TXS * TX_SIGNATURES_MAX];
    bool ok[BATCH_TXS * TX_SIGNATURES_MAX];
    size_t count;
};

struct block_check {
    struct registry *registry;
    const struct genesis *genesis;
    sm3_digest merkle_root;
    uint64_t height;
    bool meters_unchecked;
    bool may_be_pruned;
    uint32_t count;
    struct item *item;
    struct device **device; /* each stays in place */
    uint32_t device_count, device_capacity;
    uint32_t *found; /* devices by kind, name and epoch: open addressing, place + 1 */
    size_t found_count;
};

void block_check_free(struct block_check *c)
{
    if (c == NULL)
        return;
    for (uint32_t i = 0; i < c->device_count; i++) {
        struct device *d = c->device[i];
        /* What was recovered in the other thread need not be recovered again. */
        if (d->recorded && d->key == &d->own)
            registry_adopt_key(c->registry, d->index, d->key);
        free(d);
    }
    free(c->device);
    free(c->found);
    free(c->item);
    free(c);
}

static uint32_t *device_place(const struct block_check *c, uint8_t kind, const struct ami_id *name,
                              uint32_t epoch)
{
    size_t mask = c->found_count - 1;
    for (size_t i = (size_t)registry_hash_key(kind, name, epoch) & mask;; i = (i + 1) & mask) {
        uint32_t *place = &c->found[i];
        if (*place == 0)
            return place;
        const struct device *d = c->device[*place - 1];
        if (d->kind == kind && d->epoch == epoch && ami_id_equal(&d->name, name))
            return place;
    }
}

static enum ami_status add_device(struct block_check *c, uint32_t *place, const struct device *d,
                                  uint32_t *out)
{
    if (c->device_count == c->device_capacity) {
        uint32_t capacity = c->device_capacity * 2 + 32;
        struct device **device = realloc(c->device, capacity * sizeof(struct device *));
        if (device == NULL)
            return AMI_NO_MEMORY;
        c->device = device;
        c->device_capacity = capacity;
    }
    struct device *copy = malloc(sizeof *copy);
    if (copy == NULL)
        return AMI_NO_MEMORY;
    *copy = *d;
    *out = c->device_count;
    c->device[c->device_count++] = copy;
    *place = c->device_count;
    return AMI_OK;
}

/* The device that signed transaction `tx`: met before in this body (an enrolment, perhaps), or in
 * the registry. */
static enum ami_status need_device(struct block_check *c, uint32_t tx, uint8_t kind,
                                   const struct ami_id *name, uint32_t epoch, uint32_t *out)
{
    uint32_t *place = device_place(c, kind, name, epoch);
    if (*place != 0) {
        *out = *place - 1;
        return AMI_OK;
    }
    const struct record *rec = registry_find(c->registry, kind, name, epoch);
    if (rec == NULL)
        return AMI_UNKNOWN_DEVICE;
    const struct device d = {.kind = kind,
                             .name = *name,
                             .epoch = epoch,
                             .w = rec->w,
                             .first_tx = tx,
                             .recorded = true,
                             .index = registry_index_of(c->registry, rec),
                             .key = rec->key};
    return add_device(c, place, &d, out);
}

/* An enrolment: what follows in this body may be signed with its key. One that is enrolled already
 * is refused when it is staged; until then the key that is in force counts. */
static enum ami_status meet_device(struct block_check *c, uint32_t tx, uint8_t kind,
                                   const struct ami_id *name, uint32_t epoch, const point_bytes *w)
{
    uint32_t at;
    enum ami_status status = need_device(c, tx, kind, name, epoch, &at);
    if (status != AMI_UNKNOWN_DEVICE)
        return status;
    const struct device d = {.kind = kind, .name = *name, .epoch = epoch, .w = *w, .first_tx = tx};
    return add_device(c, device_place(c, kind, name, epoch), &d, &at);
}

static enum ami_status find_signers(struct block_check *c, uint32_t tx, const struct tx_view *v)
{
    struct item *item = &c->item[tx];
    switch (v->tx.kind) {
    case TX_REPORT: {
        const struct report_meter_part *m = &v->u.report.meter;
        const struct report_gateway_part *g = &v->u.report.gateway;
        AMI_TRY(need_device(c, tx, RECORD_METER, &m->meter, m->epoch, &item->author));
        return v->pruned ? AMI_OK
                         : need_device(c, tx, RECORD_DC, &g->dc, g->dc_epoch, &item->gateway);
    }
    case TX_SKIP:
        return need_device(c, tx, RECORD_METER, &v->u.skip.meter, v->u.skip.epoch, &item->author);
    case TX_METER_ENROL: {
        const struct meter_enrol *e = &v->u.meter_enrol;
        return meet_device(c, tx, RECORD_METER, &e->meter, e->epoch, &e->w_report);
    }
    case TX_DC_ENROL: {
        const struct dc_enrol *e = &v->u.dc_enrol;
        return meet_device(c, tx, RECORD_DC, &e->dc, e->epoch, &e->w_sign);
    }
    case TX_EVIDENCE: {
        const struct record *accused;
        AMI_TRY(evidence_record(c->registry, c->height, &v->u.evidence, &accused));
        return need_device(c, tx, RECORD_DC, &accused->name, accused->epoch, &item->author);
    }
    default:
        return AMI_OK;
    }
}

static enum ami_status read_body(struct block_check *c, struct span body, uint32_t *bad_index)
{
    struct body_reader it = body_reader_on(body);
    struct span encoded;
    uint32_t at = 0;
    while (body_next(&it, &encoded)) {
        struct tx_view v;
        *bad_index = at;
        if (at == c->count)
            return AMI_BAD_ENCODING;
        c->item[at] = (struct item){encoded, NO_DEVICE, NO_DEVICE};
        AMI_TRY(c->may_be_pruned ? tx_view_decode_kept(&v, encoded) : tx_view_decode(&v, encoded));
        AMI_TRY(find_signers(c, at, &v));
        at++;
    }
    *bad_index = at;
    return body_ok(&it) && at == c->count ? AMI_OK : AMI_BAD_ENCODING;
}

enum ami_status block_check_prepare(struct registry *r, const struct block_header *h,
                                    struct span body, struct block_check **out, uint32_t *bad_index)
{
    const struct genesis *g = registry_genesis(r);
    *out = NULL;
    *bad_index = 0;
    if (h->tx_count > g->parameters.block_txs_max || body.size > g->parameters.block_bytes_max)
        return AMI_TOO_LARGE;
    struct block_check *c = calloc(1, sizeof *c);
    if (c == NULL)
        return AMI_NO_MEMORY;
    c->registry = r;
    c->genesis = g;
    c->merkle_root = h->merkle_root;
    c->height = h->height;
    c->may_be_pruned = h->height < registry_pruned_below(r);
    c->meters_unchecked = registry_meters_unchecked(r);
    c->count = h->tx_count;
    /* Two devices at most per transaction, and half of the table free. */
    for (c->found_count = 64; c->found_count < (size_t)c->count * 4;)
        c->found_count *= 2;
    c->item = calloc((size_t)c->count + 1, sizeof *c->item);
    c->found = calloc(c->found_count, sizeof *c->found);
    enum ami_status status =
        c->item == NULL || c->found == NULL ? AMI_NO_MEMORY : read_body(c, body, bad_index);
    if (status != AMI_OK) {
        block_check_free(c);
        return status;
    }
    *out = c;
    return AMI_OK;
}

static enum ami_status check_merkle_root(const struct block_check *c)
{
    sm3_digest *leaves = malloc(((size_t)c->count + 1) * sizeof *leaves);
    struct tx *tx = malloc(((size_t)c->count + 1) * sizeof *tx);
    enum ami_status status = leaves == NULL || tx == NULL ? AMI_NO_MEMORY : AMI_OK;
    for (uint32_t i = 0; status == AMI_OK && i < c->count; i++)
        AMI_CHECK(tx_parse(&tx[i], c->item[i].encoded) == AMI_OK); /* it did in `prepare` */
    if (status == AMI_OK)
        status = tx_leaves(leaves, tx, c->count);
    if (status == AMI_OK) {
        const sm3_digest root = merkle_root(leaves, c->count);
        status = sm3_equal(&root, &c->merkle_root) ? AMI_OK : AMI_BAD_MERKLE_ROOT;
    }
    free(leaves);
    free(tx);
    return status;
}

/* Devices come in order of the transactions that need them. */
static enum ami_status recover_keys(struct block_check *c, uint32_t *bad_index)
{
    struct verify_key_request request[VERIFY_KEY_BATCH];
    struct device *device[VERIFY_KEY_BATCH];
    size_t waiting = 0;
    for (uint32_t i = 0; i < c->device_count; i++) {
        struct device *d = c->device[i];
        if (d->key == NULL) {
            request[waiting] = (struct verify_key_request){
                .role = record_role(d->kind), .name = &d->name, .epoch = d->epoch, .w = &d->w};
            request[waiting].out = &d->own;
            device[waiting++] = d;
        }
        if (waiting == 0 || (waiting < VERIFY_KEY_BATCH && i + 1 < c->device_count))
            continue;
        enum ami_status status = verify_key_init_batch(request, &c->genesis->network, waiting);
        for (size_t j = 0; j < waiting; j++) {
            if (request[j].status != AMI_OK) {
                *bad_index = device[j]->first_tx;
                return status;
            }
            device[j]->key = &device[j]->own;
        }
        waiting = 0;
    }
    return AMI_OK;
}

static const struct verify_key *key_at(const struct block_check *c, uint32_t device)
{
    return device == NO_DEVICE ? NULL : c->device[device]->key;
}

static void batch_tx(struct batch *b, const struct block_check *c, uint32_t tx)
{
    const struct item *item = &c->item[tx];
    struct tx_signature *s = &b->signature[b->count];
    struct tx_view v;
    AMI_CHECK(tx_view_decode_kept(&v, item->encoded) == AMI_OK);
    unsigned count = tx_signatures(s, &v, &c->genesis->members.chain, &c->genesis->network,
                                   key_at(c, item->author), key_at(c, item->gateway));
    for (unsigned i = tx_signatures_from(&v, c->meters_unchecked); i < count; i++) {
        b->message[b->count] = (struct sm3_message){s[i].message.parts, s[i].message.count};
        b->p[b->count] = s[i].p;
        b->sig[b->count] = s[i].sig;
        b->tx[b->count++] = tx;
    }
}

static enum ami_status check_signatures(const struct block_check *c, uint32_t *bad_index)
{
    struct batch *b = malloc(sizeof *b);
    enum ami_status status = b == NULL ? AMI_NO_MEMORY : AMI_OK;
    for (uint32_t from = 0; status == AMI_OK && from < c->count; from += BATCH_TXS) {
        b->count = 0;
        for (uint32_t i = from; i < c->count && i - from < BATCH_TXS; i++)
            batch_tx(b, c, i);
        sm3_batch(b->e, b->message, b->count);
        status = sm2_verify_batch(b->p, b->e, b->sig, b->ok, b->count);
        for (size_t i = b->count; status != AMI_OK && i-- > 0;)
            if (!b->ok[i])
                *bad_index = b->tx[i];
    }
    free(b);
    return status;
}

enum ami_status block_check_run(struct block_check *c, uint32_t *bad_index)
{
    *bad_index = c->count;
    AMI_TRY(check_merkle_root(c));
    AMI_TRY(recover_keys(c, bad_index));
    *bad_index = c->count;
    return check_signatures(c, bad_index);
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
    *bad_index = 0;
    if (h->height == 0)
        return AMI_BAD_PARENT;
    registry_stage_begin(r, h->height);
    while (status == AMI_OK && body_next(&it, &encoded)) {
        struct tx_view tx;
        *bad_index = at++;
        status = tx_view_decode_kept(&tx, encoded);
        if (status == AMI_OK)
            status = registry_stage_tx(r, &tx);
    }
    if (status == AMI_OK)
        *bad_index = at;
    if (status == AMI_OK && (!body_ok(&it) || at != h->tx_count))
        status = AMI_BAD_ENCODING;
    if (status == AMI_OK && at == 0 && registry_next_epoch(r, h->height) == 0)
        status = AMI_BAD_ARGUMENT;
    if (status == AMI_OK) {
        sm3_digest root = registry_stage_root(r);
        if (!sm3_equal(&root, &h->state_root))
            status = AMI_BAD_STATE_ROOT;
    }
    if (status != AMI_OK)
        registry_stage_drop(r);
    return status;
}
