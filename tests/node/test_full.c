/* Disks that are full: the node serves what it has, takes no reports, does not lead, signs nothing,
 * and goes on by itself when there is room again. */
#include "tests/harness.h"

#include "tests/crypto_start.h"
#include "tests/node/net.h"

#include <stdlib.h>
#include <string.h>

static bool is_read_only(struct net *net, void *arg)
{
    return chain_read_only(net_node(net, *(unsigned *)arg));
}

static bool is_writable(struct net *net, void *arg)
{
    return !is_read_only(net, arg);
}

static bool other_leads(struct net *net, void *arg)
{
    int leader = net_leader(net);
    return leader >= 0 && (unsigned)leader != *(unsigned *)arg;
}

static unsigned count_events(struct net *net, unsigned node, const char *name)
{
    unsigned count = 0;
    size_t i;
    json_t *e, *a = net_ask(net, node, "events");
    json_array_foreach(json_object_get(a, "events"), i, e) count +=
        strcmp(json_string_value(json_object_get(e, "event")), name) == 0;
    json_decref(a);
    return count;
}

/* What the admin port says of the state. */
static void assert_says(struct net *net, unsigned node, bool read_only)
{
    json_t *a = net_ask(net, node, "status");
    assert_true(json_is_boolean(json_object_get(a, "read_only")));
    assert_int_equal(json_is_true(json_object_get(a, "read_only")), read_only);
    json_decref(a);
    a = net_ask(net, node, "why_stuck");
    bool named = false;
    size_t i;
    json_t *c;
    json_array_foreach(json_object_get(a, "causes"), i, c) named |=
        strcmp(json_string_value(json_object_get(c, "cause")), "disk_full") == 0;
    assert_int_equal(named, read_only);
    assert_int_equal(json_is_true(json_object_get(a, "stuck")), read_only);
    json_decref(a);
}

/* Whether the block of a height carries a commit vote of this DC. */
static bool signed_by(struct net *net, uint64_t height, unsigned dc)
{
    struct certified_block b;
    bool found = false;
    for (unsigned i = 0; i < net_count(net) && !found; i++)
        found = net_node(net, i) != NULL && net_block(net, i, height, &b);
    assert_true(found);
    return (b.commit.signers >> dc & 1) != 0;
}

/* A reader fetches a block from this node. */
static void assert_serves(struct net *net, unsigned node, uint64_t height)
{
    struct net_peer *p = net_dial_as_mdms(net, node);
    struct fetch_blocks f = {.from_height = height, .count_max = 1};
    uint8_t out[64];
    struct writer w = writer_on(out, sizeof out);
    struct span body;
    struct certified_block got, want;
    frame_begin(&w, MSG_FETCH_BLOCKS);
    fetch_blocks_encode(&w, &f);
    assert_true(writer_ok(&w));
    net_send(p, writer_span(&w));
    assert_true(net_expect(p, MSG_BLOCK, 1000, &body));
    assert_ok(certified_block_parse(&got, body));
    assert_true(net_block(net, node, height, &want));
    sm3_digest a = block_hash(&got.header), b = block_hash(&want.header);
    assert_true(sm3_equal(&a, &b));
}

static void a_follower_is_read_only_until_there_is_room(void **state)
{
    (void)state;
    struct net *net = net_with_leader(4, GATEWAY_HOME, 60);
    struct net_meter here, there, late;
    int redirect;
    uint64_t height;
    unsigned lead = (unsigned)net_leader(net), full = (lead + 1) % 4, well = (lead + 2) % 4;
    net_meter_enrol(net, &here, 1, lead);
    net_meter_enrol(net, &there, 2, lead);
    net_meter_enrol(net, &late, 3, lead);
    assert_ok(net_meter_agree(net, &here, full, false, &redirect));
    assert_ok(net_meter_agree(net, &there, well, false, &redirect));
    net_meter_report(net, &here, 1);
    assert_ok(net_meter_ack(net, &here, 1, 5000, &height));
    net_run_ms(net, 500);
    assert_says(net, full, false);
    const uint64_t last = net_height_max(net);

    net_disk(net, full, AMI_FULL);
    net_meter_report(net, &there, 1); /* the vote for its block is what does not fit */
    assert_ok(net_meter_ack(net, &there, 1, 5000, &height));
    assert_true(net_until(net, 2000, is_read_only, &full));
    for (uint64_t s = 2; s <= 10; s++) {
        net_meter_report(net, &there, s);
        assert_ok(net_meter_ack(net, &there, s, 5000, &height));
        assert_false(signed_by(net, height, full));
    }
    assert_says(net, full, true);
    assert_int_equal(replica_height(net_node(net, full)->replica), last);
    assert_serves(net, full, last);
    /* A new report is refused at once, a settled one is answered with its proof, a new session is
     * not begun. */
    net_meter_report(net, &here, 2);
    assert_status(net_meter_ack(net, &here, 2, 1000, &height), AMI_FULL);
    assert_int_equal(pool_count(net_node(net, full)->pool), 0);
    net_meter_report(net, &here, 1);
    assert_ok(net_meter_ack(net, &here, 1, 1000, &height));
    assert_status(net_meter_agree(net, &late, full, false, &redirect), AMI_FULL);
    /* Tries become rare. */
    net_run_ms(net, 10000);
    uint64_t tries = net_disk_writes(net, full);
    net_run_ms(net, 30000);
    assert_in_range(net_disk_writes(net, full) - tries, 4, 10);
    assert_int_equal(count_events(net, full, "read_only"), 1);
    assert_int_equal(count_events(net, full, "read_only_over"), 0);

    net_disk(net, full, AMI_OK);
    assert_true(net_until(net, 6000, is_writable, &full));
    uint64_t target = net_height_max(net);
    assert_true(net_until(net, 5000, net_all_at, &target));
    net_run_ms(net, 1000);
    assert_says(net, full, false);
    assert_int_equal(count_events(net, full, "read_only_over"), 1);
    net_meter_report(net, &here, 2);
    assert_ok(net_meter_ack(net, &here, 2, 5000, &height));
    assert_ok(net_meter_agree(net, &late, full, false, &redirect));
    net_free(net);
}

