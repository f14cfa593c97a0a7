/* CFL certificates: made, checked with the public set alone, altered; and what becomes of a seed
 * set whose identity keys are handed to users. */
#include "sim/lab/realm.h"

#include "crypto/secret.h"
#include "tests/harness.h"

#include <stdio.h>
#include <string.h>

#define WIDE(array) ((const uint8_t(*)[SM2_WIDE_BYTES])(array))

static struct realm realm;

static int setup(void **state)
{
    (void)state;
    realm_make(&realm, "grid", 1);
    return 0;
}

static struct credential_identity identity_of(const char *name)
{
    return (struct credential_identity){
        .role = CREDENTIAL_OPERATOR,
        .network = realm.mdms.net.id,
        .name = id_of(name),
        .epoch = 1,
        .label = label_of("2:ledger"),
    };
}

static void make(struct cfl_certificate *out, sm2_private *rask, const char *name)
{
    uint8_t random[2][SM2_WIDE_BYTES];
    const struct credential_identity who = identity_of(name);
    memcpy(random[0], realm_random(&realm), SM2_WIDE_BYTES);
    memcpy(random[1], realm_random(&realm), SM2_WIDE_BYTES);
    assert_ok(cfl_request(out, rask, &who, WIDE(random)));
    assert_ok(cfl_issue(out, &realm.seed, realm_random(&realm)));
}

static void any_altered_byte_is_refused(void **state)
{
    (void)state;
    struct cfl_certificate made, back;
    sm2_private rask;
    uint8_t bytes[CFL_CERTIFICATE_BYTES_MAX], again[CFL_CERTIFICATE_BYTES_MAX];
    make(&made, &rask, "alice");
    size_t size = cfl_certificate_encode(bytes, &made);
    assert_ok(cfl_certificate_parse(&back, span_of(bytes, size)));
    assert_int_equal(cfl_certificate_check(&back, &realm.set), FAULT_NONE);
    assert_int_equal(cfl_certificate_encode(again, &back), size);
    assert_memory_equal(bytes, again, size);
    for (size_t at = 0; at < size; at++) {
        bytes[at] ^= 1;
        if (cfl_certificate_parse(&back, span_of(bytes, size)) == AMI_OK)
            assert_int_not_equal(cfl_certificate_check(&back, &realm.set), FAULT_NONE);
        bytes[at] ^= 1;
    }
}

/* The issuer signs only what its user has signed; and another seed set is another issuer. */
static void both_signatures_count(void **state)
{
    (void)state;
    static struct realm other;
    struct cfl_certificate made;
    sm2_private rask;
    realm_make(&other, "grid", 2);
    make(&made, &rask, "alice");
    assert_int_equal(cfl_certificate_check(&made, &other.set), FAULT_WRONG_CHAIN);
    made.self.b[40] ^= 1;
    assert_status(cfl_issue(&made, &realm.seed, realm_random(&realm)), AMI_BAD_SIGNATURE);
    made.self.b[40] ^= 1;
    struct credential_identity none = identity_of("bob");
    none.label.level = LABEL_LEVEL_MAX + 1;
    uint8_t random[2][SM2_WIDE_BYTES] = {{1}, {2}};
    assert_status(cfl_request(&made, &rask, &none, WIDE(random)), AMI_BAD_ARGUMENT);
    struct credential out;
    make(&made, &rask, "alice");
    assert_ok(cfl_credential(&out, &made, &rask));
    assert_status(cfl_credential(&out, &made, &realm.mdms.sign), AMI_BAD_CRYPTO);
}

static void public_sets_travel(void **state)
{
    (void)state;
    static uint8_t bytes[CFL_PUBLIC_BYTES_MAX + 1];
    static struct cfl_public back;
    size_t size = cfl_public_encode(bytes, &realm.set);
    assert_int_equal(size, CFL_PUBLIC_BYTES_MAX);
    assert_ok(cfl_public_parse(&back, span_of(bytes, size)));
    assert_memory_equal(&back, &realm.set, sizeof back);
    assert_status(cfl_public_parse(&back, span_of(bytes, size - 1)), AMI_BAD_ENCODING);
    assert_status(cfl_public_parse(&back, span_of(bytes, size + 1)), AMI_BAD_ENCODING);
    static const uint8_t shapes[][2] = {{0, 16}, {33, 16}, {32, 1}, {32, 3}, {32, 32}, {32, 8}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        bytes[0] = shapes[i][0];
        bytes[1] = shapes[i][1];
        assert_status(cfl_public_parse(&back, span_of(bytes, size)), AMI_BAD_ENCODING);
    }
    bytes[0] = CFL_ROWS_MAX;
    bytes[1] = CFL_COLUMNS_MAX;
    memset(bytes + 2 + 100 * SM2_POINT_BYTES, 0, SM2_POINT_BYTES);
    assert_status(cfl_public_parse(&back, span_of(bytes, size)), AMI_BAD_ENCODING);
    struct cfl_seed seed;
    for (size_t i = 0; i < 5; i++)
        assert_status(cfl_seed_make(&seed, shapes[i][0], shapes[i][1], NULL), AMI_BAD_ARGUMENT);
}

