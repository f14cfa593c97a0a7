/* mdms/follow.c - following the ledger: blocks in, readings out.
 *
 * One DC at a time, the source, is asked for the blocks after those that are held already. On the
 * loop a block must extend the one before it; in the work pool its certificate and its Merkle root
 * are checked and its reports opened; then it is stored together with the new position. A block
 * that fails a check is the fault of who served it: its certificate proves it or nothing does. The
 * DC is passed over for a while and another one asked.
 *
 * The state root is not recomputed: the MDMS keeps no registry, and q DCs have signed that root.
 */
#include "crypto/secret.h"
#include "crypto/sm4gcm.h"
#include "ledger/evidence.h"
#include "ledger/pruned.h"
#include "mdms/internal.h"
#include "wire/report.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

enum slot_state { SLOT_WORKING, SLOT_GOOD, SLOT_BAD };

/* One report of a block, opened or not. */
struct opened {
    struct report_meter_part meter;
    struct ami_id dc;
    uint32_t dc_epoch;
    uint32_t index;
    enum ami_status status; /* AMI_OK, BAD_CRYPTO or BAD_PROOF */
    bool no_report;         /* the meter signed it, but it is no valid encoding of a report */
    uint8_t salt[16];
    size_t m_at, m_size; /* in plain */
    uint32_t readings;
};

#define POLL_US_MAX    (5u * 1000000u)
#define SOURCE_TURNS   15u /* times silence_ms, however much it gives */
#define BATCHES_CACHED 8   /* encapsulations opened lately: a block holds a few batches per DC */

/* A transaction of the MDMS in a block. */
struct own_tx {
    uint64_t number;
    sm3_digest id;
};

struct follow_job {
    struct job job;
    struct follow_job *next; /* among those that were given up while they were worked on */
    const struct genesis *genesis;
    struct members members; /* of this block's height */
    const sm2_private *readings_key;
    uint8_t member; /* who served it */
    bool working;   /* in the pool: what follows belongs to the pool's thread */
    bool abandoned;
    enum slot_state state;

    uint8_t *bytes; /* owns what block borrows */
    struct certified_block block;
    sm3_digest hash;

    /* Results. */
    enum ami_status status; /* why it is bad */
    struct opened *opened;
    size_t opened_count;
    uint8_t *plain;
    size_t plain_size;
    struct span change;   /* first part of a membership transaction; empty: none */
    uint64_t change_from; /* and the first height that it decides about; 0: none */
    uint64_t retention;   /* watermark of a retention transaction; 0: none */
    uint64_t unread;      /* reports that were pruned */
    uint64_t mdms_last;   /* greatest number of a transaction of the MDMS; 0: none */
    struct own_tx *own;
    size_t own_count;
    uint8_t convicted[AMI_MEMBERS_MAX]; /* by evidence in this block: bit, enum evidence_kind */
    struct seal_batch cache[BATCHES_CACHED];
    unsigned cached, cache_at;
};

static void job_free(struct follow_job *j)
{
    if (j == NULL)
        return;
    AMI_CHECK(!j->working);
    secret_wipe(j->cache, sizeof j->cache);
    if (j->plain != NULL)
        secret_wipe(j->plain, j->plain_size);
    free(j->bytes);
    free(j->opened);
    free(j->own);
    free(j->plain);
    free(j);
}

/* --- in the work pool ------------------------------------------------------------------------- */

static enum ami_status check_certificate(const struct follow_job *j)
{
    const struct qc *c = &j->block.commit;
    if (c->kind != VOTE_COMMIT || c->height != j->block.header.height ||
        !sm3_equal(&c->block, &j->hash))
        return AMI_BAD_CERTIFICATE;
    return qc_check(&j->members, c) == AMI_OK ? AMI_OK : AMI_BAD_CERTIFICATE;
}

