/* Links over loopback, with a raw socket where a misbehaving stranger is wanted. No test sleeps:
 * each turns the loop until a condition holds, and fails when it does not within WAIT_US. */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/link.h"
#include "tests/harness.h"
#include "tests/net/turn.h"

static struct loop *loop;
static struct links *links;

/* One side: remembers what it was told. */
struct side {
    env_link link; /* the newest */
    int opened, closed, writable, unreachable;
    uint64_t frames;
    size_t bytes, last_size;
    uint8_t last[64];
    enum ami_status why;
    bool echo, in_order, known_on_frame, close_on_frame, pause_on_frame;
    uint32_t next; /* with in_order: the number that the next frame must carry */
    uint64_t backlog;
};

static void on_open(void *ctx, env_link link, const char *remote)
{
    struct side *s = (struct side *)ctx;
    assert_true(link > s->link); /* never reused */
    assert_non_null(strchr(remote, ':'));
    s->link = link;
    s->opened++;
}

static void on_frame(void *ctx, env_link link, struct span frame)
{
    struct side *s = (struct side *)ctx;
    s->frames++;
    s->bytes += frame.size;
    s->last_size = frame.size;
    memcpy(s->last, frame.data, frame.size < sizeof s->last ? frame.size : sizeof s->last);
    if (s->in_order) {
        assert_true(frame.size >= 4);
        assert_int_equal(load_be32(frame.data), s->next);
        s->next++;
    }
    if (s->known_on_frame)
        link_mark_known(links, link);
    if (s->echo && link_send(links, link, frame) != AMI_OK)
        s->backlog++;
    if (s->close_on_frame)
        link_close(links, link);
    if (s->pause_on_frame)
        link_pause(links, link);
}

static void on_closed(void *ctx, env_link link, enum ami_status why)
{
    struct side *s = (struct side *)ctx;
    (void)link;
    s->closed++;
    s->why = why;
}

static void on_writable(void *ctx, env_link link)
{
    struct side *s = (struct side *)ctx;
    assert_int_equal(link, s->link);
    s->writable++;
}

static void on_unreachable(void *ctx, const char *why)
{
    struct side *s = (struct side *)ctx;
    assert_non_null(strstr(why, "tcp://127.0.0.1:"));
    s->unreachable++;
}

static struct link_events events_of(struct side *s)
{
    return (struct link_events){.ctx = s,
                                .on_open = on_open,
                                .on_frame = on_frame,
                                .on_closed = on_closed,
                                .on_writable = on_writable,
                                .on_unreachable = on_unreachable};
}

static const struct link_limits limits = {.frame_bytes_max = 16384,
                                          .queue_bytes_max = 65536,
                                          .connections_max = 64,
                                          .stranger_ms = 10000,
                                          .half_frame_ms = 10000};

static struct link_listener *listen_with(struct side *s, const struct link_limits *l)
{
    struct link_listener *listener = NULL;
    struct link_events events = events_of(s);
    struct why why = {0};
    assert_ok(link_listen(links, "127.0.0.1:0", l, &events, &listener, &why));
    return listener;
}

static struct link_dialer *dial_with(struct side *s, const char *address,
                                     const struct link_limits *l)
{
    struct link_dialer *dialer = NULL;
    struct link_events events = events_of(s);
    struct why why = {0};
    assert_ok(link_dial(links, address, l, 200, &events, &dialer, &why));
    return dialer;
}

static int set_up(void **state)
{
    (void)state;
    loop = loop_new();
    links = links_new(loop);
    return loop == NULL || links == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    links_free(links);
    loop_free(loop);
    return 0;
}

static unsigned port_of(const struct link_listener *listener)
{
    return (unsigned)atoi(strrchr(link_listener_address(listener), ':') + 1);
}

/* A stranger: a plain blocking socket. */
static int stranger(const struct link_listener *listener)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port_of(listener))};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

static void put(int fd, const void *data, size_t size)
{
    assert_int_equal(send(fd, data, size, MSG_NOSIGNAL), (ssize_t)size);
}

