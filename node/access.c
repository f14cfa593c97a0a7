#include "node/access.h"

#include <string.h>

/* What meters did at which hour tells about the people behind them, so everything that names meters
 * stands above what keeps the nodes running. */
static const struct access_rule rules[] = {
    {"status", ACCESS_READ, {0, 0}, "role, term, height and connections of a DC"},
    {"blocks", ACCESS_READ, {1, LABEL_LEDGER}, "headers of blocks"},
    {"events", ACCESS_READ, {1, LABEL_OPERATION}, "the node's log"},
    {"why_stuck", ACCESS_READ, {1, LABEL_OPERATION}, "what commits wait for"},
    {"note", ACCESS_WRITE, {1, LABEL_OPERATION}, "a remark in the node's log"},
    {"step_down", ACCESS_CHANGE, {2, LABEL_OPERATION}, "that another DC leads than this one"},
    {"block", ACCESS_READ, {2, LABEL_LEDGER | LABEL_METERING}, "a block with its transactions"},
    {"tx", ACCESS_READ, {2, LABEL_LEDGER | LABEL_METERING}, "one transaction"},
    {"proof", ACCESS_READ, {2, LABEL_LEDGER | LABEL_METERING}, "a proof that a report is there"},
    {"meter", ACCESS_READ, {2, LABEL_METERING}, "a meter's enrolment and session"},
    {"readings", ACCESS_READ, {2, LABEL_METERING}, "a meter's sealed reports"},
};

const struct access_rule *access_rule_at(size_t index)
{
    return index < sizeof rules / sizeof rules[0] ? &rules[index] : NULL;
}

const struct access_rule *access_rule_of(const char *ask)
{
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
        if (strcmp(rules[i].ask, ask) == 0)
            return &rules[i];
    return NULL;
}

struct label access_event_label(const char *event)
{
    static const char *const of_meters[] = {"meter_enrolled", "key_revoked", "report_refused"};
    for (size_t i = 0; i < sizeof of_meters / sizeof of_meters[0]; i++)
        if (strcmp(of_meters[i], event) == 0)
            return (struct label){2, LABEL_OPERATION | LABEL_METERING};
    return (struct label){1, LABEL_OPERATION};
}

const char *access_mode_name(enum access_mode mode)
{
    return mode == ACCESS_READ ? "read" : mode == ACCESS_WRITE ? "write" : "change";
}

bool access_allowed(const struct access_rule *rule, struct label subject)
{
    const bool reads = label_may_read(subject, rule->object),
               writes = label_may_write(subject, rule->object);
    switch (rule->mode) {
    case ACCESS_READ:
        return reads;
    case ACCESS_WRITE:
        return writes;
    case ACCESS_CHANGE:
        return reads && writes;
    }
    return false;
}
