/* tests/verifier/make_ledger.c - a small ledger on disk with everything that one may hold, to look
 * into with dc-cli and with the independent verifier; or one with a single thing wrong in it.
 *
 * usage: make_ledger DIR                    genesis.json, ledger/, short/, fork/, proofs, and the
 *                                           figures of ledger/ as JSON on stdout
 *        make_ledger DIR prune              genesis.json, ledger/, whole/: the same ledger, once
 * pruned make_ledger DIR WRONG              genesis.json and ledger/, wrong at its end make_ledger
 * DIR damage WHAT        changes DIR/ledger behind the store's back
 */
#include "base/check.h"
#include "ledger/store.h"
#include "ledger/store_value.h"
#include "tests/ledger/fixture.h"
#include "wire/report.h"

#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define OK(expr)      AMI_CHECK((expr) == AMI_OK)
#define MDB_OK(expr)  AMI_CHECK((expr) == MDB_SUCCESS)
#define METERS        6
#define BLOCKS_MAX    128
#define PRUNED_BELOW  12
#define PRUNED_HEIGHT 116 /* all its rows and records are in their tables */
#define FORK_HEIGHT   8
#define SHORT_HEIGHT  6
#define REPORT_SALT   16
#define RECORDS_BYTES (64u << 10)

struct maker {
    struct fixture *f;
    struct store *store;
    struct fixture_body *body;
    struct fixture_device meter[METERS], joined; /* a DC that came after the genesis */
    struct fixture_block *block[BLOCKS_MAX];
    unsigned blocks;
    uint64_t transactions, reports, pairs; /* pairs: evidence of two statements */
};

static void write_file(const char *dir, const char *name, const char *text)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "w");
    AMI_CHECK(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0);
}

static void start(struct maker *m, const char *dir, const char *name)
{
    char path[4096], why[256] = "";
    memset(m, 0, sizeof *m);
    m->f = fixture_new(4, 2024);
    m->body = fixture_body();
    snprintf(path, sizeof path, "%s/%s", dir, name);
    OK(store_open(&m->store, path, &m->f->genesis.members.chain, STORE_READ_WRITE, 0, why,
                  sizeof why));
}

static void finish(struct maker *m)
{
    for (unsigned i = 0; i < m->blocks; i++)
        fixture_block_free(m->block[i]);
    store_close(m->store);
    free(m->body);
    fixture_free(m->f);
}

/* --- blocks ------------------------------------------------------------------------------------
 */

static struct span all_records(const struct maker *m, uint8_t *bytes)
{
    struct writer w = writer_on(bytes, RECORDS_BYTES);
    for (uint64_t i = 0; i < registry_size(m->f->registry); i++) {
        uint8_t record[RECORD_BYTES_MAX];
        struct writer r = writer_on(record, sizeof record);
        record_encode(&r, registry_at(m->f->registry, i));
        write_u64(&w, i);
        write_bytes(&w, writer_span(&r));
    }
    AMI_CHECK(writer_ok(&w));
    return writer_span(&w);
}

static void store_it(struct maker *m, const struct block_header *h, const struct qc *commit,
                     struct span body, struct span records)
{
    uint8_t header[512], cert[4096];
    struct writer hw = writer_on(header, sizeof header), cw = writer_on(cert, sizeof cert);
    block_header_encode(&hw, h);
    qc_encode(&cw, commit);
    const struct store_batch batch = {.commit = true,
                                      .block_header = writer_span(&hw),
                                      .block_commit = writer_span(&cw),
                                      .block_body = body,
                                      .records = records};
    OK(store_write(m->store, &batch));
}

static void commit_block(struct maker *m, uint64_t term)
{
    uint8_t *records = malloc(RECORDS_BYTES);
    AMI_CHECK(records != NULL && m->blocks < BLOCKS_MAX);
    struct fixture_block *b = fixture_commit(m->f, m->body, term);
    store_it(m, &b->header, &b->commit, b->body, all_records(m, records));
    m->block[m->blocks++] = b;
    m->transactions += b->header.tx_count;
    fixture_clear(m->body);
    free(records);
}

