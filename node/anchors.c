#include "node/anchors.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "net/file.h"

/* --- operators -------------------------------------------------------------------------------- */

static enum ami_status read_kept(struct anchors *a, struct why *why)
{
    char kept[PATH_MAX];
    AMI_TRY(path_join(kept, sizeof kept, a->dir, ANCHORS_KEPT, why));
    enum ami_status status =
        file_read(kept, AMI_REVOKED_BYTES_MAX, &a->operators, &a->operators_size, why);
    if (status == AMI_NOT_FOUND)
        return AMI_OK;
    AMI_TRY(status);
    struct revoked_list *list = calloc(1, sizeof *list);
    status = list == NULL
                 ? AMI_NO_MEMORY
                 : revoked_list_parse(list, a->net, span_of(a->operators, a->operators_size));
    free(list);
    return status == AMI_OK
               ? AMI_OK
               : why_set(why, status, "%.300s is no list of revoked operators to go by: %s", kept,
                         ami_status_text(status));
}

enum ami_status anchors_keep_operators(void *ctx, struct span list)
{
    struct anchors *a = ctx;
    char kept[PATH_MAX];
    struct why why = {""};
    enum ami_status status = path_join(kept, sizeof kept, a->dir, ANCHORS_KEPT, &why);
    if (status == AMI_OK)
        status = file_write(kept, list, FILE_MODE_PUBLIC, &why);
    if (status != AMI_OK)
        log_say(a->log, ENV_LOG_ERROR, "operators_not_kept", "%s", why.text);
    return status;
}

/* --- for how long ----------------------------------------------------------------------------- */

static void warn(struct anchors *a, uint64_t mono_us, int64_t wall_ms)
{
    const int64_t now_s = wall_ms / 1000;
    const int64_t own = credential_own_left_s(a->own, now_s),
                  trust = trust_left_s(&a->trust, now_s);
    a->warned_us = mono_us;
    if (own < CREDENTIAL_WARN_S)
        log_say(a->log, ENV_LOG_WARN, "credential_expires", "kind=%s in_days=%lld",
                credential_kind_name(a->own->who.kind), (long long)(own / 86400));
    if (trust < CREDENTIAL_WARN_S)
        log_say(a->log, ENV_LOG_WARN, "trust_expires",
                "a root or a revocation list of X.509 runs out: in_days=%lld",
                (long long)(trust / 86400));
}

/* --- their life ------------------------------------------------------------------------------- */

enum ami_status anchors_start(struct anchors *a, uint64_t mono_us, int64_t wall_ms, struct why *why)
{
    (void)trust_changed(&a->times, a->files);
    AMI_TRY(trust_reload(&a->trust, a->net, a->files, why));
    AMI_TRY(read_kept(a, why));
    warn(a, mono_us, wall_ms);
    return AMI_OK;
}

void anchors_look(struct anchors *a, uint64_t mono_us, int64_t wall_ms)
{
    struct why why = {""};
    if (trust_changed(&a->times, a->files)) {
        if (trust_reload(&a->trust, a->net, a->files, &why) == AMI_OK)
            log_say(a->log, ENV_LOG_INFO, "trust_read", "roots=%s",
                    a->files->roots == NULL ? "-" : a->files->roots);
        else
            log_say(a->log, ENV_LOG_WARN, "trust_not_read", "%s", why.text);
    }
    if (mono_us - a->warned_us >= ANCHORS_WARN_US)
        warn(a, mono_us, wall_ms);
}

void anchors_end(struct anchors *a)
{
    free(a->operators);
    trust_end(&a->trust);
    a->operators = NULL;
}

void anchors_state(void *ctx, struct node_anchors *out)
{
    const struct anchors *a = ctx;
    *out = (struct node_anchors){.own = a->own, .until_s = trust_until_s(&a->trust)};
}
