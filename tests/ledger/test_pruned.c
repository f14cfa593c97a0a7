/* Retention and pruned blocks: when a watermark is admissible, that a pruned block proves and
 * replays what the whole one did, that no byte of it can be changed, and where it is not taken. */
#include "tests/harness.h"

#include "crypto/secret.h"
#include "ledger/pruned.h"
#include "tests/ledger/fixture.h"

#include <stdlib.h>
#include <string.h>

#define BLOCKS 80

static struct fixture *f;
static struct fixture_body *body;
static struct fixture_device meter;
static struct fixture_block *chain[BLOCKS + 1]; /* by height */
static uint8_t pruned_bytes[1u << 20];

/* Block 1 enrols a meter, the others hold two of its reports each. */
static int start(void **state)
{
    (void)state;
    f = fixture_new(4, 5);
    body = fixture_body();
    meter = fixture_meter(f, 1);
    fixture_meter_enrol(f, body, &meter, &f->dc[0].name);
    for (uint64_t h = 1; h <= BLOCKS; h++) {
        if (h > 1) {
            fixture_report(f, body, &meter, &f->dc[h % 4], 60);
            fixture_report(f, body, &meter, &f->dc[(h + 1) % 4], 300);
        }
        chain[h] = fixture_commit(f, body, 1);
        fixture_clear(body);
    }
    return 0;
}

static int stop(void **state)
{
    (void)state;
    for (uint64_t h = 1; h <= BLOCKS; h++)
        fixture_block_free(chain[h]);
    fixture_free(f);
    free(body);
    return 0;
}

static struct span pruned_of(struct span whole)
{
    bool changed;
    struct writer w = writer_on(pruned_bytes, sizeof pruned_bytes);
    assert_ok(body_prune(&w, whole, &changed));
    return writer_span(&w);
}

/* Would the last transaction of `body` stand at the start of the next block? */
static enum ami_status judge(void)
{
    struct tx_view tx;
    assert_ok(tx_view_parse(&tx, fixture_last(body)));
    registry_stage_begin(f->registry, f->tip.height + 1);
    enum ami_status status = registry_stage_tx(f->registry, &tx);
    registry_stage_drop(f->registry);
    fixture_clear(body);
    return status;
}

static enum ami_status judge_below(uint64_t below)
{
    fixture_retention(f, body, below);
    f->mdms_number--;
    return judge();
}

/* --- the transaction ---------------------------------------------------------------------------
 */

static void a_watermark_rises_and_keeps_its_distance(void **state)
{
    (void)state;
    const uint64_t next = f->tip.height + 1, most = next - RETENTION_MARGIN;
    assert_int_equal(registry_retention(f->registry), 0);
    assert_ok(judge_below(2));
    assert_ok(judge_below(most));
    assert_status(judge_below(most + 1), AMI_SEQUENCE_AHEAD);
    assert_status(judge_below(UINT64_MAX), AMI_SEQUENCE_AHEAD);
    fixture_retention(f, body, 9);
    fixture_block_free(fixture_commit(f, body, 1));
    fixture_clear(body);
    /* The watermark is in the state: but for it the root is another one. */
    struct registry *other = registry_new(&f->genesis);
    assert_non_null(other);
    for (uint64_t i = 0; i < registry_size(f->registry); i++) {
        struct record rec = *registry_at(f->registry, i);
        if (i == 0)
            rec.window = 8;
        assert_ok(registry_load(other, i, &rec));
    }
    sm3_digest root = registry_root(f->registry), without = registry_root(other);
    assert_memory_not_equal(&root, &without, sizeof root);
    registry_free(other);
    assert_int_equal(registry_retention(f->registry), 9);
    assert_int_equal(registry_pruned_below(f->registry), 9);
    assert_status(judge_below(9), AMI_SEQUENCE_SETTLED);
    assert_status(judge_below(8), AMI_SEQUENCE_SETTLED);
    assert_ok(judge_below(10));
    /* Its number is the next one of the MDMS's. */
    fixture_retention(f, body, 10);
    f->mdms_number--;
    struct tx_view tx;
    assert_ok(tx_view_parse(&tx, fixture_last(body)));
    assert_int_equal(tx_mdms_number(&tx), registry_at(f->registry, 0)->floor + 1);
    f->mdms_number++;
    fixture_clear(body);
    fixture_retention(f, body, 10);
    assert_status(judge(), AMI_SEQUENCE_AHEAD);
}

