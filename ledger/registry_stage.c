#include "ledger/registry_internal.h"

#include <stdlib.h>
#include <string.h>

/* --- the stage's records -----------------------------------------------------------------------
 */

static uint32_t *found_place(const struct registry *r, uint8_t kind, const struct ami_id *name,
                             uint32_t epoch, uint64_t hash)
{
    size_t mask = r->found_count - 1;
    for (size_t i = (size_t)hash & mask;; i = (i + 1) & mask) {
        uint32_t *place = &r->found[i];
        if (*place == 0)
            return place;
        const struct change *c = &r->change[*place - 1];
        if (c->hash == hash && c->rec.kind == kind && c->rec.epoch == epoch &&
            ami_id_equal(&c->rec.name, name))
            return place;
    }
}

static struct change *find_change(const struct registry *r, uint8_t kind, const struct ami_id *name,
                                  uint32_t epoch)
{
    if (r->change_count == 0)
        return NULL;
    uint32_t place = *found_place(r, kind, name, epoch, registry_hash_key(kind, name, epoch));
    return place == 0 ? NULL : &r->change[place - 1];
}

const struct record *registry_look(struct view v, uint8_t kind, const struct ami_id *name,
                                   uint32_t epoch)
{
    const struct change *c = v.staged ? find_change(v.r, kind, name, epoch) : NULL;
    return c != NULL ? &c->rec : registry_find_committed(v.r, kind, name, epoch);
}

const struct record *registry_look_mdms(struct view v)
{
    const struct record *mdms = registry_at(v.r, 0);
    return registry_look(v, RECORD_MDMS, &mdms->name, mdms->epoch);
}

/* Room for `more` further changes, so that making them cannot fail. */
static enum ami_status reserve_changes(struct registry *r, size_t more)
{
    if (r->change_count + more <= r->change_capacity)
        return AMI_OK;
    size_t capacity = r->change_capacity == 0 ? 64 : r->change_capacity * 2;
    struct change *change = realloc(r->change, capacity * sizeof *change);
    if (change == NULL)
        return AMI_NO_MEMORY;
    r->change = change;
    uint64_t *order = realloc(r->order, capacity * sizeof *order);
    if (order == NULL)
        return AMI_NO_MEMORY;
    r->order = order;
    uint32_t *found = calloc(capacity * 2, sizeof *found);
    if (found == NULL)
        return AMI_NO_MEMORY;
    free(r->found);
    r->found = found;
    r->found_count = capacity * 2;
    r->change_capacity = capacity;
    for (size_t i = 0; i < r->change_count; i++) {
        const struct change *c = &change[i];
        *found_place(r, c->rec.kind, &c->rec.name, c->rec.epoch, c->hash) = (uint32_t)i + 1;
    }
    return AMI_OK;
}

static struct record *add_change(struct registry *r, const struct record *rec, uint32_t index,
                                 bool added)
{
    AMI_CHECK(r->change_count < r->change_capacity);
    struct change *c = &r->change[r->change_count++];
    memset(c, 0, sizeof *c);
    c->rec = *rec;
    c->hash = registry_hash_key(rec->kind, &rec->name, rec->epoch);
    c->index = index;
    c->added = added;
    c->stale = true;
    *found_place(r, rec->kind, &rec->name, rec->epoch, c->hash) = (uint32_t)r->change_count;
    return &c->rec;
}

/* The stage's own copy of a record, to be changed; there is room for it. */
static struct record *edit(struct registry *r, const struct record *rec)
{
    struct change *c = find_change(r, rec->kind, &rec->name, rec->epoch);
    if (c != NULL) {
        c->stale = true;
        return &c->rec;
    }
    struct record copy = *rec;
    copy.key = NULL; /* the committed record keeps its own */
    return add_change(r, &copy, registry_slot_of(r, rec)->index, false);
}

/* --- transactions into it ----------------------------------------------------------------------
 */

bool registry_staged(const struct registry *r)
{
    return r->staged;
}

void registry_stage_begin(struct registry *r, uint64_t height)
{
    AMI_CHECK(!r->staged && r->change_count == 0 && height > 0);
    r->committed_root = merkle_tree_root(r->tree);
    r->staged = true;
    r->height = height;
}

