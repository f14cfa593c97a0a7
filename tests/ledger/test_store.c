/* The ledger on disk: what goes in comes out, also after a crash; a batch is whole or absent; every
 * way in which a directory can be wrong or full has its status and its sentence. */
#include "tests/harness.h"

#include "crypto/secret.h"
#include "tests/ledger/store_made.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <lmdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define BUFFER_BYTES (AMI_BLOCK_BYTES_MAX + 8192)

static char dir[256], why[256];
static uint8_t buffer[BUFFER_BYTES];

/* --- the disk under LMDB ----------------------------------------------------------------------
 *
 * LMDB's calls land here, before the C library: they are written down while `disk.watched`, and the
 * one numbered `fail_at` fails.
 */

#define FAIL_META UINT_MAX

static struct {
    bool watched;
    unsigned calls,
        fail_at;    /* from 1; 0: none; FAIL_META: the one of the page that makes others count */
    int error;      /* 0: half of the bytes are written, as on a disk that fills up */
    char log[4096]; /* w: write, d: write through a descriptor with O_DSYNC, s: sync */
} disk;

/* True when this call is to fail. */
static bool disk_call(int fd, bool sync)
{
    if (!disk.watched)
        return false;
    const char kind = (char)(sync ? 's' : (fcntl(fd, F_GETFL) & O_DSYNC) != 0 ? 'd' : 'w');
    if (disk.calls < sizeof disk.log - 1)
        disk.log[disk.calls] = kind;
    disk.calls++;
    return disk.fail_at == FAIL_META ? kind == 'd' : disk.calls == disk.fail_at;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    if (disk_call(fd, false)) {
        if (disk.error == 0)
            return syscall(SYS_pwrite64, fd, data, size / 2, at);
        errno = disk.error;
        return -1;
    }
    return syscall(SYS_pwrite64, fd, data, size, at);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    if (disk_call(fd, false)) {
        if (disk.error == 0)
            return syscall(SYS_writev, fd, parts, count / 2);
        errno = disk.error;
        return -1;
    }
    return syscall(SYS_writev, fd, parts, count);
}

