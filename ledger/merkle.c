#include "ledger/merkle.h"

#include "base/check.h"

#include <limits.h>
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

#define FOLD_CHUNK 128

/* Splitting at the largest power of two below n gives the same tree as pairing each level from the
 * left and carrying an odd last node up unchanged; that needs no recursion. Two nodes side by side
 * are the message of the one above them. */
static size_t fold_level(sm3_digest *nodes, size_t count)
{
    static const uint8_t prefix = 1;
    struct span part[FOLD_CHUNK][2];
    struct sm3_message message[FOLD_CHUNK];
    sm3_digest above[FOLD_CHUNK];
    size_t pairs = count / 2;
    for (size_t done = 0; done < pairs; done += FOLD_CHUNK) {
        const size_t size = pairs - done < FOLD_CHUNK ? pairs - done : FOLD_CHUNK;
        for (size_t i = 0; i < size; i++) {
            part[i][0] = span_of(&prefix, 1);
            part[i][1] = span_of(nodes[2 * (done + i)].b, 2 * SM3_BYTES);
            message[i] = (struct sm3_message){part[i], 2};
        }
        sm3_batch(above, message, size);
        memcpy(nodes + done, above, size * sizeof above[0]);
    }
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

/* Root over some of the leaves, which stay as they are; as deep as the tree is high. */
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
    AMI_CHECK(index < count && count <= UINT32_MAX);
    sm3_digest down[MERKLE_PATH_MAX]; /* from the root, as the subtrees are cut off */
    size_t length = 0;
    while (count > 1) {
        size_t left = split_at(count);
        if (index < left) {
            down[length++] = range_root(leaves + left, count - left);
            count = left;
        } else {
            down[length++] = range_root(leaves, left);
            leaves += left;
            index -= left;
            count -= left;
        }
    }
    for (size_t i = 0; i < length; i++)
        path[i] = down[length - 1 - i];
    return length;
}

enum ami_status merkle_climb(struct merkle_climb *c, unsigned levels)
{
    if (c->index >= c->count)
        return AMI_BAD_PROOF;
    for (; levels > 0 && c->count > 1; levels--) {
        if ((c->index ^ 1) < c->count) {
            if (c->path_size == 0)
                return AMI_BAD_PROOF;
            c->node =
                c->index % 2 == 0 ? merkle_node(&c->node, c->path) : merkle_node(c->path, &c->node);
            c->path++;
            c->path_size--;
        }
        c->index /= 2;
        c->count = c->count / 2 + c->count % 2;
    }
    return AMI_OK;
}

enum ami_status merkle_check(const sm3_digest *root, const sm3_digest *leaf, uint64_t index,
                             uint64_t count, const sm3_digest *path, size_t path_size)
{
    struct merkle_climb c = {*leaf, index, count, path, path_size};
    AMI_TRY(merkle_climb(&c, UINT_MAX));
    return c.path_size == 0 && sm3_equal(&c.node, root) ? AMI_OK : AMI_BAD_PROOF;
}

/* --- a kept tree ------------------------------------------------------------------------------ */

/* Level 0 are the leaves; level k + 1 pairs level k. A change marks its leaf; the next root
 * recomputes the marked leaves' ancestors only, each once. All memory is taken when the tree grows,
 * so that nothing that shrinks it or takes changes back can fail. */
struct level {
    sm3_digest *node;
    size_t capacity;
};

struct merkle_tree {
    struct level level[MERKLE_PATH_MAX + 1];
    uint64_t size;
    uint32_t *dirty; /* indices of changed leaves, each once, in any order; room for all leaves */
    size_t dirty_count;
    uint8_t *marked; /* bit i: leaf i is in `dirty` */
    size_t capacity; /* leaves that `dirty` and `marked` have room for */
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
    free(t->marked);
    free(t);
}

static size_t grown(size_t capacity, uint64_t size)
{
    if (capacity < 64)
        capacity = 64;
    while (capacity < size)
        capacity += capacity / 4 & ~(size_t)7;
    return capacity;
}

static bool reserve_level(struct level *l, uint64_t size)
{
    if (size <= l->capacity)
        return true;
    size_t capacity = grown(l->capacity, size);
    sm3_digest *node = realloc(l->node, capacity * sizeof *node);
    if (node == NULL)
        return false;
    l->node = node;
    l->capacity = capacity;
    return true;
}

static bool reserve_marks(struct merkle_tree *t, uint64_t size)
{
    if (size <= t->capacity)
        return true;
    size_t capacity = grown(t->capacity, size);
    uint32_t *dirty = realloc(t->dirty, capacity * sizeof *dirty);
    if (dirty == NULL)
        return false;
    t->dirty = dirty;
    uint8_t *marked = realloc(t->marked, capacity / 8);
    if (marked == NULL)
        return false;
    memset(marked + t->capacity / 8, 0, capacity / 8 - t->capacity / 8);
    t->marked = marked;
    t->capacity = capacity;
    return true;
}

