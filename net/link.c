/* How a link works.
 *
 * In: one nng receive is out at a time, into the free end of `in`. Its callback, in a thread of
 * nng's, does nothing but post received_task. In the loop's thread the bytes are cut into frames,
 * the frames are given to the owner, and the next receive starts, unless the link is paused.
 *
 * Out: link_send appends to `pending` and posts kick_task, so that all frames of one round leave in
 * one write. While a write is out its bytes stand in `writing`; then the two change places.
 *
 * Life: open -> (closing: only `pending` and `writing` still leave) -> shut: the stream is closed
 * and nng's operations come back -> on_closed, freed. Only conn_settle frees, at the end of a task,
 * so that an owner's function may close or drop the link that it was called for.
 *
 * Secure endpoints: a link's frames go to its channel first (conn_channel), which answers, says
 * that it is open, which is when the owner hears of the link, or gives out what was inside. A sign
 * of life is an empty record then.
 *
 * Signs of life: who let the other in, and knows it, sends the first one; who dialled answers with
 * its own from then on, as a stranger's would count as garbage.
 *
 * Deadlines (strangers, half frames, lingering, silence) share one alarm: it stands at the earliest
 * known one and, when it comes, all links are looked at.
 */
#include "net/link.h"

#include <arpa/inet.h>
#include <nng/nng.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>

#include "base/check.h"
#include "crypto/secret.h"
#include "net/link_url.h"

#define SLOT_BITS         20
#define SLOTS_MAX         (1u << SLOT_BITS)
#define IN_BYTES_MIN      2048u        /* a receive buffer's first size */
#define IN_BYTES_KEEP     (64u << 10)  /* a larger one is given back when empty */
#define OUT_BYTES_KEEP    (64u << 10)  /* the same for send buffers */
#define WRITE_EARLY_BYTES (128u << 10) /* so much pending starts a write within the round */
#define ACCEPT_AGAIN_MS   100          /* after the system had no descriptor left */
#define CONNECT_MS        5000
#define RETRY_MS_MAX      5000
#define DIAL_STEADY_US    2000000u /* a link that lived so long resets the back-off */
#define IPV6_PREFIX_BYTES 8
#define LATE_US           500000u /* an alarm that is so late says that we stood still, not others */

struct endpoint {
    struct links *links;
    struct link_limits limits;
    struct link_events events;
    struct link_counters counters;
    struct link_dialer *dialer; /* NULL: a listener's */
    uint32_t open_now;
    struct conn *oldest_stranger, *newest_stranger;
};

struct buffer {
    uint8_t *data;
    size_t capacity;
    size_t size;
};

struct conn {
    env_link id;
    struct endpoint *end;
    nng_stream *stream;
    nng_aio *receive_aio, *send_aio;
    struct loop_task received_task, sent_task, kick_task;
    bool receiving, sending; /* an operation is out; its task will come */
    bool known, paused, closing, shut, wants_writable;
    bool signs;              /* the other side takes signs of life */
    bool announced;          /* on_open was called */
    struct channel *channel; /* NULL: in the clear */
    enum ami_status close_status;

    struct buffer in; /* in.size: end of what was received */
    size_t in_start;  /* what lies before was given out */
    struct buffer pending, writing;
    size_t written; /* of writing */

    uint64_t opened_us;
    uint64_t half_since_us;     /* 0: no frame is half here */
    uint64_t heard_us, said_us; /* when bytes last came, and frames were last queued */
    uint64_t linger_until_us;
    struct conn *older_stranger, *newer_stranger;
};

struct link_listener {
    struct endpoint end;
    struct link_listener *next;
    nng_stream_listener *nng;
    nng_aio *accept_aio;
    struct loop_task accepted_task;
    struct loop_alarm again_alarm;
    bool accepting, stopped;
    char address[LINK_URL_BYTES];
};

struct link_dialer {
    struct endpoint end;
    struct link_dialer *next;
    nng_stream_dialer *nng;
    nng_aio *dial_aio;
    struct loop_task dialled_task;
    struct loop_alarm retry_alarm;
    struct conn *conn;
    bool dialling, stopped;
    unsigned attempt;
    uint32_t retry_ms_max;
    char url[LINK_URL_BYTES];
};

struct links {
    struct loop *loop;
    struct conn **slots;
    uint32_t slots_size;
    uint32_t *free_slots;
    uint32_t free_count;
    uint64_t serial; /* of the last link */
    struct link_listener *listeners;
    struct link_dialer *dialers;
    struct loop_alarm deadline_alarm;
    uint64_t deadline_us;
};