static enum ami_status check_merkle_root(const struct follow_job *j)
{
    size_t count = 0;
    sm3_digest *leaves = malloc(AMI_BLOCK_TXS_MAX * sizeof *leaves);
    if (leaves == NULL)
        return AMI_NO_MEMORY;
    enum ami_status status = body_leaves(leaves, NULL, AMI_BLOCK_TXS_MAX, &count, j->block.body);
    if (status == AMI_OK) {
        sm3_digest root = merkle_root(leaves, count);
        if (count != j->block.header.tx_count || !sm3_equal(&root, &j->block.header.merkle_root))
            status = AMI_BAD_MERKLE_ROOT;
    }
    free(leaves);
    return status;
}

/* The secret behind an encapsulation; one multiplication per batch of a gateway. */
static const struct seal_batch *batch_of(struct follow_job *j, const point_bytes *c1)
{
    for (unsigned i = 0; i < j->cached; i++) {
        if (memcmp(&j->cache[i].c1, c1, sizeof *c1) == 0)
            return &j->cache[i];
    }
    struct seal_batch *b = &j->cache[j->cache_at];
    if (seal_batch_open(b, j->readings_key, c1) != AMI_OK) {
        secret_wipe(b, sizeof *b);
        return NULL;
    }
    b->c1 = *c1;
    j->cache_at = (j->cache_at + 1) % BATCHES_CACHED;
    if (j->cached < BATCHES_CACHED)
        j->cached++;
    return b;
}

/* Opens one report into `o` and behind the plain bytes. What does not open, or opens to something
 * else than the meter committed to, is the gateway's doing. */
static void open_report(struct follow_job *j, const struct tx_view *tx, struct opened *o,
                        struct reading *scratch)
{
    const struct report_gateway_part *g = &tx->u.report.gateway;
    const struct seal_batch *batch = batch_of(j, &g->c1);
    uint8_t *plain = j->plain + j->plain_size;
    o->status = AMI_BAD_CRYPTO;
    if (batch == NULL || g->sealed.size < sizeof o->salt + GCM_TAG_BYTES ||
        unseal_report(plain, batch, &j->genesis->members.chain, &g->dc, &o->meter.meter,
                      o->meter.epoch, o->meter.sequence, g->sealed) != AMI_OK)
        return;
    memcpy(o->salt, plain, sizeof o->salt);
    o->m_at = j->plain_size + sizeof o->salt;
    o->m_size = g->sealed.size - GCM_TAG_BYTES - sizeof o->salt;
    struct span m = span_of(j->plain + o->m_at, o->m_size);
    sm3_digest c = report_commitment(o->salt, m);
    if (m.size > AMI_REPORT_BYTES_MAX || !sm3_equal(&c, &o->meter.commitment)) {
        o->status = AMI_BAD_PROOF;
        return;
    }
    enum report_kind kind;
    size_t count;
    o->status = AMI_OK;
    o->no_report = report_decode(&kind, scratch, &count, m) != AMI_OK;
    o->readings = o->no_report ? 0 : (uint32_t)count;
    j->plain_size += sizeof o->salt + o->m_size;
}