/* Whether the other side has closed: end of file or a reset. */
static bool is_closed(int fd)
{
    char byte;
    ssize_t got = recv(fd, &byte, 1, MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno != EAGAIN);
}

/* Sends numbered frames of varying size until `count` are out, pausing at AMI_AGAIN. */
static uint32_t send_numbered(env_link link, uint32_t from, uint32_t count)
{
    uint8_t frame[400] = {0};
    while (from < count) {
        store_be32(frame, from);
        enum ami_status status = link_send(links, link, span_of(frame, 4 + from * 7 % 390));
        if (status == AMI_AGAIN)
            break;
        assert_ok(status);
        from++;
    }
    return from;
}

static void many_frames_each_way_arrive_in_order(void **state)
{
    (void)state;
    enum { FRAMES = 40000 };
    struct side server = {.in_order = true}, client = {.in_order = true};
    struct link_listener *l = listen_with(&server, &limits);
    struct link_dialer *d = dial_with(&client, link_listener_address(l), &limits);
    turn_until(server.opened == 1 && client.opened == 1);
    uint32_t up = 0, down = 0;
    uint64_t end_us = clock_mono_us() + WAIT_US;
    while (up < FRAMES || down < FRAMES || server.frames < FRAMES || client.frames < FRAMES) {
        up = send_numbered(client.link, up, FRAMES);
        down = send_numbered(server.link, down, FRAMES);
        loop_step(loop, 5000);
        assert_true(clock_mono_us() < end_us);
    }
    assert_int_equal(server.frames, FRAMES);
    assert_int_equal(client.frames, FRAMES);
    const struct link_counters *c = link_listener_counters(l), *dc = link_dialer_counters(d);
    assert_int_equal(c->frames_in, FRAMES);
    assert_int_equal(c->frames_out, FRAMES);
    turn_until(c->bytes_out == dc->bytes_in); /* the last write's completion may come late */
    assert_int_equal(c->bytes_in, dc->bytes_out);
    assert_int_equal(link_queued_bytes(links, client.link), 0);
    link_dialer_stop(d);
    turn_until(server.closed == 1 && client.closed == 1);
}

/* Between two frames of the largest size a small one, to move every buffer's edge. */
static void the_largest_frames_pass_and_larger_ones_do_not(void **state)
{
    (void)state;
    struct link_limits large = limits;
    large.frame_bytes_max = AMI_FRAME_PEER_BYTES_MAX;
    large.queue_bytes_max = AMI_FRAME_PEER_BYTES_MAX + 2 * LINK_LENGTH_BYTES + 1;
    struct side server = {0}, client = {0};
    struct link_listener *l = listen_with(&server, &large);
    struct link_dialer *d = dial_with(&client, link_listener_address(l), &large);
    turn_until(server.opened == 1 && client.opened == 1);
    uint8_t *data = malloc(AMI_FRAME_PEER_BYTES_MAX + 6);
    assert_non_null(data);
    memset(data, 0x5a, AMI_FRAME_PEER_BYTES_MAX + 6);
    for (uint64_t round = 1; round <= 3; round++) {
        assert_ok(link_send(links, client.link, span_of(data, AMI_FRAME_PEER_BYTES_MAX)));
        assert_ok(link_send(links, client.link, span_of(data, 1)));
        assert_status(link_send(links, client.link, span_of(data, 1)), AMI_AGAIN);
        assert_status(link_send(links, client.link, span_of(data, AMI_FRAME_PEER_BYTES_MAX + 6)),
                      AMI_TOO_LARGE);
        turn_until(server.frames == 2 * round && client.writable == (int)round);
        assert_int_equal(server.last_size, 1);
        assert_int_equal(server.bytes, round * (AMI_FRAME_PEER_BYTES_MAX + 1));
    }
    assert_int_equal(server.closed, 0);
    /* One byte over the receiver's limit fits into our queue, and ends the link over there. */
    assert_ok(link_send(links, client.link, span_of(data, AMI_FRAME_PEER_BYTES_MAX + 1)));
    turn_until(server.closed == 1 && client.closed == 1);
    assert_status(server.why, AMI_TOO_LARGE);
    assert_int_equal(link_listener_counters(l)->dropped[LINK_DROP_OVERSIZED], 1);
    link_dialer_stop(d);
    free(data);
}

