/* Merkle trees against RFC 9162 section 2.1 as that text puts it, recursively. */
#include "tests/harness.h"

#include "ledger/merkle.h"
#include "tests/crypto_start.h"
#include "tests/ledger/fixture.h"

#include <stdlib.h>
#include <string.h>

#define LEAVES_MAX 70

static sm3_digest leaf_of(uint64_t n)
{
    uint8_t b[8];
    store_be64(b, n);
    return merkle_leaf(span_of(b, sizeof b));
}

/* The largest power of two below n. */
static size_t split(size_t n)
{
    size_t k = 1;
    while (2 * k < n)
        k *= 2;
    return k;
}

static sm3_digest naive_root(const sm3_digest *leaves, size_t n)
{
    if (n == 0)
        return sm3(span_of(NULL, 0));
    if (n == 1)
        return leaves[0];
    size_t k = split(n);
    sm3_digest left = naive_root(leaves, k), right = naive_root(leaves + k, n - k);
    uint8_t b[1 + 2 * SM3_BYTES] = {1};
    memcpy(b + 1, left.b, SM3_BYTES);
    memcpy(b + 1 + SM3_BYTES, right.b, SM3_BYTES);
    return sm3(span_of(b, sizeof b));
}

static size_t naive_path(sm3_digest *path, const sm3_digest *leaves, size_t n, size_t m)
{
    if (n == 1)
        return 0;
    size_t k = split(n), length;
    if (m < k) {
        length = naive_path(path, leaves, k, m);
        path[length] = naive_root(leaves + k, n - k);
    } else {
        length = naive_path(path, leaves + k, n - k, m - k);
        path[length] = naive_root(leaves, k);
    }
    return length + 1;
}

static void assert_digest(sm3_digest a, sm3_digest b)
{
    assert_memory_equal(&a, &b, sizeof a);
}

static void a_leaf_is_no_node(void **state)
{
    (void)state;
    uint8_t b[65] = {0};
    sm3_digest l = leaf_of(1), r = leaf_of(2);
    memcpy(b + 1, l.b, 32);
    memcpy(b + 33, r.b, 32);
    assert_digest(merkle_leaf(span_of(b + 1, 64)), sm3(span_of(b, 65)));
    b[0] = 1;
    assert_digest(merkle_node(&l, &r), sm3(span_of(b, 65)));
}

static void roots_and_paths_of_0_to_70_leaves(void **state)
{
    (void)state;
    sm3_digest leaves[LEAVES_MAX], work[LEAVES_MAX], path[MERKLE_PATH_MAX], naive[MERKLE_PATH_MAX];
    for (size_t i = 0; i < LEAVES_MAX; i++)
        leaves[i] = leaf_of(i);
    for (size_t n = 0; n <= LEAVES_MAX; n++) {
        memcpy(work, leaves, sizeof work);
        sm3_digest root = merkle_root(work, n);
        assert_digest(root, naive_root(leaves, n));
        for (size_t i = 0; i < n; i++) {
            size_t length = merkle_path(path, leaves, n, i);
            assert_int_equal(length, naive_path(naive, leaves, n, i));
            assert_memory_equal(path, naive, length * sizeof path[0]);
            assert_ok(merkle_check(&root, &leaves[i], i, n, path, length));
        }
    }
}

/* No other leaf, place, count, step or length goes through. */
static void tampered_paths(void **state)
{
    (void)state;
    sm3_digest leaves[LEAVES_MAX], path[MERKLE_PATH_MAX + 1];
    for (size_t i = 0; i < LEAVES_MAX; i++)
        leaves[i] = leaf_of(i);
    for (size_t n = 1; n <= 35; n++) {
        sm3_digest root = naive_root(leaves, n);
        for (size_t i = 0; i < n; i++) {
            size_t length = merkle_path(path, leaves, n, i);
            path[length] = leaves[0];
            assert_status(merkle_check(&root, &leaves[LEAVES_MAX - 1], i, n, path, length),
                          AMI_BAD_PROOF);
            for (size_t j = 0; j < n + 3; j++)
                if (j != i)
                    assert_status(merkle_check(&root, &leaves[i], j, n, path, length),
                                  AMI_BAD_PROOF);
            assert_status(merkle_check(&root, &leaves[i], i, n, path, length + 1), AMI_BAD_PROOF);
            if (length > 0)
                assert_status(merkle_check(&root, &leaves[i], i, n, path, length - 1),
                              AMI_BAD_PROOF);
            for (size_t k = 0; k < length; k++) {
                path[k].b[(7 * k + i) % SM3_BYTES] ^= 4;
                assert_status(merkle_check(&root, &leaves[i], i, n, path, length), AMI_BAD_PROOF);
                path[k].b[(7 * k + i) % SM3_BYTES] ^= 4;
            }
        }
        sm3_digest other = root;
        other.b[31] ^= 1;
        size_t length = merkle_path(path, leaves, n, 0);
        assert_status(merkle_check(&other, &leaves[0], 0, n, path, length), AMI_BAD_PROOF);
    }
    assert_status(merkle_check(&leaves[0], &leaves[0], 0, 0, NULL, 0), AMI_BAD_PROOF);
    /* Counts that no block has must end all the same. */
    assert_status(merkle_check(&leaves[0], &leaves[0], UINT64_MAX - 1, UINT64_MAX, path, 32),
                  AMI_BAD_PROOF);
}

/* A climb in steps of any size passes the nodes that the path's rest leads to the root from, and
 * the node of a level has the same place in it for all leaves below. */
