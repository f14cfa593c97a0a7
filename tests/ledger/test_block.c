/* Blocks: a good one passes, and whatever a data concentrator may try (line 6 of "What it must
 * show": invent a report, change one, use a number twice, move one meter's data to another meter)
 * is refused by the others, with the transaction named. */
#include "tests/harness.h"

#include "ledger/internal.h"
#include "tests/ledger/fixture.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static struct fixture *f;
static struct fixture_body *body;
static struct fixture_device a, b;

/* Height 1: meters a and b. */
static int start(void **state)
{
    (void)state;
    f = fixture_new(4, 41);
    body = fixture_body();
    a = fixture_meter(f, 1);
    b = fixture_meter(f, 2);
    fixture_meter_enrol(f, body, &a, &f->dc[0].name);
    fixture_meter_enrol(f, body, &b, &f->dc[0].name);
    fixture_block_free(fixture_commit(f, body, 1));
    fixture_clear(body);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    fixture_free(f);
    free(body);
    return 0;
}

/* A header for `body` as an honest DC would make it, as far as it can be made: what cannot be
 * staged is left out of the state. */
static struct block_header header(void)
{
    struct block_header h;
    struct body_reader it = body_reader_on(fixture_span(body));
    struct span encoded;
    registry_stage_begin(f->registry, f->tip.height + 1);
    while (body_next(&it, &encoded)) {
        struct tx_view tx;
        if (tx_view_parse(&tx, encoded) == AMI_OK)
            (void)!registry_stage_tx(f->registry, &tx);
    }
    assert_ok(block_build(&h, f->registry, &f->tip, 1, 0, f->tip.timestamp_ms + 1000,
                          fixture_span(body)));
    registry_stage_drop(f->registry);
    return h;
}

/* All that a follower checks; on success the block stays staged. */
static enum ami_status validate(const struct block_header *h, uint32_t *bad)
{
    *bad = UINT32_MAX;
    AMI_TRY(block_check_header(&f->genesis.parameters,
                               registry_members(f->registry, f->tip.height + 1), h, &f->tip));
    AMI_TRY(block_check_time(&f->genesis, h, f->tip.timestamp_ms + 1000));
    AMI_TRY(block_check_body(f->registry, h, fixture_span(body), bad));
    return block_stage(f->registry, h, fixture_span(body), bad);
}

static void accepted(void)
{
    uint32_t bad;
    struct block_header h = header();
    assert_ok(validate(&h, &bad));
    assert_true(registry_staged(f->registry));
    registry_stage_drop(f->registry);
}

/* The transaction at `index` is refused, the registry is as before. */
static void refused(enum ami_status expected, uint32_t index)
{
    uint32_t bad;
    sm3_digest before = registry_root(f->registry);
    struct block_header h = header();
    assert_status(validate(&h, &bad), expected);
    assert_int_equal(bad, index);
    assert_false(registry_staged(f->registry));
    sm3_digest after = registry_root(f->registry);
    assert_memory_equal(&before, &after, sizeof before);
}

/* Replaces the last transaction's bytes by those of an altered view. */
static void rewrite(const struct report_meter_part *m, const struct report_gateway_part *g)
{
    uint8_t bytes[AMI_TX_BYTES_MAX];
    struct writer w = writer_on(bytes, sizeof bytes);
    report_tx_encode(&w, m, g);
    assert_true(writer_ok(&w));
    body->w.size = body->at - 4;
    body->count--;
    fixture_append(body, writer_span(&w));
}

/* The gateway signs again what it has altered. */
static void sign_again(const struct report_meter_part *m, struct report_gateway_part *g,
                       const struct fixture_device *dc)
{
    uint8_t wide[SM2_WIDE_BYTES];
    fixture_random(f, wide);
    report_gateway_sign(g, m, &f->genesis.members.chain, &dc->key, wide);
    rewrite(m, g);
}

static void a_good_block(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 20; i++)
        fixture_report(f, body, i % 3 == 0 ? &a : &b, &f->dc[i % 4], 30 + i);
    accepted();
    fixture_skip(f, body, &a, 20);
    fixture_revoke(f, body, 1, &b.name, 1);
    accepted();
    struct fixture_block *block = fixture_commit(f, body, 1);
    assert_int_equal(block->header.tx_count, 22);
    assert_int_equal(block->header.height, 2);
    fixture_block_free(block);
    fixture_clear(body);
    /* An empty one moves nothing; they are cut only up to a new epoch (test_membership.c). */
    uint32_t bad;
    struct block_header h = header();
    assert_status(validate(&h, &bad), AMI_BAD_ARGUMENT);
    assert_false(registry_staged(f->registry));
}

