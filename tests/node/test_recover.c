/* A ledger at a node's start and end: the mark of a clean end and what it is worth, the check that
 * it saves, and a damaged ledger that is set aside. */
#include "tests/harness.h"

#include "ledger/store_value.h"
#include "net/file.h"
#include "node/recover.h"
#include "tests/crypto_start.h"
#include "tests/ledger/fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <lmdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[256], ledger[300], data[320], mark_path[320];
static struct fixture *f;
static struct loop *loop;
static struct log_sink *sink;
static struct recover_mark mark;

static struct recover_where where(void)
{
    return (struct recover_where){dir, ledger, &f->genesis, sink, loop, -1};
}

static int set_up(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, sizeof dir, "%s/ami-recover-XXXXXX", tmp == NULL ? "/tmp" : tmp);
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(ledger, sizeof ledger, "%s/ledger", dir);
    snprintf(data, sizeof data, "%s/data.mdb", ledger);
    snprintf(mark_path, sizeof mark_path, "%s/ledger.closed", dir);
    f = fixture_new(4, 9);
    loop = loop_new();
    sink = log_open(NULL, ENV_LOG_ERROR, 20);
    return f == NULL || loop == NULL || sink == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    char command[400];
    snprintf(command, sizeof command, "rm -r '%s'", dir);
    log_close(sink);
    loop_free(loop);
    fixture_free(f);
    return system(command);
}

static struct span record_of(uint8_t *out, size_t size, uint64_t starts)
{
    struct vote_record v = {.version = 1,
                            .chain = f->genesis.members.chain,
                            .epoch = f->genesis.members.epoch,
                            .starts = starts,
                            .term = 7,
                            .tip = f->genesis.members.chain};
    struct writer w = writer_on(out, size);
    vote_record_encode(&w, &v);
    assert_true(writer_ok(&w));
    return writer_span(&w);
}

/* A ledger with a vote record in it. */
static void make_ledger(void)
{
    struct store *s;
    uint8_t bytes[512];
    char why[WHY_BYTES_MAX];
    assert_ok(
        store_open(&s, ledger, &f->genesis.members.chain, STORE_READ_WRITE, 0, why, sizeof why));
    for (unsigned i = 0; i < 5; i++) {
        struct store_batch batch = {.vote_record = record_of(bytes, sizeof bytes, 3)};
        assert_ok(store_write(s, &batch));
    }
    store_close(s);
}

static void write_mark(uint64_t starts, uint64_t record_starts, int64_t checked_ms)
{
    struct why why;
    uint8_t bytes[512];
    const struct recover_where w = where();
    assert_ok(recover_mark_write(&w, starts, record_of(bytes, sizeof bytes, record_starts),
                                 checked_ms, &why));
}

static void read_mark(void)
{
    const struct recover_where w = where();
    recover_mark_read(&mark, &w);
}

/* Flips one bit of the file. */
static void flip(const char *path, off_t at)
{
    uint8_t byte;
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 8;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

static unsigned count_asides(void)
{
    unsigned count = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        count += strncmp(e->d_name, "ledger.damaged-", 15) == 0;
    closedir(d);
    return count;
}

static enum ami_status check(int64_t *checked_ms)
{
    struct why why;
    const struct recover_where w = where();
    read_mark();
    return recover_check(&w, &mark, checked_ms, &why);
}

static void a_mark_comes_back_whole_or_not_at_all(void **state)
{
    (void)state;
    struct why why;
    struct stat st;
    read_mark();
    assert_false(mark.exists);
    make_ledger();
    write_mark(3, 3, 1234);
    read_mark();
    assert_true(mark.exists && mark.has_record);
    assert_int_equal(mark.closed.starts, 3);
    assert_int_equal(mark.closed.checked_ms, 1234);
    assert_int_equal(mark.record.term, 7);
    assert_int_equal(stat(mark_path, &st), 0);
    for (off_t at = 0; at < st.st_size; at++) {
        flip(mark_path, at);
        read_mark();
        assert_false(mark.exists || mark.has_record);
        flip(mark_path, at);
    }
    read_mark();
    assert_true(mark.has_record);
    f->genesis.members.chain.b[1] ^= 1; /* another chain's */
    read_mark();
    assert_false(mark.exists || mark.has_record);
    f->genesis.members.chain.b[1] ^= 1;
    assert_int_equal(truncate(mark_path, st.st_size - 1), 0);
    read_mark();
    assert_false(mark.exists);
    const struct recover_where w = where();
    assert_ok(recover_mark_remove(&w, &why));
    assert_int_equal(access(mark_path, F_OK), -1);
    assert_ok(recover_mark_remove(&w, &why)); /* it is gone already */
}

/* A record of another life than the mark's is none. */
static void a_mark_without_its_record(void **state)
{
    (void)state;
    struct why why;
    make_ledger();
    write_mark(3, 2, 0);
    read_mark();
    assert_true(mark.exists);
    assert_false(mark.has_record);
    const struct recover_where w = where();
    assert_ok(recover_mark_write(&w, 3, span_of(NULL, 0), 0, &why));
    read_mark();
    assert_true(mark.exists);
    assert_false(mark.has_record);
}

/* When the whole is checked: never mind how it looks, unless it was left so within the last week.
 */
static void the_mark_saves_the_check_for_a_while(void **state)
{
    (void)state;
    const int64_t now = clock_wall_ms();
    int64_t checked = 0;
    assert_ok(check(&checked)); /* no ledger at all */
    make_ledger();
    assert_ok(check(&checked));
    assert_true(checked >= now);
    write_mark(3, 3, now - RECOVER_CHECKED_MS / 2);
    assert_ok(check(&checked));
    assert_int_equal(checked, now - RECOVER_CHECKED_MS / 2);
    write_mark(3, 3, now - RECOVER_CHECKED_MS - 1);
    assert_ok(check(&checked));
    assert_true(checked >= now);
    write_mark(3, 3, 0); /* damage was met */
    checked = 0;
    assert_ok(check(&checked));
    assert_true(checked >= now);
    write_mark(3, 3, now + 100000); /* the clock was wrong */
    assert_ok(check(&checked));
    assert_true(checked < now + 100000);
    write_mark(3, 3, now - 1000);
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1000}};
    assert_int_equal(utimensat(AT_FDCWD, data, times, 0), 0); /* touched since */
    assert_ok(check(&checked));
    assert_true(checked >= now);
    assert_int_equal(count_asides(), 0);
}

