/* Command lines, configuration, log lines, progress: every mistake gets one clear sentence. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/config.h"
#include "net/logline.h"
#include "net/options.h"
#include "net/progress.h"
#include "tests/harness.h"

/* --- command lines --------------------------------------------------------------------------- */

static struct {
    const char *node;
    int64_t from, wait_ms;
    double speed;
    bool follow, json;
    struct text_list peers;
} v;

static int run_blocks(int argc, char **argv, void *ctx)
{
    (void)argv;
    *(int *)ctx = argc;
    return 7;
}

static const struct option_spec block_options[] = {
    {.name = "from",
     .kind = OPTION_INT,
     .value = &v.from,
     .min = 0,
     .max = 100,
     .argument = "H",
     .help = "first height"},
    {.name = "follow", .letter = 'f', .kind = OPTION_FLAG, .value = &v.follow, .help = "go on"},
    {.name = "wait",
     .kind = OPTION_DURATION,
     .value = &v.wait_ms,
     .min = 1000,
     .max = 60000,
     .argument = "TIME",
     .help = "patience"},
    {.name = "speed",
     .kind = OPTION_REAL,
     .value = &v.speed,
     .min = 1,
     .max = 9,
     .argument = "X",
     .help = "factor"},
    {.name = "peer", .kind = OPTION_LIST, .value = &v.peers, .argument = "URL", .help = "a peer"},
    {0}};

static const struct option_spec common_options[] = {
    {.name = "node",
     .letter = 'n',
     .kind = OPTION_TEXT,
     .value = &v.node,
     .argument = "URL",
     .help = "the node to ask",
     .required = true},
    {.name = "json", .kind = OPTION_FLAG, .value = &v.json, .help = "one JSON document"},
    {0}};

static const struct command_spec commands[] = {
    {.name = "blocks",
     .arguments = "[HASH...]",
     .arguments_max = 2,
     .summary = "Lists blocks.",
     .example = "tool blocks --node 127.0.0.1:7101\ntool blocks -n h:1 --from 5",
     .options = block_options,
     .run = run_blocks},
    {.name = "proof",
     .arguments = "TX",
     .arguments_min = 1,
     .arguments_max = 1,
     .summary = "Makes a proof.",
     .run = run_blocks},
    {0}};

static const struct program_spec program = {
    .name = "tool", .summary = "Looks.", .commands = commands, .common = common_options};

/* Splits at blanks, which is enough here; the words live until the next call. */
static enum ami_status parse(const char *line, FILE *out, const struct command_spec **command,
                             int *count, char ***arguments, struct why *why)
{
    static char copy[256];
    static char *argv[32];
    int argc = 0;
    memset(&v, 0, sizeof v);
    snprintf(copy, sizeof copy, "%s", line);
    for (char *word = strtok(copy, " "); word != NULL; word = strtok(NULL, " "))
        argv[argc++] = word;
    argv[argc] = NULL;
    return program_parse(&program, argc, argv, out, command, count, arguments, why);
}

static void options_reach_their_variables(void **state)
{
    (void)state;
    const struct command_spec *c = NULL;
    int count = 0;
    char **arguments = NULL;
    struct why why;
    assert_ok(
        parse("tool blocks aa --from=42 -f --wait 30s --speed 2.5 --peer x --peer y -n h:1 bb "
              "--json",
              NULL, &c, &count, &arguments, &why));
    assert_string_equal(c->name, "blocks");
    assert_int_equal(count, 2);
    assert_string_equal(arguments[0], "aa");
    assert_string_equal(arguments[1], "bb");
    assert_int_equal(v.from, 42);
    assert_int_equal(v.wait_ms, 30000);
    assert_true(v.speed > 2.49 && v.speed < 2.51);
    assert_true(v.follow && v.json);
    assert_int_equal(v.peers.count, 2);
    assert_string_equal(v.peers.items[1], "y");
    assert_string_equal(v.node, "h:1");
    assert_ok(parse("tool blocks -n h:1 -- --from", NULL, &c, &count, &arguments, &why));
    assert_int_equal(count, 1);
    assert_string_equal(arguments[0], "--from");
}

