/* Which committee certifies a block, as a meter's process knows it: each change is proved, each
 * block counts in its own epoch only, and what is kept is bounded. */
#include "tests/harness.h"

#include "meter/store.h"
#include "tests/ledger/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct fixture *f;
static struct fixture_body *body;
static struct headers *h;
static struct fixture_device meter;

static int start(void **state)
{
    (void)state;
    f = fixture_new(4, 5);
    body = fixture_body();
    h = calloc(1, sizeof *h);
    assert_non_null(h);
    headers_init(h, &f->genesis);
    meter = fixture_meter(f, 1);
    fixture_meter_enrol(f, body, &meter, &f->dc[0].name);
    fixture_block_free(fixture_commit(f, body, 1));
    fixture_clear(body);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    fixture_free(f);
    free(body);
    free(h);
    return 0;
}

static struct fixture_block *block(void)
{
    fixture_report(f, body, &meter, &f->dc[0], 20);
    struct fixture_block *b = fixture_commit(f, body, 1);
    fixture_clear(body);
    return b;
}

static enum ami_status add(const struct block_header *header, const struct qc *commit)
{
    uint8_t bytes[4096];
    struct block_proof p = {.header = *header, .commit = *commit};
    struct writer w = writer_on(bytes, sizeof bytes);
    block_proof_encode(&w, &p);
    return headers_add(h, writer_span(&w));
}

static enum ami_status add_block(void)
{
    struct fixture_block *b = block();
    enum ami_status status = add(&b->header, &b->commit);
    assert_true((status == AMI_OK) == (headers_find(h, b->header.height, &b->hash) != NULL));
    fixture_block_free(b);
    return status;
}

/* A DC joins two blocks later. The block with the change; the proof is of its transaction 1. */
static struct fixture_block *join(const struct fixture_device *d)
{
    fixture_dc_enrol(f, body, d);
    fixture_membership(f, body, MEMBER_JOIN, d, 2);
    fixture_report(f, body, &meter, &f->dc[0], 20);
    struct fixture_block *b = fixture_commit(f, body, 1);
    fixture_clear(body);
    return b;
}

static void blocks_count_in_their_epoch(void **state)
{
    (void)state;
    struct fixture_device dc5 = fixture_device(f, ROLE_DC_SIGN, fixture_id("dc-5x"), 1);
    assert_ok(add_block());
    struct fixture_block *change = join(&dc5), *last = block(), *first = block();
    assert_int_equal(first->header.epoch, 2);
    struct membership_proof p = fixture_membership_proof(change, 1);
    assert_ok(add(&last->header, &last->commit)); /* still the old epoch */
    assert_status(add(&first->header, &first->commit), AMI_WRONG_EPOCH);
    assert_ok(headers_advance(h, &p));
    assert_int_equal(headers_committee(h)->members.epoch, 2);
    assert_int_equal(headers_committee(h)->from, first->header.height);
    assert_status(headers_advance(h, &p), AMI_WRONG_EPOCH); /* the same again */
    assert_ok(add(&first->header, &first->commit));
    assert_ok(add(&change->header, &change->commit)); /* old ones count as before */
    assert_ok(add_block());
    fixture_block_free(change);
    fixture_block_free(last);
    fixture_block_free(first);
}

/* Whoever has the keys of a former committee cannot certify anything at heights after it. */
static void former_members_certify_nothing_new(void **state)
{
    (void)state;
    struct fixture_device dc5 = fixture_device(f, ROLE_DC_SIGN, fixture_id("dc-5x"), 1);
    const struct members old = *registry_members(f->registry, 1);
    struct fixture_block *change = join(&dc5), *last = block(), *first = block();
    struct membership_proof p = fixture_membership_proof(change, 1);
    assert_ok(headers_advance(h, &p));
    struct block_header forged = first->header;
    forged.epoch = old.epoch;
    forged.members = old.hash;
    for (unsigned k = 0; k < 3; k++) {
        forged.height = last->header.height + k;
        sm3_digest hash = block_hash(&forged);
        struct qc c = {.kind = VOTE_COMMIT,
                       .chain = old.chain,
                       .epoch = 1,
                       .term = forged.term,
                       .height = forged.height,
                       .block = hash,
                       .signers = 7};
        for (uint8_t i = 0; i < 3; i++) {
            struct vote v = {c.kind, c.chain, c.epoch, c.term, c.height, c.block, i, {{0}}};
            uint8_t random[SM2_WIDE_BYTES];
            fixture_random(f, random);
            vote_sign(&v, &f->dc[i].key, random);
            c.signatures[c.signatures_count++] = v.signature;
        }
        assert_ok(qc_check(&old, &c)); /* it would be a good one */
        assert_status(add(&forged, &c), k == 0 ? AMI_OK : AMI_WRONG_EPOCH);
    }
    fixture_block_free(change);
    fixture_block_free(last);
    fixture_block_free(first);
}

