#include "tests/harness.h"

#include "base/bytes.h"

#include <string.h>

static void every_status_has_a_name_and_a_sentence(void **state)
{
    (void)state;
    for (int i = 0; i < AMI_STATUS_COUNT; i++) {
        assert_true(strlen(ami_status_name((enum ami_status)i)) > 1);
        assert_true(strlen(ami_status_text((enum ami_status)i)) > 5);
    }
    assert_string_equal(ami_status_name((enum ami_status)AMI_STATUS_COUNT), "UNKNOWN_STATUS");
}

static void hex_round_trip_and_refusals(void **state)
{
    (void)state;
    uint8_t out[3];
    char text[7];
    assert_ok(hex_decode(out, 3, "00fFa9"));
    hex_encode(text, out, 3);
    assert_string_equal(text, "00ffa9");
    assert_status(hex_decode(out, 3, "00ffa"), AMI_BAD_ENCODING);
    assert_status(hex_decode(out, 3, "00ffa9a"), AMI_BAD_ENCODING);
    assert_status(hex_decode(out, 3, "00fga9"), AMI_BAD_ENCODING);
    assert_status(hex_decode(out, 3, ""), AMI_BAD_ENCODING);
}

static void names_are_bounded_and_ordered(void **state)
{
    (void)state;
    struct ami_id a, b;
    assert_ok(ami_id_from_text(&a, "dc1"));
    assert_ok(ami_id_from_text(&b, "dc10"));
    assert_true(ami_id_compare(&a, &b) < 0);
    assert_true(ami_id_compare(&b, &a) > 0);
    assert_false(ami_id_equal(&a, &b));
    assert_status(ami_id_from_text(&a, ""), AMI_BAD_ARGUMENT);
    assert_status(ami_id_from_text(&a, "a b"), AMI_BAD_ARGUMENT);
    assert_status(ami_id_from_text(&a, "123456789012345678901234567890123"), AMI_BAD_ARGUMENT);
    assert_ok(ami_id_from_text(&a, "12345678901234567890123456789012"));
    assert_int_equal(a.size, 32);
}

static void big_endian_integers(void **state)
{
    (void)state;
    uint8_t b[8];
    store_be64(b, 0x0102030405060708u);
    for (int i = 0; i < 8; i++)
        assert_int_equal(b[i], i + 1);
    assert_true(load_be64(b) == 0x0102030405060708u);
    assert_int_equal(load_be32(b + 4), 0x05060708);
    assert_int_equal(load_be16(b + 6), 0x0708);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_status_has_a_name_and_a_sentence),
        cmocka_unit_test(hex_round_trip_and_refusals),
        cmocka_unit_test(names_are_bounded_and_ordered),
        cmocka_unit_test(big_endian_integers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
