/* The three flights, every test over every scheme of the table: what must be equal is, what must be
 * refused is. Where liu2023 accepts what it should not, the test says so and holds it to that: the
 * published scheme is kept faithful, its weaknesses are not repaired. */
#include "tests/keyagree/support.h"

#include "crypto/secret.h"
#include "tests/crypto_start.h"
#include "tests/harness.h"

#include <stdlib.h>
#include <string.h>

/* for (EACH_WORLD(w)): w goes over the worlds of all schemes. */
#define EACH_WORLD(w)                                                                              \
    struct world *w = world_of(scheme_at(0));                                                      \
    w != NULL;                                                                                     \
    w = world_after(w)

static struct world *world_after(const struct world *w)
{
    for (size_t i = 0; scheme_at(i) != NULL; i++)
        if (scheme_at(i) == w->scheme)
            return scheme_at(i + 1) == NULL ? NULL : world_of(scheme_at(i + 1));
    return NULL;
}

/* Does this scheme authenticate what travels beside its own part? */
static bool binds_terms(const struct world *w)
{
    return w->scheme->number == SCHEME_SM2KX;
}

static enum ami_status answer_at_meter(struct world *w, unsigned meter, struct agree_state *state,
                                       const struct agree_flight2 *f2, struct agree_result *out)
{
    return agree_meter_answer(out, state, &w->mdms.net, &w->meter[meter], &w->chain, f2);
}

static void test_table(void **unused)
{
    (void)unused;
    assert_ptr_equal(scheme_by_name("liu2023"), scheme_by_number(1));
    assert_ptr_equal(scheme_by_name("sm2kx"), scheme_by_number(SCHEME_DEFAULT));
    assert_null(scheme_by_name("rot13"));
    assert_null(scheme_by_number(0));
    size_t count = 0;
    for (; scheme_at(count) != NULL; count++)
        for (size_t i = 0; i < count; i++)
            assert_int_not_equal(scheme_at(i)->number, scheme_at(count)->number);
    assert_true(count >= 2);
}

/* Groups of every small size and across the internal group size; each answer is its own. */
static void test_batches(void **unused)
{
    (void)unused;
    static const size_t sizes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 31, 32, 33, 70};
    for (EACH_WORLD(w)) {
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            size_t n = sizes[s];
            struct agree_state *states = calloc(n, sizeof *states);
            struct agree_request *requests = calloc(n, sizeof *requests);
            struct agree_answer *answers = calloc(n, sizeof *answers);
            struct agree_result *results = calloc(n, sizeof *results);
            assert_true(states != NULL && requests != NULL && answers != NULL && results != NULL);
            for (size_t i = 0; i < n; i++) {
                unsigned m = (unsigned)(i % WORLD_METERS);
                world_start(w, m, &states[i]);
                struct agree_flight1 f1 = agree_flight1_of(&states[i], &w->meter[m]);
                requests[i].terms = agree_terms_for(&f1, &w->dc[0], &w->chain, 9, 1000 + i);
                requests[i].peer = &w->peer[m];
                requests[i].flight = f1.flight;
                world_draw(w, requests[i].random, SM2_WIDE_BYTES);
            }
            agree_answer_batch(answers, &w->mdms.net, &w->dc[0], w->table, requests, n);
            for (size_t i = 0; i < n; i++) {
                unsigned m = (unsigned)(i % WORLD_METERS);
                assert_ok(answers[i].status);
                struct agree_flight2 f2 = agree_flight2_of(&requests[i].terms, &answers[i]);
                assert_ok(answer_at_meter(w, m, &states[i], &f2, &results[i]));
                struct agree_flight3 f3 = agree_flight3_of(&results[i]);
                assert_int_equal(f3.session, 1000 + i);
                assert_ok(agree_confirm(&answers[i].pending, f3.flight));
                assert_memory_equal(results[i].k, answers[i].pending.k, AGREE_KEY_BYTES);
                for (size_t j = 0; j < i; j++) {
                    assert_memory_not_equal(results[i].k, results[j].k, AGREE_KEY_BYTES);
                    struct agree_flight3 other = agree_flight3_of(&results[j]);
                    assert_status(agree_confirm(&answers[i].pending, other.flight), AMI_BAD_CRYPTO);
                }
            }
            free(states);
            free(requests);
            free(answers);
            free(results);
        }
    }
}

