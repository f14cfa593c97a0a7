/* The meters' store on disk: all or nothing, also when its process is killed; damage and strangers
 * are told apart with one sentence each. */
#include "tests/meter/store_support.h"

#include <lmdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static bool note_lowest(void *ctx, const struct meter_stored_report *r)
{
    *(uint64_t *)ctx = r->sequence;
    return false;
}

/* The number of the first report. */
static uint64_t lowest(struct meter_store *s)
{
    uint64_t number = 0;
    assert_ok(meter_store_each_report(s, 1u << METER_OUTBOX | 1u << METER_ARCHIVE, NULL,
                                      note_lowest, &number));
    return number;
}

static void assert_refused(enum meter_store_mode mode, const sm3_digest *wanted,
                           enum ami_status expected, const char *sentence)
{
    struct meter_store *s = NULL;
    struct why why = {{0}};
    assert_status(meter_store_open(&s, folder, mode, &network, wanted, 0, &why), expected);
    assert_null(s);
    if (strstr(why.text, sentence) == NULL)
        print_error("expected \"%s\" in \"%s\"\n", sentence, why.text);
    assert_non_null(strstr(why.text, sentence));
}

/* Acknowledgements come in any order, and a small archive must not swallow what waits for its own.
 */
static void a_small_archive_takes_nothing_from_the_outbox(void **state)
{
    (void)state;
    struct meter_store *s = opened(METER_STORE_CREATE, 0);
    for (uint64_t i = 1; i <= 6; i++)
        put(s, &a, i);
    put(s, &b, 1);
    s = reopened(s);
    settle(s, &a, 3, 1);
    settle(s, &a, 4, 1);
    settle(s, &a, 6, 1);
    assert_listed(s, "m/1/1 m/1/2 m/1/3+ m/1/4+ m/1/5 m/1/6+ m-2/1/1 ");
    settle(s, &a, 1, 1);
    settle(s, &a, 5, 1); /* 2 waits: what is above it stays, 1 goes */
    assert_listed(s, "m/1/2 m/1/3+ m/1/4+ m/1/5+ m/1/6+ m-2/1/1 ");
    s = reopened(s);
    assert_int_equal(next_waiting(s, &a, 1), 2);
    settle(s, &a, 2, 1); /* what was passed over goes too */
    assert_listed(s, "m/1/6+ m-2/1/1 ");
    put(s, &a, 7);
    settle(s, &a, 7, 1);
    assert_listed(s, "m/1/7+ m-2/1/1 ");
    meter_store_close(s);
}

/* Which one was acknowledged last is known after a start as before it. */
static void a_start_counts_from_the_last_that_is_settled(void **state)
{
    (void)state;
    static const uint64_t settled[] = {6, 1, 3, 2, 4};
    struct meter_store *s = opened(METER_STORE_CREATE, 0);
    for (uint64_t i = 1; i <= 8; i++)
        put(s, &a, i);
    put(s, &b, 1);
    for (size_t i = 0; i < sizeof settled / sizeof settled[0]; i++)
        settle(s, &a, settled[i], 3);
    assert_listed(s, "m/1/1+ m/1/2+ m/1/3+ m/1/4+ m/1/5 m/1/6+ m/1/7 m/1/8 m-2/1/1 ");
    s = reopened(s);
    settle(s, &b, 1, 3);
    assert_listed(s, "m/1/4+ m/1/5 m/1/6+ m/1/7 m/1/8 m-2/1/1+ ");
    meter_store_close(s);
}

/* Who wants fewer reports than before gets rid of the others, a few with each settling. */
static void an_archive_that_shrinks_is_trimmed_step_by_step(void **state)
{
    (void)state;
    struct meter_store *s = opened(METER_STORE_CREATE, 0);
    for (uint64_t i = 1; i <= 41; i++) {
        put(s, &a, i);
        settle(s, &a, i, 0);
    }
    s = reopened(s);
    put(s, &a, 42);
    settle(s, &a, 42, 2);
    assert_in_range(lowest(s), 2, 17);
    for (uint64_t i = 43; i <= 47; i++) {
        put(s, &a, i);
        settle(s, &a, i, 2);
    }
    /* What came after the last checkpoint stays until the next one. */
    assert_listed(s, "m/1/42+ m/1/43+ m/1/44+ m/1/45+ m/1/46+ m/1/47+ ");
    s = reopened(s);
    put(s, &a, 48);
    settle(s, &a, 48, 2);
    assert_listed(s, "m/1/47+ m/1/48+ ");
    meter_store_close(s);
}

