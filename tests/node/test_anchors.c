/* What a DC goes by when it lets somebody in, over changes of its files and over restarts. */
#include "node/anchors.h"

#include "crypto/secret.h"
#include "net/file.h"
#include "tests/channel/certificates.h"
#include "tests/harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DAY_S INT64_C(86400)

static struct realm realm;
static char dir[] = "/tmp/amiledger-anchors-XXXXXX";
static struct credential alice, own;
static char *log_text;
static size_t log_size;
static FILE *log_file;
static struct log_sink *log_sink;

/* The path of a file in the folder; stays until the eighth call after. */
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
    realm_credential(&realm, &alice, CREDENTIAL_IMPLICIT, "alice", "1:operation", 0, 0);
    realm_credential(&realm, &own, CREDENTIAL_IMPLICIT, "dc-1", NULL, 0, 0);
    if (mkdtemp(dir) == NULL)
        return -1;
    return certificates_make(path("ca"), &realm);
}

static int teardown(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

static int fresh(void **state)
{
    (void)state;
    unlink(path(ANCHORS_KEPT));
    log_file = open_memstream(&log_text, &log_size);
    log_sink = log_open(log_file, ENV_LOG_DEBUG, 0);
    return log_sink == NULL ? -1 : 0;
}

static int done(void **state)
{
    (void)state;
    log_close(log_sink);
    fclose(log_file);
    free(log_text);
    return 0;
}

static unsigned said(const char *part)
{
    unsigned count = 0;
    fflush(log_file);
    for (const char *at = log_text; at != NULL && (at = strstr(at, part)) != NULL; at++)
        count++;
    return count;
}

/* The MDMS's list of this number, with alice on it. */
static struct span list_of(uint64_t number)
{
    static struct revoked_list list;
    static uint8_t bytes[AMI_REVOKED_BYTES_MAX];
    list = (struct revoked_list){.number = number};
    assert_ok(
        revoked_list_add(&list, &(struct revoked_entry){alice.who.fingerprint, alice.who.until_s}));
    return span_of(bytes, revoked_list_encode(bytes, &list, &realm.mdms.net, &realm.mdms.sign,
                                              realm_random(&realm)));
}

static const struct trust_files nothing;

static struct anchors of(const struct trust_files *files)
{
    return (struct anchors){
        .watch = {.net = &realm.mdms.net, .files = files, .own = &own, .log = log_sink},
        .dir = dir};
}

static void the_kept_list_is_there_after_a_restart(void **state)
{
    (void)state;
    struct why why = {""};
    struct anchors a = of(&nothing);
    assert_ok(anchors_start(&a, 0, SUITE_WALL_MS, &why));
    assert_int_equal(a.operators_size, 0);
    for (uint64_t number = 7; number < 9; number++)
        assert_ok(anchors_keep_operators(&a, list_of(number)));
    anchors_end(&a);
    a = of(&nothing);
    assert_ok(anchors_start(&a, 0, SUITE_WALL_MS, &why));
    static struct revoked_list head;
    assert_ok(revoked_list_read(&head, span_of(a.operators, a.operators_size)));
    assert_int_equal(head.number, 8);
    anchors_end(&a);
    /* What was kept and is none any more is no reason to let everybody in. */
    assert_ok(file_write(path(ANCHORS_KEPT), span_of("x", 1), FILE_MODE_PUBLIC, NULL));
    a = of(&nothing);
    assert_int_not_equal(anchors_start(&a, 0, SUITE_WALL_MS, &why), AMI_OK);
    assert_non_null(strstr(why.text, ANCHORS_KEPT));
    anchors_end(&a);
    /* Nor is one of another version; what to do is said. */
    const struct span older = list_of(9);
    uint8_t *version = (uint8_t *)(uintptr_t)older.data + 8;
    --*version;
    assert_ok(file_write(path(ANCHORS_KEPT), older, FILE_MODE_PUBLIC, NULL));
    a = of(&nothing);
    assert_status(anchors_start(&a, 0, SUITE_WALL_MS, &why), AMI_BAD_VERSION);
    assert_non_null(strstr(why.text, "move it away"));
    anchors_end(&a);
    /* Where it cannot be kept, that is said. */
    a = of(&nothing);
    a.dir = "/proc/nowhere";
    assert_int_not_equal(anchors_keep_operators(&a, list_of(9)), AMI_OK);
    assert_int_equal(said("operators_not_kept"), 1);
}

/* Not only the own leaf: authorities, roots and lists run out as well. */
static void whatever_runs_out_is_warned_of(void **state)
{
    (void)state;
    struct why why = {""};
    struct node_anchors state_of;
    char roots[256], crls[256];
    snprintf(roots, sizeof roots, "%s", path("ca/root.pem"));
    snprintf(crls, sizeof crls, "%s", path("ca/all.crl"));
    const struct trust_files files = {.roots = roots, .crls = crls};
    const int64_t root_until = CERTIFICATES_UNTIL_S; /* the lists end later */
    struct anchors a = of(&files);
    assert_ok(anchors_start(&a, 0, (root_until - 31 * DAY_S) * 1000, &why));
    anchors_state(&a, &state_of);
    assert_int_equal(state_of.until_s, root_until);
    assert_int_equal(said("trust_expires"), 0);
    assert_true(anchors_look(&a, TRUST_WARN_US, (root_until - 29 * DAY_S) * 1000));
    assert_int_equal(said("trust_expires"), 1);
    assert_false(anchors_look(&a, TRUST_WARN_US + 5, (root_until - 29 * DAY_S) * 1000));
    assert_int_equal(said("trust_expires"), 1);
    assert_true(anchors_look(&a, 2 * TRUST_WARN_US, (root_until - 28 * DAY_S) * 1000));
    assert_int_equal(said("trust_expires"), 2);
    assert_int_equal(said("credential_expires"), 0);
    anchors_end(&a);
    /* A list that ends sooner than the root. */
    snprintf(crls, sizeof crls, "%s", path("ca/soon.crl"));
    a = of(&files);
    assert_ok(anchors_start(&a, 0, SUITE_WALL_MS, &why));
    anchors_state(&a, &state_of);
    assert_int_equal(state_of.until_s, CERTIFICATES_SOON_UNTIL_S);
    assert_int_equal(said("trust_expires"), 3);
    anchors_end(&a);
    /* The authority of the own certificate. */
    struct credential before = own;
    own.chain_until_s = SUITE_WALL_MS / 1000 + 5 * DAY_S;
    a = of(&nothing);
    assert_ok(anchors_start(&a, 0, SUITE_WALL_MS, &why));
    assert_int_equal(said("credential_expires"), 1);
    own = before;
    anchors_end(&a);
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_kept_list_is_there_after_a_restart, fresh, done),
        cmocka_unit_test_setup_teardown(whatever_runs_out_is_warned_of, fresh, done),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