static enum ami_status open_reports(struct follow_job *j)
{
    struct span encoded;
    struct reading *scratch = calloc(AMI_REPORT_READINGS_MAX, sizeof *scratch);
    /* What is opened is shorter than what was sealed, so the body's size is enough. */
    j->plain = malloc(j->block.body.size + 1);
    j->opened = calloc(j->block.header.tx_count + 1u, sizeof *j->opened);
    enum ami_status status = AMI_OK;
    j->own = calloc(j->block.header.tx_count + 1u, sizeof *j->own);
    if (scratch == NULL || j->plain == NULL || j->opened == NULL || j->own == NULL)
        status = AMI_NO_MEMORY;
    struct body_reader it = body_reader_on(j->block.body);
    for (uint32_t i = 0; status == AMI_OK && body_next(&it, &encoded); i++) {
        struct tx_view tx;
        if ((status = tx_view_decode_kept(&tx, encoded)) != AMI_OK)
            break; /* nobody could have voted for it */
        j->unread += tx.pruned;
        if (tx.tx.kind == TX_RETENTION)
            j->retention = tx.u.retention.below;
        if (tx.tx.kind == TX_REPORT && !tx.pruned) {
            struct opened *o = &j->opened[j->opened_count++];
            o->meter = tx.u.report.meter;
            o->dc = tx.u.report.gateway.dc;
            o->dc_epoch = tx.u.report.gateway.dc_epoch;
            o->index = i;
            open_report(j, &tx, o, scratch);
        }
        uint64_t number = tx_mdms_number(&tx);
        const struct evidence *e = &tx.u.evidence;
        if (tx.tx.kind == TX_EVIDENCE && evidence_place(&j->members, e) == AMI_OK)
            j->convicted[e->accused] |= (uint8_t)(1u << e->kind);
        if (number != 0) {
            tx_view_identify(&tx);
            j->own[j->own_count++] = (struct own_tx){number, tx.id};
        }
        if (number > j->mdms_last)
            j->mdms_last = number;
    }
    free(scratch);
    return status;
}

static void run(void *arg)
{
    struct follow_job *j = arg;
    j->status = check_certificate(j);
    if (j->status == AMI_OK)
        j->status = check_merkle_root(j);
    if (j->status == AMI_OK)
        j->status = open_reports(j);
    secret_wipe(j->cache, sizeof j->cache);
    j->state = j->status == AMI_OK ? SLOT_GOOD : SLOT_BAD;
}

/* --- on the loop ------------------------------------------------------------------------------ */

/* Gives up the slots from `from` on. Those being worked on are freed when they come back. */
static void abandon(struct mdms *m, size_t from)
{
    AMI_CHECK(from >= m->slots_in_write);
    for (size_t i = from; i < m->slot_count; i++) {
        struct follow_job *j = m->slot[i];
        m->slot[i] = NULL;
        if (j->working) {
            j->abandoned = true;
            LL_PREPEND(m->abandoned, j);
        } else {
            job_free(j);
        }
    }
    if (m->slot_count > from)
        m->slot_count = from;
}

static void fetch_soon(struct mdms *m)
{
    m->fetch_at_us = mdms_now_us(m);
    m->asked_last = 0;
}

/* Checked and found good. What a job holds may be looked at only when it is back from the pool. */
static bool is_good(const struct follow_job *j)
{
    return !j->working && j->state == SLOT_GOOD;
}

/* Leaves the source for another one, -1: none. What it served and is not verified yet goes with it,
 * so that no later block can be measured against a lie. */
static void change_source_to(struct mdms *m, int source)
{
    size_t good = m->slots_in_write;
    while (good < m->slot_count && is_good(m->slot[good]))
        good++;
    abandon(m, good);
    m->source = source;
    m->heard_us = m->source_since_us = mdms_now_us(m);
    fetch_soon(m);
}

static void change_source(struct mdms *m)
{
    change_source_to(m, dcs_next(m, m->source, true));
}

void follow_distrust(struct mdms *m, uint8_t member)
{
    m->dc[member].distrusted_until_us = mdms_now_us(m) + (uint64_t)m->c.timing.distrust_ms * 1000;
    if (m->source == member)
        change_source(m);
}

static void distrust(struct mdms *m, uint8_t member, uint64_t height, enum ami_status why)
{
    struct dc_link *l = &m->dc[member];
    /* Said once while it is passed over: one that goes on must not fill the log. */
    bool known = mdms_now_us(m) < l->distrusted_until_us;
    l->bad_blocks++;
    if (!known)
        mdms_log(m, ENV_LOG_WARN, "bad_block", "dc=%s height=%llu status=%s",
                 m->dc[member].name.text, (unsigned long long)height, ami_status_name(why));
    follow_distrust(m, member);
}

