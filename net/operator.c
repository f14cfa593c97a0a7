#include "net/operator.h"

#include <stdlib.h>
#include <string.h>

#include "channel/file.h"
#include "crypto/secret.h"
#include "net/file.h"

/* A DC of this network, and the one that was meant, where the asker knows its name. */
static enum channel_fault accept_dc(void *ctx, const struct credential_identity *who)
{
    const struct operator_link *o = ctx;
    const bool meant = o->expected.size == 0 || ami_id_equal(&o->expected, &who->name);
    return who->role == CREDENTIAL_DC && meant ? FAULT_NONE : FAULT_UNEXPECTED;
}

enum ami_status operator_begin_link(struct operator_link *out, const char *path, const char *roots,
                                    struct why *why)
{
    uint8_t *data = NULL;
    size_t size;
    memset(out, 0, sizeof *out);
    if (path == NULL)
        path = getenv("AMI_CREDENTIAL");
    if (path == NULL || path[0] == '\0')
        return why_set(
            why, AMI_BAD_ARGUMENT,
            "a DC answers operators only: name your credential with --credential FILE or "
            "AMI_CREDENTIAL (ami-mdms operator add makes it)");
    AMI_TRY(file_read(path, CREDENTIAL_FILE_BYTES_MAX, &data, &size, why));
    enum ami_status status = credential_file_parse(&out->own, &out->net, span_of(data, size));
    secret_wipe(data, size);
    free(data);
    if (status != AMI_OK)
        return why_set(why, status, "%.300s is no credential: %s", path, ami_status_text(status));
    if (roots == NULL)
        roots = getenv("AMI_X509_ROOTS");
    const char *crls = getenv("AMI_X509_CRLS");
    const struct trust_files files = {
        .roots = roots == NULL || roots[0] == '\0' ? NULL : roots,
        .crls = crls == NULL || crls[0] == '\0' ? NULL : crls,
    };
    AMI_TRY(trust_load(&out->trust, &out->net, &files, why));
    out->config = (struct channel_config){.own = &out->own,
                                          .trust = &out->trust.trust,
                                          .suites = CHANNEL_SUITES_ALL,
                                          .accept = accept_dc,
                                          .accept_ctx = out};
    return AMI_OK;
}

void operator_end_link(struct operator_link *o)
{
    trust_end(&o->trust);
    secret_wipe(o, sizeof *o);
}