/* Any changed byte of the scheme's part of any flight is refused, by the receiver or, for flight 1,
 * at the latest by the meter; afterwards the unchanged flight is still good. */
static void test_flipped_bytes(void **unused)
{
    (void)unused;
    static const uint8_t flips[] = {0x01, 0x80};
    for (EACH_WORLD(w)) {
        struct agree_state state;
        struct agree_terms terms;
        struct agree_answer answer;
        struct agree_result result;
        world_start(w, 0, &state);
        const struct agree_flight1 f1 = agree_flight1_of(&state, &w->meter[0]);
        for (size_t i = 0; i < 2 * f1.flight.size; i++) {
            uint8_t bytes[AGREE_FLIGHT1_BYTES];
            memcpy(bytes, f1.flight.data, f1.flight.size);
            bytes[i / 2] ^= flips[i % 2];
            struct agree_flight1 bad = f1;
            bad.flight.data = bytes;
            world_answer(w, 0, 0, &bad, 1, 5, &terms, &answer);
            if (answer.status != AMI_OK) {
                assert_status(answer.status, AMI_BAD_CRYPTO);
                continue;
            }
            struct agree_flight2 f2 = agree_flight2_of(&terms, &answer);
            assert_status(answer_at_meter(w, 0, &state, &f2, &result), AMI_BAD_CRYPTO);
        }
        world_answer(w, 0, 0, &f1, 1, 5, &terms, &answer);
        const struct agree_flight2 f2 = agree_flight2_of(&terms, &answer);
        for (size_t i = 0; i < 2 * f2.flight.size; i++) {
            uint8_t bytes[AGREE_FLIGHT2_BYTES];
            memcpy(bytes, f2.flight.data, f2.flight.size);
            bytes[i / 2] ^= flips[i % 2];
            struct agree_flight2 bad = f2;
            bad.flight.data = bytes;
            assert_status(answer_at_meter(w, 0, &state, &bad, &result), AMI_BAD_CRYPTO);
        }
        for (size_t size = 0; size < f2.flight.size; size++) {
            struct agree_flight2 bad = f2;
            bad.flight.size = size;
            assert_status(answer_at_meter(w, 0, &state, &bad, &result), AMI_BAD_CRYPTO);
        }
        assert_ok(answer_at_meter(w, 0, &state, &f2, &result));
        const struct agree_flight3 f3 = agree_flight3_of(&result);
        for (size_t i = 0; i < 2 * f3.flight.size; i++) {
            uint8_t bytes[AGREE_FLIGHT3_BYTES];
            memcpy(bytes, f3.flight.data, f3.flight.size);
            bytes[i / 2] ^= flips[i % 2];
            assert_status(agree_confirm(&answer.pending, span_of(bytes, f3.flight.size)),
                          AMI_BAD_CRYPTO);
        }
        for (size_t size = 0; size < f3.flight.size; size++)
            assert_status(agree_confirm(&answer.pending, span_of(f3.flight.data, size)),
                          AMI_BAD_CRYPTO);
        assert_ok(agree_confirm(&answer.pending, f3.flight));
        /* Nothing pending: nothing confirms. */
        const struct agree_pending none = {.expected_size = 0};
        assert_status(agree_confirm(&none, span_of(NULL, 0)), AMI_BAD_CRYPTO);
    }
}

