#include "wire/identity.h"

#include "base/check.h"
#include "wire/codec.h"

#include <string.h>

sm3_digest network_id(const struct network *net)
{
    uint8_t bytes[1 + AMI_ID_BYTES_MAX + 1 + 4 * SM2_POINT_BYTES];
    struct writer w = writer_on(bytes, sizeof bytes);
    write_id(&w, &net->name);
    write_u8(&w, net->scheme);
    const point *const points[] = {&net->p_pub, &net->sign, &net->enrol, &net->readings};
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++) {
        point_bytes encoded = point_encode(points[i]);
        write_raw(&w, encoded.b, sizeof encoded.b);
    }
    AMI_CHECK(writer_ok(&w));
    struct span part = writer_span(&w);
    return sm3_labelled("amiledger network v1", &part, 1);
}

void network_finish(struct network *net)
{
    net->id = network_id(net);
    net->sign_z = sm2_z(SPAN_LITERAL("amiledger mdms"), &net->sign);
}

struct span key_id(uint8_t out[KEY_ID_BYTES_MAX], const struct network *net, enum key_role role,
                   const struct ami_id *name, uint32_t epoch)
{
    static const char label[] = "amiledger id v1"; /* with its terminating zero */
    struct writer w = writer_on(out, KEY_ID_BYTES_MAX);
    write_raw(&w, label, sizeof label);
    write_raw(&w, net->id.b, sizeof net->id.b);
    write_u8(&w, (uint8_t)role);
    write_u32(&w, epoch);
    write_id(&w, name);
    AMI_CHECK(writer_ok(&w));
    return writer_span(&w);
}

sm3_digest key_h_a(const struct network *net, enum key_role role, const struct ami_id *name,
                   uint32_t epoch)
{
    uint8_t bytes[KEY_ID_BYTES_MAX];
    return sm2_z(key_id(bytes, net, role, name, epoch), &net->p_pub);
}

enum ami_status verify_key_init(struct verify_key *out, const struct network *net,
                                enum key_role role, const struct ami_id *name, uint32_t epoch,
                                const point_bytes *w)
{
    struct verify_key_request request = {
        .out = out, .role = role, .name = name, .epoch = epoch, .w = w};
    return verify_key_init_batch(&request, net, 1);
}

enum ami_status verify_key_init_batch(struct verify_key_request *in, const struct network *net,
                                      size_t count)
{
    point_bytes w_bytes[VERIFY_KEY_BATCH] = {0};
    point w[VERIFY_KEY_BATCH], p[VERIFY_KEY_BATCH];
    sm3_digest h_a[VERIFY_KEY_BATCH];
    bool decoded[VERIFY_KEY_BATCH], finite[VERIFY_KEY_BATCH];
    AMI_CHECK(count <= VERIFY_KEY_BATCH);
    for (size_t i = 0; i < count; i++) {
        w_bytes[i] = *in[i].w;
        h_a[i] = key_h_a(net, in[i].role, in[i].name, in[i].epoch);
    }
    const bool all_decoded = point_decode_batch(w, decoded, w_bytes, count) == AMI_OK;
    for (size_t i = 0; !all_decoded && i < count; i++)
        if (!decoded[i])
            w[i] = *point_generator(); /* keeps the group whole; its result is not used */
    enum ami_status status = sm2_implicit_public_batch(p, finite, w, h_a, &net->p_pub, count);
    for (size_t i = 0; i < count; i++) {
        in[i].status = decoded[i] && finite[i] ? AMI_OK : AMI_BAD_CRYPTO;
        if (in[i].status == AMI_OK)
            *in[i].out = (struct verify_key){.h_a = h_a[i], .w = w[i], .p = p[i]};
        else
            status = AMI_BAD_CRYPTO;
    }
    return status;
}

void verify_key_message(struct verify_key_message *out, const struct verify_key *key,
                        const char *label, const struct span *parts, size_t count)
{
    struct span all[1 + VERIFY_KEY_PARTS];
    AMI_CHECK(count <= VERIFY_KEY_PARTS);
    all[0] = span_of(label, strlen(label) + 1); /* the zero separates label and parts */
    for (size_t i = 0; i < count; i++)
        all[i + 1] = parts[i];
    out->count = sm2_implicit_parts(out->parts, out->xy, &key->h_a, &key->w, all, count + 1);
}

sm3_digest verify_key_digest(const struct verify_key *key, const char *label,
                             const struct span *parts, size_t count)
{
    struct verify_key_message m;
    verify_key_message(&m, key, label, parts, count);
    return sm3_parts(m.parts, m.count);
}

enum ami_status verify_key_check(const struct verify_key *key, const char *label,
                                 const struct span *parts, size_t count, const sm2_signature *sig)
{
    sm3_digest e = verify_key_digest(key, label, parts, count);
    return sm2_verify(&key->p, &e, sig);
}

sm2_signature sign_key_sign(const struct sign_key *key, const char *label, const struct span *parts,
                            size_t count, const uint8_t random[SM2_WIDE_BYTES])
{
    sm3_digest e = verify_key_digest(&key->public_key, label, parts, count);
    return sm2_sign(&key->private_key, &e, random);
}
