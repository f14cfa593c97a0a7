/* mdms/records.c - encodings of the MDMS's records and keys; see the header. */
#include "mdms/records.h"

#include "base/check.h"

#include <stdlib.h>
#include <string.h>

#define RECORD_VERSION 1

/* --- keys ------------------------------------------------------------------------------------- */

static struct writer key_begin(struct mdms_key *k)
{
    memset(k, 0, sizeof *k);
    return writer_on(k->b, sizeof k->b);
}

static void key_end(struct mdms_key *k, const struct writer *w)
{
    AMI_CHECK(writer_ok(w));
    k->size = (uint8_t)w->size;
}

static struct mdms_key key_word(struct span word)
{
    struct mdms_key k;
    struct writer w = key_begin(&k);
    write_raw(&w, word.data, word.size);
    key_end(&k, &w);
    return k;
}

struct mdms_key key_state(void)
{
    return key_word(SPAN_LITERAL("state"));
}

struct mdms_key key_retained(void)
{
    return key_word(SPAN_LITERAL("retention"));
}

struct mdms_key key_runs(void)
{
    return key_word(SPAN_LITERAL("runs"));
}

struct mdms_key key_format(void)
{
    return key_word(SPAN_LITERAL("format"));
}

/* A name is followed by a zero byte, which no name contains: so names sort by their bytes, a
 * shorter one before those that it begins, and all of one name stands together. */
static void write_name(struct writer *w, const struct ami_id *id)
{
    write_raw(w, id->text, id->size);
    write_u8(w, 0);
}

struct mdms_key key_code(uint8_t role, const struct ami_id *id)
{
    struct mdms_key k;
    struct writer w = key_begin(&k);
    write_u8(&w, role);
    write_name(&w, id);
    key_end(&k, &w);
    return k;
}

struct mdms_key key_device(uint8_t role, const struct ami_id *id, uint32_t epoch)
{
    struct mdms_key k;
    struct writer w = key_begin(&k);
    write_u8(&w, role);
    write_name(&w, id);
    write_u32(&w, epoch);
    key_end(&k, &w);
    return k;
}

struct mdms_key key_listed(const struct ami_id *dc)
{
    struct mdms_key k;
    struct writer w = key_begin(&k);
    write_name(&w, dc);
    key_end(&k, &w);
    return k;
}

struct mdms_key key_number(uint64_t number)
{
    struct mdms_key k;
    struct writer w = key_begin(&k);
    write_u64(&w, number);
    key_end(&k, &w);
    return k;
}

struct mdms_key key_report(const struct ami_id *meter, uint32_t epoch, uint64_t sequence)
{
    struct mdms_key k;
    struct writer w = key_begin(&k);
    write_name(&w, meter);
    write_u32(&w, epoch);
    write_u64(&w, sequence);
    key_end(&k, &w);
    return k;
}

static void read_name(struct reader *r, struct ami_id *id)
{
    size_t size = 0;
    while (size < reader_left(r) && r->data[r->at + size] != 0)
        size++;
    struct span text = read_span(r, size);
    if (r->failed || ami_id_set(id, (const char *)text.data, text.size) != AMI_OK)
        r->failed = true;
    (void)read_u8(r);
}

enum ami_status key_device_parse(uint8_t *role, struct ami_id *id, uint32_t *epoch, struct span key)
{
    struct reader r = reader_on(key);
    *role = read_u8(&r);
    read_name(&r, id);
    *epoch = read_u32(&r);
    return reader_done(&r) ? AMI_OK : AMI_BAD_ENCODING;
}

enum ami_status key_report_parse(struct ami_id *meter, uint32_t *epoch, uint64_t *sequence,
                                 struct span key)
{
    struct reader r = reader_on(key);
    read_name(&r, meter);
    *epoch = read_u32(&r);
    *sequence = read_u64(&r);
    return reader_done(&r) ? AMI_OK : AMI_BAD_ENCODING;
}