static void a_slow_reader_fills_only_its_own_queue(void **state)
{
    (void)state;
    struct side server = {0}, slow = {0}, quick = {.echo = true};
    struct link_listener *l = listen_with(&server, &limits);
    struct link_dialer *d1 = dial_with(&slow, link_listener_address(l), &limits);
    turn_until(server.opened == 1 && slow.opened == 1);
    env_link slow_there = server.link;
    link_pause(links, slow.link);
    struct link_dialer *d2 = dial_with(&quick, link_listener_address(l), &limits);
    turn_until(server.opened == 2 && quick.opened == 1);
    env_link quick_there = server.link;
    server.link = slow_there; /* whose on_writable is expected */

    uint8_t frame[1000] = {0};
    uint64_t sent = 0;
    enum ami_status status = AMI_OK;
    uint64_t end_us = clock_mono_us() + WAIT_US;
    /* The system's own buffers fill first; then, with nothing moving, the queue says so. */
    size_t before = 0;
    int still = 0, writable = 0;
    while (still < 20) {
        while ((status = link_send(links, slow_there, span_of(frame, sizeof frame))) == AMI_OK)
            sent++;
        assert_status(status, AMI_AGAIN);
        writable = server.writable;
        size_t queued = link_queued_bytes(links, slow_there);
        assert_true(queued <= limits.queue_bytes_max);
        loop_step(loop, 20000);
        still = queued == before ? still + 1 : 0;
        before = queued;
        assert_true(clock_mono_us() < end_us);
    }
    assert_int_equal(slow.frames, 0); /* at most one buffer was read before the pause, none given */
    assert_true(link_listener_counters(l)->sends_refused > 0);

    /* Meanwhile the other link is served. */
    server.frames = 0;
    for (uint64_t i = 1; i <= 100; i++) {
        assert_ok(link_send(links, quick_there, span_of(frame, 10)));
        turn_until(server.frames == i);
    }

    /* The reader wakes up: everything that was accepted arrives, and the writer is told. */
    link_resume(links, slow.link);
    turn_until(slow.frames == sent && server.writable > writable);
    /* In reads that grow, wherever in a frame they end: more than a first buffer in each. */
    const struct link_counters *c = link_dialer_counters(d1);
    assert_true(c->bytes_in > c->reads * 4096);
    assert_ok(link_send(links, slow_there, span_of(frame, 10)));
    turn_until(slow.frames == sent + 1);
    link_dialer_stop(d1);
    link_dialer_stop(d2);
    turn_until(server.closed == 2);
}

static void pausing_in_the_middle_keeps_order_and_loses_nothing(void **state)
{
    (void)state;
    enum { FRAMES = 300 };
    struct side server = {.in_order = true, .pause_on_frame = true}, client = {0};
    struct link_limits impatient = limits;
    impatient.half_frame_ms = 50; /* rests while paused */
    struct link_listener *l = listen_with(&server, &impatient);
    struct link_dialer *d = dial_with(&client, link_listener_address(l), &limits);
    turn_until(server.opened == 1 && client.opened == 1);
    assert_int_equal(send_numbered(client.link, 0, FRAMES), FRAMES);
    for (uint64_t i = 1; i <= FRAMES; i++) {
        turn_until(server.frames == i);
        if (i == 5) { /* longer than the time for half frames, with half a buffer unread */
            uint64_t until = clock_mono_us() + 120000;
            turn_until(clock_mono_us() > until);
        }
        assert_int_equal(server.frames, i);
        link_resume(links, server.link);
    }
    assert_int_equal(server.closed, 0);
    link_dialer_stop(d);
    turn_until(server.closed == 1);
}

