/* Consensus rule 13 on whole nodes: DCs join, leave and rotate their keys, under load and idle, and
 * crash where one epoch ends and the next begins. */
#include "tests/harness.h"

#include "tests/node/net.h"

#include <stdlib.h>
#include <string.h>

static void submit(struct net *net, struct fixture_body *b)
{
    assert_true(net_until(net, 20000, net_has_leader, NULL));
    struct net_peer *p = net_dial_as_mdms(net, (unsigned)net_leader(net));
    struct body_reader it = body_reader_on(fixture_span(b));
    struct span encoded;
    while (body_next(&it, &encoded))
        net_submit(p, encoded);
    fixture_clear(b);
}

static void enrol_dc(struct net *net, unsigned i)
{
    struct fixture_body *b = fixture_body();
    fixture_dc_enrol(net_fixture(net), b, net_key(net, i));
    submit(net, b);
    free(b);
}

static void change(struct net *net, enum member_change what, unsigned i, uint32_t delay)
{
    struct fixture_body *b = fixture_body();
    fixture_membership(net_fixture(net), b, what, net_key(net, i), delay);
    submit(net, b);
    free(b);
}

static uint32_t epoch_of(struct net *net, unsigned i)
{
    return net_node(net, i) == NULL ? 0 : net_node(net, i)->committee.members.epoch;
}

static bool is_member(struct net *net, unsigned i)
{
    return net_node(net, i)->self != AMI_MEMBERS_MAX;
}

/* Every node that runs is in this epoch. */
static bool all_in_epoch(struct net *net, void *arg)
{
    for (unsigned i = 0; i < net_count(net); i++)
        if (net_node(net, i) != NULL && epoch_of(net, i) != *(uint32_t *)arg)
            return false;
    return true;
}

static void reach_epoch(struct net *net, uint32_t epoch, uint64_t limit_ms)
{
    assert_true(net_until(net, limit_ms, all_in_epoch, &epoch));
}

static bool all_at_one_height(struct net *net, void *arg)
{
    (void)arg;
    return net_height_min(net) == net_height_max(net);
}

/* A report goes through node `at` and is acknowledged with a proof. */
static void one_report(struct net *net, struct net_meter *m, unsigned at, uint64_t sequence)
{
    int redirect;
    uint64_t height;
    if (m->link == NULL || m->node != at || !m->link->open)
        assert_ok(net_meter_agree(net, m, at, false, &redirect));
    net_meter_report(net, m, sequence);
    assert_ok(net_meter_ack(net, m, sequence, 20000, &height));
}

static void a_fifth_dc_joins_under_load(void **state)
{
    (void)state;
    struct net *net = net_with_leader(4, GATEWAY_HOME, 1);
    struct net_meter m;
    net_meter_enrol(net, &m, 1, 0);
    for (uint64_t s = 1; s <= 3; s++)
        one_report(net, &m, 0, s);
    unsigned dc5 = net_add(net);
    /* It runs before anybody has heard of it, is refused, and gets in once it is enrolled. */
    net_start(net, dc5);
    net_run_ms(net, 500);
    assert_false(is_member(net, dc5));
    enrol_dc(net, dc5);
    assert_true(net_until(net, 20000, all_at_one_height, NULL)); /* it follows */
    assert_true(net_height_min(net) > 3);
    change(net, MEMBER_JOIN, dc5, 6);
    for (uint64_t s = 4; s <= 10; s++)
        one_report(net, &m, (unsigned)(s % 4), s);
    reach_epoch(net, 2, 20000);
    assert_true(is_member(net, dc5));
    for (uint64_t s = 11; s <= 15; s++)
        one_report(net, &m, dc5, s); /* it is a gateway like the others */
    /* Four of five are a quorum: without one of the old ones the new one must vote. */
    net_kill(net, (unsigned)net_leader(net) == 1 ? 2 : 1);
    for (uint64_t s = 16; s <= 18; s++)
        one_report(net, &m, dc5, s);
    assert_true(net_until(net, 20000, all_at_one_height, NULL));
    assert_true(net_is_one_chain(net));
    net_free(net);
}

