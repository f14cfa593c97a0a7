/* Retention among whole nodes: all prune below the watermark, who was away meanwhile catches up
 * from pruned blocks, meters get their proofs as before, and nobody but the MDMS can allow it. */
#include "tests/harness.h"

#include "ledger/pruned.h"
#include "tests/crypto_start.h"
#include "tests/node/net.h"

#include <stdlib.h>
#include <string.h>

static bool is_up(struct net *net, unsigned i)
{
    return net_node(net, i) != NULL;
}

static void begin(struct net *net, struct net_meter *m, uint64_t count)
{
    int redirect;
    net_meter_enrol(net, m, 1, 0);
    assert_ok(net_meter_agree(net, m, 0, false, &redirect));
    net_meter_reports(net, m, 1, count);
}

static void retain(struct net *net, uint64_t below)
{
    struct fixture_body *b = fixture_body();
    fixture_retention(net_fixture(net), b, below);
    net_submit(net_dial_as_mdms(net, 0), fixture_last(b));
    free(b);
}

static bool whole_reports(struct span body)
{
    struct body_reader it = body_reader_on(body);
    struct span encoded;
    while (body_next(&it, &encoded))
        if (encoded.data[0] == TX_REPORT)
            return true;
    return false;
}

/* Does this node hold blocks below the height pruned, and the others whole? */
static bool is_pruned(struct net *net, unsigned i, uint64_t below)
{
    struct certified_block b;
    unsigned pruned = 0;
    for (uint64_t h = 1; net_block(net, i, h, &b); h++) {
        if (h < below ? whole_reports(b.body) : body_is_pruned(b.body))
            return false;
        pruned += body_is_pruned(b.body);
    }
    return pruned > 0;
}

static bool all_pruned(struct net *net, void *arg)
{
    for (unsigned i = 0; i < net_count(net); i++)
        if (is_up(net, i) && !is_pruned(net, i, *(uint64_t *)arg))
            return false;
    return true;
}

static long long status_number(struct net *net, unsigned i, const char *key)
{
    json_t *o = net_ask(net, i, "status");
    const json_t *v = json_object_get(o, key);
    assert_true(json_is_integer(v));
    long long number = json_integer_value(v);
    json_decref(o);
    return number;
}

/* --- all goes well -----------------------------------------------------------------------------
 */

/* A node is down meanwhile and comes back: it gets pruned blocks, believes the MDMS's signature
 * that comes with them, and is a member as before. */
static void who_was_away_catches_up_from_pruned_blocks(void **state)
{
    (void)state;
    struct net *net = net_with_leader(4, GATEWAY_HOME, 1);
    struct net_meter m;
    uint64_t below = 40, height;
    begin(net, &m, 5);
    assert_true(net_until(net, 5000, net_is_level, NULL));
    const uint64_t away = net_height_min(net);
    net_kill(net, 3);
    net_meter_reports(net, &m, 6, 50);
    retain(net, below); /* it waits for its margin */
    net_meter_reports(net, &m, 51, 110);
    assert_true(net_height_max(net) > below + RETENTION_MARGIN);
    assert_true(net_until(net, 30000, all_pruned, &below));
    assert_int_equal(status_number(net, 0, "retention_below"), below);
    assert_int_equal(status_number(net, 0, "pruned_below"), below);
    /* A meter that asks again for what is pruned gets its proof as ever, checks included. */
    net_meter_report(net, &m, 3);
    assert_ok(net_meter_ack(net, &m, 3, 5000, &height));
    assert_true(height < below);
    net_start(net, 3);
    assert_true(net_until(net, 30000, net_is_level, NULL));
    assert_true(net_is_one_chain(net));
    assert_true(away < below);
    struct certified_block b;
    assert_true(net_block(net, 3, away + 1, &b) && body_is_pruned(b.body)); /* as it came */
    assert_true(net_until(net, 30000, all_pruned, &below));                 /* and its own */
    sm3_digest one = registry_root(net_node(net, 0)->c.registry);
    sm3_digest two = registry_root(net_node(net, 3)->c.registry);
    assert_memory_equal(&one, &two, sizeof one);
    /* Its vote counts, and it hands out the same. */
    net_kill(net, 1);
    net_meter_reports(net, &m, 111, 113);
    net_kill(net, 2);
    net_start(net, 1);
    net_meter_reports(net, &m, 114, 115);
    assert_true(net_until(net, 30000, net_is_level, NULL));
    net_free(net);
}

