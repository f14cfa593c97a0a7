/* node/chain.c - the replica's effects carried out on this node's registry, store and links.
 *
 *   message, instant, finished work -> replica_step -> effects
 *     persist   registry changes and blocks into one node_write -> env.store -> PERSISTED
 *     send      to the members' links
 *     validate  header here, signatures in the work pool, registry here -> VALIDATED
 *     build     waiting transactions, staged one by one -> BUILT
 *     deliver   pool and gateway are told
 *
 * Signatures of blocks that were fetched and wait are checked ahead of their turn.
 *
 * The registry has one staged block at most: the one validated or built last on the present tip.
 */
#include "node/internal.h"

#include "crypto/secret.h"
#include "ledger/evidence.h"

#include <stdlib.h>
#include <string.h>

/* A validation on its way through the work pool; header and body belong to the replica, except of
 * one that began ahead of its turn. */
struct validate_job {
    const struct block_header *header;
    sm3_digest block;
    struct span body;
    struct block_check *check;
    enum ami_status status;
    uint32_t bad_index;
    /* Ahead of its turn only: */
    uint8_t *copy; /* the body that is checked */
    size_t copy_size;
    uint64_t height;
    bool done;
};

struct chain {
    void *memory; /* the replica's */
    struct effects fx;
    uint64_t deadline_us;
    bool staged;
    sm3_digest staged_block;
    struct validate_job *validating;
    struct validate_job *ahead[NODE_AHEAD_MAX];
    struct node_write *writing;
    uint64_t writing_since_us;
    bool disk_slow;
    bool read_only;       /* the disk is full: see note_disk */
    bool disk_said;       /* what the replica was told of the disk */
    enum ami_status disk; /* of the last write that ended */
    uint64_t disk_since_us;
    bool work_said;
    bool progress_said;
    bool evidence_new; /* waits to be handed over */
    bool delivered;    /* a block: its transactions make room at the leader */
    bool new_leader;   /* was seen: the timers of waiting transactions start anew */
    uint64_t height;
    sm3_digest tip;
    int64_t tip_timestamp_ms;
    uint64_t tip_since_us;
    uint8_t *body; /* of the block that is being built */
};

static void step(struct node *n, struct replica_event *e);

/* --- start and end ---------------------------------------------------------------------------- */

/* The replica of the present epoch, on the tip. */
static enum ami_status make_replica(struct node *n, const struct vote_record *record,
                                    const struct qc *tip_commit, uint64_t known_height)
{
    struct chain *c = n->chain;
    struct replica_config config = {.members = &n->committee.members,
                                    .parameters = &n->c.genesis->parameters,
                                    .key = n->c.key.sign,
                                    .self = n->self,
                                    .rules_off = n->c.rules_off,
                                    .now_us = node_now_us(n),
                                    .may_sign = n->c.key.may_sign && n->self != AMI_MEMBERS_MAX,
                                    .starts = n->c.key.starts,
                                    .begun = n->c.key.begun,
                                    .record = record,
                                    .first_height = n->committee.from,
                                    .known_height = known_height,
                                    .tip_height = c->height,
                                    .tip = c->tip,
                                    .tip_timestamp_ms = c->tip_timestamp_ms,
                                    .tip_commit = tip_commit};
    node_random(n, config.seed, sizeof config.seed);
    enum ami_status status = replica_init(&n->replica, c->memory, &config);
    secret_wipe(config.seed, sizeof config.seed);
    return status;
}

bool chain_init(struct node *n)
{
    struct chain *c = n->chain = calloc(1, sizeof *n->chain);
    if (c == NULL)
        return false;
    c->memory = calloc(1, replica_size(&n->c.genesis->parameters));
    c->body = malloc(n->c.genesis->parameters.block_bytes_max);
    if (c->memory == NULL || c->body == NULL)
        return false;
    c->height = n->c.height;
    c->tip = n->c.tip;
    c->tip_timestamp_ms = n->c.tip_timestamp_ms;
    c->deadline_us = c->tip_since_us = node_now_us(n);
    n->start_status = epoch_init(n, c->height);
    if (n->start_status == AMI_OK)
        n->start_status = make_replica(n, n->c.record, n->c.tip_commit, 0);
    return n->start_status == AMI_OK;
}

