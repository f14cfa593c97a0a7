#include "node/gateway_internal.h"

struct gateway_session *gateway_find_session(const struct node *n, uint64_t id)
{
    struct gateway_session *s = NULL;
    HASH_FIND(by_id, n->gateway->sessions, &id, sizeof id, s);
    return s;
}

struct gateway_meter *gateway_meter_of(struct node *n, uint64_t meter, bool make)
{
    struct gateway_meter *m = NULL;
    HASH_FIND(hh, n->gateway->meters, &meter, sizeof meter, m);
    if (m == NULL && make && (m = calloc(1, sizeof *m)) != NULL) {
        m->meter = meter;
        HASH_ADD(hh, n->gateway->meters, meter, sizeof m->meter, m);
    }
    return m;
}

bool gateway_set_link(struct node *n, struct gateway_session *s, env_link id)
{
    if (s->link != 0) {
        struct node_link *old = node_link_find(n, s->link);
        AMI_CHECK(old != NULL);
        DL_DELETE2(old->sessions, s, link_prev, link_next);
        s->link = 0;
    }
    struct node_link *l = id == 0 ? NULL : node_link_find(n, id);
    if (l == NULL)
        return false;
    DL_APPEND2(l->sessions, s, link_prev, link_next);
    s->link = id;
    return true;
}

void gateway_drop_session(struct node *n, struct gateway_session *s)
{
    struct gateway_meter *m = gateway_meter_of(n, s->meter, false);
    AMI_CHECK(m != NULL);
    gateway_set_link(n, s, 0);
    if (m->current == s)
        m->current = NULL;
    if (!s->confirmed) {
        LL_DELETE2(m->opening, s, next_opening);
        m->openings--;
    }
    if (m->current == NULL && m->opening == NULL) {
        HASH_DELETE(hh, n->gateway->meters, m);
        free(m);
    }
    if (s->confirmed)
        n->sessions_open--;
    HASH_DELETE(by_id, n->gateway->sessions, s);
    secret_wipe(s, sizeof *s);
    free(s);
}

void gateway_say_ended(struct node *n, env_link link, uint64_t session, enum ami_status status)
{
    struct session_ended e = {.session = session, .status = (uint16_t)status};
    uint8_t leader;
    if (status == AMI_NOT_LEADER && gateway_other_leads(n, &leader)) {
        e.has_other = true;
        e.other.dc = n->committee.members.member[leader].name;
    }
    if (link == 0)
        return;
    struct writer w = node_frame(n, MSG_SESSION_ENDED);
    session_ended_encode(&w, &e);
    (void)node_send(n, link, writer_span(&w)); /* lost: the next message gets the same answer */
}

/* What dc-cli shows of a meter here. */
bool gateway_session_of(struct node *n, uint64_t meter, struct gateway_session **out)
{
    struct gateway_meter *m = gateway_meter_of(n, meter, false);
    *out = m == NULL ? NULL : m->current;
    return *out != NULL;
}
