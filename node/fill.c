/* node/fill.c - which waiting transactions go into a leader's next block. */
#include "node/internal.h"

/* What goes into one block. */
struct filling {
    struct writer *body;
    uint64_t number; /* marks what it holds already */
    size_t count, enrolments;
};

/* An enrolment costs a point multiplication here, in the loop's thread, and again in everybody's
 * who stages the block; a city that enrols at once must not hold up the heartbeats. */
#define ENROLMENTS_PER_BLOCK 512

enum fill { FILL_GO_ON, FILL_REMOVED_NUMBER, FILL_STOP };

static enum fill fill_with(struct node *n, struct filling *f, struct pool_entry *e)
{
    const struct parameters *p = &n->c.genesis->parameters;
    const bool enrols = e->view.tx.kind == TX_METER_ENROL || e->view.tx.kind == TX_DC_ENROL;
    if (e->build == f->number)
        return FILL_GO_ON; /* it is in */
    if (f->count == p->block_txs_max ||
        f->body->size + e->view.encoded.size + 4 > p->block_bytes_max)
        return FILL_STOP;
    if (enrols && f->enrolments == ENROLMENTS_PER_BLOCK)
        return FILL_GO_ON;
    enum ami_status status = registry_stage_tx(n->c.registry, &e->view);
    if (status == AMI_NO_MEMORY)
        return FILL_STOP;
    if (status == AMI_OK) {
        body_append(f->body, e->view.encoded);
        e->build = f->number;
        f->count++;
        f->enrolments += enrols;
    } else if (status != AMI_SEQUENCE_AHEAD) {
        node_event_often(n, ENV_LOG_INFO, "tx_dropped", "kind=%u status=%s", e->view.tx.kind,
                         ami_status_name(status));
        n->counters.txs_refused++;
        bool number = e->number != 0;
        pool_remove(n->pool, e, node_now_us(n));
        return number ? FILL_REMOVED_NUMBER : FILL_GO_ON;
    }
    return FILL_GO_ON;
}

/* Those that have timers running everywhere, one of each source in turn: a flood from some sources,
 * or of large transactions, makes nobody else's wait. The block may end with any of them, so each
 * comes first some time. */
static enum fill fill_in_turn(struct node *n, struct filling *f)
{
    struct pool_entry *next[POOL_SOURCES];
    const uint8_t first = (uint8_t)(f->number % POOL_SOURCES);
    bool any = true;
    for (uint8_t i = 0; i < POOL_SOURCES; i++)
        next[i] = pool_first_of(n->pool, i);
    while (any) {
        any = false;
        for (uint8_t i = 0; i < POOL_SOURCES; i++) {
            const uint8_t source = (uint8_t)((first + i) % POOL_SOURCES);
            struct pool_entry *e = next[source];
            if (e == NULL || !pool_timed(e))
                continue;
            next[source] = pool_next_of(e);
            any = true;
            const enum fill go = fill_with(n, f, e);
            if (go != FILL_GO_ON)
                return go;
        }
    }
    return FILL_GO_ON;
}

size_t fill_block(struct node *n, struct writer *body)
{
    struct filling f = {.body = body, .number = ++n->blocks_filled};
    struct pool_entry *next;
    enum fill go = fill_in_turn(n, &f);
    /* A number that fell out parks those behind it: no successor is to be trusted then, and what is
     * in the block so far is enough. */
    for (struct pool_entry *e = pool_first(n->pool); e != NULL && go == FILL_GO_ON; e = next) {
        next = pool_next(e);
        go = fill_with(n, &f, e);
    }
    return f.count;
}
