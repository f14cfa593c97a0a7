#include "ledger/registry_internal.h"

#include <stdlib.h>
#include <string.h>

#define MDMS_NAME "mdms"

/* --- committed records by name -----------------------------------------------------------------
 */

/* FNV-1a with a finish that spreads the high bits. Names come from the MDMS, not from strangers. */
static uint64_t hash_name(uint8_t kind, const struct ami_id *name)
{
    uint64_t h = (UINT64_C(1469598103934665603) ^ kind) * UINT64_C(1099511628211);
    for (uint8_t i = 0; i < name->size; i++)
        h = (h ^ (uint8_t)name->text[i]) * UINT64_C(1099511628211);
    h = (h ^ h >> 32) * UINT64_C(0x9e3779b97f4a7c15);
    return h ^ h >> 29;
}

uint64_t registry_hash_key(uint8_t kind, const struct ami_id *name, uint32_t epoch)
{
    const uint64_t hash = (hash_name(kind, name) ^ epoch) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 32;
}

struct slot *registry_slot_of(const struct registry *r, const struct record *rec)
{
    struct slot *s = (struct slot *)(uintptr_t)rec;
    AMI_CHECK(s->index < r->size && slot_at(r, s->index) == s);
    return s;
}

static uint32_t *newest_place(const struct registry *r, uint8_t kind, const struct ami_id *name,
                              uint64_t hash)
{
    size_t mask = r->newest_count - 1;
    for (size_t i = (size_t)hash & mask;; i = (i + 1) & mask) {
        uint32_t *place = &r->newest[i];
        if (*place == 0)
            return place;
        const struct slot *s = slot_at(r, *place - 1);
        if (s->hash == hash && s->rec.kind == kind && ami_id_equal(&s->rec.name, name))
            return place;
    }
}

const struct slot *registry_find_newest(const struct registry *r, uint8_t kind,
                                        const struct ami_id *name)
{
    uint32_t place = *newest_place(r, kind, name, hash_name(kind, name));
    return place == 0 ? NULL : slot_at(r, place - 1);
}

/* Epochs of a device rise one by one, so an old one is found in as many steps as it is behind. */
const struct record *registry_find_committed(const struct registry *r, uint8_t kind,
                                             const struct ami_id *name, uint32_t epoch)
{
    const struct slot *s = registry_find_newest(r, kind, name);
    while (s != NULL && s->rec.epoch > epoch)
        s = s->older == 0 ? NULL : slot_at(r, s->older - 1);
    return s != NULL && s->rec.epoch == epoch ? &s->rec : NULL;
}

static bool grow_newest(struct registry *r)
{
    size_t count = r->newest_count == 0 ? 1024 : r->newest_count * 2;
    uint32_t *newest = calloc(count, sizeof *newest);
    if (newest == NULL)
        return false;
    uint32_t *old = r->newest;
    size_t old_count = r->newest_count;
    r->newest = newest;
    r->newest_count = count;
    for (size_t i = 0; i < old_count; i++) {
        if (old[i] == 0)
            continue;
        const struct slot *s = slot_at(r, old[i] - 1);
        *newest_place(r, s->rec.kind, &s->rec.name, s->hash) = old[i];
    }
    free(old);
    return true;
}

enum ami_status registry_reserve(struct registry *r, size_t more)
{
    uint64_t size = r->size + more;
    if (size >= UINT32_MAX)
        return AMI_TOO_LARGE;
    while (size * 2 > r->newest_count)
        if (!grow_newest(r))
            return AMI_NO_MEMORY;
    if (r->dc_count + more > r->dc_capacity) {
        size_t capacity = (r->dc_count + more) * 2;
        uint32_t *dc = realloc(r->dc, capacity * sizeof *dc);
        if (dc == NULL)
            return AMI_NO_MEMORY;
        r->dc = dc;
        r->dc_capacity = capacity;
    }
    while (size > (uint64_t)r->chunk_count * CHUNK_RECORDS) {
        struct slot **chunk = realloc(r->chunk, (r->chunk_count + 1) * sizeof *chunk);
        if (chunk == NULL)
            return AMI_NO_MEMORY;
        r->chunk = chunk;
        chunk[r->chunk_count] = calloc(CHUNK_RECORDS, sizeof **chunk);
        if (chunk[r->chunk_count] == NULL)
            return AMI_NO_MEMORY;
        r->chunk_count++;
    }
    return merkle_tree_reserve(r->tree, size);
}