void follow_on_links(struct mdms *m)
{
    if (!dcs_ready(m, m->source))
        change_source(m);
}

/* What the next block must extend. */
static struct block_parent tail(const struct mdms *m)
{
    if (m->slot_count == 0)
        return (struct block_parent){m->durable.height, m->durable.tip, m->durable.tip_ms};
    const struct follow_job *j = m->slot[m->slot_count - 1];
    return (struct block_parent){j->block.header.height, j->hash, j->block.header.timestamp_ms};
}

/* All that the source gives for one question is here: ask for more at once. Whether a DC has less
 * than that, or is still sending, it does not say. */
static bool served_all(const struct mdms *m)
{
    return tail(m).height >= m->asked_last || m->served_bytes >= MDMS_SERVE_BYTES;
}

/* A change of membership in the block, looked for before the block is checked: until it is stored,
 * nobody can say who certifies the blocks from `change_from` on. */
static void find_change(struct follow_job *j)
{
    struct body_reader it = body_reader_on(j->block.body);
    struct span encoded;
    while (body_next(&it, &encoded)) {
        struct tx_view tx;
        if (encoded.size == 0 || encoded.data[0] != TX_MEMBERSHIP ||
            tx_view_parse(&tx, encoded) != AMI_OK)
            continue; /* a malformed one makes the block a bad one */
        j->change = tx.tx.first;
        j->change_from = j->block.header.height + tx.u.membership.delay;
    }
}

/* True: a block of this height waits until those before it are stored. */
static bool beyond_a_change(const struct mdms *m, uint64_t height)
{
    for (size_t i = 0; i < m->slot_count; i++)
        if (m->slot[i]->change_from != 0 && height >= m->slot[i]->change_from)
            return true;
    return false;
}

static struct follow_job *job_new(struct mdms *m, uint8_t member, struct span body)
{
    struct follow_job *j = calloc(1, sizeof *j);
    if (j == NULL || (j->bytes = malloc(body.size)) == NULL) {
        free(j);
        return NULL;
    }
    memcpy(j->bytes, body.data, body.size);
    j->job.kind = JOB_FOLLOW;
    j->genesis = m->c.genesis;
    j->readings_key = &m->c.keys->readings;
    j->member = member;
    AMI_CHECK(certified_block_parse(&j->block, span_of(j->bytes, body.size)) == AMI_OK);
    j->hash = block_hash(&j->block.header);
    j->members = *members_at(m, j->block.header.height);
    find_change(j);
    return j;
}

static void take(struct mdms *m, uint8_t member, struct span body)
{
    struct follow_job *j = job_new(m, member, body);
    if (j == NULL) {
        mdms_log(m, ENV_LOG_ERROR, "block_not_taken", "status=NO_MEMORY");
        return;
    }
    j->working = true;
    if (mdms_work(m, run, &j->job) != AMI_OK) {
        /* The pool is full of enrolments; the block is asked for again. */
        j->working = false;
        job_free(j);
        return;
    }
    m->slot[m->slot_count++] = j;
}

/* One that may have this block whole, and was not asked yet; -1: none. */
static int next_to_ask(const struct mdms *m, uint64_t height)
{
    int at = m->source;
    for (int i = 0; i < MDMS_DCS_MAX; i++) {
        at = dcs_next(m, at, true);
        if (at < 0)
            return -1;
        if (m->dc[at].whole_asked != height && mdms_now_us(m) >= m->dc[at].mute_until_us)
            return at;
    }
    return -1;
}

/* At a start the first DC to answer may be the one that lies: the others get some time to come. */
static bool others_may_come(const struct mdms *m)
{
    if (mdms_now_us(m) - m->pruned_met_us >= (uint64_t)m->c.timing.silence_ms * 1000)
        return false;
    for (int i = 0; i < MDMS_DCS_MAX; i++)
        if (m->dc[i].used && m->dc[i].state != DC_READY)
            return true;
    return false;
}

