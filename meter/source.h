/* meter/source.h - where a fleet's readings come from: the built-in profile, files, or lines.
 *
 * A source is asked, per meter, for the readings of its next report. What it hands out stays on
 * offer until `taken` says that the report is on its way to the outbox; the position after it is
 * stored in the same transaction, so that a fleet that was killed goes on with the very next row.
 */
#ifndef AMI_METER_SOURCE_H
#define AMI_METER_SOURCE_H

#include "meter/import.h"
#include "meter/store.h"

enum source_answer {
    SOURCE_READY,
    SOURCE_WAIT, /* not before batch->at_us */
    SOURCE_HOLD, /* until fleet_poke: the next line has not come yet */
    SOURCE_DONE  /* this meter has nothing more */
};

struct source_batch {
    struct reading readings[AMI_REPORT_READINGS_MAX];
    size_t count;
    uint64_t at_us;           /* SOURCE_WAIT: monotonic clock */
    uint64_t profile_next;    /* state after it */
    const sm3_digest *source; /* a file, or NULL */
    uint64_t source_row;      /* its next row after it */
};

struct source {
    void *ctx;
    /* `rows_max`: at most so many rows (the report must stay below its size), at least 1. */
    enum source_answer (*offer)(void *ctx, size_t meter, uint64_t now_us, size_t rows_max,
                                struct source_batch *out);
    void (*taken)(void *ctx, size_t meter, const struct source_batch *batch, uint64_t now_us);
    size_t batch_rows;
    uint64_t pace_us; /* a meter's reports are due so long one after another; 0: at any time */
    bool bounded;     /* ends by itself (a file): the outbox need not run ahead of the network */
    uint64_t total;   /* readings, 0: not known */
};

/* --- the built-in profile -------------------------------------------------------------------- */

struct profile_source {
    struct source source;
    uint64_t seed;
    uint64_t interval_us; /* of the wall, between two reports of a meter */
    size_t meter_count;
    struct {
        struct ami_id name;
        uint64_t next; /* interval of the profile */
        uint64_t at_us;
    } * meter;
};
/* batch: half hours per report. The meters of a fleet report spread evenly over the interval. */
enum ami_status profile_source_init(struct profile_source *s, size_t meter_count, uint64_t seed,
                                    uint64_t interval_us, size_t batch) AMI_MUST_CHECK;
void profile_source_meter(struct profile_source *s, size_t meter, const struct ami_id *name,
                          uint64_t next, uint64_t start_us);
void profile_source_free(struct profile_source *s);

/* --- files ----------------------------------------------------------------------------------- */

struct replay_source {
    struct source source;
    double speed; /* times faster than real time; 0: as fast as possible */
    uint64_t start_us;
    int64_t start_s; /* the earliest row that is still to be sent */
    size_t meter_count;
    struct replay_meter {
        const struct import *file;
        size_t place; /* of the meter in its file */
        size_t next;  /* row */
    } * meter;
};
/* batch: rows per report. */
enum ami_status replay_source_init(struct replay_source *s, size_t meter_count, double speed,
                                   size_t batch) AMI_MUST_CHECK;
/* next: the first row that was not reported yet. */
void replay_source_meter(struct replay_source *s, size_t meter, const struct import *file,
                         size_t place, size_t next);
/* After all meters are set. */
void replay_source_start(struct replay_source *s, uint64_t now_us);
void replay_source_free(struct replay_source *s);

/* --- lines ----------------------------------------------------------------------------------- */

/* One meter, one line per reading: TIME,VALUE[,OBIS[,UNIT[,INTERVAL_S]]], for example
 * "2026-01-31T12:00:00Z,0.25" (kWh of half an hour, 1-0:1.29.0*255). */
struct line_source {
    struct source source;
    bool has_line, ended;
    struct reading reading;
};
void line_source_init(struct line_source *s);
/* AMI_BAD_ENCODING with the reason; nothing is taken then. */
enum ami_status line_source_parse(struct reading *out, const char *text, size_t size,
                                  struct why *why) AMI_MUST_CHECK;

#endif