void registry_append(struct registry *r, const struct record *rec)
{
    uint32_t index = (uint32_t)r->size++;
    struct slot *s = slot_at(r, index);
    uint64_t hash = hash_name(rec->kind, &rec->name);
    uint32_t *place = newest_place(r, rec->kind, &rec->name, hash);
    *s = (struct slot){.rec = *rec, .hash = hash, .index = index, .older = *place};
    *place = index + 1;
    if (rec->kind == RECORD_DC) {
        AMI_CHECK(r->dc_count < r->dc_capacity);
        r->dc[r->dc_count++] = index;
    }
}

/* --- looking -----------------------------------------------------------------------------------
 */

void registry_leave_meters_unchecked(struct registry *r)
{
    r->meters_unchecked = true;
}

bool registry_meters_unchecked(const struct registry *r)
{
    return r->meters_unchecked;
}

const struct genesis *registry_genesis(const struct registry *r)
{
    return r->genesis;
}

uint64_t registry_size(const struct registry *r)
{
    return r->size;
}

const struct record *registry_at(const struct registry *r, uint64_t index)
{
    return &slot_at(r, index)->rec;
}

const struct record *registry_find(const struct registry *r, enum record_kind kind,
                                   const struct ami_id *name, uint32_t epoch)
{
    if (epoch != 0)
        return registry_find_committed(r, (uint8_t)kind, name, epoch);
    const struct slot *s = registry_find_newest(r, (uint8_t)kind, name);
    return s == NULL ? NULL : &s->rec;
}

uint64_t registry_index_of(const struct registry *r, const struct record *rec)
{
    return registry_slot_of(r, rec)->index;
}

uint64_t registry_height(const struct registry *r)
{
    return r->committed_height;
}

uint64_t registry_retention(const struct registry *r)
{
    return registry_at(r, 0)->window;
}

void registry_show_retention(struct registry *r, uint64_t below)
{
    if (below > r->shown_retention)
        r->shown_retention = below;
}

uint64_t registry_pruned_below(const struct registry *r)
{
    const uint64_t committed = registry_retention(r);
    return committed > r->shown_retention ? committed : r->shown_retention;
}

sm3_digest registry_root(struct registry *r)
{
    return r->staged ? r->committed_root : merkle_tree_root(r->tree);
}

enum ami_status registry_recover_key(const struct registry *r, const struct record *rec,
                                     struct verify_key **out)
{
    struct verify_key *key = malloc(sizeof *key);
    if (key == NULL)
        return AMI_NO_MEMORY;
    enum ami_status status = verify_key_init(key, &r->genesis->network, record_role(rec->kind),
                                             &rec->name, rec->epoch, &rec->w);
    if (status == AMI_OK)
        *out = key;
    else
        free(key);
    return status;
}

enum ami_status registry_key_of(struct registry *r, const struct record *rec,
                                const struct verify_key **out)
{
    struct slot *s = registry_slot_of(r, rec);
    if (s->rec.key == NULL)
        AMI_TRY(registry_recover_key(r, rec, &s->rec.key));
    *out = s->rec.key;
    return AMI_OK;
}

const struct verify_key *registry_key(struct registry *r, const struct record *rec)
{
    const struct verify_key *key;
    return registry_key_of(r, rec, &key) == AMI_OK ? key : NULL;
}

