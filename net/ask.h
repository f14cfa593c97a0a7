/* net/ask.h - one question to a DC's admin port, and its answer.
 *
 * For programs without a loop: dc-cli, and whoever fetches a proof. docs/wire-format.md lists the
 * questions.
 */
#ifndef AMI_NET_ASK_H
#define AMI_NET_ASK_H

#include <jansson.h>
#include <stdint.h>

#include "channel/channel.h"
#include "net/why.h"

/* Connects, asks, waits for the answer, all within timeout_ms. A new reference, to be given back
 * with json_decref; in its texts stands no control character but the line feed. NULL with *status
 * and a sentence in `why`: AMI_UNREACHABLE, AMI_TIMEOUT, AMI_CLOSED; AMI_BAD_ENCODING when what
 * answers is no DC; AMI_TOO_LARGE for a question that is; or the status and the sentence that the
 * DC answered. */
json_t *admin_ask(const char *address, const struct channel_config *security,
                  const json_t *question, uint32_t timeout_ms, enum ami_status *status,
                  struct why *why);

#endif
