/* sim/lab/report.h - one page from the documents of many experiments.
 *
 *   cmd_report.c   reads a directory, writes the file
 *   report_html.c  the page: sections, tables, styles
 *   report_plot.c  figures, by gnuplot
 *
 * The page stands alone: plots are SVG inside it, colours are variables of its style (light, dark,
 * print), nothing is loaded from anywhere. It says nothing that the documents do not say.
 */
#ifndef AMI_SIM_LAB_REPORT_H
#define AMI_SIM_LAB_REPORT_H

#include "net/why.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

/* Whether the plotting program can be run. AMI_NOT_FOUND, with what to install. */
enum ami_status report_plot_ready(struct why *why) AMI_MUST_CHECK;
/* Writes one figure of a document (figure.h) as an svg element; `id` sets its ids apart from other
 * figures'. AMI_DAMAGED: the document has no such table or column; AMI_IO: gnuplot failed. */
enum ami_status report_plot(FILE *to, const json_t *document, const json_t *figure, const char *id,
                            struct why *why) AMI_MUST_CHECK;

/* The whole page from documents in order. Statuses of report_plot. */
enum ami_status report_page(FILE *to, json_t *const *document, size_t count,
                            struct why *why) AMI_MUST_CHECK;

/* Text with &, <, > and quotes made harmless. */
void report_escape(FILE *to, const char *text);

#endif
