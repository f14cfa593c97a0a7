/* sim/lab/report_html.c - the page. */
#include "sim/lab/report.h"

#include "base/check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A text as short as this stays in one line; tables scroll. */
#define NOWRAP_MAX 36

static const char style[] =
    ":root{color-scheme:light dark;--paper:#fcfcfa;--ink:#22272e;--soft:#5b6570;--grid:#d5d9dd;"
    "--line:#c3c9cf;--head:#eef0f2;--code:#f0f1f3;--bad:#a3242c;--link:#17558f;"
    "--s1:#2166ac;--s2:#d0591c;--s3:#2b8a5b;--s4:#8455ad;--s5:#a98500;--s6:#b8426a;--s7:#5f6b76;"
    "--s8:#2f9a9a;--measured:#2166ac;--simulated:#2b8a5b;--reported:#b8426a;--model:#8455ad;"
    "--assumed:#5f6b76}\n"
    "@media (prefers-color-scheme:dark){:root{--paper:#16191d;--ink:#dfe4e9;--soft:#a2acb6;"
    "--grid:#3a4149;--line:#454d56;--head:#22272d;--code:#22272d;--bad:#ff9a96;--link:#8cc2f5;"
    "--s1:#6fb0ea;--s2:#f0935f;--s3:#6cc997;--s4:#c29ce4;--s5:#e0be4f;--s6:#ee88a6;--s7:#a7b1bb;"
    "--s8:#7dd3d3;--measured:#6fb0ea;--simulated:#6cc997;--reported:#ee88a6;--model:#c29ce4;"
    "--assumed:#a7b1bb}}\n"
    "body{margin:0 auto;max-width:76rem;padding:1.5rem;background:var(--paper);color:var(--ink);"
    "font:16px/1.5 system-ui,sans-serif}\n"
    "h1{font-size:1.7rem;margin:0 0 .5rem}h2{font-size:1.35rem;margin:2.5rem 0 .3rem;"
    "border-top:1px solid var(--line);padding-top:1.2rem}h3{font-size:1.02rem;margin:1.4rem 0 "
    ".4rem}\n"
    "a{color:var(--link)}code{background:var(--code);padding:.1em .35em;border-radius:3px;"
    "font-size:.9em;overflow-wrap:anywhere}p{margin:.35rem 0}\n"
    "nav ul{columns:18rem;padding-left:1.2rem}.soft{color:var(--soft)}.bad{color:var(--bad);"
    "font-weight:600}\n"
    ".figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(34rem,100%),1fr));"
    "gap:1rem 2rem;margin:1rem 0}figure{margin:0;break-inside:avoid}figcaption{font-size:.88rem;"
    "color:var(--soft)}figcaption b{color:var(--ink)}svg{width:100%;height:auto;display:block}\n"
    ".wide{overflow-x:auto}table{border-collapse:collapse;font-size:.84rem;"
    "font-variant-numeric:tabular-nums}th,td{border-bottom:1px solid var(--line);"
    "padding:.22rem "
    ".6rem;text-align:left;vertical-align:top;overflow-wrap:anywhere}th{vertical-align:bottom;"
    "overflow-wrap:normal}td.n{"
    "text-align:right;"
    "white-space:nowrap}td.t{white-space:nowrap}th{background:var(--head);font-weight:600}th "
    "small{display:block;"
    "font-weight:400;color:var(--soft)}\n"
    "mark{background:none;font-weight:600;font-size:.95em}mark.measured{color:var(--measured)}"
    "mark.simulated{color:var(--simulated)}mark.reported{color:var(--reported)}"
    "mark.model{color:var(--model)}mark.assumed{color:var(--assumed)}\n"
    "@media print{:root{color-scheme:light;--paper:#fff;--ink:#000;--soft:#444;--grid:#ccc;"
    "--line:#bbb;--head:#eee;--code:#eee;--bad:#900;--link:#000;--s1:#2166ac;--s2:#d0591c;"
    "--s3:#2b8a5b;--s4:#8455ad;--s5:#a98500;--s6:#b8426a;--s7:#5f6b76;--s8:#2f9a9a;"
    "--measured:#2166ac;--simulated:#2b8a5b;--reported:#b8426a;--model:#8455ad;--assumed:#5f6b76}"
    "body{max-width:none;padding:0;font-size:10pt}nav{display:none}table{font-size:6.5pt}"
    "th,td{padding:1pt 2pt}td.t{white-space:normal}.wide{overflow:visible}"
    "figcaption{font-size:8pt}h3{break-after:avoid}tr{break-inside:avoid}.figures{grid-template-"
    "columns:1fr 1fr}}\n";

static const struct {
    const char *source, *means;
} sources[] = {
    {"measured", "executed, counted or timed by this run on the machine named"},
    {"simulated", "virtual time, or counted in it: the same on every machine"},
    {"reported", "as the paper or another publication prints it"},
    {"model", "computed from other figures of the table or published counts"},
    {"assumed", "configuration and planning values: put in, not found out"},
};