int fdatasync(int fd)
{
    if (disk_call(fd, true)) {
        errno = disk.error == 0 ? EIO : disk.error;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

int fallocate(int fd, int mode, off_t at, off_t size)
{
    if (disk_call(fd, false)) {
        errno = disk.error == 0 ? ENOSPC : disk.error;
        return -1;
    }
    return (int)syscall(SYS_fallocate, fd, mode, at, size);
}

static void disk_watch(unsigned fail_at, int error)
{
    memset(&disk, 0, sizeof disk);
    disk.fail_at = fail_at;
    disk.error = error;
    disk.watched = true;
}

/* --- directories ------------------------------------------------------------------------------ */

static void remove_file(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_true(unlink(path) == 0 || errno == ENOENT);
}

static int set_up(void **state)
{
    (void)state;
    chain = made_chain();
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, sizeof dir, "%s/ami-store-XXXXXX", tmp == NULL ? "/tmp" : tmp);
    return mkdtemp(dir) == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    remove_file("data.mdb");
    remove_file("lock.mdb");
    remove_file("ledger.lock");
    remove_file("notes.txt");
    return rmdir(dir);
}

static struct store *open_store(enum store_mode mode, uint64_t map_bytes)
{
    struct store *s;
    enum ami_status status = store_open(&s, dir, &chain, mode, map_bytes, why, sizeof why);
    if (status != AMI_OK)
        fail_msg("%s: %s", ami_status_name(status), why);
    return s;
}

static void assert_refuses(enum store_mode mode, enum ami_status expected, const char *sentence)
{
    struct store *s;
    why[0] = '\0';
    assert_status(store_open(&s, dir, &chain, mode, 0, why, sizeof why), expected);
    assert_null(s);
    if (strstr(why, sentence) == NULL)
        fail_msg("expected a sentence with \"%s\", got \"%s\"", sentence, why);
}

static void assert_block(struct store *s, const struct made *b)
{
    struct certified_block got;
    struct body_reply reply;
    struct block_header header;
    struct qc commit;
    uint64_t height = 0;
    uint32_t index = 99;
    assert_ok(store_block(s, b->header.height, &got, buffer, sizeof buffer));
    assert_true(span_equal(got.body, span_of(b->body, b->body_size)));
    sm3_digest hash = block_hash(&got.header);
    assert_memory_equal(hash.b, b->hash.b, SM3_BYTES);
    assert_int_equal(got.commit.signatures_count, 3);
    assert_ok(store_header(s, b->header.height, &header, &commit));
    hash = block_hash(&header);
    assert_memory_equal(hash.b, b->hash.b, SM3_BYTES);
    assert_memory_equal(commit.block.b, b->hash.b, SM3_BYTES);
    assert_ok(store_height_of(s, &b->hash, &height));
    assert_int_equal(height, b->header.height);
    assert_ok(store_body(s, &b->hash, &reply, buffer, sizeof buffer));
    assert_true(span_equal(reply.body, span_of(b->body, b->body_size)));
    assert_int_equal(reply.header.height, b->header.height);
    if (b->header.tx_count == 0)
        return;
    assert_ok(store_find_tx(s, &b->first_tx, &height, &index));
    assert_int_equal(height, b->header.height);
    assert_int_equal(index, 0);
    struct ami_id meter = meter_name();
    uint64_t last = b->first_sequence + b->header.tx_count - 1;
    assert_ok(store_find_report(s, &meter, 1, last, &height, &index));
    assert_int_equal(height, b->header.height);
    assert_int_equal(index, b->header.tx_count - 1);
}

static void make_ledger(unsigned blocks)
{
    struct tip tip = tip_at_start();
    struct store *s = open_store(STORE_READ_WRITE, 0);
    for (unsigned i = 0; i < blocks; i++) {
        struct made *b = make_block(&tip, 50, 2000);
        struct store_batch batch = commit_of(b);
        assert_ok(store_write(s, &batch));
        free_block(b);
    }
    store_close(s);
}

/* --- round trips ------------------------------------------------------------------------------ */

static void blocks_come_back_also_after_reopening(void **state)
{
    (void)state;
    static const uint32_t txs[] = {3, 0, 1, 40};
    struct made *b[4];
    struct tip tip = tip_at_start();
    struct store *s = open_store(STORE_READ_WRITE, 0);
    assert_int_equal(store_height(s), 0);
    for (size_t i = 0; i < 4; i++) {
        b[i] = make_block(&tip, txs[i], 100);
        struct store_batch batch = commit_of(b[i]);
        assert_ok(store_write(s, &batch));
        assert_int_equal(store_height(s), i + 1);
    }
    for (unsigned reopened = 0; reopened < 3; reopened++) {
        for (size_t i = 0; i < 4; i++)
            assert_block(s, b[i]);
        struct certified_block got;
        struct body_reply reply;
        struct block_header header;
        struct qc commit;
        uint64_t height;
        uint32_t index;
        struct ami_id meter = meter_name();
        assert_status(store_block(s, 0, &got, buffer, sizeof buffer), AMI_NOT_FOUND);
        assert_status(store_block(s, 5, &got, buffer, sizeof buffer), AMI_NOT_FOUND);
        assert_status(store_header(s, 5, &header, &commit), AMI_NOT_FOUND);
        assert_status(store_height_of(s, &chain, &height), AMI_NOT_FOUND);
        assert_status(store_body(s, &chain, &reply, buffer, sizeof buffer), AMI_NOT_FOUND);
        assert_status(store_find_tx(s, &chain, &height, &index), AMI_NOT_FOUND);
        assert_status(store_find_report(s, &meter, 1, 45, &height, &index), AMI_NOT_FOUND);
        assert_status(store_find_report(s, &meter, 2, 1, &height, &index), AMI_NOT_FOUND);
        assert_status(store_block(s, 4, &got, buffer, 4000), AMI_TOO_LARGE);
        assert_status(store_body(s, &b[3]->hash, &reply, buffer, 4000), AMI_TOO_LARGE);
        assert_int_equal(store_height(s), 4);
        assert_memory_equal(store_chain(s)->b, chain.b, SM3_BYTES);
        store_close(s);
        s = open_store(reopened == 0 ? STORE_READ_WRITE : STORE_READ_ONLY, 0);
    }
    store_close(s);
    for (size_t i = 0; i < 4; i++)
        free_block(b[i]);
}

static void votes_and_kept_blocks(void **state)
{
    (void)state;
    uint8_t record[512], room[2048];
    struct vote_record vote;
    struct body_reply reply;
    struct tip tip = tip_at_start(), fork = tip;
    struct made *one = make_block(&tip, 2, 50), *two = make_block(&tip, 1, 50);
    fork.sequence = 500;
    struct made *other = make_block(&fork, 3, 50);
    struct store *s = open_store(STORE_READ_WRITE, 0);
    assert_status(store_vote_record(s, &vote, room, sizeof room), AMI_NOT_FOUND);

    struct store_batch batch = pending_of(one);
    batch.vote_record = vote_of(record, 3, &one->hash);
    assert_ok(store_write(s, &batch));
    assert_ok(store_write(s, &batch)); /* a proposal repeated */
    batch = pending_of(other);
    assert_ok(store_write(s, &batch));
    batch = pending_of(two);
    batch.vote_record = vote_of(record, 4, &two->hash);
    assert_ok(store_write(s, &batch));
    store_close(s);

    s = open_store(STORE_READ_WRITE, 0);
    assert_ok(store_vote_record(s, &vote, room, sizeof room));
    assert_int_equal(vote.term, 4);
    assert_memory_equal(vote.prepare.block.b, two->hash.b, SM3_BYTES);
    assert_status(store_vote_record(s, &vote, room, 20), AMI_TOO_LARGE);
    assert_ok(store_body(s, &one->hash, &reply, buffer, sizeof buffer));
    assert_true(span_equal(reply.body, span_of(one->body, one->body_size)));
    assert_ok(store_body(s, &other->hash, &reply, buffer, sizeof buffer));
    assert_int_equal(store_height(s), 0);

    /* Committed: the kept block of that height that lost is gone, the one above stays. */
    batch = commit_of(one);
    assert_ok(store_write(s, &batch));
    assert_block(s, one);
    assert_status(store_body(s, &other->hash, &reply, buffer, sizeof buffer), AMI_NOT_FOUND);
    assert_ok(store_body(s, &two->hash, &reply, buffer, sizeof buffer));
    assert_true(span_equal(reply.body, span_of(two->body, two->body_size)));
    /* A kept block that comes too late is not kept. */
    batch = pending_of(other);
    assert_ok(store_write(s, &batch));
    assert_status(store_body(s, &other->hash, &reply, buffer, sizeof buffer), AMI_NOT_FOUND);
    store_close(s);
    free_block(one);
    free_block(two);
    free_block(other);
}

static void kept_blocks_are_bounded(void **state)
{
    (void)state;
    uint8_t record[512];
    sm3_digest hash[STORE_PENDING_MAX + 8];
    struct body_reply reply;
    struct store *s = open_store(STORE_READ_WRITE, 0);
    for (unsigned i = 0; i < STORE_PENDING_MAX + 8; i++) {
        struct tip tip = tip_at_start();
        struct made *b = make_block(&tip, 0, 0);
        b->header.term = i + 1;
        seal_block(b, VOTE_COMMIT);
        hash[i] = b->hash;
        struct store_batch batch = pending_of(b);
        if (i == 2) /* the third is named by the vote record from now on */
            batch.vote_record = vote_of(record, 3, &b->hash);
        assert_ok(store_write(s, &batch));
        free_block(b);
    }
    for (unsigned i = 0; i < STORE_PENDING_MAX + 8; i++) {
        bool gone = i < 9 && i != 2;
        assert_status(store_body(s, &hash[i], &reply, buffer, sizeof buffer),
                      gone ? AMI_NOT_FOUND : AMI_OK);
    }
    store_close(s);
}

/* --- the registry ----------------------------------------------------------------------------- */

static void append_record(struct writer *run, uint64_t index, const struct record *rec)
{
    uint8_t bytes[RECORD_BYTES_MAX];
    struct writer w = writer_on(bytes, sizeof bytes);
    record_encode(&w, rec);
    assert_true(writer_ok(&w));
    write_u64(run, index);
    write_bytes(run, writer_span(&w));
}

/* A DC revoked, and some meters whose floors and windows differ: what a block changes. */
static void change_registry(struct registry *r, struct writer *run, uint64_t height,
                            unsigned meters)
{
    struct record rec = *registry_at(r, 2);
    rec.revoked_at = height;
    rec.key = NULL;
    assert_ok(registry_load(r, 2, &rec));
    append_record(run, 2, &rec);
    for (unsigned i = 0; i < meters; i++) {
        char name[16];
        struct record meter = {.kind = RECORD_METER,
                               .epoch = 1,
                               .w.b = {2, (uint8_t)i},
                               .agree_part_size = 33,
                               .enrolled_at = height,
                               .floor = 1 + i,
                               .window = 2 * (uint64_t)i};
        snprintf(name, sizeof name, "m%u-%u", (unsigned)height, i);
        assert_ok(ami_id_from_text(&meter.name, name));
        assert_ok(ami_id_from_text(&meter.home_dc, "dc0"));
        uint64_t index = registry_size(r);
        assert_ok(registry_load(r, index, &meter));
        append_record(run, index, &meter);
    }
}

/* Only changed records are stored; the rest comes from the genesis file. */
static void the_registry_comes_back_as_it_was(void **state)
{
    (void)state;
    static uint8_t run_bytes[64 * (RECORD_BYTES_MAX + 12)];
    struct genesis *g = genesis_of_made();
    struct registry *r = registry_new(g);
    assert_non_null(r);
    struct tip tip = tip_at_start();
    struct store *s = open_store(STORE_READ_WRITE, 0);
    for (unsigned i = 0; i < 2; i++) {
        struct writer run = writer_on(run_bytes, sizeof run_bytes);
        struct made *b = make_block(&tip, 1, 10);
        struct store_batch batch = commit_of(b);
        change_registry(r, &run, tip.height, 30);
        assert_true(writer_ok(&run));
        batch.records = writer_span(&run);
        assert_ok(store_write(s, &batch));
        free_block(b);
    }
    sm3_digest root = registry_root(r);
    assert_int_equal(registry_size(r), 1 + 4 + 60);
    registry_free(r);
    store_close(s);

    s = open_store(STORE_READ_ONLY, 0);
    uint64_t height = 0;
    r = registry_new(g);
    assert_non_null(r);
    assert_ok(store_load_registry_at(s, r, &height));
    assert_int_equal(height, 2);
    assert_int_equal(registry_size(r), 1 + 4 + 60);
    sm3_digest loaded = registry_root(r);
    assert_memory_equal(loaded.b, root.b, SM3_BYTES);
    assert_int_equal(registry_at(r, 2)->revoked_at, 2);
    registry_free(r);

    /* Not this genesis file's members. */
    assert_ok(ami_id_from_text(&g->members.member[1].name, "other"));
    r = registry_new(g);
    assert_non_null(r);
    assert_status(store_load_registry(s, r), AMI_DAMAGED);
    registry_free(r);
    store_close(s);
    free(g);
}

/* --- whole or not at all ---------------------------------------------------------------------- */

/* Writes a batch that must fail and looks whether any part of it can be seen. */
static void assert_leaves_no_trace(struct store *s, struct store_batch batch,
                                   const struct made *bad, enum ami_status expected)
{
    uint8_t record[512], room[2048];
    struct vote_record vote;
    struct body_reply reply;
    uint64_t height, before = store_height(s);
    uint32_t index;
    struct ami_id meter = meter_name();
    if (batch.vote_record.size == 0)
        batch.vote_record = vote_of(record, 77, NULL);
    assert_status(store_write(s, &batch), expected);
    assert_int_equal(store_height(s), before);
    assert_ok(store_vote_record(s, &vote, room, sizeof room));
    assert_int_equal(vote.term, 5);
    assert_status(store_body(s, &bad->hash, &reply, buffer, sizeof buffer), AMI_NOT_FOUND);
    assert_status(store_height_of(s, &bad->hash, &height), AMI_NOT_FOUND);
    assert_status(store_find_tx(s, &bad->first_tx, &height, &index), AMI_NOT_FOUND);
    assert_status(store_find_report(s, &meter, 1, bad->first_sequence + 1, &height, &index),
                  AMI_NOT_FOUND);
}

static void a_batch_is_whole_or_absent(void **state)
{
    (void)state;
    uint8_t record[512];
    struct tip tip = tip_at_start();
    struct made *good = make_block(&tip, 3, 60);
    struct store *s = open_store(STORE_READ_WRITE, 0);
    struct store_batch batch = commit_of(good);
    batch.vote_record = vote_of(record, 5, NULL);
    assert_ok(store_write(s, &batch));

    struct tip next = tip;
    struct made *b = make_block(&next, 3, 60);
    batch = commit_of(b);
    batch.block_body.size--;
    assert_leaves_no_trace(s, batch, b, AMI_BAD_ENCODING); /* body cut off */
    batch = commit_of(b);
    batch.records = SPAN_LITERAL("\0\0\0\0\0\0\0\1\0\0\0\2x");
    assert_leaves_no_trace(s, batch, b, AMI_BAD_ENCODING); /* record cut off */
    batch = commit_of(b);
    batch.block_header.size--;
    assert_leaves_no_trace(s, batch, b, AMI_BAD_ENCODING);
    batch = commit_of(b);
    batch.block_commit.size--;
    assert_leaves_no_trace(s, batch, b, AMI_BAD_ENCODING);
    batch = commit_of(b);
    batch.block_commit = span_of(good->commit_bytes, good->commit_size);
    assert_leaves_no_trace(s, batch, b, AMI_BAD_CERTIFICATE); /* of another block */
    seal_block(b, VOTE_PREPARE);
    assert_leaves_no_trace(s, commit_of(b), b, AMI_BAD_CERTIFICATE); /* votes of the other kind */
    b->header.tx_count++;
    seal_block(b, VOTE_COMMIT);
    assert_leaves_no_trace(s, commit_of(b), b, AMI_BAD_ENCODING); /* number of transactions */
    b->header.tx_count--;
    b->header.previous = chain;
    seal_block(b, VOTE_COMMIT);
    assert_leaves_no_trace(s, commit_of(b), b, AMI_BAD_PARENT);
    b->header.previous = tip.hash;
    b->header.height++;
    seal_block(b, VOTE_COMMIT);
    assert_leaves_no_trace(s, commit_of(b), b, AMI_BAD_PARENT);
    b->header.height--;
    b->header.chain.b[0] ^= 1;
    seal_block(b, VOTE_COMMIT);
    assert_leaves_no_trace(s, commit_of(b), b, AMI_WRONG_CHAIN);
    assert_leaves_no_trace(s, pending_of(b), b, AMI_WRONG_CHAIN);
    b->header.chain = chain;
    seal_block(b, VOTE_COMMIT);
    batch = pending_of(b);
    batch.vote_record = SPAN_LITERAL("no vote record");
    assert_leaves_no_trace(s, batch, b, AMI_BAD_ENCODING);
    batch = pending_of(b);
    batch.records = SPAN_LITERAL("\0\0\0\0\0\0\0\1\0\0\0\1x");
    assert_leaves_no_trace(s, batch, b, AMI_BAD_ARGUMENT); /* state without a block */
    free_block(b);

    /* After all that the right block goes in. */
    b = make_block(&tip, 3, 60);
    batch = commit_of(b);
    assert_ok(store_write(s, &batch));
    assert_block(s, b);
    free_block(b);
    free_block(good);
    store_close(s);
}

/* --- room ------------------------------------------------------------------------------------- */

static off_t data_size(void)
{
    char path[512];
    struct stat st;
    snprintf(path, sizeof path, "%s/data.mdb", dir);
    assert_int_equal(stat(path, &st), 0);
    return st.st_size;
}

static void the_map_grows_by_itself(void **state)
{
    (void)state;
    struct tip tip = tip_at_start();
    struct store *s = open_store(STORE_READ_WRITE, 0);
    struct made *first = make_block(&tip, 5, 100);
    struct store_batch batch = commit_of(first);
    assert_ok(store_write(s, &batch));
    for (unsigned i = 0; i < 14; i++) {
        struct made *b = make_block(&tip, 480, 4000);
        batch = pending_of(b);
        assert_ok(store_write(s, &batch));
        batch = commit_of(b);
        assert_ok(store_write(s, &batch));
        if (i % 7 == 0)
            assert_block(s, b);
        free_block(b);
    }
    assert_true(data_size() > 20 << 20);
    store_close(s);
    s = open_store(STORE_READ_WRITE, 0);
    assert_int_equal(store_height(s), 15);
    assert_block(s, first);
    store_close(s);
    free_block(first);
}

static void a_full_ledger_keeps_what_it_has(void **state)
{
    (void)state;
    uint8_t record[512], room[2048];
    struct vote_record vote;
    struct body_reply reply;
    struct certified_block got;
    struct tip tip = tip_at_start(), before;
    struct store *s;
    assert_status(store_open(&s, dir, &chain, STORE_READ_WRITE, 4096, why, sizeof why),
                  AMI_BAD_ARGUMENT);
    s = open_store(STORE_READ_WRITE, 4 << 20);
    struct made *b = NULL;
    enum ami_status status;
    do {
        if (b != NULL)
            free_block(b);
        before = tip;
        b = make_block(&tip, 240, 4000);
        struct store_batch batch = commit_of(b);
        batch.vote_record = vote_of(record, tip.height, NULL);
        status = store_write(s, &batch);
    } while (status == AMI_OK);
    assert_status(status, AMI_FULL);
    assert_in_range(before.height, 2, 4);
    assert_int_equal(store_height(s), before.height);
    assert_ok(store_vote_record(s, &vote, room, sizeof room));
    assert_int_equal(vote.term, before.height);
    assert_status(store_body(s, &b->hash, &reply, buffer, sizeof buffer), AMI_NOT_FOUND);
    struct store_batch batch = commit_of(b);
    assert_status(store_write(s, &batch), AMI_FULL); /* again, and again without damage */
    free_block(b);

    tip = before;
    b = make_block(&tip, 2, 100);
    batch = commit_of(b);
    assert_ok(store_write(s, &batch));
    assert_block(s, b);
    for (uint64_t h = 1; h <= tip.height; h++)
        assert_ok(store_block(s, h, &got, buffer, sizeof buffer));
    store_close(s);

    /* With more room it goes on. */
    s = open_store(STORE_READ_WRITE, 8 << 20);
    assert_block(s, b);
    free_block(b);
    b = make_block(&tip, 240, 4000);
    batch = commit_of(b);
    assert_ok(store_write(s, &batch));
    free_block(b);
    store_close(s);
}

/* Children report through their exit status; they never return into the test. */
#define CHILD_CHECK(expr)                                                                          \
    do {                                                                                           \
        if (!(expr)) {                                                                             \
            fprintf(stderr, "child: %s:%d: %s (%s)\n", __FILE__, __LINE__, #expr, why);            \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

static void assert_child_succeeds(pid_t child)
{
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* A limit on file size stands in for the full disk: LMDB sees the same failing or short writes. */
static void write_until_the_disk_is_full(void)
{
    struct store *s;
    struct tip tip = tip_at_start();
    struct certified_block got;
    struct rlimit limit;
    signal(SIGXFSZ, SIG_IGN);
    CHILD_CHECK(store_open(&s, dir, &chain, STORE_READ_WRITE, 0, why, sizeof why) == AMI_OK);
    CHILD_CHECK(getrlimit(RLIMIT_FSIZE, &limit) == 0);
    limit.rlim_cur = 3 << 20;
    CHILD_CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    for (;;) {
        struct tip before = tip;
        struct made *b = make_block(&tip, 120, 4000);
        struct store_batch batch = commit_of(b);
        enum ami_status status = store_write(s, &batch);
        if (status != AMI_OK) {
            CHILD_CHECK(status == AMI_FULL);
            CHILD_CHECK(before.height >= 3 && store_height(s) == before.height);
            for (uint64_t h = 1; h <= before.height; h++)
                CHILD_CHECK(store_block(s, h, &got, buffer, sizeof buffer) == AMI_OK);
            CHILD_CHECK(store_block(s, before.height + 1, &got, buffer, sizeof buffer) ==
                        AMI_NOT_FOUND);
            /* Room again: the very same batch goes in. */
            limit.rlim_cur = limit.rlim_max;
            CHILD_CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
            CHILD_CHECK(store_write(s, &batch) == AMI_OK);
            CHILD_CHECK(store_block(s, tip.height, &got, buffer, sizeof buffer) == AMI_OK);
            free_block(b);
            break;
        }
        free_block(b);
    }
    store_close(s);
    _exit(0);
}

static void a_full_disk_keeps_what_it_has(void **state)
{
    (void)state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        write_until_the_disk_is_full();
    assert_child_succeeds(child);
    struct store *s = open_store(STORE_READ_WRITE, 0);
    assert_true(store_height(s) >= 4);
    store_close(s);
}

/* Pages, sync, then the one page that makes them count, itself synced: in this order, or a power
 * cut could leave a page that counts on pages that never came. */
static void a_write_is_synced_in_the_right_order(void **state)
{
    (void)state;
    struct tip tip = tip_at_start();
    struct store *s = open_store(STORE_READ_WRITE, 0);
    for (unsigned i = 0; i < 5; i++) {
        uint8_t record[512];
        struct made *b = make_block(&tip, 30, 500);
        struct store_batch batch = commit_of(b);
        if (i == 4)
            batch = (struct store_batch){.vote_record = vote_of(record, 9, &b->hash)};
        disk_watch(0, 0);
        assert_ok(store_write(s, &batch));
        disk.watched = false;
        size_t calls = strlen(disk.log);
        assert_true(calls >= 3);
        assert_int_equal(strspn(disk.log, "w"), calls - 2);
        assert_string_equal(disk.log + calls - 2, "sd");
        free_block(b);
    }
    store_close(s);
}

/* Each call in turn that a write makes of the disk fails, in each way: nothing of the batch can be
 * seen, all that was there still is, and the same batch goes in afterwards. */
static void a_disk_error_at_any_call_leaves_no_trace(void **state)
{
    (void)state;
    static const int errors[] = {ENOSPC, EIO, EDQUOT, 0};
    struct tip tip = tip_at_start();
    struct store *s = open_store(STORE_READ_WRITE, 0);
    unsigned failures = 0, reopened = 0;
    for (size_t e = 0; e < sizeof errors / sizeof errors[0]; e++) {
        /* How many writes there are depends on where the pages lie; the last of them comes first.
         */
        for (unsigned at = FAIL_META;; at = at == FAIL_META ? 1 : at + 1) {
            struct tip before = tip;
            struct made *b = make_block(&tip, 3, 700);
            struct store_batch batch = commit_of(b);
            struct certified_block got;
            disk_watch(at, errors[e]);
            enum ami_status status = store_write(s, &batch);
            disk.watched = false;
            if (at != FAIL_META && disk.calls < at) {
                assert_ok(status);
                free_block(b);
                break;
            }
            failures++;
            bool full = errors[e] == ENOSPC || errors[e] == EDQUOT;
            assert_status(status, full ? AMI_FULL : AMI_IO);
            /* After an error of the page that makes the others count LMDB does nothing more. */
            assert_int_equal(store_height(s), before.height);
            status = store_block(s, tip.height, &got, buffer, sizeof buffer);
            if (status == AMI_IO) {
                store_close(s);
                s = open_store(STORE_READ_WRITE, 0);
                reopened++;
                status = store_block(s, tip.height, &got, buffer, sizeof buffer);
            }
            assert_status(status, AMI_NOT_FOUND);
            for (uint64_t h = 1; h <= before.height; h++)
                assert_ok(store_block(s, h, &got, buffer, sizeof buffer));
            assert_ok(store_write(s, &batch));
            assert_block(s, b);
            free_block(b);
        }
    }
    assert_true(failures >= 12);
    assert_true(reopened >= sizeof errors / sizeof errors[0]);
    store_close(s);
}

/* The same while a ledger is created: the next attempt starts as if there had been none. */
static void a_disk_error_amid_creation_leaves_no_trace(void **state)
{
    (void)state;
    for (int error = 0; error <= ENOSPC; error += ENOSPC) {
        for (unsigned at = 1;; at++) {
            struct store *s;
            disk_watch(at, error);
            enum ami_status status =
                store_open(&s, dir, &chain, STORE_READ_WRITE, 0, why, sizeof why);
            disk.watched = false;
            if (disk.calls < at) {
                assert_true(at > 4);
                assert_ok(status);
                store_close(s);
                break;
            }
            if (at == 1) { /* the process number in the lock file is not worth a refusal */
                assert_ok(status);
                store_close(s);
                remove_file("data.mdb");
                remove_file("lock.mdb");
                continue;
            }
            assert_true(status == AMI_FULL || (error == 0 && status == AMI_IO));
            assert_true(strlen(why) > strlen(dir));
            assert_refuses(STORE_READ_ONLY, AMI_NOT_FOUND, "no ledger");
        }
        make_ledger(1);
        remove_file("data.mdb");
        remove_file("lock.mdb");
    }
}

/* --- several at once -------------------------------------------------------------------------- */

static void put_byte(int fd)
{
    uint8_t b = 1;
    if (write(fd, &b, 1) != 1)
        abort();
}

static bool take_byte(int fd)
{
    uint8_t b;
    return read(fd, &b, 1) == 1;
}

/* The parent writes in between; the child, which only reads, sees each commit, also those that no
 * longer fit its own map, and may not write. */
static void read_along(int go, int done)
{
    struct store *s, *writer;
    struct certified_block got;
    CHILD_CHECK(store_open(&writer, dir, &chain, STORE_READ_WRITE, 0, why, sizeof why) ==
                AMI_IN_USE);
    CHILD_CHECK(strstr(why, "another process") != NULL);
    CHILD_CHECK(store_open(&s, dir, NULL, STORE_READ_ONLY, 0, why, sizeof why) == AMI_OK);
    CHILD_CHECK(memcmp(store_chain(s)->b, chain.b, SM3_BYTES) == 0);
    CHILD_CHECK(store_height(s) == 1);
    put_byte(done);
    for (uint64_t height = 2; take_byte(go); height++) {
        CHILD_CHECK(store_height(s) == height);
        CHILD_CHECK(store_block(s, height, &got, buffer, sizeof buffer) == AMI_OK);
        CHILD_CHECK(got.header.height == height);
        put_byte(done);
    }
    CHILD_CHECK(store_height(s) == 14);
    store_close(s);
    _exit(0);
}

static void another_process_reads_along_but_may_not_write(void **state)
{
    (void)state;
    int go[2], done[2];
    struct tip tip = tip_at_start();
    assert_int_equal(pipe(go), 0);
    assert_int_equal(pipe(done), 0);
    struct store *s = open_store(STORE_READ_WRITE, 0);
    struct made *b = make_block(&tip, 1, 10);
    struct store_batch batch = commit_of(b);
    assert_ok(store_write(s, &batch));
    free_block(b);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        close(go[1]);
        close(done[0]);
        read_along(go[0], done[1]);
    }
    close(go[0]);
    close(done[1]);
    assert_true(take_byte(done[0]));
    for (unsigned i = 0; i < 13; i++) {
        b = make_block(&tip, 480, 4000);
        batch = commit_of(b);
        assert_ok(store_write(s, &batch));
        free_block(b);
        put_byte(go[1]);
        assert_true(take_byte(done[0]));
    }
    assert_true(data_size() > 20 << 20);
    close(go[1]);
    close(done[0]);
    assert_child_succeeds(child);
    store_close(s);
}

struct reading_thread {
    struct store *s;
    atomic_bool stop;
    atomic_uint rounds;
    unsigned wrong;
    uint8_t *room;
};

/* Whatever height is the last one must be there in full, while the map is being replaced too. */
static void *read_all_the_time(void *arg)
{
    struct reading_thread *t = arg;
    while (!atomic_load(&t->stop)) {
        struct certified_block got;
        struct body_reply reply;
        uint64_t height = store_height(t->s), at;
        if (store_block(t->s, height, &got, t->room, BUFFER_BYTES) != AMI_OK ||
            got.header.height != height) {
            t->wrong++;
        } else {
            sm3_digest hash = block_hash(&got.header);
            if (store_height_of(t->s, &hash, &at) != AMI_OK || at != height ||
                store_body(t->s, &hash, &reply, t->room, BUFFER_BYTES) != AMI_OK ||
                reply.header.height != height)
                t->wrong++;
        }
        atomic_fetch_add(&t->rounds, 1);
    }
    return NULL;
}

static void a_thread_reads_while_another_writes(void **state)
{
    (void)state;
    struct tip tip = tip_at_start();
    struct reading_thread t = {.s = open_store(STORE_READ_WRITE, 0)};
    pthread_t thread;
    struct made *b = make_block(&tip, 1, 10);
    struct store_batch batch = commit_of(b);
    assert_ok(store_write(t.s, &batch));
    free_block(b);
    t.room = malloc(BUFFER_BYTES);
    assert_non_null(t.room);
    assert_int_equal(pthread_create(&thread, NULL, read_all_the_time, &t), 0);
    for (unsigned i = 0; i < 24; i++) {
        b = make_block(&tip, 240, 4000);
        batch = pending_of(b);
        assert_ok(store_write(t.s, &batch));
        batch = commit_of(b);
        assert_ok(store_write(t.s, &batch));
        free_block(b);
    }
    atomic_store(&t.stop, true);
    pthread_join(thread, NULL);
    assert_int_equal(t.wrong, 0);
    assert_true(atomic_load(&t.rounds) > 10);
    assert_true(data_size() > 20 << 20);
    store_close(t.s);
    free(t.room);
}

/* Commits one block after the other and tells each height once it is durable. */
static void write_until_killed(int told)
{
    struct store *s;
    struct tip tip = tip_at_start();
    CHILD_CHECK(store_open(&s, dir, &chain, STORE_READ_WRITE, 0, why, sizeof why) == AMI_OK);
    for (;;) {
        uint8_t record[512];
        struct made *b = make_block(&tip, 20, 1000);
        struct store_batch batch = pending_of(b);
        batch.vote_record = vote_of(record, tip.height, &b->hash);
        CHILD_CHECK(store_write(s, &batch) == AMI_OK);
        batch = commit_of(b);
        CHILD_CHECK(store_write(s, &batch) == AMI_OK);
        free_block(b);
        put_byte(told);
    }
}

static void what_was_written_survives_sigkill(void **state)
{
    (void)state;
    for (unsigned blocks = 1; blocks <= 12; blocks += 1) {
        int told[2];
        assert_int_equal(pipe(told), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            close(told[0]);
            write_until_killed(told[1]);
        }
        close(told[1]);
        uint64_t durable = 0;
        while (durable < blocks && take_byte(told[0]))
            durable++;
        kill(child, SIGKILL);
        while (take_byte(told[0]))
            durable++;
        close(told[0]);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));

        struct store *s = open_store(STORE_READ_WRITE, 0);
        uint64_t height = store_height(s);
        assert_in_range(height, durable, durable + 1);
        struct tip tip = tip_at_start();
        for (uint64_t h = 1; h <= height; h++) {
            struct made *b = make_block(&tip, 20, 1000);
            assert_block(s, b);
            free_block(b);
        }
        uint8_t room[2048];
        struct vote_record vote;
        assert_ok(store_vote_record(s, &vote, room, sizeof room));
        assert_in_range(vote.term, height, height + 1);
        struct made *next = make_block(&tip, 20, 1000);
        struct store_batch batch = commit_of(next);
        assert_ok(store_write(s, &batch));
        free_block(next);
        store_close(s);
        remove_file("data.mdb");
        remove_file("lock.mdb");
    }
}

/* --- wrong directories ------------------------------------------------------------------------ */

static void write_file(const char *name, const void *bytes, size_t size)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), size);
    close(fd);
}

