#include "ledger/registry.h"

#include "base/check.h"
#include "ledger/merkle.h"

#include <stdlib.h>
#include <string.h>

#define SKIP_MAX AMI_SEQ_WINDOW /* a skip moves the floor by this much at most */

/* Records live in chunks, so that pointers to them stay good while the registry grows. */
#define CHUNK_RECORDS 1024

/* One change of the stage: the record as it was before. */
struct undo {
    uint64_t index;
    bool added;
    struct record before;
};

struct registry {
    const struct genesis *genesis;
    struct record **chunk;
    size_t chunk_count;
    uint64_t size;

    uint64_t *slot; /* open addressing: index + 1; 0 is free */
    size_t slot_count;

    struct merkle_tree *tree; /* leaves: of the committed or, while staged, the staged state */

    bool staged;
    uint64_t height; /* of the stage */
    uint64_t staged_from; /* size before the stage */
    struct undo *undo;
    size_t undo_count, undo_capacity;
};

/* --- records ----------------------------------------------------------------------------------- */

static struct record *at(const struct registry *r, uint64_t index)
{
    AMI_CHECK(index < r->size);
    return &r->chunk[index / CHUNK_RECORDS][index % CHUNK_RECORDS];
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
    return at(r, index);
}

void record_encode(struct writer *w, const struct record *rec)
{
    static const struct ami_id self = {1, "-"};
    write_u8(w, rec->kind);
    write_id(w, &rec->name);
    write_u32(w, rec->epoch);
    write_id(w, rec->home_dc.size == 0 ? &self : &rec->home_dc);
    write_raw(w, rec->w.b, SM2_POINT_BYTES);
    write_bytes(w, span_of(rec->agree_part, rec->agree_part_size));
    write_u64(w, rec->enrolled_at);
    write_u64(w, rec->revoked_at);
    write_u64(w, rec->floor);
    write_u64(w, rec->window);
}

enum ami_status record_parse(struct record *out, struct span s)
{
    struct reader r = reader_on(s);
    *out = (struct record){.kind = read_u8(&r)};
    out->name = read_id(&r);
    out->epoch = read_u32(&r);
    out->home_dc = read_id(&r);
    read_raw(&r, out->w.b, SM2_POINT_BYTES);
    struct span part = read_bytes(&r, sizeof out->agree_part);
    out->enrolled_at = read_u64(&r);
    out->revoked_at = read_u64(&r);
    out->floor = read_u64(&r);
    out->window = read_u64(&r);
    if (!reader_done(&r) || out->kind > RECORD_DC || (out->window & 1) != 0)
        return AMI_BAD_ENCODING;
    if (part.size != 0)
        memcpy(out->agree_part, part.data, part.size);
    out->agree_part_size = (uint8_t)part.size;
    if (out->kind != RECORD_METER) {
        /* "-" stands for none; anything else would be a second encoding. */
        if (out->home_dc.size != 1 || out->home_dc.text[0] != '-')
            return AMI_BAD_ENCODING;
        out->home_dc = (struct ami_id){0};
    }
    return AMI_OK;
}

static sm3_digest record_leaf(const struct record *rec)
{
    uint8_t bytes[RECORD_BYTES_MAX];
    struct writer w = writer_on(bytes, sizeof bytes);
    record_encode(&w, rec);
    AMI_CHECK(writer_ok(&w));
    return merkle_leaf(writer_span(&w));
}

/* --- lookup ------------------------------------------------------------------------------------ */

/* FNV-1a over kind, name and epoch: names come from the MDMS, not from strangers. */
static uint64_t hash_of(uint8_t kind, const struct ami_id *name, uint32_t epoch)
{
    uint64_t h = 1469598103934665603u ^ kind;
    for (uint8_t i = 0; i < name->size; i++)
        h = (h ^ (uint8_t)name->text[i]) * 1099511628211u;
    h = (h ^ epoch) * 1099511628211u;
    return h ^ h >> 29;
}

static uint64_t *slot_for(const struct registry *r, uint8_t kind, const struct ami_id *name,
                          uint32_t epoch)
{
    size_t mask = r->slot_count - 1;
    for (size_t i = (size_t)hash_of(kind, name, epoch) & mask;; i = (i + 1) & mask) {
        uint64_t *s = &r->slot[i];
        if (*s == 0)
            return s;
        const struct record *rec = at(r, *s - 1);
        if (rec->kind == kind && rec->epoch == epoch && ami_id_equal(&rec->name, name))
            return s;
    }
}