static void enrolment_and_first_report_in_one_block(void **state)
{
    (void)state;
    struct fixture_device m = fixture_meter(f, 3);
    struct fixture_device dc = fixture_device(f, ROLE_DC_SIGN, fixture_id("dc-9"), 1);
    fixture_meter_enrol(f, body, &m, &f->dc[0].name);
    fixture_report(f, body, &m, &f->dc[0], 30);
    fixture_dc_enrol(f, body, &dc);
    fixture_report(f, body, &m, &dc, 30);
    fixture_skip(f, body, &m, 5);
    accepted();
    /* Before the enrolment it is a stranger. */
    fixture_clear(body);
    f->mdms_number -= 2;
    fixture_report(f, body, &a, &f->dc[0], 30);
    fixture_report(f, body, &m, &f->dc[0], 30);
    fixture_meter_enrol(f, body, &m, &f->dc[0].name);
    refused(AMI_UNKNOWN_DEVICE, 1);
}

static void an_invented_report(void **state)
{
    (void)state;
    /* Signed with a key that is not the meter's. */
    struct fixture_device fake = fixture_meter(f, 9), liar = a;
    liar.key = fake.key;
    fixture_report(f, body, &a, &f->dc[0], 30);
    fixture_report(f, body, &liar, &f->dc[0], 30);
    refused(AMI_BAD_SIGNATURE, 1);
    /* Of a meter that nobody enrolled. */
    fixture_clear(body);
    fixture_report(f, body, &fake, &f->dc[0], 30);
    refused(AMI_UNKNOWN_DEVICE, 0);
    /* With an enrolment of the DC's own making. */
    sm2_private real = f->sign;
    f->sign = f->dc[0].key.private_key;
    fixture_clear(body);
    fixture_meter_enrol(f, body, &fake, &f->dc[0].name);
    f->sign = real;
    fixture_report(f, body, &fake, &f->dc[0], 30);
    refused(AMI_BAD_SIGNATURE, 0);
}

static void an_altered_report(void **state)
{
    (void)state;
    struct tx_view tx;
    fixture_report(f, body, &b, &f->dc[0], 30);
    fixture_report(f, body, &a, &f->dc[0], 30);
    assert_ok(tx_view_parse(&tx, fixture_last(body)));
    struct report_meter_part m = tx.u.report.meter;
    struct report_gateway_part g = tx.u.report.gateway;
    uint8_t sealed[AMI_SEALED_BYTES_MAX];
    memcpy(sealed, g.sealed.data, g.sealed.size);
    g.sealed.data = sealed;
    const struct report_meter_part m0 = m;
    const struct report_gateway_part g0 = g;
    accepted();
    m.commitment.b[0] ^= 1;
    sign_again(&m, &g, &f->dc[0]);
    refused(AMI_BAD_SIGNATURE, 1);
    m = m0;
    m.sequence++; /* a number the meter has not used */
    sign_again(&m, &g, &f->dc[0]);
    refused(AMI_BAD_SIGNATURE, 1);
    /* Without the gateway's signature over it. */
    g = g0;
    sealed[5] ^= 1;
    rewrite(&m0, &g);
    refused(AMI_BAD_SIGNATURE, 1);
    sealed[5] ^= 1;
    g.timestamp_ms--;
    rewrite(&m0, &g);
    refused(AMI_BAD_SIGNATURE, 1);
    /* In another DC's name. */
    g = g0;
    g.dc = f->dc[1].name;
    sign_again(&m0, &g, &f->dc[0]);
    refused(AMI_BAD_SIGNATURE, 1);
    g = g0;
    g.dc_epoch = 2;
    sign_again(&m0, &g, &f->dc[0]);
    refused(AMI_UNKNOWN_DEVICE, 1);
    g = g0;
    sign_again(&m0, &g, &f->dc[0]);
    accepted();
}