static void reports_move_and_stay_in_order(void **state)
{
    (void)state;
    struct meter_store *s = opened(METER_STORE_CREATE, 0);
    for (uint64_t i = 1; i <= 4; i++) {
        put(s, &b, i);
        put(s, &a, i);
    }
    /* "m" comes before "m-2" although it is written later. */
    assert_int_equal(settle(s, &a, 2, 0), 2);
    settle(s, &b, 1, 0);
    settle(s, &b, 3, 0);
    s = reopened(s);
    assert_listed(s, "m/1/1 m/1/2+ m/1/3 m/1/4 m-2/1/1+ m-2/1/2 m-2/1/3+ m-2/1/4 ");
    assert_int_equal(next_waiting(s, &a, 0), 1);
    assert_int_equal(next_waiting(s, &a, 2), 3);
    assert_int_equal(next_waiting(s, &b, 1), 2);
    assert_int_equal(next_waiting(s, &b, 3), 4);
    assert_int_equal(next_waiting(s, &b, 5), 0);
    uint8_t record[METER_RECORD_BYTES_MAX];
    size_t size;
    assert_status(meter_store_next(s, &a, 2, 1, record, &size), AMI_NOT_FOUND);
    struct meter_backlog backlog;
    assert_ok(meter_store_backlog(s, &b, 1, &backlog));
    assert_int_equal(backlog.lowest, 2);
    assert_int_equal(backlog.reports, 2);
    assert_int_equal(backlog.readings, 2 + 4);
    assert_ok(meter_store_backlog(s, &b, 2, &backlog));
    assert_int_equal(backlog.reports, 0);
    struct meter_state st;
    assert_ok(meter_store_state(s, &b, 1, &st));
    assert_int_equal(st.next_sequence, 5);
    uint64_t row;
    assert_ok(meter_store_source(s, &b, 1, &chain, &row));
    assert_int_equal(row, 40);
    assert_ok(meter_store_source(s, &b, 1, &other_chain, &row));
    assert_int_equal(row, 0);
    /* The next key goes on where the one before ended. */
    assert_ok(meter_store_source(s, &b, 3, &chain, &row));
    assert_int_equal(row, 40);
    assert_ok(meter_store_source(s, &b, 3, &other_chain, &row));
    assert_int_equal(row, 0);
    /* What is not in the outbox cannot be settled. */
    struct meter_op op = {.kind = METER_OP_SETTLE, .name = &a, .epoch = 1, .sequence = 9};
    assert_status(meter_store_apply(s, &op, 1, NULL), AMI_DAMAGED);
    meter_store_close(s);
}

static void a_group_is_written_whole_or_not(void **state)
{
    (void)state;
    struct meter_store *s = opened(METER_STORE_CREATE, 0);
    uint8_t record[3][RECORD_BYTES];
    put(s, &a, 1);
    struct meter_op ops[3] = {report_op(&a, 2, record[0]), report_op(&b, 1, record[1]),
                              report_op(&a, 1, record[2])}; /* a number serves once */
    struct why why = {{0}};
    assert_int_not_equal(meter_store_apply(s, ops, 3, &why), AMI_OK);
    assert_listed(s, "m/1/1 ");
    struct meter_state st;
    assert_ok(meter_store_state(s, &a, 1, &st));
    assert_int_equal(st.next_sequence, 2);
    assert_status(meter_store_state(s, &b, 1, &st), AMI_NOT_FOUND);
    meter_store_close(s);
}

static void the_archive_is_a_ring(void **state)
{
    (void)state;
    struct meter_store *s = opened(METER_STORE_CREATE, 0);
    for (uint64_t i = 1; i <= 9; i++) {
        put(s, &a, i);
        settle(s, &a, i, 3);
        s = reopened(s);
    }
    assert_listed(s, "m/1/7+ m/1/8+ m/1/9+ ");
    meter_store_close(s);
}

