/* The MDMS's own lists of operators (mdms/roster.h) under clocks that are right and wrong. */
#include "channel/file.h"
#include "crypto/secret.h"
#include "mdms/roster.h"
#include "mdms/seed.h"
#include "net/file.h"
#include "tests/harness.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DAY_S   ISSUE_DAY_S
#define START_S INT64_C(1700000000)

/* Linked in place of net/loop.c's. */
int64_t __wrap_clock_wall_ms(void);
static int64_t now_s;
int64_t __wrap_clock_wall_ms(void)
{
    return now_s * 1000;
}

static struct issuer by;
static char dir[64];

static int setup(void **state)
{
    struct ami_id name;
    struct why why = {""};
    char folder[PATH_MAX];
    uint8_t random[4][SM2_WIDE_BYTES];
    (void)state;
    now_s = START_S;
    memset(random, 5, sizeof random);
    for (uint8_t i = 0; i < 4; i++)
        random[i][0] = i;
    assert_ok(ami_id_from_text(&name, "grid"));
    by = (struct issuer){.lock = -1, .dir = dir};
    assert_ok(mdms_keys_make(&by.keys, &name, 1, (const uint8_t(*)[SM2_WIDE_BYTES])random));
    by.net = by.keys.net;
    strcpy(dir, "/tmp/ami-mdms-roster-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(folder, sizeof folder, "%s/" SEED_FOLDER, dir);
    assert_ok(directory_make(folder, 0755, &why));
    return 0;
}

static int teardown(void **state)
{
    static const char *const left[] = {"/operators/list.json", "/operators/revoked.list",
                                       "/operators", ""};
    (void)state;
    for (size_t i = 0; i < sizeof left / sizeof left[0]; i++) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s%s", dir, left[i]);
        (void)remove(path);
    }
    return 0;
}

static struct credential_identity operator(char name, int64_t days)
{
    struct credential_identity who = {.kind = CREDENTIAL_IMPLICIT,
                                      .role = CREDENTIAL_OPERATOR,
                                      .epoch = 1,
                                      .from_s = now_s,
                                      .until_s = now_s + days * DAY_S,
                                      .fingerprint = {{(uint8_t)name}}};
    const char text[] = {name, 0};
    assert_ok(ami_id_from_text(&who.name, text));
    return who;
}

/* `ami-mdms operator revoke` of one that is good for so many days from now; the last signed list
 * afterwards. */
static const struct revoked_list *
taken_back_who(struct roster *r, const struct credential_identity *who, bool clock_is_right)
{
    struct why why = {""};
    roster_free(r);
    assert_ok(roster_read(r, dir, &by.net, &why));
    if (roster_find(r, &who->fingerprint) == NULL)
        assert_ok(roster_add(r, who, true));
    assert_ok(roster_revoke(roster_find(r, &who->fingerprint)));
    assert_ok(roster_sign(r, &by, clock_is_right, &why));
    assert_ok(roster_write(r, false, &why));
    /* As it is on the disk. */
    const unsigned held = r->held;
    roster_free(r);
    assert_ok(roster_read(r, dir, &by.net, &why));
    r->held = held;
    return r->last;
}

static const struct revoked_list *taken_back(struct roster *r, char name, int64_t days)
{
    const struct credential_identity who = operator(name, days);
    return taken_back_who(r, &who, false);
}

static bool on(const struct revoked_list *list, char name)
{
    const sm3_digest fingerprint = {{(uint8_t)name}};
    return revoked_list_find(list, &fingerprint) != NULL;
}

