#include "ledger/proof.h"

#include "base/check.h"
#include "ledger/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROOF_FORMAT  "amiledger-proof"
#define PROOF_VERSION 1
/* Two transactions, a report, two certificates of 31 votes and two paths, in hex, take less; and so
 * does a change of members, whose transaction is small. */
#define FILE_BYTES_MAX ((128u << 10) + PROOF_CHANGES_MAX * (16u << 10))

#define HEADER_BYTES_MAX 320
#define QC_BYTES_MAX     (128 + AMI_MEMBERS_MAX * SM2_SIGNATURE_BYTES)

/* One transaction in its certified block. The same for the report and for the enrolment. */
struct place {
    struct block_header header;
    struct qc commit;
    uint32_t index;
    sm3_digest path[MERKLE_PATH_MAX];
    size_t path_size;
    struct span tx;
};

static struct place place_of_report(const struct proof *p)
{
    struct place x = {.header = p->header,
                      .commit = p->commit,
                      .index = p->index,
                      .path_size = p->path_size,
                      .tx = p->tx};
    memcpy(x.path, p->path, sizeof x.path);
    return x;
}

static struct place place_of_enrolment(const struct proof *p)
{
    struct place x = {.header = p->enrol_header,
                      .commit = p->enrol_commit,
                      .index = p->enrol_index,
                      .path_size = p->enrol_path_size,
                      .tx = p->enrolment};
    memcpy(x.path, p->enrol_path, sizeof x.path);
    return x;
}

static struct place place_of_change(const struct membership_proof *m)
{
    struct place x = {.header = m->header,
                      .commit = m->commit,
                      .index = m->index,
                      .path_size = m->path_count,
                      .tx = m->tx};
    memcpy(x.path, m->path, m->path_count * sizeof x.path[0]);
    return x;
}

/* --- printing ----------------------------------------------------------------------------------
 */

static json_t *path_out(const struct place *x)
{
    json_t *steps = json_array();
    for (size_t i = 0; i < x->path_size; i++)
        if (json_array_append_new(steps, json_out_hex(x->path[i].b, SM3_BYTES)) != 0) {
            json_decref(steps);
            return NULL;
        }
    return steps;
}

static json_t *place_out(const struct place *x)
{
    uint8_t header[HEADER_BYTES_MAX], cert[QC_BYTES_MAX];
    struct writer h = writer_on(header, sizeof header), c = writer_on(cert, sizeof cert);
    block_header_encode(&h, &x->header);
    qc_encode(&c, &x->commit);
    AMI_CHECK(writer_ok(&h) && writer_ok(&c));
    return json_pack("{s:o, s:o, s:I, s:o, s:o}", "header", json_out_hex(header, h.size),
                     "certificate", json_out_hex(cert, c.size), "index", (json_int_t)x->index,
                     "path", path_out(x), "transaction", json_out_hex(x->tx.data, x->tx.size));
}

static bool add_changes(json_t *o, const struct proof *p)
{
    json_t *list = json_array();
    bool ok = true;
    for (size_t i = 0; i < p->change_count && ok; i++) {
        struct place x = place_of_change(&p->changes[i]);
        ok = json_array_append_new(list, place_out(&x)) == 0;
    }
    return json_object_set_new(o, "membership", list) == 0 && ok;
}

char *proof_print(const struct proof *p)
{
    struct place report = place_of_report(p), enrolment = place_of_enrolment(p);
    json_t *o = json_pack("{s:s, s:i, s:o, s:o, s:o}", "format", PROOF_FORMAT, "version",
                          PROOF_VERSION, "chain", json_out_hex(p->header.chain.b, SM3_BYTES),
                          "report", place_out(&report), "enrolment", place_out(&enrolment));
    if (o != NULL && p->change_count > 0 && !add_changes(o, p)) {
        json_decref(o);
        return NULL;
    }
    if (o == NULL || !p->has_opening)
        return json_out_text(o);
    json_t *opening = json_pack("{s:o, s:o}", "salt", json_out_hex(p->salt, sizeof p->salt),
                                "report", json_out_hex(p->m.data, p->m.size));
    if (json_object_set_new(o, "opening", opening) != 0) {
        json_decref(o);
        return NULL;
    }
    return json_out_text(o);
}

/* --- parsing -----------------------------------------------------------------------------------
 */