/* --- why identity keys are not handed out ----------------------------------------------------- */

#define ROWS    4
#define COLUMNS 4
#define CELLS   (ROWS * COLUMNS)
/* Every identity key takes one cell of each row, so the sums span no more than this. */
#define RANK (ROWS * (COLUMNS - 1) + 1)

/* Row by row of a matrix over the integers modulo n: which cells an identity takes, and its key. */
struct equation {
    scalar cell[CELLS];
    scalar key;
};

static void select_cells(bool taken[CELLS], const char *name)
{
    uint8_t bytes[IDENTITY_BYTES_MAX];
    const struct credential_identity who = identity_of(name);
    struct writer w = writer_on(bytes, sizeof bytes);
    identity_write(&w, &who);
    const struct span identity = writer_span(&w);
    sm3_digest digest = sm3_labelled("amiledger cfl select v1", &identity, 1);
    memset(taken, 0, CELLS);
    for (size_t i = 0; i < ROWS; i++)
        taken[i * COLUMNS + digest.b[i] % COLUMNS] = true;
}

static scalar key_of(const struct cfl_seed *seed, const bool taken[CELLS])
{
    scalar d = {{0}};
    for (size_t i = 0; i < CELLS; i++)
        if (taken[i])
            d = scalar_add(&d, &seed->key[i]);
    return d;
}

/* Takes multiples of the equations of `basis` away until nothing is left, or a new leading cell. */
static size_t reduce(struct equation *e, const struct equation *basis, const size_t *lead,
                     size_t count)
{
    for (size_t b = 0; b < count; b++) {
        scalar factor = e->cell[lead[b]];
        if (scalar_is_zero(&factor))
            continue;
        for (size_t i = 0; i < CELLS; i++) {
            scalar part = scalar_mul(&factor, &basis[b].cell[i]);
            e->cell[i] = scalar_sub(&e->cell[i], &part);
        }
        scalar part = scalar_mul(&factor, &basis[b].key);
        e->key = scalar_sub(&e->key, &part);
    }
    size_t at = 0;
    while (at < CELLS && scalar_is_zero(&e->cell[at]))
        at++;
    return at;
}

/* A small set (4 by 4; the real one is 32 by 16 with a rank of 481). Users who pool their identity
 * keys solve for the key of an identity that was never issued, and sign its certificate. With one
 * key fewer than the rank they cannot: the control. */
static void pooled_identity_keys_forge_any_certificate(void **state)
{
    (void)state;
    uint8_t random[CELLS][SM2_WIDE_BYTES];
    struct cfl_seed seed;
    static struct cfl_public set;
    static struct equation basis[RANK];
    size_t lead[RANK], count = 0;
    for (size_t i = 0; i < CELLS; i++)
        memcpy(random[i], realm_random(&realm), SM2_WIDE_BYTES);
    assert_ok(cfl_seed_make(&seed, ROWS, COLUMNS, WIDE(random)));
    cfl_public_of(&set, &seed);
    bool target[CELLS];
    select_cells(target, "the.minister");
    unsigned users = 0;
    for (; count < RANK; users++) {
        char name[16];
        bool taken[CELLS];
        struct equation e;
        assert_true(users < 10000);
        snprintf(name, sizeof name, "user-%u", users);
        select_cells(taken, name);
        memset(&e, 0, sizeof e);
        for (size_t i = 0; i < CELLS; i++)
            e.cell[i].w[0] = taken[i];
        e.key = key_of(&seed, taken); /* what a careless issuer would have handed out */
        size_t at = reduce(&e, basis, lead, count);
        if (at == CELLS) {
            assert_true(scalar_is_zero(&e.key)); /* it follows from the others */
            continue;
        }
        scalar inverse = scalar_inverse(&e.cell[at]);
        for (size_t i = 0; i < CELLS; i++)
            e.cell[i] = scalar_mul(&e.cell[i], &inverse);
        e.key = scalar_mul(&e.key, &inverse);
        basis[count] = e;
        lead[count++] = at;
    }
    /* The target is a combination of those keys, with known factors. */
    struct equation t;
    memset(&t, 0, sizeof t);
    for (size_t i = 0; i < CELLS; i++)
        t.cell[i].w[0] = target[i];
    assert_int_equal(reduce(&t, basis, lead, count), CELLS);
    const scalar zero = {{0}};
    scalar found = scalar_sub(&zero, &t.key), real = key_of(&seed, target);
    assert_true(scalar_equal(&found, &real));
    /* With one equation fewer some cell stays open, for some identity. */
    bool open = false;
    for (unsigned n = 0; n < users && !open; n++) {
        char name[16];
        bool taken[CELLS];
        struct equation e;
        memset(&e, 0, sizeof e);
        snprintf(name, sizeof name, "user-%u", n);
        select_cells(taken, name);
        for (size_t i = 0; i < CELLS; i++)
            e.cell[i].w[0] = taken[i];
        open = reduce(&e, basis, lead, count - 1) != CELLS;
    }
    assert_true(open);
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_altered_byte_is_refused),
        cmocka_unit_test(both_signatures_count),
        cmocka_unit_test(public_sets_travel),
        cmocka_unit_test(pooled_identity_keys_forge_any_certificate),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