static void climbs_in_steps(void **state)
{
    (void)state;
    sm3_digest leaves[LEAVES_MAX], path[MERKLE_PATH_MAX];
    for (size_t i = 0; i < LEAVES_MAX; i++)
        leaves[i] = leaf_of(i);
    for (size_t n = 1; n <= LEAVES_MAX; n++) {
        const sm3_digest root = naive_root(leaves, n);
        for (size_t i = 0; i < n; i++) {
            const size_t length = merkle_path(path, leaves, n, i);
            for (unsigned levels = 1; levels <= 7; levels++) {
                struct merkle_climb c = {leaves[i], i, n, path, length};
                assert_ok(merkle_climb(&c, 0));
                assert_digest(c.node, leaves[i]);
                for (size_t below = 1; c.count > 1;) {
                    assert_ok(merkle_climb(&c, levels));
                    below <<= levels;
                    const size_t first = i / below * below;
                    const size_t under = n - first < below ? n - first : below;
                    assert_int_equal(c.index, i / below);
                    assert_int_equal(c.count, (n + below - 1) / below);
                    assert_digest(c.node, naive_root(leaves + first, under));
                    assert_ok(merkle_check(&root, &c.node, c.index, c.count, c.path, c.path_size));
                }
                assert_int_equal(c.path_size, 0);
                assert_true(c.path == path + length);
                assert_digest(c.node, root);
                assert_ok(merkle_climb(&c, levels)); /* nothing is above */
                assert_digest(c.node, root);
            }
            struct merkle_climb c = {leaves[i], i, n, path, length - 1};
            if (length > 0)
                assert_status(merkle_climb(&c, 7), AMI_BAD_PROOF);
        }
        struct merkle_climb c = {leaves[0], n, n, path, MERKLE_PATH_MAX};
        assert_status(merkle_climb(&c, 0), AMI_BAD_PROOF);
    }
}

static void check_tree(struct merkle_tree *t, const sm3_digest *leaves, size_t n)
{
    sm3_digest path[MERKLE_PATH_MAX], naive[MERKLE_PATH_MAX];
    assert_int_equal(merkle_tree_size(t), n);
    assert_digest(merkle_tree_root(t), naive_root(leaves, n));
    for (size_t i = 0; i < n; i += 1 + n / 9) {
        size_t length = merkle_tree_path(t, i, path);
        assert_int_equal(length, naive_path(naive, leaves, n, i));
        assert_memory_equal(path, naive, length * sizeof path[0]);
        assert_digest(merkle_tree_leaf(t, i), leaves[i]);
    }
}

static void a_tree_that_grows_leaf_by_leaf(void **state)
{
    (void)state;
    struct merkle_tree *t = merkle_tree_new();
    sm3_digest leaves[LEAVES_MAX];
    assert_non_null(t);
    check_tree(t, leaves, 0);
    for (size_t n = 0; n < LEAVES_MAX; n++) {
        leaves[n] = leaf_of(n);
        assert_ok(merkle_tree_set(t, n, &leaves[n]));
        check_tree(t, leaves, n + 1);
    }
    for (size_t n = LEAVES_MAX; n-- > 0;) {
        merkle_tree_truncate(t, n);
        check_tree(t, leaves, n);
    }
    merkle_tree_free(t);
}

/* Changes, growth and truncation in any order, with and without a root in between. */
static void a_tree_that_changes_at_random(void **state)
{
    (void)state;
    enum { MAX = 400 };
    struct merkle_tree *t = merkle_tree_new();
    sm3_digest *leaves = calloc(MAX, sizeof *leaves);
    uint64_t rng = 7;
    size_t n = 0;
    assert_non_null(t);
    assert_non_null(leaves);
    for (unsigned step = 0; step < 6000; step++) {
        uint64_t what = fixture_u64(&rng) % 100;
        if (what < 55 && n < MAX) {
            leaves[n] = leaf_of(fixture_u64(&rng));
            assert_ok(merkle_tree_set(t, n, &leaves[n]));
            n++;
        } else if (what < 90 && n > 0) {
            size_t i = fixture_u64(&rng) % n;
            leaves[i] = leaf_of(fixture_u64(&rng));
            assert_ok(merkle_tree_set(t, i, &leaves[i]));
        } else if (what < 93) {
            n -= fixture_u64(&rng) % (n + 1) / (what == 92 ? 1 : 8);
            merkle_tree_truncate(t, n);
        } else {
            check_tree(t, leaves, n);
        }
    }
    check_tree(t, leaves, n);
    free(leaves);
    merkle_tree_free(t);
}

static void room_made_beforehand(void **state)
{
    (void)state;
    struct merkle_tree *t = merkle_tree_new();
    sm3_digest leaves[40];
    assert_non_null(t);
    assert_ok(merkle_tree_reserve(t, 1000));
    assert_status(merkle_tree_reserve(t, UINT64_C(1) << 32), AMI_TOO_LARGE);
    for (size_t i = 0; i < 40; i++) {
        leaves[i] = leaf_of(i);
        assert_ok(merkle_tree_set(t, i, &leaves[i]));
    }
    check_tree(t, leaves, 40);
    merkle_tree_free(t);
    merkle_tree_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_leaf_is_no_node),
        cmocka_unit_test(roots_and_paths_of_0_to_70_leaves),
        cmocka_unit_test(tampered_paths),
        cmocka_unit_test(climbs_in_steps),
        cmocka_unit_test(a_tree_that_grows_leaf_by_leaf),
        cmocka_unit_test(a_tree_that_changes_at_random),
        cmocka_unit_test(room_made_beforehand),
    };
    return cmocka_run_group_tests(tests, start_crypto, NULL);
}
