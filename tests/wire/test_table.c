/* Every type of wire/table.h against encodings made from the table alone (samples.h). */
#include "tests/harness.h"

#include "tests/wire/samples.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint8_t *in, *out;

static int set_up(void **state)
{
    (void)state;
    in = malloc(SAMPLE_BYTES_MAX);
    out = malloc(SAMPLE_BYTES_MAX);
    return in == NULL || out == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    free(in);
    free(out);
    return 0;
}

/* Parses from a block of exactly this size, so that AddressSanitizer sees any read beyond it. */
static enum ami_status recode(unsigned type, size_t size, size_t *again)
{
    uint8_t *exact = malloc(size == 0 ? 1 : size);
    assert_non_null(exact);
    memcpy(exact, in, size);
    enum ami_status status =
        sample_recode(type, span_of(exact, size), out, SAMPLE_BYTES_MAX, again);
    free(exact);
    return status;
}

static void assert_comes_back(unsigned type, struct sample_plan plan)
{
    size_t again = 0, size = sample_make(type, &plan, in, SAMPLE_BYTES_MAX);
    enum ami_status status = recode(type, size, &again);
    if (status != AMI_OK || again != size || memcmp(in, out, size) != 0)
        fail_msg("%s, seed %u: %s, %zu bytes in, %zu out", sample_name(type), (unsigned)plan.seed,
                 ami_status_name(status), size, again);
}

static void every_type_comes_back_byte_for_byte(void **state)
{
    (void)state;
    for (unsigned type = 0; type < SAMPLE_TYPE_COUNT; type++) {
        for (unsigned seed = 0; seed < 50; seed++)
            assert_comes_back(type, (struct sample_plan){.seed = seed, .size = SAMPLE_ANY});
        assert_comes_back(type, (struct sample_plan){.seed = 1, .size = SAMPLE_FULL});
    }
}

static void everything_at_its_limit_is_accepted(void **state)
{
    (void)state;
    for (unsigned type = 0; type < SAMPLE_TYPE_COUNT; type++)
        assert_comes_back(type, (struct sample_plan){.seed = 2, .size = SAMPLE_LIMIT});
}

static void every_truncation_is_refused(void **state)
{
    (void)state;
    for (unsigned type = 0; type < SAMPLE_TYPE_COUNT; type++)
        for (unsigned seed = 0; seed < 3; seed++) {
            struct sample_plan plan = {.seed = 100 + seed,
                                       .size = seed == 0 ? SAMPLE_FULL : SAMPLE_ANY};
            size_t again, size = sample_make(type, &plan, in, SAMPLE_BYTES_MAX);
            for (size_t cut = 0; cut < size; cut++)
                if (recode(type, cut, &again) != AMI_BAD_ENCODING)
                    fail_msg("%s accepts its first %zu of %zu bytes", sample_name(type), cut, size);
        }
}

static void a_byte_too_many_is_refused(void **state)
{
    (void)state;
    for (unsigned type = 0; type < SAMPLE_TYPE_COUNT; type++)
        for (unsigned extra = 0; extra < 256; extra += 85) {
            struct sample_plan plan = {.seed = extra, .size = SAMPLE_FULL};
            size_t again, size = sample_make(type, &plan, in, SAMPLE_BYTES_MAX);
            in[size] = (uint8_t)extra;
            if (recode(type, size + 1, &again) != AMI_BAD_ENCODING)
                fail_msg("%s accepts a byte %u behind its end", sample_name(type), extra);
        }
}

/* Sizes and counts one beyond their limit (with all the bytes that they announce), names that are
 * empty, too long or hold another character, flags that are neither 0 nor 1: each alone. */
static void every_limit_is_kept(void **state)
{
    (void)state;
    unsigned faults = 0;
    for (unsigned type = 0; type < SAMPLE_TYPE_COUNT; type++) {
        struct sample_plan sound = {.seed = 7, .size = SAMPLE_FULL};
        sample_make(type, &sound, in, SAMPLE_BYTES_MAX);
        for (unsigned at = 1; at <= sound.places; at++, faults++) {
            struct sample_plan bad = {.seed = 7, .size = SAMPLE_FULL, .fault_at = at};
            size_t again, size = sample_make(type, &bad, in, SAMPLE_BYTES_MAX);
            if (recode(type, size, &again) != AMI_BAD_ENCODING)
                fail_msg("%s accepts fault %u of %u", sample_name(type), at, sound.places);
        }
    }
    assert_true(faults > 100);
}

