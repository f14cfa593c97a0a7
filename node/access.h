/* node/access.h - which request of an operator needs which label (channel/label.h).
 *
 * One row per question of dc-cli: what it is about has a label, and the operator's label, which its
 * credential carries, must dominate it to read, be dominated by it to write, and be the same to
 * change what one sees. docs/security.md
 * has the same table for people; a test compares the two and tries every label on every row.
 */
#ifndef AMI_NODE_ACCESS_H
#define AMI_NODE_ACCESS_H

#include "channel/label.h"

/* Of the model's modes: to observe, to alter without observing, and both. */
enum access_mode { ACCESS_READ, ACCESS_WRITE, ACCESS_CHANGE };

struct access_rule {
    const char *ask; /* as in a question's "ask" */
    enum access_mode mode;
    struct label object;
    const char *about; /* what it shows or changes: for docs/security.md and in a refusal */
};

/* The rows in order; NULL at the end. */
const struct access_rule *access_rule_at(size_t index);
/* NULL: there is no such question. */
const struct access_rule *access_rule_of(const char *ask);

/* What an event of the node's log is about: most of them the node's operation, some name meters.
 * Who may read `events` is shown those that the label covers. */
struct label access_event_label(const char *event);

const char *access_mode_name(enum access_mode mode); /* "read"; never NULL */

bool access_allowed(const struct access_rule *rule, struct label subject);

#endif
