/* net/file.h - files: read whole, written whole or not at all; directories made and locked.
 *
 * Every function names the path and the system's reason in `why` (may be NULL). A full disk is
 * AMI_FULL, see why_status_of_errno for the rest.
 */
#ifndef AMI_NET_FILE_H
#define AMI_NET_FILE_H

#include "base/bytes.h"
#include "net/why.h"

#include <time.h>

/* Reads all of a regular file of at most size_max bytes into fresh memory, with a zero byte behind
 * it that *size does not count. The caller frees *data (secret_wipe first where it is secret).
 * AMI_NOT_FOUND, AMI_TOO_LARGE, AMI_IO. */
enum ami_status file_read(const char *path, size_t size_max, uint8_t **data, size_t *size,
                          struct why *why) AMI_MUST_CHECK;

#define FILE_MODE_SECRET 0600
#define FILE_MODE_PUBLIC 0644

/* Replaces (or makes) a file: a temporary file beside it is written and synced, renamed, and the
 * directory synced, so that a crash leaves the old content or the new and nothing else. On failure
 * the old file stays as it was and the temporary one is removed. */
enum ami_status file_write(const char *path, struct span content, unsigned mode,
                           struct why *why) AMI_MUST_CHECK;

/* As file_write, but AMI_EXISTS when there is such a file already (decided atomically). */
enum ami_status file_write_new(const char *path, struct span content, unsigned mode,
                               struct why *why) AMI_MUST_CHECK;

/* Makes a directory and those above it. It is no error when it is there. */
enum ami_status directory_make(const char *path, unsigned mode, struct why *why) AMI_MUST_CHECK;

/* Takes the directory for this process until the returned descriptor is closed or the process ends,
 * however it ends. AMI_IN_USE when another has it; `why` then tells its process id. */
enum ami_status directory_lock(const char *path, int *fd, struct why *why) AMI_MUST_CHECK;
void directory_unlock(int fd);

/* Makes what was renamed or created in a directory durable. */
enum ami_status directory_sync(const char *path, struct why *why) AMI_MUST_CHECK;

/* Joins with one slash into out[0..size). AMI_TOO_LARGE when it does not fit. */
enum ami_status path_join(char *out, size_t size, const char *directory, const char *name,
                          struct why *why) AMI_MUST_CHECK;

/* Notes when a file was written last; whether that is not what *mtime said. False when there is
 * none (path may be NULL). */
bool file_changed(const char *path, struct timespec *mtime);
/* Reading failed for want of memory, descriptors or the like, not for what the file says: who looks
 * for changes clears the time it noted, so that the next look reads again. */
static inline bool file_is_worth_another_look(enum ami_status status)
{
    return status == AMI_NO_MEMORY || status == AMI_IO;
}

#endif
