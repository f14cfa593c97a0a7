/* Whole nodes in memory: agreement, reports, acknowledgements, and DCs that lie. */
#include "tests/harness.h"

#include "tests/crypto_start.h"
#include "tests/node/net.h"

#include <stdlib.h>
#include <string.h>

/* How often a report stands on the chain of node i. */
static unsigned count_report(struct net *net, unsigned i, const struct ami_id *meter,
                             uint64_t sequence)
{
    unsigned count = 0;
    struct certified_block b;
    for (uint64_t h = 1; net_block(net, i, h, &b); h++) {
        struct body_reader it = body_reader_on(b.body);
        struct span encoded;
        while (body_next(&it, &encoded)) {
            struct tx_view tx;
            assert_ok(tx_view_parse(&tx, encoded));
            count += tx.tx.kind == TX_REPORT && ami_id_equal(&tx.u.report.meter.meter, meter) &&
                     tx.u.report.meter.sequence == sequence;
        }
    }
    return count;
}

static void a_report_is_committed_and_acknowledged_with_its_proof(void **state)
{
    (void)state;
    struct net *net = net_with_leader(4, GATEWAY_LEADER, 1);
    struct net_meter m;
    int redirect;
    uint64_t height = 0, again = 0;
    net_meter_enrol(net, &m, 1, 0);
    unsigned leader = (unsigned)net_leader(net);
    /* A follower sends the meter on. */
    assert_status(net_meter_agree(net, &m, (leader + 1) % 4, false, &redirect), AMI_NOT_LEADER);
    assert_int_equal(redirect, leader);
    assert_ok(net_meter_agree(net, &m, leader, false, &redirect));
    net_meter_report(net, &m, 1);
    assert_ok(net_meter_ack(net, &m, 1, 5000, &height));
    /* The same report again gets the same proof. */
    net_meter_report(net, &m, 1);
    assert_ok(net_meter_ack(net, &m, 1, 5000, &again));
    assert_int_equal(height, again);
    /* Beyond the window it is refused. */
    net_meter_report(net, &m, 2 + AMI_SEQ_WINDOW);
    assert_status(net_meter_ack(net, &m, 2 + AMI_SEQ_WINDOW, 5000, &again), AMI_SEQUENCE_AHEAD);
    uint64_t target = height;
    assert_true(net_until(net, 5000, net_all_at, &target));
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(count_report(net, i, &m.device.name, 1), 1);
    assert_true(net_is_one_chain(net));
    net_free(net);
}

/* Meters that come back after a restart ask for what was settled meanwhile, each for its own and
 * all for that of the same few blocks: each block is read once. */
static void settled_reports_are_proved_from_blocks_that_are_read_once(void **state)
{
    (void)state;
    enum { REPORTS = NODE_SETTLED_BLOCKS, ROUNDS = 3 };
    struct net *net = net_with_leader(4, GATEWAY_HOME, 41);
    struct net_meter m;
    int redirect;
    uint64_t height[REPORTS + 1], again;
    net_meter_enrol(net, &m, 1, 0);
    assert_ok(net_meter_agree(net, &m, 0, false, &redirect));
    for (uint64_t s = 1; s <= REPORTS; s++) {
        net_meter_report(net, &m, s);
        assert_ok(net_meter_ack(net, &m, s, 5000, &height[s]));
        assert_true(s == 1 || height[s] > height[s - 1]); /* a block for each */
    }
    net_kill(net, 0);
    net_start(net, 0);
    assert_true(net_until(net, 20000, net_all_at, &height[REPORTS]));
    const uint64_t reads = net_disk_reads(net, 0);
    for (unsigned round = 0; round < ROUNDS; round++) {
        assert_ok(net_meter_agree(net, &m, 0, false, &redirect)); /* headers come once per link */
        for (uint64_t s = 1; s <= REPORTS; s++) {
            net_meter_report(net, &m, s);
            assert_ok(net_meter_ack(net, &m, s, 5000, &again));
            assert_int_equal(again, height[s]);
        }
    }
    assert_int_equal(net_disk_reads(net, 0) - reads, REPORTS);
    net_free(net);
}

/* gateway = home: any DC takes reports, and hands them to the leader. */
static void a_follower_is_a_gateway_under_the_home_policy(void **state)
{
    (void)state;
    struct net *net = net_with_leader(4, GATEWAY_HOME, 2);
    struct net_meter m;
    int redirect;
    uint64_t height;
    net_meter_enrol(net, &m, 1, 1);
    unsigned follower = ((unsigned)net_leader(net) + 1) % 4;
    assert_ok(net_meter_agree(net, &m, follower, false, &redirect));
    for (uint64_t s = 1; s <= 5; s++) {
        net_meter_report(net, &m, s);
        assert_ok(net_meter_ack(net, &m, s, 5000, &height));
    }
    net_free(net);
}

