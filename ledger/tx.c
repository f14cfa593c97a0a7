#include "ledger/tx.h"

#include "base/check.h"
#include "crypto/secret.h"
#include "crypto/sm4gcm.h"
#include "ledger/evidence.h"
#include "ledger/internal.h"

#include <stdlib.h>
#include <string.h>

#define TX_ID_LABEL "amiledger tx v1"

/* --- parsing -----------------------------------------------------------------------------------
 */

static enum ami_status parse_report(struct tx_view *v)
{
    AMI_TRY(report_meter_part_parse(&v->u.report.meter, v->tx.first));
    AMI_TRY(report_gateway_part_parse(&v->u.report.gateway, v->tx.second));
    const struct report_meter_part *m = &v->u.report.meter;
    if (m->epoch == 0 || m->sequence == 0 || v->u.report.gateway.dc_epoch == 0)
        return AMI_BAD_ARGUMENT;
    return AMI_OK;
}

/* `second` is the digest of the part that is gone. */
static enum ami_status parse_pruned(struct tx_view *v)
{
    AMI_TRY(report_meter_part_parse(&v->u.report.meter, v->tx.first));
    if (v->tx.second.size != SM3_BYTES)
        return AMI_BAD_ENCODING;
    memcpy(v->second.b, v->tx.second.data, SM3_BYTES);
    memset(&v->u.report.gateway, 0, sizeof v->u.report.gateway);
    v->tx.kind = TX_REPORT;
    v->tx.second = span_of(NULL, 0);
    v->pruned = true;
    const struct report_meter_part *m = &v->u.report.meter;
    return m->epoch == 0 || m->sequence == 0 ? AMI_BAD_ARGUMENT : AMI_OK;
}

/* What holds of a membership transaction whatever the registry says. */
static enum ami_status check_membership(const struct membership *m)
{
    if (m->change < MEMBER_JOIN || m->change > MEMBER_ROTATE || m->epoch < 2 || m->key_epoch == 0 ||
        m->delay < MEMBERSHIP_DELAY_MIN || m->delay > MEMBERSHIP_DELAY_MAX ||
        m->has_entry != (m->change != MEMBER_LEAVE))
        return AMI_BAD_ARGUMENT;
    if (!m->has_entry)
        return AMI_OK;
    const struct member_entry *e = &m->entry;
    return address_ok(e->peer) && address_ok(e->meter) && address_ok(e->admin) ? AMI_OK
                                                                               : AMI_BAD_ARGUMENT;
}

static enum ami_status parse_mdms(struct tx_view *v)
{
    uint64_t number;
    uint32_t epoch;
    AMI_TRY(mdms_part_parse(&v->mdms, v->tx.second));
    if (v->tx.kind == TX_METER_ENROL) {
        AMI_TRY(meter_enrol_parse(&v->u.meter_enrol, v->tx.first));
        number = v->u.meter_enrol.number;
        epoch = v->u.meter_enrol.epoch;
    } else if (v->tx.kind == TX_DC_ENROL) {
        AMI_TRY(dc_enrol_parse(&v->u.dc_enrol, v->tx.first));
        number = v->u.dc_enrol.number;
        epoch = v->u.dc_enrol.epoch;
    } else if (v->tx.kind == TX_MEMBERSHIP) {
        AMI_TRY(membership_parse(&v->u.membership, v->tx.first));
        AMI_TRY(check_membership(&v->u.membership));
        number = v->u.membership.number;
        epoch = v->u.membership.epoch;
    } else if (v->tx.kind == TX_RETENTION) {
        AMI_TRY(retention_parse(&v->u.retention, v->tx.first));
        number = v->u.retention.number;
        epoch = 1; /* it is of no key */
        if (v->u.retention.below < 2)
            return AMI_BAD_ARGUMENT; /* there is no block below */
    } else {
        AMI_TRY(revoke_parse(&v->u.revoke, v->tx.first));
        number = v->u.revoke.number;
        epoch = v->u.revoke.epoch;
        if (v->u.revoke.role < 1 || v->u.revoke.role > 2 || v->u.revoke.reason > 3)
            return AMI_BAD_ARGUMENT;
    }
    return number == 0 || epoch == 0 ? AMI_BAD_ARGUMENT : AMI_OK;
}

static enum ami_status parse_skip(struct tx_view *v)
{
    AMI_TRY(skip_meter_part_parse(&v->u.skip, v->tx.first));
    if (v->tx.second.size != 0)
        return AMI_BAD_ENCODING;
    return v->u.skip.epoch == 0 ? AMI_BAD_ARGUMENT : AMI_OK;
}

