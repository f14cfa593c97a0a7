/* Key files: what goes in comes out; cut, damaged, foreign and closed files are told apart. */
#include "tests/keyagree/support.h"

#include "tests/crypto_start.h"
#include "tests/harness.h"

#include <string.h>

#define PASSPHRASE "correct horse battery staple"

static void device_of(struct world *w, struct device_file *f, enum enrol_role role)
{
    uint8_t random[3][SM2_WIDE_BYTES], more[2][SM2_WIDE_BYTES];
    struct enrol_pending pending;
    struct enrol_request request;
    struct enrol_opened opened;
    struct enrol_issued issued;
    struct enrol_reply reply;
    const sm3_digest hash = {{7}};
    bool meter = role == ENROL_METER;
    struct ami_id name = name_of(meter ? "MAC000002" : "dc-3");
    struct ami_id home = meter ? w->dc[0].name : name;
    memset(f, 0, sizeof *f);
    world_draw(w, random, sizeof random);
    world_draw(w, more, sizeof more);
    assert_ok(enrol_begin(&pending, &w->mdms.net, role, &name, 1, &hash, WIDE(random)));
    assert_ok(enrol_request_parse(&request, span_of(pending.request, pending.request_size)));
    assert_ok(enrol_open(&opened, &w->mdms.net, &w->mdms.enrol, &request, &hash));
    assert_ok(enrol_issue(&issued, &w->mdms.net, &w->mdms.x, &opened, &home,
                          meter ? agree_part_span(&w->dc_part[0]) : span_of(NULL, 0), WIDE(more)));
    assert_ok(enrol_reply_parse(&reply, span_of(issued.reply, issued.reply_size)));
    assert_ok(enrol_finish(&f->keys, &pending, &w->mdms.net, &reply));
}

/* Equal in every field; memory comparison would look at padding. */
static void assert_same_device(const struct device_file *a, const struct device_file *b)
{
    const struct device_keys *x = &a->keys, *y = &b->keys;
    assert_int_equal(x->role, y->role);
    assert_true(ami_id_equal(&x->name, &y->name));
    assert_int_equal(x->epoch, y->epoch);
    assert_true(ami_id_equal(&x->home_dc, &y->home_dc));
    assert_int_equal(x->agree.scheme, y->agree.scheme);
    assert_int_equal(x->agree.role, y->agree.role);
    assert_true(ami_id_equal(&x->agree.name, &y->agree.name));
    assert_int_equal(x->agree.epoch, y->agree.epoch);
    assert_memory_equal(&x->agree.d, &y->agree.d, sizeof x->agree.d);
    assert_memory_equal(&x->agree.r, &y->agree.r, sizeof x->agree.r);
    assert_memory_equal(&x->agree.w, &y->agree.w, sizeof x->agree.w);
    assert_memory_equal(&x->agree.p, &y->agree.p, sizeof x->agree.p);
    assert_memory_equal(&x->agree.z, &y->agree.z, sizeof x->agree.z);
    assert_memory_equal(&x->sign, &y->sign, sizeof x->sign);
    assert_int_equal(a->has_chain, b->has_chain);
    assert_memory_equal(&a->chain, &b->chain, sizeof a->chain);
    assert_int_equal(a->starts, b->starts);
}