/* A membership transaction is smaller than a report's. */
#define CHANGE_TX_BYTES_MAX 1024

/* What a parsed proof points to. */
struct hold {
    uint8_t report[AMI_TX_BYTES_MAX];
    uint8_t enrolment[AMI_TX_BYTES_MAX];
    uint8_t m[AMI_REPORT_BYTES_MAX];
    struct membership_proof change[PROOF_CHANGES_MAX];
    uint8_t change_tx[PROOF_CHANGES_MAX][CHANGE_TX_BYTES_MAX];
};

static void read_path(struct json_in *in, struct place *x, const json_t *steps, const char *where)
{
    x->path_size = json_array_size(steps);
    if (!json_is_array(steps) || x->path_size > MERKLE_PATH_MAX) {
        json_in_fail(in, AMI_BAD_ENCODING, "%s.path must be a list of at most %d digests", where,
                     MERKLE_PATH_MAX);
        x->path_size = 0;
    }
    for (size_t i = 0; i < x->path_size; i++) {
        const char *text = json_string_value(json_array_get(steps, i));
        if (text == NULL || hex_decode(x->path[i].b, SM3_BYTES, text) != AMI_OK)
            json_in_fail(in, AMI_BAD_ENCODING, "%s.path[%zu] must be %d hex digits", where, i,
                         2 * SM3_BYTES);
    }
}

static void read_place(struct json_in *in, struct place *x, const json_t *o, const char *where,
                       uint8_t *tx, size_t tx_max)
{
    static const char *const keys[] = {"header", "certificate", "index", "path", "transaction"};
    uint8_t header[HEADER_BYTES_MAX], cert[QC_BYTES_MAX];
    memset(x, 0, sizeof *x);
    json_in_keys(in, o, where, keys, 5, 5);
    size_t header_size = json_in_bytes(in, o, where, "header", header, sizeof header);
    size_t cert_size = json_in_bytes(in, o, where, "certificate", cert, sizeof cert);
    x->index = (uint32_t)json_in_integer(in, o, where, "index", 0, AMI_BLOCK_TXS_MAX - 1);
    read_path(in, x, json_object_get(o, "path"), where);
    x->tx = span_of(tx, json_in_bytes(in, o, where, "transaction", tx, tx_max));
    if (in->status != AMI_OK)
        return;
    if (block_header_parse(&x->header, span_of(header, header_size)) != AMI_OK)
        json_in_fail(in, AMI_BAD_ENCODING, "%s.header is no encoding of a block's header", where);
    if (qc_parse(&x->commit, span_of(cert, cert_size)) != AMI_OK)
        json_in_fail(in, AMI_BAD_ENCODING, "%s.certificate is no encoding of a certificate", where);
}

static void read_changes(struct json_in *in, struct proof *p, struct hold *hold, const json_t *o)
{
    p->changes = hold->change;
    p->change_count = json_array_size(o);
    if (!json_is_array(o) || p->change_count == 0 || p->change_count > PROOF_CHANGES_MAX) {
        json_in_fail(in, AMI_BAD_ENCODING, "membership must be a list of 1 to %d changes",
                     PROOF_CHANGES_MAX);
        p->change_count = 0;
    }
    for (size_t i = 0; i < p->change_count && in->status == AMI_OK; i++) {
        char where[40];
        struct place x;
        struct membership_proof *m = &hold->change[i];
        snprintf(where, sizeof where, "membership[%zu]", i);
        read_place(in, &x, json_array_get(o, i), where, hold->change_tx[i], CHANGE_TX_BYTES_MAX);
        if (x.path_size > sizeof m->path / sizeof m->path[0])
            json_in_fail(in, AMI_BAD_ENCODING, "%s.path is too long", where);
        if (in->status != AMI_OK)
            return;
        m->header = x.header;
        m->commit = x.commit;
        m->index = x.index;
        m->path_count = (uint16_t)x.path_size;
        memcpy(m->path, x.path, x.path_size * sizeof x.path[0]);
        m->tx = x.tx;
    }
}

