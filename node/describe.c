#include "node/describe.h"

#include "ledger/evidence.h"
#include "ledger/pruned.h"

#include <stdlib.h>
#include <string.h>

json_t *describe_hex(const void *data, size_t size)
{
    char *text = malloc(2 * size + 1);
    if (text == NULL)
        return NULL;
    hex_encode(text, data, size);
    json_t *value = json_string(text);
    free(text);
    return value;
}

static json_t *digest(const sm3_digest *d)
{
    return describe_hex(d->b, sizeof d->b);
}

static json_t *bytes(struct span s)
{
    return describe_hex(s.data, s.size);
}

/* Numbers above 2^63 do not fit JSON integers as jansson has them; such heights and terms do not
 * occur, and are shown as the largest number that does. */
static json_int_t number(uint64_t v)
{
    return v > INT64_MAX ? INT64_MAX : (json_int_t)v;
}

static const char *member_name(const struct members *m, unsigned index)
{
    return m != NULL && index < m->count ? m->member[index].name.text : "?";
}

const char *describe_tx_kind(uint8_t kind)
{
    switch (kind) {
    case TX_REPORT:
        return "report";
    case TX_METER_ENROL:
        return "meter_enrol";
    case TX_DC_ENROL:
        return "dc_enrol";
    case TX_REVOKE:
        return "revoke";
    case TX_SKIP:
        return "skip";
    case TX_EVIDENCE:
        return "evidence";
    case TX_RETENTION:
        return "retention";
    case TX_MEMBERSHIP:
        return "membership";
    default:
        return "unknown";
    }
}

json_t *describe_header(const struct members *m, const struct block_header *h)
{
    sm3_digest hash = block_hash(h);
    return json_pack("{s:I, s:o, s:i, s:o, s:I, s:o, s:I, s:o, s:o, s:o, s:I, s:I, s:s}", "height",
                     number(h->height), "hash", digest(&hash), "version", h->version, "chain",
                     digest(&h->chain), "epoch", number(h->epoch), "members", digest(&h->members),
                     "term", number(h->term), "previous", digest(&h->previous), "merkle_root",
                     digest(&h->merkle_root), "state_root", digest(&h->state_root), "timestamp_ms",
                     (json_int_t)h->timestamp_ms, "transactions", number(h->tx_count), "proposer",
                     member_name(m, h->proposer));
}

json_t *describe_block_line(const struct members *m, const struct certified_block *b)
{
    sm3_digest hash = block_hash(&b->header);
    return json_pack("{s:I, s:o, s:I, s:s, s:I, s:I, s:I, s:b}", "height", number(b->header.height),
                     "hash", digest(&hash), "term", number(b->header.term), "leader",
                     member_name(m, b->header.proposer), "transactions", number(b->header.tx_count),
                     "bytes", number(b->body.size), "timestamp_ms",
                     (json_int_t)b->header.timestamp_ms, "pruned", (int)body_is_pruned(b->body));
}

static json_t *certificate(const struct members *m, const struct qc *c)
{
    json_t *voters = json_array();
    for (unsigned i = 0; i < AMI_MEMBERS_MAX; i++)
        if (c->signers >> i & 1)
            json_array_append_new(voters, json_string(member_name(m, i)));
    return json_pack("{s:I, s:I, s:i, s:o}", "term", number(c->term), "epoch", number(c->epoch),
                     "votes", (int)c->signatures_count, "voters", voters);
}

struct tx_facts describe_tx_facts(const struct members *m, const struct tx_view *tx)
{
    switch (tx->tx.kind) {
    case TX_REPORT:
        return (struct tx_facts){tx->u.report.meter.meter.text, tx->u.report.meter.epoch,
                                 tx->u.report.meter.sequence};
    case TX_METER_ENROL:
        return (struct tx_facts){tx->u.meter_enrol.meter.text, tx->u.meter_enrol.epoch, 0};
    case TX_DC_ENROL:
        return (struct tx_facts){tx->u.dc_enrol.dc.text, tx->u.dc_enrol.epoch, 0};
    case TX_REVOKE:
        return (struct tx_facts){tx->u.revoke.device.text, tx->u.revoke.epoch, 0};
    case TX_SKIP:
        return (struct tx_facts){tx->u.skip.meter.text, tx->u.skip.epoch, tx->u.skip.below};
    case TX_EVIDENCE:
        return (struct tx_facts){member_name(m, tx->u.evidence.accused), tx->u.evidence.epoch, 0};
    case TX_MEMBERSHIP:
        return (struct tx_facts){tx->u.membership.dc.text, tx->u.membership.key_epoch, 0};
    default:
        return (struct tx_facts){"", 0, 0};
    }
}