static void a_number_used_twice(void **state)
{
    (void)state;
    fixture_report(f, body, &a, &f->dc[0], 30);
    struct fixture_block *block = fixture_commit(f, body, 1);
    fixture_block_free(block);
    refused(AMI_SEQUENCE_SETTLED, 0); /* the same block again */
    /* Twice in one block, by two gateways. */
    fixture_clear(body);
    fixture_report(f, body, &a, &f->dc[0], 30);
    a.sequence--;
    fixture_report(f, body, &a, &f->dc[1], 30);
    refused(AMI_SEQUENCE_SETTLED, 1);
    /* The meter itself beyond its window. */
    fixture_clear(body);
    a.sequence = 2 + 64;
    fixture_report(f, body, &a, &f->dc[1], 30);
    refused(AMI_SEQUENCE_AHEAD, 0);
    fixture_clear(body);
    a.sequence = 2 + 63;
    fixture_report(f, body, &a, &f->dc[1], 30);
    accepted();
}

static void a_report_moved_to_another_meter(void **state)
{
    (void)state;
    struct tx_view tx;
    fixture_report(f, body, &b, &f->dc[0], 30);
    fixture_report(f, body, &a, &f->dc[0], 30);
    assert_ok(tx_view_parse(&tx, fixture_last(body)));
    struct report_meter_part m = tx.u.report.meter;
    struct report_gateway_part g = tx.u.report.gateway;
    uint8_t sealed[AMI_SEALED_BYTES_MAX];
    memcpy(sealed, g.sealed.data, g.sealed.size);
    g.sealed.data = sealed;
    m.meter = b.name;
    m.sequence = 2;
    sign_again(&m, &g, &f->dc[0]);
    refused(AMI_BAD_SIGNATURE, 1);
}

static void evidence_against_the_innocent(void **state)
{
    (void)state;
    static struct fixture_evidence x;
    fixture_report(f, body, &a, &f->dc[0], 30);
    for (uint8_t kind = EVIDENCE_VOTES; kind < EVIDENCE_KIND_END; kind++) {
        fixture_evidence(&x, f, kind % 4, kind);
        fixture_evidence_tx(body, &x.e);
    }
    accepted();
    /* Statements that somebody else signed. */
    for (uint8_t kind = EVIDENCE_VOTES; kind < EVIDENCE_KIND_END; kind++) {
        fixture_clear(body);
        a.sequence--;
        fixture_report(f, body, &a, &f->dc[0], 30);
        const struct fixture_device other = f->dc[3];
        f->dc[3].key = f->dc[2].key;
        fixture_evidence(&x, f, 3, kind);
        f->dc[3] = other;
        fixture_evidence_tx(body, &x.e);
        refused(AMI_BAD_SIGNATURE, 1);
    }
    /* One of the two is the accused's own. */
    static struct fixture_evidence y;
    const sm3_digest block[2] = {sm3(SPAN_LITERAL("1")), sm3(SPAN_LITERAL("2"))};
    struct vote v[2] = {fixture_vote(f, VOTE_COMMIT, 1, 1, &block[0], 3),
                        fixture_vote(f, VOTE_COMMIT, 1, 1, &block[1], 2)};
    v[1].voter = 3;
    fixture_clear(body);
    fixture_evidence_votes(&y, f, &v[0], &v[1]);
    fixture_evidence_tx(body, &y.e);
    refused(AMI_BAD_SIGNATURE, 0);
}

static void a_revoked_device(void **state)
{
    (void)state;
    fixture_revoke(f, body, 1, &a.name, 1);
    fixture_report(f, body, &b, &f->dc[1], 30);
    fixture_report(f, body, &a, &f->dc[1], 30);
    refused(AMI_REVOKED, 2);
    f->mdms_number--;
    fixture_clear(body);
    fixture_revoke(f, body, 2, &f->dc[1].name, 1);
    fixture_report(f, body, &b, &f->dc[1], 30);
    refused(AMI_REVOKED, 1);
    f->mdms_number--;
    fixture_clear(body);
    fixture_revoke(f, body, 1, &a.name, 1);
    fixture_block_free(fixture_commit(f, body, 1));
    fixture_clear(body);
    fixture_report(f, body, &a, &f->dc[0], 30);
    refused(AMI_REVOKED, 0);
}

static void an_enrolment_without_a_key(void **state)
{
    (void)state;
    struct fixture_device m = fixture_meter(f, 3);
    memset(m.w.b + 1, 0xff, 32);
    fixture_report(f, body, &a, &f->dc[0], 30);
    fixture_meter_enrol(f, body, &m, &f->dc[0].name);
    refused(AMI_BAD_CRYPTO, 1);
    /* Each of the two steps sees it. */
    uint32_t bad;
    struct block_header h = header();
    assert_status(block_check_body(f->registry, &h, fixture_span(body), &bad), AMI_BAD_CRYPTO);
    assert_int_equal(bad, 1);
    assert_status(block_stage(f->registry, &h, fixture_span(body), &bad), AMI_BAD_CRYPTO);
    assert_int_equal(bad, 1);
}

