/* The meters' store as a journal: what a crash at any step leaves, what checkpoints sum up, and
 * which old reports go. */
#include "tests/meter/store_support.h"

#include "meter/store_entry.h"

#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ALL_BOXES (1u << METER_OUTBOX | 1u << METER_ARCHIVE)

/* --- the file itself ------------------------------------------------------------------------- */

struct raw {
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi meta, journal, outbox;
};

static struct raw raw_begin(unsigned flags)
{
    struct raw r;
    char path[128];
    snprintf(path, sizeof path, "%s/meters.mdb", folder);
    assert_int_equal(mdb_env_create(&r.env), 0);
    assert_int_equal(mdb_env_set_maxdbs(r.env, 8), 0);
    assert_int_equal(mdb_env_open(r.env, path, MDB_NOSUBDIR | flags, 0600), 0);
    assert_int_equal(mdb_txn_begin(r.env, NULL, flags, &r.txn), 0);
    assert_int_equal(mdb_dbi_open(r.txn, "meta", 0, &r.meta), 0);
    assert_int_equal(mdb_dbi_open(r.txn, "journal", 0, &r.journal), 0);
    assert_int_equal(mdb_dbi_open(r.txn, "outbox", 0, &r.outbox), 0);
    return r;
}

static void raw_end(struct raw *r)
{
    assert_int_equal(mdb_txn_commit(r->txn), 0);
    mdb_env_close(r->env);
}

static void raw_put(struct raw *r, MDB_dbi table, uint64_t serial, struct span value)
{
    uint8_t key[8];
    store_be64(key, serial);
    MDB_val k = {sizeof key, key}, v = {value.size, (void *)(uintptr_t)value.data};
    assert_int_equal(mdb_put(r->txn, table, &k, &v, 0), 0);
}

/* How many entries were ever written to the journal. */
static uint64_t entries_written(void)
{
    struct raw r = raw_begin(MDB_RDONLY);
    MDB_cursor *cursor;
    MDB_val k, v;
    assert_int_equal(mdb_cursor_open(r.txn, r.journal, &cursor), 0);
    assert_int_equal(mdb_cursor_get(cursor, &k, &v, MDB_LAST), 0);
    assert_int_equal(k.mv_size, 8);
    const uint64_t serial = load_be64(k.mv_data);
    mdb_cursor_close(cursor);
    raw_end(&r);
    return serial;
}

/* --- many reports at once -------------------------------------------------------------------- */

#define GROUP 500

/* `count` new reports of a meter from number `first` on, and every one of `settled` before. */
static void put_many(struct meter_store *s, const struct ami_id *name, uint64_t first, size_t count,
                     uint64_t settled, uint64_t keep)
{
    static struct meter_op op[2 * GROUP];
    static uint8_t record[GROUP][RECORD_BYTES];
    size_t ops = 0;
    assert_in_range(count + settled, 0, 2 * GROUP);
    for (size_t i = 0; i < count; i++)
        op[ops++] = report_op(name, first + i, record[i]);
    for (uint64_t i = first - settled; i < first; i++)
        op[ops++] = (struct meter_op){
            .kind = METER_OP_SETTLE, .name = name, .epoch = 1, .sequence = i, .keep = keep};
    assert_ok(meter_store_apply(s, op, ops, NULL));
}

struct count {
    const struct ami_id *name;
    size_t count, waiting;
    uint64_t lowest, highest;
};

static bool count_one(void *ctx, const struct meter_stored_report *r)
{
    struct count *c = ctx;
    uint64_t number;
    memcpy(&number, r->record.data + 8, sizeof number);
    assert_int_equal(number, r->sequence);
    assert_true(c->count == 0 || r->sequence > c->highest); /* in order, and none twice */
    if (c->count++ == 0)
        c->lowest = r->sequence;
    c->highest = r->sequence;
    c->waiting += !r->settled;
    return true;
}

static struct count counted(struct meter_store *s, const struct ami_id *name)
{
    struct count c = {.name = name};
    assert_ok(meter_store_each_report(s, ALL_BOXES, name, count_one, &c));
    return c;
}

static void assert_state(struct meter_store *s, const struct ami_id *name, uint64_t reports)
{
    struct meter_state st;
    uint64_t row;
    assert_ok(meter_store_state(s, name, 1, &st));
    assert_int_equal(st.next_sequence, reports + 1);
    assert_int_equal(st.reports, reports);
    assert_ok(meter_store_source(s, name, 1, &chain, &row));
    assert_int_equal(row, reports * 10);
}

