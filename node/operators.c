/* node/operators.c - which operators are let in no more: the MDMS's newest signed list.
 *
 *   MDMS -> DC  OPERATORS        when its list changes, and when the link comes up
 *   DC -> MDMS  OPERATORS_TAKEN  the number that this DC goes by now, and why not by that one
 *   DC -> DC    OPERATORS        what is new here, and what there is when a link comes up
 *   DC -> MDMS  OPERATORS        what there is when its link comes up, or instead of what it sent
 *
 * A list proves itself, so it does not matter who brings it: a DC that the MDMS does not reach has
 * it from the others, and an MDMS whose folder was put back from before has it back from the DCs.
 * Only a newer one takes the place of the list that counts, and only when it has every entry of
 * that one which has not ended by the clock here (channel/file.h): no restored folder and no wrong
 * clock of the MDMS's takes anybody back. What is not taken costs nobody a verification; the MDMS
 * is shown the list that counts instead, and makes one of both. What is taken is kept by the shell
 * before it is acknowledged, and counts at once: for newcomers (node_operator_revoked) and for
 * questions on connections that are open (admin.c).
 */
#include "node/internal.h"

#include <stdlib.h>
#include <string.h>

#define UNCHECKED_FIRST_US (60u * 1000000u) /* an MDMS and the others have sent it by then */
#define UNCHECKED_AGAIN_US (24ull * 3600u * 1000000u)

struct operators {
    struct revoked_list *list,
        *scratch; /* the one that counts, number 0: none; room for a new one */
    uint8_t bytes[AMI_REVOKED_BYTES_MAX];
    size_t size;
    bool kept;           /* the shell has it durably */
    uint64_t warn_at_us; /* of having none */
};

enum ami_status operators_init(struct node *n)
{
    struct operators *o = n->operators = calloc(1, sizeof *o);
    if (o == NULL)
        return AMI_NO_MEMORY;
    o->list = calloc(1, sizeof *o->list);
    o->scratch = calloc(1, sizeof *o->scratch);
    if (o->list == NULL || o->scratch == NULL)
        return AMI_NO_MEMORY;
    o->warn_at_us = n->c.keep_operators == NULL ? UINT64_MAX : node_now_us(n) + UNCHECKED_FIRST_US;
    if (n->c.operators.size == 0)
        return AMI_OK;
    AMI_TRY(revoked_list_parse(o->list, &n->c.genesis->network, n->c.operators));
    memcpy(o->bytes, n->c.operators.data, n->c.operators.size);
    o->size = n->c.operators.size;
    o->kept = true;
    return AMI_OK;
}

void operators_free(struct node *n)
{
    if (n->operators == NULL)
        return;
    free(n->operators->list);
    free(n->operators->scratch);
    free(n->operators);
}

bool node_operator_revoked(const struct node *n, const struct credential_identity *who)
{
    return who->role == CREDENTIAL_OPERATOR && n->operators->size != 0 &&
           revoked_list_find(n->operators->list, &who->fingerprint) != NULL;
}

bool operators_known(const struct node *n, uint64_t *number, unsigned *count)
{
    *number = n->operators->size == 0 ? 0 : n->operators->list->number;
    *count = n->operators->size == 0 ? 0 : n->operators->list->count;
    return n->operators->size != 0;
}

/* --- handing on ------------------------------------------------------------------------------- */

static void send_list(struct node *n, const struct node_link *l)
{
    const struct operators *o = n->operators;
    const struct operators_list message = {span_of(o->bytes, o->size)};
    struct writer w = node_frame(n, MSG_OPERATORS);
    operators_list_encode(&w, &message);
    AMI_CHECK(writer_ok(&w));
    (void)node_send(n, l->id, writer_span(&w)); /* lost: the next link that comes up brings it */
}

/* A DC that has proven its key, on one link only: the one that we dialled, or, where we dial
 * nobody because it is no member, its own. */
static bool goes_to(const struct node_link *l)
{
    const bool own = l->port == NODE_PORT_DIALLED;
    return l->state == LINK_READY && !l->closing && l->role == LINK_ROLE_DC && !l->unproven &&
           own == (l->member != AMI_MEMBERS_MAX);
}

void operators_on_peer(struct node *n, const struct node_link *l)
{
    if (n->operators->size != 0 && (goes_to(l) || l->role == LINK_ROLE_MDMS))
        send_list(n, l);
}

static void hand_on(struct node *n, const struct node_link *from)
{
    struct node_link *l, *tmp;
    HASH_ITER(hh, n->links, l, tmp)
    {
        const bool brought_it =
            from->role == LINK_ROLE_DC && ami_id_equal(&l->peer_name, &from->peer_name);
        if (goes_to(l) && !brought_it)
            send_list(n, l);
    }
}

