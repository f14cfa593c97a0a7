/* Secure links over loopback: both sides are told who is there, what is sent does not show on the
 * wire, and whoever does not belong here is dropped with a reason. No test sleeps. */
#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/net/sides.h"

static struct realm elsewhere;

/* --- a wire with a look at it ----------------------------------------------------------------- */

/* Carries one connection between a dialler and a listener, byte for byte, in threads of its own,
 * and keeps what passed. */
struct tap {
    int listening, to, from;
    char address[LINK_URL_BYTES];
    uint16_t target;
    pthread_t thread[2];
    uint8_t *seen[2];
    atomic_size_t seen_size[2];
    atomic_int
        alter; /* 1: the next chunk that passes towards the target has its last byte flipped */
};
#define TAP_BYTES (8u << 20)

static void carry(struct tap *t, int way, int in, int out)
{
    uint8_t chunk[65536];
    ssize_t got;
    while ((got = recv(in, chunk, sizeof chunk, 0)) > 0) {
        size_t at = atomic_load(&t->seen_size[way]);
        if (at + (size_t)got <= TAP_BYTES)
            memcpy(t->seen[way] + at, chunk, (size_t)got);
        atomic_store(&t->seen_size[way], at + (size_t)got);
        int one = 1;
        if (way == 0 && atomic_compare_exchange_strong(&t->alter, &one, 0))
            chunk[got - 1] ^= 1;
        for (ssize_t done = 0, n; done < got; done += n)
            if ((n = send(out, chunk + done, (size_t)(got - done), MSG_NOSIGNAL)) <= 0)
                return;
    }
    shutdown(out, SHUT_WR);
}

static void *tap_back(void *arg)
{
    struct tap *t = arg;
    carry(t, 1, t->to, t->from);
    return NULL;
}

static void *tap_run(void *arg)
{
    struct tap *t = arg;
    t->from = accept(t->listening, NULL, NULL);
    t->to = socket_to(t->target);
    pthread_create(&t->thread[1], NULL, tap_back, t);
    carry(t, 0, t->from, t->to);
    pthread_join(t->thread[1], NULL);
    close(t->from);
    close(t->to);
    return NULL;
}

static void tap_open(struct tap *t, const char *target)
{
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t size = sizeof a;
    memset(t, 0, sizeof *t);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    t->target = port_of(target);
    t->seen[0] = malloc(TAP_BYTES);
    t->seen[1] = malloc(TAP_BYTES);
    t->listening = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(t->listening, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(t->listening, 1), 0);
    assert_int_equal(getsockname(t->listening, (struct sockaddr *)&a, &size), 0);
    snprintf(t->address, sizeof t->address, "127.0.0.1:%u", ntohs(a.sin_port));
    assert_int_equal(pthread_create(&t->thread[0], NULL, tap_run, t), 0);
}

static void tap_close(struct tap *t)
{
    pthread_join(t->thread[0], NULL);
    close(t->listening);
    free(t->seen[0]);
    free(t->seen[1]);
}

static bool passed(const struct tap *t, const void *what, size_t size)
{
    for (int way = 0; way < 2; way++)
        if (memmem(t->seen[way], atomic_load(&t->seen_size[way]), what, size) != NULL)
            return true;
    return false;
}

/* --- tests ------------------------------------------------------------------------------------ */

static const char secret_text[] = "meter-17 reads 1234.5 kWh";

