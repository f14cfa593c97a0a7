#include "meter/import.h"

#include "base/check.h"
#include "meter/calendar.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

/* Each layout is one table entry and one function that takes the cells of a row apart. */

#define CELLS_MAX     16
#define LINE_MAX_SHOW 40

struct cell {
    const char *text;
    size_t size;
};

struct import_register {
    uint8_t obis[6];
    uint8_t unit;
};

struct import_layout {
    const char *name;
    char separator;
    const char *header[2]; /* accepted first lines, cells trimmed; the second may be NULL */
    bool has_id;           /* cell 0 is the meter's id */
    size_t time_cells;     /* how many cells after that make the time: 1 ISO, 2 d/m/y and clock */
    uint32_t interval_s;   /* 0: the commonest distance between rows */
    size_t registers;
    struct import_register reg[IMPORT_REGISTERS_MAX];
};

/* OBIS: C 1 active import, 2 active export, 3 reactive import, 31 and 32 current and voltage of the
 * one phase; D 29 energy of one recording interval, 7 momentary value (the file's minute averages);
 * B a channel of a sub-meter. */
static const struct import_layout layouts[] = {
    {.name = "london",
     .separator = ',',
     .header = {"LCLid,tstp,energy_kWh", "LCLid,tstp,energy(kWh/hh)"},
     .has_id = true,
     .time_cells = 1,
     .interval_s = 1800,
     .registers = 1,
     .reg = {{{1, 0, 1, 29, 0, 255}, UNIT_KWH}}},
    {.name = "uci",
     .separator = ';',
     .header = {"Date;Time;Global_active_power;Global_reactive_power;Voltage;Global_intensity;"
                "Sub_metering_1;Sub_metering_2;Sub_metering_3",
                NULL},
     .time_cells = 2,
     .interval_s = 60,
     .registers = 7,
     .reg = {{{1, 0, 1, 7, 0, 255}, UNIT_KW},
             {{1, 0, 3, 7, 0, 255}, UNIT_KVAR},
             {{1, 0, 32, 7, 0, 255}, UNIT_V},
             {{1, 0, 31, 7, 0, 255}, UNIT_A},
             {{1, 1, 1, 29, 0, 255}, UNIT_WH},
             {{1, 2, 1, 29, 0, 255}, UNIT_WH},
             {{1, 3, 1, 29, 0, 255}, UNIT_WH}}},
    {.name = "ausgrid",
     .separator = ',',
     .header = {",GC,GG", NULL},
     .time_cells = 1,
     .interval_s = 1800,
     .registers = 2,
     .reg = {{{1, 0, 1, 29, 0, 255}, UNIT_KWH}, {{1, 0, 2, 29, 0, 255}, UNIT_KWH}}},
    {.name = "uk",
     .separator = ',',
     .header = {"start,value", NULL},
     .time_cells = 1,
     .interval_s = 0,
     .registers = 1,
     .reg = {{{1, 0, 1, 29, 0, 255}, UNIT_KWH}}},
};
#define LAYOUT_COUNT (sizeof layouts / sizeof layouts[0])

const char *import_format_names(void)
{
    return "london, uci, ausgrid, uk";
}

const char *import_format_name(const struct import *im)
{
    return im->layout->name;
}

/* --- reading the file ------------------------------------------------------------------------ */

