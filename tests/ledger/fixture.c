#include "tests/ledger/fixture.h"

#include "base/check.h"
#include "crypto/secret.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CREATED_MS INT64_C(1700000000000)
#define OK(expr)   AMI_CHECK((expr) == AMI_OK)

uint64_t fixture_u64(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

void fixture_bytes(uint64_t *state, void *out, size_t size)
{
    uint8_t *b = out;
    for (size_t i = 0; i < size; i++)
        b[i] = (uint8_t)fixture_u64(state);
}

void fixture_random(struct fixture *f, uint8_t out[SM2_WIDE_BYTES])
{
    fixture_bytes(&f->rng, out, SM2_WIDE_BYTES);
}

static scalar random_scalar(struct fixture *f)
{
    uint8_t wide[SM2_WIDE_BYTES];
    fixture_random(f, wide);
    return scalar_from_wide(wide);
}

struct ami_id fixture_id(const char *format, ...)
{
    char text[64];
    struct ami_id id;
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    OK(ami_id_from_text(&id, text));
    return id;
}

/* --- keys --------------------------------------------------------------------------------------
 */

struct fixture_device fixture_device(struct fixture *f, enum key_role role, struct ami_id name,
                                     uint32_t epoch)
{
    struct fixture_device d = {.name = name, .epoch = epoch, .sequence = 1};
    const struct network *net = &f->genesis.network;
    sm3_digest h_a = key_h_a(net, role, &name, epoch);
    scalar own = random_scalar(f), blinding = random_scalar(f), t;
    point u = point_mul_base(&own), w;
    sm2_implicit_issue(&w, &t, &blinding, &f->p_pub.d, &u, &h_a);
    OK(sm2_implicit_accept(&d.key.private_key, &t, &own, &w, &h_a, &net->p_pub));
    d.w = point_encode(&w);
    OK(verify_key_init(&d.key.public_key, net, role, &name, epoch, &d.w));
    fixture_bytes(&f->rng, d.agree_part, sizeof d.agree_part);
    return d;
}

struct fixture_device fixture_meter(struct fixture *f, unsigned number)
{
    return fixture_device(f, ROLE_METER_REPORT, fixture_id("m-%u", number), 1);
}

static void make_network(struct fixture *f)
{
    struct network *net = &f->genesis.network;
    sm2_private *const keys[] = {&f->p_pub, &f->sign, &f->enrol, &f->readings};
    point *const points[] = {&net->p_pub, &net->sign, &net->enrol, &net->readings};
    for (size_t i = 0; i < 4; i++) {
        scalar d = random_scalar(f);
        OK(sm2_private_init(keys[i], &d));
        *points[i] = keys[i]->p;
    }
    net->name = fixture_id("fixture");
    net->scheme = 2;
    network_finish(net);
}

static void make_member(struct fixture *f, unsigned i)
{
    f->dc[i] = fixture_device(f, ROLE_DC_SIGN, fixture_id("dc-%u", i + 1), 1);
    struct member *m = &f->genesis.members.member[i];
    struct member_address *a = &f->genesis.address[i];
    m->name = f->dc[i].name;
    m->key_epoch = 1;
    m->w_sign = f->dc[i].w;
    m->agree_part_size = sizeof f->dc[i].agree_part;
    memcpy(m->agree_part, f->dc[i].agree_part, m->agree_part_size);
    snprintf(a->peer, sizeof a->peer, "tcp://127.0.0.1:%u", 7001 + 10 * i);
    snprintf(a->meter, sizeof a->meter, "tcp://127.0.0.1:%u", 7002 + 10 * i);
    snprintf(a->admin, sizeof a->admin, "tcp://127.0.0.1:%u", 7003 + 10 * i);
}

struct fixture *fixture_new(unsigned n, uint64_t seed)
{
    char why[256] = "";
    struct fixture *f = calloc(1, sizeof *f);
    AMI_CHECK(f != NULL && n >= 1 && n <= AMI_MEMBERS_MAX);
    OK(crypto_start());
    f->rng = seed;
    make_network(f);
    for (unsigned i = 0; i < n; i++)
        make_member(f, i);
    f->genesis.parameters = parameters_default();
    f->genesis.created_ms = CREATED_MS;
    f->genesis.members.epoch = 1;
    f->genesis.members.count = (uint8_t)n;
    /* Through the file, as everybody gets it. */
    f->genesis_text = genesis_print(&f->genesis);
    AMI_CHECK(f->genesis_text != NULL);
    struct span text = span_of(f->genesis_text, strlen(f->genesis_text));
    enum ami_status status = genesis_parse(&f->genesis, text, true, why, sizeof why);
    if (status != AMI_OK)
        fprintf(stderr, "fixture: %s: %s\n", ami_status_name(status), why);
    AMI_CHECK(status == AMI_OK);
    f->registry = registry_new(&f->genesis);
    AMI_CHECK(f->registry != NULL);
    f->tip = (struct block_parent){0, f->genesis.members.chain, f->genesis.created_ms};
    return f;
}

void fixture_free(struct fixture *f)
{
    if (f == NULL)
        return;
    registry_free(f->registry);
    free(f->genesis_text);
    free(f);
}

/* --- transactions ------------------------------------------------------------------------------
 */

struct fixture_body *fixture_body(void)
{
    struct fixture_body *b = malloc(sizeof *b);
    AMI_CHECK(b != NULL);
    fixture_clear(b);
    return b;
}

void fixture_clear(struct fixture_body *b)
{
    b->w = writer_on(b->bytes, sizeof b->bytes);
    b->count = 0;
    b->at = 0;
}

struct span fixture_span(const struct fixture_body *b)
{
    return writer_span(&b->w);
}

struct span fixture_last(const struct fixture_body *b)
{
    AMI_CHECK(b->count > 0);
    return span_of(b->bytes + b->at, b->w.size - b->at);
}

void fixture_append(struct fixture_body *b, struct span encoded_tx)
{
    b->at = b->w.size + 4;
    body_append(&b->w, encoded_tx);
    AMI_CHECK(writer_ok(&b->w));
    b->count++;
}

static void append_mdms(struct fixture *f, struct fixture_body *b, uint8_t kind, struct span first)
{
    uint8_t wide[SM2_WIDE_BYTES], bytes[AMI_TX_BYTES_MAX];
    fixture_random(f, wide);
    sm2_signature sig =
        mdms_tx_sign(&f->genesis.network, &f->sign, &f->genesis.members.chain, kind, first, wide);
    struct writer w = writer_on(bytes, sizeof bytes);
    mdms_tx_encode(&w, kind, first, &sig);
    AMI_CHECK(writer_ok(&w));
    fixture_append(b, writer_span(&w));
}

void fixture_meter_enrol(struct fixture *f, struct fixture_body *b, const struct fixture_device *m,
                         const struct ami_id *home_dc)
{
    uint8_t bytes[512];
    struct writer w = writer_on(bytes, sizeof bytes);
    struct meter_enrol e = {.number = ++f->mdms_number,
                            .meter = m->name,
                            .epoch = m->epoch,
                            .home_dc = *home_dc,
                            .w_report = m->w,
                            .agree_part = span_of(m->agree_part, sizeof m->agree_part)};
    meter_enrol_encode(&w, &e);
    append_mdms(f, b, TX_METER_ENROL, writer_span(&w));
}

void fixture_dc_enrol(struct fixture *f, struct fixture_body *b, const struct fixture_device *d)
{
    uint8_t bytes[512];
    struct writer w = writer_on(bytes, sizeof bytes);
    struct dc_enrol e = {.number = ++f->mdms_number,
                         .dc = d->name,
                         .epoch = d->epoch,
                         .w_sign = d->w,
                         .agree_part = span_of(d->agree_part, sizeof d->agree_part)};
    dc_enrol_encode(&w, &e);
    append_mdms(f, b, TX_DC_ENROL, writer_span(&w));
    if (f->later_count < sizeof f->later / sizeof f->later[0])
        f->later[f->later_count++] = *d;
}

void fixture_membership(struct fixture *f, struct fixture_body *b, enum member_change change,
                        const struct fixture_device *d, uint32_t delay)
{
    uint8_t bytes[1024];
    char address[3][AMI_ADDRESS_BYTES_MAX + 1];
    struct writer w = writer_on(bytes, sizeof bytes);
    for (unsigned i = 0; i < 3; i++)
        snprintf(address[i], sizeof address[i], "tcp://127.0.0.1:%u", 7501 + 10 * d->epoch + i);
    struct membership m = {.number = ++f->mdms_number,
                           .epoch =
                               f->membership_epoch != 0
                                   ? ++f->membership_epoch
                                   : registry_members(f->registry, f->tip.height + 1)->epoch + 1,
                           .change = (uint8_t)change,
                           .dc = d->name,
                           .key_epoch = d->epoch,
                           .delay = delay,
                           .has_entry = change != MEMBER_LEAVE,
                           .entry = {.w_sign = d->w,
                                     .agree_part = span_of(d->agree_part, sizeof d->agree_part),
                                     .peer = span_of(address[0], strlen(address[0])),
                                     .meter = span_of(address[1], strlen(address[1])),
                                     .admin = span_of(address[2], strlen(address[2]))}};
    membership_encode(&w, &m);
    append_mdms(f, b, TX_MEMBERSHIP, writer_span(&w));
}

void fixture_revoke(struct fixture *f, struct fixture_body *b, uint8_t role,
                    const struct ami_id *device, uint32_t epoch)
{
    uint8_t bytes[128];
    struct writer w = writer_on(bytes, sizeof bytes);
    struct revoke r = {
        .number = ++f->mdms_number, .role = role, .device = *device, .epoch = epoch, .reason = 1};
    revoke_encode(&w, &r);
    append_mdms(f, b, TX_REVOKE, writer_span(&w));
}

void fixture_retention(struct fixture *f, struct fixture_body *b, uint64_t below)
{
    uint8_t bytes[64];
    struct writer w = writer_on(bytes, sizeof bytes);
    struct retention r = {.number = ++f->mdms_number, .below = below};
    retention_encode(&w, &r);
    append_mdms(f, b, TX_RETENTION, writer_span(&w));
}

void fixture_skip(struct fixture *f, struct fixture_body *b, const struct fixture_device *m,
                  uint64_t below)
{
    uint8_t wide[SM2_WIDE_BYTES], first[256], bytes[512];
    struct skip_meter_part s = {.meter = m->name, .epoch = m->epoch, .below = below};
    fixture_random(f, wide);
    skip_sign(&s, &f->genesis.members.chain, &m->key, wide);
    struct writer w = writer_on(first, sizeof first);
    skip_meter_part_encode(&w, &s);
    struct tx t = {.kind = TX_SKIP, .first = writer_span(&w)};
    w = writer_on(bytes, sizeof bytes);
    tx_encode(&w, &t);
    AMI_CHECK(writer_ok(&w));
    fixture_append(b, writer_span(&w));
}

void fixture_opening(uint8_t salt[16], uint8_t *m, size_t m_size, const struct fixture_device *d,
                     uint64_t sequence)
{
    uint64_t state = sequence * 1000003 + d->epoch;
    for (uint8_t i = 0; i < d->name.size; i++)
        state = state * 131 + (uint8_t)d->name.text[i];
    fixture_bytes(&state, salt, 16);
    fixture_bytes(&state, m, m_size);
}

void fixture_report(struct fixture *f, struct fixture_body *b, struct fixture_device *m,
                    const struct fixture_device *gateway, size_t m_size)
{
    uint8_t wide[SM2_WIDE_BYTES], plain[16 + AMI_REPORT_BYTES_MAX];
    uint8_t sealed[AMI_SEALED_BYTES_MAX], bytes[AMI_TX_BYTES_MAX];
    const sm3_digest *chain = &f->genesis.members.chain;
    AMI_CHECK(m_size <= AMI_REPORT_BYTES_MAX);
    fixture_opening(plain, plain + 16, m_size, m, m->sequence);
    struct report_meter_part part = {.meter = m->name,
                                     .epoch = m->epoch,
                                     .sequence = m->sequence++,
                                     .commitment =
                                         report_commitment(plain, span_of(plain + 16, m_size))};
    fixture_random(f, wide);
    report_meter_sign(&part, chain, &m->key, wide);
    struct seal_batch batch;
    fixture_random(f, wide);
    OK(seal_batch_begin(&batch, &f->genesis.network.readings, wide));
    seal_report(sealed, &batch, chain, &gateway->name, &part.meter, part.epoch, part.sequence,
                span_of(plain, 16 + m_size));
    struct report_gateway_part g = {.c1 = batch.c1,
                                    .sealed = span_of(sealed, 16 + m_size + 16),
                                    .timestamp_ms = f->tip.timestamp_ms,
                                    .dc = gateway->name,
                                    .dc_epoch = gateway->epoch};
    fixture_random(f, wide);
    report_gateway_sign(&g, &part, chain, &gateway->key, wide);
    struct writer w = writer_on(bytes, sizeof bytes);
    report_tx_encode(&w, &part, &g);
    AMI_CHECK(writer_ok(&w));
    fixture_append(b, writer_span(&w));
}

/* --- blocks ------------------------------------------------------------------------------------
 */

static const struct members *voters_at(const struct fixture *f, uint64_t height)
{
    const struct members *m = registry_members(f->registry, height);
    AMI_CHECK(m != NULL);
    return m;
}

uint32_t fixture_quorum(const struct fixture *f)
{
    uint8_t count = voters_at(f, f->tip.height + 1)->count;
    return (uint32_t)((UINT64_C(1) << members_quorum(count)) - 1);
}

const struct fixture_device *fixture_voter(const struct fixture *f, const struct member *m)
{
    const struct fixture_device *const all[] = {f->dc, f->later};
    const unsigned count[] = {f->genesis.members.count, f->later_count};
    for (unsigned k = 0; k < 2; k++)
        for (unsigned i = 0; i < count[k]; i++)
            if (ami_id_equal(&all[k][i].name, &m->name) && all[k][i].epoch == m->key_epoch)
                return &all[k][i];
    AMI_CHECK(false);
    return NULL;
}

struct qc fixture_qc(struct fixture *f, enum vote_kind kind, uint64_t term, uint64_t height,
                     const sm3_digest *block, uint32_t signers)
{
    const struct members *m = voters_at(f, height);
    struct qc c = {.kind = (uint8_t)kind,
                   .chain = m->chain,
                   .epoch = m->epoch,
                   .term = term,
                   .height = height,
                   .block = *block,
                   .signers = signers};
    for (uint8_t i = 0; i < m->count; i++) {
        if ((signers >> i & 1) == 0)
            continue;
        struct vote v = {c.kind, c.chain, c.epoch, term, height, *block, i, {{0}}};
        uint8_t wide[SM2_WIDE_BYTES];
        fixture_random(f, wide);
        vote_sign(&v, &fixture_voter(f, &m->member[i])->key, wide);
        c.signatures[c.signatures_count++] = v.signature;
    }
    return c;
}

/* Statements are those of the epoch that the next block belongs to. */
static const struct members *next_voters(struct fixture *f)
{
    return voters_at(f, f->tip.height + 1);
}

static const struct sign_key *next_key(struct fixture *f, uint8_t member)
{
    return &fixture_voter(f, &next_voters(f)->member[member])->key;
}

struct vote fixture_vote(struct fixture *f, enum vote_kind kind, uint64_t term, uint64_t height,
                         const sm3_digest *block, uint8_t voter)
{
    struct vote v = {.kind = (uint8_t)kind,
                     .chain = f->genesis.members.chain,
                     .epoch = next_voters(f)->epoch,
                     .term = term,
                     .height = height,
                     .block = *block,
                     .voter = voter};
    uint8_t wide[SM2_WIDE_BYTES];
    fixture_random(f, wide);
    vote_sign(&v, next_key(f, voter), wide);
    return v;
}

static sm2_signature sign_tail(struct fixture *f, uint8_t member, const char *label,
                               const struct writer *w)
{
    uint8_t wide[SM2_WIDE_BYTES];
    fixture_random(f, wide);
    AMI_CHECK(writer_ok(w));
    const struct span part = signed_part(writer_span(w));
    return sign_key_sign(next_key(f, member), label, &part, 1, wide);
}

void fixture_grant(struct fixture *f, struct grant *out, uint64_t term, uint8_t candidate,
                   uint8_t voter, const struct qc *high)
{
    uint8_t bytes[AMI_STATEMENT_BYTES_MAX];
    struct writer w = writer_on(bytes, sizeof bytes);
    memset(out, 0, sizeof *out);
    out->chain = f->genesis.members.chain;
    out->epoch = next_voters(f)->epoch;
    out->term = term;
    out->candidate = candidate;
    out->voter = voter;
    if ((out->has_high = high != NULL))
        out->high = *high;
    grant_encode(&w, out);
    out->signature = sign_tail(f, voter, LABEL_GRANT, &w);
}

void fixture_head(struct fixture *f, struct proposal_head *out, uint64_t term, uint8_t leader,
                  const struct block_header *h, const sm3_digest *rest)
{
    uint8_t bytes[AMI_STATEMENT_BYTES_MAX];
    struct writer w = writer_on(bytes, sizeof bytes);
    *out = (struct proposal_head){.term = term, .leader = leader, .header = *h, .rest = *rest};
    proposal_head_encode(&w, out);
    out->signature = sign_tail(f, leader, LABEL_PROPOSAL, &w);
}

struct block_header fixture_header(struct fixture *f, uint64_t term, uint64_t height,
                                   uint8_t proposer, uint64_t salt)
{
    struct block_header h = {.version = 1,
                             .chain = f->genesis.members.chain,
                             .epoch = next_voters(f)->epoch,
                             .members = next_voters(f)->hash,
                             .height = height,
                             .term = term,
                             .proposer = proposer};
    store_be64(h.merkle_root.b, salt);
    return h;
}

void fixture_evidence_votes(struct fixture_evidence *out, struct fixture *f, const struct vote *a,
                            const struct vote *b)
{
    struct writer first = writer_on(out->first, sizeof out->first);
    struct writer second = writer_on(out->second, sizeof out->second);
    vote_encode(&first, a);
    vote_encode(&second, b);
    out->e = (struct evidence){.chain = f->genesis.members.chain,
                               .epoch = next_voters(f)->epoch,
                               .accused = a->voter,
                               .kind = EVIDENCE_VOTES,
                               .first = writer_span(&first),
                               .second = writer_span(&second)};
}

void fixture_evidence(struct fixture_evidence *out, struct fixture *f, uint8_t accused,
                      uint8_t kind)
{
    struct writer first = writer_on(out->first, sizeof out->first);
    struct writer second = writer_on(out->second, sizeof out->second);
    const sm3_digest x = sm3(SPAN_LITERAL("x")), y = sm3(SPAN_LITERAL("y"));
    const struct qc low = fixture_qc(f, VOTE_PREPARE, 4, 6, &x, fixture_quorum(f));
    const struct qc own = fixture_qc(f, VOTE_PREPARE, 8, 6, &x, fixture_quorum(f));
    const uint8_t other = (uint8_t)((accused + 1) % next_voters(f)->count);
    struct block_header h[3] = {fixture_header(f, 5, 7, accused, 1),
                                fixture_header(f, 5, 7, accused, 2),
                                fixture_header(f, 5, 7, other, 3)};
    struct vote v[2] = {fixture_vote(f, VOTE_COMMIT, 5, 7, &x, accused),
                        fixture_vote(f, VOTE_COMMIT, 5, 7, &y, accused)};
    struct proposal_head head[3];
    static struct grant g[3];
    for (unsigned i = 0; i < 3; i++)
        fixture_head(f, &head[i], 5, accused, &h[i], &x);
    fixture_grant(f, &g[0], 8, accused, accused, &low);
    fixture_grant(f, &g[1], 8, other, accused, &low);
    fixture_grant(f, &g[2], 8, accused, accused, &own);
    if (kind == EVIDENCE_VOTES || kind == EVIDENCE_HIDDEN)
        vote_encode(&first, &v[0]);
    if (kind == EVIDENCE_VOTES)
        vote_encode(&second, &v[1]);
    if (kind == EVIDENCE_PROPOSALS || kind == EVIDENCE_PROPOSAL)
        proposal_head_encode(&first, &head[kind == EVIDENCE_PROPOSAL ? 2 : 0]);
    if (kind == EVIDENCE_PROPOSALS)
        proposal_head_encode(&second, &head[1]);
    if (kind == EVIDENCE_GRANTS || kind == EVIDENCE_GRANT)
        grant_encode(&first, &g[kind == EVIDENCE_GRANT ? 2 : 0]);
    if (kind == EVIDENCE_GRANTS || kind == EVIDENCE_HIDDEN)
        grant_encode(&second, &g[kind == EVIDENCE_GRANTS ? 1 : 0]);
    AMI_CHECK(writer_ok(&first) && writer_ok(&second));
    out->e = (struct evidence){.chain = f->genesis.members.chain,
                               .epoch = next_voters(f)->epoch,
                               .accused = accused,
                               .kind = kind,
                               .first = writer_span(&first),
                               .second = writer_span(&second)};
}

void fixture_evidence_tx(struct fixture_body *b, const struct evidence *e)
{
    uint8_t bytes[AMI_TX_BYTES_MAX];
    struct writer w = writer_on(bytes, sizeof bytes);
    evidence_tx_encode(&w, e);
    AMI_CHECK(writer_ok(&w));
    fixture_append(b, writer_span(&w));
}

struct fixture_block *fixture_commit(struct fixture *f, const struct fixture_body *b, uint64_t term)
{
    struct fixture_block *out = calloc(1, sizeof *out);
    uint8_t *body = malloc(b->w.size + 1);
    AMI_CHECK(out != NULL && body != NULL);
    memcpy(body, b->bytes, b->w.size);
    out->body = span_of(body, b->w.size);
    struct body_reader it = body_reader_on(out->body);
    struct span encoded;
    const uint32_t quorum = fixture_quorum(f);
    const uint8_t count = voters_at(f, f->tip.height + 1)->count;
    registry_stage_begin(f->registry, f->tip.height + 1);
    while (body_next(&it, &encoded)) {
        struct tx_view tx;
        OK(tx_view_parse(&tx, encoded));
        OK(registry_stage_tx(f->registry, &tx));
    }
    OK(block_build(&out->header, f->registry, &f->tip, term, (uint8_t)(term % count),
                   f->tip.timestamp_ms + 1000, out->body));
    registry_stage_commit(f->registry);
    out->hash = block_hash(&out->header);
    out->commit = fixture_qc(f, VOTE_COMMIT, term, out->header.height, &out->hash, quorum);
    f->tip = (struct block_parent){out->header.height, out->hash, out->header.timestamp_ms};
    return out;
}

void fixture_block_free(struct fixture_block *b)
{
    if (b == NULL)
        return;
    free((void *)(uintptr_t)b->body.data);
    free(b);
}

/* Encoding of the transaction and its path. */
static struct span place(const struct fixture_block *b, uint32_t index, sm3_digest *path,
                         size_t *path_size)
{
    sm3_digest *leaves = calloc(b->header.tx_count, sizeof *leaves);
    struct body_reader it = body_reader_on(b->body);
    struct span encoded, found = {0};
    AMI_CHECK(leaves != NULL && index < b->header.tx_count);
    for (uint32_t i = 0; body_next(&it, &encoded); i++) {
        struct tx_view tx;
        OK(tx_view_parse_kept(&tx, encoded));
        leaves[i] = tx_leaf(&tx.id);
        if (i == index)
            found = encoded;
    }
    *path_size = merkle_path(path, leaves, b->header.tx_count, index);
    free(leaves);
    return found;
}

struct membership_proof fixture_membership_proof(const struct fixture_block *b, uint32_t index)
{
    struct membership_proof p = {.header = b->header, .commit = b->commit, .index = index};
    sm3_digest path[MERKLE_PATH_MAX];
    size_t size = 0;
    p.tx = place(b, index, path, &size);
    AMI_CHECK(size <= sizeof p.path / sizeof p.path[0]);
    memcpy(p.path, path, size * sizeof path[0]);
    p.path_count = (uint16_t)size;
    return p;
}

struct proof fixture_proof(const struct fixture_block *report, uint32_t report_index,
                           const struct fixture_block *enrol, uint32_t enrol_index)
{
    struct proof p = {.header = report->header,
                      .commit = report->commit,
                      .index = report_index,
                      .enrol_header = enrol->header,
                      .enrol_commit = enrol->commit,
                      .enrol_index = enrol_index};
    p.tx = place(report, report_index, p.path, &p.path_size);
    p.enrolment = place(enrol, enrol_index, p.enrol_path, &p.enrol_path_size);
    return p;
}