static void the_owner_may_close_from_within_and_the_answer_still_leaves(void **state)
{
    (void)state;
    struct side server = {.echo = true, .close_on_frame = true}, client = {0};
    struct link_listener *l = listen_with(&server, &limits);
    struct link_dialer *d = dial_with(&client, link_listener_address(l), &limits);
    turn_until(client.opened == 1 && server.opened == 1);
    env_link first = client.link;
    assert_ok(link_send(links, client.link, SPAN_LITERAL("question")));
    assert_ok(link_send(links, client.link, SPAN_LITERAL("never read")));
    turn_until(client.closed == 1 && server.closed == 1);
    assert_int_equal(server.frames, 1);
    assert_int_equal(client.frames, 1);
    assert_memory_equal(client.last, "question", 8);
    assert_status(link_send(links, first, SPAN_LITERAL("late")), AMI_CLOSED);
    link_close(links, first);
    link_drop(links, first, LINK_DROP_REFUSED);
    assert_int_equal(link_listener_counters(l)->dropped[LINK_DROP_REFUSED], 0);
    turn_until(client.opened == 2); /* the dialer came back by itself, with another id */
    assert_true(client.link != first);
    link_dialer_stop(d);
    turn_until(client.closed == 2 && server.closed == server.opened);
}

/* Signs of life keep a link on which nobody says anything; no owner sees them. */
static void a_quiet_link_lives_on_signs_of_life(void **state)
{
    (void)state;
    struct link_limits lively = limits;
    lively.idle_ms = 20;
    lively.silent_ms = 400;
    struct side server = {.known_on_frame = true}, client = {0};
    struct link_listener *l = listen_with(&server, &lively);
    struct link_dialer *d = dial_with(&client, link_listener_address(l), &lively);
    turn_until(server.opened == 1 && client.opened == 1);
    assert_ok(link_send(links, client.link, SPAN_LITERAL("who I am")));
    turn_until(server.frames == 1);
    uint64_t until = clock_mono_us() + 1200000;
    turn_until(clock_mono_us() > until);
    assert_int_equal(server.closed + client.closed, 0);
    assert_int_equal(server.frames, 1);
    assert_int_equal(client.frames, 0);
    assert_true(link_dialer_counters(d)->bytes_in >= 10 * LINK_LENGTH_BYTES);
    assert_true(link_listener_counters(l)->bytes_in >= 10 * LINK_LENGTH_BYTES);
    assert_ok(link_send(links, server.link, SPAN_LITERAL("still here")));
    turn_until(client.frames == 1);
    /* A paused link is not read, so its silence says nothing. */
    link_pause(links, server.link);
    until = clock_mono_us() + 600000;
    turn_until(clock_mono_us() > until);
    assert_int_equal(server.closed, 0);
    link_resume(links, server.link);
    link_dialer_stop(d);
    turn_until(server.closed == 1 && client.closed == 1);
}

/* Each side notices by itself that nothing comes any more; the dialer makes a new link. */
static void a_link_that_died_without_a_word_is_dropped(void **state)
{
    (void)state;
    struct link_limits lively = limits;
    lively.idle_ms = 20;
    lively.silent_ms = 200;
    struct side server = {.known_on_frame = true}, client = {0};
    struct link_listener *l = listen_with(&server, &lively);
    int fd = stranger(l); /* says who it is, and then nothing more */
    put(fd, "\0\0\0\1x", 5);
    uint64_t began = clock_mono_us();
    turn_until(server.closed == 1);
    assert_true(clock_mono_us() - began >= 200000);
    assert_status(server.why, AMI_TIMEOUT);
    assert_int_equal(link_listener_counters(l)->dropped[LINK_DROP_SILENT], 1);
    close(fd);

    /* Somebody takes the connection and never says anything. */
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof a;
    int mute = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(mute, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(mute, 8), 0);
    assert_int_equal(getsockname(mute, (struct sockaddr *)&a, &size), 0);
    char address[32];
    snprintf(address, sizeof address, "127.0.0.1:%u", ntohs(a.sin_port));
    struct link_dialer *d = dial_with(&client, address, &lively);
    turn_until(client.opened == 2);
    assert_int_equal(client.closed, 1);
    assert_status(client.why, AMI_TIMEOUT);
    assert_int_equal(link_dialer_counters(d)->dropped[LINK_DROP_SILENT], 1);
    link_dialer_stop(d);
    turn_until(client.closed == client.opened);
    close(mute);
}