enum ami_status key_number_parse(uint64_t *number, struct span key)
{
    struct reader r = reader_on(key);
    *number = read_u64(&r);
    return reader_done(&r) ? AMI_OK : AMI_BAD_ENCODING;
}

/* --- records ---------------------------------------------------------------------------------- */

static void read_version(struct reader *r)
{
    if (read_u8(r) != RECORD_VERSION)
        r->failed = true;
}

static bool read_flag(struct reader *r)
{
    uint8_t v = read_u8(r);
    if (v > 1)
        r->failed = true;
    return v == 1;
}

static enum ami_status done(const struct reader *r)
{
    return reader_done(r) ? AMI_OK : AMI_BAD_ENCODING;
}

void state_record_encode(struct writer *w, const struct state_record *s)
{
    write_u8(w, RECORD_VERSION);
    write_raw(w, s->network.b, SM3_BYTES);
    write_raw(w, s->chain.b, SM3_BYTES);
    write_u64(w, s->height);
    write_raw(w, s->tip.b, SM3_BYTES);
    write_i64(w, s->tip_ms);
    write_u64(w, s->settled);
    write_u64(w, s->last);
    write_u64(w, s->meters);
    write_u64(w, s->dcs);
    write_u64(w, s->reports);
    write_u64(w, s->readings);
    write_u64(w, s->bad_seals);
    write_u64(w, s->bad_reports);
}

enum ami_status state_record_parse(struct state_record *out, struct span s)
{
    struct reader r = reader_on(s);
    read_version(&r);
    read_raw(&r, out->network.b, SM3_BYTES);
    read_raw(&r, out->chain.b, SM3_BYTES);
    out->height = read_u64(&r);
    read_raw(&r, out->tip.b, SM3_BYTES);
    out->tip_ms = read_i64(&r);
    out->settled = read_u64(&r);
    out->last = read_u64(&r);
    out->meters = read_u64(&r);
    out->dcs = read_u64(&r);
    out->reports = read_u64(&r);
    out->readings = read_u64(&r);
    out->bad_seals = read_u64(&r);
    out->bad_reports = read_u64(&r);
    if (out->settled > out->last)
        r.failed = true;
    return done(&r);
}

enum ami_status mdms_state_load(const struct mdms_kv *kv, struct state_record *out)
{
    struct mdms_key key = key_state();
    struct span value;
    AMI_TRY(kv->get(kv->ctx, TABLE_STATE, key_span(&key), &value));
    return state_record_parse(out, value) == AMI_OK ? AMI_OK : AMI_DAMAGED;
}

void code_record_encode(struct writer *w, const struct code_record *c)
{
    write_u8(w, RECORD_VERSION);
    write_u32(w, c->served_epoch);
    write_u8(w, c->has_home);
    if (c->has_home)
        write_id(w, &c->home);
    write_raw(w, c->c1.b, SM2_POINT_BYTES);
    write_bytes(w, c->sealed);
}

enum ami_status code_record_parse(struct code_record *out, struct span s)
{
    struct reader r = reader_on(s);
    memset(out, 0, sizeof *out);
    read_version(&r);
    out->served_epoch = read_u32(&r);
    out->has_home = read_flag(&r);
    if (out->has_home)
        out->home = read_id(&r);
    read_raw(&r, out->c1.b, SM2_POINT_BYTES);
    out->sealed = read_bytes(&r, MDMS_CODE_BYTES_MAX);
    return done(&r);
}

void device_record_encode(struct writer *w, const struct device_record *d)
{
    write_u8(w, RECORD_VERSION);
    write_raw(w, d->request.b, SM3_BYTES);
    write_i64(w, d->enrolled_ms);
    write_u64(w, d->number);
    write_id(w, &d->home_dc);
    write_raw(w, d->w_sign.b, SM2_POINT_BYTES);
    write_bytes(w, d->agree_part);
    write_bytes(w, d->reply);
}