void registry_adopt_key(struct registry *r, uint64_t index, const struct verify_key *key)
{
    struct slot *s = slot_at(r, index);
    if (s->rec.key != NULL)
        return;
    s->rec.key = malloc(sizeof *key);
    if (s->rec.key != NULL)
        *s->rec.key = *key;
}

/* --- start and end -----------------------------------------------------------------------------
 */

static enum ami_status add_committed(struct registry *r, const struct record *rec)
{
    sm3_digest leaf = record_leaf(rec);
    AMI_TRY(registry_reserve(r, 1));
    registry_append(r, rec);
    return merkle_tree_set(r->tree, r->size - 1, &leaf);
}

static enum ami_status add_genesis(struct registry *r)
{
    struct record mdms = {
        .kind = RECORD_MDMS, .epoch = 1, .w = point_encode(&r->genesis->network.sign)};
    AMI_TRY(ami_id_from_text(&mdms.name, MDMS_NAME));
    AMI_TRY(add_committed(r, &mdms));
    for (uint8_t i = 0; i < r->genesis->members.count; i++) {
        const struct member *m = &r->genesis->members.member[i];
        struct record dc = {.kind = RECORD_DC,
                            .name = m->name,
                            .epoch = m->key_epoch,
                            .w = m->w_sign,
                            .agree_part_size = (uint8_t)m->agree_part_size,
                            .floor = 1};
        memcpy(dc.agree_part, m->agree_part, m->agree_part_size);
        AMI_TRY(add_committed(r, &dc));
    }
    return AMI_OK;
}

struct registry *registry_new(const struct genesis *g)
{
    struct registry *r = calloc(1, sizeof *r);
    if (r == NULL)
        return NULL;
    r->genesis = g;
    r->tree = merkle_tree_new();
    if (r->tree == NULL || add_genesis(r) != AMI_OK) {
        registry_free(r);
        return NULL;
    }
    return r;
}

void registry_free(struct registry *r)
{
    if (r == NULL)
        return;
    if (r->staged)
        registry_stage_drop(r);
    for (uint64_t i = 0; i < r->size; i++)
        free(slot_at(r, i)->rec.key);
    for (size_t i = 0; i < r->chunk_count; i++)
        free(r->chunk[i]);
    free(r->chunk);
    free(r->newest);
    free(r->change);
    free(r->order);
    free(r->found);
    free(r->dc);
    free(r->list);
    merkle_tree_free(r->tree);
    free(r);
}

/* What no block changes. */
static bool same_device(const struct record *a, const struct record *b)
{
    return a->kind == b->kind && a->epoch == b->epoch && ami_id_equal(&a->name, &b->name) &&
           memcmp(&a->w, &b->w, sizeof a->w) == 0 && a->enrolled_at == b->enrolled_at &&
           span_equal(span_of(a->agree_part, a->agree_part_size),
                      span_of(b->agree_part, b->agree_part_size));
}

enum ami_status registry_load(struct registry *r, uint64_t index, const struct record *rec)
{
    AMI_CHECK(!r->staged);
    if (index > r->size)
        return AMI_DAMAGED;
    if (index == r->size) {
        const struct slot *newest = registry_find_newest(r, rec->kind, &rec->name);
        if (rec->kind == RECORD_MDMS || rec->enrolled_at == 0 ||
            rec->epoch - 1 != (newest == NULL ? 0 : newest->rec.epoch))
            return AMI_DAMAGED;
        struct record copy = *rec;
        copy.key = NULL;
        return add_committed(r, &copy);
    }
    struct slot *s = slot_at(r, index);
    if (!same_device(&s->rec, rec))
        return AMI_DAMAGED;
    sm3_digest leaf = record_leaf(rec);
    s->rec.revoked_at = rec->revoked_at;
    s->rec.floor = rec->floor;
    s->rec.window = rec->window;
    return merkle_tree_set(r->tree, index, &leaf);
}

void registry_loaded(struct registry *r, uint64_t height)
{
    AMI_CHECK(!r->staged);
    r->committed_height = height;
    registry_forget_list(r);
}
