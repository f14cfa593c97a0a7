/* The ledger on disk: what goes in comes out, also after reopening; a batch is whole or absent;
 * room grows, and what does not fit leaves all else as it was. */
#include "tests/ledger/store_dir.h"

#include <stdlib.h>
#include <string.h>

/* --- round trips ------------------------------------------------------------------------------ */

static void blocks_come_back_also_after_reopening(void **state)
{
    (void)state;
    static const uint32_t txs[] = {3, 0, 1, 40};
    struct made *b[4];
    struct tip tip = tip_at_start();
    struct store *s = open_store(STORE_READ_WRITE, 0);
    assert_int_equal(store_height(s), 0);
    for (size_t i = 0; i < 4; i++) {
        b[i] = make_block(&tip, txs[i], 100);
        struct store_batch batch = commit_of(b[i]);
        assert_ok(store_write(s, &batch));
        assert_int_equal(store_height(s), i + 1);
    }
    for (unsigned reopened = 0; reopened < 3; reopened++) {
        for (size_t i = 0; i < 4; i++)
            assert_block(s, b[i]);
        struct certified_block got;
        struct body_reply reply;
        struct block_header header;
        struct qc commit;
        uint64_t height;
        uint32_t index;
        struct ami_id meter = meter_name();
        assert_status(store_block(s, 0, &got, buffer, sizeof buffer), AMI_NOT_FOUND);
        assert_status(store_block(s, 5, &got, buffer, sizeof buffer), AMI_NOT_FOUND);
        assert_status(store_header(s, 5, &header, &commit), AMI_NOT_FOUND);
        assert_status(store_height_of(s, &chain, &height), AMI_NOT_FOUND);
        assert_status(store_body(s, &chain, &reply, buffer, sizeof buffer), AMI_NOT_FOUND);
        assert_status(store_find_tx(s, &chain, &height, &index), AMI_NOT_FOUND);
        assert_status(store_find_report(s, &meter, 1, 45, &height, &index), AMI_NOT_FOUND);
        assert_status(store_find_report(s, &meter, 2, 1, &height, &index), AMI_NOT_FOUND);
        assert_status(store_block(s, 4, &got, buffer, 4000), AMI_TOO_LARGE);
        assert_status(store_body(s, &b[3]->hash, &reply, buffer, 4000), AMI_TOO_LARGE);
        assert_int_equal(store_height(s), 4);
        assert_memory_equal(store_chain(s)->b, chain.b, SM3_BYTES);
        store_close(s);
        s = open_store(reopened == 0 ? STORE_READ_WRITE : STORE_READ_ONLY, 0);
    }
    store_close(s);
    for (size_t i = 0; i < 4; i++)
        free_block(b[i]);
}

static void votes_and_kept_blocks(void **state)
{
    (void)state;
    uint8_t record[512], room[2048];
    struct vote_record vote;
    struct body_reply reply;
    struct tip tip = tip_at_start(), fork = tip;
    struct made *one = make_block(&tip, 2, 50), *two = make_block(&tip, 1, 50);
    fork.sequence = 500;
    struct made *other = make_block(&fork, 3, 50);
    struct store *s = open_store(STORE_READ_WRITE, 0);
    assert_status(store_vote_record(s, &vote, room, sizeof room), AMI_NOT_FOUND);

    struct store_batch batch = pending_of(one);
    batch.vote_record = vote_of(record, 3, &one->hash);
    assert_ok(store_write(s, &batch));
    assert_ok(store_write(s, &batch)); /* a proposal repeated */
    batch = pending_of(other);
    assert_ok(store_write(s, &batch));
    batch = pending_of(two);
    batch.vote_record = vote_of(record, 4, &two->hash);
    assert_ok(store_write(s, &batch));
    store_close(s);

    s = open_store(STORE_READ_WRITE, 0);
    assert_ok(store_vote_record(s, &vote, room, sizeof room));
    assert_int_equal(vote.term, 4);
    assert_memory_equal(vote.prepare.block.b, two->hash.b, SM3_BYTES);
    assert_status(store_vote_record(s, &vote, room, 20), AMI_TOO_LARGE);
    assert_ok(store_body(s, &one->hash, &reply, buffer, sizeof buffer));
    assert_true(span_equal(reply.body, span_of(one->body, one->body_size)));
    assert_ok(store_body(s, &other->hash, &reply, buffer, sizeof buffer));
    assert_int_equal(store_height(s), 0);

    /* Committed: the kept block of that height that lost is gone, the one above stays. */
    batch = commit_of(one);
    assert_ok(store_write(s, &batch));
    assert_block(s, one);
    assert_status(store_body(s, &other->hash, &reply, buffer, sizeof buffer), AMI_NOT_FOUND);
    assert_ok(store_body(s, &two->hash, &reply, buffer, sizeof buffer));
    assert_true(span_equal(reply.body, span_of(two->body, two->body_size)));
    /* A kept block that comes too late is not kept. */
    batch = pending_of(other);
    assert_ok(store_write(s, &batch));
    assert_status(store_body(s, &other->hash, &reply, buffer, sizeof buffer), AMI_NOT_FOUND);
    store_close(s);
    free_block(one);
    free_block(two);
    free_block(other);
}

