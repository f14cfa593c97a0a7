/* Enrolment: the right code gets working keys for both roles under every scheme, anything else is
 * refused with the right reason, and a repeated request is recognised. */
#include "tests/keyagree/support.h"

#include "tests/crypto_start.h"
#include "tests/harness.h"

#include <ctype.h>
#include <string.h>

static const enum enrol_role roles[] = {ENROL_METER, ENROL_DC};

struct enrolment {
    struct install_code code;
    sm3_digest hash;
    struct ami_id name, home;
    struct span home_part;
    enum enrol_role role;
    struct enrol_pending pending;
    struct enrol_request request;
};

static void begin(struct world *w, struct enrolment *e, enum enrol_role role)
{
    uint8_t random[3][SM2_WIDE_BYTES];
    memset(e, 0, sizeof *e);
    world_draw(w, e->code.b, sizeof e->code.b);
    e->role = role;
    e->name = name_of(role == ENROL_METER ? "MAC000999" : "dc-9");
    e->home = role == ENROL_METER ? w->dc[0].name : e->name;
    e->home_part = role == ENROL_METER ? agree_part_span(&w->dc_part[0]) : span_of(NULL, 0);
    e->hash = install_code_hash(&e->code, role, &e->name);
    world_draw(w, random, sizeof random);
    assert_ok(enrol_begin(&e->pending, &w->mdms.net, role, &e->name, 3, &e->hash, WIDE(random)));
    assert_ok(
        enrol_request_parse(&e->request, span_of(e->pending.request, e->pending.request_size)));
}

static enum ami_status open_request(struct world *w, const struct enrolment *e,
                                    struct enrol_opened *opened)
{
    return enrol_open(opened, &w->mdms.net, &w->mdms.enrol, &e->request, &e->hash);
}

static void issue(struct world *w, const struct enrolment *e, const struct enrol_opened *opened,
                  struct enrol_issued *issued, struct enrol_reply *reply)
{
    uint8_t random[2][SM2_WIDE_BYTES];
    world_draw(w, random, sizeof random);
    assert_ok(enrol_issue(issued, &w->mdms.net, &w->mdms.x, opened, &e->home, e->home_part,
                          WIDE(random)));
    assert_ok(enrol_reply_parse(reply, span_of(issued->reply, issued->reply_size)));
}

static void test_codes(void **unused)
{
    (void)unused;
    struct world *w = world_of(scheme_at(0));
    for (unsigned i = 0; i < 200; i++) {
        struct install_code code, back;
        char text[INSTALL_CODE_TEXT_BYTES + 1], typed[3 * INSTALL_CODE_TEXT_BYTES];
        world_draw(w, code.b, sizeof code.b);
        if (i == 0)
            memset(code.b, 0, sizeof code.b);
        if (i == 1)
            memset(code.b, 0xff, sizeof code.b);
        install_code_text(text, &code);
        assert_int_equal(strlen(text), INSTALL_CODE_TEXT_BYTES);
        assert_int_equal(text[4], '-');
        assert_ok(install_code_parse(&back, text));
        assert_memory_equal(&back, &code, sizeof code);
        /* As people type it: lower case, blanks, letters for digits. */
        size_t at = 0;
        for (const char *c = text; *c != 0; c++) {
            if (*c == '-') {
                typed[at++] = ' ';
                continue;
            }
            typed[at++] = *c == '0'   ? 'o'
                          : *c == '1' ? (i % 2 == 0 ? 'l' : 'I')
                                      : (char)tolower(*c);
        }
        typed[at++] = '\n';
        typed[at] = 0;
        assert_ok(install_code_parse(&back, typed));
        assert_memory_equal(&back, &code, sizeof code);
    }
}

/* One wrong character slips through once in 4096 times; of all the single mistakes in one code,
 * no more than a few. Too short, too long, and letters that no code has. */
