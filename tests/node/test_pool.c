#include "tests/harness.h"

#include "crypto/secret.h"
#include "node/pool.h"
#include "tests/ledger/fixture.h"

#include <stdlib.h>
#include <string.h>

/* A report transaction that parses; nobody checks signatures in the pool. */
static struct span make_report(uint8_t *out, size_t capacity, const char *meter, uint64_t sequence,
                               uint8_t salt)
{
    struct report_meter_part m = {.epoch = 1, .sequence = sequence};
    struct report_gateway_part g = {.dc_epoch = 1, .timestamp_ms = salt};
    assert_ok(ami_id_from_text(&m.meter, meter));
    assert_ok(ami_id_from_text(&g.dc, "dc1"));
    uint8_t sealed[40];
    memset(sealed, salt, sizeof sealed);
    g.sealed = span_of(sealed, sizeof sealed);
    struct writer w = writer_on(out, capacity);
    report_tx_encode(&w, &m, &g);
    assert_true(writer_ok(&w));
    return writer_span(&w);
}

static struct pool_entry *add(struct pool *p, const char *meter, uint64_t sequence, uint8_t source,
                              uint64_t now_us)
{
    uint8_t bytes[1024];
    struct pool_entry *e = NULL;
    assert_ok(pool_add(p, make_report(bytes, sizeof bytes, meter, sequence, 0), source, source == 0,
                       now_us, &e));
    assert_non_null(e);
    return e;
}

static void keeps_order_and_finds_again(void **state)
{
    (void)state;
    struct pool *p = pool_new((struct pool_limits){100, 1u << 20});
    for (uint64_t i = 1; i <= 10; i++)
        add(p, i % 2 ? "m1" : "m2", i, (uint8_t)(i % 3), i);
    assert_int_equal(pool_count(p), 10);
    uint64_t expected = 1;
    for (struct pool_entry *e = pool_first(p); e != NULL; e = pool_next(e))
        assert_int_equal(e->view.u.report.meter.sequence, expected++);
    struct ami_id m1;
    assert_ok(ami_id_from_text(&m1, "m1"));
    struct pool_entry *e = pool_find_report(p, &m1, 1, 5);
    assert_non_null(e);
    struct tx_view tx = e->view;
    assert_ptr_equal(pool_find(p, &tx), e);
    assert_null(pool_find_report(p, &m1, 1, 6));
    assert_null(pool_find_report(p, &m1, 2, 5));
    pool_remove(p, e, 20);
    assert_null(pool_find(p, &tx));
    assert_null(pool_find_report(p, &m1, 1, 5));
    assert_int_equal(pool_count(p), 9);
    pool_free(p);
}

/* Two gateways may seal the same report: one place on the ledger, one place here. */
static void refuses_repeats_and_rivals(void **state)
{
    (void)state;
    struct pool *p = pool_new((struct pool_limits){100, 1u << 20});
    uint8_t bytes[1024];
    struct pool_entry *e;
    assert_ok(pool_add(p, make_report(bytes, sizeof bytes, "m", 1, 0), 1, false, 1, &e));
    assert_status(pool_add(p, make_report(bytes, sizeof bytes, "m", 1, 0), 2, false, 1, &e),
                  AMI_EXISTS);
    assert_status(pool_add(p, make_report(bytes, sizeof bytes, "m", 1, 9), 2, false, 1, &e),
                  AMI_EXISTS);
    bytes[0] ^= 0x40;
    assert_status(pool_add(p, span_of(bytes, 100), 2, false, 1, &e), AMI_BAD_ENCODING);
    assert_int_equal(pool_count(p), 1);
    pool_free(p);
}

static enum ami_status try(struct pool *p, uint64_t sequence, uint8_t source)
{
    uint8_t bytes[1024];
    return pool_add(p, make_report(bytes, sizeof bytes, "m", sequence, 0), source, source == 0, 1,
                    NULL);
}

static void is_bounded_by_count_and_bytes(void **state)
{
    (void)state;
    uint8_t bytes[1024];
    size_t one = make_report(bytes, sizeof bytes, "m", 1, 0).size;
    const size_t max = POOL_QUOTA + 10;
    for (int by_bytes = 0; by_bytes < 2; by_bytes++) {
        struct pool *p = by_bytes ? pool_new((struct pool_limits){1000, max * one})
                                  : pool_new((struct pool_limits){max, 1u << 20});
        for (uint64_t i = 1; i <= max; i++)
            assert_ok(try(p, i, 0));
        assert_status(try(p, max + 1, 0), AMI_AGAIN);
        /* A source within its quota is not shut out by the others. */
        assert_ok(try(p, max + 1, 1));
        pool_remove(p, pool_first(p), 2);
        pool_remove(p, pool_first(p), 2);
        assert_int_equal(pool_count(p), max - 1);
        assert_int_equal(pool_bytes(p), (max - 1) * one);
        assert_ok(try(p, max + 2, 0));
        assert_status(try(p, max + 3, 0), AMI_AGAIN);
        pool_free(p);
    }
}

