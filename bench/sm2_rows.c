#include "bench/sm2_rows.h"

#include "crypto/secret.h"

void sm2_random_scalars(scalar *out, size_t count)
{
    uint8_t wide[SM2_WIDE_BYTES];
    for (size_t i = 0; i < count; i++) {
        secret_random(wide, sizeof wide);
        out[i] = scalar_from_wide(wide);
    }
}

sm2_private sm2_random_private(void)
{
    sm2_private key;
    scalar d;
    do
        sm2_random_scalars(&d, 1);
    while (sm2_private_init(&key, &d) != AMI_OK);
    return key;
}