static void free_validation(struct validate_job *j)
{
    if (j == NULL)
        return;
    block_check_free(j->check);
    free(j->copy);
    free(j);
}

void chain_free(struct node *n)
{
    struct chain *c = n->chain;
    if (c == NULL)
        return;
    /* The shell has ended the work pool and the storage thread. */
    free_validation(c->validating);
    for (size_t i = 0; i < NODE_AHEAD_MAX; i++)
        free_validation(c->ahead[i]);
    if (c->writing != NULL)
        write_free(c->writing);
    if (c->memory != NULL)
        secret_wipe(c->memory, replica_size(&n->c.genesis->parameters));
    free(c->memory);
    free(c->body);
    free(c);
    n->chain = NULL;
}

/* --- persist ---------------------------------------------------------------------------------- */

static void drop_stage(struct node *n)
{
    if (registry_staged(n->c.registry))
        registry_stage_drop(n->c.registry);
    n->chain->staged = false;
}

bool chain_is_writing(const struct node *n)
{
    return n->chain->writing != NULL;
}

/* A commit is on its way to the disk: its block must stay staged until it is there. */
static bool commit_in_flight(const struct chain *c)
{
    return c->writing != NULL && c->writing->commits;
}

/* Makes `block` the staged one. It was valid on this tip before, so it is again. False: out of
 * memory. */
static bool stage_again(struct node *n, const struct block_header *h, const sm3_digest *block,
                        struct span body)
{
    struct chain *c = n->chain;
    if (c->staged && sm3_equal(&c->staged_block, block))
        return true;
    drop_stage(n);
    uint32_t bad;
    enum ami_status status = block_stage(n->c.registry, h, body, &bad);
    AMI_CHECK(status == AMI_OK || status == AMI_NO_MEMORY);
    c->staged = status == AMI_OK;
    c->staged_block = *block;
    return c->staged;
}

/* A full disk makes the node read-only: it serves what it has, takes no reports, does not lead and
 * signs nothing. The replica goes on trying the write that failed; the first that succeeds ends it.
 */
static void note_disk(struct node *n, enum ami_status status)
{
    struct chain *c = n->chain;
    if (c->disk == AMI_OK && status != AMI_OK)
        c->disk_since_us = node_now_us(n);
    c->disk = status;
    if (status == AMI_FULL && !c->read_only) {
        c->read_only = true;
        node_event(n, ENV_LOG_ERROR, "read_only",
                   "the ledger has no room for what comes next: free space on its file system, or "
                   "start with a greater --map-bytes; what it has stays and is served");
    }
    if (status == AMI_OK) {
        c->disk_slow = false;
        if (c->read_only)
            node_event(n, ENV_LOG_INFO, "read_only_over", "after_ms=%llu",
                       (unsigned long long)((node_now_us(n) - c->disk_since_us) / 1000));
        c->read_only = false;
    }
}

static void tell_disk(struct node *n)
{
    struct chain *c = n->chain;
    if (c->disk_said == (c->disk_slow || c->read_only))
        return;
    c->disk_said = !c->disk_said;
    struct replica_event e = {.type = REPLICA_DISK, .u.flag = c->disk_said};
    step(n, &e);
}

bool chain_read_only(const struct node *n)
{
    return n->chain->read_only;
}

enum ami_status chain_disk(const struct node *n, uint64_t *since_us)
{
    const struct chain *c = n->chain;
    *since_us = c->disk_slow ? c->writing_since_us : c->disk_since_us;
    return c->disk == AMI_OK && c->disk_slow ? AMI_TIMEOUT : c->disk;
}

/* False: it could not even be begun; the caller answers PERSISTED with *status. */
static bool persist(struct node *n, enum ami_status *status)
{
    struct chain *c = n->chain;
    AMI_CHECK(c->writing == NULL);
    const struct effects *fx = &c->fx;
    struct node_write *w = NULL;
    if (!fx->persist.commit ||
        stage_again(n, fx->persist.header, &fx->persist.block, fx->persist.block_body))
        w = write_make(n, fx);
    *status = w == NULL ? AMI_NO_MEMORY : n->env.store(n->env.ctx, w);
    if (*status != AMI_OK) {
        if (w != NULL)
            write_free(w);
        return false;
    }
    c->writing = w;
    c->writing_since_us = node_now_us(n);
    return true;
}