enum ami_status device_record_parse(struct device_record *out, struct span s)
{
    struct reader r = reader_on(s);
    read_version(&r);
    read_raw(&r, out->request.b, SM3_BYTES);
    out->enrolled_ms = read_i64(&r);
    out->number = read_u64(&r);
    out->home_dc = read_id(&r);
    read_raw(&r, out->w_sign.b, SM2_POINT_BYTES);
    out->agree_part = read_bytes(&r, AMI_SCHEME_PART_BYTES_MAX);
    out->reply = read_bytes(&r, MDMS_REPLY_BYTES_MAX);
    return done(&r);
}

void revocation_record_encode(struct writer *w, const struct revocation_record *v)
{
    write_u8(w, RECORD_VERSION);
    write_u8(w, v->role);
    write_id(w, &v->device);
    write_u32(w, v->epoch);
    write_u8(w, v->reason);
    write_u64(w, v->number);
    write_i64(w, v->asked_ms);
}

enum ami_status revocation_record_parse(struct revocation_record *out, struct span s)
{
    struct reader r = reader_on(s);
    read_version(&r);
    out->role = read_u8(&r);
    out->device = read_id(&r);
    out->epoch = read_u32(&r);
    out->reason = read_u8(&r);
    out->number = read_u64(&r);
    out->asked_ms = read_i64(&r);
    if ((out->role != DEVICE_METER && out->role != DEVICE_DC) || out->epoch == 0)
        r.failed = true;
    return done(&r);
}

void change_record_encode(struct writer *w, const struct change_record *c)
{
    write_u8(w, RECORD_VERSION);
    write_u8(w, c->state);
    write_u16(w, c->status);
    write_u8(w, c->change);
    write_id(w, &c->dc);
    write_u32(w, c->key_epoch);
    write_u32(w, c->delay);
    write_u64(w, c->number);
    write_i64(w, c->asked_ms);
    write_bytes(w, c->peer);
    write_bytes(w, c->meter);
    write_bytes(w, c->admin);
}

enum ami_status change_record_parse(struct change_record *out, struct span s)
{
    struct reader r = reader_on(s);
    read_version(&r);
    out->state = read_u8(&r);
    out->status = read_u16(&r);
    out->change = read_u8(&r);
    out->dc = read_id(&r);
    out->key_epoch = read_u32(&r);
    out->delay = read_u32(&r);
    out->number = read_u64(&r);
    out->asked_ms = read_i64(&r);
    out->peer = read_bytes(&r, AMI_ADDRESS_BYTES_MAX);
    out->meter = read_bytes(&r, AMI_ADDRESS_BYTES_MAX);
    out->admin = read_bytes(&r, AMI_ADDRESS_BYTES_MAX);
    if (out->state > CHANGE_REFUSED || out->change < MEMBER_JOIN || out->change > MEMBER_ROTATE ||
        out->delay < MEMBERSHIP_DELAY_MIN || out->delay > MEMBERSHIP_DELAY_MAX)
        r.failed = true;
    return done(&r);
}

void retention_record_encode(struct writer *w, const struct retention_record *r)
{
    write_u8(w, RECORD_VERSION);
    write_u8(w, r->state);
    write_u16(w, r->status);
    write_u64(w, r->below);
    write_u64(w, r->number);
    write_i64(w, r->asked_ms);
}

enum ami_status retention_record_parse(struct retention_record *out, struct span s)
{
    struct reader r = reader_on(s);
    read_version(&r);
    out->state = read_u8(&r);
    out->status = read_u16(&r);
    out->below = read_u64(&r);
    out->number = read_u64(&r);
    out->asked_ms = read_i64(&r);
    if (out->state > CHANGE_REFUSED || out->below < 2)
        r.failed = true;
    return done(&r);
}

void retained_record_encode(struct writer *w, const struct retained_record *r)
{
    write_u8(w, RECORD_VERSION);
    write_u64(w, r->below);
    write_u64(w, r->unread);
    write_u64(w, r->unread_to);
}

