#include "meter/internal.h"

#include "crypto/secret.h"

#include <string.h>

#define SETTLE_AGAIN_US 20000u

enum { KIND_REPORT_SUBMIT = 1, KIND_REPORT_ACK = 2, KIND_REPORT_NACK = 3 };

/* --- reports made ---------------------------------------------------------------------------- */

enum ami_status meter_record_part(struct report_meter_part *out, const struct device_keys *keys,
                                  const struct report_submit *record)
{
    if (record->sequence == 0)
        return AMI_BAD_ENCODING;
    memset(out, 0, sizeof *out);
    out->meter = keys->name;
    out->epoch = keys->epoch;
    out->sequence = record->sequence;
    out->commitment = report_commitment(record->salt, record->report);
    out->signature = record->signature;
    return AMI_OK;
}

static sm3_digest digest_of_part(const struct report_meter_part *part)
{
    uint8_t bytes[256];
    struct writer w = writer_on(bytes, sizeof bytes);
    report_meter_part_encode(&w, part);
    AMI_CHECK(writer_ok(&w));
    return sm3(writer_span(&w));
}

#define METER_SALT_BYTES sizeof(((struct report_submit){0}).salt)

/* What is signed of reports that are made together. */
struct making_batch {
    size_t count;
    struct meter_making *of[METER_MAKING_MAX];
    struct report_submit record[METER_MAKING_MAX];
    struct report_meter_message signed_bytes[METER_MAKING_MAX];
    struct sm3_message message[METER_MAKING_MAX];
    sm3_digest e[METER_MAKING_MAX];
    const sm2_private *key[METER_MAKING_MAX];
    uint8_t salt[METER_MAKING_MAX][METER_SALT_BYTES];
    uint8_t wide[METER_MAKING_MAX][SM2_WIDE_BYTES];
    sm2_signature signature[METER_MAKING_MAX];
};

static enum ami_status make_ready(struct making_batch *b, struct meter_making *r)
{
    struct meter *m = r->meter;
    const struct meter_shared *s = m->shared;
    struct report_meter_part part;
    const size_t at = b->count;
    if (m->storage != AMI_OK)
        return (enum ami_status)m->storage;
    if (r->report.size == 0 || r->report.size > AMI_REPORT_BYTES_MAX)
        return AMI_TOO_LARGE;
    struct report_submit *record = &b->record[at];
    *record = (struct report_submit){.sequence = m->next_sequence, .report = r->report};
    memcpy(record->salt, b->salt[at], sizeof record->salt);
    AMI_TRY(meter_record_part(&part, &m->keys, record));
    report_meter_message(&b->signed_bytes[at], &part, &s->genesis->members.chain,
                         &m->keys.sign.public_key);
    b->message[at] =
        (struct sm3_message){b->signed_bytes[at].message.parts, b->signed_bytes[at].message.count};
    b->key[at] = &m->keys.sign.private_key;
    b->of[b->count++] = r;
    return AMI_OK;
}

static enum ami_status make_record(const struct meter_making *r, const struct report_submit *record)
{
    struct meter_put *put = r->put;
    struct writer w = writer_on(put->record, sizeof put->record);
    report_submit_encode(&w, record);
    AMI_CHECK(writer_ok(&w));
    put->size = w.size;
    put->write = (struct meter_write){.kind = METER_WRITE_PUT, .sequence = record->sequence};
    AMI_TRY(r->meter->shared->env->store(r->meter->ctx, &put->write));
    r->meter->next_sequence++;
    return AMI_OK;
}

void meter_reports(struct meter_making *list, size_t count)
{
    struct making_batch b;
    AMI_CHECK(count <= METER_MAKING_MAX);
    b.count = 0;
    if (count == 0)
        return;
    /* For all at once: each draw is a call of the system. */
    const struct env *env = list[0].meter->shared->env;
    env->random(list[0].meter->ctx, b.salt, count * sizeof b.salt[0]);
    env->random(list[0].meter->ctx, b.wide, count * sizeof b.wide[0]);
    for (size_t i = 0; i < count; i++)
        list[i].status = make_ready(&b, &list[i]);
    sm3_batch(b.e, b.message, b.count);
    sm2_sign_batch(b.signature, b.key, b.e, (const uint8_t(*)[SM2_WIDE_BYTES])b.wide, b.count);
    for (size_t i = 0; i < b.count; i++) {
        b.record[i].signature = b.signature[i];
        b.of[i]->status = make_record(b.of[i], &b.record[i]);
    }
    secret_wipe(b.salt, count * sizeof b.salt[0]);
    secret_wipe(b.wide, count * sizeof b.wide[0]);
}