/* From the genesis file alone, and from a node that knows the watermark from another one only. */
static void one_begins_from_pruned_blocks(void **state)
{
    (void)state;
    struct net *net = net_with_leader(4, GATEWAY_HOME, 2);
    struct net_meter m;
    uint64_t below = 30;
    net_kill(net, 3); /* it knows nothing yet */
    begin(net, &m, 30);
    retain(net, below);
    net_meter_reports(net, &m, 31, 100);
    assert_true(net_until(net, 30000, all_pruned, &below));
    net_start(net, 3);
    assert_true(net_until(net, 30000, net_is_level, NULL));
    assert_true(net_until(net, 30000, all_pruned, &below));
    /* It starts anew from such a ledger. */
    net_kill(net, 3);
    net_start(net, 3);
    net_meter_reports(net, &m, 101, 102);
    assert_true(net_until(net, 30000, net_is_level, NULL));
    net_run_ms(net, 5000); /* what came pruned has nothing to lose, but is looked at all the same */
    assert_int_equal(status_number(net, 3, "pruned_below"), below);
    assert_true(is_pruned(net, 3, below));
    assert_true(net_is_one_chain(net));
    net_free(net);
}

static bool amid_pruning(struct net *net, void *arg)
{
    (void)arg;
    struct certified_block b;
    return net_block(net, 2, 9, &b) && body_is_pruned(b.body);
}

static void pruning_goes_on_after_a_crash(void **state)
{
    (void)state;
    struct net *net = net_with_leader(4, GATEWAY_HOME, 3);
    struct net_meter m;
    uint64_t below = 20;
    begin(net, &m, 30);
    retain(net, below);
    net_meter_reports(net, &m, 31, 90);
    assert_true(net_until(net, 30000, amid_pruning, NULL));
    assert_false(is_pruned(net, 2, below));
    net_kill(net, 2);
    net_start(net, 2);
    assert_true(net_until(net, 30000, all_pruned, &below));
    assert_true(net_is_one_chain(net));
    /* The next watermark goes on from there; a full disk holds it up, no more. */
    below = 25;
    net_disk(net, 1, AMI_FULL);
    retain(net, below);
    net_meter_reports(net, &m, 91, 95);
    net_run_ms(net, 5000);
    assert_true(is_pruned(net, 0, below));
    assert_true(is_pruned(net, 1, 20));
    net_disk(net, 1, AMI_OK);
    assert_true(net_until(net, 60000, all_pruned, &below));
    net_free(net);
}

/* A step holds up the block that is committed meanwhile: steps are as long as the disk is fast,
 * shorter while there is something to commit, and none begins beside another write. */
static void steps_follow_the_disk(void **state)
{
    (void)state;
    struct net *net = net_with_leader(4, GATEWAY_HOME, 8);
    struct net_meter m;
    uint64_t below = 30;
    begin(net, &m, 30);
    retain(net, below);
    net_disk_us(net, 1, 30000); /* too long beside blocks to commit */
    net_meter_reports(net, &m, 31, 160);
    assert_true(net_until(net, 30000, all_pruned, &below));
    for (unsigned i = 0; i < net_count(net); i++) /* one has hardly an idle disk */
        assert_true(net_pruning(net, i).beside <= (i == 1 ? net_pruning(net, i).steps / 4 : 0));
    assert_int_equal(net_pruning(net, 0).bytes, 4u << 20);
    assert_int_equal(net_pruning(net, 1).least, 64u << 10);
    /* When there is nothing to commit, the same disk may take as long. */
    below = 90;
    retain(net, below);
    net_meter_reports(net, &m, 161, 161);
    assert_true(net_until(net, 60000, all_pruned, &below));
    assert_true(net_pruning(net, 1).bytes > 1u << 20);
    net_free(net);
}

static bool prunes_beside(struct net *net, void *arg)
{
    (void)arg;
    return net_pruning(net, 2).beside > 0;
}

/* A disk on which the consensus waits all the time does not keep for ever what nobody needs. */
static void a_busy_disk_prunes_all_the_same(void **state)
{
    (void)state;
    struct net *net = net_with_leader(4, GATEWAY_HOME, 9);
    struct net_meter m;
    uint64_t below = 20;
    begin(net, &m, 90);
    assert_true(net_until(net, 5000, net_is_level, NULL));
    net_disk_us(net, 2, 700000);
    retain(net, below);
    net_meter_reports(net, &m, 91, 130);
    assert_true(net_until(net, 60000, prunes_beside, NULL));
    net_disk_us(net, 2, 2000);
    assert_true(net_until(net, 60000, all_pruned, &below));
    net_free(net);
}

/* --- liars -------------------------------------------------------------------------------------
 */

static uint8_t frame_bytes[1u << 16];

