/* The hash key generator: Count and Seed per direction give each message its key, and are moved on.
 *
 * What is received is tried on copies; only a tag that verifies makes the copies the state. */
#include "keyagree/session.h"

#include "base/check.h"
#include "crypto/secret.h"

#include <string.h>

#define LABEL "amiledger session v1"
/* Of a message's material: the SM4 key, then the nonce. */
#define MATERIAL_BYTES (SM4_KEY_BYTES + GCM_NONCE_BYTES)

enum direction { METER_TO_DC = 1, DC_TO_METER = 2 };

_Static_assert(SESSION_WINDOW <= 8, "skipped_mask has eight bits");
_Static_assert(KEY_CHAIN_MATERIAL_BYTES >= MATERIAL_BYTES, "one digest gives key and nonce");

static sm3_digest parties_digest(const struct agree_terms *terms)
{
    uint8_t bytes[8 + 2 * (1 + AMI_ID_BYTES_MAX + 4)];
    struct writer w = writer_on(bytes, sizeof bytes);
    write_u64(&w, terms->session);
    write_id(&w, &terms->meter);
    write_u32(&w, terms->epoch);
    write_id(&w, &terms->dc);
    write_u32(&w, terms->dc_epoch);
    AMI_CHECK(writer_ok(&w));
    const struct span part = writer_span(&w);
    return sm3_labelled("amiledger session parties v1", &part, 1);
}

static struct span aad_of(uint8_t out[SM3_BYTES + 10], const struct session *s,
                          enum direction direction, uint64_t count, uint8_t kind)
{
    memcpy(out, s->parties.b, SM3_BYTES); /* session id and both IDs */
    out[SM3_BYTES] = (uint8_t)direction;
    store_be64(out + SM3_BYTES + 1, count);
    out[SM3_BYTES + 9] = kind;
    return span_of(out, SM3_BYTES + 10);
}

static void split(sm4_key *key, gcm_nonce *nonce, const uint8_t material[MATERIAL_BYTES])
{
    memcpy(key->b, material, sizeof key->b);
    memcpy(nonce->b, material + sizeof key->b, sizeof nonce->b);
}

void session_begin(struct session *out, bool meter_side, const uint8_t k[AGREE_KEY_BYTES],
                   const struct agree_terms *terms, uint32_t messages_max, uint32_t seconds_max,
                   uint32_t now_s)
{
    memset(out, 0, sizeof *out);
    out->id = terms->session;
    out->parties = parties_digest(terms);
    const struct span secret = span_of(k, AGREE_KEY_BYTES);
    const enum direction to = meter_side ? METER_TO_DC : DC_TO_METER;
    const enum direction from = meter_side ? DC_TO_METER : METER_TO_DC;
    key_chain_begin(&out->send, secret, LABEL, (uint8_t)to, &out->parties);
    key_chain_begin(&out->receive, secret, LABEL, (uint8_t)from, &out->parties);
    out->meter_side = meter_side;
    out->open = true;
    out->opened_s = now_s;
    out->messages_max = messages_max;
    out->seconds_max = seconds_max;
}

void session_wipe(struct session *s)
{
    secret_wipe(s, sizeof *s);
}

static bool out_of_time(const struct session *s, uint32_t now_s)
{
    return now_s - s->opened_s >= s->seconds_max;
}

enum ami_status session_check(const struct session *s, uint32_t now_s)
{
    if (!s->open)
        return AMI_NO_SESSION;
    if (out_of_time(s, now_s) || s->send.next >= s->messages_max ||
        s->receive.next >= s->messages_max)
        return AMI_SESSION_ENDED;
    return AMI_OK;
}

uint64_t session_left(const struct session *s)
{
    return s->open && s->send.next < s->messages_max ? s->messages_max - s->send.next : 0;
}

void session_expire(struct session *s, uint32_t now_s)
{
    if (s->skipped_mask != 0 && now_s - s->skipped_s >= SESSION_SKIPPED_SECONDS) {
        secret_wipe(s->skipped, sizeof s->skipped);
        s->skipped_mask = 0;
    }
}

enum ami_status session_seal(struct session *s, struct session_data *out, uint8_t *buffer,
                             uint8_t kind, struct span plain, uint32_t now_s)
{
    if (!s->open)
        return AMI_NO_SESSION;
    session_expire(s, now_s);
    if (out_of_time(s, now_s) || s->send.next >= s->messages_max)
        return AMI_SESSION_ENDED;
    if (plain.size > SESSION_PLAIN_BYTES_MAX)
        return AMI_TOO_LARGE;
    uint8_t material[KEY_CHAIN_MATERIAL_BYTES], aad[SM3_BYTES + 10];
    sm4_key key;
    gcm_nonce nonce;
    uint64_t count = s->send.next;
    key_chain_step(&s->send, material);
    split(&key, &nonce, material);
    sm4gcm_seal(buffer, &key, &nonce,
                aad_of(aad, s, s->meter_side ? METER_TO_DC : DC_TO_METER, count, kind), plain);
    *out = (struct session_data){
        .session = s->id,
        .count = count,
        .kind = kind,
        .sealed = span_of(buffer, plain.size + GCM_TAG_BYTES),
    };
    secret_wipe(material, sizeof material);
    secret_wipe(&key, sizeof key);
    return AMI_OK;
}

