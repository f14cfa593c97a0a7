/* node/submit.c - transactions on their way to the ledger, and rule 8 of consensus.md.
 *
 * In: what the own gateway made (already checked), and TX_SUBMIT from other DCs and the MDMS, which
 * is parsed here and whose signatures the work pool checks before anything enters the pool. Out:
 * to the leader at once, to every DC after half of T_progress; and to the replica, when a
 * transaction within its source's quota has waited for T_progress.
 */
#include "node/internal.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

/* Handed-over transactions whose signatures are to be checked: parsed views over one copy of the
 * frame. The keys are resolved on the loop; `run` only computes. */
struct check_job {
    struct node *node;
    struct check_job *next;
    uint8_t source;
    bool own;
    size_t count;
    struct tx_view tx[NODE_CHECK_BATCH_MAX];
    struct tx_check check[NODE_CHECK_BATCH_MAX];
    enum ami_status status[NODE_CHECK_BATCH_MAX];
    uint8_t bytes[];
};

static void check_run(void *job)
{
    struct check_job *j = job;
    _Static_assert(NODE_CHECK_BATCH_MAX <= TX_CHECK_BATCH, "one batch");
    tx_check_run_batch(j->check, j->tx, j->status, j->count);
}

/* The sources take turns, so that none of them makes another's frames wait for long. */
static struct check_job *next_queued(struct node *n)
{
    for (unsigned i = 0; i < POOL_SOURCES; i++) {
        n->check_turn = (uint8_t)((n->check_turn + 1) % POOL_SOURCES);
        if (n->check_queue[n->check_turn] != NULL)
            return n->check_queue[n->check_turn];
    }
    return NULL;
}

/* Gives a queued job to the work pool when none is there. */
static void check_next(struct node *n)
{
    struct check_job *j = n->checking == NULL ? next_queued(n) : NULL;
    if (j == NULL)
        return;
    /* The registry's answer is taken now, as late as possible: an enrolment may have been committed
     * while the job waited. */
    for (size_t i = 0; i < j->count; i++) {
        j->status[i] = registry_admits(n->c.registry, &j->tx[i]);
        if (j->status[i] == AMI_OK)
            j->status[i] = registry_check_prepare(n->c.registry, &j->tx[i], &j->check[i]);
    }
    if (n->env.work(n->env.ctx, check_run, j) != AMI_OK)
        return;
    n->checking = j;
    LL_DELETE(n->check_queue[j->source], j);
    n->check_queued[j->source]--;
}

void submit_on_frame(struct node *n, struct node_link *l, struct span body)
{
    static struct tx_submit s; /* 64 spans: kept off the stack; the loop is one thread */
    if (tx_submit_parse(&s, body) != AMI_OK) {
        n->counters.frames_bad++;
        node_close(n, l->id);
        return;
    }
    const uint8_t source = l->role == 2 ? l->member : POOL_SOURCE_MDMS;
    if (n->check_queued[source] >= NODE_CHECK_QUEUE_MAX)
        return; /* the sender hands them over again */
    struct check_job *j = calloc(1, sizeof *j + body.size);
    if (j == NULL)
        return;
    memcpy(j->bytes, body.data, body.size);
    AMI_CHECK(tx_submit_parse(&s, span_of(j->bytes, body.size)) == AMI_OK);
    j->node = n;
    j->own = l->role != 2;
    for (uint16_t i = 0; i < s.txs_count && i < NODE_CHECK_BATCH_MAX; i++) {
        if (tx_view_decode(&j->tx[j->count], s.txs[i].encoded) != AMI_OK) {
            n->counters.txs_refused++;
            continue;
        }
        if (pool_find(n->pool, &j->tx[j->count]) == NULL)
            j->count++;
    }
    j->source = source;
    if (j->count == 0) {
        free(j);
        return;
    }
    LL_APPEND(n->check_queue[source], j);
    n->check_queued[source]++;
    check_next(n);
}

