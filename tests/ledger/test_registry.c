/* The registry's rules (docs/ledger-format.md, "Registry"), staging, and its root. */
#include "tests/harness.h"

#include "ledger/internal.h"
#include "tests/ledger/fixture.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

static struct fixture *f;
static struct fixture_body *body;

static int start(void **state)
{
    (void)state;
    f = fixture_new(4, 11);
    body = fixture_body();
    return 0;
}

static int stop(void **state)
{
    (void)state;
    fixture_free(f);
    free(body);
    return 0;
}

/* Stages the last transaction of `body`. */
static enum ami_status stage_last(void)
{
    struct tx_view tx;
    assert_ok(tx_view_parse(&tx, fixture_last(body)));
    return registry_stage_tx(f->registry, &tx);
}

static enum ami_status admits_last(void)
{
    struct tx_view tx;
    assert_ok(tx_view_parse(&tx, fixture_last(body)));
    return registry_admits(f->registry, &tx);
}

static void commit(void)
{
    registry_stage_commit(f->registry);
    f->tip.height++;
}

static void begin(void)
{
    registry_stage_begin(f->registry, f->tip.height + 1);
}

/* What the root has to be: over the encodings of all records, from scratch. */
static sm3_digest root_from_scratch(const struct registry *r)
{
    size_t n = (size_t)registry_size(r);
    sm3_digest *leaves = calloc(n, sizeof *leaves);
    assert_non_null(leaves);
    for (size_t i = 0; i < n; i++) {
        uint8_t bytes[RECORD_BYTES_MAX];
        struct writer w = writer_on(bytes, sizeof bytes);
        record_encode(&w, registry_at(r, i));
        assert_true(writer_ok(&w));
        leaves[i] = merkle_leaf(writer_span(&w));
    }
    sm3_digest root = merkle_root(leaves, n);
    free(leaves);
    return root;
}

static void assert_digest(sm3_digest a, sm3_digest b)
{
    assert_memory_equal(&a, &b, sizeof a);
}

static const struct record *find_meter(const struct fixture_device *m)
{
    return registry_find(f->registry, RECORD_METER, &m->name, m->epoch);
}

static struct fixture_device enrolled_meter(unsigned number)
{
    struct fixture_device m = fixture_meter(f, number);
    fixture_meter_enrol(f, body, &m, &f->dc[0].name);
    begin();
    assert_ok(stage_last());
    commit();
    return m;
}

/* A report with a number of the test's choice; nothing here looks at its signatures. */
static enum ami_status stage_number(const struct fixture_device *m, uint64_t sequence)
{
    struct tx_view tx = {.tx.kind = TX_REPORT};
    tx.u.report.meter.meter = m->name;
    tx.u.report.meter.epoch = m->epoch;
    tx.u.report.meter.sequence = sequence;
    tx.u.report.gateway.dc = f->dc[1].name;
    tx.u.report.gateway.dc_epoch = 1;
    return registry_stage_tx(f->registry, &tx);
}

static enum ami_status stage_skip(const struct fixture_device *m, uint64_t below)
{
    struct tx_view tx = {.tx.kind = TX_SKIP};
    tx.u.skip.meter = m->name;
    tx.u.skip.epoch = m->epoch;
    tx.u.skip.below = below;
    return registry_stage_tx(f->registry, &tx);
}

static void the_genesis_state(void **state)
{
    (void)state;
    struct registry *r = f->registry;
    assert_int_equal(registry_size(r), 5);
    assert_int_equal(registry_at(r, 0)->kind, RECORD_MDMS);
    assert_string_equal(registry_at(r, 0)->name.text, "mdms");
    for (uint64_t i = 1; i <= 4; i++) {
        const struct record *rec = registry_at(r, i);
        assert_int_equal(rec->kind, RECORD_DC);
        assert_true(ami_id_equal(&rec->name, &f->dc[i - 1].name));
        assert_ptr_equal(registry_find(r, RECORD_DC, &rec->name, 1), rec);
        assert_ptr_equal(registry_find(r, RECORD_DC, &rec->name, 0), rec);
        assert_null(registry_find(r, RECORD_DC, &rec->name, 2));
        assert_null(registry_find(r, RECORD_METER, &rec->name, 1));
        assert_int_equal(registry_index_of(r, rec), i);
        const struct verify_key *key = registry_key(r, rec);
        assert_non_null(key);
        assert_true(point_equal(&key->p, &f->dc[i - 1].key.public_key.p));
        assert_ptr_equal(registry_key(r, rec), key);
    }
    assert_digest(registry_root(r), root_from_scratch(r));
}

