/* mdms/retention.c - retention: the MDMS says on the ledger below which height it has all readings,
 * and DCs may prune the blocks there (ledger/pruned.h).
 *
 *   TABLE_RETENTIONS  asked for by `ami-mdms retain` -> signed, with a number -> (on the ledger)
 *   TABLE_STATE       "retention": the watermark of the followed ledger, and reports that were
 *                     pruned before this store had them
 *
 * A transaction that the ledger refuses would hold up all later numbers, so what it would refuse is
 * refused here. The watermark lies far enough below the last block followed for the ledger to take
 * it at once.
 */
#include "mdms/internal.h"

#include "ledger/pruned.h"

#include <string.h>

enum ami_status retention_init(struct mdms *m)
{
    struct mdms_key key = key_retained(), from = key_number(0);
    struct span at, value;
    enum ami_status status = mdms_get(m, TABLE_STATE, &key, &value);
    if (status == AMI_OK && retained_record_parse(&m->retained, value) != AMI_OK)
        status = mdms_damaged(m, TABLE_STATE);
    if (status != AMI_OK && status != AMI_NOT_FOUND)
        return status;
    m->retained_staged = m->retained;
    m->pruned_below = m->retained.below;
    while ((status = mdms_seek(m, TABLE_RETENTIONS, &from, &at, &value)) == AMI_OK) {
        struct retention_record r;
        uint64_t number;
        if (key_number_parse(&number, at) != AMI_OK || retention_record_parse(&r, value) != AMI_OK)
            return mdms_damaged(m, TABLE_RETENTIONS);
        if (r.number > m->retention_number)
            m->retention_number = r.number;
        if (number == UINT64_MAX)
            break;
        from = key_number(number + 1);
    }
    return status == AMI_NOT_FOUND ? AMI_OK : status;
}

/* --- the followed ledger -----------------------------------------------------------------------
 */

bool retention_on_shown(struct mdms *m, uint8_t member, struct span encoded)
{
    struct tx_view tx;
    uint64_t below;
    if (tx_view_decode(&tx, encoded) == AMI_OK && tx.tx.kind == TX_RETENTION) {
        /* Who says it again and again must not cost a verification each time. */
        if (tx.u.retention.below <= m->pruned_below)
            return true;
        /* Our own signature: a store that is new, or an old copy, does not know of it. */
        if (retention_check(m->c.genesis, encoded, &below) == AMI_OK) {
            m->pruned_below = below;
            return true;
        }
    }
    m->stats.frames_bad++;
    mdms_log(m, ENV_LOG_WARN, "retention_refused", "dc=%s", m->dc[member].name.text);
    follow_distrust(m, member);
    return false;
}

void retention_stage_block(struct mdms *m, uint64_t height, uint64_t below, uint64_t unread)
{
    struct retained_record *r = &m->retained_staged;
    if (below <= r->below && unread == 0)
        return;
    if (below > r->below)
        r->below = below;
    r->unread += unread;
    if (unread != 0)
        r->unread_to = height;
    uint8_t bytes[64];
    struct writer w = writer_on(bytes, sizeof bytes);
    retained_record_encode(&w, r);
    AMI_CHECK(writer_ok(&w));
    struct mdms_key key = key_retained();
    mdms_write_put(&m->write, TABLE_STATE, &key, writer_span(&w));
}

/* --- retentions asked for ----------------------------------------------------------------------
 */

void retention_read(struct mdms *m)
{
    struct span key, value;
    struct retention_record r;
    while (!m->wanted_retention && m->retentions_seen < UINT64_MAX) {
        struct mdms_key from = key_number(m->retentions_seen + 1);
        if (mdms_seek(m, TABLE_RETENTIONS, &from, &key, &value) != AMI_OK)
            return;
        if (key_number_parse(&m->retentions_seen, key) != AMI_OK ||
            retention_record_parse(&r, value) != AMI_OK) {
            (void)mdms_damaged(m, TABLE_RETENTIONS);
            return;
        }
        m->wanted_retention = r.state == CHANGE_WANTED;
    }
}

enum ami_status retention_judge(uint64_t below, uint64_t height, uint64_t last)
{
    if (below <= last)
        return AMI_EXISTS;
    return retention_fits(below, height) ? AMI_OK : AMI_SEQUENCE_AHEAD;
}

bool retention_stage(struct mdms *m)
{
    m->retention_in_write = false;
    if (!m->wanted_retention || m->bind || m->retention_number > m->durable.settled)
        return false;
    uint8_t bytes[64];
    struct mdms_key key = key_number(m->retentions_seen);
    struct retention_record r;
    struct span value;
    if (mdms_get(m, TABLE_RETENTIONS, &key, &value) != AMI_OK)
        return false;
    AMI_CHECK(retention_record_parse(&r, value) == AMI_OK); /* retention_read has read it */
    enum ami_status status = retention_judge(r.below, m->durable.height + 1, m->retained.below);
    if (status == AMI_OK) {
        r.number = ++m->staged.last;
        r.state = CHANGE_SIGNED;
        const struct retention x = {.number = r.number, .below = r.below};
        struct writer w = writer_on(bytes, sizeof bytes);
        retention_encode(&w, &x);
        AMI_CHECK(writer_ok(&w));
        outbox_stage_tx(m, TX_RETENTION, writer_span(&w));
        mdms_log(m, ENV_LOG_INFO, "retention_queued", "below=%llu number=%llu",
                 (unsigned long long)r.below, (unsigned long long)r.number);
    } else {
        r.state = CHANGE_REFUSED;
        r.status = (uint16_t)status;
        mdms_log(m, ENV_LOG_WARN, "retention_not_signed", "below=%llu status=%s",
                 (unsigned long long)r.below, ami_status_name(status));
    }
    struct writer w = writer_on(bytes, sizeof bytes);
    retention_record_encode(&w, &r);
    AMI_CHECK(writer_ok(&w));
    mdms_write_put(&m->write, TABLE_RETENTIONS, &key, writer_span(&w));
    m->retention_in_write = true;
    m->staged_retention_number = r.number;
    return true;
}

void retention_on_stored(struct mdms *m, enum ami_status status)
{
    if (status == AMI_OK) {
        if (m->retained_staged.below != m->retained.below)
            mdms_log(m, ENV_LOG_INFO, "retention", "below=%llu",
                     (unsigned long long)m->retained_staged.below);
        if (m->retained_staged.unread != 0 && m->retained.unread == 0)
            mdms_log(m, ENV_LOG_WARN, "pruned_blocks",
                     "height=%llu why=\"its reports were pruned before this store had them; no DC "
                     "has them any more, nor those of other blocks below %llu\"",
                     (unsigned long long)m->retained_staged.unread_to,
                     (unsigned long long)m->pruned_below);
        m->retained = m->retained_staged;
        if (m->retained.below > m->pruned_below)
            m->pruned_below = m->retained.below;
    }
    if (m->retention_in_write && status == AMI_OK) {
        m->wanted_retention = false;
        if (m->staged_retention_number != 0)
            m->retention_number = m->staged_retention_number;
    }
    m->retention_in_write = false;
}
