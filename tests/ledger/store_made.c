#include "tests/ledger/store_made.h"

#include "tests/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

sm3_digest chain;
static uint8_t body_bytes[AMI_BLOCK_BYTES_MAX];

sm3_digest made_chain(void)
{
    return sm3(SPAN_LITERAL("a chain for the tests of the store"));
}

struct tip tip_at_start(void)
{
    return (struct tip){0, chain, 1};
}

struct ami_id meter_name(void)
{
    struct ami_id id;
    assert_ok(ami_id_from_text(&id, "meter-7"));
    return id;
}

void append_report(struct writer *body, uint64_t sequence, size_t sealed_bytes)
{
    static uint8_t sealed[AMI_SEALED_BYTES_MAX], encoded[AMI_TX_BYTES_MAX];
    struct report_meter_part m = {.meter = meter_name(), .epoch = 1, .sequence = sequence};
    struct report_gateway_part g = {.sealed = span_of(sealed, sealed_bytes), .dc_epoch = 1};
    assert_ok(ami_id_from_text(&g.dc, "dc1"));
    memset(sealed, (int)sequence, sizeof sealed);
    memset(m.commitment.b, (int)sequence, sizeof m.commitment.b);
    struct writer w = writer_on(encoded, sizeof encoded);
    report_tx_encode(&w, &m, &g);
    assert_true(writer_ok(&w));
    body_append(body, writer_span(&w));
}

void seal_block(struct made *b, uint8_t kind)
{
    struct writer w = writer_on(b->header_bytes, sizeof b->header_bytes);
    block_header_encode(&w, &b->header);
    assert_true(writer_ok(&w));
    b->header_size = w.size;
    b->hash = block_hash(&b->header);
    struct qc commit = {.kind = kind,
                        .chain = chain,
                        .epoch = 1,
                        .term = 1,
                        .height = b->header.height,
                        .block = b->hash,
                        .signers = 7,
                        .signatures_count = 3};
    w = writer_on(b->commit_bytes, sizeof b->commit_bytes);
    qc_encode(&w, &commit);
    assert_true(writer_ok(&w));
    b->commit_size = w.size;
}

/* The block after `tip` with `txs` reports; moves the tip on. */
struct made *make_block(struct tip *tip, uint32_t txs, size_t sealed_bytes)
{
    struct made *b = calloc(1, sizeof *b);
    assert_non_null(b);
    struct writer body = writer_on(body_bytes, sizeof body_bytes);
    b->first_sequence = tip->sequence;
    for (uint32_t i = 0; i < txs; i++)
        append_report(&body, tip->sequence++, sealed_bytes);
    assert_true(writer_ok(&body));
    b->body_size = body.size;
    b->body = malloc(body.size + 1);
    assert_non_null(b->body);
    memcpy(b->body, body_bytes, body.size);
    struct body_reader it = body_reader_on(span_of(b->body, b->body_size));
    struct span encoded;
    struct tx_view view;
    if (body_next(&it, &encoded)) {
        assert_ok(tx_view_parse(&view, encoded));
        b->first_tx = view.id;
    }
    b->header = (struct block_header){.version = 1,
                                      .chain = chain,
                                      .epoch = 1,
                                      .height = tip->height + 1,
                                      .term = 1,
                                      .previous = tip->hash,
                                      .timestamp_ms = 1000 * (int64_t)(tip->height + 1),
                                      .tx_count = txs};
    seal_block(b, VOTE_COMMIT);
    tip->height++;
    tip->hash = b->hash;
    return b;
}

void free_block(struct made *b)
{
    free(b->body);
    free(b);
}

struct store_batch commit_of(const struct made *b)
{
    return (struct store_batch){.commit = true,
                                .block_header = span_of(b->header_bytes, b->header_size),
                                .block_commit = span_of(b->commit_bytes, b->commit_size),
                                .block_body = span_of(b->body, b->body_size)};
}

struct store_batch pending_of(const struct made *b)
{
    return (struct store_batch){.body_header = span_of(b->header_bytes, b->header_size),
                                .body = span_of(b->body, b->body_size)};
}

/* A vote record of this term, which may name a block as that of its last prepare vote. */
struct span vote_of(uint8_t out[512], uint64_t term, const sm3_digest *prepared)
{
    struct vote_record v = {.version = 1, .chain = chain, .epoch = 1, .term = term, .tip = chain};
    if (prepared != NULL) {
        v.has_prepare = true;
        v.prepare.block = *prepared;
    }
    struct writer w = writer_on(out, 512);
    vote_record_encode(&w, &v);
    assert_true(writer_ok(&w));
    return writer_span(&w);
}

struct genesis *genesis_of_made(void)
{
    struct genesis *g = calloc(1, sizeof *g);
    assert_non_null(g);
    g->network.sign = *point_generator();
    g->members.chain = chain;
    g->members.epoch = 1;
    g->members.count = 4;
    for (unsigned i = 0; i < 4; i++) {
        char name[8];
        snprintf(name, sizeof name, "dc%u", i);
        assert_ok(ami_id_from_text(&g->members.member[i].name, name));
        g->members.member[i].key_epoch = 1;
    }
    return g;
}