static bool knows_them(struct net *net, void *arg)
{
    const struct fixture_device *last = arg;
    for (unsigned i = 0; i < net_count(net); i++)
        if (registry_find(net_node(net, i)->c.registry, RECORD_METER, &last->name, 1) == NULL)
            return false;
    return true;
}

#define BACKLOG_METERS 14

static bool backlog_is_gone(struct net *net, void *arg)
{
    const unsigned *gateway = arg;
    return pool_count(net_node(net, *gateway)->pool) == 0;
}

/* gateway = home: what a gateway holds when a leader comes is more than the leader takes at once.
 * All of it gets there, and not at the pace of what is handed on because it waited long. */
static void a_backlog_reaches_the_leader_as_it_takes_it(void **state)
{
    (void)state;
    static struct fixture_device meter[BACKLOG_METERS];
    struct net *net = net_with_leader(4, GATEWAY_HOME, 9);
    struct fixture *f = net_fixture(net);
    struct fixture_body *b = fixture_body();
    struct net_peer *mdms = net_dial_as_mdms(net, 0);
    for (unsigned i = 0; i < BACKLOG_METERS; i++) {
        meter[i] = fixture_meter(f, 100 + i);
        fixture_meter_enrol(f, b, &meter[i], &f->dc[0].name);
        net_submit(mdms, fixture_last(b));
        net_run_ms(net, 50);
    }
    assert_true(net_until(net, 20000, knows_them, &meter[BACKLOG_METERS - 1]));
    unsigned gateway = ((unsigned)net_leader(net) + 1) % 4;
    struct node *n = net_node(net, gateway);
    net_work(net, 5000);
    for (unsigned i = 0; i < BACKLOG_METERS; i++)
        for (unsigned k = 0; k < AMI_SEQ_WINDOW; k++) {
            fixture_clear(b);
            fixture_report(f, b, &meter[i], &f->dc[gateway], 50);
            assert_ok(pool_add(n->pool, fixture_last(b), n->self, true, net_now_us(net), NULL));
        }
    submit_hand_over(n);
    assert_true(net_until(net, 5000, backlog_is_gone, &gateway));
    assert_int_equal(net_node(net, gateway)->counters.elections_won, 0);
    assert_true(net_is_one_chain(net));
    for (unsigned i = 0; i < BACKLOG_METERS; i += 5)
        assert_int_equal(count_report(net, gateway, &meter[i].name, AMI_SEQ_WINDOW), 1);
    free(b);
    net_free(net);
}

#define FLOODS 10

/* Floods of large reports from many sources fill block after block. Whoever has little to say is
 * heard in the first of them all the same, and not only when those before it in the list have no
 * more. */
static void every_source_has_its_part_of_a_block(void **state)
{
    (void)state;
    static struct fixture_device meter[FLOODS + 1];
    struct net *net = net_with_leader(4, GATEWAY_LEADER, 12);
    struct fixture *f = net_fixture(net);
    struct fixture_body *b = fixture_body();
    struct net_peer *mdms = net_dial_as_mdms(net, 0);
    for (unsigned i = 0; i <= FLOODS; i++)
        meter[i] = fixture_meter(f, 200 + i);
    for (unsigned i = 0; i < FLOODS; i++) {
        fixture_meter_enrol(f, b, &meter[i], &f->dc[0].name);
        net_submit(mdms, fixture_last(b));
        net_run_ms(net, 50);
    }
    assert_true(net_until(net, 20000, knows_them, &meter[FLOODS - 1]));
    net_run_ms(net, 500);
    struct node *n = net_node(net, (unsigned)net_leader(net));
    for (unsigned i = 0; i < FLOODS; i++)
        for (unsigned k = 0; k < POOL_QUOTA; k++) {
            fixture_clear(b);
            fixture_report(f, b, &meter[i], &f->dc[0], 4000);
            assert_ok(pool_add(n->pool, fixture_last(b), (uint8_t)i, false, net_now_us(net), NULL));
        }
    fixture_clear(b);
    fixture_meter_enrol(f, b, &meter[FLOODS], &f->dc[0].name);
    assert_ok(pool_add(n->pool, fixture_last(b), POOL_SOURCE_MDMS, true, net_now_us(net), NULL));
    uint64_t height = net_height_max(net) + 1;
    assert_true(net_until(net, 5000, net_all_at, &height));
    assert_true(pool_count(n->pool) > 0); /* there is more than one block of it */
    struct certified_block block;
    struct span encoded;
    unsigned reports[FLOODS] = {0}, enrolments = 0;
    assert_true(net_block(net, 0, height, &block));
    struct body_reader it = body_reader_on(block.body);
    while (body_next(&it, &encoded)) {
        struct tx_view tx;
        assert_ok(tx_view_parse(&tx, encoded));
        enrolments += tx.tx.kind == TX_METER_ENROL;
        for (unsigned i = 0; i < FLOODS && tx.tx.kind == TX_REPORT; i++)
            reports[i] += ami_id_equal(&tx.u.report.meter.meter, &meter[i].name);
    }
    assert_int_equal(enrolments, 1);
    for (unsigned i = 0; i < FLOODS; i++)
        assert_in_range(reports[i], 20, 30);
    free(b);
    net_free(net);
}

