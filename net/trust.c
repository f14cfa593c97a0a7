#include "net/trust.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "crypto/secret.h"
#include "net/file.h"

#define PEM_BYTES_MAX (1u << 20)

struct pem {
    uint8_t *data;
    size_t size;
};

static enum ami_status pem_read(struct pem *out, const char *path, struct why *why)
{
    *out = (struct pem){0};
    return path == NULL ? AMI_OK : file_read(path, PEM_BYTES_MAX, &out->data, &out->size, why);
}

static void pem_free(struct pem *p)
{
    if (p->data != NULL)
        secret_wipe(p->data, p->size);
    free(p->data);
}

static enum ami_status load_cfl(struct trust *out, const char *path, struct why *why)
{
    uint8_t *data = NULL;
    size_t size;
    if (path == NULL)
        return AMI_OK;
    AMI_TRY(file_read(path, CFL_PUBLIC_BYTES_MAX, &data, &size, why));
    out->cfl = calloc(1, sizeof *out->cfl);
    enum ami_status status =
        out->cfl == NULL ? AMI_NO_MEMORY : cfl_public_parse(out->cfl, span_of(data, size));
    free(data);
    if (status != AMI_OK)
        return why_set(why, status, "%.300s is no public seed set: %s", path,
                       ami_status_text(status));
    out->trust.cfl = out->cfl;
    out->trust.kinds |= CREDENTIAL_BIT(CREDENTIAL_CFL);
    return AMI_OK;
}

static enum ami_status load_operators(struct trust *out, const struct trust_files *files,
                                      struct why *why)
{
    struct pem authorities;
    struct label highest;
    if (files->operators == NULL && files->operators_label == NULL)
        return AMI_OK;
    if (files->operators == NULL || files->operators_label == NULL)
        return why_set(why, AMI_BAD_ARGUMENT,
                       "authorities that may make operators (--x509-operators) and the highest "
                       "label that they may give (--x509-operators-label) belong together");
    if (label_parse(&highest, files->operators_label) != AMI_OK)
        return why_set(why, AMI_BAD_ARGUMENT,
                       "--x509-operators-label \"%.60s\" is no label: expected a level 0 to 3 and "
                       "categories, such as 1:ledger+operation",
                       files->operators_label);
    AMI_TRY(pem_read(&authorities, files->operators, why));
    enum ami_status status =
        x509_trust_operators(out->x509, span_of(authorities.data, authorities.size), highest);
    pem_free(&authorities);
    return status == AMI_OK ? AMI_OK
                            : why_set(why, status, "%.300s: there is no certificate in PEM in it",
                                      files->operators);
}

static enum ami_status load_x509(struct trust *out, const struct trust_files *files,
                                 struct why *why)
{
    struct pem roots, crls = {0};
    char reason[200] = "";
    AMI_TRY(pem_read(&roots, files->roots, why));
    const bool without = strcmp(files->crls, TRUST_NO_CRLS) == 0;
    enum ami_status status = pem_read(&crls, without ? NULL : files->crls, why);
    if (status == AMI_OK) {
        out->x509 = x509_trust_new(span_of(roots.data, roots.size), span_of(crls.data, crls.size),
                                   reason, sizeof reason);
        if (out->x509 == NULL)
            status = why_set(why, AMI_BAD_ENCODING, "%.300s: %s", files->roots, reason);
    }
    pem_free(&roots);
    pem_free(&crls);
    AMI_TRY(status);
    AMI_TRY(load_operators(out, files, why));
    out->trust.x509 = out->x509;
    out->trust.kinds |= CREDENTIAL_BIT(CREDENTIAL_X509);
    return AMI_OK;
}

enum ami_status trust_load(struct trust *out, const struct network *net,
                           const struct trust_files *files, struct why *why)
{
    *out = (struct trust){.trust = {.net = net, .kinds = CREDENTIAL_BIT(CREDENTIAL_IMPLICIT)}};
    AMI_TRY(load_cfl(out, files->cfl_public, why));
    if (files->roots == NULL && (files->operators != NULL || files->operators_label != NULL))
        return why_set(why, AMI_BAD_ARGUMENT,
                       "authorities that may make operators (--x509-operators), and the highest "
                       "label that they may give, are of no use without X.509 roots");
    if (files->roots == NULL)
        return files->crls == NULL ? AMI_OK
                                   : why_set(why, AMI_BAD_ARGUMENT,
                                             "revocation lists are of no use without X.509 roots");
    if (files->crls == NULL)
        return why_set(why, AMI_BAD_ARGUMENT,
                       "X.509 roots need their authorities' revocation lists (--x509-crls, "
                       "AMI_X509_CRLS); '" TRUST_NO_CRLS "' in their place does without");
    return load_x509(out, files, why);
}