/* A meter's link is told of a change when it is decided, and a new one of all that it lacks. */
static void meters_are_told_and_can_check(void **state)
{
    (void)state;
    struct net *net = net_with_leader(4, GATEWAY_HOME, 8);
    struct net_meter m;
    struct span proof_bytes;
    static struct committee c;
    static struct membership_proof proof;
    const struct genesis *g = &net_fixture(net)->genesis;
    net_meter_enrol(net, &m, 1, 0);
    one_report(net, &m, 0, 1);
    unsigned dc5 = net_add(net);
    enrol_dc(net, dc5);
    net_start(net, dc5);
    change(net, MEMBER_JOIN, dc5, 4);
    committee_first(&c, g);
    assert_true(net_expect(m.link, MSG_MEMBERSHIP, 10000, &proof_bytes));
    assert_ok(membership_proof_parse(&proof, proof_bytes));
    assert_ok(committee_advance(&c, &g->network, &proof));
    reach_epoch(net, 2, 20000);
    net_add_key(net, 2);
    enrol_dc(net, 2);
    change(net, MEMBER_ROTATE, 2, 4);
    reach_epoch(net, 3, 20000);
    for (uint32_t known = 1; known <= 3; known++) {
        uint8_t out[128];
        struct net_peer *p = net_dial(net, known == 2 ? dc5 : 1, NODE_PORT_METER);
        struct meter_hello hello = {g->members.chain, g->network.scheme, known};
        struct writer w = writer_on(out, sizeof out);
        frame_begin(&w, MSG_METER_HELLO);
        meter_hello_encode(&w, &hello);
        net_send(p, writer_span(&w));
        if (known == 1)
            committee_first(&c, g);
        for (uint32_t epoch = known + 1; epoch <= 3; epoch++) {
            assert_true(net_expect(p, MSG_MEMBERSHIP, 1000, &proof_bytes));
            assert_ok(membership_proof_parse(&proof, proof_bytes));
            assert_ok(known == 1 ? committee_advance(&c, &g->network, &proof) : AMI_OK);
        }
        assert_false(net_expect(p, MSG_MEMBERSHIP, 1000, &proof_bytes));
    }
    const struct members *now = registry_members(net_node(net, 1)->c.registry, c.from);
    assert_memory_equal(&now->hash, &c.members.hash, sizeof now->hash);
    net_free(net);
}

static void an_idle_chain_reaches_the_new_epoch(void **state)
{
    (void)state;
    struct net *net = net_with_leader(4, GATEWAY_HOME, 2);
    unsigned dc5 = net_add(net);
    enrol_dc(net, dc5);
    net_start(net, dc5);
    change(net, MEMBER_JOIN, dc5, 40);
    reach_epoch(net, 2, 60000);
    assert_true(net_until(net, 5000, all_at_one_height, NULL));
    uint64_t height = net_height_max(net);
    assert_int_equal(height + 1, net_node(net, 0)->committee.from);
    /* And then nothing more is cut. */
    net_run_ms(net, 5000);
    assert_int_equal(net_height_max(net), height);
    assert_true(net_has_leader(net, NULL));
    assert_true(net_is_one_chain(net));
    net_free(net);
}

static void a_dc_leaves_and_goes_on_following(void **state)
{
    (void)state;
    struct net *net = net_with_leader(5, GATEWAY_HOME, 3);
    struct net_meter m;
    net_meter_enrol(net, &m, 1, 0);
    one_report(net, &m, 0, 1);
    unsigned leader = (unsigned)net_leader(net); /* the leader itself */
    change(net, MEMBER_LEAVE, leader, 4);
    reach_epoch(net, 2, 20000);
    assert_false(is_member(net, leader));
    unsigned other = (leader + 1) % 5;
    for (uint64_t s = 2; s <= 6; s++)
        one_report(net, &m, other, s);
    assert_true(net_until(net, 5000, all_at_one_height, NULL));
    assert_int_not_equal(net_leader(net), leader);
    /* It still takes what it is given, and hands it on. */
    one_report(net, &m, leader, 7);
    /* Three of four are a quorum; the one that left counts for nothing. */
    net_kill(net, other);
    one_report(net, &m, (leader + 2) % 5, 8);
    net_kill(net, (leader + 3) % 5);
    int redirect;
    uint64_t height;
    assert_ok(net_meter_agree(net, &m, (leader + 2) % 5, true, &redirect));
    net_meter_report(net, &m, 9);
    assert_status(net_meter_ack(net, &m, 9, 10000, &height), AMI_TIMEOUT);
    net_start(net, other);
    assert_ok(net_meter_ack(net, &m, 9, 20000, &height));
    /* Started again it is what it was. */
    net_kill(net, leader);
    net_start(net, leader);
    assert_true(net_until(net, 5000, all_at_one_height, NULL));
    assert_false(is_member(net, leader));
    assert_true(net_is_one_chain(net));
    net_free(net);
}

static bool others_in_epoch_2(struct net *net, void *arg)
{
    for (unsigned i = 0; i < net_count(net); i++)
        if (i != *(unsigned *)arg && epoch_of(net, i) != 2)
            return false;
    return true;
}

static bool its_turn_comes(struct net *net, void *arg)
{
    const struct node *n = net_node(net, *(unsigned *)arg);
    return n->has_next && net_height_max(net) + 2 == n->next_committee.from;
}