static void every_mistake_has_its_sentence(void **state)
{
    (void)state;
    static const struct {
        const char *line, *sentence;
    } cases[] = {
        {"tool", "a command is missing"},
        {"tool --json blocks", "a command is missing before the option \"--json\""},
        {"tool block", "there is no command \"block\""},
        {"tool blocks -n h --frm 3", "there is no option \"--frm\""},
        {"tool blocks -n h --frm=3", "there is no option \"--frm\""},
        {"tool blocks -n h -q", "there is no option -q"},
        {"tool blocks -n", "--node expects a value (URL)"},
        {"tool blocks -n h --from", "--from expects a value (H)"},
        {"tool blocks -n h --follow=1", "--follow takes no value"},
        {"tool blocks -n h --from x", "--from expects a whole number, not \"x\""},
        {"tool blocks -n h --from 101", "--from expects a number from 0 to 100, not 101"},
        {"tool blocks -n h --from -1", "--from expects a number from 0 to 100, not -1"},
        {"tool blocks -n h --from 1 --from 2", "--from is given twice"},
        {"tool blocks -n h --wait 30",
         "--wait expects a duration such as 250ms, 30s, 5m, 2h or 1d, not \"30\""},
        {"tool blocks -n h --wait 2h", "--wait expects a duration from 1s to 1m, not 2h"},
        {"tool blocks -n h --speed inf", "--speed expects a number, not \"inf\""},
        {"tool blocks -n h --speed 10", "--speed expects a number from 1 to 9, not 10"},
        {"tool blocks --from 1", "--node is missing"},
        {"tool blocks -n h a b c", "\"c\" is one argument too many"},
        {"tool proof -n h", "TX is missing"},
    };
    const struct command_spec *c;
    int count;
    char **arguments;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct why why = {0};
        assert_status(parse(cases[i].line, NULL, &c, &count, &arguments, &why), AMI_BAD_ARGUMENT);
        assert_string_equal(why.text, cases[i].sentence);
    }
}

/* What `print` writes to a FILE, as text. The caller frees it. */
static char *printed(const char *line, enum ami_status *status)
{
    char *text = NULL;
    size_t size = 0;
    const struct command_spec *c;
    int count;
    char **arguments;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    *status = parse(line, out, &c, &count, &arguments, NULL);
    fclose(out);
    return text;
}

static void help_tells_everything(void **state)
{
    (void)state;
    enum ami_status status;
    char *text = printed("tool --help", &status);
    assert_status(status, AMI_NOT_FOUND);
    assert_non_null(strstr(text, "  blocks           Lists blocks.\n"));
    free(text);
    text = printed("tool blocks --help", &status);
    assert_status(status, AMI_NOT_FOUND);
    assert_non_null(strstr(text, "Usage: tool blocks [OPTIONS] [HASH...]\n"));
    assert_non_null(strstr(text, "-n, --node URL"));
    assert_non_null(strstr(text, "the node to ask (required)"));
    assert_non_null(strstr(text, "--peer URL"));
    assert_non_null(strstr(text, "  tool blocks -n h:1 --from 5\n"));
    free(text);
    text = printed("tool --version", &status);
    assert_status(status, AMI_NOT_FOUND);
    assert_string_equal(text, "tool " AMI_VERSION "\n");
    free(text);
}

static void main_returns_what_the_command_says_or_two(void **state)
{
    (void)state;
    int count = -1;
    char *good[] = {(char[]){"tool"}, (char[]){"blocks"}, (char[]){"-nx"}, (char[]){"a"}, NULL};
    assert_int_equal(program_main(&program, 4, good, &count), 7);
    assert_int_equal(count, 1);
    char *bad[] = {(char[]){"tool"}, (char[]){"blocks"}, (char[]){"--nonsense"}, NULL};
    assert_int_equal(program_main(&program, 3, bad, &count), EXIT_STATUS_USAGE);
    assert_int_equal(exit_status_of(AMI_UNREACHABLE), 3);
    assert_int_equal(exit_status_of(AMI_TIMEOUT), 3);
    assert_int_equal(exit_status_of(AMI_BAD_PROOF), 1);
    assert_int_equal(exit_status_of(AMI_OK), 0);
    struct why why = {"a \"quoted\" reason"};
    assert_int_equal(program_fail("tool", false, AMI_UNREACHABLE, &why), 3);
    assert_int_equal(program_fail("tool", true, AMI_IO, &why), 1);
}

