#include "sim/kv.h"

#include "base/check.h"

#include <stdlib.h>
#include <string.h>

/* A treap per table: a search tree by key that is a heap by a number drawn from the key, so that
 * its shape depends on what is in it alone. */
struct item {
    struct item *left, *right;
    uint64_t priority;
    size_t key_size, value_size;
    uint8_t *value;
    uint8_t key[];
};

struct sim_kv {
    struct item *root[TABLE_COUNT];
    size_t count[TABLE_COUNT];
};

static int compare(struct span a, const struct item *b)
{
    size_t n = a.size < b->key_size ? a.size : b->key_size;
    int c = n == 0 ? 0 : memcmp(a.data, b->key, n);
    return c != 0 ? c : (a.size > b->key_size) - (a.size < b->key_size);
}

static uint64_t priority_of(struct span key)
{
    uint64_t h = UINT64_C(0x9e3779b97f4a7c15);
    for (size_t i = 0; i < key.size; i++)
        h = (h ^ key.data[i]) * UINT64_C(0xbf58476d1ce4e5b9), h ^= h >> 29;
    return h;
}

static void set_value(struct item *t, struct span value)
{
    free(t->value);
    t->value = malloc(value.size + 1);
    AMI_CHECK(t->value != NULL);
    t->value_size = value.size;
    if (value.size != 0)
        memcpy(t->value, value.data, value.size);
}

static struct item *new_item(struct span key, struct span value)
{
    struct item *t = calloc(1, sizeof *t + key.size);
    AMI_CHECK(t != NULL);
    t->priority = priority_of(key);
    t->key_size = key.size;
    if (key.size != 0)
        memcpy(t->key, key.data, key.size);
    set_value(t, value);
    return t;
}

static void free_item(struct item *t)
{
    free(t->value);
    free(t);
}

static struct item *insert(struct item *t, struct span key, struct span value, bool *added)
{
    if (t == NULL) {
        *added = true;
        return new_item(key, value);
    }
    int c = compare(key, t);
    if (c == 0) {
        set_value(t, value);
        return t;
    }
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
        a->right = merge(a->right, b);
        return a;
    }
    b->left = merge(a, b->left);
    return b;
}

static struct item *take_out(struct item *t, struct span key, bool *removed)
{
    if (t == NULL)
        return NULL;
    int c = compare(key, t);
    if (c == 0) {
        struct item *rest = merge(t->left, t->right);
        free_item(t);
        *removed = true;
        return rest;
    }
    struct item **side = c < 0 ? &t->left : &t->right;
    *side = take_out(*side, key, removed);
    return t;
}

static struct item *copy_tree(const struct item *t)
{
    if (t == NULL)
        return NULL;
    struct item *c = new_item(span_of(t->key, t->key_size), span_of(t->value, t->value_size));
    c->left = copy_tree(t->left);
    c->right = copy_tree(t->right);
    return c;
}

static void free_tree(struct item *t)
{
    if (t == NULL)
        return;
    free_tree(t->left);
    free_tree(t->right);
    free_item(t);
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
        c->root[i] = copy_tree(kv->root[i]);
        c->count[i] = kv->count[i];
    }
    return c;
}

void sim_kv_free(struct sim_kv *kv)
{
    for (int i = 0; kv != NULL && i < TABLE_COUNT; i++)
        free_tree(kv->root[i]);
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
    *key = span_of(best->key, best->key_size);
    *value = span_of(best->value, best->value_size);
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
