/* One table, three ways to show it: what people, JSON and CSV get of the same cells. */
#include "tests/harness.h"

#include "sim/lab/output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct lab_column columns[] = {
    {.name = "what", .title = "what"},
    {.name = "count", .title = "how many", .source = LAB_MEASURED},
    {.name = "time",
     .title = "time",
     .unit = "us",
     .decimals = 1,
     .source = LAB_MEASURED,
     .clock = true},
    {.name = "long", .title = "long", .hidden = true},
    {0}};

static struct lab_output *filled(void)
{
    struct lab_output *out = lab_output_new();
    lab_put(out, "failed", json_null());
    struct lab_table *t = lab_table(out, "cells", "Cells of every kind", columns);
    lab_text(t, "%s, \"%d\"", "one", 1);
    lab_integer(t, -7);
    lab_real(t, 0.1);
    lab_text(t, "two\nlines");
    lab_text(t, "%s", "nothing");
    lab_none(t);
    lab_none(t);
    lab_none(t);
    return out;
}

static char *read_file(const char *dir, const char *name)
{
    char path[256];
    static char text[8192];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    size_t size = fread(text, 1, sizeof text - 1, f);
    text[size] = 0;
    assert_int_equal(fclose(f), 0);
    assert_int_equal(unlink(path), 0);
    return text;
}

static void files_hold_what_the_cells_hold(void **state)
{
    (void)state;
    char dir[] = "/tmp/ami-lab-output.XXXXXX";
    assert_non_null(mkdtemp(dir));
    struct lab_output *out = filled();
    struct why why = {""};
    assert_ok(lab_output_write(out, dir, "trial", &why));
    assert_string_equal(read_file(dir, "trial-cells.csv"),
                        "what,count,time_us,long\n"
                        "\"one, \"\"1\"\"\",-7,0.1,\"two\nlines\"\n"
                        "nothing,,,\n");
    json_t *document = json_loads(read_file(dir, "trial.json"), 0, NULL);
    assert_non_null(document);
    json_t *table = json_object_get(json_object_get(document, "tables"), "cells");
    json_t *row = json_array_get(json_object_get(table, "rows"), 0);
    assert_int_equal(json_integer_value(json_object_get(row, "count")), -7);
    assert_string_equal(json_string_value(json_object_get(row, "what")), "one, \"1\"");
    row = json_array_get(json_object_get(table, "rows"), 1);
    assert_true(json_is_null(json_object_get(row, "time")));
    json_t *column = json_array_get(json_object_get(table, "columns"), 2);
    assert_true(json_is_true(json_object_get(column, "clock")));
    assert_string_equal(json_string_value(json_object_get(column, "unit")), "us");
    json_decref(document);
    assert_int_equal(rmdir(dir), 0);
    assert_status(lab_output_write(out, dir, "trial", &why), AMI_NOT_FOUND);
    assert_non_null(strstr(why.text, "trial.json"));
    lab_output_free(out);
}

static void people_get_what_fits(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    assert_non_null(f);
    struct lab_output *out = filled();
    lab_note(out, "a note");
    lab_output_print(out, f);
    assert_int_equal(fclose(f), 0);
    assert_non_null(strstr(text, "time, us"));
    assert_non_null(strstr(text, "one, \"1\""));
    assert_non_null(strstr(text, " 0.1"));
    assert_non_null(strstr(text, "a note\n"));
    assert_null(strstr(text, "lines")); /* hidden */
    free(text);
    lab_output_free(out);
}

static void the_first_failure_is_the_documents(void **state)
{
    (void)state;
    struct lab_output *out = filled();
    assert_false(lab_output_failed(out));
    assert_true(json_is_null(json_object_get(lab_output_json(out), "failed")));
    lab_fail(out, "the %s one", "first");
    lab_fail(out, "the second one");
    assert_true(lab_output_failed(out));
    json_t *document = lab_output_json(out);
    assert_string_equal(json_string_value(json_object_get(document, "failed")), "the first one");
    assert_int_equal(json_array_size(json_object_get(document, "notes")), 2);
    lab_output_free(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_hold_what_the_cells_hold),
        cmocka_unit_test(people_get_what_fits),
        cmocka_unit_test(the_first_failure_is_the_documents),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
