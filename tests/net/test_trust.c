/* What a program trusts, and its own X.509 credential, from files. */
#include "net/trust.h"

#include "crypto/secret.h"
#include "tests/channel/certificates.h"
#include "tests/harness.h"

#include "net/file.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

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
    (void)state;
    realm_make(&realm, "grid", 1);
    if (mkdtemp(dir) == NULL)
        return -1;
    return certificates_make(dir, &realm);
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
        {.chain = path("dc-1.chain")},
        {.key = good.key, .chain = good.chain, .cfl_certificate = path("dc-1.chain")},
        {.cfl_certificate = path("dc-1.chain")},
    };
    memset(&own, 0, sizeof own);
    const struct trust_owner owner = {.role = CREDENTIAL_DC, .name = dc_1};
    assert_ok(trust_own(&own, net, &good, &owner, NULL, &why));
    assert_string_equal(own.who.name.text, "dc-1");
    before = own;
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_int_not_equal(trust_own(&own, net, &others[i], &owner, NULL, &why), AMI_OK);
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
    assert_true(trust_until_s(&t) == CERTIFICATES_UNTIL_S); /* the root's */
    copy(path("root.pem"), crls);
    assert_true(trust_changed(&times, &files));
    assert_status(trust_reload(&t, net, &files, &why), AMI_BAD_ENCODING);
    assert_non_null(t.trust.x509);
    assert_true(trust_until_s(&t) == CERTIFICATES_UNTIL_S);
    copy(path("soon.crl"), crls);
    assert_true(trust_changed(&times, &files));
    assert_ok(trust_reload(&t, net, &files, &why));
    assert_true(trust_left_s(&t, CERTIFICATES_SOON_UNTIL_S - 5) == 5); /* the list's */
    trust_end(&t);
    assert_true(trust_left_s(&t, 0) == INT64_MAX);
}

/* --- CFL, and a program that runs for long ---------------------------------------------------- */

static void write_cfl(const char *to, const struct sign_key *key, const char *name, uint32_t epoch,
                      const struct cfl_seed *seed)
{
    uint8_t file[CFL_FILE_BYTES_MAX];
    static time_t moment = 1800000000;
    struct cfl_certificate c;
    const struct credential_identity who = {.role = CREDENTIAL_DC,
                                            .network = realm.mdms.net.id,
                                            .name = id_of(name),
                                            .epoch = epoch,
                                            .from_s = 1,
                                            .until_s = SUITE_WALL_MS / 1000 + 86400};
    assert_ok(cfl_request_with(&c, &key->private_key, &who, realm_random(&realm)));
    assert_ok(cfl_issue(&c, seed, realm_random(&realm)));
    assert_ok(
        file_write(to, span_of(file, cfl_file_encode(file, &c, true)), FILE_MODE_PUBLIC, NULL));
    moment++;
    const struct timespec times[2] = {{.tv_sec = moment}, {.tv_sec = moment}};
    assert_int_equal(utimensat(AT_FDCWD, to, times, 0), 0);
}

static void write_set(const char *to, const struct cfl_public *set)
{
    static uint8_t bytes[CFL_PUBLIC_BYTES_MAX];
    assert_ok(
        file_write(to, span_of(bytes, cfl_public_encode(bytes, set)), FILE_MODE_PUBLIC, NULL));
}