static void the_window_and_its_edges(void **state)
{
    (void)state;
    struct record rec = {.kind = RECORD_METER, .epoch = 1, .floor = 1};
    assert_status(record_admits(&rec, 0), AMI_SEQUENCE_SETTLED);
    assert_ok(record_admits(&rec, 1));
    assert_ok(record_admits(&rec, 64));
    assert_status(record_admits(&rec, 65), AMI_SEQUENCE_AHEAD);
    rec.floor = 1000;
    rec.window = UINT64_C(1) << 63 | 2;
    assert_status(record_admits(&rec, 999), AMI_SEQUENCE_SETTLED);
    assert_ok(record_admits(&rec, 1000));
    assert_status(record_admits(&rec, 1001), AMI_SEQUENCE_SETTLED);
    assert_ok(record_admits(&rec, 1062));
    assert_status(record_admits(&rec, 1063), AMI_SEQUENCE_SETTLED);
    assert_status(record_admits(&rec, 1064), AMI_SEQUENCE_AHEAD);
    rec.window = 0;
    for (uint64_t back = 0; back < 70; back++) {
        rec.floor = UINT64_MAX - back;
        assert_status(record_admits(&rec, UINT64_MAX), AMI_SEQUENCE_AHEAD);
        if (back > 0 && back <= 64)
            assert_ok(record_admits(&rec, UINT64_MAX - 1));
        assert_status(record_admits(&rec, rec.floor - 1), AMI_SEQUENCE_SETTLED);
    }
}

/* Any order of 64 numbers is accepted once each; the floor follows the settled run. */
static void reports_in_any_order_settle_once(void **state)
{
    (void)state;
    struct fixture_device m = enrolled_meter(1);
    bool settled[400] = {false};
    uint64_t floor = 1;
    for (unsigned step = 0; step < 1500; step++) {
        uint64_t n = fixture_u64(&f->rng) % (floor + 70);
        begin();
        enum ami_status expected = n == 0 || settled[n] ? AMI_SEQUENCE_SETTLED
                                   : n >= floor + 64    ? AMI_SEQUENCE_AHEAD
                                                        : AMI_OK;
        assert_status(stage_number(&m, n), expected);
        if (expected != AMI_OK) {
            registry_stage_drop(f->registry);
            continue;
        }
        assert_status(stage_number(&m, n), AMI_SEQUENCE_SETTLED);
        commit();
        settled[n] = true;
        while (settled[floor])
            floor++;
        assert_int_equal(find_meter(&m)->floor, floor);
        if (floor > 300)
            break;
    }
    assert_true(floor > 20);
    assert_digest(registry_root(f->registry), root_from_scratch(f->registry));
}

/* A stored record brings a meter to the end of the numbers. */
static void numbers_near_the_end(void **state)
{
    (void)state;
    struct fixture_device m = enrolled_meter(1);
    struct record rec = *find_meter(&m);
    rec.floor = UINT64_MAX - 3;
    assert_ok(registry_load(f->registry, registry_index_of(f->registry, find_meter(&m)), &rec));
    begin();
    assert_status(stage_number(&m, UINT64_MAX), AMI_SEQUENCE_AHEAD);
    assert_ok(stage_number(&m, UINT64_MAX - 2));
    assert_ok(stage_number(&m, UINT64_MAX - 1));
    assert_status(stage_number(&m, 1), AMI_SEQUENCE_SETTLED);
    assert_ok(stage_number(&m, UINT64_MAX - 3));
    commit();
    assert_true(find_meter(&m)->floor == UINT64_MAX && find_meter(&m)->window == 0);
    begin();
    assert_status(stage_number(&m, UINT64_MAX), AMI_SEQUENCE_AHEAD);
    assert_status(stage_number(&m, UINT64_MAX - 1), AMI_SEQUENCE_SETTLED);
    assert_status(stage_skip(&m, UINT64_MAX), AMI_SEQUENCE_SETTLED);
    registry_stage_drop(f->registry);
}