/* Everything that breaks a rule on one port at once, while a well-behaved link goes on. */
static void strangers_are_dropped_and_counted_while_others_are_served(void **state)
{
    (void)state;
    struct link_limits strict = limits;
    strict.stranger_ms = 300;
    strict.half_frame_ms = 150;
    strict.stranger_frame_bytes_max = 100;
    struct side server = {.echo = true}, client = {0};
    struct link_listener *l = listen_with(&server, &strict);
    const struct link_counters *c = link_listener_counters(l);
    struct link_dialer *d = dial_with(&client, link_listener_address(l), &limits);
    turn_until(server.opened == 1 && client.opened == 1);
    link_mark_known(links, server.link);

    static const uint8_t zero[4], half[] = {0, 0, 0, 50, 1, 2, 3}, two[2],
                                  huge[] = {0xff, 0xff, 0xff, 0xff}, small[] = {0, 0, 0, 101, 1};
    int fds[7];
    for (int i = 0; i < 7; i++)
        fds[i] = stranger(l);
    put(fds[0], "GET / HTTP/1.1\r\n\r\n", 18); /* a length of 1.2 billion */
    put(fds[1], huge, sizeof huge);
    put(fds[2], small, sizeof small); /* within the limit of those who are known */
    put(fds[3], zero, sizeof zero);
    put(fds[4], half, sizeof half);
    put(fds[5], two, sizeof two); /* not even a whole prefix; fds[6] stays mute */
    for (int i = 0; i < 7; i++) {
        turn_until(is_closed(fds[i]));
        assert_ok(link_send(links, client.link, SPAN_LITERAL("still here")));
        turn_until(client.frames == (uint64_t)i + 1);
    }
    turn_until(server.closed == 7);
    assert_int_equal(c->dropped[LINK_DROP_OVERSIZED], 3);
    assert_int_equal(c->dropped[LINK_DROP_GARBAGE], 1);
    assert_int_equal(c->dropped[LINK_DROP_HALF_FRAME], 2);
    assert_int_equal(c->dropped[LINK_DROP_MUTE], 1);
    assert_int_equal(c->closed, 7);
    assert_int_equal(link_listener_open_now(l), 1);
    assert_int_equal(client.closed, 0);
    for (int i = 0; i < 7; i++)
        close(fds[i]);

    /* What the owner cannot decode it drops itself, under its own reason. */
    int fd = stranger(l);
    turn_until(server.opened == 9);
    link_drop(links, server.link, LINK_DROP_GARBAGE);
    turn_until(is_closed(fd) && server.closed == 8);
    assert_status(server.why, AMI_BAD_ENCODING);
    assert_int_equal(c->dropped[LINK_DROP_GARBAGE], 2);
    close(fd);
    link_dialer_stop(d);
    turn_until(server.closed == 9);
}

/* A frame that trickles in does not stretch its time; whole frames, however slow their sender, do.
 */
static void a_trickle_is_a_half_frame(void **state)
{
    (void)state;
    struct link_limits strict = limits;
    strict.half_frame_ms = 200;
    struct side server = {.known_on_frame = true};
    struct link_listener *l = listen_with(&server, &strict);
    int fd = stranger(l);
    static const uint8_t whole[] = {0, 0, 0, 1, 9}, prefix[] = {0, 0, 0, 200};
    uint64_t start = clock_mono_us();
    for (uint64_t i = 1; i <= 4; i++) { /* in two halves each, for 400 ms in all */
        put(fd, whole, 3);
        uint64_t until = start + i * 100000;
        turn_until(clock_mono_us() > until);
        put(fd, whole + 3, 2);
        turn_until(server.frames == i);
    }
    assert_int_equal(server.closed, 0);
    start = clock_mono_us();
    put(fd, prefix, sizeof prefix);
    for (int i = 0; i < 100 && server.closed == 0; i++) {
        uint64_t until = clock_mono_us() + 10000;
        turn_until(clock_mono_us() > until);
        if (server.closed == 0)
            (void)!send(fd, "x", 1, MSG_NOSIGNAL);
    }
    turn_until(server.closed == 1);
    assert_true(clock_mono_us() - start >= 200000);
    assert_status(server.why, AMI_TIMEOUT);
    assert_int_equal(link_listener_counters(l)->dropped[LINK_DROP_HALF_FRAME], 1);
    close(fd);
}

