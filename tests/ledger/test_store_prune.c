/* Pruning on disk: in steps that a crash takes back whole, with all that is left still found, the
 * space used again, and never above a watermark that is kept beside it. */
#include "ledger/store_check.h"
#include "ledger/store_value.h"
#include "tests/ledger/store_dir.h"

#include <errno.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define BLOCKS 120
#define TXS    20

static struct made *made[BLOCKS];
static struct store *s;

/* --- the disk under LMDB: the write or sync numbered `die_at` ends the process -----------------
 */

static unsigned die_at, calls;

static void disk_call(void)
{
    if (die_at != 0 && ++calls == die_at)
        _exit(7);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    disk_call();
    return syscall(SYS_pwrite64, fd, data, size, at);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    disk_call();
    return syscall(SYS_writev, fd, parts, count);
}

int fdatasync(int fd)
{
    disk_call();
    return (int)syscall(SYS_fdatasync, fd);
}

/* --- a ledger ----------------------------------------------------------------------------------
 */

static int make_blocks(void **state)
{
    if (set_up(state) != 0)
        return -1;
    struct tip tip = tip_at_start();
    s = open_store(STORE_READ_WRITE, 0);
    for (unsigned i = 0; i < BLOCKS; i++) {
        made[i] = make_block(&tip, i % 7 == 3 ? 0 : TXS, 600);
        struct store_batch batch = commit_of(made[i]);
        assert_ok(store_write(s, &batch));
    }
    return 0;
}

static int drop_blocks(void **state)
{
    store_close(s);
    for (unsigned i = 0; i < BLOCKS; i++)
        free_block(made[i]);
    return tear_down(state);
}

/* Who signed it is the caller's business, not the store's. */
static struct span retention_of(uint8_t out[RETENTION_TX_BYTES], uint64_t below)
{
    uint8_t first[16];
    const sm2_signature nobody = {{0}};
    struct writer f = writer_on(first, sizeof first), w = writer_on(out, RETENTION_TX_BYTES);
    const struct retention r = {.number = 1, .below = below};
    retention_encode(&f, &r);
    mdms_tx_encode(&w, TX_RETENTION, writer_span(&f), &nobody);
    assert_true(writer_ok(&w) && w.size == RETENTION_TX_BYTES);
    return writer_span(&w);
}

static void allow(uint64_t below)
{
    uint8_t tx[RETENTION_TX_BYTES];
    struct store_batch batch = {.retention = retention_of(tx, below)};
    assert_ok(store_write(s, &batch));
}

static struct store_retention state_of(void)
{
    struct store_retention r;
    assert_ok(store_retention(s, &r));
    return r;
}

/* Returns how many steps it took. */
static unsigned prune_all(uint64_t below)
{
    unsigned steps = 0;
    while (state_of().pruned < below) {
        const uint64_t before = state_of().pruned;
        struct store_batch batch = {.prune_below = below};
        assert_ok(store_write(s, &batch));
        assert_true(state_of().pruned > before);
        assert_true(state_of().pruned - before <= STORE_PRUNE_BLOCKS);
        steps++;
    }
    return steps;
}

/* Everything is found where it was, blocks below this height in their pruned form. */
static void assert_ledger(uint64_t pruned_below)
{
    static uint8_t pruned[AMI_BLOCK_BYTES_MAX];
    const struct ami_id meter = meter_name();
    for (unsigned i = 0; i < BLOCKS; i++) {
        const struct made *b = made[i];
        struct certified_block got;
        struct block_header header;
        struct body_reply reply;
        struct qc commit;
        uint64_t height;
        uint32_t index;
        bool changed;
        struct span body = span_of(b->body, b->body_size);
        struct writer w = writer_on(pruned, sizeof pruned);
        assert_ok(body_prune(&w, body, &changed));
        if (b->header.height < pruned_below)
            body = writer_span(&w);
        assert_ok(store_block(s, b->header.height, &got, buffer, sizeof buffer));
        assert_true(span_equal(got.body, body));
        assert_int_equal(got.commit.signatures_count, 3);
        assert_ok(store_header(s, b->header.height, &header, &commit));
        sm3_digest hash = block_hash(&header);
        assert_memory_equal(hash.b, b->hash.b, SM3_BYTES);
        assert_ok(store_body(s, &b->hash, &reply, buffer, sizeof buffer));
        assert_true(span_equal(reply.body, body));
        assert_ok(store_height_of(s, &b->hash, &height));
        if (b->header.tx_count == 0)
            continue;
        assert_ok(store_find_tx(s, &b->first_tx, &height, &index));
        assert_int_equal(height, b->header.height);
        assert_ok(store_find_report(s, &meter, 1, b->first_sequence + 1, &height, &index));
        assert_int_equal(height, b->header.height);
        assert_int_equal(index, 1);
    }
}

