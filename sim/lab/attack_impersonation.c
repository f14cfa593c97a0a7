/* sim/lab/attack_impersonation.c - somebody else answers. */
#include "sim/lab/attack.h"

#include "base/check.h"

#include <string.h>

/* --- playing a DC ---------------------------------------------------------------------------- */

/* The adversary runs the DC's code with this key under the name of DC 0, and with this idea of the
 * meter's part of U. It does not care who sends the first flight, so it runs the weakened code.
 * Reached: the meter is in a session with it. */
static bool play_leader(struct attack_context *c, struct arena *a, unsigned without,
                        const struct agree_key *key, const struct agree_peer *peer)
{
    struct arena_run r;
    struct agree_key as = *key;
    char reading[32];
    uint8_t id[KEY_ID_BYTES_MAX];
    as.name = a->dc[0].name;
    as.epoch = a->dc[0].epoch;
    /* What the meter will compute over the name that it is told. */
    if (!point_is_infinity(&as.p) && (without & WITHOUT_NAMES) == 0)
        as.z = sm2_z(key_id(id, &a->mdms.net, ROLE_DC_AGREE, &as.name, as.epoch), &as.p);
    arena_start(a, &r, 0, 0);
    r.terms = agree_terms_for(&r.f1, &as, &a->chain, 4, 0x6164766572736172);
    struct agree_request request = {.terms = r.terms, .peer = peer, .flight = r.f1.flight};
    arena_random(a, request.random, sizeof request.random);
    const struct scheme *own = lab_weak(c->scheme, without | WITHOUT_METER_PROOF);
    if (own == NULL)
        own = c->scheme;
    as.scheme = own->number;
    own->dc_answer(&r.answer, &a->mdms.net, &as, a->p_pub, &request, 1);
    (void)lab_weak(c->scheme, without);
    if (r.answer.status != AMI_OK)
        return attack_says(c, false, "the adversary cannot even answer: %s",
                           ami_status_name(r.answer.status));
    struct agree_flight2 f2 = agree_flight2_of(&r.terms, &r.answer);
    enum ami_status status = arena_meter(a, &r, &f2);
    if (status != AMI_OK)
        return attack_says(c, false, "the meter refuses the adversary's second flight %s...: %s",
                           attack_hex(f2.flight.data, 8), ami_status_name(status));
    arena_send_reading(a, &r);
    if (arena_open(r.answer.pending.k, &r.terms, &r.message, reading))
        return attack_says(c, true,
                           "meter-1 is in session with the adversary as dc-1, K = %s, and sends it "
                           "its reading: %s",
                           attack_hex(r.answer.pending.k, AGREE_KEY_BYTES), reading);
    return attack_says(c, true, "meter-1 believes that it is in session with dc-1, K = %s",
                       attack_hex(r.result.k, AGREE_KEY_BYTES));
}

/* Not even the meter's part of U: any point stands in for it. */
static bool leader_nothing(struct attack_context *c)
{
    const struct scheme *scheme = attack_scheme(c, WITHOUT_DC_PROOF);
    if (scheme == NULL)
        return false;
    struct arena *a = arena_new(scheme, c->seed);
    struct agree_key key;
    struct agree_peer peer;
    struct agree_part guess = {.size = SM2_POINT_BYTES};
    arena_made_up(a, &key, &a->dc[0]);
    point_bytes p = point_encode(&key.p);
    memcpy(guess.b, p.b, sizeof p.b);
    AMI_CHECK(agree_peer_init(&peer, scheme, &a->mdms.net, &a->meter[0].name, 1,
                              agree_part_span(&guess)) == AMI_OK);
    bool broken = play_leader(c, a, c->control ? WITHOUT_DC_PROOF : 0, &key, &peer);
    arena_free(a);
    return broken;
}

enum leader_key { KEY_MADE_UP, KEY_OF_OTHER_DC };