/* A block takes long on a slow link. As long as it comes in large pieces nobody is holding anything
 * half open; without that the link would break and the same block be sent again, for ever. */
static void a_large_frame_may_take_its_time(void **state)
{
    (void)state;
    enum { PIECES = 5, PIECE = 64 << 10 };
    static uint8_t frame[LINK_LENGTH_BYTES + PIECES * PIECE];
    struct link_limits strict = limits;
    strict.frame_bytes_max = sizeof frame;
    strict.half_frame_ms = 1000;
    struct side server = {.known_on_frame = true};
    struct link_listener *l = listen_with(&server, &strict);
    int fd = stranger(l);
    store_be32(frame, PIECES * PIECE);
    put(fd, frame, LINK_LENGTH_BYTES);
    uint64_t start = clock_mono_us();
    for (size_t i = 0; i < PIECES; i++) {
        put(fd, frame + LINK_LENGTH_BYTES + i * PIECE, PIECE);
        uint64_t until = clock_mono_us() + 300000;
        turn_until(clock_mono_us() > until);
    }
    turn_until(server.frames == 1);
    assert_true(clock_mono_us() - start >= 1200000);
    assert_int_equal(server.closed, 0);
    close(fd);
}

static void a_flood_of_connections_pushes_out_itself(void **state)
{
    (void)state;
    enum { FLOOD = 200 };
    struct link_limits strict = limits;
    strict.connections_max = 8;
    struct side server = {.echo = true}, client = {0};
    struct link_listener *l = listen_with(&server, &strict);
    const struct link_counters *c = link_listener_counters(l);
    struct link_dialer *d = dial_with(&client, link_listener_address(l), &limits);
    turn_until(server.opened == 1 && client.opened == 1);
    link_mark_known(links, server.link);
    int fds[FLOOD];
    for (int i = 0; i < FLOOD; i++) {
        fds[i] = stranger(l);
        loop_step(loop, 0);
        /* This thread accepts, too: it must not wait in connect for room in a full backlog. */
        turn_until(c->dropped[LINK_DROP_TOO_MANY] + link_listener_open_now(l) + 64 > (uint64_t)i);
        if (i % 20 == 0) {
            uint64_t before = client.frames;
            assert_ok(link_send(links, client.link, SPAN_LITERAL("served")));
            turn_until(client.frames == before + 1);
        }
    }
    turn_until(c->dropped[LINK_DROP_TOO_MANY] == FLOOD - 7 && link_listener_open_now(l) == 8);
    assert_false(is_closed(fds[FLOOD - 1])); /* the newest is let in */
    assert_true(is_closed(fds[0]));
    assert_int_equal(client.closed, 0);
    for (int i = 0; i < FLOOD; i++)
        close(fds[i]);
    link_dialer_stop(d);
    turn_until(link_listener_open_now(l) == 0);
}

/* When everybody is known, it is the newcomer who has to go. */
static void a_full_house_of_known_links_is_left_in_peace(void **state)
{
    (void)state;
    struct link_limits strict = limits;
    strict.connections_max = 2;
    struct side server = {0};
    struct link_listener *l = listen_with(&server, &strict);
    int fds[3];
    for (int i = 0; i < 2; i++) {
        fds[i] = stranger(l);
        turn_until(server.opened == i + 1);
        link_mark_known(links, server.link);
    }
    fds[2] = stranger(l);
    turn_until(is_closed(fds[2]));
    assert_int_equal(server.opened, 2);
    assert_int_equal(link_listener_counters(l)->dropped[LINK_DROP_TOO_MANY], 1);
    assert_false(is_closed(fds[0]));
    assert_false(is_closed(fds[1]));
    for (int i = 0; i < 3; i++)
        close(fds[i]);
    turn_until(server.closed == 2);
    assert_status(server.why, AMI_CLOSED);
}

