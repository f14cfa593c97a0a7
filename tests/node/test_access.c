/* Which label may ask what: every request with every label, against the table of docs/security.md.
 */
#include "node/access.h"

#include "crypto/secret.h"
#include "tests/harness.h"
#include "tests/node/net.h"

#include <glob.h>
#include <stdio.h>
#include <string.h>

/* A row of the document's table: | `ask` | read | 2:ledger+metering | about |. False: no such row.
 */
static bool row_of(const char *line, char ask[32], char mode[8], char label[LABEL_TEXT_BYTES],
                   char about[128])
{
    return sscanf(line, "| `%31[a-z_]` | %7[a-z] | `%63[a-z0-9:+]` | %127[^|]", ask, mode, label,
                  about) == 4;
}

static void the_documents_table_is_the_codes(void **state)
{
    (void)state;
    char line[512], ask[32], mode[8], label[LABEL_TEXT_BYTES], text[LABEL_TEXT_BYTES], about[128];
    size_t rows = 0;
    FILE *f = fopen("docs/security.md", "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f) != NULL) {
        if (!row_of(line, ask, mode, label, about))
            continue;
        const struct access_rule *rule = access_rule_at(rows++);
        assert_non_null(rule);
        assert_string_equal(rule->ask, ask);
        assert_string_equal(mode, access_mode_name(rule->mode));
        label_text(text, rule->object);
        assert_string_equal(label, text);
        /* Shorter or longer, but it says what the refusal says. */
        assert_memory_equal(about, rule->about, strlen(rule->about));
        assert_ptr_equal(access_rule_of(ask), rule);
    }
    fclose(f);
    assert_true(rows > 5);
    assert_null(access_rule_at(rows));
    assert_null(access_rule_of("nothing"));
    assert_null(access_rule_of(""));
}

/* What each label may do, worked out by hand from the rows: the least level and the categories that
 * a reader needs, the highest level and the only categories that a writer may have, and the ones
 * that who changes something has. */
static void cell_by_cell(void **state)
{
    (void)state;
    static const struct {
        const char *ask;
        enum { READS, WRITES, CHANGES } mode;
        unsigned level;
        unsigned categories; /* operation 1, ledger 2, metering 4, membership 8 */
    } rows[] = {
        {"status", READS, 0, 0},    {"blocks", READS, 1, 2},   {"events", READS, 1, 1},
        {"why_stuck", READS, 1, 1}, {"note", WRITES, 1, 1},    {"step_down", CHANGES, 2, 1},
        {"block", READS, 2, 6},     {"tx", READS, 2, 6},       {"proof", READS, 2, 6},
        {"meter", READS, 2, 4},     {"readings", READS, 2, 4},
    };
    size_t cells = 0, allowed = 0;
    for (size_t r = 0; access_rule_at(r) != NULL; r++) {
        const struct access_rule *rule = access_rule_at(r);
        assert_string_equal(rule->ask, rows[r].ask);
        for (unsigned level = 0; level <= LABEL_LEVEL_MAX; level++)
            for (unsigned categories = 0; categories < 1u << LABEL_CATEGORIES; categories++) {
                const struct label subject = {(uint8_t)level, (uint8_t)categories};
                bool expected = true;
                if (rows[r].mode != WRITES)
                    expected &= level >= rows[r].level &&
                                (categories & rows[r].categories) == rows[r].categories;
                if (rows[r].mode != READS)
                    expected &= level <= rows[r].level && (categories & ~rows[r].categories) == 0;
                if (rows[r].mode == CHANGES)
                    assert_int_equal(expected,
                                     level == rows[r].level && categories == rows[r].categories);
                assert_int_equal(access_allowed(rule, subject), expected);
                cells++;
                allowed += expected;
            }
    }
    assert_int_equal(cells, sizeof rows / sizeof rows[0] * (LABEL_LEVEL_MAX + 1)
                                << LABEL_CATEGORIES);
    assert_true(allowed > 0 && allowed < cells);
}

/* In words: level 1 does not read what level 2 may; level 2 does not write where level 1 reads. */
static void no_read_up_no_write_down(void **state)
{
    (void)state;
    const struct label one = {1, LABEL_OPERATION | LABEL_LEDGER | LABEL_METERING};
    const struct label two = {2, one.categories}, plain = {1, LABEL_OPERATION};
    assert_false(access_allowed(access_rule_of("readings"), one));
    assert_true(access_allowed(access_rule_of("readings"), two));
    assert_true(access_allowed(access_rule_of("events"), two));
    assert_false(access_allowed(access_rule_of("note"), two));
    assert_true(access_allowed(access_rule_of("note"), plain));
    /* Who changes something sees it and lets nothing down: below, above and beside are refused. */
    const struct access_rule *change = access_rule_of("step_down");
    assert_false(access_allowed(change, (struct label){0, 0}));
    assert_false(access_allowed(change, plain));
    assert_false(access_allowed(change, two));
    assert_false(access_allowed(change, (struct label){3, LABEL_OPERATION}));
    assert_false(access_allowed(change, (struct label){2, LABEL_LEDGER}));
    assert_true(access_allowed(change, (struct label){2, LABEL_OPERATION}));
}

