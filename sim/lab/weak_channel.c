#include "sim/lab/weak_channel.h"

#include "base/check.h"
#include "crypto/secret.h"
#include "crypto/sm4ctr.h"

#include <string.h>

#define ANSWER_CLEAR_BYTES (5 + CREDENTIAL_NONCE_BYTES + SM2_POINT_BYTES)
#define FINISH_CLEAR_BYTES 2
#define PROOF_BYTES        (SM2_SIGNATURE_BYTES + SM3_BYTES)
/* From here on a flight's clear part is nonce and ephemeral key. */
#define FIRST_NONCE_AT  (4 + SM3_BYTES)
#define ANSWER_NONCE_AT 5

enum { READY = 1, DATA = 2, CLOSE = 3 };

static unsigned left_out;

void weak_channel_without(unsigned what)
{
    left_out = what;
}

static bool without(enum channel_without what)
{
    return (left_out & what) != 0;
}

static struct span digest_span(const sm3_digest *d)
{
    return span_of(d->b, sizeof d->b);
}

/* --- transcript and keys --------------------------------------------------------------------- */

static void to_t1(struct channel *c, const uint8_t clear[ANSWER_CLEAR_BYTES])
{
    size_t first = without(WITHOUT_CLEAR_PARTS) ? FIRST_NONCE_AT : 0;
    size_t answer = without(WITHOUT_CLEAR_PARTS) ? ANSWER_NONCE_AT : 0;
    const struct span parts[] = {span_of(c->first + first, sizeof c->first - first),
                                 span_of(clear + answer, ANSWER_CLEAR_BYTES - answer)};
    c->transcript = sm3_labelled("amiledger channel T1 v1", parts, 2);
}

static void to_t2(struct channel *c, const sm3_digest *answer, const uint8_t *clear)
{
    const struct span parts[] = {
        digest_span(&c->transcript), digest_span(answer),
        span_of(clear, without(WITHOUT_CLEAR_PARTS) ? 0 : FINISH_CLEAR_BYTES)};
    c->transcript = sm3_labelled("amiledger channel T2 v1", parts, 3);
}

static void to_t3(struct channel *c, const sm3_digest *finish)
{
    const struct span parts[] = {digest_span(&c->transcript), digest_span(finish)};
    c->transcript =
        sm3_labelled("amiledger channel T3 v1", parts, without(WITHOUT_CONFIRMATION) ? 1 : 2);
}

static sm3_digest derive(const struct channel *c, const char *label)
{
    const struct span parts[] = {span_of(label, strlen(label) + 1), digest_span(&c->transcript)};
    return hmac_sm3(digest_span(&c->shared), parts, 2);
}

static void to_shared(struct channel *c, const point *v)
{
    uint8_t xy[SM2_XY_BYTES];
    point_xy(xy, v);
    const struct span part = span_of(xy, sizeof xy);
    c->shared = hmac_sm3(digest_span(&c->transcript), &part, 1);
}

static void to_records(struct channel *c)
{
    static const char label[] = "amiledger channel records v1";
    sm3_digest a = derive(c, label);
    struct key_chain *from_i = c->initiator ? &c->send : &c->receive;
    struct key_chain *from_r = c->initiator ? &c->receive : &c->send;
    key_chain_begin(from_i, digest_span(&a), label, 1, &c->transcript);
    key_chain_begin(from_r, digest_span(&a), label, without(WITHOUT_DIRECTIONS) ? 1 : 2,
                    &c->transcript);
    secret_wipe(&c->shared, sizeof c->shared);
}

/* --- proofs ---------------------------------------------------------------------------------- */

struct side {
    const char *sign, *seal, *confirm;
};
static const struct side side_r = {"amiledger channel responder v1",
                                   "amiledger channel seal responder v1",
                                   "amiledger channel confirm responder v1"};
static const struct side side_i = {"amiledger channel initiator v1",
                                   "amiledger channel seal initiator v1",
                                   "amiledger channel confirm initiator v1"};

static void seal_key(sm4_key *key, gcm_nonce *nonce, const struct channel *c,
                     const struct side *side)
{
    sm3_digest h = derive(c, side->seal);
    memcpy(key->b, h.b, sizeof key->b);
    memcpy(nonce->b, h.b + sizeof key->b, sizeof nonce->b);
}

