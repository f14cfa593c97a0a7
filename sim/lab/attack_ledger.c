/* sim/lab/attack_ledger.c - on the ledger: what is committed comes again, a DC lies about its
 * meters, votes serve twice, readings are guessed. */
#include "sim/lab/attack.h"

#include "base/check.h"
#include "meter/headers.h"
#include "sim/lab/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- again ----------------------------------------------------------------------------------- */

static bool replay_transaction(struct attack_context *c)
{
    struct bench *b = bench_new(c->scheme, c->seed);
    struct bench_report r;
    bench_measure(b, &r, 0, 1, "1042.000 kWh");
    bench_gateway(b, &r, 0, &b->cast->dc[0].sign);
    /* In the control the judge is a registry that has forgotten what is settled. */
    struct bench *forgetful = bench_new(c->scheme, c->seed);
    bench_commit(b, &r.tx, 1);
    enum ami_status status = bench_admit(c->control ? forgetful : b, r.tx);
    bool broken = attack_says(
        c, status == AMI_OK, "report 1 of %s, committed at height %llu, %s: %s", r.meter.meter.text,
        (unsigned long long)b->tip.height, "handed in again", ami_status_name(status));
    bench_free(forgetful);
    bench_free(b);
    return broken;
}

/* Everything that a DC checks of a block that it is given as the next one. */
static enum ami_status take_block(struct bench *b, const struct bench_block *block,
                                  bool parent_checked)
{
    uint32_t bad;
    const struct span body = span_of(block->body, block->body_size);
    if (parent_checked)
        AMI_TRY(block_check_header(&b->genesis->parameters, &b->genesis->members, &block->header,
                                   &b->tip));
    AMI_TRY(qc_check(&b->genesis->members, &block->commit));
    AMI_TRY(block_check_body(b->registry, &block->header, body, &bad));
    AMI_TRY(block_stage(b->registry, &block->header, body, &bad));
    registry_stage_drop(b->registry);
    return AMI_OK;
}

static bool replay_block(struct attack_context *c)
{
    struct bench *b = bench_new(c->scheme, c->seed), *before = bench_new(c->scheme, c->seed);
    struct bench_report r;
    bench_measure(b, &r, 0, 1, "1042.000 kWh");
    bench_gateway(b, &r, 0, &b->cast->dc[0].sign);
    bench_commit(b, &r.tx, 1);
    const struct bench_block *old = &b->block[b->blocks - 1];
    enum ami_status status = take_block(c->control ? before : b, old, !c->control);
    bool broken = attack_says(c, status == AMI_OK,
                              "block %llu with its certificate, offered as block %llu: %s",
                              (unsigned long long)old->header.height,
                              (unsigned long long)old->header.height + 1, ami_status_name(status));
    bench_free(before);
    bench_free(b);
    return broken;
}

/* A Byzantine leader shows two blocks; honest votes for the one are put under the other. */
static bool replay_vote(struct attack_context *c)
{
    struct bench *b = bench_new(c->scheme, c->seed);
    struct bench_report r[2];
    struct bench_block shown, other;
    struct headers *h = malloc(sizeof *h);
    uint8_t bytes[2048];
    AMI_CHECK(h != NULL);
    headers_init(h, b->genesis);
    for (int i = 0; i < 2; i++) {
        bench_measure(b, &r[i], 0, 1, i == 0 ? "1042.000 kWh" : "1.000 kWh");
        bench_gateway(b, &r[i], 0, &b->cast->dc[0].sign);
    }
    AMI_CHECK(bench_propose(b, &shown, &r[0].tx, 1));
    registry_stage_drop(b->registry);
    AMI_CHECK(bench_propose(b, &other, &r[1].tx, 1));
    registry_stage_drop(b->registry);
    const struct qc honest = bench_votes(b, &shown, 7);
    struct qc forged = honest;
    forged.block = other.hash;
    enum ami_status status = AMI_OK;
    const struct qc *tried[2] = {&honest, &forged};
    for (int i = 0; i < 2; i++) {
        struct block_proof p = {other.header, *tried[i]};
        struct writer w = writer_on(bytes, sizeof bytes);
        block_proof_encode(&w, &p);
        AMI_CHECK(writer_ok(&w));
        status =
            c->control ? qc_check(&b->genesis->members, tried[i]) : headers_add(h, writer_span(&w));
        if (status == AMI_OK)
            break;
    }
    bool broken = attack_says(
        c, status == AMI_OK, "three votes for block %s... under block %s...: %s",
        attack_hex(shown.hash.b, 6), attack_hex(other.hash.b, 6), ami_status_name(status));
    bench_block_free(&shown);
    bench_block_free(&other);
    bench_free(b);
    free(h);
    return broken;
}