/* A live node, asked by every label: what the table allows is answered (or the asker is told what
 * is wrong with the question itself), everything else is refused with the reason, and written down.
 */
static void a_node_goes_by_the_table(void **state)
{
    (void)state;
    struct net *net = net_new(4, GATEWAY_LEADER, 11);
    uint64_t denied = 0;
    char question[128];
    for (unsigned level = 0; level <= LABEL_LEVEL_MAX; level++)
        for (unsigned categories = 0; categories < 1u << LABEL_CATEGORIES; categories++) {
            const struct label subject = {(uint8_t)level, (uint8_t)categories};
            net_ask_as(net, CREDENTIAL_OPERATOR, subject);
            for (size_t r = 0; access_rule_at(r) != NULL; r++) {
                const struct access_rule *rule = access_rule_at(r);
                enum ami_status status;
                snprintf(question, sizeof question, "{\"ask\":\"%s\",\"text\":\"all is well\"}",
                         rule->ask);
                json_t *answer = net_ask_status(net, 0, question, &status);
                assert_int_equal(status != AMI_NOT_ALLOWED, access_allowed(rule, subject));
                if (status == AMI_NOT_ALLOWED) {
                    const char *why = json_string_value(json_object_get(answer, "error"));
                    assert_non_null(strstr(why, rule->ask));
                    assert_non_null(strstr(why, rule->about));
                    assert_non_null(strstr(why, "alice"));
                    denied++;
                }
                json_decref(answer);
            }
        }
    /* The MDMS reads everything and writes nothing; whoever has shown nothing gets nothing. */
    for (int who = 0; who < 2; who++) {
        net_ask_as(net, who == 0 ? CREDENTIAL_MDMS : (enum credential_role)0, (struct label){0});
        for (size_t r = 0; access_rule_at(r) != NULL; r++) {
            const struct access_rule *rule = access_rule_at(r);
            enum ami_status status;
            snprintf(question, sizeof question, "{\"ask\":\"%s\"}", rule->ask);
            json_decref(net_ask_status(net, 0, question, &status));
            assert_int_equal(status == AMI_NOT_ALLOWED, who == 1 || rule->mode != ACCESS_READ);
            denied += status == AMI_NOT_ALLOWED;
        }
    }
    net_ask_as(net, CREDENTIAL_OPERATOR, (struct label){3, (1 << LABEL_CATEGORIES) - 1});
    json_t *answer = net_ask(net, 0, "status");
    assert_int_equal(
        json_integer_value(json_object_get(json_object_get(answer, "counters"), "requests_denied")),
        denied);
    json_decref(answer);
    /* The log names who asked what; of a flood of refusals it keeps a few. */
    answer = net_ask(net, 0, "events");
    const json_t *events = json_object_get(answer, "events");
    unsigned refusals = 0, notes = 0;
    for (size_t i = 0; i < json_array_size(events); i++) {
        const json_t *e = json_array_get(events, i);
        const char *name = json_string_value(json_object_get(e, "event"));
        const char *detail = json_string_value(json_object_get(e, "detail"));
        if (strcmp(name, "request_denied") == 0 && refusals++ == 0)
            assert_non_null(strstr(detail, "who=\"operator alice 0:\" ask=blocks needs=1:ledger"));
        notes += strcmp(name, "note") == 0 && strstr(detail, "text=\"all is well\"") != NULL;
    }
    assert_in_range(refusals, 1, 100);
    assert_int_equal(notes, 2 * 2); /* levels 0 and 1, with and without the category */
    assert_true(label_dominates(access_event_label("meter_enrolled"), access_event_label("term")));
    json_decref(answer);
    net_free(net);
}

static bool somebody_leads(struct net *net, void *arg)
{
    return net_leader(net) >= 0 && net_leader(net) != *(const int *)arg;
}