static enum ami_status read_all(struct import *im, const char *path, struct why *why)
{
    gzFile in = gzopen(path, "rb");
    if (in == NULL) {
        enum ami_status status = errno == 0 ? AMI_NO_MEMORY : why_status_of_errno(errno);
        return why_set(why, status, "%s: cannot be opened: %s", path, strerror(errno));
    }
    enum ami_status status = AMI_OK;
    size_t capacity = 1u << 20;
    im->text = malloc(capacity);
    if (im->text == NULL)
        status = why_set(why, AMI_NO_MEMORY, "%s: out of memory", path);
    while (status == AMI_OK) {
        if (im->size == capacity) {
            if (capacity >= IMPORT_BYTES_MAX) {
                status = why_set(why, AMI_TOO_LARGE, "%s: larger than %u MiB; split it", path,
                                 IMPORT_BYTES_MAX >> 20);
                break;
            }
            char *more = realloc(im->text, capacity * 2);
            if (more == NULL) {
                status = why_set(why, AMI_NO_MEMORY, "%s: out of memory", path);
                break;
            }
            im->text = more;
            capacity *= 2;
        }
        size_t room = capacity - im->size;
        int got = gzread(in, im->text + im->size, room > 1u << 20 ? 1u << 20 : (unsigned)room);
        if (got > 0) {
            im->size += (size_t)got;
            continue;
        }
        int code;
        const char *text = gzerror(in, &code);
        /* gzread says 0 at the end of a stream that was cut short, too; only gzerror tells. */
        if (got < 0 || (code != Z_OK && code != Z_STREAM_END)) {
            const char *reason = code == Z_ERRNO ? strerror(errno) : text;
            status = why_set(why, code == Z_ERRNO ? AMI_IO : AMI_BAD_ENCODING,
                             "%s: cannot be read to its end: %s", path, reason);
        }
        break;
    }
    if (gzclose(in) != Z_OK && status == AMI_OK)
        status = why_set(why, AMI_BAD_ENCODING, "%s: the compressed data ends early", path);
    return status;
}

/* --- lines and cells ------------------------------------------------------------------------- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static struct cell trimmed(const char *text, size_t size)
{
    while (size > 0 && is_blank(text[0])) {
        text++;
        size--;
    }
    while (size > 0 && is_blank(text[size - 1]))
        size--;
    return (struct cell){text, size};
}

/* The line that starts at `at`, without its end. */
static struct cell line_at(const struct import *im, size_t at)
{
    const char *end = memchr(im->text + at, '\n', im->size - at);
    size_t size = end == NULL ? im->size - at : (size_t)(end - (im->text + at));
    return (struct cell){im->text + at, size};
}

/* More than CELLS_MAX cells count as CELLS_MAX + 1. */
static size_t split(struct cell out[CELLS_MAX], struct cell line, char separator)
{
    size_t count = 0, from = 0;
    for (size_t i = 0; i <= line.size; i++) {
        if (i < line.size && line.text[i] != separator)
            continue;
        if (count == CELLS_MAX)
            return CELLS_MAX + 1;
        out[count++] = trimmed(line.text + from, i - from);
        from = i + 1;
    }
    return count;
}

static bool is_header(const struct import_layout *l, struct cell line)
{
    struct cell cells[CELLS_MAX], wanted[CELLS_MAX];
    size_t count = split(cells, line, l->separator);
    for (size_t h = 0; h < 2 && l->header[h] != NULL; h++) {
        size_t n = split(wanted, (struct cell){l->header[h], strlen(l->header[h])}, l->separator);
        bool same = n == count && n <= CELLS_MAX;
        for (size_t i = 0; same && i < n; i++)
            same = cells[i].size == wanted[i].size &&
                   memcmp(cells[i].text, wanted[i].text, cells[i].size) == 0;
        if (same)
            return true;
    }
    return false;
}

/* A cell for a sentence: printable, short. */
static const char *shown(char out[LINE_MAX_SHOW + 4], struct cell c)
{
    size_t n = c.size < LINE_MAX_SHOW ? c.size : LINE_MAX_SHOW;
    for (size_t i = 0; i < n; i++)
        out[i] = c.text[i] >= ' ' && c.text[i] <= '~' ? c.text[i] : '?';
    memcpy(out + n, c.size > n ? "..." : "", c.size > n ? 4 : 1);
    return out;
}

/* --- rows ------------------------------------------------------------------------------------ */

struct row {
    struct ami_id id; /* of a layout with ids */
    int64_t start_s;
    struct reading readings[IMPORT_REGISTERS_MAX];
};

