/* sim/lab/scheme_ecdh.c - a third scheme in one file: plain ephemeral Diffie-Hellman on SM2's
 * curve, signed with SM2. docs/add-a-scheme.md explains it line by line.
 *
 *   issuance   GM/T 0130 keys, as sm2kx has them
 *   flight 1   SM: r_A, R_A = r_A G, Sig_A = Sign(d_SM; "1", R_A)        -> {R_A, Sig_A}
 *   flight 2   DC: r_B, R_B = r_B G, V = r_B R_A,
 *              Sig_B = Sign(d_DC; "2", F1, F2 without Sig_B)             -> {W_DC, R_B, Sig_B}
 *   flight 3   SM: V = r_A R_B, checks Sig_B, tag = HMAC(k_c, F1, F2)    -> {tag}
 *   both       K = KDF(V, Z_SM, Z_DC), k_c = HMAC(K, label)
 *
 * F1 and F2 are the flights' encodings as they travel. Z is SM2's over key_id and the recovered
 * public key, so a signature is bound to a network, role, name and epoch.
 *
 * What it does not do, and the laboratory shows: no long-term key enters K, so whoever learns the
 * meter's r_A opens that run, and Sig_A, made before the DC has said anything, can be used again
 * together with that r_A. That is why it is an example and no scheme of keyagree/.
 */
#include "sim/lab/schemes.h"

#include "base/check.h"
#include "crypto/secret.h"

#include <string.h>

enum { W_AT = 0, R_B_AT = 33, SIG_B_AT = 66, FLIGHT2_BYTES = 130 };
#define FLIGHT1_BYTES (SM2_POINT_BYTES + SM2_SIGNATURE_BYTES)
#define FLIGHT3_BYTES SM3_BYTES

_Static_assert(FLIGHT1_BYTES <= AGREE_FLIGHT1_BYTES, "fits");
_Static_assert(FLIGHT2_BYTES <= AGREE_FLIGHT2_BYTES, "fits");
_Static_assert(FLIGHT3_BYTES <= AGREE_FLIGHT3_BYTES, "fits");

/* Long-term keys are those of sm2kx. */
static const struct scheme *keys(void)
{
    return scheme_by_number(SCHEME_SM2KX);
}

/* Nothing is left out of the scheme itself, only of its weakened form. */
static bool without(const struct agree_key *key, enum lab_without what)
{
    return key->scheme != lab_ecdh.number && lab_left_out(what);
}

static void device_begin(struct agree_enrolling *out, enum key_role role,
                         const uint8_t random[SM2_WIDE_BYTES])
{
    keys()->device_begin(out, role, random);
}

static enum ami_status mdms_issue(struct agree_secret *secret, struct agree_part *part,
                                  const struct network *net, const scalar *x, enum key_role role,
                                  const struct ami_id *name, uint32_t epoch, struct span home,
                                  struct span request, const uint8_t random[SM2_WIDE_BYTES])
{
    return keys()->mdms_issue(secret, part, net, x, role, name, epoch, home, request, random);
}

static enum ami_status device_accept(struct agree_key *out, const struct agree_enrolling *begun,
                                     const struct network *net, enum key_role role,
                                     const struct ami_id *name, uint32_t epoch, struct span secret,
                                     struct span part)
{
    AMI_TRY(keys()->device_accept(out, begun, net, role, name, epoch, secret, part));
    out->scheme = lab_ecdh.number;
    return AMI_OK;
}

static enum ami_status key_restore(struct agree_key *key, const struct network *net, bool check)
{
    return keys()->key_restore(key, net, check);
}

static enum ami_status peer_init(struct agree_peer *out, const struct network *net,
                                 const struct ami_id *meter, uint32_t epoch, struct span part)
{
    return keys()->peer_init(out, net, meter, epoch, part);
}