static void read_proof(struct json_in *in, struct proof *p, struct hold *hold, const json_t *o)
{
    /* The two that may be absent come last. */
    static const char *const keys[] = {"format",    "version",    "chain",  "report",
                                       "enrolment", "membership", "opening"};
    static const char *const opening_keys[] = {"salt", "report"};
    struct place x;
    sm3_digest chain;
    json_in_keys(in, o, "", keys, 7, 5);
    json_in_format(in, o, "", PROOF_FORMAT, PROOF_VERSION);
    json_in_fixed(in, o, "", "chain", chain.b, sizeof chain.b);
    read_place(in, &x, json_object_get(o, "report"), "report", hold->report, sizeof hold->report);
    p->header = x.header;
    p->commit = x.commit;
    p->index = x.index;
    p->path_size = x.path_size;
    memcpy(p->path, x.path, sizeof p->path);
    p->tx = x.tx;
    read_place(in, &x, json_object_get(o, "enrolment"), "enrolment", hold->enrolment,
               sizeof hold->enrolment);
    p->enrol_header = x.header;
    p->enrol_commit = x.commit;
    p->enrol_index = x.index;
    p->enrol_path_size = x.path_size;
    memcpy(p->enrol_path, x.path, sizeof p->enrol_path);
    p->enrolment = x.tx;
    if (in->status == AMI_OK && !sm3_equal(&chain, &p->header.chain))
        json_in_fail(in, AMI_BAD_ENCODING,
                     "the proof names another chain than the header of its report's block");
    const json_t *changes = json_object_get(o, "membership");
    if (changes != NULL)
        read_changes(in, p, hold, changes);
    const json_t *opening = json_object_get(o, "opening");
    if (opening == NULL)
        return;
    json_in_keys(in, opening, "opening", opening_keys, 2, 2);
    json_in_fixed(in, opening, "opening", "salt", p->salt, sizeof p->salt);
    p->m = span_of(hold->m,
                   json_in_bytes(in, opening, "opening", "report", hold->m, AMI_REPORT_BYTES_MAX));
    p->has_opening = true;
}

enum ami_status proof_parse(struct proof *p, void **hold, struct span json, char *why,
                            size_t why_size)
{
    struct json_in in = {AMI_OK, why, why_size};
    memset(p, 0, sizeof *p);
    *hold = NULL;
    json_t *o = json_in_load(&in, json, FILE_BYTES_MAX);
    if (o == NULL)
        return in.status;
    struct hold *bytes = calloc(1, sizeof *bytes);
    if (bytes == NULL)
        json_in_fail(&in, AMI_NO_MEMORY, "out of memory");
    else
        read_proof(&in, p, bytes, o);
    json_decref(o);
    if (in.status == AMI_OK) {
        char *again = proof_print(p);
        json_in_canonical(&in, json, again);
        free(again);
    }
    if (in.status != AMI_OK) {
        free(bytes);
        return in.status;
    }
    *hold = bytes;
    return AMI_OK;
}

/* --- checking ----------------------------------------------------------------------------------
 */

/* Header, certificate and inclusion of one transaction; decodes it. */
static void check_place(struct json_in *in, const struct committee *c, const char *what,
                        const struct place *x, struct tx_view *tx)
{
    const struct block_header *h = &x->header;
    if (h->version != 1)
        json_in_fail(in, AMI_BAD_VERSION, "the %s's block has version %d, expected is 1", what,
                     h->version);
    if (!sm3_equal(&h->chain, &c->members.chain))
        json_in_fail(in, AMI_WRONG_CHAIN,
                     "the %s's block belongs to another chain than the genesis file", what);
    if (h->epoch != c->members.epoch || !sm3_equal(&h->members, &c->members.hash) ||
        h->height < c->from)
        json_in_fail(in, AMI_WRONG_EPOCH,
                     "the %s's block names other members than the genesis file and the changes "
                     "that the proof shows",
                     what);
    sm3_digest hash = block_hash(h);
    if (x->commit.kind != VOTE_COMMIT || x->commit.height != h->height ||
        x->commit.term < h->term || !sm3_equal(&x->commit.block, &hash))
        json_in_fail(in, AMI_BAD_CERTIFICATE,
                     "the certificate is not one for the %s's block: one of the two was altered",
                     what);
    if (in->status == AMI_OK && qc_check(&c->members, &x->commit) != AMI_OK)
        json_in_fail(in, AMI_BAD_CERTIFICATE,
                     "the certificate of the %s's block does not hold the %u valid votes that it "
                     "takes",
                     what, members_quorum(c->members.count));
    if (in->status != AMI_OK)
        return;
    if (tx_view_parse_kept(tx, x->tx) != AMI_OK) {
        json_in_fail(in, AMI_BAD_ENCODING, "the %s's transaction is malformed", what);
        return;
    }
    sm3_digest leaf = tx_leaf(&tx->id);
    if (merkle_check(&h->merkle_root, &leaf, x->index, h->tx_count, x->path, x->path_size) !=
        AMI_OK)
        json_in_fail(in, AMI_BAD_PROOF,
                     "the %s's transaction is not in its block: the path does not lead to the "
                     "Merkle root",
                     what);
}

