/* tests/channel/certificates.h - the certificates of make_certificates, for a realm at its moment.
 */
#ifndef AMI_TESTS_CHANNEL_CERTIFICATES_H
#define AMI_TESTS_CHANNEL_CERTIFICATES_H

#include "sim/lab/realm.h"

#include <stdio.h>
#include <stdlib.h>

/* When what the script makes begins and ends, in seconds since 1970. */
#define CERTIFICATES_DAY_S(days)    (SUITE_WALL_MS / 1000 + INT64_C(86400) * (days))
#define CERTIFICATES_FROM_S         CERTIFICATES_DAY_S(-365)
#define CERTIFICATES_UNTIL_S        CERTIFICATES_DAY_S(3650)
#define CERTIFICATES_EXPIRED_S      CERTIFICATES_DAY_S(-200) /* expired */
#define CERTIFICATES_SOON_UNTIL_S   CERTIFICATES_DAY_S(18)   /* soon.crl */
#define CERTIFICATES_ENDING_UNTIL_S CERTIFICATES_DAY_S(47)   /* the authority of early */

/* Into this folder, anew. Returns 0, or what the script ended with. */
static inline int certificates_make(const char *dir, const struct realm *realm)
{
    char command[512], network[2 * SM3_BYTES + 1];
    hex_encode(network, realm->mdms.net.id.b, SM3_BYTES);
    snprintf(command, sizeof command, "tests/channel/make_certificates %s %s %lld", dir, network,
             (long long)(SUITE_WALL_MS / 1000));
    return system(command);
}

#endif
