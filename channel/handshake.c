/* The handshake, initiator I and responder R. || is concatenation, 00 a zero byte.
 *
 *   F1  I -> R  a1, version, suites, kinds_I, network, nonce_I, E_I = e_I G
 *   F2  R -> I  a2, version, suite, kinds_R, kind_R, nonce_R, E_R = e_R G           (in the clear)
 *               GCM(h_R, T1, {credential_R, Sig_R, C_R})
 *   F3  I -> R  a3, kind_I                                                      (in the clear)
 *               GCM(h_I, T2, {credential_I, Sig_I, C_I})
 *   then R -> I the record READY, and records either way
 *
 *   T1 = SM3("amiledger channel T1 v1" 00 F1, F2's clear part)
 *   T2 = SM3("amiledger channel T2 v1" 00 T1, SM3(F2's sealed part), F3's clear part)
 *   T3 = SM3("amiledger channel T3 v1" 00 T2, SM3(F3's sealed part))
 *   V  = e_I E_R = e_R E_I;  S = HMAC-SM3(T1, xV || yV)
 *   h_X, c_X = HMAC-SM3(S, label 00 T), T = T1 for R and T2 for I; h: 16 bytes key, 12 nonce
 *   Sig_X signs label 00 T, credential_X with the key of credential_X
 *   C_X = HMAC-SM3(c_X, T, credential_X, Sig_X)
 *   A   = HMAC-SM3(S, "amiledger channel records v1" 00 T3); both key chains start from A and T3
 *
 * `suites` and `kinds` are sets: what each side allows. R chooses the suite. All of it is under
 * both signatures and both tags. Credentials travel sealed: who listens sees neither name, and only
 * I's counterpart in the exchange, who need not have proven anything yet, sees R's, as R answers
 * first.
 *
 * Form: SIGMA-I (Krawczyk 2003, section 5.3: signed ephemeral keys, a MAC over the own identity,
 * identities encrypted) with the key schedule and the transcript hashes in the manner of TLS 1.3
 * (RFC 8446 section 4.4, RFC 8998 for SM2, SM3 and SM4 in it). E and V are computed on SM2's curve.
 */
#include "channel/internal.h"

#include "base/check.h"
#include "crypto/secret.h"
#include "crypto/sm4gcm.h"

#include <string.h>

#define LABEL_SIGN_R    "amiledger channel responder v1"
#define LABEL_SIGN_I    "amiledger channel initiator v1"
#define LABEL_SEAL_R    "amiledger channel seal responder v1"
#define LABEL_SEAL_I    "amiledger channel seal initiator v1"
#define LABEL_CONFIRM_R "amiledger channel confirm responder v1"
#define LABEL_CONFIRM_I "amiledger channel confirm initiator v1"
#define LABEL_RECORDS   "amiledger channel records v1"

#define ANSWER_CLEAR_BYTES (5 + CREDENTIAL_NONCE_BYTES + SM2_POINT_BYTES)
#define FINISH_CLEAR_BYTES 2
#define PROOF_BYTES        (SM2_SIGNATURE_BYTES + SM3_BYTES)
#define SEALED_BYTES_MAX   (CREDENTIAL_BYTES_MAX + PROOF_BYTES + GCM_TAG_BYTES)

_Static_assert(ANSWER_CLEAR_BYTES + SEALED_BYTES_MAX <= CHANNEL_FLIGHT_BYTES_MAX, "fits");

/* What differs between the two sides' proofs. */
struct side {
    const char *sign, *seal, *confirm;
};
static const struct side side_r = {LABEL_SIGN_R, LABEL_SEAL_R, LABEL_CONFIRM_R};
static const struct side side_i = {LABEL_SIGN_I, LABEL_SEAL_I, LABEL_CONFIRM_I};

static struct span digest_span(const sm3_digest *d)
{
    return span_of(d->b, sizeof d->b);
}

/* HMAC-SM3(S, label 00 T). */
static sm3_digest derive(const struct channel *c, const char *label)
{
    const struct span parts[] = {span_of(label, strlen(label) + 1), digest_span(&c->transcript)};
    return hmac_sm3(digest_span(&c->shared), parts, 2);
}

static void seal_key(sm4_key *key, gcm_nonce *nonce, const struct channel *c,
                     const struct side *side)
{
    sm3_digest h = derive(c, side->seal);
    memcpy(key->b, h.b, sizeof key->b);
    memcpy(nonce->b, h.b + sizeof key->b, sizeof nonce->b);
    secret_wipe(&h, sizeof h);
}

