/* Evidence (consensus.md, rule 12): every kind convicts who is guilty, and nothing that an honest
 * member may have signed convicts anybody. */
#include "tests/harness.h"

#include "tests/ledger/fixture.h"

#include <string.h>

#define ACCUSED 2

static struct fixture *f;
static struct fixture_evidence x;
static sm3_digest block_a, block_b;

static int start(void **state)
{
    (void)state;
    f = fixture_new(4, 1);
    block_a = sm3(SPAN_LITERAL("a"));
    block_b = sm3(SPAN_LITERAL("b"));
    return 0;
}

static int stop(void **state)
{
    (void)state;
    fixture_free(f);
    return 0;
}

static enum ami_status check(void)
{
    return evidence_check(&f->genesis.members, &x.e);
}

static void use(uint8_t kind, const struct writer *first, const struct writer *second)
{
    assert_true(writer_ok(first) && writer_ok(second));
    x.e = (struct evidence){.chain = f->genesis.members.chain,
                            .epoch = 1,
                            .accused = ACCUSED,
                            .kind = kind,
                            .first = writer_span(first),
                            .second = writer_span(second)};
}

#define ENCODE(name, T, value)                                                                     \
    struct writer name = writer_on(x.name, sizeof x.name);                                         \
    T##_encode(&name, value)
#define NO_SECOND struct writer second = writer_on(x.second, 0)

static void every_kind_convicts_the_guilty(void **state)
{
    (void)state;
    for (uint8_t kind = EVIDENCE_VOTES; kind < EVIDENCE_KIND_END; kind++)
        for (uint8_t accused = 0; accused < 4; accused++) {
            fixture_evidence(&x, f, accused, kind);
            assert_ok(check());
            assert_string_not_equal(evidence_kind_name(kind), "unknown");
        }
    assert_string_equal(evidence_kind_name(0), "unknown");
    assert_string_equal(evidence_kind_name(EVIDENCE_KIND_END), "unknown");
}

/* Somebody else, another ledger, another epoch, a damaged statement, a kind that does not fit. */
static void nothing_of_it_can_be_changed(void **state)
{
    (void)state;
    for (uint8_t kind = EVIDENCE_VOTES; kind < EVIDENCE_KIND_END; kind++) {
        fixture_evidence(&x, f, ACCUSED, kind);
        const struct evidence sound = x.e;
        for (uint8_t other = 0; other < 6; other++) {
            x.e.accused = other;
            assert_status(check(), other == ACCUSED ? AMI_OK : AMI_BAD_ARGUMENT);
        }
        x.e = sound;
        x.e.chain.b[0] ^= 1;
        assert_status(check(), AMI_WRONG_CHAIN);
        x.e = sound;
        x.e.epoch = 2;
        assert_status(check(), AMI_WRONG_EPOCH);
        for (uint8_t k = 0; k <= EVIDENCE_KIND_END; k++) {
            x.e = sound;
            x.e.kind = k;
            assert_true((check() == AMI_OK) == (k == kind));
        }
        x.e = sound;
        for (size_t at = 0; at < sound.first.size + sound.second.size; at++) {
            uint8_t *byte = at < sound.first.size ? &x.first[at] : &x.second[at - sound.first.size];
            *byte ^= 1;
            assert_true(check() != AMI_OK);
            *byte ^= 1;
        }
        for (size_t size = 0; size < sound.first.size; size++) {
            x.e.first.size = size;
            assert_true(check() != AMI_OK);
        }
        x.e = sound;
        x.e.second = x.e.second.size == 0 ? x.e.first : span_of(NULL, 0);
        assert_true(check() != AMI_OK);
    }
}

/* A vote that another member signed, shown under the accused's index: the signature does not cover
 * the voter, so it must be the key that counts. */
static void a_vote_under_another_name_convicts_nobody(void **state)
{
    (void)state;
    struct vote a = fixture_vote(f, VOTE_PREPARE, 3, 3, &block_a, ACCUSED);
    struct vote b = fixture_vote(f, VOTE_PREPARE, 3, 3, &block_b, 1);
    b.voter = ACCUSED;
    fixture_evidence_votes(&x, f, &a, &b);
    assert_status(check(), AMI_BAD_SIGNATURE);
    fixture_evidence_votes(&x, f, &b, &a);
    assert_status(check(), AMI_BAD_SIGNATURE);
}