bool trust_changed(struct trust_times *times, const struct trust_files *files)
{
    const bool roots = file_changed(files->roots, &times->roots);
    const bool crls = file_changed(files->crls, &times->crls);
    const bool operators = file_changed(files->operators, &times->operators);
    const bool cfl = file_changed(files->cfl_public, &times->cfl_public);
    return roots || crls || operators || cfl;
}

enum ami_status trust_reload(struct trust *t, const struct network *net,
                             const struct trust_files *files, struct why *why)
{
    struct trust fresh;
    enum ami_status status = trust_load(&fresh, net, files, why);
    if (status != AMI_OK) {
        trust_end(&fresh);
        return status;
    }
    fresh.trust.revoked = t->trust.revoked;
    fresh.trust.revoked_ctx = t->trust.revoked_ctx;
    trust_end(t);
    *t = fresh;
    return AMI_OK;
}

int64_t trust_until_s(const struct trust *t)
{
    return t->x509 == NULL ? INT64_MAX : x509_trust_until_s(t->x509);
}

int64_t trust_left_s(const struct trust *t, int64_t now_s)
{
    const int64_t until_s = trust_until_s(t);
    return until_s == INT64_MAX ? INT64_MAX : until_s - now_s;
}

void trust_end(struct trust *t)
{
    x509_trust_free(t->x509);
    free(t->cfl);
    *t = (struct trust){0};
}

/* --- the program's own ------------------------------------------------------------------------ */

bool trust_own_named(const struct trust_files *files)
{
    return files->key != NULL || files->chain != NULL || files->cfl_certificate != NULL;
}

static enum ami_status check_owner(const struct credential_identity *who,
                                   const struct trust_owner *owner, const char *path,
                                   struct why *why)
{
    if (who->role == owner->role && ami_id_equal(&who->name, &owner->name))
        return AMI_OK;
    return why_set(why, AMI_FOREIGN_KEY, "%.300s is the certificate of %s %s", path,
                   credential_role_name(who->role), who->name.text);
}

static enum ami_status own_x509(struct credential *out, const struct network *net,
                                const struct trust_files *files, const struct trust_owner *owner,
                                struct why *why)
{
    struct pem key, chain;
    sm2_private from_file;
    char reason[300] = "";
    AMI_TRY(pem_read(&key, files->key, why));
    enum ami_status status = AMI_OK;
    if (key.data != NULL && x509_key(&from_file, span_of(key.data, key.size)) != AMI_OK)
        status = why_set(why, AMI_BAD_ENCODING,
                         "%.300s is no SM2 private key in PEM without a passphrase", files->key);
    pem_free(&key);
    AMI_TRY(status);
    status = pem_read(&chain, files->chain, why);
    if (status == AMI_OK) {
        status = x509_credential(out, net, files->key != NULL ? &from_file : owner->key,
                                 span_of(chain.data, chain.size), reason, sizeof reason);
        if (status != AMI_OK)
            why_set(why, status, "%.300s: %s", files->chain, reason);
        else
            status = check_owner(&out->who, owner, files->chain, why);
        pem_free(&chain);
    }
    secret_wipe(&from_file, sizeof from_file);
    return status;
}

static enum ami_status own_cfl(struct credential *out, const struct network *net, const char *path,
                               const struct trust_owner *owner, const struct trust *t,
                               struct why *why)
{
    uint8_t *data = NULL;
    size_t size = 0;
    struct cfl_certificate certificate;
    const struct credential_identity *who = &certificate.who;
    AMI_TRY(file_read(path, CFL_FILE_BYTES_MAX, &data, &size, why));
    enum ami_status status = cfl_file_parse(&certificate, true, span_of(data, size));
    free(data);
    if (status != AMI_OK)
        return why_set(why, status, "%.300s is no CFL certificate: %s", path,
                       ami_status_text(status));
    if (!sm3_equal(&who->network, &net->id))
        return why_set(why, AMI_WRONG_CHAIN, "%.300s: the certificate is for another network",
                       path);
    AMI_TRY(check_owner(who, owner, path, why));
    if (t != NULL && t->cfl != NULL && cfl_certificate_check(&certificate, t->cfl) != FAULT_NONE)
        return why_set(why, AMI_WRONG_CHAIN,
                       "%.300s: the certificate was not issued under the public seed set", path);
    if (who->epoch != owner->epoch || cfl_credential(out, &certificate, owner->key) != AMI_OK)
        return why_set(why, AMI_BAD_CRYPTO,
                       "%.300s: the certificate is over the key of epoch %u, not over the one of "
                       "epoch %u that is in use",
                       path, (unsigned)who->epoch, (unsigned)owner->epoch);
    return AMI_OK;
}

