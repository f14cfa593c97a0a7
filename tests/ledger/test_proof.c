/* A consumer's proof: it holds what it says, and no byte of it can be changed. */
#include "tests/harness.h"

#include "tests/ledger/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define M_BYTES 60

static struct fixture *f;
static struct fixture_device meter, other;
static struct fixture_block *enrolling, *reporting;
static uint8_t salt[16], m[M_BYTES];
static char why[256];

/* Two meters are enrolled in block 1; block 2 holds five reports, the third is the meter's second.
 */
/* --- across membership epochs ------------------------------------------------------------------
 */

static struct fixture_block *commit_and_clear(struct fixture_body *b)
{
    struct fixture_block *k = fixture_commit(f, b, 1);
    fixture_clear(b);
    return k;
}

static enum ami_status holds(struct proof *p)
{
    struct proof again;
    void *hold;
    enum ami_status direct = proof_check(p, &f->genesis, why, sizeof why);
    char *text = proof_print(p);
    assert_non_null(text);
    assert_ok(proof_parse(&again, &hold, span_of(text, strlen(text)), why, sizeof why));
    assert_int_equal(again.change_count, p->change_count);
    assert_int_equal(proof_check(&again, &f->genesis, why, sizeof why), direct);
    char *second = proof_print(&again);
    assert_string_equal(text, second);
    free(second);
    free(hold);
    free(text);
    return direct;
}

/* Enrolled in epoch 2, reported in epoch 3 through a DC that joined. */
static void a_report_of_a_later_epoch(void **state)
{
    (void)state;
    struct fixture_body *b = fixture_body();
    struct fixture_device dc5 = fixture_device(f, ROLE_DC_SIGN, fixture_id("dc-5x"), 1);
    struct fixture_device late = fixture_meter(f, 7), old = fixture_meter(f, 8);
    struct fixture_device next = fixture_device(f, ROLE_DC_SIGN, f->dc[1].name, 2);
    struct fixture_block *k[5];
    fixture_dc_enrol(f, b, &dc5);
    fixture_dc_enrol(f, b, &next);
    fixture_membership(f, b, MEMBER_JOIN, &dc5, 2);
    fixture_meter_enrol(f, b, &old, &f->dc[0].name);
    k[0] = commit_and_clear(b);
    k[1] = commit_and_clear(b); /* empty: the last of epoch 1 */
    fixture_meter_enrol(f, b, &late, &dc5.name);
    fixture_membership(f, b, MEMBER_ROTATE, &next, 2);
    k[2] = commit_and_clear(b);
    fixture_report(f, b, &old, &f->dc[0], M_BYTES);
    k[3] = commit_and_clear(b);
    fixture_report(f, b, &late, &f->dc[0], M_BYTES);
    fixture_report(f, b, &late, &dc5, M_BYTES);
    k[4] = commit_and_clear(b);
    assert_int_equal(k[2]->header.epoch, 2);
    assert_int_equal(k[4]->header.epoch, 3);
    struct membership_proof changes[3] = {fixture_membership_proof(k[0], 2),
                                          fixture_membership_proof(k[2], 1)};
    struct proof p = fixture_proof(k[4], 1, k[2], 0);
    p.changes = changes;
    p.change_count = 2;
    assert_ok(holds(&p));
    p.change_count = 1;
    assert_status(holds(&p), AMI_WRONG_EPOCH);
    p.change_count = 0;
    assert_status(holds(&p), AMI_WRONG_EPOCH);
    changes[2] = changes[1];
    p.change_count = 3;
    assert_status(holds(&p), AMI_WRONG_EPOCH);
    p.change_count = 2;
    changes[0] = changes[1];
    assert_status(holds(&p), AMI_WRONG_EPOCH);
    changes[0] = fixture_membership_proof(k[0], 2);
    changes[1].commit.signatures[2].b[5] ^= 1;
    assert_status(holds(&p), AMI_BAD_CERTIFICATE);
    changes[1] = changes[2];
    changes[1].index = 0;
    assert_status(holds(&p), AMI_BAD_PROOF);
    changes[1] = changes[2];
    assert_ok(holds(&p));
    p = fixture_proof(k[3], 0, k[0], 3); /* epoch 2, enrolled in epoch 1 */
    p.changes = changes;
    p.change_count = 1;
    assert_ok(holds(&p));
    for (unsigned i = 0; i < 5; i++)
        fixture_block_free(k[i]);
    free(b);
}