static void keys_replace_the_pending_enrolment(void **state)
{
    (void)state;
    struct meter_store *s = opened(METER_STORE_CREATE, 0);
    uint8_t bytes[100] = {7}, out[200];
    size_t size;
    struct meter_op op = {.kind = METER_OP_PENDING, .name = &a, .record = span_of(bytes, 100)};
    assert_ok(meter_store_apply(s, &op, 1, NULL));
    assert_ok(meter_store_pending(s, &a, out, sizeof out, &size));
    assert_int_equal(size, 100);
    assert_status(meter_store_pending(s, &b, out, sizeof out, &size), AMI_NOT_FOUND);
    assert_status(meter_store_keys(s, &a, out, sizeof out, &size), AMI_NOT_FOUND);
    op = (struct meter_op){.kind = METER_OP_KEYS,
                           .name = &a,
                           .epoch = 1,
                           .record = span_of(bytes, 50),
                           .state = {.next_sequence = 1}};
    assert_ok(meter_store_apply(s, &op, 1, NULL));
    assert_status(meter_store_pending(s, &a, out, sizeof out, &size), AMI_NOT_FOUND);
    assert_ok(meter_store_keys(s, &a, out, sizeof out, &size));
    assert_int_equal(size, 50);
    meter_store_close(s);
}

static void refusals(void **state)
{
    (void)state;
    assert_refused(METER_STORE_READ, &chain, AMI_NOT_FOUND, "no meter is enrolled here");
    assert_refused(METER_STORE_WRITE, &chain, AMI_NOT_FOUND, "no meter is enrolled here");
    struct meter_store *s = opened(METER_STORE_CREATE, 0);
    put(s, &a, 1);
    assert_refused(METER_STORE_WRITE, &chain, AMI_IN_USE, folder);
    meter_store_close(s);
    assert_refused(METER_STORE_WRITE, &other_chain, AMI_WRONG_CHAIN, "belong to chain");
    assert_refused(METER_STORE_READ, &other_chain, AMI_WRONG_CHAIN, "belong to chain");
    assert_refused(METER_STORE_CREATE, &other_chain, AMI_WRONG_CHAIN, "belong to chain");
    /* Nothing of this changed it. */
    s = opened(METER_STORE_READ, 0);
    assert_listed(s, "m/1/1 ");
    meter_store_close(s);
}

static void foreign_and_empty_files(void **state)
{
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s/meters.mdb", folder);
    FILE *f = fopen(path, "wb");
    assert_int_equal(fclose(f), 0);
    assert_refused(METER_STORE_WRITE, &chain, AMI_DAMAGED, "the file is empty");
    f = fopen(path, "wb");
    for (int i = 0; i < 20000; i++)
        fputc(i, f);
    assert_int_equal(fclose(f), 0);
    assert_refused(METER_STORE_WRITE, &chain, AMI_DAMAGED, "damaged");
    assert_refused(METER_STORE_CREATE, &chain, AMI_DAMAGED, "damaged");
}

/* What an older program wrote is told from damage, and left as it is. */
static void an_older_format_is_refused(void **state)
{
    (void)state;
    static const enum meter_store_mode modes[] = {METER_STORE_READ, METER_STORE_WRITE,
                                                  METER_STORE_CREATE};
    char path[128];
    uint8_t meta[1 + 2 * SM3_BYTES] = {2};
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_val k = {5, (void *)(uintptr_t) "chain"}, v = {sizeof meta, meta};
    snprintf(path, sizeof path, "%s/meters.mdb", folder);
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_set_maxdbs(env, 8), 0);
    assert_int_equal(mdb_env_open(env, path, MDB_NOSUBDIR, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, "meta", MDB_CREATE, &dbi), 0);
    assert_int_equal(mdb_put(txn, dbi, &k, &v, 0), 0);
    assert_int_equal(mdb_dbi_open(txn, "reports", MDB_CREATE, &dbi), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++)
        assert_refused(modes[i], &chain, AMI_BAD_VERSION, "written in format 2");
}