/* --- coming in -------------------------------------------------------------------------------- */

static enum ami_status keep(struct node *n)
{
    struct operators *o = n->operators;
    enum ami_status status =
        n->c.keep_operators == NULL
            ? AMI_OK
            : n->c.keep_operators(n->c.operators_ctx, span_of(o->bytes, o->size));
    o->kept = status == AMI_OK;
    if (!o->kept)
        node_event(n, ENV_LOG_ERROR, "operators_not_kept", "number=%llu status=%s",
                   (unsigned long long)o->list->number, ami_status_name(status));
    return status;
}

/* Is it the known one, byte for byte? Of its number alone there may be others. */
static bool is_known(const struct operators *o, struct span list)
{
    return o->size != 0 && list.size == o->size && memcmp(list.data, o->bytes, o->size) == 0;
}

/* AMI_EXISTS: it is no newer than the known one, or lacks an entry of that; AMI_OK also for the
 * known one. */
static enum ami_status take(struct node *n, const struct node_link *l, struct span list)
{
    struct operators *o = n->operators;
    const uint64_t known = o->size == 0 ? 0 : o->list->number;
    if (is_known(o, list))
        return AMI_OK;
    AMI_TRY(revoked_list_read(o->scratch, list));
    if (o->size != 0 && (o->scratch->number <= known ||
                         !revoked_list_covers(o->scratch, o->list, node_wall_ms(n) / 1000)))
        return AMI_EXISTS;
    AMI_TRY(revoked_list_verify(&n->c.genesis->network, list));
    struct revoked_list *old = o->list;
    o->list = o->scratch;
    o->scratch = old;
    memcpy(o->bytes, list.data, list.size);
    o->size = list.size;
    o->kept = false;
    node_event(n, ENV_LOG_INFO, "operators_list", "number=%llu before=%llu revoked=%u from=%s",
               (unsigned long long)o->list->number, (unsigned long long)known,
               (unsigned)o->list->count, l->role == LINK_ROLE_MDMS ? "mdms" : l->peer_name.text);
    hand_on(n, l);
    return AMI_OK;
}

static void acknowledge(struct node *n, const struct node_link *l, enum ami_status status)
{
    struct operators_taken answer = {.status = (uint16_t)status};
    unsigned count;
    (void)operators_known(n, &answer.number, &count);
    struct writer w = node_frame(n, MSG_OPERATORS_TAKEN);
    operators_taken_encode(&w, &answer);
    AMI_CHECK(writer_ok(&w));
    (void)node_send(n, l->id, writer_span(&w)); /* lost: it sends its list again */
}

bool operators_on_list(struct node *n, const struct node_link *l, struct span body)
{
    struct operators_list message;
    const bool mdms = l->role == LINK_ROLE_MDMS;
    enum ami_status status = operators_list_parse(&message, body);
    if (status == AMI_OK)
        status = take(n, l, message.list);
    /* Of another version is who runs another program, which is no reason to part with a DC. */
    const bool foreign = status == AMI_BAD_VERSION;
    const bool lied = status != AMI_OK && status != AMI_EXISTS && !foreign;
    /* What the disk does not take counts all the same, until this process ends. */
    if (status == AMI_OK && !n->operators->kept)
        status = keep(n);
    /* Of another DC it is no news that it is behind: it gets ours when its link comes up, and what
     * the MDMS makes of both when that has heard of it. */
    if (lied || foreign || (mdms && status == AMI_EXISTS))
        node_event_often(n, ENV_LOG_WARN, "operators_refused", "from=%s status=%s known=%llu%s",
                         mdms ? "mdms" : l->peer_name.text, ami_status_name(status),
                         (unsigned long long)n->operators->list->number,
                         foreign ? " why=\"it runs another version of this program\"" : "");
    if (mdms)
        acknowledge(n, l, status);
    if (mdms && status == AMI_EXISTS)
        send_list(n, l);
    return mdms || !lied;
}

uint64_t operators_on_time(struct node *n)
{
    struct operators *o = n->operators;
    const uint64_t now = node_now_us(n);
    if (o->size != 0)
        return UINT64_MAX;
    if (now >= o->warn_at_us) {
        o->warn_at_us = now + UNCHECKED_AGAIN_US;
        node_event(n, ENV_LOG_WARN, "operators_unchecked",
                   "the MDMS has sent no list of revoked operators: each is let in until its "
                   "credential expires");
    }
    return o->warn_at_us;
}