static void kept_blocks_are_bounded(void **state)
{
    (void)state;
    uint8_t record[512];
    sm3_digest hash[STORE_PENDING_MAX + 8];
    struct body_reply reply;
    struct store *s = open_store(STORE_READ_WRITE, 0);
    for (unsigned i = 0; i < STORE_PENDING_MAX + 8; i++) {
        struct tip tip = tip_at_start();
        struct made *b = make_block(&tip, 0, 0);
        b->header.term = i + 1;
        seal_block(b, VOTE_COMMIT);
        hash[i] = b->hash;
        struct store_batch batch = pending_of(b);
        if (i == 2) /* the third is named by the vote record from now on */
            batch.vote_record = vote_of(record, 3, &b->hash);
        assert_ok(store_write(s, &batch));
        free_block(b);
    }
    for (unsigned i = 0; i < STORE_PENDING_MAX + 8; i++) {
        bool gone = i < 9 && i != 2;
        assert_status(store_body(s, &hash[i], &reply, buffer, sizeof buffer),
                      gone ? AMI_NOT_FOUND : AMI_OK);
    }
    store_close(s);
}

/* --- the registry ----------------------------------------------------------------------------- */

static void append_record(struct writer *run, uint64_t index, const struct record *rec)
{
    uint8_t bytes[RECORD_BYTES_MAX];
    struct writer w = writer_on(bytes, sizeof bytes);
    record_encode(&w, rec);
    assert_true(writer_ok(&w));
    write_u64(run, index);
    write_bytes(run, writer_span(&w));
}

/* A DC revoked, and some meters whose floors and windows differ: what a block changes. */
static void change_registry(struct registry *r, struct writer *run, uint64_t height,
                            unsigned meters)
{
    struct record rec = *registry_at(r, 2);
    rec.revoked_at = height;
    rec.key = NULL;
    assert_ok(registry_load(r, 2, &rec));
    append_record(run, 2, &rec);
    for (unsigned i = 0; i < meters; i++) {
        char name[16];
        struct record meter = {.kind = RECORD_METER,
                               .epoch = 1,
                               .w.b = {2, (uint8_t)i},
                               .agree_part_size = 33,
                               .enrolled_at = height,
                               .floor = 1 + i,
                               .window = 2 * (uint64_t)i};
        snprintf(name, sizeof name, "m%u-%u", (unsigned)height, i);
        assert_ok(ami_id_from_text(&meter.name, name));
        assert_ok(ami_id_from_text(&meter.home_dc, "dc0"));
        uint64_t index = registry_size(r);
        assert_ok(registry_load(r, index, &meter));
        append_record(run, index, &meter);
    }
}

/* Only changed records are stored; the rest comes from the genesis file. */
static void the_registry_comes_back_as_it_was(void **state)
{
    (void)state;
    static uint8_t run_bytes[64 * (RECORD_BYTES_MAX + 12)];
    struct genesis *g = genesis_of_made();
    struct registry *r = registry_new(g);
    assert_non_null(r);
    struct tip tip = tip_at_start();
    struct store *s = open_store(STORE_READ_WRITE, 0);
    for (unsigned i = 0; i < 2; i++) {
        struct writer run = writer_on(run_bytes, sizeof run_bytes);
        struct made *b = make_block(&tip, 1, 10);
        struct store_batch batch = commit_of(b);
        change_registry(r, &run, tip.height, 30);
        assert_true(writer_ok(&run));
        batch.records = writer_span(&run);
        assert_ok(store_write(s, &batch));
        free_block(b);
    }
    sm3_digest root = registry_root(r);
    assert_int_equal(registry_size(r), 1 + 4 + 60);
    registry_free(r);
    store_close(s);

    s = open_store(STORE_READ_ONLY, 0);
    uint64_t height = 0;
    r = registry_new(g);
    assert_non_null(r);
    assert_ok(store_load_registry_at(s, r, &height));
    assert_int_equal(height, 2);
    assert_int_equal(registry_size(r), 1 + 4 + 60);
    sm3_digest loaded = registry_root(r);
    assert_memory_equal(loaded.b, root.b, SM3_BYTES);
    assert_int_equal(registry_at(r, 2)->revoked_at, 2);
    registry_free(r);

    /* Not this genesis file's members. */
    assert_ok(ami_id_from_text(&g->members.member[1].name, "other"));
    r = registry_new(g);
    assert_non_null(r);
    assert_status(store_load_registry(s, r), AMI_DAMAGED);
    registry_free(r);
    store_close(s);
    free(g);
}