enum ami_status retained_record_parse(struct retained_record *out, struct span s)
{
    struct reader r = reader_on(s);
    read_version(&r);
    out->below = read_u64(&r);
    out->unread = read_u64(&r);
    out->unread_to = read_u64(&r);
    return done(&r);
}

void listed_record_encode(struct writer *w, const struct listed_record *r)
{
    write_u8(w, RECORD_VERSION);
    write_id(w, &r->dc);
    write_u64(w, r->number);
    write_u16(w, r->status);
    write_i64(w, r->at_ms);
}

enum ami_status listed_record_parse(struct listed_record *out, struct span s)
{
    struct reader r = reader_on(s);
    read_version(&r);
    out->dc = read_id(&r);
    out->number = read_u64(&r);
    out->status = read_u16(&r);
    out->at_ms = read_i64(&r);
    return done(&r);
}

void epoch_record_encode(struct writer *w, const struct epoch_record *e)
{
    write_u8(w, RECORD_VERSION);
    write_u64(w, e->height);
    write_bytes(w, e->first);
}

enum ami_status epoch_record_parse(struct epoch_record *out, struct span s)
{
    struct reader r = reader_on(s);
    read_version(&r);
    out->height = read_u64(&r);
    out->first = read_bytes(&r, MDMS_EPOCH_BYTES_MAX);
    return done(&r);
}

void report_record_encode(struct writer *w, const struct report_record *p)
{
    write_u8(w, RECORD_VERSION);
    write_u64(w, p->height);
    write_u32(w, p->index);
    write_i64(w, p->block_ms);
    write_id(w, &p->dc);
    write_u32(w, p->dc_epoch);
    write_raw(w, p->salt, sizeof p->salt);
    write_bytes(w, p->m);
}

enum ami_status report_record_parse(struct report_record *out, struct span s)
{
    struct reader r = reader_on(s);
    read_version(&r);
    out->height = read_u64(&r);
    out->index = read_u32(&r);
    out->block_ms = read_i64(&r);
    out->dc = read_id(&r);
    out->dc_epoch = read_u32(&r);
    read_raw(&r, out->salt, sizeof out->salt);
    out->m = read_bytes(&r, AMI_REPORT_BYTES_MAX);
    return done(&r);
}

size_t report_row_bytes(struct span key, struct span record)
{
    return 1 + 2 + key.size + record.size;
}

void report_row_encode(struct writer *w, struct span key, struct span record)
{
    AMI_CHECK(key.size > 0 && key.size <= MDMS_KEY_BYTES_MAX &&
              record.size <= MDMS_RECORD_BYTES_MAX);
    write_u8(w, (uint8_t)key.size);
    write_u16(w, (uint16_t)record.size);
    write_raw(w, key.data, key.size);
    write_raw(w, record.data, record.size);
}

/* Looked at very often: to find one report is to read what stands before it in its chunk. */
enum ami_status report_row_next(struct reader *r, struct span *key, struct span *record)
{
    const size_t left = reader_left(r);
    if (left == 0 && !r->failed)
        return AMI_NOT_FOUND;
    const uint8_t *at = r->data + r->at;
    const size_t key_size = left < 3 ? 0 : at[0], record_size = left < 3 ? 0 : load_be16(at + 1);
    if (key_size == 0 || key_size > MDMS_KEY_BYTES_MAX || record_size > MDMS_RECORD_BYTES_MAX ||
        left < 3 + key_size + record_size) {
        r->failed = true;
        return AMI_BAD_ENCODING;
    }
    *key = span_of(at + 3, key_size);
    *record = span_of(at + 3 + key_size, record_size);
    r->at += 3 + key_size + record_size;
    return AMI_OK;
}

void runs_record_encode(struct writer *w, const struct runs_record *r)
{
    write_u8(w, RECORD_VERSION);
    for (unsigned i = 0; i < MDMS_RUN_LEVELS; i++) {
        const struct runs_level *l = &r->level[i];
        write_u64(w, l->first);
        write_u64(w, l->end);
        write_u64(w, l->merged_end);
        write_u8(w, l->from.size);
        write_raw(w, l->from.b, l->from.size);
    }
}

