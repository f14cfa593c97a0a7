/* The list of revoked operators on its way from the MDMS to every DC (node/operators.c). */
#include "crypto/secret.h"
#include "tests/harness.h"
#include "tests/node/net.h"

#include <stdlib.h>
#include <string.h>

static uint8_t frame[AMI_REVOKED_BYTES_MAX + 16], bytes[AMI_REVOKED_BYTES_MAX];

#define FOREVER_S INT64_C(4102444800) /* none of these tests lasts until 2100 */

/* A list with these operators on it until then, as a file of the MDMS's; made anew it is the same
 * file. */
static struct span list_until(struct net *net, uint64_t number, int64_t until_s,
                              const char *const *names, size_t count, const sm2_private *key)
{
    static struct revoked_list list;
    static const uint8_t random[SM2_WIDE_BYTES] = {7};
    const struct network *network = &net_fixture(net)->genesis.network;
    list = (struct revoked_list){.number = number};
    for (size_t i = 0; i < count; i++)
        assert_ok(
            revoked_list_add(&list, &(struct revoked_entry){net_fingerprint(names[i]), until_s}));
    return span_of(bytes, revoked_list_encode(bytes, &list, network, key, random));
}

static struct span list_of(struct net *net, uint64_t number, const char *const *names, size_t count,
                           const sm2_private *key)
{
    return list_until(net, number, FOREVER_S, names, count, key);
}

static void send_list(struct net_peer *p, struct span list)
{
    const struct operators_list message = {list};
    struct writer w = writer_on(frame, sizeof frame);
    frame_begin(&w, MSG_OPERATORS);
    operators_list_encode(&w, &message);
    assert_true(writer_ok(&w));
    net_send(p, writer_span(&w));
}

static const char *const alice_alone[] = {"alice"}, *const bob_alone[] = {"bob"};

static void send_numbered(struct net *net, struct net_peer *p, uint64_t number)
{
    send_list(p, list_of(net, number, alice_alone, 1, &net_fixture(net)->sign));
}

static struct operators_taken answer(struct net_peer *p)
{
    struct operators_taken t = {.status = AMI_STATUS_COUNT};
    struct span body;
    assert_true(net_expect(p, MSG_OPERATORS_TAKEN, 1000, &body));
    assert_ok(operators_taken_parse(&t, body));
    return t;
}

static uint64_t number_at(struct net *net, unsigned i)
{
    uint64_t number;
    unsigned count;
    (void)operators_known(net_node(net, i), &number, &count);
    return number;
}

static bool all_know(struct net *net, void *arg)
{
    for (unsigned i = 0; i < net_count(net); i++)
        if (net_node(net, i) != NULL && number_at(net, i) != *(const uint64_t *)arg)
            return false;
    return true;
}

static bool knows(const struct node *n, const char *name)
{
    const struct credential_identity who = {.role = CREDENTIAL_OPERATOR,
                                            .fingerprint = net_fingerprint(name)};
    return node_operator_revoked(n, &who);
}

static unsigned events(struct net *net, unsigned i, const char *name, const char *part)
{
    const struct node_event *all[NODE_EVENTS_MAX + NODE_CAUSED_MAX];
    unsigned found = 0;
    const size_t count = node_events_after(net_node(net, i), 0, all);
    for (size_t k = 0; k < count; k++)
        found += strcmp(all[k]->name, name) == 0 && strstr(all[k]->text, part) != NULL;
    return found;
}

static bool connected(struct net *net, void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < net_count(net); i++)
        for (unsigned k = 0; k < net_count(net); k++)
            if (i != k && net_node(net, i) != NULL && net_node(net, k) != NULL &&
                net_node(net, i)->to_member[k] == 0)
                return false;
    return true;
}

static struct net *network(uint64_t seed)
{
    struct net *net = net_new(4, GATEWAY_LEADER, seed);
    assert_true(net_until(net, 5000, connected, NULL));
    return net;
}

/* The MDMS reaches one DC, and all know. One that was down hears of it when it comes back, although
 * the MDMS is away by then; and a start of all of them needs nobody. */