static void test_mistyped_codes(void **unused)
{
    (void)unused;
    struct install_code code = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}}, back;
    char text[INSTALL_CODE_TEXT_BYTES + 3];
    unsigned mistakes = 0, missed = 0;
    install_code_text(text, &code);
    for (size_t i = 0; i < INSTALL_CODE_TEXT_BYTES; i++) {
        char was = text[i];
        if (was == '-')
            continue;
        for (const char *c = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"; *c != 0; c++) {
            text[i] = *c;
            if (*c != was) {
                mistakes++;
                missed += install_code_parse(&back, text) == AMI_OK;
            }
        }
        text[i] = 'U';
        assert_status(install_code_parse(&back, text), AMI_BAD_ENCODING);
        text[i] = '$';
        assert_status(install_code_parse(&back, text), AMI_BAD_ENCODING);
        text[i] = was;
    }
    assert_int_equal(mistakes, 28 * 31);
    assert_true(missed <= 4);
    assert_ok(install_code_parse(&back, text));
    strcat(text, "0");
    assert_status(install_code_parse(&back, text), AMI_BAD_ENCODING);
    for (size_t size = 0; size < INSTALL_CODE_TEXT_BYTES; size++) {
        install_code_text(text, &code);
        text[size] = 0;
        assert_status(install_code_parse(&back, text), AMI_BAD_ENCODING);
    }
}

static void test_code_hash_is_bound(void **unused)
{
    (void)unused;
    struct install_code code = {{1}};
    struct ami_id a = name_of("dc-1"), b = name_of("dc-2");
    sm3_digest hash = install_code_hash(&code, ENROL_DC, &a);
    sm3_digest other_id = install_code_hash(&code, ENROL_DC, &b);
    sm3_digest other_role = install_code_hash(&code, ENROL_METER, &a);
    code.b[15] = 1;
    sm3_digest other_code = install_code_hash(&code, ENROL_DC, &a);
    assert_false(sm3_equal(&hash, &other_id));
    assert_false(sm3_equal(&hash, &other_role));
    assert_false(sm3_equal(&hash, &other_code));
}

/* Request, reply, and the keys do what they are for. */
static void test_whole(void **unused)
{
    (void)unused;
    for (size_t s = 0; scheme_at(s) != NULL; s++)
        for (size_t r = 0; r < 2; r++) {
            struct world *w = world_of(scheme_at(s));
            struct enrolment e;
            struct enrol_opened opened;
            struct enrol_issued issued;
            struct enrol_reply reply;
            struct device_keys keys;
            begin(w, &e, roles[r]);
            assert_ok(open_request(w, &e, &opened));
            assert_true(ami_id_equal(&opened.name, &e.name));
            assert_int_equal(opened.epoch, 3);
            assert_int_equal(opened.role, roles[r]);
            issue(w, &e, &opened, &issued, &reply);
            assert_ok(enrol_finish(&keys, &e.pending, &w->mdms.net, &reply));
            assert_true(ami_id_equal(&keys.home_dc, &e.home));

            /* What the device signs, others check with what stands on the ledger. */
            struct verify_key verify;
            const struct span part = SPAN_LITERAL("a reading");
            sm2_signature sig = sign_key_sign(&keys.sign, "label", &part, 1, world_random(w));
            assert_ok(verify_key_init(&verify, &w->mdms.net, enrol_sign_role(roles[r]), &e.name, 3,
                                      &issued.w_sign));
            assert_ok(verify_key_check(&verify, "label", &part, 1, &sig));
            assert_status(verify_key_check(&verify, "labels", &part, 1, &sig), AMI_BAD_SIGNATURE);
            /* The same W for another role or epoch is another key. */
            assert_ok(verify_key_init(&verify, &w->mdms.net, enrol_sign_role(roles[r]), &e.name, 4,
                                      &issued.w_sign));
            assert_status(verify_key_check(&verify, "label", &part, 1, &sig), AMI_BAD_SIGNATURE);
            assert_ok(verify_key_init(&verify, &w->mdms.net, enrol_agree_role(roles[r]), &e.name, 3,
                                      &issued.w_sign));
            assert_status(verify_key_check(&verify, "label", &part, 1, &sig), AMI_BAD_SIGNATURE);

            /* And it agrees on a key: a meter with a DC of the world, a DC with a meter. */
            struct world copy = *w;
            if (roles[r] == ENROL_METER) {
                copy.meter[0] = keys.agree;
                assert_ok(agree_peer_init(&copy.peer[0], w->scheme, &w->mdms.net, &e.name, 3,
                                          agree_part_span(&issued.agree_part)));
            } else {
                copy.dc[0] = keys.agree;
            }
            struct agree_result result;
            struct agree_pending pending;
            world_agree(&copy, 0, 0, &result, &pending);
            w->drawn = copy.drawn;
        }
}