/* The one that leaves hears nothing of its epoch's last block while it is made, the chain is idle
 * behind it, and without its record it asks nobody for votes. It hears of the block when the others
 * are in the new epoch; or if that is lost, too, when they remind it. */
static void who_has_left_hears_of_the_last_block(void **state)
{
    (void)state;
    static const struct {
        enum net_hearing meanwhile;
        uint64_t limit_ms;
    } cases[] = {{HEARS_ON_OWN_LINKS, 1000}, {HEARS_NOTHING, 2 * NODE_REMIND_US / 1000}};
    for (unsigned k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        struct net *net = net_with_leader(5, GATEWAY_HOME, 30 + k);
        unsigned who = ((unsigned)net_leader(net) + 1) % 5;
        net_kill(net, who);
        net_forget_record(net, who);
        net_start(net, who);
        change(net, MEMBER_LEAVE, who, 4);
        assert_true(net_until(net, 20000, its_turn_comes, &who));
        net_hearing(net, who, cases[k].meanwhile);
        assert_int_equal(epoch_of(net, who), 1);
        assert_true(net_until(net, 20000, others_in_epoch_2, &who));
        if (cases[k].meanwhile == HEARS_NOTHING) {
            net_run_ms(net, 1000); /* all that was said is lost */
            assert_int_equal(epoch_of(net, who), 1);
            net_hearing(net, who, HEARS_ALL);
        }
        reach_epoch(net, 2, cases[k].limit_ms);
        assert_false(is_member(net, who));
        assert_true(all_at_one_height(net, NULL));
        net_free(net);
    }
}

static void a_key_is_rotated(void **state)
{
    (void)state;
    struct net *net = net_with_leader(4, GATEWAY_HOME, 4);
    struct net_meter m;
    net_meter_enrol(net, &m, 1, 0);
    one_report(net, &m, 0, 1);
    unsigned who = (unsigned)net_leader(net);
    net_add_key(net, who);
    enrol_dc(net, who);
    change(net, MEMBER_ROTATE, who, 5);
    for (uint64_t s = 2; s <= 6; s++)
        one_report(net, &m, (who + 1) % 4, s);
    reach_epoch(net, 2, 20000);
    assert_true(is_member(net, who));
    assert_int_equal(net_node(net, who)->c.key.agree->epoch, 2);
    assert_int_equal(net_node(net, who)->self, 3); /* at the end of the list */
    one_report(net, &m, who, 7);
    /* Its vote is needed, and counts. */
    net_kill(net, (who + 1) % 4);
    one_report(net, &m, who, 8);
    one_report(net, &m, (who + 2) % 4, 9);
    net_kill(net, who);
    net_start(net, (who + 1) % 4);
    net_start(net, who);
    one_report(net, &m, who, 10);
    assert_true(net_until(net, 5000, all_at_one_height, NULL));
    assert_true(net_is_one_chain(net));
    net_free(net);
}

/* Rule 11: a node without its record signs nothing, until its key is rotated. */
static void a_lost_record_is_healed_by_a_new_key(void **state)
{
    (void)state;
    struct net *net = net_with_leader(4, GATEWAY_HOME, 5);
    struct net_meter m;
    net_meter_enrol(net, &m, 1, 0);
    one_report(net, &m, 0, 1);
    unsigned who = ((unsigned)net_leader(net) + 1) % 4, other = (who + 1) % 4;
    net_kill(net, who);
    net_lose_record(net, who);
    net_add_key(net, who);
    net_start(net, who);
    assert_true(net_until(net, 5000, net_has_leader, NULL));
    enrol_dc(net, who);
    one_report(net, &m, other, 2);
    assert_false(replica_may_sign(net_node(net, who)->replica));
    change(net, MEMBER_ROTATE, who, 3);
    reach_epoch(net, 2, 20000);
    assert_true(replica_may_sign(net_node(net, who)->replica));
    net_kill(net, other); /* now its vote is needed */
    one_report(net, &m, who, 3);
    net_free(net);
}

/* A DC that left follows with a new key that was not allowed to sign when it was started with it.
 * When that key joins, the shell is asked again, and it votes. */
static void a_key_that_followed_is_judged_when_it_joins(void **state)
{
    (void)state;
    struct net *net = net_with_leader(5, GATEWAY_HOME, 15);
    struct net_meter m;
    net_meter_enrol(net, &m, 1, 0);
    one_report(net, &m, 0, 1);
    change(net, MEMBER_LEAVE, 4, 3);
    reach_epoch(net, 2, 20000);
    net_add_key(net, 4);
    enrol_dc(net, 4);
    one_report(net, &m, 0, 2);
    net_kill(net, 4);
    net_may_sign(net, 4, false);
    net_start(net, 4);
    assert_int_equal(net_node(net, 4)->c.key.agree->epoch, 2);
    assert_true(net_until(net, 5000, all_at_one_height, NULL));
    net_may_sign(net, 4, true);
    change(net, MEMBER_JOIN, 4, 3);
    reach_epoch(net, 3, 20000);
    assert_true(is_member(net, 4));
    assert_true(replica_may_sign(net_node(net, 4)->replica));
    net_kill(net, 1); /* now its vote is needed */
    one_report(net, &m, 0, 3);
    assert_true(net_is_one_chain(net));
    net_free(net);
}

