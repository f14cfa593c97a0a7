/* liu2023: the published scheme, complete and faithful, with its known weaknesses
 * (docs/security.md).
 *
 *   DC issuance   DC: r_DC, R_DC = r_DC G            -> {R_DC}
 *                 MDMS: y_DC = x H1(ID_DC, R_DC)     -> {y_DC}
 *   SM issuance   SM: r_SM                           -> {}
 *                 MDMS: y_SM = H2(ID_SM, y_DC) x     -> {y_SM}; U = {ID_SM, ID_DC, y_DC}
 *                 SM: S_SM = y_SM + r_SM
 *   flight 1      SM: a, A = a + r_SM                -> {A}
 *   flight 2      DC: b, T_DC = bG, h = H2(ID_SM, y_DC),
 *                 k = b (A G + h P_pub), M1 = H(0, k) -> {T_DC, M1}
 *   flight 3      SM: k = (S_SM + a) T_DC, checks M1, M2 = H(1, k) -> {M2}
 *   both          K = H(ID_SM || ID_DC, k)
 *
 * H1(ID, R) is the hash to the curve of ID || R with the domain tag below. H2(ID, Y), H(tag, k) and
 * K are the SM2 KDF and SM3 over a label, a zero byte and the encoded values: a tag has to be
 * bytes. An ID is key_id; an encoded key_id tells its own length, so two of them in a row are
 * unambiguous.
 */
#include "keyagree/internal.h"

#include "base/check.h"
#include "crypto/secret.h"

#include <string.h>

#define LIU_FLIGHT1_BYTES SM2_SCALAR_BYTES
#define LIU_FLIGHT2_BYTES (SM2_POINT_BYTES + SM3_BYTES)
#define LIU_FLIGHT3_BYTES SM3_BYTES
/* The paper draws b again when k is infinity. That happens when A = -h x, which the meter can bring
 * about (h x is its y_SM) and which no b cures, so a second b is the last. */
#define LIU_DRAWS 2

_Static_assert(LIU_FLIGHT1_BYTES <= AGREE_FLIGHT1_BYTES, "fits");
_Static_assert(LIU_FLIGHT2_BYTES <= AGREE_FLIGHT2_BYTES, "fits");
_Static_assert(LIU_FLIGHT3_BYTES <= AGREE_FLIGHT3_BYTES, "fits");

static point liu_h1(struct span id, const point *r_dc)
{
    point_bytes r = point_encode(r_dc);
    const struct span parts[] = {id, span_of(r.b, sizeof r.b)};
    return point_hash_to_curve(parts, 2, SPAN_LITERAL("amiledger liu2023 H1 v1"));
}

static scalar liu_h2(struct span id, const point *y_dc)
{
    static const char label[] = "amiledger liu2023 H2 v1";
    uint8_t wide[SM2_WIDE_BYTES];
    point_bytes y = point_encode(y_dc);
    const struct span parts[] = {span_of(label, sizeof label), id, span_of(y.b, sizeof y.b)};
    sm2_kdf(wide, sizeof wide, parts, 3);
    return scalar_from_wide(wide);
}

/* M1 = H(0, k), M2 = H(1, k). */
static sm3_digest liu_tag(uint8_t number, const point_bytes *k)
{
    const struct span parts[] = {span_of(&number, 1), span_of(k->b, sizeof k->b)};
    return sm3_labelled("amiledger liu2023 tag v1", parts, 2);
}

/* K = H(ID_SM || ID_DC, k). */
static void liu_key(uint8_t out[AGREE_KEY_BYTES], const struct network *net,
                    const struct agree_terms *terms, const point_bytes *k)
{
    static const char label[] = "amiledger liu2023 key v1";
    uint8_t sm[KEY_ID_BYTES_MAX], dc[KEY_ID_BYTES_MAX];
    const struct span parts[] = {
        span_of(label, sizeof label),
        key_id(sm, net, ROLE_METER_AGREE, &terms->meter, terms->epoch),
        key_id(dc, net, ROLE_DC_AGREE, &terms->dc, terms->dc_epoch),
        span_of(k->b, sizeof k->b),
    };
    sm2_kdf(out, AGREE_KEY_BYTES, parts, 4);
}

/* --- issuance --------------------------------------------------------------------------------- */

static void liu_device_begin(struct agree_enrolling *out, enum key_role role,
                             const uint8_t random[SM2_WIDE_BYTES])
{
    memset(out, 0, sizeof *out);
    out->secret = scalar_from_wide(random);
    if (role == ROLE_DC_AGREE) {
        point r_dc = point_mul_base(&out->secret);
        agree_part_set_point(&out->request, &r_dc);
    }
}

