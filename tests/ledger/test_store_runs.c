/* Transactions and reports are found in a ledger that is long enough to have runs of two levels and
 * parts of one, however it was opened on the way; and the registry's records, which are written in
 * bulk, are those of the last block. */
#include "tests/ledger/store_dir.h"

#include "ledger/store_check.h"
#include "ledger/store_lmdb.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Above 64 x 64 + 64: level 2 has some parts of its first run, and level 1 the rest. */
#define BLOCKS 4700
/* Some whose rows make slices of several pieces. */
#define LARGE_FROM 100
#define LARGE_TO   103
#define LARGE_TXS  3000

static char copy_dir[280];
static struct store *s;
static sm3_digest tx[BLOCKS + 101];
static uint64_t sequence[BLOCKS + 101];

/* Thousands of writes: what the disk does with them is not this test's matter. */
int fdatasync(int fd)
{
    (void)fd;
    return 0;
}

static uint32_t txs_of(uint64_t height)
{
    return height >= LARGE_FROM && height <= LARGE_TO ? LARGE_TXS : 2;
}

static struct store *open_ledger(const char *at, enum store_mode mode)
{
    struct store *out;
    enum ami_status status = store_open(&out, at, &chain, mode, 0, why, sizeof why);
    if (status != AMI_OK)
        fail_msg("%s: %s", ami_status_name(status), why);
    return out;
}

static void assert_found(struct store *in, uint64_t from, uint64_t to, uint64_t step)
{
    const struct ami_id meter = meter_name();
    uint64_t height;
    uint32_t index;
    for (uint64_t h = from; h <= to; h += step) {
        assert_int_equal(store_find_tx(in, &tx[h], &height, &index), AMI_OK);
        assert_true(height == h && index == 0);
        assert_int_equal(store_find_report(in, &meter, 1, sequence[h] + 1, &height, &index),
                         AMI_OK);
        assert_true(height == h && index == 1);
    }
    for (uint64_t i = 0; i < LARGE_TXS && to >= LARGE_TO; i += step) {
        assert_int_equal(store_find_report(in, &meter, 1, sequence[LARGE_TO] + i, &height, &index),
                         AMI_OK);
        assert_true(height == LARGE_TO && index == i);
    }
    assert_int_equal(
        store_find_report(in, &meter, 1, sequence[to] + 2 * LARGE_TXS, &height, &index),
        AMI_NOT_FOUND);
    assert_int_equal(store_find_tx(in, &chain, &height, &index), AMI_NOT_FOUND);
}

/* --- records ---------------------------------------------------------------------------------- */

/* Block h changes record h % 200 of 200 meters, once all are there. */
#define METERS 200

static void record_of(struct record *rec, uint64_t index, uint64_t height)
{
    char name[16];
    snprintf(name, sizeof name, "m%u", (unsigned)index);
    *rec = (struct record){.kind = RECORD_METER,
                           .epoch = 1,
                           .w.b = {2, (uint8_t)index},
                           .agree_part_size = 33,
                           .enrolled_at = 1,
                           .floor = height};
    assert_int_equal(ami_id_from_text(&rec->name, name), AMI_OK);
    assert_int_equal(ami_id_from_text(&rec->home_dc, "dc0"), AMI_OK);
}

static uint64_t record_at(uint64_t height, uint64_t first)
{
    return first + (height - 1) % METERS;
}

static struct span records_of(uint8_t out[512], uint64_t height, uint64_t first)
{
    struct record rec;
    uint8_t encoded[RECORD_BYTES_MAX];
    struct writer r = writer_on(encoded, sizeof encoded), w = writer_on(out, 512);
    record_of(&rec, record_at(height, first), height);
    record_encode(&r, &rec);
    write_u64(&w, record_at(height, first));
    write_bytes(&w, writer_span(&r));
    assert_true(writer_ok(&w));
    return writer_span(&w);
}

