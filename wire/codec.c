#include "wire/codec.h"

#include "base/check.h"

#include <string.h>

void write_raw(struct writer *w, const void *data, size_t size)
{
    if (size != 0 && w->size <= w->capacity && size <= w->capacity - w->size)
        memcpy(w->data + w->size, data, size);
    AMI_CHECK(size <= SIZE_MAX - w->size);
    w->size += size;
}

void write_u8(struct writer *w, uint8_t v)
{
    write_raw(w, &v, 1);
}

void write_u16(struct writer *w, uint16_t v)
{
    uint8_t b[2];
    store_be16(b, v);
    write_raw(w, b, sizeof b);
}

void write_u32(struct writer *w, uint32_t v)
{
    uint8_t b[4];
    store_be32(b, v);
    write_raw(w, b, sizeof b);
}

void write_u64(struct writer *w, uint64_t v)
{
    uint8_t b[8];
    store_be64(b, v);
    write_raw(w, b, sizeof b);
}

void write_i64(struct writer *w, int64_t v)
{
    write_u64(w, (uint64_t)v);
}

void write_varint(struct writer *w, uint64_t v)
{
    while (v >= 0x80) {
        write_u8(w, (uint8_t)(v | 0x80));
        v >>= 7;
    }
    write_u8(w, (uint8_t)v);
}

void write_id(struct writer *w, const struct ami_id *id)
{
    AMI_CHECK(id->size <= AMI_ID_BYTES_MAX);
    write_u8(w, id->size);
    write_raw(w, id->text, id->size);
}

void write_bytes(struct writer *w, struct span bytes)
{
    AMI_CHECK(bytes.size <= UINT32_MAX);
    write_u32(w, (uint32_t)bytes.size);
    write_raw(w, bytes.data, bytes.size);
}

struct span read_span(struct reader *r, size_t size)
{
    if (r->failed || size > r->size - r->at) {
        r->failed = true;
        return span_of(NULL, 0);
    }
    struct span s = span_of(r->data + r->at, size);
    r->at += size;
    return s;
}

void read_raw(struct reader *r, void *out, size_t size)
{
    struct span s = read_span(r, size);
    if (r->failed)
        memset(out, 0, size);
    else if (size != 0)
        memcpy(out, s.data, size);
}

uint8_t read_u8(struct reader *r)
{
    uint8_t v;
    read_raw(r, &v, 1);
    return v;
}

uint16_t read_u16(struct reader *r)
{
    uint8_t b[2];
    read_raw(r, b, sizeof b);
    return load_be16(b);
}

uint32_t read_u32(struct reader *r)
{
    uint8_t b[4];
    read_raw(r, b, sizeof b);
    return load_be32(b);
}

uint64_t read_u64(struct reader *r)
{
    uint8_t b[8];
    read_raw(r, b, sizeof b);
    return load_be64(b);
}

int64_t read_i64(struct reader *r)
{
    return (int64_t)read_u64(r);
}

uint64_t read_varint(struct reader *r)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t b = read_u8(r);
        /* The tenth byte has room for one bit; a final zero byte would be a second encoding. */
        if ((shift == 63 && b > 1) || (shift > 0 && b == 0))
            r->failed = true;
        if (r->failed)
            return 0;
        v |= (uint64_t)(b & 0x7f) << shift;
        if ((b & 0x80) == 0)
            return v;
    }
    r->failed = true;
    return 0;
}

struct ami_id read_id(struct reader *r)
{
    struct ami_id id = {0};
    struct span s = read_span(r, read_u8(r));
    if (!r->failed && ami_id_set(&id, (const char *)s.data, s.size) != AMI_OK)
        r->failed = true;
    return id;
}

struct span read_bytes(struct reader *r, size_t size_max)
{
    uint32_t size = read_u32(r);
    if (size > size_max)
        r->failed = true;
    return read_span(r, size);
}
