/* Links that are open when what is trusted changes, or when a date comes: whoever would not be let
 * in any more loses them, on listeners and on dialled links alike, and everybody else keeps theirs.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/trust.h"
#include "tests/net/sides.h"

static char dir[] = "/tmp/amiledger-judge-XXXXXX";
static char roots_path[64], crls_path[64];
static int64_t made_s;
static const struct trust_files files = {.roots = roots_path, .crls = crls_path};

static int make_files(void **state)
{
    char command[512], network[2 * SM3_BYTES + 1];
    (void)state;
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(roots_path, sizeof roots_path, "%s/root.pem", dir);
    snprintf(crls_path, sizeof crls_path, "%s/now.crl", dir);
    hex_encode(network, realm.mdms.net.id.b, SM3_BYTES);
    made_s = clock_wall_ms() / 1000; /* links go by the time that it is */
    snprintf(command, sizeof command, "tests/channel/make_certificates %s %s %lld", dir, network,
             (long long)made_s);
    return system(command);
}

static int remove_files(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

/* This list of the script's is the one in force. */
static void in_force(const char *name)
{
    char command[256];
    snprintf(command, sizeof command, "cp %s/%s %s", dir, name, crls_path);
    assert_int_equal(system(command), 0);
}

static struct span file(const char *name, const char *ending)
{
    static uint8_t bytes[2][65536];
    static unsigned at;
    char path[256];
    uint8_t *out = bytes[at++ % 2];
    snprintf(path, sizeof path, "%s/%s%s", dir, name, ending);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    const size_t size = fread(out, 1, sizeof bytes[0], f);
    fclose(f);
    return span_of(out, size);
}

static void side_make_x509(struct side *s, const char *name)
{
    struct credential own;
    sm2_private key;
    char why[300] = "";
    assert_ok(x509_key(&key, file(name, ".key")));
    assert_ok(x509_credential(&own, &realm.mdms.net, &key, file(name, ".chain"), why, sizeof why));
    side_make_with(s, &own);
}

static void say(struct side *from, struct side *to)
{
    const size_t frames = to->frames;
    assert_ok(link_send(links, from->link, SPAN_LITERAL("a vote")));
    turn_until(to->frames == frames + 1);
}

/* The certificate that opened a link is on the next list. `dialled`: who judges has dialled. */
static void revoked_under(bool dialled)
{
    static struct side judge, bad, good;
    struct trust trust = {0};
    struct why why = {""};
    in_force("empty.crl");
    assert_ok(trust_load(&trust, &realm.mdms.net, &files, &why));
    side_make(&judge, &realm, "dc-2");
    side_make_x509(&bad, "revoked");
    side_make_x509(&good, "dc-2");
    judge.security.config.trust = &trust.trust;
    struct link_listener *l = listen_as(dialled ? &bad : &judge, &limits);
    struct link_dialer *d = dial_as(dialled ? &judge : &bad, link_listener_address(l), &limits);
    const struct link_counters *counted =
        dialled ? link_dialer_counters(d) : link_listener_counters(l);
    turn_until(bad.opened == 1 && judge.opened == 1);
    const env_link of_bad = judge.link;
    struct link_dialer *other = NULL;
    if (!dialled) {
        other = dial_as(&good, link_listener_address(l), &limits);
        turn_until(good.opened == 1 && judge.opened == 2);
        say(&good, &judge);
    }
    say(&bad, &judge);
    /* Nothing has changed: judged again, all stay. */
    link_judge(links, clock_wall_ms());
    say(&bad, &judge);
    in_force("all.crl");
    assert_ok(trust_reload(&trust, &realm.mdms.net, &files, &why));
    link_judge(links, clock_wall_ms());
    turn_until(judge.refused >= 1 && bad.refused >= 1);
    assert_int_equal(judge.fault, FAULT_REVOKED);
    assert_int_equal(judge.standing, CHANNEL_PROVEN);
    assert_string_equal(judge.refused_name, "dc-1");
    assert_int_equal(bad.fault, FAULT_ERROR);
    assert_status(link_send(links, of_bad, SPAN_LITERAL("x")), AMI_CLOSED);
    turn_until(judge.closed == 1 && bad.closed == 1);
    assert_status(judge.why, AMI_NOT_ALLOWED);
    assert_true(counted->faults[FAULT_REVOKED] >= 1);
    assert_true(counted->dropped[LINK_DROP_CHANNEL] >= 1);
    if (other != NULL) {
        say(&good, &judge);
        assert_int_equal(good.closed + good.refused, 0);
        link_dialer_stop(other);
        turn_until(good.closed == 1);
    }
    link_dialer_stop(d);
    trust_end(&trust);
}

static void a_revoked_certificate_loses_the_link_that_it_dialled(void **state)
{
    (void)state;
    revoked_under(false);
}

static void a_revoked_certificate_loses_the_link_that_was_dialled_to_it(void **state)
{
    (void)state;
    revoked_under(true);
}

/* One link under this credential; then `change`, and the reason for which it ends. */
static void ends_after(const struct credential *own, void (*change)(struct side *judge),
                       int64_t later_ms, enum channel_fault fault)
{
    static struct side judge, bad;
    side_make(&judge, &realm, "dc-2");
    side_make_with(&bad, own);
    struct link_listener *l = listen_as(&judge, &limits);
    struct link_dialer *d = dial_as(&bad, link_listener_address(l), &limits);
    turn_until(bad.opened == 1 && judge.opened == 1);
    link_judge(links, clock_wall_ms());
    say(&bad, &judge);
    if (change != NULL)
        change(&judge);
    link_judge(links, clock_wall_ms() + later_ms);
    turn_until(judge.closed == 1);
    assert_int_equal(judge.fault, fault);
    assert_string_equal(judge.refused_name, own->who.name.text);
    link_dialer_stop(d);
    link_listener_stop(l);
    turn_until(link_listener_open_now(l) == 0);
}

static void a_date_ends_a_link(void **state)
{
    (void)state;
    static const enum credential_kind kinds[] = {CREDENTIAL_IMPLICIT, CREDENTIAL_CFL};
    const int64_t now_s = clock_wall_ms() / 1000;
    struct credential own;
    for (size_t i = 0; i < 2; i++) {
        realm_credential(&realm, &own, kinds[i], "alice", "1:", now_s - 9, now_s + 3600);
        ends_after(&own, NULL, 3700 * 1000, FAULT_EXPIRED);
    }
    realm_credential(&realm, &own, CREDENTIAL_CFL, "dc-1", NULL, now_s - 9, now_s + 3600);
    ends_after(&own, NULL, 3700 * 1000, FAULT_EXPIRED);
}

/* Asked for in each round of the loop, as when files that are trusted change all the time. */
static void judged_all_the_time_the_last_link_is_not_forgotten(void **state)
{
    (void)state;
    enum { GOOD = 5 };
    static struct side judge, good[GOOD], bad;
    struct link_dialer *d[GOOD];
    struct credential own;
    const int64_t now_s = clock_wall_ms() / 1000;
    side_make(&judge, &realm, "dc-2");
    struct link_listener *l = listen_as(&judge, &limits);
    for (int i = 0; i < GOOD; i++) {
        side_make(&good[i], &realm, "dc-1");
        d[i] = dial_as(&good[i], link_listener_address(l), &limits);
        turn_until(good[i].opened == 1 && judge.opened == i + 1);
    }
    realm_credential(&realm, &own, CREDENTIAL_IMPLICIT, "alice", "1:", now_s - 9, now_s + 3600);
    side_make_with(&bad, &own);
    struct link_dialer *e = dial_as(&bad, link_listener_address(l), &limits);
    turn_until(bad.opened == 1 && judge.opened == GOOD + 1);
    for (const uint64_t end_us = clock_mono_us() + WAIT_US;
         judge.closed == 0 && clock_mono_us() < end_us; loop_step(loop, 5000))
        link_judge(links, clock_wall_ms() + 3700 * 1000);
    assert_int_equal(judge.closed, 1);
    assert_int_equal(judge.fault, FAULT_EXPIRED);
    link_dialer_stop(e);
    for (int i = 0; i < GOOD; i++)
        link_dialer_stop(d[i]);
}

static struct credential on_the_list;
static void revoke(struct side *judge)
{
    judge->party.revoked = on_the_list.who.fingerprint;
}

static void the_list_of_operators_ends_a_link(void **state)
{
    (void)state;
    realm_credential(&realm, &on_the_list, CREDENTIAL_IMPLICIT, "alice", "1:", 0, 0);
    ends_after(&on_the_list, revoke, 0, FAULT_REVOKED);
}

static struct realm other;
static void another_set(struct side *judge)
{
    judge->party.trust.cfl = &other.set;
}
static void no_set(struct side *judge)
{
    judge->party.trust.cfl = NULL;
    judge->party.trust.kinds = CREDENTIAL_BIT(CREDENTIAL_IMPLICIT);
}

static void another_public_seed_set_ends_a_link(void **state)
{
    (void)state;
    struct credential own;
    realm_credential(&realm, &own, CREDENTIAL_CFL, "dc-1", NULL, 0, 0);
    ends_after(&own, another_set, 0, FAULT_WRONG_CHAIN);
    ends_after(&own, no_set, 0, FAULT_NO_KIND);
}

/* The lists of an authority that has run out refuse everybody under it, newcomers or not; and an
 * authority ends what it has signed. */
static void what_stands_above_a_certificate_ends_a_link(void **state)
{
    (void)state;
    static const struct {
        const char *name, *lists;
        int64_t days; /* the script says when what ends */
        enum channel_fault fault;
    } cases[] = {{"dc-1", "soon.crl", 17, FAULT_NONE},
                 {"dc-1", "soon.crl", 19, FAULT_NO_CRL},
                 {"early", NULL, 48, FAULT_EXPIRED}, /* its authority, not itself */
                 {"dc-1", "empty.crl", 3651, FAULT_EXPIRED}};
    static struct side judge, bad;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct trust trust = {0};
        struct why why = {""};
        const struct trust_files without = {.roots = roots_path, .crls = TRUST_NO_CRLS};
        if (cases[i].lists != NULL)
            in_force(cases[i].lists);
        assert_ok(
            trust_load(&trust, &realm.mdms.net, cases[i].lists == NULL ? &without : &files, &why));
        side_make(&judge, &realm, "dc-2");
        side_make_x509(&bad, cases[i].name);
        judge.security.config.trust = &trust.trust;
        struct link_listener *l = listen_as(&judge, &limits);
        struct link_dialer *d = dial_as(&bad, link_listener_address(l), &limits);
        turn_until(bad.opened == 1 && judge.opened == 1);
        say(&bad, &judge);
        link_judge(links, (made_s + 86400 * cases[i].days) * 1000);
        if (cases[i].fault == FAULT_NONE) {
            say(&bad, &judge);
            say(&bad, &judge);
        } else {
            turn_until(judge.closed == 1);
        }
        assert_int_equal(judge.fault, cases[i].fault);
        link_dialer_stop(d);
        link_listener_stop(l);
        turn_until(link_listener_open_now(l) == 0);
        trust_end(&trust);
    }
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    realm_make(&realm, "grid", 1);
    realm_make(&other, "grid", 2);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_revoked_certificate_loses_the_link_that_it_dialled,
                                        sides_set_up, sides_tear_down),
        cmocka_unit_test_setup_teardown(a_revoked_certificate_loses_the_link_that_was_dialled_to_it,
                                        sides_set_up, sides_tear_down),
        cmocka_unit_test_setup_teardown(a_date_ends_a_link, sides_set_up, sides_tear_down),
        cmocka_unit_test_setup_teardown(judged_all_the_time_the_last_link_is_not_forgotten,
                                        sides_set_up, sides_tear_down),
        cmocka_unit_test_setup_teardown(the_list_of_operators_ends_a_link, sides_set_up,
                                        sides_tear_down),
        cmocka_unit_test_setup_teardown(another_public_seed_set_ends_a_link, sides_set_up,
                                        sides_tear_down),
        cmocka_unit_test_setup_teardown(what_stands_above_a_certificate_ends_a_link, sides_set_up,
                                        sides_tear_down),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
