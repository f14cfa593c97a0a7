/* node/gateway.c - meters: key agreement, sessions, reports in, acknowledgements out.
 *
 * A first flight waits in a queue until the work pool is free and is then answered in a batch; a
 * report is opened here (its session's state is here), checked, sealed and signed in a batch in the
 * work pool, and goes to the pool of waiting transactions. Who sent it is remembered there, so that
 * the commit finds the session again. A report that is on the ledger already is answered with its
 * proof from the disk.
 *
 * Nothing here depends on leading, except the policy: under GATEWAY_LEADER a DC that does not lead
 * sends meters on to the one that does, unless a meter insists because it waited in vain there.
 */
#include "node/internal.h"

#include "crypto/secret.h"
#include "ledger/merkle.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

enum { DATA_REPORT_SUBMIT = 1, DATA_REPORT_ACK = 2, DATA_REPORT_NACK = 3 };

#define SALT_BYTES      16
#define OPENING_US      (30u * 1000000u)
#define SESSION_SCAN_US (5u * 1000000u)
#define REPORT_TX_EXTRA 640 /* what a transaction holds beside the sealed report */
/* Reports that are sealed and signed together. */
#define REPORT_SIGN_BATCH 32

/* What an agreement takes before any was measured, and for how long meters may be told to spread.
 */
#define AGREE_US_FIRST 50u
#define LEADS_MS_MIN   50u
#define LEADS_MS_MAX   60000u

/* --- a batch of first flights ------------------------------------------------------------------
 */

