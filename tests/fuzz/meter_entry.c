/* An entry of the meters' journal: a damaged store must give AMI_BAD_ENCODING, never more. What is
 * accepted is written again to the same bytes. */
#include "tests/fuzz/fuzz.h"

#include "base/check.h"
#include "meter/store_entry.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t again[STORE_ENTRY_BYTES_MAX];
    struct store_entry e;
    if (store_entry_parse(&e, span_of(data, size)) != AMI_OK)
        return 0;
    if (e.kind == STORE_SETTLED) {
        AMI_CHECK(e.settled.size == size - 1 && e.record.size == 0);
        return 0;
    }
    struct writer w = writer_on(again, STORE_ENTRY_HEAD_BYTES_MAX);
    store_entry_head(&w, &e);
    AMI_CHECK(writer_ok(&w));
    w.capacity = sizeof again;
    write_raw(&w, e.record.data, e.record.size);
    AMI_CHECK(writer_ok(&w) && span_equal(writer_span(&w), span_of(data, size)));
    AMI_CHECK(e.epoch != 0 && e.state.next_sequence == e.sequence + 1 &&
              e.state.reports >= e.sequence && e.sequence != 0);
    return 0;
}

size_t fuzz_seed(uint64_t index, uint8_t *out, size_t capacity)
{
    static const uint8_t record[150] = {1, 2, 3};
    struct store_entry e = {.kind = index % 4 == 3 ? STORE_MOVED : STORE_REPORT,
                            .moved_back = 1 + index * index,
                            .epoch = 1 + (uint32_t)index % 3,
                            .sequence = 1 + index,
                            .state = {.reports = 1 + index * (1 + index % 2),
                                      .readings = index * 48,
                                      .profile_next = index % 5 == 0 ? UINT64_MAX : index},
                            .readings = (uint16_t)(index % 500),
                            .has_source = index % 2 == 1,
                            .source = {{7}},
                            .source_row = index * 1000};
    AMI_CHECK(ami_id_from_text(&e.name, index % 3 == 0 ? "m" : "a.longer_name-17") == AMI_OK);
    struct writer w = writer_on(out, capacity);
    if (index % 5 == 4) {
        write_u8(&w, STORE_SETTLED);
        for (uint64_t i = 0; i <= index % 40; i++)
            write_varint(&w, 1 + i * index);
        return w.size;
    }
    store_entry_head(&w, &e);
    write_raw(&w, record, 1 + index % sizeof record);
    AMI_CHECK(writer_ok(&w));
    return w.size;
}
