#include "net/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crypto/secret.h"

#define PATH_BYTES_MAX   4096
#define READ_CHUNK_BYTES (64u << 10)
#define LOCK_NAME        "lock"

static enum ami_status say_errno(struct why *why, const char *doing, const char *path)
{
    int error = errno;
    return why_set(why, why_status_of_errno(error), "%s %s: %s", doing, path, strerror(error));
}

/* Frees what may hold a secret. */
static void wipe_free(uint8_t *data, size_t size)
{
    if (data != NULL)
        secret_wipe(data, size);
    free(data);
}

/* Memory follows what was read: a file in /proc tells no size, and another may grow meanwhile. */
static enum ami_status read_all(int fd, const char *path, size_t size_max, uint8_t **out,
                                size_t *out_size, struct why *why)
{
    uint8_t *data = NULL;
    size_t size = 0, capacity = 0;
    for (;;) {
        if (capacity - size < READ_CHUNK_BYTES + 1) {
            size_t larger = capacity * 2 + READ_CHUNK_BYTES + 1;
            uint8_t *moved = malloc(larger);
            if (moved == NULL) {
                wipe_free(data, size);
                return why_set(why, AMI_NO_MEMORY, "no memory to read %s", path);
            }
            if (size > 0)
                memcpy(moved, data, size);
            wipe_free(data, size);
            data = moved;
            capacity = larger;
        }
        ssize_t got = read(fd, data + size, READ_CHUNK_BYTES);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            enum ami_status status = say_errno(why, "cannot read", path);
            wipe_free(data, size);
            return status;
        }
        if (got == 0)
            break;
        size += (size_t)got;
        if (size > size_max) {
            wipe_free(data, size);
            return why_set(why, AMI_TOO_LARGE, "%s is larger than the %zu bytes allowed for it",
                           path, size_max);
        }
    }
    data[size] = 0;
    *out = data;
    *out_size = size;
    return AMI_OK;
}

enum ami_status file_read(const char *path, size_t size_max, uint8_t **data, size_t *size,
                          struct why *why)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return say_errno(why, "cannot open", path);
    struct stat about;
    enum ami_status status;
    if (fstat(fd, &about) != 0)
        status = say_errno(why, "cannot look at", path);
    else if (S_ISDIR(about.st_mode))
        status = why_set(why, AMI_IO, "cannot read %s: it is a directory", path);
    else
        status = read_all(fd, path, size_max, data, size, why);
    close(fd);
    return status;
}

/* The directory that `path` stands in, "." for a bare name. */
static enum ami_status parent_of(const char *path, char out[PATH_BYTES_MAX], struct why *why)
{
    const char *slash = strrchr(path, '/');
    size_t size = slash == NULL ? 1 : slash == path ? 1 : (size_t)(slash - path);
    if (size >= PATH_BYTES_MAX)
        return why_set(why, AMI_TOO_LARGE, "the path %.60s... is too long", path);
    memcpy(out, slash == NULL ? "." : path, size);
    out[size] = 0;
    return AMI_OK;
}

enum ami_status directory_sync(const char *path, struct why *why)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return say_errno(why, "cannot open directory", path);
    enum ami_status status = AMI_OK;
    if (fsync(fd) != 0)
        status = say_errno(why, "cannot sync directory", path);
    close(fd);
    return status;
}

static enum ami_status write_fd(int fd, struct span content, unsigned mode, const char *path,
                                struct why *why)
{
    size_t written = 0;
    while (written < content.size) {
        ssize_t n = write(fd, content.data + written, content.size - written);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return say_errno(why, "cannot write", path);
        written += (size_t)n;
    }
    if (fchmod(fd, (mode_t)mode) != 0)
        return say_errno(why, "cannot set the mode of", path);
    if (fsync(fd) != 0)
        return say_errno(why, "cannot sync", path);
    return AMI_OK;
}

/* Writes a temporary file beside `path`, then moves it there: by rename, which replaces, or by
 * link, which the system refuses when the name is taken. */