static void assert_records(struct store *in, const struct genesis *g, uint64_t tip)
{
    struct registry *r = registry_new(g);
    uint64_t height;
    assert_non_null(r);
    const uint64_t first = registry_size(r);
    assert_int_equal(store_load_registry_at(in, r, &height), AMI_OK);
    assert_int_equal(height, tip);
    assert_int_equal(registry_size(r), first + (tip < METERS ? tip : METERS));
    for (uint64_t h = tip < METERS ? 1 : tip - METERS + 1; h <= tip; h++)
        assert_int_equal(registry_at(r, record_at(h, first))->floor, h);
    registry_free(r);
}

/* --- the whole -------------------------------------------------------------------------------- */

static void append_blocks(struct tip *tip, uint64_t to, uint64_t first)
{
    uint8_t records[512];
    while (tip->height < to) {
        struct made *b = make_block(tip, txs_of(tip->height + 1), 10);
        struct store_batch batch = commit_of(b);
        batch.records = records_of(records, b->header.height, first);
        tx[b->header.height] = b->first_tx;
        sequence[b->header.height] = b->first_sequence;
        assert_int_equal(store_write(s, &batch), AMI_OK);
        free_block(b);
    }
}

static void assert_sums(struct store *in, uint64_t tip)
{
    const uint8_t secret[ROWS_SECRET_BYTES] = {9};
    struct rows_sum made = {0}, kept = {0}, some = {0};
    struct certified_block b;
    const uint64_t written = tip - tip % RUNS_FAN;
    for (uint64_t h = 1; h <= written; h++) {
        assert_int_equal(store_block(in, h, &b, buffer, sizeof buffer), AMI_OK);
        assert_int_equal(store_sum_block(in, &made, secret, h, b.body), AMI_OK);
        if (h == RUNS_FAN)
            some = made;
    }
    assert_int_equal(store_sum_runs(in, &kept, secret, written), AMI_OK);
    uint64_t rows = 0;
    for (uint64_t h = 1; h <= written; h++)
        rows += 2 * txs_of(h);
    assert_int_equal(kept.rows, rows);
    assert_true(rows_sum_equal(&made, &kept));
    if (written == 0)
        return;
    kept = (struct rows_sum){0}; /* an audit that began earlier */
    assert_int_equal(store_sum_runs(in, &kept, secret, RUNS_FAN), AMI_OK);
    assert_true(rows_sum_equal(&some, &kept));
}

/* No value of an index needs more than one page, so none waits for free pages in a row. */
static void assert_pieces(struct store *in)
{
    MDB_txn *txn;
    MDB_cursor *cursor;
    MDB_val k, v;
    size_t longest = 0;
    assert_int_equal(store_begin(in, MDB_RDONLY, &txn), AMI_OK);
    assert_int_equal(mdb_cursor_open(txn, in->db[RUNS], &cursor), 0);
    while (mdb_cursor_get(cursor, &k, &v, MDB_NEXT) == 0)
        longest = v.mv_size > longest ? v.mv_size : longest;
    mdb_cursor_close(cursor);
    store_end(in, txn);
    assert_true(longest > 2048 && longest <= 4096 - 16);
}

static void assert_whole(const char *at)
{
    struct store_check_result result;
    if (store_check_all(at, &chain, NULL, NULL, &result, why, sizeof why) != AMI_OK)
        fail_msg("%s", why);
}

