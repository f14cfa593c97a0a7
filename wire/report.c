#include "wire/report.h"

#include "base/check.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define REPORT_VERSION 1
#define GROUP_MARK     'G'

/* --- values -----------------------------------------------------------------------------------
 *
 * A cell's text falls into one of three classes: a canonical decimal (kept as mantissa and scaler,
 * from which the same text is printed again), another way to write a number (kept as text), or no
 * number at all.
 */

enum text_class { TEXT_NO_NUMBER, TEXT_NUMBER, TEXT_CANONICAL };

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The digits from `*at` on; returns how many. */
static size_t skip_digits(const char *text, size_t size, size_t *at)
{
    size_t from = *at;
    while (*at < size && is_digit(text[*at]))
        (*at)++;
    return *at - from;
}

/* [+-] digits [. digits] [e [+-] digits], with digits on at least one side of the point. */
static bool is_number(const char *text, size_t size)
{
    size_t at = 0;
    if (at < size && (text[at] == '+' || text[at] == '-'))
        at++;
    size_t digits = skip_digits(text, size, &at);
    if (at < size && text[at] == '.') {
        at++;
        digits += skip_digits(text, size, &at);
    }
    if (digits == 0)
        return false;
    if (at < size && (text[at] == 'e' || text[at] == 'E')) {
        at++;
        if (at < size && (text[at] == '+' || text[at] == '-'))
            at++;
        if (skip_digits(text, size, &at) == 0)
            return false;
    }
    return at == size;
}

/* Canonical: [-] an integer part without leading zeros, [. at least one digit], at most 18 digits
 * of mantissa, no minus before a zero. */
static enum text_class classify(const char *text, size_t size, int8_t *scaler, int64_t *mantissa)
{
    if (size == 0 || size > REPORT_VALUE_TEXT_BYTES_MAX || !is_number(text, size))
        return TEXT_NO_NUMBER;
    size_t at = text[0] == '-' ? 1 : 0;
    if (!is_digit(text[at]) || (text[at] == '0' && at + 1 < size && text[at + 1] != '.'))
        return TEXT_NUMBER;
    int64_t m = 0;
    size_t decimals = 0;
    bool fraction = false;
    for (; at < size; at++) {
        if (text[at] == '.') { /* is_number saw to it that there is at most one */
            fraction = true;
            continue;
        }
        if (!is_digit(text[at]) || m > REPORT_MANTISSA_MAX / 10)
            return TEXT_NUMBER;
        m = m * 10 + (text[at] - '0');
        decimals += fraction;
    }
    if ((fraction && decimals == 0) || decimals > -REPORT_SCALER_MIN || (text[0] == '-' && m == 0))
        return TEXT_NUMBER;
    *scaler = (int8_t)(0 - (int)decimals);
    *mantissa = text[0] == '-' ? -m : m;
    return TEXT_CANONICAL;
}

/* Prints mantissa * 10^scaler with -scaler decimals; returns the length. Both in range. */
static size_t print_decimal(char out[64], int64_t mantissa, int8_t scaler)
{
    char digits[64];
    int decimals = -scaler;
    uint64_t magnitude = mantissa < 0 ? 0 - (uint64_t)mantissa : (uint64_t)mantissa;
    int count = snprintf(digits, sizeof digits, "%0*" PRIu64, decimals + 1, magnitude);
    AMI_CHECK(count > decimals && count <= 32);
    int whole = count - decimals;
    int size = snprintf(out, 64, "%s%.*s%s%s", mantissa < 0 ? "-" : "", whole, digits,
                        decimals == 0 ? "" : ".", digits + whole);
    AMI_CHECK(size > 0 && size < 64);
    return (size_t)size;
}

/* A decimal in range whose text is one that `reading_value_set` would take apart again. */
static bool decimal_valid(int64_t mantissa, int8_t scaler)
{
    char text[64];
    return scaler >= REPORT_SCALER_MIN && scaler <= REPORT_SCALER_MAX &&
           mantissa >= -REPORT_MANTISSA_MAX && mantissa <= REPORT_MANTISSA_MAX &&
           print_decimal(text, mantissa, scaler) <= REPORT_VALUE_TEXT_BYTES_MAX;
}

static bool value_valid(const struct reading *r)
{
    int8_t scaler;
    int64_t mantissa;
    switch (r->quality & (QUALITY_MISSING | QUALITY_TEXT)) {
    case 0:
        return decimal_valid(r->mantissa, r->scaler);
    case QUALITY_MISSING:
        return true;
    case QUALITY_TEXT:
        return classify(r->text, r->text_size, &scaler, &mantissa) == TEXT_NUMBER;
    default:
        return false;
    }
}