static sm3_digest confirmation(const struct channel *c, const struct side *side,
                               struct span credential, const uint8_t sig[SM2_SIGNATURE_BYTES])
{
    sm3_digest key = derive(c, side->confirm);
    const struct span parts[] = {digest_span(&c->transcript), credential,
                                 span_of(sig, SM2_SIGNATURE_BYTES)};
    sm3_digest tag = hmac_sm3(digest_span(&key), parts, 3);
    secret_wipe(&key, sizeof key);
    return tag;
}

/* The exchange, once T1 is known. */
static void agree(struct channel *c, const point *peer)
{
    uint8_t xy[SM2_XY_BYTES];
    point v = point_mul(&c->secret, peer); /* of prime order, neither is zero: not infinity */
    point_xy(xy, &v);
    const struct span part = span_of(xy, sizeof xy);
    c->shared = hmac_sm3(digest_span(&c->transcript), &part, 1);
    secret_wipe(&v, sizeof v);
    secret_wipe(xy, sizeof xy);
    secret_wipe(&c->secret, sizeof c->secret);
}

/* credential, signature and confirmation, sealed under `side`; returns the sealed size. */
static size_t prove(struct channel *c, const struct side *side, uint8_t *out)
{
    sm4_key key;
    gcm_nonce nonce;
    const struct credential_moment at = {c->wall_ms, c->peer_nonce};
    size_t size = credential_show(out, c->config->own, &at);
    const struct span shown = span_of(out, size);
    const struct span signed_parts[] = {digest_span(&c->transcript), shown};
    sm2_signature sig =
        credential_sign(c->config->own, side->sign, signed_parts, 2, c->sign_random);
    secret_wipe(c->sign_random, sizeof c->sign_random);
    sm3_digest tag = confirmation(c, side, shown, sig.b);
    memcpy(out + size, sig.b, sizeof sig.b);
    memcpy(out + size + sizeof sig.b, tag.b, sizeof tag.b);
    size += PROOF_BYTES;
    seal_key(&key, &nonce, c, side);
    sm4gcm_seal(out, &key, &nonce, digest_span(&c->transcript), span_of(out, size));
    secret_wipe(&key, sizeof key);
    secret_disclose(out, size + GCM_TAG_BYTES); /* it leaves, and enters the transcript */
    return size + GCM_TAG_BYTES;
}

/* The other side's proof; `sealed` is opened in place, and *out is where in it the credential is,
 * once it has proven the peer. c->peer is set as soon as somebody has signed with the key of a
 * credential that names it, and c->standing tells what that is worth. */
static enum channel_fault check_proof(struct channel *c, const struct side *side,
                                      enum credential_kind kind, uint8_t *sealed, size_t size,
                                      struct span *out)
{
    sm4_key key;
    gcm_nonce nonce;
    struct credential_peer peer;
    sm2_signature sig;
    if (size < PROOF_BYTES + GCM_TAG_BYTES || size > SEALED_BYTES_MAX)
        return FAULT_ENCODING;
    seal_key(&key, &nonce, c, side);
    enum ami_status opened =
        sm4gcm_open(sealed, &key, &nonce, digest_span(&c->transcript), span_of(sealed, size));
    secret_wipe(&key, sizeof key);
    if (opened != AMI_OK)
        return FAULT_ALTERED;
    secret_disclose(sealed, size); /* the peer's identity is decoded next */
    const size_t shown_size = size - PROOF_BYTES - GCM_TAG_BYTES;
    const struct span shown = span_of(sealed, shown_size);
    memcpy(sig.b, sealed + shown_size, sizeof sig.b);
    sm3_digest tag = confirmation(c, side, shown, sig.b);
    if (!secret_equal(tag.b, sealed + shown_size + sizeof sig.b, sizeof tag.b))
        return FAULT_ALTERED;
    const struct credential_moment at = {c->wall_ms, c->nonce};
    enum channel_fault fault = credential_read(&peer, kind, shown, c->config->trust, &at);
    if (fault != FAULT_NONE)
        return fault;
    const struct span signed_parts[] = {digest_span(&c->transcript), shown};
    fault = credential_verify(&peer, side->sign, signed_parts, 2, &sig);
    if (fault != FAULT_NONE)
        return fault;
    /* Only now the issuers' signatures: whoever merely copied a credential has cost one. */
    fault = credential_vouched(&peer, shown, c->config->trust, &at);
    c->peer = peer.who;
    c->standing = peer.vouched ? CHANNEL_PROVEN : CHANNEL_CLAIMED;
    if (fault != FAULT_NONE)
        return fault;
    if (memcmp(&peer.who.key, &c->config->own->who.key, sizeof peer.who.key) == 0)
        return FAULT_SELF;
    fault = c->config->accept(c->config->accept_ctx, &peer.who);
    c->welcome = fault == FAULT_NONE;
    *out = shown;
    return fault;
}

