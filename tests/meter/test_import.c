/* Load profiles: every layout as it is in the field, exact decimals row for row, and refusal of
 * whole files with line and reason. */
#include "tests/harness.h"

#include "crypto/secret.h"
#include "meter/calendar.h"
#include "meter/import.h"
#include "meter/profile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <zlib.h>

#define PROFILES "../shared/data/load-profiles/"

static char folder[] = "/tmp/ami-import-XXXXXX";

static const char *file_with(const char *name, const char *text)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    assert_int_equal(fclose(f), 0);
    return path;
}

static struct import *opened(const char *path)
{
    struct import *im = NULL;
    struct why why = {{0}};
    enum ami_status status = import_open(&im, path, NULL, NULL, &why);
    if (status != AMI_OK)
        print_error("%s\n", why.text);
    assert_ok(status);
    return im;
}

/* "id time interval obis unit value quality" of one reading, as an export would show it. */
static const char *shown(const struct import *im, size_t meter, size_t row, size_t reg)
{
    static char text[256];
    struct reading r[IMPORT_REGISTERS_MAX];
    char time[CALENDAR_TEXT_BYTES], obis[32], value[REPORT_VALUE_TEXT_BYTES_MAX + 1];
    import_row_readings(r, im, meter, row);
    calendar_text(time, r[reg].start_s);
    obis_text(obis, r[reg].obis);
    reading_value_text(value, &r[reg]);
    snprintf(text, sizeof text, "%s %s %u %s %s [%s] %u", im->meters[meter].id.text, time,
             (unsigned)r[reg].interval_s, obis, unit_name(r[reg].unit), value,
             (unsigned)r[reg].quality);
    return text;
}

static void assert_refused(const char *path, const char *format, const char *id,
                           const char *sentence)
{
    struct import *im = NULL;
    struct why why = {{0}};
    enum ami_status status = import_open(&im, path, format, id, &why);
    assert_int_not_equal(status, AMI_OK);
    assert_null(im);
    if (strstr(why.text, sentence) == NULL)
        print_error("expected \"%s\" in \"%s\"\n", sentence, why.text);
    assert_non_null(strstr(why.text, sentence));
}

/* --- made-up files of every layout ----------------------------------------------------------- */

static void london(void **state)
{
    (void)state;
    struct import *im = opened(file_with("l.csv", "LCLid,tstp,energy_kWh\r\n"
                                                  "MAC2,2013-01-01 00:00:00.0000000, 0.500 \r\n"
                                                  "MAC1,2013-06-01 00:00:00.0000000, 1 \r\n"
                                                  "MAC2,2013-01-01 00:30:00.0000000, Null \r\n"
                                                  "MAC2,2013-01-01 00:30:00.0000000, 0.25 \r\n"));
    assert_string_equal(import_format_name(im), "london");
    assert_int_equal(im->meter_count, 2);
    assert_int_equal(im->row_count, 4);
    assert_string_equal(shown(im, 0, 0, 0),
                        "MAC2 2013-01-01T00:00:00Z 1800 1-0:1.29.0*255 kWh [0.500] 0");
    assert_string_equal(shown(im, 0, 1, 0),
                        "MAC2 2013-01-01T00:30:00Z 1800 1-0:1.29.0*255 kWh [] 1");
    assert_string_equal(shown(im, 0, 2, 0),
                        "MAC2 2013-01-01T00:30:00Z 1800 1-0:1.29.0*255 kWh [0.25] 2");
    /* London's times are GMT all year. */
    assert_string_equal(shown(im, 1, 0, 0),
                        "MAC1 2013-06-01T00:00:00Z 1800 1-0:1.29.0*255 kWh [1] 0");
    import_free(im);
}

