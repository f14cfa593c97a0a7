#include "ledger/pruned.h"

#include "ledger/internal.h"

#include <string.h>

bool body_is_pruned(struct span body)
{
    struct body_reader it = body_reader_on(body);
    struct span encoded;
    while (body_next(&it, &encoded))
        if (encoded.size != 0 && encoded.data[0] == TX_PRUNED_REPORT)
            return true;
    return false;
}

static void append_pruned(struct writer *out, const struct tx *report)
{
    const sm3_digest second = sm3(report->second);
    /* What body_append writes, without a copy in between. */
    write_u32(out, (uint32_t)(1 + 4 + report->first.size + 4 + SM3_BYTES));
    const struct tx kept = {TX_PRUNED_REPORT, report->first, span_of(second.b, SM3_BYTES)};
    tx_encode(out, &kept);
}

enum ami_status body_prune(struct writer *out, struct span body, bool *changed)
{
    struct body_reader it = body_reader_on(body);
    struct span encoded;
    *changed = false;
    while (body_next(&it, &encoded)) {
        struct tx tx;
        AMI_TRY(tx_parse(&tx, encoded));
        if (tx.kind != TX_REPORT) {
            body_append(out, encoded);
            continue;
        }
        if (tx.second.size < SM3_BYTES)
            return AMI_BAD_ENCODING; /* a gateway part is longer than what takes its place */
        append_pruned(out, &tx);
        *changed = true;
    }
    return body_ok(&it) && writer_ok(out) ? AMI_OK : AMI_BAD_ENCODING;
}

enum ami_status retention_check(const struct genesis *g, struct span encoded_tx, uint64_t *below)
{
    struct tx_view tx;
    AMI_TRY(tx_view_decode(&tx, encoded_tx));
    if (tx.tx.kind != TX_RETENTION)
        return AMI_BAD_ARGUMENT;
    AMI_TRY(mdms_tx_check(&g->network, &g->members.chain, TX_RETENTION, tx.tx.first,
                          &tx.mdms.signature));
    *below = tx.u.retention.below;
    return AMI_OK;
}
