/* Whole nodes against those who mean harm, and against bad moments: everything that must not end a
 * session, depose an honest leader, fill the pool for ever or mix up the registry. */
#include "tests/harness.h"

#include "tests/crypto_start.h"
#include "tests/node/net.h"

#include <stdlib.h>
#include <string.h>

static struct net *network(unsigned n, enum gateway_policy policy, uint64_t seed)
{
    struct net *net = net_with_leader(n, policy, seed);
    net_run_ms(net, 500);
    return net;
}

static uint64_t term_of(struct net *net, unsigned i)
{
    return replica_term(net_node(net, i)->replica);
}

static void assert_nothing_waits(struct net *net)
{
    for (unsigned i = 0; i < net_count(net); i++)
        if (net_node(net, i) != NULL)
            assert_int_equal(pool_count(net_node(net, i)->pool), 0);
}

/* --- what the ledger cannot take deposes nobody -------------------------------------------------
 */

/* A report of the meter, sealed by DC `dc`. */
static struct span report_of(struct net *net, uint8_t *out, size_t capacity, unsigned dc,
                             const struct net_meter *m, uint64_t sequence)
{
    struct fixture *f = net_fixture(net);
    struct report_meter_part part = net_meter_part(net, m, sequence);
    uint8_t sealed[100], random[SM2_WIDE_BYTES];
    fixture_bytes(&f->rng, sealed, sizeof sealed);
    fixture_random(f, random);
    struct report_gateway_part g = {.c1 = point_encode(point_generator()),
                                    .sealed = span_of(sealed, sizeof sealed),
                                    .timestamp_ms = f->genesis.created_ms,
                                    .dc = f->dc[dc].name,
                                    .dc_epoch = 1};
    report_gateway_sign(&g, &part, &f->genesis.members.chain, &f->dc[dc].key, random);
    struct writer w = writer_on(out, capacity);
    report_tx_encode(&w, &part, &g);
    assert_true(writer_ok(&w));
    return writer_span(&w);
}

/* The block that settles a report comes while the same report, handed over by another gateway, is
 * being checked: at every instant of the block's way. */
static void a_report_settled_while_it_is_checked_does_not_wait_for_ever(void **state)
{
    (void)state;
    struct net *net = network(4, GATEWAY_HOME, 100);
    struct net_meter m;
    int redirect;
    uint64_t height;
    net_meter_enrol(net, &m, 1, 0);
    net_run_ms(net, 500);
    unsigned leader = (unsigned)net_leader(net), follower = (leader + 1) % 4;
    uint64_t term = term_of(net, leader);
    struct net_peer *byzantine = net_dial_as_member(net, follower, (leader + 2) % 4);
    assert_ok(net_meter_agree(net, &m, leader, false, &redirect));
    for (uint64_t s = 1; s <= 100; s++) {
        uint8_t bytes[1024];
        struct span rival = report_of(net, bytes, sizeof bytes, (leader + 2) % 4, &m, s);
        net_meter_report(net, &m, s);
        net_run_us(net, 55000 + s * 250);
        net_submit(byzantine, rival);
        assert_ok(net_meter_ack(net, &m, s, 5000, &height));
    }
    net_run_ms(net, 15000);
    assert_nothing_waits(net);
    assert_int_equal(net_leader(net), (int)leader);
    assert_int_equal(term_of(net, leader), term);
    net_free(net);
}

/* One meter sends more at once than all others together, and again and again: what it may have in
 * the queue is bounded, it is told so, and others are served as if it were not there. */
static void a_noisy_meter_holds_up_nobody(void **state)
{
    (void)state;
    struct net *net = network(4, GATEWAY_HOME, 104);
    struct net_meter noisy, quiet;
    int redirect;
    uint64_t height;
    net_meter_enrol(net, &noisy, 1, 0);
    net_meter_enrol(net, &quiet, 2, 0);
    net_run_ms(net, 500);
    unsigned leader = (unsigned)net_leader(net);
    assert_ok(net_meter_agree(net, &noisy, leader, false, &redirect));
    assert_ok(net_meter_agree(net, &quiet, leader, false, &redirect));
    const struct node *n = net_node(net, leader);
    net_work(net, 50000);
    for (unsigned round = 0; round < 5; round++) {
        for (uint64_t s = 1; s < AMI_SEQ_WINDOW; s++)
            net_meter_report(net, &noisy, s);
        net_run_us(net, 10000);
    }
    net_meter_report(net, &quiet, 1);
    assert_ok(net_meter_ack(net, &quiet, 1, 2000, &height));
    /* Not even all of the first round was taken. */
    assert_true(n->counters.reports <= 2 * NODE_REPORTS_PER_SESSION + 1);
    assert_true(n->counters.reports_refused > 4 * (AMI_SEQ_WINDOW - 1 - NODE_REPORTS_PER_SESSION));
    net_work(net, 100);
    for (unsigned i = 0; i < 10; i++) {
        for (uint64_t s = 1; s < AMI_SEQ_WINDOW; s++)
            net_meter_report(net, &noisy, s);
        net_run_ms(net, 300);
    }
    net_run_ms(net, 1000);
    assert_nothing_waits(net);
    net_meter_report(net, &noisy, AMI_SEQ_WINDOW);
    assert_ok(net_meter_ack(net, &noisy, AMI_SEQ_WINDOW, 5000, &height));
    net_free(net);
}

