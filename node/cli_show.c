/* node/cli_show.c - dc-cli's views: each asks a question and prints the answer. */
#include "node/cli.h"

#include "net/file.h"
#include "net/logline.h"
#include "net/loop.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FOLLOW_POLL_MS 500

static long long integer(const json_t *o, const char *key)
{
    return (long long)json_integer_value(json_object_get(o, key));
}

static const char *text(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s == NULL ? "-" : s;
}

/* The first twelve digits: enough to tell blocks apart on a screen. */
static const char *shorten(const char *hex, char out[16])
{
    snprintf(out, 16, "%.12s", hex);
    return out;
}

static void pause_ms(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
    nanosleep(&t, NULL);
}

/* --- status ---------------------------------------------------------------------------------- */

static void print_status_line(const json_t *n, long long highest)
{
    if (!cli_reached(n)) {
        printf("%-10s %-11s %s\n", text(n, "dc"), "unreachable", text(n, "error"));
        return;
    }
    printf("%-10s %-11s %5lld %6lld %9lld %6lld %-10s %5lld %9lld %8lld %9.1f\n", text(n, "dc"),
           json_is_true(json_object_get(n, "read_only")) ? "read-only" : text(n, "role"),
           integer(n, "epoch"), integer(n, "term"), integer(n, "height"),
           highest - integer(n, "height"), text(n, "leader"), integer(n, "peers_connected"),
           integer(n, "sessions"), integer(n, "waiting_transactions"),
           json_number_value(json_object_get(n, "reports_per_s")));
}

/* One line per channel, and one per port for the handshakes that were begun there. */
static void print_links(const json_t *n)
{
    static const char *const ports[] = {"peers", "admin"};
    size_t index;
    const json_t *l;
    json_array_foreach(json_object_get(n, "channels"), index, l)
        printf("%-10s %-8s %-5s %-20s %-9s %-17s %s\n", text(n, "dc"), text(l, "port"),
               text(l, "role"), text(l, "name"), text(l, "credential"), text(l, "suite"),
               json_is_true(json_object_get(l, "ready")) ? "ready" : "opening");
    for (size_t i = 0; i < sizeof ports / sizeof ports[0]; i++) {
        const json_t *h =
            json_object_get(json_object_get(json_object_get(n, "ports"), ports[i]), "handshakes");
        const char *reason;
        const json_t *count;
        if (h == NULL)
            continue;
        printf("%-10s %-8s handshakes: %lld begun, %lld opened, %lld turned away, budget %lld of "
               "%lld; refused:",
               text(n, "dc"), ports[i], integer(h, "begun"), integer(h, "opened"),
               integer(h, "turned_away"), integer(h, "budget_left"), integer(h, "budget_most"));
        const json_t *refused = json_object_get(h, "refused");
        json_object_foreach((json_t *)(uintptr_t)refused, reason, count)
            printf(" %s=%lld", reason, (long long)json_integer_value(count));
        printf("%s\n", json_object_size(refused) == 0 ? " none" : "");
    }
}

int cli_status(int argc, char **argv, void *ctx)
{
    (void)argc;
    (void)argv;
    struct cli *c = ctx;
    int exit_status = EXIT_STATUS_OK;
    json_t *nodes = cli_ask_dcs(c, "status", &exit_status);
    if (nodes == NULL)
        return exit_status;
    long long highest = 0;
    size_t index, reached = 0;
    json_t *n;
    json_array_foreach(nodes, index, n)
    {
        if (integer(n, "height") > highest)
            highest = integer(n, "height");
        reached += cli_reached(n);
    }
    exit_status = reached > 0 ? EXIT_STATUS_OK : EXIT_STATUS_UNREACHABLE;
    if (c->json) {
        int printed = cli_print_json(json_pack("{s:o}", "nodes", nodes));
        return printed != EXIT_STATUS_OK ? printed : exit_status;
    }
    printf("%-10s %-11s %5s %6s %9s %6s %-10s %5s %9s %8s %9s\n", "dc", "role", "epoch", "term",
           "height", "lag", "leader", "peers", "sessions", "waiting", "reports/s");
    json_array_foreach(nodes, index, n) print_status_line(n, highest);
    if (c->links) {
        printf("\n%-10s %-8s %-5s %-20s %-9s %-17s %s\n", "dc", "port", "role", "name",
               "credential", "suite", "state");
        json_array_foreach(nodes, index, n) print_links(n);
    }
    if (reached == 0) {
        fflush(stdout);
        fprintf(stderr, CLI_NAME ": %s%s\n",
                json_array_size(nodes) == 1 ? "the node does not answer: "
                                            : "none of the nodes answers; the first one: ",
                text(json_array_get(nodes, 0), "error"));
    }
    json_decref(nodes);
    return exit_status;
}