/* The checker that knows no LMDB finds nothing wrong either. */
static void assert_whole(void)
{
    struct store_check_result result;
    store_close(s);
    s = NULL;
    why[0] = '\0';
    enum ami_status status = store_check_all(dir, &chain, NULL, NULL, &result, why, sizeof why);
    if (status != AMI_OK)
        fail_msg("%s: %s", ami_status_name(status), why);
    assert_true(result.height >= BLOCKS);
    s = open_store(STORE_READ_WRITE, 0);
}

static off_t file_size(void)
{
    struct stat st;
    char path[512];
    snprintf(path, sizeof path, "%s/data.mdb", dir);
    assert_int_equal(stat(path, &st), 0);
    return st.st_size;
}

/* --- tests -------------------------------------------------------------------------------------
 */

static void it_goes_step_by_step_and_keeps_what_is_left(void **state)
{
    (void)state;
    assert_int_equal(state_of().below, 0);
    assert_int_equal(state_of().pruned, 1);
    struct store_batch batch = {.prune_below = 80};
    assert_ok(store_write(s, &batch)); /* nothing is allowed yet */
    assert_int_equal(state_of().pruned, 1);
    allow(80);
    assert_int_equal(state_of().below, 80);
    assert_int_equal(state_of().tx_size, RETENTION_TX_BYTES);
    assert_ledger(1);
    assert_ok(store_write(s, &batch));
    const uint64_t part = state_of().pruned;
    assert_true(part > 1 && part < 80);
    batch.prune_bytes = STORE_PRUNE_BYTES / 4; /* a shorter step, and a longer one */
    assert_ok(store_write(s, &batch));
    const uint64_t further = state_of().pruned;
    assert_true(further > part && further - part < (part - 1) / 2);
    batch.prune_bytes = 2 * STORE_PRUNE_BYTES;
    assert_ok(store_write(s, &batch));
    assert_true(state_of().pruned - further > part - 1 || state_of().pruned == 80);
    batch.prune_bytes = 0;
    const uint64_t at = state_of().pruned;
    assert_ledger(at);
    assert_whole(); /* also half-way, and reopened it goes on there */
    assert_int_equal(state_of().pruned, at);
    assert_true(prune_all(80) >= 1);
    assert_ledger(80);
    assert_whole();
    assert_ledger(80);
    batch.prune_below = 100; /* never above the watermark */
    assert_ok(store_write(s, &batch));
    assert_int_equal(state_of().pruned, 80);
    allow(60); /* which does not sink */
    assert_int_equal(state_of().below, 80);
    allow(UINT64_MAX); /* nor beyond the tip */
    batch.prune_below = UINT64_MAX;
    prune_all(BLOCKS + 1);
    assert_ok(store_write(s, &batch));
    assert_int_equal(state_of().pruned, BLOCKS + 1);
    assert_ledger(BLOCKS + 1);
    assert_whole();
}

static struct made *next_block(struct tip *tip, bool pruned, const struct span *more)
{
    struct made *b = make_block(tip, 2, 300);
    if (more != NULL) {
        uint8_t *body = malloc(b->body_size + 4 + more->size);
        assert_non_null(body);
        memcpy(body, b->body, b->body_size);
        store_be32(body + b->body_size, (uint32_t)more->size);
        memcpy(body + b->body_size + 4, more->data, more->size);
        free(b->body);
        b->body = body;
        b->body_size += 4 + more->size;
        b->header.tx_count++;
        seal_block(b, VOTE_COMMIT);
        tip->hash = b->hash;
    }
    if (pruned) {
        bool changed;
        uint8_t *body = malloc(b->body_size);
        assert_non_null(body);
        struct writer w = writer_on(body, b->body_size);
        assert_ok(body_prune(&w, span_of(b->body, b->body_size), &changed));
        free(b->body);
        b->body = body;
        b->body_size = w.size;
    }
    return b;
}

