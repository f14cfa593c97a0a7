/* A batch of SM3 gives what its messages give one by one, whatever their lengths, their parts and
 * their places in the batch. */
#include "support.h"

#include "crypto/secret.h"
#include "crypto/sm3.h"

#include <stdlib.h>

#define COUNT_MAX 4000
#define LANES     16

/* Messages in memory of exactly their size, so that the sanitizer sees a read too far. */
struct batch {
    struct sm3_message message[COUNT_MAX];
    struct span part[COUNT_MAX][SM3_PARTS_MAX];
    uint8_t *text[COUNT_MAX];
    size_t count;
};
static struct batch batch;

/* Random bytes in up to SM3_PARTS_MAX random parts; about every fourth of them is empty. */
static void add_random(struct seeded *s, size_t size)
{
    assert_true(batch.count < COUNT_MAX);
    const size_t i = batch.count++;
    uint8_t *text = malloc(size + (size == 0));
    assert_non_null(text);
    seeded_bytes(s, text, size);
    batch.text[i] = text;
    size_t parts = seeded_below(s, SM3_PARTS_MAX), at = 0, used = 0;
    while (used < parts) {
        size_t take = seeded_below(s, 4) == 0 ? 0 : seeded_below(s, (size - at) / 2 + 2);
        take = take < size - at ? take : size - at;
        batch.part[i][used++] = span_of(take == 0 ? NULL : text + at, take);
        at += take;
    }
    if (at < size) /* one more, which makes SM3_PARTS_MAX at most */
        batch.part[i][used++] = span_of(text + at, size - at);
    batch.message[i] = (struct sm3_message){batch.part[i], used};
}

static void check_and_empty(void)
{
    static sm3_digest out[COUNT_MAX + 1];
    memset(out, 0xa5, sizeof out);
    sm3_batch(out, batch.message, batch.count);
    for (size_t i = 0; i < batch.count; i++) {
        sm3_digest expected = sm3_parts(batch.part[i], batch.message[i].count);
        assert_memory_equal(out[i].b, expected.b, SM3_BYTES);
        free(batch.text[i]);
    }
    for (size_t i = 0; i < SM3_BYTES; i++)
        assert_int_equal(out[batch.count].b[i], 0xa5);
    batch.count = 0;
}

static void any_count_of_random_messages(void **state)
{
    (void)state;
    static const size_t more[] = {0, 1, 3, 15, 16, 17, 33, 200};
    struct seeded s = {1};
    for (size_t round = 0; round < 10; round++) {
        for (size_t count = 0; count <= 70; count++) {
            for (size_t i = 0; i < count; i++)
                add_random(&s, seeded_below(&s, 701));
            check_and_empty();
        }
        for (size_t n = 0; n < sizeof more / sizeof *more; n++) {
            for (size_t i = 0; i < more[n]; i++)
                add_random(&s, seeded_below(&s, 701));
            check_and_empty();
        }
    }
}

/* Message i of the first sixteen is in lane i. */
static void every_short_length_in_every_lane(void **state)
{
    (void)state;
    struct seeded s = {2};
    for (size_t size = 0; size <= 200; size++) {
        for (size_t i = 0; i < LANES; i++)
            add_random(&s, size);
        check_and_empty();
    }
    /* Different lengths side by side: each lane has each length at first and later. */
    for (size_t shift = 0; shift <= 200; shift++) {
        for (size_t i = 0; i < 3 * LANES; i++)
            add_random(&s, (shift + i * 13) % 201);
        check_and_empty();
    }
    for (size_t i = 0; i < 201 * LANES; i++)
        add_random(&s, i % 201);
    check_and_empty();
}

static void a_long_message_among_short_ones(void **state)
{
    (void)state;
    static const size_t sizes[] = {5000, 20000, 300000};
    struct seeded s = {3};
    for (size_t n = 0; n < sizeof sizes / sizeof *sizes; n++) {
        for (size_t place = 0; place < 200; place += 33) {
            for (size_t i = 0; i < 400; i++)
                add_random(&s, i == place ? sizes[n] : seeded_below(&s, 300));
            check_and_empty();
        }
    }
}

/* GB/T 32905-2016 appendix A: "abc", and "abcd" sixteen times. */
static void published_vectors_in_a_batch(void **state)
{
    (void)state;
    const struct span abc = SPAN_LITERAL("abc");
    const struct span abcd[] = {SPAN_LITERAL("abcdabcdabcdabcdabcdabcdabcdabcd"),
                                SPAN_LITERAL("abcdabcdabcdabcdabcdabcdabcdabcd")};
    struct sm3_message in[3 * LANES + 1];
    sm3_digest out[3 * LANES + 1];
    const size_t count = sizeof in / sizeof *in;
    for (size_t i = 0; i < count; i++)
        in[i] = i % 2 == 0 ? (struct sm3_message){&abc, 1} : (struct sm3_message){abcd, 2};
    sm3_batch(out, in, count);
    for (size_t i = 0; i < count; i++)
        assert_hex(out[i].b, SM3_BYTES,
                   i % 2 == 0 ? "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"
                              : "debe9ff92275b8a138604889c18e5a4d6fdb70e5387e5765293dcba39c0c5732");
}

static void a_message_without_parts_is_empty(void **state)
{
    (void)state;
    struct sm3_message in[LANES] = {{NULL, 0}};
    sm3_digest out[LANES];
    sm3_batch(out, in, LANES);
    sm3_digest expected = sm3(span_of(NULL, 0));
    for (size_t i = 0; i < LANES; i++)
        assert_memory_equal(out[i].b, expected.b, SM3_BYTES);
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_count_of_random_messages),
        cmocka_unit_test(every_short_length_in_every_lane),
        cmocka_unit_test(a_long_message_among_short_ones),
        cmocka_unit_test(published_vectors_in_a_batch),
        cmocka_unit_test(a_message_without_parts_is_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
