/* Key agreement: the DC's answer to first flights, alone and in batches, and a meter's two steps.
 *
 * Each family has its network, whose MDMS issues a DC and METERS meters their keys. A DC's library
 * remembers P_pub, as a node's does from its start; a meter's does not, since a meter has little
 * memory for tables.
 *
 * OpenSSL's part is the products and sums of points alone, as one writes them down; ours is the
 * whole step with decoding, hashing, encoding and confirmation.
 */
#include "bench/sm2_rows.h"

#include "crypto/secret.h"
#include "keyagree/keyfile.h"
#include "keyagree/scheme.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define METERS 512

struct agreements {
    const struct scheme *scheme;
    struct mdms_keys mdms;
    struct point_table *table; /* of P_pub */
    sm3_digest chain;
    struct agree_key dc;
    struct agree_part dc_part;
    struct agree_key meter[METERS];
    struct agree_peer peer[METERS];
    uint8_t random[METERS][SM2_WIDE_BYTES]; /* the meter's, for flight 1 */
    struct agree_state sent[METERS];        /* after flight 1 */
    struct agree_request request[METERS];   /* borrows sent[i].flight */
    struct agree_answer answer[METERS];
    struct agree_flight2 flight2[METERS]; /* borrows answer[i].flight */
    struct agree_result result[METERS];
    size_t refused;
    struct openssl_inputs theirs;
};

/* --- a network -------------------------------------------------------------------------------- */

static void must(enum ami_status status, const char *what)
{
    if (status != AMI_OK)
        bench_fail("%s: %s", what, ami_status_text(status));
}

/* Issues a key as enrolment does. */
static void issue(struct agreements *s, struct agree_key *key, struct agree_part *part,
                  enum key_role role, const char *name, struct span home)
{
    struct agree_enrolling begun;
    struct agree_secret secret;
    struct ami_id id;
    uint8_t random[2][SM2_WIDE_BYTES];
    secret_random(random, sizeof random);
    must(ami_id_from_text(&id, name), "a device's name");
    s->scheme->device_begin(&begun, role, random[0]);
    must(s->scheme->mdms_issue(&secret, part, &s->mdms.net, &s->mdms.x, role, &id, 1, home,
                               agree_part_span(&begun.request), random[1]),
         "issuing a key");
    must(s->scheme->device_accept(key, &begun, &s->mdms.net, role, &id, 1,
                                  span_of(secret.b, secret.size), agree_part_span(part)),
         "accepting a key");
}

static void make_network(struct agreements *s)
{
    uint8_t random[4][SM2_WIDE_BYTES];
    struct ami_id name;
    secret_random(random, sizeof random);
    must(ami_id_from_text(&name, "bench.grid"), "the network's name");
    must(mdms_keys_make(&s->mdms, &name, s->scheme->number, SM2_WIDE(random)), "a network's keys");
    secret_random(s->chain.b, sizeof s->chain.b);
    s->table = point_table_new(&s->mdms.net.p_pub);
    if (s->table == NULL)
        bench_fail("out of memory");
    issue(s, &s->dc, &s->dc_part, ROLE_DC_AGREE, "dc1", span_of(NULL, 0));
}

/* Issues one meter its key, and takes it through flight 1. */
static void make_meter(struct agreements *s, size_t i)
{
    char name[32];
    struct agree_part part;
    snprintf(name, sizeof name, "meter-%zu", i);
    issue(s, &s->meter[i], &part, ROLE_METER_AGREE, name, agree_part_span(&s->dc_part));
    must(agree_peer_init(&s->peer[i], s->scheme, &s->mdms.net, &s->meter[i].name, 1,
                         agree_part_span(&part)),
         "a meter's public part");
    secret_random(s->random[i], SM2_WIDE_BYTES);
    must(agree_meter_start(&s->sent[i], &s->meter[i], (uint32_t)i, false, s->random[i]),
         "flight 1");
    struct agree_flight1 f1 = agree_flight1_of(&s->sent[i], &s->meter[i]);
    uint64_t session;
    secret_random(&session, sizeof session);
    s->request[i] = (struct agree_request){
        .terms = agree_terms_for(&f1, &s->dc, &s->chain, 1, session),
        .peer = &s->peer[i],
        .flight = f1.flight,
    };
    secret_random(s->request[i].random, SM2_WIDE_BYTES);
}

/* OpenSSL's scalars and points: any will do, they all take it the same time. */
static void make_theirs(struct agreements *s)
{
    scalar k[OPENSSL_POOL];
    point p[OPENSSL_POOL];
    sm2_random_scalars(k, OPENSSL_POOL);
    point_mul_base_batch(p, k, OPENSSL_POOL);
    sm2_random_scalars(k, OPENSSL_POOL);
    openssl_inputs_make(&s->theirs, k, p);
}