static bool leader_with(struct attack_context *c)
{
    const struct scheme *scheme = attack_scheme(c, WITHOUT_CERTIFICATE);
    if (scheme == NULL)
        return false;
    struct arena *a = arena_new(scheme, c->seed);
    struct agree_key key = a->dc[1];
    if (c->which == KEY_MADE_UP)
        arena_made_up(a, &key, &a->dc[0]);
    bool broken = play_leader(c, a, c->control ? WITHOUT_CERTIFICATE : 0, &key, &a->peer[0]);
    arena_free(a);
    return broken;
}

/* Key compromise. Beside the made-up key of leader_with, with the meter's private key at hand: R_B
 * is chosen so that P_B + x' R_B = uG for a guessed x'. Were the guess right, V = u (P_A + x'_A
 * R_A) could be computed without d_B; x' follows from R_B, though, so the guess is as good as any.
 */
static bool cancel_dc_key(struct arena *a, struct attack_context *c)
{
    struct arena_run r;
    uint8_t wide[SM2_WIDE_BYTES], bytes[32] = {0};
    point_bytes r_a_bytes;
    point r_a;
    arena_start(a, &r, 0, 0);
    arena_random(a, wide, sizeof wide);
    memcpy(bytes + 16, wide, 16);
    bytes[16] |= 0x80;
    scalar guess = scalar_reduce(bytes), inverse = scalar_inverse(&guess);
    arena_random(a, wide, sizeof wide);
    scalar u = scalar_from_wide(wide);
    point sum = point_mul_base(&u), p_b = point_negate(&a->dc[0].p), r_b = point_add(&sum, &p_b);
    r_b = point_mul(&inverse, &r_b);
    scalar real = lab_sm2kx_x_bar(&r_b);
    memcpy(r_a_bytes.b, r.f1.flight.data, sizeof r_a_bytes.b);
    AMI_CHECK(point_decode(&r_a, &r_a_bytes) == AMI_OK);
    scalar x_a = lab_sm2kx_x_bar(&r_a);
    point own = point_mul(&x_a, &r_a), t_a = point_add(&a->meter[0].p, &own),
          v = point_mul(&u, &t_a);
    return attack_says(c, scalar_equal(&guess, &real) && !point_is_infinity(&v),
                       "the meter refuses a made-up key; R_B that cancels P_B needs an x' fixed "
                       "before R_B: guessed %s..., is %s...",
                       attack_hex(bytes + 16, 4), attack_hex(&real.w[1], 4));
}

static bool kci_meter(struct attack_context *c)
{
    if (leader_with(c))
        return true;
    if (c->no_control || c->scheme->number != SCHEME_SM2KX)
        return false;
    struct arena *a = arena_new(c->scheme, c->seed);
    bool broken = cancel_dc_key(a, c);
    arena_free(a);
    return broken;
}

/* --- playing a meter ------------------------------------------------------------------------- */

/* Third flights that can be made without the key: what was seen, what came in, nothing. */
static bool guess_flight3(struct arena *a, const struct arena_run *now,
                          const struct arena_run *past)
{
    uint8_t zero[AGREE_FLIGHT3_BYTES] = {0};
    size_t size = past->f3.flight.size;
    if (arena_confirm(a, now, span_of(zero, size)) == AMI_OK ||
        arena_confirm(a, now, past->f3.flight) == AMI_OK)
        return true;
    for (size_t at = 0; at + size <= now->answer.flight_size; at++)
        if (arena_confirm(a, now, span_of(now->answer.flight + at, size)) == AMI_OK)
            return true;
    return false;
}