/* Of heights that are committed. One that the pool still has comes back first. */
static void forget_ahead(struct chain *c)
{
    for (size_t i = 0; i < NODE_AHEAD_MAX; i++) {
        if (c->ahead[i] == NULL || !c->ahead[i]->done || c->ahead[i]->height > c->height)
            continue;
        free_validation(c->ahead[i]);
        c->ahead[i] = NULL;
    }
}

void chain_on_stored(struct node *n, struct node_write *w, enum ami_status status)
{
    struct chain *c = n->chain;
    AMI_CHECK(w == c->writing);
    c->writing = NULL;
    note_disk(n, status);
    if (status == AMI_OK)
        prune_saved(n, w->batch.retention);
    if (w->commits && status == AMI_OK) {
        AMI_CHECK(c->staged);
        registry_stage_commit(n->c.registry);
        c->staged = false;
        c->height = w->height;
        c->tip = w->tip;
        c->tip_timestamp_ms = w->timestamp_ms;
        c->tip_since_us = node_now_us(n);
        n->counters.blocks_applied++;
        forget_ahead(c);
    }
    struct replica_event e = {.type = REPLICA_PERSISTED};
    e.u.persisted.ticket = w->ticket;
    e.u.persisted.status = status;
    write_free(w);
    step(n, &e);
    tell_disk(n);
}

/* --- validate --------------------------------------------------------------------------------- */

static void answer_validated(struct node *n, const sm3_digest *block, enum ami_status status)
{
    struct replica_event e = {.type = REPLICA_VALIDATED};
    e.u.validated.block = *block;
    e.u.validated.status = status;
    if (status != AMI_OK)
        n->counters.blocks_refused++;
    step(n, &e);
}

static void validate_run(void *job)
{
    struct validate_job *j = job;
    j->status = block_check_run(j->check, &j->bad_index);
}

/* Does this header stand on the tip? */
static enum ami_status check_header(struct node *n, const struct block_header *h)
{
    const struct chain *c = n->chain;
    const struct block_parent parent = {c->height, c->tip, c->tip_timestamp_ms};
    const struct members *members = registry_members(n->c.registry, c->height + 1);
    if (members == NULL)
        return AMI_NO_MEMORY;
    return block_check_header(&n->c.genesis->parameters, members, h, &parent);
}

/* Gives the pool this body, which stays where it is until the job is back. */
static enum ami_status begin_check(struct node *n, const struct block_header *h,
                                   const sm3_digest *block, struct span body,
                                   struct validate_job **out)
{
    struct validate_job *j = calloc(1, sizeof *j);
    if (j == NULL)
        return AMI_NO_MEMORY;
    *j = (struct validate_job){.header = h, .block = *block, .body = body, .height = h->height};
    enum ami_status status = block_check_prepare(n->c.registry, h, body, &j->check, &j->bad_index);
    if (status == AMI_OK)
        status = n->env.work(n->env.ctx, validate_run, j);
    if (status == AMI_OK)
        *out = j;
    else
        free_validation(j);
    return status;
}

/* A node that is behind has later blocks waiting in the replica while one is checked, staged and
 * stored, and the pool checks their Merkle roots and signatures meanwhile. What it finds is true of
 * the very same bytes, whatever the blocks between change: a key never changes, a list of members
 * is that of the epoch, which all that wait belong to, and pruned reports may only become allowed
 * meanwhile. Who signed and is not known yet, or is pruned too early, is left for its turn. */
