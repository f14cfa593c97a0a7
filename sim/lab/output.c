/* sim/lab/output.c - one table, three ways to show it. */
#include "sim/lab/output.h"

#include "base/check.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TEXT_COLUMN_MAX 72 /* wider cells are cut for people */

struct lab_table {
    const char *name, *title;
    const struct lab_column *column;
    size_t columns, cells;
    json_t *rows; /* an array of objects */
    struct lab_table *next;
};

struct lab_output {
    struct lab_table *first, *last;
    json_t *document, *notes;
    bool failed;
};

/* --- making ---------------------------------------------------------------------------------- */

struct lab_output *lab_output_new(void)
{
    struct lab_output *out = calloc(1, sizeof *out);
    AMI_CHECK(out != NULL);
    out->document = json_object();
    out->notes = json_array();
    AMI_CHECK(out->document != NULL && out->notes != NULL);
    return out;
}

void lab_output_free(struct lab_output *out)
{
    for (struct lab_table *t = out->first, *next; t != NULL; t = next) {
        next = t->next;
        json_decref(t->rows);
        free(t);
    }
    json_decref(out->document);
    json_decref(out->notes);
    free(out);
}

struct lab_table *lab_table(struct lab_output *out, const char *name, const char *title,
                            const struct lab_column *columns)
{
    struct lab_table *t = calloc(1, sizeof *t);
    AMI_CHECK(t != NULL);
    *t = (struct lab_table){.name = name, .title = title, .column = columns, .rows = json_array()};
    AMI_CHECK(t->rows != NULL);
    while (columns[t->columns].name != NULL)
        t->columns++;
    AMI_CHECK(t->columns > 0);
    if (out->last == NULL)
        out->first = t;
    else
        out->last->next = t;
    out->last = t;
    return t;
}

static void put_cell(struct lab_table *t, json_t *value)
{
    size_t at = t->cells++ % t->columns;
    if (at == 0)
        AMI_CHECK(json_array_append_new(t->rows, json_object()) == 0);
    json_t *row = json_array_get(t->rows, json_array_size(t->rows) - 1);
    AMI_CHECK(value != NULL && json_object_set_new(row, t->column[at].name, value) == 0);
}

static json_t *format_text(const char *format, va_list args)
{
    char *text;
    AMI_CHECK(vasprintf(&text, format, args) >= 0);
    json_t *value = json_string(text);
    AMI_CHECK(value != NULL);
    free(text);
    return value;
}

void lab_text(struct lab_table *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    put_cell(t, format_text(format, args));
    va_end(args);
}

void lab_integer(struct lab_table *t, int64_t value)
{
    put_cell(t, json_integer(value));
}

void lab_real(struct lab_table *t, double value)
{
    put_cell(t, json_real(value));
}

void lab_none(struct lab_table *t)
{
    put_cell(t, json_null());
}

void lab_note(struct lab_output *out, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    AMI_CHECK(json_array_append_new(out->notes, format_text(format, args)) == 0);
    va_end(args);
}

void lab_fail(struct lab_output *out, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    json_t *text = format_text(format, args);
    va_end(args);
    if (!out->failed)
        AMI_CHECK(json_object_set(out->document, "failed", text) == 0);
    out->failed = true;
    AMI_CHECK(json_array_append_new(out->notes, text) == 0);
}

bool lab_output_failed(const struct lab_output *out)
{
    return out->failed;
}

void lab_put(struct lab_output *out, const char *key, json_t *value)
{
    AMI_CHECK(value != NULL && json_object_set_new(out->document, key, value) == 0);
}

/* --- JSON ------------------------------------------------------------------------------------ */

static const char *source_name(enum lab_source source)
{
    static const char *const names[] = {
        [LAB_NO_SOURCE] = "none", [LAB_MEASURED] = "measured",   [LAB_REPORTED] = "reported",
        [LAB_MODEL] = "model",    [LAB_SIMULATED] = "simulated", [LAB_ASSUMED] = "assumed"};
    return names[source];
}

