#include "net/why.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

enum ami_status why_set(struct why *why, enum ami_status status, const char *format, ...)
{
    if (why == NULL)
        return status;
    int saved = errno;
    va_list args;
    va_start(args, format);
    int size = vsnprintf(why->text, sizeof why->text, format, args);
    va_end(args);
    if (size < 0)
        why->text[0] = 0;
    errno = saved;
    return status;
}

enum ami_status why_status_of_errno(int error)
{
    switch (error) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return AMI_FULL;
    case ENOENT:
        return AMI_NOT_FOUND;
    case EEXIST:
        return AMI_EXISTS;
    case ENOMEM:
        return AMI_NO_MEMORY;
    default:
        return AMI_IO;
    }
}