enum ami_status trust_own(struct credential *out, const struct network *net,
                          const struct trust_files *files, const struct trust_owner *owner,
                          const struct trust *t, struct why *why)
{
    struct credential fresh = {0};
    const bool x509 = files->key != NULL || files->chain != NULL;
    const bool needs_key = owner->role != CREDENTIAL_MDMS;
    if (x509 && files->cfl_certificate != NULL)
        return why_set(why, AMI_BAD_ARGUMENT,
                       "an X.509 certificate and a CFL one are two credentials: name one");
    if (x509 && (files->chain == NULL || (needs_key && files->key == NULL)))
        return why_set(why, AMI_BAD_ARGUMENT, "--x509-key and --x509-chain belong together");
    enum ami_status status = x509 ? own_x509(&fresh, net, files, owner, why)
                                  : own_cfl(&fresh, net, files->cfl_certificate, owner, t, why);
    if (status == AMI_OK)
        *out = fresh;
    secret_wipe(&fresh, sizeof fresh);
    return status;
}

/* --- for a program that runs for long --------------------------------------------------------- */

static void warn(struct trust_watch *w, uint64_t mono_us, int64_t wall_ms)
{
    const int64_t now_s = wall_ms / 1000;
    const int64_t own = credential_own_left_s(w->own, now_s),
                  trust = trust_left_s(&w->trust, now_s);
    w->warned_us = mono_us;
    if (own < CREDENTIAL_WARN_S)
        log_say(w->log, ENV_LOG_WARN, "credential_expires", "kind=%s in_days=%lld",
                credential_kind_name(w->own->who.kind), (long long)(own / 86400));
    if (trust < CREDENTIAL_WARN_S)
        log_say(w->log, ENV_LOG_WARN, "trust_expires",
                "a root or a revocation list of X.509 runs out: in_days=%lld",
                (long long)(trust / 86400));
}

static bool own_changed(struct trust_watch *w)
{
    const bool key = file_changed(w->files->key, &w->own_times[0]);
    const bool chain = file_changed(w->files->chain, &w->own_times[1]);
    const bool cfl = file_changed(w->files->cfl_certificate, &w->own_times[2]);
    return key || chain || cfl;
}

static void say_own(const struct trust_watch *w, int64_t wall_ms)
{
    const int64_t left = credential_own_left_s(w->own, wall_ms / 1000);
    if (left == INT64_MAX)
        log_say(w->log, ENV_LOG_INFO, "credential", "kind=%s",
                credential_kind_name(w->own->who.kind));
    else
        log_say(w->log, ENV_LOG_INFO, "credential", "kind=%s in_days=%lld",
                credential_kind_name(w->own->who.kind), (long long)(left / 86400));
}

enum ami_status trust_watch_start(struct trust_watch *w, uint64_t mono_us, int64_t wall_ms,
                                  struct why *why)
{
    (void)trust_changed(&w->times, w->files);
    (void)own_changed(w);
    AMI_TRY(trust_reload(&w->trust, w->net, w->files, why));
    if (w->renew != NULL)
        AMI_TRY(w->renew(w->ctx, why));
    say_own(w, wall_ms);
    warn(w, mono_us, wall_ms);
    w->judged_us = mono_us;
    return AMI_OK;
}

bool trust_watch_look(struct trust_watch *w, uint64_t mono_us, int64_t wall_ms)
{
    struct why why = {""};
    bool judge = mono_us - w->judged_us >= TRUST_JUDGE_US;
    if (trust_changed(&w->times, w->files)) {
        enum ami_status status = trust_reload(&w->trust, w->net, w->files, &why);
        judge |= status == AMI_OK;
        if (status == AMI_OK)
            log_say(w->log, ENV_LOG_INFO, "trust_read", "roots=%s",
                    w->files->roots == NULL ? "-" : w->files->roots);
        else
            log_say(w->log, ENV_LOG_WARN, "trust_not_read", "%s", why.text);
        if (file_is_worth_another_look(status))
            w->times = (struct trust_times){0};
    }
    if (own_changed(w) && w->renew != NULL) {
        enum ami_status status = w->renew(w->ctx, &why);
        if (status == AMI_OK) {
            say_own(w, wall_ms);
            warn(w, mono_us, wall_ms);
        } else {
            if (file_is_worth_another_look(status))
                memset(w->own_times, 0, sizeof w->own_times);
            log_say(w->log, ENV_LOG_WARN, "credential_not_read", "%s", why.text);
        }
    }
    if (mono_us - w->warned_us >= TRUST_WARN_US)
        warn(w, mono_us, wall_ms);
    if (judge)
        w->judged_us = mono_us;
    return judge;
}

void trust_watch_end(struct trust_watch *w)
{
    trust_end(&w->trust);
}
