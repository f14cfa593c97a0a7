/* mdms/issue.h - what `ami-mdms operator` and `ami-mdms credential` share: the keys that they issue
 * under, how long what they issue is good, and the seed set.
 */
#ifndef AMI_MDMS_ISSUE_H
#define AMI_MDMS_ISSUE_H

#include "channel/request.h"
#include "mdms/cli.h"
#include "net/loop.h"

#define ISSUE_DAYS     365
#define ISSUE_DAYS_MAX 3650
#define ISSUE_DAY_S    86400
/* Clocks of DCs that are behind by up to so much still find a new credential valid; those of who
 * asks may be ahead by as much. */
#define ISSUE_EARLY_S 3600

/* For a table of options; the values are the command's own `out_file` and `days`. */
#define ISSUE_OPTION_OUT(what, must)                                                               \
    {                                                                                              \
        .name = "out", .letter = 'o', .kind = OPTION_TEXT, .value = &out_file, .argument = "FILE", \
        .help = (what), .required = (must)                                                         \
    }
#define ISSUE_OPTION_DAYS(what)                                                                    \
    {                                                                                              \
        .name = "days", .kind = OPTION_INT, .value = &days, .min = 1, .max = ISSUE_DAYS_MAX,       \
        .argument = "N", .help = (what)                                                            \
    }

struct issuer {
    const char *dir;
    struct network net;
    struct mdms_keys keys;
    char passphrase[PASSPHRASE_BYTES_MAX];
    int lock; /* of the folder of operators and the seed set; -1: none */
};

static inline int64_t issue_now_s(void)
{
    return clock_wall_ms() / 1000;
}

/* DIR/network.json, the passphrase and DIR/mdms.key. issuer_end in any case. */
enum ami_status issuer_begin(struct issuer *w, const struct common_options *common,
                             struct why *why) AMI_MUST_CHECK;
/* Makes that folder if it is not there, and locks it: not the MDMS's, so that this works beside
 * `serve`. */
enum ami_status issuer_lock(struct issuer *w, struct why *why) AMI_MUST_CHECK;
void issuer_end(struct issuer *w); /* unlocks and wipes */

/* May this be asked for, in the file of that name: of this network, of this role, for no more than
 * so many days and not over already? AMI_WRONG_CHAIN, AMI_NOT_ALLOWED. */
enum ami_status issue_may_ask(const struct issuer *w, const struct credential_identity *who,
                              enum credential_role role, int64_t days, const char *path,
                              struct why *why) AMI_MUST_CHECK;

/* Signs a CFL certificate under its identity's key of the seed set, which is drawn when there is
 * none yet. With the lock held. */
enum ami_status issue_cfl(const struct issuer *w, struct cfl_certificate *certificate,
                          struct why *why) AMI_MUST_CHECK;

/* What is issued to an operator, of the kind that it asks for. Under CFL the label is the one asked
 * for. AMI_BAD_SIGNATURE: whoever asks does not have the key. With the lock held. */
enum ami_status issue_answer(const struct issuer *w, struct credential_answer *out,
                             const struct credential_request *request, struct label label,
                             struct why *why) AMI_MUST_CHECK;

#endif
