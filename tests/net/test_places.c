/* Who holds the places of a secure listener, and for how long. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/net/sides.h"

enum { PLACES = 16, PROVEN = PLACES - PLACES / 8 };

static struct link_limits few(uint32_t identity_max)
{
    struct link_limits l = limits;
    l.connections_max = PLACES;
    l.identity_max = identity_max;
    l.quiet_ms = 60000;
    return l;
}

static void server_make(struct side *s)
{
    side_make(s, &realm, "dc-1");
    s->mark_known = false; /* as on an admin port */
    s->echo = true;
}

static void answered(struct side *client)
{
    const size_t frames = client->frames;
    assert_ok(link_send(links, client->link, SPAN_LITERAL("a question")));
    turn_until(client->frames == frames + 1);
}

static struct credential credential_of(const char *name)
{
    struct credential own;
    realm_credential(&realm, &own, CREDENTIAL_IMPLICIT, name, NULL, 0, 0);
    return own;
}

/* Whose line died without a word dials again: its own oldest link makes room, not the new one. */
static void ones_own_oldest_link_makes_room(void **state)
{
    (void)state;
    static struct side server, client[4];
    struct link_dialer *d[4];
    const struct link_limits two = few(2);
    const struct credential own = credential_of("dc-2"), other = credential_of("dc-3");
    server_make(&server);
    struct link_listener *l = listen_as(&server, &two);
    env_link at_server[4];
    for (int i = 0; i < 4; i++) {
        side_make_with(&client[i], i == 0 ? &other : &own);
        d[i] = dial_as(&client[i], link_listener_address(l), &limits);
        turn_until(server.opened == i + 1 && client[i].opened == 1);
        at_server[i] = server.link;
    }
    turn_until(server.closed == 1);
    link_dialer_stop(d[1]);
    assert_status(server.why, AMI_FULL);
    assert_int_equal(link_listener_counters(l)->dropped[LINK_DROP_TOO_MANY], 1);
    assert_null(link_peer(links, at_server[1]));
    for (int i = 0; i < 4; i++)
        if (i != 1) {
            assert_non_null(link_peer(links, at_server[i]));
            answered(&client[i]);
            link_dialer_stop(d[i]);
        }
}

/* An operator and a DC of one name are two. */
static void a_role_belongs_to_a_name(void **state)
{
    (void)state;
    static struct side server, dc, operator_of_that_name;
    struct credential own;
    const struct link_limits one = few(1);
    server_make(&server);
    struct link_listener *l = listen_as(&server, &one);
    side_make(&dc, &realm, "alice");
    realm_credential(&realm, &own, CREDENTIAL_IMPLICIT, "alice", "0:", 0, 0);
    side_make_with(&operator_of_that_name, &own);
    (void)dial_as(&dc, link_listener_address(l), &limits);
    (void)dial_as(&operator_of_that_name, link_listener_address(l), &limits);
    turn_until(server.opened == 2 && dc.opened == 1 && operator_of_that_name.opened == 1);
    answered(&dc);
    answered(&operator_of_that_name);
    assert_int_equal(server.closed, 0);
}

/* Whoever has a key that was somebody's before, who has another by now, pushes out their own links
 * only. */
static void an_old_key_pushes_out_no_link_of_the_new_one(void **state)
{
    (void)state;
    static struct side server, rotated, thief[6];
    struct link_dialer *d[6];
    const struct link_limits two = few(2);
    const struct credential old = credential_of("dc-2");
    server_make(&server);
    struct link_listener *l = listen_as(&server, &two);
    side_make(&rotated, &realm, "dc-2"); /* under another key */
    struct link_dialer *r = dial_as(&rotated, link_listener_address(l), &limits);
    turn_until(rotated.opened == 1);
    for (int i = 0; i < 6; i++) {
        side_make_with(&thief[i], &old);
        d[i] = dial_as(&thief[i], link_listener_address(l), &limits);
    }
    turn_until(link_listener_counters(l)->dropped[LINK_DROP_TOO_MANY] >= 4);
    answered(&rotated);
    assert_int_equal(rotated.closed, 0);
    for (int i = 0; i < 6; i++)
        link_dialer_stop(d[i]);
    link_dialer_stop(r);
}

/* One identity dials all the time on as many lines as there are places. Others come, stay, and are
 * answered, with a limit for each and without. */
static void one_holder_of_a_credential_keeps_nobody_out(void **state)
{
    (void)state;
    static struct side server, hog[2 * PLACES], honest[3];
    struct link_dialer *d[2 * PLACES], *h[3];
    const struct credential own = credential_of("dc-9");
    for (uint32_t identity_max = 0; identity_max < 8; identity_max += 4) {
        const struct link_limits l = few(identity_max);
        server_make(&server);
        struct link_listener *listener = listen_as(&server, &l);
        for (int i = 0; i < 2 * PLACES; i++) {
            side_make_with(&hog[i], &own);
            d[i] = dial_as(&hog[i], link_listener_address(listener), &limits);
        }
        turn_until(server.opened >= 2 * PLACES);
        for (int i = 0; i < 3; i++) {
            char name[16];
            snprintf(name, sizeof name, "dc-%d", i + 2);
            side_make(&honest[i], &realm, name);
            h[i] = dial_as(&honest[i], link_listener_address(listener), &limits);
        }
        turn_until(honest[0].opened == 1 && honest[1].opened == 1 && honest[2].opened == 1);
        const int opened = server.opened;
        turn_until(server.opened >= opened + 2 * PLACES); /* the hog goes on */
        for (int i = 0; i < 3; i++) {
            answered(&honest[i]);
            assert_int_equal(honest[i].closed, 0);
        }
        assert_in_range(link_listener_open_now(listener), 4, 2 * PLACES);
        for (int i = 0; i < 3; i++)
            link_dialer_stop(h[i]);
        for (int i = 0; i < 2 * PLACES; i++)
            link_dialer_stop(d[i]);
        link_listener_stop(listener);
        turn_until(link_listener_open_now(listener) == 0);
    }
}

