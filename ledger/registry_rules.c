#include "ledger/registry_internal.h"

static enum ami_status check_number(struct view v, uint64_t number)
{
    uint64_t last = registry_look_mdms(v)->floor;
    if (number <= last)
        return AMI_SEQUENCE_SETTLED;
    return number - last == 1 ? AMI_OK : AMI_SEQUENCE_AHEAD;
}

static enum ami_status check_report(struct view v, const struct tx_view *tx,
                                    const struct record **meter)
{
    const struct report_meter_part *m = &tx->u.report.meter;
    const struct report_gateway_part *g = &tx->u.report.gateway;
    *meter = registry_look(v, RECORD_METER, &m->meter, m->epoch);
    AMI_TRY(record_check_valid(*meter));
    if (!tx->pruned) /* else who sealed it is gone, and a quorum has judged it */
        AMI_TRY(record_check_valid(registry_look(v, RECORD_DC, &g->dc, g->dc_epoch)));
    return record_admits(*meter, m->sequence);
}

static enum ami_status check_skip(struct view v, const struct skip_meter_part *s,
                                  const struct record **meter)
{
    *meter = registry_look(v, RECORD_METER, &s->meter, s->epoch);
    AMI_TRY(record_check_valid(*meter));
    if (s->below <= (*meter)->floor)
        return AMI_SEQUENCE_SETTLED;
    return s->below - (*meter)->floor > AMI_SEQ_WINDOW ? AMI_SEQUENCE_AHEAD : AMI_OK;
}

/* The first epoch of a new device is 1 (a genesis member's may be later), then one after the other.
 */
static enum ami_status check_epoch(struct view v, uint8_t kind, const struct ami_id *name,
                                   uint32_t epoch)
{
    const struct slot *newest = registry_find_newest(v.r, kind, name);
    if (registry_look(v, kind, name, epoch) != NULL ||
        (newest != NULL && epoch < newest->rec.epoch))
        return AMI_ALREADY_ENROLLED;
    if (epoch == 1)
        return AMI_OK;
    return registry_look(v, kind, name, epoch - 1) != NULL ? AMI_OK : AMI_WRONG_EPOCH;
}

static bool is_known_dc(struct view v, const struct ami_id *name)
{
    /* A DC that only the stage knows began at epoch 1. */
    return registry_find_newest(v.r, RECORD_DC, name) != NULL ||
           registry_look(v, RECORD_DC, name, 1) != NULL;
}

static enum ami_status check_revoke(struct view v, const struct revoke *q,
                                    const struct record **device)
{
    *device = registry_look(v, q->role == 1 ? RECORD_METER : RECORD_DC, &q->device, q->epoch);
    return record_check_valid(*device);
}

/* Once for each key and kind: nobody can fill the ledger with it. A revoked key stays accountable.
 */
static enum ami_status check_evidence(struct view v, uint64_t height, const struct evidence *e,
                                      const struct record **dc)
{
    const struct record *accused;
    AMI_TRY(evidence_record(v.r, height, e, &accused));
    *dc = registry_look(v, RECORD_DC, &accused->name, accused->epoch);
    return ((*dc)->window >> e->kind & 1) != 0 ? AMI_EXISTS : AMI_OK;
}

static enum ami_status check_retention(struct view v, uint64_t height, const struct retention *x)
{
    if (x->below <= registry_look_mdms(v)->window)
        return AMI_SEQUENCE_SETTLED;
    return retention_fits(x->below, height) ? AMI_OK : AMI_SEQUENCE_AHEAD;
}

enum ami_status registry_check_rules(struct view v, uint64_t height, const struct tx_view *tx,
                                     const struct record **subject)
{
    const struct record *leaves, *joins;
    if (tx_mdms_number(tx) != 0)
        AMI_TRY(check_number(v, tx_mdms_number(tx)));
    switch (tx->tx.kind) {
    case TX_REPORT:
        return check_report(v, tx, subject);
    case TX_SKIP:
        return check_skip(v, &tx->u.skip, subject);
    case TX_METER_ENROL: {
        const struct meter_enrol *e = &tx->u.meter_enrol;
        AMI_TRY(is_known_dc(v, &e->home_dc) ? AMI_OK : AMI_UNKNOWN_DEVICE);
        return check_epoch(v, RECORD_METER, &e->meter, e->epoch);
    }
    case TX_DC_ENROL:
        return check_epoch(v, RECORD_DC, &tx->u.dc_enrol.dc, tx->u.dc_enrol.epoch);
    case TX_REVOKE:
        return check_revoke(v, &tx->u.revoke, subject);
    case TX_EVIDENCE:
        return check_evidence(v, height, &tx->u.evidence, subject);
    case TX_MEMBERSHIP:
        return registry_check_membership(v, height, &tx->u.membership, &leaves, &joins);
    case TX_RETENTION:
        return check_retention(v, height, &tx->u.retention);
    default:
        return AMI_BAD_ARGUMENT;
    }
}

enum ami_status registry_admits(const struct registry *r, const struct tx_view *tx)
{
    const struct view v = {r, false};
    const struct record *subject;
    uint64_t number = tx_mdms_number(tx), last = registry_at(r, 0)->floor;
    if (number > last && number - last > 1)
        return number - last <= REGISTRY_NUMBERS_AHEAD_MAX ? AMI_OK : AMI_SEQUENCE_AHEAD;
    enum ami_status status = registry_check_rules(v, r->committed_height + 1, tx, &subject);
    const bool may_wait = tx->tx.kind == TX_MEMBERSHIP || tx->tx.kind == TX_RETENTION;
    if (may_wait && status == AMI_SEQUENCE_AHEAD)
        return AMI_OK;
    return status;
}
