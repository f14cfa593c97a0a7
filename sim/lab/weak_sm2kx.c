/* sim/lab/weak_sm2kx.c - sm2kx once more, with protections that can be left out.
 *
 * The exchange is written out here (GB/T 32918.3 clause 6), because leaving something out of it is
 * the point: t = d + x' r, V = t (P_peer + x'_peer R_peer), K = KDF(x_V || y_V || Z_A || Z_B). */
#include "sim/lab/schemes.h"

#include "base/check.h"

#include <string.h>

enum { W_AT = 0, R_B_AT = 33, S_B_AT = 66, C_B_AT = 98, FLIGHT2_BYTES = 130 };

static const struct scheme *real(void)
{
    return scheme_by_number(SCHEME_SM2KX);
}

static void device_begin(struct agree_enrolling *out, enum key_role role,
                         const uint8_t random[SM2_WIDE_BYTES])
{
    real()->device_begin(out, role, random);
}

static enum ami_status parse_point(point *out, struct span s)
{
    static const uint8_t infinity[SM2_POINT_BYTES];
    point_bytes bytes;
    if (s.size != sizeof bytes.b)
        return AMI_BAD_CRYPTO;
    memcpy(bytes.b, s.data, sizeof bytes.b);
    if (lab_left_out(WITHOUT_POINT_CHECK) && memcmp(bytes.b, infinity, sizeof infinity) == 0) {
        memset(out, 0, sizeof *out);
        return AMI_OK;
    }
    return point_decode(out, &bytes);
}

static void xy(uint8_t out[SM2_XY_BYTES], const point *p)
{
    if (point_is_infinity(p))
        memset(out, 0, SM2_XY_BYTES);
    else
        point_xy(out, p);
}

static enum ami_status mdms_issue(struct agree_secret *secret, struct agree_part *part,
                                  const struct network *net, const scalar *x, enum key_role role,
                                  const struct ami_id *name, uint32_t epoch, struct span home,
                                  struct span request, const uint8_t random[SM2_WIDE_BYTES])
{
    if (!lab_left_out(WITHOUT_BLINDING))
        return real()->mdms_issue(secret, part, net, x, role, name, epoch, home, request, random);
    /* W = U_A, t = lambda x. */
    point w;
    memset(secret, 0, sizeof *secret);
    memset(part, 0, sizeof *part);
    AMI_TRY(parse_point(&w, request));
    sm3_digest h_a = key_h_a(net, role, name, epoch);
    scalar lambda = sm2_implicit_lambda(&w, &h_a), t = scalar_mul(&lambda, x);
    scalar_encode(secret->b, &t);
    secret->size = SM2_SCALAR_BYTES;
    memcpy(part->b, request.data, request.size);
    part->size = SM2_POINT_BYTES;
    return AMI_OK;
}

static enum ami_status device_accept(struct agree_key *out, const struct agree_enrolling *begun,
                                     const struct network *net, enum key_role role,
                                     const struct ami_id *name, uint32_t epoch, struct span secret,
                                     struct span part)
{
    AMI_TRY(real()->device_accept(out, begun, net, role, name, epoch, secret, part));
    out->scheme = lab_weak_sm2kx.number;
    if (lab_left_out(WITHOUT_NAMES))
        memset(&out->z, 0, sizeof out->z);
    return AMI_OK;
}

static enum ami_status key_restore(struct agree_key *key, const struct network *net, bool check)
{
    return real()->key_restore(key, net, check);
}

/* The public key behind what travels as W, and its Z. */
static enum ami_status public_of(point *p, sm3_digest *z, const struct network *net,
                                 enum key_role role, const struct ami_id *name, uint32_t epoch,
                                 struct span w_bytes)
{
    point w;
    uint8_t id[KEY_ID_BYTES_MAX];
    AMI_TRY(parse_point(&w, w_bytes));
    const sm3_digest h_a = key_h_a(net, role, name, epoch);
    if (lab_left_out(WITHOUT_CERTIFICATE) || point_is_infinity(&w))
        *p = w;
    else
        AMI_TRY(sm2_implicit_public(p, &w, &h_a, &net->p_pub));
    if (lab_left_out(WITHOUT_NAMES) || point_is_infinity(p))
        memset(z, 0, sizeof *z);
    else
        *z = sm2_z(key_id(id, net, role, name, epoch), p);
    return AMI_OK;
}

