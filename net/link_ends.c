/* net/link_ends.c - listeners and dialers. */
#include "net/link_conn.h"

#include "base/check.h"
#include "net/link_url.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define ACCEPT_AGAIN_MS 100 /* after the system had no descriptor left */
#define CONNECT_MS      5000
#define RETRY_MS_MAX    5000
#define DIAL_STEADY_US  2000000u /* a link that lived so long resets the back-off */

/* Spreads dials only; nothing secret depends on it. */
static uint32_t jitter(void)
{
    uint32_t value = 0;
    if (getrandom(&value, sizeof value, GRND_NONBLOCK) != (ssize_t)sizeof value)
        value = (uint32_t)clock_mono_us() * 2654435761u;
    return value;
}

/* --- listeners ------------------------------------------------------------------------------- */

static void on_accepted(void *arg) /* nng's thread */
{
    struct link_listener *l = (struct link_listener *)arg;
    loop_post(l->end.links->loop, &l->accepted_task);
}

static void listener_accept(struct link_listener *l)
{
    if (l->stopped || l->accepting)
        return;
    l->accepting = true;
    nng_stream_listener_accept(l->nng, l->accept_aio);
}

static void listener_again(void *arg)
{
    listener_accept((struct link_listener *)arg);
}

static void accepted(void *arg)
{
    struct link_listener *l = (struct link_listener *)arg;
    l->accepting = false;
    int error = nng_aio_result(l->accept_aio);
    if (error != 0 && error != NNG_ECONNABORTED && !l->stopped) {
        /* Most often no descriptor is left: trying again at once would only burn time. */
        loop_alarm_set(l->end.links->loop, &l->again_alarm,
                       clock_mono_us() + ACCEPT_AGAIN_MS * 1000u);
        return;
    }
    if (error == 0) {
        nng_stream *stream = (nng_stream *)nng_aio_get_output(l->accept_aio, 0);
        if (l->stopped) {
            nng_stream_free(stream);
            return;
        }
        bool full = l->end.open_now >= l->end.limits.connections_max;
        if (full && l->end.strangers.oldest != NULL) {
            /* A flood pushes out its own oldest links; who says who it is in time stays. */
            conn_drop(l->end.strangers.oldest, LINK_DROP_TOO_MANY);
            full = l->end.open_now > 2 * l->end.limits.connections_max;
        }
        if (full)
            nng_stream_free(stream);
        if (full || conn_open(&l->end, stream) == NULL)
            l->end.counters.dropped[LINK_DROP_TOO_MANY]++;
    }
    listener_accept(l);
}

/* After nng_stream_listener_listen: what a client of this machine would dial. */
static void listener_name(struct link_listener *l, const char *url)
{
    int port = 0;
    nng_sockaddr address;
    if (nng_stream_listener_get_int(l->nng, NNG_OPT_TCP_BOUND_PORT, &port) != 0 &&
        nng_stream_listener_get_addr(l->nng, NNG_OPT_LOCADDR, &address) == 0) {
        if (address.s_family == NNG_AF_INET)
            port = ntohs(address.s_in.sa_port);
        else if (address.s_family == NNG_AF_INET6)
            port = ntohs(address.s_in6.sa_port);
    }
    const char *host = url + strlen("tcp://");
    int host_size = (int)(strrchr(host, ':') - host);
    snprintf(l->address, sizeof l->address, "%.*s:%d", host_size, host, port);
}

void link_listener_free(struct link_listener *l)
{
    struct loop *loop = l->end.links->loop;
    if (l->nng != NULL)
        nng_stream_listener_close(l->nng);
    if (l->accept_aio != NULL) {
        nng_aio_stop(l->accept_aio);
        /* A connection that came in at the last moment, and was not looked at. */
        if (l->accepting && nng_aio_result(l->accept_aio) == 0)
            nng_stream_free((nng_stream *)nng_aio_get_output(l->accept_aio, 0));
        nng_aio_free(l->accept_aio);
    }
    if (l->nng != NULL)
        nng_stream_listener_free(l->nng);
    loop_cancel(loop, &l->accepted_task);
    loop_alarm_set(loop, &l->again_alarm, UINT64_MAX);
    free(l);
}

static void limits_check(const struct link_limits *limits)
{
    AMI_CHECK(limits->frame_bytes_max > 0 && limits->frame_bytes_max <= AMI_FRAME_PEER_BYTES_MAX);
    AMI_CHECK(limits->queue_bytes_max > LINK_LENGTH_BYTES);
    AMI_CHECK(limits->stranger_frame_bytes_max <= limits->frame_bytes_max);
}

