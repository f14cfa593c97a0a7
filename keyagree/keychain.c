#include "keyagree/keychain.h"

#include "crypto/secret.h"

#include <string.h>

static sm3_digest derive(struct span secret, const char *label, uint8_t direction, uint8_t what,
                         const sm3_digest *context)
{
    const uint8_t numbers[2] = {direction, what};
    const struct span parts[] = {span_of(label, strlen(label) + 1), /* with its zero */
                                 span_of(numbers, sizeof numbers),
                                 span_of(context->b, sizeof context->b)};
    return hmac_sm3(secret, parts, 3);
}

void key_chain_begin(struct key_chain *out, struct span secret, const char *label,
                     uint8_t direction, const sm3_digest *context)
{
    sm3_digest seed = derive(secret, label, direction, 1, context);
    sm3_digest base = derive(secret, label, direction, 2, context);
    out->next = 0;
    out->base = load_be64(base.b);
    memcpy(out->seed, seed.b, sizeof out->seed);
    secret_wipe(&seed, sizeof seed);
    secret_wipe(&base, sizeof base);
}

void key_chain_step(struct key_chain *c, uint8_t material[KEY_CHAIN_MATERIAL_BYTES])
{
    uint8_t count[8];
    store_be64(count, c->base + c->next); /* may wrap: it only has to differ from its neighbours */
    const struct span parts[] = {span_of(count, sizeof count), span_of(c->seed, sizeof c->seed)};
    sm3_digest digest = sm3_parts(parts, 2);
    memcpy(material, digest.b, KEY_CHAIN_MATERIAL_BYTES);
    sm3_digest seed = sm3(parts[1]);
    memcpy(c->seed, seed.b, sizeof c->seed);
    c->next++;
    secret_wipe(&digest, sizeof digest);
    secret_wipe(&seed, sizeof seed);
}