/* Each field that travels beside the scheme's part, altered on its way to the meter. */
static void test_terms_at_meter(void **unused)
{
    (void)unused;
    for (EACH_WORLD(w)) {
        enum { TERM, SESSION, DC_NAME, DC_EPOCH, FIELDS };
        for (int field = 0; field < FIELDS; field++) {
            struct agree_state state;
            struct agree_terms terms;
            struct agree_answer answer;
            struct agree_result result;
            world_start(w, 1, &state);
            struct agree_flight1 f1 = agree_flight1_of(&state, &w->meter[1]);
            world_answer(w, 1, 0, &f1, 12, 0x1122334455667788, &terms, &answer);
            struct agree_flight2 f2 = agree_flight2_of(&terms, &answer);
            if (field == TERM)
                f2.term++;
            else if (field == SESSION)
                f2.session ^= 1;
            else if (field == DC_NAME)
                f2.dc = w->dc[1].name;
            else
                f2.dc_epoch++;
            enum ami_status status = answer_at_meter(w, 1, &state, &f2, &result);
            if (binds_terms(w)) {
                assert_status(status, AMI_BAD_CRYPTO);
                continue;
            }
            /* Published weakness: M1 and M2 bind none of this. A changed ID_DC shows only in the
             * key, which is no longer the same on both sides. */
            assert_ok(status);
            struct agree_flight3 f3 = agree_flight3_of(&result);
            assert_ok(agree_confirm(&answer.pending, f3.flight));
            if (field == DC_NAME || field == DC_EPOCH)
                assert_memory_not_equal(result.k, answer.pending.k, AGREE_KEY_BYTES);
            else
                assert_memory_equal(result.k, answer.pending.k, AGREE_KEY_BYTES);
        }
    }
}

/* The meter's own checks come first: whose answer, which chain, which scheme. */
static void test_foreign_answers(void **unused)
{
    (void)unused;
    for (EACH_WORLD(w)) {
        struct agree_state state;
        struct agree_terms terms;
        struct agree_answer answer;
        struct agree_result result;
        world_start(w, 0, &state);
        struct agree_flight1 f1 = agree_flight1_of(&state, &w->meter[0]);
        world_answer(w, 0, 0, &f1, 1, 6, &terms, &answer);
        const struct agree_flight2 f2 = agree_flight2_of(&terms, &answer);
        struct agree_flight2 bad = f2;
        bad.tag++;
        assert_status(answer_at_meter(w, 0, &state, &bad, &result), AMI_NO_SESSION);
        bad = f2;
        bad.meter = w->meter[1].name;
        assert_status(answer_at_meter(w, 0, &state, &bad, &result), AMI_NO_SESSION);
        bad = f2;
        bad.chain.b[31] ^= 1;
        assert_status(answer_at_meter(w, 0, &state, &bad, &result), AMI_WRONG_CHAIN);
        bad = f2;
        bad.scheme ^= 3;
        assert_status(answer_at_meter(w, 0, &state, &bad, &result), AMI_WRONG_SCHEME);
        assert_ok(answer_at_meter(w, 0, &state, &f2, &result));
        /* Once: the ephemeral secret is gone. */
        const struct agree_state wiped = {0};
        assert_memory_equal(&state, &wiped, sizeof state);
        assert_status(answer_at_meter(w, 0, &state, &f2, &result), AMI_NO_SESSION);

        /* A meter that pins another chain than the DC's: sm2kx fails in the tags even when the
         * field was altered to what the meter expects. */
        sm3_digest other = w->chain;
        other.b[0] ^= 1;
        world_start(w, 0, &state);
        f1 = agree_flight1_of(&state, &w->meter[0]);
        world_answer(w, 0, 0, &f1, 1, 6, &terms, &answer);
        bad = agree_flight2_of(&terms, &answer);
        bad.chain = other;
        assert_status(agree_meter_answer(&result, &state, &w->mdms.net, &w->meter[0], &other, &bad),
                      binds_terms(w) ? AMI_BAD_CRYPTO : AMI_OK);
    }
}

/* The same for the fields of flight 1, altered on their way to the DC, and for flight 3: what was
 * confirmed for one set of terms is not a confirmation of another. */