static enum ami_status peer_init(struct agree_peer *out, const struct network *net,
                                 const struct ami_id *meter, uint32_t epoch, struct span part)
{
    memset(out, 0, sizeof *out);
    return public_of(&out->p, &out->z, net, ROLE_METER_AGREE, meter, epoch, part);
}

static enum ami_status meter_start(struct agree_state *state, const struct agree_key *key,
                                   const uint8_t random[SM2_WIDE_BYTES])
{
    return real()->meter_start(state, key, random);
}

/* --- the exchange ---------------------------------------------------------------------------- */

/* x' = 2^127 + (x mod 2^127). */
scalar lab_sm2kx_x_bar(const point *p)
{
    uint8_t bytes[32] = {0}, coordinates[SM2_XY_BYTES];
    xy(coordinates, p);
    memcpy(bytes + 16, coordinates + 16, 16);
    bytes[16] |= 0x80;
    return scalar_reduce(bytes);
}

struct side {
    const scalar *d, *r;
    const point *r_own, *p_peer, *r_peer;
};

struct exchanged {
    uint8_t xy_v[SM2_XY_BYTES];
    uint8_t k[AGREE_KEY_BYTES];
    sm3_digest s_a, s_b;
};

static sm3_digest confirmation(uint8_t number, const uint8_t xy_v[SM2_XY_BYTES],
                               const sm3_digest *inner)
{
    const struct span parts[] = {span_of(&number, 1), span_of(xy_v + 32, 32),
                                 span_of(inner->b, sizeof inner->b)};
    return sm3_parts(parts, 3);
}

static enum ami_status exchange(struct exchanged *out, const struct side *s, const point *r_a,
                                const point *r_b, const sm3_digest *z_a, const sm3_digest *z_b)
{
    scalar own = lab_sm2kx_x_bar(s->r_own), other = lab_sm2kx_x_bar(s->r_peer),
           t = scalar_mul(&own, s->r);
    point sum = point_mul(&other, s->r_peer);
    if (lab_left_out(WITHOUT_EPHEMERAL)) {
        t = *s->d;
        sum = *s->p_peer;
    } else if (!lab_left_out(WITHOUT_LONG_TERM)) {
        t = scalar_add(s->d, &t);
        sum = point_add(s->p_peer, &sum);
    }
    point v = point_mul(&t, &sum);
    if (point_is_infinity(&v) && !lab_left_out(WITHOUT_POINT_CHECK))
        return AMI_BAD_CRYPTO;
    uint8_t xy_a[SM2_XY_BYTES], xy_b[SM2_XY_BYTES];
    xy(out->xy_v, &v);
    xy(xy_a, r_a);
    xy(xy_b, r_b);
    const struct span z1 = span_of(z_a->b, sizeof z_a->b), z2 = span_of(z_b->b, sizeof z_b->b);
    const struct span key_parts[] = {span_of(out->xy_v, SM2_XY_BYTES), z1, z2};
    const struct span inner_parts[] = {span_of(out->xy_v, 32), z1, z2, span_of(xy_a, sizeof xy_a),
                                       span_of(xy_b, sizeof xy_b)};
    sm2_kdf(out->k, sizeof out->k, key_parts, 3);
    sm3_digest inner = sm3_parts(inner_parts, 5);
    out->s_b = confirmation(2, out->xy_v, &inner);
    out->s_a = confirmation(3, out->xy_v, &inner);
    return AMI_OK;
}

/* HMAC(k_c, number || F1 || F2), as keyagree/sm2kx.c does it. */
static sm3_digest transcript_tag(uint8_t number, const uint8_t k[AGREE_KEY_BYTES],
                                 const struct agree_terms *terms, struct span flight1,
                                 struct span flight2)
{
    static const char label[] = "amiledger sm2kx confirm v1";
    const struct span name = span_of(label, sizeof label);
    sm3_digest k_c = hmac_sm3(span_of(k, AGREE_KEY_BYTES), &name, 1);
    uint8_t bytes[1 + AGREE_TRANSCRIPT_BYTES_MAX];
    struct writer w = writer_on(bytes, sizeof bytes);
    write_u8(&w, number);
    if (!lab_left_out(WITHOUT_TRANSCRIPT) && !lab_left_out(WITHOUT_NAMES))
        agree_transcript(&w, terms, flight1, flight2);
    AMI_CHECK(writer_ok(&w));
    const struct span all = writer_span(&w);
    return hmac_sm3(span_of(k_c.b, sizeof k_c.b), &all, 1);
}

