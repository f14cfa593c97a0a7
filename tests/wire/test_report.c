#include "tests/harness.h"

#include "wire/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t import_wh[6] = {1, 0, 1, 8, 0, 255};
static const uint8_t export_wh[6] = {1, 0, 2, 8, 0, 255};

static struct reading reading_at(const uint8_t obis[6], int64_t start_s, const char *value)
{
    struct reading r = {.unit = UNIT_WH, .interval_s = 1800, .start_s = start_s};
    memcpy(r.obis, obis, 6);
    assert_ok(reading_value_set(&r, value, strlen(value)));
    return r;
}

static void assert_same(const struct reading *a, const struct reading *b)
{
    assert_memory_equal(a->obis, b->obis, 6);
    assert_int_equal(a->unit, b->unit);
    assert_int_equal(a->quality & ~QUALITY_OFF_RASTER, b->quality & ~QUALITY_OFF_RASTER);
    assert_int_equal(a->interval_s, b->interval_s);
    assert_true(a->start_s == b->start_s);
    char at[REPORT_VALUE_TEXT_BYTES_MAX + 1], bt[REPORT_VALUE_TEXT_BYTES_MAX + 1];
    reading_value_text(at, a);
    reading_value_text(bt, b);
    assert_string_equal(at, bt);
}

static void a_value_prints_as_it_was_written(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int scaler;
        long long mantissa;
        bool as_text;
    } cases[] = {
        {"0", 0, 0, false},
        {"0.000", -3, 0, false},
        {"0.250", -3, 250, false},
        {"-0.250", -3, -250, false},
        {"1234", 0, 1234, false},
        {"100", 0, 100, false},
        {"12.340", -3, 12340, false},
        {"0.12345678901234567", -17, 12345678901234567, false},
        {"999999999999999999", 0, 999999999999999999, false},
        {"-999999999999999999", 0, -999999999999999999, false},
        {"0.000000000000000000000000000001", -30, 1, false},
        {"-0.00000000000000000000000000001", -29, -1, false},
        {"1000000000000000000", 0, 0, true}, /* 19 digits */
        {"0.1234567890123456789", 0, 0, true},
        {"+1", 0, 0, true},
        {".5", 0, 0, true},
        {"-.5", 0, 0, true},
        {"5.", 0, 0, true},
        {"1e3", 0, 0, true},
        {"1E-3", 0, 0, true},
        {"2.5e+10", 0, 0, true},
        {"007", 0, 0, true},
        {"00.5", 0, 0, true},
        {"-0", 0, 0, true},
        {"-0.00", 0, 0, true},
        {"12345678901234567890123456789012", 0, 0, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct reading r = {.quality = QUALITY_ESTIMATED | QUALITY_MISSING};
        char text[REPORT_VALUE_TEXT_BYTES_MAX + 1];
        assert_ok(reading_value_set(&r, cases[i].text, strlen(cases[i].text)));
        assert_int_equal(r.quality, QUALITY_ESTIMATED | (cases[i].as_text ? QUALITY_TEXT : 0));
        assert_int_equal(r.scaler, cases[i].scaler);
        assert_true(r.mantissa == cases[i].mantissa);
        reading_value_text(text, &r);
        assert_string_equal(text, cases[i].text);
        /* ... and still does when it has travelled. */
        uint8_t m[128];
        struct writer w = writer_on(m, sizeof m);
        static struct reading back[AMI_REPORT_READINGS_MAX];
        enum report_kind kind;
        size_t count;
        assert_ok(report_encode(&w, REPORT_EVENT, &r, 1));
        assert_ok(report_decode(&kind, back, &count, writer_span(&w)));
        assert_int_equal(kind, REPORT_EVENT);
        assert_int_equal(count, 1);
        assert_same(&back[0], &r);
    }
}

static void what_is_no_number_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"-",     "+",     ".",    "-.",       "e3",   "1e",
                                      "1e+",   "1.2.3", "1,5",  " 1",       "1 ",   "0x10",
                                      "nan",   "inf",   "Null", "?",        "--1",  "1-",
                                      "1e3.5", "1_0",   "1\n",  "\xd9\xa1", "1e3e3"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct reading r = {.mantissa = 7, .scaler = -1}, before = r;
        assert_status(reading_value_set(&r, bad[i], strlen(bad[i])), AMI_BAD_ENCODING);
        assert_memory_equal(&r, &before, sizeof r);
    }
    struct reading r = {0};
    assert_status(reading_value_set(&r, "1\0", 2), AMI_BAD_ENCODING);
    assert_status(reading_value_set(&r, "123456789012345678901234567890123", 33), AMI_TOO_LARGE);
}

