/* net/link_conn.c - one link; net/link.c tells how it works. */
#include "net/link_conn.h"

#include "base/check.h"
#include "crypto/secret.h"
#include "net/link_url.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLOT_BITS         20
#define SLOTS_MAX         (1u << SLOT_BITS)
#define IN_BYTES_MIN      2048u       /* a receive buffer's first size */
#define IN_BYTES_KEEP     (64u << 10) /* a larger one is given back when empty */
#define OUT_BYTES_KEEP    (64u << 10) /* the same for send buffers */
#define IPV6_PREFIX_BYTES 8
#define HALF_FRAME_BYTES  (64u << 10) /* each time so much more of a frame came, its time is new */
#define STRANGERS_PART    8           /* so great a part of a secure listener's places is theirs */
#define FAREWELL_MS       50          /* for a last word, when all ends */
#define LATE_US           500000u /* an alarm that is so late says that we stood still, not others */

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
    case LINK_DROP_IDLE:
        return AMI_TIMEOUT;
    case LINK_DROP_TOO_MANY:
        return AMI_FULL;
    default:
        return AMI_CLOSED;
    }
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

struct conn *conn_find(const struct links *links, env_link id)
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

void links_deadline_add(struct links *links, uint64_t at_us)
{
    if (at_us >= links->deadline_us)
        return;
    links->deadline_us = at_us;
    loop_alarm_set(links->loop, &links->deadline_alarm, at_us);
}

static void conn_enlist(struct conn *c, struct conn_list *list)
{
    AMI_CHECK(c->list == NULL);
    c->list = list;
    c->older = list->newest;
    if (list->newest != NULL)
        list->newest->newer = c;
    else
        list->oldest = c;
    list->newest = c;
    list->count++;
}

void conn_unlist(struct conn *c)
{
    struct conn_list *list = c->list;
    if (list == NULL)
        return;
    if (c->older != NULL)
        c->older->newer = c->newer;
    else
        list->oldest = c->newer;
    if (c->newer != NULL)
        c->newer->older = c->older;
    else
        list->newest = c->older;
    list->count--;
    c->list = NULL;
    c->older = NULL;
    c->newer = NULL;
}

/* --- closing --------------------------------------------------------------------------------- */

/* nng's operations come back soon; kick_task sees to the end when none is out. */
static void conn_shut(struct conn *c, enum ami_status status)
{
    if (c->shut)
        return;
    c->shut = true;
    c->closing = true;
    c->close_status = status;
    conn_unlist(c);
    nng_stream_close(c->stream);
    loop_post(c->end->links->loop, &c->kick_task);
}

void conn_free(struct conn *c)
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
    free(c->shown);
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
        link_dialer_lost(dialer, lived_us); /* a stopped dialer, and `end` with it, ends here */
    if (announced && events.on_closed != NULL)
        events.on_closed(events.ctx, id, status);
}

void conn_drop(struct conn *c, enum link_drop_reason reason)
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

void conn_write(struct conn *c)
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

size_t conn_queued(const struct conn *c)
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
        c->moved_us = clock_mono_us();
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
        links_deadline_add(c->end->links, clock_mono_us());
    c->signs = true;
    return true;
}

/* --- channels -------------------------------------------------------------------------------- */

uint8_t *conn_frame_reserve(struct conn *c, size_t size)
{
    if (!buffer_reserve(&c->pending, LINK_LENGTH_BYTES + size))
        return NULL;
    return c->pending.data + c->pending.size + LINK_LENGTH_BYTES;
}

void conn_frame_commit(struct conn *c, size_t size)
{
    store_be32(c->pending.data + c->pending.size, (uint32_t)size);
    c->pending.size += LINK_LENGTH_BYTES + size;
    c->said_us = clock_mono_us();
    loop_post(c->end->links->loop, &c->kick_task);
}

