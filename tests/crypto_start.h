/* tests/crypto_start.h - the set-up of a group of tests that needs the cryptography and no more. */
#ifndef AMI_TESTS_CRYPTO_START_H
#define AMI_TESTS_CRYPTO_START_H

#include "crypto/secret.h"

static inline int start_crypto(void **state)
{
    (void)state;
    return crypto_start() == AMI_OK ? 0 : -1;
}

#endif
