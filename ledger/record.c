#include "ledger/evidence.h"
#include "ledger/registry_internal.h"

#include <string.h>

/* Devices other than meters have no home; a name must not be empty. */
static const struct ami_id no_home = {1, "-"};

void record_encode(struct writer *w, const struct record *rec)
{
    write_u8(w, rec->kind);
    write_id(w, &rec->name);
    write_u32(w, rec->epoch);
    write_id(w, rec->kind == RECORD_METER ? &rec->home_dc : &no_home);
    write_raw(w, rec->w.b, SM2_POINT_BYTES);
    write_bytes(w, span_of(rec->agree_part, rec->agree_part_size));
    write_u64(w, rec->enrolled_at);
    write_u64(w, rec->revoked_at);
    write_u64(w, rec->floor);
    write_u64(w, rec->window);
}

/* What holds for every record of that kind, whatever happens to it. */
static bool is_sound(const struct record *rec, const struct ami_id *home)
{
    if (rec->epoch == 0)
        return false;
    if (rec->revoked_at != 0 && rec->revoked_at < rec->enrolled_at)
        return false;
    switch (rec->kind) {
    case RECORD_MDMS:
        return ami_id_equal(home, &no_home) && rec->window != 1 && rec->revoked_at == 0 &&
               rec->agree_part_size == 0;
    case RECORD_METER:
        return rec->floor >= 1 && (rec->window & 1) == 0 && rec->enrolled_at >= 1;
    case RECORD_DC:
        return ami_id_equal(home, &no_home) && (rec->window & 1) == 0 &&
               (rec->window & 0xff) >> EVIDENCE_KIND_END == 0 &&
               (record_member_until(rec) == 0 ||
                (rec->member_from != 0 && record_member_until(rec) > rec->member_from));
    default:
        return false;
    }
}

enum ami_status record_parse(struct record *out, struct span s)
{
    struct reader r = reader_on(s);
    memset(out, 0, sizeof *out);
    out->kind = read_u8(&r);
    out->name = read_id(&r);
    out->epoch = read_u32(&r);
    struct ami_id home = read_id(&r);
    read_raw(&r, out->w.b, SM2_POINT_BYTES);
    struct span part = read_bytes(&r, sizeof out->agree_part);
    out->enrolled_at = read_u64(&r);
    out->revoked_at = read_u64(&r);
    out->floor = read_u64(&r);
    out->window = read_u64(&r);
    if (!reader_done(&r))
        return AMI_BAD_ENCODING;
    if (part.size != 0)
        memcpy(out->agree_part, part.data, part.size);
    out->agree_part_size = (uint8_t)part.size;
    if (out->kind == RECORD_METER)
        out->home_dc = home;
    return is_sound(out, &home) ? AMI_OK : AMI_BAD_ENCODING;
}

sm3_digest record_leaf(const struct record *rec)
{
    uint8_t bytes[RECORD_BYTES_MAX];
    struct writer w = writer_on(bytes, sizeof bytes);
    record_encode(&w, rec);
    AMI_CHECK(writer_ok(&w));
    return merkle_leaf(writer_span(&w));
}

enum ami_status record_admits(const struct record *rec, uint64_t sequence)
{
    if (sequence < rec->floor)
        return AMI_SEQUENCE_SETTLED;
    /* The last number of all is never used: the floor could not move beyond it. */
    if (sequence - rec->floor >= AMI_SEQ_WINDOW || sequence == UINT64_MAX)
        return AMI_SEQUENCE_AHEAD;
    return rec->window >> (sequence - rec->floor) & 1 ? AMI_SEQUENCE_SETTLED : AMI_OK;
}

static void slide(struct record *rec)
{
    while (rec->window & 1) {
        rec->window >>= 1;
        rec->floor++;
    }
}

void record_settle(struct record *rec, uint64_t sequence)
{
    rec->window |= (uint64_t)1 << (sequence - rec->floor);
    slide(rec);
}

void record_settle_below(struct record *rec, uint64_t below)
{
    uint64_t shift = below - rec->floor;
    rec->window = shift >= 64 ? 0 : rec->window >> shift;
    rec->floor = below;
    slide(rec);
}