static void skips(void **state)
{
    (void)state;
    struct fixture_device m = enrolled_meter(1);
    begin();
    assert_status(stage_skip(&m, 0), AMI_SEQUENCE_SETTLED);
    assert_status(stage_skip(&m, 1), AMI_SEQUENCE_SETTLED);
    assert_status(stage_skip(&m, 66), AMI_SEQUENCE_AHEAD);
    assert_status(stage_skip(&m, UINT64_MAX), AMI_SEQUENCE_AHEAD);
    assert_ok(stage_number(&m, 5));
    assert_ok(stage_number(&m, 64));
    assert_ok(stage_skip(&m, 5)); /* the floor slides over 5 */
    assert_status(stage_number(&m, 5), AMI_SEQUENCE_SETTLED);
    assert_ok(stage_number(&m, 6));
    assert_status(stage_number(&m, 64), AMI_SEQUENCE_SETTLED);
    assert_ok(stage_number(&m, 70));
    commit();
    assert_int_equal(find_meter(&m)->floor, 7);
    begin();
    assert_status(stage_skip(&m, 5), AMI_SEQUENCE_SETTLED); /* seen before */
    assert_ok(stage_skip(&m, 71));                          /* all of the window */
    assert_ok(stage_number(&m, 71));
    commit();
    assert_int_equal(find_meter(&m)->floor, 72);
    assert_true(find_meter(&m)->window == 0);
    /* A real one, signed by the meter. */
    fixture_skip(f, body, &m, 100);
    assert_ok(admits_last());
    struct tx_view tx;
    struct tx_check check;
    assert_ok(tx_view_parse(&tx, fixture_last(body)));
    assert_ok(registry_check_prepare(f->registry, &tx, &check));
    assert_ok(tx_check_run(&check, &tx));
    /* Many at once: each has its own answer, and one that has one already keeps it. */
    struct tx_view many[TX_CHECK_BATCH];
    struct tx_check checks[TX_CHECK_BATCH];
    enum ami_status status[TX_CHECK_BATCH];
    for (size_t i = 0; i < TX_CHECK_BATCH; i++) {
        many[i] = tx;
        checks[i] = check;
        status[i] = i == 9 ? AMI_REVOKED : AMI_OK;
        if (i % 7 == 3)
            many[i].u.skip.signature.b[i % 64] ^= 4;
    }
    tx_check_run_batch(checks, many, status, TX_CHECK_BATCH);
    for (size_t i = 0; i < TX_CHECK_BATCH; i++)
        assert_status(status[i], i == 9 ? AMI_REVOKED : i % 7 == 3 ? AMI_BAD_SIGNATURE : AMI_OK);
    tx.u.skip.signature.b[7] ^= 1;
    assert_status(tx_check_run(&check, &tx), AMI_BAD_SIGNATURE);
    struct fixture_device stranger = fixture_meter(f, 2);
    begin();
    assert_status(stage_skip(&stranger, 5), AMI_UNKNOWN_DEVICE);
    registry_stage_drop(f->registry);
}

static void the_mdms_numbers_its_transactions(void **state)
{
    (void)state;
    struct fixture_device a = fixture_meter(f, 1), b = fixture_meter(f, 2);
    begin();
    f->mdms_number = 1;
    fixture_meter_enrol(f, body, &a, &f->dc[0].name); /* number 2 */
    assert_status(stage_last(), AMI_SEQUENCE_AHEAD);
    assert_ok(admits_last()); /* it may wait */
    f->mdms_number = REGISTRY_NUMBERS_AHEAD_MAX;
    fixture_meter_enrol(f, body, &a, &f->dc[0].name);
    assert_status(admits_last(), AMI_SEQUENCE_AHEAD); /* too far ahead to wait */
    f->mdms_number = UINT64_MAX - 1;
    fixture_meter_enrol(f, body, &a, &f->dc[0].name);
    assert_status(stage_last(), AMI_SEQUENCE_AHEAD);
    f->mdms_number = 0;
    fixture_meter_enrol(f, body, &a, &f->dc[0].name); /* number 1 */
    assert_ok(admits_last());
    assert_ok(stage_last());
    assert_status(stage_last(), AMI_SEQUENCE_SETTLED);
    fixture_meter_enrol(f, body, &b, &f->dc[0].name); /* number 2 */
    assert_ok(stage_last());
    commit();
    assert_int_equal(registry_at(f->registry, 0)->floor, 2);
    assert_status(admits_last(), AMI_SEQUENCE_SETTLED);
    /* At the end of the numbers. */
    struct record mdms = *registry_at(f->registry, 0);
    mdms.floor = UINT64_MAX - 1;
    assert_ok(registry_load(f->registry, 0, &mdms));
    begin();
    f->mdms_number = UINT64_MAX - 1;
    fixture_revoke(f, body, 1, &a.name, 1);
    assert_ok(stage_last());
    f->mdms_number = 0;
    fixture_revoke(f, body, 1, &b.name, 1);
    assert_status(stage_last(), AMI_SEQUENCE_SETTLED);
    registry_stage_drop(f->registry);
}