/* On a slow link the same blocks are asked for again while they are on their way. They are not
 * piled up there before what is asked for next. */
static void blocks_are_not_piled_up_on_a_slow_link(void **state)
{
    (void)state;
    struct net *net = net_with_leader(4, GATEWAY_LEADER, 11);
    struct net_meter m;
    net_meter_enrol(net, &m, 1, 0);
    struct net_peer *p = net_dial_as_mdms(net, 1);
    struct fetch_blocks f = {.from_height = 1, .count_max = 1};
    uint8_t out[64];
    struct writer w = writer_on(out, sizeof out);
    struct span body;
    frame_begin(&w, MSG_FETCH_BLOCKS);
    fetch_blocks_encode(&w, &f);
    static const size_t queued[] = {0, 4u << 20, 1000};
    for (unsigned i = 0; i < 3; i++) {
        net_queued(net, 1, queued[i]);
        net_send(p, writer_span(&w));
        assert_int_equal(net_expect(p, MSG_BLOCK, 1000, &body), queued[i] < 1u << 20);
    }
    net_free(net);
}

/* A meter that waited in vain insists, and a DC that does not lead sees its report through. */
static void an_insisting_meter_is_served_by_a_follower(void **state)
{
    (void)state;
    struct net *net = net_with_leader(4, GATEWAY_LEADER, 3);
    struct net_meter m;
    int redirect;
    uint64_t height;
    net_meter_enrol(net, &m, 1, 2);
    unsigned follower = ((unsigned)net_leader(net) + 2) % 4;
    assert_ok(net_meter_agree(net, &m, follower, true, &redirect));
    net_meter_report(net, &m, 1);
    assert_ok(net_meter_ack(net, &m, 1, 5000, &height));
    net_free(net);
}

static void a_leader_dies_and_nothing_is_lost_or_doubled(void **state)
{
    (void)state;
    for (uint64_t seed = 10; seed < 16; seed++) {
        struct net *net = net_with_leader(4, GATEWAY_LEADER, seed);
        struct net_meter m;
        int redirect;
        uint64_t height;
        net_meter_enrol(net, &m, 1, 0);
        unsigned dead = (unsigned)net_leader(net);
        assert_ok(net_meter_agree(net, &m, dead, false, &redirect));
        for (uint64_t s = 1; s <= 8; s++)
            net_meter_report(net, &m, s);
        /* At some instant between sending and acknowledgement. */
        net_run_ms(net, 2 * (seed - 10));
        net_kill(net, dead);
        assert_true(net_until(net, 20000, net_has_leader, NULL));
        assert_ok(net_meter_agree(net, &m, (unsigned)net_leader(net), false, &redirect));
        for (uint64_t s = 1; s <= 8; s++) {
            net_meter_report(net, &m, s);
            assert_ok(net_meter_ack(net, &m, s, 8000, &height));
        }
        net_start(net, dead);
        uint64_t target = net_height_max(net);
        assert_true(net_until(net, 20000, net_all_at, &target));
        for (unsigned i = 0; i < 4; i++)
            for (uint64_t s = 1; s <= 8; s++)
                assert_int_equal(count_report(net, i, &m.device.name, s), 1);
        assert_true(net_is_one_chain(net));
        net_free(net);
    }
}

/* f = 1: with two of four down nothing is acknowledged; with one back it goes on. */
static void without_a_quorum_nothing_is_acknowledged(void **state)
{
    (void)state;
    struct net *net = net_with_leader(4, GATEWAY_HOME, 20);
    struct net_meter m;
    int redirect;
    uint64_t height;
    net_meter_enrol(net, &m, 1, 0);
    net_kill(net, 2);
    net_kill(net, 3);
    uint64_t before = net_height_max(net);
    assert_ok(net_meter_agree(net, &m, 0, false, &redirect));
    net_meter_report(net, &m, 1);
    assert_status(net_meter_ack(net, &m, 1, 20000, &height), AMI_TIMEOUT);
    assert_int_equal(net_height_max(net), before);
    net_start(net, 2);
    assert_ok(net_meter_ack(net, &m, 1, 30000, &height));
    net_free(net);
}

