/* sim/lab/attack_middle.c - somebody between the meter and the DC who changes what passes. */
#include "sim/lab/attack.h"

#include "base/check.h"

#include <stdio.h>
#include <string.h>

/* --- every field ----------------------------------------------------------------------------- */

/* Fields that travel. */
enum field {
    F1_METER,
    F1_EPOCH,
    F1_TAG,
    F1_INSIST,
    F1_VALUES,
    F2_METER,
    F2_TAG,
    F2_CHAIN,
    F2_SCHEME,
    F2_TERM,
    F2_SESSION,
    F2_DC,
    F2_DC_EPOCH,
    F2_VALUES,
    F3_SESSION,
    F3_VALUES,
    FIELDS
};
static const char *const field_names[FIELDS] = {
    "meter (1)",    "epoch (1)",  "tag (1)",     "insist (1)", "values (1)",  "meter (2)",
    "tag (2)",      "chain (2)",  "scheme (2)",  "term (2)",   "session (2)", "DC (2)",
    "DC epoch (2)", "values (2)", "session (3)", "values (3)"};

/* How many ways there are to change a field: one, or one for each byte. */
static size_t ways(enum field f, const struct arena_run *r)
{
    return f == F1_VALUES   ? r->f1.flight.size
           : f == F2_VALUES ? r->answer.flight_size
           : f == F3_VALUES ? r->result.flight_size
                            : 1;
}

static struct span flipped(uint8_t out[AMI_FLIGHT_BYTES_MAX], struct span flight, size_t way)
{
    memcpy(out, flight.data, flight.size);
    out[way] ^= 1;
    return span_of(out, flight.size);
}

/* What the DC knows of a meter of this name and epoch; NULL: there is none. */
static const struct agree_peer *look_up(const struct arena *a, const struct agree_flight1 *f1)
{
    for (unsigned i = 0; i < ARENA_METERS; i++)
        if (ami_id_equal(&a->meter[i].name, &f1->meter) && a->meter[i].epoch == f1->epoch)
            return &a->peer[i];
    return NULL;
}

/* One run with one change. True: both sides finished although they do not agree on what was said.
 * What of flight 1 comes back in flight 2 is changed back there, and the session's id in flight 3.
 */
static bool changed_run(struct arena *a, enum field f, size_t way)
{
    struct arena_run r;
    uint8_t bytes[AMI_FLIGHT_BYTES_MAX];
    arena_start(a, &r, 0, 0);
    struct agree_flight1 f1 = r.f1;
    if (f == F1_METER)
        f1.meter = a->meter[1].name;
    f1.epoch += f == F1_EPOCH;
    f1.tag ^= f == F1_TAG;
    f1.insist ^= f == F1_INSIST;
    if (f == F1_VALUES)
        f1.flight = flipped(bytes, f1.flight, way);
    const struct agree_peer *peer = look_up(a, &f1);
    if (peer == NULL)
        return false;
    arena_answer(a, &r, &f1, peer);
    if (r.answer.status != AMI_OK)
        return false;
    struct agree_flight2 f2 = r.f2;
    f2.meter = f == F2_METER ? a->meter[1].name : r.f1.meter;
    f2.tag = f == F2_TAG ? r.f1.tag ^ 1 : r.f1.tag;
    f2.chain.b[0] ^= f == F2_CHAIN;
    f2.scheme ^= f == F2_SCHEME;
    f2.term += f == F2_TERM;
    f2.session ^= f == F2_SESSION;
    if (f == F2_DC)
        f2.dc = a->dc[1].name;
    f2.dc_epoch += f == F2_DC_EPOCH;
    if (f == F2_VALUES)
        f2.flight = flipped(bytes, f2.flight, way);
    if (arena_meter(a, &r, &f2) != AMI_OK)
        return false;
    struct agree_flight3 f3 = r.f3;
    f3.session ^= f == F2_SESSION || f == F3_SESSION;
    if (f == F3_VALUES)
        f3.flight = flipped(bytes, f3.flight, way);
    /* The DC looks the run up by its session's id. */
    return f3.session == r.terms.session && arena_confirm(a, &r, f3.flight) == AMI_OK;
}