static void send_tx(struct net_peer *p, struct span encoded_tx)
{
    struct writer w = writer_on(frame_bytes, sizeof frame_bytes);
    frame_begin(&w, MSG_RETENTION);
    write_raw(&w, encoded_tx.data, encoded_tx.size);
    net_send(p, writer_span(&w));
}

/* Sends a block in its pruned form. `flip`: which byte of the body is changed; SIZE_MAX: none. */
static void send_pruned(struct net_peer *p, const struct certified_block *whole, size_t flip)
{
    static uint8_t body[1u << 16];
    bool changed;
    struct certified_block b = *whole;
    struct writer pruned = writer_on(body, sizeof body);
    assert_ok(body_prune(&pruned, whole->body, &changed));
    if (flip != SIZE_MAX)
        body[flip] ^= 1;
    b.body = writer_span(&pruned);
    struct writer w = writer_on(frame_bytes, sizeof frame_bytes);
    frame_begin(&w, MSG_BLOCK);
    certified_block_encode(&w, &b);
    assert_true(writer_ok(&w));
    net_send(p, writer_span(&w));
}

/* A source of blocks for node 3 at this member's address. */
static struct net_peer *serve(struct net *net, unsigned dc)
{
    const struct ami_id *name = &net_fixture(net)->dc[dc].name;
    return net_answer_as(net, 3, name, name, 9);
}

/* The one whom a node that is behind can ask serves pruned blocks without the MDMS's word, with a
 * forged one, beyond the true one, and with bytes that are not the ledger's: none is taken, and
 * none keeps the true ones from being taken afterwards. */
static void a_liar_cannot_prune_what_the_mdms_has_not(void **state)
{
    (void)state;
    struct net *net = net_with_leader(4, GATEWAY_HOME, 4);
    struct fixture *f = net_fixture(net);
    struct net_meter m;
    struct certified_block b[12];
    static uint8_t bytes[12][8192];
    begin(net, &m, 2);
    assert_true(net_until(net, 5000, net_is_level, NULL));
    net_kill(net, 3);
    const uint64_t had = net_height_max(net);
    net_meter_reports(net, &m, 3, 14);
    for (unsigned i = 0; i < 12; i++) {
        assert_true(net_block(net, 0, had + 1 + i, &b[i]));
        assert_true(b[i].body.size <= sizeof bytes[i] && whole_reports(b[i].body));
        memcpy(bytes[i], b[i].body.data, b[i].body.size);
        b[i].body.data = bytes[i];
    }
    for (unsigned i = 0; i < 3; i++)
        net_kill(net, i);
    net_start(net, 3);
    struct net_peer *liar = serve(net, 0);
    struct fixture_body *txs = fixture_body();

    assert_int_equal(net_asked(liar), had + 1);
    for (unsigned i = 0; i < 12; i++)
        send_pruned(liar, &b[i], SIZE_MAX);
    net_run_ms(net, 500);
    assert_int_equal(net_height_max(net), had);

    /* What the MDMS has not signed ends the link. */
    uint8_t forged[RETENTION_TX_BYTES];
    fixture_retention(f, txs, had + 12);
    memcpy(forged, fixture_last(txs).data, sizeof forged);
    forged[1 + 4 + 15] ^= 8; /* the watermark */
    assert_int_equal(net_asked(liar), had + 1);
    send_tx(liar, span_of(forged, sizeof forged));
    send_pruned(liar, &b[0], SIZE_MAX);
    net_run_ms(net, 500);
    assert_false(liar->open);
    assert_int_equal(net_height_max(net), had);

    /* A true one, and blocks beyond it. */
    liar = serve(net, 0);
    fixture_clear(txs);
    fixture_retention(f, txs, had + 4);
    assert_int_equal(net_asked(liar), had + 1);
    send_tx(liar, fixture_last(txs));
    for (unsigned i = 0; i < 12; i++)
        send_pruned(liar, &b[i], SIZE_MAX);
    net_run_ms(net, 1000);
    assert_int_equal(net_height_max(net), had + 3);

    /* A later one, and blocks whose bytes are not the ledger's: the meter's part, and the digest
     * that stands for the gateway's. */
    fixture_clear(txs);
    fixture_retention(f, txs, had + 11);
    assert_int_equal(net_asked(liar), had + 4);
    send_tx(liar, fixture_last(txs));
    struct body_reader it = body_reader_on(b[3].body);
    struct span encoded;
    assert_true(body_next(&it, &encoded));
    const size_t flips[] = {4 + 1 + 4 + 8, 4 + encoded.size / 2 - 40};
    for (unsigned i = 0; i < 2; i++) {
        send_pruned(liar, &b[3], flips[i]);
        net_run_ms(net, 500);
        assert_int_equal(net_height_max(net), had + 3);
        /* Who sent wrong bytes is asked no more, another one is. */
        liar = serve(net, i + 1);
        assert_int_equal(net_asked(liar), had + 4);
    }
    for (unsigned i = 3; i < 12; i++)
        send_pruned(liar, &b[i], SIZE_MAX);
    net_run_ms(net, 2000);
    assert_int_equal(net_height_max(net), had + 10);

    /* The others come back with what is whole. */
    for (unsigned i = 0; i < 3; i++)
        net_start(net, i);
    assert_true(net_until(net, 60000, net_is_level, NULL));
    assert_true(net_height_max(net) >= had + 12);
    assert_true(net_is_one_chain(net));
    free(txs);
    net_free(net);
}