static sm3_digest confirmation(const struct channel *c, const struct side *side, struct span proven)
{
    sm3_digest key = derive(c, side->confirm);
    const struct span parts[] = {digest_span(&c->transcript), proven};
    return hmac_sm3(digest_span(&key), parts, 2);
}

/* `sealed`: as it should be, which it is not when S is unknown. */
static size_t prove(struct channel *c, const struct side *side, uint8_t *out, bool sealed)
{
    const struct credential *own = c->config->own;
    const struct credential_moment at = {c->wall_ms, c->peer_nonce};
    size_t size = credential_show(out, own, &at);
    const struct span parts[] = {digest_span(&c->transcript), span_of(out, size)};
    sm2_signature sig = credential_sign(own, side->sign, parts, 2, c->sign_random);
    memcpy(out + size, sig.b, sizeof sig.b);
    size += sizeof sig.b;
    if (!sealed) {
        memset(out + size, 0, SM3_BYTES + GCM_TAG_BYTES);
        return size + SM3_BYTES + GCM_TAG_BYTES;
    }
    sm4_key key;
    gcm_nonce nonce;
    sm3_digest tag = confirmation(c, side, span_of(out, size));
    memcpy(out + size, tag.b, sizeof tag.b);
    size += sizeof tag.b;
    seal_key(&key, &nonce, c, side);
    sm4gcm_seal(out, &key, &nonce, digest_span(&c->transcript), span_of(out, size));
    return size + GCM_TAG_BYTES;
}

static bool open_proof(const struct channel *c, const struct side *side, uint8_t *sealed,
                       size_t size)
{
    sm4_key key;
    gcm_nonce nonce;
    const size_t proven = size - SM3_BYTES - GCM_TAG_BYTES;
    seal_key(&key, &nonce, c, side);
    if (sm4gcm_open(sealed, &key, &nonce, digest_span(&c->transcript), span_of(sealed, size)) !=
        AMI_OK)
        return false;
    sm3_digest tag = confirmation(c, side, span_of(sealed, proven));
    return secret_equal(tag.b, sealed + proven, sizeof tag.b);
}

static enum channel_fault check_proof(struct channel *c, const struct side *side,
                                      enum credential_kind kind, uint8_t *sealed, size_t size)
{
    struct credential_trust trust = *c->config->trust;
    struct credential_peer peer;
    sm2_signature sig;
    if (size < PROOF_BYTES + GCM_TAG_BYTES)
        return FAULT_ENCODING;
    if (!without(WITHOUT_CONFIRMATION) && !open_proof(c, side, sealed, size))
        return FAULT_ALTERED;
    const struct span shown = span_of(sealed, size - PROOF_BYTES - GCM_TAG_BYTES);
    memcpy(sig.b, sealed + shown.size, sizeof sig.b);
    const struct credential_moment at = {c->wall_ms, c->nonce};
    if (without(WITHOUT_KINDS))
        trust.kinds = CREDENTIAL_ALL_BITS;
    enum channel_fault fault = credential_read(&peer, kind, shown, &trust, &at);
    if (fault != FAULT_NONE)
        return fault;
    if (without(WITHOUT_ISSUER) && peer.implicit)
        peer.p = peer.w; /* what is shown for the key is the key */
    const struct span parts[] = {digest_span(&c->transcript), shown};
    if (!without(WITHOUT_SIGNATURE))
        fault = credential_verify(&peer, side->sign, parts, 2, &sig);
    if (fault == FAULT_NONE && !without(WITHOUT_ISSUER))
        fault = credential_vouched(&peer, shown, &trust, &at);
    if (fault != FAULT_NONE)
        return fault;
    if (!without(WITHOUT_SELF) &&
        memcmp(&peer.who.key, &c->config->own->who.key, sizeof peer.who.key) == 0)
        return FAULT_SELF;
    fault = c->config->accept(c->config->accept_ctx, &peer.who);
    if (fault == FAULT_NONE) {
        c->peer = peer.who;
        c->standing = CHANNEL_PROVEN;
        c->welcome = true;
    }
    return fault;
}

/* --- flights --------------------------------------------------------------------------------- */

scalar weak_channel_ephemeral(const scalar *d, const uint8_t nonce[CREDENTIAL_NONCE_BYTES])
{
    uint8_t encoded[SM2_SCALAR_BYTES], wide[SM2_WIDE_BYTES];
    scalar_encode(encoded, d);
    const struct span parts[] = {span_of(encoded, sizeof encoded),
                                 span_of(nonce, CREDENTIAL_NONCE_BYTES)};
    sm2_kdf(wide, sizeof wide, parts, 2);
    return scalar_from_wide(wide);
}

