/* dc-cli's why-stuck at one node: each cause is produced in a network of whole nodes and found in
 * the answer of the admin port, with who is missing and since when. */
#include "tests/harness.h"

#include "tests/crypto_start.h"
#include "tests/node/net.h"

#include <stdlib.h>
#include <string.h>

#define T_MS 600 /* the default election timeout */

static struct net *network(unsigned n, uint64_t seed)
{
    struct net *net = net_with_leader(n, GATEWAY_HOME, seed);
    net_run_ms(net, 1000);
    return net;
}

static json_t *cause_of(const json_t *answer, const char *name)
{
    size_t i;
    json_t *c;
    json_array_foreach(json_object_get(answer, "causes"), i, c)
    {
        if (strcmp(json_string_value(json_object_get(c, "cause")), name) == 0)
            return c;
    }
    return NULL;
}

static long long integer(const json_t *o, const char *key)
{
    assert_true(json_is_integer(json_object_get(o, key)));
    return (long long)json_integer_value(json_object_get(o, key));
}

static const char *text(const json_t *o, const char *key)
{
    assert_true(json_is_string(json_object_get(o, key)));
    return json_string_value(json_object_get(o, key));
}

static bool yes(const json_t *o, const char *key)
{
    assert_true(json_is_boolean(json_object_get(o, key)));
    return json_is_true(json_object_get(o, key));
}

static const char *dc_name(struct net *net, unsigned i)
{
    return net_fixture(net)->genesis.members.member[i].name.text;
}

/* The member's document in a list, NULL: it is not among them. */
static json_t *of_dc(struct net *net, const json_t *list, unsigned dc)
{
    size_t i;
    json_t *m;
    json_array_foreach(list, i, m)
    {
        if (strcmp(text(m, "dc"), dc_name(net, dc)) == 0)
            return m;
    }
    return NULL;
}

static bool names(struct net *net, const json_t *list, unsigned dc)
{
    size_t i;
    json_t *m;
    json_array_foreach(list, i, m)
    {
        if (strcmp(json_string_value(m), dc_name(net, dc)) == 0)
            return true;
    }
    return false;
}

/* What a test waits for: a cause, and perhaps its stage, at one node or at any that runs. */
struct wanted {
    unsigned node; /* NET_NODES_MAX: any; then the one that has it */
    const char *cause, *stage;
};

static bool says_so(struct net *net, unsigned node, const struct wanted *w)
{
    if (net_node(net, node) == NULL)
        return false;
    json_t *a = stuck_ask(net_node(net, node));
    json_t *c = cause_of(a, w->cause);
    bool found = c != NULL && (w->stage == NULL || strcmp(text(c, "stage"), w->stage) == 0);
    json_decref(a);
    return found;
}

static bool says(struct net *net, void *arg)
{
    struct wanted *w = arg;
    if (w->node != NET_NODES_MAX)
        return says_so(net, w->node, w);
    for (unsigned i = 0; i < net_count(net); i++) {
        if (!says_so(net, i, w))
            continue;
        w->node = i;
        return true;
    }
    return false;
}

static void nothing_waits_in_an_idle_network(void **state)
{
    (void)state;
    struct net *net = network(4, 1);
    net_run_ms(net, 5000);
    for (unsigned i = 0; i < 4; i++) {
        json_t *a = net_ask(net, i, "why_stuck");
        assert_false(yes(a, "stuck"));
        assert_int_equal(json_array_size(json_object_get(a, "causes")), 0);
        assert_string_equal(text(a, "leader"), dc_name(net, (unsigned)net_leader(net)));
        assert_int_equal(integer(a, "quorum"), 3);
        json_decref(a);
    }
    net_free(net);
}

/* The leader and another one are killed: the rest says who led, who is out of reach, since when,
 * and whose pre-votes are missing. */