static enum ami_status check_header(const struct block_header *h)
{
    return block_check_header(&f->genesis.parameters,
                              registry_members(f->registry, f->tip.height + 1), h, &f->tip);
}

static void every_field_of_the_header(void **state)
{
    (void)state;
    uint32_t bad;
    fixture_report(f, body, &a, &f->dc[0], 30);
    fixture_report(f, body, &b, &f->dc[0], 30);
    const struct block_header good = header();
    struct block_header h = good;
    assert_ok(check_header(&h));
    h.version = 2;
    assert_status(check_header(&h), AMI_BAD_VERSION);
    h = good;
    h.chain.b[0] ^= 1;
    assert_status(check_header(&h), AMI_WRONG_CHAIN);
    h = good;
    h.epoch = 2;
    assert_status(check_header(&h), AMI_WRONG_EPOCH);
    h = good;
    h.members.b[31] ^= 1;
    assert_status(check_header(&h), AMI_WRONG_EPOCH);
    h = good;
    h.height++;
    assert_status(check_header(&h), AMI_BAD_PARENT);
    h.height = good.height - 1;
    assert_status(check_header(&h), AMI_BAD_PARENT);
    h = good;
    h.term = 0;
    assert_status(check_header(&h), AMI_BAD_ARGUMENT);
    h.term = UINT64_MAX;
    assert_ok(check_header(&h));
    h = good;
    h.previous.b[7] ^= 1;
    assert_status(check_header(&h), AMI_BAD_PARENT);
    h = good;
    h.timestamp_ms = f->tip.timestamp_ms;
    assert_status(check_header(&h), AMI_BAD_TIMESTAMP);
    h.timestamp_ms = INT64_MIN;
    assert_status(check_header(&h), AMI_BAD_TIMESTAMP);
    h.timestamp_ms = f->tip.timestamp_ms + 1;
    assert_ok(check_header(&h));
    h = good;
    h.proposer = 4;
    assert_status(check_header(&h), AMI_BAD_ARGUMENT);
    h = good;
    h.tx_count = f->genesis.parameters.block_txs_max + 1;
    assert_status(check_header(&h), AMI_TOO_LARGE);
    assert_status(block_check_body(f->registry, &h, fixture_span(body), &bad), AMI_TOO_LARGE);
    h = good;
    h.merkle_root.b[3] ^= 1;
    assert_status(block_check_body(f->registry, &h, fixture_span(body), &bad), AMI_BAD_MERKLE_ROOT);
    assert_int_equal(bad, 2);
    h = good;
    h.state_root.b[3] ^= 1;
    assert_ok(block_check_body(f->registry, &h, fixture_span(body), &bad));
    assert_status(block_stage(f->registry, &h, fixture_span(body), &bad), AMI_BAD_STATE_ROOT);
    assert_int_equal(bad, 2);
    assert_false(registry_staged(f->registry));
    for (uint32_t count = 0; count < 5; count++) {
        h = good;
        h.tx_count = count;
        enum ami_status expected = count == 2 ? AMI_OK : AMI_BAD_ENCODING;
        assert_status(block_check_body(f->registry, &h, fixture_span(body), &bad), expected);
        assert_status(block_stage(f->registry, &h, fixture_span(body), &bad), expected);
        if (count == 2)
            registry_stage_drop(f->registry);
    }
    h = good;
    h.height = 0;
    assert_status(block_stage(f->registry, &h, fixture_span(body), &bad), AMI_BAD_PARENT);
    /* The hash covers all of it. */
    sm3_digest hash = block_hash(&good), other;
    for (unsigned i = 0; i < 12; i++) {
        h = good;
        h.version ^= i == 0;
        h.chain.b[0] ^= i == 1;
        h.epoch ^= i == 2;
        h.members.b[0] ^= i == 3;
        h.height ^= i == 4;
        h.term ^= i == 5;
        h.previous.b[0] ^= i == 6;
        h.merkle_root.b[0] ^= i == 7;
        h.state_root.b[0] ^= i == 8;
        h.timestamp_ms ^= i == 9;
        h.tx_count ^= i == 10;
        h.proposer ^= i == 11;
        other = block_hash(&h);
        assert_memory_not_equal(&hash, &other, sizeof hash);
    }
}

