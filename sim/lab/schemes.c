/* sim/lab/schemes.c - the schemes that the laboratory looks at. */
#include "sim/lab/schemes.h"

#include "base/check.h"
#include "sim/lab/lab.h"

#include <string.h>

static unsigned left_out;

const struct lab_scheme *lab_schemes(void)
{
    /* One line per scheme. */
    static struct lab_scheme all[] = {
        {NULL, &lab_weak_liu2023},
        {NULL, &lab_weak_sm2kx},
        {&lab_ecdh, &lab_weak_ecdh},
        {NULL, NULL},
    };
    if (all[0].scheme == NULL) {
        all[0].scheme = scheme_by_number(SCHEME_LIU2023);
        all[1].scheme = scheme_by_number(SCHEME_SM2KX);
        for (size_t i = 0; all[i].scheme != NULL; i++) {
            if (scheme_by_number(all[i].scheme->number) == NULL)
                scheme_bring(all[i].scheme);
            if (all[i].weak != NULL)
                scheme_bring(all[i].weak);
        }
    }
    return all;
}

const struct scheme *lab_weak(const struct scheme *scheme, unsigned without)
{
    for (const struct lab_scheme *s = lab_schemes(); s->scheme != NULL; s++) {
        if (s->scheme != scheme)
            continue;
        left_out = without;
        return s->weak;
    }
    AMI_CHECK(false && "no scheme of the laboratory");
    return NULL;
}

bool lab_left_out(enum lab_without what)
{
    return (left_out & what) != 0;
}

const struct scheme *lab_scheme_next(const struct lab_options *o, const struct scheme *after)
{
    const struct lab_scheme *s = lab_schemes();
    if (o->scheme != NULL)
        return after == NULL ? o->scheme : NULL;
    while (after != NULL && s->scheme != after)
        s++;
    return after == NULL ? s->scheme : s[1].scheme;
}

const struct scheme *lab_scheme_find(const char *name)
{
    for (const struct lab_scheme *s = lab_schemes(); s->scheme != NULL; s++)
        if (strcmp(s->scheme->name, name) == 0)
            return s->scheme;
    return NULL;
}