static void frames_of_every_size_pass(void **state)
{
    (void)state;
    static struct side server, client;
    static uint8_t large[1 << 20];
    struct tap tap;
    side_make(&server, &realm, "dc-1");
    side_make(&client, &realm, "dc-2");
    server.echo = true;
    struct link_listener *l = listen_as(&server, &limits);
    tap_open(&tap, link_listener_address(l));
    struct link_dialer *d = dial_as(&client, tap.address, &limits);
    turn_until(client.opened == 1 && server.opened == 1);
    assert_string_equal(client.peer_name, "dc-1");
    assert_string_equal(server.peer_name, "dc-2");
    assert_ok(link_send(links, client.link, span_of(secret_text, sizeof secret_text)));
    turn_until(client.frames == 1);
    assert_memory_equal(client.last, secret_text, sizeof secret_text);
    /* The largest frame, there and back. */
    for (size_t n = 0; n < sizeof large; n += 64)
        memcpy(large + n, secret_text, sizeof secret_text);
    assert_ok(link_send(links, client.link, span_of(large, sizeof large)));
    turn_until(client.bytes == sizeof secret_text + sizeof large);
    assert_status(link_send(links, client.link, span_of(large, limits.queue_bytes_max)),
                  AMI_TOO_LARGE);
    link_dialer_stop(d);
    turn_until(client.closed == 1 && server.closed == 1);
    assert_status(server.why, AMI_CLOSED); /* with a close, not cut */
    tap_close(&tap);
}

/* And the control: the same without security does show. */
static void nothing_that_is_sent_shows_on_the_wire(void **state)
{
    (void)state;
    static struct side server, client;
    struct tap tap;
    for (int secure = 0; secure < 2; secure++) {
        side_make(&server, &realm, "dc-1");
        side_make(&client, &realm, "dc-2");
        struct link_events from = events_of(&server), to = events_of(&client);
        struct link_listener *l = NULL;
        struct link_dialer *d = NULL;
        struct why why;
        if (!secure) {
            from.security = to.security = NULL;
            from.on_open = NULL;
        }
        assert_ok(link_listen(links, "127.0.0.1:0", &limits, &from, &l, &why));
        tap_open(&tap, link_listener_address(l));
        if (!secure) {
            /* A dialler in the clear: a raw socket, which needs no on_open. */
            int fd = socket_to(port_of(tap.address));
            uint8_t frame[4 + sizeof secret_text];
            store_be32(frame, sizeof secret_text);
            memcpy(frame + 4, secret_text, sizeof secret_text);
            assert_int_equal(send(fd, frame, sizeof frame, 0), sizeof frame);
            turn_until(server.frames == 1);
            close(fd);
        } else {
            assert_ok(link_dial(links, tap.address, &limits, 200, &to, &d, &why));
            turn_until(client.opened == 1);
            assert_ok(link_send(links, client.link, span_of(secret_text, sizeof secret_text)));
            turn_until(server.frames == 1);
            link_dialer_stop(d);
        }
        turn_until(secure ? server.closed == 1 : link_listener_open_now(l) == 0);
        pthread_join(tap.thread[0], NULL);
        assert_int_equal(passed(&tap, "1234.5", 6), !secure);
        assert_false(secure && passed(&tap, "dc-1", 4)); /* names do not show either */
        close(tap.listening);
        free(tap.seen[0]);
        free(tap.seen[1]);
        link_listener_stop(l);
    }
}

static void a_byte_altered_on_the_way_ends_the_link(void **state)
{
    (void)state;
    static struct side server, client;
    struct tap tap;
    side_make(&server, &realm, "dc-1");
    side_make(&client, &realm, "dc-2");
    struct link_listener *l = listen_as(&server, &limits);
    tap_open(&tap, link_listener_address(l));
    struct link_dialer *d = dial_as(&client, tap.address, &limits);
    turn_until(client.opened == 1 && server.opened == 1);
    atomic_store(&tap.alter, 1);
    assert_ok(link_send(links, client.link, span_of(secret_text, sizeof secret_text)));
    turn_until(server.closed == 1 && client.closed == 1);
    link_dialer_stop(d);
    assert_int_equal(server.frames, 0);
    assert_int_equal(server.fault, FAULT_RECORD);
    assert_string_equal(server.refused_name, "dc-2");
    assert_int_equal(client.fault, FAULT_ERROR);
    assert_status(server.why, AMI_NOT_ALLOWED);
    assert_int_equal(link_listener_counters(l)->dropped[LINK_DROP_CHANNEL], 1);
    assert_int_equal(link_listener_counters(l)->faults[FAULT_RECORD], 1);
    tap_close(&tap);
}