/* --- a DC lies about meters ------------------------------------------------------------------ */

enum lie { INVENTED, ALTERED, MOVED };

/* The DC has the meter's report 1 and its own keys. */
static void lie(struct bench *b, struct bench_report *r, enum lie kind)
{
    struct bench_report honest;
    bench_measure(b, &honest, 0, 1, "1042.000 kWh");
    *r = honest;
    if (kind == INVENTED) {
        r->meter.sequence = 2;
        sim_random_bytes(&b->random, r->meter.signature.b, sizeof r->meter.signature.b);
    }
    if (kind == MOVED) {
        r->meter.meter = b->cast->meter[1].name;
    } else {
        snprintf(r->m, sizeof r->m, "9999.999 kWh");
        r->meter.commitment = report_commitment(r->salt, span_of(r->m, sizeof r->m));
    }
    bench_gateway(b, r, 0, &b->cast->dc[0].sign);
}

static bool dc_lies(struct attack_context *c)
{
    const enum lie kind = (enum lie)c->which;
    static const char *const what[] = {[INVENTED] = "a report that nobody made",
                                       [ALTERED] = "a report with another reading",
                                       [MOVED] = "a report under another meter's name"};
    struct bench *b = bench_new(c->scheme, c->seed);
    struct bench_report r;
    lie(b, &r, kind);
    if (c->control)
        registry_leave_meters_unchecked(b->registry);
    enum ami_status status = bench_admit(b, r.tx);
    bool broken = attack_says(c, status == AMI_OK, "%s, signed by dc-1 for %s, %s: %s", what[kind],
                              r.meter.meter.text, r.m, ami_status_name(status));
    bench_free(b);
    return broken;
}

/* The DC uses up the meter's next number; then the meter's own report comes. */
static bool burn_sequence(struct attack_context *c)
{
    struct bench *b = bench_new(c->scheme, c->seed);
    struct bench_report burnt, honest;
    bench_measure(b, &honest, 0, 1, "1042.000 kWh");
    bench_gateway(b, &honest, 1, &b->cast->dc[1].sign);
    burnt = honest;
    sim_random_bytes(&b->random, burnt.meter.commitment.b, sizeof burnt.meter.commitment.b);
    bench_gateway(b, &burnt, 0, &b->cast->dc[0].sign);
    if (c->control)
        registry_leave_meters_unchecked(b->registry);
    enum ami_status burning = bench_admit(b, burnt.tx);
    if (burning == AMI_OK)
        bench_commit(b, &burnt.tx, 1);
    enum ami_status status = bench_admit(b, honest.tx);
    bool broken = attack_says(c, status == AMI_SEQUENCE_SETTLED,
                              "number 1 without its meter's signature: %s; then the meter's own "
                              "report 1: %s",
                              ami_status_name(burning), ami_status_name(status));
    bench_free(b);
    return broken;
}

/* --- a DC's signature ------------------------------------------------------------------------ */

/* The paper's Sig_DC = En(ID_SM, ID_DC)_{P_pub} is an encryption to a public key, and its reader
 * decrypts it with x and compares the two names. */