static void whom_one_tells_all_know(void **state)
{
    (void)state;
    struct net *net = network(21);
    uint64_t seven = 7;
    net_kill(net, 3);
    assert_false(knows(net_node(net, 0), "alice"));
    struct net_peer *mdms = net_dial_as_mdms(net, 0);
    send_numbered(net, mdms, 7);
    struct operators_taken t = answer(mdms);
    assert_status(t.status, AMI_OK);
    assert_int_equal(t.number, 7);
    assert_true(net_until(net, 1000, all_know, &seven));
    assert_int_equal(events(net, 0, "operators_list", "number=7 before=0 revoked=1 from=mdms"), 1);
    assert_int_equal(events(net, 1, "operators_list", "number=7 before=0 revoked=1 from=dc-"), 1);
    net_start(net, 3);
    assert_true(net_until(net, 5000, all_know, &seven));
    for (unsigned i = 0; i < 4; i++) {
        assert_true(knows(net_node(net, i), "alice"));
        assert_false(knows(net_node(net, i), "bob"));
    }
    /* A meter or a DC with the same fingerprint is no operator. */
    struct credential_identity dc = {.role = CREDENTIAL_DC,
                                     .fingerprint = net_fingerprint("alice")};
    assert_false(node_operator_revoked(net_node(net, 0), &dc));
    for (unsigned i = 0; i < 4; i++)
        net_kill(net, i);
    for (unsigned i = 0; i < 4; i++) {
        net_start(net, i);
        assert_int_equal(number_at(net, i), 7);
    }
    net_free(net);
}

static void an_older_one_is_refused(void **state)
{
    (void)state;
    struct net *net = network(22);
    struct net_peer *mdms = net_dial_as_mdms(net, 0);
    send_numbered(net, mdms, 7);
    assert_status(answer(mdms).status, AMI_OK);
    send_list(mdms, list_of(net, 6, NULL, 0, &net_fixture(net)->sign));
    struct operators_taken t = answer(mdms);
    assert_status(t.status, AMI_EXISTS);
    assert_int_equal(t.number, 7);
    assert_true(knows(net_node(net, 0), "alice"));
    assert_int_equal(events(net, 0, "operators_refused", "from=mdms status=EXISTS known=7"), 1);
    /* The same again is no news. */
    send_numbered(net, mdms, 7);
    assert_status(answer(mdms).status, AMI_OK);
    assert_int_equal(events(net, 0, "operators_list", ""), 1);
    /* Another DC's older one is nothing to speak of. */
    struct net_peer *dc = net_dial_as_member(net, 0, 1);
    send_list(dc, list_of(net, 5, NULL, 0, &net_fixture(net)->sign));
    net_run_ms(net, 100);
    assert_true(dc->open);
    assert_int_equal(events(net, 0, "operators_refused", ""), 1);
    assert_int_equal(number_at(net, 0), 7);
    net_free(net);
}

/* The numbers of the list that this peer is shown next. */
static struct revoked_list *shown(struct net_peer *p)
{
    static struct revoked_list list;
    struct operators_list message;
    struct span body;
    assert_true(net_expect(p, MSG_OPERATORS, 1000, &body));
    assert_ok(operators_list_parse(&message, body));
    assert_ok(revoked_list_parse(&list, &net_fixture(p->net)->genesis.network, message.list));
    return &list;
}

/* An MDMS whose folder was put back from an older copy, and that revokes somebody before it has
 * heard of what it forgot, and somebody else after that: its lists are newer and lack alice. No DC
 * takes any of them, whoever brings it, and each shows what it goes by; what the MDMS makes of both
 * is taken. */
static void one_that_forgot_takes_nobody_back(void **state)
{
    (void)state;
    static const char *const three[] = {"bob", "carol", "alice"};
    struct net *net = network(29);
    const sm2_private *key = &net_fixture(net)->sign;
    uint64_t seven = 7, twelve = 12;
    struct net_peer *mdms = net_dial_as_mdms(net, 0);
    send_list(mdms, list_of(net, 7, alice_alone, 1, key));
    assert_status(answer(mdms).status, AMI_OK);
    assert_true(net_until(net, 1000, all_know, &seven));
    struct net_peer *restored = net_dial_as_mdms(net, 1);
    assert_int_equal(shown(restored)->number, 7); /* before anything is sent */
    for (size_t revoked = 1; revoked <= 2; revoked++) {
        const uint64_t number = 7 + 2 * revoked;
        send_list(restored, list_of(net, number, three, revoked, key));
        const struct operators_taken t = answer(restored);
        assert_status(t.status, AMI_EXISTS);
        assert_int_equal(t.number, 7);
        const struct revoked_list *known = shown(restored);
        assert_int_equal(known->number, 7);
        assert_int_equal(known->count, 1);
        struct net_peer *dc = net_dial_as_member(net, 1, 2);
        send_list(dc, list_of(net, number, three, revoked, key));
        net_run_ms(net, 100);
        assert_true(dc->open);
        assert_true(all_know(net, &seven));
        assert_true(knows(net_node(net, 1), "alice") && !knows(net_node(net, 1), "bob"));
    }
    send_list(restored, list_of(net, 12, three, 3, key));
    assert_status(answer(restored).status, AMI_OK);
    assert_true(net_until(net, 1000, all_know, &twelve));
    for (size_t i = 0; i < 3; i++)
        assert_true(knows(net_node(net, 3), three[i]));
    net_free(net);
}