enum ami_status reading_value_set(struct reading *r, const char *text, size_t size)
{
    int8_t scaler = 0;
    int64_t mantissa = 0;
    uint16_t flag = 0;
    if (size > REPORT_VALUE_TEXT_BYTES_MAX)
        return AMI_TOO_LARGE;
    if (size == 0) {
        flag = QUALITY_MISSING;
    } else {
        enum text_class class = classify(text, size, &scaler, &mantissa);
        if (class == TEXT_NO_NUMBER)
            return AMI_BAD_ENCODING;
        if (class == TEXT_NUMBER)
            flag = QUALITY_TEXT;
    }
    r->quality = (uint16_t)((r->quality & ~(QUALITY_MISSING | QUALITY_TEXT)) | flag);
    r->scaler = scaler;
    r->mantissa = mantissa;
    r->text_size = 0;
    memset(r->text, 0, sizeof r->text);
    if (flag == QUALITY_TEXT) {
        r->text_size = (uint8_t)size;
        memcpy(r->text, text, size);
    }
    return AMI_OK;
}

void reading_value_text(char *out, const struct reading *r)
{
    AMI_CHECK(value_valid(r));
    char text[64];
    size_t size = 0;
    if ((r->quality & QUALITY_TEXT) != 0) {
        size = r->text_size;
        memcpy(text, r->text, size);
    } else if ((r->quality & QUALITY_MISSING) == 0) {
        size = print_decimal(text, r->mantissa, r->scaler);
    }
    AMI_CHECK(size <= REPORT_VALUE_TEXT_BYTES_MAX);
    memcpy(out, text, size);
    out[size] = '\0';
}

/* --- the report ------------------------------------------------------------------------------ */

static uint64_t zigzag(int64_t v)
{
    return ((uint64_t)v << 1) ^ (v < 0 ? UINT64_MAX : 0);
}

static int64_t unzigzag(uint64_t v)
{
    return (int64_t)((v >> 1) ^ (0 - (v & 1)));
}

static bool start_valid(int64_t start_s)
{
    return start_s >= REPORT_START_S_MIN && start_s <= REPORT_START_S_MAX;
}

static bool same_group(const struct reading *a, const struct reading *b)
{
    return memcmp(a->obis, b->obis, sizeof a->obis) == 0 && a->unit == b->unit &&
           a->interval_s == b->interval_s;
}

/* Where the reading before ended. Both terms are in range, so the sum cannot overflow. */
static int64_t raster_after(const struct reading *before)
{
    return before->start_s + (int64_t)before->interval_s;
}

static void encode_reading(struct writer *w, const struct reading *r, int64_t raster_s)
{
    uint16_t quality = (uint16_t)(r->quality & ~QUALITY_OFF_RASTER);
    if (r->start_s != raster_s)
        quality |= QUALITY_OFF_RASTER;
    write_varint(w, quality);
    if (r->start_s != raster_s)
        write_varint(w, zigzag(r->start_s - raster_s));
    if ((quality & QUALITY_MISSING) != 0)
        return;
    if ((quality & QUALITY_TEXT) != 0) {
        write_u8(w, r->text_size);
        write_raw(w, r->text, r->text_size);
    } else {
        write_u8(w, (uint8_t)r->scaler);
        write_varint(w, zigzag(r->mantissa));
    }
}

static bool kind_valid(unsigned kind)
{
    return kind == REPORT_READINGS || kind == REPORT_EVENT;
}

enum ami_status report_encode(struct writer *out, enum report_kind kind,
                              const struct reading *readings, size_t count)
{
    if (count > AMI_REPORT_READINGS_MAX)
        return AMI_TOO_LARGE;
    if (count == 0 || !kind_valid(kind))
        return AMI_BAD_ARGUMENT;
    for (size_t i = 0; i < count; i++)
        if (readings[i].quality > QUALITY_ALL || !start_valid(readings[i].start_s) ||
            !value_valid(&readings[i]))
            return AMI_BAD_ARGUMENT;
    struct writer w = *out;
    write_u8(&w, REPORT_VERSION);
    write_u8(&w, (uint8_t)kind);
    for (size_t i = 0; i < count;) {
        const struct reading *first = &readings[i];
        size_t end = i + 1;
        while (end < count && same_group(first, &readings[end]))
            end++;
        write_u8(&w, GROUP_MARK);
        write_raw(&w, first->obis, sizeof first->obis);
        write_u8(&w, first->unit);
        write_u32(&w, first->interval_s);
        write_i64(&w, first->start_s);
        write_u16(&w, (uint16_t)(end - i));
        encode_reading(&w, first, first->start_s);
        for (i++; i < end; i++)
            encode_reading(&w, &readings[i], raster_after(&readings[i - 1]));
    }
    if (!writer_ok(&w) || w.size - out->size > AMI_REPORT_BYTES_MAX)
        return AMI_TOO_LARGE;
    *out = w;
    return AMI_OK;
}

