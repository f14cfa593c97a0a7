#include "net/logline.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/check.h"
#include "net/loop.h"

struct log_sink {
    FILE *out;
    enum env_log_level level_min;
    uint64_t count; /* events kept so far: the newest one's number */
    size_t ring_size;
    struct log_event ring[]; /* number n stands at (n - 1) % ring_size */
};

static const char *const level_names[] = {"DEBUG", "INFO", "WARN", "ERROR"};

const char *log_level_name(enum env_log_level level)
{
    return (unsigned)level <= ENV_LOG_ERROR ? level_names[level] : "UNKNOWN";
}

enum ami_status log_level_parse(const char *text, enum env_log_level *out)
{
    for (unsigned i = 0; i <= ENV_LOG_ERROR; i++) {
        if (strcasecmp(text, level_names[i]) == 0) {
            *out = (enum env_log_level)i;
            return AMI_OK;
        }
    }
    return AMI_BAD_ARGUMENT;
}

void log_time_text(char out[LOG_TIME_BYTES], int64_t wall_ms)
{
    int64_t ms = wall_ms % 1000;
    time_t seconds = (time_t)(wall_ms / 1000);
    if (ms < 0) {
        ms += 1000;
        seconds--;
    }
    struct tm t;
    char date[24];
    if (gmtime_r(&seconds, &t) == NULL || strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &t) == 0)
        snprintf(out, LOG_TIME_BYTES, "unknown-time");
    else
        snprintf(out, LOG_TIME_BYTES, "%s.%03dZ", date, (int)ms);
}

struct log_sink *log_open(FILE *out, enum env_log_level level_min, size_t ring_events)
{
    struct log_sink *sink = calloc(1, sizeof *sink + ring_events * sizeof sink->ring[0]);
    if (sink == NULL)
        return NULL;
    sink->out = out;
    sink->level_min = level_min;
    sink->ring_size = ring_events;
    return sink;
}

void log_close(struct log_sink *sink)
{
    free(sink);
}

/* Copies with control characters replaced, so that nobody's text can forge a line. */
static void copy_line(char *out, size_t size, const char *text)
{
    size_t i = 0;
    for (; i + 1 < size && text[i] != 0; i++)
        out[i] = (unsigned char)text[i] < 0x20 || text[i] == 0x7f ? '?' : text[i];
    out[i] = 0;
}

void log_write(struct log_sink *sink, int64_t wall_ms, enum env_log_level level, const char *event,
               const char *detail)
{
    bool print = sink->out != NULL && level >= sink->level_min;
    bool keep = sink->ring_size > 0 && level >= ENV_LOG_INFO;
    if (!print && !keep)
        return;
    struct log_event local;
    struct log_event *e = &local;
    if (keep)
        e = &sink->ring[sink->count++ % sink->ring_size];
    e->number = sink->count;
    e->wall_ms = wall_ms;
    e->level = level;
    copy_line(e->event, sizeof e->event, event);
    copy_line(e->detail, sizeof e->detail, detail == NULL ? "" : detail);
    if (!print)
        return;
    char when[LOG_TIME_BYTES];
    log_time_text(when, wall_ms);
    fprintf(sink->out, "%s %s %s%s%s\n", when, log_level_name(level), e->event,
            e->detail[0] == 0 ? "" : " ", e->detail);
    fflush(sink->out);
}

void log_say(struct log_sink *sink, enum env_log_level level, const char *event, const char *format,
             ...)
{
    char detail[LOG_DETAIL_BYTES_MAX];
    va_list args;
    va_start(args, format);
    if (vsnprintf(detail, sizeof detail, format, args) < 0)
        detail[0] = 0;
    va_end(args);
    log_write(sink, clock_wall_ms(), level, event, detail);
}

uint64_t log_recent(const struct log_sink *sink, uint64_t after, size_t max,
                    void (*each)(void *ctx, const struct log_event *event), void *ctx)
{
    uint64_t oldest = sink->count > sink->ring_size ? sink->count - sink->ring_size + 1 : 1;
    uint64_t from = after >= oldest ? after + 1 : oldest;
    for (uint64_t n = from; n <= sink->count && max > 0; n++, max--) {
        const struct log_event *e = &sink->ring[(n - 1) % sink->ring_size];
        AMI_CHECK(e->number == n);
        each(ctx, e);
    }
    return sink->count;
}
