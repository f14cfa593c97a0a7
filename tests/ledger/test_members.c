/* Who makes a quorum, votes, and certificates that prove themselves (consensus.md, "Sizes" and
 * "Objects"). */
#include "tests/harness.h"

#include "tests/ledger/fixture.h"

#include <string.h>

static struct fixture *f;

static int start(void **state)
{
    (void)state;
    f = fixture_new(7, 1);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    fixture_free(f);
    return 0;
}

static const struct members *members(void)
{
    return &f->genesis.members;
}

/* f = floor((n-1)/3), q = ceil((n+f+1)/2): the table, from the formulas of consensus.md, and what a
 * quorum is for: any two share an honest member, and the honest ones can make one. */
static void quorums_from_1_to_31(void **state)
{
    (void)state;
    static const unsigned of_the_text[][2] = {{4, 3}, {5, 4}, {6, 4}, {7, 5}, {8, 6}, {10, 7}};
    for (size_t i = 0; i < sizeof of_the_text / sizeof of_the_text[0]; i++)
        assert_int_equal(members_quorum(of_the_text[i][0]), of_the_text[i][1]);
    for (unsigned n = 1; n <= AMI_MEMBERS_MAX; n++) {
        unsigned faulty = members_f(n), q = members_quorum(n);
        assert_true(3 * faulty + 1 <= n && n < 3 * (faulty + 1) + 1);
        assert_true(2 * q >= n + faulty + 1 && 2 * (q - 1) < n + faulty + 1);
        assert_true(2 * q - n > faulty);
        assert_true(n - faulty >= q);
        if (n == 3 * faulty + 1)
            assert_int_equal(q, 2 * faulty + 1);
    }
}

static struct vote vote_of(uint8_t voter)
{
    struct vote v = {.kind = VOTE_COMMIT,
                     .chain = members()->chain,
                     .epoch = 1,
                     .term = 3,
                     .height = 9,
                     .block = sm3(SPAN_LITERAL("block")),
                     .voter = voter};
    uint8_t wide[SM2_WIDE_BYTES];
    fixture_random(f, wide);
    vote_sign(&v, &f->dc[voter].key, wide);
    return v;
}

static void a_vote_is_checked_field_by_field(void **state)
{
    (void)state;
    struct vote good = vote_of(2), v = good;
    assert_ok(vote_check(members(), &good));
    v.chain.b[31] ^= 1;
    assert_status(vote_check(members(), &v), AMI_WRONG_CHAIN);
    v = good;
    v.epoch = 2;
    assert_status(vote_check(members(), &v), AMI_WRONG_EPOCH);
    v = good;
    v.voter = 7;
    assert_status(vote_check(members(), &v), AMI_BAD_ARGUMENT);
    v.voter = 255;
    assert_status(vote_check(members(), &v), AMI_BAD_ARGUMENT);
    for (unsigned kind = 0; kind < 256; kind++) {
        v = good;
        v.kind = (uint8_t)kind;
        enum ami_status expected = kind == VOTE_COMMIT    ? AMI_OK
                                   : kind == VOTE_PREPARE ? AMI_BAD_SIGNATURE
                                                          : AMI_BAD_ARGUMENT;
        assert_status(vote_check(members(), &v), expected);
    }
    v = good;
    v.voter = 3;
    assert_status(vote_check(members(), &v), AMI_BAD_SIGNATURE);
    v = good;
    v.term++;
    assert_status(vote_check(members(), &v), AMI_BAD_SIGNATURE);
    v = good;
    v.height++;
    assert_status(vote_check(members(), &v), AMI_BAD_SIGNATURE);
    for (size_t i = 0; i < SM3_BYTES; i += 5) {
        v = good;
        v.block.b[i] ^= 0x10;
        assert_status(vote_check(members(), &v), AMI_BAD_SIGNATURE);
    }
    for (size_t i = 0; i < SM2_SIGNATURE_BYTES; i += 3) {
        v = good;
        v.signature.b[i] ^= 1;
        assert_status(vote_check(members(), &v), AMI_BAD_SIGNATURE);
    }
}