static enum ami_status liu_mdms_issue(struct agree_secret *secret, struct agree_part *part,
                                      const struct network *net, const scalar *x,
                                      enum key_role role, const struct ami_id *name, uint32_t epoch,
                                      struct span home, struct span request,
                                      const uint8_t random[SM2_WIDE_BYTES])
{
    uint8_t id_bytes[KEY_ID_BYTES_MAX];
    struct span id = key_id(id_bytes, net, role, name, epoch);
    memset(secret, 0, sizeof *secret);
    memset(part, 0, sizeof *part);
    (void)random; /* nothing of the MDMS is random here */
    if (role == ROLE_DC_AGREE) {
        point r_dc;
        AMI_TRY(agree_point_parse(&r_dc, request));
        point base = liu_h1(id, &r_dc);
        if (point_is_infinity(&base))
            return AMI_BAD_CRYPTO;
        point y_dc = point_mul(x, &base);
        agree_part_set_point(part, &y_dc);
        return AMI_OK;
    }
    point y_dc;
    if (request.size != 0)
        return AMI_BAD_CRYPTO;
    AMI_TRY(agree_point_parse(&y_dc, home));
    scalar h = liu_h2(id, &y_dc);
    scalar y_sm = scalar_mul(&h, x);
    scalar_encode(secret->b, &y_sm);
    secret->size = SM2_SCALAR_BYTES;
    agree_part_set_point(part, &y_dc);
    secret_wipe(&y_sm, sizeof y_sm);
    return AMI_OK;
}

/* Whether y_sm G = h P_pub: the y_SM that belongs to this ID and this U. */
static bool liu_y_sm_fits(const scalar *y_sm, struct span id, const point *y_dc,
                          const struct network *net)
{
    scalar h = liu_h2(id, y_dc);
    point have = point_mul_base(y_sm), want = point_mul(&h, &net->p_pub);
    return point_equal(&have, &want);
}

static enum ami_status liu_device_accept(struct agree_key *out, const struct agree_enrolling *begun,
                                         const struct network *net, enum key_role role,
                                         const struct ami_id *name, uint32_t epoch,
                                         struct span secret, struct span part)
{
    *out = (struct agree_key){.scheme = SCHEME_LIU2023, .role = role, .name = *name};
    out->epoch = epoch;
    AMI_TRY(agree_point_parse(&out->w, part));
    if (role == ROLE_DC_AGREE) {
        out->d = begun->secret;
        return secret.size == 0 ? AMI_OK : AMI_BAD_CRYPTO;
    }
    scalar y_sm;
    uint8_t id[KEY_ID_BYTES_MAX];
    AMI_TRY(agree_scalar_parse(&y_sm, secret));
    bool fits = liu_y_sm_fits(&y_sm, key_id(id, net, role, name, epoch), &out->w, net);
    out->d = scalar_add(&y_sm, &begun->secret);
    out->r = begun->secret;
    secret_wipe(&y_sm, sizeof y_sm);
    return fits && !scalar_is_zero(&out->d) ? AMI_OK : AMI_BAD_CRYPTO;
}

static enum ami_status liu_key_restore(struct agree_key *key, const struct network *net, bool check)
{
    memset(&key->p, 0, sizeof key->p);
    memset(&key->z, 0, sizeof key->z);
    if (scalar_is_zero(&key->d) || (key->role == ROLE_METER_AGREE) == scalar_is_zero(&key->r))
        return AMI_BAD_CRYPTO;
    if (!check || key->role == ROLE_DC_AGREE)
        return AMI_OK;
    uint8_t id[KEY_ID_BYTES_MAX];
    scalar y_sm = scalar_sub(&key->d, &key->r);
    bool fits =
        !scalar_is_zero(&y_sm) &&
        liu_y_sm_fits(&y_sm, key_id(id, net, key->role, &key->name, key->epoch), &key->w, net);
    secret_wipe(&y_sm, sizeof y_sm);
    return fits ? AMI_OK : AMI_BAD_CRYPTO;
}