bool submit_on_work(struct node *n, void *job)
{
    if (n->checking == NULL || job != n->checking)
        return false;
    struct check_job *j = n->checking;
    n->checking = NULL;
    for (size_t i = 0; i < j->count; i++) {
        /* A block may have settled it while its signatures were checked: a transaction that can
         * never be committed would wait for ever, and depose one leader after the other. */
        if (j->status[i] == AMI_OK)
            j->status[i] = registry_admits(n->c.registry, &j->tx[i]);
        if (j->status[i] != AMI_OK) {
            n->counters.txs_refused++;
            if (j->status[i] != AMI_SEQUENCE_SETTLED && j->status[i] != AMI_EXISTS)
                node_event_often(n, ENV_LOG_WARN, "tx_refused", "source=%u kind=%u status=%s",
                                 j->source, j->tx[i].tx.kind, ami_status_name(j->status[i]));
            continue;
        }
        n->counters.txs_handed_in++;
        struct pool_entry *e = NULL;
        /* EXISTS is no loss; AGAIN: the sender still has it. */
        if (pool_add(n->pool, j->tx[i].encoded, j->source, j->own, node_now_us(n), &e) != AMI_OK)
            n->counters.txs_not_taken++;
    }
    free(j);
    submit_hand_over(n);
    chain_work_pending(n);
    check_next(n);
    node_alarm(n);
    return true;
}

/* Sends the chosen transactions of the pool in frames of up to 64. */
static void hand_to(struct node *n, uint8_t member,
                    bool (*wanted)(const struct node *n, const struct pool_entry *e))
{
    static struct tx_submit s;
    size_t bytes = 0;
    s.chain = n->c.genesis->members.chain;
    s.txs_count = 0;
    for (struct pool_entry *e = pool_first(n->pool); e != NULL; e = pool_next(e)) {
        if (!wanted(n, e))
            continue;
        s.txs[s.txs_count++].encoded = e->view.encoded;
        bytes += e->view.encoded.size;
        if (s.txs_count < NODE_CHECK_BATCH_MAX && bytes < NODE_SERVE_BYTES_MAX)
            continue;
        struct writer w = node_frame(n, MSG_TX_SUBMIT);
        tx_submit_encode(&w, &s);
        peers_send(n, member, writer_span(&w));
        s.txs_count = 0;
        bytes = 0;
    }
    if (s.txs_count == 0)
        return;
    struct writer w = node_frame(n, MSG_TX_SUBMIT);
    tx_submit_encode(&w, &s);
    peers_send(n, member, writer_span(&w));
}

static bool not_with_this_leader(const struct node *n, const struct pool_entry *e)
{
    return e->own && e->handed_term != replica_term(n->replica);
}

/* Only those whose timers run, and evidence, of which there is little: under overload everything
 * waits for long, and to hand all of it to everybody again and again would be the end of it. */
static bool is_watched(const struct pool_entry *e)
{
    return pool_timed(e) || e->view.tx.kind == TX_EVIDENCE;
}

static bool long_waiting(const struct node *n, const struct pool_entry *e)
{
    return e->own && is_watched(e) && submit_half_time(n, e) <= node_now_us(n);
}

/* Somebody else's transaction that still waits: perhaps the leader never got it, and would be
 * deposed for what it does not know. */
static bool foreign_long_waiting(const struct node *n, const struct pool_entry *e)
{
    return !e->own && is_watched(e) && submit_half_time(n, e) <= node_now_us(n);
}

uint64_t submit_half_time(const struct node *n, const struct pool_entry *e)
{
    uint64_t from = e->handed_us > e->arrived_us ? e->handed_us : e->arrived_us;
    return from + (uint64_t)n->c.genesis->parameters.progress_timeout_ms * 500u;
}

static bool is_handed_now(const struct node *n, const struct pool_entry *e)
{
    return e->handed_batch == n->hand_batch;
}

/* No more than the leader takes from one source: what does not fit there it drops, and that would
 * come again only when it has waited for long, a quota's worth at a time. The rest follows as these
 * are committed. */
