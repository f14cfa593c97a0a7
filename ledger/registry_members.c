#include "ledger/registry_internal.h"

#include <stdlib.h>
#include <string.h>

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
        return v.staged ? registry_look(v, RECORD_DC, &rec->name, rec->epoch) : rec;
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

void registry_forget_list(struct registry *r)
{
    r->list_from = r->list_until = 0;
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
        AMI_TRY(registry_key_of(r, rec, &key));
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
    registry_forget_list(r);
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

/* Does the entry say what was enrolled? */
static bool entry_fits(const struct record *rec, const struct member_entry *e)
{
    return memcmp(&rec->w, &e->w_sign, sizeof rec->w) == 0 &&
           span_equal(span_of(rec->agree_part, rec->agree_part_size), e->agree_part);
}

enum ami_status registry_check_membership(struct view v, uint64_t height,
                                          const struct membership *m, const struct record **leaves,
                                          const struct record **joins)
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
    *joins = registry_look(v, RECORD_DC, &m->dc, m->key_epoch);
    AMI_TRY(record_check_valid(*joins));
    if ((*joins)->member_from != 0)
        return AMI_EXISTS; /* it voted before: one interval per key */
    return entry_fits(*joins, &m->entry) ? AMI_OK : AMI_FOREIGN_KEY;
}
