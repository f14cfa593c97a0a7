/* sm2kx: implicit certificates (GM/T 0130-2023) and the SM2 key exchange with confirmation
 * (GB/T 32918.3), in the three flights of the published scheme.
 *
 *   issuance   device: d', U_A = d' G                        -> {U_A}
 *              MDMS: W = wG + U_A, t = w + lambda x          -> {t, W}; U = {.., W}
 *              device: d = t + d', checks dG = W + lambda P_pub
 *   flight 1   SM (A): r_A, R_A = r_A G                      -> {R_A}
 *   flight 2   DC (B): r_B, R_B = r_B G, V, K, S_B, S_A,
 *              C_B = HMAC(k_c, 02 || F1 || F2 without C_B)   -> {W_DC, R_B, S_B, C_B}
 *   flight 3   SM: P_DC = W_DC + lambda P_pub, V, K, checks S_B and C_B,
 *              C_A = HMAC(k_c, 03 || F1 || F2)               -> {S_A, C_A}
 *
 * F1 and F2 are the encodings of agree_flight1 and agree_flight2 (wire/table.h) as they travel; for
 * C_B the scheme's part of F2 ends before C_B. K = KDF(x_V || y_V || Z_A || Z_B), 256 bits;
 * k_c = HMAC-SM3(K, "amiledger sm2kx confirm v1" 00). Z_D is over key_id and the recovered P_D, so
 * what lies under the tags C is stock SM2 and meets its published vector.
 */
#include "keyagree/internal.h"

#include "base/check.h"
#include "crypto/secret.h"

#include <string.h>

/* The scheme's part of flight 2. */
#define KX_W_AT          0
#define KX_R_B_AT        (KX_W_AT + SM2_POINT_BYTES)
#define KX_S_B_AT        (KX_R_B_AT + SM2_POINT_BYTES)
#define KX_C_B_AT        (KX_S_B_AT + SM3_BYTES)
#define KX_FLIGHT1_BYTES SM2_POINT_BYTES
#define KX_FLIGHT2_BYTES (KX_C_B_AT + SM3_BYTES)
#define KX_FLIGHT3_BYTES (2 * SM3_BYTES) /* S_A, C_A */

_Static_assert(KX_FLIGHT1_BYTES <= AGREE_FLIGHT1_BYTES, "fits");
_Static_assert(KX_FLIGHT2_BYTES <= AGREE_FLIGHT2_BYTES, "fits");
_Static_assert(KX_FLIGHT3_BYTES <= AGREE_FLIGHT3_BYTES, "fits");

static sm3_digest kx_z(const struct network *net, enum key_role role, const struct ami_id *name,
                       uint32_t epoch, const point *p)
{
    uint8_t id[KEY_ID_BYTES_MAX];
    return sm2_z(key_id(id, net, role, name, epoch), p);
}

/* --- issuance --------------------------------------------------------------------------------- */

static void kx_device_begin(struct agree_enrolling *out, enum key_role role,
                            const uint8_t random[SM2_WIDE_BYTES])
{
    (void)role;
    memset(out, 0, sizeof *out);
    out->secret = scalar_from_wide(random);
    point u_a = point_mul_base(&out->secret);
    agree_part_set_point(&out->request, &u_a);
}

static enum ami_status kx_mdms_issue(struct agree_secret *secret, struct agree_part *part,
                                     const struct network *net, const scalar *x, enum key_role role,
                                     const struct ami_id *name, uint32_t epoch, struct span home,
                                     struct span request, const uint8_t random[SM2_WIDE_BYTES])
{
    point u_a, w_point;
    scalar t;
    memset(secret, 0, sizeof *secret);
    memset(part, 0, sizeof *part);
    (void)home; /* keys do not depend on a meter's home */
    AMI_TRY(agree_point_parse(&u_a, request));
    scalar w = scalar_from_wide(random);
    sm3_digest h_a = key_h_a(net, role, name, epoch);
    sm2_implicit_issue(&w_point, &t, &w, x, &u_a, &h_a);
    scalar_encode(secret->b, &t);
    secret->size = SM2_SCALAR_BYTES;
    agree_part_set_point(part, &w_point);
    secret_wipe(&w, sizeof w);
    secret_wipe(&t, sizeof t);
    return AMI_OK;
}