static bool grow_slots(struct registry *r)
{
    size_t count = r->slot_count == 0 ? 4096 : r->slot_count * 2;
    uint64_t *slot = calloc(count, sizeof *slot);
    if (slot == NULL)
        return false;
    free(r->slot);
    r->slot = slot;
    r->slot_count = count;
    for (uint64_t i = 0; i < r->size; i++) {
        const struct record *rec = at(r, i);
        *slot_for(r, rec->kind, &rec->name, rec->epoch) = i + 1;
    }
    return true;
}

/* Removing from open addressing: the run behind the hole is put in again. */
static void forget_slot(struct registry *r, const struct record *rec)
{
    uint64_t *hole = slot_for(r, rec->kind, &rec->name, rec->epoch);
    AMI_CHECK(*hole != 0);
    *hole = 0;
    size_t mask = r->slot_count - 1;
    for (size_t i = ((size_t)(hole - r->slot) + 1) & mask; r->slot[i] != 0; i = (i + 1) & mask) {
        uint64_t moved = r->slot[i];
        r->slot[i] = 0;
        const struct record *m = at(r, moved - 1);
        *slot_for(r, m->kind, &m->name, m->epoch) = moved;
    }
}

static struct record *find_exact(const struct registry *r, enum record_kind kind,
                                 const struct ami_id *name, uint32_t epoch)
{
    uint64_t index = *slot_for(r, (uint8_t)kind, name, epoch);
    return index == 0 ? NULL : at(r, index - 1);
}

/* What the stage added may vanish again, and its key with it: nobody outside sees it. */
static const struct record *if_committed(const struct registry *r, const struct record *rec)
{
    if (rec == NULL || !r->staged || registry_index_of(r, rec) < r->staged_from)
        return rec;
    return NULL;
}

/* The newest epoch, staged ones included; NULL when there is none. */
static const struct record *find_newest(const struct registry *r, enum record_kind kind,
                                        const struct ami_id *name)
{
    /* Epochs rise by one, so the newest is the one before the first gap. */
    const struct record *newest = NULL, *next;
    for (uint32_t e = 1; (next = find_exact(r, kind, name, e)) != NULL; e++)
        newest = next;
    if (newest != NULL || kind != RECORD_DC)
        return newest;
    /* A genesis member may start with a later epoch. */
    for (uint8_t i = 0; i < r->genesis->members.count; i++)
        if (ami_id_equal(&r->genesis->members.member[i].name, name))
            for (uint32_t e = r->genesis->members.member[i].key_epoch;
                 (next = find_exact(r, kind, name, e)) != NULL; e++)
                newest = next;
    return newest;
}

const struct record *registry_find(const struct registry *r, enum record_kind kind,
                                   const struct ami_id *name, uint32_t epoch)
{
    if (epoch != 0)
        return if_committed(r, find_exact(r, kind, name, epoch));
    const struct record *newest = find_newest(r, kind, name);
    if (newest == NULL || if_committed(r, newest) != NULL)
        return newest;
    return newest->epoch == 1 ? NULL
                              : if_committed(r, find_exact(r, kind, name, newest->epoch - 1));
}

uint64_t registry_index_of(const struct registry *r, const struct record *rec)
{
    uint64_t index = *slot_for(r, rec->kind, &rec->name, rec->epoch);
    AMI_CHECK(index != 0 && at(r, index - 1) == rec);
    return index - 1;
}

static enum key_role role_of(const struct record *rec)
{
    return rec->kind == RECORD_METER ? ROLE_METER_REPORT : ROLE_DC_SIGN;
}

const struct verify_key *registry_key(struct registry *r, const struct record *rec)
{
    if (rec->key != NULL)
        return rec->key;
    struct verify_key *key = malloc(sizeof *key);
    if (key == NULL)
        return NULL;
    if (verify_key_init(key, &r->genesis->network, role_of(rec), &rec->name, rec->epoch,
                        &rec->w) != AMI_OK) {
        free(key);
        return NULL;
    }
    at(r, registry_index_of(r, rec))->key = key;
    return key;
}

/* --- start ------------------------------------------------------------------------------------- */