/* Plaintext, garbage, a foreign network's DC, an unwelcome one, and somebody who says nothing. */
static void strangers_are_refused_with_the_reason(void **state)
{
    (void)state;
    static struct side server, client;
    static const uint8_t hello[] = {0, 0, 0, 4, 1, 0x40, 7, 7};
    uint8_t answer[64];
    side_make(&server, &realm, "dc-1");
    struct link_listener *l = listen_as(&server, &limits);
    int fd = socket_to(port_of(link_listener_address(l)));
    assert_int_equal(send(fd, hello, sizeof hello, 0), sizeof hello);
    turn_until(server.refused == 1);
    assert_int_equal(server.fault, FAULT_PLAINTEXT);
    turn_until(link_listener_open_now(l) == 0);
    assert_int_equal(recv(fd, answer, sizeof answer, MSG_WAITALL), 5); /* one byte, and the end */
    assert_int_equal(answer[4], CHANNEL_FRAME_ALERT);
    close(fd);

    /* A frame larger than any flight is not waited for. */
    fd = socket_to(port_of(link_listener_address(l)));
    static const uint8_t announced[] = {0, 1, 0, 0, CHANNEL_FRAME_FIRST};
    assert_int_equal(send(fd, announced, sizeof announced, 0), sizeof announced);
    turn_until(link_listener_counters(l)->dropped[LINK_DROP_OVERSIZED] == 1);
    close(fd);

    side_make(&client, &elsewhere, "dc-2");
    client.party.trust.net = &elsewhere.mdms.net;
    struct link_dialer *d = dial_as(&client, link_listener_address(l), &limits);
    turn_until(server.refused == 2 && client.refused >= 1);
    link_dialer_stop(d);
    assert_int_equal(server.fault, FAULT_OTHER_NETWORK);
    assert_int_equal(client.fault, FAULT_REFUSED);

    side_make(&client, &realm, "dc-2");
    server.party.welcome = id_of("dc-3");
    const int refused = server.refused;
    d = dial_as(&client, link_listener_address(l), &limits);
    turn_until(server.refused > refused && client.refused >= 1);
    link_dialer_stop(d);
    assert_int_equal(server.fault, FAULT_UNEXPECTED);
    assert_string_equal(server.party.seen.name.text, "dc-2");
    assert_string_equal(client.refused_name, "dc-1"); /* who refused has proven itself */
    const struct link_counters *counted = link_listener_counters(l);
    assert_int_equal(counted->faults[FAULT_PLAINTEXT], 1);
    assert_true(counted->faults[FAULT_OTHER_NETWORK] >= 1);
    assert_true(counted->faults[FAULT_UNEXPECTED] >= 1);
    assert_int_equal(counted->faults[FAULT_SIGNATURE], 0);
    assert_int_equal(counted->channels_opened, 0);
    assert_int_equal(server.opened, 0);
    assert_int_equal(server.closed, 0);
    assert_int_equal(client.opened, 0);
    assert_int_equal(client.closed, 0);
}

static void a_mute_stranger_is_dropped_in_time(void **state)
{
    (void)state;
    static struct side server;
    struct link_limits quick = limits;
    quick.stranger_ms = 100;
    side_make(&server, &realm, "dc-1");
    struct link_listener *l = listen_as(&server, &quick);
    int fd = socket_to(port_of(link_listener_address(l)));
    turn_until(link_listener_counters(l)->dropped[LINK_DROP_MUTE] == 1);
    assert_int_equal(server.opened, 0);
    close(fd);
}

/* The same on a link of a loop. */
static void a_payload_beyond_the_limit_is_dropped(void **state)
{
    (void)state;
    static struct side server, client;
    struct link_limits narrow = limits;
    narrow.frame_bytes_max = 2000;
    narrow.stranger_frame_bytes_max = 1000;
    side_make(&server, &realm, "dc-1");
    server.echo = true;
    struct link_listener *l = listen_as(&server, &limits);
    for (size_t size = 1999; size <= 2016; size++) {
        side_make(&client, &realm, "dc-2");
        server.answer_size = size;
        struct link_dialer *d = dial_as(&client, link_listener_address(l), &narrow);
        turn_until(client.opened == 1);
        assert_ok(link_send(links, client.link, SPAN_LITERAL("go")));
        turn_until(client.frames == 1 || client.closed == 1);
        assert_int_equal(client.frames, size <= 2000);
        assert_true(client.bytes <= 2000);
        link_dialer_stop(d);
        turn_until(client.closed == 1);
    }
}

