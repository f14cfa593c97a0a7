/* Verification (GB/T 32918.2 clause 7), one by one and in bulk.
 *
 * A signature (r, s) of e under P is good when R = s G + t P, t = r + s, has an x that is r - e
 * modulo n. In bulk the points R are recovered from r - e, taking the even y (which all signatures
 * of ours have, see sm2_sign), and one random combination of all equations is checked,
 *
 *     (sum z_i s_i) G + sum (z_i t_i) P_i - sum z_i R_i = 0,
 *
 * with z_i odd and of 127 bits, which nobody outside can know: if one signature is bad, it holds
 * with probability 2^-126. If it does not hold, halves are tried, and in the end each by itself.
 * What is no point, or has its x in [n, p), or stands there twice, is checked by itself at once. So
 * the result is always that of sm2_verify, whatever is handed in.
 */
#include "base/check.h"
#include "crypto/secret.h"
#include "crypto/sm2_known.h"

#include <stdlib.h>
#include <string.h>

#define VERIFY_CHUNK 32
/* Signatures in one sum. */
#define SUM_MAX 4096

/* False when r, s or t = r + s is out of range, or p is infinity. Borrows p. */
static bool equation_of(struct sm2_equation *out, const point *p, const sm3_digest *e,
                        const sm2_signature *sig)
{
    scalar r;
    if (point_is_infinity(p) || scalar_decode(&r, sig->b) != AMI_OK ||
        scalar_decode(&out->s, sig->b + 32) != AMI_OK)
        return false;
    out->t = scalar_add(&r, &out->s);
    if (scalar_is_zero(&out->t))
        return false;
    const scalar e_mod_n = scalar_reduce(e->b);
    out->x1 = scalar_sub(&r, &e_mod_n);
    out->p = p;
    out->known = NULL;
    return true;
}

enum ami_status sm2_verify(const point *p, const sm3_digest *e, const sm2_signature *sig)
{
    struct sm2_equation equation;
    bool ok;
    if (!equation_of(&equation, p, e, sig))
        return AMI_BAD_SIGNATURE;
    sm2_known_begin();
    equation.known = sm2_known_find(p);
    sm2_path()->verify(&ok, &equation, 1);
    sm2_known_end();
    return ok ? AMI_OK : AMI_BAD_SIGNATURE;
}

/* Each by itself: those of in[at[0]], in[at[1]], ... */
static void verify_each(bool *ok, const struct sm2_equation *in, const uint32_t *at, size_t count)
{
    struct sm2_equation equation[VERIFY_CHUNK];
    bool good[VERIFY_CHUNK];
    sm2_known_begin();
    for (size_t done = 0; done < count; done += VERIFY_CHUNK) {
        const size_t size = count - done < VERIFY_CHUNK ? count - done : VERIFY_CHUNK;
        for (size_t i = 0; i < size; i++) {
            equation[i] = in[at[done + i]];
            equation[i].known = sm2_known_find(equation[i].p);
        }
        sm2_path()->verify(good, equation, size);
        for (size_t i = 0; i < size; i++)
            ok[at[done + i]] = good[i];
    }
    sm2_known_end();
}

/* --- the sum ---------------------------------------------------------------------------------- */

struct sum {
    struct sm2_equation equation[SUM_MAX];
    uint32_t place[SUM_MAX];  /* of each equation among the caller's signatures */
    uint32_t single[SUM_MAX]; /* equations that are checked by themselves */
    uint32_t member[SUM_MAX]; /* equations of the sum */
    size_t count, single_count, member_count;
    size_t spent; /* members of sums that did not hold */
    bool good[SUM_MAX];

    uint64_t x[SUM_MAX][4];
    uint8_t odd[SUM_MAX];
    point minus_r[SUM_MAX];
    bool found[SUM_MAX];
    scalar z[SUM_MAX];

    /* The terms of one sum: signers first, then the points R. */
    point p[2 * SUM_MAX];
    scalar k[2 * SUM_MAX];
    size_t signers;
    uint32_t table[4 * SUM_MAX]; /* points by x: open addressing, place in p + 1 */
    uint64_t table_key;
};

static uint32_t *table_place(struct sum *s, const point *p)
{
    const size_t mask = sizeof s->table / sizeof s->table[0] - 1;
    uint64_t h = s->table_key;
    for (int i = 0; i < 4; i++) {
        h = (h ^ p->x[i]) * UINT64_C(0x9e3779b97f4a7c15);
        h ^= h >> 29;
    }
    h *= UINT64_C(0xbf58476d1ce4e5b9);
    for (size_t i = (size_t)(h >> 40) & mask;; i = (i + 1) & mask) {
        uint32_t *place = &s->table[i];
        if (*place == 0 || memcmp(s->p[*place - 1].x, p->x, sizeof p->x) == 0)
            return place;
    }
}