static struct record *append(struct registry *r, const struct record *rec)
{
    if ((r->size + 1) * 2 > r->slot_count && !grow_slots(r))
        return NULL;
    if (r->size / CHUNK_RECORDS == r->chunk_count) {
        struct record **chunk = realloc(r->chunk, (r->chunk_count + 1) * sizeof *chunk);
        if (chunk == NULL)
            return NULL;
        r->chunk = chunk;
        chunk[r->chunk_count] = calloc(CHUNK_RECORDS, sizeof **chunk);
        if (chunk[r->chunk_count] == NULL)
            return NULL;
        r->chunk_count++;
    }
    sm3_digest leaf = record_leaf(rec);
    if (merkle_tree_set(r->tree, r->size, &leaf) != AMI_OK)
        return NULL;
    uint64_t index = r->size++;
    *at(r, index) = *rec;
    *slot_for(r, rec->kind, &rec->name, rec->epoch) = index + 1;
    return at(r, index);
}

static bool append_genesis(struct registry *r)
{
    struct record mdms = {.kind = RECORD_MDMS};
    AMI_CHECK(ami_id_from_text(&mdms.name, "mdms") == AMI_OK);
    mdms.w = point_encode(&r->genesis->network.sign);
    mdms.epoch = 1;
    if (append(r, &mdms) == NULL)
        return false;
    for (uint8_t i = 0; i < r->genesis->members.count; i++) {
        const struct member *m = &r->genesis->members.member[i];
        struct record dc = {.kind = RECORD_DC,
                            .name = m->name,
                            .epoch = m->key_epoch,
                            .w = m->w_sign,
                            .agree_part_size = (uint8_t)m->agree_part_size,
                            .floor = 1};
        memcpy(dc.agree_part, m->agree_part, m->agree_part_size);
        if (append(r, &dc) == NULL)
            return false;
    }
    return true;
}

struct registry *registry_new(const struct genesis *g)
{
    struct registry *r = calloc(1, sizeof *r);
    if (r == NULL)
        return NULL;
    r->genesis = g;
    r->tree = merkle_tree_new();
    if (r->tree == NULL || !append_genesis(r)) {
        registry_free(r);
        return NULL;
    }
    return r;
}

void registry_free(struct registry *r)
{
    if (r == NULL)
        return;
    for (uint64_t i = 0; i < r->size; i++)
        free(at(r, i)->key);
    for (size_t i = 0; i < r->chunk_count; i++)
        free(r->chunk[i]);
    free(r->chunk);
    free(r->slot);
    free(r->undo);
    merkle_tree_free(r->tree);
    free(r);
}

enum ami_status registry_load(struct registry *r, uint64_t index, const struct record *rec)
{
    AMI_CHECK(!r->staged);
    if (index > r->size)
        return AMI_DAMAGED;
    if (index == r->size) {
        if (find_exact(r, rec->kind, &rec->name, rec->epoch) != NULL)
            return AMI_DAMAGED;
        return append(r, rec) == NULL ? AMI_NO_MEMORY : AMI_OK;
    }
    struct record *old = at(r, index);
    if (old->kind != rec->kind || old->epoch != rec->epoch || !ami_id_equal(&old->name, &rec->name))
        return AMI_DAMAGED;
    sm3_digest leaf = record_leaf(rec);
    AMI_TRY(merkle_tree_set(r->tree, index, &leaf));
    struct verify_key *key = old->key;
    *old = *rec;
    old->key = key;
    return AMI_OK;
}

sm3_digest registry_root(struct registry *r)
{
    AMI_CHECK(!r->staged);
    return merkle_tree_root(r->tree);
}

/* --- rules ------------------------------------------------------------------------------------- */

enum ami_status record_admits(const struct record *rec, uint64_t sequence)
{
    if (sequence < rec->floor)
        return AMI_SEQUENCE_SETTLED;
    if (sequence - rec->floor >= AMI_SEQ_WINDOW || sequence == UINT64_MAX)
        return AMI_SEQUENCE_AHEAD;
    return rec->window >> (sequence - rec->floor) & 1 ? AMI_SEQUENCE_SETTLED : AMI_OK;
}

/* Marks one number settled and slides the floor over the settled run at its start. */
static void settle(struct record *rec, uint64_t sequence)
{
    rec->window |= (uint64_t)1 << (sequence - rec->floor);
    while (rec->window & 1) {
        rec->window >>= 1;
        rec->floor++;
    }
}