static enum ami_status meter_answer(struct agree_result *out, const struct agree_state *state,
                                    const struct network *net, const struct agree_key *key,
                                    struct span flight2)
{
    point r_a, r_b, p_dc;
    sm3_digest z_dc;
    struct exchanged x;
    const struct span flight1 = span_of(state->flight, state->flight_size);
    if (flight2.size != FLIGHT2_BYTES)
        return AMI_BAD_CRYPTO;
    AMI_TRY(parse_point(&r_a, flight1));
    AMI_TRY(parse_point(&r_b, span_of(flight2.data + R_B_AT, SM2_POINT_BYTES)));
    AMI_TRY(public_of(&p_dc, &z_dc, net, ROLE_DC_AGREE, &out->terms.dc, out->terms.dc_epoch,
                      span_of(flight2.data + W_AT, SM2_POINT_BYTES)));
    const struct side side = {&key->d, &state->secret, &r_a, &p_dc, &r_b};
    AMI_TRY(exchange(&x, &side, &r_a, &r_b, &key->z, &z_dc));
    sm3_digest c_b = transcript_tag(2, x.k, &out->terms, flight1, span_of(flight2.data, C_B_AT));
    if (!lab_left_out(WITHOUT_DC_PROOF) &&
        (memcmp(x.s_b.b, flight2.data + S_B_AT, SM3_BYTES) != 0 ||
         memcmp(c_b.b, flight2.data + C_B_AT, SM3_BYTES) != 0))
        return AMI_BAD_CRYPTO;
    sm3_digest c_a = transcript_tag(3, x.k, &out->terms, flight1, flight2);
    memcpy(out->k, x.k, AGREE_KEY_BYTES);
    memcpy(out->flight, x.s_a.b, SM3_BYTES);
    memcpy(out->flight + SM3_BYTES, c_a.b, SM3_BYTES);
    out->flight_size = 2 * SM3_BYTES;
    return AMI_OK;
}

static void answer_one(struct agree_answer *out, const struct agree_key *key,
                       const struct agree_request *in)
{
    point r_a;
    struct exchanged x;
    out->status = AMI_BAD_CRYPTO;
    if (parse_point(&r_a, in->flight) != AMI_OK)
        return;
    scalar r = scalar_from_wide(in->random);
    point r_b = point_mul_base(&r);
    const struct side side = {&key->d, &r, &r_b, &in->peer->p, &r_a};
    if (exchange(&x, &side, &r_a, &r_b, &in->peer->z, &key->z) != AMI_OK)
        return;
    point_bytes w = point_encode(lab_left_out(WITHOUT_CERTIFICATE) ? &key->p : &key->w),
                r_b_bytes = point_encode(&r_b);
    memcpy(out->flight + W_AT, w.b, SM2_POINT_BYTES);
    memcpy(out->flight + R_B_AT, r_b_bytes.b, SM2_POINT_BYTES);
    memcpy(out->flight + S_B_AT, x.s_b.b, SM3_BYTES);
    sm3_digest c_b = transcript_tag(2, x.k, &in->terms, in->flight, span_of(out->flight, C_B_AT));
    memcpy(out->flight + C_B_AT, c_b.b, SM3_BYTES);
    out->flight_size = FLIGHT2_BYTES;
    sm3_digest c_a =
        transcript_tag(3, x.k, &in->terms, in->flight, span_of(out->flight, FLIGHT2_BYTES));
    memcpy(out->pending.k, x.k, AGREE_KEY_BYTES);
    memcpy(out->pending.expected, x.s_a.b, SM3_BYTES);
    memcpy(out->pending.expected + SM3_BYTES, c_a.b, SM3_BYTES);
    out->pending.expected_size = 2 * SM3_BYTES;
    out->status = AMI_OK;
}

static void dc_answer(struct agree_answer *out, const struct network *net,
                      const struct agree_key *key, const struct point_table *p_pub,
                      const struct agree_request *in, size_t count)
{
    (void)net;
    (void)p_pub;
    for (size_t i = 0; i < count; i++)
        answer_one(&out[i], key, &in[i]);
}

const struct scheme lab_weak_sm2kx = {
    .name = "sm2kx-weakened",
    .number = 202,
    .summary = "sm2kx with a protection left out, for controls",
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