/* A full disk: nothing of the transaction that did not fit is there, everything before it is. */
static void a_full_store(void **state)
{
    (void)state;
    struct meter_store *s = opened(METER_STORE_CREATE, 128u << 10);
    struct why why = {{0}};
    uint64_t i = 1;
    enum ami_status status = AMI_OK;
    for (; i < 10000 && status == AMI_OK; i++) {
        uint8_t record[RECORD_BYTES];
        struct meter_op op = report_op(&a, i, record);
        status = meter_store_apply(s, &op, 1, &why);
    }
    assert_status(status, AMI_FULL);
    assert_non_null(strstr(why.text, "no room to write"));
    meter_store_close(s);
    s = opened(METER_STORE_WRITE, 0); /* more room */
    struct meter_state st;
    assert_ok(meter_store_state(s, &a, 1, &st));
    assert_int_equal(st.next_sequence, i - 1);
    put(s, &a, i - 1);
    meter_store_close(s);
}

/* A process that is killed at any moment leaves every report that it was told to be durable, and
 * position, state and outbox of one instant. */
static void killed_while_writing(void **state)
{
    (void)state;
    for (int round = 0; round < 6; round++) {
        int pipe_fd[2];
        assert_int_equal(pipe(pipe_fd), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            struct meter_store *s = NULL;
            struct meter_state st = {.next_sequence = 1};
            if (meter_store_open(&s, folder, METER_STORE_CREATE, &network, &chain, 0, NULL) !=
                AMI_OK)
                _exit(1);
            (void)!meter_store_state(s, &a, 1, &st);
            for (uint64_t i = st.next_sequence;; i++) {
                uint8_t record[2][RECORD_BYTES];
                struct meter_op op[2] = {report_op(&a, i, record[0]), report_op(&b, i, record[1])};
                if (meter_store_apply(s, op, 2, NULL) != AMI_OK ||
                    write(pipe_fd[1], &i, sizeof i) != sizeof i)
                    _exit(1);
            }
        }
        close(pipe_fd[1]);
        uint64_t told = 0, next;
        for (int i = 0; i < 5 + 7 * round; i++) {
            assert_int_equal(read(pipe_fd[0], &next, sizeof next), sizeof next);
            told = next;
        }
        assert_int_equal(kill(child, SIGKILL), 0);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        while (read(pipe_fd[0], &next, sizeof next) == sizeof next)
            told = next;
        close(pipe_fd[0]);
        struct meter_store *s = opened(METER_STORE_WRITE, 0);
        struct meter_state st[2];
        uint64_t row;
        assert_ok(meter_store_state(s, &a, 1, &st[0]));
        assert_ok(meter_store_state(s, &b, 1, &st[1]));
        assert_int_equal(st[0].next_sequence, st[1].next_sequence);
        assert_true(st[0].next_sequence > told);
        assert_true(st[0].next_sequence <= told + 2);
        assert_ok(meter_store_source(s, &a, 1, &chain, &row));
        assert_int_equal(row, (st[0].next_sequence - 1) * 10);
        uint8_t record[METER_RECORD_BYTES_MAX];
        size_t size;
        for (uint64_t i = 1; i < st[0].next_sequence; i++) {
            assert_ok(meter_store_next(s, &b, 1, i, record, &size));
            assert_int_equal(record[0], i & 0xff);
        }
        assert_status(meter_store_next(s, &a, 1, st[0].next_sequence, record, &size),
                      AMI_NOT_FOUND);
        meter_store_close(s);
    }
}

#define SETTLED_TOLD (UINT64_C(1) << 63)

/* The child: numbers up to 12 above the lowest that waits are under way and are settled in any
 * order, one by one or with the next report; it tells what is durable. */
