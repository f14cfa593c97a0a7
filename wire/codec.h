/* wire/codec.h - the cursor that every encoder and decoder of the project goes through.
 *
 * A writer fills a buffer of fixed capacity and remembers that it ran over; a reader walks over
 * received bytes and remembers that it ran out. Both may be used without checking each step: the
 * one check is at the end (`writer_ok`, `reader_done`). A reader never allocates and a span that it
 * hands out points into the bytes that it reads.
 */
#ifndef AMI_WIRE_CODEC_H
#define AMI_WIRE_CODEC_H

#include "base/bytes.h"
#include "crypto/sm2.h"
#include "crypto/sm3.h"

struct writer {
    uint8_t *data;
    size_t capacity;
    size_t size; /* bytes written; what lies beyond capacity is counted but not stored */
};

static inline struct writer writer_on(void *data, size_t capacity)
{
    return (struct writer){(uint8_t *)data, capacity, 0};
}
static inline bool writer_ok(const struct writer *w)
{
    return w->size <= w->capacity;
}
static inline struct span writer_span(const struct writer *w)
{
    return span_of(w->data, w->size);
}

void write_raw(struct writer *w, const void *data, size_t size);
void write_u8(struct writer *w, uint8_t v);
void write_u16(struct writer *w, uint16_t v);
void write_u32(struct writer *w, uint32_t v);
void write_u64(struct writer *w, uint64_t v);
void write_i64(struct writer *w, int64_t v);              /* two's complement */
void write_varint(struct writer *w, uint64_t v);          /* LEB128, shortest form */
void write_id(struct writer *w, const struct ami_id *id); /* u8 size, text */
void write_bytes(struct writer *w, struct span bytes);    /* u32 size, bytes */

struct reader {
    const uint8_t *data;
    size_t size;
    size_t at;
    bool failed; /* sticky; every later read gives zero */
};

static inline struct reader reader_on(struct span s)
{
    return (struct reader){s.data, s.size, 0, false};
}
/* All bytes read, none missing. */
static inline bool reader_done(const struct reader *r)
{
    return !r->failed && r->at == r->size;
}
static inline size_t reader_left(const struct reader *r)
{
    return r->failed ? 0 : r->size - r->at;
}

void read_raw(struct reader *r, void *out, size_t size); /* zero-fills out on failure */
struct span read_span(struct reader *r, size_t size);
uint8_t read_u8(struct reader *r);
uint16_t read_u16(struct reader *r);
uint32_t read_u32(struct reader *r);
uint64_t read_u64(struct reader *r);
int64_t read_i64(struct reader *r);
uint64_t read_varint(struct reader *r);  /* refuses anything but the shortest form */
struct ami_id read_id(struct reader *r); /* refuses characters that a name may not have */
struct span read_bytes(struct reader *r, size_t size_max);

#endif