/* A skip that the meter's own report overtakes: valid when it was handed to the followers, and void
 * ever after. */
static void a_skip_that_was_overtaken_deposes_nobody(void **state)
{
    (void)state;
    struct net *net = network(4, GATEWAY_HOME, 101);
    struct net_meter m;
    int redirect;
    uint64_t height;
    net_meter_enrol(net, &m, 1, 0);
    net_run_ms(net, 500);
    unsigned leader = (unsigned)net_leader(net);
    uint64_t term = term_of(net, leader);
    struct fixture_body *b = fixture_body();
    fixture_skip(net_fixture(net), b, &m.device, 2);
    struct net_peer *liar[4] = {NULL};
    for (unsigned i = 0; i < 4; i++)
        if (i != leader)
            liar[i] = net_dial_as_member(net, i, (i + 1) % 4);
    assert_ok(net_meter_agree(net, &m, leader, false, &redirect));
    net_meter_report(net, &m, 1);
    for (unsigned i = 0; i < 4; i++)
        if (liar[i] != NULL)
            net_submit(liar[i], fixture_last(b));
    assert_ok(net_meter_ack(net, &m, 1, 5000, &height));
    net_run_ms(net, 15000);
    assert_nothing_waits(net);
    assert_int_equal(net_leader(net), (int)leader);
    assert_int_equal(term_of(net, leader), term);
    free(b);
    net_free(net);
}

/* A DC hands on the MDMS's second transaction and keeps the first: nobody can commit the second. */
static void a_number_with_a_gap_before_it_deposes_nobody(void **state)
{
    (void)state;
    struct net *net = network(4, GATEWAY_HOME, 102);
    struct fixture *f = net_fixture(net);
    struct net_meter m;
    int redirect;
    uint64_t height;
    net_meter_enrol(net, &m, 1, 0);
    net_run_ms(net, 500);
    unsigned leader = (unsigned)net_leader(net);
    uint64_t term = term_of(net, leader);
    struct fixture_body *first = fixture_body(), *second = fixture_body();
    struct fixture_device a = fixture_meter(f, 2), b = fixture_meter(f, 3);
    fixture_meter_enrol(f, first, &a, &f->dc[0].name);
    fixture_meter_enrol(f, second, &b, &f->dc[0].name);
    struct net_peer *liar[4];
    for (unsigned i = 0; i < 4; i++) {
        liar[i] = net_dial_as_member(net, i, (i + 1) % 4);
        net_submit(liar[i], fixture_last(second));
    }
    net_run_ms(net, 500);
    /* Reports are not cut into a block each because something old waits in vain. */
    uint64_t built = net_node(net, leader)->counters.blocks_built;
    assert_ok(net_meter_agree(net, &m, leader, false, &redirect));
    for (uint64_t s = 1; s <= 20; s++) {
        net_meter_report(net, &m, s);
        net_run_ms(net, 5);
    }
    assert_ok(net_meter_ack(net, &m, 20, 5000, &height));
    assert_true(net_node(net, leader)->counters.blocks_built - built <= 5);
    net_run_ms(net, 15000);
    assert_int_equal(net_leader(net), (int)leader);
    assert_int_equal(term_of(net, leader), term);
    assert_int_equal(pool_count(net_node(net, leader)->pool), 1);
    /* It was not forgotten. */
    net_submit(net_dial_as_mdms(net, (leader + 1) % 4), fixture_last(first));
    net_run_ms(net, 3000);
    assert_nothing_waits(net);
    for (unsigned i = 0; i < 4; i++)
        assert_non_null(registry_find(net_node(net, i)->c.registry, RECORD_METER, &b.name, 1));
    free(first);
    free(second);
    net_free(net);
}