static enum ami_status write_whole(const char *path, struct span content, unsigned mode,
                                   bool replace, struct why *why)
{
    char directory[PATH_BYTES_MAX], temporary[PATH_BYTES_MAX];
    AMI_TRY(parent_of(path, directory, why));
    int size = snprintf(temporary, sizeof temporary, "%s.new-XXXXXX", path);
    if (size < 0 || (size_t)size >= sizeof temporary)
        return why_set(why, AMI_TOO_LARGE, "the path %.60s... is too long", path);
    int fd = mkostemp(temporary, O_CLOEXEC); /* made with mode 0600 */
    if (fd < 0)
        return say_errno(why, "cannot write", path);
    enum ami_status status = write_fd(fd, content, mode, path, why);
    if (close(fd) != 0 && status == AMI_OK)
        status = say_errno(why, "cannot close", path);
    bool moved = false;
    if (status == AMI_OK) {
        if (replace)
            moved = rename(temporary, path) == 0;
        else if (link(temporary, path) == 0)
            moved = unlink(temporary) == 0;
        if (!moved && errno == EEXIST)
            status =
                why_set(why, AMI_EXISTS, "%s exists already and will not be overwritten", path);
        else if (!moved)
            status = say_errno(why, "cannot write", path);
    }
    if (!moved)
        unlink(temporary);
    if (status == AMI_OK)
        status = directory_sync(directory, why);
    return status;
}

enum ami_status file_write(const char *path, struct span content, unsigned mode, struct why *why)
{
    return write_whole(path, content, mode, true, why);
}

enum ami_status file_write_new(const char *path, struct span content, unsigned mode,
                               struct why *why)
{
    return write_whole(path, content, mode, false, why);
}

enum ami_status directory_make(const char *path, unsigned mode, struct why *why)
{
    char part[PATH_BYTES_MAX];
    size_t size = strlen(path);
    if (size == 0 || size >= sizeof part)
        return why_set(why, AMI_BAD_ARGUMENT, "\"%.60s\" cannot be a directory", path);
    memcpy(part, path, size + 1);
    for (size_t i = 1; i <= size; i++) {
        if (part[i] != '/' && part[i] != 0)
            continue;
        char end = part[i];
        part[i] = 0;
        struct stat about;
        if (mkdir(part, (mode_t)mode) != 0) {
            if (errno != EEXIST)
                return say_errno(why, "cannot make directory", part);
            if (stat(part, &about) != 0)
                return say_errno(why, "cannot look at", part);
            if (!S_ISDIR(about.st_mode))
                return why_set(why, AMI_EXISTS, "cannot make directory %s: there is a file", part);
        }
        part[i] = end;
    }
    return AMI_OK;
}

enum ami_status path_join(char *out, size_t size, const char *directory, const char *name,
                          struct why *why)
{
    size_t length = strlen(directory);
    bool slash = length > 0 && directory[length - 1] != '/';
    int written = snprintf(out, size, "%s%s%s", directory, slash ? "/" : "", name);
    if (written < 0 || (size_t)written >= size)
        return why_set(why, AMI_TOO_LARGE, "the path %.60s.../%.60s is too long", directory, name);
    return AMI_OK;
}

enum ami_status directory_lock(const char *path, int *fd, struct why *why)
{
    char file[PATH_BYTES_MAX], text[32] = {0};
    AMI_TRY(path_join(file, sizeof file, path, LOCK_NAME, why));
    int lock = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (lock < 0)
        return say_errno(why, "cannot open", file);
    if (flock(lock, LOCK_EX | LOCK_NB) != 0) {
        enum ami_status status;
        if (errno == EWOULDBLOCK) {
            ssize_t got = pread(lock, text, sizeof text - 1, 0);
            long pid = got > 0 ? strtol(text, NULL, 10) : 0;
            if (pid > 0)
                status = why_set(why, AMI_IN_USE, "%s is in use by process %ld", path, pid);
            else
                status = why_set(why, AMI_IN_USE, "%s is in use by another process", path);
        } else {
            status = say_errno(why, "cannot lock", file);
        }
        close(lock);
        return status;
    }
    /* Only for the sentence above: the lock itself is the descriptor, whatever the file says. */
    int length = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    if (ftruncate(lock, 0) != 0 || pwrite(lock, text, (size_t)length, 0) != (ssize_t)length) {
        enum ami_status status = say_errno(why, "cannot write", file);
        close(lock);
        return status;
    }
    *fd = lock;
    return AMI_OK;
}

void directory_unlock(int fd)
{
    close(fd);
}

bool file_changed(const char *path, struct timespec *mtime)
{
    struct stat st;
    if (path == NULL || stat(path, &st) != 0)
        return false;
    const bool changed = st.st_mtim.tv_sec != mtime->tv_sec || st.st_mtim.tv_nsec != mtime->tv_nsec;
    *mtime = st.st_mtim;
    return changed;
}