/* A number is not a list: another one of the same number is not taken for the known one. */
static void two_of_one_number_are_two(void **state)
{
    (void)state;
    struct net *net = network(30);
    const sm2_private *key = &net_fixture(net)->sign;
    struct net_peer *mdms = net_dial_as_mdms(net, 0);
    send_list(mdms, list_of(net, 9, alice_alone, 1, key));
    assert_status(answer(mdms).status, AMI_OK);
    send_list(mdms, list_of(net, 9, bob_alone, 1, key));
    assert_status(answer(mdms).status, AMI_EXISTS);
    assert_int_equal(shown(mdms)->count, 1);
    assert_true(knows(net_node(net, 0), "alice") && !knows(net_node(net, 0), "bob"));
    /* Nor is one that has more. */
    static const char *const both[] = {"alice", "bob"};
    send_list(mdms, list_of(net, 9, both, 2, key));
    assert_status(answer(mdms).status, AMI_EXISTS);
    assert_int_equal(shown(mdms)->count, 1);
    send_list(mdms, list_of(net, 9, alice_alone, 1, key));
    assert_status(answer(mdms).status, AMI_OK);
    net_free(net);
}

/* An entry leaves when it has ended by the clock of the DC, and not by the MDMS's: one that is a
 * year ahead leaves out everybody. */
static void whoever_has_not_ended_here_stays(void **state)
{
    (void)state;
    struct net *net = network(31);
    const sm2_private *key = &net_fixture(net)->sign;
    uint64_t seven = 7;
    const int64_t now_s = node_wall_ms(net_node(net, 0)) / 1000, until_s = now_s + 1000;
    struct net_peer *mdms = net_dial_as_mdms(net, 0);
    send_list(mdms, list_until(net, 7, until_s, alice_alone, 1, key));
    assert_status(answer(mdms).status, AMI_OK);
    assert_true(net_until(net, 1000, all_know, &seven));
    send_list(mdms, list_of(net, 8, NULL, 0, key));
    assert_status(answer(mdms).status, AMI_EXISTS);
    assert_int_equal(shown(mdms)->number, 7);
    /* Nor may it say that alice leaves sooner. */
    send_list(mdms, list_until(net, 8, until_s - 1, alice_alone, 1, key));
    assert_status(answer(mdms).status, AMI_EXISTS);
    assert_true(knows(net_node(net, 0), "alice"));
    /* Past the end, but not by a day: clocks differ. */
    net_wall_ahead(net, 0, (1000 + REVOKED_MARGIN_S - 60) * 1000);
    send_list(mdms, list_of(net, 8, NULL, 0, key));
    assert_status(answer(mdms).status, AMI_EXISTS);
    net_wall_ahead(net, 0, (1000 + REVOKED_MARGIN_S + 60) * 1000);
    send_list(mdms, list_of(net, 8, NULL, 0, key));
    assert_status(answer(mdms).status, AMI_OK);
    assert_false(knows(net_node(net, 0), "alice"));
    /* The others go by their own clocks, whoever brings it. */
    net_run_ms(net, 200);
    for (unsigned i = 1; i < 4; i++) {
        assert_int_equal(number_at(net, i), 7);
        assert_true(knows(net_node(net, i), "alice"));
    }
    net_wall_ahead(net, 2, (1000 + REVOKED_MARGIN_S + 60) * 1000);
    mdms = net_dial_as_mdms(net, 2);
    send_list(mdms, list_of(net, 8, NULL, 0, key));
    assert_status(answer(mdms).status, AMI_OK);
    assert_int_equal(number_at(net, 2), 8);
    net_free(net);
}

