#include "ledger/registry.h"

#include "base/check.h"
#include "ledger/evidence.h"
#include "ledger/internal.h"
#include "ledger/merkle.h"

#include <stdlib.h>
#include <string.h>

/* Records live in chunks, so that pointers to them stay good while the registry grows. */
#define CHUNK_RECORDS 1024

#define MDMS_NAME "mdms"

/* A committed record. */
struct slot {
    struct record rec; /* first: a record's address is its slot's */
    uint64_t hash;     /* of kind and name */
    uint32_t index;
    uint32_t older; /* index + 1 of the same device's previous key epoch; 0: none */
};

/* A record as the stage has it. */
struct change {
    struct record rec;
    uint64_t hash;       /* of kind, name and epoch */
    sm3_digest old_leaf; /* of the committed record, while the stage's leaf is in the tree */
    uint32_t index;
    bool added;   /* the stage enrolled it */
    bool in_tree; /* the tree holds a leaf of the stage */
    bool stale;   /* that leaf, or the want of one, is behind the record */
};

struct registry {
    const struct genesis *genesis;
    bool meters_unchecked;

    struct slot **chunk;
    size_t chunk_count;
    uint64_t size;

    /* Newest key epoch by kind and name: open addressing, index + 1, 0 is free. Nothing is ever
     * taken out. */
    uint32_t *newest;
    size_t newest_count; /* a power of two, at least twice the number of records */

    uint64_t committed_height;
    uint64_t shown_retention; /* registry_show_retention */
    uint32_t *dc;             /* indices of the DCs' records */
    size_t dc_count, dc_capacity;
    /* The list asked for last, good for heights from `list_from` to below `list_until`. */
    struct members *list;
    uint64_t list_from, list_until;

    struct merkle_tree *tree; /* of the committed state, or of the stage after its root was asked */

    bool staged;
    uint64_t height; /* of the stage */
    sm3_digest committed_root;
    struct change *change;
    uint64_t *order; /* room for sorting the changes by index */
    size_t change_count, change_capacity, added_count;
    uint32_t *found; /* the changes by kind, name and epoch: open addressing, place + 1 */
    size_t found_count;
};

/* --- one record --------------------------------------------------------------------------------
 */

/* Devices other than meters have no home; a name must not be empty. */
static const struct ami_id no_home = {1, "-"};

void record_encode(struct writer *w, const struct record *rec)
{
    write_u8(w, rec->kind);
    write_id(w, &rec->name);
    write_u32(w, rec->epoch);
    write_id(w, rec->kind == RECORD_METER ? &rec->home_dc : &no_home);
    write_raw(w, rec->w.b, SM2_POINT_BYTES);
    write_bytes(w, span_of(rec->agree_part, rec->agree_part_size));
    write_u64(w, rec->enrolled_at);
    write_u64(w, rec->revoked_at);
    write_u64(w, rec->floor);
    write_u64(w, rec->window);
}

/* What holds for every record of that kind, whatever happens to it. */
static bool is_sound(const struct record *rec, const struct ami_id *home)
{
    if (rec->epoch == 0)
        return false;
    if (rec->revoked_at != 0 && rec->revoked_at < rec->enrolled_at)
        return false;
    switch (rec->kind) {
    case RECORD_MDMS:
        return ami_id_equal(home, &no_home) && rec->window != 1 && rec->revoked_at == 0 &&
               rec->agree_part_size == 0;
    case RECORD_METER:
        return rec->floor >= 1 && (rec->window & 1) == 0 && rec->enrolled_at >= 1;
    case RECORD_DC:
        return ami_id_equal(home, &no_home) && (rec->window & 1) == 0 &&
               (rec->window & 0xff) >> EVIDENCE_KIND_END == 0 &&
               (record_member_until(rec) == 0 ||
                (rec->member_from != 0 && record_member_until(rec) > rec->member_from));
    default:
        return false;
    }
}