static enum ami_status open_with(const struct session *s, uint8_t *plain,
                                 const struct session_data *in,
                                 const uint8_t material[MATERIAL_BYTES])
{
    uint8_t aad[SM3_BYTES + 10];
    sm4_key key;
    gcm_nonce nonce;
    split(&key, &nonce, material);
    enum ami_status status = sm4gcm_open(
        plain, &key, &nonce,
        aad_of(aad, s, s->meter_side ? DC_TO_METER : METER_TO_DC, in->count, in->kind), in->sealed);
    secret_wipe(&key, sizeof key);
    return status;
}

/* A message that others have overtaken: its key was kept, once. */
static enum ami_status open_late(struct session *s, uint8_t *plain, const struct session_data *in)
{
    unsigned slot = (unsigned)(in->count % SESSION_WINDOW);
    /* The highest number seen is next - 1; keys are kept for the W numbers before it. */
    if (s->receive.next - 1 - in->count > SESSION_WINDOW || (s->skipped_mask >> slot & 1) == 0 ||
        in->count == s->receive.next - 1)
        return AMI_REPLAYED;
    AMI_TRY(open_with(s, plain, in, s->skipped[slot]));
    secret_wipe(s->skipped[slot], sizeof s->skipped[slot]);
    s->skipped_mask &= (uint8_t) ~(1u << slot);
    return AMI_OK;
}

/* The next message, or one up to W numbers further: the keys in between are kept. */
static enum ami_status open_ahead(struct session *s, uint8_t *plain, const struct session_data *in,
                                  uint32_t now_s)
{
    struct key_chain chain = s->receive;
    uint8_t kept[SESSION_WINDOW][KEY_CHAIN_MATERIAL_BYTES], material[KEY_CHAIN_MATERIAL_BYTES];
    unsigned kept_count = 0;
    while (chain.next < in->count)
        key_chain_step(&chain, kept[kept_count++]);
    key_chain_step(&chain, material);
    enum ami_status status = open_with(s, plain, in, material);
    if (status == AMI_OK) {
        /* Numbers that fall out of the W before the new highest one lose their keys: those are
         * chain.next - 1 - W - 1 and below, as far as they were kept. */
        for (uint64_t c =
                 s->receive.next > SESSION_WINDOW + 1 ? s->receive.next - 1 - SESSION_WINDOW : 0;
             c < s->receive.next && c + SESSION_WINDOW < in->count; c++) {
            unsigned slot = (unsigned)(c % SESSION_WINDOW);
            secret_wipe(s->skipped[slot], sizeof s->skipped[slot]);
            s->skipped_mask &= (uint8_t) ~(1u << slot);
        }
        for (unsigned i = 0; i < kept_count; i++) {
            unsigned slot = (unsigned)((s->receive.next + i) % SESSION_WINDOW);
            memcpy(s->skipped[slot], kept[i], sizeof s->skipped[slot]);
            s->skipped_mask |= (uint8_t)(1u << slot);
            s->skipped_s = now_s;
        }
        s->receive = chain;
    }
    secret_wipe(&chain, sizeof chain);
    secret_wipe(kept, sizeof kept);
    secret_wipe(material, sizeof material);
    return status;
}

enum ami_status session_open(struct session *s, uint8_t *plain, size_t *plain_size,
                             const struct session_data *in, uint32_t now_s)
{
    if (!s->open || in->session != s->id)
        return AMI_NO_SESSION;
    session_expire(s, now_s);
    if (out_of_time(s, now_s) || in->count >= s->messages_max)
        return AMI_SESSION_ENDED;
    if (in->sealed.size < GCM_TAG_BYTES)
        return AMI_BAD_CRYPTO;
    if (in->count >= s->receive.next && in->count - s->receive.next > SESSION_WINDOW)
        return AMI_SEQUENCE_AHEAD;
    enum ami_status status =
        in->count < s->receive.next ? open_late(s, plain, in) : open_ahead(s, plain, in, now_s);
    if (status == AMI_OK)
        *plain_size = in->sealed.size - GCM_TAG_BYTES;
    return status;
}