/* One of the MDMS's transactions that no block will ever take, and two behind it. */
static void a_number_that_is_void_is_dropped_and_its_successors_wait(void **state)
{
    (void)state;
    struct net *net = network(4, GATEWAY_HOME, 103);
    struct fixture *f = net_fixture(net);
    struct net_meter m;
    net_meter_enrol(net, &m, 1, 0);
    net_run_ms(net, 500);
    unsigned leader = (unsigned)net_leader(net);
    uint64_t term = term_of(net, leader);
    struct fixture_body *bad = fixture_body(), *good = fixture_body(), *next = fixture_body();
    struct fixture_device a = fixture_meter(f, 2), b = fixture_meter(f, 3);
    struct ami_id nobody = fixture_id("nobody");
    uint64_t number = f->mdms_number;
    fixture_revoke(f, bad, 1, &nobody, 1);
    fixture_meter_enrol(f, next, &b, &f->dc[0].name);
    struct net_peer *mdms = net_dial_as_mdms(net, (leader + 1) % 4);
    net_submit(mdms, fixture_last(next));
    net_run_ms(net, 100);
    net_submit(mdms, fixture_last(bad));
    net_run_ms(net, 15000);
    assert_int_equal(net_leader(net), (int)leader);
    assert_int_equal(term_of(net, leader), term);
    /* The MDMS uses the number for something better. */
    f->mdms_number = number;
    fixture_meter_enrol(f, good, &a, &f->dc[0].name);
    net_submit(mdms, fixture_last(good));
    net_run_ms(net, 3000);
    assert_nothing_waits(net);
    assert_non_null(registry_find(net_node(net, 0)->c.registry, RECORD_METER, &b.name, 1));
    free(bad);
    free(good);
    free(next);
    net_free(net);
}

/* --- strangers on the meters' port --------------------------------------------------------------
 */

static struct net_peer *stranger_of(struct net *net, unsigned node, uint32_t epoch)
{
    uint8_t out[128];
    struct net_peer *p = net_dial(net, node, NODE_PORT_METER);
    struct meter_hello hello = {net_fixture(net)->genesis.members.chain,
                                net_fixture(net)->genesis.network.scheme, epoch};
    struct writer w = writer_on(out, sizeof out);
    frame_begin(&w, MSG_METER_HELLO);
    meter_hello_encode(&w, &hello);
    net_send(p, writer_span(&w));
    struct span body;
    assert_true(net_expect(p, MSG_METER_WELCOME, 1000, &body));
    return p;
}

static struct net_peer *stranger(struct net *net, unsigned node)
{
    return stranger_of(net, node, 1);
}

/* A hello that claims to know epochs which do not exist makes nobody look for them. */
static void epochs_to_come_are_not_looked_for(void **state)
{
    (void)state;
    struct net *net = net_new(4, GATEWAY_LEADER, 77);
    net_run_ms(net, 2000);
    static const uint32_t epochs[] = {0, 1, 2, 3, UINT32_MAX - 1, UINT32_MAX};
    for (size_t i = 0; i < sizeof epochs / sizeof epochs[0]; i++)
        (void)stranger_of(net, 0, epochs[i]);
    assert_int_equal(net_node(net, 0)->epoch_proofs, 0);
    net_free(net);
}

/* Somebody saw the session's id on the wire. */
static void a_forged_number_ends_no_session(void **state)
{
    (void)state;
    struct net *net = network(4, GATEWAY_HOME, 110);
    struct net_meter m;
    int redirect;
    uint64_t height;
    net_meter_enrol(net, &m, 1, 0);
    assert_ok(net_meter_agree(net, &m, 1, false, &redirect));
    net_meter_report(net, &m, 1);
    assert_ok(net_meter_ack(net, &m, 1, 5000, &height));
    struct net_peer *p = stranger(net, 1);
    for (uint64_t count = 20; count != 0; count = count * 16 > count ? count * 16 : 0) {
        uint8_t sealed[64] = {1}, out[256];
        struct session_data d = {.session = m.session_id,
                                 .count = count,
                                 .kind = 1,
                                 .sealed = span_of(sealed, sizeof sealed)};
        struct writer w = writer_on(out, sizeof out);
        frame_begin(&w, MSG_SESSION_DATA);
        session_data_encode(&w, &d);
        net_send(p, writer_span(&w));
    }
    net_run_ms(net, 100);
    net_meter_report(net, &m, 2);
    assert_ok(net_meter_ack(net, &m, 2, 5000, &height));
    net_free(net);
}

