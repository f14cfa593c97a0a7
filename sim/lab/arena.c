#include "sim/lab/arena.h"

#include "base/check.h"
#include "crypto/secret.h"
#include "wire/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STREAM_ARENA 7000
#define WIDE(array)  ((const uint8_t(*)[SM2_WIDE_BYTES])(array))
/* Limits of a session are not what is attacked here. */
#define MESSAGES_MAX 10000
#define SECONDS_MAX  86400
#define KIND_READING 1

void arena_random(struct arena *a, void *out, size_t size)
{
    sim_random_bytes(&a->random, out, size);
}

static struct ami_id name_of(const char *text)
{
    struct ami_id id;
    AMI_CHECK(ami_id_from_text(&id, text) == AMI_OK);
    return id;
}

void arena_issue(struct arena *a, struct agree_key *key, struct agree_part *part,
                 struct agree_secret *reply, enum key_role role, const char *name, struct span home)
{
    struct agree_enrolling begun;
    struct agree_secret secret;
    uint8_t random[2][SM2_WIDE_BYTES];
    struct ami_id id = name_of(name);
    arena_random(a, random, sizeof random);
    a->scheme->device_begin(&begun, role, random[0]);
    AMI_CHECK(a->scheme->mdms_issue(&secret, part, &a->mdms.net, &a->mdms.x, role, &id, 1, home,
                                    agree_part_span(&begun.request), random[1]) == AMI_OK);
    AMI_CHECK(a->scheme->device_accept(key, &begun, &a->mdms.net, role, &id, 1,
                                       span_of(secret.b, secret.size),
                                       agree_part_span(part)) == AMI_OK);
    if (reply != NULL)
        *reply = secret;
}

struct arena *arena_make(const struct scheme *scheme, struct sim_random random,
                         const char *meter_prefix)
{
    static const char *const dcs[ARENA_DCS] = {"dc-1", "dc-2"};
    struct arena *a = calloc(1, sizeof *a);
    uint8_t drawn[4][SM2_WIDE_BYTES];
    struct ami_id network = name_of("laboratory");
    AMI_CHECK(a != NULL);
    a->scheme = scheme;
    a->random = random;
    arena_random(a, drawn, sizeof drawn);
    AMI_CHECK(mdms_keys_make(&a->mdms, &network, scheme->number, WIDE(drawn)) == AMI_OK);
    a->p_pub = point_table_new(&a->mdms.net.p_pub);
    AMI_CHECK(a->p_pub != NULL);
    arena_random(a, a->chain.b, sizeof a->chain.b);
    for (unsigned i = 0; i < ARENA_DCS; i++)
        arena_issue(a, &a->dc[i], &a->dc_part[i], NULL, ROLE_DC_AGREE, dcs[i], span_of(NULL, 0));
    for (unsigned i = 0; i < ARENA_METERS; i++) {
        char name[32];
        snprintf(name, sizeof name, "%.20s%u", meter_prefix, i + 1);
        arena_issue(a, &a->meter[i], &a->meter_part[i], &a->meter_reply[i], ROLE_METER_AGREE, name,
                    agree_part_span(&a->dc_part[0]));
        struct agree_part part = a->meter_part[i];
        /* Without certificates the point itself is what everybody takes for the public key. */
        if (!point_is_infinity(&a->meter[i].p) && lab_left_out(WITHOUT_CERTIFICATE) &&
            scheme->number == lab_weak_sm2kx.number) {
            point_bytes p = point_encode(&a->meter[i].p);
            memcpy(part.b, p.b, sizeof p.b);
        }
        AMI_CHECK(agree_peer_init(&a->peer[i], scheme, &a->mdms.net, &a->meter[i].name, 1,
                                  agree_part_span(&part)) == AMI_OK);
    }
    return a;
}

struct arena *arena_new(const struct scheme *scheme, uint64_t seed)
{
    return arena_make(scheme, sim_random_stream(seed, STREAM_ARENA, 0), "meter-");
}

void arena_free(struct arena *a)
{
    point_table_free(a->p_pub);
    secret_wipe(a, sizeof *a);
    free(a);
}

/* --- one agreement ---------------------------------------------------------------------------- */

void arena_start_again(struct arena *a, struct arena_run *r)
{
    AMI_CHECK(agree_meter_start(&r->state, &a->meter[r->meter], 70 + r->meter, false,
                                r->meter_random) == AMI_OK);
    r->f1 = agree_flight1_of(&r->state, &a->meter[r->meter]);
}

void arena_start(struct arena *a, struct arena_run *r, unsigned meter, unsigned dc)
{
    memset(r, 0, sizeof *r);
    r->meter = meter;
    r->dc = dc;
    arena_random(a, r->meter_random, sizeof r->meter_random);
    arena_random(a, r->dc_random, sizeof r->dc_random);
    arena_start_again(a, r);
}