static void liu_peer_init_batch(struct agree_peer *out, enum ami_status *status,
                                const struct network *net, const struct agree_peer_in *in,
                                size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint8_t id[KEY_ID_BYTES_MAX];
        point y_dc;
        status[i] = agree_point_parse(&y_dc, in[i].part);
        if (status[i] != AMI_OK)
            continue;
        scalar h = liu_h2(key_id(id, net, ROLE_METER_AGREE, in[i].meter, in[i].epoch), &y_dc);
        scalar_encode(out[i].z.b, &h);
    }
}

/* --- flights ---------------------------------------------------------------------------------- */

static enum ami_status liu_meter_start(struct agree_state *state, const struct agree_key *key,
                                       const uint8_t random[SM2_WIDE_BYTES])
{
    state->secret = scalar_from_wide(random);
    scalar a_sent = scalar_add(&state->secret, &key->r);
    scalar sum = scalar_add(&state->secret, &key->d);
    bool usable = !scalar_is_zero(&a_sent) && !scalar_is_zero(&sum);
    scalar_encode(state->flight, &a_sent);
    state->flight_size = LIU_FLIGHT1_BYTES;
    secret_wipe(&sum, sizeof sum);
    return usable ? AMI_OK : AMI_BAD_CRYPTO;
}

/* K and M1 are checked, M2 made, once k is computed. */
static enum ami_status liu_meter_finish(struct agree_result *out, const struct network *net,
                                        struct span flight2, const point *k)
{
    point_bytes k_bytes = point_encode(k);
    sm3_digest m1 = liu_tag(0, &k_bytes), m2 = liu_tag(1, &k_bytes);
    enum ami_status status = AMI_BAD_CRYPTO;
    if (secret_equal(m1.b, flight2.data + SM2_POINT_BYTES, sizeof m1.b)) {
        liu_key(out->k, net, &out->terms, &k_bytes);
        memcpy(out->flight, m2.b, sizeof m2.b);
        out->flight_size = LIU_FLIGHT3_BYTES;
        status = AMI_OK;
    }
    secret_wipe(&k_bytes, sizeof k_bytes);
    secret_wipe(&m2, sizeof m2);
    return status;
}

static void liu_meter_answer_batch(struct agree_result *out, enum ami_status *status,
                                   const struct agree_meter_in *in, const struct network *net,
                                   size_t count)
{
    point t_dc[AGREE_CHUNK] = {0}, k[AGREE_CHUNK];
    scalar sum[AGREE_CHUNK] = {0};
    size_t of[AGREE_CHUNK], good = 0;
    AMI_CHECK(count <= AGREE_CHUNK);
    for (size_t i = 0; i < count; i++) {
        if (status[i] != AMI_OK)
            continue;
        const struct span flight2 = in[i].in->flight;
        status[i] = AMI_BAD_CRYPTO;
        if (flight2.size != LIU_FLIGHT2_BYTES ||
            agree_point_parse(&t_dc[good], span_of(flight2.data, SM2_POINT_BYTES)) != AMI_OK)
            continue;
        sum[good] = scalar_add(&in[i].key->d, &in[i].state->secret); /* not zero: checked before */
        of[good++] = i;
    }
    point_mul_batch(k, sum, t_dc, good);
    for (size_t i = 0; i < good; i++)
        status[of[i]] = liu_meter_finish(&out[of[i]], net, in[of[i]].in->flight, &k[i]);
    secret_wipe(sum, good * sizeof sum[0]);
    secret_wipe(k, good * sizeof k[0]);
}

static scalar liu_draw_b(const uint8_t random[SM2_WIDE_BYTES], unsigned draw)
{
    static const char label[] = "amiledger liu2023 b again v1";
    uint8_t wide[SM2_WIDE_BYTES];
    if (draw == 0)
        return scalar_from_wide(random);
    const struct span parts[] = {span_of(label, sizeof label), span_of(random, SM2_WIDE_BYTES)};
    sm2_kdf(wide, sizeof wide, parts, 2);
    scalar b = scalar_from_wide(wide);
    secret_wipe(wide, sizeof wide);
    return b;
}