static bool means_missing(struct cell c)
{
    static const char *const words[] = {"Null", "null", "NULL", "NaN", "nan", "?"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (c.size == strlen(words[i]) && memcmp(c.text, words[i], c.size) == 0)
            return true;
    return c.size == 0;
}

static enum ami_status parse_value(struct reading *r, struct cell c, size_t column, struct why *why)
{
    char show[LINE_MAX_SHOW + 4];
    if (means_missing(c))
        c.size = 0;
    enum ami_status status = reading_value_set(r, c.text, c.size);
    if (status == AMI_TOO_LARGE)
        return why_set(why, AMI_BAD_ENCODING,
                       "the value in column %zu has more than %d characters: \"%s\"", column,
                       REPORT_VALUE_TEXT_BYTES_MAX, shown(show, c));
    if (status != AMI_OK)
        return why_set(why, AMI_BAD_ENCODING, "expected a number in column %zu, found \"%s\"",
                       column, shown(show, c));
    return AMI_OK;
}

/* `why` gets the reason without file and line. */
static enum ami_status parse_row(struct row *out, const struct import_layout *l, struct cell line,
                                 struct why *why)
{
    struct cell cells[CELLS_MAX];
    char show[LINE_MAX_SHOW + 4];
    size_t wanted = (l->has_id ? 1 : 0) + l->time_cells + l->registers;
    size_t count = split(cells, line, l->separator);
    if (count != wanted)
        return why_set(why, AMI_BAD_ENCODING, "expected %zu cells separated by '%c', found %s%zu",
                       wanted, l->separator, count > CELLS_MAX ? "more than " : "",
                       count > CELLS_MAX ? (size_t)CELLS_MAX : count);
    size_t at = 0;
    if (l->has_id) {
        if (ami_id_set(&out->id, cells[0].text, cells[0].size) != AMI_OK)
            return why_set(why, AMI_BAD_ENCODING,
                           "expected a meter id of 1 to %d letters, digits, '.', '_' or '-', "
                           "found \"%s\"",
                           AMI_ID_BYTES_MAX, shown(show, cells[0]));
        at++;
    }
    enum ami_status status;
    if (l->time_cells == 2)
        status = calendar_parse_dmy(&out->start_s, cells[at].text, cells[at].size,
                                    cells[at + 1].text, cells[at + 1].size);
    else
        status = calendar_parse_iso(&out->start_s, cells[at].text, cells[at].size);
    /* A zone may carry an instant out of the years that a report can hold. */
    if (status != AMI_OK || out->start_s < REPORT_START_S_MIN || out->start_s > REPORT_START_S_MAX)
        return why_set(why, AMI_BAD_ENCODING, "expected a time such as \"%s\", found \"%s\"",
                       l->time_cells == 2 ? "16/12/2006;17:24:00" : "2013-01-01 00:30:00",
                       shown(show, l->time_cells == 2
                                       ? (struct cell){cells[at].text, (size_t)(cells[at + 1].text +
                                                                                cells[at + 1].size -
                                                                                cells[at].text)}
                                       : cells[at]));
    at += l->time_cells;
    for (size_t i = 0; i < l->registers; i++) {
        struct reading *r = &out->readings[i];
        *r = (struct reading){.unit = l->reg[i].unit, .start_s = out->start_s};
        memcpy(r->obis, l->reg[i].obis, sizeof r->obis);
        AMI_TRY(parse_value(r, cells[at + i], at + i + 1, why));
    }
    return AMI_OK;
}

void import_row_readings(struct reading out[IMPORT_REGISTERS_MAX], const struct import *im,
                         size_t meter, size_t row)
{
    AMI_CHECK(meter < im->meter_count && row < im->meters[meter].count);
    const struct import_row *place = &im->meters[meter].rows[row];
    struct row parsed;
    enum ami_status status = parse_row(&parsed, im->layout, line_at(im, place->at), NULL);
    AMI_CHECK(status == AMI_OK); /* import_open has parsed this very row */
    for (size_t i = 0; i < im->registers; i++) {
        out[i] = parsed.readings[i];
        out[i].interval_s = im->interval_s;
        if (place->repeated)
            out[i].quality |= QUALITY_REPEATED;
    }
}

/* --- collecting rows by meter ---------------------------------------------------------------- */

/* Names in a file are few and come in runs: the last meter first, then a hash by name. */
struct name_index {
    size_t *slot; /* meter + 1; 0 is free */
    size_t size;  /* a power of two */
};

static size_t hash_of(const struct ami_id *id)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (uint8_t i = 0; i < id->size; i++)
        h = (h ^ (uint8_t)id->text[i]) * 0x100000001b3u;
    return (size_t)(h ^ h >> 32);
}