/* The leader hands over when it is asked to, and nobody else does; who asked is written down. */
static void a_leader_steps_down_when_it_is_told_to(void **state)
{
    (void)state;
    static const char question[] = "{\"ask\":\"step_down\"}";
    struct net *net = net_new(4, GATEWAY_LEADER, 14);
    const struct label label = {2, LABEL_OPERATION};
    int nobody = -1;
    enum ami_status status;
    assert_true(net_until(net, 20000, somebody_leads, &nobody));
    int leader = net_leader(net);
    const unsigned other = ((unsigned)leader + 1) % 4;
    net_ask_named(net, "bob", CREDENTIAL_OPERATOR, label);
    json_t *answer = net_ask_status(net, other, question, &status);
    assert_status(status, AMI_NOT_LEADER);
    assert_non_null(
        strstr(json_string_value(json_object_get(answer, "error")), "does not lead; dc-"));
    json_decref(answer);
    net_ask_as(net, CREDENTIAL_OPERATOR, (struct label){1, LABEL_OPERATION});
    json_decref(net_ask_status(net, (unsigned)leader, question, &status));
    assert_status(status, AMI_NOT_ALLOWED);
    assert_int_equal(net_leader(net), leader);
    net_ask_named(net, "bob", CREDENTIAL_OPERATOR, label);
    answer = net_ask_status(net, (unsigned)leader, question, &status);
    assert_ok(status);
    assert_true(json_integer_value(json_object_get(answer, "term")) > 0);
    json_decref(answer);
    assert_int_not_equal(net_leader(net), leader);
    assert_true(net_until(net, 5000, somebody_leads, &leader));
    const struct node_event *all[NODE_EVENTS_MAX + NODE_CAUSED_MAX];
    unsigned asked = 0, stepped = 0;
    const size_t count = node_events_after(net_node(net, (unsigned)leader), 0, all);
    for (size_t i = 0; i < count; i++) {
        asked += strcmp(all[i]->name, "step_down_asked") == 0 &&
                 strstr(all[i]->text, "who=\"operator bob 2:operation\" term=") != NULL;
        stepped += strcmp(all[i]->name, "stepped_down") == 0;
    }
    assert_int_equal(asked, 1);
    assert_int_equal(stepped, 1);
    net_free(net);
}

/* Whoever asks each leader that comes is refused as soon as one comes again. */
static void nobody_steps_down_all_the_time(void **state)
{
    (void)state;
    static const char question[] = "{\"ask\":\"step_down\"}";
    struct net *net = net_new(4, GATEWAY_LEADER, 15);
    int nobody = -1;
    unsigned asked = 0;
    net_ask_named(net, "bob", CREDENTIAL_OPERATOR, (struct label){2, LABEL_OPERATION});
    for (unsigned times = 0; times < 5; times++) {
        enum ami_status status;
        assert_true(net_until(net, 10000, somebody_leads, &nobody));
        const int leader = net_leader(net);
        json_decref(net_ask_status(net, (unsigned)leader, question, &status));
        if ((asked >> leader & 1) == 0) {
            assert_ok(status);
            asked |= 1u << leader;
            continue;
        }
        assert_status(status, AMI_AGAIN);
        assert_int_equal(net_leader(net), leader);
        net_free(net);
        return;
    }
    fail_msg("five leaders of four DCs stepped down");
}

/* What may stand in a note. */
static void notes_are_short_and_printable(void **state)
{
    (void)state;
    struct net *net = net_new(4, GATEWAY_LEADER, 12);
    net_ask_as(net, CREDENTIAL_OPERATOR, (struct label){1, LABEL_OPERATION});
    char longest[128], question[256];
    memset(longest, 'x', sizeof longest);
    for (size_t size = 79; size < 83; size++) {
        enum ami_status status;
        snprintf(question, sizeof question, "{\"ask\":\"note\",\"text\":\"%.*s\"}", (int)size,
                 longest);
        json_decref(net_ask_status(net, 0, question, &status));
        assert_status(status, size <= 80 ? AMI_OK : AMI_BAD_ARGUMENT);
    }
    static const char *const bad[] = {
        "{\"ask\":\"note\"}", "{\"ask\":\"note\",\"text\":\"\"}", "{\"ask\":\"note\",\"text\":7}",
        "{\"ask\":\"note\",\"text\":\"a\\nb\"}", "{\"ask\":\"note\",\"text\":\"say \\\"x\\\"\"}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        enum ami_status status;
        json_decref(net_ask_status(net, 0, bad[i], &status));
        assert_status(status, AMI_BAD_ARGUMENT);
    }
    net_free(net);
}

static unsigned kept(struct net *net, const char *name, const char *part)
{
    const struct node_event *all[NODE_EVENTS_MAX + NODE_CAUSED_MAX];
    const size_t count = node_events_after(net_node(net, 0), 0, all);
    unsigned found = 0;
    for (size_t i = 0; i < count; i++) {
        assert_true(i == 0 || all[i]->number > all[i - 1]->number);
        found += strcmp(all[i]->name, name) == 0 && strstr(all[i]->text, part) != NULL;
    }
    return found;
}