static bool level_is_sound(const struct runs_level *l, bool last)
{
    if (l->first > l->end || l->end - l->first > MDMS_RUNS_MAX)
        return false;
    if (l->merged_end == 0)
        return l->from.size == 0;
    return !last && l->merged_end > l->first && l->merged_end <= l->end;
}

enum ami_status runs_record_parse(struct runs_record *out, struct span s)
{
    struct reader r = reader_on(s);
    memset(out, 0, sizeof *out);
    read_version(&r);
    for (unsigned i = 0; i < MDMS_RUN_LEVELS; i++) {
        struct runs_level *l = &out->level[i];
        l->first = read_u64(&r);
        l->end = read_u64(&r);
        l->merged_end = read_u64(&r);
        l->from.size = read_u8(&r);
        if (l->from.size > MDMS_KEY_BYTES_MAX)
            return AMI_BAD_ENCODING;
        read_raw(&r, l->from.b, l->from.size);
        if (!level_is_sound(l, i + 1 == MDMS_RUN_LEVELS))
            r.failed = true;
    }
    return done(&r);
}

void bad_seal_record_encode(struct writer *w, const struct bad_seal_record *b)
{
    write_u8(w, RECORD_VERSION);
    write_u64(w, b->height);
    write_u32(w, b->index);
    write_id(w, &b->dc);
    write_u32(w, b->dc_epoch);
    write_u16(w, b->status);
}

enum ami_status bad_seal_record_parse(struct bad_seal_record *out, struct span s)
{
    struct reader r = reader_on(s);
    read_version(&r);
    out->height = read_u64(&r);
    out->index = read_u32(&r);
    out->dc = read_id(&r);
    out->dc_epoch = read_u32(&r);
    out->status = read_u16(&r);
    return done(&r);
}

/* --- writes ----------------------------------------------------------------------------------- */

void mdms_write_reset(struct mdms_write *w)
{
    w->size = 0;
    w->no_memory = false;
}

void mdms_write_free(struct mdms_write *w)
{
    free(w->data);
    memset(w, 0, sizeof *w);
}

/* One operation: u8 remove, u8 table, u8 key size, key, u32 value size, value. */
static void append(struct mdms_write *w, bool remove, enum mdms_table table,
                   const struct mdms_key *key, struct span value)
{
    size_t need = w->size + 3u + key->size + 4 + value.size;
    if (need > w->capacity && !w->no_memory) {
        size_t capacity = need < 4096 ? 4096 : need + need / 2;
        uint8_t *data = realloc(w->data, capacity);
        if (data == NULL) {
            w->no_memory = true;
        } else {
            w->data = data;
            w->capacity = capacity;
        }
    }
    if (w->no_memory)
        return;
    struct writer out = writer_on(w->data + w->size, w->capacity - w->size);
    write_u8(&out, remove);
    write_u8(&out, (uint8_t)table);
    write_u8(&out, key->size);
    write_raw(&out, key->b, key->size);
    write_bytes(&out, value);
    AMI_CHECK(writer_ok(&out));
    w->size += out.size;
}

void mdms_write_put(struct mdms_write *w, enum mdms_table table, const struct mdms_key *key,
                    struct span value)
{
    append(w, false, table, key, value);
}

void mdms_write_delete(struct mdms_write *w, enum mdms_table table, const struct mdms_key *key)
{
    append(w, true, table, key, span_of(NULL, 0));
}

bool mdms_write_next(const struct mdms_write *w, size_t *at, struct mdms_op *op)
{
    if (*at == w->size)
        return false;
    struct reader r = reader_on(span_of(w->data + *at, w->size - *at));
    op->remove = read_u8(&r) == 1;
    op->table = (enum mdms_table)read_u8(&r);
    op->key = read_span(&r, read_u8(&r));
    op->value = read_bytes(&r, w->size);
    AMI_CHECK(!r.failed && op->table < TABLE_COUNT);
    *at += r.at;
    return true;
}
