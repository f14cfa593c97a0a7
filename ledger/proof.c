#include "ledger/proof.h"

#include "base/check.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROOF_FORMAT  "amiledger-proof"
#define PROOF_VERSION 1

/* --- printing ---------------------------------------------------------------------------------- */

static json_t *hex(const void *data, size_t size)
{
    char *text = malloc(2 * size + 1);
    if (text == NULL)
        return NULL;
    hex_encode(text, data, size);
    json_t *o = json_string(text);
    free(text);
    return o;
}

static json_t *place_json(const struct block_header *h, const struct qc *commit, uint32_t index,
                          const sm3_digest *path, size_t path_size, struct span tx)
{
    uint8_t header[512], *cert = malloc(8192);
    if (cert == NULL)
        return NULL;
    struct writer hw = writer_on(header, sizeof header), cw = writer_on(cert, 8192);
    block_header_encode(&hw, h);
    qc_encode(&cw, commit);
    AMI_CHECK(writer_ok(&hw) && writer_ok(&cw));
    json_t *steps = json_array();
    for (size_t i = 0; i < path_size; i++)
        json_array_append_new(steps, hex(path[i].b, SM3_BYTES));
    json_t *o = json_pack("{s:o, s:o, s:I, s:o, s:o}", "header", hex(header, hw.size),
                          "certificate", hex(cert, cw.size), "index", (json_int_t)index, "path",
                          steps, "transaction", hex(tx.data, tx.size));
    free(cert);
    return o;
}

char *proof_print(const struct proof *p)
{
    json_t *o = json_pack(
        "{s:s, s:i, s:o, s:o, s:o}", "format", PROOF_FORMAT, "version", PROOF_VERSION, "chain",
        hex(p->header.chain.b, SM3_BYTES), "report",
        place_json(&p->header, &p->commit, p->index, p->path, p->path_size, p->tx), "enrolment",
        place_json(&p->enrol_header, &p->enrol_commit, p->enrol_index, p->enrol_path,
                   p->enrol_path_size, p->enrolment));
    if (o != NULL && p->has_opening)
        json_object_set_new(o, "opening",
                            json_pack("{s:o, s:o}", "salt", hex(p->salt, sizeof p->salt), "report",
                                      hex(p->m.data, p->m.size)));
    char *text = o == NULL ? NULL : json_dumps(o, JSON_INDENT(2));
    json_decref(o);
    if (text == NULL)
        return NULL;
    size_t size = strlen(text);
    char *line = realloc(text, size + 2);
    if (line == NULL) {
        free(text);
        return NULL;
    }
    memcpy(line + size, "\n", 2);
    return line;
}

/* --- parsing ----------------------------------------------------------------------------------- */

struct parse {
    char *why;
    size_t why_size;
    uint8_t *hold; /* decoded bytes, one after the other */
    size_t used, capacity;
};

