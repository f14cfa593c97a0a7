/* Transactions: each kind is read as it was written, every byte that is signed counts, and what is
 * sealed opens for the MDMS alone. */
#include "tests/harness.h"

#include "tests/ledger/fixture.h"

#include <stdlib.h>
#include <string.h>

static struct fixture *f;
static struct fixture_body *body;
static struct fixture_device meter;

static int start(void **state)
{
    (void)state;
    f = fixture_new(4, 31);
    body = fixture_body();
    meter = fixture_meter(f, 1);
    fixture_meter_enrol(f, body, &meter, &f->dc[0].name);
    struct fixture_block *b = fixture_commit(f, body, 1);
    fixture_block_free(b);
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

/* One transaction of each kind, in `body`. */
static void one_of_each(void)
{
    struct fixture_device dc = fixture_device(f, ROLE_DC_SIGN, fixture_id("dc-9"), 1);
    struct fixture_device m = fixture_meter(f, 2);
    fixture_clear(body);
    fixture_report(f, body, &meter, &f->dc[1], 50);
    fixture_meter_enrol(f, body, &m, &f->dc[0].name);
    fixture_dc_enrol(f, body, &dc);
    fixture_revoke(f, body, 1, &m.name, 1);
    fixture_skip(f, body, &meter, 9);
    static struct fixture_evidence x;
    fixture_evidence(&x, f, 2, EVIDENCE_HIDDEN);
    fixture_evidence_tx(body, &x.e);
    fixture_membership(f, body, MEMBER_JOIN, &dc, 5);
    fixture_retention(f, body, 700);
}

enum { KINDS = 8 };
static const uint8_t kind_of[KINDS] = {TX_REPORT, TX_METER_ENROL, TX_DC_ENROL,   TX_REVOKE,
                                       TX_SKIP,   TX_EVIDENCE,    TX_MEMBERSHIP, TX_RETENTION};

static enum ami_status check(struct span encoded)
{
    struct tx_view tx;
    struct tx_check c;
    AMI_TRY(tx_view_parse(&tx, encoded));
    AMI_TRY(registry_check_prepare(f->registry, &tx, &c));
    return tx_check_run(&c, &tx);
}

static void every_kind_round_trips(void **state)
{
    (void)state;
    one_of_each();
    struct body_reader it = body_reader_on(fixture_span(body));
    struct span encoded;
    uint8_t again[AMI_TX_BYTES_MAX];
    sm3_digest ids[KINDS];
    for (uint8_t i = 0; i < KINDS; i++) {
        struct tx_view tx;
        assert_true(body_next(&it, &encoded));
        assert_ok(tx_view_parse(&tx, encoded));
        assert_int_equal(tx.tx.kind, kind_of[i]);
        assert_ptr_equal(tx.encoded.data, encoded.data);
        struct writer w = writer_on(again, sizeof again);
        tx_encode(&w, &tx.tx);
        assert_true(span_equal(writer_span(&w), encoded));
        assert_ok(check(encoded));
        /* id = SM3("amiledger tx v1" 00 kind SM3(first) SM3(second)). */
        static const char label[] = "amiledger tx v1";
        sm3_digest first = sm3(tx.tx.first), second = sm3(tx.tx.second);
        const struct span parts[] = {span_of(label, sizeof label), span_of(&tx.tx.kind, 1),
                                     span_of(first.b, 32), span_of(second.b, 32)};
        ids[i] = sm3_parts(parts, 4);
        assert_memory_equal(&ids[i], &tx.id, SM3_BYTES);
        sm3_digest leaf = tx_leaf(&tx.id), expected = merkle_leaf(span_of(tx.id.b, 32));
        assert_memory_equal(&leaf, &expected, SM3_BYTES);
        for (uint8_t k = 0; k < i; k++)
            assert_memory_not_equal(&ids[k], &ids[i], SM3_BYTES);
    }
    assert_false(body_next(&it, &encoded));
    assert_true(body_ok(&it));
    struct tx_view tx;
    it = body_reader_on(fixture_span(body));
    assert_true(body_next(&it, &encoded));
    assert_ok(tx_view_parse(&tx, encoded));
    assert_int_equal(tx.u.report.meter.sequence, 1);
    assert_string_equal(tx.u.report.meter.meter.text, "m-1");
    assert_string_equal(tx.u.report.gateway.dc.text, "dc-2");
    assert_int_equal(tx.u.report.gateway.sealed.size, 16 + 50 + 16);
}

/* A changed byte makes the transaction unreadable, names somebody unknown, or breaks a signature.
 */
static void every_byte_is_signed(void **state)
{
    (void)state;
    one_of_each();
    struct body_reader it = body_reader_on(fixture_span(body));
    struct span encoded;
    while (body_next(&it, &encoded)) {
        uint8_t bytes[AMI_TX_BYTES_MAX];
        memcpy(bytes, encoded.data, encoded.size);
        assert_ok(check(span_of(bytes, encoded.size)));
        for (size_t i = 0; i < encoded.size; i++) {
            bytes[i] ^= (uint8_t)(1u << i % 8);
            enum ami_status status = check(span_of(bytes, encoded.size));
            if (status == AMI_OK)
                fail_msg("byte %zu of kind %u does not count", i, bytes[0]);
            bytes[i] ^= (uint8_t)(1u << i % 8);
        }
        for (size_t cut = 0; cut < encoded.size; cut++)
            assert_int_not_equal(check(span_of(bytes, cut)), AMI_OK);
    }
}

/* The single checks of a meter and of a gateway, and what each signature covers. */
static void signatures_cover_what_they_must(void **state)
{
    (void)state;
    const sm3_digest *chain = &f->genesis.members.chain;
    struct tx_view tx;
    fixture_clear(body);
    fixture_report(f, body, &meter, &f->dc[1], 50);
    assert_ok(tx_view_parse(&tx, fixture_last(body)));
    const struct report_meter_part m = tx.u.report.meter;
    const struct report_gateway_part g = tx.u.report.gateway;
    const struct verify_key *mk = &meter.key.public_key, *gk = &f->dc[1].key.public_key;
    assert_ok(report_meter_check(&m, chain, mk));
    assert_ok(report_gateway_check(&g, &m, chain, gk));
    assert_status(report_meter_check(&m, chain, gk), AMI_BAD_SIGNATURE);
    assert_status(report_gateway_check(&g, &m, chain, mk), AMI_BAD_SIGNATURE);
    sm3_digest elsewhere = *chain;
    elsewhere.b[0] ^= 1;
    assert_status(report_meter_check(&m, &elsewhere, mk), AMI_BAD_SIGNATURE);
    assert_status(report_gateway_check(&g, &m, &elsewhere, gk), AMI_BAD_SIGNATURE);
    struct report_meter_part mm = m;
    mm.sequence++;
    assert_status(report_meter_check(&mm, chain, mk), AMI_BAD_SIGNATURE);
    assert_status(report_gateway_check(&g, &mm, chain, gk), AMI_BAD_SIGNATURE);
    mm = m;
    mm.epoch++;
    assert_status(report_meter_check(&mm, chain, mk), AMI_BAD_SIGNATURE);
    mm = m;
    mm.meter = fixture_id("m-2");
    assert_status(report_meter_check(&mm, chain, mk), AMI_BAD_SIGNATURE);
    mm = m;
    mm.commitment.b[9] ^= 1;
    assert_status(report_meter_check(&mm, chain, mk), AMI_BAD_SIGNATURE);
    mm = m;
    mm.signature.b[40] ^= 1; /* the gateway vouches for the meter's signature too */
    assert_status(report_gateway_check(&g, &mm, chain, gk), AMI_BAD_SIGNATURE);
    struct report_gateway_part gg = g;
    gg.timestamp_ms++;
    assert_status(report_gateway_check(&gg, &m, chain, gk), AMI_BAD_SIGNATURE);
    gg = g;
    gg.c1.b[1] ^= 1;
    assert_status(report_gateway_check(&gg, &m, chain, gk), AMI_BAD_SIGNATURE);
    gg = g;
    gg.sealed.size--;
    assert_status(report_gateway_check(&gg, &m, chain, gk), AMI_BAD_SIGNATURE);
    /* A skip is not a report, though both name meter, epoch and a number. */
    struct skip_meter_part s = {
        .meter = m.meter, .epoch = m.epoch, .below = m.sequence, .signature = m.signature};
    assert_status(skip_check(&s, chain, mk), AMI_BAD_SIGNATURE);
    /* The MDMS signs the kind along. */
    struct fixture_device dc = fixture_device(f, ROLE_DC_SIGN, fixture_id("dc-9"), 1);
    fixture_dc_enrol(f, body, &dc);
    assert_ok(tx_view_parse(&tx, fixture_last(body)));
    const struct network *net = &f->genesis.network;
    struct network other = *net;
    other.sign = f->p_pub.p;
    network_finish(&other);
    assert_ok(mdms_tx_check(net, chain, TX_DC_ENROL, tx.tx.first, &tx.mdms.signature));
    assert_status(mdms_tx_check(net, chain, TX_METER_ENROL, tx.tx.first, &tx.mdms.signature),
                  AMI_BAD_SIGNATURE);
    assert_status(mdms_tx_check(&other, chain, TX_DC_ENROL, tx.tx.first, &tx.mdms.signature),
                  AMI_BAD_SIGNATURE);
}

static enum ami_status parse(uint8_t kind, struct span first, struct span second)
{
    uint8_t bytes[AMI_TX_BYTES_MAX];
    struct tx t = {kind, first, second};
    struct tx_view v;
    struct writer w = writer_on(bytes, sizeof bytes);
    tx_encode(&w, &t);
    assert_true(writer_ok(&w));
    return tx_view_parse(&v, writer_span(&w));
}

static void values_that_no_transaction_has(void **state)
{
    (void)state;
    one_of_each();
    struct body_reader it = body_reader_on(fixture_span(body));
    struct span encoded;
    struct tx_view v[KINDS];
    for (unsigned i = 0; i < KINDS; i++) {
        assert_true(body_next(&it, &encoded));
        assert_ok(tx_view_parse(&v[i], encoded));
    }
    struct span none = span_of(NULL, 0);
    for (unsigned kind = 0; kind < 256; kind++)
        if (memchr(kind_of, (int)kind, sizeof kind_of) == NULL) /* TX_PRUNED_REPORT, too */
            assert_status(parse((uint8_t)kind, v[0].tx.first, v[0].tx.second), AMI_BAD_ARGUMENT);
    /* Parts of one kind under another's number. */
    for (unsigned i = 0; i < KINDS; i++)
        for (unsigned k = 0; k < KINDS; k++)
            if (i != k && !(i == 1 && k == 2) && !(i == 2 && k == 1))
                assert_int_not_equal(parse(kind_of[k], v[i].tx.first, v[i].tx.second), AMI_OK);
    assert_status(parse(TX_SKIP, v[4].tx.first, v[1].tx.second), AMI_BAD_ENCODING);
    assert_status(parse(TX_REPORT, v[0].tx.first, none), AMI_BAD_ENCODING);
    uint8_t bytes[512];
    struct writer w = writer_on(bytes, sizeof bytes);
    struct report_meter_part m = v[0].u.report.meter;
    m.sequence = 0;
    report_meter_part_encode(&w, &m);
    assert_status(parse(TX_REPORT, writer_span(&w), v[0].tx.second), AMI_BAD_ARGUMENT);
    m.sequence = 1;
    m.epoch = 0;
    w = writer_on(bytes, sizeof bytes);
    report_meter_part_encode(&w, &m);
    assert_status(parse(TX_REPORT, writer_span(&w), v[0].tx.second), AMI_BAD_ARGUMENT);
    struct report_gateway_part g = v[0].u.report.gateway;
    g.dc_epoch = 0;
    w = writer_on(bytes, sizeof bytes);
    report_gateway_part_encode(&w, &g);
    assert_status(parse(TX_REPORT, v[0].tx.first, writer_span(&w)), AMI_BAD_ARGUMENT);
    struct meter_enrol e = v[1].u.meter_enrol;
    e.number = 0;
    w = writer_on(bytes, sizeof bytes);
    meter_enrol_encode(&w, &e);
    assert_status(parse(TX_METER_ENROL, writer_span(&w), v[1].tx.second), AMI_BAD_ARGUMENT);
    struct dc_enrol d = v[2].u.dc_enrol;
    d.epoch = 0;
    w = writer_on(bytes, sizeof bytes);
    dc_enrol_encode(&w, &d);
    assert_status(parse(TX_DC_ENROL, writer_span(&w), v[2].tx.second), AMI_BAD_ARGUMENT);
    static const struct {
        uint8_t role, reason;
        enum ami_status status;
    } revocations[] = {{0, 0, AMI_BAD_ARGUMENT}, {1, 0, AMI_OK},
                       {2, 3, AMI_OK},           {3, 0, AMI_BAD_ARGUMENT},
                       {1, 4, AMI_BAD_ARGUMENT}, {255, 255, AMI_BAD_ARGUMENT}};
    for (size_t i = 0; i < sizeof revocations / sizeof revocations[0]; i++) {
        struct revoke r = v[3].u.revoke;
        r.role = revocations[i].role;
        r.reason = revocations[i].reason;
        w = writer_on(bytes, sizeof bytes);
        revoke_encode(&w, &r);
        assert_status(parse(TX_REVOKE, writer_span(&w), v[3].tx.second), revocations[i].status);
    }
    struct skip_meter_part s = v[4].u.skip;
    s.epoch = 0;
    w = writer_on(bytes, sizeof bytes);
    skip_meter_part_encode(&w, &s);
    assert_status(parse(TX_SKIP, writer_span(&w), none), AMI_BAD_ARGUMENT);
    assert_status(parse(TX_EVIDENCE, v[5].tx.first, v[4].tx.first), AMI_BAD_ENCODING);
    static uint8_t large[AMI_TX_BYTES_MAX];
    struct evidence x = v[5].u.evidence;
    x.second = x.first; /* a vote where the grant must be */
    w = writer_on(large, sizeof large);
    evidence_encode(&w, &x);
    assert_status(parse(TX_EVIDENCE, writer_span(&w), none), AMI_BAD_ENCODING);
    x.kind = EVIDENCE_VOTES; /* one vote twice */
    w = writer_on(large, sizeof large);
    evidence_encode(&w, &x);
    assert_status(parse(TX_EVIDENCE, writer_span(&w), none), AMI_BAD_ARGUMENT);
}

/* The largest report goes into a transaction and comes out again; one byte more does not. */
static void the_largest_transaction(void **state)
{
    (void)state;
    fixture_clear(body);
    fixture_report(f, body, &meter, &f->dc[0], AMI_REPORT_BYTES_MAX);
    assert_ok(check(fixture_last(body)));
    static uint8_t large[AMI_TX_BYTES_MAX + 1];
    struct tx_view v;
    assert_status(tx_view_parse(&v, span_of(large, sizeof large)), AMI_TOO_LARGE);
}

static void bodies_that_are_cut_or_too_long(void **state)
{
    (void)state;
    one_of_each();
    struct span whole = fixture_span(body), encoded;
    size_t good = 0;
    for (size_t cut = 0; cut <= whole.size; cut++) {
        struct body_reader it = body_reader_on(span_of(whole.data, cut));
        while (body_next(&it, &encoded))
            assert_true(encoded.data + encoded.size <= whole.data + cut);
        good += body_ok(&it);
    }
    assert_int_equal(good, KINDS + 1); /* at the borders of the transactions */
    uint8_t huge[8];
    store_be32(huge, AMI_TX_BYTES_MAX + 1);
    struct body_reader it = body_reader_on(span_of(huge, sizeof huge));
    assert_false(body_next(&it, &encoded));
    assert_false(body_ok(&it));
}

static void only_the_mdms_opens_what_is_sealed(void **state)
{
    (void)state;
    const sm3_digest *chain = &f->genesis.members.chain;
    uint8_t plain[16 + 90], sealed[sizeof plain + 16], opened[sizeof plain];
    uint8_t wide[SM2_WIDE_BYTES];
    struct seal_batch batch, again, wrong;
    struct ami_id dc = f->dc[0].name, other_dc = f->dc[1].name, other = fixture_id("m-2");
    fixture_bytes(&f->rng, plain, sizeof plain);
    fixture_random(f, wide);
    assert_ok(seal_batch_begin(&batch, &f->genesis.network.readings, wide));
    seal_report(sealed, &batch, chain, &dc, &meter.name, 1, 7, span_of(plain, sizeof plain));
    assert_ok(seal_batch_open(&again, &f->readings, &batch.c1));
    assert_memory_equal(&again.c1, &batch.c1, sizeof again.c1);
    struct span in = span_of(sealed, sizeof sealed);
    assert_ok(unseal_report(opened, &again, chain, &dc, &meter.name, 1, 7, in));
    assert_memory_equal(opened, plain, sizeof plain);
    /* Another key, place, or byte. */
    assert_ok(seal_batch_open(&wrong, &f->enrol, &batch.c1));
    assert_status(unseal_report(opened, &wrong, chain, &dc, &meter.name, 1, 7, in), AMI_BAD_CRYPTO);
    assert_status(unseal_report(opened, &again, chain, &other_dc, &meter.name, 1, 7, in),
                  AMI_BAD_CRYPTO);
    assert_status(unseal_report(opened, &again, chain, &dc, &other, 1, 7, in), AMI_BAD_CRYPTO);
    assert_status(unseal_report(opened, &again, chain, &dc, &meter.name, 2, 7, in), AMI_BAD_CRYPTO);
    assert_status(unseal_report(opened, &again, chain, &dc, &meter.name, 1, 8, in), AMI_BAD_CRYPTO);
    sm3_digest elsewhere = *chain;
    elsewhere.b[5] ^= 1;
    assert_status(unseal_report(opened, &again, &elsewhere, &dc, &meter.name, 1, 7, in),
                  AMI_BAD_CRYPTO);
    for (size_t i = 0; i < sizeof sealed; i++) {
        sealed[i] ^= 1;
        assert_status(unseal_report(opened, &again, chain, &dc, &meter.name, 1, 7, in),
                      AMI_BAD_CRYPTO);
        sealed[i] ^= 1;
    }
    for (size_t size = 0; size < 16; size++)
        assert_status(
            unseal_report(opened, &again, chain, &dc, &meter.name, 1, 7, span_of(sealed, size)),
            AMI_BAD_CRYPTO);
    point_bytes bad = batch.c1;
    bad.b[0] = 9;
    assert_status(seal_batch_open(&wrong, &f->readings, &bad), AMI_BAD_CRYPTO);
    /* Each batch is another one. */
    fixture_random(f, wide);
    assert_ok(seal_batch_begin(&wrong, &f->genesis.network.readings, wide));
    assert_memory_not_equal(&wrong, &batch, sizeof batch);
}

static void a_commitment_is_the_hash_of_salt_and_report(void **state)
{
    (void)state;
    uint8_t bytes[16 + 30];
    fixture_bytes(&f->rng, bytes, sizeof bytes);
    sm3_digest c = report_commitment(bytes, span_of(bytes + 16, 30));
    sm3_digest expected = sm3(span_of(bytes, sizeof bytes));
    assert_memory_equal(&c, &expected, sizeof c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_round_trips),
        cmocka_unit_test(every_byte_is_signed),
        cmocka_unit_test(signatures_cover_what_they_must),
        cmocka_unit_test(values_that_no_transaction_has),
        cmocka_unit_test(the_largest_transaction),
        cmocka_unit_test(bodies_that_are_cut_or_too_long),
        cmocka_unit_test(only_the_mdms_opens_what_is_sealed),
        cmocka_unit_test(a_commitment_is_the_hash_of_salt_and_report),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