static void a_damaged_ledger_is_set_aside(void **state)
{
    (void)state;
    int64_t checked = 0;
    for (unsigned i = 1; i <= 3; i++) { /* within a second: names differ all the same */
        make_ledger();
        flip(data, 4096 + 16); /* a meta page's magic number */
        assert_ok(check(&checked));
        assert_int_equal(access(ledger, F_OK), -1);
        assert_int_equal(count_asides(), i);
    }
    /* What the mark hides from the whole check, the part finds, and then the whole. */
    struct stat st;
    make_ledger();
    assert_int_equal(stat(data, &st), 0);
    flip(data, 16);
    flip(data, 4096 + 16);
    const struct timespec times[2] = {st.st_atim, st.st_mtim};
    assert_int_equal(utimensat(AT_FDCWD, data, times, 0), 0);
    write_mark(3, 3, clock_wall_ms() - 1000);
    assert_ok(check(&checked));
    assert_int_equal(access(ledger, F_OK), -1);
    assert_int_equal(count_asides(), 4);
}

/* A ledger of another version, or of another chain, is no damaged one: it stays where it is. */
static void what_is_foreign_is_not_set_aside(void **state)
{
    (void)state;
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi db;
    uint8_t text[64];
    int64_t checked = 0;
    make_ledger();
    const struct span key = SPAN_LITERAL("format"), value = SPAN_LITERAL("amiledger store 6");
    memcpy(text, value.data, value.size);
    store_check(text + value.size, "meta", key, value, span_of(NULL, 0));
    MDB_val k = {key.size, (void *)(uintptr_t)key.data}, v = {value.size + STORE_CHECK_BYTES, text};
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_set_maxdbs(env, 16), 0);
    assert_int_equal(mdb_env_open(env, ledger, 0, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, "meta", 0, &db), 0);
    assert_int_equal(mdb_put(txn, db, &k, &v, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    assert_status(check(&checked), AMI_UNSUPPORTED);
    assert_int_equal(access(data, F_OK), 0);
    assert_int_equal(unlink(data), 0);
    make_ledger();
    f->genesis.members.chain.b[1] ^= 1;
    assert_ok(check(&checked)); /* who opens it says so */
    f->genesis.members.chain.b[1] ^= 1;
    assert_int_equal(access(data, F_OK), 0);
    assert_int_equal(count_asides(), 0);
}

static void forget_nothing(void *ctx)
{
    *(bool *)ctx = true; /* in the other process: not seen here */
}

/* What the patrol has to say, within a while; AMI_OK: nothing. */
static enum ami_status look_for(struct recover_patrol *p, uint64_t ms)
{
    struct why why;
    enum ami_status status = AMI_OK;
    for (uint64_t until = clock_mono_us() + ms * 1000;
         status == AMI_OK && clock_mono_us() < until;) {
        status = recover_patrol_look(p, &why);
        (void)loop_step(loop, 5000);
    }
    return status;
}

static void a_patrol_finds_damage_and_is_no_damage_itself(void **state)
{
    (void)state;
    struct recover_patrol p;
    struct why why;
    bool forgotten = false;
    const struct recover_where w = where();
    /* It waits for a ledger that is not there yet, and finds nothing in a good one. */
    assert_ok(recover_patrol_begin(&p, &w, 50, forget_nothing, &forgotten, &why));
    assert_false(forgotten);
    make_ledger();
    assert_ok(look_for(&p, 1500));
    /* Whoever ends it says nothing of the ledger. */
    assert_int_equal(kill(p.pid, SIGKILL), 0);
    assert_status(look_for(&p, 20000), AMI_IO);
    assert_ok(recover_patrol_look(&p, &why)); /* said once */
    recover_patrol_end(&p);
    assert_ok(recover_patrol_begin(&p, &w, 50, forget_nothing, &forgotten, &why));
    assert_ok(look_for(&p, 500));
    /* The ledger's content is in its last pages. */
    struct stat st;
    assert_int_equal(stat(data, &st), 0);
    for (off_t at = 2 * 4096 + 100; at < st.st_size; at += 50)
        flip(data, at);
    assert_status(look_for(&p, 20000), AMI_DAMAGED);
    recover_patrol_end(&p);
    recover_patrol_end(&p); /* over already */
}

#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_DIR(a_mark_comes_back_whole_or_not_at_all),
        IN_DIR(a_mark_without_its_record),
        IN_DIR(the_mark_saves_the_check_for_a_while),
        IN_DIR(a_damaged_ledger_is_set_aside),
        IN_DIR(what_is_foreign_is_not_set_aside),
        IN_DIR(a_patrol_finds_damage_and_is_no_damage_itself),
    };
    return cmocka_run_group_tests(tests, start_crypto, NULL);
}
