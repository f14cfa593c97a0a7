#include "client/genesis.h"

#include "net/file.h"

#include <stdlib.h>

#define GENESIS_FILE_BYTES_MAX (1u << 20)

enum ami_status genesis_read(struct genesis *out, const char *path, bool allow_single,
                             struct why *why)
{
    uint8_t *data = NULL;
    size_t size = 0;
    char reason[WHY_BYTES_MAX] = "";
    AMI_TRY(file_read(path, GENESIS_FILE_BYTES_MAX, &data, &size, why));
    enum ami_status status =
        genesis_parse(out, span_of(data, size), allow_single, reason, sizeof reason);
    free(data);
    if (status == AMI_OK)
        return AMI_OK;
    if (status == AMI_BAD_ARGUMENT)
        status = AMI_BAD_ENCODING; /* the file's mistake, not the caller's */
    return why_set(why, status, "%s: %s", path,
                   reason[0] != '\0' ? reason : ami_status_text(status));
}