static void test_wrong_code(void **unused)
{
    (void)unused;
    for (size_t s = 0; scheme_at(s) != NULL; s++) {
        struct world *w = world_of(scheme_at(s));
        struct enrolment e;
        struct enrol_opened opened;
        begin(w, &e, ENROL_METER);
        sm3_digest right = e.hash;
        e.hash.b[31] ^= 1;
        assert_status(open_request(w, &e, &opened), AMI_WRONG_CODE);
        const struct enrol_opened nothing = {0};
        assert_memory_equal(&opened, &nothing, sizeof opened);
        /* The right code of another device. */
        struct ami_id other = name_of("MAC000998");
        e.hash = install_code_hash(&e.code, ENROL_METER, &other);
        assert_status(open_request(w, &e, &opened), AMI_WRONG_CODE);
        e.hash = right;
        assert_ok(open_request(w, &e, &opened));
    }
}

static void test_repeated_request(void **unused)
{
    (void)unused;
    struct world *w = world_of(scheme_by_number(SCHEME_DEFAULT));
    struct enrolment e, other;
    struct enrol_opened first, again;
    begin(w, &e, ENROL_METER);
    assert_ok(open_request(w, &e, &first));
    assert_ok(open_request(w, &e, &again));
    sm3_digest digest = enrol_request_digest(&e.request);
    assert_true(sm3_equal(&first.digest, &again.digest));
    assert_true(sm3_equal(&first.digest, &digest));
    begin(w, &other, ENROL_METER); /* the same device once more, with fresh secrets */
    assert_ok(open_request(w, &other, &again));
    assert_false(sm3_equal(&first.digest, &again.digest));
    /* The reply to one request is no reply to the other. */
    struct enrol_issued issued;
    struct enrol_reply reply;
    struct device_keys keys;
    issue(w, &e, &first, &issued, &reply);
    assert_status(enrol_finish(&keys, &other.pending, &w->mdms.net, &reply), AMI_BAD_CRYPTO);
    assert_ok(enrol_finish(&keys, &e.pending, &w->mdms.net, &reply));
    /* A stored reply serves twice. */
    assert_ok(enrol_finish(&keys, &e.pending, &w->mdms.net, &reply));
}

/* Any changed byte of a request is refused; what names the device is refused by its own reason. */
static void test_altered_requests(void **unused)
{
    (void)unused;
    for (size_t s = 0; scheme_at(s) != NULL; s++)
        for (size_t r = 0; r < 2; r++) {
            struct world *w = world_of(scheme_at(s));
            struct enrolment e;
            struct enrol_opened opened;
            begin(w, &e, roles[r]);
            uint8_t bytes[ENROL_REQUEST_BYTES_MAX];
            for (size_t i = 0; i < e.pending.request_size; i++) {
                struct enrolment bad = e;
                memcpy(bytes, e.pending.request, e.pending.request_size);
                bytes[i] ^= 1;
                if (enrol_request_parse(&bad.request, span_of(bytes, e.pending.request_size)) !=
                    AMI_OK)
                    continue;
                assert_int_not_equal(open_request(w, &bad, &opened), AMI_OK);
            }
            for (size_t size = 0; size < e.request.sealed.size; size++) {
                struct enrolment bad = e;
                bad.request.sealed.size = size;
                assert_status(open_request(w, &bad, &opened), AMI_BAD_CRYPTO);
            }
            struct enrolment bad = e;
            bad.request.network.b[0] ^= 1;
            assert_status(open_request(w, &bad, &opened), AMI_WRONG_CHAIN);
            bad = e;
            bad.request.epoch = 0;
            assert_status(open_request(w, &bad, &opened), AMI_BAD_ARGUMENT);
            bad = e;
            bad.request.role ^= 3;
            assert_status(open_request(w, &bad, &opened), AMI_BAD_CRYPTO);
            /* For another MDMS's enrolment key. */
            struct mdms_keys foreign;
            world_foreign(&foreign, w);
            assert_status(enrol_open(&opened, &w->mdms.net, &foreign.enrol, &e.request, &e.hash),
                          AMI_BAD_CRYPTO);
        }
}

