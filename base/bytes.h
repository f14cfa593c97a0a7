/* base/bytes.h - spans of bytes, big-endian integers, hex, device names.
 *
 * A span borrows; it never owns. All integers on the wire and under a hash are big-endian.
 */
#ifndef AMI_BASE_BYTES_H
#define AMI_BASE_BYTES_H

#include "base/limits.h"
#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct span {
    const uint8_t *data; /* may be NULL when size is 0 */
    size_t size;
};

static inline struct span span_of(const void *data, size_t size)
{
    return (struct span){(const uint8_t *)data, size};
}

/* The bytes of a string literal without its terminating zero. */
#define SPAN_LITERAL(text) span_of(text, sizeof(text) - 1)

bool span_equal(struct span a, struct span b);

static inline void store_be16(uint8_t out[2], uint16_t v)
{
    out[0] = (uint8_t)(v >> 8);
    out[1] = (uint8_t)v;
}
static inline void store_be32(uint8_t out[4], uint32_t v)
{
    store_be16(out, (uint16_t)(v >> 16));
    store_be16(out + 2, (uint16_t)v);
}
static inline void store_be64(uint8_t out[8], uint64_t v)
{
    store_be32(out, (uint32_t)(v >> 32));
    store_be32(out + 4, (uint32_t)v);
}
static inline uint16_t load_be16(const uint8_t in[2])
{
    return (uint16_t)((unsigned)in[0] << 8 | in[1]);
}
static inline uint32_t load_be32(const uint8_t in[4])
{
    return (uint32_t)load_be16(in) << 16 | load_be16(in + 2);
}
static inline uint64_t load_be64(const uint8_t in[8])
{
    return (uint64_t)load_be32(in) << 32 | load_be32(in + 4);
}

/* Lower-case hex of `size` bytes, zero-terminated: out holds 2 * size + 1 characters. */
void hex_encode(char *out, const uint8_t *in, size_t size);

/* Exactly 2 * size hex digits of either case. AMI_BAD_ENCODING otherwise, out unspecified. */
enum ami_status hex_decode(uint8_t *out, size_t size, const char *text) AMI_MUST_CHECK;

/* A device, DC or network name: 1..AMI_ID_BYTES_MAX bytes of [A-Za-z0-9._-], unused bytes zero so
 * that two names may be compared as memory. */
struct ami_id {
    uint8_t size;
    char text[AMI_ID_BYTES_MAX + 1]; /* zero-terminated */
};

/* AMI_BAD_ARGUMENT when the name is empty, too long or holds another character. */
enum ami_status ami_id_set(struct ami_id *out, const char *text, size_t size) AMI_MUST_CHECK;
enum ami_status ami_id_from_text(struct ami_id *out, const char *text) AMI_MUST_CHECK;
bool ami_id_equal(const struct ami_id *a, const struct ami_id *b);
/* Order by bytes, a shorter name first where one is a prefix of the other. */
int ami_id_compare(const struct ami_id *a, const struct ami_id *b);

#endif