enum ami_status meter_report(struct meter *m, struct meter_put *put, struct span report)
{
    struct meter_making one = {.meter = m, .put = put, .report = report};
    meter_reports(&one, 1);
    return one.status;
}

/* --- slots ----------------------------------------------------------------------------------- */

static bool settling(const struct meter_slot *s)
{
    return s->write.kind == METER_WRITE_SETTLE || (s->write.flags & SLOT_SETTLED) != 0;
}

static struct meter_slot *slot_find(struct meter *m, uint64_t sequence)
{
    for (unsigned i = 0; i < METER_IN_FLIGHT_MAX; i++)
        if (m->slot[i].write.sequence == sequence)
            return &m->slot[i];
    return NULL;
}

/* A place for another report, as far as the window allows. */
static struct meter_slot *slot_free(struct meter *m)
{
    unsigned used = 0;
    for (unsigned i = 0; i < METER_IN_FLIGHT_MAX; i++)
        used += m->slot[i].write.sequence != 0 && !settling(&m->slot[i]);
    return used < m->window ? slot_find(m, 0) : NULL;
}

/* The lowest number that waits for its acknowledgement; UINT64_MAX: none. */
static uint64_t lowest_waiting(const struct meter *m)
{
    uint64_t lowest = UINT64_MAX;
    for (unsigned i = 0; i < METER_IN_FLIGHT_MAX; i++) {
        const struct meter_slot *s = &m->slot[i];
        if (s->write.sequence != 0 && !settling(s) && s->write.sequence < lowest)
            lowest = s->write.sequence;
    }
    return lowest;
}

/* Everything below the lowest waiting number is on the ledger, so the DCs' window for this meter
 * begins there or higher. */
static bool in_window(const struct meter *m, uint64_t sequence)
{
    uint64_t lowest = lowest_waiting(m);
    return lowest == UINT64_MAX || sequence - lowest < AMI_SEQ_WINDOW;
}

bool deliver_outstanding(const struct meter *m)
{
    return lowest_waiting(m) != UINT64_MAX;
}

bool meter_unsettled(const struct meter *m)
{
    if (m->load_from < m->durable_below)
        return true;
    for (unsigned i = 0; i < METER_IN_FLIGHT_MAX; i++)
        if (m->slot[i].write.sequence != 0)
            return true;
    return false;
}

/* --- sending --------------------------------------------------------------------------------- */

static void set_deadline(struct meter *m)
{
    const struct meter_timing *t = &m->shared->timing;
    m->wake_us = meter_now_us(m) + meter_patience_us(t->ack_ms, t->ack_ms_max, m->shared->ack_us,
                                                     meter_rounds(m, m->vain));
}

/* Takes a record into a slot. False: the record is no record (damaged). */
static bool slot_fill(struct meter *m, struct meter_slot *s, struct span record)
{
    struct report_submit submit;
    struct report_meter_part part;
    if (report_submit_parse(&submit, record) != AMI_OK ||
        meter_record_part(&part, &m->keys, &submit) != AMI_OK)
        return false;
    *s = (struct meter_slot){.write.sequence = submit.sequence,
                             .write.slot = (uint8_t)(s - m->slot),
                             .first = digest_of_part(&part)};
    return true;
}