void report_escape(FILE *to, const char *text)
{
    for (; *text != 0; text++) {
        switch (*text) {
        case '&':
            fputs("&amp;", to);
            break;
        case '<':
            fputs("&lt;", to);
            break;
        case '>':
            fputs("&gt;", to);
            break;
        case '"':
            fputs("&quot;", to);
            break;
        case '\'':
            fputs("&#39;", to);
            break;
        default:
            fputc(*text, to);
        }
    }
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));
    return text == NULL ? "" : text;
}

/* <tag>text</tag> */
static void element(FILE *to, const char *tag, const char *text)
{
    fprintf(to, "<%s>", tag);
    report_escape(to, text);
    fprintf(to, "</%s>", tag);
}

/* --- tables ---------------------------------------------------------------------------------- */

static void put_number(FILE *to, const json_t *value, const json_t *column)
{
    if (json_is_integer(value)) {
        fprintf(to, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        return;
    }
    double v = json_real_value(value);
    int decimals = (int)json_integer_value(json_object_get(column, "decimals"));
    /* Small figures keep two digits that say something. */
    if (v != 0 && fabs(v) < 0.5 * pow(10, -decimals))
        fprintf(to, "%.2g", v);
    else
        fprintf(to, "%.*f", decimals, v);
}

static void put_cell(FILE *to, const json_t *value, const json_t *column)
{
    if (json_is_number(value)) {
        fputs("<td class=\"n\">", to);
        put_number(to, value, column);
    } else if (json_is_string(value)) {
        fputs(json_string_length(value) <= NOWRAP_MAX ? "<td class=\"t\">" : "<td>", to);
        report_escape(to, json_string_value(value));
    } else {
        fputs("<td class=\"n\">&ndash;", to);
    }
    fputs("</td>", to);
}

static void put_head(FILE *to, const json_t *column)
{
    const char *unit = text_of(column, "unit"), *source = text_of(column, "source");
    fputs("<th scope=\"col\">", to);
    report_escape(to, text_of(column, "title"));
    if (unit[0] != 0 || strcmp(source, "none") != 0) {
        fputs("<small>", to);
        report_escape(to, unit);
        if (strcmp(source, "none") != 0) {
            fprintf(to, "%s<mark class=\"", unit[0] != 0 ? " " : "");
            report_escape(to, source);
            fputs("\">", to);
            report_escape(to, source);
            if (json_is_true(json_object_get(column, "clock")))
                fputs(", clock", to);
            fputs("</mark>", to);
        }
        fputs("</small>", to);
    }
    fputs("</th>", to);
}

/* Long texts are in the CSV file and the document. */
static bool is_shown(const json_t *column)
{
    return !json_is_true(json_object_get(column, "hidden"));
}

static void put_table(FILE *to, const char *experiment, const char *name, const json_t *table)
{
    const json_t *columns = json_object_get(table, "columns");
    size_t i, k;
    json_t *row, *column;
    fputs("<h3 id=\"", to);
    report_escape(to, experiment);
    fputc('-', to);
    report_escape(to, name);
    fputs("\">", to);
    report_escape(to, text_of(table, "title"));
    fputs(" <a class=\"soft\" href=\"", to);
    report_escape(to, experiment);
    fputc('-', to);
    report_escape(to, name);
    fputs(".csv\"><small>CSV</small></a></h3>\n<div class=\"wide\"><table>\n<thead><tr>", to);
    json_array_foreach(columns, k, column)
    {
        if (is_shown(column))
            put_head(to, column);
    }
    fputs("</tr></thead>\n<tbody>\n", to);
    json_array_foreach(json_object_get(table, "rows"), i, row)
    {
        fputs("<tr>", to);
        json_array_foreach(columns, k, column)
        {
            if (is_shown(column))
                put_cell(to, json_object_get(row, text_of(column, "name")), column);
        }
        fputs("</tr>\n", to);
    }
    fputs("</tbody></table></div>\n", to);
}

/* --- figures --------------------------------------------------------------------------------- */

static bool has_few(const json_t *rows, const char *column, bool *numbers)
{
    json_t *seen = json_object();
    size_t i;
    json_t *row;
    *numbers = true;
    json_array_foreach(rows, i, row)
    {
        const json_t *value = json_object_get(row, column);
        if (json_is_string(value))
            json_object_set_new(seen, json_string_value(value), json_true());
        if (!json_is_number(value))
            *numbers = false;
    }
    size_t count = json_object_size(seen);
    json_decref(seen);
    return count >= 1 && count <= 8;
}

/* A document that names no figures gets one: rows of its first table counted by the first and last
 * columns of few words. NULL: there are none. */
static json_t *usual_figures(const json_t *document)
{
    const char *name, *x = NULL, *series = NULL;
    json_t *table, *column;
    size_t k;
    bool numbers;
    json_object_foreach(json_object_get(document, "tables"), name, table)
    {
        json_array_foreach(json_object_get(table, "columns"), k, column)
        {
            const char *c = text_of(column, "name");
            if (!has_few(json_object_get(table, "rows"), c, &numbers) || numbers)
                continue;
            if (x == NULL)
                x = c;
            else
                series = c;
        }
        if (x == NULL)
            continue;
        return json_pack("[{s:s, s:s, s:s, s:s, s:s, s:[], s:s}]", "name", "rows", "title",
                         text_of(table, "title"), "kind", "tally", "table", name, "x", x, "y",
                         "series", series == NULL ? x : series);
    }
    return NULL;
}

static enum ami_status put_figure(FILE *to, const json_t *document, const json_t *figure,
                                  struct why *why)
{
    char id[128];
    snprintf(id, sizeof id, "%s-%s-figure", text_of(document, "experiment"),
             text_of(figure, "name"));
    fputs("<figure id=\"", to);
    report_escape(to, id);
    fputs("\">\n", to);
    AMI_TRY(report_plot(to, document, figure, id, why));
    fputs("<figcaption><b>", to);
    report_escape(to, text_of(figure, "title"));
    fputs("</b><br><a href=\"#", to);
    report_escape(to, text_of(document, "experiment"));
    fputc('-', to);
    report_escape(to, text_of(figure, "table"));
    fputs("\">table</a> &middot; ", to);
    element(to, "code", text_of(document, "command"));
    fprintf(to, " &middot; seed %" JSON_INTEGER_FORMAT "</figcaption></figure>\n",
            json_integer_value(json_object_get(document, "seed")));
    return AMI_OK;
}

static enum ami_status put_figures(FILE *to, const json_t *document, struct why *why)
{
    json_t *list = json_incref(json_object_get(document, "figures")), *figure;
    enum ami_status status = AMI_OK;
    size_t i;
    if (json_array_size(list) == 0) {
        json_decref(list);
        list = usual_figures(document);
    }
    fputs("<div class=\"figures\">\n", to);
    json_array_foreach(list, i, figure)
    {
        status = put_figure(to, document, figure, why);
        if (status != AMI_OK)
            break;
    }
    fputs("</div>\n", to);
    json_decref(list);
    return status;
}

/* --- sections -------------------------------------------------------------------------------- */

static enum ami_status put_section(FILE *to, const json_t *document, struct why *why)
{
    const char *experiment = text_of(document, "experiment"), *name;
    json_t *table, *note;
    size_t i;
    fputs("<section id=\"", to);
    report_escape(to, experiment);
    fputs("\">\n", to);
    element(to, "h2", experiment);
    fputs("\n<p>", to);
    report_escape(to, text_of(document, "summary"));
    fputs("</p>\n<p class=\"soft\">", to);
    element(to, "code", text_of(document, "command"));
    fprintf(to, " &middot; seed %" JSON_INTEGER_FORMAT " &middot; ",
            json_integer_value(json_object_get(document, "seed")));
    report_escape(to, text_of(document, "machine"));
    fputs(", SM2 path ", to);
    report_escape(to, text_of(document, "sm2_path"));
    fputs("</p>\n", to);
    if (json_is_string(json_object_get(document, "failed"))) {
        fputs("<p class=\"bad\">A check failed: ", to);
        report_escape(to, text_of(document, "failed"));
        fputs("</p>\n", to);
    }
    AMI_TRY(put_figures(to, document, why));
    json_object_foreach(json_object_get(document, "tables"), name, table)
        put_table(to, experiment, name, table);
    json_array_foreach(json_object_get(document, "notes"), i, note)
    {
        fputs("<p class=\"soft\">", to);
        report_escape(to, json_string_value(note));
        fputs("</p>\n", to);
    }
    fputs("</section>\n", to);
    return AMI_OK;
}

enum ami_status report_page(FILE *to, json_t *const *document, size_t count, struct why *why)
{
    fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
          "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
          "<title>amiledger: laboratory report</title>\n<style>\n",
          to);
    fputs(style, to);
    fputs("</style>\n</head>\n<body>\n<h1>amiledger: laboratory report</h1>\n"
          "<p>Every figure names the command and the seed that made it, every column where its "
          "numbers come from:</p>\n<ul>\n",
          to);
    for (size_t i = 0; i < sizeof sources / sizeof sources[0]; i++)
        fprintf(to, "<li><mark class=\"%s\">%s</mark> %s</li>\n", sources[i].source,
                sources[i].source, sources[i].means);
    fputs("</ul>\n<p>\"clock\": read from a clock, or as memory, so it differs from run to run; "
          "everything else "
          "is the same for the same seed.</p>\n<nav><ul>\n",
          to);
    for (size_t i = 0; i < count; i++) {
        fputs("<li><a href=\"#", to);
        report_escape(to, text_of(document[i], "experiment"));
        fputs("\">", to);
        report_escape(to, text_of(document[i], "experiment"));
        fputs("</a> ", to);
        report_escape(to, text_of(document[i], "summary"));
        fputs("</li>\n", to);
    }
    fputs("</ul></nav>\n", to);
    for (size_t i = 0; i < count; i++)
        AMI_TRY(put_section(to, document[i], why));
    fputs("</body>\n</html>\n", to);
    return AMI_OK;
}