static void settle_below(struct record *rec, uint64_t below)
{
    uint64_t shift = below - rec->floor;
    rec->window = shift >= 64 ? 0 : rec->window >> shift;
    rec->floor = below;
    while (rec->window & 1) {
        rec->window >>= 1;
        rec->floor++;
    }
}

static enum ami_status check_number(const struct registry *r, uint64_t number)
{
    uint64_t last = at(r, 0)->floor;
    if (number <= last)
        return AMI_SEQUENCE_SETTLED;
    return number == last + 1 ? AMI_OK : AMI_SEQUENCE_AHEAD;
}

static enum ami_status check_enrol(const struct registry *r, enum record_kind kind,
                                   const struct ami_id *name, uint32_t epoch, const point_bytes *w)
{
    const struct record *newest = find_newest(r, kind, name);
    if (newest == NULL ? epoch != 1 : epoch != newest->epoch + 1)
        return newest != NULL && epoch <= newest->epoch ? AMI_ALREADY_ENROLLED : AMI_WRONG_EPOCH;
    struct verify_key key;
    return verify_key_init(&key, &r->genesis->network,
                           kind == RECORD_METER ? ROLE_METER_REPORT : ROLE_DC_SIGN, name, epoch, w);
}

static const struct record *revoked_record(const struct registry *r, const struct revoke *v)
{
    return find_exact(r, v->role == 1 ? RECORD_METER : RECORD_DC, &v->device, v->epoch);
}

static enum ami_status check_report(const struct registry *r, const struct tx_view *tx)
{
    const struct report_meter_part *m = &tx->u.report.meter;
    const struct report_gateway_part *g = &tx->u.report.gateway;
    const struct record *meter = find_exact(r, RECORD_METER, &m->meter, m->epoch);
    const struct record *dc = find_exact(r, RECORD_DC, &g->dc, g->dc_epoch);
    if (meter == NULL || dc == NULL)
        return AMI_UNKNOWN_DEVICE;
    if (meter->revoked_at != 0 || dc->revoked_at != 0)
        return AMI_REVOKED;
    return record_admits(meter, m->sequence);
}

static enum ami_status check_skip(const struct registry *r, const struct skip_meter_part *s)
{
    const struct record *meter = find_exact(r, RECORD_METER, &s->meter, s->epoch);
    if (meter == NULL)
        return AMI_UNKNOWN_DEVICE;
    if (meter->revoked_at != 0)
        return AMI_REVOKED;
    if (s->below <= meter->floor)
        return AMI_SEQUENCE_SETTLED;
    return s->below - meter->floor > SKIP_MAX ? AMI_SEQUENCE_AHEAD : AMI_OK;
}

/* All rules but signatures, on whatever state the records are in now. */
static enum ami_status check_rules(const struct registry *r, const struct tx_view *tx)
{
    switch (tx->tx.kind) {
    case TX_REPORT:
        return check_report(r, tx);
    case TX_SKIP:
        return check_skip(r, &tx->u.skip);
    case TX_METER_ENROL: {
        const struct meter_enrol *e = &tx->u.meter_enrol;
        AMI_TRY(check_number(r, e->number));
        const struct record *home = find_newest(r, RECORD_DC, &e->home_dc);
        if (home == NULL)
            return AMI_UNKNOWN_DEVICE;
        return check_enrol(r, RECORD_METER, &e->meter, e->epoch, &e->w_report);
    }
    case TX_DC_ENROL: {
        const struct dc_enrol *e = &tx->u.dc_enrol;
        AMI_TRY(check_number(r, e->number));
        return check_enrol(r, RECORD_DC, &e->dc, e->epoch, &e->w_sign);
    }
    case TX_REVOKE: {
        AMI_TRY(check_number(r, tx->u.revoke.number));
        const struct record *rec = revoked_record(r, &tx->u.revoke);
        if (rec == NULL)
            return AMI_UNKNOWN_DEVICE;
        return rec->revoked_at != 0 ? AMI_REVOKED : AMI_OK;
    }
    default:
        return AMI_BAD_ARGUMENT;
    }
}

enum ami_status registry_admits(const struct registry *r, const struct tx_view *tx)
{
    return check_rules(r, tx);
}