static size_t *index_place(const struct name_index *ix, const struct import *im,
                           const struct ami_id *id)
{
    size_t i = hash_of(id) & (ix->size - 1);
    while (ix->slot[i] != 0 && !ami_id_equal(&im->meters[ix->slot[i] - 1].id, id))
        i = (i + 1) & (ix->size - 1);
    return &ix->slot[i];
}

static enum ami_status index_grow(struct name_index *ix, const struct import *im)
{
    struct name_index bigger = {NULL, ix->size == 0 ? 64 : ix->size * 2};
    bigger.slot = calloc(bigger.size, sizeof *bigger.slot);
    if (bigger.slot == NULL)
        return AMI_NO_MEMORY;
    for (size_t i = 0; i < im->meter_count; i++)
        *index_place(&bigger, im, &im->meters[i].id) = i + 1;
    free(ix->slot);
    *ix = bigger;
    return AMI_OK;
}

static enum ami_status meter_of(struct import *im, struct name_index *ix, const struct ami_id *id,
                                struct import_meter **out)
{
    if ((im->meter_count + 1) * 2 > ix->size)
        AMI_TRY(index_grow(ix, im));
    size_t *place = index_place(ix, im, id);
    if (*place == 0) {
        if (im->meter_count == IMPORT_METERS_MAX)
            return AMI_TOO_LARGE;
        if (im->meter_count == im->meter_capacity) {
            size_t capacity = im->meter_capacity == 0 ? 4 : im->meter_capacity * 2;
            struct import_meter *more = realloc(im->meters, capacity * sizeof *more);
            if (more == NULL)
                return AMI_NO_MEMORY;
            im->meters = more;
            im->meter_capacity = capacity;
        }
        im->meters[im->meter_count] = (struct import_meter){.id = *id};
        *place = ++im->meter_count;
    }
    *out = &im->meters[*place - 1];
    return AMI_OK;
}

static enum ami_status add_row(struct import_meter *m, int64_t start_s, size_t at)
{
    if (m->count == m->capacity) {
        size_t capacity = m->capacity == 0 ? 64 : m->capacity * 2;
        struct import_row *more = realloc(m->rows, capacity * sizeof *more);
        if (more == NULL)
            return AMI_NO_MEMORY;
        m->rows = more;
        m->capacity = capacity;
    }
    m->rows[m->count++] = (struct import_row){start_s, (uint32_t)at, false};
    return AMI_OK;
}

static int by_time_then_place(const void *a, const void *b)
{
    const struct import_row *x = *(const struct import_row *const *)a;
    const struct import_row *y = *(const struct import_row *const *)b;
    if (x->start_s != y->start_s)
        return x->start_s < y->start_s ? -1 : 1;
    return x < y ? -1 : x > y;
}

