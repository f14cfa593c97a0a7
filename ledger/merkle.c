#include "ledger/merkle.h"

#include "base/check.h"

#include <stdlib.h>
#include <string.h>

sm3_digest merkle_leaf(struct span data)
{
    static const uint8_t prefix = 0;
    const struct span parts[] = {span_of(&prefix, 1), data};
    return sm3_parts(parts, 2);
}

sm3_digest merkle_node(const sm3_digest *left, const sm3_digest *right)
{
    uint8_t b[1 + 2 * SM3_BYTES];
    b[0] = 1;
    memcpy(b + 1, left->b, SM3_BYTES);
    memcpy(b + 1 + SM3_BYTES, right->b, SM3_BYTES);
    return sm3(span_of(b, sizeof b));
}

/* Splitting at the largest power of two below n gives the same tree as pairing each level from the
 * left and carrying an odd last node up unchanged; that needs no recursion. */
static size_t fold_level(sm3_digest *nodes, size_t count)
{
    size_t pairs = count / 2;
    for (size_t i = 0; i < pairs; i++)
        nodes[i] = merkle_node(&nodes[2 * i], &nodes[2 * i + 1]);
    if (count % 2 == 1)
        nodes[pairs] = nodes[count - 1];
    return pairs + count % 2;
}

sm3_digest merkle_root(sm3_digest *leaves, size_t count)
{
    if (count == 0)
        return sm3(span_of(NULL, 0));
    while (count > 1)
        count = fold_level(leaves, count);
    return leaves[0];
}

static size_t split_at(size_t count)
{
    size_t k = 1;
    while (2 * k < count)
        k *= 2;
    return k;
}

static sm3_digest range_root(const sm3_digest *leaves, size_t count)
{
    if (count == 1)
        return leaves[0];
    size_t k = split_at(count);
    sm3_digest left = range_root(leaves, k), right = range_root(leaves + k, count - k);
    return merkle_node(&left, &right);
}

size_t merkle_path(sm3_digest path[MERKLE_PATH_MAX], const sm3_digest *leaves, size_t count,
                   size_t index)
{
    AMI_CHECK(index < count);
    if (count == 1)
        return 0;
    size_t k = split_at(count), length;
    if (index < k) {
        length = merkle_path(path, leaves, k, index);
        path[length] = range_root(leaves + k, count - k);
    } else {
        length = merkle_path(path, leaves + k, count - k, index - k);
        path[length] = range_root(leaves, k);
    }
    return length + 1;
}

enum ami_status merkle_check(const sm3_digest *root, const sm3_digest *leaf, uint64_t index,
                             uint64_t count, const sm3_digest *path, size_t path_size)
{
    if (index >= count)
        return AMI_BAD_PROOF;
    sm3_digest node = *leaf;
    size_t at = 0;
    while (count > 1) {
        uint64_t sibling = index ^ 1;
        if (sibling < count) {
            if (at == path_size)
                return AMI_BAD_PROOF;
            node = index % 2 == 0 ? merkle_node(&node, &path[at]) : merkle_node(&path[at], &node);
            at++;
        }
        index /= 2;
        count = count / 2 + count % 2;
    }
    return at == path_size && sm3_equal(&node, root) ? AMI_OK : AMI_BAD_PROOF;
}

/* --- a kept tree ------------------------------------------------------------------------------ */

/* Level 0 are the leaves; level k + 1 pairs level k. A change marks its leaf; the next root
 * recomputes the marked nodes' ancestors only, each once. */
struct level {
    sm3_digest *node;
    size_t capacity;
};

struct merkle_tree {
    struct level level[MERKLE_PATH_MAX + 1];
    uint64_t size;
    uint64_t *dirty; /* indices of changed leaves, in any order, possibly repeated */
    size_t dirty_count, dirty_capacity;
};

struct merkle_tree *merkle_tree_new(void)
{
    return calloc(1, sizeof(struct merkle_tree));
}

void merkle_tree_free(struct merkle_tree *t)
{
    if (t == NULL)
        return;
    for (size_t k = 0; k <= MERKLE_PATH_MAX; k++)
        free(t->level[k].node);
    free(t->dirty);
    free(t);
}

