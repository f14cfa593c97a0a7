/* net/why.h - one sentence that says what went wrong, where, and what was found.
 *
 * A status says which kind of error it was; a `why` names the path, the address, the line or the
 * option. Functions of this room that can fail because of something a person may mend fill one in
 * when it is not NULL. On AMI_OK they leave it untouched.
 */
#ifndef AMI_NET_WHY_H
#define AMI_NET_WHY_H

#include "base/status.h"

#define WHY_BYTES_MAX 512

struct why {
    char text[WHY_BYTES_MAX]; /* zero-terminated; no final newline; cut when it would not fit */
};

/* Formats the sentence when `why` is not NULL and returns `status`, so that an error path is one
 * line: return why_set(why, AMI_IO, "%s: %s", path, strerror(errno)). Keeps errno. */
enum ami_status why_set(struct why *why, enum ami_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The status for an errno value of a file operation: ENOSPC, EDQUOT and EFBIG are AMI_FULL, ENOENT
 * is AMI_NOT_FOUND, EEXIST is AMI_EXISTS, ENOMEM is AMI_NO_MEMORY, the rest is AMI_IO. */
enum ami_status why_status_of_errno(int error);

#endif