static void start(struct channel *c, const struct channel_config *config, bool initiator,
                  const uint8_t random[CHANNEL_RANDOM_BYTES], int64_t wall_ms)
{
    channel_start(c, config, initiator, random, wall_ms);
    if (without(WITHOUT_FRESH_KEYS))
        c->secret = weak_channel_ephemeral(&config->own->key.d, c->nonce);
}

static bool peer_point(point *out, const uint8_t *in)
{
    point_bytes bytes;
    memcpy(bytes.b, in, sizeof bytes.b);
    return point_decode(out, &bytes) == AMI_OK;
}

/* The exchange, when T1 is there. */
static void agree(struct channel *c, const point *peer)
{
    point v = point_mul(&c->secret, peer);
    to_shared(c, &v);
    secret_wipe(&c->secret, sizeof c->secret);
}

static enum channel_fault answer(struct channel *c, const uint8_t *frame, size_t size,
                                 uint8_t *reply, size_t *reply_size)
{
    const struct channel_config *config = c->config;
    point e, own = point_mul_base(&c->secret);
    const point_bytes encoded = point_encode(&own);
    if (size != CHANNEL_FIRST_BYTES || frame[0] != CHANNEL_FRAME_FIRST ||
        frame[1] != CHANNEL_VERSION)
        return FAULT_ENCODING;
    uint8_t both = frame[2] & config->suites;
    c->suite = (both & CHANNEL_SM4_GCM) != 0 ? CHANNEL_SM4_GCM : both;
    if (c->suite == 0)
        return FAULT_NO_SUITE;
    if (memcmp(frame + 4, config->trust->net->id.b, SM3_BYTES) != 0)
        return FAULT_OTHER_NETWORK;
    if (!without(WITHOUT_KINDS) && (frame[3] & CREDENTIAL_BIT(config->own->who.kind)) == 0)
        return FAULT_NO_KIND;
    if (!peer_point(&e, frame + FIRST_NONCE_AT + CREDENTIAL_NONCE_BYTES))
        return FAULT_POINT;
    memcpy(c->first, frame, sizeof c->first);
    memcpy(c->peer_nonce, frame + FIRST_NONCE_AT, sizeof c->peer_nonce);
    const uint8_t head[ANSWER_NONCE_AT] = {CHANNEL_FRAME_ANSWER, CHANNEL_VERSION, c->suite,
                                           config->trust->kinds, (uint8_t)config->own->who.kind};
    memcpy(reply, head, sizeof head);
    memcpy(reply + ANSWER_NONCE_AT, c->nonce, sizeof c->nonce);
    memcpy(reply + ANSWER_NONCE_AT + sizeof c->nonce, encoded.b, sizeof encoded.b);
    to_t1(c, reply);
    agree(c, &e);
    size_t proof = prove(c, &side_r, reply + ANSWER_CLEAR_BYTES, !without(WITHOUT_CONFIRMATION));
    *reply_size = ANSWER_CLEAR_BYTES + proof;
    c->answer_sealed = sm3(span_of(reply + ANSWER_CLEAR_BYTES, proof));
    c->state = CHANNEL_EXPECT_FINISH;
    return FAULT_NONE;
}

static enum channel_fault finish(struct channel *c, uint8_t *frame, size_t size, uint8_t *reply,
                                 size_t *reply_size)
{
    point e;
    if (size < ANSWER_CLEAR_BYTES || frame[0] != CHANNEL_FRAME_ANSWER ||
        frame[1] != CHANNEL_VERSION)
        return FAULT_ENCODING;
    c->suite = frame[2];
    if ((c->suite != CHANNEL_SM4_GCM && c->suite != CHANNEL_SM4_CTR_HMAC) ||
        (c->suite & c->config->suites) == 0)
        return FAULT_NO_SUITE;
    if (!without(WITHOUT_KINDS) && (frame[3] & CREDENTIAL_BIT(c->config->own->who.kind)) == 0)
        return FAULT_NO_KIND;
    if (!peer_point(&e, frame + ANSWER_NONCE_AT + CREDENTIAL_NONCE_BYTES))
        return FAULT_POINT;
    memcpy(c->peer_nonce, frame + ANSWER_NONCE_AT, sizeof c->peer_nonce);
    to_t1(c, frame);
    agree(c, &e);
    uint8_t *proof = frame + ANSWER_CLEAR_BYTES;
    const sm3_digest sealed = sm3(span_of(proof, size - ANSWER_CLEAR_BYTES));
    enum channel_fault fault =
        check_proof(c, &side_r, (enum credential_kind)frame[4], proof, size - ANSWER_CLEAR_BYTES);
    if (fault != FAULT_NONE)
        return fault;
    reply[0] = CHANNEL_FRAME_FINISH;
    reply[1] = (uint8_t)c->config->own->who.kind;
    to_t2(c, &sealed, reply);
    size_t own = prove(c, &side_i, reply + FINISH_CLEAR_BYTES, !without(WITHOUT_CONFIRMATION));
    const sm3_digest own_sealed = sm3(span_of(reply + FINISH_CLEAR_BYTES, own));
    to_t3(c, &own_sealed);
    to_records(c);
    *reply_size = FINISH_CLEAR_BYTES + own;
    c->state = CHANNEL_EXPECT_READY;
    return FAULT_NONE;
}