static void numbers_and_durations_are_exact(void **state)
{
    (void)state;
    int64_t n = -5;
    assert_ok(duration_parse("250ms", &n));
    assert_int_equal(n, 250);
    assert_ok(duration_parse("2h", &n));
    assert_int_equal(n, 7200000);
    assert_ok(duration_parse("0", &n));
    assert_int_equal(n, 0);
    static const char *const bad[] = {"", "s", "5", "-5s", "5 s", "5sec", "9223372036854775807d"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_status(duration_parse(bad[i], &n), AMI_BAD_ARGUMENT);
    assert_ok(integer_parse("-9223372036854775808", &n));
    assert_true(n == INT64_MIN);
    static const char *const bad_int[] = {"", "-", " 1", "1 ", "+1", "0x10", "9223372036854775808"};
    for (size_t i = 0; i < sizeof bad_int / sizeof bad_int[0]; i++)
        assert_status(integer_parse(bad_int[i], &n), AMI_BAD_ARGUMENT);
}

/* --- configuration --------------------------------------------------------------------------- */

static struct {
    char data[16];
    int64_t port, wait_ms;
    double rate;
    bool fast;
    char peers[64];
} cfg;

static enum ami_status add_peer(void *ctx, const char *value, struct why *why)
{
    char *peers = (char *)ctx;
    if (strchr(value, ':') == NULL)
        return why_set(why, AMI_BAD_ARGUMENT, "\"%s\" has no port", value);
    strncat(peers, value, 20);
    strncat(peers, ",", 2);
    return AMI_OK;
}

static const struct config_key keys[] = {
    {.section = "node",
     .key = "data",
     .kind = CONFIG_TEXT,
     .value = cfg.data,
     .size = sizeof cfg.data,
     .required = true},
    {.section = "node",
     .key = "port",
     .kind = CONFIG_INT,
     .value = &cfg.port,
     .min = 1,
     .max = 65535},
    {.section = "node", .key = "fast", .kind = CONFIG_BOOL, .value = &cfg.fast},
    {.section = "timing",
     .key = "wait",
     .kind = CONFIG_DURATION,
     .value = &cfg.wait_ms,
     .min = 10,
     .max = 60000},
    {.section = "timing", .key = "rate", .kind = CONFIG_REAL, .value = &cfg.rate},
    {.section = "peers", .key = "peer", .kind = CONFIG_EACH, .value = cfg.peers, .each = add_peer},
    {0}};

static void a_configuration_reaches_its_variables(void **state)
{
    (void)state;
    struct why why = {0};
    memset(&cfg, 0, sizeof cfg);
    assert_ok(config_parse("f.ini",
                           "# a comment\n"
                           "[node]\n"
                           "data = /var/lib/x  ; where\n"
                           "  fast=Yes\n"
                           "port = 7101\n"
                           "\n"
                           "[timing]\n"
                           "wait: 30s\n"
                           "rate = 0.5\n"
                           "[peers]\n"
                           "peer = a:1\n"
                           "peer = b:2",
                           keys, &why));
    assert_string_equal(cfg.data, "/var/lib/x");
    assert_true(cfg.fast);
    assert_int_equal(cfg.port, 7101);
    assert_int_equal(cfg.wait_ms, 30000);
    assert_true(cfg.rate > 0.49 && cfg.rate < 0.51);
    assert_string_equal(cfg.peers, "a:1,b:2,");
}

static void every_wrong_line_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *text, *sentence;
    } cases[] = {
        {"[node]\ndata = x\ndatum = y\n", "f.ini:3: section [node] has no key \"datum\""},
        {"[nod]\ndata = x\n", "f.ini:2: there is no section [nod]"},
        {"data = x\n", "f.ini:1: \"data\" stands before any [section]"},
        {"[node]\ndata = x\ndata = y\n", "f.ini:3: data is given a second time"},
        {"[node]\nport = 0\n", "f.ini:2: port expects a value from 1 to 65535, not \"0\""},
        {"[node]\nport = http\n", "f.ini:2: port expects a whole number, not \"http\""},
        {"[node]\nfast = maybe\n", "f.ini:2: fast expects yes or no, not \"maybe\""},
        {"[node]\ndata = 0123456789abcdef\n",
         "f.ini:2: data expects at most 15 bytes, not \"0123456789abcdef\""},
        {"[node]\ndata =\n", "f.ini:2: data expects a value, not \"\""},
        {"[timing]\n\nwait = 30\n",
         "f.ini:3: wait expects a duration such as 250ms, 30s or 5m, not \"30\""},
        {"[timing]\nrate = nan\n", "f.ini:2: rate expects a number, not \"nan\""},
        {"[peers]\npeer = a:1\npeer = b\n", "f.ini:3: peer: \"b\" has no port"},
        {"[node]\ndata = x\nnonsense\n[bad]\nx = y\n",
         "f.ini:3: expected \"[section]\", \"key = value\" or a comment"},
        {"[node\ndata = x\n", "f.ini:1: expected \"[section]\", \"key = value\" or a comment"},
        {"[node]\nport = 1\n", "f.ini: section [node] lacks the key \"data\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct why why = {0};
        memset(&cfg, 0, sizeof cfg);
        assert_int_not_equal(config_parse("f.ini", cases[i].text, keys, &why), AMI_OK);
        assert_string_equal(why.text, cases[i].sentence);
    }
    char longest[300];
    struct why why = {0};
    snprintf(longest, sizeof longest, "[node]\ndata = %0250d\n", 1);
    assert_status(config_parse("f.ini", longest, keys, &why), AMI_TOO_LARGE);
    assert_string_equal(why.text, "f.ini:2: a line may have 198 bytes at most");
    assert_status(config_read("/nonexistent.ini", keys, &why), AMI_NOT_FOUND);
    assert_non_null(strstr(why.text, "/nonexistent.ini"));
}