/* Somebody without the code who seals a request of his own, with another's points. */
static void test_points_are_under_the_code(void **unused)
{
    (void)unused;
    struct world *w = world_of(scheme_by_number(SCHEME_DEFAULT));
    struct enrolment e;
    struct enrol_opened opened;
    uint8_t random[3][SM2_WIDE_BYTES];
    begin(w, &e, ENROL_METER);
    sm3_digest guess = {{0}};
    world_draw(w, random, sizeof random);
    assert_ok(enrol_begin(&e.pending, &w->mdms.net, ENROL_METER, &e.name, 3, &guess, WIDE(random)));
    assert_ok(enrol_request_parse(&e.request, span_of(e.pending.request, e.pending.request_size)));
    assert_status(open_request(w, &e, &opened), AMI_WRONG_CODE);
}

static void test_altered_replies(void **unused)
{
    (void)unused;
    for (size_t s = 0; scheme_at(s) != NULL; s++)
        for (size_t r = 0; r < 2; r++) {
            struct world *w = world_of(scheme_at(s));
            struct enrolment e;
            struct enrol_opened opened;
            struct enrol_issued issued;
            struct enrol_reply reply;
            struct device_keys keys;
            const struct device_keys nothing = {0};
            begin(w, &e, roles[r]);
            assert_ok(open_request(w, &e, &opened));
            issue(w, &e, &opened, &issued, &reply);
            uint8_t bytes[ENROL_REPLY_BYTES_MAX];
            for (size_t i = 0; i < issued.reply_size; i++) {
                memcpy(bytes, issued.reply, issued.reply_size);
                bytes[i] ^= 1;
                if (enrol_reply_parse(&reply, span_of(bytes, issued.reply_size)) != AMI_OK)
                    continue;
                assert_int_not_equal(enrol_finish(&keys, &e.pending, &w->mdms.net, &reply), AMI_OK);
                assert_memory_equal(&keys, &nothing, sizeof keys);
            }
            assert_ok(enrol_reply_parse(&reply, span_of(issued.reply, issued.reply_size)));
            struct enrol_reply bad = reply;
            for (bad.sealed.size = 0; bad.sealed.size < reply.sealed.size; bad.sealed.size++)
                assert_status(enrol_finish(&keys, &e.pending, &w->mdms.net, &bad), AMI_BAD_CRYPTO);
            bad = reply;
            bad.device = name_of("somebody");
            assert_status(enrol_finish(&keys, &e.pending, &w->mdms.net, &bad), AMI_UNKNOWN_DEVICE);
            bad = reply;
            bad.epoch++;
            assert_status(enrol_finish(&keys, &e.pending, &w->mdms.net, &bad), AMI_WRONG_EPOCH);
            struct mdms_keys foreign;
            world_foreign(&foreign, w);
            assert_status(enrol_finish(&keys, &e.pending, &foreign.net, &reply), AMI_FOREIGN_KEY);
            assert_ok(enrol_finish(&keys, &e.pending, &w->mdms.net, &reply));
        }
}

/* A device checks what it is given even when it comes from the MDMS: keys made with another master
 * key, for another name or from another point do not fit. */
static void test_keys_that_do_not_fit(void **unused)
{
    (void)unused;
    for (size_t s = 0; scheme_at(s) != NULL; s++) {
        struct world *w = world_of(scheme_at(s));
        for (unsigned what = 0; what < 4; what++) {
            struct enrolment e;
            struct enrol_opened opened;
            struct enrol_issued issued;
            struct enrol_reply reply;
            struct device_keys keys;
            begin(w, &e, ENROL_METER);
            assert_ok(open_request(w, &e, &opened));
            struct enrol_opened wrong = opened;
            struct world other = *w;
            static const scalar one = {{1}};
            if (what == 0)
                wrong.u_sign = *point_generator();
            else if (what == 1)
                other.mdms.x = scalar_add(&w->mdms.x, &one);
            else if (what == 2)
                other.mdms.net.id.b[0] ^= 1;
            issue(&other, &e, &wrong, &issued, &reply);
            w->drawn = other.drawn;
            assert_status(enrol_finish(&keys, &e.pending, &w->mdms.net, &reply),
                          what == 3 ? AMI_OK : AMI_BAD_CRYPTO);
        }
        /* The agreeing role by itself: its request or its home DC exchanged. */
        struct agree_enrolling begun;
        struct agree_secret secret;
        struct agree_part part, request;
        struct agree_key key;
        const struct network *net = &w->mdms.net;
        struct ami_id name = name_of("m"), wrong_name = name_of("n");
        w->scheme->device_begin(&begun, ROLE_METER_AGREE, world_random(w));
        request = begun.request;
        for (unsigned what = 0; what < 5; what++) {
            struct agree_part u = request;
            if (what == 1 && u.size != 0) {
                point_bytes g = point_encode(point_generator());
                memcpy(u.b, g.b, sizeof g.b);
            }
            assert_ok(w->scheme->mdms_issue(
                &secret, &part, net, &w->mdms.x, ROLE_METER_AGREE, what == 2 ? &wrong_name : &name,
                1, agree_part_span(&w->dc_part[0]), agree_part_span(&u), world_random(w)));
            if (what == 3)
                secret.b[31] ^= 1;
            if (what == 4) {
                point_bytes g = point_encode(point_generator());
                memcpy(part.b, g.b, sizeof g.b);
            }
            bool fits = what == 0 || (what == 1 && u.size == 0);
            assert_status(w->scheme->device_accept(&key, &begun, net, ROLE_METER_AGREE, &name, 1,
                                                   span_of(secret.b, secret.size),
                                                   agree_part_span(&part)),
                          fits ? AMI_OK : AMI_BAD_CRYPTO);
        }
    }
}