/* --- whole or not at all ---------------------------------------------------------------------- */

/* Writes a batch that must fail and looks whether any part of it can be seen. */
static void assert_leaves_no_trace(struct store *s, struct store_batch batch,
                                   const struct made *bad, enum ami_status expected)
{
    uint8_t record[512], room[2048];
    struct vote_record vote;
    struct body_reply reply;
    uint64_t height, before = store_height(s);
    uint32_t index;
    struct ami_id meter = meter_name();
    if (batch.vote_record.size == 0)
        batch.vote_record = vote_of(record, 77, NULL);
    assert_status(store_write(s, &batch), expected);
    assert_int_equal(store_height(s), before);
    assert_ok(store_vote_record(s, &vote, room, sizeof room));
    assert_int_equal(vote.term, 5);
    assert_status(store_body(s, &bad->hash, &reply, buffer, sizeof buffer), AMI_NOT_FOUND);
    assert_status(store_height_of(s, &bad->hash, &height), AMI_NOT_FOUND);
    assert_status(store_find_tx(s, &bad->first_tx, &height, &index), AMI_NOT_FOUND);
    assert_status(store_find_report(s, &meter, 1, bad->first_sequence + 1, &height, &index),
                  AMI_NOT_FOUND);
}

static void a_batch_is_whole_or_absent(void **state)
{
    (void)state;
    uint8_t record[512];
    struct tip tip = tip_at_start();
    struct made *good = make_block(&tip, 3, 60);
    struct store *s = open_store(STORE_READ_WRITE, 0);
    struct store_batch batch = commit_of(good);
    batch.vote_record = vote_of(record, 5, NULL);
    assert_ok(store_write(s, &batch));

    struct tip next = tip;
    struct made *b = make_block(&next, 3, 60);
    batch = commit_of(b);
    batch.block_body.size--;
    assert_leaves_no_trace(s, batch, b, AMI_BAD_ENCODING); /* body cut off */
    batch = commit_of(b);
    batch.records = SPAN_LITERAL("\0\0\0\0\0\0\0\1\0\0\0\2x");
    assert_leaves_no_trace(s, batch, b, AMI_BAD_ENCODING); /* record cut off */
    batch = commit_of(b);
    batch.block_header.size--;
    assert_leaves_no_trace(s, batch, b, AMI_BAD_ENCODING);
    batch = commit_of(b);
    batch.block_commit.size--;
    assert_leaves_no_trace(s, batch, b, AMI_BAD_ENCODING);
    batch = commit_of(b);
    batch.block_commit = span_of(good->commit_bytes, good->commit_size);
    assert_leaves_no_trace(s, batch, b, AMI_BAD_CERTIFICATE); /* of another block */
    seal_block(b, VOTE_PREPARE);
    assert_leaves_no_trace(s, commit_of(b), b, AMI_BAD_CERTIFICATE); /* votes of the other kind */
    b->header.tx_count++;
    seal_block(b, VOTE_COMMIT);
    assert_leaves_no_trace(s, commit_of(b), b, AMI_BAD_ENCODING); /* number of transactions */
    b->header.tx_count--;
    b->header.previous = chain;
    seal_block(b, VOTE_COMMIT);
    assert_leaves_no_trace(s, commit_of(b), b, AMI_BAD_PARENT);
    b->header.previous = tip.hash;
    b->header.height++;
    seal_block(b, VOTE_COMMIT);
    assert_leaves_no_trace(s, commit_of(b), b, AMI_BAD_PARENT);
    b->header.height--;
    b->header.chain.b[0] ^= 1;
    seal_block(b, VOTE_COMMIT);
    assert_leaves_no_trace(s, commit_of(b), b, AMI_WRONG_CHAIN);
    assert_leaves_no_trace(s, pending_of(b), b, AMI_WRONG_CHAIN);
    b->header.chain = chain;
    seal_block(b, VOTE_COMMIT);
    batch = pending_of(b);
    batch.vote_record = SPAN_LITERAL("no vote record");
    assert_leaves_no_trace(s, batch, b, AMI_BAD_ENCODING);
    batch = pending_of(b);
    batch.records = SPAN_LITERAL("\0\0\0\0\0\0\0\1\0\0\0\1x");
    assert_leaves_no_trace(s, batch, b, AMI_BAD_ARGUMENT); /* state without a block */
    free_block(b);

    /* After all that the right block goes in. */
    b = make_block(&tip, 3, 60);
    batch = commit_of(b);
    assert_ok(store_write(s, &batch));
    assert_block(s, b);
    free_block(b);
    free_block(good);
    store_close(s);
}