/* One vote signed twice; votes for other slots; a prepare and a commit vote. */
static void honest_votes_convict_nobody(void **state)
{
    (void)state;
    const struct vote v = fixture_vote(f, VOTE_PREPARE, 3, 3, &block_a, ACCUSED);
    const struct vote others[] = {
        v,
        fixture_vote(f, VOTE_PREPARE, 3, 3, &block_a, ACCUSED),
        fixture_vote(f, VOTE_COMMIT, 3, 3, &block_b, ACCUSED),
        fixture_vote(f, VOTE_PREPARE, 4, 3, &block_b, ACCUSED),
        fixture_vote(f, VOTE_PREPARE, 3, 4, &block_b, ACCUSED),
    };
    assert_memory_not_equal(&v.signature, &others[1].signature, sizeof v.signature);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        fixture_evidence_votes(&x, f, &v, &others[i]);
        assert_status(check(), AMI_BAD_ARGUMENT);
    }
    /* Kinds that no member knows are no votes. */
    struct vote a = fixture_vote(f, 3, 3, 3, &block_a, ACCUSED);
    struct vote b = fixture_vote(f, 3, 3, 3, &block_b, ACCUSED);
    fixture_evidence_votes(&x, f, &a, &b);
    assert_status(check(), AMI_BAD_ARGUMENT);
}

static enum ami_status two_heads(uint64_t term_a, const struct block_header *a,
                                 const sm3_digest *rest_a, uint64_t term_b,
                                 const struct block_header *b, const sm3_digest *rest_b)
{
    struct proposal_head p, q;
    fixture_head(f, &p, term_a, ACCUSED, a, rest_a);
    fixture_head(f, &q, term_b, ACCUSED, b, rest_b);
    ENCODE(first, proposal_head, &p);
    ENCODE(second, proposal_head, &q);
    use(EVIDENCE_PROPOSALS, &first, &second);
    return check();
}

/* The same block with other certificates, as it is sent again; M's block again in a later term;
 * another height. */
static void honest_proposals_convict_nobody(void **state)
{
    (void)state;
    const struct block_header a = fixture_header(f, 3, 5, ACCUSED, 1);
    const struct block_header b = fixture_header(f, 3, 5, ACCUSED, 2);
    const struct block_header higher = fixture_header(f, 3, 6, ACCUSED, 3);
    assert_status(two_heads(3, &a, &block_a, 3, &a, &block_b), AMI_BAD_ARGUMENT);
    assert_status(two_heads(3, &a, &block_a, 4, &a, &block_a), AMI_BAD_ARGUMENT);
    assert_status(two_heads(3, &a, &block_a, 4, &b, &block_a), AMI_BAD_ARGUMENT);
    assert_status(two_heads(3, &a, &block_a, 3, &higher, &block_a), AMI_BAD_ARGUMENT);
    assert_ok(two_heads(3, &a, &block_a, 3, &b, &block_a));
    /* Alone: a fresh block of its own, and another's block of a term before. */
    const struct block_header of_other = fixture_header(f, 2, 5, 1, 4);
    const struct block_header *const single[] = {&a, &of_other};
    for (size_t i = 0; i < 2; i++) {
        struct proposal_head p;
        fixture_head(f, &p, 3, ACCUSED, single[i], &block_a);
        ENCODE(first, proposal_head, &p);
        NO_SECOND;
        use(EVIDENCE_PROPOSAL, &first, &second);
        assert_status(check(), AMI_BAD_ARGUMENT);
    }
}

static enum ami_status hidden(enum vote_kind kind, uint64_t term, uint64_t height,
                              uint64_t grant_term, const struct qc *high)
{
    static struct grant g;
    const struct vote v = fixture_vote(f, kind, term, height, &block_a, ACCUSED);
    fixture_grant(f, &g, grant_term, 0, ACCUSED, high);
    ENCODE(first, vote, &v);
    ENCODE(second, grant, &g);
    use(EVIDENCE_HIDDEN, &first, &second);
    return check();
}

/* Who voted to commit at (t, h) may grant a later term with that certificate or any of higher rank;
 * terms weigh more than heights; a grant of the same or an older term says nothing. */
