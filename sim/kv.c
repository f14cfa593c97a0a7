#include "sim/kv.h"

#include "base/check.h"

#include <stdlib.h>
#include <string.h>

/* A treap per table: a search tree by key that is a heap by a number drawn from the key, so that
 * its shape depends on what is in it alone. Maps share the items that a copy began with: one that
 * several trees hold is never changed, it is copied on the way to what changes. */
struct item {
    struct item *left, *right;
    uint64_t priority;
    uint32_t holders; /* trees and items that lead here */
    uint32_t key_size, value_size;
    uint8_t bytes[]; /* the key, the value */
};

struct sim_kv {
    struct item *root[TABLE_COUNT];
    size_t count[TABLE_COUNT];
};

static struct span key_of(const struct item *t)
{
    return span_of(t->bytes, t->key_size);
}

static struct span value_of(const struct item *t)
{
    return span_of(t->bytes + t->key_size, t->value_size);
}

static int compare(struct span a, const struct item *b)
{
    size_t n = a.size < b->key_size ? a.size : b->key_size;
    int c = n == 0 ? 0 : memcmp(a.data, b->bytes, n);
    return c != 0 ? c : (a.size > b->key_size) - (a.size < b->key_size);
}

static uint64_t priority_of(struct span key)
{
    uint64_t h = UINT64_C(0x9e3779b97f4a7c15);
    for (size_t i = 0; i < key.size; i++)
        h = (h ^ key.data[i]) * UINT64_C(0xbf58476d1ce4e5b9), h ^= h >> 29;
    return h;
}

static struct item *new_item(struct span key, struct span value)
{
    struct item *t = malloc(sizeof *t + key.size + value.size);
    AMI_CHECK(t != NULL && key.size <= UINT32_MAX && value.size <= UINT32_MAX);
    *t = (struct item){.priority = priority_of(key),
                       .holders = 1,
                       .key_size = (uint32_t)key.size,
                       .value_size = (uint32_t)value.size};
    if (key.size != 0)
        memcpy(t->bytes, key.data, key.size);
    if (value.size != 0)
        memcpy(t->bytes + key.size, value.data, value.size);
    return t;
}

static struct item *hold(struct item *t)
{
    if (t != NULL)
        t->holders++;
    return t;
}

/* One holder less. */
static void let_go(struct item *t)
{
    if (t == NULL || --t->holders > 0)
        return;
    let_go(t->left);
    let_go(t->right);
    free(t);
}

/* The caller is a holder of `t` and gets an item of its own with this value in its place. */
static struct item *with_value(struct item *t, struct span value)
{
    struct item *n = new_item(key_of(t), value);
    n->left = hold(t->left);
    n->right = hold(t->right);
    let_go(t);
    return n;
}

static struct item *own(struct item *t)
{
    return t->holders == 1 ? t : with_value(t, value_of(t));
}

static struct item *insert(struct item *t, struct span key, struct span value, bool *added)
{
    if (t == NULL) {
        *added = true;
        return new_item(key, value);
    }
    int c = compare(key, t);
    if (c == 0)
        return with_value(t, value);
    t = own(t);
    struct item **side = c < 0 ? &t->left : &t->right;
    *side = insert(*side, key, value, added);
    struct item *child = *side;
    if (child->priority <= t->priority)
        return t;
    *side = c < 0 ? child->right : child->left;
    *(c < 0 ? &child->right : &child->left) = t;
    return child;
}

static struct item *merge(struct item *a, struct item *b)
{
    if (a == NULL || b == NULL)
        return a == NULL ? b : a;
    if (a->priority > b->priority) {
        a = own(a);
        a->right = merge(a->right, b);
        return a;
    }
    b = own(b);
    b->left = merge(a, b->left);
    return b;
}

static struct item *take_out(struct item *t, struct span key, bool *removed)
{
    if (t == NULL)
        return NULL;
    int c = compare(key, t);
    if (c == 0) {
        struct item *left = hold(t->left), *right = hold(t->right);
        let_go(t);
        *removed = true;
        return merge(left, right);
    }
    t = own(t);
    struct item **side = c < 0 ? &t->left : &t->right;
    *side = take_out(*side, key, removed);
    return t;
}

struct sim_kv *sim_kv_new(void)
{
    struct sim_kv *kv = calloc(1, sizeof *kv);
    AMI_CHECK(kv != NULL);
    return kv;
}

struct sim_kv *sim_kv_copy(const struct sim_kv *kv)
{
    struct sim_kv *c = sim_kv_new();
    for (int i = 0; i < TABLE_COUNT; i++) {
        c->root[i] = hold(kv->root[i]);
        c->count[i] = kv->count[i];
    }
    return c;
}

void sim_kv_free(struct sim_kv *kv)
{
    for (int i = 0; kv != NULL && i < TABLE_COUNT; i++)
        let_go(kv->root[i]);
    free(kv);
}

void sim_kv_put(struct sim_kv *kv, enum mdms_table table, struct span key, struct span value)
{
    bool added = false;
    kv->root[table] = insert(kv->root[table], key, value, &added);
    kv->count[table] += added;
}

void sim_kv_write(struct sim_kv *kv, const struct mdms_write *w)
{
    struct mdms_op op;
    for (size_t at = 0; mdms_write_next(w, &at, &op);) {
        bool removed = false;
        if (!op.remove) {
            sim_kv_put(kv, op.table, op.key, op.value);
            continue;
        }
        kv->root[op.table] = take_out(kv->root[op.table], op.key, &removed);
        kv->count[op.table] -= removed;
    }
}

bool sim_kv_seek(const struct sim_kv *kv, enum mdms_table table, struct span from, struct span *key,
                 struct span *value)
{
    const struct item *best = NULL, *t = kv->root[table];
    while (t != NULL) {
        if (compare(from, t) <= 0) {
            best = t;
            t = t->left;
        } else {
            t = t->right;
        }
    }
    if (best == NULL)
        return false;
    *key = key_of(best);
    *value = value_of(best);
    return true;
}

size_t sim_kv_count(const struct sim_kv *kv, enum mdms_table table)
{
    return kv->count[table];
}

static enum ami_status reader_get(void *ctx, enum mdms_table table, struct span key,
                                  struct span *value)
{
    struct span found;
    if (!sim_kv_seek(ctx, table, key, &found, value) || !span_equal(found, key))
        return AMI_NOT_FOUND;
    return AMI_OK;
}

static enum ami_status reader_seek(void *ctx, enum mdms_table table, struct span from,
                                   struct span *key, struct span *value)
{
    return sim_kv_seek(ctx, table, from, key, value) ? AMI_OK : AMI_NOT_FOUND;
}

struct mdms_kv sim_kv_reader(struct sim_kv *kv)
{
    return (struct mdms_kv){.ctx = kv, .get = reader_get, .seek = reader_seek};
}