/* No other DC can fill the pool alone, whatever it has got meters to sign. */
static void another_dc_takes_a_part_only(void **state)
{
    (void)state;
    const size_t max = 100 * POOL_FOREIGN_PART;
    struct pool *p = pool_new((struct pool_limits){max, 8u << 20});
    for (uint64_t i = 1; i <= 100; i++)
        assert_ok(try(p, i, 1));
    assert_status(try(p, 101, 1), AMI_AGAIN);
    for (uint64_t i = 101; i <= max; i++)
        assert_ok(try(p, i, 0));
    assert_status(try(p, max + 1, 0), AMI_AGAIN);
    pool_free(p);
}

static struct pool_entry *add_revoke(struct pool *p, uint64_t number, uint8_t salt, uint8_t source,
                                     uint64_t now_us, enum ami_status expected)
{
    struct revoke r = {.role = 1, .epoch = 1, .number = number};
    struct mdms_part second = {{{salt}}};
    uint8_t first_bytes[256], second_bytes[128], out[512];
    struct pool_entry *e = NULL;
    assert_ok(ami_id_from_text(&r.device, "m"));
    struct writer first = writer_on(first_bytes, sizeof first_bytes);
    revoke_encode(&first, &r);
    struct writer w2 = writer_on(second_bytes, sizeof second_bytes);
    mdms_part_encode(&w2, &second);
    struct tx tx = {TX_REVOKE, writer_span(&first), writer_span(&w2)};
    struct writer w = writer_on(out, sizeof out);
    tx_encode(&w, &tx);
    assert_true(writer_ok(&w));
    assert_status(pool_add(p, writer_span(&w), source, true, now_us, &e), expected);
    return e;
}

static unsigned listed(struct pool *p)
{
    unsigned count = 0;
    for (struct pool_entry *e = pool_first(p); e != NULL; e = pool_next(e))
        count++;
    return count;
}

/* What the ledger cannot take yet is nobody's fault: it has no timer and is not offered. */
static void numbers_wait_for_those_before_them(void **state)
{
    (void)state;
    struct pool *p = pool_new((struct pool_limits){1000, 1u << 20});
    pool_set_number(p, 10, 1);
    assert_null(add_revoke(p, 10, 1, POOL_SOURCE_MDMS, 1, AMI_SEQUENCE_SETTLED));
    add_revoke(p, 13, 1, 2, 100, AMI_OK);
    add_revoke(p, 12, 1, 3, 200, AMI_OK);
    assert_null(add_revoke(p, 12, 2, 4, 200, AMI_EXISTS)); /* a rival for the number */
    assert_int_equal(listed(p), 0);
    assert_int_equal(pool_count(p), 2);
    assert_true(pool_progress_deadline_us(p, 1000) == UINT64_MAX);
    struct pool_entry *e11 = add_revoke(p, 11, 1, 2, 300, AMI_OK);
    assert_int_equal(listed(p), 3);
    assert_int_equal(pool_first(p)->number, 11);
    assert_int_equal(pool_next(pool_first(p))->number, 12);
    assert_int_equal(pool_progress_deadline_us(p, 1000), 1300);
    assert_ptr_equal(pool_expired(p, 1000, 1300), e11);
    assert_null(pool_expired(p, 1000, 1299));
    /* One that proves to be worth nothing holds up those behind it. */
    pool_remove(p, e11, 400);
    assert_int_equal(listed(p), 0);
    assert_int_equal(pool_count(p), 2);
    assert_true(pool_progress_deadline_us(p, 1000) == UINT64_MAX);
    /* The ledger has got 11 from elsewhere. */
    pool_set_number(p, 11, 500);
    assert_int_equal(listed(p), 2);
    assert_int_equal(pool_progress_deadline_us(p, 1000), 1500);
    assert_non_null(pool_find_number(p, 12));
    pool_set_number(p, 12, 600);
    assert_null(pool_find_number(p, 12));
    assert_int_equal(pool_count(p), 1);
    assert_int_equal(pool_first_of(p, 2)->number, 13);
    assert_null(pool_first_of(p, 3));
    pool_free(p);
}