static void enrolments(void **state)
{
    (void)state;
    struct fixture_device m = fixture_meter(f, 1);
    struct ami_id nobody = fixture_id("nobody");
    begin();
    fixture_meter_enrol(f, body, &m, &nobody);
    assert_status(stage_last(), AMI_UNKNOWN_DEVICE);
    f->mdms_number = 0;
    fixture_meter_enrol(f, body, &m, &m.name); /* a meter is no home */
    assert_status(stage_last(), AMI_UNKNOWN_DEVICE);
    struct fixture_device second = fixture_device(f, ROLE_METER_REPORT, m.name, 2);
    f->mdms_number = 0;
    fixture_meter_enrol(f, body, &second, &f->dc[0].name);
    assert_status(stage_last(), AMI_WRONG_EPOCH); /* 1 comes first */
    struct fixture_device bad = m;
    memset(bad.w.b, 0xff, sizeof bad.w.b);
    f->mdms_number = 0;
    fixture_meter_enrol(f, body, &bad, &f->dc[0].name);
    assert_status(stage_last(), AMI_BAD_CRYPTO);
    assert_int_equal(registry_at(f->registry, 0)->floor, 0);
    f->mdms_number = 0;
    fixture_meter_enrol(f, body, &m, &f->dc[3].name);
    assert_ok(stage_last()); /* the failures above left no trace */
    fixture_meter_enrol(f, body, &m, &f->dc[3].name);
    assert_status(stage_last(), AMI_ALREADY_ENROLLED);
    f->mdms_number--;
    fixture_meter_enrol(f, body, &second, &f->dc[2].name); /* epoch 2 in the same block */
    assert_ok(stage_last());
    struct fixture_device fourth = fixture_device(f, ROLE_METER_REPORT, m.name, 4);
    fixture_meter_enrol(f, body, &fourth, &f->dc[2].name);
    assert_status(stage_last(), AMI_WRONG_EPOCH);
    assert_null(find_meter(&m)); /* not committed yet */
    assert_int_equal(registry_size(f->registry), 5);
    sm3_digest staged = registry_stage_root(f->registry);
    commit();
    assert_digest(registry_root(f->registry), staged);
    assert_digest(root_from_scratch(f->registry), staged);
    const struct record *rec = find_meter(&m);
    assert_non_null(rec);
    assert_int_equal(rec->enrolled_at, 1);
    assert_true(ami_id_equal(&rec->home_dc, &f->dc[3].name));
    assert_memory_equal(rec->agree_part, m.agree_part, sizeof m.agree_part);
    assert_int_equal(registry_find(f->registry, RECORD_METER, &m.name, 0)->epoch, 2);
    assert_ptr_equal(registry_find(f->registry, RECORD_METER, &m.name, 1), rec);
    assert_null(registry_find(f->registry, RECORD_METER, &m.name, 3));
    /* Epoch 1 stays valid. */
    begin();
    assert_ok(stage_number(&m, 1));
    assert_ok(stage_number(&second, 1));
    f->mdms_number = registry_at(f->registry, 0)->floor;
    fixture_meter_enrol(f, body, &m, &f->dc[0].name);
    assert_status(stage_last(), AMI_ALREADY_ENROLLED);
    registry_stage_drop(f->registry);
}