/* Signs of life are records: links stay up, and an unauthenticated one is none. */
static void signs_of_life_are_sealed(void **state)
{
    (void)state;
    static struct side server, client;
    struct link_limits lively = limits;
    lively.idle_ms = 20;
    lively.silent_ms = 300;
    side_make(&server, &realm, "dc-1");
    side_make(&client, &realm, "dc-2");
    struct link_listener *l = listen_as(&server, &lively);
    struct link_dialer *d = dial_as(&client, link_listener_address(l), &lively);
    turn_until(client.opened == 1 && server.opened == 1);
    const uint64_t began = link_listener_counters(l)->bytes_out; /* the handshake's */
    uint64_t until_us = clock_mono_us() + 1000000;
    turn_until(clock_mono_us() > until_us);
    assert_int_equal(client.closed + server.closed, 0);
    assert_int_equal(client.frames + server.frames, 0);
    /* An empty record is 21 bytes on the wire, a sign in the clear 4. */
    assert_true(link_listener_counters(l)->bytes_out - began > 10 * 17);
    link_dialer_stop(d);
    int fd = socket_to(port_of(link_listener_address(l)));
    static const uint8_t sign[] = {0, 0, 0, 0};
    assert_int_equal(send(fd, sign, sizeof sign, 0), sizeof sign);
    turn_until(link_listener_counters(l)->dropped[LINK_DROP_GARBAGE] == 1);
    close(fd);
}

/* A flood of first flights: what the gate lets through is answered, the rest costs a look; a link
 * that is up goes on. */
static void a_flood_of_first_flights_is_bounded(void **state)
{
    (void)state;
    static struct side server, client;
    static struct gate gate;
    static const uint8_t key[16] = {1};
    struct link_limits many = limits;
    many.connections_max = 300;
    side_make(&server, &realm, "dc-1");
    side_make(&client, &realm, "dc-2");
    gate_init(&gate, (struct gate_rate){20, 1}, (struct gate_rate){13, 1}, key, clock_mono_us());
    server.security.gate = &gate;
    server.echo = true;
    struct link_listener *l = listen_as(&server, &many);
    struct link_dialer *d = dial_as(&client, link_listener_address(l), &many);
    turn_until(client.opened == 1 && server.opened == 1);
    uint8_t first[4 + CHANNEL_FIRST_BYTES];
    uint8_t random[CHANNEL_RANDOM_BYTES] = {5};
    struct channel c;
    channel_start(&c, &client.party.config, true, random, 1);
    store_be32(first, CHANNEL_FIRST_BYTES);
    channel_first(&c, first + 4);
    int fd[200];
    for (int n = 0; n < 200; n++) {
        fd[n] = socket_to(port_of(link_listener_address(l)));
        assert_int_equal(send(fd[n], first, sizeof first, MSG_NOSIGNAL), sizeof first);
        /* One after the other, so that the system's queue of connections does not fill. */
        turn_until(link_listener_counters(l)->opened == (uint64_t)n + 2);
    }
    turn_until(gate.admitted + gate.refused == 202);
    assert_in_range(gate.admitted, 10, 30); /* some permits come back meanwhile */
    assert_int_equal(link_listener_counters(l)->dropped[LINK_DROP_TOO_MANY], gate.refused);
    assert_int_equal(link_listener_counters(l)->turned_away, gate.refused);
    /* The one that is up took two of what was admitted: its first flight and its credential. */
    assert_int_equal(link_listener_counters(l)->handshakes_begun, gate.admitted - 1);
    assert_int_equal(link_listener_counters(l)->channels_opened, 1);
    assert_in_range(gate_left(&gate, clock_mono_us()), 0, 19);
    assert_ok(link_send(links, client.link, span_of(secret_text, sizeof secret_text)));
    turn_until(client.frames == 1);
    for (int n = 0; n < 200; n++)
        close(fd[n]);
    link_dialer_stop(d);
    turn_until(client.closed == 1);
}