/* consensus.md rule 8: other commits do not reset a timer; only transactions inside the quota of
 * their source have one, so that a flood deposes nobody and hides nobody. */
static void timers_follow_the_quota(void **state)
{
    (void)state;
    struct pool *p = pool_new((struct pool_limits){10000, 8u << 20});
    assert_true(pool_progress_deadline_us(p, 1000) == UINT64_MAX);
    struct pool_entry *oldest = add(p, "m", 1, 3, 50);
    for (uint64_t i = 2; i <= 2 * POOL_QUOTA; i++)
        add(p, "m", i, 3, 100 + i);
    assert_int_equal(pool_progress_deadline_us(p, 1000), 1050);
    /* Another source has a quota of its own. */
    struct pool_entry *other = add(p, "n", 1, 4, 20);
    assert_int_equal(pool_progress_deadline_us(p, 1000), 1020);
    pool_remove(p, other, 900);
    assert_int_equal(pool_progress_deadline_us(p, 1000), 1050);
    /* The one that comes into the quota starts now, not when it arrived. */
    pool_remove(p, oldest, 900);
    assert_int_equal(pool_progress_deadline_us(p, 1000), 1102);
    struct pool_entry *next;
    unsigned removed = 0;
    for (struct pool_entry *e = pool_first(p); removed < POOL_QUOTA - 1; e = next, removed++) {
        next = pool_next(e);
        pool_remove(p, e, 900);
    }
    assert_int_equal(pool_progress_deadline_us(p, 1000), 1900);
    pool_restart_timers(p, 5000);
    assert_int_equal(pool_progress_deadline_us(p, 1000), 6000);
    pool_free(p);
}

/* Evidence: one piece for each member and kind, in the order of arrival, of no source and without a
 * timer; only against its own accused does it count how long it waits. */
static void evidence_starts_no_timers(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(4, 5);
    struct fixture_body *body = fixture_body();
    struct pool *p = pool_new((struct pool_limits){100, 1u << 20});
    static struct fixture_evidence x;
    struct pool_entry *e = NULL, *report;
    const uint64_t timeout = 1000;
    for (unsigned i = 0; i < 3; i++) {
        fixture_evidence(&x, f, 2, EVIDENCE_VOTES);
        fixture_evidence_tx(body, &x.e); /* other signatures each time */
        assert_status(pool_add(p, fixture_last(body), 1, false, 10 + i, &e),
                      i == 0 ? AMI_OK : AMI_EXISTS);
    }
    report = add(p, "m1", 1, 1, 20);
    fixture_evidence(&x, f, 2, EVIDENCE_GRANT);
    fixture_evidence_tx(body, &x.e);
    assert_ok(pool_add(p, fixture_last(body), 1, false, 30, NULL));
    assert_int_equal(pool_count(p), 3);
    assert_ptr_equal(pool_first(p), pool_find_evidence(p, 2, EVIDENCE_VOTES));
    assert_ptr_equal(pool_next(pool_first(p)), report);
    assert_ptr_equal(pool_first_of(p, 1), report);
    assert_null(pool_next_of(report));
    assert_false(pool_timed(pool_first(p)));
    assert_int_equal(pool_progress_deadline_us(p, timeout), 20 + timeout);
    pool_remove(p, report, 40);
    assert_int_equal(pool_progress_deadline_us(p, timeout), UINT64_MAX);
    assert_null(pool_expired(p, timeout, UINT64_MAX / 2));
    for (uint8_t member = 0; member < AMI_MEMBERS_MAX; member++)
        assert_int_equal(pool_evidence_deadline_us(p, member, timeout),
                         member == 2 ? 10 + timeout : UINT64_MAX);
    pool_restart_timers(p, 500);
    assert_int_equal(pool_evidence_deadline_us(p, 2, timeout), 500 + timeout);
    assert_null(pool_find_evidence(p, 2, EVIDENCE_GRANTS));
    assert_null(pool_find_evidence(p, 255, 255));
    pool_remove(p, pool_find_evidence(p, 2, EVIDENCE_VOTES), 600);
    assert_null(pool_find_evidence(p, 2, EVIDENCE_VOTES));
    assert_int_equal(pool_count(p), 1);
    pool_free(p); /* with one in it */
    fixture_free(f);
    free(body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_order_and_finds_again),
        cmocka_unit_test(refuses_repeats_and_rivals),
        cmocka_unit_test(is_bounded_by_count_and_bytes),
        cmocka_unit_test(another_dc_takes_a_part_only),
        cmocka_unit_test(numbers_wait_for_those_before_them),
        cmocka_unit_test(timers_follow_the_quota),
        cmocka_unit_test(evidence_starts_no_timers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
