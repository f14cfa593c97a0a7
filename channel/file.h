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
 *   "amirevk\n", version u8 3, network id, number u64, issued_ms i64, count u16, entries, signature
 *   of the MDMS's signing key over all of it (label "amiledger revoked operators v3")
 *   entry: fingerprint 32, until_s i64; in the order of fingerprints, each once
 *
 * It is a set that only grows until an entry ends by itself: until_s is when nobody would be let in
 * under that credential anyway. So whoever goes by a list takes another for it only when that one
 * has a greater number and every entry that has not ended by the taker's own clock
 * (revoked_list_covers). An MDMS folder that was put back from an older copy, or whose clock is
 * ahead, makes lists that lack somebody: nobody takes them, however many it makes, and the MDMS
 * makes one of both (revoked_list_join). A number alone names no list: the same one is the same
 * bytes.
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

#define REVOKED_ENTRY_BYTES (SM3_BYTES + 8)
_Static_assert(AMI_REVOKED_BYTES_MAX == 8 + 1 + SM3_BYTES + 8 + 8 + 2 +
                                            AMI_REVOKED_MAX * REVOKED_ENTRY_BYTES +
                                            SM2_SIGNATURE_BYTES,
               "room for a whole list");

/* Whoever goes by a list misses an entry in another one for so long after its end; who makes lists
 * leaves one out after twice as long. So clocks that are a day apart are not at odds. */
#define REVOKED_MARGIN_S INT64_C(86400)

struct revoked_entry {
    sm3_digest fingerprint;
    int64_t until_s; /* seconds since 1970: it may leave the list then */
};

struct revoked_list {
    uint64_t number; /* grows with every list */
    int64_t issued_ms;
    uint16_t count;
    struct revoked_entry entry[AMI_REVOKED_MAX]; /* in the order of fingerprints */
};

/* The number of the list after the last one's; 0: the first. It is the time, or one more than the
 * last one's: it grows also when the clock has stepped back. */
uint64_t revoked_list_number_after(uint64_t last, int64_t now_ms);
/* Puts it where it belongs; of one that is there, the later end stays. AMI_FULL. */
enum ami_status revoked_list_add(struct revoked_list *list,
                                 const struct revoked_entry *entry) AMI_MUST_CHECK;
/* Adds what is on the other one. The number stays; issued_ms is the later one's. AMI_FULL: *list
 * has some of it. */
enum ami_status revoked_list_join(struct revoked_list *list,
                                  const struct revoked_list *other) AMI_MUST_CHECK;
/* NULL: it is not on the list. */
const struct revoked_entry *revoked_list_find(const struct revoked_list *list,
                                              const sm3_digest *fingerprint);
/* Has `list` all that is on `known` and has not ended more than REVOKED_MARGIN_S before now_s, and
 * none of it for a shorter time? With REVOKED_ALWAYS: all of it. */
#define REVOKED_ALWAYS INT64_MIN
bool revoked_list_covers(const struct revoked_list *list, const struct revoked_list *known,
                         int64_t now_s);

/* out has AMI_REVOKED_BYTES_MAX bytes. Returns the size. */
size_t revoked_list_encode(uint8_t *out, const struct revoked_list *in, const struct network *net,
                           const sm2_private *sign, const uint8_t random[SM2_WIDE_BYTES]);
/* What it says, before anything is verified. AMI_BAD_ENCODING, AMI_TRUNCATED, AMI_BAD_VERSION. */
enum ami_status revoked_list_read(struct revoked_list *out, struct span in) AMI_MUST_CHECK;
/* Of one that was read: AMI_WRONG_CHAIN (another network's), AMI_BAD_SIGNATURE. */
enum ami_status revoked_list_verify(const struct network *net, struct span in) AMI_MUST_CHECK;
/* Both. */
enum ami_status revoked_list_parse(struct revoked_list *out, const struct network *net,
                                   struct span in) AMI_MUST_CHECK;

#endif