/* A DC that hears of it before it has the blocks keeps it. */
static void one_that_comes_too_early_waits(void **state)
{
    (void)state;
    struct tx_view tx;
    fixture_retention(f, body, f->tip.height);
    assert_ok(tx_view_parse(&tx, fixture_last(body)));
    assert_ok(registry_admits(f->registry, &tx));
    fixture_clear(body);
    f->mdms_number--;
    fixture_retention(f, body, 5);
    fixture_block_free(fixture_commit(f, body, 1));
    fixture_clear(body);
    fixture_retention(f, body, 5);
    assert_ok(tx_view_parse(&tx, fixture_last(body)));
    assert_status(registry_admits(f->registry, &tx), AMI_SEQUENCE_SETTLED);
}

static void it_survives_loading(void **state)
{
    (void)state;
    fixture_retention(f, body, 9);
    fixture_block_free(fixture_commit(f, body, 1));
    struct registry *r = registry_new(&f->genesis);
    assert_non_null(r);
    for (uint64_t i = 0; i < registry_size(f->registry); i++)
        assert_ok(registry_load(r, i, registry_at(f->registry, i)));
    registry_loaded(r, f->tip.height);
    sm3_digest a = registry_root(f->registry), b = registry_root(r);
    assert_memory_equal(&a, &b, sizeof a);
    assert_int_equal(registry_retention(r), 9);
    registry_free(r);
}

static void only_the_mdms_allows_it(void **state)
{
    (void)state;
    uint64_t below = 0;
    uint8_t bytes[RETENTION_TX_BYTES];
    fixture_retention(f, body, 33);
    const struct span good = fixture_last(body);
    assert_int_equal(good.size, sizeof bytes);
    assert_ok(retention_check(&f->genesis, good, &below));
    assert_int_equal(below, 33);
    memcpy(bytes, good.data, good.size);
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] ^= 1;
        below = 7;
        assert_int_not_equal(retention_check(&f->genesis, span_of(bytes, sizeof bytes), &below),
                             AMI_OK);
        assert_int_equal(below, 7);
        bytes[i] ^= 1;
    }
    struct genesis *other = malloc(sizeof *other);
    assert_non_null(other);
    *other = f->genesis;
    other->members.chain.b[3] ^= 4;
    assert_status(retention_check(other, good, &below), AMI_BAD_SIGNATURE);
    free(other);
    struct fixture_device m = fixture_meter(f, 2);
    fixture_meter_enrol(f, body, &m, &f->dc[0].name);
    assert_status(retention_check(&f->genesis, fixture_last(body), &below), AMI_BAD_ARGUMENT);
    fixture_retention(f, body, 1); /* there is no block below */
    assert_status(retention_check(&f->genesis, fixture_last(body), &below), AMI_BAD_ARGUMENT);
}

/* --- pruned blocks -----------------------------------------------------------------------------
 */

static void ids_leaves_and_what_the_meter_signed_stay(void **state)
{
    (void)state;
    const struct span whole = chain[7]->body, pruned = pruned_of(whole);
    assert_false(body_is_pruned(whole));
    assert_true(body_is_pruned(pruned));
    assert_true(pruned.size < whole.size);
    struct body_reader a = body_reader_on(whole), b = body_reader_on(pruned);
    struct span x, y;
    unsigned count = 0;
    for (; body_next(&a, &x); count++) {
        struct tx_view w, p;
        assert_true(body_next(&b, &y));
        assert_ok(tx_view_parse(&w, x));
        assert_status(tx_view_parse(&p, y), AMI_BAD_ARGUMENT);
        assert_ok(tx_view_parse_kept(&p, y));
        assert_int_equal(p.tx.kind, TX_REPORT);
        assert_true(p.pruned && !w.pruned);
        assert_memory_equal(&p.id, &w.id, sizeof p.id);
        const sm3_digest second = tx_second(&w), kept = tx_second(&p);
        assert_memory_equal(&kept, &second, sizeof kept);
        assert_true(span_equal(p.tx.first, w.tx.first));
        assert_int_equal(p.u.report.meter.sequence, w.u.report.meter.sequence);
    }
    assert_int_equal(count, 2);
    assert_true(body_ok(&b));
    /* Once more changes nothing. */
    static uint8_t again[1u << 16];
    struct writer w = writer_on(again, sizeof again);
    bool changed = true;
    assert_ok(body_prune(&w, pruned, &changed));
    assert_false(changed);
    assert_true(span_equal(writer_span(&w), pruned));
    /* Nor has a block without reports anything to lose. */
    w = writer_on(again, sizeof again);
    assert_ok(body_prune(&w, chain[1]->body, &changed));
    assert_false(changed);
    assert_true(span_equal(writer_span(&w), chain[1]->body));
}

