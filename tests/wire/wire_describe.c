/* wire-describe - keeps docs/wire-format.md and wire/table.h the same.
 *
 *   wire-describe                  prints the tables
 *   wire-describe --check FILE     exits with 1, and says where, when FILE holds others
 *   wire-describe --update FILE    puts them into FILE
 *
 * The tables stand between the two marker lines below; the prose around them is left alone.
 */
#include "wire/types.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char marker_begin[] = "<!-- wire-describe: generated tables begin -->\n";
static const char marker_end[] = "<!-- wire-describe: generated tables end -->\n";

struct text {
    char *data; /* zero-terminated */
    size_t size, capacity;
};

static void append(struct text *t, const char *data, size_t size)
{
    if (t->size + size + 1 > t->capacity) {
        t->capacity = 2 * (t->size + size + 1);
        t->data = realloc(t->data, t->capacity);
        if (t->data == NULL) {
            fprintf(stderr, "wire-describe: out of memory\n");
            exit(1);
        }
    }
    memcpy(t->data + t->size, data, size);
    t->size += size;
    t->data[t->size] = '\0';
}

static void put_line(void *ctx, const char *line)
{
    append(ctx, line, strlen(line));
    append(ctx, "\n", 1);
}

static int complain(const char *path, const char *what)
{
    fprintf(stderr, "wire-describe: %s: %s\n", path, what);
    return 1;
}

static int read_file(struct text *out, const char *path)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        return complain(path, strerror(errno));
    char block[4096];
    size_t got;
    append(out, "", 0);
    while ((got = fread(block, 1, sizeof block, f)) > 0)
        append(out, block, got);
    int failed = ferror(f);
    fclose(f);
    return failed ? complain(path, "cannot be read") : 0;
}

/* Says which line differs first. */
static int compare(const char *path, const char *have, size_t have_size, const struct text *want)
{
    if (have_size == want->size && memcmp(have, want->data, have_size) == 0)
        return 0;
    size_t same = 0, line_start = 0;
    while (same < have_size && same < want->size && have[same] == want->data[same])
        if (want->data[same++] == '\n')
            line_start = same;
    fprintf(stderr,
            "wire-describe: %s differs from wire/table.h:\n  there: %.*s\n  table: %.*s\n"
            "run: cmake --build BUILD-DIR --target wire-doc\n",
            path, (int)strcspn(have + line_start, "\n"), have + line_start,
            (int)strcspn(want->data + line_start, "\n"), want->data + line_start);
    return 1;
}

static int write_file(const char *path, const struct text *t)
{
    FILE *f = fopen(path, "wb");
    if (f == NULL)
        return complain(path, strerror(errno));
    bool written = fwrite(t->data, 1, t->size, f) == t->size;
    if (fclose(f) != 0 || !written)
        return complain(path, "cannot be written");
    return 0;
}

static int check_or_update(const char *path, bool update, const struct text *tables)
{
    struct text file = {0}, out = {0};
    int failed = read_file(&file, path);
    if (!failed) {
        char *begin = strstr(file.data, marker_begin), *end = strstr(file.data, marker_end);
        if (begin == NULL || end == NULL || end < begin) {
            failed = complain(path, "the marker lines of the tables are missing");
        } else {
            begin += sizeof marker_begin - 1;
            if (update) {
                append(&out, file.data, (size_t)(begin - file.data));
                append(&out, tables->data, tables->size);
                append(&out, end, strlen(end));
                failed = write_file(path, &out);
            } else {
                *end = '\0';
                failed = compare(path, begin, (size_t)(end - begin), tables);
            }
        }
    }
    free(file.data);
    free(out.data);
    return failed;
}

int main(int argc, char **argv)
{
    struct text tables = {0};
    int status = 2;
    wire_describe(put_line, &tables);
    if (argc == 1) {
        fputs(tables.data, stdout);
        status = 0;
    } else if (argc == 3 && strcmp(argv[1], "--check") == 0) {
        status = check_or_update(argv[2], false, &tables);
    } else if (argc == 3 && strcmp(argv[1], "--update") == 0) {
        status = check_or_update(argv[2], true, &tables);
    } else {
        fprintf(stderr, "usage: wire-describe [--check FILE | --update FILE]\n");
    }
    free(tables.data);
    return status;
}