/* --- blocks, block, tx ------------------------------------------------------------------------ */

static void print_block_line(const json_t *b)
{
    char hash[16];
    double age_s = (double)(clock_wall_ms() - integer(b, "timestamp_ms")) / 1000.0;
    printf("%8lld  %-12s %6lld  %-10s %6lld %9lld %10.1f\n", integer(b, "height"),
           shorten(text(b, "hash"), hash), integer(b, "term"), text(b, "leader"),
           integer(b, "transactions"), integer(b, "bytes"), age_s);
}

int cli_blocks(int argc, char **argv, void *ctx)
{
    (void)argc;
    (void)argv;
    struct cli *c = ctx;
    int exit_status = EXIT_STATUS_OK;
    long long from = (long long)c->from;
    bool head = false;
    do {
        json_t *a = cli_ask(c,
                            json_pack("{s:s, s:I, s:I}", "ask", "blocks", "from", (json_int_t)from,
                                      "count", (json_int_t)c->count),
                            &exit_status);
        if (a == NULL)
            return exit_status;
        if (c->json && !c->follow)
            return cli_print_json(a);
        if (!head && !c->json)
            printf("%8s  %-12s %6s  %-10s %6s %9s %10s\n", "height", "hash", "term", "leader",
                   "txs", "bytes", "age s");
        head = true;
        size_t index;
        json_t *b;
        json_array_foreach(json_object_get(a, "blocks"), index, b)
        {
            if (c->json) {
                json_dumpf(b, stdout, JSON_COMPACT);
                putchar('\n');
            } else {
                print_block_line(b);
            }
            from = integer(b, "height") + 1;
        }
        if (json_array_size(json_object_get(a, "blocks")) == 0 && from == 0)
            from = 1;
        json_decref(a);
        fflush(stdout);
        if (c->follow)
            pause_ms(FOLLOW_POLL_MS);
    } while (c->follow);
    return EXIT_STATUS_OK;
}

static void print_fields(const json_t *o, int indent)
{
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)o, key, v)
    {
        if (json_is_object(v) || json_is_array(v))
            continue;
        printf("%*s%-*s ", indent, "", 18, key);
        if (json_is_string(v))
            printf("%s\n", json_string_value(v));
        else if (json_is_integer(v))
            printf("%lld\n", (long long)json_integer_value(v));
        else
            printf("%s\n", json_is_true(v) ? "yes" : "no");
    }
}

int cli_block(int argc, char **argv, void *ctx)
{
    (void)argc;
    struct cli *c = ctx;
    int exit_status = EXIT_STATUS_OK;
    int64_t height;
    /* A hash may consist of decimal digits alone, a height never has so many of them. */
    json_t *q = strlen(argv[0]) < 2 * SM3_BYTES && integer_parse(argv[0], &height) == AMI_OK
                    ? json_pack("{s:s, s:I}", "ask", "block", "height", (json_int_t)height)
                    : json_pack("{s:s, s:s}", "ask", "block", "hash", argv[0]);
    json_t *a = cli_ask(c, q, &exit_status);
    if (a == NULL || c->json)
        return a == NULL ? exit_status : cli_print_json(a);
    print_fields(json_object_get(a, "header"), 0);
    printf("%-18s %s\n", "pruned", json_is_true(json_object_get(a, "pruned")) ? "yes" : "no");
    const json_t *cert = json_object_get(a, "certificate");
    printf("%-18s %lld votes in term %lld:", "certificate", integer(cert, "votes"),
           integer(cert, "term"));
    size_t index;
    json_t *v;
    json_array_foreach(json_object_get(cert, "voters"), index, v)
        printf(" %s", json_string_value(v));
    printf("\n\n%6s  %-12s %-12s %-20s %6s %9s %7s\n", "index", "id", "kind", "device", "epoch",
           "sequence", "bytes");
    json_array_foreach(json_object_get(a, "transactions"), index, v)
    {
        char id[16];
        printf("%6lld  %-12s %-12s %-20s %6lld %9lld %7lld\n", integer(v, "index"),
               shorten(text(v, "id"), id), text(v, "kind"), text(v, "device"), integer(v, "epoch"),
               integer(v, "sequence"), integer(v, "bytes"));
    }
    json_decref(a);
    return EXIT_STATUS_OK;
}