static void a_member_without_its_new_key_follows(void **state)
{
    (void)state;
    struct net *net = net_with_leader(4, GATEWAY_HOME, 6);
    /* The key is on the ledger, but not in the node's folder. */
    struct fixture *f = net_fixture(net);
    struct fixture_device foreign = fixture_device(f, ROLE_DC_SIGN, f->dc[2].name, 2);
    struct fixture_body *b = fixture_body();
    fixture_dc_enrol(f, b, &foreign);
    fixture_membership(f, b, MEMBER_ROTATE, &foreign, 2);
    submit(net, b);
    free(b);
    reach_epoch(net, 2, 20000);
    assert_false(is_member(net, 2));
    struct net_meter m;
    net_meter_enrol(net, &m, 1, 0);
    one_report(net, &m, 0, 1);
    assert_true(net_until(net, 5000, all_at_one_height, NULL));
    assert_true(net_is_one_chain(net));
    net_free(net);
}

/* --- crashes -----------------------------------------------------------------------------------
 */

static bool somebody_knows(struct net *net, void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < net_count(net); i++)
        if (net_node(net, i) != NULL && (net_node(net, i)->has_next || epoch_of(net, i) == 2))
            return true;
    return false;
}

static bool somebody_in_epoch_2(struct net *net, void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < net_count(net); i++)
        if (epoch_of(net, i) == 2)
            return true;
    return false;
}

/* Nodes crash at any instant around the boundary: in the middle of writing the last block, between
 * that and their first vote of the new epoch, and in the new epoch's election. */
static void crashes_at_the_boundary(void **state)
{
    (void)state;
    for (unsigned k = 0; k < 60; k++) {
        struct net *net = net_with_leader(4, GATEWAY_HOME, 100 + k);
        struct net_meter m;
        net_meter_enrol(net, &m, 1, 0);
        unsigned dc5 = net_add(net);
        enrol_dc(net, dc5);
        net_start(net, dc5);
        change(net, MEMBER_JOIN, dc5, 2 + k % 3);
        if (k % 2 == 0) {
            assert_true(net_until(net, 20000, somebody_in_epoch_2, NULL));
            net_run_us(net, k * 300);
        } else {
            assert_true(net_until(net, 20000, somebody_knows, NULL));
            net_run_us(net, k * 1500);
        }
        for (unsigned i = 0; i < 1 + k % 4; i++) {
            unsigned dead = (k + 2 * i) % 5;
            if (net_node(net, dead) == NULL)
                continue;
            net_kill(net, dead);
            if (k % 5 == 0)
                net_run_us(net, 700);
            net_start(net, dead);
        }
        reach_epoch(net, 2, 60000);
        for (uint64_t s = 1; s <= 3; s++)
            one_report(net, &m, (unsigned)((k + s) % 5), s);
        assert_true(net_until(net, 20000, all_at_one_height, NULL));
        assert_true(net_is_one_chain(net));
        net_free(net);
    }
}

static bool all_know_key(struct net *net, void *arg)
{
    const struct fixture_device *d = arg;
    for (unsigned i = 0; i < net_count(net); i++)
        if (net_node(net, i) != NULL &&
            registry_find(net_node(net, i)->c.registry, RECORD_DC, &d->name, d->epoch) == NULL)
            return false;
    return true;
}

/* A storm: frames are lost, DCs crash at random, and meanwhile one joins, one leaves and one
 * rotates its key, again and again. Whatever happens there is one chain, each block certified by
 * the members of its height; and when the storm is over everybody is in the last epoch and commits.
 */
