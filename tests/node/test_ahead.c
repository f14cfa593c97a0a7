/* A node that is behind checks bodies of later blocks ahead of their turn. That must never let
 * bytes in that were not checked themselves, nor keep right ones out. */
#include "tests/harness.h"

#include "ledger/merkle.h"
#include "tests/crypto_start.h"
#include "tests/node/net.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCKS = 6 };

static void begin(struct net *net, struct net_meter *m, unsigned number)
{
    int redirect;
    net_meter_enrol(net, m, number, 0);
    assert_ok(net_meter_agree(net, m, 0, false, &redirect));
}

/* A meter whose enrolment is among what is fetched, too: its reports cannot be checked before that
 * block is applied. */
static void what_waits_is_checked_while_others_are_stored(void **state)
{
    (void)state;
    struct net *net = net_with_leader(4, GATEWAY_HOME, 1);
    struct net_meter first, later;
    begin(net, &first, 1);
    net_meter_reports(net, &first, 1, 2);
    assert_true(net_until(net, 5000, net_is_level, NULL));
    net_kill(net, 3);
    const uint64_t had = net_height_max(net);
    net_meter_reports(net, &first, 3, 30);
    begin(net, &later, 2);
    net_meter_reports(net, &later, 1, 5);
    net_meter_reports(net, &first, 31, 40);
    net_work(net, 5000);
    net_start(net, 3);
    assert_true(net_until(net, 30000, net_is_level, NULL));
    const uint64_t blocks = net_height_max(net) - had;
    const uint64_t ahead = net_node(net, 3)->counters.checked_ahead;
    assert_true(ahead >= blocks / 2 && ahead < blocks);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(net_node(net, i)->counters.checked_ahead, 0); /* none was behind */
    sm3_digest one = registry_root(net_node(net, 0)->c.registry);
    sm3_digest two = registry_root(net_node(net, 3)->c.registry);
    assert_memory_equal(&one, &two, sizeof one);
    assert_true(net_is_one_chain(net));
    net_free(net);
}

/* Blocks from a height on, as node 0 holds them, each of one report; their bodies lie in `bytes`.
 */
static void take_blocks(struct net *net, uint64_t height, struct certified_block *b,
                        uint8_t bytes[][8192], unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        assert_true(net_block(net, 0, height + i, &b[i]));
        assert_true(b[i].body.size <= sizeof bytes[i] && b[i].header.tx_count == 1);
        memcpy(bytes[i], b[i].body.data, b[i].body.size);
        b[i].body.data = bytes[i];
    }
}

/* A source of blocks for node 3 at this member's address. */
static struct net_peer *serve(struct net *net, unsigned dc)
{
    const struct ami_id *name = &net_fixture(net)->dc[dc].name;
    return net_answer_as(net, 3, name, name, 9);
}

/* `wrong`: a byte of the gateway's signature is another one. */
static void send_block(struct net_peer *p, const struct certified_block *block, bool wrong)
{
    static uint8_t body[1u << 16], frame[1u << 17];
    struct certified_block b = *block;
    memcpy(body, block->body.data, block->body.size);
    if (wrong)
        body[block->body.size - 10] ^= 1;
    b.body = span_of(body, block->body.size);
    struct writer w = writer_on(frame, sizeof frame);
    frame_begin(&w, MSG_BLOCK);
    certified_block_encode(&w, &b);
    assert_true(writer_ok(&w));
    net_send(p, writer_span(&w));
}

/* Bytes that are not the ledger's under a certified header: those that were checked ahead are
 * refused in their turn; those that come where right ones had been checked are not taken for them.
 */
static void only_the_bytes_that_were_checked_count(void **state)
{
    (void)state;
    struct net *net = net_with_leader(4, GATEWAY_HOME, 2);
    struct net_meter m;
    struct certified_block b[BLOCKS];
    static uint8_t bytes[BLOCKS][8192];
    begin(net, &m, 1);
    net_meter_reports(net, &m, 1, 2);
    assert_true(net_until(net, 5000, net_is_level, NULL));
    net_kill(net, 3);
    const uint64_t had = net_height_max(net);
    net_meter_reports(net, &m, 3, 2 + BLOCKS);
    take_blocks(net, had + 1, b, bytes, BLOCKS);
    for (unsigned i = 0; i < 3; i++)
        net_kill(net, i);
    net_work(net, 20000);
    net_start(net, 3);
    const struct node_counters *seen = &net_node(net, 3)->counters;

    struct net_peer *p = serve(net, 0);
    assert_int_equal(net_asked(p), had + 1);
    for (unsigned i = 0; i < 4; i++)
        send_block(p, &b[i], i == 2);
    net_run_ms(net, 500);
    assert_int_equal(net_height_max(net), had + 2);
    assert_int_equal(seen->blocks_refused, 1);

    /* The fourth was right, and was checked; now it comes with other bytes. */
    p = serve(net, 1);
    assert_int_equal(net_asked(p), had + 3);
    send_block(p, &b[2], false);
    send_block(p, &b[3], true);
    net_run_ms(net, 500);
    assert_int_equal(net_height_max(net), had + 3);
    assert_int_equal(seen->blocks_refused, 2);

    p = serve(net, 2);
    assert_int_equal(net_asked(p), had + 4);
    for (unsigned i = 3; i < BLOCKS; i++)
        send_block(p, &b[i], false);
    net_run_ms(net, 500);
    assert_int_equal(net_height_max(net), had + BLOCKS);
    assert_int_equal(seen->blocks_refused, 2);
    assert_true(seen->checked_ahead > 0);

    for (unsigned i = 0; i < 3; i++)
        net_start(net, i);
    assert_true(net_until(net, 60000, net_is_level, NULL));
    assert_true(net_is_one_chain(net));
    net_free(net);
}