/* True when it left. Otherwise the link is starved or closed. */
static bool slot_send(struct meter *m, struct meter_slot *s, struct span record)
{
    uint8_t sealed[METER_RECORD_BYTES_MAX + GCM_TAG_BYTES];
    uint8_t frame[sizeof sealed + 64];
    struct session_data message;
    /* A count that was sealed and never left would be missed by the other side: taken back. Nothing
     * of it was seen, so the same key may serve the next message. */
    struct session before = m->u.session;
    enum ami_status status =
        session_seal(&m->u.session, &message, sealed, KIND_REPORT_SUBMIT, record, meter_now_s(m));
    if (status == AMI_OK) {
        struct writer w = writer_on(frame, sizeof frame);
        frame_begin(&w, MSG_SESSION_DATA);
        session_data_encode(&w, &message);
        AMI_CHECK(writer_ok(&w));
        status = m->shared->env->send(m->ctx, (env_link)m->target + 1, writer_span(&w));
        m->starved = status == AMI_AGAIN;
    }
    if (status != AMI_OK)
        m->u.session = before;
    secret_wipe(&before, sizeof before);
    if (status != AMI_OK)
        return false;
    s->write.flags |= SLOT_SENT;
    if (s->sent_us == 0) {
        s->sent_us = meter_now_us(m);
        meter_note(m, METER_NOTE_SENT, s->write.sequence);
    }
    return true;
}

/* The slot with the lowest number that is not sent in this session yet; the window holds here too.
 */
static struct meter_slot *slot_unsent(struct meter *m)
{
    struct meter_slot *found = NULL;
    unsigned sent = 0;
    for (unsigned i = 0; i < METER_IN_FLIGHT_MAX; i++) {
        struct meter_slot *s = &m->slot[i];
        sent += !settling(s) && (s->write.flags & (SLOT_SENT | SLOT_BARRED)) == SLOT_SENT;
        if (s->write.sequence != 0 && !settling(s) &&
            (s->write.flags & (SLOT_SENT | SLOT_BARRED)) == 0 &&
            (found == NULL || s->write.sequence < found->write.sequence))
            found = s;
    }
    return sent < m->window ? found : NULL;
}

static void storage_failed(struct meter *m, enum ami_status status)
{
    if (m->storage == AMI_OK) {
        m->storage = (uint16_t)status;
        m->shared->env->log(m->ctx, ENV_LOG_ERROR, "outbox_failed", ami_status_name(status));
    }
}

/* Reads the next report from the outbox into a free slot. NULL: none, or none may be sent now. */
static struct meter_slot *load_next(struct meter *m, uint8_t *buffer, size_t *size)
{
    struct meter_slot *s = slot_free(m);
    if (s == NULL || m->load_from >= m->durable_below)
        return NULL;
    enum ami_status status = m->shared->disk.next(m->ctx, m->load_from, buffer, size);
    if (status == AMI_NOT_FOUND) {
        m->load_from = m->durable_below;
        return NULL;
    }
    if (status == AMI_OK && !slot_fill(m, s, span_of(buffer, *size)))
        status = AMI_DAMAGED;
    if (status != AMI_OK) {
        storage_failed(m, status);
        return NULL;
    }
    if (s->write.sequence < m->load_from || !in_window(m, s->write.sequence)) {
        m->load_from = s->write.sequence > m->load_from ? s->write.sequence : m->load_from;
        memset(s, 0, sizeof *s);
        return NULL;
    }
    m->load_from = s->write.sequence + 1;
    return s;
}

/* Reads the record of a slot again. */
static bool reload(struct meter *m, const struct meter_slot *s, uint8_t *buffer, size_t *size)
{
    struct report_submit record;
    enum ami_status status = m->shared->disk.next(m->ctx, s->write.sequence, buffer, size);
    if (status == AMI_OK && (report_submit_parse(&record, span_of(buffer, *size)) != AMI_OK ||
                             record.sequence != s->write.sequence))
        status = AMI_DAMAGED;
    if (status != AMI_OK)
        storage_failed(m, status == AMI_NOT_FOUND ? AMI_DAMAGED : status);
    return status == AMI_OK;
}

/* Sent in this session and not answered yet. */
static bool awaits_answer(const struct meter *m)
{
    for (unsigned i = 0; i < METER_IN_FLIGHT_MAX; i++) {
        const struct meter_slot *s = &m->slot[i];
        if (s->write.sequence != 0 && !settling(s) &&
            (s->write.flags & (SLOT_SENT | SLOT_BARRED)) == SLOT_SENT)
            return true;
    }
    return false;
}