/* --- transactions ------------------------------------------------------------------------------
 */

/* Two registers of half an hour, one of them missing now and then. */
static size_t measure(uint8_t *out, size_t out_size, uint64_t sequence)
{
    struct reading r[2] = {{.unit = UNIT_KWH, .interval_s = 1800}, {.unit = UNIT_V}};
    struct writer w = writer_on(out, out_size);
    char value[16];
    OK(obis_parse(r[0].obis, "1-0:1.8.0"));
    OK(obis_parse(r[1].obis, "1-0:32.7.0"));
    snprintf(value, sizeof value, "0.%03u", (unsigned)(sequence * 250 % 1000));
    OK(reading_value_set(&r[0], value, strlen(value)));
    OK(reading_value_set(&r[1], "230.1", sequence % 3 == 2 ? 0 : 5));
    r[0].start_s = r[1].start_s = 1356998400 + (int64_t)sequence * 1800;
    OK(report_encode(&w, REPORT_READINGS, r, 2));
    return w.size;
}

struct opened {
    uint8_t salt_and_m[REPORT_SALT + 256];
    size_t m_size;
};

static struct opened open_of(const struct fixture_device *meter, uint64_t sequence)
{
    struct opened o;
    fixture_opening(o.salt_and_m, NULL, 0, meter, sequence);
    o.m_size = measure(o.salt_and_m + REPORT_SALT, 256, sequence);
    return o;
}

enum spoil { SPOIL_NOTHING, SPOIL_METER, SPOIL_GATEWAY };

static void add_report_of(struct maker *m, struct fixture_device *meter,
                          const struct fixture_device *gateway, uint64_t sequence, enum spoil spoil)
{
    struct fixture *f = m->f;
    const sm3_digest *chain = &f->genesis.members.chain;
    uint8_t wide[SM2_WIDE_BYTES], sealed[512], bytes[AMI_TX_BYTES_MAX];
    struct opened o = open_of(meter, sequence);
    struct span plain = span_of(o.salt_and_m, REPORT_SALT + o.m_size);
    struct report_meter_part part = {.meter = meter->name,
                                     .epoch = meter->epoch,
                                     .sequence = sequence,
                                     .commitment = sm3(plain)};
    fixture_random(f, wide);
    report_meter_sign(&part, chain, &meter->key, wide);
    part.signature.b[40] ^= spoil == SPOIL_METER;
    struct seal_batch batch;
    fixture_random(f, wide);
    OK(seal_batch_begin(&batch, &f->genesis.network.readings, wide));
    seal_report(sealed, &batch, chain, &gateway->name, &meter->name, meter->epoch, sequence, plain);
    struct report_gateway_part g = {.c1 = batch.c1,
                                    .sealed = span_of(sealed, plain.size + 16),
                                    .timestamp_ms = f->tip.timestamp_ms + 500,
                                    .dc = gateway->name,
                                    .dc_epoch = gateway->epoch};
    fixture_random(f, wide);
    report_gateway_sign(&g, &part, chain, &gateway->key, wide);
    g.signature.b[40] ^= spoil == SPOIL_GATEWAY;
    struct writer w = writer_on(bytes, sizeof bytes);
    report_tx_encode(&w, &part, &g);
    AMI_CHECK(writer_ok(&w));
    fixture_append(m->body, writer_span(&w));
    m->reports++;
}

static void add_report(struct maker *m, unsigned meter, const struct fixture_device *gateway)
{
    struct fixture_device *d = &m->meter[meter];
    add_report_of(m, d, gateway, d->sequence++, SPOIL_NOTHING);
}

static void add_evidence(struct maker *m, uint8_t accused, uint8_t kind)
{
    static struct fixture_evidence x;
    fixture_evidence(&x, m->f, accused, kind);
    fixture_evidence_tx(m->body, &x.e);
    m->pairs += x.e.second.size != 0 ? 1 : 0;
}

/* --- the ledger --------------------------------------------------------------------------------
 */