static void the_time_window(void **state)
{
    (void)state;
    struct block_header h = {.timestamp_ms = 1700000100000};
    const int64_t t = h.timestamp_ms, back = f->genesis.parameters.timestamp_back_ms,
                  ahead = f->genesis.parameters.timestamp_ahead_ms;
    assert_ok(block_check_time(&f->genesis, &h, t));
    assert_ok(block_check_time(&f->genesis, &h, t + back));
    assert_status(block_check_time(&f->genesis, &h, t + back + 1), AMI_BAD_TIMESTAMP);
    assert_ok(block_check_time(&f->genesis, &h, t - ahead));
    assert_status(block_check_time(&f->genesis, &h, t - ahead - 1), AMI_BAD_TIMESTAMP);
    h.timestamp_ms = INT64_MIN;
    assert_status(block_check_time(&f->genesis, &h, t), AMI_BAD_TIMESTAMP);
    h.timestamp_ms = INT64_MAX;
    assert_status(block_check_time(&f->genesis, &h, t), AMI_BAD_TIMESTAMP);
}

static void the_leader_s_clock_never_goes_back(void **state)
{
    (void)state;
    struct block_header h;
    struct block_parent parent = f->tip;
    registry_stage_begin(f->registry, 2);
    assert_ok(block_build(&h, f->registry, &parent, 1, 0, 5, span_of(NULL, 0)));
    assert_int_equal(h.timestamp_ms, parent.timestamp_ms + 1);
    assert_ok(
        block_build(&h, f->registry, &parent, 1, 0, parent.timestamp_ms + 9, span_of(NULL, 0)));
    assert_int_equal(h.timestamp_ms, parent.timestamp_ms + 9);
    parent.timestamp_ms = INT64_MAX;
    assert_status(block_build(&h, f->registry, &parent, 1, 0, 5, span_of(NULL, 0)),
                  AMI_BAD_TIMESTAMP);
    registry_stage_drop(f->registry);
}

static void bodies_that_are_damaged(void **state)
{
    (void)state;
    uint32_t bad;
    fixture_report(f, body, &a, &f->dc[0], 30);
    fixture_report(f, body, &b, &f->dc[0], 30);
    struct block_header h = header();
    struct span whole = fixture_span(body);
    for (size_t cut = 0; cut < whole.size; cut++) {
        assert_status(block_check_body(f->registry, &h, span_of(whole.data, cut), &bad),
                      AMI_BAD_ENCODING);
        assert_status(block_stage(f->registry, &h, span_of(whole.data, cut), &bad),
                      AMI_BAD_ENCODING);
    }
    uint8_t *bytes = malloc(whole.size + 1);
    assert_non_null(bytes);
    memcpy(bytes, whole.data, whole.size);
    bytes[whole.size] = 0;
    assert_status(block_check_body(f->registry, &h, span_of(bytes, whole.size + 1), &bad),
                  AMI_BAD_ENCODING);
    for (size_t i = 0; i < whole.size; i += 3) {
        bytes[i] ^= 8;
        assert_int_not_equal(block_check_body(f->registry, &h, span_of(bytes, whole.size), &bad),
                             AMI_OK);
        bytes[i] ^= 8;
    }
    free(bytes);
    /* Larger than the network allows. */
    f->genesis.parameters.block_bytes_max = (uint32_t)whole.size - 1;
    assert_status(block_check_body(f->registry, &h, whole, &bad), AMI_TOO_LARGE);
}

/* Two transactions swapped give another Merkle root. */
static void order_counts(void **state)
{
    (void)state;
    uint32_t bad;
    fixture_report(f, body, &a, &f->dc[0], 30);
    fixture_report(f, body, &b, &f->dc[0], 31);
    struct block_header h = header();
    struct body_reader it = body_reader_on(fixture_span(body));
    struct span first = {0}, second = {0};
    assert_true(body_next(&it, &first) && body_next(&it, &second));
    struct fixture_body *swapped = fixture_body();
    fixture_append(swapped, second);
    fixture_append(swapped, first);
    assert_status(block_check_body(f->registry, &h, fixture_span(swapped), &bad),
                  AMI_BAD_MERKLE_ROOT);
    free(swapped);
}

struct run {
    struct block_check *check;
    enum ami_status status;
    uint32_t bad;
};

static void *run_check(void *ctx)
{
    struct run *r = ctx;
    r->status = block_check_run(r->check, &r->bad);
    return NULL;
}