int cli_tx(int argc, char **argv, void *ctx)
{
    (void)argc;
    struct cli *c = ctx;
    int exit_status = EXIT_STATUS_OK;
    json_t *a = cli_ask(c, json_pack("{s:s, s:s}", "ask", "tx", "id", argv[0]), &exit_status);
    if (a == NULL || c->json)
        return a == NULL ? exit_status : cli_print_json(a);
    json_object_del(a, "encoded");
    print_fields(a, 0);
    print_fields(json_object_get(a, "fields"), 0);
    size_t index;
    json_t *v;
    json_array_foreach(json_object_get(a, "path"), index, v)
        printf("%-18s %s\n", index == 0 ? "path" : "", json_string_value(v));
    json_decref(a);
    return EXIT_STATUS_OK;
}

/* --- meters ----------------------------------------------------------------------------------- */

int cli_meter(int argc, char **argv, void *ctx)
{
    (void)argc;
    struct cli *c = ctx;
    int exit_status = EXIT_STATUS_OK;
    json_t *a = cli_ask(c,
                        json_pack("{s:s, s:s, s:I}", "ask", "meter", "meter", argv[0], "epoch",
                                  (json_int_t)c->epoch),
                        &exit_status);
    if (a == NULL || c->json)
        return a == NULL ? exit_status : cli_print_json(a);
    size_t index;
    json_t *v;
    json_array_foreach(json_object_get(a, "epochs"), index, v)
    {
        if (index > 0)
            putchar('\n');
        print_fields(v, 0);
    }
    if (json_object_get(a, "session") != NULL) {
        printf("\nsession with this DC\n");
        print_fields(json_object_get(a, "session"), 2);
    }
    json_decref(a);
    return EXIT_STATUS_OK;
}

int cli_readings(int argc, char **argv, void *ctx)
{
    (void)argc;
    struct cli *c = ctx;
    int exit_status = EXIT_STATUS_OK;
    json_t *a =
        cli_ask(c,
                json_pack("{s:s, s:s, s:I, s:I, s:I}", "ask", "readings", "meter", argv[0], "epoch",
                          (json_int_t)c->epoch, "from", (json_int_t)(c->from == 0 ? 1 : c->from),
                          "count", (json_int_t)c->count),
                &exit_status);
    if (a == NULL || c->json)
        return a == NULL ? exit_status : cli_print_json(a);
    printf("meter %s, key epoch %lld: reports up to number %lld, sealed for the MDMS\n",
           text(a, "meter"), integer(a, "epoch"), integer(a, "last_sequence"));
    printf("%9s %9s %6s  %-12s %-10s %-24s %7s\n", "sequence", "height", "index", "tx", "gateway",
           "received", "bytes");
    size_t index;
    json_t *v;
    json_array_foreach(json_object_get(a, "readings"), index, v)
    {
        char id[16], when[LOG_TIME_BYTES] = "pruned";
        if (!json_is_true(json_object_get(v, "pruned")))
            log_time_text(when, integer(v, "timestamp_ms"));
        printf("%9lld %9lld %6lld  %-12s %-10s %-24s %7lld\n", integer(v, "sequence"),
               integer(v, "height"), integer(v, "index"), shorten(text(v, "tx"), id), text(v, "dc"),
               when, integer(v, "sealed_bytes"));
    }
    json_decref(a);
    return EXIT_STATUS_OK;
}

/* Takes the events after number `after` into `all`, as many answers as that takes. False: said why,
 * *exit_status set. */