static void enrol_meters(struct maker *m)
{
    for (unsigned i = 0; i < METERS; i++) {
        m->meter[i] = fixture_meter(m->f, i + 1);
        fixture_meter_enrol(m->f, m->body, &m->meter[i], &m->f->dc[i % 4].name);
    }
    commit_block(m, 1);
}

/* Heights 2 to 5: every kind of transaction, and what the rules leave free. */
static void every_kind(struct maker *m)
{
    struct fixture *f = m->f;
    for (unsigned i = 0; i < METERS; i++)
        add_report(m, i, &f->dc[i % 4]);
    commit_block(m, 1);

    m->joined = fixture_device(f, ROLE_DC_SIGN, fixture_id("dc-5"), 1);
    fixture_dc_enrol(f, m->body, &m->joined);
    struct fixture_device again = fixture_device(f, ROLE_DC_SIGN, f->dc[1].name, 2);
    fixture_dc_enrol(f, m->body, &again);
    add_report(m, 0, &m->joined);
    add_report(m, 1, &again);
    commit_block(m, 2); /* a new leader, a new term */

    /* Out of order inside the window, then the gap closes; a skip; the far end of the window. */
    add_report_of(m, &m->meter[2], &f->dc[0], 5, SPOIL_NOTHING);
    add_report_of(m, &m->meter[2], &f->dc[0], 2, SPOIL_NOTHING);
    add_report_of(m, &m->meter[2], &f->dc[2], 3, SPOIL_NOTHING);
    m->meter[2].sequence = 6;
    fixture_skip(f, m->body, &m->meter[2], 5);
    add_report_of(m, &m->meter[3], &f->dc[3], 2 + 63, SPOIL_NOTHING);
    fixture_skip(f, m->body, &m->meter[3], 2 + 64);
    m->meter[3].sequence = 2 + 64;
    commit_block(m, 2);

    /* Revoked, enrolled again and heard again in one block. */
    add_report(m, 5, &f->dc[0]);
    fixture_revoke(f, m->body, 1, &m->meter[5].name, 1);
    m->meter[5] = fixture_device(f, ROLE_METER_REPORT, m->meter[5].name, 2);
    fixture_meter_enrol(f, m->body, &m->meter[5], &m->joined.name);
    add_report(m, 5, &m->joined);
    fixture_revoke(f, m->body, 2, &f->dc[1].name, 1);
    /* Every kind against somebody, also against the key that was just revoked. */
    for (uint8_t kind = EVIDENCE_VOTES; kind < EVIDENCE_KIND_END; kind++)
        add_evidence(m, kind % 4, kind);
    add_evidence(m, 0, EVIDENCE_VOTES);
    /* Its newer key votes from block 8 on: that begins membership epoch 2. */
    fixture_membership(f, m->body, MEMBER_ROTATE, &again, 3);
    commit_block(m, 2);
}

static void go_on(struct maker *m, unsigned height, bool fork)
{
    while (m->blocks < height) {
        unsigned h = m->blocks + 1;
        for (unsigned i = 0; i == 0 || i < h % METERS; i++)
            add_report(m, (h + i) % METERS, &m->f->dc[2 + i % 2]);
        if (fork && h == FORK_HEIGHT)
            add_report(m, h % METERS, &m->f->dc[2]);
        commit_block(m, 3 + h / 8);
    }
}

/* Up to `height`; `fork` adds a report at FORK_HEIGHT. */
static void make_chain(struct maker *m, unsigned height, bool fork)
{
    enrol_meters(m);
    every_kind(m);
    commit_block(m, 3); /* empty, on the way to the new epoch */
    go_on(m, height, fork);
}

static void write_proofs(const struct maker *m, const char *dir)
{
    struct proof p = fixture_proof(m->block[1], 2, m->block[0], 2);
    char *text = proof_print(&p);
    AMI_CHECK(text != NULL);
    write_file(dir, "proof-closed.json", text);
    free(text);
    struct opened o = open_of(&m->meter[2], 1);
    p.has_opening = true;
    memcpy(p.salt, o.salt_and_m, sizeof p.salt);
    p.m = span_of(o.salt_and_m + REPORT_SALT, o.m_size);
    text = proof_print(&p);
    AMI_CHECK(text != NULL);
    write_file(dir, "proof.json", text);
    free(text);
}

