/* node/relay.c - enrolment frames between devices and the MDMS.
 *
 * A device that reaches a DC but not the MDMS sends its ENROL_REQUEST here; the DC passes it on
 * over a link that the MDMS dialled, and the answer back. The content is encrypted to the MDMS; the
 * DC sees a name and bytes. Bounded in number and time; what is lost the device asks for again.
 */
#include "node/internal.h"

#include <stdlib.h>

struct relay_entry {
    uint64_t token;
    env_link device;
    uint64_t at_us;
    UT_hash_handle hh;
};

static void forget(struct node *n, struct relay_entry *e)
{
    HASH_DELETE(hh, n->relays, e);
    free(e);
}

static void refuse(struct node *n, const struct node_link *l, const struct enrol_request *q,
                   enum ami_status status)
{
    struct enrol_reply reply = {.device = q->device, .epoch = q->epoch, .status = (uint16_t)status};
    struct writer w = node_frame(n, MSG_ENROL_REPLY);
    enrol_reply_encode(&w, &reply);
    (void)node_send(n, l->id, writer_span(&w)); /* the device asks again */
}

void relay_on_request(struct node *n, struct node_link *l, struct span body)
{
    struct enrol_request q;
    if (enrol_request_parse(&q, body) != AMI_OK) {
        n->counters.frames_bad++;
        node_close(n, l->id);
        return;
    }
    if (n->mdms == 0) {
        refuse(n, l, &q, AMI_UNREACHABLE);
        return;
    }
    struct relay_entry *e = HASH_COUNT(n->relays) < NODE_RELAYS_MAX ? calloc(1, sizeof *e) : NULL;
    if (e == NULL) {
        refuse(n, l, &q, AMI_AGAIN);
        return;
    }
    e->token = ++n->relay_next;
    e->device = l->id;
    e->at_us = node_now_us(n);
    uint8_t frame[2048];
    struct writer inner = writer_on(frame, sizeof frame);
    frame_begin(&inner, MSG_ENROL_REQUEST);
    write_raw(&inner, body.data, body.size);
    AMI_CHECK(writer_ok(&inner)); /* the parsed type is bounded well below */
    struct relay r = {.token = e->token, .frame = writer_span(&inner)};
    struct writer w = node_frame(n, MSG_RELAY_REQUEST);
    relay_encode(&w, &r);
    if (node_send(n, n->mdms, writer_span(&w)) != AMI_OK) {
        refuse(n, l, &q, AMI_AGAIN);
        free(e);
        return;
    }
    HASH_ADD(hh, n->relays, token, sizeof e->token, e);
    node_alarm(n);
}

void relay_on_reply(struct node *n, struct span body)
{
    struct relay r;
    struct relay_entry *e = NULL;
    enum message_type type;
    struct span inner;
    if (relay_parse(&r, body) != AMI_OK || frame_open(r.frame, &type, &inner) != AMI_OK ||
        type != MSG_ENROL_REPLY) {
        n->counters.frames_bad++;
        return;
    }
    HASH_FIND(hh, n->relays, &r.token, sizeof r.token, e);
    if (e == NULL)
        return;
    (void)node_send(n, e->device, r.frame); /* the device asks again when it was lost */
    forget(n, e);
}

uint64_t relay_on_time(struct node *n)
{
    uint64_t now = node_now_us(n), next = now + NODE_RELAY_TIMEOUT_US;
    if (now < n->relays_us)
        return n->relays_us;
    struct relay_entry *e, *tmp;
    HASH_ITER(hh, n->relays, e, tmp)
    {
        uint64_t at = e->at_us + NODE_RELAY_TIMEOUT_US;
        if (at <= now)
            forget(n, e);
        else if (at < next)
            next = at;
    }
    n->relays_us = next;
    return next;
}

void relay_free(struct node *n)
{
    struct relay_entry *e, *tmp;
    HASH_ITER(hh, n->relays, e, tmp)
    {
        forget(n, e);
    }
}
