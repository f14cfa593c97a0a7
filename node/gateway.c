/* node/gateway.c - meters: key agreement, sessions, reports in, acknowledgements out.
 *
 * A first flight waits in a queue until the work pool is free and is then answered in a batch; a
 * report is opened here (its session's state is here), checked, sealed and signed in a batch in the
 * work pool, and goes to the pool of waiting transactions. Who sent it is remembered there, so that
 * the commit finds the session again. A report that is on the ledger already is answered with its
 * proof, of a block that is kept in memory or from the disk.
 *
 * Nothing here depends on leading, except the policy: under GATEWAY_LEADER a DC that does not lead
 * sends meters on to the one that does, unless a meter insists because it waited in vain there.
 */
#include "node/gateway_internal.h"

#define OPENING_US      (30u * 1000000u)
#define SESSION_SCAN_US (5u * 1000000u)

/* What an agreement takes before any was measured, and for how long meters may be told to spread.
 */
#define AGREE_US_FIRST 50u
#define LEADS_MS_MIN   50u
#define LEADS_MS_MAX   60000u

bool gateway_init(struct node *n)
{
    n->gateway = calloc(1, sizeof *n->gateway);
    if (n->gateway == NULL)
        return false;
    n->gateway->agree_us = AGREE_US_FIRST;
    return gateway_ack_init(n);
}

/* Jobs in the work pool are over when the shell frees the node. */
void gateway_free(struct node *n)
{
    struct gateway *g = n->gateway;
    if (g == NULL)
        return;
    gateway_sessions_free(n);
    gateway_agree_free(g);
    gateway_report_free(g);
    gateway_ack_free(g);
    free(g);
    n->gateway = NULL;
}

bool gateway_other_leads(const struct node *n, uint8_t *leader)
{
    return replica_leader(n->replica, leader) && *leader != n->self;
}

/* --- events ------------------------------------------------------------------------------------
 */

static void on_meter_hello(struct node *n, struct node_link *l, const struct meter_hello *h)
{
    static const sm3_digest none;
    struct meter_welcome w = {.dc = n->c.key.agree->name,
                              .gateway = (uint8_t)n->c.genesis->parameters.gateway};
    bool enrol_only = sm3_equal(&h->chain, &none);
    if (!enrol_only && !sm3_equal(&h->chain, &n->c.genesis->members.chain))
        w.status = AMI_WRONG_CHAIN;
    else if (!enrol_only && h->scheme != n->c.genesis->network.scheme)
        w.status = AMI_WRONG_SCHEME;
    struct writer out = node_frame(n, MSG_METER_WELCOME);
    meter_welcome_encode(&out, &w);
    (void)node_send(n, l->id, writer_span(&out));
    if (w.status != AMI_OK) {
        n->counters.links_refused++;
        node_close(n, l->id);
        return;
    }
    l->state = LINK_READY;
    l->enrol_only = enrol_only;
    if (!enrol_only)
        epoch_tell_meter(n, l, h->epoch);
}

void gateway_on_frame(struct node *n, struct node_link *l, enum message_type type, struct span body)
{
    enum ami_status status = AMI_BAD_ENCODING;
    if (type == MSG_METER_HELLO && l->state == LINK_NEW) {
        struct meter_hello h;
        if ((status = meter_hello_parse(&h, body)) == AMI_OK)
            on_meter_hello(n, l, &h);
    } else if (l->state == LINK_READY && type == MSG_ENROL_REQUEST) {
        relay_on_request(n, l, body);
        return;
    } else if (l->state == LINK_READY && !l->enrol_only && type == MSG_AGREE_FLIGHT1) {
        struct agree_flight1 f;
        if ((status = agree_flight1_parse(&f, body)) == AMI_OK)
            gateway_on_flight1(n, l, &f);
    } else if (l->state == LINK_READY && !l->enrol_only && type == MSG_AGREE_FLIGHT3) {
        struct agree_flight3 f;
        if ((status = agree_flight3_parse(&f, body)) == AMI_OK)
            gateway_on_flight3(n, l, &f);
    } else if (l->state == LINK_READY && !l->enrol_only && type == MSG_SESSION_DATA) {
        struct session_data d;
        if ((status = session_data_parse(&d, body)) == AMI_OK)
            gateway_on_data(n, l, &d);
    }
    if (status != AMI_OK) {
        n->counters.frames_bad++;
        node_event_often(n, ENV_LOG_WARN, "meter_link_refused", "link=%llu message=%s",
                         (unsigned long long)l->id, message_name(type));
        node_close(n, l->id);
    }
}