static void make_good(const char *dir)
{
    struct maker m;
    start(&m, dir, "short");
    make_chain(&m, SHORT_HEIGHT, false);
    finish(&m);
    start(&m, dir, "fork");
    make_chain(&m, FORK_HEIGHT + 2, true);
    finish(&m);
    start(&m, dir, "ledger");
    make_chain(&m, 16, false);
    write_file(dir, "genesis.json", m.f->genesis_text);
    write_proofs(&m, dir);
    struct fixture *other = fixture_new(4, 2025);
    write_file(dir, "other-genesis.json", other->genesis_text);
    fixture_free(other);
    char tip[2 * SM3_BYTES + 1], fork[2 * SM3_BYTES + 1];
    hex_encode(tip, m.f->tip.hash.b, SM3_BYTES);
    hex_encode(fork, m.block[FORK_HEIGHT - 1]->hash.b, SM3_BYTES);
    printf("{\"blocks\": %u, \"transactions\": %llu, \"reports\": %llu, \"pairs\": %llu, "
           "\"meters\": %d, "
           "\"tip\": \"%s\", \"fork_height\": %d, \"fork_hash\": \"%s\", \"short\": %d}\n",
           m.blocks, (unsigned long long)m.transactions, (unsigned long long)m.reports,
           (unsigned long long)m.pairs, METERS + 1, tip, FORK_HEIGHT, fork, SHORT_HEIGHT);
    finish(&m);
}

/* --- pruned ------------------------------------------------------------------------------------
 */

static void make_retained(struct maker *m, const char *dir, const char *name)
{
    start(m, dir, name);
    make_chain(m, PRUNED_HEIGHT - 3, false);
    fixture_retention(m->f, m->body, PRUNED_BELOW);
    add_report(m, 0, &m->f->dc[2]);
    commit_block(m, 13);
    go_on(m, PRUNED_HEIGHT, false);
}

static uint64_t reports_below(const struct maker *m, uint64_t height)
{
    uint64_t count = 0;
    for (unsigned i = 0; i < m->blocks && m->block[i]->header.height < height; i++) {
        struct body_reader it = body_reader_on(m->block[i]->body);
        struct span encoded;
        while (body_next(&it, &encoded))
            count += encoded.data[0] == TX_REPORT;
    }
    return count;
}

static void make_pruned(const char *dir)
{
    struct maker m;
    struct store_retention r = {0};
    make_retained(&m, dir, "whole");
    write_file(dir, "genesis.json", m.f->genesis_text);
    finish(&m);
    make_retained(&m, dir, "ledger");
    const struct store_batch batch = {.prune_below = PRUNED_BELOW};
    while (r.pruned < PRUNED_BELOW) {
        OK(store_write(m.store, &batch));
        OK(store_retention(m.store, &r));
    }
    printf("{\"blocks\": %u, \"transactions\": %llu, \"reports\": %llu, \"pairs\": %llu, "
           "\"below\": %d, \"pruned\": %llu}\n",
           m.blocks, (unsigned long long)m.transactions, (unsigned long long)m.reports,
           (unsigned long long)m.pairs, PRUNED_BELOW,
           (unsigned long long)reports_below(&m, PRUNED_BELOW));
    finish(&m);
}

/* --- one thing wrong ---------------------------------------------------------------------------
 */

static void flip_in(struct span encoded, size_t from_end)
{
    ((uint8_t *)(uintptr_t)encoded.data)[encoded.size - from_end] ^= 1;
}