static void a_leader_gives_way(void **state)
{
    (void)state;
    struct net *net = net_with_leader(4, GATEWAY_HOME, 61);
    struct net_meter m;
    int redirect;
    uint64_t height;
    unsigned full = (unsigned)net_leader(net), home = (full + 1) % 4;
    net_meter_enrol(net, &m, 1, full);
    assert_ok(net_meter_agree(net, &m, home, false, &redirect));
    net_disk(net, full, AMI_FULL);
    net_meter_report(net, &m, 1);
    assert_true(net_until(net, 10000, other_leads, &full));
    assert_ok(net_meter_ack(net, &m, 1, 10000, &height));
    /* It never asks to lead while it cannot keep its own votes, not even when nobody leads. */
    uint64_t won = net_node(net, full)->counters.elections_won;
    unsigned second = (unsigned)net_leader(net);
    net_kill(net, second);
    unsigned asked = count_events(net, full, "election");
    net_run_ms(net, 20000);
    assert_int_equal(net_leader(net), -1);
    assert_int_equal(replica_role(net_node(net, full)->replica), REPLICA_FOLLOWER);
    assert_int_equal(count_events(net, full, "election"), asked);
    assert_int_equal(net_node(net, full)->counters.elections_won, won);
    /* Nor does it help anybody: with one dead and one full there are two of four. With room there
     * are three, and they go on. */
    uint64_t before = net_height_max(net);
    net_disk(net, full, AMI_OK);
    assert_true(net_until(net, 30000, net_has_leader, NULL));
    if (home == second) {
        unsigned other = 0;
        while (other == full || other == second)
            other++;
        assert_ok(net_meter_agree(net, &m, other, true, &redirect));
    }
    net_meter_report(net, &m, 2);
    assert_ok(net_meter_ack(net, &m, 2, 30000, &height));
    assert_true(height > before);
    assert_true(signed_by(net, height, full));
    net_free(net);
}

/* All are full: nothing is lost, and all go on by themselves. */
static void all_are_full(void **state)
{
    (void)state;
    struct net *net = net_with_leader(4, GATEWAY_HOME, 62);
    struct net_meter m;
    int redirect;
    uint64_t height;
    unsigned home = (unsigned)net_leader(net);
    net_meter_enrol(net, &m, 1, home);
    assert_ok(net_meter_agree(net, &m, home, false, &redirect));
    net_run_ms(net, 500);
    uint64_t before = net_height_max(net);
    for (unsigned i = 0; i < 4; i++)
        net_disk(net, i, AMI_FULL);
    net_meter_report(net, &m, 1); /* the leader learns of it by this one */
    assert_true(net_until(net, 5000, is_read_only, &home));
    net_run_ms(net, 20000);
    assert_int_equal(net_height_max(net), before);
    for (unsigned i = 0; i < 4; i++)
        net_disk(net, i, AMI_OK);
    assert_true(net_until(net, 30000, net_has_leader, NULL));
    net_meter_report(net, &m, 1);
    assert_ok(net_meter_ack(net, &m, 1, 30000, &height));
    uint64_t target = height;
    assert_true(net_until(net, 10000, net_all_at, &target));
    for (unsigned i = 0; i < 4; i++)
        assert_false(is_read_only(net, &i));
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_follower_is_read_only_until_there_is_room),
        cmocka_unit_test(a_leader_gives_way),
        cmocka_unit_test(all_are_full),
    };
    return cmocka_run_group_tests(tests, start_crypto, NULL);
}