struct agree_item {
    struct agree_item *next;
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

/* --- a batch of reports ------------------------------------------------------------------------
 */

struct report_item {
    struct report_item *next;
    uint64_t session;
    uint64_t meter; /* index in the registry */
    const struct verify_key *key;
    struct report_meter_part part;
    enum ami_status status;
    uint8_t random[SM2_WIDE_BYTES];
    size_t plain_size; /* salt || m */
    size_t tx_size;
    uint8_t *tx; /* behind plain */
    uint8_t plain[];
};

struct report_job {
    const struct node *node;
    struct node_key key; /* own, as it was when the job began */
    int64_t timestamp_ms;
    uint8_t random[SM2_WIDE_BYTES];
    size_t count;
    struct report_item *item[NODE_REPORT_BATCH_MAX];
};

/* A block from the disk and its tree. After a change of leaders many meters ask for reports of the
 * same few blocks. */
struct settled_block {
    uint64_t height; /* 0: none */
    uint64_t used;   /* for finding the one that was not used for longest */
    uint8_t *bytes;
    struct certified_block block; /* borrows bytes */
    sm3_digest hash;
    struct merkle_tree *tree;
};

struct gateway {
    struct gateway_session *sessions; /* by id */
    struct gateway_meter *meters;
    struct agree_item *agree_queue, *agree_last;
    size_t agree_waiting;
    struct agree_job *agreeing;
    uint64_t agree_us; /* what one takes, of late, when many come */
    struct report_item *report_queue, *report_last;
    size_t report_waiting;
    struct report_job *reporting;
    struct agree_peer **peers; /* per registry index, decoded once */
    size_t peers_size;
    struct merkle_tree *tree; /* of the block that was committed just now */
    struct settled_block settled[NODE_SETTLED_BLOCKS];
    uint64_t settled_uses;
    uint64_t reads_since_us;
    unsigned reads; /* of blocks, since then */
    uint64_t scan_us;
};

bool gateway_init(struct node *n)
{
    n->gateway = calloc(1, sizeof *n->gateway);
    if (n->gateway == NULL)
        return false;
    n->gateway->agree_us = AGREE_US_FIRST;
    n->gateway->tree = merkle_tree_new();
    bool ok = n->gateway->tree != NULL;
    for (unsigned i = 0; i < NODE_SETTLED_BLOCKS; i++) {
        struct settled_block *b = &n->gateway->settled[i];
        b->tree = merkle_tree_new();
        b->bytes = malloc(n->block_size);
        ok = ok && b->tree != NULL && b->bytes != NULL;
    }
    return ok;
}

static uint32_t now_s(const struct node *n)
{
    return (uint32_t)(node_now_us(n) / 1000000u);
}

/* --- the table of sessions ---------------------------------------------------------------------
 */

static struct gateway_session *find_session(const struct node *n, uint64_t id)
{
    struct gateway_session *s = NULL;
    HASH_FIND(by_id, n->gateway->sessions, &id, sizeof id, s);
    return s;
}

static struct gateway_meter *meter_of(struct node *n, uint64_t meter, bool make)
{
    struct gateway_meter *m = NULL;
    HASH_FIND(hh, n->gateway->meters, &meter, sizeof meter, m);
    if (m == NULL && make && (m = calloc(1, sizeof *m)) != NULL) {
        m->meter = meter;
        HASH_ADD(hh, n->gateway->meters, meter, sizeof m->meter, m);
    }
    return m;
}

/* Answers go to this link from now on. False: it is closed. */
static bool set_link(struct node *n, struct gateway_session *s, env_link id)
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

static void drop_session(struct node *n, struct gateway_session *s)
{
    struct gateway_meter *m = meter_of(n, s->meter, false);
    AMI_CHECK(m != NULL);
    set_link(n, s, 0);
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

void gateway_free(struct node *n)
{
    struct gateway *g = n->gateway;
    if (g == NULL)
        return;
    struct gateway_session *s, *tmp;
    HASH_ITER(by_id, g->sessions, s, tmp)
    {
        drop_session(n, s);
    }
    struct agree_item *a, *atmp;
    LL_FOREACH_SAFE(g->agree_queue, a, atmp)
    {
        free(a);
    }
    struct report_item *r, *rtmp;
    LL_FOREACH_SAFE(g->report_queue, r, rtmp)
    {
        free(r);
    }
    /* Jobs in the work pool are over when the shell frees the node. */
    for (size_t i = 0; g->agreeing != NULL && i < g->agreeing->count; i++)
        free(g->agreeing->item[i]);
    free(g->agreeing);
    for (size_t i = 0; g->reporting != NULL && i < g->reporting->count; i++)
        free(g->reporting->item[i]);
    free(g->reporting);
    for (size_t i = 0; i < g->peers_size; i++)
        free(g->peers[i]);
    free(g->peers);
    merkle_tree_free(g->tree);
    for (unsigned i = 0; i < NODE_SETTLED_BLOCKS; i++) {
        merkle_tree_free(g->settled[i].tree);
        free(g->settled[i].bytes);
    }
    free(g);
    n->gateway = NULL;
}

/* The meter's decoded part of U, or what it is to be decoded from: that costs a product, which the
 * work pool computes together with the answer. */
static void take_peer(const struct node *n, struct agree_item *a, const struct record *rec)
{
    const struct gateway *g = n->gateway;
    if (a->meter < g->peers_size && g->peers[a->meter] != NULL) {
        a->peer = *g->peers[a->meter];
        return;
    }
    a->part_size = rec->agree_part_size;
    memcpy(a->part, rec->agree_part, rec->agree_part_size);
}

/* Keeps what a job has decoded. When memory is short it is decoded again the next time. */
static void keep_peer(struct node *n, const struct agree_item *a)
{
    struct gateway *g = n->gateway;
    if (a->part_size == 0)
        return;
    if (a->meter >= g->peers_size) {
        size_t size = (size_t)registry_size(n->c.registry) + 1024;
        struct agree_peer **peers = realloc(g->peers, size * sizeof *peers);
        if (peers == NULL)
            return;
        memset(peers + g->peers_size, 0, (size - g->peers_size) * sizeof *peers);
        g->peers = peers;
        g->peers_size = size;
    }
    if (g->peers[a->meter] == NULL)
        g->peers[a->meter] = malloc(sizeof *g->peers[a->meter]);
    if (g->peers[a->meter] != NULL)
        *g->peers[a->meter] = a->peer;
}

/* --- agreement ---------------------------------------------------------------------------------
 */

static bool other_leads(const struct node *n, uint8_t *leader)
{
    return replica_leader(n->replica, leader) && *leader != n->self;
}

static void refuse(struct node *n, env_link link, const struct ami_id *meter, uint32_t tag,
                   enum ami_status status)
{
    struct refused r = {.meter = *meter, .tag = tag, .status = (uint16_t)status};
    uint8_t leader;
    if (status == AMI_NOT_LEADER && other_leads(n, &leader)) {
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

static void agree_next(struct node *n)
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

static void on_flight1(struct node *n, struct node_link *l, const struct agree_flight1 *f)
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
               other_leads(n, &leader) ? AMI_NOT_LEADER : AMI_NO_QUORUM);
    } else if (chain_read_only(n)) {
        refuse(n, l->id, &f->meter, f->tag, AMI_FULL); /* another DC can acknowledge reports */
    } else if (g->agree_waiting >= NODE_AGREE_QUEUE_MAX ||
               l->flights_waiting >= NODE_FLIGHTS_PER_LINK) {
        refuse(n, l->id, &f->meter, f->tag, AMI_AGAIN);
    } else {
        struct agree_item *a = calloc(1, sizeof *a);
        if (a == NULL) {
            refuse(n, l->id, &f->meter, f->tag, AMI_AGAIN);
            return;
        }
        uint64_t session = 0;
        while (session == 0 || find_session(n, session) != NULL)
            node_random(n, &session, sizeof session);
        a->link = l->id;
        a->meter = index;
        a->insist = f->insist != 0;
        take_peer(n, a, rec);
        a->terms = agree_terms_for(f, n->c.key.agree, &n->c.genesis->members.chain,
                                   replica_term(n->replica), session);
        a->flight_size = f->flight.size; /* bounded by its decoder */
        memcpy(a->flight, f->flight.data, f->flight.size);
        if (g->agree_last == NULL)
            g->agree_queue = a;
        else
            g->agree_last->next = a;
        g->agree_last = a;
        g->agree_waiting++;
        l->flights_waiting++;
        agree_next(n);
    }
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
        drop_session(n, s);
}

static void open_session(struct node *n, const struct agree_item *a, const struct agree_answer *x)
{
    const struct ami_id *meter = &a->terms.meter;
    if (node_link_find(n, a->link) == NULL)
        return; /* it has gone meanwhile */
    struct gateway_meter *m = meter_of(n, a->meter, false);
    if (m != NULL)
        make_room(n, m, a->link);
    size_t count = HASH_CNT(by_id, n->gateway->sessions);
    struct gateway_session *s = count < n->c.sessions_max ? calloc(1, sizeof *s) : NULL;
    m = s == NULL ? NULL : meter_of(n, a->meter, true);
    if (m == NULL) {
        free(s);
        refuse(n, a->link, meter, a->terms.tag, AMI_AGAIN);
        return;
    }
    s->id = a->terms.session;
    s->meter = a->meter;
    s->insist = a->insist;
    s->opened_us = node_now_us(n);
    s->u.opening.pending = x->pending;
    s->u.opening.terms = a->terms;
    HASH_ADD(by_id, n->gateway->sessions, id, sizeof s->id, s);
    LL_APPEND2(m->opening, s, next_opening);
    m->openings++;
    set_link(n, s, a->link);
    struct agree_flight2 f = agree_flight2_of(&a->terms, x);
    struct writer w = node_frame(n, MSG_AGREE_FLIGHT2);
    agree_flight2_encode(&w, &f);
    (void)node_send(n, a->link, writer_span(&w)); /* lost: the meter starts over */
}

static void agree_done(struct node *n)
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
            keep_peer(n, a);
            open_session(n, a, &j->answer[i]);
        } else {
            refuse(n, a->link, &a->terms.meter, a->terms.tag, j->answer[i].status);
        }
        free(a);
    }
    secret_wipe(j, sizeof *j);
    free(j);
    agree_next(n);
}

