/* SM3 (GB/T 32905) of many messages, sixteen at a time: one 32-bit word of each in a vector.
 *
 * Each lane has a cursor that hands out the next block of its message, where the message lies or,
 * if the block crosses parts or is padded, from the lane's buffer. When a message ends, the lane
 * takes the next one at once, so lanes idle only when no message is left. Which lane does what
 * depends on lengths alone.
 */
#include "crypto/sm3_lanes.h"

#include "base/check.h"
#include "crypto/secret.h"

#include <immintrin.h>
#include <string.h>

#define WORDS       8
#define BLOCK_BYTES 64
#define BLOCK_WORDS 16
#define ROUNDS      64

/* IV, and T_j <<< j (clauses 4.1, 4.2 and 5.3.3). */
static const uint32_t iv[WORDS] = {0x7380166f, 0x4914b2b9, 0x172442d7, 0xda8a0600,
                                   0xa96f30bc, 0x163138aa, 0xe38dee4d, 0xb0fb0e4e};
static const uint32_t t_rotated[ROUNDS] = {
    0x79cc4519, 0xf3988a32, 0xe7311465, 0xce6228cb, 0x9cc45197, 0x3988a32f, 0x7311465e, 0xe6228cbc,
    0xcc451979, 0x988a32f3, 0x311465e7, 0x6228cbce, 0xc451979c, 0x88a32f39, 0x11465e73, 0x228cbce6,
    0x9d8a7a87, 0x3b14f50f, 0x7629ea1e, 0xec53d43c, 0xd8a7a879, 0xb14f50f3, 0x629ea1e7, 0xc53d43ce,
    0x8a7a879d, 0x14f50f3b, 0x29ea1e76, 0x53d43cec, 0xa7a879d8, 0x4f50f3b1, 0x9ea1e762, 0x3d43cec5,
    0x7a879d8a, 0xf50f3b14, 0xea1e7629, 0xd43cec53, 0xa879d8a7, 0x50f3b14f, 0xa1e7629e, 0x43cec53d,
    0x879d8a7a, 0x0f3b14f5, 0x1e7629ea, 0x3cec53d4, 0x79d8a7a8, 0xf3b14f50, 0xe7629ea1, 0xcec53d43,
    0x9d8a7a87, 0x3b14f50f, 0x7629ea1e, 0xec53d43c, 0xd8a7a879, 0xb14f50f3, 0x629ea1e7, 0xc53d43ce,
    0x8a7a879d, 0x14f50f3b, 0x29ea1e76, 0x53d43cec, 0xa7a879d8, 0x4f50f3b1, 0x9ea1e762, 0x3d43cec5};

struct lane {
    const struct span *part; /* what is left: `parts` parts, the first from `at` on */
    size_t parts, at;
    uint64_t size_bits;
    size_t message; /* where its digest goes */
    bool marked;    /* the one bit behind the message is written */
};

/* Everything that is wiped in the end. */
struct lanes {
    __m512i v[WORDS];         /* V^(i), a word of all lanes in each */
    __m512i w[BLOCK_WORDS];   /* the last sixteen W_j, each in place j mod 16 */
    __m512i block[SM3_LANES]; /* each lane's buffer */
};

/* --- the compression function -----------------------------------------------------------------
 */

#define ADD(a, b) _mm512_add_epi32((a), (b))
#define XOR(a, b) _mm512_xor_si512((a), (b))
#define ROL(a, n) _mm512_rol_epi32((a), (n))
#ifdef AMI_CT_MSAN /* which does not know how vpternlog passes on what is undefined */
#define XOR3(a, b, c) XOR(XOR((a), (b)), (c))
#define MAJORITY(a, b, c)                                                                          \
    _mm512_or_si512(_mm512_and_si512((a), (b)), _mm512_and_si512((c), _mm512_or_si512((a), (b))))
#define CHOICE(a, b, c) XOR((c), _mm512_and_si512((a), XOR((b), (c))))
#else
#define XOR3(a, b, c)     _mm512_ternarylogic_epi32((a), (b), (c), 0x96)
#define MAJORITY(a, b, c) _mm512_ternarylogic_epi32((a), (b), (c), 0xe8)
#define CHOICE(a, b, c)   _mm512_ternarylogic_epi32((a), (b), (c), 0xca)
#endif
#define P0(x) XOR3((x), ROL((x), 9), ROL((x), 17))
#define P1(x) XOR3((x), ROL((x), 15), ROL((x), 23))

