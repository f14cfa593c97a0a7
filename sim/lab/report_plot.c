/* sim/lab/report_plot.c - figures by gnuplot.
 *
 * gnuplot gets numbers and labels in a data block and draws in colours that stand for roles; its
 * SVG is then taken into the page, with those colours turned into variables of the page's style. */
#include "sim/lab/report.h"

#include "base/check.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SERIES_MAX 8
#define GROUPS_MAX 64
#define TEXT_MAX   44 /* characters of a label or a legend */

/* Colours that gnuplot is told: one shade of almost black for each role. What they become. */
static const char *const roles[] = {
    "var(--ink)", "var(--grid)", "var(--s1)", "var(--s2)", "var(--s3)",
    "var(--s4)",  "var(--s5)",   "var(--s6)", "var(--s7)", "var(--s8)",
};
#define ROLES        (sizeof roles / sizeof roles[0])
#define INK          0
#define GRID         1
#define FIRST_SERIES 2

/* "#RRGGBB" of a role; good until the next call but three. */
static const char *shade(size_t role)
{
    static char text[4][8];
    static unsigned next;
    unsigned v = (unsigned)role + 1;
    char *out = text[next++ % 4];
    snprintf(out, sizeof text[0], "#%02x%02x%02x", v & 255u, v & 255u, v & 255u);
    return out;
}

/* --- what is drawn --------------------------------------------------------------------------- */

/* A figure's numbers: groups along x, one value each per series. */
struct plot {
    const char *kind, *title;
    bool x_log, y_log, numeric_x;
    size_t groups, series;
    char label[GROUPS_MAX][96];
    double x[GROUPS_MAX];
    char name[SERIES_MAX][96];
    double value[GROUPS_MAX][SERIES_MAX]; /* NaN: none */
    char x_title[128], y_title[128];
};

static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));
    return text == NULL ? "" : text;
}

static const json_t *column_of(const json_t *table, const char *name)
{
    size_t i;
    json_t *column;
    json_array_foreach(json_object_get(table, "columns"), i, column)
    {
        if (name != NULL && strcmp(text_of(column, "name"), name) == 0)
            return column;
    }
    return NULL;
}

static void titled(char *out, size_t size, const json_t *column)
{
    const char *unit = text_of(column, "unit");
    snprintf(out, size, unit[0] == 0 ? "%s" : "%s, %s", text_of(column, "title"), unit);
}

