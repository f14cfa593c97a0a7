/* The list of revoked operators, from the MDMS's folder to the DCs, and what they say of it. */
#include "channel/file.h"
#include "crypto/secret.h"
#include "tests/mdms/rig.h"

#include <stdlib.h>
#include <string.h>

struct fixture {
    struct rig r;
    uint8_t bytes[AMI_REVOKED_BYTES_MAX];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    rig_begin(&f->r, SCHEME_DEFAULT);
    rig_genesis(&f->r);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    rig_end(&f->r);
    free(f);
    return 0;
}

static struct span list_of(struct fixture *f, uint64_t number, uint16_t count)
{
    static struct revoked_list list;
    static const uint8_t random[SM2_WIDE_BYTES] = {7};
    list = (struct revoked_list){.number = number, .count = count};
    return span_of(f->bytes,
                   revoked_list_encode(f->bytes, &list, &f->r.keys.net, &f->r.keys.sign, random));
}

/* What this DC was sent: number of the last list; 0: nothing. */
static uint64_t sent_to(struct fixture *f, unsigned dc, size_t times)
{
    struct span body;
    struct operators_list message;
    uint64_t number;
    assert_int_equal(rig_take(&f->r, dc, MSG_OPERATORS, &body), times);
    if (times == 0)
        return 0;
    assert_ok(operators_list_parse(&message, body));
    assert_ok(revoked_list_number(&number, message.list));
    return number;
}

static void say(struct fixture *f, unsigned dc, enum ami_status status, uint64_t number)
{
    uint8_t bytes[16];
    const struct operators_taken t = {(uint16_t)status, number};
    struct writer w = writer_on(bytes, sizeof bytes);
    operators_taken_encode(&w, &t);
    rig_send(&f->r, RIG_LINK_DC(dc), MSG_OPERATORS_TAKEN, writer_span(&w));
    rig_settle(&f->r);
}

static struct listed_record noted(struct fixture *f, unsigned dc)
{
    struct listed_record q = {.status = AMI_STATUS_COUNT};
    struct span value;
    if (rig_get(&f->r, TABLE_OPERATORS, key_listed(&f->r.dc[dc].name), &value))
        assert_ok(listed_record_parse(&q, value));
    return q;
}

static void it_goes_to_all_and_is_noted(void **state)
{
    struct fixture *f = *state;
    rig_connect(&f->r, 0);
    assert_int_equal(sent_to(f, 0, 0), 0); /* there is none yet */
    assert_ok(mdms_operators(f->r.m, list_of(f, 7, 3)));
    assert_int_equal(sent_to(f, 0, 1), 7);
    /* A link that comes up later. */
    rig_connect(&f->r, 1);
    assert_int_equal(sent_to(f, 1, 1), 7);
    say(f, 0, AMI_OK, 7);
    assert_int_equal(noted(f, 0).number, 7);
    assert_status(noted(f, 0).status, AMI_OK);
    assert_int_equal(noted(f, 1).status, AMI_STATUS_COUNT);
    /* Not again, as time passes; again on a new link, and when it changes. */
    rig_advance(&f->r, 120000);
    assert_int_equal(sent_to(f, 0, 0), 0);
    rig_disconnect(&f->r, 0);
    rig_connect(&f->r, 0);
    assert_int_equal(sent_to(f, 0, 1), 7);
    assert_ok(mdms_operators(f->r.m, list_of(f, 8, 4)));
    assert_int_equal(sent_to(f, 0, 1), 8);
    assert_int_equal(sent_to(f, 1, 1), 8);
    /* What was said is durable; the list comes from its file again. */
    say(f, 0, AMI_OK, 8);
    rig_kill(&f->r);
    rig_start(&f->r);
    assert_int_equal(noted(f, 0).number, 8);
    rig_connect(&f->r, 0);
    assert_int_equal(sent_to(f, 0, 0), 0);
    assert_ok(mdms_operators(f->r.m, list_of(f, 8, 4)));
    assert_int_equal(sent_to(f, 0, 1), 8);
}