static void only_what_is_proved(void **state)
{
    (void)state;
    struct fixture_device dc5 = fixture_device(f, ROLE_DC_SIGN, fixture_id("dc-5x"), 1);
    struct fixture_block *change = join(&dc5), *other = block();
    const struct membership_proof good = fixture_membership_proof(change, 1);
    static struct headers before;
    before = *h;
    struct membership_proof p;
#define REFUSED(spoil, status)                                                                     \
    do {                                                                                           \
        p = good;                                                                                  \
        spoil;                                                                                     \
        assert_status(headers_advance(h, &p), status);                                             \
        assert_memory_equal(h, &before, sizeof before);                                            \
    } while (0)
    REFUSED(p.index = 0, AMI_BAD_PROOF);
    REFUSED(p.path[0].b[1] ^= 1, AMI_BAD_PROOF);
    REFUSED(p.path_count = 0, AMI_BAD_PROOF);
    REFUSED(p.commit = other->commit, AMI_BAD_CERTIFICATE);
    REFUSED(p.commit.signatures[1].b[9] ^= 1, AMI_BAD_CERTIFICATE);
    REFUSED(p.commit.kind = VOTE_PREPARE, AMI_BAD_CERTIFICATE);
    REFUSED(p.header.timestamp_ms++, AMI_BAD_CERTIFICATE);
    REFUSED(p.header.epoch = 2, AMI_WRONG_EPOCH);
    REFUSED(p.header.members.b[3] ^= 1, AMI_WRONG_EPOCH);
    REFUSED(p.header.chain.b[3] ^= 1, AMI_WRONG_CHAIN);
    REFUSED(p = fixture_membership_proof(change, 0), AMI_BAD_ENCODING); /* an enrolment */
    REFUSED(p.tx.size--, AMI_BAD_ENCODING);
    /* On the ledger of liars, but not from the MDMS. */
    uint8_t bytes[AMI_TX_BYTES_MAX];
    memcpy(bytes, good.tx.data, good.tx.size);
    bytes[good.tx.size - 1] ^= 1;
    struct tx_view tx;
    assert_ok(tx_view_parse(&tx, span_of(bytes, good.tx.size)));
    p = good;
    p.tx = tx.encoded;
    p.index = 0;
    p.path_count = 0;
    p.header.tx_count = 1;
    p.header.merkle_root = tx_leaf(&tx.id);
    sm3_digest hash = block_hash(&p.header);
    p.commit = fixture_qc(f, VOTE_COMMIT, 1, p.header.height, &hash, 7);
    assert_status(headers_advance(h, &p), AMI_BAD_SIGNATURE);
    assert_memory_equal(h, &before, sizeof before);
    p = good;
    assert_ok(headers_advance(h, &p));
    fixture_block_free(change);
    fixture_block_free(other);
}

/* How many digests of leaf i's path count when those of all leaves before it were shown: up to
 * where it is the neighbour of one of theirs. */
static size_t not_shown(uint32_t i, uint32_t count)
{
    size_t size = 0;
    for (; count > 1 && i % 2 == 0; i /= 2, count = count / 2 + count % 2)
        size += i + 1 < count;
    return size;
}

/* Every leaf of trees of many shapes, with what was shown before and without; and whatever is wrong
 * with a proof is found in both cases. */
static void leaves_are_checked_once_for_all_that_is_above(void **state)
{
    (void)state;
    static const uint32_t counts[] = {1, 2, 31, 32, 33, 64, 65, 100, 1000};
    static sm3_digest leaves[1000];
    for (size_t k = 0; k < sizeof counts / sizeof counts[0]; k++) {
        const uint32_t count = counts[k];
        struct certified_header c = {.height = 1000 + 8 * k, .tx_count = count};
        c.hash.b[0] = (uint8_t)(k + 1);
        struct merkle_tree *t = merkle_tree_new();
        for (uint32_t i = 0; i < count; i++) {
            const uint8_t bytes[2] = {(uint8_t)(i >> 8), (uint8_t)i};
            leaves[i] = merkle_leaf(span_of(bytes, 2));
            assert_ok(merkle_tree_set(t, i, &leaves[i]));
        }
        c.merkle_root = merkle_tree_root(t);
        for (uint32_t i = 0; i < count; i++) {
            sm3_digest path[MERKLE_PATH_MAX + 1] = {{{0}}};
            const size_t size = merkle_tree_path(t, i, path);
            sm3_digest other = leaves[i];
            other.b[31] ^= 1;
            for (unsigned warm = 0; warm < 2; warm++) {
                /* What was shown is not computed again. */
                for (size_t at = 0; at < (warm ? size : not_shown(i, count)); at++) {
                    path[at].b[5] ^= 1;
                    assert_status(headers_check_leaf(h, &c, &leaves[i], i, path, size),
                                  warm ? AMI_OK : AMI_BAD_PROOF);
                    path[at].b[5] ^= 1;
                }
                assert_status(headers_check_leaf(h, &c, &other, i, path, size), AMI_BAD_PROOF);
                assert_status(headers_check_leaf(h, &c, &leaves[i], i, path, size + 1),
                              AMI_BAD_PROOF);
                if (size > 0)
                    assert_status(headers_check_leaf(h, &c, &leaves[i], i, path, size - 1),
                                  AMI_BAD_PROOF);
                if (count > 1)
                    assert_status(
                        headers_check_leaf(h, &c, &leaves[i], (i + 1) % count, path, size),
                        AMI_BAD_PROOF);
                assert_status(headers_check_leaf(h, &c, &leaves[i], count, path, size),
                              AMI_BAD_PROOF);
                assert_ok(headers_check_leaf(h, &c, &leaves[i], i, path, size));
            }
        }
        /* What was shown of one block says nothing of another in its place. */
        struct certified_header next = c;
        next.height += METER_TREES_KEPT;
        next.hash.b[1] ^= 1;
        next.merkle_root.b[0] ^= 1;
        sm3_digest path[MERKLE_PATH_MAX];
        const size_t size = merkle_tree_path(t, 0, path);
        assert_status(headers_check_leaf(h, &next, &leaves[0], 0, path, size), AMI_BAD_PROOF);
        merkle_tree_free(t);
    }
}