static void without_a_quorum_the_dead_are_named(void **state)
{
    (void)state;
    struct net *net = network(4, 2);
    unsigned lead = (unsigned)net_leader(net), other = (lead + 1) % 4, live = (lead + 2) % 4;
    net_kill(net, other);
    net_kill(net, lead);
    net_run_ms(net, 200);
    json_t *a = net_ask(net, live, "why_stuck");
    assert_false(yes(a, "stuck")); /* it has only just begun */
    assert_non_null(cause_of(a, "few_contacts"));
    json_decref(a);
    net_run_ms(net, 10000);
    a = net_ask(net, live, "why_stuck");
    assert_true(yes(a, "stuck"));
    json_t *c = cause_of(a, "few_contacts");
    assert_int_equal(integer(c, "reachable"), 2);
    assert_int_equal(integer(c, "needed"), 3);
    assert_in_range(integer(c, "for_ms"), 10000, 10600);
    assert_int_equal(json_array_size(json_object_get(c, "silent")), 2);
    json_t *m = of_dc(net, json_object_get(c, "silent"), other);
    assert_false(yes(m, "connected"));
    assert_in_range(integer(m, "link_for_ms"), 10000, 10400);
    assert_non_null(of_dc(net, json_object_get(c, "silent"), lead));
    c = cause_of(a, "no_leader");
    assert_true(yes(c, "stuck"));
    assert_in_range(integer(c, "for_ms"), 9000, 10400);
    assert_string_equal(text(c, "last_leader"), dc_name(net, lead));
    assert_in_range(integer(c, "last_leader_silent_ms"), 10000, 10600);
    json_decref(a);
    struct wanted w = {NET_NODES_MAX, "no_leader", "pre_votes"};
    assert_true(net_until(net, 20000, says, &w));
    a = stuck_ask(net_node(net, w.node));
    c = cause_of(a, "no_leader");
    assert_int_equal(integer(c, "term"), replica_term(net_node(net, w.node)->replica) + 1);
    assert_int_equal(integer(c, "needed"), 3);
    assert_true(names(net, json_object_get(c, "have"), w.node));
    assert_non_null(of_dc(net, json_object_get(c, "missing"), lead));
    assert_non_null(of_dc(net, json_object_get(c, "missing"), other));
    json_decref(a);
    /* With one back the causes go. */
    net_start(net, other);
    assert_true(net_until(net, 30000, net_has_leader, NULL));
    net_run_ms(net, 1000);
    a = net_ask(net, live, "why_stuck");
    assert_false(yes(a, "stuck"));
    assert_null(cause_of(a, "few_contacts"));
    json_decref(a);
    net_free(net);
}

/* Links that are up and carry nothing: only silence tells. The leader counts those that answer. */
static void a_leader_names_the_silent(void **state)
{
    (void)state;
    struct net *net = network(4, 3);
    unsigned lead = (unsigned)net_leader(net), a1 = (lead + 1) % 4, a2 = (lead + 3) % 4;
    net_mute(net, a1, true);
    net_mute(net, a2, true);
    struct wanted w = {lead, "few_contacts", NULL};
    assert_true(net_until(net, 20000, says, &w));
    struct wanted asks = {lead, "no_leader", "pre_votes"};
    assert_true(net_until(net, 20000, says, &asks));
    net_run_ms(net, 50);
    json_t *a = net_ask(net, lead, "why_stuck");
    json_t *c = cause_of(a, "few_contacts");
    json_t *m = of_dc(net, json_object_get(c, "silent"), a1);
    assert_true(yes(m, "connected"));
    assert_true(integer(m, "silent_ms") >= T_MS);
    assert_non_null(of_dc(net, json_object_get(c, "silent"), a2));
    assert_null(of_dc(net, json_object_get(c, "silent"), (lead + 2) % 4));
    json_decref(a);
    net_free(net);
}

/* Two disks that refuse votes: the leader has a block open, and knows whose votes are missing;
 * those say why; the transaction is overdue in the end, and its gateway is named. */