/* The record that an enrolment makes. */
static struct record enrolled(const struct registry *r, const struct tx_view *tx)
{
    struct record rec = {.enrolled_at = r->height};
    struct span part;
    if (tx->tx.kind == TX_METER_ENROL) {
        const struct meter_enrol *e = &tx->u.meter_enrol;
        rec.kind = RECORD_METER;
        rec.floor = 1;
        rec.name = e->meter;
        rec.epoch = e->epoch;
        rec.home_dc = e->home_dc;
        rec.w = e->w_report;
        part = e->agree_part;
    } else {
        const struct dc_enrol *e = &tx->u.dc_enrol;
        rec.kind = RECORD_DC;
        rec.name = e->dc;
        rec.epoch = e->epoch;
        rec.w = e->w_sign;
        part = e->agree_part;
    }
    if (part.size != 0)
        memcpy(rec.agree_part, part.data, part.size);
    rec.agree_part_size = (uint8_t)part.size;
    return rec;
}

static enum ami_status stage_enrol(struct registry *r, const struct tx_view *tx)
{
    struct record rec = enrolled(r, tx);
    AMI_TRY(registry_reserve(r, r->added_count + 1));
    AMI_TRY(registry_recover_key(r, &rec, &rec.key));
    add_change(r, &rec, (uint32_t)(r->size + r->added_count++), true);
    return AMI_OK;
}

/* The rules hold; there is room for two changes. */
static void change_members(struct registry *r, const struct membership *m)
{
    const struct view v = {r, true};
    const uint64_t from = r->height + m->delay;
    const struct record *leaves, *joins;
    AMI_CHECK(registry_check_membership(v, r->height, m, &leaves, &joins) == AMI_OK);
    if (joins != NULL)
        edit(r, joins)->member_from = from;
    if (leaves != NULL)
        edit(r, leaves)->window |= from << 8; /* it was 0: one interval per key */
}

enum ami_status registry_stage_tx(struct registry *r, const struct tx_view *tx)
{
    AMI_CHECK(r->staged);
    const struct view v = {r, true};
    const struct record *subject = NULL;
    AMI_TRY(registry_check_rules(v, r->height, tx, &subject));
    if (tx->tx.kind == TX_MEMBERSHIP) {
        AMI_TRY(reserve_changes(r, 3));
        change_members(r, &tx->u.membership);
        edit(r, registry_look_mdms(v))->floor = tx_mdms_number(tx);
        return AMI_OK;
    }
    if (tx->tx.kind == TX_RETENTION) {
        AMI_TRY(reserve_changes(r, 1));
        struct record *mdms = edit(r, registry_look_mdms(v));
        mdms->floor = tx_mdms_number(tx);
        mdms->window = tx->u.retention.below;
        return AMI_OK;
    }
    /* From here on nothing but want of memory and a bad W can fail, and both come first: the MDMS's
     * record and one more at most are changed. `subject` may lie among the changes. */
    uint32_t epoch = subject == NULL ? 0 : subject->epoch;
    uint8_t kind = subject == NULL ? 0 : subject->kind;
    struct ami_id name = subject == NULL ? (struct ami_id){0} : subject->name;
    AMI_TRY(reserve_changes(r, 2));
    if (subject == NULL)
        AMI_TRY(stage_enrol(r, tx));
    if (tx_mdms_number(tx) != 0)
        edit(r, registry_look_mdms(v))->floor = tx_mdms_number(tx);
    if (subject == NULL)
        return AMI_OK;
    struct record *rec = edit(r, registry_look(v, kind, &name, epoch));
    switch (tx->tx.kind) {
    case TX_REPORT:
        record_settle(rec, tx->u.report.meter.sequence);
        break;
    case TX_SKIP:
        record_settle_below(rec, tx->u.skip.below);
        break;
    case TX_EVIDENCE:
        rec->window |= UINT64_C(1) << tx->u.evidence.kind;
        break;
    default:
        rec->revoked_at = r->height;
        break;
    }
    return AMI_OK;
}