static sm3_digest transcript_1(const struct channel *c, const uint8_t clear[ANSWER_CLEAR_BYTES])
{
    const struct span parts[] = {span_of(c->first, sizeof c->first),
                                 span_of(clear, ANSWER_CLEAR_BYTES)};
    return sm3_labelled("amiledger channel T1 v1", parts, 2);
}

static void transcript_2(struct channel *c, const sm3_digest *answer_sealed,
                         const uint8_t clear[FINISH_CLEAR_BYTES])
{
    const struct span parts[] = {digest_span(&c->transcript), digest_span(answer_sealed),
                                 span_of(clear, FINISH_CLEAR_BYTES)};
    c->transcript = sm3_labelled("amiledger channel T2 v1", parts, 3);
}

/* T3, and from it the key chains; the handshake's secrets go. */
static void begin_records(struct channel *c, const sm3_digest *finish_sealed)
{
    const struct span parts[] = {digest_span(&c->transcript), digest_span(finish_sealed)};
    c->transcript = sm3_labelled("amiledger channel T3 v1", parts, 2);
    sm3_digest a = derive(c, LABEL_RECORDS);
    const struct span secret = digest_span(&a);
    key_chain_begin(c->initiator ? &c->send : &c->receive, secret, LABEL_RECORDS, 1,
                    &c->transcript);
    key_chain_begin(c->initiator ? &c->receive : &c->send, secret, LABEL_RECORDS, 2,
                    &c->transcript);
    secret_wipe(&a, sizeof a);
    secret_wipe(&c->shared, sizeof c->shared);
}

/* --- flights ---------------------------------------------------------------------------------- */

static void write_ephemeral(struct writer *w, const struct channel *c)
{
    point e = point_mul_base(&c->secret);
    point_bytes encoded = point_encode(&e);
    secret_disclose(c->nonce, sizeof c->nonce);
    secret_disclose(&encoded, sizeof encoded);
    write_raw(w, c->nonce, sizeof c->nonce);
    write_raw(w, encoded.b, sizeof encoded.b);
}

void channel_first(struct channel *c, uint8_t out[CHANNEL_FIRST_BYTES])
{
    struct writer w = writer_on(c->first, sizeof c->first);
    AMI_CHECK(c->state == CHANNEL_EXPECT_ANSWER && c->initiator && c->first[0] == 0);
    write_u8(&w, CHANNEL_FRAME_FIRST);
    write_u8(&w, CHANNEL_VERSION);
    write_u8(&w, c->config->suites);
    write_u8(&w, c->config->trust->kinds);
    write_raw(&w, c->config->trust->net->id.b, SM3_BYTES);
    write_ephemeral(&w, c);
    AMI_CHECK(writer_ok(&w) && w.size == CHANNEL_FIRST_BYTES);
    memcpy(out, c->first, CHANNEL_FIRST_BYTES);
}

/* Type and version, for both sides' first frame. */
static enum channel_fault check_head(const uint8_t *frame, size_t size, enum channel_frame type)
{
    if (size < 2)
        return FAULT_ENCODING;
    if (frame[0] < CHANNEL_FRAME_FIRST)
        return FAULT_PLAINTEXT;
    if (frame[0] != type)
        return FAULT_ENCODING;
    return frame[1] == CHANNEL_VERSION ? FAULT_NONE : FAULT_VERSION;
}

static uint8_t choose_suite(uint8_t theirs, uint8_t ours)
{
    uint8_t both = theirs & ours;
    return (both & CHANNEL_SM4_GCM) != 0 ? CHANNEL_SM4_GCM : both & CHANNEL_SM4_CTR_HMAC;
}

