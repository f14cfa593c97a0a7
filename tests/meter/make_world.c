/* make_world DIR: genesis files and enrolled meters for tests/meter/cli.sh, without a network.
 *
 *   DIR/genesis.json   four DCs on ports that nobody listens on
 *   DIR/other.json     another chain
 *   DIR/fleet          meters m-1, m-2 and m-3, enrolled
 *   DIR/damaged        m-1 with a key file that is cut short
 *   DIR/foreign        m-1 with the key file of another network's m-1
 */
#include "base/check.h"
#include "crypto/secret.h"
#include "net/file.h"
#include "tests/meter/enrolled.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK(expr) AMI_CHECK((expr) == AMI_OK)

static char path[512];

static const char *in(const char *dir, const char *name)
{
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

/* The members at an address of no use, through the file as everybody gets it. */
static struct fixture *world(uint64_t seed, char **text)
{
    char why[256];
    struct fixture *f = fixture_new(4, seed);
    for (unsigned i = 0; i < 4; i++) {
        struct member_address *a = &f->genesis.address[i];
        snprintf(a->peer, sizeof a->peer, "tcp://127.0.0.1:%u", 3 * i + 1);
        snprintf(a->meter, sizeof a->meter, "tcp://127.0.0.1:%u", 3 * i + 2);
        snprintf(a->admin, sizeof a->admin, "tcp://127.0.0.1:%u", 3 * i + 3);
    }
    *text = genesis_print(&f->genesis);
    AMI_CHECK(*text != NULL);
    OK(genesis_parse(&f->genesis, span_of(*text, strlen(*text)), false, why, sizeof why));
    return f;
}

int main(int argc, char **argv)
{
    char *text, *other_text;
    uint8_t file[KEYFILE_BYTES_MAX];
    AMI_CHECK(argc == 2);
    OK(crypto_start());
    struct fixture *f = world(7, &text), *other = world(8, &other_text);
    OK(file_write(in(argv[1], "genesis.json"), span_of(text, strlen(text)), 0644, NULL));
    OK(file_write(in(argv[1], "other.json"), span_of(other_text, strlen(other_text)), 0644, NULL));
    static const char *const names[] = {"m-1", "m-2", "m-3"};
    for (size_t i = 0; i < 3; i++) {
        size_t size = enrolled_key_file(f, names[i], file);
        enrolled_store(f, in(argv[1], "fleet"), names[i], span_of(file, size));
    }
    size_t size = enrolled_key_file(f, "m-1", file);
    enrolled_store(f, in(argv[1], "damaged"), "m-1", span_of(file, size - 20));
    size = enrolled_key_file(other, "m-1", file);
    enrolled_store(f, in(argv[1], "foreign"), "m-1", span_of(file, size));
    free(text);
    free(other_text);
    fixture_free(f);
    fixture_free(other);
    return 0;
}