static void check_enrolment(struct json_in *in, const struct genesis *g, const struct tx_view *tx,
                            const struct report_meter_part *m)
{
    if (tx->tx.kind != TX_METER_ENROL) {
        json_in_fail(in, AMI_BAD_PROOF, "the enrolment's transaction is no meter enrolment");
        return;
    }
    const struct meter_enrol *e = &tx->u.meter_enrol;
    if (!ami_id_equal(&e->meter, &m->meter) || e->epoch != m->epoch)
        json_in_fail(in, AMI_BAD_PROOF,
                     "the report is of meter %s, key epoch %u, the enrolment of %s, key epoch %u",
                     m->meter.text, m->epoch, e->meter.text, e->epoch);
    else if (mdms_tx_check(&g->network, &g->members.chain, TX_METER_ENROL, tx->tx.first,
                           &tx->mdms.signature) != AMI_OK)
        json_in_fail(in, AMI_BAD_SIGNATURE, "the enrolment of meter %s is not signed by the MDMS",
                     e->meter.text);
}

/* `dc`: the gateway's key; NULL: it was no member up to that block. */
static void check_signatures(struct json_in *in, const struct genesis *g,
                             const struct tx_view *report, const struct tx_view *enrolment,
                             const struct verify_key *dc)
{
    const struct meter_enrol *e = &enrolment->u.meter_enrol;
    const struct report_meter_part *m = &report->u.report.meter;
    const struct report_gateway_part *d = &report->u.report.gateway;
    const sm3_digest *chain = &g->members.chain;
    struct verify_key key;
    if (verify_key_init(&key, &g->network, ROLE_METER_REPORT, &e->meter, e->epoch, &e->w_report) !=
            AMI_OK ||
        report_meter_check(m, chain, &key) != AMI_OK)
        json_in_fail(in, AMI_BAD_SIGNATURE, "the report is not signed by meter %s", m->meter.text);
    if (report->pruned)
        return; /* the quorum that certified the block has checked its gateway's */
    if (dc == NULL)
        json_in_fail(in, AMI_UNKNOWN_DEVICE,
                     "the gateway %s, key epoch %u, is no member in the genesis file, nor in the "
                     "changes that the proof shows",
                     d->dc.text, d->dc_epoch);
    else if (report_gateway_check(d, m, chain, dc) != AMI_OK)
        json_in_fail(in, AMI_BAD_SIGNATURE, "the transaction is not signed by its gateway %s",
                     d->dc.text);
}

/* The walk from one epoch to the next. */
struct walk {
    struct committee committee;
    bool has_gateway;
    struct verify_key gateway;
};

static void look_for_gateway(struct walk *w, const struct report_gateway_part *d)
{
    const struct members *m = &w->committee.members;
    uint8_t at = members_find(m, &d->dc);
    if (w->has_gateway || at >= m->count || m->member[at].key_epoch != d->dc_epoch)
        return;
    w->gateway = m->member[at].key;
    w->has_gateway = true;
}