static enum channel_fault accept_finish(struct channel *c, uint8_t *frame, size_t size)
{
    if (size < FINISH_CLEAR_BYTES || frame[0] != CHANNEL_FRAME_FINISH)
        return FAULT_ENCODING;
    uint8_t *proof = frame + FINISH_CLEAR_BYTES;
    const sm3_digest sealed = sm3(span_of(proof, size - FINISH_CLEAR_BYTES));
    to_t2(c, &c->answer_sealed, frame);
    enum channel_fault fault =
        check_proof(c, &side_i, (enum credential_kind)frame[1], proof, size - FINISH_CLEAR_BYTES);
    if (fault != FAULT_NONE)
        return fault;
    to_t3(c, &sealed);
    to_records(c);
    c->state = CHANNEL_UP;
    return FAULT_NONE;
}

/* --- records --------------------------------------------------------------------------------- */

struct record_keys {
    sm4_key key;
    gcm_nonce nonce;
    uint8_t counter[SM4_BLOCK_BYTES];
    sm3_digest mac;
    uint8_t head[9];
};

static void keys_of(struct record_keys *k, uint8_t suite, uint8_t direction, uint64_t number,
                    const uint8_t material[KEY_CHAIN_MATERIAL_BYTES])
{
    static const char label[] = "amiledger channel ctr-hmac v1";
    memset(k, 0, sizeof *k);
    k->head[0] = without(WITHOUT_DIRECTIONS) ? 0 : direction;
    store_be64(k->head + 1, number);
    if (suite == CHANNEL_SM4_GCM) {
        memcpy(k->key.b, material, sizeof k->key.b);
        memcpy(k->nonce.b, material + sizeof k->key.b, sizeof k->nonce.b);
    } else {
        uint8_t wide[SM4_KEY_BYTES + SM4_BLOCK_BYTES + SM3_BYTES];
        const struct span parts[] = {span_of(material, KEY_CHAIN_MATERIAL_BYTES),
                                     span_of(label, sizeof label)};
        sm2_kdf(wide, sizeof wide, parts, 2);
        memcpy(k->key.b, wide, sizeof k->key.b);
        memcpy(k->counter, wide + SM4_KEY_BYTES, sizeof k->counter);
        memcpy(k->mac.b, wide + SM4_KEY_BYTES + SM4_BLOCK_BYTES, sizeof k->mac.b);
    }
    for (size_t i = 0; i < 8 && without(WITHOUT_NEW_KEYS); i++) {
        k->nonce.b[i] ^= k->head[1 + i];
        k->counter[i] ^= k->head[1 + i];
    }
}

static void next_keys(struct record_keys *k, struct key_chain *chain, uint8_t suite,
                      uint8_t direction)
{
    const struct key_chain before = *chain;
    uint8_t material[KEY_CHAIN_MATERIAL_BYTES];
    key_chain_step(chain, material);
    if (without(WITHOUT_NEW_KEYS)) {
        struct key_chain first = before;
        first.next = 0;
        key_chain_step(&first, material);
    }
    if (without(WITHOUT_NEW_KEYS) || without(WITHOUT_HASHING))
        memcpy(chain->seed, before.seed, sizeof chain->seed);
    if (without(WITHOUT_NUMBERS))
        *chain = before;
    keys_of(k, suite, direction, before.next, material);
}

