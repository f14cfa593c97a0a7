#include "net/operator.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "channel/file.h"
#include "crypto/secret.h"
#include "net/file.h"

#define FILE_BYTES_MAX (1u << 16)
#define PEM_BEGIN      "-----BEGIN "

/* A DC of this network, and the one that was meant, where the asker knows its name. */
static enum channel_fault accept_dc(void *ctx, const struct credential_identity *who)
{
    const struct operator_link *o = ctx;
    if (who->role != CREDENTIAL_DC)
        return FAULT_USAGE;
    const bool meant = o->expected.size == 0 || ami_id_equal(&o->expected, &who->name);
    return meant ? FAULT_NONE : FAULT_UNEXPECTED;
}

static const char *given(const char *option, const char *variable)
{
    const char *value = option != NULL ? option : getenv(variable);
    return value == NULL || value[0] == '\0' ? NULL : value;
}

static enum ami_status read_x509(struct operator_link *out, const char *path, struct span pem,
                                 const struct network *net, struct why *why)
{
    sm2_private key;
    char reason[300] = "";
    if (net == NULL)
        return why_set(
            why, AMI_BAD_ARGUMENT,
            "%.300s is an X.509 credential, which does not say how its network's DCs are "
            "known: name that network with --network FILE or AMI_NETWORK (network.json of "
            "the MDMS)",
            path);
    if (x509_key(&key, pem) != AMI_OK)
        return why_set(why, AMI_BAD_ENCODING,
                       "there is no SM2 private key in PEM without a passphrase in %.300s", path);
    out->net = *net;
    enum ami_status status = x509_credential(&out->own, net, &key, pem, reason, sizeof reason);
    secret_wipe(&key, sizeof key);
    if (status != AMI_OK)
        return why_set(why, status, "%.200s: %s", path, reason);
    if (out->own.who.role != CREDENTIAL_OPERATOR)
        return why_set(why, AMI_FOREIGN_KEY, "%.300s is the certificate of %s %s, of no operator",
                       path, credential_role_name(out->own.who.role), out->own.who.name.text);
    return AMI_OK;
}

static enum ami_status read_credential(struct operator_link *out, const char *path,
                                       const struct network *net, struct why *why)
{
    uint8_t *data = NULL;
    size_t size;
    AMI_TRY(file_read(path, FILE_BYTES_MAX, &data, &size, why));
    enum ami_status status;
    if (strstr((const char *)data, PEM_BEGIN) != NULL) { /* a zero byte stands behind the text */
        status = read_x509(out, path, span_of(data, size), net, why);
    } else {
        status = credential_file_parse(&out->own, &out->net, span_of(data, size));
        if (status != AMI_OK)
            why_set(why, status, "%.300s is no credential: %s", path, ami_status_text(status));
    }
    secret_wipe(data, size);
    free(data);
    return status;
}

enum ami_status operator_begin_link(struct operator_link *out, const struct operator_files *files,
                                    const struct network *net, struct why *why)
{
    memset(out, 0, sizeof *out);
    const char *path = given(files->credential, "AMI_CREDENTIAL");
    if (path == NULL)
        return why_set(
            why, AMI_BAD_ARGUMENT,
            "a DC answers operators only: name your credential with --credential FILE or "
            "AMI_CREDENTIAL (ami-mdms operator add makes it)");
    const struct trust_files trusted = {
        .roots = given(files->roots, "AMI_X509_ROOTS"),
        .crls = given(NULL, "AMI_X509_CRLS"),
        .cfl_public = given(files->cfl_public, "AMI_CFL_PUBLIC"),
    };
    enum ami_status status = read_credential(out, path, net, why);
    if (status == AMI_OK)
        status = trust_load(&out->trust, &out->net, &trusted, why);
    if (status != AMI_OK) {
        operator_end_link(out);
        return status;
    }
    out->config = (struct channel_config){.own = &out->own,
                                          .trust = &out->trust.trust,
                                          .suites = CHANNEL_SUITES_ALL,
                                          .accept = accept_dc,
                                          .accept_ctx = out};
    return AMI_OK;
}

bool operator_expires(const struct operator_link *o, int64_t now_s, struct why *out)
{
    const int64_t left = credential_own_left_s(&o->own, now_s);
    if (left >= CREDENTIAL_WARN_S)
        return false;
    snprintf(out->text, sizeof out->text, "your credential %s %lld days",
             left < 0 ? "has expired for" : "expires in",
             (long long)((left < 0 ? -left : left) / 86400));
    return true;
}

void operator_end_link(struct operator_link *o)
{
    trust_end(&o->trust);
    secret_wipe(o, sizeof *o);
}
