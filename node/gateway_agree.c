#include "node/gateway_internal.h"

struct agree_item {
    struct agree_item *next;
    struct gateway_session *session; /* reserved */
    env_link link;
    uint64_t meter;
    bool insist;
    struct agree_terms terms;
    size_t flight_size;
    uint8_t flight[AMI_FLIGHT_BYTES_MAX];
    struct agree_peer peer; /* the meter's decoded part of U, of the table or made by the job */
    uint8_t part_size;      /* 0: it is of the table */
    uint8_t part[AMI_SCHEME_PART_BYTES_MAX];
};

struct agree_job {
    const struct node *node;
    const struct agree_key *agree_key; /* own, as it was when the job began */
    uint64_t began_us;
    size_t count;
    struct agree_item *item[NODE_AGREE_BATCH_MAX];
    struct agree_request request[NODE_AGREE_BATCH_MAX];
    struct agree_answer answer[NODE_AGREE_BATCH_MAX];
};

void gateway_agree_free(struct gateway *g)
{
    struct agree_item *a, *tmp;
    LL_FOREACH_SAFE(g->agree_queue, a, tmp)
    {
        free(a);
    }
    for (size_t i = 0; g->agreeing != NULL && i < g->agreeing->count; i++)
        free(g->agreeing->item[i]);
    free(g->agreeing);
}

/* The meter's decoded part of U, or what it is to be decoded from: that costs a product, which the
 * work pool computes together with the answer. */
static void take_peer(const struct node *n, struct agree_item *a, const struct record *rec)
{
    const struct gateway_meter *m = gateway_meter_of(n, a->meter);
    if (m != NULL && m->peer != NULL) {
        a->peer = *m->peer;
        return;
    }
    a->part_size = rec->agree_part_size;
    memcpy(a->part, rec->agree_part, rec->agree_part_size);
}

/* Keeps what a job has decoded. When memory is short it is decoded again the next time. */
static void keep_peer(struct gateway_meter *m, const struct agree_item *a)
{
    if (a->part_size == 0)
        return;
    if (m->peer == NULL)
        m->peer = malloc(sizeof *m->peer);
    if (m->peer != NULL)
        *m->peer = a->peer;
}

/* --- first flights -----------------------------------------------------------------------------
 */

static void refuse(struct node *n, env_link link, const struct ami_id *meter, uint32_t tag,
                   enum ami_status status)
{
    struct refused r = {.meter = *meter, .tag = tag, .status = (uint16_t)status};
    uint8_t leader;
    if (status == AMI_NOT_LEADER && gateway_other_leads(n, &leader)) {
        r.has_other = true;
        r.other.dc = n->committee.members.member[leader].name;
    }
    n->counters.agreements_refused++;
    struct writer w = node_frame(n, MSG_REFUSED);
    refused_encode(&w, &r);
    (void)node_send(n, link, writer_span(&w)); /* the meter tries again */
}

/* A part of U was admitted to the ledger, so it leads to a point; if one does not, its answer is of
 * no use to anybody. */
static void decode_peers(struct agree_job *j)
{
    struct agree_peer_in in[NODE_AGREE_BATCH_MAX];
    struct agree_peer peer[NODE_AGREE_BATCH_MAX];
    enum ami_status status[NODE_AGREE_BATCH_MAX];
    size_t of[NODE_AGREE_BATCH_MAX], count = 0;
    for (size_t i = 0; i < j->count; i++) {
        const struct agree_item *a = j->item[i];
        if (a->part_size == 0)
            continue;
        in[count] =
            (struct agree_peer_in){&a->terms.meter, a->terms.epoch, span_of(a->part, a->part_size)};
        of[count++] = i;
    }
    if (count == 0)
        return;
    agree_peer_init_batch(peer, status, j->node->c.scheme, &j->node->c.genesis->network, in, count);
    for (size_t k = 0; k < count; k++) {
        struct agree_item *a = j->item[of[k]];
        a->peer = peer[k];
        if (status[k] != AMI_OK)
            j->request[of[k]].flight = span_of(NULL, 0); /* no flight has this size */
    }
}

static void agree_run(void *job)
{
    struct agree_job *j = job;
    decode_peers(j);
    agree_answer_batch(j->answer, &j->node->c.genesis->network, j->agree_key,
                       j->node->c.p_pub_table, j->request, j->count);
}