static void send_flight1(struct net *net, struct net_peer *p, const struct net_meter *m,
                         struct agree_state *own)
{
    struct agree_state state;
    uint8_t out[512], random[SM2_WIDE_BYTES];
    fixture_random(net_fixture(net), random);
    assert_ok(agree_meter_start(&state, &m->agree, 7, false, random));
    struct agree_flight1 f1 = agree_flight1_of(&state, &m->agree);
    struct writer w = writer_on(out, sizeof out);
    frame_begin(&w, MSG_AGREE_FLIGHT1);
    agree_flight1_encode(&w, &f1);
    net_send(p, writer_span(&w));
    if (own != NULL)
        *own = state;
}

/* First flights in a meter's name, from another link, while the meter computes its third. */
static void a_spoofed_flight_does_not_take_the_meters_place(void **state)
{
    (void)state;
    struct net *net = network(4, GATEWAY_HOME, 111);
    struct fixture *f = net_fixture(net);
    struct net_meter m;
    struct span body;
    uint64_t height;
    net_meter_enrol(net, &m, 1, 0);
    struct net_peer *p = stranger(net, 1);
    m.link = stranger(net, 1);
    m.node = 1;
    struct agree_state own;
    send_flight1(net, m.link, &m, &own);
    struct agree_flight2 f2;
    assert_true(net_expect(m.link, MSG_AGREE_FLIGHT2, 1000, &body));
    assert_ok(agree_flight2_parse(&f2, body));
    struct agree_result result;
    assert_ok(agree_meter_answer(&result, &own, &f->genesis.network, &m.agree,
                                 &f->genesis.members.chain, &f2));
    for (int i = 0; i < 50; i++)
        send_flight1(net, p, &m, NULL);
    net_run_ms(net, 200);
    uint8_t out[512];
    struct agree_flight3 f3 = agree_flight3_of(&result);
    struct writer w = writer_on(out, sizeof out);
    frame_begin(&w, MSG_AGREE_FLIGHT3);
    agree_flight3_encode(&w, &f3);
    net_send(m.link, writer_span(&w));
    session_begin(&m.session, true, result.k, &result.terms, 1000, 1000, 0);
    net_meter_report(net, &m, 1);
    assert_ok(net_meter_ack(net, &m, 1, 5000, &height));
    net_free(net);
}

static bool is_closed(struct net *net, void *arg)
{
    (void)net;
    return !((struct net_peer *)arg)->open;
}

/* One meter agrees on one link after the other: the links that it left do not stay. */
static void a_meter_holds_one_link(void **state)
{
    (void)state;
    struct net *net = network(4, GATEWAY_HOME, 112);
    struct net_meter m;
    int redirect;
    struct net_peer *left[10];
    net_meter_enrol(net, &m, 1, 0);
    for (unsigned i = 0; i < 10; i++) {
        assert_ok(net_meter_agree(net, &m, 1, false, &redirect));
        net_run_ms(net, 50);
        left[i] = m.link;
    }
    for (unsigned i = 0; i < 9; i++)
        assert_true(net_until(net, 1000, is_closed, left[i]));
    assert_true(left[9]->open);
    net_free(net);
}

/* Events that strangers cause do not push out the others. */
static void strangers_do_not_fill_the_log(void **state)
{
    (void)state;
    struct net *net = network(4, GATEWAY_HOME, 113);
    uint64_t before = net_node(net, 0)->event_count, bad = net_node(net, 0)->counters.frames_bad;
    for (unsigned i = 0; i < 200; i++) {
        struct net_peer *p = net_dial(net, 0, NODE_PORT_METER);
        net_send(p, SPAN_LITERAL("garbage"));
        net_run_ms(net, 10);
    }
    assert_int_equal(net_node(net, 0)->counters.frames_bad - bad, 200);
    assert_true(net_node(net, 0)->event_count - before < 60);
    net_free(net);
}

/* A refusal names whoever has proven who it is, says of others what they claim, and a flood of
 * strangers leaves the proven theirs. */
