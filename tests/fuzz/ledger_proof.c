/* A consumer's proof from anybody. What parses prints again to the same bytes, and nothing but the
 * proofs that this target makes itself holds. */
#include "tests/fuzz/fuzz.h"

#include "base/check.h"
#include "tests/ledger/fixture.h"

#include <stdlib.h>
#include <string.h>

#define M_BYTES 40

static struct fixture *f;
static char *good[3]; /* without and with the opening; in a later epoch */

static void start_once(void)
{
    if (f != NULL)
        return;
    struct fixture_body *b = fixture_body();
    f = fixture_new(4, 4);
    struct fixture_device meter = fixture_meter(f, 1);
    uint8_t m[M_BYTES];
    fixture_meter_enrol(f, b, &meter, &f->dc[0].name);
    fixture_report(f, b, &meter, &f->dc[1], M_BYTES);
    fixture_report(f, b, &meter, &f->dc[1], M_BYTES);
    struct fixture_block *block = fixture_commit(f, b, 1);
    struct proof p = fixture_proof(block, 2, block, 0);
    good[0] = proof_print(&p);
    p.has_opening = true;
    fixture_opening(p.salt, m, M_BYTES, &meter, 2);
    p.m = span_of(m, M_BYTES);
    good[1] = proof_print(&p);
    fixture_clear(b);
    struct fixture_device dc5 = fixture_device(f, ROLE_DC_SIGN, fixture_id("dc-5x"), 1);
    fixture_dc_enrol(f, b, &dc5);
    fixture_membership(f, b, MEMBER_JOIN, &dc5, 2);
    struct fixture_block *change = fixture_commit(f, b, 1);
    struct membership_proof changes = fixture_membership_proof(change, 1);
    fixture_clear(b);
    fixture_block_free(fixture_commit(f, b, 1));
    fixture_report(f, b, &meter, &dc5, M_BYTES);
    struct fixture_block *later = fixture_commit(f, b, 1);
    p = fixture_proof(later, 0, block, 0);
    p.changes = &changes;
    p.change_count = 1;
    good[2] = proof_print(&p);
    AMI_CHECK(good[0] != NULL && good[1] != NULL && good[2] != NULL);
    fixture_block_free(change);
    fixture_block_free(later);
    fixture_block_free(block);
    free(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct proof p;
    void *hold;
    char why[300] = "";
    struct span in = span_of(data, size);
    start_once();
    if (proof_parse(&p, &hold, in, why, sizeof why) != AMI_OK) {
        AMI_CHECK(hold == NULL && why[0] != '\0' && memchr(why, '\0', sizeof why) != NULL);
        return 0;
    }
    char *again = proof_print(&p);
    AMI_CHECK(again != NULL && span_equal(span_of(again, strlen(again)), in));
    free(again);
    if (proof_check(&p, &f->genesis, why, sizeof why) == AMI_OK)
        AMI_CHECK(span_equal(in, span_of(good[0], strlen(good[0]))) ||
                  span_equal(in, span_of(good[1], strlen(good[1]))) ||
                  span_equal(in, span_of(good[2], strlen(good[2]))));
    else
        AMI_CHECK(why[0] != '\0');
    free(hold);
    return 0;
}

size_t fuzz_seed(uint64_t index, uint8_t *out, size_t capacity)
{
    start_once();
    const char *text = good[index % 3];
    size_t size = strlen(text);
    if (size > capacity)
        return 0;
    memcpy(out, text, size);
    return size;
}