static enum ami_status kx_device_accept(struct agree_key *out, const struct agree_enrolling *begun,
                                        const struct network *net, enum key_role role,
                                        const struct ami_id *name, uint32_t epoch,
                                        struct span secret, struct span part)
{
    scalar t;
    *out = (struct agree_key){.scheme = SCHEME_SM2KX, .role = role, .name = *name};
    out->epoch = epoch;
    AMI_TRY(agree_point_parse(&out->w, part));
    AMI_TRY(agree_scalar_parse(&t, secret));
    sm3_digest h_a = key_h_a(net, role, name, epoch);
    sm2_private key;
    enum ami_status status =
        sm2_implicit_accept(&key, &t, &begun->secret, &out->w, &h_a, &net->p_pub);
    if (status == AMI_OK) {
        out->d = key.d;
        out->p = key.p;
        out->z = kx_z(net, role, name, epoch, &out->p);
    }
    secret_wipe(&key, sizeof key);
    secret_wipe(&t, sizeof t);
    return status;
}

static enum ami_status kx_key_restore(struct agree_key *key, const struct network *net, bool check)
{
    if (scalar_is_zero(&key->d) || !scalar_is_zero(&key->r))
        return AMI_BAD_CRYPTO;
    key->p = point_mul_base(&key->d);
    key->z = kx_z(net, key->role, &key->name, key->epoch, &key->p);
    if (!check)
        return AMI_OK;
    point p;
    sm3_digest h_a = key_h_a(net, key->role, &key->name, key->epoch);
    AMI_TRY(sm2_implicit_public(&p, &key->w, &h_a, &net->p_pub));
    return point_equal(&p, &key->p) ? AMI_OK : AMI_BAD_CRYPTO;
}

/* P = W + lambda P_pub of an agreeing key, and its Z. */
static enum ami_status kx_public(point *p, sm3_digest *z, const struct network *net,
                                 enum key_role role, const struct ami_id *name, uint32_t epoch,
                                 struct span w_bytes)
{
    point w;
    AMI_TRY(agree_point_parse(&w, w_bytes));
    sm3_digest h_a = key_h_a(net, role, name, epoch);
    AMI_TRY(sm2_implicit_public(p, &w, &h_a, &net->p_pub));
    *z = kx_z(net, role, name, epoch, p);
    return AMI_OK;
}

static void kx_peer_init_batch(struct agree_peer *out, enum ami_status *status,
                               const struct network *net, const struct agree_peer_in *in,
                               size_t count)
{
    point_bytes w_bytes[AGREE_CHUNK] = {0};
    point w[AGREE_CHUNK], p[AGREE_CHUNK];
    sm3_digest h_a[AGREE_CHUNK];
    bool decoded[AGREE_CHUNK], finite[AGREE_CHUNK];
    AMI_CHECK(count <= AGREE_CHUNK);
    for (size_t i = 0; i < count; i++) {
        /* All zero is no encoding of a point: what has the wrong size fails with the rest. */
        if (in[i].part.size == SM2_POINT_BYTES)
            memcpy(w_bytes[i].b, in[i].part.data, SM2_POINT_BYTES);
        h_a[i] = key_h_a(net, ROLE_METER_AGREE, in[i].meter, in[i].epoch);
    }
    const bool all = point_decode_batch(w, decoded, w_bytes, count) == AMI_OK;
    for (size_t i = 0; !all && i < count; i++)
        if (!decoded[i])
            w[i] = *point_generator(); /* keeps the group whole; its result is not used */
    const bool good = sm2_implicit_public_batch(p, finite, w, h_a, &net->p_pub, count) == AMI_OK;
    for (size_t i = 0; i < count; i++) {
        status[i] = (all || decoded[i]) && (good || finite[i]) ? AMI_OK : AMI_BAD_CRYPTO;
        if (status[i] != AMI_OK)
            continue;
        out[i].p = p[i];
        out[i].z = kx_z(net, ROLE_METER_AGREE, in[i].meter, in[i].epoch, &p[i]);
    }
}

/* --- confirmation over the transcript --------------------------------------------------------- */

/* The key of both confirmations. Wipe after use. */
static sm3_digest kx_k_c(const uint8_t k[AGREE_KEY_BYTES])
{
    static const char label[] = "amiledger sm2kx confirm v1";
    const struct span name = span_of(label, sizeof label);
    return hmac_sm3(span_of(k, AGREE_KEY_BYTES), &name, 1);
}