void gateway_agree_next(struct node *n)
{
    struct gateway *g = n->gateway;
    if (g->agreeing != NULL || g->agree_queue == NULL)
        return;
    struct agree_job *j = calloc(1, sizeof *j);
    if (j == NULL)
        return;
    j->node = n;
    j->agree_key = n->c.key.agree;
    j->began_us = node_now_us(n);
    struct agree_item *a = g->agree_queue;
    for (; a != NULL && j->count < NODE_AGREE_BATCH_MAX; a = a->next) {
        struct agree_request *q = &j->request[j->count];
        j->item[j->count++] = a;
        q->terms = a->terms;
        q->peer = &a->peer;
        q->flight = span_of(a->flight, a->flight_size);
        node_random(n, q->random, sizeof q->random);
    }
    if (n->env.work(n->env.ctx, agree_run, j) != AMI_OK) {
        free(j); /* the items stay queued; the next event tries again */
        return;
    }
    g->agree_queue = a;
    if (a == NULL)
        g->agree_last = NULL;
    g->agree_waiting -= j->count;
    g->agreeing = j;
}

/* A newer first flight replaces an older one that came on the same link, and when there are too
 * many the oldest; none touches the confirmed session before its own confirmation. */
static void make_room(struct node *n, struct gateway_meter *m, env_link link)
{
    struct gateway_session *s = m->opening;
    while (s != NULL && s->link != link)
        s = s->next_opening;
    if (s == NULL && m->openings >= NODE_OPENINGS_PER_METER)
        s = m->opening;
    if (s != NULL)
        gateway_drop_session(n, s);
}

/* When there are as many sessions as may be, one that the meter began before makes room. */
static struct gateway_session *reserve(struct node *n, uint64_t meter, env_link link)
{
    struct gateway_session *s = gateway_reserve_session(n);
    struct gateway_meter *m = gateway_meter_of(n, meter);
    if (s == NULL && m != NULL) {
        make_room(n, m, link);
        s = gateway_reserve_session(n);
    }
    return s;
}

void gateway_on_flight1(struct node *n, struct node_link *l, const struct agree_flight1 *f)
{
    struct gateway *g = n->gateway;
    uint8_t leader;
    const struct record *rec = registry_find(n->c.registry, RECORD_METER, &f->meter, f->epoch);
    if (rec == NULL) {
        bool other = registry_find(n->c.registry, RECORD_METER, &f->meter, 0) != NULL;
        refuse(n, l->id, &f->meter, f->tag, other ? AMI_WRONG_EPOCH : AMI_UNKNOWN_DEVICE);
        return;
    }
    uint64_t index = registry_index_of(n->c.registry, rec);
    if (rec->revoked_at != 0) {
        refuse(n, l->id, &f->meter, f->tag, AMI_REVOKED);
    } else if (n->c.genesis->parameters.gateway == GATEWAY_LEADER && f->insist == 0 &&
               replica_role(n->replica) != REPLICA_LEADER) {
        refuse(n, l->id, &f->meter, f->tag,
               gateway_other_leads(n, &leader) ? AMI_NOT_LEADER : AMI_NO_QUORUM);
    } else if (chain_read_only(n)) {
        refuse(n, l->id, &f->meter, f->tag, AMI_FULL); /* another DC can acknowledge reports */
    } else if (g->agree_waiting >= NODE_AGREE_QUEUE_MAX ||
               l->flights_waiting >= NODE_FLIGHTS_PER_LINK) {
        refuse(n, l->id, &f->meter, f->tag, AMI_AGAIN);
    } else {
        struct agree_item *a = calloc(1, sizeof *a);
        if (a == NULL || (a->session = reserve(n, index, l->id)) == NULL) {
            free(a);
            refuse(n, l->id, &f->meter, f->tag, AMI_AGAIN);
            return;
        }
        a->link = l->id;
        a->meter = index;
        a->insist = f->insist != 0;
        take_peer(n, a, rec);
        a->terms = agree_terms_for(f, n->c.key.agree, &n->c.genesis->members.chain,
                                   replica_term(n->replica), a->session->id);
        a->flight_size = f->flight.size; /* bounded by its decoder */
        memcpy(a->flight, f->flight.data, f->flight.size);
        if (g->agree_last == NULL)
            g->agree_queue = a;
        else
            g->agree_last->next = a;
        g->agree_last = a;
        g->agree_waiting++;
        l->flights_waiting++;
        gateway_agree_next(n);
    }
}

