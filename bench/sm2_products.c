/* k G and k P with a secret k: alone, and in batches. */
#include "bench/sm2_rows.h"

#include <stdlib.h>

#define POOL 2048

struct products {
    scalar k[POOL];
    point p[POOL];
    point out[POOL];
    struct openssl_inputs theirs;
};

static void *make(void)
{
    struct products *s = bench_new(sizeof *s);
    sm2_random_scalars(s->k, POOL);
    point_mul_base_batch(s->p, s->k, POOL);
    sm2_random_scalars(s->k, POOL); /* others than made the points */
    openssl_inputs_make(&s->theirs, s->k, s->p);
    return s;
}

static void release(void *with)
{
    struct products *s = with;
    openssl_inputs_free(&s->theirs);
    free(s);
}

static void mul_base(void *with, size_t first, size_t count, size_t batch)
{
    struct products *s = with;
    for (size_t at = first; at < first + count; at += batch) {
        if (batch == 1)
            s->out[at] = point_mul_base(&s->k[at]);
        else
            point_mul_base_batch(s->out + at, s->k + at, batch);
    }
}

static void mul_var(void *with, size_t first, size_t count, size_t batch)
{
    struct products *s = with;
    for (size_t at = first; at < first + count; at += batch) {
        if (batch == 1)
            s->out[at] = point_mul(&s->k[at], &s->p[at]);
        else
            point_mul_batch(s->out + at, s->k + at, s->p + at, batch);
    }
}

static void openssl_mul_base(void *with, size_t first, size_t count, size_t batch)
{
    struct products *s = with;
    (void)batch;
    for (size_t i = first; i < first + count; i++)
        openssl_mul(s->theirs.r[0], s->theirs.k[i], NULL);
}

static void openssl_mul_var(void *with, size_t first, size_t count, size_t batch)
{
    struct products *s = with;
    (void)batch;
    for (size_t i = first; i < first + count; i++)
        openssl_mul(s->theirs.r[0], s->theirs.k[i], s->theirs.p[i]);
}

static void check_products(const struct products *s, const struct sm2_row *row, size_t done,
                           bool base)
{
    for (size_t i = 0; i < done; i += sm2_sample_step(done))
        if (!openssl_agrees(&s->out[i], &s->k[i], base ? NULL : &s->p[i]))
            bench_fail("%s: product %zu is another point than OpenSSL's", row->name, i);
}

static void check_base(void *with, const struct sm2_row *row, size_t done)
{
    check_products(with, row, done, true);
}

static void check_var(void *with, const struct sm2_row *row, size_t done)
{
    check_products(with, row, done, false);
}

const struct sm2_family sm2_products = {
    .make = make,
    .release = release,
    .rows =
        {
            {"mul_base_secret", 1, POOL, mul_base, openssl_mul_base, check_base},
            {"mul_base_secret_batch8", 8, POOL, mul_base, openssl_mul_base, check_base},
            {"mul_var_secret", 1, POOL, mul_var, openssl_mul_var, check_var},
            {"mul_var_secret_batch8", 8, POOL, mul_var, openssl_mul_var, check_var},
        },
};
