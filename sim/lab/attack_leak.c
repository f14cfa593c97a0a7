/* sim/lab/attack_leak.c - something secret is known: a meter's key, a session's value, an ephemeral
 * one; and recorded traffic is to be opened with it. */
#include "sim/lab/attack.h"

#include "base/check.h"

#include <string.h>

/* Computes a recorded run's K as the meter's own code would, from a key and an ephemeral secret,
 * and opens the recorded reading with it. */
static bool as_meter(struct arena *a, const struct arena_run *tape, const struct agree_key *key,
                     const scalar *ephemeral, uint8_t k[AGREE_KEY_BYTES], char reading[32])
{
    struct agree_state state = tape->state;
    struct agree_result result = {.terms = tape->terms};
    state.secret = *ephemeral;
    if (a->scheme->meter_answer(&result, &state, &a->mdms.net, key, tape->f2.flight) != AMI_OK)
        return false;
    memcpy(k, result.k, AGREE_KEY_BYTES);
    return arena_open(k, &tape->terms, &tape->message, reading);
}

/* The same as the DC's own code would. */
static bool as_dc(struct arena *a, const struct arena_run *tape, const struct agree_key *key,
                  const uint8_t ephemeral[SM2_WIDE_BYTES], uint8_t k[AGREE_KEY_BYTES],
                  char reading[32])
{
    struct agree_answer answer;
    struct agree_request request = {
        .terms = tape->terms, .peer = &a->peer[tape->meter], .flight = tape->f1.flight};
    memcpy(request.random, ephemeral, sizeof request.random);
    agree_answer_batch(&answer, &a->mdms.net, key, a->p_pub, &request, 1);
    memcpy(k, answer.pending.k, AGREE_KEY_BYTES);
    return answer.status == AMI_OK &&
           arena_open(answer.pending.k, &tape->terms, &tape->message, reading);
}

/* A key of which everything is known that is public, and nothing else. */
static struct agree_key public_part(struct arena *a, const struct agree_key *key)
{
    struct agree_key out;
    arena_made_up(a, &out, key);
    out.w = key->w;
    out.p = key->p;
    out.z = key->z;
    return out;
}

static bool opened(struct attack_context *c, bool open, const uint8_t k[AGREE_KEY_BYTES],
                   const char *reading, const struct arena_run *tape, const char *failed)
{
    if (!open)
        return attack_says(c, false, "%s; the recorded message %s... stays closed", failed,
                           attack_hex(tape->sealed, 8));
    return attack_says(c, true, "K = %s opens the recorded reading: %s%s",
                       attack_hex(k, AGREE_KEY_BYTES), reading,
                       strcmp(reading, tape->reading) == 0 ? "" : " (not the one that was sent)");
}

/* --- the master key -------------------------------------------------------------------------- */

#define SECRETS 4
#define PUBLICS 4

/* Quotients of what the two were given over what is public: x, if one of them is. */
static bool find_x(struct arena *a, scalar *x)
{
    const struct agree_key *own = &a->meter[0], *dc = &a->dc[1];
    scalar secret[SECRETS] = {{{0}}}, over[PUBLICS] = {{{1}}};
    sm3_digest h_a = key_h_a(&a->mdms.net, ROLE_METER_AGREE, &own->name, own->epoch);
    sm3_digest h_dc = key_h_a(&a->mdms.net, ROLE_DC_AGREE, &dc->name, dc->epoch);
    if (a->meter_reply[0].size == SM2_SCALAR_BYTES)
        AMI_CHECK(scalar_decode(&secret[0], a->meter_reply[0].b) == AMI_OK);
    secret[1] = own->d;
    secret[2] = scalar_sub(&own->d, &own->r);
    secret[3] = dc->d;
    over[1] = scalar_reduce(a->peer[0].z.b); /* liu2023: h = H2(ID_SM, y_DC), from U */
    over[2] = sm2_implicit_lambda(&own->w, &h_a);
    over[3] = sm2_implicit_lambda(&dc->w, &h_dc);
    for (int i = 0; i < SECRETS; i++)
        for (int k = 0; k < PUBLICS; k++) {
            scalar inverse = scalar_inverse(&over[k]), candidate = scalar_mul(&secret[i], &inverse);
            point p = point_mul_base(&candidate);
            if (!scalar_is_zero(&candidate) && point_equal(&p, &a->mdms.net.p_pub)) {
                *x = candidate;
                return true;
            }
        }
    return false;
}

/* With x the adversary issues itself meter-2's y_SM and opens what meter-2 sent. Under liu2023 the
 * ephemeral secret and r_SM are not needed: a + S_SM = A + y_SM. */