/* More than a checkpoint's worth of reports, and none of them is only where it is newest. */
static void a_checkpoint_and_what_came_after_it(void **state)
{
    (void)state;
    struct meter_store *s = opened(METER_STORE_CREATE, 0);
    put(s, &b, 1);
    for (uint64_t i = 0; i < 11; i++) {
        put_many(s, &a, i * GROUP + 1, GROUP, i == 0 ? 0 : GROUP, 1000000);
        struct meter_store *other = crashed();
        assert_state(other, &a, (i + 1) * GROUP);
        assert_state(other, &b, 1);
        assert_int_equal(counted(other, &a).waiting, GROUP);
        assert_int_equal(next_waiting(other, &a, 1), i * GROUP + 1);
        /* It goes on, with new numbers and in new places. */
        put(other, &b, 2);
        settle(other, &b, 1, 1000000);
        assert_int_equal(next_waiting(other, &b, 1), 2);
        assert_int_equal(counted(other, &a).count, (i + 1) * GROUP);
        dropped(other);
    }
    /* A million are kept: not one has gone. */
    const struct count c = counted(s, &a);
    assert_int_equal(c.count, 11 * GROUP);
    assert_int_equal(c.lowest, 1);
    meter_store_close(s);
}

/* --- silent meters among others -------------------------------------------------------------- */

struct asker {
    struct meter_store *store;
    atomic_bool stop;
    atomic_uint rounds;
    enum ami_status status;
    uint64_t number;
};

/* The loop's side: asks for the same report again and again while its place changes. */
static void *read_on(void *arg)
{
    struct asker *r = arg;
    uint8_t record[METER_RECORD_BYTES_MAX];
    size_t size;
    while (!atomic_load(&r->stop) && r->status == AMI_OK) {
        r->status = meter_store_next(r->store, &b, 1, 1, record, &size);
        if (r->status == AMI_OK)
            memcpy(&r->number, record + 8, sizeof r->number);
        if (r->status == AMI_OK && r->number != 7)
            r->status = AMI_DAMAGED;
        atomic_fetch_add(&r->rounds, 1);
    }
    return NULL;
}

static void a_silent_meter_does_not_keep_the_past_of_others(void **state)
{
    (void)state;
    struct meter_store *s = opened(METER_STORE_CREATE, 0);
    put_many(s, &b, 1, 20, 0, 5);
    for (uint64_t i = 1; i <= 20; i++)
        if (i != 7)
            settle(s, &b, i, 5); /* 7 waits: what is above stays, and 2 to 6, the last ones below */
    struct asker reader = {.store = s};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, read_on, &reader), 0);
    size_t most = 0;
    bool moved = false;
    for (uint64_t i = 0; i < 100; i++) {
        put_many(s, &a, i * GROUP + 1, GROUP, i == 0 ? 0 : GROUP, 10);
        if (i % 5 == 4) {
            struct meter_store *other = crashed();
            assert_state(other, &a, (i + 1) * GROUP);
            assert_state(other, &b, 20);
            const struct count c = counted(other, &b);
            assert_in_range(c.lowest, 1, 7);
            assert_int_equal(c.count, 20 - c.lowest + 1);
            assert_int_equal(c.waiting, 1);
            assert_int_equal(next_waiting(other, &b, 1), 7);
            moved = moved || c.lowest > 1;
            other = crashed_again(other);
            assert_int_equal(next_waiting(other, &b, 1), 7);
            assert_int_equal(settle(other, &b, 7, 5), 0);
            assert_int_equal(next_waiting(other, &b, 1), 0);
            dropped(other);
            const struct count active = counted(s, &a);
            most = active.count > most ? active.count : most;
            assert_in_range(active.count, GROUP + 10, 1000000);
            assert_int_equal(active.highest, (i + 1) * GROUP);
        }
    }
    atomic_store(&reader.stop, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_ok(reader.status);
    assert_true(atomic_load(&reader.rounds) > 0);
    assert_true(moved);
    /* A checkpoint's worth that cannot go yet, one that is not worth the moving, and a little. */
    assert_in_range(most, 0, 3 * 4096);
    s = reopened(s);
    assert_state(s, &b, 20);
    assert_int_equal(next_waiting(s, &b, 1), 7);
    /* It speaks again: its own old reports go. */
    settle(s, &b, 7, 5);
    put(s, &b, 21);
    assert_int_equal(counted(s, &b).waiting, 1);
    meter_store_close(s);
}

