/* node/prune.c - retention: blocks below the MDMS's watermark lose what only the MDMS needed.
 *
 *   a retention transaction is committed -> a bounded number of blocks per write, in the
 * background, get their pruned form (ledger/pruned.h); how far that has come is part of each write
 *   a peer asks for a pruned block -> first the MDMS's signed transaction, then the block
 *   somebody shows such a transaction -> pruned blocks below its watermark are taken from now on
 *
 * A DC that is behind learns the watermark from whoever serves it, and believes the MDMS's
 * signature, not the server. It needs no place on the ledger for that: it is the MDMS that says
 * there that it has all readings below, nobody else needs them, and every byte of a pruned block is
 * bound to its header. Without that signature nobody can hand out pruned blocks: they are dropped,
 * and asked for elsewhere.
 */
#include "node/internal.h"

#include "ledger/pruned.h"

#include <stdlib.h>
#include <string.h>

#define PRUNE_RETRY_US (5u * 1000000u) /* after a step that failed */

/* The disk makes one write after the other, so a block that is committed meanwhile waits for the
 * rest of a step. Steps grow while they take less than half of what they may, and shrink when they
 * take longer; what they may take, and the pause after them, depends on whether anything waits to
 * be committed. */
#define PRUNE_BYTES_FIRST (256u << 10)
#define PRUNE_BYTES_MIN   (64u << 10)
#define PRUNE_BYTES_MAX   (4u << 20)
#define PRUNE_BUSY_US     (20u * 1000u)
#define PRUNE_IDLE_US     (200u * 1000u)
#define PRUNE_BUSY_PAUSES 4             /* times as long as the step took */
#define PRUNE_PAUSE_US    (10u * 1000u) /* at least */
/* No step begins while the consensus waits for the disk; but a disk that is never idle must not
 * keep what nobody needs for ever. */
#define PRUNE_HELD_US (1u * 1000000u)

struct prune {
    struct store_retention at; /* as on the disk, or newer: */
    bool unsaved;              /* what was shown is not on the disk yet */
    bool said;                 /* that a watermark was reached */
    struct node_write *writing;
    uint64_t began_us;   /* of that step */
    uint64_t seen;       /* height of the ledger at that time */
    uint32_t step_bytes; /* of the next one */
    uint64_t next_us;
    uint64_t
        held_us; /* since when one would begin, if the consensus did not write; 0: none would */
};

bool prune_init(struct node *n)
{
    struct prune *p = n->prune = calloc(1, sizeof *n->prune);
    if (p == NULL)
        return false;
    uint64_t below;
    p->step_bytes = PRUNE_BYTES_FIRST;
    n->start_status = n->c.disk.retention(n->c.disk.ctx, &p->at);
    /* The store does not know who signed it, and the ledger may have come from anywhere. */
    if (n->start_status == AMI_OK && p->at.tx_size != 0 &&
        retention_check(n->c.genesis, span_of(p->at.tx, p->at.tx_size), &below) != AMI_OK)
        n->start_status = AMI_DAMAGED;
    if (n->start_status != AMI_OK)
        return false;
    p->said = p->at.pruned >= registry_retention(n->c.registry);
    registry_show_retention(n->c.registry, p->at.below);
    n->start_status = AMI_NO_MEMORY; /* for the parts that follow */
    return true;
}

void prune_free(struct node *n)
{
    if (n->prune != NULL)
        free(n->prune->writing);
    free(n->prune);
    n->prune = NULL;
}

/* --- what may be pruned ------------------------------------------------------------------------
 */

static void set_retention(struct node *n, struct span tx, uint64_t below)
{
    struct prune *p = n->prune;
    AMI_CHECK(tx.size == sizeof p->at.tx && below > p->at.below);
    memcpy(p->at.tx, tx.data, tx.size);
    p->at.tx_size = tx.size;
    p->at.below = below;
    registry_show_retention(n->c.registry, below);
}

void prune_on_commit(struct node *n, const struct tx_view *tx)
{
    struct prune *p = n->prune;
    const uint64_t below = tx->u.retention.below;
    node_event(n, ENV_LOG_INFO, "retention", "below=%llu", (unsigned long long)below);
    p->said = false;
    if (below <= p->at.below)
        return; /* it was shown before */
    set_retention(n, tx->encoded, below);
    p->unsaved = false; /* the block's own write has kept it */
}

void prune_on_shown(struct node *n, struct node_link *l, struct span body)
{
    struct prune *p = n->prune;
    struct tx_view tx;
    uint64_t below;
    if (tx_view_parse(&tx, body) == AMI_OK && tx.tx.kind == TX_RETENTION) {
        if (tx.u.retention.below <= p->at.below)
            return;
        if (retention_check(n->c.genesis, body, &below) == AMI_OK) {
            set_retention(n, body, below);
            p->unsaved = true;
            return;
        }
    }
    node_event_often(n, ENV_LOG_WARN, "retention_refused", "link=%llu dc=%s",
                     (unsigned long long)l->id, l->peer_name.text);
    node_close(n, l->id);
}

