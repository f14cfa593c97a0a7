/* mdms/outbox.c - the MDMS's own transactions: made, kept, submitted until they are seen committed.
 *
 * Every transaction gets the next number in the write that stores it, so numbers have no gap and no
 * number is ever signed twice with different content. It stays in TABLE_OUTBOX until a followed
 * block holds that number. Transactions go to one DC, in order; when none of them is committed in
 * time, or the DC goes away, everything that is not settled goes to the next DC, again in order. A
 * DC that gets one a second time knows it by its id.
 */
#include "mdms/internal.h"

#include <string.h>

#define SUBMIT_TXS_MAX 64 /* in one frame, as tx_submit says */

void outbox_stage_tx(struct mdms *m, uint8_t kind, struct span first)
{
    uint8_t bytes[1024];
    uint8_t random[SM2_WIDE_BYTES];
    mdms_random(m, random, sizeof random);
    sm2_signature sig = mdms_tx_sign(m->c.network, &m->c.keys->sign, &m->c.genesis->members.chain,
                                     kind, first, random);
    struct writer w = writer_on(bytes, sizeof bytes);
    mdms_tx_encode(&w, kind, first, &sig);
    AMI_CHECK(writer_ok(&w));
    struct mdms_key key = key_number(m->staged.last);
    mdms_write_put(&m->write, TABLE_OUTBOX, &key, writer_span(&w));
}

/* --- binding to a chain ----------------------------------------------------------------------- */

/* The genesis file holds this key of the DC, or one that came after it. */
static bool in_genesis(const struct mdms *m, const struct ami_id *name, uint32_t epoch)
{
    const struct members *first = &m->c.genesis->members;
    const uint8_t at = members_find(first, name);
    return at < first->count && first->member[at].key_epoch >= epoch;
}

static void stage_dc_enrol(struct mdms *m, const struct ami_id *id, uint32_t epoch,
                           struct device_record *d)
{
    uint8_t bytes[MDMS_RECORD_BYTES_MAX];
    d->number = ++m->staged.last;
    struct dc_enrol u = {.number = d->number,
                         .dc = *id,
                         .epoch = epoch,
                         .w_sign = d->w_sign,
                         .agree_part = d->agree_part};
    struct writer w = writer_on(bytes, sizeof bytes);
    dc_enrol_encode(&w, &u);
    AMI_CHECK(writer_ok(&w));
    outbox_stage_tx(m, TX_DC_ENROL, writer_span(&w));
    w = writer_on(bytes, sizeof bytes);
    device_record_encode(&w, d);
    AMI_CHECK(writer_ok(&w));
    struct mdms_key key = key_device(DEVICE_DC, id, epoch);
    mdms_write_put(&m->write, TABLE_DEVICES, &key, writer_span(&w));
}

/* The first write under a genesis file says which chain this store belongs to, and puts on the
 * ledger what the genesis file does not: keys of DCs that are no first members, or newer ones. */
static void stage_binding(struct mdms *m)
{
    m->staged.chain = m->c.genesis->members.chain;
    m->staged.tip = m->staged.chain;
    m->staged.tip_ms = m->c.genesis->created_ms;
    struct ami_id id = {0};
    struct mdms_key from = key_device(DEVICE_DC, &id, 0);
    from.size = 1; /* the role alone stands before every name */
    struct span key, value;
    while (mdms_seek(m, TABLE_DEVICES, &from, &key, &value) == AMI_OK) {
        uint8_t role;
        uint32_t epoch;
        struct device_record d;
        if (key_device_parse(&role, &id, &epoch, key) != AMI_OK ||
            (role == DEVICE_DC && device_record_parse(&d, value) != AMI_OK)) {
            (void)mdms_damaged(m, TABLE_DEVICES);
            break;
        }
        if (role != DEVICE_DC)
            break;
        if (d.number == 0 && !in_genesis(m, &id, epoch))
            stage_dc_enrol(m, &id, epoch, &d);
        from = key_device(role, &id, epoch + 1);
    }
}

/* --- revocations ------------------------------------------------------------------------------ */