static void a_refusal_names_whom_it_can(void **state)
{
    (void)state;
    struct net *net = network(4, GATEWAY_HOME, 117);
    struct node *n = net_node(net, 0);
    struct credential_identity mallory = {.role = CREDENTIAL_OPERATOR};
    const struct node_event *all[NODE_EVENTS_MAX + NODE_CAUSED_MAX];
    unsigned nameless = 0, claimed = 0, proven = 0;
    assert_ok(ami_id_from_text(&mallory.name, "mallory"));
    for (unsigned i = 0; i < 100; i++)
        node_on_refused(n, NODE_PORT_ADMIN, "127.0.0.1:1", FAULT_SIGNATURE, NULL, CHANNEL_UNKNOWN);
    net_run_ms(net, NODE_OFTEN_US / 1000);
    node_on_refused(n, NODE_PORT_ADMIN, "127.0.0.1:1", FAULT_EXPIRED, &mallory, CHANNEL_CLAIMED);
    for (unsigned i = 0; i < 100; i++)
        node_on_refused(n, NODE_PORT_ADMIN, "127.0.0.1:1", FAULT_SIGNATURE, NULL, CHANNEL_UNKNOWN);
    node_on_refused(n, NODE_PORT_ADMIN, "127.0.0.1:1", FAULT_REVOKED, &mallory, CHANNEL_PROVEN);
    const size_t count = node_events_after(n, 0, all);
    for (size_t i = 0; i < count; i++) {
        nameless += strstr(all[i]->text, "remote=127.0.0.1:1 reason=signature: ") != NULL;
        claimed += strstr(all[i]->text,
                          "reason=expired: the credential has expired; claimed=mallory") != NULL;
        proven += strstr(all[i]->text,
                         "reason=revoked: the credential has been revoked; who=mallory") != NULL;
    }
    assert_int_equal(nameless, 2 * NODE_OFTEN_SHOWN - 1);
    assert_int_equal(claimed, 1);
    assert_int_equal(proven, 1);
    net_free(net);
}

/* --- disks
 * ----------------------------------------------------------------------------------------
 */

/* consensus.md rule 8: a leader whose disk takes nothing steps down; it comes back when there is
 * room. */
static void a_full_disk_moves_the_leader_and_loses_nothing(void **state)
{
    (void)state;
    struct net *net = network(4, GATEWAY_LEADER, 120);
    struct net_meter m;
    int redirect;
    uint64_t height;
    net_meter_enrol(net, &m, 1, 0);
    net_run_ms(net, 500);
    unsigned full = (unsigned)net_leader(net);
    assert_ok(net_meter_agree(net, &m, full, false, &redirect));
    net_disk(net, full, AMI_FULL);
    net_meter_report(net, &m, 1);
    net_run_ms(net, 10000);
    assert_true(net_leader(net) >= 0 && net_leader(net) != (int)full);
    assert_true(net_node(net, full)->counters.writes_failed > 0);
    assert_ok(net_meter_agree(net, &m, (unsigned)net_leader(net), false, &redirect));
    net_meter_report(net, &m, 1);
    assert_ok(net_meter_ack(net, &m, 1, 5000, &height));
    assert_true(net_height_min(net) < net_height_max(net));
    net_disk(net, full, AMI_OK);
    net_run_ms(net, 5000);
    assert_int_equal(net_height_min(net), net_height_max(net));
    net_free(net);
}

static void full_disks_everywhere_acknowledge_nothing(void **state)
{
    (void)state;
    struct net *net = network(4, GATEWAY_HOME, 121);
    struct net_meter m;
    int redirect;
    uint64_t height;
    net_meter_enrol(net, &m, 1, 0);
    assert_ok(net_meter_agree(net, &m, 0, false, &redirect));
    for (unsigned i = 0; i < 4; i++)
        net_disk(net, i, AMI_FULL);
    uint64_t before = net_height_max(net);
    net_meter_report(net, &m, 1);
    assert_status(net_meter_ack(net, &m, 1, 20000, &height), AMI_TIMEOUT);
    assert_int_equal(net_height_max(net), before);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(net_node(net, i)->counters.acks, 0);
        net_disk(net, i, AMI_OK);
    }
    assert_ok(net_meter_ack(net, &m, 1, 60000, &height));
    net_free(net);
}

/* --- evidence ------------------------------------------------------------------------------------
 */

static bool on_all_ledgers(struct net *net, void *arg)
{
    const unsigned *accused = arg;
    for (unsigned i = 0; i < net_count(net); i++)
        if (registry_at(net_node(net, i)->c.registry, 1 + *accused)->window == 0)
            return false;
    return true;
}

static unsigned events_named(const struct node *n, const char *name, const char *part)
{
    unsigned found = 0;
    const struct node_event *kept[NODE_EVENTS_MAX + NODE_CAUSED_MAX];
    const size_t count = node_events_after(n, 0, kept);
    for (size_t i = 0; i < count; i++)
        if (strcmp(kept[i]->name, name) == 0 && strstr(kept[i]->text, part) != NULL)
            found++;
    return found;
}