bool prune_takes(struct node *n, const struct node_link *l, enum message_type type,
                 struct span body)
{
    struct certified_block b;
    struct body_reply r;
    struct span txs;
    uint64_t height;
    bool below;
    if (type == MSG_BLOCK && certified_block_parse(&b, body) == AMI_OK) {
        txs = b.body;
        height = b.header.height;
        below = height < registry_pruned_below(n->c.registry);
    } else if (type == MSG_BODY && body_reply_parse(&r, body) == AMI_OK) {
        txs = r.body;
        height = r.header.height;
        below = false; /* it is asked for to be voted for */
    } else {
        return true;
    }
    if (below || !body_is_pruned(txs))
        return true;
    node_event_often(n, ENV_LOG_WARN, "pruned_refused", "height=%llu dc=%s",
                     (unsigned long long)height, l->peer_name.text);
    return false;
}

struct span prune_unsaved(const struct node *n)
{
    const struct prune *p = n->prune;
    return p->unsaved ? span_of(p->at.tx, p->at.tx_size) : span_of(NULL, 0);
}

void prune_saved(struct node *n, struct span tx)
{
    struct prune *p = n->prune;
    if (span_equal(tx, span_of(p->at.tx, p->at.tx_size)))
        p->unsaved = false;
}

enum ami_status prune_show(struct node *n, struct node_link *l)
{
    const struct prune *p = n->prune;
    struct tx tx;
    AMI_CHECK(p->at.tx_size != 0 && tx_parse(&tx, span_of(p->at.tx, p->at.tx_size)) == AMI_OK);
    struct writer w = node_frame(n, MSG_RETENTION);
    tx_encode(&w, &tx);
    AMI_CHECK(writer_ok(&w));
    return node_send(n, l->id, writer_span(&w));
}

/* --- pruning -----------------------------------------------------------------------------------
 */

void prune_state(const struct node *n, uint64_t *below, uint64_t *pruned)
{
    *below = registry_retention(n->c.registry);
    *pruned = n->prune->at.pruned;
}

static bool is_wanted(const struct node *n)
{
    return n->prune->at.pruned < registry_retention(n->c.registry);
}

uint64_t prune_on_time(struct node *n)
{
    struct prune *p = n->prune;
    const uint64_t now = node_now_us(n);
    if (p->writing != NULL || !is_wanted(n))
        return UINT64_MAX; /* prune_on_stored or a commit comes first */
    if (now < p->next_us)
        return p->next_us;
    if (chain_is_writing(n)) {
        if (p->held_us == 0)
            p->held_us = now;
        if (now < p->held_us + PRUNE_HELD_US)
            return p->held_us + PRUNE_HELD_US; /* or when that write is done */
    }
    p->held_us = 0;
    struct node_write *w = calloc(1, sizeof *w);
    if (w != NULL) {
        w->batch.prune_below = registry_retention(n->c.registry);
        w->batch.prune_bytes = p->step_bytes;
    }
    if (w == NULL || n->env.store(n->env.ctx, w) != AMI_OK) {
        free(w);
        p->next_us = now + PRUNE_RETRY_US;
        return p->next_us;
    }
    p->writing = w;
    p->began_us = now;
    p->seen = registry_height(n->c.registry);
    return UINT64_MAX;
}

/* After a step: how long the next one should be, and when it may begin. */
static void adapt(struct node *n)
{
    struct prune *p = n->prune;
    const uint64_t now = node_now_us(n), took = now - p->began_us;
    const bool busy = chain_is_writing(n) || pool_count(n->pool) != 0 ||
                      registry_height(n->c.registry) != p->seen;
    const uint64_t may_take = busy ? PRUNE_BUSY_US : PRUNE_IDLE_US;
    if (took > may_take && p->step_bytes > PRUNE_BYTES_MIN)
        p->step_bytes /= 2;
    else if (took < may_take / 2 && p->step_bytes < PRUNE_BYTES_MAX)
        p->step_bytes *= 2;
    const uint64_t pause = busy ? PRUNE_BUSY_PAUSES * took : took;
    p->next_us = now + (pause > PRUNE_PAUSE_US ? pause : PRUNE_PAUSE_US);
}

bool prune_on_stored(struct node *n, struct node_write *w, enum ami_status status)
{
    struct prune *p = n->prune;
    if (w != p->writing)
        return false;
    p->writing = NULL;
    free(w);
    if (status == AMI_OK)
        adapt(n);
    else
        p->next_us = node_now_us(n) + PRUNE_RETRY_US;
    struct store_retention disk;
    if (status == AMI_OK)
        status = n->c.disk.retention(n->c.disk.ctx, &disk);
    if (status == AMI_OK)
        p->at.pruned = disk.pruned;
    else /* a full disk may have room later; what else there is, whoever owns the store sees, too */
        node_event_often(n, ENV_LOG_WARN, "prune_failed", "status=%s", ami_status_name(status));
    if (!is_wanted(n) && !p->said) {
        p->said = true;
        node_event(n, ENV_LOG_INFO, "pruned", "below=%llu", (unsigned long long)p->at.pruned);
    }
    return true;
}