static void test_terms_at_dc(void **unused)
{
    (void)unused;
    for (EACH_WORLD(w)) {
        enum { TAG, INSIST, EPOCH, CHAIN, TERM, SESSION, FIELDS };
        for (int field = 0; field < FIELDS; field++) {
            struct agree_state state;
            struct agree_result result;
            struct agree_request request[2];
            struct agree_answer answer[2];
            world_start(w, 2, &state);
            struct agree_flight1 f1 = agree_flight1_of(&state, &w->meter[2]);
            request[0].terms = agree_terms_for(&f1, &w->dc[1], &w->chain, 4, 40);
            request[0].peer = &w->peer[2];
            request[0].flight = f1.flight;
            world_draw(w, request[0].random, SM2_WIDE_BYTES);
            request[1] = request[0];
            struct agree_terms *t = &request[1].terms;
            switch (field) {
            case TAG:
                t->tag ^= 4;
                break;
            case INSIST:
                t->insist ^= 1;
                break;
            case EPOCH:
                t->epoch++;
                break;
            case CHAIN:
                t->chain.b[5] ^= 1;
                break;
            case TERM:
                t->term++;
                break;
            default:
                t->session++;
            }
            agree_answer_batch(answer, &w->mdms.net, &w->dc[1], w->table, request, 2);
            assert_ok(answer[0].status);
            assert_ok(answer[1].status);
            /* What the altered run sends back, with the terms as the meter expects them. */
            struct agree_flight2 altered = agree_flight2_of(&request[0].terms, &answer[1]);
            struct agree_state copy = state;
            enum ami_status status = answer_at_meter(w, 2, &copy, &altered, &result);
            assert_status(status, binds_terms(w) ? AMI_BAD_CRYPTO : AMI_OK);
            struct agree_flight2 good = agree_flight2_of(&request[0].terms, &answer[0]);
            assert_ok(answer_at_meter(w, 2, &state, &good, &result));
            struct agree_flight3 f3 = agree_flight3_of(&result);
            assert_ok(agree_confirm(&answer[0].pending, f3.flight));
            assert_status(agree_confirm(&answer[1].pending, f3.flight),
                          binds_terms(w) ? AMI_BAD_CRYPTO : AMI_OK);
        }
    }
}

/* Keys of somebody else: another meter's part of U, another epoch, another network's DC, and a
 * stranger who knows everything public. */
static void test_wrong_identities(void **unused)
{
    (void)unused;
    for (EACH_WORLD(w)) {
        struct agree_state state;
        struct agree_terms terms;
        struct agree_answer answer;
        struct agree_result result;
        world_start(w, 0, &state);
        struct agree_flight1 f1 = agree_flight1_of(&state, &w->meter[0]);
        world_answer(w, 1, 0, &f1, 1, 7, &terms, &answer); /* answered with meter 1's U */
        assert_ok(answer.status);
        struct agree_flight2 f2 = agree_flight2_of(&terms, &answer);
        assert_status(answer_at_meter(w, 0, &state, &f2, &result), AMI_BAD_CRYPTO);

        /* Meter 1 with its own key, under the name of meter 0. */
        struct agree_key thief = w->meter[1];
        thief.name = w->meter[0].name;
        thief.epoch = w->meter[0].epoch;
        struct agree_state stolen;
        assert_ok(agree_meter_start(&stolen, &thief, 1, false, world_random(w)));
        f1 = agree_flight1_of(&stolen, &thief);
        world_answer(w, 0, 0, &f1, 1, 7, &terms, &answer);
        f2 = agree_flight2_of(&terms, &answer);
        assert_status(agree_meter_answer(&result, &stolen, &w->mdms.net, &thief, &w->chain, &f2),
                      AMI_BAD_CRYPTO);

        /* A part of U read for another epoch is another key. */
        struct agree_peer later;
        assert_ok(agree_peer_init(&later, w->scheme, &w->mdms.net, &w->meter[0].name,
                                  w->meter[0].epoch + 1, agree_part_span(&w->meter_part[0])));
        assert_memory_not_equal(&later, &w->peer[0], sizeof later);

        /* A DC with keys of another network, or with no keys of any. */
        struct mdms_keys foreign;
        struct agree_key dc;
        struct agree_part part;
        world_foreign(&foreign, w);
        world_issue(w, &foreign, &dc, &part, ROLE_DC_AGREE, "dc-1", 1, span_of(NULL, 0));
        for (int stranger = 0; stranger < 2; stranger++) {
            if (stranger == 1) {
                dc = w->dc[0]; /* everything public of the real one */
                dc.d = scalar_from_wide(world_random(w));
            }
            f1 = agree_flight1_of(&state, &w->meter[0]);
            struct agree_request request = {
                .terms = agree_terms_for(&f1, &dc, &w->chain, 1, 8),
                .peer = &w->peer[0],
                .flight = f1.flight,
            };
            world_draw(w, request.random, SM2_WIDE_BYTES);
            agree_answer_batch(&answer, &w->mdms.net, &dc, w->table, &request, 1);
            assert_ok(answer.status);
            f2 = agree_flight2_of(&request.terms, &answer);
            struct agree_state copy = state;
            /* Published weakness: the DC's own key plays no part, so whoever holds U can lead. */
            assert_status(answer_at_meter(w, 0, &copy, &f2, &result),
                          binds_terms(w) ? AMI_BAD_CRYPTO : AMI_OK);
        }
        secret_wipe(&foreign, sizeof foreign);
    }
}