enum ami_status record_parse(struct record *out, struct span s)
{
    struct reader r = reader_on(s);
    memset(out, 0, sizeof *out);
    out->kind = read_u8(&r);
    out->name = read_id(&r);
    out->epoch = read_u32(&r);
    struct ami_id home = read_id(&r);
    read_raw(&r, out->w.b, SM2_POINT_BYTES);
    struct span part = read_bytes(&r, sizeof out->agree_part);
    out->enrolled_at = read_u64(&r);
    out->revoked_at = read_u64(&r);
    out->floor = read_u64(&r);
    out->window = read_u64(&r);
    if (!reader_done(&r))
        return AMI_BAD_ENCODING;
    if (part.size != 0)
        memcpy(out->agree_part, part.data, part.size);
    out->agree_part_size = (uint8_t)part.size;
    if (out->kind == RECORD_METER)
        out->home_dc = home;
    return is_sound(out, &home) ? AMI_OK : AMI_BAD_ENCODING;
}

static sm3_digest record_leaf(const struct record *rec)
{
    uint8_t bytes[RECORD_BYTES_MAX];
    struct writer w = writer_on(bytes, sizeof bytes);
    record_encode(&w, rec);
    AMI_CHECK(writer_ok(&w));
    return merkle_leaf(writer_span(&w));
}

enum ami_status record_admits(const struct record *rec, uint64_t sequence)
{
    if (sequence < rec->floor)
        return AMI_SEQUENCE_SETTLED;
    /* The last number of all is never used: the floor could not move beyond it. */
    if (sequence - rec->floor >= AMI_SEQ_WINDOW || sequence == UINT64_MAX)
        return AMI_SEQUENCE_AHEAD;
    return rec->window >> (sequence - rec->floor) & 1 ? AMI_SEQUENCE_SETTLED : AMI_OK;
}

static void slide(struct record *rec)
{
    while (rec->window & 1) {
        rec->window >>= 1;
        rec->floor++;
    }
}

static void settle(struct record *rec, uint64_t sequence)
{
    rec->window |= (uint64_t)1 << (sequence - rec->floor);
    slide(rec);
}

static void settle_below(struct record *rec, uint64_t below)
{
    uint64_t shift = below - rec->floor;
    rec->window = shift >= 64 ? 0 : rec->window >> shift;
    rec->floor = below;
    slide(rec);
}

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

static uint64_t hash_epoch(uint64_t hash, uint32_t epoch)
{
    hash = (hash ^ epoch) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 32;
}

static struct slot *slot_at(const struct registry *r, uint64_t index)
{
    AMI_CHECK(index < r->size);
    return &r->chunk[index / CHUNK_RECORDS][index % CHUNK_RECORDS];
}

/* The slot behind a record that was handed out. */
static struct slot *slot_of(const struct registry *r, const struct record *rec)
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

static const struct slot *find_newest(const struct registry *r, uint8_t kind,
                                      const struct ami_id *name)
{
    uint32_t place = *newest_place(r, kind, name, hash_name(kind, name));
    return place == 0 ? NULL : slot_at(r, place - 1);
}

/* Epochs of a device rise one by one, so an old one is found in as many steps as it is behind. */
static const struct record *find_committed(const struct registry *r, uint8_t kind,
                                           const struct ami_id *name, uint32_t epoch)
{
    const struct slot *s = find_newest(r, kind, name);
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

/* Room for `more` further records, so that appending them cannot fail. */
static enum ami_status reserve_records(struct registry *r, size_t more)
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

/* There is room. The leaf is the caller's business. */
static void append(struct registry *r, const struct record *rec)
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
        return find_committed(r, (uint8_t)kind, name, epoch);
    const struct slot *s = find_newest(r, (uint8_t)kind, name);
    return s == NULL ? NULL : &s->rec;
}