void submit_hand_over(struct node *n)
{
    uint8_t leader;
    if (!replica_leader(n->replica, &leader) || leader == n->self)
        return;
    if (n->to_member[leader] == 0)
        return;
    const uint64_t term = replica_term(n->replica);
    size_t max = n->c.pool_txs_max / POOL_FOREIGN_PART, there = 0, now = 0;
    if (max > NODE_CHECK_QUEUE_MAX * NODE_CHECK_BATCH_MAX)
        max = NODE_CHECK_QUEUE_MAX * NODE_CHECK_BATCH_MAX;
    struct pool_entry *e;
    for (e = pool_first(n->pool); e != NULL; e = pool_next(e))
        there += e->own && e->handed_term == term;
    n->hand_batch++;
    for (e = pool_first(n->pool); e != NULL && there + now < max; e = pool_next(e)) {
        if (!not_with_this_leader(n, e))
            continue;
        e->handed_term = term;
        e->handed_batch = n->hand_batch;
        now++;
    }
    if (now > 0)
        hand_to(n, leader, is_handed_now);
}

void submit_on_peer(struct node *n, uint8_t member)
{
    uint8_t leader;
    if (!replica_leader(n->replica, &leader) || leader != member)
        return;
    /* What was sent on the link that broke may be lost. */
    for (struct pool_entry *e = pool_first(n->pool); e != NULL; e = pool_next(e))
        e->handed_term = 0;
    submit_hand_over(n);
}

void submit_on_epoch(struct node *n)
{
    submit_prune(n); /* evidence of the old epoch */
    for (struct pool_entry *e = pool_first(n->pool); e != NULL; e = pool_next(e))
        e->handed_term = 0;
    pool_restart_timers(n->pool, node_now_us(n));
}

/* For ever: neither now nor when others are on the ledger can it be committed. */
static bool is_void(const struct node *n, const struct pool_entry *e)
{
    enum ami_status s = registry_admits(n->c.registry, &e->view);
    return s != AMI_OK && s != AMI_SEQUENCE_AHEAD;
}

/* A retention whose watermark lies too near the tip: the MDMS stood at a later block than this DC
 * does. No leader could commit it as the next block. */
static bool is_early(const struct pool_entry *e, uint64_t tip_height)
{
    return e->view.tx.kind == TX_RETENTION &&
           !retention_fits(e->view.u.retention.below, tip_height + 1);
}

/* After a commit, and at the start: where the MDMS's numbers stand. The next one can be judged now;
 * one that no block will ever take must not hold up its successors here. */
void submit_on_commit(struct node *n)
{
    uint64_t last = registry_at(n->c.registry, 0)->floor;
    pool_set_number(n->pool, last, node_now_us(n));
    struct pool_entry *e = pool_find_number(n->pool, last + 1);
    if (e != NULL && is_void(n, e))
        pool_remove(n->pool, e, node_now_us(n));
    else if (e != NULL && is_early(e, registry_height(n->c.registry) - 1))
        pool_restart_timer(e, node_now_us(n)); /* it was so before this block */
}

/* After a commit that revoked or skipped something: drop whatever can no longer be admitted. */
void submit_prune(struct node *n)
{
    struct pool_entry *next;
    for (struct pool_entry *e = pool_first(n->pool); e != NULL; e = next) {
        next = pool_next(e);
        /* Numbered ones are judged when it is their turn; removing one would move others. */
        if (e->number == 0 && is_void(n, e))
            pool_remove(n->pool, e, node_now_us(n));
    }
}

static uint64_t progress_us(const struct node *n)
{
    return (uint64_t)n->c.genesis->parameters.progress_timeout_ms * 1000u;
}

/* Evidence against the leader of the day, which it keeps off the ledger, speaks against it like any
 * transaction that waits. */
static uint64_t evidence_deadline_us(const struct node *n)
{
    uint8_t leader;
    if (!replica_leader(n->replica, &leader) || leader == n->self)
        return UINT64_MAX;
    return pool_evidence_deadline_us(n->pool, leader, progress_us(n));
}