static void say_ended(struct node *n, env_link link, uint64_t session, enum ami_status status)
{
    struct session_ended e = {.session = session, .status = (uint16_t)status};
    uint8_t leader;
    if (status == AMI_NOT_LEADER && other_leads(n, &leader)) {
        e.has_other = true;
        e.other.dc = n->committee.members.member[leader].name;
    }
    if (link == 0)
        return;
    struct writer w = node_frame(n, MSG_SESSION_ENDED);
    session_ended_encode(&w, &e);
    (void)node_send(n, link, writer_span(&w)); /* lost: the next message gets the same answer */
}

/* The meter has gone over to another session on link `to`. A link that it leaves empty is closed: a
 * single meter could hold all connections otherwise, each known to be a meter's. */
static void leave_session(struct node *n, struct gateway_session *older, const struct node_link *to)
{
    struct node_link *from = older->link == 0 ? NULL : node_link_find(n, older->link);
    drop_session(n, older);
    if (from != NULL && from != to && from->sessions == NULL)
        node_close(n, from->id);
}

static void on_flight3(struct node *n, struct node_link *l, const struct agree_flight3 *f)
{
    struct gateway_session *s = find_session(n, f->session);
    if (s == NULL) {
        say_ended(n, l->id, f->session, AMI_NO_SESSION);
        return;
    }
    if (s->confirmed)
        return; /* a repeated third flight */
    if (agree_confirm(&s->u.opening.pending, f->flight) != AMI_OK) {
        n->counters.agreements_refused++;
        return; /* a wrong confirmation ends nothing: the right one may follow */
    }
    const struct parameters *p = &n->c.genesis->parameters;
    struct gateway_meter *m = meter_of(n, s->meter, false);
    AMI_CHECK(m != NULL);
    LL_DELETE2(m->opening, s, next_opening);
    m->openings--;
    struct session fresh;
    session_begin(&fresh, false, s->u.opening.pending.k, &s->u.opening.terms,
                  p->session_messages_max, p->session_seconds_max, now_s(n));
    secret_wipe(&s->u, sizeof s->u);
    s->u.session = fresh;
    secret_wipe(&fresh, sizeof fresh);
    s->confirmed = true;
    set_link(n, s, l->id);
    l->known = true;
    n->sessions_open++;
    n->counters.agreements++;
    struct gateway_session *older = m->current;
    m->current = s;
    if (older != NULL)
        leave_session(n, older, l);
}