/* Who runs another version is no liar: its list is refused, and that is all. */
static void another_version_is_refused_and_no_more(void **state)
{
    (void)state;
    struct net *net = network(32);
    struct net_peer *mdms = net_dial_as_mdms(net, 0), *dc = net_dial_as_member(net, 0, 1);
    struct span older = list_of(net, 9, alice_alone, 1, &net_fixture(net)->sign);
    bytes[8]--;
    send_list(dc, older);
    net_run_ms(net, 100);
    assert_true(dc->open);
    assert_int_equal(events(net, 0, "operators_refused",
                            "status=BAD_VERSION known=0 why=\"it runs another version"),
                     1);
    send_list(mdms, older);
    assert_status(answer(mdms).status, AMI_BAD_VERSION);
    assert_true(mdms->open);
    assert_int_equal(number_at(net, 0), 0);
    net_free(net);
}

static bool is_closed(struct net *net, void *arg)
{
    (void)net;
    return !((const struct net_peer *)arg)->open;
}

/* Who is not the MDMS makes no list, whoever brings it; a DC that brings one is cut off. */
static void a_forged_one_is_refused(void **state)
{
    (void)state;
    struct net *net = network(23), *other = net_new(4, GATEWAY_LEADER, 24);
    struct fixture *f = net_fixture(net);
    struct net_peer *mdms = net_dial_as_mdms(net, 0);
    send_list(mdms, list_of(net, 9, alice_alone, 1, &f->enrol));
    assert_status(answer(mdms).status, AMI_BAD_SIGNATURE);
    send_list(mdms, list_of(other, 9, alice_alone, 1, &net_fixture(other)->sign));
    assert_status(answer(mdms).status, AMI_WRONG_CHAIN);
    struct span whole = list_of(net, 9, alice_alone, 1, &f->sign);
    send_list(mdms, span_of(whole.data, whole.size - 1));
    assert_status(answer(mdms).status, AMI_TRUNCATED);
    send_list(mdms, span_of(whole.data, 3));
    assert_status(answer(mdms).status, AMI_TRUNCATED);
    send_list(mdms, span_of("nothing of the kind", 19));
    assert_status(answer(mdms).status, AMI_BAD_ENCODING);
    assert_true(mdms->open);
    struct net_peer *dc = net_dial_as_member(net, 0, 1);
    send_list(dc, list_of(net, 9, alice_alone, 1, &f->enrol));
    assert_true(net_until(net, 1000, is_closed, dc));
    /* Somebody who has proven nothing may not even bring a good one. */
    struct net_peer *stranger = net_dial(net, 0, NODE_PORT_PEER);
    send_numbered(net, stranger, 9);
    assert_true(net_until(net, 1000, is_closed, stranger));
    assert_int_equal(number_at(net, 0), 0);
    assert_int_equal(events(net, 0, "operators_list", ""), 0);
    net_free(net);
    net_free(other);
}

/* An operator whose connection is open when it is revoked: its next question gets the reason, the
 * refusal is written down, and the connection ends. Others' go on. */
static void an_open_connection_ends(enum credential_kind kind)
{
    static const char question[] = "{\"ask\":\"status\"}";
    struct net *net = network(25);
    const struct label label = {1, LABEL_OPERATION};
    enum ami_status status;
    net_ask_under(net, kind);
    net_ask_named(net, "alice", CREDENTIAL_OPERATOR, label);
    json_decref(net_ask(net, 0, "status"));
    struct net_peer *mdms = net_dial_as_mdms(net, 0);
    send_numbered(net, mdms, 7);
    assert_status(answer(mdms).status, AMI_OK);
    json_t *out = net_ask_status(net, 0, question, &status);
    assert_status(status, AMI_REVOKED);
    assert_non_null(strstr(json_string_value(json_object_get(out, "error")), "revoked (list 7"));
    json_decref(out);
    assert_int_equal(events(net, 0, "request_denied",
                            "who=\"operator alice 1:operation\" "
                            "ask=status revoked by list 7"),
                     1);
    net_run_ms(net, 100);
    assert_int_equal(net_node(net, 0)->counters.requests_denied, 1);
    size_t admin = 0;
    for (const struct node_link *l = net_node(net, 0)->links; l != NULL; l = l->hh.next)
        admin += l->port == NODE_PORT_ADMIN;
    assert_int_equal(admin, 0);
    net_ask_named(net, "bob", CREDENTIAL_OPERATOR, label);
    out = net_ask(net, 0, "status");
    const json_t *list = json_object_get(out, "revoked_operators");
    assert_int_equal(json_integer_value(json_object_get(list, "number")), 7);
    assert_int_equal(json_integer_value(json_object_get(list, "count")), 1);
    json_decref(out);
    net_free(net);
}