static enum ami_status bad(const struct parse *x, enum ami_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static enum ami_status bad(const struct parse *x, enum ami_status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(x->why, x->why_size, format, args);
    va_end(args);
    return status;
}

static enum ami_status get_bytes(struct parse *x, const json_t *o, const char *key, size_t size_max,
                                 struct span *out)
{
    const char *text = json_string_value(json_object_get(o, key));
    size_t size = text == NULL ? 0 : strlen(text) / 2;
    if (text == NULL || size > size_max || size > x->capacity - x->used ||
        hex_decode(x->hold + x->used, size, text) != AMI_OK)
        return bad(x, AMI_BAD_ENCODING, "the proof's \"%s\" is missing or no hex text", key);
    *out = span_of(x->hold + x->used, size);
    x->used += size;
    return AMI_OK;
}

static enum ami_status get_place(struct parse *x, const json_t *o, const char *what,
                                 struct block_header *h, struct qc *commit, uint32_t *index,
                                 sm3_digest path[MERKLE_PATH_MAX], size_t *path_size,
                                 struct span *tx)
{
    struct span bytes;
    if (!json_is_object(o))
        return bad(x, AMI_BAD_ENCODING, "the proof's \"%s\" is missing", what);
    AMI_TRY(get_bytes(x, o, "header", 512, &bytes));
    if (block_header_parse(h, bytes) != AMI_OK)
        return bad(x, AMI_BAD_ENCODING, "the header of the %s's block is malformed", what);
    AMI_TRY(get_bytes(x, o, "certificate", 8192, &bytes));
    if (qc_parse(commit, bytes) != AMI_OK)
        return bad(x, AMI_BAD_ENCODING, "the certificate of the %s's block is malformed", what);
    AMI_TRY(get_bytes(x, o, "transaction", AMI_TX_BYTES_MAX, tx));
    const json_t *number = json_object_get(o, "index");
    if (!json_is_integer(number) || json_integer_value(number) < 0 ||
        json_integer_value(number) >= AMI_BLOCK_TXS_MAX)
        return bad(x, AMI_BAD_ENCODING, "the %s's \"index\" is no place in a block", what);
    *index = (uint32_t)json_integer_value(number);
    const json_t *steps = json_object_get(o, "path");
    *path_size = json_array_size(steps);
    if (!json_is_array(steps) || *path_size > MERKLE_PATH_MAX)
        return bad(x, AMI_BAD_ENCODING, "the %s's \"path\" is no inclusion path", what);
    for (size_t i = 0; i < *path_size; i++) {
        const char *text = json_string_value(json_array_get(steps, i));
        if (text == NULL || hex_decode(path[i].b, SM3_BYTES, text) != AMI_OK)
            return bad(x, AMI_BAD_ENCODING, "step %zu of the %s's path is no digest", i, what);
    }
    return AMI_OK;
}

static enum ami_status get_proof(struct parse *x, struct proof *p, const json_t *o)
{
    const char *format = json_string_value(json_object_get(o, "format"));
    if (format == NULL || strcmp(format, PROOF_FORMAT) != 0)
        return bad(x, AMI_BAD_ENCODING, "it is no proof: its format is not '%s'", PROOF_FORMAT);
    if (json_integer_value(json_object_get(o, "version")) != PROOF_VERSION)
        return bad(x, AMI_BAD_VERSION, "its version is not %d, which this program reads",
                   PROOF_VERSION);
    AMI_TRY(get_place(x, json_object_get(o, "report"), "report", &p->header, &p->commit, &p->index,
                      p->path, &p->path_size, &p->tx));
    AMI_TRY(get_place(x, json_object_get(o, "enrolment"), "enrolment", &p->enrol_header,
                      &p->enrol_commit, &p->enrol_index, p->enrol_path, &p->enrol_path_size,
                      &p->enrolment));
    const json_t *opening = json_object_get(o, "opening");
    if (opening == NULL)
        return AMI_OK;
    struct span salt;
    AMI_TRY(get_bytes(x, opening, "salt", sizeof p->salt, &salt));
    if (salt.size != sizeof p->salt)
        return bad(x, AMI_BAD_ENCODING, "the opening's salt has not 16 bytes");
    memcpy(p->salt, salt.data, sizeof p->salt);
    AMI_TRY(get_bytes(x, opening, "report", AMI_REPORT_BYTES_MAX, &p->m));
    p->has_opening = true;
    return AMI_OK;
}

enum ami_status proof_parse(struct proof *p, void **hold, struct span json, char *why,
                            size_t why_size)
{
    struct parse x = {why, why_size, NULL, 0, json.size / 2 + 1};
    json_error_t error;
    memset(p, 0, sizeof *p);
    *hold = NULL;
    json_t *o = json_loadb((const char *)json.data, json.size, JSON_REJECT_DUPLICATES, &error);
    if (o == NULL)
        return bad(&x, AMI_BAD_ENCODING, "line %d is no JSON: %s", error.line, error.text);
    x.hold = malloc(x.capacity);
    enum ami_status status = x.hold == NULL ? bad(&x, AMI_NO_MEMORY, "out of memory")
                                            : get_proof(&x, p, o);
    json_decref(o);
    if (status == AMI_OK) {
        char *again = proof_print(p);
        if (again == NULL)
            status = bad(&x, AMI_NO_MEMORY, "out of memory");
        else if (strlen(again) != json.size || memcmp(again, json.data, json.size) != 0)
            status = bad(&x, AMI_BAD_ENCODING,
                         "the file is not in its one canonical form: some text in it was altered");
        free(again);
    }
    if (status != AMI_OK) {
        free(x.hold);
        return status;
    }
    *hold = x.hold;
    return AMI_OK;
}

/* --- checking ---------------------------------------------------------------------------------- */

/* Header, certificate and inclusion of one transaction; parses it. */
static enum ami_status check_place(const struct parse *x, const struct genesis *g, const char *what,
                                   const struct block_header *h, const struct qc *commit,
                                   uint32_t index, const sm3_digest *path, size_t path_size,
                                   struct span encoded, struct tx_view *tx)
{
    if (!sm3_equal(&h->chain, &g->members.chain))
        return bad(x, AMI_WRONG_CHAIN, "the %s's block belongs to another chain than the genesis "
                                       "file", what);
    if (h->epoch != g->members.epoch || !sm3_equal(&h->members, &g->members.hash))
        return bad(x, AMI_WRONG_EPOCH, "the %s's block names other members than the genesis file",
                   what);
    sm3_digest hash = block_hash(h);
    if (commit->kind != VOTE_COMMIT || commit->height != h->height ||
        !sm3_equal(&commit->block, &hash))
        return bad(x, AMI_BAD_CERTIFICATE, "the certificate is not one for the %s's block", what);
    if (qc_check(&g->members, commit) != AMI_OK)
        return bad(x, AMI_BAD_CERTIFICATE,
                   "the certificate of the %s's block does not hold %u valid votes", what,
                   members_quorum(g->members.count));
    if (tx_view_parse(tx, encoded) != AMI_OK)
        return bad(x, AMI_BAD_ENCODING, "the %s's transaction is malformed", what);
    sm3_digest leaf = tx_leaf(&tx->id);
    if (merkle_check(&h->merkle_root, &leaf, index, h->tx_count, path, path_size) != AMI_OK)
        return bad(x, AMI_BAD_PROOF, "the %s's transaction is not in its block: the path does not "
                                     "lead to the Merkle root", what);
    return AMI_OK;
}

static const struct member *gateway_member(const struct genesis *g,
                                           const struct report_gateway_part *d)
{
    for (uint8_t i = 0; i < g->members.count; i++)
        if (ami_id_equal(&g->members.member[i].name, &d->dc) &&
            g->members.member[i].key_epoch == d->dc_epoch)
            return &g->members.member[i];
    return NULL;
}

static enum ami_status check_report(const struct parse *x, const struct proof *p,
                                    const struct genesis *g, const struct tx_view *report,
                                    const struct tx_view *enrolment)
{
    if (enrolment->tx.kind != TX_METER_ENROL)
        return bad(x, AMI_BAD_PROOF, "the enrolment's transaction is no meter enrolment");
    if (report->tx.kind != TX_REPORT)
        return bad(x, AMI_BAD_PROOF, "the report's transaction is no report");
    const struct meter_enrol *e = &enrolment->u.meter_enrol;
    const struct report_meter_part *m = &report->u.report.meter;
    const struct report_gateway_part *d = &report->u.report.gateway;
    const sm3_digest *chain = &g->members.chain;
    if (mdms_tx_check(&g->network.sign, chain, TX_METER_ENROL, enrolment->tx.first,
                      &enrolment->mdms.signature) != AMI_OK)
        return bad(x, AMI_BAD_SIGNATURE, "the enrolment is not signed by the MDMS");
    if (!ami_id_equal(&e->meter, &m->meter) || e->epoch != m->epoch)
        return bad(x, AMI_BAD_PROOF, "the enrolment is that of another meter than the report's");
    struct verify_key key;
    if (verify_key_init(&key, &g->network, ROLE_METER_REPORT, &e->meter, e->epoch, &e->w_report) !=
            AMI_OK ||
        report_meter_check(m, chain, &key) != AMI_OK)
        return bad(x, AMI_BAD_SIGNATURE, "the report is not signed by meter %s", m->meter.text);
    const struct member *dc = gateway_member(g, d);
    if (dc != NULL && report_gateway_check(d, m, chain, &dc->key) != AMI_OK)
        return bad(x, AMI_BAD_SIGNATURE, "the transaction is not signed by its gateway %s",
                   d->dc.text);
    /* A gateway that came after the genesis is vouched for by the certificate alone. */
    if (!p->has_opening)
        return AMI_OK;
    sm3_digest c = report_commitment(p->salt, p->m);
    if (!sm3_equal(&c, &m->commitment))
        return bad(x, AMI_BAD_PROOF, "the opened reading is not the one that meter %s committed to",
                   m->meter.text);
    return AMI_OK;
}

enum ami_status proof_check(const struct proof *p, const struct genesis *g, char *why,
                            size_t why_size)
{
    const struct parse x = {.why = why, .why_size = why_size};
    struct tx_view report, enrolment;
    AMI_TRY(check_place(&x, g, "report", &p->header, &p->commit, p->index, p->path, p->path_size,
                        p->tx, &report));
    AMI_TRY(check_place(&x, g, "enrolment", &p->enrol_header, &p->enrol_commit, p->enrol_index,
                        p->enrol_path, p->enrol_path_size, p->enrolment, &enrolment));
    return check_report(&x, p, g, &report, &enrolment);
}