static void test_device(void **unused)
{
    (void)unused;
    for (size_t s = 0; scheme_at(s) != NULL; s++)
        for (unsigned variant = 0; variant < 4; variant++) {
            struct world *w = world_of(scheme_at(s));
            struct device_file f, back;
            uint8_t bytes[KEYFILE_BYTES_MAX];
            size_t size;
            struct keyfile_head head;
            device_of(w, &f, variant < 2 ? ENROL_METER : ENROL_DC);
            if (variant % 2 == 1) {
                f.has_chain = true;
                f.chain = w->chain;
                f.starts = UINT64_C(0x0102030405060708);
            }
            const char *passphrase = variant == 3 ? PASSPHRASE : NULL;
            assert_ok(device_file_encode(bytes, &size, &w->mdms.net, &f, passphrase));
            assert_ok(keyfile_head_parse(&head, span_of(bytes, size)));
            assert_int_equal(head.kind, KEYFILE_DEVICE);
            assert_int_equal(head.sealed, variant == 3);
            assert_ok(device_file_parse(&back, &w->mdms.net, span_of(bytes, size), passphrase));
            assert_same_device(&f, &back);
            assert_ok(device_file_verify(&back, &w->mdms.net));
            if (passphrase == NULL) {
                /* A passphrase too many does no harm. */
                assert_ok(device_file_parse(&back, &w->mdms.net, span_of(bytes, size), "x"));
                continue;
            }
            const struct device_file nothing = {0};
            assert_status(device_file_parse(&back, &w->mdms.net, span_of(bytes, size), "wrong"),
                          AMI_WRONG_PASSPHRASE);
            assert_memory_equal(&back, &nothing, sizeof back);
            assert_status(device_file_parse(&back, &w->mdms.net, span_of(bytes, size), NULL),
                          AMI_WRONG_PASSPHRASE);
        }
}

/* Every length, every byte: cut short, damaged, or no key file, and never a key. */
static void test_truncated_and_damaged(void **unused)
{
    (void)unused;
    for (size_t s = 0; scheme_at(s) != NULL; s++)
        for (unsigned sealed = 0; sealed < 2; sealed++) {
            struct world *w = world_of(scheme_at(s));
            const char *passphrase = sealed ? PASSPHRASE : NULL;
            struct device_file f, back;
            uint8_t bytes[KEYFILE_BYTES_MAX + 1];
            size_t size;
            device_of(w, &f, ENROL_METER);
            assert_ok(device_file_encode(bytes, &size, &w->mdms.net, &f, passphrase));
            for (size_t cut = 0; cut < size; cut++)
                assert_status(
                    device_file_parse(&back, &w->mdms.net, span_of(bytes, cut), passphrase),
                    AMI_TRUNCATED);
            bytes[size] = 0;
            assert_status(
                device_file_parse(&back, &w->mdms.net, span_of(bytes, size + 1), passphrase),
                AMI_DAMAGED);
            for (size_t i = 0; i < size; i++) {
                bytes[i] ^= 0x20;
                enum ami_status status =
                    device_file_parse(&back, &w->mdms.net, span_of(bytes, size), passphrase);
                if (i < 8)
                    assert_status(status, AMI_BAD_ENCODING);
                else if (i == 8)
                    assert_status(status, AMI_BAD_VERSION);
                else
                    assert_true(status == AMI_DAMAGED || (status == AMI_TRUNCATED && i < 47));
                bytes[i] ^= 0x20;
            }
            assert_ok(device_file_parse(&back, &w->mdms.net, span_of(bytes, size), passphrase));
        }
}

/* The digest is no secret: whoever writes a good one around bad content still gets no key. */
static void test_bad_content(void **unused)
{
    (void)unused;
    for (size_t s = 0; scheme_at(s) != NULL; s++) {
        struct world *w = world_of(scheme_at(s));
        struct device_file f, back;
        uint8_t bytes[KEYFILE_BYTES_MAX];
        size_t size, accepted = 0;
        device_of(w, &f, ENROL_METER);
        assert_ok(device_file_encode(bytes, &size, &w->mdms.net, &f, NULL));
        for (size_t i = 47; i < size - SM3_BYTES; i++) {
            bytes[i] ^= 0xff;
            sm3_digest digest = sm3(span_of(bytes, size - SM3_BYTES));
            memcpy(bytes + size - SM3_BYTES, digest.b, SM3_BYTES);
            enum ami_status status =
                device_file_parse(&back, &w->mdms.net, span_of(bytes, size), NULL);
            bytes[i] ^= 0xff;
            if (status == AMI_OK) {
                /* Another counter, another name or another key that is one: only keys that do not
                 * belong together can be found out, and they are. */
                accepted++;
                bool own = memcmp(&back.keys, &f.keys, sizeof f.keys) == 0;
                bool home = !ami_id_equal(&back.keys.home_dc, &f.keys.home_dc);
                assert_true(own || home ||
                            device_file_verify(&back, &w->mdms.net) == AMI_FOREIGN_KEY);
            } else {
                assert_true(status == AMI_DAMAGED || status == AMI_FOREIGN_KEY);
            }
        }
        assert_true(accepted < size);
    }
}

