/* The shape of the indexes over hundreds of thousands of blocks, against a list of all rows. */
#include "tests/harness.h"

#include "crypto/secret.h"
#include "ledger/runs.h"

#include <stdlib.h>
#include <string.h>

/* --- a store of runs in memory ---------------------------------------------------------------- */

#define BLOCKS 280000 /* more than a run of level 3 takes to be complete */
#define NAMES  (1u << 20)

struct value {
    bool used;
    struct run_name name;
    uint8_t *rows;
    size_t count;
};
static struct value *values; /* a hash table */
static uint64_t kept, most;  /* rows in runs; values there at once */
static uint64_t there;

static struct value *value_of(const struct run_name *n)
{
    uint64_t h = (n->run * 0x9e3779b97f4a7c15 + n->slice + n->level) * 0xbf58476d1ce4e5b9;
    for (size_t i = h >> 44;; i = (i + 1) % NAMES) {
        struct value *v = &values[i];
        if (!v->used ||
            (v->name.level == n->level && v->name.run == n->run && v->name.slice == n->slice))
            return v;
    }
}

static void put(const struct run_name *n, const uint8_t *rows, size_t count)
{
    struct value *v = value_of(n);
    assert_false(v->used && v->rows != NULL);
    v->used = true; /* and for ever: the table has room for all */
    v->name = *n;
    v->rows = malloc(count * ROW_BYTES);
    assert_non_null(v->rows);
    memcpy(v->rows, rows, count * ROW_BYTES);
    v->count = count;
    kept += count;
    if (++there > most)
        most = there;
}

static uint8_t row_now[64 * 64 * ROW_BYTES];

static void put_slices(unsigned level, uint64_t run, uint8_t *rows, size_t count)
{
    rows_sort(rows, count);
    for (size_t at = 0; at < count;) {
        size_t end = at;
        struct run_name n = {level, run, runs_slice_of(level, rows + ROW_BYTES * at)};
        while (end < count && runs_slice_of(level, rows + ROW_BYTES * end) == n.slice)
            end++;
        put(&n, rows + ROW_BYTES * at, end - at);
        at = end;
    }
}

/* One row a block. */
static void row_of(uint8_t row[ROW_BYTES], uint64_t height)
{
    uint8_t b[8];
    store_be64(b, height);
    sm3_digest d = sm3(span_of(b, sizeof b));
    memcpy(row, d.b, ROW_KEY_BYTES);
    store_be64(row + ROW_KEY_BYTES, height);
    store_be32(row + ROW_KEY_BYTES + 8, (uint32_t)height % 7);
}

static void go_on(uint64_t height)
{
    struct run_part p;
    if (height % RUNS_FAN == 0) {
        assert_false(runs_part(height, &p));
        for (size_t i = 0; i < RUNS_FAN; i++)
            row_of(row_now + ROW_BYTES * i, height - RUNS_FAN + 1 + i);
        put_slices(1, height / RUNS_FAN - 1, row_now, RUNS_FAN);
    } else if (runs_part(height, &p)) {
        size_t count = 0;
        for (unsigned i = 0; i < RUNS_FAN; i++) {
            struct run_name n = {p.level - 1, p.run * RUNS_FAN + i, p.part};
            struct value *v = value_of(&n);
            assert_true(runs_has(&n, height - 1));
            assert_false(runs_has(&n, height));
            if (v->rows == NULL)
                continue;
            assert_true(count + v->count <= sizeof row_now / ROW_BYTES);
            memcpy(row_now + ROW_BYTES * count, v->rows, ROW_BYTES * v->count);
            count += v->count;
            kept -= v->count;
            there--;
            free(v->rows);
            v->rows = NULL;
        }
        put_slices(p.level, p.run, row_now, count);
    }
}

static unsigned find(uint64_t tip, uint64_t height)
{
    uint8_t row[ROW_BYTES];
    struct row_key key;
    struct run_name n;
    unsigned looks = 0;
    row_of(row, height);
    memcpy(key.b, row, sizeof key.b);
    struct runs_walk w = runs_walk_on(tip, &key);
    while (runs_walk_next(&w, &n)) {
        const struct value *v = value_of(&n);
        uint64_t found;
        uint32_t index;
        looks++;
        assert_true(runs_has(&n, tip));
        if (v->rows == NULL || !rows_find(v->rows, v->count, &key, tip, &found, &index))
            continue;
        assert_int_equal(found, height);
        assert_int_equal(index, height % 7);
        assert_true(run_covers(&n, row));
        return looks;
    }
    fail_msg("block %llu is not found at %llu", (unsigned long long)height,
             (unsigned long long)tip);
    return 0;
}

