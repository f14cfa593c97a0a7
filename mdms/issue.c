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

enum ami_status issue_may_ask(const struct issuer *w, const struct credential_identity *who,
                              enum credential_role role, int64_t days, const char *path,
                              struct why *why)
{
    const int64_t now_s = issue_now_s();
    if (!sm3_equal(&who->network, &w->net.id))
        return why_set(why, AMI_WRONG_CHAIN, "%.300s is for another network", path);
    if (who->role != role)
        return why_set(why, AMI_NOT_ALLOWED, "%.300s asks for a certificate of role %s, not %s",
                       path, credential_role_name(who->role), credential_role_name(role));
    if (who->until_s == 0 || who->until_s > now_s + days * ISSUE_DAY_S + ISSUE_EARLY_S)
        return why_set(why, AMI_NOT_ALLOWED,
                       "%.300s asks for more than %lld days; --days allows more", path,
                       (long long)days);
    return who->until_s > now_s
               ? AMI_OK
               : why_set(why, AMI_NOT_ALLOWED,
                         "the time that %.300s asks for is over: it has to be made anew", path);
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

enum ami_status issue_answer(const struct issuer *w, struct credential_answer *out,
                             const struct credential_request *request, struct label label,
                             struct why *why)
{
    uint8_t random[SM2_WIDE_BYTES];
    if (request->who.kind == CREDENTIAL_CFL) {
        struct cfl_certificate certificate = credential_request_cfl(request);
        AMI_TRY(issue_cfl(w, &certificate, why));
        credential_answer_cfl(out, &certificate);
        return AMI_OK;
    }
    secret_random(random, sizeof random);
    const enum ami_status status =
        credential_answer_implicit(out, request, label, &w->net, &w->keys.x, random);
    secret_wipe(random, sizeof random);
    return status;
}