static enum ami_status parse_evidence(struct tx_view *v)
{
    AMI_TRY(evidence_parse(&v->u.evidence, v->tx.first));
    if (v->tx.second.size != 0)
        return AMI_BAD_ENCODING;
    return evidence_judge(&v->u.evidence);
}

static enum ami_status decode(struct tx_view *out, struct span encoded, bool kept)
{
    if (encoded.size > AMI_TX_BYTES_MAX)
        return AMI_TOO_LARGE;
    AMI_TRY(tx_parse(&out->tx, encoded));
    out->encoded = encoded;
    out->pruned = false;
    switch (out->tx.kind) {
    case TX_PRUNED_REPORT:
        return kept ? parse_pruned(out) : AMI_BAD_ARGUMENT;
    case TX_REPORT:
        return parse_report(out);
    case TX_METER_ENROL:
    case TX_DC_ENROL:
    case TX_REVOKE:
    case TX_MEMBERSHIP:
    case TX_RETENTION:
        return parse_mdms(out);
    case TX_SKIP:
        return parse_skip(out);
    case TX_EVIDENCE:
        return parse_evidence(out);
    default:
        return AMI_BAD_ARGUMENT;
    }
}

enum ami_status tx_view_decode(struct tx_view *out, struct span encoded)
{
    return decode(out, encoded, false);
}

enum ami_status tx_view_decode_kept(struct tx_view *out, struct span encoded)
{
    return decode(out, encoded, true);
}

sm3_digest tx_second(const struct tx_view *tx)
{
    return tx->pruned ? tx->second : sm3(tx->tx.second);
}

void tx_view_identify(struct tx_view *tx)
{
    const sm3_digest first = sm3(tx->tx.first), second = tx_second(tx);
    tx->id = tx_id(tx->tx.kind, &first, &second);
}

enum ami_status tx_view_parse(struct tx_view *out, struct span encoded)
{
    AMI_TRY(tx_view_decode(out, encoded));
    tx_view_identify(out);
    return AMI_OK;
}

enum ami_status tx_view_parse_kept(struct tx_view *out, struct span encoded)
{
    AMI_TRY(tx_view_decode_kept(out, encoded));
    tx_view_identify(out);
    return AMI_OK;
}

sm3_digest tx_id(uint8_t kind, const sm3_digest *first, const sm3_digest *second)
{
    const struct span parts[] = {span_of(&kind, 1), span_of(first->b, SM3_BYTES),
                                 span_of(second->b, SM3_BYTES)};
    return sm3_labelled(TX_ID_LABEL, parts, 3);
}

sm3_digest tx_leaf(const sm3_digest *id)
{
    /* merkle_leaf over the id; written out here so that a meter needs no tree. */
    static const uint8_t prefix = 0;
    const struct span parts[] = {span_of(&prefix, 1), span_of(id->b, SM3_BYTES)};
    return sm3_parts(parts, 2);
}

#define LEAF_CHUNK 256

/* A chunk's digests, one round after another: of both parts, of the ids, of the leaves. */
struct leaf_chunk {
    struct span part[2 * LEAF_CHUNK], id_part[LEAF_CHUNK][4], leaf_part[LEAF_CHUNK][2];
    struct sm3_message message[2 * LEAF_CHUNK];
    sm3_digest half[2 * LEAF_CHUNK], id[LEAF_CHUNK];
    uint8_t kind[LEAF_CHUNK];
};

static void ids_of_chunk(sm3_digest *out, struct leaf_chunk *c, const struct tx *tx, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        c->kind[i] = tx[i].kind == TX_PRUNED_REPORT ? TX_REPORT : tx[i].kind;
        c->part[2 * i] = tx[i].first;
        c->part[2 * i + 1] = tx[i].second;
        c->message[2 * i] = (struct sm3_message){&c->part[2 * i], 1};
        c->message[2 * i + 1] = (struct sm3_message){&c->part[2 * i + 1], 1};
    }
    sm3_batch(c->half, c->message, 2 * size);
    for (size_t i = 0; i < size; i++) {
        if (tx[i].kind == TX_PRUNED_REPORT) /* the digest itself stands there: see by_chunks */
            memcpy(c->half[2 * i + 1].b, tx[i].second.data, SM3_BYTES);
        c->id_part[i][0] = span_of(TX_ID_LABEL, sizeof TX_ID_LABEL); /* with its zero byte */
        c->id_part[i][1] = span_of(&c->kind[i], 1);
        c->id_part[i][2] = span_of(c->half[2 * i].b, SM3_BYTES);
        c->id_part[i][3] = span_of(c->half[2 * i + 1].b, SM3_BYTES);
        c->message[i] = (struct sm3_message){c->id_part[i], 4};
    }
    sm3_batch(out, c->message, size);
}

