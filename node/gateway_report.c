#include "node/gateway_internal.h"

#define SALT_BYTES      16
#define REPORT_TX_EXTRA 640 /* what a transaction holds beside the sealed report */
/* Reports that are sealed and signed together. */
#define REPORT_SIGN_BATCH 32

struct report_item {
    struct report_item *next;
    uint64_t session;
    uint64_t meter; /* index in the registry */
    const struct verify_key *key;
    struct report_meter_part part;
    enum ami_status status;
    size_t plain_size; /* salt || m */
    size_t tx_size;
    uint8_t *tx; /* behind plain */
    uint8_t plain[];
};

struct report_job {
    const struct node *node;
    struct node_key key; /* own, as it was when the job began */
    int64_t timestamp_ms;
    size_t count;
    struct report_item *item[NODE_REPORT_BATCH_MAX];
    uint8_t random[][SM2_WIDE_BYTES]; /* of the batch's sealing, then of each item's signature */
};

static void item_free(struct report_item *r)
{
    secret_wipe(r->plain, r->plain_size);
    free(r);
}

void gateway_report_free(struct gateway *g)
{
    struct report_item *r, *tmp;
    LL_FOREACH_SAFE(g->report_queue, r, tmp)
    {
        item_free(r);
    }
    for (size_t i = 0; g->reporting != NULL && i < g->reporting->count; i++)
        item_free(g->reporting->item[i]);
    if (g->reporting != NULL)
        secret_wipe(g->reporting->random,
                    (1 + g->reporting->count) * sizeof(uint8_t[SM2_WIDE_BYTES]));
    free(g->reporting);
}

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
        memcpy(random[count], j->random[1 + i], SM2_WIDE_BYTES);
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
        made == NULL
            ? AMI_NO_MEMORY
            : seal_batch_begin(&batch, &j->node->c.genesis->network.readings, j->random[0]);
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
    secret_wipe(j->random, (1 + j->count) * sizeof j->random[0]);
}

void gateway_report_next(struct node *n)
{
    struct gateway *g = n->gateway;
    if (g->reporting != NULL || g->report_queue == NULL)
        return;
    const size_t count =
        g->report_waiting < NODE_REPORT_BATCH_MAX ? g->report_waiting : NODE_REPORT_BATCH_MAX;
    const size_t random = (1 + count) * sizeof(uint8_t[SM2_WIDE_BYTES]);
    struct report_job *j = malloc(sizeof *j + random);
    if (j == NULL)
        return;
    j->node = n;
    j->key = n->c.key;
    j->timestamp_ms = node_wall_ms(n);
    node_random(n, j->random, random);
    struct report_item *r = g->report_queue;
    for (j->count = 0; j->count < count; r = r->next)
        j->item[j->count++] = r;
    if (n->env.work(n->env.ctx, report_run, j) != AMI_OK) {
        secret_wipe(j->random, random);
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
    struct gateway_session *s = gateway_find_session(n, r->session);
    enum ami_status status = r->status;
    if (s != NULL)
        s->reports_waiting--;
    struct pool_entry *e = NULL;
    /* A block may have settled it while it was made ready, when the meter had asked another DC too:
     * then it must not enter the pool, where it would wait for ever. */
    if (status == AMI_OK)
        status = record_admits(registry_at(n->c.registry, r->meter), r->part.sequence);
    if (status == AMI_SEQUENCE_SETTLED && s != NULL && s->state == SESSION_CONFIRMED) {
        gateway_answer_settled(n, s, r->part.sequence);
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
    if (s != NULL && s->state == SESSION_CONFIRMED)
        gateway_nack(n, s, r->part.sequence, status);
}

void gateway_report_done(struct node *n)
{
    struct report_job *j = n->gateway->reporting;
    n->gateway->reporting = NULL;
    for (size_t i = 0; i < j->count; i++) {
        report_made(n, j->item[i]);
        item_free(j->item[i]);
    }
    free(j);
    submit_hand_over(n);
    chain_work_pending(n);
    gateway_report_next(n);
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
        gateway_say_ended(n, s->link, s->id, AMI_REVOKED);
        gateway_drop_session(n, s);
        return;
    }
    struct pool_entry *waiting = pool_find_report(n->pool, &rec->name, rec->epoch, q.sequence);
    if (waiting != NULL) {
        waiting->waiter = s->id;
        return;
    }
    enum ami_status status = record_admits(rec, q.sequence);
    if (status == AMI_SEQUENCE_SETTLED) {
        gateway_answer_settled(n, s, q.sequence);
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
        gateway_nack(n, s, q.sequence, status);
        return;
    }
    size_t plain_size = SALT_BYTES + q.report.size;
    struct report_item *r = calloc(1, sizeof *r + 2 * plain_size + REPORT_TX_EXTRA);
    if (r == NULL) {
        gateway_nack(n, s, q.sequence, AMI_AGAIN);
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
    gateway_report_next(n);
}

void gateway_on_data(struct node *n, struct node_link *l, const struct session_data *d)
{
    struct gateway_session *s = gateway_find_session(n, d->session);
    if (s == NULL || s->state != SESSION_CONFIRMED) {
        gateway_say_ended(n, l->id, d->session, AMI_NO_SESSION);
        return;
    }
    uint8_t plain[AMI_FRAME_METER_BYTES_MAX];
    size_t size = 0;
    enum ami_status status = session_open(&s->u.session, plain, &size, d, gateway_now_s(n));
    if (status == AMI_OK) {
        if (s->link != l->id)
            gateway_set_link(n, s, l->id); /* a meter may come back on another link */
        l->known = true;
        if (d->kind == DATA_REPORT_SUBMIT)
            on_report(n, s, span_of(plain, size));
    } else if (status == AMI_SESSION_ENDED || status == AMI_SEQUENCE_AHEAD) {
        gateway_say_ended(n, l->id, s->id, status);
        /* The number that says so may be anybody's: only time and the numbers that were proven end
         * a session. The meter that is told so agrees anew, which replaces this one. */
        if (session_check(&s->u.session, gateway_now_s(n)) != AMI_OK)
            gateway_drop_session(n, s);
    } else {
        n->counters.frames_bad++; /* a forged or repeated message changes nothing */
    }
    secret_wipe(plain, size);
}
