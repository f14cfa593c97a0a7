#include "client/proof.h"

#include "ledger/proof.h"
#include "net/ask.h"
#include "net/operator.h"

#include <stdlib.h>
#include <string.h>

/* Adds the opening to what the DC gave and checks all of it. */
static enum ami_status complete(char **text, const char *given, const struct proof_wanted *w,
                                const struct genesis *g, const char *address, struct why *why)
{
    char reason[WHY_BYTES_MAX / 2];
    if (given == NULL)
        return why_set(why, AMI_BAD_ENCODING, "%s gave no proof", address);
    enum ami_status status = proof_complete(text, span_of(given, strlen(given)), g, w->salt, w->m,
                                            reason, sizeof reason);
    if (status != AMI_OK)
        return why_set(why, status, "%s gave a proof that is none: %s", address, reason);
    status = proof_is_of(*text, &w->meter, w->epoch, w->sequence, reason, sizeof reason);
    if (status == AMI_OK)
        return AMI_OK;
    free(*text);
    *text = NULL;
    return why_set(why, status, "%s gave a true proof, but not the one asked for: %s", address,
                   reason);
}

static enum ami_status fetch_from(char **text, const struct proof_wanted *w,
                                  const struct genesis *g, const struct channel_config *security,
                                  const char *address, uint32_t timeout_ms, struct why *why)
{
    enum ami_status status;
    json_t *question =
        json_pack("{s:s, s:s, s:I, s:I}", "ask", "proof", "meter", w->meter.text, "epoch",
                  (json_int_t)w->epoch, "sequence", (json_int_t)w->sequence);
    json_t *answer = admin_ask(address, security, question, timeout_ms, &status, why);
    json_decref(question);
    if (answer == NULL)
        return status;
    status =
        complete(text, json_string_value(json_object_get(answer, "proof")), w, g, address, why);
    json_decref(answer);
    return status;
}

enum ami_status proof_fetch(char **text, const struct proof_wanted *w, const struct genesis *g,
                            const struct proof_source *from, struct why *why)
{
    struct operator_link asker;
    const struct committee *c = from->members;
    *text = NULL;
    AMI_TRY(operator_begin_link(&asker, from->credential, NULL, why));
    enum ami_status status = AMI_UNREACHABLE;
    if (from->node != NULL)
        status = fetch_from(text, w, g, &asker.config, from->node, from->timeout_ms, why);
    for (unsigned i = 0; from->node == NULL && i < c->members.count && status != AMI_OK; i++)
        status = fetch_from(text, w, g, &asker.config, c->address[i].admin, from->timeout_ms, why);
    operator_end_link(&asker);
    return status;
}