static void test_foreign(void **unused)
{
    (void)unused;
    for (size_t s = 0; scheme_at(s) != NULL; s++) {
        struct world *w = world_of(scheme_at(s));
        struct mdms_keys foreign, back;
        struct device_file f, read;
        uint8_t bytes[KEYFILE_BYTES_MAX];
        size_t size;
        world_foreign(&foreign, w);
        device_of(w, &f, ENROL_DC);
        assert_ok(device_file_encode(bytes, &size, &w->mdms.net, &f, NULL));
        assert_status(device_file_parse(&read, &foreign.net, span_of(bytes, size), NULL),
                      AMI_FOREIGN_KEY);
        /* Said to belong to this network, with keys of the other: verify tells. */
        assert_ok(device_file_encode(bytes, &size, &foreign.net, &f, NULL));
        assert_ok(device_file_parse(&read, &foreign.net, span_of(bytes, size), NULL));
        assert_status(device_file_verify(&read, &foreign.net), AMI_FOREIGN_KEY);
        /* Before the passphrase is even looked at. */
        assert_ok(mdms_file_encode(bytes, &size, &foreign, PASSPHRASE));
        assert_status(mdms_file_parse(&back, &w->mdms.net, span_of(bytes, size), "wrong"),
                      AMI_FOREIGN_KEY);
        /* A file of another kind. */
        assert_status(device_file_parse(&read, &foreign.net, span_of(bytes, size), PASSPHRASE),
                      AMI_BAD_ARGUMENT);
    }
}

static void test_mdms(void **unused)
{
    (void)unused;
    for (size_t s = 0; scheme_at(s) != NULL; s++) {
        struct world *w = world_of(scheme_at(s));
        struct mdms_keys back;
        const struct mdms_keys nothing = {0};
        uint8_t bytes[KEYFILE_BYTES_MAX];
        size_t size;
        assert_status(mdms_file_encode(bytes, &size, &w->mdms, NULL), AMI_BAD_ARGUMENT);
        assert_status(mdms_file_encode(bytes, &size, &w->mdms, ""), AMI_BAD_ARGUMENT);
        assert_ok(mdms_file_encode(bytes, &size, &w->mdms, PASSPHRASE));
        assert_ok(mdms_file_parse(&back, &w->mdms.net, span_of(bytes, size), PASSPHRASE));
        assert_memory_equal(&back.net.id, &w->mdms.net.id, SM3_BYTES);
        assert_true(scalar_equal(&back.x, &w->mdms.x));
        assert_true(point_equal(&back.net.p_pub, &w->mdms.net.p_pub));
        assert_memory_equal(&back.sign, &w->mdms.sign, sizeof back.sign);
        assert_memory_equal(&back.enrol, &w->mdms.enrol, sizeof back.enrol);
        assert_memory_equal(&back.readings, &w->mdms.readings, sizeof back.readings);
        assert_ok(mdms_file_parse(&back, NULL, span_of(bytes, size), PASSPHRASE));
        static const char *const wrong[] = {"", "correct horse battery stapl", "Correct horse",
                                            NULL};
        for (unsigned i = 0; i < 4; i++) {
            assert_status(mdms_file_parse(&back, NULL, span_of(bytes, size), wrong[i]),
                          AMI_WRONG_PASSPHRASE);
            assert_memory_equal(&back, &nothing, sizeof back);
        }
        for (size_t cut = 0; cut < size; cut++)
            assert_status(mdms_file_parse(&back, NULL, span_of(bytes, cut), PASSPHRASE),
                          AMI_TRUNCATED);
        /* No secret is in the file as it is. */
        uint8_t x[SM2_SCALAR_BYTES];
        scalar_encode(x, &w->mdms.x);
        for (size_t i = 0; i + sizeof x <= size; i++)
            assert_memory_not_equal(bytes + i, x, sizeof x);
        /* The network id in the head is bound to the seal. */
        struct keyfile_head head;
        bytes[11] ^= 1;
        sm3_digest digest = sm3(span_of(bytes, size - SM3_BYTES));
        memcpy(bytes + size - SM3_BYTES, digest.b, SM3_BYTES);
        assert_ok(keyfile_head_parse(&head, span_of(bytes, size)));
        assert_status(mdms_file_parse(&back, NULL, span_of(bytes, size), PASSPHRASE),
                      AMI_WRONG_PASSPHRASE);
    }
}

