/* The laboratory's own schemes: a weakened form with nothing left out is the real scheme, byte for
 * byte, so that a control shows the one thing that it leaves out and nothing else; and ecdh, the
 * example, agrees. */
#include "tests/harness.h"

#include "crypto/secret.h"
#include "sim/lab/arena.h"

#include <string.h>

static void same_answer(const struct agree_answer *a, const struct agree_answer *b)
{
    assert_ok(a->status);
    assert_ok(b->status);
    assert_int_equal(a->flight_size, b->flight_size);
    assert_memory_equal(a->flight, b->flight, a->flight_size);
    assert_int_equal(a->pending.expected_size, b->pending.expected_size);
    assert_memory_equal(a->pending.expected, b->pending.expected, a->pending.expected_size);
    assert_memory_equal(a->pending.k, b->pending.k, AGREE_KEY_BYTES);
}

static void weakened_forms_with_nothing_left_out_are_the_real_ones(void **state)
{
    (void)state;
    for (const struct lab_scheme *s = lab_schemes(); s->scheme != NULL; s++) {
        assert_non_null(s->weak);
        assert_ptr_equal(lab_weak(s->scheme, 0), s->weak);
        struct arena *a = arena_new(s->scheme, 11);
        for (unsigned i = 0; i < 4; i++) {
            struct arena_run r;
            struct agree_answer answer = {0};
            arena_agree(a, &r, i % ARENA_METERS, i % ARENA_DCS);
            struct agree_request request = {
                .terms = r.terms, .peer = &a->peer[r.meter], .flight = r.f1.flight};
            memcpy(request.random, r.dc_random, sizeof request.random);
            struct agree_key dc = a->dc[r.dc], meter = a->meter[r.meter];
            dc.scheme = meter.scheme = s->weak->number; /* its functions are told apart by it */
            s->weak->dc_answer(&answer, &a->mdms.net, &dc, a->p_pub, &request, 1);
            same_answer(&r.answer, &answer);
            struct agree_result result = {.terms = r.terms};
            assert_ok(s->weak->meter_answer(&result, &r.state, &a->mdms.net, &meter, r.f2.flight));
            assert_memory_equal(result.k, r.result.k, AGREE_KEY_BYTES);
            assert_int_equal(result.flight_size, r.result.flight_size);
            assert_memory_equal(result.flight, r.result.flight, result.flight_size);
            /* A changed flight 2 is refused by either. */
            uint8_t bad[AMI_FLIGHT_BYTES_MAX];
            memcpy(bad, r.f2.flight.data, r.f2.flight.size);
            bad[r.f2.flight.size - 1] ^= 1;
            assert_status(s->weak->meter_answer(&result, &r.state, &a->mdms.net, &meter,
                                                span_of(bad, r.f2.flight.size)),
                          AMI_BAD_CRYPTO);
        }
        arena_free(a);
    }
}

/* Wrong keys, signatures and tags of the example: each is refused by who gets it. */
static void the_example_refuses_what_it_should(void **state)
{
    (void)state;
    struct arena *a = arena_new(&lab_ecdh, 12);
    struct arena_run r;
    arena_agree(a, &r, 0, 0);
    for (size_t i = 0; i < r.f1.flight.size; i++) {
        struct arena_run bad = r;
        uint8_t bytes[AMI_FLIGHT_BYTES_MAX];
        memcpy(bytes, r.f1.flight.data, r.f1.flight.size);
        bytes[i] ^= 1;
        struct agree_flight1 f1 = r.f1;
        f1.flight.data = bytes;
        arena_answer(a, &bad, &f1, &a->peer[0]);
        assert_status(bad.answer.status, AMI_BAD_CRYPTO);
    }
    struct arena_run other = r;
    arena_answer(a, &other, &r.f1, &a->peer[1]); /* another meter's key */
    assert_status(other.answer.status, AMI_BAD_CRYPTO);
    uint8_t tag[AGREE_FLIGHT3_BYTES];
    memcpy(tag, r.f3.flight.data, r.f3.flight.size);
    for (size_t i = 0; i < r.f3.flight.size; i++) {
        tag[i] ^= 0x40;
        assert_status(agree_confirm(&r.answer.pending, span_of(tag, r.f3.flight.size)),
                      AMI_BAD_CRYPTO);
        tag[i] ^= 0x40;
    }
    assert_ok(agree_confirm(&r.answer.pending, span_of(tag, r.f3.flight.size)));
    arena_free(a);
}

/* What a program brings is found by number and name, and is not among the schemes of the system. */
static void brought_schemes_are_found_and_not_listed(void **state)
{
    (void)state;
    for (const struct lab_scheme *s = lab_schemes(); s->scheme != NULL; s++) {
        assert_ptr_equal(scheme_by_number(s->scheme->number), s->scheme);
        assert_ptr_equal(scheme_by_name(s->weak->name), s->weak);
        for (size_t i = 0; scheme_at(i) != NULL; i++)
            assert_ptr_not_equal(scheme_at(i), s->weak);
    }
    for (size_t i = 0; scheme_at(i) != NULL; i++)
        assert_ptr_not_equal(scheme_at(i), &lab_ecdh);
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weakened_forms_with_nothing_left_out_are_the_real_ones),
        cmocka_unit_test(the_example_refuses_what_it_should),
        cmocka_unit_test(brought_schemes_are_found_and_not_listed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