static void an_open_connection_ends_with_the_reason(void **state)
{
    (void)state;
    an_open_connection_ends(CREDENTIAL_IMPLICIT);
    an_open_connection_ends(CREDENTIAL_X509);
    an_open_connection_ends(CREDENTIAL_CFL);
}

static struct node_link *admin_link(struct net *net, unsigned i)
{
    for (struct node_link *l = net_node(net, i)->links; l != NULL; l = l->hh.next)
        if (l->port == NODE_PORT_ADMIN && !l->closing)
            return l;
    return NULL;
}

/* A connection is good for no longer than the credential that opened it: whoever is revoked leaves
 * the list when that has run out, and may not come back with a connection kept from before. */
static void an_open_connection_ends_with_its_credential(void **state)
{
    (void)state;
    static const char question[] = "{\"ask\":\"status\"}";
    struct net *net = network(28);
    enum ami_status status;
    net_ask_named(net, "alice", CREDENTIAL_OPERATOR, (struct label){1, LABEL_OPERATION});
    json_decref(net_ask(net, 0, "status"));
    assert_non_null(admin_link(net, 0));
    admin_link(net, 0)->who.until_s = node_wall_ms(net_node(net, 0)) / 1000 + 10;
    json_decref(net_ask(net, 0, "status"));
    net_run_ms(net, 12 * 1000);
    json_t *out = net_ask_status(net, 0, question, &status);
    assert_status(status, AMI_NOT_ALLOWED);
    assert_non_null(strstr(json_string_value(json_object_get(out, "error")), "has expired"));
    json_decref(out);
    assert_int_equal(
        events(net, 0, "request_denied", "who=\"operator alice 1:operation\" ask=status expired"),
        1);
    net_run_ms(net, 100);
    assert_null(admin_link(net, 0));
    net_free(net);
}

/* On a disk that takes nothing it counts, and is not acknowledged until it is kept. */
static void what_is_not_kept_is_not_acknowledged(void **state)
{
    (void)state;
    struct net *net = network(26);
    struct net_peer *mdms = net_dial_as_mdms(net, 0);
    net_operators_kept(net, 0, AMI_FULL);
    send_numbered(net, mdms, 7);
    assert_status(answer(mdms).status, AMI_FULL);
    assert_true(knows(net_node(net, 0), "alice"));
    assert_int_equal(events(net, 0, "operators_not_kept", "number=7 status=FULL"), 1);
    net_operators_kept(net, 0, AMI_OK);
    send_numbered(net, mdms, 7);
    assert_status(answer(mdms).status, AMI_OK);
    net_kill(net, 0);
    net_start(net, 0);
    assert_int_equal(number_at(net, 0), 7);
    net_free(net);
}

static void without_a_list_it_says_so(void **state)
{
    (void)state;
    struct net *net = net_new(4, GATEWAY_LEADER, 27);
    net_run_ms(net, 50 * 1000);
    assert_int_equal(events(net, 0, "operators_unchecked", ""), 0);
    net_run_ms(net, 20 * 1000);
    assert_int_equal(events(net, 0, "operators_unchecked", ""), 1);
    /* And so every day. */
    const uint64_t next = operators_on_time(net_node(net, 0)) - net_now_us(net);
    assert_in_range(next, 23ull * 3600u * 1000000u, 24ull * 3600u * 1000000u);
    struct net_peer *mdms = net_dial_as_mdms(net, 0);
    send_numbered(net, mdms, 7);
    assert_status(answer(mdms).status, AMI_OK);
    assert_true(operators_on_time(net_node(net, 0)) == UINT64_MAX);
    net_free(net);
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whom_one_tells_all_know),
        cmocka_unit_test(an_older_one_is_refused),
        cmocka_unit_test(one_that_forgot_takes_nobody_back),
        cmocka_unit_test(two_of_one_number_are_two),
        cmocka_unit_test(whoever_has_not_ended_here_stays),
        cmocka_unit_test(another_version_is_refused_and_no_more),
        cmocka_unit_test(a_forged_one_is_refused),
        cmocka_unit_test(an_open_connection_ends_with_the_reason),
        cmocka_unit_test(an_open_connection_ends_with_its_credential),
        cmocka_unit_test(what_is_not_kept_is_not_acknowledged),
        cmocka_unit_test(without_a_list_it_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
