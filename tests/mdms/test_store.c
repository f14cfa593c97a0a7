/* The MDMS's store on a disk, and above all its reports: what was written is read in order of
 * meters, whatever merges are under way, whoever reads meanwhile and wherever power is lost; and
 * what is damaged is said to be so. */
#include "tests/harness.h"

#include "mdms/core.h"
#include "mdms/reports.h"
#include "mdms/store.h"

#include <lmdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- a folder --------------------------------------------------------------------------------- */

static char folder[64];
static struct why why;

static int make_folder(void **state)
{
    (void)state;
    const struct state_record zero = {0};
    strcpy(folder, "/tmp/ami-mdms-store-XXXXXX");
    memset(&why, 0, sizeof why);
    return mkdtemp(folder) == NULL || mdms_store_create(folder, &zero, &why) != AMI_OK;
}

static int drop_folder(void **state)
{
    static const char *const files[] = {"store/data.mdb", "store/lock.mdb"};
    char path[128];
    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        (void)unlink(path);
    }
    snprintf(path, sizeof path, "%s/store", folder);
    return rmdir(path) != 0 || rmdir(folder) != 0;
}

static struct mdms_store *opened(uint64_t map_bytes)
{
    struct mdms_store *s = NULL;
    assert_ok(mdms_store_open(&s, folder, map_bytes, &why));
    return s;
}

/* --- reports ---------------------------------------------------------------------------------- */

static uint64_t drawn;

static uint64_t draw(uint64_t below)
{
    drawn = drawn * 6364136223846793005u + 1442695040888963407u;
    return (drawn >> 33) % below;
}

/* Names of several lengths, some of which begin others. */
static struct mdms_key key_of(uint64_t meter, uint32_t epoch, uint64_t sequence)
{
    char text[AMI_ID_BYTES_MAX + 1];
    struct ami_id id;
    snprintf(text, sizeof text, meter % 3 == 0 ? "m%llu" : "meter-%llu", (unsigned long long)meter);
    assert_ok(ami_id_from_text(&id, text));
    return key_report(&id, epoch, sequence);
}

static void add(struct mdms_write *w, const struct mdms_key *key, uint64_t height, size_t m_size)
{
    static const uint8_t m[AMI_REPORT_BYTES_MAX] = {1, 2, 3};
    uint8_t bytes[MDMS_RECORD_BYTES_MAX];
    struct report_record r = {.height = height, .m = span_of(m, m_size)};
    assert_ok(ami_id_from_text(&r.dc, "dc-1"));
    struct writer out = writer_on(bytes, sizeof bytes);
    report_record_encode(&out, &r);
    assert_true(writer_ok(&out));
    mdms_write_put(w, TABLE_REPORTS, key, writer_span(&out));
}

static void add_state(struct mdms_write *w, uint64_t height)
{
    uint8_t bytes[256];
    const struct state_record state = {.height = height};
    struct writer out = writer_on(bytes, sizeof bytes);
    state_record_encode(&out, &state);
    const struct mdms_key key = key_state();
    mdms_write_put(w, TABLE_STATE, &key, writer_span(&out));
}

static void write_one(struct mdms_store *s, const struct mdms_key *key, uint64_t height)
{
    struct mdms_write w = {0};
    add(&w, key, height, 40);
    assert_ok(mdms_store_write(s, &w, &why));
    mdms_write_free(&w);
}

static bool height_is(struct mdms_store *s, const struct mdms_key *key, uint64_t height)
{
    const struct mdms_kv kv = mdms_store_kv(s);
    struct span value;
    struct report_record r;
    if (kv.get(kv.ctx, TABLE_REPORTS, key_span(key), &value) != AMI_OK)
        return height == 0;
    assert_ok(report_record_parse(&r, value));
    return r.height == height;
}

/* --- a model ---------------------------------------------------------------------------------- */

/* What the store should hold. */
struct model {
    struct expected {
        struct mdms_key key;
        uint64_t height;
    } * row;
    size_t count, room;
    bool sorted;
};

