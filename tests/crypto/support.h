/* tests/crypto/support.h - numbers from hex, seeded points, comparison. */
#ifndef AMI_TESTS_CRYPTO_SUPPORT_H
#define AMI_TESTS_CRYPTO_SUPPORT_H

#include "tests/harness.h"

#include "crypto/sm2.h"
#include "inputs.h"

#include <string.h>

static inline void from_hex(uint8_t *out, size_t size, const char *hex)
{
    assert_ok(hex_decode(out, size, hex));
}

static inline scalar scalar_of(const char *hex)
{
    uint8_t b[32];
    scalar k;
    from_hex(b, sizeof b, hex);
    assert_ok(scalar_decode(&k, b));
    return k;
}

static inline scalar scalar_of_small(uint64_t v)
{
    return (scalar){{v}};
}

static inline point point_of(const char *hex)
{
    uint8_t b[SM2_XY_BYTES];
    point p;
    from_hex(b, sizeof b, hex);
    assert_ok(point_from_xy(&p, b));
    return p;
}

static inline sm3_digest digest_of(const char *hex)
{
    sm3_digest d;
    from_hex(d.b, sizeof d.b, hex);
    return d;
}

static inline void assert_hex(const void *got, size_t size, const char *expected)
{
    uint8_t want[512];
    assert_true(size <= sizeof want);
    from_hex(want, size, expected);
    assert_memory_equal(got, want, size);
}

static inline void assert_scalar_hex(const scalar *k, const char *expected)
{
    uint8_t b[32];
    scalar_encode(b, k);
    assert_hex(b, sizeof b, expected);
}

static inline void assert_point_hex(const point *p, const char *expected)
{
    uint8_t b[SM2_XY_BYTES];
    point_xy(b, p);
    assert_hex(b, sizeof b, expected);
}

static inline void assert_point_equal(const point *a, const point *b)
{
    assert_memory_equal(a, b, sizeof *a);
}

static inline point seeded_point(struct seeded *s)
{
    scalar k = seeded_scalar(s);
    return point_mul_base(&k);
}

#endif