/* HMAC(k_c, number || F1 || F2) with flights' parts as given. */
static sm3_digest kx_confirm(uint8_t number, const sm3_digest *k_c, const struct agree_terms *terms,
                             struct span flight1, struct span flight2)
{
    uint8_t bytes[1 + AGREE_TRANSCRIPT_BYTES_MAX];
    struct writer w = writer_on(bytes, sizeof bytes);
    write_u8(&w, number);
    agree_transcript(&w, terms, flight1, flight2);
    AMI_CHECK(writer_ok(&w));
    const struct span transcript = writer_span(&w);
    return hmac_sm3(span_of(k_c->b, sizeof k_c->b), &transcript, 1);
}

static sm3_digest kx_c_b(const sm3_digest *k_c, const struct agree_terms *terms,
                         struct span flight1, const uint8_t flight2[KX_FLIGHT2_BYTES])
{
    return kx_confirm(2, k_c, terms, flight1, span_of(flight2, KX_C_B_AT));
}

static sm3_digest kx_c_a(const sm3_digest *k_c, const struct agree_terms *terms,
                         struct span flight1, const uint8_t flight2[KX_FLIGHT2_BYTES])
{
    return kx_confirm(3, k_c, terms, flight1, span_of(flight2, KX_FLIGHT2_BYTES));
}

/* --- flights ---------------------------------------------------------------------------------- */

static enum ami_status kx_meter_start(struct agree_state *state, const struct agree_key *key,
                                      const uint8_t random[SM2_WIDE_BYTES])
{
    (void)key;
    state->secret = scalar_from_wide(random);
    point r_a = point_mul_base(&state->secret);
    point_bytes encoded = point_encode(&r_a);
    memcpy(state->flight, encoded.b, sizeof encoded.b);
    state->flight_size = KX_FLIGHT1_BYTES;
    return AMI_OK;
}

/* K, S_B and C_B are checked, S_A and C_A made, once the exchange is computed. */
static enum ami_status kx_meter_finish(struct agree_result *out, const struct agree_meter_in *in,
                                       const sm3_digest *z_dc, const struct sm2_exchange_out *x)
{
    const struct span flight1 = span_of(in->state->flight, in->state->flight_size);
    const uint8_t *flight2 = in->in->flight.data;
    sm2_exchange_key(out->k, AGREE_KEY_BYTES, x, &in->key->z, z_dc);
    sm3_digest k_c = kx_k_c(out->k);
    sm3_digest c_b = kx_c_b(&k_c, &out->terms, flight1, flight2);
    const bool s_good = secret_equal(x->s_b.b, flight2 + KX_S_B_AT, SM3_BYTES);
    const bool c_good = secret_equal(c_b.b, flight2 + KX_C_B_AT, SM3_BYTES);
    if (s_good && c_good) {
        sm3_digest c_a = kx_c_a(&k_c, &out->terms, flight1, flight2);
        memcpy(out->flight, x->s_a.b, SM3_BYTES);
        memcpy(out->flight + SM3_BYTES, c_a.b, SM3_BYTES);
        out->flight_size = KX_FLIGHT3_BYTES;
    }
    secret_wipe(&k_c, sizeof k_c);
    return s_good && c_good ? AMI_OK : AMI_BAD_CRYPTO;
}

/* The DCs that a group of meters agrees with: mostly one, whose key is computed once. */
struct kx_dc {
    enum ami_status status;
    const struct agree_flight2 *of;
    point p;
    sm3_digest z;
};

static bool kx_same_dc(const struct agree_flight2 *a, const struct agree_flight2 *b)
{
    return a->dc_epoch == b->dc_epoch && ami_id_equal(&a->dc, &b->dc) &&
           memcmp(a->flight.data + KX_W_AT, b->flight.data + KX_W_AT, SM2_POINT_BYTES) == 0;
}

/* AMI_OK: this one's DC is *dc. */
static enum ami_status kx_find_dc(struct kx_dc *dc, const struct network *net,
                                  const struct agree_flight2 *f)
{
    if (dc->of == NULL || !kx_same_dc(dc->of, f)) {
        dc->of = f;
        dc->status = kx_public(&dc->p, &dc->z, net, ROLE_DC_AGREE, &f->dc, f->dc_epoch,
                               span_of(f->flight.data + KX_W_AT, SM2_POINT_BYTES));
    }
    return dc->status;
}