/* A node that is behind stores blocks that come pruned, with what allows it or after it. */
static void blocks_may_come_pruned_below_the_watermark(void **state)
{
    (void)state;
    uint8_t tx[RETENTION_TX_BYTES];
    struct tip tip = {BLOCKS, made[BLOCKS - 1]->hash, 100000};
    struct made *b = next_block(&tip, true, NULL);
    struct store_batch batch = commit_of(b);
    assert_status(store_write(s, &batch), AMI_BAD_ENCODING);
    batch.retention = retention_of(tx, BLOCKS + 1);
    assert_status(store_write(s, &batch), AMI_BAD_ENCODING);
    assert_int_equal(state_of().below, 0); /* whole or not at all */
    batch.retention = retention_of(tx, BLOCKS + 3);
    assert_ok(store_write(s, &batch));
    assert_int_equal(state_of().below, BLOCKS + 3);
    free_block(b);
    b = next_block(&tip, true, NULL);
    batch = commit_of(b);
    assert_ok(store_write(s, &batch));
    uint64_t height;
    uint32_t index;
    assert_ok(store_find_tx(s, &b->first_tx, &height, &index));
    const struct ami_id meter = meter_name();
    assert_ok(store_find_report(s, &meter, 1, b->first_sequence, &height, &index));
    assert_int_equal(height, BLOCKS + 2);
    free_block(b);
    const struct tip before = tip;
    b = next_block(&tip, true, NULL);
    batch = commit_of(b);
    assert_status(store_write(s, &batch), AMI_BAD_ENCODING);
    free_block(b);
    /* A block's own retention transaction counts from then on. */
    tip = before;
    const struct span more = retention_of(tx, BLOCKS + 9);
    b = next_block(&tip, false, &more);
    batch = commit_of(b);
    assert_ok(store_write(s, &batch));
    assert_int_equal(state_of().below, BLOCKS + 9);
    assert_memory_equal(state_of().tx, tx, sizeof tx);
    free_block(b);
    assert_whole();
    prune_all(BLOCKS + 4);
    assert_whole();
    batch = (struct store_batch){.retention = span_of(tx, sizeof tx - 1)};
    assert_int_not_equal(store_write(s, &batch), AMI_OK);
}

/* What pruning frees the next blocks take: the file does not grow. */
static void the_space_is_used_again(void **state)
{
    (void)state;
    struct tip tip = {BLOCKS, made[BLOCKS - 1]->hash, 100000};
    allow(BLOCKS - 10);
    const off_t before = file_size();
    prune_all(BLOCKS - 10);
    const off_t pruned = file_size();
    unsigned more = 0;
    while (more < 10 * BLOCKS) {
        struct made *b = make_block(&tip, TXS, 600);
        struct store_batch batch = commit_of(b);
        assert_ok(store_write(s, &batch));
        free_block(b);
        more++;
        if (file_size() > pruned)
            break;
    }
    print_message("%lld bytes with %d blocks, %lld after pruning, then %u blocks more in them\n",
                  (long long)before, BLOCKS, (long long)pruned, more);
    assert_true(pruned - before < before / 8); /* steps are small: they need little room */
    assert_true(more > BLOCKS / 3);
    assert_whole();
}

/* The process ends at each write and sync of a step in turn: the ledger is as it was, or a step
 * further, and pruning goes on. */