static void bad_points(uint8_t out[5][SM2_POINT_BYTES])
{
    memset(out, 0, 5 * SM2_POINT_BYTES);
    out[1][0] = 4;                         /* not a compressed form */
    memset(out[2], 0xff, SM2_POINT_BYTES); /* x not below p */
    out[2][0] = 2;
    point_bytes g = point_encode(point_generator());
    memcpy(out[3], g.b, SM2_POINT_BYTES);
    out[3][0] = 0; /* a prefix that is none */
    /* The first x that is on no point of the curve. */
    point p;
    out[4][0] = 2;
    do
        out[4][32]++;
    while (point_decode(&p, (const point_bytes *)(const void *)out[4]) == AMI_OK);
}

static void test_bad_encodings(void **unused)
{
    (void)unused;
    uint8_t points[5][SM2_POINT_BYTES];
    bad_points(points);
    for (EACH_WORLD(w)) {
        struct agree_state state;
        struct agree_terms terms;
        struct agree_answer answer;
        struct agree_result result;
        world_start(w, 0, &state);
        struct agree_flight1 f1 = agree_flight1_of(&state, &w->meter[0]);
        world_answer(w, 0, 0, &f1, 1, 9, &terms, &answer);
        const struct agree_flight2 f2 = agree_flight2_of(&terms, &answer);
        /* Every point of flight 2: T_DC; W_DC and R_B. */
        unsigned in_flight2 = w->scheme->number == SCHEME_LIU2023 ? 1 : 2;
        for (unsigned at = 0; at < in_flight2; at++)
            for (unsigned i = 0; i < 5; i++) {
                uint8_t bytes[AGREE_FLIGHT2_BYTES];
                memcpy(bytes, f2.flight.data, f2.flight.size);
                memcpy(bytes + at * SM2_POINT_BYTES, points[i], SM2_POINT_BYTES);
                struct agree_flight2 bad = f2;
                bad.flight.data = bytes;
                assert_status(answer_at_meter(w, 0, &state, &bad, &result), AMI_BAD_CRYPTO);
            }
        assert_true(state.open);

        /* Flight 1, in the middle of good ones. */
        static const char *const scalars[] = {
            "0000000000000000000000000000000000000000000000000000000000000000",
            "fffffffeffffffffffffffffffffffff7203df6b21c6052b53bbf40939d54123", /* n */
            "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"};
        bool liu = w->scheme->number == SCHEME_LIU2023;
        for (unsigned i = 0; i < (liu ? 4 : 6); i++) {
            uint8_t bytes[AGREE_FLIGHT1_BYTES + 1] = {0};
            struct span bad = span_of(bytes, f1.flight.size);
            if (liu && i < 3)
                assert_ok(hex_decode(bytes, 32, scalars[i]));
            else if (!liu && i < 5)
                memcpy(bytes, points[i], SM2_POINT_BYTES);
            else
                memcpy(bytes, f1.flight.data, f1.flight.size), bad.size++; /* one byte too many */
            struct agree_request requests[3];
            struct agree_answer answers[3];
            for (unsigned j = 0; j < 3; j++) {
                requests[j] = (struct agree_request){
                    .terms = agree_terms_for(&f1, &w->dc[0], &w->chain, 1, 10 + j),
                    .peer = &w->peer[0],
                    .flight = j == 1 ? bad : f1.flight,
                };
                world_draw(w, requests[j].random, SM2_WIDE_BYTES);
            }
            agree_answer_batch(answers, &w->mdms.net, &w->dc[0], w->table, requests, 3);
            assert_status(answers[1].status, AMI_BAD_CRYPTO);
            assert_int_equal(answers[1].flight_size, 0);
            assert_int_equal(answers[1].pending.expected_size, 0);
            for (unsigned j = 0; j < 3; j += 2) {
                struct agree_state copy = state;
                struct agree_flight2 good = agree_flight2_of(&requests[j].terms, &answers[j]);
                assert_ok(answer_at_meter(w, 0, &copy, &good, &result));
            }
        }

        /* Parts of U. */
        struct agree_peer peer;
        for (unsigned i = 0; i < 5; i++)
            assert_status(agree_peer_init(&peer, w->scheme, &w->mdms.net, &w->meter[0].name, 1,
                                          span_of(points[i], SM2_POINT_BYTES)),
                          AMI_BAD_CRYPTO);
        assert_status(agree_peer_init(&peer, w->scheme, &w->mdms.net, &w->meter[0].name, 1,
                                      span_of(w->meter_part[0].b, 32)),
                      AMI_BAD_CRYPTO);
    }
}

