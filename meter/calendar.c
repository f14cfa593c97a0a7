#include "meter/calendar.h"

#include "base/check.h"

#include <stdio.h>

/* Days since 1970-01-01 and back, counted in eras of 400 years that start on 1 March, so that the
 * leap day is the last of its year. */
static int64_t days_of(int year, int month, int day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t year_of_era = y - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}

static int64_t floor_divide(int64_t a, int64_t b)
{
    return a / b - (a % b < 0 ? 1 : 0);
}

static int days_in_month(int year, int month)
{
    static const int days[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return month == 2 && leap ? 29 : days[month - 1];
}

enum ami_status calendar_to_s(int64_t *out_s, const struct calendar_time *t)
{
    if (t->year < 1 || t->year > 9999 || t->month < 1 || t->month > 12 || t->day < 1 ||
        t->day > days_in_month(t->year, t->month) || t->hour < 0 || t->hour > 23 || t->minute < 0 ||
        t->minute > 59 || t->second < 0 || t->second > 59)
        return AMI_BAD_ARGUMENT;
    *out_s = days_of(t->year, t->month, t->day) * CALENDAR_DAY_S + t->hour * 3600 + t->minute * 60 +
             t->second;
    return AMI_OK;
}

struct calendar_time calendar_from_s(int64_t s)
{
    int64_t days = floor_divide(s, CALENDAR_DAY_S);
    int64_t rest = s - days * CALENDAR_DAY_S;
    int64_t z = days + 719468;
    int64_t era = floor_divide(z, 146097);
    int64_t day_of_era = z - era * 146097;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t shifted_month = (5 * day_of_year + 2) / 153;
    struct calendar_time t;
    t.day = (int)(day_of_year - (153 * shifted_month + 2) / 5 + 1);
    t.month = (int)(shifted_month < 10 ? shifted_month + 3 : shifted_month - 9);
    t.year = (int)(year_of_era + era * 400 + (t.month <= 2 ? 1 : 0));
    t.hour = (int)(rest / 3600);
    t.minute = (int)(rest % 3600 / 60);
    t.second = (int)(rest % 60);
    /* 1970-01-01 was a Thursday. */
    t.weekday = (int)(((days + 3) % 7 + 7) % 7);
    return t;
}

/* --- parsing --------------------------------------------------------------------------------- */

struct cursor {
    const char *text;
    size_t size, at;
    bool failed;
};

/* Between `least` and `most` digits, as many as there are. */
static int number(struct cursor *c, size_t least, size_t most)
{
    int v = 0;
    size_t count = 0;
    while (count < most && c->at < c->size && c->text[c->at] >= '0' && c->text[c->at] <= '9') {
        v = v * 10 + (c->text[c->at++] - '0');
        count++;
    }
    if (count < least)
        c->failed = true;
    return v;
}

static bool accept(struct cursor *c, char wanted)
{
    if (c->failed || c->at == c->size || c->text[c->at] != wanted)
        return false;
    c->at++;
    return true;
}

static void expect(struct cursor *c, char wanted)
{
    if (!accept(c, wanted))
        c->failed = true;
}

static void clock_part(struct cursor *c, struct calendar_time *t)
{
    t->hour = number(c, 1, 2);
    expect(c, ':');
    t->minute = number(c, 2, 2);
    t->second = 0;
    if (!accept(c, ':'))
        return;
    t->second = number(c, 2, 2);
    if (accept(c, '.')) {
        /* A report's times are whole seconds: a fraction that is not zero would be lost. */
        size_t zeros = 0;
        while (accept(c, '0'))
            zeros++;
        if (zeros == 0)
            c->failed = true;
    }
}

/* Seconds that local time is ahead of UTC. */
static int64_t offset_part(struct cursor *c)
{
    if (accept(c, 'Z'))
        return 0;
    int sign = 0;
    if (accept(c, '+'))
        sign = 1;
    else if (accept(c, '-'))
        sign = -1;
    if (sign == 0)
        return 0;
    int hours = number(c, 2, 2);
    accept(c, ':');
    int minutes = number(c, 2, 2);
    if (hours > 18 || minutes > 59)
        c->failed = true;
    return sign * (hours * 3600 + minutes * 60);
}

enum ami_status calendar_parse_iso(int64_t *out_s, const char *text, size_t size)
{
    struct cursor c = {text, size, 0, false};
    struct calendar_time t = {0};
    t.year = number(&c, 4, 4);
    expect(&c, '-');
    t.month = number(&c, 2, 2);
    expect(&c, '-');
    t.day = number(&c, 2, 2);
    if (!accept(&c, 'T'))
        expect(&c, ' ');
    clock_part(&c, &t);
    int64_t offset = offset_part(&c);
    int64_t s;
    if (c.failed || c.at != c.size || calendar_to_s(&s, &t) != AMI_OK)
        return AMI_BAD_ENCODING;
    *out_s = s - offset;
    return AMI_OK;
}

enum ami_status calendar_parse_dmy(int64_t *out_s, const char *date, size_t date_size,
                                   const char *time, size_t time_size)
{
    struct cursor c = {date, date_size, 0, false};
    struct calendar_time t = {0};
    t.day = number(&c, 1, 2);
    expect(&c, '/');
    t.month = number(&c, 1, 2);
    expect(&c, '/');
    t.year = number(&c, 4, 4);
    if (c.failed || c.at != c.size)
        return AMI_BAD_ENCODING;
    c = (struct cursor){time, time_size, 0, false};
    clock_part(&c, &t);
    if (c.failed || c.at != c.size || calendar_to_s(out_s, &t) != AMI_OK)
        return AMI_BAD_ENCODING;
    return AMI_OK;
}

void calendar_text(char out[CALENDAR_TEXT_BYTES], int64_t s)
{
    struct calendar_time t = calendar_from_s(s);
    AMI_CHECK(t.year >= 1 && t.year <= 9999);
    int size = snprintf(out, CALENDAR_TEXT_BYTES, "%04u-%02u-%02uT%02u:%02u:%02uZ",
                        (unsigned)t.year % 10000, (unsigned)t.month % 100, (unsigned)t.day % 100,
                        (unsigned)t.hour % 100, (unsigned)t.minute % 100, (unsigned)t.second % 100);
    AMI_CHECK(size == 20);
}
