/* A registry record as it lies in the store. What is accepted encodes to the same bytes; whatever
 * it says, loading it leaves the registry whole. */
#include "tests/fuzz/fuzz.h"

#include "base/check.h"
#include "tests/ledger/fixture.h"

#include <string.h>

static struct fixture *f;
static struct fixture_device meter;

static void start_once(void)
{
    if (f != NULL)
        return;
    f = fixture_new(4, 2);
    meter = fixture_meter(f, 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t again[RECORD_BYTES_MAX];
    struct record rec;
    start_once();
    if (record_parse(&rec, span_of(data, size)) != AMI_OK)
        return 0;
    struct writer w = writer_on(again, sizeof again);
    record_encode(&w, &rec);
    AMI_CHECK(writer_ok(&w) && span_equal(writer_span(&w), span_of(data, size)));
    for (unsigned i = 0; i < 64; i++)
        (void)record_admits(&rec, rec.floor + i);
    struct registry *r = registry_new(&f->genesis);
    AMI_CHECK(r != NULL);
    for (uint64_t index = 0; index <= 5; index++) {
        if (registry_load(r, index, &rec) != AMI_OK)
            continue;
        const struct record *stored = registry_find(r, rec.kind, &rec.name, rec.epoch);
        AMI_CHECK(stored == registry_at(r, index) && registry_index_of(r, stored) == index);
        AMI_CHECK(stored->floor == rec.floor && stored->window == rec.window);
        if (rec.kind != RECORD_MDMS)
            (void)registry_key(r, stored);
    }
    (void)registry_root(r);
    registry_free(r);
    return 0;
}

size_t fuzz_seed(uint64_t index, uint8_t *out, size_t capacity)
{
    start_once();
    struct record rec = *registry_at(f->registry, index % 5);
    if (index % 2 == 0) {
        rec = (struct record){.kind = RECORD_METER,
                              .name = meter.name,
                              .epoch = 1 + (uint32_t)(index / 2 % 2),
                              .home_dc = f->dc[0].name,
                              .w = meter.w,
                              .agree_part_size = (uint8_t)(index % 34),
                              .enrolled_at = 1 + index % 7,
                              .floor = 1 + index % 1000,
                              .window = index * 2};
        memcpy(rec.agree_part, meter.agree_part, rec.agree_part_size);
        rec.revoked_at = index % 3 == 0 ? rec.enrolled_at + index % 9 : 0;
    }
    struct writer w = writer_on(out, capacity);
    record_encode(&w, &rec);
    return writer_ok(&w) ? w.size : 0;
}