enum channel_fault handshake_answer(struct channel *c, uint8_t *frame, size_t size, uint8_t *reply,
                                    size_t *reply_size)
{
    sm3_digest network;
    point_bytes e_bytes;
    point e;
    enum channel_fault fault = check_head(frame, size, CHANNEL_FRAME_FIRST);
    if (fault != FAULT_NONE)
        return fault;
    struct reader r = reader_on(span_of(frame, size));
    (void)read_u16(&r);
    uint8_t suites = read_u8(&r), kinds = read_u8(&r);
    read_raw(&r, network.b, sizeof network.b);
    read_raw(&r, c->peer_nonce, sizeof c->peer_nonce);
    read_raw(&r, e_bytes.b, sizeof e_bytes.b);
    if (!reader_done(&r))
        return FAULT_ENCODING;
    if (!sm3_equal(&network, &c->config->trust->net->id))
        return FAULT_OTHER_NETWORK;
    c->suite = choose_suite(suites, c->config->suites);
    if (c->suite == 0)
        return FAULT_NO_SUITE;
    if ((kinds & CREDENTIAL_BIT(c->config->own->who.kind)) == 0)
        return FAULT_NO_KIND;
    if (point_decode(&e, &e_bytes) != AMI_OK)
        return FAULT_POINT;
    memcpy(c->first, frame, sizeof c->first);
    struct writer w = writer_on(reply, ANSWER_CLEAR_BYTES);
    write_u8(&w, CHANNEL_FRAME_ANSWER);
    write_u8(&w, CHANNEL_VERSION);
    write_u8(&w, c->suite);
    write_u8(&w, c->config->trust->kinds);
    write_u8(&w, (uint8_t)c->config->own->who.kind);
    write_ephemeral(&w, c);
    AMI_CHECK(writer_ok(&w) && w.size == ANSWER_CLEAR_BYTES);
    c->transcript = transcript_1(c, reply);
    agree(c, &e);
    size_t sealed = prove(c, &side_r, reply + ANSWER_CLEAR_BYTES);
    *reply_size = ANSWER_CLEAR_BYTES + sealed;
    c->answer_sealed = sm3(span_of(reply + ANSWER_CLEAR_BYTES, sealed));
    c->state = CHANNEL_EXPECT_FINISH;
    return FAULT_NONE;
}

enum channel_fault handshake_finish(struct channel *c, uint8_t *frame, size_t size, uint8_t *reply,
                                    size_t *reply_size, struct span *shown)
{
    point_bytes e_bytes;
    point e;
    enum channel_fault fault = check_head(frame, size, CHANNEL_FRAME_ANSWER);
    if (fault != FAULT_NONE)
        return fault;
    if (size < ANSWER_CLEAR_BYTES || size > CHANNEL_FLIGHT_BYTES_MAX)
        return FAULT_ENCODING;
    struct reader r = reader_on(span_of(frame, ANSWER_CLEAR_BYTES));
    (void)read_u16(&r);
    uint8_t suite = read_u8(&r), kinds = read_u8(&r);
    enum credential_kind kind = (enum credential_kind)read_u8(&r);
    read_raw(&r, c->peer_nonce, sizeof c->peer_nonce);
    read_raw(&r, e_bytes.b, sizeof e_bytes.b);
    AMI_CHECK(reader_done(&r));
    if (suite != choose_suite(suite, c->config->suites) || suite == 0)
        return FAULT_NO_SUITE;
    if ((kinds & CREDENTIAL_BIT(c->config->own->who.kind)) == 0)
        return FAULT_NO_KIND;
    if (point_decode(&e, &e_bytes) != AMI_OK)
        return FAULT_POINT;
    c->suite = suite;
    c->transcript = transcript_1(c, frame);
    agree(c, &e);
    const sm3_digest answer_sealed =
        sm3(span_of(frame + ANSWER_CLEAR_BYTES, size - ANSWER_CLEAR_BYTES));
    fault =
        check_proof(c, &side_r, kind, frame + ANSWER_CLEAR_BYTES, size - ANSWER_CLEAR_BYTES, shown);
    if (fault != FAULT_NONE)
        return fault;
    reply[0] = CHANNEL_FRAME_FINISH;
    reply[1] = (uint8_t)c->config->own->who.kind;
    transcript_2(c, &answer_sealed, reply);
    size_t sealed = prove(c, &side_i, reply + FINISH_CLEAR_BYTES);
    const sm3_digest finish_sealed = sm3(span_of(reply + FINISH_CLEAR_BYTES, sealed));
    begin_records(c, &finish_sealed);
    *reply_size = FINISH_CLEAR_BYTES + sealed;
    c->state = CHANNEL_EXPECT_READY;
    return FAULT_NONE;
}

enum channel_fault handshake_accept(struct channel *c, uint8_t *frame, size_t size,
                                    struct span *shown)
{
    if (size < FINISH_CLEAR_BYTES || size > CHANNEL_FLIGHT_BYTES_MAX ||
        frame[0] != CHANNEL_FRAME_FINISH)
        return FAULT_ENCODING;
    const sm3_digest finish_sealed =
        sm3(span_of(frame + FINISH_CLEAR_BYTES, size - FINISH_CLEAR_BYTES));
    transcript_2(c, &c->answer_sealed, frame);
    enum channel_fault fault =
        check_proof(c, &side_i, (enum credential_kind)frame[1], frame + FINISH_CLEAR_BYTES,
                    size - FINISH_CLEAR_BYTES, shown);
    if (fault == FAULT_NONE)
        begin_records(c, &finish_sealed);
    return fault;
}