static void settle_in_any_order(int out)
{
    struct meter_store *s = NULL;
    struct meter_state st = {.next_sequence = 1};
    uint8_t record[METER_RECORD_BYTES_MAX];
    uint64_t random = 1;
    size_t size;
    if (meter_store_open(&s, folder, METER_STORE_CREATE, &network, &chain, 0, NULL) != AMI_OK)
        _exit(1);
    (void)!meter_store_state(s, &a, 1, &st);
    for (uint64_t i = st.next_sequence;; i++) {
        struct meter_op op[2] = {report_op(&a, i, record),
                                 {.kind = METER_OP_SETTLE, .name = &a, .epoch = 1, .keep = 1}};
        uint8_t waiting[METER_RECORD_BYTES_MAX];
        random = random * 6364136223846793005u + 1442695040888963407u;
        const uint64_t back = (random >> 33) % 12;
        size_t count = 1;
        if (meter_store_next(s, &a, 1, i > back ? i - back : 1, waiting, &size) == AMI_OK ||
            (i > 12 && meter_store_next(s, &a, 1, 1, waiting, &size) == AMI_OK)) {
            memcpy(&op[1].sequence, waiting + 8, sizeof op[1].sequence);
            count = 2;
        }
        /* The whole number stands in the record: it is found again there. */
        memcpy(record + 8, &i, sizeof i);
        const uint64_t told[2] = {i, op[1].sequence | SETTLED_TOLD};
        if (meter_store_apply(s, op, count, NULL) != AMI_OK ||
            write(out, told, count * sizeof told[0]) != (ssize_t)(count * sizeof told[0]))
            _exit(1);
    }
}

struct waiting {
    uint8_t state[4096]; /* 1: waits, 2: settled; as far as it was told */
    uint64_t top;
    size_t unknown; /* settled, or put, and killed before it could say so */
};

static bool count_waiting(void *ctx, const struct meter_stored_report *r)
{
    struct waiting *w = ctx;
    uint64_t number;
    assert_int_equal(r->record.size, 64);
    memcpy(&number, r->record.data + 8, sizeof number);
    assert_int_equal(number, r->sequence);
    assert_int_not_equal(w->state[number], 2);
    if (w->state[number] == 0)
        w->unknown++;
    w->state[number] = 3;
    return true;
}

/* However the last of many settlings is cut off: whatever waits has its record. */
static void killed_while_settling_with_a_small_archive(void **state)
{
    (void)state;
    static struct waiting w;
    memset(&w, 0, sizeof w);
    for (int round = 0; round < 6; round++) {
        int pipe_fd[2];
        assert_int_equal(pipe(pipe_fd), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            close(pipe_fd[0]);
            settle_in_any_order(pipe_fd[1]);
        }
        close(pipe_fd[1]);
        uint64_t told;
        for (int i = 0; read(pipe_fd[0], &told, sizeof told) == sizeof told; i++) {
            const uint64_t number = told & ~SETTLED_TOLD;
            assert_in_range(number, 1, sizeof w.state - 1);
            w.state[number] = (told & SETTLED_TOLD) != 0 ? 2 : 1;
            w.top = number > w.top ? number : w.top;
            if (i == 40 + 11 * round)
                assert_int_equal(kill(child, SIGKILL), 0);
        }
        close(pipe_fd[0]);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        struct meter_store *s = opened(METER_STORE_WRITE, 0);
        w.unknown = 0;
        assert_ok(meter_store_each_report(s, 1u << METER_OUTBOX, NULL, count_waiting, &w));
        meter_store_close(s);
        size_t missing = 0;
        for (uint64_t i = 1; i <= w.top; i++) {
            missing += w.state[i] == 1;
            w.state[i] = w.state[i] == 3 ? 1 : 2;
        }
        /* One transaction may have been carried out and not told. */
        assert_in_range(missing, 0, 1);
        assert_in_range(w.unknown, 0, 1);
        w.state[w.top + 1] = w.unknown == 1 ? 1 : 0;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(reports_move_and_stay_in_order, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(a_small_archive_takes_nothing_from_the_outbox, make_folder,
                                        drop_folder),
        cmocka_unit_test_setup_teardown(a_start_counts_from_the_last_that_is_settled, make_folder,
                                        drop_folder),
        cmocka_unit_test_setup_teardown(an_archive_that_shrinks_is_trimmed_step_by_step,
                                        make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(killed_while_settling_with_a_small_archive, make_folder,
                                        drop_folder),
        cmocka_unit_test_setup_teardown(a_group_is_written_whole_or_not, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(the_archive_is_a_ring, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(keys_replace_the_pending_enrolment, make_folder,
                                        drop_folder),
        cmocka_unit_test_setup_teardown(refusals, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(foreign_and_empty_files, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(an_older_format_is_refused, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(a_full_store, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(killed_while_writing, make_folder, drop_folder),
    };
    if (!store_support_start())
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