static void look_ahead(struct node *n)
{
    struct chain *c = n->chain;
    struct certified_block b;
    for (uint64_t height = c->height + 2; height < c->height + 2 + NODE_AHEAD_MAX; height++) {
        struct validate_job **place = NULL;
        bool there = false;
        for (size_t i = 0; i < NODE_AHEAD_MAX; i++) {
            if (c->ahead[i] == NULL)
                place = &c->ahead[i];
            else
                there |= c->ahead[i]->height == height;
        }
        if (there)
            continue;
        if (place == NULL || !replica_fetched(n->replica, height, &b))
            return;
        uint8_t *copy = malloc(b.body.size + 1);
        if (copy == NULL)
            return;
        if (b.body.size != 0)
            memcpy(copy, b.body.data, b.body.size);
        const sm3_digest block = block_hash(&b.header);
        if (begin_check(n, &b.header, &block, span_of(copy, b.body.size), place) != AMI_OK) {
            free(copy); /* a signer may be enrolled by a block between; its turn will come */
            return;
        }
        (*place)->header = NULL; /* not in its turn yet */
        (*place)->copy = copy;
        (*place)->copy_size = b.body.size;
    }
}

/* The job that began with this block ahead of its turn, now in it; NULL: there is none of use. */
static struct validate_job *take_ahead(struct chain *c, const struct block_header *h,
                                       const sm3_digest *block, struct span body)
{
    for (size_t i = 0; i < NODE_AHEAD_MAX; i++) {
        struct validate_job *j = c->ahead[i];
        if (j == NULL || !sm3_equal(&j->block, block) || j->copy_size != body.size ||
            (body.size != 0 && memcmp(j->copy, body.data, body.size) != 0) ||
            (j->done && j->status == AMI_NO_MEMORY))
            continue;
        c->ahead[i] = NULL;
        j->header = h;
        j->body = body;
        return j;
    }
    return NULL;
}

/* The pool is done with it: header and registry. */
static enum ami_status end_validation(struct node *n, struct validate_job *j)
{
    struct chain *c = n->chain;
    enum ami_status status = j->status;
    if (status == AMI_OK && commit_in_flight(c))
        status = AMI_AGAIN; /* another block of this height has won; the registry holds its stage */
    if (status == AMI_OK)
        status = check_header(n, j->header);
    if (status == AMI_OK) {
        drop_stage(n);
        status = block_stage(n->c.registry, j->header, j->body, &j->bad_index);
        c->staged = status == AMI_OK;
        c->staged_block = j->block;
    }
    if (status != AMI_OK)
        node_event_often(n, ENV_LOG_WARN, "block_refused", "height=%llu tx=%u status=%s",
                         (unsigned long long)j->header->height, j->bad_index,
                         ami_status_name(status));
    if (status == AMI_OK && j->copy != NULL)
        n->counters.checked_ahead++;
    free_validation(j);
    return status;
}

/* *waits: no answer yet, it comes with the job. */
static enum ami_status begin_validation(struct node *n, bool *waits)
{
    struct chain *c = n->chain;
    const struct effects *fx = &c->fx;
    const struct block_header *h = fx->validate.header;
    const sm3_digest *block = &fx->validate.block;
    const struct span body = fx->validate.body;
    *waits = false;
    AMI_TRY(check_header(n, h));
    if (fx->validate.fresh)
        AMI_TRY(block_check_time(n->c.genesis, h, fx->validate.received_wall_ms));
    /* What a quorum has certified may be a pruned block; what this node is to vote for may not. */
    if (!fx->validate.certified && body_is_pruned(body))
        return AMI_BAD_ENCODING;
    if (c->staged && sm3_equal(&c->staged_block, block))
        return AMI_OK; /* checked already on this tip */
    c->validating = take_ahead(c, h, block, body);
    if (c->validating == NULL)
        AMI_TRY(begin_check(n, h, block, body, &c->validating));
    struct validate_job *j = c->validating;
    *waits = !j->done;
    if (j->done) {
        c->validating = NULL;
        AMI_TRY(end_validation(n, j));
    }
    if (fx->validate.certified)
        look_ahead(n);
    return AMI_OK;
}

bool chain_on_work(struct node *n, void *job)
{
    struct chain *c = n->chain;
    for (size_t i = 0; i < NODE_AHEAD_MAX; i++) {
        if (c->ahead[i] != NULL && job == c->ahead[i]) {
            c->ahead[i]->done = true;
            forget_ahead(c);
            return true;
        }
    }
    if (c->validating == NULL || job != c->validating)
        return false;
    struct validate_job *j = c->validating;
    c->validating = NULL;
    const sm3_digest block = j->block;
    answer_validated(n, &block, end_validation(n, j));
    return true;
}

