/* Sums of many products in eight lanes: Pippenger's method as in sm2_path_single.c, with windows of
 * 8 bits. Lane i of group g has window 8 g + i and its own buckets, so that eight windows take in a
 * point at once. */
#include "crypto/sm2_lanes.h"
#include "crypto/sm2_path.h"

#include "base/check.h"

#include <stdlib.h>
#include <string.h>

#define SUM_WINDOWS  32
#define SUM_SHORT    16
#define BUCKETS      128
#define BUCKET_WORDS 24 /* x, y, zz, zzz of five limbs each, then whether anything is in it */
#define BUCKET_FULL  20

struct sum {
    size_t count, short_from;
    /* Coordinate limb j of point i is xy[i / 8][j][i % 8]. */
    _Alignas(64) uint64_t (*xy)[10][LANES];
    uint8_t (*size)[SUM_WINDOWS]; /* of each digit; 0 is no digit */
    uint8_t (*negative)[SUM_WINDOWS / LANES];
    /* Row 0 takes what has no digit, and nobody looks at it. */
    uint64_t (*bucket)[LANES][BUCKET_WORDS];
    struct affine8 blind[2];
    uint64_t total[SUM_WINDOWS][16];
};

/* Digits in (-128, 128] of k or n - k, whichever is below 2^255. */
static void sum_digits(uint8_t size[SUM_WINDOWS], uint8_t negative[SUM_WINDOWS / LANES],
                       const scalar *k)
{
    static const scalar zero = {{0}};
    const unsigned flip = (unsigned)(k->w[3] >> 63);
    const scalar half = flip ? scalar_sub(&zero, k) : *k;
    unsigned carry = 0;
    memset(negative, 0, SUM_WINDOWS / LANES);
    for (unsigned i = 0; i < SUM_WINDOWS; i++) {
        const unsigned v = (unsigned)(half.w[i / 8] >> (8 * (i % 8)) & 255) + carry;
        carry = v > 128;
        size[i] = (uint8_t)(carry ? 256 - v : v);
        negative[i / LANES] |= (uint8_t)((carry ^ flip) << (i % LANES));
    }
    AMI_CHECK(carry == 0);
}

/* The words of one bucket in each lane to coordinates; the mask of those that are full. */
FE8_INLINE __mmask8 bucket_load(struct xyzz8 *out, const uint64_t *const from[LANES])
{
    __m512i w[BUCKET_WORDS];
#pragma GCC unroll 3
    for (int part = 0; part < 3; part++) {
#pragma GCC unroll 8
        for (int i = 0; i < LANES; i++)
            w[8 * part + i] = load(from[i] + 8 * part);
        fe8_transpose(w + 8 * part);
    }
#pragma GCC unroll 5
    for (int i = 0; i < 5; i++) {
        out->x.l[i] = w[i];
        out->y.l[i] = w[5 + i];
        out->zz.l[i] = w[10 + i];
        out->zzz.l[i] = w[15 + i];
    }
    return _mm512_test_epi64_mask(w[BUCKET_FULL], w[BUCKET_FULL]);
}

FE8_INLINE void bucket_store(uint64_t *const to[LANES], const struct xyzz8 *a)
{
    __m512i w[BUCKET_WORDS];
#pragma GCC unroll 5
    for (int i = 0; i < 5; i++) {
        w[i] = a->x.l[i];
        w[5 + i] = a->y.l[i];
        w[10 + i] = a->zz.l[i];
        w[15 + i] = a->zzz.l[i];
    }
    w[BUCKET_FULL] = FE8_ALL(1);
    w[21] = w[22] = w[23] = _mm512_setzero_si512();
#pragma GCC unroll 3
    for (int part = 0; part < 3; part++) {
        fe8_transpose(w + 8 * part);
#pragma GCC unroll 8
        for (int i = 0; i < LANES; i++)
            _mm512_store_si512((void *)(to[i] + 8 * part), w[8 * part + i]);
    }
}

static void bucket_places(uint64_t *at[LANES], const struct sum *s, size_t i, unsigned group)
{
    for (unsigned lane = 0; lane < LANES; lane++)
        at[lane] = s->bucket[s->size[i][group * LANES + lane]][lane];
}

static __attribute__((noinline)) void bucket_add(struct sum *s, size_t i, unsigned group)
{
    const fe8 one = fe8_all(fe8_one);
    uint64_t *at[LANES], *next[LANES];
    struct affine8 p;
    struct xyzz8 bucket;
    bucket_places(at, s, i, group);
    if (i + 1 < s->count) {
        bucket_places(next, s, i + 1, group);
        for (unsigned lane = 0; lane < LANES; lane++)
            for (int part = 0; part < 3; part++)
                __builtin_prefetch(next[lane] + 8 * part, 1);
    }
    for (int j = 0; j < 5; j++) {
        p.x.l[j] = FE8_ALL(s->xy[i / LANES][j][i % LANES]);
        p.y.l[j] = FE8_ALL(s->xy[i / LANES][5 + j][i % LANES]);
    }
    const __mmask8 negative = s->negative[i][group];
    const __mmask8 full = bucket_load(&bucket, (const uint64_t *const *)at);
    struct affine8 first;
    affine8_norm(&first, &p, negative);
    const struct xyzz8 alone = {first.x, first.y, one, one};
    xyzz8_add_mixed(&bucket, &p, negative);
    xyzz8_select(&bucket, full, &bucket, &alone);
    bucket_store(at, &bucket);
}

