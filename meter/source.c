#include "meter/source.h"

#include "base/check.h"
#include "meter/calendar.h"
#include "meter/profile.h"

#include <stdlib.h>
#include <string.h>

/* --- the built-in profile -------------------------------------------------------------------- */

static enum source_answer profile_offer(void *ctx, size_t meter, uint64_t now_us, size_t rows_max,
                                        struct source_batch *out)
{
    struct profile_source *s = ctx;
    AMI_CHECK(meter < s->meter_count);
    out->at_us = s->meter[meter].at_us;
    if (now_us < out->at_us)
        return SOURCE_WAIT;
    size_t rows = s->source.batch_rows < rows_max ? s->source.batch_rows : rows_max;
    for (size_t i = 0; i < rows; i++)
        profile_reading(&out->readings[i], s->seed, &s->meter[meter].name,
                        s->meter[meter].next + i);
    out->count = rows;
    out->profile_next = s->meter[meter].next + rows;
    out->source = NULL;
    return SOURCE_READY;
}

static void profile_taken(void *ctx, size_t meter, const struct source_batch *batch,
                          uint64_t now_us)
{
    struct profile_source *s = ctx;
    s->meter[meter].next = batch->profile_next;
    s->meter[meter].at_us += s->interval_us;
    /* A process that was held up does not make up for it in a burst. */
    if (s->meter[meter].at_us + s->interval_us < now_us)
        s->meter[meter].at_us = now_us;
}

enum ami_status profile_source_init(struct profile_source *s, size_t meter_count, uint64_t seed,
                                    uint64_t interval_us, size_t batch)
{
    AMI_CHECK(batch >= 1 && batch <= AMI_REPORT_READINGS_MAX);
    memset(s, 0, sizeof *s);
    s->source = (struct source){.ctx = s,
                                .offer = profile_offer,
                                .taken = profile_taken,
                                .batch_rows = batch,
                                .pace_us = interval_us};
    s->seed = seed;
    s->interval_us = interval_us;
    s->meter_count = meter_count;
    s->meter = calloc(meter_count + 1, sizeof *s->meter);
    return s->meter == NULL ? AMI_NO_MEMORY : AMI_OK;
}

void profile_source_meter(struct profile_source *s, size_t meter, const struct ami_id *name,
                          uint64_t next, uint64_t start_us)
{
    AMI_CHECK(meter < s->meter_count);
    s->meter[meter].name = *name;
    s->meter[meter].next = next;
    s->meter[meter].at_us = start_us + s->interval_us * meter / s->meter_count;
}

void profile_source_free(struct profile_source *s)
{
    free(s->meter);
}

/* --- files ----------------------------------------------------------------------------------- */

/* When the interval of this row is over, in the compressed time of the replay. */
static uint64_t due_us(const struct replay_source *s, const struct replay_meter *m, size_t row)
{
    const struct import_row *r = &m->file->meters[m->place].rows[row];
    double after_s = (double)(r->start_s - s->start_s) + (double)m->file->interval_s;
    /* Rows may stand in any order in a file; none is due before the replay begins. */
    if (after_s <= 0)
        return s->start_us;
    double after_us = after_s * 1e6 / s->speed;
    /* A speed next to nothing: in a thousand centuries, which no integer's end is near. */
    return s->start_us + (after_us < 3e18 ? (uint64_t)after_us : UINT64_C(3000000000000000000));
}

/* Readings of one register stand together, as the encoding wants them. */
static void collect(struct source_batch *out, const struct replay_meter *m, size_t rows)
{
    size_t registers = m->file->registers;
    struct reading row[IMPORT_REGISTERS_MAX];
    for (size_t i = 0; i < rows; i++) {
        import_row_readings(row, m->file, m->place, m->next + i);
        for (size_t k = 0; k < registers; k++)
            out->readings[k * rows + i] = row[k];
    }
    out->count = rows * registers;
}

static enum source_answer replay_offer(void *ctx, size_t meter, uint64_t now_us, size_t rows_max,
                                       struct source_batch *out)
{
    struct replay_source *s = ctx;
    AMI_CHECK(meter < s->meter_count);
    const struct replay_meter *m = &s->meter[meter];
    size_t left = m->file->meters[m->place].count - m->next;
    if (left == 0)
        return SOURCE_DONE;
    size_t rows = s->source.batch_rows < rows_max ? s->source.batch_rows : rows_max;
    size_t room = AMI_REPORT_READINGS_MAX / m->file->registers;
    rows = rows < room ? rows : room;
    rows = rows < left ? rows : left;
    if (s->speed > 0) {
        out->at_us = due_us(s, m, m->next + rows - 1);
        if (now_us < out->at_us)
            return SOURCE_WAIT;
    }
    collect(out, m, rows);
    out->profile_next = 0;
    out->source = &m->file->digest;
    out->source_row = m->next + rows;
    return SOURCE_READY;
}

static void replay_taken(void *ctx, size_t meter, const struct source_batch *batch, uint64_t now_us)
{
    (void)now_us;
    struct replay_source *s = ctx;
    s->meter[meter].next = (size_t)batch->source_row;
}

enum ami_status replay_source_init(struct replay_source *s, size_t meter_count, double speed,
                                   size_t batch)
{
    AMI_CHECK(batch >= 1 && speed >= 0);
    memset(s, 0, sizeof *s);
    s->source = (struct source){.ctx = s,
                                .offer = replay_offer,
                                .taken = replay_taken,
                                .batch_rows = batch,
                                .bounded = true};
    s->speed = speed;
    s->meter_count = meter_count;
    s->meter = calloc(meter_count + 1, sizeof *s->meter);
    return s->meter == NULL ? AMI_NO_MEMORY : AMI_OK;
}