const char *link_drop_name(enum link_drop_reason reason)
{
    static const char *const names[LINK_DROP_REASONS] = {
        "garbage", "oversized", "half_frame", "mute", "too_many", "refused", "silent", "channel",
    };
    return (unsigned)reason < LINK_DROP_REASONS ? names[reason] : "unknown";
}

static enum ami_status status_of_drop(enum link_drop_reason reason)
{
    switch (reason) {
    case LINK_DROP_GARBAGE:
        return AMI_BAD_ENCODING;
    case LINK_DROP_OVERSIZED:
        return AMI_TOO_LARGE;
    case LINK_DROP_HALF_FRAME:
    case LINK_DROP_MUTE:
    case LINK_DROP_SILENT:
        return AMI_TIMEOUT;
    case LINK_DROP_TOO_MANY:
        return AMI_FULL;
    default:
        return AMI_CLOSED;
    }
}

/* Spreads dials only; nothing secret depends on it. */
static uint32_t jitter(void)
{
    uint32_t value = 0;
    if (getrandom(&value, sizeof value, GRND_NONBLOCK) != (ssize_t)sizeof value)
        value = (uint32_t)clock_mono_us() * 2654435761u;
    return value;
}

/* --- buffers --------------------------------------------------------------------------------- */

/* Room for `more` bytes behind b->size, growing by doubling. */
static bool buffer_reserve(struct buffer *b, size_t more)
{
    if (b->capacity - b->size >= more)
        return true;
    size_t capacity = b->capacity == 0 ? IN_BYTES_MIN : b->capacity;
    while (capacity - b->size < more)
        capacity *= 2;
    uint8_t *data = realloc(b->data, capacity);
    if (data == NULL)
        return false;
    b->data = data;
    b->capacity = capacity;
    return true;
}

/* Gives an empty buffer's memory back when it had grown large. */
static void buffer_trim(struct buffer *b, size_t keep)
{
    if (b->size == 0 && b->capacity > keep) {
        free(b->data);
        *b = (struct buffer){0};
    }
}

/* --- the table of links ---------------------------------------------------------------------- */

static struct conn *conn_find(const struct links *links, env_link id)
{
    uint32_t slot = (uint32_t)(id & (SLOTS_MAX - 1));
    if (slot >= links->slots_size || links->slots[slot] == NULL || links->slots[slot]->id != id)
        return NULL;
    return links->slots[slot];
}

static bool slots_grow(struct links *links)
{
    uint32_t size = links->slots_size == 0 ? 64 : links->slots_size * 2;
    if (size > SLOTS_MAX)
        return false;
    struct conn **slots = realloc(links->slots, size * sizeof *slots);
    if (slots == NULL)
        return false;
    links->slots = slots;
    uint32_t *free_slots = realloc(links->free_slots, size * sizeof *free_slots);
    if (free_slots == NULL)
        return false;
    links->free_slots = free_slots;
    for (uint32_t i = size; i-- > links->slots_size;) {
        slots[i] = NULL;
        free_slots[links->free_count++] = i;
    }
    links->slots_size = size;
    return true;
}

static void deadline_add(struct links *links, uint64_t at_us)
{
    if (at_us >= links->deadline_us)
        return;
    links->deadline_us = at_us;
    loop_alarm_set(links->loop, &links->deadline_alarm, at_us);
}

static void stranger_add(struct conn *c)
{
    struct endpoint *end = c->end;
    c->older_stranger = end->newest_stranger;
    if (end->newest_stranger != NULL)
        end->newest_stranger->newer_stranger = c;
    else
        end->oldest_stranger = c;
    end->newest_stranger = c;
}

static void stranger_remove(struct conn *c)
{
    struct endpoint *end = c->end;
    if (c->older_stranger == NULL && end->oldest_stranger != c)
        return;
    if (c->older_stranger != NULL)
        c->older_stranger->newer_stranger = c->newer_stranger;
    else
        end->oldest_stranger = c->newer_stranger;
    if (c->newer_stranger != NULL)
        c->newer_stranger->older_stranger = c->older_stranger;
    else
        end->newest_stranger = c->older_stranger;
    c->older_stranger = NULL;
    c->newer_stranger = NULL;
}

/* --- closing --------------------------------------------------------------------------------- */