static void enrolments_of_dcs(void **state)
{
    (void)state;
    struct fixture_device dc = fixture_device(f, ROLE_DC_SIGN, fixture_id("dc-9"), 1);
    struct fixture_device rotated = fixture_device(f, ROLE_DC_SIGN, f->dc[0].name, 2);
    struct fixture_device m = fixture_meter(f, 1);
    struct fixture_device again = f->dc[0];
    begin();
    fixture_dc_enrol(f, body, &again);
    assert_status(stage_last(), AMI_ALREADY_ENROLLED);
    f->mdms_number = 0;
    fixture_dc_enrol(f, body, &dc);
    assert_ok(stage_last());
    fixture_meter_enrol(f, body, &m, &dc.name); /* a home of this very block */
    assert_ok(stage_last());
    fixture_dc_enrol(f, body, &rotated);
    assert_ok(stage_last());
    /* It may be a gateway at once. */
    fixture_report(f, body, &m, &dc, 10);
    assert_ok(stage_last());
    fixture_report(f, body, &m, &rotated, 10);
    assert_ok(stage_last());
    fixture_report(f, body, &m, &f->dc[0], 10);
    assert_ok(stage_last());
    commit();
    assert_int_equal(registry_find(f->registry, RECORD_DC, &dc.name, 0)->epoch, 1);
    assert_int_equal(registry_find(f->registry, RECORD_DC, &rotated.name, 0)->epoch, 2);
    assert_int_equal(find_meter(&m)->floor, 4);
}

static void revocation_applies_from_its_place_on(void **state)
{
    (void)state;
    struct fixture_device m = enrolled_meter(1), n = enrolled_meter(2);
    struct ami_id nobody = fixture_id("nobody");
    begin();
    fixture_report(f, body, &m, &f->dc[2], 10);
    assert_ok(stage_last());
    fixture_revoke(f, body, 1, &nobody, 1);
    assert_status(stage_last(), AMI_UNKNOWN_DEVICE);
    f->mdms_number--;
    fixture_revoke(f, body, 2, &m.name, 1); /* a meter, not a DC */
    assert_status(stage_last(), AMI_UNKNOWN_DEVICE);
    f->mdms_number--;
    fixture_revoke(f, body, 1, &m.name, 2);
    assert_status(stage_last(), AMI_UNKNOWN_DEVICE);
    f->mdms_number--;
    fixture_revoke(f, body, 1, &m.name, 1);
    assert_ok(stage_last());
    /* Later in the same block. */
    fixture_report(f, body, &m, &f->dc[2], 10);
    assert_status(stage_last(), AMI_REVOKED);
    fixture_skip(f, body, &m, 9);
    assert_status(stage_last(), AMI_REVOKED);
    fixture_revoke(f, body, 1, &m.name, 1);
    assert_status(stage_last(), AMI_REVOKED);
    f->mdms_number--;
    fixture_revoke(f, body, 2, &f->dc[2].name, 1);
    assert_ok(stage_last());
    fixture_report(f, body, &n, &f->dc[2], 10); /* a gateway that is no longer one */
    assert_status(stage_last(), AMI_REVOKED);
    assert_ok(admits_last()); /* the committed state does not know yet */
    n.sequence--;
    fixture_report(f, body, &n, &f->dc[1], 10);
    assert_ok(stage_last());
    assert_int_equal(find_meter(&m)->revoked_at, 0);
    commit();
    assert_int_equal(find_meter(&m)->revoked_at, f->tip.height);
    assert_int_equal(find_meter(&m)->floor, 2);
    fixture_report(f, body, &m, &f->dc[1], 10);
    assert_status(admits_last(), AMI_REVOKED);
    /* The next epoch works again. */
    struct fixture_device next = fixture_device(f, ROLE_METER_REPORT, m.name, 2);
    begin();
    fixture_meter_enrol(f, body, &next, &f->dc[0].name);
    assert_ok(stage_last());
    fixture_report(f, body, &next, &f->dc[1], 10);
    assert_ok(stage_last());
    commit();
}

/* Evidence is taken once for each key and kind, whatever the statements; the DC's record remembers
 * it, and a revoked key is as accountable as before. */