static void a_missing_value_is_no_zero(void **state)
{
    (void)state;
    struct reading r = reading_at(import_wh, 0, "");
    char text[REPORT_VALUE_TEXT_BYTES_MAX + 1];
    assert_int_equal(r.quality, QUALITY_MISSING);
    reading_value_text(text, &r);
    assert_string_equal(text, "");
    assert_ok(reading_value_set(&r, "0", 1));
    assert_int_equal(r.quality, 0);
    reading_value_text(text, &r);
    assert_string_equal(text, "0");
}

/* The example of docs/wire-format.md, byte for byte. */
static void the_documented_example(void **state)
{
    (void)state;
    struct reading r[4] = {
        reading_at(import_wh, 1357000200, "0.250"), reading_at(import_wh, 1357002000, ""),
        reading_at(import_wh, 1357007400, "1e-3"), reading_at(export_wh, 1357000200, "-12")};
    static const uint8_t expected[] = {
        1,    1,                                           /* version, readings */
        'G',  1,    0,    1,    8,    0,    255,  30,      /* 1-0:1.8.0*255, Wh */
        0,    0,    0x07, 0x08,                            /* 1800 s */
        0,    0,    0,    0,    0x50, 0xe2, 0x2e, 0x08,    /* 2013-01-01 00:30 UTC */
        0,    3,                                           /* three readings */
        0,    0xfd, 0xf4, 0x03,                            /* 250, -3 */
        1,                                                 /* missing */
        12,   0xa0, 0x38, 4,    '1',  'e',  '-',  '3',     /* text, 3600 s late */
        'G',  1,    0,    2,    8,    0,    255,  30,      /* 1-0:2.8.0*255, Wh */
        0,    0,    0x07, 0x08, 0,    0,    0,    0,       /* 1800 s */
        0x50, 0xe2, 0x2e, 0x08, 0,    1,    0,    0,    23 /* one reading: -12 */
    };
    uint8_t m[128];
    struct writer w = writer_on(m, sizeof m);
    assert_ok(report_encode(&w, REPORT_READINGS, r, 4));
    assert_int_equal(w.size, sizeof expected);
    assert_memory_equal(m, expected, sizeof expected);

    static struct reading back[AMI_REPORT_READINGS_MAX];
    enum report_kind kind;
    size_t count;
    assert_ok(report_decode(&kind, back, &count, writer_span(&w)));
    assert_int_equal(kind, REPORT_READINGS);
    assert_int_equal(count, 4);
    for (size_t i = 0; i < 4; i++)
        assert_same(&back[i], &r[i]);
    assert_int_equal(back[2].quality, QUALITY_TEXT | QUALITY_OFF_RASTER);

    for (size_t cut = 0; cut < w.size; cut++) {
        /* Between the groups a report could end. */
        bool whole = cut == 37;
        uint8_t *exact = malloc(cut + 1);
        assert_non_null(exact);
        memcpy(exact, m, cut);
        assert_status(report_decode(&kind, back, &count, span_of(exact, cut)),
                      whole ? AMI_OK : AMI_BAD_ENCODING);
        free(exact);
    }
    m[w.size] = 0;
    assert_status(report_decode(&kind, back, &count, span_of(m, w.size + 1)), AMI_BAD_ENCODING);
}

/* Changes one thing in a good report. */
static void assert_refused(const uint8_t *good, size_t size, size_t at, const char *bytes,
                           size_t bytes_size, size_t instead_of)
{
    uint8_t m[256];
    static struct reading back[AMI_REPORT_READINGS_MAX];
    enum report_kind kind;
    size_t count;
    memcpy(m, good, at);
    memcpy(m + at, bytes, bytes_size);
    memcpy(m + at + bytes_size, good + at + instead_of, size - at - instead_of);
    if (report_decode(&kind, back, &count, span_of(m, size - instead_of + bytes_size)) !=
        AMI_BAD_ENCODING)
        fail_msg("accepted with other bytes at %zu", at);
}

