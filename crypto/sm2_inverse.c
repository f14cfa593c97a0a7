/* Division steps on (f, g) = (modulus, in), 60 at a time on the lowest limbs alone; what 60 steps
 * did is a 2x2 matrix, which is then applied to all of f and g, and, modulo the modulus, to d and
 * e. Throughout, f = d in and g = e in modulo the modulus (up to the common power of two), so that
 * f = +-1 at the end gives the inverse as +-d.
 *
 * Numbers are five signed limbs of 62 bits; the lower four are in [0, 2^62) between rounds.
 */
#include "crypto/sm2_inverse.h"

#include "crypto/ct.h"
#include "crypto/secret.h"

__extension__ typedef __int128 i128;

#define LIMB_MASK  (UINT64_MAX >> 2)
#define ROUNDS     10
#define HALF_STEPS 30 /* two halves per round; ROUNDS x 60 = 600, of which 590 are needed */
#define SPARE                                                                                      \
    2 /* 62 - 60: the matrix carries this power of two, so that a shift by one whole               \
       * limb divides by the right power */

struct number {
    int64_t v[5];
};

struct modulus {
    struct number m;
    uint64_t inverse; /* 1 / m modulo 2^62 */
};

struct matrix {
    int64_t u, v, q, r;
};

static const struct modulus modulus_p = {
    {{INT64_C(0x3fffffffffffffff), INT64_C(0x3ffffffc00000003), INT64_C(0x3fffffffffffffff),
      INT64_C(0x3fffffbfffffffff), INT64_C(0xff)}},
    UINT64_C(0x3fffffffffffffff)};
static const struct modulus modulus_n = {
    {{INT64_C(0x13bbf40939d54123), INT64_C(0x080f7dac871814ad), INT64_C(0x3ffffffffffffff7),
      INT64_C(0x3fffffbfffffffff), INT64_C(0xff)}},
    UINT64_C(0x0d8061778dcaf68b)};

/* zeta = -(delta + 1/2). Only the lowest limbs steer the steps: f and g are right in their low 62
 * bits at first and lose one with each of the 60 steps. A row of the matrix travels in one word,
 * its right entry in the upper half: the steps only add, negate and double rows, and |left| +
 * |right| is at most 2^30, so neither half outgrows 32 bits. */
static int64_t half_round(struct matrix *t, int64_t zeta, uint64_t *f_io, uint64_t *g_io)
{
    uint64_t f = *f_io, g = *g_io, uv = 1, qr = UINT64_C(1) << 32;
#pragma GCC unroll 5
    for (int i = 0; i < HALF_STEPS; i++) {
        /* g odd: g += f, or, when delta is positive, g -= f and f takes the old g. A conditional
         * negation is a complement and a one, and the one goes by way of the other operand: that is
         * a shorter chain from f to the next g. */
        const uint64_t swap = (uint64_t)(zeta >> 63), odd = 0 - (g & 1), both = swap & odd;
        const uint64_t f_old = f, uv_old = uv;
        f ^= (f ^ g) & both;
        uv ^= (uv ^ qr) & both;
        g = (g - both) + ((f_old ^ swap) & odd);
        qr = (qr - both) + ((uv_old ^ swap) & odd);
        zeta = (int64_t)((uint64_t)zeta ^ both) - 1;
        g >>= 1;
        uv <<= 1;
    }
    *f_io = f;
    *g_io = g;
    t->u = (int32_t)uv;
    t->v = (int64_t)(uv - (uint64_t)t->u) >> 32;
    t->q = (int32_t)qr;
    t->r = (int64_t)(qr - (uint64_t)t->q) >> 32;
    return zeta;
}

/* 60 steps; t is their matrix times 2^SPARE. */
static int64_t division_steps(struct matrix *t, int64_t zeta, uint64_t f, uint64_t g)
{
    struct matrix a, b;
    zeta = half_round(&a, zeta, &f, &g);
    zeta = half_round(&b, zeta, &f, &g);
    t->u = (b.u * a.u + b.v * a.q) * (1 << SPARE);
    t->v = (b.u * a.v + b.v * a.r) * (1 << SPARE);
    t->q = (b.q * a.u + b.r * a.q) * (1 << SPARE);
    t->r = (b.q * a.v + b.r * a.r) * (1 << SPARE);
    secret_wipe(&a, sizeof a);
    secret_wipe(&b, sizeof b);
    return zeta;
}

/* (f, g) = t (f, g) / 2^62; the division is exact. */
static void apply_exact(struct number *f, struct number *g, const struct matrix *t)
{
    i128 cf = (i128)t->u * f->v[0] + (i128)t->v * g->v[0];
    i128 cg = (i128)t->q * f->v[0] + (i128)t->r * g->v[0];
    cf >>= 62;
    cg >>= 62;
    for (int i = 1; i < 5; i++) {
        cf += (i128)t->u * f->v[i] + (i128)t->v * g->v[i];
        cg += (i128)t->q * f->v[i] + (i128)t->r * g->v[i];
        f->v[i - 1] = (int64_t)((uint64_t)cf & LIMB_MASK);
        g->v[i - 1] = (int64_t)((uint64_t)cg & LIMB_MASK);
        cf >>= 62;
        cg >>= 62;
    }
    f->v[4] = (int64_t)cf;
    g->v[4] = (int64_t)cg;
}