static json_t *tx_line(const struct members *m, const struct tx_view *tx, uint32_t index)
{
    const struct tx_facts f = describe_tx_facts(m, tx);
    return json_pack("{s:I, s:o, s:s, s:s, s:I, s:I, s:I}", "index", number(index), "id",
                     digest(&tx->id), "kind", describe_tx_kind(tx->tx.kind), "device", f.device,
                     "epoch", number(f.epoch), "sequence", number(f.sequence), "bytes",
                     number(tx->encoded.size));
}

json_t *describe_block(const struct members *m, const struct certified_block *b)
{
    json_t *txs = json_array();
    struct body_reader it = body_reader_on(b->body);
    struct span encoded;
    uint32_t index = 0;
    while (body_next(&it, &encoded)) {
        struct tx_view tx;
        if (tx_view_parse_kept(&tx, encoded) == AMI_OK)
            json_array_append_new(txs, tx_line(m, &tx, index));
        index++;
    }
    return json_pack("{s:o, s:o, s:I, s:b, s:o}", "header", describe_header(m, &b->header),
                     "certificate", certificate(m, &b->commit), "bytes", number(b->body.size),
                     "pruned", (int)body_is_pruned(b->body), "transactions", txs);
}

static json_t *describe_report(const struct tx_view *tx)
{
    const struct report_meter_part *m = &tx->u.report.meter;
    const struct report_gateway_part *d = &tx->u.report.gateway;
    json_t *o =
        json_pack("{s:s, s:I, s:I, s:o, s:o}", "meter", m->meter.text, "epoch", number(m->epoch),
                  "sequence", number(m->sequence), "commitment", digest(&m->commitment),
                  "meter_signature", describe_hex(m->signature.b, sizeof m->signature.b));
    json_t *more = tx->pruned
                       ? json_pack("{s:b, s:o}", "pruned", 1, "second", digest(&tx->second))
                       : json_pack("{s:o, s:I, s:o, s:I, s:s, s:I, s:o}", "c1",
                                   describe_hex(d->c1.b, sizeof d->c1.b), "sealed_bytes",
                                   number(d->sealed.size), "sealed", bytes(d->sealed),
                                   "timestamp_ms", (json_int_t)d->timestamp_ms, "dc", d->dc.text,
                                   "dc_epoch", number(d->dc_epoch), "dc_signature",
                                   describe_hex(d->signature.b, sizeof d->signature.b));
    if (o != NULL && more != NULL)
        json_object_update(o, more);
    json_decref(more);
    return o;
}

static json_t *address(struct span text)
{
    return json_stringn((const char *)text.data, text.size); /* ASCII: address_ok */
}

static json_t *describe_membership(const struct membership *m)
{
    static const char *const changes[] = {
        [MEMBER_JOIN] = "join", [MEMBER_LEAVE] = "leave", [MEMBER_ROTATE] = "rotate"};
    const struct member_entry *e = &m->entry;
    json_t *o = json_pack("{s:I, s:I, s:s, s:s, s:I, s:I}", "number", number(m->number), "epoch",
                          number(m->epoch), "change", changes[m->change], "dc", m->dc.text,
                          "key_epoch", number(m->key_epoch), "delay", number(m->delay));
    if (o == NULL || !m->has_entry)
        return o;
    json_object_set_new(o, "w_sign", describe_hex(e->w_sign.b, sizeof e->w_sign.b));
    json_object_set_new(o, "agree_part", bytes(e->agree_part));
    json_object_set_new(o, "peer", address(e->peer));
    json_object_set_new(o, "meter", address(e->meter));
    json_object_set_new(o, "admin", address(e->admin));
    return o;
}

static json_t *describe_vote(const struct vote *v)
{
    return json_pack("{s:s, s:s, s:I, s:I, s:o}", "statement", "vote", "phase",
                     v->kind == VOTE_COMMIT ? "commit" : "prepare", "term", number(v->term),
                     "height", number(v->height), "block", digest(&v->block));
}

static json_t *describe_head(const struct members *m, const struct proposal_head *p)
{
    return json_pack("{s:s, s:I, s:o}", "statement", "proposal", "term", number(p->term), "header",
                     describe_header(m, &p->header));
}

static json_t *describe_grant(const struct members *m, const struct grant *v)
{
    json_t *high = v->has_high
                       ? json_pack("{s:I, s:I, s:o}", "term", number(v->high.term), "height",
                                   number(v->high.height), "block", digest(&v->high.block))
                       : json_null();
    return json_pack("{s:s, s:I, s:s, s:o}", "statement", "grant", "term", number(v->term),
                     "candidate", member_name(m, v->candidate), "high", high);
}