static void a_second_encoding_is_refused(void **state)
{
    (void)state;
    struct reading r[2] = {reading_at(import_wh, 3600, "5"), reading_at(import_wh, 5400, "6")};
    uint8_t m[128];
    struct writer w = writer_on(m, sizeof m);
    assert_ok(report_encode(&w, REPORT_READINGS, r, 2));
    /* 0 version, 1 kind, 2 'G', 3 obis, 9 unit, 10 interval, 14 start, 22 count, 24 quality,
     * 25 scaler, 26 mantissa, 27 quality, 28 scaler, 29 mantissa. */
    assert_int_equal(w.size, 30);
    assert_refused(m, w.size, 0, "\x02", 1, 1); /* version */
    assert_refused(m, w.size, 1, "\x00", 1, 1); /* kind */
    assert_refused(m, w.size, 1, "\x03", 1, 1);
    assert_refused(m, w.size, 2, "H", 1, 1);                 /* mark */
    assert_refused(m, w.size, 22, "\0\0", 2, 8);             /* empty group */
    assert_refused(m, w.size, 22, "\x02\x01", 2, 2);         /* more than there are */
    assert_refused(m, w.size, 14, "\x7f\xff\xff\xff", 4, 4); /* start beyond year 9999 */
    assert_refused(m, w.size, 14, "\x80\0\0\0", 4, 4);       /* before year 1 */
    assert_refused(m, w.size, 24, "\x08\x02", 2, 1);         /* first reading off raster */
    assert_refused(m, w.size, 27, "\x08\x00", 2, 1);         /* off raster by nothing */
    assert_refused(m, w.size, 27, "\x80\x00", 2, 1);         /* long varint */
    assert_refused(m, w.size, 27, "\x20", 1, 1);             /* unknown flag */
    assert_refused(m, w.size, 27, "\x05\x01x", 3, 3);        /* missing and text */
    assert_refused(m, w.size, 28, "\x01", 1, 1);             /* scaler above 0 */
    assert_refused(m, w.size, 28, "\xe1", 1, 1);             /* scaler below -30 */
    assert_refused(m, w.size, 27,
                   "\x04\x01"
                   "6",
                   3, 3);                             /* a canonical decimal as text */
    assert_refused(m, w.size, 27, "\x04\x01x", 3, 3); /* no number */
    assert_refused(m, w.size, 27, "\x04\x00", 2, 3);  /* empty text */
    /* 10^18, one more than the greatest mantissa: zigzag 2 * 10^18. */
    assert_refused(m, w.size, 29, "\x80\x80\xa0\xf6\xf4\xac\xdb\xe0\x1b", 9, 1);
    /* Offsets that leave the range or the integer. */
    assert_refused(m, w.size, 27, "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, 1);
    assert_refused(m, w.size, 27, "\x08\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, 1);
    /* Two groups that should have been one. */
    uint8_t twice[64];
    memcpy(twice, m, 30);
    memcpy(twice + 22, "\0\1", 2);
    memcpy(twice + 27, m + 2, 25);
    memcpy(twice + 27 + 20, "\0\1", 2);
    twice[2 + 7] = UNIT_W; /* another unit: two groups are right */
    static struct reading back[AMI_REPORT_READINGS_MAX];
    enum report_kind kind;
    size_t count;
    assert_ok(report_decode(&kind, back, &count, span_of(twice, 52)));
    assert_int_equal(count, 2);
    assert_refused(twice, 52, 9, "\x1e", 1, 1);
}

static void limits_of_a_report(void **state)
{
    (void)state;
    static struct reading r[AMI_REPORT_READINGS_MAX + 1], back[AMI_REPORT_READINGS_MAX];
    for (size_t i = 0; i < sizeof r / sizeof r[0]; i++)
        r[i] = reading_at(import_wh, (int64_t)i * 1800, "0.123");
    uint8_t m[AMI_REPORT_BYTES_MAX + 64];
    struct writer w = writer_on(m, sizeof m);
    enum report_kind kind;
    size_t count;
    assert_ok(report_encode(&w, REPORT_READINGS, r, AMI_REPORT_READINGS_MAX));
    assert_ok(report_decode(&kind, back, &count, writer_span(&w)));
    assert_int_equal(count, AMI_REPORT_READINGS_MAX);
    for (size_t i = 0; i < count; i++)
        assert_same(&back[i], &r[i]);

    /* A writer that already holds something keeps it. */
    w = writer_on(m, sizeof m);
    write_u16(&w, 0xabcd);
    assert_status(report_encode(&w, REPORT_READINGS, r, AMI_REPORT_READINGS_MAX + 1),
                  AMI_TOO_LARGE);
    assert_status(report_encode(&w, REPORT_READINGS, r, 0), AMI_BAD_ARGUMENT);
    assert_status(report_encode(&w, (enum report_kind)3, r, 1), AMI_BAD_ARGUMENT);
    assert_int_equal(w.size, 2);
    assert_ok(report_encode(&w, REPORT_READINGS, r, 1));
    assert_memory_equal(m, "\xab\xcd\x01\x01G", 5);

    /* Many long texts pass the limit on bytes although not that on readings. */
    for (size_t i = 0; i < AMI_REPORT_READINGS_MAX; i++)
        r[i] = reading_at(import_wh, (int64_t)i * 1800, "1e00000000000000000000000000001");
    w = writer_on(m, sizeof m);
    assert_status(report_encode(&w, REPORT_READINGS, r, AMI_REPORT_READINGS_MAX), AMI_TOO_LARGE);
    assert_int_equal(w.size, 0);
    w = writer_on(m, 40);
    assert_status(report_encode(&w, REPORT_READINGS, r, 1), AMI_TOO_LARGE);
    assert_int_equal(w.size, 0);

    struct reading bad = reading_at(import_wh, 0, "1");
    w = writer_on(m, sizeof m);
    bad.scaler = 1;
    assert_status(report_encode(&w, REPORT_READINGS, &bad, 1), AMI_BAD_ARGUMENT);
    bad.scaler = 0;
    bad.mantissa = REPORT_MANTISSA_MAX + 1;
    assert_status(report_encode(&w, REPORT_READINGS, &bad, 1), AMI_BAD_ARGUMENT);
    bad.mantissa = INT64_MIN;
    assert_status(report_encode(&w, REPORT_READINGS, &bad, 1), AMI_BAD_ARGUMENT);
    bad.mantissa = 0;
    bad.quality = QUALITY_ALL + 1;
    assert_status(report_encode(&w, REPORT_READINGS, &bad, 1), AMI_BAD_ARGUMENT);
    bad.quality = QUALITY_TEXT;
    assert_status(report_encode(&w, REPORT_READINGS, &bad, 1), AMI_BAD_ARGUMENT);
    bad.quality = 0;
    bad.start_s = REPORT_START_S_MAX + 1;
    assert_status(report_encode(&w, REPORT_READINGS, &bad, 1), AMI_BAD_ARGUMENT);
    /* The ends of the range, one after the other, and back. */
    struct reading ends[3] = {reading_at(import_wh, REPORT_START_S_MIN, "1"),
                              reading_at(import_wh, REPORT_START_S_MAX, "2"),
                              reading_at(import_wh, REPORT_START_S_MIN, "3")};
    ends[0].interval_s = ends[1].interval_s = ends[2].interval_s = UINT32_MAX;
    assert_ok(report_encode(&w, REPORT_READINGS, ends, 3));
    assert_ok(report_decode(&kind, back, &count, writer_span(&w)));
    assert_int_equal(count, 3);
    for (size_t i = 0; i < 3; i++)
        assert_same(&back[i], &ends[i]);
}

static void a_day_of_two_registers_fits(void **state)
{
    (void)state;
    static struct reading r[192];
    for (size_t i = 0; i < 96; i++) {
        r[i] = reading_at(import_wh, (int64_t)i * 900, "0.12345678901234567");
        r[96 + i] = reading_at(export_wh, (int64_t)i * 900, "0.12345678901234567");
        r[i].interval_s = r[96 + i].interval_s = 900;
    }
    uint8_t m[AMI_REPORT_BYTES_MAX];
    struct writer w = writer_on(m, sizeof m);
    assert_ok(report_encode(&w, REPORT_READINGS, r, 192));
}

static void obis_codes_and_units(void **state)
{
    (void)state;
    uint8_t code[6];
    char text[32];
    assert_ok(obis_parse(code, "1-0:1.8.0*255"));
    assert_memory_equal(code, import_wh, 6);
    obis_text(text, code);
    assert_string_equal(text, "1-0:1.8.0*255");
    assert_ok(obis_parse(code, "1-0:2.8.0"));
    assert_memory_equal(code, export_wh, 6);
    assert_ok(obis_parse(code, "255-255:255.255.255*255"));
    obis_text(text, code);
    assert_string_equal(text, "255-255:255.255.255*255");
    static const char *const bad[] = {"",
                                      "1",
                                      "1-0:1.8",
                                      "1-0:1.8.",
                                      "1-0:1.8.0*",
                                      "1-0:1.8.0*256",
                                      "1-0:1.8.0*255 ",
                                      "01-0:1.8.0*255",
                                      "1.0:1.8.0*255",
                                      "1-0:1.8.0*1000",
                                      "-1-0:1.8.0*255",
                                      "1-0:1.8.0*255*1"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_status(obis_parse(code, bad[i]), AMI_BAD_ENCODING);
    assert_string_equal(unit_name(UNIT_WH), "Wh");
    assert_string_equal(unit_name(UNIT_VARH), "varh");
    assert_string_equal(unit_name(0), "unit");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_prints_as_it_was_written),
        cmocka_unit_test(what_is_no_number_is_refused),
        cmocka_unit_test(a_missing_value_is_no_zero),
        cmocka_unit_test(the_documented_example),
        cmocka_unit_test(a_second_encoding_is_refused),
        cmocka_unit_test(limits_of_a_report),
        cmocka_unit_test(a_day_of_two_registers_fits),
        cmocka_unit_test(obis_codes_and_units),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