/* liu2023: a meter that sends A = -y_SM makes k infinite whatever b is. It is refused, and so is
 * nobody else in its group. */
static void test_liu_infinity(void **unused)
{
    (void)unused;
    struct world *w = world_of(scheme_by_number(SCHEME_LIU2023));
    struct agree_state state;
    struct agree_result result;
    world_start(w, 0, &state);
    struct agree_flight1 f1 = agree_flight1_of(&state, &w->meter[0]);
    static const scalar zero = {{0}};
    scalar y_sm = scalar_sub(&w->meter[0].d, &w->meter[0].r);
    scalar minus_y = scalar_sub(&zero, &y_sm);
    uint8_t a[SM2_SCALAR_BYTES];
    scalar_encode(a, &minus_y);
    struct agree_request requests[2];
    struct agree_answer answers[2];
    for (unsigned j = 0; j < 2; j++) {
        requests[j] = (struct agree_request){
            .terms = agree_terms_for(&f1, &w->dc[0], &w->chain, 1, 20 + j),
            .peer = &w->peer[0],
            .flight = j == 0 ? span_of(a, sizeof a) : f1.flight,
        };
        world_draw(w, requests[j].random, SM2_WIDE_BYTES);
    }
    agree_answer_batch(answers, &w->mdms.net, &w->dc[0], w->table, requests, 2);
    assert_status(answers[0].status, AMI_BAD_CRYPTO);
    struct agree_flight2 f2 = agree_flight2_of(&requests[1].terms, &answers[1]);
    assert_ok(answer_at_meter(w, 0, &state, &f2, &result));
}

