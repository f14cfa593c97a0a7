/* network.json and genesis.json. A file that is accepted prints again to the same bytes; one that
 * is not gets a sentence. */
#include "tests/fuzz/fuzz.h"

#include "base/check.h"
#include "tests/ledger/fixture.h"

#include <stdlib.h>
#include <string.h>

static struct fixture *f;
static char *network;

static void start_once(void)
{
    if (f != NULL)
        return;
    f = fixture_new(4, 3);
    network = network_print(&f->genesis.network);
    AMI_CHECK(network != NULL);
}

static void check_same(char *printed, struct span in)
{
    AMI_CHECK(printed != NULL && span_equal(span_of(printed, strlen(printed)), in));
    free(printed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct genesis g;
    struct network net;
    char why[300];
    struct span in = span_of(data, size);
    start_once();
    why[0] = '\0';
    if (network_parse(&net, in, why, sizeof why) == AMI_OK)
        check_same(network_print(&net), in);
    else
        AMI_CHECK(why[0] != '\0' && memchr(why, '\0', sizeof why) != NULL);
    why[0] = '\0';
    if (genesis_parse(&g, in, true, why, sizeof why) == AMI_OK) {
        check_same(genesis_print(&g), in);
        struct registry *r = registry_new(&g);
        AMI_CHECK(r != NULL && registry_size(r) == 1u + g.members.count);
        registry_free(r);
    } else {
        AMI_CHECK(why[0] != '\0' && memchr(why, '\0', sizeof why) != NULL);
    }
    return 0;
}

size_t fuzz_seed(uint64_t index, uint8_t *out, size_t capacity)
{
    start_once();
    const char *text = index % 4 == 0 ? network : f->genesis_text;
    size_t size = strlen(text);
    if (size > capacity)
        return 0;
    memcpy(out, text, size);
    return size;
}