static void a_block_without_votes(void **state)
{
    (void)state;
    struct net *net = network(4, 4);
    struct net_meter m;
    int redirect;
    unsigned lead = (unsigned)net_leader(net), gateway = (lead + 1) % 4;
    unsigned full = (lead + 2) % 4, slow = (lead + 3) % 4;
    net_meter_enrol(net, &m, 1, 0);
    net_run_ms(net, 1000);
    assert_ok(net_meter_agree(net, &m, gateway, false, &redirect));
    net_disk(net, full, AMI_FULL);
    net_disk_us(net, slow, 60 * 1000000u);
    uint64_t height = net_height_max(net);
    net_meter_report(net, &m, 1);
    struct wanted w = {lead, "block_open", "prepare_votes"};
    assert_true(net_until(net, 2000, says, &w));
    net_run_ms(net, 1500);
    json_t *a = net_ask(net, lead, "why_stuck");
    json_t *c = cause_of(a, "block_open");
    assert_non_null(c);
    assert_true(yes(a, "stuck"));
    assert_true(yes(c, "stuck"));
    assert_int_equal(integer(c, "height"), height + 1);
    assert_in_range(integer(c, "for_ms"), 1400, 1700);
    assert_int_equal(json_array_size(json_object_get(c, "have")), 2);
    assert_true(names(net, json_object_get(c, "have"), gateway));
    assert_int_equal(json_array_size(json_object_get(c, "missing")), 2);
    assert_true(yes(of_dc(net, json_object_get(c, "missing"), full), "connected"));
    assert_non_null(of_dc(net, json_object_get(c, "missing"), slow));
    json_decref(a);
    a = net_ask(net, gateway, "why_stuck"); /* it has voted */
    assert_string_equal(text(cause_of(a, "block_open"), "stage"), "voted");
    json_decref(a);
    a = net_ask(net, full, "why_stuck");
    assert_string_equal(text(cause_of(a, "disk_full"), "status"), "FULL");
    assert_in_range(integer(cause_of(a, "disk_full"), "for_ms"), 1000, 1700);
    json_decref(a);
    a = net_ask(net, slow, "why_stuck");
    assert_true(integer(cause_of(a, "disk_slow"), "for_ms") >= T_MS);
    json_decref(a);
    struct wanted overdue = {gateway, "transactions_overdue", NULL};
    assert_true(net_until(net, 5000, says, &overdue));
    a = net_ask(net, gateway, "why_stuck");
    c = cause_of(a, "transactions_overdue");
    assert_int_equal(integer(c, "overdue"), 1);
    assert_int_equal(integer(c, "waiting"), 1);
    assert_string_equal(text(c, "oldest_gateway"), dc_name(net, gateway));
    assert_in_range(integer(c, "oldest_ms"), 3000, 4000);
    json_decref(a);
    net_disk(net, full, AMI_OK);
    uint64_t at;
    assert_ok(net_meter_ack(net, &m, 1, 30000, &at));
    net_run_ms(net, 2000);
    a = net_ask(net, lead, "why_stuck");
    assert_false(yes(a, "stuck"));
    json_decref(a);
    net_free(net);
}

/* A disk that fails otherwise is not a full one. */
static void a_failing_disk_is_named(void **state)
{
    (void)state;
    struct net *net = network(4, 5);
    struct net_meter m;
    int redirect;
    uint64_t height;
    unsigned home = (unsigned)net_leader(net), bad = (home + 1) % 4;
    net_meter_enrol(net, &m, 1, home);
    assert_ok(net_meter_agree(net, &m, home, false, &redirect));
    net_disk(net, bad, AMI_IO);
    net_meter_report(net, &m, 1);
    assert_ok(net_meter_ack(net, &m, 1, 5000, &height));
    net_run_ms(net, 500);
    json_t *a = net_ask(net, bad, "why_stuck");
    json_t *c = cause_of(a, "disk_failing");
    assert_non_null(c);
    assert_string_equal(text(c, "status"), "IO");
    assert_true(yes(a, "stuck"));
    json_decref(a);
    net_free(net);
}

/* One that comes back late fetches what it lacks; one without its record signs nothing. */
static void who_is_behind_says_from_whom_it_fetches(void **state)
{
    (void)state;
    struct net *net = network(4, 6);
    struct net_meter m;
    int redirect;
    uint64_t height = 0;
    unsigned late = ((unsigned)net_leader(net) + 1) % 4, home = (unsigned)net_leader(net);
    net_meter_enrol(net, &m, 1, home);
    assert_ok(net_meter_agree(net, &m, home, false, &redirect));
    net_kill(net, late);
    for (uint64_t s = 1; s <= 6; s++) {
        net_meter_report(net, &m, s);
        assert_ok(net_meter_ack(net, &m, s, 5000, &height));
    }
    net_forget_record(net, late);
    net_start(net, late);
    struct wanted w = {late, "behind", NULL};
    assert_true(net_until(net, 5000, says, &w));
    json_t *a = stuck_ask(net_node(net, late));
    json_t *c = cause_of(a, "behind");
    assert_true(integer(c, "known_height") > integer(c, "height") + 2);
    assert_true(json_is_string(json_object_get(c, "from")));
    assert_string_not_equal(text(c, "from"), dc_name(net, late));
    json_decref(a);
    net_run_ms(net, 5000);
    a = net_ask(net, late, "why_stuck");
    assert_null(cause_of(a, "behind"));
    assert_int_equal(integer(a, "height"), height);
    c = cause_of(a, "may_not_sign");
    assert_non_null(c);
    assert_false(yes(a, "stuck")); /* the others go on without it */
    json_decref(a);
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_waits_in_an_idle_network),
        cmocka_unit_test(without_a_quorum_the_dead_are_named),
        cmocka_unit_test(a_leader_names_the_silent),
        cmocka_unit_test(a_block_without_votes),
        cmocka_unit_test(a_failing_disk_is_named),
        cmocka_unit_test(who_is_behind_says_from_whom_it_fetches),
    };
    return cmocka_run_group_tests(tests, start_crypto, NULL);
}
