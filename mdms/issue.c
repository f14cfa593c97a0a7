#include "mdms/issue.h"

#include "crypto/secret.h"
#include "mdms/seed.h"
#include "net/file.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum ami_status issuer_begin(struct issuer *w, const struct common_options *common, struct why *why)
{
    memset(w, 0, sizeof *w);
    w->lock = -1;
    w->dir = common->dir;
    AMI_TRY(cli_network(w->dir, &w->net, why));
    AMI_TRY(cli_passphrase(common->passphrase_file, false, w->passphrase, why));
    return cli_keys(w->dir, &w->net, w->passphrase, &w->keys, why);
}

enum ami_status issuer_lock(struct issuer *w, struct why *why)
{
    char folder[PATH_MAX];
    AMI_TRY(path_join(folder, sizeof folder, w->dir, SEED_FOLDER, why));
    AMI_TRY(directory_make(folder, 0755, why));
    return directory_lock(folder, &w->lock, why);
}

void issuer_end(struct issuer *w)
{
    if (w->lock >= 0)
        directory_unlock(w->lock);
    secret_wipe(w, sizeof *w);
    w->lock = -1;
}

enum ami_status issue_cfl(const struct issuer *w, struct cfl_certificate *certificate,
                          struct why *why)
{
    uint8_t random[SM2_WIDE_BYTES];
    struct cfl_seed *seed = calloc(1, sizeof *seed);
    enum ami_status status =
        seed == NULL ? AMI_NO_MEMORY : seed_open(w->dir, &w->net, w->passphrase, seed, why);
    secret_random(random, sizeof random);
    if (status == AMI_OK && (status = cfl_issue(certificate, seed, random)) != AMI_OK)
        why_set(why, status, "the certificate cannot be made: %s", ami_status_text(status));
    if (seed != NULL)
        secret_wipe(seed, sizeof *seed);
    free(seed);
    secret_wipe(random, sizeof random);
    return status;
}