static void a_certificate_needs_q_distinct_signers(void **state)
{
    (void)state;
    struct vote votes[8];
    struct qc c;
    for (uint8_t i = 0; i < 7; i++)
        votes[i] = vote_of(i);
    assert_status(qc_make(&c, members(), votes, 0), AMI_NO_QUORUM);
    assert_status(qc_make(&c, members(), votes, 4), AMI_NO_QUORUM);
    /* The same voter twice counts once. */
    votes[7] = votes[3];
    assert_status(qc_make(&c, members(), votes + 3, 5), AMI_NO_QUORUM);
    struct vote repeated[5] = {votes[0], votes[1], votes[2], votes[1], votes[0]};
    assert_status(qc_make(&c, members(), repeated, 5), AMI_NO_QUORUM);
    for (size_t count = 5; count <= 7; count++) {
        assert_ok(qc_make(&c, members(), votes, count));
        assert_ok(qc_check(members(), &c));
        assert_int_equal(c.signatures_count, __builtin_popcount(c.signers));
    }
    /* Votes in any order give the same certificate. */
    struct vote shuffled[5] = {votes[6], votes[0], votes[4], votes[2], votes[1]};
    struct vote sorted[5] = {votes[0], votes[1], votes[2], votes[4], votes[6]};
    struct qc other;
    assert_ok(qc_make(&c, members(), shuffled, 5));
    assert_ok(qc_make(&other, members(), sorted, 5));
    assert_int_equal(c.signers, other.signers);
    assert_memory_equal(c.signatures, other.signatures, 5 * sizeof c.signatures[0]);
    /* Votes for different things are no certificate. */
    struct vote mixed[5] = {votes[0], votes[1], votes[2], votes[3], votes[4]};
    mixed[4].term++;
    assert_status(qc_make(&c, members(), mixed, 5), AMI_BAD_ARGUMENT);
    mixed[4] = votes[4];
    mixed[4].voter = 7;
    assert_status(qc_make(&c, members(), mixed, 5), AMI_BAD_ARGUMENT);
}

static struct qc certificate(uint32_t signers)
{
    sm3_digest block = sm3(SPAN_LITERAL("block"));
    return fixture_qc(f, VOTE_COMMIT, 3, 9, &block, signers);
}

static void certificates_that_are_none(void **state)
{
    (void)state;
    struct qc c = certificate(0x1f), good = c;
    assert_ok(qc_check(members(), &c));
    c = certificate(0x0f); /* too few */
    assert_status(qc_check(members(), &c), AMI_BAD_CERTIFICATE);
    c = good; /* one signature under two bits */
    c.signers = 0x3f;
    c.signatures[5] = c.signatures[4];
    c.signatures_count = 6;
    assert_status(qc_check(members(), &c), AMI_BAD_CERTIFICATE);
    c = good; /* four votes, one of them twice */
    c.signatures[4] = c.signatures[3];
    assert_status(qc_check(members(), &c), AMI_BAD_CERTIFICATE);
    c = good; /* bits and signatures do not match in number */
    c.signatures_count = 4;
    assert_status(qc_check(members(), &c), AMI_BAD_CERTIFICATE);
    c = good;
    c.signatures_count = 6;
    assert_status(qc_check(members(), &c), AMI_BAD_CERTIFICATE);
    c = good; /* a member that does not exist */
    c.signers = 0x8f;
    assert_status(qc_check(members(), &c), AMI_BAD_CERTIFICATE);
    c.signers = 0x8000000fu;
    assert_status(qc_check(members(), &c), AMI_BAD_CERTIFICATE);
    c = good; /* another member's bit */
    c.signers = 0x2f;
    assert_status(qc_check(members(), &c), AMI_BAD_CERTIFICATE);
    c = good;
    c.kind = VOTE_PREPARE;
    assert_status(qc_check(members(), &c), AMI_BAD_CERTIFICATE);
    c.kind = 3;
    assert_status(qc_check(members(), &c), AMI_BAD_CERTIFICATE);
    c = good;
    c.term++;
    assert_status(qc_check(members(), &c), AMI_BAD_CERTIFICATE);
    c = good;
    c.height--;
    assert_status(qc_check(members(), &c), AMI_BAD_CERTIFICATE);
    c = good;
    c.block.b[0] ^= 1;
    assert_status(qc_check(members(), &c), AMI_BAD_CERTIFICATE);
    c = good;
    c.chain.b[0] ^= 1;
    assert_status(qc_check(members(), &c), AMI_WRONG_CHAIN);
    c = good;
    c.epoch++;
    assert_status(qc_check(members(), &c), AMI_WRONG_EPOCH);
    for (unsigned i = 0; i < 5; i++) {
        c = good;
        c.signatures[i].b[11 * i] ^= 0x40;
        assert_status(qc_check(members(), &c), AMI_BAD_CERTIFICATE);
    }
}

