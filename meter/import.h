/* meter/import.h - load profiles from files: the layouts that `ami-meter replay` reads.
 *
 * A file is read whole (plain or gzip), recognised by its header or by a given name, and every row
 * is checked before anything is handed out: a file is good from its first to its last row or it is
 * refused with the line and the reason. Values stay the exact decimals that the file shows. Rules
 * of a faithful replay: a row's time is the start of its interval; a time without zone is UTC; a
 * file without an id column takes its name, without directory and extensions, as the id; repeated
 * times are kept and flagged QUALITY_REPEATED; a missing value (empty, Null, NaN, ?) is a reading
 * with QUALITY_MISSING.
 *
 *   name     header                                                  registers
 *   london   LCLid,tstp,energy_kWh                                   kWh per half hour
 *   uci      Date;Time;Global_active_power;...;Sub_metering_3        kW, kvar, V, A, 3 x Wh per
 * minute ausgrid  ,GC,GG                                                  kWh per half hour, in and
 * out uk       start,value                                             kWh per the file's own
 * interval
 */
#ifndef AMI_METER_IMPORT_H
#define AMI_METER_IMPORT_H

#include "crypto/sm3.h"
#include "net/why.h"
#include "wire/report.h"

#define IMPORT_REGISTERS_MAX 8
#define IMPORT_BYTES_MAX     (1u << 30) /* uncompressed */
#define IMPORT_METERS_MAX    1000000

struct import_row {
    int64_t start_s;
    uint32_t at; /* offset of the row's line in the text */
    bool repeated;
};

struct import_meter {
    struct ami_id id;
    struct import_row *rows; /* in the order of the file */
    size_t count, capacity;
};

struct import_layout;

struct import {
    const struct import_layout *layout;
    char *text; /* the whole file, uncompressed */
    size_t size;
    sm3_digest digest; /* of the text: tells whether it is the same file again */
    uint32_t interval_s;
    size_t registers;            /* readings per row */
    struct import_meter *meters; /* in the order in which the file first names them */
    size_t meter_count, meter_capacity;
    size_t row_count;
};

/* format: a layout's name, or NULL to recognise it. id: overrides the name of a file without an id
 * column (AMI_BAD_ARGUMENT for one that has it), or NULL. On failure `why` names file, line and
 * reason: AMI_BAD_ENCODING for the content, AMI_NOT_FOUND, AMI_IO, AMI_TOO_LARGE, AMI_NO_MEMORY. */
enum ami_status import_open(struct import **out, const char *path, const char *format,
                            const char *id, struct why *why) AMI_MUST_CHECK;
/* The same from memory, uncompressed; `name` stands for the path. */
enum ami_status import_text(struct import **out, const char *name, struct span text,
                            const char *format, const char *id, struct why *why) AMI_MUST_CHECK;
void import_free(struct import *im); /* NULL is allowed */

/* "london, uci, ausgrid, uk" */
const char *import_format_names(void);
const char *import_format_name(const struct import *im);

/* The readings of one row: im->registers of them, in the order of the file's columns. */
void import_row_readings(struct reading out[IMPORT_REGISTERS_MAX], const struct import *im,
                         size_t meter, size_t row);

#endif
