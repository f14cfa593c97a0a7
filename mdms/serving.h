/* mdms/serving.h - what a running `serve` tells `status`: under which credential it speaks with
 * DCs, and for how long that, and what it believes DCs by, is good.
 *
 *   DIR/serving.json   {"credential": "x509", "until": 1893456000, "trust_until": null}
 *
 * Written when it changes; of the last run when none runs now.
 */
#ifndef AMI_MDMS_SERVING_H
#define AMI_MDMS_SERVING_H

#include "net/trust.h"
#include "net/why.h"

struct serving {
    char kind[16];         /* credential_kind_name; empty: it never ran */
    int64_t until_s;       /* seconds since 1970; INT64_MAX: no date ends it */
    int64_t trust_until_s; /* of X.509 roots and lists; the same */
};

void serving_of(struct serving *out, const struct trust_watch *watch);
enum ami_status serving_write(const struct serving *s, const char *dir,
                              struct why *why) AMI_MUST_CHECK;
/* Where there is no such file *out says that it never ran. AMI_DAMAGED: it is none. */
enum ami_status serving_read(struct serving *out, const char *dir, struct why *why) AMI_MUST_CHECK;

#endif