/* Flags every row whose time an earlier row of this meter has. */
static enum ami_status mark_repeated(struct import_meter *m)
{
    bool rising = true;
    for (size_t i = 1; i < m->count; i++)
        rising = rising && m->rows[i - 1].start_s < m->rows[i].start_s;
    if (rising)
        return AMI_OK;
    struct import_row **sorted = malloc(m->count * sizeof *sorted);
    if (sorted == NULL)
        return AMI_NO_MEMORY;
    for (size_t i = 0; i < m->count; i++)
        sorted[i] = &m->rows[i];
    qsort(sorted, m->count, sizeof *sorted, by_time_then_place);
    for (size_t i = 1; i < m->count; i++)
        if (sorted[i]->start_s == sorted[i - 1]->start_s)
            sorted[i]->repeated = true;
    free(sorted);
    return AMI_OK;
}

/* The commonest distance between neighbouring rows; half an hour when there are no two. */
static uint32_t commonest_interval(const struct import *im)
{
    enum { CANDIDATES = 32 };
    int64_t distance[CANDIDATES];
    size_t seen[CANDIDATES], candidates = 0, best = 0;
    for (size_t k = 0; k < im->meter_count; k++) {
        const struct import_meter *m = &im->meters[k];
        for (size_t i = 1; i < m->count; i++) {
            int64_t d = m->rows[i].start_s - m->rows[i - 1].start_s;
            if (d <= 0 || d > UINT32_MAX)
                continue;
            size_t c = 0;
            while (c < candidates && distance[c] != d)
                c++;
            if (c == CANDIDATES)
                continue;
            if (c == candidates) {
                distance[c] = d;
                seen[c] = 0;
                candidates++;
            }
            if (++seen[c] > seen[best])
                best = c;
        }
    }
    return candidates == 0 ? 1800 : (uint32_t)distance[best];
}

/* --- opening --------------------------------------------------------------------------------- */

static enum ami_status id_of_file(struct ami_id *out, const char *path, struct why *why)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash == NULL ? path : slash + 1;
    size_t size = strlen(name);
    if (size > 3 && strcmp(name + size - 3, ".gz") == 0)
        size -= 3;
    for (size_t i = size; i > 1; i--)
        if (name[i - 1] == '.') {
            size = i - 1;
            break;
        }
    if (ami_id_set(out, name, size) != AMI_OK)
        return why_set(why, AMI_BAD_ARGUMENT,
                       "%s: the file has no id column and its name is no meter id (1 to %d "
                       "letters, digits, '.', '_' or '-'); give one with --id",
                       path, AMI_ID_BYTES_MAX);
    return AMI_OK;
}

static enum ami_status choose_layout(struct import *im, const char *path, const char *format,
                                     struct cell first, struct why *why)
{
    char show[LINE_MAX_SHOW + 4];
    for (size_t i = 0; i < LAYOUT_COUNT; i++) {
        if (format == NULL ? is_header(&layouts[i], first) : strcmp(format, layouts[i].name) == 0) {
            im->layout = &layouts[i];
            return AMI_OK;
        }
    }
    if (format != NULL)
        return why_set(why, AMI_BAD_ARGUMENT, "--format %s: expected one of %s", format,
                       import_format_names());
    return why_set(why, AMI_BAD_ENCODING,
                   "%s:1: no known layout (%s) has the header \"%s\"; --format names one for a "
                   "file without header",
                   path, import_format_names(), shown(show, trimmed(first.text, first.size)));
}

static enum ami_status read_rows(struct import *im, const char *path, size_t at, size_t line_number,
                                 const struct ami_id *file_id, struct why *why)
{
    struct name_index ix = {0};
    struct why reason = {{0}};
    size_t blank_line = 0;
    enum ami_status status = AMI_OK;
    for (; status == AMI_OK && at < im->size; line_number++) {
        struct cell line = line_at(im, at);
        struct import_meter *m;
        struct row row;
        size_t next = at + line.size + 1;
        if (trimmed(line.text, line.size).size == 0) {
            /* Blank lines may end a file, nothing else. */
            if (blank_line == 0)
                blank_line = line_number;
        } else if (blank_line != 0) {
            status = why_set(why, AMI_BAD_ENCODING, "%s:%zu: a blank line amid the rows", path,
                             blank_line);
        } else if ((status = parse_row(&row, im->layout, line, &reason)) != AMI_OK) {
            why_set(why, status, "%s:%zu: %s", path, line_number, reason.text);
        } else {
            status = meter_of(im, &ix, im->layout->has_id ? &row.id : file_id, &m);
            if (status == AMI_OK)
                status = add_row(m, row.start_s, at);
            if (status != AMI_OK)
                why_set(why, status, "%s:%zu: %s", path, line_number, ami_status_text(status));
            im->row_count++;
        }
        at = next;
    }
    free(ix.slot);
    if (status == AMI_OK && im->row_count == 0)
        status = why_set(why, AMI_BAD_ENCODING, "%s: the file has no rows", path);
    return status;
}