static int start(void **state)
{
    (void)state;
    struct fixture_body *b = fixture_body();
    f = fixture_new(4, 21);
    meter = fixture_meter(f, 1);
    other = fixture_meter(f, 2);
    fixture_meter_enrol(f, b, &other, &f->dc[0].name);
    fixture_meter_enrol(f, b, &meter, &f->dc[1].name);
    fixture_report(f, b, &other, &f->dc[0], M_BYTES);
    enrolling = fixture_commit(f, b, 1);
    fixture_clear(b);
    fixture_report(f, b, &meter, &f->dc[0], M_BYTES);
    fixture_report(f, b, &other, &f->dc[0], M_BYTES);
    fixture_report(f, b, &meter, &f->dc[2], M_BYTES);
    fixture_report(f, b, &other, &f->dc[0], M_BYTES);
    fixture_report(f, b, &meter, &f->dc[3], M_BYTES);
    reporting = fixture_commit(f, b, 1);
    fixture_opening(salt, m, M_BYTES, &meter, 2);
    free(b);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    fixture_block_free(enrolling);
    fixture_block_free(reporting);
    fixture_free(f);
    return 0;
}

static struct proof the_proof(bool opened)
{
    struct proof p = fixture_proof(reporting, 2, enrolling, 1);
    p.has_opening = opened;
    if (opened) {
        memcpy(p.salt, salt, sizeof salt);
        p.m = span_of(m, sizeof m);
    }
    return p;
}

static void it_prints_parses_and_holds(void **state)
{
    (void)state;
    for (int opened = 0; opened < 2; opened++) {
        struct proof p = the_proof(opened != 0), again;
        void *hold;
        char *text = proof_print(&p);
        assert_non_null(text);
        assert_ok(proof_check(&p, &f->genesis, why, sizeof why));
        assert_ok(proof_parse(&again, &hold, span_of(text, strlen(text)), why, sizeof why));
        assert_ok(proof_check(&again, &f->genesis, why, sizeof why));
        assert_true(again.has_opening == (opened != 0));
        assert_true(span_equal(again.tx, p.tx) && span_equal(again.enrolment, p.enrolment));
        assert_true(span_equal(again.m, p.m));
        assert_memory_equal(again.salt, p.salt, sizeof salt);
        char *second = proof_print(&again);
        assert_string_equal(text, second);
        free(second);
        free(text);
        free(hold);
    }
}

/* Every byte of the file, changed in one bit: it does not parse, or it does not hold. */
static void any_changed_byte_is_found(void **state)
{
    (void)state;
    struct proof p = the_proof(true), got;
    void *hold;
    char *text = proof_print(&p);
    assert_non_null(text);
    size_t size = strlen(text), checked = 0;
    for (size_t i = 0; i < size; i++) {
        char old = text[i];
        text[i] = (char)(old ^ (i % 2 == 0 ? 1 : 2));
        why[0] = '\0';
        if (proof_parse(&got, &hold, span_of(text, size), why, sizeof why) == AMI_OK) {
            if (proof_check(&got, &f->genesis, why, sizeof why) == AMI_OK)
                fail_msg("byte %zu of the proof does not count", i);
            checked++;
            free(hold);
        } else {
            assert_null(hold);
        }
        assert_true(why[0] != '\0');
        text[i] = old;
    }
    assert_true(checked > 2000);
    /* The same content in another form: capital hex digits, and blanks where JSON allows them. */
    size_t capitals = 0;
    for (size_t i = 0; i < size; i++) {
        if (text[i] < 'a' || text[i] > 'f')
            continue;
        text[i] ^= 0x20;
        assert_int_not_equal(proof_parse(&got, &hold, span_of(text, size), why, sizeof why),
                             AMI_OK);
        capitals += strstr(why, "one form") != NULL;
        text[i] ^= 0x20;
    }
    assert_true(capitals > 500);
    char *wide = malloc(size + 1);
    assert_non_null(wide);
    for (size_t i = 0; i <= size; i++) {
        if (i < size && i > 0 && strchr("{}[]:,\n", text[i]) == NULL)
            continue;
        memcpy(wide, text, i);
        wide[i] = i % 2 == 0 ? ' ' : '\n';
        memcpy(wide + i + 1, text + i, size - i);
        assert_status(proof_parse(&got, &hold, span_of(wide, size + 1), why, sizeof why),
                      AMI_BAD_ENCODING);
        assert_non_null(strstr(why, "one form"));
    }
    free(wide);
    for (size_t cut = 0; cut < size; cut += 97) {
        why[0] = '\0';
        assert_int_not_equal(proof_parse(&got, &hold, span_of(text, cut), why, sizeof why), AMI_OK);
        assert_true(why[0] != '\0');
    }
    free(text);
}