/* The source serves a block pruned that the MDMS does not have. What it has lost another DC may
 * still hold, and one DC that prunes too early must not decide that the readings are gone: each
 * that is there is asked once, before the first pruned block and again after each window of them.
 * True: this one is not to be taken. */
static bool ask_for_it_whole(struct mdms *m, uint64_t height)
{
    if (height < m->pruned_taken_to)
        return false;
    m->dc[m->source].whole_asked = height;
    if (m->pruned_met_us == 0)
        m->pruned_met_us = mdms_now_us(m);
    const int next = next_to_ask(m, height);
    if (next < 0 && others_may_come(m)) {
        m->heard_us = mdms_now_us(m);
        return true;
    }
    if (next < 0) {
        m->pruned_taken_to = height + MDMS_FOLLOW_WINDOW;
        return false;
    }
    /* Blocks before it that are not checked yet would go with the source, and perhaps come back
     * pruned. This one is asked for again. */
    for (size_t i = 0; i < m->slot_count; i++)
        if (!is_good(m->slot[i])) {
            m->heard_us = mdms_now_us(m); /* it is not the source that is slow */
            return true;
        }
    m->dc[next].whole_asked = height;
    change_source_to(m, next);
    return true;
}

/* Who was the source may have been given up while this was on its way: on a slow link one block
 * takes longer than a source may be silent, and what came of it too late each time would never be
 * taken. */
static bool is_late(const struct mdms *m, uint8_t member, const struct certified_block *b)
{
    const struct dc_link *l = &m->dc[member];
    return b->header.height <= l->asked_to && mdms_now_us(m) >= l->distrusted_until_us &&
           !body_is_pruned(b->body);
}

/* The last block held is not verified yet, and of somebody else: nothing is measured against it. */
static bool behind_another(const struct mdms *m, uint8_t member)
{
    const struct follow_job *last = m->slot_count == 0 ? NULL : m->slot[m->slot_count - 1];
    return last != NULL && !is_good(last) && last->member != member;
}

void follow_on_block(struct mdms *m, uint8_t member, struct span body)
{
    struct certified_block b;
    if (certified_block_parse(&b, body) != AMI_OK) {
        m->stats.frames_bad++;
        distrust(m, member, 0, AMI_BAD_ENCODING);
        return;
    }
    struct block_parent parent = tail(m);
    const bool late = member != m->source;
    if (!late && b.header.height <= parent.height)
        m->repeated = true;
    /* Not asked for, seen before, or more than we hold: another time. Before the store is bound to
     * the chain there is nothing to extend. */
    if ((late && !is_late(m, member, &b)) || m->bind || m->slot_count == MDMS_FOLLOW_WINDOW ||
        b.header.height != parent.height + 1 || beyond_a_change(m, b.header.height) ||
        behind_another(m, member))
        return;
    enum ami_status status = block_check_header(&m->c.genesis->parameters,
                                                members_at(m, b.header.height), &b.header, &parent);
    const bool pruned = body_is_pruned(b.body);
    if (status == AMI_OK && b.header.height >= m->pruned_below && pruned)
        status = AMI_BAD_ENCODING; /* nobody has allowed it to lose that */
    if (status != AMI_OK) {
        distrust(m, member, b.header.height, status);
        return;
    }
    if (pruned && ask_for_it_whole(m, b.header.height))
        return;
    take(m, member, body);
    if (late) {
        m->repeated = true; /* as on its way when others were asked */
        return;
    }
    m->heard_us = mdms_now_us(m);
    m->served_bytes += body.size;
    if (served_all(m))
        fetch_soon(m);
}

