/* A genesis file is read whole or not at all, and the sentence names it. */
#include "tests/harness.h"

#include "client/genesis.h"
#include "crypto/secret.h"
#include "net/file.h"
#include "tests/ledger/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[64];
static struct fixture *f;
static struct genesis *got;

static void put(const char *text)
{
    struct why why = {""};
    assert_ok(file_write(path, span_of(text, strlen(text)), FILE_MODE_PUBLIC, &why));
}

static void refuses(bool allow_single, enum ami_status expected)
{
    struct why why = {""};
    assert_status(genesis_read(got, path, allow_single, &why), expected);
    assert_non_null(strstr(why.text, path));
    assert_true(strlen(why.text) > strlen(path) + 4);
}

static void it_is_read(void **state)
{
    (void)state;
    struct why why = {""};
    put(f->genesis_text);
    assert_ok(genesis_read(got, path, false, &why));
    assert_memory_equal(&got->members.chain, &f->genesis.members.chain, sizeof got->members.chain);
    assert_int_equal(got->members.count, 4);
}

static void mistakes_are_the_files(void **state)
{
    (void)state;
    assert_int_equal(unlink(path), 0);
    refuses(false, AMI_NOT_FOUND);
    put("");
    refuses(false, AMI_BAD_ENCODING);
    char *text = strdup(f->genesis_text);
    assert_non_null(text);
    text[strlen(text) / 2] = '\0';
    put(text);
    free(text);
    refuses(false, AMI_BAD_ENCODING);
}

static void a_single_dc_is_for_tests(void **state)
{
    (void)state;
    struct why why = {""};
    struct fixture *alone = fixture_new(1, 5);
    put(alone->genesis_text);
    refuses(false, AMI_BAD_ENCODING);
    assert_ok(genesis_read(got, path, true, &why));
    assert_int_equal(got->members.count, 1);
    fixture_free(alone);
}

static int start(void **state)
{
    (void)state;
    snprintf(path, sizeof path, "/tmp/ami-genesis-XXXXXX");
    int fd = mkstemp(path);
    if (crypto_start() != AMI_OK || fd < 0)
        return -1;
    close(fd);
    f = fixture_new(4, 3);
    got = malloc(sizeof *got);
    return got == NULL;
}

static int stop(void **state)
{
    (void)state;
    free(got);
    fixture_free(f);
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_read),
        cmocka_unit_test(mistakes_are_the_files),
        cmocka_unit_test(a_single_dc_is_for_tests),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