static void uci(void **state)
{
    (void)state;
    struct import *im = opened(file_with(
        "house.a.txt", "Date;Time;Global_active_power;Global_reactive_power;Voltage;"
                       "Global_intensity;Sub_metering_1;Sub_metering_2;Sub_metering_3\n"
                       "16/12/2006;17:24:00;4.216;0.418;234.840;18.400;0.000;1.000;17.000\n"
                       "1/2/2007;00:01:00;?;?;?;?;?;?;"));
    assert_string_equal(import_format_name(im), "uci");
    assert_int_equal(im->registers, 7);
    static const char *const first[] = {"1-0:1.7.0*255 kW [4.216]",   "1-0:3.7.0*255 kvar [0.418]",
                                        "1-0:32.7.0*255 V [234.840]", "1-0:31.7.0*255 A [18.400]",
                                        "1-1:1.29.0*255 Wh [0.000]",  "1-2:1.29.0*255 Wh [1.000]",
                                        "1-3:1.29.0*255 Wh [17.000]"};
    for (size_t i = 0; i < 7; i++) {
        char wanted[128];
        snprintf(wanted, sizeof wanted, "house.a 2006-12-16T17:24:00Z 60 %s 0", first[i]);
        assert_string_equal(shown(im, 0, 0, i), wanted);
        assert_non_null(strstr(shown(im, 0, 1, i), "2007-02-01T00:01:00Z 60 "));
        assert_non_null(strstr(shown(im, 0, 1, i), "[] 1"));
    }
    import_free(im);
}

static void ausgrid(void **state)
{
    (void)state;
    struct import *im = opened(file_with("pv.csv", ",GC,GG\n"
                                                   "2011-07-01 00:00:00,0.48200000000000004,0.0\n"
                                                   "2011-07-01 00:30:00,-1.50,1e-3\n\n\n"));
    assert_string_equal(shown(im, 0, 0, 0),
                        "pv 2011-07-01T00:00:00Z 1800 1-0:1.29.0*255 kWh [0.48200000000000004] 0");
    assert_string_equal(shown(im, 0, 0, 1),
                        "pv 2011-07-01T00:00:00Z 1800 1-0:2.29.0*255 kWh [0.0] 0");
    assert_string_equal(shown(im, 0, 1, 0),
                        "pv 2011-07-01T00:30:00Z 1800 1-0:1.29.0*255 kWh [-1.50] 0");
    /* Another way to write a number is kept as it stands. */
    assert_string_equal(shown(im, 0, 1, 1),
                        "pv 2011-07-01T00:30:00Z 1800 1-0:2.29.0*255 kWh [1e-3] 4");
    import_free(im);
}

static void uk(void **state)
{
    (void)state;
    static const char text[] = "start,value\r\n"
                               "2020-04-01 01:00:00+01:00,0.078\r\n"
                               "2020-04-01 02:00:00+01:00,0.1\r\n"
                               "2020-04-01 05:00:00+01:00,0.2\r\n"
                               "2020-04-01 05:00:00Z,0.3\r\n"
                               "2020-04-01T06:00,0.4\r\n"
                               "2020-04-01 01:00:00+01:00,0.5";
    struct import *im = opened(file_with("s.csv", text));
    assert_int_equal(im->interval_s, 3600); /* the commonest distance */
    assert_non_null(strstr(shown(im, 0, 0, 0), "2020-04-01T00:00:00Z 3600 "));
    assert_non_null(strstr(shown(im, 0, 2, 0), "2020-04-01T04:00:00Z "));
    assert_non_null(strstr(shown(im, 0, 3, 0), "2020-04-01T05:00:00Z "));
    assert_non_null(strstr(shown(im, 0, 4, 0), "2020-04-01T06:00:00Z "));
    assert_non_null(strstr(shown(im, 0, 5, 0), "[0.5] 2")); /* repeats the first one's time */
    assert_non_null(strstr(shown(im, 0, 0, 0), "[0.078] 0"));
    import_free(im);

    /* The same, compressed: same digest, so a replay goes on in either. */
    char path[256];
    snprintf(path, sizeof path, "%s/s.csv.gz", folder);
    gzFile gz = gzopen(path, "wb");
    assert_int_equal(gzwrite(gz, text, sizeof text - 1), sizeof text - 1);
    assert_int_equal(gzclose(gz), Z_OK);
    struct import *again = opened(path);
    assert_string_equal(again->meters[0].id.text, "s");
    assert_int_equal(again->row_count, 6);
    sm3_digest plain = sm3(span_of(text, sizeof text - 1));
    assert_true(sm3_equal(&again->digest, &plain));
    import_free(again);

    /* Cut short. */
    assert_int_equal(truncate(path, 40), 0);
    assert_refused(path, NULL, NULL, "s.csv.gz: ");
}

