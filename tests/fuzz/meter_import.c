/* A load profile of any layout. What the importer accepts must hand out every row, with values that
 * fit a report. */
#include "tests/fuzz/fuzz.h"

#include "base/check.h"
#include "meter/import.h"

#include <stdio.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const formats[] = {NULL, "london", "uci", "ausgrid", "uk"};
    struct import *im;
    const char *format = size == 0 ? NULL : formats[data[size - 1] % 5];
    if (import_text(&im, "house.csv", span_of(data, size), format, NULL, NULL) != AMI_OK)
        return 0;
    AMI_CHECK(im->meter_count >= 1 && im->registers >= 1 && im->interval_s > 0);
    size_t rows = 0;
    for (size_t m = 0; m < im->meter_count; m++)
        for (size_t i = 0; i < im->meters[m].count; i++, rows++) {
            struct reading r[IMPORT_REGISTERS_MAX];
            uint8_t report[1024];
            struct writer w = writer_on(report, sizeof report);
            import_row_readings(r, im, m, i);
            AMI_CHECK(report_encode(&w, REPORT_READINGS, r, im->registers) == AMI_OK);
        }
    AMI_CHECK(rows == im->row_count);
    import_free(im);
    return 0;
}

size_t fuzz_seed(uint64_t index, uint8_t *out, size_t capacity)
{
    static const char *const files[] = {
        "LCLid,tstp,energy_kWh\r\nM1,2013-01-01 00:00:00.0000000, 0.5 \r\n"
        "M2,2013-01-01 00:00:00.0000000, Null \r\nM1,2013-01-01 00:00:00.0000000, 7 \r\n",
        "Date;Time;Global_active_power;Global_reactive_power;Voltage;Global_intensity;"
        "Sub_metering_1;Sub_metering_2;Sub_metering_3\n1/2/2007;00:00:00;0.3;0.1;243.1;1.4;0;0;?\n",
        ",GC,GG\n2011-07-01 00:00:00,0.48200000000000004,0.0\n2011-07-01 00:30:00,.5,+1\n",
        "start,value\n2020-04-01 01:00:00+01:00,0.078\n2020-04-01T02:00Z,1e3\n\n",
    };
    const char *file = files[index % 4];
    size_t size = strlen(file);
    if (size > capacity)
        return 0;
    memcpy(out, file, size);
    return size;
}
