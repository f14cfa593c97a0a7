#include "channel/fault.h"

const char *channel_fault_name(enum channel_fault fault)
{
    static const char *const names[] = {
#define X(name, text, sentence) text,
        CHANNEL_FAULT_TABLE(X)
#undef X
    };
    return (unsigned)fault < CHANNEL_FAULTS ? names[fault] : "unknown";
}

const char *channel_fault_text(enum channel_fault fault)
{
    static const char *const sentences[] = {
#define X(name, text, sentence) sentence,
        CHANNEL_FAULT_TABLE(X)
#undef X
    };
    return (unsigned)fault < CHANNEL_FAULTS ? sentences[fault] : "an unknown fault";
}