static void test_bad_points_in_requests(void **unused)
{
    (void)unused;
    for (size_t s = 0; scheme_at(s) != NULL; s++) {
        struct world *w = world_of(scheme_at(s));
        struct agree_secret secret;
        struct agree_part part;
        struct ami_id name = name_of("dc-x");
        uint8_t bad[SM2_POINT_BYTES] = {4};
        static const size_t sizes[] = {0, 1, 32, 33};
        for (unsigned i = 0; i < 4; i++)
            assert_status(w->scheme->mdms_issue(&secret, &part, &w->mdms.net, &w->mdms.x,
                                                ROLE_DC_AGREE, &name, 1, span_of(NULL, 0),
                                                span_of(bad, sizes[i]), world_random(w)),
                          AMI_BAD_CRYPTO);
        struct enrolment e;
        struct enrol_opened opened;
        begin(w, &e, ENROL_DC);
        assert_ok(open_request(w, &e, &opened));
        opened.agree_request.b[0] = 9;
        struct enrol_issued issued;
        uint8_t random[2][SM2_WIDE_BYTES] = {{0}};
        assert_status(enrol_issue(&issued, &w->mdms.net, &w->mdms.x, &opened, &e.home, e.home_part,
                                  WIDE(random)),
                      AMI_BAD_CRYPTO);
    }
}

static void test_refusals(void **unused)
{
    (void)unused;
    struct world *w = world_of(scheme_by_number(SCHEME_DEFAULT));
    struct enrolment e;
    struct enrol_reply reply;
    struct device_keys keys;
    uint8_t bytes[ENROL_REPLY_BYTES_MAX];
    begin(w, &e, ENROL_METER);
    size_t size = enrol_refuse(bytes, &e.name, 3, AMI_CODE_USED);
    assert_ok(enrol_reply_parse(&reply, span_of(bytes, size)));
    assert_status(enrol_finish(&keys, &e.pending, &w->mdms.net, &reply), AMI_CODE_USED);
    reply.status = 60000;
    assert_status(enrol_finish(&keys, &e.pending, &w->mdms.net, &reply), AMI_BAD_ENCODING);
    /* A refusal turned into a consent has nothing in it. */
    reply.status = 0;
    assert_status(enrol_finish(&keys, &e.pending, &w->mdms.net, &reply), AMI_BAD_CRYPTO);

    uint8_t random[3][SM2_WIDE_BYTES] = {{1}};
    struct network net = w->mdms.net;
    net.scheme = 250;
    assert_status(enrol_begin(&e.pending, &net, ENROL_METER, &e.name, 1, &e.hash, WIDE(random)),
                  AMI_WRONG_SCHEME);
    assert_status(
        enrol_begin(&e.pending, &w->mdms.net, ENROL_METER, &e.name, 0, &e.hash, WIDE(random)),
        AMI_BAD_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_codes),
        cmocka_unit_test(test_mistyped_codes),
        cmocka_unit_test(test_code_hash_is_bound),
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_wrong_code),
        cmocka_unit_test(test_repeated_request),
        cmocka_unit_test(test_altered_requests),
        cmocka_unit_test(test_points_are_under_the_code),
        cmocka_unit_test(test_altered_replies),
        cmocka_unit_test(test_keys_that_do_not_fit),
        cmocka_unit_test(test_bad_points_in_requests),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, start_crypto, worlds_stop);
}