static void a_crash_takes_back_a_step_or_nothing(void **state)
{
    (void)state;
    allow(BLOCKS - 10);
    const uint64_t before = state_of().pruned;
    unsigned died = 0;
    for (unsigned at = 1; state_of().pruned == before; at++) {
        store_close(s);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            if (store_open(&s, dir, &chain, STORE_READ_WRITE, 0, why, sizeof why) != AMI_OK)
                _exit(1);
            struct store_batch batch = {.prune_below = BLOCKS - 10};
            die_at = at;
            _exit(store_write(s, &batch) == AMI_OK ? 0 : 1);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status) && (WEXITSTATUS(status) == 7 || WEXITSTATUS(status) == 0));
        died += WEXITSTATUS(status) == 7;
        s = open_store(STORE_READ_WRITE, 0);
        /* The last call is the sync behind the page that makes the step count. */
        if (WEXITSTATUS(status) == 0)
            assert_true(state_of().pruned > before);
        assert_ledger(state_of().pruned);
    }
    assert_true(died >= 3);
    prune_all(BLOCKS - 10);
    assert_ledger(BLOCKS - 10);
    assert_whole();
}

/* Puts a value under a key, with its check, as no program of ours does. Empty: takes it away. */
static void tamper_row(const char *db_name, struct span key, struct span value)
{
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi db;
    uint8_t stored[256];
    MDB_val k = {key.size, (void *)(uintptr_t)key.data};
    MDB_val v = {value.size + STORE_CHECK_BYTES, stored};
    if (value.size != 0)
        memcpy(stored, value.data, value.size);
    store_check(stored + value.size, db_name, key, value, span_of(NULL, 0));
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_set_maxdbs(env, 16), 0);
    assert_int_equal(mdb_env_open(env, dir, 0, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, db_name, 0, &db), 0);
    assert_int_equal(value.size == 0 ? mdb_del(txn, db, &k, NULL) : mdb_put(txn, db, &k, &v, 0), 0);
    assert_int_equal(mdb_dbi_open(txn, "meta", 0, &db), 0);
    /* As every write does. */
    uint8_t of_writes[16 + STORE_CHECK_BYTES] = {0};
    MDB_val wk = {5, (void *)(uintptr_t) "write"}, wv = {sizeof of_writes, of_writes};
    store_be64(of_writes, mdb_txn_id(txn));
    store_check(of_writes + 16, "meta", SPAN_LITERAL("write"), span_of(of_writes, 16),
                span_of(NULL, 0));
    assert_int_equal(mdb_put(txn, db, &wk, &wv, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

static void tamper(const char *name, struct span value)
{
    tamper_row("meta", span_of(name, strlen(name)), value);
}

static void tamper_retention(uint64_t below)
{
    uint8_t tx[RETENTION_TX_BYTES];
    tamper("retention", retention_of(tx, below));
}

static void tamper_pruned(uint64_t height)
{
    uint8_t mark[8];
    store_be64(mark, height);
    tamper("pruned", span_of(mark, sizeof mark));
}

/* What the checker must find: a block that is pruned where no retention says so. */
static void the_checker_knows_what_may_be_pruned(void **state)
{
    (void)state;
    struct store_check_result result;
    allow(50);
    prune_all(50);
    assert_whole();
    store_close(s);
    s = NULL;
    tamper_retention(49);
    assert_status(store_check_all(dir, &chain, NULL, NULL, &result, why, sizeof why), AMI_DAMAGED);
    assert_non_null(strstr(why, "pruned that must not be"));
    tamper_retention(50);
    assert_ok(store_check_all(dir, &chain, NULL, NULL, &result, why, sizeof why));
    tamper_pruned(51); /* above the watermark */
    assert_status(store_check_all(dir, &chain, NULL, NULL, &result, why, sizeof why), AMI_DAMAGED);
    assert_non_null(strstr(why, "pruned"));
    tamper_retention(80);
    assert_status(store_check_all(dir, &chain, NULL, NULL, &result, why, sizeof why), AMI_DAMAGED);
    assert_non_null(strstr(why, "says it has pruned"));
    s = open_store(STORE_READ_WRITE, 0);
}

/* Rows that no block made, and rows that are gone. */
static void the_checker_knows_which_rows_there_are(void **state)
{
    (void)state;
    static const uint8_t epoch[4] = {0xee}, place[12] = {0, 0, 0, 0, 0, 0, 0, 9};
    struct store_check_result result;
    uint8_t name[RUN_KEY_BYTES], row[ROW_BYTES] = {0};
    store_close(s);
    s = NULL;
    tamper_row("epochs", span_of(epoch, sizeof epoch), span_of(place, sizeof place));
    assert_status(store_check_all(dir, &chain, NULL, NULL, &result, why, sizeof why), AMI_DAMAGED);
    assert_non_null(strstr(why, "index of transactions"));
    tamper_row("epochs", span_of(epoch, sizeof epoch), span_of(NULL, 0));
    assert_ok(store_check_all(dir, &chain, NULL, NULL, &result, why, sizeof why));

    /* In a run that is not there yet, and in the first of one that is. */
    row[ROW_KEY_BYTES + 7] = 1;
    for (uint64_t run = 1; run <= 2; run++) {
        run_key_encode(name, 1, 2 - run, row);
        tamper_row("runs", span_of(name, sizeof name), span_of(row, sizeof row));
        assert_status(store_check_all(dir, &chain, NULL, NULL, &result, why, sizeof why),
                      AMI_DAMAGED);
        assert_non_null(strstr(why, run == 1 ? "in runs" : "index of transactions"));
        if (run == 1)
            tamper_row("runs", span_of(name, sizeof name), span_of(NULL, 0));
    }
    s = open_store(STORE_READ_WRITE, 0);
}

/* What another DC begins with: all of the ledger, also while it is pruned and grows, and nothing
 * that is its node's own. */
static void a_copy_is_the_ledger_and_no_more(void **state)
{
    (void)state;
    char copy_dir[300], own_dir[256];
    uint8_t record[512];
    uint64_t height = 0;
    struct tip tip = {BLOCKS, made[BLOCKS - 1]->hash, 100000};
    struct made *next = make_block(&tip, 2, 300);
    struct store_batch batch = pending_of(next);
    batch.vote_record = vote_of(record, 9, &next->hash);
    assert_ok(store_write(s, &batch));
    allow(60);
    prune_all(60);
    const off_t before = file_size();
    snprintf(copy_dir, sizeof copy_dir, "%s-copy", dir);
    assert_ok(store_copy(s, copy_dir, &height, NULL, NULL, why, sizeof why));
    assert_int_equal(height, BLOCKS);
    assert_status(store_copy(s, copy_dir, &height, NULL, NULL, why, sizeof why), AMI_EXISTS);
    assert_ledger(60); /* the first one goes on as it was */
    struct vote_record vote;
    struct body_reply kept;
    assert_ok(store_vote_record(s, &vote, buffer, sizeof buffer));
    struct store *first = s;
    memcpy(own_dir, dir, sizeof own_dir);
    snprintf(dir, sizeof dir, "%.250s-copy", own_dir);
    s = open_store(STORE_READ_WRITE, 0);
    assert_true(file_size() < before);
    assert_ledger(60);
    assert_int_equal(state_of().pruned, 60);
    assert_status(store_vote_record(s, &vote, buffer, sizeof buffer), AMI_NOT_FOUND);
    assert_status(store_body(s, &next->hash, &kept, buffer, sizeof buffer), AMI_NOT_FOUND);
    assert_whole();
    batch = commit_of(next);
    assert_ok(store_write(s, &batch));
    assert_whole();
    store_close(s);
    s = first;
    remove_file("data.mdb");
    remove_file("lock.mdb");
    remove_file("ledger.lock");
    assert_int_equal(rmdir(dir), 0);
    memcpy(dir, own_dir, sizeof own_dir);
    free_block(next);
}

#define ON_BLOCKS(test) cmocka_unit_test_setup_teardown(test, make_blocks, drop_blocks)

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        ON_BLOCKS(it_goes_step_by_step_and_keeps_what_is_left),
        ON_BLOCKS(blocks_may_come_pruned_below_the_watermark),
        ON_BLOCKS(the_space_is_used_again),
        ON_BLOCKS(a_crash_takes_back_a_step_or_nothing),
        ON_BLOCKS(a_copy_is_the_ledger_and_no_more),
        ON_BLOCKS(the_checker_knows_what_may_be_pruned),
        ON_BLOCKS(the_checker_knows_which_rows_there_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