static void dialer_link_lost(struct link_dialer *d, uint64_t lived_us);

/* nng's operations come back soon; kick_task sees to the end when none is out. */
static void conn_shut(struct conn *c, enum ami_status status)
{
    if (c->shut)
        return;
    c->shut = true;
    c->closing = true;
    c->close_status = status;
    stranger_remove(c);
    nng_stream_close(c->stream);
    loop_post(c->end->links->loop, &c->kick_task);
}

static void conn_free(struct conn *c)
{
    struct links *links = c->end->links;
    /* Waits for a callback that still runs; after it nobody posts a task of this link. */
    if (c->receive_aio != NULL)
        nng_aio_free(c->receive_aio);
    if (c->send_aio != NULL)
        nng_aio_free(c->send_aio);
    if (c->stream != NULL)
        nng_stream_free(c->stream);
    loop_cancel(links->loop, &c->received_task);
    loop_cancel(links->loop, &c->sent_task);
    loop_cancel(links->loop, &c->kick_task);
    uint32_t slot = (uint32_t)(c->id & (SLOTS_MAX - 1));
    links->slots[slot] = NULL;
    links->free_slots[links->free_count++] = slot;
    c->end->open_now--;
    if (c->channel != NULL)
        channel_wipe(c->channel);
    free(c->channel);
    free(c->in.data);
    free(c->pending.data);
    free(c->writing.data);
    free(c);
}

/* The last step of every task of a link: frees it when it is shut and nng holds nothing of it. */
static void conn_settle(struct conn *c)
{
    if (!c->shut || c->receiving || c->sending)
        return;
    struct endpoint *end = c->end;
    env_link id = c->id;
    enum ami_status status = c->close_status;
    struct link_dialer *dialer = end->dialer;
    uint64_t lived_us = clock_mono_us() - c->opened_us;
    const bool announced = c->announced;
    const struct link_events events = end->events;
    end->counters.closed++;
    conn_free(c);
    if (dialer != NULL)
        dialer_link_lost(dialer, lived_us); /* a stopped dialer, and `end` with it, ends here */
    if (announced && events.on_closed != NULL)
        events.on_closed(events.ctx, id, status);
}

static void conn_drop(struct conn *c, enum link_drop_reason reason)
{
    if (c->shut)
        return;
    c->end->counters.dropped[reason]++;
    conn_shut(c, status_of_drop(reason));
}

/* --- writing --------------------------------------------------------------------------------- */

static void on_sent(void *arg) /* nng's thread */
{
    struct conn *c = (struct conn *)arg;
    loop_post(c->end->links->loop, &c->sent_task);
}

/* Starts a write of what waits, when none is out. */
static void conn_write(struct conn *c)
{
    if (c->sending || c->shut)
        return;
    if (c->written == c->writing.size) {
        c->writing.size = 0;
        c->written = 0;
        buffer_trim(&c->writing, OUT_BYTES_KEEP);
        if (c->pending.size == 0)
            return;
        struct buffer swap = c->writing;
        c->writing = c->pending;
        c->pending = swap;
    }
    nng_iov iov = {.iov_buf = c->writing.data + c->written,
                   .iov_len = c->writing.size - c->written};
    AMI_CHECK(nng_aio_set_iov(c->send_aio, 1, &iov) == 0);
    c->sending = true;
    nng_stream_send(c->stream, c->send_aio);
}

static size_t conn_queued(const struct conn *c)
{
    return c->pending.size + (c->writing.size - c->written);
}

static void sent(void *arg)
{
    struct conn *c = (struct conn *)arg;
    c->sending = false;
    int error = nng_aio_result(c->send_aio);
    if (error != 0) {
        conn_shut(c, link_status_of_nng(error));
    } else {
        size_t count = nng_aio_count(c->send_aio);
        AMI_CHECK(count <= c->writing.size - c->written);
        c->written += count;
        c->end->counters.bytes_out += count;
        conn_write(c);
        if (c->closing && conn_queued(c) == 0)
            conn_shut(c, c->close_status);
        if (c->wants_writable && !c->closing &&
            conn_queued(c) <= c->end->limits.queue_bytes_max / 2) {
            c->wants_writable = false;
            if (c->end->events.on_writable != NULL)
                c->end->events.on_writable(c->end->events.ctx, c->id);
        }
    }
    conn_settle(c);
}

/* --- reading --------------------------------------------------------------------------------- */

