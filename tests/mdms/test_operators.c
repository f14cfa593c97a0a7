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

#define FOREVER_S INT64_C(4102444800)

/* With fingerprints that begin with first, first + 1, ...; made anew it is the same file. */
static struct span list_until(struct fixture *f, uint64_t number, int64_t until_s, uint16_t first,
                              uint16_t count)
{
    static struct revoked_list list;
    static const uint8_t random[SM2_WIDE_BYTES] = {7};
    list = (struct revoked_list){.number = number};
    for (uint16_t i = 0; i < count; i++) {
        struct revoked_entry e = {.until_s = until_s};
        store_be32(e.fingerprint.b, (uint32_t)first + i);
        assert_ok(revoked_list_add(&list, &e));
    }
    return span_of(f->bytes,
                   revoked_list_encode(f->bytes, &list, &f->r.keys.net, &f->r.keys.sign, random));
}

static struct span list_from(struct fixture *f, uint64_t number, uint16_t first, uint16_t count)
{
    return list_until(f, number, FOREVER_S, first, count);
}

static struct span list_of(struct fixture *f, uint64_t number, uint16_t count)
{
    return list_from(f, number, 1, count);
}

static bool has(const struct revoked_list *list, uint32_t which)
{
    sm3_digest fingerprint = {{0}};
    store_be32(fingerprint.b, which);
    return revoked_list_find(list, &fingerprint) != NULL;
}

static void show(struct fixture *f, unsigned dc, struct span list)
{
    static uint8_t bytes[AMI_REVOKED_BYTES_MAX + 8];
    const struct operators_list message = {list};
    struct writer w = writer_on(bytes, sizeof bytes);
    operators_list_encode(&w, &message);
    assert_true(writer_ok(&w));
    rig_send(&f->r, RIG_LINK_DC(dc), MSG_OPERATORS, writer_span(&w));
    rig_settle(&f->r);
}

static const struct revoked_list *known(struct fixture *f)
{
    static struct revoked_list list;
    uint64_t number;
    const struct span bytes = mdms_operators_known(f->r.m, &number);
    assert_ok(revoked_list_parse(&list, &f->r.keys.net, bytes));
    assert_int_equal(list.number, number);
    return &list;
}