/* Reads what `ami-mdms revoke` asked for since the last look. */
static void read_requests(struct mdms *m)
{
    uint64_t after = 0;
    if (m->wanted_count > 0)
        after = m->wanted[m->wanted_count - 1].request;
    while (m->wanted_count < MDMS_WRITE_REQUESTS_MAX && after < UINT64_MAX) {
        struct mdms_key from = key_number(after + 1);
        struct span key, value;
        struct wanted_revocation *w = &m->wanted[m->wanted_count];
        if (mdms_seek(m, TABLE_REQUESTS, &from, &key, &value) != AMI_OK)
            return;
        if (key_number_parse(&w->request, key) != AMI_OK ||
            revocation_record_parse(&w->record, value) != AMI_OK) {
            (void)mdms_damaged(m, TABLE_REQUESTS);
            return;
        }
        after = w->request;
        m->wanted_count++;
    }
}

static bool exists(struct mdms *m, enum mdms_table table, const struct mdms_key *key)
{
    struct span value;
    return mdms_get(m, table, key, &value) == AMI_OK;
}

/* A DC's keys from before the genesis are there only when the genesis file holds them. */
bool outbox_on_ledger(struct mdms *m, uint8_t role, const struct ami_id *device, uint32_t epoch)
{
    struct mdms_key key = key_device(role, device, epoch);
    struct span value;
    struct device_record d;
    if (mdms_get(m, TABLE_DEVICES, &key, &value) != AMI_OK)
        return false;
    if (device_record_parse(&d, value) != AMI_OK) {
        (void)mdms_damaged(m, TABLE_DEVICES);
        return false;
    }
    for (unsigned i = 0; d.number == 0 && i < m->c.genesis->members.count; i++) {
        const struct member *dc = &m->c.genesis->members.member[i];
        if (ami_id_equal(&dc->name, device) && dc->key_epoch == epoch)
            return true;
    }
    return d.number != 0;
}

static bool same_device(const struct revocation_record *a, const struct revocation_record *b)
{
    return a->role == b->role && a->epoch == b->epoch && ami_id_equal(&a->device, &b->device);
}

static void stage_revocation(struct mdms *m, size_t index)
{
    struct revocation_record r = m->wanted[index].record;
    struct mdms_key request = key_number(m->wanted[index].request);
    mdms_write_delete(&m->write, TABLE_REQUESTS, &request);
    struct mdms_key key = key_device(r.role, &r.device, r.epoch);
    bool again = exists(m, TABLE_REVOCATIONS, &key);
    for (size_t i = 0; i < index; i++)
        again = again || same_device(&m->wanted[i].record, &r);
    /* The ledger refuses these, and a refused number would hold up all that follow. */
    bool known = !again && outbox_on_ledger(m, r.role, &r.device, r.epoch);
    if (m->failed != AMI_OK)
        return; /* not known: the request stays where it is */
    if (!known) {
        mdms_log(m, ENV_LOG_WARN, "revocation_dropped", "device=%s epoch=%u why=\"%s\"",
                 r.device.text, (unsigned)r.epoch, again ? "revoked already" : "not on the ledger");
        return;
    }
    uint8_t bytes[256];
    r.number = ++m->staged.last;
    struct revoke u = {.number = r.number,
                       .role = r.role,
                       .device = r.device,
                       .epoch = r.epoch,
                       .reason = r.reason};
    struct writer w = writer_on(bytes, sizeof bytes);
    revoke_encode(&w, &u);
    AMI_CHECK(writer_ok(&w));
    outbox_stage_tx(m, TX_REVOKE, writer_span(&w));
    w = writer_on(bytes, sizeof bytes);
    revocation_record_encode(&w, &r);
    AMI_CHECK(writer_ok(&w));
    mdms_write_put(&m->write, TABLE_REVOCATIONS, &key, writer_span(&w));
    mdms_log(m, ENV_LOG_INFO, "revocation_queued", "device=%s epoch=%u number=%llu", r.device.text,
             (unsigned)r.epoch, (unsigned long long)r.number);
}

bool outbox_stage(struct mdms *m)
{
    m->wanted_in_write = 0;
    if (m->bind) {
        /* Alone: a revocation must find what this write says. */
        stage_binding(m);
        return true;
    }
    for (size_t i = 0; i < m->wanted_count; i++)
        stage_revocation(m, i);
    m->wanted_in_write = m->wanted_count;
    return m->wanted_count > 0;
}