static struct agreements *make(const char *scheme)
{
    struct agreements *s = bench_new(sizeof *s);
    s->scheme = scheme_by_name(scheme);
    if (s->scheme == NULL)
        bench_fail("there is no scheme %s", scheme);
    make_network(s);
    for (size_t i = 0; i < METERS; i++)
        make_meter(s, i);
    agree_answer_batch(s->answer, &s->mdms.net, &s->dc, s->table, s->request, METERS);
    for (size_t i = 0; i < METERS; i++) {
        must(s->answer[i].status, "flight 2");
        s->flight2[i] = agree_flight2_of(&s->request[i].terms, &s->answer[i]);
    }
    make_theirs(s);
    return s;
}

static void *make_dc(const char *scheme)
{
    struct agreements *s = make(scheme);
    must(sm2_signer_remember(&s->mdms.net.p_pub), "remembering P_pub");
    return s;
}

static void *make_liu2023_dc(void)
{
    return make_dc("liu2023");
}

static void *make_sm2kx_dc(void)
{
    return make_dc("sm2kx");
}

static void *make_liu2023_meter(void)
{
    return make("liu2023");
}

static void *make_sm2kx_meter(void)
{
    return make("sm2kx");
}

static void release(void *with)
{
    struct agreements *s = with;
    point_table_free(s->table);
    openssl_inputs_free(&s->theirs);
    secret_wipe(s, sizeof *s);
    free(s);
}

/* --- what is timed ---------------------------------------------------------------------------- */

static void dc_answer(void *with, size_t first, size_t count, size_t batch)
{
    struct agreements *s = with;
    for (size_t at = first; at < first + count; at += batch)
        agree_answer_batch(s->answer + at, &s->mdms.net, &s->dc, s->table, s->request + at, batch);
}

/* Both steps of the meter. Flight 1 is a function of the key and the random bytes, so starting
 * again with the same ones makes the flight that flight2[i] answers. */
static void meter_agree(void *with, size_t first, size_t count, size_t batch)
{
    struct agreements *s = with;
    struct agree_state state;
    (void)batch;
    for (size_t i = first; i < first + count; i++) {
        s->refused +=
            agree_meter_start(&state, &s->meter[i], (uint32_t)i, false, s->random[i]) != AMI_OK;
        s->refused += agree_meter_answer(&s->result[i], &state, &s->mdms.net, &s->meter[i],
                                         &s->chain, &s->flight2[i]) != AMI_OK;
    }
}

/* The j-th scalar and point of operation i. */
static const BIGNUM *k_of(const struct agreements *s, size_t i, size_t j)
{
    return s->theirs.k[(i + j) % OPENSSL_POOL];
}

static const EC_POINT *p_of(const struct agreements *s, size_t i, size_t j)
{
    return s->theirs.p[(i + j) % OPENSSL_POOL];
}

/* Four products: T_DC = bG, k = b (A G + h P_pub). */
static void openssl_liu2023_dc(void *with, size_t first, size_t count, size_t batch)
{
    const struct agreements *s = with;
    EC_POINT *const *r = s->theirs.r;
    (void)batch;
    for (size_t i = first; i < first + count; i++) {
        openssl_mul(r[0], k_of(s, i, 0), NULL);
        openssl_mul(r[1], k_of(s, i, 1), NULL);
        openssl_mul(r[2], k_of(s, i, 2), p_of(s, i, 0));
        openssl_add(r[1], r[1], r[2]);
        openssl_mul(r[3], k_of(s, i, 0), r[1]);
    }
}

/* Three products: R_B = r_B G, V = t (P_SM + x' R_A). OpenSSL pads a scalar to the order's size, so
 * the short x' takes it as long as any other. */
static void openssl_sm2kx_dc(void *with, size_t first, size_t count, size_t batch)
{
    const struct agreements *s = with;
    EC_POINT *const *r = s->theirs.r;
    (void)batch;
    for (size_t i = first; i < first + count; i++) {
        openssl_mul(r[0], k_of(s, i, 0), NULL);
        openssl_mul(r[1], k_of(s, i, 1), p_of(s, i, 0));
        openssl_add(r[1], r[1], p_of(s, i, 1));
        openssl_mul(r[2], k_of(s, i, 2), r[1]);
    }
}

/* One product: k = (S_SM + a) T_DC; flight 1 is a sum of scalars. */
static void openssl_liu2023_meter(void *with, size_t first, size_t count, size_t batch)
{
    const struct agreements *s = with;
    (void)batch;
    for (size_t i = first; i < first + count; i++)
        openssl_mul(s->theirs.r[0], k_of(s, i, 0), p_of(s, i, 0));
}