/* A grant with a certificate that is not of a lower term, as only a liar signs it. */
static void send_bad_grant(struct net *net, unsigned liar, unsigned to)
{
    struct fixture *f = net_fixture(net);
    const sm3_digest block = sm3(SPAN_LITERAL("x"));
    const struct qc high = fixture_qc(f, VOTE_PREPARE, 9, 9, &block, fixture_quorum(f));
    static struct grant g;
    static uint8_t frame[8192];
    fixture_grant(f, &g, 7, (uint8_t)to, (uint8_t)liar, &high);
    struct writer w = writer_on(frame, sizeof frame);
    frame_begin(&w, MSG_GRANT);
    grant_encode(&w, &g);
    struct net_peer *link = net_dial_as_member(net, to, liar);
    for (unsigned i = 0; i < 5; i++)
        net_send(link, writer_span(&w));
}

/* A member sends one follower something that no honest one signs: that follower puts it on
 * everybody's ledger, and nothing else changes. */
static void a_liar_gets_onto_the_ledger(void **state)
{
    (void)state;
    struct net *net = network(4, GATEWAY_LEADER, 31);
    struct fixture *f = net_fixture(net);
    unsigned leader = (unsigned)net_leader(net), accused = (leader + 1) % 4;
    unsigned witness = (leader + 2) % 4;
    uint64_t term = term_of(net, leader);
    send_bad_grant(net, accused, witness);
    assert_true(net_until(net, 5000, on_all_ledgers, &accused));
    net_run_ms(net, 10000);
    assert_nothing_waits(net);
    for (unsigned i = 0; i < 4; i++) {
        const struct node *n = net_node(net, i);
        for (unsigned m = 0; m < 4; m++)
            assert_int_equal(registry_at(n->c.registry, 1 + m)->window,
                             m == accused ? 1u << EVIDENCE_GRANT : 0);
        assert_int_equal(n->counters.evidence_found, i == witness ? 1 : 0);
        assert_int_equal(n->counters.evidence_committed, 1);
        assert_int_equal(events_named(n, "evidence_committed", f->dc[accused].name.text), 1);
        assert_int_equal(events_named(n, "evidence", "kind=bad_grant"), i == witness ? 1 : 0);
        assert_int_equal(term_of(net, i), term);
    }
    assert_int_equal(net_leader(net), (int)leader);
    net_free(net);
}

/* The liar leads, and loses every piece of evidence against itself: the others depose it, and the
 * next leader puts it on the ledger. */
static void a_leader_cannot_hide_what_it_did(void **state)
{
    (void)state;
    struct net *net = network(4, GATEWAY_LEADER, 33);
    unsigned liar = (unsigned)net_leader(net);
    uint64_t term = term_of(net, liar), end = net_now_us(net) + 20000000;
    send_bad_grant(net, liar, (liar + 1) % 4);
    while (!on_all_ledgers(net, &liar)) {
        struct pool *pool = net_node(net, liar)->pool;
        struct pool_entry *e = pool_find_evidence(pool, (uint8_t)liar, EVIDENCE_GRANT);
        if (e != NULL)
            pool_remove(pool, e, net_now_us(net));
        assert_true(net_now_us(net) < end);
        net_run_ms(net, 1);
    }
    net_run_ms(net, 1000);
    assert_true(term_of(net, (liar + 1) % 4) > term);
    assert_int_not_equal(net_leader(net), (int)liar);
    assert_nothing_waits(net);
    net_free(net);
}

/* A member that has nothing to lose hands everybody but the leader evidence against itself, ever
 * new and all of it good: some of it gets onto the ledger, once for each kind, and deposes nobody.
 */
static void evidence_deposes_nobody_honest(void **state)
{
    (void)state;
    struct net *net = network(4, GATEWAY_LEADER, 32);
    struct fixture *f = net_fixture(net);
    struct fixture_body *b = fixture_body();
    static struct fixture_evidence x;
    unsigned leader = (unsigned)net_leader(net), accused = (leader + 1) % 4;
    uint64_t term = term_of(net, leader);
    struct net_peer *liar[4] = {NULL};
    for (unsigned i = 0; i < 4; i++)
        if (i != leader && i != accused)
            liar[i] = net_dial_as_member(net, i, accused);
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < 4; i++)
            for (uint8_t kind = EVIDENCE_VOTES; liar[i] != NULL && kind < EVIDENCE_KIND_END;
                 kind++) {
                fixture_clear(b);
                fixture_evidence(&x, f, (uint8_t)accused, kind);
                fixture_evidence_tx(b, &x.e);
                net_submit(liar[i], fixture_last(b));
            }
        net_run_ms(net, 500);
        for (unsigned i = 0; i < 4; i++)
            assert_true(pool_count(net_node(net, i)->pool) < EVIDENCE_KIND_END);
    }
    net_run_ms(net, 10000);
    assert_nothing_waits(net);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(registry_at(net_node(net, i)->c.registry, 1 + accused)->window, 0x7e);
        assert_int_equal(net_node(net, i)->counters.evidence_committed, EVIDENCE_KIND_END - 1);
        assert_int_equal(term_of(net, i), term);
    }
    assert_int_equal(net_leader(net), (int)leader);
    free(b);
    net_free(net);
}

