/* ledger/tx.h - transactions: kinds, ids, making and checking their signatures.
 *
 * A transaction has two parts. The first is what its author signed (a report's meter, the MDMS),
 * the second what was added afterwards (the gateway's sealing and signature). Its id is
 * SM3("amiledger tx v1" 00 kind SM3(first) SM3(second)), its Merkle leaf merkle_leaf(id): a meter
 * can check that its own first part is in a block when it is told SM3(second) alone.
 */
#ifndef AMI_LEDGER_TX_H
#define AMI_LEDGER_TX_H

#include "ledger/members.h"

enum tx_kind {
    TX_REPORT = 1,
    TX_METER_ENROL = 2,
    TX_DC_ENROL = 3,
    TX_REVOKE = 4,
    TX_SKIP = 5,
    TX_EVIDENCE = 6, /* proves itself: nobody signs it, whoever finds it hands it in */
    TX_MEMBERSHIP = 7,
    TX_RETENTION = 8,
    TX_KIND_END
};
/* Not a kind of its own: how a pruned block keeps a report (ledger/pruned.h). The first part is
 * whole, in place of the second one stands its SM3, so the id is what it was. */
#define TX_PRUNED_REPORT 129

/* A transaction decoded all the way. Borrows the bytes it was parsed from. */
struct tx_view {
    struct tx tx; /* of a pruned report: kind TX_REPORT, the second part empty */
    struct span encoded;
    sm3_digest id;
    bool pruned;       /* a report whose gateway part is gone: u.report.gateway is all zero */
    sm3_digest second; /* then: the SM3 of that part */
    union {
        struct {
            struct report_meter_part meter;
            struct report_gateway_part gateway;
        } report;
        struct meter_enrol meter_enrol;
        struct dc_enrol dc_enrol;
        struct revoke revoke;
        struct skip_meter_part skip;
        struct membership membership;
        struct retention retention;
        struct evidence evidence; /* judged: only who signed it is open */
    } u;
    struct mdms_part mdms; /* for the kinds that the MDMS signs */
};

/* AMI_BAD_ENCODING, AMI_BAD_ARGUMENT (unknown kind, sequence 0, epoch 0, number 0; a membership
 * transaction whose change, delay or addresses cannot be; evidence that convicts nobody). No
 * signature is checked here. */
enum ami_status tx_view_parse(struct tx_view *out, struct span encoded) AMI_MUST_CHECK;
/* The same for a transaction of a committed block: a report may be a pruned one. */
enum ami_status tx_view_parse_kept(struct tx_view *out, struct span encoded) AMI_MUST_CHECK;
/* The same in two steps: the id is most of the cost, and not everybody needs it. */
enum ami_status tx_view_decode(struct tx_view *out, struct span encoded) AMI_MUST_CHECK;
enum ami_status tx_view_decode_kept(struct tx_view *out, struct span encoded) AMI_MUST_CHECK;
void tx_view_identify(struct tx_view *tx);

/* SM3 of the second part, also of one that is gone. */
sm3_digest tx_second(const struct tx_view *tx);
sm3_digest tx_id(uint8_t kind, const sm3_digest *first, const sm3_digest *second);
sm3_digest tx_leaf(const sm3_digest *id);
/* Ids or leaves of many transactions, several times faster than one by one. AMI_NO_MEMORY.
 * AMI_BAD_ENCODING: a pruned report without its digest. */
enum ami_status tx_ids(sm3_digest *out, const struct tx *tx, size_t count) AMI_MUST_CHECK;
enum ami_status tx_leaves(sm3_digest *out, const struct tx *tx, size_t count) AMI_MUST_CHECK;
/* Running number of a transaction of the MDMS; 0: it is none of the MDMS's. */
uint64_t tx_mdms_number(const struct tx_view *tx);

/* A body is a run of (u32 size, encoded tx). */
struct body_reader {
    struct reader r;
};
struct body_reader body_reader_on(struct span body);
/* False at the end or on damage; then look at body_ok. */
bool body_next(struct body_reader *it, struct span *encoded_tx);
bool body_ok(const struct body_reader *it); /* everything read, nothing malformed */
/* The leaves of all its transactions; *count receives how many. `second`, unless NULL: tx_second of
 * each, which is computed on the way. AMI_TOO_LARGE: more than `max`; AMI_BAD_ENCODING: the body,
 * or the two parts of a transaction (what they hold is not looked at); AMI_NO_MEMORY. */
enum ami_status body_leaves(sm3_digest *out, sm3_digest *second, size_t max, size_t *count,
                            struct span body) AMI_MUST_CHECK;