/* Four products: R_A = r_A G, P_DC = W + lambda P_pub, V = t (P_DC + x' R_B). */
static void openssl_sm2kx_meter(void *with, size_t first, size_t count, size_t batch)
{
    const struct agreements *s = with;
    EC_POINT *const *r = s->theirs.r;
    (void)batch;
    for (size_t i = first; i < first + count; i++) {
        openssl_mul(r[0], k_of(s, i, 0), NULL);
        openssl_mul(r[1], k_of(s, i, 1), p_of(s, i, 0));
        openssl_add(r[1], r[1], p_of(s, i, 1));
        openssl_mul(r[2], k_of(s, i, 2), p_of(s, i, 2));
        openssl_add(r[1], r[1], r[2]);
        openssl_mul(r[3], k_of(s, i, 3), r[1]);
    }
}

/* --- checks ----------------------------------------------------------------------------------- */

/* Whether the DC takes the meter's third flight and holds the same K. */
static bool confirms(const struct agreements *s, const struct agree_result *result, size_t i)
{
    const struct agree_pending *pending = &s->answer[i].pending;
    struct agree_flight3 f3 = agree_flight3_of(result);
    return agree_confirm(pending, f3.flight) == AMI_OK &&
           memcmp(result->k, pending->k, AGREE_KEY_BYTES) == 0;
}

/* The DC's answer, with one of its bits changed, must be refused by the meter. */
static void check_tampered(struct agreements *s, const struct sm2_row *row, size_t i)
{
    struct agree_state state = s->sent[i];
    struct agree_result result;
    struct agree_flight2 f2 = agree_flight2_of(&s->request[i].terms, &s->answer[i]);
    uint8_t *last = &s->answer[i].flight[s->answer[i].flight_size - 1];
    *last ^= 1;
    enum ami_status status =
        agree_meter_answer(&result, &state, &s->mdms.net, &s->meter[i], &s->chain, &f2);
    *last ^= 1;
    if (status != AMI_BAD_CRYPTO)
        bench_fail("%s: the meter takes a tampered answer", row->name);
}

static void check_dc(void *with, const struct sm2_row *row, size_t done)
{
    struct agreements *s = with;
    for (size_t i = 0; i < done; i++) {
        struct agree_state state = s->sent[i];
        struct agree_result result;
        struct agree_flight2 f2 = agree_flight2_of(&s->request[i].terms, &s->answer[i]);
        if (s->answer[i].status != AMI_OK ||
            agree_meter_answer(&result, &state, &s->mdms.net, &s->meter[i], &s->chain, &f2) !=
                AMI_OK ||
            !confirms(s, &result, i))
            bench_fail("%s: DC and meter %zu do not agree", row->name, i);
    }
    check_tampered(s, row, 0);
}

static void check_meter(void *with, const struct sm2_row *row, size_t done)
{
    struct agreements *s = with;
    if (s->refused != 0)
        bench_fail("%s: a meter refuses a good answer", row->name);
    for (size_t i = 0; i < done; i++)
        if (!confirms(s, &s->result[i], i))
            bench_fail("%s: meter %zu and DC do not agree", row->name, i);
    check_tampered(s, row, 0);
}

const struct sm2_family sm2_liu2023_dc = {
    .make = make_liu2023_dc,
    .release = release,
    .rows =
        {
            {"aka_liu2023_dc", 1, METERS, dc_answer, openssl_liu2023_dc, check_dc},
            {"aka_liu2023_dc_batch8", 8, METERS, dc_answer, openssl_liu2023_dc, check_dc},
        },
};
const struct sm2_family sm2_sm2kx_dc = {
    .make = make_sm2kx_dc,
    .release = release,
    .rows =
        {
            {"aka_sm2kx_dc", 1, METERS, dc_answer, openssl_sm2kx_dc, check_dc},
            {"aka_sm2kx_dc_batch8", 8, METERS, dc_answer, openssl_sm2kx_dc, check_dc},
        },
};
const struct sm2_family sm2_liu2023_meter = {
    .make = make_liu2023_meter,
    .release = release,
    .rows = {{"aka_liu2023_meter", 1, METERS, meter_agree, openssl_liu2023_meter, check_meter}},
};
const struct sm2_family sm2_sm2kx_meter = {
    .make = make_sm2kx_meter,
    .release = release,
    .rows = {{"aka_sm2kx_meter", 1, METERS, meter_agree, openssl_sm2kx_meter, check_meter}},
};