/* A body that the block's rules refuse, or one that they do not look at. */
static void wrong_body(struct maker *m, const char *wrong)
{
    struct fixture *f = m->f;
    add_report(m, 0, &f->dc[2]);
    uint64_t next = m->meter[1].sequence;
    if (strcmp(wrong, "empty") == 0) {
        fixture_clear(m->body);
        m->meter[0].sequence--;
    } else if (strcmp(wrong, "entry") == 0) {
        struct fixture_device other = m->joined;
        other.agree_part[7] ^= 1;
        fixture_membership(f, m->body, MEMBER_JOIN, &other, 5);
    } else if (strcmp(wrong, "too-few") == 0) {
        fixture_membership(f, m->body, MEMBER_LEAVE, &f->dc[2], 5);
    } else if (strcmp(wrong, "meter-signature") == 0) {
        add_report_of(m, &m->meter[1], &f->dc[2], next, SPOIL_METER);
    } else if (strcmp(wrong, "gateway-signature") == 0) {
        add_report_of(m, &m->meter[1], &f->dc[2], next, SPOIL_GATEWAY);
    } else if (strcmp(wrong, "ahead") == 0) {
        add_report_of(m, &m->meter[1], &f->dc[2], next + 64, SPOIL_NOTHING);
    } else if (strcmp(wrong, "settled") == 0) {
        /* A skip has settled number 4 of this meter, and no report has it. */
        add_report_of(m, &m->meter[2], &f->dc[2], 4, SPOIL_NOTHING);
    } else if (strcmp(wrong, "revoked") == 0) {
        fixture_revoke(f, m->body, 1, &m->meter[1].name, 1);
        add_report_of(m, &m->meter[1], &f->dc[2], next, SPOIL_NOTHING);
    } else if (strcmp(wrong, "unknown") == 0) {
        struct fixture_device stranger = fixture_meter(f, 77);
        add_report_of(m, &stranger, &f->dc[2], 1, SPOIL_NOTHING);
    } else if (strcmp(wrong, "mdms-signature") == 0) {
        struct fixture_device newcomer = fixture_meter(f, 77);
        fixture_meter_enrol(f, m->body, &newcomer, &f->dc[0].name);
        flip_in(fixture_last(m->body), 5);
    } else if (strcmp(wrong, "evidence-signature") == 0) {
        add_evidence(m, 3, EVIDENCE_VOTES);
        flip_in(fixture_last(m->body), 5 + 4); /* of the second vote */
    } else if (strcmp(wrong, "evidence-twice") == 0) {
        add_evidence(m, 0, EVIDENCE_VOTES);
    } else if (strcmp(wrong, "number") == 0) {
        struct fixture_device newcomer = fixture_meter(f, 77);
        f->mdms_number++;
        fixture_meter_enrol(f, m->body, &newcomer, &f->dc[0].name);
    }
}

/* As block_build, but for the rules that are to be broken. */
static void wrong_header(struct maker *m, struct block_header *h, const char *wrong)
{
    struct fixture *f = m->f;
    struct body_reader it = body_reader_on(fixture_span(m->body));
    struct span encoded;
    registry_stage_begin(f->registry, f->tip.height + 1);
    while (body_next(&it, &encoded)) {
        struct tx_view tx;
        if (tx_view_parse(&tx, encoded) != AMI_OK || registry_stage_tx(f->registry, &tx) != AMI_OK)
            fprintf(stderr, "make_ledger: the registry refuses the %s transaction, as it should\n",
                    wrong);
    }
    OK(block_build(h, f->registry, &f->tip, 9, 1, f->tip.timestamp_ms + 1000,
                   fixture_span(m->body)));
    registry_stage_commit(f->registry);
    if (strcmp(wrong, "merkle") == 0)
        h->merkle_root.b[3] ^= 1;
    else if (strcmp(wrong, "state") == 0)
        h->state_root.b[3] ^= 1;
    else if (strcmp(wrong, "time") == 0)
        h->timestamp_ms = f->tip.timestamp_ms;
    else if (strcmp(wrong, "members") == 0)
        h->members.b[3] ^= 1;
    else if (strcmp(wrong, "epoch") == 0) {
        h->epoch = 1;
        h->members = f->genesis.members.hash;
    } else if (strcmp(wrong, "proposer") == 0)
        h->proposer = 4;
}

