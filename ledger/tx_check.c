#include "ledger/registry_internal.h"

#include <stdlib.h>

static enum ami_status find_key(struct registry *r, uint8_t kind, const struct ami_id *name,
                                uint32_t epoch, const struct verify_key **out)
{
    const struct record *rec = registry_find_committed(r, kind, name, epoch);
    return rec == NULL ? AMI_UNKNOWN_DEVICE : registry_key_of(r, rec, out);
}

enum ami_status registry_check_prepare(struct registry *r, const struct tx_view *tx,
                                       struct tx_check *out)
{
    *out = (struct tx_check){.genesis = r->genesis, .meters_unchecked = r->meters_unchecked};
    if (tx->tx.kind == TX_REPORT) {
        const struct report_meter_part *m = &tx->u.report.meter;
        const struct report_gateway_part *g = &tx->u.report.gateway;
        AMI_TRY(find_key(r, RECORD_METER, &m->meter, m->epoch, &out->author));
        return tx->pruned ? AMI_OK : find_key(r, RECORD_DC, &g->dc, g->dc_epoch, &out->gateway);
    }
    if (tx->tx.kind == TX_SKIP)
        return find_key(r, RECORD_METER, &tx->u.skip.meter, tx->u.skip.epoch, &out->author);
    if (tx->tx.kind == TX_EVIDENCE) {
        const struct record *accused;
        AMI_TRY(evidence_record(r, r->committed_height + 1, &tx->u.evidence, &accused));
        return registry_key_of(r, accused, &out->author);
    }
    return AMI_OK;
}

/* That the W of an enrolment leads to a key. */
static enum ami_status check_w(const struct network *net, const struct tx_view *tx)
{
    struct verify_key key;
    if (tx->tx.kind == TX_METER_ENROL) {
        const struct meter_enrol *e = &tx->u.meter_enrol;
        return verify_key_init(&key, net, ROLE_METER_REPORT, &e->meter, e->epoch, &e->w_report);
    }
    if (tx->tx.kind == TX_DC_ENROL) {
        const struct dc_enrol *e = &tx->u.dc_enrol;
        return verify_key_init(&key, net, ROLE_DC_SIGN, &e->dc, e->epoch, &e->w_sign);
    }
    return AMI_OK;
}

struct check_batch {
    size_t made, count; /* signatures described, and those of them that are to be checked */
    struct tx_signature signature[TX_CHECK_BATCH * TX_SIGNATURES_MAX];
    struct sm3_message message[TX_CHECK_BATCH * TX_SIGNATURES_MAX];
    point p[TX_CHECK_BATCH * TX_SIGNATURES_MAX];
    sm3_digest e[TX_CHECK_BATCH * TX_SIGNATURES_MAX];
    sm2_signature sig[TX_CHECK_BATCH * TX_SIGNATURES_MAX];
    bool ok[TX_CHECK_BATCH * TX_SIGNATURES_MAX];
    size_t of[TX_CHECK_BATCH * TX_SIGNATURES_MAX];
};

static void add_signatures(struct check_batch *b, const struct tx_check *c,
                           const struct tx_view *tx, size_t index)
{
    struct tx_signature *s = &b->signature[b->made]; /* messages point into it: it stays there */
    const unsigned count = tx_signatures(s, tx, &c->genesis->members.chain, &c->genesis->network,
                                         c->author, c->gateway);
    b->made += count;
    for (unsigned i = tx_signatures_from(tx, c->meters_unchecked); i < count; i++) {
        b->message[b->count] = (struct sm3_message){s[i].message.parts, s[i].message.count};
        b->p[b->count] = s[i].p;
        b->sig[b->count] = s[i].sig;
        b->of[b->count++] = index;
    }
}

void tx_check_run_batch(const struct tx_check *c, const struct tx_view *tx, enum ami_status *status,
                        size_t count)
{
    AMI_CHECK(count <= TX_CHECK_BATCH);
    struct check_batch *b = malloc(sizeof *b);
    if (b != NULL)
        b->made = b->count = 0;
    for (size_t i = 0; i < count; i++) {
        if (status[i] != AMI_OK)
            continue;
        if (b == NULL)
            status[i] = AMI_NO_MEMORY;
        else
            add_signatures(b, &c[i], &tx[i], i);
    }
    if (b == NULL)
        return;
    if (b->count != 0) {
        sm3_batch(b->e, b->message, b->count);
        if (sm2_verify_batch(b->p, b->e, b->sig, b->ok, b->count) != AMI_OK)
            for (size_t i = 0; i < b->count; i++)
                if (!b->ok[i])
                    status[b->of[i]] = AMI_BAD_SIGNATURE;
    }
    free(b);
    for (size_t i = 0; i < count; i++)
        if (status[i] == AMI_OK)
            status[i] = check_w(&c[i].genesis->network, &tx[i]);
}

enum ami_status tx_check_run(const struct tx_check *c, const struct tx_view *tx)
{
    enum ami_status status = AMI_OK;
    tx_check_run_batch(c, tx, &status, 1);
    return status;
}
