/* Files: whole or not at all; directories: made and locked; each error names the path. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net/file.h"
#include "tests/harness.h"

static char dir[64];

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/ami-net-XXXXXX");
    return mkdtemp(dir) == NULL ? -1 : 0;
}

static int remove_dir(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

static const char *in_dir(const char *name)
{
    static char path[256];
    struct why why;
    assert_ok(path_join(path, sizeof path, dir, name, &why));
    return path;
}

static void assert_content(const char *path, struct span expected)
{
    uint8_t *data;
    size_t size;
    struct why why;
    assert_ok(file_read(path, 1 << 20, &data, &size, &why));
    assert_true(span_equal(span_of(data, size), expected));
    assert_int_equal(data[size], 0);
    free(data);
}

static int count_files(void)
{
    char command[160];
    snprintf(command, sizeof command, "exit $(ls -A '%s' | wc -l)", dir);
    return WEXITSTATUS(system(command));
}

static void a_file_is_written_replaced_and_read(void **state)
{
    (void)state;
    struct why why;
    const char *path = in_dir("key");
    int before = count_files();
    assert_ok(file_write(path, SPAN_LITERAL("first"), FILE_MODE_SECRET, &why));
    struct stat about;
    assert_int_equal(stat(path, &about), 0);
    assert_int_equal(about.st_mode & 0777, 0600);
    assert_content(path, SPAN_LITERAL("first"));
    assert_ok(file_write(path, SPAN_LITERAL("second, longer"), FILE_MODE_PUBLIC, &why));
    assert_content(path, SPAN_LITERAL("second, longer"));
    assert_ok(file_write(path, span_of(NULL, 0), FILE_MODE_PUBLIC, &why));
    assert_content(path, span_of(NULL, 0));
    assert_int_equal(count_files(), before + 1); /* no temporary file is left */
}

static void a_new_file_never_overwrites(void **state)
{
    (void)state;
    struct why why;
    const char *path = in_dir("genesis");
    assert_ok(file_write_new(path, SPAN_LITERAL("one"), FILE_MODE_PUBLIC, &why));
    int before = count_files();
    assert_status(file_write_new(path, SPAN_LITERAL("two"), FILE_MODE_PUBLIC, &why), AMI_EXISTS);
    assert_non_null(strstr(why.text, path));
    assert_content(path, SPAN_LITERAL("one"));
    assert_int_equal(count_files(), before);
}

static void reading_has_a_limit_and_reasons(void **state)
{
    (void)state;
    struct why why;
    uint8_t *data = NULL;
    size_t size = 0;
    assert_status(file_read(in_dir("nobody"), 10, &data, &size, &why), AMI_NOT_FOUND);
    assert_non_null(strstr(why.text, "nobody: No such file"));
    assert_ok(file_write(in_dir("ten"), SPAN_LITERAL("0123456789"), FILE_MODE_PUBLIC, &why));
    assert_status(file_read(in_dir("ten"), 9, &data, &size, &why), AMI_TOO_LARGE);
    assert_non_null(strstr(why.text, "ten"));
    assert_ok(file_read(in_dir("ten"), 10, &data, &size, &why));
    assert_int_equal(size, 10);
    free(data);
    assert_status(file_read(dir, 10, &data, &size, &why), AMI_IO);
    assert_status(file_write(in_dir("no/such/file"), SPAN_LITERAL("x"), 0600, &why), AMI_NOT_FOUND);

    /* Larger than one chunk of reading. */
    size_t large = 200000;
    uint8_t *out = malloc(large);
    assert_non_null(out);
    for (size_t i = 0; i < large; i++)
        out[i] = (uint8_t)(i * 31 >> 3);
    assert_ok(file_write(in_dir("large"), span_of(out, large), FILE_MODE_PUBLIC, &why));
    assert_content(in_dir("large"), span_of(out, large));
    free(out);
}