/* Rule 12: the replica found this. */
void submit_evidence(struct node *n, struct span encoded)
{
    struct evidence e;
    uint8_t bytes[AMI_TX_BYTES_MAX];
    struct writer w = writer_on(bytes, sizeof bytes);
    AMI_CHECK(evidence_parse(&e, encoded) == AMI_OK);
    evidence_tx_encode(&w, &e);
    AMI_CHECK(writer_ok(&w));
    struct tx_view tx;
    enum ami_status status = tx_view_parse(&tx, writer_span(&w));
    if (status == AMI_OK)
        status = registry_admits(n->c.registry, &tx);
    if (status == AMI_OK)
        status = pool_add(n->pool, tx.encoded, n->self, true, node_now_us(n), NULL);
    if (status != AMI_OK && status != AMI_EXISTS)
        node_event_often(n, ENV_LOG_WARN, "evidence_not_handed_in", "status=%s",
                         ami_status_name(status));
}

/* Rule 8: what could have been committed and was not speaks against the leader; what could not has
 * no place here. */
void submit_judge(struct node *n)
{
    uint64_t now = node_now_us(n);
    struct pool_entry *e;
    while ((e = pool_expired(n->pool, progress_us(n), now)) != NULL) {
        /* A change of membership that came while another one is pending: no leader can commit it
         * now. The MDMS hands it in again. */
        if (is_early(e, registry_height(n->c.registry))) {
            pool_restart_timer(e, now);
            continue;
        }
        const bool early = e->view.tx.kind == TX_MEMBERSHIP && n->has_next;
        if (!early && !is_void(n, e)) {
            chain_progress(n, true);
            return;
        }
        n->counters.txs_refused++;
        pool_remove(n->pool, e, now);
    }
    const uint64_t due_us = chain_epoch_due_us(n), evidence_us = evidence_deadline_us(n);
    chain_progress(n, due_us <= now || evidence_us <= now);
}

/* Hands on what has waited for half of T_progress; returns when the next one will have. */
static uint64_t hand_on(struct node *n)
{
    /* What arrives later is due later than that. */
    uint64_t now = node_now_us(n), next = now + progress_us(n) / 2;
    if (now < n->hand_on_us)
        return n->hand_on_us;
    uint8_t leader;
    bool own = false, foreign = false;
    for (struct pool_entry *e = pool_first(n->pool); e != NULL; e = pool_next(e)) {
        own |= long_waiting(n, e);
        foreign |= foreign_long_waiting(n, e);
    }
    for (uint8_t i = 0; own && i < n->committee.members.count; i++)
        if (i != n->self && n->to_member[i] != 0)
            hand_to(n, i, long_waiting);
    if (foreign && replica_leader(n->replica, &leader) && leader != n->self &&
        n->to_member[leader] != 0)
        hand_to(n, leader, foreign_long_waiting);
    for (struct pool_entry *e = pool_first(n->pool); e != NULL; e = pool_next(e)) {
        if (!is_watched(e))
            continue;
        if (submit_half_time(n, e) <= now)
            e->handed_us = now;
        if (submit_half_time(n, e) < next)
            next = submit_half_time(n, e);
    }
    n->hand_on_us = next;
    return next;
}

uint64_t submit_on_time(struct node *n)
{
    uint64_t now = node_now_us(n);
    check_next(n);
    uint64_t next = hand_on(n);
    uint64_t deadline = pool_progress_deadline_us(n->pool, progress_us(n));
    if (chain_epoch_due_us(n) < deadline)
        deadline = chain_epoch_due_us(n);
    if (evidence_deadline_us(n) < deadline)
        deadline = evidence_deadline_us(n);
    if (deadline <= now) {
        submit_judge(n);
        deadline = now + NODE_TICK_US;
    }
    return deadline < next ? deadline : next;
}

void submit_free(struct node *n)
{
    free(n->checking); /* the work pool is over */
    for (unsigned i = 0; i < POOL_SOURCES; i++) {
        struct check_job *j, *tmp;
        LL_FOREACH_SAFE(n->check_queue[i], j, tmp)
        {
            free(j);
        }
        n->check_queue[i] = NULL;
    }
}
