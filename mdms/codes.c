/* mdms/codes.c - install codes at rest; see the header. */
#include "mdms/codes.h"

#include "base/check.h"
#include "crypto/secret.h"
#include "crypto/sm4gcm.h"

#include <string.h>

#define LABEL_CODE_STORE "amiledger code store v1"

enum ami_status code_list_begin(struct code_list *out, const struct network *net,
                                const uint8_t random[SM2_WIDE_BYTES])
{
    return sm2_encapsulate(&out->c1, out->z, sizeof out->z, &net->enrol,
                           SPAN_LITERAL(LABEL_CODE_STORE), random);
}

struct code_lock {
    sm4_key key;
    gcm_nonce nonce;
    uint8_t aad[2 + AMI_ID_BYTES_MAX];
    size_t aad_size;
};

static struct code_lock lock_of(const uint8_t z[32], uint8_t role, const struct ami_id *id)
{
    struct code_lock l;
    struct writer aad = writer_on(l.aad, sizeof l.aad);
    write_u8(&aad, role);
    write_id(&aad, id);
    AMI_CHECK(writer_ok(&aad));
    l.aad_size = aad.size;
    const struct span parts[] = {span_of(z, 32), writer_span(&aad)};
    sm3_digest d = sm3_labelled(LABEL_CODE_STORE, parts, 2);
    memcpy(l.key.b, d.b, sizeof l.key.b);
    memcpy(l.nonce.b, d.b + sizeof l.key.b, sizeof l.nonce.b);
    secret_wipe(&d, sizeof d);
    return l;
}

void code_seal(uint8_t out[CODE_SEALED_BYTES], const struct code_list *list, uint8_t role,
               const struct ami_id *id, const sm3_digest *code_hash)
{
    _Static_assert(CODE_SEALED_BYTES == SM3_BYTES + GCM_TAG_BYTES, "hash and tag");
    struct code_lock l = lock_of(list->z, role, id);
    sm4gcm_seal(out, &l.key, &l.nonce, span_of(l.aad, l.aad_size),
                span_of(code_hash->b, sizeof code_hash->b));
    secret_wipe(&l, sizeof l);
}

enum ami_status code_open(sm3_digest *code_hash, const sm2_private *enrol_key, uint8_t role,
                          const struct ami_id *id, const point_bytes *c1, struct span sealed)
{
    uint8_t z[32];
    if (sealed.size != CODE_SEALED_BYTES)
        return AMI_BAD_CRYPTO;
    AMI_TRY(sm2_decapsulate(z, sizeof z, enrol_key, c1, SPAN_LITERAL(LABEL_CODE_STORE)));
    struct code_lock l = lock_of(z, role, id);
    enum ami_status status =
        sm4gcm_open(code_hash->b, &l.key, &l.nonce, span_of(l.aad, l.aad_size), sealed);
    secret_wipe(&l, sizeof l);
    secret_wipe(z, sizeof z);
    return status;
}
