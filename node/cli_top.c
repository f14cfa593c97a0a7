/* node/cli_top.c - `dc-cli top`: all DCs on one screen, asked again and again.
 *
 * In: the answers to `status`. Out: on a terminal a screen of its own, given back at the end;
 * elsewhere one frame below the other. It asks each DC once per --interval and no faster, however
 * quick the answers are.
 */
#include "node/cli.h"

#include "net/logline.h"
#include "net/loop.h"

#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* ECMA-48: another screen, no cursor; and back. Home; erase to the end of line; of the screen. */
#define SCREEN_ENTER "\033[?1049h\033[?25l"
#define SCREEN_LEAVE "\033[?25h\033[?1049l"
#define SCREEN_HOME  "\033[H"
#define LINE_REST    "\033[K"
#define SCREEN_REST  "\033[J"

#define WARN_EXPIRES_S (30 * 86400)

static volatile sig_atomic_t on_screen;

/* Ends at once, also amid a question to a DC that does not answer. There is nothing to put in order
 * but the screen. */
static void on_signal(int signal)
{
    static const char leave[] = SCREEN_LEAVE;
    (void)signal;
    const bool left = !on_screen || write(STDOUT_FILENO, leave, sizeof leave - 1) > 0;
    _exit(left ? EXIT_STATUS_OK : EXIT_STATUS_FAILED);
}

static long long integer(const json_t *o, const char *key)
{
    return (long long)json_integer_value(json_object_get(o, key));
}

static const char *text(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s == NULL ? "-" : s;
}

static bool is_true(const json_t *o, const char *key)
{
    return json_is_true(json_object_get(o, key));
}

/* --- one frame -------------------------------------------------------------------------------- */

struct frame {
    FILE *out; /* into memory, cut to the screen afterwards */
    const json_t *nodes;
    long long highest, sessions, waiting;
    double rate; /* of the DC that sees most */
    size_t reached;
};

static void sum_up(struct frame *f)
{
    size_t i;
    const json_t *n;
    json_array_foreach(f->nodes, i, n)
    {
        const double rate = json_number_value(json_object_get(n, "reports_per_s"));
        if (!cli_reached(n))
            continue;
        f->reached++;
        f->highest = integer(n, "height") > f->highest ? integer(n, "height") : f->highest;
        f->rate = rate > f->rate ? rate : f->rate;
        f->sessions += integer(n, "sessions");
        f->waiting += integer(n, "waiting_transactions");
    }
}

/* What somebody should look at. */
static void print_troubles(FILE *out, const json_t *n)
{
    const json_t *expires = json_object_get(json_object_get(n, "credential"), "expires_in_s");
    const json_t *handshakes =
        json_object_get(json_object_get(json_object_get(n, "ports"), "peers"), "handshakes");
    if (is_true(n, "read_only"))
        fputs("  disk-full", out);
    if (!is_true(n, "mdms_connected"))
        fputs("  no-mdms", out);
    if (!is_true(n, "has_quorum") && strcmp(text(n, "role"), "leader") == 0)
        fputs("  no-quorum", out);
    if (json_is_integer(expires) && json_integer_value(expires) < WARN_EXPIRES_S)
        fprintf(out, "  credential-ends-in-%lld-days",
                (long long)json_integer_value(expires) / 86400);
    if (json_is_null(json_object_get(n, "revoked_operators")))
        fputs("  operators-unchecked", out);
    if (handshakes != NULL &&
        integer(handshakes, "budget_left") < integer(handshakes, "budget_most") / 4)
        fputs("  flooded", out);
}

static void print_dc(const struct frame *f, const json_t *n)
{
    if (!cli_reached(n)) {
        fprintf(f->out, "%-10s %-11s %s\n", text(n, "dc"), "unreachable", text(n, "error"));
        return;
    }
    fprintf(f->out, "%-10s %-11s %6lld %9lld %6lld %5lld %9lld %8lld %9.1f", text(n, "dc"),
            text(n, "role"), integer(n, "term"), integer(n, "height"),
            f->highest - integer(n, "height"), integer(n, "peers_connected"),
            integer(n, "sessions"), integer(n, "waiting_transactions"),
            json_number_value(json_object_get(n, "reports_per_s")));
    print_troubles(f->out, n);
    fputc('\n', f->out);
}