static void a_cfl_certificate_is_of_its_owner_and_its_key(void **state)
{
    (void)state;
    static struct realm other;
    struct sign_key key, next;
    struct credential own = {0};
    struct trust t;
    struct why why = {""};
    char cfl[256], set[256];
    const struct network *net = &realm.mdms.net;
    snprintf(cfl, sizeof cfl, "%s", path("own.cfl"));
    snprintf(set, sizeof set, "%s", path("set"));
    realm_make(&other, "grid", 2);
    realm_dc_key(&realm, &key, "dc-1", 1);
    realm_dc_key(&realm, &next, "dc-1", 2);
    write_set(set, &realm.set);
    const struct trust_files files = {.cfl_public = set, .cfl_certificate = cfl};
    struct trust_owner owner = {CREDENTIAL_DC, id_of("dc-1"), 1, &key.private_key};
    assert_ok(trust_load(&t, net, &files, &why));
    write_cfl(cfl, &key, "dc-1", 1, &realm.seed);
    assert_ok(trust_own(&own, net, &files, &owner, &t, &why));
    assert_int_equal(own.who.kind, CREDENTIAL_CFL);
    const struct credential before = own;
    write_cfl(cfl, &key, "dc-2", 1, &realm.seed);
    assert_status(trust_own(&own, net, &files, &owner, &t, &why), AMI_FOREIGN_KEY);
    write_cfl(cfl, &key, "dc-1", 1, &other.seed);
    assert_status(trust_own(&own, net, &files, &owner, &t, &why), AMI_WRONG_CHAIN);
    assert_ok(trust_own(&own, net, &files, &owner, NULL, &why)); /* nobody here could know */
    own = before;
    write_cfl(cfl, &next, "dc-1", 2, &realm.seed);
    assert_status(trust_own(&own, net, &files, &owner, &t, &why), AMI_BAD_CRYPTO);
    assert_memory_equal(&own, &before, sizeof own);
    owner.epoch = 2;
    owner.key = &next.private_key;
    assert_ok(trust_own(&own, net, &files, &owner, &t, &why));
    trust_end(&t);
}

struct rig {
    struct trust_watch watch;
    struct trust_files files;
    struct trust_owner owner;
    struct credential own;
    unsigned renewed;
};

static enum ami_status renew(void *ctx, struct why *why)
{
    struct rig *r = ctx;
    r->renewed++;
    return trust_own(&r->own, &realm.mdms.net, &r->files, &r->owner, &r->watch.trust, why);
}

static unsigned said(const char *text, const char *part)
{
    unsigned count = 0;
    for (const char *at = text; at != NULL && (at = strstr(at, part)) != NULL; at++)
        count++;
    return count;
}

/* The own credential is made once, and again when its file is another; what is bad changes nothing;
 * and what runs out is said at once and every day. */
static void an_own_credential_is_read_again(void **state)
{
    (void)state;
    struct sign_key key, stranger;
    struct rig r = {.renewed = 0};
    struct why why = {""};
    char cfl[256], *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    struct log_sink *log = log_open(out, ENV_LOG_DEBUG, 0);
    snprintf(cfl, sizeof cfl, "%s", path("own.cfl"));
    realm_dc_key(&realm, &key, "dc-1", 1);
    realm_dc_key(&realm, &stranger, "dc-1", 1);
    write_cfl(cfl, &key, "dc-1", 1, &realm.seed);
    r.files.cfl_certificate = cfl;
    r.owner = (struct trust_owner){CREDENTIAL_DC, id_of("dc-1"), 1, &key.private_key};
    r.watch = (struct trust_watch){.net = &realm.mdms.net,
                                   .files = &r.files,
                                   .log = log,
                                   .own = &r.own,
                                   .renew = renew,
                                   .ctx = &r};
    assert_ok(trust_watch_start(&r.watch, 0, SUITE_WALL_MS, &why));
    assert_int_equal(r.renewed, 1);
    assert_false(trust_watch_look(&r.watch, 1, SUITE_WALL_MS));
    assert_int_equal(r.renewed, 1);
    const struct credential before = r.own;
    write_cfl(cfl, &stranger, "dc-1", 1, &realm.seed);
    assert_false(trust_watch_look(&r.watch, 2, SUITE_WALL_MS));
    assert_int_equal(r.renewed, 2);
    assert_memory_equal(&r.own, &before, sizeof before);
    write_cfl(cfl, &key, "dc-1", 1, &realm.seed);
    assert_false(trust_watch_look(&r.watch, 3, SUITE_WALL_MS)); /* others are trusted as before */
    assert_memory_not_equal(&r.own, &before, sizeof before);    /* other nonces */
    assert_true(trust_watch_look(&r.watch, 3 + TRUST_WARN_US, SUITE_WALL_MS));
    fflush(out);
    assert_int_equal(said(text, "INFO credential kind=cfl in_days=1"), 2);
    assert_int_equal(said(text, "credential_not_read"), 1);
    assert_int_equal(said(text, "credential_expires"), 3);
    trust_watch_end(&r.watch);
    log_close(log);
    fclose(out);
    free(text);
}