static void leaves_of_chunk(sm3_digest *out, struct leaf_chunk *c, const struct tx *tx, size_t size)
{
    static const uint8_t prefix = 0;
    ids_of_chunk(c->id, c, tx, size);
    for (size_t i = 0; i < size; i++) {
        c->leaf_part[i][0] = span_of(&prefix, 1);
        c->leaf_part[i][1] = span_of(c->id[i].b, SM3_BYTES);
        c->message[i] = (struct sm3_message){c->leaf_part[i], 2};
    }
    sm3_batch(out, c->message, size);
}

/* second: may be NULL. */
static enum ami_status
by_chunks(sm3_digest *out, sm3_digest *second, const struct tx *tx, size_t count,
          void (*chunk)(sm3_digest *out, struct leaf_chunk *c, const struct tx *tx, size_t size))
{
    for (size_t i = 0; i < count; i++)
        if (tx[i].kind == TX_PRUNED_REPORT && tx[i].second.size != SM3_BYTES)
            return AMI_BAD_ENCODING;
    struct leaf_chunk *c = malloc(sizeof *c);
    if (c == NULL)
        return AMI_NO_MEMORY;
    for (size_t done = 0; done < count; done += LEAF_CHUNK) {
        const size_t size = count - done < LEAF_CHUNK ? count - done : LEAF_CHUNK;
        chunk(out + done, c, tx + done, size);
        for (size_t i = 0; second != NULL && i < size; i++)
            second[done + i] = c->half[2 * i + 1];
    }
    free(c);
    return AMI_OK;
}

enum ami_status tx_ids(sm3_digest *out, const struct tx *tx, size_t count)
{
    return by_chunks(out, NULL, tx, count, ids_of_chunk);
}

enum ami_status tx_leaves(sm3_digest *out, const struct tx *tx, size_t count)
{
    return by_chunks(out, NULL, tx, count, leaves_of_chunk);
}

static enum ami_status add_leaves(sm3_digest *out, sm3_digest *second, size_t *count,
                                  const struct tx *tx, size_t size)
{
    AMI_TRY(by_chunks(out + *count, second == NULL ? NULL : second + *count, tx, size,
                      leaves_of_chunk));
    *count += size;
    return AMI_OK;
}

enum ami_status body_leaves(sm3_digest *out, sm3_digest *second, size_t max, size_t *count,
                            struct span body)
{
    struct body_reader it = body_reader_on(body);
    struct tx tx[LEAF_CHUNK];
    struct span encoded;
    size_t waiting = 0;
    *count = 0;
    while (body_next(&it, &encoded)) {
        if (*count + waiting == max)
            return AMI_TOO_LARGE;
        AMI_TRY(tx_parse(&tx[waiting], encoded));
        if (++waiting < LEAF_CHUNK)
            continue;
        AMI_TRY(add_leaves(out, second, count, tx, waiting));
        waiting = 0;
    }
    if (!body_ok(&it))
        return AMI_BAD_ENCODING;
    return add_leaves(out, second, count, tx, waiting);
}

uint64_t tx_mdms_number(const struct tx_view *tx)
{
    switch (tx->tx.kind) {
    case TX_METER_ENROL:
        return tx->u.meter_enrol.number;
    case TX_DC_ENROL:
        return tx->u.dc_enrol.number;
    case TX_REVOKE:
        return tx->u.revoke.number;
    case TX_MEMBERSHIP:
        return tx->u.membership.number;
    case TX_RETENTION:
        return tx->u.retention.number;
    default:
        return 0;
    }
}

struct body_reader body_reader_on(struct span body)
{
    return (struct body_reader){reader_on(body)};
}

bool body_next(struct body_reader *it, struct span *encoded_tx)
{
    if (reader_left(&it->r) == 0)
        return false;
    *encoded_tx = read_bytes(&it->r, AMI_TX_BYTES_MAX);
    return !it->r.failed;
}

bool body_ok(const struct body_reader *it)
{
    return reader_done(&it->r);
}

