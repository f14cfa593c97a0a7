#include "tests/harness.h"

#include "wire/codec.h"

#include <string.h>

static void integers_are_big_endian_and_come_back(void **state)
{
    (void)state;
    uint8_t b[64];
    struct writer w = writer_on(b, sizeof b);
    write_u8(&w, 0x01);
    write_u16(&w, 0x0203);
    write_u32(&w, 0x04050607);
    write_u64(&w, 0x08090a0b0c0d0e0fu);
    write_i64(&w, -2);
    assert_true(writer_ok(&w));
    assert_int_equal(w.size, 23);
    for (uint8_t i = 0; i < 15; i++)
        assert_int_equal(b[i], i + 1);
    assert_memory_equal(b + 15, "\xff\xff\xff\xff\xff\xff\xff\xfe", 8);
    struct reader r = reader_on(writer_span(&w));
    assert_int_equal(read_u8(&r), 0x01);
    assert_int_equal(read_u16(&r), 0x0203);
    assert_int_equal(read_u32(&r), 0x04050607);
    assert_true(read_u64(&r) == 0x08090a0b0c0d0e0fu);
    assert_false(reader_done(&r));
    assert_int_equal(read_i64(&r), -2);
    assert_true(reader_done(&r));
    assert_int_equal(reader_left(&r), 0);
}

static void a_writer_never_passes_its_capacity(void **state)
{
    (void)state;
    uint8_t b[9] = {0};
    struct writer w = writer_on(b, 7);
    write_u32(&w, 0x11111111);
    write_u32(&w, 0x22222222);
    write_u8(&w, 0x33);
    assert_false(writer_ok(&w));
    assert_int_equal(w.size, 9);
    assert_memory_equal(b, "\x11\x11\x11\x11\0\0\0\0\0", 9);
    /* A writer on nothing counts, so that a size can be asked for in advance. */
    struct writer count = writer_on(NULL, 0);
    write_bytes(&count, span_of("abc", 3));
    assert_int_equal(count.size, 7);
    assert_false(writer_ok(&count));
}

static void a_failed_reader_stays_failed(void **state)
{
    (void)state;
    const uint8_t b[] = {1, 2, 3, 4, 5};
    struct reader r = reader_on(span_of(b, sizeof b));
    assert_int_equal(read_u32(&r), 0x01020304);
    assert_int_equal(read_u16(&r), 0);
    assert_true(r.failed);
    assert_int_equal(read_u8(&r), 0);
    assert_int_equal(reader_left(&r), 0);
    uint8_t out[2] = {9, 9};
    read_raw(&r, out, sizeof out);
    assert_memory_equal(out, "\0\0", 2);
    assert_null(read_span(&r, 0).data);
    assert_false(reader_done(&r));
}

static void varints_have_one_form(void **state)
{
    (void)state;
    static const struct {
        uint64_t value;
        const char *bytes;
        size_t size;
    } good[] = {
        {0, "\x00", 1},
        {1, "\x01", 1},
        {127, "\x7f", 1},
        {128, "\x80\x01", 2},
        {300, "\xac\x02", 2},
        {16383, "\xff\x7f", 2},
        {16384, "\x80\x80\x01", 3},
        {UINT64_MAX >> 1, "\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 9},
        {UINT64_MAX, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 10},
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        uint8_t b[16];
        struct writer w = writer_on(b, sizeof b);
        write_varint(&w, good[i].value);
        assert_int_equal(w.size, good[i].size);
        assert_memory_equal(b, good[i].bytes, good[i].size);
        struct reader r = reader_on(writer_span(&w));
        assert_true(read_varint(&r) == good[i].value);
        assert_true(reader_done(&r));
        struct reader cut = reader_on(span_of(b, good[i].size - 1));
        read_varint(&cut);
        assert_true(cut.failed);
    }
    static const struct {
        const char *bytes;
        size_t size;
    } bad[] = {
        {"\x80\x00", 2},                                             /* 0 in two bytes */
        {"\xff\x00", 2},                                             /* 127 in two bytes */
        {"\x80\x80\x00", 3},                                         /* padded */
        {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10},            /* 65 bits */
        {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x81\x00", 11},        /* 65 bits and more to come */
        {"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 13} /* does not end */
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct reader r = reader_on(span_of(bad[i].bytes, bad[i].size));
        assert_true(read_varint(&r) == 0);
        assert_true(r.failed);
    }
}

static void every_varint_of_two_bytes_is_canonical(void **state)
{
    (void)state;
    unsigned accepted = 0;
    for (unsigned v = 0; v < 0x10000; v++) {
        uint8_t in[2], again[2];
        store_be16(in, (uint16_t)v);
        struct reader r = reader_on(span_of(in, 2));
        uint64_t value = read_varint(&r);
        if (!reader_done(&r))
            continue;
        struct writer w = writer_on(again, sizeof again);
        write_varint(&w, value);
        assert_int_equal(w.size, 2);
        assert_memory_equal(again, in, 2);
        accepted++;
    }
    assert_int_equal(accepted, 16384 - 128);
}

static void names_are_checked(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        bool good;
    } cases[] = {
        {"\x01"
         "a",
         2, true},
        {"\x07"
         "dc-1._Z",
         8, true},
        {"\x20"
         "12345678901234567890123456789012",
         33, true},
        {"\x00", 1, false},
        {"\x21"
         "123456789012345678901234567890123",
         34, false},
        {"\x03"
         "a b",
         4, false},
        {"\x03"
         "a\0b",
         4, false},
        {"\x02\xc3\xa9", 3, false},
        {"\x02"
         "a",
         2, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct reader r = reader_on(span_of(cases[i].bytes, cases[i].size));
        struct ami_id id = read_id(&r);
        assert_int_equal(reader_done(&r), cases[i].good);
        uint8_t b[40];
        struct writer w = writer_on(b, sizeof b);
        if (cases[i].good) {
            write_id(&w, &id);
            assert_int_equal(w.size, cases[i].size);
            assert_memory_equal(b, cases[i].bytes, w.size);
        }
    }
}

static void byte_strings_keep_their_limit(void **state)
{
    (void)state;
    uint8_t b[16];
    struct writer w = writer_on(b, sizeof b);
    write_bytes(&w, span_of("abcde", 5));
    struct reader r = reader_on(writer_span(&w));
    struct span s = read_bytes(&r, 5);
    assert_true(reader_done(&r));
    assert_ptr_equal(s.data, b + 4);
    assert_int_equal(s.size, 5);
    r = reader_on(writer_span(&w));
    s = read_bytes(&r, 4);
    assert_true(r.failed);
    assert_int_equal(s.size, 0);
    /* A size that would wrap around. */
    memset(b, 0xff, 4);
    r = reader_on(span_of(b, sizeof b));
    read_bytes(&r, SIZE_MAX);
    assert_true(r.failed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_are_big_endian_and_come_back),
        cmocka_unit_test(a_writer_never_passes_its_capacity),
        cmocka_unit_test(a_failed_reader_stays_failed),
        cmocka_unit_test(varints_have_one_form),
        cmocka_unit_test(every_varint_of_two_bytes_is_canonical),
        cmocka_unit_test(names_are_checked),
        cmocka_unit_test(byte_strings_keep_their_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