static void a_storm(uint64_t seed)
{
    struct net *net = net_with_leader(5, GATEWAY_HOME, 1000 + seed);
    struct net_meter m;
    uint64_t rng = seed * 77 + 5, sequence = 0;
    uint32_t epoch = 1;
    net_meter_enrol(net, &m, 1, 0);
    unsigned dc6 = net_add(net);
    net_add_key(net, 1);
    enrol_dc(net, dc6);
    enrol_dc(net, 1);
    for (unsigned i = 0; i < 2; i++) {
        struct fixture_device d = *net_key(net, i == 0 ? dc6 : 1);
        assert_true(net_until(net, 20000, all_know_key, &d));
    }
    net_start(net, dc6);
    struct fixture_body *b = fixture_body();
    for (unsigned round = 0; round < 3; round++) {
        fixture_clear(b);
        if (round == 0)
            fixture_membership(net_fixture(net), b, MEMBER_JOIN, net_key(net, dc6), 3);
        else if (round == 1)
            fixture_membership(net_fixture(net), b, MEMBER_ROTATE, net_key(net, 1), 2);
        else
            fixture_membership(net_fixture(net), b, MEMBER_LEAVE,
                               &net_fixture(net)->dc[2 + seed % 3], 5);
        net_loss(net, 5 + (unsigned)(seed % 20));
        for (unsigned i = 0; i < 12; i++) {
            unsigned victim = (unsigned)(fixture_u64(&rng) % 6);
            /* As the MDMS does: handed in until it is committed, to whoever is there. */
            unsigned to = (unsigned)(fixture_u64(&rng) % 6);
            if (net_node(net, to) != NULL)
                net_submit(net_dial_as_mdms(net, to), fixture_last(b));
            net_run_us(net, fixture_u64(&rng) % 400000);
            if (net_node(net, victim) == NULL) {
                net_start(net, victim);
            } else if (i % 3 == 0) {
                net_kill(net, victim);
            }
        }
        for (unsigned i = 0; i < 6; i++)
            if (net_node(net, i) == NULL)
                net_start(net, i);
        net_loss(net, 0);
        ++epoch;
        for (unsigned i = 0; i < 20 && !net_until(net, 6000, all_in_epoch, &epoch); i++) {
            assert_true(net_until(net, 30000, net_has_leader, NULL));
            net_submit(net_dial_as_mdms(net, (unsigned)net_leader(net)), fixture_last(b));
        }
        reach_epoch(net, epoch, 1000);
        assert_true(net_is_one_chain(net));
        m.link = NULL;
        one_report(net, &m, 0, ++sequence);
    }
    assert_true(net_until(net, 30000, all_at_one_height, NULL));
    assert_true(net_is_one_chain(net));
    free(b);
    net_free(net);
}

static void storms(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 25; seed++)
        a_storm(seed);
}

/* One that slept through several epochs, with other members in each, comes back. */
static void a_node_that_was_away_for_three_epochs(void **state)
{
    (void)state;
    struct net *net = net_with_leader(5, GATEWAY_HOME, 7);
    struct net_meter m;
    net_meter_enrol(net, &m, 1, 0);
    one_report(net, &m, 0, 1);
    net_kill(net, 4);
    unsigned dc6 = net_add(net);
    enrol_dc(net, dc6);
    net_start(net, dc6);
    change(net, MEMBER_JOIN, dc6, 3);
    uint32_t epoch = 2;
    assert_true(net_until(net, 30000, all_in_epoch, &epoch));
    one_report(net, &m, 0, 2);
    net_add_key(net, 1);
    enrol_dc(net, 1);
    change(net, MEMBER_ROTATE, 1, 3);
    epoch = 3;
    assert_true(net_until(net, 30000, all_in_epoch, &epoch));
    one_report(net, &m, 0, 3);
    change(net, MEMBER_LEAVE, 2, 3);
    epoch = 4;
    assert_true(net_until(net, 30000, all_in_epoch, &epoch));
    for (uint64_t s = 4; s <= 9; s++)
        one_report(net, &m, 0, s);
    net_start(net, 4);
    assert_true(net_until(net, 30000, all_in_epoch, &epoch));
    assert_true(net_until(net, 20000, all_at_one_height, NULL));
    assert_true(is_member(net, 4));
    /* Five members, four a quorum: the late one votes. */
    net_kill(net, 3);
    for (uint64_t s = 10; s <= 12; s++)
        one_report(net, &m, 0, s);
    assert_true(net_is_one_chain(net));
    net_free(net);
}

static void rotate(struct net *net, unsigned i, uint32_t epoch)
{
    net_add_key(net, i);
    enrol_dc(net, i);
    change(net, MEMBER_ROTATE, i, 3);
    assert_true(net_until(net, 30000, all_in_epoch, &epoch));
}

static void revoke(struct net *net, unsigned i, uint32_t key_epoch)
{
    struct fixture_body *b = fixture_body();
    const struct ami_id name = net_key(net, i)->name;
    fixture_revoke(net_fixture(net), b, 2, &name, key_epoch);
    submit(net, b);
    free(b);
}

static bool caught_up(struct net *net, void *arg)
{
    return all_in_epoch(net, arg) && all_at_one_height(net, NULL);
}

static bool fourth_has_fetched(struct net *net, void *arg)
{
    return net_height_min(net) > *(uint64_t *)arg;
}