/* A large part that must stay is not written again and again. */
static void for_each_that_goes_two_are_moved_at_most(void **state)
{
    (void)state;
    struct meter_store *s = opened(METER_STORE_CREATE, 0);
    const uint64_t reports = 80 * GROUP;
    uint64_t waiting = 12 * GROUP;
    for (uint64_t i = 1; i < waiting; i += GROUP)
        put_many(s, &b, i, GROUP, 0, 10);
    for (uint64_t i = 1; i < reports; i += GROUP) {
        put(s, &b, ++waiting);
        put_many(s, &a, i, GROUP, i == 1 ? 0 : GROUP, 10);
    }
    assert_state(s, &b, waiting);
    s = reopened(s);
    assert_state(s, &b, waiting);
    assert_int_equal(counted(s, &b).waiting, waiting);
    const struct count c = counted(s, &a);
    assert_int_equal(c.highest, reports);
    assert_in_range(c.count, GROUP + 10, waiting + 3 * 4096);
    meter_store_close(s);
    /* One of 100 tells what is settled. */
    assert_in_range(entries_written(), waiting + reports + 12 * GROUP, waiting + 3 * reports + 100);
}

/* Fewer are wanted than before: also what lies behind a silent meter's reports goes. */
static void a_smaller_archive_reaches_behind_a_silent_meter(void **state)
{
    (void)state;
    struct meter_store *s = opened(METER_STORE_CREATE, 0);
    put(s, &b, 1);
    for (uint64_t i = 0; i < 24; i++)
        put_many(s, &a, i * GROUP + 1, GROUP, i == 0 ? 0 : GROUP, 1000000);
    assert_int_equal(counted(s, &a).count, 24 * GROUP);
    s = reopened(s);
    put_many(s, &a, 24 * GROUP + 1, GROUP, GROUP, 3);
    put_many(s, &a, 25 * GROUP + 1, GROUP, GROUP, 3);
    /* All that was there when it began; what came since is not worth the moving. */
    const struct count c = counted(s, &a);
    assert_in_range(c.lowest, 24 * GROUP + 1, 25 * GROUP);
    assert_int_equal(c.highest, 26 * GROUP);
    assert_int_equal(c.count, 26 * GROUP - c.lowest + 1);
    s = reopened(s);
    assert_int_equal(counted(s, &b).waiting, 1);
    assert_state(s, &b, 1);
    meter_store_close(s);
}

/* --- key epochs ------------------------------------------------------------------------------ */

static struct meter_op keys_op(const struct ami_id *name, uint32_t epoch, uint64_t reports)
{
    static const uint8_t file[50] = {1};
    return (struct meter_op){.kind = METER_OP_KEYS,
                             .name = name,
                             .epoch = epoch,
                             .record = span_of(file, sizeof file),
                             .state = {.next_sequence = 1, .reports = reports}};
}

static void assert_next(struct meter_store *s, uint32_t epoch, uint64_t sequence, uint64_t reports)
{
    struct meter_state st;
    assert_ok(meter_store_state(s, &a, epoch, &st));
    assert_int_equal(st.next_sequence, sequence);
    assert_int_equal(st.reports, reports);
}