/* W_0 to W_15: word j of all blocks into w[j]. */
static inline void load_words(__m512i w[BLOCK_WORDS], const uint8_t *const block[SM3_LANES])
{
    const __m512i swap =
        _mm512_broadcast_i32x4(_mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203));
    __m512i a[16], b[16];
    for (int i = 0; i < 16; i++)
        a[i] = _mm512_shuffle_epi8(_mm512_loadu_si512((const void *)block[i]), swap);
    /* Within each quarter of a vector, 4 words by 4 blocks; then the quarters, 4 by 4. */
    for (int i = 0; i < 16; i += 4) {
        __m512i low01 = _mm512_unpacklo_epi32(a[i], a[i + 1]);
        __m512i high01 = _mm512_unpackhi_epi32(a[i], a[i + 1]);
        __m512i low23 = _mm512_unpacklo_epi32(a[i + 2], a[i + 3]);
        __m512i high23 = _mm512_unpackhi_epi32(a[i + 2], a[i + 3]);
        b[i] = _mm512_unpacklo_epi64(low01, low23);
        b[i + 1] = _mm512_unpackhi_epi64(low01, low23);
        b[i + 2] = _mm512_unpacklo_epi64(high01, high23);
        b[i + 3] = _mm512_unpackhi_epi64(high01, high23);
    }
    for (int i = 0; i < 4; i++) {
        __m512i even0 = _mm512_shuffle_i32x4(b[i], b[i + 4], 0x88);
        __m512i odd0 = _mm512_shuffle_i32x4(b[i], b[i + 4], 0xdd);
        __m512i even1 = _mm512_shuffle_i32x4(b[i + 8], b[i + 12], 0x88);
        __m512i odd1 = _mm512_shuffle_i32x4(b[i + 8], b[i + 12], 0xdd);
        w[i] = _mm512_shuffle_i32x4(even0, even1, 0x88);
        w[i + 4] = _mm512_shuffle_i32x4(odd0, odd1, 0x88);
        w[i + 8] = _mm512_shuffle_i32x4(even0, even1, 0xdd);
        w[i + 12] = _mm512_shuffle_i32x4(odd0, odd1, 0xdd);
    }
}

/* Clause 5.3.2: W_(j+4), of which w[(j + 4) mod 16] takes the place of W_(j-12). */
static inline __attribute__((always_inline)) void expand(__m512i w[BLOCK_WORDS], int j)
{
    __m512i *out = &w[(j + 4) & 15];
    __m512i x = XOR3(*out, w[(j + 11) & 15], ROL(w[(j + 1) & 15], 15));
    *out = XOR3(P1(x), ROL(w[(j + 7) & 15], 7), w[(j + 14) & 15]);
}

/* Clause 5.3.3, step j; the new A is left in *d and the new E in *h: the caller renames. */
static inline __attribute__((always_inline)) void
step(__m512i ff, __m512i gg, __m512i a, __m512i *b, __m512i *d, __m512i e, __m512i *f, __m512i *h,
     const __m512i w[BLOCK_WORDS], int j, uint32_t t)
{
    __m512i a12 = ROL(a, 12), w_j = w[j & 15];
    __m512i ss1 = ROL(ADD(a12, ADD(e, _mm512_set1_epi32((int)t))), 7);
    __m512i tt1 = ADD(ADD(ff, ADD(*d, XOR(w_j, w[(j + 4) & 15]))), XOR(ss1, a12));
    __m512i tt2 = ADD(ADD(gg, ADD(*h, w_j)), ss1);
    *b = ROL(*b, 9);
    *f = ROL(*f, 19);
    *d = tt1;
    *h = P0(tt2);
}

#define STEP(FF, GG, a, b, c, d, e, f, g, h, j)                                                    \
    step(FF(a, b, c), GG(e, f, g), a, &b, &d, e, &f, &h, w, (j), t[j])
/* Four steps bring each variable back to its name. BEFORE(w, j) makes what step j needs. */
#define STEPS(FF, GG, BEFORE, j)                                                                   \
    do {                                                                                           \
        BEFORE(w, (j));                                                                            \
        STEP(FF, GG, a, b, c, d, e, f, g, h, (j));                                                 \
        BEFORE(w, (j) + 1);                                                                        \
        STEP(FF, GG, d, a, b, c, h, e, f, g, (j) + 1);                                             \
        BEFORE(w, (j) + 2);                                                                        \
        STEP(FF, GG, c, d, a, b, g, h, e, f, (j) + 2);                                             \
        BEFORE(w, (j) + 3);                                                                        \
        STEP(FF, GG, b, c, d, a, f, g, h, e, (j) + 3);                                             \
    } while (0)
#define NOTHING(w, j) ((void)0)