/* --- log lines and progress ------------------------------------------------------------------ */

struct seen {
    uint64_t first, last;
    int count;
    char detail[LOG_DETAIL_BYTES_MAX];
};

static void see(void *ctx, const struct log_event *event)
{
    struct seen *s = (struct seen *)ctx;
    if (s->count++ == 0)
        s->first = event->number;
    s->last = event->number;
    snprintf(s->detail, sizeof s->detail, "%s", event->detail);
}

static void a_log_line_is_one_line(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    struct log_sink *sink = log_open(out, ENV_LOG_INFO, LOG_RING_EVENTS);
    assert_non_null(sink);
    log_write(sink, 1795810501123, ENV_LOG_INFO, "elected", "term=7 leader=dc-2");
    log_write(sink, 1795810501124, ENV_LOG_DEBUG, "noise", "");
    log_write(sink, -1, ENV_LOG_ERROR, "forged\n", "a=1\nb=2\033[2J");
    fflush(out);
    assert_string_equal(text, "2026-11-27T20:15:01.123Z INFO elected term=7 leader=dc-2\n"
                              "1969-12-31T23:59:59.999Z ERROR forged? a=1?b=2?[2J\n");
    struct seen s = {0};
    assert_int_equal(log_recent(sink, 0, 100, see, &s), 2);
    assert_int_equal(s.count, 2);
    log_close(sink);
    fclose(out);
    free(text);
    enum env_log_level level = ENV_LOG_ERROR;
    assert_ok(log_level_parse("Warn", &level));
    assert_int_equal(level, ENV_LOG_WARN);
    assert_status(log_level_parse("loud", &level), AMI_BAD_ARGUMENT);
}

static void the_ring_keeps_the_last_events(void **state)
{
    (void)state;
    struct log_sink *sink = log_open(NULL, ENV_LOG_ERROR, 10);
    struct seen s = {0};
    assert_int_equal(log_recent(sink, 0, 100, see, &s), 0);
    for (int i = 1; i <= 25; i++)
        log_say(sink, ENV_LOG_INFO, "event", "n=%d", i);
    assert_int_equal(log_recent(sink, 0, 100, see, &s), 25);
    assert_int_equal(s.count, 10);
    assert_int_equal(s.first, 16);
    assert_string_equal(s.detail, "n=25");
    s = (struct seen){0};
    log_recent(sink, 20, 3, see, &s);
    assert_int_equal(s.first, 21);
    assert_int_equal(s.last, 23);
    s = (struct seen){0};
    assert_int_equal(log_recent(sink, 25, 3, see, &s), 25);
    assert_int_equal(s.count, 0);
    log_close(sink);
}

static void progress_is_plain_lines_off_a_terminal(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size = 0;
    FILE *out = tmpfile();
    assert_non_null(out);
    struct progress p;
    progress_begin(&p, out, false, "audit", "blocks", 1000);
    for (uint64_t i = 0; i <= 1000; i++)
        progress_update(&p, i, NULL);
    progress_end(&p, "all good");
    rewind(out);
    size_t capacity = 0;
    int lines = 0;
    while (getline(&text, &capacity, out) > 0) {
        lines++;
        assert_null(strchr(text, '\r'));
        assert_memory_equal(text, "audit ", 6);
        size = strlen(text);
    }
    assert_true(size > 0);
    assert_int_equal(lines, 10); /* nine tenths and the end */
    assert_non_null(strstr(text, "100 %  1000 of 1000 blocks"));
    assert_non_null(strstr(text, ", all good\n"));
    progress_begin(&p, out, true, "audit", "blocks", 10);
    long at = ftell(out);
    progress_update(&p, 5, NULL);
    progress_end(&p, NULL);
    assert_int_equal(ftell(out), at);
    free(text);
    fclose(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_reach_their_variables),
        cmocka_unit_test(every_mistake_has_its_sentence),
        cmocka_unit_test(help_tells_everything),
        cmocka_unit_test(main_returns_what_the_command_says_or_two),
        cmocka_unit_test(numbers_and_durations_are_exact),
        cmocka_unit_test(a_configuration_reaches_its_variables),
        cmocka_unit_test(every_wrong_line_is_named),
        cmocka_unit_test(a_log_line_is_one_line),
        cmocka_unit_test(the_ring_keeps_the_last_events),
        cmocka_unit_test(progress_is_plain_lines_off_a_terminal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