static void kx_meter_answer_batch(struct agree_result *out, enum ami_status *status,
                                  const struct agree_meter_in *in, const struct network *net,
                                  size_t count)
{
    point_bytes r_bytes[2 * AGREE_CHUNK] = {0};
    point r[2 * AGREE_CHUNK], p_dc[AGREE_CHUNK];
    sm3_digest z_dc[AGREE_CHUNK];
    struct sm2_exchange_in x_in[AGREE_CHUNK];
    struct sm2_exchange_out x_out[AGREE_CHUNK];
    bool decoded[2 * AGREE_CHUNK], finite[AGREE_CHUNK];
    size_t of[AGREE_CHUNK], good = 0, kept = 0;
    struct kx_dc dc = {.of = NULL};
    AMI_CHECK(count <= AGREE_CHUNK);
    for (size_t i = 0; i < count; i++) {
        if (status[i] != AMI_OK)
            continue;
        status[i] = AMI_BAD_CRYPTO;
        if (in[i].in->flight.size != KX_FLIGHT2_BYTES || kx_find_dc(&dc, net, in[i].in) != AMI_OK)
            continue;
        p_dc[good] = dc.p;
        z_dc[good] = dc.z;
        memcpy(r_bytes[2 * good].b, in[i].state->flight, SM2_POINT_BYTES);
        memcpy(r_bytes[2 * good + 1].b, in[i].in->flight.data + KX_R_B_AT, SM2_POINT_BYTES);
        of[good++] = i;
    }
    const bool all_decoded = point_decode_batch(r, decoded, r_bytes, 2 * good) == AMI_OK;
    for (size_t k = 0; k < good; k++) {
        if (!all_decoded && (!decoded[2 * k] || !decoded[2 * k + 1]))
            continue;
        const struct agree_meter_in *m = &in[of[k]];
        r[2 * kept] = r[2 * k];
        r[2 * kept + 1] = r[2 * k + 1];
        p_dc[kept] = p_dc[k];
        z_dc[kept] = z_dc[k];
        of[kept] = of[k];
        x_in[kept] = (struct sm2_exchange_in){.initiator = true,
                                              .d = &m->key->d,
                                              .r = &m->state->secret,
                                              .r_a = &r[2 * kept],
                                              .r_b = &r[2 * kept + 1],
                                              .p_peer = &p_dc[kept],
                                              .z_a = &m->key->z,
                                              .z_b = &z_dc[kept]};
        kept++;
    }
    const bool all = kept == 0 || sm2_exchange_batch(x_out, x_in, finite, kept) == AMI_OK;
    for (size_t k = 0; k < kept; k++)
        if (all || finite[k])
            status[of[k]] = kx_meter_finish(&out[of[k]], &in[of[k]], &z_dc[k], &x_out[k]);
    secret_wipe(x_out, kept * sizeof x_out[0]);
}

/* Fills in an answer once the exchange is computed. */
static void kx_answer_finish(struct agree_answer *out, const struct agree_key *key,
                             const struct agree_request *in, const point *r_b,
                             const struct sm2_exchange_out *x)
{
    point_bytes w = point_encode(&key->w), r_b_bytes = point_encode(r_b);
    sm2_exchange_key(out->pending.k, AGREE_KEY_BYTES, x, &in->peer->z, &key->z);
    memcpy(out->flight + KX_W_AT, w.b, SM2_POINT_BYTES);
    memcpy(out->flight + KX_R_B_AT, r_b_bytes.b, SM2_POINT_BYTES);
    memcpy(out->flight + KX_S_B_AT, x->s_b.b, SM3_BYTES);
    sm3_digest k_c = kx_k_c(out->pending.k);
    sm3_digest c_b = kx_c_b(&k_c, &in->terms, in->flight, out->flight);
    memcpy(out->flight + KX_C_B_AT, c_b.b, SM3_BYTES);
    out->flight_size = KX_FLIGHT2_BYTES;
    sm3_digest c_a = kx_c_a(&k_c, &in->terms, in->flight, out->flight);
    memcpy(out->pending.expected, x->s_a.b, SM3_BYTES);
    memcpy(out->pending.expected + SM3_BYTES, c_a.b, SM3_BYTES);
    out->pending.expected_size = KX_FLIGHT3_BYTES;
    out->status = AMI_OK;
    secret_wipe(&c_a, sizeof c_a);
    secret_wipe(&k_c, sizeof k_c);
}