static void cell_label(char out[96], const json_t *value)
{
    if (json_is_string(value))
        snprintf(out, 96, "%s", json_string_value(value));
    else if (json_is_integer(value))
        snprintf(out, 96, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else if (json_is_real(value))
        snprintf(out, 96, "%g", json_real_value(value));
    else
        snprintf(out, 96, "-");
}

/* Index of a text in a list that grows, or SIZE_MAX when it is full. */
static size_t place(char *list, size_t width, size_t *count, size_t most, const char *text)
{
    for (size_t i = 0; i < *count; i++)
        if (strncmp(list + i * width, text, width - 1) == 0)
            return i;
    if (*count == most)
        return SIZE_MAX;
    snprintf(list + *count * width, width, "%s", text);
    return (*count)++;
}

static bool is_kept(const json_t *figure, json_t *row)
{
    const char *name;
    json_t *want;
    json_object_foreach(json_object_get(figure, "only"), name, want)
    {
        if (!json_equal(json_object_get(row, name), want))
            return false;
    }
    return true;
}

static enum ami_status take_rows(struct plot *p, const json_t *table, const json_t *figure,
                                 struct why *why)
{
    const json_t *y = json_object_get(figure, "y");
    const char *series = text_of(figure, "series"), *x = text_of(figure, "x");
    bool tally = strcmp(p->kind, "tally") == 0;
    size_t i, k;
    json_t *row;
    json_array_foreach(json_object_get(table, "rows"), i, row)
    {
        char text[96];
        if (!is_kept(figure, row))
            continue;
        cell_label(text, json_object_get(row, x));
        size_t group = place(p->label[0], sizeof p->label[0], &p->groups, GROUPS_MAX, text);
        if (group == SIZE_MAX)
            return why_set(why, AMI_TOO_LARGE, "more than %d values along x", GROUPS_MAX);
        p->x[group] = json_number_value(json_object_get(row, x));
        for (k = 0; k < (series[0] != 0 || tally ? 1 : json_array_size(y)); k++) {
            const json_t *value = NULL;
            if (!tally)
                value = json_object_get(row, json_string_value(json_array_get(y, k)));
            if (series[0] != 0)
                cell_label(text, json_object_get(row, series));
            else
                titled(text, sizeof text,
                       column_of(table, json_string_value(json_array_get(y, k))));
            size_t at = place(p->name[0], sizeof p->name[0], &p->series, SERIES_MAX, text);
            if (at == SIZE_MAX)
                return why_set(why, AMI_TOO_LARGE, "more than %d series", SERIES_MAX);
            if (tally)
                p->value[group][at] = isnan(p->value[group][at]) ? 1 : p->value[group][at] + 1;
            else if (json_is_number(value))
                p->value[group][at] = json_number_value(value);
        }
    }
    return AMI_OK;
}

/* The axis carries what all lines share: the one column's name, or what the figure calls them with
 * the common unit. */
static void name_y(struct plot *p, const json_t *table, const json_t *figure)
{
    const json_t *y = json_object_get(figure, "y");
    const json_t *first = column_of(table, json_string_value(json_array_get(y, 0)));
    bool one = json_array_size(y) == 1 || text_of(figure, "series")[0] != 0;
    if (strcmp(p->kind, "tally") == 0) {
        snprintf(p->y_title, sizeof p->y_title, "count");
        return;
    }
    if (one) {
        titled(p->y_title, sizeof p->y_title, first);
        return;
    }
    const char *unit = text_of(first, "unit");
    for (size_t k = 1; k < json_array_size(y); k++)
        if (strcmp(text_of(column_of(table, json_string_value(json_array_get(y, k))), "unit"),
                   unit) != 0)
            unit = "";
    const char *shared = text_of(figure, "y_title");
    snprintf(p->y_title, sizeof p->y_title, "%s%s%s", shared,
             shared[0] != 0 && unit[0] != 0 ? ", " : "", unit);
}

static enum ami_status take(struct plot *p, const json_t *document, const json_t *figure,
                            struct why *why)
{
    const char *name = text_of(figure, "table");
    const json_t *table = json_object_get(json_object_get(document, "tables"), name);
    const json_t *y = json_object_get(figure, "y");
    const json_t *x = column_of(table, text_of(figure, "x"));
    memset(p, 0, sizeof *p);
    p->kind = text_of(figure, "kind");
    p->title = text_of(figure, "title");
    p->x_log = json_is_true(json_object_get(figure, "x_log"));
    p->y_log = json_is_true(json_object_get(figure, "y_log"));
    p->numeric_x = strcmp(p->kind, "lines") == 0;
    for (size_t i = 0; i < GROUPS_MAX; i++)
        for (size_t k = 0; k < SERIES_MAX; k++)
            p->value[i][k] = NAN;
    bool good = table != NULL && x != NULL;
    for (size_t k = 0; k < json_array_size(y); k++)
        good = good && column_of(table, json_string_value(json_array_get(y, k))) != NULL;
    if (strcmp(p->kind, "tally") != 0 && json_array_size(y) == 0)
        good = false;
    if (strcmp(p->kind, "boxes") == 0 && json_array_size(y) != 5)
        good = false;
    const char *series = text_of(figure, "series");
    if (series[0] != 0 && column_of(table, series) == NULL)
        good = false;
    if (!good)
        return why_set(why, AMI_DAMAGED,
                       "figure \"%s\" names a table or a column that is not there",
                       text_of(figure, "name"));
    titled(p->x_title, sizeof p->x_title, x);
    name_y(p, table, figure);
    enum ami_status status = take_rows(p, table, figure, why);
    if (status == AMI_OK && (p->groups == 0 || p->series == 0))
        return why_set(why, AMI_DAMAGED, "figure \"%s\" has nothing to show",
                       text_of(figure, "name"));
    return status;
}

/* --- gnuplot's script ------------------------------------------------------------------------ */

/* What is longer than a plot has room for is cut. */
static void quoted(FILE *to, const char *text)
{
    size_t size = strlen(text), room = size > TEXT_MAX ? TEXT_MAX - 3 : size;
    fputc('"', to);
    for (const char *end = text + room; text < end; text++)
        if (*text == '"' || *text == '\\')
            fputc('\'', to);
        else
            fputc(*text, to);
    fputs(size > room ? "...\"" : "\"", to);
}

/* A logarithm has no zero. */
static bool is_drawn(const struct plot *p, double v)
{
    return !isnan(v) && (!p->y_log || v > 0);
}

static bool has_points(const struct plot *p, size_t series)
{
    for (size_t i = 0; i < p->groups; i++)
        if (is_drawn(p, p->value[i][series]))
            return true;
    return false;
}

static void put_data(FILE *to, const struct plot *p)
{
    fputs("$d << END_OF_DATA\n", to);
    for (size_t i = 0; i < p->groups; i++) {
        if (p->numeric_x)
            fprintf(to, "%.17g", p->x[i]);
        else
            quoted(to, p->label[i]);
        for (size_t k = 0; k < p->series; k++) {
            double v = p->value[i][k];
            if (!is_drawn(p, v))
                fputs(" ?", to);
            else
                fprintf(to, " %.17g", v);
        }
        fputc('\n', to);
    }
    fputs("END_OF_DATA\n", to);
}

static size_t longest_label(const struct plot *p)
{
    size_t most = 0;
    for (size_t i = 0; i < p->groups; i++)
        if (strlen(p->label[i]) > most)
            most = strlen(p->label[i]);
    return most;
}

static void put_axes(FILE *to, const struct plot *p)
{
    double least = INFINITY, most = -INFINITY, left = INFINITY, right = -INFINITY;
    for (size_t i = 0; i < p->groups; i++)
        for (size_t k = 0; k < p->series; k++)
            if (is_drawn(p, p->value[i][k])) {
                least = fmin(least, p->value[i][k]);
                most = fmax(most, p->value[i][k]);
                left = fmin(left, p->x[i]);
                right = fmax(right, p->x[i]);
            }
    /* Nothing at all: the axes alone. */
    if (least > most) {
        least = most = 1;
        left = right = p->x[0];
    }
    const char *ink = shade(INK), *grid = shade(GRID);
    fprintf(to, "set border 3 lc rgb \"%s\"\n", ink);
    fprintf(to, "set tics nomirror out scale 0.5 textcolor rgb \"%s\"\n", ink);
    fprintf(to, "set grid ytics lc rgb \"%s\" lt 1 lw 0.75\n", grid);
    fprintf(to,
            "set key outside top left horizontal Left reverse samplen 1.5 width 2 textcolor rgb "
            "\"%s\"\n",
            ink);
    fprintf(to, "set ylabel ");
    quoted(to, p->y_title);
    fprintf(to, " textcolor rgb \"%s\"\nset xlabel ", ink);
    quoted(to, p->x_title);
    fprintf(to, " textcolor rgb \"%s\"\nset datafile missing \"?\"\n", ink);
    fputs("unset mytics\nunset mxtics\nset format y \"%.10g\"\nset format x \"%.10g\"\n", to);
    if (p->y_log) {
        fprintf(to, "set logscale y\nset yrange [%.6g:%.6g]\n", least / 2, most * 2);
        fputs(most / least > 1e6 ? "set format y \"%.0e\"\n" : "", to);
    } else {
        fprintf(to, "set yrange [%s:%.6g]\n", least < 0 ? "*" : "0", most > 0 ? most * 1.05 : 1);
    }
    if (p->x_log)
        fputs("set logscale x\n", to);
    /* An axis needs two ends. */
    if (p->numeric_x && left == right)
        fprintf(to, "set xrange [%.6g:%.6g]\n", p->x_log ? left / 2 : left - 1,
                p->x_log ? left * 2 : left + 1);
    if (!p->numeric_x && p->groups * (longest_label(p) + 2) > 72)
        fputs("set xtics rotate by -30\n", to);
}

static void put_style(FILE *to, const struct plot *p, size_t k)
{
    fprintf(to, "lc rgb \"%s\" title ", shade(FIRST_SERIES + k));
    quoted(to, p->name[k]);
}

static void put_script(FILE *to, const struct plot *p, const char *svg)
{
    fprintf(to, "set terminal svg noenhanced size 640,%d dynamic font \"sans-serif,14\"\n",
            p->series > 3 ? 420 : 370);
    fprintf(to, "set output \"%s\"\n", svg);
    put_data(to, p);
    put_axes(to, p);
    if (strcmp(p->kind, "lines") == 0) {
        fputs("set offsets graph 0.03, graph 0.03, 0, 0\nplot", to);
        size_t drawn = 0;
        for (size_t k = 0; k < p->series; k++) {
            if (!has_points(p, k))
                continue;
            fprintf(to, "%s $d using 1:%zu with linespoints lw 2 pt 7 ps 0.6 ",
                    drawn++ == 0 ? "" : ",", k + 2);
            put_style(to, p, k);
        }
        if (drawn == 0)
            fprintf(to, " NaN notitle lc rgb \"%s\"", shade(INK));
        fputc('\n', to);
        return;
    }
    fputs("set style fill solid 1 noborder\nset xrange [-0.6:*]\n", to);
    fprintf(to, "set xrange [-0.6:%zu.6]\n", p->groups - 1);
    if (strcmp(p->kind, "boxes") == 0) {
        fprintf(to,
                "unset key\nset boxwidth 0.4\nset style fill solid 0.35 border\n"
                "plot $d using 0:3:2:6:5:xticlabels(1) with candlesticks whiskerbars 0.5 lw 1.5 lc "
                "rgb \"%s\", $d using 0:4:4:4:4 with candlesticks lw 3 lc rgb \"%s\"\n",
                shade(FIRST_SERIES), shade(INK));
        return;
    }
    bool stacked = strcmp(p->kind, "tally") == 0;
    fprintf(to, "set style data histograms\nset style histogram %s\nset boxwidth %s\n",
            stacked ? "rowstacked" : "clustered gap 1", stacked ? "0.6" : "0.92");
    if (stacked)
        fputs("set yrange [0:*]\n", to);
    if (p->series == 1)
        fputs("unset key\n", to);
    fputs("plot", to);
    for (size_t k = 0; k < p->series; k++) {
        fprintf(to, "%s $d using %zu:xtic(1) ", k == 0 ? "" : ",", k + 2);
        put_style(to, p, k);
    }
    fputc('\n', to);
}

/* --- gnuplot's picture ----------------------------------------------------------------------- */

enum ami_status report_plot_ready(struct why *why)
{
    if (system("command -v gnuplot >/dev/null 2>&1") == 0)
        return AMI_OK;
    return why_set(why, AMI_NOT_FOUND,
                   "the plots are drawn by gnuplot, which is not installed: apt-get install "
                   "gnuplot-nox");
}

static bool starts(const char *at, const char *with)
{
    return strncmp(at, with, strlen(with)) == 0;
}

/* Copies the svg element: colours become variables, ids get this figure's prefix, and the title is
 * the figure's. */
static void adopt(FILE *to, const char *svg, const struct plot *p, const char *id)
{
    for (const char *at = svg; *at != 0;) {
        unsigned red, green, blue;
        int size = 0;
        if (starts(at, "rgb(") &&
            sscanf(at, "rgb(%u ,%u ,%u )%n", &red, &green, &blue, &size) == 3 && size > 0 &&
            red >= 1 && red <= ROLES && green == red && blue == red) {
            fputs(roles[red - 1], to);
            at += size;
        } else if (starts(at, " id=\"") || starts(at, " id='")) {
            fprintf(to, "%.5s%s-", at, id);
            at += 5;
        } else if (starts(at, "\"#") || starts(at, "'#") || starts(at, "(#")) {
            fprintf(to, "%.2s%s-", at, id);
            at += 2;
        } else if (starts(at, "<title>Gnuplot</title>")) {
            fputs("<title>", to);
            report_escape(to, p->title);
            fputs("</title>", to);
            at += strlen("<title>Gnuplot</title>");
        } else {
            fputc(*at++, to);
        }
    }
}

static char *read_all(FILE *from)
{
    size_t size = 0, room = 1 << 16, got;
    char *text = malloc(room);
    AMI_CHECK(text != NULL);
    while ((got = fread(text + size, 1, room - size - 1, from)) > 0) {
        size += got;
        if (room - size < 2) {
            room *= 2;
            text = realloc(text, room);
            AMI_CHECK(text != NULL);
        }
    }
    text[size] = 0;
    return text;
}

enum ami_status report_plot(FILE *to, const json_t *document, const json_t *figure, const char *id,
                            struct why *why)
{
    static struct plot p; /* large */
    char path[] = "/tmp/ami-sim-XXXXXX";
    AMI_TRY(take(&p, document, figure, why));
    int fd = mkstemp(path);
    if (fd < 0)
        return why_set(why, AMI_IO, "%s: %s", path, strerror(errno));
    FILE *script = popen("exec gnuplot", "w");
    enum ami_status status = AMI_OK;
    if (script == NULL) {
        status = why_set(why, AMI_IO, "gnuplot: %s", strerror(errno));
    } else {
        put_script(script, &p, path);
        if (pclose(script) != 0)
            status = why_set(why, AMI_IO, "gnuplot could not draw \"%s\"", p.title);
    }
    FILE *from = fdopen(fd, "r");
    AMI_CHECK(from != NULL);
    char *text = read_all(from);
    const char *svg = strstr(text, "<svg");
    if (status == AMI_OK && (svg == NULL || strstr(svg, "</svg>") == NULL))
        status = why_set(why, AMI_IO, "gnuplot drew nothing for \"%s\"", p.title);
    if (status == AMI_OK)
        adopt(to, svg, &p, id);
    free(text);
    (void)fclose(from); /* it was read only */
    (void)unlink(path);
    return status;
}