static sm3_digest mac_of(const struct record_keys *k, struct span sealed)
{
    const struct span parts[] = {span_of(k->head, sizeof k->head), sealed};
    return hmac_sm3(digest_span(&k->mac), parts, 2);
}

static size_t seal_record(struct channel *c, uint8_t *out, uint8_t type, struct span plain)
{
    struct record_keys k;
    const size_t size = plain.size + 1;
    next_keys(&k, &c->send, c->suite, c->initiator ? 1 : 2);
    if (plain.size > 0 && out != plain.data)
        memcpy(out, plain.data, plain.size);
    out[plain.size] = type;
    if (c->suite == CHANNEL_SM4_GCM) {
        sm4gcm_seal(out, &k.key, &k.nonce, span_of(k.head, sizeof k.head), span_of(out, size));
        return size + GCM_TAG_BYTES;
    }
    sm4ctr_xor(out, &k.key, k.counter, span_of(out, size));
    const sm3_digest mac = mac_of(&k, span_of(out, size));
    memcpy(out + size, mac.b, sizeof mac.b);
    return size + sizeof mac.b;
}

/* In place; returns how much there is, with the type's byte, 0 when it is not what was sealed. */
static size_t open_record(const struct record_keys *k, uint8_t suite, uint8_t *record, size_t size)
{
    const bool gcm = suite == CHANNEL_SM4_GCM;
    const size_t tag = gcm ? GCM_TAG_BYTES : SM3_BYTES;
    if (size < tag + 1)
        return 0;
    const struct span text = span_of(record, size - tag);
    if (gcm && !without(WITHOUT_TAGS))
        return sm4gcm_open(record, &k->key, &k->nonce, span_of(k->head, sizeof k->head),
                           span_of(record, size)) == AMI_OK
                   ? text.size
                   : 0;
    if (gcm) { /* counter mode from 2 on: 1 is the tag's */
        uint8_t counter[SM4_BLOCK_BYTES] = {[SM4_BLOCK_BYTES - 1] = 2};
        memcpy(counter, k->nonce.b, sizeof k->nonce.b);
        sm4ctr_xor(record, &k->key, counter, text);
        return text.size;
    }
    const sm3_digest mac = mac_of(k, text);
    if (!without(WITHOUT_TAGS) && !secret_equal(mac.b, record + text.size, sizeof mac.b))
        return 0;
    sm4ctr_xor(record, &k->key, k->counter, text);
    return text.size;
}

/* --- the whole ------------------------------------------------------------------------------- */

static struct channel_result down(struct channel *c, enum channel_event event,
                                  enum channel_fault fault)
{
    c->state = CHANNEL_DOWN;
    c->fault = fault;
    return (struct channel_result){.event = event};
}

static struct channel_result on_record(struct channel *c, uint8_t *frame, size_t size)
{
    struct record_keys k;
    struct channel_result result = {.event = CHANNEL_DATA};
    next_keys(&k, &c->receive, c->suite, c->initiator ? 2 : 1);
    size_t text = open_record(&k, c->suite, frame, size);
    if (text == 0)
        return down(c, CHANNEL_FAILED, FAULT_RECORD);
    const uint8_t type = frame[text - 1];
    if (type == CLOSE)
        return down(c, CHANNEL_CLOSED, FAULT_NONE);
    if ((type == READY) != (c->state == CHANNEL_EXPECT_READY) || (type != READY && type != DATA))
        return down(c, CHANNEL_FAILED, FAULT_RECORD);
    result.data = span_of(frame, text - 1);
    if (type == READY) {
        c->state = CHANNEL_UP;
        result.event = CHANNEL_OPEN;
    }
    return result;
}

static struct channel_result receive(struct channel *c, uint8_t *frame, size_t size, uint8_t *reply,
                                     int64_t wall_ms)
{
    struct channel_result result = {.event = CHANNEL_NOTHING};
    enum channel_fault fault = FAULT_NONE;
    c->wall_ms = wall_ms;
    switch (c->state) {
    case CHANNEL_EXPECT_FIRST:
        fault = answer(c, frame, size, reply, &result.reply_size);
        break;
    case CHANNEL_EXPECT_ANSWER:
        fault = finish(c, frame, size, reply, &result.reply_size);
        break;
    case CHANNEL_EXPECT_FINISH:
        fault = accept_finish(c, frame, size);
        if (fault == FAULT_NONE) {
            result.reply_size = seal_record(c, reply, READY, span_of(NULL, 0));
            result.event = CHANNEL_OPEN;
        }
        break;
    case CHANNEL_EXPECT_READY:
    case CHANNEL_UP:
        return on_record(c, frame, size);
    default:
        return (struct channel_result){.event = CHANNEL_FAILED};
    }
    return fault == FAULT_NONE ? result : down(c, CHANNEL_FAILED, fault);
}