void body_append(struct writer *body, struct span encoded_tx);

/* Signing. `out` receives the encoding of the whole transaction. */
void report_meter_sign(struct report_meter_part *part, const sm3_digest *chain,
                       const struct sign_key *meter, const uint8_t random[SM2_WIDE_BYTES]);
/* The meter's check of its own and the gateway's of its meter. */
enum ami_status report_meter_check(const struct report_meter_part *part, const sm3_digest *chain,
                                   const struct verify_key *meter) AMI_MUST_CHECK;
void report_gateway_sign(struct report_gateway_part *part, const struct report_meter_part *meter,
                         const sm3_digest *chain, const struct sign_key *dc,
                         const uint8_t random[SM2_WIDE_BYTES]);
enum ami_status report_gateway_check(const struct report_gateway_part *part,
                                     const struct report_meter_part *meter, const sm3_digest *chain,
                                     const struct verify_key *dc) AMI_MUST_CHECK;
/* What the two signatures are of, for batches (sm3_batch over message.parts, then sm2_verify_batch
 * or sm2_sign_batch). Each stays in place while its message is used. */
struct report_meter_message {
    uint8_t bytes[256];
    struct verify_key_message message;
};
void report_meter_message(struct report_meter_message *out, const struct report_meter_part *part,
                          const sm3_digest *chain, const struct verify_key *meter);
struct report_gateway_message {
    uint8_t meter[256];
    uint8_t gateway[AMI_SEALED_BYTES_MAX + 256]; /* a sealed report and a few fields */
    struct verify_key_message message;
};
void report_gateway_message(struct report_gateway_message *out,
                            const struct report_gateway_part *part,
                            const struct report_meter_part *meter, const sm3_digest *chain,
                            const struct verify_key *dc);
void report_tx_encode(struct writer *out, const struct report_meter_part *meter,
                      const struct report_gateway_part *gateway);
/* A skip, made and checked. */
void skip_sign(struct skip_meter_part *part, const sm3_digest *chain, const struct sign_key *meter,
               const uint8_t random[SM2_WIDE_BYTES]);
enum ami_status skip_check(const struct skip_meter_part *part, const sm3_digest *chain,
                           const struct verify_key *meter) AMI_MUST_CHECK;
/* The MDMS's transactions: sign kind and first part with the MDMS's own SM2 key, whose public half
 * and Z the network has (sign, sign_z). */
sm2_signature mdms_tx_sign(const struct network *net, const sm2_private *key,
                           const sm3_digest *chain, uint8_t kind, struct span first,
                           const uint8_t random[SM2_WIDE_BYTES]);
enum ami_status mdms_tx_check(const struct network *net, const sm3_digest *chain, uint8_t kind,
                              struct span first, const sm2_signature *sig) AMI_MUST_CHECK;
void mdms_tx_encode(struct writer *out, uint8_t kind, struct span first, const sm2_signature *sig);

void evidence_tx_encode(struct writer *out, const struct evidence *e);

/* Sealing of (salt || m) for the MDMS, protocol.md section 5. One `seal_batch` per batch of one
 * gateway: C1 and Z are drawn anew for each and never stored. key = first 16 bytes of
 * SM3("amiledger seal v1" 00 Z, dc, meter, epoch, sequence), nonce = the next 12; aad = chain, dc,
 * meter, epoch, sequence. */
struct seal_batch {
    point_bytes c1;
    uint8_t z[32]; /* secret: wipe at the batch's end */
};
enum ami_status seal_batch_begin(struct seal_batch *out, const point *readings_key,
                                 const uint8_t random[SM2_WIDE_BYTES]) AMI_MUST_CHECK;
enum ami_status seal_batch_open(struct seal_batch *out, const sm2_private *readings_key,
                                const point_bytes *c1) AMI_MUST_CHECK;
/* out: salt_and_m.size + GCM_TAG_BYTES bytes. */
void seal_report(uint8_t *out, const struct seal_batch *batch, const sm3_digest *chain,
                 const struct ami_id *dc, const struct ami_id *meter, uint32_t epoch,
                 uint64_t sequence, struct span salt_and_m);
enum ami_status unseal_report(uint8_t *out, const struct seal_batch *batch, const sm3_digest *chain,
                              const struct ami_id *dc, const struct ami_id *meter, uint32_t epoch,
                              uint64_t sequence, struct span sealed) AMI_MUST_CHECK;
/* c = SM3(salt || m). */
sm3_digest report_commitment(const uint8_t salt[16], struct span m);

#endif