/* --- answers inside a session ------------------------------------------------------------------
 */

static void send_inside(struct node *n, struct gateway_session *s, uint8_t kind, struct span plain)
{
    uint8_t buffer[1024 + GCM_TAG_BYTES];
    AMI_CHECK(plain.size + GCM_TAG_BYTES <= sizeof buffer);
    struct session_data d;
    if (session_seal(&s->u.session, &d, buffer, kind, plain, now_s(n)) != AMI_OK) {
        say_ended(n, s->link, s->id, AMI_SESSION_ENDED);
        drop_session(n, s);
        return;
    }
    struct writer w = node_frame(n, MSG_SESSION_DATA);
    session_data_encode(&w, &d);
    if (s->link == 0 || node_send(n, s->link, writer_span(&w)) != AMI_OK)
        n->counters.acks_dropped++; /* the meter asks again and is answered from the disk */
}

static void send_nack(struct node *n, struct gateway_session *s, uint64_t sequence,
                      enum ami_status status)
{
    const struct record *rec = registry_at(n->c.registry, s->meter);
    struct report_nack k = {.sequence = sequence, .status = (uint16_t)status, .floor = rec->floor};
    uint8_t plain[32];
    struct writer w = writer_on(plain, sizeof plain);
    report_nack_encode(&w, &k);
    AMI_CHECK(writer_ok(&w));
    n->counters.reports_refused++;
    send_inside(n, s, DATA_REPORT_NACK, writer_span(&w));
}

/* The header and its certificate, once per link. */
static void send_block_proof(struct node *n, env_link link, const struct block_header *h,
                             const struct qc *commit)
{
    struct node_link *l = node_link_find(n, link);
    if (l == NULL)
        return;
    for (unsigned i = 0; i < NODE_PROOFS_PER_LINK; i++)
        if (l->proofs_sent[i] == h->height)
            return;
    struct block_proof p = {*h, *commit};
    struct writer w = node_frame(n, MSG_BLOCK_PROOF);
    block_proof_encode(&w, &p);
    if (node_send(n, link, writer_span(&w)) != AMI_OK)
        return;
    l->proofs_sent[l->proofs_at++ % NODE_PROOFS_PER_LINK] = h->height;
}

/* `tree` is the block's. */
static void send_ack(struct node *n, struct gateway_session *s, struct merkle_tree *tree,
                     const struct block_header *h, const sm3_digest *block, const struct qc *commit,
                     const struct tx_view *tx, uint32_t index)
{
    struct report_ack a = {.sequence = tx->u.report.meter.sequence,
                           .height = h->height,
                           .block = *block,
                           .index = index,
                           .second = tx_second(tx)};
    sm3_digest path[MERKLE_PATH_MAX];
    size_t size = merkle_tree_path(tree, index, path);
    AMI_CHECK(size <= sizeof a.path / sizeof a.path[0]);
    memcpy(a.path, path, size * sizeof path[0]);
    a.path_count = (uint16_t)size;
    uint8_t plain[1024];
    struct writer w = writer_on(plain, sizeof plain);
    report_ack_encode(&w, &a);
    AMI_CHECK(writer_ok(&w));
    send_block_proof(n, s->link, h, commit);
    n->counters.acks++;
    send_inside(n, s, DATA_REPORT_ACK, writer_span(&w));
}

/* Leaves of all transactions of a body. False: out of memory, or a body that does not parse. */
static bool plant_tree(struct merkle_tree *t, struct span body)
{
    sm3_digest *leaves = malloc(AMI_BLOCK_TXS_MAX * sizeof *leaves);
    size_t count = 0;
    bool ok = leaves != NULL && body_leaves(leaves, AMI_BLOCK_TXS_MAX, &count, body) == AMI_OK;
    merkle_tree_truncate(t, 0);
    for (size_t i = 0; ok && i < count; i++)
        ok = merkle_tree_set(t, i, &leaves[i]) == AMI_OK;
    free(leaves);
    if (ok)
        merkle_tree_root(t);
    return ok;
}