/* Forty DCs come and go, one after the other. */
static void places_and_committees_are_bounded(void **state)
{
    (void)state;
    struct fixture_block *early = block();
    for (unsigned k = 0; k < 40; k++) {
        uint8_t index = 0;
        struct fixture_device d = fixture_device(f, ROLE_DC_SIGN, fixture_id("late-%u", k), 1);
        f->later_count = 0;
        struct fixture_block *b = join(&d);
        struct membership_proof p = fixture_membership_proof(b, 1);
        assert_ok(headers_advance(h, &p));
        fixture_block_free(b);
        uint8_t place = headers_place(h, &d.name);
        assert_true(place < METER_DCS && headers_is_member(h, place, &index));
        assert_int_equal(index, 4);
        for (unsigned i = 0; i < 4; i++)
            assert_int_equal(headers_place(h, &f->dc[i].name), i);
        assert_ok(add_block());
        fixture_membership(f, body, MEMBER_LEAVE, &d, 2);
        b = fixture_commit(f, body, 1);
        fixture_clear(body);
        p = fixture_membership_proof(b, 0);
        assert_ok(headers_advance(h, &p));
        fixture_block_free(b);
        assert_false(headers_is_member(h, place, &index));
        assert_ok(add_block());
        assert_true(h->dc_count <= METER_DCS);
    }
    assert_int_equal(h->newest, 81);
    assert_int_equal(headers_place(h, &f->dc[3].name), 3);
    /* A block of an epoch that is forgotten. */
    assert_status(add(&early->header, &early->commit), AMI_WRONG_EPOCH);
    fixture_block_free(early);
}

/* What a process learned it knows when it starts again. */
static void committees_are_kept_on_disk(void **state)
{
    (void)state;
    char dir[] = "/tmp/meter-headers.XXXXXX";
    struct why why = {{0}};
    struct meter_store *s;
    assert_non_null(mkdtemp(dir));
    assert_ok(meter_store_open(&s, dir, METER_STORE_CREATE, &f->genesis.network.id,
                               &f->genesis.members.chain, 16u << 20, &why));
    for (unsigned k = 0; k < 3; k++) {
        struct fixture_device d = fixture_device(f, ROLE_DC_SIGN, fixture_id("late-%u", k), 1);
        struct fixture_block *b = join(&d);
        struct membership_proof p = fixture_membership_proof(b, 1);
        uint8_t bytes[8192];
        struct writer w = writer_on(bytes, sizeof bytes);
        membership_proof_encode(&w, &p);
        assert_true(writer_ok(&w));
        assert_ok(headers_advance(h, &p));
        struct meter_op op = {
            .kind = METER_OP_EPOCH, .epoch = h->newest, .record = writer_span(&w)};
        assert_ok(meter_store_apply(s, &op, 1, &why));
        fixture_block_free(b);
        assert_ok(add_block());
    }
    meter_store_close(s);
    struct headers *again = calloc(1, sizeof *again);
    assert_non_null(again);
    headers_init(again, &f->genesis);
    assert_ok(meter_store_open(&s, dir, METER_STORE_WRITE, &f->genesis.network.id,
                               &f->genesis.members.chain, 0, &why));
    assert_ok(meter_store_committees(s, again));
    assert_int_equal(again->newest, 4);
    assert_memory_equal(&headers_committee(again)->members.hash,
                        &headers_committee(h)->members.hash, sizeof(sm3_digest));
    /* Damage is found: the proofs are checked again. */
    struct meter_op op = {.kind = METER_OP_EPOCH, .epoch = 3, .record = SPAN_LITERAL("?")};
    assert_ok(meter_store_apply(s, &op, 1, &why));
    headers_init(again, &f->genesis);
    assert_status(meter_store_committees(s, again), AMI_DAMAGED);
    meter_store_close(s);
    free(again);
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    assert_int_equal(system(command), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        TEST(blocks_count_in_their_epoch), TEST(former_members_certify_nothing_new),
        TEST(only_what_is_proved),         TEST(places_and_committees_are_bounded),
        TEST(committees_are_kept_on_disk), TEST(leaves_are_checked_once_for_all_that_is_above),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
