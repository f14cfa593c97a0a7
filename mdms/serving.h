/* mdms/serving.h - under which credential `serve` speaks with DCs and by what it believes them,
 * kept up to date; and what it tells `status` of that.
 *
 *   DIR/serving.json   {"credential": "x509", "until": 1893456000, "trust_until": null}
 *
 * Written when it changes; of the last run when none runs now.
 */
#ifndef AMI_MDMS_SERVING_H
#define AMI_MDMS_SERVING_H

#include <limits.h>

#include "keyagree/keyfile.h"
#include "net/trust.h"
#include "net/why.h"

struct serving {
    char kind[16];         /* credential_kind_name; empty: it never ran */
    int64_t until_s;       /* seconds since 1970; INT64_MAX: no date ends it */
    int64_t trust_until_s; /* of X.509 roots and lists; the same */
};

/* Where there is no such file, and on failure, *out says that it never ran. AMI_DAMAGED: it is
 * none.
 */
enum ami_status serving_read(struct serving *out, const char *dir, struct why *why) AMI_MUST_CHECK;

struct speaker {
    /* Set by the owner; all outlive it. */
    const struct mdms_keys *keys;
    const char *dir;
    struct trust_files files; /* of the command line; the public seed set is this MDMS's own */
    struct log_sink *log;
    /* Its own. Links use `own` and watch.trust.trust, which stay where they are. */
    struct credential own;
    struct trust_watch watch;
    char seed_set[PATH_MAX]; /* where it is, or will be */
    struct serving said;
};

/* What trust_watch_start and trust_own say. */
enum ami_status speaker_start(struct speaker *s, struct why *why) AMI_MUST_CHECK;
/* To be called every few seconds. True: as trust_watch_look. */
bool speaker_look(struct speaker *s) AMI_MUST_CHECK;
void speaker_end(struct speaker *s);

#endif