static void what_is_no_body_is_not_pruned(void **state)
{
    (void)state;
    uint8_t out[4096], bytes[4096];
    bool changed;
    const struct span whole = chain[3]->body;
    unsigned good = 0;
    for (size_t cut = 1; cut < whole.size; cut++) {
        struct writer w = writer_on(out, sizeof out);
        enum ami_status status = body_prune(&w, span_of(whole.data, cut), &changed);
        struct body_reader it = body_reader_on(whole);
        struct span first;
        assert_true(body_next(&it, &first));
        good += status == AMI_OK;
        assert_status(status, cut == first.size + 4 ? AMI_OK : AMI_BAD_ENCODING);
    }
    assert_int_equal(good, 1);
    memcpy(bytes, whole.data, whole.size);
    bytes[5] ^= 0x40; /* the size of the first part */
    struct writer w = writer_on(out, sizeof out);
    assert_status(body_prune(&w, span_of(bytes, whole.size), &changed), AMI_BAD_ENCODING);
}

/* Replays the chain on another registry, blocks below `pruned_below` pruned. */
static struct registry *replay(uint64_t pruned_below, uint64_t to)
{
    struct registry *r = registry_new(&f->genesis);
    struct block_parent parent = {0, f->genesis.members.chain, f->genesis.created_ms};
    assert_non_null(r);
    registry_show_retention(r, pruned_below);
    for (uint64_t h = 1; h <= to; h++) {
        uint32_t bad;
        const struct fixture_block *b = chain[h];
        const struct span txs = h < pruned_below ? pruned_of(b->body) : b->body;
        assert_ok(block_check_header(&f->genesis.parameters, registry_members(r, h), &b->header,
                                     &parent));
        assert_ok(block_check_body(r, &b->header, txs, &bad));
        assert_ok(block_stage(r, &b->header, txs, &bad));
        registry_stage_commit(r);
        parent = (struct block_parent){h, b->hash, b->header.timestamp_ms};
    }
    return r;
}

static void a_pruned_ledger_replays_to_the_same_state(void **state)
{
    (void)state;
    struct registry *r = replay(50, BLOCKS);
    sm3_digest a = registry_root(f->registry), b = registry_root(r);
    assert_memory_equal(&a, &b, sizeof a);
    registry_free(r);
}

/* Above the watermark, or without one, only the whole block will do. */
static void it_is_not_taken_above_the_watermark(void **state)
{
    (void)state;
    uint32_t bad = 9;
    struct registry *r = replay(0, 29);
    const struct span pruned = pruned_of(chain[30]->body);
    assert_status(block_check_body(r, &chain[30]->header, pruned, &bad), AMI_BAD_ARGUMENT);
    assert_int_equal(bad, 0);
    registry_show_retention(r, 30);
    assert_status(block_check_body(r, &chain[30]->header, pruned, &bad), AMI_BAD_ARGUMENT);
    registry_show_retention(r, 31);
    assert_ok(block_check_body(r, &chain[30]->header, pruned, &bad));
    registry_show_retention(r, 5); /* it does not sink again */
    assert_ok(block_check_body(r, &chain[30]->header, pruned, &bad));
    assert_ok(block_check_body(r, &chain[30]->header, chain[30]->body, &bad));
    registry_free(r);
}

/* Every byte of it is bound to the header. */
static void no_byte_of_it_can_be_changed(void **state)
{
    (void)state;
    uint32_t bad;
    uint8_t bytes[1024];
    struct registry *r = replay(31, 29);
    const struct span pruned = pruned_of(chain[30]->body);
    assert_true(pruned.size <= sizeof bytes);
    memcpy(bytes, pruned.data, pruned.size);
    for (size_t i = 0; i < pruned.size; i++) {
        bytes[i] ^= 1;
        assert_int_not_equal(
            block_check_body(r, &chain[30]->header, span_of(bytes, pruned.size), &bad), AMI_OK);
        bytes[i] ^= 1;
    }
    registry_free(r);
}

/* The Merkle root is right, but the meter never signed: only whoever makes blocks could do that,
 * and it is found as in a whole block. */