void follow_on_work(struct mdms *m, struct follow_job *j)
{
    j->working = false;
    if (j->abandoned) {
        LL_DELETE(m->abandoned, j);
        job_free(j);
        return;
    }
    if (j->state == SLOT_GOOD)
        return;
    size_t at = 0;
    while (m->slot[at] != j)
        at++;
    uint64_t height = j->block.header.height;
    uint8_t member = j->member;
    enum ami_status status = j->status;
    abandon(m, at);
    if (status == AMI_NO_MEMORY) {
        mdms_log(m, ENV_LOG_ERROR, "block_not_taken", "status=NO_MEMORY");
        m->asked_last = 0;
        return;
    }
    distrust(m, member, height, status);
}

/* --- storing ---------------------------------------------------------------------------------- */

static void stage_bad_seal(struct mdms *m, const struct follow_job *j, const struct opened *o)
{
    uint8_t bytes[128];
    struct bad_seal_record b = {.height = j->block.header.height,
                                .index = o->index,
                                .dc = o->dc,
                                .dc_epoch = o->dc_epoch,
                                .status = (uint16_t)o->status};
    struct writer w = writer_on(bytes, sizeof bytes);
    bad_seal_record_encode(&w, &b);
    AMI_CHECK(writer_ok(&w));
    struct mdms_key key = key_report(&o->meter.meter, o->meter.epoch, o->meter.sequence);
    mdms_write_put(&m->write, TABLE_BAD_SEALS, &key, writer_span(&w));
    m->staged.bad_seals++;
}

static void stage_report(struct mdms *m, const struct follow_job *j, const struct opened *o)
{
    uint8_t bytes[MDMS_RECORD_BYTES_MAX];
    struct report_record r = {.height = j->block.header.height,
                              .index = o->index,
                              .block_ms = j->block.header.timestamp_ms,
                              .dc = o->dc,
                              .dc_epoch = o->dc_epoch,
                              .m = span_of(j->plain + o->m_at, o->m_size)};
    memcpy(r.salt, o->salt, sizeof r.salt);
    struct writer w = writer_on(bytes, sizeof bytes);
    report_record_encode(&w, &r);
    AMI_CHECK(writer_ok(&w));
    struct mdms_key key = key_report(&o->meter.meter, o->meter.epoch, o->meter.sequence);
    mdms_write_put(&m->write, TABLE_REPORTS, &key, writer_span(&w));
    m->staged.reports++;
    m->staged.readings += o->readings;
    m->staged.bad_reports += o->no_report;
}

/* The number is on the ledger, but with what? Only an MDMS on an old copy of its store gives a
 * number to two transactions; the one in the outbox will never be committed, and somebody must be
 * told. */
static void check_number(struct mdms *m, const struct own_tx *own)
{
    struct mdms_key key = key_number(own->number);
    struct span value;
    struct tx_view tx;
    if (own->number <= m->staged.settled || own->number > m->durable.last ||
        mdms_get(m, TABLE_OUTBOX, &key, &value) != AMI_OK)
        return;
    if (tx_view_parse(&tx, value) != AMI_OK)
        (void)mdms_damaged(m, TABLE_OUTBOX);
    else if (!sm3_equal(&tx.id, &own->id))
        mdms_log(m, ENV_LOG_ERROR, "number_taken",
                 "number=%llu device=%s why=\"the ledger has another transaction of this number; "
                 "what this one says never gets there\"",
                 (unsigned long long)own->number,
                 tx.tx.kind == TX_METER_ENROL  ? tx.u.meter_enrol.meter.text
                 : tx.tx.kind == TX_DC_ENROL   ? tx.u.dc_enrol.dc.text
                 : tx.tx.kind == TX_REVOKE     ? tx.u.revoke.device.text
                 : tx.tx.kind == TX_MEMBERSHIP ? tx.u.membership.dc.text
                 : tx.tx.kind == TX_RETENTION  ? "(retention)"
                                               : "?");
}