/* The block of that height with its tree. AMI_AGAIN: enough were read for the moment. */
static enum ami_status settled_block(struct node *n, uint64_t height, struct settled_block **out)
{
    struct gateway *g = n->gateway;
    struct settled_block *b = &g->settled[0];
    for (unsigned i = 0; i < NODE_SETTLED_BLOCKS; i++) {
        if (g->settled[i].height == height) {
            b = &g->settled[i];
            break;
        }
        if (g->settled[i].used < b->used)
            b = &g->settled[i];
    }
    b->used = ++g->settled_uses;
    *out = b;
    if (b->height == height)
        return AMI_OK;
    uint64_t now = node_now_us(n);
    if (now - g->reads_since_us >= NODE_SETTLED_US) {
        g->reads_since_us = now;
        g->reads = 0;
    }
    /* To read and hash a whole block for a few bytes of a meter is what would stop this loop. */
    if (g->reads == NODE_SETTLED_READS)
        return AMI_AGAIN;
    g->reads++;
    b->height = 0;
    AMI_TRY(n->c.disk.block(n->c.disk.ctx, height, &b->block, b->bytes, n->block_size));
    if (!plant_tree(b->tree, b->block.body))
        return AMI_NO_MEMORY;
    b->hash = block_hash(&b->block.header);
    b->height = height;
    return AMI_OK;
}

/* A report that is settled already: its proof from the disk. */
static void answer_settled(struct node *n, struct gateway_session *s, uint64_t sequence)
{
    const struct record *rec = registry_at(n->c.registry, s->meter);
    const struct node_disk *d = &n->c.disk;
    uint64_t height;
    uint32_t index, at = 0;
    struct settled_block *b;
    enum ami_status status =
        d->find_report(d->ctx, &rec->name, rec->epoch, sequence, &height, &index);
    if (status == AMI_NOT_FOUND) { /* its meter has skipped it */
        send_nack(n, s, sequence, AMI_SEQUENCE_SETTLED);
        return;
    }
    if (status == AMI_OK)
        status = settled_block(n, height, &b);
    if (status != AMI_OK) {
        send_nack(n, s, sequence, AMI_AGAIN);
        return;
    }
    struct body_reader it = body_reader_on(b->block.body);
    struct span encoded;
    while (body_next(&it, &encoded)) {
        struct tx_view tx;
        if (at++ != index || tx_view_decode_kept(&tx, encoded) != AMI_OK)
            continue;
        send_ack(n, s, b->tree, &b->block.header, &b->hash, &b->block.commit, &tx, index);
        return;
    }
}

void gateway_on_commit(struct node *n, const struct block_header *h, const sm3_digest *block,
                       const struct qc *commit, struct span body)
{
    struct body_reader it = body_reader_on(body);
    struct span encoded;
    bool planted = false;
    for (uint32_t index = 0; body_next(&it, &encoded); index++) {
        struct tx_view tx;
        if (tx_view_decode_kept(&tx, encoded) != AMI_OK || tx.tx.kind != TX_REPORT)
            continue;
        const struct report_meter_part *m = &tx.u.report.meter;
        struct pool_entry *e = pool_find_report(n->pool, &m->meter, m->epoch, m->sequence);
        struct gateway_session *s = e == NULL ? NULL : find_session(n, e->waiter);
        if (s == NULL || !s->confirmed)
            continue;
        if (!planted && !(planted = plant_tree(n->gateway->tree, body)))
            return; /* out of memory: the meters ask again */
        send_ack(n, s, n->gateway->tree, h, block, commit, &tx, index);
    }
}

/* --- reports -----------------------------------------------------------------------------------
 */

/* What checking the signatures of a whole job takes. */
struct report_checks {
    struct report_meter_message signed_bytes[NODE_REPORT_BATCH_MAX];
    struct sm3_message message[NODE_REPORT_BATCH_MAX];
    point p[NODE_REPORT_BATCH_MAX];
    sm3_digest e[NODE_REPORT_BATCH_MAX];
    sm2_signature sig[NODE_REPORT_BATCH_MAX];
    bool ok[NODE_REPORT_BATCH_MAX];
};

/* Whose signatures are good: all of the job's by one batch. AMI_NO_MEMORY. */
static enum ami_status reports_check(const struct report_job *j)
{
    const sm3_digest *chain = &j->node->c.genesis->members.chain;
    struct report_checks *c = malloc(sizeof *c);
    if (c == NULL)
        return AMI_NO_MEMORY;
    for (size_t i = 0; i < j->count; i++) {
        const struct report_item *r = j->item[i];
        c->p[i] = r->key->p;
        report_meter_message(&c->signed_bytes[i], &r->part, chain, r->key);
        c->message[i] = (struct sm3_message){c->signed_bytes[i].message.parts,
                                             c->signed_bytes[i].message.count};
        c->sig[i] = r->part.signature;
    }
    sm3_batch(c->e, c->message, j->count);
    const bool all = sm2_verify_batch(c->p, c->e, c->sig, c->ok, j->count) == AMI_OK;
    for (size_t i = 0; i < j->count; i++)
        j->item[i]->status = all || c->ok[i] ? AMI_OK : AMI_BAD_SIGNATURE;
    free(c);
    return AMI_OK;
}

