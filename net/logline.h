/* net/logline.h - where `log` of base/env.h goes: one line per event, and the last ones in memory.
 *
 *     2026-11-23T20:15:01.123Z INFO elected term=7 leader=dc-2
 *
 * Lines go to a FILE (stderr by convention); events of level INFO and above are also kept in a
 * ring, numbered from 1, from which `dc-cli events` reads. Belongs to one thread. Never given a
 * secret.
 */
#ifndef AMI_NET_LOGLINE_H
#define AMI_NET_LOGLINE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/env.h"

#define LOG_RING_EVENTS      1000
#define LOG_EVENT_BYTES_MAX  48  /* event name with its zero; longer ones are cut */
#define LOG_DETAIL_BYTES_MAX 320 /* detail with its zero; longer ones are cut */

struct log_event {
    uint64_t number;
    int64_t wall_ms;
    enum env_log_level level;
    char event[LOG_EVENT_BYTES_MAX];
    char detail[LOG_DETAIL_BYTES_MAX];
};

struct log_sink;

/* out: NULL writes no lines. ring_events: 0 keeps none. NULL when out of memory. */
struct log_sink *log_open(FILE *out, enum env_log_level level_min, size_t ring_events);
void log_close(struct log_sink *sink); /* NULL is allowed; `out` stays open */

/* Control characters in event and detail become '?', so that one event is one line. */
void log_write(struct log_sink *sink, int64_t wall_ms, enum env_log_level level, const char *event,
               const char *detail);

/* log_write with the wall clock and a format. */
void log_say(struct log_sink *sink, enum env_log_level level, const char *event, const char *format,
             ...) __attribute__((format(printf, 4, 5)));

/* Calls `each` for the kept events with a number above `after`, oldest first, at most `max`.
 * Returns the number of the newest event (0: none yet). */
uint64_t log_recent(const struct log_sink *sink, uint64_t after, size_t max,
                    void (*each)(void *ctx, const struct log_event *event), void *ctx);

const char *log_level_name(enum env_log_level level); /* "INFO" */

/* "debug", "info", "warn", "error" in either case. AMI_BAD_ARGUMENT. */
enum ami_status log_level_parse(const char *text, enum env_log_level *out) AMI_MUST_CHECK;

/* "2026-11-23T20:15:01.123Z" with its zero. */
#define LOG_TIME_BYTES 32
void log_time_text(char out[LOG_TIME_BYTES], int64_t wall_ms);

#endif