static void a_dialer_comes_back_when_the_other_side_does(void **state)
{
    (void)state;
    struct side server = {.echo = true}, client = {0};
    struct link_listener *l = listen_with(&server, &limits);
    char address[LINK_URL_BYTES];
    snprintf(address, sizeof address, "%s", link_listener_address(l));
    struct link_dialer *d = dial_with(&client, address, &limits);
    turn_until(client.opened == 1 && server.opened == 1);

    /* The other process goes away: its port is dead for a while. */
    link_listener_stop(l);
    link_close(links, server.link);
    turn_until(client.closed == 1 && client.unreachable >= 2);
    assert_true(link_dialer_counters(d)->dials_failed >= 2);

    struct link_events events = events_of(&server);
    struct why why = {0};
    assert_ok(link_listen(links, address, &limits, &events, &l, &why));
    link_dialer_hurry(d);
    turn_until(client.opened == 2 && server.opened == 2);
    assert_ok(link_send(links, client.link, SPAN_LITERAL("hello again")));
    turn_until(client.frames == 1);
    link_dialer_stop(d);
    turn_until(client.closed == 2 && server.closed == 2);

    /* Stopped while it waits to dial again: nothing more comes. */
    link_listener_stop(l);
    struct side lonely = {0};
    d = dial_with(&lonely, address, &limits);
    turn_until(lonely.unreachable >= 1);
    link_dialer_stop(d);
    int unreachable = lonely.unreachable;
    uint64_t until = clock_mono_us() + 300000;
    turn_until(clock_mono_us() > until);
    assert_int_equal(lonely.unreachable, unreachable);
    assert_int_equal(lonely.opened, 0);
}

static void a_port_in_use_and_bad_addresses_have_sentences(void **state)
{
    (void)state;
    struct side server = {0};
    struct link_listener *l = listen_with(&server, &limits), *other = NULL;
    struct link_dialer *d = NULL;
    struct link_events events = events_of(&server);
    struct why why = {0};
    char expected[200];
    assert_status(link_listen(links, link_listener_address(l), &limits, &events, &other, &why),
                  AMI_IN_USE);
    snprintf(expected, sizeof expected, "cannot listen on %s: another process is using this port",
             link_listener_address(l));
    assert_string_equal(why.text, expected);
    static const char *const bad[] = {
        "",          "host",       ":7101",       "host:",        "host:70000",
        "host:0x10", "http://h:1", "tcp://h:1/x", "a b:1",        "h:-1",
        "[::1:7101", "tcp://",     "h:1:",        "user@host:80", "h?x:7101",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_status(link_listen(links, bad[i], &limits, &events, &other, &why), AMI_BAD_ARGUMENT);
        assert_non_null(strstr(why.text, bad[i]));
        assert_status(link_dial(links, bad[i], &limits, 0, &events, &d, &why), AMI_BAD_ARGUMENT);
    }
    assert_status(link_dial(links, "127.0.0.1:0", &limits, 0, &events, &d, &why), AMI_BAD_ARGUMENT);
    /* 192.0.2.0/24 is kept for documentation: no machine has it. */
    assert_status(link_listen(links, "192.0.2.1:7101", &limits, &events, &other, &why),
                  AMI_BAD_ARGUMENT);
    assert_string_equal(why.text,
                        "cannot listen on 192.0.2.1:7101: this is not an address of this machine");
}

/* Freed with writes and reads under way, a dialer in the air and half a frame: nothing leaks, which
 * AddressSanitizer checks, and nobody is called. */
static void everything_can_be_freed_while_busy(void **state)
{
    (void)state;
    struct side server = {.echo = true}, client[8] = {{0}}, lonely = {0};
    struct link_listener *l = listen_with(&server, &limits);
    for (int i = 0; i < 8; i++)
        dial_with(&client[i], link_listener_address(l), &limits);
    turn_until(server.opened == 8 && client[7].opened == 1);
    for (int i = 0; i < 8; i++)
        turn_until(client[i].opened == 1);
    dial_with(&lonely, "127.0.0.1:1", &limits);
    int fd = stranger(l);
    put(fd, "\0\0\0\x20half", 8);
    for (int i = 0; i < 8; i++)
        send_numbered(client[i].link, 0, 1000);
    loop_step(loop, 1000);
    for (int i = 0; i < 8; i++)
        link_close(links, client[i].link);
    int before = server.closed;
    links_free(links);
    loop_step(loop, 0);
    assert_int_equal(server.closed, before);
    links = links_new(loop);
    assert_non_null(links);
    close(fd);
}