/* A limit on file size stands in for a full disk: the write fails half-way. */
static void a_full_disk_leaves_the_old_file(void **state)
{
    (void)state;
    struct why why;
    const char *path = in_dir("store");
    assert_ok(file_write(path, SPAN_LITERAL("old"), FILE_MODE_PUBLIC, &why));
    int before = count_files();
    struct rlimit old, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 1000;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    static const uint8_t content[5000];
    enum ami_status status = file_write(path, span_of(content, sizeof content), 0600, &why);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, handler);
    assert_status(status, AMI_FULL);
    assert_non_null(strstr(why.text, path));
    assert_content(path, SPAN_LITERAL("old"));
    assert_int_equal(count_files(), before);
    assert_status(why_status_of_errno(28 /* ENOSPC */), AMI_FULL);
}

/* A writer killed at any instant leaves the old content or the new, never a part. */
static void a_killed_writer_leaves_a_whole_file(void **state)
{
    (void)state;
    struct why why;
    static char path[256];
    snprintf(path, sizeof path, "%s", in_dir("state"));
    static uint8_t content[2][30000];
    memset(content[1], 1, sizeof content[1]);
    assert_ok(file_write(path, span_of(content[0], sizeof content[0]), 0600, &why));
    for (int round = 0; round < 20; round++) {
        int pipe_fd[2];
        assert_int_equal(pipe(pipe_fd), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            for (int i = 0;; i++) {
                if (file_write(path, span_of(content[i & 1], sizeof content[0]), 0600, NULL) !=
                    AMI_OK)
                    _exit(1);
                if (i <= round % 5 && write(pipe_fd[1], "x", 1) != 1)
                    _exit(1);
            }
        }
        char byte;
        for (int i = 0; i <= round % 5;
             i++) /* it has begun, and is at a different place each round */
            assert_int_equal(read(pipe_fd[0], &byte, 1), 1);
        kill(child, SIGKILL);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        close(pipe_fd[0]);
        close(pipe_fd[1]);
        uint8_t *data;
        size_t size;
        assert_ok(file_read(path, 1 << 20, &data, &size, &why));
        assert_int_equal(size, sizeof content[0]);
        assert_true(memcmp(data, content[data[0] == 1], size) == 0);
        free(data);
    }
}

static void directories_are_made_with_those_above(void **state)
{
    (void)state;
    struct why why;
    struct stat about;
    static char path[256];
    snprintf(path, sizeof path, "%s", in_dir("a/b//c/"));
    assert_ok(directory_make(path, 0700, &why));
    assert_int_equal(stat(path, &about), 0);
    assert_true(S_ISDIR(about.st_mode));
    assert_ok(directory_make(path, 0700, &why));
    assert_ok(file_write(in_dir("plain"), SPAN_LITERAL("x"), 0600, &why));
    assert_status(directory_make(in_dir("plain/sub"), 0700, &why), AMI_EXISTS);
    assert_non_null(strstr(why.text, "plain"));
    assert_status(directory_make("", 0700, &why), AMI_BAD_ARGUMENT);
}

static void one_process_has_a_directory(void **state)
{
    (void)state;
    struct why why;
    int fd = -1, other = -1;
    assert_ok(directory_lock(dir, &fd, &why));
    assert_status(directory_lock(dir, &other, &why), AMI_IN_USE);
    char expected[128];
    snprintf(expected, sizeof expected, "%s is in use by process %ld", dir, (long)getpid());
    assert_string_equal(why.text, expected);
    directory_unlock(fd);
    assert_ok(directory_lock(dir, &fd, &why));
    directory_unlock(fd);

    /* A process that was killed does not keep it. */
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int mine;
        if (directory_lock(dir, &mine, NULL) != AMI_OK || write(ready[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    char byte;
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_status(directory_lock(dir, &other, &why), AMI_IN_USE);
    snprintf(expected, sizeof expected, "%s is in use by process %ld", dir, (long)child);
    assert_string_equal(why.text, expected);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_ok(directory_lock(dir, &fd, &why));
    directory_unlock(fd);
    close(ready[0]);
    close(ready[1]);
    assert_status(directory_lock("/nonexistent/dir", &fd, &why), AMI_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_written_replaced_and_read),
        cmocka_unit_test(a_new_file_never_overwrites),
        cmocka_unit_test(reading_has_a_limit_and_reasons),
        cmocka_unit_test(a_full_disk_leaves_the_old_file),
        cmocka_unit_test(a_killed_writer_leaves_a_whole_file),
        cmocka_unit_test(directories_are_made_with_those_above),
        cmocka_unit_test(one_process_has_a_directory),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