/* --- build ------------------------------------------------------------------------------------ */

static void build(struct node *n, uint64_t ticket, uint64_t term, uint64_t parent_height,
                  const sm3_digest *parent_hash, int64_t parent_timestamp_ms)
{
    struct chain *c = n->chain;
    struct replica_event e = {.type = REPLICA_BUILT};
    e.u.built.ticket = ticket;
    struct block_header header;
    const struct block_parent parent = {parent_height, *parent_hash, parent_timestamp_ms};
    if (commit_in_flight(c)) {
        c->work_said = false;
        step(n, &e); /* too late for this parent: the tip is about to move */
        return;
    }
    drop_stage(n);
    if (parent_height == c->height && sm3_equal(parent_hash, &c->tip)) {
        struct writer body = writer_on(c->body, n->c.genesis->parameters.block_bytes_max);
        registry_stage_begin(n->c.registry, parent_height + 1);
        /* Blocks without transactions lead to a decided epoch, and to nothing else (rule 13). */
        if ((fill_block(n, &body) > 0 || n->has_next) &&
            block_build(&header, n->c.registry, &parent, term, n->self, node_wall_ms(n),
                        writer_span(&body)) == AMI_OK) {
            c->staged = true;
            c->staged_block = block_hash(&header);
            e.u.built.header = &header;
            e.u.built.body = writer_span(&body);
            n->counters.blocks_built++;
        } else {
            drop_stage(n);
        }
    }
    c->work_said = false;
    step(n, &e);
}

static bool work_is_due(const struct node *n, uint64_t *at_us)
{
    struct pool_entry *first = pool_first(n->pool);
    const struct parameters *p = &n->c.genesis->parameters;
    if (first == NULL) {
        const uint64_t since = n->chain->tip_since_us + (uint64_t)p->block_age_ms * 1000u;
        *at_us = n->has_next ? since : UINT64_MAX;
        return *at_us <= node_now_us(n);
    }
    *at_us = first->arrived_us + (uint64_t)p->block_age_ms * 1000u;
    return *at_us <= node_now_us(n) || pool_count(n->pool) >= p->block_txs_max ||
           pool_bytes(n->pool) >= p->block_bytes_max;
}

void chain_work_pending(struct node *n)
{
    uint64_t at_us;
    if (n->chain->work_said || !work_is_due(n, &at_us))
        return;
    n->chain->work_said = true;
    struct replica_event e = {.type = REPLICA_WORK, .u.flag = true};
    step(n, &e);
}

uint64_t chain_epoch_due_us(const struct node *n)
{
    uint64_t progress_us = (uint64_t)n->c.genesis->parameters.progress_timeout_ms * 1000u;
    return n->has_next ? n->chain->tip_since_us + progress_us : UINT64_MAX;
}

void chain_progress(struct node *n, bool expired)
{
    if (n->chain->progress_said == expired)
        return;
    n->chain->progress_said = expired;
    if (expired)
        node_event(n, ENV_LOG_WARN, "progress_expired", "waiting=%zu leader_term=%llu",
                   pool_count(n->pool), (unsigned long long)replica_term(n->replica));
    struct replica_event e = {.type = REPLICA_PROGRESS, .u.flag = expired};
    step(n, &e);
}

void chain_step_down(struct node *n)
{
    struct replica_event e = {.type = REPLICA_STEP_DOWN};
    step(n, &e);
    chain_settle(n);
}

static const char *member_name(const struct node *n, uint8_t member)
{
    const struct members *m = &n->committee.members;
    return member < m->count ? m->member[member].name.text : "?";
}

/* --- deliver ---------------------------------------------------------------------------------- */

