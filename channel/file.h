/* channel/file.h - an operator's credential as a file, and the list of those that are revoked.
 *
 * The credential file holds all that dc-cli needs: the network's public keys, what is shown, and
 * the private key. It is not sealed; its mode is the caller's to set, and 0600.
 *
 *   "amicred\n", version u8 1, kind u8, network (name, scheme u8, four points), shown u16 and
 * bytes, private key 32, SM3 of everything before
 *
 * The list is the MDMS's word on which credentials count no more, in the manner of a certificate
 * revocation list: a file of the MDMS's, sent to the DCs, a file again in each one's folder:
 *
 *   "amirevk\n", version u8 2, network id, number u64, previous u64, issued_ms i64, count u16,
 *   fingerprints, signature of the MDMS's signing key over all of it (label "amiledger revoked
 *   operators v2")
 *
 * A list says by `previous` which lists it was made in knowledge of. An MDMS folder that was put
 * back from an older copy makes lists that do not know the newest one: who has that one sees it
 * (revoked_list_follows) and takes nobody back.
 */
#ifndef AMI_CHANNEL_FILE_H
#define AMI_CHANNEL_FILE_H

#include "channel/credential.h"

#define CREDENTIAL_FILE_BYTES_MAX (CREDENTIAL_BYTES_MAX + 512)

/* out has CREDENTIAL_FILE_BYTES_MAX bytes. Returns the size. `own` is implicit or CFL. */
size_t credential_file_encode(uint8_t *out, const struct network *net,
                              const struct credential *own);
/* AMI_BAD_ENCODING: no such file, or of a kind that no file holds; AMI_TRUNCATED; AMI_DAMAGED: the
 * digest or the key does not fit. */
enum ami_status credential_file_parse(struct credential *out, struct network *net,
                                      struct span in) AMI_MUST_CHECK;

_Static_assert(AMI_REVOKED_BYTES_MAX == 8 + 1 + SM3_BYTES + 8 + 8 + 8 + 2 +
                                            AMI_REVOKED_MAX * SM3_BYTES + SM2_SIGNATURE_BYTES,
               "room for a whole list");

struct revoked_list {
    uint64_t number;   /* grows with every list */
    uint64_t previous; /* below it: all lists up to this one were known when it was made; 0: none */
    int64_t issued_ms;
    uint16_t count;
    sm3_digest fingerprint[AMI_REVOKED_MAX];
};

/* Makes it the one after the list of that number; 0: the first. Its number is the time, or one more
 * than the last one's: it grows also when the clock has stepped back. */
void revoked_list_number_after(struct revoked_list *list, uint64_t last, int64_t now_ms);
/* out has AMI_REVOKED_BYTES_MAX bytes. Returns the size. */
size_t revoked_list_encode(uint8_t *out, const struct revoked_list *in, const struct network *net,
                           const sm2_private *sign, const uint8_t random[SM2_WIDE_BYTES]);
/* AMI_BAD_ENCODING, AMI_TRUNCATED, AMI_WRONG_CHAIN (another network's), AMI_BAD_SIGNATURE. */
enum ami_status revoked_list_parse(struct revoked_list *out, const struct network *net,
                                   struct span in) AMI_MUST_CHECK;
/* The numbers that it says it has, before anything is verified; nothing else of *out is set.
 * AMI_BAD_ENCODING, AMI_TRUNCATED. */
enum ami_status revoked_list_numbers(struct revoked_list *out, struct span in) AMI_MUST_CHECK;
/* Was `list` made in knowledge of `known`, and after it? */
static inline bool revoked_list_follows(const struct revoked_list *list,
                                        const struct revoked_list *known)
{
    return list->number > known->number && list->previous >= known->number;
}
bool revoked_list_has(const struct revoked_list *list, const sm3_digest *fingerprint);

#endif