static int compare_expected(const void *a, const void *b)
{
    const struct expected *x = a, *y = b;
    const size_t size = x->key.size < y->key.size ? x->key.size : y->key.size;
    const int order = memcmp(x->key.b, y->key.b, size);
    return order != 0 ? order : x->key.size - y->key.size;
}

static void model_add(struct model *m, const struct mdms_key *key, uint64_t height)
{
    if (m->count == m->room) {
        m->room = 2 * m->room + 1024;
        m->row = realloc(m->row, m->room * sizeof *m->row);
        assert_non_null(m->row);
    }
    m->row[m->count++] = (struct expected){*key, height};
    m->sorted = false;
}

/* How many are below this key. */
static size_t model_below(struct model *m, const struct mdms_key *key)
{
    const struct expected at = {.key = *key};
    size_t low = 0, high = m->count;
    if (!m->sorted && m->count > 1)
        qsort(m->row, m->count, sizeof *m->row, compare_expected);
    m->sorted = true;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (compare_expected(&m->row[middle], &at) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct comparison {
    const struct model *m;
    size_t at, end;
};

static bool as_in_model(void *ctx, struct span key, struct span value)
{
    struct comparison *c = ctx;
    struct report_record r;
    assert_true(c->at < c->m->count);
    const struct expected *e = &c->m->row[c->at];
    assert_true(span_equal(key, key_span(&e->key)));
    assert_ok(report_record_parse(&r, value));
    assert_int_equal(r.height, e->height);
    return ++c->at < c->end;
}

/* The next `count` reports from `from` on are the model's. */
static void check_from(struct mdms_store *s, struct model *m, const struct mdms_key *from,
                       size_t count)
{
    struct comparison c = {.m = m, .at = model_below(m, from)};
    c.end = count < m->count - c.at ? c.at + count : m->count;
    const bool any = c.at < m->count;
    assert_ok(mdms_store_scan(s, TABLE_REPORTS, key_span(from), as_in_model, &c, &why));
    assert_int_equal(c.at, any ? c.end : m->count);
}

static void check_all(struct mdms_store *s, struct model *m)
{
    const struct mdms_key zero = {0};
    check_from(s, m, &zero, SIZE_MAX);
}

/* A write of `count` reports: of meters in turn, each next in number but for some that come from
 * long ago, as after a change of keys. */
static void write_many(struct mdms_store *s, struct model *m, uint64_t height, size_t count,
                       uint64_t meters)
{
    struct mdms_write w = {0};
    for (size_t i = 0; i < count; i++) {
        const uint64_t meter = draw(meters), old = draw(10);
        const struct mdms_key key =
            key_of(meter, old == 0 ? 1 : 2,
                   old == 0 ? (UINT64_C(1) << 40) - (height << 16) - i : (height << 16) + i);
        add(&w, &key, height, 1 + draw(old == 1 ? 600 : 60));
        model_add(m, &key, height);
    }
    add_state(&w, height);
    assert_false(w.no_memory);
    assert_ok(mdms_store_write(s, &w, &why));
    mdms_write_free(&w);
}

/* Which runs there are, straight from the file. */
static struct runs_record runs_of(struct mdms_store *s)
{
    const struct mdms_kv kv = mdms_store_kv(s);
    const struct mdms_key key = key_runs();
    struct runs_record r;
    struct span value;
    assert_ok(kv.get(kv.ctx, TABLE_STATE, key_span(&key), &value));
    assert_ok(runs_record_parse(&r, value));
    return r;
}

/* --- tests ------------------------------------------------------------------------------------ */

/* Merges take several writes here; in each of their states all is there, in order. */
static void what_was_written_is_read_in_order(void **state)
{
    struct mdms_store *s = opened(0);
    struct model m = {0};
    unsigned under_way = 0;
    (void)state;
    drawn = 1;
    check_all(s, &m);
    for (uint64_t height = 1; height <= 200; height++) {
        write_many(s, &m, height, 100 + draw(400), 500);
        const struct runs_record runs = runs_of(s);
        under_way += runs.level[0].from.size != 0;
        assert_in_range(runs.level[0].end - runs.level[0].first, 0, 2 * REPORTS_FAN);
        const struct mdms_key from = key_of(draw(600), 2, draw(height) << 16);
        check_from(s, &m, &from, 50);
        if (height % 25 == 0 || runs.level[0].from.size != 0)
            check_all(s, &m);
        if (height % 40 == 0) {
            mdms_store_close(s);
            s = opened(0);
        }
    }
    assert_true(under_way >= 3);
    assert_int_equal(runs_of(s).level[1].end, 3);
    for (size_t i = 0; i < m.count; i += 97)
        assert_true(height_is(s, &m.row[i].key, m.row[i].height));
    const struct mdms_key none = key_of(7, 3, 1);
    assert_true(height_is(s, &none, 0));
    mdms_store_close(s);
    free(m.row);
}

/* Small writes make runs of three levels. */
static void runs_of_runs_are_merged(void **state)
{
    struct mdms_store *s = opened(0);
    struct model m = {0};
    (void)state;
    drawn = 2;
    for (uint64_t height = 1; height <= REPORTS_FAN * REPORTS_FAN + 100; height++) {
        write_many(s, &m, height, 1 + draw(3), 20);
        if (height % 512 == 0 || height == REPORTS_FAN * REPORTS_FAN)
            check_all(s, &m);
    }
    const struct runs_record runs = runs_of(s);
    assert_int_equal(runs.level[2].end, 1);
    assert_int_equal(runs.level[1].first, REPORTS_FAN);
    check_all(s, &m);
    mdms_store_close(s);
    free(m.row);
}

/* Writes of a year that is caught up on, then small ones: the merge of what is large goes on in
 * small steps, and no step takes much more than its write. */
static void a_dwarf_after_giants(void **state)
{
    struct mdms_store *s = opened(0);
    struct model m = {0};
    struct mdms_key from = {0};
    unsigned steps = 0;
    (void)state;
    drawn = 3;
    for (uint64_t height = 1; height <= REPORTS_FAN; height++)
        write_many(s, &m, height, 2000, 3000);
    for (uint64_t height = REPORTS_FAN + 1; runs_of(s).level[0].merged_end != 0; height++) {
        from = runs_of(s).level[0].from;
        write_many(s, &m, height, 1, 3000);
        const struct mdms_key to = runs_of(s).level[0].from;
        if (to.size != 0)
            assert_in_range(model_below(&m, &to) - model_below(&m, &from), 1,
                            2 * REPORTS_MERGE_BYTES_MIN / 64);
        if (steps++ % 4 == 0)
            check_all(s, &m);
    }
    assert_in_range(steps, 10, 60);
    check_all(s, &m);
    mdms_store_close(s);
    free(m.row);
}

static bool count_rows(void *ctx, struct span key, struct span value)
{
    (void)key;
    (void)value;
    ++*(size_t *)ctx;
    return true;
}

static size_t count_all(struct mdms_store *s)
{
    size_t count = 0;
    assert_ok(mdms_store_scan(s, TABLE_REPORTS, span_of(NULL, 0), count_rows, &count, &why));
    return count;
}

/* The first of a place stays: in one write, in two runs, in runs of two levels, and when a merge
 * stops between the two. */
static void a_second_report_of_a_place_is_never_seen(void **state)
{
    struct mdms_store *s = opened(0);
    struct mdms_write w = {0};
    const struct mdms_key twice = key_of(1, 1, 1), later = key_of(2, 1, 1);
    (void)state;
    add(&w, &twice, 10, 40);
    add(&w, &later, 10, 40);
    add(&w, &twice, 11, 50);
    assert_ok(mdms_store_write(s, &w, &why));
    mdms_write_free(&w);
    assert_true(height_is(s, &twice, 10));
    for (uint64_t height = 12; height < 12 + 3 * REPORTS_FAN; height++) {
        write_one(s, height % 2 == 0 ? &later : &twice, height);
        assert_true(height_is(s, &twice, 10) && height_is(s, &later, 10));
        assert_int_equal(count_all(s), 2);
    }
    assert_int_equal(runs_of(s).level[1].end, 3);
    mdms_store_close(s);
}

/* Every row 63 times, large ones, and then small writes: steps of the merge end at rows of which
 * all other runs have another. */
static void a_merge_drops_what_comes_twice(void **state)
{
    struct mdms_store *s = opened(0);
    struct model m = {0};
    unsigned under_way = 0;
    (void)state;
    for (uint64_t height = 1; height <= REPORTS_FAN + 20; height++) {
        struct mdms_write w = {0};
        const uint64_t first = height < REPORTS_FAN ? 0 : height, count = first == 0 ? 400 : 1;
        for (uint64_t i = first; i < first + count; i++) {
            const struct mdms_key key = key_of(i, 1, 1);
            add(&w, &key, height, 3000);
            if (height == 1)
                model_add(&m, &key, height);
        }
        assert_ok(mdms_store_write(s, &w, &why));
        mdms_write_free(&w);
        under_way += runs_of(s).level[0].from.size != 0;
        if (height % 16 == 0 || runs_of(s).level[0].from.size != 0)
            check_all(s, &m);
    }
    check_all(s, &m);
    assert_int_equal(runs_of(s).level[1].end, 1);
    assert_in_range(under_way, 2, 4);
    mdms_store_close(s);
    free(m.row);
}

struct during {
    struct mdms_store *s;
    size_t seen;
};

static bool write_meanwhile(void *ctx, struct span key, struct span value)
{
    struct during *d = ctx;
    (void)key;
    (void)value;
    if (d->seen++ < 2 * REPORTS_FAN) {
        const struct mdms_key k = key_of(d->seen, 9, d->seen);
        write_one(d->s, &k, 5);
    }
    return true;
}

/* An export is of one instant, though merges take away what it reads. */
static void a_scan_is_of_one_instant(void **state)
{
    struct during d = {.s = opened(0)};
    struct model m = {0};
    (void)state;
    drawn = 4;
    for (uint64_t height = 1; height < REPORTS_FAN; height++)
        write_many(d.s, &m, height, 30, 10);
    assert_ok(mdms_store_scan(d.s, TABLE_REPORTS, span_of(NULL, 0), write_meanwhile, &d, &why));
    assert_int_equal(d.seen, m.count);
    assert_int_equal(count_all(d.s), m.count + 2 * REPORTS_FAN);
    mdms_store_close(d.s);
    free(m.row);
}

/* Writes until it is killed; the parent counts what it says is durable. */
static void write_until_killed(int out)
{
    struct mdms_store *s = opened(0);
    struct model m = {0};
    struct state_record at;
    const struct mdms_kv kv = mdms_store_kv(s);
    assert_ok(mdms_state_load(&kv, &at));
    for (uint64_t height = at.height + 1;; height++) {
        drawn = height;
        write_many(s, &m, height, 200, 300);
        if (write(out, "+", 1) != 1)
            _exit(1);
    }
}

/* Killed anywhere, many times, over merges of two levels' runs: what is there is what was written
 * up to the height that the state record has, once. */
static void power_loss_leaves_whole_writes(void **state)
{
    struct model m = {0};
    uint64_t known = 0;
    (void)state;
    for (unsigned round = 1; round <= 12; round++) {
        int ends[2];
        char said;
        assert_int_equal(pipe(ends), 0);
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            close(ends[0]);
            write_until_killed(ends[1]);
        }
        close(ends[1]);
        const unsigned writes = 7 + 3 * round;
        for (unsigned i = 0; i < writes; i++)
            assert_int_equal(read(ends[0], &said, 1), 1);
        assert_int_equal(kill(child, SIGKILL), 0);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        close(ends[0]);
        struct mdms_store *s = opened(0);
        const struct mdms_kv kv = mdms_store_kv(s);
        struct state_record at;
        assert_ok(mdms_state_load(&kv, &at));
        assert_true(at.height >= known + writes);
        /* The same writes once more, into the model alone. */
        for (uint64_t height = known + 1; height <= at.height; height++) {
            drawn = height;
            for (size_t i = 0; i < 200; i++) {
                const uint64_t meter = draw(300), old = draw(10);
                const struct mdms_key key = key_of(
                    meter, old == 0 ? 1 : 2,
                    old == 0 ? (UINT64_C(1) << 40) - (height << 16) - i : (height << 16) + i);
                (void)draw(60);
                model_add(&m, &key, height);
            }
        }
        known = at.height;
        check_all(s, &m);
        mdms_store_close(s);
    }
    assert_true(known > 4 * REPORTS_FAN);
    free(m.row);
}

static void a_full_store_loses_nothing(void **state)
{
    struct mdms_store *s = opened(4u << 20);
    struct model m = {0};
    struct mdms_write w = {0};
    uint64_t height = 1;
    enum ami_status status = AMI_OK;
    (void)state;
    for (; status == AMI_OK; height++) {
        mdms_write_reset(&w);
        const size_t before = m.count;
        for (uint64_t i = 0; i < 200; i++) {
            const struct mdms_key key = key_of(i, 1, height);
            add(&w, &key, height, 60);
            model_add(&m, &key, height);
        }
        add_state(&w, height);
        status = mdms_store_write(s, &w, &why);
        if (status != AMI_OK)
            m.count = before;
    }
    assert_status(status, AMI_FULL);
    assert_non_null(strstr(why.text, "no room"));
    check_all(s, &m);
    mdms_store_close(s);
    s = opened(0);
    check_all(s, &m);
    assert_ok(mdms_store_write(s, &w, &why));
    assert_int_equal(count_all(s), m.count + 200);
    mdms_write_free(&w);
    mdms_store_close(s);
    free(m.row);
}

/* --- the file --------------------------------------------------------------------------------- */

/* The file without the store. */
static MDB_env *raw_open(const char *table, MDB_txn **txn, MDB_dbi *dbi)
{
    char path[128];
    MDB_env *env;
    snprintf(path, sizeof path, "%s/store", folder);
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_set_mapsize(env, 1u << 30), 0);
    assert_int_equal(mdb_env_set_maxdbs(env, TABLE_COUNT), 0);
    assert_int_equal(mdb_env_open(env, path, 0, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, txn), 0);
    assert_int_equal(mdb_dbi_open(*txn, table, 0, dbi), 0);
    return env;
}