/* V = CF(V, block) in all lanes, in the fresh ones from the IV. */
static void compress(struct lanes *l, const uint8_t *const block[SM3_LANES], __mmask16 fresh)
{
    __m512i *v = l->v, *w = l->w;
    load_words(w, block);
    for (int i = 0; i < WORDS; i++)
        v[i] = _mm512_mask_set1_epi32(v[i], fresh, (int)iv[i]);
    __m512i a = v[0], b = v[1], c = v[2], d = v[3], e = v[4], f = v[5], g = v[6], h = v[7];
    const uint32_t *t = t_rotated;
    STEPS(XOR3, XOR3, NOTHING, 0);
    STEPS(XOR3, XOR3, NOTHING, 4);
    STEPS(XOR3, XOR3, NOTHING, 8);
    STEPS(XOR3, XOR3, expand, 12);
    for (t += 16; t < t_rotated + ROUNDS; t += 16) {
        STEPS(MAJORITY, CHOICE, expand, 0);
        STEPS(MAJORITY, CHOICE, expand, 4);
        STEPS(MAJORITY, CHOICE, expand, 8);
        STEPS(MAJORITY, CHOICE, expand, 12);
    }
    const __m512i end[WORDS] = {a, b, c, d, e, f, g, h};
    for (int i = 0; i < WORDS; i++)
        v[i] = XOR(v[i], end[i]);
}

/* --- messages ---------------------------------------------------------------------------------
 */

static struct lane lane_begin(const struct sm3_message *in, size_t message)
{
    const struct sm3_message *m = in + message;
    AMI_CHECK(m->count <= SM3_PARTS_MAX);
    struct lane l = {.part = m->parts, .parts = m->count, .message = message};
    for (size_t i = 0; i < m->count; i++)
        l.size_bits += (uint64_t)m->parts[i].size * 8;
    return l;
}

/* The lane's next block; *last: it is the message's last one. Padding as in clause 5.2. */
static const uint8_t *lane_next(struct lane *l, uint8_t buffer[BLOCK_BYTES], bool *last)
{
    size_t filled = 0;
    *last = false;
    while (l->parts > 0) {
        size_t left = l->part->size - l->at;
        const uint8_t *from = left > 0 ? l->part->data + l->at : NULL;
        if (filled == 0 && left >= BLOCK_BYTES) {
            l->at += BLOCK_BYTES;
            return from;
        }
        size_t take = left < BLOCK_BYTES - filled ? left : BLOCK_BYTES - filled;
        if (take > 0)
            memcpy(buffer + filled, from, take);
        filled += take;
        if (take < left) {
            l->at += take;
            return buffer;
        }
        l->part++;
        l->parts--;
        l->at = 0;
    }
    if (filled == BLOCK_BYTES)
        return buffer;
    if (!l->marked)
        buffer[filled++] = 0x80;
    l->marked = true;
    memset(buffer + filled, 0, BLOCK_BYTES - filled);
    if (filled <= BLOCK_BYTES - 8) {
        store_be64(buffer + BLOCK_BYTES - 8, l->size_bits);
        *last = true;
    }
    return buffer;
}

static void digest_of_lane(sm3_digest *out, const struct lanes *l, size_t lane)
{
    for (size_t i = 0; i < WORDS; i++) {
        uint32_t word;
        memcpy(&word, (const uint8_t *)&l->v[i] + 4 * lane, sizeof word);
        store_be32(out->b + 4 * i, word);
    }
}

void sm3_lanes(sm3_digest *out, const struct sm3_message *in, size_t count)
{
    struct lanes l;
    struct lane lane[SM3_LANES];
    const uint8_t *block[SM3_LANES];
    memset(l.v, 0, sizeof l.v);
    memset(l.block, 0, sizeof l.block);
    size_t begun = 0;
    unsigned busy = 0; /* a bit for each lane */
    do {
        unsigned fresh = 0, last = 0;
        for (size_t i = 0; i < SM3_LANES; i++) {
            const unsigned bit = 1U << i;
            uint8_t *buffer = (uint8_t *)&l.block[i];
            block[i] = buffer; /* of an idle lane: anything */
            if ((busy & bit) == 0 && begun < count) {
                lane[i] = lane_begin(in, begun++);
                busy |= bit;
                fresh |= bit;
            }
            bool ends = false;
            if ((busy & bit) != 0)
                block[i] = lane_next(&lane[i], buffer, &ends);
            last |= ends ? bit : 0;
        }
        compress(&l, block, (__mmask16)fresh);
        for (size_t i = 0; i < SM3_LANES; i++)
            if ((last >> i & 1) != 0)
                digest_of_lane(out + lane[i].message, &l, i);
        busy &= ~last;
    } while (busy != 0 || begun < count);
    secret_wipe(&l, sizeof l);
}