static bool every_field(struct attack_context *c)
{
    const struct scheme *scheme = attack_scheme(c, WITHOUT_TRANSCRIPT);
    char passed[256] = "";
    size_t n = 0, tried = 0, fields = 0;
    if (scheme == NULL)
        return false;
    struct arena *a = arena_new(scheme, c->seed);
    struct arena_run like;
    arena_agree(a, &like, 0, 0);
    for (int f = 0; f < FIELDS; f++) {
        bool any = false;
        for (size_t way = 0; way < ways((enum field)f, &like); way++, tried++)
            any = changed_run(a, (enum field)f, way) || any;
        if (any)
            n += (size_t)snprintf(passed + n, sizeof passed - n, "%s%s", fields++ == 0 ? "" : ", ",
                                  field_names[f]);
        AMI_CHECK(n < sizeof passed);
    }
    arena_free(a);
    if (fields == 0)
        return attack_says(c, false, "none of %zu changes in %d fields got past both sides", tried,
                           FIELDS);
    return attack_says(c, true, "both sides finish, of different minds, after changes of: %s",
                       passed);
}

/* --- whom with ------------------------------------------------------------------------------- */

static bool misbinding(struct attack_context *c)
{
    const struct scheme *scheme = attack_scheme(c, WITHOUT_NAMES | WITHOUT_CERTIFICATE);
    if (scheme == NULL)
        return false;
    struct arena *a = arena_new(scheme, c->seed);
    struct arena_run r;
    arena_start(a, &r, 0, 0);
    arena_answer(a, &r, &r.f1, &a->peer[0]);
    AMI_CHECK(r.answer.status == AMI_OK);
    struct agree_flight2 f2 = r.f2;
    f2.dc = a->dc[1].name;
    enum ami_status status = arena_meter(a, &r, &f2);
    bool broken;
    if (status != AMI_OK)
        broken = attack_says(c, false, "the meter refuses dc-1's answer under the name of dc-2: %s",
                             ami_status_name(status));
    else
        broken = attack_says(
            c, arena_confirm(a, &r, r.f3.flight) == AMI_OK,
            "meter-1 has finished with dc-2, K = %s, dc-1 has finished with meter-1, K = %s",
            attack_hex(r.result.k, AGREE_KEY_BYTES),
            attack_hex(r.answer.pending.k, AGREE_KEY_BYTES));
    arena_free(a);
    return broken;
}

/* What the adversary, enrolled as meter-3, sends under its own name when the victim's first flight
 * has passed by: the victim's values, changed so that the DC computes the victim's V all the same.
 */
struct unknown_share {
    struct agree_flight1 f1;
    uint8_t flight[AGREE_FLIGHT1_BYTES];
    struct agree_peer peer; /* what the DC knows of meter-3 */
};

/* liu2023: k = (A + y) T. With the master key from its own y and U the adversary knows both y. */
static void share_liu2023(struct arena *a, struct unknown_share *u, const struct agree_flight1 *f1)
{
    scalar own_h = scalar_reduce(a->peer[2].z.b), victim_h = scalar_reduce(a->peer[0].z.b), value;
    scalar own_y = scalar_sub(&a->meter[2].d, &a->meter[2].r), inverse = scalar_inverse(&own_h);
    scalar x = scalar_mul(&own_y, &inverse), victim_y = scalar_mul(&x, &victim_h);
    AMI_CHECK(scalar_decode(&value, f1->flight.data) == AMI_OK);
    value = scalar_add(&value, &victim_y);
    value = scalar_sub(&value, &own_y);
    scalar_encode(u->flight, &value);
}

/* sm2kx: the adversary enrols a point made from the victim's, P_E = P_A + x'_A R_A - x'_E R_E, so
 * that P_E + x'_E R_E is what it is for the victim. It has no private key for it. */
static void share_sm2kx(struct attack_context *c, struct arena *a, struct unknown_share *u,
                        const struct agree_flight1 *f1)
{
    uint8_t wide[SM2_WIDE_BYTES];
    point_bytes bytes;
    point r_a;
    arena_random(a, wide, sizeof wide);
    scalar secret = scalar_from_wide(wide);
    point r_e = point_mul_base(&secret);
    memcpy(bytes.b, f1->flight.data, sizeof bytes.b);
    AMI_CHECK(point_decode(&r_a, &bytes) == AMI_OK);
    scalar x_a = lab_sm2kx_x_bar(&r_a), x_e = lab_sm2kx_x_bar(&r_e);
    point left = point_mul(&x_a, &r_a), right = point_mul(&x_e, &r_e), minus = point_negate(&right);
    point sum = point_add(&a->meter[0].p, &left), p_e = point_add(&sum, &minus);
    bytes = point_encode(&p_e);
    struct agree_part part = {.size = SM2_POINT_BYTES};
    memcpy(part.b, bytes.b, sizeof bytes.b);
    if (!c->control) {
        struct agree_secret secret_reply;
        arena_random(a, wide, sizeof wide);
        AMI_CHECK(a->scheme->mdms_issue(&secret_reply, &part, &a->mdms.net, &a->mdms.x,
                                        ROLE_METER_AGREE, &a->meter[2].name, 1,
                                        agree_part_span(&a->dc_part[0]),
                                        span_of(bytes.b, sizeof bytes.b), wide) == AMI_OK);
    }
    AMI_CHECK(agree_peer_init(&u->peer, a->scheme, &a->mdms.net, &a->meter[2].name, 1,
                              agree_part_span(&part)) == AMI_OK);
    bytes = point_encode(&r_e);
    memcpy(u->flight, bytes.b, sizeof bytes.b);
}

