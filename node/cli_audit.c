/* node/cli_audit.c - dc-cli audit: a whole ledger verified from its genesis on.
 *
 * In: a ledger's folder and the genesis file. Every block goes through the same checks as on a DC
 * that gets it from a peer it does not trust: header against its parent, certificate, Merkle root,
 * all signatures, the registry's rules and its root. Then what the store says about it: that its
 * indexes lead to the right places and nowhere else, that the registry it keeps is the one
 * recomputed here, and that it may be pruned as it says.
 * Blocks below a watermark that the MDMS has signed may be pruned: all is checked but what is gone,
 * and it is said which they are. Out: the figures, or the first thing wrong.
 *
 * Signatures are most of the work and are left to other threads (node/audit_ahead.h), while the
 * next blocks are read and applied. What is found wrong later in an earlier block counts first.
 */
#include "node/audit_ahead.h"
#include "node/cli.h"

#include "base/check.h"
#include "crypto/secret.h"
#include "ledger/evidence.h"
#include "net/loop.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the indexes must have of the blocks so far, and up to the last height at which they had to
 * be on the disk. */
struct index_sums {
    uint8_t secret[ROWS_SECRET_BYTES]; /* of this audit; whoever made the ledger does not know it */
    struct rows_sum blocks, written;
    uint64_t written_height;
};

/* How far the audit has come. */
struct progress {
    struct block_parent tip; /* the last block found right */
    uint64_t transactions, signatures;
    uint64_t of_kind[TX_KIND_END];
};

struct audit {
    struct cli_child *child;
    const struct genesis *genesis;
    const char *data;
    struct store *store;
    struct registry *registry;
    struct audit_ahead *ahead;
    struct progress p;
    struct index_sums sums;

    uint64_t pruned_below; /* signed by the MDMS; 0: nothing may be pruned */
    json_t *pruned;        /* runs of blocks whose reports are pruned: from, to, reports */
    bool run_ended;        /* the last of them */
    uint64_t pruned_reports;
    uint64_t first_whole; /* the first block with a report that is not pruned; 0: none yet */

    /* The first thing wrong. */
    enum ami_status status; /* AMI_OK: nothing */
    uint64_t height;        /* of the block; 0: it is about the ledger as a whole */
    bool has_tx;
    uint32_t tx;
    char text[WHY_BYTES_MAX];
};

/* --- verdicts --------------------------------------------------------------------------------- */