/* Each lane's weighted sum, plus BUCKETS times blind[0], plus blind[1]. */
static void bucket_sums(struct xyzz8 *weighted, const struct sum *s)
{
    const fe8 one = fe8_all(fe8_one);
    struct xyzz8 running = {s->blind[0].x, s->blind[0].y, one, one}, bucket, sum;
    *weighted = (struct xyzz8){s->blind[1].x, s->blind[1].y, one, one};
    for (size_t b = BUCKETS; b > 0; b--) {
        const uint64_t *at[LANES];
        for (unsigned lane = 0; lane < LANES; lane++)
            at[lane] = s->bucket[b][lane];
        const __mmask8 full = bucket_load(&bucket, at);
        if (full != 0) {
            sum = running;
            xyzz8_add(&sum, &bucket);
            xyzz8_select(&running, full, &sum, &running);
        }
        xyzz8_add(weighted, &running);
    }
}

/* Windows of a group to the adx path's packed form. */
static void sum_store(uint64_t (*out)[16], const struct xyzz8 *a)
{
    /* 2^256: from the Montgomery form of 2^260 to that of 2^256. */
    static const int64_t two_256[5] = {1, INT64_C(0xffffffff000), 0, 0, INT64_C(0x10000)};
    const fe8 shift = fe8_all(two_256);
    const fe8 *from[4] = {&a->x, &a->y, &a->zz, &a->zzz};
    __m512i w[16];
    for (int i = 0; i < 4; i++) {
        fe8 t;
        mul8(&t, from[i], &shift);
        fe8_pack(w + 4 * i, &t);
    }
    fe8_transpose(w);
    fe8_transpose(w + 8);
    for (int i = 0; i < LANES; i++) {
        _mm512_storeu_si512(out[i], w[i]);
        _mm512_storeu_si512(out[i] + 8, w[8 + i]);
    }
}

static void sum_points(struct sum *s, const point *p, const scalar *k)
{
    for (size_t i = 0; i < s->count; i += LANES) {
        const point *at[LANES];
        struct affine8 a;
        lane_pointers(at, p + i, s->count - i);
        affine8_from_points(&a, at);
        for (int j = 0; j < 5; j++) {
            _mm512_store_si512(s->xy[i / LANES][j], a.x.l[j]);
            _mm512_store_si512(s->xy[i / LANES][5 + j], a.y.l[j]);
        }
    }
    for (size_t i = 0; i < s->count; i++)
        sum_digits(s->size[i], s->negative[i], &k[i]);
}

static bool sum_run(struct sum *s, const scalar *c, const scalar blind[2])
{
    const scalar all[3] = {blind[0], blind[1], sm2_sum_expected(c, blind, 8, SUM_WINDOWS)};
    point expected[3];
    sm2_path_ifma.mul_base(expected, all, 3);
    for (int i = 0; i < 2; i++) {
        const point *at[LANES];
        lane_pointers(at, &expected[i], 1);
        affine8_from_points(&s->blind[i], at);
    }
    for (unsigned group = 0; group < SUM_WINDOWS / LANES; group++) {
        const size_t count = group * LANES < SUM_SHORT ? s->count : s->short_from;
        struct xyzz8 weighted;
        memset(s->bucket, 0, sizeof *s->bucket * (BUCKETS + 1));
        for (size_t i = 0; i < count; i++)
            bucket_add(s, i, group);
        bucket_sums(&weighted, s);
        sum_store(s->total + group * LANES, &weighted);
    }
    return sm2_path_adx_total_is((const uint64_t(*)[16])s->total, SUM_WINDOWS, 8, &expected[2]);
}

bool sm2_sum_ifma(const scalar *c, const point *p, const scalar *k, size_t count, size_t short_from,
                  const scalar blind[2])
{
    const size_t eights = count / LANES + 1;
    struct sum s = {.count = count, .short_from = short_from};
    s.xy = aligned_alloc(64, eights * sizeof *s.xy);
    s.bucket = aligned_alloc(64, (BUCKETS + 1) * sizeof *s.bucket);
    s.size = malloc((count + 1) * sizeof *s.size);
    s.negative = malloc((count + 1) * sizeof *s.negative);
    bool good = s.xy != NULL && s.bucket != NULL && s.size != NULL && s.negative != NULL;
    if (good) {
        sum_points(&s, p, k);
        good = sum_run(&s, c, blind);
    }
    free(s.xy);
    free(s.bucket);
    free(s.size);
    free(s.negative);
    return good;
}