static enum ami_status parse_point(point *out, const struct agree_key *key, const uint8_t *in)
{
    static const uint8_t infinity[SM2_POINT_BYTES];
    point_bytes bytes;
    memcpy(bytes.b, in, sizeof bytes.b);
    if (without(key, WITHOUT_POINT_CHECK) && memcmp(in, infinity, sizeof infinity) == 0) {
        memset(out, 0, sizeof *out);
        return AMI_OK;
    }
    return point_decode(out, &bytes);
}

/* --- signatures and keys --------------------------------------------------------------------- */

static sm3_digest signed_digest(const sm3_digest *z, char number, struct span text)
{
    static const char label[] = "amiledger ecdh v1";
    const struct span parts[] = {span_of(label, sizeof label), span_of(&number, 1), text};
    return sm2_digest(z, parts, 3);
}

static enum ami_status sign(uint8_t out[SM2_SIGNATURE_BYTES], const struct agree_key *key,
                            char number, struct span text, const uint8_t random[SM2_WIDE_BYTES])
{
    sm2_private private_key;
    enum ami_status status = sm2_private_init(&private_key, &key->d);
    if (status == AMI_OK) {
        sm3_digest e = signed_digest(&key->z, number, text);
        sm2_signature sig = sm2_sign(&private_key, &e, random);
        memcpy(out, sig.b, sizeof sig.b);
    }
    secret_wipe(&private_key, sizeof private_key);
    return status;
}

static enum ami_status check(const point *p, const sm3_digest *z, char number, struct span text,
                             const uint8_t signature[SM2_SIGNATURE_BYTES])
{
    sm2_signature sig;
    sm3_digest e = signed_digest(z, number, text);
    memcpy(sig.b, signature, sizeof sig.b);
    return sm2_verify(p, &e, &sig) == AMI_OK ? AMI_OK : AMI_BAD_CRYPTO;
}

/* Flights 1 and 2 as they travel, with so much of the scheme's part of flight 2. */
struct transcript {
    size_t size;
    uint8_t bytes[AGREE_TRANSCRIPT_BYTES_MAX];
};

static struct span transcript(struct transcript *out, const struct agree_terms *terms,
                              struct span flight1, struct span flight2)
{
    struct writer w = writer_on(out->bytes, sizeof out->bytes);
    agree_transcript(&w, terms, flight1, flight2);
    AMI_CHECK(writer_ok(&w));
    return writer_span(&w);
}

static void key_of(uint8_t out[AGREE_KEY_BYTES], const point *v, const sm3_digest *z_sm,
                   const sm3_digest *z_dc)
{
    static const char label[] = "amiledger ecdh key v1";
    uint8_t v_xy[SM2_XY_BYTES] = {0};
    if (!point_is_infinity(v)) /* the decoder refuses what leads there, unless it is weakened */
        point_xy(v_xy, v);
    const struct span parts[] = {span_of(label, sizeof label), span_of(v_xy, sizeof v_xy),
                                 span_of(z_sm->b, sizeof z_sm->b),
                                 span_of(z_dc->b, sizeof z_dc->b)};
    sm2_kdf(out, AGREE_KEY_BYTES, parts, 4);
    secret_wipe(v_xy, sizeof v_xy);
}

static sm3_digest confirmation(const uint8_t k[AGREE_KEY_BYTES], struct span text)
{
    static const char label[] = "amiledger ecdh confirm v1";
    const struct span name = span_of(label, sizeof label);
    sm3_digest k_c = hmac_sm3(span_of(k, AGREE_KEY_BYTES), &name, 1);
    sm3_digest tag = hmac_sm3(span_of(k_c.b, sizeof k_c.b), &text, 1);
    secret_wipe(&k_c, sizeof k_c);
    return tag;
}

/* --- flights --------------------------------------------------------------------------------- */

static enum ami_status meter_start(struct agree_state *state, const struct agree_key *key,
                                   const uint8_t random[SM2_WIDE_BYTES])
{
    state->secret = scalar_from_wide(random);
    point r_a = point_mul_base(&state->secret);
    point_bytes r_a_bytes = point_encode(&r_a);
    memcpy(state->flight, r_a_bytes.b, SM2_POINT_BYTES);
    state->flight_size = FLIGHT1_BYTES;
    /* The nonce is hedged with the private key, so the same random bytes serve again. */
    return sign(state->flight + SM2_POINT_BYTES, key, '1', span_of(state->flight, SM2_POINT_BYTES),
                random);
}