/* A report's gateway part, but for its signature. */
struct report_made {
    struct report_gateway_part part;
    uint8_t sealed[AMI_SEALED_BYTES_MAX];
    struct report_gateway_message signed_bytes;
};

static void report_seal(const struct report_job *j, struct report_made *out,
                        const struct report_item *r, const struct seal_batch *batch)
{
    const struct node *n = j->node;
    const struct agree_key *self = j->key.agree;
    seal_report(out->sealed, batch, &n->c.genesis->members.chain, &self->name, &r->part.meter,
                r->part.epoch, r->part.sequence, span_of(r->plain, r->plain_size));
    out->part =
        (struct report_gateway_part){.c1 = batch->c1,
                                     .sealed = span_of(out->sealed, r->plain_size + GCM_TAG_BYTES),
                                     .timestamp_ms = j->timestamp_ms,
                                     .dc = self->name,
                                     .dc_epoch = self->epoch};
}

/* Reports [from, to) of the job, those that are good: sealed and signed together. */
static void reports_make(struct report_job *j, struct report_made made[REPORT_SIGN_BATCH],
                         size_t from, size_t to, const struct seal_batch *batch)
{
    const sm3_digest *chain = &j->node->c.genesis->members.chain;
    const struct sign_key *own = j->key.sign;
    struct report_item *item[REPORT_SIGN_BATCH];
    const sm2_private *key[REPORT_SIGN_BATCH] = {NULL};
    struct sm3_message message[REPORT_SIGN_BATCH] = {{0}};
    sm3_digest e[REPORT_SIGN_BATCH];
    sm2_signature sig[REPORT_SIGN_BATCH];
    uint8_t random[REPORT_SIGN_BATCH][SM2_WIDE_BYTES];
    size_t count = 0;
    for (size_t i = from; i < to; i++) {
        struct report_item *r = j->item[i];
        if (r->status != AMI_OK)
            continue;
        report_seal(j, &made[count], r, batch);
        struct report_gateway_message *m = &made[count].signed_bytes;
        report_gateway_message(m, &made[count].part, &r->part, chain, &own->public_key);
        message[count] = (struct sm3_message){m->message.parts, m->message.count};
        key[count] = &own->private_key;
        memcpy(random[count], r->random, SM2_WIDE_BYTES);
        item[count++] = r;
    }
    sm3_batch(e, message, count);
    sm2_sign_batch(sig, key, e, (const uint8_t(*)[SM2_WIDE_BYTES])random, count);
    for (size_t i = 0; i < count; i++) {
        struct writer w = writer_on(item[i]->tx, item[i]->plain_size + REPORT_TX_EXTRA);
        made[i].part.signature = sig[i];
        report_tx_encode(&w, &item[i]->part, &made[i].part);
        AMI_CHECK(writer_ok(&w));
        item[i]->tx_size = w.size;
    }
    secret_wipe(random, sizeof random);
}

static void report_run(void *job)
{
    struct report_job *j = job;
    struct seal_batch batch;
    struct report_made *made = malloc(REPORT_SIGN_BATCH * sizeof *made);
    enum ami_status status =
        made == NULL ? AMI_NO_MEMORY
                     : seal_batch_begin(&batch, &j->node->c.genesis->network.readings, j->random);
    const bool begun = status == AMI_OK;
    if (begun)
        status = reports_check(j);
    for (size_t from = 0; status == AMI_OK && from < j->count; from += REPORT_SIGN_BATCH) {
        const size_t left = j->count - from;
        reports_make(j, made, from, from + (left < REPORT_SIGN_BATCH ? left : REPORT_SIGN_BATCH),
                     &batch);
    }
    if (begun)
        secret_wipe(&batch, sizeof batch);
    for (size_t i = 0; status != AMI_OK && i < j->count; i++)
        j->item[i]->status = status;
    free(made);
    secret_wipe(j->random, sizeof j->random);
}

