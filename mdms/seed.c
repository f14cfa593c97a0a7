#include "mdms/seed.h"

#include "crypto/secret.h"
#include "net/file.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct seed_place {
    const struct network *net;
    const char *passphrase;
    char seed[PATH_MAX], set[PATH_MAX];
};

/* Bound into the seal, so that another network's set does not pass for this one's. */
static void seed_purpose(char out[128], const struct network *net)
{
    char hex[2 * SM3_BYTES + 1];
    hex_encode(hex, net->id.b, SM3_BYTES);
    snprintf(out, 128, "amiledger cfl seed v1 %s", hex);
}

/* The file with the public half, which everybody has a copy of, has to be that of the seed. */
static enum ami_status compare_set(const struct seed_place *w, struct span public_set,
                                   struct why *why)
{
    uint8_t *data = NULL;
    size_t size;
    enum ami_status status = file_read(w->set, CFL_PUBLIC_BYTES_MAX, &data, &size, why);
    if (status == AMI_TOO_LARGE)
        size = 0;
    else
        AMI_TRY(status);
    const bool same = size == public_set.size && memcmp(data, public_set.data, size) == 0;
    free(data);
    return same ? AMI_OK
                : why_set(why, AMI_FOREIGN_KEY,
                          "%.300s is not the public seed set of %.300s: put the right one back, or "
                          "move it away to have it made anew",
                          w->set, w->seed);
}

/* The public half; from the seed at any time. */
static enum ami_status public_set(const struct seed_place *w, const struct cfl_seed *seed,
                                  struct why *why)
{
    struct cfl_public *set = calloc(1, sizeof *set);
    uint8_t *out = malloc(CFL_PUBLIC_BYTES_MAX);
    enum ami_status status = AMI_NO_MEMORY;
    if (set != NULL && out != NULL) {
        cfl_public_of(set, seed);
        const struct span bytes = span_of(out, cfl_public_encode(out, set));
        status = access(w->set, F_OK) == 0 ? compare_set(w, bytes, why)
                                           : file_write(w->set, bytes, FILE_MODE_PUBLIC, why);
    }
    free(set);
    free(out);
    return status;
}

/* Drawn, sealed, written; a seed that exists is never replaced, nor is one whose public set does.
 */
static enum ami_status make_seed(const struct seed_place *w, struct cfl_seed *seed, struct why *why)
{
    enum { SEALED = CFL_SEED_BYTES_MAX + SECRET_SEAL_OVERHEAD_BYTES };
    char purpose[128];
    if (access(w->set, F_OK) == 0)
        return why_set(why, AMI_NOT_FOUND,
                       "%.300s is there, and %.300s, whose public seed set it is, is not: put that "
                       "back, or move both away to begin with a new set",
                       w->set, w->seed);
    uint8_t(*random)[SM2_WIDE_BYTES] = malloc(CFL_KEYS_MAX * sizeof *random);
    uint8_t *plain = malloc(CFL_SEED_BYTES_MAX), *out = malloc(SEALED);
    enum ami_status status =
        random == NULL || plain == NULL || out == NULL ? AMI_NO_MEMORY : AMI_OK;
    if (status == AMI_OK) {
        secret_random(random, CFL_KEYS_MAX * sizeof *random);
        status = cfl_seed_make(seed, CFL_ROWS_MAX, CFL_COLUMNS_MAX,
                               (const uint8_t(*)[SM2_WIDE_BYTES])random);
    }
    if (status == AMI_OK) {
        size_t size = cfl_seed_encode(plain, seed);
        seed_purpose(purpose, w->net);
        status = secret_seal(out, w->passphrase, purpose, span_of(plain, size));
        if (status == AMI_OK)
            status = file_write_new(w->seed, span_of(out, size + SECRET_SEAL_OVERHEAD_BYTES),
                                    FILE_MODE_SECRET, why);
    }
    if (random != NULL)
        secret_wipe(random, CFL_KEYS_MAX * sizeof *random);
    if (plain != NULL)
        secret_wipe(plain, CFL_SEED_BYTES_MAX);
    free(random);
    free(plain);
    free(out);
    return status == AMI_OK ? public_set(w, seed, why) : status;
}

/* AMI_NOT_FOUND: there is none. */
static enum ami_status open_seed(const struct seed_place *w, struct cfl_seed *seed, struct why *why)
{
    enum { SEALED = CFL_SEED_BYTES_MAX + SECRET_SEAL_OVERHEAD_BYTES };
    char purpose[128];
    uint8_t *sealed = NULL, *plain = NULL;
    size_t size;
    AMI_TRY(file_read(w->seed, SEALED, &sealed, &size, why));
    plain = malloc(SEALED);
    seed_purpose(purpose, w->net);
    enum ami_status status =
        plain == NULL ? AMI_NO_MEMORY
                      : secret_open(plain, w->passphrase, purpose, span_of(sealed, size));
    if (status == AMI_OK)
        status = cfl_seed_parse(seed, span_of(plain, size - SECRET_SEAL_OVERHEAD_BYTES));
    if (plain != NULL)
        secret_wipe(plain, SEALED);
    free(plain);
    free(sealed);
    if (status != AMI_OK)
        return why_set(why, status, "%.300s: %s", w->seed, ami_status_text(status));
    return public_set(w, seed, why);
}

enum ami_status seed_public_path(char *out, size_t size, const char *dir, struct why *why)
{
    char folder[PATH_MAX];
    AMI_TRY(path_join(folder, sizeof folder, dir, SEED_FOLDER, why));
    return path_join(out, size, folder, SEED_PUBLIC, why);
}

static enum ami_status find(struct seed_place *w, const char *dir, struct why *why)
{
    char folder[PATH_MAX];
    AMI_TRY(path_join(folder, sizeof folder, dir, SEED_FOLDER, why));
    AMI_TRY(path_join(w->seed, sizeof w->seed, folder, "cfl.seed", why));
    return path_join(w->set, sizeof w->set, folder, SEED_PUBLIC, why);
}

enum ami_status seed_open(const char *dir, const struct network *net, const char *passphrase,
                          struct cfl_seed *out, struct why *why)
{
    struct seed_place place = {.net = net, .passphrase = passphrase};
    AMI_TRY(find(&place, dir, why));
    const enum ami_status status = open_seed(&place, out, why);
    return status == AMI_NOT_FOUND ? make_seed(&place, out, why) : status;
}

enum ami_status seed_check(const char *dir, const struct network *net, const char *passphrase,
                           struct why *why)
{
    struct seed_place place = {.net = net, .passphrase = passphrase};
    struct cfl_seed *seed = calloc(1, sizeof *seed);
    enum ami_status status = seed == NULL ? AMI_NO_MEMORY : find(&place, dir, why);
    if (status == AMI_OK && access(place.set, F_OK) == 0)
        status = open_seed(&place, seed, why);
    if (seed != NULL)
        secret_wipe(seed, sizeof *seed);
    free(seed);
    return status == AMI_NOT_FOUND ? AMI_OK : status;
}
