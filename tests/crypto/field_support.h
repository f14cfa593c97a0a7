/* tests/crypto/field_support.h - p and the inverse of Montgomery's R as libgcrypt's integers, for
 * the tests of the fields. */
#ifndef AMI_TESTS_CRYPTO_FIELD_SUPPORT_H
#define AMI_TESTS_CRYPTO_FIELD_SUPPORT_H

#include "support.h"

#include "crypto/secret.h"

#include <gcrypt.h>

static gcry_mpi_t field_p, r_inverse;

/* R = 2^r_bits. */
static int field_start(unsigned r_bits)
{
    if (crypto_start() != AMI_OK)
        return -1;
    gcry_mpi_t r = gcry_mpi_new(300);
    r_inverse = gcry_mpi_new(300);
    if (gcry_mpi_scan(&field_p, GCRYMPI_FMT_HEX,
                      "FFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF00000000FFFFFFFFFFFFFFFF", 0,
                      NULL) != 0)
        return -1;
    gcry_mpi_set_ui(r, 0);
    gcry_mpi_set_bit(r, r_bits);
    gcry_mpi_invm(r_inverse, r, field_p);
    gcry_mpi_release(r);
    return 0;
}

static int field_end(void **state)
{
    (void)state;
    gcry_mpi_release(field_p);
    gcry_mpi_release(r_inverse);
    return 0;
}

#endif
