#include "net/progress.h"

#include <string.h>
#include <unistd.h>

#include "net/loop.h"

#define BAR_CELLS        30
#define REDRAW_US        100000u
#define PLAIN_PERIOD_US  5000000u
#define NOTE_COLUMNS_MAX 60

void progress_begin(struct progress *p, FILE *out, bool quiet, const char *what, const char *unit,
                    uint64_t total)
{
    *p = (struct progress){.out = quiet ? NULL : out, .what = what, .unit = unit, .total = total};
    p->terminal = !quiet && isatty(fileno(out)) == 1;
    p->started_us = clock_mono_us();
    p->drawn_us = p->terminal ? 0 : p->started_us;
}

static void draw(struct progress *p, uint64_t now_us, const char *note)
{
    double seconds = (double)(now_us - p->started_us) / 1e6;
    double rate = seconds > 0.001 ? (double)p->done / seconds : 0;
    if (p->terminal)
        fputs("\r\033[K", p->out);
    fprintf(p->out, "%s ", p->what);
    if (p->total > 0) {
        uint64_t done = p->done < p->total ? p->done : p->total;
        double share = (double)done / (double)p->total;
        if (p->terminal) {
            int full = (int)(share * BAR_CELLS);
            fprintf(p->out, "[%.*s%.*s] ", full, "##############################", BAR_CELLS - full,
                    "..............................");
        }
        fprintf(p->out, "%3.0f %%  %llu of %llu %s", share * 100, (unsigned long long)p->done,
                (unsigned long long)p->total, p->unit);
    } else {
        fprintf(p->out, "%llu %s", (unsigned long long)p->done, p->unit);
    }
    fprintf(p->out, ", %.0f %s/s, %.1f s", rate, p->unit, seconds);
    if (note != NULL && note[0] != 0)
        fprintf(p->out, ", %.*s", NOTE_COLUMNS_MAX, note);
    if (!p->terminal)
        fputc('\n', p->out);
    fflush(p->out);
    p->drawn_us = now_us;
}

void progress_update(struct progress *p, uint64_t done, const char *note)
{
    p->done = done;
    if (p->out == NULL)
        return;
    uint64_t now = clock_mono_us();
    if (p->terminal) {
        if (now - p->drawn_us >= REDRAW_US)
            draw(p, now, note);
        return;
    }
    if (p->total == 0) {
        if (now - p->drawn_us >= PLAIN_PERIOD_US)
            draw(p, now, note);
        return;
    }
    /* The last tenth is said by progress_end. */
    uint64_t tenth = (uint64_t)((double)done / (double)p->total * 10);
    if (tenth > p->tenths_said && tenth < 10) {
        p->tenths_said = tenth;
        draw(p, now, note);
    }
}

void progress_end(struct progress *p, const char *note)
{
    if (p->out == NULL)
        return;
    draw(p, clock_mono_us(), note);
    if (p->terminal) {
        fputc('\n', p->out);
        fflush(p->out);
    }
}