/* Everything goes on where the epoch before ended, wherever the crash is. */
static void the_next_key_epoch(void **state)
{
    (void)state;
    struct meter_state st;
    uint64_t row;
    uint8_t record[RECORD_BYTES];
    struct meter_store *s = opened(METER_STORE_CREATE, 0);
    struct meter_op op = keys_op(&a, 1, 0);
    assert_ok(meter_store_apply(s, &op, 1, NULL));
    for (uint64_t i = 1; i <= 3; i++)
        put(s, &a, i);
    settle(s, &a, 1, 1000);
    settle(s, &a, 3, 1000);
    op = keys_op(&a, 2, 3);
    assert_status(meter_store_apply(s, &op, 1, NULL), AMI_IN_USE); /* 2 waits */
    settle(s, &a, 2, 1000);
    op = keys_op(&a, 1, 3);
    assert_status(meter_store_apply(s, &op, 1, NULL), AMI_EXISTS);
    op = keys_op(&a, 2, 2);
    assert_status(meter_store_apply(s, &op, 1, NULL), AMI_BAD_ARGUMENT); /* counts go back */
    op = keys_op(&a, 2, 3);
    assert_ok(meter_store_apply(s, &op, 1, NULL));
    for (int again = 0; again < 2; again++) {
        struct meter_store *other = again == 0 ? s : crashed();
        assert_next(other, 1, 4, 3);
        assert_next(other, 2, 1, 3);
        assert_ok(meter_store_source(other, &a, 2, &chain, &row));
        assert_int_equal(row, 30);
        if (again == 1)
            dropped(other);
    }
    op = report_op(&a, 4, record);
    assert_status(meter_store_apply(s, &op, 1, NULL), AMI_BAD_ARGUMENT); /* the old key */
    for (uint64_t i = 1; i <= 2; i++) {
        op = report_op(&a, i, record);
        op.epoch = 2;
        op.state.reports = 3 + i;
        op.source_row = 30 + i;
        assert_ok(meter_store_apply(s, &op, 1, NULL));
    }
    struct meter_store *other = crashed();
    assert_next(other, 1, 4, 3);
    assert_next(other, 2, 3, 5);
    assert_ok(meter_store_source(other, &a, 2, &chain, &row));
    assert_int_equal(row, 32);
    assert_ok(meter_store_source(other, &a, 1, &chain, &row));
    assert_int_equal(row, 30);
    assert_listed(other, "m/1/1+ m/1/2+ m/1/3+ m/2/1 m/2/2 ");
    dropped(other);
    s = reopened(s);
    assert_next(s, 2, 3, 5);
    /* The last two of the meter, whatever key made them. */
    for (uint64_t i = 1; i <= 2; i++) {
        op = (struct meter_op){
            .kind = METER_OP_SETTLE, .name = &a, .epoch = 2, .sequence = i, .keep = 2};
        assert_ok(meter_store_apply(s, &op, 1, NULL));
    }
    assert_listed(s, "m/2/1+ m/2/2+ ");
    assert_status(meter_store_state(s, &a, 3, &st), AMI_NOT_FOUND);
    meter_store_close(s);
}

/* --- damage ---------------------------------------------------------------------------------- */

enum damage {
    WAITING_WITHOUT_ENTRY,
    WAITING_WITHOUT_NAME,
    WAITING_TOO_NEW,
    ENTRY_TWICE,
    ENTRY_OF_LATER,
    ENTRY_OF_ANOTHER_EPOCH,
    ENTRY_OF_NOTHING,
    SETTLED_THAT_DID_NOT_WAIT,
    SETTLED_BEFORE_THE_FIRST,
    CHECKPOINT_OF_ANOTHER_SIZE,
    DAMAGES
};

static struct span entry(uint8_t out[STORE_ENTRY_BYTES_MAX], uint32_t epoch, uint64_t sequence)
{
    struct store_entry e = {.kind = STORE_REPORT,
                            .name = a,
                            .epoch = epoch,
                            .sequence = sequence,
                            .state.reports = sequence};
    struct writer w = writer_on(out, STORE_ENTRY_BYTES_MAX);
    store_entry_head(&w, &e);
    write_raw(&w, "record", 6);
    return writer_span(&w);
}

static void do_damage(struct raw *r, enum damage what)
{
    uint8_t bytes[STORE_ENTRY_BYTES_MAX];
    uint8_t two[8] = {0, 0, 0, 0, 0, 0, 0, 2};
    MDB_val second = {sizeof two, two};
    MDB_val k = {7, (void *)(uintptr_t) "journal"}, v = {5, bytes};
    memset(bytes, 0, sizeof bytes);
    switch (what) {
    case WAITING_WITHOUT_ENTRY:
        assert_int_equal(mdb_del(r->txn, r->journal, &second, NULL), 0);
        break;
    case WAITING_WITHOUT_NAME:
        raw_put(r, r->journal, 2, span_of("\3\1", 2));
        break;
    case WAITING_TOO_NEW: /* for the checkpoint that the table is of */
        raw_put(r, r->outbox, 9, span_of("", 0));
        break;
    case ENTRY_TWICE: /* and both wait */
        raw_put(r, r->journal, 9, entry(bytes, 1, 2));
        break;
    case ENTRY_OF_LATER: /* one between is missing */
        raw_put(r, r->journal, 9, entry(bytes, 1, 5));
        break;
    case ENTRY_OF_ANOTHER_EPOCH: /* for which there are no keys */
        raw_put(r, r->journal, 9, entry(bytes, 2, 4));
        break;
    case ENTRY_OF_NOTHING:
        raw_put(r, r->journal, 9, span_of(bytes, 70));
        break;
    case SETTLED_THAT_DID_NOT_WAIT:
        raw_put(r, r->journal, 9, span_of("\3\5", 2));
        break;
    case SETTLED_BEFORE_THE_FIRST:
        raw_put(r, r->journal, 9, span_of("\3\11", 2));
        break;
    case CHECKPOINT_OF_ANOTHER_SIZE:
        assert_int_equal(mdb_put(r->txn, r->meta, &k, &v, 0), 0);
        break;
    case DAMAGES:
        break;
    }
}