/* --- submission ------------------------------------------------------------------------------- */

static void resubmit(struct mdms *m)
{
    m->submitted = m->durable.settled;
    m->submit_deadline_us = UINT64_MAX;
}

/* One frame of what comes next; false when there is nothing to send or no room. */
static bool submit_some(struct mdms *m)
{
    struct writer w = mdms_frame(m, MSG_TX_SUBMIT);
    write_raw(&w, m->c.genesis->members.chain.b, SM3_BYTES);
    size_t count_at = w.size;
    write_u16(&w, 0);
    uint16_t count = 0;
    uint64_t last = m->submitted;
    while (count < SUBMIT_TXS_MAX && last < m->durable.last &&
           last - m->durable.settled < MDMS_SUBMIT_WINDOW) {
        struct mdms_key key = key_number(last + 1);
        struct span value;
        enum ami_status status = m->c.kv.get(m->c.kv.ctx, TABLE_OUTBOX, key_span(&key), &value);
        if (status != AMI_OK) {
            /* It is durable and not settled, so it must be there. */
            m->failed = AMI_DAMAGED;
            mdms_log(m, ENV_LOG_ERROR, "outbox_damaged", "number=%llu status=%s",
                     (unsigned long long)(last + 1), ami_status_name(status));
            return false;
        }
        write_bytes(&w, value);
        last++;
        count++;
    }
    if (count == 0)
        return false;
    AMI_CHECK(writer_ok(&w));
    store_be16(w.data + count_at, count);
    if (mdms_send(m, m->dc[m->submit_to].id, writer_span(&w)) != AMI_OK)
        return false;
    m->submitted = last;
    m->stats.submits++;
    return true;
}

static void submit(struct mdms *m)
{
    if (m->c.genesis == NULL || m->failed != AMI_OK)
        return;
    if (!dcs_ready(m, m->submit_to)) {
        m->submit_to = dcs_next(m, m->submit_to, false);
        resubmit(m);
    }
    if (m->submit_to < 0)
        return;
    while (submit_some(m))
        ;
    if (m->submitted > m->durable.settled && m->submit_deadline_us == UINT64_MAX)
        m->submit_deadline_us = mdms_now_us(m) + (uint64_t)m->c.timing.submit_ms * 1000;
}

void outbox_on_links(struct mdms *m)
{
    submit(m);
}

void outbox_on_stored(struct mdms *m, enum ami_status status)
{
    if (status == AMI_OK) {
        size_t rest = m->wanted_count - m->wanted_in_write;
        memmove(m->wanted, m->wanted + m->wanted_in_write, rest * sizeof m->wanted[0]);
        m->wanted_count = rest;
        if (m->submitted < m->durable.settled) {
            m->submitted = m->durable.settled;
        }
        submit(m);
    }
    m->wanted_in_write = 0;
}

/* Work that is done moves the deadline: only a DC that gets nothing committed is given up. */
void outbox_on_settled(struct mdms *m)
{
    m->submit_deadline_us = UINT64_MAX;
    submit(m);
}

uint64_t outbox_on_time(struct mdms *m)
{
    if (m->c.genesis == NULL)
        return UINT64_MAX;
    uint64_t now = mdms_now_us(m);
    if (now >= m->requests_at_us) {
        if (!m->writing) {
            read_requests(m);
            members_read(m);
            retention_read(m);
        }
        m->requests_at_us = now + (uint64_t)m->c.timing.poll_ms * 1000;
    }
    if (now >= m->submit_deadline_us) {
        mdms_log(m, ENV_LOG_WARN, "submit_again", "not_committed=%llu after=%u ms",
                 (unsigned long long)(m->durable.last - m->durable.settled),
                 (unsigned)m->c.timing.submit_ms);
        m->submit_to = dcs_next(m, m->submit_to, false);
        resubmit(m);
        submit(m);
    }
    return m->requests_at_us < m->submit_deadline_us ? m->requests_at_us : m->submit_deadline_us;
}