/* One value of a table (key empty: the last) is changed by `change`, or removed. */
static void alter(const char *table, struct span key, bool (*change)(uint8_t *value, size_t *size))
{
    static uint8_t copy[65536];
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_cursor *cursor;
    uint8_t name[128];
    MDB_env *env = raw_open(table, &txn, &dbi);
    assert_int_equal(mdb_cursor_open(txn, dbi, &cursor), 0);
    MDB_val k = {key.size, (void *)(uintptr_t)key.data}, v;
    assert_int_equal(mdb_cursor_get(cursor, &k, &v, key.size == 0 ? MDB_LAST : MDB_SET_KEY), 0);
    size_t size = v.mv_size;
    assert_true(size <= sizeof copy && k.mv_size <= sizeof name);
    memcpy(copy, v.mv_data, size);
    memcpy(name, k.mv_data, k.mv_size);
    mdb_cursor_close(cursor);
    k.mv_data = name;
    if (change(copy, &size)) {
        v = (MDB_val){size, copy};
        assert_int_equal(mdb_put(txn, dbi, &k, &v, 0), 0);
    } else {
        assert_int_equal(mdb_del(txn, dbi, &k, NULL), 0);
    }
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

/* Every chunk in the file is of a run that counts, and of what a merge has taken already only the
 * chunk is left that it stands in. */
static void check_nothing_is_left(const struct runs_record *runs)
{
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_cursor *cursor;
    MDB_val k, v;
    uint64_t run_before = 0;
    unsigned level_before = 0, taken = 0;
    MDB_env *env = raw_open("reports", &txn, &dbi);
    assert_int_equal(mdb_cursor_open(txn, dbi, &cursor), 0);
    int rc = mdb_cursor_get(cursor, &k, &v, MDB_FIRST);
    for (; rc == 0; rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) {
        const uint8_t *name = k.mv_data;
        assert_in_range(name[0], 0, MDMS_RUN_LEVELS - 1);
        const struct runs_level *l = &runs->level[name[0]];
        const uint64_t run = load_be64(name + 1);
        const bool made = name[0] > 0 && runs->level[name[0] - 1].merged_end != 0;
        assert_in_range(run, l->first, l->end - !made);
        if (name[0] != level_before || run != run_before)
            taken = 0;
        level_before = name[0];
        run_before = run;
        struct expected from = {.key = l->from}, first = {.key.size = (uint8_t)(k.mv_size - 9)};
        memcpy(first.key.b, name + 9, k.mv_size - 9);
        taken += run < l->merged_end && compare_expected(&first, &from) < 0;
        assert_in_range(taken, 0, 1);
    }
    assert_int_equal(rc, MDB_NOTFOUND);
    mdb_cursor_close(cursor);
    mdb_txn_abort(txn);
    mdb_env_close(env);
}

static void merges_leave_nothing_behind(void **state)
{
    struct mdms_store *s = opened(0);
    struct model m = {0};
    unsigned under_way = 0;
    (void)state;
    drawn = 5;
    for (uint64_t height = 1; height <= 3 * REPORTS_FAN; height++) {
        write_many(s, &m, height, 300, 500);
        const struct runs_record runs = runs_of(s);
        if (runs.level[0].from.size == 0 && height % REPORTS_FAN != 0)
            continue;
        under_way += runs.level[0].from.size != 0;
        mdms_store_close(s);
        check_nothing_is_left(&runs);
        s = opened(0);
    }
    assert_true(under_way > 3);
    mdms_store_close(s);
    free(m.row);
}

static bool remove_it(uint8_t *value, size_t *size)
{
    (void)value;
    (void)size;
    return false;
}

static bool cut_short(uint8_t *value, size_t *size)
{
    (void)value;
    *size -= 1;
    return true;
}

static bool spoil_key_size(uint8_t *value, size_t *size)
{
    (void)size;
    value[0] = 255;
    return true;
}

static bool spoil_key(uint8_t *value, size_t *size)
{
    (void)size;
    value[3] ^= 1;
    return true;
}

/* Behind the first row, which is as long as the second. */
static bool first_row_twice(uint8_t *value, size_t *size)
{
    const size_t row = 3u + value[0] + load_be16(value + 1);
    assert_true(2 * row <= *size);
    memcpy(value + row, value, row);
    return true;
}

static bool spoil_version(uint8_t *value, size_t *size)
{
    (void)size;
    value[0]++;
    return true;
}

static void fill(uint64_t writes)
{
    struct mdms_store *s = opened(0);
    for (uint64_t height = 1; height <= writes; height++) {
        struct mdms_write w = {0};
        for (uint64_t i = 1; i <= 50; i++) {
            const struct mdms_key key = key_of(3 * i, 1, height);
            add(&w, &key, height, 60);
        }
        assert_ok(mdms_store_write(s, &w, &why));
        mdms_write_free(&w);
    }
    mdms_store_close(s);
}

/* One sentence that names the folder. */
static void says_damaged(enum ami_status status)
{
    assert_status(status, AMI_DAMAGED);
    assert_non_null(strstr(why.text, folder));
    assert_non_null(strstr(why.text, "damaged"));
}

/* A chunk that is not what was written: who reads it is told so, and so is who merges it. */
static void a_damaged_chunk_is_said_to_be(void **state)
{
    static bool (*const changes[])(uint8_t *, size_t *) = {cut_short, spoil_key_size, spoil_key,
                                                           first_row_twice};
    (void)state;
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        if (i > 0)
            assert_int_equal(drop_folder(NULL) | make_folder(NULL), 0);
        fill(REPORTS_FAN - 1);
        alter("reports", span_of(NULL, 0), changes[i]);
        struct mdms_store *s = opened(0);
        size_t count = 0;
        says_damaged(mdms_store_scan(s, TABLE_REPORTS, span_of(NULL, 0), count_rows, &count, &why));
        const struct mdms_key key = key_of(1, 1, 1), late = key_of(999, 1, 1);
        struct mdms_write w = {0};
        struct span value;
        add(&w, &key, 99, 60);
        memset(&why, 0, sizeof why);
        says_damaged(mdms_store_write(s, &w, &why)); /* the 64th: it begins a merge */
        mdms_write_free(&w);
        /* Nothing of that write is there. */
        assert_int_equal(runs_of(s).level[0].end, REPORTS_FAN - 1);
        const struct mdms_kv kv = mdms_store_kv(s);
        if (changes[i] == cut_short)
            assert_status(kv.get(kv.ctx, TABLE_REPORTS, key_span(&late), &value), AMI_DAMAGED);
        mdms_store_close(s);
    }
}

