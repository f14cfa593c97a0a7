/* net/progress.h - how far a long piece of work is.
 *
 * On a terminal one line that is drawn again and again, at most ten times a second; elsewhere a
 * plain line at every tenth of the work, or every five seconds when the total is not known. Written
 * to stderr by convention, so that stdout stays a document.
 */
#ifndef AMI_NET_PROGRESS_H
#define AMI_NET_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct progress {
    FILE *out;
    bool terminal;
    const char *what;
    const char *unit;
    uint64_t total;
    uint64_t done;
    uint64_t started_us, drawn_us;
    uint64_t tenths_said;
};

/* "what" as in "audit", unit as in "blocks"; both are borrowed. total 0: not known. quiet: says
 * nothing (for --json and --quiet). */
void progress_begin(struct progress *p, FILE *out, bool quiet, const char *what, const char *unit,
                    uint64_t total);

/* `note` may be NULL; it follows the figures, for a short fact such as "leader dc-2". */
void progress_update(struct progress *p, uint64_t done, const char *note);

/* Leaves a last line that stays. */
void progress_end(struct progress *p, const char *note);

#endif