/* --- signatures -------------------------------------------------------------------------------- */

static enum ami_status key_for(struct registry *r, enum record_kind kind,
                               const struct ami_id *name, uint32_t epoch,
                               const struct verify_key **out)
{
    const struct record *rec = if_committed(r, find_exact(r, kind, name, epoch));
    if (rec == NULL)
        return AMI_UNKNOWN_DEVICE;
    *out = registry_key(r, rec);
    return *out == NULL ? AMI_NO_MEMORY : AMI_OK;
}

enum ami_status registry_check_prepare(struct registry *r, const struct tx_view *tx,
                                       struct tx_check *out)
{
    *out = (struct tx_check){.chain = r->genesis->members.chain,
                             .mdms = &r->genesis->network.sign};
    if (tx->tx.kind == TX_REPORT) {
        const struct report_meter_part *m = &tx->u.report.meter;
        const struct report_gateway_part *g = &tx->u.report.gateway;
        AMI_TRY(key_for(r, RECORD_METER, &m->meter, m->epoch, &out->author));
        return key_for(r, RECORD_DC, &g->dc, g->dc_epoch, &out->gateway);
    }
    if (tx->tx.kind == TX_SKIP)
        return key_for(r, RECORD_METER, &tx->u.skip.meter, tx->u.skip.epoch, &out->author);
    return AMI_OK;
}

enum ami_status tx_check_run(const struct tx_check *c, const struct tx_view *tx)
{
    switch (tx->tx.kind) {
    case TX_REPORT:
        AMI_TRY(report_meter_check(&tx->u.report.meter, &c->chain, c->author));
        return report_gateway_check(&tx->u.report.gateway, &tx->u.report.meter, &c->chain,
                                    c->gateway);
    case TX_SKIP:
        return skip_check(&tx->u.skip, &c->chain, c->author);
    default:
        return mdms_tx_check(c->mdms, &c->chain, tx->tx.kind, tx->tx.first, &tx->mdms.signature);
    }
}

/* --- staging ----------------------------------------------------------------------------------- */

void registry_stage_begin(struct registry *r, uint64_t height)
{
    AMI_CHECK(!r->staged);
    r->staged = true;
    r->height = height;
    r->staged_from = r->size;
    r->undo_count = 0;
}

bool registry_staged(const struct registry *r)
{
    return r->staged;
}

static struct undo *note(struct registry *r)
{
    if (r->undo_count == r->undo_capacity) {
        size_t capacity = r->undo_capacity * 2 + 64;
        struct undo *undo = realloc(r->undo, capacity * sizeof *undo);
        if (undo == NULL)
            return NULL;
        r->undo = undo;
        r->undo_capacity = capacity;
    }
    return &r->undo[r->undo_count++];
}

static enum ami_status stage_change(struct registry *r, struct record *rec,
                                    const struct record *after)
{
    uint64_t index = registry_index_of(r, rec);
    sm3_digest leaf = record_leaf(after);
    struct undo *u = note(r);
    if (u == NULL)
        return AMI_NO_MEMORY;
    *u = (struct undo){index, false, *rec};
    if (merkle_tree_set(r->tree, index, &leaf) != AMI_OK) {
        r->undo_count--;
        return AMI_NO_MEMORY;
    }
    *rec = *after;
    return AMI_OK;
}

static enum ami_status stage_add(struct registry *r, const struct record *rec)
{
    struct undo *u = note(r);
    if (u == NULL)
        return AMI_NO_MEMORY;
    *u = (struct undo){.index = r->size, .added = true};
    if (append(r, rec) == NULL) {
        r->undo_count--;
        return AMI_NO_MEMORY;
    }
    return AMI_OK;
}

/* Moves the MDMS's number on, last, so that nothing has to be taken back. */
static enum ami_status stage_number(struct registry *r, uint64_t number)
{
    struct record mdms = *at(r, 0);
    mdms.floor = number;
    return stage_change(r, at(r, 0), &mdms);
}

static enum ami_status stage_enrol(struct registry *r, enum record_kind kind, uint64_t number,
                                   const struct ami_id *name, uint32_t epoch,
                                   const struct ami_id *home, const point_bytes *w,
                                   struct span part)
{
    struct record rec = {.kind = (uint8_t)kind,
                         .name = *name,
                         .epoch = epoch,
                         .w = *w,
                         .agree_part_size = (uint8_t)part.size,
                         .enrolled_at = r->height,
                         .floor = 1};
    if (home != NULL)
        rec.home_dc = *home;
    if (part.size != 0)
        memcpy(rec.agree_part, part.data, part.size);
    AMI_TRY(stage_number(r, number));
    return stage_add(r, &rec);
}

