/* sim/lab/schemes.c - the schemes that the laboratory looks at. */
#include "sim/lab/lab.h"

#include <string.h>

const struct scheme *lab_scheme_next(const struct lab_options *o, const struct scheme *after)
{
    if (o->scheme != NULL)
        return after == NULL ? o->scheme : NULL;
    if (after == NULL)
        return scheme_at(0);
    for (size_t i = 0; scheme_at(i) != NULL; i++)
        if (scheme_at(i) == after)
            return scheme_at(i + 1);
    return NULL;
}

const struct scheme *lab_scheme_find(const char *name)
{
    return scheme_by_name(name);
}