static bool open_with_x(struct arena *a, const struct arena_run *tape, const scalar *x,
                        char reading[32])
{
    struct agree_secret y;
    struct agree_part part;
    uint8_t random[SM2_WIDE_BYTES] = {1}, k[AGREE_KEY_BYTES];
    struct agree_key key = public_part(a, &a->meter[tape->meter]);
    scalar value;
    if (tape->f1.flight.size != SM2_SCALAR_BYTES ||
        a->scheme->mdms_issue(&y, &part, &a->mdms.net, x, ROLE_METER_AGREE, &key.name, key.epoch,
                              agree_part_span(&a->dc_part[0]), span_of(NULL, 0), random) != AMI_OK)
        return false;
    AMI_CHECK(scalar_decode(&key.d, y.b) == AMI_OK);
    AMI_CHECK(scalar_decode(&value, tape->f1.flight.data) == AMI_OK);
    return as_meter(a, tape, &key, &value, k, reading);
}

static bool master_key(struct attack_context *c)
{
    const struct scheme *scheme = attack_scheme(c, WITHOUT_BLINDING);
    if (scheme == NULL)
        return false;
    struct arena *a = arena_new(scheme, c->seed);
    struct arena_run tape;
    scalar x;
    char reading[32];
    uint8_t bytes[SM2_SCALAR_BYTES];
    arena_agree(a, &tape, 1, 0);
    bool broken = find_x(a, &x);
    if (broken) {
        scalar_encode(bytes, &x);
        if (open_with_x(a, &tape, &x, reading))
            attack_says(
                c, true,
                "x = %s from meter-1's key and dc-2's ledger; it opens meter-2's reading: %s",
                attack_hex(bytes, sizeof bytes), reading);
        else
            attack_says(c, true, "x = %s from meter-1's key and the ledger",
                        attack_hex(bytes, sizeof bytes));
    } else {
        attack_says(c, false,
                    "no quotient of meter-1's and dc-2's secrets and what is public is x");
    }
    arena_free(a);
    return broken;
}

/* --- later ----------------------------------------------------------------------------------- */

/* The long-term keys of both sides, long after. */
static bool later_compromise(struct attack_context *c)
{
    const struct scheme *scheme = attack_scheme(c, WITHOUT_EPHEMERAL);
    if (scheme == NULL)
        return false;
    struct arena *a = arena_new(scheme, c->seed);
    struct arena_run tape;
    uint8_t k[AGREE_KEY_BYTES], random[SM2_WIDE_BYTES];
    char reading[32];
    scalar guess;
    arena_agree(a, &tape, 0, 0);
    arena_random(a, random, sizeof random);
    guess = scalar_from_wide(random);
    bool open = false;
    if (tape.f1.flight.size == SM2_SCALAR_BYTES) {
        scalar value;
        AMI_CHECK(scalar_decode(&value, tape.f1.flight.data) == AMI_OK);
        value = scalar_sub(&value, &a->meter[0].r); /* a = A - r_SM */
        open = as_meter(a, &tape, &a->meter[0], &value, k, reading);
    }
    open = open || as_meter(a, &tape, &a->meter[0], &guess, k, reading) ||
           as_dc(a, &tape, &a->dc[0], random, k, reading);
    bool broken = opened(c, open, k, reading, &tape,
                         "both long-term keys, and the ephemeral values are gone");
    arena_free(a);
    return broken;
}

static bool later_compromise_both(struct attack_context *c)
{
    struct arena *a = arena_new(c->scheme, c->seed);
    struct arena_run tape;
    uint8_t k[AGREE_KEY_BYTES];
    char reading[32];
    arena_agree(a, &tape, 0, 0);
    bool open = as_meter(a, &tape, &a->meter[0], &tape.state.secret, k, reading);
    bool broken = opened(c, open, k, reading, &tape, "all secrets of the meter");
    arena_free(a);
    return broken;
}

/* --- ephemeral values ------------------------------------------------------------------------ */

enum ephemeral { OF_METER = 1, OF_DC = 2 };

static bool leak_ephemeral(struct attack_context *c)
{
    const unsigned which = (unsigned)c->which;
    const struct scheme *scheme = attack_scheme(c, WITHOUT_LONG_TERM);
    if (scheme == NULL)
        return false;
    struct arena *a = arena_new(scheme, c->seed);
    struct arena_run tape;
    uint8_t k[AGREE_KEY_BYTES];
    char reading[32];
    bool open = false;
    arena_agree(a, &tape, 0, 0);
    struct agree_key meter = public_part(a, &a->meter[0]), dc = public_part(a, &a->dc[0]);
    if ((which & OF_METER) != 0)
        open = as_meter(a, &tape, &meter, &tape.state.secret, k, reading);
    if (!open && (which & OF_DC) != 0)
        open = as_dc(a, &tape, &dc, tape.dc_random, k, reading);
    bool broken = opened(c, open, k, reading, &tape, "the ephemeral value and all that is public");
    arena_free(a);
    return broken;
}

/* --- a session's value ----------------------------------------------------------------------- */

/* liu2023: k of one run with A and T gives k' = k + (A' - A) T for every first flight A', and so M1
 * and K: the adversary answers with the old T. */
