/* The disk under the ledger: a write is synced in the right order, and whatever call fails, or
 * writes half, nothing of the batch can be seen and nothing else is lost. */
#include "tests/ledger/store_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>

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

/* --- a full disk ------------------------------------------------------------------------------ */

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

/* --- each call -------------------------------------------------------------------------------- */

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_DISK(a_full_disk_keeps_what_it_has),
        ON_DISK(a_write_is_synced_in_the_right_order),
        ON_DISK(a_disk_error_at_any_call_leaves_no_trace),
        ON_DISK(a_disk_error_amid_creation_leaves_no_trace),
    };
    return cmocka_run_group_tests(tests, start_crypto, NULL);
}