void body_append(struct writer *body, struct span encoded_tx)
{
    write_bytes(body, encoded_tx);
}

/* --- signatures --------------------------------------------------------------------------------
 */

/* Largest first: a gateway part is a sealed report and a few fields. */
#define PART_BYTES_MAX (AMI_SEALED_BYTES_MAX + 256)

static struct span meter_body(uint8_t out[256], const struct report_meter_part *part)
{
    struct writer w = writer_on(out, 256);
    report_meter_part_encode(&w, part);
    AMI_CHECK(writer_ok(&w));
    return signed_part(writer_span(&w));
}

void report_meter_message(struct report_meter_message *out, const struct report_meter_part *part,
                          const sm3_digest *chain, const struct verify_key *meter)
{
    const struct span parts[] = {span_of(chain->b, SM3_BYTES), meter_body(out->bytes, part)};
    verify_key_message(&out->message, meter, LABEL_REPORT, parts, 2);
}

static sm3_digest meter_digest(const struct report_meter_part *part, const sm3_digest *chain,
                               const struct verify_key *meter)
{
    struct report_meter_message m;
    report_meter_message(&m, part, chain, meter);
    return sm3_parts(m.message.parts, m.message.count);
}

void report_meter_sign(struct report_meter_part *part, const sm3_digest *chain,
                       const struct sign_key *meter, const uint8_t random[SM2_WIDE_BYTES])
{
    const sm3_digest e = meter_digest(part, chain, &meter->public_key);
    part->signature = sm2_sign(&meter->private_key, &e, random);
}

enum ami_status report_meter_check(const struct report_meter_part *part, const sm3_digest *chain,
                                   const struct verify_key *meter)
{
    const sm3_digest e = meter_digest(part, chain, meter);
    return sm2_verify(&meter->p, &e, &part->signature);
}

/* Sig_DC covers the chain, the whole meter part with its signature, and the fields before it. */
void report_gateway_message(struct report_gateway_message *out,
                            const struct report_gateway_part *part,
                            const struct report_meter_part *meter, const sm3_digest *chain,
                            const struct verify_key *dc)
{
    struct writer m = writer_on(out->meter, sizeof out->meter);
    struct writer g = writer_on(out->gateway, sizeof out->gateway);
    report_meter_part_encode(&m, meter);
    report_gateway_part_encode(&g, part);
    AMI_CHECK(writer_ok(&m) && writer_ok(&g));
    const struct span parts[] = {span_of(chain->b, SM3_BYTES), writer_span(&m),
                                 signed_part(writer_span(&g))};
    verify_key_message(&out->message, dc, LABEL_GATEWAY, parts, 3);
}

static sm3_digest gateway_digest(const struct report_gateway_part *part,
                                 const struct report_meter_part *meter, const sm3_digest *chain,
                                 const struct verify_key *dc)
{
    struct report_gateway_message m;
    report_gateway_message(&m, part, meter, chain, dc);
    return sm3_parts(m.message.parts, m.message.count);
}

void report_gateway_sign(struct report_gateway_part *part, const struct report_meter_part *meter,
                         const sm3_digest *chain, const struct sign_key *dc,
                         const uint8_t random[SM2_WIDE_BYTES])
{
    const sm3_digest e = gateway_digest(part, meter, chain, &dc->public_key);
    part->signature = sm2_sign(&dc->private_key, &e, random);
}

enum ami_status report_gateway_check(const struct report_gateway_part *part,
                                     const struct report_meter_part *meter, const sm3_digest *chain,
                                     const struct verify_key *dc)
{
    const sm3_digest e = gateway_digest(part, meter, chain, dc);
    return sm2_verify(&dc->p, &e, &part->signature);
}

void report_tx_encode(struct writer *out, const struct report_meter_part *meter,
                      const struct report_gateway_part *gateway)
{
    uint8_t first[256], second[PART_BYTES_MAX];
    struct writer f = writer_on(first, sizeof first), s = writer_on(second, sizeof second);
    report_meter_part_encode(&f, meter);
    report_gateway_part_encode(&s, gateway);
    AMI_CHECK(writer_ok(&f) && writer_ok(&s));
    struct tx t = {TX_REPORT, writer_span(&f), writer_span(&s)};
    tx_encode(out, &t);
}