/* The victim's first flight goes on under the adversary's name, the answer comes back under the
 * victim's. What for: a shared key, or merely that both finish. */
static bool two_names(struct attack_context *c)
{
    const bool same_key = c->which != 0;
    unsigned without = WITHOUT_NAMES;
    if (c->scheme->number != SCHEME_LIU2023)
        without |= WITHOUT_TRANSCRIPT | WITHOUT_DC_PROOF | WITHOUT_METER_PROOF;
    if (c->scheme->number == SCHEME_SM2KX)
        without |= WITHOUT_CERTIFICATE;
    const struct scheme *scheme = attack_scheme(c, without);
    if (scheme == NULL)
        return false;
    struct arena *a = arena_new(scheme, c->seed);
    struct arena_run r;
    struct unknown_share u;
    arena_start(a, &r, 0, 0);
    u.peer = a->peer[2];
    memcpy(u.flight, r.f1.flight.data, r.f1.flight.size);
    if (c->scheme->number == SCHEME_LIU2023)
        share_liu2023(a, &u, &r.f1);
    else if (c->scheme->number == SCHEME_SM2KX)
        share_sm2kx(c, a, &u, &r.f1);
    u.f1 = r.f1;
    u.f1.meter = a->meter[2].name;
    u.f1.flight = span_of(u.flight, r.f1.flight.size);
    arena_answer(a, &r, &u.f1, &u.peer);
    enum ami_status status = r.answer.status;
    if (status == AMI_OK) {
        struct agree_flight2 f2 = r.f2;
        f2.meter = a->meter[0].name;
        status = arena_meter(a, &r, &f2);
    }
    if (status == AMI_OK)
        status = arena_confirm(a, &r, r.f3.flight);
    bool equal = memcmp(r.result.k, r.answer.pending.k, AGREE_KEY_BYTES) == 0;
    bool broken;
    if (status != AMI_OK)
        broken = attack_says(c, false, "the run under two names is refused: %s",
                             ami_status_name(status));
    else
        broken =
            attack_says(c, equal || !same_key,
                        "meter-1 has finished with dc-1, K = %s, and dc-1 with meter-3, %s%s",
                        attack_hex(r.result.k, AGREE_KEY_BYTES), equal ? "with the same K" : "K = ",
                        equal ? "" : attack_hex(r.answer.pending.k, AGREE_KEY_BYTES));
    arena_free(a);
    return broken;
}

const struct attack attacks_middle[] = {
    {.name = "middle-every-field",
     .row = ROW_MITM,
     .knows = "what is public; every flight passes through its hands",
     .goal = "both sides finish although a field was changed on its way",
     .protection = "tags or signatures over the whole of flights 1 and 2",
     .run = every_field},
    {.name = "misbinding",
     .row = ROW_MITM,
     .knows = "what is public; every flight passes through its hands",
     .goal = "both sides finish, the meter with the wrong DC in mind",
     .protection = "names enter the DC's certified key, Z and the tags",
     .run = misbinding},
    {.name = "misbinding-meter",
     .row = ROW_MITM,
     .knows = "what is public, and a meter of its own, enrolled with a point of its choice",
     .goal = "both sides finish, the DC with the adversary's meter in mind",
     .protection = "names enter the key, points are blinded when certified, and the transcript is "
                   "confirmed",
     .run = two_names,
     .which = false},
    {.name = "unknown-key-share",
     .row = ROW_KEY_SHARE,
     .knows = "what is public, and a meter of its own, enrolled with a point of its choice",
     .goal = "meter and DC share a key, and the DC believes that it is the adversary's",
     .protection = "names enter the key, points are blinded when certified, and the transcript is "
                   "confirmed",
     .run = two_names,
     .which = true},
    {0}};
