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
                 : revoked_list_parse(list, a->watch.net, span_of(a->operators, a->operators_size));
    free(list);
    return status == AMI_OK
               ? AMI_OK
               : why_set(
                     why, status,
                     "%.300s is no list of revoked operators to go by (%s): move it away, and "
                     "the MDMS or the first DC that is reached sends the newest one; until then "
                     "operators who are revoked are let in",
                     kept, ami_status_text(status));
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
        log_say(a->watch.log, ENV_LOG_ERROR, "operators_not_kept", "%s", why.text);
    return status;
}

/* --- their life ------------------------------------------------------------------------------- */

enum ami_status anchors_start(struct anchors *a, uint64_t mono_us, int64_t wall_ms, struct why *why)
{
    AMI_TRY(trust_watch_start(&a->watch, mono_us, wall_ms, why));
    return read_kept(a, why);
}

bool anchors_look(struct anchors *a, uint64_t mono_us, int64_t wall_ms)
{
    return trust_watch_look(&a->watch, mono_us, wall_ms);
}

void anchors_end(struct anchors *a)
{
    free(a->operators);
    trust_watch_end(&a->watch);
    a->operators = NULL;
}

void anchors_state(void *ctx, struct node_anchors *out)
{
    const struct anchors *a = ctx;
    *out = (struct node_anchors){.own = a->watch.own, .until_s = trust_until_s(&a->watch.trust)};
}