static void format_and_id_by_name(void **state)
{
    (void)state;
    struct import *im;
    struct why why;
    const char *path = file_with("no header.csv", "2020-01-01 00:00,1\n2020-01-01 00:15,2\n");
    assert_refused(path, NULL, NULL, "no known layout");
    assert_refused(path, "uk", NULL, "give one with --id");
    assert_refused(path, "nem12", NULL, "expected one of london, uci, ausgrid, uk");
    assert_refused(path, "uk", "a b", "--id a b");
    assert_ok(import_open(&im, path, "uk", "house-1", &why));
    assert_string_equal(im->meters[0].id.text, "house-1");
    assert_int_equal(im->interval_s, 900);
    assert_int_equal(im->row_count, 2);
    import_free(im);
    path = file_with("l.csv", "LCLid,tstp,energy_kWh\nM,2013-01-01 00:00:00,1\n");
    assert_refused(path, NULL, "house-1", "files without an id column");
}

static void malformed_rows(void **state)
{
    (void)state;
    static const struct {
        const char *text, *sentence;
    } cases[] = {
        {"start,value\n2020-01-01 00:00:00,1\n2020-01-01 00:30:00\n",
         ":3: expected 2 cells separated by ',', found 1"},
        {"start,value\n2020-01-01 00:00:00,1,2\n",
         ":2: expected 2 cells separated by ',', found 3"},
        {"start,value\n2020-01-01 00:00:00,abc\n",
         ":2: expected a number in column 2, found \"abc\""},
        {"start,value\n2020-01-01 00:00:00,1 2\n", "found \"1 2\""},
        {"start,value\n2020-01-01 00:00:00,0x10\n", "found \"0x10\""},
        {"start,value\n2020-02-30 00:00:00,1\n", ":2: expected a time"},
        {"start,value\n2019-02-29 00:00:00,1\n", ":2: expected a time"},
        {"start,value\n2020-01-01 24:00:00,1\n", ":2: expected a time"},
        {"start,value\n2020-01-01 00:00:00.5,1\n", ":2: expected a time"},
        {"start,value\n2020-01-01 00:00:00+1,1\n", ":2: expected a time"},
        {"start,value\n0001-01-01 00:00:00+02:00,1\n", ":2: expected a time"},
        {"start,value\n01/02/2020 00:00:00,1\n", ":2: expected a time"},
        {"start,value\n2020-01-01 00:00:00,1\n\n2020-01-01 00:30:00,1\n", ":3: a blank line"},
        {"start,value\n", "the file has no rows"},
        {"", "the file is empty"},
        {"begin,value\n2020-01-01 00:00:00,1\n", ":1: no known layout"},
        {"start;value\n2020-01-01 00:00:00;1\n", ":1: no known layout"},
        {"start,value\n2020-01-01 00:00:00,123456789012345678901234567890123\n",
         "more than 32 characters"},
        {"LCLid,tstp,energy_kWh\nM 1,2013-01-01 00:00:00,1\n", ":2: expected a meter id"},
        {"LCLid,tstp,energy_kWh\n,2013-01-01 00:00:00,1\n", ":2: expected a meter id"},
        {"LCLid,tstp,energy_kWh\nM,2013-01-01 00:00:00,1\nM,2013-01-01 00:30:00,\x01\n",
         ":3: expected a number in column 3, found \"?\""},
        {"Date;Time;Global_active_power;Global_reactive_power;Voltage;Global_intensity;"
         "Sub_metering_1;Sub_metering_2;Sub_metering_3\n31/4/2007;00:00:00;1;1;1;1;1;1;1\n",
         ":2: expected a time such as \"16/12/2006;17:24:00\", found \"31/4/2007;00:00:00\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_refused(file_with("bad.csv", cases[i].text), NULL, NULL, cases[i].sentence);
    assert_refused("/nonexistent/file.csv", NULL, NULL, "cannot be opened: No such file");
    assert_refused(folder, NULL, NULL, ": ");
}

/* Any prefix and any changed byte of a good file is read or refused, never misread silently into a
 * crash; what is read has parsable rows. */
static void damaged_files(void **state)
{
    (void)state;
    static const char good[] = "LCLid,tstp,energy_kWh\r\n"
                               "MAC2,2013-01-01 00:00:00.0000000, 0.500 \r\n"
                               "MAC1,2013-06-01 00:30:00.0000000, 17 \r\n";
    for (size_t cut = 0; cut < sizeof good; cut++)
        for (int change = 0; change < 2; change++) {
            char text[sizeof good];
            memcpy(text, good, sizeof good);
            if (change == 0)
                text[cut] = '\0';
            else
                text[cut] = text[cut] == '9' ? ' ' : '9';
            text[sizeof good - 1] = '\0';
            struct import *im = NULL;
            if (import_open(&im, file_with("d.csv", text), NULL, NULL, NULL) != AMI_OK)
                continue;
            for (size_t m = 0; m < im->meter_count; m++)
                for (size_t r = 0; r < im->meters[m].count; r++)
                    (void)shown(im, m, r, 0);
            import_free(im);
        }
}

/* --- the real files, when they are there ----------------------------------------------------- */

static const char *real_file(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, PROFILES "%s", name);
    if (access(path, R_OK) == 0)
        return path;
    print_message("SKIPPED: no %s beside the project\n", path);
    skip();
    return NULL;
}

/* Compares every value with the text of its cell, found in another way: by counting separators. */
static void assert_row_for_row(const char *path, char separator, size_t before, size_t rows,
                               size_t repeated)
{
    struct import *im = opened(path);
    size_t *at = calloc(im->meter_count, sizeof *at), seen = 0, again = 0;
    gzFile in = gzopen(path, "rb");
    char line[512];
    assert_non_null(gzgets(in, line, sizeof line)); /* the header */
    while (gzgets(in, line, sizeof line) != NULL) {
        size_t meter = 0;
        if (im->meter_count > 1)
            while (strncmp(line, im->meters[meter].id.text, strcspn(line, ",")) != 0)
                meter++;
        size_t row = at[meter]++;
        struct reading r[IMPORT_REGISTERS_MAX];
        import_row_readings(r, im, meter, row);
        again += (r[0].quality & QUALITY_REPEATED) != 0;
        char *cell = line;
        for (size_t i = 0; i < before; i++)
            cell = strchr(cell, separator) + 1;
        for (size_t i = 0; i < im->registers; i++) {
            char value[REPORT_VALUE_TEXT_BYTES_MAX + 1], wanted[64];
            cell += strspn(cell, " ");
            size_t size = strcspn(cell, (char[]){separator, ' ', '\r', '\n', 0});
            snprintf(wanted, sizeof wanted, "%.*s", (int)size, cell);
            reading_value_text(value, &r[i]);
            assert_string_equal(value, wanted);
            cell = strchr(cell, separator) == NULL ? cell : strchr(cell, separator) + 1;
        }
        seen++;
    }
    assert_int_equal(seen, rows);
    assert_int_equal(im->row_count, rows);
    assert_int_equal(again, repeated);
    gzclose(in);
    free(at);
    import_free(im);
}

static void real_london(void **state)
{
    (void)state;
    assert_row_for_row(real_file("london_halfhourly_3homes.csv"), ',', 2, 3 * 20305, 0);
}
static void real_uci(void **state)
{
    (void)state;
    assert_row_for_row(real_file("uci_household_1min_2days.txt"), ';', 2, 2880, 0);
}
static void real_ausgrid(void **state)
{
    (void)state;
    assert_row_for_row(real_file("ausgrid_halfhourly_1home_pv.csv"), ',', 1, 17568, 0);
}
static void real_uk(void **state)
{
    (void)state;
    assert_row_for_row(real_file("uk_sample_0.csv.gz"), ',', 1, 23508, 0);
    assert_row_for_row(real_file("uk_sample_1.csv.gz"), ',', 1, 22536, 15);
    assert_row_for_row(real_file("uk_sample_2.csv.gz"), ',', 1, 35468, 24);
    struct import *im = opened(real_file("uk_sample_0.csv.gz"));
    assert_int_equal(im->interval_s, 3600);
    import_free(im);
    im = opened(real_file("uk_sample_2.csv.gz"));
    assert_int_equal(im->interval_s, 1800);
    import_free(im);
}

/* --- calendar and profile -------------------------------------------------------------------- */

static void calendar_both_ways(void **state)
{
    (void)state;
    struct calendar_time t;
    int64_t s;
    t = calendar_from_s(0);
    assert_int_equal(t.weekday, 3); /* a Thursday */
    /* Every 37 hours and a bit over four centuries, and the ends of the range. */
    for (int64_t at = -62135596800; at < 253402300800; at += 40009567) {
        t = calendar_from_s(at);
        assert_ok(calendar_to_s(&s, &t));
        assert_int_equal(s, at);
    }
    char text[CALENDAR_TEXT_BYTES];
    calendar_text(text, 1709164799);
    assert_string_equal(text, "2024-02-28T23:59:59Z");
    calendar_text(text, 1709164800);
    assert_string_equal(text, "2024-02-29T00:00:00Z");
    calendar_text(text, 253402300799);
    assert_string_equal(text, "9999-12-31T23:59:59Z");
    t = (struct calendar_time){1900, 2, 29, 0, 0, 0, 0};
    assert_status(calendar_to_s(&s, &t), AMI_BAD_ARGUMENT);
}

/* Same meter, seed and interval: the same reading; and the figures look like a household. */
static void profile_is_deterministic(void **state)
{
    (void)state;
    struct ami_id a, b;
    assert_ok(ami_id_from_text(&a, "meter-1"));
    assert_ok(ami_id_from_text(&b, "meter-2"));
    int64_t day_wh = 0, night = 0, evening = 0;
    size_t same = 0;
    for (uint64_t i = 0; i < 48 * 365; i++) {
        struct reading x, y, z;
        profile_reading(&x, 1, &a, i);
        profile_reading(&y, 1, &a, i);
        profile_reading(&z, 1, &b, i);
        assert_memory_equal(&x, &y, sizeof x);
        assert_int_equal(x.start_s, PROFILE_START_S + (int64_t)i * 1800);
        assert_true(x.mantissa > 0 && x.mantissa < 10000);
        same += x.mantissa == z.mantissa;
        day_wh += x.mantissa;
        if (i % 48 == 8)
            night += x.mantissa;
        if (i % 48 == 37)
            evening += x.mantissa;
    }
    assert_true(same < 365);
    assert_true(evening > 2 * night);
    assert_in_range(day_wh / 365, 5000, 40000); /* Wh a day */
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) == NULL;
}

static int drop_folder(void **state)
{
    (void)state;
    char command[300];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(london),
        cmocka_unit_test(uci),
        cmocka_unit_test(ausgrid),
        cmocka_unit_test(uk),
        cmocka_unit_test(format_and_id_by_name),
        cmocka_unit_test(malformed_rows),
        cmocka_unit_test(damaged_files),
        cmocka_unit_test(real_london),
        cmocka_unit_test(real_uci),
        cmocka_unit_test(real_ausgrid),
        cmocka_unit_test(real_uk),
        cmocka_unit_test(calendar_both_ways),
        cmocka_unit_test(profile_is_deterministic),
    };
    if (crypto_start() != AMI_OK)
        return 1;
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
