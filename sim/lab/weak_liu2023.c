/* sim/lab/weak_liu2023.c - liu2023 once more, with protections that can be left out.
 *
 * Issuance is the real one. The flights are computed from the same formulas as in
 * keyagree/liu2023.c, one after another instead of in groups. */
#include "sim/lab/schemes.h"

#include "base/check.h"

#include <string.h>

static const struct scheme *real(void)
{
    return scheme_by_number(SCHEME_LIU2023);
}

static void device_begin(struct agree_enrolling *out, enum key_role role,
                         const uint8_t random[SM2_WIDE_BYTES])
{
    real()->device_begin(out, role, random);
}

static enum ami_status mdms_issue(struct agree_secret *secret, struct agree_part *part,
                                  const struct network *net, const scalar *x, enum key_role role,
                                  const struct ami_id *name, uint32_t epoch, struct span home,
                                  struct span request, const uint8_t random[SM2_WIDE_BYTES])
{
    return real()->mdms_issue(secret, part, net, x, role, name, epoch, home, request, random);
}

static enum ami_status device_accept(struct agree_key *out, const struct agree_enrolling *begun,
                                     const struct network *net, enum key_role role,
                                     const struct ami_id *name, uint32_t epoch, struct span secret,
                                     struct span part)
{
    AMI_TRY(real()->device_accept(out, begun, net, role, name, epoch, secret, part));
    out->scheme = lab_weak_liu2023.number;
    return AMI_OK;
}

static enum ami_status key_restore(struct agree_key *key, const struct network *net, bool check)
{
    return real()->key_restore(key, net, check);
}

static enum ami_status peer_init(struct agree_peer *out, const struct network *net,
                                 const struct ami_id *meter, uint32_t epoch, struct span part)
{
    return real()->peer_init(out, net, meter, epoch, part);
}

static enum ami_status meter_start(struct agree_state *state, const struct agree_key *key,
                                   const uint8_t random[SM2_WIDE_BYTES])
{
    return real()->meter_start(state, key, random);
}

/* A point at infinity has no encoding; here it gets all zero bytes. */
static point_bytes encode(const point *p)
{
    return point_is_infinity(p) ? (point_bytes){{0}} : point_encode(p);
}

sm3_digest lab_liu2023_tag(uint8_t number, const point_bytes *k)
{
    const struct span parts[] = {span_of(&number, 1), span_of(k->b, sizeof k->b)};
    return sm3_labelled("amiledger liu2023 tag v1", parts, 2);
}

void lab_liu2023_key(uint8_t out[AGREE_KEY_BYTES], const struct network *net,
                     const struct agree_terms *terms, const point_bytes *k)
{
    static const char label[] = "amiledger liu2023 key v1";
    uint8_t sm[KEY_ID_BYTES_MAX], dc[KEY_ID_BYTES_MAX];
    struct span sm_id = key_id(sm, net, ROLE_METER_AGREE, &terms->meter, terms->epoch);
    struct span dc_id = key_id(dc, net, ROLE_DC_AGREE, &terms->dc, terms->dc_epoch);
    if (lab_left_out(WITHOUT_NAMES))
        sm_id.size = dc_id.size = 0;
    const struct span parts[] = {span_of(label, sizeof label), sm_id, dc_id,
                                 span_of(k->b, sizeof k->b)};
    sm2_kdf(out, AGREE_KEY_BYTES, parts, 4);
}

static enum ami_status decode(point *out, const uint8_t in[SM2_POINT_BYTES])
{
    point_bytes bytes;
    static const uint8_t infinity[SM2_POINT_BYTES];
    memcpy(bytes.b, in, sizeof bytes.b);
    if (lab_left_out(WITHOUT_POINT_CHECK) && memcmp(in, infinity, sizeof infinity) == 0) {
        memset(out, 0, sizeof *out);
        return AMI_OK;
    }
    return point_decode(out, &bytes);
}

static enum ami_status meter_answer(struct agree_result *out, const struct agree_state *state,
                                    const struct network *net, const struct agree_key *key,
                                    struct span flight2)
{
    point t_dc;
    if (flight2.size != SM2_POINT_BYTES + SM3_BYTES)
        return AMI_BAD_CRYPTO;
    AMI_TRY(decode(&t_dc, flight2.data));
    scalar sum = scalar_add(&key->d, &state->secret);
    if (lab_left_out(WITHOUT_LONG_TERM))
        AMI_TRY(scalar_decode(&sum, state->flight)); /* A alone */
    point k = point_mul(&sum, &t_dc);
    point_bytes k_bytes = encode(&k);
    sm3_digest m1 = lab_liu2023_tag(0, &k_bytes), m2 = lab_liu2023_tag(1, &k_bytes);
    if (!lab_left_out(WITHOUT_DC_PROOF) &&
        memcmp(m1.b, flight2.data + SM2_POINT_BYTES, sizeof m1.b) != 0)
        return AMI_BAD_CRYPTO;
    lab_liu2023_key(out->k, net, &out->terms, &k_bytes);
    memcpy(out->flight, m2.b, sizeof m2.b);
    out->flight_size = SM3_BYTES;
    return AMI_OK;
}

static void answer_one(struct agree_answer *out, const struct network *net,
                       const struct agree_request *in)
{
    scalar a, b = scalar_from_wide(in->random), h = scalar_reduce(in->peer->z.b);
    out->status = AMI_BAD_CRYPTO;
    if (in->flight.size != SM2_SCALAR_BYTES || scalar_decode(&a, in->flight.data) != AMI_OK)
        return;
    scalar b_a = scalar_mul(&b, &a), b_h = scalar_mul(&b, &h);
    point t_dc = point_mul_base(&b), left = point_mul_base(&b_a),
          right = point_mul(&b_h, &net->p_pub);
    point k = lab_left_out(WITHOUT_LONG_TERM) ? left : point_add(&left, &right);
    if (point_is_infinity(&k))
        return;
    point_bytes k_bytes = encode(&k), t_bytes = encode(&t_dc);
    sm3_digest m1 = lab_liu2023_tag(0, &k_bytes), m2 = lab_liu2023_tag(1, &k_bytes);
    memcpy(out->flight, t_bytes.b, SM2_POINT_BYTES);
    memcpy(out->flight + SM2_POINT_BYTES, m1.b, SM3_BYTES);
    out->flight_size = SM2_POINT_BYTES + SM3_BYTES;
    memcpy(out->pending.expected, m2.b, SM3_BYTES);
    out->pending.expected_size = SM3_BYTES;
    lab_liu2023_key(out->pending.k, net, &in->terms, &k_bytes);
    out->status = AMI_OK;
}

static void dc_answer(struct agree_answer *out, const struct network *net,
                      const struct agree_key *key, const struct point_table *p_pub,
                      const struct agree_request *in, size_t count)
{
    (void)key;
    (void)p_pub;
    for (size_t i = 0; i < count; i++)
        answer_one(&out[i], net, &in[i]);
}

const struct scheme lab_weak_liu2023 = {
    .name = "liu2023-weakened",
    .number = 201,
    .summary = "liu2023 with a protection left out, for controls",
    .needs_p_pub_table = false,
    .device_begin = device_begin,
    .mdms_issue = mdms_issue,
    .device_accept = device_accept,
    .key_restore = key_restore,
    .peer_init = peer_init,
    .meter_start = meter_start,
    .meter_answer = meter_answer,
    .dc_answer = dc_answer,
};