static size_t seal(struct channel *c, uint8_t *out, struct span plain)
{
    AMI_CHECK(c->state == CHANNEL_UP);
    return seal_record(c, out, DATA, plain);
}

static size_t say_close(struct channel *c, uint8_t out[CHANNEL_OVERHEAD_BYTES_MAX])
{
    if (c->state != CHANNEL_UP)
        return 0;
    size_t size = seal_record(c, out, CLOSE, span_of(NULL, 0));
    (void)down(c, CHANNEL_CLOSED, FAULT_NONE);
    return size;
}

static enum channel_fault cut(struct channel *c)
{
    if (c->state == CHANNEL_UP && without(WITHOUT_CLOSE))
        (void)down(c, CHANNEL_CLOSED, FAULT_NONE);
    return channel_cut(c);
}

const struct channel_form channel_form_weak = {
    .start = start, .receive = receive, .seal = seal, .close = say_close, .cut = cut};

/* --- for adversaries ------------------------------------------------------------------------- */

const uint8_t *weak_channel_nonce(const struct frame *flight)
{
    return flight->b + (flight->b[0] == CHANNEL_FRAME_FIRST ? FIRST_NONCE_AT : ANSWER_NONCE_AT);
}

point weak_channel_point(const struct frame *flight)
{
    point e;
    AMI_CHECK(peer_point(&e, weak_channel_nonce(flight) + CREDENTIAL_NONCE_BYTES));
    return e;
}

/* T1 of what travelled. */
static void overhear(struct channel *c, const struct frame flight[2])
{
    AMI_CHECK(flight[0].size == CHANNEL_FIRST_BYTES && flight[1].size > ANSWER_CLEAR_BYTES);
    memset(c, 0, sizeof *c);
    memcpy(c->first, flight[0].b, sizeof c->first);
    c->suite = flight[1].b[2];
    c->wall_ms = SUITE_WALL_MS;
    c->answer_sealed =
        sm3(span_of(flight[1].b + ANSWER_CLEAR_BYTES, flight[1].size - ANSWER_CLEAR_BYTES));
    memcpy(c->peer_nonce, weak_channel_nonce(&flight[1]), sizeof c->peer_nonce);
    to_t1(c, flight[1].b);
}

void weak_channel_of(struct channel *out, const struct channel_config *config, bool initiator,
                     const point *v, const struct frame flight[3])
{
    overhear(out, flight);
    out->config = config;
    out->initiator = initiator;
    to_shared(out, v);
    to_t2(out, &out->answer_sealed, flight[2].b);
    const sm3_digest sealed =
        sm3(span_of(flight[2].b + FINISH_CLEAR_BYTES, flight[2].size - FINISH_CLEAR_BYTES));
    to_t3(out, &sealed);
    to_records(out);
    out->state = CHANNEL_UP;
}

void weak_channel_finish(struct frame *out, const struct channel_config *config,
                         const struct frame flight[2], const uint8_t random[SM2_WIDE_BYTES])
{
    struct channel c;
    overhear(&c, flight);
    c.config = config;
    memcpy(c.sign_random, random, sizeof c.sign_random);
    out->b[0] = CHANNEL_FRAME_FINISH;
    out->b[1] = (uint8_t)config->own->who.kind;
    to_t2(&c, &c.answer_sealed, out->b);
    out->size = FINISH_CLEAR_BYTES + prove(&c, &side_i, out->b + FINISH_CLEAR_BYTES, false);
}

bool weak_channel_open(char *out, size_t out_size, const struct frame *record, uint8_t suite,
                       uint8_t direction, uint64_t number,
                       const uint8_t material[KEY_CHAIN_MATERIAL_BYTES])
{
    struct record_keys k;
    struct frame copy = *record;
    keys_of(&k, suite, direction, number, material);
    size_t text = open_record(&k, suite, copy.b, copy.size);
    if (text == 0 || text > out_size)
        return false;
    memcpy(out, copy.b, text - 1);
    out[text - 1] = 0;
    return true;
}
