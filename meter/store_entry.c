#include "meter/store_entry.h"

#include <string.h>

void store_entry_head(struct writer *w, const struct store_entry *e)
{
    write_u8(w, (uint8_t)e->kind);
    if (e->kind == STORE_MOVED)
        write_varint(w, e->moved_back);
    write_id(w, &e->name);
    write_u32(w, e->epoch);
    write_varint(w, e->sequence);
    write_varint(w, e->state.reports);
    write_varint(w, e->state.readings);
    write_varint(w, e->state.profile_next);
    write_u16(w, e->readings);
    write_u8(w, e->has_source);
    if (e->has_source) {
        write_raw(w, e->source.b, sizeof e->source.b);
        write_varint(w, e->source_row);
    }
}

static bool read_report(struct reader *r, struct store_entry *out)
{
    out->name = read_id(r);
    out->epoch = read_u32(r);
    out->sequence = read_varint(r);
    out->state.reports = read_varint(r);
    out->state.readings = read_varint(r);
    out->state.profile_next = read_varint(r);
    out->readings = read_u16(r);
    const uint8_t has_source = read_u8(r);
    if (has_source == 1) {
        out->has_source = true;
        read_raw(r, out->source.b, sizeof out->source.b);
        out->source_row = read_varint(r);
    }
    out->record = read_span(r, reader_left(r));
    out->state.next_sequence = out->sequence + 1;
    return reader_done(r) && has_source <= 1 && out->epoch != 0 && out->sequence != 0 &&
           out->sequence != UINT64_MAX && out->state.reports >= out->sequence &&
           out->record.size != 0 && out->record.size <= METER_RECORD_BYTES_MAX;
}

static bool read_settled(struct reader *r, struct store_entry *out)
{
    bool good = reader_left(r) > 0;
    out->settled = span_of(r->data + r->at, reader_left(r));
    while (good && reader_left(r) > 0)
        good = read_varint(r) != 0;
    return good && reader_done(r);
}

enum ami_status store_entry_parse(struct store_entry *out, struct span bytes)
{
    struct reader r = reader_on(bytes);
    memset(out, 0, sizeof *out);
    const uint8_t kind = read_u8(&r);
    out->kind = (enum store_entry_kind)kind;
    bool good = false;
    switch (kind) {
    case STORE_MOVED:
        out->moved_back = read_varint(&r);
        good = out->moved_back != 0 && read_report(&r, out);
        break;
    case STORE_REPORT:
        good = read_report(&r, out);
        break;
    case STORE_SETTLED:
        good = read_settled(&r, out);
        break;
    default:
        break;
    }
    return good ? AMI_OK : AMI_BAD_ENCODING;
}