static void honest_grants_convict_nobody(void **state)
{
    (void)state;
    const uint32_t q = fixture_quorum(f);
    const struct qc at = fixture_qc(f, VOTE_PREPARE, 5, 7, &block_a, q);
    const struct qc below = fixture_qc(f, VOTE_COMMIT, 5, 6, &block_a, q);
    const struct qc older = fixture_qc(f, VOTE_COMMIT, 4, 99, &block_a, q);
    const struct qc newer = fixture_qc(f, VOTE_PREPARE, 6, 1, &block_b, q);
    assert_status(hidden(VOTE_COMMIT, 5, 7, 8, &at), AMI_BAD_ARGUMENT);
    assert_status(hidden(VOTE_COMMIT, 5, 7, 8, &newer), AMI_BAD_ARGUMENT);
    assert_ok(hidden(VOTE_COMMIT, 5, 7, 8, &below));
    assert_ok(hidden(VOTE_COMMIT, 5, 7, 6, &older));
    assert_ok(hidden(VOTE_COMMIT, 5, 7, 6, NULL));
    assert_status(hidden(VOTE_PREPARE, 5, 7, 8, NULL), AMI_BAD_ARGUMENT);
    assert_status(hidden(VOTE_COMMIT, 5, 7, 5, NULL), AMI_BAD_ARGUMENT);
    assert_status(hidden(VOTE_COMMIT, 5, 7, 4, NULL), AMI_BAD_ARGUMENT);

    static struct grant g[2];
    for (unsigned i = 0; i < 2; i++)
        fixture_grant(f, &g[i], 8, 1, ACCUSED, &at); /* signed twice */
    ENCODE(first, grant, &g[0]);
    ENCODE(second, grant, &g[1]);
    assert_memory_not_equal(x.first, x.second, first.size);
    use(EVIDENCE_GRANTS, &first, &second);
    assert_status(check(), AMI_BAD_ARGUMENT);
    fixture_grant(f, &g[1], 9, 1, ACCUSED, &at); /* another term */
    second.size = 0;
    grant_encode(&second, &g[1]);
    use(EVIDENCE_GRANTS, &first, &second);
    assert_status(check(), AMI_BAD_ARGUMENT);
    fixture_grant(f, &g[1], 8, 1, ACCUSED, &newer); /* this term with another certificate */
    second.size = 0;
    grant_encode(&second, &g[1]);
    use(EVIDENCE_GRANTS, &first, &second);
    assert_ok(check());
    second.size = 0;
    use(EVIDENCE_GRANT, &first, &second); /* of a lower term, as it should be */
    assert_status(check(), AMI_BAD_ARGUMENT);
}

/* Two certificates of one slot for two blocks: everybody who signed both, and nobody else. */
static void a_pair_of_certificates_convicts_who_signed_both(void **state)
{
    (void)state;
    const struct qc a = fixture_qc(f, VOTE_COMMIT, 3, 3, &block_a, 0x7);
    const struct qc b = fixture_qc(f, VOTE_COMMIT, 3, 3, &block_b, 0xd);
    uint32_t convicted = 0;
    for (uint8_t i = 0; i < 32; i++) {
        struct vote v, w;
        if (!evidence_vote_of(&v, &a, i) || !evidence_vote_of(&w, &b, i))
            continue;
        assert_ok(vote_check(&f->genesis.members, &v));
        fixture_evidence_votes(&x, f, &v, &w);
        assert_ok(check());
        convicted |= 1u << i;
    }
    assert_int_equal(convicted, 0x5);
    struct qc cut = a;
    struct vote v;
    cut.signatures_count = 2;
    assert_false(evidence_vote_of(&v, &cut, 2));
}

/* The largest statement is a grant with everybody's votes; two of them fit a transaction. */
static void the_largest_evidence_fits(void **state)
{
    (void)state;
    static struct grant g;
    static uint8_t bytes[2 * AMI_TX_BYTES_MAX], whole[2 * AMI_TX_BYTES_MAX];
    g.has_high = true;
    g.high.signatures_count = AMI_MEMBERS_MAX;
    ENCODE(first, grant, &g);
    ENCODE(second, grant, &g);
    use(EVIDENCE_GRANTS, &first, &second);
    struct writer e = writer_on(bytes, sizeof bytes), t = writer_on(whole, sizeof whole);
    evidence_encode(&e, &x.e);
    struct tx tx = {.kind = 6, .first = writer_span(&e)};
    tx_encode(&t, &tx);
    assert_true(writer_ok(&t) && t.size <= AMI_TX_BYTES_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_convicts_the_guilty),
        cmocka_unit_test(nothing_of_it_can_be_changed),
        cmocka_unit_test(a_vote_under_another_name_convicts_nobody),
        cmocka_unit_test(honest_votes_convict_nobody),
        cmocka_unit_test(honest_proposals_convict_nobody),
        cmocka_unit_test(honest_grants_convict_nobody),
        cmocka_unit_test(a_pair_of_certificates_convicts_who_signed_both),
        cmocka_unit_test(the_largest_evidence_fits),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