/* The MDMS may be ahead of a DC: that no leader can commit a retention yet speaks against none, and
 * holds up nothing but what the MDMS signed after it. */
static void a_retention_that_is_early_waits(void **state)
{
    (void)state;
    struct net *net = net_with_leader(4, GATEWAY_HOME, 7);
    struct net_meter m;
    begin(net, &m, 70);
    assert_true(net_until(net, 5000, net_is_level, NULL));
    const uint64_t below = net_height_max(net) + 10 - RETENTION_MARGIN;
    const long long term = status_number(net, 0, "term");
    retain(net, below);
    net_run_ms(net, 30000);
    assert_int_equal(status_number(net, 0, "term"), term);
    assert_int_equal(status_number(net, 0, "retention_below"), 0);
    net_meter_reports(net, &m, 71, 85);
    assert_int_equal(status_number(net, 0, "term"), term);
    assert_int_equal(status_number(net, 0, "retention_below"), below);
    net_free(net);
}

/* A disk that somebody made says what the MDMS never signed: nothing starts from it. */
static void a_forged_retention_on_the_disk_is_found_at_the_start(void **state)
{
    (void)state;
    struct net *net = net_with_leader(4, GATEWAY_HOME, 6);
    struct net_meter m;
    struct fixture_body *b = fixture_body();
    uint8_t tx[RETENTION_TX_BYTES];
    begin(net, &m, 2);
    fixture_retention(net_fixture(net), b, 1000);
    memcpy(tx, fixture_last(b).data, sizeof tx);
    tx[sizeof tx - 1] ^= 1; /* of the signature */
    net_kill(net, 3);
    net_disk_retention(net, 3, span_of(tx, sizeof tx));
    assert_status(net_try_start(net, 3), AMI_DAMAGED);
    net_disk_retention(net, 3, span_of(NULL, 0));
    net_start(net, 3);
    assert_true(net_until(net, 5000, net_is_level, NULL));
    free(b);
    net_free(net);
}

/* A meter's report in pruned form is no transaction for a DC to take, nor a block to vote for. */
static void a_pruned_report_is_no_transaction(void **state)
{
    (void)state;
    struct net *net = net_with_leader(4, GATEWAY_HOME, 5);
    struct net_meter m;
    begin(net, &m, 3);
    struct certified_block b;
    assert_true(net_block(net, 0, net_height_max(net), &b));
    uint8_t body[4096];
    bool changed;
    struct writer w = writer_on(body, sizeof body);
    assert_ok(body_prune(&w, b.body, &changed));
    struct body_reader it = body_reader_on(writer_span(&w));
    struct span encoded;
    assert_true(body_next(&it, &encoded));
    const uint64_t refused = net_node(net, 1)->counters.txs_refused;
    net_submit(net_dial_as_member(net, 1, 2), encoded);
    net_run_ms(net, 500);
    assert_int_equal(net_node(net, 1)->counters.txs_refused, refused + 1);
    assert_int_equal(pool_count(net_node(net, 1)->pool), 0);
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_was_away_catches_up_from_pruned_blocks),
        cmocka_unit_test(one_begins_from_pruned_blocks),
        cmocka_unit_test(pruning_goes_on_after_a_crash),
        cmocka_unit_test(steps_follow_the_disk),
        cmocka_unit_test(a_busy_disk_prunes_all_the_same),
        cmocka_unit_test(a_liar_cannot_prune_what_the_mdms_has_not),
        cmocka_unit_test(a_retention_that_is_early_waits),
        cmocka_unit_test(a_forged_retention_on_the_disk_is_found_at_the_start),
        cmocka_unit_test(a_pruned_report_is_no_transaction),
    };
    return cmocka_run_group_tests(tests, start_crypto, NULL);
}