static struct span skip_body(uint8_t out[256], const struct skip_meter_part *part)
{
    struct writer w = writer_on(out, 256);
    skip_meter_part_encode(&w, part);
    AMI_CHECK(writer_ok(&w));
    return signed_part(writer_span(&w));
}

void skip_sign(struct skip_meter_part *part, const sm3_digest *chain, const struct sign_key *meter,
               const uint8_t random[SM2_WIDE_BYTES])
{
    uint8_t bytes[256];
    const struct span parts[] = {span_of(chain->b, SM3_BYTES), skip_body(bytes, part)};
    part->signature = sign_key_sign(meter, LABEL_SKIP, parts, 2, random);
}

enum ami_status skip_check(const struct skip_meter_part *part, const sm3_digest *chain,
                           const struct verify_key *meter)
{
    uint8_t bytes[256];
    const struct span parts[] = {span_of(chain->b, SM3_BYTES), skip_body(bytes, part)};
    return verify_key_check(meter, LABEL_SKIP, parts, 2, &part->signature);
}

/* Z, label with its zero byte, chain, kind, first part. */
static void mdms_message(struct verify_key_message *out, const struct network *net,
                         const sm3_digest *chain, const uint8_t *kind, struct span first)
{
    out->parts[0] = span_of(net->sign_z.b, sizeof net->sign_z.b);
    out->parts[1] = span_of(LABEL_MDMS, sizeof LABEL_MDMS);
    out->parts[2] = span_of(chain->b, SM3_BYTES);
    out->parts[3] = span_of(kind, 1);
    out->parts[4] = first;
    out->count = 5;
}

static sm3_digest mdms_digest(const struct network *net, const sm3_digest *chain, uint8_t kind,
                              struct span first)
{
    struct verify_key_message m;
    mdms_message(&m, net, chain, &kind, first);
    return sm3_parts(m.parts, m.count);
}

sm2_signature mdms_tx_sign(const struct network *net, const sm2_private *key,
                           const sm3_digest *chain, uint8_t kind, struct span first,
                           const uint8_t random[SM2_WIDE_BYTES])
{
    sm3_digest e = mdms_digest(net, chain, kind, first);
    return sm2_sign(key, &e, random);
}

enum ami_status mdms_tx_check(const struct network *net, const sm3_digest *chain, uint8_t kind,
                              struct span first, const sm2_signature *sig)
{
    sm3_digest e = mdms_digest(net, chain, kind, first);
    return sm2_verify(&net->sign, &e, sig);
}

void mdms_tx_encode(struct writer *out, uint8_t kind, struct span first, const sm2_signature *sig)
{
    struct tx t = {kind, first, span_of(sig->b, sizeof sig->b)};
    tx_encode(out, &t);
}

void evidence_tx_encode(struct writer *out, const struct evidence *e)
{
    uint8_t first[AMI_TX_BYTES_MAX];
    struct writer w = writer_on(first, sizeof first);
    evidence_encode(&w, e);
    AMI_CHECK(writer_ok(&w));
    struct tx t = {TX_EVIDENCE, writer_span(&w), span_of(NULL, 0)};
    tx_encode(out, &t);
}

static unsigned evidence_signatures(struct tx_signature out[TX_SIGNATURES_MAX],
                                    const struct evidence *e, const struct verify_key *accused)
{
    _Static_assert(EVIDENCE_STATEMENTS_MAX <= TX_SIGNATURES_MAX, "there is room");
    struct evidence_statement s[EVIDENCE_STATEMENTS_MAX];
    unsigned count = evidence_statements(s, e);
    for (unsigned i = 0; i < count; i++) {
        out[i].p = accused->p;
        verify_key_message(&out[i].message, accused, s[i].label, &s[i].bytes, 1);
        out[i].sig = s[i].signature;
    }
    return count;
}