/* Both transactions, each in the epoch of its block; the genesis file's comes first. */
static void check_places(struct json_in *in, const struct proof *p, const struct genesis *g,
                         struct walk *w, struct tx_view *report, struct tx_view *enrolment)
{
    const struct place at_report = place_of_report(p), at_enrolment = place_of_enrolment(p);
    struct tx_view peek;
    /* Whose gateway is looked for; the place itself is checked in its turn. */
    const bool known = tx_view_parse(&peek, p->tx) == AMI_OK && peek.tx.kind == TX_REPORT;
    bool enrolled = false;
    if (p->header.epoch != p->change_count + 1 && p->header.epoch >= 1 &&
        p->header.epoch <= PROOF_CHANGES_MAX + 1)
        json_in_fail(in, AMI_WRONG_EPOCH,
                     "the report's block is of membership epoch %u, the proof shows %zu changes",
                     (unsigned)p->header.epoch, p->change_count);
    committee_first(&w->committee, g);
    for (size_t i = 0; in->status == AMI_OK; i++) {
        if (known)
            look_for_gateway(w, &peek.u.report.gateway);
        if (p->enrol_header.epoch == i + 1 || (i == p->change_count && !enrolled)) {
            check_place(in, &w->committee, "enrolment", &at_enrolment, enrolment);
            enrolled = true;
        }
        if (i == p->change_count)
            break;
        enum ami_status status = committee_advance(&w->committee, &g->network, &p->changes[i]);
        if (status != AMI_OK)
            json_in_fail(in, status, "the change of members to epoch %zu does not hold: %s", i + 2,
                         ami_status_text(status));
    }
    if (in->status == AMI_OK)
        check_place(in, &w->committee, "report", &at_report, report);
}

enum ami_status proof_check(const struct proof *p, const struct genesis *g, char *why,
                            size_t why_size)
{
    struct json_in in = {AMI_OK, why, why_size};
    struct tx_view report, enrolment;
    struct walk *w = calloc(1, sizeof *w);
    if (w == NULL) {
        json_in_fail(&in, AMI_NO_MEMORY, "out of memory");
        return in.status;
    }
    check_places(&in, p, g, w, &report, &enrolment);
    if (in.status == AMI_OK && report.tx.kind != TX_REPORT)
        json_in_fail(&in, AMI_BAD_PROOF, "the report's transaction is no report");
    if (in.status == AMI_OK && p->enrol_header.height > p->header.height)
        json_in_fail(&in, AMI_BAD_PROOF, "the meter was enrolled after its report");
    if (in.status == AMI_OK)
        check_enrolment(&in, g, &enrolment, &report.u.report.meter);
    if (in.status == AMI_OK)
        check_signatures(&in, g, &report, &enrolment, w->has_gateway ? &w->gateway : NULL);
    free(w);
    if (in.status != AMI_OK || !p->has_opening)
        return in.status;
    sm3_digest c = report_commitment(p->salt, p->m);
    if (!sm3_equal(&c, &report.u.report.meter.commitment))
        json_in_fail(&in, AMI_BAD_PROOF, "the opened reading is not the one that meter %s signed",
                     report.u.report.meter.meter.text);
    return in.status;
}

enum ami_status proof_complete(char **text, struct span given, const struct genesis *g,
                               const uint8_t salt[16], struct span m, char *why, size_t why_size)
{
    void *hold = NULL;
    struct proof *p = calloc(1, sizeof *p);
    enum ami_status status = AMI_NO_MEMORY;
    *text = NULL;
    snprintf(why, why_size, "out of memory");
    if (p != NULL)
        status = proof_parse(p, &hold, given, why, why_size);
    if (status == AMI_OK) {
        p->has_opening = true;
        memcpy(p->salt, salt, sizeof p->salt);
        p->m = m;
        status = proof_check(p, g, why, why_size);
    }
    if (status == AMI_OK && (*text = proof_print(p)) == NULL)
        status = AMI_NO_MEMORY;
    free(hold);
    free(p);
    return status;
}

enum ami_status proof_is_of(const char *text, const struct ami_id *meter, uint32_t epoch,
                            uint64_t sequence, char *why, size_t why_size)
{
    void *hold = NULL;
    struct tx_view tx;
    struct proof *p = calloc(1, sizeof *p);
    if (p == NULL) {
        snprintf(why, why_size, "out of memory");
        return AMI_NO_MEMORY;
    }
    enum ami_status status = proof_parse(p, &hold, span_of(text, strlen(text)), why, why_size);
    if (status == AMI_OK) {
        const struct report_meter_part *m = &tx.u.report.meter;
        if (tx_view_parse_kept(&tx, p->tx) != AMI_OK || tx.tx.kind != TX_REPORT ||
            !ami_id_equal(&m->meter, meter) || m->epoch != epoch || m->sequence != sequence) {
            snprintf(why, why_size, "it is of another report than report %llu of meter %s",
                     (unsigned long long)sequence, meter->text);
            status = AMI_BAD_PROOF;
        }
    }
    free(hold);
    free(p);
    return status;
}