static void directories_without_a_ledger(void **state)
{
    (void)state;
    assert_refuses(STORE_READ_ONLY, AMI_NOT_FOUND, "no ledger");
    write_file("notes.txt", "x", 1);
    assert_refuses(STORE_READ_WRITE, AMI_EXISTS, "other files");
    remove_file("notes.txt");
    /* What a crash amid creation can leave is no obstacle. */
    write_file("data.mdb", "", 0);
    write_file("ledger.lock", "", 0);
    assert_refuses(STORE_READ_ONLY, AMI_NOT_FOUND, "no ledger");
    make_ledger(1);
    /* A missing directory is made, a missing parent is not. */
    size_t end = strlen(dir);
    snprintf(dir + end, sizeof dir - end, "/new");
    assert_refuses(STORE_READ_ONLY, AMI_NOT_FOUND, "no such directory");
    store_close(open_store(STORE_READ_WRITE, 0));
    remove_file("data.mdb");
    remove_file("lock.mdb");
    remove_file("ledger.lock");
    assert_int_equal(rmdir(dir), 0);
    snprintf(dir + end, sizeof dir - end, "/new/newer");
    assert_refuses(STORE_READ_WRITE, AMI_IO, "cannot create");
    /* A file where the directory should be. */
    snprintf(dir + end, sizeof dir - end, "/data.mdb");
    assert_refuses(STORE_READ_WRITE, AMI_IO, "not a directory");
    dir[end] = '\0';
}