/* --- two blocks for one height
 * --------------------------------------------------------------------
 */

/* An election certificate that the first three members signed for `leader`. */
static void elect(struct fixture *f, struct election_cert *out, uint64_t term, uint8_t leader)
{
    uint8_t random[SM2_WIDE_BYTES], bytes[512];
    memset(out, 0, sizeof *out);
    out->prevotes = (struct prevote_cert){.chain = f->genesis.members.chain,
                                          .epoch = f->genesis.members.epoch,
                                          .term = term,
                                          .candidate = leader,
                                          .signers = 14,
                                          .signatures_count = 3};
    struct writer w = writer_on(bytes, sizeof bytes);
    write_raw(&w, f->genesis.members.chain.b, SM3_BYTES);
    write_u32(&w, f->genesis.members.epoch);
    write_u64(&w, term);
    write_u8(&w, leader);
    const struct span signed_part = writer_span(&w);
    for (uint8_t i = 1; i < 4; i++) {
        fixture_random(f, random);
        out->prevotes.signatures[i - 1] =
            sign_key_sign(&f->dc[i].key, LABEL_PREVOTE, &signed_part, 1, random);
    }
    out->grants_count = 3;
    for (uint8_t i = 1; i < 4; i++) {
        struct grant *g = &out->grants[i - 1];
        *g = (struct grant){.chain = f->genesis.members.chain,
                            .epoch = f->genesis.members.epoch,
                            .term = term,
                            .candidate = leader,
                            .voter = i};
        uint8_t grant[1024];
        struct writer gw = writer_on(grant, sizeof grant);
        grant_encode(&gw, g);
        const struct span part = span_of(grant, gw.size - SM2_SIGNATURE_BYTES);
        fixture_random(f, random);
        g->signature = sign_key_sign(&f->dc[i].key, LABEL_GRANT, &part, 1, random);
    }
}

static void propose(struct net *net, struct net_peer *p, uint64_t term, uint8_t leader,
                    const struct block_header *h, struct span body)
{
    struct fixture *f = net_fixture(net);
    struct proposal_core *core = calloc(1, sizeof *core);
    uint8_t *out = malloc(1u << 16);
    core->term = term;
    core->leader = leader;
    core->header = *h;
    core->has_election = true;
    elect(f, &core->election, term, leader);
    struct writer w = writer_on(out, 1u << 16);
    frame_begin(&w, MSG_PROPOSAL);
    proposal_core_encode(&w, core);
    struct proposal_head head;
    proposal_head_of(&head, core, span_of(out + 2, w.size - 2));
    const sm3_digest rest = head.rest;
    fixture_head(f, &head, term, leader, h, &rest);
    memcpy(out + w.size - SM2_SIGNATURE_BYTES, head.signature.b, SM2_SIGNATURE_BYTES);
    write_bytes(&w, body);
    assert_true(writer_ok(&w));
    net_send(p, writer_span(&w));
    free(out);
    free(core);
}

static struct block_header block_of(struct net *net, const struct fixture_body *b, uint64_t term,
                                    uint8_t proposer)
{
    struct fixture *f = net_fixture(net);
    const struct block_parent parent = {0, f->genesis.members.chain, f->genesis.created_ms};
    struct block_header h;
    struct tx_view tx;
    registry_stage_begin(f->registry, 1);
    assert_ok(tx_view_parse(&tx, fixture_last(b)));
    assert_ok(registry_stage_tx(f->registry, &tx));
    assert_ok(block_build(&h, f->registry, &parent, term, proposer, f->genesis.created_ms + 1500,
                          fixture_span(b)));
    registry_stage_drop(f->registry);
    return h;
}

/* A block is certified while another one of its height is being checked here, and the check ends
 * before the write: the registry takes up the certified one. (With honest quorums that needs a
 * prepare certificate that turns up late; here the three others sign whatever the test wants.) */