static void everything_is_found_in_a_long_ledger(void **state)
{
    (void)state;
    static const uint64_t stops[] = {1,    30,   63,   64,   65,   128,   200,
                                     4096, 4111, 4112, 4175, 4176, BLOCKS};
    struct genesis *g = genesis_of_made();
    struct registry *r = registry_new(g);
    const uint64_t first = registry_size(r);
    struct tip tip = tip_at_start();
    registry_free(r);
    for (size_t i = 0; i < sizeof stops / sizeof stops[0]; i++) {
        s = open_ledger(dir, STORE_READ_WRITE);
        assert_int_equal(s->tail.to, tip.height); /* the next run's write is not to read blocks */
        append_blocks(&tip, stops[i], first);
        assert_int_equal(s->tail.to, tip.height);
        assert_found(s, 1, tip.height, tip.height < 300 ? 1 : 37);
        assert_records(s, g, tip.height);
        store_close(s);
        assert_whole(dir);
        s = open_ledger(dir, STORE_READ_ONLY);
        assert_found(s, 1, tip.height, tip.height < 300 ? 1 : 41);
        assert_records(s, g, tip.height);
        assert_sums(s, tip.height);
        store_close(s);
    }
    s = open_ledger(dir, STORE_READ_WRITE);
    assert_found(s, 1, tip.height, 1);
    assert_pieces(s);
    uint64_t height;
    snprintf(copy_dir, sizeof copy_dir, "%s-copy", dir);
    uint8_t salt[ROW_SALT_BYTES];
    assert_int_equal(store_copy(s, copy_dir, &height, NULL, NULL, why, sizeof why), AMI_OK);
    memcpy(salt, s->salt, sizeof salt);
    store_close(s);
    assert_whole(copy_dir);
    s = open_ledger(copy_dir, STORE_READ_WRITE);
    assert_memory_not_equal(salt, s->salt, sizeof salt); /* it is each node's own */
    assert_sums(s, tip.height);
    assert_found(s, 1, tip.height, 7);
    append_blocks(&tip, tip.height + 100, first);
    assert_found(s, 1, tip.height, 7);
    assert_records(s, g, tip.height);
    store_close(s);
    assert_whole(copy_dir);
    static const char *const names[] = {"data.mdb", "lock.mdb", "ledger.lock"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[320];
        snprintf(path, sizeof path, "%s/%s", copy_dir, names[i]);
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(rmdir(copy_dir), 0);
    free(g);
}

/* --- a run that is gone or wrong -------------------------------------------------------------- */

enum spoiling { ONE_BIT, NO_ROWS, GONE };

/* The one piece of this slice. */
static void spoil(const struct run_name *n, enum spoiling how)
{
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_cursor *cursor;
    uint8_t begin[ROW_BYTES], key[RUN_KEY_BYTES], *bytes;
    MDB_val k = {sizeof key, key}, v;
    run_slice_begin(begin, n);
    run_key_encode(key, n->level, n->run, begin);
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_set_maxdbs(env, 16), 0);
    assert_int_equal(mdb_env_open(env, dir, 0, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, "runs", 0, &dbi), 0);
    assert_int_equal(mdb_cursor_open(txn, dbi, &cursor), 0);
    assert_int_equal(mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE), 0);
    assert_int_equal(k.mv_size, sizeof key);
    memcpy(key, k.mv_data, sizeof key);
    k.mv_data = key;
    mdb_cursor_close(cursor);
    bytes = malloc(v.mv_size);
    assert_non_null(bytes);
    memcpy(bytes, v.mv_data, v.mv_size);
    bytes[v.mv_size - STORE_CHECK_BYTES - 1] ^= 1;
    if (how == NO_ROWS)
        memset(bytes, 0, v.mv_size - STORE_CHECK_BYTES);
    v.mv_data = bytes;
    assert_int_equal(how == GONE ? mdb_del(txn, dbi, &k, NULL) : mdb_put(txn, dbi, &k, &v, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    free(bytes);
}

/* An id of no transaction, whose row would stand behind this one in its slice of level 1. */
static sm3_digest missing_behind(const struct row_key *row)
{
    sm3_digest id = {{0}};
    for (uint32_t i = 0;; i++) {
        store_be32(id.b, i);
        const struct row_key key = row_tx_key(s->salt, &id);
        if (runs_slice_of(1, key.b) == runs_slice_of(1, row->b) &&
            memcmp(key.b, row->b, sizeof key.b) > 0)
            return id;
    }
}

/* One of the first 64 blocks whose transaction shares its slice with another's: a bit of the other
 * rows is not in the piece's name. */
static uint64_t one_of_two(void)
{
    for (uint64_t h = 2; h <= 64; h++)
        for (uint64_t other = 1; other < h; other++) {
            const struct row_key a = row_tx_key(s->salt, &tx[h]);
            const struct row_key b = row_tx_key(s->salt, &tx[other]);
            if (runs_slice_of(1, a.b) == runs_slice_of(1, b.b))
                return h;
        }
    fail_msg("64 rows in 64 slices, one in each");
    return 0;
}

static void a_damaged_run_is_not_believed(void **state)
{
    (void)state;
    struct tip tip = tip_at_start();
    struct genesis *g = genesis_of_made();
    struct registry *r = registry_new(g);
    struct store_check_result result;
    struct rows_sum sum = {0};
    uint8_t secret[ROWS_SECRET_BYTES] = {1};
    uint64_t height;
    uint32_t index;
    s = open_ledger(dir, STORE_READ_WRITE);
    append_blocks(&tip, 64, registry_size(r));
    const uint64_t kept = one_of_two();
    const struct row_key key = row_tx_key(s->salt, &tx[kept]);
    store_close(s);
    const struct run_name n = {1, 0, runs_slice_of(1, key.b)};
    spoil(&n, ONE_BIT);
    assert_int_equal(store_check_all(dir, &chain, NULL, NULL, &result, why, sizeof why),
                     AMI_DAMAGED);
    s = open_ledger(dir, STORE_READ_ONLY);
    /* To say that something is not there takes a look at the rows around its place, not at all. */
    const sm3_digest missing = missing_behind(&key);
    assert_int_equal(store_find_tx(s, &missing, &height, &index), AMI_NOT_FOUND);
    assert_false(store_damaged(s));
    assert_int_equal(store_find_tx(s, &tx[kept], &height, &index), AMI_DAMAGED);
    assert_int_equal(store_sum_runs(s, &sum, secret, 64), AMI_DAMAGED);
    assert_true(store_damaged(s));
    store_close(s);
    spoil(&n, NO_ROWS);
    s = open_ledger(dir, STORE_READ_ONLY);
    assert_int_equal(store_find_tx(s, &missing, &height, &index), AMI_DAMAGED);
    assert_int_equal(store_find_tx(s, &tx[kept], &height, &index), AMI_DAMAGED);
    assert_true(store_damaged(s));
    store_close(s);
    spoil(&n, GONE);
    assert_int_equal(store_check_all(dir, &chain, NULL, NULL, &result, why, sizeof why),
                     AMI_DAMAGED);
    s = open_ledger(dir, STORE_READ_ONLY);
    assert_int_equal(store_find_tx(s, &tx[kept], &height, &index), AMI_NOT_FOUND);
    sum = (struct rows_sum){0};
    assert_int_equal(store_sum_runs(s, &sum, secret, 64), AMI_OK);
    assert_true(sum.rows < 4 * 64);
    store_close(s);
    registry_free(r);
    free(g);
}

/* --- changes that are none -------------------------------------------------------------------- */

/* What a forged ledger may have under a height that is still to come: the registry is the same now,
 * and an older one after the next blocks. */
static void put_changes(uint64_t height, struct span changes)
{
    uint8_t key[8];
    MDB_txn *txn;
    assert_int_equal(store_begin(s, 0, &txn), AMI_OK);
    assert_int_equal(
        store_put_value(s, txn, CHANGES, store_key_u64(key, height), changes, span_of(NULL, 0), 0),
        0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    pthread_rwlock_unlock(&s->map_lock);
}

static void changes_of_another_height_are_damage(void **state)
{
    (void)state;
    static const uint64_t heights[] = {64, 67, 71, 128};
    struct genesis *g = genesis_of_made();
    struct registry *r = registry_new(g);
    const uint64_t first = registry_size(r);
    uint8_t records[512];
    registry_free(r);
    for (size_t i = 0; i < sizeof heights / sizeof heights[0]; i++) {
        struct tip tip = tip_at_start();
        s = open_ledger(dir, STORE_READ_WRITE);
        append_blocks(&tip, 66, first);
        r = registry_new(g);
        assert_int_equal(store_load_registry(s, r), AMI_OK);
        registry_free(r);
        put_changes(heights[i], records_of(records, 66, first));
        r = registry_new(g);
        assert_int_equal(store_load_registry(s, r), AMI_DAMAGED);
        registry_free(r);
        store_close(s);
        remove_file("data.mdb");
    }
    free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_DISK(everything_is_found_in_a_long_ledger),
        ON_DISK(a_damaged_run_is_not_believed),
        ON_DISK(changes_of_another_height_are_damage),
    };
    return cmocka_run_group_tests(tests, start_crypto, NULL);
}