/* Transactions up to this number are on the ledger: the outbox forgets them. */
static void stage_settled(struct mdms *m, uint64_t number)
{
    while (m->staged.settled < number && m->staged.settled < m->staged.last) {
        struct mdms_key key = key_number(++m->staged.settled);
        mdms_write_delete(&m->write, TABLE_OUTBOX, &key);
    }
    if (number > m->durable.last) {
        /* Somebody else signs with our key, or this store is an old copy. Numbers go on behind. */
        mdms_log(m, ENV_LOG_ERROR, "foreign_transaction", "number=%llu last_known=%llu",
                 (unsigned long long)number, (unsigned long long)m->durable.last);
    }
    if (number > m->staged.last)
        m->staged.last = m->staged.settled = number;
}

static void stage_block(struct mdms *m, const struct follow_job *j)
{
    for (size_t i = 0; i < j->opened_count; i++) {
        if (j->opened[i].status == AMI_OK)
            stage_report(m, j, &j->opened[i]);
        else
            stage_bad_seal(m, j, &j->opened[i]);
    }
    for (size_t i = 0; i < j->own_count; i++)
        check_number(m, &j->own[i]);
    stage_settled(m, j->mdms_last);
    retention_stage_block(m, j->block.header.height, j->retention, j->unread);
    if (j->change_from != 0)
        members_stage_change(m, j->change, j->block.header.height);
    m->staged.height = j->block.header.height;
    m->staged.tip = j->hash;
    m->staged.tip_ms = j->block.header.timestamp_ms;
}

bool follow_stage(struct mdms *m)
{
    AMI_CHECK(m->slots_in_write == 0);
    size_t n = 0;
    while (n < m->slot_count && is_good(m->slot[n]) &&
           (n == 0 || m->write.size < MDMS_WRITE_BYTES_MAX)) {
        AMI_CHECK(m->slot[n]->block.header.height == m->staged.height + 1);
        stage_block(m, m->slot[n]);
        n++;
    }
    m->slots_in_write = n;
    return n > 0;
}

/* What is to be done about it, a person decides: revoke the key, perhaps. */
static void report_convicted(struct mdms *m, const struct follow_job *j)
{
    for (uint8_t i = 0; i < j->members.count; i++)
        for (uint8_t kind = EVIDENCE_VOTES; kind < EVIDENCE_KIND_END; kind++)
            if ((j->convicted[i] >> kind & 1) != 0)
                mdms_log(m, ENV_LOG_ERROR, "evidence", "dc=%s epoch=%u kind=%s height=%llu",
                         j->members.member[i].name.text, (unsigned)j->members.member[i].key_epoch,
                         evidence_kind_name(kind), (unsigned long long)j->block.header.height);
}

/* Says what a person should know about a stored block. */
static void report_stored(struct mdms *m, const struct follow_job *j)
{
    for (size_t i = 0; i < j->opened_count; i++) {
        const struct opened *o = &j->opened[i];
        if (o->status != AMI_OK)
            mdms_log(m, ENV_LOG_WARN, "bad_seal",
                     "dc=%s meter=%s epoch=%u sequence=%llu height=%llu why=\"%s\"", o->dc.text,
                     o->meter.meter.text, (unsigned)o->meter.epoch,
                     (unsigned long long)o->meter.sequence,
                     (unsigned long long)j->block.header.height,
                     o->status == AMI_BAD_PROOF ? "it sealed something else than the meter signed"
                                                : "it sealed nothing that opens");
        else if (o->no_report)
            mdms_log(m, ENV_LOG_WARN, "bad_report", "meter=%s epoch=%u sequence=%llu",
                     o->meter.meter.text, (unsigned)o->meter.epoch,
                     (unsigned long long)o->meter.sequence);
    }
    report_convicted(m, j);
    m->stats.blocks++;
}