/* --- DCs that lie --------------------------------------------------------------------------------
 */

/* A report transaction that a gateway makes of any meter part, with its own real key. */
static struct span gateway_tx(struct net *net, uint8_t *out, size_t capacity, unsigned dc,
                              const struct report_meter_part *part)
{
    struct fixture *f = net_fixture(net);
    uint8_t sealed[100], random[SM2_WIDE_BYTES];
    fixture_bytes(&f->rng, sealed, sizeof sealed);
    fixture_random(f, random);
    struct report_gateway_part g = {.c1 = point_encode(point_generator()),
                                    .sealed = span_of(sealed, sizeof sealed),
                                    .timestamp_ms = f->genesis.created_ms,
                                    .dc = f->dc[dc].name,
                                    .dc_epoch = 1};
    report_gateway_sign(&g, part, &f->genesis.members.chain, &f->dc[dc].key, random);
    struct writer w = writer_on(out, capacity);
    report_tx_encode(&w, part, &g);
    assert_true(writer_ok(&w));
    return writer_span(&w);
}

enum lie { INVENTED, ALTERED, OTHER_METER, USED_NUMBER, LIES };

/* What a lying DC puts its signature under. m has reported number 1 and no more. */
static struct report_meter_part lie_of(struct net *net, const struct net_meter *m,
                                       const struct net_meter *other, enum lie lie)
{
    struct report_meter_part part = net_meter_part(net, m, 2);
    switch (lie) {
    case INVENTED: /* signed with a key that the DC has */
        report_meter_sign(&part, &net_fixture(net)->genesis.members.chain,
                          &net_fixture(net)->dc[0].key, (const uint8_t[SM2_WIDE_BYTES]){1});
        break;
    case ALTERED:
        part.commitment.b[5] ^= 1;
        break;
    case OTHER_METER:
        part.meter = other->device.name;
        break;
    case USED_NUMBER:
        part = net_meter_part(net, m, 1);
        break;
    case LIES:
        break;
    }
    return part;
}

/* Handed to an honest DC, none of them gets into its pool. */
static void lies_of_a_gateway_are_refused(void **state)
{
    (void)state;
    struct net *net = net_with_leader(4, GATEWAY_HOME, 30);
    struct net_meter m, other;
    int redirect;
    uint64_t height;
    net_meter_enrol(net, &m, 1, 0);
    net_meter_enrol(net, &other, 2, 0);
    assert_ok(net_meter_agree(net, &m, 0, false, &redirect));
    net_meter_report(net, &m, 1);
    assert_ok(net_meter_ack(net, &m, 1, 5000, &height));
    net_run_ms(net, 500);
    struct net_peer *liar = net_dial_as_member(net, 0, 3);
    uint64_t before = net_height_max(net);
    for (enum lie lie = INVENTED; lie < LIES; lie++) {
        uint8_t bytes[1024];
        struct report_meter_part part = lie_of(net, &m, &other, lie);
        uint64_t refused = net_node(net, 0)->counters.txs_refused;
        net_submit(liar, gateway_tx(net, bytes, sizeof bytes, 3, &part));
        net_run_ms(net, 1000);
        assert_int_equal(net_node(net, 0)->counters.txs_refused, refused + 1);
        assert_int_equal(pool_count(net_node(net, 0)->pool), 0);
    }
    assert_int_equal(net_height_max(net), before);
    /* The same way with a true report: it is taken, so the refusals above were for the lies. */
    uint8_t bytes[1024];
    struct report_meter_part part = net_meter_part(net, &m, 2);
    net_submit(liar, gateway_tx(net, bytes, sizeof bytes, 3, &part));
    net_run_ms(net, 5000);
    assert_int_equal(count_report(net, 0, &m.device.name, 2), 1);
    net_free(net);
}

/* A leader that puts a lie into its block gets no votes for it, and is replaced by one that does
 * not. */