static enum ami_status ask(struct net *net, const char *question)
{
    enum ami_status status;
    json_decref(net_ask_status(net, 0, question, &status));
    return status;
}

/* Every event whose format names a meter or a device needs the label for it: the sources are read,
 * so that a new one is not forgotten. */
static void events_that_name_meters_stand_above(void **state)
{
    (void)state;
    glob_t sources;
    assert_int_equal(glob("node/*.c", 0, NULL, &sources), 0);
    static const char *const marks[] = {"meter=%s", "device=%s"};
    static char text[1 << 17];
    unsigned found = 0;
    for (size_t f = 0; f < sources.gl_pathc; f++) {
        FILE *in = fopen(sources.gl_pathv[f], "rb");
        assert_non_null(in);
        size_t size = fread(text, 1, sizeof text - 1, in);
        fclose(in);
        assert_true(size < sizeof text - 1);
        text[size] = '\0';
        for (size_t m = 0; m < 2; m++)
            for (char *at = text; (at = strstr(at, marks[m])) != NULL; at++) {
                /* Back over the format's first quote to the literal before it: the event's name. */
                char *format = at, *end, *name;
                while (*format != '"')
                    format--;
                for (end = format - 1; *end != '"';)
                    end--;
                for (name = end - 1; *name != '"';)
                    name--;
                char event[64] = "";
                assert_true((size_t)(end - name) <= sizeof event);
                memcpy(event, name + 1, (size_t)(end - name - 1));
                struct label label = access_event_label(event);
                if (label.level < 2 || (label.categories & LABEL_METERING) == 0)
                    fail_msg("%s: the event \"%s\" names meters to everybody", sources.gl_pathv[f],
                             event);
                found++;
            }
    }
    globfree(&sources);
    assert_true(found >= 3);
}

/* Whoever may write but notes, and is denied everything else, cannot make the log forget what
 * others did, nor what it did itself at last, nor keep others from being written down. */
static void the_lowest_operator_cannot_erase_the_audit(void **state)
{
    (void)state;
    static const char note[] = "{\"ask\":\"note\",\"text\":\"all is well\"}";
    struct net *net = net_new(4, GATEWAY_LEADER, 13);
    const struct label low = {0}, middle = {1, LABEL_OPERATION};
    net_ask_named(net, "bob", CREDENTIAL_OPERATOR, middle);
    assert_ok(ask(net, note));
    assert_status(ask(net, "{\"ask\":\"readings\"}"), AMI_NOT_ALLOWED);
    assert_int_equal(kept(net, "started", ""), 1);
    for (unsigned round = 0; round < 40; round++) {
        net_ask_named(net, "mallory", CREDENTIAL_OPERATOR, low);
        for (unsigned i = 0; i < 30; i++) {
            assert_ok(ask(net, note));
            assert_status(ask(net, "{\"ask\":\"readings\"}"), AMI_NOT_ALLOWED);
        }
        net_run_ms(net, NODE_OFTEN_US / 1000 + 1);
        /* The flood is no reason to leave out what another did in the midst of it. */
        if (round == 20) {
            for (unsigned i = 0; i < 30; i++)
                assert_ok(ask(net, note));
            net_ask_named(net, "carol", CREDENTIAL_OPERATOR, middle);
            assert_ok(ask(net, note));
            assert_status(ask(net, "{\"ask\":\"readings\"}"), AMI_NOT_ALLOWED);
        }
    }
    static const char *const others[] = {"operator bob ", "operator carol "};
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(kept(net, "note", others[i]), 1);
        assert_int_equal(kept(net, "request_denied", others[i]), 1);
    }
    assert_int_equal(kept(net, "started", ""), 1);
    assert_in_range(kept(net, "note", "mallory"), 100, NODE_CAUSED_MAX);
    assert_in_range(kept(net, "request_denied", "mallory"), 100, NODE_CAUSED_MAX);
    assert_true(kept(net, "note", "more like it were not shown") > 0);
    net_free(net);
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_documents_table_is_the_codes),
        cmocka_unit_test(cell_by_cell),
        cmocka_unit_test(no_read_up_no_write_down),
        cmocka_unit_test(a_node_goes_by_the_table),
        cmocka_unit_test(a_leader_steps_down_when_it_is_told_to),
        cmocka_unit_test(nobody_steps_down_all_the_time),
        cmocka_unit_test(notes_are_short_and_printable),
        cmocka_unit_test(events_that_name_meters_stand_above),
        cmocka_unit_test(the_lowest_operator_cannot_erase_the_audit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