/* --- room ------------------------------------------------------------------------------------- */

static void the_map_grows_by_itself(void **state)
{
    (void)state;
    struct tip tip = tip_at_start();
    struct store *s = open_store(STORE_READ_WRITE, 0);
    struct made *first = make_block(&tip, 5, 100);
    struct store_batch batch = commit_of(first);
    assert_ok(store_write(s, &batch));
    for (unsigned i = 0; i < 14; i++) {
        struct made *b = make_block(&tip, 480, 4000);
        batch = pending_of(b);
        assert_ok(store_write(s, &batch));
        batch = commit_of(b);
        assert_ok(store_write(s, &batch));
        if (i % 7 == 0)
            assert_block(s, b);
        free_block(b);
    }
    assert_true(data_size() > 20 << 20);
    store_close(s);
    s = open_store(STORE_READ_WRITE, 0);
    assert_int_equal(store_height(s), 15);
    assert_block(s, first);
    store_close(s);
    free_block(first);
}

static void a_full_ledger_keeps_what_it_has(void **state)
{
    (void)state;
    uint8_t record[512], room[2048];
    struct vote_record vote;
    struct body_reply reply;
    struct certified_block got;
    struct tip tip = tip_at_start(), before;
    struct store *s;
    assert_status(store_open(&s, dir, &chain, STORE_READ_WRITE, 4096, why, sizeof why),
                  AMI_BAD_ARGUMENT);
    s = open_store(STORE_READ_WRITE, 4 << 20);
    struct made *b = NULL;
    enum ami_status status;
    do {
        if (b != NULL)
            free_block(b);
        before = tip;
        b = make_block(&tip, 240, 4000);
        struct store_batch batch = commit_of(b);
        batch.vote_record = vote_of(record, tip.height, NULL);
        status = store_write(s, &batch);
    } while (status == AMI_OK);
    assert_status(status, AMI_FULL);
    assert_in_range(before.height, 2, 4);
    assert_int_equal(store_height(s), before.height);
    assert_ok(store_vote_record(s, &vote, room, sizeof room));
    assert_int_equal(vote.term, before.height);
    assert_status(store_body(s, &b->hash, &reply, buffer, sizeof buffer), AMI_NOT_FOUND);
    struct store_batch batch = commit_of(b);
    assert_status(store_write(s, &batch), AMI_FULL); /* again, and again without damage */
    free_block(b);

    tip = before;
    b = make_block(&tip, 2, 100);
    batch = commit_of(b);
    assert_ok(store_write(s, &batch));
    assert_block(s, b);
    for (uint64_t h = 1; h <= tip.height; h++)
        assert_ok(store_block(s, h, &got, buffer, sizeof buffer));
    store_close(s);

    /* With more room it goes on. */
    s = open_store(STORE_READ_WRITE, 8 << 20);
    assert_block(s, b);
    free_block(b);
    b = make_block(&tip, 240, 4000);
    batch = commit_of(b);
    assert_ok(store_write(s, &batch));
    free_block(b);
    store_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_DISK(blocks_come_back_also_after_reopening),
        ON_DISK(votes_and_kept_blocks),
        ON_DISK(kept_blocks_are_bounded),
        ON_DISK(the_registry_comes_back_as_it_was),
        ON_DISK(a_batch_is_whole_or_absent),
        ON_DISK(the_map_grows_by_itself),
        ON_DISK(a_full_ledger_keeps_what_it_has),
    };
    return cmocka_run_group_tests(tests, start_crypto, NULL);
}
