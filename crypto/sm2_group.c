/* The public face of the group: encodings and small matters here, everything that multiplies by way
 * of the code path in use. */
#include "crypto/sm2_path.h"

#include "base/check.h"
#include "crypto/limbs.h"
#include "crypto/secret.h"
#include "crypto/sm2_known.h"

#ifdef AMI_SM2_X86_64
#include <cpuid.h>
#endif
#include <stdlib.h>
#include <string.h>

static const point generator = {.x = {UINT64_C(0x715a4589334c74c7), UINT64_C(0x8fe30bbff2660be1),
                                      UINT64_C(0x5f9904466a39c994), UINT64_C(0x32c4ae2c1f198119)},
                                .y = {UINT64_C(0x02df32e52139f0a0), UINT64_C(0xd0a9877cc62a4740),
                                      UINT64_C(0x59bdcee36b692153), UINT64_C(0xbc3736a2f4f6779c)}};
static const uint64_t p_limbs[4] = {UINT64_MAX, UINT64_C(0xffffffff00000000), UINT64_MAX,
                                    UINT64_C(0xfffffffeffffffff)};
static const scalar zero = {{0}};

/* --- the code path ---------------------------------------------------------------------------- */

static const struct sm2_path *current;

const char *const sm2_path_names[] = {"ifma", "adx", "portable", NULL};

#ifdef AMI_SM2_X86_64
static bool cpu_has_adx(void)
{
#ifdef AMI_CT_CHECK
    return true; /* valgrind runs these instructions and does not say so */
#endif
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b & bit_ADX) != 0;
}
#endif

