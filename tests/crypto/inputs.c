/* See inputs.h. */
#include "inputs.h"

#include <string.h>

static const scalar zero = {{0}};

const size_t batch_sizes[BATCH_SIZES] = {1,  2,  3,  4,  5,  6,  7,  8,  9,
                                         15, 16, 17, 31, 33, 64, 65, 100};

/* --- scalars ---------------------------------------------------------------------------------- */

struct list {
    scalar *out;
    size_t count, max;
};

static void put(struct list *l, scalar k)
{
    if (l->count < l->max)
        l->out[l->count++] = k;
}

static void put_both(struct list *l, scalar k)
{
    put(l, k);
    put(l, scalar_sub(&zero, &k));
}

/* `width` bits of `value` at `shift`; bits beyond 2^256 are cut, and the rest is reduced. */
static scalar shifted(uint64_t value, unsigned shift)
{
    uint64_t w[5] = {0};
    uint8_t b[32];
    w[shift / 64] = value << shift % 64;
    if (shift % 64 > 0)
        w[shift / 64 + 1] = value >> (64 - shift % 64);
    for (int i = 0; i < 4; i++)
        store_be64(b + 24 - 8 * i, w[i]);
    return scalar_reduce(b);
}

static scalar run_of_ones(unsigned length, unsigned shift)
{
    uint8_t b[32] = {0};
    for (unsigned i = shift; i < shift + length; i++)
        b[31 - i / 8] |= (uint8_t)(1 << i % 8);
    return scalar_reduce(b);
}

static void put_runs(struct list *l)
{
    static const unsigned lengths[] = {2,   3,   5,   6,   7,   8,   9,   15,  16,  31,  32,  33,
                                       51,  52,  53,  63,  64,  65,  100, 104, 127, 128, 129, 156,
                                       160, 192, 208, 240, 250, 251, 252, 254, 255, 256};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        for (unsigned shift = 0; shift + lengths[i] <= 256; shift += 13)
            put_both(l, run_of_ones(lengths[i], shift));
}

static void put_repeated_digits(struct list *l, unsigned bits)
{
    for (uint64_t digit = 1; digit < UINT64_C(1) << bits; digit++) {
        scalar k = zero;
        for (unsigned at = 0; at < 256; at += bits) {
            scalar one_window = shifted(digit, at);
            k = scalar_add(&k, &one_window);
        }
        put_both(l, k);
    }
}

size_t edge_scalars(scalar *out, size_t max)
{
    static const scalar one = {{1}};
    struct list l = {out, 0, max};
    for (uint64_t v = 0; v <= 40; v++)
        put_both(&l, (scalar){{v}});
    for (unsigned bit = 2; bit < 256; bit++) {
        scalar power = shifted(1, bit);
        put_both(&l, scalar_sub(&power, &one));
        put_both(&l, power);
        put_both(&l, scalar_add(&power, &one));
    }
    put_runs(&l);
    put_repeated_digits(&l, 5);
    put_repeated_digits(&l, 6);
    put_repeated_digits(&l, 8);
    return l.count;
}

size_t window_scalars(scalar *out, size_t max, unsigned bits)
{
    struct list l = {out, 0, max};
    for (unsigned at = 0; at < 256; at += bits) {
        unsigned left = 256 - at < bits ? 256 - at : bits;
        for (uint64_t digit = 1; digit < UINT64_C(1) << left; digit++)
            put(&l, shifted(digit, at));
    }
    return l.count;
}

/* --- points ----------------------------------------------------------------------------------- */

/* The first point whose x is at `x` or a little above (below when `down`), and its negative. */
static size_t put_near(point *out, size_t max, const uint8_t x[32], bool down)
{
    point_bytes in;
    in.b[0] = 2;
    memcpy(in.b + 1, x, 32);
    for (int tries = 0; max >= 2 && tries < 64; tries++) {
        if (point_decode(&out[0], &in) == AMI_OK) {
            out[1] = point_negate(&out[0]);
            return 2;
        }
        uint64_t low = load_be64(in.b + 25);
        store_be64(in.b + 25, down ? low - 1 : low + 1);
    }
    return 0;
}

/* x = 2^bit and a little more, 2^bit - 1 and a little less. */
static size_t put_around_power(point *out, size_t max, unsigned bit)
{
    uint8_t x[32] = {0};
    x[31 - bit / 8] = (uint8_t)(1 << bit % 8);
    size_t count = put_near(out, max, x, false);
    memset(x, 0, sizeof x);
    for (unsigned i = 0; i < bit; i++)
        x[31 - i / 8] |= (uint8_t)(1 << i % 8);
    return count + put_near(out + count, max - count, x, true);
}

size_t special_points(point *out, size_t max)
{
    static const unsigned borders[] = {52, 64, 104, 128, 156, 192, 208, 224, 255};
    static const uint8_t p_minus_1[32] = {0xff, 0xff, 0xff, 0xfe, 0xff, 0xff, 0xff, 0xff,
                                          0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                          0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00,
                                          0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe};
    size_t count = 0;
    if (max < 2)
        return 0;
    out[count++] = *point_generator();
    out[count++] = point_negate(point_generator());
    for (uint8_t i = 0; i < 24; i++) {
        uint8_t x[32] = {0};
        x[31] = i;
        /* A gap is filled from above, so some come twice. */
        count += put_near(out + count, max - count, x, false);
        memcpy(x, p_minus_1, sizeof x);
        x[31] = (uint8_t)(x[31] - i);
        count += put_near(out + count, max - count, x, true);
    }
    for (size_t i = 0; i < sizeof borders / sizeof *borders; i++)
        count += put_around_power(out + count, max - count, borders[i]);
    return count;
}