/* (d, e) = t (d, e) / 2^62 modulo m: multiples of m that make both divisible are added first.
 * Before and after, d and e are in (-2m, m): rows of t have |u| + |v| <= 2^62, so the products are
 * in
 * (-2^63 m, 2^62 m), and a multiple of m for each negative operand brings them to (-2^62 m, 2^62
 * m); the multiple that clears the low bits lies in (-2^62 m, 0]. */
static void apply_modular(struct number *d, struct number *e, const struct matrix *t,
                          const struct modulus *m)
{
    const int64_t sd = d->v[4] >> 63, se = e->v[4] >> 63;
    int64_t md = (t->u & sd) + (t->v & se), me = (t->q & sd) + (t->r & se);
    i128 cd = (i128)t->u * d->v[0] + (i128)t->v * e->v[0];
    i128 ce = (i128)t->q * d->v[0] + (i128)t->r * e->v[0];
    md -= (int64_t)((m->inverse * (uint64_t)cd + (uint64_t)md) & LIMB_MASK);
    me -= (int64_t)((m->inverse * (uint64_t)ce + (uint64_t)me) & LIMB_MASK);
    cd += (i128)m->m.v[0] * md;
    ce += (i128)m->m.v[0] * me;
    cd >>= 62;
    ce >>= 62;
    for (int i = 1; i < 5; i++) {
        cd += (i128)t->u * d->v[i] + (i128)t->v * e->v[i] + (i128)m->m.v[i] * md;
        ce += (i128)t->q * d->v[i] + (i128)t->r * e->v[i] + (i128)m->m.v[i] * me;
        d->v[i - 1] = (int64_t)((uint64_t)cd & LIMB_MASK);
        e->v[i - 1] = (int64_t)((uint64_t)ce & LIMB_MASK);
        cd >>= 62;
        ce >>= 62;
    }
    d->v[4] = (int64_t)cd;
    e->v[4] = (int64_t)ce;
}

static void carry(struct number *a)
{
    for (int i = 0; i < 4; i++) {
        a->v[i + 1] += a->v[i] >> 62;
        a->v[i] &= (int64_t)LIMB_MASK;
    }
}

/* Adds the modulus where the mask is set. */
static void add_modulus(struct number *a, const struct modulus *m, int64_t mask)
{
    for (int i = 0; i < 5; i++)
        a->v[i] += m->m.v[i] & mask;
}

/* d in (-2m, m), negated where sign is -1, to [0, m). */
static void normalise(struct number *d, int64_t sign, const struct modulus *m)
{
    add_modulus(d, m, d->v[4] >> 63); /* (-m, m) */
    for (int i = 0; i < 5; i++)
        d->v[i] = (d->v[i] ^ sign) - sign;
    carry(d);
    add_modulus(d, m, d->v[4] >> 63);
    carry(d);
}

static inline void inverse(uint64_t out[4], const uint64_t in[4], const struct modulus *m)
{
    struct number f = m->m, d = {{0}}, e = {{1}};
    struct number g = {{(int64_t)(in[0] & LIMB_MASK),
                        (int64_t)((in[0] >> 62 | in[1] << 2) & LIMB_MASK),
                        (int64_t)((in[1] >> 60 | in[2] << 4) & LIMB_MASK),
                        (int64_t)((in[2] >> 58 | in[3] << 6) & LIMB_MASK), (int64_t)(in[3] >> 56)}};
    struct matrix t;
    int64_t zeta = -1; /* delta = 1/2 */
    for (int i = 0; i < ROUNDS; i++) {
        zeta = division_steps(&t, zeta, (uint64_t)f.v[0], (uint64_t)g.v[0]);
        apply_modular(&d, &e, &t, m);
        apply_exact(&f, &g, &t);
    }
    /* f is 1 or -1, or +-m when in was zero; then d is 0. */
    normalise(&d, f.v[4] >> 63, m);
    const uint64_t *w = (const uint64_t *)d.v; /* all in [0, 2^62) now */
    out[0] = w[0] | w[1] << 62;
    out[1] = w[1] >> 2 | w[2] << 60;
    out[2] = w[2] >> 4 | w[3] << 58;
    out[3] = w[3] >> 6 | w[4] << 56;
    secret_wipe(&d, sizeof d);
    secret_wipe(&e, sizeof e);
    secret_wipe(&g, sizeof g);
    secret_wipe(&t, sizeof t);
}

void inverse_mod_p(uint64_t out[4], const uint64_t in[4])
{
    inverse(out, in, &modulus_p);
}

void inverse_mod_n(uint64_t out[4], const uint64_t in[4])
{
    inverse(out, in, &modulus_n);
}