static void on_received(void *arg) /* nng's thread */
{
    struct conn *c = (struct conn *)arg;
    loop_post(c->end->links->loop, &c->received_task);
}

/* Of what the owner gets. */
static size_t conn_payload_max(const struct conn *c)
{
    const struct link_limits *limits = &c->end->limits;
    return !c->known && limits->stranger_frame_bytes_max != 0 ? limits->stranger_frame_bytes_max
                                                              : limits->frame_bytes_max;
}

/* Of what travels: a record's overhead depends on its suite, so what is inside is measured again.
 */
static size_t conn_frame_max(const struct conn *c)
{
    if (c->channel == NULL)
        return conn_payload_max(c);
    return c->announced ? conn_payload_max(c) + CHANNEL_OVERHEAD_BYTES_MAX
                        : CHANNEL_FLIGHT_BYTES_MAX;
}

/* Starts the next receive. The buffer doubles only when bytes have filled it, whatever a length
 * prefix says, and the largest frame with its prefix always fits. */
static void conn_read(struct conn *c)
{
    if (c->receiving || c->shut || c->paused)
        return;
    struct buffer *in = &c->in;
    if (c->in_start == in->size) {
        c->in_start = 0;
        in->size = 0;
        buffer_trim(in, IN_BYTES_KEEP);
    }
    if (c->in_start > 0 && in->capacity - in->size < in->capacity / 2) {
        memmove(in->data, in->data + c->in_start, in->size - c->in_start);
        in->size -= c->in_start;
        c->in_start = 0;
    }
    if (!buffer_reserve(in, 1)) {
        conn_shut(c, AMI_NO_MEMORY);
        return;
    }
    nng_iov iov = {.iov_buf = in->data + in->size, .iov_len = in->capacity - in->size};
    AMI_CHECK(nng_aio_set_iov(c->receive_aio, 1, &iov) == 0);
    c->receiving = true;
    nng_stream_recv(c->stream, c->receive_aio);
}

/* False: what came is none. */
static bool conn_take_sign(struct conn *c)
{
    if (!c->known || c->end->limits.silent_ms == 0)
        return false;
    if (!c->signs && c->end->limits.idle_ms != 0)
        deadline_add(c->end->links, clock_mono_us());
    c->signs = true;
    return true;
}

/* --- channels -------------------------------------------------------------------------------- */

/* Room for one frame of so many bytes behind its prefix; NULL when there is no memory. */
static uint8_t *frame_reserve(struct conn *c, size_t size)
{
    if (!buffer_reserve(&c->pending, LINK_LENGTH_BYTES + size))
        return NULL;
    return c->pending.data + c->pending.size + LINK_LENGTH_BYTES;
}

/* What was written there leaves. */
static void frame_commit(struct conn *c, size_t size)
{
    store_be32(c->pending.data + c->pending.size, (uint32_t)size);
    c->pending.size += LINK_LENGTH_BYTES + size;
    c->said_us = clock_mono_us();
    loop_post(c->end->links->loop, &c->kick_task);
}

/* Ends the link when what is queued has left, or soon. */
static void conn_linger(struct conn *c)
{
    c->closing = true;
    stranger_remove(c); /* it leaves by itself within the linger time */
    c->linger_until_us = clock_mono_us() + LINK_LINGER_MS * 1000u;
    deadline_add(c->end->links, c->linger_until_us);
    loop_post(c->end->links->loop, &c->kick_task);
}

static void remote_text(nng_stream *stream, char out[LINK_REMOTE_BYTES])
{
    nng_sockaddr address;
    char host[INET6_ADDRSTRLEN];
    snprintf(out, LINK_REMOTE_BYTES, "unknown");
    if (nng_stream_get_addr(stream, NNG_OPT_REMADDR, &address) != 0)
        return;
    if (address.s_family == NNG_AF_INET &&
        inet_ntop(AF_INET, &address.s_in.sa_addr, host, sizeof host) != NULL)
        snprintf(out, LINK_REMOTE_BYTES, "%s:%u", host, ntohs(address.s_in.sa_port));
    else if (address.s_family == NNG_AF_INET6 &&
             inet_ntop(AF_INET6, address.s_in6.sa_addr, host, sizeof host) != NULL)
        snprintf(out, LINK_REMOTE_BYTES, "[%s]:%u", host, ntohs(address.s_in6.sa_port));
}

