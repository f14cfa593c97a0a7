/* node/cli_stuck.c - dc-cli why-stuck: what commits wait for, from whom, since when, in sentences.
 *
 * In: the documents of node/stuck.c, one per DC that answered. Out: a line per cause, or the
 * documents; exit status 0 (nothing is stuck), 1 (something is), 3 (no DC answered).
 */
#include "node/cli.h"

#include <stdio.h>
#include <string.h>

static long long integer(const json_t *o, const char *key)
{
    return (long long)json_integer_value(json_object_get(o, key));
}

static const char *text(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s == NULL ? "?" : s;
}

static void print_time(long long ms)
{
    long long s = ms / 1000;
    if (ms < 60000)
        printf("%.1f s", (double)ms / 1000.0);
    else if (s < 7200)
        printf("%lld min %lld s", s / 60, s % 60);
    else
        printf("%lld h %lld min", s / 3600, s / 60 % 60);
}

static void print_names(const json_t *list)
{
    size_t i;
    json_t *v;
    json_array_foreach(list, i, v) printf("%s%s", i == 0 ? "" : ", ", json_string_value(v));
}

/* "dc3 (no link for 25.0 s), dc4 (silent for 12.0 s)" */
static void print_members(const json_t *list)
{
    size_t i;
    json_t *m;
    json_array_foreach(list, i, m)
    {
        const json_t *silent = json_object_get(m, "silent_ms");
        bool connected = json_is_true(json_object_get(m, "connected"));
        printf("%s%s (", i == 0 ? "" : ", ", text(m, "dc"));
        if (connected && json_is_null(silent)) {
            printf("connected, but was never heard");
        } else {
            printf(connected ? "last heard " : "no link for ");
            print_time(connected ? integer(m, "silent_ms") : integer(m, "link_for_ms"));
            printf(connected ? " ago" : "");
        }
        putchar(')');
    }
}

static void print_votes(const json_t *c, const char *kind)
{
    const json_t *have = json_object_get(c, "have");
    printf("%zu of %lld %s are here (", json_array_size(have), integer(c, "needed"), kind);
    print_names(have);
    printf("); missing: ");
    print_members(json_object_get(c, "missing"));
}

static void print_no_leader(const json_t *c)
{
    const char *stage = text(c, "stage");
    printf("no DC leads for ");
    print_time(integer(c, "for_ms"));
    if (json_object_get(c, "last_leader") != NULL) {
        printf("; %s led term %lld", text(c, "last_leader"), integer(c, "term"));
        if (json_is_integer(json_object_get(c, "last_leader_silent_ms"))) {
            printf(" and was last heard ");
            print_time(integer(c, "last_leader_silent_ms"));
            printf(" ago");
        }
    }
    printf("; ");
    if (strcmp(stage, "waits") == 0) {
        printf("this DC waits for its turn to ask for votes, or for another's question");
        return;
    }
    printf("this DC asks for %s of term %lld: ",
           strcmp(stage, "grants") == 0 ? "grants" : "pre-votes", integer(c, "term"));
    print_votes(c, strcmp(stage, "grants") == 0 ? "grants" : "pre-votes");
}

static void print_few_contacts(const json_t *c)
{
    printf("only %lld of the %lld DCs that a commit takes are in reach, this one included, for ",
           integer(c, "reachable"), integer(c, "needed"));
    print_time(integer(c, "for_ms"));
    printf("; out of reach: ");
    print_members(json_object_get(c, "silent"));
}

/* What an open block waits for when it is not votes. */
static const char *block_waits_for(const char *stage)
{
    static const char *const stages[][2] = {
        {"recover", "what an earlier leader may have committed, which has to be proposed first"},
        {"build", "being put together"},
        {"own_write", "this DC's own vote, which is on its way to the disk"},
        {"check", "this DC's check of it"},
        {"voted", "the leader, which has this DC's vote"},
        {"store", "this DC's disk; it is certified already"}};
    for (size_t i = 0; i < sizeof stages / sizeof stages[0]; i++)
        if (strcmp(stage, stages[i][0]) == 0)
            return stages[i][1];
    return "something that this program does not know: it is older than the DC";
}

static void print_block_open(const json_t *c)
{
    const char *stage = text(c, "stage");
    printf("block %lld of leader %s is open for ", integer(c, "height"), text(c, "leader"));
    print_time(integer(c, "for_ms"));
    printf(": ");
    if (strcmp(stage, "prepare_votes") == 0)
        print_votes(c, "prepare votes");
    else if (strcmp(stage, "commit_votes") == 0)
        print_votes(c, "commit votes");
    else
        printf("it waits for %s", block_waits_for(stage));
}