/* A session at its limit takes no more reports. Answers to those that it took are waited for first:
 * to agree anew at once would mean to send them again, for ever when the limit is low. */
static bool session_takes(struct meter *m)
{
    if (session_check(&m->u.session, meter_now_s(m)) == AMI_OK)
        return true;
    if (!awaits_answer(m))
        meter_restart(m, m->target);
    return false;
}

void deliver_pump(struct meter *m)
{
    uint8_t record[METER_RECORD_BYTES_MAX];
    size_t size;
    while (m->phase == METER_IN_SESSION && !m->starved && m->storage == AMI_OK) {
        bool was_idle = !deliver_outstanding(m);
        struct meter_slot *s = slot_unsent(m);
        if (s != NULL ? !reload(m, s, record, &size) : (s = load_next(m, record, &size)) == NULL)
            break;
        if (was_idle || m->wake_us == UINT64_MAX) {
            set_deadline(m);
            if (m->waiting_us == 0)
                m->waiting_us = meter_now_us(m);
        }
        if (!session_takes(m) || !slot_send(m, s, span_of(record, size)))
            break;
    }
    if (m->phase == METER_IN_SESSION && !deliver_outstanding(m))
        m->wake_us = UINT64_MAX;
}

void deliver_on_session(struct meter *m)
{
    for (unsigned i = 0; i < METER_IN_FLIGHT_MAX; i++)
        if (!settling(&m->slot[i]))
            m->slot[i].write.flags &= (uint8_t) ~(SLOT_SENT | SLOT_BARRED);
    if (deliver_outstanding(m))
        set_deadline(m);
    deliver_pump(m);
}

/* --- settling -------------------------------------------------------------------------------- */

struct meter *meter_of_settle(struct meter_write *write)
{
    AMI_CHECK(write->kind == METER_WRITE_SETTLE && write->slot < METER_IN_FLIGHT_MAX);
    char *slot0 = (char *)write - write->slot * sizeof(struct meter_slot);
    return (struct meter *)(void *)(slot0 - offsetof(struct meter, slot));
}

static void settle(struct meter *m, struct meter_slot *s)
{
    s->write.kind = METER_WRITE_SETTLE;
    s->write.flags = 0;
    enum ami_status status = m->shared->env->store(m->ctx, &s->write);
    if (status == AMI_OK)
        return;
    /* No room in the store's queue: written a little later. It stays in the outbox until then, and
     * after a crash it is sent again, but not for this: to look up its proof may cost a DC a block.
     */
    s->write.kind = 0;
    s->write.flags = SLOT_SETTLED;
    m->settle_us = meter_now_us(m) + SETTLE_AGAIN_US;
}

void deliver_settle_again(struct meter *m)
{
    m->settle_us = UINT64_MAX;
    for (unsigned i = 0; i < METER_IN_FLIGHT_MAX && m->settle_us == UINT64_MAX; i++)
        if ((m->slot[i].write.flags & SLOT_SETTLED) != 0)
            settle(m, &m->slot[i]);
}

void meter_on_stored(struct meter *m, struct meter_write *write, enum ami_status status)
{
    if (status != AMI_OK) {
        /* Numbers above a report that was not stored must not be used: the gap would stay. */
        storage_failed(m, status);
        return;
    }
    if (write->kind == METER_WRITE_SETTLE) {
        memset(&m->slot[write->slot], 0, sizeof m->slot[0]);
        deliver_pump(m);
        meter_rearm(m);
        return;
    }
    AMI_CHECK(write->kind == METER_WRITE_PUT && write->sequence >= m->durable_below);
    m->durable_below = write->sequence + 1;
    deliver_pump(m);
    meter_rearm(m);
}

/* --- answers --------------------------------------------------------------------------------- */