static void lies_of_a_leader_are_not_voted_for(void **state)
{
    (void)state;
    for (enum lie lie = INVENTED; lie <= OTHER_METER; lie++) {
        struct net *net = net_with_leader(4, GATEWAY_HOME, 40 + lie);
        struct net_meter m, other;
        int redirect;
        uint64_t height;
        net_meter_enrol(net, &m, 1, 0);
        net_meter_enrol(net, &other, 2, 0);
        net_run_ms(net, 500);
        unsigned leader = (unsigned)net_leader(net), honest = (leader + 1) % 4;
        uint64_t term = replica_term(net_node(net, leader)->replica);
        uint8_t bytes[1024];
        struct report_meter_part part = lie_of(net, &m, &other, lie);
        struct span tx = gateway_tx(net, bytes, sizeof bytes, leader, &part);
        /* The modified gateway: straight into its own pool, past all checks. */
        assert_ok(pool_add(net_node(net, leader)->pool, tx, (uint8_t)leader, true, net_now_us(net),
                           NULL));
        assert_ok(net_meter_agree(net, &m, honest, false, &redirect));
        net_meter_report(net, &m, 1);
        assert_ok(net_meter_ack(net, &m, 1, 60000, &height));
        for (unsigned i = 0; i < 4; i++) {
            assert_int_equal(count_report(net, i, &m.device.name, 2), 0);
            assert_int_equal(count_report(net, i, &other.device.name, 2), 0);
        }
        assert_true(replica_term(net_node(net, honest)->replica) > term);
        assert_true(net_node(net, honest)->counters.blocks_refused > 0);
        assert_true(net_is_one_chain(net));
        net_free(net);
    }
}

/* --- strangers
 * ------------------------------------------------------------------------------------ */

static bool closed(struct net *net, void *arg)
{
    (void)net;
    return !((struct net_peer *)arg)->open;
}

static void strangers_are_shown_the_door(void **state)
{
    (void)state;
    struct net *net = net_with_leader(4, GATEWAY_LEADER, 50);
    static const enum node_port ports[] = {NODE_PORT_PEER, NODE_PORT_METER, NODE_PORT_ADMIN};
    uint64_t rng = 7;
    for (unsigned p = 0; p < 3; p++) {
        for (unsigned i = 0; i < 20; i++) {
            uint8_t bytes[64];
            fixture_bytes(&rng, bytes, sizeof bytes);
            if (i % 2 == 0) {
                bytes[0] = AMI_WIRE_VERSION;
                bytes[1] = (uint8_t)(i * 5);
            }
            struct net_peer *x = net_dial(net, 0, ports[p]);
            net_send(x, span_of(bytes, sizeof bytes));
            assert_true(net_until(net, 2000, closed, x));
        }
    }
    /* One who says nothing on the peers' port. */
    struct net_peer *mute = net_dial(net, 0, NODE_PORT_PEER);
    assert_true(net_until(net, 30000, closed, mute));
    /* One who claims to be a member and cannot prove it. */
    struct net_peer *liar = net_dial(net, 0, NODE_PORT_PEER);
    struct link_hello h = {.role = 2,
                           .chain = net_fixture(net)->genesis.members.chain,
                           .name = net_fixture(net)->dc[2].name,
                           .epoch = 1};
    uint8_t out[256];
    struct writer w = writer_on(out, sizeof out);
    frame_begin(&w, MSG_LINK_HELLO);
    link_hello_encode(&w, &h);
    net_send(liar, writer_span(&w));
    struct span body;
    assert_true(net_expect(liar, MSG_LINK_PROOF, 1000, &body));
    w = writer_on(out, sizeof out);
    frame_begin(&w, MSG_LINK_PROOF);
    link_proof_encode(&w, &(struct link_proof){{{1}}});
    net_send(liar, writer_span(&w));
    assert_true(net_until(net, 1000, closed, liar));
    assert_true(net_node(net, 0)->counters.links_refused >= 2);
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_report_is_committed_and_acknowledged_with_its_proof),
        cmocka_unit_test(settled_reports_are_proved_from_blocks_that_are_read_once),
        cmocka_unit_test(a_follower_is_a_gateway_under_the_home_policy),
        cmocka_unit_test(a_backlog_reaches_the_leader_as_it_takes_it),
        cmocka_unit_test(every_source_has_its_part_of_a_block),
        cmocka_unit_test(blocks_are_not_piled_up_on_a_slow_link),
        cmocka_unit_test(an_insisting_meter_is_served_by_a_follower),
        cmocka_unit_test(a_leader_dies_and_nothing_is_lost_or_doubled),
        cmocka_unit_test(without_a_quorum_nothing_is_acknowledged),
        cmocka_unit_test(lies_of_a_gateway_are_refused),
        cmocka_unit_test(lies_of_a_leader_are_not_voted_for),
        cmocka_unit_test(strangers_are_shown_the_door),
    };
    return cmocka_run_group_tests(tests, start_crypto, NULL);
}
