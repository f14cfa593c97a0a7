#include "base/status.h"

const char *ami_status_name(enum ami_status status)
{
    static const char *const names[] = {
#define X(name, sentence) #name,
        AMI_STATUS_TABLE(X)
#undef X
    };
    if ((unsigned)status >= AMI_STATUS_COUNT)
        return "UNKNOWN_STATUS";
    return names[status];
}

const char *ami_status_text(enum ami_status status)
{
    static const char *const sentences[] = {
#define X(name, sentence) sentence,
        AMI_STATUS_TABLE(X)
#undef X
    };
    if ((unsigned)status >= AMI_STATUS_COUNT)
        return "a status that this program does not know";
    return sentences[status];
}
