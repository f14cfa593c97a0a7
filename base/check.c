#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void ami_check_failed(const char *file, int line, const char *expr)
{
    fprintf(stderr, "%s:%d: invariant violated: %s\n", file, line, expr);
    abort();
}