void arena_answer(struct arena *a, struct arena_run *r, const struct agree_flight1 *f1,
                  const struct agree_peer *peer)
{
    uint64_t session = load_be64(r->dc_random); /* as random as the rest of what the DC draws */
    r->terms = agree_terms_for(f1, &a->dc[r->dc], &a->chain, 3, session);
    struct agree_request request = {.terms = r->terms, .peer = peer, .flight = f1->flight};
    memcpy(request.random, r->dc_random, sizeof request.random);
    agree_answer_batch(&r->answer, &a->mdms.net, &a->dc[r->dc], a->p_pub, &request, 1);
    if (r->answer.status == AMI_OK)
        r->f2 = agree_flight2_of(&r->terms, &r->answer);
}

enum ami_status arena_meter(struct arena *a, struct arena_run *r, const struct agree_flight2 *f2)
{
    struct agree_state state = r->state; /* it is wiped when all is good */
    enum ami_status status =
        agree_meter_answer(&r->result, &state, &a->mdms.net, &a->meter[r->meter], &a->chain, f2);
    if (status == AMI_OK)
        r->f3 = agree_flight3_of(&r->result);
    return status;
}

enum ami_status arena_confirm(struct arena *a, const struct arena_run *r, struct span flight3)
{
    bool real = true;
    for (const struct lab_scheme *s = lab_schemes(); s->scheme != NULL; s++)
        real = real && s->weak != a->scheme;
    if (!real && lab_left_out(WITHOUT_METER_PROOF))
        return AMI_OK;
    return agree_confirm(&r->answer.pending, flight3);
}

void arena_send_reading(struct arena *a, struct arena_run *r)
{
    struct reading reading = {.obis = {1, 0, 1, 8, 0, 255},
                              .unit = UNIT_KWH,
                              .scaler = -3,
                              .interval_s = 900,
                              .start_s = 1700000100,
                              .mantissa = (int64_t)sim_random_below(&a->random, 100000000)};
    char value[REPORT_VALUE_TEXT_BYTES_MAX + 1];
    uint8_t plain[96];
    struct writer w = writer_on(plain, sizeof plain);
    AMI_CHECK(report_encode(&w, REPORT_READINGS, &reading, 1) == AMI_OK);
    AMI_CHECK(writer_ok(&w) && w.size + GCM_TAG_BYTES <= sizeof r->sealed);
    reading_value_text(value, &reading);
    snprintf(r->reading, sizeof r->reading, "%.20s kWh", value);
    session_begin(&r->meter_session, true, r->result.k, &r->result.terms, MESSAGES_MAX, SECONDS_MAX,
                  0);
    AMI_CHECK(session_seal(&r->meter_session, &r->message, r->sealed, KIND_READING, writer_span(&w),
                           0) == AMI_OK);
}

void arena_agree(struct arena *a, struct arena_run *r, unsigned meter, unsigned dc)
{
    arena_start(a, r, meter, dc);
    arena_answer(a, r, &r->f1, &a->peer[meter]);
    AMI_CHECK(r->answer.status == AMI_OK);
    AMI_CHECK(arena_meter(a, r, &r->f2) == AMI_OK);
    AMI_CHECK(agree_confirm(&r->answer.pending, r->f3.flight) == AMI_OK);
    AMI_CHECK(memcmp(r->result.k, r->answer.pending.k, AGREE_KEY_BYTES) == 0);
    session_begin(&r->dc_session, false, r->answer.pending.k, &r->terms, MESSAGES_MAX, SECONDS_MAX,
                  0);
    arena_send_reading(a, r);
}

/* --- what adversaries do ---------------------------------------------------------------------- */

void arena_made_up(struct arena *a, struct agree_key *out, const struct agree_key *like)
{
    uint8_t random[SM2_WIDE_BYTES];
    arena_random(a, random, sizeof random);
    *out = (struct agree_key){
        .scheme = like->scheme, .role = like->role, .name = like->name, .epoch = like->epoch};
    out->d = scalar_from_wide(random);
    out->p = point_mul_base(&out->d);
    out->w = out->p;
    uint8_t id[KEY_ID_BYTES_MAX];
    out->z = sm2_z(key_id(id, &a->mdms.net, like->role, &like->name, like->epoch), &out->p);
    if (lab_left_out(WITHOUT_NAMES))
        memset(&out->z, 0, sizeof out->z);
}

bool arena_open(const uint8_t k[AGREE_KEY_BYTES], const struct agree_terms *terms,
                const struct session_data *message, char reading[32])
{
    struct session s;
    uint8_t plain[128];
    size_t size, count;
    enum report_kind kind;
    static struct reading readings[AMI_REPORT_READINGS_MAX]; /* large */
    char value[REPORT_VALUE_TEXT_BYTES_MAX + 1];
    session_begin(&s, false, k, terms, MESSAGES_MAX, SECONDS_MAX, 0);
    if (session_open(&s, plain, &size, message, 0) != AMI_OK ||
        report_decode(&kind, readings, &count, span_of(plain, size)) != AMI_OK || count == 0)
        return false;
    reading_value_text(value, &readings[0]);
    snprintf(reading, 32, "%.20s kWh", value);
    return true;
}

bool arena_point_at(const uint8_t *flight, size_t size, size_t at)
{
    point_bytes bytes;
    point p;
    if (at + sizeof bytes.b > size)
        return false;
    memcpy(bytes.b, flight + at, sizeof bytes.b);
    return point_decode(&p, &bytes) == AMI_OK;
}
