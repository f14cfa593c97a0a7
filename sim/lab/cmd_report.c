/* sim/lab/cmd_report.c - `ami-sim report DIR`: one page from what `ami-sim lab all --out DIR`
 * wrote. */
#include "sim/cli.h"
#include "sim/lab/lab.h"
#include "sim/lab/report.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define DOCUMENTS_MAX 64

static const char *out_file;

static const struct option_spec options[] = {{.name = "out",
                                              .letter = 'o',
                                              .kind = OPTION_TEXT,
                                              .value = &out_file,
                                              .argument = "FILE",
                                              .help = "the page (default: DIR/report.html)"},
                                             {0}};

struct documents {
    json_t *list[DOCUMENTS_MAX];
    size_t count;
};

/* Those of the laboratory in its order, then others by name. */
static size_t rank(const json_t *document)
{
    const char *name = json_string_value(json_object_get(document, "experiment"));
    size_t i = 0;
    while (lab_experiment_at(i) != NULL && strcmp(lab_experiment_at(i)->name, name) != 0)
        i++;
    return i;
}

static int compare(const void *a, const void *b)
{
    const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
    size_t i = rank(x), k = rank(y);
    if (i != k)
        return i < k ? -1 : 1;
    return strcmp(json_string_value(json_object_get(x, "experiment")),
                  json_string_value(json_object_get(y, "experiment")));
}

/* Names become ids and file names in the page. */
static bool is_name(const char *text)
{
    return text != NULL && text[0] != 0 && strlen(text) < 64 &&
           strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_-") == strlen(text);
}

static bool is_document(const json_t *d)
{
    const char *name;
    json_t *table;
    if (!is_name(json_string_value(json_object_get(d, "experiment"))) ||
        !json_is_object(json_object_get(d, "tables")))
        return false;
    json_object_foreach(json_object_get(d, "tables"), name, table)
    {
        if (!is_name(name) || !json_is_array(json_object_get(table, "columns")) ||
            !json_is_array(json_object_get(table, "rows")))
            return false;
    }
    return true;
}

static enum ami_status load(struct documents *d, const char *path, struct why *why)
{
    json_error_t error;
    json_t *document = json_load_file(path, 0, &error);
    if (document == NULL)
        return why_set(why, AMI_DAMAGED, "%s, line %d: %s", path, error.line, error.text);
    if (!is_document(document)) {
        json_decref(document);
        return why_set(why, AMI_DAMAGED, "%s is no document of an experiment (ami-sim lab --out)",
                       path);
    }
    if (d->count == DOCUMENTS_MAX) {
        json_decref(document);
        return why_set(why, AMI_TOO_LARGE, "more than %d documents", DOCUMENTS_MAX);
    }
    d->list[d->count++] = document;
    return AMI_OK;
}

static enum ami_status load_all(struct documents *d, const char *dir, struct why *why)
{
    DIR *from = opendir(dir);
    enum ami_status status = AMI_OK;
    struct dirent *entry;
    if (from == NULL)
        return why_set(why, why_status_of_errno(errno), "%s: %s", dir, strerror(errno));
    while (status == AMI_OK && (entry = readdir(from)) != NULL) {
        size_t size = strlen(entry->d_name);
        char path[1024];
        if (size < 6 || strcmp(entry->d_name + size - 5, ".json") != 0)
            continue;
        if (snprintf(path, sizeof path, "%s/%s", dir, entry->d_name) >= (int)sizeof path)
            status = why_set(why, AMI_TOO_LARGE, "%s: the path is too long", dir);
        else
            status = load(d, path, why);
    }
    (void)closedir(from); /* it was read only */
    if (status == AMI_OK && d->count == 0)
        status = why_set(why, AMI_NOT_FOUND,
                         "%s has no documents of experiments; make them with: ami-sim lab all "
                         "--out %s",
                         dir, dir);
    qsort(d->list, d->count, sizeof d->list[0], compare);
    return status;
}

/* Written as a whole, or not at all. */
static enum ami_status write_page(const struct documents *d, const char *path, struct why *why)
{
    char *text = NULL;
    size_t size = 0;
    FILE *page = open_memstream(&text, &size);
    if (page == NULL)
        return why_set(why, AMI_NO_MEMORY, "the page does not fit into memory");
    enum ami_status status = report_page(page, d->list, d->count, why);
    if (fclose(page) != 0 && status == AMI_OK)
        status = why_set(why, AMI_NO_MEMORY, "the page does not fit into memory");
    FILE *to = status == AMI_OK ? fopen(path, "w") : NULL;
    if (status == AMI_OK) {
        bool good = to != NULL && fwrite(text, 1, size, to) == size;
        if (to != NULL && fclose(to) != 0)
            good = false;
        if (!good)
            status = why_set(why, why_status_of_errno(errno), "%s: %s", path, strerror(errno));
    }
    free(text);
    return status;
}

static int run(int argc, char **argv, void *ctx)
{
    struct documents d = {.count = 0};
    struct why why = {""};
    char path[1024];
    (void)argc;
    (void)ctx;
    /* A gnuplot that ends early is told by its exit status. */
    signal(SIGPIPE, SIG_IGN);
    snprintf(path, sizeof path, "%s/report.html", argv[0]);
    if (out_file != NULL)
        snprintf(path, sizeof path, "%s", out_file);
    enum ami_status status = report_plot_ready(&why);
    if (status == AMI_OK)
        status = load_all(&d, argv[0], &why);
    if (status == AMI_OK)
        status = write_page(&d, path, &why);
    for (size_t i = 0; i < d.count; i++)
        json_decref(d.list[i]);
    if (status != AMI_OK)
        return program_fail(PROGRAM, false, status, &why);
    printf("%s: %zu experiments\n", path, d.count);
    return EXIT_STATUS_OK;
}

const struct command_spec sim_command_report = {
    .name = "report",
    .arguments = "DIR",
    .arguments_min = 1,
    .arguments_max = 1,
    .summary = "one HTML page with plots and tables from what lab --out wrote",
    .example = "ami-sim lab all --out results\nami-sim report results",
    .options = options,
    .run = run};