/* The DC's public key behind what travels as W. */
static enum ami_status dc_public(point *p, sm3_digest *z, const struct network *net,
                                 const struct agree_key *key, const struct agree_terms *terms,
                                 const uint8_t *w_bytes)
{
    point w;
    uint8_t id[KEY_ID_BYTES_MAX];
    AMI_TRY(parse_point(&w, key, w_bytes));
    sm3_digest h_a = key_h_a(net, ROLE_DC_AGREE, &terms->dc, terms->dc_epoch);
    if (without(key, WITHOUT_CERTIFICATE) || point_is_infinity(&w))
        *p = w;
    else
        AMI_TRY(sm2_implicit_public(p, &w, &h_a, &net->p_pub));
    if (without(key, WITHOUT_NAMES) || point_is_infinity(p))
        memset(z, 0, sizeof *z);
    else
        *z = sm2_z(key_id(id, net, ROLE_DC_AGREE, &terms->dc, terms->dc_epoch), p);
    return AMI_OK;
}

static enum ami_status meter_answer(struct agree_result *out, const struct agree_state *state,
                                    const struct network *net, const struct agree_key *key,
                                    struct span flight2)
{
    point r_b, p_dc;
    sm3_digest z_dc, z_sm = key->z;
    struct transcript text;
    const struct span flight1 = span_of(state->flight, state->flight_size);
    if (flight2.size != FLIGHT2_BYTES)
        return AMI_BAD_CRYPTO;
    AMI_TRY(parse_point(&r_b, key, flight2.data + R_B_AT));
    AMI_TRY(dc_public(&p_dc, &z_dc, net, key, &out->terms, flight2.data + W_AT));
    struct span signed_text =
        transcript(&text, &out->terms, flight1, span_of(flight2.data, SIG_B_AT));
    if (without(key, WITHOUT_TRANSCRIPT) || without(key, WITHOUT_NAMES))
        signed_text = span_of(flight2.data + R_B_AT, SM2_POINT_BYTES);
    if (!without(key, WITHOUT_DC_PROOF))
        AMI_TRY(check(&p_dc, &z_dc, '2', signed_text, flight2.data + SIG_B_AT));
    if (without(key, WITHOUT_NAMES))
        memset(&z_sm, 0, sizeof z_sm);
    point v = without(key, WITHOUT_EPHEMERAL) ? point_mul(&key->d, &p_dc)
                                              : point_mul(&state->secret, &r_b);
    key_of(out->k, &v, &z_sm, &z_dc);
    struct span all = transcript(&text, &out->terms, flight1, flight2);
    if (without(key, WITHOUT_TRANSCRIPT) || without(key, WITHOUT_NAMES))
        all.size = 0;
    sm3_digest tag = confirmation(out->k, all);
    memcpy(out->flight, tag.b, sizeof tag.b);
    out->flight_size = FLIGHT3_BYTES;
    secret_wipe(&v, sizeof v);
    return AMI_OK;
}