/* One go at k = (b A) G + (b h) P_pub for a group. Fills the answers whose k is finite. */
static void liu_answer_draw(struct agree_answer *out, const struct network *net,
                            const struct point_table *p_pub, const struct agree_request *in,
                            const scalar *a, size_t count, unsigned draw)
{
    scalar b[AGREE_CHUNK] = {0}, b_a[AGREE_CHUNK] = {0}, b_h[AGREE_CHUNK] = {0};
    point t_dc[AGREE_CHUNK], k[AGREE_CHUNK];
    for (size_t i = 0; i < count; i++) {
        scalar h = scalar_reduce(in[i].peer->z.b);
        b[i] = liu_draw_b(in[i].random, draw);
        b_a[i] = scalar_mul(&b[i], &a[i]);
        b_h[i] = scalar_mul(&b[i], &h);
    }
    point_mul_base_batch(t_dc, b, count);
    point_mul_base_table_batch(k, b_a, b_h, p_pub, count);
    for (size_t i = 0; i < count; i++) {
        if (point_is_infinity(&k[i]))
            continue;
        point_bytes k_bytes = point_encode(&k[i]), t_bytes = point_encode(&t_dc[i]);
        sm3_digest m1 = liu_tag(0, &k_bytes), m2 = liu_tag(1, &k_bytes);
        memcpy(out[i].flight, t_bytes.b, SM2_POINT_BYTES);
        memcpy(out[i].flight + SM2_POINT_BYTES, m1.b, SM3_BYTES);
        out[i].flight_size = LIU_FLIGHT2_BYTES;
        memcpy(out[i].pending.expected, m2.b, SM3_BYTES);
        out[i].pending.expected_size = LIU_FLIGHT3_BYTES;
        liu_key(out[i].pending.k, net, &in[i].terms, &k_bytes);
        out[i].status = AMI_OK;
        secret_wipe(&k_bytes, sizeof k_bytes);
        secret_wipe(&m2, sizeof m2);
    }
    secret_wipe(b, sizeof b);
    secret_wipe(b_a, sizeof b_a);
    secret_wipe(b_h, sizeof b_h);
    secret_wipe(k, sizeof k);
}

static void liu_dc_answer(struct agree_answer *out, const struct network *net,
                          const struct agree_key *key, const struct point_table *p_pub,
                          const struct agree_request *in, size_t count)
{
    static const scalar one = {{1}};
    scalar a[AGREE_CHUNK];
    bool good[AGREE_CHUNK];
    AMI_CHECK(count <= AGREE_CHUNK);
    AMI_CHECK(point_equal(point_table_point(p_pub), &net->p_pub));
    (void)key; /* nothing of the DC's own key enters: r_DC is never used */
    for (size_t i = 0; i < count; i++) {
        out[i].status = AMI_BAD_CRYPTO;
        good[i] = agree_scalar_parse(&a[i], in[i].flight) == AMI_OK;
        if (!good[i])
            a[i] = one; /* keeps the group whole; its result is thrown away */
    }
    liu_answer_draw(out, net, p_pub, in, a, count, 0);
    for (size_t i = 0; i < count; i++) {
        for (unsigned draw = 1; good[i] && out[i].status != AMI_OK && draw < LIU_DRAWS; draw++)
            liu_answer_draw(&out[i], net, p_pub, &in[i], &a[i], 1, draw);
        if (!good[i])
            out[i].status = AMI_BAD_CRYPTO;
    }
}

static enum ami_status liu_peer_init(struct agree_peer *out, const struct network *net,
                                     const struct ami_id *meter, uint32_t epoch, struct span part)
{
    const struct agree_peer_in in = {meter, epoch, part};
    enum ami_status status;
    memset(out, 0, sizeof *out);
    liu_peer_init_batch(out, &status, net, &in, 1);
    return status;
}

static enum ami_status liu_meter_answer(struct agree_result *out, const struct agree_state *state,
                                        const struct network *net, const struct agree_key *key,
                                        struct span flight2)
{
    const struct agree_flight2 f = {
        .dc = out->terms.dc, .dc_epoch = out->terms.dc_epoch, .flight = flight2};
    struct agree_state copy = *state;
    const struct agree_meter_in in = {&copy, key, &f};
    enum ami_status status = AMI_OK;
    liu_meter_answer_batch(out, &status, &in, net, 1);
    secret_wipe(&copy, sizeof copy);
    return status;
}

const struct scheme scheme_liu2023 = {
    .name = "liu2023",
    .number = SCHEME_LIU2023,
    .summary = "the published scheme, faithful, with its known weaknesses; for research",
    .needs_p_pub_table = true,
    .device_begin = liu_device_begin,
    .mdms_issue = liu_mdms_issue,
    .device_accept = liu_device_accept,
    .key_restore = liu_key_restore,
    .peer_init = liu_peer_init,
    .peer_init_batch = liu_peer_init_batch,
    .meter_start = liu_meter_start,
    .meter_answer = liu_meter_answer,
    .meter_answer_batch = liu_meter_answer_batch,
    .dc_answer = liu_dc_answer,
};