/* Strangers push out one another, and nobody who has proven anything; one more who does gets in, in
 * place of the oldest where nobody has more than one. */
static void as_many_holders_as_places_leave_some_to_strangers(void **state)
{
    (void)state;
    static struct side server, holder[PROVEN + 1];
    struct link_dialer *d[PROVEN + 1];
    int fd[3 * PLACES];
    const struct link_limits l = few(4);
    server_make(&server);
    struct link_listener *listener = listen_as(&server, &l);
    for (int i = 0; i < PROVEN; i++) {
        char name[16];
        snprintf(name, sizeof name, "dc-%d", i + 2);
        side_make(&holder[i], &realm, name);
        d[i] = dial_as(&holder[i], link_listener_address(listener), &limits);
        turn_until(server.opened == i + 1 && holder[i].opened == 1);
    }
    for (int i = 0; i < 3 * PLACES; i++)
        fd[i] = socket_to(port_of(link_listener_address(listener)));
    const struct link_counters *counted = link_listener_counters(listener);
    turn_until(counted->opened + counted->dropped[LINK_DROP_TOO_MANY] >= PROVEN + 3 * PLACES &&
               link_listener_open_now(listener) <= PLACES);
    assert_int_equal(server.closed, 0);
    for (int i = 0; i < PROVEN; i++)
        answered(&holder[i]);
    side_make(&holder[PROVEN], &realm, "dc-99");
    d[PROVEN] = dial_as(&holder[PROVEN], link_listener_address(listener), &limits);
    turn_until(holder[PROVEN].opened == 1 && server.closed == 1);
    link_dialer_stop(d[0]);
    for (int i = 1; i <= PROVEN; i++) {
        answered(&holder[i]);
        link_dialer_stop(d[i]);
    }
    for (int i = 0; i < 3 * PLACES; i++)
        close(fd[i]);
}

/* Who has proven itself is no stranger: a mute one that came later is gone first. */
static void the_time_of_strangers_is_not_that_of_the_proven(void **state)
{
    (void)state;
    static struct side server, client;
    struct link_limits l = few(4);
    l.stranger_ms = 100;
    server_make(&server);
    struct link_listener *listener = listen_as(&server, &l);
    side_make(&client, &realm, "dc-2");
    struct link_dialer *d = dial_as(&client, link_listener_address(listener), &limits);
    turn_until(server.opened == 1 && client.opened == 1);
    int fd = socket_to(port_of(link_listener_address(listener)));
    turn_until(link_listener_counters(listener)->dropped[LINK_DROP_MUTE] == 1);
    answered(&client);
    assert_int_equal(server.closed, 0);
    close(fd);
    link_dialer_stop(d);
}

/* A proven link on which nothing passes ends after quiet_ms; one to which an answer is being sent
 * does not, although nothing comes from there. */
static void an_idle_link_ends_and_a_busy_one_does_not(void **state)
{
    (void)state;
    static struct side server, busy, idle;
    struct link_limits l = few(4);
    l.stranger_ms = 100;
    l.quiet_ms = 1500;
    server_make(&server);
    struct link_listener *listener = listen_as(&server, &l);
    side_make(&busy, &realm, "dc-2");
    struct link_dialer *d = dial_as(&busy, link_listener_address(listener), &limits);
    turn_until(server.opened == 1 && busy.opened == 1);
    const env_link to_busy = server.link;
    answered(&busy);
    side_make(&idle, &realm, "dc-3");
    struct link_dialer *e = dial_as(&idle, link_listener_address(listener), &limits);
    turn_until(server.opened == 2 && idle.opened == 1);
    const struct link_counters *counted = link_listener_counters(listener);
    for (const uint64_t end_us = clock_mono_us() + WAIT_US;
         counted->dropped[LINK_DROP_IDLE] == 0 && clock_mono_us() < end_us;) {
        const size_t bytes = busy.bytes;
        assert_ok(link_send(links, to_busy, SPAN_LITERAL("a piece of an answer")));
        turn_until(busy.bytes > bytes);
    }
    assert_int_equal(counted->dropped[LINK_DROP_IDLE], 1);
    assert_int_equal(counted->dropped[LINK_DROP_MUTE], 0);
    turn_until(server.closed == 1 && idle.closed == 1);
    link_dialer_stop(e);
    assert_status(server.why, AMI_TIMEOUT);
    assert_int_equal(busy.closed, 0);
    answered(&busy);
    link_dialer_stop(d);
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    realm_make(&realm, "grid", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(ones_own_oldest_link_makes_room, sides_set_up,
                                        sides_tear_down),
        cmocka_unit_test_setup_teardown(a_role_belongs_to_a_name, sides_set_up, sides_tear_down),
        cmocka_unit_test_setup_teardown(an_old_key_pushes_out_no_link_of_the_new_one, sides_set_up,
                                        sides_tear_down),
        cmocka_unit_test_setup_teardown(one_holder_of_a_credential_keeps_nobody_out, sides_set_up,
                                        sides_tear_down),
        cmocka_unit_test_setup_teardown(as_many_holders_as_places_leave_some_to_strangers,
                                        sides_set_up, sides_tear_down),
        cmocka_unit_test_setup_teardown(the_time_of_strangers_is_not_that_of_the_proven,
                                        sides_set_up, sides_tear_down),
        cmocka_unit_test_setup_teardown(an_idle_link_ends_and_a_busy_one_does_not, sides_set_up,
                                        sides_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
