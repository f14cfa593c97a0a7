/* What a program trusts, and its own X.509 credential, from files. */
#include "net/trust.h"

#include "crypto/secret.h"
#include "sim/lab/realm.h"
#include "tests/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct realm realm;
static char dir[] = "/tmp/amiledger-trust-XXXXXX";

/* The path of a file made by the script; stays until the eighth call after. */
static const char *path(const char *name)
{
    static char out[8][256];
    static unsigned at;
    char *p = out[at++ % 8];
    snprintf(p, sizeof out[0], "%s/%s", dir, name);
    return p;
}

static int setup(void **state)
{
    char command[512], network[2 * SM3_BYTES + 1];
    (void)state;
    realm_make(&realm, "grid", 1);
    if (mkdtemp(dir) == NULL)
        return -1;
    hex_encode(network, realm.mdms.net.id.b, SM3_BYTES);
    snprintf(command, sizeof command, "tests/channel/make_certificates %s %s", dir, network);
    return system(command);
}

static int teardown(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

static enum ami_status load(const struct trust_files *files, const char *part)
{
    struct trust t;
    struct why why = {""};
    enum ami_status status = trust_load(&t, &realm.mdms.net, files, &why);
    if (status != AMI_OK && strstr(why.text, part) == NULL)
        fail_msg("'%s' does not say '%s'", why.text, part);
    if (status == AMI_OK)
        assert_int_equal(t.trust.x509 != NULL, files->roots != NULL);
    trust_end(&t);
    return status;
}

/* Who forgets the lists would let revoked ones in and never be told. */
static void roots_need_lists_or_a_word(void **state)
{
    (void)state;
    assert_ok(load(&(struct trust_files){0}, ""));
    assert_ok(load(&(struct trust_files){.roots = path("root.pem"), .crls = path("all.crl")}, ""));
    assert_ok(load(&(struct trust_files){.roots = path("root.pem"), .crls = TRUST_NO_CRLS}, ""));
    assert_status(load(&(struct trust_files){.roots = path("root.pem")}, "'none' in their place"),
                  AMI_BAD_ARGUMENT);
    assert_status(load(&(struct trust_files){.crls = path("all.crl")}, "no use without"),
                  AMI_BAD_ARGUMENT);
    assert_status(load(&(struct trust_files){.roots = path("root.pem"), .crls = path("root.pem")},
                       "no revocation list"),
                  AMI_BAD_ENCODING);
}

static void a_credential_in_use_survives_a_bad_one(void **state)
{
    (void)state;
    struct credential own, before;
    struct why why = {""};
    const struct ami_id dc_1 = id_of("dc-1");
    const struct network *net = &realm.mdms.net;
    const struct trust_files good = {.key = path("dc-1.key"), .chain = path("dc-1.chain")};
    const struct trust_files others[] = {
        {.key = path("dc-2.key"), .chain = path("dc-2.chain")}, /* somebody else's */
        {.key = path("dc-2.key"), .chain = path("dc-1.chain")},
        {.key = path("dc-1.key"), .chain = path("no-such-file")},
        {.key = path("dc-1.key")},
    };
    memset(&own, 0, sizeof own);
    assert_ok(trust_own(&own, net, &good, CREDENTIAL_DC, &dc_1, &why));
    assert_string_equal(own.who.name.text, "dc-1");
    before = own;
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_int_not_equal(trust_own(&own, net, &others[i], CREDENTIAL_DC, &dc_1, &why), AMI_OK);
        assert_memory_equal(&own, &before, sizeof own);
    }
}

static void copy(const char *from, const char *to)
{
    char command[600];
    snprintf(command, sizeof command, "cp %s %s", from, to);
    assert_int_equal(system(command), 0);
}

/* What is bad on the disk leaves in force what was read before. */
static void a_bad_file_leaves_what_is_trusted(void **state)
{
    (void)state;
    struct trust t = {0};
    struct trust_times times = {0};
    struct why why = {""};
    const struct network *net = &realm.mdms.net;
    char roots[256], crls[256];
    snprintf(roots, sizeof roots, "%s", path("now.pem"));
    snprintf(crls, sizeof crls, "%s", path("now.crl"));
    const struct trust_files files = {.roots = roots, .crls = crls};
    copy(path("root.pem"), roots);
    copy(path("all.crl"), crls);
    assert_true(trust_changed(&times, &files));
    assert_false(trust_changed(&times, &files));
    assert_ok(trust_load(&t, net, &files, &why));
    assert_true(trust_until_s(&t) == 2082758400); /* the root's */
    copy(path("root.pem"), crls);
    assert_true(trust_changed(&times, &files));
    assert_status(trust_reload(&t, net, &files, &why), AMI_BAD_ENCODING);
    assert_non_null(t.trust.x509);
    assert_true(trust_until_s(&t) == 2082758400);
    copy(path("soon.crl"), crls);
    assert_true(trust_changed(&times, &files));
    assert_ok(trust_reload(&t, net, &files, &why));
    assert_true(trust_left_s(&t, 1801526400 - 5) == 5); /* the list's */
    trust_end(&t);
    assert_true(trust_left_s(&t, 0) == INT64_MAX);
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(roots_need_lists_or_a_word),
        cmocka_unit_test(a_credential_in_use_survives_a_bad_one),
        cmocka_unit_test(a_bad_file_leaves_what_is_trusted),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
