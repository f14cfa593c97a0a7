/* keyagree/enrol.h - how a device gets its keys from the MDMS (protocol.md section 3).
 *
 * A device proves itself with an install code, sends its points encapsulated to the MDMS enrolment
 * key, and gets the secret parts of its keys back under the same exchange. Both roles are issued at
 * once: the agreeing one under the network's scheme, the signing one always as GM/T 0130.
 *
 * All of it is stateless. What must be durable is the caller's: the device stores its
 * enrol_pending (keyfile.h) before it sends the request, and sends the same bytes again until a
 * reply comes; the MDMS stores its reply under the request's digest before it sends it, so that W
 * is never drawn twice, and marks the code used.
 *
 * enrol_request.sealed: SM4-GCM under a key and nonce from the encapsulation, aad = the encoded
 * fields before it. tag = HMAC-SM3(code hash, "amiledger enrol v1" 00, those fields, and the inner
 * fields before the tag). enrol_reply.sealed: the second key and nonce of the same encapsulation,
 * aad = the encoded fields before it and SM3 of the request.
 */
#ifndef AMI_KEYAGREE_ENROL_H
#define AMI_KEYAGREE_ENROL_H

#include "keyagree/scheme.h"

/* Roles of devices, as in enrol_request. */
enum enrol_role { ENROL_METER = 1, ENROL_DC = 2 };

enum key_role enrol_agree_role(enum enrol_role role);
enum key_role enrol_sign_role(enum enrol_role role);

/* --- install codes ---------------------------------------------------------------------------- */

#define INSTALL_CODE_BYTES 16 /* 128 random bits */
/* Seven groups of four characters of 0-9 A-Z without I L O U, and hyphens between: 128 bits of code
 * and 12 check bits (the first of SM3("amiledger install code check v1" 00 code)). */
#define INSTALL_CODE_TEXT_BYTES 34

struct install_code {
    uint8_t b[INSTALL_CODE_BYTES];
};

/* out: INSTALL_CODE_TEXT_BYTES + 1 bytes, zero-terminated. */
void install_code_text(char *out, const struct install_code *code);
/* Either case; hyphens and blanks anywhere or nowhere; I, L read as 1 and O as 0. AMI_BAD_ENCODING
 * when it is no code or mistyped. */
enum ami_status install_code_parse(struct install_code *out, const char *text) AMI_MUST_CHECK;
/* What stands for the code towards the MDMS, bound to the device: SM3("amiledger install code v1"
 * 00, role u8, id, code). Secret: who has it can enrol as this device. */
sm3_digest install_code_hash(const struct install_code *code, enum enrol_role role,
                             const struct ami_id *name);

/* --- the device's side ------------------------------------------------------------------------ */

#define ENROL_REQUEST_BYTES_MAX                                                                    \
    (1 + SM3_BYTES + 1 + AMI_ID_BYTES_MAX + 4 + SM2_POINT_BYTES + 4 + 512)
#define ENROL_REPLY_BYTES_MAX (1 + AMI_ID_BYTES_MAX + 4 + 2 + 4 + 512)
#define ENROL_REPLY_KEY_BYTES 28 /* SM4 key and nonce */

/* A device between request and reply: durable before the request leaves. Wipe after use. */
struct enrol_pending {
    enum enrol_role role;
    struct ami_id name;
    uint32_t epoch;
    uint8_t scheme;
    sm3_digest network;
    scalar sign_secret; /* d' of the signing role */
    struct agree_enrolling agree;
    uint8_t reply_key[ENROL_REPLY_KEY_BYTES];
    uint16_t request_size;
    uint8_t request[ENROL_REQUEST_BYTES_MAX]; /* encoding of enrol_request, to be sent as it is */
};

/* Everything that a device holds after enrolment. Wipe after use. */
struct device_keys {
    enum enrol_role role;
    struct ami_id name;
    uint32_t epoch;
    struct ami_id home_dc; /* of a meter; a DC's own name */
    struct sign_key sign;
    struct agree_key agree;
};

/* Draws keys and makes the request. random: signing role, agreeing role, encapsulation.
 * AMI_BAD_ARGUMENT (epoch 0), AMI_WRONG_SCHEME (the network names a scheme that does not exist). */
enum ami_status enrol_begin(struct enrol_pending *out, const struct network *net,
                            enum enrol_role role, const struct ami_id *name, uint32_t epoch,
                            const sm3_digest *code_hash,
                            const uint8_t random[3][SM2_WIDE_BYTES]) AMI_MUST_CHECK;

/* The reply's own status when it is a refusal (not authenticated: try again later);
 * AMI_BAD_ENCODING, AMI_BAD_CRYPTO (not from the MDMS, or keys that do not fit),
 * AMI_UNKNOWN_DEVICE (another device's reply), AMI_WRONG_EPOCH, AMI_FOREIGN_KEY (pending belongs to
 * another network). */
enum ami_status enrol_finish(struct device_keys *out, const struct enrol_pending *pending,
                             const struct network *net,
                             const struct enrol_reply *reply) AMI_MUST_CHECK;

/* --- the MDMS's side -------------------------------------------------------------------------- */

/* SM3 over the encoded request: two requests are the same request when these are equal. */
sm3_digest enrol_request_digest(const struct enrol_request *request);

/* A request that was opened and whose code is right. Wipe after use (it holds the reply's key). */
struct enrol_opened {
    enum enrol_role role;
    struct ami_id name;
    uint32_t epoch;
    point u_sign;
    struct agree_part agree_request;
    sm3_digest digest;
    uint8_t reply_key[ENROL_REPLY_KEY_BYTES];
};

/* AMI_WRONG_CHAIN (another network), AMI_BAD_ARGUMENT (role, epoch 0), AMI_BAD_CRYPTO,
 * AMI_BAD_ENCODING, AMI_WRONG_SCHEME, AMI_WRONG_CODE (constant time). */
enum ami_status enrol_open(struct enrol_opened *out, const struct network *net,
                           const sm2_private *enrol_key, const struct enrol_request *request,
                           const sm3_digest *code_hash) AMI_MUST_CHECK;

/* What was issued: `reply` is the encoding of enrol_reply; w_sign and agree_part are public and go
 * into the transaction (or the genesis file). */
struct enrol_issued {
    point_bytes w_sign;
    struct agree_part agree_part;
    uint16_t reply_size;
    uint8_t reply[ENROL_REPLY_BYTES_MAX];
};

/* `home_dc` and `home_part` (the agree_part of that DC's record): of the meter's home DC; for a DC
 * its own name and nothing. random: signing role, agreeing role. Call it once per request: drawn
 * again, W would differ. AMI_BAD_CRYPTO. */
enum ami_status enrol_issue(struct enrol_issued *out, const struct network *net, const scalar *x,
                            const struct enrol_opened *opened, const struct ami_id *home_dc,
                            struct span home_part,
                            const uint8_t random[2][SM2_WIDE_BYTES]) AMI_MUST_CHECK;

/* A refusal: status only. Returns the encoded size; out: ENROL_REPLY_BYTES_MAX bytes. */
size_t enrol_refuse(uint8_t *out, const struct ami_id *name, uint32_t epoch,
                    enum ami_status status);

#endif