static enum ami_status check_ack(const struct meter *m, const struct meter_slot *s,
                                 const struct report_ack *ack)
{
    if (m->shared->ack_unchecked)
        return AMI_OK;
    const struct certified_header *h = headers_find(m->shared->headers, ack->height, &ack->block);
    if (h == NULL)
        return AMI_BAD_CERTIFICATE; /* its block_proof never came or did not verify */
    sm3_digest id = tx_id(TX_REPORT, &s->first, &ack->second);
    sm3_digest leaf = tx_leaf(&id);
    return headers_check_leaf(m->shared->headers, h, &leaf, ack->index, ack->path, ack->path_count);
}

static void on_ack(struct meter *m, struct span plain)
{
    struct report_ack ack;
    enum ami_status status = report_ack_parse(&ack, plain);
    if (status == AMI_OK) {
        struct meter_slot *s = ack.sequence == 0 ? NULL : slot_find(m, ack.sequence);
        if (s == NULL || settling(s))
            return; /* an answer that came twice */
        status = check_ack(m, s, &ack);
        if (status == AMI_OK) {
            uint64_t since = s->sent_us == 0 ? 0 : meter_now_us(m) - s->sent_us;
            meter_note(m, METER_NOTE_ACKNOWLEDGED, since);
            meter_learn_us(&m->shared->ack_us, since);
            meter_success(m);
            settle(m, s);
            if (deliver_outstanding(m))
                set_deadline(m);
            else
                m->wake_us = UINT64_MAX;
            deliver_pump(m);
            return;
        }
    }
    meter_note(m, METER_NOTE_BAD_ACK, status);
    m->shared->env->log(m->ctx, ENV_LOG_WARN, "acknowledgement_not_believed",
                        ami_status_name(status));
    meter_fall_back(m);
}

/* A report refused for the moment: again in this session, after a while. */
static void bar_for_now(struct meter *m, struct meter_slot *s)
{
    s->write.flags |= SLOT_BARRED;
    if (m->resend_us != UINT64_MAX)
        return;
    uint64_t wait_us = (uint64_t)m->shared->timing.resend_ms * 500u << (m->busy < 5 ? m->busy : 5);
    meter_slow_down(m);
    m->resend_us = meter_now_us(m) + wait_us + meter_random_below(m, wait_us);
}

void deliver_on_resend(struct meter *m)
{
    m->resend_us = UINT64_MAX;
    for (unsigned i = 0; i < METER_IN_FLIGHT_MAX; i++) {
        struct meter_slot *s = &m->slot[i];
        if (!settling(s) && (s->write.flags & SLOT_BARRED) != 0 &&
            (s->write.flags & SLOT_SENT) != 0)
            s->write.flags = 0;
    }
    deliver_pump(m);
}

static void on_nack(struct meter *m, struct span plain)
{
    struct report_nack nack;
    if (report_nack_parse(&nack, plain) != AMI_OK || nack.sequence == 0)
        return;
    struct meter_slot *s = slot_find(m, nack.sequence);
    if (s == NULL || settling(s))
        return;
    meter_note(m, METER_NOTE_NACK, nack.status);
    switch ((int)nack.status) {
    case AMI_NO_SESSION:
    case AMI_SESSION_ENDED:
    case AMI_NOT_LEADER:
        meter_restart(m, m->target);
        break;
    case AMI_AGAIN:
    case AMI_FULL:
    case AMI_NO_QUORUM:
    case AMI_SEQUENCE_AHEAD:
    case AMI_UNKNOWN_DEVICE:
        /* Its queue is full, or it is behind the others and does not know yet what is settled. */
        bar_for_now(m, s);
        break;
    case AMI_SEQUENCE_SETTLED:
        /* It says that our report is on the ledger, but without the proof that would let us forget
         * it: kept, and asked for elsewhere when the time for an acknowledgement is over. */
        m->settled_said = true;
        s->write.flags = SLOT_BARRED;
        break;
    default:
        /* It finds something wrong with the report; another DC may tell otherwise. */
        s->write.flags = SLOT_BARRED;
        break;
    }
}

void deliver_on_message(struct meter *m, uint8_t kind, struct span plain)
{
    if (kind == KIND_REPORT_ACK)
        on_ack(m, plain);
    else if (kind == KIND_REPORT_NACK)
        on_nack(m, plain);
}