static void make_wrong(const char *dir, const char *wrong)
{
    struct maker m;
    struct block_header h;
    uint8_t *records = malloc(RECORDS_BYTES);
    AMI_CHECK(records != NULL);
    start(&m, dir, "ledger");
    make_chain(&m, 7, false);
    write_file(dir, "genesis.json", m.f->genesis_text);
    wrong_body(&m, wrong);
    wrong_header(&m, &h, wrong);
    sm3_digest hash = block_hash(&h);
    uint32_t voters = strcmp(wrong, "quorum") == 0 ? 3u : fixture_quorum(m.f);
    uint64_t term = strcmp(wrong, "early-term") == 0 ? h.term - 1 : h.term;
    struct qc commit = fixture_qc(m.f, VOTE_COMMIT, term, h.height, &hash, voters);
    if (strcmp(wrong, "vote") == 0)
        commit.signatures[1].b[7] ^= 1;
    if (strcmp(wrong, "two-votes") == 0)
        commit.signatures[2] = commit.signatures[1];
    struct span kept = all_records(&m, records);
    if (strcmp(wrong, "registry") == 0)
        flip_in(kept, 17 - 8); /* lowest byte of the last record's floor */
    store_it(&m, &h, &commit, fixture_span(m.body), kept);
    finish(&m);
    free(records);
}

/* --- damage behind the store's back ------------------------------------------------------------
 */

/* Puts a value in behind the store's back, with a check that fits. */
static void put_extra(const char *dir, const char *db, struct span key, struct span value)
{
    char path[4096];
    uint8_t bytes[512];
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    struct writer w = writer_on(bytes, sizeof bytes);
    write_raw(&w, value.data, value.size);
    store_check(bytes + value.size, db, key, value, span_of(NULL, 0));
    snprintf(path, sizeof path, "%s/ledger", dir);
    MDB_OK(mdb_env_create(&env));
    MDB_OK(mdb_env_set_maxdbs(env, 16));
    MDB_OK(mdb_env_open(env, path, 0, 0600));
    MDB_OK(mdb_txn_begin(env, NULL, 0, &txn));
    MDB_OK(mdb_dbi_open(txn, db, MDB_CREATE, &dbi));
    MDB_val k = {key.size, (void *)(uintptr_t)key.data};
    MDB_val v = {value.size + STORE_CHECK_BYTES, bytes};
    MDB_OK(mdb_put(txn, dbi, &k, &v, 0));
    MDB_OK(mdb_txn_commit(txn));
    mdb_env_close(env);
}