static bool published_accepts(const struct mdms_keys *keys, struct span sig,
                              const struct ami_id *meter, const struct ami_id *dc)
{
    sm2_private x;
    uint8_t plain[2 * (AMI_ID_BYTES_MAX + 1)];
    struct ami_id found[2];
    if (sm2_private_init(&x, &keys->x) != AMI_OK ||
        sig.size > sizeof plain + SM2_ENCRYPT_OVERHEAD_BYTES ||
        sig.size < SM2_ENCRYPT_OVERHEAD_BYTES || sm2_decrypt(plain, &x, sig) != AMI_OK)
        return false;
    struct reader r = reader_on(span_of(plain, sig.size - SM2_ENCRYPT_OVERHEAD_BYTES));
    found[0] = read_id(&r);
    found[1] = read_id(&r);
    return reader_done(&r) && ami_id_equal(&found[0], meter) && ami_id_equal(&found[1], dc);
}

static bool forge_published(struct attack_context *c, struct bench *b)
{
    uint8_t names[2 * (AMI_ID_BYTES_MAX + 1)], random[SM2_WIDE_BYTES];
    uint8_t sig[sizeof names + SM2_ENCRYPT_OVERHEAD_BYTES];
    const struct ami_id *meter = &b->cast->meter[0].name, *dc = &b->cast->dc[0].name;
    struct writer w = writer_on(names, sizeof names);
    write_id(&w, meter);
    write_id(&w, dc);
    sim_random_bytes(&b->random, random, sizeof random);
    AMI_CHECK(sm2_encrypt(sig, &b->genesis->network.p_pub, writer_span(&w), random) == AMI_OK);
    size_t size = w.size + SM2_ENCRYPT_OVERHEAD_BYTES;
    return attack_says(c, published_accepts(&b->cast->keys, span_of(sig, size), meter, dc),
                       "Sig_DC = %s..., made from P_pub and two names, is read as dc-1's for %s",
                       attack_hex(sig, 24), meter->text);
}

/* A transaction in a DC's name by somebody who holds none of its keys. */
static bool forge_gateway(struct attack_context *c)
{
    struct bench *b = bench_new(c->scheme, c->seed);
    struct bench_report r;
    struct sign_key key = b->cast->dc[0].sign;
    uint8_t random[SM2_WIDE_BYTES];
    bool broken;
    if (c->scheme->number == SCHEME_LIU2023) {
        broken = forge_published(c, b);
        bench_free(b);
        return broken;
    }
    sim_random_bytes(&b->random, random, sizeof random);
    scalar d = scalar_from_wide(random);
    AMI_CHECK(sm2_private_init(&key.private_key, &d) == AMI_OK);
    bench_measure(b, &r, 0, 1, "1042.000 kWh");
    bench_gateway(b, &r, 0, &key);
    const struct verify_key *meter = &b->cast->meter[0].sign.public_key;
    /* The control looks at the meter's signature alone. */
    enum ami_status status = c->control
                                 ? report_meter_check(&r.meter, &b->genesis->members.chain, meter)
                                 : bench_admit(b, r.tx);
    broken = attack_says(c, status == AMI_OK, "a transaction that dc-1 has not signed: %s",
                         ami_status_name(status));
    bench_free(b);
    return broken;
}

/* --- readings guessed ------------------------------------------------------------------------ */

#define CANDIDATES 2000

/* The reader of the ledger tries every reading that is likely, as a DC without chance would seal
 * it: with the salt and the random bytes that it would use if it had none. */