/* Every other member has another key now than the last that this one heard of. It fetches all the
 * same, and with its own key, which is what it was, it votes again. */
static void all_others_rotated_meanwhile(void **state)
{
    (void)state;
    struct net *net = net_with_leader(4, GATEWAY_HOME, 11);
    struct net_meter m;
    net_meter_enrol(net, &m, 1, 0);
    one_report(net, &m, 0, 1);
    net_kill(net, 3);
    for (unsigned i = 0; i < 3; i++)
        rotate(net, i, 2 + i);
    for (uint64_t s = 2; s <= 100; s++)
        one_report(net, &m, 0, s); /* more than one request's worth of blocks */
    assert_true(net_height_max(net) > 100);
    uint32_t epoch = 4;
    net_start(net, 3);
    uint64_t had = net_height_min(net), heard_us;
    /* What came is no contact: nobody has proved anything yet. */
    assert_true(net_until(net, 10000, fourth_has_fetched, &had));
    assert_int_equal(epoch_of(net, 3), 1);
    for (uint8_t i = 0; i < 3; i++) {
        assert_int_equal(net_node(net, 3)->to_member[i], 0);
        assert_false(replica_heard(net_node(net, 3)->replica, i, &heard_us));
    }
    assert_true(net_until(net, 20000, caught_up, &epoch));
    assert_true(is_member(net, 3));
    /* Its vote is needed, and counts. */
    net_kill(net, 1);
    for (uint64_t s = 101; s <= 103; s++)
        one_report(net, &m, 0, s);
    assert_true(net_is_one_chain(net));
    net_free(net);
}

static void send_raw(struct net_peer *p, enum message_type type, struct span body)
{
    uint8_t out[4096];
    struct writer w = writer_on(out, sizeof out);
    frame_begin(&w, type);
    write_raw(&w, body.data, body.size);
    assert_true(writer_ok(&w));
    net_send(p, writer_span(&w));
}

static struct net_peer *answer_as(struct net *net, unsigned node, const struct ami_id *dialled,
                                  const struct ami_id *name, uint32_t key_epoch)
{
    struct net_peer *p = net_answer_as(net, node, dialled, name, key_epoch);
    net_run_ms(net, 100);
    return p;
}

/* Whoever has been shown hello and proof under the old key when it changes must not keep a link on
 * which nobody knows who this DC is now. */
static void a_handshake_under_way_ends_with_the_old_key(void **state)
{
    (void)state;
    struct net *net = net_with_leader(4, GATEWAY_HOME, 4);
    const struct members *members = &net_fixture(net)->genesis.members;
    struct net_meter m;
    uint8_t body[256];
    struct span got;
    net_meter_enrol(net, &m, 1, 0);
    const unsigned who = ((unsigned)net_leader(net) + 1) % 4, other = (who + 1) % 4;
    net_add_key(net, who);
    enrol_dc(net, who);
    change(net, MEMBER_ROTATE, who, 3);
    const uint64_t since_us = net_now_us(net);
    struct net_peer *dials = net_dial(net, who, NODE_PORT_PEER);
    const struct link_hello hello = {.role = LINK_ROLE_DC,
                                     .chain = members->chain,
                                     .name = members->member[other].name,
                                     .epoch = 1};
    struct writer w = writer_on(body, sizeof body);
    link_hello_encode(&w, &hello);
    send_raw(dials, MSG_LINK_HELLO, writer_span(&w));
    assert_true(net_expect(dials, MSG_LINK_PROOF, 1000, &got));
    assert_int_equal(net_node(net, who)->c.key.agree->epoch, 1);
    for (uint64_t sequence = 1; sequence <= 5; sequence++)
        one_report(net, &m, who, sequence);
    reach_epoch(net, 2, 20000);
    assert_int_equal(net_node(net, who)->c.key.agree->epoch, 2);
    net_run_ms(net, 100);
    assert_false(dials->open);
    assert_true(net_now_us(net) - since_us < NODE_HANDSHAKE_US); /* and not because time ran out */
    net_free(net);
}

static bool has_been_asked(struct net *net, void *arg)
{
    (void)net;
    return ((struct node_link *)arg)->blocks_due > 0;
}

/* Who sits at a member's address and claims a key that nobody knows is a source of blocks, and no
 * more: it gets no messages of members and none of its own counts. With a key that the ledger knows
 * it has to prove it, as ever. */