static bool collect_events(struct cli *c, long long *after, long long *newest, json_t *all,
                           int *exit_status)
{
    for (;;) {
        json_t *a = cli_ask(
            c, json_pack("{s:s, s:I}", "ask", "events", "after", (json_int_t)*after), exit_status);
        if (a == NULL)
            return false;
        const json_t *list = json_object_get(a, "events");
        size_t given = json_array_size(list);
        if (given > 0)
            *after = integer(json_array_get(list, given - 1), "number");
        json_array_extend(all, json_object_get(a, "events"));
        *newest = integer(a, "newest");
        bool more = given > 0 && *after < *newest;
        json_decref(a);
        if (!more)
            return true;
    }
}

static void print_event(const struct cli *c, const json_t *event)
{
    char when[LOG_TIME_BYTES];
    if (c->json) {
        json_dumpf(event, stdout, JSON_COMPACT);
        putchar('\n');
        return;
    }
    log_time_text(when, integer(event, "wall_ms"));
    printf("%s  %-20s %s\n", when, text(event, "event"), text(event, "detail"));
}

int cli_note(int argc, char **argv, void *ctx)
{
    (void)argc;
    struct cli *c = ctx;
    int exit_status = EXIT_STATUS_OK;
    json_t *a = cli_ask(c, json_pack("{s:s, s:s}", "ask", "note", "text", argv[0]), &exit_status);
    if (a == NULL)
        return exit_status;
    if (c->json)
        return cli_print_json(a);
    printf("noted as event %lld\n", integer(a, "number"));
    json_decref(a);
    return EXIT_STATUS_OK;
}

int cli_step_down(int argc, char **argv, void *ctx)
{
    (void)argc;
    (void)argv;
    struct cli *c = ctx;
    int exit_status = EXIT_STATUS_OK;
    json_t *a = cli_ask(c, json_pack("{s:s}", "ask", "step_down"), &exit_status);
    if (a == NULL)
        return exit_status;
    if (c->json)
        return cli_print_json(a);
    printf("%s led term %lld and leads no more; the others choose another within moments\n",
           text(a, "dc"), integer(a, "term"));
    json_decref(a);
    return EXIT_STATUS_OK;
}

int cli_events(int argc, char **argv, void *ctx)
{
    (void)argc;
    (void)argv;
    struct cli *c = ctx;
    int exit_status = EXIT_STATUS_OK;
    long long after = (long long)c->from > 0 ? (long long)c->from - 1 : 0;
    long long newest = 0;
    bool first = true;
    do {
        json_t *all = json_array();
        if (!collect_events(c, &after, &newest, all, &exit_status)) {
            json_decref(all);
            return exit_status;
        }
        /* --count counts back from now, and what comes later is all shown. */
        while (first && c->newest > 0 && json_array_size(all) > (size_t)c->newest)
            json_array_remove(all, 0);
        first = false;
        if (c->json && !c->follow)
            return cli_print_json(
                json_pack("{s:I, s:o}", "newest", (json_int_t)newest, "events", all));
        size_t index;
        json_t *v;
        json_array_foreach(all, index, v) print_event(c, v);
        json_decref(all);
        fflush(stdout);
        if (c->follow)
            pause_ms(FOLLOW_POLL_MS);
    } while (c->follow);
    return EXIT_STATUS_OK;
}

int cli_proof(int argc, char **argv, void *ctx)
{
    struct cli *c = ctx;
    int exit_status = EXIT_STATUS_OK;
    if ((argc == 1) == (c->meter != NULL) || (c->meter != NULL && c->sequence == 0)) {
        fprintf(stderr, CLI_NAME ": name either a transaction, or --meter ID and --sequence N\n");
        return EXIT_STATUS_USAGE;
    }
    json_t *q = argc == 1
                    ? json_pack("{s:s, s:s}", "ask", "proof", "tx", argv[0])
                    : json_pack("{s:s, s:s, s:I, s:I}", "ask", "proof", "meter", c->meter, "epoch",
                                (json_int_t)c->epoch, "sequence", (json_int_t)c->sequence);
    json_t *a = cli_ask(c, q, &exit_status);
    if (a == NULL)
        return exit_status;
    const char *proof = text(a, "proof");
    if (c->out != NULL) {
        struct why why;
        enum ami_status status =
            file_write(c->out, span_of(proof, strlen(proof)), FILE_MODE_PUBLIC, &why);
        if (status != AMI_OK)
            exit_status = program_fail(CLI_NAME, c->json, status, &why);
    } else {
        fputs(proof, stdout);
    }
    json_decref(a);
    return exit_status;
}