static bool dictionary(struct attack_context *c)
{
    struct bench *b = bench_new(c->scheme, c->seed);
    struct bench_report r;
    struct seal_batch own;
    uint8_t zero[SM2_WIDE_BYTES] = {0}, plain[sizeof r.salt + sizeof r.m] = {0};
    char text[sizeof r.m] = "", found[sizeof r.m] = "";
    unsigned true_value = (unsigned)sim_random_below(&b->random, CANDIDATES);
    snprintf(text, sizeof text, "%u kWh", true_value);
    bench_measure(b, &r, 0, 1, text);
    bench_gateway(b, &r, 0, &b->cast->dc[0].sign);
    AMI_CHECK(seal_batch_begin(&own, &b->genesis->network.readings, zero) == AMI_OK);
    const sm3_digest *chain = &b->genesis->members.chain;
    if (c->control) { /* deterministic: no salt, no fresh encapsulation */
        memset(r.salt, 0, sizeof r.salt);
        r.meter.commitment = report_commitment(r.salt, span_of(r.m, sizeof r.m));
        memcpy(plain + sizeof r.salt, r.m, sizeof r.m);
        seal_report(r.sealed, &own, chain, &b->cast->dc[0].name, &r.meter.meter, r.meter.epoch, 1,
                    span_of(plain, sizeof plain));
        r.gateway.c1 = own.c1;
    }
    for (unsigned v = 0; v < CANDIDATES && found[0] == 0; v++) {
        uint8_t sealed[sizeof r.sealed];
        memset(plain, 0, sizeof plain);
        snprintf((char *)plain + sizeof r.salt, sizeof r.m, "%u kWh", v);
        const struct span m = span_of(plain + sizeof r.salt, sizeof r.m);
        sm3_digest commitment = report_commitment(plain, m);
        seal_report(sealed, &own, chain, &b->cast->dc[0].name, &r.meter.meter, r.meter.epoch, 1,
                    span_of(plain, sizeof plain));
        if (sm3_equal(&commitment, &r.meter.commitment) ||
            memcmp(sealed, r.sealed, sizeof sealed) == 0)
            snprintf(found, sizeof found, "%.30s", (const char *)m.data);
    }
    bool broken =
        found[0] != 0
            ? attack_says(c, strcmp(found, text) == 0,
                          "the sealed reading is %s, found among %u guesses", found, CANDIDATES)
            : attack_says(c, false,
                          "none of %u guesses gives commitment %s... or the sealed bytes %s...",
                          CANDIDATES, attack_hex(r.meter.commitment.b, 6), attack_hex(r.sealed, 6));
    bench_free(b);
    return broken;
}

const struct attack attacks_ledger[] = {
    {.name = "replay-transaction",
     .row = ROW_REPLAY,
     .knows = "the ledger",
     .goal = "a report is committed a second time",
     .protection = "the registry knows which numbers are settled",
     .run = replay_transaction},
    {.name = "replay-block",
     .row = ROW_REPLAY,
     .knows = "the ledger with its certificates",
     .goal = "a DC takes an old block for the next one",
     .protection = "a header names its parent and height, and the registry knows settled numbers",
     .run = replay_block},
    {.name = "replay-vote",
     .row = ROW_REPLAY,
     .knows = "honest votes for a block, and another block for the same height and term",
     .goal = "a meter takes those votes for a certificate of the other block",
     .protection = "a vote names its block, and it is compared",
     .run = replay_vote},
    {.name = "dc-invents-report",
     .row = ROW_DC_LIES,
     .knows = "a DC's keys, its meters' sessions",
     .goal = "a report that no meter made is admitted to the ledger",
     .protection = "every DC checks the meter's signature",
     .run = dc_lies,
     .which = INVENTED},
    {.name = "dc-alters-report",
     .row = ROW_DC_LIES,
     .knows = "a DC's keys, a report that the meter sent it",
     .goal = "the report is admitted with another reading",
     .protection = "every DC checks the meter's signature",
     .run = dc_lies,
     .which = ALTERED},
    {.name = "dc-moves-report",
     .row = ROW_DC_LIES,
     .knows = "a DC's keys, a report that the meter sent it",
     .goal = "the report is admitted under another meter's name",
     .protection = "every DC checks the meter's signature",
     .run = dc_lies,
     .which = MOVED},
    {.name = "dc-burns-sequence",
     .row = ROW_DC_LIES,
     .knows = "a DC's keys, a report that the meter sent it",
     .goal = "the meter's own report finds its number used up",
     .protection = "every DC checks the meter's signature",
     .run = burn_sequence},
    {.name = "forged-sig-dc",
     .row = ROW_DC_LIES,
     .knows = "what is public, and a report of a meter",
     .goal =
         "a transaction that its readers take for one of a DC (under liu2023 the published one)",
     .protection = "every DC checks the gateway's signature",
     .run = forge_gateway},
    {.name = "dictionary-on-readings",
     .row = ROW_READINGS,
     .knows = "the ledger, the MDMS's public keys, and which readings are likely",
     .goal = "the reading in a sealed report",
     .protection = "a random salt in the commitment, a fresh encapsulation for each batch",
     .run = dictionary},
    {0}};