static void a_full_link_or_disk_is_tried_again(void **state)
{
    struct fixture *f = *state;
    rig_connect(&f->r, 0);
    f->r.link_full = true;
    assert_ok(mdms_operators(f->r.m, list_of(f, 7, 1)));
    assert_int_equal(sent_to(f, 0, 0), 0);
    f->r.link_full = false;
    rig_advance(&f->r, 2000);
    assert_int_equal(sent_to(f, 0, 1), 7);
    say(f, 0, AMI_FULL, 7);
    assert_status(noted(f, 0).status, AMI_FULL);
    assert_int_equal(rig_logged(&f->r, "operators_not_taken"), 1);
    rig_advance(&f->r, 30000);
    assert_int_equal(sent_to(f, 0, 0), 0);
    rig_advance(&f->r, 40000);
    assert_int_equal(sent_to(f, 0, 1), 7);
    /* The write of what it said fails, and is made again. */
    f->r.store_status = AMI_FULL;
    say(f, 0, AMI_OK, 7);
    assert_status(noted(f, 0).status, AMI_FULL);
    f->r.store_status = AMI_OK;
    rig_advance(&f->r, 2000);
    assert_status(noted(f, 0).status, AMI_OK);
}

/* The folder was put back from before: the DCs know more, and that is said. */
static void who_is_behind_is_told(void **state)
{
    struct fixture *f = *state;
    rig_connect(&f->r, 0);
    assert_ok(mdms_operators(f->r.m, list_of(f, 7, 1)));
    assert_int_equal(sent_to(f, 0, 1), 7);
    say(f, 0, AMI_EXISTS, 9);
    assert_int_equal(noted(f, 0).number, 9);
    assert_int_equal(rig_logged(&f->r, "operators_behind"), 1);
    rig_advance(&f->r, 120000);
    assert_int_equal(sent_to(f, 0, 0), 0);
}

/* Each list is answered once; what a DC says besides costs neither a write nor a line of the log.
 */
static void what_nobody_asked_for_is_dropped(void **state)
{
    struct fixture *f = *state;
    rig_connect(&f->r, 0);
    say(f, 0, AMI_OK, 1);
    assert_int_equal(noted(f, 0).status, AMI_STATUS_COUNT);
    assert_ok(mdms_operators(f->r.m, list_of(f, 7, 1)));
    assert_ok(mdms_operators(f->r.m, list_of(f, 8, 1)));
    assert_int_equal(sent_to(f, 0, 2), 8);
    say(f, 0, AMI_OK, 7);
    say(f, 0, AMI_OK, 8);
    assert_int_equal(noted(f, 0).number, 8);
    const unsigned lines = rig_logged(&f->r, "operators_not_taken");
    struct mdms_stats stats;
    mdms_stats(f->r.m, &stats);
    const uint64_t bad = stats.frames_bad;
    for (int i = 0; i < 5; i++)
        say(f, 0, AMI_FULL, 3);
    assert_int_equal(noted(f, 0).number, 8);
    assert_int_equal(rig_logged(&f->r, "operators_not_taken"), lines);
    mdms_stats(f->r.m, &stats);
    assert_int_equal(stats.frames_bad, bad + 5);
}

static void only_its_own_lists_go_out(void **state)
{
    struct fixture *f = *state;
    rig_connect(&f->r, 0);
    struct span list = list_of(f, 7, 1);
    f->bytes[list.size - 1] ^= 1;
    assert_status(mdms_operators(f->r.m, list), AMI_BAD_SIGNATURE);
    assert_int_equal(sent_to(f, 0, 0), 0);
    assert_ok(mdms_operators(f->r.m, list_of(f, 7, 1)));
    assert_status(mdms_operators(f->r.m, list_of(f, 6, 0)), AMI_EXISTS);
    assert_int_equal(sent_to(f, 0, 1), 7);
    rig_send(&f->r, RIG_LINK_DC(0), MSG_OPERATORS_TAKEN, span_of("x", 1));
    rig_settle(&f->r);
    assert_int_equal(noted(f, 0).status, AMI_STATUS_COUNT);
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_goes_to_all_and_is_noted, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_link_or_disk_is_tried_again, setup, teardown),
        cmocka_unit_test_setup_teardown(who_is_behind_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(what_nobody_asked_for_is_dropped, setup, teardown),
        cmocka_unit_test_setup_teardown(only_its_own_lists_go_out, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
