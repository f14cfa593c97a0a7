/* tests/crypto/paths.h - the code paths of the SM2 engine that this processor has, for cmocka
 * tests.
 *
 * A test calls path_next until it gives NULL; the path is in use then. The first is always
 * "portable", whose results the others have to repeat.
 */
#ifndef AMI_TESTS_CRYPTO_PATHS_H
#define AMI_TESTS_CRYPTO_PATHS_H

#include "support.h"

#include "crypto/secret.h"
#include "crypto/sm2_path.h"

#include <stdio.h>

#define PATHS_MAX 8

struct paths {
    const struct sm2_path *path[PATHS_MAX];
    const char *name[PATHS_MAX];
    size_t count, next;
};

static inline void path_use(const struct sm2_path *path)
{
    /* Tables of remembered signers belong to the path that made them. */
    sm2_signers_forget();
    assert_true(sm2_path_use(path));
}

static inline struct paths paths_of_this_processor(void)
{
    struct paths out = {.count = 1};
    for (size_t i = 0; sm2_path_names[i] != NULL; i++) {
        const char *name = sm2_path_names[i];
        const struct sm2_path *path = sm2_path_named(name);
        size_t at = strcmp(name, "portable") == 0 ? 0 : out.count;
        if (path == NULL)
            continue;
        assert_true(at < PATHS_MAX);
        out.path[at] = path;
        out.name[at] = name;
        out.count += at > 0;
    }
    assert_non_null(out.path[0]);
    return out;
}

static inline void print_paths(void)
{
    for (size_t i = 0; sm2_path_names[i] != NULL; i++)
        printf("path %s%s\n", sm2_path_names[i],
               sm2_path_named(sm2_path_names[i]) == NULL ? ": skipped, this processor lacks it"
                                                         : "");
}

/* The name of the path that is in use from here on, NULL after the last. */
static inline const char *path_next(struct paths *p)
{
    if (p->next == p->count)
        return NULL;
    path_use(p->path[p->next]);
    assert_string_equal(sm2_path_name(), p->name[p->next]);
    return p->name[p->next++];
}

#endif
