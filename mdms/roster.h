/* mdms/roster.h - the operators' credentials, as the MDMS's folder has them.
 *
 *   DIR/operators/list.json      every credential that was given out, also revoked ones
 *   DIR/operators/revoked.list   the signed list of those that count no more (channel/file.h),
 * which `serve` sends to every DC
 *
 * What is on the signed list is revoked, whatever list.json says: `serve` puts back a newer one
 * that the DCs had when the folder was restored from an older copy. Credentials that list.json does
 * not know are shown with a name that nobody can have, ROSTER_UNKNOWN, and not written into it.
 *
 * The signed list is what counts, and is written first: a full list.json keeps nobody from being
 * revoked. An entry leaves the signed list when it has ended, by a clock that is no more than
 * ROSTER_AHEAD_DAYS beyond the last signed list: a clock that is once wrong empties nothing.
 */
#ifndef AMI_MDMS_ROSTER_H
#define AMI_MDMS_ROSTER_H

#include "channel/file.h"
#include "mdms/issue.h"

#include <limits.h>

#define ROSTER_UNKNOWN    "?"
#define ROSTER_AHEAD_DAYS 30

struct roster {
    char list[PATH_MAX], revoked[PATH_MAX];
    json_t *all;               /* an array: of list.json, and what only the signed list has */
    struct revoked_list *last; /* the signed one; number 0: there is none */
    unsigned held;             /* entries that stayed on it because the clock looks wrong */
};

/* AMI_DAMAGED: one of them is not what is written here. roster_free in any case; *r is zero before.
 * Who means to change it holds the issuer's lock. */
enum ami_status roster_read(struct roster *r, const char *dir, const struct network *net,
                            struct why *why) AMI_MUST_CHECK;
void roster_free(struct roster *r);

/* Of an entry. */
const char *roster_text(const json_t *entry, const char *key); /* "": there is none */
json_int_t roster_number(const json_t *entry, const char *key);
bool roster_is_revoked(const json_t *entry);
bool roster_in_force(const json_t *entry);

/* NULL: there is none. */
json_t *roster_find(const struct roster *r, const sm3_digest *fingerprint);
/* A new entry, in force. checked: it is known that somebody has that credential. AMI_NO_MEMORY. */
enum ami_status roster_add(struct roster *r, const struct credential_identity *who,
                           bool checked) AMI_MUST_CHECK;
bool roster_is_checked(const json_t *entry);
enum ami_status roster_revoke(json_t *entry) AMI_MUST_CHECK; /* AMI_NO_MEMORY */

/* list.json. When it is full, entries that have expired and are on no list any more are left out.
 * AMI_FULL: there is no room even so; `adds` leaves some to revocations. */
enum ami_status roster_write(struct roster *r, bool adds, struct why *why) AMI_MUST_CHECK;
/* The signed list: the last one's entries and every revoked credential, but for what has ended. If
 * something has, and the clock is so far beyond the last list that it looks wrong, nothing leaves
 * unless the caller says that the clock is right: `held` says how many stay. AMI_FULL: too many. */
enum ami_status roster_sign(struct roster *r, const struct issuer *by, bool clock_is_right,
                            struct why *why) AMI_MUST_CHECK;

#endif
