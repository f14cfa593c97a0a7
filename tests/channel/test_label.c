/* Labels: the order of Bell and LaPadula, over every pair of them. */
#include "channel/label.h"

#include "tests/harness.h"

#include <string.h>

#define LEVELS (LABEL_LEVEL_MAX + 1)
#define SETS   (1 << LABEL_CATEGORIES)

#define EACH(l)                                                                                    \
    for (struct label l = {0}; l.level < LEVELS; l.level++)                                        \
        for (l.categories = 0; l.categories < SETS; l.categories++)

static bool same(struct label a, struct label b)
{
    return a.level == b.level && a.categories == b.categories;
}

static void domination_is_a_partial_order(void **state)
{
    (void)state;
    unsigned neither = 0;
    EACH(a)
    {
        assert_true(label_dominates(a, a));
        EACH(b)
        {
            /* By the definition, category by category. */
            bool expected = a.level >= b.level;
            for (int i = 0; i < LABEL_CATEGORIES; i++)
                expected = expected && ((b.categories >> i & 1) == 0 || (a.categories >> i & 1));
            assert_int_equal(label_dominates(a, b), expected);
            if (label_dominates(a, b) && label_dominates(b, a))
                assert_true(same(a, b));
            neither += !label_dominates(a, b) && !label_dominates(b, a);
            assert_int_equal(label_may_read(a, b), label_dominates(a, b));
            assert_int_equal(label_may_write(a, b), label_dominates(b, a));
            if (label_may_read(a, b) && label_may_write(a, b))
                assert_true(same(a, b));
        }
    }
    assert_true(neither > 0);
    EACH(x) EACH(y)
    {
        if (!label_dominates(x, y))
            continue;
        EACH(z) if (label_dominates(y, z)) assert_true(label_dominates(x, z));
    }
}

static void no_read_up_no_write_down(void **state)
{
    (void)state;
    const struct label low = {1, LABEL_LEDGER}, high = {2, LABEL_LEDGER},
                       other = {2, LABEL_METERING};
    assert_false(label_may_read(low, high));
    assert_true(label_may_read(high, low));
    assert_false(label_may_write(high, low));
    assert_true(label_may_write(low, high));
    assert_false(label_may_read(other, low));
    assert_false(label_may_write(low, other));
}

static void texts(void **state)
{
    (void)state;
    char text[LABEL_TEXT_BYTES];
    struct label back;
    EACH(l)
    {
        label_text(text, l);
        assert_ok(label_parse(&back, text));
        assert_true(same(l, back));
        assert_true(label_valid(l));
    }
    label_text(text, (struct label){2, LABEL_LEDGER | LABEL_METERING});
    assert_string_equal(text, "2:ledger+metering");
    static const char *const bad[] = {"",          "2",         ":",
                                      "4:",        "-1:",       "2:nobody",
                                      "2:ledger+", "2:+ledger", "2:ledger+ledger",
                                      "2 :ledger", "22:ledger", "2:ledger,metering"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_status(label_parse(&back, bad[i]), AMI_BAD_ARGUMENT);
    assert_false(label_valid((struct label){LABEL_LEVEL_MAX + 1, 0}));
    assert_false(label_valid((struct label){0, SETS}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(domination_is_a_partial_order),
        cmocka_unit_test(no_read_up_no_write_down),
        cmocka_unit_test(texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