static bool reserve_level(struct level *l, uint64_t size)
{
    if (size <= l->capacity)
        return true;
    size_t capacity = l->capacity < 16 ? 16 : l->capacity;
    while (capacity < size)
        capacity += capacity / 2;
    sm3_digest *node = realloc(l->node, capacity * sizeof *node);
    if (node == NULL)
        return false;
    l->node = node;
    l->capacity = capacity;
    return true;
}

/* Room in every level for `size` leaves, so that computing a root cannot fail. */
static bool reserve(struct merkle_tree *t, uint64_t size)
{
    for (size_t k = 0; k <= MERKLE_PATH_MAX; k++) {
        if (!reserve_level(&t->level[k], size))
            return false;
        if (size <= 1)
            return true;
        size = size / 2 + size % 2;
    }
    return false;
}

static bool mark(struct merkle_tree *t, uint64_t index)
{
    if (t->dirty_count == t->dirty_capacity) {
        size_t capacity = t->dirty_capacity * 2 + 64;
        uint64_t *dirty = realloc(t->dirty, capacity * sizeof *dirty);
        if (dirty == NULL)
            return false;
        t->dirty = dirty;
        t->dirty_capacity = capacity;
    }
    t->dirty[t->dirty_count++] = index;
    return true;
}

enum ami_status merkle_tree_set(struct merkle_tree *t, uint64_t index, const sm3_digest *leaf)
{
    AMI_CHECK(index <= t->size);
    if (index == t->size && !reserve(t, t->size + 1))
        return AMI_NO_MEMORY;
    if (!mark(t, index))
        return AMI_NO_MEMORY;
    t->level[0].node[index] = *leaf;
    if (index == t->size)
        t->size++;
    return AMI_OK;
}

void merkle_tree_truncate(struct merkle_tree *t, uint64_t size)
{
    AMI_CHECK(size <= t->size);
    if (size == t->size)
        return;
    t->size = size;
    size_t kept = 0;
    for (size_t i = 0; i < t->dirty_count; i++)
        if (t->dirty[i] < size)
            t->dirty[kept++] = t->dirty[i];
    t->dirty_count = kept;
    /* The last leaf's ancestors lost a right half. There is room: something was dropped or the
     * mark of a kept leaf is still there. */
    if (size > 0)
        AMI_CHECK(mark(t, size - 1));
}

uint64_t merkle_tree_size(const struct merkle_tree *t)
{
    return t->size;
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

sm3_digest merkle_tree_root(struct merkle_tree *t)
{
    if (t->size == 0) {
        t->dirty_count = 0;
        return sm3(span_of(NULL, 0));
    }
    qsort(t->dirty, t->dirty_count, sizeof *t->dirty, compare_u64);
    uint64_t count = t->size;
    for (size_t k = 0; count > 1; k++) {
        size_t up = 0;
        for (size_t i = 0; i < t->dirty_count; i++) {
            uint64_t parent = t->dirty[i] / 2;
            if (up > 0 && t->dirty[up - 1] == parent)
                continue;
            const sm3_digest *below = t->level[k].node;
            t->level[k + 1].node[parent] = 2 * parent + 1 < count
                                               ? merkle_node(&below[2 * parent], &below[2 * parent + 1])
                                               : below[2 * parent];
            t->dirty[up++] = parent;
        }
        t->dirty_count = up;
        count = count / 2 + count % 2;
    }
    t->dirty_count = 0;
    size_t top = 0;
    for (count = t->size; count > 1; count = count / 2 + count % 2)
        top++;
    return t->level[top].node[0];
}

size_t merkle_tree_path(struct merkle_tree *t, uint64_t index, sm3_digest path[MERKLE_PATH_MAX])
{
    AMI_CHECK(index < t->size && t->dirty_count == 0);
    size_t length = 0;
    uint64_t count = t->size;
    for (size_t k = 0; count > 1; k++) {
        uint64_t sibling = index ^ 1;
        if (sibling < count)
            path[length++] = t->level[k].node[sibling];
        index /= 2;
        count = count / 2 + count % 2;
    }
    return length;
}