/* Open links are judged again when other files are read than before, and now and then for dates. */
static void links_are_judged_when_there_is_reason_to(void **state)
{
    (void)state;
    struct rig r = {.renewed = 0};
    struct why why = {""};
    struct log_sink *log = log_open(NULL, ENV_LOG_DEBUG, 0);
    char set[256];
    snprintf(set, sizeof set, "%s", path("set"));
    write_set(set, &realm.set);
    r.files.cfl_public = set;
    r.watch =
        (struct trust_watch){.net = &realm.mdms.net, .files = &r.files, .log = log, .own = &r.own};
    assert_ok(trust_watch_start(&r.watch, 5, SUITE_WALL_MS, &why));
    assert_false(trust_watch_look(&r.watch, 6, SUITE_WALL_MS));
    const struct timespec moved[2] = {{.tv_sec = 1800000000}, {.tv_sec = 1800000000}};
    assert_int_equal(utimensat(AT_FDCWD, set, moved, 0), 0);
    assert_true(trust_watch_look(&r.watch, 7, SUITE_WALL_MS));
    assert_false(trust_watch_look(&r.watch, 8, SUITE_WALL_MS));
    assert_false(trust_watch_look(&r.watch, 6 + TRUST_JUDGE_US, SUITE_WALL_MS));
    assert_true(trust_watch_look(&r.watch, 7 + TRUST_JUDGE_US, SUITE_WALL_MS));
    assert_false(trust_watch_look(&r.watch, 8 + TRUST_JUDGE_US, SUITE_WALL_MS));
    /* What cannot be read changes nothing. */
    assert_ok(file_write(set, span_of("x", 1), FILE_MODE_PUBLIC, NULL));
    assert_false(trust_watch_look(&r.watch, 9 + TRUST_JUDGE_US, SUITE_WALL_MS));
    trust_watch_end(&r.watch);
    log_close(log);
}

/* Who may make operators has to be said in whole, and in PEM. */
static void operators_need_authorities_and_a_label(void **state)
{
    (void)state;
    struct trust_files f = {.roots = path("root.pem"), .crls = path("all.crl")};
    f.operators = path("middle.pem");
    assert_status(load(&f, "belong together"), AMI_BAD_ARGUMENT);
    f.operators_label = "1:ledger";
    assert_ok(load(&f, ""));
    f.operators_label = "9:";
    assert_status(load(&f, "is no label"), AMI_BAD_ARGUMENT);
    f.operators_label = "1:ledger";
    f.operators = path("dc-1.key");
    assert_status(load(&f, "no certificate in PEM"), AMI_BAD_ENCODING);
    f.operators = NULL;
    assert_status(load(&f, "belong together"), AMI_BAD_ARGUMENT);
    f = (struct trust_files){.operators = path("middle.pem"), .operators_label = "1:ledger"};
    assert_status(load(&f, "no use without X.509 roots"), AMI_BAD_ARGUMENT);
    f = (struct trust_files){.operators_label = "1:ledger"};
    assert_status(load(&f, "no use without X.509 roots"), AMI_BAD_ARGUMENT);
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(roots_need_lists_or_a_word),
        cmocka_unit_test(a_credential_in_use_survives_a_bad_one),
        cmocka_unit_test(a_bad_file_leaves_what_is_trusted),
        cmocka_unit_test(operators_need_authorities_and_a_label),
        cmocka_unit_test(a_cfl_certificate_is_of_its_owner_and_its_key),
        cmocka_unit_test(an_own_credential_is_read_again),
        cmocka_unit_test(links_are_judged_when_there_is_reason_to),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
