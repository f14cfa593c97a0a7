#include "sim/lab/figure.h"

#include "base/check.h"

static const char *kind_name(enum lab_figure_kind kind)
{
    static const char *const names[] = {
        [LAB_BARS] = "bars", [LAB_LINES] = "lines", [LAB_BOXES] = "boxes", [LAB_TALLY] = "tally"};
    return names[kind];
}

void lab_figures(struct lab_output *out, const struct lab_figure *figures)
{
    json_t *list = json_array();
    for (const struct lab_figure *f = figures; f->name != NULL; f++) {
        json_t *y = json_array();
        for (size_t i = 0; i < LAB_FIGURE_COLUMNS && f->y[i] != NULL; i++)
            AMI_CHECK(json_array_append_new(y, json_string(f->y[i])) == 0);
        json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:s?, s:s?, s:b, s:b}", "name",
                              f->name, "title", f->title, "kind", kind_name(f->kind), "table",
                              f->table, "x", f->x, "y", y, "y_title", f->y_title, "series",
                              f->series, "x_log", f->x_log, "y_log", f->y_log);
        AMI_CHECK(o != NULL);
        if (f->only != NULL)
            AMI_CHECK(json_object_set_new(o, "only", json_pack("{s:s}", f->only, f->is)) == 0);
        AMI_CHECK(json_array_append_new(list, o) == 0);
    }
    lab_put(out, "figures", list);
}