/* A signed type ends with its signature: `signed_part` rests on that. */
static void signatures_stand_last(void **state)
{
    (void)state;
#define ENDS_WITH(T)                                                                               \
    do {                                                                                           \
        struct T *v = calloc(1, sizeof *v);                                                        \
        assert_non_null(v);                                                                        \
        memset(v->signature.b, 0xee, sizeof v->signature.b);                                       \
        struct writer w = writer_on(out, SAMPLE_BYTES_MAX);                                        \
        T##_encode(&w, v);                                                                         \
        struct span s = signed_part(writer_span(&w));                                              \
        assert_int_equal(s.size + SM2_SIGNATURE_BYTES, w.size);                                    \
        for (size_t i = 0; i < w.size; i++)                                                        \
            assert_true((w.data[i] == 0xee) == (i >= s.size));                                     \
        free(v);                                                                                   \
    } while (0)
    ENDS_WITH(vote);
    ENDS_WITH(prevote);
    ENDS_WITH(prevote_request);
    ENDS_WITH(grant);
    ENDS_WITH(grant_request);
    ENDS_WITH(proposal_core);
    ENDS_WITH(proposal_head);
    ENDS_WITH(heartbeat);
    ENDS_WITH(heartbeat_ack);
    ENDS_WITH(report_meter_part);
    ENDS_WITH(report_gateway_part);
    ENDS_WITH(skip_meter_part);
    assert_int_equal(signed_part(span_of(in, 63)).size, 0);
}

/* The largest body of every message that DCs and the MDMS exchange fits a peer's frame. */
static void peer_messages_fit_their_frames(void **state)
{
    (void)state;
    unsigned seen = 0;
    for (unsigned message = MSG_LINK_HELLO; message < MSG_AGREE_FLIGHT1; message++) {
        unsigned type = sample_of_message(message);
        if (type == SAMPLE_TYPE_COUNT)
            continue;
        struct sample_plan plan = {.seed = 3, .size = SAMPLE_LIMIT};
        size_t size = sample_make(type, &plan, in, SAMPLE_BYTES_MAX);
        assert_true(size + 2 <= AMI_FRAME_PEER_BYTES_MAX);
        seen++;
    }
    assert_true(seen >= 18);
}

static void frames_open_or_say_why_not(void **state)
{
    (void)state;
    enum message_type type;
    struct span body;
    for (unsigned number = 0; number < 256; number++) {
        uint8_t frame[4] = {AMI_WIRE_VERSION, (uint8_t)number, 0xaa, 0xbb};
        bool known = sample_of_message(number) != SAMPLE_TYPE_COUNT;
        enum ami_status status = frame_open(span_of(frame, sizeof frame), &type, &body);
        assert_status(status, known ? AMI_OK : AMI_BAD_ENCODING);
        assert_int_equal(strcmp(message_name(number), "UNKNOWN") != 0, known);
        if (known) {
            assert_int_equal(type, number);
            assert_ptr_equal(body.data, frame + 2);
            assert_int_equal(body.size, 2);
            struct writer w = writer_on(out, 2);
            frame_begin(&w, type);
            assert_true(writer_ok(&w));
            assert_memory_equal(out, frame, 2);
        }
        frame[0] = AMI_WIRE_VERSION + 1;
        assert_status(frame_open(span_of(frame, sizeof frame), &type, &body), AMI_BAD_VERSION);
    }
    const uint8_t head[2] = {AMI_WIRE_VERSION, MSG_VOTE};
    assert_status(frame_open(span_of(NULL, 0), &type, &body), AMI_BAD_ENCODING);
    assert_status(frame_open(span_of(head, 1), &type, &body), AMI_BAD_ENCODING);
    assert_ok(frame_open(span_of(head, 2), &type, &body));
    assert_int_equal(body.size, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_comes_back_byte_for_byte),
        cmocka_unit_test(everything_at_its_limit_is_accepted),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(a_byte_too_many_is_refused),
        cmocka_unit_test(every_limit_is_kept),
        cmocka_unit_test(signatures_stand_last),
        cmocka_unit_test(peer_messages_fit_their_frames),
        cmocka_unit_test(frames_open_or_say_why_not),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