static void kx_dc_answer(struct agree_answer *out, const struct network *net,
                         const struct agree_key *key, const struct point_table *p_pub,
                         const struct agree_request *in, size_t count)
{
    point_bytes r_a_bytes[AGREE_CHUNK] = {0};
    point r_a[AGREE_CHUNK], r_b[AGREE_CHUNK];
    scalar r[AGREE_CHUNK] = {0};
    struct sm2_exchange_in x_in[AGREE_CHUNK];
    struct sm2_exchange_out x_out[AGREE_CHUNK];
    bool decoded[AGREE_CHUNK], finite[AGREE_CHUNK];
    (void)net;
    (void)p_pub;
    AMI_CHECK(count <= AGREE_CHUNK);
    for (size_t i = 0; i < count; i++) {
        /* All zero is no encoding of a point: what has the wrong size fails with the rest. */
        if (in[i].flight.size == KX_FLIGHT1_BYTES)
            memcpy(r_a_bytes[i].b, in[i].flight.data, KX_FLIGHT1_BYTES);
        r[i] = scalar_from_wide(in[i].random);
    }
    if (point_decode_batch(r_a, decoded, r_a_bytes, count) != AMI_OK)
        for (size_t i = 0; i < count; i++)
            if (!decoded[i])
                r_a[i] = *point_generator(); /* keeps the group whole; its result is not used */
    point_mul_base_batch(r_b, r, count);
    for (size_t i = 0; i < count; i++)
        x_in[i] = (struct sm2_exchange_in){
            .initiator = false,
            .d = &key->d,
            .r = &r[i],
            .r_a = &r_a[i],
            .r_b = &r_b[i],
            .p_peer = &in[i].peer->p,
            .z_a = &in[i].peer->z,
            .z_b = &key->z,
        };
    bool all = sm2_exchange_batch(x_out, x_in, finite, count) == AMI_OK;
    for (size_t i = 0; i < count; i++) {
        out[i].status = AMI_BAD_CRYPTO;
        if (decoded[i] && (all || finite[i]))
            kx_answer_finish(&out[i], key, &in[i], &r_b[i], &x_out[i]);
    }
    secret_wipe(r, sizeof r);
    secret_wipe(x_out, sizeof x_out);
}

static enum ami_status kx_peer_init(struct agree_peer *out, const struct network *net,
                                    const struct ami_id *meter, uint32_t epoch, struct span part)
{
    const struct agree_peer_in in = {meter, epoch, part};
    enum ami_status status;
    memset(out, 0, sizeof *out);
    kx_peer_init_batch(out, &status, net, &in, 1);
    return status;
}

static enum ami_status kx_meter_answer(struct agree_result *out, const struct agree_state *state,
                                       const struct network *net, const struct agree_key *key,
                                       struct span flight2)
{
    const struct agree_flight2 f = {
        .dc = out->terms.dc, .dc_epoch = out->terms.dc_epoch, .flight = flight2};
    struct agree_state copy = *state;
    const struct agree_meter_in in = {&copy, key, &f};
    enum ami_status status = AMI_OK;
    kx_meter_answer_batch(out, &status, &in, net, 1);
    secret_wipe(&copy, sizeof copy);
    return status;
}

const struct scheme scheme_sm2kx = {
    .name = "sm2kx",
    .number = SCHEME_SM2KX,
    .summary = "GM/T 0130 implicit certificates and SM2 key exchange with confirmation (default)",
    .needs_p_pub_table = false,
    .device_begin = kx_device_begin,
    .mdms_issue = kx_mdms_issue,
    .device_accept = kx_device_accept,
    .key_restore = kx_key_restore,
    .peer_init = kx_peer_init,
    .peer_init_batch = kx_peer_init_batch,
    .meter_start = kx_meter_start,
    .meter_answer = kx_meter_answer,
    .meter_answer_batch = kx_meter_answer_batch,
    .dc_answer = kx_dc_answer,
};