/* What cannot be is found at opening, with one sentence. */
static void what_cannot_be_is_damage(void **state)
{
    (void)state;
    for (int what = 0; what < DAMAGES; what++) {
        struct why why = {{0}};
        assert_int_equal(make_folder(NULL), 0);
        struct meter_store *s = opened(METER_STORE_CREATE, 0);
        for (uint64_t i = 1; i <= 3; i++)
            put(s, &a, i);
        meter_store_close(s);
        struct raw r = raw_begin(0);
        do_damage(&r, (enum damage)what);
        raw_end(&r);
        assert_status(meter_store_open(&s, folder, METER_STORE_WRITE, &network, &chain, 0, &why),
                      AMI_DAMAGED);
        assert_non_null(strstr(why.text, "damaged"));
        assert_int_equal(drop_folder(NULL), 0);
    }
}

/* --- a model --------------------------------------------------------------------------------- */

#define MODEL_METERS  5
#define MODEL_REPORTS 2000

struct model {
    struct ami_id name[MODEL_METERS];
    uint64_t reports[MODEL_METERS];
    /* 1: waits, 2: settled */
    uint8_t what[MODEL_METERS][MODEL_REPORTS];
    uint64_t keep, random;
};

static uint64_t draw(struct model *m, uint64_t below)
{
    m->random = m->random * 6364136223846793005u + 1442695040888963407u;
    return (m->random >> 33) % below;
}

/* The lowest that waits; one above the last when none does. */
static uint64_t model_lowest(const struct model *m, size_t meter)
{
    uint64_t i = 1;
    while (i <= m->reports[meter] && m->what[meter][i] != 1)
        i++;
    return i;
}

static void model_check(const struct model *m, struct meter_store *s)
{
    for (size_t k = 0; k < MODEL_METERS; k++) {
        if (m->reports[k] == 0)
            continue;
        assert_state(s, &m->name[k], m->reports[k]);
        uint64_t waiting = 0, readings = 0, top = 0;
        for (uint64_t i = 1; i <= m->reports[k]; i++) {
            waiting += m->what[k][i] == 1;
            readings += m->what[k][i] == 1 ? i % 7 : 0;
            top = m->what[k][i] == 2 ? i : top;
        }
        struct meter_backlog backlog;
        const uint64_t lowest = model_lowest(m, k);
        assert_ok(meter_store_backlog(s, &m->name[k], 1, &backlog));
        assert_int_equal(backlog.reports, waiting);
        assert_int_equal(backlog.readings, readings);
        assert_int_equal(backlog.lowest, waiting == 0 ? 0 : lowest);
        uint64_t at = 0;
        for (uint64_t i = 1; i <= m->reports[k]; i++)
            if (m->what[k][i] == 1) {
                at = next_waiting(s, &m->name[k], at + 1);
                assert_int_equal(at, i);
            }
        assert_int_equal(next_waiting(s, &m->name[k], at + 1), 0);
        const struct count c = counted(s, &m->name[k]);
        assert_int_equal(c.waiting, waiting);
        /* None between is missing, and those that must be there begin at the lower of the two. */
        const uint64_t kept = top > m->keep ? top - m->keep + 1 : 1;
        assert_int_equal(c.highest, m->reports[k]);
        assert_true(c.lowest <= kept);
        assert_true(c.lowest <= lowest);
        assert_true(c.count >= m->reports[k] - (kept < lowest ? kept : lowest) + 1);
    }
}