uint64_t registry_index_of(const struct registry *r, const struct record *rec)
{
    return slot_of(r, rec)->index;
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

static void forget_list(struct registry *r)
{
    r->list_from = r->list_until = 0;
}

sm3_digest registry_root(struct registry *r)
{
    return r->staged ? r->committed_root : merkle_tree_root(r->tree);
}

static enum ami_status recover(const struct registry *r, const struct record *rec,
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

static enum ami_status key_of(struct registry *r, const struct record *rec,
                              const struct verify_key **out)
{
    struct slot *s = slot_of(r, rec);
    if (s->rec.key == NULL)
        AMI_TRY(recover(r, rec, &s->rec.key));
    *out = s->rec.key;
    return AMI_OK;
}

const struct verify_key *registry_key(struct registry *r, const struct record *rec)
{
    const struct verify_key *key;
    return key_of(r, rec, &key) == AMI_OK ? key : NULL;
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
    AMI_TRY(reserve_records(r, 1));
    append(r, rec);
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
        const struct slot *newest = find_newest(r, rec->kind, &rec->name);
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
    forget_list(r);
}

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
    uint32_t place = *found_place(r, kind, name, epoch, hash_epoch(hash_name(kind, name), epoch));
    return place == 0 ? NULL : &r->change[place - 1];
}

/* The state that a rule looks at: with the stage or without it. */
struct view {
    const struct registry *r;
    bool staged;
};

static const struct record *look(struct view v, uint8_t kind, const struct ami_id *name,
                                 uint32_t epoch)
{
    const struct change *c = v.staged ? find_change(v.r, kind, name, epoch) : NULL;
    return c != NULL ? &c->rec : find_committed(v.r, kind, name, epoch);
}

static const struct record *look_mdms(struct view v)
{
    const struct record *mdms = registry_at(v.r, 0);
    return look(v, RECORD_MDMS, &mdms->name, mdms->epoch);
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
    c->hash = hash_epoch(hash_name(rec->kind, &rec->name), rec->epoch);
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
    return add_change(r, &copy, slot_of(r, rec)->index, false);
}

/* --- membership --------------------------------------------------------------------------------
 */

static bool is_member(const struct record *rec, uint64_t height)
{
    return rec->member_from != 0 && rec->member_from <= height &&
           (record_member_until(rec) == 0 || height < record_member_until(rec));
}

/* The DCs' records, with the stage or without it. */
static size_t dc_total(struct view v)
{
    return v.r->dc_count + (v.staged ? v.r->change_count : 0);
}

/* NULL: this one is counted elsewhere. */
static const struct record *nth_dc(struct view v, size_t n)
{
    const struct registry *r = v.r;
    if (n < r->dc_count) {
        const struct record *rec = &slot_at(r, r->dc[n])->rec;
        return v.staged ? look(v, RECORD_DC, &rec->name, rec->epoch) : rec;
    }
    const struct change *c = &r->change[n - r->dc_count];
    return c->added && c->rec.kind == RECORD_DC ? &c->rec : NULL;
}

/* The first height above `height` at which the list changes; 0: none is decided. */
static uint64_t next_change(struct view v, uint64_t height)
{
    uint64_t next = 0;
    for (size_t i = 0; i < dc_total(v); i++) {
        const struct record *rec = nth_dc(v, i);
        const uint64_t at[] = {rec == NULL ? 0 : rec->member_from,
                               rec == NULL ? 0 : record_member_until(rec)};
        for (unsigned k = 0; k < 2; k++)
            if (at[k] > height && (next == 0 || at[k] < next))
                next = at[k];
    }
    return next;
}

/* Epoch 1 begins with block 1, each change one more. */
static uint32_t epoch_at(struct view v, uint64_t height)
{
    uint32_t epoch = 1;
    for (uint64_t at = 1; (at = next_change(v, at)) != 0 && at <= height;)
        epoch++;
    return epoch;
}

/* In the list's order. */
static int compare_members(const void *a, const void *b)
{
    const struct slot *const *x = a, *const *y = b;
    if ((*x)->rec.member_from != (*y)->rec.member_from)
        return (*x)->rec.member_from < (*y)->rec.member_from ? -1 : 1;
    return ((*x)->index > (*y)->index) - ((*x)->index < (*y)->index);
}

/* The list's records. */
static enum ami_status find_list(const struct registry *r, uint64_t height,
                                 const struct slot *found[AMI_MEMBERS_MAX], size_t *count)
{
    *count = 0;
    for (size_t i = 0; i < r->dc_count; i++) {
        const struct slot *s = slot_at(r, r->dc[i]);
        if (!is_member(&s->rec, height))
            continue;
        if (*count == AMI_MEMBERS_MAX)
            return AMI_DAMAGED; /* no rule leads there */
        found[(*count)++] = s;
    }
    qsort(found, *count, sizeof found[0], compare_members);
    return AMI_OK;
}

enum ami_status evidence_record(const struct registry *r, uint64_t height, const struct evidence *e,
                                const struct record **out)
{
    const struct slot *found[AMI_MEMBERS_MAX];
    size_t count;
    if (!sm3_equal(&e->chain, &r->genesis->members.chain))
        return AMI_WRONG_CHAIN;
    if (e->epoch != epoch_at((struct view){r, false}, height))
        return AMI_WRONG_EPOCH;
    AMI_TRY(find_list(r, height, found, &count));
    if (e->accused >= count)
        return AMI_BAD_ARGUMENT;
    *out = &found[e->accused]->rec;
    return AMI_OK;
}

static enum ami_status make_list(struct registry *r, uint64_t height, struct members *out)
{
    const struct slot *found[AMI_MEMBERS_MAX];
    const struct view v = {r, false};
    size_t count;
    AMI_TRY(find_list(r, height, found, &count));
    memset(out, 0, sizeof *out);
    out->chain = r->genesis->members.chain;
    out->epoch = epoch_at(v, height);
    out->count = (uint8_t)count;
    for (size_t i = 0; i < count; i++) {
        const struct record *rec = &found[i]->rec;
        struct member *m = &out->member[i];
        const struct verify_key *key;
        AMI_TRY(key_of(r, rec, &key));
        m->name = rec->name;
        m->key_epoch = rec->epoch;
        m->w_sign = rec->w;
        m->agree_part_size = rec->agree_part_size;
        memcpy(m->agree_part, rec->agree_part, rec->agree_part_size);
        m->key = *key;
    }
    out->hash = members_hash(out);
    return AMI_OK;
}

const struct members *registry_members(struct registry *r, uint64_t height)
{
    if (r->list == NULL && (r->list = malloc(sizeof *r->list)) == NULL)
        return NULL;
    if (height >= r->list_from && height < r->list_until)
        return r->list;
    const struct view v = {r, false};
    forget_list(r);
    if (make_list(r, height, r->list) != AMI_OK)
        return NULL;
    const uint64_t next = next_change(v, height);
    uint64_t from = 0;
    for (uint64_t at = 0; (at = next_change(v, at)) != 0 && at <= height;)
        from = at;
    r->list_from = from;
    r->list_until = next == 0 ? UINT64_MAX : next;
    return r->list;
}

uint64_t registry_next_epoch(const struct registry *r, uint64_t height)
{
    return next_change((struct view){r, false}, height);
}

/* --- rules -------------------------------------------------------------------------------------
 */

static enum ami_status check_number(struct view v, uint64_t number)
{
    uint64_t last = look_mdms(v)->floor;
    if (number <= last)
        return AMI_SEQUENCE_SETTLED;
    return number - last == 1 ? AMI_OK : AMI_SEQUENCE_AHEAD;
}

static enum ami_status check_valid(const struct record *rec)
{
    if (rec == NULL)
        return AMI_UNKNOWN_DEVICE;
    return rec->revoked_at != 0 ? AMI_REVOKED : AMI_OK;
}

static enum ami_status check_report(struct view v, const struct tx_view *tx,
                                    const struct record **meter)
{
    const struct report_meter_part *m = &tx->u.report.meter;
    const struct report_gateway_part *g = &tx->u.report.gateway;
    *meter = look(v, RECORD_METER, &m->meter, m->epoch);
    AMI_TRY(check_valid(*meter));
    if (!tx->pruned) /* else who sealed it is gone, and a quorum has judged it */
        AMI_TRY(check_valid(look(v, RECORD_DC, &g->dc, g->dc_epoch)));
    return record_admits(*meter, m->sequence);
}

static enum ami_status check_skip(struct view v, const struct skip_meter_part *s,
                                  const struct record **meter)
{
    *meter = look(v, RECORD_METER, &s->meter, s->epoch);
    AMI_TRY(check_valid(*meter));
    if (s->below <= (*meter)->floor)
        return AMI_SEQUENCE_SETTLED;
    return s->below - (*meter)->floor > AMI_SEQ_WINDOW ? AMI_SEQUENCE_AHEAD : AMI_OK;
}

/* The first epoch of a new device is 1 (a genesis member's may be later), then one after the other.
 */
static enum ami_status check_epoch(struct view v, uint8_t kind, const struct ami_id *name,
                                   uint32_t epoch)
{
    const struct slot *newest = find_newest(v.r, kind, name);
    if (look(v, kind, name, epoch) != NULL || (newest != NULL && epoch < newest->rec.epoch))
        return AMI_ALREADY_ENROLLED;
    if (epoch == 1)
        return AMI_OK;
    return look(v, kind, name, epoch - 1) != NULL ? AMI_OK : AMI_WRONG_EPOCH;
}

static bool is_known_dc(struct view v, const struct ami_id *name)
{
    /* A DC that only the stage knows began at epoch 1. */
    return find_newest(v.r, RECORD_DC, name) != NULL || look(v, RECORD_DC, name, 1) != NULL;
}

static enum ami_status check_revoke(struct view v, const struct revoke *q,
                                    const struct record **device)
{
    *device = look(v, q->role == 1 ? RECORD_METER : RECORD_DC, &q->device, q->epoch);
    return check_valid(*device);
}

/* Once for each key and kind: nobody can fill the ledger with it. A revoked key stays accountable.
 */
static enum ami_status check_evidence(struct view v, uint64_t height, const struct evidence *e,
                                      const struct record **dc)
{
    const struct record *accused;
    AMI_TRY(evidence_record(v.r, height, e, &accused));
    *dc = look(v, RECORD_DC, &accused->name, accused->epoch);
    return ((*dc)->window >> e->kind & 1) != 0 ? AMI_EXISTS : AMI_OK;
}

/* Does the entry say what was enrolled? */
static bool entry_fits(const struct record *rec, const struct member_entry *e)
{
    return memcmp(&rec->w, &e->w_sign, sizeof rec->w) == 0 &&
           span_equal(span_of(rec->agree_part, rec->agree_part_size), e->agree_part);
}

/* Consensus rule 13. *leaves and *joins receive the records whose interval ends or begins. */
static enum ami_status check_membership(struct view v, uint64_t height, const struct membership *m,
                                        const struct record **leaves, const struct record **joins)
{
    size_t count = 0;
    *leaves = *joins = NULL;
    if (next_change(v, height) != 0)
        return AMI_SEQUENCE_AHEAD; /* one at a time: this one waits */
    if (m->epoch != epoch_at(v, height) + 1)
        return AMI_WRONG_EPOCH;
    for (size_t i = 0; i < dc_total(v); i++) {
        const struct record *rec = nth_dc(v, i);
        if (rec == NULL || !is_member(rec, height))
            continue;
        count++;
        if (ami_id_equal(&rec->name, &m->dc))
            *leaves = rec;
    }
    if (m->change == MEMBER_JOIN ? *leaves != NULL : *leaves == NULL)
        return m->change == MEMBER_JOIN ? AMI_EXISTS : AMI_NOT_FOUND;
    if (m->change == MEMBER_LEAVE) {
        if ((*leaves)->epoch != m->key_epoch)
            return AMI_NOT_FOUND;
        return count > AMI_MEMBERS_MIN ? AMI_OK : AMI_BAD_ARGUMENT;
    }
    if (m->change == MEMBER_JOIN && (count < AMI_MEMBERS_MIN - 1 || count == AMI_MEMBERS_MAX))
        return AMI_BAD_ARGUMENT;
    if (m->change == MEMBER_ROTATE && m->key_epoch <= (*leaves)->epoch)
        return AMI_WRONG_EPOCH;
    *joins = look(v, RECORD_DC, &m->dc, m->key_epoch);
    AMI_TRY(check_valid(*joins));
    if ((*joins)->member_from != 0)
        return AMI_EXISTS; /* it voted before: one interval per key */
    return entry_fits(*joins, &m->entry) ? AMI_OK : AMI_FOREIGN_KEY;
}

static enum ami_status check_retention(struct view v, uint64_t height, const struct retention *x)
{
    if (x->below <= look_mdms(v)->window)
        return AMI_SEQUENCE_SETTLED;
    return retention_fits(x->below, height) ? AMI_OK : AMI_SEQUENCE_AHEAD;
}

/* All rules but signatures and the goodness of W. *subject receives the record that a report, a
 * skip, a revocation or evidence changes. */
static enum ami_status check_rules(struct view v, uint64_t height, const struct tx_view *tx,
                                   const struct record **subject)
{
    const struct record *leaves, *joins;
    if (tx_mdms_number(tx) != 0)
        AMI_TRY(check_number(v, tx_mdms_number(tx)));
    switch (tx->tx.kind) {
    case TX_REPORT:
        return check_report(v, tx, subject);
    case TX_SKIP:
        return check_skip(v, &tx->u.skip, subject);
    case TX_METER_ENROL: {
        const struct meter_enrol *e = &tx->u.meter_enrol;
        AMI_TRY(is_known_dc(v, &e->home_dc) ? AMI_OK : AMI_UNKNOWN_DEVICE);
        return check_epoch(v, RECORD_METER, &e->meter, e->epoch);
    }
    case TX_DC_ENROL:
        return check_epoch(v, RECORD_DC, &tx->u.dc_enrol.dc, tx->u.dc_enrol.epoch);
    case TX_REVOKE:
        return check_revoke(v, &tx->u.revoke, subject);
    case TX_EVIDENCE:
        return check_evidence(v, height, &tx->u.evidence, subject);
    case TX_MEMBERSHIP:
        return check_membership(v, height, &tx->u.membership, &leaves, &joins);
    case TX_RETENTION:
        return check_retention(v, height, &tx->u.retention);
    default:
        return AMI_BAD_ARGUMENT;
    }
}

enum ami_status registry_admits(const struct registry *r, const struct tx_view *tx)
{
    const struct view v = {r, false};
    const struct record *subject;
    uint64_t number = tx_mdms_number(tx), last = registry_at(r, 0)->floor;
    if (number > last && number - last > 1)
        return number - last <= REGISTRY_NUMBERS_AHEAD_MAX ? AMI_OK : AMI_SEQUENCE_AHEAD;
    enum ami_status status = check_rules(v, r->committed_height + 1, tx, &subject);
    const bool may_wait = tx->tx.kind == TX_MEMBERSHIP || tx->tx.kind == TX_RETENTION;
    if (may_wait && status == AMI_SEQUENCE_AHEAD)
        return AMI_OK;
    return status;
}

/* --- signatures --------------------------------------------------------------------------------
 */

static enum ami_status find_key(struct registry *r, uint8_t kind, const struct ami_id *name,
                                uint32_t epoch, const struct verify_key **out)
{
    const struct record *rec = find_committed(r, kind, name, epoch);
    return rec == NULL ? AMI_UNKNOWN_DEVICE : key_of(r, rec, out);
}

enum ami_status registry_check_prepare(struct registry *r, const struct tx_view *tx,
                                       struct tx_check *out)
{
    *out = (struct tx_check){.genesis = r->genesis, .meters_unchecked = r->meters_unchecked};
    if (tx->tx.kind == TX_REPORT) {
        const struct report_meter_part *m = &tx->u.report.meter;
        const struct report_gateway_part *g = &tx->u.report.gateway;
        AMI_TRY(find_key(r, RECORD_METER, &m->meter, m->epoch, &out->author));
        return tx->pruned ? AMI_OK : find_key(r, RECORD_DC, &g->dc, g->dc_epoch, &out->gateway);
    }
    if (tx->tx.kind == TX_SKIP)
        return find_key(r, RECORD_METER, &tx->u.skip.meter, tx->u.skip.epoch, &out->author);
    if (tx->tx.kind == TX_EVIDENCE) {
        const struct record *accused;
        AMI_TRY(evidence_record(r, r->committed_height + 1, &tx->u.evidence, &accused));
        return key_of(r, accused, &out->author);
    }
    return AMI_OK;
}

/* That the W of an enrolment leads to a key. */
static enum ami_status check_w(const struct network *net, const struct tx_view *tx)
{
    struct verify_key key;
    if (tx->tx.kind == TX_METER_ENROL) {
        const struct meter_enrol *e = &tx->u.meter_enrol;
        return verify_key_init(&key, net, ROLE_METER_REPORT, &e->meter, e->epoch, &e->w_report);
    }
    if (tx->tx.kind == TX_DC_ENROL) {
        const struct dc_enrol *e = &tx->u.dc_enrol;
        return verify_key_init(&key, net, ROLE_DC_SIGN, &e->dc, e->epoch, &e->w_sign);
    }
    return AMI_OK;
}

struct check_batch {
    size_t made, count; /* signatures described, and those of them that are to be checked */
    struct tx_signature signature[TX_CHECK_BATCH * TX_SIGNATURES_MAX];
    struct sm3_message message[TX_CHECK_BATCH * TX_SIGNATURES_MAX];
    point p[TX_CHECK_BATCH * TX_SIGNATURES_MAX];
    sm3_digest e[TX_CHECK_BATCH * TX_SIGNATURES_MAX];
    sm2_signature sig[TX_CHECK_BATCH * TX_SIGNATURES_MAX];
    bool ok[TX_CHECK_BATCH * TX_SIGNATURES_MAX];
    size_t of[TX_CHECK_BATCH * TX_SIGNATURES_MAX];
};

static void add_signatures(struct check_batch *b, const struct tx_check *c,
                           const struct tx_view *tx, size_t index)
{
    struct tx_signature *s = &b->signature[b->made]; /* messages point into it: it stays there */
    const unsigned count = tx_signatures(s, tx, &c->genesis->members.chain, &c->genesis->network,
                                         c->author, c->gateway);
    b->made += count;
    for (unsigned i = tx_signatures_from(tx, c->meters_unchecked); i < count; i++) {
        b->message[b->count] = (struct sm3_message){s[i].message.parts, s[i].message.count};
        b->p[b->count] = s[i].p;
        b->sig[b->count] = s[i].sig;
        b->of[b->count++] = index;
    }
}

void tx_check_run_batch(const struct tx_check *c, const struct tx_view *tx, enum ami_status *status,
                        size_t count)
{
    AMI_CHECK(count <= TX_CHECK_BATCH);
    struct check_batch *b = malloc(sizeof *b);
    if (b != NULL)
        b->made = b->count = 0;
    for (size_t i = 0; i < count; i++) {
        if (status[i] != AMI_OK)
            continue;
        if (b == NULL)
            status[i] = AMI_NO_MEMORY;
        else
            add_signatures(b, &c[i], &tx[i], i);
    }
    if (b == NULL)
        return;
    if (b->count != 0) {
        sm3_batch(b->e, b->message, b->count);
        if (sm2_verify_batch(b->p, b->e, b->sig, b->ok, b->count) != AMI_OK)
            for (size_t i = 0; i < b->count; i++)
                if (!b->ok[i])
                    status[b->of[i]] = AMI_BAD_SIGNATURE;
    }
    free(b);
    for (size_t i = 0; i < count; i++)
        if (status[i] == AMI_OK)
            status[i] = check_w(&c[i].genesis->network, &tx[i]);
}

enum ami_status tx_check_run(const struct tx_check *c, const struct tx_view *tx)
{
    enum ami_status status = AMI_OK;
    tx_check_run_batch(c, tx, &status, 1);
    return status;
}

/* --- staging -----------------------------------------------------------------------------------
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
    AMI_TRY(reserve_records(r, r->added_count + 1));
    AMI_TRY(recover(r, &rec, &rec.key));
    add_change(r, &rec, (uint32_t)(r->size + r->added_count++), true);
    return AMI_OK;
}

/* The rules hold; there is room for two changes. */
static void change_members(struct registry *r, const struct membership *m)
{
    const struct view v = {r, true};
    const uint64_t from = r->height + m->delay;
    const struct record *leaves, *joins;
    AMI_CHECK(check_membership(v, r->height, m, &leaves, &joins) == AMI_OK);
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
    AMI_TRY(check_rules(v, r->height, tx, &subject));
    if (tx->tx.kind == TX_MEMBERSHIP) {
        AMI_TRY(reserve_changes(r, 3));
        change_members(r, &tx->u.membership);
        edit(r, look_mdms(v))->floor = tx_mdms_number(tx);
        return AMI_OK;
    }
    if (tx->tx.kind == TX_RETENTION) {
        AMI_TRY(reserve_changes(r, 1));
        struct record *mdms = edit(r, look_mdms(v));
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
        edit(r, look_mdms(v))->floor = tx_mdms_number(tx);
    if (subject == NULL)
        return AMI_OK;
    struct record *rec = edit(r, look(v, kind, &name, epoch));
    switch (tx->tx.kind) {
    case TX_REPORT:
        settle(rec, tx->u.report.meter.sequence);
        break;
    case TX_SKIP:
        settle_below(rec, tx->u.skip.below);
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
            append(r, &c->rec);
            if (c->rec.kind == RECORD_DC)
                forget_list(r);
            continue;
        }
        struct record *rec = &slot_at(r, c->index)->rec;
        if (rec->kind == RECORD_DC)
            forget_list(r);
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