static enum ami_status answer_one(struct agree_answer *out, const struct agree_key *key,
                                  const struct agree_request *in)
{
    point r_a;
    sm3_digest z_sm = in->peer->z, z_dc = key->z;
    struct transcript text;
    if (in->flight.size != FLIGHT1_BYTES)
        return AMI_BAD_CRYPTO;
    AMI_TRY(parse_point(&r_a, key, in->flight.data));
    if (!without(key, WITHOUT_METER_PROOF))
        AMI_TRY(check(&in->peer->p, &in->peer->z, '1', span_of(in->flight.data, SM2_POINT_BYTES),
                      in->flight.data + SM2_POINT_BYTES));
    if (without(key, WITHOUT_NAMES)) {
        memset(&z_sm, 0, sizeof z_sm);
        memset(&z_dc, 0, sizeof z_dc);
    }
    scalar r = scalar_from_wide(in->random);
    point r_b = point_mul_base(&r);
    point_bytes w = point_encode(without(key, WITHOUT_CERTIFICATE) ? &key->p : &key->w),
                r_b_bytes = point_encode(&r_b);
    memcpy(out->flight + W_AT, w.b, SM2_POINT_BYTES);
    memcpy(out->flight + R_B_AT, r_b_bytes.b, SM2_POINT_BYTES);
    struct span signed_text =
        transcript(&text, &in->terms, in->flight, span_of(out->flight, SIG_B_AT));
    if (without(key, WITHOUT_TRANSCRIPT) || without(key, WITHOUT_NAMES))
        signed_text = span_of(out->flight + R_B_AT, SM2_POINT_BYTES);
    struct agree_key signer = *key;
    signer.z = z_dc;
    enum ami_status status = sign(out->flight + SIG_B_AT, &signer, '2', signed_text, in->random);
    secret_wipe(&signer, sizeof signer);
    AMI_TRY(status);
    out->flight_size = FLIGHT2_BYTES;
    point v =
        without(key, WITHOUT_EPHEMERAL) ? point_mul(&key->d, &in->peer->p) : point_mul(&r, &r_a);
    key_of(out->pending.k, &v, &z_sm, &z_dc);
    struct span all =
        transcript(&text, &in->terms, in->flight, span_of(out->flight, FLIGHT2_BYTES));
    if (without(key, WITHOUT_TRANSCRIPT) || without(key, WITHOUT_NAMES))
        all.size = 0;
    sm3_digest tag = confirmation(out->pending.k, all);
    memcpy(out->pending.expected, tag.b, sizeof tag.b);
    out->pending.expected_size = FLIGHT3_BYTES;
    secret_wipe(&r, sizeof r);
    secret_wipe(&v, sizeof v);
    return AMI_OK;
}

static void dc_answer(struct agree_answer *out, const struct network *net,
                      const struct agree_key *key, const struct point_table *p_pub,
                      const struct agree_request *in, size_t count)
{
    (void)net;
    (void)p_pub;
    for (size_t i = 0; i < count; i++)
        out[i].status = answer_one(&out[i], key, &in[i]);
}

const struct scheme lab_ecdh = {
    .name = "ecdh",
    .number = 100,
    .summary = "ephemeral Diffie-Hellman signed with SM2; the laboratory's example of a scheme",
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

/* --- the weakened form ----------------------------------------------------------------------- */

static enum ami_status weak_issue(struct agree_secret *secret, struct agree_part *part,
                                  const struct network *net, const scalar *x, enum key_role role,
                                  const struct ami_id *name, uint32_t epoch, struct span home,
                                  struct span request, const uint8_t random[SM2_WIDE_BYTES])
{
    return lab_weak_sm2kx.mdms_issue(secret, part, net, x, role, name, epoch, home, request,
                                     random);
}

static enum ami_status weak_accept(struct agree_key *out, const struct agree_enrolling *begun,
                                   const struct network *net, enum key_role role,
                                   const struct ami_id *name, uint32_t epoch, struct span secret,
                                   struct span part)
{
    AMI_TRY(keys()->device_accept(out, begun, net, role, name, epoch, secret, part));
    out->scheme = lab_weak_ecdh.number;
    return AMI_OK;
}

const struct scheme lab_weak_ecdh = {
    .name = "ecdh-weakened",
    .number = 203,
    .summary = "ecdh with a protection left out, for controls",
    .needs_p_pub_table = false,
    .device_begin = device_begin,
    .mdms_issue = weak_issue,
    .device_accept = weak_accept,
    .key_restore = key_restore,
    .peer_init = peer_init,
    .meter_start = meter_start,
    .meter_answer = meter_answer,
    .dc_answer = dc_answer,
};