enum ami_status merkle_tree_reserve(struct merkle_tree *t, uint64_t size)
{
    if (size > UINT32_MAX)
        return AMI_TOO_LARGE;
    if (!reserve_marks(t, size))
        return AMI_NO_MEMORY;
    for (size_t k = 0; k <= MERKLE_PATH_MAX; k++) {
        if (!reserve_level(&t->level[k], size))
            return AMI_NO_MEMORY;
        if (size <= 1)
            break;
        size = size / 2 + size % 2;
    }
    return AMI_OK;
}

static void mark(struct merkle_tree *t, uint64_t index)
{
    uint8_t bit = (uint8_t)(1u << index % 8);
    if ((t->marked[index / 8] & bit) != 0)
        return;
    t->marked[index / 8] |= bit;
    t->dirty[t->dirty_count++] = (uint32_t)index;
}

static void unmark(struct merkle_tree *t, uint64_t index)
{
    t->marked[index / 8] &= (uint8_t) ~(1u << index % 8);
}

enum ami_status merkle_tree_set(struct merkle_tree *t, uint64_t index, const sm3_digest *leaf)
{
    AMI_CHECK(index <= t->size);
    if (index == t->size) {
        AMI_TRY(merkle_tree_reserve(t, t->size + 1));
        t->size++;
    }
    t->level[0].node[index] = *leaf;
    mark(t, index);
    return AMI_OK;
}

sm3_digest merkle_tree_leaf(const struct merkle_tree *t, uint64_t index)
{
    AMI_CHECK(index < t->size);
    return t->level[0].node[index];
}

void merkle_tree_truncate(struct merkle_tree *t, uint64_t size)
{
    AMI_CHECK(size <= t->size);
    if (size == t->size)
        return;
    t->size = size;
    size_t kept = 0;
    for (size_t i = 0; i < t->dirty_count; i++) {
        if (t->dirty[i] < size)
            t->dirty[kept++] = t->dirty[i];
        else
            unmark(t, t->dirty[i]);
    }
    t->dirty_count = kept;
    /* The last leaf's ancestors may have lost their right halves. */
    if (size > 0)
        mark(t, size - 1);
}

uint64_t merkle_tree_size(const struct merkle_tree *t)
{
    return t->size;
}

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Computes the parents of the listed nodes of level k, which has `count` nodes, and leaves the list
 * of those parents behind, each once. */
static void fold_dirty(struct merkle_tree *t, size_t k, uint64_t count)
{
    static const uint8_t prefix = 1;
    const sm3_digest *below = t->level[k].node;
    sm3_digest *above = t->level[k + 1].node;
    struct span part[FOLD_CHUNK][2];
    struct sm3_message message[FOLD_CHUNK];
    sm3_digest digest[FOLD_CHUNK];
    uint32_t of[FOLD_CHUNK];
    size_t up = 0, waiting = 0;
    for (size_t i = 0; i < t->dirty_count; i++) {
        const uint32_t parent = t->dirty[i] / 2;
        const size_t left = 2 * (size_t)parent;
        const bool again = up > 0 && t->dirty[up - 1] == parent;
        if (!again && left + 1 >= count) {
            above[parent] = below[left];
        } else if (!again) {
            part[waiting][0] = span_of(&prefix, 1);
            part[waiting][1] = span_of(below[left].b, 2 * SM3_BYTES);
            message[waiting] = (struct sm3_message){part[waiting], 2};
            of[waiting++] = parent;
        }
        if (!again)
            t->dirty[up++] = parent;
        if (waiting < FOLD_CHUNK && i + 1 < t->dirty_count)
            continue;
        sm3_batch(digest, message, waiting);
        for (size_t j = 0; j < waiting; j++)
            above[of[j]] = digest[j];
        waiting = 0;
    }
    t->dirty_count = up;
}

sm3_digest merkle_tree_root(struct merkle_tree *t)
{
    if (t->size == 0)
        return sm3(span_of(NULL, 0));
    for (size_t i = 0; i < t->dirty_count; i++)
        unmark(t, t->dirty[i]);
    qsort(t->dirty, t->dirty_count, sizeof *t->dirty, compare_u32);
    size_t top = 0;
    for (uint64_t count = t->size; count > 1; count = count / 2 + count % 2)
        fold_dirty(t, top++, count);
    t->dirty_count = 0;
    return t->level[top].node[0];
}

size_t merkle_tree_path(struct merkle_tree *t, uint64_t index, sm3_digest path[MERKLE_PATH_MAX])
{
    AMI_CHECK(index < t->size);
    if (t->dirty_count > 0)
        (void)merkle_tree_root(t);
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