/* A row that no block made, or a word that the MDMS did not say. False: it is none of these. */
static bool poison(const char *dir, const char *what)
{
    static const uint8_t key[32] = {0xee}, place[12] = {0, 0, 0, 0, 0, 0, 0, 9};
    static const struct {
        const char *what, *db;
        size_t key_size, value_size;
    } rows[] = {{"hash-extra", "hashes", 32, 8},
                {"epoch-extra", "epochs", 4, 12},
                {"meta-extra", "meta", 7, 12},
                {"database-extra", "notes", 4, 12}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (strcmp(what, rows[i].what) == 0) {
            put_extra(dir, rows[i].db, span_of(key, rows[i].key_size),
                      span_of(place, rows[i].value_size));
            return true;
        }
    if (strcmp(what, "retention-forged") == 0) {
        uint8_t first[16], tx[RETENTION_TX_BYTES];
        const sm2_signature nobody = {{1}};
        struct writer f = writer_on(first, sizeof first), w = writer_on(tx, sizeof tx);
        retention_encode(&f, &(struct retention){.number = 1, .below = 1000000});
        mdms_tx_encode(&w, TX_RETENTION, writer_span(&f), &nobody);
        AMI_CHECK(writer_ok(&w));
        put_extra(dir, "meta", SPAN_LITERAL("retention"), writer_span(&w));
        return true;
    }
    if (strcmp(what, "mark-forged") == 0) {
        const uint8_t mark[8] = {0, 0, 0, 0, 0, 0, 0, PRUNED_BELOW};
        put_extra(dir, "meta", SPAN_LITERAL("pruned"), span_of(mark, sizeof mark));
        return true;
    }
    return false;
}

#define GROWS SIZE_MAX

/* Changes or deletes an entry of a sub-database: the first, or the last one. */
static void damage(const char *dir, const char *what)
{
    static const struct {
        const char *what, *db;
        bool last, delete;
        size_t at; /* byte of the value that changes, from its end; GROWS: a row more */
    } kinds[] = {
        {"hash-index", "hashes", false, false, 1}, {"hash-gone", "hashes", true, true, 0},
        {"row-index", "runs", false, false, 1},    {"run-gone", "runs", true, true, 0},
        {"row-extra", "runs", true, false, GROWS}, {"block-gone", "blocks", false, true, 0},
        {"block-byte", "blocks", true, false, 30}, {"change-byte", "changes", true, false, 9},
        {"change-gone", "changes", true, true, 0}, {"record-byte", "records", false, false, 9},
        {"record-gone", "records", true, true, 0}, {"front-check", "blocks", true, false, 0},
        {"retention-gone", "meta", false, true, 0}};
    char path[4096];
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_cursor *cursor;
    MDB_val k, v;
    size_t i = 0;
    if (poison(dir, what))
        return;
    while (i < sizeof kinds / sizeof kinds[0] && strcmp(kinds[i].what, what) != 0)
        i++;
    AMI_CHECK(i < sizeof kinds / sizeof kinds[0]);
    snprintf(path, sizeof path, "%s/ledger", dir);
    MDB_OK(mdb_env_create(&env));
    MDB_OK(mdb_env_set_maxdbs(env, 16));
    MDB_OK(mdb_env_open(env, path, 0, 0600));
    MDB_OK(mdb_txn_begin(env, NULL, 0, &txn));
    MDB_OK(mdb_dbi_open(txn, kinds[i].db, 0, &dbi));
    MDB_OK(mdb_cursor_open(txn, dbi, &cursor));
    k = (MDB_val){sizeof "retention" - 1, "retention"};
    MDB_OK(mdb_cursor_get(cursor, &k, &v,
                          strcmp(kinds[i].db, "meta") == 0 ? MDB_SET
                          : kinds[i].last                  ? MDB_LAST
                                                           : MDB_FIRST));
    if (kinds[i].delete) {
        MDB_OK(mdb_cursor_del(cursor, 0));
    } else {
        uint8_t *copy = malloc(v.mv_size + ROW_BYTES), key[64];
        AMI_CHECK(copy != NULL && k.mv_size <= sizeof key);
        memcpy(copy, v.mv_data, v.mv_size);
        memcpy(key, k.mv_data, k.mv_size);
        /* Behind the store's back, and with a check that fits: what an audit has to find itself. A
         * block has that of its front, too, which damage to its body leaves as it is. */
        size_t checks = strcmp(kinds[i].db, "blocks") == 0 ? 2 : 1;
        size_t end = v.mv_size - STORE_CHECK_BYTES;
        if (kinds[i].at == GROWS) {
            memcpy(copy + end, copy + end - ROW_BYTES, ROW_BYTES);
            end += ROW_BYTES;
            copy[end - ROW_BYTES + ROW_KEY_BYTES - 1]++; /* another key */
        } else {
            copy[v.mv_size - checks * STORE_CHECK_BYTES - kinds[i].at] ^=
                1; /* at 0: the front's check */
        }
        store_check(copy + end, kinds[i].db, span_of(key, k.mv_size), span_of(copy, end),
                    span_of(NULL, 0));
        MDB_val nk = {k.mv_size, key}, nv = {end + STORE_CHECK_BYTES, copy};
        mdb_cursor_close(cursor);
        MDB_OK(mdb_put(txn, dbi, &nk, &nv, 0));
        free(copy);
        cursor = NULL;
    }
    if (cursor != NULL)
        mdb_cursor_close(cursor);
    MDB_OK(mdb_txn_commit(txn));
    mdb_env_close(env);
}

int main(int argc, char **argv)
{
    if (argc < 2 || argc > 4)
        return 2;
    (void)mkdir(argv[1], 0700);
    if (argc == 2)
        make_good(argv[1]);
    else if (argc == 3 && strcmp(argv[2], "prune") == 0)
        make_pruned(argv[1]);
    else if (argc == 3)
        make_wrong(argv[1], argv[2]);
    else
        damage(argv[1], argv[3]);
    return 0;
}
