/* sim/lab/figure.h - what of an experiment's tables is worth a plot: for `ami-sim report`.
 *
 * A figure names columns of one table; the document keeps them as
 * {figures: [{name, title, kind, table, x, y: [COLUMN], y_title, series, x_log, y_log,
 *             only: {COLUMN: VALUE}}]}.
 */
#ifndef AMI_SIM_LAB_FIGURE_H
#define AMI_SIM_LAB_FIGURE_H

#include "sim/lab/lab.h"

#define LAB_FIGURE_COLUMNS 5

enum lab_figure_kind {
    LAB_BARS,  /* x names groups; one bar in each for every y, or for every value of series */
    LAB_LINES, /* x is a number; one line for every y, or for every value of series */
    LAB_BOXES, /* x names boxes; y: least, quarter, median, three quarters, most */
    LAB_TALLY  /* rows counted: x names groups, series what is counted apart; no y */
};

struct lab_figure {
    enum lab_figure_kind kind;
    const char *name, *title, *table, *x;
    const char *y[LAB_FIGURE_COLUMNS + 1]; /* ends with NULL */
    const char *y_title; /* what several lines share, "latency"; their unit is added. NULL: the
                            unit alone, or the one column's title */
    const char *series;  /* NULL: none; then only y[0] is drawn */
    bool x_log, y_log;
    const char *only, *is; /* rows whose column `only` is the text `is`; NULL: all */
};

/* Puts them into the document; the list ends with a NULL name. Once for an experiment. */
void lab_figures(struct lab_output *out, const struct lab_figure *figures);

#endif