unsigned tx_signatures(struct tx_signature out[TX_SIGNATURES_MAX], const struct tx_view *tx,
                       const sm3_digest *chain, const struct network *net,
                       const struct verify_key *author, const struct verify_key *gateway)
{
    /* Where a kind lies while its message is used. */
    static const uint8_t kinds[] = {
        [TX_METER_ENROL] = TX_METER_ENROL, [TX_DC_ENROL] = TX_DC_ENROL,   [TX_REVOKE] = TX_REVOKE,
        [TX_MEMBERSHIP] = TX_MEMBERSHIP,   [TX_RETENTION] = TX_RETENTION,
    };
    /* The parts lie in the transaction as they were signed: nothing is encoded anew. */
    struct span first = tx->tx.first, second = tx->tx.second;
    struct span parts[] = {span_of(chain->b, SM3_BYTES), signed_part(first), signed_part(second)};
    switch (tx->tx.kind) {
    case TX_REPORT:
        out[0].p = author->p;
        verify_key_message(&out[0].message, author, LABEL_REPORT, parts, 2);
        out[0].sig = tx->u.report.meter.signature;
        if (tx->pruned)
            return 1; /* the gateway's went with what it signed */
        parts[1] = first;
        out[1].p = gateway->p;
        verify_key_message(&out[1].message, gateway, LABEL_GATEWAY, parts, 3);
        out[1].sig = tx->u.report.gateway.signature;
        return 2;
    case TX_SKIP:
        out[0].p = author->p;
        verify_key_message(&out[0].message, author, LABEL_SKIP, parts, 2);
        out[0].sig = tx->u.skip.signature;
        return 1;
    case TX_EVIDENCE:
        return evidence_signatures(out, &tx->u.evidence, author);
    default:
        out[0].p = net->sign;
        mdms_message(&out[0].message, net, chain, &kinds[tx->tx.kind], first);
        out[0].sig = tx->mdms.signature;
        return 1;
    }
}

/* --- sealing -----------------------------------------------------------------------------------
 */

#define SEAL_INFO "amiledger seal batch v1"

enum ami_status seal_batch_begin(struct seal_batch *out, const point *readings_key,
                                 const uint8_t random[SM2_WIDE_BYTES])
{
    return sm2_encapsulate(&out->c1, out->z, sizeof out->z, readings_key, SPAN_LITERAL(SEAL_INFO),
                           random);
}

enum ami_status seal_batch_open(struct seal_batch *out, const sm2_private *readings_key,
                                const point_bytes *c1)
{
    out->c1 = *c1;
    return sm2_decapsulate(out->z, sizeof out->z, readings_key, c1, SPAN_LITERAL(SEAL_INFO));
}

struct seal {
    sm4_key key;
    gcm_nonce nonce;
    uint8_t aad[SM3_BYTES + 2 * (1 + AMI_ID_BYTES_MAX) + 4 + 8];
    size_t aad_size;
};

static void seal_for(struct seal *s, const struct seal_batch *batch, const sm3_digest *chain,
                     const struct ami_id *dc, const struct ami_id *meter, uint32_t epoch,
                     uint64_t sequence)
{
    struct writer w = writer_on(s->aad, sizeof s->aad);
    write_raw(&w, chain->b, SM3_BYTES);
    write_id(&w, dc);
    write_id(&w, meter);
    write_u32(&w, epoch);
    write_u64(&w, sequence);
    AMI_CHECK(writer_ok(&w));
    s->aad_size = w.size;
    const struct span parts[] = {span_of(batch->z, sizeof batch->z),
                                 span_of(s->aad + SM3_BYTES, w.size - SM3_BYTES)};
    sm3_digest k = sm3_labelled("amiledger seal v1", parts, 2);
    memcpy(s->key.b, k.b, SM4_KEY_BYTES);
    memcpy(s->nonce.b, k.b + SM4_KEY_BYTES, GCM_NONCE_BYTES);
    secret_wipe(&k, sizeof k);
}

void seal_report(uint8_t *out, const struct seal_batch *batch, const sm3_digest *chain,
                 const struct ami_id *dc, const struct ami_id *meter, uint32_t epoch,
                 uint64_t sequence, struct span salt_and_m)
{
    struct seal s;
    seal_for(&s, batch, chain, dc, meter, epoch, sequence);
    sm4gcm_seal(out, &s.key, &s.nonce, span_of(s.aad, s.aad_size), salt_and_m);
    secret_wipe(&s, sizeof s);
}

enum ami_status unseal_report(uint8_t *out, const struct seal_batch *batch, const sm3_digest *chain,
                              const struct ami_id *dc, const struct ami_id *meter, uint32_t epoch,
                              uint64_t sequence, struct span sealed)
{
    struct seal s;
    seal_for(&s, batch, chain, dc, meter, epoch, sequence);
    enum ami_status status = sm4gcm_open(out, &s.key, &s.nonce, span_of(s.aad, s.aad_size), sealed);
    secret_wipe(&s, sizeof s);
    return status;
}

sm3_digest report_commitment(const uint8_t salt[16], struct span m)
{
    const struct span parts[] = {span_of(salt, 16), m};
    return sm3_parts(parts, 2);
}
