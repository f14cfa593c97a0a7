/* meter/calendar.h - dates and times of files, as seconds since 1970 UTC and back.
 *
 * Proleptic Gregorian calendar, years 1 to 9999, no leap seconds, no locale and no time zone
 * tables: an importer must read the same file to the same instants on every machine.
 */
#ifndef AMI_METER_CALENDAR_H
#define AMI_METER_CALENDAR_H

#include "base/bytes.h"

#define CALENDAR_DAY_S 86400

struct calendar_time {
    int year, month, day; /* month and day from 1 */
    int hour, minute, second;
    int weekday; /* 0 Monday .. 6 Sunday; ignored by calendar_to_s */
};

/* AMI_BAD_ARGUMENT when a field is outside its range (30 February, 24:00). */
enum ami_status calendar_to_s(int64_t *out_s, const struct calendar_time *t) AMI_MUST_CHECK;
struct calendar_time calendar_from_s(int64_t s);

/* "2013-01-01 00:30", "2013-01-01T00:30:00Z", "2013-01-01 00:30:00.0000000+01:00": date, a blank or
 * T, time with or without seconds, a fraction of zeros, and Z or an offset; without one it is UTC.
 * AMI_BAD_ENCODING for anything else. */
enum ami_status calendar_parse_iso(int64_t *out_s, const char *text, size_t size) AMI_MUST_CHECK;
/* "1/2/2007" (day first) and "00:01:00". */
enum ami_status calendar_parse_dmy(int64_t *out_s, const char *date, size_t date_size,
                                   const char *time, size_t time_size) AMI_MUST_CHECK;

/* "2013-01-01T00:30:00Z" with its zero. */
#define CALENDAR_TEXT_BYTES 24
void calendar_text(char out[CALENDAR_TEXT_BYTES], int64_t s);

#endif