static void deliver(struct node *n, const struct delivered *d)
{
    n->chain->delivered = true;
    submit_on_commit(n);
    bool prune = false, revoked = false;
    const struct block_header *h = d->header;
    struct body_reader it = body_reader_on(d->body);
    struct span encoded;
    for (uint32_t index = 0; body_next(&it, &encoded); index++) {
        struct tx_view tx;
        if (tx_view_decode_kept(&tx, encoded) != AMI_OK)
            continue;
        struct pool_entry *e = pool_find(n->pool, &tx);
        if (e != NULL) { /* it, or its rival for the same place: it waits no more */
            gateway_on_commit(n, d, index, &tx, e);
            pool_remove(n->pool, e, node_now_us(n));
        }
        prune |= tx.tx.kind == TX_REVOKE || tx.tx.kind == TX_SKIP;
        if (tx.tx.kind == TX_METER_ENROL)
            node_event(n, ENV_LOG_INFO, "meter_enrolled", "meter=%s epoch=%u height=%llu",
                       tx.u.meter_enrol.meter.text, tx.u.meter_enrol.epoch,
                       (unsigned long long)h->height);
        if (tx.tx.kind == TX_RETENTION)
            prune_on_commit(n, &tx);
        if (tx.tx.kind == TX_MEMBERSHIP)
            epoch_on_change(n, &tx.u.membership, h->height);
        if (tx.tx.kind == TX_EVIDENCE) {
            n->counters.evidence_committed++;
            node_event(n, ENV_LOG_ERROR, "evidence_committed", "against=%s kind=%s height=%llu",
                       member_name(n, tx.u.evidence.accused),
                       evidence_kind_name(tx.u.evidence.kind), (unsigned long long)h->height);
        }
        if (tx.tx.kind == TX_REVOKE) {
            node_event(n, ENV_LOG_WARN, "key_revoked", "device=%s epoch=%u height=%llu",
                       tx.u.revoke.device.text, tx.u.revoke.epoch, (unsigned long long)h->height);
            revoked = true;
        }
    }
    if (revoked)
        gateway_on_revoked(n);
    if (prune)
        submit_prune(n);
    n->counters.txs_committed += h->tx_count;
    epoch_tell_followers(n);
}

/* --- notes ------------------------------------------------------------------------------------ */

static void on_note(struct node *n, const struct replica_note *x)
{
    unsigned long long term = x->term, height = x->height;
    switch (x->type) {
    case REPLICA_NOTE_TERM:
        n->counters.terms_seen++;
        node_event(n, ENV_LOG_DEBUG, "term", "term=%llu", term);
        break;
    case REPLICA_NOTE_ELECTION:
        node_event(n, ENV_LOG_INFO, "election", "term=%llu", term);
        break;
    case REPLICA_NOTE_GRANTED:
        node_event(n, ENV_LOG_INFO, "granted", "term=%llu to=%s", term, member_name(n, x->member));
        break;
    case REPLICA_NOTE_LEADER:
        node_event(n, ENV_LOG_INFO, "leader", "term=%llu dc=%s", term, member_name(n, x->member));
        if (x->member == n->self)
            n->counters.elections_won++;
        n->chain->new_leader = true;
        n->leader_changed = true;
        break;
    case REPLICA_NOTE_STEPPED_DOWN:
        node_event(n, ENV_LOG_WARN, "stepped_down", "term=%llu why=%s", term,
                   ami_status_name(x->status));
        n->leader_changed = true;
        break;
    case REPLICA_NOTE_REFUSED:
        node_event_often(n, ENV_LOG_WARN, "proposal_refused", "term=%llu from=%s status=%s", term,
                         member_name(n, x->member), ami_status_name(x->status));
        break;
    case REPLICA_NOTE_DIVERGED:
        node_event(n, ENV_LOG_ERROR, "diverged", "height=%llu status=%s", height,
                   ami_status_name(x->status));
        break;
    case REPLICA_NOTE_WRITE_FAILED:
        n->counters.writes_failed++;
        node_event_often(n, ENV_LOG_ERROR, "write_failed", "status=%s why=\"%s\"",
                         ami_status_name(x->status), ami_status_text(x->status));
        break;
    case REPLICA_NOTE_CATCHING_UP:
        node_event(n, ENV_LOG_INFO, "catching_up", "to=%llu", height);
        break;
    case REPLICA_NOTE_CAUGHT_UP:
        node_event(n, ENV_LOG_INFO, "caught_up", "height=%llu", height);
        break;
    }
}

/* --- evidence -----------------------------------------------------------------------------------
 */

