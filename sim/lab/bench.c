#include "sim/lab/bench.h"

#include "base/check.h"
#include "ledger/committee.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STREAM_BENCH  7100
#define BODY_BYTES    (8 * BENCH_TX_BYTES)
#define TERM          5
#define LEADER        0
#define BLOCK_STEP_MS 1000

static void draw(struct bench *b, uint8_t random[SM2_WIDE_BYTES])
{
    sim_random_bytes(&b->random, random, SM2_WIDE_BYTES);
}

static struct span enrolment(struct bench *b, unsigned i, uint8_t out[BENCH_TX_BYTES])
{
    const struct device_keys *m = &b->cast->meter[i];
    uint8_t first[512], random[SM2_WIDE_BYTES];
    point_bytes part = point_encode(&m->agree.w);
    struct meter_enrol e = {.number = i + 1u,
                            .meter = m->name,
                            .epoch = m->epoch,
                            .home_dc = m->home_dc,
                            .w_report = point_encode(&m->sign.public_key.w),
                            .agree_part = span_of(part.b, sizeof part.b)};
    struct writer w = writer_on(first, sizeof first);
    meter_enrol_encode(&w, &e);
    AMI_CHECK(writer_ok(&w));
    draw(b, random);
    sm2_signature sig =
        mdms_tx_sign(&b->cast->keys.net, &b->cast->keys.sign, &b->genesis->members.chain,
                     TX_METER_ENROL, writer_span(&w), random);
    struct writer tx = writer_on(out, BENCH_TX_BYTES);
    mdms_tx_encode(&tx, TX_METER_ENROL, writer_span(&w), &sig);
    AMI_CHECK(writer_ok(&tx));
    return writer_span(&tx);
}

struct bench *bench_new(const struct scheme *scheme, uint64_t seed)
{
    const struct sim_cast_size size = {.dcs = BENCH_DCS,
                                       .meters = BENCH_METERS,
                                       .scheme = scheme->number,
                                       .gateway = GATEWAY_LEADER};
    struct bench *b = calloc(1, sizeof *b);
    uint8_t bytes[BENCH_METERS][BENCH_TX_BYTES];
    struct span tx[BENCH_METERS];
    AMI_CHECK(b != NULL);
    b->cast = sim_cast_get(&size);
    b->genesis = &b->cast->genesis;
    b->registry = registry_new(b->genesis);
    AMI_CHECK(b->registry != NULL);
    b->tip = (struct block_parent){0, b->genesis->members.chain, b->genesis->created_ms};
    b->random = sim_random_stream(seed, STREAM_BENCH, 0);
    for (unsigned i = 0; i < BENCH_METERS; i++)
        tx[i] = enrolment(b, i, bytes[i]);
    bench_commit(b, tx, BENCH_METERS);
    return b;
}

void bench_free(struct bench *b)
{
    for (size_t i = 0; i < b->blocks; i++)
        bench_block_free(&b->block[i]);
    registry_free(b->registry);
    free(b);
}

void bench_block_free(struct bench_block *block)
{
    free(block->body);
    free(block->records);
}

/* --- reports --------------------------------------------------------------------------------- */

void bench_measure(struct bench *b, struct bench_report *r, unsigned meter, uint64_t sequence,
                   const char *reading)
{
    const struct device_keys *m = &b->cast->meter[meter];
    uint8_t random[SM2_WIDE_BYTES];
    memset(r, 0, sizeof *r);
    snprintf(r->m, sizeof r->m, "%s", reading);
    sim_random_bytes(&b->random, r->salt, sizeof r->salt);
    r->meter = (struct report_meter_part){
        .meter = m->name,
        .epoch = m->epoch,
        .sequence = sequence,
        .commitment = report_commitment(r->salt, span_of(r->m, sizeof r->m))};
    draw(b, random);
    report_meter_sign(&r->meter, &b->genesis->members.chain, &m->sign, random);
}

void bench_gateway(struct bench *b, struct bench_report *r, unsigned dc, const struct sign_key *key)
{
    const struct device_keys *d = &b->cast->dc[dc];
    struct seal_batch batch;
    uint8_t random[SM2_WIDE_BYTES], plain[sizeof r->salt + sizeof r->m];
    memcpy(plain, r->salt, sizeof r->salt);
    memcpy(plain + sizeof r->salt, r->m, sizeof r->m);
    draw(b, random);
    AMI_CHECK(seal_batch_begin(&batch, &b->genesis->network.readings, random) == AMI_OK);
    seal_report(r->sealed, &batch, &b->genesis->members.chain, &d->name, &r->meter.meter,
                r->meter.epoch, r->meter.sequence, span_of(plain, sizeof plain));
    r->gateway = (struct report_gateway_part){.c1 = batch.c1,
                                              .sealed = span_of(r->sealed, sizeof r->sealed),
                                              .timestamp_ms = b->tip.timestamp_ms,
                                              .dc = d->name,
                                              .dc_epoch = d->epoch};
    draw(b, random);
    report_gateway_sign(&r->gateway, &r->meter, &b->genesis->members.chain, key, random);
    struct writer w = writer_on(r->bytes, sizeof r->bytes);
    report_tx_encode(&w, &r->meter, &r->gateway);
    AMI_CHECK(writer_ok(&w));
    r->tx = writer_span(&w);
}

