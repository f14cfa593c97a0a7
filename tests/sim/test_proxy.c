/* test_proxy.c - sim-proxy as its user sees it: bytes come through as they are, late, stalled, cut
 * in one direction or both, half-open, reset, refused, and again after "heal". The program runs as
 * a process of its own; AMI_PROXY names it. What does not arrive is shown not to arrive for
 * QUIET_MS.
 */
#include "tests/harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SOON_MS  5000
#define QUIET_MS 200

extern char **environ;

struct rig {
    pid_t pid;
    int control, upstream, client, server; /* -1: none */
    uint16_t control_port, route_port;
};

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

static struct sockaddr_in loopback(uint16_t port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

/* A listening socket on a port that the system chose. */
static int listening(uint16_t *port)
{
    struct sockaddr_in a = loopback(0);
    socklen_t size = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &size), 0);
    *port = ntohs(a.sin_port);
    return fd;
}

static int connected_to(uint16_t port)
{
    struct sockaddr_in a = loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

static bool readable(int fd, int ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, ms) == 1;
}

static void put(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* The text arrives, whole. */
static void expect(int fd, const char *text)
{
    char got[256];
    size_t size = 0;
    assert_true(strlen(text) < sizeof got);
    while (size < strlen(text)) {
        assert_true(readable(fd, SOON_MS));
        ssize_t n = recv(fd, got + size, strlen(text) - size, 0);
        assert_true(n > 0);
        size += (size_t)n;
    }
    got[size] = '\0';
    assert_string_equal(got, text);
}

static void expect_quiet(int fd)
{
    assert_false(readable(fd, QUIET_MS));
}

static void expect_reset(int fd)
{
    char byte;
    assert_true(readable(fd, SOON_MS));
    assert_int_equal(recv(fd, &byte, 1, 0), -1);
    assert_int_equal(errno, ECONNRESET);
}

/* One command; its answer begins with `answer`. */
static void tell(struct rig *r, const char *command, const char *answer)
{
    char got[256];
    size_t size = 0;
    put(r->control, command);
    put(r->control, "\n");
    do {
        assert_true(size < sizeof got - 1);
        assert_true(readable(r->control, SOON_MS));
        assert_int_equal(recv(r->control, got + size, 1, 0), 1);
    } while (got[size++] != '\n');
    got[size] = '\0';
    if (strncmp(got, answer, strlen(answer)) != 0)
        fail_msg("%s: '%s' instead of '%s'", command, got, answer);
}

static int accepted(const struct rig *r)
{
    assert_true(readable(r->upstream, SOON_MS));
    int fd = accept4(r->upstream, NULL, NULL, SOCK_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

/* A connection through the proxy, both ends. */
static void join(struct rig *r)
{
    r->client = connected_to(r->route_port);
    r->server = accepted(r);
}

static void start_proxy(struct rig *r, uint16_t upstream_port)
{
    char control[64], route[128];
    char *argv[] = {(char *)AMI_PROXY, (char *)"--control", control, route, NULL};
    int out[2];
    /* Two ports that were free a moment ago. */
    close(listening(&r->control_port));
    close(listening(&r->route_port));
    snprintf(control, sizeof control, "127.0.0.1:%u", r->control_port);
    snprintf(route, sizeof route, "a>b=127.0.0.1:%u,127.0.0.1:%u", r->route_port, upstream_port);
    assert_int_equal(pipe(out), 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    posix_spawn_file_actions_addclose(&actions, out[0]);
    assert_int_equal(posix_spawn(&r->pid, AMI_PROXY, &actions, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    close(out[1]);
    char line[8] = "";
    assert_true(readable(out[0], SOON_MS));
    assert_true(read(out[0], line, 5) == 5);
    assert_string_equal(line, "ready");
    close(out[0]);
}

static int begin(void **state)
{
    struct rig *r = calloc(1, sizeof *r);
    uint16_t port;
    assert_non_null(r);
    r->upstream = listening(&port);
    start_proxy(r, port);
    r->control = connected_to(r->control_port);
    join(r);
    *state = r;
    return 0;
}

static int end(void **state)
{
    struct rig *r = *state;
    int status;
    close(r->control);
    close(r->client);
    close(r->server);
    close(r->upstream);
    kill(r->pid, SIGTERM);
    assert_int_equal(waitpid(r->pid, &status, 0), r->pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    free(r);
    return 0;
}

static void test_passes_bytes_and_ends(void **state)
{
    struct rig *r = *state;
    put(r->client, "there");
    expect(r->server, "there");
    put(r->server, "and back");
    expect(r->client, "and back");
    tell(r, "stats a>b", "ok open=1 opened=1 forward_bytes=5 back_bytes=8");
    /* One side says that it has ended; the other still sends. */
    char byte;
    assert_int_equal(shutdown(r->client, SHUT_WR), 0);
    assert_true(readable(r->server, SOON_MS));
    assert_int_equal(recv(r->server, &byte, 1, 0), 0);
    put(r->server, "last");
    expect(r->client, "last");
    assert_int_equal(shutdown(r->server, SHUT_WR), 0);
    assert_true(readable(r->client, SOON_MS));
    assert_int_equal(recv(r->client, &byte, 1, 0), 0);
}

static void test_passes_much_unaltered(void **state)
{
    struct rig *r = *state;
    enum { SIZE = 8u << 20 };
    uint8_t *sent = malloc(SIZE), *got = malloc(SIZE);
    size_t out = 0, in = 0;
    assert_true(sent != NULL && got != NULL);
    for (size_t i = 0; i < SIZE; i++)
        sent[i] = (uint8_t)(i * 2654435761u >> 11);
    tell(r, "delay a>b 1 20", "ok 1");
    while (in < SIZE) {
        struct pollfd p[2] = {{.fd = out < SIZE ? r->client : -1, .events = POLLOUT},
                              {.fd = r->server, .events = POLLIN}};
        assert_true(poll(p, 2, SOON_MS) > 0);
        if (p[0].revents != 0) {
            ssize_t n = send(r->client, sent + out, SIZE - out, MSG_DONTWAIT | MSG_NOSIGNAL);
            assert_true(n > 0 || errno == EAGAIN);
            out += n > 0 ? (size_t)n : 0;
        }
        if (p[1].revents != 0) {
            ssize_t n = recv(r->server, got + in, SIZE - in, 0);
            assert_true(n > 0);
            in += (size_t)n;
        }
    }
    assert_memory_equal(sent, got, SIZE);
    free(sent);
    free(got);
}

static void test_delays(void **state)
{
    struct rig *r = *state;
    tell(r, "delay a>b 150 50", "ok 1");
    uint64_t began = now_ms();
    put(r->client, "ping");
    expect(r->server, "ping");
    assert_true(now_ms() - began >= 150);
    put(r->server, "pong");
    expect(r->client, "pong");
    assert_true(now_ms() - began >= 300);
    /* Order is kept although jitter would let the later piece overtake. */
    tell(r, "heal a>b", "ok 1");
    put(r->client, "1");
    expect(r->server, "1");
}

static void test_loses_like_tcp(void **state)
{
    struct rig *r = *state;
    tell(r, "loss a>b 1000", "ok 1");
    uint64_t began = now_ms();
    put(r->client, "late");
    expect(r->server, "late");
    assert_true(now_ms() - began >= 200);
}

static void test_limits_the_rate(void **state)
{
    struct rig *r = *state;
    char text[201];
    memset(text, 'x', 200);
    text[200] = '\0';
    tell(r, "rate a>b 500", "ok 1");
    uint64_t began = now_ms();
    put(r->client, text);
    expect(r->server, text);
    /* 200 bytes take 400 ms, the last tenth of a second's worth leaves at once. */
    assert_true(now_ms() - began >= 290);
}

static void test_stalls(void **state)
{
    struct rig *r = *state;
    tell(r, "stall a>b 300", "ok 1");
    uint64_t began = now_ms();
    put(r->client, "held");
    put(r->server, "too");
    expect(r->server, "held");
    expect(r->client, "too");
    assert_true(now_ms() - began >= 250);
}

static void test_cuts_both_ways(void **state)
{
    struct rig *r = *state;
    tell(r, "cut a>b", "ok 1");
    put(r->client, "x");
    put(r->server, "y");
    expect_quiet(r->server);
    expect_quiet(r->client);
    /* Somebody new is neither refused nor let through. */
    int other = connected_to(r->route_port);
    put(other, "z");
    expect_quiet(r->upstream);
    expect_quiet(other);
    tell(r, "heal a>b", "ok 1");
    expect(r->server, "x");
    expect(r->client, "y");
    int third = accepted(r);
    expect(third, "z");
    close(third);
    close(other);
}

static void test_cuts_one_way(void **state)
{
    struct rig *r = *state;
    tell(r, "cut a>b forward", "ok 1");
    put(r->client, "x");
    put(r->server, "heard");
    expect(r->client, "heard");
    expect_quiet(r->server);
    tell(r, "heal a>b", "ok 1");
    expect(r->server, "x");
    tell(r, "cut a>b back", "ok 1");
    put(r->server, "y");
    put(r->client, "heard");
    expect(r->server, "heard");
    expect_quiet(r->client);
    tell(r, "heal *", "ok 1");
    expect(r->client, "y");
}

/* The end of a connection is not seen through a cut. */
static void test_hides_an_end(void **state)
{
    struct rig *r = *state;
    char byte;
    tell(r, "cut a>b", "ok 1");
    close(r->server);
    r->server = -1;
    expect_quiet(r->client);
    tell(r, "heal a>b", "ok 1");
    assert_true(readable(r->client, SOON_MS));
    assert_int_equal(recv(r->client, &byte, 1, 0), 0);
}

static void test_half_open(void **state)
{
    struct rig *r = *state;
    tell(r, "half a>b forward", "ok 1");
    put(r->client, "into the void");
    put(r->server, "heard");
    expect(r->client, "heard");
    expect_quiet(r->server);
    /* New connections are whole. */
    int other = connected_to(r->route_port), third = accepted(r);
    put(other, "new");
    expect(third, "new");
    tell(r, "heal a>b", "ok 1");
    expect_reset(r->client);
    expect_reset(r->server);
    put(third, "lives on");
    expect(other, "lives on");
    close(third);
    close(other);
}

static void test_resets(void **state)
{
    struct rig *r = *state;
    tell(r, "reset a>b", "ok 1");
    expect_reset(r->client);
    expect_reset(r->server);
    close(r->client);
    close(r->server);
    join(r);
    put(r->client, "again");
    expect(r->server, "again");
}

static void test_refuses(void **state)
{
    struct rig *r = *state;
    tell(r, "refuse a>b", "ok 1");
    expect_reset(r->client);
    expect_reset(r->server);
    close(r->client);
    close(r->server);
    r->client = connected_to(r->route_port);
    expect_reset(r->client);
    assert_false(readable(r->upstream, 0));
    close(r->client);
    tell(r, "heal a>b", "ok 1");
    join(r);
    put(r->client, "again");
    expect(r->server, "again");
}

/* Nobody listens behind it: who connects learns of it. */
static void test_tells_of_a_dead_upstream(void **state)
{
    struct rig *r = *state;
    close(r->upstream);
    int other = connected_to(r->route_port);
    expect_reset(other);
    close(other);
    uint16_t port;
    r->upstream = listening(&port); /* for the end */
}

static void test_refuses_nonsense(void **state)
{
    struct rig *r = *state;
    static const char *const bad[] = {"",
                                      "cut",
                                      "frobnicate a>b",
                                      "delay a>b",
                                      "delay a>b -1",
                                      "delay a>b x",
                                      "loss a>b 1 2",
                                      "cut a>b sideways",
                                      "rate a>b 1x",
                                      "stall a>b 99999999999999999999",
                                      "delay a>b 4000000"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        tell(r, bad[i], "error: expected ");
    tell(r, "cut c>d", "error: no route is called like 'c>d'");
    put(r->client, "unharmed");
    expect(r->server, "unharmed");
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = {CASE(test_passes_bytes_and_ends),
                                       CASE(test_passes_much_unaltered),
                                       CASE(test_delays),
                                       CASE(test_loses_like_tcp),
                                       CASE(test_limits_the_rate),
                                       CASE(test_stalls),
                                       CASE(test_cuts_both_ways),
                                       CASE(test_cuts_one_way),
                                       CASE(test_hides_an_end),
                                       CASE(test_half_open),
                                       CASE(test_resets),
                                       CASE(test_refuses),
                                       CASE(test_tells_of_a_dead_upstream),
                                       CASE(test_refuses_nonsense)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