static void every_row_is_found_at_every_height(void **state)
{
    (void)state;
    unsigned looks = 0;
    values = calloc(NAMES, sizeof *values);
    assert_non_null(values);
    for (uint64_t tip = 1; tip <= BLOCKS; tip++) {
        go_on(tip);
        const uint64_t written = tip - tip % RUNS_FAN;
        assert_int_equal(kept, written);
        /* The oldest, the newest, and some in between. */
        for (uint64_t i = 0; i < 3 && written != 0 && tip % 50 == 0; i++) {
            unsigned n = find(tip, i == 0 ? 1 : i == 1 ? written : 1 + tip * 7919 % written);
            if (n > looks)
                looks = n;
        }
    }
    for (uint64_t height = 1; height <= BLOCKS - BLOCKS % RUNS_FAN; height++)
        (void)find(BLOCKS, height);
    assert_true(looks <= 3 * 127);
    for (size_t i = 0; i < NAMES; i++)
        if (values[i].rows != NULL) {
            assert_true(runs_has(&values[i].name, BLOCKS));
            free(values[i].rows);
        }
    free(values);
}

/* No block makes two parts, and each part of each run is made once, in order. */
static void every_part_has_its_block(void **state)
{
    (void)state;
    uint64_t next[RUNS_LEVELS + 1] = {0}; /* number of the next part, runs one after another */
    struct run_part p;
    for (uint64_t h = 1; h <= 20u << 20; h++) {
        if (!runs_part(h, &p))
            continue;
        const uint64_t a_run = runs_blocks(p.level - 1);
        assert_int_equal(p.run * a_run + p.part, next[p.level]);
        next[p.level]++;
        /* What it takes is complete. */
        for (unsigned i = 0; i < RUNS_FAN; i += RUNS_FAN - 1)
            assert_true(
                runs_has(&(struct run_name){p.level - 1, p.run * RUNS_FAN + i, p.part}, h - 1));
    }
    for (unsigned level = 2; level <= 4; level++)
        assert_true(next[level] > 0);
}

/* --- rows ------------------------------------------------------------------------------------- */

static void the_last_row_of_a_key_is_found(void **state)
{
    (void)state;
    uint8_t rows[100 * ROW_BYTES] = {0};
    struct row_key key = {{0}};
    uint64_t height;
    uint32_t index;
    assert_false(rows_find(rows, 0, &key, UINT64_MAX, &height, &index));
    for (unsigned i = 0; i < 100; i++) { /* keys 0, 2, 4 ... at heights 10 and 20 */
        uint8_t *row = rows + ROW_BYTES * (99 - i);
        row[ROW_KEY_BYTES - 1] = (uint8_t)(i / 2 * 2);
        store_be64(row + ROW_KEY_BYTES, 10 + i % 2 * 10);
        store_be32(row + ROW_KEY_BYTES + 8, i);
    }
    rows_sort(rows, 100);
    for (unsigned k = 0; k < 101; k++) {
        key.b[ROW_KEY_BYTES - 1] = (uint8_t)k;
        bool there_is = k % 2 == 0 && k < 100;
        assert_int_equal(rows_find(rows, 100, &key, 20, &height, &index), there_is);
        if (there_is)
            assert_int_equal(height, 20);
        assert_int_equal(rows_find(rows, 100, &key, 19, &height, &index), there_is);
        if (there_is)
            assert_true(height == 10 && index == k);
        assert_false(rows_find(rows, 100, &key, 9, &height, &index));
    }
}

/* Whatever the keys: evenly spread, all of one beginning, all the same, none. */
static void rows_are_sorted(void **state)
{
    (void)state;
    static uint8_t rows[3000 * ROW_BYTES];
    const uint8_t secret[ROWS_SECRET_BYTES] = {3};
    static const size_t shared[] = {0, 2, 3, 8, ROW_KEY_BYTES};
    for (size_t kind = 0; kind < sizeof shared / sizeof shared[0]; kind++)
        for (size_t count = 0; count <= 3000; count = 2 * count + 1) {
            struct rows_sum before = {0}, after = {0};
            for (size_t i = 0; i < count; i++) {
                uint8_t *row = rows + ROW_BYTES * i;
                row_of(row, (i * 7919) % 3001 + 1);
                memset(row, 0xa5, shared[kind]);
            }
            rows_sum_add(&before, secret, rows, count);
            rows_sort(rows, count);
            rows_sum_add(&after, secret, rows, count);
            assert_true(rows_sum_equal(&before, &after));
            for (size_t i = 1; i < count; i++)
                assert_true(ROW_ORDER(rows + ROW_BYTES * (i - 1), rows + ROW_BYTES * i) <= 0);
        }
}

static void a_sum_is_of_rows_in_any_order(void **state)
{
    (void)state;
    static uint8_t rows[150 * ROW_BYTES];
    uint8_t secret[ROWS_SECRET_BYTES] = {1}, other[ROWS_SECRET_BYTES] = {2};
    struct rows_sum all = {0}, parts = {0}, changed = {0}, foreign = {0};
    for (unsigned i = 0; i < 150; i++)
        row_of(rows + (size_t)ROW_BYTES * i, i + 1);
    rows_sum_add(&all, secret, rows, 150);
    rows_sum_add(&foreign, other, rows, 150);
    for (unsigned i = 150; i-- > 0;)
        rows_sum_add(&parts, secret, rows + (size_t)ROW_BYTES * i, 1);
    assert_true(rows_sum_equal(&all, &parts));
    assert_false(rows_sum_equal(&all, &foreign));
    for (unsigned at = 0; at < ROW_BYTES; at++) {
        changed = (struct rows_sum){0};
        rows[at] ^= 1;
        rows_sum_add(&changed, secret, rows, 150);
        rows[at] ^= 1;
        assert_false(rows_sum_equal(&all, &changed));
    }
}

