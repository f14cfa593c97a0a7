/* mdms/codes.h - install codes at rest.
 *
 * The MDMS needs of a code only its hash (keyagree/enrol.h), with which a request's tag is checked;
 * who has the hash can enrol as that device, so it is kept sealed to the MDMS enrolment key:
 * `ami-mdms codes` adds codes without any secret, also while `serve` runs, and a copy of the store
 * gives nobody a code. One encapsulation serves a list; key and nonce of a record = SM3("amiledger
 * code store v1" 00 Z, role, id), first 16 and next 12 bytes; aad = role, id.
 */
#ifndef AMI_MDMS_CODES_H
#define AMI_MDMS_CODES_H

#include "keyagree/enrol.h"
#include "mdms/records.h"

#define CODE_SEALED_BYTES (SM3_BYTES + 16)

/* One list. Wipe after use. */
struct code_list {
    point_bytes c1;
    uint8_t z[32];
};
enum ami_status code_list_begin(struct code_list *out, const struct network *net,
                                const uint8_t random[SM2_WIDE_BYTES]) AMI_MUST_CHECK;
void code_seal(uint8_t out[CODE_SEALED_BYTES], const struct code_list *list, uint8_t role,
               const struct ami_id *id, const sm3_digest *code_hash);

/* AMI_BAD_CRYPTO: it was sealed for another network, or is damaged. */
enum ami_status code_open(sm3_digest *code_hash, const sm2_private *enrol_key, uint8_t role,
                          const struct ami_id *id, const point_bytes *c1,
                          struct span sealed) AMI_MUST_CHECK;

#endif