static json_t *table_json(const struct lab_table *t)
{
    json_t *columns = json_array();
    for (size_t i = 0; i < t->columns; i++) {
        const struct lab_column *c = &t->column[i];
        json_array_append_new(
            columns, json_pack("{s:s, s:s, s:s?, s:s, s:b, s:i, s:b}", "name", c->name, "title",
                               c->title, "unit", c->unit, "source", source_name(c->source), "clock",
                               c->clock, "decimals", (int)c->decimals, "hidden", c->hidden));
    }
    return json_pack("{s:s, s:o, s:O}", "title", t->title, "columns", columns, "rows", t->rows);
}

json_t *lab_output_json(struct lab_output *out)
{
    json_t *tables = json_object();
    for (const struct lab_table *t = out->first; t != NULL; t = t->next)
        AMI_CHECK(json_object_set_new(tables, t->name, table_json(t)) == 0);
    AMI_CHECK(json_object_set(out->document, "notes", out->notes) == 0);
    AMI_CHECK(json_object_set_new(out->document, "tables", tables) == 0);
    return out->document;
}

/* --- text ------------------------------------------------------------------------------------ */

/* One cell as people read it. */
static const char *cell_text(char text[TEXT_COLUMN_MAX + 1], const struct lab_column *c,
                             const json_t *value)
{
    if (json_is_integer(value)) {
        snprintf(text, TEXT_COLUMN_MAX + 1, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    } else if (json_is_real(value)) {
        snprintf(text, TEXT_COLUMN_MAX + 1, "%.*f", (int)c->decimals, json_real_value(value));
    } else if (json_is_string(value)) {
        size_t size = json_string_length(value);
        snprintf(text, TEXT_COLUMN_MAX + 1, "%s", json_string_value(value));
        if (size > TEXT_COLUMN_MAX)
            memcpy(text + TEXT_COLUMN_MAX - 3, "...", 3);
    } else {
        snprintf(text, TEXT_COLUMN_MAX + 1, "-");
    }
    return text;
}

static void print_table(FILE *to, const struct lab_table *t)
{
    char text[TEXT_COLUMN_MAX + 1], head[TEXT_COLUMN_MAX + 1];
    int *width = calloc(t->columns, sizeof *width);
    AMI_CHECK(width != NULL);
    fprintf(to, "%s\n\n", t->title);
    /* Line -1 is the head; the first pass measures. */
    for (int pass = 0; pass < 2; pass++) {
        for (long row = -1; row < (long)json_array_size(t->rows); row++) {
            for (size_t i = 0; i < t->columns; i++) {
                const struct lab_column *c = &t->column[i];
                const json_t *value =
                    row < 0 ? NULL : json_object_get(json_array_get(t->rows, (size_t)row), c->name);
                snprintf(head, sizeof head, c->unit == NULL ? "%s" : "%s, %s", c->title,
                         c->unit == NULL ? "" : c->unit);
                const char *shown = row < 0 ? head : cell_text(text, c, value);
                if (c->hidden)
                    continue;
                if (pass == 0 && (int)strlen(shown) > width[i])
                    width[i] = (int)strlen(shown);
                bool number = json_is_number(value);
                if (pass == 1)
                    fprintf(to, number ? "%*s  " : "%-*s  ", width[i], shown);
            }
            if (pass == 1)
                fputc('\n', to);
        }
    }
    fputc('\n', to);
    free(width);
}

void lab_output_print(const struct lab_output *out, FILE *to)
{
    size_t i;
    json_t *note;
    for (const struct lab_table *t = out->first; t != NULL; t = t->next)
        print_table(to, t);
    json_array_foreach(out->notes, i, note) fprintf(to, "%s\n", json_string_value(note));
}

/* --- files ----------------------------------------------------------------------------------- */

/* RFC 4180: quotes around what needs them, doubled inside. */
static void csv_text(FILE *to, const char *text)
{
    if (strpbrk(text, ",\"\n\r") == NULL) {
        fputs(text, to);
        return;
    }
    fputc('"', to);
    for (; *text != 0; text++) {
        if (*text == '"')
            fputc('"', to);
        fputc(*text, to);
    }
    fputc('"', to);
}

/* "name" or "name_unit", in letters that every tool takes. */
static void csv_head(FILE *to, const struct lab_column *c)
{
    fputs(c->name, to);
    if (c->unit != NULL)
        fputc('_', to);
    for (const char *u = c->unit; u != NULL && *u != 0; u++)
        if (*u == '%')
            fputs("percent", to);
        else
            fputc(isalnum((unsigned char)*u) ? *u : '_', to);
}

static void csv_table(FILE *to, const struct lab_table *t)
{
    size_t row;
    json_t *cells;
    for (size_t i = 0; i < t->columns; i++) {
        fputs(i == 0 ? "" : ",", to);
        csv_head(to, &t->column[i]);
    }
    fputc('\n', to);
    json_array_foreach(t->rows, row, cells)
    {
        for (size_t i = 0; i < t->columns; i++) {
            const json_t *value = json_object_get(cells, t->column[i].name);
            if (i != 0)
                fputc(',', to);
            if (json_is_integer(value))
                fprintf(to, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
            else if (json_is_real(value))
                fprintf(to, "%.15g", json_real_value(value));
            else if (json_is_string(value))
                csv_text(to, json_string_value(value));
        }
        fputc('\n', to);
    }
}

static enum ami_status file_failed(struct why *why, const char *path)
{
    return why_set(why, why_status_of_errno(errno), "%s: %s", path, strerror(errno));
}

enum ami_status lab_output_write(struct lab_output *out, const char *dir, const char *name,
                                 struct why *why)
{
    char *path;
    AMI_CHECK(asprintf(&path, "%s/%s.json", dir, name) >= 0);
    json_t *document = lab_output_json(out);
    FILE *to = fopen(path, "w");
    bool good = to != NULL && json_dumpf(document, to, JSON_INDENT(2)) == 0 &&
                fputc('\n', to) != EOF && fflush(to) == 0;
    enum ami_status status = good ? AMI_OK : file_failed(why, path);
    if (to != NULL && fclose(to) != 0 && status == AMI_OK)
        status = file_failed(why, path);
    free(path);
    for (const struct lab_table *t = out->first; t != NULL && status == AMI_OK; t = t->next) {
        AMI_CHECK(asprintf(&path, "%s/%s-%s.csv", dir, name, t->name) >= 0);
        to = fopen(path, "w");
        if (to == NULL) {
            status = file_failed(why, path);
        } else {
            csv_table(to, t);
            bool bad = ferror(to) != 0;
            if (fclose(to) != 0 || bad)
                status = file_failed(why, path);
        }
        free(path);
    }
    return status;
}

/* --- the machine ----------------------------------------------------------------------------- */

const char *lab_machine(void)
{
    static char name[128];
    char line[256];
    FILE *f = name[0] == 0 ? fopen("/proc/cpuinfo", "r") : NULL;
    while (f != NULL && name[0] == 0 && fgets(line, sizeof line, f) != NULL) {
        char *value = strncmp(line, "model name", 10) == 0 ? strchr(line, ':') : NULL;
        if (value == NULL)
            continue;
        value += 1 + strspn(value + 1, " \t");
        value[strcspn(value, "\n")] = 0;
        snprintf(name, sizeof name, "%.120s", value);
    }
    if (f != NULL)
        (void)fclose(f); /* it was read only */
    if (name[0] == 0)
        snprintf(name, sizeof name, "unknown processor");
    return name;
}

uint64_t lab_cpu_ns(void)
{
    struct timespec t;
    AMI_CHECK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) == 0);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
