#include "tests/net/sides.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct loop *loop;
struct links *links;
struct realm realm;

int sides_set_up(void **state)
{
    (void)state;
    loop = loop_new();
    links = links_new(loop);
    return loop == NULL || links == NULL;
}

int sides_tear_down(void **state)
{
    (void)state;
    links_free(links);
    loop_free(loop);
    return 0;
}

static void on_open(void *ctx, env_link link, const char *remote)
{
    struct side *s = ctx;
    assert_non_null(strchr(remote, ':'));
    const struct credential_identity *who = link_peer(links, link);
    assert_non_null(who);
    snprintf(s->peer_name, sizeof s->peer_name, "%s", who->name.text);
    s->link = link;
    s->opened++;
    if (s->mark_known)
        link_mark_known(links, link);
}

static void on_frame(void *ctx, env_link link, struct span frame)
{
    struct side *s = ctx;
    s->frames++;
    s->bytes += frame.size;
    s->last_at = frame.data;
    memcpy(s->last, frame.data, frame.size < sizeof s->last ? frame.size : sizeof s->last);
    static const uint8_t zeros[8192];
    if (s->end == END_CLOSE)
        link_close(links, link);
    else if (s->end == END_CUT)
        link_drop(links, link, LINK_DROP_GARBAGE);
    else if (s->echo)
        assert_ok(
            link_send(links, link, s->answer_size > 0 ? span_of(zeros, s->answer_size) : frame));
}

static void on_closed(void *ctx, env_link link, enum ami_status why)
{
    struct side *s = ctx;
    (void)link;
    s->closed++;
    s->why = why;
}

static void on_refused(void *ctx, const char *remote, enum channel_fault fault,
                       const struct credential_identity *who, enum channel_standing standing)
{
    struct side *s = ctx;
    assert_non_null(strchr(remote, ':'));
    s->refused++;
    s->fault = fault;
    s->standing = standing;
    assert_int_equal(who == NULL, standing == CHANNEL_UNKNOWN);
    snprintf(s->refused_name, sizeof s->refused_name, "%s", who == NULL ? "" : who->name.text);
}

const struct link_limits limits = {.frame_bytes_max = 1 << 20,
                                   .queue_bytes_max = 4 << 20,
                                   .connections_max = 64,
                                   .stranger_ms = 10000,
                                   .half_frame_ms = 10000,
                                   .stranger_frame_bytes_max = 1024};

void side_make_with(struct side *s, const struct credential *own)
{
    memset(s, 0, sizeof *s);
    party_make(&s->party, &realm, own);
    s->security.config = s->party.config;
    s->mark_known = true;
}

void side_make(struct side *s, struct realm *r, const char *name)
{
    struct credential own;
    realm_credential(r, &own, CREDENTIAL_IMPLICIT, name, NULL, 0, 0);
    side_make_with(s, &own);
}

struct link_events events_of(struct side *s)
{
    return (struct link_events){.ctx = s,
                                .on_open = on_open,
                                .on_frame = on_frame,
                                .on_closed = on_closed,
                                .on_refused = on_refused,
                                .security = &s->security};
}

struct link_listener *listen_as(struct side *s, const struct link_limits *l)
{
    struct link_listener *listener = NULL;
    const struct link_events events = events_of(s);
    struct why why = {0};
    assert_ok(link_listen(links, "127.0.0.1:0", l, &events, &listener, &why));
    return listener;
}

struct link_dialer *dial_as(struct side *s, const char *address, const struct link_limits *l)
{
    struct link_dialer *dialer = NULL;
    const struct link_events events = events_of(s);
    struct why why = {0};
    assert_ok(link_dial(links, address, l, 200, &events, &dialer, &why));
    return dialer;
}

int socket_to(uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

uint16_t port_of(const char *address)
{
    return (uint16_t)atoi(strrchr(address, ':') + 1);
}