static void a_damaged_list_of_runs_is_said_to_be(void **state)
{
    (void)state;
    const struct mdms_key runs = key_runs();
    fill(3);
    alter("state", key_span(&runs), cut_short);
    struct mdms_store *s = opened(0);
    size_t count = 0;
    struct mdms_write w = {0};
    const struct mdms_key key = key_of(1, 1, 1);
    says_damaged(mdms_store_scan(s, TABLE_REPORTS, span_of(NULL, 0), count_rows, &count, &why));
    add(&w, &key, 99, 60);
    memset(&why, 0, sizeof why);
    says_damaged(mdms_store_write(s, &w, &why));
    mdms_write_free(&w);
    mdms_store_close(s);
}

/* A record that names what cannot be would have a reader look for it, or size its memory by it. */
static void the_list_of_runs_is_judged(void **state)
{
    struct runs_record r = {0}, back;
    uint8_t bytes[MDMS_RUNS_BYTES_MAX];
    (void)state;
    for (unsigned i = 0; i < 7; i++) {
        memset(&r, 0, sizeof r);
        struct runs_level *l = &r.level[i == 6 ? MDMS_RUN_LEVELS - 1 : 0];
        *l = (struct runs_level){.first = 64, .end = 130, .merged_end = i == 0 ? 128 : 0};
        l->from = i == 0 ? key_of(1, 1, 1) : (struct mdms_key){0};
        if (i == 1)
            l->first = 131;
        else if (i == 2)
            l->end = l->first + MDMS_RUNS_MAX + 1;
        else if (i == 3)
            l->merged_end = 131;
        else if (i == 4)
            l->from = key_of(1, 1, 1);
        else if (i == 5)
            l->merged_end = 64;
        else if (i == 6)
            l->merged_end = 128;
        struct writer w = writer_on(bytes, sizeof bytes);
        runs_record_encode(&w, &r);
        assert_true(writer_ok(&w));
        assert_status(runs_record_parse(&back, writer_span(&w)),
                      i == 0 ? AMI_OK : AMI_BAD_ENCODING);
    }
}