/* False when there is no memory for it. A dialer's first flight is queued. */
static bool channel_begin(struct conn *c)
{
    uint8_t random[CHANNEL_RANDOM_BYTES];
    const bool initiator = c->end->dialer != NULL;
    c->channel = calloc(1, sizeof *c->channel);
    if (c->channel == NULL)
        return false;
    secret_random(random, sizeof random);
    channel_start(c->channel, &c->end->events.security->config, initiator, random, clock_wall_ms());
    secret_wipe(random, sizeof random);
    if (!initiator)
        return true;
    uint8_t *out = frame_reserve(c, CHANNEL_FIRST_BYTES);
    if (out == NULL)
        return false;
    channel_first(c->channel, out);
    frame_commit(c, CHANNEL_FIRST_BYTES);
    return true;
}

/* May the flight that has come be looked at for what that costs? */
static bool channel_admitted(const struct conn *c, const uint8_t *frame, size_t size)
{
    struct gate *gate = c->end->events.security->gate;
    nng_sockaddr address;
    const uint32_t cost = channel_cost(c->channel, frame, size);
    if (gate == NULL || cost == 0)
        return true;
    /* A connection that has been reset has no address any more, and needs no answer either. */
    if (nng_stream_get_addr(c->stream, NNG_OPT_REMADDR, &address) != 0)
        return false;
    /* Who has one IPv6 address has 2^64 of them. */
    const struct span source = address.s_family == NNG_AF_INET6
                                   ? span_of(address.s_in6.sa_addr, IPV6_PREFIX_BYTES)
                                   : span_of(&address.s_in.sa_addr, sizeof address.s_in.sa_addr);
    return gate_admit(gate, source, cost, clock_mono_us());
}

static void channel_refused(struct conn *c)
{
    char remote[LINK_REMOTE_BYTES];
    c->end->counters.dropped[LINK_DROP_CHANNEL]++;
    conn_linger(c);
    c->close_status = AMI_NOT_ALLOWED;
    if (c->end->events.on_refused == NULL)
        return;
    remote_text(c->stream, remote);
    c->end->events.on_refused(c->end->events.ctx, remote, channel_why(c->channel),
                              channel_peer(c->channel));
}

/* One frame for the channel; what was inside goes to the owner. */
static void conn_channel(struct conn *c, uint8_t *frame, size_t size)
{
    if (!channel_admitted(c, frame, size)) {
        conn_drop(c, LINK_DROP_TOO_MANY);
        return;
    }
    uint8_t *reply = frame_reserve(c, CHANNEL_FLIGHT_BYTES_MAX);
    if (reply == NULL) {
        conn_shut(c, AMI_NO_MEMORY);
        return;
    }
    struct channel_result result = channel_receive(c->channel, frame, size, reply, clock_wall_ms());
    if (result.reply_size > 0)
        frame_commit(c, result.reply_size);
    const struct link_events *events = &c->end->events;
    switch (result.event) {
    case CHANNEL_NOTHING:
        break;
    case CHANNEL_OPEN: {
        char remote[LINK_REMOTE_BYTES];
        c->announced = true;
        stranger_remove(c); /* it has proven itself: no newcomer takes its place */
        remote_text(c->stream, remote);
        if (events->on_open != NULL)
            events->on_open(events->ctx, c->id, remote);
        break;
    }
    case CHANNEL_DATA:
        if (result.data.size > conn_payload_max(c)) {
            conn_drop(c, LINK_DROP_OVERSIZED);
        } else if (result.data.size == 0) {
            if (!conn_take_sign(c))
                conn_drop(c, LINK_DROP_GARBAGE);
        } else if (events->on_frame != NULL) {
            events->on_frame(events->ctx, c->id, result.data);
        }
        break;
    case CHANNEL_CLOSED:
        conn_shut(c, AMI_CLOSED);
        break;
    case CHANNEL_FAILED:
        channel_refused(c);
        break;
    }
}

