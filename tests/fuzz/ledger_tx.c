/* A transaction, and a body of them, as any data concentrator may send it. What is accepted encodes
 * to the same bytes and can be asked about without harm. */
#include "tests/fuzz/fuzz.h"

#include "base/check.h"
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
    if (data[0] % 2 == 0)
        one_tx(in);
    else
        whole_body(in);
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
        switch ((index + i) % 7) {
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
        default:
            fixture_skip(f, body, &meter, index % 70);
            break;
        }
    }
    struct span s = body->count == 1 ? fixture_last(body) : fixture_span(body);
    if (s.size + 1 > capacity)
        return 0;
    out[0] = body->count == 1 ? 0 : 1;
    memcpy(out + 1, s.data, s.size);
    return s.size + 1;
}
