/* bench/sm2_rows.h - what bench-sm2 measures, in families that share their prepared inputs.
 *
 *   sm2_products.c       k G, k P
 *   sm2_signatures.c     signing, verification of known and of unknown signers
 *   sm2_encapsulation.c  encapsulation and decapsulation of a 32-byte key
 *   sm2_agreements.c     both sides of liu2023 and sm2kx
 *
 * Inputs are random and made outside of what is timed, as are the checks. OpenSSL's part of a row
 * is handed as little as ours, and is not made to encode or hash where ours does: ratios err to
 * its side.
 */
#ifndef AMI_BENCH_SM2_ROWS_H
#define AMI_BENCH_SM2_ROWS_H

#include "bench/openssl.h"
#include "bench/timing.h"

/* At most so many results of a row are held against OpenSSL's. */
#define SM2_SAMPLE 64

struct sm2_row {
    const char *name; /* NULL ends a family's rows */
    size_t batch;
    size_t pool; /* operations prepared for us; OPENSSL_POOL for OpenSSL */
    bench_work *ours, *openssl;
    /* Looks at the results of operations [0, done), and at what must be refused; bench_fail. */
    void (*check)(void *with, const struct sm2_row *row, size_t done);
};

struct sm2_family {
    void *(*make)(void);
    void (*release)(void *with);
    struct sm2_row rows[8];
};

extern const struct sm2_family sm2_products, sm2_signatures, sm2_encapsulation, sm2_liu2023_dc,
    sm2_sm2kx_dc, sm2_liu2023_meter, sm2_sm2kx_meter;

/* Random scalars in [1, n-1]. */
void sm2_random_scalars(scalar *out, size_t count);
sm2_private sm2_random_private(void);

/* The step that leads through [0, done) in at most SM2_SAMPLE operations. Odd, so that it visits
 * every place of a batch of 8. */
static inline size_t sm2_sample_step(size_t done)
{
    return (done + SM2_SAMPLE - 1) / SM2_SAMPLE | 1;
}

/* C17 does not let an array of arrays become const by itself. */
#define SM2_WIDE(array) ((const uint8_t(*)[SM2_WIDE_BYTES])(array))

#endif