static void report_next(struct node *n)
{
    struct gateway *g = n->gateway;
    if (g->reporting != NULL || g->report_queue == NULL)
        return;
    struct report_job *j = calloc(1, sizeof *j);
    if (j == NULL)
        return;
    j->node = n;
    j->key = n->c.key;
    j->timestamp_ms = node_wall_ms(n);
    node_random(n, j->random, sizeof j->random);
    struct report_item *r = g->report_queue;
    for (; r != NULL && j->count < NODE_REPORT_BATCH_MAX; r = r->next) {
        node_random(n, r->random, sizeof r->random);
        j->item[j->count++] = r;
    }
    if (n->env.work(n->env.ctx, report_run, j) != AMI_OK) {
        free(j);
        return;
    }
    g->report_queue = r;
    if (r == NULL)
        g->report_last = NULL;
    g->report_waiting -= j->count;
    g->reporting = j;
}

static void report_made(struct node *n, const struct report_item *r)
{
    struct gateway_session *s = find_session(n, r->session);
    enum ami_status status = r->status;
    if (s != NULL)
        s->reports_waiting--;
    struct pool_entry *e = NULL;
    /* A block may have settled it while it was made ready, when the meter had asked another DC too:
     * then it must not enter the pool, where it would wait for ever. */
    if (status == AMI_OK)
        status = record_admits(registry_at(n->c.registry, r->meter), r->part.sequence);
    if (status == AMI_SEQUENCE_SETTLED && s != NULL && s->confirmed) {
        answer_settled(n, s, r->part.sequence);
        return;
    }
    if (status == AMI_OK && registry_at(n->c.registry, r->meter)->revoked_at != 0)
        status = AMI_REVOKED;
    if (status == AMI_OK && chain_read_only(n))
        status = AMI_FULL;
    if (status == AMI_OK) {
        status = pool_add(n->pool, span_of(r->tx, r->tx_size), n->self, true, node_now_us(n), &e);
        if (status == AMI_EXISTS) {
            e = pool_find_report(n->pool, &r->part.meter, r->part.epoch, r->part.sequence);
            status = AMI_OK;
        }
    }
    if (e != NULL)
        e->waiter = r->session;
    if (status == AMI_OK) {
        n->counters.reports++;
        return;
    }
    if (status == AMI_BAD_SIGNATURE)
        node_event_often(n, ENV_LOG_WARN, "report_refused", "meter=%s sequence=%llu status=%s",
                         r->part.meter.text, (unsigned long long)r->part.sequence,
                         ami_status_name(status));
    if (s != NULL && s->confirmed)
        send_nack(n, s, r->part.sequence, status);
}

static void report_done(struct node *n)
{
    struct report_job *j = n->gateway->reporting;
    n->gateway->reporting = NULL;
    for (size_t i = 0; i < j->count; i++) {
        report_made(n, j->item[i]);
        secret_wipe(j->item[i]->plain, j->item[i]->plain_size);
        secret_wipe(j->item[i]->random, sizeof j->item[i]->random);
        free(j->item[i]);
    }
    free(j);
    submit_hand_over(n);
    chain_work_pending(n);
    report_next(n);
}

static void on_report(struct node *n, struct gateway_session *s, struct span plain)
{
    struct gateway *g = n->gateway;
    struct report_submit q;
    if (report_submit_parse(&q, plain) != AMI_OK) {
        n->counters.frames_bad++;
        return;
    }
    const struct record *rec = registry_at(n->c.registry, s->meter);
    if (rec->revoked_at != 0) {
        say_ended(n, s->link, s->id, AMI_REVOKED);
        drop_session(n, s);
        return;
    }
    struct pool_entry *waiting = pool_find_report(n->pool, &rec->name, rec->epoch, q.sequence);
    if (waiting != NULL) {
        waiting->waiter = s->id;
        return;
    }
    enum ami_status status = record_admits(rec, q.sequence);
    if (status == AMI_SEQUENCE_SETTLED) {
        answer_settled(n, s, q.sequence);
        return;
    }
    /* What cannot become durable here cannot be acknowledged here: the meter had better hear it. */
    if (status == AMI_OK && chain_read_only(n))
        status = AMI_FULL;
    const struct verify_key *key = registry_key(n->c.registry, rec);
    if (status == AMI_OK && (g->report_waiting >= NODE_REPORT_QUEUE_MAX ||
                             s->reports_waiting >= NODE_REPORTS_PER_SESSION || key == NULL))
        status = AMI_AGAIN;
    if (status != AMI_OK) {
        send_nack(n, s, q.sequence, status);
        return;
    }
    size_t plain_size = SALT_BYTES + q.report.size;
    struct report_item *r = calloc(1, sizeof *r + 2 * plain_size + REPORT_TX_EXTRA);
    if (r == NULL) {
        send_nack(n, s, q.sequence, AMI_AGAIN);
        return;
    }
    r->session = s->id;
    r->meter = s->meter;
    r->key = key;
    r->plain_size = plain_size;
    r->tx = r->plain + plain_size;
    memcpy(r->plain, q.salt, SALT_BYTES);
    memcpy(r->plain + SALT_BYTES, q.report.data, q.report.size);
    r->part = (struct report_meter_part){.meter = rec->name,
                                         .epoch = rec->epoch,
                                         .sequence = q.sequence,
                                         .commitment = report_commitment(q.salt, q.report),
                                         .signature = q.signature};
    if (g->report_last == NULL)
        g->report_queue = r;
    else
        g->report_last->next = r;
    g->report_last = r;
    g->report_waiting++;
    s->reports_waiting++;
    report_next(n);
}

