/* ledger/merkle.h - Merkle trees with domain-separated leaves and nodes (RFC 9162 section 2.1, on
 * SM3).
 *
 * leaf = SM3(00 || data), node = SM3(01 || left || right), a tree of n > 1 leaves splits at the
 * largest power of two below n, the tree of no leaves is SM3("").
 */
#ifndef AMI_LEDGER_MERKLE_H
#define AMI_LEDGER_MERKLE_H

#include "base/bytes.h"
#include "crypto/sm3.h"

#define MERKLE_PATH_MAX 32

sm3_digest merkle_leaf(struct span data);
sm3_digest merkle_node(const sm3_digest *left, const sm3_digest *right);
/* Root over leaf hashes; `leaves` is used as working space and overwritten. */
sm3_digest merkle_root(sm3_digest *leaves, size_t count);
/* Path of leaf `index`, from its sibling upwards; leaves are left as they are. Returns its length
 * (at most MERKLE_PATH_MAX). */
size_t merkle_path(sm3_digest path[MERKLE_PATH_MAX], const sm3_digest *leaves, size_t count,
                   size_t index);
/* Where a proof stands in its tree: a node, its place among the `count` of its level, and the
 * digests of the path from there on. It begins at a leaf. */
struct merkle_climb {
    sm3_digest node;
    uint64_t index, count;
    const sm3_digest *path;
    size_t path_size;
};
/* Goes up so many levels, or to the root when that is nearer. AMI_BAD_PROOF: there is no such
 * place, or the path ends before. */
enum ami_status merkle_climb(struct merkle_climb *c, unsigned levels) AMI_MUST_CHECK;
/* AMI_BAD_PROOF unless leaf, index, count and path give this root. */
enum ami_status merkle_check(const sm3_digest *root, const sm3_digest *leaf, uint64_t index,
                             uint64_t count, const sm3_digest *path,
                             size_t path_size) AMI_MUST_CHECK;

/* A tree that grows at its end and whose leaves change: the registry's state. Memory: 69 bytes a
 * leaf, grown in steps of a quarter. Roots are those of merkle_root over the leaves. At most
 * UINT32_MAX leaves. */
struct merkle_tree;
struct merkle_tree *merkle_tree_new(void);
void merkle_tree_free(struct merkle_tree *t);
/* Makes room, so that growing to `size` leaves cannot fail. AMI_NO_MEMORY, AMI_TOO_LARGE. */
enum ami_status merkle_tree_reserve(struct merkle_tree *t, uint64_t size) AMI_MUST_CHECK;
/* index <= size; changing a leaf (index < size) never fails. */
enum ami_status merkle_tree_set(struct merkle_tree *t, uint64_t index,
                                const sm3_digest *leaf) AMI_MUST_CHECK;
sm3_digest merkle_tree_leaf(const struct merkle_tree *t, uint64_t index); /* index < size */
void merkle_tree_truncate(struct merkle_tree *t, uint64_t size);
uint64_t merkle_tree_size(const struct merkle_tree *t);
/* Recomputes only what changed since the last call. */
sm3_digest merkle_tree_root(struct merkle_tree *t);
/* Path of leaf `index` < size: O(log size) when nothing changed since the last root. Returns its
 * length. */
size_t merkle_tree_path(struct merkle_tree *t, uint64_t index, sm3_digest path[MERKLE_PATH_MAX]);

#endif