/* A line that ends without a close is counted where the channel was open, and is no refusal: a
 * process that was killed looks the same. One that ends in order is not, however it does so. */
static void a_cut_is_counted(void **state)
{
    (void)state;
    static struct side server, client;
    side_make(&server, &realm, "dc-1");
    side_make(&client, &realm, "dc-2");
    struct link_listener *l = listen_as(&server, &limits);
    const struct link_counters *counted = link_listener_counters(l);
    /* A stranger that goes amid its handshake cuts nothing. */
    int fd = socket_to(port_of(link_listener_address(l)));
    turn_until(counted->opened == 1);
    close(fd);
    turn_until(counted->closed == 1);
    for (int cut = 0; cut < 2; cut++) {
        struct link_dialer *d = dial_as(&client, link_listener_address(l), &limits);
        turn_until(client.opened == cut + 1 && server.opened == cut + 1);
        if (cut)
            link_drop(links, client.link, LINK_DROP_GARBAGE);
        link_dialer_stop(d);
        turn_until(server.closed == cut + 1 && client.closed == cut + 1);
        assert_status(server.why, cut ? AMI_UNREACHABLE : AMI_CLOSED);
        assert_int_equal(counted->faults[FAULT_CUT], cut);
    }
    /* A process that ends closes what it has open, unless something waited before that. */
    for (int waits = 0; waits < 2; waits++) {
        struct links *others = links_new(loop);
        struct link_dialer *d = NULL;
        struct link_events events = events_of(&client);
        struct why why;
        events.on_open = NULL;
        assert_ok(link_dial(others, link_listener_address(l), &limits, 200, &events, &d, &why));
        server.mark_known = true;
        turn_until(server.opened == 3 + waits && link_dialer_counters(d)->channels_opened == 1);
        if (waits) /* the first link of its table */
            assert_ok(link_send(others, UINT64_C(1) << 20, span_of(secret_text, 3)));
        links_free(others);
        turn_until(server.closed == 3 + waits);
        assert_status(server.why, waits ? AMI_UNREACHABLE : AMI_CLOSED);
        assert_int_equal(counted->faults[FAULT_CUT], 1 + waits);
    }
    assert_int_equal(server.refused + client.refused, 0);
    assert_int_equal(counted->dropped[LINK_DROP_CHANNEL], 0);
}

/* A record is opened where it was received. Once the owner has had it, it is gone from there,
 * however long the link stays open and says nothing more. */
static void what_was_received_is_wiped(void **state)
{
    (void)state;
    static struct side server, client;
    side_make(&server, &realm, "dc-1");
    side_make(&client, &realm, "dc-2");
    struct link_listener *l = listen_as(&server, &limits);
    struct link_dialer *d = dial_as(&client, link_listener_address(l), &limits);
    turn_until(client.opened == 1 && server.opened == 1);
    assert_ok(link_send(links, client.link, span_of(secret_text, sizeof secret_text)));
    turn_until(server.frames == 1);
    assert_memory_equal(server.last, secret_text, sizeof secret_text);
    static const uint8_t nothing[sizeof secret_text];
    assert_memory_equal(server.last_at, nothing, sizeof nothing);
    link_dialer_stop(d);
    turn_until(client.closed == 1);
}

/* --- calls ------------------------------------------------------------------------------------ */

struct call {
    const char *address;
    const struct channel_config *config;
    enum ami_status status;
    struct why why;
    uint8_t reply[4096];
    size_t reply_size;
    atomic_bool done;
};