/* Gives out every frame that has arrived whole, until the owner pauses or closes the link. */
static void conn_deliver(struct conn *c)
{
    bool progress = false;
    while (!c->closing && !c->paused && c->in.size - c->in_start >= LINK_LENGTH_BYTES) {
        uint8_t *at = c->in.data + c->in_start;
        size_t size = load_be32(at);
        if (size == 0) {
            if (c->channel == NULL && conn_take_sign(c)) {
                c->in_start += LINK_LENGTH_BYTES;
                progress = true;
                continue;
            }
            conn_drop(c, LINK_DROP_GARBAGE);
            return;
        }
        if (size > conn_frame_max(c)) {
            conn_drop(c, LINK_DROP_OVERSIZED);
            return;
        }
        if (c->in.size - c->in_start - LINK_LENGTH_BYTES < size)
            break;
        c->in_start += LINK_LENGTH_BYTES + size;
        c->end->counters.frames_in++;
        progress = true;
        if (c->channel != NULL)
            conn_channel(c, at + LINK_LENGTH_BYTES, size);
        else if (c->end->events.on_frame != NULL)
            c->end->events.on_frame(c->end->events.ctx, c->id,
                                    span_of(at + LINK_LENGTH_BYTES, size));
    }
    if (c->closing || c->paused || c->in_start == c->in.size) {
        c->half_since_us = 0;
        return;
    }
    if (progress || c->half_since_us == 0) {
        c->half_since_us = clock_mono_us();
        if (c->end->limits.half_frame_ms != 0)
            deadline_add(c->end->links,
                         c->half_since_us + (uint64_t)c->end->limits.half_frame_ms * 1000);
    }
}

static void received(void *arg)
{
    struct conn *c = (struct conn *)arg;
    c->receiving = false;
    int error = nng_aio_result(c->receive_aio);
    size_t count = error == 0 ? nng_aio_count(c->receive_aio) : 0;
    if (error != 0 || count == 0) {
        enum ami_status status = error == 0 ? AMI_CLOSED : link_status_of_nng(error);
        /* A channel says when it ends: without that, somebody cut it. */
        if (c->channel != NULL && !c->closing && channel_cut(c->channel) == FAULT_CUT)
            status = AMI_UNREACHABLE;
        conn_shut(c, status);
    } else {
        AMI_CHECK(count <= c->in.capacity - c->in.size);
        c->end->counters.bytes_in += count;
        c->heard_us = clock_mono_us();
        bool filled = count == c->in.capacity - c->in.size;
        if (c->closing)
            c->in_start = c->in.size; /* what still comes is not read by anybody */
        else
            c->in.size += count;
        conn_deliver(c);
        /* A reader who keeps up gets larger reads when the sender fills them. */
        if (filled && c->in_start == c->in.size && c->in.capacity < IN_BYTES_KEEP) {
            c->in_start = c->in.size = 0;
            if (!buffer_reserve(&c->in, 2 * c->in.capacity))
                conn_shut(c, AMI_NO_MEMORY);
        }
        conn_read(c);
    }
    conn_settle(c);
}

static void kicked(void *arg)
{
    struct conn *c = (struct conn *)arg;
    if (!c->shut) {
        conn_deliver(c);
        conn_read(c);
        conn_write(c);
        if (c->closing && conn_queued(c) == 0 && !c->sending)
            conn_shut(c, c->close_status);
    }
    conn_settle(c);
}

/* --- opening --------------------------------------------------------------------------------- */

/* Makes a link of a fresh stream, or frees the stream. */
static struct conn *conn_open(struct endpoint *end, nng_stream *stream)
{
    struct links *links = end->links;
    struct conn *c = calloc(1, sizeof *c);
    if (c == NULL || (links->free_count == 0 && !slots_grow(links)) ||
        nng_aio_alloc(&c->receive_aio, on_received, c) != 0 ||
        nng_aio_alloc(&c->send_aio, on_sent, c) != 0) {
        if (c != NULL && c->receive_aio != NULL)
            nng_aio_free(c->receive_aio);
        free(c);
        nng_stream_free(stream);
        return NULL;
    }
    uint32_t slot = links->free_slots[--links->free_count];
    c->id = ++links->serial << SLOT_BITS | slot;
    links->slots[slot] = c;
    c->end = end;
    c->stream = stream;
    c->received_task = (struct loop_task){.run = received, .arg = c};
    c->sent_task = (struct loop_task){.run = sent, .arg = c};
    c->kick_task = (struct loop_task){.run = kicked, .arg = c};
    c->close_status = AMI_CLOSED;
    c->opened_us = clock_mono_us();
    c->heard_us = c->said_us = c->opened_us;
    c->known = end->dialer != NULL;
    if (end->dialer != NULL)
        end->dialer->conn = c;
    if (c->known && end->limits.silent_ms != 0)
        deadline_add(links, c->heard_us + (uint64_t)end->limits.silent_ms * 1000);
    end->open_now++;
    end->counters.opened++;
    if (!c->known) {
        stranger_add(c);
        if (end->limits.stranger_ms != 0)
            deadline_add(links, c->opened_us + (uint64_t)end->limits.stranger_ms * 1000);
    }
    if (end->events.security != NULL) {
        if (!channel_begin(c))
            conn_shut(c, AMI_NO_MEMORY);
        conn_read(c);
        return c;
    }
    char remote[LINK_REMOTE_BYTES];
    c->announced = true;
    remote_text(stream, remote);
    conn_read(c);
    if (end->events.on_open != NULL)
        end->events.on_open(end->events.ctx, c->id, remote);
    return c;
}