static bool says(const struct node *n, const char *name, const char *text)
{
    const struct node_event *e[NODE_EVENTS_MAX + NODE_CAUSED_MAX];
    size_t count = node_events_after(n, 0, e);
    for (size_t i = 0; i < count; i++)
        if (strcmp(e[i]->name, name) == 0 && strstr(e[i]->text, text) != NULL)
            return true;
    return false;
}

/* A quorum that lies: its block has right signatures and is certified, but has a member join that
 * is one already. It was checked ahead; in its turn the ledger's rules refuse it, and it goes
 * nowhere. */
static void a_lying_quorum_is_seen_in_its_turn(void **state)
{
    (void)state;
    struct net *net = net_with_leader(4, GATEWAY_HOME, 4);
    struct fixture *f = net_fixture(net);
    struct net_meter m;
    struct certified_block b[3];
    static uint8_t bytes[3][8192];
    begin(net, &m, 1);
    net_meter_reports(net, &m, 1, 2);
    assert_true(net_until(net, 5000, net_is_level, NULL));
    net_kill(net, 3);
    const uint64_t had = net_height_max(net);
    net_meter_reports(net, &m, 3, 5);
    take_blocks(net, had + 1, b, bytes, 3);
    for (unsigned i = 0; i < 3; i++)
        net_kill(net, i);
    struct fixture_body *txs = fixture_body();
    fixture_membership(f, txs, MEMBER_JOIN, &f->dc[1], MEMBERSHIP_DELAY_MIN);
    struct tx tx;
    sm3_digest leaf;
    assert_ok(tx_parse(&tx, fixture_last(txs)));
    assert_ok(tx_leaves(&leaf, &tx, 1));
    struct certified_block lie = b[2];
    lie.body = fixture_span(txs);
    lie.header.tx_count = 1;
    lie.header.merkle_root = merkle_root(&leaf, 1);
    const sm3_digest hash = block_hash(&lie.header);
    lie.commit =
        fixture_qc(f, VOTE_COMMIT, lie.header.term, lie.header.height, &hash, fixture_quorum(f));
    net_work(net, 1000);
    net_start(net, 3);
    const struct node_counters *seen = &net_node(net, 3)->counters;
    struct net_peer *p = serve(net, 0);
    assert_int_equal(net_asked(p), had + 1);
    send_block(p, &b[0], false);
    send_block(p, &b[1], false);
    send_block(p, &lie, false);
    net_run_ms(net, 500);
    assert_int_equal(net_height_max(net), had + 2);
    assert_true(seen->blocks_refused > 0);
    assert_true(says(net_node(net, 3), "diverged", "status=EXISTS"));
    /* Nobody is there to say otherwise; it goes on living. */
    net_run_ms(net, 20000);
    assert_int_equal(net_height_max(net), had + 2);
    free(txs);
    net_free(net);
}

/* Jobs are out and blocks wait when it ends; the sanitizers see what is left. */
static void a_node_may_end_while_it_looks_ahead(void **state)
{
    (void)state;
    for (uint64_t ms = 0; ms < 12; ms++) {
        struct net *net = net_with_leader(4, GATEWAY_HOME, 3);
        struct net_meter m;
        begin(net, &m, 1);
        net_meter_reports(net, &m, 1, 2);
        net_kill(net, 3);
        net_meter_reports(net, &m, 3, 12);
        net_work(net, 3000);
        net_start(net, 3);
        const uint64_t height = net_height_min(net);
        for (unsigned i = 0; net_height_min(net) == height && i < 5000; i++)
            net_run_ms(net, 1);
        net_run_ms(net, ms);
        net_kill(net, 3);
        net_start(net, 3);
        assert_true(net_until(net, 30000, net_is_level, NULL));
        net_free(net);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_waits_is_checked_while_others_are_stored),
        cmocka_unit_test(only_the_bytes_that_were_checked_count),
        cmocka_unit_test(a_lying_quorum_is_seen_in_its_turn),
        cmocka_unit_test(a_node_may_end_while_it_looks_ahead),
    };
    return cmocka_run_group_tests(tests, start_crypto, NULL);
}