static void another_chain_is_refused(void **state)
{
    (void)state;
    make_ledger(1);
    chain.b[31] ^= 1;
    assert_refuses(STORE_READ_WRITE, AMI_WRONG_CHAIN, "another chain");
    assert_refuses(STORE_READ_ONLY, AMI_WRONG_CHAIN, "another chain");
    chain.b[31] ^= 1;
    struct store *s = open_store(STORE_READ_WRITE, 0);
    assert_int_equal(store_height(s), 1);
    store_close(s);
}

static void foreign_files_are_refused(void **state)
{
    (void)state;
    static uint8_t garbage[20000];
    for (size_t i = 0; i < sizeof garbage; i++)
        garbage[i] = (uint8_t)(i * 2654435761u >> 13);
    for (size_t size = 1; size <= sizeof garbage; size = size * 3 + 1) {
        write_file("data.mdb", garbage, size);
        assert_refuses(STORE_READ_WRITE, AMI_DAMAGED, "data.mdb");
        assert_refuses(STORE_READ_ONLY, AMI_DAMAGED, "data.mdb");
    }
    remove_file("data.mdb");
    remove_file("lock.mdb");
    /* LMDB, but somebody else's. */
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi db;
    MDB_val k = {1, "k"}, v = {1, "v"};
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_open(env, dir, 0, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, NULL, 0, &db), 0);
    assert_int_equal(mdb_put(txn, db, &k, &v, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    assert_refuses(STORE_READ_WRITE, AMI_DAMAGED, "another program");
    assert_refuses(STORE_READ_ONLY, AMI_DAMAGED, "another program");
}

/* A file that was cut anywhere is refused by both kinds of openers, or (when only pages went that
 * no longer count) opened and complete: never a crash. */
static void a_cut_file_is_refused(void **state)
{
    (void)state;
    make_ledger(6);
    char path[512];
    snprintf(path, sizeof path, "%s/data.mdb", dir);
    off_t size = data_size();
    static uint8_t whole[4 << 20];
    assert_true(size < (off_t)sizeof whole);
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(read(fd, whole, sizeof whole), size);
    close(fd);
    unsigned refused = 0;
    for (off_t cut = size - 4096; cut > 0; cut -= cut > 40960 ? 40960 : 1000) {
        for (int mode = STORE_READ_ONLY; mode <= STORE_READ_WRITE; mode++) {
            /* Beyond the tolerance for pages that LMDB never wrote. */
            if (size - cut <= 17 * 4096)
                continue;
            struct store *s;
            write_file("data.mdb", whole, (size_t)cut);
            assert_status(store_open(&s, dir, &chain, (enum store_mode)mode, 0, why, sizeof why),
                          AMI_DAMAGED);
            assert_true(strstr(why, "data.mdb") != NULL);
            refused++;
        }
    }
    assert_true(refused > 20);
    /* Inside the tolerance who writes gets zeros in place of what is missing: a status at worst. */
    write_file("data.mdb", whole, (size_t)size - 8 * 4096);
    struct store *s;
    enum ami_status status = store_open(&s, dir, &chain, STORE_READ_WRITE, 0, why, sizeof why);
    assert_true(status == AMI_OK || status == AMI_DAMAGED);
    for (uint64_t h = 1; status == AMI_OK && h <= 6; h++) {
        struct certified_block got;
        enum ami_status found = store_block(s, h, &got, buffer, sizeof buffer);
        assert_true(found == AMI_OK || found == AMI_DAMAGED);
    }
    store_close(s);
    write_file("data.mdb", whole, (size_t)size);
    s = open_store(STORE_READ_WRITE, 0);
    assert_int_equal(store_height(s), 6);
    store_close(s);
}

/* A ledger whose tip and blocks disagree, as after files were mixed. */
static void a_tip_without_its_block_is_damage(void **state)
{
    (void)state;
    make_ledger(3);
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi db;
    uint8_t key[8];
    store_be64(key, 3);
    MDB_val k = {sizeof key, key};
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_set_maxdbs(env, 16), 0);
    assert_int_equal(mdb_env_open(env, dir, 0, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, "blocks", 0, &db), 0);
    assert_int_equal(mdb_del(txn, db, &k, NULL), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    assert_refuses(STORE_READ_WRITE, AMI_DAMAGED, "last block");
    assert_refuses(STORE_READ_ONLY, AMI_DAMAGED, "last block");
}

/* Flips a bit of the data file wherever these bytes stand, in their middle. */
static void flip_in_file(struct span what)
{
    static uint8_t file[4 << 20];
    char path[512];
    snprintf(path, sizeof path, "%s/data.mdb", dir);
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    ssize_t size = read(fd, file, sizeof file);
    close(fd);
    assert_in_range(size, 1, sizeof file - 1);
    unsigned found = 0;
    uint8_t *at = file;
    while ((at = memmem(at, (size_t)(file + size - at), what.data, what.size)) != NULL) {
        at[what.size / 2] ^= 0x10;
        at += what.size;
        found++;
    }
    assert_true(found > 0);
    write_file("data.mdb", file, (size_t)size);
}

/* Looks at everything in steps of so many bytes; AMI_OK after a whole round. */
static enum ami_status patrol_round(struct store *s, size_t step, uint64_t *bytes)
{
    struct store_patrol p = {0};
    bool done = false;
    while (!done) {
        *bytes = p.bytes;
        AMI_TRY(store_patrol_on(s, &p, step, &done));
    }
    assert_true(p.db == 0 && p.key_size == 0 && p.seen == 0 && p.bytes == 0); /* it begins anew */
    return AMI_OK;
}

/* Whatever the steps, a round sees all; also while the ledger grows. */
static void a_patrol_sees_everything(void **state)
{
    (void)state;
    make_ledger(20);
    struct store *s = open_store(STORE_READ_ONLY, 0);
    uint64_t whole = 0, bytes = 0;
    assert_ok(patrol_round(s, SIZE_MAX, &bytes));
    assert_int_equal(bytes, 0); /* in one step */
    assert_ok(patrol_round(s, 1, &whole));
    assert_true(whole > 20 * 50 * 2000u);
    for (size_t step = 10; step < 3000000; step *= 7) {
        assert_ok(patrol_round(s, step, &bytes));
        assert_true(bytes <= whole);
    }
    store_close(s);
    s = open_store(STORE_READ_WRITE, 0);
    struct store_patrol p = {0};
    struct vote_record vote;
    uint8_t record[512];
    bool done = false;
    for (unsigned i = 0; !done; i++) {
        struct store_batch batch = {.vote_record = vote_of(record, i + 1, NULL)};
        assert_ok(store_write(s, &batch));
        assert_ok(store_patrol_on(s, &p, 5000, &done));
        assert_true(i < 100000);
    }
    assert_ok(store_vote_record(s, &vote, buffer, sizeof buffer));
    assert_false(store_damaged(s));
    store_close(s);
}

/* A value that is not what was written is never returned, whichever it is; and the store remembers.
 */
static void a_damaged_value_is_not_returned(void **state)
{
    (void)state;
    struct tip tip = tip_at_start();
    struct made *b = make_block(&tip, 50, 2000), *second = make_block(&tip, 1, 100);
    struct made *kept = make_block(&tip, 3, 500);
    struct certified_block got;
    struct block_header header;
    struct qc commit;
    struct body_reply reply;
    struct vote_record vote;
    uint8_t record[512];
    struct store *s = open_store(STORE_READ_WRITE, 0);
    struct store_batch batch = commit_of(b), next = commit_of(second), keep = pending_of(kept);
    keep.vote_record = vote_of(record, 77, &kept->hash);
    assert_ok(store_write(s, &batch));
    assert_ok(store_write(s, &next));
    assert_ok(store_write(s, &keep));
    assert_false(store_damaged(s));
    store_close(s);

    flip_in_file(span_of(b->body + 20000, 64));
    s = open_store(STORE_READ_ONLY, 0);
    assert_status(store_block(s, 1, &got, buffer, sizeof buffer), AMI_DAMAGED);
    assert_status(store_body(s, &b->hash, &reply, buffer, sizeof buffer), AMI_DAMAGED);
    assert_true(store_damaged(s));
    uint64_t seen;
    assert_status(patrol_round(s, 100, &seen), AMI_DAMAGED);
    assert_status(patrol_round(s, 1000000, &seen), AMI_DAMAGED);
    assert_ok(store_header(s, 1, &header, &commit)); /* the front is whole */
    assert_ok(store_block(s, 2, &got, buffer, sizeof buffer));
    /* What finds transactions of the last blocks is made of them. */
    uint64_t height;
    uint32_t index;
    assert_status(store_find_tx(s, &second->first_tx, &height, &index), AMI_DAMAGED);
    assert_ok(store_body(s, &kept->hash, &reply, buffer, sizeof buffer));
    assert_ok(store_vote_record(s, &vote, buffer, sizeof buffer));
    store_close(s);

    flip_in_file(span_of(b->header_bytes + b->header_size - 32, 32)); /* its time is in there */
    s = open_store(STORE_READ_WRITE, 0);
    assert_status(store_header(s, 1, &header, &commit), AMI_DAMAGED);
    assert_true(store_damaged(s));
    store_close(s);
    free_block(b);
    free_block(second);
    free_block(kept);
}

static void a_damaged_vote_record_is_not_returned(void **state)
{
    (void)state;
    struct tip tip = tip_at_start();
    struct made *kept = make_block(&tip, 3, 500);
    struct body_reply reply;
    struct vote_record vote;
    uint8_t record[512];
    struct store *s = open_store(STORE_READ_WRITE, 0);
    struct store_batch keep = pending_of(kept);
    struct span encoded = keep.vote_record = vote_of(record, 77, &kept->hash);
    assert_ok(store_write(s, &keep));
    assert_ok(store_vote_record(s, &vote, buffer, sizeof buffer));
    store_close(s);
    flip_in_file(span_of(encoded.data + encoded.size / 2, 32));
    s = open_store(STORE_READ_WRITE, 0);
    assert_status(store_vote_record(s, &vote, buffer, sizeof buffer), AMI_DAMAGED);
    assert_true(store_damaged(s));
    store_close(s);
    flip_in_file(span_of(kept->body + 500, 64));
    s = open_store(STORE_READ_WRITE, 0);
    assert_status(store_body(s, &kept->hash, &reply, buffer, sizeof buffer), AMI_DAMAGED);
    store_close(s);
    free_block(kept);
}

#define ON_DISK(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

static int start(void **state)
{
    (void)state;
    return crypto_start() == AMI_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_DISK(blocks_come_back_also_after_reopening),
        ON_DISK(votes_and_kept_blocks),
        ON_DISK(kept_blocks_are_bounded),
        ON_DISK(the_registry_comes_back_as_it_was),
        ON_DISK(a_batch_is_whole_or_absent),
        ON_DISK(the_map_grows_by_itself),
        ON_DISK(a_full_ledger_keeps_what_it_has),
        ON_DISK(a_full_disk_keeps_what_it_has),
        ON_DISK(a_write_is_synced_in_the_right_order),
        ON_DISK(a_disk_error_at_any_call_leaves_no_trace),
        ON_DISK(a_disk_error_amid_creation_leaves_no_trace),
        ON_DISK(another_process_reads_along_but_may_not_write),
        ON_DISK(a_thread_reads_while_another_writes),
        ON_DISK(what_was_written_survives_sigkill),
        ON_DISK(directories_without_a_ledger),
        ON_DISK(another_chain_is_refused),
        ON_DISK(foreign_files_are_refused),
        ON_DISK(a_cut_file_is_refused),
        ON_DISK(a_tip_without_its_block_is_damage),
        ON_DISK(a_patrol_sees_everything),
        ON_DISK(a_damaged_value_is_not_returned),
        ON_DISK(a_damaged_vote_record_is_not_returned),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
