/* network.json and genesis.json: what is printed is read, what is anything else is refused with a
 * sentence that names the place. */
#include "tests/harness.h"

#include "tests/ledger/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct fixture *f;
static char why[256];

static int start(void **state)
{
    (void)state;
    f = fixture_new(4, 5);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    fixture_free(f);
    return 0;
}

static struct span span_text(const char *text)
{
    return span_of(text, strlen(text));
}

/* The text with the first `from` replaced. */
static char *changed(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    assert_non_null(at);
    size_t head = (size_t)(at - text);
    char *out = malloc(strlen(text) + strlen(to) + 1);
    assert_non_null(out);
    memcpy(out, text, head);
    strcpy(out + head, to);
    strcat(out, at + strlen(from));
    return out;
}

/* Parses the genesis file with one change. */
static void refused(const char *from, const char *to, enum ami_status expected,
                    const char *sentence)
{
    static struct genesis g;
    char *text = changed(f->genesis_text, from, to);
    why[0] = '\0';
    assert_status(genesis_parse(&g, span_text(text), false, why, sizeof why), expected);
    if (strstr(why, sentence) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", why, sentence);
    /* Nobody needs to want the sentence. */
    assert_status(genesis_parse(&g, span_text(text), false, NULL, 0), expected);
    free(text);
}

static void what_is_printed_is_read(void **state)
{
    (void)state;
    const struct genesis *g = &f->genesis;
    static struct genesis again;
    char *text = genesis_print(g);
    assert_non_null(text);
    assert_string_equal(text, f->genesis_text);
    assert_ok(genesis_parse(&again, span_text(text), false, why, sizeof why));
    assert_memory_equal(&again.members.chain, &g->members.chain, SM3_BYTES);
    assert_memory_equal(&again.members.hash, &g->members.hash, SM3_BYTES);
    assert_int_equal(again.members.count, 4);
    assert_int_equal(again.members.epoch, 1);
    assert_int_equal(again.created_ms, g->created_ms);
    assert_memory_equal(&again.parameters, &g->parameters, sizeof again.parameters);
    assert_memory_equal(&again.network.id, &g->network.id, SM3_BYTES);
    for (unsigned i = 0; i < 4; i++) {
        assert_memory_equal(&again.address[i], &g->address[i], sizeof again.address[i]);
        assert_true(point_equal(&again.members.member[i].key.p, &f->dc[i].key.public_key.p));
        assert_memory_equal(again.members.member[i].agree_part, f->dc[i].agree_part, 33);
    }
    /* The chain id is the file's hash. */
    static const char label[] = "amiledger genesis v1";
    const struct span parts[] = {span_of(label, sizeof label), span_text(text)};
    sm3_digest id = sm3_parts(parts, 2);
    assert_memory_equal(&id, &g->members.chain, SM3_BYTES);
    free(text);
}

static void every_parameter_has_bounds(void **state)
{
    (void)state;
    static const struct {
        const char *name, *good, *low, *high;
    } p[] = {
        {"election_timeout_ms", "600", "9", "3600001"},
        {"progress_timeout_ms", "3000", "19", "3600001"},
        {"heartbeat_ms", "100", "0", "600001"},
        {"block_age_ms", "50", "-1", "3600001"},
        {"block_txs_max", "2048", "0", "4097"},
        {"block_bytes_max", "1048576", "9279", "2097153"},
        {"timestamp_back_ms", "30000", "0", "86400001"},
        {"timestamp_ahead_ms", "30000", "0", "86400001"},
        {"session_messages_max", "100000", "0", "4294967296"},
        {"session_seconds_max", "86400", "0", "4294967296"},
    };
    for (size_t i = 0; i < sizeof p / sizeof p[0]; i++) {
        char from[80], to[80];
        snprintf(from, sizeof from, "\"%s\": %s", p[i].name, p[i].good);
        snprintf(to, sizeof to, "\"%s\": %s", p[i].name, p[i].low);
        refused(from, to, AMI_BAD_ARGUMENT, p[i].name);
        snprintf(to, sizeof to, "\"%s\": %s", p[i].name, p[i].high);
        refused(from, to, AMI_BAD_ARGUMENT, p[i].name);
        snprintf(to, sizeof to, "\"%s\": %s.0", p[i].name, p[i].good);
        refused(from, to, AMI_BAD_ENCODING, p[i].name);
        snprintf(to, sizeof to, "\"%s\": \"%s\"", p[i].name, p[i].good);
        refused(from, to, AMI_BAD_ENCODING, p[i].name);
        snprintf(to, sizeof to, "\"%sx\": %s", p[i].name, p[i].good);
        refused(from, to, AMI_BAD_ENCODING, "unknown key");
    }
    refused("\"heartbeat_ms\": 100", "\"heartbeat_ms\": 301", AMI_BAD_ARGUMENT, "half");
    refused("\"gateway\": \"leader\"", "\"gateway\": \"any\"", AMI_BAD_ARGUMENT, "\"any\"");
    refused("\"gateway\": \"leader\"", "\"gateway\": 1", AMI_BAD_ENCODING, "gateway");
}

static void every_kind_of_damage_has_its_sentence(void **state)
{
    (void)state;
    refused("amiledger-genesis", "amiledger-ledger", AMI_BAD_ENCODING, "amiledger-ledger");
    refused("\"version\": 1", "\"version\": 2", AMI_BAD_VERSION, "version is 2");
    refused("\"created_ms\": 17", "\"created_ms\": -17", AMI_BAD_ARGUMENT, "created_ms");
    refused("\"created_ms\": 1700000000000,\n  ", "", AMI_BAD_ENCODING, "lacks the key");
    refused("  \"created_ms\"", "  \"colour\": 1,\n  \"created_ms\"", AMI_BAD_ENCODING, "colour");
    refused("  \"created_ms\"", "  \"version\": 1,\n  \"created_ms\"", AMI_BAD_ENCODING,
            "duplicate");
    refused("{", "", AMI_BAD_ENCODING, "line 2");
    refused("}\n  ]\n}\n", "}\n  ]\n", AMI_BAD_ENCODING, "JSON");
    refused("  ]\n}\n", "  ]\n}\n}", AMI_BAD_ENCODING, "JSON");
    refused("\"name\": \"fixture\"", "\"name\": \"fixt re\"", AMI_BAD_ARGUMENT, "network.name");
    refused("\"name\": \"fixture\"", "\"name\": \"fixtury\"", AMI_DAMAGED, "network's id");
    refused("\"scheme\": 2", "\"scheme\": 1", AMI_DAMAGED, "network's id");
    refused("\"scheme\": 2", "\"scheme\": 256", AMI_BAD_ARGUMENT, "network.scheme");
    refused("\"p_pub\": \"0", "\"p_pub\": \"1", AMI_BAD_CRYPTO, "network.p_pub");
    refused("\"p_pub\": \"0", "\"p_pub\": \"", AMI_BAD_ENCODING, "network.p_pub");
    refused("\"id\": \"dc-2\"", "\"id\": \"dc-1\"", AMI_BAD_ARGUMENT, "\"dc-1\" is listed twice");
    refused("\"w_sign\": \"0", "\"w_sign\": \"1", AMI_BAD_CRYPTO, "members[0].w_sign");
    refused("\"id\": \"dc-2\"", "\"id\": \"\"", AMI_BAD_ARGUMENT, "members[1].id");
    refused("\"id\": \"dc-2\"", "\"id\": 2", AMI_BAD_ENCODING, "members[1].id");
    refused("\"key_epoch\": 1", "\"key_epoch\": 0", AMI_BAD_ARGUMENT, "members[0].key_epoch");
    refused("7012\"", "0\"", AMI_BAD_ARGUMENT, "members[1].meter");
    refused("7012\"", "65536\"", AMI_BAD_ARGUMENT, "members[1].meter");
    refused("7012\"", "\"", AMI_BAD_ARGUMENT, "members[1].meter");
    refused("tcp://127.0.0.1:7013", "udp://127.0.0.1:7013", AMI_BAD_ARGUMENT, "members[1].admin");
    refused("tcp://127.0.0.1:7013", "tcp://:7013", AMI_BAD_ARGUMENT, "members[1].admin");
    refused("tcp://127.0.0.1:7011", "tcp://127.0.0.1:7001", AMI_BAD_ARGUMENT, "7001");
    refused("\"agree_part\": \"", "\"agree_part\": \"0", AMI_BAD_ENCODING, "members[0].agree_part");
}

/* A file that says the same in another form would be another chain. */
static void there_is_one_form(void **state)
{
    (void)state;
    static struct genesis g;
    refused("\"version\": 1", "\"version\":  1", AMI_BAD_ENCODING, "line 3");
    refused("\"version\": 1,\n", "\"version\": 1,\r\n", AMI_BAD_ENCODING, "line 3");
    refused("  ]\n}\n", "  ]\n}", AMI_BAD_ENCODING, "one form");
    refused("  ]\n}\n", "  ]\n}\n\n", AMI_BAD_ENCODING, "one form");
    const char *hex = strstr(f->genesis_text, "\"agree_part\"");
    char *upper = strdup(f->genesis_text), *c = upper + (hex - f->genesis_text) + 15;
    for (; *c != '"'; c++)
        if (*c >= 'a' && *c <= 'f')
            *c = (char)(*c - 'a' + 'A');
    assert_status(genesis_parse(&g, span_text(upper), false, why, sizeof why), AMI_BAD_ENCODING);
    assert_non_null(strstr(why, "one form"));
    free(upper);
}

/* Whatever single byte is changed: it is refused, or it is another chain. */
static void any_byte_counts(void **state)
{
    (void)state;
    static struct genesis g;
    char *text = strdup(f->genesis_text);
    size_t size = strlen(text);
    for (size_t i = 0; i < size; i += 7) {
        char old = text[i];
        text[i] = (char)(old ^ 1);
        if (genesis_parse(&g, span_of(text, size), false, why, sizeof why) == AMI_OK)
            assert_memory_not_equal(&g.members.chain, &f->genesis.members.chain, SM3_BYTES);
        text[i] = old;
    }
    for (size_t cut = 0; cut < size; cut += 41)
        assert_int_not_equal(genesis_parse(&g, span_of(text, cut), false, why, sizeof why), AMI_OK);
    free(text);
}

static void how_many_members(void **state)
{
    (void)state;
    static struct genesis g;
    for (unsigned n = 1; n <= 7; n++) {
        struct fixture *other = fixture_new(n, n);
        enum ami_status expected = n < AMI_MEMBERS_MIN ? AMI_BAD_ARGUMENT : AMI_OK;
        assert_status(genesis_parse(&g, span_text(other->genesis_text), false, why, sizeof why),
                      expected);
        assert_ok(genesis_parse(&g, span_text(other->genesis_text), true, why, sizeof why));
        fixture_free(other);
    }
    struct fixture *largest = fixture_new(AMI_MEMBERS_MAX, 3);
    assert_ok(genesis_parse(&g, span_text(largest->genesis_text), false, why, sizeof why));
    fixture_free(largest);
}

static void network_files(void **state)
{
    (void)state;
    struct network net;
    char *text = network_print(&f->genesis.network);
    assert_non_null(text);
    assert_ok(network_parse(&net, span_text(text), why, sizeof why));
    assert_memory_equal(&net.id, &f->genesis.network.id, SM3_BYTES);
    assert_memory_equal(&net.sign_z, &f->genesis.network.sign_z, SM3_BYTES);
    assert_true(point_equal(&net.readings, &f->genesis.network.readings));
    size_t size = strlen(text);
    for (size_t i = 0; i < size; i++) {
        char old = text[i];
        text[i] = (char)(old ^ 2);
        assert_int_not_equal(network_parse(&net, span_of(text, size), why, sizeof why), AMI_OK);
        text[i] = old;
        assert_int_not_equal(network_parse(&net, span_of(text, i), why, sizeof why), AMI_OK);
    }
    assert_status(network_parse(&net, span_text(f->genesis_text), why, sizeof why),
                  AMI_BAD_ENCODING);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_printed_is_read),
        cmocka_unit_test(every_parameter_has_bounds),
        cmocka_unit_test(every_kind_of_damage_has_its_sentence),
        cmocka_unit_test(there_is_one_form),
        cmocka_unit_test(any_byte_counts),
        cmocka_unit_test(how_many_members),
        cmocka_unit_test(network_files),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