static void the_registry_follows_the_certified_block(void **state)
{
    (void)state;
    struct net *net = net_new(4, GATEWAY_HOME, 130);
    struct fixture *f = net_fixture(net);
    for (unsigned i = 1; i < 4; i++)
        net_kill(net, i);
    struct fixture_body *b[2] = {fixture_body(), fixture_body()};
    struct fixture_device meter[2] = {fixture_meter(f, 1), fixture_meter(f, 2)};
    struct block_header h[2];
    for (unsigned i = 0; i < 2; i++) {
        f->mdms_number = 0;
        fixture_meter_enrol(f, b[i], &meter[i], &f->dc[0].name);
        h[i] = block_of(net, b[i], i + 1, (uint8_t)(i + 1));
    }
    struct net_peer *one = net_dial_as_member(net, 0, 1), *two = net_dial_as_member(net, 0, 2);
    struct node *n = net_node(net, 0);
    propose(net, one, 1, 1, &h[0], fixture_span(b[0]));
    net_run_ms(net, 100); /* checked and voted for */
    assert_int_equal(term_of(net, 0), 1);
    net_work(net, 5000); /* so that the check ends amid the write of the commit */
    sm3_digest hash = block_hash(&h[0]);
    struct qc_announce a = {fixture_qc(f, VOTE_COMMIT, 1, 1, &hash, 14)};
    uint8_t out[2048];
    struct writer w = writer_on(out, sizeof out);
    frame_begin(&w, MSG_QC_ANNOUNCE);
    qc_announce_encode(&w, &a);
    propose(net, two, 2, 2, &h[1], fixture_span(b[1]));
    net_send(two, writer_span(&w));
    net_run_ms(net, 500);
    assert_int_equal(term_of(net, 0), 2);
    struct certified_block stored;
    assert_true(net_block(net, 0, 1, &stored));
    sm3_digest root = registry_root(n->c.registry);
    assert_memory_equal(&root, &h[0].state_root, sizeof root);
    assert_non_null(registry_find(n->c.registry, RECORD_METER, &meter[0].name, 1));
    assert_null(registry_find(n->c.registry, RECORD_METER, &meter[1].name, 1));
    free(b[0]);
    free(b[1]);
    net_free(net);
}

/* --- ends
 * -----------------------------------------------------------------------------------------
 */

/* Whatever is under way, all memory is given back (the sanitizer looks) and nothing is touched any
 * more. */
static void a_node_may_end_at_any_moment(void **state)
{
    (void)state;
    for (uint64_t us = 0; us < 20000; us += 800) {
        struct net *net = network(4, GATEWAY_HOME, 140);
        struct net_meter m;
        int redirect;
        net_meter_enrol(net, &m, 1, 0);
        assert_ok(net_meter_agree(net, &m, 0, false, &redirect));
        for (uint64_t s = 1; s <= 4; s++)
            net_meter_report(net, &m, s);
        net_run_us(net, 48000 + us);
        for (unsigned i = 0; i < 4; i++)
            net_kill(net, i);
        net_free(net);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_report_settled_while_it_is_checked_does_not_wait_for_ever),
        cmocka_unit_test(a_noisy_meter_holds_up_nobody),
        cmocka_unit_test(a_skip_that_was_overtaken_deposes_nobody),
        cmocka_unit_test(a_number_with_a_gap_before_it_deposes_nobody),
        cmocka_unit_test(a_number_that_is_void_is_dropped_and_its_successors_wait),
        cmocka_unit_test(epochs_to_come_are_not_looked_for),
        cmocka_unit_test(a_forged_number_ends_no_session),
        cmocka_unit_test(a_spoofed_flight_does_not_take_the_meters_place),
        cmocka_unit_test(a_meter_holds_one_link),
        cmocka_unit_test(strangers_do_not_fill_the_log),
        cmocka_unit_test(a_refusal_names_whom_it_can),
        cmocka_unit_test(a_full_disk_moves_the_leader_and_loses_nothing),
        cmocka_unit_test(full_disks_everywhere_acknowledge_nothing),
        cmocka_unit_test(the_registry_follows_the_certified_block),
        cmocka_unit_test(a_node_may_end_at_any_moment),
        cmocka_unit_test(a_liar_gets_onto_the_ledger),
        cmocka_unit_test(a_leader_cannot_hide_what_it_did),
        cmocka_unit_test(evidence_deposes_nobody_honest),
    };
    return cmocka_run_group_tests(tests, start_crypto, NULL);
}
