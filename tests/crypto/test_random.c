/* What is drawn at random has the time mixed in: a source that repeats itself repeats nothing as
 * long as the clock moves on, or within a process; and the time alone is never all.
 *
 * libsodium is given a source that this test controls, and the linker puts a clock of the test's
 * own in front of clock_gettime. Draws that are compared are made by children of one process, which
 * all begin in the same state. */
#include "support.h"

#include "crypto/secret.h"

#include <sodium.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct timespec now = {1800000000, 1};
static int64_t step_ns; /* of the clock, at each look */

int __wrap_clock_gettime(clockid_t id, struct timespec *out);
int __wrap_clock_gettime(clockid_t id, struct timespec *out)
{
    (void)id;
    *out = now;
    now.tv_nsec += step_ns;
    return 0;
}

/* The source: what repeats from its beginning with every draw. */
static uint8_t source;

static const char *source_name(void)
{
    return "the same again";
}

static uint32_t source_number(void)
{
    return source;
}

static void source_bytes(void *const out, const size_t size)
{
    for (size_t i = 0; i < size; i++)
        ((uint8_t *)out)[i] = (uint8_t)(source * (i + 1));
}

static struct randombytes_implementation stuck = {
    .implementation_name = source_name, .random = source_number, .buf = source_bytes};

#define BYTES SM2_WIDE_BYTES

/* What a child draws at this instant from this source. */
static void draw_apart(uint8_t out[BYTES], int64_t second, long nanosecond, uint8_t from)
{
    uint8_t *shared = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(shared != MAP_FAILED);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        now = (struct timespec){second, nanosecond};
        source = from;
        secret_random(shared, BYTES);
        _exit(0);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    memcpy(out, shared, BYTES);
    assert_int_equal(munmap(shared, BYTES), 0);
}

static void a_stuck_source_repeats_nothing_while_the_clock_moves(void **state)
{
    (void)state;
    uint8_t one[BYTES], again[BYTES], later[BYTES], second[BYTES];
    draw_apart(one, 1800000000, 7, 0);
    draw_apart(again, 1800000000, 7, 0);
    assert_memory_equal(one, again, BYTES); /* so the children do begin in one state */
    draw_apart(later, 1800000000, 8, 0);
    assert_memory_not_equal(one, later, BYTES / 2);
    assert_memory_not_equal(one + BYTES / 2, later + BYTES / 2, BYTES / 2);
    draw_apart(second, 1800000001, 7, 0);
    assert_memory_not_equal(one, second, BYTES / 2);
}

/* At one instant, different bytes of the source give different results, which differ in the same
 * bits: all of its entropy is kept. */
static void the_time_is_never_the_only_entropy(void **state)
{
    (void)state;
    uint8_t one[BYTES], other[BYTES], from[2][BYTES];
    for (unsigned a = 0; a < 256; a += 51) {
        const uint8_t b = (uint8_t)(a + 1);
        draw_apart(one, 1800000000, 7, (uint8_t)a);
        draw_apart(other, 1800000000, 7, b);
        source = (uint8_t)a;
        source_bytes(from[0], BYTES);
        source = b;
        source_bytes(from[1], BYTES);
        assert_memory_not_equal(from[0], from[1], BYTES);
        for (size_t i = 0; i < BYTES; i++)
            assert_int_equal(one[i] ^ other[i], from[0][i] ^ from[1][i]);
    }
    source = 0;
}

/* Neither the source nor the clock moves: draws of one process differ all the same. */
static void a_counter_tells_draws_of_one_instant_apart(void **state)
{
    enum { DRAWS = 300 };
    static uint8_t drawn[DRAWS][BYTES];
    (void)state;
    for (size_t i = 0; i < DRAWS; i++)
        secret_random(drawn[i], BYTES);
    for (size_t i = 0; i < DRAWS; i++)
        for (size_t k = 0; k < i; k++)
            assert_memory_not_equal(drawn[i], drawn[k], BYTES);
}

/* One key signs one digest twice: with the source's own bytes the nonce, and so the signature, is
 * the same; as drawn in a process it is another. */
static void nonces_are_hedged_with_the_time(void **state)
{
    (void)state;
    const scalar d = scalar_of_small(0x1234567);
    const sm3_digest e = sm3(SPAN_LITERAL("the same"));
    sm2_private key;
    uint8_t random[2][BYTES];
    sm2_signature sig[2];
    assert_ok(sm2_private_init(&key, &d));
    step_ns = 1;
    for (int i = 0; i < 2; i++) {
        source_bytes(random[i], BYTES);
        sig[i] = sm2_sign(&key, &e, random[i]);
    }
    assert_memory_equal(&sig[0], &sig[1], sizeof sig[0]);
    for (int i = 0; i < 2; i++) {
        secret_random(random[i], BYTES);
        sig[i] = sm2_sign(&key, &e, random[i]);
        assert_ok(sm2_verify(&key.p, &e, &sig[i]));
    }
    step_ns = 0;
    assert_memory_not_equal(&sig[0], &sig[1], SM2_SCALAR_BYTES);
}

int main(void)
{
    if (randombytes_set_implementation(&stuck) != 0 || crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stuck_source_repeats_nothing_while_the_clock_moves),
        cmocka_unit_test(the_time_is_never_the_only_entropy),
        cmocka_unit_test(a_counter_tells_draws_of_one_instant_apart),
        cmocka_unit_test(nonces_are_hedged_with_the_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