static void on_evidence(struct node *n, const struct effects *fx)
{
    for (size_t i = 0; i < fx->evidence_count; i++) {
        n->counters.evidence_found++;
        node_event(
            n, ENV_LOG_ERROR, "evidence", "against=%s kind=%s term=%llu height=%llu",
            member_name(n, fx->evidence[i].accused), evidence_kind_name(fx->evidence[i].kind),
            (unsigned long long)fx->evidence[i].term, (unsigned long long)fx->evidence[i].height);
        submit_evidence(n, fx->evidence[i].encoded);
        n->chain->evidence_new = true;
    }
}

/* --- one step --------------------------------------------------------------------------------- */

bool chain_whole_body(struct node *n, const sm3_digest *block, struct body_reply *out)
{
    const struct node_disk *d = &n->c.disk;
    struct certified_block b;
    uint64_t height;
    if (d->body(d->ctx, block, out, n->block, n->block_size) != AMI_OK) {
        if (d->height_of(d->ctx, block, &height) != AMI_OK ||
            d->block(d->ctx, height, &b, n->block, n->block_size) != AMI_OK)
            return false;
        out->header = b.header;
        out->body = b.body;
    }
    return !body_is_pruned(out->body);
}

/* Answers to effects are events of their own and would overwrite the effects: they are copied here
 * and given when everything else of the step is done. */
static void answer_need_body(struct node *n, const sm3_digest *block)
{
    struct replica_event e = {.type = REPLICA_STORED_BODY};
    struct body_reply found;
    e.u.stored_body.block = *block;
    if (chain_whole_body(n, block, &found)) {
        e.u.stored_body.header = &found.header;
        e.u.stored_body.body = found.body;
    }
    step(n, &e);
}

/* The block just delivered was the last of its epoch: from here on another replica goes on. It has
 * no record in this epoch, and none is needed: the old one, which was written together with that
 * block, says that this node has signed nothing above it. */
static void begin_epoch(struct node *n)
{
    struct chain *c = n->chain;
    /* The replica checks and writes nothing beside a commit. */
    AMI_CHECK(c->validating == NULL && c->writing == NULL && !c->staged);
    const struct qc tip_commit = *replica_tip_commit(n->replica);
    const uint64_t known_height = replica_known_height(n->replica);
    epoch_enter(n);
    secret_wipe(c->memory, replica_size(&n->c.genesis->parameters)); /* zeros, as it must be */
    AMI_CHECK(make_replica(n, NULL, &tip_commit, known_height) == AMI_OK);
    c->work_said = c->progress_said = c->disk_said = false;
    n->leader_changed = true;
    submit_on_epoch(n);
    epoch_tell_followers(n); /* who has just left was a member when the block was delivered */
    struct replica_event e = {.type = REPLICA_TIME};
    step(n, &e);
}

static void step(struct node *n, struct replica_event *e)
{
    struct chain *c = n->chain;
    struct effects *fx = &c->fx;
    e->now_us = node_now_us(n);
    e->wall_ms = node_wall_ms(n);
    replica_step(n->replica, e, fx);
    c->deadline_us = fx->deadline_us;
    for (size_t i = 0; i < fx->note_count; i++)
        on_note(n, &fx->note[i]);
    on_evidence(n, fx);
    enum ami_status persisted = AMI_OK;
    uint64_t ticket = fx->persist.ticket;
    /* Nothing that the old epoch's replica still wants matters behind its last block. */
    const bool ends = fx->has_deliver && epoch_ends_with(n, fx->deliver.header->height);
    bool refused = fx->has_persist && !ends && !persist(n, &persisted);
    for (size_t i = 0; i < fx->send_count; i++)
        for (uint8_t m = 0; m < n->committee.members.count; m++)
            if (m != n->self && fx->send[i].to >> m & 1)
                peers_send(n, m, fx->send[i].frame);
    if (fx->has_deliver)
        deliver(n, &fx->deliver);
    if (ends) {
        begin_epoch(n);
        return;
    }

    bool validate = fx->has_validate, wants_build = fx->has_build, need = fx->has_need_body;
    bool waits = false;
    enum ami_status validated = AMI_OK;
    sm3_digest validate_block = fx->validate.block, need_block = fx->need_body;
    uint64_t build_ticket = fx->build.ticket, build_term = fx->build.term;
    uint64_t parent_height = fx->build.parent_height;
    sm3_digest parent = fx->build.parent;
    int64_t parent_timestamp_ms = fx->build.parent_timestamp_ms;
    if (validate)
        validated = begin_validation(n, &waits);
    /* From here on the effects may be overwritten. */
    if (refused) {
        struct replica_event answer = {.type = REPLICA_PERSISTED};
        answer.u.persisted.ticket = ticket;
        answer.u.persisted.status = persisted;
        step(n, &answer);
    }
    if (validate && !waits)
        answer_validated(n, &validate_block, validated);
    if (wants_build)
        build(n, build_ticket, build_term, parent_height, &parent, parent_timestamp_ms);
    if (need)
        answer_need_body(n, &need_block);
}

