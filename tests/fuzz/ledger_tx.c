/* A transaction, and a body of them, as any data concentrator may send it. What is accepted encodes
 * to the same bytes and can be asked about without harm. */
#include "tests/fuzz/fuzz.h"

#include "base/check.h"
#include "ledger/pruned.h"
#include "tests/ledger/fixture.h"

#include <stdlib.h>
#include <string.h>

static struct fixture *f;
static struct fixture_device meter;
static struct fixture_body *body;

static void start_once(void)
{
    if (f != NULL)
        return;
    f = fixture_new(4, 1);
    body = fixture_body();
    meter = fixture_meter(f, 1);
    fixture_meter_enrol(f, body, &meter, &f->dc[0].name);
    fixture_block_free(fixture_commit(f, body, 1));
}

static void one_tx(struct span in)
{
    static uint8_t again[AMI_TX_BYTES_MAX];
    struct tx_view tx;
    struct tx_check check;
    if (tx_view_parse(&tx, in) != AMI_OK)
        return;
    struct writer w = writer_on(again, sizeof again);
    tx_encode(&w, &tx.tx);
    AMI_CHECK(writer_ok(&w) && span_equal(writer_span(&w), in));
    sm3_digest root = registry_root(f->registry);
    bool admitted = registry_admits(f->registry, &tx) == AMI_OK;
    bool known = registry_check_prepare(f->registry, &tx, &check) == AMI_OK;
    if (known)
        (void)!tx_check_run(&check, &tx);
    registry_stage_begin(f->registry, 2);
    bool staged = registry_stage_tx(f->registry, &tx) == AMI_OK;
    AMI_CHECK(admitted || !staged);
    sm3_digest after = registry_stage_root(f->registry);
    AMI_CHECK(sm3_equal(&root, &after) == !staged);
    registry_stage_drop(f->registry);
    after = registry_root(f->registry);
    AMI_CHECK(sm3_equal(&root, &after));
}

/* As a block keeps it: a report perhaps pruned. The two ways of reading agree where both do. */
static void kept_tx(struct span in)
{
    static uint8_t again[AMI_TX_BYTES_MAX];
    struct tx_view kept, tx;
    const enum ami_status status = tx_view_parse_kept(&kept, in);
    const bool whole = tx_view_parse(&tx, in) == AMI_OK;
    AMI_CHECK(whole == (status == AMI_OK && !kept.pruned));
    if (status != AMI_OK)
        return;
    AMI_CHECK(!whole || sm3_equal(&kept.id, &tx.id));
    if (!kept.pruned)
        return;
    const struct tx t = {TX_PRUNED_REPORT, kept.tx.first, span_of(kept.second.b, SM3_BYTES)};
    struct writer w = writer_on(again, sizeof again);
    tx_encode(&w, &t);
    AMI_CHECK(kept.tx.kind == TX_REPORT && span_equal(writer_span(&w), in));
}

/* Pruned, a body keeps its ids, is no longer than before, and is pruned no further. */
static void pruned_body(struct span in)
{
    static uint8_t once[1u << 20], twice[1u << 20];
    bool changed, again;
    struct writer w = writer_on(once, in.size), x = writer_on(twice, in.size);
    if (in.size > sizeof once || body_prune(&w, in, &changed) != AMI_OK)
        return;
    const struct span pruned = writer_span(&w);
    AMI_CHECK(changed != span_equal(pruned, in));
    AMI_CHECK(body_prune(&x, pruned, &again) == AMI_OK && !again);
    struct body_reader a = body_reader_on(in), b = body_reader_on(pruned);
    struct span p, q;
    while (body_next(&a, &p)) {
        struct tx_view before, after;
        AMI_CHECK(body_next(&b, &q));
        kept_tx(q);
        if (tx_view_parse_kept(&before, p) != AMI_OK)
            continue;
        AMI_CHECK(tx_view_parse_kept(&after, q) == AMI_OK);
        AMI_CHECK(sm3_equal(&before.id, &after.id));
    }
    AMI_CHECK(body_ok(&b));
}

static void whole_body(struct span in)
{
    struct block_header h = {
        .version = 1, .chain = f->genesis.members.chain, .height = 2, .term = 1};
    struct body_reader it = body_reader_on(in);
    struct span encoded;
    uint32_t bad;
    while (body_next(&it, &encoded))
        h.tx_count++;
    AMI_CHECK(block_check_body(f->registry, &h, in, &bad) != AMI_OK || h.tx_count == 0);
    AMI_CHECK(block_stage(f->registry, &h, in, &bad) != AMI_OK);
    AMI_CHECK(!registry_staged(f->registry));
}

/* The first byte chooses. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    start_once();
    if (size == 0)
        return 0;
    struct span in = span_of(data + 1, size - 1);
    if (data[0] % 2 == 0) {
        one_tx(in);
        kept_tx(in);
    } else {
        whole_body(in);
        pruned_body(in);
    }
    return 0;
}

/* Of each kind; numbers and windows as they may be, or not. */
size_t fuzz_seed(uint64_t index, uint8_t *out, size_t capacity)
{
    start_once();
    f->rng = index;
    f->mdms_number = index % 3;
    meter.sequence = index % 70;
    fixture_clear(body);
    for (unsigned i = 0; i <= index / 5 % 3; i++) {
        switch ((index + i) % 8) {
        case 0:
            fixture_report(f, body, &meter, &f->dc[index % 4], index % 200);
            break;
        case 1: {
            struct fixture_device m = fixture_meter(f, 2);
            fixture_meter_enrol(f, body, &m, &f->dc[0].name);
            break;
        }
        case 2: {
            struct fixture_device dc = fixture_device(f, ROLE_DC_SIGN, fixture_id("dc-9"), 1);
            fixture_dc_enrol(f, body, &dc);
            break;
        }
        case 3: {
            struct fixture_device dc = fixture_device(f, ROLE_DC_SIGN, fixture_id("dc-9"), 1);
            const bool joins = index % 2 == 0;
            fixture_membership(f, body, joins ? MEMBER_JOIN : MEMBER_LEAVE, joins ? &dc : &f->dc[1],
                               1 + (uint32_t)(index % 9));
            break;
        }
        case 4:
            fixture_revoke(f, body, 1 + index % 2, &meter.name, 1);
            break;
        case 5: {
            struct fixture_evidence x;
            fixture_evidence(&x, f, (uint8_t)(index % 4),
                             (uint8_t)(1 + index / 7 % (EVIDENCE_KIND_END - 1)));
            fixture_evidence_tx(body, &x.e);
            break;
        }
        case 6:
            fixture_retention(f, body, index % 100);
            break;
        default:
            fixture_skip(f, body, &meter, index % 70);
            break;
        }
    }
    static uint8_t pruned[1u << 16];
    struct span s = fixture_span(body);
    struct writer w = writer_on(pruned, sizeof pruned);
    bool changed;
    if (index % 11 == 3 && body_prune(&w, s, &changed) == AMI_OK)
        s = writer_span(&w);
    if (body->count == 1)
        s = span_of(s.data + 4, s.size - 4);
    if (s.size + 1 > capacity)
        return 0;
    out[0] = body->count == 1 ? 0 : 1;
    memcpy(out + 1, s.data, s.size);
    return s.size + 1;
}
