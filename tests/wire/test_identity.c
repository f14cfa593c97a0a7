/* Identities: the network id covers every field, the hashed ID every part of a key's name, and a
 * signature holds under its own label, key and network only. */
#include "wire/identity.h"

#include "tests/crypto_start.h"
#include "tests/harness.h"

#include <string.h>

static scalar number(uint8_t n)
{
    scalar k = {{n}};
    return k;
}

static struct network network_make(void)
{
    const scalar k[4] = {number(11), number(12), number(13), number(14)};
    struct network net = {.scheme = 2};
    assert_ok(ami_id_from_text(&net.name, "grid"));
    net.p_pub = point_mul_base(&k[0]);
    net.sign = point_mul_base(&k[1]);
    net.enrol = point_mul_base(&k[2]);
    net.readings = point_mul_base(&k[3]);
    network_finish(&net);
    return net;
}

static void test_network_id(void **unused)
{
    (void)unused;
    const struct network net = network_make();
    const scalar other_k = number(99);
    const point other = point_mul_base(&other_k);
    for (unsigned what = 0; what < 8; what++) {
        struct network n = net;
        if (what == 0)
            assert_ok(ami_id_from_text(&n.name, "grie"));
        else if (what == 1)
            n.scheme = 1;
        else if (what == 2)
            n.p_pub = other;
        else if (what == 3)
            n.sign = other;
        else if (what == 4)
            n.enrol = other;
        else if (what == 5)
            n.readings = other;
        else if (what == 6)
            n.p_pub = point_negate(&n.p_pub); /* the same x */
        sm3_digest id = network_id(&n);
        assert_int_equal(sm3_equal(&id, &net.id), what == 7);
        network_finish(&n);
        const sm3_digest z = sm2_z(SPAN_LITERAL("amiledger mdms"), &n.sign);
        assert_true(sm3_equal(&n.id, &id) && sm3_equal(&n.sign_z, &z));
    }
}

/* The layout that docs/security.md gives, byte by byte, and the standard's Z around it. */
static void test_key_id(void **unused)
{
    (void)unused;
    const struct network net = network_make();
    struct ami_id name;
    uint8_t bytes[KEY_ID_BYTES_MAX], want[16 + SM3_BYTES + 1 + 4 + 1 + 4];
    assert_ok(ami_id_from_text(&name, "dc-1"));
    struct span id = key_id(bytes, &net, ROLE_DC_SIGN, &name, 0x01020304);
    memcpy(want, "amiledger id v1", 16);
    memcpy(want + 16, net.id.b, SM3_BYTES);
    memcpy(want + 48, "\4\1\2\3\4\4dc-1", 10);
    assert_int_equal(id.size, sizeof want);
    assert_memory_equal(id.data, want, sizeof want);
    sm3_digest h_a = key_h_a(&net, ROLE_DC_SIGN, &name, 0x01020304);
    sm3_digest z = sm2_z(span_of(want, sizeof want), &net.p_pub);
    assert_true(sm3_equal(&h_a, &z));

    struct ami_id longest;
    assert_ok(ami_id_from_text(&longest, "a-device-with-the-longest-name-1"));
    assert_int_equal(key_id(bytes, &net, ROLE_DC_SIGN, &longest, 1).size, KEY_ID_BYTES_MAX);
}

static struct sign_key key_make(const struct network *net, enum key_role role, const char *text,
                                uint32_t epoch, struct ami_id *name)
{
    struct sign_key key;
    const scalar x = number(11), w = number(77), d_prime = number(78);
    scalar t;
    assert_ok(ami_id_from_text(name, text));
    point u_a = point_mul_base(&d_prime);
    key.public_key.h_a = key_h_a(net, role, name, epoch);
    sm2_implicit_issue(&key.public_key.w, &t, &w, &x, &u_a, &key.public_key.h_a);
    assert_ok(sm2_implicit_accept(&key.private_key, &t, &d_prime, &key.public_key.w,
                                  &key.public_key.h_a, &net->p_pub));
    key.public_key.p = key.private_key.p;
    return key;
}

static void test_signatures(void **unused)
{
    (void)unused;
    const struct network net = network_make();
    struct network elsewhere = net;
    elsewhere.id.b[0] ^= 1;
    const uint8_t random[SM2_WIDE_BYTES] = {5};
    struct ami_id name, other_name;
    const struct sign_key key = key_make(&net, ROLE_METER_REPORT, "m-1", 4, &name);
    const point_bytes w = point_encode(&key.public_key.w);
    const struct span parts[] = {SPAN_LITERAL("bc"), SPAN_LITERAL("d")};
    const struct span shifted[] = {SPAN_LITERAL("c"), SPAN_LITERAL("d")};
    const sm2_signature sig = sign_key_sign(&key, "a", parts, 2, random);
    struct verify_key v;
    assert_ok(verify_key_init(&v, &net, ROLE_METER_REPORT, &name, 4, &w));
    assert_true(point_equal(&v.p, &key.private_key.p));
    assert_ok(verify_key_check(&v, "a", parts, 2, &sig));
    assert_status(verify_key_check(&v, "b", parts, 2, &sig), AMI_BAD_SIGNATURE);
    assert_status(verify_key_check(&v, "ab", shifted, 2, &sig), AMI_BAD_SIGNATURE);
    assert_status(verify_key_check(&v, "a", parts, 1, &sig), AMI_BAD_SIGNATURE);
    for (size_t i = 0; i < SM2_SIGNATURE_BYTES; i++) {
        sm2_signature bad = sig;
        bad.b[i] ^= 1;
        assert_status(verify_key_check(&v, "a", parts, 2, &bad), AMI_BAD_SIGNATURE);
    }

    assert_ok(ami_id_from_text(&other_name, "m-2"));
    assert_ok(verify_key_init(&v, &net, ROLE_METER_REPORT, &other_name, 4, &w));
    assert_status(verify_key_check(&v, "a", parts, 2, &sig), AMI_BAD_SIGNATURE);
    assert_ok(verify_key_init(&v, &net, ROLE_METER_REPORT, &name, 5, &w));
    assert_status(verify_key_check(&v, "a", parts, 2, &sig), AMI_BAD_SIGNATURE);
    assert_ok(verify_key_init(&v, &net, ROLE_METER_AGREE, &name, 4, &w));
    assert_status(verify_key_check(&v, "a", parts, 2, &sig), AMI_BAD_SIGNATURE);
    assert_ok(verify_key_init(&v, &elsewhere, ROLE_METER_REPORT, &name, 4, &w));
    assert_status(verify_key_check(&v, "a", parts, 2, &sig), AMI_BAD_SIGNATURE);
    const point_bytes bad = {{4}};
    assert_status(verify_key_init(&v, &net, ROLE_METER_REPORT, &name, 4, &bad), AMI_BAD_CRYPTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_network_id),
        cmocka_unit_test(test_key_id),
        cmocka_unit_test(test_signatures),
    };
    return cmocka_run_group_tests(tests, start_crypto, NULL);
}