/* When silence is too long; UINT64_MAX: it is not judged. */
static uint64_t silence_ends(const struct conn *c)
{
    if (!c->known || c->paused || c->closing || c->end->limits.silent_ms == 0)
        return UINT64_MAX;
    return c->heard_us + (uint64_t)c->end->limits.silent_ms * 1000;
}

/* Sends a sign of life when it is time for one. Returns when the next one is. */
static uint64_t conn_give_sign(struct conn *c, uint64_t now)
{
    if (!c->known || !c->signs || c->closing || !c->announced || c->end->limits.idle_ms == 0)
        return UINT64_MAX;
    const uint64_t idle_us = (uint64_t)c->end->limits.idle_ms * 1000;
    if (c->said_us + idle_us <= now) {
        c->said_us = now;
        /* With bytes under way already there is nothing to add. */
        uint8_t *out = conn_queued(c) == 0 ? frame_reserve(c, CHANNEL_OVERHEAD_BYTES_MAX) : NULL;
        if (out != NULL)
            frame_commit(c,
                         c->channel == NULL ? 0 : channel_seal(c->channel, out, span_of(NULL, 0)));
    }
    return c->said_us + idle_us;
}

static void check_deadlines(void *arg)
{
    struct links *links = (struct links *)arg;
    uint64_t now = clock_mono_us(), next = UINT64_MAX;
    const bool late = links->deadline_us != UINT64_MAX && now > links->deadline_us + LATE_US;
    links->deadline_us = UINT64_MAX;
    for (uint32_t i = 0; i < links->slots_size; i++) {
        struct conn *c = links->slots[i];
        if (c == NULL || c->shut)
            continue;
        const struct link_limits *limits = &c->end->limits;
        uint64_t stranger = UINT64_MAX, half = UINT64_MAX, linger = UINT64_MAX;
        if (c->closing)
            linger = c->linger_until_us;
        else if (!c->known && limits->stranger_ms != 0)
            stranger = c->opened_us + (uint64_t)limits->stranger_ms * 1000;
        if (!c->closing && c->half_since_us != 0 && limits->half_frame_ms != 0)
            half = c->half_since_us + (uint64_t)limits->half_frame_ms * 1000;
        if (late)
            c->heard_us = now; /* what came meanwhile has not been read yet */
        const uint64_t silent = silence_ends(c);
        if (linger <= now) {
            conn_shut(c, c->close_status);
        } else if (half <= now) {
            conn_drop(c, LINK_DROP_HALF_FRAME);
        } else if (stranger <= now) {
            conn_drop(c, LINK_DROP_MUTE);
        } else if (silent <= now) {
            conn_drop(c, LINK_DROP_SILENT);
        } else {
            const uint64_t sign = conn_give_sign(c, now);
            const uint64_t own[] = {linger, half, stranger, silent, sign};
            for (size_t k = 0; k < sizeof own / sizeof own[0]; k++)
                next = own[k] < next ? own[k] : next;
        }
    }
    if (next != UINT64_MAX)
        deadline_add(links, next);
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
        if (full && l->end.oldest_stranger != NULL) {
            /* A flood pushes out its own oldest links; who says who it is in time stays. */
            conn_drop(l->end.oldest_stranger, LINK_DROP_TOO_MANY);
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

static void listener_free(struct link_listener *l)
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
        listener_free(l);
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

static void dialer_free(struct link_dialer *d)
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
    dialer_free(d);
}

static void dialer_link_lost(struct link_dialer *d, uint64_t lived_us)
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
        dialer_free(d);
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

/* --- what owners call ------------------------------------------------------------------------ */

struct links *links_new(struct loop *loop)
{
    struct links *links = calloc(1, sizeof *links);
    if (links == NULL)
        return NULL;
    links->loop = loop;
    links->deadline_us = UINT64_MAX;
    links->deadline_alarm = (struct loop_alarm){.fire = check_deadlines, .arg = links};
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        /* When the system refuses, the old limit stands, and accepting waits when it is reached. */
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    return links;
}

void links_free(struct links *links)
{
    if (links == NULL)
        return;
    loop_alarm_set(links->loop, &links->deadline_alarm, UINT64_MAX);
    for (uint32_t i = 0; i < links->slots_size; i++) {
        if (links->slots[i] != NULL) {
            nng_stream_close(links->slots[i]->stream);
            conn_free(links->slots[i]);
        }
    }
    while (links->dialers != NULL) {
        struct link_dialer *d = links->dialers;
        links->dialers = d->next;
        dialer_free(d);
    }
    while (links->listeners != NULL) {
        struct link_listener *l = links->listeners;
        links->listeners = l->next;
        listener_free(l);
    }
    free(links->slots);
    free(links->free_slots);
    free(links);
}

enum ami_status link_send(struct links *links, env_link id, struct span frame)
{
    AMI_CHECK(frame.size > 0);
    struct conn *c = conn_find(links, id);
    if (c == NULL || c->closing || !c->announced)
        return AMI_CLOSED;
    const size_t overhead =
        LINK_LENGTH_BYTES + (c->channel != NULL ? CHANNEL_OVERHEAD_BYTES_MAX : 0);
    size_t queue_max = c->end->limits.queue_bytes_max;
    if (overhead > queue_max || frame.size > queue_max - overhead)
        return AMI_TOO_LARGE;
    if (conn_queued(c) + overhead + frame.size > queue_max) {
        c->wants_writable = true;
        c->end->counters.sends_refused++;
        return AMI_AGAIN;
    }
    uint8_t *out = frame_reserve(c, frame.size + overhead - LINK_LENGTH_BYTES);
    if (out == NULL)
        return AMI_NO_MEMORY;
    size_t size = frame.size;
    if (c->channel != NULL)
        size = channel_seal(c->channel, out, frame);
    else
        memcpy(out, frame.data, frame.size);
    frame_commit(c, size);
    c->end->counters.frames_out++;
    if (!c->sending && c->pending.size >= WRITE_EARLY_BYTES)
        conn_write(c);
    return AMI_OK;
}

size_t link_queued_bytes(const struct links *links, env_link id)
{
    const struct conn *c = conn_find(links, id);
    return c == NULL ? 0 : conn_queued(c);
}

void link_mark_known(struct links *links, env_link id)
{
    struct conn *c = conn_find(links, id);
    if (c == NULL || c->known)
        return;
    c->known = true;
    stranger_remove(c);
    c->heard_us = clock_mono_us();
    if (c->end->limits.silent_ms != 0)
        deadline_add(links, silence_ends(c));
    if (c->end->limits.idle_ms == 0)
        return;
    /* The first sign of life leaves at once: the other side waits for it. */
    c->signs = true;
    c->said_us = 0;
    deadline_add(links, c->heard_us);
}

void link_pause(struct links *links, env_link id)
{
    struct conn *c = conn_find(links, id);
    if (c == NULL)
        return;
    c->paused = true;
    c->half_since_us = 0;
}

void link_resume(struct links *links, env_link id)
{
    struct conn *c = conn_find(links, id);
    if (c == NULL || !c->paused)
        return;
    c->paused = false;
    c->heard_us = clock_mono_us();
    if (c->known && c->end->limits.silent_ms != 0)
        deadline_add(links, silence_ends(c));
    loop_post(links->loop, &c->kick_task);
}

void link_close(struct links *links, env_link id)
{
    struct conn *c = conn_find(links, id);
    if (c == NULL || c->closing)
        return;
    uint8_t *out =
        c->channel == NULL || !c->announced ? NULL : frame_reserve(c, CHANNEL_OVERHEAD_BYTES_MAX);
    size_t size = out == NULL ? 0 : channel_close(c->channel, out);
    if (size > 0)
        frame_commit(c, size);
    conn_linger(c);
}

const struct credential_identity *link_peer(const struct links *links, env_link id)
{
    const struct conn *c = conn_find(links, id);
    return c == NULL || c->channel == NULL || !c->announced ? NULL : channel_peer(c->channel);
}

void link_drop(struct links *links, env_link id, enum link_drop_reason reason)
{
    AMI_CHECK((unsigned)reason < LINK_DROP_REASONS);
    struct conn *c = conn_find(links, id);
    if (c != NULL)
        conn_drop(c, reason);
}