static bool reuse_k(struct arena *a, const struct arena_run *past, struct arena_run *now,
                    uint8_t k_out[AGREE_KEY_BYTES])
{
    point_bytes t_bytes;
    point t_dc;
    scalar then, value;
    scalar sum = scalar_add(&a->meter[0].d, &past->state.secret);
    memcpy(t_bytes.b, past->f2.flight.data, sizeof t_bytes.b);
    AMI_CHECK(point_decode(&t_dc, &t_bytes) == AMI_OK);
    const point leaked = point_mul(&sum, &t_dc); /* k of the earlier run: what leaked */
    AMI_CHECK(scalar_decode(&then, past->f1.flight.data) == AMI_OK);
    AMI_CHECK(scalar_decode(&value, now->f1.flight.data) == AMI_OK);
    scalar step = scalar_sub(&value, &then);
    point more = point_mul(&step, &t_dc), k = point_add(&leaked, &more);
    point_bytes k_bytes = point_encode(&k);
    sm3_digest m1 = lab_liu2023_tag(0, &k_bytes);
    uint8_t flight[SM2_POINT_BYTES + SM3_BYTES];
    memcpy(flight, t_bytes.b, SM2_POINT_BYTES);
    memcpy(flight + SM2_POINT_BYTES, m1.b, SM3_BYTES);
    struct agree_flight2 f2 = past->f2;
    f2.flight = span_of(flight, sizeof flight);
    f2.session ^= 1; /* a session of its own */
    if (arena_meter(a, now, &f2) != AMI_OK)
        return false;
    lab_liu2023_key(k_out, &a->mdms.net, &now->result.terms, &k_bytes);
    return true;
}

static bool leak_session_value(struct attack_context *c)
{
    struct arena *a = arena_new(c->scheme, c->seed);
    struct arena_run past, now;
    uint8_t k[AGREE_KEY_BYTES];
    char reading[32];
    arena_agree(a, &past, 0, 0);
    arena_start(a, &now, 0, 0);
    if (c->control) {
        memcpy(now.meter_random, past.meter_random, sizeof now.meter_random);
        arena_start_again(a, &now);
    }
    memcpy(k, past.result.k, sizeof k);
    enum ami_status status = arena_meter(a, &now, &past.f2); /* the old answer as it was */
    bool accepted = status == AMI_OK;
    if (!accepted && c->scheme->number == SCHEME_LIU2023)
        accepted = reuse_k(a, &past, &now, k);
    bool broken = false;
    if (accepted) {
        arena_send_reading(a, &now);
        broken = arena_open(k, &now.result.terms, &now.message, reading);
    }
    if (broken)
        attack_says(
            c, true,
            "with the value of one run the adversary answers another one, K = %s, and reads "
            "%s",
            attack_hex(k, AGREE_KEY_BYTES), reading);
    else
        attack_says(c, false, "the meter refuses the earlier run's answer, whose key is known: %s",
                    ami_status_name(status));
    arena_free(a);
    return broken;
}

const struct attack attacks_leak[] = {
    {.name = "collusion-master-key",
     .row = ROW_COLLUSION,
     .knows =
         "all that one opened meter holds and was ever given, and one DC's keys and its ledger",
     .goal = "the MDMS's master key x",
     .protection = "the MDMS blinds what it issues with a fresh w",
     .run = master_key},
    {.name = "later-compromise",
     .row = ROW_SECRECY,
     .knows = "recorded traffic, and afterwards the long-term keys of meter and DC",
     .goal = "a recorded reading",
     .protection = "ephemeral values enter the key",
     .run = later_compromise},
    {.name = "later-compromise-with-ephemeral",
     .row = ROW_SECRECY,
     .knows = "recorded traffic, the meter's long-term key and its ephemeral value of that run",
     .goal = "a recorded reading",
     .protection = "none",
     .nobody = "who holds every secret of one side computes what that side computed",
     .run = later_compromise_both},
    {.name = "leaked-session-value",
     .row = ROW_LEAK,
     .knows = "recorded traffic of one run, and the value k (or K) that it ended in",
     .goal = "the key of another run of the same meter, and a reading sent under it",
     .protection = "the meter draws a fresh ephemeral value (in the control it draws the old one)",
     .run = leak_session_value},
    {.name = "leaked-ephemeral-meter",
     .row = ROW_LEAK,
     .knows = "recorded traffic, the ledger, and the meter's ephemeral value of that run",
     .goal = "the reading sent in it",
     .protection = "long-term keys enter the key",
     .run = leak_ephemeral,
     .which = OF_METER},
    {.name = "leaked-ephemeral-dc",
     .row = ROW_LEAK,
     .knows = "recorded traffic, the ledger, and the DC's ephemeral value of that run",
     .goal = "the reading sent in it",
     .protection = "long-term keys enter the key",
     .run = leak_ephemeral,
     .which = OF_DC},
    {.name = "leaked-ephemeral-both",
     .row = ROW_LEAK,
     .knows = "recorded traffic, the ledger, and both ephemeral values of that run",
     .goal = "the reading sent in it",
     .protection = "long-term keys enter the key",
     .run = leak_ephemeral,
     .which = OF_METER | OF_DC},
    {0}};