/* Members [from, to). True: all of them are good. */
static bool sum_holds(struct sum *s, size_t from, size_t to)
{
    static const scalar zero = {{0}};
    scalar c = zero, blind[2];
    uint8_t wide[2][SM2_WIDE_BYTES];
    size_t terms = 0;
    memset(s->table, 0, sizeof s->table);
    for (size_t i = from; i < to; i++) {
        const struct sm2_equation *e = &s->equation[s->member[i]];
        const scalar *z = &s->z[s->member[i]];
        scalar product = scalar_mul(z, &e->s);
        c = scalar_add(&c, &product);
        product = scalar_mul(z, &e->t);
        uint32_t *place = table_place(s, e->p);
        if (*place == 0) {
            s->p[terms] = *e->p;
            s->k[terms] = product;
            *place = (uint32_t)++terms;
        } else if (point_equal(&s->p[*place - 1], e->p)) {
            s->k[*place - 1] = scalar_add(&s->k[*place - 1], &product);
        } else {
            s->k[*place - 1] = scalar_sub(&s->k[*place - 1], &product); /* -P is there */
        }
    }
    s->signers = terms;
    for (size_t i = from; i < to; i++) {
        const point *r = &s->minus_r[s->member[i]];
        uint32_t *place = table_place(s, r);
        if (*place != 0)
            return false; /* a signer's own point: they are checked one by one */
        s->p[terms] = *r;
        s->k[terms] = s->z[s->member[i]];
        *place = (uint32_t)++terms;
    }
    c = scalar_sub(&zero, &c);
    secret_unforeseen(wide, sizeof wide);
    for (int i = 0; i < 2; i++)
        blind[i] = scalar_from_wide(wide[i]);
    return sm2_path()->sum_is(&c, s->p, s->k, terms, s->signers, blind);
}

/* Halves what does not hold, as long as that promises to be cheaper than one after another: many
 * bad signatures, or many with an odd y, must not make it dearer. */
static void sum_search(struct sum *s, size_t from, size_t to)
{
    if (to - from < sm2_path()->sum_count_min || s->spent > 2 * s->member_count) {
        verify_each(s->good, s->equation, s->member + from, to - from);
    } else if (sum_holds(s, from, to)) {
        for (size_t i = from; i < to; i++)
            s->good[s->member[i]] = true;
    } else {
        s->spent += to - from;
        const size_t middle = from + (to - from) / 2;
        sum_search(s, from, middle);
        sum_search(s, middle, to);
    }
}

/* Recovers the points R and tells who takes part in the sum. */
static void sum_prepare(struct sum *s)
{
    uint8_t z[SUM_MAX][16];
    secret_unforeseen(z, s->count * sizeof z[0]);
    secret_unforeseen(&s->table_key, sizeof s->table_key);
    for (size_t i = 0; i < s->count; i++) {
        memcpy(s->x[i], s->equation[i].x1.w, sizeof s->x[i]);
        s->odd[i] = 1; /* -R, R having the even y */
        /* 127 bits, and odd, so not zero. */
        s->z[i] = (scalar){{load_be64(z[i]) | 1, load_be64(z[i] + 8) >> 1, 0, 0}};
    }
    sm2_path()->decompress(s->minus_r, s->found, (const uint64_t(*)[4])s->x, s->odd, s->count);
    memset(s->table, 0, sizeof s->table);
    s->single_count = s->member_count = 0;
    for (size_t i = 0; i < s->count; i++) {
        uint32_t *place = NULL;
        if (s->found[i])
            place = table_place(s, &s->minus_r[i]);
        if (place == NULL || *place != 0) {
            s->single[s->single_count++] = (uint32_t)i;
            continue;
        }
        s->p[s->member_count] = s->minus_r[i];
        s->member[s->member_count++] = (uint32_t)i;
        *place = (uint32_t)s->member_count;
    }
}

static void sum_verify(struct sum *s, bool *ok)
{
    sum_prepare(s);
    s->spent = 0;
    sum_search(s, 0, s->member_count);
    verify_each(s->good, s->equation, s->single, s->single_count);
    for (size_t i = 0; i < s->count; i++)
        ok[s->place[i]] = s->good[i];
}

/* --- batches ---------------------------------------------------------------------------------- */

static void verify_small(const point *p, const sm3_digest *e, const sm2_signature *sig, bool *ok,
                         size_t count)
{
    struct sm2_equation equation[VERIFY_CHUNK];
    uint32_t at[VERIFY_CHUNK];
    for (size_t done = 0; done < count; done += VERIFY_CHUNK) {
        const size_t size = count - done < VERIFY_CHUNK ? count - done : VERIFY_CHUNK;
        size_t valid = 0;
        for (size_t i = 0; i < size; i++) {
            const size_t j = done + i;
            ok[j] = false;
            if (equation_of(&equation[i], &p[j], &e[j], &sig[j]))
                at[valid++] = (uint32_t)i;
        }
        verify_each(ok + done, equation, at, valid);
    }
}

enum ami_status sm2_verify_batch(const point *p, const sm3_digest *e, const sm2_signature *sig,
                                 bool *ok, size_t count)
{
    struct sum *s = count < sm2_path()->sum_count_min ? NULL : malloc(sizeof *s);
    /* Without memory it is slower, no more. */
    if (s == NULL)
        verify_small(p, e, sig, ok, count);
    for (size_t done = 0; s != NULL && done < count; done += SUM_MAX) {
        const size_t size = count - done < SUM_MAX ? count - done : SUM_MAX;
        s->count = 0;
        for (size_t i = done; i < done + size; i++) {
            ok[i] = false;
            s->place[s->count] = (uint32_t)(i - done);
            if (equation_of(&s->equation[s->count], &p[i], &e[i], &sig[i]))
                s->count++;
        }
        sum_verify(s, ok + done);
    }
    free(s);
    bool all = true;
    for (size_t i = 0; i < count; i++)
        all = all && ok[i];
    return all ? AMI_OK : AMI_BAD_SIGNATURE;
}