static void test_pending(void **unused)
{
    (void)unused;
    for (size_t s = 0; scheme_at(s) != NULL; s++)
        for (unsigned variant = 0; variant < 3; variant++) {
            struct world *w = world_of(scheme_at(s));
            struct enrol_pending pending, back;
            uint8_t random[3][SM2_WIDE_BYTES], bytes[KEYFILE_BYTES_MAX];
            size_t size;
            struct mdms_keys foreign;
            struct ami_id name = name_of("a-device-with-the-longest-name-1");
            const sm3_digest hash = {{3}};
            const char *passphrase = variant == 2 ? PASSPHRASE : NULL;
            world_draw(w, random, sizeof random);
            assert_ok(enrol_begin(&pending, &w->mdms.net, variant == 1 ? ENROL_DC : ENROL_METER,
                                  &name, 9, &hash, WIDE(random)));
            assert_ok(pending_file_encode(bytes, &size, &pending, passphrase));
            assert_ok(pending_file_parse(&back, &w->mdms.net, span_of(bytes, size), passphrase));
            assert_int_equal(back.role, pending.role);
            assert_true(ami_id_equal(&back.name, &name));
            assert_int_equal(back.epoch, 9);
            assert_int_equal(back.scheme, w->scheme->number);
            assert_true(scalar_equal(&back.sign_secret, &pending.sign_secret));
            assert_true(scalar_equal(&back.agree.secret, &pending.agree.secret));
            assert_int_equal(back.agree.request.size, pending.agree.request.size);
            assert_memory_equal(back.agree.request.b, pending.agree.request.b, AGREE_PART_BYTES);
            assert_memory_equal(back.reply_key, pending.reply_key, ENROL_REPLY_KEY_BYTES);
            assert_int_equal(back.request_size, pending.request_size);
            assert_memory_equal(back.request, pending.request, pending.request_size);
            for (size_t cut = 0; cut < size; cut++)
                assert_status(
                    pending_file_parse(&back, &w->mdms.net, span_of(bytes, cut), passphrase),
                    AMI_TRUNCATED);
            world_foreign(&foreign, w);
            assert_status(pending_file_parse(&back, &foreign.net, span_of(bytes, size), passphrase),
                          AMI_FOREIGN_KEY);
        }
}

static void test_mdms_keys_make(void **unused)
{
    (void)unused;
    uint8_t random[4][SM2_WIDE_BYTES];
    struct mdms_keys a, b;
    struct ami_id name = name_of("grid"), other = name_of("grid2");
    memset(random, 0x42, sizeof random);
    random[1][0] = 1;
    random[2][0] = 2;
    random[3][0] = 3;
    assert_ok(mdms_keys_make(&a, &name, 1, WIDE(random)));
    assert_ok(mdms_keys_make(&b, &name, 2, WIDE(random)));
    assert_false(sm3_equal(&a.net.id, &b.net.id));
    assert_ok(mdms_keys_make(&b, &other, 1, WIDE(random)));
    assert_false(sm3_equal(&a.net.id, &b.net.id));
    assert_status(mdms_keys_make(&b, &name, 77, WIDE(random)), AMI_BAD_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_device),         cmocka_unit_test(test_truncated_and_damaged),
        cmocka_unit_test(test_bad_content),    cmocka_unit_test(test_foreign),
        cmocka_unit_test(test_mdms),           cmocka_unit_test(test_pending),
        cmocka_unit_test(test_mdms_keys_make),
    };
    return cmocka_run_group_tests(tests, start_crypto, worlds_stop);
}