/* Whatever is lost, both sides can go on. */
static void test_lost_messages(void **unused)
{
    (void)unused;
    for (EACH_WORLD(w)) {
        struct agree_state state;
        struct agree_terms terms, later_terms;
        struct agree_answer answer, later;
        struct agree_result result, again;
        world_start(w, 0, &state);
        struct agree_flight1 f1 = agree_flight1_of(&state, &w->meter[0]);
        /* Flight 1 lost: the same bytes once more. */
        struct agree_flight1 retry = agree_flight1_of(&state, &w->meter[0]);
        assert_memory_equal(retry.flight.data, f1.flight.data, f1.flight.size);
        /* Flight 2 lost: flight 1 comes again and gets another answer, which is as good. The DC
         * holds the newest only. */
        world_answer(w, 0, 0, &f1, 2, 30, &terms, &answer);
        world_answer(w, 0, 0, &retry, 2, 31, &later_terms, &later);
        struct agree_flight2 f2 = agree_flight2_of(&later_terms, &later);
        assert_ok(answer_at_meter(w, 0, &state, &f2, &result));
        struct agree_flight3 f3 = agree_flight3_of(&result);
        assert_status(agree_confirm(&answer.pending, f3.flight), AMI_BAD_CRYPTO);
        /* Flight 3 lost: the same bytes once more; a confirmation does not use anything up. */
        assert_ok(agree_confirm(&later.pending, f3.flight));
        assert_ok(agree_confirm(&later.pending, agree_flight3_of(&result).flight));

        /* The meter restarts after flight 1, the DC answers the old one: nothing comes of it, and
         * the new one is good. */
        struct agree_state fresh;
        world_start(w, 0, &fresh);
        f1 = agree_flight1_of(&fresh, &w->meter[0]);
        world_answer(w, 0, 0, &f1, 2, 32, &terms, &answer);
        f2 = agree_flight2_of(&terms, &answer);
        world_start(w, 0, &fresh);
        assert_status(answer_at_meter(w, 0, &fresh, &f2, &again), AMI_BAD_CRYPTO);
        f1 = agree_flight1_of(&fresh, &w->meter[0]);
        world_answer(w, 0, 0, &f1, 2, 33, &terms, &answer);
        f2 = agree_flight2_of(&terms, &answer);
        assert_ok(answer_at_meter(w, 0, &fresh, &f2, &again));
        /* The DC restarts (another DC takes over): agree anew with that one. */
        struct agree_pending pending;
        world_agree(w, 0, 1, &again, &pending);
        assert_memory_not_equal(again.k, result.k, AGREE_KEY_BYTES);
    }
}

/* A key as it comes out of a file is the key that went in, and a key that does not belong to its
 * public part is noticed as far as the scheme lets it be. */
static void test_key_restore(void **unused)
{
    (void)unused;
    for (EACH_WORLD(w)) {
        const struct agree_key *keys[] = {&w->dc[0], &w->meter[0]};
        for (unsigned i = 0; i < 2; i++) {
            struct agree_key key = *keys[i];
            memset(&key.p, 0, sizeof key.p);
            memset(&key.z, 0, sizeof key.z);
            assert_ok(w->scheme->key_restore(&key, &w->mdms.net, true));
            assert_memory_equal(&key.p, &keys[i]->p, sizeof key.p);
            assert_memory_equal(&key.z, &keys[i]->z, sizeof key.z);
            static const scalar one = {{1}};
            key.d = scalar_add(&key.d, &one);
            assert_ok(w->scheme->key_restore(&key, &w->mdms.net, false));
            bool can_tell = binds_terms(w) || key.role == ROLE_METER_AGREE;
            assert_status(w->scheme->key_restore(&key, &w->mdms.net, true),
                          can_tell ? AMI_BAD_CRYPTO : AMI_OK);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_flipped_bytes),
        cmocka_unit_test(test_terms_at_meter),
        cmocka_unit_test(test_foreign_answers),
        cmocka_unit_test(test_terms_at_dc),
        cmocka_unit_test(test_wrong_identities),
        cmocka_unit_test(test_bad_encodings),
        cmocka_unit_test(test_liu_infinity),
        cmocka_unit_test(test_lost_messages),
        cmocka_unit_test(test_key_restore),
    };
    return cmocka_run_group_tests(tests, start_crypto, worlds_stop);
}
