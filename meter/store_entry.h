/* meter/store_entry.h - one entry of the meters' journal: a report with all that goes with it, or
 * which reports are settled.
 *
 * A report is durable when its entry is, so the entry carries what the report changed besides: how
 * far its meter is, and which row of which file was reported. Whoever reads the entries of a meter
 * in order knows its state after each. Other entries are named by how many serials they stand
 * before this one.
 *
 *   u8 1, a report: u8 size, name; epoch u32; sequence, reports, readings so far and profile_next
 *         as varints; u16 readings in it; u8 0, or 1, SM3 of a file and the next of its rows as a
 *         varint; encoding of report_submit up to the end
 *   u8 2, a report that stood elsewhere: where, as a varint; the rest as of 1
 *   u8 3, reports that are settled: each as a varint, up to the end
 */
#ifndef AMI_METER_STORE_ENTRY_H
#define AMI_METER_STORE_ENTRY_H

#include "meter/store.h"
#include "wire/codec.h"

#define STORE_ENTRY_HEAD_BYTES_MAX                                                                 \
    (1 + 10 + 1 + AMI_ID_BYTES_MAX + 4 + 4 * 10 + 2 + 1 + SM3_BYTES + 10)
#define STORE_ENTRY_BYTES_MAX (STORE_ENTRY_HEAD_BYTES_MAX + METER_RECORD_BYTES_MAX)

enum store_entry_kind { STORE_REPORT = 1, STORE_MOVED, STORE_SETTLED };

struct store_entry {
    enum store_entry_kind kind;
    uint64_t moved_back; /* MOVED: from so many serials before, at least 1 */
    struct ami_id name;
    uint32_t epoch;           /* from 1 */
    uint64_t sequence;        /* from 1, below UINT64_MAX */
    struct meter_state state; /* after it; next_sequence is sequence + 1, reports >= sequence */
    uint16_t readings;        /* in the record */
    bool has_source;
    sm3_digest source;
    uint64_t source_row;
    struct span record;  /* 1 to METER_RECORD_BYTES_MAX bytes */
    struct span settled; /* SETTLED, which has nothing of the above: varints, each at least 1 */
};

/* All of a report that comes before its record. */
void store_entry_head(struct writer *w, const struct store_entry *e);
/* AMI_BAD_ENCODING. Spans point into `bytes`. */
enum ami_status store_entry_parse(struct store_entry *out, struct span bytes) AMI_MUST_CHECK;

#endif