/* --- what honest DCs do ---------------------------------------------------------------------- */

enum ami_status bench_check(struct bench *b, struct span tx)
{
    struct tx_view view;
    struct tx_check check;
    AMI_TRY(tx_view_parse(&view, tx));
    AMI_TRY(registry_check_prepare(b->registry, &view, &check));
    return tx_check_run(&check, &view);
}

enum ami_status bench_admit(struct bench *b, struct span tx)
{
    struct tx_view view;
    AMI_TRY(bench_check(b, tx));
    AMI_TRY(tx_view_parse(&view, tx));
    registry_stage_begin(b->registry, b->tip.height + 1);
    enum ami_status status = registry_stage_tx(b->registry, &view);
    registry_stage_drop(b->registry);
    return status;
}

struct qc bench_votes(struct bench *b, const struct bench_block *block, unsigned members)
{
    struct vote vote[BENCH_DCS];
    size_t count = 0;
    struct qc qc;
    for (uint8_t i = 0; i < BENCH_DCS; i++) {
        uint8_t random[SM2_WIDE_BYTES];
        if ((members >> i & 1) == 0)
            continue;
        struct vote *v = &vote[count++];
        *v = (struct vote){.kind = VOTE_COMMIT,
                           .chain = b->genesis->members.chain,
                           .epoch = 1,
                           .term = TERM,
                           .height = block->header.height,
                           .block = block->hash,
                           .voter = i};
        draw(b, random);
        vote_sign(v, &b->cast->dc[i].sign, random);
    }
    AMI_CHECK(qc_make(&qc, &b->genesis->members, vote, count) == AMI_OK);
    return qc;
}

struct records {
    struct writer w;
};

static void put_record(void *ctx, uint64_t index, const struct record *rec)
{
    struct records *r = ctx;
    uint8_t bytes[RECORD_BYTES_MAX];
    struct writer w = writer_on(bytes, sizeof bytes);
    record_encode(&w, rec);
    AMI_CHECK(writer_ok(&w));
    write_u64(&r->w, index);
    write_bytes(&r->w, writer_span(&w));
}

bool bench_propose(struct bench *b, struct bench_block *out, const struct span *tx, size_t count)
{
    memset(out, 0, sizeof *out);
    out->body = malloc(BODY_BYTES);
    out->records = malloc(BODY_BYTES);
    AMI_CHECK(out->body != NULL && out->records != NULL);
    struct writer body = writer_on(out->body, BODY_BYTES);
    bool good = true;
    registry_stage_begin(b->registry, b->tip.height + 1);
    for (size_t i = 0; i < count; i++) {
        struct tx_view view;
        AMI_CHECK(tx_view_parse(&view, tx[i]) == AMI_OK);
        good = good && registry_stage_tx(b->registry, &view) == AMI_OK;
        body_append(&body, tx[i]);
    }
    AMI_CHECK(writer_ok(&body));
    out->body_size = body.size;
    if (good) {
        AMI_CHECK(block_build(&out->header, b->registry, &b->tip, TERM, LEADER,
                              b->tip.timestamp_ms + BLOCK_STEP_MS, writer_span(&body)) == AMI_OK);
        struct records r = {writer_on(out->records, BODY_BYTES)};
        registry_stage_changes(b->registry, put_record, &r);
        AMI_CHECK(writer_ok(&r.w));
        out->records_size = r.w.size;
        out->hash = block_hash(&out->header);
    }
    return good;
}

void bench_commit(struct bench *b, const struct span *tx, size_t count)
{
    AMI_CHECK(b->blocks < BENCH_BLOCKS);
    struct bench_block *block = &b->block[b->blocks++];
    AMI_CHECK(bench_propose(b, block, tx, count));
    block->commit = bench_votes(b, block, 7); /* q = 3 of 4 */
    AMI_CHECK(qc_check(&b->genesis->members, &block->commit) == AMI_OK);
    registry_stage_commit(b->registry);
    b->tip = (struct block_parent){block->header.height, block->hash, block->header.timestamp_ms};
}