static bool wrong(struct audit *a, uint64_t height, enum ami_status status, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static bool wrong(struct audit *a, uint64_t height, enum ami_status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(a->text, sizeof a->text, format, args);
    va_end(args);
    a->has_tx = false;
    a->status = status;
    a->height = height;
    return false;
}

static bool wrong_tx(struct audit *a, uint64_t height, uint32_t index, enum ami_status status,
                     const char *text)
{
    (void)wrong(a, height, status, "block %llu, transaction %u: %s", (unsigned long long)height,
                (unsigned)index, text);
    a->has_tx = true;
    a->tx = index;
    return false;
}

/* --- what may be pruned ----------------------------------------------------------------------- */

static bool wrong_retention(struct audit *a, enum ami_status status)
{
    return wrong(a, 0, status, "the retention kept in %.200s is not the MDMS's: %s", a->data,
                 ami_status_text(status));
}

/* What the ledger keeps as the MDMS's word; anew for each block that it does not cover, since a
 * ledger may be pruned while it is audited. */
static bool check_retention(struct audit *a, uint64_t height)
{
    struct store_retention r;
    uint64_t below = 0;
    enum ami_status status = store_retention(a->store, &r);
    if (status == AMI_OK && r.tx_size != 0)
        status = retention_check(a->genesis, span_of(r.tx, r.tx_size), &below);
    if (status != AMI_OK)
        return wrong_retention(a, status);
    a->pruned_below = below;
    registry_show_retention(a->registry, below);
    return height < below ||
           wrong(a, height, AMI_BAD_ENCODING,
                 "block %llu is pruned, and the MDMS has signed no retention that covers it",
                 (unsigned long long)height);
}

/* Joins a block to the last run of pruned blocks; blocks without reports do not end one. */
static void note_pruned(struct audit *a, uint64_t height, uint64_t reports, bool whole)
{
    json_t *run = json_array_get(a->pruned, json_array_size(a->pruned) - 1);
    a->run_ended |= whole;
    if (reports == 0)
        return;
    if (run == NULL || a->run_ended) {
        a->run_ended = false;
        run = json_pack("{s:I, s:I, s:I}", "from", (json_int_t)height, "to", (json_int_t)height,
                        "reports", (json_int_t)0);
        json_array_append_new(a->pruned, run);
    }
    json_object_set_new(run, "to", json_integer((json_int_t)height));
    json_object_set_new(
        run, "reports",
        json_integer(json_integer_value(json_object_get(run, "reports")) + (json_int_t)reports));
    a->pruned_reports += reports;
}

/* --- one block -------------------------------------------------------------------------------- */

static bool check_certificate(struct audit *a, const struct members *members,
                              const struct certified_block *b, const sm3_digest *hash)
{
    const struct qc *q = &b->commit;
    uint64_t h = b->header.height;
    if (q->kind != VOTE_COMMIT || q->height != h || !sm3_equal(&q->block, hash))
        return wrong(a, h, AMI_BAD_CERTIFICATE,
                     "block %llu: its certificate is not a commit certificate of this block",
                     (unsigned long long)h);
    if (q->term < b->header.term)
        return wrong(a, h, AMI_BAD_CERTIFICATE,
                     "block %llu: its certificate is of term %llu, before the block was made in "
                     "term %llu",
                     (unsigned long long)h, (unsigned long long)q->term,
                     (unsigned long long)b->header.term);
    enum ami_status status = qc_check(members, q);
    if (status != AMI_OK)
        return wrong(a, h, status, "block %llu: %s", (unsigned long long)h,
                     ami_status_text(status));
    a->p.signatures += q->signatures_count;
    return true;
}

/* Is the first thing wrong with a body one of its transactions, or the body as a whole? */
static bool is_about_tx(enum ami_status status)
{
    return status != AMI_BAD_MERKLE_ROOT && status != AMI_BAD_STATE_ROOT &&
           status != AMI_TOO_LARGE && status != AMI_NO_MEMORY;
}

static bool wrong_body(struct audit *a, const struct block_header *h, enum ami_status status,
                       uint32_t bad)
{
    if (bad < h->tx_count && is_about_tx(status))
        return wrong_tx(a, h->height, bad, status, ami_status_text(status));
    return wrong(a, h->height, status, "block %llu: %s", (unsigned long long)h->height,
                 ami_status_text(status));
}

/* What the other threads found in the oldest block that they were given. */
static bool check_oldest(struct audit *a)
{
    const struct audit_block *b = audit_ahead_next(a->ahead);
    if (b->status == AMI_OK)
        return true;
    a->p = *(const struct progress *)b->ctx; /* up to the block before it all is right */
    return wrong_body(a, &b->block.header, b->status, b->bad_index);
}

/* False: one of the blocks that are still being checked, the first of them, is wrong. */
static bool check_the_rest(struct audit *a)
{
    for (struct audit_block *b; (b = audit_ahead_next(a->ahead)) != NULL;)
        if (b->status != AMI_OK) {
            a->p = *(const struct progress *)b->ctx;
            return wrong_body(a, &b->block.header, b->status, b->bad_index);
        }
    return true;
}

/* Leaves the signatures to the other threads and applies the block. */
static bool check_body(struct audit *a, struct audit_block *b)
{
    const struct block_header *h = &b->block.header;
    uint32_t bad = UINT32_MAX;
    enum ami_status status = audit_ahead_put(a->ahead, b, &bad);
    if (status == AMI_OK)
        status = block_stage(a->registry, h, b->block.body, &bad);
    if (status != AMI_OK)
        return wrong_body(a, h, status, bad);
    registry_stage_commit(a->registry);
    return true;
}

static unsigned signatures_of(const struct tx_view *tx)
{
    bool two = (tx->tx.kind == TX_REPORT && !tx->pruned) ||
               (tx->tx.kind == TX_EVIDENCE && tx->u.evidence.second.size != 0);
    return two ? 2 : 1;
}

static bool is_led_to(enum ami_status status, uint64_t height, uint32_t index, uint64_t h,
                      uint32_t at)
{
    return status == AMI_OK && height == h && index == at;
}

static bool check_epoch(struct audit *a, uint64_t h, uint32_t at, uint32_t epoch)
{
    uint64_t height = 0;
    uint32_t index = 0;
    enum ami_status status = store_find_epoch(a->store, epoch, &height, &index);
    return is_led_to(status, height, index, h, at) ||
           wrong_tx(a, h, at, AMI_DAMAGED, "the ledger's index of epochs does not lead to it");
}

static bool check_indexes(struct audit *a, const struct certified_block *b, const sm3_digest *hash)
{
    uint64_t h = b->header.height, height = 0;
    enum ami_status status = store_height_of(a->store, hash, &height);
    if (status != AMI_OK || height != h)
        return wrong(a, h, status == AMI_OK ? AMI_DAMAGED : status,
                     "block %llu: the ledger's index of hashes does not lead to it",
                     (unsigned long long)h);
    status = store_sum_block(a->store, &a->sums.blocks, a->sums.secret, h, b->body);
    if (status != AMI_OK)
        return wrong(a, h, status, "block %llu: %s", (unsigned long long)h,
                     ami_status_text(status));
    if (h % RUNS_FAN == 0) {
        a->sums.written = a->sums.blocks;
        a->sums.written_height = h;
    }
    struct body_reader it = body_reader_on(b->body);
    struct span encoded;
    uint64_t pruned = 0, whole = 0;
    for (uint32_t at = 0; body_next(&it, &encoded); at++) {
        struct tx_view tx;
        status = tx_view_decode_kept(&tx, encoded);
        if (status != AMI_OK)
            return wrong_tx(a, h, at, status, ami_status_text(status));
        a->p.of_kind[tx.tx.kind]++;
        a->p.transactions++;
        a->p.signatures += signatures_of(&tx);
        if (tx.tx.kind == TX_MEMBERSHIP && !check_epoch(a, h, at, tx.u.membership.epoch))
            return false;
        pruned += tx.pruned;
        whole += tx.tx.kind == TX_REPORT && !tx.pruned;
    }
    note_pruned(a, h, pruned, whole != 0);
    if (whole != 0 && a->first_whole == 0)
        a->first_whole = h;
    return true;
}

static bool check_block(struct audit *a, uint64_t h, struct audit_block *place)
{
    struct certified_block *b = &place->block;
    *(struct progress *)place->ctx = a->p;
    enum ami_status status = store_block(a->store, h, b, place->buffer, AUDIT_BUFFER_BYTES);
    if (status != AMI_OK)
        return wrong(a, h, status, "block %llu cannot be read: %s", (unsigned long long)h,
                     status == AMI_NOT_FOUND ? "it is not there" : ami_status_text(status));
    /* The check of its front: who reads headers alone looks at no other. */
    struct block_header header;
    struct qc commit;
    status = store_header(a->store, h, &header, &commit);
    if (status != AMI_OK)
        return wrong(a, h, status, "block %llu: its header cannot be read alone: %s",
                     (unsigned long long)h, ami_status_text(status));
    /* Who votes on it follows from the blocks before it. */
    const struct members *members = registry_members(a->registry, h);
    status = members == NULL
                 ? AMI_NO_MEMORY
                 : block_check_header(&a->genesis->parameters, members, &b->header, &a->p.tip);
    if (status != AMI_OK)
        return wrong(a, h, status, "block %llu: %s", (unsigned long long)h,
                     ami_status_text(status));
    sm3_digest hash = block_hash(&b->header);
    if (h >= a->pruned_below && body_is_pruned(b->body) && !check_retention(a, h))
        return false;
    if (!check_certificate(a, members, b, &hash) || !check_body(a, place) ||
        !check_indexes(a, b, &hash))
        return false;
    a->p.tip = (struct block_parent){h, hash, b->header.timestamp_ms};
    return true;
}

static bool check_blocks(struct audit *a, uint64_t height)
{
    while (a->p.tip.height < height) {
        struct audit_block *place = audit_ahead_place(a->ahead);
        if (place == NULL) {
            if (!check_oldest(a))
                return false;
            continue;
        }
        cli_child_progress(a->child, a->p.tip.height, height);
        if (!check_block(a, a->p.tip.height + 1, place)) {
            (void)check_the_rest(a); /* what is wrong in a block before, or with a signature of
                                        this one, is the first thing wrong */
            return false;
        }
    }
    cli_child_progress(a->child, a->p.tip.height, height);
    return check_the_rest(a);
}

/* --- the registry that the store keeps -------------------------------------------------------- */

/* A ledger may grow while it is audited: the registry kept may be one of a greater height, and the
 * blocks up to there come first. */
static bool check_registry(struct audit *a)
{
    struct registry *stored = registry_new(a->genesis);
    uint64_t height = 0;
    enum ami_status status =
        stored == NULL ? AMI_NO_MEMORY : store_load_registry_at(a->store, stored, &height);
    if (status == AMI_OK && height < a->p.tip.height)
        status = AMI_DAMAGED; /* somebody put an older ledger in its place */
    if (status != AMI_OK) {
        registry_free(stored);
        return wrong(a, 0, status, "the registry kept in %.200s cannot be read: %s", a->data,
                     ami_status_text(status));
    }
    sm3_digest kept = registry_root(stored);
    registry_free(stored);
    if (!check_blocks(a, height))
        return false;
    sm3_digest root = registry_root(a->registry);
    if (!sm3_equal(&kept, &root))
        return wrong(a, 0, AMI_BAD_STATE_ROOT,
                     "the registry kept in %.200s is not the one that its blocks lead to", a->data);
    return true;
}

/* --- what else is in the store ---------------------------------------------------------------- */

/* All blocks lead to a row each in these: with one more, some row is nobody's. */
static bool check_counts(struct audit *a, const struct store_counts *c)
{
    const struct {
        const char *what;
        uint64_t rows, must;
    } indexes[] = {{"blocks", c->blocks, c->height},
                   {"hashes", c->hashes, c->height},
                   {"epochs", c->epochs, a->p.of_kind[TX_MEMBERSHIP]}};
    for (size_t i = 0; i < sizeof indexes / sizeof indexes[0]; i++)
        if (indexes[i].rows != indexes[i].must)
            return wrong(a, 0, AMI_DAMAGED,
                         "the index of %s kept in %.200s has %llu rows, and its blocks make %llu",
                         indexes[i].what, a->data, (unsigned long long)indexes[i].rows,
                         (unsigned long long)indexes[i].must);
    return !c->foreign ||
           wrong(a, 0, AMI_DAMAGED, "%.200s holds something that no ledger has", a->data);
}

/* The indexes are wrong somewhere: what is the first transaction of this block that they do not
 * lead to? */
static bool look_for_txs(struct audit *a, uint64_t h, const struct certified_block *b)
{
    struct body_reader it = body_reader_on(b->body);
    struct span encoded;
    for (uint32_t at = 0; body_next(&it, &encoded); at++) {
        struct tx_view tx;
        struct tx plain;
        sm3_digest id;
        uint64_t height = 0;
        uint32_t index = 0;
        AMI_CHECK(tx_view_decode_kept(&tx, encoded) == AMI_OK &&
                  tx_parse(&plain, encoded) == AMI_OK); /* it was right when it was checked */
        enum ami_status status = tx_ids(&id, &plain, 1);
        if (status == AMI_OK)
            status = store_find_tx(a->store, &id, &height, &index);
        if (!is_led_to(status, height, index, h, at))
            return wrong_tx(a, h, at, AMI_DAMAGED,
                            "the ledger's index of transactions does not lead to it");
        if (tx.tx.kind != TX_REPORT)
            continue;
        const struct report_meter_part *m = &tx.u.report.meter;
        status = store_find_report(a->store, &m->meter, m->epoch, m->sequence, &height, &index);
        if (!is_led_to(status, height, index, h, at))
            return wrong_tx(a, h, at, AMI_DAMAGED,
                            "the ledger's index of reports does not lead to it");
    }
    return true;
}

/* The indexes have the rows that the blocks make and no other. */
static bool check_rows(struct audit *a)
{
    struct rows_sum kept = {0};
    enum ami_status status =
        store_sum_runs(a->store, &kept, a->sums.secret, a->sums.written_height);
    if (status == AMI_OK && rows_sum_equal(&kept, &a->sums.written))
        return true;
    if (status != AMI_OK && status != AMI_DAMAGED)
        return wrong(a, 0, status, "the indexes kept in %.200s cannot be read: %s", a->data,
                     ami_status_text(status));
    struct audit_block *place = audit_ahead_place(a->ahead);
    AMI_CHECK(place != NULL); /* all have been checked */
    for (uint64_t h = 1; h <= a->sums.written_height; h++) {
        status = store_block(a->store, h, &place->block, place->buffer, AUDIT_BUFFER_BYTES);
        if (status != AMI_OK)
            return wrong(a, h, status, "block %llu cannot be read: %s", (unsigned long long)h,
                         ami_status_text(status));
        if (!look_for_txs(a, h, &place->block))
            return false;
    }
    return wrong(a, 0, AMI_DAMAGED,
                 "the indexes kept in %.200s have %llu rows, and its blocks make others, %llu",
                 a->data, (unsigned long long)kept.rows, (unsigned long long)a->sums.written.rows);
}

/* Is no report whole in the blocks below the mark? One that was may have been pruned since. */
static bool check_mark(struct audit *a, const struct store_counts *c)
{
    const uint64_t mark = c->retention.pruned;
    uint64_t h = a->first_whole;
    bool right = mark <= c->height + 1;
    struct audit_block *place = audit_ahead_place(a->ahead);
    AMI_CHECK(place != NULL); /* all have been checked */
    for (; right && h != 0 && h < mark; h++) {
        struct body_reader it;
        struct span encoded;
        enum ami_status status =
            store_block(a->store, h, &place->block, place->buffer, AUDIT_BUFFER_BYTES);
        if (status != AMI_OK)
            return wrong(a, h, status, "block %llu cannot be read: %s", (unsigned long long)h,
                         ami_status_text(status));
        it = body_reader_on(place->block.body);
        while (right && body_next(&it, &encoded))
            right = encoded.data[0] != TX_REPORT;
    }
    return right ||
           wrong(a, 0, AMI_DAMAGED, "%.200s says that it is pruned below block %llu, and it is not",
                 a->data, (unsigned long long)mark);
}

/* A forged watermark would let its DC take blocks pruned that nobody has allowed to lose that, and
 * one that is too low would never be reached. */
static bool check_kept_retention(struct audit *a, const struct store_counts *c)
{
    const struct store_retention *r = &c->retention;
    uint64_t below = 0;
    enum ami_status status = AMI_OK;
    if (r->tx_size != 0)
        status = retention_check(a->genesis, span_of(r->tx, r->tx_size), &below);
    if (status != AMI_OK)
        return wrong_retention(a, status);
    if (below < registry_retention(a->registry))
        return wrong(a, 0, AMI_DAMAGED,
                     "the retention kept in %.200s is of watermark %llu, and its blocks have %llu",
                     a->data, (unsigned long long)below,
                     (unsigned long long)registry_retention(a->registry));
    return check_mark(a, c);
}

static bool check_the_store(struct audit *a)
{
    struct store_counts c;
    enum ami_status status = store_count(a->store, &c);
    if (status == AMI_OK && c.height < a->p.tip.height)
        status = AMI_DAMAGED;
    if (status != AMI_OK)
        return wrong(a, 0, status, "what %.200s keeps beside its blocks cannot be read: %s",
                     a->data, ami_status_text(status));
    /* As far as it had grown when it was counted. */
    return check_blocks(a, c.height) && check_counts(a, &c) && check_rows(a) &&
           check_kept_retention(a, &c);
}

/* --- the whole -------------------------------------------------------------------------------- */

static json_t *problem_document(const struct audit *a)
{
    if (a->status == AMI_OK)
        return json_null();
    return json_pack("{s:I, s:o, s:s, s:s}", "height", (json_int_t)a->height, "tx",
                     a->has_tx ? json_integer(a->tx) : json_null(), "status",
                     ami_status_name(a->status), "text", a->text);
}

/* Counts of the registry at its end. */
static void count_meters(const struct audit *a, uint64_t *meters, uint64_t *revoked)
{
    *meters = *revoked = 0;
    for (uint64_t i = 0; i < registry_size(a->registry); i++) {
        const struct record *r = registry_at(a->registry, i);
        *meters += r->kind == RECORD_METER;
        *revoked += r->kind == RECORD_METER && r->revoked_at != 0;
    }
}

/* The DCs that evidence on the ledger convicts, and of what. */
static json_t *convicted(struct audit *a)
{
    json_t *all = json_array();
    for (uint64_t i = 0; a->registry != NULL && i < registry_size(a->registry); i++) {
        const struct record *r = registry_at(a->registry, i);
        json_t *kinds = json_array();
        for (uint8_t kind = EVIDENCE_VOTES; r->kind == RECORD_DC && kind < EVIDENCE_KIND_END;
             kind++)
            if ((r->window >> kind & 1) != 0)
                json_array_append_new(kinds, json_string(evidence_kind_name(kind)));
        if (json_array_size(kinds) != 0)
            json_array_append_new(all, json_pack("{s:s, s:I, s:O}", "dc", r->name.text, "epoch",
                                                 (json_int_t)r->epoch, "kinds", kinds));
        json_decref(kinds);
    }
    return all;
}

static json_t *audit_document(struct audit *a, uint64_t started_us)
{
    uint64_t meters = 0, revoked = 0;
    double seconds = (double)(clock_mono_us() - started_us) / 1e6;
    char chain[2 * SM3_BYTES + 1], tip[2 * SM3_BYTES + 1], root[2 * SM3_BYTES + 1] = "";
    hex_encode(chain, a->genesis->members.chain.b, SM3_BYTES);
    hex_encode(tip, a->p.tip.hash.b, SM3_BYTES);
    if (a->registry != NULL) {
        count_meters(a, &meters, &revoked);
        sm3_digest r = registry_root(a->registry);
        hex_encode(root, r.b, SM3_BYTES);
    }
    return json_pack("{s:b, s:s, s:s, s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:o, "
                     "s:o, s:o, s:I}",
                     "ok", a->status == AMI_OK, "data", a->data, "chain", chain, "height",
                     (json_int_t)a->p.tip.height, "tip", tip, "state_root", root, "blocks",
                     (json_int_t)a->p.tip.height, "transactions", (json_int_t)a->p.transactions,
                     "reports", (json_int_t)a->p.of_kind[TX_REPORT], "meters", (json_int_t)meters,
                     "meters_revoked", (json_int_t)revoked, "signatures",
                     (json_int_t)a->p.signatures, "seconds", seconds, "transactions_per_s",
                     seconds > 0 ? (double)a->p.transactions / seconds : 0.0, "convicted",
                     convicted(a), "problem", problem_document(a), "pruned", json_incref(a->pruned),
                     "pruned_reports", (json_int_t)a->pruned_reports);
}

static void run_audit(struct audit *a)
{
    enum ami_status status;
    char why[WHY_BYTES_MAX];
    if (!cli_child_open(a->child, a->data, &a->genesis->members.chain, &a->store, &status, why,
                        sizeof why)) {
        (void)wrong(a, 0, status, "%s", why);
        return;
    }
    genesis_remember_signers(a->genesis);
    a->registry = registry_new(a->genesis);
    if (a->registry != NULL)
        a->ahead = audit_ahead_new(a->registry, 0, sizeof(struct progress));
    if (a->ahead == NULL || a->pruned == NULL) {
        (void)wrong(a, 0, AMI_NO_MEMORY, "out of memory");
        return;
    }
    if (check_blocks(a, store_height(a->store)))
        (void)(check_registry(a) && check_the_store(a));
}

static json_t *audit_in_child(struct cli_child *child, void *ctx)
{
    struct cli *c = ctx;
    struct audit a;
    memset(&a, 0, sizeof a);
    a.child = child;
    a.genesis = c->genesis;
    a.data = c->data;
    a.pruned = json_array();
    secret_random(a.sums.secret, sizeof a.sums.secret);
    a.p.tip = (struct block_parent){0, c->genesis->members.chain, c->genesis->created_ms};
    uint64_t started_us = clock_mono_us();
    run_audit(&a);
    json_t *out = audit_document(&a, started_us);
    json_decref(a.pruned);
    audit_ahead_free(a.ahead);
    registry_free(a.registry);
    if (a.store != NULL)
        store_close(a.store);
    return out;
}

static long long number(const json_t *o, const char *key)
{
    return (long long)json_integer_value(json_object_get(o, key));
}

static void print_convicted(const json_t *all)
{
    size_t i, k;
    json_t *dc, *kind;
    json_array_foreach(all, i, dc)
    {
        printf("evidence      %s in key epoch %lld signed what no honest DC signs:",
               json_string_value(json_object_get(dc, "dc")), number(dc, "epoch"));
        json_array_foreach(json_object_get(dc, "kinds"), k, kind)
            printf("%s %s", k == 0 ? "" : ",", json_string_value(kind));
        printf("\n");
    }
}

static void print_pruned(const json_t *runs)
{
    size_t i;
    json_t *run;
    json_array_foreach(runs, i, run)
        printf("pruned        blocks %lld to %lld: of %lld reports the sealed content, gateway and "
               "its signature are gone\n",
               number(run, "from"), number(run, "to"), number(run, "reports"));
}

static void print_facts(const struct cli *c, const json_t *d)
{
    const struct genesis *g = c->genesis;
    printf("ledger        %s\n", c->data);
    printf("chain         %s, network %s, %u DCs\n", json_string_value(json_object_get(d, "chain")),
           g->network.name.text, (unsigned)g->members.count);
    printf("blocks        %lld: every link, certificate, Merkle root and state root is right\n",
           number(d, "blocks"));
    printf("transactions  %lld, of them %lld reports: each is admissible where it stands\n",
           number(d, "transactions"), number(d, "reports"));
    printf("meters        %lld keys enrolled, %lld of them revoked\n", number(d, "meters"),
           number(d, "meters_revoked"));
    print_pruned(json_object_get(d, "pruned"));
    print_convicted(json_object_get(d, "convicted"));
    printf("signatures    %lld, all valid\n", number(d, "signatures"));
    printf("registry      as kept on disk it is the one recomputed, root %.16s...\n",
           json_string_value(json_object_get(d, "state_root")));
    printf("indexes       every block, transaction and report is found where it stands, and no "
           "other\n");
    printf("time          %.2f s, %.0f transactions/s\n",
           json_number_value(json_object_get(d, "seconds")),
           json_number_value(json_object_get(d, "transactions_per_s")));
    printf("ok            the ledger verifies from its genesis to height %lld\n",
           number(d, "height"));
}

/* The child crashed: what is known is where it was. */
static json_t *crash_document(const struct cli *c, const struct cli_guard_end *end)
{
    return json_pack("{s:b, s:s, s:I, s:I, s:{s:I, s:n, s:s, s:s}}", "ok", 0, "data", c->data,
                     "height", (json_int_t)end->done, "blocks", (json_int_t)end->done, "problem",
                     "height", (json_int_t)0, "tx", "status", ami_status_name(end->status), "text",
                     end->why);
}

json_t *cli_audit_of(struct cli *c, const char *data)
{
    struct cli_guard_end end;
    const char *named = c->data;
    c->data = data;
    json_t *d = cli_guard(c, "audit", "blocks", audit_in_child, c, &end);
    if (d == NULL)
        d = crash_document(c, &end);
    c->data = named;
    return d;
}

int cli_audit(int argc, char **argv, void *ctx)
{
    (void)argc;
    (void)argv;
    struct cli *c = ctx;
    int exit_status = EXIT_STATUS_OK;
    if (cli_data(c, &exit_status) == NULL || !cli_genesis(c, c->data, &exit_status))
        return exit_status;
    json_t *d = cli_audit_of(c, c->data);
    bool ok = json_is_true(json_object_get(d, "ok"));
    exit_status = ok ? EXIT_STATUS_OK : EXIT_STATUS_FAILED;
    if (c->json) {
        int printed = cli_print_json(d);
        return printed != EXIT_STATUS_OK ? printed : exit_status;
    }
    const json_t *problem = json_object_get(d, "problem");
    if (ok)
        print_facts(c, d);
    else
        fprintf(stderr, CLI_NAME ": %s\n", json_string_value(json_object_get(problem, "text")));
    json_decref(d);
    return exit_status;
}
