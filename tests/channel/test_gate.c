/* What strangers may cost: bounded in total and by source, whatever they do. */
#include "channel/gate.h"

#include "crypto/secret.h"
#include "tests/harness.h"

static const uint8_t key[16] = {7};
static const struct gate_rate all = {100, 50}, one = {10, 5};

static struct span source(uint32_t number)
{
    static uint8_t bytes[4];
    store_be32(bytes, number);
    return span_of(bytes, sizeof bytes);
}

static void a_flood_from_one_source_leaves_the_others_theirs(void **state)
{
    (void)state;
    static struct gate g;
    unsigned flood = 0, honest = 0;
    gate_init(&g, all, one, key, 1000);
    /* Ten seconds: one source knocks 1,000 times a second, another once. */
    for (uint64_t ms = 0; ms < 10000; ms++) {
        flood += gate_admit(&g, source(1), 1, 1000 + ms * 1000);
        if (ms % 1000 == 0)
            honest += gate_admit(&g, source(2), 1, 1000 + ms * 1000);
    }
    assert_in_range(flood, 10 + 9 * 5, 10 + 10 * 5);
    assert_int_equal(honest, 10);
    assert_int_equal(g.admitted, flood + honest);
    assert_int_equal(g.refused, 10000 - flood);
}

static void many_sources_together_are_bounded(void **state)
{
    (void)state;
    static struct gate g;
    unsigned admitted = 0;
    gate_init(&g, all, one, key, 0);
    for (uint32_t n = 0; n < 100000; n++)
        admitted += gate_admit(&g, source(n), 1, n * 100); /* ten seconds */
    assert_in_range(admitted, 100 + 9 * 50, 100 + 10 * 50);
}

static void a_long_silence_fills_no_more_than_the_burst(void **state)
{
    (void)state;
    static struct gate g;
    unsigned admitted = 0;
    gate_init(&g, all, one, key, 5);
    for (int round = 0; round < 3; round++) {
        uint64_t now = UINT64_MAX / 4 * (uint64_t)(round + 1);
        admitted = 0;
        for (int n = 0; n < 1000; n++)
            admitted += gate_admit(&g, source(9), 1, now);
        assert_int_equal(admitted, one.burst);
    }
}

/* What costs more uses up more, and never more than there is. */
static void dearer_flights_take_more(void **state)
{
    (void)state;
    static struct gate g;
    gate_init(&g, all, one, key, 7);
    assert_true(gate_admit(&g, source(1), 8, 7));
    assert_false(gate_admit(&g, source(1), 8, 7));
    assert_true(gate_admit(&g, source(1), 2, 7));
    assert_false(gate_admit(&g, source(1), 1, 7));
    assert_false(gate_admit(&g, source(2), one.burst + 1, 7));
    assert_true(gate_admit(&g, source(2), one.burst, 7));
    assert_int_equal(gate_left(&g, 7), all.burst - 10 - one.burst);
    assert_int_equal(gate_left(&g, 7 + 200000), all.burst - 10 - one.burst + all.per_s / 5);
    assert_int_equal(gate_left(&g, 7 + 9000000), all.burst);
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flood_from_one_source_leaves_the_others_theirs),
        cmocka_unit_test(many_sources_together_are_bounded),
        cmocka_unit_test(dearer_flights_take_more),
        cmocka_unit_test(a_long_silence_fills_no_more_than_the_burst),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