static enum ami_status stage_rules(struct registry *r, const struct tx_view *tx)
{
    switch (tx->tx.kind) {
    case TX_REPORT: {
        const struct report_meter_part *m = &tx->u.report.meter;
        struct record *rec = find_exact(r, RECORD_METER, &m->meter, m->epoch);
        struct record after = *rec;
        settle(&after, m->sequence);
        return stage_change(r, rec, &after);
    }
    case TX_SKIP: {
        struct record *rec = find_exact(r, RECORD_METER, &tx->u.skip.meter, tx->u.skip.epoch);
        struct record after = *rec;
        settle_below(&after, tx->u.skip.below);
        return stage_change(r, rec, &after);
    }
    case TX_METER_ENROL: {
        const struct meter_enrol *e = &tx->u.meter_enrol;
        return stage_enrol(r, RECORD_METER, e->number, &e->meter, e->epoch, &e->home_dc,
                           &e->w_report, e->agree_part);
    }
    case TX_DC_ENROL: {
        const struct dc_enrol *e = &tx->u.dc_enrol;
        return stage_enrol(r, RECORD_DC, e->number, &e->dc, e->epoch, NULL, &e->w_sign,
                           e->agree_part);
    }
    default: {
        const struct revoke *v = &tx->u.revoke;
        struct record *rec =
            find_exact(r, v->role == 1 ? RECORD_METER : RECORD_DC, &v->device, v->epoch);
        struct record after = *rec;
        after.revoked_at = r->height;
        AMI_TRY(stage_number(r, v->number));
        return stage_change(r, rec, &after);
    }
    }
}

/* Takes back everything noted beyond `keep`, newest first. */
static void unwind(struct registry *r, size_t keep)
{
    while (r->undo_count > keep) {
        struct undo *u = &r->undo[--r->undo_count];
        if (u->added) {
            struct record *rec = at(r, u->index);
            AMI_CHECK(u->index == r->size - 1);
            forget_slot(r, rec);
            free(rec->key);
            *rec = (struct record){0};
            r->size--;
            merkle_tree_truncate(r->tree, r->size);
        } else {
            struct record *rec = at(r, u->index);
            struct verify_key *key = rec->key; /* recovered meanwhile, perhaps */
            *rec = u->before;
            rec->key = key;
            sm3_digest leaf = record_leaf(rec);
            AMI_CHECK(merkle_tree_set(r->tree, u->index, &leaf) == AMI_OK);
        }
    }
}

enum ami_status registry_stage_tx(struct registry *r, const struct tx_view *tx)
{
    AMI_CHECK(r->staged);
    AMI_TRY(check_rules(r, tx));
    size_t before = r->undo_count;
    enum ami_status status = stage_rules(r, tx);
    if (status != AMI_OK)
        unwind(r, before);
    return status;
}

sm3_digest registry_stage_root(struct registry *r)
{
    AMI_CHECK(r->staged);
    return merkle_tree_root(r->tree);
}

static int compare_index(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

void registry_stage_changes(struct registry *r,
                            void (*put)(void *ctx, uint64_t index, const struct record *rec),
                            void *ctx)
{
    AMI_CHECK(r->staged);
    if (r->undo_count == 0)
        return;
    uint64_t *index = malloc(r->undo_count * sizeof *index);
    AMI_CHECK(index != NULL);
    for (size_t i = 0; i < r->undo_count; i++)
        index[i] = r->undo[i].index;
    qsort(index, r->undo_count, sizeof *index, compare_index);
    for (size_t i = 0; i < r->undo_count; i++)
        if (i == 0 || index[i] != index[i - 1])
            put(ctx, index[i], at(r, index[i]));
    free(index);
}

void registry_stage_commit(struct registry *r)
{
    AMI_CHECK(r->staged);
    r->staged = false;
    r->undo_count = 0;
}

void registry_stage_drop(struct registry *r)
{
    AMI_CHECK(r->staged);
    unwind(r, 0);
    r->staged = false;
}
