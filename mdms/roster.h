/* mdms/roster.h - the operators' credentials, as the MDMS's folder has them.
 *
 *   DIR/operators/list.json      every credential that was given out, also revoked ones
 *   DIR/operators/revoked.list   the signed list of those that count no more (channel/file.h),
 * which `serve` sends to every DC
 *
 * What is on the signed list is revoked, whatever list.json says: `serve` puts back a newer one
 * that the DCs had when the folder was restored from an older copy. Credentials that list.json does
 * not know then are added to it, with a name that nobody can have, ROSTER_UNKNOWN.
 */
#ifndef AMI_MDMS_ROSTER_H
#define AMI_MDMS_ROSTER_H

#include "channel/file.h"
#include "mdms/issue.h"

#include <limits.h>

#define ROSTER_UNKNOWN "?"

struct roster {
    char list[PATH_MAX], revoked[PATH_MAX];
    json_t *all;               /* an array: of list.json, and what only the signed list has */
    struct revoked_list *last; /* the signed one; number 0: there is none */
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
/* A new entry, in force. AMI_NO_MEMORY. */
enum ami_status roster_add(struct roster *r, const struct credential_identity *who) AMI_MUST_CHECK;
enum ami_status roster_revoke(json_t *entry) AMI_MUST_CHECK; /* AMI_NO_MEMORY */

/* list.json. When it is full, entries that have expired and are on no list any more are left out.
 * AMI_FULL: there is no room even so; `adds` leaves some to revocations. */
enum ami_status roster_write(struct roster *r, bool adds, struct why *why) AMI_MUST_CHECK;
/* The signed list: every revoked credential that has not expired anyway. AMI_FULL: too many. */
enum ami_status roster_sign(const struct roster *r, const struct issuer *by,
                            struct why *why) AMI_MUST_CHECK;

#endif