static void evidence_once_for_each_key_and_kind(void **state)
{
    (void)state;
    static struct fixture_evidence x;
    const sm3_digest before = registry_root(f->registry);
    begin();
    fixture_revoke(f, body, 2, &f->dc[1].name, 1);
    assert_ok(stage_last());
    for (uint8_t accused = 0; accused < 4; accused++)
        for (uint8_t kind = EVIDENCE_VOTES; kind < EVIDENCE_KIND_END; kind++) {
            fixture_evidence(&x, f, accused, kind);
            fixture_evidence_tx(body, &x.e);
            assert_ok(admits_last());
            assert_ok(stage_last());
            assert_status(stage_last(), AMI_EXISTS);
            fixture_evidence(&x, f, accused, kind); /* signed anew: other bytes */
            fixture_evidence_tx(body, &x.e);
            assert_status(stage_last(), AMI_EXISTS);
        }
    commit();
    assert_status(admits_last(), AMI_EXISTS);
    for (uint64_t i = 1; i <= 4; i++) {
        assert_int_equal(registry_at(f->registry, i)->window, 0x7e);
        assert_int_equal(registry_at(f->registry, i)->floor, 1);
    }
    sm3_digest after = registry_root(f->registry);
    assert_memory_not_equal(&before, &after, sizeof after);
    assert_digest(after, root_from_scratch(f->registry));
    /* Not for these members. */
    struct tx_view tx;
    assert_ok(tx_view_parse(&tx, fixture_last(body)));
    tx.u.evidence.epoch = 2;
    assert_status(registry_admits(f->registry, &tx), AMI_WRONG_EPOCH);
    tx.u.evidence.epoch = 1;
    tx.u.evidence.accused = 4;
    assert_status(registry_admits(f->registry, &tx), AMI_BAD_ARGUMENT);
    tx.u.evidence.chain.b[0] ^= 1;
    assert_status(registry_admits(f->registry, &tx), AMI_WRONG_CHAIN);
}

/* Finds, roots and admission look at the committed state while another one is staged. */
static void the_committed_state_shines_through(void **state)
{
    (void)state;
    struct fixture_device m = enrolled_meter(1);
    sm3_digest before = registry_root(f->registry);
    begin();
    fixture_report(f, body, &m, &f->dc[0], 10);
    assert_ok(stage_last());
    assert_status(stage_last(), AMI_SEQUENCE_SETTLED);
    assert_ok(admits_last());
    assert_digest(registry_root(f->registry), before);
    sm3_digest staged = registry_stage_root(f->registry);
    assert_memory_not_equal(&staged, &before, sizeof before);
    assert_digest(registry_root(f->registry), before);
    assert_int_equal(find_meter(&m)->floor, 1);
    assert_int_equal(registry_at(f->registry, 5)->floor, 1);
    /* A key that is recovered meanwhile stays. */
    const struct verify_key *key = registry_key(f->registry, find_meter(&m));
    assert_non_null(key);
    commit();
    assert_ptr_equal(registry_key(f->registry, find_meter(&m)), key);
    assert_digest(registry_root(f->registry), staged);
    assert_int_equal(find_meter(&m)->floor, 2);
    assert_status(admits_last(), AMI_SEQUENCE_SETTLED);
}

struct copy {
    struct registry *r;
    uint64_t last;
    unsigned calls;
};

/* What the store does: writes the encoding, and another start reads it. */
static void put(void *ctx, uint64_t index, const struct record *rec)
{
    struct copy *c = ctx;
    uint8_t bytes[RECORD_BYTES_MAX];
    struct writer w = writer_on(bytes, sizeof bytes);
    struct record again;
    record_encode(&w, rec);
    assert_true(writer_ok(&w));
    assert_ok(record_parse(&again, writer_span(&w)));
    assert_true(c->calls == 0 || index > c->last);
    c->last = index;
    c->calls++;
    assert_ok(registry_load(c->r, index, &again));
}

/* One random block: enrolments, reports, skips, revocations; many of them are refused. */
static void random_block(struct fixture_device *m, size_t *count, size_t max)
{
    size_t steps = 1 + fixture_u64(&f->rng) % 30;
    fixture_clear(body);
    for (size_t i = 0; i < steps; i++) {
        uint64_t what = fixture_u64(&f->rng) % 20;
        struct fixture_device *d = *count == 0 ? NULL : &m[fixture_u64(&f->rng) % *count];
        uint64_t number = f->mdms_number;
        if ((what == 0 && *count < max) || d == NULL) {
            m[*count] = fixture_meter(f, (unsigned)*count);
            fixture_meter_enrol(f, body, &m[*count], &f->dc[*count % 4].name);
            assert_ok(stage_last());
            ++*count;
        } else if (what == 1) {
            fixture_revoke(f, body, 1, &d->name, d->epoch);
            if (stage_last() != AMI_OK)
                f->mdms_number = number;
        } else if (what == 2) {
            (void)!stage_skip(d, fixture_u64(&f->rng) % 100);
        } else {
            (void)!stage_number(d, 1 + fixture_u64(&f->rng) % 90);
        }
    }
}

/* Dropping a stage is as if it had never been; committing it, as if it had been loaded from disk or
 * replayed from the start: the roots say so. */