static void *make_call(void *arg)
{
    struct call *c = arg;
    c->status = link_call(c->address, c->config, span_of(secret_text, sizeof secret_text), 10000,
                          c->reply, sizeof c->reply, &c->reply_size, &c->why);
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

static void a_call_goes_through_a_channel(void **state)
{
    (void)state;
    static struct side server, client;
    side_make(&server, &realm, "dc-1");
    side_make(&client, &realm, "alice");
    server.echo = true;
    struct link_listener *l = listen_as(&server, &limits);
    struct call c = {.address = link_listener_address(l), .config = &client.party.config};
    run_call(&c);
    assert_ok(c.status);
    assert_int_equal(c.reply_size, sizeof secret_text);
    assert_memory_equal(c.reply, secret_text, sizeof secret_text);
    assert_string_equal(server.peer_name, "alice");
    turn_until(server.closed == 1);
    assert_status(server.why, AMI_CLOSED); /* with a close, not cut */
    /* Ended by the other side, in order and not. */
    for (int cut = 0; cut < 2; cut++) {
        server.end = cut == 0 ? END_CLOSE : END_CUT;
        run_call(&c);
        assert_status(c.status, cut == 0 ? AMI_CLOSED : AMI_UNREACHABLE);
        assert_int_equal(strstr(c.why.text, "ended without a close") != NULL, cut);
    }
    server.end = END_NOT;
    /* What is inside a record is held to the limit, not the record: a suite with less overhead than
     * the other leaves no room for a few bytes more. */
    for (uint8_t suite = CHANNEL_SM4_GCM; suite <= CHANNEL_SM4_CTR_HMAC; suite++) {
        client.party.config.suites = suite;
        for (size_t size = sizeof c.reply - 1; size < sizeof c.reply + 40; size++) {
            server.answer_size = size;
            c.reply_size = 0;
            run_call(&c);
            assert_status(c.status, size <= sizeof c.reply ? AMI_OK : AMI_TOO_LARGE);
            assert_int_equal(c.reply_size, size <= sizeof c.reply ? size : 0);
        }
    }
    server.answer_size = 0;
    /* Refused there, refused here, and in the clear. */
    server.party.welcome = id_of("bob");
    run_call(&c);
    assert_status(c.status, AMI_NOT_ALLOWED);
    assert_non_null(strstr(c.why.text, link_listener_address(l)));
    server.party.welcome.size = 0;
    client.party.welcome = id_of("dc-9");
    run_call(&c);
    assert_status(c.status, AMI_NOT_ALLOWED);
    c.config = NULL;
    run_call(&c);
    assert_int_not_equal(c.status == AMI_OK && c.reply_size > 1, true);
    assert_int_equal(server.fault, FAULT_PLAINTEXT);
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    realm_make(&realm, "grid", 1);
    realm_make(&elsewhere, "other", 2);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(frames_of_every_size_pass, sides_set_up, sides_tear_down),
        cmocka_unit_test_setup_teardown(nothing_that_is_sent_shows_on_the_wire, sides_set_up,
                                        sides_tear_down),
        cmocka_unit_test_setup_teardown(a_byte_altered_on_the_way_ends_the_link, sides_set_up,
                                        sides_tear_down),
        cmocka_unit_test_setup_teardown(strangers_are_refused_with_the_reason, sides_set_up,
                                        sides_tear_down),
        cmocka_unit_test_setup_teardown(a_mute_stranger_is_dropped_in_time, sides_set_up,
                                        sides_tear_down),
        cmocka_unit_test_setup_teardown(a_payload_beyond_the_limit_is_dropped, sides_set_up,
                                        sides_tear_down),
        cmocka_unit_test_setup_teardown(signs_of_life_are_sealed, sides_set_up, sides_tear_down),
        cmocka_unit_test_setup_teardown(a_flood_of_first_flights_is_bounded, sides_set_up,
                                        sides_tear_down),
        cmocka_unit_test_setup_teardown(a_cut_is_counted, sides_set_up, sides_tear_down),
        cmocka_unit_test_setup_teardown(what_was_received_is_wiped, sides_set_up, sides_tear_down),
        cmocka_unit_test_setup_teardown(a_call_goes_through_a_channel, sides_set_up,
                                        sides_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