/* The adversary runs the meter's own code with this key under the name of meter 0. */
static bool play_meter(struct attack_context *c, struct arena *a, const struct agree_key *key)
{
    struct arena_run past, r;
    arena_agree(a, &past, 0, 0);
    arena_start(a, &r, 0, 0);
    AMI_CHECK(agree_meter_start(&r.state, key, 70, false, r.meter_random) == AMI_OK);
    r.f1 = agree_flight1_of(&r.state, key);
    arena_answer(a, &r, &r.f1, &a->peer[0]);
    if (r.answer.status != AMI_OK)
        return attack_says(c, false, "the DC refuses the adversary's first flight %s...: %s",
                           attack_hex(r.f1.flight.data, 8), ami_status_name(r.answer.status));
    struct agree_state state = r.state;
    bool good =
        agree_meter_answer(&r.result, &state, &a->mdms.net, key, &a->chain, &r.f2) == AMI_OK &&
        arena_confirm(a, &r, span_of(r.result.flight, r.result.flight_size)) == AMI_OK;
    if (!good && !guess_flight3(a, &r, &past))
        return attack_says(c, false,
                           "no third flight that the adversary can make is the one that "
                           "dc-1 waits for, %s...",
                           attack_hex(r.answer.pending.expected, 8));
    return attack_says(c, true, "dc-1 holds a confirmed session in the name of meter-1, K = %s",
                       attack_hex(r.answer.pending.k, AGREE_KEY_BYTES));
}

enum meter_key { METER_KEY_MADE_UP, METER_KEY_OF_DC };

/* With the DC's long-term key at hand it uses that key as if it were the meter's. */
static bool meter_with(struct attack_context *c)
{
    const struct scheme *scheme = attack_scheme(c, WITHOUT_METER_PROOF);
    if (scheme == NULL)
        return false;
    struct arena *a = arena_new(scheme, c->seed);
    struct agree_key key;
    arena_made_up(a, &key, &a->meter[0]);
    if (c->which == METER_KEY_OF_DC)
        key.d = a->dc[0].d;
    bool broken = play_meter(c, a, &key);
    arena_free(a);
    return broken;
}

const struct attack attacks_impersonation[] = {
    {.name = "impersonate-meter",
     .row = ROW_IMPERSONATION,
     .knows = "what is public, and the flights of an earlier run",
     .goal = "the DC confirms a session in the meter's name",
     .protection = "the DC checks the third flight (and under ecdh the first one's signature)",
     .run = meter_with,
     .which = METER_KEY_MADE_UP},
    {.name = "impersonate-leader",
     .row = ROW_IMPERSONATION,
     .knows = "what is public but U, and the meter's first flight",
     .goal = "the meter accepts an answer in the leader's name",
     .protection = "the meter checks that the DC knows the key",
     .run = leader_nothing},
    {.name = "impersonate-leader-with-u",
     .row = ROW_IMPERSONATION,
     .knows = "the ledger, and so the meter's U; no private key",
     .goal = "the meter is in a session with the adversary in the leader's name",
     .protection = "the DC's public key is certified for its name by the MDMS",
     .run = leader_with,
     .which = KEY_MADE_UP},
    {.name = "impersonate-leader-as-another-dc",
     .row = ROW_IMPERSONATION,
     .knows = "the ledger, and the keys of another DC",
     .goal = "the meter is in a session with the adversary in the leader's name",
     .protection = "the DC's public key is certified for its name by the MDMS",
     .run = leader_with,
     .which = KEY_OF_OTHER_DC},
    {.name = "key-compromise-meter",
     .row = ROW_COMPROMISE,
     .knows = "the ledger, and the long-term key of the meter that it lies to",
     .goal = "the meter is in a session with the adversary in the leader's name",
     .protection = "the DC's public key is certified for its name by the MDMS",
     .run = kci_meter},
    {.name = "key-compromise-dc",
     .row = ROW_COMPROMISE,
     .knows = "the ledger, and the long-term key of the DC that it lies to",
     .goal = "the DC confirms a session in the meter's name",
     .protection = "the DC checks the third flight (and under ecdh the first one's signature)",
     .run = meter_with,
     .which = METER_KEY_OF_DC},
    {0}};