void conn_linger(struct conn *c)
{
    c->closing = true;
    conn_unlist(c); /* it leaves by itself within the linger time */
    c->linger_until_us = clock_mono_us() + LINK_LINGER_MS * 1000u;
    links_deadline_add(c->end->links, c->linger_until_us);
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
    c->end->counters.handshakes_begun++;
    uint8_t *out = conn_frame_reserve(c, CHANNEL_FIRST_BYTES);
    if (out == NULL)
        return false;
    channel_first(c->channel, out);
    conn_frame_commit(c, CHANNEL_FIRST_BYTES);
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

/* What is left to do when the other side has been told. */
static void channel_refused(struct conn *c)
{
    char remote[LINK_REMOTE_BYTES];
    const struct credential_identity *who;
    const enum channel_standing standing = channel_claimant(c->channel, &who);
    c->end->counters.dropped[LINK_DROP_CHANNEL]++;
    c->end->counters.faults[channel_why(c->channel)]++;
    conn_linger(c);
    c->close_status = AMI_NOT_ALLOWED;
    if (c->end->events.on_refused == NULL)
        return;
    remote_text(c->stream, remote);
    c->end->events.on_refused(c->end->events.ctx, remote, channel_why(c->channel), who, standing);
}

/* --- places ---------------------------------------------------------------------------------- */

/* By the key, not by the name alone: whoever has an old key of somebody's must not push out the new
 * one's links. */
static bool same_peer(const struct conn *a, const struct conn *b)
{
    const struct credential_identity *p = channel_peer(a->channel), *q = channel_peer(b->channel);
    return p->role == q->role && ami_id_equal(&p->name, &q->name) &&
           memcmp(&p->key, &q->key, sizeof p->key) == 0;
}

static uint32_t links_of_peer(const struct conn *c)
{
    uint32_t count = 0;
    for (const struct conn *d = c->end->proven.oldest; d != NULL; d = d->newer)
        count += same_peer(c, d);
    return count;
}

/* The oldest link of whoever has most. Each is compared with each, for which there are few enough
 * places, and the time that a handshake has taken before. */
static struct conn *of_most(const struct endpoint *end)
{
    struct conn *out = NULL;
    uint32_t most = 0;
    for (struct conn *c = end->proven.oldest; c != NULL; c = c->newer) {
        const uint32_t count = links_of_peer(c);
        if (count > most) {
            most = count;
            out = c;
        }
    }
    return out;
}

static struct conn *oldest_of_peer(const struct conn *c)
{
    struct conn *d = c->end->proven.oldest;
    while (!same_peer(c, d))
        d = d->newer;
    return d;
}

/* A channel of a listener is open: from a stranger's place to one of the proven. */
static void take_place(struct conn *c)
{
    const struct link_limits *limits = &c->end->limits;
    struct conn_list *proven = &c->end->proven;
    conn_unlist(c);
    conn_enlist(c, proven);
    if (limits->identity_max != 0 && links_of_peer(c) > limits->identity_max)
        conn_drop(oldest_of_peer(c), LINK_DROP_TOO_MANY);
    else if (proven->count > limits->connections_max - limits->connections_max / STRANGERS_PART)
        conn_drop(of_most(c->end), LINK_DROP_TOO_MANY);
}

/* --- channels that are open ------------------------------------------------------------------- */

static bool keep_shown(struct conn *c, struct span shown)
{
    AMI_CHECK(c->shown == NULL && shown.size <= CREDENTIAL_BYTES_MAX);
    c->shown = malloc(shown.size);
    if (c->shown == NULL)
        return false;
    memcpy(c->shown, shown.data, shown.size);
    c->shown_size = shown.size;
    return true;
}

static void channel_opened(struct conn *c)
{
    const struct link_events *events = &c->end->events;
    char remote[LINK_REMOTE_BYTES];
    c->announced = true;
    c->end->counters.channels_opened++;
    if (c->end->dialer == NULL)
        take_place(c);
    if (!c->known && c->end->limits.quiet_ms != 0)
        links_deadline_add(c->end->links, c->moved_us + (uint64_t)c->end->limits.quiet_ms * 1000);
    remote_text(c->stream, remote);
    if (events->on_open != NULL)
        events->on_open(events->ctx, c->id, remote);
}

/* True when that took time: a channel that is open, whoever is there. */
static bool conn_judge(struct conn *c, int64_t wall_ms)
{
    if (c->channel == NULL || !c->announced || c->closing)
        return false;
    uint8_t *reply = conn_frame_reserve(c, CHANNEL_OVERHEAD_BYTES_MAX);
    if (reply == NULL) {
        conn_shut(c, AMI_NO_MEMORY);
        return true;
    }
    struct channel_result result =
        channel_judge(c->channel, span_of(c->shown, c->shown_size), reply, wall_ms);
    if (result.event != CHANNEL_FAILED)
        return true;
    if (result.reply_size > 0)
        conn_frame_commit(c, result.reply_size);
    channel_refused(c);
    return true;
}

void links_judge_next(void *arg)
{
    struct links *links = (struct links *)arg;
    bool judged = false;
    while (!judged && links->judge_slot < links->slots_size) {
        struct conn *c = links->slots[links->judge_slot++];
        judged = c != NULL && conn_judge(c, links->judge_ms);
    }
    if (!judged && links->judge_again) {
        links->judge_again = false;
        links->judge_slot = 0;
        judged = true;
    }
    links->judging = judged;
    if (judged)
        loop_post(links->loop, &links->judge_task);
}

bool conn_farewell(struct conn *c)
{
    if (c->channel == NULL || !c->announced || c->closing || c->sending || conn_queued(c) > 0)
        return false;
    uint8_t *out = conn_frame_reserve(c, CHANNEL_OVERHEAD_BYTES_MAX);
    const size_t size = out == NULL ? 0 : channel_close(c->channel, out);
    if (size == 0)
        return false;
    conn_frame_commit(c, size);
    nng_aio_set_timeout(c->send_aio, FAREWELL_MS); /* most often the system takes it at once */
    conn_write(c);
    return true;
}

/* One frame for the channel; what was inside goes to the owner. */
static void conn_channel(struct conn *c, uint8_t *frame, size_t size)
{
    if (!channel_admitted(c, frame, size)) {
        c->end->counters.turned_away++;
        conn_drop(c, LINK_DROP_TOO_MANY);
        return;
    }
    c->end->counters.handshakes_begun += c->channel->state == CHANNEL_EXPECT_FIRST;
    uint8_t *reply =
        conn_frame_reserve(c, c->announced ? CHANNEL_OVERHEAD_BYTES_MAX : CHANNEL_FLIGHT_BYTES_MAX);
    if (reply == NULL) {
        conn_shut(c, AMI_NO_MEMORY);
        return;
    }
    struct channel_result result = channel_receive(c->channel, frame, size, reply, clock_wall_ms());
    if (result.reply_size > 0)
        conn_frame_commit(c, result.reply_size);
    if (result.shown.size > 0 && !keep_shown(c, result.shown)) {
        conn_shut(c, AMI_NO_MEMORY);
        return;
    }
    const struct link_events *events = &c->end->events;
    switch (result.event) {
    case CHANNEL_NOTHING:
        break;
    case CHANNEL_OPEN:
        channel_opened(c);
        break;
    case CHANNEL_DATA:
        if (result.data.size > conn_payload_max(c)) {
            conn_drop(c, LINK_DROP_OVERSIZED);
        } else if (result.data.size == 0) {
            if (!conn_take_sign(c))
                conn_drop(c, LINK_DROP_GARBAGE);
        } else if (events->on_frame != NULL) {
            events->on_frame(events->ctx, c->id, result.data);
        }
        secret_wipe(frame, size); /* it was opened in place, and may stay here for long */
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
    const size_t half = c->in.size - c->in_start;
    if (c->closing || c->paused || half == 0) {
        c->half_since_us = 0;
        return;
    }
    if (progress || c->half_since_us == 0 || half - c->half_bytes >= HALF_FRAME_BYTES) {
        c->half_since_us = clock_mono_us();
        c->half_bytes = half;
        if (c->end->limits.half_frame_ms != 0)
            links_deadline_add(c->end->links,
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
        if (c->channel != NULL && !c->closing && channel_cut(c->channel) == FAULT_CUT) {
            status = AMI_UNREACHABLE;
            c->end->counters.faults[FAULT_CUT] += c->announced;
        }
        conn_shut(c, status);
    } else {
        AMI_CHECK(count <= c->in.capacity - c->in.size);
        c->end->counters.bytes_in += count;
        c->end->counters.reads++;
        c->heard_us = c->moved_us = clock_mono_us();
        bool filled = count == c->in.capacity - c->in.size;
        if (c->closing)
            c->in_start = c->in.size; /* what still comes is not read by anybody */
        else
            c->in.size += count;
        conn_deliver(c);
        /* Each read costs two changes of thread: who fills one gets larger ones. */
        if (filled && c->known && c->in.capacity < IN_BYTES_KEEP &&
            !buffer_reserve(&c->in, 2 * c->in.capacity - c->in.size))
            conn_shut(c, AMI_NO_MEMORY);
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

struct conn *conn_open(struct endpoint *end, nng_stream *stream)
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
    c->heard_us = c->said_us = c->moved_us = c->opened_us;
    c->known = end->dialer != NULL;
    if (end->dialer != NULL)
        end->dialer->conn = c;
    if (c->known && end->limits.silent_ms != 0)
        links_deadline_add(links, c->heard_us + (uint64_t)end->limits.silent_ms * 1000);
    end->open_now++;
    end->counters.opened++;
    if (!c->known) {
        conn_enlist(c, &end->strangers);
        if (end->limits.stranger_ms != 0)
            links_deadline_add(links, c->opened_us + (uint64_t)end->limits.stranger_ms * 1000);
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

uint64_t conn_silence_ends(const struct conn *c)
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
        uint8_t *out =
            conn_queued(c) == 0 ? conn_frame_reserve(c, CHANNEL_OVERHEAD_BYTES_MAX) : NULL;
        if (out != NULL)
            conn_frame_commit(
                c, c->channel == NULL ? 0 : channel_seal(c->channel, out, span_of(NULL, 0)));
    }
    return c->said_us + idle_us;
}

/* When a link that nobody knows has been here for too long; UINT64_MAX: that is not judged. */
static uint64_t conn_stranger_ends(const struct conn *c)
{
    const struct link_limits *limits = &c->end->limits;
    if (c->closing || c->known)
        return UINT64_MAX;
    if (c->channel != NULL && c->announced && limits->quiet_ms != 0)
        return c->moved_us + (uint64_t)limits->quiet_ms * 1000;
    return limits->stranger_ms == 0 ? UINT64_MAX
                                    : c->opened_us + (uint64_t)limits->stranger_ms * 1000;
}

void links_check_deadlines(void *arg)
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
        uint64_t half = UINT64_MAX, linger = UINT64_MAX;
        if (c->closing)
            linger = c->linger_until_us;
        if (!c->closing && c->half_since_us != 0 && limits->half_frame_ms != 0)
            half = c->half_since_us + (uint64_t)limits->half_frame_ms * 1000;
        if (late)
            c->heard_us = c->moved_us = now; /* what came meanwhile has not been read yet */
        const uint64_t silent = conn_silence_ends(c), stranger = conn_stranger_ends(c);
        if (linger <= now) {
            conn_shut(c, c->close_status);
        } else if (half <= now) {
            conn_drop(c, LINK_DROP_HALF_FRAME);
        } else if (stranger <= now) {
            const bool proven = c->channel != NULL && c->announced && limits->quiet_ms != 0;
            conn_drop(c, proven ? LINK_DROP_IDLE : LINK_DROP_MUTE);
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
        links_deadline_add(links, next);
}