const struct sm2_path *sm2_path_named(const char *name)
{
    if (strcmp(name, "portable") == 0)
        return &sm2_path_portable;
#ifdef AMI_SM2_X86_64
    __builtin_cpu_init();
    const bool adx =
        __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("avx2") && cpu_has_adx();
    if (strcmp(name, "adx") == 0 && adx)
        return &sm2_path_adx;
    if (strcmp(name, "ifma") == 0 && adx && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512ifma"))
        return &sm2_path_ifma;
#endif
    return NULL;
}

bool sm2_path_use(const struct sm2_path *path)
{
    sm2_signers_forget();
    if (!path->start())
        return false;
    current = path;
    return true;
}

const struct sm2_path *sm2_path(void)
{
    AMI_CHECK(current != NULL); /* crypto_start was called */
    return current;
}

const char *sm2_path_name(void)
{
    return sm2_path()->name;
}

/* --- points ----------------------------------------------------------------------------------- */

static uint64_t mask_infinity(const point *p)
{
    uint64_t any = 0;
    for (int i = 0; i < 4; i++)
        any |= p->x[i] | p->y[i];
    return ct_mask_zero(any);
}

static void limbs_from_bytes(uint64_t out[4], const uint8_t in[32])
{
    for (int i = 0; i < 4; i++)
        out[i] = load_be64(in + 24 - 8 * i);
}

static void limbs_to_bytes(uint8_t out[32], const uint64_t in[4])
{
    for (int i = 0; i < 4; i++)
        store_be64(out + 24 - 8 * i, in[i]);
}

static bool limbs_less(const uint64_t a[4], const uint64_t b[4])
{
    uint64_t ignored[4];
    return ct_reveal(
        ct_mask(limbs_subtract(ignored, a, b))); /* whether an input was refused is public */
}

enum ami_status point_decode(point *out, const point_bytes *in)
{
    bool ok;
    return point_decode_batch(out, &ok, in, 1);
}

#define DECODE_CHUNK 32

enum ami_status point_decode_batch(point *out, bool *ok, const point_bytes *in, size_t count)
{
    uint64_t x[DECODE_CHUNK][4];
    uint8_t odd[DECODE_CHUNK];
    bool form[DECODE_CHUNK], all = true;
    for (size_t done = 0; done < count; done += DECODE_CHUNK) {
        const size_t size = count - done < DECODE_CHUNK ? count - done : DECODE_CHUNK;
        for (size_t i = 0; i < size; i++) {
            const uint8_t *b = in[done + i].b;
            limbs_from_bytes(x[i], b + 1);
            odd[i] = b[0] & 1;
            form[i] = (b[0] == 2 || b[0] == 3) && limbs_less(x[i], p_limbs);
            if (!form[i])
                memset(x[i], 0, sizeof x[i]);
        }
        sm2_path()->decompress(out + done, ok + done, (const uint64_t(*)[4])x, odd, size);
        for (size_t i = 0; i < size; i++) {
            if (!form[i])
                memset(&out[done + i], 0, sizeof out[done + i]);
            ok[done + i] = ok[done + i] && form[i];
            all = all && ok[done + i];
        }
    }
    return all ? AMI_OK : AMI_BAD_CRYPTO;
}

void point_xy(uint8_t out[SM2_XY_BYTES], const point *p)
{
    /* Reveals only that the point is finite, which every caller has made sure of. */
    AMI_CHECK(!ct_reveal(mask_infinity(p)));
    limbs_to_bytes(out, p->x);
    limbs_to_bytes(out + 32, p->y);
}

point_bytes point_encode(const point *p)
{
    point_bytes out;
    AMI_CHECK(!ct_reveal(mask_infinity(p))); /* as above */
    out.b[0] = (uint8_t)(2 | (p->y[0] & 1));
    limbs_to_bytes(out.b + 1, p->x);
    return out;
}

enum ami_status point_from_xy(point *out, const uint8_t in[SM2_XY_BYTES])
{
    point p;
    limbs_from_bytes(p.x, in);
    limbs_from_bytes(p.y, in + 32);
    memset(out, 0, sizeof *out);
    if (!limbs_less(p.x, p_limbs) || !limbs_less(p.y, p_limbs) || !sm2_path()->on_curve(&p))
        return AMI_BAD_CRYPTO;
    *out = p;
    return AMI_OK;
}

bool point_is_infinity(const point *p)
{
    return mask_infinity(p) != 0;
}

bool point_equal(const point *a, const point *b)
{
    uint64_t difference = 0;
    for (int i = 0; i < 4; i++)
        difference |= (a->x[i] ^ b->x[i]) | (a->y[i] ^ b->y[i]);
    return ct_mask_zero(difference) != 0;
}

const point *point_generator(void)
{
    return &generator;
}

point point_add(const point *a, const point *b)
{
    return sm2_path()->add(a, b);
}

point point_negate(const point *a)
{
    point out = *a;
    const uint64_t finite = ~mask_infinity(a);
    (void)limbs_subtract(out.y, p_limbs, a->y);
    for (int i = 0; i < 4; i++)
        out.y[i] &= finite;
    return out;
}

/* --- products --------------------------------------------------------------------------------- */

point point_mul_base(const scalar *k)
{
    point out;
    sm2_path()->mul_base(&out, k, 1);
    return out;
}

void point_mul_base_batch(point *out, const scalar *k, size_t count)
{
    sm2_path()->mul_base(out, k, count);
}

point point_mul(const scalar *k, const point *p)
{
    point out;
    sm2_path()->mul(&out, k, p, 1);
    return out;
}

void point_mul_batch(point *out, const scalar *k, const point *p, size_t count)
{
    sm2_path()->mul(out, k, p, count);
}

void point_mul_add_public_batch(point *out, const point *q, const scalar *b, const point *p,
                                size_t count)
{
    sm2_path()->mul_add_public(out, q, b, p, NULL, count);
}

struct point_table *point_table_new(const point *p)
{
    AMI_CHECK(!point_is_infinity(p));
    return sm2_path()->table_new(p);
}

void point_table_free(struct point_table *table)
{
    free(table);
}

const point *point_table_point(const struct point_table *table)
{
    return &table->p;
}

void point_mul_base_table_batch(point *out, const scalar *a, const scalar *b,
                                const struct point_table *table, size_t count)
{
    sm2_path()->mul_base_table(out, a, b, table, count);
}

/* --- for the paths ---------------------------------------------------------------------------- */

uint64_t sm2_make_odd(scalar *out, const scalar *k)
{
    static const uint64_t n[4] = SM2_ORDER_LIMBS;
    const uint64_t even = ct_mask(1 ^ (k->w[0] & 1));
    uint64_t minus[4];
    (void)limbs_subtract(minus, n, k->w);
    for (int i = 0; i < 4; i++)
        out->w[i] = k->w[i] ^ (even & (minus[i] ^ k->w[i]));
    secret_wipe(minus, sizeof minus);
    return even;
}

unsigned sm2_rows_for(const scalar *k, unsigned width)
{
    unsigned bits = 0;
    for (unsigned i = 4; bits == 0 && i-- > 0;)
        if (k->w[i] != 0)
            bits = 64 * (i + 1) - (unsigned)__builtin_clzll(k->w[i]);
    return bits <= width ? 0 : (bits - 1) / width;
}

point point_mul2_complete(const scalar *a, const point *p, const scalar *b, const point *q)
{
    return sm2_path()->mul2_complete(a, p, b, q);
}

point point_mul_complete(const scalar *k, const point *p)
{
    return point_mul2_complete(k, p, &zero, p);
}

bool sm2_equation_holds_complete(const struct sm2_equation *in)
{
    uint8_t xy[SM2_XY_BYTES];
    const point r = point_mul2_complete(&in->s, &generator, &in->t, in->p);
    if (point_is_infinity(&r))
        return false;
    point_xy(xy, &r);
    const scalar x = scalar_reduce(xy);
    return scalar_equal(&x, &in->x1);
}

scalar sm2_sum_expected(const scalar *c, const scalar blind[2], unsigned width, unsigned windows)
{
    const scalar buckets = {{UINT64_C(1) << (width - 1)}}, shift = {{UINT64_C(1) << width}};
    scalar once = scalar_mul(&buckets, &blind[0]), all = zero;
    once = scalar_add(&once, &blind[1]);
    for (unsigned i = 0; i < windows; i++) {
        all = scalar_mul(&all, &shift);
        all = scalar_add(&all, &once);
    }
    return scalar_add(&all, c);
}

bool sm2_x_may_wrap(const scalar *x1)
{
    static const uint64_t p_minus_n[4] = {UINT64_C(0xac440bf6c62abedc),
                                          UINT64_C(0x8dfc2093de39fad5), 0, 0};
    return limbs_less(x1->w, p_minus_n);
}

void sm2_add_n(uint64_t out[4], const scalar *x1)
{
    static const uint64_t minus_n[4] = {UINT64_C(0xac440bf6c62abedd), UINT64_C(0x8dfc2094de39fad4),
                                        0, UINT64_C(0x0000000100000000)};
    (void)limbs_subtract(out, x1->w, minus_n);
}