/* What this DC was sent: number of the last list; 0: nothing. */
static uint64_t sent_to(struct fixture *f, unsigned dc, size_t times)
{
    struct span body;
    struct operators_list message;
    static struct revoked_list head;
    assert_int_equal(rig_take(&f->r, dc, MSG_OPERATORS, &body), times);
    if (times == 0)
        return 0;
    assert_ok(operators_list_parse(&message, body));
    assert_ok(revoked_list_read(&head, message.list));
    return head.number;
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

/* The folder was put back from before: a DC has a newer list, shows it, and it is taken over, sent
 * to all and there for the folder. */
static void who_is_behind_is_told(void **state)
{
    struct fixture *f = *state;
    rig_connect(&f->r, 0);
    rig_connect(&f->r, 1);
    assert_ok(mdms_operators(f->r.m, list_of(f, 7, 1)));
    assert_int_equal(sent_to(f, 0, 1), 7);
    assert_int_equal(sent_to(f, 1, 1), 7);
    say(f, 0, AMI_EXISTS, 9);
    assert_int_equal(noted(f, 0).number, 9);
    /* What it shows does not arrive: it is asked for by ours, some time later. */
    rig_advance(&f->r, 70000);
    assert_int_equal(sent_to(f, 0, 1), 7);
    assert_int_equal(rig_logged(&f->r, "operators_behind"), 0);
    say(f, 0, AMI_EXISTS, 9);
    show(f, 0, list_of(f, 9, 3));
    assert_int_equal(rig_logged(&f->r, "operators_behind"), 1);
    assert_int_equal(known(f)->number, 9);
    assert_int_equal(known(f)->count, 3);
    assert_int_equal(sent_to(f, 0, 1), 9);
    assert_int_equal(sent_to(f, 1, 1), 9);
    say(f, 0, AMI_OK, 9);
    say(f, 1, AMI_OK, 9);
    rig_advance(&f->r, 120000);
    assert_int_equal(sent_to(f, 0, 0), 0);
    /* Older ones, and the same again, are no news; the folder's own is older by now. */
    show(f, 1, list_of(f, 9, 3));
    show(f, 1, list_of(f, 8, 2));
    assert_status(mdms_operators(f->r.m, list_of(f, 7, 1)), AMI_EXISTS);
    assert_int_equal(known(f)->number, 9);
    assert_int_equal(sent_to(f, 0, 0), 0);
    assert_int_equal(rig_logged(&f->r, "operators_behind"), 1);
}

/* A folder without any list has it from the first DC. */
static void who_has_none_is_told(void **state)
{
    struct fixture *f = *state;
    uint64_t number = 1;
    assert_int_equal(mdms_operators_known(f->r.m, &number).size, 0);
    assert_int_equal(number, 0);
    rig_connect(&f->r, 2);
    show(f, 2, list_of(f, 9, 2));
    assert_int_equal(known(f)->number, 9);
    assert_int_equal(sent_to(f, 2, 1), 9);
}

/* Something was revoked in a folder that was put back, before any DC was heard: whoever is on
 * either list is on the next one, which every DC takes. */
static void two_lists_become_one(void **state)
{
    struct fixture *f = *state;
    assert_ok(mdms_operators(f->r.m, list_from(f, 9, 3, 4))); /* 3 to 6 */
    rig_connect(&f->r, 0);
    assert_int_equal(sent_to(f, 0, 1), 9);
    show(f, 0, list_from(f, 7, 1, 3)); /* 1 to 3 */
    say(f, 0, AMI_EXISTS, 7);
    assert_int_equal(rig_logged(&f->r, "operators_joined"), 1);
    assert_true(known(f)->number > 9);
    assert_int_equal(known(f)->count, 6);
    for (uint32_t i = 1; i <= 6; i++)
        assert_true(has(known(f), i));
    assert_int_equal(sent_to(f, 0, 1), known(f)->number);
    say(f, 0, AMI_OK, known(f)->number);
    assert_int_equal(rig_logged(&f->r, "operators_not_taken"), 0);
    /* The other way round: the folder has the older of the two. */
    uint64_t number = known(f)->number;
    show(f, 0, list_from(f, number + 5, 7, 1));
    assert_true(known(f)->number > number + 5);
    assert_int_equal(known(f)->count, 7);
    /* And both at once on the way from the folder, a second time as well. */
    for (uint16_t more = 8; more <= 9; more++) {
        number = known(f)->number;
        assert_ok(mdms_operators(f->r.m, list_from(f, number + 5, more, 1)));
        assert_int_equal(known(f)->count, more);
        assert_true(known(f)->number > number + 5);
    }
    /* One of the known number is another list when it is not the same bytes. */
    number = known(f)->number;
    show(f, 0, list_from(f, number, 10, 1));
    assert_int_equal(known(f)->count, 10);
    assert_true(known(f)->number > number);
    /* What does not fit is refused, and said; what is known stays. */
    number = known(f)->number;
    show(f, 0, list_from(f, number + 5, 11, AMI_REVOKED_MAX));
    assert_int_equal(rig_logged(&f->r, "operators_not_joined"), 1);
    assert_int_equal(known(f)->number, number);
    assert_status(mdms_operators(f->r.m, list_from(f, number + 5, 11, AMI_REVOKED_MAX)), AMI_FULL);
    assert_int_equal(known(f)->number, number);
}

/* What `ami-mdms operator` has left out because it has ended does not come back with every DC that
 * was away; but for a DC that refuses the list, by whose clock it has not ended. */
static void what_has_ended_stays_away(void **state)
{
    struct fixture *f = *state;
    const int64_t now_s = f->r.env.clock_wall_ms(f->r.env.ctx) / 1000;
    const int64_t past_s = now_s - 2 * REVOKED_MARGIN_S - 10;
    assert_ok(mdms_operators(f->r.m, list_until(f, 7, past_s, 1, 2)));
    assert_ok(mdms_operators(f->r.m, list_from(f, 8, 3, 1))); /* without 1 and 2 */
    assert_int_equal(known(f)->number, 8);
    rig_connect(&f->r, 0);
    assert_int_equal(sent_to(f, 0, 1), 8);
    show(f, 0, list_until(f, 7, past_s, 1, 2));
    assert_int_equal(known(f)->number, 8);
    say(f, 0, AMI_EXISTS, 7);
    assert_int_equal(rig_logged(&f->r, "operators_joined"), 0);
    show(f, 0, list_until(f, 7, past_s, 1, 2));
    assert_int_equal(rig_logged(&f->r, "operators_joined"), 1);
    assert_int_equal(known(f)->count, 3);
    assert_int_equal(sent_to(f, 0, 1), known(f)->number);
    say(f, 0, AMI_OK, known(f)->number);
    /* Of a newer list of a DC's nothing is taken on this clock's word either. */
    const uint64_t number = known(f)->number;
    show(f, 0, list_from(f, number + 5, 4, 1));
    assert_int_equal(known(f)->count, 4);
    assert_true(has(known(f), 1));
    /* What has not ended leaves with no list of the folder's. */
    assert_ok(mdms_operators(f->r.m, list_from(f, known(f)->number + 5, 5, 1)));
    assert_true(has(known(f), 3) && has(known(f), 4) && has(known(f), 5));
}

static void another_version_ends_no_link(void **state)
{
    struct fixture *f = *state;
    assert_ok(mdms_operators(f->r.m, list_of(f, 7, 1)));
    rig_connect(&f->r, 0);
    struct span older = list_of(f, 9, 2);
    f->bytes[8]--;
    show(f, 0, older);
    assert_int_equal(rig_logged(&f->r, "operators_refused"), 1);
    assert_int_equal(rig_logged(&f->r, "dc_refused"), 0);
    assert_int_equal(known(f)->number, 7);
    assert_status(mdms_operators(f->r.m, older), AMI_BAD_VERSION);
}

/* A DC shows what we have not signed. */
static void a_forged_one_ends_the_link(void **state)
{
    struct fixture *f = *state;
    assert_ok(mdms_operators(f->r.m, list_of(f, 7, 1)));
    for (unsigned dc = 0; dc < 3; dc++) {
        struct span list = list_of(f, 8 + dc, 3);
        rig_connect(&f->r, dc);
        if (dc == 0)
            f->bytes[list.size - 40] ^= 1;
        else if (dc == 1)
            list.size -= 7;
        else
            list = span_of("amirevk", 7);
        show(f, dc, list);
        assert_int_equal(rig_logged(&f->r, "dc_refused"), dc + 1);
    }
    assert_int_equal(known(f)->number, 7);
    assert_int_equal(known(f)->count, 1);
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
    list = list_of(f, 6, 0);
    f->bytes[list.size - 1] ^= 1;
    assert_status(mdms_operators(f->r.m, list), AMI_BAD_SIGNATURE);
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
        cmocka_unit_test_setup_teardown(who_has_none_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(two_lists_become_one, setup, teardown),
        cmocka_unit_test_setup_teardown(what_has_ended_stays_away, setup, teardown),
        cmocka_unit_test_setup_teardown(another_version_ends_no_link, setup, teardown),
        cmocka_unit_test_setup_teardown(a_forged_one_ends_the_link, setup, teardown),
        cmocka_unit_test_setup_teardown(what_nobody_asked_for_is_dropped, setup, teardown),
        cmocka_unit_test_setup_teardown(only_its_own_lists_go_out, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