/* --- the blocking client, in a thread of its own as it would be in a process of its own --------
 */

struct call {
    char address[LINK_URL_BYTES];
    size_t request_size;
    uint32_t timeout_ms;
    size_t reply_max, reply_size;
    uint8_t *reply;
    enum ami_status status;
    struct why why;
    atomic_bool done;
};

static void *make_call(void *arg)
{
    struct call *c = (struct call *)arg;
    uint8_t *request = malloc(c->request_size);
    memset(request, 0x42, c->request_size);
    c->status = link_call(c->address, NULL, span_of(request, c->request_size), c->timeout_ms,
                          c->reply, c->reply_max, &c->reply_size, &c->why);
    free(request);
    atomic_store(&c->done, true);
    return NULL;
}

static void run_call(struct call *c)
{
    pthread_t thread;
    atomic_store(&c->done, false);
    assert_int_equal(pthread_create(&thread, NULL, make_call, c), 0);
    turn_until(atomic_load(&c->done));
    pthread_join(thread, NULL);
}

static void a_call_is_answered_or_says_why_not(void **state)
{
    (void)state;
    enum { LARGE = 1 << 20 };
    struct link_limits large = limits;
    large.frame_bytes_max = LARGE;
    large.queue_bytes_max = LARGE + LINK_LENGTH_BYTES;
    struct side server = {.echo = true};
    struct link_listener *l = listen_with(&server, &large);
    struct call c = {.request_size = LARGE, .timeout_ms = 15000, .reply_max = LARGE};
    c.reply = malloc(LARGE);
    assert_non_null(c.reply);
    snprintf(c.address, sizeof c.address, "%s", link_listener_address(l));
    run_call(&c);
    assert_ok(c.status);
    assert_int_equal(c.reply_size, LARGE);
    assert_int_equal(c.reply[0], 0x42);
    assert_int_equal(c.reply[LARGE - 1], 0x42);

    c.reply_max = 1000; /* an answer larger than asked for */
    run_call(&c);
    assert_status(c.status, AMI_TOO_LARGE);

    server.echo = false; /* it never answers */
    c.timeout_ms = 200;
    c.request_size = 10;
    run_call(&c);
    assert_status(c.status, AMI_TIMEOUT);
    assert_non_null(strstr(c.why.text, c.address));

    server.close_on_frame = true;
    c.timeout_ms = 15000;
    run_call(&c);
    assert_status(c.status, AMI_CLOSED);

    link_listener_stop(l);
    turn_until(server.closed == server.opened);
    run_call(&c);
    assert_status(c.status, AMI_UNREACHABLE);
    assert_non_null(strstr(c.why.text, c.address));
    snprintf(c.address, sizeof c.address, "nonsense");
    run_call(&c);
    assert_status(c.status, AMI_BAD_ARGUMENT);
    free(c.reply);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(many_frames_each_way_arrive_in_order),
        T(the_largest_frames_pass_and_larger_ones_do_not),
        T(a_slow_reader_fills_only_its_own_queue),
        T(pausing_in_the_middle_keeps_order_and_loses_nothing),
        T(the_owner_may_close_from_within_and_the_answer_still_leaves),
        T(a_quiet_link_lives_on_signs_of_life),
        T(a_link_that_died_without_a_word_is_dropped),
        T(strangers_are_dropped_and_counted_while_others_are_served),
        T(a_trickle_is_a_half_frame),
        T(a_large_frame_may_take_its_time),
        T(a_flood_of_connections_pushes_out_itself),
        T(a_full_house_of_known_links_is_left_in_peace),
        T(a_dialer_comes_back_when_the_other_side_does),
        T(a_port_in_use_and_bad_addresses_have_sentences),
        T(everything_can_be_freed_while_busy),
        T(a_call_is_answered_or_says_why_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
