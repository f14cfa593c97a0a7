/* The list of attacks, and what the laboratory makes of an outcome that should not be. */
#include "tests/harness.h"

#include "crypto/secret.h"
#include "sim/lab/attack.h"
#include "sim/lab/output.h"

#include <string.h>

static void every_attack_says_what_it_is(void **state)
{
    (void)state;
    bool row[ROW_COUNT] = {false};
    for (size_t i = 0; attack_at(i) != NULL; i++) {
        const struct attack *a = attack_at(i);
        assert_non_null(a->run);
        assert_true(strlen(a->knows) > 0 && strlen(a->goal) > 0 && strlen(a->protection) > 0);
        assert_int_equal(strspn(a->name, "abcdefghijklmnopqrstuvwxyz0123456789-"), strlen(a->name));
        assert_true((unsigned)a->row < ROW_COUNT);
        row[a->row] = row[a->row] || (a->on == ON_SCHEME && a->nobody == NULL);
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(attack_at(k)->name, a->name);
    }
    /* No row of table2 is empty. */
    for (int i = 0; i < ROW_COUNT; i++)
        assert_true(row[i]);
}

static const struct attack_subject subject = {"ecdh", &lab_ecdh, 0};

static bool judged_bad(const struct attack *a, struct attack_outcome r)
{
    struct lab_output *out = lab_output_new();
    attack_judge(out, a, &subject, &r);
    bool failed = lab_output_failed(out);
    lab_output_free(out);
    return failed;
}

static void a_control_that_fails_is_an_error(void **state)
{
    (void)state;
    const struct attack plain = {
        .name = "plain", .knows = "nothing", .goal = "all", .protection = "a wall"};
    struct attack hopeless = plain;
    hopeless.nobody = "nobody can";
    assert_true(judged_bad(&plain, (struct attack_outcome){.control = CONTROL_FAILS}));
    assert_false(judged_bad(&plain, (struct attack_outcome){.control = CONTROL_SUCCEEDS}));
    assert_false(judged_bad(&plain, (struct attack_outcome){.control = CONTROL_MISSING}));
    assert_false(judged_bad(&plain, (struct attack_outcome){.broken = true}));
    /* Who resists what cannot be resisted has been attacked badly. */
    assert_true(judged_bad(&hopeless, (struct attack_outcome){.control = CONTROL_SUCCEEDS}));
    assert_false(judged_bad(&hopeless, (struct attack_outcome){.broken = true}));
}

/* An outcome is the attack's own, and the second time the first one. */
static void an_outcome_is_kept(void **state)
{
    (void)state;
    const struct attack *a = attack_at(0);
    const struct scheme *scheme = lab_schemes()->scheme;
    const struct attack_subject s = {scheme->name, scheme, 0};
    const struct attack_outcome *first = attack_outcome(a, &s, 5),
                                *other = attack_outcome(a, &s, 6);
    assert_ptr_equal(attack_outcome(a, &s, 5), first);
    assert_ptr_not_equal(other, first);
    assert_string_not_equal(other->evidence, first->evidence);
    assert_ok(first->failed);
    assert_false(first->broken);
    assert_int_equal(first->control, CONTROL_SUCCEEDS);
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_attack_says_what_it_is),
        cmocka_unit_test(a_control_that_fails_is_an_error),
        cmocka_unit_test(an_outcome_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