static void the_meters_signature_is_still_checked(void **state)
{
    (void)state;
    uint32_t bad = 9;
    uint8_t whole[4096];
    struct registry *r = replay(31, 29);
    struct block_header header = chain[30]->header;
    memcpy(whole, chain[30]->body.data, chain[30]->body.size);
    struct body_reader it = body_reader_on(span_of(whole, chain[30]->body.size));
    struct span encoded;
    struct tx_view tx;
    sm3_digest leaves[2];
    assert_true(body_next(&it, &encoded));
    assert_ok(tx_view_parse(&tx, encoded));
    whole[(size_t)(tx.tx.first.data - whole) + tx.tx.first.size - 1] ^= 1;
    it = body_reader_on(span_of(whole, chain[30]->body.size));
    for (unsigned i = 0; i < 2; i++) {
        assert_true(body_next(&it, &encoded));
        assert_ok(tx_view_parse(&tx, encoded));
        leaves[i] = tx_leaf(&tx.id);
    }
    header.merkle_root = merkle_root(leaves, 2);
    assert_status(
        block_check_body(r, &header, pruned_of(span_of(whole, chain[30]->body.size)), &bad),
        AMI_BAD_SIGNATURE);
    assert_int_equal(bad, 0);
    registry_free(r);
}

/* A revoked gateway is no reason any more: the quorum of that time has judged it. The rest of the
 * registry's rules hold. */
static void the_rules_hold_but_for_the_gateway(void **state)
{
    (void)state;
    uint32_t bad;
    struct registry *r = replay(31, 30);
    /* The same reports again. */
    assert_ok(block_check_body(r, &chain[30]->header, pruned_of(chain[30]->body), &bad));
    assert_status(block_stage(r, &chain[30]->header, pruned_of(chain[30]->body), &bad),
                  AMI_SEQUENCE_SETTLED);
    assert_int_equal(bad, 0);
    registry_free(r);
}

/* --- the consumer's proof ----------------------------------------------------------------------
 */

static void a_consumers_proof_needs_no_gateway_part(void **state)
{
    (void)state;
    char why[256] = "";
    uint8_t salt[16], m[60];
    struct proof *p = malloc(sizeof *p);
    assert_non_null(p);
    struct fixture_block pruned = *chain[30];
    pruned.body = pruned_of(chain[30]->body);
    *p = fixture_proof(&pruned, 0, chain[1], 0);
    assert_int_equal(p->tx.data[0], TX_PRUNED_REPORT);
    assert_ok(proof_check(p, &f->genesis, why, sizeof why));
    fixture_opening(salt, m, sizeof m, &meter, 2 * (30 - 2) + 1);
    char *given = proof_print(p), *text = NULL;
    assert_non_null(given);
    assert_ok(proof_complete(&text, span_of(given, strlen(given)), &f->genesis, salt,
                             span_of(m, sizeof m), why, sizeof why));
    assert_ok(proof_is_of(text, &meter.name, 1, 2 * (30 - 2) + 1, why, sizeof why));
    free(text);
    free(given);
    /* Not of a reading that the meter did not make. */
    p->has_opening = true;
    memcpy(p->salt, salt, sizeof salt);
    m[3] ^= 1;
    p->m = span_of(m, sizeof m);
    assert_status(proof_check(p, &f->genesis, why, sizeof why), AMI_BAD_PROOF);
    /* An enrolment is never a pruned one. */
    p->has_opening = false;
    p->enrolment = p->tx;
    assert_int_not_equal(proof_check(p, &f->genesis, why, sizeof why), AMI_OK);
    free(p);
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_watermark_rises_and_keeps_its_distance, start, stop),
        cmocka_unit_test_setup_teardown(one_that_comes_too_early_waits, start, stop),
        cmocka_unit_test_setup_teardown(it_survives_loading, start, stop),
        cmocka_unit_test_setup_teardown(only_the_mdms_allows_it, start, stop),
        cmocka_unit_test_setup_teardown(ids_leaves_and_what_the_meter_signed_stay, start, stop),
        cmocka_unit_test_setup_teardown(what_is_no_body_is_not_pruned, start, stop),
        cmocka_unit_test_setup_teardown(a_pruned_ledger_replays_to_the_same_state, start, stop),
        cmocka_unit_test_setup_teardown(it_is_not_taken_above_the_watermark, start, stop),
        cmocka_unit_test_setup_teardown(no_byte_of_it_can_be_changed, start, stop),
        cmocka_unit_test_setup_teardown(the_meters_signature_is_still_checked, start, stop),
        cmocka_unit_test_setup_teardown(the_rules_hold_but_for_the_gateway, start, stop),
        cmocka_unit_test_setup_teardown(a_consumers_proof_needs_no_gateway_part, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
