/* Records. Number i of a direction (1 from the initiator, 2 to it) takes material M_i of that
 * direction's key chain. P is the payload and behind it one byte of type; H = direction u8, i u64.
 *
 *   sm4-gcm           key M[0..16), nonce M[16..28):  GCM(H as associated data, P)
 *   sm4-ctr-hmac-sm3  k, counter, m = KDF(M || "amiledger channel ctr-hmac v1" 00), 16, 16, 32
 * bytes: C = CTR(k, counter, P), then HMAC-SM3(m, H || C)
 *
 * The numbers do not travel: frames come in order, and one that was left out, repeated, moved,
 * reflected or altered has another key and fails. The type is inside, so that a close looks like
 * any other record.
 */
#include "channel/internal.h"

#include "base/check.h"
#include "crypto/secret.h"
#include "crypto/sm4ctr.h"

#include <string.h>

#define HEAD_BYTES 9

enum direction { FROM_INITIATOR = 1, FROM_RESPONDER = 2 };

struct record_keys {
    sm4_key key;
    gcm_nonce nonce;
    uint8_t counter[SM4_BLOCK_BYTES];
    sm3_digest mac;
    uint8_t head[HEAD_BYTES];
};

/* Keys of the chain's next record; the chain moves on. */
static void record_keys(struct record_keys *out, struct key_chain *chain, uint8_t suite,
                        enum direction direction)
{
    static const char label[] = "amiledger channel ctr-hmac v1";
    uint8_t material[KEY_CHAIN_MATERIAL_BYTES], wide[SM4_KEY_BYTES + SM4_BLOCK_BYTES + SM3_BYTES];
    out->head[0] = (uint8_t)direction;
    store_be64(out->head + 1, chain->next);
    key_chain_step(chain, material);
    if (suite == CHANNEL_SM4_GCM) {
        memcpy(out->key.b, material, sizeof out->key.b);
        memcpy(out->nonce.b, material + sizeof out->key.b, sizeof out->nonce.b);
    } else {
        const struct span parts[] = {span_of(material, sizeof material),
                                     span_of(label, sizeof label)};
        sm2_kdf(wide, sizeof wide, parts, 2);
        memcpy(out->key.b, wide, sizeof out->key.b);
        memcpy(out->counter, wide + SM4_KEY_BYTES, sizeof out->counter);
        memcpy(out->mac.b, wide + SM4_KEY_BYTES + SM4_BLOCK_BYTES, sizeof out->mac.b);
        secret_wipe(wide, sizeof wide);
    }
    secret_wipe(material, sizeof material);
}

static sm3_digest mac_of(const struct record_keys *k, struct span sealed)
{
    const struct span parts[] = {span_of(k->head, HEAD_BYTES), sealed};
    return hmac_sm3(span_of(k->mac.b, sizeof k->mac.b), parts, 2);
}

size_t record_seal(struct channel *c, uint8_t *out, enum record_type type, struct span plain)
{
    struct record_keys k;
    const size_t size = plain.size + 1;
    record_keys(&k, &c->send, c->suite, c->initiator ? FROM_INITIATOR : FROM_RESPONDER);
    if (plain.size > 0 && out != plain.data)
        memcpy(out, plain.data, plain.size);
    out[plain.size] = (uint8_t)type;
    size_t sealed = size;
    if (c->suite == CHANNEL_SM4_GCM) {
        sm4gcm_seal(out, &k.key, &k.nonce, span_of(k.head, HEAD_BYTES), span_of(out, size));
        sealed += GCM_TAG_BYTES;
    } else {
        sm4ctr_xor(out, &k.key, k.counter, span_of(out, size));
        sm3_digest mac = mac_of(&k, span_of(out, size));
        memcpy(out + size, mac.b, sizeof mac.b);
        sealed += sizeof mac.b;
    }
    secret_wipe(&k, sizeof k);
    return sealed;
}

enum channel_fault record_open(struct channel *c, uint8_t *record, size_t size,
                               enum record_type *type, size_t *plain_size)
{
    struct record_keys k;
    const size_t tag = c->suite == CHANNEL_SM4_GCM ? GCM_TAG_BYTES : SM3_BYTES;
    if (size < tag + 1)
        return FAULT_RECORD;
    const size_t text = size - tag;
    record_keys(&k, &c->receive, c->suite, c->initiator ? FROM_RESPONDER : FROM_INITIATOR);
    bool good;
    if (c->suite == CHANNEL_SM4_GCM) {
        good = sm4gcm_open(record, &k.key, &k.nonce, span_of(k.head, HEAD_BYTES),
                           span_of(record, size)) == AMI_OK;
    } else {
        sm3_digest mac = mac_of(&k, span_of(record, text));
        good = secret_equal(mac.b, record + text, sizeof mac.b);
        if (good)
            sm4ctr_xor(record, &k.key, k.counter, span_of(record, text));
        secret_wipe(&mac, sizeof mac);
    }
    secret_wipe(&k, sizeof k);
    if (!good)
        return FAULT_RECORD;
    secret_disclose(record, text); /* what it means is acted upon */
    *type = (enum record_type)record[text - 1];
    *plain_size = text - 1;
    return FAULT_NONE;
}