/* A clock that is a year ahead, and signs again and again: everybody stays. */
static void a_clock_that_is_ahead_takes_nobody_back(void **state)
{
    struct roster r = {.all = NULL};
    (void)state;
    uint64_t number = taken_back(&r, 'a', 100)->number;
    now_s += 365 * DAY_S;
    for (char who = 'b'; who < 'e'; who++) {
        const struct revoked_list *list = taken_back(&r, who, 1000);
        assert_true(on(list, 'a') && on(list, who));
        assert_int_equal(r.held, 1);
        assert_true(list->number > number);
        assert_true(list->issued_ms == START_S * 1000); /* what the next one is held against */
        number = list->number;
    }
    /* The clock is right again. */
    now_s = START_S + DAY_S;
    const struct revoked_list *list = taken_back(&r, 'e', 1000);
    assert_int_equal(r.held, 0);
    assert_int_equal(list->count, 5);
    assert_true(list->number > number && list->issued_ms == now_s * 1000);
    /* And was right after all: somebody says so. */
    now_s = START_S + 366 * DAY_S;
    const struct credential_identity f = operator('f', 1000);
    list = taken_back_who(&r, &f, true);
    assert_int_equal(r.held, 0);
    assert_false(on(list, 'a'));
    assert_int_equal(list->count, 5);
    assert_true(list->issued_ms == now_s * 1000);
    /* What a wrong word has left out comes back with the next list under a right clock. */
    now_s = START_S + 2 * DAY_S;
    assert_true(on(taken_back(&r, 'g', 1000), 'a'));
    roster_free(&r);
}

/* Nothing is held against a clock by which nothing has ended, however long nobody was revoked. */
static void whoever_has_ended_leaves(void **state)
{
    struct roster r = {.all = NULL};
    (void)state;
    (void)taken_back(&r, 'a', 100);
    now_s += 80 * DAY_S;
    const struct revoked_list *list = taken_back(&r, 'b', 1000);
    assert_true(on(list, 'a'));
    assert_int_equal(r.held, 0);
    assert_true(list->issued_ms == now_s * 1000);
    /* DCs whose clock is behind still miss it. */
    now_s = START_S + 102 * DAY_S - 1;
    assert_true(on(taken_back(&r, 'c', 1000), 'a'));
    now_s += 2;
    list = taken_back(&r, 'd', 1000);
    assert_false(on(list, 'a'));
    assert_int_equal(r.held, 0);
    assert_int_equal(list->count, 3);
    roster_free(&r);
}

/* What only the signed list knows ends when that says, and is not written into list.json. */
static void unknown_ones_end_as_well(void **state)
{
    struct roster r = {.all = NULL};
    struct why why = {""};
    char path[PATH_MAX];
    (void)state;
    (void)taken_back(&r, 'a', 100);
    snprintf(path, sizeof path, "%s/operators/list.json", dir);
    assert_int_equal(remove(path), 0);
    now_s += 90 * DAY_S;
    assert_true(on(taken_back(&r, 'b', 1000), 'a'));
    assert_int_equal(json_array_size(r.all), 2);
    json_t *written = json_load_file(path, 0, NULL);
    assert_int_equal(json_array_size(written), 1);
    json_decref(written);
    now_s += 20 * DAY_S;
    assert_false(on(taken_back(&r, 'c', 1000), 'a'));
    assert_int_equal(json_array_size(r.all), 2);
    /* A thousand of them are not in the way for longer. */
    for (unsigned i = 0; i < AMI_REVOKED_MAX - 2; i++) {
        struct credential_identity who = operator('x', 10);
        store_be32(who.fingerprint.b, 0xff000000u + i);
        assert_ok(roster_add(&r, &who, true));
        assert_ok(roster_revoke(roster_find(&r, &who.fingerprint)));
    }
    assert_ok(roster_sign(&r, &by, false, &why));
    const struct credential_identity d = operator('d', 1000);
    assert_ok(roster_add(&r, &d, true));
    assert_ok(roster_revoke(roster_find(&r, &d.fingerprint)));
    assert_status(roster_sign(&r, &by, false, &why), AMI_FULL);
    assert_null(strstr(why.text, "--clock-is-right"));
    now_s += 60 * DAY_S;
    assert_status(roster_sign(&r, &by, false, &why), AMI_FULL);
    assert_non_null(strstr(why.text, "--clock-is-right"));
    assert_ok(roster_sign(&r, &by, true, &why));
    assert_int_equal(r.last->count, 3);
    assert_true(on(r.last, 'd'));
    roster_free(&r);
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_clock_that_is_ahead_takes_nobody_back, setup, teardown),
        cmocka_unit_test_setup_teardown(whoever_has_ended_leaves, setup, teardown),
        cmocka_unit_test_setup_teardown(unknown_ones_end_as_well, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