/* Some reports and settlings in any order; the last one may be refused, and then none is done. */
static void model_step(struct model *m, struct meter_store *s)
{
    struct meter_op op[24];
    static uint8_t record[24][RECORD_BYTES];
    struct model after = *m;
    const size_t count = 1 + draw(&after, 20);
    size_t ops = 0;
    while (ops < count) {
        const size_t k = draw(&after, 4) == 0 ? draw(&after, MODEL_METERS) : draw(&after, 2);
        const uint64_t lowest = model_lowest(m, k);
        uint64_t i = lowest + draw(&after, 12);
        if (draw(&after, 2) == 0 && after.reports[k] + 1 < MODEL_REPORTS) {
            i = ++after.reports[k];
            op[ops] = report_op(&m->name[k], i, record[ops]);
            after.what[k][i] = 1;
            ops++;
        } else if (i <= m->reports[k] && after.what[k][i] == 1) {
            op[ops++] = (struct meter_op){.kind = METER_OP_SETTLE,
                                          .name = &m->name[k],
                                          .epoch = 1,
                                          .sequence = i,
                                          .keep = m->keep};
            after.what[k][i] = 2;
        } else if (draw(&after, 50) == 0)
            break;
    }
    if (draw(&after, 10) == 0) {
        op[ops] = report_op(&m->name[0], after.reports[0] + 2, record[ops]);
        assert_status(meter_store_apply(s, op, ops + 1, NULL), AMI_BAD_ARGUMENT);
        m->random = after.random;
        return;
    }
    assert_ok(meter_store_apply(s, op, ops, NULL));
    *m = after;
}

/* Whatever was done last, and whether the end was clean: state, row, outbox and archive are what
 * they were. */
static void a_crash_after_any_step(void **state)
{
    (void)state;
    static struct model m;
    memset(&m, 0, sizeof m);
    m.keep = 4;
    m.random = 20240607;
    for (size_t k = 0; k < MODEL_METERS; k++) {
        char text[8];
        snprintf(text, sizeof text, "x%zu", k);
        assert_ok(ami_id_from_text(&m.name[k], text));
    }
    struct meter_store *s = opened(METER_STORE_CREATE, 0);
    for (int step = 0; step < 120; step++) {
        model_step(&m, s);
        model_check(&m, s);
        struct meter_store *other = crashed();
        model_check(&m, other);
        other = crashed_again(other);
        model_check(&m, other);
        dropped(other);
        if (draw(&m, 8) == 0)
            s = reopened(s);
    }
    meter_store_close(s);
}

/* --- memory that is not to be believed -------------------------------------------------------- */

/* Another process spoils the file; a write that fails reads it again. */
static void spoil_journal(void)
{
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        char path[128];
        uint8_t serial[8] = {0, 0, 1};
        MDB_env *env;
        MDB_txn *txn;
        MDB_dbi dbi;
        MDB_val k = {sizeof serial, serial}, v = {1, "?"};
        snprintf(path, sizeof path, "%s/meters.mdb", folder);
        _exit(mdb_env_create(&env) != 0 || mdb_env_set_maxdbs(env, 16) != 0 ||
              mdb_env_open(env, path, MDB_NOSUBDIR, 0600) != 0 ||
              mdb_txn_begin(env, NULL, 0, &txn) != 0 ||
              mdb_dbi_open(txn, "journal", 0, &dbi) != 0 || mdb_put(txn, dbi, &k, &v, 0) != 0 ||
              mdb_txn_commit(txn) != 0);
    }
    int status;
    assert_true(waitpid(child, &status, 0) == child && status == 0);
}

static void what_cannot_be_read_again_is_not_nothing(void **state)
{
    (void)state;
    uint8_t record[RECORD_BYTES], buffer[METER_RECORD_BYTES_MAX];
    size_t size;
    struct meter_store *s = opened(METER_STORE_CREATE, 0);
    struct meter_op op = keys_op(&a, 1, 0);
    assert_ok(meter_store_apply(s, &op, 1, NULL));
    put(s, &a, 1);
    spoil_journal();
    op = report_op(&a, 1, record);
    assert_status(meter_store_apply(s, &op, 1, NULL), AMI_EXISTS);
    assert_status(meter_store_next(s, &a, 1, 0, buffer, &size), AMI_DAMAGED);
    assert_status(meter_store_next(s, &b, 1, 0, buffer, &size), AMI_DAMAGED);
    meter_store_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_checkpoint_and_what_came_after_it, make_folder,
                                        drop_folder),
        cmocka_unit_test_setup_teardown(a_silent_meter_does_not_keep_the_past_of_others,
                                        make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(for_each_that_goes_two_are_moved_at_most, make_folder,
                                        drop_folder),
        cmocka_unit_test_setup_teardown(a_smaller_archive_reaches_behind_a_silent_meter,
                                        make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(the_next_key_epoch, make_folder, drop_folder),
        cmocka_unit_test(what_cannot_be_is_damage),
        cmocka_unit_test_setup_teardown(what_cannot_be_read_again_is_not_nothing, make_folder,
                                        drop_folder),
        cmocka_unit_test_setup_teardown(a_crash_after_any_step, make_folder, drop_folder),
    };
    if (!store_support_start())
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