/* The same votes under another network's member list are votes of strangers. */
static void foreign_signers(void **state)
{
    (void)state;
    struct fixture *other = fixture_new(7, 2);
    struct qc c = certificate(0x1f);
    c.chain = other->genesis.members.chain;
    assert_status(qc_check(&other->genesis.members, &c), AMI_BAD_CERTIFICATE);
    fixture_free(other);
}

static void a_committee_of_31(void **state)
{
    (void)state;
    struct fixture *big = fixture_new(31, 3);
    sm3_digest block = sm3(SPAN_LITERAL("block"));
    struct qc c = fixture_qc(big, VOTE_PREPARE, 1, 1, &block, 0x7fffffffu << 10 & 0x7fffffffu);
    assert_int_equal(c.signatures_count, 21);
    assert_ok(qc_check(&big->genesis.members, &c));
    c = fixture_qc(big, VOTE_PREPARE, 1, 1, &block, 0x7fffffffu);
    assert_ok(qc_check(&big->genesis.members, &c));
    c.signers |= 1u << 31;
    assert_status(qc_check(&big->genesis.members, &c), AMI_BAD_CERTIFICATE);
    fixture_free(big);
}

static void rank_looks_at_the_term_first(void **state)
{
    (void)state;
    struct qc a = {.term = 2, .height = 9}, b = {.term = 3, .height = 1};
    assert_true(qc_rank_compare(&a, &b) < 0 && qc_rank_compare(&b, &a) > 0);
    b = (struct qc){.term = 2, .height = 10};
    assert_true(qc_rank_compare(&a, &b) < 0 && qc_rank_compare(&b, &a) > 0);
    b.height = 9;
    assert_int_equal(qc_rank_compare(&a, &b), 0);
    a.term = b.term = UINT64_MAX;
    b.height = UINT64_MAX;
    assert_true(qc_rank_compare(&a, &b) < 0);
}

static void the_member_list_is_hashed_whole(void **state)
{
    (void)state;
    struct members m = f->genesis.members;
    sm3_digest hash = members_hash(&m);
    assert_memory_equal(&hash, &m.hash, sizeof hash);
    m.epoch++;
    hash = members_hash(&m);
    assert_memory_not_equal(&hash, &m.hash, sizeof hash);
    m = f->genesis.members;
    m.count--;
    hash = members_hash(&m);
    assert_memory_not_equal(&hash, &m.hash, sizeof hash);
    m = f->genesis.members;
    m.member[6].key_epoch++;
    hash = members_hash(&m);
    assert_memory_not_equal(&hash, &m.hash, sizeof hash);
    m = f->genesis.members;
    m.member[0].w_sign.b[32] ^= 1;
    hash = members_hash(&m);
    assert_memory_not_equal(&hash, &m.hash, sizeof hash);
    m = f->genesis.members;
    m.member[3].name.text[0] ^= 1;
    hash = members_hash(&m);
    assert_memory_not_equal(&hash, &m.hash, sizeof hash);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quorums_from_1_to_31),
        cmocka_unit_test(a_vote_is_checked_field_by_field),
        cmocka_unit_test(a_certificate_needs_q_distinct_signers),
        cmocka_unit_test(certificates_that_are_none),
        cmocka_unit_test(foreign_signers),
        cmocka_unit_test(a_committee_of_31),
        cmocka_unit_test(rank_looks_at_the_term_first),
        cmocka_unit_test(the_member_list_is_hashed_whole),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