void gateway_on_closed(struct node *n, struct node_link *l)
{
    struct gateway_session *s, *tmp;
    DL_FOREACH_SAFE2(l->sessions, s, tmp, link_next)
    {
        if (s->state == SESSION_CONFIRMED)
            gateway_set_link(n, s, 0);
        else
            gateway_drop_session(n, s);
    }
}

bool gateway_on_work(struct node *n, void *job)
{
    struct gateway *g = n->gateway;
    if (g->agreeing != NULL && job == g->agreeing)
        gateway_agree_done(n);
    else if (g->reporting != NULL && job == g->reporting)
        gateway_report_done(n);
    else
        return false;
    return true;
}

/* Meters that wait for a leader come at once; in how long this DC can serve all that there are is
 * known to nobody else. */
static void say_leads(struct node *n)
{
    const uint64_t all_ms = registry_size(n->c.registry) * n->gateway->agree_us / 1000u;
    struct leads x = {.term = replica_term(n->replica),
                      .spread_ms = (uint32_t)(all_ms < LEADS_MS_MIN   ? LEADS_MS_MIN
                                              : all_ms > LEADS_MS_MAX ? LEADS_MS_MAX
                                                                      : all_ms)};
    struct writer w = node_frame(n, MSG_LEADS);
    leads_encode(&w, &x);
    struct node_link *l, *tmp;
    HASH_ITER(hh, n->links, l, tmp)
    {
        if (l->port == NODE_PORT_METER && l->state == LINK_READY && !l->enrol_only && !l->closing)
            (void)node_send(n, l->id, writer_span(&w)); /* lost: the meter finds out by itself */
    }
}

void gateway_on_leader(struct node *n)
{
    uint8_t leader;
    if (n->c.genesis->parameters.gateway == GATEWAY_LEADER &&
        replica_role(n->replica) == REPLICA_LEADER)
        say_leads(n);
    if (n->c.genesis->parameters.gateway != GATEWAY_LEADER || !gateway_other_leads(n, &leader))
        return;
    struct gateway_session *s;
    for (size_t slot = 0; (s = gateway_next_session(n, &slot)) != NULL;) {
        if (s->insist)
            continue;
        gateway_say_ended(n, s->link, s->id, AMI_NOT_LEADER);
        gateway_drop_session(n, s);
    }
}

void gateway_on_revoked(struct node *n)
{
    struct gateway_session *s;
    for (size_t slot = 0; (s = gateway_next_session(n, &slot)) != NULL;) {
        if (registry_at(n->c.registry, s->meter)->revoked_at == 0)
            continue;
        gateway_say_ended(n, s->link, s->id, AMI_REVOKED);
        gateway_drop_session(n, s);
    }
}

uint64_t gateway_on_time(struct node *n)
{
    struct gateway *g = n->gateway;
    uint64_t now = node_now_us(n);
    gateway_agree_next(n);
    gateway_report_next(n);
    if (now < g->scan_us)
        return g->scan_us;
    g->scan_us = now + SESSION_SCAN_US;
    struct gateway_session *s;
    for (size_t slot = 0; (s = gateway_next_session(n, &slot)) != NULL;) {
        if (s->state == SESSION_OPENING) {
            if (now - s->u.opening.since_us >= OPENING_US)
                gateway_drop_session(n, s);
            continue;
        }
        session_expire(&s->u.session, gateway_now_s(n));
        enum ami_status status = session_check(&s->u.session, gateway_now_s(n));
        if (status != AMI_OK) {
            gateway_say_ended(n, s->link, s->id, status);
            gateway_drop_session(n, s);
        }
    }
    return g->scan_us;
}