static void says(struct proof *p, enum ami_status expected, const char *sentence)
{
    why[0] = '\0';
    assert_status(proof_check(p, &f->genesis, why, sizeof why), expected);
    if (strstr(why, sentence) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", why, sentence);
}

static void the_first_thing_wrong_has_a_sentence(void **state)
{
    (void)state;
    struct proof p = the_proof(true), good = p;
    p.header.chain.b[0] ^= 1;
    says(&p, AMI_WRONG_CHAIN, "another chain");
    p = good;
    p.header.members.b[0] ^= 1;
    says(&p, AMI_WRONG_EPOCH, "other members");
    p = good;
    p.header.timestamp_ms++;
    says(&p, AMI_BAD_CERTIFICATE, "not one for the report's block");
    p = good;
    p.commit = p.enrol_commit;
    says(&p, AMI_BAD_CERTIFICATE, "not one for the report's block");
    p = good;
    p.commit = fixture_qc(f, VOTE_PREPARE, 1, 2, &reporting->hash, 7);
    says(&p, AMI_BAD_CERTIFICATE, "not one for the report's block");
    p = good;
    p.commit = fixture_qc(f, VOTE_COMMIT, 1, 2, &reporting->hash, 3);
    says(&p, AMI_BAD_CERTIFICATE, "the 3 valid votes");
    p = good; /* a quorum that votes for a height which the block does not have */
    p.commit = fixture_qc(f, VOTE_COMMIT, 1, 3, &reporting->hash, 7);
    says(&p, AMI_BAD_CERTIFICATE, "not one for the report's block");
    p = good; /* ... or in a term before the block was made */
    p.commit = fixture_qc(f, VOTE_COMMIT, 0, 2, &reporting->hash, 7);
    says(&p, AMI_BAD_CERTIFICATE, "not one for the report's block");
    p = good;
    p.enrol_commit.signatures[1].b[9] ^= 1;
    says(&p, AMI_BAD_CERTIFICATE, "of the enrolment's block");
    p = good;
    p.path[0].b[0] ^= 1;
    says(&p, AMI_BAD_PROOF, "the report's transaction is not in its block");
    p = good;
    p.index = 1;
    says(&p, AMI_BAD_PROOF, "the report's transaction is not in its block");
    p = good;
    p.enrol_path_size--;
    says(&p, AMI_BAD_PROOF, "the enrolment's transaction is not in its block");
    p = good;
    p.tx.size--;
    says(&p, AMI_BAD_ENCODING, "the report's transaction is malformed");
    p = good;
    p.salt[3] ^= 1;
    says(&p, AMI_BAD_PROOF, "the opened reading is not the one that meter m-1 signed");
    p = good;
    p.m.size--;
    says(&p, AMI_BAD_PROOF, "the opened reading is not the one that meter m-1 signed");
}

/* Parts that are all genuine but do not belong together. */
static void genuine_parts_of_another_story(void **state)
{
    (void)state;
    struct proof p = fixture_proof(reporting, 2, enrolling, 0); /* the other meter's enrolment */
    says(&p, AMI_BAD_PROOF, "the report is of meter m-1");
    p = fixture_proof(reporting, 2, enrolling, 2);
    says(&p, AMI_BAD_PROOF, "no meter enrolment");
    p = fixture_proof(enrolling, 1, enrolling, 1);
    says(&p, AMI_BAD_PROOF, "the report's transaction is no report");
    p = fixture_proof(reporting, 0, enrolling, 1); /* the meter's first report, the second opened */
    p.has_opening = true;
    memcpy(p.salt, salt, sizeof salt);
    p.m = span_of(m, sizeof m);
    says(&p, AMI_BAD_PROOF, "the opened reading is not the one");
    /* Another network, of other keys, with the same names. */
    struct fixture *stranger = fixture_new(4, 22);
    struct proof mine = the_proof(true);
    assert_status(proof_check(&mine, &stranger->genesis, why, sizeof why), AMI_WRONG_CHAIN);
    fixture_free(stranger);
}

/* A quorum of DCs that conspires can certify a block of lies, but not what a meter has not signed.
 */
static void what_a_quorum_cannot_forge(void **state)
{
    (void)state;
    struct fixture_device forged = meter;
    struct fixture_device fake = fixture_meter(f, 9);
    struct fixture_body *b = fixture_body();
    forged.key = fake.key;
    fixture_report(f, b, &forged, &f->dc[0], M_BYTES);
    struct fixture_block *lie = fixture_commit(f, b, 2);
    struct proof p = fixture_proof(lie, 0, enrolling, 1);
    says(&p, AMI_BAD_SIGNATURE, "not signed by meter m-1");
    fixture_block_free(lie);

    struct fixture_device gateway = f->dc[1];
    gateway.key = f->dc[2].key;
    fixture_clear(b);
    forged = meter;
    forged.sequence++;
    fixture_report(f, b, &forged, &gateway, M_BYTES);
    lie = fixture_commit(f, b, 2);
    p = fixture_proof(lie, 0, enrolling, 1);
    says(&p, AMI_BAD_SIGNATURE, "not signed by its gateway dc-2");
    fixture_block_free(lie);

    /* An enrolment that the MDMS has not signed. */
    sm2_private real = f->sign;
    struct fixture_device mine = fixture_meter(f, 77);
    f->sign = f->p_pub;
    fixture_clear(b);
    fixture_meter_enrol(f, b, &mine, &f->dc[0].name);
    f->sign = real;
    fixture_report(f, b, &mine, &f->dc[0], M_BYTES);
    lie = fixture_commit(f, b, 2);
    p = fixture_proof(lie, 1, lie, 0);
    says(&p, AMI_BAD_SIGNATURE, "not signed by the MDMS");
    fixture_block_free(lie);

    /* A gateway that is no member of the genesis file. */
    struct fixture_device dc = fixture_device(f, ROLE_DC_SIGN, fixture_id("dc-9"), 1);
    struct fixture_device fresh = fixture_meter(f, 78);
    fixture_clear(b);
    fixture_dc_enrol(f, b, &dc);
    fixture_meter_enrol(f, b, &fresh, &f->dc[0].name);
    fixture_report(f, b, &fresh, &dc, M_BYTES);
    lie = fixture_commit(f, b, 2);
    p = fixture_proof(lie, 2, lie, 1);
    says(&p, AMI_UNKNOWN_DEVICE, "dc-9");
    fixture_block_free(lie);
    free(b);
}

/* A true proof of another report is not what was asked for. */
static void a_proof_is_of_one_report(void **state)
{
    (void)state;
    struct proof p = the_proof(true);
    char *text = proof_print(&p);
    assert_non_null(text);
    const struct ami_id *name = &meter.name;
    assert_int_equal(proof_is_of(text, name, 1, 2, why, sizeof why), AMI_OK);
    assert_int_equal(proof_is_of(text, name, 1, 1, why, sizeof why), AMI_BAD_PROOF);
    assert_int_equal(proof_is_of(text, name, 2, 2, why, sizeof why), AMI_BAD_PROOF);
    assert_int_equal(proof_is_of(text, &other.name, 1, 2, why, sizeof why), AMI_BAD_PROOF);
    assert_non_null(strstr(why, "another report"));
    text[10] ^= 1;
    assert_int_not_equal(proof_is_of(text, name, 1, 2, why, sizeof why), AMI_OK);
    free(text);
}

static void files_that_are_no_proofs(void **state)
{
    (void)state;
    struct proof p = the_proof(true), got;
    char *text = proof_print(&p), big[200];
    void *hold;
    static const struct {
        const char *from, *to, *sentence;
    } changes[] = {
        {"amiledger-proof", "amiledger-poem", "amiledger-poem"},
        {"\"version\": 1", "\"version\": 2", "version"},
        {"\"index\": 2", "\"index\": 4096", "report.index"},
        {"\"index\": 2", "\"index\": -1", "report.index"},
        {"\"opening\"", "\"closing\"", "closing"},
        {"\"salt\"", "\"sugar\"", "sugar"},
        {"\"certificate\": \"", "\"certificate\": \"0", "report.certificate"},
        {"\"header\": \"01", "\"header\": \"", "report.header"},
        {"\"index\": 2", "\"index\": 02", "line"},
    };
    assert_non_null(text);
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        char *at = strstr(text, changes[i].from), *all = malloc(strlen(text) + 40);
        assert_non_null(at);
        assert_non_null(all);
        sprintf(all, "%.*s%s%s", (int)(at - text), text, changes[i].to,
                at + strlen(changes[i].from));
        why[0] = '\0';
        assert_int_not_equal(proof_parse(&got, &hold, span_of(all, strlen(all)), why, sizeof why),
                             AMI_OK);
        if (strstr(why, changes[i].sentence) == NULL)
            fail_msg("\"%s\" does not say \"%s\"", why, changes[i].sentence);
        free(all);
    }
    memset(big, ' ', sizeof big);
    assert_status(proof_parse(&got, &hold, span_of(big, sizeof big), why, sizeof why),
                  AMI_BAD_ENCODING);
    assert_status(proof_parse(&got, &hold, span_of(text, 1u << 20), why, sizeof why),
                  AMI_TOO_LARGE);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_prints_parses_and_holds),
        cmocka_unit_test(any_changed_byte_is_found),
        cmocka_unit_test(the_first_thing_wrong_has_a_sentence),
        cmocka_unit_test(genuine_parts_of_another_story),
        cmocka_unit_test(what_a_quorum_cannot_forge),
        cmocka_unit_test(a_proof_is_of_one_report),
        cmocka_unit_test(files_that_are_no_proofs),
        cmocka_unit_test(a_report_of_a_later_epoch), /* last: the chain goes on */
    };
    return cmocka_run_group_tests(tests, start, stop);
}