static void a_liar_at_a_members_address_counts_as_nobody(void **state)
{
    (void)state;
    struct net *net = net_with_leader(4, GATEWAY_HOME, 16);
    struct net_meter m;
    struct node *n = net_node(net, 0);
    const struct ami_id name = net_key(net, 1)->name, other = net_key(net, 2)->name;
    const uint8_t at = members_find(&n->committee.members, &name);
    net_meter_enrol(net, &m, 1, 0);
    one_report(net, &m, 0, 1);
    net_kill(net, 1);
    net_run_ms(net, 3000);
    uint64_t heard_us = 0, heard_before_us = 0;
    const bool heard = replica_heard(n->replica, at, &heard_before_us);
    assert_false(answer_as(net, 0, &name, &name, 1)->open);
    assert_false(answer_as(net, 0, &name, &other, 9)->open);
    assert_false(answer_as(net, 0, &name, &name, 0)->open);
    struct net_peer *liar = answer_as(net, 0, &name, &name, 9);
    assert_true(liar->open);
    assert_int_equal(n->to_member[at], 0);
    assert_int_equal(n->fetch_from[at], liar->far_id);
    struct node_link *l = node_link_find(n, liar->far_id);
    assert_true(l->unproven && !l->known && l->member == AMI_MEMBERS_MAX);
    struct certified_block block;
    assert_true(net_block(net, 0, net_height_max(net), &block));
    static uint8_t encoded[4000];
    struct writer w = writer_on(encoded, sizeof encoded);
    certified_block_encode(&w, &block);
    assert_true(writer_ok(&w));
    const struct node_counters before = n->counters;
    /* Its turn comes, since nobody else has the block that its key lets one hope for. */
    assert_true(net_until(net, 20000, has_been_asked, l));
    for (unsigned i = 0; i < 200; i++) {
        send_raw(liar, MSG_BLOCK, writer_span(&w));
        send_raw(liar, MSG_BODY, span_of("x", 1));
        send_raw(liar, MSG_HEARTBEAT, span_of("x", 1));
        send_raw(liar, MSG_QC_ANNOUNCE, span_of("x", 1));
        send_raw(liar, MSG_TX_SUBMIT, span_of("x", 1));
    }
    net_run_ms(net, 100);
    assert_int_equal(l->blocks_due, 0);
    assert_int_equal(n->counters.txs_handed_in, before.txs_handed_in);
    assert_int_equal(replica_heard(n->replica, at, &heard_us), heard);
    assert_int_equal(heard_us, heard_before_us);
    for (uint64_t s = 2; s <= 6; s++)
        one_report(net, &m, 0, s); /* the three others go on */
    /* What it was sent: its blocks were asked for, and it heard nothing else. */
    unsigned asked = 0;
    for (struct net_inbox *x = liar->inbox; x != NULL; x = x->next) {
        asked += x->bytes[1] == MSG_FETCH_BLOCKS;
        assert_true(x->bytes[1] == MSG_LINK_PROOF || x->bytes[1] == MSG_FETCH_BLOCKS ||
                    x->bytes[1] == MSG_FETCH_BODY);
    }
    assert_true(asked > 0);
    assert_true(net_is_one_chain(net));
    net_free(net);
}

/* The same for one that joins then and knows the genesis file alone, while frames are lost. */
static void one_joins_when_all_have_rotated(void **state)
{
    (void)state;
    struct net *net = net_with_leader(4, GATEWAY_HOME, 12);
    struct net_meter m;
    net_meter_enrol(net, &m, 1, 0);
    for (unsigned i = 0; i < 4; i++)
        rotate(net, i, 2 + i);
    one_report(net, &m, 0, 1);
    unsigned dc5 = net_add(net);
    enrol_dc(net, dc5);
    change(net, MEMBER_JOIN, dc5, 3);
    uint32_t epoch = 6;
    assert_true(net_until(net, 30000, all_in_epoch, &epoch));
    net_loss(net, 30);
    net_start(net, dc5);
    assert_true(net_until(net, 60000, all_in_epoch, &epoch));
    net_loss(net, 0);
    assert_true(net_until(net, 20000, caught_up, &epoch));
    assert_true(is_member(net, dc5));
    net_kill(net, 1);
    one_report(net, &m, 0, 2);
    assert_true(net_is_one_chain(net));
    net_free(net);
}

static bool leads(struct net *net, void *arg)
{
    return net_leader(net) == (int)*(unsigned *)arg;
}

static bool fourth_is_level(struct net *net, void *arg)
{
    (void)arg;
    return net_height_min(net) == net_height_max(net);
}

/* One that lost its disk has the genesis file alone and signs nothing, so it asks nobody for votes;
 * and whom it would hear first, the leader, joined in a block that it has not got: its hello, which
 * is refused, is what says that there is more. */