enum ami_status link_listen(struct links *links, const char *address,
                            const struct link_limits *limits, const struct link_events *events,
                            struct link_listener **out, struct why *why)
{
    limits_check(limits);
    AMI_CHECK(limits->connections_max > 0);
    char url[LINK_URL_BYTES];
    AMI_TRY(link_url(address, true, url, why));
    struct link_listener *l = calloc(1, sizeof *l);
    if (l == NULL)
        return why_set(why, AMI_NO_MEMORY, "no memory to listen on %s", address);
    l->end = (struct endpoint){.links = links, .limits = *limits, .events = *events};
    l->accepted_task = (struct loop_task){.run = accepted, .arg = l};
    l->again_alarm = (struct loop_alarm){.fire = listener_again, .arg = l};
    int error = nng_stream_listener_alloc(&l->nng, url);
    if (error == 0)
        error = nng_aio_alloc(&l->accept_aio, on_accepted, l);
    if (error == 0)
        error = nng_stream_listener_set_bool(l->nng, NNG_OPT_TCP_NODELAY, true);
    if (error == 0)
        error = nng_stream_listener_set_bool(l->nng, NNG_OPT_TCP_KEEPALIVE, true);
    if (error == 0)
        error = nng_stream_listener_listen(l->nng);
    if (error != 0) {
        link_listener_free(l);
        if (error == NNG_EADDRINUSE)
            return why_set(why, AMI_IN_USE,
                           "cannot listen on %s: another process is using this port", address);
        if (error == NNG_EADDRINVAL || error == NNG_ENOTSUP)
            return why_set(why, AMI_BAD_ARGUMENT,
                           "cannot listen on %s: this is not an address of this machine", address);
        return why_set(why, error == NNG_ENOMEM ? AMI_NO_MEMORY : AMI_IO, "cannot listen on %s: %s",
                       address, nng_strerror(error));
    }
    listener_name(l, url);
    l->next = links->listeners;
    links->listeners = l;
    listener_accept(l);
    *out = l;
    return AMI_OK;
}

const char *link_listener_address(const struct link_listener *l)
{
    return l->address;
}

const struct link_counters *link_listener_counters(const struct link_listener *l)
{
    return &l->end.counters;
}

uint32_t link_listener_open_now(const struct link_listener *l)
{
    return l->end.open_now;
}

void link_listener_stop(struct link_listener *l)
{
    if (l->stopped)
        return;
    l->stopped = true;
    loop_alarm_set(l->end.links->loop, &l->again_alarm, UINT64_MAX);
    nng_stream_listener_close(l->nng);
}

/* --- dialers --------------------------------------------------------------------------------- */

static void on_dialled(void *arg) /* nng's thread */
{
    struct link_dialer *d = (struct link_dialer *)arg;
    loop_post(d->end.links->loop, &d->dialled_task);
}

static void dialer_dial(void *arg)
{
    struct link_dialer *d = (struct link_dialer *)arg;
    if (d->stopped || d->dialling || d->conn != NULL)
        return;
    d->dialling = true;
    nng_aio_set_timeout(d->dial_aio, CONNECT_MS);
    nng_stream_dialer_dial(d->nng, d->dial_aio);
}

static void dialer_retry(struct link_dialer *d)
{
    uint64_t wait_us = link_backoff_us(d->attempt, d->retry_ms_max, jitter());
    d->attempt++;
    loop_alarm_set(d->end.links->loop, &d->retry_alarm, clock_mono_us() + wait_us);
}

void link_dialer_free(struct link_dialer *d)
{
    struct loop *loop = d->end.links->loop;
    if (d->nng != NULL)
        nng_stream_dialer_close(d->nng);
    if (d->dial_aio != NULL) {
        nng_aio_stop(d->dial_aio);
        if (d->dialling && nng_aio_result(d->dial_aio) == 0)
            nng_stream_free((nng_stream *)nng_aio_get_output(d->dial_aio, 0));
        nng_aio_free(d->dial_aio);
    }
    if (d->nng != NULL)
        nng_stream_dialer_free(d->nng);
    loop_cancel(loop, &d->dialled_task);
    loop_alarm_set(loop, &d->retry_alarm, UINT64_MAX);
    free(d);
}

static void dialer_forget(struct link_dialer *d)
{
    for (struct link_dialer **at = &d->end.links->dialers; *at != NULL; at = &(*at)->next) {
        if (*at == d) {
            *at = d->next;
            break;
        }
    }
    link_dialer_free(d);
}

void link_dialer_lost(struct link_dialer *d, uint64_t lived_us)
{
    d->conn = NULL;
    if (d->stopped) {
        dialer_forget(d);
        return;
    }
    if (lived_us >= DIAL_STEADY_US)
        d->attempt = 0;
    dialer_retry(d);
}