static void print_frame(struct frame *f)
{
    char now[LOG_TIME_BYTES];
    size_t i;
    const json_t *n;
    sum_up(f);
    log_time_text(now, clock_wall_ms());
    fprintf(f->out,
            "%s  height %lld  %zu of %zu DCs answer  sessions %lld  waiting %lld  reports/s %.1f\n",
            now, f->highest, f->reached, json_array_size(f->nodes), f->sessions, f->waiting,
            f->rate);
    fprintf(f->out, "\n%-10s %-11s %6s %9s %6s %5s %9s %8s %9s  %s\n", "dc", "role", "term",
            "height", "lag", "peers", "sessions", "waiting", "reports/s", "look at");
    json_array_foreach(f->nodes, i, n) print_dc(f, n);
}

/* --- the screen ------------------------------------------------------------------------------- */

/* Rows and columns that there are; a terminal that does not say has the least that is usual. */
static void screen_size(size_t *rows, size_t *columns)
{
    struct winsize w;
    const bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_row > 0 && w.ws_col > 0;
    *rows = known ? w.ws_row : 24;
    *columns = known ? w.ws_col : 80;
}

/* No line wraps, and none scrolls the screen. */
static void show(const char *frame)
{
    size_t rows, columns;
    screen_size(&rows, &columns);
    fputs(SCREEN_HOME, stdout);
    for (size_t row = 0; *frame != '\0' && row + 1 < rows; row++) {
        const size_t size = strcspn(frame, "\n");
        fwrite(frame, 1, size < columns ? size : columns, stdout);
        fputs(LINE_REST "\n", stdout);
        frame += size + (frame[size] == '\n');
    }
    fputs(SCREEN_REST, stdout);
    fflush(stdout);
}

static int one_frame(struct cli *c, bool screen, bool first)
{
    char *frame = NULL;
    size_t size = 0;
    int exit_status = EXIT_STATUS_OK;
    json_t *nodes = cli_ask_dcs(c, "status", &exit_status);
    if (nodes == NULL)
        return exit_status;
    struct frame f = {.out = open_memstream(&frame, &size), .nodes = nodes};
    if (f.out == NULL) {
        json_decref(nodes);
        return cli_fail(c, AMI_NO_MEMORY, "out of memory");
    }
    print_frame(&f);
    json_decref(nodes);
    if (fclose(f.out) != 0) {
        free(frame);
        return cli_fail(c, AMI_NO_MEMORY, "out of memory");
    }
    if (screen)
        show(frame);
    else
        printf("%s%s", first ? "" : "\n", frame);
    free(frame);
    return f.reached > 0 ? EXIT_STATUS_OK : EXIT_STATUS_UNREACHABLE;
}

int cli_top(int argc, char **argv, void *ctx)
{
    (void)argc;
    (void)argv;
    struct cli *c = ctx;
    if (c->json)
        return cli_usage("top is for people; dc-cli status --json has the same for programs");
    const bool screen = c->frames != 1 && isatty(STDOUT_FILENO) == 1;
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    if (screen) {
        on_screen = 1;
        fputs(SCREEN_ENTER, stdout);
        fflush(stdout);
    }
    int exit_status = EXIT_STATUS_OK;
    for (int64_t frame = 0; c->frames == 0 || frame < c->frames; frame++) {
        const uint64_t begun = clock_mono_us();
        exit_status = one_frame(c, screen, frame == 0);
        fflush(stdout);
        if ((exit_status != EXIT_STATUS_OK && exit_status != EXIT_STATUS_UNREACHABLE) ||
            ferror(stdout) || frame + 1 == c->frames)
            break;
        const uint64_t took_ms = (clock_mono_us() - begun) / 1000;
        const uint64_t interval_ms = (uint64_t)c->interval_ms;
        if (took_ms < interval_ms)
            (void)poll(NULL, 0, (int)(interval_ms - took_ms)); /* nothing to poll: it waits */
    }
    if (screen)
        fputs(SCREEN_LEAVE, stdout);
    return exit_status;
}