static void on_data(struct node *n, struct node_link *l, const struct session_data *d)
{
    struct gateway_session *s = find_session(n, d->session);
    if (s == NULL || !s->confirmed) {
        say_ended(n, l->id, d->session, AMI_NO_SESSION);
        return;
    }
    uint8_t plain[AMI_FRAME_METER_BYTES_MAX];
    size_t size = 0;
    enum ami_status status = session_open(&s->u.session, plain, &size, d, now_s(n));
    if (status == AMI_OK) {
        if (s->link != l->id)
            set_link(n, s, l->id); /* a meter may come back on another link */
        l->known = true;
        if (d->kind == DATA_REPORT_SUBMIT)
            on_report(n, s, span_of(plain, size));
    } else if (status == AMI_SESSION_ENDED || status == AMI_SEQUENCE_AHEAD) {
        say_ended(n, l->id, s->id, status);
        /* The number that says so may be anybody's: only time and the numbers that were proven end
         * a session. The meter that is told so agrees anew, which replaces this one. */
        if (session_check(&s->u.session, now_s(n)) != AMI_OK)
            drop_session(n, s);
    } else {
        n->counters.frames_bad++; /* a forged or repeated message changes nothing */
    }
    secret_wipe(plain, size);
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
            on_flight1(n, l, &f);
    } else if (l->state == LINK_READY && !l->enrol_only && type == MSG_AGREE_FLIGHT3) {
        struct agree_flight3 f;
        if ((status = agree_flight3_parse(&f, body)) == AMI_OK)
            on_flight3(n, l, &f);
    } else if (l->state == LINK_READY && !l->enrol_only && type == MSG_SESSION_DATA) {
        struct session_data d;
        if ((status = session_data_parse(&d, body)) == AMI_OK)
            on_data(n, l, &d);
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
        if (s->confirmed)
            set_link(n, s, 0);
        else
            drop_session(n, s);
    }
}

bool gateway_on_work(struct node *n, void *job)
{
    struct gateway *g = n->gateway;
    if (g->agreeing != NULL && job == g->agreeing)
        agree_done(n);
    else if (g->reporting != NULL && job == g->reporting)
        report_done(n);
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
    if (n->c.genesis->parameters.gateway != GATEWAY_LEADER || !other_leads(n, &leader))
        return;
    struct gateway_session *s, *tmp;
    HASH_ITER(by_id, n->gateway->sessions, s, tmp)
    {
        if (s->insist)
            continue;
        say_ended(n, s->link, s->id, AMI_NOT_LEADER);
        drop_session(n, s);
    }
}

void gateway_on_revoked(struct node *n)
{
    struct gateway_session *s, *tmp;
    HASH_ITER(by_id, n->gateway->sessions, s, tmp)
    {
        if (registry_at(n->c.registry, s->meter)->revoked_at == 0)
            continue;
        say_ended(n, s->link, s->id, AMI_REVOKED);
        drop_session(n, s);
    }
}

uint64_t gateway_on_time(struct node *n)
{
    struct gateway *g = n->gateway;
    uint64_t now = node_now_us(n);
    agree_next(n);
    report_next(n);
    if (now < g->scan_us)
        return g->scan_us;
    g->scan_us = now + SESSION_SCAN_US;
    struct gateway_session *s, *tmp;
    HASH_ITER(by_id, g->sessions, s, tmp)
    {
        if (!s->confirmed) {
            if (now - s->opened_us >= OPENING_US)
                drop_session(n, s);
            continue;
        }
        session_expire(&s->u.session, now_s(n));
        enum ami_status status = session_check(&s->u.session, now_s(n));
        if (status != AMI_OK) {
            say_ended(n, s->link, s->id, status);
            drop_session(n, s);
        }
    }
    return g->scan_us;
}

/* What dc-cli shows of a meter here. */
bool gateway_session_of(struct node *n, uint64_t meter, struct gateway_session **out)
{
    struct gateway_meter *m = meter_of(n, meter, false);
    *out = m == NULL ? NULL : m->current;
    return *out != NULL;
}