static void drop_commit_load_and_replay_agree(void **state)
{
    (void)state;
    enum { METERS = 90 };
    struct fixture_device *m = calloc(METERS, sizeof *m);
    struct registry *loaded = registry_new(&f->genesis);
    size_t count = 0;
    assert_non_null(m);
    assert_non_null(loaded);
    for (unsigned round = 0; round < 48; round++) {
        uint64_t rng = f->rng, number = f->mdms_number;
        size_t count_before = count;
        sm3_digest before = registry_root(f->registry);
        begin();
        random_block(m, &count, METERS);
        if (round % 2 == 0)
            (void)registry_stage_root(f->registry); /* in between, and once more */
        random_block(m, &count, METERS);
        sm3_digest first = registry_stage_root(f->registry);
        if (round % 3 == 1)
            assert_digest(registry_stage_root(f->registry), first);
        if (round % 3 == 2)
            random_block(m, &count, METERS); /* more, whose root nobody asks for */
        registry_stage_drop(f->registry);
        assert_digest(registry_root(f->registry), before);
        assert_digest(root_from_scratch(f->registry), before);
        /* The same again. */
        f->rng = rng;
        f->mdms_number = number;
        count = count_before;
        begin();
        random_block(m, &count, METERS);
        if (round % 2 == 1)
            (void)registry_stage_root(f->registry);
        random_block(m, &count, METERS);
        struct copy c = {.r = loaded};
        registry_stage_changes(f->registry, put, &c);
        if (round % 4 < 2)
            assert_digest(registry_stage_root(f->registry), first);
        commit();
        assert_digest(registry_root(f->registry), first);
        assert_digest(root_from_scratch(f->registry), first);
        assert_digest(registry_root(loaded), first);
    }
    assert_true(count > 20);
    registry_free(loaded);
    free(m);
}

static void records_that_cannot_be(void **state)
{
    (void)state;
    struct fixture_device m = enrolled_meter(1);
    const struct record good = *find_meter(&m);
    const struct record mdms = *registry_at(f->registry, 0), dc = *registry_at(f->registry, 1);
    uint8_t bytes[RECORD_BYTES_MAX + 1];
    struct record rec;
    const struct record *const all[] = {&good, &mdms, &dc};
    for (size_t i = 0; i < 3; i++) {
        struct writer w = writer_on(bytes, sizeof bytes);
        record_encode(&w, all[i]);
        assert_ok(record_parse(&rec, writer_span(&w)));
        for (size_t cut = 0; cut < w.size; cut++)
            assert_status(record_parse(&rec, span_of(bytes, cut)), AMI_BAD_ENCODING);
        bytes[w.size] = 0;
        assert_status(record_parse(&rec, span_of(bytes, w.size + 1)), AMI_BAD_ENCODING);
    }
    struct record bad[11];
    for (size_t i = 0; i < 11; i++)
        bad[i] = i < 5 ? good : i < 7 ? mdms : dc;
    bad[0].window = 1;
    bad[1].epoch = 0;
    bad[2].floor = 0;
    bad[3].kind = 3;
    bad[4].enrolled_at = 0;
    bad[5].window = 1; /* there is no block below height 1 */
    bad[6].revoked_at = 1;
    bad[7].member_from = 2;
    bad[7].window = 2 << 8;
    bad[9].member_from = 0;
    bad[9].window = 2 << 8;
    bad[8].enrolled_at = 9;
    bad[8].revoked_at = 8;
    bad[10].window = UINT64_C(1) << EVIDENCE_KIND_END;
    for (size_t i = 0; i < 11; i++) {
        struct writer w = writer_on(bytes, sizeof bytes);
        record_encode(&w, &bad[i]);
        assert_status(record_parse(&rec, writer_span(&w)), AMI_BAD_ENCODING);
    }
    /* Records that cannot stand where they are loaded. */
    rec = good;
    rec.name = fixture_id("m-2");
    assert_status(registry_load(f->registry, 7, &rec), AMI_DAMAGED);
    rec.epoch = 2;
    assert_status(registry_load(f->registry, 6, &rec), AMI_DAMAGED);
    rec.epoch = 1;
    assert_ok(registry_load(f->registry, 6, &rec));
    assert_status(registry_load(f->registry, 7, &rec), AMI_DAMAGED);
    assert_status(registry_load(f->registry, 7, &mdms), AMI_DAMAGED);
    assert_status(registry_load(f->registry, 7, &dc), AMI_DAMAGED);
    rec = dc;
    rec.w = good.w;
    assert_status(registry_load(f->registry, 1, &rec), AMI_DAMAGED);
    assert_status(registry_load(f->registry, 2, &dc), AMI_DAMAGED);
    assert_status(registry_load(f->registry, 1, &good), AMI_DAMAGED);
}