void replay_source_meter(struct replay_source *s, size_t meter, const struct import *file,
                         size_t place, size_t next)
{
    AMI_CHECK(meter < s->meter_count && place < file->meter_count);
    size_t count = file->meters[place].count;
    s->meter[meter] = (struct replay_meter){file, place, next < count ? next : count};
    s->source.total += (count - s->meter[meter].next) * file->registers;
}

void replay_source_start(struct replay_source *s, uint64_t now_us)
{
    s->start_us = now_us;
    s->start_s = INT64_MAX;
    for (size_t i = 0; i < s->meter_count; i++) {
        const struct replay_meter *m = &s->meter[i];
        const struct import_meter *rows = &m->file->meters[m->place];
        for (size_t k = m->next; k < rows->count; k++)
            if (rows->rows[k].start_s < s->start_s)
                s->start_s = rows->rows[k].start_s;
    }
}

void replay_source_free(struct replay_source *s)
{
    free(s->meter);
}

/* --- lines ----------------------------------------------------------------------------------- */

static enum source_answer line_offer(void *ctx, size_t meter, uint64_t now_us, size_t rows_max,
                                     struct source_batch *out)
{
    (void)now_us;
    (void)rows_max;
    struct line_source *s = ctx;
    AMI_CHECK(meter == 0);
    if (!s->has_line)
        return s->ended ? SOURCE_DONE : SOURCE_HOLD;
    out->readings[0] = s->reading;
    out->count = 1;
    out->profile_next = 0;
    out->source = NULL;
    return SOURCE_READY;
}

static void line_taken(void *ctx, size_t meter, const struct source_batch *batch, uint64_t now_us)
{
    (void)meter;
    (void)batch;
    (void)now_us;
    struct line_source *s = ctx;
    s->has_line = false;
}

void line_source_init(struct line_source *s)
{
    memset(s, 0, sizeof *s);
    s->source =
        (struct source){.ctx = s, .offer = line_offer, .taken = line_taken, .batch_rows = 1};
}

static bool unit_parse(uint8_t *out, const char *text)
{
    static const uint8_t units[] = {UNIT_W,    UNIT_VA,  UNIT_VAR,   UNIT_WH,   UNIT_VAH,
                                    UNIT_VARH, UNIT_A,   UNIT_V,     UNIT_HZ,   UNIT_KW,
                                    UNIT_KVAR, UNIT_KWH, UNIT_KVARH, UNIT_COUNT};
    for (size_t i = 0; i < sizeof units; i++)
        if (strcmp(text, unit_name(units[i])) == 0) {
            *out = units[i];
            return true;
        }
    return false;
}

/* Cuts the next cell off *rest, without blanks around it. */
static char *next_cell(char **rest)
{
    char *cell = *rest;
    if (cell == NULL)
        return NULL;
    char *comma = strchr(cell, ',');
    *rest = comma == NULL ? NULL : comma + 1;
    if (comma != NULL)
        *comma = '\0';
    while (*cell == ' ' || *cell == '\t')
        cell++;
    size_t size = strlen(cell);
    while (size > 0 && strchr(" \t\r\n", cell[size - 1]) != NULL)
        cell[--size] = '\0';
    return cell;
}

enum ami_status line_source_parse(struct reading *out, const char *text, size_t size,
                                  struct why *why)
{
    static const uint8_t obis[6] = {1, 0, 1, 29, 0, 255};
    char line[256], *rest = line;
    if (size >= sizeof line || memchr(text, 0, size) != NULL)
        return why_set(why, AMI_BAD_ENCODING, "a line has at most %zu characters of text",
                       sizeof line - 1);
    memcpy(line, text, size);
    line[size] = '\0';
    *out = (struct reading){.unit = UNIT_KWH, .interval_s = 1800};
    memcpy(out->obis, obis, sizeof obis);
    char *time = next_cell(&rest), *value = next_cell(&rest);
    char *code = next_cell(&rest), *unit = next_cell(&rest), *interval = next_cell(&rest);
    if (value == NULL || rest != NULL)
        return why_set(why, AMI_BAD_ENCODING,
                       "expected TIME,VALUE[,OBIS[,UNIT[,INTERVAL_S]]], found another number of "
                       "cells");
    if (calendar_parse_iso(&out->start_s, time, strlen(time)) != AMI_OK)
        return why_set(why, AMI_BAD_ENCODING,
                       "expected a time such as 2026-01-31T12:00:00Z, found \"%.40s\"", time);
    if (reading_value_set(out, value, strlen(value)) != AMI_OK)
        return why_set(why, AMI_BAD_ENCODING, "expected a number, found \"%.40s\"", value);
    if (code != NULL && *code != '\0' && obis_parse(out->obis, code) != AMI_OK)
        return why_set(why, AMI_BAD_ENCODING,
                       "expected an OBIS code such as 1-0:1.29.0*255, found \"%.40s\"", code);
    if (unit != NULL && *unit != '\0' && !unit_parse(&out->unit, unit))
        return why_set(why, AMI_BAD_ENCODING, "expected a unit such as kWh, found \"%.40s\"", unit);
    if (interval != NULL && *interval != '\0') {
        char *end;
        unsigned long v = strtoul(interval, &end, 10);
        if (*end != '\0' || interval[0] == '-' || v > UINT32_MAX)
            return why_set(why, AMI_BAD_ENCODING,
                           "expected an interval in seconds, found \"%.40s\"", interval);
        out->interval_s = (uint32_t)v;
    }
    return AMI_OK;
}