/* --- its root and its end ----------------------------------------------------------------------
 */

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Fills `order` with the changes' places, by index. */
static void sort_changes(struct registry *r)
{
    for (size_t i = 0; i < r->change_count; i++)
        r->order[i] = (uint64_t)r->change[i].index << 32 | i;
    if (r->change_count > 1)
        qsort(r->order, r->change_count, sizeof *r->order, compare_u64);
}

static struct change *nth_change(const struct registry *r, size_t n)
{
    return &r->change[(uint32_t)r->order[n]];
}

#define LEAF_BATCH 64

/* Changes whose leaves are computed side by side. */
struct leaf_batch {
    size_t count;
    struct change *change[LEAF_BATCH];
    uint8_t bytes[LEAF_BATCH][1 + RECORD_BYTES_MAX];
    struct span part[LEAF_BATCH];
    struct sm3_message message[LEAF_BATCH];
    sm3_digest leaf[LEAF_BATCH];
};

/* Puts their leaves into the tree and empties the batch. They stand in order of index. */
static void plant_leaves(struct registry *r, struct leaf_batch *b)
{
    for (size_t i = 0; i < b->count; i++) {
        struct writer w = writer_on(b->bytes[i], sizeof b->bytes[i]);
        write_u8(&w, 0); /* merkle_leaf's prefix */
        record_encode(&w, &b->change[i]->rec);
        AMI_CHECK(writer_ok(&w));
        b->part[i] = writer_span(&w);
        b->message[i] = (struct sm3_message){&b->part[i], 1};
    }
    sm3_batch(b->leaf, b->message, b->count);
    for (size_t i = 0; i < b->count; i++) {
        struct change *c = b->change[i];
        if (!c->in_tree && !c->added)
            c->old_leaf = merkle_tree_leaf(r->tree, c->index);
        AMI_CHECK(merkle_tree_set(r->tree, c->index, &b->leaf[i]) == AMI_OK); /* there is room */
        c->in_tree = true;
        c->stale = false;
    }
    b->count = 0;
}

sm3_digest registry_stage_root(struct registry *r)
{
    AMI_CHECK(r->staged);
    sort_changes(r);
    struct leaf_batch b = {.count = 0};
    for (size_t i = 0; i < r->change_count; i++) {
        if (nth_change(r, i)->stale)
            b.change[b.count++] = nth_change(r, i);
        if (b.count == LEAF_BATCH)
            plant_leaves(r, &b);
    }
    plant_leaves(r, &b);
    return merkle_tree_root(r->tree);
}

void registry_stage_changes(struct registry *r,
                            void (*put)(void *ctx, uint64_t index, const struct record *rec),
                            void *ctx)
{
    AMI_CHECK(r->staged);
    sort_changes(r);
    for (size_t i = 0; i < r->change_count; i++)
        put(ctx, nth_change(r, i)->index, &nth_change(r, i)->rec);
}

static void end_stage(struct registry *r)
{
    if (r->change_count > 0)
        memset(r->found, 0, r->found_count * sizeof *r->found);
    r->change_count = r->added_count = 0;
    r->staged = false;
}

void registry_stage_commit(struct registry *r)
{
    (void)registry_stage_root(r);
    r->committed_height = r->height;
    for (size_t i = 0; i < r->change_count; i++) {
        const struct change *c = nth_change(r, i);
        if (c->added) {
            AMI_CHECK(c->index == r->size);
            registry_append(r, &c->rec);
            if (c->rec.kind == RECORD_DC)
                registry_forget_list(r);
            continue;
        }
        struct record *rec = &slot_at(r, c->index)->rec;
        if (rec->kind == RECORD_DC)
            registry_forget_list(r);
        rec->revoked_at = c->rec.revoked_at;
        rec->floor = c->rec.floor;
        rec->window = c->rec.window;
    }
    end_stage(r);
}

void registry_stage_drop(struct registry *r)
{
    AMI_CHECK(r->staged);
    for (size_t i = 0; i < r->change_count; i++) {
        const struct change *c = &r->change[i];
        if (c->added)
            free(c->rec.key);
        else if (c->in_tree)
            AMI_CHECK(merkle_tree_set(r->tree, c->index, &c->old_leaf) == AMI_OK);
    }
    merkle_tree_truncate(r->tree, r->size);
    end_stage(r);
}
