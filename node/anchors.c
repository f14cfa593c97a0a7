#include "node/anchors.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "net/file.h"

static bool is_revoked(void *ctx, const struct credential_identity *who)
{
    const struct anchors *a = ctx;
    return who->role == CREDENTIAL_OPERATOR && a->revoked != NULL &&
           revoked_list_has(a->revoked, &who->fingerprint);
}

/* --- operators -------------------------------------------------------------------------------- */

static enum ami_status read_list(struct revoked_list **out, uint8_t **data, size_t *size,
                                 const struct network *net, const char *path, struct why *why)
{
    AMI_TRY(file_read(path, REVOKED_BYTES_MAX, data, size, why));
    *out = calloc(1, sizeof **out);
    enum ami_status status =
        *out == NULL ? AMI_NO_MEMORY : revoked_list_parse(*out, net, span_of(*data, *size));
    if (status == AMI_OK)
        return AMI_OK;
    free(*out);
    free(*data);
    *out = NULL;
    *data = NULL;
    return why_set(why, status, "%.300s is no list of revoked operators to go by: %s", path,
                   ami_status_text(status));
}

/* A newer one is kept before it counts: it must not be forgotten once somebody was refused. */
static enum ami_status read_revoked(struct anchors *a, struct why *why)
{
    char kept[PATH_MAX];
    uint8_t *data = NULL;
    size_t size = 0;
    struct revoked_list *fresh = NULL;
    AMI_TRY(path_join(kept, sizeof kept, a->dir, ANCHORS_KEPT, why));
    AMI_TRY(read_list(&fresh, &data, &size, a->watch.net, a->revoked_path, why));
    enum ami_status status = AMI_OK;
    if (a->revoked != NULL && fresh->number < a->revoked->number)
        status = why_set(why, AMI_EXISTS,
                         "%.300s is no list of revoked operators to go by: it has number %llu, and "
                         "%llu is known",
                         a->revoked_path, (unsigned long long)fresh->number,
                         (unsigned long long)a->revoked->number);
    else if (a->revoked == NULL || fresh->number > a->revoked->number)
        status = file_write(kept, span_of(data, size), FILE_MODE_PUBLIC, why);
    free(data);
    /* On a disk that takes nothing it counts all the same, until the end. */
    if (status == AMI_EXISTS) {
        free(fresh);
        return status;
    }
    free(a->revoked);
    a->revoked = fresh;
    log_say(a->watch.log, ENV_LOG_INFO, "revoked_operators", "number=%llu count=%u",
            (unsigned long long)fresh->number, fresh->count);
    return status;
}

static enum ami_status read_kept(struct anchors *a, struct why *why)
{
    char kept[PATH_MAX];
    uint8_t *data = NULL;
    size_t size = 0;
    AMI_TRY(path_join(kept, sizeof kept, a->dir, ANCHORS_KEPT, why));
    enum ami_status status = read_list(&a->revoked, &data, &size, a->watch.net, kept, why);
    free(data);
    return status == AMI_NOT_FOUND ? AMI_OK : status;
}

static void warn(struct anchors *a, uint64_t mono_us)
{
    a->warned_us = mono_us;
    if (a->revoked == NULL)
        log_say(a->watch.log, ENV_LOG_WARN, "operators_unchecked",
                "there is no list of revoked operators (--revoked): each is let in until its "
                "credential expires");
}

/* --- their life ------------------------------------------------------------------------------- */

enum ami_status anchors_start(struct anchors *a, uint64_t mono_us, int64_t wall_ms, struct why *why)
{
    struct why old = {""};
    a->watch.trust.trust.revoked = is_revoked;
    a->watch.trust.trust.revoked_ctx = a;
    AMI_TRY(trust_watch_start(&a->watch, mono_us, wall_ms, why));
    AMI_TRY(read_kept(a, why));
    if (a->revoked_path != NULL) {
        (void)file_changed(a->revoked_path, &a->revoked_mtime);
        enum ami_status status = read_revoked(a, &old);
        if (status == AMI_EXISTS)
            log_say(a->watch.log, ENV_LOG_WARN, "revoked_operators", "%s", old.text);
        else if (status != AMI_OK)
            return why_set(why, status, "%s", old.text);
    }
    warn(a, mono_us);
    return AMI_OK;
}

void anchors_look(struct anchors *a, uint64_t mono_us, int64_t wall_ms)
{
    struct why why = {""};
    trust_watch_look(&a->watch, mono_us, wall_ms);
    if (file_changed(a->revoked_path, &a->revoked_mtime) && read_revoked(a, &why) != AMI_OK)
        log_say(a->watch.log, ENV_LOG_WARN, "revoked_operators", "%s", why.text);
    if (mono_us - a->warned_us >= TRUST_WARN_US)
        warn(a, mono_us);
}

void anchors_end(struct anchors *a)
{
    free(a->revoked);
    trust_watch_end(&a->watch);
    a->revoked = NULL;
}

void anchors_state(void *ctx, struct node_anchors *out)
{
    const struct anchors *a = ctx;
    *out = (struct node_anchors){.own = a->watch.own, .until_s = trust_until_s(&a->watch.trust)};
    if (a->revoked != NULL) {
        out->revoked_known = true;
        out->revoked_number = a->revoked->number;
        out->revoked_count = a->revoked->count;
    }
}