static void another_version_is_refused(void **state)
{
    struct mdms_store *s = NULL;
    const struct mdms_key format = key_format(), at = key_state();
    (void)state;
    fill(1);
    alter("state", key_span(&format), spoil_version);
    assert_status(mdms_store_open(&s, folder, 0, &why), AMI_BAD_VERSION);
    assert_non_null(strstr(why.text, "written in format 3"));
    alter("state", key_span(&format), remove_it);
    assert_status(mdms_store_open(&s, folder, 0, &why), AMI_BAD_VERSION);
    assert_non_null(strstr(why.text, "written in format 1"));
    /* One that `init` did not get ready. */
    alter("state", key_span(&at), remove_it);
    assert_status(mdms_store_open(&s, folder, 0, &why), AMI_DAMAGED);
    assert_non_null(strstr(why.text, "no store of ami-mdms"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, drop_folder)
        TEST(what_was_written_is_read_in_order),
        TEST(runs_of_runs_are_merged),
        TEST(a_dwarf_after_giants),
        TEST(a_second_report_of_a_place_is_never_seen),
        TEST(a_merge_drops_what_comes_twice),
        TEST(a_scan_is_of_one_instant),
        TEST(power_loss_leaves_whole_writes),
        TEST(a_full_store_loses_nothing),
        TEST(merges_leave_nothing_behind),
        TEST(a_damaged_chunk_is_said_to_be),
        TEST(a_damaged_list_of_runs_is_said_to_be),
        TEST(another_version_is_refused),
        cmocka_unit_test(the_list_of_runs_is_judged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