/* While another thread checks a block, its owner commits others that touch the same meters; the
 * keys that were recovered there are kept when the check ends. More than one batch of signatures.
 */
static void checking_beside_the_owner(void **state)
{
    (void)state;
    enum { METERS = 150, REPORTS = 300 };
    struct fixture_device *m = calloc(METERS, sizeof *m);
    struct fixture_body *other = fixture_body();
    assert_non_null(m);
    for (unsigned i = 0; i < METERS; i++) {
        m[i] = fixture_meter(f, 100 + i);
        fixture_meter_enrol(f, body, &m[i], &f->dc[0].name);
    }
    fixture_block_free(fixture_commit(f, body, 1));
    /* As after a restart: no key is there yet. */
    struct registry *fresh = registry_new(&f->genesis);
    assert_non_null(fresh);
    for (uint64_t i = 0; i < registry_size(f->registry); i++)
        assert_ok(registry_load(fresh, i, registry_at(f->registry, i)));
    registry_free(f->registry);
    f->registry = fresh;
    const struct record *rec = registry_find(fresh, RECORD_METER, &m[7].name, 1);
    assert_null(rec->key);
    fixture_clear(body);
    for (unsigned i = 0; i < REPORTS; i++)
        fixture_report(f, body, &m[i % METERS], &f->dc[i % 4], 30);
    struct block_header h = header();
    for (int broken = 0; broken < 2; broken++) {
        struct run r = {0};
        pthread_t thread;
        if (broken)
            body->bytes[body->at + 60] ^= 1; /* the last one; its root is made anew */
        h = header();
        assert_ok(block_check_prepare(f->registry, &h, fixture_span(body), &r.check, &r.bad));
        assert_int_equal(pthread_create(&thread, NULL, run_check, &r), 0);
        for (unsigned i = 0; i < 20; i++) {
            m[i].sequence += 10;
            fixture_clear(other);
            fixture_report(f, other, &m[i], &f->dc[0], 30);
            fixture_block_free(fixture_commit(f, other, 1));
            assert_non_null(registry_key(f->registry, registry_at(f->registry, 8 + i)));
        }
        pthread_join(thread, NULL);
        assert_status(r.status, broken ? AMI_BAD_SIGNATURE : AMI_OK);
        assert_int_equal(r.bad, broken ? REPORTS - 1 : REPORTS);
        block_check_free(r.check);
        rec = registry_find(f->registry, RECORD_METER, &m[METERS - 1].name, 1);
        assert_non_null(rec->key);
        assert_true(point_equal(&rec->key->p, &m[METERS - 1].key.public_key.p));
    }
    block_check_free(NULL);
    free(other);
    free(m);
}

/* Signatures are verified in batches; the first bad one is named wherever it stands. */
static void the_first_bad_signature_of_many(void **state)
{
    (void)state;
    enum { BATCH = 2048, REPORTS = BATCH + 14 };
    static const unsigned places[] = {0, 1, BATCH - 2, BATCH - 1, BATCH, BATCH + 1, REPORTS - 1};
    size_t end[REPORTS];
    uint32_t bad;
    f->genesis.parameters.block_txs_max = AMI_BLOCK_TXS_MAX;
    for (unsigned i = 0; i < REPORTS; i++) {
        fixture_report(f, body, i % 2 == 0 ? &a : &b, &f->dc[i % 4], 20);
        end[i] = body->w.size;
    }
    for (size_t i = sizeof places / sizeof places[0]; i-- > 0;) {
        body->bytes[end[places[i]] - 1] ^= 1; /* the gateway's signature */
        struct block_header h = header();
        assert_status(block_check_body(f->registry, &h, fixture_span(body), &bad),
                      AMI_BAD_SIGNATURE);
        assert_int_equal(bad, places[i]);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        TEST(a_good_block),
        TEST(enrolment_and_first_report_in_one_block),
        TEST(an_invented_report),
        TEST(an_altered_report),
        TEST(a_number_used_twice),
        TEST(a_report_moved_to_another_meter),
        TEST(evidence_against_the_innocent),
        TEST(a_revoked_device),
        TEST(an_enrolment_without_a_key),
        TEST(every_field_of_the_header),
        TEST(the_time_window),
        TEST(the_leader_s_clock_never_goes_back),
        TEST(bodies_that_are_damaged),
        TEST(order_counts),
        TEST(checking_beside_the_owner),
        TEST(the_first_bad_signature_of_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
