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

enum ami_status trust_load(struct trust *out, const struct network *net,
                           const struct trust_files *files, struct why *why)
{
    struct pem roots, crls = {0};
    char reason[200] = "";
    *out = (struct trust){.trust = {.net = net, .kinds = CREDENTIAL_BIT(CREDENTIAL_IMPLICIT)}};
    AMI_TRY(load_cfl(out, files->cfl_public, why));
    if (files->roots == NULL)
        return files->crls == NULL ? AMI_OK
                                   : why_set(why, AMI_BAD_ARGUMENT,
                                             "revocation lists are of no use without X.509 roots");
    if (files->crls == NULL)
        return why_set(why, AMI_BAD_ARGUMENT,
                       "X.509 roots need their authorities' revocation lists (--x509-crls, "
                       "AMI_X509_CRLS); '" TRUST_NO_CRLS "' in their place does without");
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
    out->trust.x509 = out->x509;
    out->trust.kinds |= CREDENTIAL_BIT(CREDENTIAL_X509);
    return AMI_OK;
}

bool trust_changed(struct trust_times *times, const struct trust_files *files)
{
    const bool roots = file_changed(files->roots, &times->roots);
    const bool crls = file_changed(files->crls, &times->crls);
    const bool cfl = file_changed(files->cfl_public, &times->cfl_public);
    return roots || crls || cfl;
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

enum ami_status trust_own(struct credential *out, const struct network *net,
                          const struct trust_files *files, enum credential_role role,
                          const struct ami_id *name, struct why *why)
{
    struct pem key, chain = {0};
    struct credential fresh = {0};
    char reason[300] = "";
    if (files->key == NULL && files->chain == NULL)
        return AMI_OK;
    if (files->key == NULL || files->chain == NULL)
        return why_set(why, AMI_BAD_ARGUMENT, "--x509-key and --x509-chain belong together");
    AMI_TRY(pem_read(&key, files->key, why));
    enum ami_status status = pem_read(&chain, files->chain, why);
    if (status == AMI_OK) {
        status = x509_credential(&fresh, net, span_of(key.data, key.size),
                                 span_of(chain.data, chain.size), reason, sizeof reason);
        if (status != AMI_OK)
            why_set(why, status, "%.200s, %.200s: %s", files->key, files->chain, reason);
        else if (fresh.who.role != role || !ami_id_equal(&fresh.who.name, name))
            status =
                why_set(why, AMI_FOREIGN_KEY, "%.300s is the certificate of %s %s", files->chain,
                        credential_role_name(fresh.who.role), fresh.who.name.text);
        else
            *out = fresh;
    }
    secret_wipe(&fresh, sizeof fresh);
    pem_free(&key);
    pem_free(&chain);
    return status;
}