/* A statement is told from the others by how it parses and what the kind of evidence asks for. */
static json_t *describe_statement(const struct members *m, uint8_t kind, bool second,
                                  struct span encoded)
{
    struct vote v;
    struct grant grant;
    struct proposal_head head;
    bool votes = kind == EVIDENCE_VOTES || (kind == EVIDENCE_HIDDEN && !second);
    bool heads = kind == EVIDENCE_PROPOSALS || kind == EVIDENCE_PROPOSAL;
    if (votes)
        return vote_parse(&v, encoded) == AMI_OK ? describe_vote(&v) : json_null();
    if (heads)
        return proposal_head_parse(&head, encoded) == AMI_OK ? describe_head(m, &head)
                                                             : json_null();
    return grant_parse(&grant, encoded) == AMI_OK ? describe_grant(m, &grant) : json_null();
}

static json_t *describe_evidence(const struct members *m, const struct evidence *e)
{
    json_t *statements = json_array();
    json_array_append_new(statements, describe_statement(m, e->kind, false, e->first));
    if (e->second.size != 0)
        json_array_append_new(statements, describe_statement(m, e->kind, true, e->second));
    return json_pack("{s:s, s:I, s:s, s:o}", "against", member_name(m, e->accused), "epoch",
                     number(e->epoch), "what", evidence_kind_name(e->kind), "statements",
                     statements);
}

static json_t *describe_fields(const struct members *m, const struct tx_view *tx)
{
    switch (tx->tx.kind) {
    case TX_REPORT:
        return describe_report(tx);
    case TX_METER_ENROL: {
        const struct meter_enrol *e = &tx->u.meter_enrol;
        return json_pack("{s:I, s:s, s:I, s:s, s:o, s:o}", "number", number(e->number), "meter",
                         e->meter.text, "epoch", number(e->epoch), "home_dc", e->home_dc.text,
                         "w_report", describe_hex(e->w_report.b, sizeof e->w_report.b),
                         "agree_part", bytes(e->agree_part));
    }
    case TX_DC_ENROL: {
        const struct dc_enrol *e = &tx->u.dc_enrol;
        return json_pack("{s:I, s:s, s:I, s:o, s:o}", "number", number(e->number), "dc", e->dc.text,
                         "epoch", number(e->epoch), "w_sign",
                         describe_hex(e->w_sign.b, sizeof e->w_sign.b), "agree_part",
                         bytes(e->agree_part));
    }
    case TX_REVOKE: {
        const struct revoke *r = &tx->u.revoke;
        return json_pack("{s:I, s:s, s:s, s:I, s:i}", "number", number(r->number), "role",
                         r->role == 1 ? "meter" : "dc", "device", r->device.text, "epoch",
                         number(r->epoch), "reason", r->reason);
    }
    case TX_SKIP: {
        const struct skip_meter_part *s = &tx->u.skip;
        return json_pack("{s:s, s:I, s:I}", "meter", s->meter.text, "epoch", number(s->epoch),
                         "below", number(s->below));
    }
    case TX_MEMBERSHIP:
        return describe_membership(&tx->u.membership);
    case TX_EVIDENCE:
        return describe_evidence(m, &tx->u.evidence);
    case TX_RETENTION:
        return json_pack("{s:I, s:I}", "number", number(tx->u.retention.number), "below",
                         number(tx->u.retention.below));
    default:
        return json_object();
    }
}

json_t *describe_tx(const struct members *m, const struct tx_view *tx)
{
    return json_pack("{s:o, s:s, s:I, s:o}", "id", digest(&tx->id), "kind",
                     describe_tx_kind(tx->tx.kind), "bytes", number(tx->encoded.size), "fields",
                     describe_fields(m, tx));
}

json_t *describe_record(const struct record *r)
{
    static const char *const kinds[] = {"mdms", "meter", "dc"};
    json_t *o = json_pack("{s:s, s:s, s:I, s:s, s:o, s:o, s:I, s:I}", "kind",
                          kinds[r->kind <= RECORD_DC ? r->kind : 0], "id", r->name.text, "epoch",
                          number(r->epoch), "home_dc", r->home_dc.text, "w",
                          describe_hex(r->w.b, sizeof r->w.b), "agree_part",
                          describe_hex(r->agree_part, r->agree_part_size), "enrolled_at",
                          number(r->enrolled_at), "revoked_at", number(r->revoked_at));
    if (o != NULL && r->kind == RECORD_DC) {
        json_object_set_new(o, "member_from", json_integer(number(r->member_from)));
        json_object_set_new(o, "member_until", json_integer(number(record_member_until(r))));
    } else if (o != NULL) {
        json_object_set_new(o, "floor", json_integer(number(r->floor)));
        json_object_set_new(o, "window", json_sprintf("%016llx", (unsigned long long)r->window));
    }
    return o;
}