static void one_that_signs_nothing_hears_of_a_newcomer_that_leads(void **state)
{
    (void)state;
    struct net *net = net_with_leader(4, GATEWAY_HOME, 17);
    struct net_meter m;
    net_kill(net, 3);
    net_lose_record(net, 3);
    net_meter_enrol(net, &m, 1, 0);
    unsigned dc5 = net_add(net);
    enrol_dc(net, dc5);
    net_start(net, dc5);
    change(net, MEMBER_JOIN, dc5, 3);
    uint32_t epoch = 2;
    assert_true(net_until(net, 30000, all_in_epoch, &epoch));
    for (unsigned i = 0; i < 40 && !net_until(net, 5000, leads, &dc5); i++) {
        const int leader = net_leader(net);
        if (leader < 0)
            continue;
        net_kill(net, (unsigned)leader);
        net_start(net, (unsigned)leader);
    }
    assert_true(leads(net, &dc5));
    assert_int_equal(net_height_min(net), net_height_max(net));
    net_start(net, 3);
    assert_int_equal(net_height_min(net), 0);
    assert_true(net_until(net, 20000, fourth_is_level, NULL));
    assert_int_equal(epoch_of(net, 3), 2);
    one_report(net, &m, dc5, 1);
    assert_true(net_until(net, 20000, fourth_is_level, NULL));
    assert_true(net_is_one_chain(net));
    net_free(net);
}

/* Its own key was rotated and the old one revoked, too, while it was away: it comes as one whose
 * key is revoked, is served as a reader, and takes up the new key on the way. */
static void its_own_key_was_revoked_meanwhile(void **state)
{
    (void)state;
    struct net *net = net_with_leader(4, GATEWAY_HOME, 13);
    struct net_meter m;
    net_meter_enrol(net, &m, 1, 0);
    one_report(net, &m, 0, 1);
    net_kill(net, 3);
    for (unsigned i = 0; i < 4; i++)
        rotate(net, i, 2 + i);
    revoke(net, 3, 1);
    one_report(net, &m, 0, 2);
    const struct record *old =
        registry_find(net_node(net, 0)->c.registry, RECORD_DC, &net_key(net, 3)->name, 1);
    assert_true(old != NULL && old->revoked_at != 0);
    uint32_t epoch = 5;
    net_start(net, 3);
    assert_int_equal(net_node(net, 3)->c.key.agree->epoch, 1);
    assert_true(net_until(net, 30000, caught_up, &epoch));
    assert_int_equal(net_node(net, 3)->c.key.agree->epoch, 2);
    net_kill(net, 1);
    one_report(net, &m, 0, 3);
    assert_true(net_is_one_chain(net));
    /* Whoever took the old key gets no block behind the one that revoked it. */
    const uint64_t revoked_at =
        registry_find(net_node(net, 0)->c.registry, RECORD_DC, &net_key(net, 3)->name, 1)
            ->revoked_at;
    assert_true(net_height_max(net) > revoked_at && revoked_at > 1);
    struct net_peer *thief = net_dial_as_member(net, 0, 3);
    assert_true(thief != NULL);
    uint8_t frame[64];
    struct writer w = writer_on(frame, sizeof frame);
    struct fetch_blocks ask = {.from_height = revoked_at - 1, .count_max = 64};
    frame_begin(&w, MSG_FETCH_BLOCKS);
    fetch_blocks_encode(&w, &ask);
    assert_true(writer_ok(&w));
    net_send(thief, writer_span(&w));
    struct span body;
    for (uint64_t height = revoked_at - 1; height <= revoked_at; height++)
        assert_true(net_expect(thief, MSG_BLOCK, 1000, &body));
    assert_false(net_expect(thief, MSG_BLOCK, 5000, &body));
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fifth_dc_joins_under_load),
        cmocka_unit_test(meters_are_told_and_can_check),
        cmocka_unit_test(an_idle_chain_reaches_the_new_epoch),
        cmocka_unit_test(a_dc_leaves_and_goes_on_following),
        cmocka_unit_test(who_has_left_hears_of_the_last_block),
        cmocka_unit_test(a_key_is_rotated),
        cmocka_unit_test(a_handshake_under_way_ends_with_the_old_key),
        cmocka_unit_test(a_lost_record_is_healed_by_a_new_key),
        cmocka_unit_test(a_key_that_followed_is_judged_when_it_joins),
        cmocka_unit_test(a_member_without_its_new_key_follows),
        cmocka_unit_test(crashes_at_the_boundary),
        cmocka_unit_test(storms),
        cmocka_unit_test(a_node_that_was_away_for_three_epochs),
        cmocka_unit_test(all_others_rotated_meanwhile),
        cmocka_unit_test(a_liar_at_a_members_address_counts_as_nobody),
        cmocka_unit_test(one_joins_when_all_have_rotated),
        cmocka_unit_test(one_that_signs_nothing_hears_of_a_newcomer_that_leads),
        cmocka_unit_test(its_own_key_was_revoked_meanwhile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