/* A city: 100,000 meters. What a record costs in memory is bounded, and so is a block's work: the
 * stage of one report does not grow with the registry. */
static void a_hundred_thousand_meters(void **state)
{
    (void)state;
    enum { METERS = 100000 };
    struct fixture_device m = fixture_meter(f, 0);
    struct record rec = {.kind = RECORD_METER,
                         .epoch = 1,
                         .home_dc = f->dc[0].name,
                         .w = m.w,
                         .agree_part_size = 33,
                         .enrolled_at = 1,
                         .floor = 1};
    size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    for (unsigned i = 0; i < METERS; i++) {
        rec.name = fixture_id("meter-%06u", i);
        assert_ok(registry_load(f->registry, 5 + i, &rec));
    }
    size_t used = mallinfo2().uordblks + mallinfo2().hblkhd - before;
    (void)registry_root(f->registry);
    /* mallinfo2 shows nothing under AddressSanitizer. */
    assert_true(used < METERS * (size_t)420);
    f->tip.height = 1;
    for (unsigned i = 0; i < 2000; i++) {
        m.name = fixture_id("meter-%06u", (unsigned)(fixture_u64(&f->rng) % METERS));
        assert_non_null(find_meter(&m));
        begin();
        assert_ok(stage_number(&m, 1 + i % 64 + find_meter(&m)->floor - 1));
        (void)registry_stage_root(f->registry);
        if (i % 2 == 0)
            registry_stage_drop(f->registry);
        else
            commit();
    }
    assert_digest(registry_root(f->registry), root_from_scratch(f->registry));
}

static void what_the_pool_checks_before_it_takes_a_transaction(void **state)
{
    (void)state;
    struct fixture_device m = enrolled_meter(1), stranger = fixture_meter(f, 2);
    struct tx_view tx;
    struct tx_check check;
    fixture_report(f, body, &m, &f->dc[0], 40);
    assert_ok(tx_view_parse(&tx, fixture_last(body)));
    assert_ok(registry_check_prepare(f->registry, &tx, &check));
    assert_ok(tx_check_run(&check, &tx));
    fixture_report(f, body, &stranger, &f->dc[0], 40);
    assert_ok(tx_view_parse(&tx, fixture_last(body)));
    assert_status(registry_check_prepare(f->registry, &tx, &check), AMI_UNKNOWN_DEVICE);
    assert_status(admits_last(), AMI_UNKNOWN_DEVICE);
    struct fixture_device other = fixture_device(f, ROLE_DC_SIGN, fixture_id("dc-9"), 1);
    fixture_report(f, body, &m, &other, 40);
    assert_ok(tx_view_parse(&tx, fixture_last(body)));
    assert_status(registry_check_prepare(f->registry, &tx, &check), AMI_UNKNOWN_DEVICE);
    assert_status(admits_last(), AMI_UNKNOWN_DEVICE);
    /* An enrolment whose W leads to no key stays outside. */
    memset(stranger.w.b + 1, 0xff, 32);
    fixture_meter_enrol(f, body, &stranger, &f->dc[0].name);
    assert_ok(tx_view_parse(&tx, fixture_last(body)));
    assert_ok(registry_check_prepare(f->registry, &tx, &check));
    assert_status(tx_check_run(&check, &tx), AMI_BAD_CRYPTO);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        TEST(the_genesis_state),
        TEST(the_window_and_its_edges),
        TEST(reports_in_any_order_settle_once),
        TEST(numbers_near_the_end),
        TEST(skips),
        TEST(the_mdms_numbers_its_transactions),
        TEST(enrolments),
        TEST(enrolments_of_dcs),
        TEST(revocation_applies_from_its_place_on),
        TEST(evidence_once_for_each_key_and_kind),
        TEST(the_committed_state_shines_through),
        TEST(drop_commit_load_and_replay_agree),
        TEST(records_that_cannot_be),
        TEST(a_hundred_thousand_meters),
        TEST(what_the_pool_checks_before_it_takes_a_transaction),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