static void open_session(struct node *n, const struct agree_item *a, const struct agree_answer *x)
{
    struct gateway_session *s = a->session;
    struct gateway_meter *m = gateway_make_meter(n, a->meter);
    if (m != NULL)
        keep_peer(m, a);
    if (m == NULL || node_link_find(n, a->link) == NULL) { /* the link has gone meanwhile */
        gateway_unreserve_session(n, s);
        if (m == NULL)
            refuse(n, a->link, &a->terms.meter, a->terms.tag, AMI_AGAIN);
        return;
    }
    make_room(n, m, a->link);
    s->meter = a->meter;
    s->insist = a->insist;
    s->u.opening.since_us = node_now_us(n);
    s->u.opening.pending = x->pending;
    s->u.opening.terms = a->terms;
    gateway_open_session(m, s);
    gateway_set_link(n, s, a->link);
    struct agree_flight2 f = agree_flight2_of(&a->terms, x);
    struct writer w = node_frame(n, MSG_AGREE_FLIGHT2);
    agree_flight2_encode(&w, &f);
    (void)node_send(n, a->link, writer_span(&w)); /* lost: the meter starts over */
}

void gateway_agree_done(struct node *n)
{
    struct gateway *g = n->gateway;
    struct agree_job *j = g->agreeing;
    g->agreeing = NULL;
    if (j->count == NODE_AGREE_BATCH_MAX)
        g->agree_us = (7 * g->agree_us + (node_now_us(n) - j->began_us) / j->count + 7) / 8;
    for (size_t i = 0; i < j->count; i++) {
        struct agree_item *a = j->item[i];
        struct node_link *l = node_link_find(n, a->link);
        if (l != NULL)
            l->flights_waiting--;
        if (j->answer[i].status == AMI_OK) {
            open_session(n, a, &j->answer[i]);
        } else {
            gateway_unreserve_session(n, a->session);
            refuse(n, a->link, &a->terms.meter, a->terms.tag, j->answer[i].status);
        }
        free(a);
    }
    secret_wipe(j, sizeof *j);
    free(j);
    gateway_agree_next(n);
}

/* --- third flights -----------------------------------------------------------------------------
 */

/* The meter has gone over to another session on link `to`. A link that it leaves empty is closed: a
 * single meter could hold all connections otherwise, each known to be a meter's. */
static void leave_session(struct node *n, struct gateway_session *older, const struct node_link *to)
{
    struct node_link *from = older->link == 0 ? NULL : node_link_find(n, older->link);
    gateway_drop_session(n, older);
    if (from != NULL && from != to && from->sessions == NULL)
        node_close(n, from->id);
}

void gateway_on_flight3(struct node *n, struct node_link *l, const struct agree_flight3 *f)
{
    struct gateway_session *s = gateway_find_session(n, f->session);
    if (s == NULL) {
        gateway_say_ended(n, l->id, f->session, AMI_NO_SESSION);
        return;
    }
    if (s->state == SESSION_CONFIRMED)
        return; /* a repeated third flight */
    if (agree_confirm(&s->u.opening.pending, f->flight) != AMI_OK) {
        n->counters.agreements_refused++;
        return; /* a wrong confirmation ends nothing: the right one may follow */
    }
    const struct parameters *p = &n->c.genesis->parameters;
    struct session fresh;
    session_begin(&fresh, false, s->u.opening.pending.k, &s->u.opening.terms,
                  p->session_messages_max, p->session_seconds_max, gateway_now_s(n));
    secret_wipe(&s->u, sizeof s->u);
    s->u.session = fresh;
    secret_wipe(&fresh, sizeof fresh);
    gateway_set_link(n, s, l->id);
    l->known = true;
    n->sessions_open++;
    n->counters.agreements++;
    struct gateway_meter *m = gateway_meter_of(n, s->meter);
    struct gateway_session *older = m->current;
    gateway_confirm_session(m, s);
    if (older != NULL)
        leave_session(n, older, l);
}