static void print_overdue(const json_t *c)
{
    printf("%lld of %lld waiting transactions should be on the ledger by now; the oldest, of "
           "gateway %s, waits for ",
           integer(c, "overdue"), integer(c, "waiting"), text(c, "oldest_gateway"));
    print_time(integer(c, "oldest_ms"));
}

static void print_disk(const json_t *c, const char *what)
{
    printf("%s for ", what);
    print_time(integer(c, "for_ms"));
}

static void print_behind(const json_t *c)
{
    printf("this DC is behind: at height %lld of %lld", integer(c, "height"),
           integer(c, "known_height"));
    if (json_is_string(json_object_get(c, "from")))
        printf(", it fetches blocks from %s", text(c, "from"));
    printf("; the last one came ");
    print_time(integer(c, "for_ms"));
    printf(" ago");
}

static void print_cause(const json_t *c)
{
    const char *name = text(c, "cause");
    printf("  ");
    if (strcmp(name, "no_leader") == 0)
        print_no_leader(c);
    else if (strcmp(name, "few_contacts") == 0)
        print_few_contacts(c);
    else if (strcmp(name, "block_open") == 0)
        print_block_open(c);
    else if (strcmp(name, "transactions_overdue") == 0)
        print_overdue(c);
    else if (strcmp(name, "disk_full") == 0)
        print_disk(c, "this DC's ledger has no room for what comes next: free space on its file "
                      "system, or start it with a greater --map-bytes; it has been full");
    else if (strcmp(name, "disk_failing") == 0)
        print_disk(c, "this DC's disk refuses writes");
    else if (strcmp(name, "disk_slow") == 0)
        print_disk(c, "a write of this DC hangs");
    else if (strcmp(name, "behind") == 0)
        print_behind(c);
    else if (strcmp(name, "may_not_sign") == 0)
        printf("this DC signs nothing, because its vote record is missing or old; it only follows "
               "until the MDMS has rotated its key");
    else
        printf("%s: this program is older than the DC and has no words for it", name);
    bool usual = !json_is_true(json_object_get(c, "stuck")) && strcmp(name, "may_not_sign") != 0;
    printf("%s\n", usual ? " (which is not long yet)" : "");
}

static void print_dc(const json_t *dc)
{
    const json_t *causes = json_object_get(dc, "causes");
    if (!cli_reached(dc)) {
        printf("%s cannot be asked: %s\n", text(dc, "dc"), text(dc, "error"));
        return;
    }
    printf("%s, height %lld, term %lld, leader %s, %lld transactions wait: %s\n", text(dc, "dc"),
           integer(dc, "height"), integer(dc, "term"), text(dc, "leader"),
           integer(dc, "waiting_transactions"),
           json_is_true(json_object_get(dc, "stuck")) ? "stuck"
           : json_array_size(causes) > 0              ? "not stuck"
           : integer(dc, "waiting_transactions") > 0  ? "not stuck, the next block is not due yet"
                                                      : "idle, nothing waits");
    size_t i;
    json_t *c;
    json_array_foreach(causes, i, c) print_cause(c);
}

int cli_why_stuck(int argc, char **argv, void *ctx)
{
    (void)argc;
    (void)argv;
    struct cli *c = ctx;
    int exit_status = EXIT_STATUS_OK;
    json_t *nodes = cli_ask_dcs(c, "why_stuck", &exit_status);
    if (nodes == NULL)
        return exit_status;
    size_t i, reached = 0, stuck = 0;
    json_t *dc;
    json_array_foreach(nodes, i, dc)
    {
        reached += cli_reached(dc);
        stuck += json_is_true(json_object_get(dc, "stuck"));
    }
    exit_status = reached == 0 ? EXIT_STATUS_UNREACHABLE
                  : stuck > 0  ? EXIT_STATUS_FAILED
                               : EXIT_STATUS_OK;
    if (c->json) {
        int printed = cli_print_json(json_pack("{s:b, s:o}", "stuck", stuck > 0, "nodes", nodes));
        return printed != EXIT_STATUS_OK ? printed : exit_status;
    }
    if (reached > 0)
        json_array_foreach(nodes, i, dc) print_dc(dc);
    fflush(stdout);
    if (stuck > 0)
        fprintf(stderr, CLI_NAME ": commits wait at %zu of the %zu DCs that answered\n", stuck,
                reached);
    if (reached == 0)
        fprintf(stderr, CLI_NAME ": %s%s\n",
                json_array_size(nodes) == 1 ? "the node does not answer: "
                                            : "none of the nodes answers; the first one: ",
                text(json_array_get(nodes, 0), "error"));
    json_decref(nodes);
    return exit_status;
}