static enum ami_status parse(struct import *im, const char *path, const char *format,
                             const char *id, struct why *why)
{
    if (im->size == 0)
        return why_set(why, AMI_BAD_ENCODING, "%s: the file is empty", path);
    im->digest = sm3(span_of(im->text, im->size));
    size_t at = 0;
    if (im->size >= 3 && memcmp(im->text, "\xef\xbb\xbf", 3) == 0)
        at = 3; /* the mark that some programs put before UTF-8 */
    struct cell first = line_at(im, at);
    AMI_TRY(choose_layout(im, path, format, first, why));
    struct ami_id file_id = {0};
    if (im->layout->has_id && id != NULL)
        return why_set(why, AMI_BAD_ARGUMENT,
                       "%s: --id is for files without an id column; this one (%s) has one", path,
                       im->layout->name);
    if (!im->layout->has_id) {
        if (id == NULL)
            AMI_TRY(id_of_file(&file_id, path, why));
        else if (ami_id_from_text(&file_id, id) != AMI_OK)
            return why_set(why, AMI_BAD_ARGUMENT, "--id %s: %s", id,
                           ami_status_text(AMI_BAD_ARGUMENT));
    }
    size_t line_number = 1;
    if (is_header(im->layout, first)) {
        at += first.size + 1;
        line_number++;
    }
    AMI_TRY(read_rows(im, path, at, line_number, &file_id, why));
    im->registers = im->layout->registers;
    im->interval_s = im->layout->interval_s;
    if (im->interval_s == 0)
        im->interval_s = commonest_interval(im);
    for (size_t i = 0; i < im->meter_count; i++)
        if (mark_repeated(&im->meters[i]) != AMI_OK)
            return why_set(why, AMI_NO_MEMORY, "%s: out of memory", path);
    return AMI_OK;
}

static enum ami_status finish(struct import **out, struct import *im, enum ami_status status)
{
    if (status == AMI_OK)
        *out = im;
    else
        import_free(im);
    return status;
}

enum ami_status import_open(struct import **out, const char *path, const char *format,
                            const char *id, struct why *why)
{
    struct import *im = calloc(1, sizeof *im);
    if (im == NULL)
        return why_set(why, AMI_NO_MEMORY, "%s: out of memory", path);
    enum ami_status status = read_all(im, path, why);
    if (status == AMI_OK)
        status = parse(im, path, format, id, why);
    return finish(out, im, status);
}

enum ami_status import_text(struct import **out, const char *name, struct span text,
                            const char *format, const char *id, struct why *why)
{
    struct import *im = calloc(1, sizeof *im);
    if (im != NULL)
        im->text = malloc(text.size + 1);
    if (im == NULL || im->text == NULL) {
        free(im);
        return why_set(why, AMI_NO_MEMORY, "%s: out of memory", name);
    }
    if (text.size != 0)
        memcpy(im->text, text.data, text.size);
    im->size = text.size;
    return finish(out, im, parse(im, name, format, id, why));
}

void import_free(struct import *im)
{
    if (im == NULL)
        return;
    for (size_t i = 0; i < im->meter_count; i++)
        free(im->meters[i].rows);
    free(im->meters);
    free(im->text);
    free(im);
}
