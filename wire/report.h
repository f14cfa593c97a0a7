/* wire/report.h - a report m: register values as the meter measured them.
 *
 * Encoding (docs/wire-format.md): u8 version 1, u8 kind, then groups of neighbouring readings that
 * share a register, unit and interval, each group u8 'G', obis[6], u8 unit, u32 interval_s, i64
 * start_s of the first reading, u16 count, then per reading: varint quality, zigzag varint offset
 * in seconds from where the reading before it ended (only with QUALITY_OFF_RASTER), then the value:
 * nothing with QUALITY_MISSING; u8 size and text with QUALITY_TEXT; else i8 scaler and zigzag
 * varint mantissa. A report has one encoding: the decoder refuses any other.
 */
#ifndef AMI_WIRE_REPORT_H
#define AMI_WIRE_REPORT_H

#include "wire/codec.h"

#define REPORT_VALUE_TEXT_BYTES_MAX 32

enum report_kind { REPORT_READINGS = 1, REPORT_EVENT = 2 };

/* Quality flags of a reading. */
enum {
    QUALITY_MISSING = 1,    /* the source has no value here; mantissa is 0 and not meant */
    QUALITY_REPEATED = 2,   /* the source repeats an earlier row's time */
    QUALITY_TEXT = 4,       /* the value's text is no canonical decimal: kept as text */
    QUALITY_OFF_RASTER = 8, /* does not start where the reading before it in its group ended: the
                               encoder sets or clears it, whatever the caller says */
    QUALITY_ESTIMATED = 16,
    QUALITY_ALL = 31
};

/* DLMS units (IEC 62056-6-2) that we use. */
enum {
    UNIT_W = 27,
    UNIT_VA = 28,
    UNIT_VAR = 29,
    UNIT_WH = 30,
    UNIT_VAH = 31,
    UNIT_VARH = 32,
    UNIT_A = 33,
    UNIT_V = 35,
    UNIT_HZ = 44,
    /* DLMS writes a thousand watt hours as Wh with a scaler; a value that is to print as it was
     * written needs the thousand in its unit: bit 7 of the number, ours, on top of DLMS's. */
    UNIT_KILO = 128,
    UNIT_KW = UNIT_KILO + UNIT_W,
    UNIT_KVAR = UNIT_KILO + UNIT_VAR,
    UNIT_KWH = UNIT_KILO + UNIT_WH,
    UNIT_KVARH = UNIT_KILO + UNIT_VARH,
    UNIT_COUNT = 255
};

/* A value has one form, so that it prints again as it was written: the scaler is minus the number
 * of decimals, and the mantissa has at most 18 digits. */
#define REPORT_SCALER_MIN   (-30)
#define REPORT_SCALER_MAX   0
#define REPORT_MANTISSA_MAX 999999999999999999

/* Years 1 to 9999. */
#define REPORT_START_S_MIN (-62135596800)
#define REPORT_START_S_MAX 253402300799

struct reading {
    uint8_t obis[6]; /* A-B:C.D.E*F */
    uint8_t unit;    /* UNIT_: a DLMS unit number, or one with UNIT_KILO */
    int8_t scaler;   /* value = mantissa * 10^scaler; "0.250" is 250, -3; REPORT_SCALER_MIN.._MAX */
    uint16_t quality;
    uint32_t interval_s; /* 0 for an instantaneous value */
    int64_t start_s;     /* start of the interval, UTC, seconds since 1970 */
    int64_t mantissa;    /* magnitude at most REPORT_MANTISSA_MAX */
    uint8_t text_size;   /* with QUALITY_TEXT */
    char text[REPORT_VALUE_TEXT_BYTES_MAX];
};

/* Encodes readings in their order; neighbours that share register, unit and interval are grouped
 * (so hand in one register's readings after the other's). AMI_TOO_LARGE when they do not fit out's
 * capacity or AMI_REPORT_BYTES_MAX, or number more than AMI_REPORT_READINGS_MAX; AMI_BAD_ARGUMENT
 * for none at all or a field out of its range. On failure `out` is as it was. */
enum ami_status report_encode(struct writer *out, enum report_kind kind,
                              const struct reading *readings, size_t count) AMI_MUST_CHECK;

/* out holds AMI_REPORT_READINGS_MAX readings. AMI_BAD_ENCODING (out unspecified) for anything that
 * report_encode would not have written; encoding what was decoded gives the same bytes. */
enum ami_status report_decode(enum report_kind *kind, struct reading *out, size_t *count,
                              struct span m) AMI_MUST_CHECK;

/* The trimmed text of a cell as an exact decimal: sets scaler, mantissa, or QUALITY_TEXT when the
 * decimal would not be printed the same way again ("+1", ".5", "1e3", "-0", 19 digits), or
 * QUALITY_MISSING for an empty text; other quality flags stay. AMI_BAD_ENCODING when it is no
 * number at all; AMI_TOO_LARGE for more than REPORT_VALUE_TEXT_BYTES_MAX bytes; r is then as it
 * was. */
enum ami_status reading_value_set(struct reading *r, const char *text, size_t size) AMI_MUST_CHECK;

/* The value as it was written, zero-terminated; "" when missing. out has room for
 * REPORT_VALUE_TEXT_BYTES_MAX + 1 bytes. */
void reading_value_text(char *out, const struct reading *r);

/* "1-0:1.8.0*255" and back; "1-0:1.8.0" means *255. obis_text: out of 32 bytes. AMI_BAD_ENCODING.
 */
void obis_text(char *out, const uint8_t obis[6]);
enum ami_status obis_parse(uint8_t obis[6], const char *text) AMI_MUST_CHECK;

/* "kWh"-style unit name for people ("Wh", "varh", "W", ...), with the scaler left apart; "unit"
 * when it is none of those above. */
const char *unit_name(uint8_t unit);

#endif