void chain_on_message(struct node *n, struct node_link *l, enum message_type type, struct span body)
{
    struct replica_event e = {.type = REPLICA_MESSAGE};
    uint64_t height = 0;
    if (!prune_takes(n, l, type, body))
        return; /* the replica asks somebody else */
    const int epoch = epoch_compare(n, type, body, &height);
    if (epoch > 0) {
        e.type = REPLICA_CLAIM; /* the last block of this epoch at least */
        e.u.height = height > n->chain->height + 1 ? height : n->chain->height + 1;
    } else if (l->blocks_due > 0 && (type == MSG_BLOCK || type == MSG_BODY)) {
        l->blocks_due--;
        e.u.message.from = AMI_MEMBERS_MAX;
        e.u.message.type = type;
        e.u.message.body = body;
    } else if (l->unproven) {
        return;
    } else if (epoch < 0 || l->member == AMI_MEMBERS_MAX) {
        epoch_on_behind(n, l);
        return;
    } else {
        e.u.message.from = l->member;
        e.u.message.type = type;
        e.u.message.body = body;
    }
    step(n, &e);
    chain_settle(n);
}

void chain_on_unknown_key(struct node *n)
{
    struct replica_event e = {.type = REPLICA_CLAIM, .u.height = n->chain->height + 1};
    step(n, &e);
    chain_settle(n);
}

/* What follows from a step but is no answer to it. */
void chain_settle(struct node *n)
{
    struct chain *c = n->chain;
    if (c->new_leader) {
        c->new_leader = false;
        c->tip_since_us = node_now_us(n);
        pool_restart_timers(n->pool, node_now_us(n));
        chain_progress(n, false);
    }
    if (c->progress_said)
        submit_judge(n); /* what had waited too long may be on the ledger now */
    bool hand_over = c->evidence_new || c->delivered || n->leader_changed;
    c->evidence_new = c->delivered = false;
    if (n->leader_changed) {
        n->leader_changed = false;
        gateway_on_leader(n);
    }
    if (hand_over)
        submit_hand_over(n);
    chain_work_pending(n);
}

void chain_on_time(struct node *n)
{
    struct chain *c = n->chain;
    uint64_t now = node_now_us(n);
    uint64_t slow_us = (uint64_t)n->c.genesis->parameters.election_timeout_ms * 1000u;
    if (c->writing != NULL && !c->disk_slow && now - c->writing_since_us >= slow_us) {
        c->disk_slow = true;
        node_event(n, ENV_LOG_WARN, "disk_slow", "write_for_ms=%llu",
                   (unsigned long long)((now - c->writing_since_us) / 1000));
        tell_disk(n);
    }
    if (now >= c->deadline_us) {
        struct replica_event e = {.type = REPLICA_TIME};
        step(n, &e);
    }
    chain_settle(n);
}

uint64_t chain_deadline_us(const struct node *n)
{
    const struct chain *c = n->chain;
    uint64_t at = c->deadline_us, work_at;
    if (!c->work_said && !work_is_due(n, &work_at) && work_at < at)
        at = work_at;
    uint64_t slow_us = (uint64_t)n->c.genesis->parameters.election_timeout_ms * 1000u;
    if (c->writing != NULL && !c->disk_slow && c->writing_since_us + slow_us < at)
        at = c->writing_since_us + slow_us;
    return at;
}

uint64_t chain_height(const struct node *n)
{
    return replica_height(n->replica);
}

sm3_digest chain_tip(const struct node *n)
{
    return replica_tip(n->replica);
}