void follow_on_stored(struct mdms *m, enum ami_status status)
{
    size_t n = m->slots_in_write;
    m->slots_in_write = 0;
    if (status != AMI_OK || n == 0)
        return;
    bool settled = false;
    for (size_t i = 0; i < n; i++) {
        report_stored(m, m->slot[i]);
        members_on_block(m, m->slot[i]->change, m->slot[i]->block.header.height);
        settled = settled || m->slot[i]->mdms_last != 0;
        job_free(m->slot[i]);
    }
    m->slot_count -= n;
    memmove(m->slot, m->slot + n, m->slot_count * sizeof m->slot[0]);
    if (settled)
        outbox_on_settled(m);
    if (served_all(m))
        fetch_soon(m);
}

/* --- asking ----------------------------------------------------------------------------------- */

/* Blocks that come twice were still on their way when they were asked for again: on such a link
 * asking less often is faster. */
static uint64_t poll_us(struct mdms *m)
{
    uint64_t least = (uint64_t)m->c.timing.poll_ms * 1000;
    m->poll_us = m->repeated ? 2 * m->poll_us : m->poll_us - m->poll_us / 8;
    m->repeated = false;
    if (m->poll_us < least)
        m->poll_us = least;
    if (m->poll_us > POLL_US_MAX)
        m->poll_us = least > POLL_US_MAX ? least : POLL_US_MAX;
    return m->poll_us;
}

static void fetch(struct mdms *m)
{
    uint64_t from = tail(m).height + 1;
    uint32_t room = (uint32_t)(MDMS_FOLLOW_WINDOW - m->slot_count);
    m->fetch_at_us = mdms_now_us(m) + poll_us(m);
    /* Many small requests would cost more than the pause until the next write is done. */
    if (room < MDMS_FOLLOW_WINDOW / 2)
        return;
    struct fetch_blocks f = {
        .chain = m->c.genesis->members.chain, .from_height = from, .count_max = room};
    struct writer w = mdms_frame(m, MSG_FETCH_BLOCKS);
    fetch_blocks_encode(&w, &f);
    AMI_CHECK(writer_ok(&w));
    if (mdms_send(m, m->dc[m->source].id, writer_span(&w)) == AMI_OK)
        m->asked_last = m->dc[m->source].asked_to = from + room - 1;
    m->served_bytes = 0;
}

uint64_t follow_on_time(struct mdms *m)
{
    if (m->c.genesis == NULL)
        return UINT64_MAX;
    uint64_t now = mdms_now_us(m);
    uint64_t silence_us = (uint64_t)m->c.timing.silence_ms * 1000;
    if (silence_us < 2 * m->poll_us)
        silence_us = 2 * m->poll_us;
    if (m->slot_count == MDMS_FOLLOW_WINDOW)
        m->heard_us = now; /* it is we who are slow */
    if (m->source >= 0 && now - m->heard_us >= silence_us &&
        m->dc[m->source].whole_asked == tail(m).height + 1)
        m->dc[m->source].mute_until_us = now + (uint64_t)m->c.timing.distrust_ms * 1000;
    /* Each has its turn: one that gives a block now and then is slower than the chain, and no sign
     * tells that from a slow link. */
    if (!dcs_ready(m, m->source) || now - m->heard_us >= silence_us ||
        now - m->source_since_us >= SOURCE_TURNS * (uint64_t)m->c.timing.silence_ms * 1000)
        change_source(m);
    if (m->source < 0) {
        /* Nobody to ask, or all of them lied lately: look again after the pause. */
        return now + (uint64_t)m->c.timing.poll_ms * 1000;
    }
    if (now >= m->fetch_at_us)
        fetch(m);
    return m->fetch_at_us;
}

void follow_free(struct mdms *m)
{
    for (size_t i = 0; i < m->slot_count; i++) {
        m->slot[i]->working = false;
        job_free(m->slot[i]);
    }
    m->slot_count = 0;
    while (m->abandoned != NULL) {
        struct follow_job *j = m->abandoned;
        m->abandoned = j->next;
        j->working = false;
        job_free(j);
    }
}