static void names_come_back(void **state)
{
    (void)state;
    uint8_t b[RUN_KEY_BYTES + 1], row[ROW_BYTES], begin[ROW_BYTES];
    const uint8_t *first;
    struct run_name got;
    for (uint64_t h = 1; h < 100; h++)
        for (unsigned level = 1; level <= RUNS_LEVELS; level++) {
            row_of(row, h);
            run_key_encode(b, level, 77, row);
            assert_true(run_key_parse(&got, &first, span_of(b, RUN_KEY_BYTES)));
            assert_true(got.level == level && got.run == 77);
            assert_int_equal(got.slice, runs_slice_of(level, row));
            assert_memory_equal(first, row, ROW_BYTES);
            run_slice_begin(begin, &got);
            assert_int_equal(runs_slice_of(level, begin), got.slice);
            assert_true(ROW_ORDER(begin, row) < 0);
            if (got.slice == 0)
                continue;
            got.slice--;
            run_slice_begin(row, &got);
            assert_true(ROW_ORDER(row, begin) < 0);
            assert_int_equal(runs_slice_of(level, row), got.slice);
        }
    assert_false(run_key_parse(&got, &first, span_of(b, RUN_KEY_BYTES - 1)));
    assert_false(run_key_parse(&got, &first, span_of(b, RUN_KEY_BYTES + 1)));
    b[0] = 0;
    assert_false(run_key_parse(&got, &first, span_of(b, RUN_KEY_BYTES)));
    b[0] = RUNS_LEVELS + 1;
    assert_false(run_key_parse(&got, &first, span_of(b, RUN_KEY_BYTES)));
}

/* Whether the second piece, the first one being right, is one too. */
static bool second_is_right(uint64_t tip, unsigned level, uint64_t run, const uint8_t *name,
                            const uint8_t *rows, size_t count)
{
    uint8_t one[ROW_BYTES] = {0}, key[RUN_KEY_BYTES];
    struct run_pieces p = {.last_row = {0}};
    one[ROW_KEY_BYTES - 1] = 5;
    store_be64(one + ROW_KEY_BYTES, 2);
    run_key_encode(key, 1, 0, one);
    assert_true(run_piece_is_right(&p, 64, span_of(key, sizeof key), span_of(one, sizeof one)));
    run_key_encode(key, level, run, name);
    return run_piece_is_right(&p, tip, span_of(key, sizeof key), span_of(rows, ROW_BYTES * count));
}

static void a_piece_is_in_order_and_of_its_run(void **state)
{
    (void)state;
    static uint8_t rows[(RUN_PIECE_ROWS + 1) * ROW_BYTES];
    for (size_t i = 0; i <= RUN_PIECE_ROWS; i++) {
        store_be64(rows + ROW_BYTES * i + ROW_KEY_BYTES - 8, 6 + i);
        store_be64(rows + ROW_BYTES * i + ROW_KEY_BYTES, 1 + i % 64);
    }
    assert_true(second_is_right(64, 1, 0, rows, rows, RUN_PIECE_ROWS));
    assert_true(second_is_right(64, 1, 0, rows, rows, 1));
    assert_false(second_is_right(64, 1, 0, rows, rows, RUN_PIECE_ROWS + 1)); /* too long */
    assert_false(second_is_right(64, 1, 0, rows, rows, 0));
    assert_false(second_is_right(63, 1, 0, rows, rows, 1));             /* not there yet */
    assert_false(second_is_right(128, 1, 1, rows, rows, 1));            /* of another run */
    assert_false(second_is_right(64, 1, 0, rows + ROW_BYTES, rows, 1)); /* of another name */
    rows[2 * ROW_BYTES + ROW_KEY_BYTES - 1] = 7; /* as the one before, or above */
    assert_true(second_is_right(64, 1, 0, rows, rows, 3));
    rows[ROW_BYTES + ROW_KEY_BYTES - 1] = 9;
    assert_false(second_is_right(64, 1, 0, rows, rows, 3));
    assert_true(second_is_right(64, 1, 0, rows, rows, 2));
    rows[ROW_KEY_BYTES - 1] = 4; /* before the end of the piece before */
    assert_false(second_is_right(64, 1, 0, rows, rows, 1));
    rows[0] = 0xff; /* the end of the run, its last slice */
    assert_true(second_is_right(64, 1, 0, rows, rows, 1));
    assert_false(second_is_right(64, 1, 0, rows, rows, 2)); /* two slices, and in no order */
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_is_found_at_every_height),
        cmocka_unit_test(every_part_has_its_block),
        cmocka_unit_test(the_last_row_of_a_key_is_found),
        cmocka_unit_test(rows_are_sorted),
        cmocka_unit_test(a_sum_is_of_rows_in_any_order),
        cmocka_unit_test(names_come_back),
        cmocka_unit_test(a_piece_is_in_order_and_of_its_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