/* One reading at or off the raster; false unless it is what encode_reading would have written. */
static bool decode_reading(struct reader *in, struct reading *r, int64_t raster_s)
{
    uint64_t quality = read_varint(in);
    if (in->failed || quality > QUALITY_ALL)
        return false;
    r->quality = (uint16_t)quality;
    r->start_s = raster_s;
    if ((quality & QUALITY_OFF_RASTER) != 0) {
        int64_t offset_s = unzigzag(read_varint(in));
        if (offset_s == 0 || __builtin_add_overflow(raster_s, offset_s, &r->start_s))
            return false;
    }
    if ((quality & QUALITY_TEXT) != 0) {
        r->text_size = read_u8(in);
        if (r->text_size > sizeof r->text)
            return false;
        read_raw(in, r->text, r->text_size);
    } else if ((quality & QUALITY_MISSING) == 0) {
        r->scaler = (int8_t)read_u8(in);
        r->mantissa = unzigzag(read_varint(in));
    }
    return !in->failed && start_valid(r->start_s) && value_valid(r);
}

/* One group behind its mark. `before` is the last reading of the group before, or NULL. */
static bool decode_group(struct reader *in, struct reading *out, size_t room,
                         const struct reading *before, size_t *count)
{
    struct reading shared = {0};
    read_raw(in, shared.obis, sizeof shared.obis);
    shared.unit = read_u8(in);
    shared.interval_s = read_u32(in);
    int64_t raster_s = read_i64(in);
    *count = read_u16(in);
    if (in->failed || *count == 0 || *count > room || !start_valid(raster_s))
        return false;
    if (before != NULL && same_group(before, &shared))
        return false; /* should have been one group */
    for (size_t i = 0; i < *count; i++) {
        out[i] = shared;
        if (!decode_reading(in, &out[i], raster_s))
            return false;
        if (i == 0 && (out[0].quality & QUALITY_OFF_RASTER) != 0)
            return false; /* the group starts where its first reading does */
        raster_s = raster_after(&out[i]);
    }
    return true;
}

enum ami_status report_decode(enum report_kind *kind, struct reading *out, size_t *count,
                              struct span m)
{
    struct reader in = reader_on(m);
    *count = 0;
    uint8_t version = read_u8(&in), kind_byte = read_u8(&in);
    if (m.size > AMI_REPORT_BYTES_MAX || version != REPORT_VERSION || !kind_valid(kind_byte))
        return AMI_BAD_ENCODING;
    *kind = (enum report_kind)kind_byte;
    size_t n = 0, added;
    do {
        if (read_u8(&in) != GROUP_MARK || !decode_group(&in, out + n, AMI_REPORT_READINGS_MAX - n,
                                                        n == 0 ? NULL : &out[n - 1], &added))
            return AMI_BAD_ENCODING;
        n += added;
    } while (!reader_done(&in));
    *count = n;
    return AMI_OK;
}

/* --- names ----------------------------------------------------------------------------------- */

void obis_text(char *out, const uint8_t obis[6])
{
    snprintf(out, 32, "%u-%u:%u.%u.%u*%u", obis[0], obis[1], obis[2], obis[3], obis[4], obis[5]);
}

enum ami_status obis_parse(uint8_t obis[6], const char *text)
{
    static const char behind[6] = {'-', ':', '.', '.', '*', '\0'};
    uint8_t parsed[6];
    size_t size = strlen(text), at = 0;
    for (size_t i = 0; i < 6; i++) {
        size_t from = at, digits = skip_digits(text, size, &at);
        if (digits == 0 || digits > 3 || (digits > 1 && text[from] == '0'))
            return AMI_BAD_ENCODING;
        unsigned v = 0;
        for (; from < at; from++)
            v = v * 10 + (unsigned)(text[from] - '0');
        if (v > 255)
            return AMI_BAD_ENCODING;
        parsed[i] = (uint8_t)v;
        if (i == 4 && at == size) { /* no storage number: the current one */
            parsed[5] = 255;
            break;
        }
        if (text[at] != behind[i])
            return AMI_BAD_ENCODING;
        at++;
    }
    memcpy(obis, parsed, sizeof parsed);
    return AMI_OK;
}

const char *unit_name(uint8_t unit)
{
    switch (unit) {
    case UNIT_W:
        return "W";
    case UNIT_VA:
        return "VA";
    case UNIT_VAR:
        return "var";
    case UNIT_WH:
        return "Wh";
    case UNIT_VAH:
        return "VAh";
    case UNIT_VARH:
        return "varh";
    case UNIT_A:
        return "A";
    case UNIT_V:
        return "V";
    case UNIT_HZ:
        return "Hz";
    case UNIT_KW:
        return "kW";
    case UNIT_KVAR:
        return "kvar";
    case UNIT_KWH:
        return "kWh";
    case UNIT_KVARH:
        return "kvarh";
    case UNIT_COUNT:
        return "count";
    default:
        return "unit";
    }
}