/* Who dials a free port of the own machine again and again may one day be given that very port as
 * its own, and TCP then connects the socket to itself. */
static bool is_own_echo(nng_stream *stream)
{
    nng_sockaddr here, there;
    if (nng_stream_get_addr(stream, NNG_OPT_LOCADDR, &here) != 0 ||
        nng_stream_get_addr(stream, NNG_OPT_REMADDR, &there) != 0 ||
        here.s_family != there.s_family)
        return false;
    if (here.s_family == NNG_AF_INET)
        return here.s_in.sa_port == there.s_in.sa_port && here.s_in.sa_addr == there.s_in.sa_addr;
    return here.s_family == NNG_AF_INET6 && here.s_in6.sa_port == there.s_in6.sa_port &&
           memcmp(here.s_in6.sa_addr, there.s_in6.sa_addr, sizeof here.s_in6.sa_addr) == 0;
}

static void dialled(void *arg)
{
    struct link_dialer *d = (struct link_dialer *)arg;
    d->dialling = false;
    int error = nng_aio_result(d->dial_aio);
    nng_stream *stream = error == 0 ? (nng_stream *)nng_aio_get_output(d->dial_aio, 0) : NULL;
    if (d->stopped) {
        if (stream != NULL)
            nng_stream_free(stream);
        dialer_forget(d);
        return;
    }
    if (error == 0 && is_own_echo(stream)) {
        nng_stream_free(stream);
        error = NNG_ECONNREFUSED;
    }
    if (error == 0 && conn_open(&d->end, stream) == NULL)
        error = NNG_ENOMEM;
    if (error != 0) {
        d->end.counters.dials_failed++;
        dialer_retry(d);
        if (d->end.events.on_unreachable != NULL) {
            struct why why;
            why_set(&why, AMI_UNREACHABLE, "%s: %s", d->url, nng_strerror(error));
            d->end.events.on_unreachable(d->end.events.ctx, why.text);
        }
    }
}

enum ami_status link_dial(struct links *links, const char *address,
                          const struct link_limits *limits, uint32_t retry_ms_max,
                          const struct link_events *events, struct link_dialer **out,
                          struct why *why)
{
    limits_check(limits);
    char url[LINK_URL_BYTES];
    AMI_TRY(link_url(address, false, url, why));
    struct link_dialer *d = calloc(1, sizeof *d);
    if (d == NULL)
        return why_set(why, AMI_NO_MEMORY, "no memory to dial %s", address);
    d->end = (struct endpoint){.links = links, .limits = *limits, .events = *events, .dialer = d};
    d->dialled_task = (struct loop_task){.run = dialled, .arg = d};
    d->retry_alarm = (struct loop_alarm){.fire = dialer_dial, .arg = d};
    d->retry_ms_max = retry_ms_max == 0 ? RETRY_MS_MAX : retry_ms_max;
    memcpy(d->url, url, sizeof url);
    int error = nng_stream_dialer_alloc(&d->nng, url);
    if (error == 0)
        error = nng_aio_alloc(&d->dial_aio, on_dialled, d);
    if (error == 0)
        error = nng_stream_dialer_set_bool(d->nng, NNG_OPT_TCP_NODELAY, true);
    if (error == 0)
        error = nng_stream_dialer_set_bool(d->nng, NNG_OPT_TCP_KEEPALIVE, true);
    if (error != 0) {
        link_dialer_free(d);
        return why_set(why, error == NNG_ENOMEM ? AMI_NO_MEMORY : AMI_BAD_ARGUMENT,
                       "cannot dial %s: %s", address, nng_strerror(error));
    }
    d->next = links->dialers;
    links->dialers = d;
    dialer_dial(d);
    *out = d;
    return AMI_OK;
}

const struct link_counters *link_dialer_counters(const struct link_dialer *d)
{
    return &d->end.counters;
}

void link_dialer_hurry(struct link_dialer *d)
{
    if (d->stopped || d->dialling || d->conn != NULL)
        return;
    d->attempt = 0;
    loop_alarm_set(d->end.links->loop, &d->retry_alarm, clock_mono_us());
}

void link_dialer_stop(struct link_dialer *d)
{
    AMI_CHECK(!d->stopped);
    d->stopped = true;
    loop_alarm_set(d->end.links->loop, &d->retry_alarm, UINT64_MAX);
    if (d->conn != NULL)
        link_close(d->end.links, d->conn->id);
    else if (d->dialling)
        nng_stream_dialer_close(d->nng); /* the dial comes back, and then the dialer is freed */
    else
        dialer_forget(d);
}
